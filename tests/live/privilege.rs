//! Running with less than root's privileges: what is given up, and what each missing capability costs. Whatever
//! is missing, what does not need it still works, and a refusal is told.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;

use libtest_mimic::Trial;
use rustix::thread::CapabilitySet;
use tracer::line::{Because, Cause, Mismatch};

use crate::support::needs::Need;
use crate::support::netns::Netns;
use crate::support::sabotage;
use crate::support::story::{Refusal, Spot, Story};
use crate::support::tracer::finish;
use crate::trial;

const NEEDS: &[Need] = &[Need::Root, Need::Network];

/// What README says that tracer needs.
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

pub fn trials() -> Vec<Trial> {
    vec![
        trial("privilege::root_keeps_what_it_needs", NEEDS, root_keeps_what_it_needs),
        trial("privilege::a_user_with_the_capabilities_sees_all", NEEDS, a_user_sees_all),
        trial("privilege::without_sys_admin", NEEDS, without_sys_admin),
        trial("privilege::without_sys_ptrace", NEEDS, without_sys_ptrace),
        trial("privilege::without_dac_read_search", NEEDS, without_dac_read_search),
        trial("privilege::too_little_locked_memory", &[Need::Root, Need::LockedMemory], too_little_memory),
        trial("privilege::without_bpf", NEEDS, || {
            refuses(ALL - CapabilitySet::SYS_ADMIN - CapabilitySet::BPF, "CAP_BPF is missing");
        }),
        trial("privilege::without_perfmon", NEEDS, || {
            refuses(ALL - CapabilitySet::SYS_ADMIN - CapabilitySet::PERFMON, "CAP_PERFMON is missing");
        }),
        trial("privilege::sys_admin_implies_bpf_and_perfmon", NEEDS, sys_admin_implies),
        trial("privilege::root_without_others_rights", NEEDS, root_without_others_rights),
        trial("privilege::the_first_screen_says_what_is_missing", NEEDS, the_first_screen),
        trial(
            "privilege::what_cannot_be_given_up_is_told",
            &[Need::Root, Need::Network, Need::Seccomp],
            kept,
        ),
    ]
}

/// A story with a listener of root's on another address than will be asked for, traced by `command`.
fn with_gateway(command: impl FnOnce(&Path, &Netns) -> Command, test: impl FnOnce(Story, u32)) {
    let directory = tempfile::tempdir().expect("a directory");
    let mut story = Story::begin();
    let gateway = story.listen("10.77.0.1");
    let command = command(directory.path(), &story.netns);
    story.trace_as(command);
    test(story, gateway.pid);
}

/// Asserts which of the limits that a capability costs there are.
fn limits(story: &mut Story, expected: &[&str]) {
    let tracer = story.tracer();
    let found: Vec<&str> = LIMITS.into_iter().filter(|what| tracer.limit(what).is_some()).collect();
    assert_eq!(found, expected, "{:?}", tracer.start_line().limits);
}

/// Asserts that a limit names what is missing.
fn names(story: &mut Story, limit: &str, capability: &str) {
    let why = story.tracer().limit(limit).unwrap_or_else(|| panic!("no limit `{limit}`"));
    assert!(why.contains(&format!("{capability} is missing")), "{why}");
}

/// Asserts the cause, and what makes it uncertain; besides, where `bind()` cannot be followed, that.
fn judged(story: &mut Story, refusal: &Refusal, cause: Cause, because: &[Because]) {
    let mut expected = because.to_vec();
    if let Some(why) = story.tracer().limit("no-binds") {
        assert!(why.contains("CAP_DAC_READ_SEARCH"), "{why}");
        expected.push(Because::HookMissing);
        expected.sort_unstable();
        expected.dedup();
    }
    refusal.verdict(cause, &expected);
}

/// Asserts who holds the one listener that was weighed.
fn held_by(refusal: &Refusal, pid: Option<u32>) {
    refusal.weighs_only(1);
    let weighed = &refusal.line.verdict.listeners[0];
    assert_eq!(weighed.mismatch, Some(Mismatch::Address), "{}", refusal.told());
    let process = &weighed.listener.process;
    assert_eq!((process.pid, process.uid), (pid, Some(0)), "{}", refusal.told());
}

