//! The pure core: kernel events, answers and time in; findings and queries out.

use std::collections::BTreeMap;

use super::announcements::Announcements;
use super::candidates;
use super::config_changes::ConfigChanges;
use super::finding::{Finding, FindingKind};
use super::gate::{Gate, namespace_of};
use super::heirs::{self, Heirs};
use super::in_flight::InFlight;
use super::names::ServerNames;
use super::refusals::{Progress, RefusalCounts, RefusalTracker, Scope};
use super::requests::Requests;
use super::transitions;
use super::upstream::{PortRead, Upstream};
use crate::model::cause::Cause;
use crate::model::errno::Errno;
use crate::model::kernel_event::{Executed, Failed, KernelEvent, Lost, Opened, Refused, Role};
use crate::model::process::Process;
use crate::model::socket::{Listener, NetnsId};
use crate::model::time::{Interval, Mono};
use crate::products::recognise::Recognition;
use crate::query::{Answer, Candidate, ConfigChanged, Observation, QueryId, QueryKind, ScanScope};
use crate::state::followed_ports::FollowedPorts;
use crate::state::{HostState, Transition};
use crate::verdict::locate::locate;

/// How long the first scan of the host may take: nothing is reported before it.
const FIRST_SCAN_NS: u64 = 10_000_000_000;

/// Writers of configuration files that are remembered: one that writes a file and renames it is known before it ends.
const WRITERS_MAX: usize = 256;

/// Options of the run that change what the core reports.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    pub scope: Scope,
    /// Ports that are watched from the start; empty: every port.
    pub ports: Vec<u16>,
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

/// Everything that a run has counted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub refusals: RefusalCounts,
    /// Connects that failed otherwise, by error; `None`: the application gave up.
    pub failed: Vec<(Option<Errno>, u64)>,
    pub lost: u64,
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
    writers: BTreeMap<u32, Process>,
    /// Processes whose end the kernel side is to report, not handed to it yet.
    follow: Vec<u32>,
    server_names: ServerNames,
    recognition: Recognition,
    upstream: Upstream,
    heirs: Heirs,
}

impl Default for Progress {
    fn default() -> Self {
        Self { complete_until: Mono(0), now: Mono(0) }
    }
}

impl Core {
    /// A core that knows nothing: the first scan of the host is what it asks first.
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

    /// Asks the host.
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

    /// What does not wait any longer.
    fn due(&mut self) -> Vec<Finding> {
        let Self { state, queries, writers, progress, .. } = self;
        let writer = |pid: u32| {
            let unknown = Process { pid: (pid != 0).then_some(pid), ..Process::default() };
            writers.get(&pid).cloned().unwrap_or(unknown)
        };
        let mut findings = self.config_changes.ready(state, queries, writer, progress.now);
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
        self.progress = Progress { complete_until: Mono::MAX, now: Mono::MAX };
        findings.extend(self.tracker.finish(&self.state, &self.queries));
        findings.extend(self.due());
        findings
    }

    /// Takes an event that nothing holds back.
    fn take(&mut self, event: KernelEvent) -> Vec<Finding> {
        let mut findings = Vec::new();
        if let Some((netns, cookie)) = namespace_of(&event) {
            if self.state.is_replaced(netns, cookie) {
                findings.extend(self.replaced(netns));
            }
            if let Some(time) = event.time() {
                self.state.namespaces.show(netns, cookie, time);
            }
        }
        // A record from before its port was given up.
        if socket_of(&event).is_some_and(|socket| self.state.followed.is_unwatched(socket.port)) {
            return findings;
        }
        match event {
            KernelEvent::Opened(opened) => findings.extend(self.opened(*opened)),
            KernelEvent::Listened(listened) => {
                let transitions = self.state.listened(&listened);
                findings.extend(self.transitions(transitions));
            }
            KernelEvent::Closed(closed) => {
                self.describe(&closed.listener.process);
                let transitions = self.state.closed(*closed);
                findings.extend(self.transitions(transitions));
            }
            KernelEvent::Bound(bound) => {
                self.look_into(bound.socket.netns, bound.socket.process.pid);
                self.describe(&bound.socket.process);
                let transitions = self.state.bound(*bound);
                findings.extend(self.transitions(transitions));
            }
            KernelEvent::Refused(refused) => findings.extend(self.refused(refused)),
            KernelEvent::Destroyed(destroyed) => self.state.destroyed(&destroyed),
            KernelEvent::Exited(exited) => {
                self.upstream.ended(exited.pid, &mut self.state);
                self.heirs.ended(exited.pid);
                self.announcements.ended(exited.pid, exited.status);
                self.state.exited(&exited);
            }
            KernelEvent::Executed(executed) => self.executed(&executed),
            KernelEvent::Forked(forked) => self.state.forked(&forked),
            KernelEvent::Connected(connected) => {
                self.state.is_client(connected.pid);
                let held = connected.pid.map(|pid| self.state.listeners.held_by(connected.netns, pid));
                let serves = held.is_some_and(|mut held| held.next().is_some());
                findings.extend(self.tracker.connected(&connected, serves));
            }
            KernelEvent::Failed(failed) => findings.extend(self.failed(*failed)),
            KernelEvent::Reached(reached) => {
                self.upstream.reached(&reached, &mut self.state, &mut self.queries, self.progress.now);
            }
            KernelEvent::Lost(lost) => findings.push(self.lost(lost)),
        }
        findings.extend(self.announcements.ready(&self.queries, self.progress));
        findings
    }

