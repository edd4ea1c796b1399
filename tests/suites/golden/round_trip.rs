//! Recordings of the form that `tracer record` writes: what was reported to a run gives its lines again, bit for bit.

use tracer::output::schema::Line;
use tracer::record::{Error, MAGIC, Recorder, Recording};
use tracer::run::Run;

use super::old;
use super::replay::{Replayed, replay};

/// A run as a recording.
fn record(replayed: &Replayed) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut recorder = Recorder::new(&mut bytes, &replayed.setup).expect("to begin");
    replayed.inputs.iter().for_each(|input| recorder.input(input).expect("to add an input"));
    recorder.flush().expect("to end");
    bytes
}

/// The lines of a recording, and how often an input was read.
fn lines(bytes: &[u8]) -> Result<(Vec<Line>, usize), Error> {
    let (mut recording, setup) = Recording::open(bytes)?;
    let (mut run, first) = Run::new(setup);
    let (mut lines, mut inputs) = (vec![first], 0);
    while let Some(input) = recording.next_input()? {
        inputs += 1;
        lines.extend(run.take(input));
        run.take_requests();
    }
    Ok((lines, inputs))
}

fn as_text(lines: &[Line]) -> Vec<String> {
    lines.iter().map(|line| serde_json::to_string(line).expect("a line as JSON")).collect()
}

/// One run with refusals, listeners and a change of a configuration file.
fn one() -> Replayed {
    let all = old::recordings();
    let trap = all.iter().find(|recording| recording.name == "configs::the_trap--1").expect("it is there");
    replay(trap.read())
}

#[test]
fn what_is_recorded_gives_the_same_lines() {
    for recording in old::recordings() {
        let replayed = replay(recording.read());
        let (again, inputs) = lines(&record(&replayed)).expect("a recording");
        assert_eq!(inputs, replayed.inputs.len(), "{}", recording.name);
        assert_eq!(as_text(&again), as_text(&replayed.lines), "{}", recording.name);
    }
}

#[test]
fn one_that_is_cut_gives_its_lines_up_to_there() {
    let replayed = one();
    let (bytes, whole) = (record(&replayed), as_text(&replayed.lines));
    let setup = record(&Replayed { inputs: Vec::new(), ..one() }).len();
    let mut most = 0;
    for length in setup..bytes.len() {
        let (cut, inputs) = lines(&bytes[..length]).unwrap_or_else(|error| panic!("{length} bytes: {error}"));
        assert!(inputs >= most && inputs < replayed.inputs.len(), "{length} bytes: {inputs} inputs");
        assert_eq!(as_text(&cut), whole[..cut.len()], "{length} bytes");
        most = inputs;
    }
    assert_eq!(most, replayed.inputs.len() - 1);
}

#[test]
fn one_that_is_damaged_is_an_error() {
    let bytes = record(&one());
    let setup = record(&Replayed { inputs: Vec::new(), ..one() }).len();
    // Which input it is stands behind the length of its frame: there are no 126 kinds.
    let mut damaged = bytes.clone();
    damaged[setup + 4] = 0x7e;
    assert!(matches!(lines(&damaged), Err(Error::Malformed)));
    // A frame that would be longer than any is.
    let mut damaged = bytes.clone();
    damaged[setup..setup + 4].copy_from_slice(&u32::MAX.to_le_bytes());
    assert!(matches!(lines(&damaged), Err(Error::Malformed)));
    // Whatever is damaged, nothing panics: a number that is another one is not noticed.
    for place in MAGIC.len()..bytes.len() {
        for flipped in [0x01, 0x80, 0xff] {
            let mut damaged = bytes.clone();
            damaged[place] ^= flipped;
            let _ = lines(&damaged);
        }
    }
}

#[test]
fn one_of_another_version_is_refused() {
    let mut bytes = record(&one());
    bytes[7] += 1;
    assert!(matches!(lines(&bytes), Err(Error::OtherVersion(version)) if version == MAGIC[7] + 1));
}

#[test]
fn what_is_no_recording_is_refused() {
    for bytes in [b"".as_slice(), &MAGIC[..7], b"{\"v\":1,\"type\":\"start\"}"] {
        assert!(matches!(lines(bytes), Err(Error::NotARecording)), "{bytes:?}");
    }
    assert!(matches!(lines(&MAGIC), Err(Error::Malformed)), "there is no setup");
}
