//! Who was refused: the right process, by name and number, whatever it is called and however busy the host
//! is; and which connects make no refusal.

use std::collections::BTreeMap;
use std::io::Read;

use libtest_mimic::Trial;
use rustix::io::Errno;
use rustix::process::Signal;
use tracer::line::{Body, Cause, LostWhere, Mismatch};

use crate::support::cast::{Actor, Costume};
use crate::support::needs::Need;
use crate::support::port::Port;
use crate::support::story::{Client, Listen, Story};
use crate::support::tracer::{Running, Tracer};
use crate::trial;

const NEEDS: &[Need] = &[Need::Root, Need::Network];

pub fn trials() -> Vec<Trial> {
    vec![
        trial("clients::every_field_of_a_client", NEEDS, every_field_of_a_client),
        trial("clients::a_thread_is_told_as_its_process", NEEDS, a_thread_is_told_as_its_process),
        trial("clients::one_that_ends_at_once_is_known", NEEDS, one_that_ends_at_once_is_known),
        trial("clients::a_hostile_name_is_escaped_in_json", NEEDS, a_hostile_name_is_escaped_in_json),
        trial("clients::a_hostile_name_is_escaped_in_text", NEEDS, a_hostile_name_is_escaped_in_text),
        trial("clients::a_link_local_address_has_its_zone", NEEDS, a_link_local_address_has_its_zone),
        trial("clients::multipath_is_told_once", &[Need::Root, Need::Network, Need::Mptcp], multipath_once),
        trial("clients::an_answered_connect_is_no_refusal", NEEDS, an_answered_connect_is_no_refusal),
        trial(
            "clients::giving_up_is_no_refusal",
            &[Need::Root, Need::Network, Need::Nft],
            giving_up_is_no_refusal,
        ),
        trial("clients::two_tracers_see_the_same", NEEDS, two_tracers_see_the_same),
        trial("clients::the_right_pid_under_load", NEEDS, the_right_pid_under_load),
        trial("clients::what_a_full_ring_loses_is_counted", NEEDS, what_a_full_ring_loses_is_counted),
    ]
}

fn every_field_of_a_client() {
    let mut story = Story::begin();
    story.trace();
    let refusal = story.refused(Client::nonblocking("127.0.0.1").by(Costume::named("curl").uid(65_534)));
    refusal.cause(Cause::NothingListening).weighs_only(0);
    let client = &refusal.line.client;
    let told = refusal.told();
    let pid = Some(refusal.actor.pid);
    assert_eq!((client.pid, client.ns_pid), (pid, pid), "{told}");
    assert_eq!(client.ppid, Some(std::process::id()), "{told}");
    assert_eq!(client.uid, Some(65_534), "{told}");
    assert_eq!(client.comm.as_deref(), Some("curl"), "{told}");
    let exe = std::env::current_exe().expect("the path of this test binary");
    assert_eq!(client.exe.as_deref(), exe.to_str(), "{told}");
    assert_eq!(client.container, None, "{told}");

    // It was started after the tests and before its connect: within the bounds of the log's own clock.
    let started = client.start_time.expect("a start time");
    let log = story.end();
    let line = log.lines.iter().find(|line| matches!(line.body, tracer::line::Body::Refused(_)));
    let refused_at = line.expect("the refusal").time;
    assert!(started < refused_at, "{told}");
    assert!(refused_at.0.duration_since(started.0).as_secs() < 60, "{told}");
}

/// The name and number are those of the process, not of the thread that connected.
fn a_thread_is_told_as_its_process() {
    let mut story = Story::begin();
    story.trace();
    let mut client = Actor::start(&story.netns.place(), &Costume::named("server"));
    let command = format!("connect 127.0.0.1:{} thread", story.port());
    assert_eq!(client.ask(&command), Err(Errno::CONNREFUSED.raw_os_error()));
    let refused = story.tracer().refused(client.pid);
    assert_eq!(refused.client.comm.as_deref(), Some("server"));
    story.end();
}

