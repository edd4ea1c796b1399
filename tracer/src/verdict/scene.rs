//! A refusal among what is known: the questions that the rules ask.
//!
//! Each is answered as of the moment of the refusal, also where the refusal waited for evidence while other events were
//! taken. Nothing here walks all listeners of a port: there may be ten thousand.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::coverage::{self, Destination};
use super::locate::{self, PacketFilter, Place, locate};
use super::server::{self, KnownBy, Server};
use super::uncertainty::CHANGING_NS;
use crate::model::cause::{Cause, Mismatch};
use crate::model::errno::Errno;
use crate::model::kernel_event::{Refused, SentBy, Via};
use crate::model::process::{OwnerEnd, Process};
use crate::model::service;
use crate::model::socket::Listener;
use crate::model::time::Mono;
use crate::model::unit::Unit;
use crate::query::{Candidate, LocalEndpoint};
use crate::state::binds::{Caller, FailedBind};
use crate::state::listeners::{ClosedListener, EXEC_CLOSES_NS};
use crate::state::servers::ServerCandidate;
use crate::state::{HostState, SERVED_NS};

/// What a listener on every address is bound to.
pub(super) const WILDCARDS: [IpAddr; 2] =
    [IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpAddr::V6(Ipv6Addr::UNSPECIFIED)];

/// A refusal among what is known.
#[derive(Clone, Copy)]
pub struct Scene<'a> {
    pub refused: &'a Refused,
    pub place: Place,
    pub destination: Destination,
    pub state: &'a HostState,
    /// The server of the destination, as far as one is known.
    pub server: Option<Server<'a>>,
    /// Nothing listens on the port of the destination's namespace, and nothing has closed there since: the case of a flood,
    /// which makes no further look-up.
    is_silent: bool,
}

/// A listener of a server on another port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OtherPort<'a> {
    pub listener: &'a Listener,
    /// When its process was there, at the latest.
    pub since: Mono,
    /// Nothing but the time for which it has listened there shows that it will not open this port.
    pub is_by_time: bool,
}

/// How long a process must have run, that listens elsewhere, for that to be where it settled.
const SETTLED_NS: u64 = 5_000_000_000;

/// Ports that the kernel gives out by itself (`net.ipv4.ip_local_port_range`, its default): one of them is not where a
/// server is expected.
const EPHEMERAL: std::ops::RangeInclusive<u16> = 32_768..=60_999;

/// How long a process that is named like the server may take to listen.
const STARTING_NS: u64 = 300_000_000_000;

/// Why a listener did not answer a connect that began then. One that opened later could not.
pub(super) fn mismatch_at(
    listener: &Listener,
    destination: &Destination,
    connected: Mono,
) -> Option<Mismatch> {
    match coverage::mismatch(listener, destination) {
        None if listener.since.is_some_and(|since| since > connected) => Some(Mismatch::NotYet),
        mismatch => mismatch,
    }
}

/// Whether a listener had opened by then.
pub(super) fn was_there(listener: &Listener, moment: Mono) -> bool {
    listener.since.is_none_or(|since| since <= moment)
}

/// Whether a listener belongs to what is shown of that moment: one that opened later does not, but for one that would
/// have answered.
pub(super) fn is_shown(listener: &Listener, mismatch: Option<Mismatch>, refused: Mono) -> bool {
    mismatch == Some(Mismatch::NotYet) || was_there(listener, refused)
}

/// No listener was asked: a packet filter's own reset, or an ICMP message.
pub fn is_filtered(refused: &Refused) -> bool {
    refused.sent_by == Some(SentBy::Filter) || refused.via == Via::Icmp
}

/// Until when the end of the process may come that closed the listener a refusal is about; `None`: it has ended, or the
/// refusal is about none.
pub fn may_be_ending(refused: &Refused, cause: Cause, state: &HostState, within: u64) -> Option<Mono> {
    if cause != Cause::Stopped {
        return None;
    }
    let scene = Scene::new(refused, locate(refused, state), state);
    let closed = scene.closed().filter(|closed| closed.owner == OwnerEnd::Running)?;
    Some(closed.time.plus(within)).filter(|until| *until > refused.time)
}

impl<'a> Scene<'a> {
    pub fn new(refused: &'a Refused, place: Place, state: &'a HostState) -> Self {
        let destination = place.destination();
        let scene = Self { refused, place, destination, state, server: None, is_silent: false };
        let is_silent = state.listeners.count_in(destination.netns, destination.port) == 0
            && scene.closed_here_since().next().is_none();
        let scene = Self { is_silent, ..scene };
        Self { server: server::identify(&scene), ..scene }
    }

    /// Whether a listener can be the reason for the refusal: one of a stranger beside a server that has answered here is
    /// shown, and decides nothing.
    fn decides(&self, listener: &Listener) -> bool {
        self.server.is_none_or(|server| !server.has_covered || server.may_own(listener))
    }

