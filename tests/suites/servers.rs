//! Which process is the server, and what others do beside it: the pure core on a simulated host.
//!
//! Each test is a history; the expectation follows from the contract of the causes.

use tests::simulation::{Close, Server, Simulation, connect, namespace, server, simulation};
use tracer::model::errno::Errno;
use tracer::model::forward::Target;
use tracer::model::kernel_event::LostWhere;
use tracer::model::namespace::LocalRoute;
use tracer::model::process::{ExitStatus, Process};
use tracer::model::socket::TcpState;
use tracer::model::unit::Unit;
use tracer::output::schema::{Because, Body, Cause, Confidence, KnownBy, Verdict};
use tracer::query::QueryKind;

const LOCALHOST: &str = "127.0.0.1:18789";
const LOCALHOST_V6: &str = "[::1]:18789";
const ANY: &str = "0.0.0.0:18789";
const LAN: &str = "192.168.50.2:18789";
const TAILNET: &str = "100.101.102.103:18789";
const POD: u32 = 4_026_532_281;
const NOBODY: u32 = 65_534;

fn refused(simulation: Simulation, to: &str) -> Verdict {
    simulation.refuse(&connect(to)).verdict()
}

#[track_caller]
fn assert_certain(verdict: &Verdict, cause: Cause) {
    assert_eq!((verdict.cause, &*verdict.because), (cause, &[][..]), "{verdict:?}");
}

fn server_pid(verdict: &Verdict) -> Option<u32> {
    verdict.server.as_ref().and_then(|server| server.process.pid)
}

fn recoveries(simulation: Simulation) -> usize {
    simulation.reported().iter().filter(|body| matches!(body, Body::Recovered(_))).count()
}

/// A second instance tries the port on each family, and moves on to the next port.
#[test]
fn a_probe_is_not_a_server() {
    let first = server(LOCALHOST_V6).by("vite", 11);
    let probe = server(ANY).by("vite", 22);
    let other = server("[::]:18790").by("vite", 22);
    let before = || simulation().present(&first).ready();
    assert_certain(&refused(before(), LOCALHOST), Cause::WrongFamily);
    let after = before()
        .open(&probe)
        .after_millis(1)
        .close(&probe, Close::Owner)
        .bind(&server("[::]:18789").by("vite", 22), Some(Errno::EADDRINUSE))
        .elsewhere(&[&other])
        .after_millis(500);
    let verdict = refused(after, LOCALHOST);
    assert_certain(&verdict, Cause::WrongFamily);
    assert_eq!(server_pid(&verdict), Some(11));
    assert!(!verdict.hint.unwrap_or_default().contains("kill"));
}

/// A listener that closes immediately answers nothing, so that nothing has recovered.
#[test]
fn a_probe_is_not_a_recovery() {
    let refused = || simulation().ready().refuse(&connect(LOCALHOST)).after_millis(1_000);
    let probe = server(ANY).by("vite", 22);
    let probed = refused().open(&probe).after_millis(20).close(&probe, Close::Owner).after_millis(1_000);
    assert_eq!(recoveries(probed), 0);
    assert_eq!(recoveries(refused().open(&probe).after_millis(260)), 1);
    // A client that was answered is proof before that.
    let answered = simulation().ready().refuse(&connect(LOCALHOST).by("curl", 7)).after_millis(10);
    assert_eq!(recoveries(answered.open(&probe).after_millis(10).reach(LOCALHOST, 7).after_millis(1)), 1);
}

/// `nginx -t` ends while the server is down: it may be no restart at all.
#[test]
fn an_instance_with_other_arguments_decides_only_degraded() {
    let nginx = |pid, arguments: &[&str]| server(LOCALHOST).by("nginx", pid).with_arguments(arguments);
    let ends = |first: Server, second: Server| {
        let stopped = simulation()
            .ready()
            .open(&first)
            .after_millis(5_000)
            .close(&first, Close::Owner)
            .exit(11, ExitStatus::Code(0));
        let pid = second.listener.process.pid.unwrap();
        let again = stopped.after_millis(1_000).start_instance(&second).after_millis(500);
        refused(again.exit(pid, ExitStatus::Code(1)).after_millis(300), LOCALHOST)
    };
    let first = nginx(11, &["-g", "daemon off;"]);
    let verdict = ends(first.clone(), nginx(22, &["-t"]));
    assert_eq!((verdict.cause, &*verdict.because), (Cause::NeverListened, &[Because::OtherArguments][..]));
    assert_certain(&ends(first.clone(), nginx(22, &["-g", "daemon off;"])), Cause::NeverListened);
    // What a process has written over is not known.
    let unread = server(LOCALHOST).by("nginx", 22);
    assert_certain(&ends(first.clone(), unread), Cause::NeverListened);
    // A unit whose command line was changed runs its main process all the same.
    let in_unit = |server: Server| server.in_unit("nginx.service");
    assert_certain(&ends(in_unit(first), in_unit(nginx(22, &["-c", "new"]))), Cause::NeverListened);
}

/// The same while it runs: a server that is checked is not starting.
#[test]
fn a_checker_is_not_for_certain_a_start() {
    let first = server(LOCALHOST).by("redis-server", 11).with_arguments(&["/etc/redis.conf"]);
    let check = server(LOCALHOST).by("redis-server", 22).with_arguments(&["--test-memory", "4096"]);
    let stopped =
        simulation().ready().open(&first).after_millis(5_000).close(&first, Close::Owner).after_millis(100);
    let verdict = refused(stopped.start_instance(&check).after_millis(700), LAN);
    assert_eq!((verdict.cause, &*verdict.because), (Cause::Starting, &[Because::OtherArguments][..]));
}

/// A probe of an endpoint does not take the place of the server that had it.
#[test]
fn a_probe_does_not_hide_a_server_that_stopped() {
    let gateway = server(LOCALHOST).by("redis-server", 11);
    let probe = server(LOCALHOST).by("checker", 22);
    let stopped = simulation()
        .ready()
        .open(&gateway)
        .after_millis(5_000)
        .close(&gateway, Close::End(ExitStatus::Code(0)))
        .after_millis(1_000)
        .open(&probe)
        .after_millis(3)
        .close(&probe, Close::Owner)
        .after_millis(100);
    let verdict = refused(stopped, LOCALHOST);
    assert_eq!((verdict.cause, server_pid(&verdict)), (Cause::Stopped, Some(11)), "{verdict:?}");
}

/// A server with two addresses gets one of them.
#[test]
fn a_success_clears_only_what_it_covers() {
    let sshd = |at: &str| server(at).by("sshd", 31);
    let bind = |simulation: Simulation, at: &str| simulation.bind(&sshd(at), Some(Errno::EADDRNOTAVAIL));
    let first = bind(simulation().ready(), "10.0.0.9:18789").open(&sshd(LOCALHOST)).after_millis(500);
    let second =
        bind(simulation().ready().open(&sshd(LOCALHOST)).after_millis(5), "10.0.0.9:18789").after_millis(500);
    for started in [first, second] {
        // The VPN comes up later.
        let vpn = LocalRoute { addr: "10.0.0.9".parse().unwrap(), prefix_len: 32, device: 2, table: 255 };
        let up = started.host(|host| host.local.push(vpn)).scan_again();
        let verdict = refused(up.after_millis(100), "10.0.0.9:18789");
        assert_certain(&verdict, Cause::BindFailed);
        assert!(
            verdict.hint.as_deref().unwrap_or_default().contains("10.0.0.9 is there now"),
            "{:?}",
            verdict.hint
        );
    }
}

/// The server covers the address now.
#[test]
fn a_success_that_covers_the_address_clears_the_failure() {
    let gateway = |at: &str| server(at).by("nginx", 31);
    let started = simulation().ready().bind(&gateway(LAN), Some(Errno::EADDRNOTAVAIL));
    let covered =
        started.open(&gateway(ANY)).after_millis(500).close(&gateway(ANY), Close::Owner).after_millis(50);
    assert_eq!(refused(covered, LAN).cause, Cause::Stopped);
}

/// It was refused the port and listens on the next one: that is where it is, whatever became of the holder.
#[test]
fn a_server_that_moved_on_is_on_another_port() {
    let holder = server(LAN).by("python3", 11);
    let moved = || {
        simulation()
            .present(&holder)
            .ready()
            .bind(&server(ANY).by("vite", 22), Some(Errno::EADDRINUSE))
            .elsewhere(&[&server("0.0.0.0:18790").by("vite", 22)])
            .after_millis(200)
            .close(&holder, Close::End(ExitStatus::Code(0)))
            .after_millis(200)
    };
    for to in [LOCALHOST, LAN] {
        let verdict = refused(moved(), to);
        assert!(verdict.listeners.iter().any(|one| one.listener.port == 18_790), "{to}: {verdict:?}");
    }
    assert_eq!(refused(moved(), LOCALHOST).cause, Cause::OtherPort);
}

/// The holder has closed, and the server that did not get the port is still running without it.
#[test]
fn a_failure_whose_holder_has_closed_shows_that_the_port_is_free() {
    let holder = server(TAILNET).by("nc", 11);
    let freed = simulation()
        .present(&holder)
        .ready()
        .bind(&server(ANY).by("gunicorn", 22), Some(Errno::EADDRINUSE))
        .after_millis(200)
        .close(&holder, Close::End(ExitStatus::Code(0)))
        .held_by_none()
        .after_millis(200);
    let verdict = refused(freed, LOCALHOST);
    assert_eq!(verdict.cause, Cause::BindFailed, "{verdict:?}");
    assert_eq!(verdict.hint.as_deref(), Some("the port is free now: restart gunicorn[22]"));
}

/// Another instance waits for the port, and the one that had it has ended since.
#[test]
fn the_hint_for_an_instance_without_the_port_states_that_it_is_free() {
    let holder = server(ANY).by("gunicorn", 11);
    let freed = simulation()
        .ready()
        .open(&holder)
        .after_millis(3_000)
        .bind(&server(ANY).by("gunicorn", 22), Some(Errno::EADDRINUSE))
        .after_millis(200)
        .close(&holder, Close::End(ExitStatus::Signal(9)))
        .held_by_none()
        .after_millis(300);
    let verdict = refused(freed, LOCALHOST);
    assert_certain(&verdict, Cause::BindFailed);
    assert_eq!(verdict.hint.as_deref(), Some("the port is free now: restart gunicorn[22]"));
}

/// A port that a server opened before it failed, such as one for metrics, is not where it went instead.
#[test]
fn a_port_that_was_open_before_is_not_where_a_server_went() {
    let metrics = server("0.0.0.0:19100").by("exporter", 22);
    let wanted = || server("192.168.50.9:18789").by("exporter", 22);
    let failed = || {
        let up = simulation().ready().open(&metrics).after_millis(2_000);
        up.bind(&wanted(), Some(Errno::EADDRNOTAVAIL)).after_millis(300)
    };
    assert_certain(&refused(failed(), LOCALHOST), Cause::BindFailed);
    let moved = failed().open(&server("0.0.0.0:18790").by("exporter", 22)).after_millis(300);
    assert_eq!(refused(moved, LOCALHOST).cause, Cause::OtherPort);
}

/// The same on a port that is not watched: the kernel side remembers since when it is open, or it was seen to open.
#[test]
fn an_unwatched_port_that_was_open_before_is_not_where_a_server_went() {
    let metrics = server("0.0.0.0:9100").by("exporter", 22);
    let wanted = server("192.168.50.9:18789").by("exporter", 22);
    let failed = |up: Simulation| up.bind(&wanted, Some(Errno::EADDRNOTAVAIL)).after_millis(300);
    let ready = || simulation().ready();
    let remembered = ready().elsewhere(&[&metrics]).after_millis(2_000);
    assert_certain(&refused(failed(remembered), LOCALHOST), Cause::BindFailed);
    let seen = ready().start("exporter", 22).opens_elsewhere(&metrics).after_millis(2_000);
    assert_certain(&refused(failed(seen), LOCALHOST), Cause::BindFailed);
    for moved in [
        failed(ready()).elsewhere(&[&metrics]).after_millis(300),
        failed(ready()).opens_elsewhere(&metrics).after_millis(300),
    ] {
        assert_certain(&refused(moved, LOCALHOST), Cause::OtherPort);
    }
    // More sockets have begun to listen since than the kernel side remembers.
    let forgotten = failed(ready()).finds_elsewhere(&[&metrics]).forgets_openings();
    let verdict = refused(forgotten, LOCALHOST);
    assert_eq!((verdict.cause, &*verdict.because), (Cause::OtherPort, &[Because::HistoryForgotten][..]));
}

/// What a server listened on when its client was refused closes before a query of the namespace shows it.
#[test]
fn an_unwatched_port_that_closes_while_a_refusal_waits_was_open() {
    let wanted = server("192.168.50.9:18789").by("relay", 22);
    let other = server("0.0.0.0:9100").by("relay", 22);
    let up = || {
        let failed = simulation().ready().bind(&wanted, Some(Errno::EADDRNOTAVAIL)).after_millis(5);
        failed.opens_elsewhere(&other).after_millis(5).without_answers().refuse(&connect(LOCALHOST))
    };
    let closed = up().after_millis(1).closes_elsewhere(&other).with_answers();
    assert_certain(&closed.after_millis(200).verdict(), Cause::OtherPort);
    // It had closed before.
    let before = simulation().ready().bind(&wanted, Some(Errno::EADDRNOTAVAIL)).after_millis(5);
    let before = before.opens_elsewhere(&other).after_millis(5).closes_elsewhere(&other).after_millis(5);
    assert_certain(&refused(before, LOCALHOST), Cause::BindFailed);
}

/// It fails once more while the refusal waits: what it opened between the two was where it had gone.
#[test]
fn a_bind_that_fails_again_while_a_refusal_waits_is_of_later() {
    let held = server("127.0.0.2:18789").by("relay", 22);
    let every = server("0.0.0.0:18789").by("relay", 22);
    let other = server("[::]:9100").by("relay", 22);
    let failed = simulation().ready().open(&held).bind(&every, Some(Errno::EADDRINUSE)).after_millis(1);
    let gone = failed.opens_elsewhere(&other).after_millis(1);
    let waiting = gone.without_answers().refuse(&connect(LOCALHOST)).after_millis(1);
    let again = waiting.bind(&every, Some(Errno::EADDRINUSE)).with_answers().after_millis(200);
    assert_eq!(again.verdict().cause, Cause::WrongAddress);
}

