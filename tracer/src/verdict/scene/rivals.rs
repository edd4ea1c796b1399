//! Whether a listener belongs to another service than the server, or to the client itself.

use super::Scene;
use crate::model::cause::Cause;
use crate::model::process::Process;
use crate::model::socket::Listener;
use crate::model::time::Mono;
use crate::state::HostState;
use crate::state::binds::FailedBind;
use crate::verdict::coverage::{self, Destination, was_there};

impl<'a> Scene<'a> {
    /// Whether listeners of several users stand on the port of the namespace. One whose user is not known can be another's.
    pub fn has_several_users(&self) -> bool {
        let Destination { netns, port, .. } = self.destination;
        let own = |listener: &'a Listener| listener.opened_by().uid;
        let first = self.oldest().and_then(own);
        let on_port = self.state.listeners.open_on(netns, port);
        let mut was_open = on_port
            .chain(self.closed_here_since())
            .filter(|listener| was_there(listener, self.refused.started));
        first.is_some() && was_open.any(|listener| own(listener) != first)
    }

    /// Whether another service held the destination before, has taken the port since the server closed it, or has tried to
    /// since the server had it.
    pub fn has_rival(&self) -> bool {
        let (Some(server), Some(closed)) = (self.server, self.closed()) else { return false };
        let Destination { netns, port, .. } = self.destination;
        let state = self.state;
        let is_another = |process: &Process| !server.is(process) || server.is_by_opener_only(process);
        let is_rival = |process: &Process, since: Option<Mono>| {
            since.is_some_and(|since| since > closed.time) && is_another(process) && server.may_be(process)
        };
        let mut on_port = self.state.listeners.open_on(netns, port);
        let has_tried = |failed: &FailedBind| {
            let process = &failed.socket.process;
            closed.listener.since.is_none_or(|since| failed.last_by(self.refused.time) > since)
                && is_another(process)
                && server.may_be(process)
        };
        let since = self.state.binds.callers(netns, port, (closed.time, self.refused.time));
        self.predecessor().is_some()
            || since.map(|process| state.processes.describe(process)).any(|process| {
                // By its name alone it may be of the server's own program.
                process.exe.is_some() && is_another(&process) && server.may_be(&process)
            })
            || on_port.any(|listener| {
                is_rival(&listener.process, listener.since) || self.is_taken_over(listener, closed.time)
            })
            || self.failures().any(has_tried)
    }

    /// Whether the process that holds a listener of before has executed another service's program since then.
    fn is_taken_over(&self, listener: &Listener, then: Mono) -> bool {
        let HostState { servers, processes, .. } = self.state;
        let Some(server) = self.server.filter(|_| listener.since.is_none_or(|since| since <= then)) else {
            return false;
        };
        let within = (then, self.refused.time);
        let executed = listener.process.pid.and_then(|pid| servers.executed_within(pid, within));
        executed
            .map(|process| processes.describe(process))
            .is_some_and(|process| !server.is(&process) && server.may_be(&process))
    }

    /// Whether the holder of what decides is the client itself, or was refused at the destination.
    pub fn is_own(&self, listener: &Listener) -> bool {
        let Some(pid) = listener.process.pid else { return false };
        let Self { refused, destination: Destination { netns, addr, port, .. }, state, .. } = *self;
        // A fork holds what its parent held.
        let instance = state.servers.instance_of(pid, refused.time);
        // So does one whose parent has executed another program since.
        let opener = listener.opened_by().pid;
        let first = opener.zip(listener.since).and_then(|(pid, since)| state.servers.instance_of(pid, since));
        let is_holder = |other: u32| {
            let mut instances = instance.into_iter().chain(first);
            other == pid || instances.any(|known| known.instance.had(other, refused.time))
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
            .open_on(netns, port)
            .chain(self.closed_here_since())
            .filter(|listener| was_there(listener, self.refused.started) && self.decides(listener))
            .filter(|listener| {
                cause != Cause::WrongFamily || coverage::answers_other_family(listener, &self.destination)
            })
            .peekable();
        on_port.peek().is_some() && on_port.all(|listener| self.is_own(listener))
    }
}
