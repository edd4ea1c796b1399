//! The user side's end of the ring buffer that the kernel programs write to: waits for records and takes them.

use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use aya::maps::{Array, MapData, RingBuf};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::time::{Instant, sleep, sleep_until};

use crate::bpf::pace::{Pace, Step};

/// Between two polls. The ring holds what comes in a hundred of them.
const POLL: Duration = Duration::from_millis(1);

/// The user side's end of the ring.
pub struct Ring {
    ring: AsyncFd<RingBuf<MapData>>,
    /// `None`: the kernel does not map them.
    ends: Option<Ends>,
    /// While it is 1, the kernel side does not wake the reader.
    polled: Array<MapData, u32>,
    pace: Pace,
    /// Records taken since the reader waited last.
    taken: usize,
    /// The last drain ended at its limit, and not at the end of the ring.
    has_more: bool,
}

impl Ring {
    /// # Errors
    /// When the reactor does not take the descriptor.
    pub fn new(ring: RingBuf<MapData>, polled: Array<MapData, u32>) -> io::Result<Self> {
        let ends = Ends::of(ring.as_fd()).ok();
        // SAFETY: `RingBuf` owns its map's descriptor, gives the same one every time, and is dropped
        // with the `AsyncFd` that owns it.
        let ring = unsafe { AsyncFd::register_with_interest(ring, Interest::READABLE) }?;
        Ok(Self { ring, ends, polled, pace: Pace::default(), taken: 0, has_more: false })
    }

    /// Waits until there may be something to take.
    ///
    /// # Errors
    /// When the reactor has shut down.
    pub async fn readable(&mut self) -> io::Result<()> {
        let taken = std::mem::take(&mut self.taken);
        match self.pace.step(taken, self.is_settled(), Instant::now()) {
            Step::Wait => self.woken(None).await,
            Step::WaitUntil(recheck) => self.woken(Some(recheck)).await,
            Step::Poll => {
                // Where that fails, records still wake the reader, which polls besides.
                let _ = self.polled.set(0, 1, 0);
                sleep(POLL).await;
                Ok(())
            }
            Step::KeepPolling => {
                sleep(POLL).await;
                Ok(())
            }
            Step::Stop => {
                let _ = self.polled.set(0, 0, 0);
                Ok(())
            }
        }
    }

    /// Waits until a record wakes it, or until then.
    async fn woken(&mut self, recheck: Option<Instant>) -> io::Result<()> {
        let recheck = async {
            match recheck {
                Some(recheck) => sleep_until(recheck).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            // Cleared before the ring is read: a record that arrives meanwhile wakes the reader again.
            readable = self.ring.readable_mut() => readable?.clear_ready(),
            () = recheck => {}
        }
        Ok(())
    }

    /// Hands up to `limit` records to `take`, in order, and gives their number. A record's bytes
    /// are free for the kernel again as soon as `take` returns.
    pub fn drain(&mut self, limit: usize, mut take: impl FnMut(&[u8])) -> usize {
        let mut taken = 0;
        while taken < limit
            && let Some(item) = self.ring.get_mut().next()
        {
            take(&item);
            taken += 1;
        }
        self.taken += taken;
        self.has_more = taken == limit;
        taken
    }

    /// Whether there may be more to take, for which no record wakes the reader: only one that has read all is woken.
    pub fn has_more(&self) -> bool {
        self.has_more
    }

    /// Whether all that has begun to be recorded has been taken. A program that is interrupted, or preempted, leaves its
    /// record unfinished meanwhile: the ring then ends before it, and what happened since is not known.
    pub fn is_settled(&self) -> bool {
        self.ends.as_ref().is_none_or(Ends::have_met)
    }
}

/// Where the ring's two ends are: how far it is read, and how far it is written, unfinished records included.
struct Ends {
    /// The two pages that the kernel keeps them in, each at the beginning (`struct bpf_ringbuf`,
    /// kernel/bpf/ringbuf.c).
    pages: NonNull<libc::c_void>,
    page: usize,
}

impl Ends {
    fn of(ring: BorrowedFd<'_>) -> io::Result<Self> {
        let page = rustix::param::page_size();
        // SAFETY: a new mapping of pages that the kernel lets be read.
        let pages = unsafe {
            libc::mmap(std::ptr::null_mut(), 2 * page, libc::PROT_READ, libc::MAP_SHARED, ring.as_raw_fd(), 0)
        };
        match NonNull::new(pages) {
            Some(pages) if pages.as_ptr() != libc::MAP_FAILED => Ok(Self { pages, page }),
            _ => Err(io::Error::last_os_error()),
        }
    }

    fn have_met(&self) -> bool {
        let position = |page: usize| {
            // SAFETY: mapped, and aligned as a page is; the kernel writes it as a whole.
            unsafe { self.pages.byte_add(page * self.page).cast::<AtomicU64>().as_ref() }
                .load(Ordering::Acquire)
        };
        position(0) == position(1)
    }
}

impl Drop for Ends {
    fn drop(&mut self) {
        // SAFETY: the mapping that `of` made, which no other code has.
        unsafe { libc::munmap(self.pages.as_ptr(), 2 * self.page) };
    }
}
