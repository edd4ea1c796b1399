//! Time in the kernel for each state change of a connect to a port that is not watched.

use std::{process::Stdio, time::Duration};

use anyhow::{Context, Result};
use tests::{
    bpf::{Cost, Empty, RunTimes, costs_of},
    interrupt,
    load::{Load, Refused},
};

use super::{
    Bench,
    peers::{Peer, Running},
    report::{Goal, Measured, Row, Unit},
    row, shown,
    stats::ratios,
};

const GROUP: &str = "One unmatched state change, in the kernel";

/// The program that sees state changes.
const STATE: &str = "sock_state";

pub fn measure(bench: &Bench) -> Result<Vec<Row>> {
    let _counted = RunTimes::count()?;
    let turns = bench.of(9, 2);
    let (mut empty, mut ours, mut whole) = (Vec::new(), Vec::new(), Vec::new());
    let mut theirs = [Peer::Bpftrace, Peer::Tcpstates].map(|peer| (peer, Ok(Vec::new())));
    for _ in 0..turns {
        empty.push({
            let program = Empty::attach()?;
            each(bench, || Ok(vec![program.cost()?]))?.state
        });
        let (tracer, _) = bench.trace(&[], Stdio::null());
        let cost = each(bench, || costs_of(tracer.pid()))?;
        ours.push(cost.state);
        whole.push(cost.connect);
        drop(tracer);
        for (peer, values) in &mut theirs {
            if let Ok(taken) = values {
                let measured =
                    Running::start(bench, *peer).and_then(|running| each(bench, || running.costs()));
                match measured {
                    Ok(cost) => taken.push(cost.state),
                    Err(error) => *values = Err(format!("{error:#}")),
                }
            }
            interrupt::check();
        }
    }
    let pairs = |base: &[f64], other: &[f64]| {
        ratios(&base.iter().copied().zip(other.iter().copied()).collect::<Vec<_>>())
    };
    let to_empty = pairs(&empty, &ours).context("no turn was taken")?;
    let mut rows = vec![
        row(GROUP, "an empty `tp_btf` program: the floor", Unit::Nanoseconds, empty)
            .note("mostly the measurement itself"),
        row(GROUP, "tracer", Unit::Nanoseconds, ours.clone())
            .goal_for("at most 1.3 times the empty program", Goal::AtMost(1.3), Some(to_empty.median()))
            .note(format!("{} times the empty program", shown(&to_empty))),
    ];
    for (peer, values) in theirs {
        let what = match peer {
            Peer::Bpftrace => "the same filter as a bpftrace one-liner",
            Peer::Tcpstates => "bcc's `tcpstates`, with a filter for the port",
        };
        rows.push(match values {
            Ok(values) => {
                let times = pairs(&values, &ours).context("no turn was taken")?;
                let made = row(GROUP, what, Unit::Nanoseconds, values);
                let note = format!("tracer takes {} of it", shown(&times));
                match peer {
                    Peer::Bpftrace => made,
                    Peer::Tcpstates => made.goal_for(
                        "tracer takes at most half of it",
                        Goal::AtMost(0.5),
                        Some(times.median()),
                    ),
                }
                .note(note)
            }
            Err(reason) => Row::new(GROUP, what, Measured::Not(reason)),
        });
    }
    rows.push(
        row(
            GROUP,
            "all of tracer's programs, for one refused connect to another port",
            Unit::Nanoseconds,
            whole,
        )
        .note("two state changes, the reset and the socket's end"),
    );
    Ok(rows)
}

/// In nanoseconds.
struct Each {
    /// Of the program that sees state changes, a run.
    state: f64,
    /// Of all programs, a connect.
    connect: f64,
}

/// What programs cost while connects to another port are refused.
fn each(bench: &Bench, costs: impl Fn() -> Result<Vec<Cost>>) -> Result<Each> {
    let before = costs()?;
    let duration = bench.of(Duration::from_millis(400), Duration::from_millis(100));
    let done = bench.load(Load::Refused(Refused::at(bench.unwatched(), duration)));
    let after = costs()?;
    let spent = |name: Option<&str>| {
        let of = |costs: &[Cost], get: fn(&Cost) -> u64| -> u64 {
            costs.iter().filter(|cost| name.is_none_or(|name| cost.name == name)).map(get).sum()
        };
        let time = of(&after, |cost| cost.time) - of(&before, |cost| cost.time);
        let runs = of(&after, |cost| cost.runs) - of(&before, |cost| cost.runs);
        (time as f64, runs as f64)
    };
    let is_ours = after.iter().any(|cost| cost.name == STATE);
    let (time, runs) = spent(is_ours.then_some(STATE));
    let (total, _) = spent(None);
    Ok(Each { state: time / runs, connect: total / done.made as f64 })
}