/// `CapEff` and the like of each thread of a process.
fn privileges(pid: u32) -> Vec<BTreeMap<String, u64>> {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).expect("its threads");
    let read = |path: &Path| -> BTreeMap<String, u64> {
        let text = fs::read_to_string(path.join("status")).expect("a thread's status");
        let lines = text.lines().filter_map(|line| line.split_once(":\t"));
        lines
            .filter(|(name, _)| name.starts_with("Cap") || *name == "NoNewPrivs")
            .map(|(name, value)| (name.to_owned(), u64::from_str_radix(value, 16).expect("a number")))
            .collect()
    };
    threads.map(|entry| read(&entry.expect("a thread").path())).collect()
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
    let mut story = Story::begin();
    let gateway = story.listen("10.77.0.1");
    story.trace();
    let pid = story.tracer().pid();
    assert_reduced(pid, KEPT, 0);
    limits(&mut story, &[]);
    // What it kept is enough: for another namespace than its own, for what was there and what comes.
    story.refused("127.0.0.1").cause(Cause::WrongAddress).weighs(&gateway, Mismatch::Address);
    let born = Netns::new();
    let refusal = story.refused_in(&born, "127.0.0.1");
    refusal.cause(Cause::OtherNetns).weighs(&gateway, Mismatch::Netns);
    assert!(refusal.line.client.exe.is_some(), "{}", refusal.told());
    assert_reduced(pid, KEPT, 0);
    drop((refusal, gateway));
    story.end();
}

fn a_user_sees_all() {
    with_gateway(
        |directory, netns| sabotage::as_nobody(directory, Some(netns), ALL),
        |mut story, gateway| {
            limits(&mut story, &[]);
            let pid = story.tracer().pid();
            // Without CAP_SETPCAP the bounding set stays, which no_new_privs makes moot.
            assert_reduced(pid, KEPT, ALL.bits());
            // Of a process that may not be dumped they are root's (`task_dump_owner()`, fs/proc/base.c).
            let owner = fs::metadata(format!("/proc/{pid}/fd")).expect("its descriptors").uid();
            assert_eq!(owner, 0, "it gives no core file and takes no debugger");
            let refusal = story.refused("127.0.0.1");
            refusal.cause(Cause::WrongAddress);
            held_by(&refusal, Some(gateway));
            assert!(refusal.line.client.exe.is_some(), "{}", refusal.told());
            // A namespace that it is not in.
            let born = Netns::new();
            story.refused_in(&born, "127.0.0.1").cause(Cause::OtherNetns);
            story.end();
        },
    );
}

fn without_sys_admin() {
    let elsewhere = Netns::new();
    with_gateway(
        |directory, netns| sabotage::as_nobody(directory, Some(netns), ALL - CapabilitySet::SYS_ADMIN),
        |mut story, gateway| {
            limits(&mut story, &["other-netns"]);
            names(&mut story, "other-netns", "CAP_SYS_ADMIN");
            // Where fexit programs are refused, bind() is followed by the tracefs that is mounted already.
            if Path::new("/sys/kernel/tracing/events").exists() {
                assert_eq!(story.tracer().limit("no-binds"), None);
            }
            // The own namespace is seen as well as ever.
            let refusal = story.refused("127.0.0.1");
            judged(&mut story, &refusal, Cause::WrongAddress, &[]);
            held_by(&refusal, Some(gateway));
            // In another, what opens now is seen, and what may have been there before is a doubt. A wildcard
            // is on no interface, whose names are not known there.
            let spot = Spot { name: None, ..Spot::from(&elsewhere) };
            let opened = story.listen_in(spot.clone(), "0.0.0.0");
            let refusal = story.refused_in(spot, "[::1]");
            judged(&mut story, &refusal, Cause::WrongFamily, &[Because::NetnsUnreadable]);
            refusal.weighs(&opened, Mismatch::Family);
            story.end();
        },
    );
}

fn without_sys_ptrace() {
    with_gateway(
        |directory, netns| sabotage::as_nobody(directory, Some(netns), ALL - CapabilitySet::SYS_PTRACE),
        |mut story, _| {
            limits(&mut story, &["owners"]);
            names(&mut story, "owners", "CAP_SYS_PTRACE");
            let refusal = story.refused("127.0.0.1");
            judged(&mut story, &refusal, Cause::WrongAddress, &[]);
            held_by(&refusal, None);
            assert_eq!(refusal.line.client.exe, None, "{}", refusal.told());
            // Nothing is seen there: neither who claims to be the server, nor every namespace.
            let born = Netns::new();
            let refusal = story.refused_in(&born, "127.0.0.1");
            let doubts = [Because::NetnsUnreadable, Because::HookMissing];
            judged(&mut story, &refusal, Cause::OtherNetns, &doubts);
            story.end();
        },
    );
}

