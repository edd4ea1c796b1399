//! Processes that forward another port to a watched one, as they were found last.

use crate::model::forwarder::Forwarder;
use crate::model::hash::HashMap;
use crate::model::socket::NetnsId;
use crate::model::time::Interval;

/// Ports of namespaces whose forwarders are remembered.
const PORTS_MAX: usize = 256;

/// The forwarders to each port that was asked about.
#[derive(Debug, Default)]
pub struct Forwarders {
    known: HashMap<(NetnsId, u16), Known>,
}

#[derive(Debug)]
struct Known {
    read: Interval,
    found: Vec<Forwarder>,
}

impl Forwarders {
    /// Takes the processes of a namespace that forward to this port of another place.
    pub fn set(&mut self, netns: NetnsId, port: u16, found: Vec<Forwarder>, read: Interval) {
        if self.known.len() >= PORTS_MAX && !self.known.contains_key(&(netns, port)) {
            let oldest = self.known.iter().min_by_key(|(_, known)| known.read.ended).map(|(key, _)| *key);
            oldest.and_then(|key| self.known.remove(&key));
        }
        self.known.insert((netns, port), Known { read, found });
    }

    /// When they were read.
    pub fn last_read(&self, netns: NetnsId, port: u16) -> Option<Interval> {
        self.known.get(&(netns, port)).map(|known| known.read)
    }

    /// Those of a port.
    pub fn to(&self, netns: NetnsId, port: u16) -> &[Forwarder] {
        self.known.get(&(netns, port)).map(|known| known.found.as_slice()).unwrap_or_default()
    }

    /// Forgets everything about a namespace.
    pub fn forget(&mut self, netns: NetnsId) {
        self.known.retain(|(of, _), _| *of != netns);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::time::Mono;

    #[test]
    fn they_take_no_more_room_than_their_bound() {
        let mut forwarders = Forwarders::default();
        for number in 0..3 * PORTS_MAX as u32 {
            let moment = Mono(u64::from(number));
            forwarders.set(NetnsId(number), 80, Vec::new(), Interval { began: moment, ended: moment });
            assert!(forwarders.known.len() <= PORTS_MAX);
        }
        assert!(forwarders.last_read(NetnsId(3 * PORTS_MAX as u32 - 1), 80).is_some(), "the newest stays");
        assert!(forwarders.last_read(NetnsId(0), 80).is_none());
    }
}
