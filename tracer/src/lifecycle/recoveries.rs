//! Destinations that were refused, until a listener covers them again and stays.

use std::collections::VecDeque;
use std::net::IpAddr;

use super::finding::RefusalId;
use super::repeats::PROCESSES_MAX;
use crate::model::hash::{HashMap, HashSet};
use crate::model::kernel_event::Refused;
use crate::model::socket::{Listener, NetnsId};
use crate::model::time::Mono;
use crate::state::listeners::Listeners;
use crate::verdict::coverage::{self, Destination};

/// How long a destination must be covered without a gap to be answered again: a listener that closes before that tried
/// whether the port is free.
const COVERED_NS: u64 = 250_000_000;

/// Listeners that opened a moment ago and may end the wait of a destination; on more, the oldest is taken to stay.
const OPENED_MAX: usize = 1_024;

/// Destinations waited for.
const WAITING_MAX: usize = 4_096;

/// Refusals of one destination that are named when it recovers.
const NAMED_MAX: usize = 64;

/// A destination that was refused and may recover.
#[derive(Clone, Debug)]
pub struct Waiting {
    pub destination: Destination,
    /// The clients' namespace.
    pub netns: NetnsId,
    pub device: Option<u32>,
    pub of: Vec<RefusalId>,
    pub first: Mono,
    pub refusals: u64,
    pub processes: HashSet<u32>,
}

/// A listener that has opened, and when.
#[derive(Clone, Debug)]
pub struct OpenedListener {
    pub listener: Listener,
    pub time: Mono,
}

/// Destinations that were refused, and listeners that may end their wait.
#[derive(Debug, Default)]
pub struct Recoveries {
    waiting: HashMap<(NetnsId, IpAddr, u16), Waiting>,
    /// Listeners that cover a destination that was refused, the oldest first.
    opened: VecDeque<OpenedListener>,
}

impl Recoveries {
    /// Waits for a destination to recover.
    pub fn wait(&mut self, destination: Destination, of: RefusalId, refused: &Refused) {
        let key = (destination.netns, destination.addr, destination.port);
        if self.waiting.len() >= WAITING_MAX && !self.waiting.contains_key(&key) {
            let oldest = self.waiting.iter().min_by_key(|(_, waiting)| waiting.first).map(|(key, _)| *key);
            oldest.and_then(|key| self.waiting.remove(&key));
        }
        let waiting = self.waiting.entry(key).or_insert_with(|| Waiting {
            destination,
            netns: refused.netns,
            device: refused.device,
            of: Vec::new(),
            first: refused.time,
            refusals: 0,
            processes: HashSet::default(),
        });
        waiting.destination = destination;
        waiting.refusals += 1;
        if waiting.of.len() < NAMED_MAX && !waiting.of.contains(&of) {
            waiting.of.push(of);
        }
        if waiting.processes.len() < PROCESSES_MAX {
            waiting.processes.extend(refused.client.pid);
        }
    }

    /// The destinations that a listener now covers. They are not waited for any more.
    pub fn recover(&mut self, listener: &Listener) -> Vec<Waiting> {
        let covers = |waiting: &&Waiting| coverage::mismatch(listener, &waiting.destination).is_none();
        let mut covered: Vec<Waiting> = if listener.addr.is_unspecified() {
            self.waiting.values().filter(covers).cloned().collect()
        } else {
            // Of thousands of listeners that open and close, each is compared with one of thousands of destinations.
            let key = (listener.netns, listener.addr, listener.port);
            self.waiting.get(&key).filter(covers).cloned().into_iter().collect()
        };
        covered.sort_by_key(|waiting| waiting.of.first().copied());
        for waiting in &covered {
            let Destination { netns, addr, port, .. } = waiting.destination;
            self.waiting.remove(&(netns, addr, port));
        }
        covered
    }

    /// Whether a destination that a listener covers waits to be answered again.
    fn is_awaited(&self, listener: &Listener) -> bool {
        let covers = |waiting: &Waiting| coverage::mismatch(listener, &waiting.destination).is_none();
        if listener.addr.is_unspecified() {
            return self.waiting.values().any(covers);
        }
        self.waiting.get(&(listener.netns, listener.addr, listener.port)).is_some_and(covers)
    }

    /// A listener has opened: what it covers is answered again, if it stays.
    pub fn opened(&mut self, listener: &Listener, time: Mono) {
        if self.is_awaited(listener) {
            self.opened.push_back(OpenedListener { listener: listener.clone(), time });
        }
    }

    /// The next listener that has stayed long enough by then, and is still open.
    pub fn next_stayed(&mut self, listeners: &Listeners, until: Mono) -> Option<OpenedListener> {
        let has_stayed = |opened: &OpenedListener| opened.time.plus(COVERED_NS) <= until;
        while self.opened.len() > OPENED_MAX || self.opened.front().is_some_and(has_stayed) {
            let opened = self.opened.pop_front()?;
            if listeners.get(opened.listener.netns, opened.listener.key).is_some() {
                return Some(opened);
            }
        }
        None
    }

    /// The listener that has answered a connect to a destination: it will stay.
    pub fn answered(&mut self, destination: &Destination) -> Option<OpenedListener> {
        let covers = |one: &OpenedListener| coverage::mismatch(&one.listener, destination).is_none();
        let index = self.opened.iter().position(covers)?;
        self.opened.remove(index)
    }

    /// When [`Self::next_stayed`] has something to give.
    pub fn deadline(&self) -> Option<Mono> {
        self.opened.front().map(|opened| opened.time.plus(COVERED_NS))
    }

    /// Forgets the destinations in a namespace that has ended, and those of its clients.
    pub fn forget(&mut self, netns: NetnsId) {
        self.waiting.retain(|(destination, _, _), one| *destination != netns && one.netns != netns);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lifecycle::repeats::tests::refused;

    #[test]
    fn the_destinations_waited_for_are_bounded() {
        const REFUSALS: u32 = WAITING_MAX as u32 + 1_000;
        let mut recoveries = Recoveries::default();
        for number in 1..=REFUSALS {
            let refused = refused(number);
            let of = RefusalId(u64::from(number));
            let Refused { netns, dst: addr, dst_port: port, .. } = refused;
            recoveries.wait(Destination { netns, addr, port, route: None }, of, &refused);
            // Each time another process, to one destination.
            let other = super::tests::refused(1);
            let one = Destination { netns, addr: other.dst, port, route: None };
            let another = Refused { client: refused.client.clone(), ..other };
            recoveries.wait(one, of, &another);
        }
        assert_eq!(recoveries.waiting.len(), WAITING_MAX);
        for one in recoveries.waiting.values() {
            assert!(one.of.len() <= NAMED_MAX && one.processes.len() <= PROCESSES_MAX);
        }
    }
}
