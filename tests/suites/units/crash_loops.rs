//! A service that its manager starts again and again, and that ends before it listens.

use libtest_mimic::Trial;
use tests::systemd::Unit;
use tracer::output::schema::{Cause, KnownBy};

use super::stage::{LOOPBACK, Stage};
use super::wrong::scenario;

pub fn all() -> Vec<Trial> {
    vec![
        scenario("units::crash_loops::a_server_that_never_listened", a_server_that_never_listened),
        scenario("units::crash_loops::a_server_that_served_before", a_server_that_served_before),
    ]
}

/// A service that exits with code 3 while the gate is open, and is started again until it has been started `starts` times.
fn crash_loop(stage: &mut Stage, starts: u32) -> Unit {
    let gate = stage.gate("gate");
    let steps = format!("exit-if {} 3 listen {}", gate.path().display(), stage.at(LOOPBACK));
    let command = stage.command(&steps);
    let unit = format!(
        "[Unit]\nStartLimitIntervalSec=1h\nStartLimitBurst={starts}\n\
         [Service]\nExecStart={command}\nRestart=always\nRestartSec=100ms\n"
    );
    stage.units.write("gateway.service", &unit)
}

fn a_server_that_never_listened() {
    let mut stage = Stage::begin();
    let unit = crash_loop(&mut stage, 3);
    stage.trace_by_name();
    stage.gate("gate").open();
    unit.start();
    unit.failed();
    let refusal = stage.refused(Cause::NeverListened);
    refusal.certain().server_of(&unit, KnownBy::Name).instances(3);
    refusal.mentions("code 3").mentions("3 such ends").hint_has(&unit.name);
    stage.end();
}

fn a_server_that_served_before() {
    let mut stage = Stage::begin();
    let unit = crash_loop(&mut stage, 4);
    stage.trace();
    unit.start();
    let served = unit.main_process();
    stage.opened(served);
    stage.answered();
    stage.gate("gate").open();
    unit.restart();
    unit.failed();
    let refusal = stage.refused(Cause::NeverListened);
    refusal.certain().server_of(&unit, KnownBy::Service);
    refusal.mentions("code 3").mentions("3 such ends").hint_has(&unit.name);
    stage.end();
}
