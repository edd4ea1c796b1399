//! What can go wrong around a trace: it is killed, stopped, cannot write, is not alone, or looks at very much. Nothing
//! stays behind, nothing is lost uncounted.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::Read as _;
use std::process::{Command, Stdio};

use libtest_mimic::Trial;
use rustix::process::Signal;
use tracer::line::{Body, Cause, LostWhere};

use crate::support::cast::{Actor, Costume};
use crate::support::needs::Need;
use crate::support::poll;
use crate::support::port::Port;
use crate::support::story::Story;
use crate::support::tracer::{BINARY, Running, parse};
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

fn nothing_stays_after_an_end_under_load() {
    let story = Story::begin();
    let mut client = Actor::start(&story.netns.place(), &Costume::named("client"));
    client.must(&format!("noise 127.0.0.1:{}", story.port()));
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
    story.tracer().signal(Signal::STOP);
    let mut client = Actor::start(&story.netns.place(), &Costume::named("client"));
    for _ in 0..4 {
        client.must(&format!("flood 127.0.0.1:{} {}", story.port(), FLOOD / 4));
    }
    let mut gateway = Actor::start(&story.netns.place(), &Costume::named("gateway"));
    gateway.must(&format!("bind 10.77.0.1:{}", story.port()));
    gateway.listen(16).expect("to listen");
    story.tracer().signal(Signal::CONT);
    story.refused("127.0.0.2").cause(Cause::WrongAddress);
    drop(gateway);
    let log = story.tracer.take().expect("a story that is traced").stop_with_losses();
    let in_ring = |body: &Body| match body {
        Body::Lost(lost) if lost.place == LostWhere::Ring => Some(lost.records),
        _ => None,
    };
    let lost: u64 = log.lines.iter().filter_map(|line| in_ring(&line.body)).sum();
    let told = log.stop().refused - 1;
    assert!(lost > 0, "the ring holds {FLOOD} refusals");
    // So is what the gateway did, and programs that other tests start under the name of a server.
    assert!((FLOOD..=FLOOD + OTHERS).contains(&(told + lost)), "{told} told, {lost} lost of {FLOOD}");
}

fn a_full_stdout_is_a_failure() {
    let port = Port::take();
    let full = File::options().write(true).open("/dev/full").expect("a device that is always full");
    let mut command = Command::new(BINARY);
    command.args(["trace", "-o", "json", "-p", &port.number.to_string()]);
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
    let Some(Body::Stop(stop)) = lines.last().map(|line| &line.body) else { panic!("no `stop`") };
    assert_eq!((stop.refused, stop.lost), (FLOOD, 0));
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
    // It ends by itself with the last of them.
    let mut log = String::new();
    stdout.read_to_string(&mut log).expect("to read its log");
    assert_eq!(other.wait_exit().code(), Some(0), "{}", other.stderr());
    client.must(&format!("flood 127.0.0.1:{} {FLOOD}", story.port()));
    let log = story.tracer.take().expect("a story that is traced").stop_with_losses();
    assert_eq!(log.stop().refused, 2 * FLOOD, "{}", log.text());
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
    assert_eq!(log.stop().refused, 3 * FLOOD + 3, "{}", log.text());
}
