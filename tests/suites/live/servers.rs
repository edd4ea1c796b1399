//! Server candidates that a scenario cannot describe: the tracer itself, and a process whose port is found
//! by a later scan. The rest is in the corpus.

use std::path::PathBuf;
use std::time::Duration;

use libtest_mimic::Trial;
use tracer::output::schema::{Because, Cause, Mismatch, OwnerState};

use tests::fixture::{Client, Fixture, Spot};
use tests::needs::Need;
use tests::netns::{Place, inode};
use tests::port::Port;
use tests::process::{Actor, ProcessSpec};
use tests::suite::test;

const NEEDS: &[Need] = &[Need::Root, Need::Network];

pub fn all() -> Vec<Trial> {
    vec![
        test("servers::candidates::the_tracer_is_not_a_server", NEEDS, the_tracer_is_not_a_server),
        test("servers::other_port::after_starting", NEEDS, other_port_after_starting),
    ]
}

/// Its own arguments hold the pattern.
fn the_tracer_is_not_a_server() {
    let mut fixture = Fixture::begin();
    fixture.trace_with(&["--server", "my-very-own-server"]);
    let own = PathBuf::from("/proc/self/ns/net");
    let spot = Spot { id: inode(&own), name: None, place: Place::Path(own) };
    for client in [Client::blocking("127.0.0.1"), Client::nonblocking("[::1]")] {
        let refusal = fixture.refused_in(spot.clone(), client);
        refusal.cause(Cause::NothingListening);
        assert_eq!(refusal.line.verdict.candidates, [], "{}", refusal.shown());
    }
    fixture.end();
}

/// It was seen to start, and then listened on a port that is not watched.
fn other_port_after_starting() {
    let mut fixture = Fixture::begin();
    let unwatched = Port::take();
    fixture.trace();
    let mut server = Actor::start(&fixture.netns.place(), &ProcessSpec::program("openclaw-gateway"));
    let refusal = fixture.refused("127.0.0.1");
    let candidates = &refusal.verdict(Cause::Starting, &[Because::ClaimOnly]).line.verdict.candidates;
    let states: Vec<_> =
        candidates.iter().map(|candidate| (candidate.process.pid, candidate.state.state)).collect();
    assert_eq!(states, [(Some(server.pid), OwnerState::Alive)], "{}", refusal.shown());
    drop(refusal);

    server.must(&format!("bind 127.0.0.1:{}", unwatched.number));
    server.listen(16).expect("to listen");
    // It may still open the port, until it has run for five seconds.
    let refusal = std::iter::repeat_with(|| fixture.refused("127.0.0.1"))
        .take(10_000)
        .inspect(|_| std::thread::sleep(Duration::from_millis(10)))
        .find(|refusal| refusal.line.verdict.cause != Cause::Starting)
        .expect("another cause");
    refusal.verdict(Cause::OtherPort, &[Because::ClaimOnly, Because::MayBeStarting]).evaluates_only(1);
    let verdict = &refusal.line.verdict;
    assert_eq!(verdict.listeners[0].mismatch, Some(Mismatch::Port), "{}", refusal.shown());
    let listener = &verdict.listeners[0].listener;
    assert_eq!((listener.addr.as_str(), listener.port), ("127.0.0.1", unwatched.number));
    assert_eq!(listener.process.pid, Some(server.pid), "{}", refusal.shown());
    assert_eq!(listener.cookie, server.cookie.map(|cookie| cookie.to_string()), "{}", refusal.shown());
    assert_eq!(verdict.candidates, [], "{}", refusal.shown());
    drop(refusal);
    fixture.end();
}
