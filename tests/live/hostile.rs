//! What a process chooses about itself to mislead: where its program lies, its arguments, its namespace's and
//! its device's name, its control group, and to be gone, or another's number, by the time it is looked up. And
//! a `/proc` that hides, or is not there.
//!
//! Whatever it is, a refusal is told with what is true, both outputs are clean, and nothing is told of a
//! process that is another's.

use std::ffi::{CString, OsStr};
use std::fs;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::thread::JoinHandle;

use libtest_mimic::Trial;
use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitOptions};
use rustix::thread::CapabilitySet;
use tracer::line::{Because, Cause, Container, Mismatch, Refused};

use crate::support::cast::{Actor, Costume};
use crate::support::cgroup::Cgroup;
use crate::support::needs::{self, Need};
use crate::support::netns::Netns;
use crate::support::poll;
use crate::support::sabotage;
use crate::support::story::{Client, Listen, Spot, Story, mono_now_us, wait_past};
use crate::support::tracer::{Running, finish};
use crate::trial;

const NEEDS: &[Need] = &[Need::Root, Need::Network];

pub fn trials() -> Vec<Trial> {
    let cgroups: &[Need] = &[Need::Root, Need::Network, Need::Cgroups];
    vec![
        trial("hostile::a_path", NEEDS, a_path),
        trial("hostile::arguments_are_read_to_a_bound", NEEDS, arguments_are_read_to_a_bound),
        trial("hostile::names_of_a_namespace_and_a_device", NEEDS, names_of_a_namespace_and_a_device),
        trial("hostile::a_control_group_that_imitates_a_container", cgroups, imitations),
        trial("hostile::one_that_ended_is_not_looked_up", NEEDS, one_that_ended),
        trial("hostile::one_with_the_number_of_another", NEEDS, one_with_the_number_of_another),
        trial("hostile::no_proc", &[Need::Root], no_proc),
        trial("hostile::a_proc_that_vanishes", NEEDS, a_proc_that_vanishes),
        trial("hostile::a_proc_that_lists_nobody", NEEDS, a_proc_that_lists_nobody),
        trial("hostile::a_proc_that_hides", NEEDS, a_proc_that_hides),
    ]
}

/// A tracer whose text goes to a screen: what it prints must do nothing but stand there.
struct Screen {
    tracer: Running,
    reader: JoinHandle<Vec<u8>>,
}

