//! Which queries are sent to the host before a refusal is reported: all in one step, by what is known then.

use std::collections::BTreeSet;

use super::conflict;
use super::considered::ConsideredListener;
use super::coverage::Destination;
use super::evidence::Verdict;
use super::locate::locate;
use super::packet_filter;
use super::rules::{self, Classification, PlannedQuery, Rule};
use super::scene::Scene;
use crate::model::cause::{Because, Cause, Mismatch};
use crate::model::errno::Errno;
use crate::model::kernel_event::Refused;
use crate::model::socket::{Listener, NetnsId};
use crate::model::time::{Interval, Mono};
use crate::query::{KnownSocket, QueryKind};
use crate::state::settings::SettingsBook;
use crate::state::{FRESH_NS, HostState};

/// How old the result of an expensive query may be: it takes a few milliseconds.
const EXPENSIVE_NS: u64 = 50_000_000;

/// Processes whose Unix and UDP sockets are read for one refusal.
const LOCAL_SOCKETS_MAX: usize = 16;

/// For how long after a dump of a namespace's listeners it is enough to query their owners.
const DUMPED_NS: u64 = 1_000_000_000;

/// What a refusal is planned for.
#[derive(Clone, Copy, Debug)]
pub enum Purpose<'a> {
    /// It is like one that was reported: it is only counted, by its cause.
    Count,
    /// It is to be reported, with this verdict by what is known now: its client, the owners of listeners and their
    /// settings are shown.
    Report(&'a Verdict),
}

/// What the queries of a refusal are planned for.
#[derive(Clone, Copy, Debug)]
pub struct Task<'a> {
    pub classification: &'a Classification,
    pub purpose: Purpose<'a>,
    pub now: Mono,
}

/// The queries that are to be answered before a refusal is reported.
pub fn plan(refused: &Refused, task: Task<'_>, state: &HostState) -> Vec<QueryKind> {
    let Task { classification, purpose, now } = task;
    let is_reported = matches!(purpose, Purpose::Report(_));
    let plan = Plan { refused, state, now, is_reported };
    let mut queries = plan.of_namespaces(classification);
    if queries.is_empty() {
        queries.extend(plan.of_cause(classification));
    }
    if let Purpose::Report(verdict) = purpose {
        queries.extend(plan.of_evidence(verdict));
    }
    queries
}

struct Plan<'a> {
    refused: &'a Refused,
    state: &'a HostState,
    now: Mono,
    /// It gets a line of its own.
    is_reported: bool,
}

