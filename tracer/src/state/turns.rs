//! Which processes held a port one after another.

use std::collections::VecDeque;

use super::listeners::ClosedListener;
use crate::model::hash::HashMap;
use crate::model::process::Process;
use crate::model::socket::NetnsId;

/// Listeners of one port that are remembered: the newest.
const TURNS_MAX: usize = 32;

/// Ports of namespaces remembered; on more, the one goes whose last listener closed first.
const PORTS_MAX: usize = 256;

/// The listeners on each port that have closed, whatever took their place.
#[derive(Debug, Default)]
pub struct Turns {
    known: HashMap<(NetnsId, u16), VecDeque<ClosedListener>>,
}

impl Turns {
    /// A listener has closed. One that only tried the port did not hold it.
    pub fn closed(&mut self, closed: &ClosedListener) {
        if closed.is_short() {
            return;
        }
        let key = (closed.listener.netns, closed.listener.port);
        if self.known.len() >= PORTS_MAX && !self.known.contains_key(&key) {
            let last = |turns: &VecDeque<ClosedListener>| turns.back().map(|turn| turn.time);
            let oldest = self.known.iter().min_by_key(|(_, turns)| last(turns)).map(|(key, _)| *key);
            oldest.and_then(|key| self.known.remove(&key));
        }
        let turns = self.known.entry(key).or_default();
        if turns.len() >= TURNS_MAX {
            turns.pop_front();
        }
        turns.push_back(closed.clone());
    }

    /// The listeners on a port, the one that closed last first.
    pub fn on(&self, netns: NetnsId, port: u16) -> impl Iterator<Item = &ClosedListener> {
        self.known.get(&(netns, port)).into_iter().flat_map(|turns| turns.iter().rev())
    }

    /// Adds what was found out of a process.
    pub fn describe(&mut self, process: &Process) {
        for turn in self.known.values_mut().flatten() {
            turn.listener.process.complete(process);
        }
    }

    /// Forgets everything about a namespace.
    pub fn forget(&mut self, netns: NetnsId) {
        self.known.retain(|(of, _), _| *of != netns);
    }

    /// Forgets everything about a port.
    pub fn forget_port(&mut self, port: u16) {
        self.known.retain(|(_, on), _| *on != port);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::process::OwnerEnd;
    use crate::model::socket::{Listener, SocketKey};
    use crate::model::time::Mono;

    fn closed(netns: u32, since: u64, until: u64) -> ClosedListener {
        let listener = Listener {
            key: SocketKey { inode: until, cookie: until },
            netns: NetnsId(netns),
            addr: [127, 0, 0, 1].into(),
            port: 80,
            v6only: None,
            device: None,
            backlog: None,
            since: Some(Mono::from_millis(since)),
            process: Process::default(),
            opener: None,
        };
        ClosedListener::new(listener, Mono::from_millis(until), OwnerEnd::Running)
    }

    #[test]
    fn they_take_no_more_room_than_their_bounds() {
        let mut turns = Turns::default();
        for number in 0..3 * PORTS_MAX as u32 {
            turns.closed(&closed(number, 0, u64::from(number) + 100));
            assert!(turns.known.len() <= PORTS_MAX);
        }
        let last = 3 * PORTS_MAX as u32 - 1;
        assert_eq!((turns.on(NetnsId(last), 80).count(), turns.on(NetnsId(0), 80).count()), (1, 0));
        for number in 0..2 * TURNS_MAX as u64 {
            turns.closed(&closed(last, 1_000 * number, 1_000 * number + 500));
        }
        assert_eq!(turns.on(NetnsId(last), 80).count(), TURNS_MAX);
        turns.closed(&closed(last, 1, 3));
        let newest = turns.on(NetnsId(last), 80).next().map(|turn| turn.time);
        assert_eq!(
            newest,
            Some(Mono::from_millis(1_000 * (2 * TURNS_MAX as u64 - 1) + 500)),
            "a probe is not a turn"
        );
    }
}
