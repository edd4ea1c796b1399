//! What came of the attempts to bind a port: those that failed since one succeeded, and the sockets that are
//! bound.

use std::collections::{HashMap, VecDeque};

use crate::event::{Bound, Destroyed, Holder, Holders, Listener, Mono, NetnsId};
use crate::line::Call;

/// Failures told apart on one port of one namespace: the newest.
const FAILURES_MAX: usize = 16;

/// Bound sockets on one port of one namespace: as many as the kernel side follows in all.
const BOUND_MAX: usize = tracer_ebpf::BOUND_MAX as usize;

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
    pub time: Mono,
    /// What the kernel side calls it.
    sock: u64,
}

#[derive(Debug, Default)]
struct Port {
    failures: VecDeque<Failure>,
    bound: Vec<BoundSocket>,
    holders: Option<Holders>,
}

/// The ports of the host's namespaces.
#[derive(Debug, Default)]
pub struct Binds {
    ports: HashMap<(NetnsId, u16), Port>,
}

impl Binds {
    fn port(&mut self, netns: NetnsId, port: u16) -> &mut Port {
        if self.ports.len() > PORTS_MAX {
            self.ports.retain(|_, port| !port.bound.is_empty());
        }
        self.ports.entry((netns, port)).or_default()
    }

    /// Takes the result of a `bind()`.
    pub fn bound(&mut self, bound: &Bound) {
        let Bound { time, socket, netns_cookie: _, errno, is_followed, sock } = bound;
        match errno {
            Some(errno) => self.failed(Call::Bind, socket, *errno, *time),
            None => {
                self.succeeded(socket.netns, socket.port, *time);
                let port = self.port(socket.netns, socket.port);
                if *is_followed && port.bound.len() < BOUND_MAX {
                    port.bound.push(BoundSocket { socket: socket.clone(), time: *time, sock: *sock });
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
        let (first, times) = known.map_or((time, 0), |known| (known.first, known.times));
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

    /// A `bind()` or `listen()` succeeded: what failed before does not matter any more.
    pub fn succeeded(&mut self, netns: NetnsId, port: u16, time: Mono) {
        if let Some(port) = self.ports.get_mut(&(netns, port)) {
            port.failures.retain(|failure| failure.last > time);
        }
    }

    /// A socket is gone.
    pub fn destroyed(&mut self, destroyed: &Destroyed) {
        for port in self.ports.values_mut() {
            port.bound.retain(|bound| bound.sock != destroyed.sock);
        }
    }

    /// Notes who holds a port.
    pub fn held(&mut self, holders: Holders) {
        let (netns, port) = (holders.netns, holders.port);
        self.port(netns, port).holders = Some(holders);
    }

    /// What failed on a port since something succeeded, the last first.
    pub fn failures(&self, netns: NetnsId, port: u16) -> impl Iterator<Item = &Failure> {
        self.ports.get(&(netns, port)).into_iter().flat_map(|port| port.failures.iter().rev())
    }

    /// The sockets bound to a port, listening or not.
    pub fn bound_to(&self, netns: NetnsId, port: u16) -> impl Iterator<Item = &BoundSocket> {
        self.ports.get(&(netns, port)).into_iter().flat_map(|port| &port.bound)
    }

    /// Who holds a port, as far as it was looked at since the last failure.
    pub fn holders(&self, netns: NetnsId, port: u16) -> Option<&[Holder]> {
        Some(&self.ports.get(&(netns, port))?.holders.as_ref()?.sockets)
    }

    /// Forgets everything about a namespace.
    pub fn forget(&mut self, netns: NetnsId) {
        self.ports.retain(|(own, _), _| *own != netns);
    }
}
