//! What binds and bound sockets show of the port: which failed, which are made good, what holds it without listening.

use super::Scene;
use crate::model::errno::Errno;
use crate::model::process::Process;
use crate::model::service;
use crate::model::socket::{Holder, Listener};
use crate::model::time::Mono;
use crate::model::trust;
use crate::state::HostState;
use crate::state::binds::FailedBind;
use crate::state::callers::Caller;
use crate::state::listeners::ClosedListener;
use crate::state::servers::ServerCandidate;
use crate::verdict::conflict;
use crate::verdict::coverage::{self, Destination, was_there};
use crate::verdict::server::KnownBy;

impl<'a> Scene<'a> {
    /// The binds that failed on the port and are not made good, the last first.
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
        let is_latest = self
            .closed()
            .is_none_or(|closed| closed.time < failed.last_by(self.refused.time) || waits(closed));
        (is_latest && !self.has_later_instance(failed) && self.is_still_so(failed)).then_some(failed)
    }

    /// Whether an instance of the service that failed started after that, running or ended: what earlier ones failed to do is
    /// not the cause any more. What failed for a process that the client does not know, any instance settles.
    fn has_later_instance(&self, failed: &FailedBind) -> bool {
        let process = &failed.socket.process;
        let is_unverified = !trust::is_known_to(&self.refused.client, process);
        let is_later = |known: &&ServerCandidate| {
            known.candidate.since > failed.last_by(self.refused.time)
                && (is_unverified || service::is_same(process, &known.candidate.process))
        };
        self.instances_by_then().any(|known| is_later(&known))
    }

    /// Whether what made a bind fail is still so, as far as is known: the port is held, or the process goes on without it.
    fn is_still_so(&self, failed: &FailedBind) -> bool {
        let netns = self.destination.netns;
        let mut processes = self.processes_of(&failed.socket.process, failed.first);
        // A program that replaced it has what it listened on. What that has opened itself is another server's.
        let replaced = failed.socket.process.pid.filter(|_| processes.is_empty());
        let executed = replaced.and_then(|pid| self.state.servers.last_execution(pid));
        processes.extend(replaced);
        let elsewhere = || {
            let beside = processes.iter().flat_map(|pid| self.elsewhere_of(*pid));
            beside.filter(|beside| executed.is_none_or(|executed| beside.is_after(executed) != Some(true)))
        };
        let held = processes.iter().flat_map(|pid| self.state.listeners.held_by(netns, *pid));
        let mut held = held.filter(|listener| was_there(listener, self.refused.time));
        // One that has closed while the refusal waited was there.
        let is_own = |one: &&Listener| one.process.pid.is_some_and(|pid| processes.contains(&pid));
        let mut held_then = self.closed_here_since().filter(is_own);
        let mut listens =
            || elsewhere().next().is_some() || held.next().is_some() || held_then.next().is_some();
        // A port that was open before, such as one for metrics, is not where it went instead.
        let listens_elsewhere =
            elsewhere().any(|beside| beside.is_after(failed.last_by(self.refused.time)) != Some(false));
        !listens_elsewhere
            && (failed.errno != Errno::EADDRINUSE
                || self.is_held(failed)
                || !self.is_over(failed) && !listens())
    }

    /// Whether a process that failed listens on a port of which it is not known whether it has gone there instead.
    pub fn may_have_gone_elsewhere(&self) -> bool {
        self.failures().filter(|failed| self.is_of_server(&failed.socket.process)).any(|failed| {
            let processes = self.processes_of(&failed.socket.process, failed.first);
            let mut elsewhere = processes.into_iter().flat_map(|pid| self.elsewhere_of(pid));
            elsewhere.any(|beside| beside.is_after(failed.last_by(self.refused.time)).is_none())
        })
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

    /// Whether another socket keeps a bind that failed from its address; where that is not known, it does.
    pub fn is_held(&self, failed: &FailedBind) -> bool {
        let HostState { listeners, binds, .. } = self.state;
        let own = failed.socket.process.pid.filter(|_| !self.is_over(failed));
        let is_other = |process: &Process| process.pid.is_none() || process.pid != own;
        let now = self.refused.time;
        let holders = conflict::holders(&failed.socket, listeners, binds);
        // The port may have been taken since, before it was queried.
        let is_later = |socket: &Listener| {
            let mut bound = binds.bound_to(socket.netns, socket.port);
            bound.any(|(bound, time)| bound.key.is_same(socket.key) && time > Some(now))
        };
        let holds = |holder: &Holder| is_other(&holder.socket.process) && !is_later(&holder.socket);
        holders.listeners().any(|listener| was_there(listener, now))
            || self.closed_here_since().any(|listener| holders.includes(listener))
            || holders.queried().is_none_or(|mut queried| queried.any(holds))
    }

    /// Whether the process that failed held a listener on the port by then.
    fn has_listened(&self, failed: &FailedBind) -> bool {
        let Destination { netns, port, .. } = self.destination;
        let HostState { listeners, servers, .. } = self.state;
        let process = &failed.socket.process;
        // Of one that has ended, or was replaced by another program, its instance shows when it started.
        let known = process.pid.and_then(|pid| servers.instance_of(pid, failed.first));
        let executed = process.pid.and_then(|pid| servers.last_execution(pid));
        let own_exec = executed.filter(|executed| *executed <= failed.first);
        let executed = own_exec.or_else(|| known.map(|known| known.candidate.since));
        let is_it = |(listener, closed): (&Listener, Option<&ClosedListener>)| {
            let holder = &listener.process;
            // A fork is part of the instance that its parent is of. An exec replaces it, also by the same program; a listener
            // that it does not close is the new one's.
            let is_over = executed.zip(closed).is_some_and(|(executed, closed)| {
                closed.time < executed || closed.is_by_exec && closed.time < failed.first
            });
            let is_before = executed > listener.since && is_over;
            // One that has executed a program is another instance than its parent.
            let is_parents = own_exec.is_none()
                && holder.pid.is_some()
                && holder.pid == process.ppid
                && service::is_same_program(holder, process);
            let other = holder.pid.filter(|_| holder.pid != process.pid);
            let is_of_instance = known.zip(other).is_some_and(|(known, pid)| {
                let mut then = [listener.since, closed.map(|closed| closed.time)].into_iter().flatten();
                known.instance.had(pid, failed.first) || then.any(|then| known.instance.had(pid, then))
            });
            listener.port == port
                && (holder.pid == process.pid && !is_before || is_parents || is_of_instance)
                && was_there(listener, self.refused.time)
        };
        let closed = listeners.closed_in(netns).filter(|closed| !closed.is_short());
        let closed = closed.map(|closed| (&closed.listener, Some(closed)));
        closed.chain(listeners.open_in(netns).map(|listener| (listener, None))).any(is_it)
    }

    /// The processes that took the port, whatever became of their sockets.
    pub(in crate::verdict) fn takers(&self) -> impl Iterator<Item = &'a Caller> + use<'a> {
        let Destination { netns, port, .. } = self.destination;
        self.state.binds.takers(netns, port, self.refused.time)
    }

    /// The sockets that are bound to the port and do not listen, and since when; `None`: since before the trace.
    pub(in crate::verdict) fn bound_sockets(
        &self,
    ) -> impl Iterator<Item = (&'a Listener, Option<Mono>)> + use<'a> {
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
        let closed =
            closed.filter(move |(socket, _)| !listeners.was_open_before(netns, socket.key, refused.time));
        bound.chain(closed.map(|(socket, time)| (socket, Some(time))))
    }

    /// The same of a socket of the server: beside one that the client knows and that is known by its bind, not of another
    /// service.
    pub fn bound(&self) -> Option<(&'a Listener, Option<Mono>)> {
        let by_bind = self.server.filter(|server| {
            server.known_by == KnownBy::Bind && trust::is_known_to(&self.refused.client, server.process)
        });
        self.bound_sockets().find(|(Listener { process, .. }, _)| {
            self.is_of_server(process) && by_bind.is_none_or(|server| server.is(process))
        })
    }
}
