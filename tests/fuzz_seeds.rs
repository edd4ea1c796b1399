//! The fuzz targets' seeds, each through its target: what the fuzzer starts from, and what it has found once.

use std::fs;
use std::path::Path;

#[test]
fn every_seed_passes_its_target() {
    let seeds = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/seeds");
    let mut directories: Vec<_> = fs::read_dir(&seeds)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    directories.sort();
    let mut targets = tracer::fuzz::TARGETS;
    targets.sort_by_key(|(name, _)| *name);
    assert_eq!(directories, targets.map(|(name, _)| name));
    for (name, target) in targets {
        let mut count = 0;
        for seed in fs::read_dir(seeds.join(name)).unwrap() {
            let path = seed.unwrap().path();
            println!("{}", path.display());
            target(&fs::read(&path).unwrap());
            count += 1;
        }
        assert!(count > 0, "{name} has no seeds");
    }
}

/// So that the fuzzer begins behind all that is looked up, and not before.
#[test]
fn the_types_in_a_seed_are_complete() {
    let seed = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/seeds/btf/everything");
    let bytes = fs::read(seed).unwrap();
    let types = tracer::kernel::btf::Btf::parse(&bytes).unwrap();
    assert_eq!(types.offsets().err(), None);
    assert_eq!(types.tracepoint_arguments("inet_sock_set_state"), Some(3));
}
