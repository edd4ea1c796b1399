//! `cargo xtask bench`: builds tracer and the benchmark (tests/src/bin/bench) as you, and elevates only the benchmark.

use std::{
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context, Result};

use crate::{
    cargo::{build_testbed, build_tracer, output, root},
    elevate::elevated,
    vm,
};

/// The part that is measured on an emulated kernel, and that kernel: the stock one nearest to those that most hosts
/// have.
const EMULATED: &str = "emulated";
const KERNEL: &str = "6.12";

/// Runs the benchmark; `args` are its own.
pub fn run(args: &[OsString]) -> Result<ExitCode> {
    let tracer = build_tracer()?;
    let bench = build_testbed("bench")?;
    let mut own = vec!["--tracer".into(), tracer.into_os_string()];
    let is_wanted = args.is_empty() || args.iter().any(|arg| arg == EMULATED);
    if is_wanted && !takes_fexit(&bench, &own)? {
        own.extend(["--emulated".into(), emulated()?.into_os_string()]);
    }
    own.extend_from_slice(args);
    let status = elevated(&bench, own)?.status().context("cannot run the benchmark")?;
    Ok(status.code().and_then(|code| u8::try_from(code).ok()).map_or(ExitCode::FAILURE, ExitCode::from))
}

/// Whether this kernel takes fexit programs: then nothing needs to be emulated.
fn takes_fexit(bench: &Path, args: &[OsString]) -> Result<bool> {
    let words = args.iter().cloned().chain(["--takes-fexit".into()]);
    Ok(output(&mut elevated(bench, words)?)? == "true")
}

/// Has a guest measure traffic on a kernel that takes fexit programs, and returns the file with what came of it.
fn emulated() -> Result<PathBuf> {
    let measured = vm::in_guest(KERNEL, |tracer| {
        let words = ["/bin/bench", "traffic", "--json", "--tracer"];
        words.iter().map(Into::into).chain([tracer.into()]).collect()
    });
    let measured =
        measured.unwrap_or_else(|error| serde_json::json!({ "error": format!("{error:#}") }).to_string());
    let path = root().join("target/bench-emulated.json");
    fs::write(&path, measured).with_context(|| format!("cannot write `{}`", path.display()))?;
    Ok(path)
}
