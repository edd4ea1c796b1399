//! What the processes of a namespace listen on besides the watched ports: other TCP ports, Unix sockets, UDP ports.

use std::collections::VecDeque;

use crate::model::hash::HashMap;
use crate::model::local_socket::{LocalEndpoint, LocalSocket};
use crate::model::socket::{Listener, NetnsId, SocketKey};
use crate::model::time::{Interval, Mono};
use crate::state::quota;

/// Namespaces of which it is remembered what servers listen on besides the watched ports.
const OTHER_PORTS_MAX: usize = 256;

/// Listeners of followed processes that are remembered, and closings of such: a server opens a few ports, and what opened or
/// closed long ago a query shows.
const SEEN_MAX: usize = 1_024;

/// Processes of which it is remembered what they listen on besides TCP.
const LOCAL_SOCKETS_MAX: usize = 1_024;

/// Listeners of a namespace on ports that are not watched.
#[derive(Debug)]
struct OtherPorts {
    read: Interval,
    listeners: Vec<Listener>,
    /// One without a time was open by then.
    dated_since: Mono,
    /// Processes that have ended since, and their listeners with them.
    ended: Vec<(u32, Mono)>,
}

/// A listener of a followed process that was seen to open.
#[derive(Debug)]
struct Seen {
    listener: Listener,
    closed: Option<Mono>,
}

/// A listener of a followed process that was seen to close.
#[derive(Clone, Copy, Debug)]
struct SeenClosing {
    netns: NetnsId,
    key: SocketKey,
    time: Mono,
}

/// What a process listens on besides TCP.
#[derive(Debug)]
struct LocalSockets {
    read: Interval,
    endpoints: Vec<LocalEndpoint>,
}

/// The sockets of servers that no client of a watched port reaches.
#[derive(Debug, Default)]
pub struct Elsewhere {
    other_ports: HashMap<NetnsId, OtherPorts>,
    /// In the order in which they opened.
    seen: VecDeque<Seen>,
    /// In the order in which they closed.
    closings: VecDeque<SeenClosing>,
    /// When records were lost last.
    lost_until: Mono,
    local_sockets: HashMap<u32, LocalSockets>,
}

impl Elsewhere {
    /// Takes the listeners of a namespace on ports that are not watched. `dated_since`: one without a time was open by then.
    pub fn set_other_ports(
        &mut self,
        netns: NetnsId,
        listeners: Vec<Listener>,
        dated_since: Option<Mono>,
        read: Interval,
    ) {
        if self.other_ports.len() >= OTHER_PORTS_MAX && !self.other_ports.contains_key(&netns) {
            let oldest =
                self.other_ports.iter().min_by_key(|(_, other)| other.read.ended).map(|(netns, _)| *netns);
            oldest.and_then(|netns| self.other_ports.remove(&netns));
        }
        // One that the dump does not list has closed, though that was not recorded.
        let is_listed = |seen: &Seen| listeners.iter().any(|one| one.key.is_same(seen.listener.key));
        self.seen.retain(|seen| {
            seen.listener.netns != netns
                || seen.closed.is_some()
                || seen.listener.since >= Some(read.began)
                || is_listed(seen)
        });
        let dated_since = dated_since.unwrap_or(read.ended);
        self.other_ports.insert(netns, OtherPorts { read, listeners, dated_since, ended: Vec::new() });
    }

    /// By when those listeners of a namespace were open of which it is not known when they opened.
    pub fn dated_since(&self, netns: NetnsId) -> Option<Mono> {
        self.other_ports.get(&netns).map(|other| other.dated_since.max(self.lost_until))
    }

    /// When the other ports of a namespace were read.
    pub fn other_ports_read(&self, netns: NetnsId) -> Option<Interval> {
        self.other_ports.get(&netns).map(|other| other.read)
    }

    /// What a process listened on at that time besides the watched ports, as far as it was read, or seen since.
    pub fn other_listeners(&self, netns: NetnsId, pid: u32, at: Mono) -> impl Iterator<Item = &Listener> {
        self.asked_for(netns, at, move |listener| listener.process.pid == Some(pid))
    }

    /// The same of every process of a namespace that had not ended by that time.
    pub fn all_other_listeners(&self, netns: NetnsId, at: Mono) -> impl Iterator<Item = &Listener> {
        self.asked_for(netns, at, |_| true)
    }

