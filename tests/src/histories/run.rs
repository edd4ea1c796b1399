//! Runs many histories in parallel under one tracer, and holds its verdicts against the right answers.

use std::collections::{BTreeMap, HashMap};
use std::fmt::{self, Write as _};
use std::net::{IpAddr, SocketAddr};
use std::ops::{ControlFlow, Range};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::Instant;

use rustix::process::{getpid, set_child_subreaper};
use tracer::output::causes;
use tracer::output::schema::{Body, Cause, Confidence, LostWhere, Refused, Verdict};

use super::model::{self, Answer, Answers};
use super::plan::{Client, Connect, PROGRAMS, Plan, Ports};
use super::stage::{Act, Event, Made, Programs, Stage, deadline};
use crate::port::Port;
use crate::tracer::{Running, parse_quickly, read_lines};

/// Histories in parallel: a tracer watches sixteen ports, and each history has two of them.
const LANES: usize = 8;

/// Histories of one tracer. Each is in a namespace of its own that ends with it, and a tracer remembers the candidates of
/// the last 300 s, of all namespaces, to a bound.
const OF_TRACER: usize = 100;

/// The options of a run of histories.
#[derive(Clone, Debug)]
pub struct Options {
    /// How many histories.
    pub count: usize,
    /// The seed of the first; each of the others has the next number.
    pub seed: u64,
    /// More arguments for tracer.
    pub arguments: Vec<String>,
    /// Wrong histories that are made smaller.
    pub shrunk: usize,
}

/// A refusal by who was refused where.
type Key = (u32, u32, SocketAddr);

/// The refusals that tracer has reported.
#[derive(Default)]
struct Reported {
    refusals: Mutex<HashMap<Key, Refused>>,
    news: Condvar,
    lost: AtomicUsize,
}

impl Reported {
    fn put(&self, refused: Refused) {
        let Some((pid, port)) = refused.client.pid.zip(refused.dst.port) else { return };
        let netns = refused.netns.id;
        let Ok(ip) = refused.dst.addr.parse::<IpAddr>() else { return };
        let to = SocketAddr::new(ip, port);
        self.refusals.lock().expect("no panic").insert((pid, netns, to), refused);
        self.news.notify_all();
    }

    fn wait(&self, made: Made) -> Option<Refused> {
        let until = deadline();
        let key = (made.pid, made.netns, made.to);
        let mut refusals = self.refusals.lock().expect("no panic");
        loop {
            if let Some(refused) = refusals.get(&key) {
                return Some(refused.clone());
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return None;
            }
            refusals = self.news.wait_timeout(refusals, left).expect("no panic").0;
        }
    }

    fn forget(&self, netns: u32) {
        self.refusals.lock().expect("no panic").retain(|(_, own, _), _| *own != netns);
    }
}

/// What came of one refusal.
#[derive(Clone, Debug)]
struct Outcome {
    verdict: Option<Verdict>,
    answers: Answers,
    /// Steps followed the connect while its verdict was not reported.
    is_late: bool,
}

/// How a verdict compares with the right answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Class {
    /// Certain, and right.
    Right,
    /// Certain, and wrong.
    Wrong,
    /// Certain where the contract demands that it is not.
    TooCertain,
    /// Degraded, as it must or may be.
    Degraded,
    /// Degraded where nothing was hidden.
    Unsure,
    /// The contract does not decide.
    Undecided,
    /// No line came.
    Missing,
}

impl Outcome {
    fn class(&self) -> Class {
        let Self { verdict, answers, is_late } = self;
        let Some(verdict) = verdict else { return Class::Missing };
        let is_certain = verdict.confidence == Confidence::Certain;
        if !answers.undecided.is_empty() {
            return Class::Undecided;
        }
        // It is named as it is when that is printed: it may run another program by then.
        let is_any_server = *is_late || answers.uncertain.contains(model::SEVERAL);
        let is_address = matches!(verdict.cause, Cause::WrongFamily | Cause::WrongAddress);
        let own = answers.own.iter().filter(|_| is_address);
        let reasons: Vec<&str> = answers.degraded.iter().chain(own).copied().collect();
        match (is_certain, reasons.is_empty()) {
            // That nothing listens rests on no server.
            (true, false) if verdict.cause != Cause::NothingListening => Class::TooCertain,
            (true, _) if answers.allowed.iter().any(|answer| is_same(*answer, verdict, is_any_server)) => {
                Class::Right
            }
            (true, _) => Class::Wrong,
            (false, true) if answers.uncertain.is_empty() && answers.own.is_empty() => Class::Unsure,
            (false, _) => Class::Degraded,
        }
    }

