//! How far the stream of events has been taken, and what time it is.

use crate::model::time::Mono;

/// How far the stream has been taken, and what time it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Every event until then has been taken.
    pub complete_until: Mono,
    pub now: Mono,
}
