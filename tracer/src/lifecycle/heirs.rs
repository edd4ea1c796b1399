//! Which process holds a listener whose owner has ended or executed a program: when the owners are queried.

use std::collections::{BTreeMap, BTreeSet};

use super::in_flight::InFlight;
use crate::model::socket::{Listener, NetnsId};
use crate::model::time::Mono;
use crate::query::{KnownSocket, QueryKind};
use crate::state::FRESH_NS;
use crate::state::HostState;

/// Owners that have ended, and whose listeners may have passed to other processes.
#[derive(Debug, Default)]
pub struct Heirs {
    ended: BTreeSet<u32>,
    /// When the owners of their listeners may be queried; `None`: now.
    due: Option<Mono>,
}

impl Heirs {
    /// A process has ended.
    pub fn ended(&mut self, pid: u32) {
        self.ended.insert(pid);
    }

    /// A query found that these processes do not hold their listeners any more.
    pub fn let_go(&mut self, pids: BTreeSet<u32>, now: Mono) {
        if !pids.is_empty() {
            self.ended.extend(pids);
            self.due = Some(now.plus(FRESH_NS));
        }
    }

    /// Queries which processes hold the listeners of owners that have ended: a process that forks and ends passes them on.
    pub fn query(&mut self, state: &HostState, queries: &mut InFlight, now: Mono) {
        if self.ended.is_empty() || self.due.is_some_and(|due| now < due) {
            return;
        }
        let is_left =
            |listener: &&Listener| listener.process.pid.is_some_and(|pid| self.ended.contains(&pid));
        let left: BTreeSet<NetnsId> =
            state.listeners.open().filter(is_left).map(|listener| listener.netns).collect();
        // Workers that end by the hundred take a twentieth of the time in queries at most.
        let too_early = |netns: &NetnsId| {
            let read = state.owners_read(*netns)?.read;
            (!read.is_due(now, now, 0)).then(|| read.ended.plus(20 * read.ended.since(read.began) + 1))
        };
        self.due = left.iter().filter_map(too_early).max();
        if self.due.is_none() {
            self.ended.clear();
            for netns in left {
                queries.ask(QueryKind::Owners { netns, known: None }, now);
            }
        }
    }

    /// When [`Self::query`] has something to do.
    pub fn deadline(&self) -> Option<Mono> {
        self.due
    }
}

/// Queries whether a process that has executed a program still holds its listeners.
pub fn query_after_exec(pid: u32, state: &HostState, queries: &mut InFlight, now: Mono) {
    let mut held: BTreeMap<NetnsId, Vec<KnownSocket>> = BTreeMap::new();
    for listener in state.listeners.open().filter(|one| one.process.pid == Some(pid)) {
        let known = KnownSocket { inode: listener.key.inode, pid: Some(pid) };
        held.entry(listener.netns).or_default().push(known);
    }
    for (netns, known) in held {
        queries.ask(QueryKind::Owners { netns, known: Some(known) }, now);
    }
}
