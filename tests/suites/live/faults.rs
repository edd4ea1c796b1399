//! What can go wrong around a trace: it is killed, stopped, cannot write, is not alone, or has very much to read. Nothing
//! stays behind, nothing is lost uncounted.

use std::fs::{self, File};
use std::net::Ipv4Addr;
use std::process::{Command, Stdio};

use libtest_mimic::Trial;
use rustix::process::{Pid, Resource, Rlimit, Signal};
use tracer::output::schema::{Body, Cause, Change, LostWhere, Ready, StopReason};

use tests::binary::binary;
use tests::bpf::Held;
use tests::fixture::{Fixture, mono_now_us};
use tests::limits;
use tests::needs::Need;
use tests::poll;
use tests::port::Port;
use tests::process::{Actor, ProcessSpec};
use tests::suite::test;
use tests::tracer::{Log, Running, Tracer, parse_all, read_all, read_until_ready};

const NEEDS: &[Need] = &[Need::Root, Need::Network];

pub fn all() -> Vec<Trial> {
    vec![
        test("faults::nothing_stays_after_sigkill", NEEDS, nothing_stays_after_sigkill),
        test("faults::nothing_stays_after_an_end_under_load", NEEDS, nothing_stays_after_an_end_under_load),
        test("faults::what_a_stopped_one_loses_is_counted", NEEDS, what_a_stopped_one_loses_is_counted),
        test("faults::a_full_stdout_is_a_failure", NEEDS, a_full_stdout_is_a_failure),
        test("faults::a_reader_that_stops_loses_nothing", NEEDS, a_reader_that_stops_loses_nothing),
        test("faults::two_tracers_report_the_same", NEEDS, two_tracers_report_the_same),
        test(
            "faults::a_flood_does_not_wake_the_reader_and_is_reported_whole",
            NEEDS,
            a_flood_is_reported_whole,
        ),
        test(
            "faults::ten_thousand_listeners",
            &[Need::Root, Need::Network, Need::RealTime],
            ten_thousand_listeners,
        ),
        test("faults::namespaces_by_the_hundred", NEEDS, namespaces_by_the_hundred),
        test(
            "faults::a_step_of_the_clock",
            &[Need::Root, Need::Network, Need::OwnMachine],
            a_step_of_the_clock,
        ),
    ]
}

/// What a tracer holds in the kernel.
fn held_by(pid: u32) -> Held {
    let held = Held::by(pid).expect("it still runs");
    assert!(!held.programs.is_empty() && !held.maps.is_empty() && !held.links.is_empty(), "{held:?}");
    held
}

/// The kernel releases it in the background.
fn wait_released(held: &Held) {
    poll("the end of every program, map and link", || held.left().is_empty().then_some(()));
}

fn nothing_stays_after_sigkill() {
    let port = Port::take();
    let mut tracer = Running::spawn(["-p", &port.number.to_string()]);
    tracer.wait_ready();
    let held = held_by(tracer.pid());
    tracer.signal(Signal::KILL);
    assert_eq!(tracer.wait_exit().code(), None);
    wait_released(&held);
}

/// Three threads make more refusals than tracer can report.
fn nothing_stays_after_an_end_under_load() {
    let fixture = Fixture::begin();
    let noise = |_| {
        let mut client = Actor::start(&fixture.netns.place(), &ProcessSpec::named("client"));
        client.must(&format!("noise 127.0.0.1:{}", fixture.port()));
        client
    };
    let _clients: Vec<Actor> = (0..3).map(noise).collect();
    for _ in 0..5 {
        let mut tracer = Running::spawn(["-p", &fixture.port().to_string(), "-o", "json"]);
        let log = tracer.read_stdout();
        tracer.wait_ready();
        let held = held_by(tracer.pid());
        tracer.signal(Signal::INT);
        let log = Log { lines: parse_all(&log.join().expect("its log")) };
        assert_eq!(tracer.wait_exit().code(), Some(0), "{}", tracer.stderr());
        assert_eq!(log.stop().reason, StopReason::Sigint, "{}", log.text());
        wait_released(&held);
    }
}

