//! Processes that were found to hold a listener on a watched port: the kernel side records their connects on every port.

use crate::model::hash::HashMap;
use crate::model::process::Process;
use crate::model::time::{Interval, Mono, StartTime};

/// Processes that are remembered; on more, all are forgotten, and handed over once more when they are found again.
const KNOWN_MAX: usize = 16_384;

/// The first process of the host.
const INIT: u32 = 1;

/// What is known of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Known {
    /// It was handed over.
    Holder(Option<StartTime>),
    /// It executed a program then: what was found before does not show its descriptors.
    Executed(Mono),
}

/// The holders that were found.
#[derive(Debug, Default)]
pub struct Holders {
    known: HashMap<u32, Known>,
    /// Those that are not handed over yet.
    found: Vec<(u32, Option<StartTime>)>,
}

impl Holders {
    /// A query found that a process holds a listener.
    pub fn found(&mut self, process: &Process, read: Interval) {
        // The first process opens sockets for services that it starts, and is the parent of each orphan.
        let Some(pid) = process.pid.filter(|pid| *pid > INIT) else { return };
        let holder = Known::Holder(process.start);
        match self.known.get(&pid) {
            Some(known) if *known == holder => return,
            Some(Known::Executed(time)) if read.began <= *time => return,
            _ => {}
        }
        self.remember(pid, holder);
        self.found.push((pid, process.start));
    }

    /// A process executed a program: the kernel side has forgotten it.
    pub fn executed(&mut self, pid: u32, time: Mono) {
        self.remember(pid, Known::Executed(time));
    }

    /// A process has ended.
    pub fn ended(&mut self, pid: u32) {
        self.known.remove(&pid);
    }

    fn remember(&mut self, pid: u32, known: Known) {
        if self.known.len() >= KNOWN_MAX && !self.known.contains_key(&pid) {
            self.known.clear();
        }
        self.known.insert(pid, known);
    }

    /// Those found since the last call.
    pub fn take(&mut self) -> Vec<(u32, Option<StartTime>)> {
        std::mem::take(&mut self.found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_at(time: u64) -> Interval {
        Interval { began: Mono(time), ended: Mono(time + 1) }
    }

    #[test]
    fn each_is_handed_over_once_until_it_executes_a_program() {
        let mut holders = Holders::default();
        let process = Process { pid: Some(7), ..Process::default() };
        holders.found(&process, read_at(10));
        holders.found(&process, read_at(20));
        assert_eq!(holders.take(), [(7, None)]);
        holders.executed(7, Mono(30));
        holders.found(&process, read_at(25));
        assert!(holders.take().is_empty(), "it was read before");
        holders.found(&process, read_at(40));
        assert_eq!(holders.take(), [(7, None)]);
        holders.ended(7);
        holders.found(&Process { start: Some(StartTime::from_ticks(1)), ..process }, read_at(50));
        assert_eq!(holders.take(), [(7, Some(StartTime::from_ticks(1)))], "another process");
    }
}
