//! Network namespaces that come and go while the tracer runs, that have no name, that are asked for, and
//! that another one's addresses lead into.

use std::time::{Duration, Instant};

use libtest_mimic::Trial;
use tracer::output::schema::{Because, Cause, Mismatch};

use tests::fixture::{Client, Fixture, Listen};
use tests::needs::Need;
use tests::netns::Netns;
use tests::poll;
use tests::process::{Actor, ProcessSpec};
use tests::suite::test;

const NEEDS: &[Need] = &[Need::Root, Need::Network];

pub fn all() -> Vec<Trial> {
    vec![
        test("namespaces::one_created_meanwhile", NEEDS, one_created_meanwhile),
        test("namespaces::one_deleted_meanwhile_is_forgotten", NEEDS, one_deleted_is_forgotten),
        test("namespaces::a_reused_number_has_no_history", NEEDS, a_reused_number_has_no_history),
        test("namespaces::none_is_kept_open", NEEDS, none_is_kept_open),
        test("namespaces::an_address_in_several_is_ambiguous", NEEDS, ambiguous),
        test("namespaces::an_address_that_a_container_copies", NEEDS, copied),
        test("namespaces::the_address_that_a_container_has_copied", NEEDS, copied_from),
        test("namespaces::filter_by_name", NEEDS, || filter(|fixture| fixture.netns.name.clone())),
        test("namespaces::filter_by_path", NEEDS, || {
            filter(|fixture| fixture.netns.path().display().to_string());
        }),
        test("namespaces::filter_by_pid", NEEDS, filter_by_pid),
    ]
}

fn one_created_meanwhile() {
    let mut fixture = Fixture::begin();
    fixture.trace();
    let created = Netns::with_eth0();
    let gateway = fixture.listen_in(&created, "10.77.0.1");
    for addr in ["127.0.0.1", "[::1]", "[::ffff:127.0.0.1]"] {
        for client in [Client::blocking(addr), Client::nonblocking(addr)] {
            let refusal = fixture.refused_in(&created, client);
            refusal.cause(Cause::WrongAddress).evaluates_only(1);
            let expected = if addr == "[::1]" { Mismatch::Family } else { Mismatch::Address };
            refusal.evaluates(&gateway, expected);
        }
    }
    // Nothing has ever listened in this one, and its first record is a refusal.
    let silent = Netns::with_eth0();
    fixture
        .refused_in(&silent, "127.0.0.1")
        .verdict(Cause::OtherNetns, &[Because::UnverifiedServer])
        .evaluates(&gateway, Mismatch::Netns);
    fixture.end();
}

fn one_deleted_is_forgotten() {
    let mut fixture = Fixture::begin();
    let deleted = Netns::with_eth0();
    let present = fixture.listen_in(&deleted, "127.0.0.1");
    fixture.trace();
    let opened = fixture.listen_in(&deleted, "127.0.0.2");
    fixture.refused("127.0.0.1").verdict(Cause::OtherNetns, &[Because::UnverifiedServer]).evaluates_only(2);
    let pids = [present.pid, opened.pid];
    drop((present, opened));
    drop(deleted);
    for pid in pids {
        fixture.closed(pid);
    }
    fixture.refused("127.0.0.1").cause(Cause::NothingListening).evaluates_only(0);
    fixture.end();
}

/// As pasta does it: the container has the host's address, and the server listens in the container.
fn copied() {
    let mut fixture = Fixture::with_ports(2);
    let [host, container] = [Netns::with_eth0(), Netns::with_eth0()];
    fixture.trace();
    let gateway = fixture.listen_in(&container, "0.0.0.0");
    let refusal = fixture.refused_in(&host, "10.77.0.1");
    refusal.verdict(Cause::OtherNetns, &[Because::UnverifiedServer]).evaluates(&gateway, Mismatch::Netns);
    assert_shared(&refusal.shown(), &container, "the client's own");
    drop(refusal);
    // Each namespace has loopback.
    let shown = fixture.refused_in(&host, "127.0.0.1").shown();
    assert!(!shown.contains("is local in"), "{shown}");
    // What would not answer there explains nothing.
    let _inside = fixture.listen_in(&container, Listen::at("127.0.0.1").port(1));
    let shown = fixture.refused_in(&host, Client::blocking("10.77.0.1").port(1)).shown();
    assert!(!shown.contains("is local in"), "{shown}");
    fixture.end();
}

/// The same from inside: the client means the host's server, which listened before the trace.
fn copied_from() {
    let mut fixture = Fixture::begin();
    let [host, container] = [Netns::with_eth0(), Netns::with_eth0()];
    let gateway = fixture.listen_in(&host, "10.77.0.1");
    fixture.trace();
    let refusal = fixture.refused_in(&container, Client::nonblocking("10.77.0.1"));
    refusal.verdict(Cause::OtherNetns, &[Because::UnverifiedServer]).evaluates(&gateway, Mismatch::Netns);
    assert_shared(&refusal.shown(), &host, "the client's own");
    drop(refusal);
    fixture.end();
}

