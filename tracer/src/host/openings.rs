//! Since when sockets listen that a dump shows: the kernel side remembers it, and the host does not.

use std::sync::Arc;

use crate::model::opening::Openings;
use crate::model::socket::Listener;
use crate::model::time::Mono;

/// Where openings are remembered.
pub trait OpeningTimes: Send + Sync {
    /// Every opening that is remembered now.
    fn read(&self) -> Openings;
}

/// Fills in since when each of the listeners of a dump is open, where it is known, and gives when each other one was at the
/// latest. To be called once the dump was taken: what opened while it was is then remembered.
pub fn date(listeners: &mut [Listener], times: Option<&Arc<dyn OpeningTimes>>) -> Option<Mono> {
    if listeners.is_empty() {
        return None;
    }
    let openings = times?.read();
    for listener in listeners.iter_mut() {
        listener.since = openings.times.get(&listener.key.inode).copied();
    }
    openings.complete_since
}
