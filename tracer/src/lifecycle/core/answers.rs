//! What each answer to a query changes, also one that did not come, and which queries it raises.

use super::Core;
use crate::lifecycle::finding::Finding;
use crate::lifecycle::upstream::PortRead;
use crate::model::time::Interval;
use crate::query::{Answer, Candidate, Observation, QueryId, QueryKind, ScanScope};

impl Core {
    /// Takes an answer that can be taken now.
    pub(super) fn take_answer(&mut self, answer: Answer) -> Vec<Finding> {
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
            // The query was about the first event: it is taken whatever the answer is.
            let first = self.gate.first_event();
            findings.extend(first.into_iter().flat_map(|event| self.take(event)));
        }
        findings
    }

    /// Takes an answer of the host: first the queries that it raises, then what it shows.
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
            Observation::Writer(writer) => self.config_changes.writer(writer.clone()),
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
    pub(super) fn follow_candidate(&mut self, candidate: &Candidate) {
        if let Some(pid) = candidate.process.pid {
            self.follow.push(pid);
            self.queries.ask(QueryKind::Settings { pid }, self.progress.now);
        }
    }

    /// Queries that were not answered in time.
    pub(super) fn expire(&mut self) -> Vec<Finding> {
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

    /// A query could not be answered. For a namespace, or for the host, that is an uncertainty of its own.
    fn unreadable(&mut self, kind: &QueryKind, interval: Interval) {
        if !matches!(kind, QueryKind::Host | QueryKind::Namespace { .. }) {
            self.tracker.unanswered(kind);
        }
        self.unknown(kind, interval);
    }

    /// A query was not answered, or not in time: it is not sent again immediately.
    pub(super) fn unknown(&mut self, kind: &QueryKind, interval: Interval) {
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
