//! Programs that start and processes that fork, as the kernel side records them: a process that has ended by the time it is
//! looked up is known by its record alone.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread::JoinHandle;
use std::time::Duration;

use libtest_mimic::Trial;
use rustix::process::Signal;
use tempfile::TempDir;
use tracer::model::kernel_event::{Executed, ExecutedProgram, Exited, Forked, KernelEvent};
use tracer::model::process::Text;
use tracer::model::socket::NetnsId;
use tracer::record::Recording;
use tracer::run::Input;

use tests::binary::binary;
use tests::fixture::{Fixture, Listen};
use tests::needs::Need;
use tests::process::ProcessSpec;
use tests::suite::test;
use tests::tracer::Running;

const NEEDS: &[Need] = &[Need::Root, Need::Network];

/// A program that ends immediately.
const TRUE: &str = "/bin/true";

pub fn all() -> Vec<Trial> {
    vec![
        test("processes::exec::a_link_of_another_name", NEEDS, a_link_of_another_name),
        test("processes::exec::a_script", NEEDS, a_script),
        test("processes::exec::long_arguments_are_cut", NEEDS, long_arguments_are_cut),
        test("processes::exec::the_program_of_a_server", NEEDS, the_program_of_a_server),
        test("processes::exec::the_program_of_a_failed_bind", NEEDS, the_program_of_a_failed_bind),
        test("processes::fork::the_child_of_a_server_is_followed", NEEDS, the_child_of_a_server_is_followed),
    ]
}

/// A run that is recorded.
pub struct Recorder {
    running: Running,
    log: JoinHandle<Vec<u8>>,
    directory: TempDir,
}

impl Recorder {
    pub fn begin(fixture: &Fixture, more: &[&str]) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let mut command = Command::new(binary());
        command.arg("record").arg(directory.path().join("run.tracer"));
        command.args(["-p", &fixture.port().to_string(), "-o", "json"]).args(more);
        let mut running = Running::spawn_command(command);
        let log = running.read_stdout();
        running.wait_ready();
        Self { running, log, directory }
    }

    /// A place for a program.
    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Ends the run, and gives what the kernel side recorded.
    pub fn end(mut self) -> Vec<KernelEvent> {
        self.running.signal(Signal::INT);
        assert_eq!(self.running.wait_exit().code(), Some(0), "{}", self.running.stderr());
        self.log.join().expect("to read the log");
        let file = File::open(self.directory.path().join("run.tracer")).expect("a recording");
        let (mut recording, _) = Recording::open(file).expect("a recording");
        let inputs = std::iter::from_fn(|| recording.next_input().expect("an input"));
        let event = |input| match input {
            Input::Event { event, .. } => Some(event),
            _ => None,
        };
        inputs.filter_map(event).collect()
    }
}

/// Runs a program in the fixture's namespace to its end, and gives its process id.
fn run(fixture: &Fixture, program: &Path, arguments: &[&str]) -> u32 {
    let mut command = Command::new(program);
    // Under another name, busybox's does not know what it is.
    command.args(arguments).stderr(Stdio::null());
    let mut child = fixture.netns.enter(&mut command).spawn().expect("to start a program");
    child.wait().expect("to wait for it");
    child.id()
}

fn starts(events: &[KernelEvent]) -> impl Iterator<Item = &Executed> {
    events.iter().filter_map(|event| match event {
        KernelEvent::Executed(executed) => Some(&**executed),
        _ => None,
    })
}

/// What a process was recorded to execute.
#[track_caller]
fn program(events: &[KernelEvent], pid: u32) -> ExecutedProgram {
    let own = starts(events).find(|executed| executed.process.pid == Some(pid));
    own.unwrap_or_else(|| panic!("{pid} is not recorded: {events:?}")).program.clone().expect("its program")
}

fn words(words: &[&str]) -> Option<Text> {
    let joined: String = words.iter().flat_map(|word| [*word, "\0"]).collect();
    Some(joined.as_str().into())
}

fn a_link_of_another_name() {
    let fixture = Fixture::begin();
    let recorder = Recorder::begin(&fixture, &[]);
    let link = recorder.path("openclaw");
    symlink(TRUE, &link).expect("a link");
    let target = fs::canonicalize(TRUE).expect("a program");
    let pid = run(&fixture, &link, &["gateway", "--port", "18789"]);
    let program = program(&recorder.end(), pid);
    assert_eq!(program.netns, NetnsId(fixture.netns.id), "not that of its parent");
    assert_eq!(Some(program.file_name.as_bytes()), target.file_name().map(OsStr::as_encoded_bytes));
    let link = link.to_str().expect("a path");
    assert_eq!((program.arguments, program.is_cut), (words(&[link, "gateway", "--port", "18789"]), false));
}

/// Its file name is that of the interpreter, and its name that of the script.
fn a_script() {
    let fixture = Fixture::begin();
    let recorder = Recorder::begin(&fixture, &[]);
    let script = recorder.path("openclaw");
    fs::write(&script, "#!/bin/sh\n").expect("a script");
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).expect("to make it a program");
    let pid = run(&fixture, &script, &["gateway"]);
    let program = program(&recorder.end(), pid);
    let shell = fs::canonicalize("/bin/sh").expect("a shell");
    assert_eq!(Some(program.file_name.as_bytes()), shell.file_name().map(OsStr::as_encoded_bytes));
    let script = script.to_str().expect("a path");
    assert_eq!(program.arguments, words(&["/bin/sh", script, "gateway"]));
}

