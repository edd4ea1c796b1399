//! What follows a refusal, where a story cannot tell: in text, with a limit, by the order of lines; what failed
//! otherwise; and the signs of life between. The rest is in the corpus.

use std::io::Read;

use libtest_mimic::Trial;
use rustix::io::Errno;
use tracer::line::{Body, Cause, Fallback, Line, Recovered, StopReason};

use crate::support::cast::{Actor, Costume};
use crate::support::needs::{Need, is_limited};
use crate::support::netns::Netns;
use crate::support::story::{Client, Refusal, Story};
use crate::support::tracer::{Log, Running};
use crate::trial;

const NEEDS: &[Need] = &[Need::Root, Need::Network];
const NEEDS_NFT: &[Need] = &[Need::Root, Need::Network, Need::Nft];

pub fn trials() -> Vec<Trial> {
    let mut trials = vec![
        trial("followups::recovered::not_in_another_namespace", NEEDS, recovered_in_one_namespace_only),
        trial("followups::fallback::is_no_alarm", NEEDS, fallback_is_no_alarm),
        trial("followups::fallback::of_repeats", NEEDS, fallback_of_repeats),
        trial("followups::repeated::a_new_cause_is_told", NEEDS, repeated_until_the_cause_changes),
        trial("followups::failed::is_told_with_all", NEEDS_NFT, || failed(true)),
        trial("followups::failed::is_counted_without", NEEDS_NFT, || failed(false)),
        trial("followups::alive", NEEDS, alive),
    ];
    for (name, at, refused, answered) in [
        ("v6_first", "127.0.0.1", "[::1]", "127.0.0.1"),
        ("v4_first", "[::1]", "127.0.0.1", "[::1]"),
        ("v6_first_to_a_wildcard", "0.0.0.0", "[::1]", "127.0.0.1"),
    ] {
        trials.push(trial(format!("followups::fallback::{name}::text"), NEEDS, move || {
            fallback_in_text(at, refused, answered);
        }));
    }
    trials
}

/// Place in the log of a refusal's line.
fn seq_of(story: &mut Story, refusal: &Refusal) -> u64 {
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
fn assert_recovered(story: &mut Story, pid: u32, of: &[u64], refusals: u64, processes: u64) -> Recovered {
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
    // Of an IPv4 socket that its user holds, the error is seen by that hook alone.
    let v4_errno = (!is_limited("no-icmp-refusals")).then_some("EHOSTUNREACH");
    let expected: &[_] = if v4_errno.is_some() {
        &[("EACCES", 1), ("EHOSTUNREACH", 1), ("given-up", 1)]
    } else {
        &[("EACCES", 1), ("given-up", 2)]
    };
    assert_eq!(counts, expected, "{}", log.text());
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
    let expected = [(0, "127.0.0.2", None), (1, "127.0.0.3", v4_errno), (2, "fd77::1", Some("EACCES"))].map(
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
