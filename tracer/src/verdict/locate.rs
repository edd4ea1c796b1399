//! Where a refused destination is local, and where the packet filter is that refused by an ICMP message.

use std::collections::BTreeSet;

use std::net::IpAddr;

use super::coverage::Destination;
use crate::model::cause::Because;
use crate::model::kernel_event::{IcmpSender, Refused};
use crate::model::routing::LO;
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

/// The packet filter of this host that refused by an ICMP message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PacketFilter {
    pub netns: NetnsId,
    /// Why it may have been another one; `None`: it was this one.
    pub uncertain: Option<Because>,
}

/// Finds the packet filter that sent an ICMP message: of the client's namespace, or of one that it has a link to. `None`:
/// the message came from elsewhere, or the kernel did not keep where from.
pub fn packet_filter(refused: &Refused, state: &HostState) -> Option<PacketFilter> {
    let IcmpSender { addr, device } = refused.icmp?;
    let by = |netns, uncertain| Some(PacketFilter { netns, uncertain });
    // What a namespace sends to itself comes in by lo, and nothing else does.
    if device == LO {
        return by(refused.netns, None);
    }
    let own = state.namespaces.get(refused.netns)?;
    // In a VRF the own packets come in by its device, as those from outside do. And where NAT leads the address on to
    // another host, that host's message gets the address as its source (`nf_nat_icmp_reply_translation()`,
    // net/netfilter/nf_nat_proto.c).
    if own.has_address(addr) {
        return by(refused.netns, Some(Because::MayBeTranslated));
    }
    let is_other_end = |netns: NetnsId, veth| {
        let namespace = state.namespaces.get(netns);
        namespace.is_some_and(|other| other.has_end_of(veth) && other.has_address(addr))
    };
    let others = state.namespaces.iter().map(|namespace| namespace.id).filter(|id| *id != refused.netns);
    let mut found = BTreeSet::new();
    for netns in others {
        if own.veths_behind(device).any(|veth| is_other_end(netns, veth)) {
            found.insert(netns);
        }
    }
    let netns = *found.first()?;
    // Behind a bridge's ports there may be other hosts, which one of its namespaces could pass for.
    let is_ambiguous = found.len() > 1 || own.veths_behind(device).any(|veth| veth.index != device);
    let uncertain = if addr == refused.dst {
        Some(Because::MayBeTranslated)
    } else if is_ambiguous {
        Some(Because::AmbiguousNetns)
    } else {
        state.namespaces.any_unreadable().then_some(Because::NetnsUnreadable)
    };
    by(netns, uncertain)
}
