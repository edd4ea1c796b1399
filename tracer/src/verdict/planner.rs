//! What to ask the host before a refusal is reported: all queries together, from what is known by then.

use std::collections::BTreeSet;

use super::coverage::{self, Destination};
use super::evidence::{ConsideredListener, Verdict};
use super::locate;
use super::rules::{self, Classification, RequiredQuery};
use crate::model::cause::{Because, Cause, Mismatch};
use crate::model::errno::Errno;
use crate::model::kernel_event::Refused;
use crate::model::socket::NetnsId;
use crate::model::time::{Interval, Mono};
use crate::query::{KnownSocket, QueryKind};
use crate::state::HostState;

/// How old what is known of a namespace's addresses may be when a verdict rests on it: short against what a
/// person does, and long against what a query costs.
pub const FRESH_NS: u64 = 5_000_000;

/// How old the result of an expensive query may be: it takes a few milliseconds.
const EXPENSIVE_NS: u64 = 50_000_000;

/// Processes whose Unix and UDP sockets are read for one refusal.
const LOCAL_SOCKETS_MAX: usize = 16;

/// For how long after a dump of a namespace's listeners it is enough to ask their owners.
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

/// Names what is to be asked.
pub fn plan(
    refused: &Refused,
    classification: &Classification,
    state: &HostState,
    (purpose, now): (Purpose<'_>, Mono),
) -> Vec<QueryKind> {
    let plan = Plan { refused, state, now };
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
}

impl Plan<'_> {
    /// Whether what was read then may not be what was when the refusal came.
    fn is_due(&self, read: Option<Interval>, at_least: u64) -> bool {
        read.is_none_or(|read| read.is_due(self.refused.time, self.now, at_least))
    }

    /// The namespaces of the client and of the destination: without them it is not known where the destination is.
    fn of_namespaces(&self, classification: &Classification) -> Vec<QueryKind> {
        let Self { refused, state, now } = *self;
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
        let filter = locate::packet_filter(refused, state).map(|filter| filter.netns);
        let elsewhere = [Some(classification.destination.netns), filter].into_iter().flatten();
        let is_due = |other: &NetnsId| *other != netns && is_stale(*other);
        let due: BTreeSet<NetnsId> = elsewhere.filter(is_due).collect();
        due.into_iter().map(|netns| QueryKind::Namespace { netns, pid_hint: None }).collect()
    }

    /// What the cause rests on.
    fn of_cause(&self, classification: &Classification) -> Vec<QueryKind> {
        let Self { refused, state, now } = *self;
        let Classification { cause, because, destination: Destination { netns, port, .. } } = classification;
        let (cause, netns, port) = (*cause, *netns, *port);
        let mut queries = Vec::new();
        let rule = rules::rule(cause);
        // That a packet filter is another namespace's rests on which namespaces there are.
        let is_beyond =
            locate::packet_filter(refused, state).is_some_and(|filter| filter.netns != refused.netns);
        let asks_host = rule.queries.contains(&RequiredQuery::EveryNamespace)
            || because.contains(&Because::AmbiguousNetns)
            || is_beyond
            || state.health.lost;
        let unverified =
            rule.queries.contains(&RequiredQuery::AbsenceVerified) && !state.health.is_absence_verified;
        let is_host_due = if state.health.lost {
            let read = state.health.host_read;
            read.is_none_or(|read| read.is_due_after_loss(refused.time, now))
        } else {
            self.is_due(state.health.host_read, 0)
        };
        if asks_host && is_host_due || unverified {
            queries.push(QueryKind::Host);
        }
        let holders = state.binds.holders_read(netns, port);
        if rule.queries.contains(&RequiredQuery::Candidates) {
            // Whether the port is one that a candidate serves is configured.
            let running = state.servers.running(netns, refused.time);
            let known = running.iter().filter(|known| known.candidate.product.is_some());
            let pids = known.filter_map(|known| known.candidate.process.pid);
            let is_new = |pid: &u32| state.settings.last_read(*pid).is_none();
            queries
                .extend(pids.filter(is_new).take(LOCAL_SOCKETS_MAX).map(|pid| QueryKind::Settings { pid }));
        }
        for required in rule.queries {
            let query = match required {
                RequiredQuery::EveryNamespace | RequiredQuery::AbsenceVerified => None,
                RequiredQuery::BoundSockets => {
                    let are_followed =
                        state.binds.bound_to(netns, port).next().is_some_and(|(_, time)| time.is_some());
                    let is_due = holders.is_none_or(|read| {
                        // A socket whose end is not reported may be closed by now.
                        if cause == Cause::BoundNotListening && !are_followed {
                            read.is_worth_it(refused.time, now, FRESH_NS)
                        } else {
                            read.is_due(refused.time, now, FRESH_NS)
                        }
                    });
                    let are_listed = state
                        .health
                        .undetectable
                        .is_none_or(|unseen| rules::is_before(Cause::BoundNotListening, unseen));
                    (are_listed && is_due).then_some(QueryKind::Holders { netns, port })
                }
                RequiredQuery::PortHolders => (holders.is_none() && self.may_be_held_unseen(netns, port))
                    .then_some(QueryKind::Holders { netns, port }),
                RequiredQuery::Candidates => {
                    self.is_due(state.servers.last_search(), EXPENSIVE_NS).then_some(QueryKind::Candidates)
                }
                RequiredQuery::OtherPorts => (self
                    .is_due(state.servers.other_ports_read(netns), EXPENSIVE_NS)
                    && (state.has_server(netns, refused.time)
                        || state.binds.last_failure(netns, port).is_some()))
                .then_some(QueryKind::OtherPorts { netns }),
                RequiredQuery::OtherPortsOfFailed => {
                    let has_failed = state.binds.last_failure(netns, port).is_some();
                    (has_failed && self.is_due(state.servers.other_ports_read(netns), EXPENSIVE_NS))
                        .then_some(QueryKind::OtherPorts { netns })
                }
                RequiredQuery::Forwarders => {
                    let read = state.forwarders.last_read(netns, port);
                    self.is_due(read, EXPENSIVE_NS).then_some(QueryKind::Forwarders { netns, port })
                }
                RequiredQuery::LocalSockets => {
                    let is_due =
                        |pid: &u32| self.is_due(state.servers.local_sockets_read(*pid), EXPENSIVE_NS);
                    let running = state.servers.running(netns, refused.time);
                    let pids = running.iter().filter_map(|known| known.candidate.process.pid);
                    let pids: Vec<u32> = pids.filter(is_due).take(LOCAL_SOCKETS_MAX).collect();
                    (!pids.is_empty()).then_some(QueryKind::LocalSockets { netns, pids })
                }
            };
            queries.extend(query);
        }
        queries
    }

    /// Whether a bind failed for an address that no open listener takes: another socket holds it, or held it.
    fn may_be_held_unseen(&self, netns: NetnsId, port: u16) -> bool {
        let Self { state, .. } = self;
        state.binds.failed_with(netns, port, Errno::EADDRINUSE).any(|failed| {
            let mut on_port = state.listeners.open_in(netns).filter(|listener| listener.port == port);
            !on_port.any(|listener| coverage::conflict(listener, failed))
        })
    }

    /// What a report shows: the client, the owners of the nearest listeners, and their settings.
    fn of_evidence(&self, verdict: &Verdict) -> Vec<QueryKind> {
        let Self { refused, state, now } = *self;
        let mut queries = Vec::new();
        let client = refused.client.key().filter(|_| !state.processes.knows(&refused.client));
        queries.extend(client.map(QueryKind::Process));
        // Of the namespace that the verdict is about, or of the one that the nearest listener is in.
        let is_open = |one: &&ConsideredListener| one.mismatch != Some(Mismatch::Closed);
        let shown = verdict.considered.iter().find(is_open).map(|one| one.listener.netns);
        let read = |netns: &NetnsId| state.owners_read(*netns).map(|owners| owners.read);
        // A socket that was passed on to another process shows in no event; but where the one that had it has ended, another
        // holds it, and what was read before does not show that one.
        let is_orphaned = |one: &ConsideredListener| {
            state.listeners.orphaned_by(one.listener.netns, one.listener.key).is_some()
        };
        let is_before = |read: Option<Interval>| read.is_none_or(|read| read.is_stale(refused.time, now, 0));
        let has_heir = verdict.considered.iter().filter(is_open).any(is_orphaned);
        let is_due =
            |netns: &NetnsId| self.is_due(read(netns), FRESH_NS) || has_heir && is_before(read(netns));
        if let Some(netns) = shown.filter(is_due) {
            let known = self.known_owners(netns, verdict.considered.iter().filter(is_open), now);
            queries.push(QueryKind::Owners { netns, known });
        }
        let is_old = |pid: &u32| self.is_due(state.settings.last_read(*pid), EXPENSIVE_NS);
        let pids = verdict.servers().filter_map(|process| process.pid).filter(is_old);
        queries.extend(pids.map(|pid| QueryKind::Settings { pid }));
        queries
    }

    /// The listeners of a namespace that are shown, with their owners, where it is enough to ask these whether they hold
    /// them still: the sockets were dumped a moment ago, for the backlog, which changes without an event.
    fn known_owners<'a>(
        &self,
        netns: NetnsId,
        shown: impl Iterator<Item = &'a ConsideredListener>,
        now: Mono,
    ) -> Option<Vec<KnownSocket>> {
        let dumped = self.state.owners_read(netns)?.dumped;
        let of_netns = shown.map(|one| &one.listener).filter(|listener| listener.netns == netns);
        let known =
            of_netns.map(|listener| KnownSocket { inode: listener.key.inode, pid: listener.process.pid });
        (now.since(dumped) < DUMPED_NS).then(|| known.collect())
    }
}
