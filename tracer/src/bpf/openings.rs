//! When sockets began to listen, on any port: the user side's reading of it.

use std::collections::HashMap;

use aya::Pod;
use aya::maps::{MapData, PerCpuArray};
use tracer_ebpf::{OPENINGS_MAX, Openings as Recorded};

use crate::host::openings::OpeningTimes;
use crate::model::opening::Openings;
use crate::model::time::Mono;

/// The openings of one processor, as bytes.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub(super) struct OfCpu(Recorded);

// SAFETY: `repr(C)`, without padding (`tracer_ebpf` asserts its size), of numbers alone.
unsafe impl Pod for OfCpu {}

/// The openings of every processor.
pub(super) struct Table {
    pub map: PerCpuArray<MapData, OfCpu>,
    /// When each began to be recorded.
    pub attached: Mono,
}

impl OpeningTimes for Table {
    fn read(&self) -> Openings {
        let Ok(cpus) = self.map.get(&0, 0) else { return Openings::default() };
        join(cpus.iter().map(|OfCpu(recorded)| recorded), self.attached)
    }
}

/// What is remembered: a socket that listens twice counts from its last time, on whatever processor.
fn join<'a>(cpus: impl Iterator<Item = &'a Recorded>, attached: Mono) -> Openings {
    let mut times: HashMap<u64, Mono> = HashMap::new();
    let mut complete_since = attached;
    for Recorded { count, last } in cpus {
        let number = usize::try_from(*count).unwrap_or(usize::MAX);
        for opening in &last[..number.min(OPENINGS_MAX)] {
            let time = times.entry(opening.inode).or_default();
            *time = (*time).max(Mono(opening.time));
        }
        if number > OPENINGS_MAX {
            // One before the oldest that is there has been forgotten.
            complete_since = complete_since.max(Mono(last[number % OPENINGS_MAX].time));
        }
    }
    Openings { times, complete_since: Some(complete_since) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tracer_ebpf::Opening;

    const NONE: Recorded = Recorded { count: 0, last: [Opening { inode: 0, time: 0 }; OPENINGS_MAX] };

    /// As many openings as `count`, each a nanosecond after the one before.
    fn recorded(count: u64) -> Recorded {
        let mut recorded = NONE;
        for number in 0..count {
            recorded.last[number as usize % OPENINGS_MAX] =
                Opening { inode: 1_000 + number, time: 100 + number };
        }
        Recorded { count, ..recorded }
    }

    #[test]
    fn the_last_time_of_a_socket_counts() {
        let mut other = NONE;
        other.count = 1;
        other.last[0] = Opening { inode: 1_001, time: 500 };
        let openings = join([recorded(3), other].iter(), Mono(50));
        let time = |inode: u64| openings.times.get(&inode).copied();
        assert_eq!(
            [time(1_000), time(1_001), time(1_002), time(1_003)],
            [Some(Mono(100)), Some(Mono(500)), Some(Mono(102)), None]
        );
        assert_eq!(openings.complete_since, Some(Mono(50)));
    }

    #[test]
    fn what_one_processor_has_forgotten_is_known_of_none() {
        let count = OPENINGS_MAX as u64 + 10;
        let openings = join([recorded(count), recorded(2)].iter(), Mono(50));
        assert_eq!(openings.times.get(&1_009), None, "forgotten");
        assert_eq!(openings.times.get(&1_010), Some(&Mono(110)), "the oldest that is remembered");
        assert_eq!(openings.complete_since, Some(Mono(110)));
    }
}
