//! `cargo xtask vm`: the demo, the live tests and the oracle on stock Debian kernels, emulated.
//!
//! Needs no root. Kernels are fetched from Debian's archive and kept in `~/.cache/tracer-vm`; what guests printed is
//! in `target/vm`.

mod guest;
mod initramfs;
mod kernel;
mod modules;
mod report;

use std::{
    collections::VecDeque,
    ffi::{OsStr, OsString},
    fs,
    path::Path,
    sync::Mutex,
    thread,
};

use anyhow::{Context, Result, bail};

use self::{
    guest::Ended,
    initramfs::{Programs, TRACER},
    kernel::{Kernel, SERIES, kernels},
    report::{Row, SUITES},
};
use crate::{
    cargo::{quoted, root, target_directory},
    test::differences,
};

/// Where the tests are listed that a kernel cannot run, one file for each of [`SERIES`].
const LISTS: &str = "tests/vm";

/// Runs everything on these kernels, or on every one; `args` go to the tests. Gives what failed, line by line.
pub fn run(series: &[String], args: &[OsString]) -> Result<Vec<String>> {
    let wanted: Vec<&str> = if series.is_empty() {
        SERIES.to_vec()
    } else {
        series.iter().map(|name| known(name)).collect::<Result<_>>()?
    };
    let kernels = kernels(&wanted)?;
    let programs = Programs::build()?;
    let directory = target_directory()?.join("vm");
    let suites = suites(Path::new(TRACER), args);
    let outcomes = side_by_side(&kernels, |kernel| {
        let ended = boot(kernel, &programs, &suites, &directory.join(&kernel.series))?;
        outcome(kernel, &ended, args.is_empty())
    });
    let mut rows = Vec::new();
    let mut troubles = Vec::new();
    for (kernel, outcome) in kernels.iter().zip(outcomes) {
        let outcome = outcome.with_context(|| format!("the kernel {}", kernel.release))?;
        troubles.extend(outcome.troubles.iter().map(|trouble| format!("{}: {trouble}", kernel.release)));
        rows.extend(outcome.rows);
    }
    for trouble in &troubles {
        println!("{trouble}");
    }
    print!("{}", report::table(&rows));
    Ok(troubles)
}

/// Runs one command on a kernel, `command` of the path that tracer has there, and gives what it printed.
pub fn in_guest(series: &str, command: impl FnOnce(&Path) -> Vec<OsString>) -> Result<String> {
    let kernels = kernels(&[known(series)?])?;
    let kernel = kernels.first().context("no kernel is at hand")?;
    let programs = Programs::build()?;
    let words = command(Path::new(TRACER));
    let script = suite("command", words.iter().map(OsString::as_os_str));
    let directory = target_directory()?.join("vm").join(format!("{series}-command"));
    let ended = boot(kernel, &programs, &script, &directory)?;
    let (suites, _) = report::read_suites(&ended.results);
    match (ended.trouble, suites.into_iter().next()) {
        (None, Some(suite)) if suite.status == Some(0) => Ok(suite.output),
        (trouble, suite) => {
            let status = suite.and_then(|suite| suite.status);
            let how = trouble.or_else(|| status.map(|status| format!("the command ended with {status}")));
            let how = how.unwrap_or_else(|| "the command did not come to its end".to_owned());
            bail!("the kernel {}: {how}: its console is in `{}`", kernel.release, ended.log.display())
        }
    }
}

/// Boots a kernel that runs a script of suites; what belongs to it is kept in `directory`.
fn boot(kernel: &Kernel, programs: &Programs, script: &str, directory: &Path) -> Result<Ended> {
    fs::create_dir_all(directory).with_context(|| format!("cannot make `{}`", directory.display()))?;
    let initramfs = initramfs::build(kernel, programs, script, directory)?;
    guest::run(kernel, &initramfs, directory)
}

/// The series of this name.
fn known(name: &str) -> Result<&'static str> {
    match SERIES.iter().find(|series| **series == name) {
        Some(series) => Ok(series),
        None => bail!("no kernel `{name}` to run: one of {}", SERIES.join(", ")),
    }
}

/// What a guest runs: one line a suite, in its shell's words.
fn suites(tracer: &Path, args: &[OsString]) -> String {
    let mut script = String::new();
    let demo = [OsStr::new("/bin/xtask"), OsStr::new("demo"), OsStr::new("--json"), OsStr::new("--tracer")];
    // Two at a time even on one processor: each waits for something now and then.
    let usual = ["--test-threads", "2"].map(OsString::from);
    let args = if args.is_empty() { &usual } else { args };
    let tests = |program| {
        let words = [program, "--color", "never"].map(OsStr::new);
        words.into_iter().chain(args.iter().map(OsString::as_os_str)).collect()
    };
    let commands: [Vec<&OsStr>; 3] =
        [demo.into_iter().chain([tracer.as_os_str()]).collect(), tests("/bin/live"), tests("/bin/oracle")];
    for (name, command) in SUITES.iter().zip(commands) {
        script += &suite(name, command.into_iter());
    }
    script
}

