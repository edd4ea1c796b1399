//! Listeners as the log tells them: those that were there, those that open, those that close, by whom; and
//! those that never came to be.

use libtest_mimic::Trial;
use rustix::io::Errno;
use tracer::line::{Body, Cause, Change, Mismatch, OwnerState, Ready};

use crate::support::cast::{Actor, Costume};
use crate::support::needs::Need;
use crate::support::netns::Netns;
use crate::support::port::Port;
use crate::support::story::{Client, Listen, Listening, Story};
use crate::trial;

const NEEDS: &[Need] = &[Need::Root, Need::Network];

pub fn trials() -> Vec<Trial> {
    vec![
        trial("listeners::every_field_of_a_present_one", NEEDS, every_field_of_a_present_one),
        trial("listeners::present_opened_and_closed", NEEDS, present_opened_and_closed),
        trial("listeners::each_is_told_once", NEEDS, each_is_told_once),
        trial(
            "listeners::none_is_missed_while_it_starts",
            &[Need::Root, Need::Network, Need::Cookies],
            none_is_missed_while_it_starts,
        ),
        trial("listeners::multipath_is_told_once", &[Need::Root, Need::Network, Need::Mptcp], multipath_once),
        trial("listeners::other_ports_are_not_told", NEEDS, other_ports_are_not_told),
        trial("listeners::a_failed_listen_is_none", NEEDS, a_failed_listen_is_none),
        trial("listeners::a_child_that_inherited_it_is_the_owner", NEEDS, a_child_is_the_owner),
        trial("listeners::shut_down_and_opened_again", NEEDS, shut_down_and_opened_again),
        trial("listeners::the_first_screen_tells_each_address", NEEDS, the_first_screen_tells_each_address),
        trial("listeners::more_than_sixteen_are_counted", NEEDS, more_than_sixteen_are_counted),
    ]
}

fn every_field_of_a_present_one() {
    let mut story = Story::begin();
    let kinds = [
        Listen::at("127.0.0.1").by(Costume::named("node").uid(65_534)),
        Listen::at("10.77.0.1").device("eth0").by(Costume::named("node").uid(65_534)),
        Listen::at("[::]").v6only().by(Costume::named("node").uid(65_534)),
    ];
    let gateways = kinds.map(|listen| story.listen(listen));
    story.trace();
    for gateway in &gateways {
        let line = story.tracer().listener(Change::Present, gateway.pid);
        gateway.assert_is(&line.listener);
        assert_eq!(line.listener.since, None, "it was there before the tracer");
        assert_eq!(line.owner, None, "only what closes has a late owner");
        let process = &line.listener.process;
        assert_eq!(process.ns_pid, Some(gateway.pid));
        assert_eq!(process.ppid, Some(std::process::id()));
        assert_eq!(process.uid, Some(65_534));
        let exe = std::env::current_exe().expect("the path of this test binary");
        assert_eq!(process.exe.as_deref(), exe.to_str());
        assert!(process.start_time.is_some());
    }
    story.end();
}

fn present_opened_and_closed() {
    let mut story = Story::with_ports(2);
    let mut present = story.listen("[::1]");
    story.trace();
    // Opening asserts every field of the line.
    let mut opened = story.listen(Listen::at("0.0.0.0").port(1));
    for gateway in [&mut present, &mut opened] {
        story.close(gateway);
        let line = story.tracer().listener(Change::Closed, gateway.pid);
        gateway.assert_is(&line.listener);
        assert_eq!(line.owner.expect("what became of the owner").state, OwnerState::Alive);
    }
    story.end();
}

/// Which lines there are for a process's listeners, in order.
fn changes(log: &crate::support::tracer::Log, pid: u32) -> Vec<Change> {
    let own = log.listeners().filter(|line| line.listener.process.pid == Some(pid));
    own.map(|line| line.change).collect()
}

/// However a listener comes to be known, by the dump or by the hook, there is one line for each change.
fn each_is_told_once() {
    let mut story = Story::with_ports(8);
    let netns = [Netns::new(), Netns::new()];
    let mut present: Vec<Listening> =
        (0..4).map(|port| story.listen_in(&netns[port % 2], Listen::at("[::]").port(port))).collect();
    story.trace();
    let mut opened: Vec<Listening> =
        (4..8).map(|port| story.listen_in(&netns[port % 2], Listen::at("0.0.0.0").port(port))).collect();
    for gateway in present.iter_mut().chain(&mut opened) {
        story.close(gateway);
    }
    let log = story.end();
    for gateway in &present {
        assert_eq!(changes(&log, gateway.pid), [Change::Present, Change::Closed], "{}", log.text());
    }
    for gateway in &opened {
        assert_eq!(changes(&log, gateway.pid), [Change::Opened, Change::Closed], "{}", log.text());
    }
}

