//! Running with less than root's privileges: what is given up, and what each missing capability costs. Whatever
//! is missing, what does not need it still works, and a refusal is reported.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;

use libtest_mimic::Trial;
use rustix::io::Errno;
use rustix::thread::CapabilitySet;
use tracer::output::schema::{Because, Body, Cause, Line, Mismatch};

use tests::fixture::{Fixture, Refusal, Spot};
use tests::limits;
use tests::needs::Need;
use tests::netns::Netns;
use tests::restricted;
use tests::suite::test;
use tests::tracer::{Tracer, finish, parse};

const NEEDS: &[Need] = &[Need::Root, Need::Network];
const NEEDS_TRACEFS: &[Need] = &[Need::Root, Need::Network, Need::Tracefs];

/// What tracer needs, by README.
const ALL: CapabilitySet = CapabilitySet::BPF
    .union(CapabilitySet::PERFMON)
    .union(CapabilitySet::SYS_ADMIN)
    .union(CapabilitySet::SYS_PTRACE)
    .union(CapabilitySet::DAC_READ_SEARCH);

/// What of these is still needed when the programs are attached.
const KEPT: CapabilitySet =
    CapabilitySet::SYS_ADMIN.union(CapabilitySet::SYS_PTRACE).union(CapabilitySet::DAC_READ_SEARCH);

/// The limits that a missing capability has.
const LIMITS: [&str; 4] = ["other-netns", "owners", "other-users", "privilege-kept"];

pub fn all() -> Vec<Trial> {
    vec![
        test("privilege::root_keeps_what_it_needs", NEEDS, root_keeps_what_it_needs),
        test("privilege::a_user_with_the_capabilities_sees_all", NEEDS, a_user_sees_all),
        test("privilege::without_sys_admin", NEEDS_TRACEFS, without_sys_admin),
        test("privilege::without_sys_admin_and_tracefs", NEEDS_TRACEFS, without_sys_admin_and_tracefs),
        test("privilege::without_sys_ptrace", NEEDS, without_sys_ptrace),
        test("privilege::without_dac_read_search", NEEDS, without_dac_read_search),
        test("privilege::too_little_locked_memory", &[Need::Root, Need::LockedMemory], too_little_memory),
        test("privilege::without_bpf", NEEDS, || {
            refuses(ALL - CapabilitySet::SYS_ADMIN - CapabilitySet::BPF, "CAP_BPF is missing");
        }),
        test("privilege::without_perfmon", NEEDS, || {
            refuses(ALL - CapabilitySet::SYS_ADMIN - CapabilitySet::PERFMON, "CAP_PERFMON is missing");
        }),
        test("privilege::sys_admin_implies_bpf_and_perfmon", NEEDS, sys_admin_implies),
        test("privilege::root_without_others_rights", NEEDS, root_without_others_rights),
        test("privilege::the_first_screen_shows_what_is_missing", NEEDS, the_first_screen),
        test(
            "privilege::what_cannot_be_given_up_is_reported",
            &[Need::Root, Need::Network, Need::Seccomp],
            kept,
        ),
    ]
}

/// A fixture with a listener of root's on another address than will be asked for, traced by `command`.
fn with_gateway(command: impl FnOnce(&Path, &Netns) -> Command, test: impl FnOnce(Fixture, u32)) {
    let directory = tempfile::tempdir().expect("a directory");
    let mut fixture = Fixture::begin();
    let gateway = fixture.listen("10.77.0.1");
    let command = command(directory.path(), &fixture.netns);
    fixture.trace_as(command);
    test(fixture, gateway.pid);
}

/// Asserts which of the limits that a capability costs there are.
fn limits(fixture: &mut Fixture, expected: &[&str]) {
    let tracer = fixture.tracer();
    let found: Vec<&str> = LIMITS.into_iter().filter(|what| tracer.limit(what).is_some()).collect();
    assert_eq!(found, expected, "{:?}", tracer.start_line().limits);
}

/// Asserts that a limit names what is missing.
fn names(fixture: &mut Fixture, limit: &str, capability: &str) {
    let why = fixture.tracer().limit(limit).unwrap_or_else(|| panic!("no limit `{limit}`"));
    assert!(why.contains(&format!("{capability} is missing")), "{why}");
}

/// Asserts the cause, and what makes it uncertain; besides, where `bind()` cannot be followed without a right that is
/// missing, that.
fn classified(fixture: &mut Fixture, refusal: &Refusal, cause: Cause, because: &[Because]) {
    let mut expected = because.to_vec();
    let has_binds = fixture.tracer().limit("no-binds").map(str::to_owned);
    if let Some(why) = has_binds {
        assert!(!limits::takes_fexit() && why.contains("CAP_DAC_READ_SEARCH"), "{why}");
        if !expected.contains(&Because::HookMissing) {
            expected.push(Because::HookMissing);
        }
    }
    refusal.verdict(cause, &expected);
}

