//! The server candidates of the destination: which are running, starting, ended, or on no TCP port.

use super::Scene;
use super::elsewhere::{SETTLED_NS, Tried};
use crate::model::cause::Cause;
use crate::model::process::Process;
use crate::model::service;
use crate::model::time::Mono;
use crate::model::unit::Unit;
use crate::query::{Candidate, LocalEndpoint};
use crate::state::binds::FailedBind;
use crate::state::listeners::ClosedListener;
use crate::state::servers::ServerCandidate;
use crate::verdict::coverage::Destination;
use crate::verdict::server::{KnownBy, Server};

/// How long a process that is named like the server may take to listen.
const STARTING_NS: u64 = 300_000_000_000;

impl<'a> Scene<'a> {
    /// Server candidates that were running: not the client itself, whatever its name, unless it has held the port; and none
    /// that a later search found and that has started since.
    pub fn running(&self) -> Vec<&'a ServerCandidate> {
        let now = self.refused.time;
        let mut running = self.state.servers.running(self.destination.netns, now);
        running.retain(|known| {
            known.candidate.since <= now
                && (known.candidate.process.pid != self.refused.client.pid
                    || known.had_listened(self.destination.port, now))
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
    pub(super) fn is_instance(&self, known: &ServerCandidate) -> bool {
        let process = &known.candidate.process;
        self.server.is_none_or(|server| {
            server.known_by == KnownBy::Name
                || server.known_by == KnownBy::Bind && self.may_be_by_bind(server, process)
                || server.is(process)
                || known.candidate.product.is_some() && server.may_be(process)
        })
    }

    /// The instances of the server that had started, running or ended: not the client itself, whatever its name, unless it has
    /// held the port.
    pub(super) fn instances_by_then(&self) -> impl Iterator<Item = &'a ServerCandidate> {
        let Self { refused, destination, state, .. } = *self;
        let started = state.servers.started(destination.netns, refused.time);
        let is_client = move |known: &&ServerCandidate| {
            known.candidate.process.pid == refused.client.pid
                && !known.had_listened(destination.port, refused.time)
        };
        started
            .filter(move |known| !is_client(known))
            .filter(|known| self.serves(known) && self.is_instance(known))
    }

    /// Running instances of the server that had neither listened nor settled on another port yet.
    pub fn starting(&self) -> Vec<&'a ServerCandidate> {
        let now = self.refused.time;
        let mut starting = self.running();
        let is_young = |known: &ServerCandidate| now.since(known.candidate.since) < STARTING_NS;
        starting.retain(|known| {
            !known.had_listened(self.destination.port, now)
                && !self.is_parent_of_holder(known)
                && is_young(known)
                && self.is_instance(known)
                && self.settled(known).is_none()
        });
        starting
    }

    /// Whether it started the process that held the port last, and has executed its own program again since: a server that
    /// has a worker listen in its place is not one that is still to listen.
    fn is_parent_of_holder(&self, known: &ServerCandidate) -> bool {
        let Candidate { process, since, .. } = &known.candidate;
        let Destination { netns, port, .. } = self.destination;
        let closed = self.state.listeners.closed_in(netns).filter(|closed| closed.listener.port == port);
        let mut holders =
            closed.map(|closed| &closed.listener).filter(|listener| !listener.process.is_same(process));
        process.pid.is_some()
            && holders.any(|listener| {
                listener.process.ppid == process.pid && listener.since.is_none_or(|opened| opened < *since)
            })
    }

    /// Whether an instance that started after that is still to open the port, as where a second one was started with it.
    pub(super) fn has_starting_after(&self, since: Mono) -> bool {
        let starting = self.starting();
        let mut younger = starting.iter().filter(|known| known.candidate.since > since).peekable();
        if younger.peek().is_none() {
            return false;
        }
        // One that listens on a Unix socket has settled there.
        let on_others = self.not_on_tcp();
        younger.any(|known| !on_others.iter().any(|(other, _)| std::ptr::eq(*other, *known)))
    }

    /// Server candidates that had ended without listening, the last first.
    pub(in crate::verdict) fn ended_candidates(&self) -> Vec<&'a ServerCandidate> {
        let Destination { netns, port, .. } = self.destination;
        let mut ended = self.state.servers.ended_without_listening(netns, port, self.refused.time);
        ended.retain(|known| self.serves(known));
        ended
    }

    /// Ended candidates that are instances of the server, and ended after it last served.
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

    /// What an instance has done on the port.
    pub(super) fn tried(&self, known: &ServerCandidate) -> Tried {
        let Destination { netns, port, .. } = self.destination;
        if known.had_listened(port, self.refused.time) {
            return Tried::Held;
        }
        let failures = self.state.binds.failures(netns, port, self.refused.time, |_| false);
        let is_own = |failed: &&FailedBind| {
            failed.socket.process.pid.is_some_and(|pid| known.instance.had(pid, failed.first))
        };
        failures.filter(is_own).map(|failed| failed.first).min().map_or(Tried::Not, Tried::FailedAt)
    }

    /// The running instances of the server that listen on no TCP port of the namespace, and on something else: on what. One
    /// that has just started may still open the port, unless it has tried to.
    pub fn not_on_tcp(&self) -> Vec<(&'a ServerCandidate, &'a LocalEndpoint)> {
        let mut found = Vec::new();
        for known in self.running().into_iter().filter(|known| self.is_instance(known)) {
            let is_old = self.refused.time.since(known.candidate.since) >= SETTLED_NS;
            if (is_old || self.tried(known) != Tried::Not)
                && !known.had_listened(self.destination.port, self.refused.time)
                && self.elsewhere_of_instance(known).next().is_none()
            {
                let processes = self.state.servers.processes_of(known, self.refused.time);
                let endpoints = processes.iter().flat_map(|pid| self.state.elsewhere.local_sockets(*pid));
                // A path is more specific than a port.
                let is_port = |endpoint: &&LocalEndpoint| !matches!(endpoint, LocalEndpoint::Unix(_));
                found.extend(endpoints.min_by_key(is_port).map(|endpoint| (known, endpoint)));
            }
        }
        found
    }

    /// Whether there are such instances, and no younger instance is still to open the port.
    pub fn is_not_on_tcp(&self) -> bool {
        let on_others = self.not_on_tcp();
        let newest = on_others.iter().map(|(known, _)| known.candidate.since).max();
        newest.is_some_and(|since| !self.has_starting_after(since))
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
                let differ = match (holder.arguments, process.arguments) {
                    (Some(one), Some(other)) => one != other,
                    // Of an interpreter without a script, the arguments alone say what it runs.
                    _ => service::is_by_name_only(holder, process),
                };
                holder.key() != process.key() && differ
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

    /// The processes of the instance that a process was of then, as far as they are of it still; where no instance is known,
    /// the process itself.
    pub(super) fn processes_of(&self, process: &Process, then: Mono) -> Vec<u32> {
        let Some(pid) = process.pid else { return Vec::new() };
        let (servers, now) = (&self.state.servers, self.refused.time);
        match servers.instance_of(pid, then) {
            // What is left of one that has ended is not the server.
            Some(known) if known.instance.is_over(now) => Vec::new(),
            Some(known) => known.instance.processes(now).collect(),
            None if servers.last_execution(pid).is_some_and(|executed| executed > then) => Vec::new(),
            None => vec![pid],
        }
    }

    /// The processes of an instance that are of it still.
    pub(super) fn processes(&self, known: &'a ServerCandidate) -> Vec<u32> {
        known.instance.processes(self.refused.time).collect()
    }
}
