//! Instances: one exec and its forks.
//!
//! An exec in the same process replaces the instance and is not an end. An instance ends once: if it has listened, when its
//! first process has ended and no process of it holds a listener; if it has not, when every process of it that has not
//! executed another program has ended.

use crate::model::hash::{HashMap, HashSet};

use crate::model::process::ExitStatus;
use crate::model::time::Mono;

/// Processes of one instance that are remembered: a server has a few hundred workers at most.
const PROCESSES_MAX: usize = 1_024;

/// Forks remembered in all.
const FORKS_MAX: usize = 16_384;

/// How a process left its instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Left {
    Ended(ExitStatus),
    /// It executed another program.
    Executed,
}

/// A process while it is of an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Member {
    pid: u32,
    from: Mono,
    left: Option<(Mono, Left)>,
}

impl Member {
    fn is_of(&self, at: Mono) -> bool {
        self.from <= at && self.left.is_none_or(|(left, _)| at < left)
    }
}

/// The processes of one instance, and what became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Instance {
    /// The one that executed the program first.
    members: Vec<Member>,
    end: Option<(Mono, ExitStatus)>,
    /// When its last process executed another program.
    replaced: Option<Mono>,
}

impl Instance {
    /// One whose first process is of it from then on.
    pub fn new(pid: u32, from: Mono) -> Self {
        Self { members: vec![Member { pid, from, left: None }], end: None, replaced: None }
    }

    /// Whether a process was of it then.
    pub fn had(&self, pid: u32, at: Mono) -> bool {
        self.members.iter().any(|member| member.pid == pid && member.is_of(at))
    }

    /// Whether a process is of it.
    pub fn has(&self, pid: u32) -> bool {
        self.members.iter().any(|member| member.pid == pid && member.left.is_none())
    }

    /// Whether a process was ever of it.
    pub fn ever_had(&self, pid: u32) -> bool {
        self.members.iter().any(|member| member.pid == pid)
    }

    /// The processes that were of it then.
    pub fn processes(&self, at: Mono) -> impl Iterator<Item = u32> {
        self.members.iter().filter(move |member| member.is_of(at)).map(|member| member.pid)
    }

    /// When it ended, and how its last process did.
    pub fn end(&self) -> Option<(Mono, ExitStatus)> {
        self.end
    }

    /// When a process of it ended, and how; `None`: it is of it still, or has executed another program.
    pub fn end_of(&self, pid: u32) -> Option<(Mono, ExitStatus)> {
        let member = self.members.iter().find(|member| member.pid == pid)?;
        match member.left {
            Some((time, Left::Ended(status))) => Some((time, status)),
            Some((_, Left::Executed)) | None => None,
        }
    }

    /// Whether it had ended by then, or was replaced by other programs.
    pub fn is_over(&self, at: Mono) -> bool {
        self.over().is_some_and(|time| time <= at)
    }

    /// Whether nothing can become of it any more.
    pub fn is_closed(&self) -> bool {
        self.over().is_some()
    }

    /// When it ended, or was replaced.
    pub fn over(&self) -> Option<Mono> {
        self.end.map(|(end, _)| end).or(self.replaced)
    }

    /// A process of it has a new child.
    pub fn forked(&mut self, child: u32, time: Mono) {
        if self.members.len() >= PROCESSES_MAX {
            let first = self.members[0].pid;
            self.members.retain(|member| member.left.is_none() || member.pid == first);
        }
        if self.members.len() < PROCESSES_MAX {
            self.members.push(Member { pid: child, from: time, left: None });
        }
    }

    fn leaves(&mut self, pid: u32, time: Mono, how: Left) {
        let member = self.members.iter_mut().find(|member| member.pid == pid && member.left.is_none());
        if let Some(member) = member {
            member.left = Some((time, how));
        }
    }

    /// A process of it has executed another program.
    pub fn executed(&mut self, pid: u32, time: Mono) {
        self.leaves(pid, time, Left::Executed);
    }

    /// A process of it has ended.
    pub fn exited(&mut self, pid: u32, time: Mono, status: ExitStatus) {
        self.leaves(pid, time, Left::Ended(status));
    }

    /// Notes its end, if that has come by now. `has_listened`: on any port; `holds`: whether a process holds a listener, one
    /// that has ended included, whose listener is still open.
    pub fn see_end(&mut self, time: Mono, has_listened: bool, holds: impl Fn(u32) -> bool) {
        if self.is_closed() {
            return;
        }
        let has_left = |member: &Member| member.left.is_some();
        let have_all_left = self.members.iter().all(has_left);
        let last = self.members.iter().filter_map(|member| match member.left {
            Some((time, Left::Ended(status))) => Some((time, status)),
            _ => None,
        });
        let Some((_, status)) = last.max_by_key(|(time, _)| *time) else {
            self.replaced = have_all_left.then_some(time);
            return;
        };
        let has_executed = |member: &Member| matches!(member.left, Some((_, Left::Executed)));
        let is_over = if has_listened {
            let mut may_hold = self.members.iter().filter(|member| !has_executed(member));
            has_left(&self.members[0]) && !may_hold.any(|member| holds(member.pid))
        } else {
            have_all_left
        };
        self.end = is_over.then_some((time, status));
    }
}

