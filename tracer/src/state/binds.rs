//! What came of the attempts to take each port: those that failed, and those that have succeeded since.
//!
//! [`Binds`] keeps beside them, for each port, the sockets that hold it ([`bound_sockets`](super::bound_sockets)) and the
//! processes that called on it ([`callers`](super::callers)).

use std::collections::VecDeque;

use crate::model::errno::Errno;
use crate::model::hash::HashMap;
use crate::model::kernel_event::{Bound, Call, Destroyed};
use crate::model::process::Process;
use crate::model::service;
use crate::model::socket::{Holder, Listener, NetnsId};
use crate::model::time::{Interval, Mono};
use crate::state::bound_sockets::BoundSockets;
use crate::state::callers::{Caller, Callers};
use crate::state::quota::{self, Dropped};

/// Processes whose failures on one port of one namespace are remembered: the newest, those of the user that has the most
/// going first.
const FAILURES_MAX: usize = 32;

/// Processes that failed alike and are remembered one by one: the newest. Of earlier ones, as of a server that is restarted
/// again and again, the attempts are counted.
const ALIKE_MAX: usize = 4;

/// Endpoints on one port of one namespace whose last success is remembered: the newest, likewise.
const SUCCESSES_MAX: usize = FAILURES_MAX;

/// Ports of namespaces remembered; on more, those without a bound socket are dropped.
const PORTS_MAX: usize = 4_096;

/// The attempts of a process that failed alike: for the same address, with the same error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FailedBind {
    pub call: Call,
    /// What was asked for, and which process asked.
    pub socket: Listener,
    pub errno: Errno,
    pub first: Mono,
    pub last: Mono,
    /// The attempt before the last one, where there was one.
    before: Option<Mono>,
    pub times: u64,
    /// When the process ended; `None`: it is running, or its end is not known.
    pub ended: Option<Mono>,
    /// Attempts of earlier processes that failed alike and are not remembered one by one.
    earlier: u64,
}

impl FailedBind {
    /// When the process had ended, by that time.
    pub fn ended_by(&self, at: Mono) -> Option<Mono> {
        self.ended.filter(|ended| *ended <= at)
    }

    /// When it failed last by that time: a refusal that waits for its evidence is classified by what had failed when it came.
    pub fn last_by(&self, at: Mono) -> Mono {
        let known = [Some(self.last), self.before];
        known.into_iter().flatten().find(|time| *time <= at).unwrap_or(self.first)
    }

    /// Whether another process failed in the same way: one of the same name and user, for the same address, with the same
    /// error.
    pub fn is_alike(&self, other: &Self) -> bool {
        let (one, process) = (&self.socket.process, &other.socket.process);
        self.call == other.call
            && self.errno == other.errno
            && is_same_endpoint(&self.socket, &other.socket)
            && one.comm == process.comm
            && one.uid == process.uid
    }

    /// The same with the attempts of others that failed alike, this one's included.
    pub fn counting<'a>(&self, alike: impl Iterator<Item = &'a Self>) -> Self {
        let mut counted = Self { times: 0, ..self.clone() };
        for one in alike {
            counted.first = counted.first.min(one.first);
            counted.times += one.times + one.earlier;
        }
        counted
    }
}

/// An endpoint that a process took.
#[derive(Debug)]
struct Success {
    socket: Listener,
    time: Mono,
}

/// What is known of one port of one namespace.
#[derive(Debug, Default)]
struct Port {
    failures: VecDeque<FailedBind>,
    /// Endpoints that were taken, but for the sockets that are followed: the last success of each.
    successes: VecDeque<Success>,
    /// What the bounds have dropped of both.
    forgotten_failures: Dropped,
    forgotten_successes: Dropped,
    callers: Callers,
    sockets: BoundSockets,
}

/// Whether both are one process, as far as is known: where the start of neither is, its number shows it.
fn is_one_process(one: &Process, other: &Process) -> bool {
    one.pid.is_some() && (one.pid, one.start) == (other.pid, other.start)
}

