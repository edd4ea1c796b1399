//! Bounds that no user fills for the others: what goes is of the user that has the most.

use std::collections::HashMap;
use std::hash::Hash;

use crate::model::process::Process;
use crate::model::socket::Listener;
use crate::model::time::Mono;

/// A user; `None`: it is not known which.
pub type Uid = Option<u32>;

/// Users whose drops are remembered one by one; on more, they count as those of a user that is not known.
const USERS_MAX: usize = 16;

/// The user that answers for a socket: that of the process that opened it, also where another one holds it now.
pub fn owner(socket: &Listener) -> Uid {
    socket.opened_by().uid
}

/// What makes room for one more of a user: of the user that has the most, what is over first, each with when it is and whose
/// it is; `None`: that user is this one.
pub fn evicted<K: Copy + Ord>(kept: impl IntoIterator<Item = (K, Mono, Uid)>, owner: Uid) -> Option<K> {
    let mut order: Vec<(K, Mono, Uid)> = kept.into_iter().collect();
    order.sort_by_key(|(key, until, _)| (*until, *key));
    // The new one is the last to go.
    let owners = order.iter().map(|(.., owner)| *owner).chain([owner]);
    let (key, _, most) = order.get(first_of_most(owners)?)?;
    (*most != owner).then_some(*key)
}

/// The place of what goes where there is one too many, of the owners of things in the order in which they go: the first of
/// the owner that has the most, so that no owner drops what is another's while it has more.
pub fn first_of_most<K: Eq + Hash>(owners: impl IntoIterator<Item = K>) -> Option<usize> {
    let mut of_owner: HashMap<K, (usize, usize)> = HashMap::new();
    for (place, owner) in owners.into_iter().enumerate() {
        of_owner.entry(owner).or_insert((0, place)).0 += 1;
    }
    let most = of_owner.into_values().max_by_key(|(count, first)| (*count, std::cmp::Reverse(*first)));
    most.map(|(_, first)| first)
}

/// What a bound has dropped: when the newest of each user was.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Dropped(Vec<(Uid, Mono)>);

impl Dropped {
    /// Something of a user was dropped that happened then.
    pub fn note(&mut self, uid: Uid, time: Mono) {
        let is_room = self.0.len() < USERS_MAX || self.0.iter().any(|(of, _)| *of == uid);
        let uid = uid.filter(|_| is_room);
        match self.0.iter_mut().find(|(of, _)| *of == uid) {
            Some((_, newest)) => *newest = time.max(*newest),
            None => self.0.push((uid, time)),
        }
    }

    /// When the newest happened that may be this process's user's; of one that is not known, the newest of all.
    pub fn newest_of(&self, process: Option<&Process>) -> Option<Mono> {
        let uid = process.and_then(|process| process.uid);
        let may_be = |of: Uid| of.is_none() || uid.is_none() || of == uid;
        self.0.iter().filter(|(of, _)| may_be(*of)).map(|(_, time)| *time).max()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_goes_is_of_the_owner_that_has_the_most() {
        assert_eq!(first_of_most([1, 2, 2, 1, 2]), Some(1));
        assert_eq!(first_of_most([1, 2, 2, 1]), Some(0), "of several that have as much, the first");
        assert_eq!(first_of_most([7]), Some(0));
        assert_eq!(first_of_most::<u32>([]), None);
    }

    #[test]
    fn no_owner_drops_what_is_anothers_while_it_has_more() {
        let mut kept = vec![(1, 0), (1, 1), (1, 2)];
        for number in 0..100 {
            kept.push((2, number));
            if kept.len() > 8 {
                kept.remove(first_of_most(kept.iter().map(|(owner, _)| *owner)).unwrap());
            }
        }
        assert_eq!(kept, [(1, 0), (1, 1), (1, 2), (2, 95), (2, 96), (2, 97), (2, 98), (2, 99)]);
    }

    #[test]
    fn what_was_dropped_is_of_its_user() {
        let of = |uid| Process { uid, ..Process::default() };
        let mut dropped = Dropped::default();
        assert_eq!(dropped.newest_of(None), None);
        dropped.note(Some(1), Mono(5));
        dropped.note(Some(2), Mono(9));
        dropped.note(Some(1), Mono(3));
        assert_eq!(dropped.newest_of(Some(&of(Some(1)))), Some(Mono(5)));
        assert_eq!(dropped.newest_of(Some(&of(Some(3)))), None);
        assert_eq!(
            (dropped.newest_of(Some(&of(None))), dropped.newest_of(None)),
            (Some(Mono(9)), Some(Mono(9)))
        );
        for uid in 10..100 {
            dropped.note(Some(uid), Mono(u64::from(uid)));
        }
        assert_eq!(dropped.newest_of(Some(&of(Some(3)))), Some(Mono(99)), "any of many may be it");
        assert!(dropped.0.len() <= USERS_MAX + 1);
    }
}
