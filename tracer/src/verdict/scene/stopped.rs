//! The listener that covered the destination and closed, and whether the server has come back since.

use super::Scene;
use crate::model::cause::Cause;
use crate::model::kernel_event::Refused;
use crate::model::process::{ExitStatus, OwnerEnd, Process};
use crate::model::service;
use crate::model::socket::Listener;
use crate::model::time::Mono;
use crate::state::listeners::ClosedListener;
use crate::state::servers::ServerCandidate;
use crate::state::{HostState, SERVED_NS};
use crate::verdict::coverage::{self, Destination, was_there};
use crate::verdict::locate::locate;
use crate::verdict::uncertainty::CHANGING_NS;

/// Until when the end of the process may come that closed the listener a refusal is about, or of the server that still
/// listens elsewhere; `None`: it has ended, or the refusal is about none.
pub fn may_be_ending(refused: &Refused, cause: Cause, state: &HostState, within: u64) -> Option<Mono> {
    if cause != Cause::Stopped {
        return None;
    }
    let scene = Scene::new(refused, locate(refused, state), state);
    let may_end = |closed: &&ClosedListener| closed.owner == OwnerEnd::Running || !scene.kept().is_empty();
    let closed = scene.closed().filter(may_end)?;
    Some(closed.time.plus(within)).filter(|until| *until > refused.time)
}

/// For how long the workers of a server that has ended may go on, until the last of them closes its listener.
const LINGER_NS: u64 = 60_000_000_000;

impl<'a> Scene<'a> {
    /// The listener that covered the destination and closed last before the refusal, or so shortly after the
    /// connect that it was on its way out.
    ///
    /// What another service opened for a moment, and ended with, takes nothing from the one that served before.
    pub fn closed(&self) -> Option<&'a ClosedListener> {
        let Self { refused, destination, state, .. } = *self;
        let mut closed = state
            .listeners
            .closed_in(destination.netns)
            .filter(|closed| closed.time.since(refused.started) < CHANGING_NS)
            .filter(|closed| was_there(&closed.listener, refused.time) && !closed.is_probe())
            .filter(|closed| coverage::mismatch(&closed.listener, &destination).is_none());
        let last = closed.next()?;
        let served = last.is_short().then(|| closed.find(|closed| !closed.is_short())).flatten();
        let is_another =
            |served: &&ClosedListener| !service::is_same(&served.listener.process, &last.listener.process);
        Some(served.filter(is_another).unwrap_or(last))
    }

    /// The listener on the port of the namespace that closed last before the refusal, whatever it covered.
    pub(in crate::verdict) fn closed_on_port(&self) -> Option<&'a ClosedListener> {
        self.every_closed_on_port().next()
    }

    /// Those that did, the last first.
    pub(in crate::verdict) fn every_closed_on_port(
        &self,
    ) -> impl Iterator<Item = &'a ClosedListener> + use<'a> {
        let Self { refused, destination, state, .. } = *self;
        state.listeners.closed_in(destination.netns).filter(move |closed| {
            closed.listener.port == destination.port && closed.time <= refused.time && !closed.is_probe()
        })
    }

    /// Whether the server, or one that may be, has opened anything on the port of that namespace since then.
    pub fn has_opened_since(&self, time: Mono) -> bool {
        let Destination { netns, port, .. } = self.destination;
        let is_it = |listener: &Listener| {
            listener.since.is_some_and(|since| since > time && since <= self.refused.time)
                && self.decides(listener)
        };
        self.state.listeners.open_on(netns, port).any(is_it) || self.closed_here_since().any(is_it)
    }

    /// Whether the server opened another listener on the port before it closed this one, and after it had served by it: as
    /// at a reload, which opens the new address first.
    fn has_moved_from(&self, closed: &Listener) -> bool {
        let Destination { netns, port, .. } = self.destination;
        let served = closed.since.map(|since| since.plus(SERVED_NS));
        let is_later = |listener: &Listener| {
            listener.since.is_some_and(|since| served.is_none_or(|served| since > served))
        };
        let on_port = self.state.listeners.open_on(netns, port);
        on_port.chain(self.closed_here_since()).any(|listener| {
            is_later(listener)
                && was_there(listener, self.refused.time)
                && self.server.is_some_and(|server| server.is(&listener.process))
        })
    }

    /// Whether an instance that started after that has ended without listening, listens on another port, or not on TCP.
    fn has_failed_since(&self, closed: &ClosedListener) -> bool {
        // The program that replaced the one that listened started before the listener was closed.
        let is_later = |known: &ServerCandidate| {
            let since = known.candidate.since;
            let is_heir = known.candidate.process.pid == closed.listener.process.pid;
            since > closed.time || is_heir && closed.listener.since.is_some_and(|opened| since > opened)
        };
        // The same of the program that opened it, where a fork closed it: a master that executes itself to reload.
        let is_reloaded = |known: &ServerCandidate| {
            let pid = known.candidate.process.pid;
            let mut before = closed.holders_before().map(|before| before.pid).chain([closed.root]);
            pid.is_some()
                && before.any(|one| one == pid)
                && closed.listener.since.is_some_and(|opened| known.candidate.since > opened)
        };
        self.ended().iter().any(|known| is_later(known))
            || self.running().iter().any(|known| {
                is_later(known)
                    && self.is_instance(known)
                    && self.settled(known).is_some()
                    && !self.has_kept(known)
            })
            || self.not_on_tcp().iter().any(|(known, _)| is_later(known) || is_reloaded(known))
    }

    /// Of a listener that a fork closed last, and in order: what became of the process that opened it, or that executed the
    /// program. It goes on, or its own end, which was not in order, is why the fork ended.
    pub(in crate::verdict) fn end_of_first(&self, closed: &ClosedListener) -> Option<(Process, OwnerEnd)> {
        let HostState { servers, processes, .. } = self.state;
        if closed.owner != OwnerEnd::Ended(ExitStatus::Code(0)) {
            return None;
        }
        let fork = closed.listener.process.pid?;
        let opener = closed.listener.opener.as_deref().and_then(|opener| opener.pid);
        let mut firsts = [opener, closed.root].into_iter().flatten().filter(|pid| *pid != fork);
        firsts.find_map(|pid| {
            let opened = closed.listener.since.unwrap_or(closed.time);
            let known = servers.instance_of(pid, opened).filter(|known| known.instance.ever_had(fork))?;
            let process = || {
                let first = &known.candidate.process;
                processes.describe(&Process { pid: Some(pid), ..first.clone() })
            };
            if known.instance.had(pid, self.refused.time) {
                return Some((process(), OwnerEnd::Running));
            }
            let (time, status) = known.instance.end_of(pid)?;
            let is_cause = status != ExitStatus::Code(0) && closed.time.since(time) < LINGER_NS;
            is_cause.then(|| (process(), OwnerEnd::Ended(status)))
        })
    }

    /// The listener that covered the destination and closed, where nothing has come of the server since.
    pub fn stopped(&self) -> Option<&'a ClosedListener> {
        self.closed().filter(|closed| {
            !self.has_opened_since(closed.time)
                && !self.has_moved_from(&closed.listener)
                && !self.has_failed_since(closed)
        })
    }
}
