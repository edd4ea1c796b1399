//! Hosts that cannot run it: exit code 3, what is missing, what to do; the verifier's words only when asked.

use std::process::Command;

use libtest_mimic::Trial;

use tests::binary::binary;
use tests::needs::Need;
use tests::restricted;
use tests::suite::test;
use tests::tracer::{Finished, finish};

pub fn all() -> Vec<Trial> {
    vec![
        test("bad_host::no_root", &[Need::Root], no_root),
        test("bad_host::doctor", &[Need::Root], doctor),
        test("bad_host::no_btf", &[Need::Root], || {
            refuses(restricted::without_btf(), &["BTF", "/sys/kernel/btf/vmlinux"]);
        }),
        test("bad_host::old_kernel", &[Need::Root], || {
            refuses(restricted::old_kernel(), &["2.6.", "5.8"]);
        }),
        test("bad_host::no_sock_diag", &[Need::Root, Need::Seccomp], || {
            refuses(restricted::without_sock_diag(), &["sock_diag", "inet_diag"]);
        }),
        test("bad_host::no_program_loads", &[Need::Root, Need::Seccomp], || {
            refuses(restricted::without_program_load(), &["kernel refuses the maps"]);
        }),
        test("bad_host::the_verifier_is_quoted_only_when_asked", &[Need::Root], the_verifier),
    ]
}

/// Runs a trace that must end immediately, and asserts how.
fn refuses(command: Command, named: &[&str]) -> Finished {
    refuses_with(command, &[], named)
}

/// The same with more arguments.
fn refuses_with(mut command: Command, more: &[&str], named: &[&str]) -> Finished {
    command.args(["trace", "-p", "20000", "-o", "json", "--for", "10"]).args(more);
    let finished = finish(command);
    let stderr = &finished.stderr;
    assert_eq!(finished.status.code(), Some(3), "{stderr}");
    assert_eq!(finished.stdout, "", "{stderr}");
    let lines: Vec<&str> = stderr.lines().collect();
    let hint = lines.iter().position(|line| line.starts_with("hint: "));
    let hint = hint.unwrap_or_else(|| panic!("a hint: {stderr}"));
    assert_eq!(lines.get(hint.wrapping_sub(1)), Some(&""), "a blank line before the hint: {stderr}");
    for name in named {
        assert!(lines.iter().any(|line| line.contains(name)), "`{name}` is named: {stderr}");
    }
    finished
}

fn no_root() {
    let directory = tempfile::tempdir().expect("a directory");
    let finished = refuses(restricted::without_root(directory.path(), None), &["CAP_BPF", "CAP_PERFMON"]);
    assert!(finished.stderr.contains("tracer status"), "it names what works without: {}", finished.stderr);
}

/// It loads the programs as a trace would, and where it may not, names what is missing as a trace would.
fn doctor() {
    let mut command = Command::new(binary());
    command.arg("doctor");
    let finished = finish(command);
    assert_eq!(finished.status.code(), Some(0), "{}", finished.stderr);
    for hook in ["inet_sock_set_state (t", "This host can run it."] {
        assert!(finished.stdout.contains(hook), "`{hook}`: {}", finished.stdout);
    }
    let directory = tempfile::tempdir().expect("a directory");
    let mut command = restricted::without_root(directory.path(), None);
    command.arg("doctor");
    let finished = finish(command);
    assert_eq!(finished.status.code(), Some(3), "{}", finished.stdout);
    for word in ["CAP_BPF and CAP_PERFMON are missing", "hint: as root: su -c "] {
        assert!(finished.stdout.contains(word), "`{word}`: {}", finished.stdout);
    }
}

/// With a description of the kernel that is wrong, the verifier refuses the programs and
/// explains it at length.
fn the_verifier() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("vmlinux");
    std::fs::write(&path, restricted::untrue_btf()).expect("to write the description");
    /// What the verifier logs of a read inside a pointer (kernel/bpf/btf.c, btf_struct_walk).
    const VERIFIER: &str = "cannot access ptr member";

    let quiet = refuses(restricted::with_btf(&path), &["kernel refuses the program"]);
    assert!(!quiet.stderr.contains(VERIFIER), "{}", quiet.stderr);

    let loud = refuses_with(restricted::with_btf(&path), &["-v"], &["kernel refuses the program"]);
    assert!(loud.stderr.contains(VERIFIER), "{}", loud.stderr);
}