    fn asked_for(
        &self,
        netns: NetnsId,
        at: Mono,
        is_asked: impl Fn(&Listener) -> bool + Copy,
    ) -> impl Iterator<Item = &Listener> {
        let read = self.other_ports.get(&netns);
        let has_ended = move |listener: &Listener| {
            let mut ended = read.into_iter().flat_map(|other| &other.ended);
            ended.any(|(pid, time)| listener.process.pid == Some(*pid) && *time <= at)
        };
        // One that listens again after it closed has another time.
        let had_closed = move |listener: &Listener| {
            let mut closings = self.closings.iter().filter(|one| one.netns == netns && one.time <= at);
            closings.any(|one| one.key.is_same(listener.key) && listener.since <= Some(one.time))
        };
        // A dump that was read while its process ended does not show which one that was.
        let is_read = move |listener: &Listener| {
            let is_it = |one: &Listener| one.key.is_same(listener.key) && one.process.pid.is_some();
            read.is_some_and(|other| other.listeners.iter().any(is_it))
        };
        let is_seen = move |listener: &Listener| {
            let is_it = |seen: &Seen| seen.listener.key.is_same(listener.key);
            listener.process.pid.is_none() && self.seen.iter().any(is_it)
        };
        // First what costs least: there may be many of others.
        let read_here = read.into_iter().flat_map(|other| &other.listeners);
        let read_here = read_here.filter(move |listener| {
            is_asked(listener) && !has_ended(listener) && !had_closed(listener) && !is_seen(listener)
        });
        let seen = self.seen.iter().filter(move |Seen { listener, closed }| {
            let is_open = listener.since <= Some(at) && closed.is_none_or(|closed| closed > at);
            is_open && listener.netns == netns && is_asked(listener) && !is_read(listener)
        });
        read_here.chain(seen.map(|seen| &seen.listener))
    }

    /// A followed process listens on a port that is not watched.
    pub fn opened(&mut self, listener: Listener) {
        if self.seen.len() >= SEEN_MAX {
            // One that has closed explains the least; of those that are open, no user drops another's.
            let owners = self.seen.iter().map(|seen| quota::owner(&seen.listener));
            let closed = self.seen.iter().position(|seen| seen.closed.is_some());
            let place = closed.or_else(|| quota::first_of_most(owners)).unwrap_or(0);
            self.seen.remove(place);
        }
        self.seen.push_back(Seen { listener, closed: None });
    }

    /// Records were lost until then, perhaps that of a closing: what is open is for a dump to show. And a listener without a
    /// time may have opened while a program was skipped.
    pub fn lost(&mut self, until: Mono) {
        self.lost_until = self.lost_until.max(until);
        self.seen.retain(|seen| seen.closed.is_some());
    }

    /// The listeners of followed processes that were seen to open, and are open.
    pub fn open(&self) -> impl Iterator<Item = &Listener> {
        self.seen.iter().filter(|seen| seen.closed.is_none()).map(|seen| &seen.listener)
    }

    /// Whether a socket is known to listen on a port that was not watched.
    pub fn is_known(&self, netns: NetnsId, key: SocketKey) -> bool {
        let read = self.other_ports.get(&netns).into_iter().flat_map(|other| &other.listeners);
        let seen = self.seen.iter().map(|seen| &seen.listener).filter(|listener| listener.netns == netns);
        read.chain(seen).any(|listener| listener.key.is_same(key))
    }

    /// A socket listens no more. Gives the process that opened it, where that was seen.
    pub fn closed(&mut self, netns: NetnsId, key: SocketKey, time: Mono) -> Option<u32> {
        let is_it = |one: &Listener| one.netns == netns && one.key.is_same(key);
        let mut open = self.seen.iter_mut().filter(|seen| seen.closed.is_none());
        let opener = open.find(|seen| is_it(&seen.listener)).and_then(|seen| {
            seen.closed = Some(time);
            seen.listener.process.pid
        });
        if self.closings.len() >= SEEN_MAX {
            self.closings.pop_front();
        }
        self.closings.push_back(SeenClosing { netns, key, time });
        opener
    }

    /// Takes what processes listen on besides TCP.
    pub fn set_local_sockets(&mut self, pids: &[u32], sockets: Vec<LocalSocket>, read: Interval) {
        if self.local_sockets.len() + pids.len() > LOCAL_SOCKETS_MAX {
            self.local_sockets.clear();
        }
        for pid in pids {
            self.local_sockets.insert(*pid, LocalSockets { read, endpoints: Vec::new() });
        }
        for LocalSocket { pid, endpoint } in sockets {
            if let Some(known) = self.local_sockets.get_mut(&pid) {
                known.endpoints.push(endpoint);
            }
        }
    }

    /// When it was read what a process listens on besides TCP.
    pub fn local_sockets_read(&self, pid: u32) -> Option<Interval> {
        self.local_sockets.get(&pid).map(|known| known.read)
    }

