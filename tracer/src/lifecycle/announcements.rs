//! Findings about listeners and binds, in order: each waits for the description of its process, and not for long. That a
//! listener has closed waits for the end of its process as well: a server that ends in order closes first.

use std::collections::VecDeque;

use super::finding::{Finding, FindingKind, ListenerChange};
use super::in_flight::InFlight;
use super::refusals::{ENDING_NS, Progress};
use crate::model::process::{ExitStatus, OwnerEnd};
use crate::model::time::Mono;
use crate::query::QueryId;

/// Findings that wait at a time; on more, the first is reported as it is.
const WAITING_MAX: usize = 4_096;

#[derive(Debug)]
struct Announcement {
    finding: Finding,
    pending: Vec<QueryId>,
    due: Mono,
    /// Until when the end of its process may come, of a listener that a running process has closed.
    ending: Option<Mono>,
}

impl Announcement {
    /// Whether the process that closed the listener may still end because of that.
    fn may_be_ending(&self, complete_until: Mono) -> bool {
        self.ending.is_some_and(|ending| complete_until < ending)
    }

    /// The finding, as far as events are known: of a process that may be about to end it is not known whether it goes on.
    fn finding(mut self, complete_until: Mono) -> Finding {
        if self.may_be_ending(complete_until) {
            self.set_owner(OwnerEnd::Unknown);
        }
        self.finding
    }

    fn set_owner(&mut self, end: OwnerEnd) {
        self.ending = None;
        if let FindingKind::Listener { change: ListenerChange::Closed { owner, is_transient }, .. } =
            &mut self.finding.kind
        {
            *owner = end;
            *is_transient = false;
        }
    }
}

/// Findings that wait for the description of a process or a namespace.
#[derive(Debug, Default)]
pub struct Announcements(VecDeque<Announcement>);

impl Announcements {
    /// Adds a finding that waits for these queries, until `due`.
    pub fn push(&mut self, finding: Finding, pending: Vec<QueryId>, due: Mono) {
        let is_by_running = matches!(
            &finding.kind,
            FindingKind::Listener { change: ListenerChange::Closed { owner: OwnerEnd::Running, .. }, .. }
        );
        let ending = is_by_running.then(|| finding.mono.plus(ENDING_NS));
        let due = ending.map_or(due, |ending| due.max(ending));
        self.0.push_back(Announcement { finding, pending, due, ending });
    }

    /// A process has ended: no waiting finding reports it as running any more.
    pub fn ended(&mut self, pid: u32, status: ExitStatus) {
        let is_of_it = |one: &&mut Announcement| {
            let FindingKind::Listener { listener, .. } = &one.finding.kind else { return false };
            one.ending.is_some() && listener.process.pid == Some(pid)
        };
        self.0.iter_mut().filter(is_of_it).for_each(|one| one.set_owner(OwnerEnd::Ended(status)));
    }

    /// The findings that wait no longer.
    pub fn ready(&mut self, queries: &InFlight, Progress { complete_until, now }: Progress) -> Vec<Finding> {
        let mut ready = Vec::new();
        let waits = |one: &Announcement| {
            one.may_be_ending(complete_until) || one.pending.iter().any(|id| queries.is_pending(*id))
        };
        while let Some(first) = self.0.front()
            && (self.0.len() > WAITING_MAX || first.due <= now || !waits(first))
        {
            ready.extend(self.0.pop_front().map(|one| one.finding(complete_until)));
        }
        ready
    }

    /// Every finding up to the last recovery: a refusal that follows one is reported after it.
    pub fn up_to_recovery(&mut self, complete_until: Mono) -> Vec<Finding> {
        let is_recovery = |one: &Announcement| matches!(one.finding.kind, FindingKind::Recovered(_));
        let count = self.0.iter().rposition(is_recovery).map_or(0, |last| last + 1);
        self.0.drain(..count).map(|one| one.finding(complete_until)).collect()
    }

    /// Every finding, at the end of the run: nothing more will come.
    pub fn all(&mut self, complete_until: Mono) -> Vec<Finding> {
        std::mem::take(&mut self.0).into_iter().map(|one| one.finding(complete_until)).collect()
    }

    /// When [`Self::ready`] has something to give, answers aside.
    pub fn deadline(&self) -> Option<Mono> {
        self.0.front().map(|first| first.ending.map_or(first.due, |ending| ending.min(first.due)))
    }
}
