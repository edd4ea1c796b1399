//! When each event and each answer is taken, and what is due: events, answers and time in; findings and requests out.
//!
//! What an event changes is in `events`, what an answer changes in `answers`.

mod answers;
mod events;

use super::announcements::Announcements;
use super::config_changes::ConfigChanges;
use super::counts::Counts;
use super::finding::Finding;
use super::gate::Gate;
use super::heirs::Heirs;
use super::in_flight::InFlight;
use super::names::ServerNames;
use super::progress::Progress;
use super::refusals::{RefusalTracker, Scope};
use super::requests::Requests;
use super::upstream::Upstream;
use crate::model::cause::Cause;
use crate::model::errno::Errno;
use crate::model::kernel_event::KernelEvent;
use crate::model::ports::Ports;
use crate::model::socket::NetnsId;
use crate::model::time::{Interval, Mono};
use crate::products::recognise::Recognition;
use crate::query::{Answer, ConfigChanged, QueryId, QueryKind};
use crate::state::HostState;
use crate::state::followed_ports::FollowedPorts;

/// How long the first scan of the host may take: nothing is reported before it.
const FIRST_SCAN_NS: u64 = 10_000_000_000;

/// Options of the run that change what the core reports.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    pub scope: Scope,
    /// Ports that are watched from the start.
    pub ports: Ports,
    /// Connects that failed otherwise than by a refusal are reported too.
    pub all: bool,
    /// The first cause that this host gives no sign of.
    pub undetectable: Option<Cause>,
    /// A program that was skipped may have been one that sees a listener open or close.
    pub skips_listeners: bool,
    /// How long a refusal waits for answers of the host; `None`: 100 ms.
    pub patience_ns: Option<u64>,
    /// Which processes are named like a server.
    pub recognition: Recognition,
}

/// The core of a run.
#[derive(Debug, Default)]
pub struct Core {
    pub state: HostState,
    tracker: RefusalTracker,
    announcements: Announcements,
    config_changes: ConfigChanges,
    queries: InFlight,
    gate: Gate,
    progress: Progress,
    all: bool,
    failed: Vec<(Option<Errno>, u64)>,
    lost: u64,
    /// Processes whose end the kernel side is to report, not handed to it yet.
    follow: Vec<u32>,
    server_names: ServerNames,
    recognition: Recognition,
    upstream: Upstream,
    heirs: Heirs,
}

impl Core {
    /// A core that queries the host first: nothing is reported before that scan.
    pub fn new(settings: Settings, now: Mono) -> Self {
        let mut core = Self::without_scan(settings);
        core.progress.now = now;
        let scan = core.queries.ask_for(QueryKind::Host, now, FIRST_SCAN_NS);
        core.gate.wait_for(scan);
        core
    }

    /// A core that waits for no scan of the host.
    pub fn without_scan(settings: Settings) -> Self {
        let mut core =
            Self { tracker: RefusalTracker::new(settings.scope), all: settings.all, ..Self::default() };
        core.queries = settings.patience_ns.map_or_else(InFlight::default, InFlight::new);
        core.recognition = settings.recognition;
        core.state.followed = FollowedPorts::new(settings.ports);
        core.state.health.undetectable = settings.undetectable;
        core.state.health.skips_listeners = settings.skips_listeners;
        core
    }

    /// What the core requests since the last call.
    pub fn take_requests(&mut self) -> Requests {
        Requests {
            port_changes: self.upstream.take_port_changes(),
            queries: self.queries.take(),
            follow: std::mem::take(&mut self.follow),
            watch_names: self.server_names.take(),
            unfollow: self.upstream.take_unfollow(),
            holders: self.upstream.take_holders(),
        }
    }

    /// Sends a query to the host.
    pub fn ask(&mut self, kind: QueryKind, now: Mono) -> QueryId {
        self.queries.ask(kind, now)
    }

    /// Whether the first scan is done, and what it found is known.
    pub fn is_ready(&self) -> bool {
        self.state.health.ready && !self.gate.is_reading_settings(&self.queries)
    }

    /// Whether events wait.
    fn is_holding(&self) -> bool {
        self.gate.is_closed(&self.queries)
    }

    /// Whether as many refusals as were asked for have been reported.
    pub fn is_full(&self) -> bool {
        self.tracker.is_full()
    }

    /// How far the stream has been taken.
    pub fn progress(&self) -> Progress {
        self.progress
    }

    /// Whether something waits for an answer of the host.
    pub fn is_waiting(&self) -> bool {
        self.tracker.is_tracking() || !self.state.openings.is_empty()
    }

    /// The namespace that refusals are limited to.
    pub fn only_netns(&self) -> Option<NetnsId> {
        self.tracker.only_netns()
    }

    pub fn counts(&self) -> Counts {
        Counts { refusals: self.tracker.counts.clone(), failed: self.failed.clone(), lost: self.lost }
    }

