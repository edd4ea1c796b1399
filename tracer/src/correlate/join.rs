//! Joins a snapshot with the events that were recorded while it was taken.

use std::collections::{HashMap, HashSet};

use crate::event::{Closed, Event, Holders, Listener, NetnsId, Snapshot, SocketKey};

/// Sockets that are looked for by the thousand.
#[derive(Debug, Default)]
pub struct Keys {
    cookies: HashSet<u64>,
    /// The cookie of each.
    inodes: HashMap<u64, u64>,
}

impl FromIterator<SocketKey> for Keys {
    fn from_iter<T: IntoIterator<Item = SocketKey>>(keys: T) -> Self {
        let mut all = Self::default();
        for SocketKey { inode, cookie } in keys {
            if cookie != 0 {
                all.cookies.insert(cookie);
            }
            if inode != 0 {
                all.inodes.insert(inode, cookie);
            }
        }
        all
    }
}

impl Keys {
    /// Whether one of them is the same socket: as [`SocketKey::is_same`].
    pub fn contains(&self, key: SocketKey) -> bool {
        let is_same_inode = |cookie: &u64| *cookie == 0 || key.cookie == 0;
        key.cookie != 0 && self.cookies.contains(&key.cookie)
            || self.inodes.get(&key.inode).is_some_and(is_same_inode)
    }
}

/// The snapshot as of the moment before the first of `queued`, which are the events recorded since then
/// and not taken yet: the dump, minus the sockets whose first event is an opening, plus those whose first
/// event is a closing. Taking the events after it then misses no listener and counts none twice.
pub fn join<'a>(mut snapshot: Snapshot, queued: impl IntoIterator<Item = &'a Event>) -> Snapshot {
    let mut seen: HashSet<SocketKey> = HashSet::new();
    let (mut opened, mut closed) = (Vec::new(), Vec::new());
    for event in queued {
        let (key, closing): (SocketKey, Option<&Listener>) = match event {
            Event::Opened(opened) => (opened.listener.key, None),
            Event::Closed(closed) => (closed.listener.key, Some(&closed.listener)),
            Event::Refused(_)
            | Event::Bound(_)
            | Event::Destroyed(_)
            | Event::Exited(_)
            | Event::Candidate(_)
            | Event::Connected(_)
            | Event::Failed(_)
            | Event::Snapshot(_)
            | Event::OtherPorts(_)
            | Event::Holders(_)
            | Event::Claimed(_)
            | Event::Configured(_)
            | Event::Lost(_) => continue,
        };
        if seen.insert(key) {
            match closing {
                None => opened.push(key),
                Some(listener) => closed.push(listener),
            }
        }
    }
    if !opened.is_empty() {
        let opened: Keys = opened.into_iter().collect();
        snapshot.listeners.retain(|listener| !opened.contains(listener.key));
    }
    if !closed.is_empty() {
        let dumped: Keys = snapshot.listeners.iter().map(|listener| listener.key).collect();
        let looked_into: HashSet<NetnsId> = snapshot.namespaces.iter().map(|netns| netns.id).collect();
        let missing = closed
            .into_iter()
            .filter(|listener| looked_into.contains(&listener.netns) && !dumped.contains(listener.key));
        snapshot.listeners.extend(missing.map(|listener| Listener { since: None, ..listener.clone() }));
    }
    snapshot
}

/// A look at a port as of the moment before `queued`: without the sockets that have been bound since.
pub fn join_holders<'a>(mut holders: Holders, queued: impl IntoIterator<Item = &'a Event>) -> Holders {
    for event in queued {
        if let Event::Bound(bound) = event
            && bound.errno.is_none()
        {
            holders.sockets.retain(|holder| !holder.socket.key.is_same(bound.socket.key));
        }
    }
    holders
}

/// Whether a listener closed while the snapshot was taken. Such a dump can leave out sockets that stayed
/// open, and has to be taken again (seen on 5.10: 180 closed, 140 others left out).
pub fn is_disturbed<'a>(snapshot: &Snapshot, queued: impl IntoIterator<Item = &'a Event>) -> bool {
    let is_during = |closed: &Closed| closed.time >= snapshot.began && closed.time <= snapshot.ended;
    queued.into_iter().any(|event| matches!(event, Event::Closed(closed) if is_during(closed)))
}
