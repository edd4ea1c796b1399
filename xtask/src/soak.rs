//! `cargo xtask soak`: one tracer that runs through everything that can go wrong, for a given time, and others that
//! it goes wrong for.
//!
//! Not among it: a step of the clock, which would be a step for all that runs on the host. The emulated machines bear it
//! (`faults::a_step_of_the_clock`, in tests/live).

mod faults;
mod log;
mod port;
mod witness;

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    process::{ExitCode, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};

use crate::{
    bpf::{Held, costs_of},
    cargo::{build_tracer, output},
    lab::{Interrupt, Namespace, Process, Tracer, resident, staged},
    load::Done,
};
use log::{Log, Told, Verdict};
use port::Port;
use witness::Witness;

/// How long the kernel may take to let go of what nobody holds: it does so in the background.
const PATIENCE: Duration = Duration::from_secs(20);

/// Rounds after which the tables are full: each names a thousand namespaces, of which four thousand are remembered.
const WARM_UP: usize = 4;

/// The least rounds that can be held against each other.
const ROUNDS: usize = WARM_UP + 2;

/// By how much, in KiB, the resident memory may differ without a reason: what a batch of events takes or not, and pages
/// that are partly used. A byte a refusal would be as much in two rounds.
const MARGIN: u64 = 1_024;

/// So many signs of life without news say that the ring is empty: a second's.
const CALM: u64 = 5;

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
            let round = rounds.len() + 1;
            let mut peak = 0;
            for ((what, fault), tally) in faults::ALL.iter().zip(&mut tallies) {
                tally.last = soak.bear(*fault).with_context(|| format!("in round {round}: {what}"))?;
                tally.rounds += 1;
                peak = peak.max(soak.memory()?);
            }
            let state = soak.state(peak)?;
            let State { memory, descriptors, .. } = state;
            eprintln!(
                "soak: round {round}: {memory} KiB, {peak} at most, {descriptors} descriptors, {} made",
                soak.made
            );
            rounds.push(state);
            if rounds.len() >= ROUNDS && Instant::now() >= until {
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

/// What must not grow, as it is at the end of a round.
#[derive(Clone, Copy, Debug)]
struct State {
    /// In KiB.
    memory: u64,
    /// The most after one of the round's faults.
    peak: u64,
    descriptors: usize,
}

/// Holds the rounds against each other: in the first quarter of them, and [`WARM_UP`] at least, every table has met its bound.
fn check_growth(rounds: &[State]) -> Result<()> {
    let (early, late) = rounds.split_at((rounds.len() / 4).max(WARM_UP));
    let highest = |values: &mut dyn Iterator<Item = u64>| values.max().unwrap_or_default();
    let memory = |states: &[State]| highest(&mut states.iter().map(|state| state.memory));
    let peak = |states: &[State]| highest(&mut states.iter().map(|state| state.peak));
    for (when, before, after) in
        [("at the end of a round", memory(early), memory(late)), ("at most", peak(early), peak(late))]
    {
        ensure!(after <= before + MARGIN, "resident {when}: from {before} KiB to {after} KiB: {rounds:?}");
    }
    let descriptors = rounds.first().map(|state| state.descriptors);
    ensure!(
        rounds.iter().all(|state| Some(state.descriptors) == descriptors),
        "not as many descriptors after each round: {rounds:?}"
    );
    Ok(())
}

/// The tracer that lives through it all, and the namespace that it happens in.
struct Soak<'a> {
    binary: PathBuf,
    namespace: Namespace,
    port: Port,
    witness: Witness,
    tracer: Tracer,
    log: Option<Log>,
    /// Refusals made so far.
    made: u64,
    /// Other records of the soak's own that were made while the ring was full.
    own: u64,
    /// Records of the rest of the host that may be among those lost.
    others: u64,
    /// Destinations used so far, each only once, so that none is only counted.
    fresh: u32,
    ctrl_c: &'a Interrupt,
}

/// Of some refusals, how many are neither told nor counted as lost one by one; the last, how many more are lost than
/// can be accounted for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Gap {
    unaccounted: u64,
    excess: u64,
}

impl Gap {
    fn of(made: u64, told: &Told) -> Self {
        let accounted = told.accounted();
        Self { unaccounted: made.saturating_sub(accounted), excess: accounted.saturating_sub(made) }
    }

