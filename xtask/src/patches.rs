//! `cargo xtask patches`: brings faults of the kernel side and of privilege back, one patch of `tests/patches` at a
//! time and in a clone of the tree, and checks that the tests which the patch names fail.

use std::{
    fmt, fs,
    path::{Path, PathBuf},
    process::{Command, ExitCode, Stdio},
};

use anyhow::{Context, Result, bail, ensure};

use crate::{
    cargo::{cargo, root, shown, succeed, target_directory},
    clone::{self, git},
    elevate::is_root,
    failure::Failure,
    test::Report,
};

/// One `NAME.patch` for each fault.
const PATCHES: &str = "tests/patches";

/// Seconds that one test may take: twice the longest wait of any test. A test that takes longer hangs, and fails.
const LIMIT: &str = "120";

/// What begins the line of a patch's header that names the fault.
const FAULT: &str = "Subject: ";

/// What begins each line of a patch's header that names a test: `SUITE NAME`, or `lib NAME` for a unit test.
const MUST_FAIL: &str = "Must-fail: ";

/// A fault, and the tests that must fail with it.
#[derive(Debug)]
struct Patch {
    name: String,
    text: String,
}

/// The result of one test.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Outcome {
    Passed,
    Failed,
    TimedOut,
    /// With the reason.
    Skipped(String),
}

