//! Each refusal, from its record to its report: deferred, waiting, reported.

use std::collections::{BTreeMap, VecDeque};

use super::fallbacks::{Fallback, Fallbacks};
use super::finding::{Finding, FindingKind, Recovered, RefusalId, RefusedFinding};
use super::in_flight::InFlight;
use super::repeats::{self, Key, RepeatGroups, Repeats, Waiting};
use crate::model::cause::{Because, Cause};
use crate::model::kernel_event::{Connected, Refused, Role};
use crate::model::process::OwnerEnd;
use crate::model::socket::{Listener, NetnsId};
use crate::model::time::Mono;
use crate::query::{QueryId, QueryKind};
use crate::state::HostState;
use crate::verdict::coverage::{self, Destination};
use crate::verdict::evidence::{self, Verdict};
use crate::verdict::planner::{self, Purpose};
use crate::verdict::rules::{self, Classification};
use crate::verdict::scene;
use crate::verdict::uncertainty::{self, CHANGING_NS};

/// Connects of clients whose refusal is not reported yet; on more, the oldest is dropped.
const EARLY_MAX: usize = 1_024;

/// Refusals that are not reported yet: on more, the oldest is reported by what is known.
const TRACKED_MAX: usize = 4_096;

/// How long a destination must be covered without a gap to be answered again: a listener that closes before that tried
/// whether the port is free.
pub const COVERED_NS: u64 = 250_000_000;

/// How long after a process closed its listener its own end may follow: a server that ends in order closes first.
pub const ENDING_NS: u64 = 100_000_000;

/// Listeners that opened a moment ago and may end the wait of a destination; on more, the oldest is taken to stay.
const OPENED_MAX: usize = 1_024;

/// A refusal that is not reported yet.
#[derive(Clone, Debug)]
struct Tracked {
    refused: Box<Refused>,
    state: State,
    /// What was asked of the host for it.
    asked: Vec<QueryKind>,
    /// What had been asked before it came: the answer may show what was before it.
    joined: Vec<QueryKind>,
    /// When it is reported by what is known then.
    deadline: Mono,
    /// The host did not answer something that the verdict rests on.
    is_unanswered: bool,
}

impl Tracked {
    fn has_asked(&self, kind: &QueryKind) -> bool {
        self.asked.iter().any(|asked| asked.is_about_the_same(kind))
    }

    fn has_joined(&self, kind: &QueryKind) -> bool {
        self.joined.iter().any(|joined| joined.is_about_the_same(kind))
    }
}

/// What a refusal waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
enum State {
    /// Nothing: it is classified next.
    New,
    /// For the time in which the close of a listener that covers it could still be recorded.
    Deferred { until: Mono },
    /// For answers of the host.
    Waiting { pending: Vec<QueryId> },
    /// It is counted with those that it is like, or has been reported.
    Reported,
}

/// How far the stream has been taken, and what time it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Every event until then has been taken.
    pub complete_until: Mono,
    pub now: Mono,
}

/// What is to be reported, and how much.
#[derive(Clone, Debug, Default)]
pub struct Scope {
    /// Only clients in this namespace.
    pub netns: Option<NetnsId>,
    /// Refusals after which nothing more is reported.
    pub count: Option<u64>,
}

/// Refusals that were reported or counted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RefusalCounts {
    /// Those on the ports of the run, and in `by_cause`.
    pub refused: u64,
    /// Those on every port.
    pub by_role: BTreeMap<Role, u64>,
    /// Those that a fallback has not followed.
    pub settled: u64,
    pub by_cause: BTreeMap<usize, (Cause, u64)>,
}

/// Every refusal that is not reported yet, or that something may still follow.
#[derive(Debug, Default)]
pub struct RefusalTracker {
    scope: Scope,
    tracked: BTreeMap<u64, Tracked>,
    /// Number of the newest tracked refusal.
    newest: u64,
    /// Number of the refusal that was reported last.
    reported: u64,
    groups: RepeatGroups,
    fallbacks: Fallbacks,
    /// Connects of clients whose refusal is not reported yet.
    early: VecDeque<Connected>,
    /// Listeners that cover a destination that was refused, the oldest first.
    opened: VecDeque<(Listener, Mono)>,
    /// Until when every event has been taken.
    complete_until: Mono,
    pub counts: RefusalCounts,
}