    /// The one equation that nothing excuses: refusals made, and other records known to be lost, are those told and those
    /// counted as lost, but for what nesting has cost, `nested` at most, and for what `others` of the host have lost in
    /// a ring that was full.
    fn check(self, nested: u64, others: u64, told: &Told) -> Result<()> {
        ensure!(self.unaccounted <= nested, "{self:?}, at most {nested} to nesting: {told:?}");
        ensure!(self.excess <= others, "{self:?}, at most {others} records of others: {told:?}");
        Ok(())
    }
}

impl<'a> Soak<'a> {
    fn begin(binary: PathBuf, ctrl_c: &'a Interrupt) -> Result<Self> {
        let namespace = Namespace::create("soak")?;
        let port = Port::take()?;
        let witness = Witness::begin()?;
        let mut tracer = start(&binary, &port, Stdio::piped(), ctrl_c)?;
        let log = Some(Log::follow(tracer.take_stdout()?));
        Ok(Self {
            binary,
            namespace,
            port,
            witness,
            tracer,
            log,
            made: 0,
            own: 0,
            others: 0,
            fresh: 0,
            ctrl_c,
        })
    }

    /// Lets something go wrong, and waits until the tracer has told of all that it made.
    fn bear(&mut self, fault: Fault) -> Result<String> {
        let pid = self.tracer.pid();
        let (lost, before) = (self.log().told()?.lost_in("ring"), self.witness.before(pid)?);
        let said = fault(self)?;
        if self.calm()?.lost_in("ring") > lost {
            self.others += self.witness.others(pid, &before)?;
        }
        self.settle()?;
        Ok(said)
    }

    fn log(&self) -> &Log {
        self.log.as_ref().expect("the log is followed until the end")
    }

    /// Another tracer.
    fn another(&self, stdout: Stdio) -> Result<Tracer> {
        start(&self.binary, &self.port, stdout, self.ctrl_c)
    }

    /// Has connects refused for so long, from all cores; counts them.
    fn flood(&mut self, duration: Duration) -> Result<u64> {
        self.flood_with(duration, 1)
    }

    /// The same, with so many at least from each core: on a busy host time alone does not fill a ring.
    fn flood_with(&mut self, duration: Duration, least: u64) -> Result<u64> {
        self.ctrl_c.look()?;
        let (millis, least) = (duration.as_millis().to_string(), least.to_string());
        let address = self.local(Ipv4Addr::LOCALHOST);
        let args = [
            "load",
            "refused",
            &address,
            "--mixed",
            "--threads",
            "2",
            "--millis",
            &millis,
            "--least",
            &least,
        ];
        let done = Done::read(&output(&mut self.namespace.this(&args)?)?)?;
        self.made += done.made;
        Ok(done.made)
    }