/// The server is what took the port last: what another program of its user holds is not its socket.
#[test]
fn a_socket_of_another_program_is_not_the_servers() {
    let held = server("[::1]:18789").by("relay", 22);
    let asked = server(LOCALHOST).by("other", 23);
    let bound = simulation().ready().bind(&held, None).after_millis(5).execute("other", 23);
    let asked = bound.bind(&asked, None).after_millis(5).destroy(&asked);
    let ended = asked.exit(23, ExitStatus::Code(1)).after_millis(5);
    let verdict = refused(ended, LOCALHOST);
    assert_eq!(verdict.cause, Cause::NeverListened);
}

/// A process that holds a listener beside the one that closed executes another program, and keeps it.
#[test]
fn another_program_that_keeps_a_listener_is_another_service_on_the_port() {
    let beside = server("[::]:18789").v6only().by("relay", 22);
    let gateway = server(LOCALHOST).by("relay", 23);
    let killed = Close::End(ExitStatus::Signal(9));
    let up = || {
        let up = simulation().ready().execute("relay", 22).execute("relay", 23).open(&beside);
        up.open(&gateway).after_millis(90).close(&gateway, killed).exit(23, ExitStatus::Signal(9))
    };
    let verdict = refused(up().after_millis(1).execute("other", 22).after_millis(5), LOCALHOST);
    assert_eq!((verdict.cause, &*verdict.because), (Cause::Stopped, &[Because::SeveralOwners][..]));
    // The same program again is the same service.
    assert_certain(
        &refused(up().after_millis(1).execute("relay", 22).after_millis(5), LOCALHOST),
        Cause::Stopped,
    );
}

/// It held the port, moved, and later failed to get it back.
#[test]
fn a_failure_does_not_hide_that_its_process_had_the_port() {
    let every = server("0.0.0.0:18789").by("relay", 22);
    let other = server("127.0.0.1:9100").by("relay", 22);
    let next = server(LOCALHOST).by("relay", 23);
    let held = simulation().ready().execute("relay", 22).open(&every).after_millis(90);
    let moved = held.close(&every, Close::Owner).opens_elsewhere(&other).after_millis(5).execute("relay", 23);
    let tried =
        moved.open(&next).after_millis(5).bind(&server(LOCALHOST).by("relay", 22), Some(Errno::EADDRINUSE));
    let failed = ExitStatus::Code(1);
    let ended = tried.after_millis(1).close(&next, Close::End(failed)).exit(23, failed).after_millis(2);
    assert_eq!(refused(ended, "[::1]:18789").cause, Cause::OtherPort);
}

/// What was refused itself, and ends while the refusal of another waits.
#[test]
fn a_holder_that_was_refused_itself_and_ends_is_no_proof() {
    let own = server(LAN).by("relay", 22);
    let asked = simulation().ready().open(&own).after_millis(90).refuse(&connect(LOCALHOST).by("relay", 22));
    let other = asked.after_millis(5).without_answers().refuse(&connect(LOCALHOST)).after_millis(1);
    let ended = other.exit(22, ExitStatus::Code(0)).with_answers().after_millis(200);
    assert!(ended.verdict().because.contains(&Because::OwnListener));
}

/// A server that restarts inside its process is found by a search while it listens on nothing, and opens its port before the
/// refusal is reported.
#[test]
fn a_server_that_is_found_while_it_reopens_its_port_has_listened() {
    let gateway = server(TAILNET);
    let up = || simulation().present(&gateway).ready().after_millis(1_000);
    for opened in [up(), simulation().ready().open(&gateway).after_millis(1_000)] {
        let closed = opened.close(&gateway, Close::Owner).after_millis(400);
        let waiting = closed.without_answers().refuse(&connect(LOCALHOST)).after_millis(1);
        let found = waiting.finds_from_before("openclaw-gatewa", 4242, 300).after_millis(1);
        let reopened = found.bind(&gateway, None).open(&gateway).after_millis(1).with_answers();
        assert_eq!(reopened.after_millis(200).verdict().cause, Cause::NothingListening);
    }
}

/// A listener that refuses IPv4 takes nothing of what a bind for both families did not get.
#[test]
fn a_wildcard_for_ipv6_alone_makes_no_failure_of_both_families_good() {
    let loopback = server(LOCALHOST).by("relay", 22);
    let both = server("[::]:18789").by("relay", 22);
    let ipv6 = server("[::]:18789").v6only().by("relay", 22);
    let failed = simulation().ready().open(&loopback).bind(&both, Some(Errno::EADDRINUSE)).after_millis(5);
    let opened = failed.open(&ipv6).after_millis(200);
    assert_certain(&refused(opened, LAN), Cause::BindFailed);
    // A second failure, of another endpoint, does not replace it.
    let held = server("[::1]:18789").by("relay", 22);
    let failed = simulation().ready().open(&held).bind(&both, Some(Errno::EADDRINUSE)).after_millis(5);
    let again = failed.bind(&ipv6, Some(Errno::EADDRINUSE)).after_millis(5);
    assert_certain(&refused(again, LAN), Cause::BindFailed);
}

/// Whether an instance ever listened counts every process of it, and what it has inherited.
#[test]
fn what_any_process_of_an_instance_listened_on_counts() {
    let first = server("[::1]:18789").by("relay", 10);
    let missing = |pid: u32| server("10.99.9.9:18789").by("relay", pid);
    let up = || simulation().ready().execute("relay", 10).open(&first).after_millis(2_000);
    // A fork of a fork fails, and the first process had listened.
    let closed = up().close(&first, Close::Owner).after_millis(5);
    let forked = closed.fork("relay", 10, 11).fork("relay", 11, 12).after_millis(5);
    let failed = forked.bind(&missing(12), Some(Errno::EADDRNOTAVAIL)).after_millis(200);
    assert_ne!(refused(failed, LOCALHOST).cause, Cause::BindFailed);
    // It fails, ends, and a fork closes last.
    let failed = up().fork("relay", 10, 11).bind(&missing(10), Some(Errno::EADDRNOTAVAIL)).after_millis(5);
    let mut of_fork = first.clone();
    of_fork.listener.process.pid = Some(11);
    let ended = failed.exit(10, ExitStatus::Code(1)).after_millis(5).close(&of_fork, Close::Owner);
    assert_ne!(refused(ended.after_millis(200), LOCALHOST).cause, Cause::BindFailed);
    // It has executed another program since.
    let failed = up().bind(&missing(10), Some(Errno::EADDRNOTAVAIL)).after_millis(5);
    let replaced = failed.execute("other", 10).after_millis(1).close(&first, Close::Owner);
    assert_ne!(refused(replaced.after_millis(200), LOCALHOST).cause, Cause::BindFailed);
}

/// It listened for a moment, and the record of its end came before that of its listener's.
#[test]
fn what_listened_and_ended_immediately_has_listened() {
    let earlier = server(TAILNET).by("relay", 9);
    let brief = server(TAILNET).by("relay", 10);
    let ended = simulation()
        .ready()
        .open(&earlier)
        .after_millis(2_000)
        .close(&earlier, Close::End(ExitStatus::Code(0)))
        .after_millis(100)
        .start("relay", 10)
        .begin_listen(&brief, Some(false))
        .exit(10, ExitStatus::Code(1))
        .close(&brief, Close::End(ExitStatus::Code(1)))
        .after_millis(300);
    assert_ne!(refused(ended, LOCALHOST).cause, Cause::NeverListened);
}

/// A crash loop after the server stopped.
#[test]
fn what_came_after_a_stop_is_the_cause() {
    let gateway = server(LOCALHOST).by("openclaw-gatewa", 10);
    let mut crashing = simulation().ready().open(&gateway).after_millis(5_000);
    crashing = crashing.close(&gateway, Close::End(ExitStatus::Signal(15))).after_millis(500);
    for pid in 11..15 {
        crashing = crashing.start("openclaw-gatewa", pid).after_millis(300).exit(pid, ExitStatus::Code(78));
    }
    let verdict = refused(crashing.after_millis(200), LOCALHOST);
    assert_eq!(verdict.cause, Cause::NeverListened, "{verdict:?}");
    assert!(verdict.summary.contains("exit code 78"), "{}", verdict.summary);
}

/// The instance that failed to take the port was restarted, and the next one ended for another reason.
#[test]
fn a_failure_of_an_instance_that_has_ended_does_not_decide_beside_a_later_instance() {
    let wanted = server("192.168.50.9:18789").by("openclaw-gatewa", 11);
    let failed = simulation()
        .ready()
        .start("openclaw-gatewa", 11)
        .bind(&wanted, Some(Errno::EADDRNOTAVAIL))
        .after_millis(100)
        .exit(11, ExitStatus::Code(1))
        .after_millis(500);
    let restarted = failed.start("openclaw-gatewa", 12).after_millis(300);
    let ended = restarted.exit(12, ExitStatus::Code(78)).after_millis(100);
    let verdict = refused(ended, LOCALHOST);
    assert_eq!((verdict.cause, server_pid(&verdict)), (Cause::NeverListened, Some(12)), "{verdict:?}");
}

/// The refusal waits for an answer of the host while the next process fails in the same way.
#[test]
fn a_refusal_is_about_the_process_that_had_failed_by_then() {
    let wanted = |pid| server("192.168.50.9:18789").by("relay", pid);
    let failed = simulation().ready().silent_about_holders();
    let failed = failed.bind(&wanted(11), Some(Errno::EADDRNOTAVAIL)).after_millis(100);
    let verdict = failed
        .refuse(&connect(LOCALHOST))
        .after_millis(20)
        .bind(&wanted(12), Some(Errno::EADDRNOTAVAIL))
        .after_millis(500)
        .verdict();
    assert_eq!((verdict.cause, server_pid(&verdict)), (Cause::BindFailed, Some(11)), "{verdict:?}");
}

/// Each process of a crash loop fails once: they are one failure, with its count.
#[test]
fn processes_that_fail_alike_are_counted_together() {
    let wanted = |pid| server("192.168.50.9:18789").by("relay", pid);
    let mut failing = simulation().ready();
    for pid in 11..31 {
        failing = failing.bind(&wanted(pid), Some(Errno::EADDRNOTAVAIL)).after_millis(100);
    }
    let verdict = refused(failing, LOCALHOST);
    let failures: Vec<(u64, Option<u32>)> =
        verdict.failed_binds.iter().map(|failed| (failed.times, failed.process.pid)).collect();
    assert_eq!(failures, [(20, Some(30))], "{verdict:?}");
}

/// It closed the socket before it listened: it is the server all the same.
#[test]
fn a_process_that_has_bound_and_closed_is_known_by_that() {
    let relay = server(LOCALHOST).by("relay", 11);
    let closed = || {
        let bound = simulation().ready().bind(&relay, None).after_millis(200);
        bound.destroy(&relay).after_millis(200)
    };
    let verdict = refused(closed(), LOCALHOST);
    assert_certain(&verdict, Cause::Starting);
    let server = verdict.server.expect("a server");
    assert_eq!((server.process.pid, server.known_by), (Some(11), KnownBy::Bind));
    let verdict = refused(closed().exit(11, ExitStatus::Code(3)).after_millis(100), LOCALHOST);
    assert_certain(&verdict, Cause::NeverListened);
    assert!(verdict.summary.contains("exit code 3"), "{}", verdict.summary);
}

/// The refusal waits for an answer of the host while the socket is closed.
#[test]
fn a_socket_that_is_closed_while_a_refusal_waits_was_bound() {
    let relay = server(LOCALHOST).by("relay", 11);
    let bound = simulation().ready().silent_about_holders().bind(&relay, None).after_millis(200);
    let closed = bound.refuse(&connect(LOCALHOST)).destroy(&relay).after_millis(500);
    assert_eq!(closed.verdict().cause, Cause::BoundNotListening);
}

/// A listener on the port for another address did not keep it from its own: of two, the one that did is named.
#[test]
fn what_holds_an_address_is_what_conflicts_with_it() {
    let [v6, lan, any] = [LOCALHOST_V6, LAN, ANY].map(|address| server(address).by("relay", 11));
    let other = server(LAN).by("other", 12);
    for (holder, named) in [(&lan, "held by relay[11] on 192.168.50.2:18789"), (&other, "held by other[12]")]
    {
        let failed = simulation().ready().open(&v6).open(holder).bind(&any, Some(Errno::EADDRINUSE));
        let verdict = refused(failed.after_millis(10), LOCALHOST);
        assert_eq!(verdict.cause, Cause::BindFailed, "{verdict:?}");
        assert!(verdict.summary.contains(named), "{}", verdict.summary);
        let held_by: Vec<&str> =
            verdict.failed_binds.iter().flat_map(|failed| &failed.held_by).map(|one| &*one.addr).collect();
        assert_eq!(held_by, ["192.168.50.2"], "{verdict:?}");
    }
}

/// It bound the port that it connects from.
#[test]
fn a_client_that_has_bound_a_port_is_not_its_server() {
    let client = server(LOCALHOST).by("relay", 11);
    let connected = simulation().ready().bind(&client, None).after_millis(20).becomes_client(&client);
    let verdict = refused(connected.after_millis(200), LOCALHOST);
    assert_certain(&verdict, Cause::NothingListening);
    assert_eq!(server_pid(&verdict), None);
}

