//! The network namespaces that were read, and those that could not be: each is known by its number and its cookie.

use std::net::IpAddr;

use crate::model::hash::HashMap;
use crate::model::namespace::Namespace;
use crate::model::socket::NetnsId;
use crate::model::time::{Interval, Mono};

/// Namespaces remembered; on more, those without a listener are dropped.
const NAMESPACES_MAX: usize = 4_096;

/// How old what is known of a namespace's addresses may be when a verdict rests on it: short against what a
/// person does, and long against what a query costs.
pub const FRESH_NS: u64 = 5_000_000;

#[derive(Clone, Debug)]
struct Known {
    namespace: Namespace,
    read: Interval,
}

/// Every namespace that has been read, and those that could not be.
#[derive(Debug, Default)]
pub struct Namespaces {
    known: HashMap<NetnsId, Known>,
    /// Those that a scan of the whole host could not read.
    unreadable: HashMap<NetnsId, Interval>,
    /// A scan of the whole host may have missed some.
    is_partial: bool,
    /// Those that were asked for alone and could not be read; most have ended.
    missed: HashMap<NetnsId, Interval>,
    /// Cookies of those that were known and are not found any more: what is remembered of them is of no other that
    /// gets their number.
    past: HashMap<NetnsId, u64>,
    /// The cookie of the last event in each, and when that was.
    shown: HashMap<NetnsId, (u64, Mono)>,
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

    /// Drops namespaces, and gives those that could not be distinguished from another with their number.
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

    /// Forgets what is known of a namespace that has ended. A query that failed since was of the one that has its number
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

    /// When a namespace was last read, with or without success.
    pub fn last_read(&self, netns: NetnsId) -> Option<Interval> {
        let known = self.known.get(&netns).map(|known| known.read);
        let failed = [self.unreadable.get(&netns).copied(), self.missed.get(&netns).copied()];
        [known].into_iter().chain(failed).flatten().max_by_key(|read| read.ended)
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
        let read = Interval { began: Mono(1), ended: Mono(2) };
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
            namespaces.insert(namespace, read);
            namespaces.set_unreadable(NetnsId(u32::MAX - number), false, read);
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
