//! `cargo xtask soak`: one tracer that runs through everything that can go wrong, for a given time, and others that
//! it goes wrong for.
//!
//! Not among it: a step of the clock, which would be a step for all that runs on the host.

mod faults;
mod log;

use std::{
    collections::BTreeSet,
    fs,
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    process::{ExitCode, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};

use crate::{
    bpf::{loaded, programs_of},
    cargo::{build_tracer, output},
    lab::{Interrupt, Namespace, Process, Tracer, resident, staged},
    load::Done,
};
use log::{Log, Told, Verdict};

/// The port that is watched: below those that the kernel hands out by itself.
const PORT: u16 = 19_786;

/// How long the kernel may take to let go of what nobody holds: it does so in the background.
const PATIENCE: Duration = Duration::from_secs(20);

/// What may go wrong.
type Fault = fn(&mut Soak<'_>) -> Result<String>;

/// What happened to each fault in all rounds.
#[derive(Default)]
struct Tally {
    rounds: u32,
    last: String,
}

/// Runs the faults in rounds until the time is over.
pub fn run(duration: Duration) -> Result<ExitCode> {
    staged("soak", "the soak makes network namespaces and loads kernel programs", |ctrl_c| {
        raise_descriptors()?;
        let mut soak = Soak::begin(build_tracer()?, ctrl_c)?;
        let until = Instant::now() + duration;
        let mut tallies: Vec<Tally> = faults::ALL.iter().map(|_| Tally::default()).collect();
        let mut rounds = Vec::new();
        loop {
            for ((what, fault), tally) in faults::ALL.iter().zip(&mut tallies) {
                tally.last =
                    fault(&mut soak).with_context(|| format!("in round {}: {what}", rounds.len() + 1))?;
                tally.rounds += 1;
                soak.settle().with_context(|| format!("after {what}"))?;
            }
            let state = soak.state()?;
            eprintln!(
                "soak: round {}: {} KiB, {} descriptors, {} made",
                rounds.len() + 1,
                state.memory,
                state.descriptors,
                soak.made
            );
            rounds.push(state);
            if Instant::now() >= until {
                break;
            }
        }
        println!("| fault | rounds | the last time |\n|---|--:|---|");
        for ((what, _), tally) in faults::ALL.iter().zip(&tallies) {
            println!("| {what} | {} | {} |", tally.rounds, tally.last);
        }
        println!("\n{}", soak.end(&rounds)?);
        Ok(ExitCode::SUCCESS)
    })
}

/// The soft limit on descriptors up to the hard one, for what is started here: ten thousand listeners take as many.
fn raise_descriptors() -> Result<()> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit })
        .context("cannot have more descriptors")
}

/// What must not grow.
#[derive(Clone, Copy, Debug)]
struct State {
    /// In KiB.
    memory: u64,
    descriptors: usize,
}

/// The tracer that lives through it all, and the namespace that it happens in.
struct Soak<'a> {
    binary: PathBuf,
    namespace: Namespace,
    tracer: Tracer,
    log: Option<Log>,
    /// Refusals made so far.
    made: u64,
    /// Destinations used so far, each only once, so that none is only counted.
    fresh: u32,
    ctrl_c: &'a Interrupt,
}

impl<'a> Soak<'a> {
    fn begin(binary: PathBuf, ctrl_c: &'a Interrupt) -> Result<Self> {
        let namespace = Namespace::create("soak")?;
        let mut tracer = start(&binary, Stdio::piped(), ctrl_c)?;
        let log = Some(Log::follow(tracer.take_stdout()?));
        Ok(Self { binary, namespace, tracer, log, made: 0, fresh: 0, ctrl_c })
    }

    fn log(&self) -> &Log {
        self.log.as_ref().expect("the log is followed until the end")
    }

    /// Another tracer.
    fn another(&self, stdout: Stdio) -> Result<Tracer> {
        start(&self.binary, stdout, self.ctrl_c)
    }

    /// Has connects refused for so long, from all cores; counts them.
    fn flood(&mut self, duration: Duration) -> Result<u64> {
        self.ctrl_c.look()?;
        let millis = duration.as_millis().to_string();
        let address = local(Ipv4Addr::LOCALHOST);
        let args = ["load", "refused", &address, "--mixed", "--threads", "2", "--millis", &millis];
        let done = Done::read(&output(&mut self.namespace.this(&args)?)?)?;
        self.made += done.made;
        Ok(done.made)
    }

    /// The same while something else goes on; [`Soak::flooded`] waits for its end.
    fn begin_flood(&self, duration: Duration) -> Result<Process> {
        let millis = duration.as_millis().to_string();
        let address = local(Ipv4Addr::LOCALHOST);
        let args = ["load", "refused", &address, "--mixed", "--threads", "2", "--millis", &millis];
        Process::spawn(self.namespace.this(&args)?.stdin(Stdio::null()).stdout(Stdio::piped()))
    }

