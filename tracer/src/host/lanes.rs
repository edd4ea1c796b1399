//! Lanes of threads that answer queries: the main loop hands out queries and never waits.
//!
//! Each lane has one thread for one kind of work, so that a hung file system holds up only what needs it. A thread that is
//! not done by the deadline of a query is given up: another takes its place, and the queries behind the one it is at.

use std::collections::VecDeque;
use std::hash::RandomState;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

use bytes::Bytes;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::answers::{Answerer, Beside};
use super::clock;
use super::config_watch::FileInUse;
use super::fanotify::Watch;
use super::frame;
use super::openings::OpeningTimes;
use super::scan::Scanner;
use crate::model::time::{Interval, Mono};
use crate::products::recognise::Recognition;
use crate::query::{Answer, Lane, Query, QueryId, QueryKind};

/// Threads that are given up at a time, in all lanes; beyond, what their lane is asked is unknown.
const STUCK_MAX: usize = 32;

/// How long after its deadline an answer is still of use: what it shows, the next refusal need not ask for. Of a host that
/// was read longer ago, too much has changed since that is not remembered.
const LATE_NS: u64 = 1_000_000_000;

/// Listeners whose holders are confirmed by the caller's own thread: each takes some 20 microseconds.
const CONFIRMED_MAX: usize = 4;

/// What a thread sends back.
struct Message {
    lane: Lane,
    id: QueryId,
    deadline: Mono,
    frame: Bytes,
    beside: Beside,
}

/// The state of one lane: its thread, and what was handed to it.
#[derive(Default)]
struct LaneState {
    /// `None`: no query has come yet.
    worker: Option<Worker>,
    /// Handed out and not answered, in order.
    outstanding: VecDeque<Handed>,
}

impl LaneState {
    /// Whether a query was not answered by its deadline: the thread is stuck, at that one or at one before.
    fn is_overdue(&self, now: Mono) -> bool {
        self.outstanding.iter().any(|handed| handed.deadline <= now)
    }
}

/// A query that was handed out.
struct Handed {
    id: QueryId,
    kind: QueryKind,
    deadline: Mono,
    frame: Bytes,
}

/// A thread that was given up, and what it was asked.
struct Stuck {
    thread: Arc<AtomicBool>,
    kind: QueryKind,
}

impl Stuck {
    /// Whether the thread has not come back.
    fn is_stuck(&self) -> bool {
        Arc::strong_count(&self.thread) > 1
    }
}

/// A thread that takes queries.
struct Worker {
    queries: Sender<Bytes>,
    /// It is not to take another query. The thread holds it until it ends.
    is_given_up: Arc<AtomicBool>,
}

/// What the threads are made with.
struct Settings {
    ports: Vec<u16>,
    recognition: Recognition,
    own_line: Vec<u32>,
    openings: Arc<dyn OpeningTimes>,
    hasher: RandomState,
}

/// What answers the queries of the core.
pub struct Host {
    settings: Settings,
    lanes: [LaneState; Lane::ALL.len()],
    answers: UnboundedReceiver<Message>,
    sender: UnboundedSender<Message>,
    /// Answers that are known without a thread.
    at_hand: VecDeque<Answer>,
    /// Confirms on the caller's own thread which processes hold listeners.
    scanner: Scanner,
    /// Threads that were given up and have not come back.
    stuck: Vec<Stuck>,
    /// Which configuration file was found to be in use since the last call.
    in_use: Vec<FileInUse>,
}

impl Host {
    /// No thread is started before there is a query for it.
    pub fn new(
        ports: &[u16],
        recognition: Recognition,
        own_line: Vec<u32>,
        openings: Arc<dyn OpeningTimes>,
    ) -> Self {
        let (sender, answers) = unbounded_channel();
        Self {
            settings: Settings {
                ports: ports.to_vec(),
                recognition,
                own_line,
                openings,
                hasher: RandomState::new(),
            },
            lanes: Default::default(),
            answers,
            sender,
            at_hand: VecDeque::new(),
            scanner: Scanner::new(ports),
            stuck: Vec::new(),
            in_use: Vec::new(),
        }
    }

    /// Hands a query to its lane, or answers it. `watch` is where configuration files are watched.
    ///
    /// That few processes still hold what they held is answered by the caller's thread: the thread of a lane would take
    /// longer to wake up.
    pub fn ask(&mut self, query: &Query, watch: Option<&Watch>, now: Mono) {
        if let QueryKind::Owners { netns, known: Some(known) } = &query.kind
            && known.len() <= CONFIRMED_MAX
        {
            let began = clock::now();
            if let Some(result) = self.scanner.confirm(*netns, known) {
                let interval = Interval { began, ended: clock::now() };
                self.at_hand.push_back(Answer { id: query.id, interval, result: Some(result) });
                return;
            }
        }
        let lane = query.kind.lane();
        self.replace_in(lane, watch, now);
        // A thread that did not come back from a question is enough; and no thread may take the place of one too many.
        let is_stuck = |stuck: &Stuck| stuck.is_stuck() && stuck.kind.is_about_the_same(&query.kind);
        if self.stuck.iter().any(is_stuck) || self.lanes[lane as usize].is_overdue(now) {
            self.at_hand.push_back(unknown(query.id, now));
            return;
        }
        let handed = frame::encode(query).ok();
        let state = &mut self.lanes[lane as usize];
        if state.worker.is_none() {
            state.worker = start(lane, &self.settings, watch, &self.sender).ok();
        }
        let (Some(frame), Some(worker)) = (handed, &state.worker) else {
            // No frame, no thread: the host is short of both during an incident.
            self.at_hand.push_back(unknown(query.id, now));
            return;
        };
        if worker.queries.send(frame.clone()).is_err() {
            state.worker = None;
            self.at_hand.push_back(unknown(query.id, now));
            return;
        }
        let (kind, deadline) = (query.kind.clone(), query.deadline);
        state.outstanding.push_back(Handed { id: query.id, kind, deadline, frame });
    }

