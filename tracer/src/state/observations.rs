//! Observations of the host: how each changes what is known.
//!
//! An observation is taken once every event until its end has been taken: what it shows is then either known, or was there
//! before the trace.

use super::join::Keys;
use super::listeners::ClosedListener;
use super::{HostState, OwnersRead, Transition};
use crate::model::hash::HashSet;
use crate::model::namespace::Namespace;
use crate::model::process::{OwnerEnd, Process};
use crate::model::socket::{Listener, NetnsId};
use crate::model::time::{Interval, Mono};
use crate::query::{Candidate, Observation, Scan, ScanScope, Unreadable};

/// Namespaces of which it is remembered when their listeners' owners were read.
const OWNERS_READ_MAX: usize = 4_096;

impl HostState {
    /// Takes an answer of the host.
    pub fn observe(&mut self, observation: Observation, read: Interval) -> Vec<Transition> {
        match observation {
            Observation::Scan(scan) => return self.scanned(scan, read),
            Observation::Owners { netns, owners } => self.owned(netns, owners, read),
            Observation::Holders { netns, port, sockets } => self.binds.held(netns, port, sockets, read),
            Observation::OtherPorts { netns, mut listeners, dated_since } => {
                for listener in &mut listeners {
                    listener.process = self.with_user_at_exec(std::mem::take(&mut listener.process));
                }
                self.elsewhere.set_other_ports(netns, listeners, dated_since, read);
            }
            Observation::LocalSockets { netns: _, pids, sockets } => {
                self.elsewhere.set_local_sockets(&pids, sockets, read);
            }
            Observation::Candidates { found, is_complete } => {
                found.into_iter().for_each(|candidate| self.candidate(candidate));
                self.servers.searched(read, is_complete);
            }
            Observation::Candidate(candidate) => {
                candidate.into_iter().for_each(|candidate| self.candidate(candidate));
            }
            Observation::Process(process) => {
                process.into_iter().for_each(|process| self.described(process, read));
            }
            Observation::Settings(settings) => self.settings.note(settings, read),
            Observation::Forwarders { netns, port, found } => {
                self.forwarders.set(netns, port, found, read);
            }
            // For the code that waits for it.
            Observation::Writer(_) | Observation::Named(_) => {}
        }
        Vec::new()
    }

    /// Takes namespaces that were read, with their listeners.
    pub fn scanned(&mut self, scan: Scan, read: Interval) -> Vec<Transition> {
        let Scan { scope, mut namespaces, mut listeners, unreadable } = scan;
        let is_complete = matches!(scope, ScanScope::Host { .. });
        let owners_of = match scope {
            ScanScope::Owners(netns) => Some(netns),
            ScanScope::Host { .. } | ScanScope::Namespace(_) | ScanScope::Port(_) => None,
        };
        if let ScanScope::Port(port) = scope {
            self.followed.set_read(port, read);
        }
        let mut transitions = Vec::new();
        if let Some(netns) = owners_of {
            self.note_owners(netns, OwnersRead { read, dumped: read.ended });
        }
        if is_complete {
            // A namespace that was not found has ended, but for one that only its sockets keep.
            let seen = namespaces
                .iter()
                .map(|namespace| namespace.id)
                .chain(unreadable.iter().map(|unreadable| unreadable.id));
            let (listeners, there) = (&self.listeners, seen.collect::<HashSet<NetnsId>>());
            let is_there = |netns| there.contains(&netns) || listeners.open_in(netns).next().is_some();
            let ended = self.namespaces.retain(is_there);
            transitions.extend(ended.into_iter().map(|netns| self.forget(netns)));
        }
        // What was read of a namespace whose number another one has by now is of no namespace that is there.
        let outdated: HashSet<NetnsId> = namespaces
            .iter()
            .filter(|namespace| self.namespaces.is_outdated(namespace, read))
            .map(|namespace| namespace.id)
            .collect();
        namespaces.retain(|namespace| !outdated.contains(&namespace.id));
        listeners.retain(|listener| !outdated.contains(&listener.netns));
        let found: Vec<NetnsId> = namespaces.iter().map(|namespace| namespace.id).collect();
        for namespace in namespaces {
            transitions.extend(self.namespace(namespace, read));
        }
        // A dump lists the listeners that are hashed.
        let opened = self.openings.listed(&listeners, read);
        transitions.extend(opened.iter().map(|opened| self.confirm(opened)));
        found.iter().for_each(|netns| self.openings.dumped(*netns, read));
        if !matches!(scope, ScanScope::Port(_)) {
            self.note_unlisted(&found, &listeners, read);
        }
        for Unreadable { id, .. } in &unreadable {
            transitions.extend(self.cannot_dump(*id, read));
        }
        // Where owners could not be read again, the listeners are known all the same.
        for unreadable in unreadable.into_iter().filter(|_| owners_of.is_none()) {
            self.namespaces.set_unreadable(unreadable.id, is_complete, read);
        }
        if scope == (ScanScope::Host { is_partial: true }) {
            self.namespaces.set_partial();
        }
        let was_lost = self.health.lost;
        if is_complete && was_lost {
            transitions.extend(self.reconcile(&found, &listeners, read));
        }
        // What listens on a port that was not watched may have been there before the trace.
        let may_be_new = was_lost && !matches!(scope, ScanScope::Port(_));
        transitions.extend(self.found(listeners, read, owners_of.is_some(), may_be_new));
        if is_complete {
            self.health.is_absence_verified |= self.health.ready;
            self.health.host_read = Some(read);
        }
        transitions
    }

