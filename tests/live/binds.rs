//! What came of a server's bind() and listen(): failed, by which error and because of whom; or bound, and no
//! more.

use libtest_mimic::Trial;
use rustix::io::Errno;
use tracer::line::{Bind, Body, Call, Cause, HeldBy, Mismatch, Process};

use super::followups::{assert_recovered, seq_of};
use crate::support::cast::{Actor, Costume};
use crate::support::needs::Need;
use crate::support::netns::{Netns, run};
use crate::support::poll;
use crate::support::port::Port;
use crate::support::story::{Client, Listen, Refusal, Story};
use crate::trial;

const NEEDS: &[Need] = &[Need::Root, Need::Network];

pub fn trials() -> Vec<Trial> {
    let mut trials = vec![
        trial("binds::failed::the_port_of_a_live_client", NEEDS, the_port_of_a_live_client),
        trial("binds::failed::the_port_a_client_asked_for", NEEDS, the_port_a_client_asked_for),
        trial("binds::failed::a_socket_that_is_only_bound", NEEDS, a_socket_that_is_only_bound),
        trial("binds::failed::one_that_would_not_cover_is_no_cause", NEEDS, one_that_would_not_cover),
        trial("binds::failed::attempts_are_counted", NEEDS, attempts_are_counted),
        trial("binds::failed::success_clears_it", NEEDS, success_clears_it),
        trial("binds::failed::it_outlives_the_server", NEEDS, it_outlives_the_server),
        trial("binds::failed::not_permitted", NEEDS, not_permitted),
        trial("binds::failed::listen_of_a_wildcard", NEEDS, || {
            listen_fails("10.77.0.1", "0.0.0.0", "127.0.0.1");
        }),
        trial("binds::failed::listen_of_a_v6_wildcard", NEEDS, || listen_fails("[fd77::1]", "[::]", "[::1]")),
        trial("binds::failed::listen_and_then_nobody_does", NEEDS, listen_fails_and_nobody_does),
        trial("binds::bound::then_it_listens", NEEDS, bound_then_it_listens),
        trial("binds::bound::then_it_closes", NEEDS, bound_then_it_closes),
        trial("binds::bound::then_it_is_killed", NEEDS, bound_then_it_is_killed),
        trial("binds::bound::to_another_address", NEEDS, bound_to_another_address),
        trial("binds::bound::a_listener_comes_first", NEEDS, a_listener_comes_first),
    ];
    for (name, at, asked, to) in HELD {
        let name = format!("binds::failed::held_by_a_listener::{name}");
        trials.push(trial(name, NEEDS, move || held_by_a_listener(at, asked, to)));
    }
    for (name, at) in [("v4", "127.0.0.1"), ("v6", "[::1]"), ("v4_off_loopback", "10.77.0.1")] {
        let name = format!("binds::failed::time_wait::{name}");
        trials.push(trial(name, NEEDS, move || held_by_time_wait(at)));
    }
    for (name, asked, to) in [
        ("v4", "10.99.0.1", "127.0.0.1"),
        ("v6", "[fd99::1]", "[::1]"),
        ("of_the_other_family", "10.99.0.1", "[::1]"),
    ] {
        let name = format!("binds::failed::address_not_there::{name}");
        trials.push(trial(name, NEEDS, move || address_not_there(asked, to)));
    }
    trials
}

/// A name, what listens, what the server asks for, and where the client goes.
const HELD: [(&str, &str, &str, &str); 4] = [
    ("v4_wildcard", "10.77.0.1", "0.0.0.0", "127.0.0.1"),
    ("v6_wildcard", "[fd77::1]", "[::]", "[::1]"),
    ("v6_wildcard_for_v4", "10.77.0.1", "[::]", "127.0.0.1"),
    ("v6_wildcard_for_the_other", "[fd77::1]", "[::]", "127.0.0.1"),
];

const IN_USE: &str = "EADDRINUSE";

fn server(story: &Story) -> Actor {
    Actor::start(&story.netns.place(), &Costume::named("server"))
}

/// Lets an actor bind to the story's port; what fails must fail by this error.
fn bind(story: &Story, actor: &mut Actor, addr: &str, expected: Result<(), Errno>) {
    let outcome = actor.ask(&format!("bind {addr}:{}", story.port()));
    assert_eq!(outcome.map(drop), expected.map_err(Errno::raw_os_error), "bind to {addr}");
}

