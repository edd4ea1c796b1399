//! Lines for people on stderr, and whole texts on stdout.

use std::fmt;
use std::io::{self, Write as _};

/// Prints a line on stderr. A stderr that is closed is not a failure.
pub fn talk(line: fmt::Arguments<'_>) {
    let _ = writeln!(io::stderr(), "{line}");
}

/// Prints on stdout. A reader that has closed it is not a failure.
///
/// # Errors
/// When stdout does not take it.
pub fn print(text: &[u8]) -> anyhow::Result<()> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error.into()),
        Ok(()) | Err(_) => Ok(()),
    }
}