fn one_that_ends_at_once_is_known() {
    let mut story = Story::begin();
    story.trace();
    for number in 0..10 {
        let comm = format!("brief{number}");
        let mut client = Actor::start(&story.netns.place(), &Costume::named(&comm));
        client.tell(&format!("connect 127.0.0.1:{} nonblocking", story.port()));
        assert_eq!(client.exit(0).code(), Some(0));
        let refused = story.tracer().refused(client.pid);
        assert_eq!(refused.client.comm, Some(comm));
        assert_eq!(refused.client.uid, Some(0));
        assert_eq!(refused.verdict.cause, Cause::NothingListening);
    }
    story.end();
}

/// A name chosen to clear the screen, to ring, to break the line and to look like another.
const HOSTILE: &[u8] = b"\x1b[2J\x07\nred\"\\\x7f";
/// The same as the log has it: a program that prints it without looking does no harm.
const SHOWN: &str = r#"\x1b[2J\x07\nred"\\\x7f"#;

fn hostile() -> Costume {
    Costume::named(HOSTILE).shown_as(SHOWN)
}

fn a_hostile_name_is_escaped_in_json() {
    let mut story = Story::begin();
    let gateway = story.listen(Listen::at("10.77.0.1").by(hostile()));
    story.trace();
    let client = Client::blocking("127.0.0.1").by(hostile());
    story.refused(client).cause(Cause::WrongAddress).weighs(&gateway, Mismatch::Address);
    // What is not UTF-8, and what turns the text around.
    let costume = Costume::named(b"\xff\xfe\xc3(").shown_as(r"\xff\xfe\xc3(");
    story.refused(Client::blocking("127.0.0.1").by(costume));
    let costume = Costume::named("a\u{202e}b\u{9b}").shown_as(r"a\u{202e}b\u{9b}");
    story.refused(Client::blocking("127.0.0.1").by(costume));
    story.end();
}

fn a_hostile_name_is_escaped_in_text() {
    let mut story = Story::begin();
    let _gateway = story.listen(Listen::at("10.77.0.1").by(hostile()));
    let port = story.port().to_string();
    let mut tracer = Running::spawn(["-p", &port, "-o", "text", "--color", "never", "-c", "1"]);
    let mut stdout = tracer.take_stdout();
    let reader = std::thread::spawn(move || {
        let mut bytes = Vec::new();
        stdout.read_to_end(&mut bytes).expect("to read the text");
        bytes
    });
    tracer.wait_ready();
    let mut client = Actor::start(&story.netns.place(), &hostile());
    let command = story.connect_command(&"127.0.0.1".into());
    assert_eq!(client.ask(&command), Err(Errno::CONNREFUSED.raw_os_error()));
    assert_eq!(tracer.wait_exit().code(), Some(0), "{}", tracer.stderr());
    let bytes = reader.join().expect("to read the text");
    let text = String::from_utf8(bytes).expect("text is UTF-8");
    let shown = format!("{}{}", text, tracer.stderr());
    let control = shown.chars().find(|&char| char.is_control() && char != '\n');
    assert_eq!(control, None, "{}", shown.escape_debug());
    assert!(text.lines().any(|line| line.contains("red") && line.contains("wrong-address")), "{text}");
    assert!(text.lines().any(|line| line.contains("red") && line.contains("10.77.0.1")), "{text}");
}

