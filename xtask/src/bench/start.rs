//! How long it takes to get ready.

use std::{
    io::{BufRead, BufReader},
    process::Stdio,
};

use anyhow::{Context, Result};
use serde_json::Value;

use super::{
    Bench,
    report::{Goal, Row, Unit},
    row,
};
use crate::lab::{Crowd, Tracer};

const GROUP: &str = "From the start to ready";

/// How many namespaces a crowded host has.
const CROWD: usize = 500;

pub fn measure(bench: &Bench<'_>) -> Result<Vec<Row>> {
    let turns = bench.of(11, 2);
    let (alone, few) = ready(bench, turns)?;
    let crowd = Crowd::create("bench-crowd", CROWD)?;
    let (crowded, many) = ready(bench, turns)?;
    drop(crowd);
    let goal = |row: Row| row.goal("under 100 ms", Goal::AtMost(100.0));
    Ok(vec![
        goal(row(GROUP, "with the namespaces that the host has", Unit::Milliseconds, alone)).note(few),
        goal(row(GROUP, &format!("with {CROWD} more"), Unit::Milliseconds, crowded)).note(many),
    ])
}

/// Milliseconds to ready, and what it had to look at last.
fn ready(bench: &Bench<'_>, turns: usize) -> Result<(Vec<f64>, String)> {
    let (mut times, mut namespaces) = (Vec::new(), None);
    for _ in 0..turns {
        let mut tracer = bench.trace(&[], Stdio::piped())?;
        times.push(tracer.ready_after.as_secs_f64() * 1e3);
        namespaces = namespaces_of(&mut tracer)?;
        tracer.end(bench.ctrl_c)?;
    }
    Ok((times, namespaces.map_or_else(String::new, |count| format!("{count} namespaces"))))
}

/// What the `ready` line counts.
fn namespaces_of(tracer: &mut Tracer) -> Result<Option<u64>> {
    for line in BufReader::new(tracer.take_stdout()?).lines() {
        let line: Value = serde_json::from_str(&line?).context("tracer's line is no JSON")?;
        if line["type"] == "ready" {
            return Ok(line["namespaces"].as_u64());
        }
    }
    Ok(None)
}
