//! The sockets that hold one port: those that were seen to bind, those that a query of the port found, and those that have
//! closed since.

use std::collections::VecDeque;

use crate::model::kernel_event::{Bound, Destroyed};
use crate::model::process::Process;
use crate::model::socket::{Holder, Listener, SocketKey, TcpState};
use crate::model::time::{Interval, Mono};
use crate::state::quota::{self, Dropped, Uid};

/// Bound sockets on one port of one namespace: as many as the kernel side follows in all.
const FOLLOWED_MAX: usize = tracer_ebpf::BOUND_MAX as usize;

/// Bound sockets remembered on one port of one namespace that are closed: the newest.
const CLOSED_MAX: usize = 16;

/// Sockets of clients remembered on one port of one namespace: the newest, those of the user that has the most going first.
const CLIENTS_MAX: usize = 64;

/// A socket that is bound.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BoundSocket {
    pub socket: Listener,
    /// `None`: that was before the tracer attached.
    pub time: Option<Mono>,
}

/// Which sockets hold a port.
#[derive(Debug)]
struct Holders {
    read: Interval,
    sockets: Vec<Holder>,
}

/// A bound socket whose end the kernel side reports.
#[derive(Debug)]
struct Followed {
    socket: Listener,
    time: Mono,
    /// What the kernel side calls it.
    sock: u64,
}

/// A bound socket that is closed: a refusal that waits for its evidence is classified by what was bound when it came.
#[derive(Debug)]
struct Closed {
    socket: Listener,
    time: Mono,
    closed: Mono,
}

/// The sockets of one port of one namespace.
#[derive(Debug, Default)]
pub(super) struct BoundSockets {
    followed: Vec<Followed>,
    closed: VecDeque<Closed>,
    holders: Option<Holders>,
    /// Sockets that turned out to be clients', the newest, each with its user.
    clients: VecDeque<(SocketKey, Uid)>,
    forgotten_clients: Dropped,
}

impl BoundSockets {
    /// Takes a socket whose end is reported, if there is a place for it.
    pub(super) fn follow(&mut self, bound: &Bound) -> bool {
        let is_followed = bound.is_followed && self.followed.len() < FOLLOWED_MAX;
        if is_followed {
            let Bound { time, ref socket, sock, .. } = *bound;
            self.followed.push(Followed { socket: socket.clone(), time, sock });
        }
        is_followed
    }

    /// The followed sockets, and since when each is bound.
    pub(super) fn followed(&self) -> impl Iterator<Item = (&Listener, Mono)> {
        self.followed.iter().map(|followed| (&followed.socket, followed.time))
    }

    /// The processes that the followed sockets are of.
    pub(super) fn processes_mut(&mut self) -> impl Iterator<Item = &mut Process> {
        self.followed.iter_mut().map(|followed| &mut followed.socket.process)
    }

    /// A followed socket is closed, or a client's: that is given.
    pub(super) fn destroyed(&mut self, destroyed: &Destroyed) -> Option<Listener> {
        let index = self.followed.iter().position(|one| one.sock == destroyed.sock)?;
        let followed = self.followed.swap_remove(index);
        if let Some(holders) = &mut self.holders {
            holders.sockets.retain(|holder| !holder.socket.key.is_same(followed.socket.key));
        }
        if destroyed.is_client {
            self.note_client(&followed);
            return Some(followed.socket);
        }
        if self.closed.len() >= CLOSED_MAX {
            self.closed.pop_front();
        }
        let Followed { socket, time, .. } = followed;
        self.closed.push_back(Closed { socket, time, closed: destroyed.time });
        None
    }

    /// A followed socket turned out to be a client's.
    fn note_client(&mut self, followed: &Followed) {
        self.clients.push_back((followed.socket.key, followed.socket.process.uid));
        if self.clients.len() > CLIENTS_MAX
            && let Some(place) = quota::first_of_most(self.clients.iter().map(|(_, uid)| *uid))
            && let Some((_, uid)) = self.clients.remove(place)
        {
            self.forgotten_clients.note(uid, followed.time);
        }
    }

    /// Whether a socket turned out to be a client's that had asked for the port, of those that are remembered.
    pub(super) fn is_client(&self, key: SocketKey) -> bool {
        self.clients.iter().any(|(known, _)| known.is_same(key))
    }

    /// Whether a socket of a process's user may be a client's without that being remembered.
    pub(super) fn has_forgotten_client(&self, of: Option<&Process>) -> bool {
        self.forgotten_clients.newest_of(of).is_some()
    }

    /// Records were lost, perhaps that of a socket's end: gives the sockets that are not followed any more, and since when
    /// each is bound. What is bound is for a query of the port to find.
    pub(super) fn lost(&mut self) -> Vec<(Listener, Mono)> {
        self.holders = None;
        let followed = std::mem::take(&mut self.followed);
        followed.into_iter().map(|Followed { socket, time, .. }| (socket, time)).collect()
    }

