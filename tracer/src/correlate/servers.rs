//! Processes that claim to be the server, and what became of them; and what servers listen on elsewhere.

use std::collections::{HashMap, HashSet};

use crate::event::{Candidate, ExitStatus, Listener, Look, Mono, NetnsId, OtherPorts};

/// Candidates remembered: those that ended longest ago go first, then the youngest of the namespace that has the most,
/// so that pretenders in one hide nobody in another, and nobody who was there before them.
const CANDIDATES_MAX: usize = 256;

/// Clients remembered, so that none is taken for a server.
const CLIENTS_MAX: usize = 1_024;

/// Namespaces of which it is remembered what servers listen on besides the watched ports.
const OTHER_PORTS_MAX: usize = 256;

/// How long the end of a candidate is a reason for a refusal.
const MEMORY_NS: u64 = 300_000_000_000;

/// What is known of a candidate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    pub candidate: Candidate,
    /// It has listened on a watched port.
    pub has_listened: bool,
    /// It has connected to one: a client, whatever it calls itself.
    is_client: bool,
    pub end: Option<(Mono, ExitStatus)>,
    /// When it was last seen to live.
    seen: Mono,
    /// When a look at every process did not find it any more: after that it does not count, though nobody has told of its
    /// end.
    missed: Option<Mono>,
}

impl Known {
    /// Whether it lived at that time, as far as is known.
    fn is_alive(&self, at: Mono) -> bool {
        self.end.is_none() && self.missed.is_none_or(|missed| at <= missed)
    }
}

#[derive(Debug, Default)]
pub struct Servers {
    candidates: HashMap<u32, Vec<Known>>,
    clients: HashSet<u32>,
    other_ports: HashMap<NetnsId, OtherPorts>,
}

impl Servers {
    pub fn add(&mut self, candidate: Candidate, has_listened: bool) {
        let Some(pid) = candidate.process.pid else {
            return;
        };
        let lives = self.candidates.entry(pid).or_default();
        // Whose number this one has now has ended, and nobody has told of it.
        let started = candidate.process.start_time;
        lives.retain(|known| known.end.is_some() || known.candidate.process.start_time == started);
        if let Some(known) = lives.iter_mut().find(|known| known.end.is_none()) {
            // The same process under another name, or found twice.
            known.seen = known.seen.max(candidate.time);
            known.missed = None;
            known.candidate.process = candidate.process;
            known.has_listened |= has_listened;
            return;
        }
        let (is_client, seen) = (self.clients.contains(&pid), candidate.time);
        lives.push(Known { candidate, has_listened, is_client, end: None, seen, missed: None });
        if self.candidates.values().map(Vec::len).sum::<usize>() > CANDIDATES_MAX {
            self.drop_one();
        }
    }

    /// Every process of the host has been looked at, and those of them that claim to be the server were added.
    pub fn looked(&mut self, look: Look) {
        for known in self.candidates.values_mut().flatten() {
            if known.end.is_none() && known.missed.is_none() && known.seen < look.began {
                known.missed = Some(look.ended);
            }
        }
    }

    fn drop_one(&mut self) {
        let oldest = self
            .candidates
            .iter()
            .filter_map(|(pid, lives)| {
                Some((lives.iter().filter_map(|known| known.end).map(|(time, _)| time).min()?, *pid))
            })
            .min();
        if let Some((time, pid)) = oldest
            && let Some(lives) = self.candidates.get_mut(&pid)
        {
            lives.retain(|known| known.end.is_none_or(|(ended, _)| ended > time));
        } else {
            let mut count: HashMap<NetnsId, usize> = HashMap::new();
            for known in self.candidates.values().flatten() {
                *count.entry(known.candidate.netns).or_default() += 1;
            }
            let rank = |known: &Known| (count.get(&known.candidate.netns).copied(), known.candidate.since);
            let one =
                self.candidates.iter().filter_map(|(pid, lives)| Some((rank(lives.first()?), *pid))).max();
            one.and_then(|(_, pid)| self.candidates.remove(&pid));
        }
        self.candidates.retain(|_, lives| !lives.is_empty());
    }