    fn is_wrong(&self) -> bool {
        matches!(self.class(), Class::Wrong | Class::TooCertain | Class::Missing)
    }
}

/// Whether a verdict agrees with an answer.
fn is_same(answer: Answer, verdict: &Verdict, is_any_server: bool) -> bool {
    if answer.cause != verdict.cause {
        return false;
    }
    match (answer.server, &verdict.server) {
        _ if is_any_server => true,
        // That nothing listens rests on no server.
        _ if answer.cause == Cause::NothingListening => true,
        (None, None) => true,
        (Some(service), Some(server)) => {
            server.process.comm.as_deref() == Some(PROGRAMS[service.name])
                && server.process.uid == Some(service.uid)
        }
        _ => false,
    }
}

/// Holds all of it.
struct Pool {
    programs: Programs,
    reported: Arc<Reported>,
    lanes: Vec<[Port; 3]>,
}

impl Pool {
    fn ports(&self, lane: usize) -> Ports {
        let [main, other, unwatched] = &self.lanes[lane];
        Ports { main: main.number, other: other.number, unwatched: unwatched.number }
    }

    /// Carries out one history; what came of each refused connect, and what happened.
    fn play(&self, plan: &Plan, lane: usize) -> (Vec<Outcome>, Vec<Event>) {
        let ports = self.ports(lane);
        let mut stage = Stage::new(&self.programs, ports);
        let netns = stage.netns;
        self.reported.forget(netns);
        stage.run(plan, |made| drop(self.reported.wait(made)));
        let record = stage.record();
        let mut outcomes = Vec::new();
        for event in &record.events {
            let Act::Connected { number, connect, errno } = event.act else { continue };
            let answers = model::answers(&record.events, number);
            let is_refused = errno == libc::ECONNREFUSED;
            assert!(
                is_refused != answers.is_answered && (is_refused || errno == 0),
                "connect {number} ended with {errno}, answers {answers:?}:\n{plan}"
            );
            if is_refused {
                let made =
                    Made { pid: record.pids[&number], netns, to: ports.socket(connect.port, connect.ip) };
                let verdict = self.reported.wait(made).map(|refused| refused.verdict);
                let mut answers = answers;
                if verdict.is_none() && asked_before(&record.events, event) {
                    answers.undecided.insert("counted with one like it");
                }
                outcomes.push(Outcome { verdict, answers, is_late: !connect.waits });
            }
        }
        (outcomes, record.events.clone())
    }

    /// The same history with fewer steps that is as wrong.
    fn smaller(&self, plan: &Plan) -> Plan {
        let mut best = plan.clone();
        let mut place = best.steps.len();
        while place > 0 {
            place -= 1;
            let candidate = best.without(place);
            // Without an address that a step added, a connect ends otherwise than planned.
            let played = || catch_unwind(AssertUnwindSafe(|| self.play(&candidate, 0)));
            let is_wrong = |(outcomes, _): (Vec<Outcome>, _)| outcomes.iter().any(Outcome::is_wrong);
            if candidate.is_whole() && played().is_ok_and(is_wrong) {
                best = candidate;
                place = place.min(best.steps.len());
            }
        }
        best
    }
}

/// Whether a process, and none of the clients with names of their own, was refused there before: what another process of its
/// program gets next is counted, and has no line.
fn asked_before(events: &[Event], event: &Event) -> bool {
    let asked = |event: &Event| match event.act {
        Act::Connected { connect: Connect { client: Client::Process(_), ip, port, .. }, errno, .. } => {
            (errno == libc::ECONNREFUSED).then_some((ip, port))
        }
        _ => None,
    };
    let is_earlier = |one: &&Event| one.before < event.before;
    asked(event).is_some() && events.iter().filter(is_earlier).any(|one| asked(one) == asked(event))
}

/// What came of all histories.
#[derive(Default)]
struct Summary {
    histories: usize,
    classes: BTreeMap<Class, usize>,
    /// Of certain verdicts that are right.
    causes: HashMap<Cause, usize>,
    /// Codes of verdicts that are degraded where nothing was hidden.
    codes: BTreeMap<String, usize>,
    /// The same with the cause.
    unsure: BTreeMap<String, usize>,
    /// What the contract does not decide, and why a verdict must or may be degraded.
    reasons: BTreeMap<&'static str, usize>,
    wrong: Vec<(Plan, Vec<Outcome>, Vec<Event>)>,
}

