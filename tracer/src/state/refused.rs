//! Processes that were refused themselves, by destination: what they listen on is not a reason for the refusal of others.

use std::collections::VecDeque;
use std::net::IpAddr;

use crate::model::hash::HashMap;
use crate::model::socket::NetnsId;
use crate::model::time::Mono;

/// Where a connect was made to.
type To = (NetnsId, IpAddr, u16);

/// Destinations that are remembered; on more, all are forgotten.
const DESTINATIONS_MAX: usize = 1_024;

/// Processes of one destination that are remembered: the newest.
const PROCESSES_MAX: usize = 16;

/// For how long one that has ended is remembered: a refusal waits for its evidence no longer.
const WAIT_NS: u64 = 12_000_000_000;

/// A process that was refused.
#[derive(Clone, Copy, Debug)]
struct RefusedProcess {
    pid: u32,
    time: Mono,
    /// When it ended; `None`: it is running.
    ended: Option<Mono>,
}

/// The processes that were refused at each destination, and are running, or have ended a moment ago.
#[derive(Debug, Default)]
pub struct RefusedProcesses {
    at: HashMap<To, VecDeque<RefusedProcess>>,
}

impl RefusedProcesses {
    /// A process was refused.
    pub fn note(&mut self, to: To, pid: u32, time: Mono) {
        if self.at.len() >= DESTINATIONS_MAX && !self.at.contains_key(&to) {
            self.at.clear();
        }
        let processes = self.at.entry(to).or_default();
        if processes.iter().any(|known| known.pid == pid && known.ended.is_none()) {
            return;
        }
        if processes.len() >= PROCESSES_MAX {
            processes.pop_front();
        }
        processes.push_back(RefusedProcess { pid, time, ended: None });
    }

    /// The processes that had been refused at a destination by then, and were running.
    pub fn at(&self, to: To, at: Mono) -> impl Iterator<Item = u32> {
        let processes = self.at.get(&to).into_iter().flatten();
        let was_there =
            move |known: &&RefusedProcess| known.time <= at && known.ended.is_none_or(|ended| ended > at);
        processes.filter(was_there).map(|known| known.pid)
    }

    /// A process has ended: its number is another one's next.
    pub fn ended(&mut self, pid: u32, time: Mono) {
        for processes in self.at.values_mut() {
            for known in processes.iter_mut().filter(|known| known.pid == pid) {
                known.ended.get_or_insert(time);
            }
            processes.retain(|known| known.ended.is_none_or(|ended| time.since(ended) < WAIT_NS));
        }
        self.at.retain(|_, processes| !processes.is_empty());
    }

    /// Forgets everything about a namespace.
    pub fn forget(&mut self, netns: NetnsId) {
        self.at.retain(|(of, ..), _| *of != netns);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_take_no_more_room_than_their_bounds() {
        let mut refused = RefusedProcesses::default();
        for number in 0..3 * DESTINATIONS_MAX as u32 {
            let to = |number| (NetnsId(number), IpAddr::from([127, 0, 0, 1]), 80);
            refused.note(to(number), 7, Mono(1));
            refused.note(to(0), number, Mono(1));
            assert!(
                refused.at.len() <= DESTINATIONS_MAX && refused.at(to(0), Mono(1)).count() <= PROCESSES_MAX
            );
        }
        refused.ended(7, Mono(2));
        refused.ended(7, Mono(2 + WAIT_NS));
        assert!(refused.at.len() <= 1);
    }

    #[test]
    fn one_that_has_ended_was_refused_before() {
        let mut refused = RefusedProcesses::default();
        let to = (NetnsId(1), IpAddr::from([127, 0, 0, 1]), 80);
        refused.note(to, 7, Mono(10));
        refused.ended(7, Mono(20));
        let at = |refused: &RefusedProcesses, time| refused.at(to, Mono(time)).count();
        assert_eq!([5, 15, 25].map(|time| at(&refused, time)), [0, 1, 0]);
        // Another one with its number.
        refused.note(to, 7, Mono(30));
        assert_eq!(at(&refused, 35), 1);
    }
}
