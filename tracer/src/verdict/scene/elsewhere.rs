//! What the server listens on instead of the port, and whether it will stay there.

use std::collections::{BTreeMap, BTreeSet};

use super::Scene;
use crate::model::cause::Because;
use crate::model::process::Process;
use crate::model::socket::Listener;
use crate::model::time::Mono;
use crate::query::Candidate;
use crate::state::HostState;
use crate::state::servers::ServerCandidate;
use crate::verdict::coverage::{Destination, was_there};

/// A listener of a process on another port, and when it opened.
#[derive(Clone, Copy, Debug)]
pub(super) struct Beside<'a> {
    pub listener: &'a Listener,
    /// By then at the latest, where it is not known when.
    open_by: Mono,
}

impl Beside<'_> {
    /// Whether it opened after that; `None`: not known.
    pub fn is_after(&self, time: Mono) -> Option<bool> {
        match self.listener.since {
            Some(opened) => Some(opened >= time),
            None => (self.open_by <= time).then_some(false),
        }
    }
}

/// What a process has done on the port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tried {
    /// It has listened on it.
    Held,
    /// It has failed to take it, first at this time.
    FailedAt(Mono),
    Not,
}

/// A listener of a server on another port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OtherPort<'a> {
    pub listener: &'a Listener,
    /// When its process was there, at the latest.
    pub since: Mono,
    /// Why it may not have settled there; `None`: it has.
    pub because: Option<Because>,
}

/// How long a process must have run, that listens elsewhere, for that to be where it settled.
pub(super) const SETTLED_NS: u64 = 5_000_000_000;

/// Ports that the kernel gives out by itself (`net.ipv4.ip_local_port_range`, its default): one of them is not where a
/// server is expected.
const EPHEMERAL: std::ops::RangeInclusive<u16> = 32_768..=60_999;

impl<'a> Scene<'a> {
    /// What a process listens on in the namespace besides the port, on watched ports and on others.
    pub(super) fn elsewhere_of(&self, pid: u32) -> impl Iterator<Item = Beside<'a>> + use<'a> {
        let Self { refused, destination: Destination { netns, port, .. }, state, .. } = *self;
        let HostState { listeners, elsewhere, .. } = state;
        // One that has closed while the refusal waited was there.
        let closed = listeners.closed_after(refused.time).map(|closed| &closed.listener);
        let closed = closed.filter(move |one| one.netns == netns && one.process.pid == Some(pid));
        let watched = listeners.held_by(netns, pid).chain(closed);
        let watched = watched.filter(move |listener| listener.port != port);
        let on_others = elsewhere.other_listeners(netns, pid, refused.time);
        let on_others = on_others.filter(move |one| listeners.get(netns, one.key).is_none());
        let dated_since = elsewhere.dated_since(netns).unwrap_or(refused.time);
        let on_others = on_others.map(move |listener| Beside { listener, open_by: dated_since });
        // One on a watched port whose opening was not seen was open before the trace.
        let watched = watched.map(|listener| Beside { listener, open_by: Mono(0) });
        on_others.chain(watched).filter(move |beside| was_there(beside.listener, refused.time))
    }