impl Plan<'_> {
    /// Whether what was read then may not be what was when the refusal came.
    fn is_due(&self, read: Option<Interval>, at_least: u64) -> bool {
        read.is_none_or(|read| read.is_due(self.refused.time, self.now, at_least))
    }

    /// The namespaces of the client and of the destination: without them it is not known where the destination is.
    fn of_namespaces(&self, classification: &Classification) -> Vec<QueryKind> {
        let Self { refused, state, now, .. } = *self;
        if state.followed.is_unread(refused.dst_port) {
            return vec![QueryKind::Port { port: refused.dst_port }];
        }
        let netns = refused.netns;
        let is_stale = |netns: NetnsId| state.is_stale(netns, refused.time, now);
        if state.namespaces.last_read(netns).is_none()
            || state.is_replaced(netns, refused.netns_cookie)
            || !refused.dst.is_loopback() && is_stale(netns)
        {
            return vec![QueryKind::Namespace { netns, pid_hint: refused.client.pid }];
        }
        let filter = packet_filter::find(refused, state).map(|filter| filter.netns);
        let elsewhere = [Some(classification.destination.netns), filter].into_iter().flatten();
        let is_due = |other: &NetnsId| *other != netns && is_stale(*other);
        let due: BTreeSet<NetnsId> = elsewhere.filter(is_due).collect();
        due.into_iter().map(|netns| QueryKind::Namespace { netns, pid_hint: None }).collect()
    }

    /// What the cause rests on.
    fn of_cause(&self, classification: &Classification) -> Vec<QueryKind> {
        let rule = rules::rule(classification.cause);
        let mut queries: Vec<QueryKind> = self.of_host(classification, rule).into_iter().collect();
        if rule.queries.contains(&PlannedQuery::Candidates) {
            queries.extend(self.of_candidate_settings(classification.destination.netns));
        }
        let planned = rule.queries.iter().filter_map(|query| self.of_rule(*query, classification));
        queries.extend(planned);
        queries
    }

    /// The query of every namespace, where the verdict rests on what is in none of them.
    fn of_host(&self, classification: &Classification, rule: &Rule) -> Option<QueryKind> {
        let Self { refused, state, now, .. } = *self;
        // That a packet filter is another namespace's rests on which namespaces there are.
        let is_beyond =
            packet_filter::find(refused, state).is_some_and(|filter| filter.netns != refused.netns);
        let asks_host = rule.queries.contains(&PlannedQuery::EveryNamespace)
            || classification.because.contains(&Because::AmbiguousNetns)
            || is_beyond
            || state.health.lost;
        let unverified =
            rule.queries.contains(&PlannedQuery::AbsenceVerified) && !state.health.is_absence_verified;
        let read = state.health.host_read;
        let is_due = if state.health.lost {
            read.is_none_or(|read| read.is_due_after_loss(refused.time, now))
        } else {
            self.is_due(read, 0)
        };
        (asks_host && is_due || unverified).then_some(QueryKind::Host)
    }

    /// Whether the port is one that a candidate serves is configured: the settings that were not read yet.
    fn of_candidate_settings(&self, netns: NetnsId) -> Vec<QueryKind> {
        let Self { refused, state, .. } = *self;
        let running = state.servers.running(netns, refused.time);
        let known = running.iter().filter(|known| known.candidate.product.is_some());
        let pids = known.filter_map(|known| known.candidate.process.pid);
        let is_new = |pid: &u32| state.settings.last_read(*pid).is_none();
        pids.filter(is_new).take(LOCAL_SOCKETS_MAX).map(|pid| QueryKind::Settings { pid }).collect()
    }

    /// The query that a rule names; `None`: what was read is new enough, or another function plans it.
    fn of_rule(&self, query: PlannedQuery, classification: &Classification) -> Option<QueryKind> {
        let Self { refused, state, .. } = *self;
        let Destination { netns, port, .. } = classification.destination;
        let has_failed = || state.binds.last_failure(netns, port).is_some();
        match query {
            PlannedQuery::EveryNamespace | PlannedQuery::AbsenceVerified => None,
            // A listener that was lost sight of did not answer: a dump lists those that are there.
            PlannedQuery::ListenersSince => {
                let read = state.namespaces.last_read(netns);
                let is_confirmed = read.is_some_and(|read| read.began >= refused.started);
                let is_due = self.is_reported && !packet_filter::is_filtered(refused) && !is_confirmed;
                is_due.then_some(QueryKind::Namespace { netns, pid_hint: None })
            }
            PlannedQuery::BoundSockets => self.of_bound_sockets(classification),
            PlannedQuery::PortHolders => {
                // Of a connection that held the port, nothing shows that it has ended.
                let is_due = state.binds.holders_read(netns, port).is_none_or(|read| {
                    state.binds.has_unfollowed_holder(netns, port)
                        && read.is_due(refused.time, self.now, FRESH_NS)
                });
                (is_due && self.may_be_held_unseen(netns, port)).then_some(QueryKind::Holders { netns, port })
            }
            PlannedQuery::Candidates => {
                self.is_due(state.servers.last_search(), EXPENSIVE_NS).then_some(QueryKind::Candidates)
            }
            PlannedQuery::OtherPorts => {
                self.of_other_ports(netns, || state.has_server(netns, refused.time) || has_failed())
            }
            PlannedQuery::OtherPortsOfFailed => self.of_other_ports(netns, has_failed),
            PlannedQuery::Forwarders => {
                let read = state.forwarders.last_read(netns, port);
                self.is_due(read, EXPENSIVE_NS).then_some(QueryKind::Forwarders { netns, port })
            }
            PlannedQuery::LocalSockets => self.of_local_sockets(netns),
        }
    }

    fn of_bound_sockets(&self, classification: &Classification) -> Option<QueryKind> {
        let Self { refused, state, now, .. } = *self;
        let Destination { netns, port, .. } = classification.destination;
        let are_followed = state.binds.bound_to(netns, port).next().is_some_and(|(_, time)| time.is_some());
        let is_due = state.binds.holders_read(netns, port).is_none_or(|read| {
            // A socket whose end is not reported may be closed by now.
            if classification.cause == Cause::BoundNotListening && !are_followed {
                read.is_worth_it(refused.time, now, FRESH_NS)
            } else {
                read.is_due(refused.time, now, FRESH_NS)
            }
        });
        let unseen = state.health.undetectable;
        let are_listed = unseen.is_none_or(|unseen| rules::is_before(Cause::BoundNotListening, unseen));
        (are_listed && is_due).then_some(QueryKind::Holders { netns, port })
    }

    /// What processes of a namespace listen on besides the watched ports. `is_any`: one of them may be the server.
    fn of_other_ports(&self, netns: NetnsId, is_any: impl FnOnce() -> bool) -> Option<QueryKind> {
        let is_due = self.is_due(self.state.elsewhere.other_ports_read(netns), EXPENSIVE_NS);
        (is_due && is_any()).then_some(QueryKind::OtherPorts { netns })
    }

    fn of_local_sockets(&self, netns: NetnsId) -> Option<QueryKind> {
        let Self { refused, state, .. } = *self;
        let is_due = |pid: &u32| self.is_due(state.elsewhere.local_sockets_read(*pid), EXPENSIVE_NS);
        let running = state.servers.running(netns, refused.time);
        let first = running.iter().filter_map(|known| known.candidate.process.pid);
        let processes = running.iter().flat_map(|known| state.servers.processes_of(known, refused.time));
        let mut seen = BTreeSet::new();
        let pids = first.chain(processes).filter(|pid| seen.insert(*pid) && is_due(pid));
        let pids: Vec<u32> = pids.take(LOCAL_SOCKETS_MAX).collect();
        (!pids.is_empty()).then_some(QueryKind::LocalSockets { netns, pids })
    }

    /// Whether a bind failed for an address that no open listener takes: another socket holds it, or held it.
    fn may_be_held_unseen(&self, netns: NetnsId, port: u16) -> bool {
        let Self { state, .. } = self;
        state.binds.failed_with(netns, port, Errno::EADDRINUSE).any(|failed| {
            conflict::holders(failed, &state.listeners, &state.binds).listeners().next().is_none()
        })
    }

    /// What a report shows: the client, the owners of the nearest listeners, and their settings.
    fn of_evidence(&self, verdict: &Verdict) -> Vec<QueryKind> {
        let Self { refused, state, now, .. } = *self;
        let mut queries = Vec::new();
        let client = refused.client.key().filter(|_| !state.processes.knows(&refused.client));
        queries.extend(client.map(QueryKind::Process));
        // Of the namespace that the verdict is about, or of the one that the nearest listener is in.
        let is_open = |one: &&ConsideredListener| one.mismatch != Some(Mismatch::Closed);
        let considered = verdict.considered.iter().filter(is_open).map(|one| &one.listener);
        let shown: Vec<&Listener> = considered.chain(self.on_other_ports(verdict)).collect();
        let nearest = shown.first().map(|listener| listener.netns);
        let read = |netns: &NetnsId| state.owners_read(*netns).map(|owners| owners.read);
        // A socket that was passed on to another process shows in no event; but where the one that had it has ended, another
        // holds it, and what was read before does not show that one.
        let is_orphaned =
            |listener: &&Listener| state.listeners.orphaned_by(listener.netns, listener.key).is_some();
        let is_before = |read: Option<Interval>| read.is_none_or(|read| read.is_stale(refused.time, now, 0));
        let has_heir = shown.iter().any(is_orphaned);
        let is_due =
            |netns: &NetnsId| self.is_due(read(netns), FRESH_NS) || has_heir && is_before(read(netns));
        if let Some(netns) = nearest.filter(is_due) {
            let known = self.known_owners(netns, shown.into_iter(), now);
            queries.push(QueryKind::Owners { netns, known });
        }
        let is_old = |pid: &u32| self.is_due(state.settings.last_read(*pid), EXPENSIVE_NS);
        let client = Some(&refused.client).filter(|client| {
            verdict.cause == Cause::NothingListening && SettingsBook::may_be_of_client(client)
        });
        let processes = verdict.servers().chain(client);
        let pids = processes.filter_map(|process| process.pid).filter(is_old);
        queries.extend(pids.map(|pid| QueryKind::Settings { pid }));
        queries
    }

    /// The watched listeners on other ports that a report shows, or would show if the processes that hold them now were known.
    fn on_other_ports<'a>(&'a self, verdict: &'a Verdict) -> impl Iterator<Item = &'a Listener> {
        let Self { refused, state, .. } = *self;
        let watched =
            verdict.elsewhere.iter().filter(|one| state.listeners.get(one.netns, one.key).is_some());
        let kept = (verdict.cause == Cause::Stopped)
            .then(|| Scene::new(refused, locate(refused, state), state).may_be_kept());
        watched.chain(kept.into_iter().flatten())
    }

    /// The listeners of a namespace that are shown, with their owners, where it is enough to ask these whether they hold
    /// them still: the sockets were dumped a moment ago, for the backlog, which changes without an event.
    fn known_owners<'a>(
        &self,
        netns: NetnsId,
        shown: impl Iterator<Item = &'a Listener>,
        now: Mono,
    ) -> Option<Vec<KnownSocket>> {
        let dumped = self.state.owners_read(netns)?.dumped;
        let of_netns = shown.filter(|listener| listener.netns == netns);
        let known =
            of_netns.map(|listener| KnownSocket { inode: listener.key.inode, pid: listener.process.pid });
        (now.since(dumped) < DUMPED_NS).then(|| known.collect())
    }
}