/// Asserts which process holds the one listener that was evaluated.
fn held_by(refusal: &Refusal, pid: Option<u32>) {
    refusal.evaluates_only(1);
    let evaluated = &refusal.line.verdict.listeners[0];
    assert_eq!(evaluated.mismatch, Some(Mismatch::Address), "{}", refusal.shown());
    let process = &evaluated.listener.process;
    assert_eq!((process.pid, process.uid), (pid, Some(0)), "{}", refusal.shown());
}

/// What reading a file of a thread that has ended gives: before and after it is opened.
fn has_ended(error: &std::io::Error) -> bool {
    let errno = error.raw_os_error();
    errno == Some(Errno::NOENT.raw_os_error()) || errno == Some(Errno::SRCH.raw_os_error())
}

/// `CapEff` and the like of each thread of a process. One that reads namespaces for a scan may end meanwhile.
fn privileges(pid: u32) -> Vec<BTreeMap<String, u64>> {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).expect("its threads");
    let read = |path: &Path| -> Option<BTreeMap<String, u64>> {
        let text = match fs::read_to_string(path.join("status")) {
            Ok(text) => text,
            Err(error) if has_ended(&error) => return None,
            Err(error) => panic!("a thread's status: {error}"),
        };
        let lines = text.lines().filter_map(|line| line.split_once(":\t"));
        let lines = lines.filter(|(name, _)| name.starts_with("Cap") || *name == "NoNewPrivs");
        let number = |value: &str| u64::from_str_radix(value, 16).expect("a number");
        Some(lines.map(|(name, value)| (name.to_owned(), number(value))).collect())
    };
    let read: Vec<_> = threads.filter_map(|entry| read(&entry.expect("a thread").path())).collect();
    assert!(!read.is_empty(), "its first thread has ended");
    read
}

fn assert_reduced(pid: u32, kept: CapabilitySet, bounding: u64) {
    let expected = [
        ("CapAmb", 0),
        ("CapBnd", bounding),
        ("CapEff", kept.bits()),
        ("CapInh", 0),
        ("CapPrm", kept.bits()),
        ("NoNewPrivs", 1),
    ];
    let expected: BTreeMap<String, u64> =
        expected.map(|(name, value)| (name.to_owned(), value)).into_iter().collect();
    let threads = privileges(pid);
    assert!(!threads.is_empty() && threads.iter().all(|thread| *thread == expected), "{threads:x?}");
}

fn root_keeps_what_it_needs() {
    let mut fixture = Fixture::begin();
    let gateway = fixture.listen("10.77.0.1");
    fixture.trace();
    let pid = fixture.tracer().pid();
    assert_reduced(pid, KEPT, 0);
    limits(&mut fixture, &[]);
    // What it kept is enough: for another namespace than its own, for what was there and what comes.
    fixture.refused("127.0.0.1").cause(Cause::WrongAddress).evaluates(&gateway, Mismatch::Address);
    let created = Netns::with_eth0();
    let refusal = fixture.refused_in(&created, "127.0.0.1");
    refusal.verdict(Cause::OtherNetns, &[Because::UnverifiedServer]).evaluates(&gateway, Mismatch::Netns);
    assert!(refusal.line.client.exe.is_some(), "{}", refusal.shown());
    assert_reduced(pid, KEPT, 0);
    drop((refusal, gateway));
    fixture.end();
}

fn a_user_sees_all() {
    with_gateway(
        |directory, netns| restricted::as_nobody(directory, Some(netns), ALL),
        |mut fixture, gateway| {
            limits(&mut fixture, &[]);
            let pid = fixture.tracer().pid();
            // Without CAP_SETPCAP the bounding set stays, which no_new_privs makes moot.
            assert_reduced(pid, KEPT, ALL.bits());
            // Of a process that may not be dumped they are root's (`task_dump_owner()`, fs/proc/base.c).
            let owner = fs::metadata(format!("/proc/{pid}/fd")).expect("its descriptors").uid();
            assert_eq!(owner, 0, "it gives no core file and takes no debugger");
            let refusal = fixture.refused("127.0.0.1");
            refusal.cause(Cause::WrongAddress);
            held_by(&refusal, Some(gateway));
            assert!(refusal.line.client.exe.is_some(), "{}", refusal.shown());
            // A namespace that it is not in.
            let created = Netns::with_eth0();
            fixture
                .refused_in(&created, "127.0.0.1")
                .verdict(Cause::OtherNetns, &[Because::UnverifiedServer]);
            fixture.end();
        },
    );
}

