//! `cargo xtask ci`: what `.ci/run` runs. Stops at the first check that fails; the tests come last,
//! so that their total is the last line.

use std::process::{Command, ExitCode};

use anyhow::Result;

use crate::{
    cargo::{cargo, succeed},
    ebpf, test,
};

/// Runs every check.
pub fn run() -> Result<ExitCode> {
    step(cargo().args(["fmt", "--all", "--", "--check"]))?;
    step(cargo().args(["clippy", "--workspace", "--all-targets", "--locked", "--", "-D", "warnings"]))?;
    step(
        cargo()
            .args(["doc", "--workspace", "--no-deps", "--locked", "--quiet"])
            .env("RUSTDOCFLAGS", "-D warnings"),
    )?;
    eprintln!("ci: cargo xtask build-ebpf --check");
    ebpf::check()?;
    eprintln!("ci: cargo xtask test");
    test::run(&[])
}

fn step(command: &mut Command) -> Result<()> {
    let words: Vec<_> = command.get_args().collect();
    eprintln!("ci: cargo {}", words.join(std::ffi::OsStr::new(" ")).display());
    succeed(command)
}
