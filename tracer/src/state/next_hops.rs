//! Where processes with a watched listener connect to, and are answered: the processes that listen there may be the next
//! proxies of a chain, and their connects are recorded too.

use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::model::process::Process;
use crate::model::socket::{Listener, NetnsId};
use crate::model::time::Mono;
use crate::state::quota::{self, Uid};

/// Destinations that are followed at a time.
const FOLLOWED_MAX: usize = 16;

/// How long each is followed after it was reached last.
const FOLLOWED_NS: u64 = 600_000_000_000;

/// A destination, in the namespace that its address is local in.
pub type Reached = (NetnsId, IpAddr, u16);

/// What is known of a destination.
#[derive(Debug)]
struct Hop {
    /// The user whose process reached it first.
    owner: Uid,
    /// How many hops it is behind a port of the run.
    hops: u8,
    until: Mono,
    /// What answers there; `None`: it was not read.
    listeners: Option<Vec<Listener>>,
}

/// The destinations that are followed.
#[derive(Debug, Default)]
pub struct NextHops {
    known: BTreeMap<Reached, Hop>,
    /// Processes that listen at destinations that made room for others.
    given_up: Vec<Process>,
    /// Destinations that were not followed, or given up early, because there were too many.
    pub passed_over: u64,
}

impl NextHops {
    /// A destination was reached by a process of a user so many hops away from a port of the run. True where it is to be
    /// read what listens there. A user who has most of those that are followed gets no more, and makes room for another's.
    pub fn reached(&mut self, reached: Reached, hops: u8, owner: Uid, now: Mono) -> bool {
        let until = now.plus(FOLLOWED_NS);
        if let Some(hop) = self.known.get_mut(&reached) {
            hop.until = until;
            hop.hops = hop.hops.min(hops);
            return hop.listeners.as_ref().is_none_or(Vec::is_empty);
        }
        if self.known.len() >= FOLLOWED_MAX {
            self.passed_over += 1;
            let Some(dropped) = self.evicted(owner).and_then(|dropped| self.known.remove(&dropped)) else {
                return false;
            };
            let listeners = dropped.listeners.into_iter().flatten();
            self.given_up.extend(listeners.map(|listener| listener.process));
        }
        self.known.insert(reached, Hop { owner, hops, until, listeners: None });
        true
    }

    /// The destination that makes room for one of another user: that reached longest ago of the user that has the most;
    /// `None`: that is this one.
    fn evicted(&self, owner: Uid) -> Option<Reached> {
        let kept = self.known.iter().map(|(reached, hop)| (*reached, hop.until, hop.owner));
        quota::evicted(kept, owner)
    }

    /// The destinations on a port of a namespace whose listeners are to be read.
    pub fn unread(&self, netns: NetnsId, port: u16) -> Vec<IpAddr> {
        let unread = self.known.iter().filter(|(_, hop)| hop.listeners.as_ref().is_none_or(Vec::is_empty));
        let destinations = unread.map(|(reached, _)| *reached);
        destinations.filter(|(of, _, on)| (*of, *on) == (netns, port)).map(|(_, addr, _)| addr).collect()
    }

    /// Takes what listens at a destination.
    pub fn answered_by(&mut self, reached: Reached, listeners: Vec<Listener>) {
        if let Some(hop) = self.known.get_mut(&reached) {
            hop.listeners = Some(listeners);
        }
    }

    /// How many hops a process that listens at such a destination is behind a port of the run.
    pub fn hops(&self, pid: u32) -> Option<u8> {
        let is_it = |hop: &&Hop| hop.held_by(pid).next().is_some();
        self.known.values().filter(is_it).map(|hop| hop.hops).min()
    }

    /// What a process listens on at such destinations.
    pub fn held_by(&self, pid: u32) -> impl Iterator<Item = &Listener> {
        self.known.values().flat_map(move |hop| hop.held_by(pid))
    }

    /// A process has ended, or runs another program: what listens where it did is to be read again.
    pub fn ended(&mut self, pid: u32) {
        for hop in self.known.values_mut().filter(|hop| hop.held_by(pid).next().is_some()) {
            hop.listeners = None;
        }
    }

    /// When [`Self::expire`] has something to give.
    pub fn deadline(&self) -> Option<Mono> {
        self.known.values().map(|hop| hop.until).min()
    }

