//! A tracer's log as it comes: what it counts, and whether it is whole.

use std::{
    collections::BTreeMap,
    fmt,
    io::{BufRead, BufReader, Read},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::lab::Interrupt;

/// What is said of a refusal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    pub cause: String,
    pub is_certain: bool,
}

/// What the lines have said so far.
#[derive(Clone, Default)]
pub struct Told {
    /// Refusals, as `alive` and `stop` count them.
    pub refused: u64,
    /// Records lost, likewise.
    pub lost: u64,
    /// Of those, as `lost` lines say, by where.
    by_where: BTreeMap<String, u64>,
    pub lines: u64,
    /// Listeners that have opened, and closed.
    pub opened: u64,
    pub closed: u64,
    /// How often it gave a sign of life.
    pub alive: u64,
    /// `bind()` is followed.
    pub has_binds: bool,
    /// Of the refusals that were told last, by destination.
    pub verdicts: Vec<(String, Verdict)>,
    pub is_stopped: bool,
    /// What is wrong with the log; none: it is whole so far.
    wrong: Option<String>,
}

impl fmt::Debug for Told {
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
        f.debug_struct("Told")
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

impl Told {
    /// Records lost in one place.
    pub fn lost_in(&self, place: &str) -> u64 {
        self.by_where.get(place).copied().unwrap_or_default()
    }

    /// Refusals, and records that were counted as lost one by one.
    pub fn accounted(&self) -> u64 {
        self.refused + self.lost_in("ring") + self.lost_in("attempts") + self.lost_in("decode")
    }

    /// Takes one line, which must be the next.
    fn take(&mut self, line: &str) -> Result<()> {
        let line: Value = serde_json::from_str(line).context("a line is no JSON")?;
        self.lines += 1;
        ensure!(line["seq"] == self.lines, "line {} has seq {}", self.lines, line["seq"]);
        let number = |name: &str| line[name].as_u64().with_context(|| format!("a line without `{name}`"));
        match line["type"].as_str().context("a line without `type`")? {
            "start" => {
                let hooks = line["hooks"].as_array().context("no hooks")?;
                self.has_binds =
                    hooks.iter().any(|hook| hook["name"].as_str().is_some_and(|name| name.contains("bind")));
            }
            "listener" => match line["change"].as_str() {
                Some("opened") => self.opened += 1,
                Some("closed") => self.closed += 1,
                _ => {}
            },
            "alive" => {
                (self.refused, self.lost) = (number("refused")?, number("lost")?);
                self.alive += 1;
                self.adds_up()?;
            }
            "stop" => {
                (self.refused, self.lost) = (number("refused")?, number("lost")?);
                self.is_stopped = true;
                self.adds_up()?;
            }
            "lost" => {
                let place = line["where"].as_str().context("lost nowhere")?.to_owned();
                *self.by_where.entry(place).or_default() += number("records")?;
            }
            "refused" => {
                let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
                let verdict = &line["verdict"];
                let is_certain = verdict["confidence"] == "certain";
                let verdict = Verdict { cause: text(&verdict["cause"]), is_certain };
                self.verdicts.push((text(&line["dst"]["addr"]), verdict));
                // Only the last ones are asked for.
                if self.verdicts.len() > 1_000 {
                    self.verdicts.drain(..500);
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// What is lost in all is what was told of it.
    fn adds_up(&self) -> Result<()> {
        let told: u64 = self.by_where.values().sum();
        ensure!(self.lost == told, "{} lost, of which {told} were told", self.lost);
        Ok(())
    }
}

/// The log of a running tracer.
pub struct Log {
    told: Arc<Mutex<Told>>,
    reader: JoinHandle<()>,
}

impl Log {
    /// Reads it to its end in a thread of its own.
    pub fn follow(stdout: impl Read + Send + 'static) -> Self {
        let told = Arc::new(Mutex::new(Told::default()));
        let shared = Arc::clone(&told);
        let reader = thread::spawn(move || {
            for line in BufReader::new(stdout).lines() {
                let mut told = shared.lock().unwrap_or_else(PoisonError::into_inner);
                let taken = line.map_err(Into::into).and_then(|line| told.take(&line));
                if let Err(error) = taken {
                    told.wrong.get_or_insert(format!("{error:#}"));
                }
            }
        });
        Self { told, reader }
    }

    fn lock(&self) -> MutexGuard<'_, Told> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What it has said so far; an error when it is not whole.
    pub fn told(&self) -> Result<Told> {
        let told = self.lock().clone();
        match &told.wrong {
            Some(wrong) => bail!("the log is not whole: {wrong}"),
            None => Ok(told),
        }
    }

    /// Waits until it says what is waited for; none when it takes longer than `patience`.
    pub fn wait<T>(
        &self,
        patience: Duration,
        ctrl_c: &Interrupt,
        mut find: impl FnMut(&Told) -> Option<T>,
    ) -> Result<Option<T>> {
        let until = Instant::now() + patience;
        loop {
            let found = find(&self.told()?);
            if found.is_some() || Instant::now() > until {
                return Ok(found);
            }
            ctrl_c.sleep(Duration::from_millis(50))?;
        }
    }

    /// Reads to the end and says what it said; the tracer must have ended.
    pub fn end(self) -> Result<Told> {
        let Self { told, reader } = self;
        reader.join().expect("the reader does not panic");
        let told = told.lock().unwrap_or_else(PoisonError::into_inner).clone();
        match &told.wrong {
            Some(wrong) => bail!("the log is not whole: {wrong}"),
            None => Ok(told),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_refused_and_lost_is_added_up() {
        let mut told = Told::default();
        for line in [
            r#"{"seq":1,"type":"start","hooks":[{"name":"syscalls:sys_enter_bind"}]}"#,
            r#"{"seq":2,"type":"refused","dst":{"addr":"127.0.0.1"},"verdict":{"cause":"stopped","confidence":"certain"}}"#,
            r#"{"seq":3,"type":"lost","where":"ring","records":5}"#,
            r#"{"seq":4,"type":"lost","where":"recursion","records":2}"#,
            r#"{"seq":5,"type":"alive","refused":7,"lost":7}"#,
        ] {
            told.take(line).expect("the next line");
        }
        assert_eq!((told.refused, told.lost, told.lost_in("ring"), told.accounted()), (7, 7, 5, 12));
        assert_eq!((told.has_binds, told.is_stopped, told.alive), (true, false, 1));
        let verdict = Verdict { cause: "stopped".to_owned(), is_certain: true };
        assert_eq!(told.verdicts, [("127.0.0.1".to_owned(), verdict)]);
    }

    #[test]
    fn a_gap_is_an_error() {
        let mut told = Told::default();
        told.take(r#"{"seq":1,"type":"start","hooks":[]}"#).expect("the first line");
        assert!(told.take(r#"{"seq":3,"type":"alive","refused":0,"lost":0}"#).is_err());
        assert!(told.take("{").is_err());
    }

    #[test]
    fn what_is_lost_and_not_told_is_an_error() {
        let mut told = Told::default();
        assert!(told.take(r#"{"seq":1,"type":"alive","refused":0,"lost":1}"#).is_err());
    }
}
