//! Findings about listeners and binds, in order: each waits for the description of its process, and not for long.

use std::collections::VecDeque;

use super::finding::{Finding, FindingKind};
use super::in_flight::InFlight;
use crate::model::time::Mono;
use crate::query::QueryId;

/// Findings that wait at a time; on more, the first is reported as it is.
const WAITING_MAX: usize = 4_096;

#[derive(Debug)]
struct Announcement {
    finding: Finding,
    pending: Vec<QueryId>,
    due: Mono,
}

/// Findings that wait for the description of a process or a namespace.
#[derive(Debug, Default)]
pub struct Announcements(VecDeque<Announcement>);

impl Announcements {
    /// Adds a finding that waits for these queries, until `due`.
    pub fn push(&mut self, finding: Finding, pending: Vec<QueryId>, due: Mono) {
        self.0.push_back(Announcement { finding, pending, due });
    }

    /// The findings that wait no longer.
    pub fn ready(&mut self, queries: &InFlight, now: Mono) -> Vec<Finding> {
        let mut ready = Vec::new();
        while let Some(first) = self.0.front()
            && (self.0.len() > WAITING_MAX
                || first.due <= now
                || !first.pending.iter().any(|id| queries.is_pending(*id)))
        {
            ready.extend(self.0.pop_front().map(|announcement| announcement.finding));
        }
        ready
    }

    /// Every finding up to the last recovery: a refusal that follows one is reported after it.
    pub fn up_to_recovery(&mut self) -> Vec<Finding> {
        let is_recovery = |one: &Announcement| matches!(one.finding.kind, FindingKind::Recovered(_));
        let count = self.0.iter().rposition(is_recovery).map_or(0, |last| last + 1);
        self.0.drain(..count).map(|announcement| announcement.finding).collect()
    }

    /// When [`Self::ready`] has something to give, answers aside.
    pub fn deadline(&self) -> Option<Mono> {
        self.0.front().map(|first| first.due)
    }
}
