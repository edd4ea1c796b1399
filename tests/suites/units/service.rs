//! tracer as the service that it is packaged as (packaging/tracer.service).

use std::process::Command;

use libtest_mimic::Trial;
use tests::binary::binary;
use tests::limits;
use tests::poll;
use tests::systemd::{Unit, Units};
use tests::tracer::{finish, parse_all};
use tracer::output::schema::{Body, Cause, Change, Confidence, Line, StopReason};

use super::stage::{LOOPBACK, Stage, unit_name};
use super::wrong::scenario;

/// What systemd calls medium begins at 5.0; a service that is confined as far as it can be stays below this.
const MOST_EXPOSED: f64 = 3.0;

pub fn all() -> Vec<Trial> {
    vec![
        scenario("units::service::it_is_confined", it_is_confined),
        scenario("units::service::a_refusal_is_in_the_journal", a_refusal_is_in_the_journal),
    ]
}

/// The packaged unit, with the program under test and these options.
fn write(units: &mut Units, options: &str) -> Unit {
    let text = include_str!("../../../packaging/tracer.service");
    let command = format!("ExecStart={} ", binary().display());
    let own = text.replace("ExecStart=/usr/bin/tracer ", &command);
    assert_ne!(own, text, "the program is named");
    let own = own.replace(
        "EnvironmentFile=-/etc/default/tracer",
        &format!("Environment=\"TRACER_OPTIONS={options}\""),
    );
    units.write("tracer.service", &own)
}

fn it_is_confined() {
    let mut units = Units::new();
    let unit = write(&mut units, "");
    let mut command = Command::new("systemd-analyze");
    command.args(["security", "--no-pager", &unit.name]);
    let analysis = finish(command);
    assert!(analysis.status.success(), "{}", analysis.stderr);
    // The last line: `→ Overall exposure level for NAME: 2.9 OK`.
    let level = analysis.stdout.lines().last().and_then(|line| line.split_once(": "));
    let level = level.and_then(|(_, level)| level.split(' ').next()?.parse::<f64>().ok());
    let level = level.unwrap_or_else(|| panic!("no exposure level: {}", analysis.stdout));
    assert!(level < MOST_EXPOSED, "{}", analysis.stdout);
}

fn a_refusal_is_in_the_journal() {
    let mut stage = Stage::begin();
    let mut units = Units::new();
    let tracer = write(&mut units, &format!("-p {} --patience 10s", stage.port));
    let steps = format!("listen {}", stage.at(LOOPBACK));
    let server = stage.service("gateway.service", &steps, "");
    server.start();
    let pid = server.main_process();
    tracer.start();
    wait_for(&tracer, "the ready line", |line| matches!(line.body, Body::Ready(_)).then_some(()));
    server.stop();
    wait_for(&tracer, "the end of the listener", |line| {
        matches!(&line.body, Body::Listener(line) if line.change == Change::Closed).then_some(())
    });
    let client = stage.refused_unseen();
    let refused = wait_for(&tracer, "the refusal", |line| match &line.body {
        Body::Refused(refused) if refused.client.pid == Some(client.pid) => Some((**refused).clone()),
        _ => None,
    });
    let verdict = &refused.verdict;
    assert_eq!((verdict.cause, verdict.confidence), (Cause::Stopped, Confidence::Certain), "{refused:?}");
    let process = &verdict.server.as_ref().expect("a server").process;
    assert_eq!((process.pid, unit_name(process)), (Some(pid), Some(server.name.as_str())), "{refused:?}");
    tracer.stop();
    assert_eq!(tracer.show("Result"), "success");
    let log = journal(&tracer);
    let Some(Body::Start(start)) = log.first().map(|line| &line.body) else { panic!("no start: {log:?}") };
    let reported = start.limits.iter().map(|limit| limit.what.as_str()).collect();
    limits::check(&reported, false).unwrap_or_else(|error| panic!("{error}: {start:?}"));
    match log.last().map(|line| &line.body) {
        Some(Body::Stop(stop)) => assert_eq!((stop.reason, stop.refused), (StopReason::Sigterm, 1)),
        other => panic!("no stop: {other:?}"),
    }
}

/// Waits until the journal has a line of the service that `find` takes.
fn wait_for<T>(tracer: &Unit, what: &str, find: impl Fn(&Line) -> Option<T>) -> T {
    poll(what, || {
        let state = tracer.show("ActiveState");
        assert_eq!(state, "active", "{}", printed(tracer));
        journal(tracer).iter().find_map(&find)
    })
}

/// The service's log.
fn journal(tracer: &Unit) -> Vec<Line> {
    let printed = printed(tracer);
    let lines: Vec<&str> = printed.lines().filter(|line| line.starts_with('{')).collect();
    parse_all(lines.join("\n").as_bytes())
}

/// All that the service printed.
fn printed(tracer: &Unit) -> String {
    let mut command = Command::new("journalctl");
    command.args(["--no-pager", "--output", "cat", "--unit", &tracer.name]);
    finish(command).stdout
}