    /// Takes the sockets that hold the port. One that was seen to bind since the query began is followed by its events.
    pub(super) fn held(&mut self, mut sockets: Vec<Holder>, read: Interval) {
        let is_newer = |holder: &Holder| {
            let is_it = |one: &Followed| one.time > read.began && one.socket.key.is_same(holder.socket.key);
            self.followed.iter().any(is_it)
        };
        // One that was closed since the query began.
        let is_closed = |holder: &Holder| {
            let is_it = |one: &Closed| one.closed > read.began && one.socket.key.is_same(holder.socket.key);
            self.closed.iter().any(is_it)
        };
        sockets.retain(|holder| !is_newer(holder) && !is_closed(holder));
        self.holders = Some(Holders { read, sockets });
    }

    /// Another process failed to take the port: which sockets hold it is for another query.
    pub(super) fn forget_holders(&mut self) {
        self.holders = None;
    }

    /// Which sockets hold the port, as far as it was queried since the last failure.
    pub(super) fn holders(&self) -> Option<&[Holder]> {
        Some(&self.holders.as_ref()?.sockets)
    }

    /// Whether one of them is neither a listener nor followed: nothing shows its end.
    pub(super) fn has_unfollowed_holder(&self) -> bool {
        let is_followed =
            |holder: &&Holder| self.followed.iter().any(|one| one.socket.key.is_same(holder.socket.key));
        let mut held = self.holders.iter().flat_map(|holders| &holders.sockets);
        held.any(|holder| holder.state != TcpState::Listen && !is_followed(&holder))
    }

    /// When it was read which sockets hold the port.
    pub(super) fn holders_read(&self) -> Option<Interval> {
        Some(self.holders.as_ref()?.read)
    }

    /// The sockets that are bound, listening or not, and since when: those that were seen to bind, and those that a query of
    /// the port found.
    pub(super) fn bound(&self) -> impl Iterator<Item = (&Listener, Option<Mono>)> {
        let found = || {
            let sockets = self.holders.iter().flat_map(|found| &found.sockets);
            sockets.filter(|holder| holder.state == TcpState::Closed).map(|holder| &holder.socket)
        };
        // The process that holds a socket now, its opener having passed it on.
        let now = move |followed: &Followed| {
            let key = followed.socket.key;
            found().find(|found| found.process.pid.is_some() && found.key.is_same(key))
        };
        // What was seen to bind is known better, and its end is known.
        let is_new = |found: &&Listener| {
            let is_client = |(key, _): &(SocketKey, Uid)| key.is_same(found.key);
            !self.followed.iter().any(|one| one.socket.key.is_same(found.key))
                && !self.clients.iter().any(is_client)
        };
        self.followed
            .iter()
            .map(move |followed| (now(followed).unwrap_or(&followed.socket), Some(followed.time)))
            .chain(found().filter(is_new).map(|socket| (socket, None)))
    }

    /// The sockets that were bound then and are closed by now, and since when they were bound.
    pub(super) fn closed_since(&self, at: Mono) -> impl Iterator<Item = (&Listener, Mono)> {
        let closed = self.closed.iter().filter(move |one| one.time <= at && one.closed > at);
        closed.map(|one| (&one.socket, one.time))
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use crate::model::socket::NetnsId;

    #[test]
    fn one_user_drops_no_client_of_another() {
        let mut sockets = BoundSockets::default();
        let mut becomes_client = |number: u64, uid: u32| {
            let socket = Listener {
                key: SocketKey { inode: number, cookie: number },
                netns: NetnsId(1),
                addr: Ipv4Addr::LOCALHOST.into(),
                port: 80,
                v6only: None,
                device: None,
                backlog: None,
                since: None,
                process: Process { uid: Some(uid), ..Process::default() },
                opener: None,
            };
            let time = Mono(number);
            let bound = Bound { time, socket, netns_cookie: 0, errno: None, is_followed: true, sock: number };
            assert!(sockets.follow(&bound));
            assert!(sockets.destroyed(&Destroyed { time, sock: number, is_client: true }).is_some());
        };
        becomes_client(1, 0);
        (10..500).for_each(|number| becomes_client(number, 1000));
        assert_eq!(sockets.clients.iter().filter(|(_, uid)| *uid == Some(0)).count(), 1);
        assert_eq!(sockets.clients.len(), CLIENTS_MAX);
        let of = |uid: u32| Process { uid: Some(uid), ..Process::default() };
        assert!(!sockets.has_forgotten_client(Some(&of(0))) && sockets.has_forgotten_client(Some(&of(1000))));
    }
}
