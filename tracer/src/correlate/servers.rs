//! Processes that claim to be the server, and what became of them; and what servers listen on elsewhere.

use std::collections::{HashMap, HashSet};

use crate::event::{Candidate, ExitStatus, Listener, Look, Mono, NetnsId, OtherPorts};

/// Candidates remembered: those that ended longest ago go first.
const CANDIDATES_MAX: usize = 256;

/// Clients remembered, so that none is taken for a server.
const CLIENTS_MAX: usize = 1_024;

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
        if self.candidates.values().map(Vec::len).sum::<usize>() >= CANDIDATES_MAX {
            self.drop_oldest();
        }
        let lives = self.candidates.entry(pid).or_default();
        match lives.iter_mut().find(|known| known.end.is_none()) {
            // The same process under another name, or found twice.
            Some(known) => {
                known.candidate.process = candidate.process;
                known.has_listened |= has_listened;
            }
            None => {
                let is_client = self.clients.contains(&pid);
                lives.push(Known { candidate, has_listened, is_client, end: None });
            }
        }
    }

    fn drop_oldest(&mut self) {
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
            self.candidates.clear();
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

    /// Candidates of a namespace that live, the youngest first.
    pub fn alive(&self, netns: NetnsId) -> Vec<&Known> {
        let mut alive: Vec<&Known> = self.of(netns).filter(|known| known.end.is_none()).collect();
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
