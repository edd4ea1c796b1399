//! Processes that claim to be the server: one that has not listened yet, one that never did, one that listens
//! on another port; and those that claim it in vain.

use std::path::PathBuf;

use libtest_mimic::Trial;
use tracer::line::{Body, Candidate, Cause, Mismatch, Owner, OwnerState};

use super::followups::{assert_recovered, seq_of};
use crate::support::cast::{Actor, Costume};
use crate::support::needs::Need;
use crate::support::netns::{Netns, Place, inode};
use crate::support::port::Port;
use crate::support::story::{Client, Listen, Refusal, Spot, Story};
use crate::trial;

const NEEDS: &[Need] = &[Need::Root, Need::Network];

/// How a process is known for the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Known {
    /// It has renamed itself.
    Name,
    /// It was started by this name.
    Program,
    /// By its script and command.
    Arguments,
    /// By the text that the user gave.
    Pattern,
}

const KNOWN: [(Known, &str); 4] = [
    (Known::Name, "by_name"),
    (Known::Program, "by_program"),
    (Known::Arguments, "by_arguments"),
    (Known::Pattern, "by_pattern"),
];

const PATTERN: &str = "my-very-own-server --serve";

impl Known {
    fn costume(self) -> Costume {
        match self {
            Self::Name => Costume::named("openclaw-gatewa"),
            Self::Program => Costume::program("openclaw-gateway"),
            Self::Arguments => {
                Costume::program("node").arguments(&["dist/index.js", "gateway", "--port", "1"])
            }
            Self::Pattern => Costume::program("python3").arguments(&["my-very-own-server", "--serve"]),
        }
    }

    fn trace(self, story: &mut Story) {
        match self {
            Self::Pattern => story.trace_with(&["--server", PATTERN]),
            Self::Name | Self::Program | Self::Arguments => story.trace(),
        }
    }
}

pub fn trials() -> Vec<Trial> {
    let mut trials = Vec::new();
    for (known, name) in KNOWN {
        trials.push(trial(format!("servers::starting::{name}::before_the_tracer"), NEEDS, move || {
            starting(known, true);
        }));
        // A process that renames itself is found by the first look at the host only.
        trials.push(trial(format!("servers::starting::{name}::after_the_tracer"), NEEDS, move || {
            starting(known, false);
        }));
        if known != Known::Name {
            trials.push(trial(format!("servers::starting::{name}::after_a_refusal"), NEEDS, move || {
                starting_after_a_refusal(known);
            }));
        }
        for (how, code) in [("exit_78", Some(78)), ("exit_0", Some(0)), ("sigkill", None)] {
            let name = format!("servers::never_listened::{name}::{how}");
            trials.push(trial(name, NEEDS, move || never_listened(known, code)));
        }
        trials.push(trial(format!("servers::other_port::{name}"), NEEDS, move || other_port(known)));
    }
    trials.extend([
        trial("servers::never_listened::ends_are_counted", NEEDS, ends_are_counted),
        trial("servers::never_listened::not_one_that_listened", NEEDS, not_one_that_listened),
        trial("servers::claims::a_client_is_no_server", NEEDS, a_client_is_no_server),
        trial("servers::claims::a_client_that_ended_is_no_server", NEEDS, a_client_that_ended_is_no_server),
        trial("servers::claims::a_probe_is_no_server", NEEDS, a_probe_is_no_server),
        trial("servers::claims::none_of_another_namespace", NEEDS, none_of_another_namespace),
        trial("servers::claims::the_tracer_is_no_server", NEEDS, the_tracer_is_no_server),
        trial("servers::claims::a_socket_outranks_it", NEEDS, a_socket_outranks_it),
        trial("servers::other_port::the_last_owner", NEEDS, the_last_owner_on_another_port),
        trial("servers::other_port::the_last_owner_is_told_once", NEEDS, the_last_owner_is_told_once),
        trial("servers::other_port::after_starting", NEEDS, other_port_after_starting),
    ]);
    trials
}

fn start(story: &Story, known: Known) -> Actor {
    Actor::start(&story.netns.place(), &known.costume())
}