    /// Listeners of a scan: those that are not known were there already.
    fn found(
        &mut self,
        mut found: Vec<Listener>,
        read: Interval,
        renews_owners: bool,
        was_lost: bool,
    ) -> Vec<Transition> {
        for listener in &mut found {
            listener.process = self.with_user_at_exec(std::mem::take(&mut listener.process));
        }
        found.sort_by_key(|listener| (listener.netns, listener.port, listener.addr, listener.key.inode));
        let mut transitions = Vec::new();
        for listener in found {
            let is_known = self.listeners.get(listener.netns, listener.key).is_some();
            if is_known && renews_owners && self.listeners.is_let_go(&listener) {
                self.let_go.extend(listener.process.pid);
            } else if is_known && renews_owners {
                let since = self.listeners.get(listener.netns, listener.key).and_then(|known| known.since);
                self.note_holder(&listener.process, listener.port, since);
                self.listeners.renew(&listener);
            }
            let has_closed = self.listeners.closed_since(listener.netns, listener.key, read.began);
            // After a loss, one that is not known is more likely one whose opening was lost.
            let may_have_closed = !was_lost && self.listeners.has_forgotten_closes_since(read.began);
            if is_known || has_closed || may_have_closed {
                continue;
            }
            // A listener whose opening was lost has opened since the trace began.
            let opened = Some(self.unseen_at(read));
            let since = if was_lost && self.health.ready { opened } else { listener.since };
            let listener = Listener { since, ..listener };
            if let Some(pid) = listener.process.pid {
                self.servers.has_listened(pid, listener.port, read.ended);
            }
            self.listeners.insert(listener.clone());
            transitions.push(Transition::Found { time: read.ended, listener });
        }
        transitions
    }

    /// After a loss: a listener that a dump does not have any more has closed unseen.
    fn reconcile(&mut self, found: &[NetnsId], listeners: &[Listener], read: Interval) -> Vec<Transition> {
        let (found, dumped): (HashSet<&NetnsId>, Keys) =
            (found.iter().collect(), listeners.iter().map(|listener| listener.key).collect());
        let vanished: Vec<Listener> = self
            .listeners
            .open()
            .filter(|known| found.contains(&known.netns))
            .filter(|known| known.since.is_none_or(|since| since < read.began))
            .filter(|known| !dumped.contains(known.key))
            .cloned()
            .collect();
        self.health.lost = false;
        let (time, unseen) = (read.ended, self.unseen_at(read));
        let close = |listener: Listener| {
            self.listeners.remove(listener.netns, listener.key);
            if self.openings.remove(listener.netns, listener.key).is_some() {
                // It was not reported as open.
                return None;
            }
            let owner = OwnerEnd::Unknown;
            self.listeners.remember(ClosedListener::new(listener.clone(), unseen, owner));
            Some(Transition::Closed { time, listener, owner })
        };
        vanished.into_iter().filter_map(close).collect()
    }

    /// Notes which of the listeners that are known as open a dump of their namespace does not list.
    fn note_unlisted(&mut self, found: &[NetnsId], listeners: &[Listener], read: Interval) {
        let dumped: Keys = listeners.iter().map(|listener| listener.key).collect();
        for netns in found {
            let open = self.listeners.open_in(*netns);
            let was_open = open.filter(|known| known.since.is_none_or(|since| since < read.began));
            let unlisted = was_open.map(|known| known.key).filter(|key| !dumped.contains(*key)).collect();
            self.dumps.note(*netns, read.began, unlisted);
        }
    }

    /// When what was not seen happened, at the latest: every record since then was received.
    fn unseen_at(&self, read: Interval) -> Mono {
        self.health.lost_until.unwrap_or(read.began).min(read.began)
    }

    fn namespace(&mut self, namespace: Namespace, read: Interval) -> Vec<Transition> {
        let replaced = self.forget_if_replaced(namespace.id, namespace.cookie);
        self.namespaces.insert(namespace, read);
        let listeners = &self.listeners;
        let dropped = self.namespaces.shrink(|netns| listeners.open_in(netns).next().is_some());
        let dropped: Vec<Transition> = dropped.into_iter().map(|netns| self.forget(netns)).collect();
        replaced.into_iter().chain(dropped).collect()
    }

