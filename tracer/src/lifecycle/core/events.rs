//! What each kernel event changes, and which queries it raises.

use super::Core;
use crate::lifecycle::finding::{Finding, FindingKind};
use crate::lifecycle::gate::namespace_of;
use crate::lifecycle::{candidates, heirs, transitions};
use crate::model::kernel_event::{
    Bound, Closed, Connected, Executed, Exited, Failed, KernelEvent, Lost, Opened, Reached, Refused, Role,
};
use crate::model::process::Process;
use crate::model::socket::{Listener, NetnsId};
use crate::query::{QueryId, QueryKind};
use crate::state::Transition;
use crate::verdict::locate::locate;

impl Core {
    /// Takes an event that waits for no answer.
    pub(super) fn take(&mut self, event: KernelEvent) -> Vec<Finding> {
        let mut findings = self.namespace_shown(&event);
        // A record from before its port was given up.
        if socket_of(&event).is_some_and(|socket| self.state.followed.is_unwatched(socket.port)) {
            return findings;
        }
        findings.extend(self.apply(event));
        findings.extend(self.announcements.ready(&self.queries, self.progress));
        findings
    }

    fn apply(&mut self, event: KernelEvent) -> Vec<Finding> {
        match event {
            KernelEvent::Opened(opened) => return self.opened(*opened),
            KernelEvent::Listened(listened) => {
                let transitions = self.state.listened(&listened);
                return self.transitions(transitions);
            }
            KernelEvent::Closed(closed) => return self.closed(*closed),
            KernelEvent::Bound(bound) => return self.bound(*bound),
            KernelEvent::Refused(refused) => return self.refused(refused),
            KernelEvent::Connected(connected) => return self.connected(&connected),
            KernelEvent::Lost(lost) => return vec![self.lost(lost)],
            KernelEvent::Failed(failed) => self.failed(*failed),
            KernelEvent::Destroyed(destroyed) => self.state.destroyed(&destroyed),
            KernelEvent::Exited(exited) => self.exited(&exited),
            KernelEvent::Executed(executed) => self.executed(&executed),
            KernelEvent::Forked(forked) => self.state.forked(&forked),
            KernelEvent::Reached(reached) => self.reached(&reached),
            KernelEvent::OpenedElsewhere(opened) => self.state.opened_elsewhere(&opened),
            KernelEvent::ClosedElsewhere(closed) => self.state.closed_elsewhere(&closed),
        }
        Vec::new()
    }

    /// Takes the namespace that an event shows. Another one may have its number now.
    fn namespace_shown(&mut self, event: &KernelEvent) -> Vec<Finding> {
        let Some((netns, cookie)) = namespace_of(event) else { return Vec::new() };
        let findings = if self.state.is_replaced(netns, cookie) { self.replaced(netns) } else { Vec::new() };
        if let Some(time) = event.time() {
            self.state.namespaces.show(netns, cookie, time);
        }
        findings
    }

    /// A namespace has ended, and another one has its number: what is known of it is reported and forgotten.
    pub(super) fn replaced(&mut self, netns: NetnsId) -> Vec<Finding> {
        let mut findings = self.tracker.flush(netns, &self.state, &self.queries);
        let forgotten = self.state.forget(netns);
        findings.extend(self.transitions(vec![forgotten]));
        findings
    }

    fn opened(&mut self, opened: Opened) -> Vec<Finding> {
        let Listener { netns, addr, device, ref process, .. } = opened.listener;
        let now = self.progress.now;
        // An address that has just been added, however lately the namespace was read.
        let read = self.state.namespaces.last_read(netns);
        let is_new = !addr.is_unspecified()
            && self.state.namespaces.interface_of(netns, addr, device).is_none()
            && read.is_none_or(|read| read.began < opened.time);
        if is_new {
            self.queries.ask(QueryKind::Namespace { netns, pid_hint: process.pid }, now);
        }
        self.query_unread(netns, process.pid);
        self.describe(process);
        if let Some(pid) = process.pid {
            self.queries.ask(QueryKind::Settings { pid }, now);
        }
        let transitions = self.state.opened(opened);
        self.transitions(transitions)
    }

    fn refused(&mut self, refused: Box<Refused>) -> Vec<Finding> {
        if !self.tracker.is_in_scope(refused.netns) {
            return Vec::new();
        }
        match refused.role {
            Role::Client => self.state.note_client(refused.client.pid, refused.dst_port),
            Role::Upstream => {
                self.upstream.refused(&refused, &mut self.state, &mut self.queries, self.progress.now);
            }
        }
        if let Some(pid) = refused.client.pid {
            let to = (locate(&refused, &self.state).destination().netns, refused.dst, refused.dst_port);
            self.state.refused.note(to, pid, refused.time);
        }
        let reported = self.tracker.refused(refused, &self.state, &mut self.queries, self.progress);
        self.in_order(reported)
    }

    fn closed(&mut self, closed: Closed) -> Vec<Finding> {
        self.describe(&closed.listener.process);
        let transitions = self.state.closed(closed);
        self.transitions(transitions)
    }

