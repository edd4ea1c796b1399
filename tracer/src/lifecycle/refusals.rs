//! Every refusal from its record to its report: which are reported, which are only counted, and what may follow them.

use std::collections::BTreeMap;

use super::counts::RefusalCounts;
use super::fallbacks::{Fallback, Fallbacks};
use super::finding::{Finding, FindingKind, Recovered, RefusalId, RefusedFinding};
use super::in_flight::InFlight;
use super::progress::Progress;
use super::recoveries::{OpenedListener, Recoveries, Waiting};
use super::repeats::{self, Key, RepeatGroups, Repeats};
use super::tracked::{Context, Tracked};
use crate::model::cause::{Because, Cause};
use crate::model::kernel_event::{Connected, Refused, Role};
use crate::model::process::OwnerEnd;
use crate::model::socket::{Listener, NetnsId};
use crate::model::time::Mono;
use crate::query::QueryKind;
use crate::state::HostState;
use crate::state::listeners::ENDING_NS;
use crate::verdict::coverage::Destination;
use crate::verdict::evidence::{self, Verdict};
use crate::verdict::planner::{Purpose, Task};
use crate::verdict::rules::{self, Classification};
use crate::verdict::uncertainty;

/// Refusals that are not reported yet: on more, the oldest is reported by what is known.
const TRACKED_MAX: usize = 4_096;

/// What is to be reported, and how much.
#[derive(Clone, Debug, Default)]
pub struct Scope {
    /// Only clients in this namespace.
    pub netns: Option<NetnsId>,
    /// Refusals after which nothing more is reported.
    pub count: Option<u64>,
}