    /// Whether a process has settled where it listens. `since`: when it was there.
    fn settled_on(&self, beside: Beside<'a>, tried: Tried, since: Mono) -> Option<OtherPort<'a>> {
        let Beside { listener, .. } = beside;
        let is_instead = match tried {
            Tried::Held => Some(true),
            // A port that was open before, such as one for metrics, does not show that it gave this one up.
            Tried::FailedAt(time) => beside.is_after(time),
            Tried::Not => Some(false),
        };
        let because = match is_instead {
            Some(true) => None,
            None => Some(Because::HistoryForgotten),
            Some(false) => {
                let age = self.refused.time.since(listener.since.unwrap_or(since).max(since));
                if age < SETTLED_NS || EPHEMERAL.contains(&listener.port) {
                    return None;
                }
                Some(Because::MayBeStarting)
            }
        };
        Some(OtherPort { listener, since, because })
    }

    /// Where a candidate listens instead, and how that is known to be all that it opens; `None`: it may still open the port.
    pub(super) fn settled(&self, known: &'a ServerCandidate) -> Option<OtherPort<'a>> {
        let Candidate { product, process, since, .. } = &known.candidate;
        let is_set = |listener: &Listener| {
            let port = product.map(|product| product.port());
            let setting = port.and_then(|port| self.state.settings.of(process)?.effective(port));
            setting.is_some_and(|set| set.value.parse() == Ok(listener.port))
        };
        let tried = self.tried(known);
        self.elsewhere_of_instance(known).find_map(|beside| {
            if is_set(beside.listener) {
                return Some(OtherPort { listener: beside.listener, since: *since, because: None });
            }
            self.settled_on(beside, tried, *since)
        })
    }

    /// What an instance listens on besides the port.
    pub(super) fn elsewhere_of_instance(
        &self,
        known: &'a ServerCandidate,
    ) -> impl Iterator<Item = Beside<'a>> {
        self.processes(known).into_iter().flat_map(|pid| self.elsewhere_of(pid))
    }

    /// What the processes that failed to take the port listen on instead.
    pub fn elsewhere_of_failed(&self) -> Vec<&'a Listener> {
        let may_be = |process: &Process| self.server.is_none_or(|server| server.may_be(process));
        let failed = self.failures().filter(|failed| may_be(&failed.socket.process));
        let failed = failed.map(|failed| self.processes_of(&failed.socket.process, failed.first));
        let failed: BTreeSet<u32> = failed.flatten().collect();
        failed.into_iter().flat_map(|pid| self.elsewhere_of(pid)).map(|beside| beside.listener).collect()
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
        // One that has held the port before the trace was there by the time that it closed, at the latest.
        let last_owner = self
            .closed_on_port()
            .map(|closed| acted_by(&closed.listener.process, closed.listener.since.unwrap_or(closed.time)));
        let may_be = |process: &Process| self.server.is_none_or(|server| server.may_be(process));
        let of_server = self.failures().filter(|failed| may_be(&failed.socket.process));
        let failed = of_server.flat_map(|failed| acted_by(&failed.socket.process, failed.first));
        let mut acted: BTreeMap<u32, (Tried, Mono)> = BTreeMap::new();
        for (pid, time) in failed {
            let (tried, first) = acted.entry(pid).or_insert((Tried::FailedAt(time), time));
            (*tried, *first) = (Tried::FailedAt(time.min(*first)), time.min(*first));
        }
        for (pid, (tried, first)) in &mut acted {
            // What it failed to get is one that it had held before.
            let known = self.state.servers.instance_of(*pid, *first);
            if known.is_some_and(|known| known.had_listened(self.destination.port, self.refused.time)) {
                *tried = Tried::Held;
            }
        }
        for (pid, time) in last_owner.into_iter().flatten() {
            let (tried, first) = acted.entry(pid).or_insert((Tried::Held, time));
            (*tried, *first) = (Tried::Held, time.min(*first));
        }
        let of_acted = acted.iter().flat_map(|(pid, (tried, first))| {
            let since = started(*pid).unwrap_or(*first);
            self.elsewhere_of(*pid).filter_map(move |beside| self.settled_on(beside, *tried, since))
        });
        let of_named = running.iter().filter(|known| self.is_instance(known)).filter_map(|known| {
            let has_acted = known.candidate.process.pid.is_some_and(|pid| acted.contains_key(&pid));
            let settled = self.settled(known).filter(|_| !has_acted)?;
            let elsewhere: Vec<Beside<'a>> = self.elsewhere_of_instance(known).collect();
            Some(elsewhere.into_iter().map(move |Beside { listener, .. }| OtherPort { listener, ..settled }))
        });
        of_acted.chain(of_named.flatten()).collect()
    }

    /// Whether the server has settled on another port: an instance that started after those that have may still open this
    /// one, and is waited for.
    pub fn is_on_another_port(&self) -> bool {
        let newest = self.elsewhere().iter().map(|other| other.since).max();
        newest.is_some_and(|since| !self.has_starting_after(since))
    }
}
