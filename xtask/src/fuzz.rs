//! `cargo xtask fuzz`: random bytes for every parser of what others write, guided by coverage.

use std::{
    fs,
    path::Path,
    process::{Command, ExitCode, Stdio},
};

use anyhow::{Context, Result};

use crate::{
    cargo::{cargo, root, shown, succeed},
    failure::Failure,
};

/// A file of seeds for each target, in a directory of its name.
const SEEDS: &str = "fuzz/seeds";

/// Seconds that one input may take: all of them together are parsed in microseconds.
const TIMEOUT: u32 = 10;

/// The longest input: several dumps' worth of messages, or a `status` of a process in a thousand groups.
const LONGEST: u32 = 16 * 1024;

/// Fuzzes one target, or each in turn, for so many seconds. What it finds to be new it keeps in `fuzz/corpus`,
/// and an input that fails in `fuzz/artifacts`.
pub fn run(target: Option<&str>, seconds: u32) -> Result<ExitCode> {
    let targets = targets(&root())?;
    let chosen: Vec<&String> = targets.iter().filter(|name| target.is_none_or(|one| one == *name)).collect();
    if chosen.is_empty() {
        let what = format!("no fuzz target `{}`", target.unwrap_or_default());
        return Err(Failure::new(what, format!("one of {}", targets.join(", "))).into());
    }
    let mut version = fuzz();
    version.arg("--version").stdout(Stdio::null()).stderr(Stdio::null());
    if !version.status().is_ok_and(|status| status.success()) {
        let hint = "cargo install cargo-fuzz --locked (and g++, for the fuzzer itself)";
        return Err(Failure::unable("cargo-fuzz is not installed", hint).into());
    }
    for name in chosen {
        let corpus = format!("fuzz/corpus/{name}");
        fs::create_dir_all(root().join(&corpus)).with_context(|| format!("cannot make `{corpus}`"))?;
        let mut command = fuzz();
        command.args(["run", "--fuzz-dir", "fuzz", name, &corpus, &format!("{SEEDS}/{name}"), "--"]).args([
            format!("-max_total_time={seconds}"),
            format!("-timeout={TIMEOUT}"),
            format!("-max_len={LONGEST}"),
            "-print_final_stats=1".to_owned(),
        ]);
        eprintln!("fuzz: {}", shown(&command));
        succeed(&mut command)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The sanitizer's flags are those of a nightly compiler, whichever this is.
fn fuzz() -> Command {
    let mut command = cargo();
    command.arg("fuzz").env("RUSTC_BOOTSTRAP", "1");
    command
}

/// Their names, in order.
fn targets(root: &Path) -> Result<Vec<String>> {
    let entries = fs::read_dir(root.join(SEEDS)).with_context(|| format!("cannot read `{SEEDS}`"))?;
    let mut names: Vec<String> =
        entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect();
    names.sort();
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_target_has_its_program() {
        let names = targets(&root()).unwrap();
        assert_eq!(names.len(), 10);
        for name in names {
            assert!(root().join(format!("fuzz/fuzz_targets/{name}.rs")).is_file(), "{name}");
        }
    }
}