/// What a refusal is by what is known now.
struct Decided {
    key: Key,
    classification: Classification,
    /// `None`: not gathered yet.
    verdict: Option<Verdict>,
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
    recoveries: Recoveries,
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
        let tracked = Tracked::new(refused, progress.now.plus(queries.patience_ns()));
        self.newest += 1;
        let number = self.newest;
        findings.extend(self.step(number, tracked, &mut Context { state, queries, progress }));
        findings
    }

    /// Goes on with the refusals that need not wait any longer.
    pub fn advance(&mut self, state: &HostState, queries: &mut InFlight, progress: Progress) -> Vec<Finding> {
        self.complete_until = progress.complete_until;
        let may_go_on = |tracked: &Tracked| tracked.may_go_on(queries, progress);
        let numbers: Vec<u64> = self
            .tracked
            .iter()
            .filter(|(_, tracked)| may_go_on(tracked))
            .map(|(number, _)| *number)
            .collect();
        let mut context = Context { state, queries, progress };
        let mut findings = Vec::new();
        for number in numbers {
            if let Some(tracked) = self.tracked.remove(&number) {
                findings.extend(self.step(number, tracked, &mut context));
            }
        }
        while let Some(OpenedListener { listener, time }) =
            self.recoveries.next_stayed(&state.listeners, progress.complete_until)
        {
            findings.extend(self.recover(&listener, time));
        }
        self.counts.settled += self.fallbacks.settled(progress.complete_until);
        if self.tracked.is_empty() {
            self.fallbacks.forget_kept();
        }
        findings
    }

    /// Takes a refusal as far as it goes: to what it waits for next, or to its report.
    fn step(&mut self, number: u64, mut tracked: Tracked, context: &mut Context<'_>) -> Vec<Finding> {
        let classification = rules::classify(tracked.refused(), context.state);
        let is_due = tracked.is_due(context.progress.now);
        // It is only counted if it is like one that was reported.
        let key = Key::of(tracked.refused(), classification.cause);
        let verdict = (!is_due && self.groups.is_new(&key, tracked.refused().time))
            .then(|| evidence::gather(tracked.refused(), classification.clone(), context.state));
        if !is_due {
            let task = Task {
                classification: &classification,
                purpose: verdict.as_ref().map_or(Purpose::Count, Purpose::Report),
                now: context.progress.now,
            };
            if tracked.begin_wait(task, context) {
                self.tracked.insert(number, tracked);
                return Vec::new();
            }
        }
        let decided = Decided { key, classification, verdict };
        self.report_as(tracked, decided, context.state, context.queries)
    }

    /// Reports a refusal by what is known now, or counts it with those that it is like.
    fn report(&mut self, tracked: Tracked, state: &HostState, queries: &InFlight) -> Vec<Finding> {
        let classification = rules::classify(tracked.refused(), state);
        let key = Key::of(tracked.refused(), classification.cause);
        self.report_as(tracked, Decided { key, classification, verdict: None }, state, queries)
    }

    /// Reports a refusal, or counts it with those that it is like.
    fn report_as(
        &mut self,
        tracked: Tracked,
        decided: Decided,
        state: &HostState,
        queries: &InFlight,
    ) -> Vec<Finding> {
        if self.is_full() {
            return Vec::new();
        }
        let is_unanswered = tracked.is_unanswered(queries);
        let refused = tracked.into_refused();
        let Classification { cause, destination, .. } = decided.classification;
        let is_counted = !state.followed.is_other(refused.dst_port);
        self.counts.refused(refused.role, cause, is_counted);
        let mut findings = Vec::new();
        let of = match self.groups.repeat(&decided.key, &refused) {
            Some(of) => of,
            None => {
                findings.extend(self.groups.make_room().map(|repeats| repeated(repeats, refused.time)));
                self.reported += 1;
                let id = RefusalId(self.reported);
                self.groups.begin(decided.key.clone(), id, destination.netns, refused.time);
                let verdict = self.verdict(&refused, decided, is_unanswered, state);
                let client = state.processes.describe(&refused.client);
                let finding =
                    RefusedFinding { id, refused: Refused { client, ..(*refused).clone() }, verdict };
                findings.push(Finding { mono: refused.time, kind: FindingKind::Refused(Box::new(finding)) });
                id
            }
        };
        self.wait_for_followups(of, &refused, cause, destination);
        let is_unsettled = cause == Cause::WrongFamily && may_fall_back(&refused);
        match (is_counted, is_unsettled) {
            (true, true) => self.fallbacks.unsettled(of, &refused),
            (true, false) => self.counts.settled += 1,
            (false, _) => {}
        }
        findings.extend(self.reached_before(&refused));
        findings
    }

    /// The verdict that a refusal is reported with. It is gathered where it was not before.
    fn verdict(
        &self,
        refused: &Refused,
        decided: Decided,
        is_unanswered: bool,
        state: &HostState,
    ) -> Verdict {
        let Decided { classification, verdict, .. } = decided;
        let mut verdict = verdict.unwrap_or_else(|| evidence::gather(refused, classification, state));
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
        verdict
    }

    /// Waits for what may follow a refusal: that its destination is answered again, and that its client tries the other
    /// family.
    fn wait_for_followups(
        &mut self,
        of: RefusalId,
        refused: &Refused,
        cause: Cause,
        destination: Destination,
    ) {
        // What is answered elsewhere, or was never asked, cannot be seen to recover.
        if !matches!(cause, Cause::Filtered | Cause::Remote | Cause::Intercepted) {
            self.recoveries.wait(destination, of, refused);
        }
        if may_fall_back(refused) {
            self.fallbacks.may_follow(of, refused);
        }
    }

    /// The connect that followed a refusal before it was reported.
    fn reached_before(&mut self, refused: &Refused) -> Option<Finding> {
        let Self { tracked, fallbacks, .. } = self;
        let is_refused_until = |time: Mono| {
            let is_earlier = |tracked: &Tracked| {
                tracked.refused().client.pid == refused.client.pid && tracked.refused().time <= time
            };
            tracked.values().any(is_earlier)
        };
        let connected = fallbacks.kept_after(refused, is_refused_until)?;
        self.fallback(&connected)
    }

    /// A listener has opened: what it covers is answered again, if it stays.
    pub fn opened(&mut self, listener: &Listener, time: Mono) {
        self.recoveries.opened(listener, time);
    }

    /// A client was answered: the listener that covers its destination counts as permanent.
    fn answered(&mut self, connected: &Connected) -> Vec<Finding> {
        let Connected { netns, dst: addr, dst_port: port, .. } = *connected;
        let destination = Destination { netns, addr, port, route: None };
        let opened = self.recoveries.answered(&destination);
        opened.map_or_else(Vec::new, |OpenedListener { listener, time }| self.recover(&listener, time))
    }

    /// A listener is up: the destinations that it covers are answered again.
    pub fn recover(&mut self, listener: &Listener, time: Mono) -> Vec<Finding> {
        let mut findings = Vec::new();
        for waiting in self.recoveries.recover(listener) {
            // Its next refusal is reported.
            let ended = self.groups.end(&waiting.destination);
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
            tracked.refused().client.pid.is_some() && tracked.refused().client.pid == connected.pid
        };
        if self.tracked.values().any(is_of_client) {
            self.fallbacks.keep(connected.clone());
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
        self.groups.due(until).into_iter().map(|repeats| repeated(repeats, until)).collect()
    }

    /// Reports the refusals of a namespace that has ended, by what is known.
    pub fn flush(&mut self, netns: NetnsId, state: &HostState, queries: &InFlight) -> Vec<Finding> {
        let is_in_it = |tracked: &Tracked| tracked.refused().netns == netns;
        let numbers: Vec<u64> =
            self.tracked.iter().filter(|(_, tracked)| is_in_it(tracked)).map(|(number, _)| *number).collect();
        let tracked: Vec<Tracked> =
            numbers.into_iter().filter_map(|number| self.tracked.remove(&number)).collect();
        tracked.into_iter().flat_map(|tracked| self.report(tracked, state, queries)).collect()
    }

    /// Reports every refusal, by what is known. `end`: when the run ends.
    pub fn finish(&mut self, state: &HostState, queries: &InFlight, end: Mono) -> Vec<Finding> {
        let tracked = std::mem::take(&mut self.tracked);
        let mut findings: Vec<Finding> =
            tracked.into_values().flat_map(|tracked| self.report(tracked, state, queries)).collect();
        self.counts.settled += self.fallbacks.settle_all();
        findings.extend(self.groups.end_all().into_iter().map(|repeats| {
            let at = repeats.last.max(end);
            repeated(repeats, at)
        }));
        findings
    }

    /// Forgets what may follow refusals in a namespace that has ended.
    pub fn forget(&mut self, netns: NetnsId) {
        self.groups.forget(netns);
        self.recoveries.forget(netns);
        self.fallbacks.forget(netns);
    }

    /// A query was not answered: the refusals that wait for it are reported without.
    pub fn unanswered(&mut self, kind: &QueryKind) {
        self.tracked.values_mut().for_each(|tracked| tracked.unanswered(kind));
    }

    /// Whether a refusal is not reported yet.
    pub fn is_tracking(&self) -> bool {
        !self.tracked.is_empty()
    }

    /// When [`Self::advance`] or [`Self::repeats`] has something to do, answers aside.
    pub fn deadline(&self) -> Option<Mono> {
        // Whether a refusal counts matters only where the count ends the trace.
        let settled = self.fallbacks.deadline().filter(|_| self.scope.count.is_some());
        let tracked = self.tracked.values().map(Tracked::deadline).min();
        [tracked, self.recoveries.deadline(), settled, self.groups.deadline()].into_iter().flatten().min()
    }
}

/// Whether the client may try the other family. A process that holds a listener connects for its clients: its next connect is
/// another client's.
fn may_fall_back(refused: &Refused) -> bool {
    refused.role == Role::Client && refused.dst.is_loopback()
}

fn repeated(repeats: Repeats, mono: Mono) -> Finding {
    Finding { mono, kind: FindingKind::Repeated(repeats) }
}
