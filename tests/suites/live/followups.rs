//! What follows a refusal, where a scenario cannot describe it: in text, with a limit, by the order of lines; what failed
//! otherwise; and the signs of life between. The rest is in the corpus.

use std::collections::HashMap;

use libtest_mimic::Trial;
use rustix::io::Errno;
use tracer::output::schema::{Body, Cause, Fallback, Line, Recovered, StopReason};

use tests::fixture::{Client, Fixture, Refusal};
use tests::limits;
use tests::needs::Need;
use tests::netns::Netns;
use tests::process::{Actor, ProcessSpec};
use tests::suite::test;
use tests::tracer::{Log, Running};

const NEEDS: &[Need] = &[Need::Root, Need::Network];
const NEEDS_NFT: &[Need] = &[Need::Root, Need::Network, Need::Nft];

pub fn all() -> Vec<Trial> {
    let mut all = vec![
        test("followups::recovered::not_in_another_namespace", NEEDS, recovered_in_one_namespace_only),
        test("followups::fallback::is_not_a_refusal_line", NEEDS, fallback_is_not_a_refusal_line),
        test("followups::fallback::of_repeats", NEEDS, fallback_of_repeats),
        test("followups::repeated::a_new_cause_is_reported", NEEDS, repeated_until_the_cause_changes),
        test("followups::failed::is_reported_with_all", NEEDS_NFT, || failed(true)),
        test("followups::failed::is_counted_without", NEEDS_NFT, || failed(false)),
        test("followups::alive", NEEDS, alive),
    ];
    for (name, at, refused, answered) in [
        ("v6_first", "127.0.0.1", "[::1]", "127.0.0.1"),
        ("v4_first", "[::1]", "127.0.0.1", "[::1]"),
        ("v6_first_to_a_wildcard", "0.0.0.0", "[::1]", "127.0.0.1"),
    ] {
        all.push(test(format!("followups::fallback::{name}::text"), NEEDS, move || {
            fallback_in_text(at, refused, answered);
        }));
    }
    all
}

/// Place in the log of a refusal's line.
fn seq_of(fixture: &mut Fixture, refusal: &Refusal) -> u64 {
    line_of(fixture, refusal).seq
}

fn line_of(fixture: &mut Fixture, refusal: &Refusal) -> Line {
    let pid = refusal.actor.pid;
    fixture.tracer().wait_for("the line of a refusal", |line| match &line.body {
        Body::Refused(refused) if refused.client.pid == Some(pid) => Some(line.clone()),
        _ => None,
    })
}

/// Asserts what the log reports of the end of these refusals, by a listener of process `pid`.
fn assert_recovered(fixture: &mut Fixture, pid: u32, of: &[u64], refusals: u64, processes: u64) -> Recovered {
    let (line, recovered) =
        fixture.tracer().wait_for(&format!("the recovery of {of:?}"), |line| match &line.body {
            Body::Recovered(recovered) if recovered.of == of => Some((line.clone(), (**recovered).clone())),
            _ => None,
        });
    let (first, refused) = fixture.tracer().wait_for("the first refusal", |line| match &line.body {
        Body::Refused(refused) if line.seq == of[0] => Some((line.clone(), refused.clone())),
        _ => None,
    });
    let (opened, at) = fixture.tracer().listener_and_time(tracer::output::schema::Change::Opened, pid);
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
    let mut fixture = Fixture::begin();
    let other = Netns::with_eth0();
    fixture.trace();
    let here = fixture.refused("127.0.0.1");
    let of = seq_of(&mut fixture, &here);
    let command = format!("flood 127.0.0.1:{} 3", fixture.port());
    let mut elsewhere = Actor::start(&other.place(), &ProcessSpec::named("elsewhere"));
    elsewhere.must(&command);
    let gateway = fixture.listen("127.0.0.1");
    assert_recovered(&mut fixture, gateway.pid, &[of], 1, 1);
    elsewhere.must(&command);
    drop(gateway);
    let log = fixture.end();
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
    let mut fixture = Fixture::begin();
    let _gateway = fixture.listen(at);
    let port = fixture.port();
    let text = text_of(&["-p", &port.to_string()], |tracer| {
        let mut client = Actor::start(&fixture.netns.place(), &ProcessSpec::named("curl"));
        client.must(&format!("reach {refused}:{port} {answered}:{port}"));
        tracer.signal(rustix::process::Signal::INT);
    });
    let count = |word: &str| text.matches(word).count();
    assert_eq!((count("FALLBACK"), count("REFUSED")), (1, 0), "{text}");
    let line = text.lines().find(|line| line.contains("FALLBACK")).expect("counted above");
    assert!(line.contains("curl") && line.contains(" refused, ") && line.contains(" ms later"), "{text}");
}

/// What a tracer prints as text while something happens.
fn text_of(arguments: &[&str], happens: impl FnOnce(&Running)) -> String {
    let arguments = arguments.iter().chain(&["-o", "text", "--color", "never"]);
    let mut tracer = Running::spawn(arguments);
    let reader = tracer.read_stdout();
    tracer.wait_ready();
    happens(&tracer);
    assert_eq!(tracer.wait_exit().code(), Some(0), "{}", tracer.stderr());
    String::from_utf8(reader.join().expect("to read the text")).expect("text is UTF-8")
}

