//! What follows a refusal: the end of it, the other family that answers, the same again; what failed
//! otherwise; and the signs of life between.

use std::io::Read;

use libtest_mimic::Trial;
use rustix::io::Errno;
use tracer::line::{Body, Cause, Fallback, Line, Mismatch, OwnerState, Recovered, StopReason};

use crate::support::cast::{Actor, Costume};
use crate::support::needs::Need;
use crate::support::netns::Netns;
use crate::support::story::{By, Client, Listen, Refusal, Story};
use crate::support::tracer::{Log, Running};
use crate::trial;

const NEEDS: &[Need] = &[Need::Root, Need::Network];
const NEEDS_NFT: &[Need] = &[Need::Root, Need::Network, Need::Nft];

pub fn trials() -> Vec<Trial> {
    let mut trials = vec![
        trial("followups::recovered::after_nothing_listening", NEEDS, recovered_after_nothing_listening),
        trial("followups::recovered::after_stopped", NEEDS, recovered_after_stopped),
        trial("followups::recovered::after_wrong_address", NEEDS, recovered_after_wrong_address),
        trial("followups::recovered::each_destination_by_itself", NEEDS, recovered_each_by_itself),
        trial("followups::recovered::repeats_are_told_before", NEEDS, recovered_with_repeats),
        trial("followups::recovered::not_what_was_intercepted", NEEDS_NFT, intercepted_does_not_recover),
        trial("followups::recovered::not_in_another_namespace", NEEDS, recovered_in_one_namespace_only),
        trial("followups::fallback::is_no_alarm", NEEDS, fallback_is_no_alarm),
        trial("followups::fallback::of_repeats", NEEDS, fallback_of_repeats),
        trial("followups::fallback::needs_the_same_process", NEEDS, fallback_needs_the_same_process),
        trial("followups::repeated::by_name_and_destination", NEEDS, repeated_by_name_and_destination),
        trial("followups::repeated::a_new_cause_is_told", NEEDS, repeated_until_the_cause_changes),
        trial("followups::repeated::a_flood_of_several", NEEDS, repeated_flood),
        trial("followups::failed::is_told_with_all", NEEDS_NFT, || failed(true)),
        trial("followups::failed::is_counted_without", NEEDS_NFT, || failed(false)),
        trial("followups::alive", NEEDS, alive),
    ];
    for (name, at, refused, answered) in [
        ("v6_first", "127.0.0.1", "[::1]", "127.0.0.1"),
        ("v4_first", "[::1]", "127.0.0.1", "[::1]"),
        ("v6_first_to_a_wildcard", "0.0.0.0", "[::1]", "127.0.0.1"),
    ] {
        let trials_of = [
            trial(format!("followups::fallback::{name}::json"), NEEDS, move || {
                fallback(at, refused, answered);
            }),
            trial(format!("followups::fallback::{name}::text"), NEEDS, move || {
                fallback_in_text(at, refused, answered);
            }),
        ];
        trials.extend(trials_of);
    }
    for (name, is_there_before) in [("present", true), ("opened", false)] {
        let name = format!("followups::owner::closes_and_then_exits::{name}");
        trials.push(trial(name, NEEDS, move || owner_closes_and_then_exits(is_there_before)));
    }
    trials.push(trial("followups::owner::closes_and_then_is_killed", NEEDS, owner_is_killed_later));
    trials
}

/// Place in the log of a refusal's line.
pub fn seq_of(story: &mut Story, refusal: &Refusal) -> u64 {
    line_of(story, refusal).seq
}

fn line_of(story: &mut Story, refusal: &Refusal) -> Line {
    let pid = refusal.actor.pid;
    story.tracer().wait_for("the line of a refusal", |line| match &line.body {
        Body::Refused(refused) if refused.client.pid == Some(pid) => Some(line.clone()),
        _ => None,
    })
}

