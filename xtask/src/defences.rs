//! `cargo xtask defences`: takes each defence of tracer away, one at a time and in a copy of the sources, and sees the
//! tests fail that are there for it. The list is in [`table`], and docs/faults.md is written from it.

mod table;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    fs::{self, File},
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Command, ExitCode, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process_group};

use crate::{
    cargo::{cargo, output, root, shown, target_directory},
    elevate::is_root,
    failure::Failure,
    test::Report,
};

/// What belongs together, under a heading of the document.
struct Chapter {
    title: &'static str,
    defences: &'static [Defence],
}

/// What tracer has against something.
struct Defence {
    /// What happens to it.
    when: &'static str,
    /// What it does then.
    then: &'static str,
    /// The tests that fail without: the program (`lib`, or a file of `tests/`), and the name.
    tests: &'static [&'static str],
    without: Without,
}

/// How it is taken away.
enum Without {
    /// By these changes of the sources, together.
    Edits(&'static [Edit]),
    /// Not at all, and why.
    Nothing(&'static str),
}

/// A piece of a file that stands there once, and what is put in its place.
struct Edit {
    file: &'static str,
    find: &'static str,
    put: &'static str,
}

/// Twice as long as any test waits in vain: one that still runs hangs, which is a failure too.
const LIMIT: Duration = Duration::from_secs(120);

/// Where the kernel side is, whose object is built from it.
const KERNEL_SIDE: &str = "tracer-ebpf/";

/// Takes away what one of the words is in, or everything.
pub fn run(words: &[String]) -> Result<ExitCode> {
    if !is_root() {
        let what = "the tests need root: they make network namespaces and load kernel programs";
        return Err(Failure::unable(what, "as root: cargo xtask defences").into());
    }
    let all = || table::CHAPTERS.iter().flat_map(|chapter| chapter.defences);
    let is_wanted = |defence: &&Defence| {
        words.is_empty()
            || words.iter().any(|word| defence.when.contains(word.as_str()) || defence.names(word))
    };
    let wanted: Vec<&Defence> = all().filter(is_wanted).collect();
    ensure!(!wanted.is_empty(), "no defence has any of these words in what it is against, or in its tests");
    let copy = Copy::make()?;
    eprintln!("defences: the tests as they are");
    let tests: BTreeSet<&str> = wanted.iter().flat_map(|defence| defence.tests).copied().collect();
    let outcomes = copy.run(&tests)?;
    let mut troubles: Vec<String> = outcomes
        .iter()
        .filter(|(_, outcome)| matches!(outcome, Outcome::Failed(_)))
        .map(|(test, outcome)| format!("{test} {outcome:?} with its defence in place"))
        .collect();
    let (mut proven, mut left, mut not_run) = (0, 0, 0);
    for defence in wanted {
        let Without::Edits(edits) = defence.without else {
            left += 1;
            continue;
        };
        let tests: BTreeSet<&str> = defence.tests.iter().copied().collect();
        let outcomes = match copy.without(edits, &tests) {
            Ok(outcomes) => outcomes,
            Err(error) => {
                troubles.push(format!("without: {}: {error:#}", defence.then));
                continue;
            }
        };
        for (test, outcome) in &outcomes {
            println!("{}: {test}: {outcome:?}", defence.when);
            match outcome {
                Outcome::Failed(_) => proven += 1,
                Outcome::NotRun(_) => not_run += 1,
                Outcome::Passed => troubles.push(format!("{test} passes without: {}", defence.then)),
            }
        }
    }
    for trouble in &troubles {
        println!("{trouble}");
    }
    println!(
        "{proven} times a test fails without its defence, {} times not, {not_run} times it cannot run here; \
         {left} defences could not be taken away",
        troubles.len()
    );
    Ok(if troubles.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

impl Defence {
    fn names(&self, word: &str) -> bool {
        self.tests.iter().any(|test| test.contains(word))
    }
}

/// What came of a test.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Outcome {
    Passed,
    /// How.
    Failed(&'static str),
    /// Why not.
    NotRun(String),
}

/// A copy of the sources, in the target directory, and what is built from it.
struct Copy {
    root: PathBuf,
    target: PathBuf,
}

impl Copy {
    /// Brings it up to date: files that are as they were are not written, so that they are not compiled again.
    fn make() -> Result<Self> {
        let directory = target_directory()?.join("defences");
        let copy = Self { root: directory.join("tree"), target: directory.join("target") };
        let list = output(
            Command::new("git")
                .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
                .current_dir(root()),
        )?;
        let mut files = BTreeSet::new();
        for name in list.split('\0').filter(|name| !name.is_empty()) {
            // One that is deleted and still known to git is no file.
            if let Ok(contents) = fs::read(root().join(name)) {
                copy.write(name, &contents)?;
                files.insert(copy.root.join(name));
            }
        }
        remove_others(&copy.root, &files)?;
        Ok(copy)
    }

    fn write(&self, name: &str, contents: &[u8]) -> Result<()> {
        let path = self.root.join(name);
        if fs::read(&path).is_ok_and(|there| there == contents) {
            return Ok(());
        }
        let directory = path.parent().context("a file is in a directory")?;
        fs::create_dir_all(directory)
            .and_then(|()| fs::write(&path, contents))
            .with_context(|| format!("cannot write `{}`", path.display()))
    }

    /// A command of cargo in the copy.
    fn cargo(&self) -> Command {
        let mut command = cargo();
        command.current_dir(&self.root).env("CARGO_TARGET_DIR", &self.target);
        command
    }

    /// Runs tests with something changed, and changes it back.
    fn without(&self, edits: &[Edit], tests: &BTreeSet<&str>) -> Result<BTreeMap<String, Outcome>> {
        let mut before: BTreeMap<&str, Vec<u8>> = BTreeMap::new();
        let mut keep = |name: &'static str| -> Result<()> {
            let contents = fs::read(self.root.join(name)).with_context(|| format!("cannot read `{name}`"))?;
            before.entry(name).or_insert(contents);
            Ok(())
        };
        for edit in edits {
            keep(edit.file)?;
        }
        let is_of_kernel_side = edits.iter().any(|edit| edit.file.starts_with(KERNEL_SIDE));
        if is_of_kernel_side {
            keep(crate::digest::OBJECT)?;
            keep(crate::digest::SIDECAR)?;
        }
        let outcomes = self.edit(edits).and_then(|()| {
            if is_of_kernel_side {
                output(self.cargo().args(["xtask", "build-ebpf"]))?;
            }
            self.run(tests)
        });
        for (name, contents) in before {
            self.write(name, &contents)?;
        }
        outcomes
    }

    fn edit(&self, edits: &[Edit]) -> Result<()> {
        for edit in edits {
            let text = fs::read_to_string(self.root.join(edit.file))?;
            self.write(edit.file, edited(&text, edit)?.as_bytes())?;
        }
        Ok(())
    }

    /// Builds tests and runs them, one at a time.
    fn run(&self, tests: &BTreeSet<&str>) -> Result<BTreeMap<String, Outcome>> {
        let mut command = self.cargo();
        command.args(["test", "--package", "tracer", "--no-run", "--message-format=json-render-diagnostics"]);
        let programs: BTreeSet<&str> = tests.iter().map(|test| split(test).0).collect();
        for program in programs {
            match program {
                "lib" => command.arg("--lib"),
                other => command.args(["--test", other]),
            };
        }
        let built = output(&mut command)?;
        let executables: BTreeMap<String, PathBuf> = built.lines().filter_map(executable).collect();
        let run = |test: &&str| {
            let (program, name) = split(test);
            let path = executables.get(program).with_context(|| format!("cargo built no `{program}`"))?;
            Ok(((*test).to_owned(), self.run_one(path, name)?))
        };
        tests.iter().map(run).collect()
    }

    fn run_one(&self, program: &Path, name: &str) -> Result<Outcome> {
        let said = self.target.join("said.txt");
        let file = File::create(&said).with_context(|| format!("cannot write `{}`", said.display()))?;
        let directory = self.root.join("tracer");
        let mut command = Command::new(program);
        command.args(["--exact", name]).current_dir(&directory).env("CARGO_MANIFEST_DIR", &directory);
        command.stdin(Stdio::null()).stderr(file.try_clone()?).stdout(file).process_group(0);
        let mut child = command.spawn().with_context(|| format!("cannot run `{}`", shown(&command)))?;
        let until = Instant::now() + LIMIT;
        let status = loop {
            if let Some(status) = child.try_wait()? {
                break Some(status);
            }
            if Instant::now() > until {
                // With all that it has started.
                let group = i32::try_from(child.id()).ok().and_then(Pid::from_raw).context("a process id")?;
                let _ = kill_process_group(group, Signal::KILL);
                child.wait()?;
                break None;
            }
            thread::sleep(Duration::from_millis(20));
        };
        let text = fs::read(&said).with_context(|| format!("cannot read `{}`", said.display()))?;
        let mut report = Report::default();
        String::from_utf8_lossy(&text).lines().for_each(|line| report.read(line));
        Ok(match status {
            None => Outcome::Failed("hangs"),
            Some(_) if report.failed > 0 => Outcome::Failed("fails"),
            Some(status) if !status.success() => Outcome::Failed("does not come to its end"),
            Some(_) => match report.not_run.first() {
                Some(test) => Outcome::NotRun(test.to_string()),
                None if report.passed == 1 => Outcome::Passed,
                None => bail!("`{}` has no test `{name}`", program.display()),
            },
        })
    }
}

/// A text with one change, whose place must be there once.
fn edited(text: &str, edit: &Edit) -> Result<String> {
    let Edit { file, find, put } = edit;
    match text.matches(find).count() {
        1 => Ok(text.replacen(find, put, 1)),
        count => bail!("`{file}` has {count} times what the list of defences says is there once: `{find}`"),
    }
}

/// The program of a test, and its name there.
fn split(test: &str) -> (&str, &str) {
    test.split_once(' ').expect("a program and a name")
}

/// Of what cargo has built, the test programs by name; `lib` is that of the library.
fn executable(message: &str) -> Option<(String, PathBuf)> {
    let message: serde_json::Value = serde_json::from_str(message).ok()?;
    if message["profile"]["test"] != true {
        return None;
    }
    let path = message["executable"].as_str()?.into();
    match message["target"]["kind"][0].as_str()? {
        "lib" => Some(("lib".to_owned(), path)),
        "test" => Some((message["target"]["name"].as_str()?.to_owned(), path)),
        _ => None,
    }
}

/// Removes the files of a directory that are not among these.
fn remove_others(directory: &Path, files: &BTreeSet<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(directory).with_context(|| format!("cannot read `{}`", directory.display()))? {
        let entry = entry?;
        let path = entry.path();
        // What was built there (`build-ebpf` has a target directory of its own).
        if entry.file_name() == "target" {
            continue;
        }
        if entry.file_type()?.is_dir() {
            remove_others(&path, files)?;
        } else if !files.contains(&path) {
            fs::remove_file(&path).with_context(|| format!("cannot remove `{}`", path.display()))?;
        }
    }
    Ok(())
}

const HEAD: &str = "# Faults, hostile input, bounds, privilege

What can go wrong around tracer, what it does then, and the tests that prove it: each of them fails where the defence is
taken away, which `cargo xtask defences` does with one after the other, in a copy of the sources. The list is in
`xtask/src/defences/table.rs`; this table is made from it by `UPDATE_DOCS=1 cargo test -p xtask defences`.

A test is `program name`: `lib` is a unit test of tracer, the others are files of `tests/`. `live` needs root.
";

/// The document.
#[cfg_attr(
    not(test),
    expect(dead_code, reason = "a test writes it, and holds it against what is checked in")
)]
fn document() -> String {
    let mut text = HEAD.to_owned();
    for Chapter { title, defences } in table::CHAPTERS {
        let _ = write!(text, "\n## {title}\n\n| when | tracer | tests that fail without |\n|---|---|---|\n");
        for Defence { when, then, tests, without } in *defences {
            let mut proof = tests.iter().map(|test| format!("`{test}`")).collect::<Vec<_>>().join(", ");
            if let Without::Nothing(why) = without {
                let _ = write!(proof, ": they hold it, but there is nothing to take away: {why}");
            }
            let _ = writeln!(text, "| {when} | {then} | {proof} |");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all() -> impl Iterator<Item = &'static Defence> {
        table::CHAPTERS.iter().flat_map(|chapter| chapter.defences)
    }

    fn read(name: &str) -> String {
        fs::read_to_string(root().join(name)).unwrap_or_else(|error| panic!("`{name}`: {error}"))
    }

    #[test]
    fn what_is_to_be_taken_away_is_there() {
        for defence in all() {
            let Without::Edits(edits) = defence.without else { continue };
            let mut files: BTreeMap<&str, String> = BTreeMap::new();
            for edit in edits {
                let text = files.entry(edit.file).or_insert_with(|| read(edit.file));
                *text = edited(text, edit).unwrap();
            }
        }
    }

    #[test]
    fn each_test_is_there() {
        let texts = |directory: &str| -> String {
            let files = fs::read_dir(root().join(directory)).unwrap().map(|entry| entry.unwrap().path());
            files.filter(|path| path.is_file()).map(|path| fs::read_to_string(path).unwrap()).collect()
        };
        let live = texts("tests/live");
        for test in all().flat_map(|defence| defence.tests) {
            let (program, name) = split(test);
            let last = name.rsplit("::").next().unwrap();
            let is_there = match program {
                // By its whole name, or as one of a group.
                "live" => live.contains(&format!("\"{name}\"")) || live.contains(&format!("\"{last}\"")),
                "lib" => {
                    let module = name.split("::tests::").next().unwrap().replace("::", "/");
                    let files = [format!("tracer/src/{module}.rs"), format!("tracer/src/{module}/mod.rs")];
                    let mut there = files.iter().filter(|file| root().join(file).exists());
                    there.any(|file| read(file).contains(&format!("fn {last}(")))
                }
                other => read(&format!("tests/{other}.rs")).contains(&format!("fn {last}(")),
            };
            assert!(is_there, "`{test}` is no test");
        }
    }

    #[test]
    fn the_document_is_current() {
        let name = "docs/faults.md";
        if std::env::var_os("UPDATE_DOCS").is_some() {
            fs::write(root().join(name), document()).unwrap();
        }
        assert_eq!(read(name), document(), "UPDATE_DOCS=1 writes it");
    }

    #[test]
    fn a_place_that_is_not_there_once_is_an_error() {
        let edit = Edit { file: "a.rs", find: "one", put: "two" };
        assert_eq!(edited("one", &edit).unwrap(), "two");
        edited("one one", &edit).unwrap_err();
        edited("", &edit).unwrap_err();
    }
}
