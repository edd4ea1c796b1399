//! Queries of the host that are not answered yet: no query is sent a second time while it is not answered.

use crate::model::hash::HashMap;
use crate::model::time::{Interval, Mono};
use crate::query::{Query, QueryId, QueryKind};

/// How long an answer is waited for, where nothing else is asked for.
pub const PATIENCE_NS: u64 = 100_000_000;

/// How often a scan that listeners closed under is taken again.
const RETAKES: u32 = 3;

/// A query that is not answered yet.
#[derive(Clone, Debug)]
struct Asked {
    kind: QueryKind,
    at: Mono,
    deadline: Mono,
    retakes: u32,
}

/// Queries that are not answered yet.
#[derive(Debug)]
pub struct InFlight {
    patience_ns: u64,
    newest: u64,
    asked: HashMap<QueryId, Asked>,
    by_topic: HashMap<QueryKind, QueryId>,
    /// Not handed to the host yet.
    outbox: Vec<Query>,
    /// Ports that are watched besides those of the run.
    added_ports: Vec<u16>,
}

impl Default for InFlight {
    fn default() -> Self {
        Self::new(PATIENCE_NS)
    }
}

impl InFlight {
    pub fn new(patience_ns: u64) -> Self {
        Self {
            patience_ns,
            newest: 0,
            asked: HashMap::default(),
            by_topic: HashMap::default(),
            outbox: Vec::new(),
            added_ports: Vec::new(),
        }
    }

    /// Other ports are watched now besides those of the run.
    pub fn set_added_ports(&mut self, ports: Vec<u16>) {
        self.added_ports = ports;
    }

    /// How long an answer is waited for.
    pub fn patience_ns(&self) -> u64 {
        self.patience_ns
    }

    /// Asks, or joins a query that asks the same.
    pub fn ask(&mut self, kind: QueryKind, now: Mono) -> QueryId {
        self.ask_for(kind, now, self.patience_ns)
    }

    /// Asks with another patience.
    pub fn ask_for(&mut self, kind: QueryKind, now: Mono, patience_ns: u64) -> QueryId {
        if let Some(id) = self.by_topic.get(&kind.topic()) {
            return *id;
        }
        self.newest += 1;
        let id = QueryId(self.newest);
        self.by_topic.insert(kind.topic(), id);
        let deadline = now.plus(patience_ns);
        self.asked.insert(id, Asked { kind: kind.clone(), at: now, deadline, retakes: RETAKES });
        self.send(id, deadline, kind);
        id
    }

    fn send(&mut self, id: QueryId, deadline: Mono, kind: QueryKind) {
        let max_bytes = kind.max_bytes();
        let added_ports = self.added_ports.clone();
        self.outbox.push(Query { id, deadline, max_bytes, added_ports, kind });
    }

    /// The queries that are to be handed to the host.
    pub fn take(&mut self) -> Vec<Query> {
        std::mem::take(&mut self.outbox)
    }

    /// Whether a query is not answered yet.
    pub fn is_pending(&self, id: QueryId) -> bool {
        self.asked.contains_key(&id)
    }

    /// Whether a query was asked at that time or after it: what it shows is not older.
    pub fn is_asked_since(&self, id: QueryId, time: Mono) -> bool {
        self.asked.get(&id).is_some_and(|asked| asked.at >= time)
    }

    /// What a query asks.
    pub fn kind(&self, id: QueryId) -> Option<&QueryKind> {
        self.asked.get(&id).map(|asked| &asked.kind)
    }

    /// Queries of one kind that are not answered yet.
    pub fn pending(&self, is_it: impl Fn(&QueryKind) -> bool) -> Vec<QueryId> {
        self.asked.iter().filter(|(_, asked)| is_it(&asked.kind)).map(|(id, _)| *id).collect()
    }

    /// A query is answered; `None`: it is not waited for any more.
    pub fn answered(&mut self, id: QueryId) -> Option<QueryKind> {
        let asked = self.asked.remove(&id)?;
        self.by_topic.remove(&asked.kind.topic());
        Some(asked.kind)
    }

    /// Asks the same once more, if it has not been asked too often.
    pub fn retake(&mut self, id: QueryId) -> bool {
        let Some(asked) = self.asked.get_mut(&id).filter(|asked| asked.retakes > 0) else { return false };
        asked.retakes -= 1;
        let (deadline, kind) = (asked.deadline, asked.kind.clone());
        self.send(id, deadline, kind);
        true
    }

    /// When [`Self::expire`] has something to give.
    pub fn deadline(&self) -> Option<Mono> {
        self.asked.values().map(|asked| asked.deadline).min()
    }

    /// The queries that are unanswered at their deadlines, with the time since they were asked.
    pub fn expire(&mut self, now: Mono) -> Vec<(QueryId, QueryKind, Interval)> {
        let overdue: Vec<QueryId> =
            self.asked.iter().filter(|(_, asked)| asked.deadline <= now).map(|(id, _)| *id).collect();
        let mut expired: Vec<_> = overdue
            .into_iter()
            .filter_map(|id| {
                let began = self.asked.get(&id)?.at;
                Some((id, self.answered(id)?, Interval { began, ended: now }))
            })
            .collect();
        expired.sort_by_key(|(id, ..)| *id);
        expired
    }
}
