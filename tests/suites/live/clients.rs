//! The refused client: the right process, by name and number, whatever its name and however busy the host
//! is; and which connects make no refusal.

use std::collections::BTreeMap;

use libtest_mimic::Trial;
use rustix::io::Errno;
use rustix::process::Signal;
use tracer::output::schema::{Because, Body, Cause, FailedBy, LostWhere, Mismatch};

use tests::fixture::{Client, Fixture, Listen};
use tests::needs::Need;
use tests::netns::{Netns, run};
use tests::poll;
use tests::port::Port;
use tests::process::{Actor, ProcessSpec};
use tests::suite::test;
use tests::tracer::{Log, Running, Tracer};

const NEEDS: &[Need] = &[Need::Root, Need::Network];
const NEEDS_NFT: &[Need] = &[Need::Root, Need::Network, Need::Nft];
const NEEDS_MPTCP: &[Need] = &[Need::Root, Need::Network, Need::Mptcp];
const NEEDS_URING: &[Need] = &[Need::Root, Need::Network, Need::Uring];

pub fn all() -> Vec<Trial> {
    let mut all = vec![
        test("clients::every_field_of_a_client", NEEDS, every_field_of_a_client),
        test("clients::a_thread_is_reported_as_its_process", NEEDS, a_thread_is_reported_as_its_process),
        test("clients::one_that_ends_immediately_is_known", NEEDS, one_that_ends_immediately_is_known),
        test("clients::a_hostile_name_is_escaped_in_json", NEEDS, a_hostile_name_is_escaped_in_json),
        test("clients::a_hostile_name_is_escaped_in_text", NEEDS, || a_hostile_name_in_text("never")),
        test("clients::a_hostile_name_is_escaped_in_colour", NEEDS, || a_hostile_name_in_text("always")),
        test("clients::a_link_local_address_has_its_zone", NEEDS, a_link_local_address_has_its_zone),
        test("clients::multipath_is_reported_once", NEEDS_MPTCP, multipath_once),
        test("clients::multipath_on_one_side", NEEDS_MPTCP, multipath_on_one_side),
        test("clients::an_answered_connect_is_not_a_refusal", NEEDS, an_answered_connect_is_not_a_refusal),
        test("clients::giving_up_is_not_a_refusal", NEEDS_NFT, giving_up_is_not_a_refusal),
        test("clients::a_timeout_is_not_a_refusal", NEEDS_NFT, a_timeout_is_not_a_refusal),
        test("clients::a_full_accept_queue_is_not_a_refusal", NEEDS, a_full_accept_queue_is_not_a_refusal),
        test(
            "clients::an_unreachable_network_is_not_a_refusal",
            NEEDS,
            an_unreachable_network_is_not_a_refusal,
        ),
        test(
            "clients::connecting_to_oneself_is_not_a_refusal",
            NEEDS,
            connecting_to_oneself_is_not_a_refusal,
        ),
        test("clients::its_own_port_is_watched::connected", NEEDS, || {
            own_port_is_watched("127.0.0.1", " keep");
        }),
        test("clients::its_own_port_is_watched::connecting", NEEDS_NFT, || {
            own_port_is_watched("127.0.0.3", " pending");
        }),
        test("clients::one_socket_is_refused_again", NEEDS_NFT, one_socket_is_refused_again),
        test("clients::bound_to_a_device", NEEDS, bound_to_a_device),
        test("clients::fast_open::asks_for_a_cookie", NEEDS, || fast_open(CLIENT)),
        test("clients::fast_open::sends_data_immediately", NEEDS, || fast_open(CLIENT | WITHOUT_COOKIE)),
        test("clients::fast_open::unsent_is_not_a_refusal", NEEDS, fast_open_unsent),
        test("clients::one_that_passed_its_socket_on", NEEDS_NFT, one_that_passed_its_socket_on),
        test("clients::two_tracers_see_the_same", NEEDS, two_tracers_see_the_same),
        test("clients::the_right_pid_under_load", NEEDS, the_right_pid_under_load),
        test("clients::what_a_full_ring_loses_is_counted", NEEDS, what_a_full_ring_loses_is_counted),
    ];
    for (name, way) in [("caller", "uring"), ("worker", "uring=worker"), ("poller", "uring=sqpoll")] {
        all.push(test(format!("clients::uring::{name}"), NEEDS_URING, move || uring(way)));
    }
    for (name, cancel) in CANCELLED {
        let needs: &[Need] =
            if name == "by_uring" { &[Need::Root, Need::Network, Need::Nft, Need::Uring] } else { NEEDS_NFT };
        all.push(test(format!("clients::cancelled::{name}"), needs, move || cancelled(cancel)));
    }
    all
}

