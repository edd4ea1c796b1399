//! How a connect from inside a namespace reaches an address that is local there: by which interface, over which VRF.

use std::cmp::Reverse;
use std::net::IpAddr;
use std::slice;

use super::namespace::{Link, LocalRoute, Namespace};

/// The routing table of addresses that are local outside of any VRF (`RT_TABLE_LOCAL`).
const TABLE_LOCAL: u32 = 255;

/// The tables that a connect outside of any VRF is routed by, where no rules were made, in order: local, main,
/// default (`fib_default_rules_init()`, net/ipv4/fib_rules.c; `fib6_lookup()`, net/ipv6/ip6_fib.c).
const TABLES: [u32; 3] = [TABLE_LOCAL, 254, 253];

/// The interface index of `lo`, the first one in every namespace.
pub const LO: u32 = 1;

/// How a connect reaches a local address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    /// Interface that carries the address.
    pub device: u32,
    /// The VRF that the connect goes over.
    pub vrf: Option<u32>,
    /// Whether a listener bound to no device answers in a VRF.
    pub l3mdev_accept: bool,
}

impl Namespace {
    /// The interface with this index.
    pub fn link(&self, index: u32) -> Option<&Link> {
        self.links.iter().find(|link| link.index == index)
    }

    /// The VRF that an interface is, or belongs to.
    fn vrf_of(&self, device: u32) -> Option<&Link> {
        let link = self.link(device)?;
        if link.vrf_table.is_some() {
            return Some(link);
        }
        self.link(link.master?).filter(|master| master.vrf_table.is_some())
    }

    /// Whether an address is local here, in whichever table.
    pub fn has_address(&self, addr: IpAddr) -> bool {
        self.local.iter().any(|route| route.contains(addr))
    }

    /// The veths whose packets come in by an interface: itself, or what is enslaved to it, such as a bridge's ports.
    pub fn veths_behind(&self, device: u32) -> impl Iterator<Item = &Link> {
        self.links
            .iter()
            .filter(move |link| link.peer.is_some() && (link.index == device || link.master == Some(device)))
    }

    /// Whether the other end of a veth of another namespace can be here. The ends name each other by their indexes, which are
    /// unique in a namespace only.
    pub fn has_end_of(&self, veth: &Link) -> bool {
        veth.peer.and_then(|peer| self.link(peer)).is_some_and(|end| end.peer == Some(veth.index))
    }

    /// How a connect from a socket bound to `device` reaches `addr`, when that is local here.
    pub fn route_to(&self, addr: IpAddr, device: Option<u32>) -> Option<Route> {
        let vrf = device.and_then(|device| self.vrf_of(device));
        let own_table = vrf.and_then(|link| link.vrf_table);
        let tables = own_table.as_ref().map_or(&TABLES[..], slice::from_ref);
        let l3mdev_accept = self.l3mdev_accept.unwrap_or(false);
        let first = |is_usable: &dyn Fn(&LocalRoute) -> bool| {
            tables.iter().find_map(|table| {
                let matching =
                    |route: &&LocalRoute| route.table == *table && route.contains(addr) && is_usable(route);
                // Of equal ones the first: it was there first, and the dump has the kernel's order.
                self.local.iter().filter(matching).min_by_key(|route| Reverse(route.prefix_len))
            })
        };
        // A socket bound to a device is routed through no other, not even to an address of this host:
        // `fib_lookup_good_nhc()` (net/ipv4/fib_trie.c, flowi4_oif) and `rt6_score_route()` (net/ipv6/route.c,
        // RT6_LOOKUP_F_IFACE). What it asks for is then outside, whichever namespace has the address. A VRF itself goes to
        // each of its devices (`l3mdev_update_flow()`).
        let through = |device: u32| first(&|route| route.device == device);
        let route = match device {
            None => first(&|_| true),
            Some(device) if vrf.is_some() => through(device).or_else(|| first(&|_| true)),
            Some(device) => through(device),
        };
        // In whichever table, a VRF's too.
        let is_local = self.has_address(addr);
        let device = match route {
            Some(route) => route.device,
            // Over lo the own namespace has every IPv4 address: what no route leads to is taken to be on the
            // link (`ip_route_output_key_hash_rcu()`), and on lo the link is this host (`__mkroute_output()`,
            // IFF_LOOPBACK).
            None if device == Some(LO) && addr.is_ipv4() && is_local => LO,
            // lo's own addresses are local even while the table has not been read.
            None if addr.is_loopback() && vrf.is_none() && device.is_none_or(|device| device == LO) => LO,
            None => return None,
        };
        // What is sent to this host goes over the VRF that the address's device belongs to, and over lo where there
        // is none (`ip_route_output_key_hash_rcu()`, net/ipv4/route.c: "L3 master device is the loopback for that
        // domain"); to a link-local address over lo always (`ip6_rt_get_dev_rcu()`, net/ipv6/route.c).
        let is_link_local = matches!(addr, IpAddr::V6(v6) if v6.is_unicast_link_local());
        let vrf = self.vrf_of(device).filter(|_| !is_link_local).map(|link| link.index);
        Some(Route { device, vrf, l3mdev_accept })
    }

    /// The addresses that a client in this namespace can be expected to use: 127.0.0.1, `::1` and the interfaces' own,
    /// without link-local ones. Sorted as people expect: loopback first, IPv4 before IPv6.
    pub fn addresses(&self) -> Vec<IpAddr> {
        let mut addresses: Vec<IpAddr> = self
            .local
            .iter()
            .filter(|route| route.table == TABLE_LOCAL)
            .filter_map(|route| match route.addr {
                IpAddr::V4(v4) if v4.is_loopback() => (v4.octets()[3] == 1).then_some(route.addr),
                IpAddr::V4(_) => (route.prefix_len == 32).then_some(route.addr),
                IpAddr::V6(v6) => {
                    (route.prefix_len == 128 && !v6.is_unicast_link_local()).then_some(route.addr)
                }
            })
            .collect();
        addresses.sort_by_key(|addr| (!addr.is_loopback(), addr.is_ipv6(), *addr));
        addresses.dedup();
        addresses
    }
}
