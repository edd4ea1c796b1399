//! What the user side adds to the kernel side's filters while it runs: processes whose connects are recorded on every port,
//! and ports.

use std::collections::BTreeSet;

use aya::maps::{Array, HashMap, MapData};
use tracer_ebpf::gate;

use crate::model::time::StartTime;

/// The tables of processes that hold a listener and of added ports, and the gates that keep them from costs while they are
/// empty.
pub struct Upstream {
    pub(super) holders: HashMap<MapData, u32, u64>,
    pub(super) gates: Array<MapData, u64>,
    /// A bit a port.
    pub(super) ports: Array<MapData, u64>,
    pub(super) added: BTreeSet<u16>,
}

impl Upstream {
    pub fn new(
        holders: HashMap<MapData, u32, u64>,
        gates: Array<MapData, u64>,
        ports: Array<MapData, u64>,
    ) -> Self {
        Self { holders, gates, ports, added: BTreeSet::new() }
    }

    /// Has the connects of a process recorded on every port. A full table takes no more, which the table of followed
    /// processes counts: each of these is in it too.
    pub fn follow(&mut self, pid: u32, start: Option<StartTime>) {
        let start = start.map_or(0, StartTime::boottime);
        if self.holders.insert(pid, start, 0).is_ok() {
            // It exists: the gates are an array.
            let _ = self.gates.set(gate::HOLDERS, 1, 0);
        }
    }

    /// Has the connects of a process recorded on watched ports only.
    pub fn unfollow(&mut self, pid: u32) {
        // It may have ended.
        let _ = self.holders.remove(&pid);
    }

    /// Has a port watched, or no longer.
    pub fn watch(&mut self, port: u16, is_watched: bool) {
        let is_new = if is_watched { self.added.insert(port) } else { self.added.remove(&port) };
        if !is_new {
            return;
        }
        let word = port / 64;
        let of_word = self.added.range(word * 64..=word * 64 + 63);
        let bits = of_word.fold(0_u64, |bits, port| bits | 1 << (port % 64));
        // Both exist: the maps are arrays.
        let _ = self.ports.set(u32::from(word), bits, 0);
        let _ = self.gates.set(gate::ADDED_PORTS, self.added.len() as u64, 0);
    }

    /// Whether a connect to a port that is watched from the start has begun; `None`: the map cannot be read.
    pub fn has_connect(&self) -> Option<bool> {
        self.gates.get(&gate::CONNECTS, 0).ok().map(|seen| seen != 0)
    }
}