/// Asserts that these and no other connects failed without being refused: who, to where, and by which error
/// (`None`: it gave up).
fn assert_failed(log: &Log, port: u16, expected: &[(&Actor, &str, Option<&str>)]) {
    let mut counts = BTreeMap::<FailedBy, u64>::new();
    for (_, _, errno) in expected {
        *counts.entry(errno.unwrap_or("given-up").to_owned().into()).or_default() += 1;
    }
    assert_eq!(log.stop().failed, counts, "{}", log.text());
    let mut lines: Vec<_> = log
        .lines
        .iter()
        .filter_map(|line| match &line.body {
            Body::Failed(failed) => {
                assert_eq!(failed.dst.port, Some(port), "{failed:?}");
                assert!(failed.src.port.is_some_and(|port| port != 0), "{failed:?}");
                let comm = failed.client.comm.as_deref().expect("a name");
                Some((failed.client.pid, comm, failed.dst.addr.as_str(), failed.errno.as_deref()))
            }
            _ => None,
        })
        .collect();
    lines.sort_unstable();
    let mut expected: Vec<_> = expected
        .iter()
        .map(|(actor, addr, errno)| (Some(actor.pid), actor.comm.as_str(), *addr, *errno))
        .collect();
    expected.sort_unstable();
    assert_eq!(lines, expected, "{}", log.text());
}

/// Drops what comes in for a port of the fixture's namespace.
fn drop_all(fixture: &Fixture, port: u16) {
    fixture.netns.nft(&format!(
        "table inet firewall {{
            chain input {{
                type filter hook input priority 0
                tcp dport {port} drop
            }}
        }}"
    ));
}

fn client(fixture: &Fixture, comm: &str) -> Actor {
    Actor::start(&fixture.netns.place(), &ProcessSpec::named(comm))
}

fn every_field_of_a_client() {
    let mut fixture = Fixture::begin();
    fixture.trace();
    let refusal =
        fixture.refused(Client::nonblocking("127.0.0.1").by(ProcessSpec::named("curl").uid(65_534)));
    refusal.cause(Cause::NothingListening).evaluates_only(0);
    let client = &refusal.line.client;
    let shown = refusal.shown();
    let pid = Some(refusal.actor.pid);
    assert_eq!((client.pid, client.ns_pid), (pid, pid), "{shown}");
    assert_eq!(client.ppid, Some(std::process::id()), "{shown}");
    assert_eq!(client.uid, Some(65_534), "{shown}");
    assert_eq!(client.comm.as_deref(), Some("curl"), "{shown}");
    let exe = std::env::current_exe().expect("the path of this test binary");
    assert_eq!(client.exe.as_deref(), exe.to_str(), "{shown}");
    assert_eq!(client.container, None, "{shown}");

    // It was started after the tests and before its connect: within the bounds of the log's own clock.
    let started = client.start_time.expect("a start time");
    let log = fixture.end();
    let line = log.lines.iter().find(|line| matches!(line.body, tracer::output::schema::Body::Refused(_)));
    let refused_at = line.expect("the refusal").time;
    assert!(started < refused_at, "{shown}");
    assert!(refused_at.0.duration_since(started.0).as_secs() < 60, "{shown}");
}

/// The name and number are those of the process, not of the thread that connected.
fn a_thread_is_reported_as_its_process() {
    let mut fixture = Fixture::begin();
    fixture.trace();
    let mut client = Actor::start(&fixture.netns.place(), &ProcessSpec::named("server"));
    let command = format!("connect 127.0.0.1:{} thread", fixture.port());
    assert_eq!(client.ask(&command), Err(Errno::CONNREFUSED.raw_os_error()));
    let refused = fixture.tracer().refused(client.pid);
    assert_eq!(refused.client.comm.as_deref(), Some("server"));
    fixture.end();
}

fn one_that_ends_immediately_is_known() {
    let mut fixture = Fixture::begin();
    fixture.trace();
    for number in 0..10 {
        let comm = format!("brief{number}");
        let mut client = Actor::start(&fixture.netns.place(), &ProcessSpec::named(&comm));
        client.send(&format!("connect 127.0.0.1:{} nonblocking", fixture.port()));
        assert_eq!(client.exit(0).code(), Some(0));
        let refused = fixture.tracer().refused(client.pid);
        assert_eq!(refused.client.comm, Some(comm));
        assert_eq!(refused.client.uid, Some(0));
        assert_eq!(refused.verdict.cause, Cause::NothingListening);
    }
    fixture.end();
}

/// A name chosen to clear the screen, to ring, to break the line and to imitate another name.
const HOSTILE: &[u8] = b"\x1b[2J\x07\nred\"\\\x7f";
/// The same as the log has it: a program that prints it without a check does no harm.
const SHOWN: &str = r#"\x1b[2J\x07\nred"\\\x7f"#;

fn hostile() -> ProcessSpec {
    ProcessSpec::named(HOSTILE).shown_as(SHOWN)
}

fn a_hostile_name_is_escaped_in_json() {
    let mut fixture = Fixture::begin();
    let gateway = fixture.listen(Listen::at("10.77.0.1").by(hostile()));
    fixture.trace();
    let client = Client::blocking("127.0.0.1").by(hostile());
    fixture.refused(client).cause(Cause::WrongAddress).evaluates(&gateway, Mismatch::Address);
    // What is not UTF-8, and what turns the text around.
    let spec = ProcessSpec::named(b"\xff\xfe\xc3(").shown_as(r"\xff\xfe\xc3(");
    fixture.refused(Client::blocking("127.0.0.1").by(spec));
    let spec = ProcessSpec::named("a\u{202e}b\u{9b}").shown_as(r"a\u{202e}b\u{9b}");
    fixture.refused(Client::blocking("127.0.0.1").by(spec));
    fixture.end();
}