/// Whether two sockets are bound alike: a wildcard that refuses IPv4 is not one that takes both families.
fn is_same_endpoint(one: &Listener, other: &Listener) -> bool {
    let refuses_ipv4 = |socket: &Listener| socket.addr.is_unspecified() && socket.v6only == Some(true);
    let endpoint = |socket: &Listener| (socket.addr, socket.device, refuses_ipv4(socket));
    endpoint(one) == endpoint(other)
}

impl Port {
    /// What was taken after a time, until another. A followed socket counts until it turns out to be a client's.
    fn taken(&self, after: Mono, until: Mono) -> impl Iterator<Item = &Listener> {
        let known = self.successes.iter().map(|success| (&success.socket, success.time));
        let is_within = move |(_, time): &(&Listener, Mono)| *time > after && *time <= until;
        self.sockets.followed().chain(known).filter(is_within).map(|(socket, _)| socket)
    }

    /// Keeps to the bounds once a failure was added.
    fn bound_failures(&mut self) {
        let Some(newest) = self.failures.back() else { return };
        let is_alike = |(_, one): &(usize, &FailedBind)| one.is_alike(newest);
        let alike: Vec<usize> =
            self.failures.iter().enumerate().filter(is_alike).map(|(place, _)| place).collect();
        if let [oldest, next, ..] = alike[..]
            && alike.len() > ALIKE_MAX
        {
            let FailedBind { times, earlier, .. } = self.failures[oldest];
            self.failures[next].earlier += times + earlier;
            self.failures.remove(oldest);
        }
        if self.failures.len() > FAILURES_MAX
            && let Some(place) = quota::first_of_most(self.failures.iter().map(|one| one.socket.process.uid))
            && let Some(dropped) = self.failures.remove(place)
        {
            self.forgotten_failures.note(dropped.socket.process.uid, dropped.last);
        }
    }

    /// Notes a success.
    fn succeed(&mut self, socket: Listener, time: Mono) {
        self.successes.retain(|known| !is_same_endpoint(&known.socket, &socket));
        self.successes.push_back(Success { socket, time });
        if self.successes.len() > SUCCESSES_MAX
            && let Some(place) = quota::first_of_most(self.successes.iter().map(|one| one.socket.process.uid))
            && let Some(dropped) = self.successes.remove(place)
        {
            self.forgotten_successes.note(dropped.socket.process.uid, dropped.time);
        }
    }
}

/// Whether a process that took an endpoint clears another process's failure: it is the same user's, or of the
/// same service. What another user's process takes does not.
fn can_make_good(taken: &Listener, failure: &FailedBind) -> bool {
    let (one, other) = (&taken.process, &failure.socket.process);
    service::is_same_user(one, other) || service::is_same(one, other)
}

/// The ports of the host's namespaces.
#[derive(Debug, Default)]
pub struct Binds {
    ports: HashMap<(NetnsId, u16), Port>,
}

impl Binds {
    fn port(&mut self, netns: NetnsId, port: u16) -> &mut Port {
        if self.ports.len() > PORTS_MAX {
            self.ports.retain(|_, port| port.sockets.followed().next().is_some());
        }
        self.ports.entry((netns, port)).or_default()
    }

    /// Takes the result of a `bind()`.
    pub fn bound(&mut self, bound: &Bound) {
        let Bound { time, socket, errno, .. } = bound;
        match errno {
            Some(errno) => self.failed(Call::Bind, socket, *errno, *time),
            None => {
                let port = self.port(socket.netns, socket.port);
                port.callers.note(socket, *time);
                if !port.sockets.follow(bound) {
                    port.succeed(socket.clone(), *time);
                }
            }
        }
    }

