//! The lines of one run: the one place that gives lines their numbers and their wall-clock times.

use std::net::IpAddr;

use uuid::Uuid;

use super::bodies::{self, Writer};
use super::reported::Reported;
use super::schema::{self, Body, Line, VERSION};
use super::status::{self, Reader};
use super::view::View;
use crate::lifecycle::finding::{Finding, FindingKind};
use crate::model::clock::Clock;
use crate::model::kernel_event::Refused;
use crate::model::socket::NetnsId;
use crate::model::time::Mono;
use crate::state::HostState;
use crate::verdict::evidence::Verdict;

/// Makes the lines of one run.
#[derive(Clone, Debug)]
pub struct Lines {
    run: Uuid,
    /// Number of the newest line.
    seq: u64,
    clock: Clock,
    first_clock: Clock,
    reported: Reported,
}

impl Lines {
    pub fn new(run: Uuid, clock: Clock) -> Self {
        Self { run, seq: 0, clock, first_clock: clock, reported: Reported::default() }
    }

    /// Follows the wall clock where it has stepped.
    pub fn follow(&mut self, clock: Clock) {
        self.clock = self.clock.followed_by(clock);
    }

    /// The clock that lines are dated by.
    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    /// Numbers and dates a body.
    pub fn line(&mut self, mono: Mono, body: Body) -> Line {
        self.seq += 1;
        let time = self.clock.time(mono);
        Line { v: VERSION, run: self.run, seq: self.seq, time, mono_us: mono.0 / 1_000, body }
    }

    /// The line of a finding, as of what is known now.
    pub fn finding(&mut self, finding: Finding, state: &HostState) -> Line {
        let Finding { mono, kind } = finding;
        if let FindingKind::Refused(refused) = &kind {
            self.reported.note(refused.id, self.seq + 1);
        }
        let body = self.writer(state).body(kind);
        self.line(mono, body)
    }

    fn view<'a>(&'a self, state: &'a HostState) -> View<'a> {
        View { state, clock: &self.clock, first_clock: &self.first_clock }
    }

    fn writer<'a>(&'a self, state: &'a HostState) -> Writer<'a> {
        Writer { view: self.view(state), reported: &self.reported }
    }

    /// What each local address would get: in the namespace that is asked for, or in each that has a listener and in
    /// the tracer's own.
    pub fn ready(&self, state: &HostState, only: Option<NetnsId>, ports: &[u16]) -> schema::Ready {
        bodies::ready(self.view(state), only, ports)
    }

    /// What a connect made now, inside `netns`, would get; `reader` is the process that asks.
    pub fn status(
        &self,
        state: &HostState,
        (netns, addr, port): (NetnsId, IpAddr, u16),
        reader: Reader,
    ) -> schema::Status {
        status::status(self.view(state), (netns, addr, port), reader)
    }

    /// The verdict on a connect that has not been made.
    pub fn prospect(&self, state: &HostState, refused: &Refused, verdict: &Verdict) -> schema::Verdict {
        self.writer(state).verdict(refused, verdict)
    }
}