/// Text without its colours (`ESC [ ... m`, ECMA-48), which are the tracer's own.
fn without_colour(text: &str) -> String {
    let mut pieces = text.split("\x1b[");
    let mut plain = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        match piece.split_once('m') {
            Some((colour, rest)) if colour.bytes().all(|byte| byte.is_ascii_digit() || byte == b';') => {
                plain.push_str(rest);
            }
            _ => plain.push_str(&format!("\x1b[{piece}")),
        }
    }
    plain
}

/// Without colour, every colour sequence is left out.
fn a_hostile_name_in_text(color: &str) {
    let mut fixture = Fixture::begin();
    let _gateway = fixture.listen(Listen::at("10.77.0.1").by(hostile()));
    let port = fixture.port().to_string();
    let mut tracer = Running::spawn(["-p", &port, "-o", "text", "--color", color, "-c", "1"]);
    let reader = tracer.read_stdout();
    tracer.wait_ready();
    let mut client = Actor::start(&fixture.netns.place(), &hostile());
    let command = fixture.connect_command(&"127.0.0.1".into());
    assert_eq!(client.ask(&command), Err(Errno::CONNREFUSED.raw_os_error()));
    assert_eq!(tracer.wait_exit().code(), Some(0), "{}", tracer.stderr());
    let bytes = reader.join().expect("to read the text");
    let text = without_colour(&String::from_utf8(bytes).expect("text is UTF-8"));
    let shown = format!("{}{}", text, tracer.stderr());
    let control = shown.chars().find(|&char| char.is_control() && char != '\n');
    assert_eq!(control, None, "{}", shown.escape_debug());
    assert!(text.lines().any(|line| line.contains("red") && line.contains("wrong-address")), "{text}");
    assert!(text.lines().any(|line| line.contains("red") && line.contains("10.77.0.1")), "{text}");
}

fn a_link_local_address_has_its_zone() {
    let mut fixture = Fixture::with_ports(2);
    // On one port a listener elsewhere, on the other a listener on the link-local address itself.
    let gateway = fixture.listen("[fd77::1]");
    let local = fixture.listen(Listen::at("[fe80::77%eth0]").port(1));
    fixture.trace();
    let refused = |fixture: &mut Fixture, client: Client| {
        let refusal = fixture.refused(client);
        assert_eq!(refusal.line.dst.addr, "fe80::77%eth0", "{}", refusal.shown());
        refusal.cause(Cause::WrongAddress).evaluates(&gateway, Mismatch::Address);
    };
    refused(&mut fixture, Client::blocking("[fe80::77%eth0]"));
    refused(&mut fixture, Client::nonblocking("[fe80::77%eth0]"));
    fixture
        .refused(Client::blocking("[::1]").port(1))
        .cause(Cause::WrongAddress)
        .evaluates(&local, Mismatch::Address);
    fixture.answered(Client::blocking("[fe80::77%eth0]").port(1));
    assert_eq!(fixture.end().refusals().count(), 3);
}

/// A multipath socket shows in the kernel twice, once for its TCP subflow.
fn multipath_once() {
    let mut fixture = Fixture::begin();
    let gateway = fixture.listen(Listen::at("10.77.0.1").mptcp());
    fixture.trace();
    for client in [Client::blocking("127.0.0.1"), Client::nonblocking("127.0.0.1")] {
        fixture.refused(client.mptcp()).cause(Cause::WrongAddress).evaluates(&gateway, Mismatch::Address);
    }
    fixture.answered(Client::blocking("10.77.0.1").mptcp());
    assert_eq!(fixture.end().refusals().count(), 2);
}

/// Either side may have but TCP, and one listener answers both families.
fn multipath_on_one_side() {
    let mut fixture = Fixture::with_ports(2);
    let gateway = fixture.listen(Listen::at("[::]").mptcp());
    let plain = fixture.listen(Listen::at("10.77.0.1").port(1));
    fixture.trace();
    fixture.answered("127.0.0.1");
    fixture.answered(Client::nonblocking("[::1]").mptcp());
    fixture.answered(Client::blocking("10.77.0.1").port(1).mptcp());
    fixture
        .refused(Client::blocking("[::1]").port(1).mptcp())
        .cause(Cause::WrongAddress)
        .evaluates_only(1)
        .evaluates(&plain, Mismatch::Family);
    let mut gateway = gateway;
    fixture.close(&mut gateway);
    fixture
        .refused("127.0.0.1")
        .cause(Cause::Stopped)
        .evaluates_only(1)
        .evaluates(&gateway, Mismatch::Closed);
    let log = fixture.end();
    assert_eq!(log.refusals().count(), 2, "{}", log.text());
}

