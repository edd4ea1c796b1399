//! The subject of a sentence or hint: a refusal, its verdict, and the facts that follow from both.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::view::View;
use super::words::{service_name, unit_of, who};
use crate::model::cause::{Cause, Mismatch};
use crate::model::container::Container;
use crate::model::errno::Errno;
use crate::model::escape::{escape, quoted};
use crate::model::kernel_event::Refused;
use crate::model::namespace::Namespace;
use crate::model::process::{ExitStatus, OwnerEnd, Process};
use crate::model::service;
use crate::model::socket::{Holder, Listener, NetnsId};
use crate::model::time::Mono;
use crate::model::trust;
use crate::query::Candidate;
use crate::state::HostState;
use crate::state::binds::FailedBind;
use crate::state::listeners::ClosedListener;
use crate::state::servers::ServerCandidate;
use crate::verdict::conflict;
use crate::verdict::considered::ConsideredListener;
use crate::verdict::coverage::{self, Destination};
use crate::verdict::evidence::Verdict;
use crate::verdict::packet_filter;
use crate::verdict::prospect;
use crate::verdict::scene::published::Published;
use crate::verdict::scene::turns::Turns;
use crate::verdict::uncertainty;

/// Ports below need a capability to be bound (`net.ipv4.ip_unprivileged_port_start`, its default).
pub const PRIVILEGED: u16 = 1_024;

/// A refusal, its verdict, and what is known of the host.
pub struct Subject<'a> {
    pub refused: &'a Refused,
    pub verdict: &'a Verdict,
    pub view: View<'a>,
    pub now: Mono,
}

/// A socket that holds a port.
#[derive(Clone, Copy)]
pub enum PortHolder<'a> {
    Listener(&'a Listener),
    /// One that is not a listener on a watched port, as a query of the port found it.
    Other(&'a Holder),
}

impl<'a> PortHolder<'a> {
    /// Its owner; without a process id, it has none any more.
    pub fn process(self) -> &'a Process {
        match self {
            Self::Listener(listener) => &listener.process,
            Self::Other(holder) => &holder.socket.process,
        }
    }
}

impl<'a> Subject<'a> {
    /// NAT led the connect to another destination, which the verdict is not about.
    pub fn is_led_away(&self) -> bool {
        self.verdict.cause != Cause::Remote && uncertainty::is_led_away(self.verdict.cause, self.refused)
    }

