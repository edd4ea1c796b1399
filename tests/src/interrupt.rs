//! Ctrl-C of a program that uses the testbed: it ends every wait and unwinds, so that what was made is undone.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

/// How often a wait checks for an interrupt.
const TICK: Duration = Duration::from_millis(20);

/// The exit code that shells give a program ended by SIGINT.
const INTERRUPTED: u8 = 130;

static SEEN: LazyLock<Arc<AtomicBool>> = LazyLock::new(Arc::default);

/// Runs a program that ends in order on SIGINT, SIGTERM and SIGHUP, and gives its exit code.
pub fn run(name: &str, program: impl FnOnce() -> anyhow::Result<()>) -> ExitCode {
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        signal_hook::flag::register(signal, Arc::clone(&SEEN)).expect("to handle signals");
    }
    let done = catch_unwind(AssertUnwindSafe(program));
    if seen() {
        eprintln!("{name}: interrupted, and cleaned up");
        return ExitCode::from(INTERRUPTED);
    }
    match done {
        Ok(Ok(())) => ExitCode::SUCCESS,
        Ok(Err(error)) => {
            eprintln!("{name}: {error:#}");
            ExitCode::FAILURE
        }
        Err(panic) => resume_unwind(panic),
    }
}

fn seen() -> bool {
    SEEN.load(Ordering::Relaxed)
}

/// Unwinds if the program was interrupted.
pub fn check() {
    if seen() {
        // Without a message: it is not a failure.
        resume_unwind(Box::new("interrupted") as Box<dyn Any + Send>);
    }
}

pub fn sleep(duration: Duration) {
    let until = Instant::now() + duration;
    loop {
        check();
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return;
        }
        std::thread::sleep(TICK.min(left));
    }
}

/// The next message, as [`Receiver::recv_timeout`] gives it.
pub fn receive<T>(receiver: &Receiver<T>, timeout: Duration) -> Result<T, RecvTimeoutError> {
    let until = Instant::now() + timeout;
    loop {
        check();
        let left = until.saturating_duration_since(Instant::now());
        match receiver.recv_timeout(TICK.min(left)) {
            Err(RecvTimeoutError::Timeout) if !left.is_zero() => {}
            received => return received,
        }
    }
}
