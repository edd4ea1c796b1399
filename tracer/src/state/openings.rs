//! Openings that are pending: sockets that entered LISTEN, and whose `listen()` may still fail.
//!
//! ```text
//! Opened ─▶ pending ─▶ open      listen() returned, a dump of the namespace lists the socket, or it was hashed when it closed
//!                  └─▶ failed    listen() returned, or the socket closed and was never hashed
//! ```
//!
//! The state change comes before the kernel hashes the socket, and nothing shows the hashing itself. A dump lists hashed
//! listeners only. It is due immediately, and again after 10 ms, 100 ms and 1 s.

use crate::model::hash::HashMap;
use crate::model::kernel_event::{Closed, Opened, Shutdown};
use crate::model::socket::{Listener, NetnsId, SocketKey};
use crate::model::time::{Interval, Mono};
use crate::state::open_listeners::place;

/// How long after the newest opening another dump is due, where those before it do not list it. A `listen()` takes
/// microseconds, unless its thread has lost its processor.
const AGAIN_NS: [u64; 3] = [10_000_000, 100_000_000, 1_000_000_000];

/// Dumps that a namespace may fail to give before its openings count as open: no dump can show them, and a `listen()` that
/// failed would have closed its socket since the first one.
const UNREADABLE_MAX: usize = 2;

/// The pending openings of every namespace.
#[derive(Debug, Default)]
pub struct Openings {
    netns: HashMap<NetnsId, Pending>,
}

/// The pending openings of one namespace.
#[derive(Debug, Default)]
struct Pending {
    opened: HashMap<u64, Opened>,
    /// When the next dump is due; `None`: none is.
    due: Option<Mono>,
    /// The time of the newest.
    newest: Mono,
    /// Dumps in a row that the namespace did not give.
    unreadable: usize,
}

impl Openings {
    pub fn insert(&mut self, opened: Opened) {
        let pending = self.netns.entry(opened.listener.netns).or_default();
        pending.due = Some(opened.time);
        pending.newest = opened.time;
        pending.opened.insert(place(opened.listener.key), opened);
    }

    /// Takes the opening of a socket out.
    pub fn remove(&mut self, netns: NetnsId, key: SocketKey) -> Option<Opened> {
        let pending = self.netns.get_mut(&netns)?;
        let is_same = pending.opened.get(&place(key)).is_some_and(|opened| opened.listener.key.is_same(key));
        let opened = if is_same { pending.opened.remove(&place(key)) } else { None };
        if pending.opened.is_empty() {
            self.netns.remove(&netns);
        }
        opened
    }

    /// Takes out those that a dump of their namespace lists, the oldest first.
    pub fn listed(&mut self, listeners: &[Listener], read: Interval) -> Vec<Opened> {
        let is_shown = |opened: &Opened| opened.time <= read.began;
        let mut listed = Vec::new();
        for Listener { netns, key, .. } in listeners {
            let pending = self.netns.get(netns).and_then(|pending| pending.opened.get(&place(*key)));
            if pending.is_some_and(is_shown) {
                listed.extend(self.remove(*netns, *key));
            }
        }
        listed.sort_by_key(|opened| opened.time);
        listed
    }

    /// A namespace was dumped: what opened since is asked about again immediately.
    pub fn dumped(&mut self, netns: NetnsId, read: Interval) {
        if let Some(pending) = self.netns.get_mut(&netns) {
            pending.unreadable = 0;
            pending.ask_again(read);
        }
    }

    /// A namespace could not be read. Takes out the openings that no dump will show.
    pub fn unreadable(&mut self, netns: NetnsId, read: Interval) -> Vec<Opened> {
        let Some(pending) = self.netns.get_mut(&netns) else { return Vec::new() };
        pending.unreadable += 1;
        if pending.unreadable < UNREADABLE_MAX {
            pending.ask_again(read);
            return Vec::new();
        }
        let pending = self.netns.remove(&netns).unwrap_or_default();
        let mut opened: Vec<Opened> = pending.opened.into_values().collect();
        opened.sort_by_key(|opened| opened.time);
        opened
    }

    /// The namespaces of which a dump is due, each with a process that is in it. They are asked about by this.
    pub fn due(&mut self, now: Mono) -> Vec<(NetnsId, Option<u32>)> {
        let mut due = Vec::new();
        for (netns, pending) in &mut self.netns {
            if pending.due.is_some_and(|due| due <= now) {
                pending.due = AGAIN_NS.iter().map(|after| pending.newest.plus(*after)).find(|due| *due > now);
                let opener = pending.opened.values().find_map(|opened| opened.listener.process.pid);
                due.push((*netns, opener));
            }
        }
        due.sort();
        due
    }

    /// When [`Self::due`] has something to give.
    pub fn deadline(&self) -> Option<Mono> {
        self.netns.values().filter_map(|pending| pending.due).min()
    }

    /// Whether a `listen()` on a port of a namespace may still fail.
    pub fn is_pending_on(&self, netns: NetnsId, port: u16) -> bool {
        let pending = self.netns.get(&netns);
        pending.is_some_and(|pending| pending.opened.values().any(|opened| opened.listener.port == port))
    }

    pub fn is_pending(&self, netns: NetnsId, key: SocketKey) -> bool {
        let opened = self.netns.get(&netns).and_then(|pending| pending.opened.get(&place(key)));
        opened.is_some_and(|opened| opened.listener.key.is_same(key))
    }

    pub fn is_empty(&self) -> bool {
        self.netns.is_empty()
    }

    /// Forgets everything about a namespace.
    pub fn forget(&mut self, netns: NetnsId) {
        self.netns.remove(&netns);
    }
}

impl Pending {
    /// A dump that began before an opening shows nothing of it.
    fn ask_again(&mut self, read: Interval) {
        if self.opened.values().any(|opened| opened.time > read.began) {
            self.due = Some(read.ended);
        }
    }
}

/// Whether a `listen()` has failed, of a socket that left LISTEN before it was known to listen.
pub fn has_failed(opened: &Opened, closed: &Closed) -> bool {
    match (opened.was_hashed, closed.was_hashed) {
        (Some(false), Some(was_hashed)) => !was_hashed,
        // The mark is of an earlier listen(), or was not read. A listen() that fails closes the socket in its own thread,
        // and without a shutdown.
        (Some(true) | None, _) | (_, None) => closed.shutdown == Shutdown::None && closed.tid == opened.tid,
    }
}
