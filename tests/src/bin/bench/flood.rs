//! Refusals from all cores in parallel: how many are seen, and what becomes of the others.

use std::{collections::BTreeMap, ops::ControlFlow, process::Stdio, sync::mpsc, thread, time::Duration};

use anyhow::{Context, Result};
use tests::{
    bpf::{costs_of, resident},
    load::{Load, Refused},
    tracer::{parse_quickly, read_lines},
};
use tracer::output::schema::{Body, Lost, LostWhere};

use super::{
    Bench,
    report::{Goal, Row, Unit},
    row,
};

const GROUP: &str = "A flood of refused connects from all cores";

pub fn measure(bench: &Bench) -> Result<Vec<Row>> {
    let duration = bench.of(Duration::from_secs(30), Duration::from_secs(2));
    let threads = thread::available_parallelism()?.get();
    let (mut tracer, _) = bench.trace(&[], Stdio::piped());
    let (sender, lines) = mpsc::channel();
    let reader = read_lines(tracer.take_stdout(), parse_quickly, move |line| {
        match line.map(|line| line.body) {
            Ok(body @ (Body::Stop(_) | Body::Lost(_))) => sender.send(Ok(body)),
            Ok(_) => Ok(()),
            Err(error) => sender.send(Err(error)),
        }
        .map_or(ControlFlow::Break(()), ControlFlow::Continue)
    });
    let idle = resident(tracer.pid())?;
    let done = bench.load(Load::Refused(Refused::at(bench.watched(), duration).from_threads(threads)));
    let after = resident(tracer.pid())?;
    let skipped: u64 = costs_of(tracer.pid())?.iter().map(|cost| cost.skipped).sum();
    tracer.stop();
    reader.join().expect("the reader does not panic");
    let (mut seen, mut lost) = (None, BTreeMap::<&str, u64>::new());
    for body in lines {
        match body.map_err(anyhow::Error::msg)? {
            Body::Stop(stop) => seen = Some(stop.refused),
            Body::Lost(Lost { place: LostWhere::Ring, records, .. }) => {
                *lost.entry("ring").or_default() += records;
            }
            Body::Lost(Lost { place: LostWhere::Recursion, records, .. }) => {
                *lost.entry("recursion").or_default() += records;
            }
            _ => {}
        }
    }
    let seen = seen.context("tracer did not print `stop`")?;
    let lost = |place: &str| lost.get(place).copied().unwrap_or_default();
    let gap = done.made.saturating_sub(seen);
    let count = |what: &str, value: u64| row(GROUP, what, Unit::Count, vec![value as f64]);
    let seconds = duration.as_secs();
    Ok(vec![
        count(&format!("made in {seconds} s, blocking and not by turns"), done.made)
            .note(format!("{:.0} a second in {threads} threads", done.rate())),
        count("seen", seen),
        count("lost in the ring, by the log", lost("ring")).goal("none", Goal::AtMost(0.0)),
        count("lost to nesting, by the log: an upper bound", lost("recursion"))
            .note(format!("the kernel skipped {skipped} runs of all programs, for any socket of the host")),
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