/// A listener that closes immediately is a probe: its process has listened, and its end is not a reason.
#[test]
fn a_process_that_tried_the_port_is_neither_starting_nor_ended_without_listening() {
    let probe = server(ANY).by("vite", 22);
    let probed = || {
        let bound = simulation().ready().bind(&probe, None).open(&probe).after_millis(3);
        bound.close(&probe, Close::Owner).destroy(&probe).after_millis(500)
    };
    assert_certain(&refused(probed(), LOCALHOST), Cause::NothingListening);
    let ended = probed().exit(22, ExitStatus::Code(0)).after_millis(100);
    assert_certain(&refused(ended, LOCALHOST), Cause::NothingListening);
    // An instance before that ended without listening is not the last.
    let silent = server(LOCALHOST_V6).by("vite", 21);
    let before = simulation().ready().bind(&silent, None).after_millis(10).exit(21, ExitStatus::Code(1));
    let after = before.destroy(&silent).bind(&probe, None).open(&probe).after_millis(3);
    let after =
        after.close(&probe, Close::Owner).destroy(&probe).after_millis(500).exit(22, ExitStatus::Code(0));
    assert_certain(&refused(after.after_millis(100), LOCALHOST), Cause::NothingListening);
}

/// An exec in the same process replaces the instance and is not an end.
#[test]
fn what_a_process_did_before_its_exec_counts_for_the_old_instance_alone() {
    let relay = server(LOCALHOST).by("relay", 11);
    let bound = || simulation().ready().bind(&relay, None).after_millis(200).destroy(&relay).after_millis(50);
    assert_certain(&refused(bound(), LOCALHOST), Cause::Starting);
    let other = || bound().execute("other", 11).after_millis(100);
    assert_certain(&refused(other(), LOCALHOST), Cause::NothingListening);
    let ended = other().exit(11, ExitStatus::Code(1)).after_millis(100);
    assert_certain(&refused(ended, LOCALHOST), Cause::NothingListening);
    // What failed before does not settle the new program elsewhere.
    let failed = simulation().ready().bind(&server(LAN).by("relay", 11), Some(Errno::EADDRINUSE));
    let failed = failed.held_by_none().after_millis(50).execute("other", 11).after_millis(50);
    let moved = failed.open(&server("127.0.0.1:18790").by("other", 11)).after_millis(100);
    assert_certain(&refused(moved, LOCALHOST), Cause::NothingListening);
}

/// A program that replaced the one that failed has not gone elsewhere in its place.
#[test]
fn what_the_next_program_opens_is_not_where_the_one_before_it_went() {
    let missing = server("10.99.9.9:18789").by("relay", 11);
    let failed = || simulation().ready().start("relay", 11).bind(&missing, Some(Errno::EADDRNOTAVAIL));
    let executed = || failed().after_millis(5).execute("other", 11).after_millis(25);
    let name = |verdict: &Verdict| verdict.server.as_ref().and_then(|server| server.process.comm.clone());
    let verdict = refused(executed().after_millis(100), LOCALHOST);
    assert_eq!((verdict.cause, name(&verdict).as_deref()), (Cause::BindFailed, Some("relay")));
    // On a watched port, or on another one.
    let watched = server("[::]:18790").by("other", 11);
    let other = server("0.0.0.0:9100").by("other", 11);
    let opened = simulation().watching(&[18_789, 18_790]).ready().start("relay", 11);
    let opened = opened.bind(&missing, Some(Errno::EADDRNOTAVAIL)).after_millis(5).execute("other", 11);
    for moved in [
        opened.after_millis(25).open(&watched).after_millis(100),
        executed().opens_elsewhere(&other).after_millis(100),
    ] {
        let verdict = refused(moved, LOCALHOST);
        assert_eq!((verdict.cause, name(&verdict).as_deref()), (Cause::BindFailed, Some("relay")));
    }
    // What it took over from that program is.
    let taken = failed().opens_elsewhere(&server("0.0.0.0:9100").by("relay", 11)).after_millis(5);
    assert_ne!(refused(taken.execute("other", 11).after_millis(100), LOCALHOST).cause, Cause::BindFailed);
}

/// The last worker of a server ends in order: what became of the server itself is what matters.
#[test]
fn the_end_of_the_last_worker_is_not_that_of_its_server() {
    let gateway = server(LOCALHOST).by("relay", 10);
    let mut of_worker = gateway.clone();
    of_worker.listener.process.pid = Some(11);
    let up =
        || simulation().ready().start("relay", 10).open(&gateway).after_millis(100).fork("relay", 10, 11);
    let ends = |up: Simulation, status: ExitStatus| {
        let ended = up.exit(11, status).close(&of_worker, Close::End(status)).after_millis(300);
        let verdict = refused(ended, LOCALHOST);
        assert_eq!(verdict.cause, Cause::Stopped);
        verdict.summary
    };
    let done = ExitStatus::Code(0);
    // It shuts down in order, and waits for its workers.
    let draining = ends(up().after_millis(3_000), done);
    assert!(draining.starts_with("relay[10] closed") && draining.contains("is still running"), "{draining}");
    // It was killed, and its workers see that.
    let killed = up().after_millis(3_000).exit(10, ExitStatus::Signal(9)).after_millis(700);
    let killed = ends(killed, done);
    assert!(killed.contains("relay[10] was ended by SIGKILL"), "{killed}");
    // A daemon's parent ended as it should, and the daemon ends much later.
    let daemon = ends(up().exit(10, done).after_millis(90_000), done);
    assert!(daemon.contains("relay[11] exited with code 0"), "{daemon}");
    let daemon = ends(up().exit(10, done).after_millis(90_000), ExitStatus::Signal(11));
    assert!(daemon.contains("relay[11] was ended by SIGSEGV"), "{daemon}");
    // A worker that crashes had the listener to itself, where its parent has closed it.
    let crashed = ends(up().after_millis(3_000), ExitStatus::Signal(11));
    assert!(crashed.contains("relay[11] was ended by SIGSEGV"), "{crashed}");
}

/// An answer that was read while a process ran, and comes after its end, does not bring it back.
#[test]
fn an_answer_from_before_the_end_of_a_process_does_not_bring_it_back() {
    let up = simulation().ready().start("openclaw-gatewa", 11).after_millis(300);
    let ended = up.exit(11, ExitStatus::Code(3)).after_millis(5);
    let found = ended.finds_from_before("openclaw-gatewa", 11, 10).after_millis(100);
    assert_eq!(refused(found, LOCALHOST).cause, Cause::NeverListened);
}

/// What a program failed to do is settled by a new instance of that program alone.
#[test]
fn a_new_instance_of_another_program_settles_no_failure() {
    let held = server("[::1]:18789").by("relay", 11);
    let both = server("[::]:18789").by("other", 11);
    let failed = || {
        let opened = simulation().ready().execute("relay", 11).open(&held).after_millis(100);
        let executed = opened.execute("other", 11).holds(&held, "other", 11).after_millis(5);
        executed.bind(&both, Some(Errno::EADDRINUSE)).after_millis(5)
    };
    assert_eq!(refused(failed(), LOCALHOST).cause, Cause::BindFailed);
    let of_opener = failed().start_instance(&server(LOCALHOST).by("relay", 12)).after_millis(100);
    assert_eq!(refused(of_opener, LOCALHOST).cause, Cause::BindFailed);
    let of_its_own = failed().start_instance(&server(LOCALHOST).by("other", 12)).after_millis(100);
    assert_ne!(refused(of_its_own, LOCALHOST).cause, Cause::BindFailed);
}

/// A server may ask on one port whether another program is up before it opens its own.
#[test]
fn a_server_that_connects_to_another_watched_port_is_a_server_still() {
    let relay = server(LOCALHOST).by("relay", 11);
    let bound = simulation().watching(&[18_789, 18_790]).ready().bind(&relay, None).after_millis(5);
    let asked = bound.refuse(&connect("127.0.0.1:18790").by("relay", 11)).after_millis(5);
    assert_certain(&refused(asked.destroy(&relay).after_millis(100), LOCALHOST), Cause::Starting);
    // Of the port that it connects to, it is a client.
    let bound = simulation().watching(&[18_789, 18_790]).ready().bind(&relay, None).after_millis(5);
    let asked = bound.refuse(&connect(LAN).by("relay", 11)).after_millis(5);
    let verdict = refused(asked.destroy(&relay).after_millis(100), LOCALHOST);
    assert_ne!(verdict.cause, Cause::Starting);
}

/// The descriptors that exec closes are closed after the exec was reported, in a process that has its new name.
#[test]
fn a_listener_that_exec_closes_is_of_the_old_instance() {
    let gateway = |name| server(LOCALHOST).by(name, 11);
    let executed = |after| {
        simulation()
            .ready()
            .open(&gateway("relay"))
            .after_millis(5_000)
            .execute("other", 11)
            .after_millis(after)
    };
    let name = |verdict: &Verdict| verdict.server.as_ref().and_then(|server| server.process.comm.clone());
    // However long it takes.
    for after in [1, 400] {
        let closed = executed(after).close(&gateway("other"), Close::Exec).after_millis(500);
        let verdict = refused(closed, LOCALHOST);
        assert_certain(&verdict, Cause::Stopped);
        assert_eq!(name(&verdict).as_deref(), Some("relay"));
    }
    // However soon, the program that inherited it has closed it.
    for after in [1, 500] {
        let kept = executed(1).holds(&gateway("relay"), "other", 11).after_millis(after);
        let verdict = refused(kept.close(&gateway("other"), Close::Owner).after_millis(500), LOCALHOST);
        assert_eq!(name(&verdict).as_deref(), Some("other"));
    }
}

/// It asked whether another one serves, then took the port itself.
#[test]
fn a_client_that_takes_the_port_is_the_server() {
    let relay = server(LOCALHOST).by("relay", 11);
    let asked = || {
        let asked = simulation().ready().start("relay", 11).after_millis(5);
        asked.refuse(&connect(LOCALHOST).by("relay", 11)).after_millis(5).bind(&relay, None).after_millis(200)
    };
    assert_certain(&refused(asked(), LOCALHOST), Cause::BoundNotListening);
    let ended = asked().destroy(&relay).exit(11, ExitStatus::Signal(9)).after_millis(100);
    let verdict = refused(ended, LOCALHOST);
    assert_eq!((verdict.cause, server_pid(&verdict)), (Cause::NeverListened, Some(11)), "{verdict:?}");
    // As the port that a client connects from, it makes no server.
    let client = asked().becomes_client(&relay).refuse(&connect(LOCALHOST).by("relay", 11)).after_millis(100);
    assert_certain(&refused(client, LOCALHOST), Cause::NothingListening);
}

/// The same program again: what the instance before had is not its own.
#[test]
fn a_bind_that_failed_after_an_exec_of_the_same_program_is_the_cause() {
    let before = server(ANY).by("relay", 11);
    let wanted = server("10.99.9.9:18789").by("relay", 11);
    let failed = || {
        let executed = simulation().ready().open(&before).after_millis(5_000).execute("relay", 11);
        let closed = executed.after_millis(1).close(&before, Close::Exec).after_millis(2);
        closed.bind(&wanted, Some(Errno::EADDRNOTAVAIL)).after_millis(1)
    };
    assert_certain(&refused(failed(), LOCALHOST), Cause::BindFailed);
    let ended = failed().exit(11, ExitStatus::Signal(9)).after_millis(1);
    assert_certain(&refused(ended, LOCALHOST), Cause::BindFailed);
}

/// A connection that kept the server from the address ends, which nothing shows: the port is asked about again.
#[test]
fn a_connection_that_held_the_port_is_not_believed_to_stay() {
    let failed = || {
        let failed = simulation().ready().start("relay", 11).after_millis(5);
        let failed = failed.bind(&server(LOCALHOST).by("relay", 11), Some(Errno::EADDRINUSE)).after_millis(5);
        failed.held("127.0.0.1", TcpState::CloseWait, Process::default()).after_millis(5)
    };
    assert_certain(&refused(failed(), LOCALHOST), Cause::BindFailed);
    let ended = || failed().exit(11, ExitStatus::Code(78)).after_millis(2_000);
    let held = ended().held("127.0.0.1", TcpState::CloseWait, Process::default()).after_millis(1);
    assert_certain(&refused(held, LOCALHOST), Cause::BindFailed);
    // As the second refusal finds it, which the holders are queried for again.
    let free = ended().without_answers().refuse(&connect(LOCALHOST));
    assert!(free.waits_for(|query| matches!(query, QueryKind::Holders { .. })));
    assert_certain(&free.after_millis(1).held_by_none().with_answers().verdict(), Cause::NeverListened);
}

/// What kept the server from the address closes while the refusal waits: it was there when the client was refused.
#[test]
fn what_held_the_port_is_judged_as_of_the_refusal() {
    let (lan, any) = (server(LAN).by("relay", 11), server(ANY).by("relay", 11));
    let metrics = server("0.0.0.0:9100").by("relay", 11);
    let opened = simulation().watching(&[9_100, 18_789]).ready().open(&metrics).after_millis(1).open(&lan);
    let held = opened.after_millis(5_000).without_answers();
    let failed = held.bind(&any, Some(Errno::EADDRINUSE)).after_millis(1).refuse(&connect(LOCALHOST));
    let closed = failed.after_millis(1).close(&lan, Close::Owner).with_answers();
    assert_certain(&closed.verdict(), Cause::BindFailed);
}

/// The port that the server went to closes while the refusal waits: it was there when the client was refused.
#[test]
fn where_the_server_went_is_judged_as_of_the_refusal() {
    let (asked, other) = (server(ANY).by("relay", 11), server("0.0.0.0:18790").by("relay", 11));
    let failed = simulation().watching(&[18_789, 18_790]).ready().without_answers();
    let moved = failed.bind(&asked, Some(Errno::EADDRINUSE)).after_millis(1).open(&other).after_millis(1);
    let closed = moved.refuse(&connect(LOCALHOST)).after_millis(1).close(&other, Close::Owner).with_answers();
    assert_certain(&closed.verdict(), Cause::OtherPort);
}

/// The process that opened the listener ran another program when it ended: whether a new process of the first program is the server
/// again, or another service, is not known before it executes the second.
#[test]
fn the_program_that_opened_a_listener_may_not_be_the_one_that_serves() {
    let gateway = |name| server(ANY).by(name, 11);
    let again = |name| server(LOCALHOST_V6).by(name, 22);
    let ended = || {
        let kept = simulation().ready().open(&gateway("relay")).after_millis(100).execute("other", 11);
        let kept = kept.after_millis(1).holds(&gateway("relay"), "other", 11).after_millis(500);
        kept.close(&gateway("other"), Close::Owner).exit(11, ExitStatus::Signal(9)).after_millis(50)
    };
    for (name, because) in [("relay", &[Because::SeveralOwners][..]), ("other", &[])] {
        let verdict = refused(ended().open(&again(name)).after_millis(300), LAN);
        assert_eq!((verdict.cause, &*verdict.because), (Cause::WrongAddress, because), "{name}: {verdict:?}");
    }
}

