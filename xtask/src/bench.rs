//! `cargo xtask bench`: what tracer costs, beside what others cost, in one run.
//!
//! All traffic is on the loopback of a network namespace that the run makes. What is compared is measured in turns,
//! so that what disturbs the host disturbs both sides.

mod emulated;
mod flood;
mod idle;
mod kernel;
mod latency;
mod peers;
mod report;
mod start;
mod stats;
mod traffic;

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    process::{ExitCode, Stdio},
    time::Duration,
};

use anyhow::{Context, Result};
use clap::ValueEnum;
use rustix::{process::nice, system::uname, thread::sched_getaffinity};

use crate::{
    bpf::loaded,
    cargo::{build_tracer, output, root},
    lab::{Interrupt, Namespace, Tracer, staged},
    load::Done,
};
use report::{Measured, Row, Unit};
use stats::Sample;

/// A port that tracer watches, and one that it does not: below those that the kernel hands out by itself.
const WATCHED: u16 = 19_787;
const UNWATCHED: u16 = 19_788;

/// The priority before which there is none.
const FIRST: i32 = -20;

/// Where the table is kept, and the line behind which a person writes.
const TABLE: &str = "docs/benchmarks.md";
const END_OF_TABLE: &str = "<!-- The command keeps what stands below. -->";

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Part {
    Kernel,
    Traffic,
    Latency,
    Flood,
    Start,
    Idle,
    /// What this kernel refuses, on one that does not: nothing where it refuses nothing.
    Emulated,
}

/// What is measured, and where that is written.
#[derive(clap::Args)]
pub struct Options {
    /// Less than a minute, to see that it works: writes target/bench.json alone
    #[arg(long)]
    quick: bool,
    /// Only these parts: writes target/bench.json alone
    parts: Vec<Part>,
    /// Print the JSON, and write nothing
    #[arg(long, hide = true)]
    json: bool,
    /// Measure this binary, instead of building one
    #[arg(long, hide = true, value_name = "PATH")]
    tracer: Option<PathBuf>,
}

impl Part {
    fn measure(self, bench: &Bench<'_>) -> Result<Vec<Row>> {
        match self {
            Self::Kernel => kernel::measure(bench),
            Self::Traffic => traffic::measure(bench),
            Self::Latency => latency::measure(bench),
            Self::Flood => flood::measure(bench),
            Self::Start => start::measure(bench),
            Self::Idle => idle::measure(bench),
            Self::Emulated => emulated::measure(bench),
        }
    }
}

/// Measures everything, or the parts asked for, and writes it down.
pub fn run(options: Options) -> Result<ExitCode> {
    let Options { quick, parts, json, tracer } = options;
    staged("bench", "the benchmark makes network namespaces and loads kernel programs", |ctrl_c| {
        let tracer = tracer.map_or_else(build_tracer, Ok)?;
        let bench = Bench { tracer, namespace: Namespace::create("bench")?, quick, ctrl_c };
        let _first = First::be()?;
        let before = load_average();
        let others = loaded().len();
        let all = Part::value_variants();
        let mut rows = Vec::new();
        for part in if parts.is_empty() { all } else { &parts } {
            eprintln!("bench: {part:?}");
            rows.extend(part.measure(&bench).with_context(|| format!("cannot measure {part:?}"))?);
        }
        let mut machine = machine();
        machine.push((
            "load average when it began, and when it ended".to_owned(),
            format!("{before}; {}", load_average()),
        ));
        machine.push(("priority".to_owned(), format!("nice {FIRST}")));
        machine.push(("other eBPF programs loaded when it began".to_owned(), others.to_string()));
        machine.push(("run".to_owned(), if quick { "quick" } else { "full" }.to_owned()));
        if json {
            println!("{}", report::json(&machine, &rows));
        } else {
            write(&machine, &rows, !quick && parts.is_empty())?;
        }
        Ok(ExitCode::SUCCESS)
    })
}

/// What else runs on the host waits, as far as the scheduler lets it: until this is dropped, or this process ends.
struct First {
    /// What the session's group of tasks had before (sched(7)); none where the kernel makes no such groups.
    group: Option<String>,
}

impl First {
    const GROUP: &str = "/proc/self/autogroup";

