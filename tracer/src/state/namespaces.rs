//! What is known of the host's network namespaces: names, interfaces, and the addresses that are local.

use std::cmp::Reverse;
use std::net::IpAddr;
use std::slice;

use crate::model::hash::HashMap;
use crate::model::namespace::{Link, LocalRoute, Namespace};
use crate::model::socket::NetnsId;
use crate::model::time::{Interval, Mono};

/// Namespaces remembered; on more, those without a listener are dropped.
const NAMESPACES_MAX: usize = 4_096;

/// The routing table of addresses that are local outside of any VRF (`RT_TABLE_LOCAL`).
const TABLE_LOCAL: u32 = 255;

/// The tables that a connect outside of any VRF is routed by, where no rules were made, in order: local, main,
/// default (`fib_default_rules_init()`, net/ipv4/fib_rules.c; `fib6_lookup()`, net/ipv6/ip6_fib.c).
const TABLES: [u32; 3] = [TABLE_LOCAL, 254, 253];

/// The interface index of `lo`, the first one in every namespace.
pub(crate) const LO: u32 = 1;

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

#[derive(Clone, Debug)]
struct Known {
    namespace: Namespace,
    read: Interval,
}

/// Every namespace that has been scanned, and those that could not be.
#[derive(Debug, Default)]
pub struct Namespaces {
    known: HashMap<NetnsId, Known>,
    /// Those that a scan of the whole host could not read.
    unreadable: HashMap<NetnsId, Interval>,
    /// A scan of the whole host may have missed some.
    is_partial: bool,
    /// Those that were asked for alone and could not be read; most have ended.
    missed: HashMap<NetnsId, Interval>,
    /// Cookies of those that were known and are not to be seen any more: what is remembered of them is of no other that
    /// gets their number.
    past: HashMap<NetnsId, u64>,
    /// The cookie of the last event in each, and when that was.
    shown: HashMap<NetnsId, (u64, Mono)>,
}

