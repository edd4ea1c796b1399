//! The listeners on watched ports: the open ones of every namespace, and the history of those that have closed.

use std::collections::VecDeque;
use std::net::IpAddr;

use crate::model::hash::HashMap;
use crate::model::process::{ExitStatus, OwnerEnd, Process};
use crate::model::socket::{Listener, NetnsId, SocketKey};
use crate::model::time::{Interval, Mono};
use crate::state::open_listeners::{OpenListeners, count};
use crate::state::quota::{self, Dropped, Uid};

/// Endpoints of one namespace whose last close is remembered: more than a host's servers have. Those of the user that has
/// the most go first.
const CLOSED_PER_NETNS: usize = 64;

/// Closed listeners remembered in all, likewise: a few megabytes at most.
const CLOSED_MAX: usize = 4_096;

/// Closed listeners that are dropped together where there are too many in all: to find them costs as much as for one.
const DROPPED_TOGETHER: usize = 64;

/// How long every closed listener is remembered besides, whatever took its place: a refusal that waits for its evidence is
/// classified by what was open when it came, as late as it may be.
const RECENT_NS: u64 = 12_000_000_000;

/// Listeners that closed that recently: more at a time are a flood of them.
const RECENT_MAX: usize = 1_024;

/// A process that ends so soon after it has closed a listener has closed it because it ends: a server that ends in order
/// closes first.
pub const ENDING_NS: u64 = 100_000_000;

/// How long a listener is open to count as a server's: less is a probe of the port.
pub const SERVED_NS: u64 = 50_000_000;

/// A listener that has closed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClosedListener {
    pub listener: Listener,
    pub time: Mono,
    pub owner: OwnerEnd,
    /// The process that was known to hold it, where another one closed it.
    pub before: Option<Box<Process>>,
    /// The process whose fork closed it, and that executed the program of both.
    pub root: Option<u32>,
    /// execve() closed it: it was the earlier program's.
    pub is_by_exec: bool,
}

impl ClosedListener {
    /// One that nothing more is known of.
    pub fn new(listener: Listener, time: Mono, owner: OwnerEnd) -> Self {
        Self { listener, time, owner, before: None, root: None, is_by_exec: false }
    }

    /// Whether the process that closed it had it from another one, as far as is known: that one may still run.
    pub fn is_by_fork(&self) -> bool {
        let is_another = |process: &Process| process.pid != self.listener.process.pid;
        self.root.is_some() || self.holders_before().any(is_another)
    }

    /// The processes that opened it and that held it before, as far as they are known.
    pub fn holders_before(&self) -> impl Iterator<Item = &Process> {
        self.listener.opener.as_deref().into_iter().chain(self.before.as_deref())
    }

    /// Whether it was open for a moment only, by a process that is still running: it tried whether the port is free.
    pub fn is_probe(&self) -> bool {
        self.is_short() && self.owner == OwnerEnd::Running
    }

    /// Whether it was open for a moment only, whatever became of its process.
    pub fn is_short(&self) -> bool {
        self.listener.since.is_some_and(|since| self.time.since(since) < SERVED_NS)
    }
}

/// The listeners of one namespace.
#[derive(Debug, Default)]
struct Local {
    open: OpenListeners,
    /// The last to close of each endpoint, and before one that was open for a moment the last that served; the newest last.
    closed: VecDeque<ClosedListener>,
    /// Those that the bounds have dropped, by port.
    forgotten: HashMap<u16, Dropped>,
}

/// Every listener on a watched port, by namespace.
#[derive(Debug, Default)]
pub struct Listeners {
    netns: HashMap<NetnsId, Local>,
    /// How many are open on each port, in all namespaces.
    on_port: HashMap<u16, usize>,
    closed: usize,
    /// Every listener that closed a moment ago, the newest last.
    recent: VecDeque<ClosedListener>,
    /// When the newest of those closed that are not among them any more.
    recent_dropped: Option<Mono>,
    /// Listeners that opened a moment ago, the newest last.
    recent_openings: VecDeque<(NetnsId, SocketKey, Mono)>,
    /// When the newest of those opened that are not among them any more.
    openings_dropped: Option<Mono>,
}

/// Whether one listener takes the place of the other when it opens: the history of an endpoint is its last
/// listener.
fn is_same_endpoint(one: &Listener, other: &Listener) -> bool {
    (one.port, one.addr, one.device, one.v6only) == (other.port, other.addr, other.device, other.v6only)
}

