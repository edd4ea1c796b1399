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

    /// The next line that waits, for however short a time.
    pub fn pop(&mut self) -> Option<Line> {
        self.0.pop_front()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(seq: u64, mono_us: u64, body: &str) -> Line {
        let head = format!(
            r#""v":1,"run":"12345678-9abc-4def-8123-456789abcdef","seq":{seq},"time":"2026-11-22T10:41:02Z","mono_us":{mono_us}"#
        );
        serde_json::from_str(&format!("{{{head},{body}}}")).unwrap()
    }

    fn refused(seq: u64, mono_us: u64, cause: &str) -> Line {
        let ends = r#""client":{},"src":{"addr":"::1"},"dst":{"addr":"::1","port":80},"netns":{"id":1}"#;
        let evidence = r#""because":[],"listeners":[],"listeners_total":0,"failed_binds":[],"candidates":[]"#;
        let verdict =
            format!(r#"{{"cause":"{cause}","confidence":"certain",{evidence},"claims":[],"summary":""}}"#);
        let body = format!(r#""type":"refused",{ends},"via":"rst","latency_us":1,"verdict":{verdict}"#);
        line(seq, mono_us, &body)
    }

    fn fallback(of: &str) -> Line {
        line(
            9,
            2,
            &format!(r#""type":"fallback","of":{of},"dst":{{"addr":"127.0.0.1","port":80}},"after_us":1"#),
        )
    }

    #[test]
    fn a_refusal_by_the_wrong_family_waits_until_it_is_due() {
        let mut hold = Hold::default();
        assert!(hold.take(refused(1, 1, "stopped")).is_some());
        assert_eq!(hold.deadline(), None);
        assert!(hold.take(refused(2, 5, "wrong-family")).is_none());
        assert!(hold.take(refused(3, 6, "wrong-family")).is_none());
        let due = hold.deadline().unwrap();
        assert_eq!(due, Mono(5_000 + SETTLE_NS));
        assert_eq!(hold.due(Mono(due.0 - 1)), None);
        assert_eq!(hold.due(due).map(|line| line.seq), Some(2));
        assert_eq!(hold.due(due), None);
        assert_eq!(hold.pop().map(|line| line.seq), Some(3));
    }

    #[test]
    fn a_fallback_settles_its_own_refusal_alone() {
        let mut hold = Hold::default();
        hold.take(refused(2, 5, "wrong-family"));
        hold.take(refused(3, 6, "wrong-family"));
        assert_eq!(hold.settled_by(&fallback("null")), None);
        assert_eq!(hold.settled_by(&fallback("7")), None);
        assert_eq!(hold.settled_by(&fallback("3")).map(|line| line.seq), Some(3));
        assert_eq!(hold.pop().map(|line| line.seq), Some(2));
        assert_eq!(hold.pop(), None);
    }
}