/// The kernel connects in a thread of its own: it is reported as the process whose thread it is.
fn uring(way: &'static str) {
    let mut fixture = Fixture::begin();
    let gateway = fixture.listen("10.77.0.1");
    fixture.trace();
    for (number, client) in [
        Client::blocking("127.0.0.1"),
        Client::blocking("[::1]"),
        Client::blocking("[::ffff:127.0.0.1]"),
        Client::blocking("0.0.0.0"),
        Client::nonblocking("127.0.0.1"),
    ]
    .into_iter()
    .enumerate()
    {
        let spec = ProcessSpec::named(format!("server{number}")).uid(65_534);
        let refusal = fixture.refused(client.with(way).by(spec));
        let mismatch = if refusal.line.dst.addr.contains(':') { Mismatch::Family } else { Mismatch::Address };
        refusal.cause(Cause::WrongAddress).evaluates_only(1).evaluates(&gateway, mismatch);
        let (client, shown) = (&refusal.line.client, refusal.shown());
        assert_eq!(client.ns_pid, Some(refusal.actor.pid), "{shown}");
        assert_eq!(client.ppid, Some(std::process::id()), "{shown}");
        assert_eq!(client.uid, Some(65_534), "{shown}");
        let exe = std::env::current_exe().expect("the path of this test binary");
        assert_eq!(client.exe.as_deref(), exe.to_str(), "{shown}");
    }
    fixture.answered(Client::blocking("10.77.0.1").with(way));
    let log = fixture.end();
    assert_eq!(log.stop().refused, 5, "{}", log.text());
    assert!(log.stop().failed.is_empty(), "{}", log.text());
}

/// `net.ipv4.tcp_fastopen`: clients, servers, and clients that send data without having a cookie.
const CLIENT: u8 = 1;
const SERVER: u8 = 2;
const WITHOUT_COOKIE: u8 = 4;

fn allow_fast_open(netns: &Netns, who: u8) {
    let mut command = std::process::Command::new("tee");
    command.arg("/proc/sys/net/ipv4/tcp_fastopen");
    run(netns.enter(&mut command), &who.to_string());
}