impl Local {
    /// Drops the listener at a place of those that have closed.
    fn drop_closed(&mut self, place: usize) -> bool {
        let Some(closed) = self.closed.remove(place) else { return false };
        let dropped = self.forgotten.entry(closed.listener.port).or_default();
        dropped.note(quota::owner(&closed.listener), closed.time);
        true
    }

    fn is_empty(&self) -> bool {
        self.open.is_empty() && self.closed.is_empty()
    }
}

impl Listeners {
    /// The open listeners of one namespace, in no order.
    pub fn open_in(&self, netns: NetnsId) -> impl Iterator<Item = &Listener> {
        self.netns.get(&netns).into_iter().flat_map(|local| local.open.iter())
    }

    /// Every open listener, in no order.
    pub fn open(&self) -> impl Iterator<Item = &Listener> {
        self.netns.values().flat_map(|local| local.open.iter())
    }

    /// The open listeners on a port of one namespace, in no order.
    pub fn open_on(&self, netns: NetnsId, port: u16) -> impl Iterator<Item = &Listener> {
        // Where none is on the port, those on the other ports are not walked.
        let open = (self.count_in(netns, port) > 0).then(|| self.open_in(netns));
        open.into_iter().flatten().filter(move |listener| listener.port == port)
    }

    /// The open listeners bound to exactly this, on any device.
    pub fn bound_to(&self, netns: NetnsId, addr: IpAddr, port: u16) -> impl Iterator<Item = &Listener> {
        self.netns.get(&netns).into_iter().flat_map(move |local| local.open.bound_to(addr, port))
    }

    /// How many listeners are open on a port of one namespace.
    pub fn count_in(&self, netns: NetnsId, port: u16) -> usize {
        self.netns.get(&netns).map_or(0, |local| local.open.count_on(port))
    }

    /// How many listeners are open on a port, in all namespaces.
    pub fn count(&self, port: u16) -> usize {
        self.on_port.get(&port).copied().unwrap_or(0)
    }

    /// The listener on a port of one namespace that opened first.
    pub fn oldest_on(&self, netns: NetnsId, port: u16) -> Option<&Listener> {
        self.netns.get(&netns)?.open.oldest_on(port)
    }

    /// The open listeners of one namespace that a process holds.
    pub fn held_by(&self, netns: NetnsId, pid: u32) -> impl Iterator<Item = &Listener> {
        self.open_in(netns).filter(move |listener| listener.process.pid == Some(pid))
    }

    /// The closed listeners of one namespace, the newest first.
    pub fn closed_in(&self, netns: NetnsId) -> impl Iterator<Item = &ClosedListener> {
        self.netns.get(&netns).into_iter().flat_map(|local| local.closed.iter().rev())
    }

    /// Every closed listener that is remembered, in no order.
    pub fn every_closed(&self) -> impl Iterator<Item = &ClosedListener> {
        self.netns.values().flat_map(|local| &local.closed)
    }

    /// When the newest listener on a port of one namespace closed that is not remembered any more and may be of a process's
    /// user.
    pub fn forgotten_in(&self, netns: NetnsId, port: u16, of: Option<&Process>) -> Option<Mono> {
        self.netns.get(&netns)?.forgotten.get(&port)?.newest_of(of)
    }

    pub fn get(&self, netns: NetnsId, key: SocketKey) -> Option<&Listener> {
        self.netns.get(&netns)?.open.get(key)
    }

    /// Whether the socket is known to have closed at `since` or later.
    pub fn closed_since(&self, netns: NetnsId, key: SocketKey, since: Mono) -> bool {
        let recent = self.recent.iter().filter(|closed| closed.listener.netns == netns);
        let mut closed = self.closed_in(netns).chain(recent);
        closed.any(|closed| closed.time >= since && closed.listener.key.is_same(key))
    }

    /// Whether a socket that has closed listened by then.
    pub fn was_open_before(&self, netns: NetnsId, key: SocketKey, time: Mono) -> bool {
        let recent = self.recent.iter().filter(|closed| closed.listener.netns == netns);
        let mut closed = self.closed_in(netns).chain(recent).map(|closed| &closed.listener);
        closed.any(|listener| listener.key.is_same(key) && listener.since.is_none_or(|since| since <= time))
    }

    /// Whether more listeners have closed since than are remembered one by one.
    pub fn has_forgotten_closes_since(&self, since: Mono) -> bool {
        self.recent_dropped.is_some_and(|dropped| dropped >= since)
    }

