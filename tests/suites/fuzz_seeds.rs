//! The fuzz targets' seeds, each through its target: what the fuzzer starts from, and what it has found once.

use std::fs;
use std::path::Path;

use tracer::fuzz;
use tracer::model::time::Mono;
use tracer::record::{Recorder, Recording};
use tracer::run::{Input, Setup};

#[test]
fn every_seed_passes_its_target() {
    let seeds = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/seeds");
    let mut directories: Vec<_> = fs::read_dir(&seeds)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    directories.sort();
    let mut targets = fuzz::TARGETS;
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
    let types = tracer::bpf::btf::Btf::parse(&bytes).unwrap();
    assert_eq!(types.offsets().err(), None);
    assert_eq!(types.tracepoint_arguments("inet_sock_set_state"), Some(3));
}

/// The seeds that `fuzz/record-seeds.sh` records.
const RECORDED: [&str; 4] = ["gateway", "nothing-listening", "wrong-address", "wrong-family"];

fn recorded(name: &str) -> (Setup, Vec<Input>) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/seeds/replay").join(name);
    let bytes = fs::read(path).unwrap();
    let again = "the recorded types have changed: run fuzz/record-seeds.sh";
    let (mut recording, setup) = Recording::open(bytes.as_slice()).expect(again);
    let mut inputs = Vec::new();
    while let Some(input) = recording.next_input().expect(again) {
        inputs.push(input);
    }
    assert!(matches!(inputs.last(), Some(Input::Stop { .. })), "`{name}` is cut: {again}");
    (setup, inputs)
}

fn replay(setup: &Setup, inputs: impl IntoIterator<Item = Input>) {
    let mut bytes = Vec::new();
    let mut recorder = Recorder::new(&mut bytes, setup).unwrap();
    for input in inputs {
        recorder.input(&input).unwrap();
    }
    recorder.flush().unwrap();
    fuzz::replay(&bytes);
}

/// No recording that a run makes has its inputs in such an order.
#[test]
fn a_recording_out_of_order_is_replayed() {
    for name in RECORDED {
        let (setup, inputs) = recorded(name);
        replay(&setup, inputs.iter().rev().cloned());
        replay(&setup, inputs.iter().chain(&inputs).cloned());
        for (at, _) in inputs.iter().enumerate() {
            replay(&setup, inputs[at..].iter().chain(&inputs[..at]).cloned());
        }
    }
}

#[test]
fn a_recording_with_the_largest_times_is_replayed() {
    for name in RECORDED {
        let (setup, inputs) = recorded(name);
        let largest = Input::Advance { complete_until: Mono::MAX, now: Mono::MAX };
        for (at, _) in inputs.iter().enumerate() {
            let (before, after) = inputs.split_at(at);
            replay(&setup, before.iter().chain([&largest]).chain(after).cloned());
        }
        let latest = Setup { now: Mono::MAX, ..setup };
        replay(&latest, inputs);
    }
}