/// Asserts that the log has the call of this process, in every field.
fn assert_told(story: &mut Story, actor: &Actor, call: Call, addr: &str, errno: Option<&str>) -> Bind {
    let what = format!("{call:?} of process {} to {addr} with {errno:?}", actor.pid);
    let line = story.tracer().wait_for(&what, |line| match &line.body {
        Body::Bind(bind)
            if bind.process.pid == Some(actor.pid) && bind.call == call && bind.errno.as_deref() == errno =>
        {
            Some(bind.clone())
        }
        _ => None,
    });
    assert_eq!(line.addr, addr.trim_matches(['[', ']']), "{line:?}");
    assert_eq!((line.port, line.netns.id), (story.port(), story.netns.id), "{line:?}");
    assert_eq!(line.netns.name.as_ref(), Some(&story.netns.name), "{line:?}");
    assert_eq!(line.process.comm.as_ref(), Some(&actor.comm), "{line:?}");
    line
}

/// Asserts that the verdict is this process's failed call, and returns who held the port.
fn assert_failed(
    refusal: &Refusal,
    actor: &Actor,
    call: Call,
    addr: &str,
    errno: &str,
    times: u64,
) -> Vec<HeldBy> {
    refusal.cause(Cause::BindFailed);
    let told = refusal.told();
    let verdict = &refusal.line.verdict;
    assert_eq!(verdict.failed_binds.len(), 1, "{told}");
    let failed = &verdict.failed_binds[0];
    assert_eq!((failed.call, failed.addr.as_str()), (call, addr.trim_matches(['[', ']'])), "{told}");
    assert_eq!(Some(failed.port), refusal.line.dst.port, "{told}");
    assert_eq!(failed.netns, refusal.line.netns, "{told}");
    assert_eq!(failed.process.pid, Some(actor.pid), "{told}");
    assert_eq!(failed.process.comm.as_ref(), Some(&actor.comm), "{told}");
    assert_eq!((failed.errno.as_str(), failed.times), (errno, times), "{told}");
    assert!(verdict.candidates.is_empty(), "{told}");
    let named = format!("{}[{}]", actor.comm, actor.pid);
    assert!(verdict.summary.contains(&named) && verdict.summary.contains(errno), "{told}");
    assert!(verdict.hint.is_some(), "{told}");
    failed.held_by.clone()
}

fn held_by_a_listener(at: &str, asked: &str, to: &str) {
    let mut story = Story::begin();
    let holder = story.listen(at);
    story.trace();
    let mut server = server(&story);
    bind(&story, &mut server, asked, Err(Errno::ADDRINUSE));
    assert_told(&mut story, &server, Call::Bind, asked, Some(IN_USE));
    for client in [Client::blocking(to), Client::nonblocking(to)] {
        let refusal = story.refused(client);
        assert_failed(&refusal, &server, Call::Bind, asked, IN_USE, 1);
        let is_other = at.starts_with('[') != to.starts_with('[');
        let mismatch = if is_other { Mismatch::Family } else { Mismatch::Address };
        refusal.weighs(&holder, mismatch).weighs_only(1);
        let held = format!("held by gateway[{}] on {at}:{}", holder.pid, story.port());
        assert!(refusal.line.verdict.summary.contains(&held), "{}", refusal.told());
    }
    story.end();
}

/// The restart of a server that had ended its connections, without SO_REUSEADDR.
fn held_by_time_wait(at: &str) {
    let mut story = Story::begin();
    let mut gateway = story.listen(at);
    story.trace();
    let mut client = Actor::start(&story.netns.place(), &Costume::named("client"));
    client.must(&format!("connect {at}:{} keep", story.port()));
    gateway.must("accept");
    client.must("close");
    let table = if at.starts_with('[') { "tcp6" } else { "tcp" };
    wait_for_time_wait(&format!("/proc/{}/net/{table}", gateway.pid), story.port());
    story.close(&mut gateway);

    let mut restarted = server(&story);
    bind(&story, &mut restarted, at, Err(Errno::ADDRINUSE));
    assert_told(&mut story, &restarted, Call::Bind, at, Some(IN_USE));
    let refusal = story.refused(at);
    let held_by = assert_failed(&refusal, &restarted, Call::Bind, at, IN_USE, 1);
    let addr = at.trim_matches(['[', ']']).to_owned();
    // Nobody owns it any more.
    let expected = HeldBy { addr, state: "TIME-WAIT".to_owned(), process: Process::default() };
    assert_eq!(held_by, [expected], "{}", refusal.told());
    refusal.weighs(&gateway, Mismatch::Closed).weighs_only(1);
    assert!(refusal.line.verdict.summary.contains("TIME-WAIT"), "{}", refusal.told());
    drop(refusal);
    story.end();
}