/// Listeners come and go while the tracer attaches, takes its snapshot and joins the two: from the first that
/// it tells, it tells every one, once.
fn none_is_missed_while_it_starts() {
    let mut story = Story::with_ports(2);
    let netns = Netns::new();
    let mut churners: Vec<Actor> = (0..2)
        .map(|port| {
            let mut churner = Actor::start(&netns.place(), &Costume::named("churner"));
            churner.must(&format!("churn 127.0.0.1:{}", story.ports[port].number));
            churner
        })
        .collect();
    story.trace();
    let cookies: Vec<Vec<String>> = churners
        .iter_mut()
        .map(|churner| churner.must("cookies").split(' ').map(str::to_owned).collect())
        .collect();
    let gateway = story.listen_in(&netns, "127.0.0.1");
    story
        .refused_in(&netns, "[::1]")
        .cause(Cause::WrongFamily)
        .weighs_only(1)
        .weighs(&gateway, Mismatch::Family);
    let log = story.end();
    for (churner, cookies) in churners.iter().zip(cookies) {
        let told = |cookie: &String| -> Vec<Change> {
            let lines = log.listeners().filter(|line| line.listener.cookie.as_ref() == Some(cookie));
            lines.map(|line| line.change).collect()
        };
        let first = cookies.iter().position(|cookie| !told(cookie).is_empty());
        let first = first.expect("they churned until it was ready");
        for (index, cookie) in cookies.iter().enumerate().skip(first) {
            let changes = told(cookie);
            let is_present_or_opened =
                matches!(changes[..], [Change::Present | Change::Opened, Change::Closed]);
            assert!(is_present_or_opened, "{index} of {}: {cookie} is told as {changes:?}", cookies.len());
        }
        let all = changes(&log, churner.pid).len();
        assert_eq!(all, 2 * (cookies.len() - first), "no other listener of this process");
    }
}

/// A multipath socket shows in the kernel twice, once for its TCP subflow.
fn multipath_once() {
    let mut story = Story::begin();
    let mut present = story.listen(Listen::at("127.0.0.1").mptcp());
    story.trace();
    let mut opened = story.listen(Listen::at("127.0.0.2").mptcp());
    story.close(&mut present);
    story.close(&mut opened);
    let log = story.end();
    assert_eq!(changes(&log, present.pid), [Change::Present, Change::Closed], "{}", log.text());
    assert_eq!(changes(&log, opened.pid), [Change::Opened, Change::Closed], "{}", log.text());
}

fn other_ports_are_not_told() {
    let mut story = Story::begin();
    let unwatched = Port::take();
    let mut gateway = Actor::start(&story.netns.place(), &Costume::named("gateway"));
    gateway.must(&format!("bind 0.0.0.0:{}", unwatched.number));
    gateway.listen(16).expect("to listen");
    story.trace();
    let mut client = Actor::start(&story.netns.place(), &Costume::named("client"));
    assert!(client.ask(&format!("connect [::1]:{}", unwatched.number)).is_err(), "IPv4 only");
    gateway.close();
    story.refused("127.0.0.1").cause(Cause::NothingListening).weighs_only(0);
    let log = story.end();
    assert_eq!(log.refusals().count(), 1, "{}", log.text());
    assert_eq!(log.listeners().count(), 0, "{}", log.text());
}

