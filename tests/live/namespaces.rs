//! Network namespaces that come and go while the tracer runs, that have no name, that are asked for, and
//! that another one's addresses lead into.

use std::path::PathBuf;

use libtest_mimic::Trial;
use tracer::line::{Because, Cause, Mismatch};

use crate::support::cast::{Actor, Costume};
use crate::support::needs::Need;
use crate::support::netns::{self, Netns, Place};
use crate::support::poll;
use crate::support::story::{Client, Spot, Story};
use crate::trial;

const NEEDS: &[Need] = &[Need::Root, Need::Network];

pub fn trials() -> Vec<Trial> {
    vec![
        trial("namespaces::one_born_meanwhile", NEEDS, one_born_meanwhile),
        trial("namespaces::one_born_meanwhile_holds_the_listener", NEEDS, one_born_holds_the_listener),
        trial("namespaces::one_deleted_meanwhile_is_forgotten", NEEDS, one_deleted_is_forgotten),
        trial("namespaces::a_reused_number_has_no_history", NEEDS, a_reused_number_has_no_history),
        trial("namespaces::none_is_kept_alive", NEEDS, none_is_kept_alive),
        trial("namespaces::one_without_a_name", NEEDS, one_without_a_name),
        trial("namespaces::an_address_added_meanwhile_is_local", NEEDS, an_address_added_meanwhile),
        trial("namespaces::an_address_in_another_is_judged_there", NEEDS, judged_there),
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

fn one_born_holds_the_listener() {
    let mut story = Story::begin();
    story.trace();
    let born = Netns::new();
    let gateway = story.listen_in(&born, "127.0.0.1");
    story.refused("127.0.0.1").cause(Cause::OtherNetns).weighs(&gateway, Mismatch::Netns);
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

fn one_without_a_name() {
    let mut story = Story::begin();
    let keeper = Actor::start(&Place::Unshared, &Costume::named("keeper"));
    let path = PathBuf::from(format!("/proc/{}/ns/net", keeper.pid));
    let mut ip = std::process::Command::new("ip");
    netns::run(netns::enter(&path, ip.args(["-batch", "-"])), "link set lo up");
    let spot = Spot { place: Place::Path(path.clone()), id: netns::inode(&path), name: None };
    let gateway = story.listen_in(spot.clone(), "127.0.0.1");
    story.trace();
    story.refused_in(spot.clone(), "[::1]").cause(Cause::WrongFamily).weighs(&gateway, Mismatch::Family);
    story.refused("127.0.0.1").cause(Cause::OtherNetns).weighs(&gateway, Mismatch::Netns);
    story.end();
}

/// An address that the tracer has not seen at its start: what is local is looked up again.
fn an_address_added_meanwhile() {
    let mut story = Story::begin();
    let gateway = story.listen("127.0.0.1");
    story.trace();
    story.netns.ip("addr add 10.78.0.1/24 dev eth0
        addr add fd78::1/64 dev eth0 nodad");
    story.refused("10.78.0.1").cause(Cause::WrongAddress).weighs(&gateway, Mismatch::Address);
    story.refused("[fd78::1]").cause(Cause::WrongAddress).weighs(&gateway, Mismatch::Family);
    story.end();
}

/// A proxy on the host that is refused by a container's address: what listens in the container decides.
fn judged_there() {
    let mut story = Story::begin();
    let container = Netns::new();
    // Addresses that no other test uses, at the same time or another: made from the port.
    let [high, low] = story.port().to_be_bytes();
    let (here, there) = (format!("10.{high}.{low}.1"), format!("10.{high}.{low}.2"));
    story.netns.join("bridge", &container, "uplink");
    story.netns.ip(&format!("addr add {here}/24 dev bridge"));
    container.ip(&format!("addr add {there}/24 dev uplink"));
    let gateway = story.listen_in(&container, "127.0.0.1");
    story.trace();
    for client in [Client::blocking(&there), Client::nonblocking(&there)] {
        story.refused(client).cause(Cause::WrongAddress).weighs(&gateway, Mismatch::Address);
    }
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
