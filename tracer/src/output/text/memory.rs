//! What text keeps of earlier lines: refusals that later lines name, and what it does not print a second time.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::output::schema::{Bind, Cause, Time};

/// Refusals that are remembered.
const REFUSALS_MAX: usize = 4_096;

/// How often a bind that keeps failing is printed.
const BIND_PERIOD_NS: i128 = 10_000_000_000;

/// Failed binds that are remembered.
const BINDS_MAX: usize = 1_024;

/// Details of a status that are remembered.
const DETAILS_MAX: usize = 1_024;

/// What later lines about a refusal need of it.
pub struct Remembered {
    pub client: String,
    /// The client's name without its process id.
    pub name: String,
    pub dst: String,
    pub cause: Cause,
    /// Where it happened, as its own line shows it.
    pub places: Vec<String>,
}

/// Refusals that later lines may be about, by the number of their line: the newest.
#[derive(Default)]
pub struct Refusals(BTreeMap<u64, Remembered>);

impl Refusals {
    pub fn note(&mut self, seq: u64, refusal: Remembered) {
        if self.0.len() >= REFUSALS_MAX {
            self.0.pop_first();
        }
        self.0.insert(seq, refusal);
    }

    /// The refusal that a line is about.
    pub fn get(&self, of: Option<u64>) -> Option<&Remembered> {
        self.0.get(&of?)
    }
}

/// Namespace, process, address, port and error of a bind.
type BindKey = (u32, Option<u32>, String, u16, String);

/// When a failed bind was printed, and how many like it were suppressed since.
struct Printed {
    time: Time,
    suppressed: u64,
}

/// Binds that failed and were printed.
#[derive(Default)]
pub struct FailedBinds(HashMap<BindKey, Printed>);

impl FailedBinds {
    /// Notes a bind that failed. Where it is to be printed, how many like it were suppressed before; `None`: it is
    /// suppressed too.
    pub fn note(&mut self, bind: &Bind, errno: &str, time: Time) -> Option<u64> {
        if self.0.len() >= BINDS_MAX {
            self.0.clear();
        }
        let key = (bind.netns.id, bind.process.pid, bind.addr.clone(), bind.port, errno.to_owned());
        match self.0.get_mut(&key) {
            Some(printed) if time.0.as_nanosecond() - printed.time.0.as_nanosecond() < BIND_PERIOD_NS => {
                printed.suppressed += 1;
                None
            }
            Some(printed) => {
                printed.time = time;
                Some(std::mem::take(&mut printed.suppressed))
            }
            None => {
                self.0.insert(key, Printed { time, suppressed: 0 });
                Some(0)
            }
        }
    }
}

/// Details of a status that were printed.
#[derive(Default)]
pub struct Details(BTreeSet<String>);

impl Details {
    /// Whether a detail was not printed before. None is new where too many were.
    pub fn is_new(&mut self, detail: String) -> bool {
        self.0.len() < DETAILS_MAX && self.0.insert(detail)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::schema::{Call, Netns, Process};

    fn at(seconds: i64) -> Time {
        Time(jiff::Timestamp::from_second(seconds).unwrap())
    }

    fn bind(port: u16) -> Bind {
        Bind {
            call: Call::Bind,
            addr: "127.0.0.1".to_owned(),
            port,
            netns: Netns { id: 1, name: None },
            process: Process::default(),
            errno: None,
        }
    }

    #[test]
    fn a_bind_that_keeps_failing_is_printed_every_ten_seconds() {
        let mut binds = FailedBinds::default();
        assert_eq!(binds.note(&bind(80), "EADDRINUSE", at(0)), Some(0));
        assert_eq!(binds.note(&bind(80), "EADDRINUSE", at(1)), None);
        assert_eq!(binds.note(&bind(80), "EADDRINUSE", at(9)), None);
        assert_eq!(binds.note(&bind(80), "EACCES", at(9)), Some(0));
        assert_eq!(binds.note(&bind(81), "EADDRINUSE", at(9)), Some(0));
        assert_eq!(binds.note(&bind(80), "EADDRINUSE", at(10)), Some(2));
        assert_eq!(binds.note(&bind(80), "EADDRINUSE", at(11)), None);
    }

    #[test]
    fn a_detail_is_new_once() {
        let mut details = Details::default();
        assert!(details.is_new("a".to_owned()));
        assert!(!details.is_new("a".to_owned()));
        assert!(details.is_new("b".to_owned()));
    }
}
