//! Processes whose end the user side asks the kernel side to record.

use std::collections::BTreeSet;

use aya::maps::{HashMap, MapData};

/// Processes without a place that are remembered, so that each is counted once.
const UNFOLLOWED_MAX: usize = 4_096;

/// The table of followed processes, which the kernel side adds to as well.
pub struct Followed {
    map: HashMap<MapData, u32, u32>,
    /// Processes that found no place in it.
    unfollowed: BTreeSet<u32>,
    unfollowed_count: u64,
}

impl Followed {
    pub fn new(map: HashMap<MapData, u32, u32>) -> Self {
        Self { map, unfollowed: BTreeSet::new(), unfollowed_count: 0 }
    }

    /// Asks for the end of a process to be recorded. Where the table is full it is not, which is counted once a process.
    pub fn add(&mut self, pid: u32) {
        if self.map.insert(pid, 1, 0).is_err() && self.unfollowed.insert(pid) {
            self.unfollowed_count += 1;
            if self.unfollowed.len() > UNFOLLOWED_MAX {
                self.unfollowed.clear();
            }
        }
    }

    /// How many processes found no place.
    pub fn unfollowed(&self) -> u64 {
        self.unfollowed_count
    }
}
