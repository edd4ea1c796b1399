//! `cargo xtask vm`: the demo, the live tests and the oracle on stock Debian kernels, emulated, and the tests with
//! systemd's units in a guest that it manages.
//!
//! Needs no root. Kernels and systemd are fetched from Debian's archive and kept in `~/.cache/tracer-vm`; what guests
//! printed is in `target/vm`.

mod archive;
mod guest;
mod initramfs;
mod kernel;
mod modules;
mod report;
mod root;
mod userland;

use std::{
    collections::{BTreeSet, VecDeque},
    ffi::{OsStr, OsString},
    fs,
    path::{Path, PathBuf},
    sync::Mutex,
    thread,
};

use anyhow::{Context, Result, bail};

use self::{
    archive::Cache,
    guest::Ended,
    initramfs::{Programs, TRACER},
    kernel::{Kernel, SERIES},
    report::{DEMO, Row},
};
use crate::{
    cargo::{quoted, root, target_directory},
    test::differences,
};

/// Where the tests are listed that a guest cannot run, one file for each by its name.
const LISTS: &str = "tests/vm";

/// The name of the guest with systemd.
const SYSTEMD: &str = "systemd";

/// The kernel of that guest: of the release that its programs are of.
const SYSTEMD_KERNEL: &str = "6.12";

/// A machine to emulate.
#[derive(Debug)]
struct Guest {
    /// As the command line has it: a series of kernels, or [`SYSTEMD`].
    name: &'static str,
    kernel: Kernel,
    /// The archive of the programs of a guest whose first process is systemd.
    userland: Option<PathBuf>,
}

impl Guest {
    /// The guest of a name, with all that it boots from.
    fn new(name: &'static str, cache: &Cache) -> Result<Self> {
        let (series, userland) = match name {
            SYSTEMD => (SYSTEMD_KERNEL, Some(userland::newest(cache)?)),
            series => (series, None),
        };
        Ok(Self { name, kernel: kernel::newest_of(series, cache)?, userland })
    }

    /// The suites that it runs, in this order.
    fn suites(&self) -> &'static [&'static str] {
        if self.userland.is_some() { &[DEMO, "units"] } else { &[DEMO, "live", "oracle"] }
    }

    /// What it is called beside others.
    fn shown(&self) -> String {
        let release = &self.kernel.release;
        if self.userland.is_some() { format!("{release}, systemd") } else { release.clone() }
    }

    /// Boots it to run a script of suites; what belongs to it is kept in `directory`.
    fn boot(&self, programs: &Programs, script: &str, directory: &Path) -> Result<Ended> {
        fs::create_dir_all(directory).with_context(|| format!("cannot make `{}`", directory.display()))?;
        let initramfs = match &self.userland {
            None => initramfs::with_busybox(&self.kernel, programs, script, directory)?,
            Some(userland) => initramfs::with_systemd(&self.kernel, userland, programs, script, directory)?,
        };
        guest::run(self.name, &self.kernel, &initramfs, directory)
    }
}

/// The names of all guests.
fn names() -> impl Iterator<Item = &'static str> {
    SERIES.into_iter().chain([SYSTEMD])
}

/// Runs everything on these guests, or on every one; `args` go to the tests. Gives what failed, line by line.
pub fn run(wanted: &[String], args: &[OsString]) -> Result<Vec<String>> {
    let wanted: Vec<&str> = if wanted.is_empty() {
        names().collect()
    } else {
        wanted.iter().map(|name| known(name)).collect::<Result<_>>()?
    };
    let cache = Cache::of_this_user()?;
    let guests = wanted.into_iter().map(|name| Guest::new(name, &cache)).collect::<Result<Vec<_>>>()?;
    let programs = Programs::build(&programs_of(&guests), &[])?;
    let directory = target_directory()?.join("vm");
    let outcomes = side_by_side(&guests, |guest| {
        let script = suites(guest.suites(), Path::new(TRACER), args);
        let programs = programs.of(guest.suites());
        let ended = guest.boot(&programs, &script, &directory.join(guest.name))?;
        outcome(guest, &ended, args.is_empty())
    });
    let mut rows = Vec::new();
    let mut troubles = Vec::new();
    for (guest, outcome) in guests.iter().zip(outcomes) {
        let guest = guest.shown();
        let outcome = outcome.with_context(|| format!("the kernel {guest}"))?;
        troubles.extend(outcome.troubles.iter().map(|trouble| format!("{guest}: {trouble}")));
        rows.extend(outcome.rows);
    }
    for trouble in &troubles {
        println!("{trouble}");
    }
    print!("{}", report::table(&rows));
    Ok(troubles)
}

/// The programs of tests that some guest runs.
fn programs_of(guests: &[Guest]) -> Vec<&'static str> {
    let mut names = guests.iter().flat_map(Guest::suites).copied().collect::<BTreeSet<_>>();
    names.remove(DEMO);
    names.into_iter().collect()
}

