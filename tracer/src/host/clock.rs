//! Reads the kernel's clocks.

use rustix::time::{ClockId, clock_gettime};

use crate::model::clock::Clock;
use crate::model::time::Mono;

fn nanoseconds(id: ClockId) -> i128 {
    let time = clock_gettime(id);
    i128::from(time.tv_sec) * 1_000_000_000 + i128::from(time.tv_nsec)
}

/// `CLOCK_MONOTONIC` now.
pub fn now() -> Mono {
    Mono(nanoseconds(ClockId::Monotonic) as u64)
}

/// How the clocks stand to each other now.
pub fn read() -> Clock {
    let monotonic = nanoseconds(ClockId::Monotonic);
    Clock {
        realtime_offset: nanoseconds(ClockId::Realtime) - monotonic,
        boottime_offset: nanoseconds(ClockId::Boottime) - monotonic,
    }
}
