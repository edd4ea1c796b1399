//! How tracer ends: its exit codes, and failures that a person can fix.

use std::fmt;
use std::io::{self, Write as _};
use std::process::ExitCode;

/// The exit codes, all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    Done = 0,
    /// `status`: an address asked about is not answered.
    Unanswered = 1,
    /// The command line is wrong.
    Usage = 2,
    /// This host cannot run it.
    Host = 3,
    /// Anything else.
    Failure = 4,
    /// Interrupted a second time.
    Interrupted = 130,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Why tracer cannot do what it was asked, and what to do about it.
#[derive(Debug)]
pub struct Failure {
    pub exit: Exit,
    /// One sentence: lower case, no full stop.
    pub sentence: String,
    pub hint: String,
    /// For `-v`: the message of the kernel or the verifier.
    pub detail: Option<String>,
}

impl Failure {
    pub fn usage(sentence: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { exit: Exit::Usage, sentence: sentence.into(), hint: hint.into(), detail: None }
    }

    pub fn host(sentence: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { exit: Exit::Host, sentence: sentence.into(), hint: hint.into(), detail: None }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.sentence)
    }
}

impl std::error::Error for Failure {}

/// Prints a line on stderr. A closed stderr is not a failure.
pub fn talk(line: fmt::Arguments<'_>) {
    let _ = writeln!(io::stderr(), "{line}");
}

/// Prints on stdout. A closed pipe is not a failure.
///
/// # Errors
/// When stdout does not take it.
pub fn print(text: &[u8]) -> anyhow::Result<Exit> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error.into()),
        Ok(()) | Err(_) => Ok(Exit::Done),
    }
}

/// Prints on stderr why tracer failed, and gives the code to exit with.
pub fn explain(error: &anyhow::Error, verbose: bool) -> Exit {
    let Some(failure) = error.downcast_ref::<Failure>() else {
        talk(format_args!("tracer: {error:#}"));
        return Exit::Failure;
    };
    talk(format_args!("tracer: {error:#}"));
    if let (true, Some(detail)) = (verbose, &failure.detail) {
        talk(format_args!("\n{detail}"));
    }
    talk(format_args!("\nhint: {}", failure.hint));
    failure.exit
}