    /// Whether listeners have opened or closed since that moment which are not remembered one by one, so that it is not known
    /// what was open then.
    pub fn has_forgotten_since(&self, moment: Mono) -> bool {
        self.recent_dropped.max(self.openings_dropped).is_some_and(|dropped| dropped > moment)
    }

    /// Whether a dump of a namespace, or of all, was taken while a listener of it closed.
    pub fn closed_during(&self, netns: Option<NetnsId>, read: Interval) -> bool {
        self.recent.iter().any(|closed| {
            netns.is_none_or(|netns| netns == closed.listener.netns)
                && closed.time >= read.began
                && closed.time <= read.ended
        })
    }

    /// The open listeners on a port, in all namespaces, that opened after `moment`, which is a moment ago at most.
    pub fn opened_after(&self, port: u16, moment: Mono) -> impl Iterator<Item = &Listener> {
        let opened = self.recent_openings.iter().rev().take_while(move |(.., time)| *time > moment);
        let listeners = opened.filter_map(|(netns, key, time)| {
            self.get(*netns, *key).filter(|listener| listener.since == Some(*time))
        });
        listeners.filter(move |listener| listener.port == port)
    }

    /// Adds what was found out of a process to the listeners that it holds.
    pub fn describe(&mut self, process: &Process) {
        for local in self.netns.values_mut() {
            let before = local.closed.iter_mut().filter_map(|closed| closed.before.as_deref_mut());
            before.for_each(|before| before.complete(process));
            let closed = local.closed.iter_mut().map(|closed| &mut closed.listener);
            for listener in local.open.iter_mut().chain(closed) {
                listener.process.complete(process);
                if let Some(opener) = &mut listener.opener {
                    opener.complete(process);
                }
            }
        }
    }

    /// Adds a listener, in place of one with the same key.
    pub fn insert(&mut self, listener: Listener) {
        if let Some(since) = listener.since {
            let is_old = |(_, _, time): &(NetnsId, SocketKey, Mono)| since.since(*time) > RECENT_NS;
            while self.recent_openings.len() >= RECENT_MAX || self.recent_openings.front().is_some_and(is_old)
            {
                let dropped = self.recent_openings.pop_front().map(|(.., time)| time);
                self.openings_dropped = dropped.max(self.openings_dropped);
            }
            self.recent_openings.push_back((listener.netns, listener.key, since));
        }
        count(&mut self.on_port, listener.port, 1);
        if let Some(replaced) = self.netns.entry(listener.netns).or_default().open.insert(listener) {
            count(&mut self.on_port, replaced.port, -1);
        }
    }

    /// Takes a listener out without remembering it.
    pub fn remove(&mut self, netns: NetnsId, key: SocketKey) -> Option<Listener> {
        let listener = self.netns.get_mut(&netns)?.open.remove(key)?;
        count(&mut self.on_port, listener.port, -1);
        Some(listener)
    }

    /// The listeners, in all namespaces, that closed after `moment`, which is a moment ago at most.
    pub fn closed_after(&self, moment: Mono) -> impl Iterator<Item = &ClosedListener> {
        self.recent.iter().rev().filter(move |closed| closed.time > moment)
    }

    /// Remembers a listener that has closed.
    pub fn remember(&mut self, closed: ClosedListener) {
        let is_old = |recent: &ClosedListener| closed.time.since(recent.time) > RECENT_NS;
        while self.recent.len() >= RECENT_MAX || self.recent.front().is_some_and(is_old) {
            self.recent_dropped =
                self.recent.pop_front().map(|dropped| dropped.time).max(self.recent_dropped);
        }
        self.recent.push_back(closed.clone());
        let local = self.netns.entry(closed.listener.netns).or_default();
        let before = local.closed.len();
        // One that only tried the port takes no server's place in the history.
        let is_same = |other: &ClosedListener| is_same_endpoint(&other.listener, &closed.listener);
        if closed.is_probe() && local.closed.iter().any(|other| is_same(other) && !other.is_probe()) {
            return;
        }
        // Beside one that was open for a moment the last that served stays.
        local.closed.retain(|other| !is_same(other) || closed.is_short() && !other.is_short());
        local.closed.push_back(closed);
        if local.closed.len() > CLOSED_PER_NETNS
            && let Some(place) =
                quota::first_of_most(local.closed.iter().map(|closed| quota::owner(&closed.listener)))
        {
            local.drop_closed(place);
        }
        self.closed = self.closed + local.closed.len() - before;
        if self.closed > CLOSED_MAX {
            self.forget_oldest();
        }
    }

