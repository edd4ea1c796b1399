//! How a run ends: by a signal, a count, a time, a closed pipe; always in order and with exit code 0.

use std::time::{Duration, Instant};

use libtest_mimic::Trial;
use rustix::process::Signal;
use tracer::output::schema::{Body, Cause, StopReason};

use tests::fixture::{Client, Fixture};
use tests::needs::Need;
use tests::poll;
use tests::port::Port;
use tests::process::{Actor, ProcessSpec};
use tests::suite::test;
use tests::tracer::{Running, read_until_ready};

const NEEDS: &[Need] = &[Need::Root, Need::Network];

pub fn all() -> Vec<Trial> {
    let mut all = vec![
        test("ending::count_stops_after_as_many", NEEDS, count_stops_after_as_many),
        test("ending::a_bare_duration_is_seconds", NEEDS, || duration("1", Duration::from_secs(1))),
        test("ending::a_duration_in_milliseconds", NEEDS, || duration("300ms", Duration::from_millis(300))),
        test("ending::a_second_sigint_ends_immediately", NEEDS, a_second_sigint_ends_immediately),
        test("ending::a_closed_pipe_is_a_clean_end", NEEDS, a_closed_pipe_is_a_clean_end),
        test("ending::a_closed_pipe_is_a_clean_end_in_text", NEEDS, || closed_pipe("text")),
        test("ending::a_closed_pipe_ends_one_without_output", NEEDS, closed_pipe_without_output),
    ];
    let signals = [
        ("sigint", Signal::INT, StopReason::Sigint),
        ("sigterm", Signal::TERM, StopReason::Sigterm),
        ("sighup", Signal::HUP, StopReason::Sighup),
    ];
    for (name, signal, reason) in signals {
        all.push(test(format!("ending::{name}_ends_in_order"), NEEDS, move || {
            let mut fixture = Fixture::begin();
            fixture.trace();
            fixture.refused("127.0.0.1").cause(Cause::NothingListening);
            let log = fixture.tracer.take().expect("a fixture that is traced").stop_by(signal, reason);
            assert_eq!(log.stop().refused, 1, "{}", log.text());
        }));
    }
    all
}

/// More connects than asked for, all in parallel: it stops at the very one, also where they are only counted.
fn count_stops_after_as_many() {
    let mut fixture = Fixture::begin();
    fixture.trace_with(&["-c", "3"]);
    let mut client = Actor::start(&fixture.netns.place(), &ProcessSpec::named("client"));
    client.must(&format!("flood 127.0.0.1:{} 20", fixture.port()));
    let log = fixture.tracer.take().expect("a fixture that is traced").ended(StopReason::Count);
    let counts: Vec<u64> = log.tally().into_iter().map(|(_, count)| count).collect();
    assert_eq!(counts, [3], "{}", log.text());
    assert_eq!(log.stop().refused, 3, "{}", log.text());
}

fn duration(argument: &str, expected: Duration) {
    let mut fixture = Fixture::begin();
    let begun = Instant::now();
    fixture.trace_with(&["--for", argument]);
    let log = fixture.tracer.take().expect("a fixture that is traced").ended(StopReason::Duration);
    // It cannot have been shorter; how much longer depends on the host.
    assert!(begun.elapsed() >= expected, "{:?}", begun.elapsed());
    let at = |wanted: fn(&Body) -> bool| {
        log.lines.iter().find(|line| wanted(&line.body)).map(|line| line.mono_us).expect("a line")
    };
    let start = at(|body| matches!(body, Body::Start(_)));
    let stop = at(|body| matches!(body, Body::Stop(_)));
    assert!(u128::from(stop - start) >= expected.as_micros(), "{}", log.text());
}

/// It cannot write its last line to a reader that takes nothing; a second signal ends it.
fn a_second_sigint_ends_immediately() {
    let port = Port::take();
    let mut tracer = Running::spawn(["-p", &port.number.to_string(), "-o", "json", "--heartbeat", "1ms"]);
    let _stdout = read_until_ready(tracer.take_stdout());
    // What a process sleeps in: the number of the system call and its arguments.
    let call = format!("/proc/{}/syscall", tracer.pid());
    let writes = [libc::SYS_write, libc::SYS_writev].map(|number| format!("{number} 0x1 "));
    poll("a full pipe", || {
        let call = std::fs::read_to_string(&call).expect("it still runs");
        writes.iter().any(|write| call.starts_with(write)).then_some(())
    });
    tracer.signal(Signal::INT);
    // Two signals in parallel would be one.
    let status = format!("/proc/{}/status", tracer.pid());
    poll("the first signal's handling", || {
        let status = std::fs::read_to_string(&status).expect("it still runs");
        let pending = status.lines().find_map(|line| line.strip_prefix("ShdPnd:")).expect("a mask");
        let pending = u64::from_str_radix(pending.trim(), 16).expect("a mask");
        (pending & 1 << (Signal::INT.as_raw() - 1) == 0).then_some(())
    });
    tracer.signal(Signal::INT);
    assert_eq!(tracer.wait_exit().code(), Some(130), "{}", tracer.stderr());
}

fn a_closed_pipe_is_a_clean_end() {
    closed_pipe("json");
}

fn closed_pipe(output: &str) {
    let fixture = Fixture::begin();
    let mut tracer = Running::spawn(["-p", &fixture.port().to_string(), "-o", output]);
    let stdout = tracer.take_stdout();
    tracer.wait_ready();
    drop(stdout);
    let mut client = Actor::start(&fixture.netns.place(), &ProcessSpec::named("client"));
    let command = fixture.connect_command(&Client::blocking("127.0.0.1"));
    assert!(client.ask(&command).is_err(), "nothing listens");
    assert_eq!(tracer.wait_exit().code(), Some(0), "{}", tracer.stderr());
    let stderr = tracer.stderr();
    assert!(!stderr.to_lowercase().contains("pipe"), "a closed pipe is not an error: {stderr}");
}

/// It does not stay until the next refusal, which may never come.
fn closed_pipe_without_output() {
    let port = Port::take();
    let mut tracer = Running::spawn(["-p", &port.number.to_string(), "-o", "json"]);
    let stdout = tracer.take_stdout();
    tracer.wait_ready();
    drop(stdout);
    assert_eq!(tracer.wait_exit().code(), Some(0), "{}", tracer.stderr());
}