/// One line of it.
fn suite<'a>(name: &str, command: impl Iterator<Item = &'a OsStr>) -> String {
    let words: Vec<_> = command.map(quoted).collect();
    format!("suite {name} {}\n", words.join(" "))
}

/// Does `work` with each kernel, as many at a time as there are processors: an emulated machine with one
/// processor uses one well, and another that it had only in part. Gives the results in the kernels' order.
fn side_by_side<T: Send>(kernels: &[Kernel], work: impl Fn(&Kernel) -> T + Sync) -> Vec<T> {
    let workers = thread::available_parallelism().map_or(1, usize::from).min(kernels.len());
    let queue = Mutex::new(kernels.iter().enumerate().collect::<VecDeque<_>>());
    let results = Mutex::new(Vec::new());
    let next = || queue.lock().expect("no worker panics with it").pop_front();
    thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                while let Some((index, kernel)) = next() {
                    let result = work(kernel);
                    results.lock().expect("no worker panics with it").push((index, result));
                }
            });
        }
    });
    let mut results = results.into_inner().expect("no worker panics with it");
    results.sort_by_key(|(index, _)| *index);
    results.into_iter().map(|(_, result)| result).collect()
}

/// What a kernel's run came to.
struct Outcome {
    rows: Vec<Row>,
    /// Everything that makes it a failure.
    troubles: Vec<String>,
}

/// Counts a guest's results, and names what is wrong. Where `all` ran, what was not possible must equal the list.
fn outcome(kernel: &Kernel, ended: &Ended, all: bool) -> Result<Outcome> {
    let (suites, is_done) = report::read_suites(&ended.results);
    let mut troubles: Vec<String> = ended.trouble.iter().cloned().collect();
    let mut rows: Vec<Row> = Vec::new();
    let mut not_run = Vec::new();
    let mut backend = "unknown".to_owned();
    for suite in &suites {
        let mut row = Row { kernel: kernel.release.clone(), suite: suite.name.clone(), ..Row::default() };
        if suite.name == SUITES[0] {
            let demo = report::demo(&suite.output);
            backend = demo.backend;
            row.run = 1;
            row.failed = usize::from(demo.wrong.is_some());
            troubles.extend(demo.wrong);
        } else {
            let report = report::tests(&suite.output);
            // Tests that were reported count too when the sum at the end is missing.
            row.run = report::finished(&suite.output).max(report.passed + report.failed);
            row.failed = report.failures.len().max(report.failed);
            row.not_possible = report.not_run.len().max(report.ignored);
            troubles.extend(report.failures.iter().map(|name| format!("failed: {name}")));
            troubles.extend(report::messages(&suite.output).map(str::to_owned));
            not_run.extend(report.not_run.iter().map(ToString::to_string));
        }
        row.backend.clone_from(&backend);
        rows.push(row);
        match suite.status {
            Some(0) => {}
            Some(status) => troubles.push(format!("the suite `{}` ended with {status}", suite.name)),
            None => troubles.push(format!("the suite `{}` did not come to its end", suite.name)),
        }
    }
    if !is_done || suites.iter().map(|suite| suite.name.as_str()).ne(SUITES) {
        troubles.push("the guest did not run every suite to its end".to_owned());
    }
    if all {
        let name = format!("{LISTS}/{}.txt", kernel.series);
        let list = root().join(&name);
        let list = fs::read_to_string(&list).with_context(|| format!("cannot read `{}`", list.display()))?;
        troubles.extend(differences(not_run.iter().map(String::as_str), &list, &name));
    }
    eprintln!("vm: {} ran for {} s", kernel.release, ended.took.as_secs());
    if !troubles.is_empty() {
        troubles.push(format!("its console is in `{}`, and its results beside it", ended.log.display()));
    }
    Ok(Outcome { rows, troubles })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_known_kernels_are_run() {
        assert_eq!(known("6.1").unwrap(), "6.1");
        known("6.2").unwrap_err();
    }

    #[test]
    fn arguments_reach_the_tests_as_they_are() {
        let script = suites(Path::new("/a b/tracer"), &["it's".into()]);
        let lines: Vec<_> = script.lines().collect();
        assert_eq!(lines[0], "suite demo /bin/xtask demo --json --tracer '/a b/tracer'");
        assert_eq!(lines[1], r"suite live /bin/live --color never 'it'\''s'");
        assert_eq!(lines[2], r"suite oracle /bin/oracle --color never 'it'\''s'");
    }

    #[test]
    fn results_keep_the_order_of_the_kernels() {
        let kernels: Vec<Kernel> = SERIES.map(Kernel::at_hand).into();
        let order = side_by_side(&kernels, |kernel| kernel.series.clone());
        assert_eq!(order, SERIES);
    }
}