fn a_link_local_address_has_its_zone() {
    let mut story = Story::with_ports(2);
    // On one port a listener elsewhere, on the other a listener on the link-local address itself.
    let gateway = story.listen("[fd77::1]");
    let local = story.listen(Listen::at("[fe80::77%eth0]").port(1));
    story.trace();
    let refused = |story: &mut Story, client: Client| {
        let refusal = story.refused(client);
        assert_eq!(refusal.line.dst.addr, "fe80::77%eth0", "{}", refusal.told());
        refusal.cause(Cause::WrongAddress).weighs(&gateway, Mismatch::Address);
    };
    refused(&mut story, Client::blocking("[fe80::77%eth0]"));
    refused(&mut story, Client::nonblocking("[fe80::77%eth0]"));
    story
        .refused(Client::blocking("[::1]").port(1))
        .cause(Cause::WrongAddress)
        .weighs(&local, Mismatch::Address);
    story.answered(Client::blocking("[fe80::77%eth0]").port(1));
    assert_eq!(story.end().refusals().count(), 3);
}

/// A multipath socket shows in the kernel twice, once for its TCP subflow.
fn multipath_once() {
    let mut story = Story::begin();
    let gateway = story.listen(Listen::at("10.77.0.1").mptcp());
    story.trace();
    for client in [Client::blocking("127.0.0.1"), Client::nonblocking("127.0.0.1")] {
        story.refused(client.mptcp()).cause(Cause::WrongAddress).weighs(&gateway, Mismatch::Address);
    }
    story.answered(Client::blocking("10.77.0.1").mptcp());
    assert_eq!(story.end().refusals().count(), 2);
}

fn an_answered_connect_is_no_refusal() {
    let mut story = Story::begin();
    let _gateway = story.listen("[::]");
    story.trace();
    for addr in ["127.0.0.1", "[::1]", "10.77.0.1", "[fd77::1]", "[::ffff:127.0.0.1]", "0.0.0.0", "[::]"] {
        story.answered(Client::blocking(addr));
        story.answered(Client::nonblocking(addr));
    }
    let log = story.end();
    assert_eq!(log.refusals().count(), 0, "{}", log.text());
    // Each connection that is accepted begins as a copy of the listener: that is no change of it.
    assert_eq!(log.listeners().count(), 1, "{}", log.text());
}

/// A client that closes its socket before any answer has not been refused, and nor has one whose connect
/// fails otherwise.
fn giving_up_is_no_refusal() {
    let mut story = Story::begin();
    let port = story.port();
    story.netns.nft(&format!(
        "table inet firewall {{
            chain input {{
                type filter hook input priority 0
                ip daddr 127.0.0.2 tcp dport {port} drop
                ip daddr 127.0.0.3 tcp dport {port} reject with icmp host-unreachable
            }}
        }}"
    ));
    story.trace();
    let mut client = Actor::start(&story.netns.place(), &Costume::named("hasty"));
    let command = format!("connect 127.0.0.2:{port} nonblocking abandon");
    assert_eq!(client.ask(&command), Err(Errno::INPROGRESS.raw_os_error()));
    let command = format!("connect 127.0.0.3:{port} nonblocking");
    assert_eq!(client.ask(&command), Err(Errno::HOSTUNREACH.raw_os_error()));
    story.refused("127.0.0.1").cause(Cause::NothingListening);
    let log = story.end();
    assert_eq!(log.refusals().count(), 1, "{}", log.text());
}

