//! `cargo xtask test`: every test this host allows, and by name those it does not.
//!
//! By `cargo test`, not cargo-nextest. A live test finds out while it runs what this host lacks; nextest knows only tests
//! that are ignored in the list, and counts one that ends so as passed. A test that changes the machine excludes the
//! others by a lock in their common process; nextest gives each a process of its own. What is left takes seconds either
//! way, less than to build nextest on a machine without it.

use std::{
    collections::BTreeSet,
    env,
    ffi::OsString,
    fmt,
    io::{self, BufRead, BufReader, Write},
    process::{ExitCode, Stdio},
};

use anyhow::{Context, Result, bail};

use crate::{
    cargo::{cargo, root, search_path, shown},
    elevate::is_root,
};

/// The tests that may be left out where every test should be possible: as root in CI.
const ALLOWED: &str = "tests/not-run-as-root.txt";

/// What a run of `cargo test` printed, over all its test programs.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Tests that passed.
    pub passed: usize,
    /// Tests that failed.
    pub failed: usize,
    /// Tests that were not run.
    pub ignored: usize,
    /// Test programs that came to their end.
    programs: usize,
    /// The names of those that failed.
    pub failures: Vec<String>,
    /// Those that were not run.
    pub not_run: Vec<NotRun>,
}

/// A test that was not run.
#[derive(Debug, PartialEq, Eq)]
pub struct NotRun {
    name: String,
    reason: Option<String>,
}

