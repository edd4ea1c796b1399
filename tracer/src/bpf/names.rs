//! Names of programs whose start the kernel side records.

use std::collections::BTreeSet;

use aya::maps::{HashMap, MapData};
use tracer_ebpf::NAME_BYTES;

/// Names without a place that are remembered, so that each is counted once.
const UNWATCHED_MAX: usize = 4_096;

/// The table of names.
pub struct Names {
    map: HashMap<MapData, [u8; NAME_BYTES], u32>,
    /// Names that found no place in it.
    unwatched: BTreeSet<[u8; NAME_BYTES]>,
    unwatched_count: u64,
}

impl Names {
    pub fn new(map: HashMap<MapData, [u8; NAME_BYTES], u32>) -> Self {
        Self { map, unwatched: BTreeSet::new(), unwatched_count: 0 }
    }

    /// Has the starts of programs with this name recorded. Where the table is full they are found by a search of `/proc` only,
    /// which is counted once a name.
    pub fn add(&mut self, name: &[u8]) {
        let name = key(name);
        if self.map.insert(name, 1, 0).is_err() && self.unwatched.insert(name) {
            self.unwatched_count += 1;
            if self.unwatched.len() > UNWATCHED_MAX {
                self.unwatched.clear();
            }
        }
    }

    /// How many names found no place.
    pub fn unwatched(&self) -> u64 {
        self.unwatched_count
    }
}

/// A name as the kernel side looks it up: its first fifteen bytes, filled up with NULs.
fn key(name: &[u8]) -> [u8; NAME_BYTES] {
    let mut key = [0; NAME_BYTES];
    let kept = name.len().min(NAME_BYTES - 1);
    key[..kept].copy_from_slice(&name[..kept]);
    key
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_counts_by_its_first_fifteen_bytes() {
        assert_eq!(&key(b"node"), b"node\0\0\0\0\0\0\0\0\0\0\0\0");
        assert_eq!(key(b"long-server-name"), key(b"long-server-nam"));
        assert_eq!(&key(b"long-server-name"), b"long-server-nam\0");
    }
}
