//! What can go wrong around a trace: it is killed, stopped, cannot write, is not alone, or looks at very much. Nothing
//! stays behind, nothing is lost uncounted.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::Read as _;
use std::net::Ipv4Addr;
use std::process::{Command, Stdio};

use libtest_mimic::Trial;
use rustix::process::{Pid, Resource, Rlimit, Signal};
use tracer::line::{Body, Cause, Change, LostWhere, Ready};

use crate::support::cast::{Actor, Costume};
use crate::support::needs::{Need, is_limited};
use crate::support::poll;
use crate::support::port::Port;
use crate::support::story::{Story, mono_now_us};
use crate::support::tracer::{BINARY, Log, Running, Tracer, parse};
use crate::trial;

const NEEDS: &[Need] = &[Need::Root, Need::Network];

pub fn trials() -> Vec<Trial> {
    vec![
        trial("faults::nothing_stays_after_sigkill", NEEDS, nothing_stays_after_sigkill),
        trial("faults::nothing_stays_after_an_end_under_load", NEEDS, nothing_stays_after_an_end_under_load),
        trial("faults::what_a_stopped_one_loses_is_counted", NEEDS, what_a_stopped_one_loses_is_counted),
        trial("faults::a_full_stdout_is_a_failure", NEEDS, a_full_stdout_is_a_failure),
        trial("faults::a_reader_that_stops_loses_nothing", NEEDS, a_reader_that_stops_loses_nothing),
        trial("faults::two_tell_the_same", NEEDS, two_tell_the_same),
        trial("faults::a_flood_wakes_nobody_and_all_of_it_is_told", NEEDS, all_of_a_flood_is_told),
        trial("faults::ten_thousand_listeners", NEEDS, ten_thousand_listeners),
        trial("faults::namespaces_by_the_hundred", NEEDS, namespaces_by_the_hundred),
        trial(
            "faults::a_step_of_the_clock",
            &[Need::Root, Need::Network, Need::OwnMachine],
            a_step_of_the_clock,
        ),
    ]
}

/// The programs that a process holds, by its descriptors.
fn programs_of(pid: u32) -> BTreeSet<u32> {
    let descriptors = fs::read_dir(format!("/proc/{pid}/fdinfo")).expect("it still runs");
    let texts = descriptors.flatten().filter_map(|entry| fs::read_to_string(entry.path()).ok());
    let ids = texts.flat_map(|text| {
        let id = |line: &str| line.strip_prefix("prog_id:")?.trim().parse().ok();
        text.lines().filter_map(id).collect::<Vec<u32>>()
    });
    let ids: BTreeSet<u32> = ids.collect();
    assert!(!ids.is_empty(), "a tracer holds programs");
    ids
}

/// The kernel lets go of them in the background.
fn wait_gone(programs: &BTreeSet<u32>) {
    poll("the end of every program", || {
        let mut loaded = aya::programs::loaded_programs().flatten();
        (!loaded.any(|program| programs.contains(&program.id()))).then_some(())
    });
}

fn nothing_stays_after_sigkill() {
    let port = Port::take();
    let mut tracer = Running::spawn(["-p", &port.number.to_string()]);
    tracer.wait_ready();
    let programs = programs_of(tracer.pid());
    tracer.signal(Signal::KILL);
    assert_eq!(tracer.wait_exit().code(), None);
    wait_gone(&programs);
}

/// Three make more of it than one can tell.
fn nothing_stays_after_an_end_under_load() {
    let story = Story::begin();
    let noise = |_| {
        let mut client = Actor::start(&story.netns.place(), &Costume::named("client"));
        client.must(&format!("noise 127.0.0.1:{}", story.port()));
        client
    };
    let _clients: Vec<Actor> = (0..3).map(noise).collect();
    for _ in 0..5 {
        let mut tracer = Running::spawn(["-p", &story.port().to_string(), "-o", "json"]);
        let mut stdout = tracer.take_stdout();
        tracer.wait_ready();
        let programs = programs_of(tracer.pid());
        tracer.signal(Signal::INT);
        let mut log = Vec::new();
        stdout.read_to_end(&mut log).expect("to read its log");
        assert_eq!(tracer.wait_exit().code(), Some(0), "{}", tracer.stderr());
        let last = log.split(|&byte| byte == b'\n').rfind(|line| !line.is_empty()).expect("a line");
        assert!(matches!(parse(last).expect("a whole line").body, Body::Stop(_)));
        wait_gone(&programs);
    }
}

