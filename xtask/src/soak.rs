//! `cargo xtask soak`: builds tracer and the soak (tests/src/bin/soak) as you, and becomes the soak as root.

use std::{ffi::OsString, os::unix::process::CommandExt, process::ExitCode};

use anyhow::{Context, Result};

use crate::{
    cargo::{build_testbed, build_tracer, shown},
    elevate::elevated,
};

/// Runs the soak; `args` are its own.
pub fn run(args: &[OsString]) -> Result<ExitCode> {
    let own = ["--tracer".into(), build_tracer()?.into_os_string()];
    let mut command = elevated(build_testbed("soak")?, own.iter().chain(args))?;
    Err(command.exec()).with_context(|| format!("cannot run `{}`", shown(&command)))
}
