//! Joins the first scan of the host with the events that were recorded while it was taken.

use crate::model::hash::{HashMap, HashSet};
use crate::model::kernel_event::{Closed, KernelEvent};
use crate::model::socket::{Listener, NetnsId, SocketKey};
use crate::model::time::Interval;
use crate::query::Scan;

/// Keys of thousands of sockets, to search in.
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

/// The scan as of the moment before the first of `held`, which are the events recorded since then and not taken yet: the
/// dump, minus the sockets whose first event is an opening, plus those whose first event is a closing. Taking the events
/// after it then misses no listener and counts none twice.
pub fn join<'a>(mut scan: Scan, held: impl IntoIterator<Item = &'a KernelEvent>) -> Scan {
    let mut seen: HashSet<SocketKey> = HashSet::default();
    let (mut opened, mut closed) = (Vec::new(), Vec::new());
    for event in held {
        let (key, closing): (SocketKey, Option<&Listener>) = match event {
            KernelEvent::Opened(opened) => (opened.listener.key, None),
            KernelEvent::Closed(closed) => (closed.listener.key, Some(&closed.listener)),
            _ => continue,
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
        scan.listeners.retain(|listener| !opened.contains(listener.key));
    }
    if !closed.is_empty() {
        let dumped: Keys = scan.listeners.iter().map(|listener| listener.key).collect();
        let read: HashSet<NetnsId> = scan.namespaces.iter().map(|netns| netns.id).collect();
        let missing = closed
            .into_iter()
            .filter(|listener| read.contains(&listener.netns) && !dumped.contains(listener.key));
        scan.listeners.extend(missing.map(|listener| Listener { since: None, ..listener.clone() }));
    }
    scan
}

/// Whether a listener closed while the scan was taken. Such a dump can leave out sockets that stayed
/// open, and has to be taken again (seen on 5.10: 180 closed, 140 others left out).
pub fn is_disturbed<'a>(read: Interval, held: impl IntoIterator<Item = &'a KernelEvent>) -> bool {
    let is_during = |closed: &Closed| closed.time >= read.began && closed.time <= read.ended;
    held.into_iter().any(|event| matches!(event, KernelEvent::Closed(closed) if is_during(closed)))
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use super::*;
    use crate::model::kernel_event::{Closer, Opened, Shutdown};
    use crate::model::namespace::Namespace;
    use crate::model::process::Process;
    use crate::model::time::Mono;
    use crate::query::ScanScope;

    fn listener(inode: u64, cookie: u64) -> Listener {
        Listener {
            key: SocketKey { inode, cookie },
            netns: NetnsId(1),
            addr: IpAddr::V4(Ipv4Addr::LOCALHOST),
            port: 80,
            v6only: None,
            device: None,
            backlog: None,
            since: Some(Mono(7)),
            process: Process::default(),
            opener: None,
        }
    }

    fn opened(listener: Listener) -> KernelEvent {
        KernelEvent::Opened(Box::new(Opened {
            time: Mono(7),
            listener,
            tid: 1,
            netns_cookie: 0,
            was_hashed: None,
        }))
    }

    fn closed(listener: Listener) -> KernelEvent {
        KernelEvent::Closed(Box::new(Closed {
            time: Mono(7),
            listener,
            tid: 1,
            shutdown: Shutdown::Both,
            closer: Closer::Process,
            netns_cookie: 0,
            was_hashed: None,
        }))
    }

    fn joined(dump: &[Listener], queued: &[KernelEvent]) -> Vec<u64> {
        let namespace = Namespace {
            id: NetnsId(1),
            cookie: 0,
            name: None,
            is_own: true,
            links: Vec::new(),
            local: Vec::new(),
            l3mdev_accept: None,
        };
        let scan = Scan {
            scope: ScanScope::Host { is_partial: false },
            namespaces: vec![namespace],
            listeners: dump.to_vec(),
            unreadable: Vec::new(),
        };
        join(scan, queued).listeners.iter().map(|listener| listener.key.inode).collect()
    }

    #[test]
    fn what_opens_comes_by_its_event_and_what_closes_was_there() {
        let (one, two, three) = (listener(1, 0), listener(2, 0), listener(3, 0));
        let dump = [one.clone(), two.clone()];
        assert_eq!(joined(&dump, &[]), [1, 2]);
        // The dump has it already, and its event is still to come.
        assert_eq!(joined(&dump, &[opened(one.clone())]), [2]);
        // The dump has it no more, and its event would close an unknown listener.
        assert_eq!(joined(&dump, &[closed(three.clone())]), [1, 2, 3]);
        assert_eq!(joined(&dump, &[closed(one.clone())]), [1, 2]);
        // The first of several counts.
        assert_eq!(joined(&dump, &[opened(one.clone()), closed(one.clone())]), [2]);
        assert_eq!(joined(&dump, &[closed(one.clone()), opened(one)]), [1, 2]);
        assert_eq!(joined(&dump, &[opened(three.clone()), closed(three)]), [1, 2]);
        // Of a namespace that was not read, nothing is known.
        let elsewhere = Listener { netns: NetnsId(2), ..listener(4, 0) };
        assert_eq!(joined(&dump, &[closed(elsewhere)]), [1, 2]);
    }

    #[test]
    fn sockets_are_distinguished_as_one_by_one() {
        let keys = [(1, 0), (2, 20), (0, 30), (4, 40)].map(|(inode, cookie)| SocketKey { inode, cookie });
        let all: Keys = keys.into_iter().collect();
        for (inode, cookie) in
            [(1, 0), (1, 10), (2, 20), (2, 0), (2, 21), (9, 20), (0, 30), (0, 0), (4, 30), (5, 50)]
        {
            let key = SocketKey { inode, cookie };
            assert_eq!(all.contains(key), keys.iter().any(|known| known.is_same(key)), "{key:?}");
        }
    }

    #[test]
    fn a_dump_that_a_listener_closed_under_is_taken_again() {
        let read = |began| Interval { began: Mono(began), ended: Mono(9) };
        assert!(is_disturbed(read(5), &[closed(listener(1, 0))]));
        assert!(!is_disturbed(read(8), &[closed(listener(1, 0))]));
        assert!(!is_disturbed(read(5), &[opened(listener(1, 0))]));
    }
}
