//! The table of listeners: which there are, and which there were.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;
use std::net::IpAddr;

use crate::event::{ExitStatus, Listener, Mono, NetnsId, SocketKey};
use crate::line::Process;

/// Endpoints of one namespace whose last close is remembered: more than a host's servers have.
const CLOSED_PER_NETNS: usize = 64;

/// Closed listeners remembered in all: a few megabytes at most.
const CLOSED_MAX: usize = 4_096;

/// Room for open listeners of one namespace that is kept.
const ROOM_KEPT: usize = 256;

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
    /// Places of the open ones by what they are bound to, so that a lookup costs the same beside ten thousand.
    bound_to: HashMap<(u16, IpAddr), Vec<u64>>,
    /// How many are open on each port.
    on_port: HashMap<u16, usize>,
    /// Open ones whose owner has ended, and how: another holds them, or will close them.
    orphans: HashMap<u64, (Process, ExitStatus)>,
    /// The last to close of each endpoint, the newest last.
    closed: VecDeque<Gone>,
    /// When the newest of those closed that the bounds have dropped, by port.
    forgotten: HashMap<u16, Mono>,
}

/// Every listener on a watched port, by namespace.
#[derive(Debug, Default)]
pub struct Table {
    netns: HashMap<NetnsId, Local>,
    /// How many are open on each port, in all namespaces.
    on_port: HashMap<u16, usize>,
    closed: usize,
}

/// A socket's place in the table: its inode number, which no two open sockets share; a kernel socket
/// without one has its cookie, out of the way of inode numbers.
fn place(key: SocketKey) -> u64 {
    if key.inode != 0 { key.inode } else { key.cookie | 1 << 63 }
}

/// Whether one listener takes the place of the other when it opens: the history of an endpoint is its last
/// listener.
fn is_same_endpoint(one: &Listener, other: &Listener) -> bool {
    (one.port, one.addr, one.device, one.v6only) == (other.port, other.addr, other.device, other.v6only)
}

