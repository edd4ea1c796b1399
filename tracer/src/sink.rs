//! Where the log goes: numbers the lines, renders them, and counts what they said.

use std::io::{self, BufWriter, IsTerminal, Write};

use anstream::{AutoStream, ColorChoice};
use jiff::tz::TimeZone;
use uuid::Uuid;

use crate::cli::{Color, Form};
use crate::clock::Clock;
use crate::correlate::Output;
use crate::line::{Body, Line, Stop, StopReason, VERSION};
use crate::render::Renderer;
use crate::render::text::Text;

/// Columns of text that goes to no terminal.
const WIDTH: usize = 110;

/// The log of one run.
pub struct Sink {
    out: BufWriter<AutoStream<io::Stdout>>,
    renderer: Renderer,
    run: Uuid,
    seq: u64,
    tally: Tally,
    /// Refusals after which nothing more is said.
    count: Option<u64>,
}

/// What the lines written so far add up to.
#[derive(Clone, Debug, Default)]
struct Tally {
    refused: u64,
    by_cause: std::collections::BTreeMap<crate::line::Cause, u64>,
    lost: u64,
}

impl Sink {
    /// The log on stdout.
    pub fn stdout(form: Form, color: Color, count: Option<u64>) -> Self {
        let stdout = io::stdout();
        let width = if stdout.is_terminal() { terminal_width().unwrap_or(WIDTH) } else { WIDTH };
        let choice = match (form, color) {
            (Form::Json, _) | (Form::Text, Color::Never) => ColorChoice::Never,
            (Form::Text, Color::Always) => ColorChoice::AlwaysAnsi,
            (Form::Text, Color::Auto) => AutoStream::choice(&stdout),
        };
        let renderer = match form {
            Form::Text => Renderer::Text(Text::new(TimeZone::system(), width)),
            Form::Json => Renderer::Json,
        };
        Self {
            out: BufWriter::new(AutoStream::new(stdout, choice)),
            renderer,
            run: Uuid::new_v4(),
            seq: 0,
            tally: Tally::default(),
            count,
        }
    }

    /// Whether as many refusals as were asked for have been written.
    pub fn is_full(&self) -> bool {
        self.count.is_some_and(|count| self.tally.refused >= count)
    }

    /// Writes one line; refusals beyond the count asked for are left out.
    ///
    /// # Errors
    /// When stdout does not take it.
    pub fn write(&mut self, output: Output, clock: &Clock) -> io::Result<()> {
        let Output { mono, body } = output;
        match &body {
            Body::Refused(_) if self.is_full() => return Ok(()),
            Body::Refused(refused) => {
                self.tally.refused += 1;
                *self.tally.by_cause.entry(refused.verdict.cause).or_default() += 1;
            }
            Body::Lost(lost) => self.tally.lost += lost.records,
            Body::Start(_) | Body::Ready(_) | Body::Listener(_) | Body::Status(_) | Body::Stop(_) => {}
        }
        self.seq += 1;
        let line = Line {
            v: VERSION,
            run: self.run,
            seq: self.seq,
            time: clock.time(mono),
            mono_us: mono.0 / 1_000,
            body,
        };
        self.renderer.write(&line, &mut self.out)
    }

    /// The last line.
    pub fn stop(&self, reason: StopReason) -> Body {
        let Tally { refused, by_cause, lost } = self.tally.clone();
        Body::Stop(Stop { reason, refused, by_cause, failed: std::collections::BTreeMap::new(), lost })
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
