//! Events that wait for an answer, and answers that wait for the events that came before them.

use std::collections::VecDeque;

use super::in_flight::InFlight;
use crate::model::hash::HashMap;
use crate::model::kernel_event::KernelEvent;
use crate::model::socket::NetnsId;
use crate::model::time::{Interval, Mono};
use crate::query::{Answer, Observation, QueryId, QueryKind, Scan};
use crate::state::join::{is_disturbed, join};
use crate::state::namespaces::Namespaces;

/// Namespaces whose last answer about their name is remembered.
const NAMED_MAX: usize = 1024;

/// Events and answers that cannot be taken yet.
#[derive(Debug, Default)]
pub struct Gate {
    events: VecDeque<KernelEvent>,
    /// The query that the events wait for.
    until: Option<QueryId>,
    /// At the start: queries of the settings of servers that were already running. The events wait for these as well.
    settings: Vec<QueryId>,
    /// Answers that show more than the events that were taken.
    answers: VecDeque<Answer>,
    /// Until when every event has been received.
    received_until: Mono,
    /// For each namespace without a cookie: until when its name is known to be the name of this namespace.
    named: HashMap<NetnsId, Mono>,
}

impl Gate {
    /// Adds an event behind those that wait.
    pub fn add(&mut self, event: KernelEvent) {
        self.events.push_back(event);
    }

    /// Every event until then has been received.
    pub fn received(&mut self, until: Mono) {
        self.received_until = self.received_until.max(until);
    }

    /// The events wait for this query.
    pub fn wait_for(&mut self, id: QueryId) {
        self.until = Some(id);
    }

    /// The events wait for these queries of settings.
    pub fn wait_for_settings(&mut self, ids: Vec<QueryId>) {
        self.settings = ids;
    }

    /// Whether the events wait for this query.
    pub fn waits_for(&self, id: QueryId) -> bool {
        self.until == Some(id)
    }

    /// Whether the events wait for settings.
    pub fn is_reading_settings(&self, queries: &InFlight) -> bool {
        self.settings.iter().any(|id| queries.is_pending(*id))
    }

    /// Whether events wait for an answer.
    pub fn is_closed(&self, queries: &InFlight) -> bool {
        self.until.is_some() || self.is_reading_settings(queries)
    }

    /// Whether [`Self::next_event`] has something to do.
    pub fn has_next(&self, queries: &InFlight) -> bool {
        !self.is_closed(queries) && !self.events.is_empty()
    }

    /// The next event that waits for no answer. Where the namespace of an event may have been replaced, the event waits for
    /// the answer to a query of the name.
    pub fn next_event(
        &mut self,
        namespaces: &Namespaces,
        queries: &mut InFlight,
        now: Mono,
    ) -> Option<KernelEvent> {
        if self.is_closed(queries) {
            return None;
        }
        let event = self.events.pop_front()?;
        let Some(query) = self.query_of_name(&event, namespaces) else { return Some(event) };
        self.until = Some(queries.ask(query, now));
        self.events.push_front(event);
        None
    }

    /// The first event, even where its namespace may have been replaced.
    pub fn first_event(&mut self) -> Option<KernelEvent> {
        self.events.pop_front()
    }

    /// The query whether the namespace of an event is a later one with the same number: where the kernel gives it no cookie,
    /// its name shows that.
    fn query_of_name(&self, event: &KernelEvent, namespaces: &Namespaces) -> Option<QueryKind> {
        let (netns, _) = namespace_of(event)?;
        let known = namespaces.get(netns).filter(|known| known.cookie == 0)?;
        let name = known.name.clone()?;
        // An answer holds for every event before it, so that a flood is one query.
        let is_known = self.named.get(&netns).is_some_and(|until| event.time() <= Some(*until));
        (!is_known).then_some(QueryKind::Named { netns, name })
    }

    /// Gives an answer back if it can be taken, and keeps it otherwise. `complete_until`: until when every event has been
    /// taken.
    pub fn admit(&mut self, answer: Answer, complete_until: Mono) -> Option<Answer> {
        // An answer that the events wait for is joined with the events that were received.
        let is_waited_for = self.waits_for(answer.id) || self.settings.contains(&answer.id);
        let known_until = if is_waited_for { self.received_until } else { complete_until };
        if answer.interval.ended > known_until {
            self.answers.push_back(answer);
            return None;
        }
        Some(answer)
    }

    /// The answers that were kept: they are to be admitted again.
    pub fn kept_answers(&mut self) -> VecDeque<Answer> {
        std::mem::take(&mut self.answers)
    }

    /// Whether the events that wait show that a scan may be wrong.
    pub fn disturbs(&self, scan: Interval) -> bool {
        is_disturbed(scan, &self.events)
    }

    /// A scan, joined with the events that wait.
    pub fn join(&self, scan: Scan) -> Scan {
        join(scan, &self.events)
    }

    /// Takes the answer that the events wait for, to this query; a `result` of `None`: there was no answer in time.
    pub fn answered(&mut self, kind: Option<&QueryKind>, result: Option<&Observation>, interval: Interval) {
        self.until = None;
        let Some(QueryKind::Named { netns, .. }) = kind else { return };
        if self.named.len() >= NAMED_MAX {
            self.named.clear();
        }
        let until = if result.is_some() { interval.began } else { interval.ended };
        self.named.insert(*netns, until);
        if let Some(Observation::Named(false)) = result {
            self.named.remove(netns);
        }
    }

    /// Opens the gate at the end of the run. Gives the query that the events waited for.
    pub fn open(&mut self) -> Option<QueryId> {
        self.settings.clear();
        self.until.take()
    }

    /// Every event that waits.
    pub fn take_events(&mut self) -> VecDeque<KernelEvent> {
        std::mem::take(&mut self.events)
    }
}

/// The namespace of an event, and its cookie; 0: unknown.
pub(super) fn namespace_of(event: &KernelEvent) -> Option<(NetnsId, u64)> {
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
        | KernelEvent::OpenedElsewhere(_)
        | KernelEvent::ClosedElsewhere(_)
        | KernelEvent::Failed(_)
        | KernelEvent::Lost(_) => None,
    }
}
