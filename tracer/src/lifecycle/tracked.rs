//! One refusal until its report: what it waits for, and which queries it rests on.

use super::in_flight::InFlight;
use super::progress::Progress;
use crate::model::cause::Cause;
use crate::model::kernel_event::Refused;
use crate::model::time::Mono;
use crate::query::{QueryId, QueryKind};
use crate::state::HostState;
use crate::state::listeners::ENDING_NS;
use crate::verdict::coverage::Destination;
use crate::verdict::packet_filter;
use crate::verdict::planner::{self, Purpose, Task};
use crate::verdict::rules;
use crate::verdict::scene;
use crate::verdict::uncertainty::CHANGING_NS;

/// What a refusal is classified and queried by.
pub struct Context<'a> {
    pub state: &'a HostState,
    pub queries: &'a mut InFlight,
    pub progress: Progress,
}

/// A refusal that is not reported yet.
#[derive(Clone, Debug)]
pub struct Tracked {
    refused: Box<Refused>,
    wait: Wait,
    /// What the host was asked for it.
    asked: Vec<QueryKind>,
    /// What the host had been asked before it came: the answer may show what was before it.
    joined: Vec<QueryKind>,
    /// When it is reported by what is known then.
    deadline: Mono,
    /// The host did not answer something that the verdict rests on.
    is_unanswered: bool,
}

/// What a refusal waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Wait {
    /// Nothing: it is classified next.
    New,
    /// For the time in which the close of a listener that covers it could still be recorded.
    Deferred { until: Mono },
    /// For answers of the host.
    Answers { pending: Vec<QueryId> },
}

impl Tracked {
    /// A refusal that has just come, and is reported at its deadline at the latest.
    pub fn new(refused: Box<Refused>, deadline: Mono) -> Self {
        Self {
            refused,
            wait: Wait::New,
            asked: Vec::new(),
            joined: Vec::new(),
            deadline,
            is_unanswered: false,
        }
    }

    pub fn refused(&self) -> &Refused {
        &self.refused
    }

    pub fn into_refused(self) -> Box<Refused> {
        self.refused
    }

    /// Whether it is to be reported by what is known.
    pub fn is_due(&self, now: Mono) -> bool {
        self.deadline <= now
    }

    /// Whether it need not wait any longer.
    pub fn may_go_on(&self, queries: &InFlight, progress: Progress) -> bool {
        match &self.wait {
            Wait::New => true,
            Wait::Deferred { until } => *until <= progress.complete_until || self.is_due(progress.now),
            Wait::Answers { pending } => {
                self.is_due(progress.now) || !pending.iter().any(|id| queries.is_pending(*id))
            }
        }
    }

    /// When it need not wait any longer, answers aside.
    pub fn deadline(&self) -> Mono {
        match self.wait {
            Wait::Deferred { until } => until.min(self.deadline),
            Wait::New | Wait::Answers { .. } => self.deadline,
        }
    }

    /// Sends the queries that it rests on, and begins to wait for what it must wait for. `false`: it can be reported.
    pub fn begin_wait(&mut self, task: Task<'_>, context: &mut Context<'_>) -> bool {
        let wait = self.next_wait(task, context);
        let waits = wait.is_some();
        self.wait = wait.unwrap_or(Wait::New);
        waits
    }

    fn next_wait(&mut self, task: Task<'_>, context: &mut Context<'_>) -> Option<Wait> {
        let Task { classification, purpose, .. } = task;
        let complete_until = context.progress.complete_until;
        let refused = &self.refused;
        // A listener that is about to close is unhashed before it is seen to close. A refusal that no socket was
        // asked about does not wait for that.
        let until = refused.started.plus(CHANGING_NS);
        let is_changing = classification.cause == Cause::Intercepted
            && !packet_filter::is_filtered(refused)
            && refused.time < until
            && complete_until < until;
        let is_new = matches!(purpose, Purpose::Report(_));
        let ends_at = scene::may_be_ending(refused, classification.cause, context.state, ENDING_NS);
        let pending = self.ask(task, context);
        if is_changing {
            Some(Wait::Deferred { until })
        } else if let Some(until) = ends_at.filter(|until| is_new && *until > complete_until) {
            Some(Wait::Deferred { until })
        } else if is_new && !pending.is_empty() {
            Some(Wait::Answers { pending })
        } else {
            None
        }
    }

    /// Sends the queries whose answers are to be known before it is reported, each once, and gives those that are not answered
    /// yet.
    fn ask(&mut self, task: Task<'_>, context: &mut Context<'_>) -> Vec<QueryId> {
        let Context { state, queries, .. } = context;
        let Task { classification, now, .. } = task;
        let mut kinds = planner::plan(&self.refused, task, state);
        // Whether a listen() under way has succeeded decides which listeners there are.
        let Destination { netns, port, .. } = classification.destination;
        if state.openings.is_pending_on(netns, port) {
            kinds.push(QueryKind::Namespace { netns, pid_hint: None });
        }
        for kind in kinds {
            if !self.has_asked(&kind) {
                let id = queries.ask(kind.clone(), now);
                if queries.is_asked_since(id, self.refused.time) {
                    self.asked.push(kind);
                } else if !self.has_joined(&kind) {
                    self.joined.push(kind);
                }
            }
        }
        // A process that has just executed a program may be the server.
        let rests_on_absence = rules::is_before(Cause::BoundNotListening, classification.cause);
        let is_candidate = |kind: &QueryKind| rests_on_absence && matches!(kind, QueryKind::Candidate { .. });
        queries.pending(|kind| self.has_asked(kind) || self.has_joined(kind) || is_candidate(kind))
    }

    /// A query was not answered.
    pub fn unanswered(&mut self, kind: &QueryKind) {
        self.is_unanswered |= kind.is_evidence() && self.has_asked(kind);
    }

    /// Whether the host did not answer something that the verdict rests on.
    pub fn is_unanswered(&self, queries: &InFlight) -> bool {
        let mut kinds = self.asked.iter().chain(&self.joined);
        self.is_unanswered || kinds.any(|kind| kind.is_evidence() && is_pending(kind, queries))
    }

    fn has_asked(&self, kind: &QueryKind) -> bool {
        self.asked.iter().any(|asked| asked.is_about_the_same(kind))
    }

    fn has_joined(&self, kind: &QueryKind) -> bool {
        self.joined.iter().any(|joined| joined.is_about_the_same(kind))
    }
}

fn is_pending(kind: &QueryKind, queries: &InFlight) -> bool {
    !queries.pending(|pending| pending.is_about_the_same(kind)).is_empty()
}