    fn flooded(&mut self, mut flood: Process) -> Result<u64> {
        let mut stdout = flood.0.stdout.take().context("the load has no stdout")?;
        let mut text = String::new();
        std::io::Read::read_to_string(&mut stdout, &mut text)?;
        let done = Done::read(&text)?;
        self.made += done.made;
        Ok(done.made)
    }

    /// What the tracer says of the refusal of a destination that was never refused before. Its record may be among
    /// those that are lost, after what has just gone on: then of the next one.
    fn verdict(&mut self) -> Result<Verdict> {
        for _ in 0..5 {
            self.fresh += 1;
            let address = Ipv4Addr::from_bits(Ipv4Addr::new(127, 3, 0, 0).to_bits() + self.fresh);
            let args = ["load", "refused", &local(address), "--millis", "0"];
            self.made += Done::read(&output(&mut self.namespace.this(&args)?)?)?.made;
            let wanted = address.to_string();
            let found = self.log().wait(Duration::from_secs(5), self.ctrl_c, |told| {
                told.verdicts
                    .iter()
                    .find(|(address, _)| *address == wanted)
                    .map(|(_, verdict)| verdict.clone())
            })?;
            if let Some(verdict) = found {
                return Ok(verdict);
            }
        }
        bail!("five refusals in a row are not told: {:?}", self.log().told()?)
    }

    /// Waits until the tracer has told of every refusal made so far: as one, or as lost.
    fn settle(&self) -> Result<()> {
        let made = self.made;
        let is_told = |told: &Told| (told.refused + told.lost >= made).then(|| told.clone());
        let Some(told) = self.log().wait(PATIENCE, self.ctrl_c, is_told)? else {
            bail!("not all of {made} refusals are told or counted as lost: {:?}", self.log().told()?)
        };
        // Records of listeners are lost too, so that there can be more lost than refusals were.
        ensure!(told.refused <= made, "{} refusals told, {made} made", told.refused);
        if told.lost == 0 {
            ensure!(told.refused == made, "{} refusals told, {made} made, none lost", told.refused);
        }
        Ok(())
    }

    fn state(&self) -> Result<State> {
        let pid = self.tracer.pid();
        let descriptors = fs::read_dir(format!("/proc/{pid}/fd"))?.count();
        Ok(State { memory: resident(pid)?, descriptors })
    }

    /// Ends the tracer and says how it lived.
    fn end(mut self, rounds: &[State]) -> Result<String> {
        let programs = programs_of(self.tracer.pid())?;
        self.tracer.end(self.ctrl_c)?;
        let told = self.log.take().context("the log is followed until the end")?.end()?;
        ensure!(told.is_stopped, "the log has no `stop`");
        gone(&programs, self.ctrl_c)?;
        let (first, last) = (rounds.first().context("no round")?, rounds.last().context("no round")?);
        ensure!(
            last.descriptors == first.descriptors,
            "from {} descriptors to {}",
            first.descriptors,
            last.descriptors
        );
        let made = self.made;
        ensure!(
            told.refused <= made && told.refused + told.lost >= made,
            "{} told and {} lost of {made} made",
            told.refused,
            told.lost
        );
        let highest = rounds.iter().map(|state| state.memory).max().unwrap_or_default();
        Ok(format!(
            "{made} refusals made, {} told, {} records lost ({} in the ring), {} lines without a gap.\nResident after the \
             first round {} KiB, after the last {} KiB, {highest} KiB at most: {} KiB a round. {} descriptors throughout. \
             Nothing is attached any more.",
            told.refused,
            told.lost,
            told.lost_in_ring,
            told.lines,
            first.memory,
            last.memory,
            (last.memory as f64 - first.memory as f64) / rounds.len() as f64,
            last.descriptors,
        ))
    }
}

fn start(binary: &std::path::Path, stdout: Stdio, ctrl_c: &Interrupt) -> Result<Tracer> {
    let port = PORT.to_string();
    let args = ["--port", &port, "--output", "json", "--heartbeat", "200ms"];
    Tracer::start(binary, args, stdout, false, ctrl_c)
}

fn local(address: Ipv4Addr) -> String {
    SocketAddr::from((address, PORT)).to_string()
}

/// Waits until none of the programs is loaded any more.
fn gone(programs: &BTreeSet<u32>, ctrl_c: &Interrupt) -> Result<()> {
    ensure!(!programs.is_empty(), "the tracer held no program");
    let until = Instant::now() + PATIENCE;
    loop {
        let left: Vec<_> = loaded().into_iter().filter(|(id, _)| programs.contains(id)).collect();
        if left.is_empty() {
            return Ok(());
        }
        if Instant::now() > until {
            bail!("still loaded: {left:?}");
        }
        ctrl_c.sleep(Duration::from_millis(50))?;
    }
}