impl Screen {
    /// Beside the story's own, and ready.
    fn open(story: &Story) -> Self {
        let mut tracer = Running::spawn(["-p", &story.port().to_string(), "--color", "never"]);
        let mut stdout = tracer.take_stdout();
        let reader = std::thread::spawn(move || {
            let mut bytes = Vec::new();
            stdout.read_to_end(&mut bytes).expect("to read the text");
            bytes
        });
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

/// A program in a directory whose name clears the screen, breaks the line, turns it around, and is not UTF-8.
fn a_path() {
    let own = std::env::current_exe().expect("the path of this test binary");
    // Where the test binary is, so that it can be linked there.
    let directory = tempfile::tempdir_in(own.parent().expect("a directory")).expect("a directory");
    let hostile = directory.path().join(OsStr::from_bytes(b"\x1b[2J\n\xe2\x80\xae\xff\\"));
    fs::create_dir(&hostile).expect("a directory");
    let program = hostile.join("actor\n(deleted)");
    fs::hard_link(&own, &program).expect("a link to this test binary");
    let costume = Costume::named("hostile-path").binary(&program);
    let shown = format!(r"{}/\x1b[2J\n\u{{202e}}\xff\\/actor\n(deleted)", directory.path().display());

    let mut story = Story::begin();
    let gateway = story.listen(Listen::at("10.77.0.1").by(costume.clone()));
    let screen = Screen::open(&story);
    story.trace();
    let refusal = story.refused(Client::blocking("127.0.0.1").by(costume));
    refusal.cause(Cause::WrongAddress).weighs(&gateway, Mismatch::Address);
    assert_eq!(refusal.line.client.exe.as_deref(), Some(shown.as_str()), "{}", refusal.told());
    let listener = &refusal.line.verdict.listeners[0].listener;
    assert_eq!(listener.process.exe.as_deref(), Some(shown.as_str()), "{}", refusal.told());
    story.end();
    assert!(screen.close().contains("hostile-path["));
}

/// What stands in the first page of the arguments says what a process claims to be; the rest of 100 KB is not
/// read, whatever it says.
fn arguments_are_read_to_a_bound() {
    let mut story = Story::begin();
    let other = Netns::new();
    let junk = format!("-{}", "\x1b[2J\u{202e}\n".repeat(100 * 1024 / 8));
    assert!(junk.len() > 100 * 1024);
    let claims = ["openclaw.mjs", "gateway"];
    let first = Costume::named("node").arguments(&[claims[0], claims[1], &junk]);
    let last = Costume::named("node").arguments(&[&junk, claims[0], claims[1]]);
    let first = Actor::start(&other.place(), &first);
    let _last = Actor::start(&story.netns.place(), &last);
    let screen = Screen::open(&story);
    story.trace();
    let refusal = story.refused_in(&other, Client::blocking("127.0.0.1").by(hostile_arguments(&junk)));
    refusal.cause(Cause::Starting);
    let candidates: Vec<_> =
        refusal.line.verdict.candidates.iter().map(|candidate| candidate.process.pid).collect();
    assert_eq!(candidates, [Some(first.pid)], "{}", refusal.told());
    let refusal = story.refused("127.0.0.1");
    refusal.cause(Cause::NothingListening);
    assert!(refusal.line.verdict.candidates.is_empty(), "{}", refusal.told());
    story.end();
    assert!(screen.close().contains("starting"));
}

fn hostile_arguments(junk: &str) -> Costume {
    Costume::named("talkative").arguments(&[junk])
}

fn names_of_a_namespace_and_a_device() {
    let netns = Netns::called("\x1b[31m\n\u{202e}x");
    netns.ip("link set lo up");
    netns.ip("link add name e\x1b[7m\u{202e} type veth peer name p\x07");
    let plain = netns.name.split('\x1b').next().expect("its beginning");
    let name = format!(r"{plain}\x1b[31m\n\u{{202e}}x");
    let spot = Spot { place: netns.place(), id: netns.id, name: Some(name.clone()) };

    let mut story = Story::begin();
    let mut gateway = Actor::start(&netns.place(), &Costume::named("gateway"));
    gateway.must(&format!("bind 127.0.0.1:{} device=e\x1b[7m\u{202e}", story.port()));
    gateway.listen(16).expect("to listen");
    let screen = Screen::open(&story);
    story.trace();
    let refusal = story.refused_in(spot, "127.0.0.1");
    refusal.cause(Cause::WrongDevice);
    let weighed = &refusal.line.verdict.listeners[0];
    assert_eq!(weighed.listener.device.as_deref(), Some(r"e\x1b[7m\u{202e}"), "{}", refusal.told());
    // Elsewhere it is a listener in the namespace of that name.
    story.refused("127.0.0.1").cause(Cause::OtherNetns);
    story.end();
    let text = screen.close();
    assert!(text.contains(&name), "{text}");
    assert!(text.contains(r"e\x1b[7m\u{202e}"), "{text}");
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
    let mut story = Story::begin();
    let screen = Screen::open(&story);
    story.trace();
    let command = story.connect_command(&"127.0.0.1".into());
    let mut number = 0;
    for hierarchy in needs::hierarchies() {
        for (path, container) in &cases {
            let cgroup = Cgroup::new(&hierarchy, path.as_bytes());
            number += 1;
            // A name of its own: none is folded into another.
            let mut client =
                Actor::start(&story.netns.place(), &Costume::named(format!("contained{number}")));
            cgroup.take(client.pid);
            assert_eq!(client.ask(&command), Err(Errno::CONNREFUSED.raw_os_error()));
            let refused = story.tracer().refused(client.pid);
            assert_eq!(refused.client.container, *container, "{}{path}", hierarchy.display());
        }
    }
    story.end();
    assert!(screen.close().contains("container 9ec39b91f3d7"));
}

/// A connect that is refused while the tracer stands still, by a process that ends meanwhile; then
/// `meanwhile`, and the tracer goes on.
fn refused_unseen<T>(story: &mut Story, meanwhile: impl FnOnce(u32) -> T) -> (Refused, T) {
    let pid = story.tracer().pid();
    story.tracer().signal(Signal::STOP);
    poll("the tracer to stand still", || {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("it still runs");
        stat.rsplit_once(") ")?.1.starts_with('T').then_some(())
    });
    let mut client = Actor::start(&story.netns.place(), &Costume::named("brief"));
    let command = story.connect_command(&"127.0.0.1".into());
    assert_eq!(client.ask(&command), Err(Errno::CONNREFUSED.raw_os_error()));
    assert_eq!(client.exit(0).code(), Some(0));
    let after = meanwhile(client.pid);
    story.tracer().signal(Signal::CONT);
    let refused = story.tracer().refused(client.pid);
    // What the kernel's record has of it.
    let told = serde_json::to_string(&refused).expect("a line");
    assert_eq!(refused.client.comm.as_deref(), Some("brief"), "{told}");
    assert_eq!(refused.client.ppid, Some(std::process::id()), "{told}");
    assert_eq!(refused.client.uid, Some(0), "{told}");
    assert!(refused.client.start_time.is_some(), "{told}");
    assert_eq!(refused.verdict.cause, Cause::NothingListening, "{told}");
    // And what only /proc could have said.
    assert_eq!((&refused.client.exe, &refused.client.container), (&None, &None), "{told}");
    (refused, after)
}

fn one_that_ended() {
    let mut story = Story::begin();
    story.trace();
    refused_unseen(&mut story, |_| ());
    story.end();
}

/// By the time it is looked up, its number is that of another program: when it started tells.
fn one_with_the_number_of_another() {
    let mut story = Story::begin();
    story.trace();
    let (refused, other) = refused_unseen(&mut story, Impostor::start);
    assert_eq!(refused.client.pid, Some(other.0.as_raw_nonzero().get().unsigned_abs()));
    story.end();
}

/// A process with a number that was another's, until it is dropped.
struct Impostor(Pid);

impl Impostor {
    fn start(pid: u32) -> Self {
        /// A hundredth of a second: what `/proc` tells of when a process started (USER_HZ).
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
        let mut command = sabotage::without_proc();
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
    let mut story = Story::begin();
    let gateway = story.listen("10.77.0.1");
    let command = sabotage::with_own_mounts(&story.netns);
    story.trace_as(command);
    let pid = story.tracer().pid();
    sabotage::change_mounts(pid, false);
    let refusal = story.refused("127.0.0.1");
    refusal.cause(Cause::WrongAddress).weighs(&gateway, Mismatch::Address);
    let client = &refusal.line.client;
    assert_eq!((&client.exe, &client.container), (&None, &None), "{}", refusal.told());
    // One that nobody has looked into, and cannot now.
    let born = Netns::new();
    let spot = Spot { name: None, ..Spot::from(&born) };
    story.refused_in(spot, "127.0.0.1").verdict(Cause::OtherNetns, &[Because::NetnsUnreadable]);
    sabotage::change_mounts(pid, true);
    let refusal = story.refused("[::1]");
    refusal.cause(Cause::WrongAddress);
    assert!(refusal.line.client.exe.is_some(), "{}", refusal.told());
    story.end();
}

/// That nobody is listed there any more is no news of a server that is about to listen.
fn a_proc_that_lists_nobody() {
    let mut story = Story::begin();
    let command = sabotage::with_own_mounts(&story.netns);
    story.trace_as(command);
    let _server = Actor::start(&story.netns.place(), &Costume::program("openclaw-gateway"));
    let starting = |story: &mut Story| {
        let refusal = story.refused("127.0.0.1");
        assert_eq!(refusal.line.verdict.cause, Cause::Starting, "{}", refusal.told());
    };
    starting(&mut story);
    sabotage::change_mounts(story.tracer().pid(), false);
    // The first has every process looked for, once enough time has passed since the last look; what that finds counts
    // from then on.
    wait_past(mono_now_us() + 1_000_000);
    starting(&mut story);
    starting(&mut story);
    story.end();
}

/// Without CAP_SYS_PTRACE, hidepid= shows a user's own processes only.
fn a_proc_that_hides() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut story = Story::begin();
    let _gateway = story.listen("10.77.0.1");
    let capabilities = CapabilitySet::BPF
        | CapabilitySet::PERFMON
        | CapabilitySet::SYS_ADMIN
        | CapabilitySet::DAC_READ_SEARCH;
    let command = sabotage::as_nobody_with_hidden_processes(directory.path(), &story.netns, capabilities);
    story.trace_as(command);
    let why = story.tracer().limit("hidden-processes").expect("a limit by name").to_owned();
    assert!(why.contains("hidepid") && why.contains("CAP_SYS_PTRACE"), "{why}");
    let refusal = story.refused("127.0.0.1");
    refusal.cause(Cause::WrongAddress).weighs_only(1);
    assert_eq!(refusal.line.client.exe, None, "{}", refusal.told());
    assert_eq!(refusal.line.verdict.listeners[0].listener.process.pid, None, "{}", refusal.told());
    story.end();
}
