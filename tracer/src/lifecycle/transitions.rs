//! The finding that a change of the state is reported as.

use super::finding::{Finding, FindingKind, ListenerChange};
use crate::model::process::{OwnerEnd, Process};
use crate::state::{SERVED_NS, Transition};

/// The process that a change shows to be a server: it listens, or was refused a port.
pub fn server_of(transition: &Transition) -> Option<&Process> {
    match transition {
        Transition::Found { listener, .. } | Transition::Opened { listener, .. } => Some(&listener.process),
        Transition::Returned { socket, errno, .. } => errno.is_some().then_some(&socket.process),
        Transition::Closed { .. } | Transition::Forgotten(_) => None,
    }
}

/// The finding of a change; `None`: nothing is reported of it.
pub fn finding_of(transition: Transition) -> Option<Finding> {
    let (time, kind) = match transition {
        Transition::Found { time, listener } => {
            (time, FindingKind::Listener { change: ListenerChange::Present, listener })
        }
        Transition::Opened { time, listener } => {
            (time, FindingKind::Listener { change: ListenerChange::Opened, listener })
        }
        Transition::Closed { time, listener, owner } => {
            let is_transient = owner == OwnerEnd::Running
                && listener.since.is_some_and(|since| time.since(since) < SERVED_NS);
            let change = ListenerChange::Closed { owner, is_transient };
            (time, FindingKind::Listener { change, listener })
        }
        Transition::Returned { time, call, socket, errno } => {
            (time, FindingKind::Returned { call, socket, errno })
        }
        Transition::Forgotten(_) => return None,
    };
    Some(Finding { mono: time, kind })
}
