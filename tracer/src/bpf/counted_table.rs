//! A table of the kernel side that the user side fills: what finds no place in it is counted, once each.

use std::collections::BTreeSet;

use aya::Pod;
use aya::maps::{HashMap, MapData, MapError};

/// `BPF_NOEXIST` (linux/bpf.h).
const NOEXIST: u64 = 1;

/// Keys without a place that are remembered, so that each is counted once.
const REMEMBERED_MAX: usize = 4_096;

/// A table of keys, and what the kernel side notes of each: of followed processes, which the kernel side adds to as well, or
/// of names.
pub struct CountedTable<K: Pod> {
    map: HashMap<MapData, K, u32>,
    /// Keys that found no place in it.
    without_place: BTreeSet<K>,
    count: u64,
}

impl<K: Pod + Ord> CountedTable<K> {
    pub fn new(map: HashMap<MapData, K, u32>) -> Self {
        Self { map, without_place: BTreeSet::new(), count: 0 }
    }

    /// Adds a key. Where the table is full it is not added, which is counted once a key.
    pub fn add(&mut self, key: K) {
        if !self.insert(key) && self.without_place.insert(key) {
            self.count += 1;
            if self.without_place.len() > REMEMBERED_MAX {
                self.without_place.clear();
            }
        }
    }

    /// Whether the table has the key now. What the kernel side has noted of it stays.
    fn insert(&mut self, key: K) -> bool {
        match self.map.insert(key, 1, NOEXIST) {
            Ok(()) => true,
            Err(MapError::SyscallError(error)) => error.io_error.kind() == std::io::ErrorKind::AlreadyExists,
            Err(_) => false,
        }
    }

    /// How many keys found no place.
    pub fn without_place(&self) -> u64 {
        self.count
    }
}
