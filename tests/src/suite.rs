//! Tests that a host may be unable to run: each is then counted as ignored, with its reason.

use std::process::ExitCode;
use std::sync::{PoisonError, RwLock};

use libtest_mimic::{Arguments, Completion, Trial};

use super::needs::Need;

/// Runs the tests that the command line selects.
pub fn run(tests: Vec<Trial>) -> ExitCode {
    libtest_mimic::run(&Arguments::from_args(), tests).exit_code()
}

/// Held by every test that runs.
static MACHINE: RwLock<()> = RwLock::new(());

/// A test that is ignored, by name and with the reason, where the host lacks what it needs.
pub fn test(name: impl Into<String>, needs: &'static [Need], test: impl FnOnce() + Send + 'static) -> Trial {
    test_that_needs(name, needs.to_vec(), test)
}

/// The same, where what it needs is found out.
pub fn test_that_needs(
    name: impl Into<String>,
    needs: Vec<Need>,
    test: impl FnOnce() + Send + 'static,
) -> Trial {
    // One that changes the machine under all others has it for itself.
    if needs.contains(&Need::OwnMachine) {
        return test_alone(name, needs, test);
    }
    trial(name, needs, || {
        let _with_others = MACHINE.read().unwrap_or_else(PoisonError::into_inner);
        test();
    })
}

/// A test beside which no other one runs: it counts what every process of the machine adds to.
pub fn test_alone(
    name: impl Into<String>,
    needs: impl Into<Vec<Need>>,
    test: impl FnOnce() + Send + 'static,
) -> Trial {
    trial(name, needs.into(), || {
        let _alone = MACHINE.write().unwrap_or_else(PoisonError::into_inner);
        test();
    })
}

fn trial(name: impl Into<String>, needs: Vec<Need>, test: impl FnOnce() + Send + 'static) -> Trial {
    Trial::ignorable_test(name, move || {
        if let Some(reason) = needs.iter().find_map(|need| need.missing()) {
            return Ok(Completion::ignored_with(reason));
        }
        test();
        Ok(Completion::Completed)
    })
}
