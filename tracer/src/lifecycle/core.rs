//! The pure core: kernel events, answers and time in; findings and queries out.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::announcements::Announcements;
use super::config_changes::ConfigChanges;
use super::finding::{Finding, FindingKind, ListenerChange};
use super::holders::Holders;
use super::in_flight::InFlight;
use super::names::ServerNames;
use super::refusals::{Progress, RefusalCounts, RefusalTracker, Scope};
use crate::model::cause::Cause;
use crate::model::errno::Errno;
use crate::model::hash::HashMap;
use crate::model::kernel_event::{
    Executed, ExecutedProgram, Failed, KernelEvent, Lost, Opened, Reached, Refused, Role,
};
use crate::model::process::{Arguments, OwnerEnd, Process, Text};
use crate::model::program;
use crate::model::socket::{Holder, Listener, NetnsId, TcpState};
use crate::model::time::{Interval, Mono, StartTime};
use crate::products::recognise::{Named, Recognition};
use crate::query::{
    Answer, Candidate, ConfigChanged, KnownSocket, Observation, Query, QueryId, QueryKind, ScanScope,
};
use crate::state::followed_ports::{FollowedPorts, HOPS_MAX};
use crate::state::join::{is_disturbed, join};
use crate::state::{HostState, SERVED_NS, Transition};
use crate::verdict::coverage::{self, Destination};
use crate::verdict::locate::{self, Place, Way};
use crate::verdict::planner::FRESH_NS;

/// How long the first scan of the host may take: nothing is reported before it.
const FIRST_SCAN_NS: u64 = 10_000_000_000;

/// Writers of configuration files that are remembered: one that writes a file and renames it is known before it ends.
const WRITERS_MAX: usize = 256;

/// Namespaces whose last answer about their name is remembered.
const NAMED_MAX: usize = 1024;

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
    hold: Hold,
    progress: Progress,
    all: bool,
    failed: Vec<(Option<Errno>, u64)>,
    lost: u64,
    writers: BTreeMap<u32, Process>,
    /// Processes whose end the kernel side is to report, not handed to it yet.
    follow: Vec<u32>,
    server_names: ServerNames,
    recognition: Recognition,
    holders: Holders,
    /// Processes that have ended, whose listeners may be held by others now.
    ended: BTreeSet<u32>,
    /// When these may be asked for; `None`: now.
    heirs_due: Option<Mono>,
    /// Processes whose connects on every port are not to be recorded any more.
    unfollow: Vec<u32>,
    /// Ports that are to be watched from now on, or no longer.
    port_changes: Vec<PortChange>,
}

/// A port that is to be watched from now on, or no longer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortChange {
    pub port: u16,
    pub is_watched: bool,
}

impl Default for Progress {
    fn default() -> Self {
        Self { complete_until: Mono(0), now: Mono(0) }
    }
}

/// Events and answers that cannot be taken yet.
#[derive(Debug, Default)]
struct Hold {
    events: VecDeque<KernelEvent>,
    /// The query that the events wait for.
    until: Option<QueryId>,
    /// At the start: the settings of the servers that were there already, which the events wait for as well.
    settings: Vec<QueryId>,
    /// Answers that show more than the events that were taken.
    answers: VecDeque<Answer>,
    /// Until when every event has been received.
    received_until: Mono,
    /// Until when the name of a namespace without a cookie is known to have named it.
    named: HashMap<NetnsId, Mono>,
}

impl Hold {
    fn is_named(&mut self, netns: NetnsId, until: Mono) {
        if self.named.len() >= NAMED_MAX {
            self.named.clear();
        }
        self.named.insert(netns, until);
    }
}

