//! What the core requests: queries of the host, and what the kernel side is to watch and to follow.

use crate::model::process::Text;
use crate::model::time::StartTime;
use crate::query::Query;

/// A port that is to be watched from now on, or no longer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortChange {
    pub port: u16,
    pub is_watched: bool,
}

/// Every request since the last call of [`Core::take_requests`](super::core::Core::take_requests). The caller hands them
/// on in the order of the fields. It takes the value apart without `..`, so that the compiler reports a request that it
/// does not handle.
#[derive(Debug, Default)]
pub struct Requests {
    /// Ports for the kernel side. They come before the queries: the answer about a port is joined with its events.
    pub port_changes: Vec<PortChange>,
    /// Queries for the host.
    pub queries: Vec<Query>,
    /// Processes whose end the kernel side is to report.
    pub follow: Vec<u32>,
    /// Names of programs whose start the kernel side is to report.
    pub watch_names: Vec<Text>,
    /// Processes whose connects on every port the kernel side is to stop recording.
    pub unfollow: Vec<u32>,
    /// Processes that hold a listener on a watched port: the kernel side is to record their connects on every port.
    pub holders: Vec<(u32, Option<StartTime>)>,
}
