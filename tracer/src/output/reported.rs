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

    /// The line of a refusal.
    pub fn seq(&self, refusal: RefusalId) -> u64 {
        self.0.get(&refusal).copied().unwrap_or_default()
    }
}