    fn bound(&mut self, bound: Bound) -> Vec<Finding> {
        self.query_unread(bound.socket.netns, bound.socket.process.pid);
        self.describe(&bound.socket.process);
        let transitions = self.state.bound(bound);
        self.transitions(transitions)
    }

    fn connected(&mut self, connected: &Connected) -> Vec<Finding> {
        self.state.note_client(connected.pid, connected.dst_port);
        let held = connected.pid.map(|pid| self.state.listeners.held_by(connected.netns, pid));
        let serves = held.is_some_and(|mut held| held.next().is_some());
        self.tracker.connected(connected, serves)
    }

    fn reached(&mut self, reached: &Reached) {
        self.upstream.reached(reached, &mut self.state, &mut self.queries, self.progress.now);
    }

    fn exited(&mut self, exited: &Exited) {
        self.upstream.ended(exited.pid, &mut self.state);
        self.heirs.ended(exited.pid);
        self.announcements.ended(exited.pid, exited.status);
        self.state.exited(exited);
    }

    /// A process has executed a program: it may be a server candidate, and may not hold its listeners any more.
    fn executed(&mut self, executed: &Executed) {
        let Some(pid) = executed.process.pid else { return };
        let now = self.progress.now;
        self.state.executed(&executed.process, executed.time);
        self.upstream.executed(pid, executed.time, &mut self.state);
        heirs::query_after_exec(pid, &self.state, &mut self.queries, now);
        if let Some(started) = candidates::started(executed, &self.recognition, &self.state) {
            // The unit and the container are known only while it runs.
            self.describe(&executed.process);
            self.follow_candidate(&started.candidate);
            self.state.candidate(started.candidate);
            if started.is_by_arguments {
                self.state.servers.note_arguments(pid);
            }
        }
        self.queries.ask(QueryKind::Candidate { pid }, now);
    }

    /// Findings about refusals, behind the recoveries that came before them.
    fn in_order(&mut self, reported: Vec<Finding>) -> Vec<Finding> {
        if reported.is_empty() {
            return reported;
        }
        let mut findings = self.announcements.up_to_recovery(self.progress.complete_until);
        findings.extend(reported);
        findings
    }

    fn failed(&mut self, failed: Failed) {
        if !self.tracker.is_in_scope(failed.netns) {
            return;
        }
        self.state.note_client(failed.client.pid, failed.dst_port);
        match self.failed.iter_mut().find(|(errno, _)| *errno == failed.errno) {
            Some((_, count)) => *count += 1,
            None => self.failed.push((failed.errno, 1)),
        }
        if !self.all {
            return;
        }
        let pending = self.describe(&failed.client);
        let finding = Finding { mono: failed.time, kind: FindingKind::Failed(Box::new(failed)) };
        self.announcements.push(finding, pending, self.progress.now.plus(self.queries.patience_ns()));
    }

    fn lost(&mut self, lost: Lost) -> Finding {
        self.lost += lost.records;
        self.state.lost(&lost);
        Finding { mono: lost.to, kind: FindingKind::Lost(lost) }
    }

    /// Queries a namespace that was not read yet.
    fn query_unread(&mut self, netns: NetnsId, pid_hint: Option<u32>) {
        if self.state.namespaces.last_read(netns).is_none() {
            self.queries.ask(QueryKind::Namespace { netns, pid_hint }, self.progress.now);
        }
    }

    /// Queries the description of a process that is not known.
    pub(super) fn describe(&mut self, process: &Process) -> Vec<QueryId> {
        let unknown = process.key().filter(|_| !self.state.processes.knows(process));
        let now = self.progress.now;
        unknown.map(|key| self.queries.ask(QueryKind::Process(key), now)).into_iter().collect()
    }

    /// Takes changes of the state, and gives the findings that wait no longer.
    pub(super) fn transitions(&mut self, transitions: Vec<Transition>) -> Vec<Finding> {
        for transition in transitions {
            if let Some(process) = transitions::server_of(&transition) {
                self.server_names.is_server(&self.state.processes.describe(process));
            }
            let recovered = self.follow_up(&transition);
            for finding in transitions::finding_of(transition).into_iter().chain(recovered) {
                self.announcements.announce(finding, &self.queries, self.progress.now);
            }
        }
        self.announcements.ready(&self.queries, self.progress)
    }

    /// What a change of the state means for refusals: gives the recoveries that it shows.
    fn follow_up(&mut self, transition: &Transition) -> Vec<Finding> {
        match transition {
            Transition::Found { time, listener } => {
                self.follow.extend(listener.process.pid);
                if self.state.health.ready {
                    return self.tracker.recover(listener, *time);
                }
            }
            Transition::Opened { time, listener } => self.tracker.opened(listener, *time),
            Transition::Forgotten(netns) => self.tracker.forget(*netns),
            Transition::Closed { .. } | Transition::Returned { .. } => {}
        }
        Vec::new()
    }
}

/// The socket of an event that is about a server's.
fn socket_of(event: &KernelEvent) -> Option<&Listener> {
    match event {
        KernelEvent::Opened(opened) => Some(&opened.listener),
        KernelEvent::Closed(closed) => Some(&closed.listener),
        KernelEvent::Bound(bound) => Some(&bound.socket),
        _ => None,
    }
}
