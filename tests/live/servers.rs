//! Processes that claim to be the server, where a story cannot tell: the tracer itself, and one whose port is found
//! by a later look. The rest is in the corpus.

use std::path::PathBuf;

use libtest_mimic::Trial;
use tracer::line::{Cause, Mismatch, OwnerState};

use crate::support::cast::{Actor, Costume};
use crate::support::needs::Need;
use crate::support::netns::{Place, inode};
use crate::support::port::Port;
use crate::support::story::{Client, Spot, Story};
use crate::trial;

const NEEDS: &[Need] = &[Need::Root, Need::Network];

pub fn trials() -> Vec<Trial> {
    vec![
        trial("servers::claims::the_tracer_is_no_server", NEEDS, the_tracer_is_no_server),
        trial("servers::other_port::after_starting", NEEDS, other_port_after_starting),
    ]
}

/// Its own arguments hold the pattern.
fn the_tracer_is_no_server() {
    let mut story = Story::begin();
    story.trace_with(&["--server", "my-very-own-server --serve"]);
    let own = PathBuf::from("/proc/self/ns/net");
    let spot = Spot { id: inode(&own), name: None, place: Place::Path(own) };
    for client in [Client::blocking("127.0.0.1"), Client::nonblocking("[::1]")] {
        let refusal = story.refused_in(spot.clone(), client);
        refusal.cause(Cause::NothingListening);
        assert_eq!(refusal.line.verdict.candidates, [], "{}", refusal.told());
    }
    story.end();
}

/// It was seen to start, and then came up where nobody looks.
fn other_port_after_starting() {
    let mut story = Story::begin();
    let unwatched = Port::take();
    story.trace();
    let mut server = Actor::start(&story.netns.place(), &Costume::program("openclaw-gateway"));
    let refusal = story.refused("127.0.0.1");
    let candidates = &refusal.cause(Cause::Starting).line.verdict.candidates;
    let states: Vec<_> =
        candidates.iter().map(|candidate| (candidate.process.pid, candidate.state.state)).collect();
    assert_eq!(states, [(Some(server.pid), OwnerState::Alive)], "{}", refusal.told());
    drop(refusal);

    server.must(&format!("bind 127.0.0.1:{}", unwatched.number));
    server.listen(16).expect("to listen");
    // Other ports are not looked at for each refusal: the next look is at most 50 ms away.
    let refusal = std::iter::repeat_with(|| story.refused("127.0.0.1"))
        .take(1_000)
        .find(|refusal| refusal.line.verdict.cause != Cause::Starting)
        .expect("another cause");
    refusal.cause(Cause::OtherPort).weighs_only(1);
    let verdict = &refusal.line.verdict;
    assert_eq!(verdict.listeners[0].mismatch, Some(Mismatch::Port), "{}", refusal.told());
    let listener = &verdict.listeners[0].listener;
    assert_eq!((listener.addr.as_str(), listener.port), ("127.0.0.1", unwatched.number));
    assert_eq!(listener.process.pid, Some(server.pid), "{}", refusal.told());
    assert_eq!(listener.cookie, server.cookie.map(|cookie| cookie.to_string()), "{}", refusal.told());
    assert_eq!(verdict.candidates, [], "{}", refusal.told());
    drop(refusal);
    story.end();
}
