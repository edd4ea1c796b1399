//! What tracer itself may have missed, or cannot see: what rests on an absence is uncertain by it.

use crate::model::cause::Cause;
use crate::model::time::{Interval, Mono};

/// What tracer may have missed, or cannot see.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Health {
    /// The snapshot is complete.
    pub ready: bool,
    /// Records were lost, and the listeners were not read again since.
    pub lost: bool,
    /// Until when records may be missing: what opened or closed unseen did so by then.
    pub lost_until: Option<Mono>,
    /// The ends of some processes are not reported: a server may have ended.
    pub missed_ends: bool,
    /// The first cause that this host gives no sign of: those after it could be this one.
    pub undetectable: Option<Cause>,
    /// A skipped program may have been one that sees a listener open or close.
    pub skips_listeners: bool,
    /// When all namespaces were last read.
    pub host_read: Option<Interval>,
    /// All namespaces were read once more since the start.
    pub is_absence_verified: bool,
}
