//! `cargo xtask run`: from a fresh clone to a running trace.

use std::{ffi::OsString, os::unix::process::CommandExt, process::ExitCode};

use anyhow::{Context, Result};

use crate::{
    cargo::{build_tracer, shown},
    elevate::elevated,
};

/// Builds as the user, then becomes the tracer: signals and the exit code are its own.
pub fn run(args: &[OsString]) -> Result<ExitCode> {
    let tracer = build_tracer()?;
    let mut command = elevated(tracer, args)?;
    Err(command.exec()).with_context(|| format!("cannot run `{}`", shown(&command)))
}