/// Adds `step` (1 or -1) to a count that is not kept at 0.
fn count(counts: &mut HashMap<u16, usize>, port: u16, step: isize) {
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

impl Local {
    fn insert(&mut self, listener: Listener) -> Option<Listener> {
        let place = place(listener.key);
        let replaced = self.remove(place);
        self.bound_to.entry((listener.port, listener.addr)).or_default().push(place);
        count(&mut self.on_port, listener.port, 1);
        self.open.insert(place, listener);
        replaced
    }

    fn remove(&mut self, place: u64) -> Option<Listener> {
        let listener = self.open.remove(&place)?;
        shrink(&mut self.open);
        self.orphans.remove(&place);
        let endpoint = (listener.port, listener.addr);
        if let Some(places) = self.bound_to.get_mut(&endpoint) {
            places.retain(|other| *other != place);
            if places.is_empty() {
                self.bound_to.remove(&endpoint);
                shrink(&mut self.bound_to);
            }
        }
        count(&mut self.on_port, listener.port, -1);
        Some(listener)
    }

    /// Drops the listener that closed longest ago.
    fn forget_oldest(&mut self) -> bool {
        let Some(gone) = self.closed.pop_front() else { return false };
        self.forgotten.insert(gone.listener.port, gone.time);
        true
    }

    fn is_empty(&self) -> bool {
        self.open.is_empty() && self.closed.is_empty()
    }
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

    /// The open listeners bound to exactly this, on any device.
    pub fn bound_to(&self, netns: NetnsId, addr: IpAddr, port: u16) -> impl Iterator<Item = &Listener> {
        let local = self.netns.get(&netns);
        let places = local.and_then(|local| local.bound_to.get(&(port, addr)));
        places.into_iter().flatten().filter_map(move |place| local?.open.get(place))
    }

    /// How many listeners are open on a port of one namespace.
    pub fn count_in(&self, netns: NetnsId, port: u16) -> usize {
        self.netns.get(&netns).and_then(|local| local.on_port.get(&port)).copied().unwrap_or(0)
    }

    /// How many listeners are open on a port, in all namespaces.
    pub fn count(&self, port: u16) -> usize {
        self.on_port.get(&port).copied().unwrap_or(0)
    }

    /// The closed listeners of one namespace, the newest first.
    pub fn closed_in(&self, netns: NetnsId) -> impl Iterator<Item = &Gone> {
        self.netns.get(&netns).into_iter().flat_map(|local| local.closed.iter().rev())
    }

    /// When the newest listener on a port of one namespace closed that is not remembered any more.
    pub fn forgotten_in(&self, netns: NetnsId, port: u16) -> Option<Mono> {
        self.netns.get(&netns)?.forgotten.get(&port).copied()
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
        count(&mut self.on_port, listener.port, 1);
        if let Some(replaced) = self.netns.entry(listener.netns).or_default().insert(listener) {
            count(&mut self.on_port, replaced.port, -1);
        }
    }

    /// Takes a listener out without remembering it.
    pub fn remove(&mut self, netns: NetnsId, key: SocketKey) -> Option<Listener> {
        self.get(netns, key)?;
        let listener = self.netns.get_mut(&netns)?.remove(place(key))?;
        count(&mut self.on_port, listener.port, -1);
        Some(listener)
    }

    /// Remembers a listener that has closed.
    pub fn remember(&mut self, gone: Gone) {
        let local = self.netns.entry(gone.listener.netns).or_default();
        let before = local.closed.len();
        local.closed.retain(|other| !is_same_endpoint(&other.listener, &gone.listener));
        local.closed.push_back(gone);
        if local.closed.len() > CLOSED_PER_NETNS {
            local.forget_oldest();
        }
        self.closed = self.closed + local.closed.len() - before;
        if self.closed > CLOSED_MAX {
            self.forget_oldest();
        }
    }

    /// Notes what a new look says of a listener that is known: who holds it now, and its accept queue's bound.
    pub fn renew(&mut self, found: &Listener) {
        let Some(local) = self.netns.get_mut(&found.netns) else { return };
        let place = place(found.key);
        if let Some(known) = local.open.get_mut(&place).filter(|known| known.key.is_same(found.key)) {
            known.process = found.process.clone();
            known.backlog = found.backlog.or(known.backlog);
            if found.process.pid.is_some() {
                local.orphans.remove(&place);
            }
        }
    }

    /// Who owned an open listener before, and how that process ended.
    pub fn orphaned_by(&self, netns: NetnsId, key: SocketKey) -> Option<&(Process, ExitStatus)> {
        self.netns.get(&netns)?.orphans.get(&place(key))
    }

    /// A process has ended: what it had closed before, it does not open again; and what it had opened and is open
    /// still, another holds.
    pub fn owner_ended(&mut self, pid: u32, status: ExitStatus) {
        for local in self.netns.values_mut() {
            let of_it = local.open.iter().filter(|(_, listener)| listener.process.pid == Some(pid));
            local.orphans.extend(of_it.map(|(place, listener)| (*place, (listener.process.clone(), status))));
        }
        for gone in self.netns.values_mut().flat_map(|local| &mut local.closed) {
            if gone.listener.process.pid == Some(pid) && !matches!(gone.owner, OwnerEnd::Ended(_)) {
                gone.owner = OwnerEnd::Ended(status);
            }
        }
    }

    /// Drops what closed longest ago, of all namespaces.
    fn forget_oldest(&mut self) {
        let oldest = self
            .netns
            .values_mut()
            .min_by_key(|local| local.closed.front().map_or(Mono(u64::MAX), |gone| gone.time));
        if let Some(local) = oldest
            && local.forget_oldest()
        {
            self.closed -= 1;
        }
        self.netns.retain(|_, local| !local.is_empty());
    }

    /// Forgets everything about a namespace: its number now belongs to another.
    pub fn forget(&mut self, netns: NetnsId) {
        let Some(local) = self.netns.remove(&netns) else { return };
        self.closed -= local.closed.len();
        for listener in local.open.into_values() {
            count(&mut self.on_port, listener.port, -1);
        }
    }

    /// Namespaces with an open listener.
    pub fn occupied(&self) -> impl Iterator<Item = NetnsId> {
        self.netns.iter().filter(|(_, local)| !local.open.is_empty()).map(|(netns, _)| *netns)
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    fn listener(inode: u64, addr: [u8; 4]) -> Listener {
        Listener {
            key: SocketKey { inode, cookie: 0 },
            netns: NetnsId(1),
            addr: Ipv4Addr::from(addr).into(),
            port: 80,
            v6only: None,
            device: None,
            backlog: None,
            since: None,
            process: Process::default(),
        }
    }

    fn gone(inode: u64, addr: [u8; 4]) -> Gone {
        Gone { listener: listener(inode, addr), time: Mono(inode), owner: OwnerEnd::Unknown }
    }

    #[test]
    fn the_index_follows_every_change() {
        let mut table = Table::default();
        let at = |table: &Table, addr: [u8; 4]| {
            table
                .bound_to(NetnsId(1), Ipv4Addr::from(addr).into(), 80)
                .map(|one| one.key.inode)
                .collect::<Vec<_>>()
        };
        table.insert(listener(1, [10, 0, 0, 1]));
        table.insert(listener(2, [10, 0, 0, 1]));
        assert_eq!(at(&table, [10, 0, 0, 1]), [1, 2]);
        // The same socket on another address.
        table.insert(listener(1, [10, 0, 0, 2]));
        assert_eq!((at(&table, [10, 0, 0, 1]), at(&table, [10, 0, 0, 2])), (vec![2], vec![1]));
        assert_eq!((table.count_in(NetnsId(1), 80), table.count(80), table.count(81)), (2, 2, 0));
        assert!(table.remove(NetnsId(1), SocketKey { inode: 2, cookie: 0 }).is_some());
        assert_eq!((at(&table, [10, 0, 0, 1]), table.count(80)), (vec![], 1));
        table.forget(NetnsId(1));
        assert_eq!((table.count_in(NetnsId(1), 80), table.count(80)), (0, 0));
    }

    #[test]
    fn a_listener_that_comes_and_goes_has_one_place_in_the_history() {
        let mut table = Table::default();
        table.remember(gone(1, [10, 0, 0, 1]));
        for inode in 2..10_000 {
            table.remember(gone(inode, [10, 0, 0, 2]));
        }
        let closed: Vec<u64> = table.closed_in(NetnsId(1)).map(|gone| gone.listener.key.inode).collect();
        assert_eq!(closed, [9_999, 1]);
        assert_eq!(table.forgotten_in(NetnsId(1), 80), None);
    }

    #[test]
    fn what_the_bound_drops_is_known_to_be_missing() {
        let mut table = Table::default();
        for inode in 1..=CLOSED_PER_NETNS as u64 + 3 {
            table.remember(gone(inode, [10, 0, 0, inode as u8]));
        }
        assert_eq!(table.closed_in(NetnsId(1)).count(), CLOSED_PER_NETNS);
        assert_eq!(table.forgotten_in(NetnsId(1), 80), Some(Mono(3)));
        assert_eq!(table.forgotten_in(NetnsId(1), 81), None);
    }
}