    /// The socket that the cause is about: that listens, listened, failed to get the port, or has it and does not
    /// listen.
    pub fn socket(&self) -> Option<&'a Listener> {
        let verdict = self.verdict;
        match verdict.cause {
            Cause::Filtered
            | Cause::Remote
            | Cause::NotOnTcp
            | Cause::Starting
            | Cause::NeverListened
            | Cause::NothingListening => None,
            Cause::Intercepted => self.those(|one| one.mismatch.is_none()).first().copied(),
            Cause::WrongDevice => self.those(|one| one.mismatch == Some(Mismatch::Device)).first().copied(),
            Cause::BindFailed => verdict.failed_binds.first().map(|failure| &failure.socket),
            Cause::Stopped => verdict.closed.as_ref().map(|closed| &closed.listener),
            Cause::WrongFamily => self.of_the_other_family(),
            Cause::WrongAddress => self.nearest_to_client(),
            Cause::BoundNotListening => verdict.bound.as_ref().map(|bound| &bound.socket),
            Cause::OtherNetns => self.in_another_netns().first().copied(),
            Cause::OtherPort => verdict.elsewhere.first(),
        }
    }

    /// The socket of the nearest listener's owner that its client is to use: on loopback where there is one, which exposes
    /// nothing.
    fn nearest_to_client(&self) -> Option<&'a Listener> {
        let nearest = *self.in_place().first()?;
        Some(self.on_loopback(nearest).unwrap_or(nearest))
    }

    /// The listener of a listener's process that is on loopback, in the client's family.
    pub fn on_loopback(&self, listener: &Listener) -> Option<&'a Listener> {
        let is_own = |other: &&Listener| {
            other.process.pid == listener.process.pid
                && other.addr.is_loopback()
                && other.addr.is_ipv4() == self.dst().is_ipv4()
        };
        self.in_place().into_iter().find(is_own)
    }

    /// The candidate that the cause is about, and how it ended.
    pub fn candidate(&self) -> Option<(&'a Candidate, Option<(Mono, ExitStatus)>)> {
        let candidates = &self.verdict.candidates;
        let known = match self.verdict.cause {
            Cause::NeverListened => candidates.iter().find(|known| known.end().is_some()),
            _ => candidates.first(),
        };
        known.map(|known| (&known.candidate, known.end()))
    }

    /// Why the last bind or listen failed.
    pub fn errno(&self) -> Option<Errno> {
        self.verdict.failed_binds.first().map(|failure| failure.errno)
    }

    /// The socket that holds the port that another asked for.
    pub fn holder(&self) -> Option<PortHolder<'a>> {
        // A listener that is there holds the port; others are found by a query of the port.
        let listener = self.in_place().into_iter().find(|listener| self.kept_from(listener));
        listener.map(PortHolder::Listener).or_else(|| self.other_holder().map(PortHolder::Other))
    }

    /// What holds the port that another asked for is what is left of a connection: no process has it.
    pub fn is_held_by_remains(&self) -> bool {
        matches!(self.holder(), Some(PortHolder::Other(holder)) if holder.state.has_no_owner())
    }

    /// What a query of the port found to hold it, other than the listeners.
    fn other_holder(&self) -> Option<&'a Holder> {
        let holders = self.view.state.binds.holders(self.netns(), self.port())?;
        holders.iter().find(|holder| self.kept_from(&holder.socket))
    }

    /// Whether a socket kept the bind that failed from its address: one on the port for another address did not.
    fn kept_from(&self, socket: &Listener) -> bool {
        let HostState { listeners, binds, .. } = self.view.state;
        let failed = self.verdict.failed_binds.first();
        failed.is_none_or(|failed| conflict::holders(&failed.socket, listeners, binds).includes(socket))
    }

    /// What a namespace holds was not read, or could not be: only its events are known.
    pub fn is_unread(&self, netns: NetnsId) -> bool {
        let namespaces = &self.view.state.namespaces;
        namespaces.is_unreadable(netns) || namespaces.get(netns).is_none()
    }

    pub fn port(&self) -> u16 {
        self.verdict.destination.port
    }

    pub fn netns(&self) -> NetnsId {
        self.verdict.destination.netns
    }

    pub fn dst(&self) -> IpAddr {
        self.verdict.destination.addr
    }

    /// The address belongs to another namespace than the client's.
    pub fn is_elsewhere(&self) -> bool {
        self.netns() != self.refused.netns
    }

    /// The container that a namespace seems to be of: that of a process that listens or connects inside it.
    pub fn container_of(&self, netns: NetnsId) -> Option<&Container> {
        let client = (netns == self.refused.netns).then_some(&self.refused.client);
        let evaluated = self.verdict.considered.iter().filter(|one| one.listener.netns == netns);
        let mut processes = evaluated.map(|one| &one.listener.process).chain(client);
        processes.find_map(|process| process.container.as_ref())
    }

    /// The evaluated listeners that satisfy a condition.
    pub fn those(&self, is: impl Fn(&ConsideredListener) -> bool) -> Vec<&'a Listener> {
        self.verdict.considered.iter().filter(|one| is(one)).map(|one| &one.listener).collect()
    }

    /// The open listeners on the port in the destination's namespace.
    pub fn in_place(&self) -> Vec<&'a Listener> {
        self.those(|one| {
            one.listener.netns == self.netns()
                && !matches!(
                    one.mismatch,
                    Some(Mismatch::Closed | Mismatch::NotYet | Mismatch::Netns | Mismatch::Port)
                )
        })
    }

    /// The listeners in other namespaces, those of the server first: another user's beside them decides nothing.
    pub fn in_another_netns(&self) -> Vec<&'a Listener> {
        let mut listeners = self.those(|one| one.mismatch == Some(Mismatch::Netns));
        if let Some(server) = &self.verdict.server {
            listeners.sort_by_key(|listener| !service::is_same(&server.process, &listener.process));
        }
        listeners
    }

    /// Whether an address of the destination's namespace was answered from inside.
    pub fn is_answered(&self, addr: IpAddr) -> bool {
        let route =
            self.view.state.namespaces.get(self.netns()).and_then(|namespace| namespace.route_to(addr, None));
        let destination = Destination { addr, route, ..self.verdict.destination };
        prospect::was_answered(&destination, self.refused.time, &self.view.state.listeners)
    }

    /// A filter that would refuse with a listener too.
    pub fn is_filtered(&self) -> bool {
        packet_filter::is_filtered(self.refused)
    }

    /// The listener that would have answered the counterpart of the address.
    pub fn of_the_other_family(&self) -> Option<&'a Listener> {
        let answers =
            |listener: &&Listener| coverage::answers_other_family(listener, &self.verdict.destination);
        self.in_place().into_iter().find(answers)
    }

    /// The address of the other family that a client of `localhost` tries, where it is answered.
    pub fn answered_counterpart(&self) -> Option<IpAddr> {
        let other: IpAddr =
            if self.dst().is_ipv6() { Ipv4Addr::LOCALHOST.into() } else { Ipv6Addr::LOCALHOST.into() };
        (self.dst().is_loopback() && self.is_answered(other)).then_some(other)
    }

    /// Whether a packet filter refused for an address that is another host's, or a Service's.
    pub fn is_of_no_netns(&self) -> bool {
        self.verdict.unfiltered == Some(Cause::Remote)
    }

    /// A query of the port has found no socket that holds it, and no listener does.
    pub fn is_free_now(&self) -> bool {
        let HostState { listeners, binds, .. } = self.view.state;
        let holders = binds.holders(self.netns(), self.port());
        listeners.count_in(self.netns(), self.port()) == 0 && holders.is_some_and(<[_]>::is_empty)
    }

    /// Whether the namespace of the destination has this address now.
    pub fn is_address(&self, addr: IpAddr) -> bool {
        let namespace = self.view.state.namespaces.get(self.netns());
        // An own address of lo has a route also where the table was not read, or has none of its family.
        let is_off = |namespace: &Namespace| {
            addr.is_loopback()
                && !namespace.local.is_empty()
                && !namespace.local.iter().any(|one| one.contains(addr))
        };
        namespace.is_some_and(|namespace| namespace.route_to(addr, None).is_some() && !is_off(namespace))
    }

    /// A process by its name and number; one that has ended, which has no number any more, by its unit or its name.
    pub fn name(&self, process: &Process) -> String {
        if !self.view.state.has_ended(process) {
            return who(process);
        }
        let unit = unit_of(process).map(|_| service_name(process));
        let name = || process.comm.as_ref().map(|comm| quoted(&escape(comm.as_bytes())).into_owned());
        unit.or_else(name).unwrap_or_else(|| "the server".to_owned())
    }

    /// The same in a pair of services: each by its unit.
    pub fn service_name(&self, process: &Process) -> String {
        if unit_of(process).is_some() { service_name(process) } else { self.name(process) }
    }

    /// How a process is brought back: `restart nginx[7]`, or `start nginx again` where it has ended.
    pub fn restart(&self, process: &Process) -> String {
        let name = self.name(process);
        if self.view.state.has_ended(process) {
            format!("start {name} again")
        } else {
            format!("restart {name}")
        }
    }

    /// Whether no socket that is known has the destination's own address, where the server asked for every address.
    pub fn is_free_by_itself(&self) -> bool {
        let Some(failed) = self.verdict.failed_binds.first() else { return false };
        let wanted = Listener { addr: self.dst(), ..failed.socket.clone() };
        failed.socket.addr.is_unspecified() && self.is_address(self.dst()) && self.is_known_free(&wanted)
    }

    /// Whether no socket that is known keeps another one from an address.
    fn is_known_free(&self, wanted: &Listener) -> bool {
        let HostState { listeners, binds, .. } = self.view.state;
        let holders = conflict::holders(wanted, listeners, binds);
        holders.listeners().next().is_none()
            && holders.queried().is_none_or(|mut queried| queried.next().is_none())
    }

    /// Whether a process accepted connections on the port that a listener of its own had, or its program's.
    pub fn has_accepted(&self, process: &Process) -> bool {
        let closed = self.view.state.listeners.closed_in(self.netns()).map(|closed| &closed.listener);
        let mut known = closed.chain(self.in_place()).filter(|listener| listener.port == self.port());
        known.any(|listener| {
            listener.process.is_same(process) || service::is_same_program(&listener.process, process)
        })
    }

    /// Whether a process listens on another port of the destination's namespace, as far as that was read.
    pub fn listens_elsewhere(&self, process: &Process) -> bool {
        let HostState { listeners, elsewhere, .. } = self.view.state;
        process.pid.is_some_and(|pid| {
            listeners.held_by(self.netns(), pid).next().is_some()
                || elsewhere.other_listeners(self.netns(), pid, self.refused.time).next().is_some()
        })
    }

    /// With `stopped`: a process of the server that did not get the port while that was held, and goes on without it.
    pub fn waits_for_port(&self) -> Option<&'a Process> {
        let server = self.verdict.server.as_ref()?;
        let waits = |failed: &&FailedBind| {
            let process = &failed.socket.process;
            failed.errno == Errno::EADDRINUSE
                && failed.ended.is_none()
                && process.pid.is_some()
                && !self.view.state.has_ended(process)
                && coverage::mismatch(&failed.socket, &self.verdict.destination).is_none()
                && service::is_same(&server.process, process)
                && self.verdict.closed.as_ref().is_some_and(|closed| {
                    closed.time > failed.last && closed.listener.process.pid != process.pid
                })
        };
        let failed = self.verdict.failed_binds.iter().find(waits)?;
        self.is_known_free(&failed.socket).then_some(&failed.socket.process)
    }

    /// With `nothing-listening`: the listener on the port, at an address that the destination is not, that closed last.
    pub fn last_on_port(&self) -> Option<&'a ClosedListener> {
        let mut closed = self.view.state.listeners.closed_in(self.netns());
        closed.find(|closed| {
            closed.listener.port == self.port() && closed.time <= self.refused.time && !closed.is_short()
        })
    }

    /// The same, where its process is one that the client can take for its server, and goes on.
    pub fn may_open_again(&self) -> Option<&'a ClosedListener> {
        let goes_on = |closed: &&ClosedListener| {
            let process = &closed.listener.process;
            closed.owner == OwnerEnd::Running
                && !self.view.state.has_ended(process)
                && trust::is_known_to(&self.refused.client, process)
        };
        self.last_on_port().filter(goes_on)
    }

    /// The forwarder that publishes the port at another one.
    pub fn published(&self) -> Option<&'a Published> {
        self.verdict.published.as_ref()
    }

    /// Two services that take the port in turn.
    pub fn turns(&self) -> Option<&'a Turns> {
        self.verdict.turns.as_ref()
    }

    /// With `stopped`: the instance of the server that started after the one that closed its listener. It may have started
    /// before that closed: what ends a server to take its place is running by then.
    pub fn successor(&self) -> Option<&'a Candidate> {
        let closed = self.verdict.closed.as_ref()?;
        let former = &closed.listener.process;
        let is_another = |known: &&ServerCandidate| {
            let Candidate { process, since, .. } = &known.candidate;
            let is_younger = || process.start.zip(former.start).is_some_and(|(next, former)| next > former);
            let is_later = match closed.listener.since {
                Some(opened) => *since > opened,
                None => *since > closed.time || is_younger(),
            };
            // A server that has a worker listen in its place goes on without it.
            let is_parent = process.pid.is_some() && process.pid == former.ppid;
            process.key() != former.key() && !is_parent && is_later
        };
        self.verdict.candidates.iter().find(is_another).map(|known| &known.candidate)
    }
}
