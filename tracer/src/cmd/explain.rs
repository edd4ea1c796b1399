//! `tracer explain CAUSE`: what a verdict means, how it is known, and what to do, as a page. docs/causes has the same text.

use std::borrow::Cow;
use std::fmt;

use anyhow::Result;

use crate::exit::Exit;
use crate::output::causes::{self, Explanation};
use crate::output::schema::Cause;
use crate::products::registry;
use crate::stdio::print;

/// Columns of a page.
const WIDTH: usize = 100;

/// Prints the page of a cause; `None`: of every one.
///
/// # Errors
/// When stdout does not take it.
pub fn explain(cause: Option<Cause>) -> Result<Exit> {
    let pages: Vec<String> = match cause {
        Some(cause) => vec![Page(cause).to_string()],
        None => causes::in_order().map(|cause| Page(cause).to_string()).collect(),
    };
    print(pages.join("\n").as_bytes())?;
    Ok(Exit::Done)
}

/// A cause explained, as a page.
pub struct Page(pub Cause);

impl fmt::Display for Page {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(cause) = *self;
        let explanation = causes::explanation(cause);
        let Explanation { means, known, .. } = *explanation;
        writeln!(f, "# {}\n", cause.name())?;
        let remedy = remedy(explanation);
        for (title, text) in [("What it means", means), ("How it is known", known), ("What to do", &*remedy)]
        {
            writeln!(f, "## {title}\n")?;
            let mut column = 0;
            for word in text.split(' ') {
                let length = word.chars().count();
                if column > 0 && column + 1 + length > WIDTH {
                    writeln!(f)?;
                    column = 0;
                } else if column > 0 {
                    write!(f, " ")?;
                    column += 1;
                }
                write!(f, "{word}")?;
                column += length;
            }
            writeln!(f, "\n")?;
        }
        match causes::before(cause) {
            Some(before) => write!(f, "Causes are tried in order; this one comes after `{}`", before.name())?,
            None => write!(f, "Causes are tried in order; this one is the first")?,
        }
        writeln!(f, ". docs/incidents.md lists scenarios of each.")
    }
}

/// What to do about a cause, with what products add.
fn remedy(explanation: &Explanation) -> Cow<'static, str> {
    let Explanation { cause, remedy, .. } = *explanation;
    let notes: Vec<&str> = registry().iter().filter_map(|product| product.note_on(cause)).collect();
    if notes.is_empty() { remedy.into() } else { format!("{remedy} {}", notes.join(" ")).into() }
}
