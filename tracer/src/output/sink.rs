//! Stdout as the place of the log: its form, colours and width, and what is written to it.

use std::io::{self, BufWriter, IsTerminal, Write};

use anstream::{AutoStream, ColorChoice};
use clap::ValueEnum;
use jiff::tz::TimeZone;

use crate::model::time::Mono;
use crate::output::hold::Hold;
use crate::output::json::Json;
use crate::output::renderer::Renderer;
use crate::output::schema::Line;
use crate::output::text::Text;

/// Columns of text that goes to no terminal.
const WIDTH: usize = 110;

/// How the log is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Form {
    /// For people
    Text,
    /// One JSON object a line
    Json,
}

/// When it has colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Color {
    /// On a terminal, unless NO_COLOR is set
    Auto,
    Always,
    Never,
}

/// The log of one run.
pub struct Sink {
    out: BufWriter<AutoStream<io::Stdout>>,
    renderer: Renderer,
    /// With text: lines that wait.
    hold: Hold,
}

impl Sink {
    /// The log on stdout.
    pub fn stdout(form: Form, color: Color) -> Self {
        let stdout = io::stdout();
        let width = if stdout.is_terminal() { terminal_width().unwrap_or(WIDTH) } else { WIDTH };
        let choice = match (form, color) {
            (Form::Text, Color::Never) => ColorChoice::Never,
            // JSON has no colours to be stripped.
            (Form::Json, _) | (Form::Text, Color::Always) => ColorChoice::AlwaysAnsi,
            (Form::Text, Color::Auto) => AutoStream::choice(&stdout),
        };
        let renderer = match form {
            Form::Text => Renderer::Text(Text::new(TimeZone::system(), width)),
            Form::Json => Renderer::Json(Json::default()),
        };
        Self { out: BufWriter::new(AutoStream::new(stdout, choice)), renderer, hold: Hold::default() }
    }

    /// A log that is shown as text.
    pub fn text(color: Color) -> Self {
        Self::stdout(Form::Text, color)
    }

    /// Writes a line that was logged before.
    ///
    /// # Errors
    /// When stdout does not take it.
    pub fn show(&mut self, line: Line) -> io::Result<()> {
        // What happens after it, in the log, settles what is held back.
        self.release(Mono(line.mono_us.saturating_mul(1_000)))?;
        self.write(line)
    }

    /// Writes what is held back still: the log is at its end.
    ///
    /// # Errors
    /// When stdout does not take it.
    pub fn finish(&mut self) -> io::Result<()> {
        self.release_all()?;
        self.flush()
    }

    /// Writes one line, or lets it wait: see [`super::hold`].
    ///
    /// # Errors
    /// When stdout does not take it.
    pub fn write(&mut self, line: Line) -> io::Result<()> {
        let line = match &mut self.renderer {
            Renderer::Text(text) => {
                if let Some(settled) = self.hold.settled_by(&line) {
                    text.remember(&settled);
                }
                self.hold.take(line)
            }
            Renderer::Json(_) => Some(line),
        };
        line.map_or(Ok(()), |line| self.renderer.write(&line, &mut self.out))
    }

    /// When [`Self::release`] has something to do.
    pub fn deadline(&self) -> Option<Mono> {
        self.hold.deadline()
    }

    /// Writes what was held back for long enough.
    ///
    /// # Errors
    /// When stdout does not take it.
    pub fn release(&mut self, now: Mono) -> io::Result<()> {
        while let Some(line) = self.hold.due(now) {
            self.renderer.write(&line, &mut self.out)?;
        }
        Ok(())
    }

    /// Writes what is held back, for however short a time: nothing more comes that would settle it.
    ///
    /// # Errors
    /// When stdout does not take it.
    pub fn release_all(&mut self) -> io::Result<()> {
        while let Some(line) = self.hold.pop() {
            self.renderer.write(&line, &mut self.out)?;
        }
        Ok(())
    }

    /// Hands what was written to stdout.
    ///
    /// # Errors
    /// When stdout does not take it.
    pub fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

fn terminal_width() -> Option<usize> {
    let size = rustix::termios::tcgetwinsize(io::stdout()).ok()?;
    (size.ws_col > 0).then_some(usize::from(size.ws_col))
}