/// Applies the patches of these names, or all, and prints what each test did.
pub fn run(names: &[String]) -> Result<ExitCode> {
    if !is_root() {
        let what = "the tests need root: they make network namespaces and load kernel programs";
        return Err(Failure::unable(what, "as root: cargo xtask patches").into());
    }
    let patches = Patch::all(&root())?;
    if let Some(name) = names.iter().find(|name| patches.iter().all(|patch| patch.name != **name)) {
        let known: Vec<&str> = patches.iter().map(|patch| patch.name.as_str()).collect();
        return Err(Failure::new(format!("no patch `{name}`"), format!("one of {}", known.join(", "))).into());
    }
    let chosen = || patches.iter().filter(|patch| names.is_empty() || names.contains(&patch.name));
    let tree = Tree::make()?;
    let mut tests: Vec<&str> = chosen().flat_map(Patch::tests).collect();
    tests.sort_unstable();
    tests.dedup();
    let mut problems = Vec::new();
    eprintln!("patches: the tests without a patch");
    for (test, outcome) in tree.test(&tests)? {
        if matches!(outcome, Outcome::Failed | Outcome::TimedOut) {
            problems.push(format!("{test} {outcome} without any patch"));
        }
    }
    let (mut failed, mut skipped) = (0, 0);
    for patch in chosen() {
        eprintln!("patches: {}: {}", patch.name, patch.fault());
        let outcomes = tree.with(patch)?;
        for (test, outcome) in outcomes {
            println!("{}: {test} {outcome}", patch.name);
            match outcome {
                Outcome::Failed | Outcome::TimedOut => failed += 1,
                Outcome::Skipped(_) => skipped += 1,
                Outcome::Passed => problems.push(format!("{}: {test} passes with the fault", patch.name)),
            }
        }
    }
    for problem in &problems {
        println!("{problem}");
    }
    println!(
        "{} patches: {failed} tests fail with their fault, {skipped} cannot run here, {} problems",
        chosen().count(),
        problems.len()
    );
    Ok(if problems.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

impl Patch {
    /// All patches, by name.
    fn all(root: &Path) -> Result<Vec<Self>> {
        let directory = root.join(PATCHES);
        let entries =
            fs::read_dir(&directory).with_context(|| format!("cannot read `{}`", directory.display()))?;
        let mut patches = Vec::new();
        for entry in entries {
            let path = entry?.path();
            if path.extension().is_none_or(|extension| extension != "patch") {
                continue;
            }
            let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            let text =
                fs::read_to_string(&path).with_context(|| format!("cannot read `{}`", path.display()))?;
            patches.push(Self { name, text });
        }
        patches.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(patches)
    }

    /// The lines of the header that begin like this, without it.
    fn header(&self, key: &'static str) -> impl Iterator<Item = &str> {
        let header = self.text.lines().take_while(|line| !line.starts_with("diff --git"));
        header.filter_map(move |line| line.strip_prefix(key))
    }

    fn fault(&self) -> &str {
        self.header(FAULT).next().unwrap_or_default()
    }

    fn tests(&self) -> impl Iterator<Item = &str> {
        self.header(MUST_FAIL)
    }
}

/// A clone of the tree, in the target directory, with what is built from it.
struct Tree {
    root: PathBuf,
    target: PathBuf,
}

impl Tree {
    /// Makes one, or brings an earlier one up to date.
    fn make() -> Result<Self> {
        let directory = target_directory()?.join("patches");
        let tree = Self { root: directory.join("tree"), target: directory.join("target") };
        clone::bring(&tree.root)?;
        Ok(tree)
    }

    /// Runs the tests of a patch with the patch applied, and undoes it.
    fn with(&self, patch: &Patch) -> Result<Vec<(String, Outcome)>> {
        let outcomes = self.apply(patch).and_then(|()| self.test(&patch.tests().collect::<Vec<_>>()));
        succeed(git(&self.root).args(["reset", "--quiet", "--hard"]))?;
        outcomes.with_context(|| format!("`{PATCHES}/{}.patch`", patch.name))
    }

    fn apply(&self, patch: &Patch) -> Result<()> {
        let file = root().join(PATCHES).join(format!("{}.patch", patch.name));
        // With three ways, so that a change of the lines around it does not matter.
        succeed(git(&self.root).args(["apply", "--3way"]).arg(file))?;
        if patch.text.contains("\n+++ b/tracer-ebpf/") {
            succeed(self.cargo().args(["xtask", "build-ebpf"]))?;
        }
        Ok(())
    }

    /// Builds these tests and runs them, one at a time.
    fn test(&self, tests: &[&str]) -> Result<Vec<(String, Outcome)>> {
        for test in tests {
            succeed(self.cargo().args(["test", "--quiet"]).args(suite(test)?.0).arg("--no-run"))?;
        }
        tests.iter().map(|test| Ok(((*test).to_owned(), self.test_one(test)?))).collect()
    }

    fn test_one(&self, test: &str) -> Result<Outcome> {
        let (suite, name) = suite(test)?;
        let mut command = Command::new("timeout");
        command.args(["--kill-after=5", LIMIT]).arg(self.cargo().get_program());
        command.args(["test", "--quiet"]).args(suite).args(["--", "--format=pretty", "--exact", name]);
        command.current_dir(&self.root).env("CARGO_TARGET_DIR", &self.target);
        let ran = command.stdin(Stdio::null()).output();
        let ran = ran.with_context(|| format!("cannot run `{}`", shown(&command)))?;
        let mut report = Report::default();
        String::from_utf8_lossy(&ran.stdout).lines().for_each(|line| report.read(line));
        Ok(match ran.status.code() {
            // As timeout(1) reports it.
            Some(124 | 137) => Outcome::TimedOut,
            Some(0) => match report.not_run.first() {
                Some(test) => Outcome::Skipped(test.to_string()),
                None if report.passed == 1 => Outcome::Passed,
                None => bail!("no test `{test}`"),
            },
            _ => Outcome::Failed,
        })
    }

    fn cargo(&self) -> Command {
        let mut command = cargo();
        command.current_dir(&self.root).env("CARGO_TARGET_DIR", &self.target);
        command
    }
}

/// A test's suite as cargo takes it, and its name there.
fn suite(test: &str) -> Result<(Vec<&str>, &str)> {
    let words = test.split_once(' ');
    let (suite, name) = words.with_context(|| format!("`{test}` is not a suite and the name of a test"))?;
    ensure!(!name.contains(' '), "`{test}` is more than a suite and the name of a test");
    Ok(match suite {
        "lib" => (vec!["--package", "tracer", "--lib"], name),
        suite => (vec!["--workspace", "--test", suite], name),
    })
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Passed => f.write_str("passes"),
            Self::Failed => f.write_str("fails"),
            Self::TimedOut => write!(f, "fails: it does not end within {LIMIT} s"),
            Self::Skipped(reason) => write!(f, "cannot run here: {reason}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_patch_names_its_fault_and_its_tests() {
        let patches = Patch::all(&root()).unwrap();
        assert!(
            (1..=15).contains(&patches.len()),
            "{} patches: at most 15 are worth their upkeep",
            patches.len()
        );
        for patch in patches {
            assert!(!patch.fault().is_empty(), "{} has no `{FAULT}` line", patch.name);
            assert!(patch.tests().count() > 0, "{} has no `{MUST_FAIL}` line", patch.name);
            for test in patch.tests() {
                suite(test).unwrap_or_else(|error| panic!("{}: {error}", patch.name));
            }
            let missing = crate::faults::missing(patch.tests());
            assert!(missing.is_empty(), "{} names tests that do not exist: {missing:?}", patch.name);
        }
    }

    #[test]
    fn every_patch_applies() {
        for patch in Patch::all(&root()).unwrap() {
            let file = root().join(PATCHES).join(format!("{}.patch", patch.name));
            let check = git(&root()).args(["apply", "--check", "-C1"]).arg(file).output().unwrap();
            assert!(check.status.success(), "{}", String::from_utf8_lossy(&check.stderr));
        }
    }

    #[test]
    fn the_header_ends_where_the_diff_begins() {
        let text = "Subject: one\nMust-fail: live a::b\n\ndiff --git a/x b/x\nMust-fail: live c\n";
        let patch = Patch { name: "one".to_owned(), text: text.to_owned() };
        assert_eq!(patch.fault(), "one");
        assert_eq!(patch.tests().collect::<Vec<_>>(), ["live a::b"]);
    }
}