/// Runs the tests, shows their output as it comes, and ends with one line that counts them.
pub fn run(args: &[OsString]) -> Result<ExitCode> {
    let mut command = cargo();
    command.args(["test", "--workspace", "--no-fail-fast"]).args(args).stdout(Stdio::piped());
    // The tests find `ip` and `nft` where `cargo xtask setup` finds them.
    command.env("PATH", env::join_paths(search_path()).context("PATH")?);
    let mut child = command.spawn().with_context(|| format!("cannot run `{}`", shown(&command)))?;
    let report = follow(BufReader::new(child.stdout.take().expect("stdout is a pipe")))?;
    let status = child.wait().with_context(|| format!("cannot wait for `{}`", shown(&command)))?;

    let mut ok = status.success() && report.failed == 0;
    let mut out = io::stdout().lock();
    for test in &report.not_run {
        writeln!(out, "not run: {test}")?;
    }
    for name in &report.failures {
        writeln!(out, "failed: {name}")?;
    }
    if args.is_empty() && is_root() && env::var("CI").is_ok_and(|ci| ci == "true") {
        let list = root().join(ALLOWED);
        let list =
            std::fs::read_to_string(&list).with_context(|| format!("cannot read `{}`", list.display()))?;
        let not_run = report.not_run.iter().map(|test| test.name.as_str());
        for difference in differences(not_run, &list, ALLOWED) {
            writeln!(out, "{difference}")?;
            ok = false;
        }
    }
    writeln!(out, "{report}")?;
    out.flush()?;
    if !status.success() && report.failed == 0 {
        bail!("`cargo test` failed: {status}: a test program did not build, or did not come to its end");
    }
    Ok(if ok { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Copies the output to stdout as it comes and reads it on the way.
fn follow(mut output: impl BufRead) -> Result<Report> {
    let mut report = Report::default();
    let mut line = Vec::new();
    while output.read_until(b'\n', &mut line).context("cannot read the tests' output")? > 0 {
        let mut out = io::stdout().lock();
        out.write_all(&line)?;
        out.flush()?;
        report.read(&String::from_utf8_lossy(&line));
        line.clear();
    }
    Ok(report)
}

impl Report {
    /// Takes one line of libtest's output, or libtest-mimic's.
    pub fn read(&mut self, line: &str) {
        let line = without_colour(line);
        let line = line.trim();
        if let Some(result) = line.strip_prefix("test result: ") {
            self.programs += 1;
            self.passed += count(result, "passed");
            self.failed += count(result, "failed");
            self.ignored += count(result, "ignored");
        } else if let Some((name, outcome)) =
            line.strip_prefix("test ").and_then(|line| line.split_once(" ... "))
        {
            let name = name.trim().to_owned();
            if let Some(reason) = outcome.trim().strip_prefix("ignored") {
                // libtest: `ignored, reason`; libtest-mimic: `ignored (reason)`.
                let reason = reason.trim_start_matches([',', ' ']);
                let reason =
                    reason.strip_prefix('(').and_then(|inner| inner.strip_suffix(')')).unwrap_or(reason);
                let reason = Some(reason.to_owned()).filter(|reason| !reason.is_empty());
                self.not_run.push(NotRun { name, reason });
            } else if outcome.trim() == "FAILED" {
                self.failures.push(name);
            }
        }
    }
}

/// The number before a word, in `ok. 12 passed; 0 failed; 1 ignored; ...`.
fn count(result: &str, word: &str) -> usize {
    let mut words = result.split([' ', ';', '.']).filter(|word| !word.is_empty());
    let mut last = "";
    words
        .find_map(|next| {
            if next == word {
                last.parse().ok()
            } else {
                last = next;
                None
            }
        })
        .unwrap_or(0)
}

/// The line without the escape sequences that colour it.
fn without_colour(line: &str) -> String {
    let mut plain = String::with_capacity(line.len());
    let mut rest = line;
    while let Some((before, after)) = rest.split_once("\x1b[") {
        plain.push_str(before);
        rest = after.trim_start_matches(|c: char| c.is_ascii_digit() || c == ';');
        rest = rest.get(1..).unwrap_or_default();
    }
    plain + rest
}

/// How the tests not run differ from a list of them, which is `name`: one sentence each.
pub fn differences<'a>(not_run: impl Iterator<Item = &'a str>, list: &str, name: &str) -> Vec<String> {
    let listed: BTreeSet<_> =
        list.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')).collect();
    let missing: BTreeSet<_> = not_run.collect();
    let unlisted = missing
        .difference(&listed)
        .map(|test| format!("`{test}` was not run, and `{name}` does not allow it"));
    let stale = listed
        .difference(&missing)
        .map(|test| format!("`{test}` is in `{name}`, and it was run or does not exist"));
    unlisted.chain(stale).collect()
}

impl fmt::Display for NotRun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.name, self.reason.as_deref().unwrap_or("no reason given"))
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} passed, {} failed, {} skipped", self.passed, self.failed, self.ignored)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(output: &str) -> Report {
        let mut report = Report::default();
        output.lines().for_each(|line| report.read(line));
        report
    }

    fn not_run(name: &str, reason: Option<&str>) -> NotRun {
        NotRun { name: name.to_owned(), reason: reason.map(str::to_owned) }
    }

    #[test]
    fn the_results_of_all_programs_are_added_up() {
        let report = read(
            "running 3 tests\n\
             test a ... ok\n\
             test result: ok. 12 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.00s\n\n\
             running 0 tests\n\
             test result: FAILED. 2 passed; 3 failed; 4 ignored; 0 measured; 9 filtered out; finished in 1.50s\n",
        );
        assert_eq!(report.to_string(), "14 passed, 3 failed, 5 skipped");
        assert_eq!(report.programs, 2);
    }

    #[test]
    fn a_test_not_run_keeps_its_name_and_reason() {
        let report = read(
            "test plain ... ignored\n\
             test live::trace ... ignored, needs root\n\
             test [live] padded    ... ignored (needs root (and BTF))\n\
             test src/lib.rs - Reader (line 3) ... ignored\n\
             test result_of_it ... ok\n",
        );
        assert_eq!(
            report.not_run,
            [
                not_run("plain", None),
                not_run("live::trace", Some("needs root")),
                not_run("[live] padded", Some("needs root (and BTF)")),
                not_run("src/lib.rs - Reader (line 3)", None),
            ]
        );
    }

    #[test]
    fn a_failed_test_is_named() {
        assert_eq!(read("test a ... FAILED\ntest b ... ok\n").failures, ["a"]);
    }

    #[test]
    fn colour_sequences_are_removed() {
        let report = read(
            "test a ... \x1b[33mignored\x1b[0m\ntest result: \x1b[32mok\x1b[0m. 1 passed; 0 failed; 1 ignored;\n",
        );
        assert_eq!(report.not_run, [not_run("a", None)]);
        assert_eq!(report.to_string(), "1 passed, 0 failed, 1 skipped");
    }

    #[test]
    fn other_lines_are_not_taken_for_results() {
        assert_eq!(
            read("testing ... ignored\n  test result of mine\nlog: test a ... ignored\n"),
            Report::default()
        );
    }

    #[test]
    fn the_list_must_equal_what_was_not_run() {
        let differences =
            |tests: &[&str], list| super::differences(tests.iter().copied(), list, "list").len();
        assert_eq!(differences(&["a", "b"], "# why\na\n\nb\n"), 0);
        assert_eq!(differences(&["a", "b"], "a\n"), 1);
        assert_eq!(differences(&["a", "b"], "a\nb\nc\n"), 1);
        assert_eq!(differences(&[], "# nothing\n"), 0);
    }
}
