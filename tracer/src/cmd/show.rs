//! `tracer show FILE`: a log of `-o json` as text.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

use anyhow::{Context as _, Result};
use serde_json::Value;

use crate::cli::Show;
use crate::exit::{Exit, Failure};
use crate::model::escape::escape_again;
use crate::output::schema::Line;
use crate::output::sink::Sink;
use crate::stdio::talk;

/// Longest line that is read: none that tracer writes is as long.
const LINE_MAX: u64 = 16 << 20;

/// Shows each line of a log. One that is cut short by an abnormal end is the last; others that are not a line of a log
/// are counted.
///
/// # Errors
/// When the log cannot be read or shown, or none of it is a log.
pub fn show(options: &Show) -> Result<Exit> {
    let mut input = open(&options.file)?;
    let mut sink = Sink::text(options.color);
    let (mut shown, mut others) = (0_u64, 0_u64);
    let mut bytes = Vec::new();
    loop {
        bytes.clear();
        let length =
            input.by_ref().take(LINE_MAX).read_until(b'\n', &mut bytes).context("cannot read the log")?;
        if length == 0 {
            break;
        }
        match line(&bytes) {
            Ok(line) => {
                shown += 1;
                match sink.show(line) {
                    Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(Exit::Done),
                    written => written?,
                }
            }
            Err(_) if bytes.iter().all(u8::is_ascii_whitespace) => {}
            Err(_) => others += 1,
        }
    }
    sink.finish()?;
    if shown == 0 && others > 0 {
        let file = options.file.display();
        let hint = "a log is what `tracer -o json` writes: one object a line";
        return Err(Failure::usage(format!("`{file}` is not a log of tracer"), hint).into());
    }
    if others > 0 {
        talk(format_args!("tracer: {others} of {} lines are not of this log's form", shown + others));
    }
    Ok(Exit::Done)
}

/// A line of a log. The log may come from anywhere: a character that tracer itself never writes unescaped is escaped,
/// so that none reaches a terminal.
///
/// # Errors
/// When it is not a line of a log.
pub fn line(bytes: &[u8]) -> serde_json::Result<Line> {
    // Nothing in JSON without these stands for anything but itself.
    let is_plain = |byte: &u8| byte.is_ascii() && !matches!(byte, b'\\' | 0x7f);
    if bytes.iter().all(is_plain) {
        return serde_json::from_slice(bytes);
    }
    serde_json::from_value(escaped(serde_json::from_slice(bytes)?))
}

/// The value with all its strings and keys escaped. serde_json bounds how deep it is nested.
fn escaped(value: Value) -> Value {
    match value {
        Value::String(text) => Value::String(escape_again(&text)),
        Value::Array(values) => Value::Array(values.into_iter().map(escaped).collect()),
        Value::Object(values) => {
            let escaped = values.into_iter().map(|(key, value)| (escape_again(&key), escaped(value)));
            Value::Object(escaped.collect())
        }
        other => other,
    }
}

fn open(path: &Path) -> Result<Box<dyn BufRead>, Failure> {
    if path == Path::new("-") {
        return Ok(Box::new(io::stdin().lock()));
    }
    let file = File::open(path).map_err(|error| {
        Failure::usage(format!("cannot read `{}`: {error}", path.display()), "`-` is standard input")
    })?;
    Ok(Box::new(BufReader::new(file)))
}