#[test]
fn an_inherited_listener_counts_as_listened() {
    let relay = server(LAN).by("relay", 11);
    let executed =
        || simulation().ready().open(&relay).after_millis(5_000).execute("relay", 11).after_millis(1);
    let inherited = executed().holds(&relay, "relay", 11).after_millis(500).close(&relay, Close::Owner);
    assert_certain(&refused(inherited.after_millis(500), LOCALHOST), Cause::NothingListening);
    let dropped = executed().close(&relay, Close::Owner).after_millis(500);
    assert_eq!(refused(dropped, LOCALHOST).cause, Cause::Starting);
}

/// A daemon: its first process ends as soon as its fork runs.
#[test]
fn an_instance_that_has_not_listened_ends_with_its_last_process() {
    let relay = server(LOCALHOST).by("relay", 10);
    let bound = simulation().ready().bind(&relay, None).after_millis(10).destroy(&relay);
    let daemon = || bound_daemon(&relay);
    assert_certain(&refused(bound.after_millis(10), LOCALHOST), Cause::Starting);
    assert_certain(&refused(daemon(), LOCALHOST), Cause::Starting);
    let verdict = refused(daemon().exit(11, ExitStatus::Code(4)).after_millis(100), LOCALHOST);
    assert_certain(&verdict, Cause::NeverListened);
    assert!(verdict.summary.contains("exit code 4"), "{}", verdict.summary);
    // A child that executes another program is not a process of the instance.
    let helper = daemon().execute("helper", 11).after_millis(100);
    assert_certain(&refused(helper, LOCALHOST), Cause::NeverListened);
}

fn bound_daemon(relay: &Server) -> Simulation {
    let bound = simulation().ready().bind(relay, None).after_millis(10).destroy(relay);
    bound.fork("relay", 10, 11).after_millis(10).exit(10, ExitStatus::Code(0)).after_millis(200)
}

/// It binds for its parent.
#[test]
fn what_a_fork_does_its_instance_does() {
    let wanted = server(LOCALHOST).by("relay", 11);
    let forked = || simulation().ready().execute("relay", 10).after_millis(10).fork("relay", 10, 11);
    let bound = forked().bind(&wanted, None).after_millis(10).destroy(&wanted).after_millis(10);
    let ended = bound.exit(11, ExitStatus::Code(1)).after_millis(200);
    assert_certain(&refused(ended, LOCALHOST), Cause::Starting);
}

/// A restart: the next instance has started and not listened yet.
#[test]
fn a_successor_is_named() {
    let gateway = server(LOCALHOST).by("openclaw-gatewa", 10);
    let restarted = simulation()
        .ready()
        .open(&gateway)
        .after_millis(5_000)
        .close(&gateway, Close::End(ExitStatus::Signal(15)))
        .after_millis(500)
        .start("openclaw-gatewa", 11)
        .after_millis(300);
    let verdict = refused(restarted, LOCALHOST);
    assert_certain(&verdict, Cause::Stopped);
    assert!(
        verdict.summary.contains("its successor openclaw-gatewa[11] started 0.3 s ago"),
        "{}",
        verdict.summary
    );
    assert!(verdict.hint.unwrap_or_default().starts_with("wait: another instance"));
}

/// The next instance has settled elsewhere, which only a query finds: it is not waited for.
#[test]
fn a_successor_that_settled_elsewhere_is_the_cause() {
    let first = server(LOCALHOST).by("relay", 10);
    let restarted = || {
        let opened = simulation().ready().execute("relay", 10).open(&first).after_millis(5_000);
        let ended = opened.close(&first, Close::End(ExitStatus::Signal(15))).exit(10, ExitStatus::Signal(15));
        ended.after_millis(500).execute("relay", 11)
    };
    let elsewhere = server("127.0.0.1:9000").by("relay", 11);
    let moved = restarted().finds_elsewhere(&[&elsewhere]).after_millis(8_000);
    let verdict = refused(moved, LOCALHOST);
    // Nothing but the time shows that it will not open the port.
    assert_eq!((verdict.cause, &*verdict.because), (Cause::OtherPort, &[Because::MayBeStarting][..]));
    let on_unix = restarted().local(11, "/run/relay.sock").after_millis(8_000);
    assert_certain(&refused(on_unix, LOCALHOST), Cause::NotOnTcp);
    // One that has just started may still open the port.
    let young = restarted().finds_elsewhere(&[&elsewhere]).local(11, "/run/relay.sock").after_millis(800);
    assert_certain(&refused(young, LOCALHOST), Cause::Stopped);
    let silent = restarted().after_millis(8_000);
    assert_certain(&refused(silent, LOCALHOST), Cause::Stopped);
}

/// What ends a server to take its place has started by then, and is not to be started again.
#[test]
fn a_successor_that_started_before_the_end_is_named() {
    let gateway = server(LOCALHOST).by("openclaw-gatewa", 10);
    let replaced = simulation()
        .ready()
        .open(&gateway)
        .after_millis(5_000)
        .start("openclaw-gatewa", 11)
        .after_millis(800)
        .close(&gateway, Close::End(ExitStatus::Code(0)))
        .after_millis(1_500);
    let verdict = refused(replaced, LOCALHOST);
    assert_certain(&verdict, Cause::Stopped);
    assert!(
        verdict.summary.contains("its successor openclaw-gatewa[11] started 2.3 s ago"),
        "{}",
        verdict.summary
    );
    assert!(verdict.hint.unwrap_or_default().starts_with("wait: another instance"));
}

/// The user of a server that gives up root once it has started.
const MOSQUITTO: u32 = 106;

fn mosquitto(pid: u32) -> Server {
    server(LOCALHOST).by("mosquitto", pid).of_user(MOSQUITTO)
}

/// Root starts a server, which gives up root, listens, and ends.
fn has_given_up_root() -> Simulation {
    let first = mosquitto(11);
    let up = simulation().ready().execute_as("mosquitto", 11, ROOT).after_millis(20).open(&first);
    let ended = up.after_millis(5_000).close(&first, Close::End(ExitStatus::Code(0)));
    ended.exit(11, ExitStatus::Code(0)).after_millis(1_000)
}

#[track_caller]
fn assert_of_service(verdict: &Verdict, cause: Cause, pid: u32) {
    let server = verdict.server.as_ref().map(|server| (server.process.pid, server.known_by));
    assert_eq!((verdict.cause, server), (cause, Some((Some(pid), KnownBy::Service))), "{verdict:?}");
    assert!(!verdict.because.contains(&Because::SeveralOwners), "{verdict:?}");
}

/// It fails before it gives up root: it has another user than the one that listened, as which it was started.
#[test]
fn a_restart_that_fails_before_it_gives_up_root_is_of_the_same_service() {
    let failed = has_given_up_root().execute_as("mosquitto", 22, ROOT).after_millis(30);
    let verdict = refused(failed.exit(22, ExitStatus::Code(3)).after_millis(300), LOCALHOST);
    assert_of_service(&verdict, Cause::NeverListened, 22);
}

/// The process that root started has ended by the time that its child listens.
#[test]
fn a_daemon_that_has_given_up_root_is_of_the_service_that_root_started() {
    let daemon = mosquitto(12);
    let up = simulation().ready().execute_as("mosquitto", 11, ROOT).fork("mosquitto", 11, 12);
    let up = up.exit(11, ExitStatus::Code(0)).after_millis(20).open(&daemon).after_millis(5_000);
    let ended = up.close(&daemon, Close::End(ExitStatus::Signal(15))).exit(12, ExitStatus::Signal(15));
    let failed = ended.after_millis(1_000).execute_as("mosquitto", 22, ROOT).fork("mosquitto", 22, 23);
    let failed = failed.exit(22, ExitStatus::Code(0)).after_millis(30).exit(23, ExitStatus::Code(3));
    assert_of_service(&refused(failed.after_millis(300), LOCALHOST), Cause::NeverListened, 22);
}

/// The configuration was changed: it asks for its port as root.
#[test]
fn a_bind_before_root_is_given_up_is_of_the_same_service() {
    let asks = mosquitto(22).of_user(ROOT);
    let failed = has_given_up_root().execute_as("mosquitto", 22, ROOT).after_millis(30);
    let failed = failed.bind(&asks, Some(Errno::EADDRNOTAVAIL)).exit(22, ExitStatus::Code(1));
    let verdict = refused(failed.after_millis(300), LOCALHOST);
    assert_of_service(&verdict, Cause::BindFailed, 22);
}

/// It is still to give up root.
#[test]
fn a_successor_that_has_not_given_up_root_is_named() {
    let started = has_given_up_root().execute_as("mosquitto", 22, ROOT).after_millis(300);
    let verdict = refused(started, LOCALHOST);
    assert_eq!(verdict.cause, Cause::Stopped, "{verdict:?}");
    assert!(verdict.summary.contains("its successor mosquitto[22]"), "{}", verdict.summary);
    assert!(hint_of(&verdict).starts_with("wait: another instance"), "{verdict:?}");
}

/// Its descriptors are read again by another user's number: it is the same process.
#[test]
fn a_listener_that_was_opened_before_root_was_given_up_is_of_the_same_service() {
    let first = mosquitto(11).of_user(ROOT);
    let up = simulation().ready().execute_as("mosquitto", 11, ROOT).open(&first).after_millis(5_000);
    let ended = up.close(&mosquitto(11), Close::End(ExitStatus::Code(0))).exit(11, ExitStatus::Code(0));
    let failed = ended.after_millis(1_000).execute_as("mosquitto", 22, ROOT).after_millis(30);
    let failed = failed.exit(22, ExitStatus::Code(3)).after_millis(300);
    assert_of_service(&refused(failed, LOCALHOST), Cause::NeverListened, 22);
}

/// The user that a server gives up root for, any other one, and root beside them: each starts services of its own.
#[test]
fn a_program_that_another_user_started_is_never_of_a_service_that_root_started() {
    const OTHER: u32 = 1001;
    let ends = |ended: Simulation, uid| {
        let failed = ended.execute_as("mosquitto", 22, uid).after_millis(30);
        refused(failed.exit(22, ExitStatus::Code(3)).after_millis(300), LOCALHOST)
    };
    for uid in [MOSQUITTO, OTHER] {
        let verdict = ends(has_given_up_root(), uid);
        assert_eq!((verdict.cause, server_pid(&verdict)), (Cause::Stopped, Some(11)), "{uid}: {verdict:?}");
        // Nor the other way round.
        let own = server(LOCALHOST).by("mosquitto", 11).of_user(uid);
        let up = simulation().ready().execute_as("mosquitto", 11, uid).open(&own).after_millis(5_000);
        let ended = up.close(&own, Close::End(ExitStatus::Code(0))).exit(11, ExitStatus::Code(0));
        let verdict = ends(ended.after_millis(1_000), ROOT);
        assert_eq!((verdict.cause, server_pid(&verdict)), (Cause::Stopped, Some(11)), "{uid}: {verdict:?}");
    }
    // Who started what was there before the trace is not known.
    let before = simulation().present(&mosquitto(11)).ready().close(&mosquitto(11), Close::Owner);
    let verdict = ends(before.after_millis(1_000), ROOT);
    assert_eq!((verdict.cause, server_pid(&verdict)), (Cause::Stopped, Some(11)), "{verdict:?}");
}

/// The number of the process that root started is another user's process's by now, or runs another user's program.
#[test]
fn a_number_that_another_process_has_by_now_shows_nothing() {
    let started = || simulation().ready().execute_as("mosquitto", 11, ROOT).after_millis(20);
    let ended = started().exit(11, ExitStatus::Code(0)).after_millis(1_000);
    let executed = started().execute_as("mosquitto", 11, MOSQUITTO).after_millis(20);
    let lost = started().lose(1, LostWhere::Ring).scan_again().after_millis(20);
    for other in [ended, executed, lost] {
        let up = other.open(&mosquitto(11)).after_millis(5_000);
        let ended = up.close(&mosquitto(11), Close::End(ExitStatus::Code(0))).exit(11, ExitStatus::Code(0));
        let failed = ended.after_millis(1_000).execute_as("mosquitto", 22, ROOT).after_millis(30);
        let verdict = refused(failed.exit(22, ExitStatus::Code(3)).after_millis(300), LOCALHOST);
        assert_eq!(server_pid(&verdict), Some(11), "{verdict:?}");
        assert_eq!(verdict.cause, Cause::Stopped, "{verdict:?}");
    }
}

/// Another user listens on an address of its own, and tries for more: it decides nothing beside the server.
#[test]
fn another_users_process_decides_nothing() {
    let gateway = server(LOCALHOST).by("openclaw-gatewa", 10);
    let stranger = |at: &str| server(at).by("nc", 66).of_user(NOBODY);
    let crashed = simulation()
        .ready()
        .open(&gateway)
        .after_millis(1_000)
        .open(&stranger("127.9.9.9:18789"))
        .after_millis(1_000)
        .bind(&stranger(ANY), Some(Errno::EADDRINUSE))
        .after_millis(1_000)
        .close(&gateway, Close::End(ExitStatus::Code(1)))
        .after_millis(100)
        .open(&stranger(LOCALHOST_V6))
        .after_millis(1_000);
    let verdict = refused(crashed, LOCALHOST);
    assert_eq!((verdict.cause, server_pid(&verdict)), (Cause::Stopped, Some(10)), "{verdict:?}");
    let hint = verdict.hint.unwrap_or_default();
    assert!(!hint.contains("127.9.9.9") && !hint.contains("::1"), "{hint}");
}

