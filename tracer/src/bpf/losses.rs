//! What the kernel side has lost: its counters, and what was lost between two readings of them.

use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd};

use anyhow::Result;
use aya::Ebpf;
use aya::maps::{HashMap, MapData, PerCpuArray};
use tracer_ebpf::{ATTEMPT_BYTES, lost};

use crate::bpf::probes;

/// Everything that the kernel side counts.
pub struct Counters {
    pub lost: PerCpuArray<MapData, [u64; lost::COUNTERS]>,
    /// Connection attempts under way.
    pub attempts: HashMap<MapData, u64, [u8; ATTEMPT_BYTES]>,
    /// Where the kernel preempts programs: each that it may skip.
    pub pairs: Vec<Pair>,
}

/// A program, and the redundant one beside it.
#[derive(Clone, Copy, Debug)]
pub struct Pair {
    pub primary: &'static str,
    /// `None`: it is not attached.
    pub redundant: Option<&'static str>,
    /// How often the kernel had skipped the program when the redundant one was attached: it saw none of that.
    pub alone: u64,
}

/// What has been lost since the programs were attached.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Records that found the ring full.
    pub ring: u64,
    /// Connection attempts that found their table full.
    pub attempts: u64,
    /// Processes whose end is not recorded.
    pub followed: u64,
    /// Names of programs whose start is not recorded.
    pub names: u64,
    /// Connection attempts whose end no program saw, and whose sockets have begun another one.
    pub ends: u64,
    /// How often the kernel skipped each program of each [`Pair`], on any socket.
    pub skipped: Vec<Skipped>,
}

/// What the user side found no place for in the kernel side's tables.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WithoutPlace {
    pub processes: u64,
    pub names: u64,
}

/// How often the kernel skipped each program of a [`Pair`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Skipped {
    /// Of the primary one, before the redundant one was attached.
    pub alone: u64,
    /// In all.
    pub primary: u64,
    pub redundant: u64,
}

/// What was lost between two readings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Losses {
    /// Records that found the ring full.
    pub ring: u64,
    /// Connection attempts that found their table full.
    pub attempts: u64,
    /// Processes whose end is not recorded.
    pub followed: u64,
    /// Names of programs whose start is not recorded.
    pub names: u64,
    pub unseen: Unseen,
}

/// What no program saw, because the kernel skipped it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Unseen {
    /// Ends of connection attempts, as far as their sockets have begun another one.
    pub ends: u64,
    /// What both programs of a pair were skipped for, on any socket: an upper bound.
    pub by_pairs: u64,
}

impl Counters {
    /// Reads the counters.
    ///
    /// # Errors
    /// When the map cannot be read.
    pub fn read(&self, programs: &Ebpf, without_place: WithoutPlace) -> Result<Totals> {
        let counters = self.lost.get(&0, 0)?;
        let sum = |index: usize| counters.iter().map(|of_cpu| of_cpu[index]).sum::<u64>();
        let skipped_of = |pair: &Pair| {
            let primary = recursion_misses(programs, pair.primary);
            // An event is lost for which the only program is skipped.
            let redundant = pair.redundant.map_or(primary, |name| recursion_misses(programs, name));
            Skipped { alone: pair.alone, primary, redundant }
        };
        Ok(Totals {
            ring: sum(lost::RING),
            attempts: sum(lost::ATTEMPTS),
            followed: sum(lost::FOLLOWED) + without_place.processes,
            names: without_place.names,
            ends: sum(lost::ENDS),
            skipped: self.pairs.iter().map(skipped_of).collect(),
        })
    }

