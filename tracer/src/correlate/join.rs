//! Joins a snapshot with the events that were recorded while it was taken.

use std::collections::HashSet;

use crate::event::{Closed, Event, Holders, Listener, Snapshot, SocketKey};

/// The snapshot as of the moment before the first of `queued`, which are the events recorded since then
/// and not taken yet: the dump, minus the sockets whose first event is an opening, plus those whose first
/// event is a closing. Taking the events after it then misses no listener and counts none twice.
pub fn join<'a>(mut snapshot: Snapshot, queued: impl IntoIterator<Item = &'a Event>) -> Snapshot {
    let mut seen: HashSet<(u64, u64)> = HashSet::new();
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
        if !seen.insert((key.inode, key.cookie)) {
            continue;
        }
        let place = snapshot.listeners.iter().position(|listener| listener.key.is_same(key));
        match (closing, place) {
            (None, Some(place)) => {
                snapshot.listeners.swap_remove(place);
            }
            (Some(listener), None) if snapshot.namespaces.iter().any(|netns| netns.id == listener.netns) => {
                snapshot.listeners.push(Listener { since: None, ..listener.clone() });
            }
            (None, None) | (Some(_), _) => {}
        }
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
