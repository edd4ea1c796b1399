//! What a process chooses about itself to mislead: where its program lies, its arguments, its namespace's and
//! its device's name, its control group; that it has ended, or that its number is another's, by the time it is looked up. And
//! a `/proc` that hides, or is not there.
//!
//! Whatever it is, a refusal is reported with what is true, both outputs are clean, and nothing is reported of a
//! process that is another's.

use std::ffi::{CString, OsStr};
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;

use libtest_mimic::Trial;
use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitOptions};
use rustix::thread::CapabilitySet;
use tracer::output::schema::{Because, Cause, Container, Mismatch, Refused};

use tests::cgroup::Cgroup;
use tests::fixture::{Client, Fixture, Listen, Spot, mono_now_us, wait_past};
use tests::needs::{self, Need};
use tests::netns::Netns;
use tests::poll;
use tests::process::{Actor, ProcessSpec};
use tests::restricted;
use tests::suite::test;
use tests::tracer::{Running, finish};

const NEEDS: &[Need] = &[Need::Root, Need::Network];

pub fn all() -> Vec<Trial> {
    let cgroups: &[Need] = &[Need::Root, Need::Network, Need::Cgroups];
    vec![
        test("hostile::a_path", NEEDS, a_path),
        test("hostile::arguments_are_read_to_a_bound", NEEDS, arguments_are_read_to_a_bound),
        test("hostile::names_of_a_namespace_and_a_device", NEEDS, names_of_a_namespace_and_a_device),
        test("hostile::a_name_in_the_form_of_a_line", NEEDS, a_name_in_the_form_of_a_line),
        test("hostile::a_repeat_names_its_namespace", NEEDS, a_repeat_names_its_namespace),
        test("hostile::failed_binds_of_another_user", NEEDS, failed_binds_of_another_user),
        test("hostile::a_control_group_that_imitates_a_container", cgroups, imitations),
        test("hostile::one_that_ended_is_not_looked_up", NEEDS, one_that_ended),
        test("hostile::one_with_the_number_of_another", NEEDS, one_with_the_number_of_another),
        test("hostile::no_proc", &[Need::Root], no_proc),
        test("hostile::a_proc_that_vanishes", NEEDS, a_proc_that_vanishes),
        test("hostile::a_proc_that_lists_no_process", NEEDS, a_proc_that_lists_no_process),
        test("hostile::a_proc_that_hides", NEEDS, a_proc_that_hides),
    ]
}

/// A tracer whose text goes to a screen: what it prints must only show text.
struct Screen {
    tracer: Running,
    reader: JoinHandle<Vec<u8>>,
}

impl Screen {
    /// Beside the fixture's own, and ready.
    fn open(fixture: &Fixture) -> Self {
        let mut tracer = Running::spawn(["-p", &fixture.port().to_string(), "--color", "never"]);
        let reader = tracer.read_stdout();
        tracer.wait_ready();
        Self { tracer, reader }
    }

