//! Two services that take a port from each other.

use libtest_mimic::Trial;
use tracer::output::schema::{Because, Cause, Change, KnownBy};

use super::stage::{LOOPBACK, Stage};
use super::wrong::scenario;

pub fn all() -> Vec<Trial> {
    vec![
        scenario("units::turns::two_services_kill_each_other", two_services_kill_each_other),
        scenario("units::turns::a_conflicting_service_takes_over", a_conflicting_service_takes_over),
    ]
}

/// Each kills the other one before it starts, and its manager starts it again when it is killed.
fn two_services_kill_each_other() {
    let mut stage = Stage::begin();
    let gate = stage.gate("gate");
    let steps = format!("wait {} listen {}", gate.path().display(), stage.at(LOOPBACK));
    let service = |stage: &mut Stage, own: &str, other: &str| {
        let other = stage.units.name(other);
        let kill = format!("ExecStartPre=-/usr/bin/systemctl kill --signal=KILL {other}");
        // Longer than the other one takes to listen.
        stage.service(own, &steps, &format!("{kill}\nRestart=always\nRestartSec=5s"))
    };
    let system = service(&mut stage, "gateway.service", "own-gateway.service");
    let own = service(&mut stage, "own-gateway.service", "gateway.service");
    gate.open();
    stage.trace();
    system.start();
    stage.change_of(&system, Change::Opened, 1);
    own.start();
    stage.change_of(&own, Change::Opened, 1);
    stage.change_of(&system, Change::Opened, 2);
    stage.change_of(&own, Change::Opened, 2);
    // From now on the service that has killed the other one does not listen.
    gate.shut();
    stage.change_of(&own, Change::Closed, 2);
    let refusal = stage.refused(Cause::Stopped);
    refusal.degraded(Because::SeveralOwners).mentions("two services take turns");
    refusal.mentions(&system.name).mentions(&own.name).hint_has("disable").mentions("SIGKILL");
    stage.end();
}

/// The start of the second one stops the first (`Conflicts=`), which happens once.
fn a_conflicting_service_takes_over() {
    let mut stage = Stage::begin();
    let steps = format!("listen {}", stage.at(LOOPBACK));
    let first = stage.service("gateway.service", &steps, "Restart=always");
    let (command, conflict) = (stage.command(&steps), &first.name);
    let unit = format!("[Unit]\nConflicts={conflict}\n[Service]\nType=exec\nExecStart={command}\n");
    let second = stage.units.write("new-gateway.service", &unit);
    stage.trace();
    first.start();
    stage.change_of(&first, Change::Opened, 1);
    second.start();
    stage.change_of(&first, Change::Closed, 1);
    stage.change_of(&second, Change::Opened, 1);
    stage.answered();
    let server = second.main_process();
    second.stop();
    stage.change_of(&second, Change::Closed, 1);
    let refusal = stage.refused(Cause::Stopped);
    refusal.server(server, &second, KnownBy::Listener).degraded(Because::SeveralOwners);
    refusal.mentions("SIGTERM").never_shows("take turns");
    assert!(refusal.shown().contains(&first.name), "both are shown: {}", refusal.shown());
    stage.end();
}
