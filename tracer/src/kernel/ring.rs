//! The ring buffer that the kernel programs write to, as a file descriptor that wakes its reader.

use std::io;

use aya::maps::{MapData, RingBuf};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// The user side's end of the ring.
pub struct Ring {
    ring: AsyncFd<RingBuf<MapData>>,
}

impl Ring {
    /// # Errors
    /// When the reactor does not take the descriptor.
    pub fn new(ring: RingBuf<MapData>) -> io::Result<Self> {
        // SAFETY: `RingBuf` owns its map's descriptor, gives the same one every time, and is dropped
        // with the `AsyncFd` that owns it.
        let ring = unsafe { AsyncFd::register_with_interest(ring, Interest::READABLE) }?;
        Ok(Self { ring })
    }

    /// Waits until there may be something to take.
    ///
    /// # Errors
    /// When the reactor is gone.
    pub async fn readable(&mut self) -> io::Result<()> {
        // Cleared before the ring is read: a record that arrives while it is, wakes again.
        self.ring.readable_mut().await?.clear_ready();
        Ok(())
    }

    /// Hands up to `limit` records to `take`, in order, and says how many there were. A record's bytes
    /// are free for the kernel again as soon as `take` returns.
    pub fn drain(&mut self, limit: usize, mut take: impl FnMut(&[u8])) -> usize {
        for taken in 0..limit {
            match self.ring.get_mut().next() {
                Some(item) => take(&item),
                None => return taken,
            }
        }
        limit
    }
}
