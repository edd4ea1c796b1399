//! Refusals from all cores at once: how many are seen, and what becomes of the others.

use std::{
    io::{BufRead, BufReader},
    process::Stdio,
    thread,
    time::Duration,
};

use anyhow::{Context, Result};
use serde_json::Value;

use super::{
    Bench, WATCHED, local,
    report::{Goal, Row, Unit},
    row,
};
use crate::{bpf::costs_of, lab::resident};

const GROUP: &str = "A flood of refused connects from all cores";

pub fn measure(bench: &Bench<'_>) -> Result<Vec<Row>> {
    let duration = bench.of(Duration::from_secs(30), Duration::from_secs(2));
    let threads = thread::available_parallelism()?.to_string();
    let mut tracer = bench.trace(&[], Stdio::piped())?;
    let lines = BufReader::new(tracer.take_stdout()?);
    let log = thread::spawn(move || -> Result<(Option<Value>, Vec<Value>)> {
        let (mut stop, mut lost) = (None, Vec::new());
        for line in lines.lines() {
            let line: Value = serde_json::from_str(&line?).context("tracer's line is no JSON")?;
            match line["type"].as_str() {
                Some("stop") => stop = Some(line),
                Some("lost") => lost.push(line),
                _ => {}
            }
        }
        Ok((stop, lost))
    });
    let idle = resident(tracer.pid())?;
    let done = bench.load(&["refused", &local(WATCHED), "--mixed", "--threads", &threads], duration)?;
    let after = resident(tracer.pid())?;
    let skipped: u64 = costs_of(tracer.pid())?.iter().map(|cost| cost.skipped).sum();
    tracer.end(bench.ctrl_c)?;
    let (stop, lost) = log.join().expect("the reader does not panic")?;
    let seen = stop.and_then(|stop| stop["refused"].as_u64()).context("tracer did not say `stop`")?;
    let lost = |place: &str| -> u64 {
        lost.iter().filter(|line| line["where"] == place).filter_map(|line| line["records"].as_u64()).sum()
    };
    let gap = done.made.saturating_sub(seen);
    let count = |what: &str, value: u64| row(GROUP, what, Unit::Count, vec![value as f64]);
    let seconds = duration.as_secs();
    Ok(vec![
        count(&format!("made in {seconds} s, blocking and not by turns"), done.made)
            .note(format!("{:.0} a second in {threads} threads", done.rate())),
        count("seen", seen),
        count("lost in the ring, as the log says", lost("ring")).goal("none", Goal::AtMost(0.0)),
        count("lost to nesting, as the log says: an upper bound", lost("recursion")).note(format!(
            "the kernel skipped {skipped} runs of all programs, for whichever socket of the host"
        )),
        row(
            GROUP,
            "the gap between made and seen",
            Unit::Percent,
            vec![gap as f64 / done.made as f64 * 100.0],
        )
        .goal("under 0.01 %", Goal::AtMost(0.01))
        .note(format!("{gap} refusals")),
        row(GROUP, "resident memory before", Unit::Kibibytes, vec![idle as f64])
            .goal("under 12 MiB", Goal::AtMost(12.0 * 1024.0)),
        row(GROUP, "resident memory after", Unit::Kibibytes, vec![after as f64])
            .goal("under 12 MiB", Goal::AtMost(12.0 * 1024.0)),
    ])
}
