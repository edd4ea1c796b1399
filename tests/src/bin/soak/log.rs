//! A tracer's log as it comes: what it counts, and whether it is whole.

use std::{
    fmt,
    io::Read,
    ops::ControlFlow,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use ::tests::{
    interrupt,
    tracer::{parse_quickly, read_lines},
};
use anyhow::{Result, bail, ensure};
use tracer::output::schema::{Body, Change, Line, LostWhere, Verdict};

/// What the lines have reported so far.
#[derive(Clone, Default)]
pub struct Totals {
    /// Refusals, as `alive` and `stop` count them.
    pub refused: u64,
    /// Records lost, likewise.
    pub lost: u64,
    /// Of those, by the place that `lost` lines name.
    by_where: Vec<(LostWhere, u64)>,
    pub lines: u64,
    /// Listeners that have opened, and closed.
    pub opened: u64,
    pub closed: u64,
    /// How often it gave a sign of life.
    pub alive: u64,
    /// `bind()` is followed.
    pub has_binds: bool,
    /// Of the refusals that were reported last, by destination.
    pub verdicts: Vec<(String, Verdict)>,
    pub is_stopped: bool,
    /// What is wrong with the log; none: it is whole so far.
    wrong: Option<String>,
}

impl fmt::Debug for Totals {
    /// What it counts.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            refused,
            lost,
            by_where,
            lines,
            opened,
            closed,
            alive,
            has_binds: _,
            verdicts,
            is_stopped,
            wrong,
        } = self;
        f.debug_struct("Totals")
            .field("refused", refused)
            .field("lost", lost)
            .field("by_where", by_where)
            .field("lines", lines)
            .field("opened", opened)
            .field("closed", closed)
            .field("alive", alive)
            .field("last", &verdicts.last())
            .field("is_stopped", is_stopped)
            .field("wrong", wrong)
            .finish()
    }
}

impl Totals {
    /// Records lost in one place.
    pub fn lost_in(&self, place: LostWhere) -> u64 {
        self.by_where.iter().filter(|(lost, _)| *lost == place).map(|(_, records)| records).sum()
    }

    /// Refusals, and records that were counted as lost one by one.
    pub fn accounted(&self) -> u64 {
        self.refused
            + self.lost_in(LostWhere::Ring)
            + self.lost_in(LostWhere::Attempts)
            + self.lost_in(LostWhere::Decode)
    }