/// A failed bind beside a running server of another user does not make that server the cause.
#[test]
fn another_users_failed_bind_is_shown_and_decides_nothing() {
    let gateway = server(TAILNET).by("openclaw-gatewa", 10);
    let stranger = server(ANY).by("nc", 66).of_user(NOBODY);
    let tried =
        simulation().present(&gateway).ready().bind(&stranger, Some(Errno::EADDRINUSE)).after_millis(100);
    let verdict = refused(tried, LOCALHOST);
    assert_certain(&verdict, Cause::WrongAddress);
    assert_eq!(verdict.failed_binds[0].process.uid, Some(NOBODY));
    assert!(!verdict.hint.unwrap_or_default().contains("kill"));
}

/// Two users have a listener each, and neither ever answered there.
#[test]
fn listeners_of_several_users_are_not_certain() {
    let one = server(TAILNET).by("openclaw-gatewa", 10);
    let other = server(LAN).by("nc", 66).of_user(NOBODY);
    let verdict = refused(simulation().present(&one).present(&other).ready(), LOCALHOST);
    assert_eq!((verdict.cause, &*verdict.because), (Cause::WrongAddress, &[Because::SeveralOwners][..]));
}

/// The nearer one may have been opened to attract clients.
#[test]
fn no_client_is_sent_to_the_listener_of_another_user() {
    let gateway = server(TAILNET).by("openclaw-gatewa", 10);
    let stranger = server(LOCALHOST_V6).by("openclaw-gatewa", 66).of_user(NOBODY);
    for both in [[&gateway, &stranger], [&stranger, &gateway]] {
        let opened = both.into_iter().fold(simulation().ready(), Simulation::open).after_millis(1_000);
        let verdict = refused(opened, LOCALHOST);
        assert_eq!((verdict.cause, &*verdict.because), (Cause::WrongFamily, &[Because::SeveralOwners][..]));
        let hint = verdict.hint.unwrap_or_default();
        assert!(!hint.contains("[::1]") && hint.contains("user 65534"), "{hint}");
    }
}

/// Any user can open a socket on a port, and wait for clients that a hint sends to it.
#[test]
fn a_listener_of_another_user_alone_is_not_certain() {
    let strange = |at: &str| server(at).by("redis-server", 11).of_user(NOBODY);
    for (at, to, cause) in [
        (TAILNET, LOCALHOST, Cause::WrongAddress),
        ("127.0.0.2:18789", LOCALHOST, Cause::WrongAddress),
        (ANY, LOCALHOST_V6, Cause::WrongFamily),
    ] {
        let verdict = refused(simulation().present(&strange(at)).ready(), to);
        assert_eq!((verdict.cause, &*verdict.because), (cause, &[Because::UnverifiedServer][..]), "{at}");
        let hint = verdict.hint.unwrap_or_default();
        let (addr, _) = at.rsplit_once(':').unwrap_or_default();
        assert!(!hint.contains(addr), "no client is sent to {addr}: {hint}");
        assert!(hint.contains("user 65534") && hint.contains("-p 11"), "{hint}");
    }
    // To a client of the user's own, the listener is verified.
    let own = simulation().present(&strange(TAILNET)).ready().refuse(&connect(LOCALHOST).of_user(NOBODY));
    assert_certain(&own.verdict(), Cause::WrongAddress);
}

/// A socket whose user is not known can be any user's: alone, as a bind, and beside a server that is known.
#[test]
fn what_belongs_to_an_unknown_user_is_not_certain() {
    let unknown = |at: &str| {
        let mut server = server(at).by("redis-server", 11);
        server.listener.process.uid = None;
        server
    };
    for (at, to, cause) in
        [(TAILNET, LOCALHOST, Cause::WrongAddress), (ANY, LOCALHOST_V6, Cause::WrongFamily)]
    {
        let verdict = refused(simulation().present(&unknown(at)).ready(), to);
        assert_eq!((verdict.cause, &*verdict.because), (cause, &[Because::UnverifiedServer][..]), "{at}");
        let (addr, _) = at.rsplit_once(':').unwrap_or_default();
        assert!(!hint_of(&verdict).contains(addr), "no client is sent to {addr}: {verdict:?}");
        assert!(hint_of(&verdict).contains("a user that is not known"), "{verdict:?}");
    }
    let bound = simulation().ready().bind(&unknown(LOCALHOST), None).after_millis(100);
    let verdict = refused(bound, LOCALHOST);
    assert_eq!(
        (verdict.cause, &*verdict.because),
        (Cause::BoundNotListening, &[Because::UnverifiedServer][..])
    );
    let known = server(TAILNET).by("openclaw-gatewa", 10);
    let opened = simulation().ready().open(&known).after_millis(10).open(&unknown(ANY)).after_millis(1_000);
    let verdict = refused(opened, LOCALHOST_V6);
    assert_eq!(
        (verdict.cause, &*verdict.because),
        (Cause::WrongFamily, &[Because::SeveralOwners][..]),
        "{verdict:?}"
    );
}

/// Root's server was on the port: what another user binds there decides nothing.
#[test]
fn another_users_bind_decides_nothing_beside_what_root_did() {
    let root = server("127.0.0.9:18789").by("nginx", 10).of_user(ROOT);
    let stranger = server(LOCALHOST).by("nc", 66).of_user(NOBODY);
    let bound = simulation().ready().open(&root).after_millis(1_000).bind(&stranger, None).after_millis(100);
    let verdict = refused(bound.close(&root, Close::Owner).after_millis(200), LOCALHOST);
    assert_certain(&verdict, Cause::NothingListening);
    assert_eq!(server_pid(&verdict), Some(10), "{verdict:?}");
}

/// A listener that was open for a moment does not take the place in the history of the one that served.
#[test]
fn what_was_open_for_a_moment_does_not_hide_what_served() {
    let root = server(LOCALHOST).by("nginx", 10).of_user(ROOT);
    let stopped = || {
        let opened = simulation().ready().open(&root).after_millis(1_000);
        opened.close(&root, Close::End(ExitStatus::Signal(9))).after_millis(500)
    };
    let asked = |scene: Simulation| scene.refuse(&connect(LOCALHOST).of_user(ROOT)).verdict();
    assert_eq!(server_pid(&asked(stopped())), Some(10));
    // By another user, who ends with it.
    let stranger = server(LOCALHOST).by("nc", 66).of_user(NOBODY);
    let staged = stopped().open(&stranger).after_millis(1).close(&stranger, Close::End(ExitStatus::Code(0)));
    let verdict = asked(staged.exit(66, ExitStatus::Code(0)).after_millis(500));
    assert_eq!((verdict.cause, server_pid(&verdict)), (Cause::Stopped, Some(10)), "{verdict:?}");
    // By its own successor, after the refusal and before its verdict.
    let next = server(LOCALHOST).by("nginx", 11).of_user(ROOT);
    let waits = stopped().without_answers().refuse(&connect(LOCALHOST).of_user(ROOT));
    let opened = waits.open(&next).after_millis(1).close(&next, Close::End(ExitStatus::Signal(9)));
    let verdict = opened.exit(11, ExitStatus::Signal(9)).after_millis(20).with_answers().verdict();
    assert_eq!((verdict.cause, server_pid(&verdict)), (Cause::Stopped, Some(10)), "{verdict:?}");
}

/// Another user's listener is older, and its bind fails because root's server is there: it is root's that is elsewhere.
#[test]
fn an_older_listener_of_another_user_is_not_the_server_beside_roots() {
    let stranger = |at: &str| server(at).by("nc", 66).of_user(NOBODY);
    let root = server(LOCALHOST).by("nginx", 10).of_user(ROOT);
    let opened = simulation().ready().open(&stranger("127.9.9.9:18789")).after_millis(500).open(&root);
    let failed = opened.after_millis(500).bind(&stranger("[::]:18789"), Some(Errno::EADDRINUSE));
    let verdict = failed.after_millis(200).refuse(&connect("127.0.0.5:18789").of_user(ROOT)).verdict();
    assert_eq!((verdict.cause, server_pid(&verdict)), (Cause::WrongAddress, Some(10)), "{verdict:?}");
    assert_eq!(verdict.because, [Because::SeveralOwners]);
    assert!(!hint_of(&verdict).contains("127.9.9.9"), "{verdict:?}");
}

/// Any other user can come later, or be there before: the verdict of a client of root's server reports what that did.
#[test]
fn root_that_failed_is_the_server_whatever_others_do_after_it() {
    let root = server(LOCALHOST).by("nginx", 10).of_user(ROOT);
    let failed = || {
        let failed = simulation().ready().bind(&root, Some(Errno::EADDRNOTAVAIL));
        failed.after_millis(100)
    };
    let stranger = |at: &str| server(at).by("nc", 66).of_user(NOBODY);
    let elsewhere = failed().bind(&stranger(LOCALHOST), Some(Errno::EACCES)).after_millis(1);
    for staged in [
        failed(),
        failed().bind(&stranger(LOCALHOST), Some(Errno::EADDRNOTAVAIL)).after_millis(100),
        failed().bind(&stranger("127.8.8.8:18789"), None).after_millis(100),
        elsewhere.open(&stranger("127.0.0.1:6123")).after_millis(100),
    ] {
        let refused = staged.refuse(&connect(LOCALHOST).of_user(ROOT));
        let verdict = refused.verdict();
        assert_certain(&verdict, Cause::BindFailed);
        assert_eq!(server_pid(&verdict), Some(10), "{verdict:?}");
        assert!(!verdict.summary.contains("6123"), "{verdict:?}");
    }
}

/// In another namespace too, the server is named, and not what a stranger has opened beside it.
#[test]
fn another_users_process_in_another_namespace_is_not_named_in_place_of_the_server() {
    let pod = || simulation().netns(namespace(POD, Some("web"), &["172.17.0.2"], &[]));
    let moved = server(ANY).by("openclaw-gatewa", 11).in_netns(POD);
    let stranger = server(LOCALHOST).by("a", 5).of_user(NOBODY).in_netns(POD);
    let other = server("127.0.0.9:18789").by("openclaw-gatewa", 10);
    let up = pod().present(&stranger).present(&moved).ready().open(&other).after_millis(1_000);
    let up = up.close(&other, Close::End(ExitStatus::Code(0))).after_millis(1_000);
    let verdict = refused(up, LOCALHOST);
    assert_eq!(verdict.cause, Cause::OtherNetns, "{verdict:?}");
    assert!(verdict.summary.contains("openclaw-gatewa[11] listens on"), "{verdict:?}");
    assert!(!hint_of(&verdict).contains("[5]") && !hint_of(&verdict).contains("-t 5"), "{verdict:?}");
}

/// Only root starts what is root's, or in a unit of the system.
#[test]
fn what_only_root_starts_is_the_server() {
    let unit = |name: &str, user| Unit { name: name.to_owned(), user };
    let of_user = |uid| server(TAILNET).by("redis-server", 11).of_user(uid);
    let verdict = |server: &Server| refused(simulation().present(server).ready(), LOCALHOST);
    assert_certain(&verdict(&of_user(0)), Cause::WrongAddress);
    let in_unit = |unit| verdict(&of_user(NOBODY).in_that_unit(unit));
    assert_certain(&in_unit(unit("redis-server.service", None)), Cause::WrongAddress);
    // A user's own manager, and a session, hold what that user starts.
    for unit in [unit("redis-server.service", Some(NOBODY)), unit("session-3.scope", None)] {
        assert_eq!(in_unit(unit).because, [Because::UnverifiedServer]);
    }
}

/// A listener that a client has itself is not a reason for its refusal, and gets no hint.
#[test]
fn a_clients_own_listener_is_not_certain() {
    let own = server(TAILNET).by("node", 77);
    let verdict = simulation().present(&own).ready().refuse(&connect(LOCALHOST).by("node", 77)).verdict();
    assert_eq!((verdict.cause, &*verdict.because), (Cause::WrongAddress, &[Because::OwnListener][..]));
    assert!(!verdict.hint.unwrap_or_default().contains("100.101.102.103"));
}

/// Nor is one of a process that was refused there before: it asks for the server too.
#[test]
fn a_listener_of_a_process_that_was_refused_itself_is_not_certain() {
    let own = server(TAILNET).by("node", 77);
    let listening = || simulation().present(&own).ready();
    assert_certain(&refused(listening(), LOCALHOST), Cause::WrongAddress);
    let before = listening().refuse(&connect(LOCALHOST).by("node", 77)).after_millis(20_000);
    let verdict = before.refuse(&connect(LOCALHOST).by("curl", 99)).verdict();
    assert_eq!((verdict.cause, &*verdict.because), (Cause::WrongAddress, &[Because::OwnListener][..]));
}

/// Another service has taken the port since the server closed it, and gave it up.
#[test]
fn another_service_on_the_port_since_makes_a_stop_uncertain() {
    let gateway = server(LOCALHOST).by("relay", 11);
    let other = server(LAN).by("proxy", 22);
    let stopped = || {
        let served = simulation().ready().open(&gateway).after_millis(5_000);
        served.close(&gateway, Close::End(ExitStatus::Code(0))).after_millis(100)
    };
    assert_certain(&refused(stopped(), LOCALHOST), Cause::Stopped);
    let since = stopped().open(&other).after_millis(10).close(&other, Close::Owner).after_millis(100);
    let verdict = refused(since, LOCALHOST);
    assert_eq!((verdict.cause, &*verdict.because), (Cause::Stopped, &[Because::SeveralOwners][..]));
}

/// A server opens a port for its metrics first.
#[test]
fn a_side_listener_is_not_where_a_server_settled() {
    let side = server("127.0.0.1:40123").by("openclaw-gatewa", 10);
    let started =
        || simulation().ready().start("openclaw-gatewa", 10).after_millis(1_900).elsewhere(&[&side]);
    assert_eq!(refused(started(), LOCALHOST).cause, Cause::Starting);
    assert_eq!(
        refused(started().after_millis(60_000), LOCALHOST).cause,
        Cause::Starting,
        "an ephemeral port"
    );
    let metrics = server("127.0.0.1:9090").by("openclaw-gatewa", 10);
    let started =
        || simulation().ready().start("openclaw-gatewa", 10).after_millis(1_900).elsewhere(&[&metrics]);
    let verdict = refused(started(), LOCALHOST);
    assert_eq!(verdict.cause, Cause::Starting);
    assert!(verdict.summary.ends_with("has not called listen() on this port"), "{}", verdict.summary);
    let verdict = refused(started().after_millis(5_100), LOCALHOST);
    assert_eq!((verdict.cause, verdict.confidence), (Cause::OtherPort, Confidence::Degraded));
    assert!(verdict.because.contains(&Because::MayBeStarting), "{verdict:?}");
}