    /// Notes what a new query shows of a known listener: the process that holds it now, and its accept queue's bound.
    pub fn renew(&mut self, found: &Listener) {
        if let Some(local) = self.netns.get_mut(&found.netns) {
            local.open.renew(found);
        }
    }

    /// Whether the process that a query found to hold a listener had ended by then, as far as is known: the kernel
    /// reports the end of a process before it closes its files (`do_exit`, kernel/exit.c; Linux 6.18).
    pub fn is_let_go(&self, found: &Listener) -> bool {
        let orphaned = self.orphaned_by(found.netns, found.key);
        orphaned.is_some_and(|(ended, _)| ended.is_same(&found.process))
    }

    /// The process that opened an open listener, or was found first to hold it.
    pub fn origin(&self, netns: NetnsId, key: SocketKey) -> Option<u32> {
        self.netns.get(&netns)?.open.origin(key)
    }

    /// The process that owned an open listener before, and how it ended.
    pub fn orphaned_by(&self, netns: NetnsId, key: SocketKey) -> Option<&(Process, ExitStatus)> {
        self.netns.get(&netns)?.open.orphaned_by(key)
    }

    /// A process has ended: what it had closed since it executed its program, it does not open again; and what it had opened
    /// and is open still, another holds.
    pub fn owner_ended(&mut self, pid: u32, since: Option<Mono>, time: Mono, status: ExitStatus) {
        self.netns.values_mut().for_each(|local| local.open.owner_ended(pid, status));
        for closed in self.netns.values_mut().flat_map(|local| &mut local.closed) {
            // One that only tried the port went on without it.
            let was_probe = closed.is_probe() && time.since(closed.time) >= ENDING_NS;
            let has_ended = matches!(closed.owner, OwnerEnd::Ended(_));
            let is_since = since.is_none_or(|since| closed.time >= since && !closed.is_by_exec);
            let is_of_it = closed.listener.process.pid == Some(pid) && is_since;
            if is_of_it && !has_ended && !was_probe {
                closed.owner = OwnerEnd::Ended(status);
            }
        }
    }

    /// Drops a few that closed longest ago, in all namespaces, of the user that has the most.
    fn forget_oldest(&mut self) {
        let mut closed: Vec<(Mono, NetnsId, usize, Uid)> = Vec::with_capacity(self.closed);
        for (netns, local) in &self.netns {
            let of_netns = local.closed.iter().enumerate();
            closed
                .extend(of_netns.map(|(place, one)| (one.time, *netns, place, quota::owner(&one.listener))));
        }
        closed.sort_unstable();
        let first = quota::first_of_most(closed.iter().map(|(.., uid)| *uid));
        let Some((.., most)) = first.and_then(|first| closed.get(first)).copied() else { return };
        let of_most = closed.into_iter().filter(|(.., uid)| *uid == most).take(DROPPED_TOGETHER);
        // From the back, so that the places of the others stay.
        for (_, netns, place, _) in of_most.collect::<Vec<_>>().into_iter().rev() {
            if self.netns.get_mut(&netns).is_some_and(|local| local.drop_closed(place)) {
                self.closed -= 1;
            }
        }
        self.netns.retain(|_, local| !local.is_empty());
    }

    /// Forgets everything about a namespace: its number now belongs to another.
    pub fn forget(&mut self, netns: NetnsId) {
        let Some(local) = self.netns.remove(&netns) else { return };
        self.closed -= local.closed.len();
        local.open.iter().for_each(|listener| count(&mut self.on_port, listener.port, -1));
    }