impl Summary {
    fn count(&mut self, outcome: &Outcome) {
        let class = outcome.class();
        *self.classes.entry(class).or_default() += 1;
        let Outcome { verdict, answers, .. } = outcome;
        for reason in answers.undecided.iter().chain(&answers.degraded).chain(&answers.uncertain) {
            *self.reasons.entry(reason).or_default() += 1;
        }
        let Some(verdict) = verdict else { return };
        match class {
            Class::Right => *self.causes.entry(verdict.cause).or_default() += 1,
            Class::Unsure => {
                for code in &verdict.because {
                    *self.codes.entry(name(code)).or_default() += 1;
                }
                let codes: Vec<String> = verdict.because.iter().map(name).collect();
                let key = format!("{} {}", name(&verdict.cause), codes.join(" "));
                *self.unsure.entry(key).or_default() += 1;
            }
            _ => {}
        }
    }

    fn of(&self, class: Class) -> usize {
        self.classes.get(&class).copied().unwrap_or_default()
    }
}

fn name(value: &impl serde::Serialize) -> String {
    serde_json::to_value(value).ok().and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default()
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let refusals: usize = self.classes.values().sum();
        writeln!(f, "{} histories, {refusals} refusals: {:?}", self.histories, self.classes)?;
        for cause in causes::in_order() {
            let Some(count) = self.causes.get(&cause) else { continue };
            writeln!(f, "  {count:6} certain and right: {}", cause.name())?;
        }
        let settled = self.of(Class::Right) + self.of(Class::Unsure);
        writeln!(f, "  {:6} of {settled} degraded where nothing was hidden", self.of(Class::Unsure))?;
        for (code, count) in &self.codes {
            writeln!(f, "  {count:6} {code}")?;
        }
        for (what, count) in &self.unsure {
            writeln!(f, "    {count:6} {what}")?;
        }
        for (reason, count) in &self.reasons {
            writeln!(f, "  {count:6} not held to one answer, or to be degraded: {reason}")?;
        }
        Ok(())
    }
}

/// A history that went wrong, in words.
fn described(plan: &Plan, outcomes: &[Outcome], events: &[Event]) -> String {
    let mut text = format!("HISTORY={}:\n{plan}", plan.seed);
    let start = events.first().map_or(0, |event| event.before);
    for event in events {
        let at = |time: u64| (time.saturating_sub(start)) as f64 / 1e6;
        let _ = writeln!(text, "    {:9.3}..{:9.3} ms {:?}", at(event.before), at(event.after), event.act);
    }
    for outcome in outcomes {
        let Answers { allowed, degraded, uncertain, undecided, .. } = &outcome.answers;
        let mut allowed: Vec<String> = allowed
            .iter()
            .map(|answer| {
                let server =
                    answer.server.map(|server| format!(" of {} (uid {})", PROGRAMS[server.name], server.uid));
                format!("{}{}", name(&answer.cause), server.unwrap_or_default())
            })
            .collect();
        allowed.sort();
        let _ = writeln!(text, "  {:?}: expected {}", outcome.class(), allowed.join(" or "));
        let _ = writeln!(
            text,
            "    degraded for {degraded:?}, uncertain for {uncertain:?}, undecided {undecided:?}"
        );
        match &outcome.verdict {
            None => text.push_str("    got no line\n"),
            Some(Verdict { cause, because, server, summary, .. }) => {
                let because: Vec<String> = because.iter().map(name).collect();
                let server = server.as_ref().map(|server| {
                    let process = &server.process;
                    format!("{:?} uid {:?} by {}", process.comm, process.uid, name(&server.known_by))
                });
                let _ = writeln!(text, "    got {} {because:?} of {server:?}: {summary}", name(cause));
            }
        }
    }
    text
}

/// What came of a run.
#[derive(Debug)]
pub struct Report {
    /// Histories with a wrong verdict, in words.
    pub wrong: Vec<String>,
    /// Refusals of which everything was there to be seen, and those of them whose verdict is degraded.
    pub clear: usize,
    pub unsure: usize,
}

