//! The pure part of a run: inputs in, lines out.
//!
//! `tracer trace` feeds it what the kernel and the host report, `tracer record` writes the same inputs to a file, and
//! `tracer replay` feeds it that file: the lines are the same, bit for bit.

use std::num::NonZeroU64;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::lifecycle::core::{Core, Settings};
use crate::lifecycle::finding::Finding;
use crate::lifecycle::refusals::Scope;
use crate::lifecycle::requests::Requests;
use crate::model::cause::Cause;
use crate::model::clock::Clock;
use crate::model::kernel_event::{KernelEvent, Lost};
use crate::model::ports::Ports;
use crate::model::socket::NetnsId;
use crate::model::time::Mono;
use crate::output::bodies;
use crate::output::lines::Lines;
use crate::output::schema::{Body, Line, Start, StopReason};
use crate::products::recognise::{Pattern, Recognition};
use crate::query::{Answer, ConfigChanged};

/// What a run is made with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Setup {
    pub run: Uuid,
    pub now: Mono,
    pub clock: Clock,
    /// The body of the `start` line.
    pub start: Start,
    /// Refusals after which the run ends.
    pub count: Option<NonZeroU64>,
    /// Connects that failed otherwise than by a refusal are reported too.
    pub all: bool,
    /// The first cause that this host gives no sign of.
    pub undetectable: Option<Cause>,
    /// A program that was skipped may have been one that sees a listener open or close.
    pub skips_listeners: bool,
    /// How long a refusal waits for answers of the host; `None`: 100 ms.
    pub patience_ns: Option<u64>,
    /// Servers of the user's own.
    pub patterns: Vec<Pattern>,
}

/// What a run receives, in order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Input {
    /// The wall clock was read.
    Clock(Clock),
    Event {
        event: KernelEvent,
        now: Mono,
    },
    Answer {
        answer: Answer,
        now: Mono,
    },
    ConfigChanged {
        changed: ConfigChanged,
        now: Mono,
    },
    /// Every event until `complete_until` has been given.
    Advance {
        complete_until: Mono,
        now: Mono,
    },
    /// A sign of life is due.
    Alive {
        now: Mono,
    },
    /// Nothing more comes: what waits is reported.
    Finish {
        lost: Vec<Lost>,
        now: Mono,
    },
    Stop {
        reason: StopReason,
        now: Mono,
    },
}

/// The pure part of a run.
#[derive(Debug)]
pub struct Run {
    core: Core,
    lines: Lines,
    ports: Vec<u16>,
    /// The `ready` line has been given.
    is_announced: bool,
}

impl Run {
    /// A run, and its first line.
    pub fn new(setup: Setup) -> (Self, Line) {
        let Setup {
            run,
            now,
            clock,
            start,
            count,
            all,
            undetectable,
            skips_listeners,
            patience_ns,
            patterns,
        } = setup;
        let netns = start.netns.as_ref().map(|netns| NetnsId(netns.id));
        let scope = Scope { netns, count: count.map(NonZeroU64::get) };
        let ports = start.ports.clone();
        let recognition = Recognition { patterns };
        let settings = Settings {
            scope,
            ports: Ports::from_list(&ports),
            all,
            undetectable,
            skips_listeners,
            patience_ns,
            recognition,
        };
        let mut core = Core::new(settings, now);
        core.state.boottime_offset = clock.boottime_offset;
        let mut lines = Lines::new(run, clock);
        let first = lines.line(now, Body::Start(start));
        (Self { core, lines, ports, is_announced: false }, first)
    }

    /// Takes an input, and gives the lines that come of it.
    pub fn take(&mut self, input: Input) -> Vec<Line> {
        match input {
            Input::Clock(clock) => {
                self.lines.follow(clock);
                self.core.state.boottime_offset = clock.boottime_offset;
                Vec::new()
            }
            Input::Event { event, now } => {
                let findings = self.core.event(event, now);
                self.lines_of(findings)
            }
            Input::Answer { answer, now } => {
                let findings = self.core.answer(answer, now);
                let mut lines = self.lines_of(findings);
                lines.extend(self.announce(now));
                lines
            }
            Input::ConfigChanged { changed, now } => {
                self.core.config_changed(changed, now);
                Vec::new()
            }
            Input::Advance { complete_until, now } => {
                let mut lines = Vec::new();
                lines.extend(self.announce(now));
                let findings = self.core.advance(complete_until, now);
                lines.extend(self.lines_of(findings));
                lines.extend(self.announce(now));
                lines
            }
            Input::Alive { now } => vec![self.lines.line(now, bodies::alive(&self.core.counts()))],
            Input::Finish { lost, now } => {
                let findings = self.core.finish();
                let mut lines = self.lines_of(findings);
                for lost in lost {
                    let findings = self.core.event(KernelEvent::Lost(lost), now);
                    lines.extend(self.lines_of(findings));
                }
                lines
            }
            Input::Stop { reason, now } => {
                vec![self.lines.line(now, bodies::stop(reason, self.core.counts()))]
            }
        }
    }

    /// The `ready` line, once the first scan is done.
    fn announce(&mut self, now: Mono) -> Option<Line> {
        if self.is_announced || !self.core.is_ready() {
            return None;
        }
        self.is_announced = true;
        let ready = self.lines.ready(&self.core.state, self.core.only_netns(), &self.ports);
        Some(self.lines.line(now, Body::Ready(ready)))
    }

    fn lines_of(&mut self, findings: Vec<Finding>) -> Vec<Line> {
        findings.into_iter().map(|finding| self.lines.finding(finding, &self.core.state)).collect()
    }

    /// Whether as many refusals as were asked for have been reported.
    pub fn is_full(&self) -> bool {
        self.core.is_full()
    }

    /// Until when every event has been taken.
    pub fn complete_until(&self) -> Mono {
        self.core.progress().complete_until
    }

    /// Whether a refusal waits for an answer.
    pub fn is_waiting(&self) -> bool {
        self.core.is_waiting()
    }

    /// When an [`Input::Advance`] is due, whatever else comes.
    pub fn deadline(&self) -> Option<Mono> {
        self.core.deadline()
    }

    /// What the run requests since the last call.
    pub fn take_requests(&mut self) -> Requests {
        self.core.take_requests()
    }
}