    /// Takes a failure.
    pub fn failed(&mut self, call: Call, socket: &Listener, errno: Errno, time: Mono) {
        let port = self.port(socket.netns, socket.port);
        port.sockets.forget_holders();
        let process = &socket.process;
        let mut failed = FailedBind {
            call,
            socket: socket.clone(),
            errno,
            first: time,
            last: time,
            before: None,
            times: 1,
            ended: None,
            earlier: 0,
        };
        let is_known =
            |one: &FailedBind| one.is_alike(&failed) && is_one_process(&one.socket.process, process);
        let known = port.failures.iter().position(is_known).and_then(|index| port.failures.remove(index));
        let is_new = |known: &FailedBind| {
            let made_good = |taken: &Listener| is_same_endpoint(taken, socket) && can_make_good(taken, known);
            port.taken(known.last, time).any(made_good)
        };
        if let Some(known) = known.filter(|known| !is_new(known)) {
            failed.first = known.first;
            failed.before = Some(known.last);
            failed.times += known.times;
            failed.earlier = known.earlier;
        }
        port.failures.push_back(failed);
        port.bound_failures();
    }

    /// Adds what was found out of a process to the attempts that it made.
    pub fn describe(&mut self, process: &Process) {
        for port in self.ports.values_mut() {
            let failed = port.failures.iter_mut().map(|failure| &mut failure.socket);
            let taken = port.successes.iter_mut().map(|success| &mut success.socket);
            let called = port.sockets.processes_mut().chain(port.callers.processes_mut());
            let processes = failed.chain(taken).map(|socket| &mut socket.process).chain(called);
            processes.for_each(|known| known.complete(process));
        }
    }

    /// A process has ended.
    pub fn ended(&mut self, pid: u32, time: Mono) {
        let failures = self.ports.values_mut().flat_map(|port| &mut port.failures);
        for failure in failures.filter(|failure| failure.socket.process.pid == Some(pid)) {
            failure.ended.get_or_insert(time);
        }
    }

    /// A `listen()` succeeded.
    pub fn listened(&mut self, listener: &Listener, time: Mono) {
        let port = self.port(listener.netns, listener.port);
        port.callers.note(listener, time);
        port.succeed(listener.clone(), time);
    }

    /// A listener has closed before it served anything, by a process that is still running: it tried whether the port is
    /// free.
    pub fn was_probe(&mut self, listener: &Listener) {
        if let Some(port) = self.ports.get_mut(&(listener.netns, listener.port)) {
            port.successes.retain(|success| !success.socket.key.is_same(listener.key));
        }
    }

    /// A followed socket is closed, or a client's: a bind that came to nothing is not a success. Gives the socket that turned
    /// out to be a client's.
    pub fn destroyed(&mut self, destroyed: &Destroyed) -> Option<Listener> {
        let mut client = None;
        for port in self.ports.values_mut() {
            if let Some(socket) = port.sockets.destroyed(destroyed) {
                port.callers.forget(socket.key);
                client = Some(socket);
            }
        }
        client
    }

    /// The processes that had taken a port by then, whatever became of their sockets.
    pub fn takers(&self, netns: NetnsId, port: u16, at: Mono) -> impl Iterator<Item = &Caller> {
        let callers = self.ports.get(&(netns, port)).into_iter().flat_map(|port| port.callers.iter());
        callers.filter(move |caller| caller.time <= at)
    }

    /// The processes that have taken a port, or tried to, after one time and by another.
    pub fn callers(
        &self,
        netns: NetnsId,
        port: u16,
        (after, until): (Mono, Mono),
    ) -> impl Iterator<Item = &Process> {
        let port = self.ports.get(&(netns, port)).into_iter();
        let is_within = move |time: Mono| time > after && time <= until;
        port.flat_map(move |port| {
            let taken = port.callers.iter().filter(move |caller| is_within(caller.time));
            let failed = port.failures.iter().filter(move |failure| is_within(failure.first));
            taken.map(|caller| &caller.process).chain(failed.map(|failure| &failure.socket.process))
        })
    }

    /// Whether a process has taken a port, by a socket that is not a client's, or tried to.
    pub fn has_called(&self, process: &Process) -> bool {
        self.ports.values().any(|port| {
            let failed = port.failures.iter().map(|failure| &failure.socket.process);
            let mut called = port.callers.iter().map(|caller| &caller.process).chain(failed);
            called.any(|known| is_one_process(known, process))
        })
    }

    /// Records were lost, perhaps that of a socket's end: what is bound is for a query of the port to find.
    pub fn lost(&mut self) {
        for port in self.ports.values_mut() {
            for (socket, time) in port.sockets.lost() {
                port.succeed(socket, time);
            }
        }
    }