    /// What a process listens on besides TCP.
    pub fn local_sockets(&self, pid: u32) -> &[LocalEndpoint] {
        self.local_sockets.get(&pid).map(|known| known.endpoints.as_slice()).unwrap_or_default()
    }

    /// A process has ended, and with it its sockets.
    pub fn ended(&mut self, pid: u32, time: Mono) {
        for other in self.other_ports.values_mut() {
            if other.listeners.iter().any(|listener| listener.process.pid == Some(pid)) {
                other.ended.push((pid, time));
            }
        }
        self.local_sockets.remove(&pid);
    }

    /// Forgets everything about a namespace.
    pub fn forget(&mut self, netns: NetnsId) {
        self.other_ports.remove(&netns);
        self.seen.retain(|seen| seen.listener.netns != netns);
        self.closings.retain(|closing| closing.netns != netns);
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use crate::model::process::Process;

    const HERE: NetnsId = NetnsId(1);

    fn listener(inode: u64, uid: u32, since: u64) -> Listener {
        Listener {
            key: SocketKey { inode, cookie: 0 },
            netns: HERE,
            addr: Ipv4Addr::UNSPECIFIED.into(),
            port: 9_100,
            v6only: None,
            device: None,
            backlog: None,
            since: Some(Mono(since)),
            process: Process { pid: Some(7), uid: Some(uid), ..Process::default() },
            opener: None,
        }
    }

    fn count(elsewhere: &Elsewhere, at: u64) -> usize {
        elsewhere.other_listeners(HERE, 7, Mono(at)).count()
    }

    #[test]
    fn a_closing_that_was_not_recorded_leaves_no_listener() {
        let opened = || {
            let mut elsewhere = Elsewhere::default();
            elsewhere.opened(listener(1, 0, 10));
            elsewhere
        };
        assert_eq!((count(&opened(), 9), count(&opened(), 20)), (0, 1));
        let read = |began| Interval { began: Mono(began), ended: Mono(began + 5) };
        let mut elsewhere = opened();
        elsewhere.set_other_ports(HERE, Vec::new(), None, read(5));
        assert_eq!(count(&elsewhere, 30), 1, "it opened while the namespace was read");
        elsewhere.set_other_ports(HERE, Vec::new(), None, read(20));
        assert_eq!(count(&elsewhere, 30), 0);
        let mut elsewhere = opened();
        elsewhere.set_other_ports(HERE, vec![listener(1, 0, 10)], None, read(20));
        assert_eq!(count(&elsewhere, 30), 1, "once, though it was read and seen");
        let mut elsewhere = opened();
        let of_nobody = Listener { process: Process::default(), ..listener(1, 0, 10) };
        elsewhere.set_other_ports(HERE, vec![of_nobody], None, read(20));
        assert_eq!(count(&elsewhere, 30), 1, "it was read while its process ended");
        assert_eq!(elsewhere.all_other_listeners(HERE, Mono(30)).count(), 1);
        let mut elsewhere = opened();
        elsewhere.set_other_ports(HERE, Vec::new(), Some(Mono(4)), read(5));
        assert_eq!(elsewhere.dated_since(HERE), Some(Mono(4)));
        elsewhere.lost(Mono(25));
        assert_eq!((count(&elsewhere, 30), elsewhere.dated_since(HERE)), (0, Some(Mono(25))));
    }

    #[test]
    fn no_user_drops_what_another_listens_on() {
        let mut elsewhere = Elsewhere::default();
        elsewhere.opened(listener(1, 0, 10));
        for inode in 2..3 * SEEN_MAX as u64 {
            elsewhere.opened(listener(inode, 1_001, 10));
        }
        assert!(elsewhere.seen.len() <= SEEN_MAX);
        assert!(elsewhere.is_known(HERE, SocketKey { inode: 1, cookie: 0 }));
    }

    #[test]
    fn other_ports_take_no_more_room_than_their_bound() {
        let mut elsewhere = Elsewhere::default();
        for number in 0..3 * OTHER_PORTS_MAX as u32 {
            let read = Interval { began: Mono(u64::from(number)), ended: Mono(u64::from(number)) };
            elsewhere.set_other_ports(NetnsId(number), Vec::new(), None, read);
            assert!(elsewhere.other_ports.len() <= OTHER_PORTS_MAX);
        }
        assert!(
            elsewhere.other_ports_read(NetnsId(3 * OTHER_PORTS_MAX as u32 - 1)).is_some(),
            "the newest stays"
        );
    }
}
