//! A service that does not get its port.

use libtest_mimic::Trial;
use tracer::output::schema::{Cause, Change};

use super::stage::{OTHER, Stage, unit_name};
use super::wrong::scenario;

pub fn all() -> Vec<Trial> {
    vec![scenario("units::binds::a_process_of_the_last_start_holds_it", a_process_of_the_last_start_holds_it)]
}

/// The unit ends only its main process (`KillMode=process`), so that a child still listens when the unit is started again
/// with another address.
fn a_process_of_the_last_start_holds_it() {
    let mut stage = Stage::begin();
    let steps = format!("listen {} fork", stage.at(OTHER));
    let unit = stage.service("gateway.service", &steps, "KillMode=process");
    stage.trace();
    unit.start();
    let opened = stage.listener_change(Change::Opened);
    let holder = tests::poll("the child that listens", || {
        let group =
            std::fs::read_to_string(format!("/sys/fs/cgroup/system.slice/{}/cgroup.procs", unit.name));
        let pids: Vec<u32> = group.ok()?.lines().filter_map(|pid| pid.parse().ok()).collect();
        let is_first = |pid: u32| Some(pid) == opened.listener.process.pid;
        pids.into_iter().find(|&pid| !is_first(pid))
    });
    let command = format!("listen {}", stage.at("0.0.0.0"));
    let unit = stage.service("gateway.service", &command, "KillMode=process\nType=simple");
    unit.restart();
    unit.failed();
    let refusal = stage.refused(Cause::BindFailed);
    refusal.certain().mentions("EADDRINUSE").mentions(&format!("[{holder}]"));
    let server = refusal.line.verdict.server.as_ref().expect("a server");
    assert_eq!(unit_name(&server.process), Some(unit.name.as_str()), "{}", refusal.shown());
    stage.end();
}
