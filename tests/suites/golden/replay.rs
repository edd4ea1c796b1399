//! Replays a recording of the old form: a main loop without a kernel, whose time is data.

use std::collections::{BTreeMap, VecDeque};

use tracer::model::kernel_event::{KernelEvent, Lost};
use tracer::model::time::Mono;
use tracer::output::schema::{Line, StopReason};
use tracer::query::Answer;
use tracer::run::{Input, Run, Setup};

use super::host::Host;
use super::old::{self, Step};

/// How long the end waits for answers, as that of `tracer trace`.
const ENDING_MS: u64 = 200;

/// The least time between two turns of the main loop that nothing but time asks for.
const TURN_NS: u64 = 100_000;

/// What came of a replay.
pub struct Replayed {
    pub lines: Vec<Line>,
    /// What the run was made with, and told.
    pub setup: Setup,
    pub inputs: Vec<Input>,
    /// Questions that were never asked when it was recorded, by their kind.
    pub unasked: BTreeMap<&'static str, usize>,
}

/// An event with the moment at which it was taken from the ring, at the latest.
struct Due {
    at: Mono,
    event: KernelEvent,
}

/// What else happens, in order.
enum Other {
    Take(Box<Input>),
    End,
}

struct Replay {
    run: Run,
    setup: Setup,
    inputs: Vec<Input>,
    lines: Vec<Line>,
    host: Host,
    now: Mono,
    events: VecDeque<Due>,
    others: VecDeque<(Mono, Other)>,
    answers: Vec<(Mono, Answer)>,
    ended: Option<Mono>,
}

pub fn replay(recording: old::Run) -> Replayed {
    let old::Run { setup, steps, answers, lost, reason, .. } = recording;
    let (mut events, mut others) = (VecDeque::new(), VecDeque::new());
    let mut latest = setup.now;
    for step in steps {
        let at = match &step {
            Step::Ring { at, .. } | Step::Config { at, .. } | Step::Alive { at } | Step::End { at } => *at,
            Step::Clock(_) => latest,
        };
        latest = latest.max(at);
        let at = latest;
        match step {
            Step::Ring { lost, events: of_batch, .. } => {
                let lost = lost.into_iter().map(KernelEvent::Lost);
                events.extend(lost.chain(of_batch).map(|event| Due { at, event }));
            }
            Step::Clock(clock) => others.push_back((at, Other::Take(Box::new(Input::Clock(clock))))),
            Step::Config { changed, .. } => {
                others.push_back((at, Other::Take(Box::new(Input::ConfigChanged { changed, now: at }))));
            }
            Step::Alive { .. } => others.push_back((at, Other::Take(Box::new(Input::Alive { now: at })))),
            Step::End { .. } => others.push_back((at, Other::End)),
        }
    }
    let host = Host::new(answers, events.iter().map(|due| &due.event));
    let now = setup.now;
    let (run, first) = Run::new(setup.clone());
    let mut replay = Replay {
        run,
        setup,
        inputs: Vec::new(),
        lines: vec![first],
        host,
        now,
        events,
        others,
        answers: Vec::new(),
        ended: None,
    };
    replay.turn(now);
    while let Some(next) = replay.next() {
        replay.turn(next);
    }
    replay.finish(lost, reason)
}

impl Replay {
    /// When the next turn is due; `None`: the run is over.
    fn next(&self) -> Option<Mono> {
        let later = |at: Mono| at.max(self.now.plus(TURN_NS));
        if self.run.is_full() {
            return None;
        }
        if let Some(ended) = self.ended
            && self.events.is_empty()
            && (!self.run.is_waiting() || self.now >= ended.plus_millis(ENDING_MS))
        {
            return None;
        }
        let event = self.events.front().map(|due| due.at);
        let other = self.others.front().map(|(at, _)| *at);
        let answer = self.answers.iter().map(|(at, _)| *at).min();
        let deadline = self.run.deadline().map(later);
        let next = [event, other, answer, deadline].into_iter().flatten().min();
        next.map(|next| next.max(self.now))
    }

    /// One turn of the main loop: what the ring has by now, the answers that are there, and time.
    fn turn(&mut self, now: Mono) {
        self.now = now;
        let is_recorded = |due: &Due| due.at <= now || due.event.time().is_some_and(|time| time <= now);
        while self.events.front().is_some_and(is_recorded) {
            let Due { event, .. } = self.events.pop_front().expect("the first");
            self.take(Input::Event { event, now });
        }
        while self.others.front().is_some_and(|(at, _)| *at <= now) {
            match self.others.pop_front().expect("the first").1 {
                Other::Take(input) => self.take(*input),
                Other::End => self.ended = Some(now),
            }
        }
        let (there, rest) = std::mem::take(&mut self.answers).into_iter().partition(|(at, _)| *at <= now);
        self.answers = rest;
        let there: Vec<(Mono, Answer)> = there;
        for (_, answer) in there {
            self.take(Input::Answer { answer, now });
        }
        let remaining = self.events.iter().filter_map(|due| due.event.time()).min();
        let complete_until = remaining.map_or(now, |first| now.min(Mono(first.0.saturating_sub(1))));
        self.take(Input::Advance { complete_until, now });
        for query in self.run.take_requests().queries {
            let answer = self.host.answer(&query, now);
            self.answers.push(answer);
        }
    }

    fn take(&mut self, input: Input) {
        self.inputs.push(input.clone());
        self.lines.extend(self.run.take(input));
    }

    fn finish(mut self, lost: Vec<Lost>, reason: StopReason) -> Replayed {
        let now = self.now;
        self.take(Input::Finish { lost, now });
        self.take(Input::Stop { reason, now });
        let Self { setup, inputs, lines, host, .. } = self;
        Replayed { lines, setup, inputs, unasked: host.unasked }
    }
}