/// Waits until the kernel lists a socket of this local port in TIME-WAIT.
fn wait_for_time_wait(table: &str, port: u16) {
    let local = format!(":{port:04X}");
    poll("a TIME-WAIT socket", || {
        let sockets = std::fs::read_to_string(table).expect("the kernel's table of sockets");
        let is_it = |line: &str| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            fields.get(1).is_some_and(|addr| addr.ends_with(&local)) && fields.get(3) == Some(&"06")
        };
        sockets.lines().any(is_it).then_some(())
    });
}

/// A listener on a port that is not watched.
fn other_server(netns: &Netns, addr: &str, port: &Port) -> Actor {
    let mut other = Actor::start(&netns.place(), &Costume::named("other"));
    other.must(&format!("bind {addr}:{}", port.number));
    other.listen(16).expect("to listen");
    other
}

fn ephemeral_ports(netns: &Netns, first: u16, last: u16) {
    let mut command = std::process::Command::new("tee");
    command.arg("/proc/sys/net/ipv4/ip_local_port_range");
    run(netns.enter(&mut command), &format!("{first} {last}"));
}

/// The kernel gave the server's port to a client, as it does with ports of its ephemeral range.
fn the_port_of_a_live_client() {
    let mut story = Story::begin();
    let unwatched = Port::take();
    let _other = other_server(&story.netns, "127.0.0.1", &unwatched);
    story.trace();
    ephemeral_ports(&story.netns, story.port(), story.port());
    let mut client = Actor::start(&story.netns.place(), &Costume::named("busy"));
    let local = client.must(&format!("connect 127.0.0.1:{} keep", unwatched.number));
    assert_eq!(local, story.port().to_string());
    ephemeral_ports(&story.netns, 40_000, 60_000);

    let mut server = server(&story);
    bind(&story, &mut server, "0.0.0.0", Err(Errno::ADDRINUSE));
    assert_told(&mut story, &server, Call::Bind, "0.0.0.0", Some(IN_USE));
    let refusal = story.refused(Client::nonblocking("127.0.0.1"));
    refusal.weighs_only(0);
    let held_by = assert_failed(&refusal, &server, Call::Bind, "0.0.0.0", IN_USE, 1);
    assert_held(&held_by, "127.0.0.1", "ESTAB", &client, &refusal);
    drop(refusal);
    story.end();
}

fn assert_held(held_by: &[HeldBy], addr: &str, state: &str, holder: &Actor, refusal: &Refusal) {
    let told = refusal.told();
    assert_eq!(held_by.len(), 1, "{told}");
    assert_eq!((held_by[0].addr.as_str(), held_by[0].state.as_str()), (addr, state), "{told}");
    assert_eq!(held_by[0].process.pid, Some(holder.pid), "{told}");
    assert_eq!(held_by[0].process.comm.as_ref(), Some(&holder.comm), "{told}");
    assert!(refusal.line.verdict.summary.contains(&format!("{}[{}]", holder.comm, holder.pid)), "{told}");
}

/// A client that chose its own port, as some do to pass a firewall.
fn the_port_a_client_asked_for() {
    let mut story = Story::begin();
    let unwatched = Port::take();
    let _other = other_server(&story.netns, "[::1]", &unwatched);
    story.trace();
    let mut client = Actor::start(&story.netns.place(), &Costume::named("busy"));
    client.must(&format!("connect [::1]:{} keep from=[::1]:{}", unwatched.number, story.port()));
    assert_told(&mut story, &client, Call::Bind, "[::1]", None);

    let mut server = server(&story);
    bind(&story, &mut server, "[::]", Err(Errno::ADDRINUSE));
    assert_told(&mut story, &server, Call::Bind, "[::]", Some(IN_USE));
    let refusal = story.refused("[::1]");
    refusal.weighs_only(0);
    let held_by = assert_failed(&refusal, &server, Call::Bind, "[::]", IN_USE, 1);
    assert_held(&held_by, "::1", "ESTAB", &client, &refusal);
    drop(refusal);

    // What a client is bound to will never listen.
    drop(server);
    client.must("close");
    story.end();
}