/// More than the ring holds while it is stopped: told and lost are what was made, and what listens is known again.
fn what_a_stopped_one_loses_is_counted() {
    const FLOOD: u64 = 16_000;
    const OTHERS: u64 = 50;
    let mut story = Story::begin();
    story.trace();
    // The first verdict that rests on an absence has everything looked at, lost or not.
    story.refused("127.0.0.3").cause(Cause::NothingListening);
    let mut old = story.listen("10.77.0.1");
    story.tracer().signal(Signal::STOP);
    let mut client = Actor::start(&story.netns.place(), &Costume::named("client"));
    for _ in 0..4 {
        client.must(&format!("flood 127.0.0.1:{} {}", story.port(), FLOOD / 4));
    }
    let mut gateway = Actor::start(&story.netns.place(), &Costume::named("gateway"));
    gateway.must(&format!("bind 127.0.0.4:{}", story.port()));
    gateway.listen(16).expect("to listen");
    old.close();
    story.tracer().signal(Signal::CONT);
    let refusal = story.refused("127.0.0.2");
    refusal.cause(Cause::WrongAddress).weighs_only(1);
    assert_eq!(
        refusal.line.verdict.listeners[0].listener.process.pid,
        Some(gateway.pid),
        "{}",
        refusal.told()
    );
    drop(refusal);
    drop(gateway);
    let log = story.tracer.take().expect("a story that is traced").stop_with_losses();
    let in_ring = |body: &Body| match body {
        Body::Lost(lost) if lost.place == LostWhere::Ring => Some(lost.records),
        _ => None,
    };
    let lost: u64 = log.lines.iter().filter_map(|line| in_ring(&line.body)).sum();
    let told = log.stop().refused - 2;
    assert!(lost > 0, "the ring holds {FLOOD} refusals");
    // So is what the gateway did, and programs that other tests start under the name of a server.
    assert!((FLOOD..=FLOOD + OTHERS).contains(&(told + lost)), "{told} told, {lost} lost of {FLOOD}");
}

fn a_full_stdout_is_a_failure() {
    let port = Port::take();
    let full = File::options().write(true).open("/dev/full").expect("a device that is always full");
    let mut command = Command::new(BINARY);
    // It would go on for ever.
    command.args(["trace", "-o", "json", "-p", &port.number.to_string(), "--for", "10"]);
    let output = command.stdin(Stdio::null()).stdout(full).output().expect("to run tracer");
    assert_eq!(output.status.code(), Some(4), "{output:?}");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(stderr.starts_with("tracer: ") && stderr.contains("No space left"), "{stderr}");
}

/// While nobody reads, it waits; then all is there, in order.
fn a_reader_that_stops_loses_nothing() {
    const FLOOD: u64 = 4_000;
    let story = Story::begin();
    let mut tracer = Running::spawn(["-p", &story.port().to_string(), "-o", "json", "--heartbeat", "1ms"]);
    let mut stdout = tracer.take_stdout();
    tracer.wait_ready();
    let call = format!("/proc/{}/syscall", tracer.pid());
    let writes = [libc::SYS_write, libc::SYS_writev].map(|number| format!("{number} 0x1 "));
    poll("a full pipe", || {
        let call = fs::read_to_string(&call).expect("it still runs");
        writes.iter().any(|write| call.starts_with(write)).then_some(())
    });
    let mut client = Actor::start(&story.netns.place(), &Costume::named("client"));
    client.must(&format!("flood 127.0.0.1:{} {FLOOD}", story.port()));
    let reader = std::thread::spawn(move || {
        let mut log = Vec::new();
        stdout.read_to_end(&mut log).map(|_| log)
    });
    tracer.signal(Signal::INT);
    let log = reader.join().expect("a reader's end").expect("to read its log");
    assert_eq!(tracer.wait_exit().code(), Some(0), "{}", tracer.stderr());
    let lines = log.split(|&byte| byte == b'\n').filter(|line| !line.is_empty());
    let lines: Vec<_> = lines.map(|line| parse(line).expect("a whole line")).collect();
    assert!(lines.iter().zip(1..).all(|(line, seq)| line.seq == seq), "a gap");
    let log = Log { lines };
    log.assert_refused(FLOOD);
    assert_eq!(log.stop().lost, log.skipped());
}

