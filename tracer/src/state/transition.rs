//! What an event or an observation has changed of the state.

use crate::model::errno::Errno;
use crate::model::kernel_event::Call;
use crate::model::process::OwnerEnd;
use crate::model::socket::{Listener, NetnsId};
use crate::model::time::Mono;

/// What an event or an observation has changed.
#[derive(Clone, Debug, PartialEq)]
pub enum Transition {
    /// A listener was there already.
    Found {
        time: Mono,
        listener: Listener,
    },
    /// A `listen()` has succeeded.
    Opened {
        time: Mono,
        listener: Listener,
    },
    Closed {
        time: Mono,
        listener: Listener,
        owner: OwnerEnd,
    },
    /// A `bind()` or `listen()` has returned.
    Returned {
        time: Mono,
        call: Call,
        socket: Listener,
        errno: Option<Errno>,
    },
    /// A namespace has ended, and with it all that was known of it.
    Forgotten(NetnsId),
}