/// Asserts what the log says of the end of these refusals, by a listener of process `pid`.
pub fn assert_recovered(story: &mut Story, pid: u32, of: &[u64], refusals: u64, processes: u64) -> Recovered {
    let (line, recovered) =
        story.tracer().wait_for(&format!("the recovery of {of:?}"), |line| match &line.body {
            Body::Recovered(recovered) if recovered.of == of => Some((line.clone(), (**recovered).clone())),
            _ => None,
        });
    let (first, refused) = story.tracer().wait_for("the first refusal", |line| match &line.body {
        Body::Refused(refused) if line.seq == of[0] => Some((line.clone(), refused.clone())),
        _ => None,
    });
    let (opened, at) = story.tracer().listener_and_time(tracer::line::Change::Opened, pid);
    assert_eq!(recovered.listener, opened.listener, "{recovered:?}");
    assert_eq!(line.mono_us, at, "{recovered:?}");
    assert_eq!((recovered.refusals, recovered.processes), (refusals, Some(processes)), "{recovered:?}");
    assert_eq!((&recovered.dst, &recovered.netns), (&refused.dst, &refused.netns), "{recovered:?}");
    assert!(recovered.after_us > 0, "{recovered:?}");
    // Each of the three is cut to a microsecond.
    assert!(recovered.after_us.abs_diff(at - first.mono_us) <= 1, "{recovered:?}");
    recovered
}

fn recoveries(log: &Log) -> Vec<Recovered> {
    log.lines
        .iter()
        .filter_map(|line| match &line.body {
            Body::Recovered(recovered) => Some((**recovered).clone()),
            _ => None,
        })
        .collect()
}

fn fallbacks(log: &Log) -> Vec<Fallback> {
    log.lines
        .iter()
        .filter_map(|line| match &line.body {
            Body::Fallback(fallback) => Some(fallback.clone()),
            _ => None,
        })
        .collect()
}

fn recovered_after_nothing_listening() {
    for (at, to) in
        [("127.0.0.1", "127.0.0.1"), ("[::1]", "[::1]"), ("[::]", "127.0.0.1"), ("[::]", "10.77.0.1")]
    {
        let mut story = Story::begin();
        story.trace();
        let refusals =
            story.all_refused([Client::blocking(to), Client::nonblocking(to), Client::blocking(to)]);
        let mut of: Vec<u64> = refusals.iter().map(|refusal| seq_of(&mut story, refusal)).collect();
        of.sort_unstable();
        for refusal in &refusals {
            refusal.cause(Cause::NothingListening);
        }
        let gateway = story.listen(at);
        assert_recovered(&mut story, gateway.pid, &of, 3, 3);
        story.answered(to);
        let log = story.end();
        assert_eq!(recoveries(&log).len(), 1, "{}", log.text());
    }
}

/// It recovers, and its next end is news again.
fn recovered_after_stopped() {
    for (at, to) in [("127.0.0.1", "127.0.0.1"), ("[::]", "[::1]"), ("0.0.0.0", "10.77.0.1")] {
        let mut story = Story::begin();
        let mut gateway = story.listen(at);
        story.trace();
        for _ in 0..2 {
            story.close(&mut gateway);
            let refusal = story.refused(Client::nonblocking(to).by(Costume::named("client")));
            refusal.cause(Cause::Stopped).weighs(&gateway, Mismatch::Closed);
            let of = seq_of(&mut story, &refusal);
            gateway = story.listen(at);
            assert_recovered(&mut story, gateway.pid, &[of], 1, 1);
            story.answered(to);
        }
        let log = story.end();
        assert_eq!(recoveries(&log).len(), 2, "{}", log.text());
        assert_eq!(log.refusals().count(), 2, "{}", log.text());
    }
}

fn recovered_after_wrong_address() {
    for (wrong, cause, right, to) in [
        ("10.77.0.1", Cause::WrongAddress, "127.0.0.1", "127.0.0.1"),
        ("[fd77::1]", Cause::WrongAddress, "[::1]", "[::1]"),
        ("127.0.0.1", Cause::WrongFamily, "[::1]", "[::1]"),
    ] {
        let mut story = Story::begin();
        let first = story.listen(wrong);
        story.trace();
        let refusal = story.refused(to);
        refusal.cause(cause).weighs_only(1);
        let of = seq_of(&mut story, &refusal);
        // One that does not cover it either ends nothing.
        let _other = story.listen("127.0.0.2");
        let gateway = story.listen(right);
        assert_recovered(&mut story, gateway.pid, &[of], 1, 1);
        story.answered(to);
        drop(first);
        let log = story.end();
        assert_eq!(recoveries(&log).len(), 1, "{}", log.text());
    }
}

