//! Whether a packet filter of this host refused, and which.

use super::Scene;
use crate::verdict::locate::Place;
use crate::verdict::packet_filter::{self, PacketFilter, is_filtered};

impl Scene<'_> {
    /// The packet filter of this host that refused by an ICMP message, as far as that is known.
    pub fn packet_filter(&self) -> Option<PacketFilter> {
        packet_filter::find(self.refused, self.state)
    }

    /// A packet filter of this host refused, and no listener covers the destination.
    pub fn is_filtered_here(&self) -> bool {
        match self.place {
            // The sender that an ICMP message names for another host's address may be that host.
            Place::Nowhere(_) => self.packet_filter().is_some(),
            Place::Here(destination) | Place::Elsewhere { destination, .. } => {
                destination.route.is_some() && is_filtered(self.refused) && self.covered_for().is_none()
            }
        }
    }
}
