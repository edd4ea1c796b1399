//! `-o json`: one object a line, and the schema that describes it.

use std::io::{self, Write};

use schemars::generate::SchemaSettings;

use crate::line::Line;

/// Writes one object and a newline.
///
/// # Errors
/// When `out` does not take it.
pub fn write(line: &Line, out: &mut dyn Write) -> io::Result<()> {
    serde_json::to_writer(&mut *out, line)?;
    out.write_all(b"\n")
}

/// The published JSON Schema (draft 2020-12) of one line. It is open: it allows fields, types and values
/// that a later version may add.
pub fn schema() -> serde_json::Value {
    SchemaSettings::draft2020_12().for_serialize().into_generator().into_root_schema_for::<Line>().to_value()
}

/// Prints the schema on stdout; a closed pipe is a clean end.
///
/// # Errors
/// When stdout does not take it.
pub fn print_schema() -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    let printed = serde_json::to_writer_pretty(&mut out, &schema())
        .map_err(io::Error::from)
        .and_then(|()| out.write_all(b"\n"));
    match printed {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        printed => Ok(printed?),
    }
}