fn two_tell_the_same() {
    const FLOOD: u64 = 500;
    let mut story = Story::begin();
    story.trace();
    let mut other = Running::spawn(["-p", &story.port().to_string(), "-o", "json", "-c", &FLOOD.to_string()]);
    let mut stdout = other.take_stdout();
    other.wait_ready();
    let mut client = Actor::start(&story.netns.place(), &Costume::named("client"));
    client.must(&format!("flood 127.0.0.1:{} {FLOOD}", story.port()));
    // It ends by itself with the last of them; where the kernel skips what is preempted, with as many more.
    let reader = std::thread::spawn(move || {
        let mut log = String::new();
        stdout.read_to_string(&mut log).map(|_| log)
    });
    let mut made = 2 * FLOOD;
    poll("its end", || {
        if !reader.is_finished() && is_limited("preempted-programs") {
            client.must(&format!("flood 127.0.0.1:{} 1", story.port()));
            made += 1;
        }
        reader.is_finished().then_some(())
    });
    reader.join().expect("a reader's end").expect("to read its log");
    assert_eq!(other.wait_exit().code(), Some(0), "{}", other.stderr());
    client.must(&format!("flood 127.0.0.1:{} {FLOOD}", story.port()));
    let log = story.tracer.take().expect("a story that is traced").stop_with_losses();
    log.assert_refused(made);
}

/// In a flood the kernel side wakes the tracer no more, which looks by itself; afterwards it is woken again.
fn all_of_a_flood_is_told() {
    const FLOOD: u64 = 3_000;
    let mut story = Story::begin();
    story.trace();
    let mut client = Actor::start(&story.netns.place(), &Costume::named("client"));
    for addr in ["127.0.0.2", "127.0.0.3", "127.0.0.4"] {
        client.must(&format!("flood 127.0.0.1:{} {FLOOD}", story.port()));
        // Told at once, after the flood as before.
        story.refused(addr).cause(Cause::NothingListening);
    }
    let log = story.tracer.take().expect("a story that is traced").stop_with_losses();
    log.assert_refused(3 * FLOOD + 3);
}

/// Waits until so many listeners were told to have changed so.
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

/// On the port, across addresses. Each is told as it comes and goes, and whoever starts among them finds them all.
fn ten_thousand_listeners() {
    const ALL: u32 = 10_000;
    // In bursts that the ring holds, where the tracer has no processor of its own.
    const STEP: u32 = 2_000;
    let first = Ipv4Addr::new(127, 20, 0, 0).to_bits();
    let mut story = Story::begin();
    story.trace();
    let mut crowds = Vec::new();
    for step in 0..ALL / STEP {
        let mut crowd = Actor::start(&story.netns.place(), &Costume::named("crowd"));
        let addr = Ipv4Addr::from_bits(first + step * STEP);
        crowd.must(&format!("hoard listen {addr}:{} {STEP}", story.port()));
        wait_changes(story.tracer(), Change::Opened, STEP * (step + 1));
        crowds.push(crowd);
    }
    let refusal = story.refused("127.0.0.1");
    refusal.cause(Cause::WrongAddress).weighs_only(ALL as usize);
    assert_eq!(refusal.line.verdict.listeners.len(), 16, "{}", refusal.told());
    drop(refusal);
    let mut other = Tracer::start(&[story.port()], &[]);
    assert_eq!(ready(&mut other).listeners, u64::from(ALL));
    other.stop();
    for (crowd, turn) in crowds.into_iter().zip(1..) {
        drop(crowd);
        wait_changes(story.tracer(), Change::Closed, STEP * turn);
    }
    let refusal = story.refused("[::1]");
    assert_eq!(refusal.line.verdict.cause, Cause::NothingListening, "{}", refusal.told());
    assert_eq!(refusal.line.verdict.listeners_total, 0, "{}", refusal.told());
    drop(refusal);
    story.end();
}