impl RefusalTracker {
    pub fn new(scope: Scope) -> Self {
        Self { scope, ..Self::default() }
    }

    /// Whether a refusal of a client in this namespace is to be reported.
    pub fn is_in_scope(&self, netns: NetnsId) -> bool {
        self.scope.netns.is_none_or(|only| only == netns)
    }

    /// The namespace that refusals are limited to.
    pub fn only_netns(&self) -> Option<NetnsId> {
        self.scope.netns
    }

    /// Whether as many refusals as were asked for have been reported.
    pub fn is_full(&self) -> bool {
        self.scope.count.is_some_and(|count| self.counts.settled >= count)
    }

    /// Takes a refusal.
    pub fn refused(
        &mut self,
        refused: Box<Refused>,
        state: &HostState,
        queries: &mut InFlight,
        progress: Progress,
    ) -> Vec<Finding> {
        let mut findings = Vec::new();
        if self.tracked.len() >= TRACKED_MAX
            && let Some((_, oldest)) = self.tracked.pop_first()
        {
            findings.extend(self.report(oldest, state, queries));
        }
        let deadline = progress.now.plus(queries.patience_ns());
        let tracked = Tracked {
            refused,
            state: State::New,
            asked: Vec::new(),
            joined: Vec::new(),
            deadline,
            is_unanswered: false,
        };
        self.newest += 1;
        let number = self.newest;
        findings.extend(self.step(number, tracked, state, queries, progress));
        findings
    }

    /// Goes on with the refusals that need not wait any longer.
    pub fn advance(&mut self, state: &HostState, queries: &mut InFlight, progress: Progress) -> Vec<Finding> {
        self.complete_until = progress.complete_until;
        let may_go_on = |tracked: &Tracked| match &tracked.state {
            State::New | State::Reported => true,
            State::Deferred { until } => {
                *until <= progress.complete_until || tracked.deadline <= progress.now
            }
            State::Waiting { pending } => {
                tracked.deadline <= progress.now || !pending.iter().any(|id| queries.is_pending(*id))
            }
        };
        let numbers: Vec<u64> = self
            .tracked
            .iter()
            .filter(|(_, tracked)| may_go_on(tracked))
            .map(|(number, _)| *number)
            .collect();
        let mut findings = Vec::new();
        for number in numbers {
            if let Some(tracked) = self.tracked.remove(&number) {
                findings.extend(self.step(number, tracked, state, queries, progress));
            }
        }
        let covered = |(_, opened): &(Listener, Mono)| opened.plus(COVERED_NS) <= progress.complete_until;
        while self.opened.len() > OPENED_MAX || self.opened.front().is_some_and(covered) {
            let Some((listener, opened)) = self.opened.pop_front() else { break };
            if state.listeners.get(listener.netns, listener.key).is_some() {
                findings.extend(self.recover(&listener, opened));
            }
        }
        self.counts.settled += self.fallbacks.settled(progress.complete_until);
        if self.tracked.is_empty() {
            self.early.clear();
        }
        findings
    }

    /// Takes a refusal as far as it goes: to what it waits for next, or to its report.
    fn step(
        &mut self,
        number: u64,
        mut tracked: Tracked,
        state: &HostState,
        queries: &mut InFlight,
        progress: Progress,
    ) -> Vec<Finding> {
        let classification = rules::classify(&tracked.refused, state);
        let is_due = tracked.deadline <= progress.now;
        // It is only counted if it is like one that was reported.
        let key = Key::of(&tracked.refused, classification.cause);
        let verdict = (!is_due && self.groups.is_new(&key, tracked.refused.time))
            .then(|| Box::new(evidence::gather(&tracked.refused, classification.clone(), state)));
        tracked.state = if is_due {
            State::Reported
        } else {
            let purpose = verdict.as_deref().map_or(Purpose::Count, Purpose::Report);
            self.next_state(&mut tracked, (&classification, purpose), state, queries, progress)
        };
        if tracked.state == State::Reported {
            return self.report_as(tracked, (key, classification, verdict), state, queries);
        }
        self.tracked.insert(number, tracked);
        Vec::new()
    }

