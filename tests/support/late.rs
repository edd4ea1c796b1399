//! Tests of a `listen()` that fails, on a machine that is busy.
//!
//! The tracer knows it by its failing within [`FAILURE_NS`]. One that takes longer is told as a listener that opened and
//! closed (README, Limits), which is not what is tested: the test is run again.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::time::Duration;

use tracer::correlate::FAILURE_NS;

/// How soon a `listen()` must have failed to be known by it.
pub const IN_TIME: Duration = Duration::from_nanos(FAILURE_NS);

/// How often a test may be late.
const TRIES: u32 = 10;

thread_local! {
    static IS_LATE: Cell<bool> = const { Cell::new(false) };
}

/// A `listen()` of the test that this thread runs has failed, and not in time.
pub fn note() {
    IS_LATE.set(true);
}

/// Runs a test, and runs it again when it fails and was late.
pub fn unless_late(test: impl Fn()) {
    for _ in 1..TRIES {
        IS_LATE.set(false);
        match catch_unwind(AssertUnwindSafe(&test)) {
            Ok(()) => return,
            Err(_) if IS_LATE.get() => eprintln!("a listen() took more than {IN_TIME:?} to fail: again"),
            Err(panic) => resume_unwind(panic),
        }
    }
    test();
}
