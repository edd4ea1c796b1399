//! Network namespaces: their addresses and interfaces.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::socket::NetnsId;

/// One address range that a namespace takes for its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LocalRoute {
    pub addr: IpAddr,
    pub prefix_len: u8,
    /// Interface that carries it.
    pub device: u32,
    /// Routing table: 255, or a VRF's own.
    pub table: u32,
}

impl LocalRoute {
    pub fn contains(&self, addr: IpAddr) -> bool {
        match (self.addr, addr) {
            (IpAddr::V4(own), IpAddr::V4(other)) => {
                let shift = 32 - u32::from(self.prefix_len.min(32));
                own.to_bits().checked_shr(shift).unwrap_or(0)
                    == other.to_bits().checked_shr(shift).unwrap_or(0)
            }
            (IpAddr::V6(own), IpAddr::V6(other)) => {
                let shift = 128 - u32::from(self.prefix_len.min(128));
                own.to_bits().checked_shr(shift).unwrap_or(0)
                    == other.to_bits().checked_shr(shift).unwrap_or(0)
            }
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => false,
        }
    }
}

/// One network interface.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Link {
    pub index: u32,
    pub name: String,
    /// Index of the interface it is enslaved to.
    pub master: Option<u32>,
    /// Routing table, when the interface is a VRF.
    pub vrf_table: Option<u32>,
    /// Of a veth pair whose other end is in another namespace: the index of that end.
    pub peer: Option<u32>,
}

/// What a verdict rests on of a network namespace, besides its listeners.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Namespace {
    pub id: NetnsId,
    /// 0: unknown (before 5.14).
    pub cookie: u64,
    /// Name under `/run/netns`.
    pub name: Option<String>,
    /// The namespace that the tracer itself runs in.
    pub is_own: bool,
    pub links: Vec<Link>,
    pub local: Vec<LocalRoute>,
    /// `net.ipv4.tcp_l3mdev_accept`; `None`: there is no VRF, or it could not be read.
    pub l3mdev_accept: Option<bool>,
}