    /// How many connection attempts may have ended unseen, besides [`Totals::ends`]: an upper bound. One whose end no
    /// program saw is still in the table, with those under way; and for each of them the kernel has skipped the program
    /// that sees ends, because it had interrupted itself on a CPU. It counts that since 5.12,
    /// and skips since 6.2 (`bpf_trace_run`, kernel/trace/bpf_trace.c).
    pub fn unseen_ends(&self, programs: &Ebpf) -> u64 {
        // Of pairs they are in `Unseen::by_pairs`.
        if !self.pairs.is_empty() {
            return 0;
        }
        let skipped = recursion_misses(programs, probes::STATE);
        if skipped == 0 {
            return 0;
        }
        let under_way = self.attempts.keys().map_while(Result::ok).count() as u64;
        under_way.min(skipped)
    }
}

impl Totals {
    /// What has been lost since `before`.
    pub fn since(&self, before: &Self) -> Losses {
        Losses {
            ring: self.ring.saturating_sub(before.ring),
            attempts: self.attempts.saturating_sub(before.attempts),
            followed: self.followed.saturating_sub(before.followed),
            names: self.names.saturating_sub(before.names),
            unseen: Unseen {
                ends: self.ends.saturating_sub(before.ends),
                by_pairs: self.unseen_by_pairs().saturating_sub(before.unseen_by_pairs()),
            },
        }
    }

    /// An event is missed when both programs are skipped, which can lie far apart: of the totals, not of their differences.
    fn unseen_by_pairs(&self) -> u64 {
        let unseen = |skipped: &Skipped| {
            let Skipped { alone, primary, redundant } = *skipped;
            // Without a redundant program both counters are the program's own, and `alone` is 0.
            alone + primary.saturating_sub(alone).min(redundant)
        };
        self.skipped.iter().map(unseen).sum()
    }
}

impl Unseen {
    pub fn total(self) -> u64 {
        self.ends + self.by_pairs
    }
}

/// How often the kernel has skipped a program, on any socket; 0 where it is not loaded.
pub fn recursion_misses(programs: &Ebpf, name: &str) -> u64 {
    let program = programs.program(name).and_then(|program| program.fd().ok());
    program.map_or(0, |program| read_recursion_misses(program.as_fd()))
}

/// `bpf_prog_info.recursion_misses` of one program; 0 when it cannot be read.
fn read_recursion_misses(program: BorrowedFd<'_>) -> u64 {
    use aya_obj::generated::{bpf_attr, bpf_cmd, bpf_prog_info};

    // SAFETY: both are plain integers, for which zero is a value.
    let (mut info, mut attr): (bpf_prog_info, bpf_attr) = unsafe { (std::mem::zeroed(), std::mem::zeroed()) };
    attr.info.bpf_fd = program.as_raw_fd() as u32;
    attr.info.info_len = size_of::<bpf_prog_info>() as u32;
    attr.info.info = (&raw mut info) as u64;
    // SAFETY: the kernel writes at most `info_len` bytes to `info`, which outlives the call.
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            bpf_cmd::BPF_OBJ_GET_INFO_BY_FD as libc::c_int,
            &raw mut attr,
            size_of::<bpf_attr>(),
        )
    };
    if result == 0 { info.recursion_misses } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_both_of_a_pair_were_skipped_for_is_counted_however_far_apart() {
        let after = |alone: u64, [primary, redundant]: [u64; 2]| Totals {
            skipped: vec![Skipped { alone, primary, redundant }],
            ..Totals::default()
        };
        let at = |skipped| after(0, skipped);
        let steps = [[0, 0], [1, 0], [1, 0], [1, 1], [5, 1], [5, 9], [5, 9]].map(at);
        let lost: Vec<u64> = steps.windows(2).map(|pair| pair[1].since(&pair[0]).unseen.by_pairs).collect();
        assert_eq!(lost, [0, 0, 1, 0, 4, 0]);
        let none = Totals::default();
        assert_eq!([[3, 0], [4, 0], [4, 2]].map(|at| after(3, at).since(&none).unseen.by_pairs), [3, 3, 4]);
    }

    #[test]
    fn a_counter_that_goes_back_counts_nothing() {
        let before = Totals { ring: 7, ends: 1, ..Totals::default() };
        assert_eq!(Totals::default().since(&before), Losses::default());
    }
}