/// It does not count for `-c`, and what comes after it does.
fn fallback_is_not_a_refusal_line() {
    let mut fixture = Fixture::with_ports(2);
    let _gateway = fixture.listen("127.0.0.1");
    fixture.trace_with(&["-c", "1"]);
    let port = fixture.port();
    for _ in 0..2 {
        let mut client = Actor::start(&fixture.netns.place(), &ProcessSpec::named("curl"));
        client.must(&format!("reach [::1]:{port} 127.0.0.1:{port}"));
    }
    let alarm = fixture.refused(Client::blocking("127.0.0.1").port(1));
    alarm.cause(Cause::NothingListening);
    let log = fixture.tracer.take().expect("a fixture that is traced").ended(StopReason::Count);
    assert_eq!(fallbacks(&log).len(), 2, "{}", log.text());
    assert_eq!(log.stop().refused, 3, "{}", log.text());
    assert_eq!(log.stop().by_cause.get(Cause::WrongFamily), Some(2), "{}", log.text());
}

/// Each is reported, of the line that reported the first.
fn fallback_of_repeats() {
    let mut fixture = Fixture::begin();
    let _gateway = fixture.listen("127.0.0.1");
    fixture.trace();
    let port = fixture.port();
    let mut client = Actor::start(&fixture.netns.place(), &ProcessSpec::named("curl"));
    for _ in 0..3 {
        client.must(&format!("reach [::1]:{port} 127.0.0.1:{port}"));
    }
    let log = fixture.end();
    let first = log.lines.iter().find(|line| matches!(line.body, Body::Refused(_))).expect("a refusal").seq;
    let of: Vec<Option<u64>> = fallbacks(&log).iter().map(|fallback| fallback.of).collect();
    assert_eq!(of, [Some(first); 3], "{}", log.text());
    assert_eq!((log.refusals().count(), log.stop().refused), (1, 3), "{}", log.text());
}

fn repeated_until_the_cause_changes() {
    let mut fixture = Fixture::begin();
    fixture.trace();
    let mut client = Actor::start(&fixture.netns.place(), &ProcessSpec::named("client"));
    let command = format!("flood 127.0.0.1:{} 5", fixture.port());
    client.must(&command);
    let mut gateway = fixture.listen("10.77.0.1");
    client.must(&command);
    fixture.close(&mut gateway);
    client.must(&command);
    let log = fixture.end();
    // By cause: one whose evidence takes longer to find is reported later.
    let counts: HashMap<Cause, u64> =
        log.tally().into_iter().map(|(refused, count)| (refused.verdict.cause, count)).collect();
    // What listened and closed covered another address: nothing listens, as before.
    let expected = HashMap::from([(Cause::NothingListening, 10), (Cause::WrongAddress, 5)]);
    assert_eq!(counts, expected, "{}", log.text());
    assert_eq!(log.stop().refused, 15, "{}", log.text());
}

/// Given up, rejected by a router as prohibited, and refused: only the last is a refusal.
fn failed(is_all: bool) {
    let mut fixture = Fixture::begin();
    let port = fixture.port();
    fixture.netns.nft(&format!(
        "table inet firewall {{
            chain input {{
                type filter hook input priority 0
                ip daddr 127.0.0.2 tcp dport {port} drop
                ip daddr 127.0.0.3 tcp dport {port} reject with icmp admin-prohibited
                ip6 daddr fd77::1 tcp dport {port} reject with icmpv6 admin-prohibited
            }}
        }}"
    ));
    fixture.trace_with(if is_all { &["--all"] } else { &[] });
    let mut clients = ["hasty", "rejected4", "rejected6"]
        .map(|comm| Actor::start(&fixture.netns.place(), &ProcessSpec::named(comm)));
    let [hasty, v4, v6] = &mut clients;
    let outcome = hasty.ask(&format!("connect 127.0.0.2:{port} nonblocking abandon"));
    assert_eq!(outcome, Err(Errno::INPROGRESS.raw_os_error()));
    let outcome = v4.ask(&format!("connect 127.0.0.3:{port} nonblocking"));
    assert_eq!(outcome, Err(Errno::HOSTUNREACH.raw_os_error()));
    let outcome = v6.ask(&format!("connect [fd77::1]:{port} nonblocking"));
    assert_eq!(outcome, Err(Errno::ACCESS.raw_os_error()));
    let of = fixture.refused("127.0.0.1");
    of.cause(Cause::NothingListening);
    let log = fixture.end();
    assert_eq!(log.stop().refused, 1, "{}", log.text());
    let counts: Vec<(&str, u64)> =
        log.stop().failed.iter().map(|(how, count)| (how.name(), *count)).collect();
    // Of an IPv4 socket that its user holds, the error is seen by that hook alone.
    let v4_errno = (!limits::is_expected("no-icmp-refusals")).then_some("EHOSTUNREACH");
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
    let mut fixture = Fixture::begin();
    fixture.trace_with(&["--heartbeat", "100ms"]);
    let wanted = |refused: u64| {
        move |line: &Line| match &line.body {
            Body::Alive(alive) if alive.refused == refused => Some(alive.clone()),
            _ => None,
        }
    };
    let alive = fixture.tracer().wait_for("a sign of life", wanted(0));
    assert_eq!(alive.lost, 0);
    fixture.refused("127.0.0.1");
    fixture.tracer().wait_for("the refusal in one", wanted(1));
    let mut client = Actor::start(&fixture.netns.place(), &ProcessSpec::named("client"));
    client.must(&format!("flood [::1]:{} 5", fixture.port()));
    fixture.tracer().wait_for("those that are only counted in one", wanted(6));
    let log = fixture.end();
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
