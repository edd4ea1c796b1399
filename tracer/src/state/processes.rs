//! What `/proc` showed of each process when it was read last.

use crate::model::hash::HashMap;
use crate::model::process::{Process, ProcessKey};
use crate::model::time::Mono;

/// Processes whose description is remembered; on more, those that were read longest ago are dropped.
const PROCESSES_MAX: usize = 4_096;

/// Processes remembered that have ended; on more, those that ended longest ago are dropped.
const ENDED_MAX: usize = 4_096;

/// Described processes, by number and start, and those that have ended.
#[derive(Debug, Default)]
pub struct Processes {
    known: HashMap<ProcessKey, Described>,
    ended: HashMap<u32, Mono>,
}

#[derive(Debug)]
struct Described {
    process: Process,
    read: Mono,
}

impl Processes {
    /// Takes what was read of a process.
    pub fn note(&mut self, mut process: Process, read: Mono) {
        let Some(key) = process.key() else { return };
        if self.known.len() >= PROCESSES_MAX && !self.known.contains_key(&key) {
            let mut times: Vec<Mono> = self.known.values().map(|described| described.read).collect();
            let (_, middle, _) = times.select_nth_unstable(PROCESSES_MAX / 2);
            let middle = *middle;
            self.known.retain(|_, described| described.read > middle);
        }
        // A process that is ending has no executable any more.
        let before = self.known.remove(&key).filter(|before| before.process.comm == process.comm);
        before.into_iter().for_each(|before| process.fill(&before.process));
        self.known.insert(key, Described { process, read });
    }

    /// A process has ended.
    pub fn ended(&mut self, pid: u32, time: Mono) {
        if self.ended.len() >= ENDED_MAX && !self.ended.contains_key(&pid) {
            let mut times: Vec<Mono> = self.ended.values().copied().collect();
            let (_, middle, _) = times.select_nth_unstable(ENDED_MAX / 2);
            let middle = *middle;
            self.ended.retain(|_, ended| *ended > middle);
        }
        self.ended.insert(pid, time);
    }

    /// A process of this number does something.
    pub fn acts(&mut self, pid: Option<u32>) {
        if let Some(pid) = pid {
            self.ended.remove(&pid);
        }
    }

    /// Whether a process has ended. A number is given to another process, which starts after that end.
    pub fn has_ended(&self, process: &Process, boottime_offset: i128) -> bool {
        let ended = process.pid.and_then(|pid| self.ended.get(&pid));
        ended.is_some_and(|ended| process.start.is_none_or(|start| start.earliest(boottime_offset) <= *ended))
    }

    /// Whether the description of a process is known, and of the program that it runs now.
    pub fn knows(&self, process: &Process) -> bool {
        let is_it = |process: &Process| process.is_read() || process.exe.is_none();
        process.is_read() || self.get(process).is_some_and(is_it)
    }

    fn get(&self, process: &Process) -> Option<&Process> {
        let described = &self.known.get(&process.key()?)?.process;
        // One that has executed another program mostly has another name.
        (process.comm.is_none() || described.comm == process.comm).then_some(described)
    }

    /// The process, with what is known besides the kernel's own record of it.
    pub fn describe(&self, process: &Process) -> Process {
        let mut process = process.clone();
        if let Some(known) = self.get(&process) {
            process.fill(known);
        }
        process
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::time::StartTime;

    fn process(pid: u32) -> Process {
        Process {
            pid: Some(pid),
            comm: Some("curl".into()),
            start: Some(StartTime::from_ticks(u64::from(pid))),
            ..Process::default()
        }
    }

    #[test]
    fn processes_take_no_more_room_than_their_bound() {
        let mut processes = Processes::default();
        for pid in 1..=3 * PROCESSES_MAX as u32 {
            let described = Process { exe: Some("/usr/bin/curl".into()), ..process(pid) };
            processes.note(described, Mono(u64::from(pid)));
            assert!(processes.known.len() <= PROCESSES_MAX);
            assert!(processes.knows(&process(pid)), "the newest stays");
        }
    }

    /// The kernel's record of its start has the file name of its executable, and no unit.
    #[test]
    fn a_process_whose_start_was_recorded_is_not_known() {
        let mut processes = Processes::default();
        let started = Process { exe: Some("curl".into()), ..process(7) };
        processes.note(started.clone(), Mono(1));
        assert!(!processes.knows(&process(7)) && !processes.knows(&started));
        processes.note(Process { exe: Some("/usr/bin/curl".into()), ..process(7) }, Mono(2));
        assert!(processes.knows(&process(7)));
        // One whose executable cannot be read is read once.
        processes.note(process(8), Mono(3));
        assert!(processes.knows(&process(8)));
    }

    #[test]
    fn another_name_is_another_program() {
        let mut processes = Processes::default();
        processes.note(Process { exe: Some("/usr/bin/curl".into()), ..process(7) }, Mono(1));
        assert_eq!(processes.describe(&process(7)).exe, Some("/usr/bin/curl".into()));
        let other = Process { comm: Some("python3".into()), ..process(7) };
        assert!(!processes.knows(&other) && processes.describe(&other).exe.is_none());
    }

    #[test]
    fn a_number_that_has_been_given_to_another_process_is_not_of_one_that_has_ended() {
        let mut processes = Processes::default();
        let with_start =
            |nanoseconds| Process { start: Some(StartTime::from_boottime(nanoseconds)), ..process(7) };
        processes.ended(7, Mono(500_000_000));
        assert!(processes.has_ended(&with_start(499_999_999), 0));
        assert!(!processes.has_ended(&with_start(510_000_000), 0) && !processes.has_ended(&process(8), 0));
        processes.acts(Some(7));
        assert!(!processes.has_ended(&with_start(1), 0));
        for pid in 0..3 * ENDED_MAX as u32 {
            processes.ended(pid, Mono(u64::from(pid)));
        }
        assert!(processes.ended.len() <= ENDED_MAX, "{}", processes.ended.len());
        assert!(processes.ended.contains_key(&(3 * ENDED_MAX as u32 - 1)));
    }
}
