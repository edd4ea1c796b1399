//! What connects and system calls take with the tracer and without.

use std::{process::Stdio, time::Duration};

use anyhow::{Context, Result};
use tests::{
    bpf::costs_of,
    load::{Done, Load, Refused},
};

use super::{
    Bench,
    report::{Goal, Measured, Row, Unit},
    row, shown,
    stats::ratios,
};

const GROUP: &str = "Traffic and system calls, with the tracer and without";

/// The loads that are compared.
pub const LOADS: [Kind; 4] = [Kind::Getppid, Kind::Accepted, Kind::RefusedElsewhere, Kind::Refused];

/// How the tracer follows binds, if it runs.
const SETTINGS: [Setting; 4] =
    [Setting::Bare, Setting::Traced("fexit"), Setting::Traced("tracepoint"), Setting::Traced("none")];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Getppid,
    Accepted,
    RefusedElsewhere,
    /// Last, for the tracer may go on with it a little longer.
    Refused,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Setting {
    Bare,
    Traced(&'static str),
}

impl Kind {
    pub fn what(self) -> &'static str {
        match self {
            Self::Getppid => "getppid() calls",
            Self::Accepted => "connects answered on another port",
            Self::RefusedElsewhere => "connects refused on another port",
            Self::Refused => "connects refused on the watched port",
        }
    }

    pub fn take(self, bench: &Bench) -> Done {
        let duration = bench.of(Duration::from_millis(250), Duration::from_millis(80));
        bench.load(match self {
            Self::Getppid => Load::Getppid { duration },
            Self::Accepted => Load::Accepted { address: bench.unwatched(), duration },
            Self::RefusedElsewhere => Load::Refused(Refused::at(bench.unwatched(), duration)),
            Self::Refused => Load::Refused(Refused::at(bench.watched(), duration)),
        })
    }
}

pub fn measure(bench: &Bench) -> Result<Vec<Row>> {
    let has_fexit = hooks_by_fexit(bench)?;
    let settings: Vec<Setting> =
        SETTINGS.into_iter().filter(|setting| has_fexit || *setting != Setting::Traced("fexit")).collect();
    let mut turns: Vec<Vec<[Done; LOADS.len()]>> = Vec::new();
    for turn in 0..bench.of(15, 2) {
        // Back and forth, so that what changes slowly cancels out.
        let mut order: Vec<usize> = (0..settings.len()).collect();
        if turn % 2 == 1 {
            order.reverse();
        }
        let mut taken = vec![None; settings.len()];
        for index in order {
            let _tracer = match settings[index] {
                Setting::Bare => None,
                Setting::Traced(hook) => Some(bench.trace(&["--bind-hook", hook], Stdio::null())),
            };
            let mut done = Vec::new();
            for kind in LOADS {
                done.push(kind.take(bench));
            }
            taken[index] = <[Done; LOADS.len()]>::try_from(done).ok();
        }
        turns.push(taken.into_iter().collect::<Option<_>>().context("a turn is incomplete")?);
    }
    let mut rows = Vec::new();
    for (at, kind) in LOADS.into_iter().enumerate() {
        for setting in SETTINGS {
            let title = match setting {
                Setting::Bare => format!("{}, no tracer", kind.what()),
                Setting::Traced("none") => format!("{}, tracer, binds not followed", kind.what()),
                Setting::Traced(hook) => format!("{}, tracer, binds by {hook}", kind.what()),
            };
            let Some(place) = settings.iter().position(|other| *other == setting) else {
                let reason = "this kernel refuses fexit programs: see below for one that does not".to_owned();
                rows.push(aimed(kind, setting, Row::new(GROUP, title, Measured::Not(reason)), None));
                continue;
            };
            let rates = turns.iter().map(|turn| turn[place][at].rate()).collect();
            let made = row(GROUP, &title, Unit::PerSecond, rates);
            if setting == Setting::Bare {
                rows.push(made);
                continue;
            }
            let pairs = |value: fn(&Done) -> f64| -> Vec<(f64, f64)> {
                turns.iter().map(|turn| (value(&turn[0][at]), value(&turn[place][at]))).collect()
            };
            let ratio = ratios(&pairs(Done::rate)).context("no turn was taken")?;
            let cpu = ratios(&pairs(Done::cpu_each)).context("no turn was taken")?;
            let note = format!("{} of the bare rate; CPU time each: {} times", shown(&ratio), shown(&cpu));
            rows.push(aimed(kind, setting, made, Some(ratio.median())).note(note));
        }
    }
    Ok(rows)
}

/// The row with its goal, if it has one. What follows no binds does to these loads what fexit does: none of
/// them calls bind().
fn aimed(kind: Kind, setting: Setting, row: Row, ratio: Option<f64>) -> Row {
    match (kind, setting) {
        (_, Setting::Bare) => row,
        (Kind::Refused, Setting::Traced(_)) => {
            row.goal_for("at least 97 % of the bare rate", Goal::AtLeast(0.97), ratio)
        }
        (_, Setting::Traced("tracepoint")) => row,
        (_, Setting::Traced(_)) => row.goal_for("within 1 % of the bare rate", Goal::AtLeast(0.99), ratio),
    }
}

/// Whether this kernel takes fexit programs.
pub fn hooks_by_fexit(bench: &Bench) -> Result<bool> {
    let (tracer, _) = bench.trace(&["--bind-hook", "fexit"], Stdio::null());
    Ok(costs_of(tracer.pid())?.iter().any(|cost| cost.name.starts_with("bind_v4")))
}
