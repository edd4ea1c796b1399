//! The published schema, as closed for these tests: that closing it works, and that no field is optional.

use std::collections::BTreeSet;

use libtest_mimic::Trial;
use serde_json::Value;
use tracer::line::Cause;

use crate::support::needs::Need;
use crate::support::schema;
use crate::support::story::{Listen, Story};
use crate::trial;

const NEEDS: &[Need] = &[Need::Root, Need::Network];

pub fn trials() -> Vec<Trial> {
    vec![
        trial("schema::an_unknown_field_is_refused_anywhere", NEEDS, an_unknown_field_is_refused_anywhere),
        trial("schema::a_missing_field_is_refused_anywhere", NEEDS, a_missing_field_is_refused_anywhere),
    ]
}

/// One line of each type that a plain run writes.
fn lines() -> Vec<Value> {
    let mut story = Story::begin();
    let mut gateway = story.listen(Listen::at("10.77.0.1").device("eth0"));
    story.trace();
    let _successor = story.listen("[::1]");
    story.refused("127.0.0.1").cause(Cause::WrongFamily);
    story.close(&mut gateway);
    let log = story.end();
    let lines: Vec<Value> =
        log.lines.iter().map(|line| serde_json::to_value(line).expect("a line")).collect();
    let types: BTreeSet<&str> = lines.iter().filter_map(|line| line["type"].as_str()).collect();
    assert_eq!(types, BTreeSet::from(["start", "ready", "listener", "refused", "stop"]));
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
