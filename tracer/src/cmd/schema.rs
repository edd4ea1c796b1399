//! `tracer schema`: the JSON Schema of a line.

use anyhow::Result;

use crate::exit::Exit;
use crate::output::json;
use crate::stdio::print;

/// Prints the schema.
///
/// # Errors
/// When stdout does not take it.
pub fn schema() -> Result<Exit> {
    print(&json::schema_text()?)?;
    Ok(Exit::Done)
}
