//! The user that each process executed its program as, by the kernel's record of that exec.
//!
//! A server that root starts mostly gives up root before it listens, and a restart of it may fail before that: what the two
//! have in common is the user at their exec. A fork has what the process had that it descends from.

use crate::model::hash::HashMap;
use crate::model::process::Process;
use crate::model::time::StartTime;

/// Processes remembered. On more, a fork is not noted, and a process that executes a program takes the place of all others.
const PROCESSES_MAX: usize = 16_384;

/// User ids at exec, by process id and start.
#[derive(Debug, Default)]
pub struct UsersAtExec {
    known: HashMap<u32, (StartTime, u32)>,
}

impl UsersAtExec {
    /// A process has executed a program as its user.
    pub fn executed(&mut self, process: &Process) {
        let Process { pid: Some(pid), start, uid, .. } = *process else { return };
        let known = start.zip(uid);
        if known.is_some() && self.known.len() >= PROCESSES_MAX && !self.known.contains_key(&pid) {
            self.known.clear();
        }
        match known {
            Some(known) => _ = self.known.insert(pid, known),
            None => _ = self.known.remove(&pid),
        }
    }

    /// A process has a new child, which runs its program.
    pub fn forked(&mut self, parent: u32, child: &Process) {
        let Process { pid: Some(pid), start, .. } = *child else { return };
        self.known.remove(&pid);
        if let Some((start, (_, uid))) = start.zip(self.known.get(&parent).copied())
            && self.known.len() < PROCESSES_MAX
        {
            self.known.insert(pid, (start, uid));
        }
    }

    /// A process has ended.
    pub fn ended(&mut self, pid: u32) {
        self.known.remove(&pid);
    }

    /// Records were lost: a process may have executed another program unseen, as another user.
    pub fn lost(&mut self) {
        self.known.clear();
    }

    /// The user that a process executed its program as; `None`: that was not seen.
    pub fn of(&self, process: &Process) -> Option<u32> {
        let (start, uid) = self.known.get(&process.pid?)?;
        (process.start == Some(*start)).then_some(*uid)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(pid: u32, start: u64, uid: u32) -> Process {
        let start = Some(StartTime::from_ticks(start));
        Process { pid: Some(pid), start, uid: Some(uid), ..Process::default() }
    }

    #[test]
    fn a_process_and_its_forks_have_the_user_of_their_exec() {
        let mut users = UsersAtExec::default();
        users.executed(&process(10, 1, 0));
        users.forked(10, &process(11, 2, 0));
        users.ended(10);
        assert_eq!(users.of(&process(11, 2, 106)), Some(0), "it has given up root since");
        assert_eq!((users.of(&process(10, 1, 0)), users.of(&process(11, 3, 0))), (None, None));
        users.executed(&process(11, 2, 106));
        assert_eq!(users.of(&process(11, 2, 106)), Some(106));
        // Of its parent, nothing is known.
        users.forked(99, &process(11, 4, 0));
        assert_eq!(users.of(&process(11, 4, 0)), None);
    }

    #[test]
    fn after_a_loss_nothing_is_known() {
        let mut users = UsersAtExec::default();
        users.executed(&process(10, 1, 0));
        users.lost();
        assert_eq!(users.of(&process(10, 1, 0)), None);
        users.executed(&Process { uid: None, ..process(10, 1, 0) });
        assert_eq!(users.of(&process(10, 1, 0)), None);
    }

    #[test]
    fn a_fork_bomb_takes_no_more_room_than_the_bound() {
        let mut users = UsersAtExec::default();
        users.executed(&process(10, 1, 0));
        for child in 100..100 + 2 * PROCESSES_MAX as u32 {
            users.forked(10, &process(child, 2, 0));
        }
        assert_eq!(users.known.len(), PROCESSES_MAX);
        assert_eq!(users.of(&process(10, 1, 0)), Some(0));
        users.executed(&process(11, 1, 0));
        assert_eq!(users.known.len(), 1);
    }
}
