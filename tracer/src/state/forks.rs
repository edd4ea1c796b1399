//! Which processes are forks of which, as far as their ends are reported.

use crate::model::hash::{HashMap, HashSet};
use crate::model::kernel_event::Forked;

/// Children remembered. A server has a few hundred workers at most; of more, no parent is known.
const CHILDREN_MAX: usize = 16_384;

/// Processes that are alive, with their parents.
#[derive(Debug, Default)]
pub struct Forks {
    parents: HashMap<u32, u32>,
    children: HashMap<u32, HashSet<u32>>,
}

impl Forks {
    /// A process has a new child.
    pub fn forked(&mut self, forked: &Forked) {
        let (Some(parent), Some(child)) = (forked.parent, forked.child.pid) else { return };
        // The end of an earlier process with this number was not reported.
        self.ended(child);
        if self.parents.len() < CHILDREN_MAX {
            self.parents.insert(child, parent);
            self.children.entry(parent).or_default().insert(child);
        }
    }

    /// A process has ended: it is not a fork that is alive any more, and its children have no parent.
    pub fn ended(&mut self, pid: u32) {
        if let Some(parent) = self.parents.remove(&pid)
            && let Some(siblings) = self.children.get_mut(&parent)
        {
            siblings.remove(&pid);
            if siblings.is_empty() {
                self.children.remove(&parent);
            }
        }
        for child in self.children.remove(&pid).into_iter().flatten() {
            self.parents.remove(&child);
        }
    }

    /// How many children of a process are alive that it forked while it was followed.
    pub fn alive(&self, pid: u32) -> usize {
        self.children.get(&pid).map_or(0, HashSet::len)
    }

    /// The process that forked this one, while both are alive.
    pub fn parent_of(&self, pid: u32) -> Option<u32> {
        self.parents.get(&pid).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::process::Process;
    use crate::model::time::Mono;

    fn fork(forks: &mut Forks, parent: u32, child: u32) {
        let child = Process { pid: Some(child), ppid: Some(parent), ..Process::default() };
        forks.forked(&Forked { time: Mono(1), parent: Some(parent), child });
    }

    #[test]
    fn a_child_counts_while_it_is_alive() {
        let mut forks = Forks::default();
        for child in [11, 12, 12] {
            fork(&mut forks, 10, child);
        }
        fork(&mut forks, 11, 13);
        assert_eq!((forks.alive(10), forks.alive(11), forks.alive(13)), (2, 1, 0));
        assert_eq!((forks.parent_of(12), forks.parent_of(10)), (Some(10), None));
        forks.ended(12);
        assert_eq!((forks.alive(10), forks.parent_of(12)), (1, None));
        // The parent ends first, as a daemon's does.
        forks.ended(11);
        assert_eq!((forks.alive(10), forks.alive(11), forks.parent_of(13)), (0, 0, None));
    }

    #[test]
    fn a_number_that_is_used_again_has_its_new_parent() {
        let mut forks = Forks::default();
        fork(&mut forks, 10, 12);
        fork(&mut forks, 20, 12);
        assert_eq!((forks.alive(10), forks.alive(20), forks.parent_of(12)), (0, 1, Some(20)));
    }

    #[test]
    fn a_fork_bomb_takes_no_more_room_than_the_bound() {
        let mut forks = Forks::default();
        for child in 100..100 + 2 * CHILDREN_MAX as u32 {
            fork(&mut forks, 10, child);
        }
        assert_eq!((forks.alive(10), forks.parents.len()), (CHILDREN_MAX, CHILDREN_MAX));
    }
}
