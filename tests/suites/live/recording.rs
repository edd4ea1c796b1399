//! `tracer record`, and the same lines by `tracer replay`.

use std::process::Command;

use libtest_mimic::Trial;
use rustix::process::Signal;
use tracer::output::schema::{Body, Cause, Mismatch};

use tests::binary::binary;
use tests::fixture::Fixture;
use tests::needs::Need;
use tests::suite::test;
use tests::tracer::{Running, finish, parse_all};

const NEEDS: &[Need] = &[Need::Root, Need::Network];

pub fn all() -> Vec<Trial> {
    vec![test("recording::a_replay_prints_what_the_run_printed", NEEDS, a_replay_prints_what_the_run_printed)]
}

fn a_replay_prints_what_the_run_printed() {
    let mut fixture = Fixture::begin();
    let gateway = fixture.listen("10.77.0.1");
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("run.tracer");
    let mut command = Command::new(binary());
    command.arg("record").arg(&file).args(["-p", &fixture.port().to_string(), "-o", "json"]);
    let mut recorder = Running::spawn_command(command);
    let reader = recorder.read_stdout();
    recorder.wait_ready();
    fixture.trace();
    fixture.refused("127.0.0.1").cause(Cause::WrongAddress).evaluates(&gateway, Mismatch::Address);
    let mut successor = fixture.listen("127.0.0.1");
    fixture.close(&mut successor);
    fixture.end();
    recorder.signal(Signal::INT);
    assert_eq!(recorder.wait_exit().code(), Some(0), "{}", recorder.stderr());
    let printed = reader.join().expect("to read the log");
    let types: Vec<bool> =
        parse_all(&printed).iter().map(|line| matches!(line.body, Body::Refused(_))).collect();
    assert_eq!(types.iter().filter(|is_refusal| **is_refusal).count(), 1);

    let mut command = Command::new(binary());
    command.arg("replay").arg(&file).args(["-o", "json"]);
    let replayed = finish(command);
    assert_eq!(replayed.status.code(), Some(0), "{}", replayed.stderr);
    assert_eq!(replayed.stdout, String::from_utf8(printed).expect("a log is UTF-8"));
}
