//! The maps of a running tracer, which a test fills with what nobody would make by the thousand in a short time.

use std::fs;

use aya::maps::{Array, HashMap, Map, MapData, MapInfo};

/// The map of this name that a process holds.
fn find(pid: u32, name: &str) -> MapData {
    let descriptors = fs::read_dir(format!("/proc/{pid}/fdinfo")).expect("it still runs");
    let texts = descriptors.flatten().filter_map(|entry| fs::read_to_string(entry.path()).ok());
    let ids = texts.filter_map(|text| {
        let id = text.lines().find_map(|line| line.strip_prefix("map_id:"))?;
        id.trim().parse::<u32>().ok()
    });
    let is_it = |id: &u32| MapInfo::from_id(*id).is_ok_and(|info| info.name_as_str() == Some(name));
    let id = ids.into_iter().find(is_it).unwrap_or_else(|| panic!("process {pid} has no map `{name}`"));
    MapData::from_id(id).expect("to open a map")
}

/// One of hashes, keyed by process id.
pub fn by_process(pid: u32, name: &str) -> HashMap<MapData, u32, u32> {
    HashMap::try_from(Map::HashMap(find(pid, name))).expect("a map of process ids")
}

/// One that forgets the oldest, keyed by process id.
pub fn forgetful_by_process(pid: u32, name: &str) -> HashMap<MapData, u32, u64> {
    HashMap::try_from(Map::LruHashMap(find(pid, name))).expect("a map of process ids")
}

/// One that forgets the oldest, keyed by thread, of values of this many bytes.
pub fn forgetful_by_thread<const BYTES: usize>(pid: u32, name: &str) -> HashMap<MapData, u64, [u8; BYTES]> {
    HashMap::try_from(Map::LruHashMap(find(pid, name))).expect("a map of threads")
}

/// One of numbers.
pub fn numbers(pid: u32, name: &str) -> Array<MapData, u64> {
    Array::try_from(Map::Array(find(pid, name))).expect("an array of numbers")
}
