//! `cargo xtask ci`: what `.ci/run` runs. Stops at the first check that fails, but for the kernels of
//! `cargo xtask vm`; the tests come last, so that their total is the last line.

use std::process::{Command, ExitCode};

use anyhow::Result;

use crate::{
    bare,
    cargo::{cargo, succeed},
    ebpf, supply, vm,
};

/// Runs every check.
pub fn run() -> Result<ExitCode> {
    step(cargo().args(["fmt", "--all", "--", "--check"]))?;
    eprintln!("ci: cargo xtask supply");
    supply::run(None)?;
    step(cargo().args(["clippy", "--workspace", "--all-targets", "--locked", "--", "-D", "warnings"]))?;
    step(
        cargo()
            .args(["doc", "--workspace", "--no-deps", "--locked", "--quiet"])
            .env("RUSTDOCFLAGS", "-D warnings"),
    )?;
    eprintln!("ci: cargo xtask build-ebpf --check");
    ebpf::check()?;
    eprintln!("ci: cargo xtask vm");
    // A failure on another kernel does not stop the tests on this one.
    let troubles = vm::run(&[], &[]).unwrap_or_else(|error| vec![format!("{error:#}")]);
    // The only run of the tests: see bare.rs.
    eprintln!("ci: cargo xtask bare");
    let here = bare::run()?;
    if troubles.is_empty() {
        return Ok(here);
    }
    // Where only the end of the output is kept, the reason must stand there.
    for trouble in &troubles {
        println!("ci: cargo xtask vm: {trouble}");
    }
    println!("the stock kernels failed: {} lines above show where", troubles.len());
    Ok(ExitCode::FAILURE)
}

fn step(command: &mut Command) -> Result<()> {
    let words: Vec<_> = command.get_args().collect();
    eprintln!("ci: cargo {}", words.join(std::ffi::OsStr::new(" ")).display());
    succeed(command)
}