fn recovered_each_by_itself() {
    let mut story = Story::begin();
    story.trace();
    let mut of = |to: &str| {
        let refusal = story.refused(to);
        seq_of(&mut story, &refusal)
    };
    let (v4, v6, outer) = (of("127.0.0.1"), of("[::1]"), of("10.77.0.1"));
    let first = story.listen("[::1]");
    assert_recovered(&mut story, first.pid, &[v6], 1, 1);
    let second = story.listen("0.0.0.0");
    assert_recovered(&mut story, second.pid, &[v4], 1, 1);
    assert_recovered(&mut story, second.pid, &[outer], 1, 1);
    let log = story.end();
    assert_eq!(recoveries(&log).len(), 3, "{}", log.text());
}

/// Those that were only counted count, too.
fn recovered_with_repeats() {
    const EACH: u64 = 7;
    let mut story = Story::begin();
    story.trace();
    let mut clients = [(); 2].map(|()| Actor::start(&story.netns.place(), &Costume::named("looper")));
    for client in &mut clients {
        client.must(&format!("flood 127.0.0.1:{} {EACH}", story.port()));
    }
    let of = story.tracer().wait_for("a refusal", |line| match line.body {
        Body::Refused(_) => Some(line.seq),
        _ => None,
    });
    let gateway = story.listen("127.0.0.1");
    assert_recovered(&mut story, gateway.pid, &[of], 2 * EACH, 2);
    let log = story.end();
    let kinds: Vec<&Body> = log.lines.iter().map(|line| &line.body).collect();
    let repeated = kinds.iter().rposition(|body| matches!(body, Body::Repeated(_))).expect("repeats");
    let recovered = kinds.iter().position(|body| matches!(body, Body::Recovered(_))).expect("a recovery");
    assert!(repeated < recovered, "{}", log.text());
    let counts: Vec<u64> = log.tally().into_iter().map(|(_, count)| count).collect();
    assert_eq!(counts, [2 * EACH], "{}", log.text());
}

fn intercepted_does_not_recover() {
    let mut story = Story::begin();
    story.netns.nft(&format!(
        "table inet firewall {{
            chain input {{
                type filter hook input priority 0
                tcp dport {} reject with tcp reset
            }}
        }}",
        story.port()
    ));
    let mut gateway = story.listen("0.0.0.0");
    story.trace();
    for addr in ["127.0.0.1", "10.77.0.1"] {
        story.refused(Client::blocking(addr).refused_by(By::Reset)).cause(Cause::Intercepted);
    }
    story.close(&mut gateway);
    let _again = story.listen("0.0.0.0");
    story.refused(Client::blocking("127.0.0.1").refused_by(By::Reset)).cause(Cause::Intercepted);
    let log = story.end();
    assert_eq!(recoveries(&log), [], "{}", log.text());
}

/// The same address and port in another namespace is another destination: its repeats go on being repeats.
fn recovered_in_one_namespace_only() {
    let mut story = Story::begin();
    let other = Netns::new();
    story.trace();
    let here = story.refused("127.0.0.1");
    let of = seq_of(&mut story, &here);
    let command = format!("flood 127.0.0.1:{} 3", story.port());
    let mut elsewhere = Actor::start(&other.place(), &Costume::named("elsewhere"));
    elsewhere.must(&command);
    let gateway = story.listen("127.0.0.1");
    assert_recovered(&mut story, gateway.pid, &[of], 1, 1);
    elsewhere.must(&command);
    drop(gateway);
    let log = story.end();
    assert_eq!(recoveries(&log).len(), 1, "{}", log.text());
    let counts: Vec<(Option<u32>, Cause, u64)> = log
        .tally()
        .into_iter()
        .map(|(refused, count)| (refused.client.pid, refused.verdict.cause, count))
        .collect();
    let expected = [
        (Some(here.actor.pid), Cause::NothingListening, 1),
        (Some(elsewhere.pid), Cause::NothingListening, 3),
        (Some(elsewhere.pid), Cause::OtherNetns, 3),
    ];
    assert_eq!(counts, expected, "{}", log.text());
    let ends_early = log.lines.iter().zip(log.lines.iter().skip(1)).any(|(one, next)| {
        matches!(&one.body, Body::Repeated(_)) && matches!(&next.body, Body::Recovered(_))
    });
    assert!(!ends_early, "the recovery here ended the repeats elsewhere: {}", log.text());
}