/// The kernel shows a listen() that fails as an opening and a closing.
fn a_failed_listen_is_none() {
    let mut story = Story::begin();
    story.trace();
    let bind = format!("bind 127.0.0.1:{} reuseaddr", story.port());
    let mut actors = [(); 2].map(|()| Actor::start(&story.netns.place(), &Costume::named("gateway")));
    for actor in &mut actors {
        actor.must(&bind);
    }
    let [first, second] = &mut actors;
    first.listen(16).expect("the first to listen");
    story.tracer().listener(Change::Opened, first.pid);
    assert_eq!(second.listen(16), Err(Errno::ADDRINUSE.raw_os_error()));
    // The listener that is there was not touched by it.
    story.answered("127.0.0.1");
    let refusal = story.refused("[::1]");
    let weighed: Vec<Option<u32>> =
        refusal.line.verdict.listeners.iter().map(|weighed| weighed.listener.process.pid).collect();
    assert_eq!(weighed, [Some(first.pid)], "{}", refusal.told());
    let log = story.end();
    assert_eq!(changes(&log, first.pid), [Change::Opened], "{}", log.text());
    assert_eq!(changes(&log, second.pid), [], "{}", log.text());
    assert_eq!(log.listeners().count(), 1, "{}", log.text());
}

/// The process that called listen() has ended; what counts is who holds the socket.
fn a_child_is_the_owner() {
    let mut story = Story::begin();
    let mut gateway = story.listen("10.77.0.1");
    let parent = gateway.pid;
    gateway.fork();
    assert_ne!(gateway.pid, parent);
    story.trace();
    let line = story.tracer().listener(Change::Present, gateway.pid);
    gateway.assert_is(&line.listener);
    story.refused("127.0.0.1").cause(Cause::WrongAddress).weighs(&gateway, Mismatch::Address);
    story.close(&mut gateway);
    story.end();

    // The same under the tracer's eyes: it is taken again when the listener closes.
    let mut story = Story::begin();
    story.trace();
    let mut gateway = story.listen("10.77.0.1");
    gateway.fork();
    story.close(&mut gateway);
    let line = story.tracer().listener(Change::Closed, gateway.pid);
    assert_eq!(line.owner.expect("what became of the owner").state, OwnerState::Alive);
    story.end();
}

/// One socket can leave LISTEN and come back: its cookie stays.
fn shut_down_and_opened_again() {
    let mut story = Story::begin();
    let mut gateway = story.listen("127.0.0.1");
    story.trace();
    gateway.must("shutdown");
    story.closed(gateway.pid);
    story.refused("127.0.0.1").cause(Cause::Stopped).weighs(&gateway, Mismatch::Closed);
    gateway.listen(16).expect("to listen again");
    story.tracer().listener(Change::Opened, gateway.pid);
    story.answered("127.0.0.1");
    story.refused("[::1]").cause(Cause::WrongFamily).weighs_only(1);
    let log = story.end();
    let expected = [Change::Present, Change::Closed, Change::Opened];
    assert_eq!(changes(&log, gateway.pid), expected, "{}", log.text());
}

/// Most people start it after the failure: it says at once what a connect would get.
fn the_first_screen_tells_each_address() {
    let mut story = Story::begin();
    let _gateway = story.listen("10.77.0.1");
    story.trace();
    let (id, port) = (story.netns.id, story.port());
    let ready: Ready = story.tracer().wait_for("the ready line", |line| match &line.body {
        Body::Ready(ready) => Some(ready.clone()),
        _ => None,
    });
    let answers: Vec<(&str, bool)> = ready
        .addresses
        .iter()
        .filter(|answer| answer.netns.id == id && answer.port == port)
        .map(|answer| (answer.addr.as_str(), answer.answered))
        .collect();
    for (addr, answered) in [("127.0.0.1", false), ("::1", false), ("10.77.0.1", true), ("fd77::1", false)] {
        assert!(answers.contains(&(addr, answered)), "{addr} {answered}: {answers:?}");
    }
    assert_eq!(ready.listeners, 1);
    assert!(ready.namespaces >= 2, "this one and the tracer's own: {ready:?}");
    // What it says is what happens.
    story.refused("127.0.0.1").cause(Cause::WrongAddress);
    story.refused("[fd77::1]").cause(Cause::WrongAddress);
    story.answered("10.77.0.1");
    story.end();
}

fn more_than_sixteen_are_counted() {
    const ALL: u8 = 20;
    let mut story = Story::begin();
    let gateways: Vec<Listening> =
        (2..2 + ALL).map(|last| story.listen(Listen::at(&format!("127.0.0.{last}")))).collect();
    story.trace();
    let refusal = story.refused(Client::nonblocking("127.0.0.1"));
    refusal.cause(Cause::WrongAddress).weighs_only(gateways.len());
    assert_eq!(refusal.line.verdict.listeners.len(), 16, "{}", refusal.told());
    drop(refusal);
    story.end();
}
