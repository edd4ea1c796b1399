//! The maps of a running tracer, which a test fills where it would take thousands of processes.

use aya::maps::{Array, HashMap, Map, MapData, MapInfo};
use tracer_ebpf::NAME_BYTES;

use super::bpf::Held;

/// The map of this name that a process holds.
fn find(pid: u32, name: &str) -> MapData {
    let ids = Held::by(pid).expect("it still runs").maps;
    let is_it = |id: &u32| MapInfo::from_id(*id).is_ok_and(|info| info.name_as_str() == Some(name));
    let id = ids.into_iter().find(is_it).unwrap_or_else(|| panic!("process {pid} has no map `{name}`"));
    MapData::from_id(id).expect("to open a map")
}

/// One of hashes, keyed by process id.
pub fn by_process(pid: u32, name: &str) -> HashMap<MapData, u32, u32> {
    HashMap::try_from(Map::HashMap(find(pid, name))).expect("a map of process ids")
}

/// One of hashes, keyed by the name of a program.
pub fn by_name(pid: u32, name: &str) -> HashMap<MapData, [u8; NAME_BYTES], u32> {
    HashMap::try_from(Map::HashMap(find(pid, name))).expect("a map of names")
}

/// One that forgets the oldest, keyed by process id.
pub fn forgetful_by_process(pid: u32, name: &str) -> HashMap<MapData, u32, u64> {
    HashMap::try_from(Map::LruHashMap(find(pid, name))).expect("a map of process ids")
}

/// One that forgets the oldest, keyed by thread, of values of this many bytes.
pub fn forgetful_by_thread<const BYTES: usize>(pid: u32, name: &str) -> HashMap<MapData, u64, [u8; BYTES]> {
    HashMap::try_from(Map::LruHashMap(find(pid, name))).expect("a map of threads")
}

/// One of pairs of numbers.
pub fn pairs(pid: u32, name: &str) -> Array<MapData, [u64; 2]> {
    Array::try_from(Map::Array(find(pid, name))).expect("an array of pairs of numbers")
}