/// Asserts that the verdict rests on these candidates, and how each is.
fn assert_candidates(refusal: &Refusal, cause: Cause, expected: &[(&Actor, Owner)]) -> Vec<Candidate> {
    refusal.cause(cause).weighs_only(0);
    let told = refusal.told();
    let verdict = &refusal.line.verdict;
    let candidates: Vec<(Option<u32>, Option<&str>, &Owner)> = verdict
        .candidates
        .iter()
        .map(|candidate| (candidate.process.pid, candidate.process.comm.as_deref(), &candidate.state))
        .collect();
    let expected: Vec<_> =
        expected.iter().map(|(actor, state)| (Some(actor.pid), Some(actor.comm.as_str()), state)).collect();
    assert_eq!(candidates, expected, "{told}");
    for candidate in &verdict.candidates {
        assert!(candidate.age_us > 0, "{told}");
        assert_eq!(candidate.ended.is_some(), candidate.state.state == OwnerState::Ended, "{told}");
    }
    assert!(verdict.failed_binds.is_empty(), "{told}");
    let first = &verdict.candidates[0].process;
    let named = format!("{}[{}]", first.comm.as_deref().unwrap_or_default(), first.pid.unwrap_or_default());
    // It is called a claim.
    assert!(verdict.summary.contains(&format!("{named}, by its name or arguments the server")), "{told}");
    assert!(verdict.hint.is_some(), "{told}");
    verdict.candidates.clone()
}

const ALIVE: Owner = Owner { state: OwnerState::Alive, code: None, signal: None };

fn ended(code: Option<i32>) -> Owner {
    let signal = if code.is_none() { Some(libc::SIGKILL) } else { None };
    Owner { state: OwnerState::Ended, code, signal }
}

fn starting(known: Known, is_there_before: bool) {
    let mut story = Story::begin();
    if !is_there_before {
        known.trace(&mut story);
    }
    let mut server = start(&story, known);
    if is_there_before {
        known.trace(&mut story);
    }
    let mut of = Vec::new();
    for client in [Client::blocking("127.0.0.1"), Client::nonblocking("127.0.0.1")] {
        let refusal = story.refused(client);
        assert_candidates(&refusal, Cause::Starting, &[(&server, ALIVE)]);
        assert!(refusal.line.verdict.summary.contains("has not called listen()"), "{}", refusal.told());
        of.push(seq_of(&mut story, &refusal));
    }
    assert_candidates(&story.refused("[::1]"), Cause::Starting, &[(&server, ALIVE)]);
    // It comes up at last.
    server.must(&format!("bind 127.0.0.1:{}", story.port()));
    server.listen(16).expect("to listen");
    assert_recovered(&mut story, server.pid, &of, 2, 2);
    story.answered("127.0.0.1");
    story.end();
}

/// The host was looked through for servers before this one was there.
fn starting_after_a_refusal(known: Known) {
    let mut story = Story::begin();
    known.trace(&mut story);
    story.refused("127.0.0.1").cause(Cause::NothingListening);
    let server = start(&story, known);
    assert_candidates(&story.refused("127.0.0.1"), Cause::Starting, &[(&server, ALIVE)]);
    story.end();
}

fn never_listened(known: Known, code: Option<u8>) {
    let mut story = Story::begin();
    known.trace(&mut story);
    let mut server = start(&story, known);
    // It is known from here on, whichever way.
    assert_candidates(&story.refused("[::1]"), Cause::Starting, &[(&server, ALIVE)]);
    match code {
        Some(code) => assert_eq!(server.exit(code).code(), Some(i32::from(code))),
        None => assert_eq!(server.kill().code(), None),
    }
    let state = ended(code.map(i32::from));
    for client in [Client::blocking("127.0.0.1"), Client::nonblocking("[::1]")] {
        let refusal = story.refused(client);
        assert_candidates(&refusal, Cause::NeverListened, &[(&server, state.clone())]);
        let how = code.map_or("by SIGKILL".to_owned(), |code| format!("with exit code {code}"));
        let verdict = &refusal.line.verdict;
        assert!(verdict.summary.contains(&how), "{}", refusal.told());
        assert!(!verdict.summary.contains("such ends"), "{}", refusal.told());
        // Product wording is for the product, however it is known.
        let is_configuration = code == Some(78) && known != Known::Pattern;
        let hint = verdict.hint.as_deref().unwrap_or_default();
        assert_eq!(hint.contains("gateway.auth.token"), is_configuration, "{}", refusal.told());
    }
    story.end();
}