/// The server listens on a Unix socket only.
#[test]
fn a_server_may_be_up_and_not_on_tcp() {
    let up = || simulation().ready().start_as("php-fpm", 10, None).local(10, "/run/php-fpm.sock");
    assert_eq!(refused(up().after_millis(1_000), LOCALHOST).cause, Cause::Starting);
    let verdict = refused(up().after_millis(6_000), LOCALHOST);
    assert_eq!((verdict.cause, server_pid(&verdict)), (Cause::NotOnTcp, Some(10)), "{verdict:?}");
    assert!(verdict.summary.contains("/run/php-fpm.sock"), "{}", verdict.summary);
}

/// A second instance is started on the port, where the first one serves another: it is waited for, as long as it is still
/// to open the port.
#[test]
fn a_younger_instance_is_waited_for() {
    let other = server("127.0.0.1:3307").by("mariadbd", 10);
    let first = || {
        let started = simulation().ready().start_as("mariadbd", 10, None);
        started.elsewhere(&[&other]).after_millis(20_000)
    };
    assert_eq!(refused(first(), LOCALHOST).cause, Cause::OtherPort);
    let second = || first().start_as("mariadbd", 20, None).after_millis(1_500);
    let verdict = refused(second(), LOCALHOST);
    assert_eq!((verdict.cause, server_pid(&verdict)), (Cause::Starting, Some(20)), "{verdict:?}");
    assert!(hint_of(&verdict).starts_with("wait for RECOVERED"), "{verdict:?}");
    // It has ended, or it has settled elsewhere itself.
    let ended = second().exit(20, ExitStatus::Code(1)).after_millis(100);
    assert_eq!(refused(ended, LOCALHOST).cause, Cause::OtherPort);
    let settled = server("127.0.0.1:3308").by("mariadbd", 20);
    let settled = second().elsewhere(&[&other, &settled]).after_millis(6_000);
    assert_eq!(refused(settled, LOCALHOST).cause, Cause::OtherPort);
    // The same beside one that listens on a Unix socket only.
    let local = simulation().ready().start_as("mariadbd", 10, None).local(10, "/run/mysqld.sock");
    let local = local.after_millis(20_000).start_as("mariadbd", 20, None).after_millis(1_500);
    let verdict = refused(local, LOCALHOST);
    assert_eq!((verdict.cause, server_pid(&verdict)), (Cause::Starting, Some(20)), "{verdict:?}");
}

/// An instance that was there before the one that moved on is not younger.
#[test]
fn an_older_instance_that_has_not_listened_is_not_waited_for() {
    let older = simulation().ready().start_as("vite", 10, None).after_millis(1_000);
    let moved = older.start_as("vite", 20, None);
    let moved = moved.elsewhere(&[&server("127.0.0.1:3307").by("vite", 20)]).after_millis(6_000);
    assert_eq!(refused(moved, LOCALHOST).cause, Cause::OtherPort);
}

/// It listens on another port that is watched too.
#[test]
fn another_watched_port_is_another_port() {
    let other = server("127.0.0.1:19001").by("openclaw-gatewa", 10);
    let up = simulation().ready().start("openclaw-gatewa", 10).open(&other).after_millis(5_500);
    assert_eq!(refused(up, LOCALHOST).cause, Cause::OtherPort);
}

/// A forwarder is refused inside a container: what listens elsewhere has nothing to do with it.
#[test]
fn an_unrelated_listener_in_another_namespace_changes_nothing() {
    let pod = || simulation().netns(namespace(POD, Some("pod"), &["172.17.0.2"], &[]));
    let forwarder = || connect("172.17.0.2:18789").by("docker-proxy", 2210);
    let verdict = pod().ready().refuse(&forwarder()).verdict();
    assert_eq!(verdict.cause, Cause::NothingListening);
    let other = server(LAN).by("nginx", 5);
    let verdict = pod().present(&other).ready().refuse(&forwarder()).verdict();
    assert_eq!(verdict.cause, Cause::NothingListening, "{verdict:?}");
}

/// A name is what any process can give itself.
#[test]
fn a_server_by_its_name_alone_is_not_certain() {
    let named = simulation().ready().start("openclaw-gatewa", 10).after_millis(1_000);
    let verdict = refused(named, LOCALHOST);
    assert_eq!((verdict.cause, &*verdict.because), (Cause::Starting, &[Because::ClaimOnly][..]));
    assert_eq!(verdict.server.map(|server| server.known_by), Some(KnownBy::Name));
    // For five minutes: one that has not listened by then is not starting.
    let named = simulation().ready().start("openclaw-gatewa", 10).after_millis(301_000);
    assert_eq!(refused(named, LOCALHOST).cause, Cause::NothingListening);
}

/// A process of another user that is named like the product ends after the server has stopped: that is not the server's end.
#[test]
fn another_users_process_with_the_products_name_ends_nothing() {
    let gateway = server(LOCALHOST).by("openclaw-gatewa", 10).of_user(NOBODY);
    let stopped = simulation().ready().open(&gateway).after_millis(5_000);
    let stopped = stopped.close(&gateway, Close::End(ExitStatus::Signal(15))).after_millis(500);
    // By the simulation's other user.
    let staged = stopped.start("openclaw-gatewa", 66).after_millis(300).exit(66, ExitStatus::Code(78));
    let verdict = refused(staged.after_millis(200), LOCALHOST);
    assert_eq!((verdict.cause, server_pid(&verdict)), (Cause::Stopped, Some(10)), "{verdict:?}");
}

/// That a process tried the port proves nothing about another one that only has the product's name.
#[test]
fn a_name_beside_a_failed_bind_is_not_certain() {
    let tried = server(LOCALHOST).by("nc", 66).of_user(NOBODY);
    let tried = simulation().ready().bind(&tried, Some(Errno::EACCES)).after_millis(100);
    let named = tried.exit(66, ExitStatus::Code(1)).start("openclaw-gatewa", 10).after_millis(1_000);
    let verdict = refused(named, LOCALHOST);
    assert_eq!(
        (verdict.cause, &*verdict.because),
        (Cause::Starting, &[Because::ClaimOnly][..]),
        "{verdict:?}"
    );
}

/// A request that comes later is not the fallback of the one before.
#[test]
fn a_later_request_is_not_a_fallback() {
    let refused = || {
        let up = simulation().present(&server("127.0.0.1:18789").by("nginx", 5)).ready();
        up.refuse(&connect(LOCALHOST_V6).by("curl", 7))
    };
    let fallbacks = |simulation: Simulation| {
        simulation.reported().iter().filter(|body| matches!(body, Body::Fallback(_))).count()
    };
    assert_eq!(fallbacks(refused().after_millis(1).reach(LOCALHOST, 7).after_millis(1)), 1);
    assert_eq!(fallbacks(refused().after_millis(800).reach(LOCALHOST, 7).after_millis(1)), 0);
    // A proxy asks on behalf of its own clients.
    let proxy =
        simulation().present(&server(LAN).by("nginx", 7)).present(&server("127.0.0.1:18789").by("app", 5));
    let proxied = proxy.ready().refuse(&connect(LOCALHOST_V6).by("nginx", 7)).after_millis(1);
    assert_eq!(fallbacks(proxied.reach(LOCALHOST, 7).after_millis(1)), 0);
}

const ROOT: u32 = 0;

/// A server in a container, and a proxy of the host that publishes it at another port.
fn published(at: &str, proxy_of: u32) -> Simulation {
    let inside = server("0.0.0.0:18789").by("nginx", 31).of_user(ROOT).in_netns(POD);
    container().present(&inside).ready().forwards(&proxy(at, proxy_of), inside_of("172.17.0.2"))
}

fn container() -> Simulation {
    simulation().netns(namespace(POD, Some("web"), &["172.17.0.2"], &[]))
}

fn proxy(at: &str, uid: u32) -> Server {
    server(at).by("docker-proxy", 2210).of_user(uid)
}

fn inside_of(addr: &str) -> Target {
    Target::Address(addr.parse().unwrap())
}

fn hint_of(verdict: &Verdict) -> &str {
    verdict.hint.as_deref().unwrap_or_default()
}

/// The container's port is published at another port of the host.
#[test]
fn a_published_port_is_another_port() {
    let verdict = refused(published("0.0.0.0:3200", ROOT), LOCALHOST);
    assert_certain(&verdict, Cause::OtherPort);
    assert_eq!(hint_of(&verdict), "published here as 3200: use 127.0.0.1:3200");
    assert!(verdict.summary.contains("published here as 3200"), "{}", verdict.summary);
    assert_eq!(server_pid(&verdict), Some(31));
    assert!(verdict.listeners.iter().any(|one| one.listener.port == 3200), "{verdict:?}");
    // At the address that was asked for, where it listens there; else at its own.
    for (at, to, expected) in [
        ("0.0.0.0:3200", LAN, "use 192.168.50.2:3200"),
        ("127.0.0.1:3200", LAN, "use 127.0.0.1:3200"),
        ("192.168.50.2:3200", LOCALHOST_V6, "use 192.168.50.2:3200"),
        ("[::]:3200", LOCALHOST_V6, "use [::1]:3200"),
    ] {
        let verdict = refused(published(at, ROOT), to);
        assert!(hint_of(&verdict).ends_with(expected), "{at} {to}: {verdict:?}");
    }
}

/// A forwarder counts while it runs, and not before it has started.
#[test]
fn a_forwarder_that_does_not_run_publishes_nothing() {
    let ended = published("0.0.0.0:3200", ROOT).refuse(&connect(LOCALHOST).by("curl", 7)).after_millis(500);
    let again = ended.forwards_nothing().refuse(&connect(LOCALHOST).by("wget", 8));
    assert_eq!(again.verdict().cause, Cause::OtherNetns);
    let inside = server("0.0.0.0:18789").by("nginx", 31).in_netns(POD);
    let before = container().present(&inside).ready().refuse(&connect(LOCALHOST).by("curl", 7));
    assert_eq!(before.verdict().cause, Cause::OtherNetns);
}

/// What is behind a tunnel is not seen: its arguments are what is known.
#[test]
fn a_tunnel_to_another_host_is_known_by_its_arguments_alone() {
    let tunnel = |target: Target| {
        let ssh = server("127.0.0.1:13306").by("ssh", 88);
        refused(simulation().ready().forwards(&ssh, target), LOCALHOST)
    };
    for target in [
        Target::Remote("db.internal".into()),
        Target::Host("db.internal".into()),
        Target::Container,
        inside_of("203.0.113.9"),
    ] {
        let verdict = tunnel(target.clone());
        assert_eq!(
            (verdict.cause, &*verdict.because),
            (Cause::OtherPort, &[Because::ClaimOnly][..]),
            "{target:?}: {verdict:?}"
        );
        assert_eq!(hint_of(&verdict), "published here as 13306: use 127.0.0.1:13306");
        let server = verdict.server.map(|server| (server.process.pid, server.known_by));
        assert_eq!(server, Some((Some(88), KnownBy::Name)));
    }
    // It leads back to where nothing listens.
    for addr in ["127.0.0.1", "::1", "192.168.50.2", "0.0.0.0"] {
        assert_eq!(tunnel(inside_of(addr)).cause, Cause::NothingListening, "{addr}");
    }
}

/// Nothing listens in the container: the published port does not help.
#[test]
fn a_port_that_leads_to_nothing_is_not_another_port() {
    let started = container().ready().forwards(&proxy("0.0.0.0:3200", ROOT), inside_of("172.17.0.2"));
    let verdict = refused(started, LOCALHOST);
    assert_eq!(verdict.cause, Cause::NothingListening, "{verdict:?}");
    let loopback = server("127.0.0.1:18789").by("nginx", 31).in_netns(POD);
    let on_loopback = container().present(&loopback).ready();
    let on_loopback = on_loopback.forwards(&proxy("0.0.0.0:3200", ROOT), inside_of("172.17.0.2"));
    assert_ne!(refused(on_loopback, LOCALHOST).cause, Cause::OtherPort);
}

/// A user of the host may start a process with any arguments: no hint sends a client to it.
#[test]
fn a_forwarder_of_another_user_is_not_certain() {
    let verdict = refused(published("0.0.0.0:3200", NOBODY), LOCALHOST);
    assert_eq!(
        (verdict.cause, &*verdict.because),
        (Cause::OtherPort, &[Because::UnverifiedServer][..]),
        "{verdict:?}"
    );
    assert!(!hint_of(&verdict).contains("3200"), "{verdict:?}");
    // Beside one of root it decides nothing.
    let both =
        published("0.0.0.0:3300", ROOT).forwards(&proxy("0.0.0.0:3200", NOBODY), inside_of("172.17.0.2"));
    let verdict = refused(both, LOCALHOST);
    assert_certain(&verdict, Cause::OtherPort);
    assert!(hint_of(&verdict).ends_with("use 127.0.0.1:3300"), "{verdict:?}");
}

/// A user can give a namespace of its own the address that a forwarder leads to, and listen there.
#[test]
fn another_users_process_behind_a_forwarder_is_not_the_server() {
    let stranger = server(ANY).by("nginx", 31).of_user(NOBODY).in_netns(POD);
    let ready = container().present(&stranger).ready();
    let verdict = refused(ready.forwards(&proxy("0.0.0.0:3200", ROOT), inside_of("172.17.0.2")), LOCALHOST);
    assert_eq!((verdict.cause, &*verdict.because), (Cause::OtherPort, &[Because::ClaimOnly][..]));
    assert_ne!(server_pid(&verdict), Some(31), "{verdict:?}");
}