    /// When [`Self::advance`] has something to do, answers aside.
    pub fn deadline(&self) -> Option<Mono> {
        let deadlines = [
            self.gate.has_next(&self.queries).then_some(self.progress.now),
            self.state.openings.deadline().filter(|_| !self.is_holding()),
            self.state.followed.deadline(),
            self.state.next_hops.deadline(),
            self.heirs.deadline().filter(|_| !self.is_holding()),
            self.tracker.deadline(),
            self.announcements.deadline(),
            self.config_changes.deadline(),
            self.queries.deadline(),
        ];
        deadlines.into_iter().flatten().min()
    }

    /// Takes one event, in order.
    pub fn event(&mut self, event: KernelEvent, now: Mono) -> Vec<Finding> {
        self.progress.now = self.progress.now.max(now);
        self.gate.add(event);
        self.take_held()
    }

    /// Lets time pass: every event until `complete_until` has been taken.
    pub fn advance(&mut self, complete_until: Mono, now: Mono) -> Vec<Finding> {
        self.progress.now = self.progress.now.max(now);
        self.gate.received(complete_until);
        let was_ready = self.is_ready();
        let mut findings = self.take_held_answers();
        if !was_ready && self.is_ready() {
            // What was there already is reported first, and that it is ready.
            return findings;
        }
        findings.extend(self.take_held());
        if !self.is_holding() {
            self.progress.complete_until = self.progress.complete_until.max(complete_until);
            findings.extend(self.take_held_answers());
            // The results of most have been taken by now.
            for (netns, pid_hint) in self.state.openings.due(self.progress.now) {
                self.queries.ask(QueryKind::Namespace { netns, pid_hint }, self.progress.now);
            }
            self.heirs.query(&self.state, &mut self.queries, self.progress.now);
        }
        self.upstream.expire(&mut self.state, &mut self.queries, self.progress.now);
        findings.extend(self.expire());
        // That a listener has closed comes before the refusals that it explains: both wait for the end of its process.
        findings.extend(self.announcements.ready(&self.queries, self.progress));
        findings.extend(self.tracker.advance(&self.state, &mut self.queries, self.progress));
        findings.extend(self.due());
        findings
    }

    /// The findings that do not wait any longer.
    fn due(&mut self) -> Vec<Finding> {
        let Self { state, queries, progress, .. } = self;
        let mut findings = self.config_changes.ready(state, queries, progress.now);
        findings.extend(self.tracker.repeats(progress.complete_until));
        findings.extend(self.announcements.ready(&self.queries, self.progress));
        findings
    }

    /// Takes the answer to a query.
    pub fn answer(&mut self, answer: Answer, now: Mono) -> Vec<Finding> {
        self.progress.now = self.progress.now.max(now);
        let Some(answer) = self.gate.admit(answer, self.progress.complete_until) else { return Vec::new() };
        let mut findings = self.take_answer(answer);
        findings.extend(self.tracker.advance(&self.state, &mut self.queries, self.progress));
        findings.extend(self.due());
        findings
    }

    /// A configuration file has changed.
    pub fn config_changed(&mut self, changed: ConfigChanged, now: Mono) {
        self.config_changes.changed(changed, &mut self.queries, now);
    }

    /// Ends: nothing more will come, so what waits is reported now.
    pub fn finish(&mut self) -> Vec<Finding> {
        let unanswered = self.gate.open().and_then(|id| self.queries.answered(id));
        if let Some(kind @ QueryKind::Named { .. }) = unanswered {
            let now = self.progress.now;
            self.unknown(&kind, Interval { began: now, ended: now });
        }
        // The events that waited are reported without an answer: no more queries are sent.
        let mut findings = Vec::new();
        for event in self.gate.take_events() {
            findings.extend(self.take(event));
        }
        findings.extend(self.announcements.all(self.progress.complete_until));
        let end = self.progress.now;
        self.progress = Progress { complete_until: Mono::MAX, now: Mono::MAX };
        findings.extend(self.tracker.finish(&self.state, &self.queries, end));
        findings.extend(self.due());
        findings
    }

    /// Answers that showed more than the events that had been taken by then.
    fn take_held_answers(&mut self) -> Vec<Finding> {
        let mut findings = Vec::new();
        for answer in self.gate.kept_answers() {
            if let Some(answer) = self.gate.admit(answer, self.progress.complete_until) {
                findings.extend(self.take_answer(answer));
            }
        }
        findings
    }

    /// Takes the events that waited for an answer.
    fn take_held(&mut self) -> Vec<Finding> {
        let mut findings = Vec::new();
        while let Some(event) =
            self.gate.next_event(&self.state.namespaces, &mut self.queries, self.progress.now)
        {
            findings.extend(self.take(event));
        }
        findings
    }
}
