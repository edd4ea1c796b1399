//! The readers of stdout: a trace ends when they have closed it.

use std::io;
use std::os::fd::OwnedFd;

use rustix::event::{PollFd, PollFlags, Timespec};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Reports when the readers of stdout have closed it, also while there is nothing to write.
pub struct Readers(Option<AsyncFd<OwnedFd>>);

impl Readers {
    /// Needs a runtime. A file has no readers that could close it.
    pub fn of_stdout() -> Self {
        let register = |stdout: OwnedFd| {
            // SAFETY: an `OwnedFd` keeps its descriptor open, and the same, until it is dropped.
            unsafe { AsyncFd::register_with_interest(stdout, Interest::WRITABLE) }.ok()
        };
        Self(rustix::io::dup(io::stdout()).ok().and_then(register))
    }

    /// Waits until they have closed it.
    pub async fn closed(&mut self) {
        let Some(stdout) = &mut self.0 else {
            return std::future::pending().await;
        };
        loop {
            match stdout.writable_mut().await {
                // Ready for a write is not closed: wait for the next change.
                Ok(mut guard) => guard.clear_ready(),
                Err(_) => return std::future::pending().await,
            }
            let mut poll = [PollFd::new(stdout.get_ref(), PollFlags::empty())];
            let polled = rustix::event::poll(&mut poll, Some(&Timespec::default()));
            if polled.is_ok() && poll[0].revents().contains(PollFlags::ERR) {
                return;
            }
        }
    }
}
