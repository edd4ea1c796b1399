//! How many refusals, failed connects and lost records a run has counted.

use std::collections::BTreeMap;

use crate::model::cause::Cause;
use crate::model::errno::Errno;
use crate::model::kernel_event::Role;

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
