//! Time as data: moments of the kernel's monotonic clock, and the interval that a query took.

use serde::{Deserialize, Serialize};

/// Nanoseconds of `CLOCK_MONOTONIC`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Mono(pub u64);

impl Mono {
    /// Later than every moment.
    pub const MAX: Self = Self(u64::MAX);

    pub const fn from_millis(millis: u64) -> Self {
        Self(millis * 1_000_000)
    }

    /// Nanoseconds from `earlier` to `self`; 0 when `earlier` is the later one.
    pub const fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }

    pub const fn plus_millis(self, millis: u64) -> Self {
        Self(self.0.saturating_add(millis * 1_000_000))
    }

    pub const fn plus(self, nanoseconds: u64) -> Self {
        Self(self.0.saturating_add(nanoseconds))
    }
}

/// When a query of the host began and ended: what it found may be of any moment between.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Interval {
    pub began: Mono,
    pub ended: Mono,
}

impl Interval {
    /// Whether it was before `event`, and by `now` is more than `age` nanoseconds old.
    pub fn is_stale(self, event: Mono, now: Mono, age: u64) -> bool {
        self.began < event && now.since(self.ended) > age
    }

    /// The same for an expensive query: such queries take a thirtieth of the time at most.
    pub fn is_due(self, event: Mono, now: Mono, age: u64) -> bool {
        let cost = self.ended.since(self.began);
        self.is_stale(event, now, age.max(cost.saturating_mul(30)))
    }

    /// The same where records were lost since: what is known may be wrong, so that a query that takes long does not put off
    /// the next for more than a second, or twice its own time.
    pub fn is_due_after_loss(self, event: Mono, now: Mono) -> bool {
        let cost = self.ended.since(self.began);
        let at_most = cost.saturating_mul(2).max(1_000_000_000);
        self.is_stale(event, now, cost.saturating_mul(20).min(at_most))
    }

    /// The same for a query that a verdict rests on: such queries take half of the time at most.
    pub fn is_worth_it(self, event: Mono, now: Mono, age: u64) -> bool {
        self.is_stale(event, now, age.max(self.ended.since(self.began)))
    }
}

/// When a process started, in nanoseconds since boot (`task_struct.start_boottime`), to the hundredth of a second that
/// `/proc/PID/stat` shows: the same value whichever source it is from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct StartTime(u64);

impl StartTime {
    /// Nanoseconds in one tick of `/proc/PID/stat`: USER_HZ is 100 on every little-endian architecture.
    pub const TICK_NS: u64 = 10_000_000;

    /// From nanoseconds since boot.
    pub const fn from_boottime(nanoseconds: u64) -> Self {
        Self(nanoseconds - nanoseconds % Self::TICK_NS)
    }

    /// From ticks since boot.
    pub const fn from_ticks(ticks: u64) -> Self {
        Self(ticks.saturating_mul(Self::TICK_NS))
    }

    /// The latest moment of the monotonic clock at which it can have been; `boottime_offset`: how far the time since boot is
    /// ahead of that clock.
    pub fn latest(self, boottime_offset: i128) -> Mono {
        let latest = i128::from(self.0) + i128::from(Self::TICK_NS) - boottime_offset;
        Mono(u64::try_from(latest).unwrap_or_default())
    }

    /// The earliest one.
    pub fn earliest(self, boottime_offset: i128) -> Mono {
        Mono(u64::try_from(i128::from(self.0) - boottime_offset).unwrap_or_default())
    }

    /// Nanoseconds since boot.
    pub const fn boottime(self) -> u64 {
        self.0
    }
}

/// Nanoseconds of the wall clock since 1970 (`CLOCK_REALTIME`), as a file's time is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct WallTime(pub i128);

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    /// How long after a query of this duration the next is due, to a hundredth of a second.
    fn due_after(cost: u64, is_due: impl Fn(Interval, Mono) -> bool) -> u64 {
        let read = Interval { began: Mono(0), ended: Mono(cost) };
        let mut hundredths = (0..10_000).map(|hundredth| hundredth * SECOND / 100);
        hundredths.find(|after| is_due(read, Mono(cost + after))).unwrap_or(u64::MAX)
    }

    #[test]
    fn a_query_that_takes_long_is_put_off_but_not_for_long_after_a_loss() {
        let event = Mono(1);
        let usual = |cost| due_after(cost, |read, now| read.is_due(event, now, 0));
        let after_loss = |cost| due_after(cost, |read, now| read.is_due_after_loss(event, now));
        assert_eq!((usual(SECOND / 100), after_loss(SECOND / 100)), (SECOND / 100 * 31, SECOND / 100 * 21));
        assert_eq!((usual(2 * SECOND), after_loss(2 * SECOND)), (SECOND / 100 * 6_001, SECOND / 100 * 401));
        assert_eq!(after_loss(SECOND / 4), SECOND / 100 * 101);
    }
}