/// A supervisor that starts it again and again.
fn ends_are_counted() {
    let mut story = Story::begin();
    story.trace();
    let mut servers: Vec<Actor> = Vec::new();
    for count in 1..=3 {
        let mut server = start(&story, Known::Program);
        assert_candidates(&story.refused("127.0.0.1"), Cause::Starting, &[(&server, ALIVE)]);
        server.exit(78);
        servers.push(server);
        let refusal = story.refused(Client::nonblocking("127.0.0.1"));
        let expected: Vec<(&Actor, Owner)> =
            servers.iter().rev().map(|server| (server, ended(Some(78)))).collect();
        assert_candidates(&refusal, Cause::NeverListened, &expected);
        let ends = format!("{count} such ends in 60 s");
        assert_eq!(refusal.line.verdict.summary.contains(&ends), count > 1, "{}", refusal.told());
    }
    story.end();
}

fn not_one_that_listened() {
    let mut story = Story::begin();
    story.trace();
    let mut gateway = story.listen(Listen::at("10.77.0.1").by(Known::Program.costume()));
    story.close(&mut gateway);
    gateway.exit(78);
    story.refused("127.0.0.1").cause(Cause::NothingListening).weighs_only(0);
    story.refused("10.77.0.1").cause(Cause::Stopped).weighs(&gateway, Mismatch::Closed);
    story.end();
}

/// What connects to the port waits for the server: OpenClaw's probe goes by the gateway's name.
fn a_client_is_no_server() {
    let mut story = Story::begin();
    story.trace();
    let probe = story.refused(Client::blocking("127.0.0.1").by(Known::Program.costume()));
    probe.cause(Cause::NothingListening);
    assert_eq!(probe.line.verdict.candidates, [], "{}", probe.told());
    // It is alive still, and was refused: nor is it another client's server.
    let refusal = story.refused(Client::nonblocking("127.0.0.1"));
    refusal.cause(Cause::NothingListening);
    assert_eq!(refusal.line.verdict.candidates, [], "{}", refusal.told());
    drop((probe, refusal));
    story.end();
}

fn a_client_that_ended_is_no_server() {
    let mut story = Story::begin();
    story.trace();
    let mut probe = story.refused(Client::nonblocking("[::1]").by(Known::Program.costume()));
    probe.cause(Cause::NothingListening);
    probe.actor.exit(1);
    let refusal = story.refused("127.0.0.1");
    refusal.cause(Cause::NothingListening);
    assert_eq!(refusal.line.verdict.candidates, [], "{}", refusal.told());
    drop(refusal);
    story.end();
}

/// One command makes a server, the others make clients.
fn a_probe_is_no_server() {
    let mut story = Story::begin();
    let arguments: [&[&str]; 3] =
        [&["dist/index.js", "gateway", "probe"], &["dist/index.js", "health"], &["server.js", "gateway"]];
    let _others = arguments
        .map(|arguments| Actor::start(&story.netns.place(), &Costume::program("node").arguments(arguments)));
    story.trace();
    story.refused("127.0.0.1").cause(Cause::NothingListening);
    story.end();
}

fn none_of_another_namespace() {
    let mut story = Story::begin();
    let other = Netns::new();
    story.trace();
    let server = Actor::start(&other.place(), &Known::Program.costume());
    story.refused("127.0.0.1").cause(Cause::NothingListening);
    let refusal = story.refused_in(&other, "127.0.0.1");
    assert_candidates(&refusal, Cause::Starting, &[(&server, ALIVE)]);
    drop(refusal);
    story.end();
}

/// Its own arguments hold the pattern.
fn the_tracer_is_no_server() {
    let mut story = Story::begin();
    story.trace_with(&["--server", PATTERN]);
    let own = PathBuf::from("/proc/self/ns/net");
    let spot = Spot { id: inode(&own), name: None, place: Place::Path(own) };
    for client in [Client::blocking("127.0.0.1"), Client::nonblocking("[::1]")] {
        let refusal = story.refused_in(spot.clone(), client);
        refusal.cause(Cause::NothingListening);
        assert_eq!(refusal.line.verdict.candidates, [], "{}", refusal.told());
    }
    story.end();
}

