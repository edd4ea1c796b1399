//! The forms of the log behind one function: text for people, JSON for programs.

use std::io::{self, Write};

use crate::output::schema::Line;
use crate::output::{json, text};

/// One of the two forms of the log.
pub enum Renderer {
    Text(text::Text),
    Json(json::Json),
}

impl Renderer {
    /// Writes one line of the log, which as text may be several, or none.
    ///
    /// # Errors
    /// When `out` does not take it.
    pub fn write(&mut self, line: &Line, out: &mut dyn Write) -> io::Result<()> {
        match self {
            Self::Text(text) => text.write(line, out),
            Self::Json(json) => json.write(line, out),
        }
    }
}