fn fast_open(who: u8) {
    let mut fixture = Fixture::begin();
    allow_fast_open(&fixture.netns, who | SERVER);
    let gateway = fixture.listen(Listen::at("10.77.0.1").with("fastopen"));
    fixture.trace();
    // The first to 10.77.0.1 is given a cookie, which the next ones use. Where none is needed, connect() does
    // nothing until there is something to send: see `fast_open_unsent`.
    let ways: &[&[&str]] = if who & WITHOUT_COOKIE == 0 {
        &[&["fastopen"], &["fastopen", "write"], &["sendto"]]
    } else {
        &[&["fastopen", "write"], &["sendto"]]
    };
    let with =
        |addr, way: &[&'static str]| way.iter().fold(Client::blocking(addr), |to, option| to.with(option));
    for way in ways {
        fixture.answered(with("10.77.0.1", way));
    }
    for way in ways {
        for (addr, mismatch) in [("127.0.0.1", Mismatch::Address), ("[::1]", Mismatch::Family)] {
            let refusal = fixture.refused(with(addr, way));
            refusal.cause(Cause::WrongAddress).evaluates_only(1).evaluates(&gateway, mismatch);
        }
    }
    let log = fixture.end();
    assert_eq!(log.stop().refused, 2 * ways.len() as u64, "{}", log.text());
    assert_eq!(log.listeners().count(), 1, "{}", log.text());
    assert!(log.stop().failed.is_empty(), "{}", log.text());
}

/// With data to come connect() succeeds before anything is sent: a client that then sends nothing has given up.
fn fast_open_unsent() {
    let mut fixture = Fixture::begin();
    allow_fast_open(&fixture.netns, CLIENT | WITHOUT_COOKIE);
    fixture.trace_with(&["--all"]);
    let port = fixture.port();
    let mut unsent = client(&fixture, "unsent");
    unsent.must(&format!("connect 127.0.0.1:{port} fastopen keep"));
    unsent.close();
    fixture
        .refused(Client::blocking("127.0.0.1").with("fastopen").with("write"))
        .cause(Cause::NothingListening);
    let log = fixture.end();
    assert_eq!(log.stop().refused, 1, "{}", log.text());
    assert_failed(&log, port, &[(&unsent, "127.0.0.1", None)]);
}

/// A client that chose the watched port as its own, as some do to pass a firewall, is not a server that has yet to
/// listen: not while it connects, and not once it is connected.
fn own_port_is_watched(to: &str, options: &str) {
    let mut fixture = Fixture::begin();
    let (watched, other) = (fixture.port(), Port::take());
    if to == "127.0.0.3" {
        drop_all(&fixture, other.number);
    }
    let mut server = client(&fixture, "other");
    server.must(&format!("bind 127.0.0.1:{}", other.number));
    server.listen(16).expect("to listen");
    fixture.trace_with(&["--all"]);
    let mut busy = client(&fixture, "busy");
    busy.must(&format!("connect {to}:{} from={to}:{watched}{options}", other.number));
    // On its own address, and on others.
    for addr in [to, "127.0.0.9", "[::1]"] {
        fixture.refused(addr).cause(Cause::NothingListening).evaluates_only(0);
    }
    busy.close();
    fixture.refused(Client::nonblocking(to)).cause(Cause::NothingListening).evaluates_only(0);
    let log = fixture.end();
    assert_eq!(log.stop().refused, 4, "{}", log.text());
    assert_failed(&log, watched, &[]);
    assert_eq!(log.listeners().count(), 0, "{}", log.text());
}

/// Each connect of a socket counts, whatever came of the last one.
fn one_socket_is_refused_again() {
    let mut fixture = Fixture::with_ports(2);
    let [port, filtered] = [0, 1].map(|number| fixture.ports[number].number);
    drop_all(&fixture, filtered);
    fixture.trace_with(&["--all"]);
    let refused: Result<String, i32> = Err(Errno::CONNREFUSED.raw_os_error());
    let mut retry = client(&fixture, "retry");
    retry.must(&format!("connect 127.0.0.1:{port} pending"));
    assert_eq!(retry.ask("outcome"), refused);
    for _ in 0..3 {
        // The first call ends the attempt before, whose error has been taken (`__inet_stream_connect`).
        let outcomes = [(); 2].map(|()| retry.ask(&format!("again 127.0.0.1:{port} nonblocking")));
        assert_eq!(outcomes, [Err(Errno::CONNABORTED.raw_os_error()), refused.clone()]);
    }
    let mut other = client(&fixture, "other");
    other.must(&format!("connect 127.0.0.1:{filtered} pending"));
    other.must("disconnect");
    assert_eq!(other.ask(&format!("again 127.0.0.1:{port} nonblocking")), refused);
    let log = fixture.end();
    let shown: Vec<_> = log.tally().iter().map(|(refused, count)| (refused.client.pid, *count)).collect();
    assert_eq!(shown, [(Some(retry.pid), 4), (Some(other.pid), 1)], "{}", log.text());
    assert_failed(&log, filtered, &[(&other, "127.0.0.1", None)]);
}

/// A connect through the interface that carries the address: `lo` for loopback, else the one that has it.
fn bound_to_a_device() {
    let mut fixture = Fixture::with_ports(2);
    let wrong = fixture.listen(Listen::at("0.0.0.0").device("eth0"));
    let other = fixture.listen(Listen::at("0.0.0.0").device("lo").port(1));
    fixture.trace();
    let via = |addr, device| Client::blocking(addr).with(device);
    for client in [via("127.0.0.1", "device=lo"), Client::nonblocking("127.0.0.1").with("device=lo")] {
        fixture
            .refused(client)
            .cause(Cause::WrongDevice)
            .evaluates_only(1)
            .evaluates(&wrong, Mismatch::Device);
    }
    fixture
        .refused(via("10.77.0.1", "device=eth0").port(1))
        .cause(Cause::WrongDevice)
        .evaluates_only(1)
        .evaluates(&other, Mismatch::Device);
    fixture
        .refused(via("[fd77::1]", "device=eth0"))
        .cause(Cause::WrongFamily)
        .evaluates_only(1)
        .evaluates(&wrong, Mismatch::Family);
    fixture.answered(via("10.77.0.1", "device=eth0"));
    fixture.answered(via("127.0.0.1", "device=lo").port(1));
    let log = fixture.end();
    assert_eq!(log.stop().refused, 4, "{}", log.text());
    assert!(log.stop().failed.is_empty(), "{}", log.text());
}

/// The process that called connect() was refused, whichever process holds the socket then.
fn one_that_passed_its_socket_on() {
    let mut fixture = Fixture::begin();
    drop_all(&fixture, fixture.port());
    fixture.trace();
    let [mut first, mut heir] = ["first", "heir"].map(|comm| client(&fixture, comm));
    first.must(&format!("connect 127.0.0.1:{} pending", fixture.port()));
    let mailbox = heir.mailbox();
    first.pass(&mailbox);
    heir.take();
    assert_eq!(first.exit(0).code(), Some(0));
    // The next SYN is refused.
    fixture.netns.nft("delete table inet firewall");
    assert_eq!(heir.ask("outcome"), Err(Errno::CONNREFUSED.raw_os_error()));
    let refused = fixture.tracer().refused(first.pid);
    assert_eq!(refused.client.comm.as_deref(), Some("first"), "{refused:?}");
    assert_eq!(
        (refused.dst.addr.as_str(), refused.dst.port),
        ("127.0.0.1", Some(fixture.port())),
        "{refused:?}"
    );
    assert_eq!(refused.verdict.cause, Cause::NothingListening, "{refused:?}");
    let log = fixture.end();
    assert_eq!(log.stop().refused, 1, "{}", log.text());
    assert!(log.stop().failed.is_empty(), "{}", log.text());
}

fn an_answered_connect_is_not_a_refusal() {
    let mut fixture = Fixture::begin();
    let _gateway = fixture.listen("[::]");
    fixture.trace();
    for addr in ["127.0.0.1", "[::1]", "10.77.0.1", "[fd77::1]", "[::ffff:127.0.0.1]", "0.0.0.0", "[::]"] {
        fixture.answered(Client::blocking(addr));
        fixture.answered(Client::nonblocking(addr));
    }
    let log = fixture.end();
    assert_eq!(log.refusals().count(), 0, "{}", log.text());
    // Each connection that is accepted begins as a copy of the listener: the listener does not change.
    assert_eq!(log.listeners().count(), 1, "{}", log.text());
}

/// A client that closes its socket before any answer has not been refused, and nor has one whose connect
/// fails otherwise.
fn giving_up_is_not_a_refusal() {
    let mut fixture = Fixture::begin();
    let port = fixture.port();
    fixture.netns.nft(&format!(
        "table inet firewall {{
            chain input {{
                type filter hook input priority 0
                ip daddr 127.0.0.2 tcp dport {port} drop
                ip daddr 127.0.0.3 tcp dport {port} reject with icmp host-unreachable
            }}
        }}"
    ));
    fixture.trace();
    let mut client = Actor::start(&fixture.netns.place(), &ProcessSpec::named("hasty"));
    let command = format!("connect 127.0.0.2:{port} nonblocking abandon");
    assert_eq!(client.ask(&command), Err(Errno::INPROGRESS.raw_os_error()));
    let command = format!("connect 127.0.0.3:{port} nonblocking");
    assert_eq!(client.ask(&command), Err(Errno::HOSTUNREACH.raw_os_error()));
    fixture.refused("127.0.0.1").cause(Cause::NothingListening);
    let log = fixture.end();
    assert_eq!(log.refusals().count(), 1, "{}", log.text());
}

