//! `cargo xtask mutants`: cargo-mutants on the pure modules, as `.cargo/mutants.toml` configures it.

use std::{
    ffi::OsString,
    process::{Command, ExitCode, Stdio},
};

use anyhow::{Context, Result, bail};

use crate::{
    cargo::{cargo, shown, succeed, target_directory},
    failure::Failure,
};

/// The version whose configuration keys `.cargo/mutants.toml` has.
const VERSION: &str = "27.1.0";

/// Runs cargo-mutants with these arguments besides, and installs it first where it is missing. Fails where mutants
/// survive: which ones may is for a person to decide, with docs/mutants.md.
pub fn run(args: &[OsString]) -> Result<ExitCode> {
    if !is_installed() {
        let mut install = cargo();
        install.args(["install", "cargo-mutants", "--version", VERSION, "--locked"]);
        eprintln!("mutants: {}", shown(&install));
        if succeed(&mut install).is_err() {
            let hint = format!("cargo install cargo-mutants --version {VERSION} --locked");
            return Err(Failure::unable("cargo-mutants cannot be installed", hint).into());
        }
    }
    let target = target_directory()?;
    let mut command = mutants();
    command.arg("--output").arg(&target).args(args);
    // A test fails for nearly every mutant, and a backtrace for each takes longer than the tests.
    command.env("RUST_BACKTRACE", "0");
    eprintln!("mutants: {}", shown(&command));
    let status = command.status().with_context(|| format!("cannot run `{}`", shown(&command)))?;
    match status.code() {
        Some(0) => Ok(ExitCode::SUCCESS),
        // By its documentation: mutants survived, or timed out.
        Some(2 | 3) => {
            let missed = target.join("mutants.out/missed.txt");
            eprintln!("mutants: compare `{}` with docs/mutants.md", missed.display());
            Ok(ExitCode::FAILURE)
        }
        _ => bail!("`{}` failed: {status}", shown(&command)),
    }
}

fn is_installed() -> bool {
    let mut version = mutants();
    version.arg("--version").stdout(Stdio::null()).stderr(Stdio::null());
    version.status().is_ok_and(|status| status.success())
}

fn mutants() -> Command {
    let mut command = cargo();
    command.arg("mutants");
    command
}