    /// Whether a process is an instance of the server. Where none has answered at the destination, one of the same user may
    /// be: had it got the port, it would have answered.
    fn is_of_server(&self, process: &Process) -> bool {
        self.server.is_none_or(|server| match server.known_by {
            KnownBy::Listener if server.has_covered => server.is(process),
            KnownBy::Listener | KnownBy::Service => server.may_be(process),
            KnownBy::Bind | KnownBy::Name => true,
        })
    }

    /// The listeners on the port, in all namespaces, that have closed since, and were open when the connect was refused.
    /// One that covers the destination and closed about then was on its way out: it is unhashed before it is seen to
    /// close.
    pub(super) fn closed_since(&self) -> impl Iterator<Item = &'a Listener> + use<'a> {
        let Self { refused, destination, state, .. } = *self;
        let too_late = refused.time.max(refused.started.plus(CHANGING_NS - 1));
        let was_open = move |closed: &&ClosedListener| {
            let ClosedListener { listener, time, .. } = closed;
            listener.port == destination.port
                && was_there(listener, refused.time)
                && (*time > too_late || coverage::mismatch(listener, &destination).is_some())
        };
        state.listeners.closed_after(refused.time).filter(was_open).map(|closed| &closed.listener)
    }

    /// The listeners that an address could lead to.
    pub(super) fn near_listeners(&self) -> impl Iterator<Item = &'a Listener> + use<'a> {
        self.near().map(|(listener, _)| listener)
    }

    /// The same of the namespace of the destination.
    fn closed_here_since(&self) -> impl Iterator<Item = &'a Listener> + use<'a> {
        let netns = self.destination.netns;
        let closed = (!self.is_silent).then(|| self.closed_since());
        closed.into_iter().flatten().filter(move |listener| listener.netns == netns)
    }

    /// The listeners that an address could lead to: those bound to it, to its counterpart or to a wildcard, in the
    /// namespace.
    fn near(&self) -> impl Iterator<Item = (&'a Listener, Option<Mismatch>)> + use<'a> {
        let Self { refused, destination, state, .. } = *self;
        let specific = [destination.addr, destination.counterpart().addr];
        let specific = specific.into_iter().filter(|addr| !addr.is_unspecified());
        let addrs = (!self.is_silent).then(|| WILDCARDS.into_iter().chain(specific));
        addrs
            .into_iter()
            .flatten()
            .flat_map(move |addr| state.listeners.bound_to(destination.netns, addr, destination.port))
            .chain(self.closed_here_since())
            .map(move |listener| (listener, mismatch_at(listener, &destination, refused.started)))
            .filter(|(listener, mismatch)| is_shown(listener, *mismatch, refused.time))
    }

    /// Whether a listener near the destination that can be the reason has this mismatch.
    pub fn has(&self, wanted: Mismatch) -> bool {
        self.near().any(|(listener, mismatch)| mismatch == Some(wanted) && self.decides(listener))
    }

    /// How long before the connect the first listener opened that covers it; `None`: none does.
    pub fn covered_for(&self) -> Option<u64> {
        let age =
            |listener: &Listener| listener.since.map_or(u64::MAX, |since| self.refused.started.since(since));
        self.near().filter(|(_, mismatch)| mismatch.is_none()).map(|(listener, _)| age(listener)).max()
    }

    pub fn has_other_family(&self) -> bool {
        self.near().any(|(listener, mismatch)| {
            mismatch != Some(Mismatch::NotYet)
                && coverage::answers_other_family(listener, &self.destination)
                && self.decides(listener)
        })
    }

    /// Whether a listener that can be the reason was up on the port of the namespace when the connect began.
    pub fn has_on_port(&self) -> bool {
        let Destination { netns, port, .. } = self.destination;
        let (started, listeners) = (self.refused.started, &self.state.listeners);
        if self.server.is_some_and(|server| server.has_covered) {
            let on_port = listeners.open_in(netns).filter(|listener| listener.port == port);
            return on_port
                .chain(self.closed_here_since())
                .any(|listener| was_there(listener, started) && self.decides(listener));
        }
        let too_late =
            listeners.opened_after(port, started).filter(|listener| listener.netns == netns).count();
        let closed_since = self.closed_here_since().filter(|listener| was_there(listener, started)).count();
        listeners.count_in(netns, port) + closed_since > too_late
    }

    /// The listener on the port of the namespace that opened first, of those that were open when the connect began.
    pub(super) fn oldest(&self) -> Option<&'a Listener> {
        let Destination { netns, port, .. } = self.destination;
        let oldest = self.state.listeners.oldest_on(netns, port).into_iter().chain(self.closed_here_since());
        let was_open = oldest.filter(|listener| was_there(listener, self.refused.started));
        was_open.min_by_key(|listener| listener.since)
    }

    /// Whether listeners of several users stand on the port of the namespace. One whose user is not known can be another's.
    pub fn has_several_users(&self) -> bool {
        let Destination { netns, port, .. } = self.destination;
        let own = |listener: &'a Listener| listener.opener.as_deref().unwrap_or(&listener.process).uid;
        let first = self.oldest().and_then(own);
        let on_port = self.state.listeners.open_in(netns).filter(|listener| listener.port == port);
        let mut was_open = on_port
            .chain(self.closed_here_since())
            .filter(|listener| was_there(listener, self.refused.started));
        first.is_some() && was_open.any(|listener| own(listener) != first)
    }