/// More than the ring holds while it is stopped: reported and lost are what was made, and what listens is known again.
fn what_a_stopped_one_loses_is_counted() {
    const FLOOD: u64 = 16_000;
    const OTHERS: u64 = 50;
    let mut fixture = Fixture::begin();
    fixture.trace();
    // The first verdict that rests on an absence has everything scanned, lost or not.
    fixture.refused("127.0.0.3").cause(Cause::NothingListening);
    let mut old = fixture.listen("10.77.0.1");
    fixture.tracer().signal(Signal::STOP);
    let mut client = Actor::start(&fixture.netns.place(), &ProcessSpec::named("client"));
    for _ in 0..4 {
        client.must(&format!("flood 127.0.0.1:{} {}", fixture.port(), FLOOD / 4));
    }
    let mut gateway = Actor::start(&fixture.netns.place(), &ProcessSpec::named("gateway"));
    gateway.must(&format!("bind 127.0.0.4:{}", fixture.port()));
    gateway.listen(16).expect("to listen");
    old.close();
    fixture.tracer().signal(Signal::CONT);
    // Before it has emptied the ring, the refusal would be lost too.
    fixture.tracer().listener(Change::Present, gateway.pid);
    let refusal = fixture.refused("127.0.0.2");
    refusal.cause(Cause::WrongAddress).evaluates_only(1);
    assert_eq!(
        refusal.line.verdict.listeners[0].listener.process.pid,
        Some(gateway.pid),
        "{}",
        refusal.shown()
    );
    drop(refusal);
    drop(gateway);
    let log = fixture.tracer.take().expect("a fixture that is traced").stop_with_losses();
    let in_ring = |body: &Body| match body {
        Body::Lost(lost) if lost.place == LostWhere::Ring => Some(lost.records),
        _ => None,
    };
    let lost: u64 = log.lines.iter().filter_map(|line| in_ring(&line.body)).sum();
    let shown = log.stop().refused - 2;
    assert!(lost > 0, "the ring holds {FLOOD} refusals");
    // So is what the gateway did, and programs that other tests start under the name of a server.
    assert!((FLOOD..=FLOOD + OTHERS).contains(&(shown + lost)), "{shown} reported, {lost} lost of {FLOOD}");
}

fn a_full_stdout_is_a_failure() {
    let port = Port::take();
    let full = File::options().write(true).open("/dev/full").expect("a device that is always full");
    let mut command = Command::new(binary());
    // It would go on for ever.
    command.args(["trace", "-o", "json", "-p", &port.number.to_string(), "--for", "10"]);
    let output = command.stdin(Stdio::null()).stdout(full).output().expect("to run tracer");
    assert_eq!(output.status.code(), Some(4), "{output:?}");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(stderr.starts_with("tracer: ") && stderr.contains("No space left"), "{stderr}");
}

/// While its reader waits, it waits; then all is there, in order.
fn a_reader_that_stops_loses_nothing() {
    const FLOOD: u64 = 4_000;
    let fixture = Fixture::begin();
    let mut tracer = Running::spawn(["-p", &fixture.port().to_string(), "-o", "json", "--heartbeat", "1ms"]);
    let stdout = read_until_ready(tracer.take_stdout());
    let call = format!("/proc/{}/syscall", tracer.pid());
    let writes = [libc::SYS_write, libc::SYS_writev].map(|number| format!("{number} 0x1 "));
    poll("a full pipe", || {
        let call = fs::read_to_string(&call).expect("it still runs");
        writes.iter().any(|write| call.starts_with(write)).then_some(())
    });
    let mut client = Actor::start(&fixture.netns.place(), &ProcessSpec::named("client"));
    client.must(&format!("flood 127.0.0.1:{} {FLOOD}", fixture.port()));
    let reader = read_all(stdout);
    tracer.signal(Signal::INT);
    let log = reader.join().expect("its log");
    assert_eq!(tracer.wait_exit().code(), Some(0), "{}", tracer.stderr());
    let log = Log { lines: parse_all(&log) };
    log.assert_refused(FLOOD);
    assert_eq!(log.stop().lost, log.skipped());
}

