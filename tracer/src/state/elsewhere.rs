//! What the processes of a namespace listen on besides the watched ports: other TCP ports, Unix sockets, UDP ports.

use crate::model::hash::HashMap;
use crate::model::local_socket::{LocalEndpoint, LocalSocket};
use crate::model::socket::{Listener, NetnsId};
use crate::model::time::{Interval, Mono};

/// Namespaces of which it is remembered what servers listen on besides the watched ports.
const OTHER_PORTS_MAX: usize = 256;

/// Processes of which it is remembered what they listen on besides TCP.
const LOCAL_SOCKETS_MAX: usize = 1_024;

/// Listeners of a namespace on ports that are not watched.
#[derive(Debug)]
struct OtherPorts {
    read: Interval,
    listeners: Vec<Listener>,
    /// Processes that have ended since, and their listeners with them.
    ended: Vec<(u32, Mono)>,
}

/// What a process listens on besides TCP.
#[derive(Debug)]
struct LocalSockets {
    read: Interval,
    endpoints: Vec<LocalEndpoint>,
}

/// The sockets of servers that no client of a watched port reaches.
#[derive(Debug, Default)]
pub struct Elsewhere {
    other_ports: HashMap<NetnsId, OtherPorts>,
    local_sockets: HashMap<u32, LocalSockets>,
}

impl Elsewhere {
    /// Takes the listeners of a namespace on ports that are not watched.
    pub fn set_other_ports(&mut self, netns: NetnsId, listeners: Vec<Listener>, read: Interval) {
        if self.other_ports.len() >= OTHER_PORTS_MAX && !self.other_ports.contains_key(&netns) {
            let oldest =
                self.other_ports.iter().min_by_key(|(_, other)| other.read.ended).map(|(netns, _)| *netns);
            oldest.and_then(|netns| self.other_ports.remove(&netns));
        }
        self.other_ports.insert(netns, OtherPorts { read, listeners, ended: Vec::new() });
    }

    /// When the other ports of a namespace were read.
    pub fn other_ports_read(&self, netns: NetnsId) -> Option<Interval> {
        self.other_ports.get(&netns).map(|other| other.read)
    }

    /// What a process listened on at that time besides the watched ports.
    pub fn other_listeners(&self, netns: NetnsId, pid: u32, at: Mono) -> impl Iterator<Item = &Listener> {
        let had_ended =
            move |other: &&OtherPorts| other.ended.iter().any(|(ended, time)| *ended == pid && *time <= at);
        let other = self.other_ports.get(&netns).filter(|other| !had_ended(other));
        let listeners = other.into_iter().flat_map(|other| &other.listeners);
        listeners.filter(move |listener| listener.process.pid == Some(pid))
    }

    /// What every process of a namespace that had not ended by that time listened on besides the watched ports.
    pub fn all_other_listeners(&self, netns: NetnsId, at: Mono) -> impl Iterator<Item = &Listener> {
        self.other_ports.get(&netns).into_iter().flat_map(move |other| {
            let has_ended =
                move |pid: u32| other.ended.iter().any(|(ended, time)| *ended == pid && *time <= at);
            let listeners = other.listeners.iter();
            listeners.filter(move |listener| !listener.process.pid.is_some_and(has_ended))
        })
    }

    /// Takes what processes listen on besides TCP.
    pub fn set_local_sockets(&mut self, pids: &[u32], sockets: Vec<LocalSocket>, read: Interval) {
        if self.local_sockets.len() + pids.len() > LOCAL_SOCKETS_MAX {
            self.local_sockets.clear();
        }
        for pid in pids {
            self.local_sockets.insert(*pid, LocalSockets { read, endpoints: Vec::new() });
        }
        for LocalSocket { pid, endpoint } in sockets {
            if let Some(known) = self.local_sockets.get_mut(&pid) {
                known.endpoints.push(endpoint);
            }
        }
    }

    /// When it was read what a process listens on besides TCP.
    pub fn local_sockets_read(&self, pid: u32) -> Option<Interval> {
        self.local_sockets.get(&pid).map(|known| known.read)
    }

    /// What a process listens on besides TCP.
    pub fn local_sockets(&self, pid: u32) -> &[LocalEndpoint] {
        self.local_sockets.get(&pid).map(|known| known.endpoints.as_slice()).unwrap_or_default()
    }

    /// A process has ended, and with it its sockets.
    pub fn ended(&mut self, pid: u32, time: Mono) {
        for other in self.other_ports.values_mut() {
            if other.listeners.iter().any(|listener| listener.process.pid == Some(pid)) {
                other.ended.push((pid, time));
            }
        }
        self.local_sockets.remove(&pid);
    }

    /// Forgets everything about a namespace.
    pub fn forget(&mut self, netns: NetnsId) {
        self.other_ports.remove(&netns);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_ports_take_no_more_room_than_their_bound() {
        let mut elsewhere = Elsewhere::default();
        for number in 0..3 * OTHER_PORTS_MAX as u32 {
            let read = Interval { began: Mono(u64::from(number)), ended: Mono(u64::from(number)) };
            elsewhere.set_other_ports(NetnsId(number), Vec::new(), read);
            assert!(elsewhere.other_ports.len() <= OTHER_PORTS_MAX);
        }
        assert!(
            elsewhere.other_ports_read(NetnsId(3 * OTHER_PORTS_MAX as u32 - 1)).is_some(),
            "the newest stays"
        );
    }
}
