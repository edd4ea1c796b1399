//! Ports that are watched for a while because a process that holds a watched listener was refused there.

use std::collections::BTreeMap;

use crate::model::ports::Ports;
use crate::model::time::{Interval, Mono};
use crate::state::quota::{self, Uid};

/// Ports that are watched besides those of the run.
pub const ADDED_MAX: usize = 16;

/// How long each is watched after its last refusal.
const WATCHED_NS: u64 = 600_000_000_000;

/// How many hops behind a port of the run are watched: a listener on an added port is held by a process that may be refused
/// in turn.
pub const HOPS_MAX: u8 = 3;

/// A port that was added.
#[derive(Clone, Copy, Debug)]
struct Added {
    /// The user whose process was refused there first.
    owner: Uid,
    /// How many hops it is behind a port of the run.
    hops: u8,
    until: Mono,
    /// When its listeners were read, which was after its events began to be recorded.
    read: Option<Interval>,
}

/// The ports that are watched from the start, and those that were added.
#[derive(Debug, Default)]
pub struct FollowedPorts {
    configured: Ports,
    added: BTreeMap<u16, Added>,
    /// Ports that were not added, or given up early, because there were too many.
    pub passed_over: u64,
}

/// What a refusal changes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Change {
    /// The port is watched from now on.
    pub is_new: bool,
    /// A port that is not watched any more: another of the user that has the most.
    pub given_up: Option<u16>,
}

impl FollowedPorts {
    pub fn new(configured: Ports) -> Self {
        Self { configured, ..Self::default() }
    }

    /// Whether a port is not one that is watched from the start.
    pub fn is_other(&self, port: u16) -> bool {
        !self.configured.contains(port)
    }

    /// How many hops a watched port is behind one of the run.
    pub fn hops(&self, port: u16) -> u8 {
        self.added.get(&port).map_or(0, |added| added.hops)
    }

    /// A process of a user that holds a listener so many hops away was refused at a port. A user who has most of those that
    /// are watched gets no more, and makes room for another's.
    pub fn refused(&mut self, port: u16, hops_of_client: u8, owner: Uid, now: Mono) -> Change {
        let until = now.plus(WATCHED_NS);
        if let Some(added) = self.added.get_mut(&port) {
            added.until = until;
            added.hops = added.hops.min(hops_of_client + 1);
            return Change::default();
        }
        if !self.is_other(port) || hops_of_client >= HOPS_MAX {
            return Change::default();
        }
        let mut given_up = None;
        if self.added.len() >= ADDED_MAX {
            self.passed_over += 1;
            given_up = self.evicted(owner);
            if given_up.is_none() {
                return Change::default();
            }
        }
        given_up.into_iter().for_each(|port| _ = self.added.remove(&port));
        self.added.insert(port, Added { owner, hops: hops_of_client + 1, until, read: None });
        Change { is_new: true, given_up }
    }

    /// The port that makes room for one of another user: that refused longest ago of the user that has the most; `None`:
    /// that is this one.
    fn evicted(&self, owner: Uid) -> Option<u16> {
        let kept = self.added.iter().map(|(port, added)| (*port, added.until, added.owner));
        quota::evicted(kept, owner)
    }

    /// The listeners on an added port were read, in every namespace.
    pub fn set_read(&mut self, port: u16, read: Interval) {
        if let Some(added) = self.added.get_mut(&port) {
            added.read.get_or_insert(read);
        }
    }

    /// Whether what listens on a port is to be read before a verdict about it.
    pub fn is_unread(&self, port: u16) -> bool {
        self.added.get(&port).is_some_and(|added| added.read.is_none())
    }

    /// Whether everything that happened on a port at that time and since is known.
    pub fn was_watched(&self, port: u16, at: Mono) -> bool {
        let read = self.added.get(&port).and_then(|added| added.read);
        !self.is_other(port) || read.is_some_and(|read| read.began < at)
    }

    /// Whether nothing that happens on a port is to be known: it was given up.
    pub fn is_unwatched(&self, port: u16) -> bool {
        self.is_other(port) && !self.added.contains_key(&port)
    }

