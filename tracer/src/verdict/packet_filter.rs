//! Whether a packet filter refused, and in which namespace of this host it is.

use std::collections::BTreeSet;

use crate::model::cause::Because;
use crate::model::kernel_event::{IcmpSender, Refused, SentBy, Via};
use crate::model::routing::LO;
use crate::model::socket::NetnsId;
use crate::state::HostState;

/// No listener was asked: a packet filter's own reset, or an ICMP message.
pub fn is_filtered(refused: &Refused) -> bool {
    refused.sent_by == Some(SentBy::Filter) || refused.via == Via::Icmp
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
pub fn find(refused: &Refused, state: &HostState) -> Option<PacketFilter> {
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
