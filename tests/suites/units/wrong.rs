//! The scenarios that tracer still gets wrong. Each is staged all the same, and must fail: one that is right has to be taken
//! off the list.

use std::panic::{AssertUnwindSafe, catch_unwind};

use libtest_mimic::Trial;
use tests::suite::test;

use super::stage::NEEDS;

/// How often a scenario on the list fails.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fails {
    Always,
    /// It depends on which of two things comes first. Neither outcome fails the test.
    Often,
}

/// The name of each, and what is wrong.
const WRONG: &[(&str, Fails, &str)] = &[
    (
        "units::crash_loops::a_server_that_never_listened",
        Fails::Often,
        "a process that was read before its end, and whose answer comes after it, is taken for running",
    ),
    (
        "units::crash_loops::a_server_that_served_before",
        Fails::Always,
        "the unit of a process that ended soon after its start is not known",
    ),
    (
        "units::identity::another_unit_of_the_same_program",
        Fails::Always,
        "a process whose unit has not been read is taken for one of the server's unit",
    ),
];

/// A test of a scenario, which must fail where it is on the list.
pub fn scenario(name: &'static str, play: fn()) -> Trial {
    let wrong = WRONG.iter().find(|(wrong, ..)| *wrong == name);
    test(name, NEEDS, move || {
        let Some((_, fails, why)) = wrong else { return play() };
        let outcome = catch_unwind(AssertUnwindSafe(play));
        let may_be_right = *fails == Fails::Often;
        assert!(
            outcome.is_err() || may_be_right,
            "it is right now, and stands on the list of what is wrong: {why}"
        );
    })
}