fn two_tracers_see_the_same() {
    let mut story = Story::begin();
    let gateway = story.listen("10.77.0.1");
    story.trace();
    let mut second = Tracer::start(&[story.port()], &[]);
    let mut pids = Vec::new();
    for addr in ["127.0.0.1", "[::1]", "[::ffff:127.0.0.1]"] {
        for refusal in story.all_refused([Client::blocking(addr), Client::nonblocking(addr)]) {
            refusal.cause(Cause::WrongAddress);
            pids.push(refusal.actor.pid);
        }
    }
    // An event is not given to one of them only.
    for &pid in &pids {
        second.refused(pid);
    }
    let first = story.end();
    let second = second.stop();
    drop(gateway);
    assert_ne!(first.lines[0].run, second.lines[0].run);
    let by_pid = |log: &crate::support::tracer::Log| {
        let facts = log.refusals().map(|refused| {
            let listeners = refused.verdict.listeners.iter();
            let listeners: Vec<_> =
                listeners.map(|weighed| (weighed.listener.cookie.clone(), weighed.mismatch)).collect();
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
/// often a stranger's. No two clients have the same name, so that the counts of repeats are by client too.
fn the_right_pid_under_load() {
    const CLIENTS: usize = 50;
    const EACH: usize = 100;
    let mut story = Story::begin();
    let unwatched = Port::take();
    story.trace();
    let place = story.netns.place();
    let cpus = std::thread::available_parallelism().map_or(2, usize::from);
    let strangers: Vec<Actor> = (0..cpus)
        .map(|_| {
            let mut stranger = Actor::start(&place, &Costume::named("stranger"));
            stranger.must(&format!("noise 127.0.0.1:{}", unwatched.number));
            stranger
        })
        .collect();
    let mut clients: Vec<Actor> =
        (0..CLIENTS).map(|number| Actor::start(&place, &Costume::named(format!("client{number}")))).collect();
    for (number, client) in clients.iter_mut().enumerate() {
        let addr = if number % 2 == 0 { "127.0.0.1" } else { "[::1]" };
        client.tell(&format!("flood {addr}:{} {EACH}", story.port()));
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

    let log = story.tracer.take().expect("a story that is traced").stop_with_losses();
    for (refused, count) in log.tally() {
        let pid = refused.client.pid.expect("a pid");
        // One line each: a second one is another's.
        let (comm, ports) = expected.remove(&pid).unwrap_or_else(|| panic!("{refused:?} is of no client"));
        assert_eq!(refused.client.comm, Some(comm));
        assert!(ports.contains(&refused.src.port.expect("a source port")), "{refused:?}");
        assert_eq!(count, EACH as u64, "process {pid}; {:?}", log.stop());
    }
    assert!(expected.is_empty(), "{expected:?} are not told");
    assert_eq!(log.stop().refused, (CLIENTS * EACH) as u64);
}

/// A tracer that is kept from reading loses records, says how many, and of the rest is no less right.
fn what_a_full_ring_loses_is_counted() {
    const CLIENTS: usize = 2;
    const EACH: usize = 8_000;
    let mut story = Story::begin();
    story.trace();
    let place = story.netns.place();
    let mut clients: Vec<Actor> =
        (0..CLIENTS).map(|number| Actor::start(&place, &Costume::named(format!("client{number}")))).collect();
    story.tracer().signal(Signal::STOP);
    for client in &mut clients {
        client.tell(&format!("flood 127.0.0.1:{} {EACH}", story.port()));
    }
    for client in &clients {
        client.outcome().unwrap_or_else(|errno| panic!("a flood ended with errno {errno}"));
    }
    story.tracer().signal(Signal::CONT);
    let log = story.tracer.take().expect("a story that is traced").stop_with_losses();
    let mut lost = 0;
    for line in &log.lines {
        if let Body::Lost(loss) = &line.body {
            assert!(matches!(loss.place, LostWhere::Ring | LostWhere::Recursion), "{loss:?}");
            assert!(loss.from <= loss.to, "{loss:?}");
            lost += usize::try_from(loss.records).expect("a count");
        }
    }
    let told = usize::try_from(log.stop().refused).expect("a count");
    assert!(told < CLIENTS * EACH, "the ring held all of it");
    assert!(told + lost >= CLIENTS * EACH, "{told} told and {lost} lost of {}", CLIENTS * EACH);
    for (refused, count) in log.tally() {
        let client = clients.iter().find(|client| refused.client.pid == Some(client.pid));
        let client = client.unwrap_or_else(|| panic!("{refused:?} is of no client"));
        assert_eq!(refused.client.comm.as_ref(), Some(&client.comm));
        assert!(count <= EACH as u64, "{count} of {}", client.comm);
    }
}