    fn note_owners(&mut self, netns: NetnsId, read: OwnersRead) {
        if self.owners_read.len() >= OWNERS_READ_MAX {
            self.owners_read.clear();
        }
        self.owners_read.insert(netns, read);
    }

    /// Takes which processes hold listeners that are known.
    pub fn owned(&mut self, netns: NetnsId, owners: Vec<(u64, Process)>, read: Interval) {
        let dumped = self.owners_read(netns).map_or(read.ended, |known| known.dumped);
        self.note_owners(netns, OwnersRead { read, dumped });
        for (inode, process) in owners {
            let known = self.listeners.open_in(netns).find(|listener| listener.key.inode == inode);
            if let Some(listener) = known.cloned() {
                let before = listener.process.pid;
                let process = self.with_user_at_exec(process);
                let found = Listener { process, backlog: None, ..listener };
                if self.listeners.is_let_go(&found) {
                    self.let_go.extend(before);
                    continue;
                }
                self.note_holder(&found.process, found.port, found.since);
                self.listeners.renew(&found);
                before.into_iter().for_each(|pid| self.see_ends(pid, read.ended));
            }
        }
    }

    /// A process was found to hold a listener: one that it inherited counts as its own.
    fn note_holder(&mut self, process: &Process, port: u16, since: Option<Mono>) {
        if let Some(pid) = process.pid {
            self.servers.holds(pid, port, since);
        }
    }

    /// Takes a process that may be the server.
    pub fn candidate(&mut self, candidate: Candidate) {
        let candidate = Candidate { process: self.with_user_at_exec(candidate.process), ..candidate };
        let pid = candidate.process.pid;
        // What it held before it executed its program may be closed, which a query of the owners shows.
        let executed = pid.and_then(|pid| self.servers.last_execution(pid));
        let is_known = |listener: &&Listener| {
            let read = self.owners_read(listener.netns).map(|read| read.read.began);
            executed.is_none_or(|executed| {
                listener.since.is_some_and(|since| since >= executed)
                    || read.is_some_and(|read| read > executed)
            })
        };
        let listens = self.listeners.open().filter(|one| pid.is_some() && one.process.pid == pid);
        // What it has closed by now it has listened on too, as in a restart inside the process.
        let closed = self.listeners.every_closed().map(|closed| &closed.listener);
        let closed = closed.filter(|one| one.process.is_same(&candidate.process));
        let is_of_program =
            |listener: &&Listener| executed.is_none_or(|executed| listener.since >= Some(executed));
        let listens = listens.filter(is_known).chain(closed.filter(is_of_program));
        let listened: Vec<(u16, Option<Mono>)> =
            listens.map(|listener| (listener.port, listener.since)).collect();
        self.processes.note(candidate.process.clone(), candidate.time);
        self.servers.add(candidate, listened);
    }

    /// Takes what `/proc` shows of a process.
    pub fn described(&mut self, process: Process, read: Interval) {
        self.listeners.describe(&process);
        self.turns.describe(&process);
        self.binds.describe(&process);
        self.servers.describe(&process, read.began);
        self.processes.note(process, read.ended);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::net::IpAddr;

    use super::*;
    use crate::model::kernel_event::{Exited, Opened};
    use crate::model::process::ExitStatus;
    use crate::model::socket::SocketKey;
    use crate::model::time::StartTime;

    #[test]
    fn a_process_that_has_ended_is_not_a_holder_however_late_it_closes_its_files() {
        let process = |pid: u32| {
            let start = Some(StartTime::from_boottime(u64::from(pid)));
            Process { pid: Some(pid), start, ..Process::default() }
        };
        let (netns, key) = (NetnsId(1), SocketKey { inode: 5, cookie: 6 });
        let listener = Listener {
            key,
            netns,
            addr: IpAddr::from([127, 0, 0, 1]),
            port: 80,
            v6only: None,
            device: None,
            backlog: None,
            since: Some(Mono(10)),
            process: process(11),
            opener: None,
        };
        let mut state = HostState::default();
        let opened = Opened { time: Mono(10), listener, tid: 11, netns_cookie: 0, was_hashed: None };
        state.opened(opened);
        state.exited(&Exited { time: Mono(20), pid: 11, status: ExitStatus::Code(0) });
        let found = |state: &mut HostState, pid: u32, at: u64| {
            state.owned(netns, vec![(5, process(pid))], Interval { began: Mono(at), ended: Mono(at + 1) });
            let holder = state.listeners.get(netns, key).and_then(|listener| listener.process.pid);
            (holder, state.let_go(), state.listeners.orphaned_by(netns, key).is_some())
        };
        assert_eq!(
            found(&mut state, 11, 21),
            (Some(11), BTreeSet::from([11]), true),
            "its owner is to be queried"
        );
        assert_eq!(found(&mut state, 12, 31), (Some(12), BTreeSet::new(), false));
    }
}
