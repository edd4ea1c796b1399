//! Kernel events, in order: how each changes what is known.

use super::elsewhere::Elsewhere;
use super::listeners::{ClosedListener, Listeners};
use super::openings;
use super::{HostState, Transition};
use crate::model::errno::Errno;
use crate::model::kernel_event::{
    Bound, Call, Closed, ClosedElsewhere, Closer, Destroyed, Exited, Forked, Listened, Lost, LostWhere,
    Opened, Shutdown,
};
use crate::model::process::{OwnerEnd, Process};
use crate::model::socket::{Listener, NetnsId};
use crate::model::time::{Interval, Mono};

impl HostState {
    /// A `listen()` is known to have succeeded.
    pub(super) fn confirm(&mut self, opened: &Opened) -> Transition {
        let Opened { time, listener, .. } = opened;
        self.binds.listened(listener, *time);
        if let Some(pid) = listener.process.pid {
            self.servers.has_listened(pid, listener.port, *time);
        }
        // Its owner may have been described since.
        let known = self.listeners.get(listener.netns, listener.key).unwrap_or(listener);
        Transition::Opened { time: *time, listener: known.clone() }
    }

    /// A `listen()` is known to have failed.
    fn fail(&mut self, opened: Opened, time: Mono) -> Transition {
        // The one error that hashing a listener gives (`inet_csk_listen_start`).
        let errno = Errno::EADDRINUSE;
        self.binds.failed(Call::Listen, &opened.listener, errno, time);
        Transition::Returned { time, call: Call::Listen, socket: opened.listener, errno: Some(errno) }
    }

    /// A socket entered LISTEN. It covers its destinations from now on, and may still fail.
    pub fn opened(&mut self, opened: Opened) -> Vec<Transition> {
        let forgotten = self.forget_if_replaced(opened.listener.netns, opened.netns_cookie);
        let opened = Opened { listener: self.described_socket(&opened.listener), ..opened };
        self.processes.acts(opened.listener.process.pid);
        let opener = Some(Box::new(opened.listener.process.clone()));
        let listener = Listener { opener, ..opened.listener };
        self.listeners.insert(listener.clone());
        self.openings.insert(Opened { listener, ..opened });
        forgotten.into_iter().collect()
    }

    /// A followed process listens on a port that is not watched.
    pub fn opened_elsewhere(&mut self, opened: &Opened) {
        let listener = self.described_socket(&opened.listener);
        if let Some(pid) = listener.process.pid {
            self.servers.has_listened(pid, listener.port, opened.time);
        }
        self.elsewhere.opened(listener);
    }

    /// A socket of a followed process listens no more on a port that is not watched.
    pub fn closed_elsewhere(&mut self, closed: &ClosedElsewhere) {
        let ClosedElsewhere { time, netns, key } = *closed;
        if let Some(opener) = self.elsewhere.closed(netns, key, time) {
            self.see_ends(opener, time);
        }
    }

    /// A `listen()` has returned.
    pub fn listened(&mut self, listened: &Listened) -> Vec<Transition> {
        let Listened { time, key, netns, netns_cookie, has_succeeded } = *listened;
        let forgotten = self.forget_if_replaced(netns, netns_cookie);
        let returned = self.openings.remove(netns, key).map(|opened| {
            if has_succeeded {
                return self.confirm(&opened);
            }
            self.listeners.remove(netns, key);
            self.fail(opened, time)
        });
        forgotten.into_iter().chain(returned).collect()
    }

    /// A namespace could not be read: its openings are taken for open when no dump can show them.
    pub fn cannot_dump(&mut self, netns: NetnsId, read: Interval) -> Vec<Transition> {
        let opened = self.openings.unreadable(netns, read);
        opened.iter().map(|opened| self.confirm(opened)).collect()
    }