fn a_socket_that_is_only_bound() {
    let mut story = Story::begin();
    story.trace();
    let mut holder = Actor::start(&story.netns.place(), &Costume::named("holder"));
    bind(&story, &mut holder, "127.0.0.1", Ok(()));
    let mut server = server(&story);
    bind(&story, &mut server, "127.0.0.1", Err(Errno::ADDRINUSE));
    let refusal = story.refused("127.0.0.1");
    let held_by = assert_failed(&refusal, &server, Call::Bind, "127.0.0.1", IN_USE, 1);
    // Kernels before 6.8 do not list it.
    if !held_by.is_empty() {
        assert_held(&held_by, "127.0.0.1", "UNCONN", &holder, &refusal);
    }
    drop(refusal);
    story.end();
}

/// With a listener up, a failure explains only what it would have covered.
fn one_that_would_not_cover() {
    let mut story = Story::begin();
    let holder = story.listen("10.77.0.1");
    story.trace();
    let mut server = server(&story);
    bind(&story, &mut server, "10.77.0.1", Err(Errno::ADDRINUSE));
    assert_told(&mut story, &server, Call::Bind, "10.77.0.1", Some(IN_USE));
    story.refused("127.0.0.1").cause(Cause::WrongAddress).weighs(&holder, Mismatch::Address);
    story.end();
}

fn attempts_are_counted() {
    let mut story = Story::begin();
    let mut holder = story.listen("10.77.0.1");
    story.trace();
    let mut server = server(&story);
    for _ in 0..3 {
        bind(&story, &mut server, "0.0.0.0", Err(Errno::ADDRINUSE));
    }
    assert_failed(&story.refused("127.0.0.1"), &server, Call::Bind, "0.0.0.0", IN_USE, 3);
    // Another process of the same name, as a supervisor starts it.
    let mut again = Actor::start(&story.netns.place(), &Costume::named("server"));
    bind(&story, &mut again, "0.0.0.0", Err(Errno::ADDRINUSE));
    assert_failed(&story.refused("127.0.0.1"), &again, Call::Bind, "0.0.0.0", IN_USE, 4);
    // The holder is gone, and still nothing has been bound since.
    story.close(&mut holder);
    let refusal = story.refused("127.0.0.1");
    let held_by = assert_failed(&refusal, &again, Call::Bind, "0.0.0.0", IN_USE, 4);
    assert_eq!(held_by, [], "{}", refusal.told());
    drop(refusal);
    let log = story.end();
    let told = log.lines.iter().filter(|line| matches!(&line.body, Body::Bind(bind) if bind.errno.is_some()));
    assert_eq!(told.count(), 4, "{}", log.text());
}

fn success_clears_it() {
    let mut story = Story::begin();
    let mut holder = story.listen("[fd77::1]");
    story.trace();
    let mut server = server(&story);
    bind(&story, &mut server, "[::]", Err(Errno::ADDRINUSE));
    let refusal = story.refused("[::1]");
    assert_failed(&refusal, &server, Call::Bind, "[::]", IN_USE, 1);
    let of = seq_of(&mut story, &refusal);
    story.close(&mut holder);
    bind(&story, &mut server, "[::]", Ok(()));
    assert_told(&mut story, &server, Call::Bind, "[::]", None);
    // Bound: what failed before is history.
    let bound = story.refused("[::1]");
    bound.cause(Cause::BoundNotListening).weighs_only(0);
    assert_eq!(bound.line.verdict.failed_binds, [], "{}", bound.told());
    let also = seq_of(&mut story, &bound);
    server.listen(16).expect("to listen");
    assert_recovered(&mut story, server.pid, &[of, also], 2, 2);
    story.answered("[::1]");
    server.close();
    story.closed(server.pid);
    let refusal = story.refused("[::1]");
    refusal.cause(Cause::Stopped);
    assert_eq!(refusal.line.verdict.failed_binds, [], "{}", refusal.told());
    drop(refusal);
    story.end();
}