impl Namespace {
    fn link(&self, index: u32) -> Option<&Link> {
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

impl Namespaces {
    pub fn insert(&mut self, namespace: Namespace, read: Interval) {
        self.unreadable.remove(&namespace.id);
        self.missed.remove(&namespace.id);
        self.past.remove(&namespace.id);
        self.known.insert(namespace.id, Known { namespace, read });
    }

    /// Notes that a namespace could not be read, in a scan of the whole host or alone.
    pub fn set_unreadable(&mut self, netns: NetnsId, whole_host: bool, read: Interval) {
        if whole_host {
            self.unreadable.insert(netns, read);
        } else {
            self.missed.insert(netns, read);
        }
    }

    /// Begins a new scan of the whole host: drops the namespaces that are not there, and what could not be
    /// read before. Gives those whose history is to be forgotten.
    #[must_use]
    pub fn retain(&mut self, is_there: impl Fn(NetnsId) -> bool) -> Vec<NetnsId> {
        self.unreadable.clear();
        self.missed.clear();
        self.is_partial = false;
        self.drop_unless(is_there)
    }

    /// Drops namespaces, and gives those that could not be distinguished from a later one with their number.
    fn drop_unless(&mut self, keep: impl Fn(NetnsId) -> bool) -> Vec<NetnsId> {
        let mut forgotten = Vec::new();
        let past = &mut self.past;
        self.known.retain(|netns, known| {
            if keep(*netns) {
                return true;
            }
            match known.namespace.cookie {
                0 => forgotten.push(*netns),
                cookie => _ = past.insert(*netns, cookie),
            }
            false
        });
        if past.len() > NAMESPACES_MAX {
            forgotten.extend(past.drain().map(|(netns, _)| netns));
        }
        forgotten
    }

    /// Forgets what is known of a namespace that has ended. A scan that failed since was of the one that has its number
    /// now: that stands.
    pub fn forget(&mut self, netns: NetnsId) {
        self.known.remove(&netns);
        self.past.remove(&netns);
    }

    /// Drops namespaces above the bound, those first that `keep` does not ask for. Gives those whose history is to be
    /// forgotten.
    #[must_use]
    pub fn shrink(&mut self, keep: impl Fn(NetnsId) -> bool) -> Vec<NetnsId> {
        if self.missed.len() > NAMESPACES_MAX {
            self.missed.clear();
        }
        if self.known.len() <= NAMESPACES_MAX {
            return Vec::new();
        }
        let own = self.iter().find(|namespace| namespace.is_own).map(|namespace| namespace.id);
        self.drop_unless(|netns| Some(netns) == own || keep(netns))
    }

    pub fn get(&self, netns: NetnsId) -> Option<&Namespace> {
        self.known.get(&netns).map(|known| &known.namespace)
    }

    pub fn iter(&self) -> impl Iterator<Item = &Namespace> {
        self.known.values().map(|known| &known.namespace)
    }

    pub fn len(&self) -> usize {
        self.known.len()
    }

    pub fn is_empty(&self) -> bool {
        self.known.is_empty()
    }

    pub fn is_unreadable(&self, netns: NetnsId) -> bool {
        self.unreadable.contains_key(&netns) || self.missed.contains_key(&netns)
    }

    pub fn any_unreadable(&self) -> bool {
        self.is_partial || !self.unreadable.is_empty()
    }

    /// The host may have namespaces that a scan did not find.
    pub fn set_partial(&mut self) {
        self.is_partial = true;
    }

    /// When a namespace was last scanned, with or without success.
    pub fn last_read(&self, netns: NetnsId) -> Option<Interval> {
        let known = self.known.get(&netns).map(|known| known.read);
        let failed = [self.unreadable.get(&netns).copied(), self.missed.get(&netns).copied()];
        [known].into_iter().chain(failed).flatten().max_by_key(|scan| scan.ended)
    }

    /// The cookie that distinguishes a namespace from a later one with its number; 0: unknown.
    pub fn cookie(&self, netns: NetnsId) -> u64 {
        let known =
            self.get(netns).map(|namespace| namespace.cookie).or_else(|| self.past.get(&netns).copied());
        let shown = || self.shown.get(&netns).map(|(cookie, _)| *cookie);
        known.filter(|cookie| *cookie != 0).or_else(shown).unwrap_or(0)
    }

    /// An event shows which namespace has this number by then.
    pub fn show(&mut self, netns: NetnsId, cookie: u64, time: Mono) {
        if cookie == 0 {
            return;
        }
        if self.shown.len() >= NAMESPACES_MAX && !self.shown.contains_key(&netns) {
            self.shown.clear();
        }
        self.shown.insert(netns, (cookie, time));
    }

    /// Whether a namespace that was read had given up its number by the end of that: an event since has shown another
    /// one with it.
    pub fn is_outdated(&self, namespace: &Namespace, read: Interval) -> bool {
        let shown = self.shown.get(&namespace.id);
        namespace.cookie != 0
            && shown.is_some_and(|(cookie, time)| *cookie != namespace.cookie && *time >= read.began)
    }

    /// The name of an interface, or its number where the name is not known.
    pub fn device_name(&self, netns: NetnsId, device: u32) -> String {
        self.get(netns)
            .and_then(|namespace| namespace.link(device))
            .map_or_else(|| device.to_string(), |link| link.name.clone())
    }

    /// The name of the interface that carries a specific address.
    pub fn interface_of(&self, netns: NetnsId, addr: IpAddr, device: Option<u32>) -> Option<String> {
        if addr.is_unspecified() {
            return None;
        }
        let namespace = self.get(netns)?;
        // A listener may be bound to another device than its address is on.
        let route = namespace.route_to(addr, device).or_else(|| namespace.route_to(addr, None))?;
        Some(self.device_name(netns, route.device))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn namespaces_that_come_and_go_by_the_thousand_take_no_more_room() {
        let scan = Interval { began: Mono(1), ended: Mono(2) };
        let mut namespaces = Namespaces::default();
        let mut forgotten = 0;
        for number in 1..=3 * NAMESPACES_MAX as u32 {
            let namespace = Namespace {
                id: NetnsId(number),
                cookie: u64::from(number),
                name: None,
                is_own: number == 1,
                links: Vec::new(),
                local: Vec::new(),
                l3mdev_accept: None,
            };
            namespaces.insert(namespace, scan);
            namespaces.set_unreadable(NetnsId(u32::MAX - number), false, scan);
            forgotten += namespaces.shrink(|_| false).len();
            let Namespaces { known, missed, past, .. } = &namespaces;
            assert!(known.len() <= NAMESPACES_MAX + 1 && missed.len() <= NAMESPACES_MAX + 1);
            assert!(past.len() <= NAMESPACES_MAX + 1);
        }
        // The own one stays, and the others are either distinguished from those that get their numbers, or forgotten whole.
        let Namespaces { known, past, .. } = &namespaces;
        assert!(known.contains_key(&NetnsId(1)));
        assert_eq!(known.len() + past.len() + forgotten, 3 * NAMESPACES_MAX);
    }
}