/// `curl localhost`: the first address is refused, the second answers.
fn fallback(at: &str, refused: &str, answered: &str) {
    let mut story = Story::begin();
    let gateway = story.listen(at);
    story.trace();
    let port = story.port();
    let mut client = Actor::start(&story.netns.place(), &Costume::named("curl"));
    client.must(&format!("reach {refused}:{port} {answered}:{port}"));
    let line = story.tracer().refused(client.pid);
    assert_eq!(line.verdict.cause, Cause::WrongFamily, "{line:?}");
    assert_eq!(line.verdict.listeners[0].listener.process.pid, Some(gateway.pid), "{line:?}");
    let (told, fallback) = story.tracer().wait_for("the fallback", |line| match &line.body {
        Body::Fallback(fallback) => Some((line.clone(), fallback.clone())),
        _ => None,
    });
    let log = story.end();
    let first = log.lines.iter().find(|line| matches!(line.body, Body::Refused(_))).expect("a refusal");
    assert_eq!(fallback.of, first.seq, "{}", log.text());
    assert_eq!(fallback.dst.addr, answered.trim_matches(['[', ']']), "{}", log.text());
    assert_eq!(fallback.dst.port, Some(port), "{}", log.text());
    assert!(fallback.after_us.abs_diff(told.mono_us - first.mono_us) <= 1, "{}", log.text());
    assert_eq!(fallbacks(&log).len(), 1, "{}", log.text());
    assert_eq!(log.stop().refused, 1, "{}", log.text());
}

fn fallback_in_text(at: &str, refused: &str, answered: &str) {
    let mut story = Story::begin();
    let _gateway = story.listen(at);
    let port = story.port();
    let text = text_of(&["-p", &port.to_string()], |tracer| {
        let mut client = Actor::start(&story.netns.place(), &Costume::named("curl"));
        client.must(&format!("reach {refused}:{port} {answered}:{port}"));
        tracer.signal(rustix::process::Signal::INT);
    });
    let count = |word: &str| text.matches(word).count();
    assert_eq!((count("FALLBACK"), count("REFUSED")), (1, 0), "{text}");
    let line = text.lines().find(|line| line.contains("FALLBACK")).expect("counted above");
    assert!(line.contains("curl") && line.contains("harmless"), "{text}");
}

/// What a tracer says as text while something happens.
fn text_of(arguments: &[&str], happens: impl FnOnce(&Running)) -> String {
    let arguments = arguments.iter().chain(&["-o", "text", "--color", "never"]);
    let mut tracer = Running::spawn(arguments);
    let mut stdout = tracer.take_stdout();
    let reader = std::thread::spawn(move || {
        let mut text = String::new();
        stdout.read_to_string(&mut text).expect("text is UTF-8");
        text
    });
    tracer.wait_ready();
    happens(&tracer);
    assert_eq!(tracer.wait_exit().code(), Some(0), "{}", tracer.stderr());
    reader.join().expect("to read the text")
}

/// It does not count for `-c`, and what comes after it does.
fn fallback_is_no_alarm() {
    let mut story = Story::with_ports(2);
    let _gateway = story.listen("127.0.0.1");
    story.trace_with(&["-c", "1"]);
    let port = story.port();
    for _ in 0..2 {
        let mut client = Actor::start(&story.netns.place(), &Costume::named("curl"));
        client.must(&format!("reach [::1]:{port} 127.0.0.1:{port}"));
    }
    let alarm = story.refused(Client::blocking("127.0.0.1").port(1));
    alarm.cause(Cause::NothingListening);
    let log = story.tracer.take().expect("a story that is traced").ended(StopReason::Count);
    assert_eq!(fallbacks(&log).len(), 2, "{}", log.text());
    assert_eq!(log.stop().refused, 3, "{}", log.text());
    assert_eq!(log.stop().by_cause[&Cause::WrongFamily], 2, "{}", log.text());
}

