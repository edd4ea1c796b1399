//! Where the log goes: renders the lines, and holds back in text what may be a fallback.

use std::collections::VecDeque;
use std::io::{self, BufWriter, IsTerminal, Write};
use std::os::fd::OwnedFd;

use anstream::{AutoStream, ColorChoice};
use clap::ValueEnum;
use jiff::tz::TimeZone;
use rustix::event::{PollFd, PollFlags, Timespec};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::lifecycle::fallbacks::SETTLE_NS;
use crate::model::time::Mono;
use crate::output::json::Json;
use crate::output::renderer::Renderer;
use crate::output::schema::{Body, Cause, Line};
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
    /// With text: refusals that a fallback may still follow.
    held: VecDeque<Line>,
}

impl Sink {
    /// The log on stdout.
    pub fn stdout(form: Form, color: Color) -> Self {
        let stdout = io::stdout();
        let width = if stdout.is_terminal() { terminal_width().unwrap_or(WIDTH) } else { WIDTH };
        let choice = match (form, color) {
            (Form::Text, Color::Never) => ColorChoice::Never,
            // As it is: JSON has no colours to strip.
            (Form::Json, _) | (Form::Text, Color::Always) => ColorChoice::AlwaysAnsi,
            (Form::Text, Color::Auto) => AutoStream::choice(&stdout),
        };
        let renderer = match form {
            Form::Text => Renderer::Text(Text::new(TimeZone::system(), width)),
            Form::Json => Renderer::Json(Json::default()),
        };
        Self { out: BufWriter::new(AutoStream::new(stdout, choice)), renderer, held: VecDeque::new() }
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
        self.put(line)
    }

    /// Writes what is held back still: the log is at its end.
    ///
    /// # Errors
    /// When stdout does not take it.
    pub fn finish(&mut self) -> io::Result<()> {
        self.release_all()?;
        self.flush()
    }

    /// Writes one line. The text shows a refusal by the wrong family only once the other one has not
    /// answered in its stead.
    ///
    /// # Errors
    /// When stdout does not take it.
    pub fn write(&mut self, line: Line) -> io::Result<()> {
        self.put(line)
    }

    fn put(&mut self, line: Line) -> io::Result<()> {
        match (&self.renderer, &line.body) {
            (Renderer::Text(_), Body::Refused(refused)) if refused.verdict.cause == Cause::WrongFamily => {
                self.held.push_back(line);
                return Ok(());
            }
            (Renderer::Text(_), Body::Fallback(fallback)) => {
                if let Some(index) = self.held.iter().position(|held| held.seq == fallback.of)
                    && let Some(held) = self.held.remove(index)
                    && let Renderer::Text(text) = &mut self.renderer
                {
                    text.remember(&held);
                }
            }
            (Renderer::Text(_) | Renderer::Json(_), _) => {}
        }
        self.renderer.write(&line, &mut self.out)
    }

    /// When [`Self::release`] has something to do.
    pub fn deadline(&self) -> Option<Mono> {
        self.held.front().map(|line| Mono(line.mono_us.saturating_mul(1_000).saturating_add(SETTLE_NS)))
    }

    /// Writes what was held back for long enough.
    ///
    /// # Errors
    /// When stdout does not take it.
    pub fn release(&mut self, now: Mono) -> io::Result<()> {
        while self.deadline().is_some_and(|due| due <= now) {
            if let Some(line) = self.held.pop_front() {
                self.renderer.write(&line, &mut self.out)?;
            }
        }
        Ok(())
    }

    /// Writes what is held back, for however short a time: nothing more comes that would settle it.
    ///
    /// # Errors
    /// When stdout does not take it.
    pub fn release_all(&mut self) -> io::Result<()> {
        while let Some(line) = self.held.pop_front() {
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

/// Detects that the reader of stdout has closed it, also while there is nothing to write.
pub struct Readers(Option<AsyncFd<OwnedFd>>);

impl Readers {
    /// Needs a runtime. A file has no reader that could close it.
    pub fn of_stdout() -> Self {
        let register = |stdout: OwnedFd| {
            // SAFETY: an `OwnedFd` keeps its descriptor open, and the same, until it is dropped.
            unsafe { AsyncFd::register_with_interest(stdout, Interest::WRITABLE) }.ok()
        };
        Self(rustix::io::dup(io::stdout()).ok().and_then(register))
    }

    /// Waits until the reader has closed stdout.
    pub async fn closed(&mut self) {
        let Some(stdout) = &mut self.0 else {
            return std::future::pending().await;
        };
        loop {
            match stdout.writable_mut().await {
                // Writable does not mean closed: wait for the next change.
                Ok(mut guard) => guard.clear_ready(),
                Err(_) => return std::future::pending().await,
            }
            let mut poll = [PollFd::new(stdout.get_ref(), PollFlags::empty())];
            let polled = rustix::event::poll(&mut poll, Some(&Timespec::default()));
            if polled.is_ok() && poll[0].revents().contains(PollFlags::ERR) {
                return;
            }
        }
    }
}

fn terminal_width() -> Option<usize> {
    let size = rustix::termios::tcgetwinsize(io::stdout()).ok()?;
    (size.ws_col > 0).then_some(usize::from(size.ws_col))
}
