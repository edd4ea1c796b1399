//! The published schema, as closed for these tests: that closing it works, and that no field is optional.

use std::collections::BTreeSet;

use libtest_mimic::Trial;
use rustix::io::Errno;
use serde_json::Value;
use tracer::output::schema::{Body, Cause, Line};

use tests::fixture::{Fixture, Listen};
use tests::needs::Need;
use tests::process::{Actor, ProcessSpec};
use tests::schema;
use tests::suite::test;

const NEEDS: &[Need] = &[Need::Root, Need::Network];

pub fn all() -> Vec<Trial> {
    vec![
        test("schema::an_unknown_field_is_an_error_anywhere", NEEDS, an_unknown_field_is_refused_anywhere),
        test("schema::a_missing_field_is_an_error_anywhere", NEEDS, a_missing_field_is_refused_anywhere),
    ]
}

/// At least one line of each type that a run writes, but for `lost`.
fn lines() -> Vec<Value> {
    let mut fixture = Fixture::begin();
    let mut gateway = fixture.listen(Listen::at("10.77.0.1").device("eth0"));
    fixture.trace_with(&["--all", "--heartbeat", "100ms"]);
    let _successor = fixture.listen("[::1]");
    // Refused, once more, and then answered by the other family: immediately, as that counts for a second only.
    let mut client = Actor::start(&fixture.netns.place(), &ProcessSpec::named("curl"));
    let port = fixture.port();
    for addr in ["127.0.0.1", "127.0.0.1", "[::1]"] {
        client.send(&format!("connect {addr}:{port}"));
    }
    let refused = Err(Errno::CONNREFUSED.raw_os_error());
    assert_eq!((client.outcome(), client.outcome()), (refused.clone(), refused));
    client.outcome().expect("the other family answers");
    assert_eq!(fixture.tracer().refused(client.pid).verdict.cause, Cause::WrongFamily);
    // No namespace has this address.
    let abandoned = client.ask(&format!("connect 10.77.0.2:{port} nonblocking abandon"));
    assert_eq!(abandoned, Err(Errno::INPROGRESS.raw_os_error()));
    let _recovery = fixture.listen("127.0.0.1");
    fixture.close(&mut gateway);
    let recovered = |line: &Line| matches!(line.body, Body::Recovered(_)).then_some(());
    fixture.tracer().wait_for("a recovery", recovered);
    fixture.tracer().wait_for("a sign of life", |line| matches!(line.body, Body::Alive(_)).then_some(()));
    let log = fixture.end();
    let lines: Vec<Value> =
        log.lines.iter().map(|line| serde_json::to_value(line).expect("a line")).collect();
    // What was skipped, at most, which other tests on this host add to.
    let types = lines.iter().filter_map(|line| line["type"].as_str()).filter(|name| *name != "lost");
    let types: BTreeSet<&str> = types.collect();
    let expected = [
        "start",
        "ready",
        "listener",
        "bind",
        "refused",
        "repeated",
        "recovered",
        "fallback",
        "failed",
        "alive",
        "stop",
    ];
    assert_eq!(types, BTreeSet::from(expected));
    lines
}

fn an_unknown_field_is_refused_anywhere() {
    let published = jsonschema::validator_for(&schema::PUBLISHED).expect("a valid schema");
    for line in lines() {
        assert_eq!(schema::check(&line), Ok(()));
        for (path, changed) in schema::with_unknown_fields(&line) {
            assert!(schema::check(&changed).is_err(), "`{path}` passes in {changed}");
            // A consumer who validates with what is published must not stumble over a later version.
            assert!(published.is_valid(&changed), "`{path}` is refused by the published schema in {changed}");
        }
    }
}

fn a_missing_field_is_refused_anywhere() {
    for line in lines() {
        for (path, changed) in schema::with_missing_fields(&line) {
            assert!(schema::check(&changed).is_err(), "`{path}` may be missing in {changed}");
        }
    }
}
