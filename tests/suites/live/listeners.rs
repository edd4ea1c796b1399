//! Listeners as the log shows them: those that were present, those that open, those that close, and by which process; and
//! those that never came to be.

use libtest_mimic::Trial;
use rustix::io::Errno;
use rustix::process::Signal;
use tracer::model::kernel_event::KernelEvent;
use tracer::output::schema::{Because, Body, Call, Cause, Change, Mismatch, OwnerState, Ready};
use tracer::state::SERVED_NS;

use tests::fixture::{Client, Fixture, Listen, Listening, assert_cookie, wait_past};
use tests::limits;
use tests::needs::Need;
use tests::netns::Netns;
use tests::port::Port;
use tests::process::{Actor, ProcessSpec};
use tests::suite::test;

use crate::processes::Recorder;

const NEEDS: &[Need] = &[Need::Root, Need::Network];
const NEEDS_COOKIES: &[Need] = &[Need::Root, Need::Network, Need::Cookies];
const NEEDS_MPTCP: &[Need] = &[Need::Root, Need::Network, Need::Mptcp];
const NEEDS_URING: &[Need] = &[Need::Root, Need::Network, Need::Uring, Need::UringServer];

pub fn all() -> Vec<Trial> {
    let mut all = vec![
        test("listeners::every_field_of_a_present_one", NEEDS, every_field_of_a_present_one),
        test("listeners::present_opened_and_closed", NEEDS, present_opened_and_closed),
        test("listeners::closed_just_before_its_process_ends", NEEDS, closed_just_before_its_process_ends),
        test("listeners::each_is_reported_once", NEEDS, each_is_reported_once),
        test("listeners::reported_before_a_refusal_that_evaluates_it", NEEDS, reported_before_a_refusal),
        test("listeners::none_is_missed_while_it_starts", NEEDS_COOKIES, none_is_missed_while_it_starts),
        test("listeners::multipath_is_reported_once", NEEDS_MPTCP, multipath_once),
        test("listeners::multipath_of_both_families", NEEDS_MPTCP, || both_families(true)),
        test("listeners::a_wildcard_of_both_families", NEEDS, || both_families(false)),
        test("listeners::a_wildcard_of_one_family", NEEDS, a_wildcard_of_one_family),
        test("listeners::a_mapped_address_is_ipv4", NEEDS, a_mapped_address_is_ipv4),
        test("listeners::other_ports_are_not_reported", NEEDS, other_ports_are_not_reported),
        test("listeners::a_failed_listen_is_not_a_listener", NEEDS, a_failed_listen_is_none),
        test(
            "listeners::each_result_is_recorded_once_where_fexit_shows_it",
            NEEDS,
            each_result_is_recorded_once,
        ),
        test("listeners::a_child_that_inherited_it_is_the_owner", NEEDS, a_child_is_the_owner),
        test("listeners::shut_down_and_opened_again", NEEDS, || left_and_opened_again("shutdown")),
        test("listeners::disconnected_and_opened_again", NEEDS, || left_and_opened_again("disconnect")),
        test("listeners::listen_called_again_changes_nothing", NEEDS, listen_called_again),
        test("listeners::listen_called_again_changes_the_backlog", NEEDS, listen_changes_the_backlog),
        test("listeners::reuseport::closed_one_by_one", NEEDS, || reuseport(Actor::close)),
        test("listeners::reuseport::killed_one_by_one", NEEDS, || reuseport(|gateway| _ = gateway.kill())),
        test("listeners::reuseport::of_several_addresses", NEEDS, reuseport_of_several_addresses),
        test("listeners::passed::before_the_tracer", NEEDS, passed_before_the_tracer),
        test("listeners::passed::on_the_way_it_listens", NEEDS, passed_on_the_way),
        test("listeners::passed::before_it_listens", NEEDS, passed_before_it_listens),
        test("listeners::passed::while_it_is_traced", NEEDS, || given_away(passed_on_before_an_exit)),
        test("listeners::passed::and_its_opener_is_killed", NEEDS, || given_away(passed_on_before_a_kill)),
        test("listeners::inherited_over_fork", NEEDS, || given_away(inherited_by_a_child)),
        test("listeners::passed::both_hold_it", NEEDS, passed_and_held_by_both),
        test("listeners::passed::by_pidfd_getfd", NEEDS, passed_by_pidfd_getfd),
        test("listeners::inherited_over_exec::before_the_tracer", NEEDS, || {
            inherited_over_exec(true);
        }),
        test("listeners::inherited_over_exec::while_it_is_traced", NEEDS, || {
            inherited_over_exec(false);
        }),
        test("listeners::the_first_screen_shows_each_address", NEEDS, the_first_screen_shows_each_address),
        test("listeners::more_than_sixteen_are_counted", NEEDS, more_than_sixteen_are_counted),
    ];
    for (name, way) in [("caller", "uring"), ("worker", "uring=worker"), ("poller", "uring=sqpoll")] {
        let grouped = [
            test(format!("listeners::uring::{name}"), NEEDS_URING, move || uring(way)),
            test(format!("listeners::uring::bind_fails::{name}"), NEEDS_URING, move || {
                uring_bind_fails(way);
            }),
            test(format!("listeners::uring::listen_fails::{name}"), NEEDS_URING, move || {
                uring_listen_fails(way);
            }),
        ];
        all.extend(grouped);
    }
    all
}

