//! `-o json`: one object a line, and the schema that describes it.

use std::io::{self, Write};

use schemars::generate::SchemaSettings;

use crate::output::schema::Line;

/// Writes lines as JSON.
#[derive(Debug, Default)]
pub struct Json {
    /// The object that is written, whole: its hundred pieces would each be a call of `out`.
    object: Vec<u8>,
}

impl Json {
    /// Writes one object and a newline.
    ///
    /// # Errors
    /// When `out` does not take it.
    pub fn write(&mut self, line: &Line, out: &mut dyn Write) -> io::Result<()> {
        self.object.clear();
        serde_json::to_writer(&mut self.object, line)?;
        self.object.push(b'\n');
        out.write_all(&self.object)
    }
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
