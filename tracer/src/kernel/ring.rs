//! The ring buffer that the kernel programs write to, as a file descriptor that wakes its reader.

use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use aya::maps::{Array, MapData, RingBuf};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::time::{Instant, sleep, sleep_until};

/// Between two looks into a ring that is looked into. The ring holds what comes in a hundred of them.
const POLL: Duration = Duration::from_millis(1);

/// The user side's end of the ring.
pub struct Ring {
    ring: AsyncFd<RingBuf<MapData>>,
    /// `None`: the kernel does not show them.
    ends: Option<Ends>,
    /// Tells the kernel side not to wake this one.
    polled: Array<MapData, u32>,
    pace: Pace,
    /// Records taken since the reader waited last.
    taken: usize,
    /// The last look ended at its limit, and not at the end of the ring.
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
    /// When the reactor is gone.
    pub async fn readable(&mut self) -> io::Result<()> {
        let taken = std::mem::take(&mut self.taken);
        match self.pace.step(taken, self.is_settled(), Instant::now()) {
            Step::Wait => self.woken(None).await,
            Step::WaitUntil(again) => self.woken(Some(again)).await,
            Step::Poll => {
                // Where that fails, the records go on waking a reader that looks by itself.
                let _ = self.polled.set(0, 1, 0);
                sleep(POLL).await;
                Ok(())
            }
            Step::PollOn => {
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
    async fn woken(&mut self, again: Option<Instant>) -> io::Result<()> {
        let again = async {
            match again {
                Some(again) => sleep_until(again).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            // Cleared before the ring is read: a record that arrives while it is, wakes again.
            readable = self.ring.readable_mut() => readable?.clear_ready(),
            () = again => {}
        }
        Ok(())
    }

    /// Hands up to `limit` records to `take`, in order, and says how many there were. A record's bytes
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

    /// Whether there may be more to take, for which nobody is woken: only who has read all is.
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
        // SAFETY: a new mapping of what the kernel shows to be read.
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
        // SAFETY: the mapping that `of` made, and nobody else knows of.
        unsafe { libc::munmap(self.pages.as_ptr(), 2 * self.page) };
    }
}

/// Who looks for whom. Waking its reader costs the process that is refused more than all the rest together. So
/// in a flood the reader is woken no more, and looks by itself: a record then waits for [`POLL`].
#[derive(Debug)]
enum Pace {
    /// Records wake the reader.
    Woken {
        /// When it last had records, and how often in quick succession.
        last: Option<Instant>,
        quick: u32,
        /// When it looks without being woken, having been in [`Pace::Polled`]: a program on another CPU may still
        /// have taken it for polling, and who has not read all is woken by none.
        again: Option<Again>,
    },
    /// The reader looks by itself, and found little so often in a row.
    Polled { calm: u32 },
}

/// A look by itself, and how long after the one before it.
#[derive(Clone, Copy, Debug)]
struct Again {
    at: Instant,
    after: Duration,
}

/// What the reader does next.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    Wait,
    WaitUntil(Instant),
    /// Begin to look by itself.
    Poll,
    /// Go on so.
    PollOn,
    /// Have records wake it again, and look at once for those that did not.
    Stop,
}

impl Default for Pace {
    fn default() -> Self {
        Self::Woken { last: None, quick: 0, again: None }
    }
}

impl Pace {
    /// Wake-ups that follow each other this closely are in quick succession.
    const QUICK: Duration = Duration::from_millis(1);
    /// So many of them are a flood,
    const FLOOD: u32 = 16;
    /// and so are as many records at once: the reader is behind.
    const BEHIND: usize = 16;
    /// Fewer records a look are little,
    const LITTLE: usize = 2;
    /// and so many looks with little end a flood.
    const CALM: u32 = 16;
    /// A program runs for microseconds; its CPU may be stopped for longer. Looks come at twice the distance each, from the
    /// first to the last.
    const AGAIN: [Duration; 2] = [Duration::from_millis(1), Duration::from_millis(512)];

    /// What to do after so many records were taken, and all that have begun (`is_settled`) or not.
    fn step(&mut self, taken: usize, is_settled: bool, now: Instant) -> Step {
        match self {
            Self::Woken { last, quick, again } => {
                if taken > 0 {
                    let is_quick = last.is_some_and(|last| now - last < Self::QUICK);
                    *quick = if is_quick { *quick + 1 } else { 0 };
                    *last = Some(now);
                }
                if *quick >= Self::FLOOD || taken >= Self::BEHIND {
                    *self = Self::Polled { calm: 0 };
                    return Step::Poll;
                }
                if let Some(Again { at, after }) = *again
                    && at <= now
                {
                    // An unfinished record may yet end without waking anybody, and no later one would then.
                    let after = if is_settled { after * 2 } else { Self::AGAIN[0] };
                    *again = (after <= Self::AGAIN[1]).then_some(Again { at: now + after, after });
                }
                match again {
                    Some(again) => Step::WaitUntil(again.at),
                    None => Step::Wait,
                }
            }
            Self::Polled { calm } => {
                *calm = if taken < Self::LITTLE { *calm + 1 } else { 0 };
                if *calm < Self::CALM {
                    return Step::PollOn;
                }
                let after = Self::AGAIN[0];
                *self = Self::Woken { last: None, quick: 0, again: Some(Again { at: now + after, after }) };
                Step::Stop
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Steps with so many records each, a tenth of a millisecond apart.
    fn steps(pace: &mut Pace, from: Instant, taken: &[usize]) -> Vec<Step> {
        let at = |turn: usize| from + Duration::from_micros(100) * u32::try_from(turn).expect("few");
        taken.iter().enumerate().map(|(turn, &taken)| pace.step(taken, true, at(turn))).collect()
    }

    #[test]
    fn a_refusal_now_and_then_wakes_its_reader() {
        let (mut pace, mut now) = (Pace::default(), Instant::now());
        for _ in 0..100 {
            assert_eq!(pace.step(1, true, now), Step::Wait);
            now += Duration::from_millis(2);
        }
    }

    #[test]
    fn in_a_flood_the_reader_looks_by_itself_until_it_is_over() {
        let (mut pace, now) = (Pace::default(), Instant::now());
        let begun = steps(&mut pace, now, &[1; 18]);
        assert_eq!(begun.iter().position(|step| *step == Step::Poll), Some(16), "{begun:?}");
        // A pause is not the end.
        let pause = steps(&mut pace, now, &[50, 0, 0, 0, 50, 0, 0]);
        assert!(pause.iter().all(|step| *step == Step::PollOn), "{pause:?}");
        let over = steps(&mut pace, now, &[0; 16]);
        assert_eq!(over.iter().position(|step| *step == Step::Stop), Some(13), "{over:?}");
    }

    #[test]
    fn a_reader_that_is_behind_looks_by_itself() {
        let (mut pace, now) = (Pace::default(), Instant::now());
        assert_eq!(steps(&mut pace, now, &[3, Pace::BEHIND]), [Step::Wait, Step::Poll]);
    }

    #[test]
    fn whoever_is_woken_again_looks_more_and_more_seldom_by_itself() {
        let (mut pace, mut now) = (Pace::Polled { calm: Pace::CALM - 1 }, Instant::now());
        assert_eq!(pace.step(0, true, now), Step::Stop);
        let mut distances = Vec::new();
        // Woken meanwhile, it looks no later for it.
        while let Step::WaitUntil(at) = pace.step(3, true, now) {
            distances.push((at - now).as_millis());
            now = at;
        }
        assert_eq!(distances, [1, 2, 4, 8, 16, 32, 64, 128, 256, 512]);
        assert_eq!(pace.step(0, true, now), Step::Wait);
    }

    #[test]
    fn whoever_is_woken_again_looks_by_itself_until_nothing_is_unfinished() {
        let (mut pace, mut now) = (Pace::Polled { calm: Pace::CALM - 1 }, Instant::now());
        assert_eq!(pace.step(0, true, now), Step::Stop);
        for _ in 0..1_000 {
            now += Duration::from_secs(1);
            let soon = Step::WaitUntil(now + Pace::AGAIN[0]);
            assert_eq!(pace.step(0, false, now), soon);
        }
        now += Duration::from_secs(1);
        assert_eq!(pace.step(0, true, now), Step::WaitUntil(now + Pace::AGAIN[0] * 2));
    }
}