    /// Takes the sockets that hold a port. One that was seen to bind since the query began is followed by its events.
    pub fn held(&mut self, netns: NetnsId, port: u16, sockets: Vec<Holder>, read: Interval) {
        self.port(netns, port).sockets.held(sockets, read);
    }

    /// What had failed on a port at that time, the last first: of what the same service, or the same user, has not taken
    /// since. `covers`: whether an endpoint is one that is asked about.
    pub fn failures(
        &self,
        netns: NetnsId,
        port: u16,
        at: Mono,
        covers: impl Fn(&Listener) -> bool,
    ) -> impl Iterator<Item = &FailedBind> {
        let port = self.ports.get(&(netns, port));
        port.into_iter()
            .flat_map(move |port| port.failures.iter().rev().map(move |failure| (port, failure)))
            .filter_map(move |(port, failure)| {
                let makes_good = |taken: &Listener| {
                    (is_same_endpoint(taken, &failure.socket) || covers(taken))
                        && can_make_good(taken, failure)
                };
                let is_current = failure.first <= at && !port.taken(failure.last_by(at), at).any(makes_good);
                is_current.then_some(failure)
            })
    }

    /// The processes that failed to take a port, of those that are remembered.
    pub fn tried(&self) -> impl Iterator<Item = &Process> {
        self.ports.values().flat_map(|port| &port.failures).map(|failure| &failure.socket.process)
    }

    /// When the last failure on a port came.
    pub fn last_failure(&self, netns: NetnsId, port: u16) -> Option<&FailedBind> {
        self.ports.get(&(netns, port))?.failures.back()
    }

    /// When the newest failure on a port came that is not remembered any more and may be a process's.
    pub fn forgotten_failure(&self, netns: NetnsId, port: u16, of: Option<&Process>) -> Option<Mono> {
        self.ports.get(&(netns, port))?.forgotten_failures.newest_of(of)
    }

    /// When the newest endpoint on a port was taken that is not remembered any more and may be a process's.
    pub fn forgotten_success(&self, netns: NetnsId, port: u16, of: Option<&Process>) -> Option<Mono> {
        self.ports.get(&(netns, port))?.forgotten_successes.newest_of(of)
    }

    /// Whether a socket is a client's that asked for its port itself, as far as that is remembered.
    pub fn is_client(&self, socket: &Listener) -> bool {
        let port = self.ports.get(&(socket.netns, socket.port));
        port.is_some_and(|port| port.sockets.is_client(socket.key))
    }

    /// Whether a socket of a process's user on a port may be a client's without that being remembered.
    pub fn has_forgotten_client(&self, netns: NetnsId, port: u16, of: Option<&Process>) -> bool {
        self.ports.get(&(netns, port)).is_some_and(|port| port.sockets.has_forgotten_client(of))
    }

    /// What processes failed to take on a port with this error, of what is remembered.
    pub fn failed_with(&self, netns: NetnsId, port: u16, errno: Errno) -> impl Iterator<Item = &Listener> {
        let port = self.ports.get(&(netns, port));
        let failures = port.into_iter().flat_map(|port| &port.failures);
        failures.filter(move |failure| failure.errno == errno).map(|failure| &failure.socket)
    }

    /// The sockets bound to a port, listening or not, and since when: those that were seen to bind, and those that a query
    /// of the port found.
    pub fn bound_to(&self, netns: NetnsId, port: u16) -> impl Iterator<Item = (&Listener, Option<Mono>)> {
        self.ports.get(&(netns, port)).into_iter().flat_map(|port| port.sockets.bound())
    }

    /// The sockets that were bound to a port then and are closed by now, and since when they were bound.
    pub fn closed_since(
        &self,
        netns: NetnsId,
        port: u16,
        at: Mono,
    ) -> impl Iterator<Item = (&Listener, Mono)> {
        self.ports.get(&(netns, port)).into_iter().flat_map(move |port| port.sockets.closed_since(at))
    }