/// Where the host's own server is known, a container with the same port has nothing to do with it.
#[test]
fn a_forwarder_decides_nothing_beside_a_server() {
    let own = server(LOCALHOST).by("redis-server", 10);
    let stopped = || {
        let up = published("0.0.0.0:3200", ROOT).open(&own).after_millis(1_000);
        up.close(&own, Close::End(ExitStatus::Code(0))).after_millis(500)
    };
    assert_certain(&refused(stopped(), LOCALHOST), Cause::Stopped);
    let failed = published("0.0.0.0:3200", ROOT).bind(&own, Some(Errno::EACCES)).after_millis(100);
    assert_eq!(refused(failed, LOCALHOST).cause, Cause::BindFailed);
    let starting = published("0.0.0.0:3200", ROOT).start("openclaw-gatewa", 10).after_millis(1_000);
    assert_eq!(refused(starting, LOCALHOST).cause, Cause::Starting);
}

/// From another container only the address that was asked for leads to the host.
#[test]
fn a_port_on_the_hosts_loopback_is_not_published_to_a_container() {
    let from_inside = |at: &str| {
        let started = published(at, ROOT);
        started.refuse(&connect(LAN).in_netns(POD)).verdict()
    };
    let verdict = from_inside("0.0.0.0:3200");
    assert_eq!(verdict.cause, Cause::OtherPort, "{verdict:?}");
    assert!(hint_of(&verdict).ends_with("use 192.168.50.2:3200"), "{verdict:?}");
    assert_ne!(from_inside("127.0.0.1:3200").cause, Cause::OtherPort);
}

const OTHER: &str = "127.0.0.1:18790";
const BOTH: [u16; 2] = [18_789, 18_790];

/// The same socket, held by another process.
fn held_by(server: &Server, pid: u32, ppid: u32) -> Server {
    let mut server = server.clone();
    server.listener.process.pid = Some(pid);
    server.listener.process.ns_pid = Some(pid);
    server.listener.process.ppid = Some(ppid);
    server
}

/// A master and a worker of this name, which listen on two watched ports.
fn forked(name: &str) -> (Simulation, [Server; 2]) {
    let both = [LOCALHOST, OTHER].map(|at| server(at).by(name, 10));
    let opened = simulation().watching(&BOTH).ready().open(&both[0]).open(&both[1]);
    (opened.fork(name, 10, 11).after_millis(5_000), both)
}

fn text_of(verdict: &Verdict) -> String {
    format!("{}\n{}", verdict.summary, verdict.hint.as_deref().unwrap_or_default())
}

/// The server has given the port up and goes on: this process listens on the other one.
#[track_caller]
fn assert_goes_on(verdict: &Verdict, server: (u32, KnownBy), name: &str, ended: &[u32]) {
    assert_certain(verdict, Cause::Stopped);
    let known = verdict.server.as_ref().map(|known| (known.process.pid, known.known_by));
    assert_eq!(known, Some((Some(server.0), server.1)), "{verdict:?}");
    let goes_on =
        format!("{name}[{}] gave the port up, and is still running and listens on {OTHER}", server.0);
    assert!(verdict.summary.ends_with(&goes_on), "{}", verdict.summary);
    let text = text_of(verdict);
    assert!(hint_of(verdict).contains("still has port 18789: add it there and reload"), "{text}");
    for word in ["exited", "start the server again", "wait"] {
        assert!(!text.contains(word), "{text}");
    }
    for pid in ended {
        assert!(!text.contains(&format!("[{pid}]")), "{pid} has ended: {text}");
    }
    assert!(verdict.candidates.is_empty(), "{verdict:?}");
    assert!(verdict.listeners.iter().any(|one| one.listener.port == 18_790), "{verdict:?}");
}

/// nginx at a reload that drops a port: the master closes it first, an old worker last, and that ends.
#[test]
fn a_port_that_a_reload_drops_is_not_the_end_of_the_server() {
    let closed = || {
        let (up, [dropped, _]) = forked("nginx");
        up.fork("nginx", 10, 12).close(&held_by(&dropped, 11, 10), Close::Owner)
    };
    for millis in [0, 20, 99, 300] {
        let ended = closed().after_millis(millis).exit(11, ExitStatus::Code(0)).after_millis(500);
        assert_goes_on(&refused(ended, LOCALHOST), (10, KnownBy::Listener), "nginx", &[11]);
    }
    // It still serves what is under way.
    assert_goes_on(&refused(closed().after_millis(500), LOCALHOST), (10, KnownBy::Listener), "nginx", &[11]);
    // It was killed, by its master or not.
    let (up, [dropped, _]) = forked("nginx");
    let killed = up.close(&held_by(&dropped, 11, 10), Close::End(ExitStatus::Signal(9)));
    let killed = refused(killed.exit(11, ExitStatus::Signal(9)).after_millis(500), LOCALHOST);
    assert_certain(&killed, Cause::Stopped);
    assert_eq!(server_pid(&killed), Some(10));
    let words = format!("nginx[11] was ended by SIGKILL; nginx[10] is still running and listens on {OTHER}");
    assert!(killed.summary.ends_with(&words), "{}", killed.summary);
    assert!(
        hint_of(&killed).starts_with("see the log of nginx[10] for why one of its processes ended, and"),
        "{killed:?}"
    );
    // The refusal comes before the worker ends.
    let early = closed().after_millis(5).refuse(&connect(LOCALHOST)).after_millis(20);
    let early = early.exit(11, ExitStatus::Code(0)).after_millis(500).verdict();
    assert_goes_on(&early, (10, KnownBy::Listener), "nginx", &[11]);
}

/// Its forks are older than the trace, and the other port is not watched.
#[test]
fn a_port_that_a_reload_drops_is_known_by_who_held_it_before() {
    let dropped = server(LOCALHOST).by("nginx", 10);
    let kept = server(OTHER).by("nginx", 10);
    let up = simulation().present(&dropped).ready().finds_elsewhere(&[&kept]).after_millis(5_000);
    let closed = up.close(&held_by(&dropped, 11, 10), Close::Owner).after_millis(20);
    let ended = closed.exit(11, ExitStatus::Code(0)).after_millis(500);
    assert_goes_on(&refused(ended, LOCALHOST), (10, KnownBy::Listener), "nginx", &[11]);
}

/// gunicorn with SO_REUSEPORT: each worker opens the ports itself, and the arbiter those of the new configuration.
#[test]
fn a_worker_that_was_told_to_end_is_not_the_end_of_the_server() {
    let closed = |status: ExitStatus| {
        let arbiter = server(OTHER).by("gunicorn", 10);
        let worker = held_by(&server(LOCALHOST).by("gunicorn", 11), 11, 10);
        let up = simulation().watching(&BOTH).ready().open(&arbiter).fork("gunicorn", 10, 11);
        let up = up.after_millis(50).open(&worker).after_millis(5_000);
        up.close(&worker, Close::End(status)).exit(11, status).after_millis(500)
    };
    let verdict = refused(closed(ExitStatus::Code(0)), LOCALHOST);
    assert_goes_on(&verdict, (10, KnownBy::Service), "gunicorn", &[11]);
    // One that failed is why nothing answers.
    let failed = refused(closed(ExitStatus::Code(3)), LOCALHOST);
    assert_certain(&failed, Cause::Stopped);
    assert!(failed.summary.ends_with("gunicorn[11] exited with code 3"), "{}", failed.summary);
}

/// The parent listens and forks, and closes; the child closes and ends.
#[test]
fn a_fork_whose_parent_listens_nowhere_is_reported_as_ended() {
    let lone = |name: &str| {
        let gateway = server(LOCALHOST).by(name, 10);
        let forked = simulation().watching(&BOTH).ready().open(&gateway).fork(name, 10, 11);
        forked.after_millis(5_000).close(&held_by(&gateway, 11, 10), Close::Owner)
    };
    for millis in [0, 60, 99, 101] {
        let ended = lone("gunicorn").after_millis(millis).exit(11, ExitStatus::Code(0)).after_millis(500);
        let verdict = refused(ended, LOCALHOST);
        assert_certain(&verdict, Cause::Stopped);
        assert_eq!(server_pid(&verdict), Some(11));
        assert!(verdict.summary.ends_with("gunicorn[11] exited with code 0"), "{}", verdict.summary);
        let before =
            lone("gunicorn").after_millis(5).refuse(&connect(LOCALHOST)).after_millis(millis.min(94));
        let verdict = before.exit(11, ExitStatus::Code(0)).after_millis(500).verdict();
        assert!(verdict.summary.ends_with("gunicorn[11] exited with code 0"), "{}", verdict.summary);
    }
    // What listens elsewhere is another program, or has ended too.
    let beside = server(OTHER).by("relay", 20);
    let ended = lone("gunicorn").open(&beside).after_millis(20).exit(11, ExitStatus::Code(0));
    let verdict = refused(ended.after_millis(500), LOCALHOST);
    assert!(verdict.summary.ends_with("gunicorn[11] exited with code 0"), "{}", verdict.summary);
    let (up, [first, second]) = forked("gunicorn");
    let quits =
        up.close(&held_by(&first, 11, 10), Close::Owner).close(&held_by(&second, 11, 10), Close::Owner);
    let quits = quits.after_millis(20).exit(11, ExitStatus::Code(0)).exit(10, ExitStatus::Code(0));
    let verdict = refused(quits.after_millis(500), LOCALHOST);
    assert!(verdict.summary.ends_with("gunicorn[11] exited with code 0"), "{}", verdict.summary);
}

/// A launcher that opens a socket for each program that it starts, and the program of another socket.
#[test]
fn what_a_launcher_started_is_not_kept_by_its_other_programs() {
    let [dropped, kept] = [LOCALHOST, OTHER].map(|at| server(at).by("launcher", 10));
    let opened = simulation().watching(&BOTH).ready().open(&dropped).open(&kept);
    let started = opened.fork("launcher", 10, 11).execute("relay", 11).fork("launcher", 10, 12);
    let started = started.execute("relay", 12).holds(&dropped, "relay", 11).holds(&kept, "relay", 12);
    let mut closed = held_by(&dropped, 11, 10);
    closed.listener.process.comm = Some("relay".into());
    closed.listener.process.exe = Some("/usr/bin/relay".into());
    let ended = started.after_millis(5_000).close(&closed, Close::End(ExitStatus::Code(0)));
    let verdict = refused(ended.exit(11, ExitStatus::Code(0)).after_millis(500), LOCALHOST);
    assert!(verdict.summary.ends_with("relay[11] exited with code 0"), "{}", verdict.summary);
    // Two servers of one shell.
    let [first, second] =
        [(LOCALHOST, 11), (OTHER, 12)].map(|(at, pid)| held_by(&server(at).by("relay", pid), pid, 10));
    let opened = simulation().watching(&BOTH).ready().open(&first).open(&second).after_millis(5_000);
    let ended = opened.close(&first, Close::End(ExitStatus::Code(0))).exit(11, ExitStatus::Code(0));
    let verdict = refused(ended.after_millis(500), LOCALHOST);
    assert!(verdict.summary.ends_with("relay[11] exited with code 0"), "{}", verdict.summary);
}

/// HAProxy's master executes itself to reload, and forks a new worker, which inherits the port that is kept; then the old one
/// closes what is dropped.
fn haproxy_reloads(drains: bool) -> Simulation {
    let (up, [dropped, kept]) = forked("haproxy");
    let up = up.execute("haproxy", 10).holds(&dropped, "haproxy", 11).holds(&kept, "haproxy", 11);
    let reloaded = up.after_millis(8_000).execute("haproxy", 10).after_millis(80).fork("haproxy", 10, 12);
    let closed = reloaded.after_millis(1).close(&held_by(&dropped, 11, 10), Close::Owner);
    let closed = closed.after_millis(1).execute("haproxy", 10).after_millis(15);
    let closed = if drains { closed } else { closed.exit(11, ExitStatus::Code(0)) };
    closed.holds(&kept, "haproxy", 12)
}

#[test]
fn a_successor_that_has_settled_is_not_waited_for() {
    for millis in [200, 1_000, 6_000, 60_000] {
        for drains in [false, true] {
            let verdict = refused(haproxy_reloads(drains).after_millis(millis), LOCALHOST);
            assert_goes_on(&verdict, (12, KnownBy::Service), "haproxy", &[11]);
        }
    }
}

/// The trace began after the first worker, and it is not known that the master opened the ports.
#[test]
fn the_workers_of_one_master_are_of_one_server() {
    let dropped = held_by(&server(LOCALHOST).by("haproxy", 11), 11, 10);
    let kept = held_by(&server(OTHER).by("haproxy", 11), 11, 10);
    let up = simulation().watching(&BOTH).present(&dropped).present(&kept).ready().after_millis(8_000);
    let reloaded = up.execute("haproxy", 10).after_millis(80).fork("haproxy", 10, 12).after_millis(1);
    let closed = reloaded.close(&dropped, Close::Owner).execute("haproxy", 10).after_millis(15);
    let ended = closed.exit(11, ExitStatus::Code(0)).holds(&kept, "haproxy", 12).after_millis(500);
    assert_goes_on(&refused(ended, LOCALHOST), (12, KnownBy::Service), "haproxy", &[11]);
}

/// `haproxy -sf`: a new process opens what it is to have, and ends the old one.
#[test]
fn a_successor_that_took_over_other_ports_is_not_waited_for() {
    let old = [LOCALHOST, OTHER].map(|at| server(at).by("haproxy", 10));
    let new = server(OTHER).by("haproxy", 20);
    let up = simulation().watching(&BOTH).ready().execute("haproxy", 10).open(&old[0]).open(&old[1]);
    let taken = up.after_millis(5_000).execute("haproxy", 20).after_millis(30).open(&new).after_millis(5);
    let closed = taken.close(&old[0], Close::Owner).close(&old[1], Close::Owner).after_millis(10);
    let ended = closed.exit(10, ExitStatus::Code(0));
    let verdict = refused(ended.after_millis(500), LOCALHOST);
    assert_goes_on(&verdict, (20, KnownBy::Service), "haproxy", &[10]);
    // One that opens the other port after the old one has ended was started again, and may still open this one.
    let ended = || {
        let up = simulation().watching(&BOTH).ready().execute("haproxy", 10).open(&old[0]).open(&old[1]);
        let status = ExitStatus::Code(0);
        let closed =
            up.after_millis(5_000).close(&old[0], Close::End(status)).close(&old[1], Close::End(status));
        closed.exit(10, status).after_millis(500)
    };
    let again = ended().execute("haproxy", 20).after_millis(30).open(&new).after_millis(500);
    let verdict = refused(again, LOCALHOST);
    assert_certain(&verdict, Cause::Stopped);
    assert!(hint_of(&verdict).starts_with("wait"), "{verdict:?}");
}