impl Core {
    /// A core that knows nothing: the first scan of the host is what it asks first.
    pub fn new(settings: Settings, now: Mono) -> Self {
        let mut core = Self::without_scan(settings);
        core.progress.now = now;
        let scan = core.queries.ask_for(QueryKind::Host, now, FIRST_SCAN_NS);
        core.hold.until = Some(scan);
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

    /// The queries that are to be handed to the host.
    pub fn queries(&mut self) -> Vec<Query> {
        self.queries.take()
    }

    /// Asks the host.
    pub fn ask(&mut self, kind: QueryKind, now: Mono) -> QueryId {
        self.queries.ask(kind, now)
    }

    /// Processes whose end the kernel side is to report.
    pub fn follow(&mut self) -> Vec<u32> {
        std::mem::take(&mut self.follow)
    }

    /// Names of programs whose start the kernel side is to report.
    pub fn watch_names(&mut self) -> Vec<Text> {
        self.server_names.take()
    }

    /// Processes that were found to hold a listener on a watched port.
    pub fn holders(&mut self) -> Vec<(u32, Option<StartTime>)> {
        self.holders.take()
    }

    /// Processes whose connects on every port are not to be recorded any more.
    pub fn unfollow(&mut self) -> Vec<u32> {
        std::mem::take(&mut self.unfollow)
    }

    /// Ports that are to be watched from now on, or no longer. To be taken before [`Self::queries`]: what a query shows of a
    /// port is joined with its events.
    pub fn port_changes(&mut self) -> Vec<PortChange> {
        std::mem::take(&mut self.port_changes)
    }

    /// Whether the first scan is done, and what it found is known.
    pub fn is_ready(&self) -> bool {
        self.state.health.ready && !self.is_reading_settings()
    }

    fn is_reading_settings(&self) -> bool {
        self.hold.settings.iter().any(|id| self.queries.is_pending(*id))
    }

    /// Whether events wait.
    fn is_holding(&self) -> bool {
        self.hold.until.is_some() || self.is_reading_settings()
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
        let is_due = !self.is_holding() && !self.hold.events.is_empty();
        let deadlines = [
            is_due.then_some(self.progress.now),
            self.state.openings.deadline().filter(|_| !self.is_holding()),
            self.state.followed.deadline(),
            self.state.next_hops.deadline(),
            self.heirs_due.filter(|_| !self.is_holding()),
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
        self.hold.events.push_back(event);
        self.take_held()
    }

    /// Lets time pass: every event until `complete_until` has been taken.
    pub fn advance(&mut self, complete_until: Mono, now: Mono) -> Vec<Finding> {
        self.progress.now = self.progress.now.max(now);
        self.hold.received_until = self.hold.received_until.max(complete_until);
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
            self.find_heirs();
        }
        self.expire_ports();
        self.expire_next_hops();
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
        if answer.interval.ended > self.known_until(&answer) {
            self.hold.answers.push_back(answer);
            return Vec::new();
        }
        let mut findings = self.take_answer(answer);
        findings.extend(self.tracker.advance(&self.state, &mut self.queries, self.progress));
        findings.extend(self.due());
        findings
    }

    /// Until when the events are known that an answer is joined with: those that were taken, or, where they wait for it,
    /// those that were received.
    fn known_until(&self, answer: &Answer) -> Mono {
        let is_waited_for = self.hold.until == Some(answer.id) || self.hold.settings.contains(&answer.id);
        if is_waited_for { self.hold.received_until } else { self.progress.complete_until }
    }

    /// A configuration file has changed.
    pub fn config_changed(&mut self, changed: ConfigChanged, now: Mono) {
        self.config_changes.changed(changed, &mut self.queries, now);
    }

    /// Ends: nothing more will come, so what waits is reported now.
    pub fn finish(&mut self) -> Vec<Finding> {
        let unanswered = self.hold.until.take().and_then(|id| self.queries.answered(id));
        if let Some(kind @ QueryKind::Named { .. }) = unanswered {
            let now = self.progress.now;
            self.unknown(&kind, Interval { began: now, ended: now });
        }
        self.hold.settings.clear();
        // The events that waited are reported without an answer: no more queries are sent.
        let mut findings = Vec::new();
        for event in std::mem::take(&mut self.hold.events) {
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
                findings.extend(self.tracker.flush(netns, &self.state, &self.queries));
                let forgotten = self.state.forget(netns);
                findings.extend(self.transitions(vec![forgotten]));
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
                self.query_namespace(bound.socket.netns, bound.socket.process.pid);
                self.describe(&bound.socket.process);
                let transitions = self.state.bound(*bound);
                findings.extend(self.transitions(transitions));
            }
            KernelEvent::Refused(refused) => findings.extend(self.refused(refused)),
            KernelEvent::Destroyed(destroyed) => self.state.destroyed(&destroyed),
            KernelEvent::Exited(exited) => {
                self.holders.ended(exited.pid);
                self.state.next_hops.ended(exited.pid);
                self.ended.insert(exited.pid);
                self.announcements.ended(exited.pid, exited.status);
                self.state.exited(&exited);
            }
            KernelEvent::Executed(executed) => {
                if let Some(pid) = executed.process.pid {
                    self.executed(pid, &executed);
                    self.started(&executed);
                    self.queries.ask(QueryKind::Candidate { pid }, self.progress.now);
                }
            }
            KernelEvent::Forked(forked) => self.state.forked(&forked),
            KernelEvent::Connected(connected) => {
                self.state.is_client(connected.pid);
                let held = connected.pid.map(|pid| self.state.listeners.held_by(connected.netns, pid));
                let serves = held.is_some_and(|mut held| held.next().is_some());
                findings.extend(self.tracker.connected(&connected, serves));
            }
            KernelEvent::Failed(failed) => findings.extend(self.failed(*failed)),
            KernelEvent::Reached(reached) => self.reached(&reached),
            KernelEvent::Lost(lost) => findings.push(self.lost(lost)),
        }
        findings.extend(self.announcements.ready(&self.queries, self.progress));
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
        self.query_namespace(netns, process.pid);
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
            Role::Upstream => self.refused_upstream(&refused),
        }
        if let Some(pid) = refused.client.pid {
            let to =
                (locate::locate(&refused, &self.state).destination().netns, refused.dst, refused.dst_port);
            self.state.refused.note(to, pid, refused.time);
        }
        let reported = self.tracker.refused(refused, &self.state, &mut self.queries, self.progress);
        self.in_order(reported)
    }

    /// A process that holds a listener was refused: the port is watched from now on.
    fn refused_upstream(&mut self, refused: &Refused) {
        let port = refused.dst_port;
        if !self.state.followed.is_other(port) {
            return;
        }
        let hops = self.state.hops_of(&refused.client);
        let change = self.state.followed.refused(port, hops, refused.client.uid, self.progress.now);
        if let Some(port) = change.given_up {
            self.give_up(port);
        }
        if change.is_new {
            self.port_changes.push(PortChange { port, is_watched: true });
            self.queries.set_added_ports(self.state.followed.added());
        }
    }

    /// A process that holds a listener was answered on another port: what listens there may be the next proxy.
    fn reached(&mut self, reached: &Reached) {
        let Reached { netns, dst, dst_port, device, .. } = *reached;
        let hops = self.state.hops_of(&reached.client);
        if hops + 1 >= HOPS_MAX {
            return;
        }
        let way = Way { netns, addr: dst, port: dst_port, device };
        let destination = match locate::find(way, &self.state) {
            Place::Here(destination) | Place::Elsewhere { destination, is_ambiguous: false } => destination,
            Place::Elsewhere { is_ambiguous: true, .. } | Place::Nowhere(_) => return,
        };
        let Destination { netns, addr, port, .. } = destination;
        let now = self.progress.now;
        if self.state.next_hops.reached((netns, addr, port), hops + 1, reached.client.uid, now) {
            self.queries.ask(QueryKind::Holders { netns, port }, now);
        }
    }

    /// Takes the sockets of a port, some of which may be the next proxies.
    fn next_hops(&mut self, netns: NetnsId, port: u16, sockets: &[Holder], interval: Interval) {
        for addr in self.state.next_hops.unread(netns, port) {
            let way = Way { netns, addr, port, device: None };
            let destination = locate::find(way, &self.state).destination();
            let covering = sockets.iter().filter(|holder| {
                holder.state == TcpState::Listen && coverage::mismatch(&holder.socket, &destination).is_none()
            });
            let listeners: Vec<Listener> = covering.map(|holder| holder.socket.clone()).collect();
            listeners.iter().for_each(|listener| self.holders.found(&listener.process, interval));
            self.state.next_hops.answered_by((netns, addr, port), listeners);
        }
    }

    /// Gives up the next hops that were not reached for long.
    fn expire_next_hops(&mut self) {
        for process in self.state.next_hops.expire(self.progress.now) {
            let Some(pid) = process.pid else { continue };
            let mut open = self.state.listeners.open();
            let is_holder = open.any(|listener| listener.process.pid == Some(pid));
            if !is_holder && self.state.next_hops.hops(pid).is_none() {
                self.holders.ended(pid);
                self.unfollow.push(pid);
            }
        }
    }

    /// Gives up the ports that were not refused for long.
    fn expire_ports(&mut self) {
        let over = self.state.followed.expire(self.progress.now);
        if over.is_empty() {
            return;
        }
        over.into_iter().for_each(|port| self.give_up(port));
        self.queries.set_added_ports(self.state.followed.added());
    }

    fn give_up(&mut self, port: u16) {
        self.state.forget_port(port);
        self.port_changes.push(PortChange { port, is_watched: false });
    }

    /// Takes a program that has started as a server candidate, by what the kernel read of it: the process may have ended by
    /// the time it is looked up.
    fn started(&mut self, executed: &Executed) {
        let Executed { time, process, program } = executed;
        let Some(ExecutedProgram { netns, file_name, arguments: Some(arguments), is_cut, .. }) = program
        else {
            return;
        };
        let comm = process.comm.as_ref().map(Text::as_bytes).unwrap_or_default();
        let words: Vec<&[u8]> = arguments.as_bytes().split(|byte| *byte == 0).collect();
        let script = program::script(file_name.as_bytes(), &words);
        let whole = match words.as_slice() {
            [whole @ .., []] => whole,
            whole => whole,
        };
        let whole = (!is_cut).then(|| Arguments::of(whole));
        // The path may never be known: the process may have ended.
        let process = Process { script, arguments: whole, exe: Some(file_name.clone()), ..process.clone() };
        let named = self.recognition.recognise(comm, Some(file_name.as_bytes()), arguments.as_bytes());
        let (product, port) = match named {
            Some(Named::Product(product)) => (Some(product), None),
            Some(Named::Pattern { port }) => (None, port),
            None => (None, None),
        };
        let is_launcher = program::is_launcher(file_name.as_bytes(), &words);
        if named.is_some() || !is_launcher && self.state.runs_a_server(&process) {
            let (time, netns, is_named) = (*time, *netns, named.is_some());
            let pid = process.pid;
            self.candidate(Candidate { time, since: time, netns, process, product, port, is_named });
            let by_arguments = self.recognition.recognise(b"", None, arguments.as_bytes());
            if let (Some(pid), Some(Named::Product(_))) = (pid, by_arguments) {
                self.state.servers.is_by_arguments(pid);
            }
        }
    }

    /// A process has executed a program: whether it still holds its listeners is to be found out.
    fn executed(&mut self, pid: u32, executed: &Executed) {
        self.state.executed(&executed.process, executed.time);
        self.holders.executed(pid, executed.time);
        self.state.next_hops.ended(pid);
        let mut held: BTreeMap<NetnsId, Vec<KnownSocket>> = BTreeMap::new();
        for listener in self.state.listeners.open().filter(|one| one.process.pid == Some(pid)) {
            let known = KnownSocket { inode: listener.key.inode, pid: Some(pid) };
            held.entry(listener.netns).or_default().push(known);
        }
        for (netns, known) in held {
            self.queries.ask(QueryKind::Owners { netns, known: Some(known) }, self.progress.now);
        }
    }

    /// Asks which processes hold the listeners that others have left: one that forks and ends passes them on.
    fn find_heirs(&mut self) {
        let now = self.progress.now;
        if self.ended.is_empty() || self.heirs_due.is_some_and(|due| now < due) {
            return;
        }
        let is_left =
            |listener: &&Listener| listener.process.pid.is_some_and(|pid| self.ended.contains(&pid));
        let left: BTreeSet<NetnsId> =
            self.state.listeners.open().filter(is_left).map(|listener| listener.netns).collect();
        // Workers that end by the hundred take a twentieth of the time in queries at most.
        let too_early = |netns: &NetnsId| {
            let read = self.state.owners_read(*netns)?.read;
            (!read.is_due(now, now, 0)).then(|| read.ended.plus(20 * read.ended.since(read.began) + 1))
        };
        self.heirs_due = left.iter().filter_map(too_early).max();
        if self.heirs_due.is_none() {
            self.ended.clear();
            for netns in left {
                self.queries.ask(QueryKind::Owners { netns, known: None }, now);
            }
        }
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
        self.announcements.push(finding, pending, self.due_by());
        None
    }

    fn lost(&mut self, lost: Lost) -> Finding {
        self.lost += lost.records;
        self.state.lost(&lost);
        Finding { mono: lost.to, kind: FindingKind::Lost(lost) }
    }

    /// Asks for a namespace that is not known.
    fn query_namespace(&mut self, netns: NetnsId, pid_hint: Option<u32>) {
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

    /// Until when a line waits for what it shows.
    fn due_by(&self) -> Mono {
        self.progress.now.plus(self.queries.patience_ns())
    }

    /// Turns what has changed into findings.
    fn transitions(&mut self, transitions: Vec<Transition>) -> Vec<Finding> {
        let due = self.due_by();
        let mut findings = Vec::new();
        for transition in transitions {
            match transition {
                Transition::Found { time, listener } => {
                    self.server_names.is_server(&self.state.processes.describe(&listener.process));
                    self.follow.extend(listener.process.pid);
                    let recovered = if self.state.health.ready {
                        self.tracker.recover(&listener, time)
                    } else {
                        Vec::new()
                    };
                    self.announce(time, ListenerChange::Present, listener);
                    recovered.into_iter().for_each(|one| self.announcements.push(one, Vec::new(), due));
                }
                Transition::Opened { time, listener } => {
                    self.server_names.is_server(&self.state.processes.describe(&listener.process));
                    self.tracker.opened(&listener, time);
                    self.announce(time, ListenerChange::Opened, listener);
                }
                Transition::Closed { time, listener, owner } => {
                    let is_transient = owner == OwnerEnd::Running
                        && listener.since.is_some_and(|since| time.since(since) < SERVED_NS);
                    self.announce(time, ListenerChange::Closed { owner, is_transient }, listener);
                }
                Transition::Returned { time, call, socket, errno } => {
                    if errno.is_some() {
                        self.server_names.is_server(&self.state.processes.describe(&socket.process));
                    }
                    let pending = self.pending_description(&socket);
                    let finding = Finding { mono: time, kind: FindingKind::Returned { call, socket, errno } };
                    self.announcements.push(finding, pending, due);
                }
                Transition::Forgotten(netns) => self.tracker.forget(netns),
            }
        }
        findings.extend(self.announcements.ready(&self.queries, self.progress));
        findings
    }

    fn announce(&mut self, time: Mono, change: ListenerChange, listener: Listener) {
        let pending = self.pending_description(&listener);
        let finding = Finding { mono: time, kind: FindingKind::Listener { change, listener } };
        self.announcements.push(finding, pending, self.due_by());
    }

    /// The queries that a line about a socket waits for: its process, and its namespace.
    fn pending_description(&self, socket: &Listener) -> Vec<QueryId> {
        let key = socket.process.key();
        self.queries.pending(|kind| match kind {
            QueryKind::Process(process) => Some(*process) == key,
            QueryKind::Namespace { netns, .. } => *netns == socket.netns,
            _ => false,
        })
    }

    /// Answers that showed more than the events that had been taken by then.
    fn take_held_answers(&mut self) -> Vec<Finding> {
        let mut findings = Vec::new();
        for answer in std::mem::take(&mut self.hold.answers) {
            if answer.interval.ended <= self.known_until(&answer) {
                findings.extend(self.take_answer(answer));
            } else {
                self.hold.answers.push_back(answer);
            }
        }
        findings
    }

    fn take_answer(&mut self, answer: Answer) -> Vec<Finding> {
        let Answer { id, interval, result } = answer;
        if self.hold.until == Some(id) {
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
            Some(Observation::Scan(_))
                if is_disturbed(interval, &self.hold.events) && self.queries.retake(id) =>
            {
                return Vec::new();
            }
            Some(Observation::Scan(scan)) => Some(Observation::Scan(join(scan, &self.hold.events))),
            result => result,
        };
        // The listeners that only a record shows.
        if let Some(Observation::Scan(scan)) = &result {
            scan.listeners.iter().for_each(|listener| _ = self.describe(&listener.process));
        }
        self.hold.until = None;
        let kind = self.queries.answered(id);
        if let Some(QueryKind::Named { netns, .. }) = &kind {
            let until = if result.is_some() { interval.began } else { interval.ended };
            self.hold.is_named(*netns, until);
        }
        let mut findings = match (result, kind) {
            (Some(Observation::Named(false)), Some(QueryKind::Named { netns, .. })) => {
                self.hold.named.remove(&netns);
                let mut findings = self.tracker.flush(netns, &self.state, &self.queries);
                let forgotten = self.state.forget(netns);
                findings.extend(self.transitions(vec![forgotten]));
                findings
            }
            (Some(result), _) => self.observe(id, result, interval),
            (None, Some(kind)) => {
                self.unreadable(&kind, interval);
                Vec::new()
            }
            (None, None) => Vec::new(),
        };
        if std::mem::replace(&mut self.state.health.ready, true) {
            // The first is what was asked for: it is taken whatever its namespace's name.
            let first = self.hold.events.pop_front();
            findings.extend(first.into_iter().flat_map(|event| self.take(event)));
        }
        findings
    }

    /// Takes the events that waited for an answer.
    fn take_held(&mut self) -> Vec<Finding> {
        let mut findings = Vec::new();
        while !self.is_holding()
            && let Some(event) = self.hold.events.pop_front()
        {
            if let Some(question) = self.name_to_confirm(&event) {
                self.hold.until = Some(self.queries.ask(question, self.progress.now));
                self.hold.events.push_front(event);
            } else {
                findings.extend(self.take(event));
            }
        }
        findings
    }

    /// Takes an answer of the host: first what it asks for next, then what it shows.
    fn observe(&mut self, id: QueryId, result: Observation, interval: Interval) -> Vec<Finding> {
        let mut owners = Vec::new();
        match &result {
            Observation::Scan(scan) => {
                scan.listeners.iter().for_each(|listener| self.holders.found(&listener.process, interval));
                if !self.state.health.ready {
                    owners.extend(scan.listeners.iter().filter_map(|listener| listener.process.pid));
                }
            }
            Observation::Owners { owners, .. } => {
                owners.iter().for_each(|(_, process)| self.holders.found(process, interval));
            }
            Observation::Holders { netns, port, sockets } => {
                self.next_hops(*netns, *port, sockets, interval);
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
        let let_go = self.state.let_go();
        if !let_go.is_empty() {
            self.ended.extend(let_go);
            self.heirs_due = Some(self.progress.now.plus(FRESH_NS));
        }
        if !owners.is_empty() {
            let now = self.progress.now;
            let ask = |pid| self.queries.ask(QueryKind::Settings { pid }, now);
            self.hold.settings = owners.into_iter().map(ask).collect();
        }
        findings
    }

    fn candidate(&mut self, candidate: Candidate) {
        self.follow_candidate(&candidate);
        self.state.candidate(candidate);
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
            if self.hold.until == Some(id) {
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

    /// What was asked could not be read, or not in time: it is not asked again immediately.
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

    /// Whether the namespace of an event may be a later one with the same number: where the kernel gives it no cookie, its
    /// name shows it.
    fn name_to_confirm(&self, event: &KernelEvent) -> Option<QueryKind> {
        let (netns, _) = namespace_of(event)?;
        let known = self.state.namespaces.get(netns).filter(|known| known.cookie == 0)?;
        let name = known.name.clone()?;
        // An answer holds for every event before it, so that a flood is one query.
        let is_known = self.hold.named.get(&netns).is_some_and(|until| event.time() <= Some(*until));
        (!is_known).then_some(QueryKind::Named { netns, name })
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

/// The namespace of an event, and its cookie; 0: unknown.
fn namespace_of(event: &KernelEvent) -> Option<(NetnsId, u64)> {
    match event {
        KernelEvent::Opened(opened) => Some((opened.listener.netns, opened.netns_cookie)),
        KernelEvent::Closed(closed) => Some((closed.listener.netns, closed.netns_cookie)),
        KernelEvent::Listened(listened) => Some((listened.netns, listened.netns_cookie)),
        KernelEvent::Bound(bound) => Some((bound.socket.netns, bound.netns_cookie)),
        KernelEvent::Refused(refused) => Some((refused.netns, refused.netns_cookie)),
        KernelEvent::Destroyed(_)
        | KernelEvent::Exited(_)
        | KernelEvent::Executed(_)
        | KernelEvent::Forked(_)
        | KernelEvent::Connected(_)
        | KernelEvent::Reached(_)
        | KernelEvent::Failed(_)
        | KernelEvent::Lost(_) => None,
    }
}
