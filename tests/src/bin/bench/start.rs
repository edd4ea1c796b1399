//! How long it takes to get ready.

use std::{ops::ControlFlow, process::Stdio, sync::mpsc};

use anyhow::{Context, Result};
use tests::{
    netns::BulkNetns,
    tracer::{parse_quickly, read_lines},
};
use tracer::output::schema::{Body, Line};

use super::{
    Bench,
    report::{Goal, Row, Unit},
    row,
};

const GROUP: &str = "From the start to ready";

/// How many namespaces a host with many has.
const BULK: usize = 500;

pub fn measure(bench: &Bench) -> Result<Vec<Row>> {
    let turns = bench.of(11, 2);
    let (alone, few) = ready(bench, turns)?;
    let bulk = BulkNetns::new(BULK);
    let (many_times, many) = ready(bench, turns)?;
    drop(bulk);
    let goal = |row: Row| row.goal("under 100 ms", Goal::AtMost(100.0));
    Ok(vec![
        goal(row(GROUP, "with the namespaces that the host has", Unit::Milliseconds, alone)).note(few),
        goal(row(GROUP, &format!("with {BULK} more"), Unit::Milliseconds, many_times)).note(many),
    ])
}

/// Milliseconds to ready, and how many namespaces it scanned last.
fn ready(bench: &Bench, turns: usize) -> Result<(Vec<f64>, String)> {
    let (mut times, mut namespaces) = (Vec::new(), String::new());
    for _ in 0..turns {
        let (mut tracer, ready_after) = bench.trace(&[], Stdio::piped());
        times.push(ready_after.as_secs_f64() * 1e3);
        let (sender, lines) = mpsc::channel();
        read_lines(tracer.take_stdout(), parse_quickly, move |line| match line {
            Ok(Line { body: Body::Ready(ready), .. }) => {
                let _ = sender.send(ready.namespaces);
                ControlFlow::Break(())
            }
            _ => ControlFlow::Continue(()),
        });
        namespaces = format!("{} namespaces", lines.recv().context("tracer did not print `ready`")?);
        tracer.stop();
    }
    Ok((times, namespaces))
}