    /// The same while something else goes on; [`Soak::flooded`] waits for its end.
    fn begin_flood(&self, duration: Duration) -> Result<Process> {
        let millis = duration.as_millis().to_string();
        let address = self.local(Ipv4Addr::LOCALHOST);
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
            let args = ["load", "refused", &self.local(address), "--millis", "0"];
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

    /// Waits until the tracer has taken all that is in its ring: it has told of every refusal, or has nothing more to
    /// tell.
    fn calm(&self) -> Result<Told> {
        let made = self.made + self.own;
        let mut last: Option<(u64, u64)> = None;
        let is_calm = |told: &Told| {
            let (accounted, alive) = (told.accounted(), told.alive);
            let since = match last {
                Some((same, since)) if same == accounted => since,
                Some(_) | None => last.insert((accounted, alive)).1,
            };
            (accounted == made || alive > since + CALM).then(|| told.clone())
        };
        let calm = self.log().wait(PATIENCE, self.ctrl_c, is_calm)?;
        calm.with_context(|| format!("it goes on telling: {:?}", self.log().told()))
    }

    /// Waits until the tracer has told so much.
    fn wait(&self, what: &str, is_told: impl Fn(&Told) -> bool) -> Result<()> {
        let told = self.log().wait(PATIENCE, self.ctrl_c, |told| is_told(told).then_some(()))?;
        told.with_context(|| format!("waited in vain for {what}: {:?}", self.log().told()))
    }

    /// Holds what the tracer has told so far against what was made.
    fn settle(&self) -> Result<()> {
        let told = self.calm()?;
        ensure!(told.refused <= self.made, "{} refusals told, {} made", told.refused, self.made);
        // What will be reported at the end is bounded by this.
        let skipped = costs_of(self.tracer.pid())?.iter().map(|cost| cost.skipped).sum();
        Gap::of(self.made + self.own, &told).check(skipped, self.others, &told)
    }

    fn local(&self, address: Ipv4Addr) -> String {
        SocketAddr::from((address, self.port.number)).to_string()
    }

    fn memory(&self) -> Result<u64> {
        resident(self.tracer.pid())
    }

    fn state(&self, peak: u64) -> Result<State> {
        let descriptors = fs::read_dir(format!("/proc/{}/fd", self.tracer.pid()))?.count();
        Ok(State { memory: self.memory()?, peak, descriptors })
    }

    /// Ends the tracer and says how it lived.
    fn end(mut self, rounds: &[State]) -> Result<String> {
        let held = Held::by(self.tracer.pid())?;
        self.tracer.end(self.ctrl_c)?;
        let told = self.log.take().context("the log is followed until the end")?.end()?;
        ensure!(told.is_stopped, "the log has no `stop`");
        gone(&held, self.ctrl_c)?;
        let (first, last) = (rounds.first().context("no round")?, rounds.last().context("no round")?);
        check_growth(rounds)?;
        let (made, own, others) = (self.made, self.own, self.others);
        ensure!(told.refused <= made, "{} refusals told, {made} made", told.refused);
        let gap = Gap::of(made + own, &told);
        gap.check(told.lost_in("recursion"), others, &told)?;
        let highest = rounds.iter().map(|state| state.peak).max().unwrap_or_default();
        Ok(format!(
            "{made} refusals made, {} told; {} records lost in the ring, {own} of them the soak's own of other kinds, up to \
             {others} of the rest of the host; {} refusals unaccounted for, at most {} to nesting as reported.\n{} lines \
             without a gap. Resident after the first round {} KiB, after the last {} KiB, {highest} KiB at most. {} \
             descriptors throughout. Nothing is attached any more.",
            told.refused,
            told.lost_in("ring"),
            gap.unaccounted,
            told.lost_in("recursion"),
            told.lines,
            first.memory,
            last.memory,
            last.descriptors,
        ))
    }
}

fn start(binary: &std::path::Path, port: &Port, stdout: Stdio, ctrl_c: &Interrupt) -> Result<Tracer> {
    let port = port.number.to_string();
    let args = ["--port", &port, "--output", "json", "--heartbeat", "200ms"];
    Tracer::start(binary, args, stdout, false, ctrl_c)
}

/// Waits until nothing of what a tracer held is there any more: programs, maps, links.
fn gone(held: &Held, ctrl_c: &Interrupt) -> Result<()> {
    ensure!(!held.programs.is_empty() && !held.maps.is_empty() && !held.links.is_empty(), "it held {held:?}");
    let until = Instant::now() + PATIENCE;
    loop {
        let left = held.left();
        if left.is_empty() {
            return Ok(());
        }
        if Instant::now() > until {
            bail!("still there: {left:?}");
        }
        ctrl_c.sleep(Duration::from_millis(50))?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rounds(peaks: &[u64], descriptors: &[usize]) -> Vec<State> {
        let state = |(&peak, &descriptors): (&u64, &usize)| State { memory: peak - 500, peak, descriptors };
        peaks.iter().zip(descriptors).map(state).collect()
    }

    #[test]
    fn what_grows_is_found() {
        let flat = [11_000, 17_000, 17_100, 16_900, 17_900, 16_000, 17_500, 17_200];
        assert!(check_growth(&rounds(&flat, &[40; 8])).is_ok());
        let steps = [11_000, 17_000, 17_000, 17_000, 17_000, 18_100, 18_100, 18_100];
        assert!(check_growth(&rounds(&steps, &[40; 8])).is_err());
        assert!(check_growth(&rounds(&flat, &[40, 40, 40, 40, 40, 40, 40, 41])).is_err());
    }
}