/// How a connect that is under way ends early.
type Cancel = fn(&mut Actor, u16);

const CANCELLED: [(&str, Cancel); 7] = [
    ("closed", |client, port| {
        client.must(&format!("connect 127.0.0.1:{port} pending"));
        client.close();
    }),
    ("disconnected", |client, port| {
        client.must(&format!("connect 127.0.0.1:{port} pending"));
        client.must("disconnect");
    }),
    ("shut_down", |client, port| {
        client.must(&format!("connect 127.0.0.1:{port} pending"));
        client.must("shutdown");
    }),
    ("killed", |client, port| {
        client.must(&format!("connect 127.0.0.1:{port} pending"));
        client.kill();
    }),
    ("killed_while_it_blocks", |client, port| {
        client.send(&format!("connect 127.0.0.1:{port}"));
        wait_for_syn_sent(client, port);
        client.kill();
    }),
    ("interrupted", |client, port| {
        client.send(&format!("connect 127.0.0.1:{port}"));
        wait_for_syn_sent(client, port);
        client.signal(Signal::USR1);
        assert_eq!(client.outcome(), Err(Errno::INTR.raw_os_error()));
    }),
    ("by_uring", |client, port| {
        let outcome = client.ask(&format!("connect 127.0.0.1:{port} uring=cancel"));
        assert_eq!(outcome, Err(Errno::CANCELED.raw_os_error()));
    }),
];

/// Waits until the kernel lists a socket of the client's namespace in SYN-SENT to this port.
fn wait_for_syn_sent(client: &Actor, port: u16) {
    let remote = format!(":{port:04X}");
    poll("a socket in SYN-SENT", || {
        let table = format!("/proc/{}/net/tcp", client.pid);
        let sockets = std::fs::read_to_string(table).expect("the kernel's table of sockets");
        let is_it = |line: &str| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            fields.get(2).is_some_and(|addr| addr.ends_with(&remote)) && fields.get(3) == Some(&"02")
        };
        sockets.lines().any(is_it).then_some(())
    });
}

/// Nothing listens and the reset is sent, but it does not come before the connect has ended.
fn cancelled(cancel: Cancel) {
    let mut fixture = Fixture::begin();
    let port = fixture.port();
    fixture.netns.nft(&format!(
        "table inet firewall {{
            chain input {{
                type filter hook input priority 0
                tcp sport {port} tcp flags & rst == rst drop
            }}
        }}"
    ));
    fixture.trace_with(&["--all"]);
    let mut hasty = client(&fixture, "hasty");
    cancel(&mut hasty, port);
    // With the filter removed, the same is refused.
    fixture.netns.nft("delete table inet firewall");
    fixture.refused("127.0.0.1").cause(Cause::NothingListening).evaluates_only(0);
    let log = fixture.end();
    assert_eq!(log.stop().refused, 1, "{}", log.text());
    assert_failed(&log, port, &[(&hasty, "127.0.0.1", None)]);
}

fn a_timeout_is_not_a_refusal() {
    let mut fixture = Fixture::begin();
    let port = fixture.port();
    fixture.netns.nft(&format!(
        "table inet firewall {{
            chain input {{
                type filter hook input priority 0
                ip daddr 127.0.0.2 tcp dport {port} drop
                ip6 daddr ::1 tcp dport {port} drop
                ip daddr 127.0.0.3 tcp dport {port} reject with icmp admin-prohibited
            }}
        }}"
    ));
    // A listener up behind the filter makes no difference.
    let _gateway = fixture.listen("0.0.0.0");
    fixture.trace_with(&["--all"]);
    let mut clients: Vec<(Actor, &str, &str)> = [
        ("127.0.0.2", "", "ETIMEDOUT"),
        ("127.0.0.2", " nonblocking", "ETIMEDOUT"),
        ("[::1]", "", "ETIMEDOUT"),
        ("[::ffff:127.0.0.2]", " sendto", "ETIMEDOUT"),
        // What is sent through one interface to the address of another is not answered either.
        ("127.0.0.1", " device=eth0", "ETIMEDOUT"),
        // The error is reported immediately; a blocking connect returns it only at its second SYN.
        ("127.0.0.3", "", "EHOSTUNREACH"),
    ]
    .into_iter()
    .enumerate()
    .map(|(number, (addr, options, errno))| {
        let mut slow = client(&fixture, &format!("slow{number}"));
        slow.send(&format!("connect {addr}:{port} usertimeout=100{options}"));
        (slow, addr, errno)
    })
    .collect();
    for (slow, addr, errno) in &mut clients {
        let expected = if *errno == "ETIMEDOUT" { Errno::TIMEDOUT } else { Errno::HOSTUNREACH };
        assert_eq!(slow.outcome(), Err(expected.raw_os_error()), "to {addr}");
        *addr = addr.trim_matches(['[', ']']).trim_start_matches("::ffff:");
    }
    let log = fixture.end();
    assert_eq!(log.stop().refused, 0, "{}", log.text());
    let failed: Vec<_> = clients.iter().map(|(slow, addr, errno)| (slow, *addr, Some(*errno))).collect();
    assert_failed(&log, port, &failed);
}

