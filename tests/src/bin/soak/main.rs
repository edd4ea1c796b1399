//! The soak, which `cargo xtask soak` starts: one tracer that runs through all faults, round after round, and others
//! that end by them.
//!
//! A step of the clock is not among them, for it would be one for all that runs on the host: the live test
//! `faults::a_step_of_the_clock` makes it on emulated machines.

mod counter;
mod faults;
mod log;

use std::{
    env, fs,
    net::{Ipv4Addr, SocketAddr},
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Command, ExitCode, Stdio},
    time::{Duration, Instant},
};

use ::tests::{
    actor,
    bpf::{Held, costs_of, resident},
    histories::{
        player,
        run::{self as histories, Options as Histories},
    },
    interrupt,
    load::{Load, Refused},
    netns::Netns,
    port::Port,
    process::{Actor, ProcessSpec},
    tracer::Running,
};
use anyhow::{Context, Result, bail, ensure};
use clap::Parser;
use tracer::output::schema::{LostWhere, Verdict};

use counter::Counter;
use log::{Log, Totals};

/// How long the kernel may take to release what no process holds: it does so in the background.
const PATIENCE: Duration = Duration::from_secs(20);

/// Rounds after which the tables are full: each names a thousand namespaces, of which four thousand are remembered.
const WARM_UP: usize = 4;

/// The least rounds that can be held against each other.
const ROUNDS: usize = WARM_UP + 2;

/// By how much, in KiB, the resident memory may differ without a reason: what a batch of events takes or not, and pages
/// that are partly used. A byte a refusal would be as much in two rounds.
const MARGIN: u64 = 1_024;

/// So many `alive` lines without a new refusal mean that the ring is empty: those of a second.
const CALM: u64 = 5;

/// A fault: makes it once, and reports it in a sentence.
type Fault = fn(&mut Soak) -> Result<String>;

/// What happened to each fault in all rounds.
#[derive(Default)]
struct Tally {
    rounds: u32,
    last: String,
}

/// Run one tracer through all faults, round after round, and check what it reports and holds
#[derive(Parser)]
#[command(name = "cargo xtask soak", bin_name = "cargo xtask soak")]
struct Options {
    /// How long: 90, 90s, 5m or 1h; at least six rounds, which take some five minutes
    #[arg(long = "for", value_name = "DURATION", value_parser = parse_duration, required_unless_present = "histories")]
    duration: Option<Duration>,
    /// Run so many random histories and compare each certain verdict with what happened
    #[arg(long, value_name = "COUNT")]
    histories: Option<usize>,
    /// The seed of the first history; each of the others has the next number
    #[arg(long, value_name = "NUMBER", default_value_t = 1)]
    seed: u64,
    /// The tracer to run
    #[arg(long, hide = true, value_name = "PATH")]
    tracer: PathBuf,
}

/// A number with a unit, or of seconds.
fn parse_duration(text: &str) -> Result<Duration, String> {
    let (number, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()));
    let seconds = match unit {
        "" | "s" => 1,
        "m" => 60,
        "h" => 3_600,
        _ => return Err("a duration is like 90, 90s, 5m or 1h".to_owned()),
    };
    let number: u64 = number.parse().map_err(|_| "a duration begins with a number".to_owned())?;
    Ok(Duration::from_secs(number * seconds))
}

fn main() -> ExitCode {
    let mut arguments = env::args_os().skip(1);
    match arguments.next() {
        Some(first) if first == "actor" => return actor::main(arguments),
        Some(first) if first == player::WORD => return player::main(arguments),
        _ => {}
    }
    let Options { duration, histories, seed, tracer } = Options::parse();
    interrupt::run("soak", || {
        if let Some(count) = histories {
            check_histories(count, seed, &tracer)?;
        }
        duration.map_or(Ok(()), |duration| run(duration, tracer))
    })
}

/// Histories whose wrong verdicts are made smaller.
const SHRUNK: usize = 8;

/// Runs random histories; an error where a certain verdict is wrong, or too many are degraded.
fn check_histories(count: usize, seed: u64, tracer: &Path) -> Result<()> {
    // A machine whose processors are taken answers late, which is not what is checked.
    let arguments = vec!["--patience".to_owned(), "10s".to_owned()];
    histories::run(&Histories { count, seed, arguments, shrunk: SHRUNK }, tracer)?.check()
}