fn without_dac_read_search() {
    with_gateway(
        |directory, netns| sabotage::as_nobody(directory, Some(netns), ALL - CapabilitySet::DAC_READ_SEARCH),
        |mut story, _| {
            limits(&mut story, &["other-users"]);
            names(&mut story, "other-users", "CAP_DAC_READ_SEARCH");
            let refusal = story.refused("127.0.0.1");
            judged(&mut story, &refusal, Cause::WrongAddress, &[]);
            held_by(&refusal, None);
            assert!(refusal.line.client.exe.is_some(), "{}", refusal.told());
            story.end();
        },
    );
}

/// Asserts that a trace with only these capabilities ends at once with this sentence and a hint, and that
/// `status` works without.
fn refuses(capabilities: CapabilitySet, sentence: &str) {
    let directory = tempfile::tempdir().expect("a directory");
    let mut command = sabotage::as_nobody(directory.path(), None, capabilities);
    command.args(["trace", "-p", "20000", "-o", "json", "--for", "10"]);
    let finished = finish(command);
    let stderr = &finished.stderr;
    assert_eq!((finished.status.code(), finished.stdout.as_str()), (Some(3), ""), "{stderr}");
    let first = stderr.lines().next().unwrap_or_default();
    assert_eq!(first, format!("tracer: cannot load kernel programs: {sentence}"));
    assert_eq!(stderr.lines().filter(|line| line.starts_with("hint: ")).count(), 1, "{stderr}");

    let story = Story::begin();
    let mut command = sabotage::as_nobody(directory.path(), Some(&story.netns), capabilities);
    command.args(["status", "-p", &story.port().to_string(), "127.0.0.1"]);
    let finished = finish(command);
    assert_eq!(finished.status.code(), Some(1), "{}", finished.stderr);
    assert!(finished.stdout.contains("refused"), "{}", finished.stdout);
}

/// `bpf_capable()` and `perfmon_capable()` of linux/capability.h: nothing is missing then, and nothing is said
/// to be.
fn sys_admin_implies() {
    with_gateway(
        |directory, netns| {
            let without = ALL - CapabilitySet::BPF - CapabilitySet::PERFMON;
            sabotage::as_nobody(directory, Some(netns), without)
        },
        |mut story, gateway| {
            limits(&mut story, &[]);
            let refusal = story.refused("127.0.0.1");
            refusal.cause(Cause::WrongAddress);
            held_by(&refusal, Some(gateway));
            story.end();
        },
    );
}

/// To be root is not enough to read of root's other processes, which have more capabilities.
fn root_without_others_rights() {
    with_gateway(
        |_, netns| sabotage::as_root_with(netns, CapabilitySet::BPF | CapabilitySet::PERFMON),
        |mut story, _| {
            limits(&mut story, &["other-netns", "owners", "other-users"]);
            let pid = story.tracer().pid();
            let kept = privileges(pid)[0]["CapEff"];
            // CAP_BPF only where the kernel wants it for every use of a map.
            assert!(kept == 0 || kept == CapabilitySet::BPF.bits(), "{kept:x}");
            let refusal = story.refused("127.0.0.1");
            refusal.verdict(Cause::WrongAddress, &refusal.line.verdict.because.clone());
            held_by(&refusal, None);
            assert_eq!(refusal.line.client.exe, None, "{}", refusal.told());
            story.end();
        },
    );
}

fn too_little_memory() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut command = sabotage::as_nobody_with_little_memory(directory.path(), None, ALL);
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
    let mut command = sabotage::as_nobody(directory.path(), None, few);
    command.args(["trace", "-p", "20000", "--for", "100ms"]);
    let finished = finish(command);
    assert_eq!(finished.status.code(), Some(0), "{}", finished.stderr);
    // As if nothing had been wrapped.
    let words: Vec<&str> = finished.stdout.split_whitespace().collect();
    let text = words.join(" ");
    for capability in ["CAP_SYS_ADMIN", "CAP_SYS_PTRACE", "CAP_DAC_READ_SEARCH"] {
        assert!(text.contains(&format!("limit: {capability} is missing: ")), "{}", finished.stdout);
    }
}

fn kept() {
    with_gateway(
        |_, netns| sabotage::without_capset(netns),
        |mut story, gateway| {
            limits(&mut story, &["privilege-kept"]);
            let why = story.tracer().limit("privilege-kept").expect("the limit").to_owned();
            assert!(why.starts_with("capset() is refused (Operation not permitted"), "{why}");
            let refusal = story.refused("127.0.0.1");
            refusal.cause(Cause::WrongAddress);
            held_by(&refusal, Some(gateway));
            story.end();
        },
    );
}