fn two_tracers_report_the_same() {
    const FLOOD: u64 = 500;
    let mut fixture = Fixture::begin();
    fixture.trace();
    let mut other =
        Running::spawn(["-p", &fixture.port().to_string(), "-o", "json", "-c", &FLOOD.to_string()]);
    let reader = other.read_stdout();
    other.wait_ready();
    let mut client = Actor::start(&fixture.netns.place(), &ProcessSpec::named("client"));
    client.must(&format!("flood 127.0.0.1:{} {FLOOD}", fixture.port()));
    // It ends by itself with the last of them; where the kernel skips what is preempted, with as many more.
    let mut made = 2 * FLOOD;
    poll("its end", || {
        if !reader.is_finished() && limits::is_expected("preempted-programs") {
            client.must(&format!("flood 127.0.0.1:{} 1", fixture.port()));
            made += 1;
        }
        reader.is_finished().then_some(())
    });
    let seen = Log { lines: parse_all(&reader.join().expect("its log")) };
    assert_eq!(other.wait_exit().code(), Some(0), "{}", other.stderr());
    assert_eq!((seen.stop().refused, seen.stop().reason), (FLOOD, StopReason::Count));
    client.must(&format!("flood 127.0.0.1:{} {FLOOD}", fixture.port()));
    let log = fixture.tracer.take().expect("a fixture that is traced").stop_with_losses();
    log.assert_refused(made);
}

/// In a flood the kernel side wakes the tracer no more, which polls; afterwards it is woken again.
fn a_flood_is_reported_whole() {
    const FLOOD: u64 = 3_000;
    let mut fixture = Fixture::begin();
    fixture.trace();
    let mut client = Actor::start(&fixture.netns.place(), &ProcessSpec::named("client"));
    for addr in ["127.0.0.2", "127.0.0.3", "127.0.0.4"] {
        client.must(&format!("flood 127.0.0.1:{} {FLOOD}", fixture.port()));
        // Reported immediately, after the flood as before.
        fixture.refused(addr).cause(Cause::NothingListening);
    }
    let log = fixture.tracer.take().expect("a fixture that is traced").stop_with_losses();
    log.assert_refused(3 * FLOOD + 3);
}

/// Waits until so many listeners were reported to have changed so.
fn wait_changes(tracer: &mut Tracer, change: Change, expected: u32) {
    let mut seen = 0;
    tracer.wait_for(&format!("{expected} listeners {change:?}"), |line| {
        seen += u32::from(matches!(&line.body, Body::Listener(listener) if listener.change == change));
        (seen >= expected).then_some(())
    });
}

fn ready(tracer: &mut Tracer) -> Ready {
    tracer.wait_for("the ready line", |line| match &line.body {
        Body::Ready(ready) => Some(ready.clone()),
        _ => None,
    })
}

/// On the port, across addresses. Each is reported as it comes and goes, and a tracer that starts then finds them all.
fn ten_thousand_listeners() {
    const ALL: u32 = 10_000;
    // In bursts that the ring holds, where the tracer has no processor of its own.
    const STEP: u32 = 2_000;
    let first = Ipv4Addr::new(127, 20, 0, 0).to_bits();
    let mut fixture = Fixture::begin();
    fixture.trace();
    let mut bulks = Vec::new();
    for step in 0..ALL / STEP {
        let mut bulk = Actor::start(&fixture.netns.place(), &ProcessSpec::named("bulk"));
        let addr = Ipv4Addr::from_bits(first + step * STEP);
        bulk.must(&format!("bulk listen {addr}:{} {STEP}", fixture.port()));
        wait_changes(fixture.tracer(), Change::Opened, STEP * (step + 1));
        bulks.push(bulk);
    }
    let refusal = fixture.refused("127.0.0.1");
    refusal.cause(Cause::WrongAddress);
    refusal.evaluates_only(ALL as usize);
    assert_eq!(refusal.line.verdict.listeners.len(), 16, "{}", refusal.shown());
    drop(refusal);
    let mut other = Tracer::start(&[fixture.port()], &[]);
    assert_eq!(ready(&mut other).listeners, u64::from(ALL));
    other.stop();
    for (bulk, turn) in bulks.into_iter().zip(1..) {
        drop(bulk);
        wait_changes(fixture.tracer(), Change::Closed, STEP * turn);
    }
    let refusal = fixture.refused("[::1]");
    assert_eq!(refusal.line.verdict.cause, Cause::NothingListening, "{}", refusal.shown());
    assert_eq!(refusal.line.verdict.listeners_total, 0, "{}", refusal.shown());
    drop(refusal);
    fixture.end();
}

