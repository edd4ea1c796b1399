//! The signals that end a trace in order; a second one ends the process immediately.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use anyhow::Result;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::exit::Exit;
use crate::output::schema::StopReason;

/// SIGINT, SIGTERM, and SIGHUP where it was not ignored.
pub struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hangup: Option<Signal>,
}

impl Signals {
    /// Handles the signals from now on.
    ///
    /// # Errors
    /// When the runtime or the kernel does not take a handler.
    pub fn new() -> Result<Self> {
        // A second signal ends the process immediately, from the handler itself: also while a write to stdout blocks.
        let armed = Arc::new(AtomicBool::new(false));
        for (number, exit) in [(SIGINT, i32::from(Exit::Interrupted as u8)), (SIGTERM, 128 + SIGTERM)] {
            signal_hook::flag::register_conditional_shutdown(number, exit, Arc::clone(&armed))?;
            signal_hook::flag::register(number, Arc::clone(&armed))?;
        }
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            // Under nohup(1) it stays ignored.
            hangup: if is_ignored(SIGHUP) { None } else { Some(signal(SignalKind::hangup())?) },
        })
    }

    /// Waits for the next signal, which is the reason to stop.
    pub async fn next(&mut self) -> StopReason {
        let hangup = async {
            match &mut self.hangup {
                Some(hangup) => hangup.recv().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = self.interrupt.recv() => StopReason::Sigint,
            _ = self.terminate.recv() => StopReason::Sigterm,
            _ = hangup => StopReason::Sighup,
        }
    }
}

/// Whether a signal is ignored, as the process that started this one left it.
fn is_ignored(signal: i32) -> bool {
    let mut action = std::mem::MaybeUninit::<libc::sigaction>::uninit();
    // SAFETY: with no new action, the kernel only writes the old one.
    let known = unsafe { libc::sigaction(signal, std::ptr::null(), action.as_mut_ptr()) } == 0;
    // SAFETY: written by the call above, which succeeded.
    known && unsafe { action.assume_init() }.sa_sigaction == libc::SIG_IGN
}
