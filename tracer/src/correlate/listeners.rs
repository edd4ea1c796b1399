//! The table of listeners: which there are, and which there were.

use std::collections::{HashMap, VecDeque};

use crate::event::{ExitStatus, Listener, Mono, NetnsId, SocketKey};

/// Closed listeners remembered in each namespace, the newest: enough for the history of a port.
const CLOSED_PER_NETNS: usize = 64;

/// Closed listeners remembered in all: a few megabytes at most.
const CLOSED_MAX: usize = 4_096;

/// What became of the process that held a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OwnerEnd {
    /// It lives on.
    Alive,
    Ended(ExitStatus),
    Unknown,
}

/// A listener that has closed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gone {
    pub listener: Listener,
    pub time: Mono,
    pub owner: OwnerEnd,
}

/// The listeners of one namespace.
#[derive(Debug, Default)]
struct Local {
    open: HashMap<u64, Listener>,
    closed: VecDeque<Gone>,
}

/// Every listener on a watched port, by namespace.
#[derive(Debug, Default)]
pub struct Table {
    netns: HashMap<NetnsId, Local>,
    closed: usize,
    /// Closed listeners that the bounds above have dropped.
    pub evicted: u64,
}

/// A socket's place in the table: its inode number, which no two open sockets share; a kernel socket
/// without one has its cookie, out of the way of inode numbers.
fn place(key: SocketKey) -> u64 {
    if key.inode != 0 { key.inode } else { key.cookie | 1 << 63 }
}

impl Table {
    /// The open listeners of one namespace, in no order.
    pub fn open_in(&self, netns: NetnsId) -> impl Iterator<Item = &Listener> {
        self.netns.get(&netns).into_iter().flat_map(|local| local.open.values())
    }

    /// Every open listener, in no order.
    pub fn open(&self) -> impl Iterator<Item = &Listener> {
        self.netns.values().flat_map(|local| local.open.values())
    }

    /// The closed listeners of one namespace, the newest first.
    pub fn closed_in(&self, netns: NetnsId) -> impl Iterator<Item = &Gone> {
        self.netns.get(&netns).into_iter().flat_map(|local| local.closed.iter().rev())
    }

    pub fn get(&self, netns: NetnsId, key: SocketKey) -> Option<&Listener> {
        let listener = self.netns.get(&netns)?.open.get(&place(key))?;
        listener.key.is_same(key).then_some(listener)
    }

    /// Whether the socket is known to have closed at `since` or later.
    pub fn closed_since(&self, netns: NetnsId, key: SocketKey, since: Mono) -> bool {
        self.closed_in(netns).any(|gone| gone.time >= since && gone.listener.key.is_same(key))
    }

    /// Adds a listener, in place of one with the same key.
    pub fn insert(&mut self, listener: Listener) {
        self.netns.entry(listener.netns).or_default().open.insert(place(listener.key), listener);
    }

    /// Takes a listener out without remembering it.
    pub fn remove(&mut self, netns: NetnsId, key: SocketKey) -> Option<Listener> {
        self.get(netns, key)?;
        self.netns.get_mut(&netns)?.open.remove(&place(key))
    }

    /// Remembers a listener that has closed.
    pub fn remember(&mut self, gone: Gone) {
        let local = self.netns.entry(gone.listener.netns).or_default();
        local.closed.push_back(gone);
        self.closed += 1;
        if local.closed.len() > CLOSED_PER_NETNS {
            local.closed.pop_front();
            self.closed -= 1;
            self.evicted += 1;
        }
        if self.closed > CLOSED_MAX {
            self.evict_oldest();
        }
    }

    /// A process has ended: what it had closed before, it does not open again.
    pub fn owner_ended(&mut self, pid: u32, status: ExitStatus) {
        for gone in self.netns.values_mut().flat_map(|local| &mut local.closed) {
            if gone.listener.process.pid == Some(pid) && !matches!(gone.owner, OwnerEnd::Ended(_)) {
                gone.owner = OwnerEnd::Ended(status);
            }
        }
    }

    fn evict_oldest(&mut self) {
        let oldest = self
            .netns
            .values_mut()
            .min_by_key(|local| local.closed.front().map_or(Mono(u64::MAX), |gone| gone.time));
        if let Some(local) = oldest
            && local.closed.pop_front().is_some()
        {
            self.closed -= 1;
            self.evicted += 1;
        }
        self.netns.retain(|_, local| !local.open.is_empty() || !local.closed.is_empty());
    }

    /// Forgets everything about a namespace: its number now belongs to another.
    pub fn forget(&mut self, netns: NetnsId) -> Vec<Listener> {
        let Some(local) = self.netns.remove(&netns) else {
            return Vec::new();
        };
        self.closed -= local.closed.len();
        local.open.into_values().collect()
    }

    /// Namespaces with an open listener.
    pub fn occupied(&self) -> impl Iterator<Item = NetnsId> {
        self.netns.iter().filter(|(_, local)| !local.open.is_empty()).map(|(netns, _)| *netns)
    }
}