/// Each is read and closed before the next: it takes no more descriptors than a few do.
fn namespaces_by_the_hundred() {
    const NETNS: u32 = 300;
    /// What the threads that read them hold at a time.
    const SPARE: u64 = 32;
    let mut fixture = Fixture::begin();
    fixture.trace();
    let pid = fixture.tracer().pid();
    let held = fs::read_dir(format!("/proc/{pid}/fd")).expect("its descriptors").count() as u64;
    let process = i32::try_from(pid).ok().and_then(Pid::from_raw).expect("a process id");
    let few = Rlimit { current: Some(held + SPARE), maximum: Some(held + SPARE) };
    rustix::process::prlimit(Some(process), Resource::Nofile, few).expect("to limit its descriptors");
    for addr in ["127.0.0.1", "[::1]"] {
        let mut bulk = Actor::start(&fixture.netns.place(), &ProcessSpec::named("bulk"));
        bulk.must(&format!("bulk netns {NETNS}"));
        // It rests on there being nothing in any of them.
        fixture.refused(addr).cause(Cause::NothingListening).evaluates_only(0);
        let mut other = Tracer::start(&[fixture.port()], &[]);
        assert!(ready(&mut other).namespaces > u64::from(NETNS));
        other.stop();
        bulk.must("release");
        fixture.refused(addr).cause(Cause::NothingListening);
    }
    fixture.end();
}

/// The wall clock goes forward by hours, and back. What is reported has the time that it is then; how long something took,
/// and when a process started, has nothing to do with it.
fn a_step_of_the_clock() {
    const STEP: i64 = 7_200;
    /// More than the test takes in between, and much less than the step.
    const SLACK: i64 = 600;
    let mut fixture = Fixture::begin();
    fixture.trace();
    let gateway = fixture.listen("10.77.0.1");
    let mut timed = Running::spawn(["-p", &fixture.port().to_string(), "-o", "json", "--for", "2"]);
    let log = timed.read_stdout();
    timed.wait_ready();
    let begun = mono_now_us();
    let mut client = Actor::start(&fixture.netns.place(), &ProcessSpec::named("client"));
    let mut shown = Vec::new();
    for (addr, step) in [("127.0.0.1", STEP), ("127.0.0.2", -STEP), ("127.0.0.3", 0)] {
        assert!(client.ask(&format!("connect {addr}:{}", fixture.port())).is_err(), "nothing listens there");
        shown.push(fixture.tracer().wait_for(addr, |line| match &line.body {
            Body::Refused(refused) if refused.dst.addr == addr => {
                Some((line.time.0.as_second(), line.mono_us, (**refused).clone()))
            }
            _ => None,
        }));
        step_clock(step);
    }
    let [before, ahead, back] = &shown[..] else { panic!("{shown:?}") };
    let passed = |from: i64, to: i64| (0..SLACK).contains(&(to - from));
    assert!(passed(before.0 + STEP, ahead.0), "{shown:?}");
    assert!(passed(before.0, back.0), "{shown:?}");
    assert!(before.1 < ahead.1 && ahead.1 < back.1, "{shown:?}");
    for (_, _, refused) in &shown {
        assert_eq!(refused.client.start_time, before.2.client.start_time, "{shown:?}");
        assert!(refused.latency_us < 60_000_000, "{shown:?}");
        let listener = &refused.verdict.listeners[0].listener;
        assert_eq!(listener.process.pid, Some(gateway.pid), "{shown:?}");
        assert_eq!(listener.process.start_time, before.2.verdict.listeners[0].listener.process.start_time);
    }
    // A time to run is neither over because of it, nor longer.
    let log = Log { lines: parse_all(&log.join().expect("its log")) };
    assert_eq!(timed.wait_exit().code(), Some(0), "{}", timed.stderr());
    assert_eq!(log.stop().reason, StopReason::Duration, "{}", log.text());
    assert!((1_500_000..60_000_000).contains(&(mono_now_us() - begun)), "{}", log.text());
    fixture.end();
}

fn step_clock(seconds: i64) {
    use rustix::time::{ClockId, clock_gettime, clock_settime};
    let mut now = clock_gettime(ClockId::Realtime);
    now.tv_sec += seconds;
    clock_settime(ClockId::Realtime, now).expect("to set the clock");
}