fn assert_shared(shown: &str, other: &Netns, asked: &str) {
    let expected = format!("10.77.0.1 is local in network namespace {} too", other.name);
    assert!(shown.contains(&expected) && shown.contains(&format!("was asked is {asked}")), "{shown}");
}

/// The kernel gives the lowest free number to the next namespace: that of one that has ended, unless another test was
/// faster. Then the test begins again with another namespace.
fn a_reused_number_has_no_history() {
    const TRIES: usize = 20;
    let mut fixture = Fixture::begin();
    fixture.trace();
    // Held to the end: they fill the numbers below.
    let mut others = Vec::new();
    for _ in 0..TRIES {
        let old = Netns::with_eth0();
        let id = old.id;
        let mut gateway = fixture.listen_in(&old, "127.0.0.1");
        fixture.close(&mut gateway);
        fixture.refused_in(&old, "127.0.0.1").cause(Cause::Stopped).evaluates(&gateway, Mismatch::Closed);
        drop(gateway);
        drop(old);
        let Some(young) = with_number(id, &mut others) else { continue };
        fixture.refused_in(&young, "127.0.0.1").cause(Cause::NothingListening).evaluates_only(0);
        fixture.end();
        return;
    }
    panic!("none of {TRIES} numbers of namespaces was given again to one of this test");
}

/// A namespace with this number, which is about to become free; `None`: another test has it. Those that have other
/// numbers go to `others`.
fn with_number(id: u32, others: &mut Vec<Netns>) -> Option<Netns> {
    let deadline = Instant::now() + Duration::from_secs(2);
    while Instant::now() < deadline {
        let netns = Netns::bare();
        if netns.id == id {
            netns.ip("link set lo up");
            return Some(netns);
        }
        others.push(netns);
    }
    None
}

/// A tracer that kept a socket in a namespace would keep it, and its devices, from going.
fn none_is_kept_open() {
    let mut fixture = Fixture::begin();
    let deleted = Netns::with_eth0();
    fixture.netns.join("left", &deleted, "right");
    let present = fixture.listen_in(&deleted, "127.0.0.1");
    fixture.trace();
    let opened = fixture.listen_in(&deleted, "127.0.0.2");
    drop(fixture.refused_in(&deleted, "[::1]"));
    assert!(fixture.netns.has_device("left"));
    drop((present, opened));
    drop(deleted);
    // One end of the pair goes with the namespace that the other is in.
    poll("the end of a deleted namespace", || (!fixture.netns.has_device("left")).then_some(()));
    fixture.end();
}

/// Two namespaces have the address, and only one is at the other end of the veth pair.
fn ambiguous() {
    let mut fixture = Fixture::begin();
    let containers = [Netns::with_eth0(), Netns::with_eth0()];
    let [high, low] = fixture.port().to_be_bytes();
    let (here, there) = (format!("10.{high}.{low}.1"), format!("10.{high}.{low}.2"));
    fixture.netns.join("bridge", &containers[0], "uplink");
    fixture.netns.ip(&format!("addr add {here}/24 dev bridge"));
    containers[0].ip(&format!("addr add {there}/24 dev uplink"));
    containers[1].ip(&format!("addr add {there}/24 dev eth0"));
    fixture.trace();
    let refusal = fixture.refused(Client::blocking(&there));
    let because = &refusal.line.verdict.because;
    assert!(because.contains(&Because::AmbiguousNetns), "{}", refusal.shown());
    drop(refusal);
    fixture.end();
}

/// With a filter, refusals in other namespaces are not reported; the listeners there still count.
fn filter(argument: impl Fn(&Fixture) -> String) {
    let mut fixture = Fixture::begin();
    let other = Netns::with_eth0();
    let gateway = fixture.listen_in(&other, "10.77.0.1");
    let argument = argument(&fixture);
    fixture.trace_with(&["-n", &argument]);
    let netns = fixture.tracer().start_line().netns.clone().expect("a filter");
    assert_eq!((netns.id, netns.name.as_deref()), (fixture.netns.id, Some(fixture.netns.name.as_str())));
    let mut other_process = Actor::start(&other.place(), &ProcessSpec::named("other_process"));
    assert!(
        other_process.ask(&fixture.connect_command(&"127.0.0.1".into())).is_err(),
        "nothing listens there"
    );
    fixture
        .refused("127.0.0.1")
        .verdict(Cause::OtherNetns, &[Because::UnverifiedServer])
        .evaluates(&gateway, Mismatch::Netns);
    let log = fixture.end();
    assert_eq!(log.refusals().count(), 1, "{}", log.text());
}

fn filter_by_pid() {
    let resident = std::sync::OnceLock::new();
    filter(|fixture| {
        let actor = Actor::start(&fixture.netns.place(), &ProcessSpec::named("resident"));
        let pid = actor.pid.to_string();
        assert!(resident.set(actor).is_ok(), "asked once");
        pid
    });
}