/// The kernel drops what a listener has no room for: no reset.
fn a_full_accept_queue_is_not_a_refusal() {
    let mut fixture = Fixture::begin();
    let port = fixture.port();
    fixture.trace_with(&["--all"]);
    let mut gateway = client(&fixture, "gateway");
    gateway.must(&format!("bind 127.0.0.1:{port}"));
    // Room for one more than `listen()` asked for (`sk_acceptq_is_full`, include/net/sock.h).
    gateway.listen(0).expect("to listen");
    let [mut first, mut second] = ["first", "second"].map(|comm| client(&fixture, comm));
    first.must(&format!("connect 127.0.0.1:{port} keep"));
    let outcome = second.ask(&format!("connect 127.0.0.1:{port} usertimeout=100"));
    assert_eq!(outcome, Err(Errno::TIMEDOUT.raw_os_error()));
    gateway.must("accept");
    fixture.answered("127.0.0.1");
    let log = fixture.end();
    assert_eq!(log.stop().refused, 0, "{}", log.text());
    assert_failed(&log, port, &[(&second, "127.0.0.1", Some("ETIMEDOUT"))]);
    assert_eq!(log.listeners().count(), 1, "{}", log.text());
}

/// Without a route nothing is tried, so nothing is seen.
fn an_unreachable_network_is_not_a_refusal() {
    let mut fixture = Fixture::begin();
    let port = fixture.port();
    let down = Netns::bare();
    fixture.netns.ip("route add unreachable 10.98.1.0/24
        route add prohibit 10.98.2.0/24
        route add blackhole 10.98.3.0/24
        route add unreachable fd98::/64");
    fixture.trace_with(&["--all"]);
    for (netns, addr, errno) in [
        (&down, "127.0.0.1", Errno::NETUNREACH),
        // Its address is there once the interface is up.
        (&down, "[::1]", Errno::ADDRNOTAVAIL),
        (&fixture.netns, "10.99.0.1", Errno::NETUNREACH),
        (&fixture.netns, "[2001:db8:99::1]", Errno::NETUNREACH),
        (&fixture.netns, "10.98.1.1", Errno::HOSTUNREACH),
        (&fixture.netns, "10.98.2.1", Errno::ACCESS),
        (&fixture.netns, "10.98.3.1", Errno::INVAL),
        (&fixture.netns, "[fd98::1]", Errno::HOSTUNREACH),
    ] {
        for options in ["", " nonblocking", " sendto"] {
            let mut lost = Actor::start(&netns.place(), &ProcessSpec::named("lost"));
            let outcome = lost.ask(&format!("connect {addr}:{port}{options}"));
            assert_eq!(outcome, Err(errno.raw_os_error()), "{addr}{options}");
        }
    }
    fixture.refused("127.0.0.1").cause(Cause::NothingListening).evaluates_only(0);
    let log = fixture.end();
    assert_eq!(log.stop().refused, 1, "{}", log.text());
    assert_failed(&log, port, &[]);
}

/// A client whose own port is the one it connects to meets itself (simultaneous open, RFC 9293 3.5).
fn connecting_to_oneself_is_not_a_refusal() {
    let mut fixture = Fixture::begin();
    let port = fixture.port();
    fixture.trace_with(&["--all"]);
    for addr in ["127.0.0.1", "[::1]"] {
        let mut narcissus = client(&fixture, "narcissus");
        let local = narcissus.must(&format!("connect {addr}:{port} from={addr}:{port}"));
        assert_eq!(local, port.to_string());
    }
    let log = fixture.end();
    assert_eq!(log.stop().refused, 0, "{}", log.text());
    assert_failed(&log, port, &[]);
    assert_eq!(log.listeners().count(), 0, "{}", log.text());
}

fn two_tracers_see_the_same() {
    let mut fixture = Fixture::begin();
    let gateway = fixture.listen("10.77.0.1");
    fixture.trace();
    let mut second = Tracer::start(&[fixture.port()], &[]);
    let mut pids = Vec::new();
    for addr in ["127.0.0.1", "[::1]", "[::ffff:127.0.0.1]"] {
        for refusal in fixture.all_refused([Client::blocking(addr), Client::nonblocking(addr)]) {
            refusal.cause(Cause::WrongAddress);
            pids.push(refusal.actor.pid);
        }
    }
    // An event is not given to one of them only.
    for &pid in &pids {
        second.refused(pid);
    }
    let first = fixture.end();
    let second = second.stop();
    drop(gateway);
    assert_ne!(first.lines[0].run, second.lines[0].run);
    let by_pid = |log: &tests::tracer::Log| {
        let facts = log.refusals().map(|refused| {
            let listeners = refused.verdict.listeners.iter();
            let listeners: Vec<_> =
                listeners.map(|evaluated| (evaluated.listener.cookie.clone(), evaluated.mismatch)).collect();
            let facts = (refused.src.clone(), refused.dst.clone(), refused.via, refused.sent_by);
            (refused.client.pid, (facts, refused.verdict.cause, listeners))
        });
        let mut facts: Vec<_> = facts.collect();
        facts.sort_by_key(|(pid, _)| *pid);
        facts
    };
    assert_eq!(by_pid(&first), by_pid(&second));
    assert_eq!(first.refusals().count(), pids.len());
}

/// A refusal is delivered in whatever context the CPU is in: with both CPUs full of other connects that is
/// often another process's. No two clients have the same name, so that the counts of repeats are by client too.
fn the_right_pid_under_load() {
    const CLIENTS: usize = 50;
    const EACH: usize = 100;
    let mut fixture = Fixture::begin();
    let unwatched = Port::take();
    fixture.trace();
    let place = fixture.netns.place();
    let cpus = std::thread::available_parallelism().map_or(2, usize::from);
    let strangers: Vec<Actor> = (0..cpus)
        .map(|_| {
            let mut other_process = Actor::start(&place, &ProcessSpec::named("other_process"));
            other_process.must(&format!("noise 127.0.0.1:{}", unwatched.number));
            other_process
        })
        .collect();
    let mut clients: Vec<Actor> = (0..CLIENTS)
        .map(|number| Actor::start(&place, &ProcessSpec::named(format!("client{number}"))))
        .collect();
    for (number, client) in clients.iter_mut().enumerate() {
        let addr = if number % 2 == 0 { "127.0.0.1" } else { "[::1]" };
        client.send(&format!("flood {addr}:{} {EACH}", fixture.port()));
    }
    // Which local ports each client was refused on, by its own account.
    let mut expected: BTreeMap<u32, (String, Vec<u16>)> = BTreeMap::new();
    for client in &clients {
        let ports = client.outcome().unwrap_or_else(|errno| panic!("a flood ended with errno {errno}"));
        let ports: Vec<u16> = ports.split(' ').map(|port| port.parse().expect("a port")).collect();
        assert_eq!(ports.len(), EACH);
        expected.insert(client.pid, (client.comm.clone(), ports));
    }
    drop(strangers);

    let log = fixture.tracer.take().expect("a fixture that is traced").stop_with_losses();
    let mut counts: BTreeMap<u32, u64> = BTreeMap::new();
    for (refused, count) in log.tally() {
        let pid = refused.client.pid.expect("a pid");
        let (comm, ports) = expected.get(&pid).unwrap_or_else(|| panic!("{refused:?} is of no client"));
        assert_eq!(refused.client.comm.as_ref(), Some(comm));
        assert!(ports.contains(&refused.src.port.expect("a source port")), "{refused:?}");
        let counted = counts.entry(pid).or_default();
        // One line each, but where the kernel skipped the programs that see the reset: such a verdict is degraded.
        let is_uncertain = refused.verdict.because.contains(&Because::LostRecords);
        assert!(*counted == 0 || log.skipped() > 0 || is_uncertain, "{refused:?} is a second line");
        *counted += count;
    }
    for (pid, (comm, _)) in &expected {
        let count = counts.get(pid).copied().unwrap_or_else(|| panic!("{comm} is not reported"));
        let is_all = count == EACH as u64 || count < EACH as u64 && log.skipped() > 0;
        assert!(is_all, "{count} of process {pid}; {:?}", log.stop());
    }
    log.assert_refused((CLIENTS * EACH) as u64);
}

/// A tracer that is kept from reading loses records, counts them, and reports the others correctly.
fn what_a_full_ring_loses_is_counted() {
    const CLIENTS: usize = 2;
    const EACH: usize = 8_000;
    let mut fixture = Fixture::begin();
    fixture.trace();
    let place = fixture.netns.place();
    let mut clients: Vec<Actor> = (0..CLIENTS)
        .map(|number| Actor::start(&place, &ProcessSpec::named(format!("client{number}"))))
        .collect();
    fixture.tracer().signal(Signal::STOP);
    for client in &mut clients {
        client.send(&format!("flood 127.0.0.1:{} {EACH}", fixture.port()));
    }
    for client in &clients {
        client.outcome().unwrap_or_else(|errno| panic!("a flood ended with errno {errno}"));
    }
    fixture.tracer().signal(Signal::CONT);
    let log = fixture.tracer.take().expect("a fixture that is traced").stop_with_losses();
    let mut lost = 0;
    for line in &log.lines {
        if let Body::Lost(loss) = &line.body {
            assert!(matches!(loss.place, LostWhere::Ring | LostWhere::Recursion), "{loss:?}");
            assert!(loss.from <= loss.to, "{loss:?}");
            lost += usize::try_from(loss.records).expect("a count");
        }
    }
    let shown = usize::try_from(log.stop().refused).expect("a count");
    assert!(shown < CLIENTS * EACH, "the ring held all of it");
    assert!(shown + lost >= CLIENTS * EACH, "{shown} reported and {lost} lost of {}", CLIENTS * EACH);
    for (refused, count) in log.tally() {
        let client = clients.iter().find(|client| refused.client.pid == Some(client.pid));
        let client = client.unwrap_or_else(|| panic!("{refused:?} is of no client"));
        assert_eq!(refused.client.comm.as_ref(), Some(&client.comm));
        assert!(count <= EACH as u64, "{count} of {}", client.comm);
    }
}
