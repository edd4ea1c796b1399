//! A failure that a person can fix, or that has an exit code of its own.

use std::{fmt, process::ExitCode};

/// Exit code of a chore that this host, or this user, cannot do.
pub const UNABLE: u8 = 3;

/// An error with its remedy.
#[derive(Debug)]
pub struct Failure {
    what: String,
    hint: String,
    code: u8,
}

impl Failure {
    /// What went wrong and what to do about it; exit code 1.
    pub fn new(what: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { what: what.into(), hint: hint.into(), code: 1 }
    }

    /// The same for what this host or user cannot do at all; exit code 3.
    pub fn unable(what: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { code: UNABLE, ..Self::new(what, hint) }
    }

    /// Prints the remedy and gives the exit code.
    pub fn report(&self) -> ExitCode {
        eprintln!("\nhint: {}", self.hint);
        ExitCode::from(self.code)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}

impl std::error::Error for Failure {}