/// Each is told, of the line that told the first.
fn fallback_of_repeats() {
    let mut story = Story::begin();
    let _gateway = story.listen("127.0.0.1");
    story.trace();
    let port = story.port();
    let mut client = Actor::start(&story.netns.place(), &Costume::named("curl"));
    for _ in 0..3 {
        client.must(&format!("reach [::1]:{port} 127.0.0.1:{port}"));
    }
    let log = story.end();
    let first = log.lines.iter().find(|line| matches!(line.body, Body::Refused(_))).expect("a refusal").seq;
    let of: Vec<u64> = fallbacks(&log).iter().map(|fallback| fallback.of).collect();
    assert_eq!(of, [first; 3], "{}", log.text());
    assert_eq!((log.refusals().count(), log.stop().refused), (1, 3), "{}", log.text());
}

/// An attempt is none, another process's connect is none, and nor is one to another address.
fn fallback_needs_the_same_process() {
    let mut story = Story::begin();
    let _gateway = story.listen("[::1]");
    let _outer = story.listen("10.77.0.1");
    story.trace();
    let port = story.port();
    let mut client = Actor::start(&story.netns.place(), &Costume::named("curl"));
    assert!(client.ask(&format!("reach 127.0.0.1:{port} 127.0.0.2:{port} 127.0.0.3:{port}")).is_err());
    let mut other = Actor::start(&story.netns.place(), &Costume::named("curl"));
    other.must(&format!("connect [::1]:{port}"));
    client.must(&format!("connect 10.77.0.1:{port}"));
    let log = story.end();
    assert_eq!(fallbacks(&log), [], "{}", log.text());
    assert_eq!(log.stop().by_cause[&Cause::WrongFamily], 3, "{}", log.text());
}

/// Refusals by the name of the client and the destination, as the log counts them.
fn told(log: &Log) -> Vec<(String, String, u64)> {
    let mut told: Vec<_> = log
        .tally()
        .into_iter()
        .map(|(refused, count)| {
            (refused.client.comm.clone().expect("a name"), refused.dst.addr.clone(), count)
        })
        .collect();
    told.sort();
    told
}

fn repeated_by_name_and_destination() {
    let mut story = Story::begin();
    story.trace();
    let (place, port) = (story.netns.place(), story.port());
    // By turns, so that none follows its like.
    let mut clients = [("alpha", 0), ("alpha", 0), ("beta", 0), ("alpha", 65_534)].map(|(comm, uid)| {
        let costume = Costume::named(comm);
        Actor::start(&place, &if uid == 0 { costume } else { costume.uid(uid) })
    });
    for round in 0..6 {
        for client in &mut clients {
            let to = if round % 3 == 2 { "[::1]" } else { "127.0.0.1" };
            let nonblocking = if round % 2 == 1 { " nonblocking" } else { "" };
            let outcome = client.ask(&format!("connect {to}:{port}{nonblocking}"));
            assert_eq!(outcome, Err(Errno::CONNREFUSED.raw_os_error()));
        }
    }
    let log = story.end();
    let row = |comm: &str, addr: &str, count| (comm.to_owned(), addr.to_owned(), count);
    let expected = [
        row("alpha", "127.0.0.1", 4),
        row("alpha", "127.0.0.1", 8),
        row("alpha", "::1", 2),
        row("alpha", "::1", 4),
        row("beta", "127.0.0.1", 4),
        row("beta", "::1", 2),
    ];
    assert_eq!(told(&log), expected, "{}", log.text());
    assert_eq!(log.stop().refused, 24, "{}", log.text());
    for line in &log.lines {
        let Body::Repeated(repeated) = &line.body else { continue };
        let first = log.lines.iter().find(|line| line.seq == repeated.of).expect("what it repeats");
        let Body::Refused(refused) = &first.body else { panic!("{}", log.text()) };
        let two = refused.client.comm.as_deref() == Some("alpha") && refused.client.uid == Some(0);
        assert_eq!(repeated.processes, Some(if two { 2 } else { 1 }), "{}", log.text());
        assert!(first.time < repeated.first && repeated.first <= repeated.last, "{}", log.text());
    }
}