    /// All that it printed, on both streams, as one line.
    fn close(mut self) -> String {
        self.tracer.signal(Signal::INT);
        assert_eq!(self.tracer.wait_exit().code(), Some(0), "{}", self.tracer.stderr());
        let text = String::from_utf8(self.reader.join().expect("to read the text")).expect("text is UTF-8");
        let all = format!("{text}{}", self.tracer.stderr());
        // Controls, and what turns text around or hides in it (Unicode UAX #9).
        let moves = |char: &char| {
            char.is_control() && *char != '\n'
                || matches!(char, '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
        };
        assert_eq!(all.chars().find(moves), None, "{}", all.escape_debug());
        all.split_whitespace().collect::<Vec<_>>().join(" ")
    }
}

/// The program that the actors run, under another path, for as long as its directory is there.
fn linked(path: &OsStr) -> (tempfile::TempDir, PathBuf) {
    let own = std::env::current_exe().expect("the path of this test binary");
    // Where the test binary is, so that it can be linked there.
    let directory = tempfile::tempdir_in(own.parent().expect("a directory")).expect("a directory");
    let program = directory.path().join(path);
    fs::create_dir_all(program.parent().expect("a directory")).expect("a directory");
    fs::hard_link(&own, &program).expect("a link to this test binary");
    (directory, program)
}

/// A program in a directory whose name clears the screen, breaks the line, turns it around, and is not UTF-8.
fn a_path() {
    let hostile = Path::new(OsStr::from_bytes(b"\x1b[2J\n\xe2\x80\xae\xff\\"));
    let (directory, program) = linked(hostile.join("actor\n(deleted)").as_os_str());
    let spec = ProcessSpec::named("hostile-path").binary(&program);
    let shown = format!(r"{}/\x1b[2J\n\u{{202e}}\xff\\/actor\n(deleted)", directory.path().display());

    let mut fixture = Fixture::begin();
    let gateway = fixture.listen(Listen::at("10.77.0.1").by(spec.clone()));
    let screen = Screen::open(&fixture);
    fixture.trace();
    let refusal = fixture.refused(Client::blocking("127.0.0.1").by(spec));
    refusal.cause(Cause::WrongAddress).evaluates(&gateway, Mismatch::Address);
    assert_eq!(refusal.line.client.exe.as_deref(), Some(shown.as_str()), "{}", refusal.shown());
    let listener = &refusal.line.verdict.listeners[0].listener;
    assert_eq!(listener.process.exe.as_deref(), Some(shown.as_str()), "{}", refusal.shown());
    fixture.end();
    assert!(screen.close().contains("hostile-path["));
}

/// The first page of the arguments decides whether a process is a server candidate; the rest of 100 KB is not
/// read.
fn arguments_are_read_to_a_bound() {
    let mut fixture = Fixture::begin();
    let other = Netns::with_eth0();
    let junk = format!("-{}", "\x1b[2J\u{202e}\n".repeat(100 * 1024 / 8));
    assert!(junk.len() > 100 * 1024);
    let claims = ["openclaw.mjs", "gateway"];
    let first = ProcessSpec::named("node").arguments(&[claims[0], claims[1], &junk]);
    let last = ProcessSpec::named("node").arguments(&[&junk, claims[0], claims[1]]);
    let first = Actor::start(&other.place(), &first);
    let _last = Actor::start(&fixture.netns.place(), &last);
    let screen = Screen::open(&fixture);
    fixture.trace();
    let refusal = fixture.refused_in(&other, Client::blocking("127.0.0.1").by(hostile_arguments(&junk)));
    refusal.verdict(Cause::Starting, &[Because::ClaimOnly]);
    let candidates: Vec<_> =
        refusal.line.verdict.candidates.iter().map(|candidate| candidate.process.pid).collect();
    assert_eq!(candidates, [Some(first.pid)], "{}", refusal.shown());
    let refusal = fixture.refused("127.0.0.1");
    refusal.cause(Cause::NothingListening);
    assert!(refusal.line.verdict.candidates.is_empty(), "{}", refusal.shown());
    fixture.end();
    assert!(screen.close().contains("REFUSED"));
}

fn hostile_arguments(junk: &str) -> ProcessSpec {
    ProcessSpec::named("talkative").arguments(&[junk])
}

fn names_of_a_namespace_and_a_device() {
    let netns = Netns::called("\x1b[31m\n\u{202e}x");
    netns.ip("link set lo up");
    netns.ip("link add name e\x1b[7m\u{202e} type veth peer name p\x07");
    let plain = netns.name.split('\x1b').next().expect("its beginning");
    let name = format!(r"{plain}\x1b[31m\n\u{{202e}}x");
    let spot = Spot { place: netns.place(), id: netns.id, name: Some(name.clone()) };

    let mut fixture = Fixture::begin();
    let mut gateway = Actor::start(&netns.place(), &ProcessSpec::named("gateway"));
    gateway.must(&format!("bind 127.0.0.1:{} device=e\x1b[7m\u{202e}", fixture.port()));
    gateway.listen(16).expect("to listen");
    let screen = Screen::open(&fixture);
    fixture.trace();
    let refusal = fixture.refused_in(spot, "127.0.0.1");
    refusal.cause(Cause::WrongDevice);
    let evaluated = &refusal.line.verdict.listeners[0];
    assert_eq!(evaluated.listener.device.as_deref(), Some(r"e\x1b[7m\u{202e}"), "{}", refusal.shown());
    // Elsewhere it is a listener in the namespace of that name.
    fixture.refused("127.0.0.1").verdict(Cause::OtherNetns, &[Because::UnverifiedServer]);
    fixture.end();
    let text = screen.close();
    assert!(text.contains(&name), "{text}");
    assert!(text.contains(r"e\x1b[7m\u{202e}"), "{text}");
}

/// Names with brackets, arrows and spaces that are not ASCII's: each stands in quotation marks.
fn a_name_in_the_form_of_a_line() {
    let mut fixture = Fixture::begin();
    let _gateway = fixture.listen(Listen::at("10.77.0.1").by(ProcessSpec::named("x\" is up")));
    let screen = Screen::open(&fixture);
    fixture.trace();
    let port = fixture.port();
    let command = fixture.connect_command(&"127.0.0.1".into());
    let mut expected = Vec::new();
    for (name, shown) in
        [("a[1] -> b: x", r#""a[1] -> b: x""#), ("a\u{a0}b\u{2028}", r#""a\u{a0}b\u{2028}""#)]
    {
        let mut client = Actor::start(&fixture.netns.place(), &ProcessSpec::named(name));
        assert_eq!(client.ask(&command), Err(Errno::CONNREFUSED.raw_os_error()));
        assert_eq!(fixture.tracer().refused(client.pid).verdict.cause, Cause::WrongAddress);
        expected.push(format!("REFUSED {shown}[{}] -> 127.0.0.1:{port}: wrong-address", client.pid));
    }
    fixture.end();
    let text = screen.close();
    for line in expected {
        assert!(text.contains(&line), "{line}: {text}");
    }
    assert!(text.contains(r#""x\" is up"["#), "{text}");
}

fn a_repeat_names_its_namespace() {
    let mut fixture = Fixture::begin();
    let other = Netns::with_eth0();
    let screen = Screen::open(&fixture);
    fixture.trace();
    let mut client = Actor::start(&other.place(), &ProcessSpec::named("curl"));
    let command = fixture.connect_command(&"127.0.0.1".into());
    for _ in 0..3 {
        assert_eq!(client.ask(&command), Err(Errno::CONNREFUSED.raw_os_error()));
    }
    drop(fixture.tracer().refused(client.pid));
    fixture.end();
    let text = screen.close();
    let repeat = text.split_once("REPEAT curl -> ").expect("a repeat").1;
    let line = repeat.split(" tracer: ").next().unwrap_or_default();
    assert!(line.contains("2 more") && line.contains(&other.name), "{text}");
}

/// Another user fails as often as it likes: the verdict reports what root's server failed to do.
fn failed_binds_of_another_user() {
    let mut fixture = Fixture::begin();
    fixture.trace();
    let port = fixture.port();
    let place = fixture.netns.place();
    let mut server = Actor::start(&place, &ProcessSpec::named("gateway"));
    let unavailable = Err(Errno::ADDRNOTAVAIL.raw_os_error());
    assert_eq!(server.ask(&format!("bind 203.0.113.1:{port}")), unavailable);
    // Of another program: one of the same that root has started may be the server, though it has given up root.
    let (_directory, program) = linked(OsStr::new("other"));
    let spec = ProcessSpec::named("other_user").binary(&program).uid(65_534);
    let mut other_user = Actor::start(&place, &spec);
    for number in 2..60 {
        assert_eq!(other_user.ask(&format!("bind 203.0.113.{number}:{port}")), unavailable);
    }
    let refusal = fixture.refused("127.0.0.1");
    refusal.verdict(Cause::BindFailed, &[]);
    let verdict = &refusal.line.verdict;
    let named = verdict.server.as_ref().and_then(|server| server.process.pid);
    assert_eq!(named, Some(server.pid), "{}", verdict.summary);
    assert_eq!(verdict.failed_binds[0].process.pid, Some(server.pid), "{}", verdict.summary);
    fixture.end();
}

/// An id of docker's has 64 hexadecimal digits, and nothing beside it.
fn imitations() {
    const ID: &str = "9ec39b91f3d70e1beff50a308f77067065ea6be0d91a3378375056cd4422cf3d";
    let docker =
        Container { id: ID.to_owned(), runtime: Some("docker".to_owned()), name: None, pod_uid: None };
    let cases = [
        (format!("docker/{ID}"), Some(docker.clone())),
        (format!("docker-{ID}.scope/init.scope"), Some(docker)),
        (format!("docker/{ID}\x1b[31m"), None),
        (format!("docker-{}\u{202e}.scope", &ID[1..]), None),
        ("lxc.payload.a\x1b[2J".to_owned(), None),
        (format!("machine.slice/machine-a\\x1b{ID}.scope"), None),
    ];
    let mut fixture = Fixture::begin();
    let screen = Screen::open(&fixture);
    fixture.trace();
    let command = fixture.connect_command(&"127.0.0.1".into());
    let mut number = 0;
    for hierarchy in needs::hierarchies() {
        for (path, container) in &cases {
            let cgroup = Cgroup::new(&hierarchy, path.as_bytes());
            number += 1;
            // A name of its own: no two are in one repeat group.
            let mut client =
                Actor::start(&fixture.netns.place(), &ProcessSpec::named(format!("contained{number}")));
            cgroup.take(client.pid);
            assert_eq!(client.ask(&command), Err(Errno::CONNREFUSED.raw_os_error()));
            let refused = fixture.tracer().refused(client.pid);
            assert_eq!(refused.client.container, *container, "{}{path}", hierarchy.display());
        }
    }
    fixture.end();
    assert!(screen.close().contains("container 9ec39b91f3d7"));
}

/// A connect that is refused while the tracer is stopped, by a process that ends meanwhile; then
/// `meanwhile`, and the tracer goes on.
fn refused_unseen<T>(fixture: &mut Fixture, meanwhile: impl FnOnce(u32) -> T) -> (Refused, T) {
    let pid = fixture.tracer().pid();
    fixture.tracer().signal(Signal::STOP);
    poll("the tracer to stand still", || {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("it still runs");
        stat.rsplit_once(") ")?.1.starts_with('T').then_some(())
    });
    let mut client = Actor::start(&fixture.netns.place(), &ProcessSpec::named("brief"));
    let command = fixture.connect_command(&"127.0.0.1".into());
    assert_eq!(client.ask(&command), Err(Errno::CONNREFUSED.raw_os_error()));
    assert_eq!(client.exit(0).code(), Some(0));
    let after = meanwhile(client.pid);
    fixture.tracer().signal(Signal::CONT);
    let refused = fixture.tracer().refused(client.pid);
    // What the kernel's record has of it.
    let shown = serde_json::to_string(&refused).expect("a line");
    assert_eq!(refused.client.comm.as_deref(), Some("brief"), "{shown}");
    assert_eq!(refused.client.ppid, Some(std::process::id()), "{shown}");
    assert_eq!(refused.client.uid, Some(0), "{shown}");
    assert!(refused.client.start_time.is_some(), "{shown}");
    assert_eq!(refused.verdict.cause, Cause::NothingListening, "{shown}");
    // And what only /proc could have shown.
    assert_eq!((&refused.client.exe, &refused.client.container), (&None, &None), "{shown}");
    (refused, after)
}

fn one_that_ended() {
    let mut fixture = Fixture::begin();
    fixture.trace();
    refused_unseen(&mut fixture, |_| ());
    fixture.end();
}

/// By the time it is looked up, its number is that of another program: the start time distinguishes the two.
fn one_with_the_number_of_another() {
    let mut fixture = Fixture::begin();
    fixture.trace();
    let (refused, other) = refused_unseen(&mut fixture, Impostor::start);
    assert_eq!(refused.client.pid, Some(other.0.as_raw_nonzero().get().unsigned_abs()));
    fixture.end();
}

/// A process with a number that was another's, until it is dropped.
struct Impostor(Pid);

impl Impostor {
    fn start(pid: u32) -> Self {
        /// A hundredth of a second: the resolution of a process's start time in `/proc` (USER_HZ).
        const TICK_US: u64 = 10_000;
        wait_past(mono_now_us() + TICK_US);
        let program = CString::new("/bin/sleep").expect("no NUL");
        let arguments = [program.as_ptr(), c"1000".as_ptr(), std::ptr::null()];
        let wanted = [i32::try_from(pid).expect("a process id")];
        // SAFETY: plain integers, for which zero is a value.
        let mut clone: libc::clone_args = unsafe { std::mem::zeroed() };
        clone.exit_signal = u64::try_from(libc::SIGCHLD).expect("a signal");
        clone.set_tid = wanted.as_ptr() as u64;
        clone.set_tid_size = 1;
        // SAFETY: without CLONE_VM it is a fork: the child has its own memory, and only makes two system calls.
        let result = unsafe { libc::syscall(libc::SYS_clone3, &raw const clone, size_of_val(&clone)) };
        if result == 0 {
            // SAFETY: strings that end in NUL and a list that ends in null, all alive.
            unsafe {
                libc::execv(program.as_ptr(), arguments.as_ptr());
                libc::_exit(1);
            }
        }
        assert_eq!(result, i64::from(pid), "clone3: {}", std::io::Error::last_os_error());
        let other = Self(Pid::from_raw(wanted[0]).expect("a process id"));
        poll("the other program", || {
            let exe = fs::read_link(format!("/proc/{pid}/exe")).ok()?;
            (exe.file_name() != std::env::current_exe().ok()?.file_name()).then_some(())
        });
        other
    }
}

impl Drop for Impostor {
    fn drop(&mut self) {
        let _ = rustix::process::kill_process(self.0, Signal::KILL);
        let _ = rustix::process::waitpid(Some(self.0), WaitOptions::empty());
    }
}

fn no_proc() {
    for arguments in [&["trace", "-p", "20000", "-o", "json", "--for", "10"][..], &["status"]] {
        let mut command = restricted::without_proc();
        command.args(arguments);
        let finished = finish(command);
        let stderr = &finished.stderr;
        assert_eq!((finished.status.code(), finished.stdout.as_str()), (Some(3), ""), "{stderr}");
        let first = stderr.lines().next().unwrap_or_default();
        assert!(first.starts_with("tracer: cannot read `/proc`"), "{stderr}");
        assert!(stderr.contains("\n\nhint: as root: mount -t proc proc /proc\n"), "{stderr}");
    }
}

fn a_proc_that_vanishes() {
    let mut fixture = Fixture::begin();
    let gateway = fixture.listen("10.77.0.1");
    let command = restricted::with_own_mounts(&fixture.netns);
    fixture.trace_as(command);
    let pid = fixture.tracer().pid();
    restricted::change_mounts(pid, false);
    let refusal = fixture.refused("127.0.0.1");
    refusal.cause(Cause::WrongAddress).evaluates(&gateway, Mismatch::Address);
    let client = &refusal.line.client;
    assert_eq!((&client.exe, &client.container), (&None, &None), "{}", refusal.shown());
    // One that was not scanned, and cannot be now.
    let created = Netns::with_eth0();
    let spot = Spot { name: None, ..Spot::from(&created) };
    fixture
        .refused_in(spot, "127.0.0.1")
        .verdict(Cause::OtherNetns, &[Because::NetnsUnreadable, Because::UnverifiedServer]);
    restricted::change_mounts(pid, true);
    let refusal = fixture.refused("[::1]");
    refusal.cause(Cause::WrongAddress);
    assert!(refusal.line.client.exe.is_some(), "{}", refusal.shown());
    fixture.end();
}

/// An empty list does not mean that a server that is about to listen has ended.
fn a_proc_that_lists_no_process() {
    let mut fixture = Fixture::begin();
    let command = restricted::with_own_mounts(&fixture.netns);
    fixture.trace_as(command);
    let _server = Actor::start(&fixture.netns.place(), &ProcessSpec::program("openclaw-gateway"));
    let starting = |fixture: &mut Fixture| {
        let refusal = fixture.refused("127.0.0.1");
        assert_eq!(refusal.line.verdict.cause, Cause::Starting, "{}", refusal.shown());
    };
    starting(&mut fixture);
    restricted::change_mounts(fixture.tracer().pid(), false);
    // The first has every process searched, once enough time has passed since the last search; what that finds counts
    // from then on.
    wait_past(mono_now_us() + 1_000_000);
    starting(&mut fixture);
    starting(&mut fixture);
    fixture.end();
}

/// Without CAP_SYS_PTRACE, hidepid= shows a user's own processes only.
fn a_proc_that_hides() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut fixture = Fixture::begin();
    let _gateway = fixture.listen("10.77.0.1");
    let capabilities = CapabilitySet::BPF
        | CapabilitySet::PERFMON
        | CapabilitySet::SYS_ADMIN
        | CapabilitySet::DAC_READ_SEARCH;
    let command = restricted::as_nobody_with_hidden_processes(directory.path(), &fixture.netns, capabilities);
    fixture.trace_as(command);
    let why = fixture.tracer().limit("hidden-processes").expect("a limit by name").to_owned();
    assert!(why.contains("hidepid") && why.contains("CAP_SYS_PTRACE"), "{why}");
    let refusal = fixture.refused("127.0.0.1");
    refusal.cause(Cause::WrongAddress).evaluates_only(1);
    assert_eq!(refusal.line.client.exe, None, "{}", refusal.shown());
    assert_eq!(refusal.line.verdict.listeners[0].listener.process.pid, None, "{}", refusal.shown());
    fixture.end();
}
