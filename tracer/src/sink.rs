//! Where the log goes: renders the lines, and holds back for people what may be harmless.

use std::collections::VecDeque;
use std::io::{self, BufWriter, IsTerminal, Write};
use std::os::fd::OwnedFd;

use anstream::{AutoStream, ColorChoice};
use jiff::tz::TimeZone;
use rustix::event::{PollFd, PollFlags, Timespec};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use uuid::Uuid;

use crate::cli::{Color, Form};
use crate::clock::Clock;
use crate::correlate::{HARMLESS_NS, Output};
use crate::event::Mono;
use crate::line::{Body, Cause, Line, VERSION};
use crate::render::Renderer;
use crate::render::text::Text;

/// Columns of text that goes to no terminal.
const WIDTH: usize = 110;

/// The log of one run.
pub struct Sink {
    out: BufWriter<AutoStream<io::Stdout>>,
    renderer: Renderer,
    run: Uuid,
    /// With text: refusals that may yet turn out to be harmless.
    held: VecDeque<Line>,
}

impl Sink {
    /// The log on stdout.
    pub fn stdout(form: Form, color: Color) -> Self {
        let stdout = io::stdout();
        let width = if stdout.is_terminal() { terminal_width().unwrap_or(WIDTH) } else { WIDTH };
        let choice = match (form, color) {
            (Form::Text, Color::Never) => ColorChoice::Never,
            // As it is: JSON has no colour that would have to be looked for.
            (Form::Json, _) | (Form::Text, Color::Always) => ColorChoice::AlwaysAnsi,
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
            held: VecDeque::new(),
        }
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
        self.release(Mono(u64::MAX))?;
        self.flush()
    }

    /// Writes one line. People are told of a refusal by the wrong family only once the other one has not
    /// answered in its stead.
    ///
    /// # Errors
    /// When stdout does not take it.
    pub fn write(&mut self, output: Output, clock: &Clock) -> io::Result<()> {
        let Output { seq, mono, body } = output;
        let line =
            Line { v: VERSION, run: self.run, seq, time: clock.time(mono), mono_us: mono.0 / 1_000, body };
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
            (Renderer::Text(_) | Renderer::Json, _) => {}
        }
        self.renderer.write(&line, &mut self.out)
    }

    /// When [`Self::release`] has something to do.
    pub fn deadline(&self) -> Option<Mono> {
        self.held.front().map(|line| Mono((line.mono_us * 1_000).saturating_add(HARMLESS_NS)))
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

    /// Hands what was written to stdout.
    ///
    /// # Errors
    /// When stdout does not take it.
    pub fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// Tells when nobody reads stdout any more, also while there is nothing to write.
pub struct Readers(Option<AsyncFd<OwnedFd>>);

impl Readers {
    /// Needs a runtime. A file has no readers that could go.
    pub fn of_stdout() -> Self {
        let register = |stdout: OwnedFd| {
            // SAFETY: an `OwnedFd` keeps its descriptor open, and the same, until it is dropped.
            unsafe { AsyncFd::register_with_interest(stdout, Interest::WRITABLE) }.ok()
        };
        Self(rustix::io::dup(io::stdout()).ok().and_then(register))
    }

    /// Waits until they have gone.
    pub async fn gone(&mut self) {
        let Some(stdout) = &mut self.0 else {
            return std::future::pending().await;
        };
        loop {
            match stdout.writable_mut().await {
                // Written to is not gone: wait for the next change.
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
