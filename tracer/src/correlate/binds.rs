//! What came of the attempts to bind a port: those that failed since one succeeded, and the sockets that are
//! bound.

use std::collections::{HashMap, VecDeque};

use crate::event::{Bound, Destroyed, Holder, Holders, Listener, Look, Mono, NetnsId, SocketKey};
use crate::line::Call;

/// Failures told apart on one port of one namespace: the newest.
const FAILURES_MAX: usize = 16;

/// Bound sockets on one port of one namespace: as many as the kernel side follows in all.
const FOLLOWED_MAX: usize = tracer_ebpf::BOUND_MAX as usize;

/// Sockets of clients remembered on one port of one namespace.
const CLIENTS_MAX: usize = 64;

/// Ports of namespaces remembered; on more, those without a bound socket are dropped.
const PORTS_MAX: usize = 4_096;

/// An attempt that failed, and how often it did so alike: of a program of the same name, for the same
/// address, with the same error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    pub call: Call,
    /// What was asked for; the last to ask as its process.
    pub socket: Listener,
    pub errno: i32,
    pub first: Mono,
    pub last: Mono,
    pub times: u64,
}

/// A socket that is bound.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BoundSocket {
    pub socket: Listener,
    /// `None`: that was before the tracer attached.
    pub time: Option<Mono>,
}

/// A bound socket whose end will be told.
#[derive(Debug)]
struct Followed {
    socket: Listener,
    time: Mono,
    /// What the kernel side calls it.
    sock: u64,
}

#[derive(Debug, Default)]
struct Port {
    failures: VecDeque<Failure>,
    /// When a server last succeeded, but for the sockets that are followed.
    succeeded: Option<Mono>,
    followed: Vec<Followed>,
    holders: Option<Holders>,
    /// Sockets that turned out to be clients', the newest.
    clients: VecDeque<SocketKey>,
}

impl Port {
    /// When a bind or listen last succeeded. A followed socket counts until it turns out to be a client's.
    fn succeeded(&self) -> Option<Mono> {
        self.followed.iter().map(|followed| followed.time).max().max(self.succeeded)
    }

    /// Whether a failure came after the last success.
    fn is_current(&self, failure: &Failure) -> bool {
        Some(failure.last) > self.succeeded()
    }
}

/// The ports of the host's namespaces.
#[derive(Debug, Default)]
pub struct Binds {
    ports: HashMap<(NetnsId, u16), Port>,
}

impl Binds {
    fn port(&mut self, netns: NetnsId, port: u16) -> &mut Port {
        if self.ports.len() > PORTS_MAX {
            self.ports.retain(|_, port| !port.followed.is_empty());
        }
        self.ports.entry((netns, port)).or_default()
    }

    /// Takes the result of a `bind()`.
    pub fn bound(&mut self, bound: &Bound) {
        let Bound { time, socket, netns_cookie: _, errno, is_followed, sock } = bound;
        match errno {
            Some(errno) => self.failed(Call::Bind, socket, *errno, *time),
            None => {
                let port = self.port(socket.netns, socket.port);
                if *is_followed && port.followed.len() < FOLLOWED_MAX {
                    port.followed.push(Followed { socket: socket.clone(), time: *time, sock: *sock });
                } else {
                    port.succeeded = port.succeeded.max(Some(*time));
                }
            }
        }
    }

    /// Takes a failure.
    pub fn failed(&mut self, call: Call, socket: &Listener, errno: i32, time: Mono) {
        let port = self.port(socket.netns, socket.port);
        port.holders = None;
        let is_alike = |failure: &Failure| {
            failure.call == call
                && failure.errno == errno
                && failure.socket.addr == socket.addr
                && failure.socket.process.comm == socket.process.comm
                && failure.socket.process.uid == socket.process.uid
        };
        let known = port.failures.iter().position(is_alike).and_then(|index| port.failures.remove(index));
        let (first, times) = known
            .filter(|known| port.is_current(known))
            .map_or((time, 0), |known| (known.first, known.times));
        port.failures.push_back(Failure {
            call,
            socket: socket.clone(),
            errno,
            first,
            last: time,
            times: times + 1,
        });
        if port.failures.len() > FAILURES_MAX {
            port.failures.pop_front();
        }
    }

    /// A `listen()` succeeded: what failed before does not matter any more.
    pub fn listened(&mut self, netns: NetnsId, port: u16, time: Mono) {
        if let Some(port) = self.ports.get_mut(&(netns, port)) {
            port.succeeded = port.succeeded.max(Some(time));
        }
    }

