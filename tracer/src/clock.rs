//! How the kernel's monotonic time maps to the wall clock.

use crate::event::Mono;
use crate::line::Time;

/// How far the wall clock and the time since boot are ahead of `CLOCK_MONOTONIC`, as read once
/// ([`crate::kernel::clock`]): plain data, so that what is computed from it is too. The wall clock can
/// step: read it again now and then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Clock {
    /// Nanoseconds from the monotonic clock to the wall clock.
    pub realtime_offset: i128,
    /// Nanoseconds from the monotonic clock to the time since boot, which counts suspends too.
    pub boottime_offset: i128,
}

/// Two readings differ by the time that passes between reading one clock and the next: that much is no step.
const JITTER_NS: u128 = 1_000_000;

impl Clock {
    /// The newer reading where the wall clock has moved, else this one: so that one moment is the same time in
    /// every line.
    pub fn followed_by(self, newer: Self) -> Self {
        let moved = newer.realtime_offset.abs_diff(self.realtime_offset) > JITTER_NS;
        if moved { newer } else { self }
    }

    /// The wall-clock time of a monotonic moment.
    pub fn time(&self, mono: Mono) -> Time {
        Self::timestamp(i128::from(mono.0) + self.realtime_offset)
    }

    /// The wall-clock time of a moment given in nanoseconds since boot, suspends included, as
    /// `task_struct.start_boottime` has it.
    pub fn time_of_boottime(&self, nanoseconds: u64) -> Time {
        Self::timestamp(i128::from(nanoseconds) - self.boottime_offset + self.realtime_offset)
    }

    /// The monotonic moment of one given in nanoseconds since boot.
    pub fn mono_of_boottime(&self, nanoseconds: u64) -> Mono {
        Mono(u64::try_from(i128::from(nanoseconds) - self.boottime_offset).unwrap_or(0))
    }

    fn timestamp(nanoseconds: i128) -> Time {
        // A clock outside of jiff's years -9999 to 9999 is no clock: show the epoch.
        Time(jiff::Timestamp::from_nanosecond(nanoseconds).unwrap_or(jiff::Timestamp::UNIX_EPOCH))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_is_followed_and_the_time_between_two_readings_is_none() {
        let clock = Clock { realtime_offset: 1_795_344_062_000_000_000, boottime_offset: 0 };
        for (moved, is_step) in
            [(900_000, false), (-900_000, false), (7_200_000_000_000, true), (-2_000_000, true)]
        {
            let newer = Clock { realtime_offset: clock.realtime_offset + moved, ..clock };
            assert_eq!(clock.followed_by(newer), if is_step { newer } else { clock }, "{moved}");
        }
    }
}
