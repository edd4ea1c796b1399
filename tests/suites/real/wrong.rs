//! The scenarios that tracer still gets wrong. Each is staged all the same, and must fail: one that is right has to be taken
//! off the list.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::stage::{self, Scenario};

/// The name of each, and what is wrong.
const WRONG: &[(&str, &str)] = &[];

/// What tracer gets wrong of a scenario; `None`: nothing.
pub fn why(scenario: &Scenario) -> Option<&'static str> {
    WRONG.iter().find(|(name, _)| *name == scenario.name).map(|(_, why)| *why)
}

/// Runs a scenario, which must fail where it is on the list.
pub fn run(scenario: &Scenario) {
    let Some(why) = why(scenario) else { return stage::run(scenario) };
    let outcome = catch_unwind(AssertUnwindSafe(|| stage::run(scenario)));
    assert!(outcome.is_err(), "it is right now, and stands on the list of what is wrong: {why}");
}

/// The names on the list.
pub fn names() -> impl Iterator<Item = &'static str> {
    WRONG.iter().map(|(name, _)| *name)
}
