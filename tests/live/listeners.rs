//! Listeners as the log tells them: those that were there, those that open, those that close, by whom; and
//! those that never came to be.

use std::time::Duration;

use libtest_mimic::Trial;
use rustix::io::Errno;
use rustix::process::Signal;
use tracer::line::{Body, Call, Cause, Change, Mismatch, OwnerState, Ready};

use crate::support::cast::{Actor, Costume};
use crate::support::late::unless_late;
use crate::support::needs::Need;
use crate::support::netns::Netns;
use crate::support::port::Port;
use crate::support::story::{Client, Listen, Listening, Story, assert_cookie};
use crate::trial;

const NEEDS: &[Need] = &[Need::Root, Need::Network];
const NEEDS_COOKIES: &[Need] = &[Need::Root, Need::Network, Need::Cookies];
const NEEDS_MPTCP: &[Need] = &[Need::Root, Need::Network, Need::Mptcp];
const NEEDS_URING: &[Need] = &[Need::Root, Need::Network, Need::Uring, Need::UringServer];

pub fn trials() -> Vec<Trial> {
    let mut trials = vec![
        trial("listeners::every_field_of_a_present_one", NEEDS, every_field_of_a_present_one),
        trial("listeners::present_opened_and_closed", NEEDS, present_opened_and_closed),
        trial("listeners::each_is_told_once", NEEDS, each_is_told_once),
        trial("listeners::told_before_a_refusal_that_weighs_it", NEEDS, told_before_a_refusal),
        trial("listeners::none_is_missed_while_it_starts", NEEDS_COOKIES, none_is_missed_while_it_starts),
        trial("listeners::multipath_is_told_once", NEEDS_MPTCP, multipath_once),
        trial("listeners::multipath_of_both_families", NEEDS_MPTCP, || both_families(true)),
        trial("listeners::a_wildcard_of_both_families", NEEDS, || both_families(false)),
        trial("listeners::a_wildcard_of_one_family", NEEDS, a_wildcard_of_one_family),
        trial("listeners::a_mapped_address_is_ipv4", NEEDS, a_mapped_address_is_ipv4),
        trial("listeners::other_ports_are_not_told", NEEDS, other_ports_are_not_told),
        trial("listeners::a_failed_listen_is_none", NEEDS, || unless_late(a_failed_listen_is_none)),
        trial("listeners::a_child_that_inherited_it_is_the_owner", NEEDS, a_child_is_the_owner),
        trial("listeners::shut_down_and_opened_again", NEEDS, || left_and_opened_again("shutdown")),
        trial("listeners::disconnected_and_opened_again", NEEDS, || left_and_opened_again("disconnect")),
        trial("listeners::listen_called_again_is_no_change", NEEDS, listen_called_again),
        trial("listeners::listen_called_again_changes_the_backlog", NEEDS, listen_changes_the_backlog),
        trial("listeners::reuseport::closed_one_by_one", NEEDS, || reuseport(Actor::close)),
        trial("listeners::reuseport::killed_one_by_one", NEEDS, || reuseport(|gateway| _ = gateway.kill())),
        trial("listeners::reuseport::of_several_addresses", NEEDS, reuseport_of_several_addresses),
        trial("listeners::passed::before_the_tracer", NEEDS, passed_before_the_tracer),
        trial("listeners::passed::on_the_way_it_listens", NEEDS, passed_on_the_way),
        trial("listeners::passed::before_it_listens", NEEDS, passed_before_it_listens),
        trial("listeners::passed::while_it_is_traced", NEEDS, || given_away(passed_on_before_an_exit)),
        trial("listeners::passed::and_its_opener_is_killed", NEEDS, || given_away(passed_on_before_a_kill)),
        trial("listeners::inherited_over_fork", NEEDS, || given_away(inherited_by_a_child)),
        trial("listeners::passed::both_hold_it", NEEDS, passed_and_held_by_both),
        trial("listeners::passed::by_pidfd_getfd", NEEDS, passed_by_pidfd_getfd),
        trial("listeners::inherited_over_exec::before_the_tracer", NEEDS, || {
            inherited_over_exec(true);
        }),
        trial("listeners::inherited_over_exec::while_it_is_traced", NEEDS, || {
            inherited_over_exec(false);
        }),
        trial("listeners::the_first_screen_tells_each_address", NEEDS, the_first_screen_tells_each_address),
        trial("listeners::more_than_sixteen_are_counted", NEEDS, more_than_sixteen_are_counted),
    ];
    for (name, way) in [("caller", "uring"), ("worker", "uring=worker"), ("poller", "uring=sqpoll")] {
        let trials_of = [
            trial(format!("listeners::uring::{name}"), NEEDS_URING, move || uring(way)),
            trial(format!("listeners::uring::bind_fails::{name}"), NEEDS_URING, move || {
                uring_bind_fails(way);
            }),
            trial(format!("listeners::uring::listen_fails::{name}"), NEEDS_URING, move || {
                unless_late(|| uring_listen_fails(way));
            }),
        ];
        trials.extend(trials_of);
    }
    trials
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

/// However late the tracer reads of both, a listener whose listen() could no longer fail stands in the log before
/// the refusal that names it.
fn told_before_a_refusal() {
    let mut story = Story::begin();
    story.trace();
    let [mut gateway, mut client] =
        ["gateway", "client"].map(|comm| Actor::start(&story.netns.place(), &Costume::named(comm)));
    gateway.must(&format!("bind 127.0.0.1:{}", story.port()));
    story.tracer().signal(Signal::STOP);
    gateway.listen(16).expect("to listen");
    // A listen() that fails does so within a millisecond.
    std::thread::sleep(Duration::from_millis(3));
    let outcome = client.ask(&format!("connect [::1]:{}", story.port()));
    assert_eq!(outcome, Err(Errno::CONNREFUSED.raw_os_error()));
    story.tracer().signal(Signal::CONT);
    let refused = story.tracer().refused(client.pid);
    assert_eq!(refused.verdict.cause, Cause::WrongFamily, "{refused:?}");
    assert_eq!(refused.verdict.listeners[0].listener.process.pid, Some(gateway.pid), "{refused:?}");
    let log = story.end();
    let is_opening = |body: &Body| matches!(body, Body::Listener(line) if line.change == Change::Opened);
    let place = |wanted: &dyn Fn(&Body) -> bool| log.lines.iter().position(|line| wanted(&line.body));
    let (opened, refused) = (place(&is_opening), place(&|body| matches!(body, Body::Refused(_))));
    assert!(opened.is_some() && opened < refused, "{}", log.text());
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
fn left_and_opened_again(how: &str) {
    let mut story = Story::begin();
    let mut gateway = story.listen("127.0.0.1");
    story.trace();
    gateway.must(how);
    story.closed(gateway.pid);
    story.refused("127.0.0.1").cause(Cause::Stopped).weighs(&gateway, Mismatch::Closed);
    let cookie = gateway.cookie;
    gateway.listen(16).expect("to listen again");
    assert_eq!(gateway.cookie, cookie, "it is the same socket");
    let line = story.tracer().listener(Change::Opened, gateway.pid);
    gateway.assert_is(&line.listener);
    story.answered("127.0.0.1");
    story.refused("[::1]").cause(Cause::WrongFamily).weighs_only(1);
    let log = story.end();
    let expected = [Change::Present, Change::Closed, Change::Opened];
    assert_eq!(changes(&log, gateway.pid), expected, "{}", log.text());
}

/// On a listener it changes the backlog, and no state.
fn listen_called_again() {
    let mut story = Story::begin();
    let present = story.listen("127.0.0.1");
    story.trace();
    let opened = story.listen("127.0.0.2");
    let mut gateways = [present, opened];
    for gateway in &mut gateways {
        gateway.listen(16).expect("to listen again");
        story.answered(gateway.addr());
    }
    story.refused("[::1]").cause(Cause::WrongFamily).weighs_only(2).weighs(&gateways[0], Mismatch::Family);
    for gateway in &mut gateways {
        story.close(gateway);
    }
    story.refused("127.0.0.1").cause(Cause::Stopped).weighs(&gateways[0], Mismatch::Closed);
    let log = story.end();
    let [present, opened] = &gateways;
    assert_eq!(changes(&log, present.pid), [Change::Present, Change::Closed], "{}", log.text());
    assert_eq!(changes(&log, opened.pid), [Change::Opened, Change::Closed], "{}", log.text());
    assert!(!log.lines.iter().any(|line| matches!(line.body, Body::Recovered(_))), "{}", log.text());
}

fn listen_changes_the_backlog() {
    let mut story = Story::begin();
    story.trace();
    let mut gateway = story.listen("127.0.0.1");
    gateway.listen(32).expect("to listen again");
    let refusal = story.refused("[::1]");
    assert_eq!(refusal.line.verdict.listeners[0].listener.backlog, Some(32), "{}", refusal.told());
    drop(refusal);
    story.close(&mut gateway);
    let line = story.tracer().listener(Change::Closed, gateway.pid);
    assert_eq!(line.listener.backlog, Some(32), "{line:?}");
    story.end();
}

/// One of a group that ends is not a stop; the last one is.
fn reuseport(end: fn(&mut Actor)) {
    let mut story = Story::begin();
    let listen = || Listen::at("127.0.0.1").with("reuseport");
    let present = story.listen(listen());
    story.trace();
    let opened = story.listen(listen());
    let mut gateways = [present, story.listen(listen()), opened];
    for left in (0..gateways.len()).rev() {
        end(&mut gateways[left]);
        story.closed(gateways[left].pid);
        if left == 0 {
            break;
        }
        for _ in 0..8 {
            story.answered("127.0.0.1");
        }
        let refusal = story.refused("[::1]");
        refusal.cause(Cause::WrongFamily).weighs_only(left);
        for gateway in &gateways[..left] {
            refusal.weighs(gateway, Mismatch::Family);
        }
    }
    let refusal = story.refused("127.0.0.1");
    refusal.cause(Cause::Stopped).weighs(&gateways[0], Mismatch::Closed);
    assert!(refusal.line.verdict.summary.contains(&format!("[{}]", gateways[0].pid)), "{}", refusal.told());
    drop(refusal);
    let log = story.end();
    let [present, opened @ ..] = &gateways;
    assert_eq!(changes(&log, present.pid), [Change::Present, Change::Closed], "{}", log.text());
    for gateway in opened {
        assert_eq!(changes(&log, gateway.pid), [Change::Opened, Change::Closed], "{}", log.text());
    }
    assert_eq!(log.stop().by_cause[&Cause::WrongFamily], 2, "{}", log.text());
    assert_eq!(log.stop().by_cause[&Cause::Stopped], 1, "{}", log.text());
}

/// The wildcard goes, and what is left covers only its own address.
fn reuseport_of_several_addresses() {
    let mut story = Story::begin();
    let own = story.listen(Listen::at("10.77.0.1").with("reuseport"));
    story.trace();
    let mut wildcard = story.listen(Listen::at("0.0.0.0").with("reuseport"));
    story.answered("127.0.0.1");
    story.close(&mut wildcard);
    story.answered("10.77.0.1");
    let refusal = story.refused("127.0.0.1");
    refusal.cause(Cause::Stopped).weighs(&wildcard, Mismatch::Closed).weighs(&own, Mismatch::Address);
    drop(refusal);
    let _again = story.listen(Listen::at("0.0.0.0").with("reuseport"));
    story.answered("127.0.0.1");
    let log = story.end();
    assert_eq!(log.stop().refused, 1, "{}", log.text());
}

/// `[::]` without v6only is one listener, and one end of both families.
fn both_families(is_multipath: bool) {
    let listen = || if is_multipath { Listen::at("[::]").mptcp() } else { Listen::at("[::]") };
    for is_there_before in [true, false] {
        let mut story = Story::begin();
        if !is_there_before {
            story.trace();
        }
        let mut gateway = story.listen(listen());
        if is_there_before {
            story.trace();
        }
        let all = ["127.0.0.1", "[::1]", "[::ffff:127.0.0.1]", "10.77.0.1", "[fd77::1]"];
        for addr in all {
            story.answered(addr);
        }
        story.close(&mut gateway);
        for addr in all {
            story.refused(addr).cause(Cause::Stopped).weighs_only(1).weighs(&gateway, Mismatch::Closed);
        }
        let log = story.end();
        let first = if is_there_before { Change::Present } else { Change::Opened };
        assert_eq!(changes(&log, gateway.pid), [first, Change::Closed], "{}", log.text());
        assert_eq!(log.stop().refused, 5, "{}", log.text());
    }
}

/// With v6only it is not asked for IPv4, mapped or not, and leaves that to another.
fn a_wildcard_of_one_family() {
    let mut story = Story::begin();
    let v6 = story.listen(Listen::at("[::]").v6only());
    story.trace();
    for addr in ["127.0.0.1", "[::ffff:127.0.0.1]", "10.77.0.1"] {
        story.refused(addr).cause(Cause::WrongFamily).weighs_only(1).weighs(&v6, Mismatch::V6only);
    }
    let mut v4 = story.listen("0.0.0.0");
    for addr in ["127.0.0.1", "[::ffff:127.0.0.1]", "[::1]"] {
        story.answered(addr);
    }
    story.close(&mut v4);
    story.answered("[::1]");
    let refusal = story.refused(Client::nonblocking("[::ffff:127.0.0.1]"));
    refusal.cause(Cause::Stopped).weighs(&v4, Mismatch::Closed).weighs(&v6, Mismatch::V6only);
    drop(refusal);
    let log = story.end();
    assert_eq!(changes(&log, v6.pid), [Change::Present], "{}", log.text());
    assert_eq!(changes(&log, v4.pid), [Change::Opened, Change::Closed], "{}", log.text());
}

/// An IPv6 socket bound to an IPv4-mapped address is told as what it is: IPv4.
fn a_mapped_address_is_ipv4() {
    let mut story = Story::begin();
    let port = story.port();
    let mapped = |story: &Story, addr: &str| {
        let mut gateway = Actor::start(&story.netns.place(), &Costume::named("gateway"));
        gateway.must(&format!("bind [::ffff:{addr}]:{port}"));
        gateway.listen(16).expect("to listen");
        gateway
    };
    let mut present = mapped(&story, "10.77.0.1");
    story.trace();
    let mut opened = mapped(&story, "127.0.0.2");
    for (change, gateway, addr) in
        [(Change::Present, &present, "10.77.0.1"), (Change::Opened, &opened, "127.0.0.2")]
    {
        let listener = story.tracer().listener(change, gateway.pid).listener;
        assert_eq!((listener.addr.as_str(), listener.v6only), (addr, None), "{listener:?}");
        assert_cookie(&listener, gateway.cookie);
        story.answered(addr);
    }
    for (addr, mismatch) in [("[::ffff:127.0.0.1]", Mismatch::Address), ("[::1]", Mismatch::Family)] {
        let refusal = story.refused(addr);
        refusal.cause(Cause::WrongAddress).weighs_only(2);
        let weighed = &refusal.line.verdict.listeners;
        assert!(weighed.iter().all(|weighed| weighed.mismatch == Some(mismatch)), "{}", refusal.told());
    }
    for gateway in [&mut present, &mut opened] {
        gateway.close();
        let listener = story.tracer().listener(Change::Closed, gateway.pid).listener;
        assert_eq!(listener.v6only, None, "{listener:?}");
    }
    let log = story.end();
    assert_eq!(changes(&log, present.pid), [Change::Present, Change::Closed], "{}", log.text());
    assert_eq!(changes(&log, opened.pid), [Change::Opened, Change::Closed], "{}", log.text());
}

fn heir(story: &Story) -> Actor {
    Actor::start(&story.netns.place(), &Costume::named("heir"))
}

/// By a message over a Unix socket, as systemd, or a server that hands over to its next version.
fn pass(listening: &mut Listening, mut heir: Actor) -> Actor {
    let mailbox = heir.mailbox();
    listening.pass(&mailbox);
    heir.take();
    listening.held_by(heir)
}

fn passed_before_the_tracer() {
    let mut story = Story::begin();
    let mut gateway = story.listen("127.0.0.1");
    let heir = heir(&story);
    assert_eq!(pass(&mut gateway, heir).exit(0).code(), Some(0));
    story.trace();
    let line = story.tracer().listener(Change::Present, gateway.pid);
    gateway.assert_is(&line.listener);
    story.answered("127.0.0.1");
    story.refused("[::1]").cause(Cause::WrongFamily).weighs_only(1).weighs(&gateway, Mismatch::Family);
    gateway.kill();
    story.closed(gateway.pid);
    let refusal = story.refused("127.0.0.1");
    refusal.cause(Cause::Stopped).weighs_only(1).weighs(&gateway, Mismatch::Closed);
    assert!(refusal.line.verdict.summary.contains("SIGKILL"), "{}", refusal.told());
    drop(refusal);
    let log = story.end();
    let changes: Vec<_> = log.listeners().map(|line| line.change).collect();
    assert_eq!(changes, [Change::Present, Change::Closed], "{}", log.text());
}

/// A socket that nobody holds, because it is in a message, listens; it is closed by whom the message reaches.
fn passed_on_the_way() {
    let mut story = Story::begin();
    story.trace();
    let mut gateway = story.listen("127.0.0.1");
    let mut heir = heir(&story);
    let mailbox = heir.mailbox();
    gateway.pass(&mailbox);
    let first = gateway.held_by(heir);
    let opened_by = first.pid;
    let mut first = first;
    assert_eq!(first.exit(0).code(), Some(0));
    story.answered("127.0.0.1");
    gateway.take();
    story.answered("127.0.0.1");
    story.close(&mut gateway);
    let line = story.tracer().listener(Change::Closed, gateway.pid);
    gateway.assert_is(&line.listener);
    assert_eq!(line.owner.expect("what became of the owner").state, OwnerState::Alive);
    story.refused("127.0.0.1").cause(Cause::Stopped).weighs_only(1).weighs(&gateway, Mismatch::Closed);
    let log = story.end();
    assert_eq!(changes(&log, opened_by), [Change::Opened], "{}", log.text());
    assert_eq!(changes(&log, gateway.pid), [Change::Closed], "{}", log.text());
}

/// One process binds, as a supervisor may have to for a port below 1024, and another listens.
fn passed_before_it_listens() {
    let mut story = Story::begin();
    story.trace();
    let mut supervisor = Actor::start(&story.netns.place(), &Costume::named("supervisor"));
    let mut heir = Actor::start(&story.netns.place(), &Costume::named("heir"));
    supervisor.must(&format!("bind 127.0.0.1:{}", story.port()));
    let mailbox = heir.mailbox();
    supervisor.pass(&mailbox);
    heir.take();
    supervisor.close();
    story.refused("127.0.0.1").cause(Cause::BoundNotListening).weighs_only(0);
    heir.listen(16).expect("to listen");
    let line = story.tracer().listener(Change::Opened, heir.pid);
    assert_eq!(line.listener.process.comm.as_deref(), Some("heir"), "{line:?}");
    assert_cookie(&line.listener, heir.cookie);
    story.answered("127.0.0.1");
    heir.close();
    let line = story.tracer().listener(Change::Closed, heir.pid);
    assert_eq!(line.owner.expect("what became of the owner").state, OwnerState::Alive);
    let refusal = story.refused("127.0.0.1");
    refusal.cause(Cause::Stopped).weighs_only(1);
    assert!(refusal.line.verdict.summary.contains(&format!("heir[{}]", heir.pid)), "{}", refusal.told());
    drop(refusal);
    let log = story.end();
    assert_eq!(calls(&log, supervisor.pid), [(Call::Bind, None)], "{}", log.text());
    assert_eq!(changes(&log, supervisor.pid), [], "{}", log.text());
    assert_eq!(changes(&log, heir.pid), [Change::Opened, Change::Closed], "{}", log.text());
}

/// The process that opened it has ended: the one that holds it is told, in each line from then on.
fn given_away(give: fn(&Story, &mut Listening)) {
    for is_there_before in [false, true] {
        let mut story = Story::begin();
        if !is_there_before {
            story.trace();
        }
        let mut gateway = story.listen("127.0.0.1");
        if is_there_before {
            story.trace();
        }
        let opened_by = gateway.pid;
        give(&story, &mut gateway);
        assert_ne!(gateway.pid, opened_by);
        story.answered("127.0.0.1");
        let refusal = story.refused("[::1]");
        refusal.cause(Cause::WrongFamily).weighs_only(1).weighs(&gateway, Mismatch::Family);
        let named = format!("{}[{}] listens", gateway.comm, gateway.pid);
        assert!(refusal.line.verdict.summary.contains(&named), "{}", refusal.told());
        drop(refusal);
        story.close(&mut gateway);
        let line = story.tracer().listener(Change::Closed, gateway.pid);
        gateway.assert_is(&line.listener);
        story.refused("127.0.0.1").cause(Cause::Stopped).weighs_only(1).weighs(&gateway, Mismatch::Closed);
        let log = story.end();
        assert_eq!(log.listeners().count(), 2, "{}", log.text());
    }
}

fn passed_on_before_an_exit(story: &Story, gateway: &mut Listening) {
    let heir = heir(story);
    assert_eq!(pass(gateway, heir).exit(0).code(), Some(0));
}

fn passed_on_before_a_kill(story: &Story, gateway: &mut Listening) {
    let heir = heir(story);
    pass(gateway, heir).kill();
}

fn inherited_by_a_child(_: &Story, gateway: &mut Listening) {
    gateway.fork();
}

/// The first to close it leaves it to the other.
fn passed_and_held_by_both() {
    let mut story = Story::begin();
    story.trace();
    let mut gateway = story.listen("127.0.0.1");
    let heir = heir(&story);
    let mut first = pass(&mut gateway, heir);
    first.close();
    story.answered("127.0.0.1");
    story.close(&mut gateway);
    let line = story.tracer().listener(Change::Closed, gateway.pid);
    gateway.assert_is(&line.listener);
    assert_eq!(line.owner.expect("what became of the owner").state, OwnerState::Alive);
    // How the one ends that had it before does not matter any more.
    first.kill();
    let refusal = story.refused("127.0.0.1");
    refusal.cause(Cause::Stopped).weighs_only(1).weighs(&gateway, Mismatch::Closed);
    assert!(refusal.line.verdict.summary.contains("lives on"), "{}", refusal.told());
    drop(refusal);
    let log = story.end();
    assert_eq!(changes(&log, first.pid), [Change::Opened], "{}", log.text());
    assert_eq!(changes(&log, gateway.pid), [Change::Closed], "{}", log.text());
}

fn passed_by_pidfd_getfd() {
    let mut story = Story::begin();
    let mut gateway = story.listen("[::1]");
    let mut heir = heir(&story);
    let descriptor = gateway.must("descriptor");
    heir.must(&format!("steal {} {descriptor}", gateway.pid));
    gateway.held_by(heir).kill();
    story.trace();
    let line = story.tracer().listener(Change::Present, gateway.pid);
    gateway.assert_is(&line.listener);
    story.refused("127.0.0.1").cause(Cause::WrongFamily).weighs_only(1).weighs(&gateway, Mismatch::Family);
    story.close(&mut gateway);
    story.refused("[::1]").cause(Cause::Stopped).weighs_only(1).weighs(&gateway, Mismatch::Closed);
    story.end();
}

/// A process that listens and then becomes another program, as under a supervisor.
fn inherited_over_exec(is_before: bool) {
    let mut story = Story::begin();
    if !is_before {
        story.trace();
    }
    let mut gateway = story.listen("127.0.0.1");
    gateway.exec("server");
    let mut first = Change::Opened;
    if is_before {
        story.trace();
        first = Change::Present;
        let line = story.tracer().listener(first, gateway.pid);
        gateway.assert_is(&line.listener);
    }
    story.answered("127.0.0.1");
    story.refused("[::1]").cause(Cause::WrongFamily).weighs_only(1).weighs(&gateway, Mismatch::Family);
    story.close(&mut gateway);
    let line = story.tracer().listener(Change::Closed, gateway.pid);
    gateway.assert_is(&line.listener);
    story.refused("127.0.0.1").cause(Cause::Stopped).weighs_only(1).weighs(&gateway, Mismatch::Closed);
    let log = story.end();
    assert_eq!(changes(&log, gateway.pid), [first, Change::Closed], "{}", log.text());
}

/// Whether this run sees binds by io_uring; where it does not, it must have said so.
fn sees_uring_binds(story: &mut Story) -> bool {
    let start = story.tracer().start_line();
    if start.hooks.iter().any(|hook| hook.kind == "fexit" && hook.name.contains("bind")) {
        return true;
    }
    let is_told = start.limits.iter().any(|limit| match limit.what.as_str() {
        "bind-by-syscall" => limit.why.contains("io_uring"),
        what => what == "no-binds",
    });
    assert!(is_told, "{start:?}");
    false
}

/// The calls of a process that the log tells, in order, with their errors.
fn calls(log: &crate::support::tracer::Log, pid: u32) -> Vec<(Call, Option<String>)> {
    let calls = log.lines.iter().filter_map(|line| match &line.body {
        Body::Bind(bind) if bind.process.pid == Some(pid) => Some((bind.call, bind.errno.clone())),
        _ => None,
    });
    calls.collect()
}

/// Bound and opened by a thread of the kernel's: the process is told whose thread it is.
fn uring(way: &'static str) {
    let mut story = Story::begin();
    story.trace();
    let sees_binds = sees_uring_binds(&mut story);
    let bound = |sees: bool| if sees { vec![(Call::Bind, None)] } else { Vec::new() };

    let mut server = Actor::start(&story.netns.place(), &Costume::named("server").uid(65_534));
    server.must(&format!("bind 10.77.0.1:{} {way}", story.port()));
    let refusal = story.refused("10.77.0.1");
    // Where no hook has seen it, the kernel lists it (6.8 and later; binds by io_uring came with 6.11).
    refusal.cause(Cause::BoundNotListening).weighs_only(0);
    drop(refusal);
    server.kill();

    let mut gateway =
        story.listen(Listen::at("127.0.0.1").with(way).by(Costume::named("gateway").uid(65_534)));
    let line = story.tracer().listener(Change::Opened, gateway.pid);
    assert_eq!(line.listener.process.uid, Some(65_534), "{line:?}");
    assert_eq!(line.listener.process.ppid, Some(std::process::id()), "{line:?}");
    story.answered("127.0.0.1");
    story.refused("[::1]").cause(Cause::WrongFamily).weighs_only(1).weighs(&gateway, Mismatch::Family);
    story.close(&mut gateway);
    let line = story.tracer().listener(Change::Closed, gateway.pid);
    gateway.assert_is(&line.listener);
    assert_eq!(line.owner.expect("what became of the owner").state, OwnerState::Alive);
    story.refused("127.0.0.1").cause(Cause::Stopped).weighs_only(1).weighs(&gateway, Mismatch::Closed);
    let log = story.end();
    assert_eq!(changes(&log, gateway.pid), [Change::Opened, Change::Closed], "{}", log.text());
    for pid in [server.pid, gateway.pid] {
        assert_eq!(calls(&log, pid), bound(sees_binds), "{}", log.text());
    }
    assert_eq!(log.stop().refused, 3, "{}", log.text());
}

fn uring_bind_fails(way: &'static str) {
    let mut story = Story::begin();
    let holder = story.listen("10.77.0.1");
    story.trace();
    let sees_binds = sees_uring_binds(&mut story);
    let mut server = Actor::start(&story.netns.place(), &Costume::named("server"));
    let outcome = server.ask(&format!("bind 0.0.0.0:{} {way}", story.port()));
    assert_eq!(outcome, Err(Errno::ADDRINUSE.raw_os_error()));
    let refusal = story.refused("127.0.0.1");
    refusal
        .cause(if sees_binds { Cause::BindFailed } else { Cause::WrongAddress })
        .weighs_only(1)
        .weighs(&holder, Mismatch::Address);
    let failed: Vec<_> = refusal
        .line
        .verdict
        .failed_binds
        .iter()
        .map(|failed| (failed.process.pid, failed.process.comm.as_deref(), failed.errno.as_str()))
        .collect();
    let expected =
        if sees_binds { vec![(Some(server.pid), Some("server"), "EADDRINUSE")] } else { Vec::new() };
    assert_eq!(failed, expected, "{}", refusal.told());
    drop(refusal);
    let log = story.end();
    let expected = if sees_binds { vec![(Call::Bind, Some("EADDRINUSE".to_owned()))] } else { Vec::new() };
    assert_eq!(calls(&log, server.pid), expected, "{}", log.text());
}

/// A listen() that fails is seen in every case.
fn uring_listen_fails(way: &'static str) {
    let mut story = Story::begin();
    story.trace();
    let sees_binds = sees_uring_binds(&mut story);
    let mut actors = [(); 2].map(|()| Actor::start(&story.netns.place(), &Costume::named("server")));
    for actor in &mut actors {
        actor.must(&format!("bind 127.0.0.1:{} reuseaddr {way}", story.port()));
    }
    let [first, second] = &mut actors;
    first.listen_with(16, way).expect("the first to listen");
    story.tracer().listener(Change::Opened, first.pid);
    assert_eq!(second.listen_with(16, way), Err(Errno::ADDRINUSE.raw_os_error()));
    story.answered("127.0.0.1");
    let refusal = story.refused("[::1]");
    refusal.cause(Cause::WrongFamily).weighs_only(1);
    assert_eq!(refusal.line.verdict.listeners[0].listener.process.pid, Some(first.pid), "{}", refusal.told());
    drop(refusal);
    let log = story.end();
    assert_eq!(changes(&log, first.pid), [Change::Opened], "{}", log.text());
    assert_eq!(changes(&log, second.pid), [], "{}", log.text());
    let bound = sees_binds.then_some((Call::Bind, None));
    let failed = (Call::Listen, Some("EADDRINUSE".to_owned()));
    assert_eq!(
        calls(&log, second.pid),
        bound.into_iter().chain([failed]).collect::<Vec<_>>(),
        "{}",
        log.text()
    );
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