    /// A process has connected to a watched port: it is a client, whatever it calls itself: a server's own
    /// probe goes by the server's name.
    pub fn is_client(&mut self, pid: u32) {
        if self.clients.len() >= CLIENTS_MAX {
            self.clients.clear();
        }
        self.clients.insert(pid);
        for known in self.candidates.get_mut(&pid).into_iter().flatten().filter(|known| known.end.is_none()) {
            known.is_client = true;
        }
    }

    pub fn has_listened(&mut self, pid: u32) {
        for known in self.candidates.get_mut(&pid).into_iter().flatten().filter(|known| known.end.is_none()) {
            known.has_listened = true;
        }
    }

    pub fn ended(&mut self, pid: u32, time: Mono, status: ExitStatus) {
        for known in self.candidates.get_mut(&pid).into_iter().flatten().filter(|known| known.end.is_none()) {
            known.end = Some((time, status));
        }
        self.clients.remove(&pid);
    }

    pub fn set_other_ports(&mut self, other_ports: OtherPorts) {
        if self.other_ports.len() >= OTHER_PORTS_MAX && !self.other_ports.contains_key(&other_ports.netns) {
            let oldest =
                self.other_ports.values().min_by_key(|other| other.look.ended).map(|other| other.netns);
            oldest.and_then(|netns| self.other_ports.remove(&netns));
        }
        self.other_ports.insert(other_ports.netns, other_ports);
    }

    /// When the other ports of a namespace were looked at.
    pub fn other_ports_look(&self, netns: NetnsId) -> Option<Look> {
        self.other_ports.get(&netns).map(|other| other.look)
    }

    /// What a process listens on besides the watched ports.
    pub fn other_listeners(&self, netns: NetnsId, pid: u32) -> impl Iterator<Item = &Listener> {
        let listeners = self.other_ports.get(&netns).into_iter().flat_map(|other| &other.listeners);
        listeners.filter(move |listener| listener.process.pid == Some(pid))
    }

    fn of(&self, netns: NetnsId) -> impl Iterator<Item = &Known> {
        self.candidates
            .values()
            .flatten()
            .filter(move |known| known.candidate.netns == netns && !known.is_client)
    }

    /// Candidates of a namespace that lived at that time, the youngest first.
    pub fn alive(&self, netns: NetnsId, at: Mono) -> Vec<&Known> {
        let mut alive: Vec<&Known> = self.of(netns).filter(|known| known.is_alive(at)).collect();
        alive.sort_by_key(|known| (std::cmp::Reverse(known.candidate.since), known.candidate.process.pid));
        alive
    }

    /// Candidates that have ended without having listened, the last first.
    pub fn ended_without_listening(&self, netns: NetnsId, now: Mono) -> Vec<&Known> {
        let recently = |known: &&Known| known.end.is_some_and(|(time, _)| now.since(time) < MEMORY_NS);
        let mut ended: Vec<&Known> =
            self.of(netns).filter(|known| !known.has_listened).filter(recently).collect();
        ended.sort_by_key(|known| std::cmp::Reverse(known.end.map(|(time, _)| time)));
        ended
    }

    /// Forgets everything about a namespace.
    pub fn forget(&mut self, netns: NetnsId) {
        for lives in self.candidates.values_mut() {
            lives.retain(|known| known.candidate.netns != netns);
        }
        self.candidates.retain(|_, lives| !lives.is_empty());
        self.other_ports.remove(&netns);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_and_other_ports_take_no_more_room_than_their_bound() {
        let mut servers = Servers::default();
        for number in 0..3 * CLIENTS_MAX as u32 {
            servers.is_client(number);
            let look = Look { began: Mono(u64::from(number)), ended: Mono(u64::from(number)) };
            servers.set_other_ports(OtherPorts { look, netns: NetnsId(number), listeners: Vec::new() });
            assert!(servers.clients.len() <= CLIENTS_MAX && servers.other_ports.len() <= OTHER_PORTS_MAX);
        }
        assert!(servers.other_ports_look(NetnsId(3 * CLIENTS_MAX as u32 - 1)).is_some(), "the newest stays");
    }
}