/// Runs the benchmark's program on a kernel, by `command` of the path that tracer has there, and gives what it printed.
pub fn in_guest(series: &str, command: impl FnOnce(&Path) -> Vec<OsString>) -> Result<String> {
    let guest = Guest::new(known(series)?, &Cache::of_this_user()?)?;
    let programs = Programs::build(&[], &["bench"])?;
    let words = command(Path::new(TRACER));
    let script = suite("command", words.iter().map(OsString::as_os_str));
    let directory = target_directory()?.join("vm").join(format!("{series}-command"));
    let ended = guest.boot(&programs, &script, &directory)?;
    let (suites, _) = report::read_suites(&ended.results);
    match (ended.trouble, suites.into_iter().next()) {
        (None, Some(suite)) if suite.status == Some(0) => Ok(suite.output),
        (trouble, suite) => {
            let status = suite.and_then(|suite| suite.status);
            let how = trouble.or_else(|| status.map(|status| format!("the command ended with {status}")));
            let how = how.unwrap_or_else(|| "the command did not come to its end".to_owned());
            bail!("the kernel {}: {how}: its console is in `{}`", guest.shown(), ended.log.display())
        }
    }
}

/// The guest of this name.
fn known(name: &str) -> Result<&'static str> {
    match names().find(|known| *known == name) {
        Some(known) => Ok(known),
        None => bail!("no guest `{name}` to run: one of {}", names().collect::<Vec<_>>().join(", ")),
    }
}

/// What a guest runs: one line a suite, in its shell's words.
fn suites(names: &[&str], tracer: &Path, args: &[OsString]) -> String {
    // Two at a time even on one processor: each waits for something now and then.
    let usual = ["--test-threads", "2"].map(OsString::from);
    let args = if args.is_empty() { &usual } else { args };
    let line = |name: &&str| {
        let program = format!("/bin/{name}");
        let demo = ["/bin/xtask", DEMO, "--json", "--tracer"].map(OsStr::new);
        let tests = [&program, "--color", "never"].map(OsStr::new);
        match *name {
            DEMO => suite(name, demo.into_iter().chain([tracer.as_os_str()])),
            _ => suite(name, tests.into_iter().chain(args.iter().map(OsString::as_os_str))),
        }
    };
    names.iter().map(line).collect()
}

/// One line of it.
fn suite<'a>(name: &str, command: impl Iterator<Item = &'a OsStr>) -> String {
    let words: Vec<_> = command.map(quoted).collect();
    format!("suite {name} {}\n", words.join(" "))
}

/// Does `work` with each guest, as many at a time as there are processors: an emulated machine with one
/// processor uses one well, and another that it had only in part. Gives the results in the guests' order.
fn side_by_side<G: Sync, T: Send>(guests: &[G], work: impl Fn(&G) -> T + Sync) -> Vec<T> {
    let workers = thread::available_parallelism().map_or(1, usize::from).min(guests.len());
    let queue = Mutex::new(guests.iter().enumerate().collect::<VecDeque<_>>());
    let results = Mutex::new(Vec::new());
    let next = || queue.lock().expect("no worker panics with it").pop_front();
    thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                while let Some((index, guest)) = next() {
                    let result = work(guest);
                    results.lock().expect("no worker panics with it").push((index, result));
                }
            });
        }
    });
    let mut results = results.into_inner().expect("no worker panics with it");
    results.sort_by_key(|(index, _)| *index);
    results.into_iter().map(|(_, result)| result).collect()
}

/// What a guest's run came to.
struct Outcome {
    rows: Vec<Row>,
    /// Everything that makes it a failure.
    troubles: Vec<String>,
}

/// Counts a guest's results, and names what is wrong. Where `all` ran, what was not possible must equal the list.
fn outcome(guest: &Guest, ended: &Ended, all: bool) -> Result<Outcome> {
    let (suites, is_done) = report::read_suites(&ended.results);
    let mut troubles: Vec<String> = ended.trouble.iter().cloned().collect();
    let mut rows: Vec<Row> = Vec::new();
    let mut not_run = Vec::new();
    let mut backend = "unknown".to_owned();
    for suite in &suites {
        let mut row = Row { kernel: guest.shown(), suite: suite.name.clone(), ..Row::default() };
        if suite.name == DEMO {
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
    if !is_done || suites.iter().map(|suite| suite.name.as_str()).ne(guest.suites().iter().copied()) {
        troubles.push("the guest did not run every suite to its end".to_owned());
    }
    if all {
        let name = format!("{LISTS}/{}.txt", guest.name);
        let list = root().join(&name);
        let list = fs::read_to_string(&list).with_context(|| format!("cannot read `{}`", list.display()))?;
        troubles.extend(differences(not_run.iter().map(String::as_str), &list, &name));
    }
    eprintln!("vm: {} ran for {} s", guest.shown(), ended.took.as_secs());
    if !troubles.is_empty() {
        troubles.push(format!("its console is in `{}`, and its results beside it", ended.log.display()));
    }
    Ok(Outcome { rows, troubles })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_known_guests_are_run() {
        assert_eq!(known("6.1").unwrap(), "6.1");
        assert_eq!(known("systemd").unwrap(), "systemd");
        known("6.2").unwrap_err();
    }

    #[test]
    fn arguments_reach_the_tests_as_they_are() {
        let script = suites(&[DEMO, "live", "oracle"], Path::new("/a b/tracer"), &["it's".into()]);
        let lines: Vec<_> = script.lines().collect();
        assert_eq!(lines[0], "suite demo /bin/xtask demo --json --tracer '/a b/tracer'");
        assert_eq!(lines[1], r"suite live /bin/live --color never 'it'\''s'");
        assert_eq!(lines[2], r"suite oracle /bin/oracle --color never 'it'\''s'");
    }

    #[test]
    fn results_keep_the_order_of_the_guests() {
        assert_eq!(side_by_side(&SERIES, |series| (*series).to_owned()), SERIES);
    }
}
