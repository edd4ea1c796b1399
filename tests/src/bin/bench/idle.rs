//! What the tracer takes when nothing happens, and on disk.

use std::{fs, process::Stdio, time::Duration};

use anyhow::{Context, Result};
use tests::interrupt;

use super::{
    Bench,
    report::{Goal, Row, Unit},
    row,
};

const GROUP: &str = "Idle, and on disk";

pub fn measure(bench: &Bench) -> Result<Vec<Row>> {
    let duration = bench.of(Duration::from_secs(20), Duration::from_secs(2));
    let (tracer, _) = bench.trace(&[], Stdio::null());
    // What it does after `ready`, such as another scan, is not idling.
    interrupt::sleep(Duration::from_secs(1));
    let before = Taken::by(tracer.pid())?;
    interrupt::sleep(duration);
    let after = Taken::by(tracer.pid())?;
    tracer.stop();
    let seconds = duration.as_secs();
    let size = fs::metadata(&bench.tracer).context("cannot read the binary's size")?.len();
    Ok(vec![
        row(
            GROUP,
            &format!("wake-ups in {seconds} s"),
            Unit::Count,
            vec![(after.wakeups - before.wakeups) as f64],
        )
        .goal("none", Goal::AtMost(0.0)),
        row(
            GROUP,
            &format!("CPU time in {seconds} s"),
            Unit::Nanoseconds,
            vec![(after.cpu - before.cpu) as f64],
        ),
        row(GROUP, "the binary", Unit::Kibibytes, vec![size as f64 / 1024.0]),
    ])
}

/// What all threads of a process have taken so far.
pub struct Taken {
    /// Times that one went to sleep by itself: once for each time that it was woken.
    wakeups: u64,
    /// In nanoseconds.
    pub cpu: u64,
}

impl Taken {
    pub fn by(process: u32) -> Result<Self> {
        let directory = format!("/proc/{process}/task");
        let mut taken = Self { wakeups: 0, cpu: 0 };
        for thread in fs::read_dir(&directory).with_context(|| format!("cannot read `{directory}`"))? {
            let thread = thread?.path();
            let read = |name: &str| {
                let path = thread.join(name);
                fs::read_to_string(&path).with_context(|| format!("cannot read `{}`", path.display()))
            };
            let status = read("status")?;
            let switches = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
            taken.wakeups += switches.context("no `voluntary_ctxt_switches`")?.trim().parse::<u64>()?;
            // Time on the CPU, time in the queue, times on the CPU (Documentation/scheduler/sched-stats.rst).
            let times = read("schedstat")?;
            taken.cpu += times.split(' ').next().context("an empty `schedstat`")?.parse::<u64>()?;
        }
        Ok(taken)
    }
}
