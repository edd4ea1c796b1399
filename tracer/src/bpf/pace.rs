//! When the reader of the ring is woken by records, and when it polls.

use std::time::Duration;

use tokio::time::Instant;

/// How the reader learns of records. To wake it costs the process that is refused more than all the rest together. So
/// in a flood records do not wake the reader, which polls: a record then waits for the next poll.
#[derive(Debug)]
pub enum Pace {
    /// Records wake the reader.
    Woken {
        /// When it last had records, and how often in quick succession.
        last: Option<Instant>,
        quick: u32,
        /// When it polls once more after [`Pace::Polled`]: a program on another CPU may still have taken it for polling,
        /// and a reader that has not read all is woken by no later record either.
        recheck: Option<Recheck>,
    },
    /// The reader polls, and found little so often in a row.
    Polled { calm: u32 },
}

/// A poll by a reader that records wake, and how long after the one before it.
#[derive(Clone, Copy, Debug)]
pub struct Recheck {
    at: Instant,
    after: Duration,
}

/// What the reader does next.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// Wait for a record.
    Wait,
    /// Wait for a record, or until then.
    WaitUntil(Instant),
    /// Begin to poll.
    Poll,
    KeepPolling,
    /// Have records wake it again, and read now those that did not.
    Stop,
}

impl Default for Pace {
    fn default() -> Self {
        Self::Woken { last: None, quick: 0, recheck: None }
    }
}

impl Pace {
    /// Wake-ups that follow each other this closely are in quick succession.
    const QUICK: Duration = Duration::from_millis(1);
    /// So many of them are a flood,
    const FLOOD: u32 = 16;
    /// and so are as many records in one drain: the reader is behind.
    const BEHIND: usize = 16;
    /// Fewer records a poll are little,
    const LITTLE: usize = 2;
    /// and so many polls with little end a flood.
    const CALM: u32 = 16;
    /// A program runs for microseconds; its CPU may be stopped for longer. Each interval is twice the last, from the first
    /// to the last.
    const RECHECK: [Duration; 2] = [Duration::from_millis(1), Duration::from_millis(512)];

    /// What to do after so many records were taken, and all that have begun (`is_settled`) or not.
    pub fn step(&mut self, taken: usize, is_settled: bool, now: Instant) -> Step {
        match self {
            Self::Woken { last, quick, recheck } => {
                if taken > 0 {
                    let is_quick = last.is_some_and(|last| now - last < Self::QUICK);
                    *quick = if is_quick { *quick + 1 } else { 0 };
                    *last = Some(now);
                }
                if *quick >= Self::FLOOD || taken >= Self::BEHIND {
                    *self = Self::Polled { calm: 0 };
                    return Step::Poll;
                }
                if let Some(Recheck { at, after }) = *recheck
                    && at <= now
                {
                    // An unfinished record may yet be submitted without waking the reader, and then no later one does.
                    let after = if is_settled { after * 2 } else { Self::RECHECK[0] };
                    *recheck = (after <= Self::RECHECK[1]).then_some(Recheck { at: now + after, after });
                }
                match recheck {
                    Some(recheck) => Step::WaitUntil(recheck.at),
                    None => Step::Wait,
                }
            }
            Self::Polled { calm } => {
                *calm = if taken < Self::LITTLE { *calm + 1 } else { 0 };
                if *calm < Self::CALM {
                    return Step::KeepPolling;
                }
                let after = Self::RECHECK[0];
                *self =
                    Self::Woken { last: None, quick: 0, recheck: Some(Recheck { at: now + after, after }) };
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
    fn rare_records_wake_the_reader() {
        let (mut pace, mut now) = (Pace::default(), Instant::now());
        for _ in 0..100 {
            assert_eq!(pace.step(1, true, now), Step::Wait);
            now += Duration::from_millis(2);
        }
    }

    #[test]
    fn a_flood_is_polled_until_it_is_over() {
        let (mut pace, now) = (Pace::default(), Instant::now());
        let begun = steps(&mut pace, now, &[1; 18]);
        assert_eq!(begun.iter().position(|step| *step == Step::Poll), Some(16), "{begun:?}");
        // A pause is not the end.
        let pause = steps(&mut pace, now, &[50, 0, 0, 0, 50, 0, 0]);
        assert!(pause.iter().all(|step| *step == Step::KeepPolling), "{pause:?}");
        let over = steps(&mut pace, now, &[0; 16]);
        assert_eq!(over.iter().position(|step| *step == Step::Stop), Some(13), "{over:?}");
    }

    #[test]
    fn a_reader_that_is_behind_polls() {
        let (mut pace, now) = (Pace::default(), Instant::now());
        assert_eq!(steps(&mut pace, now, &[3, Pace::BEHIND]), [Step::Wait, Step::Poll]);
    }

    #[test]
    fn poll_interval_backs_off_after_polling() {
        let (mut pace, mut now) = (Pace::Polled { calm: Pace::CALM - 1 }, Instant::now());
        assert_eq!(pace.step(0, true, now), Step::Stop);
        let mut distances = Vec::new();
        // A wake-up meanwhile does not postpone the next poll.
        while let Step::WaitUntil(at) = pace.step(3, true, now) {
            distances.push((at - now).as_millis());
            now = at;
        }
        assert_eq!(distances, [1, 2, 4, 8, 16, 32, 64, 128, 256, 512]);
        assert_eq!(pace.step(0, true, now), Step::Wait);
    }

    #[test]
    fn poll_interval_does_not_back_off_while_a_record_is_unfinished() {
        let (mut pace, mut now) = (Pace::Polled { calm: Pace::CALM - 1 }, Instant::now());
        assert_eq!(pace.step(0, true, now), Step::Stop);
        for _ in 0..1_000 {
            now += Duration::from_secs(1);
            let soon = Step::WaitUntil(now + Pace::RECHECK[0]);
            assert_eq!(pace.step(0, false, now), soon);
        }
        now += Duration::from_secs(1);
        assert_eq!(pace.step(0, true, now), Step::WaitUntil(now + Pace::RECHECK[0] * 2));
    }
}