    /// The ports that were added.
    pub fn added(&self) -> Vec<u16> {
        self.added.keys().copied().collect()
    }

    /// When [`Self::expire`] has something to give.
    pub fn deadline(&self) -> Option<Mono> {
        self.added.values().map(|added| added.until).min()
    }

    /// The ports that are watched no longer.
    pub fn expire(&mut self, now: Mono) -> Vec<u16> {
        let is_over = |added: &Added| added.until <= now;
        let over: Vec<u16> =
            self.added.iter().filter(|(_, added)| is_over(added)).map(|(port, _)| *port).collect();
        self.added.retain(|_, added| !is_over(added));
        over
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: u64 = 60_000_000_000;
    const OWNER: Uid = Some(1000);

    fn read_at(time: u64) -> Interval {
        Interval { began: Mono(time), ended: Mono(time + 1) }
    }

    #[test]
    fn a_port_is_watched_for_ten_minutes_after_its_last_refusal() {
        let mut ports = FollowedPorts::new(Ports::Only(vec![80]));
        assert!(
            ports.refused(9000, 0, OWNER, Mono(0)).is_new && !ports.refused(80, 0, OWNER, Mono(0)).is_new
        );
        assert!(!ports.refused(9000, 0, OWNER, Mono(9 * MINUTE)).is_new, "it is watched already");
        assert!(ports.expire(Mono(19 * MINUTE - 1)).is_empty());
        assert_eq!(ports.deadline(), Some(Mono(19 * MINUTE)));
        assert_eq!(ports.expire(Mono(19 * MINUTE)), [9000]);
        assert_eq!((ports.added(), ports.deadline()), (vec![], None));
    }

    #[test]
    fn what_came_before_the_listeners_were_read_is_not_known() {
        let mut ports = FollowedPorts::new(Ports::Only(vec![80]));
        assert!(ports.refused(9000, 0, OWNER, Mono(10)).is_new);
        assert!(ports.is_unread(9000) && !ports.was_watched(9000, Mono(100)));
        ports.set_read(9000, read_at(20));
        ports.set_read(9000, read_at(30));
        assert!(!ports.is_unread(9000) && !ports.was_watched(9000, Mono(20)));
        assert!(ports.was_watched(9000, Mono(21)), "the first time it was read counts");
        assert!(ports.was_watched(80, Mono(0)) && !ports.was_watched(81, Mono(100)));
    }

    #[test]
    fn neither_more_ports_than_the_bound_nor_more_hops_are_watched() {
        let mut ports = FollowedPorts::new(Ports::Only(vec![80]));
        assert!(!ports.refused(9000, HOPS_MAX, OWNER, Mono(0)).is_new, "too far away");
        for hops in 0..HOPS_MAX {
            assert!(ports.refused(9000 + u16::from(hops), hops, OWNER, Mono(0)).is_new);
            assert_eq!(ports.hops(9000 + u16::from(hops)), hops + 1);
        }
        let more = (1..100).filter(|number| ports.refused(*number, 0, OWNER, Mono(0)).is_new).count();
        assert_eq!((more, ports.added().len()), (ADDED_MAX - usize::from(HOPS_MAX), ADDED_MAX));
    }

    #[test]
    fn a_user_with_most_ports_makes_room_for_another() {
        let mut ports = FollowedPorts::new(Ports::Only(vec![80]));
        (1..=20).for_each(|port| _ = ports.refused(port, 0, OWNER, Mono(u64::from(port))));
        assert_eq!((ports.added().len(), ports.passed_over), (ADDED_MAX, 4));
        let change = ports.refused(9000, 0, Some(33), Mono(100));
        assert_eq!(change, Change { is_new: true, given_up: Some(1) });
        assert_eq!(ports.refused(9001, 0, OWNER, Mono(101)), Change::default());
        assert!(ports.is_unwatched(1) && !ports.is_unwatched(9000) && ports.added().len() == ADDED_MAX);
        assert_eq!(ports.passed_over, 6);
    }
}
