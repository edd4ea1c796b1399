//! A host that answers from a recording.

use std::collections::{BTreeMap, HashMap};

use tracer::model::kernel_event::KernelEvent;
use tracer::model::time::{Interval, Mono};
use tracer::query::{Answer, Observation, Query, QueryKind, Scan, ScanScope, SettingsRead, Unreadable};

use super::old::{Answered, Found, Question};

/// A recorded answer that began later than this is to another question: the core would not wait for it.
const SOON_NS: u64 = 90_000_000;

/// The host of a recording.
pub struct Host {
    answers: HashMap<Question, Vec<Answered>>,
    /// When each listener opened, by cookie, where a record says so.
    opened: HashMap<u64, Mono>,
    /// Questions that were never asked when it was recorded, by their kind.
    pub unasked: BTreeMap<&'static str, usize>,
}

impl Host {
    pub fn new<'a>(
        answers: HashMap<Question, Vec<Answered>>,
        events: impl IntoIterator<Item = &'a KernelEvent>,
    ) -> Self {
        let opened = events.into_iter().filter_map(|event| match event {
            KernelEvent::Opened(opened) => Some((opened.listener.key.cookie, opened.time)),
            _ => None,
        });
        Self { answers, opened: opened.collect(), unasked: BTreeMap::new() }
    }

    /// What is answered, and when.
    pub fn answer(&mut self, query: &Query, now: Mono) -> (Mono, Answer) {
        let at_once = Interval { began: now, ended: now };
        let (interval, found) = match self.find(&question(&query.kind), now) {
            Some(Answered { interval, found }) => (interval, Some(found)),
            None => {
                *self.unasked.entry(name(&query.kind)).or_default() += 1;
                (at_once, None)
            }
        };
        let result = match found {
            Some(found) => observation(&query.kind, found),
            None => what_is_known(&query.kind),
        };
        let due = interval.ended.max(now.plus(1_000));
        (due, Answer { id: query.id, interval, result })
    }

    /// The answer that is nearest in time: the first that began since, unless that is far off; else the last before.
    fn find(&self, question: &Question, now: Mono) -> Option<Answered> {
        let answers = self.answers.get(question)?;
        let later = answers.iter().find(|answer| answer.interval.began >= now);
        if let Some(soon) = later.filter(|later| later.interval.began.since(now) < SOON_NS) {
            return Some(soon.clone());
        }
        if let Some(before) = answers.iter().rfind(|answer| answer.interval.began < now) {
            return Some(before.clone());
        }
        // Without the listeners that were not there yet.
        let Answered { mut found, .. } = later?.clone();
        if let Found::Scan(scan) = &mut found {
            let is_there = |cookie| self.opened.get(&cookie).is_none_or(|opened| *opened <= now);
            scan.listeners.retain(|listener| is_there(listener.key.cookie));
        }
        Some(Answered { interval: Interval { began: now, ended: now }, found })
    }
}

fn question(kind: &QueryKind) -> Question {
    match kind {
        QueryKind::Host | QueryKind::Port { .. } => Question::Host,
        QueryKind::Namespace { netns, .. } => Question::Namespace(*netns),
        QueryKind::Owners { netns, .. } => Question::Owners(*netns),
        QueryKind::Holders { netns, port } => Question::Holders(*netns, *port),
        QueryKind::OtherPorts { netns } => Question::OtherPorts(*netns),
        // Not a query of that time.
        QueryKind::LocalSockets { .. } => Question::LocalSockets,
        QueryKind::Candidates => Question::Candidates,
        QueryKind::Candidate { pid } => Question::Candidate(*pid),
        QueryKind::Process(key) => Question::Process(key.pid, key.start),
        QueryKind::Writer { pid } => Question::Writer(*pid),
        QueryKind::Settings { pid } => Question::Settings(*pid),
        QueryKind::Named { netns, .. } => Question::Named(*netns),
        QueryKind::Forwarders { .. } => Question::Forwarders,
    }
}