/// The usual way: it fails, says so, exits, and nobody sees why.
fn it_outlives_the_server() {
    let mut story = Story::begin();
    let holder = story.listen("10.77.0.1");
    story.trace();
    let mut server = server(&story);
    bind(&story, &mut server, "0.0.0.0", Err(Errno::ADDRINUSE));
    assert_eq!(server.exit(1).code(), Some(1));
    let refusal = story.refused("127.0.0.1");
    assert_failed(&refusal, &server, Call::Bind, "0.0.0.0", IN_USE, 1);
    refusal.weighs(&holder, Mismatch::Address);
    drop(refusal);
    story.end();
}

fn not_permitted() {
    let mut story = Story::begin();
    let mut command = std::process::Command::new("tee");
    command.arg("/proc/sys/net/ipv4/ip_unprivileged_port_start");
    // Not below the ports that the kernel hands out.
    ephemeral_ports(&story.netns, 40_000, 60_000);
    run(story.netns.enter(&mut command), "40000");
    story.trace();
    let mut server = Actor::start(&story.netns.place(), &Costume::named("server").uid(65_534));
    bind(&story, &mut server, "127.0.0.1", Err(Errno::ACCESS));
    let line = assert_told(&mut story, &server, Call::Bind, "127.0.0.1", Some("EACCES"));
    assert_eq!(line.process.uid, Some(65_534), "{line:?}");
    let refusal = story.refused("127.0.0.1");
    assert_eq!(assert_failed(&refusal, &server, Call::Bind, "127.0.0.1", "EACCES", 1), []);
    drop(refusal);
    story.end();
}

fn address_not_there(asked: &str, to: &str) {
    let mut story = Story::begin();
    story.trace();
    let mut server = server(&story);
    bind(&story, &mut server, asked, Err(Errno::ADDRNOTAVAIL));
    assert_told(&mut story, &server, Call::Bind, asked, Some("EADDRNOTAVAIL"));
    let refusal = story.refused(to);
    refusal.weighs_only(0);
    assert_eq!(assert_failed(&refusal, &server, Call::Bind, asked, "EADDRNOTAVAIL", 1), []);
    drop(refusal);
    // The interface comes up with its address, and then the server.
    let addr = asked.trim_matches(['[', ']']);
    let bits = if addr.contains(':') { "128 dev eth0 nodad" } else { "32 dev eth0" };
    story.netns.ip(&format!("addr add {addr}/{bits}"));
    let gateway = story.listen(asked);
    let cause =
        if asked.starts_with('[') == to.starts_with('[') { Mismatch::Address } else { Mismatch::Family };
    let refusal = story.refused(to);
    refusal.cause(Cause::WrongAddress).weighs(&gateway, cause).weighs_only(1);
    assert_eq!(refusal.line.verdict.failed_binds, [], "{}", refusal.told());
    drop(refusal);
    story.end();
}

/// Two that share the port by SO_REUSEADDR: only one of them can listen.
fn two_bound(story: &mut Story, first: &str, second: &str) -> [Actor; 2] {
    let [one, other] = [first, second].map(|addr| {
        let mut actor = Actor::start(&story.netns.place(), &Costume::named("server"));
        actor.must(&format!("bind {addr}:{} reuseaddr", story.port()));
        assert_told(story, &actor, Call::Bind, addr, None);
        actor
    });
    let (mut one, mut other) = (one, other);
    one.listen(16).expect("the first to listen");
    assert_eq!(other.listen(16), Err(Errno::ADDRINUSE.raw_os_error()));
    assert_told(story, &other, Call::Listen, second, Some(IN_USE));
    [one, other]
}

fn listen_fails(first: &str, second: &str, to: &str) {
    let mut story = Story::begin();
    story.trace();
    let [mut one, mut other] = two_bound(&mut story, first, second);
    let refusal = story.refused(to);
    assert_failed(&refusal, &other, Call::Listen, second, IN_USE, 1);
    refusal.weighs_only(1);
    let weighed = &refusal.line.verdict.listeners[0];
    assert_eq!(weighed.listener.process.pid, Some(one.pid), "{}", refusal.told());
    assert_eq!(weighed.mismatch, Some(Mismatch::Address), "{}", refusal.told());
    let of = seq_of(&mut story, &refusal);
    one.close();
    story.closed(one.pid);
    other.listen(16).expect("to listen once the first has closed");
    assert_recovered(&mut story, other.pid, &[of], 1, 1);
    story.answered(to);
    story.end();
}