impl Report {
    /// Fails where a certain verdict is wrong, or where more than one in twenty is degraded without a reason.
    pub fn check(&self) -> anyhow::Result<()> {
        let Self { wrong, clear, unsure } = self;
        anyhow::ensure!(wrong.is_empty(), "{} histories are wrong:\n\n{}", wrong.len(), wrong.join("\n"));
        anyhow::ensure!(
            unsure * 20 <= *clear,
            "{unsure} of {clear} verdicts are degraded, and nothing was hidden"
        );
        Ok(())
    }
}

/// Starts a tracer whose refusals go to `reported`, and what reads its lines.
fn trace(
    binary: &Path,
    options: &Options,
    watched: &str,
    reported: &Arc<Reported>,
) -> (Running, thread::JoinHandle<()>) {
    let mut command = Command::new(binary);
    command.args(["trace", "-p", watched, "-o", "json"]).args(&options.arguments);
    let mut tracer = Running::spawn_command(command);
    let to = Arc::clone(reported);
    let reader = read_lines(tracer.take_stdout(), parse_quickly, move |line| {
        match line.map(|line| line.body) {
            Ok(Body::Refused(refused)) => to.put(*refused),
            Ok(Body::Lost(lost)) if lost.place != LostWhere::Recursion => {
                to.lost.fetch_add(1, Ordering::Relaxed);
            }
            Ok(_) => {}
            Err(error) => eprintln!("histories: {error}"),
        }
        ControlFlow::Continue(())
    });
    tracer.wait_ready();
    (tracer, reader)
}

/// Plays the histories of these numbers, in parallel.
fn play(pool: &Pool, options: &Options, numbers: Range<usize>, summary: &Mutex<Summary>) {
    let next = AtomicUsize::new(numbers.start);
    thread::scope(|scope| {
        for lane in 0..pool.lanes.len() {
            let (next, numbers) = (&next, &numbers);
            scope.spawn(move || {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= numbers.end {
                        break;
                    }
                    let plan = Plan::new(options.seed.wrapping_add(number as u64));
                    let (outcomes, events) = pool.play(&plan, lane);
                    let mut summary = summary.lock().expect("no panic");
                    summary.histories += 1;
                    outcomes.iter().for_each(|outcome| summary.count(outcome));
                    if outcomes.iter().any(Outcome::is_wrong) {
                        summary.wrong.push((plan, outcomes, events));
                    }
                }
            });
        }
    });
}

/// Runs the histories and prints what came of them.
pub fn run(options: &Options, binary: &Path) -> anyhow::Result<Report> {
    set_child_subreaper(Some(getpid()))?;
    let lanes: Vec<[Port; 3]> =
        (0..LANES.min(options.count)).map(|_| [Port::take(), Port::take(), Port::take()]).collect();
    let watched: Vec<String> = lanes
        .iter()
        .flat_map(|[main, other, _]| [main.number, other.number])
        .map(|port| port.to_string())
        .collect();
    let reported = Arc::new(Reported::default());
    let pool = Pool { programs: Programs::new()?, reported: Arc::clone(&reported), lanes };
    let summary = Mutex::new(Summary::default());
    let mut wrong = Vec::new();
    let began = Instant::now();
    for first in (0..options.count).step_by(OF_TRACER) {
        let (tracer, reader) = trace(binary, options, &watched.join(","), &reported);
        play(&pool, options, first..options.count.min(first + OF_TRACER), &summary);
        for (plan, outcomes, events) in std::mem::take(&mut summary.lock().expect("no panic").wrong) {
            let mut text = described(&plan, &outcomes, &events);
            if wrong.len() < options.shrunk {
                // In a thread of its own, which moves to other namespaces.
                let (small, outcomes, events) = thread::scope(|scope| {
                    let shrinking = scope.spawn(|| {
                        let small = pool.smaller(&plan);
                        let (outcomes, events) = pool.play(&small, 0);
                        (small, outcomes, events)
                    });
                    shrinking.join().expect("no panic")
                });
                if small.steps.len() < plan.steps.len() {
                    let _ = writeln!(text, "  with fewer steps:\n{}", described(&small, &outcomes, &events));
                }
            }
            wrong.push(text);
        }
        tracer.stop();
        reader.join().expect("no panic");
    }
    let summary = summary.into_inner().expect("no panic");
    println!("seed {}, {:.1} s\n{summary}", options.seed, began.elapsed().as_secs_f64());
    let lost = reported.lost.load(Ordering::Relaxed);
    anyhow::ensure!(lost == 0, "records were lost");
    let unsure = summary.of(Class::Unsure);
    Ok(Report { wrong, clear: summary.of(Class::Right) + unsure, unsure })
}
