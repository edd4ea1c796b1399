//! What a connect that was not made would get, now or at the moment of a refusal.

use std::net::IpAddr;

use super::considered::{ConsideredListener, Moment, nearest};
use super::coverage::{self, Destination, WILDCARDS, was_there};
use crate::model::socket::{Listener, NetnsId};
use crate::model::time::Mono;
use crate::state::listeners::Listeners;
use crate::state::namespaces::Namespaces;

/// What a client inside a namespace would get from an address now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prospect {
    pub destination: Destination,
    pub answered: bool,
    /// Nearest first, at most [`CONSIDERED_MAX`](super::considered::CONSIDERED_MAX).
    pub considered: Vec<ConsideredListener>,
    pub total: u64,
}

/// What a connect made now, inside `netns`, would get.
pub fn foresee(
    netns: NetnsId,
    addr: IpAddr,
    port: u16,
    listeners: &Listeners,
    namespaces: &Namespaces,
) -> Prospect {
    let route = namespaces.get(netns).and_then(|namespace| namespace.route_to(addr, None));
    let destination = Destination { netns, addr, port, route };
    let (considered, total) = nearest(&destination, Moment::Now, listeners, std::iter::empty());
    Prospect { destination, answered: is_answered(&destination, listeners), considered, total }
}

/// Whether a connect made now would be answered.
pub fn is_answered(destination: &Destination, listeners: &Listeners) -> bool {
    let Destination { netns, addr, port, .. } = *destination;
    let mut near = WILDCARDS.into_iter().chain([addr]).flat_map(|addr| listeners.bound_to(netns, addr, port));
    destination.route.is_some() && near.any(|listener| coverage::mismatch(listener, destination).is_none())
}

/// Whether a connect made when another was refused would have been answered.
pub fn was_answered(destination: &Destination, refused: Mono, listeners: &Listeners) -> bool {
    let Destination { netns, addr, port, .. } = *destination;
    let near = WILDCARDS.into_iter().chain([addr]).flat_map(|addr| listeners.bound_to(netns, addr, port));
    let mut near = near.chain(listeners.closed_after(refused).map(|closed| &closed.listener));
    let answers = |listener: &Listener| {
        was_there(listener, refused) && coverage::mismatch(listener, destination).is_none()
    };
    destination.route.is_some() && near.any(answers)
}
