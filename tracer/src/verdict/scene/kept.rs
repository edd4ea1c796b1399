//! What a server still listens on, one process of which has closed the listener that covered the destination.
//!
//! At a reload that drops a port the master closes its descriptor first, and an old worker the last one, which then ends. An
//! instance that takes over from another one opens the ports that it is to have before that closes them. Both are the end of
//! the listener, and not of the server.

use std::collections::BTreeSet;

use super::Scene;
use crate::model::process::{ExitStatus, INIT, OwnerEnd, Process};
use crate::model::service;
use crate::model::socket::Listener;
use crate::state::listeners::ClosedListener;
use crate::state::servers::ServerCandidate;
use crate::verdict::coverage::was_there;
use crate::verdict::server::{KnownBy, Server};

/// The process that closed a listener, and those that it has its program and its descriptors from.
struct Family<'a> {
    closer: &'a Process,
    /// Its parent, the process that opened the listener, and those that held it before.
    elders: BTreeSet<u32>,
    /// It is still running, or has ended without an error.
    is_orderly: bool,
}

impl Family<'_> {
    fn has_elder(&self, pid: u32) -> bool {
        self.elders.contains(&pid)
    }

    fn is_closer(&self, pid: u32) -> bool {
        self.closer.pid == Some(pid)
    }
}

/// Whether two processes of one family run one program. Of one that has ended before it could be read, the name is all that
/// is known.
fn is_alike(one: &Process, other: &Process) -> bool {
    if one.exe.is_some() && other.exe.is_some() {
        return service::is_same_program(one, other);
    }
    one.comm.is_some() && one.comm == other.comm
}

