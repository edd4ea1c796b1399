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

/// The processes that were refused at each destination, and are running.
#[derive(Debug, Default)]
pub struct RefusedProcesses {
    at: HashMap<To, VecDeque<(u32, Mono)>>,
}

impl RefusedProcesses {
    /// A process was refused.
    pub fn note(&mut self, to: To, pid: u32, time: Mono) {
        if self.at.len() >= DESTINATIONS_MAX && !self.at.contains_key(&to) {
            self.at.clear();
        }
        let processes = self.at.entry(to).or_default();
        if processes.iter().any(|(known, _)| *known == pid) {
            return;
        }
        if processes.len() >= PROCESSES_MAX {
            processes.pop_front();
        }
        processes.push_back((pid, time));
    }

    /// The processes that had been refused at a destination by then.
    pub fn at(&self, to: To, time: Mono) -> impl Iterator<Item = u32> {
        let processes = self.at.get(&to).into_iter().flatten();
        processes.filter(move |(_, refused)| *refused <= time).map(|(pid, _)| *pid)
    }

    /// A process has ended: its number is another one's next.
    pub fn ended(&mut self, pid: u32) {
        for processes in self.at.values_mut() {
            processes.retain(|(known, _)| *known != pid);
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
        refused.ended(7);
        assert!(refused.at.len() <= 1);
    }
}