fn without_sys_admin() {
    let elsewhere = Netns::with_eth0();
    let without = ALL - CapabilitySet::SYS_ADMIN;
    with_gateway(
        |directory, netns| restricted::as_nobody_with_tracefs(directory, netns, without, true),
        |mut fixture, gateway| {
            limits(&mut fixture, &["other-netns"]);
            names(&mut fixture, "other-netns", "CAP_SYS_ADMIN");
            // Where fexit programs are refused, bind() is followed by the tracefs that is mounted already.
            assert_eq!(fixture.tracer().limit("no-binds"), None);
            // The own namespace is seen as well as ever.
            let refusal = fixture.refused("127.0.0.1");
            classified(&mut fixture, &refusal, Cause::WrongAddress, &[]);
            held_by(&refusal, Some(gateway));
            // In another, what opens now is seen, and what may have been there before is an uncertainty. A wildcard
            // is on no interface, whose names are not known there.
            let spot = Spot { name: None, ..Spot::from(&elsewhere) };
            let opened = fixture.listen_in(spot.clone(), "0.0.0.0");
            let refusal = fixture.refused_in(spot, "[::1]");
            classified(&mut fixture, &refusal, Cause::WrongFamily, &[Because::NetnsUnreadable]);
            refusal.evaluates(&opened, Mismatch::Family);
            fixture.end();
        },
    );
}

/// Many hosts mount no tracefs, and to mount one takes CAP_SYS_ADMIN. By tracepoints on every kernel: where fexit
/// programs are possible, tracer does without tracefs.
fn without_sys_admin_and_tracefs() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut fixture = Fixture::begin();
    let gateway = fixture.listen("10.77.0.1");
    let without = ALL - CapabilitySet::SYS_ADMIN;
    let command = restricted::as_nobody_with_tracefs(directory.path(), &fixture.netns, without, false);
    let by_tracepoint = ["--bind-hook", "tracepoint"];
    fixture.tracer = Some(Tracer::start_as(command, fixture.netns.id, &[fixture.port()], &by_tracepoint));
    let why = fixture.tracer().limit("no-binds").expect("a limit by name").to_owned();
    for words in ["tracefs is not mounted at `/sys/kernel/tracing`", "CAP_SYS_ADMIN"] {
        assert!(why.contains(words), "`{words}`: {why}");
    }
    let refusal = fixture.refused("127.0.0.1");
    refusal.verdict(Cause::WrongAddress, &[Because::HookMissing]);
    held_by(&refusal, Some(gateway.pid));
    fixture.end();
}

fn without_sys_ptrace() {
    with_gateway(
        |directory, netns| restricted::as_nobody(directory, Some(netns), ALL - CapabilitySet::SYS_PTRACE),
        |mut fixture, _| {
            limits(&mut fixture, &["owners"]);
            names(&mut fixture, "owners", "CAP_SYS_PTRACE");
            let refusal = fixture.refused("127.0.0.1");
            classified(&mut fixture, &refusal, Cause::WrongAddress, &[]);
            held_by(&refusal, None);
            assert_eq!(refusal.line.client.exe, None, "{}", refusal.shown());
            // Nothing is seen there: neither the server candidates, nor every namespace.
            let created = Netns::with_eth0();
            let refusal = fixture.refused_in(&created, "127.0.0.1");
            let because = [Because::NetnsUnreadable, Because::HookMissing, Because::UnverifiedServer];
            classified(&mut fixture, &refusal, Cause::OtherNetns, &because);
            fixture.end();
        },
    );
}

fn without_dac_read_search() {
    with_gateway(
        |directory, netns| {
            restricted::as_nobody(directory, Some(netns), ALL - CapabilitySet::DAC_READ_SEARCH)
        },
        |mut fixture, _| {
            limits(&mut fixture, &["other-users"]);
            names(&mut fixture, "other-users", "CAP_DAC_READ_SEARCH");
            let refusal = fixture.refused("127.0.0.1");
            classified(&mut fixture, &refusal, Cause::WrongAddress, &[]);
            held_by(&refusal, None);
            assert!(refusal.line.client.exe.is_some(), "{}", refusal.shown());
            fixture.end();
        },
    );
}