    /// Which sockets hold a port, as far as it was queried since the last failure.
    pub fn holders(&self, netns: NetnsId, port: u16) -> Option<&[Holder]> {
        self.ports.get(&(netns, port))?.sockets.holders()
    }

    /// Whether a socket that was read to hold a port is one whose end no event shows.
    pub fn has_unfollowed_holder(&self, netns: NetnsId, port: u16) -> bool {
        self.ports.get(&(netns, port)).is_some_and(|port| port.sockets.has_unfollowed_holder())
    }

    /// When it was read which sockets hold a port.
    pub fn holders_read(&self, netns: NetnsId, port: u16) -> Option<Interval> {
        self.ports.get(&(netns, port))?.sockets.holders_read()
    }

    /// Forgets everything about a port that is not watched any more.
    pub fn forget_port(&mut self, port: u16) {
        self.ports.retain(|(_, own), _| *own != port);
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
    use crate::model::socket::SocketKey;

    fn socket(inode: u64, addr: u32, uid: u32) -> Listener {
        Listener {
            key: SocketKey { inode, cookie: inode },
            netns: NetnsId(0),
            addr: Ipv4Addr::from_bits(addr).into(),
            port: 80,
            v6only: None,
            device: None,
            backlog: None,
            since: None,
            process: Process { uid: Some(uid), ..Process::default() },
            opener: None,
        }
    }

    #[test]
    fn one_user_drops_nothing_of_another() {
        let mut binds = Binds::default();
        let of = |uid| Process { uid: Some(uid), ..Process::default() };
        binds.failed(Call::Bind, &socket(1, 1, 0), Errno::EACCES, Mono(1));
        let bound = |inode, addr, uid| Bound {
            time: Mono(inode),
            socket: socket(inode, addr, uid),
            netns_cookie: 0,
            errno: None,
            is_followed: false,
            sock: inode,
        };
        binds.bound(&bound(2, 2, 0));
        for number in 10..500_u32 {
            let (inode, uid) = (u64::from(number), 1000);
            binds.failed(Call::Bind, &socket(inode, number, uid), Errno::EADDRNOTAVAIL, Mono(inode));
            binds.bound(&bound(inode, number + 1_000, uid));
        }
        let port = &binds.ports[&(NetnsId(0), 80)];
        assert_eq!(port.failures.iter().filter(|one| one.socket.process.uid == Some(0)).count(), 1);
        assert_eq!(port.successes.iter().filter(|one| one.socket.process.uid == Some(0)).count(), 1);
        assert_eq!((port.failures.len(), port.successes.len()), (FAILURES_MAX, SUCCESSES_MAX));
        let forgotten = |uid: u32| {
            let (netns, process) = (NetnsId(0), of(uid));
            let failure = binds.forgotten_failure(netns, 80, Some(&process)).is_some();
            let success = binds.forgotten_success(netns, 80, Some(&process)).is_some();
            (failure, success)
        };
        assert_eq!((forgotten(0), forgotten(1000)), ((false, false), (true, true)));
    }

    #[test]
    fn two_processes_of_which_nothing_is_known_are_not_one() {
        let mut binds = Binds::default();
        let unknown = Listener { process: Process::default(), ..socket(0, 1, 0) };
        binds.failed(Call::Bind, &unknown, Errno::EADDRINUSE, Mono(1));
        binds.failed(Call::Bind, &unknown, Errno::EADDRINUSE, Mono(2));
        let times: Vec<u64> =
            binds.failures(NetnsId(0), 80, Mono(3), |_| false).map(|one| one.times).collect();
        assert_eq!(times, [1, 1]);
        assert!(!binds.has_called(&Process::default()));
    }

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
                opener: None,
            };
            let time = Mono(u64::from(number));
            binds.failed(Call::Bind, &socket(number, Ipv4Addr::LOCALHOST), Errno::EADDRINUSE, time);
            binds.failed(Call::Bind, &socket(0, Ipv4Addr::from_bits(number)), Errno::EADDRINUSE, time);
            assert!(binds.ports.len() <= PORTS_MAX + 2);
            assert!(binds.failures(NetnsId(0), 80, time, |_| true).count() <= FAILURES_MAX);
        }
    }
}