    /// A namespace has ended, and another one has its number: what is known of it is reported and forgotten.
    fn replaced(&mut self, netns: NetnsId) -> Vec<Finding> {
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
        self.look_into(netns, process.pid);
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
            Role::Client => self.state.is_client(refused.client.pid),
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

    /// A process has executed a program: it may be a server candidate, and may not hold its listeners any more.
    fn executed(&mut self, executed: &Executed) {
        let Some(pid) = executed.process.pid else { return };
        let now = self.progress.now;
        self.state.executed(&executed.process, executed.time);
        self.upstream.executed(pid, executed.time, &mut self.state);
        heirs::query_after_exec(pid, &self.state, &mut self.queries, now);
        if let Some(started) = candidates::started(executed, &self.recognition, &self.state) {
            self.follow_candidate(&started.candidate);
            self.state.candidate(started.candidate);
            if started.is_by_arguments {
                self.state.servers.is_by_arguments(pid);
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

    fn failed(&mut self, failed: Failed) -> Option<Finding> {
        if !self.tracker.is_in_scope(failed.netns) {
            return None;
        }
        self.state.is_client(failed.client.pid);
        match self.failed.iter_mut().find(|(errno, _)| *errno == failed.errno) {
            Some((_, count)) => *count += 1,
            None => self.failed.push((failed.errno, 1)),
        }
        if !self.all {
            return None;
        }
        let pending = self.describe(&failed.client);
        let finding = Finding { mono: failed.time, kind: FindingKind::Failed(Box::new(failed)) };
        self.announcements.push(finding, pending, self.progress.now.plus(self.queries.patience_ns()));
        None
    }

    fn lost(&mut self, lost: Lost) -> Finding {
        self.lost += lost.records;
        self.state.lost(&lost);
        Finding { mono: lost.to, kind: FindingKind::Lost(lost) }
    }

    /// Asks for a namespace that is not known.
    fn look_into(&mut self, netns: NetnsId, pid_hint: Option<u32>) {
        if self.state.namespaces.last_read(netns).is_none() {
            self.queries.ask(QueryKind::Namespace { netns, pid_hint }, self.progress.now);
        }
    }

    /// Asks for the description of a process that is not known.
    fn describe(&mut self, process: &Process) -> Vec<QueryId> {
        let unknown = process.key().filter(|_| !self.state.processes.knows(process));
        let now = self.progress.now;
        unknown.map(|key| self.queries.ask(QueryKind::Process(key), now)).into_iter().collect()
    }

    /// Takes changes of the state, and gives the findings that wait no longer.
    fn transitions(&mut self, transitions: Vec<Transition>) -> Vec<Finding> {
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

    fn take_answer(&mut self, answer: Answer) -> Vec<Finding> {
        let Answer { id, interval, result } = answer;
        if self.gate.waits_for(id) {
            return self.release(id, interval, result);
        }
        let Some(result) = result else {
            if let Some(kind) = self.queries.answered(id) {
                self.unreadable(&kind, interval);
            }
            return Vec::new();
        };
        if let Observation::Scan(scan) = &result
            && self.state.health.lost
        {
            let netns = match scan.scope {
                ScanScope::Host { .. } | ScanScope::Port(_) => None,
                ScanScope::Namespace(netns) | ScanScope::Owners(netns) => Some(netns),
            };
            if self.state.listeners.closed_during(netns, interval) && self.queries.retake(id) {
                return Vec::new();
            }
        }
        self.queries.answered(id);
        self.observe(id, result, interval)
    }

    /// Takes the answer that events wait for, and then the events.
    fn release(&mut self, id: QueryId, interval: Interval, result: Option<Observation>) -> Vec<Finding> {
        let result = match result {
            Some(Observation::Scan(_)) if self.gate.disturbs(interval) && self.queries.retake(id) => {
                return Vec::new();
            }
            Some(Observation::Scan(scan)) => Some(Observation::Scan(self.gate.join(scan))),
            result => result,
        };
        // The listeners that only a record shows.
        if let Some(Observation::Scan(scan)) = &result {
            scan.listeners.iter().for_each(|listener| _ = self.describe(&listener.process));
        }
        let kind = self.queries.answered(id);
        self.gate.answered(kind.as_ref(), result.as_ref(), interval);
        let mut findings = match (result, kind) {
            (Some(Observation::Named(false)), Some(QueryKind::Named { netns, .. })) => self.replaced(netns),
            (Some(result), _) => self.observe(id, result, interval),
            (None, Some(kind)) => {
                self.unreadable(&kind, interval);
                Vec::new()
            }
            (None, None) => Vec::new(),
        };
        if std::mem::replace(&mut self.state.health.ready, true) {
            // The first is what was asked for: it is taken whatever its namespace's name.
            let first = self.gate.first_event();
            findings.extend(first.into_iter().flat_map(|event| self.take(event)));
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

    /// Takes an answer of the host: first what it asks for next, then what it shows.
    fn observe(&mut self, id: QueryId, result: Observation, interval: Interval) -> Vec<Finding> {
        let mut owners = Vec::new();
        match &result {
            Observation::Scan(scan) => {
                scan.listeners.iter().for_each(|listener| self.upstream.found(&listener.process, interval));
                if !self.state.health.ready {
                    owners.extend(scan.listeners.iter().filter_map(|listener| listener.process.pid));
                }
            }
            Observation::Owners { owners, .. } => {
                owners.iter().for_each(|(_, process)| self.upstream.found(process, interval));
            }
            Observation::Holders { netns, port, sockets } => {
                let read = PortRead { netns: *netns, port: *port, sockets, interval };
                self.upstream.port_read(read, &mut self.state);
            }
            Observation::Candidates { found, .. } => {
                found.iter().for_each(|candidate| self.follow_candidate(candidate));
            }
            Observation::Candidate(candidate) => {
                candidate.iter().for_each(|candidate| self.follow_candidate(candidate));
            }
            Observation::Process(process) => {
                process.iter().for_each(|process| self.server_names.described(process));
            }
            Observation::Writer(writer) => self.writer(writer.clone()),
            Observation::Settings(read) => self.config_changes.settings(id, read),
            Observation::OtherPorts { .. }
            | Observation::LocalSockets { .. }
            | Observation::Forwarders { .. }
            | Observation::Named(_) => {}
        }
        let transitions = self.state.observe(result, interval);
        let findings = self.transitions(transitions);
        self.heirs.let_go(self.state.let_go(), self.progress.now);
        if !owners.is_empty() {
            let now = self.progress.now;
            let ask = |pid| self.queries.ask(QueryKind::Settings { pid }, now);
            self.gate.wait_for_settings(owners.into_iter().map(ask).collect());
        }
        findings
    }

    /// The end of a server candidate is to be reported, and its settings are to be read.
    fn follow_candidate(&mut self, candidate: &Candidate) {
        if let Some(pid) = candidate.process.pid {
            self.follow.push(pid);
            self.queries.ask(QueryKind::Settings { pid }, self.progress.now);
        }
    }

    fn writer(&mut self, writer: Option<Process>) {
        if let Some((pid, process)) = writer.and_then(|process| Some((process.pid?, process))) {
            if self.writers.len() >= WRITERS_MAX {
                self.writers.clear();
            }
            self.writers.insert(pid, process);
        }
    }

    /// Queries that were not answered in time.
    fn expire(&mut self) -> Vec<Finding> {
        let expired = self.queries.expire(self.progress.now);
        let mut findings = Vec::new();
        for (id, kind, interval) in expired {
            self.tracker.unanswered(&kind);
            self.unknown(&kind, interval);
            if let QueryKind::Namespace { netns, .. } = kind {
                let transitions = self.state.cannot_dump(netns, interval);
                findings.extend(self.transitions(transitions));
            }
            if self.gate.waits_for(id) {
                findings.extend(self.release(id, interval, None));
            }
        }
        findings
    }

    /// What was asked could not be read. That of a namespace, or of the host, is an uncertainty of its own.
    fn unreadable(&mut self, kind: &QueryKind, interval: Interval) {
        if !matches!(kind, QueryKind::Host | QueryKind::Namespace { .. }) {
            self.tracker.unanswered(kind);
        }
        self.unknown(kind, interval);
    }

    /// What was asked could not be read, or not in time: it is not asked again at once.
    fn unknown(&mut self, kind: &QueryKind, interval: Interval) {
        match kind {
            QueryKind::Host => self.state.unreadable(interval),
            // Whether its name still names it decides whether what is known of it is about another.
            QueryKind::Namespace { netns, .. } | QueryKind::Named { netns, .. } => {
                self.state.namespaces.set_unreadable(*netns, false, interval);
            }
            QueryKind::Settings { pid } => self.state.settings.unknown(*pid, interval),
            QueryKind::Candidates => self.state.servers.searched(interval, false),
            QueryKind::Port { .. }
            | QueryKind::Owners { .. }
            | QueryKind::Holders { .. }
            | QueryKind::OtherPorts { .. }
            | QueryKind::LocalSockets { .. }
            | QueryKind::Forwarders { .. }
            | QueryKind::Candidate { .. }
            | QueryKind::Process(_)
            | QueryKind::Writer { .. } => {}
        }
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