fn every_field_of_a_present_one() {
    let mut fixture = Fixture::begin();
    let kinds = [
        Listen::at("127.0.0.1").by(ProcessSpec::named("node").uid(65_534)),
        Listen::at("10.77.0.1").device("eth0").by(ProcessSpec::named("node").uid(65_534)),
        Listen::at("[::]").v6only().by(ProcessSpec::named("node").uid(65_534)),
    ];
    let gateways = kinds.map(|listen| fixture.listen(listen));
    fixture.trace();
    for gateway in &gateways {
        let line = fixture.tracer().listener(Change::Present, gateway.pid);
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
    fixture.end();
}

fn present_opened_and_closed() {
    let mut fixture = Fixture::with_ports(2);
    let mut present = fixture.listen("[::1]");
    fixture.trace();
    // Opening asserts every field of the line.
    let mut opened = fixture.listen(Listen::at("0.0.0.0").port(1));
    for gateway in [&mut present, &mut opened] {
        fixture.close(gateway);
        let line = fixture.tracer().listener(Change::Closed, gateway.pid);
        gateway.assert_is(&line.listener);
        assert_eq!(line.owner.expect("what became of the owner").state, OwnerState::Alive);
    }
    fixture.end();
}

/// Which lines there are for a process's listeners, in order.
fn changes(log: &tests::tracer::Log, pid: u32) -> Vec<Change> {
    let own = log.listeners().filter(|line| line.listener.process.pid == Some(pid));
    own.map(|line| line.change).collect()
}

/// A server that ends in order closes its listener first: the log shows how it ended, and not that it is running.
fn closed_just_before_its_process_ends() {
    /// How often the two may come too late one after the other on a busy machine.
    const TRIES: usize = 20;
    let mut fixture = Fixture::begin();
    fixture.trace();
    for _ in 0..TRIES {
        let mut gateway = fixture.listen("127.0.0.1");
        let began = std::time::Instant::now();
        gateway.close();
        gateway.exit(3);
        if began.elapsed() > std::time::Duration::from_millis(80) {
            continue;
        }
        let line = fixture.tracer().listener(Change::Closed, gateway.pid);
        let owner = line.owner.as_ref().map(|owner| (owner.state, owner.code));
        assert_eq!(owner, Some((OwnerState::Ended, Some(3))), "{line:?}");
        let refusal = fixture.refused("127.0.0.1");
        refusal.cause(Cause::Stopped);
        assert!(refusal.line.verdict.summary.contains("exited with code 3"), "{}", refusal.shown());
        fixture.end();
        return;
    }
    panic!("a process never ended within 80 ms in {TRIES} tries");
}

/// However a listener comes to be known, by the dump or by the hook, there is one line for each change.
fn each_is_reported_once() {
    let mut fixture = Fixture::with_ports(8);
    let netns = [Netns::with_eth0(), Netns::with_eth0()];
    let mut present: Vec<Listening> =
        (0..4).map(|port| fixture.listen_in(&netns[port % 2], Listen::at("[::]").port(port))).collect();
    fixture.trace();
    let mut opened: Vec<Listening> =
        (4..8).map(|port| fixture.listen_in(&netns[port % 2], Listen::at("0.0.0.0").port(port))).collect();
    for gateway in present.iter_mut().chain(&mut opened) {
        fixture.close(gateway);
    }
    let log = fixture.end();
    for gateway in &present {
        assert_eq!(changes(&log, gateway.pid), [Change::Present, Change::Closed], "{}", log.text());
    }
    for gateway in &opened {
        assert_eq!(changes(&log, gateway.pid), [Change::Opened, Change::Closed], "{}", log.text());
    }
}

/// However late the tracer reads of both, a listener stands in the log before the refusal that names it.
fn reported_before_a_refusal() {
    let mut fixture = Fixture::begin();
    fixture.trace();
    let [mut gateway, mut client] =
        ["gateway", "client"].map(|comm| Actor::start(&fixture.netns.place(), &ProcessSpec::named(comm)));
    gateway.must(&format!("bind 127.0.0.1:{}", fixture.port()));
    fixture.tracer().signal(Signal::STOP);
    gateway.listen(16).expect("to listen");
    let outcome = client.ask(&format!("connect [::1]:{}", fixture.port()));
    assert_eq!(outcome, Err(Errno::CONNREFUSED.raw_os_error()));
    fixture.tracer().signal(Signal::CONT);
    let refused = fixture.tracer().refused(client.pid);
    assert_eq!(refused.verdict.cause, Cause::WrongFamily, "{refused:?}");
    assert_eq!(refused.verdict.listeners[0].listener.process.pid, Some(gateway.pid), "{refused:?}");
    let log = fixture.end();
    let is_opening = |body: &Body| matches!(body, Body::Listener(line) if line.change == Change::Opened);
    let place = |wanted: &dyn Fn(&Body) -> bool| log.lines.iter().position(|line| wanted(&line.body));
    let (opened, refused) = (place(&is_opening), place(&|body| matches!(body, Body::Refused(_))));
    assert!(opened.is_some() && opened < refused, "{}", log.text());
}

/// Listeners come and go while the tracer attaches, takes its snapshot and joins the two: from the first that
/// the log shows, it shows each one once; where the kernel skips programs that are preempted, but for what the log counts
/// as skipped.
fn none_is_missed_while_it_starts() {
    let mut fixture = Fixture::with_ports(2);
    let netns = Netns::with_eth0();
    let mut churners: Vec<Actor> = (0..2)
        .map(|port| {
            let mut churner = Actor::start(&netns.place(), &ProcessSpec::named("churner"));
            churner.must(&format!("churn 127.0.0.1:{}", fixture.ports[port].number));
            churner
        })
        .collect();
    fixture.trace();
    let cookies: Vec<Vec<String>> = churners
        .iter_mut()
        .map(|churner| churner.must("cookies").split(' ').map(str::to_owned).collect())
        .collect();
    let gateway = fixture.listen_in(&netns, "127.0.0.1");
    let refusal = fixture.refused_in(&netns, "[::1]");
    refusal.cause(Cause::WrongFamily).evaluates(&gateway, Mismatch::Family);
    let log = fixture.end();
    let skipped = if limits::is_expected("preempted-programs") { log.skipped() } else { 0 };
    // One whose closing was skipped is still there until the next dump.
    if skipped == 0 {
        refusal.evaluates_only(1);
    }
    let mut missed = 0;
    for (churner, cookies) in churners.iter().zip(cookies) {
        let shown = |cookie: &String| -> Vec<Change> {
            let lines = log.listeners().filter(|line| line.listener.cookie.as_ref() == Some(cookie));
            lines.map(|line| line.change).collect()
        };
        let first = cookies.iter().position(|cookie| !shown(cookie).is_empty());
        let first = first.expect("they churned until it was ready");
        let mut lines = 0;
        for (index, cookie) in cookies.iter().enumerate().skip(first) {
            let changes = shown(cookie);
            lines += changes.len();
            match changes[..] {
                [Change::Present | Change::Opened, Change::Closed] => {}
                [] | [Change::Present | Change::Opened] => missed += 1,
                _ => panic!("{index} of {}: {cookie} is reported as {changes:?}", cookies.len()),
            }
        }
        assert_eq!(changes(&log, churner.pid).len(), lines, "no other listener of this process");
    }
    assert!(missed <= skipped, "{}\n{missed} missed, {skipped} skipped", log.text());
}

/// A multipath socket shows in the kernel twice, once for its TCP subflow.
fn multipath_once() {
    let mut fixture = Fixture::begin();
    let mut present = fixture.listen(Listen::at("127.0.0.1").mptcp());
    fixture.trace();
    let mut opened = fixture.listen(Listen::at("127.0.0.2").mptcp());
    fixture.close(&mut present);
    fixture.close(&mut opened);
    let log = fixture.end();
    assert_eq!(changes(&log, present.pid), [Change::Present, Change::Closed], "{}", log.text());
    assert_eq!(changes(&log, opened.pid), [Change::Opened, Change::Closed], "{}", log.text());
}

fn other_ports_are_not_reported() {
    let mut fixture = Fixture::begin();
    let unwatched = Port::take();
    let mut gateway = Actor::start(&fixture.netns.place(), &ProcessSpec::named("gateway"));
    gateway.must(&format!("bind 0.0.0.0:{}", unwatched.number));
    gateway.listen(16).expect("to listen");
    fixture.trace();
    let mut client = Actor::start(&fixture.netns.place(), &ProcessSpec::named("client"));
    assert!(client.ask(&format!("connect [::1]:{}", unwatched.number)).is_err(), "IPv4 only");
    gateway.close();
    fixture.refused("127.0.0.1").cause(Cause::NothingListening).evaluates_only(0);
    let log = fixture.end();
    assert_eq!(log.refusals().count(), 1, "{}", log.text());
    assert_eq!(log.listeners().count(), 0, "{}", log.text());
}

/// The kernel shows a listen() that fails as an opening and a closing.
fn a_failed_listen_is_none() {
    let mut fixture = Fixture::begin();
    fixture.trace();
    let bind = format!("bind 127.0.0.1:{} reuseaddr", fixture.port());
    let mut actors = [(); 2].map(|()| Actor::start(&fixture.netns.place(), &ProcessSpec::named("gateway")));
    for actor in &mut actors {
        actor.must(&bind);
    }
    let [first, second] = &mut actors;
    first.listen(16).expect("the first to listen");
    fixture.tracer().listener(Change::Opened, first.pid);
    assert_eq!(second.listen(16), Err(Errno::ADDRINUSE.raw_os_error()));
    // The listener that is there was not touched by it.
    fixture.answered("127.0.0.1");
    let refusal = fixture.refused("[::1]");
    let evaluated: Vec<Option<u32>> =
        refusal.line.verdict.listeners.iter().map(|evaluated| evaluated.listener.process.pid).collect();
    assert_eq!(evaluated, [Some(first.pid)], "{}", refusal.shown());
    let log = fixture.end();
    assert_eq!(changes(&log, first.pid), [Change::Opened], "{}", log.text());
    assert_eq!(changes(&log, second.pid), [], "{}", log.text());
    assert_eq!(log.listeners().count(), 1, "{}", log.text());
}

/// What the kernel side records of a listen() that succeeds and of one that fails.
fn each_result_is_recorded_once() {
    let mut fixture = Fixture::begin();
    let recorder = Recorder::begin(&fixture, &[]);
    fixture.trace();
    let bind = format!("bind 127.0.0.1:{} reuseaddr", fixture.port());
    let mut actors = [(); 2].map(|()| Actor::start(&fixture.netns.place(), &ProcessSpec::named("gateway")));
    for actor in &mut actors {
        actor.must(&bind);
    }
    let [first, second] = &mut actors;
    first.listen(16).expect("the first to listen");
    fixture.tracer().listener(Change::Opened, first.pid);
    assert_eq!(second.listen(16), Err(Errno::ADDRINUSE.raw_os_error()));
    let is_by_fexit = {
        let hooks = &fixture.tracer().start_line().hooks;
        hooks.iter().any(|hook| hook.kind == "fexit" && hook.name == "inet_csk_listen_start")
    };
    assert_eq!(is_by_fexit, limits::takes_fexit());
    fixture.end();
    let events = recorder.end();
    let marks: Vec<Option<bool>> = events
        .iter()
        .filter_map(|event| match event {
            KernelEvent::Opened(opened) => Some(opened.was_hashed),
            KernelEvent::Closed(closed) => Some(closed.was_hashed),
            _ => None,
        })
        .collect();
    // The first opens, the second opens and closes.
    assert_eq!(marks, [Some(false); 3], "{events:?}");
    let results: Vec<bool> = events
        .iter()
        .filter_map(|event| match event {
            KernelEvent::Listened(listened) => Some(listened.has_succeeded),
            _ => None,
        })
        .collect();
    let expected: &[bool] = if is_by_fexit { &[true, false] } else { &[] };
    assert_eq!(results, expected, "{events:?}");
}

/// The process that called listen() has ended; what counts is who holds the socket.
fn a_child_is_the_owner() {
    let mut fixture = Fixture::begin();
    let mut gateway = fixture.listen("10.77.0.1");
    let parent = gateway.pid;
    gateway.fork();
    assert_ne!(gateway.pid, parent);
    fixture.trace();
    let line = fixture.tracer().listener(Change::Present, gateway.pid);
    gateway.assert_is(&line.listener);
    fixture.refused("127.0.0.1").cause(Cause::WrongAddress).evaluates(&gateway, Mismatch::Address);
    fixture.close(&mut gateway);
    fixture.end();

    // The same while it is traced: it is taken again when the listener closes.
    let mut fixture = Fixture::begin();
    fixture.trace();
    let mut gateway = fixture.listen("10.77.0.1");
    gateway.fork();
    fixture.close(&mut gateway);
    let line = fixture.tracer().listener(Change::Closed, gateway.pid);
    assert_eq!(line.owner.expect("what became of the owner").state, OwnerState::Alive);
    fixture.end();
}

/// One socket can leave LISTEN and come back: its cookie stays.
fn left_and_opened_again(how: &str) {
    let mut fixture = Fixture::begin();
    let mut gateway = fixture.listen("127.0.0.1");
    fixture.trace();
    gateway.must(how);
    fixture.closed(gateway.pid);
    fixture.refused("127.0.0.1").cause(Cause::Stopped).evaluates(&gateway, Mismatch::Closed);
    let cookie = gateway.cookie;
    gateway.listen(16).expect("to listen again");
    assert_eq!(gateway.cookie, cookie, "it is the same socket");
    let line = fixture.tracer().listener(Change::Opened, gateway.pid);
    gateway.assert_is(&line.listener);
    fixture.answered("127.0.0.1");
    fixture.refused("[::1]").cause(Cause::WrongFamily).evaluates_only(1);
    let log = fixture.end();
    let expected = [Change::Present, Change::Closed, Change::Opened];
    assert_eq!(changes(&log, gateway.pid), expected, "{}", log.text());
}

/// On a listener it changes the backlog, and no state.
fn listen_called_again() {
    let mut fixture = Fixture::begin();
    let present = fixture.listen("127.0.0.1");
    fixture.trace();
    let opened = fixture.listen("127.0.0.2");
    let mut gateways = [present, opened];
    for gateway in &mut gateways {
        gateway.listen(16).expect("to listen again");
        fixture.answered(gateway.addr());
    }
    fixture
        .refused("[::1]")
        .cause(Cause::WrongFamily)
        .evaluates_only(2)
        .evaluates(&gateways[0], Mismatch::Family);
    for gateway in &mut gateways {
        fixture.close(gateway);
    }
    fixture.refused("127.0.0.1").cause(Cause::Stopped).evaluates(&gateways[0], Mismatch::Closed);
    let log = fixture.end();
    let [present, opened] = &gateways;
    assert_eq!(changes(&log, present.pid), [Change::Present, Change::Closed], "{}", log.text());
    assert_eq!(changes(&log, opened.pid), [Change::Opened, Change::Closed], "{}", log.text());
    assert!(!log.lines.iter().any(|line| matches!(line.body, Body::Recovered(_))), "{}", log.text());
}

fn listen_changes_the_backlog() {
    let mut fixture = Fixture::begin();
    fixture.trace();
    let mut gateway = fixture.listen("127.0.0.1");
    gateway.listen(32).expect("to listen again");
    let refusal = fixture.refused("[::1]");
    assert_eq!(refusal.line.verdict.listeners[0].listener.backlog, Some(32), "{}", refusal.shown());
    drop(refusal);
    fixture.close(&mut gateway);
    let line = fixture.tracer().listener(Change::Closed, gateway.pid);
    assert_eq!(line.listener.backlog, Some(32), "{line:?}");
    fixture.end();
}

/// One of a group that ends is not a stop; the last one is.
fn reuseport(end: fn(&mut Actor)) {
    let mut fixture = Fixture::begin();
    let listen = || Listen::at("127.0.0.1").with("reuseport");
    let present = fixture.listen(listen());
    fixture.trace();
    let opened = fixture.listen(listen());
    let mut gateways = [present, fixture.listen(listen()), opened];
    for left in (0..gateways.len()).rev() {
        end(&mut gateways[left]);
        fixture.closed(gateways[left].pid);
        if left == 0 {
            break;
        }
        for _ in 0..8 {
            fixture.answered("127.0.0.1");
        }
        let refusal = fixture.refused("[::1]");
        refusal.cause(Cause::WrongFamily).evaluates_only(left);
        for gateway in &gateways[..left] {
            refusal.evaluates(gateway, Mismatch::Family);
        }
    }
    let refusal = fixture.refused("127.0.0.1");
    refusal.cause(Cause::Stopped).evaluates(&gateways[0], Mismatch::Closed);
    assert!(refusal.line.verdict.summary.contains(&format!("[{}]", gateways[0].pid)), "{}", refusal.shown());
    drop(refusal);
    let log = fixture.end();
    let [present, opened @ ..] = &gateways;
    assert_eq!(changes(&log, present.pid), [Change::Present, Change::Closed], "{}", log.text());
    for gateway in opened {
        assert_eq!(changes(&log, gateway.pid), [Change::Opened, Change::Closed], "{}", log.text());
    }
    assert_eq!(log.stop().by_cause.get(Cause::WrongFamily), Some(2), "{}", log.text());
    assert_eq!(log.stop().by_cause.get(Cause::Stopped), Some(1), "{}", log.text());
}

/// The wildcard goes, and what is left covers only its own address.
fn reuseport_of_several_addresses() {
    let mut fixture = Fixture::begin();
    let own = fixture.listen(Listen::at("10.77.0.1").with("reuseport"));
    fixture.trace();
    let mut wildcard = fixture.listen(Listen::at("0.0.0.0").with("reuseport"));
    fixture.answered("127.0.0.1");
    fixture.close(&mut wildcard);
    fixture.answered("10.77.0.1");
    let refusal = fixture.refused("127.0.0.1");
    refusal.cause(Cause::Stopped).evaluates(&wildcard, Mismatch::Closed).evaluates(&own, Mismatch::Address);
    drop(refusal);
    let _again = fixture.listen(Listen::at("0.0.0.0").with("reuseport"));
    fixture.answered("127.0.0.1");
    let log = fixture.end();
    assert_eq!(log.stop().refused, 1, "{}", log.text());
}

/// `[::]` without v6only is one listener, and one end of both families.
fn both_families(is_multipath: bool) {
    let listen = || if is_multipath { Listen::at("[::]").mptcp() } else { Listen::at("[::]") };
    for is_there_before in [true, false] {
        let mut fixture = Fixture::begin();
        if !is_there_before {
            fixture.trace();
        }
        let mut gateway = fixture.listen(listen());
        if is_there_before {
            fixture.trace();
        }
        let all = ["127.0.0.1", "[::1]", "[::ffff:127.0.0.1]", "10.77.0.1", "[fd77::1]"];
        for addr in all {
            fixture.answered(addr);
        }
        fixture.close(&mut gateway);
        for addr in all {
            fixture
                .refused(addr)
                .cause(Cause::Stopped)
                .evaluates_only(1)
                .evaluates(&gateway, Mismatch::Closed);
        }
        let log = fixture.end();
        let first = if is_there_before { Change::Present } else { Change::Opened };
        assert_eq!(changes(&log, gateway.pid), [first, Change::Closed], "{}", log.text());
        assert_eq!(log.stop().refused, 5, "{}", log.text());
    }
}

/// With v6only it is not asked for IPv4, mapped or not, and leaves that to another.
fn a_wildcard_of_one_family() {
    let mut fixture = Fixture::begin();
    let v6 = fixture.listen(Listen::at("[::]").v6only());
    fixture.trace();
    for addr in ["127.0.0.1", "[::ffff:127.0.0.1]", "10.77.0.1"] {
        fixture.refused(addr).cause(Cause::WrongFamily).evaluates_only(1).evaluates(&v6, Mismatch::V6only);
    }
    let mut v4 = fixture.listen("0.0.0.0");
    for addr in ["127.0.0.1", "[::ffff:127.0.0.1]", "[::1]"] {
        fixture.answered(addr);
    }
    fixture.close(&mut v4);
    fixture.answered("[::1]");
    let refusal = fixture.refused(Client::nonblocking("[::ffff:127.0.0.1]"));
    refusal.cause(Cause::Stopped).evaluates(&v4, Mismatch::Closed).evaluates(&v6, Mismatch::V6only);
    drop(refusal);
    let log = fixture.end();
    assert_eq!(changes(&log, v6.pid), [Change::Present], "{}", log.text());
    assert_eq!(changes(&log, v4.pid), [Change::Opened, Change::Closed], "{}", log.text());
}

/// An IPv6 socket bound to an IPv4-mapped address is reported as what it is: IPv4.
fn a_mapped_address_is_ipv4() {
    let mut fixture = Fixture::begin();
    let port = fixture.port();
    let mapped = |fixture: &Fixture, addr: &str| {
        let mut gateway = Actor::start(&fixture.netns.place(), &ProcessSpec::named("gateway"));
        gateway.must(&format!("bind [::ffff:{addr}]:{port}"));
        gateway.listen(16).expect("to listen");
        gateway
    };
    let mut present = mapped(&fixture, "10.77.0.1");
    fixture.trace();
    let mut opened = mapped(&fixture, "127.0.0.2");
    for (change, gateway, addr) in
        [(Change::Present, &present, "10.77.0.1"), (Change::Opened, &opened, "127.0.0.2")]
    {
        let listener = fixture.tracer().listener(change, gateway.pid).listener;
        assert_eq!((listener.addr.as_str(), listener.v6only), (addr, None), "{listener:?}");
        assert_cookie(&listener, gateway.cookie);
        fixture.answered(addr);
    }
    for (addr, mismatch) in [("[::ffff:127.0.0.1]", Mismatch::Address), ("[::1]", Mismatch::Family)] {
        let refusal = fixture.refused(addr);
        refusal.cause(Cause::WrongAddress).evaluates_only(2);
        let evaluated = &refusal.line.verdict.listeners;
        assert!(
            evaluated.iter().all(|evaluated| evaluated.mismatch == Some(mismatch)),
            "{}",
            refusal.shown()
        );
    }
    for gateway in [&mut present, &mut opened] {
        gateway.close();
        let listener = fixture.tracer().listener(Change::Closed, gateway.pid).listener;
        assert_eq!(listener.v6only, None, "{listener:?}");
    }
    let log = fixture.end();
    assert_eq!(changes(&log, present.pid), [Change::Present, Change::Closed], "{}", log.text());
    assert_eq!(changes(&log, opened.pid), [Change::Opened, Change::Closed], "{}", log.text());
}

fn heir(fixture: &Fixture) -> Actor {
    Actor::start(&fixture.netns.place(), &ProcessSpec::named("heir"))
}

/// By a message over a Unix socket, as systemd, or a server that hands over to its next version.
fn pass(listening: &mut Listening, mut heir: Actor) -> Actor {
    let mailbox = heir.mailbox();
    listening.pass(&mailbox);
    heir.take();
    listening.held_by(heir)
}

fn passed_before_the_tracer() {
    let mut fixture = Fixture::begin();
    let mut gateway = fixture.listen("127.0.0.1");
    let heir = heir(&fixture);
    assert_eq!(pass(&mut gateway, heir).exit(0).code(), Some(0));
    fixture.trace();
    let line = fixture.tracer().listener(Change::Present, gateway.pid);
    gateway.assert_is(&line.listener);
    fixture.answered("127.0.0.1");
    fixture
        .refused("[::1]")
        .cause(Cause::WrongFamily)
        .evaluates_only(1)
        .evaluates(&gateway, Mismatch::Family);
    gateway.kill();
    fixture.closed(gateway.pid);
    let refusal = fixture.refused("127.0.0.1");
    refusal.cause(Cause::Stopped).evaluates_only(1).evaluates(&gateway, Mismatch::Closed);
    assert!(refusal.line.verdict.summary.contains("SIGKILL"), "{}", refusal.shown());
    drop(refusal);
    let log = fixture.end();
    let changes: Vec<_> = log.listeners().map(|line| line.change).collect();
    assert_eq!(changes, [Change::Present, Change::Closed], "{}", log.text());
}

/// A socket that no process holds, because it is in a message, listens; the receiver of the message closes it.
fn passed_on_the_way() {
    let mut fixture = Fixture::begin();
    fixture.trace();
    let mut gateway = fixture.listen("127.0.0.1");
    let mut heir = heir(&fixture);
    let mailbox = heir.mailbox();
    gateway.pass(&mailbox);
    let first = gateway.held_by(heir);
    let opened_by = first.pid;
    let mut first = first;
    assert_eq!(first.exit(0).code(), Some(0));
    fixture.answered("127.0.0.1");
    gateway.take();
    fixture.answered("127.0.0.1");
    fixture.close(&mut gateway);
    let line = fixture.tracer().listener(Change::Closed, gateway.pid);
    gateway.assert_is(&line.listener);
    assert_eq!(line.owner.expect("what became of the owner").state, OwnerState::Alive);
    fixture
        .refused("127.0.0.1")
        .cause(Cause::Stopped)
        .evaluates_only(1)
        .evaluates(&gateway, Mismatch::Closed);
    let log = fixture.end();
    assert_eq!(changes(&log, opened_by), [Change::Opened], "{}", log.text());
    assert_eq!(changes(&log, gateway.pid), [Change::Closed], "{}", log.text());
}

/// One process binds, as a supervisor may have to for a port below 1024, and another listens.
fn passed_before_it_listens() {
    let mut fixture = Fixture::begin();
    fixture.trace();
    let mut supervisor = Actor::start(&fixture.netns.place(), &ProcessSpec::named("supervisor"));
    let mut heir = Actor::start(&fixture.netns.place(), &ProcessSpec::named("heir"));
    supervisor.must(&format!("bind 127.0.0.1:{}", fixture.port()));
    let mailbox = heir.mailbox();
    supervisor.pass(&mailbox);
    heir.take();
    supervisor.close();
    fixture.refused("127.0.0.1").cause(Cause::BoundNotListening).evaluates_only(0);
    heir.listen(16).expect("to listen");
    let (line, opened_us) = fixture.tracer().listener_and_time(Change::Opened, heir.pid);
    assert_eq!(line.listener.process.comm.as_deref(), Some("heir"), "{line:?}");
    assert_cookie(&line.listener, heir.cookie);
    fixture.answered("127.0.0.1");
    // One that closes earlier has only tried the port.
    wait_past(opened_us + SERVED_NS / 1_000);
    heir.close();
    let line = fixture.tracer().listener(Change::Closed, heir.pid);
    assert_eq!(line.owner.expect("what became of the owner").state, OwnerState::Alive);
    let refusal = fixture.refused("127.0.0.1");
    refusal.cause(Cause::Stopped).evaluates_only(1);
    assert!(refusal.line.verdict.summary.contains(&format!("heir[{}]", heir.pid)), "{}", refusal.shown());
    drop(refusal);
    let log = fixture.end();
    assert_eq!(calls(&log, supervisor.pid), [(Call::Bind, None)], "{}", log.text());
    assert_eq!(changes(&log, supervisor.pid), [], "{}", log.text());
    assert_eq!(changes(&log, heir.pid), [Change::Opened, Change::Closed], "{}", log.text());
}

/// The process that opened it has ended: the one that holds it is reported, in each line from then on.
fn given_away(give: fn(&Fixture, &mut Listening)) {
    for is_there_before in [false, true] {
        let mut fixture = Fixture::begin();
        if !is_there_before {
            fixture.trace();
        }
        let mut gateway = fixture.listen("127.0.0.1");
        if is_there_before {
            fixture.trace();
        }
        let opened_by = gateway.pid;
        give(&fixture, &mut gateway);
        assert_ne!(gateway.pid, opened_by);
        fixture.answered("127.0.0.1");
        let refusal = fixture.refused("[::1]");
        refusal.cause(Cause::WrongFamily).evaluates_only(1).evaluates(&gateway, Mismatch::Family);
        let named = format!("{}[{}] listens", gateway.comm, gateway.pid);
        assert!(refusal.line.verdict.summary.contains(&named), "{}", refusal.shown());
        drop(refusal);
        fixture.close(&mut gateway);
        let line = fixture.tracer().listener(Change::Closed, gateway.pid);
        gateway.assert_is(&line.listener);
        fixture
            .refused("127.0.0.1")
            .cause(Cause::Stopped)
            .evaluates_only(1)
            .evaluates(&gateway, Mismatch::Closed);
        let log = fixture.end();
        assert_eq!(log.listeners().count(), 2, "{}", log.text());
    }
}

fn passed_on_before_an_exit(fixture: &Fixture, gateway: &mut Listening) {
    let heir = heir(fixture);
    assert_eq!(pass(gateway, heir).exit(0).code(), Some(0));
}

fn passed_on_before_a_kill(fixture: &Fixture, gateway: &mut Listening) {
    let heir = heir(fixture);
    pass(gateway, heir).kill();
}

fn inherited_by_a_child(_: &Fixture, gateway: &mut Listening) {
    gateway.fork();
}

/// The first to close it leaves it to the other.
fn passed_and_held_by_both() {
    let mut fixture = Fixture::begin();
    fixture.trace();
    let mut gateway = fixture.listen("127.0.0.1");
    let heir = heir(&fixture);
    let mut first = pass(&mut gateway, heir);
    first.close();
    fixture.answered("127.0.0.1");
    fixture.close(&mut gateway);
    let line = fixture.tracer().listener(Change::Closed, gateway.pid);
    gateway.assert_is(&line.listener);
    assert_eq!(line.owner.expect("what became of the owner").state, OwnerState::Alive);
    // How the one ends that had it before does not matter any more.
    first.kill();
    let refusal = fixture.refused("127.0.0.1");
    refusal.cause(Cause::Stopped).evaluates_only(1).evaluates(&gateway, Mismatch::Closed);
    assert!(refusal.line.verdict.summary.contains("is still running"), "{}", refusal.shown());
    drop(refusal);
    let log = fixture.end();
    assert_eq!(changes(&log, first.pid), [Change::Opened], "{}", log.text());
    assert_eq!(changes(&log, gateway.pid), [Change::Closed], "{}", log.text());
}

fn passed_by_pidfd_getfd() {
    let mut fixture = Fixture::begin();
    let mut gateway = fixture.listen("[::1]");
    let mut heir = heir(&fixture);
    let descriptor = gateway.must("descriptor");
    heir.must(&format!("steal {} {descriptor}", gateway.pid));
    gateway.held_by(heir).kill();
    fixture.trace();
    let line = fixture.tracer().listener(Change::Present, gateway.pid);
    gateway.assert_is(&line.listener);
    fixture
        .refused("127.0.0.1")
        .cause(Cause::WrongFamily)
        .evaluates_only(1)
        .evaluates(&gateway, Mismatch::Family);
    fixture.close(&mut gateway);
    fixture.refused("[::1]").cause(Cause::Stopped).evaluates_only(1).evaluates(&gateway, Mismatch::Closed);
    fixture.end();
}

/// A process that listens and then becomes another program, as under a supervisor.
fn inherited_over_exec(is_before: bool) {
    let mut fixture = Fixture::begin();
    if !is_before {
        fixture.trace();
    }
    let mut gateway = fixture.listen("127.0.0.1");
    gateway.exec("server");
    let mut first = Change::Opened;
    if is_before {
        fixture.trace();
        first = Change::Present;
        let line = fixture.tracer().listener(first, gateway.pid);
        gateway.assert_is(&line.listener);
    }
    fixture.answered("127.0.0.1");
    fixture
        .refused("[::1]")
        .cause(Cause::WrongFamily)
        .evaluates_only(1)
        .evaluates(&gateway, Mismatch::Family);
    fixture.close(&mut gateway);
    let line = fixture.tracer().listener(Change::Closed, gateway.pid);
    gateway.assert_is(&line.listener);
    fixture
        .refused("127.0.0.1")
        .cause(Cause::Stopped)
        .evaluates_only(1)
        .evaluates(&gateway, Mismatch::Closed);
    let log = fixture.end();
    assert_eq!(changes(&log, gateway.pid), [first, Change::Closed], "{}", log.text());
}

/// Whether binds by io_uring are seen on this kernel: by fexit programs alone. The log must show which it is.
fn sees_uring_binds(fixture: &mut Fixture) -> bool {
    let start = fixture.tracer().start_line();
    let by_fexit = start.hooks.iter().any(|hook| hook.kind == "fexit" && hook.name.contains("bind"));
    let why = start.limits.iter().find(|limit| limit.what == "bind-by-syscall").map(|limit| &limit.why);
    assert_eq!((by_fexit, why.is_none()), (limits::takes_fexit(), limits::takes_fexit()), "{start:?}");
    assert!(why.is_none_or(|why| why.contains("io_uring")), "{start:?}");
    by_fexit
}

/// The calls of a process in the log, in order, with their errors.
fn calls(log: &tests::tracer::Log, pid: u32) -> Vec<(Call, Option<String>)> {
    let calls = log.lines.iter().filter_map(|line| match &line.body {
        Body::Bind(bind) if bind.process.pid == Some(pid) => Some((bind.call, bind.errno.clone())),
        _ => None,
    });
    calls.collect()
}

/// Bound and opened by a thread of the kernel's: the process is reported whose thread it is.
fn uring(way: &'static str) {
    let mut fixture = Fixture::begin();
    fixture.trace();
    let sees_binds = sees_uring_binds(&mut fixture);
    let bound = |sees: bool| if sees { vec![(Call::Bind, None)] } else { Vec::new() };

    let mut server = Actor::start(&fixture.netns.place(), &ProcessSpec::named("server").uid(65_534));
    server.must(&format!("bind 10.77.0.1:{} {way}", fixture.port()));
    let refusal = fixture.refused("10.77.0.1");
    // Where no hook has seen it, the kernel lists it (6.8 and later; binds by io_uring came with 6.11).
    refusal.verdict(Cause::BoundNotListening, &[Because::UnverifiedServer]).evaluates_only(0);
    drop(refusal);
    server.kill();

    let mut gateway =
        fixture.listen(Listen::at("127.0.0.1").with(way).by(ProcessSpec::named("gateway").uid(65_534)));
    let line = fixture.tracer().listener(Change::Opened, gateway.pid);
    assert_eq!(line.listener.process.uid, Some(65_534), "{line:?}");
    assert_eq!(line.listener.process.ppid, Some(std::process::id()), "{line:?}");
    fixture.answered("127.0.0.1");
    fixture
        .refused("[::1]")
        .verdict(Cause::WrongFamily, &[Because::UnverifiedServer])
        .evaluates_only(1)
        .evaluates(&gateway, Mismatch::Family);
    fixture.close(&mut gateway);
    let line = fixture.tracer().listener(Change::Closed, gateway.pid);
    gateway.assert_is(&line.listener);
    assert_eq!(line.owner.expect("what became of the owner").state, OwnerState::Alive);
    fixture
        .refused("127.0.0.1")
        .verdict(Cause::Stopped, &[Because::UnverifiedServer])
        .evaluates_only(1)
        .evaluates(&gateway, Mismatch::Closed);
    let log = fixture.end();
    assert_eq!(changes(&log, gateway.pid), [Change::Opened, Change::Closed], "{}", log.text());
    for pid in [server.pid, gateway.pid] {
        assert_eq!(calls(&log, pid), bound(sees_binds), "{}", log.text());
    }
    assert_eq!(log.stop().refused, 3, "{}", log.text());
}

fn uring_bind_fails(way: &'static str) {
    let mut fixture = Fixture::begin();
    let holder = fixture.listen("10.77.0.1");
    fixture.trace();
    let sees_binds = sees_uring_binds(&mut fixture);
    let mut server = Actor::start(&fixture.netns.place(), &ProcessSpec::named("server"));
    let outcome = server.ask(&format!("bind 0.0.0.0:{} {way}", fixture.port()));
    assert_eq!(outcome, Err(Errno::ADDRINUSE.raw_os_error()));
    let refusal = fixture.refused("127.0.0.1");
    refusal
        .cause(if sees_binds { Cause::BindFailed } else { Cause::WrongAddress })
        .evaluates_only(1)
        .evaluates(&holder, Mismatch::Address);
    let failed: Vec<_> = refusal
        .line
        .verdict
        .failed_binds
        .iter()
        .map(|failed| (failed.process.pid, failed.process.comm.as_deref(), failed.errno.as_str()))
        .collect();
    let expected =
        if sees_binds { vec![(Some(server.pid), Some("server"), "EADDRINUSE")] } else { Vec::new() };
    assert_eq!(failed, expected, "{}", refusal.shown());
    drop(refusal);
    let log = fixture.end();
    let expected = if sees_binds { vec![(Call::Bind, Some("EADDRINUSE".to_owned()))] } else { Vec::new() };
    assert_eq!(calls(&log, server.pid), expected, "{}", log.text());
}

/// A listen() that fails is seen in every case.
fn uring_listen_fails(way: &'static str) {
    let mut fixture = Fixture::begin();
    fixture.trace();
    let sees_binds = sees_uring_binds(&mut fixture);
    let mut actors = [(); 2].map(|()| Actor::start(&fixture.netns.place(), &ProcessSpec::named("server")));
    for actor in &mut actors {
        actor.must(&format!("bind 127.0.0.1:{} reuseaddr {way}", fixture.port()));
    }
    let [first, second] = &mut actors;
    first.listen_with(16, way).expect("the first to listen");
    fixture.tracer().listener(Change::Opened, first.pid);
    assert_eq!(second.listen_with(16, way), Err(Errno::ADDRINUSE.raw_os_error()));
    fixture.answered("127.0.0.1");
    let refusal = fixture.refused("[::1]");
    refusal.cause(Cause::WrongFamily).evaluates_only(1);
    assert_eq!(
        refusal.line.verdict.listeners[0].listener.process.pid,
        Some(first.pid),
        "{}",
        refusal.shown()
    );
    drop(refusal);
    let log = fixture.end();
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

/// Most people start it after the failure: it immediately shows what a connect would get.
fn the_first_screen_shows_each_address() {
    let mut fixture = Fixture::begin();
    let _gateway = fixture.listen("10.77.0.1");
    fixture.trace();
    let (id, port) = (fixture.netns.id, fixture.port());
    let ready: Ready = fixture.tracer().wait_for("the ready line", |line| match &line.body {
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
    // What it shows is what happens.
    fixture.refused("127.0.0.1").cause(Cause::WrongAddress);
    fixture.refused("[fd77::1]").cause(Cause::WrongAddress);
    fixture.answered("10.77.0.1");
    fixture.end();
}

fn more_than_sixteen_are_counted() {
    const ALL: u8 = 20;
    let mut fixture = Fixture::begin();
    let gateways: Vec<Listening> =
        (2..2 + ALL).map(|last| fixture.listen(Listen::at(&format!("127.0.0.{last}")))).collect();
    fixture.trace();
    let refusal = fixture.refused(Client::nonblocking("127.0.0.1"));
    refusal.cause(Cause::WrongAddress).evaluates_only(gateways.len());
    assert_eq!(refusal.line.verdict.listeners.len(), 16, "{}", refusal.shown());
    drop(refusal);
    fixture.end();
}