/// Each is looked into and let go of before the next: it takes no more descriptors than a few do.
fn namespaces_by_the_hundred() {
    const CROWD: u32 = 300;
    /// What the threads that look into them hold at once.
    const SPARE: u64 = 32;
    let mut story = Story::begin();
    story.trace();
    let pid = story.tracer().pid();
    let held = fs::read_dir(format!("/proc/{pid}/fd")).expect("its descriptors").count() as u64;
    let process = i32::try_from(pid).ok().and_then(Pid::from_raw).expect("a process id");
    let few = Rlimit { current: Some(held + SPARE), maximum: Some(held + SPARE) };
    rustix::process::prlimit(Some(process), Resource::Nofile, few).expect("to limit its descriptors");
    for addr in ["127.0.0.1", "[::1]"] {
        let mut crowd = Actor::start(&story.netns.place(), &Costume::named("crowd"));
        crowd.must(&format!("crowd {CROWD}"));
        // It rests on there being nothing in any of them.
        story.refused(addr).cause(Cause::NothingListening).weighs_only(0);
        let mut other = Tracer::start(&[story.port()], &[]);
        assert!(ready(&mut other).namespaces > u64::from(CROWD));
        other.stop();
        crowd.must("release");
        story.refused(addr).cause(Cause::NothingListening);
    }
    story.end();
}

/// The wall clock goes forward by hours, and back. What is told has the time that it is then; how long something took,
/// and when a process started, has nothing to do with it.
fn a_step_of_the_clock() {
    const STEP: i64 = 7_200;
    /// More than the trial takes in between, and much less than the step.
    const SLACK: i64 = 600;
    let mut story = Story::begin();
    story.trace();
    let gateway = story.listen("10.77.0.1");
    let mut timed = Running::spawn(["-p", &story.port().to_string(), "-o", "json", "--for", "2"]);
    let mut stdout = timed.take_stdout();
    timed.wait_ready();
    let begun = mono_now_us();
    let mut client = Actor::start(&story.netns.place(), &Costume::named("client"));
    let mut told = Vec::new();
    for (addr, step) in [("127.0.0.1", STEP), ("127.0.0.2", -STEP), ("127.0.0.3", 0)] {
        assert!(client.ask(&format!("connect {addr}:{}", story.port())).is_err(), "nothing listens there");
        told.push(story.tracer().wait_for(addr, |line| match &line.body {
            Body::Refused(refused) if refused.dst.addr == addr => {
                Some((line.time.0.as_second(), line.mono_us, (**refused).clone()))
            }
            _ => None,
        }));
        step_clock(step);
    }
    let [before, ahead, back] = &told[..] else { panic!("{told:?}") };
    let passed = |from: i64, to: i64| (0..SLACK).contains(&(to - from));
    assert!(passed(before.0 + STEP, ahead.0), "{told:?}");
    assert!(passed(before.0, back.0), "{told:?}");
    assert!(before.1 < ahead.1 && ahead.1 < back.1, "{told:?}");
    for (_, _, refused) in &told {
        assert_eq!(refused.client.start_time, before.2.client.start_time, "{told:?}");
        assert!(refused.latency_us < 60_000_000, "{told:?}");
        let listener = &refused.verdict.listeners[0].listener;
        assert_eq!(listener.process.pid, Some(gateway.pid), "{told:?}");
        assert_eq!(listener.process.start_time, before.2.verdict.listeners[0].listener.process.start_time);
    }
    // A time to run is neither over because of it, nor longer.
    let mut log = String::new();
    stdout.read_to_string(&mut log).expect("to read its log");
    assert_eq!(timed.wait_exit().code(), Some(0), "{}", timed.stderr());
    assert!(log.lines().last().is_some_and(|line| line.contains(r#""reason":"duration""#)), "{log}");
    assert!((1_500_000..60_000_000).contains(&(mono_now_us() - begun)), "{log}");
    story.end();
}

fn step_clock(seconds: i64) {
    use rustix::time::{ClockId, clock_gettime, clock_settime};
    let mut now = clock_gettime(ClockId::Realtime);
    now.tv_sec += seconds;
    clock_settime(ClockId::Realtime, now).expect("to set the clock");
}