    /// Whether anything was up on the port in another namespace, that can have to do with the destination: where that is
    /// not in the client's own namespace, only the server itself can.
    pub fn has_elsewhere(&self) -> bool {
        let Destination { netns, port, .. } = self.destination;
        let (time, listeners) = (self.refused.time, &self.state.listeners);
        let is_elsewhere =
            |listener: &&Listener| listener.netns != netns && listener.netns != self.refused.netns;
        if matches!(self.place, Place::Elsewhere { .. }) {
            return self.server_elsewhere().is_some();
        }
        let too_late = listeners.opened_after(port, time).filter(is_elsewhere).count();
        let closed_since = self.closed_since().filter(is_elsewhere).count();
        listeners.count(port) + closed_since > listeners.count_in(netns, port) + too_late
    }

    /// A listener on the port of another namespace that the server itself holds.
    pub fn server_elsewhere(&self) -> Option<&'a Listener> {
        let Destination { netns, port, .. } = self.destination;
        let server = self.server?;
        let mut open = self.state.listeners.open().filter(|listener| listener.port == port);
        open.find(|listener| {
            listener.netns != netns && was_there(listener, self.refused.time) && server.is(&listener.process)
        })
    }

    /// The listener that covered the destination and closed last before the refusal, or so shortly after the
    /// connect that it was on its way out.
    pub fn closed(&self) -> Option<&'a ClosedListener> {
        let Self { refused, destination, state, .. } = *self;
        state
            .listeners
            .closed_in(destination.netns)
            .filter(|closed| closed.time.since(refused.started) < CHANGING_NS)
            .filter(|closed| was_there(&closed.listener, refused.time) && !closed.is_probe())
            .find(|closed| coverage::mismatch(&closed.listener, &destination).is_none())
    }

    /// The listener on the port of the namespace that closed last before the refusal, whatever it covered.
    pub(super) fn closed_on_port(&self) -> Option<&'a ClosedListener> {
        let Self { refused, destination, state, .. } = *self;
        let mut closed = state.listeners.closed_in(destination.netns);
        closed.find(|closed| {
            closed.listener.port == destination.port && closed.time <= refused.time && !closed.is_probe()
        })
    }

    /// Whether the server, or one that may be, has opened anything on the port of that namespace since then.
    pub fn has_opened_since(&self, time: Mono) -> bool {
        let Destination { netns, port, .. } = self.destination;
        let is_it = |listener: &Listener| {
            listener.port == port
                && listener.since.is_some_and(|since| since > time && since <= self.refused.time)
                && self.decides(listener)
        };
        self.state.listeners.count_in(netns, port) > 0 && self.state.listeners.open_in(netns).any(is_it)
            || self.closed_here_since().any(is_it)
    }

    /// Whether the server opened another listener on the port before it closed this one, and after it had served by it: as
    /// at a reload, which opens the new address first.
    fn has_moved_from(&self, closed: &Listener) -> bool {
        let Destination { netns, port, .. } = self.destination;
        let served = closed.since.map(|since| since.plus(SERVED_NS));
        let is_later = |listener: &Listener| {
            listener.since.is_some_and(|since| served.is_none_or(|served| since > served))
        };
        let on_port = self.state.listeners.open_in(netns).filter(|listener| listener.port == port);
        on_port.chain(self.closed_here_since()).any(|listener| {
            is_later(listener)
                && was_there(listener, self.refused.time)
                && self.server.is_some_and(|server| server.is(&listener.process))
        })
    }

    /// Whether an instance that started after that has ended without listening, or listens on another port.
    fn has_failed_since(&self, closed: &ClosedListener) -> bool {
        // The program that replaced the one that listened started before the listener was closed.
        let is_later = |known: &ServerCandidate| {
            let since = known.candidate.since;
            let is_heir = known.candidate.process.pid == closed.listener.process.pid;
            since > closed.time || is_heir && closed.listener.since.is_some_and(|opened| since > opened)
        };
        self.ended().iter().any(|known| is_later(known))
            || self
                .running()
                .iter()
                .any(|known| is_later(known) && self.is_instance(known) && self.settled(known).is_some())
    }

    /// The listener that covered the destination and closed, where nothing has come of the server since.
    pub fn stopped(&self) -> Option<&'a ClosedListener> {
        self.closed().filter(|closed| {
            !self.has_opened_since(closed.time)
                && !self.has_moved_from(&closed.listener)
                && !self.has_failed_since(closed)
        })
    }

    /// What failed last on the port, of what is not made good.
    pub(super) fn last_failure(&self) -> Option<&'a FailedBind> {
        self.failures().next()
    }

    /// What failed on the port and is not made good, the last first.
    pub fn failures(&self) -> impl Iterator<Item = &'a FailedBind> + use<'a> {
        let Self { refused, destination, state, .. } = *self;
        let covers = move |taken: &Listener| coverage::mismatch(taken, &destination).is_none();
        state.binds.failures(destination.netns, destination.port, refused.time, covers)
    }

    /// The bind that failed last, where that is why the destination is not answered: the server's, for an address that
    /// covers it; for any, where nothing listens and the process never did.
    pub fn failed_bind(&self) -> Option<&'a FailedBind> {
        let would_cover =
            |failed: &FailedBind| coverage::mismatch(&failed.socket, &self.destination).is_none();
        let failed = self
            .failures()
            .filter(|failed| self.is_of_server(&failed.socket.process))
            .find(|failed| would_cover(failed) || !self.has_on_port() && !self.has_listened(failed))?;
        // A bind that failed while the listener was still up, which has closed since, is not what is wrong now; but of
        // another process that waits for the port, which is free now.
        let waits = |closed: &ClosedListener| {
            failed.errno == Errno::EADDRINUSE
                && would_cover(failed)
                && !self.is_by_instance_of(failed, &closed.listener.process)
                && !self.is_over(failed)
        };
        let is_latest = self.closed().is_none_or(|closed| closed.time < failed.last || waits(closed));
        (is_latest && !self.has_later_instance(failed.last) && self.is_still_so(failed)).then_some(failed)
    }

    /// Whether an instance of the server started after that, running or ended: what earlier ones failed to do is not the
    /// cause any more.
    fn has_later_instance(&self, time: Mono) -> bool {
        self.instances_by_then().any(|known| known.candidate.since > time)
    }

    /// The instances of the server that had started, running or ended: not the client itself, whatever its name.
    fn instances_by_then(&self) -> impl Iterator<Item = &'a ServerCandidate> {
        let Self { refused, destination, state, .. } = *self;
        let started = state.servers.started(destination.netns, refused.time);
        let is_client = move |known: &&ServerCandidate| known.candidate.process.pid == refused.client.pid;
        started
            .filter(move |known| !is_client(known))
            .filter(|known| self.serves(known) && self.is_instance(known))
    }

    /// Whether what made a bind fail is still so, as far as is known: the port is held, or the process goes on without it.
    fn is_still_so(&self, failed: &FailedBind) -> bool {
        let netns = self.destination.netns;
        let processes = self.processes_of(&failed.socket.process, failed.first);
        let elsewhere = || processes.iter().flat_map(|pid| self.elsewhere_of(*pid));
        let held = || processes.iter().flat_map(|pid| self.state.listeners.held_by(netns, *pid));
        let listens = || elsewhere().next().is_some() || held().next().is_some();
        // A port that was open before, such as one for metrics, is not where it went instead.
        let listens_elsewhere =
            elsewhere().any(|listener| listener.since.is_none_or(|since| since > failed.last));
        !listens_elsewhere
            && (failed.errno != Errno::EADDRINUSE
                || self.is_held(failed)
                || !self.is_over(failed) && !listens())
    }

    /// Whether the instance of the process that failed has ended, or was replaced by another program.
    fn is_over(&self, failed: &FailedBind) -> bool {
        let (pid, now) = (failed.socket.process.pid, self.refused.time);
        let instance = pid.and_then(|pid| self.state.servers.instance_of(pid, failed.first));
        instance.map_or_else(|| failed.ended_by(now).is_some(), |known| known.instance.is_over(now))
    }

    /// Whether a process is of the instance of the one that failed.
    fn is_by_instance_of(&self, failed: &FailedBind, process: &Process) -> bool {
        let own = failed.socket.process.pid;
        let instance = own.and_then(|pid| self.state.servers.instance_of(pid, failed.first));
        process.pid == own
            || process.pid.is_some_and(|pid| instance.is_some_and(|known| known.instance.ever_had(pid)))
    }

    /// The processes of the instance that a process was of then, as far as they are of it still; where no instance is known,
    /// the process itself.
    fn processes_of(&self, process: &Process, then: Mono) -> Vec<u32> {
        let Some(pid) = process.pid else { return Vec::new() };
        let (servers, now) = (&self.state.servers, self.refused.time);
        match servers.instance_of(pid, then) {
            Some(known) => known.instance.processes(now).collect(),
            None if servers.last_execution(pid).is_some_and(|executed| executed > then) => Vec::new(),
            None => vec![pid],
        }
    }

    /// The same of an instance.
    fn processes(&self, known: &'a ServerCandidate) -> Vec<u32> {
        known.instance.processes(self.refused.time).collect()
    }

    /// Whether another socket holds the port that a bind did not get; where that is not known, it is.
    pub fn is_held(&self, failed: &FailedBind) -> bool {
        let Destination { netns, port, .. } = self.destination;
        let HostState { listeners, binds, .. } = self.state;
        let is_other = |process: &Process| process.pid.is_none() || process.pid != failed.socket.process.pid;
        let keeps = |listener: &Listener| coverage::conflict(listener, &failed.socket);
        let closed_since = self.closed_here_since().any(keeps);
        let mut on_port = listeners.open_in(netns).filter(|listener| listener.port == port);
        listeners.count_in(netns, port) > 0 && on_port.any(keeps)
            || closed_since
            || binds.holders(netns, port).is_none_or(|holders| {
                holders.iter().any(|holder| is_other(&holder.socket.process) && keeps(&holder.socket))
            })
    }

    /// Whether the process that failed held a listener on the port by then.
    fn has_listened(&self, failed: &FailedBind) -> bool {
        let Destination { netns, port, .. } = self.destination;
        let HostState { listeners, servers, .. } = self.state;
        let process = &failed.socket.process;
        // Of one that has ended, its instance shows it.
        let instance = || servers.instance_of(process.pid?, failed.first).map(|known| known.candidate.since);
        let executed = process.pid.and_then(|pid| servers.last_execution(pid)).or_else(instance);
        let is_it = |(listener, closed): (&Listener, Option<Mono>)| {
            let holder = &listener.process;
            // A fork is part of the instance that its parent is of. An exec replaces it, also by the same program.
            let is_by_exec = executed.zip(closed).is_some_and(|(executed, closed)| {
                closed >= executed && closed.since(executed) < EXEC_CLOSES_NS
            });
            let is_before = executed > listener.since && (is_by_exec || process.comm != holder.comm);
            let is_parents = holder.pid.is_some()
                && holder.pid == process.ppid
                && service::is_same_program(holder, process);
            listener.port == port
                && (holder.pid == process.pid && !is_before || is_parents)
                && was_there(listener, self.refused.time)
        };
        let closed = listeners.closed_in(netns).filter(|closed| !closed.is_short());
        let closed = closed.map(|closed| (&closed.listener, Some(closed.time)));
        closed.chain(listeners.open_in(netns).map(|listener| (listener, None))).any(is_it)
    }

    /// The process that took the port last, whatever became of its socket.
    pub(super) fn last_caller(&self) -> Option<&'a Caller> {
        let Destination { netns, port, .. } = self.destination;
        self.state.binds.last_caller(netns, port, self.refused.time)
    }

    /// A socket that is bound to the port and does not listen, and since when; `None`: since before the trace.
    pub(super) fn any_bound(&self) -> Option<(&'a Listener, Option<Mono>)> {
        self.bound_sockets().next()
    }

    fn bound_sockets(&self) -> impl Iterator<Item = (&'a Listener, Option<Mono>)> + use<'a> {
        let Self { refused, destination: Destination { netns, port, .. }, state, .. } = *self;
        let HostState { listeners, binds, .. } = state;
        let is_before = move |time: Option<Mono>| time.is_none_or(|time| time <= refused.time);
        let has_listened = move |socket: &Listener| {
            listeners.get(netns, socket.key).is_some_and(|listener| was_there(listener, refused.time))
        };
        let bound = binds
            .bound_to(netns, port)
            .filter(move |(socket, time)| is_before(*time) && !has_listened(socket));
        let closed = binds.closed_since(netns, port, refused.time);
        let has_closed = move |socket: &Listener| listeners.closed_since(netns, socket.key, Mono(0));
        let closed = closed.filter(move |(socket, _)| !has_closed(socket));
        bound.chain(closed.map(|(socket, time)| (socket, Some(time))))
    }

    /// The same, of the server.
    pub fn bound(&self) -> Option<(&'a Listener, Option<Mono>)> {
        self.bound_sockets().find(|(socket, _)| self.is_of_server(&socket.process))
    }

    /// Server candidates that were running: not the client itself, whatever its name, and none that a later search found
    /// and that has started since.
    pub fn running(&self) -> Vec<&'a ServerCandidate> {
        let now = self.refused.time;
        let mut running = self.state.servers.running(self.destination.netns, now);
        running.retain(|known| {
            known.candidate.since <= now
                && known.candidate.process.pid != self.refused.client.pid
                && self.serves(known)
        });
        running
    }

    /// Whether the port is one that the product of a candidate serves, by default or by its settings.
    fn serves(&self, known: &ServerCandidate) -> bool {
        let Candidate { product, process, port, .. } = &known.candidate;
        let settings = self.state.settings.of(process);
        let is_instance = || self.server.is_some_and(|server| server.is(process));
        // What a server starts itself, such as a process for each connection, is part of that instance.
        let is_child = || {
            let tried = self.failures().map(|failed| failed.socket.process.pid);
            let holders = self.server.into_iter().flat_map(|server| [Some(server.process), server.opener]);
            let mut parents = holders.flatten().map(|holder| holder.pid).chain(tried);
            process.ppid.is_some() && parents.any(|parent| parent == process.ppid)
        };
        if !known.candidate.is_named && (!is_instance() || is_child()) {
            return false;
        }
        let is_for_it = port.is_none_or(|port| port.get() == self.destination.port);
        is_for_it && product.is_none_or(|product| product.serves(self.destination.port, settings))
    }

    /// Instances of the server among the candidates: of a server that is known by its name alone, or by nothing, any of
    /// them. A process that another user names like a product is not one beside a server that has listened.
    fn is_instance(&self, known: &ServerCandidate) -> bool {
        let process = &known.candidate.process;
        self.server.is_none_or(|server| {
            server.known_by >= KnownBy::Bind
                || server.is(process)
                || known.candidate.product.is_some() && server.may_be(process)
        })
    }

    /// Those of them that had neither listened nor settled on another port yet.
    pub fn starting(&self) -> Vec<&'a ServerCandidate> {
        let now = self.refused.time;
        let mut starting = self.running();
        let is_young = |known: &ServerCandidate| now.since(known.candidate.since) < STARTING_NS;
        starting.retain(|known| {
            !known.had_listened(self.destination.port, now)
                && is_young(known)
                && self.is_instance(known)
                && self.settled(known).is_none()
        });
        starting
    }

    /// Server candidates that had ended without listening, the last first.
    pub(super) fn ended_candidates(&self) -> Vec<&'a ServerCandidate> {
        let Destination { netns, port, .. } = self.destination;
        let mut ended = self.state.servers.ended_without_listening(netns, port, self.refused.time);
        ended.retain(|known| self.serves(known));
        ended
    }

    /// Those of them that are instances of the server, and ended after it last served.
    pub fn ended(&self) -> Vec<&'a ServerCandidate> {
        let of_server =
            |closed: &&ClosedListener| self.server.is_some_and(|server| server.is(&closed.listener.process));
        let on_port = self.closed_on_port().filter(of_server);
        let served_until = self.closed().into_iter().chain(on_port).map(|closed| closed.time).max();
        let mut ended = self.ended_candidates();
        if !self.is_last_end_silent() {
            return Vec::new();
        }
        ended.retain(|known| {
            let end = known.end().map(|(time, _)| time);
            self.is_instance(known) && served_until.is_none_or(|served| end > Some(served))
        });
        ended
    }

    /// Whether the instance of the server that ended last, or the one that started last, has ended without listening.
    fn is_last_end_silent(&self) -> bool {
        let (now, port) = (self.refused.time, self.destination.port);
        let end = |known: &&ServerCandidate| known.end().map(|(time, _)| time).filter(|time| *time <= now);
        let instances: Vec<&ServerCandidate> = self.instances_by_then().collect();
        let by_end = instances.iter().copied().filter(|known| end(known).is_some()).max_by_key(end);
        let by_start =
            instances.iter().copied().max_by_key(|known| (known.candidate.since, known.candidate.time));
        [by_end, by_start]
            .into_iter()
            .flatten()
            .any(|known| end(&known).is_some() && !known.had_listened(port, now))
    }

    /// What a process listens on in the namespace besides the port, on watched ports and on others.
    fn elsewhere_of(&self, pid: u32) -> impl Iterator<Item = &'a Listener> + use<'a> {
        let Self { refused, destination: Destination { netns, port, .. }, state, .. } = *self;
        let HostState { listeners, servers, .. } = state;
        // One that has closed while the refusal waited was there.
        let closed = listeners.closed_after(refused.time).map(|closed| &closed.listener);
        let closed = closed.filter(move |one| one.netns == netns && one.process.pid == Some(pid));
        let watched = listeners.held_by(netns, pid).chain(closed);
        let watched = watched.filter(move |listener| listener.port != port);
        let is_there = move |listener: &&Listener| was_there(listener, refused.time);
        servers.other_listeners(netns, pid, refused.time).chain(watched).filter(is_there)
    }

    /// Where a candidate listens instead, and how that is known to be all that it opens; `None`: it may still open the port.
    fn settled(&self, known: &'a ServerCandidate) -> Option<OtherPort<'a>> {
        let Candidate { product, process, since, .. } = &known.candidate;
        let is_set = |listener: &Listener| {
            let port = product.map(|product| product.port());
            let setting = port.and_then(|port| self.state.settings.of(process)?.effective(port));
            setting.is_some_and(|set| set.value.parse() == Ok(listener.port))
        };
        let has_tried = || self.has_tried(known);
        let is_old = || self.refused.time.since(*since) >= SETTLED_NS;
        self.elsewhere_of_instance(known).find_map(|listener| {
            let is_by_time = !is_set(listener) && !has_tried();
            let is_settled = !is_by_time || is_old() && !EPHEMERAL.contains(&listener.port);
            is_settled.then_some(OtherPort { listener, since: *since, is_by_time })
        })
    }

    /// What an instance listens on besides the port.
    fn elsewhere_of_instance(&self, known: &'a ServerCandidate) -> impl Iterator<Item = &'a Listener> {
        self.processes(known).into_iter().flat_map(|pid| self.elsewhere_of(pid))
    }

    /// Whether an instance has held the port, or has failed to take it.
    fn has_tried(&self, known: &ServerCandidate) -> bool {
        let Destination { netns, port, .. } = self.destination;
        let mut failures = self.state.binds.failures(netns, port, self.refused.time, |_| false);
        known.had_listened(port, self.refused.time)
            || failures.any(|failed| {
                failed.socket.process.pid.is_some_and(|pid| known.instance.had(pid, failed.first))
            })
    }

    /// The running instances of the server that listen on no TCP port of the namespace, and on something else: on what. One
    /// that has just started may still open the port, unless it has tried to.
    pub fn not_on_tcp(&self) -> Vec<(&'a ServerCandidate, &'a LocalEndpoint)> {
        let mut found = Vec::new();
        for known in self.running().into_iter().filter(|known| self.is_instance(known)) {
            let Candidate { process, since, .. } = &known.candidate;
            let Some(pid) = process.pid else { continue };
            let is_old = self.refused.time.since(*since) >= SETTLED_NS;
            if (is_old || self.has_tried(known))
                && !known.had_listened(self.destination.port, self.refused.time)
                && self.elsewhere_of_instance(known).next().is_none()
            {
                let endpoints = self.state.servers.local_sockets(pid);
                // A path identifies more than a port.
                let unix = |endpoint: &&LocalEndpoint| matches!(endpoint, LocalEndpoint::Unix(_));
                let endpoint = endpoints.iter().find(unix).or(endpoints.first());
                found.extend(endpoint.map(|endpoint| (known, endpoint)));
            }
        }
        found
    }

    /// The same, where no younger instance is still to open the port.
    pub fn is_not_on_tcp(&self) -> bool {
        let on_others = self.not_on_tcp();
        let newest = on_others.iter().map(|(known, _)| known.candidate.since).max();
        newest.is_some_and(|since| !self.has_starting_after(since))
    }

    /// Whether an instance that started after that is still to open the port, as where a second one was started with it.
    fn has_starting_after(&self, since: Mono) -> bool {
        let starting = self.starting();
        let mut younger = starting.iter().filter(|known| known.candidate.since > since).peekable();
        if younger.peek().is_none() {
            return false;
        }
        // One that listens on a Unix socket has settled there.
        let on_others = self.not_on_tcp();
        younger.any(|known| !on_others.iter().any(|(other, _)| std::ptr::eq(*other, *known)))
    }

    /// Whether the instance that a cause rests on was started with other arguments than the process that held the port:
    /// `nginx -t` is not a restart of the server. One that has tried to take the port is, and a unit's main process, whatever
    /// its arguments have become.
    pub fn has_other_arguments(&self, cause: Cause) -> bool {
        let holder = self.server.filter(|server| server.known_by < KnownBy::Name);
        let (Some(server), Some(process)) = (holder, self.decisive(cause)) else { return false };
        let is_main = process.ppid == Some(1) && process.unit.as_ref().is_some_and(Unit::is_service);
        let mut holders = [Some(server.process), server.opener].into_iter().flatten();
        !is_main
            && !self.state.binds.has_called(process)
            && holders.all(|holder| {
                holder.key() != process.key()
                    && holder.arguments.is_some()
                    && process.arguments.is_some()
                    && holder.arguments != process.arguments
            })
    }

    /// The process of the server's service that a cause rests on.
    fn decisive(&self, cause: Cause) -> Option<&'a Process> {
        match cause {
            Cause::OtherPort => self.elsewhere().first().map(|other| &other.listener.process),
            _ => self.candidate(cause),
        }
    }

    /// The process that a cause rests on, where that is a candidate.
    pub fn candidate(&self, cause: Cause) -> Option<&'a Process> {
        let known = match cause {
            Cause::NotOnTcp => self.not_on_tcp().first().map(|(known, _)| *known),
            Cause::Starting => self.starting().first().copied(),
            Cause::NeverListened => self.ended().first().copied(),
            _ => None,
        };
        known.map(|known| &known.candidate.process)
    }

    /// The packet filter of this host that refused by an ICMP message, as far as that is known.
    pub fn packet_filter(&self) -> Option<PacketFilter> {
        locate::packet_filter(self.refused, self.state)
    }

    /// A packet filter of this host refused, and no listener covers the destination.
    pub fn is_filtered_here(&self) -> bool {
        match self.place {
            // The sender of a refusal for another host's address may be that host.
            Place::Nowhere(_) => self.packet_filter().is_some(),
            Place::Here(destination) | Place::Elsewhere { destination, .. } => {
                destination.route.is_some() && is_filtered(self.refused) && self.covered_for().is_none()
            }
        }
    }

    /// How many processes of a server's service are known here: those that are candidates, and itself.
    pub fn instances(&self, server: &Server<'_>) -> u64 {
        let (Destination { netns, port, .. }, time) = (self.destination, self.refused.time);
        let servers = &self.state.servers;
        let ended = servers.ended_without_listening(netns, port, time);
        let known = servers.running(netns, time).into_iter().chain(ended);
        let others = known.filter(|known| {
            let Candidate { process, since, .. } = &known.candidate;
            *since <= time && process.key() != server.process.key() && server.is(process)
        });
        1 + others.count() as u64
    }

    /// Whether another service held the destination before, has taken the port since the server closed it, or has tried to
    /// since the server had it.
    pub fn has_rival(&self) -> bool {
        let (Some(server), Some(closed)) = (self.server, self.closed()) else { return false };
        let Destination { netns, port, .. } = self.destination;
        let state = self.state;
        let is_rival = |process: &Process, since: Option<Mono>| {
            let is_another = !server.is(process) || server.is_by_opener_only(process);
            since.is_some_and(|since| since > closed.time) && is_another && server.may_be(process)
        };
        let mut on_port = self.state.listeners.open_in(netns).filter(|listener| listener.port == port);
        let has_tried = |failed: &FailedBind| {
            let process = &failed.socket.process;
            closed.listener.since.is_none_or(|since| failed.last > since)
                && !server.is(process)
                && server.may_be(process)
        };
        let since = self.state.binds.callers(netns, port, (closed.time, self.refused.time));
        self.predecessor().is_some()
            || since.map(|process| state.processes.describe(process)).any(|process| {
                // By its name alone it may be of the server's own program.
                process.exe.is_some() && !server.is(&process) && server.may_be(&process)
            })
            || on_port.any(|listener| is_rival(&listener.process, listener.since))
            || self.failures().any(has_tried)
    }

    /// What the processes that failed to take the port listen on instead.
    pub fn elsewhere_of_failed(&self) -> Vec<&'a Listener> {
        let failed = self.failures().map(|failed| self.processes_of(&failed.socket.process, failed.first));
        let failed: BTreeSet<u32> = failed.flatten().collect();
        failed.into_iter().flat_map(|pid| self.elsewhere_of(pid)).collect()
    }

    /// What the processes that held or tried the port, and the server candidates, listen on instead.
    pub fn elsewhere(&self) -> Vec<OtherPort<'a>> {
        let running = self.running();
        let started = |pid: u32| {
            let known = running.iter().find(|known| known.candidate.process.pid == Some(pid));
            known.map(|known| known.candidate.since)
        };
        let acted_by = |process: &Process, since: Mono| {
            self.processes_of(process, since).into_iter().map(move |pid| (pid, since))
        };
        let last_owner = self
            .closed_on_port()
            .map(|closed| acted_by(&closed.listener.process, closed.listener.since.unwrap_or(closed.time)));
        let may_be = |process: &Process| self.server.is_none_or(|server| server.may_be(process));
        let of_server = self.failures().filter(|failed| may_be(&failed.socket.process));
        let failed = of_server.flat_map(|failed| acted_by(&failed.socket.process, failed.first));
        let acted: BTreeMap<u32, Mono> = failed.chain(last_owner.into_iter().flatten()).collect();
        let of_acted = acted.iter().flat_map(|(pid, acted)| {
            let since = started(*pid).unwrap_or(*acted);
            let elsewhere = self.elsewhere_of(*pid);
            elsewhere.map(move |listener| OtherPort { listener, since, is_by_time: false })
        });
        let of_named = running.iter().filter(|known| self.is_instance(known)).filter_map(|known| {
            let has_acted = known.candidate.process.pid.is_some_and(|pid| acted.contains_key(&pid));
            let settled = self.settled(known).filter(|_| !has_acted)?;
            let elsewhere: Vec<&'a Listener> = self.elsewhere_of_instance(known).collect();
            Some(elsewhere.into_iter().map(move |listener| OtherPort { listener, ..settled }))
        });
        of_acted.chain(of_named.flatten()).collect()
    }

    /// Whether the server has settled on another port: an instance that started after those that have may still open this
    /// one, and is waited for.
    pub fn is_on_another_port(&self) -> bool {
        let newest = self.elsewhere().iter().map(|other| other.since).max();
        newest.is_some_and(|since| !self.has_starting_after(since))
    }

    /// Whether the holder of what decides is the client itself, or was refused at the destination.
    pub fn is_own(&self, listener: &Listener) -> bool {
        let Some(pid) = listener.process.pid else { return false };
        let Self { refused, destination: Destination { netns, addr, port, .. }, state, .. } = *self;
        // A fork holds what its parent held.
        let instance = state.servers.instance_of(pid, refused.time);
        let is_holder = |other: u32| {
            other == pid || instance.is_some_and(|known| known.instance.had(other, refused.time))
        };
        let was_refused = state.refused.at((netns, addr, port), refused.time);
        refused.client.pid.into_iter().chain(was_refused).any(is_holder)
    }

    /// The listeners on the port of the namespace that can be the reason, nearest first, where all of them are the
    /// client's own.
    pub fn only_own(&self, cause: Cause) -> bool {
        let Destination { netns, port, .. } = self.destination;
        let mut on_port = self
            .state
            .listeners
            .open_in(netns)
            .filter(|listener| listener.port == port)
            .chain(self.closed_here_since())
            .filter(|listener| was_there(listener, self.refused.started) && self.decides(listener))
            .filter(|listener| {
                cause != Cause::WrongFamily || coverage::answers_other_family(listener, &self.destination)
            })
            .peekable();
        on_port.peek().is_some() && on_port.all(|listener| self.is_own(listener))
    }
}
