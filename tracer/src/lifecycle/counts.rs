//! How many refusals, failed connects and lost records a run has counted.

use std::collections::BTreeMap;

use crate::model::cause::Cause;
use crate::model::errno::Errno;
use crate::model::kernel_event::Role;
use crate::verdict::rules;

/// Everything that a run has counted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub refusals: RefusalCounts,
    /// Connects that failed otherwise, by error; `None`: the application gave up.
    pub failed: Vec<(Option<Errno>, u64)>,
    pub lost: u64,
}

/// Refusals that were reported or counted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RefusalCounts {
    /// Those on the ports of the run, and in `by_cause`.
    pub refused: u64,
    /// Those on every port.
    pub by_role: BTreeMap<Role, u64>,
    /// Those that a fallback has not followed.
    pub settled: u64,
    pub by_cause: BTreeMap<usize, (Cause, u64)>,
}

impl RefusalCounts {
    /// Counts a refusal. `is_on_ports`: it is on a port of the run.
    pub fn refused(&mut self, role: Role, cause: Cause, is_on_ports: bool) {
        *self.by_role.entry(role).or_default() += 1;
        if is_on_ports {
            self.refused += 1;
            self.by_cause.entry(rules::place(cause)).or_insert((cause, 0)).1 += 1;
        }
    }
}