impl<'a> Scene<'a> {
    /// What the server of the closed listener still listens on, on other ports of the namespace, by another process than the
    /// one that closed it. The watched ones first.
    pub fn kept(&self) -> Vec<&'a Listener> {
        let Some(family) = self.family() else { return Vec::new() };
        let listeners = &self.state.listeners;
        let is_orphan = |listener: &Listener| listeners.orphaned_by(listener.netns, listener.key).is_some();
        let mut kept = self.on_other_ports();
        kept.retain(|listener| {
            !is_orphan(listener)
                && (self.is_of_family(&family, listener) || self.has_taken_over(&family, listener))
        });
        kept
    }

    /// The watched listeners on other ports that the server may have kept, as far as it is known which processes hold them: one
    /// that changed hands shows in no event.
    pub(in crate::verdict) fn may_be_kept(&self) -> Vec<&'a Listener> {
        let Some(family) = self.family() else { return Vec::new() };
        let netns = self.destination.netns;
        let mut watched = self.on_other_ports();
        let listeners = &self.state.listeners;
        watched.retain(|listener| {
            // Without elders it holds its own for as long as it runs.
            let has_another =
                !family.elders.is_empty() || listeners.orphaned_by(netns, listener.key).is_some();
            let is_closers = listener.process.pid.is_some_and(|pid| family.is_closer(pid));
            listeners.get(netns, listener.key).is_some()
                && (is_closers && has_another || self.is_of_family(&family, listener))
        });
        watched
    }

    /// The server of the closed listener as the process that listens elsewhere: it, or a process of its program that it had the
    /// listener from.
    pub(in crate::verdict) fn keeper(&self) -> Option<Server<'a>> {
        let process = &self.kept().first()?.process;
        let closed = self.closed()?;
        let has_held = closed.holders_before().any(|before| before.pid == process.pid);
        let known_by = if has_held { KnownBy::Listener } else { KnownBy::Service };
        Some(Server { has_covered: true, ..Server::by(known_by, process) })
    }

    /// Whether an instance has the processes that listen elsewhere, or started them: it is not to open the port.
    pub(in crate::verdict) fn has_kept(&self, known: &ServerCandidate) -> bool {
        let kept = self.kept();
        let is_elder = |pid: u32| self.family().is_some_and(|family| family.has_elder(pid));
        let holds = |listener: &&Listener| listener.process.pid.is_some_and(|pid| known.instance.has(pid));
        !kept.is_empty() && (known.candidate.process.pid.is_some_and(is_elder) || kept.iter().any(holds))
    }

    /// The listeners on other ports of the namespace, the watched ones first.
    fn on_other_ports(&self) -> Vec<&'a Listener> {
        let Self { refused, destination, state, .. } = *self;
        let mut watched: Vec<&Listener> = state.listeners.open_in(destination.netns).collect();
        watched.sort_by_key(|listener| (listener.port, listener.addr, listener.key.inode));
        let unwatched = state.elsewhere.all_other_listeners(destination.netns, refused.time);
        let mut on_others: Vec<&Listener> = watched.into_iter().chain(unwatched).collect();
        on_others.retain(|listener| listener.port != destination.port && was_there(listener, refused.time));
        on_others
    }

    /// The family of the process that closed the listener which covered the destination; `None`: which process that was is not
    /// known.
    fn family(&self) -> Option<Family<'a>> {
        let closed = self.closed()?;
        let is_orderly = match closed.owner {
            OwnerEnd::Unknown => return None,
            OwnerEnd::Running | OwnerEnd::Ended(ExitStatus::Code(0)) => true,
            OwnerEnd::Ended(_) => false,
        };
        let closer = &closed.listener.process;
        let opener = closed.listener.opener.as_deref();
        let is_inherited = opener.is_some_and(|opener| opener.pid != closer.pid) || closed.before.is_some();
        let has_ended = matches!(closed.owner, OwnerEnd::Ended(_));
        // What became of a process that opened the listener itself is why nothing answers, unless it was told to end.
        let counts = is_inherited || is_orderly && (has_ended || opener.is_none());
        let elders = if counts { self.elders(closed) } else { BTreeSet::new() };
        Some(Family { closer, elders, is_orderly })
    }

    fn elders(&self, closed: &'a ClosedListener) -> BTreeSet<u32> {
        let Self { refused, destination, state, .. } = *self;
        let closer = &closed.listener.process;
        let before = closed.holders_before().filter(|before| is_alike(before, closer));
        // A master that executes itself for each reload holds no listener.
        let running = state.servers.running(destination.netns, refused.time);
        let parents = running.into_iter().map(|known| &known.candidate.process);
        let parents = parents.filter(|parent| parent.pid == closer.ppid && is_alike(parent, closer));
        let pids = before.chain(parents).filter_map(|process| process.pid).chain(closed.root);
        pids.filter(|pid| *pid > INIT && Some(*pid) != closer.pid).collect()
    }

    /// Whether another process of the service opened a listener on an address before the one that closed the other listener
    /// gave up that address too.
    fn has_taken_over(&self, family: &Family<'_>, listener: &Listener) -> bool {
        let endpoint = |listener: &Listener| (listener.addr, listener.port, listener.device);
        let is_before = |closed: &ClosedListener| listener.since.is_some_and(|since| since < closed.time);
        family.is_orderly
            && listener.process.pid != family.closer.pid
            && service::is_same(&listener.process, family.closer)
            && self.state.listeners.closed_in(listener.netns).any(|closed| {
                closed.listener.process.pid == family.closer.pid
                    && endpoint(&closed.listener) == endpoint(listener)
                    && is_before(closed)
            })
    }

    /// Whether a process of the family holds a listener, other than the one that closed: an elder, a fork of one, or the process
    /// that it was passed on to.
    fn is_of_family(&self, family: &Family<'_>, listener: &Listener) -> bool {
        let process = &listener.process;
        let Some(pid) = process.pid.filter(|pid| !family.is_closer(*pid)) else { return false };
        let root = self.state.servers.forked_from(pid);
        let parents = [Some(pid), process.ppid, root];
        let is_passed_on = || {
            let origin = self.state.listeners.origin(listener.netns, listener.key);
            origin.is_some_and(|origin| {
                family.has_elder(origin) || family.is_orderly && family.is_closer(origin)
            })
        };
        is_alike(process, family.closer)
            && (parents.into_iter().flatten().any(|pid| family.has_elder(pid)) || is_passed_on())
    }
}