    fn be() -> Result<Self> {
        nice(FIRST).context("cannot go before other processes")?;
        let group = fs::read_to_string(Self::GROUP).ok();
        let group = group.and_then(|text| Some(text.trim().rsplit_once("nice ")?.1.to_owned()));
        if group.is_some() {
            fs::write(Self::GROUP, FIRST.to_string()).context("cannot go before other sessions")?;
        }
        Ok(Self { group })
    }
}

impl Drop for First {
    fn drop(&mut self) {
        if let Some(before) = &self.group
            && let Err(error) = fs::write(Self::GROUP, before)
        {
            eprintln!("bench: cannot give the session its priority back: {error}");
        }
    }
}

/// One run.
struct Bench<'a> {
    tracer: PathBuf,
    namespace: Namespace,
    quick: bool,
    ctrl_c: &'a Interrupt,
}

impl Bench<'_> {
    /// How often something is repeated, or how long it takes.
    fn of<T>(&self, full: T, quick: T) -> T {
        if self.quick { quick } else { full }
    }

    /// Starts tracer on the watched port.
    fn trace(&self, more: &[&str], stdout: Stdio) -> Result<Tracer> {
        let port = WATCHED.to_string();
        let args = ["--port", &port, "--output", "json"].into_iter().chain(more.iter().copied());
        Tracer::start(&self.tracer, args, stdout, false, self.ctrl_c)
    }

    /// Has a load run for so long in the namespace.
    fn load(&self, kind: &[&str], duration: Duration) -> Result<Done> {
        self.ctrl_c.look()?;
        let millis = duration.as_millis().to_string();
        let mut args = vec!["load"];
        args.extend(kind);
        args.extend(["--millis", &millis]);
        Done::read(&output(&mut self.namespace.this(&args)?)?)
    }
}

/// An address on loopback.
fn local(port: u16) -> String {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port)).to_string()
}

/// A row of measurements.
fn row(group: &'static str, what: &str, unit: Unit, values: Vec<f64>) -> Row {
    let measured = Sample::new(values).map_or_else(
        || Measured::Not("nothing came out".to_owned()),
        |sample| Measured::Values(unit, sample),
    );
    Row::new(group, what, measured)
}

/// A ratio with its spread.
fn shown(ratios: &Sample) -> String {
    format!("{:.3} ({:.3} to {:.3})", ratios.median(), ratios.min(), ratios.max())
}

/// What it ran on, without the names of machines.
fn machine() -> Vec<(String, String)> {
    let uname = uname();
    let read = |path: &str, name: &str| -> Option<String> {
        let text = fs::read_to_string(path).ok()?;
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.split_once(':'))?.1;
        Some(line.trim().to_owned())
    };
    let cores = sched_getaffinity(None).map_or(0, |set| set.count());
    let text = |text: Option<String>| text.unwrap_or_else(|| "unknown".to_owned());
    vec![
        (
            "kernel".to_owned(),
            format!("{} {}", uname.release().to_string_lossy(), uname.machine().to_string_lossy()),
        ),
        ("processor".to_owned(), format!("{}, {cores} cores", text(read("/proc/cpuinfo", "model name")))),
        ("memory".to_owned(), text(read("/proc/meminfo", "MemTotal"))),
    ]
}

fn load_average() -> String {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').take(3).collect::<Vec<_>>().join(" ")
}

/// Writes the JSON and, after a whole run, the table; shows the table either way.
fn write(machine: &[(String, String)], rows: &[Row], is_whole: bool) -> Result<()> {
    let table = report::markdown(machine, rows);
    println!("{table}");
    let json = root().join("target/bench.json");
    fs::write(&json, serde_json::to_string_pretty(&report::json(machine, rows))?)
        .with_context(|| format!("cannot write `{}`", json.display()))?;
    if !is_whole {
        return Ok(());
    }
    let path = root().join(TABLE);
    let below = fs::read_to_string(&path).unwrap_or_default();
    let below = below.split_once(END_OF_TABLE).map_or("\n", |(_, below)| below);
    let head = "# Benchmarks\n\nMade by `cargo xtask bench`, in one run.\n";
    fs::write(&path, format!("{head}\n{table}\n{END_OF_TABLE}{below}"))
        .with_context(|| format!("cannot write `{}`", path.display()))
}
