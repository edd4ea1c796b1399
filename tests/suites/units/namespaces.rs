//! Services in network namespaces of their own.

use libtest_mimic::Trial;
use tests::netns::Netns;
use tests::systemd::Unit;
use tracer::output::schema::{Cause, Mismatch};

use super::stage::{LOOPBACK, Refusal, Stage, unit_name};
use super::wrong::scenario;

pub fn all() -> Vec<Trial> {
    vec![
        scenario("units::namespaces::a_private_network", a_private_network),
        scenario("units::namespaces::a_named_network_namespace", a_named_network_namespace),
    ]
}

/// A service that listens in its own network namespace, and a client outside of it.
fn refused_outside(stage: &mut Stage, setting: &str) -> (Unit, Refusal) {
    let steps = format!("listen {}", stage.at(LOOPBACK));
    let unit = stage.service("gateway.service", &steps, setting);
    stage.trace();
    unit.start();
    let server = unit.main_process();
    stage.opened(server);
    let refusal = stage.refused(Cause::OtherNetns);
    // Nothing ties its listener to the client's destination.
    refusal.not_certain().mentions(&format!("[{server}]"));
    let listeners = &refusal.line.verdict.listeners;
    let found = listeners.iter().find(|found| found.listener.process.pid == Some(server));
    let found = found.unwrap_or_else(|| panic!("no listener of {server}: {}", refusal.shown()));
    assert_eq!(found.mismatch, Some(Mismatch::Netns), "{}", refusal.shown());
    assert_eq!(unit_name(&found.listener.process), Some(unit.name.as_str()), "{}", refusal.shown());
    assert_ne!(found.listener.netns.id, refusal.line.netns.id, "{}", refusal.shown());
    (unit, refusal)
}

fn a_private_network() {
    let mut stage = Stage::begin();
    refused_outside(&mut stage, "PrivateNetwork=yes");
    stage.end();
}

fn a_named_network_namespace() {
    let netns = Netns::with_loopback();
    let mut stage = Stage::begin();
    let setting = format!("NetworkNamespacePath={}", netns.path().display());
    let (unit, refusal) = refused_outside(&mut stage, &setting);
    refusal.mentions(&netns.name);
    unit.stop();
    stage.end();
}