/// Asserts that a trace with only these capabilities ends immediately with this sentence and a hint, and that
/// `status` works without.
fn refuses(capabilities: CapabilitySet, sentence: &str) {
    let directory = tempfile::tempdir().expect("a directory");
    let mut command = restricted::as_nobody(directory.path(), None, capabilities);
    command.args(["trace", "-p", "20000", "-o", "json", "--for", "10"]);
    let finished = finish(command);
    let stderr = &finished.stderr;
    assert_eq!((finished.status.code(), finished.stdout.as_str()), (Some(3), ""), "{stderr}");
    let first = stderr.lines().next().unwrap_or_default();
    assert_eq!(first, format!("tracer: cannot load kernel programs: {sentence}"));
    assert_eq!(stderr.lines().filter(|line| line.starts_with("hint: ")).count(), 1, "{stderr}");

    let fixture = Fixture::begin();
    let mut command = restricted::as_nobody(directory.path(), Some(&fixture.netns), capabilities);
    command.args(["status", "-o", "json", "-p", &fixture.port().to_string(), "127.0.0.1"]);
    let finished = finish(command);
    assert_eq!(finished.status.code(), Some(1), "{}", finished.stderr);
    let lines: Vec<_> = finished.stdout.lines().map(|line| parse(line.as_bytes()).expect("a line")).collect();
    let [Line { body: Body::Status(status), .. }] = &lines[..] else { panic!("{}", finished.stdout) };
    assert_eq!((status.addr.as_str(), status.port, status.answered), ("127.0.0.1", fixture.port(), false));
}

/// `bpf_capable()` and `perfmon_capable()` of linux/capability.h: nothing is missing then, and nothing is reported
/// as missing.
fn sys_admin_implies() {
    with_gateway(
        |directory, netns| {
            let without = ALL - CapabilitySet::BPF - CapabilitySet::PERFMON;
            restricted::as_nobody(directory, Some(netns), without)
        },
        |mut fixture, gateway| {
            limits(&mut fixture, &[]);
            let refusal = fixture.refused("127.0.0.1");
            refusal.cause(Cause::WrongAddress);
            held_by(&refusal, Some(gateway));
            fixture.end();
        },
    );
}

/// To be root is not enough to read of root's other processes, which have more capabilities.
fn root_without_others_rights() {
    with_gateway(
        |_, netns| restricted::as_root_with(netns, CapabilitySet::BPF | CapabilitySet::PERFMON),
        |mut fixture, _| {
            limits(&mut fixture, &["other-netns", "owners", "other-users"]);
            let pid = fixture.tracer().pid();
            let kept = privileges(pid)[0]["CapEff"];
            // CAP_BPF only where the kernel wants it for every use of a map.
            assert!(kept == 0 || kept == CapabilitySet::BPF.bits(), "{kept:x}");
            let refusal = fixture.refused("127.0.0.1");
            refusal.verdict(Cause::WrongAddress, &refusal.line.verdict.because.clone());
            held_by(&refusal, None);
            assert_eq!(refusal.line.client.exe, None, "{}", refusal.shown());
            fixture.end();
        },
    );
}

fn too_little_memory() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut command = restricted::as_nobody_with_little_memory(directory.path(), None, ALL);
    command.args(["trace", "-p", "20000", "-o", "json", "--for", "10"]);
    let finished = finish(command);
    assert_eq!((finished.status.code(), finished.stdout.as_str()), (Some(3), ""), "{}", finished.stderr);
    for words in ["only 64 KiB of memory may be locked", "LimitMEMLOCK=infinity"] {
        assert!(finished.stderr.contains(words), "`{words}`: {}", finished.stderr);
    }
}

fn the_first_screen() {
    let directory = tempfile::tempdir().expect("a directory");
    let few = CapabilitySet::BPF | CapabilitySet::PERFMON;
    let mut command = restricted::as_nobody(directory.path(), None, few);
    command.args(["trace", "-p", "20000", "--for", "100ms"]);
    let finished = finish(command);
    assert_eq!(finished.status.code(), Some(0), "{}", finished.stderr);
    // Without the line breaks of wrapping.
    let words: Vec<&str> = finished.stdout.split_whitespace().collect();
    let text = words.join(" ");
    for capability in ["CAP_SYS_ADMIN", "CAP_SYS_PTRACE", "CAP_DAC_READ_SEARCH"] {
        assert!(text.contains(&format!("limit: {capability} is missing: ")), "{}", finished.stdout);
    }
}

fn kept() {
    with_gateway(
        |_, netns| restricted::without_capset(netns),
        |mut fixture, gateway| {
            limits(&mut fixture, &["privilege-kept"]);
            let why = fixture.tracer().limit("privilege-kept").expect("the limit").to_owned();
            assert!(why.starts_with("capset() is refused (Operation not permitted"), "{why}");
            let refusal = fixture.refused("127.0.0.1");
            refusal.cause(Cause::WrongAddress);
            held_by(&refusal, Some(gateway));
            fixture.end();
        },
    );
}