    /// A socket left LISTEN.
    pub fn closed(&mut self, closed: Closed) -> Vec<Transition> {
        let closed = Closed { listener: self.described_socket(&closed.listener), ..closed };
        let mut transitions: Vec<Transition> =
            self.forget_if_replaced(closed.listener.netns, closed.netns_cookie).into_iter().collect();
        let opened = self.openings.remove(closed.listener.netns, closed.listener.key);
        let has_failed = opened.as_ref().is_some_and(|opened| openings::has_failed(opened, &closed));
        let Closed { time, listener, shutdown, closer: by, .. } = closed;
        let orphaned = self.listeners.orphaned_by(listener.netns, listener.key).cloned();
        let known = self.listeners.remove(listener.netns, listener.key);
        // The port may be watched only since it was opened.
        if self.elsewhere.is_known(listener.netns, listener.key) {
            self.elsewhere.closed(listener.netns, listener.key, time);
        }
        match opened {
            Some(opened) if has_failed => {
                transitions.push(self.fail(opened, time));
                return transitions;
            }
            // It listened, and closed before anything else showed that.
            Some(opened) => transitions.push(self.confirm(&opened)),
            None => {}
        }
        // The last holder closes with `sk_shutdown` set; an administrator's `ss -K`, and a shutdown() of
        // the socket, do not, and the process that did it need not be its owner.
        let closer = listener.process.clone();
        if let (Closer::Ending(_), Some(pid)) = (by, closer.pid) {
            self.processes.ended(pid, time);
        }
        let end = match by {
            Closer::Ending(status) if shutdown != Shutdown::None => OwnerEnd::Ended(status),
            Closer::Process | Closer::Exec if closer.pid.is_some() => OwnerEnd::Running,
            Closer::Ending(_) | Closer::Process | Closer::Exec | Closer::Kernel => OwnerEnd::Unknown,
        };
        let by_exec = known
            .as_ref()
            .filter(|_| by == Closer::Exec)
            .and_then(|known| self.closed_by_exec(known, &closer));
        let is_own = known.as_ref().is_some_and(|known| known.process.pid == closer.pid);
        let (owner, end) = match (known.as_ref().map(|known| known.process.clone()), orphaned) {
            // The kernel closes it in place of a process that has ended.
            (_, Some((owner, status))) if by == Closer::Kernel => (owner, OwnerEnd::Ended(status)),
            (Some(owner), _) if by == Closer::Kernel || shutdown == Shutdown::None && !is_own => {
                (owner, OwnerEnd::Unknown)
            }
            _ if by_exec.is_some() => (by_exec.unwrap_or(closer), end),
            (Some(owner), _) if is_own => (renamed(closer, owner), end),
            (_, _) => (closer, end),
        };
        let before = known.as_ref().map(|known| &known.process).filter(|before| before.pid != owner.pid);
        let before = before.cloned().map(Box::new);
        let root = owner.pid.and_then(|pid| self.servers.forked_from(pid));
        let listener = Listener {
            process: owner,
            since: known.as_ref().and_then(|known| known.since),
            backlog: known.as_ref().and_then(|known| known.backlog),
            opener: known.and_then(|known| known.opener),
            ..listener
        };
        let is_by_exec = by == Closer::Exec;
        let closed =
            ClosedListener { before, root, is_by_exec, ..ClosedListener::new(listener.clone(), time, end) };
        if closed.is_probe() {
            self.binds.was_probe(&listener);
        }
        self.turns.closed(&closed);
        self.listeners.remember(closed);
        let pids = [listener.process.pid, listener.opener.as_ref().and_then(|opener| opener.pid)];
        pids.into_iter().flatten().for_each(|pid| self.see_ends(pid, time));
        transitions.push(Transition::Closed { time, listener, owner: end });
        transitions
    }

    /// A `bind()` has returned.
    pub fn bound(&mut self, bound: Bound) -> Vec<Transition> {
        let mut transitions: Vec<Transition> =
            self.forget_if_replaced(bound.socket.netns, bound.netns_cookie).into_iter().collect();
        let bound = Bound { socket: self.described_socket(&bound.socket), ..bound };
        self.processes.acts(bound.socket.process.pid);
        self.binds.bound(&bound);
        let listened = self.ports_listened_on(&bound.socket.process);
        self.servers.called(&bound.socket, bound.time, self.boottime_offset, listened);
        let Bound { time, socket, errno, .. } = bound;
        transitions.push(Transition::Returned { time, call: Call::Bind, socket, errno });
        transitions
    }

    /// The ports that a process has listened on, as far as that is remembered, and since when.
    fn ports_listened_on(&self, process: &Process) -> Vec<(u16, Option<Mono>)> {
        let is_by_it = |listener: &&Listener| {
            let opener = listener.opener.as_deref();
            listener.process.is_same(process) || opener.is_some_and(|opener| opener.is_same(process))
        };
        let closed = self.listeners.every_closed().map(|closed| &closed.listener);
        let by_it = self.listeners.open().chain(closed).filter(is_by_it);
        by_it.map(|listener| (listener.port, listener.since)).collect()
    }

    pub fn destroyed(&mut self, destroyed: &Destroyed) {
        // What a client is bound to is where it connects from: it is not a server by that.
        if let Some(client) = self.binds.destroyed(destroyed)
            && !self.binds.has_called(&client.process)
        {
            self.servers.has_not_called(&client.process);
        }
    }