    /// The processes that listen where no process has connected to for long, or where others are followed instead.
    pub fn expire(&mut self, now: Mono) -> Vec<Process> {
        let is_over = |hop: &Hop| hop.until <= now;
        let over = self.known.values().filter(|hop| is_over(hop)).flat_map(|hop| &hop.listeners);
        let mut over: Vec<Process> = over.flatten().map(|listener| listener.process.clone()).collect();
        over.append(&mut self.given_up);
        self.known.retain(|_, hop| !is_over(hop));
        over
    }

    /// Forgets everything about a namespace.
    pub fn forget(&mut self, netns: NetnsId) {
        self.known.retain(|(of, ..), _| *of != netns);
    }
}

impl Hop {
    fn held_by(&self, pid: u32) -> impl Iterator<Item = &Listener> {
        let listeners = self.listeners.iter().flatten();
        listeners.filter(move |listener| listener.process.pid == Some(pid))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::socket::SocketKey;

    const MINUTE: u64 = 60_000_000_000;
    const OWNER: Uid = Some(1000);

    fn at(port: u16) -> Reached {
        (NetnsId(1), [127, 0, 0, 1].into(), port)
    }

    fn listener(pid: u32) -> Listener {
        Listener {
            key: SocketKey { inode: 1, cookie: 1 },
            netns: NetnsId(1),
            addr: [127, 0, 0, 1].into(),
            port: 80,
            v6only: None,
            device: None,
            backlog: None,
            since: None,
            process: Process { pid: Some(pid), ..Process::default() },
            opener: None,
        }
    }

    #[test]
    fn what_listens_is_read_once_and_again_when_it_has_ended() {
        let mut hops = NextHops::default();
        assert!(
            hops.reached(at(80), 1, OWNER, Mono(0)) && hops.reached(at(80), 1, OWNER, Mono(1)),
            "it is not read yet"
        );
        assert_eq!(hops.unread(NetnsId(1), 80).len(), 1);
        hops.answered_by(at(80), vec![listener(7)]);
        assert!(!hops.reached(at(80), 2, OWNER, Mono(2)) && hops.unread(NetnsId(1), 80).is_empty());
        assert_eq!((hops.hops(7), hops.hops(8)), (Some(1), None));
        hops.ended(7);
        assert!(hops.reached(at(80), 1, OWNER, Mono(3)) && hops.hops(7).is_none());
    }

    #[test]
    fn a_destination_is_followed_for_ten_minutes_after_it_was_reached() {
        let mut hops = NextHops::default();
        hops.reached(at(80), 1, OWNER, Mono(0));
        hops.answered_by(at(80), vec![listener(7)]);
        hops.reached(at(80), 1, OWNER, Mono(5 * MINUTE));
        assert!(hops.expire(Mono(15 * MINUTE - 1)).is_empty());
        assert_eq!(hops.deadline(), Some(Mono(15 * MINUTE)));
        let over: Vec<_> = hops.expire(Mono(15 * MINUTE)).into_iter().map(|process| process.pid).collect();
        assert_eq!((over, hops.deadline()), (vec![Some(7)], None));
    }

    #[test]
    fn no_more_destinations_than_the_bound_are_followed() {
        let mut hops = NextHops::default();
        let taken = (1..100).filter(|port| hops.reached(at(*port), 1, OWNER, Mono(0))).count();
        assert_eq!((taken, hops.known.len()), (FOLLOWED_MAX, FOLLOWED_MAX));
    }

    #[test]
    fn a_user_with_most_destinations_makes_room_for_another() {
        let mut hops = NextHops::default();
        (1..=20).for_each(|port| _ = hops.reached(at(port), 1, OWNER, Mono(u64::from(port))));
        hops.answered_by(at(1), vec![listener(7)]);
        assert!(hops.reached(at(9000), 1, Some(33), Mono(100)) && hops.known.len() == FOLLOWED_MAX);
        let given_up: Vec<_> = hops.expire(Mono(101)).into_iter().map(|process| process.pid).collect();
        assert_eq!(given_up, [Some(7)]);
        assert!(!hops.reached(at(9001), 1, OWNER, Mono(102)));
        assert_eq!(hops.passed_over, 6);
    }
}