    /// What a refusal waits for next.
    fn next_state(
        &self,
        tracked: &mut Tracked,
        (classification, purpose): (&Classification, Purpose<'_>),
        state: &HostState,
        queries: &mut InFlight,
        progress: Progress,
    ) -> State {
        let refused = &tracked.refused;
        // A listener that is about to close is unhashed before it is seen to close. A refusal that no socket was
        // asked about does not wait for that.
        let until = refused.started.plus(CHANGING_NS);
        let is_changing = classification.cause == Cause::Intercepted
            && !scene::is_filtered(refused)
            && refused.time < until
            && progress.complete_until < until;
        let is_new = matches!(purpose, Purpose::Report(_));
        let ends_at = scene::may_be_ending(refused, classification.cause, state, ENDING_NS);
        let pending = self.ask(tracked, classification, state, queries, (purpose, progress.now));
        if is_changing {
            State::Deferred { until }
        } else if let Some(until) = ends_at.filter(|until| is_new && *until > progress.complete_until) {
            State::Deferred { until }
        } else if is_new && !pending.is_empty() {
            State::Waiting { pending }
        } else {
            State::Reported
        }
    }

    /// Asks what is to be known before a refusal is reported, each question once, and gives the queries that are not
    /// answered yet.
    fn ask(
        &self,
        tracked: &mut Tracked,
        classification: &Classification,
        state: &HostState,
        queries: &mut InFlight,
        (purpose, now): (Purpose<'_>, Mono),
    ) -> Vec<QueryId> {
        let mut kinds = planner::plan(&tracked.refused, classification, state, (purpose, now));
        // Whether a listen() under way has succeeded decides which listeners there are.
        let Destination { netns, port, .. } = classification.destination;
        if state.openings.is_pending_on(netns, port) {
            kinds.push(QueryKind::Namespace { netns, pid_hint: None });
        }
        for kind in kinds {
            if !tracked.has_asked(&kind) {
                let id = queries.ask(kind.clone(), now);
                if queries.is_asked_since(id, tracked.refused.time) {
                    tracked.asked.push(kind);
                } else if !tracked.has_joined(&kind) {
                    tracked.joined.push(kind);
                }
            }
        }
        // A process that has just executed a program may be the server.
        let rests_on_absence = rules::is_before(Cause::BoundNotListening, classification.cause);
        let is_candidate = |kind: &QueryKind| rests_on_absence && matches!(kind, QueryKind::Candidate { .. });
        queries.pending(|kind| tracked.has_asked(kind) || tracked.has_joined(kind) || is_candidate(kind))
    }

    /// Reports a refusal by what is known now, or counts it with those that it is like.
    fn report(&mut self, tracked: Tracked, state: &HostState, queries: &InFlight) -> Vec<Finding> {
        let classification = rules::classify(&tracked.refused, state);
        let key = Key::of(&tracked.refused, classification.cause);
        self.report_as(tracked, (key, classification, None), state, queries)
    }

    /// Reports a refusal, or counts it with those that it is like. The verdict is gathered where it was not before.
    fn report_as(
        &mut self,
        tracked: Tracked,
        (key, classification, verdict): (Key, Classification, Option<Box<Verdict>>),
        state: &HostState,
        queries: &InFlight,
    ) -> Vec<Finding> {
        if self.is_full() {
            return Vec::new();
        }
        let Tracked { refused, asked, joined, is_unanswered, .. } = tracked;
        let mut kinds = asked.iter().chain(&joined);
        let is_unanswered = is_unanswered || kinds.any(|kind| is_evidence(kind) && is_pending(kind, queries));
        let Classification { cause, destination, .. } = classification;
        *self.counts.by_role.entry(refused.role).or_default() += 1;
        let counts = !state.followed.is_other(refused.dst_port);
        if counts {
            self.counts.refused += 1;
            self.counts.by_cause.entry(rules::place(cause)).or_insert((cause, 0)).1 += 1;
        }
        let mut findings = Vec::new();
        let of = match self.groups.repeat(&key, &refused) {
            Some(of) => of,
            None => {
                findings.extend(self.groups.make_room().map(|repeats| repeated(repeats, refused.time)));
                self.reported += 1;
                let id = RefusalId(self.reported);
                let mut verdict = match verdict {
                    Some(verdict) => *verdict,
                    None => evidence::gather(&refused, classification, state),
                };
                if is_unanswered {
                    verdict.because.push(Because::QueryTimeout);
                    verdict.because = uncertainty::in_order(verdict.because);
                }
                // Whether it is still running is not known while it may be about to end.
                if let Some(closed) = &mut verdict.closed
                    && closed.owner == OwnerEnd::Running
                    && self.complete_until < closed.time.plus(ENDING_NS)
                {
                    closed.owner = OwnerEnd::Unknown;
                }
                let client = state.processes.describe(&refused.client);
                let finding =
                    RefusedFinding { id, refused: Refused { client, ..(*refused).clone() }, verdict };
                findings.push(Finding { mono: refused.time, kind: FindingKind::Refused(Box::new(finding)) });
                self.groups.begin(key, id, destination.netns, refused.time);
                id
            }
        };
        // What is answered elsewhere, or was never asked, cannot be seen to recover.
        if !matches!(cause, Cause::Filtered | Cause::Remote | Cause::Intercepted) {
            self.groups.wait(destination, of, &refused);
        }
        // A process that holds a listener asks for its clients: what it asks next is another one's.
        let may_fall_back = refused.role == Role::Client && refused.dst.is_loopback();
        if may_fall_back {
            self.fallbacks.may_follow(of, &refused);
        }
        match cause {
            Cause::WrongFamily if may_fall_back && counts => self.fallbacks.unsettled(of, &refused),
            _ => self.counts.settled += u64::from(counts),
        }
        findings.extend(self.reached_before(&refused));
        findings
    }

    /// The connect that followed a refusal before it was reported.
    fn reached_before(&mut self, refused: &Refused) -> Option<Finding> {
        let is_of_client = |connected: &Connected| {
            connected.pid.is_some() && connected.pid == refused.client.pid && connected.time >= refused.time
        };
        let index = self.early.iter().position(is_of_client)?;
        // It follows the last refusal before it, which may not be reported yet.
        let time = self.early[index].time;
        let is_later = |tracked: &Tracked| {
            tracked.refused.client.pid == refused.client.pid && tracked.refused.time <= time
        };
        if self.tracked.values().any(is_later) {
            return None;
        }
        let connected = self.early.remove(index)?;
        self.fallback(&connected)
    }

    /// A listener has opened: what it covers is answered again, if it stays.
    pub fn opened(&mut self, listener: &Listener, time: Mono) {
        if self.groups.is_awaited(listener) {
            self.opened.push_back((listener.clone(), time));
        }
    }

    /// A client was answered: the listener that covers its destination counts as permanent.
    fn answered(&mut self, connected: &Connected) -> Vec<Finding> {
        let Connected { netns, dst: addr, dst_port: port, .. } = *connected;
        let destination = Destination { netns, addr, port, route: None };
        let covers = |(listener, _): &(Listener, Mono)| coverage::mismatch(listener, &destination).is_none();
        let first = self.opened.iter().position(covers).and_then(|index| self.opened.remove(index));
        first.map_or_else(Vec::new, |(listener, opened)| self.recover(&listener, opened))
    }

    /// A listener is up: the destinations that it covers are answered again.
    pub fn recover(&mut self, listener: &Listener, time: Mono) -> Vec<Finding> {
        let mut findings = Vec::new();
        for (waiting, ended) in self.groups.recover(listener) {
            findings.extend(ended.into_iter().map(|repeats| repeated(repeats, time)));
            let Waiting { destination, netns, device, of, first, refusals, processes } = waiting;
            let recovered = Recovered {
                destination,
                netns,
                device,
                of,
                after_ns: time.since(first),
                refusals,
                processes: repeats::distinct(&processes),
                listener: listener.clone(),
            };
            findings.push(Finding { mono: time, kind: FindingKind::Recovered(Box::new(recovered)) });
        }
        findings
    }

    /// A client has reached a watched port. `serves`: it holds a listener itself, so that what it does next is on behalf of
    /// its own clients.
    pub fn connected(&mut self, connected: &Connected, serves: bool) -> Vec<Finding> {
        let mut findings = self.answered(connected);
        findings.extend(self.reached(connected).filter(|_| !serves));
        findings
    }

    fn reached(&mut self, connected: &Connected) -> Option<Finding> {
        let is_of_client = |tracked: &Tracked| {
            tracked.refused.client.pid.is_some() && tracked.refused.client.pid == connected.pid
        };
        if self.tracked.values().any(is_of_client) {
            if self.early.len() >= EARLY_MAX {
                self.early.pop_front();
            }
            self.early.push_back(connected.clone());
            return None;
        }
        self.fallback(connected)
    }

    fn fallback(&mut self, connected: &Connected) -> Option<Finding> {
        let Fallback { of, refused } = self.fallbacks.followed_by(connected)?;
        let after_ns = connected.time.since(refused);
        let kind = FindingKind::Fallback { of, connected: connected.clone(), after_ns };
        Some(Finding { mono: connected.time, kind })
    }

    /// The counts of repeated refusals that are due by then.
    pub fn repeats(&mut self, until: Mono) -> Vec<Finding> {
        let due = self.groups.due(until);
        // At the end, time is at its end too.
        let at = |repeats: &Repeats| if until == Mono::MAX { repeats.last } else { until };
        let finding = |repeats: Repeats| {
            let at = at(&repeats);
            repeated(repeats, at)
        };
        due.into_iter().map(finding).collect()
    }

    /// Reports the refusals of a namespace that has ended, by what is known.
    pub fn flush(&mut self, netns: NetnsId, state: &HostState, queries: &InFlight) -> Vec<Finding> {
        let is_in_it = |tracked: &Tracked| tracked.refused.netns == netns;
        let numbers: Vec<u64> =
            self.tracked.iter().filter(|(_, tracked)| is_in_it(tracked)).map(|(number, _)| *number).collect();
        let tracked: Vec<Tracked> =
            numbers.into_iter().filter_map(|number| self.tracked.remove(&number)).collect();
        tracked.into_iter().flat_map(|tracked| self.report(tracked, state, queries)).collect()
    }

    /// Reports every refusal, by what is known.
    pub fn finish(&mut self, state: &HostState, queries: &InFlight) -> Vec<Finding> {
        let tracked = std::mem::take(&mut self.tracked);
        let mut findings: Vec<Finding> =
            tracked.into_values().flat_map(|tracked| self.report(tracked, state, queries)).collect();
        self.counts.settled += self.fallbacks.settled(Mono::MAX);
        findings.extend(self.repeats(Mono::MAX));
        findings
    }

    /// Forgets what may follow refusals in a namespace that has ended.
    pub fn forget(&mut self, netns: NetnsId) {
        self.groups.forget(netns);
        self.fallbacks.forget(netns);
    }

    /// A query was not answered: the refusals that wait for it are reported without.
    pub fn unanswered(&mut self, kind: &QueryKind) {
        let waits = |tracked: &&mut Tracked| tracked.has_asked(kind);
        if is_evidence(kind) {
            self.tracked.values_mut().filter(waits).for_each(|tracked| tracked.is_unanswered = true);
        }
    }

    /// Whether a refusal is not reported yet.
    pub fn is_tracking(&self) -> bool {
        !self.tracked.is_empty()
    }

    /// When [`Self::advance`] or [`Self::repeats`] has something to do, answers aside.
    pub fn deadline(&self) -> Option<Mono> {
        let of = |tracked: &Tracked| match tracked.state {
            State::Deferred { until } => until.min(tracked.deadline),
            State::New | State::Waiting { .. } | State::Reported => tracked.deadline,
        };
        // Whether a refusal counts matters only where the count ends the trace.
        let settled = self.fallbacks.deadline().filter(|_| self.scope.count.is_some());
        let tracked = self.tracked.values().map(of).min();
        let covered = self.opened.front().map(|(_, opened)| opened.plus(COVERED_NS));
        [tracked, covered, settled, self.groups.deadline()].into_iter().flatten().min()
    }
}

/// Whether a verdict rests on the answer: not only what a line shows.
fn is_evidence(kind: &QueryKind) -> bool {
    match kind {
        QueryKind::Host
        | QueryKind::Port { .. }
        | QueryKind::Namespace { .. }
        | QueryKind::Owners { .. }
        | QueryKind::Holders { .. }
        | QueryKind::OtherPorts { .. }
        | QueryKind::LocalSockets { .. }
        | QueryKind::Forwarders { .. }
        | QueryKind::Candidates
        | QueryKind::Candidate { .. } => true,
        QueryKind::Process(_)
        | QueryKind::Writer { .. }
        | QueryKind::Settings { .. }
        | QueryKind::Named { .. } => false,
    }
}

fn is_pending(kind: &QueryKind, queries: &InFlight) -> bool {
    !queries.pending(|pending| pending.is_about_the_same(kind)).is_empty()
}

fn repeated(repeats: Repeats, mono: Mono) -> Finding {
    Finding { mono, kind: FindingKind::Repeated(repeats) }
}