    /// Takes one line, which must be the next.
    fn take(&mut self, line: Line) -> Result<()> {
        self.lines += 1;
        ensure!(line.seq == self.lines, "line {} has seq {}", self.lines, line.seq);
        match line.body {
            Body::Start(start) => {
                self.has_binds = start.hooks.iter().any(|hook| hook.name.contains("bind"));
            }
            Body::Listener(listener) => match listener.change {
                Change::Opened => self.opened += 1,
                Change::Closed => self.closed += 1,
                _ => {}
            },
            Body::Alive(alive) => {
                (self.refused, self.lost) = (alive.refused, alive.lost);
                self.alive += 1;
                self.adds_up()?;
            }
            Body::Stop(stop) => {
                (self.refused, self.lost) = (stop.refused, stop.lost);
                self.is_stopped = true;
                self.adds_up()?;
            }
            Body::Lost(lost) => match self.by_where.iter_mut().find(|(place, _)| *place == lost.place) {
                Some((_, records)) => *records += lost.records,
                None => self.by_where.push((lost.place, lost.records)),
            },
            Body::Refused(refused) => {
                self.verdicts.push((refused.dst.addr, refused.verdict));
                // Only the last ones are asked for.
                if self.verdicts.len() > 1_000 {
                    self.verdicts.drain(..500);
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// The total of lost records is the sum of the `lost` lines.
    fn adds_up(&self) -> Result<()> {
        let totals: u64 = self.by_where.iter().map(|(_, records)| records).sum();
        ensure!(self.lost == totals, "{} lost, of which {totals} were reported", self.lost);
        Ok(())
    }
}

/// The log of a running tracer.
pub struct Log {
    totals: Arc<Mutex<Totals>>,
    reader: JoinHandle<()>,
}

impl Log {
    /// Reads it to its end in a thread of its own.
    pub fn follow(stdout: impl Read + Send + 'static) -> Self {
        let totals = Arc::new(Mutex::new(Totals::default()));
        let shared = Arc::clone(&totals);
        let reader = read_lines(stdout, parse_quickly, move |line| {
            let mut totals = shared.lock().unwrap_or_else(PoisonError::into_inner);
            let taken = line.map_err(anyhow::Error::msg).and_then(|line| totals.take(line));
            if let Err(error) = taken {
                totals.wrong.get_or_insert(format!("{error:#}"));
            }
            ControlFlow::Continue(())
        });
        Self { totals, reader }
    }

    fn lock(&self) -> MutexGuard<'_, Totals> {
        self.totals.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What it has reported so far; an error when the log has a gap.
    pub fn totals(&self) -> Result<Totals> {
        let totals = self.lock().clone();
        match &totals.wrong {
            Some(wrong) => bail!("the log is not whole: {wrong}"),
            None => Ok(totals),
        }
    }

    /// Waits until the log has what is waited for; none when it takes longer than `patience`.
    pub fn wait<T>(
        &self,
        patience: Duration,
        mut find: impl FnMut(&Totals) -> Option<T>,
    ) -> Result<Option<T>> {
        let until = Instant::now() + patience;
        loop {
            let found = find(&self.totals()?);
            if found.is_some() || Instant::now() > until {
                return Ok(found);
            }
            interrupt::sleep(Duration::from_millis(50));
        }
    }

    /// Reads the log to its end, and gives what it reported; the tracer must have ended.
    pub fn end(self) -> Result<Totals> {
        let Self { totals, reader } = self;
        reader.join().expect("the reader does not panic");
        let totals = totals.lock().unwrap_or_else(PoisonError::into_inner).clone();
        match &totals.wrong {
            Some(wrong) => bail!("the log is not whole: {wrong}"),
            None => Ok(totals),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A line with what all lines have.
    fn line(seq: u64, rest: &str) -> Line {
        let text = format!(
            r#"{{"v":1,"run":"12345678-9abc-4def-8123-456789abcdef","seq":{seq},"time":"2026-11-22T10:41:02Z","mono_us":5,{rest}}}"#
        );
        parse_quickly(text.as_bytes()).expect("a line")
    }

    #[test]
    fn refusals_and_losses_are_added_up() {
        let mut totals = Totals::default();
        for line in [
            line(
                1,
                r#""type":"lost","where":"ring","records":5,"from":"2026-11-22T10:41:02Z","to":"2026-11-22T10:41:02Z""#,
            ),
            line(
                2,
                r#""type":"lost","where":"recursion","records":2,"from":"2026-11-22T10:41:02Z","to":"2026-11-22T10:41:02Z""#,
            ),
            line(3, r#""type":"alive","refused":7,"lost":7"#),
        ] {
            totals.take(line).expect("the next line");
        }
        assert_eq!(
            (totals.refused, totals.lost, totals.lost_in(LostWhere::Ring), totals.accounted()),
            (7, 7, 5, 12)
        );
        assert_eq!((totals.is_stopped, totals.alive), (false, 1));
    }

    #[test]
    fn a_missing_line_is_an_error() {
        let mut totals = Totals::default();
        let alive = |seq| line(seq, r#""type":"alive","refused":0,"lost":0"#);
        totals.take(alive(1)).expect("the first line");
        totals.take(alive(3)).unwrap_err();
    }

    #[test]
    fn a_loss_without_a_line_of_its_own_is_an_error() {
        Totals::default().take(line(1, r#""type":"alive","refused":0,"lost":1"#)).unwrap_err();
    }
}
