//! In which namespace the destination of a connect is local.

use std::net::IpAddr;

use super::coverage::Destination;
use crate::model::kernel_event::Refused;
use crate::model::socket::NetnsId;
use crate::state::HostState;

/// Where a destination is local.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// In the client's own namespace.
    Here(Destination),
    /// In another namespace; `is_ambiguous`: in several.
    Elsewhere { destination: Destination, is_ambiguous: bool },
    /// In no namespace of this host.
    Nowhere(Destination),
}

impl Place {
    /// The destination, in the namespace that it is local in; the client's, where it is local nowhere.
    pub fn destination(self) -> Destination {
        match self {
            Self::Here(destination) | Self::Elsewhere { destination, .. } | Self::Nowhere(destination) => {
                destination
            }
        }
    }
}

/// Where a process connects to.
#[derive(Clone, Copy, Debug)]
pub struct Way {
    /// The namespace of the process.
    pub netns: NetnsId,
    pub addr: IpAddr,
    pub port: u16,
    /// The interface that its socket is bound to.
    pub device: Option<u32>,
}

/// Finds the namespace that a refused destination is local in.
pub fn locate(refused: &Refused, state: &HostState) -> Place {
    let Refused { netns, dst, dst_port, device, .. } = *refused;
    find(Way { netns, addr: dst, port: dst_port, device }, state)
}

/// The same of any destination.
pub fn find(way: Way, state: &HostState) -> Place {
    let HostState { listeners, namespaces, .. } = state;
    let Way { netns: from, addr, port, device } = way;
    let to = |netns: NetnsId, route| Destination { netns, addr, port, route };
    let here = namespaces.get(from);
    if let Some(route) = here.and_then(|namespace| namespace.route_to(addr, device)) {
        return Place::Here(to(from, Some(route)));
    }
    // Loopback is never routed out. A namespace that could not be read may have the address.
    if addr.is_loopback() || here.is_none() {
        return Place::Here(to(from, None));
    }
    let mut found: Vec<_> = namespaces
        .iter()
        .filter(|namespace| namespace.id != from)
        .filter_map(|namespace| Some(to(namespace.id, Some(namespace.route_to(addr, None)?))))
        .collect();
    // Of several, one that has a listener on the port is the likelier one; then the lowest number, so
    // that the same refusal gets the same verdict.
    found.sort_by_key(|place| (listeners.count_in(place.netns, place.port) == 0, place.netns));
    match found.first() {
        None => Place::Nowhere(to(from, None)),
        Some(destination) => Place::Elsewhere { destination: *destination, is_ambiguous: found.len() > 1 },
    }
}
