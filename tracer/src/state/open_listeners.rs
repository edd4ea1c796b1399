//! The open listeners of one namespace, by socket, by what they are bound to and by port.

use std::hash::Hash;
use std::net::IpAddr;

use crate::model::hash::HashMap;
use crate::model::process::{ExitStatus, Process};
use crate::model::socket::{Listener, SocketKey};
use crate::model::time::Mono;

/// Room for open listeners of one namespace that is kept.
const ROOM_KEPT: usize = 256;

/// The open listeners of one namespace.
#[derive(Debug, Default)]
pub(super) struct OpenListeners {
    open: HashMap<u64, Listener>,
    /// Places of the open ones by what they are bound to, so that a lookup costs the same beside ten thousand.
    bound_to: HashMap<(u16, IpAddr), Vec<u64>>,
    /// How many are open on each port.
    on_port: HashMap<u16, usize>,
    /// The place of the one on each port that opened first.
    oldest: HashMap<u16, u64>,
    /// The process that was found first to hold each whose opening was not seen.
    first: HashMap<u64, u32>,
    /// Those whose owner has ended, and how: another process holds them, or will close them.
    orphans: HashMap<u64, (Process, ExitStatus)>,
}

/// A socket's place in the table: its inode number, which no two open sockets share; a kernel socket
/// without one has its cookie, out of the way of inode numbers.
pub(super) fn place(key: SocketKey) -> u64 {
    if key.inode != 0 { key.inode } else { key.cookie | 1 << 63 }
}

/// What listeners are ordered by, the one that opened first before the others.
fn age(listener: &Listener) -> (Option<Mono>, u64) {
    (listener.since, listener.key.inode)
}

/// Adds `step` (1 or -1) to a count that is not kept at 0.
pub(super) fn count(counts: &mut HashMap<u16, usize>, port: u16, step: isize) {
    let count = counts.entry(port).or_default();
    *count = count.saturating_add_signed(step);
    if *count == 0 {
        counts.remove(&port);
    }
}

/// Gives back the room of ten thousand listeners once there are few: rarely, so that each pays little for it.
fn shrink<K: Eq + Hash, V>(map: &mut HashMap<K, V>) {
    if map.capacity() > ROOM_KEPT && map.len() * 8 < map.capacity() {
        map.shrink_to(map.len() * 2);
    }
}

impl OpenListeners {
    /// Adds a listener, and gives the one whose place it takes.
    pub(super) fn insert(&mut self, listener: Listener) -> Option<Listener> {
        let place = place(listener.key);
        let replaced = self.take(place);
        self.bound_to.entry((listener.port, listener.addr)).or_default().push(place);
        count(&mut self.on_port, listener.port, 1);
        let oldest = self.oldest.get(&listener.port).and_then(|oldest| self.open.get(oldest));
        if oldest.is_none_or(|oldest| age(&listener) < age(oldest)) {
            self.oldest.insert(listener.port, place);
        }
        if let (None, Some(pid)) = (&listener.opener, listener.process.pid) {
            self.first.insert(place, pid);
        }
        self.open.insert(place, listener);
        replaced
    }

    fn take(&mut self, place: u64) -> Option<Listener> {
        let listener = self.open.remove(&place)?;
        shrink(&mut self.open);
        self.orphans.remove(&place);
        self.first.remove(&place);
        let endpoint = (listener.port, listener.addr);
        if let Some(places) = self.bound_to.get_mut(&endpoint) {
            places.retain(|other| *other != place);
            if places.is_empty() {
                self.bound_to.remove(&endpoint);
                shrink(&mut self.bound_to);
            }
        }
        count(&mut self.on_port, listener.port, -1);
        if self.oldest.get(&listener.port) == Some(&place) {
            let on_port = self.open.iter().filter(|(_, other)| other.port == listener.port);
            match on_port.min_by_key(|(_, other)| age(other)) {
                Some((next, _)) => self.oldest.insert(listener.port, *next),
                None => self.oldest.remove(&listener.port),
            };
        }
        Some(listener)
    }

    /// Takes a listener out.
    pub(super) fn remove(&mut self, key: SocketKey) -> Option<Listener> {
        self.get(key)?;
        self.take(place(key))
    }

    /// Takes the listeners on a port out.
    pub(super) fn forget_port(&mut self, port: u16) {
        let on_port = self.open.iter().filter(|(_, listener)| listener.port == port);
        let places: Vec<u64> = on_port.map(|(place, _)| *place).collect();
        places.into_iter().for_each(|place| _ = self.take(place));
    }

    pub(super) fn get(&self, key: SocketKey) -> Option<&Listener> {
        self.open.get(&place(key)).filter(|listener| listener.key.is_same(key))
    }

    /// In no order.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Listener> {
        self.open.values()
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Listener> {
        self.open.values_mut()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    /// Those bound to exactly this, on any device.
    pub(super) fn bound_to(&self, addr: IpAddr, port: u16) -> impl Iterator<Item = &Listener> {
        let places = self.bound_to.get(&(port, addr));
        places.into_iter().flatten().filter_map(|place| self.open.get(place))
    }

    /// How many are open on a port.
    pub(super) fn count_on(&self, port: u16) -> usize {
        self.on_port.get(&port).copied().unwrap_or(0)
    }

    /// The one on a port that opened first.
    pub(super) fn oldest_on(&self, port: u16) -> Option<&Listener> {
        self.open.get(self.oldest.get(&port)?)
    }

    /// Notes what a new query shows of a known listener: the process that holds it now, and its accept queue's bound.
    pub(super) fn renew(&mut self, found: &Listener) {
        let place = place(found.key);
        if let Some(known) = self.open.get_mut(&place).filter(|known| known.key.is_same(found.key)) {
            known.process = found.process.clone();
            known.backlog = found.backlog.or(known.backlog);
            if found.process.pid.is_some() {
                self.orphans.remove(&place);
            }
        }
    }

    /// A process has ended: what it held and is still open, another process holds.
    pub(super) fn owner_ended(&mut self, pid: u32, status: ExitStatus) {
        let of_it = self.open.iter().filter(|(_, listener)| listener.process.pid == Some(pid));
        self.orphans.extend(of_it.map(|(place, listener)| (*place, (listener.process.clone(), status))));
    }

    /// The process that opened a listener, or was found first to hold it.
    pub(super) fn origin(&self, key: SocketKey) -> Option<u32> {
        let opener = self.get(key)?.opener.as_ref();
        opener.map_or_else(|| self.first.get(&place(key)).copied(), |opener| opener.pid)
    }

    /// The process that owned a listener before, and how it ended.
    pub(super) fn orphaned_by(&self, key: SocketKey) -> Option<&(Process, ExitStatus)> {
        self.orphans.get(&place(key))
    }
}