/// nginx's new binary inherits both ports and has one of them no more; then the old master and its worker end.
#[test]
fn a_program_that_inherited_other_ports_is_not_waited_for() {
    for present in [false, true] {
        let both = [LOCALHOST, OTHER].map(|at| server(at).by("nginx", 10));
        let up = simulation().watching(&BOTH);
        let up = if present {
            up.present(&both[0]).present(&both[1]).ready().execute("nginx", 20)
        } else {
            up.ready()
                .open(&both[0])
                .open(&both[1])
                .fork("nginx", 10, 11)
                .after_millis(5_000)
                .execute("nginx", 20)
        };
        let quits = up.after_millis(700).close(&held_by(&both[0], 11, 10), Close::Owner).after_millis(5);
        let ended = quits.exit(11, ExitStatus::Code(0)).exit(10, ExitStatus::Code(0));
        let ended = ended.after_millis(5).holds(&both[1], "nginx", 20).after_millis(8_000);
        let verdict = refused(ended, LOCALHOST);
        assert_goes_on(&verdict, (20, KnownBy::Service), "nginx", &[10, 11]);
    }
}

/// HAProxy is reloaded with a Unix socket in place of its port; a worker listens there.
#[test]
fn what_a_worker_listens_on_its_master_does() {
    let gateway = server(LOCALHOST).by("haproxy", 10);
    let up = simulation().ready().execute("haproxy", 10).open(&gateway).fork("haproxy", 10, 11);
    let up = up.after_millis(1).execute("haproxy", 10).holds(&gateway, "haproxy", 11).after_millis(5_000);
    let reloaded = up.execute("haproxy", 10).after_millis(80).fork("haproxy", 10, 12).after_millis(1);
    let closed = reloaded.close(&held_by(&gateway, 11, 10), Close::Owner).execute("haproxy", 10);
    let ended = closed.after_millis(15).exit(11, ExitStatus::Code(0)).local(12, "/run/haproxy.sock");
    let verdict = refused(ended.after_millis(8_000), LOCALHOST);
    assert_eq!(verdict.cause, Cause::NotOnTcp, "{verdict:?}");
    assert!(!text_of(&verdict).contains("wait"), "{verdict:?}");
    assert!(verdict.summary.contains("haproxy[10] listens on /run/haproxy.sock"), "{}", verdict.summary);
}

/// A process that held another port has ended; which one has that now is not known yet.
#[test]
fn an_ended_process_is_not_what_goes_on() {
    let (up, [dropped, kept]) = forked("haproxy");
    let up = up.execute("haproxy", 10).holds(&dropped, "haproxy", 11).holds(&kept, "haproxy", 11);
    let reloaded = up.after_millis(8_000).execute("haproxy", 10).after_millis(80).fork("haproxy", 10, 12);
    let closed = reloaded.after_millis(1).close(&held_by(&dropped, 11, 10), Close::Owner).after_millis(15);
    let verdict = refused(closed.exit(11, ExitStatus::Code(0)).after_millis(500), LOCALHOST);
    assert!(!text_of(&verdict).contains("still running"), "{verdict:?}");
}

/// Each listens for a while and ends, and the next begins after a while.
fn one_after_another(servers: &[Server], millis: u64, pause: u64) -> Simulation {
    let mut simulation = simulation().ready();
    for (number, server) in servers.iter().enumerate() {
        let server = numbered(server, number as u64);
        simulation = simulation.open(&server).after_millis(millis);
        simulation = simulation.close(&server, Close::End(ExitStatus::Signal(15))).after_millis(pause);
    }
    simulation
}

/// The same server as another process.
fn numbered(server: &Server, number: u64) -> Server {
    let mut server = server.clone();
    server.listener.key.cookie += number << 50;
    server.listener.key.inode = server.listener.key.cookie;
    server.listener.process.pid = server.listener.process.pid.map(|pid| pid + number as u32);
    server
}

fn unit(name: &str, pid: u32) -> Server {
    server(LOCALHOST).by("postgres", pid).of_user(ROOT).in_unit(name)
}

#[track_caller]
fn assert_in_turn(verdict: &Verdict, [one, other]: [&str; 2]) {
    assert_eq!(
        (verdict.cause, &*verdict.because),
        (Cause::Stopped, &[Because::SeveralOwners][..]),
        "{verdict:?}"
    );
    let summary = format!("two services take turns on 18789: {one} and {other}");
    assert!(verdict.summary.contains(&summary), "{}", verdict.summary);
    // Both have ended: the hint has their names without numbers.
    let [one, other] = [one, other].map(|name| name.split('[').next().unwrap_or_default());
    let hint = format!("two services take turns on 18789: disable one, {one} or {other}");
    assert_eq!(verdict.hint.as_deref(), Some(&*hint), "{verdict:?}");
}

#[track_caller]
fn assert_not_in_turn(simulation: Simulation) -> Verdict {
    let verdict = refused(simulation, LOCALHOST);
    assert_eq!(verdict.cause, Cause::Stopped, "{verdict:?}");
    let text = format!("{} {}", verdict.summary, verdict.hint.as_deref().unwrap_or_default());
    assert!(!text.contains("take turns"), "{text}");
    verdict
}

/// Each ends the other, or waits for the port.
#[test]
fn two_units_that_take_turns_are_named() {
    let (main, backup) = (unit("postgresql@15-main.service", 100), unit("pg-backup.service", 300));
    let names = ["postgresql@15-main.service", "pg-backup.service"];
    let turns = one_after_another(&[main.clone(), backup.clone(), main.clone()], 400, 20);
    assert_in_turn(&refused(turns, LOCALHOST), names);
    let turns =
        one_after_another(&[backup.clone(), main.clone(), main.clone(), backup.clone(), main], 60_000, 1_000);
    assert_in_turn(&refused(turns, LOCALHOST), names);
}

/// One of them was started by hand: it has no unit.
#[test]
fn a_unit_and_a_program_without_one_take_turns() {
    let (unit, own) = (unit("web.service", 100), server(LOCALHOST).by("postgres", 300).of_user(ROOT));
    let turns = one_after_another(&[own.clone(), unit.clone(), own, unit], 2_000, 300);
    assert_in_turn(&refused(turns, LOCALHOST), ["web.service", "postgres[302]"]);
    let (one, other) = (server(LOCALHOST).by("vite", 100), server(LOCALHOST).by("python3", 300));
    let turns = one_after_another(&[one.clone(), other.clone(), one], 2_000, 300);
    assert_in_turn(&refused(turns, LOCALHOST), ["vite[102]", "python3[301]"]);
}

#[test]
fn a_service_that_restarts_does_not_take_turns() {
    let main = unit("web.service", 100);
    let restarts = one_after_another(&vec![main; 6], 1_000, 100);
    assert_certain(&assert_not_in_turn(restarts), Cause::Stopped);
    let own = server(LOCALHOST).by("gateway", 100);
    assert_certain(&assert_not_in_turn(one_after_another(&vec![own; 4], 1_000, 100)), Cause::Stopped);
}

/// Another service took the port permanently: which of the two is the server is not known.
#[test]
fn a_handover_is_not_a_turn() {
    let (old, new) = (unit("old.service", 100), unit("new.service", 300));
    let handed_over = one_after_another(&[old.clone(), old, new.clone(), new], 5_000, 200);
    let verdict = assert_not_in_turn(handed_over);
    assert_eq!(verdict.because, [Because::SeveralOwners], "{verdict:?}");
    let shown: Vec<_> = verdict.listeners.iter().map(|one| one.listener.process.pid).collect();
    assert_eq!(shown, [Some(303), Some(101)], "{verdict:?}");
}

/// A third service has had the port between them: nothing is known of which two.
#[test]
fn three_services_do_not_take_turns() {
    let units = ["a.service", "b.service", "c.service", "a.service"].map(|name| unit(name, 100));
    assert_not_in_turn(one_after_another(&units, 5_000, 200));
}

/// Blue and green: the new one listens before the old one closes.
#[test]
fn services_that_overlap_do_not_take_turns() {
    let mut simulation = simulation().ready();
    let of = |number: u64| {
        let name = if number.is_multiple_of(2) { "blue.service" } else { "green.service" };
        numbered(&unit(name, 100), number)
    };
    simulation = simulation.open(&of(0));
    for number in 1..5 {
        simulation = simulation.after_millis(3_000).open(&of(number)).after_millis(500);
        simulation = simulation.close(&of(number - 1), Close::End(ExitStatus::Code(0)));
    }
    let stopped =
        simulation.after_millis(3_000).close(&of(4), Close::End(ExitStatus::Code(1))).after_millis(100);
    assert_not_in_turn(stopped);
}

/// What happened an hour ago is not why it stopped now.
#[test]
fn turns_of_long_ago_do_not_count() {
    let (day, night) = (unit("day.service", 100), unit("night.service", 300));
    assert_not_in_turn(one_after_another(&[day.clone(), night.clone(), day, night], 3_600_000, 100));
}

/// A user of the host can listen each time the server is down: no hint proposes to disable the server.
#[test]
fn another_user_that_takes_turns_is_shown_and_not_proposed() {
    let (main, stranger) = (unit("web.service", 100), server(LOCALHOST).by("nc", 300).of_user(NOBODY));
    let turns = one_after_another(&[main.clone(), stranger.clone(), main], 2_000, 300);
    let verdict = refused(turns, LOCALHOST);
    assert_eq!(verdict.cause, Cause::Stopped);
    assert!(verdict.summary.contains("web.service and nc[301]"), "{}", verdict.summary);
    let hint = hint_of(&verdict);
    assert!(!hint.contains("disable") && !hint.contains("start the server again"), "{verdict:?}");
    // On another address than the one that was asked for, it takes nothing.
    let (main, other) = (unit("web.service", 100), server("127.9.9.9:18789").by("nc", 300).of_user(NOBODY));
    assert_not_in_turn(one_after_another(&[main.clone(), other, main], 2_000, 300));
}

/// nginx asks HAProxy, HAProxy asks socat, and all are answered.
fn chain() -> (Simulation, [Server; 4]) {
    let hop = |port: u16, comm: &str, pid| server(&format!("127.0.0.1:{port}")).by(comm, pid);
    let hops = [
        hop(18_789, "nginx", 10),
        hop(8_001, "haproxy", 20),
        hop(8_002, "socat", 30),
        hop(8_003, "caddy", 40),
    ];
    let up = simulation().watching(&[18_789]).present(&hops[0]).ready();
    (up.elsewhere(&[&hops[1], &hops[2], &hops[3]]), hops)
}

/// Each proxy of a chain is followed once the one before it has reached it.
#[test]
fn each_hop_of_a_chain_is_followed() {
    let (mut chain, hops) = chain();
    assert_eq!(chain.followed(), [10]);
    let mut followed = Vec::new();
    for (number, to) in ["127.0.0.1:8001", "127.0.0.1:8002", "127.0.0.1:8003"].iter().enumerate() {
        chain = chain.after_millis(20_000).reach_hop(&hops[number], to);
        followed.push(chain.followed());
    }
    // Not what is behind the third one.
    assert_eq!(followed, [vec![20], vec![30], vec![]]);
    let refused = chain.refuse(&connect("127.0.0.1:9000").by("socat", 31).child_of(30).upstream());
    let verdict = refused.verdict();
    assert_eq!(verdict.cause, Cause::NothingListening, "{verdict:?}");
    assert!(verdict.because.contains(&Because::NotWatchedBefore));
    assert!(verdict.summary.starts_with("socat serves 127.0.0.1:8002: its clients "), "{}", verdict.summary);
}

/// A proxy that was restarted is another process.
#[test]
fn a_hop_that_was_restarted_is_followed_again() {
    let (chain, hops) = chain();
    let mut reached = chain.reach_hop(&hops[0], "127.0.0.1:8001");
    assert_eq!(reached.followed(), [10, 20]);
    let mut again = reached.after_millis(10_000).reach_hop(&hops[0], "127.0.0.1:8001");
    assert!(again.followed().is_empty(), "it is followed");
    let next = server("127.0.0.1:8001").by("haproxy", 21);
    let restarted = again.exit(20, ExitStatus::Code(0)).elsewhere(&[&next]).after_millis(10_000);
    let mut restarted = restarted.reach_hop(&hops[0], "127.0.0.1:8001");
    assert_eq!(restarted.followed(), [21]);
}

#[test]
fn a_hop_on_another_host_is_not_followed() {
    let (chain, hops) = chain();
    let mut reached = chain.reach_hop(&hops[0], "203.0.113.9:8001").reach_hop(&hops[0], "192.168.50.2:8001");
    assert_eq!(reached.followed(), [10], "what listens on the loopback address was not reached");
}

/// For ten minutes after it was reached last.
#[test]
fn a_hop_that_is_not_reached_any_more_is_given_up() {
    let (chain, hops) = chain();
    let mut reached = chain.reach_hop(&hops[0], "127.0.0.1:8001").after_millis(599_000);
    assert!(reached.unfollowed().is_empty());
    let mut over = reached.after_millis(2_000);
    assert_eq!(over.unfollowed(), [20]);
}

/// The next hop of a proxy may be in a container.
#[test]
fn a_hop_in_a_container_is_followed() {
    let inside = server("0.0.0.0:80").by("nginx", 31).in_netns(POD);
    let proxy = server(ANY).by("docker-proxy", 2210);
    let up = container().watching(&[18_789]).present(&proxy).ready().elsewhere(&[&inside]);
    let mut reached = up.reach_hop(&proxy, "172.17.0.2:80");
    assert_eq!(reached.followed(), [2210, 31]);
}
