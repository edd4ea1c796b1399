//! The benchmark, which `cargo xtask bench` starts: what tracer costs, beside what others cost, in one run.
//!
//! All traffic is on the loopback of a network namespace that the run makes. What is compared is measured in turns,
//! so that what disturbs the host disturbs both sides.

mod compare;
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
    env, fs,
    net::{Ipv4Addr, SocketAddr},
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Command, ExitCode, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, bail};
use clap::{Parser, ValueEnum};
use rustix::{process::nice, system::uname, thread::sched_getaffinity};
use tests::{
    actor,
    bpf::loaded,
    interrupt,
    load::{Done, Load},
    netns::Netns,
    port::Port,
    process::{Actor, ProcessSpec},
    tracer::Running,
};

use report::{Measured, Row, Unit};
use stats::Sample;

/// The priority before which there is none.
const FIRST: i32 = -20;

/// Where the table is kept, and the line behind which a person writes.
const TABLE: &str = "docs/benchmarks.md";
const END_OF_TABLE: &str = "<!-- The command keeps what stands below. -->";

/// A part of the benchmark.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Part {
    Kernel,
    Traffic,
    Latency,
    Flood,
    Start,
    Idle,
    /// This build beside another, which `--before` names.
    Compare,
    /// What this kernel refuses, on one that does not: nothing where it refuses nothing.
    Emulated,
}

/// Measure what tracer costs, and write docs/benchmarks.md and target/bench.json
#[derive(Parser)]
#[command(name = "cargo xtask bench", bin_name = "cargo xtask bench")]
struct Options {
    /// Less than a minute, to see that it works: writes target/bench.json alone
    #[arg(long)]
    quick: bool,
    /// Only these parts: writes target/bench.json alone
    parts: Vec<Part>,
    /// Print the JSON, and write nothing
    #[arg(long, hide = true)]
    json: bool,
    /// The tracer to measure
    #[arg(long, hide = true, value_name = "PATH")]
    tracer: PathBuf,
    /// The tracer to compare with: another build's binary
    #[arg(long, value_name = "PATH")]
    before: Option<PathBuf>,
    /// What an emulated kernel that takes fexit programs measured of traffic
    #[arg(long, hide = true, value_name = "PATH")]
    emulated: Option<PathBuf>,
    /// Print whether this kernel takes fexit programs, and nothing else
    #[arg(long, hide = true)]
    takes_fexit: bool,
}

impl Part {
    fn measure(self, bench: &Bench) -> Result<Vec<Row>> {
        match self {
            Self::Kernel => kernel::measure(bench),
            Self::Traffic => traffic::measure(bench),
            Self::Latency => latency::measure(bench),
            Self::Flood => flood::measure(bench),
            Self::Start => start::measure(bench),
            Self::Idle => idle::measure(bench),
            // Without `--before`, a run of every part leaves it out.
            Self::Compare => {
                bench.before.as_deref().map_or(Ok(vec![]), |before| compare::measure(bench, before))
            }
            Self::Emulated => emulated::measure(bench),
        }
    }
}

fn main() -> ExitCode {
    let mut arguments = env::args_os().skip(1);
    if arguments.next().is_some_and(|first| first == "actor") {
        return actor::main(arguments);
    }
    let options = Options::parse();
    interrupt::run("bench", || run(options))
}

/// Measures everything, or the parts asked for, and writes it down.
fn run(options: Options) -> Result<()> {
    let Options { quick, parts, json, tracer, before, emulated, takes_fexit } = options;
    let bench = Bench {
        tracer,
        before,
        emulated,
        netns: Netns::with_loopback(),
        watched: Port::take(),
        unwatched: Port::take(),
        quick,
    };
    if parts.contains(&Part::Compare) && bench.before.is_none() {
        bail!("`compare` compares with another build: `--before PATH` names it");
    }
    if takes_fexit {
        println!("{}", traffic::hooks_by_fexit(&bench)?);
        return Ok(());
    }
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
        return Ok(());
    }
    write(&machine, &rows, !quick && parts.is_empty())
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

/// A run of the benchmark: the tracer to measure, the namespace, the ports.
struct Bench {
    tracer: PathBuf,
    before: Option<PathBuf>,
    emulated: Option<PathBuf>,
    netns: Netns,
    /// A port that tracer watches, and one that it does not.
    watched: Port,
    unwatched: Port,
    quick: bool,
}

impl Bench {
    /// How often something is repeated, or how long it takes.
    fn of<T>(&self, full: T, quick: T) -> T {
        if self.quick { quick } else { full }
    }

    /// Starts tracer on the watched port, and waits until it is ready; returns how long that took.
    fn trace(&self, more: &[&str], stdout: Stdio) -> (Running, Duration) {
        self.trace_with(&self.tracer, more, stdout)
    }

    /// The same with another build.
    fn trace_with(&self, tracer: &Path, more: &[&str], stdout: Stdio) -> (Running, Duration) {
        let mut command = Command::new(tracer);
        command.args(["trace", "--port", &self.watched.number.to_string(), "--output", "json"]).args(more);
        command.process_group(0);
        let mut tracer = Running::spawn_with(command, stdout);
        let ready_after = tracer.wait_ready();
        (tracer, ready_after)
    }

    /// A process in the namespace.
    fn actor(&self) -> Actor {
        Actor::start(&self.netns.place(), &ProcessSpec::named("tracer-load"))
    }

    /// Puts the kernel under load, by a process of its own.
    fn load(&self, load: Load) -> Done {
        self.actor().load(load)
    }

    fn watched(&self) -> SocketAddr {
        local(&self.watched)
    }

    fn unwatched(&self) -> SocketAddr {
        local(&self.unwatched)
    }
}

/// An address on loopback.
fn local(port: &Port) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port.number))
}

/// The directory of the workspace.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("a folder of the workspace").to_owned()
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