    /// Gives up the threads that are not done in time, and has others go on with what waits behind them. To be called
    /// whenever a deadline may have passed: the next query of a lane may never come.
    pub fn replace_stuck(&mut self, watch: Option<&Watch>, now: Mono) {
        Lane::ALL.into_iter().for_each(|lane| self.replace_in(lane, watch, now));
    }

    fn replace_in(&mut self, lane: Lane, watch: Option<&Watch>, now: Mono) {
        let Self { settings, lanes, sender, stuck, .. } = self;
        let state = &mut lanes[lane as usize];
        if !state.is_overdue(now) {
            return;
        }
        stuck.retain(Stuck::is_stuck);
        if stuck.len() >= STUCK_MAX {
            return;
        }
        // The thread is at the first one, whose answer it may still send: no other is asked the same.
        let first = state.outstanding.pop_front();
        if let (Some(worker), Some(first)) = (state.worker.take(), first) {
            worker.is_given_up.store(true, Ordering::Release);
            stuck.push(Stuck { thread: worker.is_given_up, kind: first.kind });
        }
        state.outstanding.retain(|handed| handed.deadline > now);
        if state.outstanding.is_empty() {
            return;
        }
        state.worker = start(lane, settings, watch, sender).ok();
        if let Some(worker) = &state.worker {
            state.outstanding.iter().for_each(|handed| _ = worker.queries.send(handed.frame.clone()));
        }
    }

    /// Waits for an answer.
    pub async fn answered(&mut self) -> Option<Answer> {
        if let Some(answer) = self.at_hand.pop_front() {
            return Some(answer);
        }
        let message = self.answers.recv().await?;
        self.take(message)
    }

    /// The answers that have come since.
    pub fn answers(&mut self) -> Vec<Answer> {
        let mut answers: Vec<Answer> = self.at_hand.drain(..).collect();
        while let Ok(message) = self.answers.try_recv() {
            answers.extend(self.take(message));
        }
        answers
    }

    fn take(&mut self, message: Message) -> Option<Answer> {
        let Message { lane, id, deadline, frame, beside } = message;
        self.lanes[lane as usize].outstanding.retain(|handed| handed.id != id);
        self.in_use.extend(beside.in_use);
        beside.described.into_iter().for_each(|described| self.scanner.set_described(described));
        if clock::now().since(deadline) > LATE_NS {
            return None;
        }
        frame::decode(&frame).ok()
    }

    /// The configuration files that were found to be in use since the last call.
    pub fn in_use(&mut self) -> Vec<FileInUse> {
        std::mem::take(&mut self.in_use)
    }
}

fn unknown(id: QueryId, now: Mono) -> Answer {
    Answer { id, interval: Interval { began: now, ended: now }, result: None }
}

/// Starts the thread of a lane.
fn start(
    lane: Lane,
    settings: &Settings,
    watch: Option<&Watch>,
    sender: &UnboundedSender<Message>,
) -> io::Result<Worker> {
    let (queries, handed) = channel();
    let is_given_up = Arc::new(AtomicBool::new(false));
    let answerer = Answerer {
        scanner: Scanner::new(&settings.ports),
        recognition: settings.recognition.clone(),
        own_line: settings.own_line.clone(),
        marker: watch.map(Watch::marker),
        openings: Some(Arc::clone(&settings.openings)),
        hasher: settings.hasher.clone(),
    };
    let (sender, given_up) = (sender.clone(), Arc::clone(&is_given_up));
    thread::Builder::new()
        .name(lane.name().to_owned())
        .spawn(move || run(lane, answerer, &handed, &given_up, &sender))?;
    Ok(Worker { queries, is_given_up })
}

/// Answers queries until the lane is dropped, or this thread was given up.
fn run(
    lane: Lane,
    mut answerer: Answerer,
    handed: &Receiver<Bytes>,
    is_given_up: &AtomicBool,
    sender: &UnboundedSender<Message>,
) {
    while let Ok(frame) = handed.recv() {
        if is_given_up.load(Ordering::Acquire) {
            return;
        }
        let Ok(query) = frame::decode::<Query>(&frame) else { continue };
        let (id, deadline, max_bytes) = (query.id, query.deadline, query.max_bytes as usize);
        let now = clock::now();
        // Nothing waits for it any more: what is behind it is more urgent.
        let (answer, beside) =
            if deadline <= now { (unknown(id, now), Beside::default()) } else { answerer.answer(query) };
        let interval = answer.interval;
        let whole = frame::encode(&answer).ok().filter(|frame| frame.len() <= max_bytes);
        let Some(frame) = whole.or_else(|| frame::encode(&Answer { id, interval, result: None }).ok()) else {
            continue;
        };
        if sender.send(Message { lane, id, deadline, frame, beside }).is_err() {
            return;
        }
    }
}
