//! When a `listen()` has succeeded, and when it has failed: by its result, never by the time that it takes.

use tests::simulation::{Close, Server, Simulation, connect, server, simulation};
use tracer::model::errno::Errno;
use tracer::output::schema::{Body, Call, Cause, Change, Line};

fn gateway() -> Server {
    server("127.0.0.1:18789")
}

/// A `listen()` begins on a port that had no listener before.
fn listening() -> Simulation {
    simulation().ready().begin_listen(&gateway(), Some(false))
}

fn changes(log: &[Line]) -> Vec<Change> {
    let of = |line: &Line| match &line.body {
        Body::Listener(line) => Some(line.change),
        _ => None,
    };
    log.iter().filter_map(of).collect()
}

/// The calls that the log shows as failed, with their errors.
fn failures(log: &[Line]) -> Vec<(Call, String)> {
    let of = |line: &Line| match &line.body {
        Body::Bind(bind) => Some((bind.call, bind.errno.clone()?)),
        _ => None,
    };
    log.iter().filter_map(of).collect()
}

#[track_caller]
fn assert_failed(log: &[Line]) {
    assert_eq!(changes(log), []);
    assert_eq!(failures(log), [(Call::Listen, "EADDRINUSE".to_owned())]);
}

#[test]
fn no_time_confirms_an_opening() {
    let log = listening().after_millis(5).after_millis(500).after_millis(60_000).end().log;
    assert_eq!(changes(&log), []);
}

#[test]
fn a_dump_that_lists_it_confirms_an_opening() {
    let log = listening().after_millis(5).list(&gateway()).after_millis(5).end().log;
    assert_eq!(changes(&log), [Change::Opened]);
    // It opened when its listen() began.
    let opened = log.iter().find(|line| matches!(line.body, Body::Listener(_))).expect("a line");
    assert_eq!(opened.mono_us, 100_000_000);
}

#[test]
fn a_dump_is_taken_again_at_ten_milliseconds_a_hundred_and_a_second() {
    for millis in [10, 100, 1_000] {
        let early = listening().after_millis(millis - 1).list(&gateway());
        let log = early.after_millis(1).end().log;
        assert_eq!(changes(&log), [Change::Opened], "at {millis} ms");
    }
}

#[test]
fn its_result_confirms_an_opening() {
    let log = listening().end_listen(&gateway(), true).end().log;
    assert_eq!(changes(&log), [Change::Opened]);
}

#[test]
fn a_socket_that_was_never_hashed_did_not_listen_however_long_it_took() {
    for millis in [0, 5, 500, 5_000] {
        let log = listening().after_millis(millis).close(&gateway(), Close::Failure).end().log;
        assert_failed(&log);
    }
}

#[test]
fn a_socket_that_was_hashed_has_listened_before_it_closed() {
    for how in [Close::Owner, Close::Force] {
        let log = listening().close(&gateway(), how).end().log;
        assert_eq!(changes(&log), [Change::Opened, Change::Closed], "{how:?}");
        assert_eq!(failures(&log), []);
    }
}

/// The mark of the socket is of its first `listen()`: what closes it decides.
#[test]
fn a_second_listen_has_failed_when_its_own_thread_closes_the_socket_without_a_shutdown() {
    for was_hashed in [Some(true), None] {
        let second = || simulation().ready().begin_listen(&gateway(), was_hashed).after_millis(500);
        assert_failed(&second().close(&gateway(), Close::Failure).end().log);
        let log = second().close(&gateway(), Close::Owner).end().log;
        assert_eq!(changes(&log), [Change::Opened, Change::Closed]);
    }
}

#[test]
fn a_result_shows_a_failure_whose_close_was_lost() {
    let log = listening().end_listen(&gateway(), false).after_millis(2_000).end().log;
    assert_failed(&log);
}

#[test]
fn an_opening_that_no_dump_can_show_counts_when_two_have_failed() {
    let elsewhere = gateway().in_netns(4_026_532_777);
    let begun = || simulation().ready().begin_listen(&elsewhere, Some(false));
    assert_eq!(changes(&begun().after_millis(9).end().log), []);
    assert_eq!(changes(&begun().after_millis(10).end().log), [Change::Opened]);
}

#[test]
fn an_opening_stands_before_the_refusal_that_comes_after_it() {
    let log = simulation()
        .ready()
        .list(&gateway())
        .begin_listen(&gateway(), Some(false))
        .after_millis(30)
        .refuse(&connect("[::1]:18789"))
        .after_millis(200)
        .end()
        .log;
    let place = |is_it: &dyn Fn(&Body) -> bool| log.iter().position(|line| is_it(&line.body));
    let opened = place(&|body| matches!(body, Body::Listener(_)));
    let refused = place(&|body| matches!(body, Body::Refused(_)));
    assert!(opened.is_some() && opened < refused, "{log:?}");
}

/// A `listen()` that has not succeeded yet clears no failure.
#[test]
fn a_failed_bind_stands_while_a_listen_is_pending() {
    let wildcard = server("0.0.0.0:18789").by("openclaw-gatewa", 77);
    let begun = simulation()
        .ready()
        .bind(&server("[::1]:18789"), Some(Errno::EADDRNOTAVAIL))
        .after_millis(100)
        .begin_listen(&wildcard, Some(false))
        .after_millis(100);
    assert_eq!(begun.refuse(&connect("[::1]:18789")).verdict().cause, Cause::BindFailed);
}
