//! The line numbers of reported refusals, which the lines that follow them name.

use std::collections::BTreeMap;

use crate::lifecycle::finding::RefusalId;

/// Refusals whose line numbers are remembered: the newest.
const REFUSALS_MAX: usize = 65_536;

/// The line numbers of the newest refusals.
#[derive(Clone, Debug, Default)]
pub struct Reported(BTreeMap<RefusalId, u64>);

impl Reported {
    /// Remembers the line of a refusal.
    pub fn note(&mut self, refusal: RefusalId, seq: u64) {
        self.0.insert(refusal, seq);
        if self.0.len() > REFUSALS_MAX {
            self.0.pop_first();
        }
    }

    /// The line of a refusal; `None`: it is not remembered any more.
    pub fn seq(&self, refusal: RefusalId) -> Option<u64> {
        self.0.get(&refusal).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_of_a_refusal_that_is_not_remembered_is_not_known() {
        let mut reported = Reported::default();
        for number in 0..=REFUSALS_MAX as u64 {
            reported.note(RefusalId(number), number + 1);
        }
        assert_eq!(reported.seq(RefusalId(0)), None);
        assert_eq!(reported.seq(RefusalId(1)), Some(2));
        assert_eq!(reported.seq(RefusalId(REFUSALS_MAX as u64)), Some(REFUSALS_MAX as u64 + 1));
    }
}