fn repeated_until_the_cause_changes() {
    let mut story = Story::begin();
    story.trace();
    let mut client = Actor::start(&story.netns.place(), &Costume::named("client"));
    let command = format!("flood 127.0.0.1:{} 5", story.port());
    client.must(&command);
    let mut gateway = story.listen("10.77.0.1");
    client.must(&command);
    story.close(&mut gateway);
    client.must(&command);
    let log = story.end();
    let counts: Vec<(Cause, u64)> =
        log.tally().into_iter().map(|(refused, count)| (refused.verdict.cause, count)).collect();
    // What listened and closed covered another address: nothing listens, as before.
    assert_eq!(counts, [(Cause::NothingListening, 10), (Cause::WrongAddress, 5)], "{}", log.text());
    assert_eq!(log.stop().refused, 15, "{}", log.text());
}

fn repeated_flood() {
    const EACH: u64 = 200;
    let mut story = Story::begin();
    let _gateway = story.listen("10.77.0.1");
    story.trace();
    let place = story.netns.place();
    let names = ["alpha", "beta", "gamma", "alpha", "beta", "gamma"];
    let mut clients = names.map(|comm| Actor::start(&place, &Costume::named(comm)));
    for client in &mut clients {
        client.tell(&format!("flood 127.0.0.1:{} {EACH}", story.port()));
    }
    for client in &clients {
        client.outcome().unwrap_or_else(|errno| panic!("a flood ended with errno {errno}"));
    }
    let log = story.end();
    let expected = ["alpha", "beta", "gamma"].map(|comm| (comm.to_owned(), "127.0.0.1".to_owned(), 2 * EACH));
    assert_eq!(told(&log), expected, "{}", log.text());
    assert_eq!(log.stop().refused, 6 * EACH, "{}", log.text());
}

/// Given up, told off by a router, and refused: only the last is a refusal.
fn failed(is_all: bool) {
    let mut story = Story::begin();
    let port = story.port();
    story.netns.nft(&format!(
        "table inet firewall {{
            chain input {{
                type filter hook input priority 0
                ip daddr 127.0.0.2 tcp dport {port} drop
                ip daddr 127.0.0.3 tcp dport {port} reject with icmp admin-prohibited
                ip6 daddr fd77::1 tcp dport {port} reject with icmpv6 admin-prohibited
            }}
        }}"
    ));
    story.trace_with(if is_all { &["--all"] } else { &[] });
    let mut clients =
        ["hasty", "told4", "told6"].map(|comm| Actor::start(&story.netns.place(), &Costume::named(comm)));
    let [hasty, v4, v6] = &mut clients;
    let outcome = hasty.ask(&format!("connect 127.0.0.2:{port} nonblocking abandon"));
    assert_eq!(outcome, Err(Errno::INPROGRESS.raw_os_error()));
    let outcome = v4.ask(&format!("connect 127.0.0.3:{port} nonblocking"));
    assert_eq!(outcome, Err(Errno::HOSTUNREACH.raw_os_error()));
    let outcome = v6.ask(&format!("connect [fd77::1]:{port} nonblocking"));
    assert_eq!(outcome, Err(Errno::ACCESS.raw_os_error()));
    let of = story.refused("127.0.0.1");
    of.cause(Cause::NothingListening);
    let log = story.end();
    assert_eq!(log.stop().refused, 1, "{}", log.text());
    let counts: Vec<(&str, u64)> =
        log.stop().failed.iter().map(|(errno, count)| (errno.as_str(), *count)).collect();
    assert_eq!(counts, [("EACCES", 1), ("EHOSTUNREACH", 1), ("given-up", 1)], "{}", log.text());
    let lines: Vec<_> = log
        .lines
        .iter()
        .filter_map(|line| match &line.body {
            Body::Failed(failed) => {
                assert_eq!(failed.netns.id, of.line.netns.id, "{failed:?}");
                assert_eq!(failed.dst.port, Some(port), "{failed:?}");
                assert!(failed.src.port.is_some_and(|port| port != 0), "{failed:?}");
                assert!(failed.after_us > 0, "{failed:?}");
                Some((failed.client.pid.expect("a pid"), failed.dst.addr.clone(), failed.errno.clone()))
            }
            _ => None,
        })
        .collect();
    let expected =
        [(0, "127.0.0.2", None), (1, "127.0.0.3", Some("EHOSTUNREACH")), (2, "fd77::1", Some("EACCES"))].map(
            |(client, addr, errno): (usize, &str, Option<&str>)| {
                (clients[client].pid, addr.to_owned(), errno.map(str::to_owned))
            },
        );
    assert_eq!(lines, if is_all { expected.to_vec() } else { Vec::new() }, "{}", log.text());
}

