//! Times of the model as the log publishes them.

use crate::model::clock::Clock;
use crate::model::time::{Mono, StartTime, WallTime};
use crate::output::schema::Time;

impl Clock {
    /// The wall-clock time of a monotonic moment.
    pub fn time(&self, mono: Mono) -> Time {
        Self::timestamp(i128::from(mono.0) + self.realtime_offset)
    }

    /// The wall-clock time of a process's start.
    pub fn time_of_start(&self, start: StartTime) -> Time {
        Self::timestamp(i128::from(start.boottime()) - self.boottime_offset + self.realtime_offset)
    }

    /// A time that the wall clock has given.
    pub fn time_of_wall(wall: WallTime) -> Time {
        Self::timestamp(wall.0)
    }

    fn timestamp(nanoseconds: i128) -> Time {
        // A clock outside of jiff's years -9999 to 9999 is not valid: show the epoch.
        Time(jiff::Timestamp::from_nanosecond(nanoseconds).unwrap_or(jiff::Timestamp::UNIX_EPOCH))
    }
}
