//! Two builds of tracer, measured in turns: what a change costs.

use std::{fs, path::Path, process::Stdio, thread, time::Duration};

use anyhow::{Context, Result};
use tests::load::Done;

use super::{
    Bench,
    idle::Taken,
    latency::{self, Lines},
    report::{Measured, Row, Unit},
    stats::{Sample, ratios},
    traffic::{Kind, LOADS},
};

const GROUP: &str = "This build, and the one before, in turns";

/// How long tracer idles before its memory is read: the scans after `ready` are done by then.
const SETTLE: Duration = Duration::from_millis(300);

/// What is done once more beside a server.
const BESIDE_SERVER: [Kind; 2] = [Kind::Accepted, Kind::RefusedElsewhere];

/// What one build took in one turn.
struct Turn {
    done: [Done; LOADS.len()],
    /// The same while a process is known to listen on the watched port: each connect of others costs a look-up.
    beside_server: [Done; BESIDE_SERVER.len()],
    /// CPU time of tracer itself for each refusal on the watched port, in nanoseconds.
    own: f64,
    /// Resident memory after the start and after the loads, in KiB.
    idle: f64,
    busy: f64,
    /// Median delays in microseconds.
    with_server: f64,
    without: f64,
}

/// Measures both, this many times.
pub fn measure(bench: &Bench, before: &Path) -> Result<Vec<Row>> {
    let mut pairs = Vec::new();
    for turn in 0..bench.of(40, 2) {
        // In either order, so that what changes slowly cancels out.
        pairs.push(if turn % 2 == 0 {
            let first = Turn::take(bench, before)?;
            (first, Turn::take(bench, &bench.tracer)?)
        } else {
            let second = Turn::take(bench, &bench.tracer)?;
            (Turn::take(bench, before)?, second)
        });
    }
    let mut rows: Vec<Row> = LOADS
        .into_iter()
        .enumerate()
        .map(|(at, kind)| {
            let what = format!("{}: CPU time each", kind.what());
            row(&what, Unit::Nanoseconds, &pairs, |turn| turn.done[at].cpu_each())
        })
        .collect();
    rows.extend(BESIDE_SERVER.into_iter().enumerate().map(|(at, kind)| {
        let what = format!("{}, beside a server on the watched port: CPU time each", kind.what());
        row(&what, Unit::Nanoseconds, &pairs, |turn| turn.beside_server[at].cpu_each())
    }));
    let refused = Kind::Refused.what();
    rows.push(row(&format!("{refused}: CPU time of tracer each"), Unit::Nanoseconds, &pairs, |turn| {
        turn.own
    }));
    rows.push(row("resident memory, idle", Unit::Kibibytes, &pairs, |turn| turn.idle));
    rows.push(row("resident memory, after the loads", Unit::Kibibytes, &pairs, |turn| turn.busy));
    rows.push(row("to the line, a server on another address: p50", Unit::Microseconds, &pairs, |turn| {
        turn.with_server
    }));
    rows.push(row("to the line, nothing listens: p50", Unit::Microseconds, &pairs, |turn| turn.without));
    Ok(rows)
}

impl Turn {
    fn take(bench: &Bench, tracer: &Path) -> Result<Self> {
        let (running, _) = bench.trace_with(tracer, &[], Stdio::null());
        thread::sleep(SETTLE);
        let idle = resident(running.pid())?;
        let mut own = 0.0;
        let mut done = Vec::new();
        for kind in LOADS {
            let before = Taken::by(running.pid())?;
            let made = kind.take(bench);
            if kind == Kind::Refused {
                // What it has still to do for these refusals counts too.
                thread::sleep(SETTLE);
                own = (Taken::by(running.pid())?.cpu - before.cpu) as f64 / made.made as f64;
            }
            done.push(made);
        }
        let done = <[Done; LOADS.len()]>::try_from(done).ok().context("a load was not run")?;
        let busy = resident(running.pid())?;
        let beside_server = {
            let _server = latency::server_elsewhere(bench);
            BESIDE_SERVER.map(|kind| kind.take(bench))
        };
        running.stop();
        let with_server = {
            let _server = latency::server_elsewhere(bench);
            median(bench, tracer)?
        };
        Ok(Self { done, beside_server, own, idle, busy, with_server, without: median(bench, tracer)? })
    }
}

fn median(bench: &Bench, tracer: &Path) -> Result<f64> {
    let delays = latency::ours(bench, tracer, Lines(bench.of(100, 20)))?;
    Ok(Sample::new(delays).context("no refusal was measured")?.median())
}

/// Resident memory of a process, in KiB.
fn resident(process: u32) -> Result<f64> {
    let path = format!("/proc/{process}/status");
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read `{path}`"))?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let value = line.and_then(|line| line.split_whitespace().next()).context("no `VmRSS`")?;
    Ok(value.parse()?)
}

/// The ratio of this build to the one before, with its 95 % interval.
fn row(what: &str, unit: Unit, pairs: &[(Turn, Turn)], value: impl Fn(&Turn) -> f64) -> Row {
    let values: Vec<(f64, f64)> = pairs.iter().map(|(before, after)| (value(before), value(after))).collect();
    let (Some(before), Some(after), Some(ratio)) = (
        Sample::new(values.iter().map(|(before, _)| *before).collect()),
        Sample::new(values.iter().map(|(_, after)| *after).collect()),
        ratios(&values),
    ) else {
        return Row::new(GROUP, what, Measured::Not("no turn was taken".to_owned()));
    };
    let [low, high] = ratio.interval();
    let note = format!(
        "{:.3} times the one before ({low:.3} to {high:.3}), which took {}",
        ratio.median(),
        super::report::shown(before.median(), unit)
    );
    Row::new(GROUP, what, Measured::Values(unit, after)).note(note)
}
