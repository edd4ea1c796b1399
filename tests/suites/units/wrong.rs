//! The scenarios that tracer still gets wrong. Each is staged all the same, and must fail: one that is right has to be taken
//! off the list.

use std::panic::{AssertUnwindSafe, catch_unwind};

use libtest_mimic::Trial;
use tests::suite::test;

use super::stage::NEEDS;

/// The name of each, and what is wrong.
const WRONG: &[(&str, &str)] = &[];

/// A test of a scenario, which must fail where it is on the list.
pub fn scenario(name: &'static str, play: fn()) -> Trial {
    let wrong = WRONG.iter().find(|(wrong, _)| *wrong == name);
    test(name, NEEDS, move || {
        let Some((_, why)) = wrong else { return play() };
        let outcome = catch_unwind(AssertUnwindSafe(play));
        assert!(outcome.is_err(), "it is right now, and stands on the list of what is wrong: {why}");
    })
}