/// The one that could listen is gone: what is left is the one that could not.
fn listen_fails_and_nobody_does() {
    let mut story = Story::begin();
    story.trace();
    let [mut one, other] = two_bound(&mut story, "127.0.0.1", "127.0.0.1");
    story.answered("127.0.0.1");
    one.close();
    story.closed(one.pid);
    let refusal = story.refused(Client::nonblocking("127.0.0.1"));
    // What failed while the listener was up is told, and is not what is wrong now.
    refusal.cause(Cause::Stopped);
    let failed = &refusal.line.verdict.failed_binds;
    assert_eq!(failed.len(), 1, "{}", refusal.told());
    assert_eq!(
        (failed[0].call, failed[0].process.pid),
        (Call::Listen, Some(other.pid)),
        "{}",
        refusal.told()
    );
    drop(refusal);
    story.end();
}

/// Asserts that the verdict is this process's socket, bound and not listening.
fn assert_bound(refusal: &Refusal, actor: &Actor, addr: &str) {
    refusal.cause(Cause::BoundNotListening).weighs_only(0);
    let told = refusal.told();
    let verdict = &refusal.line.verdict;
    assert!(verdict.failed_binds.is_empty() && verdict.candidates.is_empty(), "{told}");
    let port = refusal.line.dst.port.expect("a port");
    let bound = format!("{}[{}] bound {addr}:{port}", actor.comm, actor.pid);
    assert!(verdict.summary.starts_with(&bound), "{told}");
    assert!(verdict.hint.as_ref().is_some_and(|hint| hint.contains(&actor.pid.to_string())), "{told}");
}

fn bound_then_it_listens() {
    for (at, to) in [("127.0.0.1", "127.0.0.1"), ("[::1]", "[::1]"), ("[::]", "127.0.0.1")] {
        let mut story = Story::begin();
        story.trace();
        let mut server = server(&story);
        bind(&story, &mut server, at, Ok(()));
        assert_told(&mut story, &server, Call::Bind, at, None);
        let refusals = story.all_refused([Client::blocking(to), Client::nonblocking(to)]);
        let mut of = Vec::new();
        for refusal in &refusals {
            assert_bound(refusal, &server, at);
            of.push(seq_of(&mut story, refusal));
        }
        of.sort_unstable();
        server.listen(16).expect("to listen");
        assert_recovered(&mut story, server.pid, &of, 2, 2);
        story.answered(to);
        story.end();
    }
}

fn bound_then_it_closes() {
    for (at, to) in [("127.0.0.1", "127.0.0.1"), ("[::1]", "[::1]")] {
        let mut story = Story::begin();
        story.trace();
        let mut server = server(&story);
        bind(&story, &mut server, at, Ok(()));
        assert_bound(&story.refused(Client::nonblocking(to)), &server, at);
        server.close();
        story.refused(to).cause(Cause::NothingListening).weighs_only(0);
        let log = story.end();
        assert!(!log.lines.iter().any(|line| matches!(line.body, Body::Recovered(_))), "{}", log.text());
    }
}

fn bound_then_it_is_killed() {
    let mut story = Story::begin();
    story.trace();
    let mut server = server(&story);
    bind(&story, &mut server, "0.0.0.0", Ok(()));
    assert_bound(&story.refused("127.0.0.1"), &server, "0.0.0.0");
    server.kill();
    story.refused("127.0.0.1").cause(Cause::NothingListening).weighs_only(0);
    story.end();
}

/// Whatever it is bound to: it says that a server is there.
fn bound_to_another_address() {
    let mut story = Story::begin();
    story.trace();
    let mut server = server(&story);
    bind(&story, &mut server, "10.77.0.1", Ok(()));
    assert_bound(&story.refused("127.0.0.1"), &server, "10.77.0.1");
    assert_bound(&story.refused("[::1]"), &server, "10.77.0.1");
    story.end();
}

fn a_listener_comes_first() {
    let mut story = Story::begin();
    story.trace();
    let mut server = server(&story);
    bind(&story, &mut server, "127.0.0.1", Ok(()));
    let other = story.listen(Listen::at("[fd77::1]"));
    story.refused("[::1]").cause(Cause::WrongAddress).weighs(&other, Mismatch::Address);
    story.end();
}
