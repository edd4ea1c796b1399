//! A service is stopped, restarted or killed: who ended it, and whether a successor is on its way.

use libtest_mimic::Trial;
use tests::systemd::Unit;
use tracer::output::schema::{Because, Cause, KnownBy};

use super::stage::{Gate, LOOPBACK, Stage};
use super::wrong::scenario;

pub fn all() -> Vec<Trial> {
    vec![
        scenario("units::restarts::a_slow_starter_is_restarted", a_slow_starter_is_restarted),
        scenario("units::restarts::a_slow_starter_is_killed", a_slow_starter_is_killed),
        scenario("units::restarts::it_is_stopped", it_is_stopped),
        scenario("units::restarts::it_starts_for_the_first_time", it_starts_for_the_first_time),
        scenario(
            "units::restarts::another_user_starts_for_the_first_time",
            another_user_starts_for_the_first_time,
        ),
    ]
}

/// A service that waits for a gate before it listens.
fn slow_starter(stage: &mut Stage, settings: &str) -> (Unit, Gate) {
    let gate = stage.gate("gate");
    let steps = format!("wait {} listen {}", gate.path().display(), stage.at(LOOPBACK));
    (stage.service("gateway.service", &steps, settings), gate)
}

fn a_slow_starter_is_restarted() {
    let mut stage = Stage::begin();
    let (unit, gate) = slow_starter(&mut stage, "");
    stage.trace();
    gate.open();
    unit.start();
    let old = unit.main_process();
    stage.opened(old);
    stage.answered();
    gate.shut();
    unit.restart();
    let new = unit.main_process_after(old);
    stage.closed(old);
    let refusal = stage.refused(Cause::Stopped);
    refusal.certain().server(old, &unit, KnownBy::Listener).instances(2);
    refusal.mentions("SIGTERM").mentions(&format!("[{new}]")).hint_has("wait");
    gate.open();
    assert_eq!(stage.recovered(&refusal).listener.process.pid, Some(new));
    stage.answered();
    stage.end();
}

fn a_slow_starter_is_killed() {
    let mut stage = Stage::begin();
    let (unit, gate) = slow_starter(&mut stage, "Restart=always\nRestartSec=100ms");
    stage.trace();
    gate.open();
    unit.start();
    let old = unit.main_process();
    stage.opened(old);
    gate.shut();
    unit.kill("KILL");
    stage.closed(old);
    let new = unit.main_process_after(old);
    let refusal = stage.refused(Cause::Stopped);
    refusal.certain().server(old, &unit, KnownBy::Listener).instances(2);
    refusal.mentions("SIGKILL").mentions(&format!("[{new}]")).hint_has("wait");
    gate.open();
    assert_eq!(stage.recovered(&refusal).listener.process.pid, Some(new));
    stage.end();
}

fn it_is_stopped() {
    let mut stage = Stage::begin();
    let steps = format!("listen {}", stage.at(LOOPBACK));
    let unit = stage.service("gateway.service", &steps, "Restart=always");
    unit.start();
    // It was there before tracer.
    stage.trace();
    let server = unit.main_process();
    stage.answered();
    unit.stop();
    stage.closed(server);
    let refusal = stage.refused(Cause::Stopped);
    refusal.certain().server(server, &unit, KnownBy::Listener).instances(1);
    refusal.mentions("SIGTERM").hint_has(&unit.name).never_shows("wait");
    stage.end();
}

fn it_starts_for_the_first_time() {
    let mut stage = Stage::begin();
    let (unit, gate) = slow_starter(&mut stage, "");
    stage.trace_by_name();
    unit.start();
    let server = unit.main_process();
    let refusal = stage.refused(Cause::Starting);
    // Its name could be another program's, but only root could have started it in a unit of the system.
    refusal.certain().server(server, &unit, KnownBy::Name).hint_has("wait");
    gate.open();
    assert_eq!(stage.recovered(&refusal).listener.process.pid, Some(server));
    stage.end();
}

fn another_user_starts_for_the_first_time() {
    let mut stage = Stage::begin();
    let (unit, _gate) = slow_starter(&mut stage, "User=nobody");
    stage.trace_by_name();
    unit.start();
    let server = unit.main_process();
    // That user can start a program of this name at any time, in a group below this unit's too.
    let refusal = stage.refused(Cause::Starting);
    refusal.degraded(Because::ClaimOnly).server(server, &unit, KnownBy::Name);
    stage.end();
}