fn alive() {
    let mut story = Story::begin();
    story.trace_with(&["--heartbeat", "100ms"]);
    let wanted = |refused: u64| {
        move |line: &Line| match &line.body {
            Body::Alive(alive) if alive.refused == refused => Some(alive.clone()),
            _ => None,
        }
    };
    let alive = story.tracer().wait_for("a sign of life", wanted(0));
    assert_eq!(alive.lost, 0);
    story.refused("127.0.0.1");
    story.tracer().wait_for("the refusal in one", wanted(1));
    let mut client = Actor::start(&story.netns.place(), &Costume::named("client"));
    client.must(&format!("flood [::1]:{} 5", story.port()));
    story.tracer().wait_for("those that are only counted in one", wanted(6));
    let log = story.end();
    let times: Vec<u64> = log
        .lines
        .iter()
        .filter(|line| matches!(line.body, Body::Alive(_)))
        .map(|line| line.mono_us)
        .collect();
    assert!(times.len() >= 3, "{}", log.text());
    // Never sooner than asked for, however late the host may be.
    assert!(times.windows(2).all(|pair| pair[1] - pair[0] >= 99_000), "{times:?}");
}

/// A listener that its process closes, which then ends: `stopped` knows of both.
fn owner_closes_and_then_exits(is_there_before: bool) {
    let mut story = Story::begin();
    if !is_there_before {
        story.trace();
    }
    let mut gateway = story.listen(Listen::at("127.0.0.1"));
    if is_there_before {
        story.trace();
    }
    story.close(&mut gateway);
    let refusal = story.refused("127.0.0.1");
    refusal.cause(Cause::Stopped).weighs(&gateway, Mismatch::Closed).weighs_only(1);
    assert!(refusal.line.verdict.summary.contains("lives on"), "{}", refusal.told());
    drop(refusal);
    assert_eq!(gateway.exit(3).code(), Some(3));
    let refusal = story.refused("127.0.0.1");
    refusal.cause(Cause::Stopped).weighs(&gateway, Mismatch::Closed).weighs_only(1);
    assert!(refusal.line.verdict.summary.contains("exited with code 3"), "{}", refusal.told());
    drop(refusal);
    let log = story.end();
    // When it closed, its process was alive.
    let owners = log.listeners().filter_map(|line| line.owner.as_ref());
    assert_eq!(owners.map(|owner| owner.state).collect::<Vec<_>>(), [OwnerState::Alive], "{}", log.text());
}

fn owner_is_killed_later() {
    let mut story = Story::begin();
    let mut gateway = story.listen(Listen::at("[::]"));
    story.trace();
    story.close(&mut gateway);
    gateway.kill();
    for to in ["127.0.0.1", "[::1]"] {
        let refusal = story.refused(Client::nonblocking(to));
        refusal.cause(Cause::Stopped).weighs(&gateway, Mismatch::Closed);
        assert!(refusal.line.verdict.summary.contains("SIGKILL"), "{}", refusal.told());
    }
    story.end();
}