/// Runs the faults in rounds until the time is over.
fn run(duration: Duration, tracer: PathBuf) -> Result<()> {
    raise_descriptors()?;
    let mut soak = Soak::begin(tracer)?;
    let until = Instant::now() + duration;
    let mut tallies: Vec<Tally> = faults::ALL.iter().map(|_| Tally::default()).collect();
    let mut rounds = Vec::new();
    loop {
        let round = rounds.len() + 1;
        let mut peak = 0;
        for ((what, fault), tally) in faults::ALL.iter().zip(&mut tallies) {
            tally.last = soak.run(*fault).with_context(|| format!("in round {round}: {what}"))?;
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
    Ok(())
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

/// Holds the rounds against each other: in the first quarter of them, and [`WARM_UP`] at least, every table has reached its bound.
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

/// The tracer that runs through all faults, and its namespace.
struct Soak {
    binary: PathBuf,
    netns: Netns,
    port: Port,
    counter: Counter,
    tracer: Running,
    log: Option<Log>,
    /// Refusals made so far.
    made: u64,
    /// Other records of the soak's own that were made while the ring was full.
    own: u64,
    /// Records of the rest of the host that may be among those lost.
    others: u64,
    /// Destinations used so far, each only once, so that none is only counted.
    fresh: u32,
}

/// Of some refusals, how many are neither reported nor counted as lost one by one; the last, how many more are lost than
/// can be accounted for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Gap {
    unaccounted: u64,
    excess: u64,
}

impl Gap {
    fn of(made: u64, totals: &Totals) -> Self {
        let accounted = totals.accounted();
        Self { unaccounted: made.saturating_sub(accounted), excess: accounted.saturating_sub(made) }
    }

    /// The one equation that nothing excuses: refusals made, and other records known to be lost, are those reported and those
    /// counted as lost, but for what nesting has cost, `nested` at most, and for what `others` of the host have lost in
    /// a ring that was full.
    fn check(self, nested: u64, others: u64, totals: &Totals) -> Result<()> {
        ensure!(self.unaccounted <= nested, "{self:?}, at most {nested} to nesting: {totals:?}");
        ensure!(self.excess <= others, "{self:?}, at most {others} records of others: {totals:?}");
        Ok(())
    }
}

impl Soak {
    fn begin(binary: PathBuf) -> Result<Self> {
        let netns = Netns::with_loopback();
        let port = Port::take();
        let counter = Counter::begin()?;
        let mut tracer = start(&binary, &port, Stdio::piped());
        tracer.wait_ready();
        let log = Some(Log::follow(tracer.take_stdout()));
        Ok(Self { binary, netns, port, counter, tracer, log, made: 0, own: 0, others: 0, fresh: 0 })
    }

    /// Makes a fault, and waits until the tracer has reported all refusals that were made for it.
    fn run(&mut self, fault: Fault) -> Result<String> {
        let pid = self.tracer.pid();
        let (lost, before) = (self.log().totals()?.lost_in(LostWhere::Ring), self.counter.before(pid)?);
        let result = fault(self)?;
        if self.calm()?.lost_in(LostWhere::Ring) > lost {
            self.others += self.counter.others(pid, &before)?;
        }
        self.settle()?;
        Ok(result)
    }

    fn log(&self) -> &Log {
        self.log.as_ref().expect("the log is followed until the end")
    }

    /// Another tracer, ready.
    fn another(&self, stdout: Stdio) -> Running {
        let mut another = start(&self.binary, &self.port, stdout);
        another.wait_ready();
        another
    }

    /// A process in the namespace.
    fn actor(&self) -> Actor {
        Actor::start(&self.netns.place(), &ProcessSpec::named("tracer-load"))
    }

    /// Puts the kernel under load, by a process of its own; counts what was refused.
    fn refuse(&mut self, load: Refused) -> u64 {
        let made = self.actor().load(Load::Refused(load)).made;
        self.made += made;
        made
    }

    /// Connects that are refused for so long, from two threads.
    fn flood(&self, duration: Duration) -> Refused {
        Refused::at(self.local(Ipv4Addr::LOCALHOST), duration).from_threads(2)
    }

    /// Begins a load while something else goes on; [`Soak::flooded`] waits for its end.
    fn begin_flood(&self, duration: Duration) -> Actor {
        let mut actor = self.actor();
        actor.begin_load(Load::Refused(self.flood(duration)));
        actor
    }

    fn flooded(&mut self, flood: &Actor) -> u64 {
        let made = flood.load_done().made;
        self.made += made;
        made
    }

    /// The tracer's verdict on the refusal of a destination that was never refused before. Its record may be among
    /// those that are lost, after what has just gone on: then of the next one.
    fn verdict(&mut self) -> Result<Verdict> {
        for _ in 0..5 {
            self.fresh += 1;
            let address = Ipv4Addr::from_bits(Ipv4Addr::new(127, 3, 0, 0).to_bits() + self.fresh);
            self.refuse(Refused::at(self.local(address), Duration::ZERO));
            let wanted = address.to_string();
            let found = self.log().wait(Duration::from_secs(5), |totals| {
                totals
                    .verdicts
                    .iter()
                    .find(|(address, _)| *address == wanted)
                    .map(|(_, verdict)| verdict.clone())
            })?;
            if let Some(verdict) = found {
                return Ok(verdict);
            }
        }
        bail!("five refusals in a row are not reported: {:?}", self.log().totals()?)
    }

    /// Waits until the tracer has taken all that is in its ring: it has reported every refusal, or reports nothing
    /// more.
    fn calm(&self) -> Result<Totals> {
        let made = self.made + self.own;
        let mut last: Option<(u64, u64)> = None;
        let is_calm = |totals: &Totals| {
            let (accounted, alive) = (totals.accounted(), totals.alive);
            let since = match last {
                Some((same, since)) if same == accounted => since,
                Some(_) | None => last.insert((accounted, alive)).1,
            };
            (accounted == made || alive > since + CALM).then(|| totals.clone())
        };
        let calm = self.log().wait(PATIENCE, is_calm)?;
        calm.with_context(|| format!("it goes on reporting: {:?}", self.log().totals()))
    }

    /// Waits until the tracer has reported so much.
    fn wait(&self, what: &str, is_done: impl Fn(&Totals) -> bool) -> Result<()> {
        let totals = self.log().wait(PATIENCE, |totals| is_done(totals).then_some(()))?;
        totals.with_context(|| format!("waited in vain for {what}: {:?}", self.log().totals()))
    }

    /// Holds what the tracer has reported so far against what was made.
    fn settle(&self) -> Result<()> {
        let totals = self.calm()?;
        ensure!(totals.refused <= self.made, "{} refusals reported, {} made", totals.refused, self.made);
        // What will be reported at the end is bounded by this.
        let skipped = costs_of(self.tracer.pid())?.iter().map(|cost| cost.skipped).sum();
        Gap::of(self.made + self.own, &totals).check(skipped, self.others, &totals)
    }

    fn local(&self, address: Ipv4Addr) -> SocketAddr {
        SocketAddr::from((address, self.port.number))
    }

    fn memory(&self) -> Result<u64> {
        resident(self.tracer.pid())
    }

    fn state(&self, peak: u64) -> Result<State> {
        let descriptors = fs::read_dir(format!("/proc/{}/fd", self.tracer.pid()))?.count();
        Ok(State { memory: self.memory()?, peak, descriptors })
    }

    /// Ends the tracer, and reports what it counted.
    fn end(mut self, rounds: &[State]) -> Result<String> {
        let held = Held::by(self.tracer.pid())?;
        self.tracer.stop();
        let totals = self.log.take().context("the log is followed until the end")?.end()?;
        ensure!(totals.is_stopped, "the log has no `stop`");
        released(&held)?;
        let (first, last) = (rounds.first().context("no round")?, rounds.last().context("no round")?);
        check_growth(rounds)?;
        let (made, own, others) = (self.made, self.own, self.others);
        ensure!(totals.refused <= made, "{} refusals reported, {made} made", totals.refused);
        let gap = Gap::of(made + own, &totals);
        gap.check(totals.lost_in(LostWhere::Recursion), others, &totals)?;
        let highest = rounds.iter().map(|state| state.peak).max().unwrap_or_default();
        Ok(format!(
            "{made} refusals made, {} totals; {} records lost in the ring, {own} of them the soak's own of other kinds, up to \
             {others} of the rest of the host; {} refusals unaccounted for, at most {} to nesting as reported.\n{} lines \
             without a gap. Resident after the first round {} KiB, after the last {} KiB, {highest} KiB at most. {} \
             descriptors throughout. Nothing is attached any more.",
            totals.refused,
            totals.lost_in(LostWhere::Ring),
            gap.unaccounted,
            totals.lost_in(LostWhere::Recursion),
            totals.lines,
            first.memory,
            last.memory,
            last.descriptors,
        ))
    }
}

fn start(binary: &Path, port: &Port, stdout: Stdio) -> Running {
    let mut command = Command::new(binary);
    command.args(["trace", "--port", &port.number.to_string(), "--output", "json", "--heartbeat", "200ms"]);
    command.process_group(0);
    Running::spawn_with(command, stdout)
}

/// The directory of what is built.
fn target() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("a folder of the workspace").join("target")
}

/// Waits until nothing of what a tracer held is there any more: programs, maps, links.
fn released(held: &Held) -> Result<()> {
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
        interrupt::sleep(Duration::from_millis(50));
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
    fn memory_or_descriptors_that_grow_are_an_error() {
        let flat = [11_000, 17_000, 17_100, 16_900, 17_900, 16_000, 17_500, 17_200];
        assert!(check_growth(&rounds(&flat, &[40; 8])).is_ok());
        let steps = [11_000, 17_000, 17_000, 17_000, 17_000, 18_100, 18_100, 18_100];
        assert!(check_growth(&rounds(&steps, &[40; 8])).is_err());
        assert!(check_growth(&rounds(&flat, &[40, 40, 40, 40, 40, 40, 40, 41])).is_err());
    }
}