    /// A followed socket is gone, or a client's: then its bind was no server's success.
    pub fn destroyed(&mut self, destroyed: &Destroyed) {
        for port in self.ports.values_mut() {
            let Some(index) = port.followed.iter().position(|one| one.sock == destroyed.sock) else {
                continue;
            };
            let followed = port.followed.swap_remove(index);
            if let Some(holders) = &mut port.holders {
                holders.sockets.retain(|holder| !holder.socket.key.is_same(followed.socket.key));
            }
            if !destroyed.is_client {
                port.succeeded = port.succeeded.max(Some(followed.time));
                continue;
            }
            if port.clients.len() >= CLIENTS_MAX {
                port.clients.pop_front();
            }
            port.clients.push_back(followed.socket.key);
        }
    }

    /// Records were lost, perhaps one that told of a socket's end: what is bound is for a look at the port to say.
    pub fn lost(&mut self) {
        for port in self.ports.values_mut() {
            port.succeeded = port.succeeded();
            port.followed.clear();
            port.holders = None;
        }
    }

    /// Notes who holds a port.
    pub fn held(&mut self, holders: Holders) {
        let (netns, port) = (holders.netns, holders.port);
        self.port(netns, port).holders = Some(holders);
    }

    /// What failed on a port since something succeeded, the last first.
    pub fn failures(&self, netns: NetnsId, port: u16) -> impl Iterator<Item = &Failure> {
        let port = self.ports.get(&(netns, port));
        port.into_iter()
            .flat_map(|port| port.failures.iter().rev().filter(|failure| port.is_current(failure)))
    }

    /// The sockets bound to a port, listening or not, and since when: those that were seen to bind, and those found
    /// by a look at the port.
    pub fn bound_to(&self, netns: NetnsId, port: u16) -> impl Iterator<Item = (&Listener, Option<Mono>)> {
        let port = self.ports.get(&(netns, port));
        let followed = move || port.into_iter().flat_map(|port| &port.followed);
        let found = move || {
            let holders = port.and_then(|port| port.holders.as_ref()).into_iter();
            holders
                .flat_map(|found| &found.sockets)
                .filter(|holder| holder.is_bound_only)
                .map(|one| &one.socket)
        };
        // Who holds a socket now, its opener having passed it on.
        let now = move |followed: &Followed| {
            let key = followed.socket.key;
            found().find(|found| found.process.pid.is_some() && found.key.is_same(key))
        };
        // What was bound and seen is told better, and its end is known.
        let is_new = move |found: &&Listener| {
            let is_client = |key: &SocketKey| key.is_same(found.key);
            !followed().any(|one| one.socket.key.is_same(found.key))
                && !port.is_some_and(|port| port.clients.iter().any(is_client))
        };
        followed()
            .map(move |followed| (now(followed).unwrap_or(&followed.socket), Some(followed.time)))
            .chain(found().filter(is_new).map(|socket| (socket, None)))
    }

    /// Who holds a port, as far as it was looked at since the last failure.
    pub fn holders(&self, netns: NetnsId, port: u16) -> Option<&[Holder]> {
        Some(&self.ports.get(&(netns, port))?.holders.as_ref()?.sockets)
    }

    /// When it was looked at who holds a port.
    pub fn holders_look(&self, netns: NetnsId, port: u16) -> Option<Look> {
        Some(self.ports.get(&(netns, port))?.holders.as_ref()?.look)
    }

    /// Forgets everything about a namespace.
    pub fn forget(&mut self, netns: NetnsId) {
        self.ports.retain(|(own, _), _| *own != netns);
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use crate::line::Process;

    #[test]
    fn binds_that_fail_everywhere_take_no_more_room_than_their_bound() {
        let mut binds = Binds::default();
        for number in 0..3 * PORTS_MAX as u32 {
            let socket = |netns, addr: Ipv4Addr| Listener {
                key: SocketKey { inode: 0, cookie: 0 },
                netns: NetnsId(netns),
                addr: addr.into(),
                port: 80,
                v6only: None,
                device: None,
                backlog: None,
                since: None,
                process: Process::default(),
            };
            let time = Mono(u64::from(number));
            binds.failed(Call::Bind, &socket(number, Ipv4Addr::LOCALHOST), libc::EADDRINUSE, time);
            binds.failed(Call::Bind, &socket(0, Ipv4Addr::from_bits(number)), libc::EADDRINUSE, time);
            assert!(binds.ports.len() <= PORTS_MAX + 2);
            assert!(binds.failures(NetnsId(0), 80).count() <= FAILURES_MAX);
        }
    }
}