fn name(kind: &QueryKind) -> &'static str {
    match kind {
        QueryKind::Host => "Host",
        QueryKind::Port { .. } => "Port",
        QueryKind::Namespace { .. } => "Namespace",
        QueryKind::Owners { .. } => "Owners",
        QueryKind::Holders { .. } => "Holders",
        QueryKind::OtherPorts { .. } => "OtherPorts",
        QueryKind::LocalSockets { .. } => "LocalSockets",
        QueryKind::Candidates => "Candidates",
        QueryKind::Candidate { .. } => "Candidate",
        QueryKind::Process(_) => "Process",
        QueryKind::Writer { .. } => "Writer",
        QueryKind::Settings { .. } => "Settings",
        QueryKind::Named { .. } => "Named",
        QueryKind::Forwarders { .. } => "Forwarders",
    }
}

fn observation(kind: &QueryKind, found: Found) -> Option<Observation> {
    Some(match (kind, found) {
        (_, Found::Unknown) => return None,
        (_, Found::Scan(scan)) => Observation::Scan(scan),
        (QueryKind::Owners { netns, .. }, Found::Owners(owners)) => {
            Observation::Owners { netns: *netns, owners }
        }
        (QueryKind::Holders { netns, port }, Found::Holders(sockets)) => {
            Observation::Holders { netns: *netns, port: *port, sockets }
        }
        (QueryKind::OtherPorts { netns }, Found::OtherPorts(listeners)) => {
            Observation::OtherPorts { netns: *netns, listeners, dated_since: None }
        }
        (_, Found::Candidates(found, is_complete)) => Observation::Candidates { found, is_complete },
        (_, Found::Candidate(candidate)) => Observation::Candidate(candidate),
        (QueryKind::Writer { .. }, Found::Process(process)) => Observation::Writer(Some(process)),
        (_, Found::Process(process)) => Observation::Process(Some(process)),
        (_, Found::Settings(read)) => Observation::Settings(read),
        (_, Found::Named(is_named)) => Observation::Named(is_named),
        (kind, _) => panic!("{kind:?} has an answer of another kind"),
    })
}

/// An answer to what was never asked when it was recorded: nothing is different from what is known.
fn what_is_known(kind: &QueryKind) -> Option<Observation> {
    Some(match kind {
        QueryKind::Host | QueryKind::Port { .. } => return None,
        QueryKind::Namespace { netns, .. } => Observation::Scan(Scan {
            scope: ScanScope::Namespace(*netns),
            namespaces: Vec::new(),
            listeners: Vec::new(),
            unreadable: vec![Unreadable { id: *netns, why: "it was not recorded".to_owned() }],
        }),
        QueryKind::Owners { netns, .. } => Observation::Owners { netns: *netns, owners: Vec::new() },
        QueryKind::Holders { netns, port } => {
            Observation::Holders { netns: *netns, port: *port, sockets: Vec::new() }
        }
        QueryKind::OtherPorts { netns } => {
            Observation::OtherPorts { netns: *netns, listeners: Vec::new(), dated_since: None }
        }
        // They were not read when the runs were recorded.
        QueryKind::LocalSockets { netns, pids } => {
            Observation::LocalSockets { netns: *netns, pids: pids.clone(), sockets: Vec::new() }
        }
        QueryKind::Candidates => Observation::Candidates { found: Vec::new(), is_complete: false },
        QueryKind::Candidate { .. } => Observation::Candidate(None),
        QueryKind::Process(_) => Observation::Process(None),
        QueryKind::Writer { .. } => Observation::Writer(None),
        QueryKind::Settings { pid } => {
            Observation::Settings(SettingsRead { pid: *pid, started: None, settings: None, file: None })
        }
        QueryKind::Named { .. } => Observation::Named(true),
        QueryKind::Forwarders { netns, port } => {
            Observation::Forwarders { netns: *netns, port: *port, found: Vec::new() }
        }
    })
}
