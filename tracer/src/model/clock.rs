//! How the kernel's monotonic time maps to the wall clock.

use serde::{Deserialize, Serialize};

use super::time::{Mono, StartTime};

/// How far the wall clock and the time since boot are ahead of `CLOCK_MONOTONIC`, as read once
/// (`host::clock`): plain data, so that what is computed from it is too. The wall clock can
/// step: read it again now and then.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Clock {
    /// Nanoseconds from the monotonic clock to the wall clock.
    pub realtime_offset: i128,
    /// Nanoseconds from the monotonic clock to the time since boot, which counts suspends too.
    pub boottime_offset: i128,
}

/// Two readings differ by the time that passes between reading one clock and the next: that much is not a step.
const JITTER_NS: u128 = 1_000_000;

impl Clock {
    /// The newer reading where the wall clock has moved, else this one: so that one moment is the same time in
    /// every line.
    pub fn followed_by(self, newer: Self) -> Self {
        let moved = newer.realtime_offset.abs_diff(self.realtime_offset) > JITTER_NS;
        if moved { newer } else { self }
    }

    /// The monotonic moment of a process's start.
    pub fn mono_of_start(&self, start: StartTime) -> Mono {
        Mono(u64::try_from(i128::from(start.boottime()) - self.boottime_offset).unwrap_or(0))
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
