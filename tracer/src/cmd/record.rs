//! `tracer record FILE`: a trace that also writes what it receives to a file, which `tracer replay` reads.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use anyhow::Result;

use super::trace;
use crate::cli::Record;
use crate::exit::{Exit, Failure};
use crate::record::Recorder;
use crate::run::Setup;

/// Runs a trace and records it.
///
/// # Errors
/// As [`trace::trace`]; and when the file cannot be written.
pub fn record(options: &Record) -> Result<Exit> {
    trace::trace(&options.trace, Some(&options.file))
}

/// Creates the file, and writes what the run is made with.
///
/// # Errors
/// When it cannot be written.
pub fn begin(path: &Path, setup: &Setup) -> Result<Recorder<File>> {
    let failed = |error: io::Error| {
        Failure::usage(
            format!("cannot write `{}`: {error}", path.display()),
            "name a file that can be written",
        )
    };
    // It holds names, arguments and addresses of other users' processes.
    let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path);
    Ok(Recorder::new(file.map_err(failed)?, setup).map_err(failed)?)
}