    /// The process that held a listener, of which exec has closed it: as it was before, for the one that closes has its new
    /// name by then (`begin_new_exec`, fs/exec.c).
    fn closed_by_exec(&self, known: &Listener, closer: &Process) -> Option<Process> {
        let pid = closer.pid?;
        let is_it = self.servers.was_of_one_instance(pid, known.process.pid?);
        let Process { ns_pid, ppid, start, .. } = closer.clone();
        is_it.then(|| Process { pid: Some(pid), ns_pid, ppid, start, ..known.process.clone() })
    }

    /// Notes which instances have ended by now, of those that a process is, or was, of.
    pub(super) fn see_ends(&mut self, pid: u32, time: Mono) {
        let holds = holds(&self.listeners, &self.elsewhere);
        self.servers.see_ends(pid, time, holds);
    }

    /// A process has executed a program.
    pub fn executed(&mut self, process: &Process, time: Mono) {
        let holds = holds(&self.listeners, &self.elsewhere);
        self.servers.executed(process, time, holds);
        self.users_at_exec.executed(process);
        self.processes.acts(process.pid);
        if let Some(pid) = process.pid {
            self.binds.ended(pid, time);
        }
    }

    pub fn exited(&mut self, exited: &Exited) {
        self.refused.ended(exited.pid, exited.time);
        self.processes.ended(exited.pid, exited.time);
        self.users_at_exec.ended(exited.pid);
        let holds = holds(&self.listeners, &self.elsewhere);
        // What it closed before it executed a program is another instance's.
        let since = self.servers.last_execution(exited.pid);
        self.servers.ended(exited.pid, exited.time, exited.status, holds);
        self.elsewhere.ended(exited.pid, exited.time);
        self.listeners.owner_ended(exited.pid, since, exited.time, exited.status);
        self.binds.ended(exited.pid, exited.time);
    }

    /// A followed process has a new child.
    pub fn forked(&mut self, forked: &Forked) {
        if let (Some(parent), Some(child)) = (forked.parent, forked.child.pid) {
            self.servers.forked(parent, child, forked.time);
            self.users_at_exec.forked(parent, &forked.child);
            self.processes.acts(Some(child));
        }
    }

    /// A process has connected to a watched port: it is a client.
    pub fn note_client(&mut self, pid: Option<u32>, port: u16) {
        if let Some(pid) = pid {
            self.servers.note_client(pid, port);
        }
    }

    /// Records were lost.
    pub fn lost(&mut self, lost: &Lost) {
        // A skipped program costs a count, never the table: openings run in a task's own context, where
        // nothing nests. An attempt that was not followed is a refusal unseen.
        let is_of_listeners = match lost.place {
            LostWhere::Ring | LostWhere::Decode => true,
            LostWhere::Recursion => self.health.skips_listeners,
            LostWhere::Attempts | LostWhere::Followed | LostWhere::Names => false,
        };
        self.health.missed_ends |= lost.place == LostWhere::Followed;
        match lost.place {
            LostWhere::Ring | LostWhere::Decode | LostWhere::Recursion => {
                self.servers.lost(lost.to);
                self.users_at_exec.lost();
                self.elsewhere.lost(lost.to);
            }
            LostWhere::Followed => self.servers.lost(Mono::MAX),
            LostWhere::Attempts | LostWhere::Names => {}
        }
        if is_of_listeners {
            self.health.lost = true;
            self.health.lost_until = self.health.lost_until.max(Some(lost.to));
            self.binds.lost();
        }
    }
}

/// Whether a process holds a listener, on any port where that is known.
fn holds(listeners: &Listeners, elsewhere: &Elsewhere) -> impl Fn(u32) -> bool {
    |pid| {
        let mut open = listeners.open().chain(elsewhere.open());
        open.any(|listener| listener.process.pid == Some(pid))
    }
}

/// A process as it is now, with what was known of it before where it has let go of that: it may have changed its name.
fn renamed(mut now: Process, mut before: Process) -> Process {
    now.start = now.start.or(before.start);
    now.ns_pid = now.ns_pid.or(before.ns_pid);
    // Of one that is not ending, the program is known: what was known of it before may be of another one.
    if now.exe.is_some() {
        before = Process { exe: None, script: None, arguments: None, uid_at_exec: None, ..before };
    }
    now.uid_at_exec = now.uid_at_exec.or(before.uid_at_exec);
    now.fill(&before);
    now
}
