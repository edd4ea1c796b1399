//! `-o json`: one object a line, and the schema that describes it.

use std::io::{self, Write};

use schemars::generate::SchemaSettings;

use crate::output::schema::Line;

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

/// The schema as `tracer schema` prints it.
///
/// # Errors
/// None that a schema could give.
pub fn schema_text() -> anyhow::Result<Vec<u8>> {
    let mut text = serde_json::to_vec_pretty(&schema())?;
    text.push(b'\n');
    Ok(text)
}