/// A fork that has not executed a program.
#[derive(Clone, Copy, Debug)]
struct Fork {
    root: u32,
    time: Mono,
}

/// Which process each fork descends from, by forks alone.
#[derive(Debug, Default)]
pub struct Roots {
    forks: HashMap<u32, Fork>,
    of: HashMap<u32, HashSet<u32>>,
}

impl Roots {
    /// The process that executed the program which a process runs; itself, where it is not known to be a fork.
    pub fn of(&self, pid: u32) -> u32 {
        self.forks.get(&pid).map_or(pid, |fork| fork.root)
    }

    /// The forks of a process that run its program since then or later.
    pub fn forks_of(&self, root: u32, since: Option<Mono>) -> impl Iterator<Item = u32> {
        let forks = self.of.get(&root).into_iter().flatten().copied();
        forks.filter(move |fork| self.forks.get(fork).is_some_and(|fork| Some(fork.time) >= since))
    }

    /// A process has a new child.
    pub fn forked(&mut self, parent: u32, child: u32, time: Mono) {
        let root = self.of(parent);
        self.left(child);
        if root != child && self.forks.len() < FORKS_MAX {
            self.forks.insert(child, Fork { root, time });
            self.of.entry(root).or_default().insert(child);
        }
    }

    /// A process has executed a program, or ended: it is not a fork any more.
    pub fn left(&mut self, pid: u32) {
        let Some(fork) = self.forks.remove(&pid) else { return };
        if let Some(forks) = self.of.get_mut(&fork.root) {
            forks.remove(&pid);
            if forks.is_empty() {
                self.of.remove(&fork.root);
            }
        }
    }

    /// A process of which nothing is remembered has ended: its forks descend from none that is known.
    pub fn forget(&mut self, root: u32) {
        for fork in self.of.remove(&root).into_iter().flatten() {
            self.forks.remove(&fork);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FAILURE: ExitStatus = ExitStatus::Code(1);

    fn holds_nothing(_: u32) -> bool {
        false
    }

    #[test]
    fn an_instance_that_has_not_listened_ends_with_its_last_process() {
        let mut daemon = Instance::new(10, Mono(0));
        daemon.forked(11, Mono(5));
        daemon.exited(10, Mono(10), ExitStatus::Code(0));
        daemon.see_end(Mono(10), false, holds_nothing);
        assert_eq!(daemon.end(), None, "a daemon's parent ends first");
        assert!(daemon.had(10, Mono(9)) && !daemon.had(10, Mono(10)) && daemon.has(11));
        daemon.exited(11, Mono(20), FAILURE);
        daemon.see_end(Mono(20), false, holds_nothing);
        assert_eq!(daemon.end(), Some((Mono(20), FAILURE)));
    }

    #[test]
    fn an_instance_that_has_listened_ends_with_its_first_process_unless_a_fork_holds_the_listener() {
        let mut server = Instance::new(10, Mono(0));
        server.forked(11, Mono(5));
        server.exited(10, Mono(10), FAILURE);
        server.see_end(Mono(10), true, |pid| pid == 11);
        assert_eq!(server.end(), None);
        server.see_end(Mono(20), true, holds_nothing);
        assert_eq!(server.end(), Some((Mono(20), FAILURE)));
    }

    #[test]
    fn an_exec_replaces_an_instance_and_is_not_an_end() {
        let mut server = Instance::new(10, Mono(0));
        server.executed(10, Mono(10));
        server.see_end(Mono(10), false, holds_nothing);
        assert_eq!((server.end(), server.is_over(Mono(10)), server.is_over(Mono(9))), (None, true, false));
        // A process that executed another program is not a process of it.
        let mut server = Instance::new(10, Mono(0));
        server.forked(11, Mono(5));
        server.executed(11, Mono(6));
        server.exited(10, Mono(10), FAILURE);
        server.see_end(Mono(10), false, holds_nothing);
        assert_eq!(server.end(), Some((Mono(10), FAILURE)));
    }

    #[test]
    fn forks_of_forks_are_of_the_process_that_executed_the_program() {
        let mut roots = Roots::default();
        roots.forked(10, 11, Mono(1));
        roots.forked(11, 12, Mono(2));
        assert_eq!((roots.of(12), roots.of(10)), (10, 10));
        roots.left(11);
        assert_eq!((roots.of(11), roots.of(12), roots.forks_of(10, None).count()), (11, 10, 1));
        assert_eq!(roots.forks_of(10, Some(Mono(3))).count(), 0, "it forked before it executed a program");
        roots.forget(10);
        assert_eq!(roots.of(12), 12);
        for child in 100..100 + 2 * FORKS_MAX as u32 {
            roots.forked(10, child, Mono(4));
        }
        assert_eq!(roots.forks.len(), FORKS_MAX);
    }

    #[test]
    fn a_fork_bomb_takes_no_more_room_than_the_bound() {
        let (mut roots, mut instance) = (Roots::default(), Instance::new(10, Mono(1)));
        for child in 100..100 + 2 * FORKS_MAX as u32 {
            roots.forked(10, child, Mono(2));
            instance.forked(child, Mono(2));
        }
        assert_eq!((roots.forks.len(), instance.members.len()), (FORKS_MAX, PROCESSES_MAX));
    }
}
