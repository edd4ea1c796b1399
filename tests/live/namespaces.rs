//! Network namespaces that come and go while the tracer runs, that have no name, that are asked for, and
//! that another one's addresses lead into.

use libtest_mimic::Trial;
use tracer::line::{Because, Cause, Mismatch};

use crate::support::cast::{Actor, Costume};
use crate::support::needs::Need;
use crate::support::netns::Netns;
use crate::support::poll;
use crate::support::story::{Client, Story};
use crate::trial;

const NEEDS: &[Need] = &[Need::Root, Need::Network];

pub fn trials() -> Vec<Trial> {
    vec![
        trial("namespaces::one_born_meanwhile", NEEDS, one_born_meanwhile),
        trial("namespaces::one_deleted_meanwhile_is_forgotten", NEEDS, one_deleted_is_forgotten),
        trial("namespaces::a_reused_number_has_no_history", NEEDS, a_reused_number_has_no_history),
        trial("namespaces::none_is_kept_alive", NEEDS, none_is_kept_alive),
        trial("namespaces::an_address_in_several_is_ambiguous", NEEDS, ambiguous),
        trial("namespaces::filter_by_name", NEEDS, || filter(|story| story.netns.name.clone())),
        trial("namespaces::filter_by_path", NEEDS, || {
            filter(|story| story.netns.path().display().to_string());
        }),
        trial("namespaces::filter_by_pid", NEEDS, filter_by_pid),
    ]
}

fn one_born_meanwhile() {
    let mut story = Story::begin();
    story.trace();
    let born = Netns::new();
    let gateway = story.listen_in(&born, "10.77.0.1");
    for addr in ["127.0.0.1", "[::1]", "[::ffff:127.0.0.1]"] {
        for client in [Client::blocking(addr), Client::nonblocking(addr)] {
            let refusal = story.refused_in(&born, client);
            refusal.cause(Cause::WrongAddress).weighs_only(1);
            let expected = if addr == "[::1]" { Mismatch::Family } else { Mismatch::Address };
            refusal.weighs(&gateway, expected);
        }
    }
    // Nothing has ever listened in this one, and the first that is heard of it is a refusal.
    let silent = Netns::new();
    story.refused_in(&silent, "127.0.0.1").cause(Cause::OtherNetns).weighs(&gateway, Mismatch::Netns);
    story.end();
}

fn one_deleted_is_forgotten() {
    let mut story = Story::begin();
    let deleted = Netns::new();
    let present = story.listen_in(&deleted, "127.0.0.1");
    story.trace();
    let opened = story.listen_in(&deleted, "127.0.0.2");
    story.refused("127.0.0.1").cause(Cause::OtherNetns).weighs_only(2);
    let pids = [present.pid, opened.pid];
    drop((present, opened));
    drop(deleted);
    for pid in pids {
        story.closed(pid);
    }
    story.refused("127.0.0.1").cause(Cause::NothingListening).weighs_only(0);
    story.end();
}

/// The kernel gives the number of a namespace that is gone to the next one at once.
fn a_reused_number_has_no_history() {
    let mut story = Story::begin();
    story.trace();
    let old = Netns::new();
    let id = old.id;
    let mut gateway = story.listen_in(&old, "127.0.0.1");
    story.close(&mut gateway);
    story.refused_in(&old, "127.0.0.1").cause(Cause::Stopped).weighs(&gateway, Mismatch::Closed);
    drop(gateway);
    drop(old);
    // Other tests make namespaces as well and may get it first. Then this one holds what it gets instead,
    // and goes on until the number is there or clearly taken.
    let mut young = Vec::new();
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(2);
    while std::time::Instant::now() < deadline && young.len() < 50 {
        let netns = Netns::new();
        let found = netns.id == id;
        young.push(netns);
        if found {
            break;
        }
    }
    let last = young.last().expect("a namespace");
    story.refused_in(last, "127.0.0.1").cause(Cause::NothingListening).weighs_only(0);
    story.end();
}

/// A tracer that kept a socket in a namespace would keep it, and its devices, from going.
fn none_is_kept_alive() {
    let mut story = Story::begin();
    let deleted = Netns::new();
    story.netns.join("left", &deleted, "right");
    let present = story.listen_in(&deleted, "127.0.0.1");
    story.trace();
    let opened = story.listen_in(&deleted, "127.0.0.2");
    drop(story.refused_in(&deleted, "[::1]"));
    assert!(story.netns.has_device("left"));
    drop((present, opened));
    drop(deleted);
    // One end of the pair goes with the namespace that the other is in.
    poll("the end of a deleted namespace", || (!story.netns.has_device("left")).then_some(()));
    story.end();
}

/// Two namespaces have the address, and only one is on the other end of the wire.
fn ambiguous() {
    let mut story = Story::begin();
    let containers = [Netns::new(), Netns::new()];
    let [high, low] = story.port().to_be_bytes();
    let (here, there) = (format!("10.{high}.{low}.1"), format!("10.{high}.{low}.2"));
    story.netns.join("bridge", &containers[0], "uplink");
    story.netns.ip(&format!("addr add {here}/24 dev bridge"));
    containers[0].ip(&format!("addr add {there}/24 dev uplink"));
    containers[1].ip(&format!("addr add {there}/24 dev eth0"));
    story.trace();
    let refusal = story.refused(Client::blocking(&there));
    let because = &refusal.line.verdict.because;
    assert!(because.contains(&Because::AmbiguousNetns), "{}", refusal.told());
    drop(refusal);
    story.end();
}

/// With a filter, refusals in other namespaces are not told; the listeners there still count.
fn filter(argument: impl Fn(&Story) -> String) {
    let mut story = Story::begin();
    let other = Netns::new();
    let gateway = story.listen_in(&other, "10.77.0.1");
    let argument = argument(&story);
    story.trace_with(&["-n", &argument]);
    let netns = story.tracer().start_line().netns.clone().expect("a filter");
    assert_eq!((netns.id, netns.name.as_deref()), (story.netns.id, Some(story.netns.name.as_str())));
    let mut stranger = Actor::start(&other.place(), &Costume::named("stranger"));
    assert!(stranger.ask(&story.connect_command(&"127.0.0.1".into())).is_err(), "nothing listens there");
    story.refused("127.0.0.1").cause(Cause::OtherNetns).weighs(&gateway, Mismatch::Netns);
    let log = story.end();
    assert_eq!(log.refusals().count(), 1, "{}", log.text());
}

fn filter_by_pid() {
    let resident = std::sync::OnceLock::new();
    filter(|story| {
        let actor = Actor::start(&story.netns.place(), &Costume::named("resident"));
        let pid = actor.pid.to_string();
        assert!(resident.set(actor).is_ok(), "asked once");
        pid
    });
}