    /// Forgets everything about a port that is not watched any more.
    pub fn forget_port(&mut self, port: u16) {
        for local in self.netns.values_mut() {
            local.open.forget_port(port);
            let before = local.closed.len();
            local.closed.retain(|closed| closed.listener.port != port);
            self.closed -= before - local.closed.len();
            local.forgotten.remove(&port);
        }
        self.on_port.remove(&port);
        self.recent.retain(|closed| closed.listener.port != port);
        self.netns.retain(|_, local| !local.is_empty());
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
            opener: None,
        }
    }

    fn closed(inode: u64, addr: [u8; 4]) -> ClosedListener {
        ClosedListener::new(listener(inode, addr), Mono(inode), OwnerEnd::Unknown)
    }

    #[test]
    fn the_index_follows_every_change() {
        let mut table = Listeners::default();
        let at = |table: &Listeners, addr: [u8; 4]| {
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
    fn each_of_those_that_closed_a_moment_ago_is_remembered() {
        let mut table = Listeners::default();
        let closed_since = |table: &Listeners, inode| {
            table.closed_since(NetnsId(1), SocketKey { inode, cookie: 0 }, Mono(inode))
        };
        for inode in 1..=RECENT_MAX as u64 {
            table.remember(closed(inode, [10, 0, 0, 1]));
        }
        assert!((1..=RECENT_MAX as u64).all(|inode| closed_since(&table, inode)));
        assert!(!table.has_forgotten_closes_since(Mono(0)));
        table.remember(closed(RECENT_MAX as u64 + 1, [10, 0, 0, 1]));
        assert!(!closed_since(&table, 1) && closed_since(&table, 2));
        assert!(table.has_forgotten_closes_since(Mono(1)) && !table.has_forgotten_closes_since(Mono(2)));
    }

    #[test]
    fn nothing_is_left_of_a_port_that_is_forgotten() {
        let mut table = Listeners::default();
        let other = |listener: Listener| Listener { port: 81, ..listener };
        table.insert(listener(1, [10, 0, 0, 1]));
        table.insert(other(listener(2, [10, 0, 0, 1])));
        table.remember(closed(3, [10, 0, 0, 2]));
        table.remember(ClosedListener {
            listener: other(listener(4, [10, 0, 0, 2])),
            ..closed(4, [10, 0, 0, 2])
        });
        table.forget_port(81);
        assert_eq!((table.count(80), table.count(81), table.open().count()), (1, 0, 1));
        let closed: Vec<u16> = table.closed_in(NetnsId(1)).map(|closed| closed.listener.port).collect();
        assert_eq!((closed, table.closed), (vec![80], 1));
        assert_eq!(table.closed_after(Mono(0)).count(), 1);
    }

    #[test]
    fn a_listener_that_comes_and_goes_has_one_place_in_the_history() {
        let mut table = Listeners::default();
        table.remember(closed(1, [10, 0, 0, 1]));
        for inode in 2..10_000 {
            table.remember(closed(inode, [10, 0, 0, 2]));
        }
        let closed: Vec<u64> = table.closed_in(NetnsId(1)).map(|closed| closed.listener.key.inode).collect();
        assert_eq!(closed, [9_999, 1]);
        assert_eq!(table.forgotten_in(NetnsId(1), 80, None), None);
    }

    #[test]
    fn what_the_bound_drops_is_known_to_be_missing() {
        let mut table = Listeners::default();
        for inode in 1..=CLOSED_PER_NETNS as u64 + 3 {
            table.remember(closed(inode, [10, 0, 0, inode as u8]));
        }
        assert_eq!(table.closed_in(NetnsId(1)).count(), CLOSED_PER_NETNS);
        assert_eq!(table.forgotten_in(NetnsId(1), 80, None), Some(Mono(3)));
        assert_eq!(table.forgotten_in(NetnsId(1), 81, None), None);
    }

    #[test]
    fn one_user_drops_nothing_of_another_who_has_less() {
        let of = |uid: u32, inode: u64, netns: u32| {
            let mut closed = closed(inode, [10, (inode >> 8) as u8, inode as u8, 1]);
            closed.listener.process.uid = Some(uid);
            closed.listener.netns = NetnsId(netns);
            closed
        };
        let known = |table: &Listeners, uid| {
            table.every_closed().filter(|closed| closed.listener.process.uid == Some(uid)).count()
        };
        let root = Process { uid: Some(0), ..Process::default() };
        let mut table = Listeners::default();
        (1..=3).for_each(|inode| table.remember(of(0, inode, 1)));
        (4..200).for_each(|inode| table.remember(of(1000, inode, 1)));
        assert_eq!((known(&table, 0), table.closed_in(NetnsId(1)).count()), (3, CLOSED_PER_NETNS));
        assert_eq!(table.forgotten_in(NetnsId(1), 80, Some(&root)), None);
        assert!(table.forgotten_in(NetnsId(1), 80, None).is_some());
        // In many namespaces.
        for inode in 200..200 + CLOSED_MAX as u64 {
            table.remember(of(1000, inode, 2 + (inode / 32) as u32));
        }
        assert_eq!((known(&table, 0), table.closed <= CLOSED_MAX), (3, true));
        assert!(table.closed > CLOSED_MAX - 2 * DROPPED_TOGETHER, "{}", table.closed);
        assert_eq!(table.every_closed().count(), table.closed);
    }
}
