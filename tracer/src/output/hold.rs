//! Which lines of text wait, and until when: a refusal by the wrong family, until the other family may have answered.

use std::collections::VecDeque;

use crate::lifecycle::fallbacks::SETTLE_NS;
use crate::model::time::Mono;
use crate::output::schema::{Body, Cause, Line};

/// The lines that wait, the oldest first.
#[derive(Debug, Default)]
pub struct Hold(VecDeque<Line>);

impl Hold {
    /// Takes a line, and gives it back where it does not wait.
    pub fn take(&mut self, line: Line) -> Option<Line> {
        match &line.body {
            Body::Refused(refused) if refused.verdict.cause == Cause::WrongFamily => {
                self.0.push_back(line);
                None
            }
            _ => Some(line),
        }
    }

    /// The refusal that waits and that a line settles: its client has reached the other family.
    pub fn settled_by(&mut self, line: &Line) -> Option<Line> {
        let Body::Fallback(fallback) = &line.body else { return None };
        let index = self.0.iter().position(|held| Some(held.seq) == fallback.of)?;
        self.0.remove(index)
    }

    /// When [`Self::due`] gives the next line.
    pub fn deadline(&self) -> Option<Mono> {
        self.0.front().map(|line| Mono(line.mono_us.saturating_mul(1_000).saturating_add(SETTLE_NS)))
    }

    /// A line that has waited for long enough.
    pub fn due(&mut self, now: Mono) -> Option<Line> {
        self.deadline().filter(|due| *due <= now)?;
        self.0.pop_front()
    }

    /// A line that waits, for however short a time.
    pub fn pop(&mut self) -> Option<Line> {
        self.0.pop_front()
    }
}