fn a_socket_outranks_it() {
    let mut story = Story::begin();
    let gateway = story.listen("10.77.0.1");
    let _server = start(&story, Known::Name);
    story.trace();
    let refusal = story.refused("127.0.0.1");
    refusal.cause(Cause::WrongAddress).weighs(&gateway, Mismatch::Address).weighs_only(1);
    assert_eq!(refusal.line.verdict.candidates, [], "{}", refusal.told());
    drop(refusal);
    story.end();
}

/// Asserts that the verdict is this process's listener on the port that nobody watches.
fn assert_other_port(refusal: &Refusal, actor: &Actor, addr: &str, port: &Port) {
    refusal.cause(Cause::OtherPort).weighs_only(1);
    let told = refusal.told();
    let weighed = &refusal.line.verdict.listeners;
    assert_eq!(weighed.len(), 1, "{told}");
    assert_eq!(weighed[0].mismatch, Some(Mismatch::Port), "{told}");
    let listener = &weighed[0].listener;
    assert_eq!(
        (listener.addr.as_str(), listener.port),
        (addr.trim_matches(['[', ']']), port.number),
        "{told}"
    );
    assert_eq!(listener.process.pid, Some(actor.pid), "{told}");
    assert_eq!(listener.cookie, actor.cookie.map(|cookie| cookie.to_string()), "{told}");
    assert_eq!(refusal.line.verdict.candidates, [], "{told}");
    let who = format!("{}[{}] listens on {addr}:{}", actor.comm, actor.pid, port.number);
    assert!(refusal.line.verdict.summary.contains(&who), "{told}");
}

fn listen_elsewhere(actor: &mut Actor, addr: &str, port: &Port) {
    actor.must(&format!("bind {addr}:{}", port.number));
    actor.listen(16).expect("to listen");
}

fn other_port(known: Known) {
    for (addr, to) in [("127.0.0.1", "127.0.0.1"), ("[::]", "127.0.0.1"), ("0.0.0.0", "[::1]")] {
        let mut story = Story::begin();
        let unwatched = Port::take();
        let mut server = start(&story, known);
        listen_elsewhere(&mut server, addr, &unwatched);
        known.trace(&mut story);
        assert_other_port(&story.refused(Client::nonblocking(to)), &server, addr, &unwatched);
        let log = story.end();
        assert!(!log.lines.iter().any(|line| matches!(line.body, Body::Bind(_))), "{}", log.text());
    }
}

/// Nothing but its past tells who it is.
fn the_last_owner_on_another_port() {
    let mut story = Story::begin();
    let unwatched = Port::take();
    let mut gateway = story.listen("10.77.0.1");
    story.trace();
    story.close(&mut gateway);
    listen_elsewhere(&mut gateway, "127.0.0.1", &unwatched);
    assert_other_port(&story.refused("127.0.0.1"), &gateway, "127.0.0.1", &unwatched);
    // Where it was, it has stopped.
    story.refused("10.77.0.1").cause(Cause::Stopped);
    story.end();
}

/// It claims to be the server, and was it.
fn the_last_owner_is_told_once() {
    let mut story = Story::begin();
    let unwatched = Port::take();
    let mut gateway = story.listen(Listen::at("10.77.0.1").by(Known::Program.costume()));
    story.trace();
    story.close(&mut gateway);
    listen_elsewhere(&mut gateway, "127.0.0.1", &unwatched);
    assert_other_port(&story.refused("127.0.0.1"), &gateway, "127.0.0.1", &unwatched);
    story.end();
}

/// It was seen to start, and then came up where nobody looks.
fn other_port_after_starting() {
    let mut story = Story::begin();
    let unwatched = Port::take();
    story.trace();
    let mut server = start(&story, Known::Program);
    assert_candidates(&story.refused("127.0.0.1"), Cause::Starting, &[(&server, ALIVE)]);
    listen_elsewhere(&mut server, "127.0.0.1", &unwatched);
    // Other ports are not looked at for each refusal: the next look is at most 50 ms away.
    let refusal = std::iter::repeat_with(|| story.refused("127.0.0.1"))
        .take(1_000)
        .find(|refusal| refusal.line.verdict.cause != Cause::Starting)
        .expect("another cause");
    assert_other_port(&refusal, &server, "127.0.0.1", &unwatched);
    story.end();
}