fn long_arguments_are_cut() {
    let fixture = Fixture::begin();
    // With a pattern, every program may be the server.
    let recorder = Recorder::begin(&fixture, &["--server", "quite-another"]);
    let long = "x".repeat(2_000);
    // Its own path and a NUL, and as many more as are kept.
    let fits = "y".repeat(1_024 - TRUE.len() - 2);
    let (cut, whole) = (run(&fixture, Path::new(TRUE), &[&long]), run(&fixture, Path::new(TRUE), &[&fits]));
    let events = recorder.end();
    let cut = program(&events, cut);
    let kept = format!("{TRUE}\0{long}");
    assert_eq!((cut.arguments, cut.is_cut), (Some(kept[..1_024].into()), true));
    let whole = program(&events, whole);
    assert_eq!((whole.arguments, whole.is_cut), (words(&[TRUE, &fits]), false));
}

/// Copies a program by another process: a program that this one has open for writing may be inherited by the child of another
/// test meanwhile, and is then busy.
fn copy(from: &Path, to: &Path) {
    let copied = Command::new("cp").arg(from).arg(to).status().expect("to run cp");
    assert!(copied.success());
}

/// A copy of a program that ends immediately, under another name.
fn copy_of_true(recorder: &Recorder, name: &str) -> PathBuf {
    let to = recorder.path(name);
    copy(Path::new(TRUE), &to);
    to
}

/// Runs a program until its start is recorded: the name reaches the kernel side about when its server's line is printed.
fn run_often(fixture: &Fixture, program: &Path) {
    for _ in 0..100 {
        run(fixture, program, &[]);
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn starts_of<'a>(events: &'a [KernelEvent], name: &'a str) -> impl Iterator<Item = &'a Executed> {
    let is_it = move |executed: &&Executed| {
        executed.program.as_ref().is_some_and(|program| program.file_name == name.into())
    };
    starts(events).filter(is_it)
}

/// Once a process was seen to listen, its program may be the server when it starts again.
fn the_program_of_a_server() {
    let mut fixture = Fixture::begin();
    let recorder = Recorder::begin(&fixture, &[]);
    let server = recorder.path("oddly-named-server");
    copy(&std::env::current_exe().expect("the path of this test binary"), &server);
    let again = recorder.path("again");
    fs::create_dir(&again).expect("a directory");
    let again = again.join("oddly-named-server");
    copy(Path::new(TRUE), &again);
    let unrelated = copy_of_true(&recorder, "unrelated");
    let early = run(&fixture, &again, &[]);
    fixture.trace();
    let gateway = fixture.listen(Listen::at("127.0.0.1").by(ProcessSpec::named("odd").binary(&server)));
    run_often(&fixture, &again);
    run(&fixture, &unrelated, &[]);
    drop(gateway);
    fixture.end();
    let events = recorder.end();
    assert!(starts_of(&events, "oddly-named-server").next().is_some(), "{events:?}");
    assert!(starts(&events).all(|executed| executed.process.pid != Some(early)));
    assert_eq!(starts_of(&events, "unrelated").count(), 0);
}

fn the_program_of_a_failed_bind() {
    let mut fixture = Fixture::begin();
    let recorder = Recorder::begin(&fixture, &[]);
    fixture.trace();
    let holder = fixture.listen("127.0.0.1");
    let spec = ProcessSpec::named("unlucky");
    let mut actor = tests::process::Actor::start(&fixture.netns.place(), &spec);
    assert!(actor.ask(&format!("bind 127.0.0.1:{}", fixture.port())).is_err());
    let unlucky = copy_of_true(&recorder, "unlucky");
    run_often(&fixture, &unlucky);
    drop(holder);
    fixture.end();
    let events = recorder.end();
    assert!(starts_of(&events, "unlucky").next().is_some(), "{events:?}");
}

fn the_child_of_a_server_is_followed() {
    let mut fixture = Fixture::begin();
    let recorder = Recorder::begin(&fixture, &[]);
    fixture.trace();
    let mut gateway = fixture.listen("127.0.0.1");
    let parent = gateway.pid;
    gateway.fork();
    let child = gateway.pid;
    drop(gateway);
    fixture.end();
    let events = recorder.end();
    let forks: Vec<(Option<u32>, Option<u32>)> = events
        .iter()
        .filter_map(|event| match event {
            KernelEvent::Forked(Forked { parent, child, .. }) => Some((*parent, child.pid)),
            _ => None,
        })
        // Servers of other tests fork too.
        .filter(|(of, _)| *of == Some(parent))
        .collect();
    assert_eq!(forks, [(Some(parent), Some(child))]);
    let ends: Vec<u32> = events
        .iter()
        .filter_map(|event| match event {
            KernelEvent::Exited(Exited { pid, .. }) => Some(*pid),
            _ => None,
        })
        .collect();
    assert!(ends.contains(&parent) && ends.contains(&child), "{parent} {child}: {ends:?}");
}
