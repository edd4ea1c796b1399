//! `tracer trace`: attach, then scan the host, then follow the stream.

mod kernel_log;
mod readers;
mod signals;
mod undetectable;

use std::fs::File;
use std::io;
use std::num::NonZeroU64;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use tokio::time::Instant;
use uuid::Uuid;

use super::record;
use crate::bpf::kernel::Kernel;
use crate::bpf::loader::{self, Servers};
use crate::bpf::preflight;
use crate::cli::Trace;
use crate::exit::{Exit, Failure};
use crate::host::config_watch::ConfigWatch;
use crate::host::lanes::Host;
use crate::host::{clock, identity, netns, netns_argument, process};
use crate::lifecycle::requests::{PortChange, Requests};
use crate::memory;
use crate::model::limit::Limit;
use crate::model::time::Mono;
use crate::output::schema::{Body, Netns, Start, StopReason};
use crate::output::sink::Sink;
use crate::output::words::counted;
use crate::products::recognise::Recognition;
use crate::query::Answer;
use crate::record::Recorder;
use crate::run::{Input, Run, Setup};
use crate::sandbox;
use crate::stdio::talk;
use crate::stream::{Batch, EventStream};
use readers::Readers;
use signals::Signals;
use undetectable::undetectable;

/// How long the end waits for records that are not finished, and for answers.
const ENDING_MS: u64 = 200;

/// Events of a burst whose memory is given back when it is over.
const BURST: usize = 32 * crate::stream::BATCH;

/// Events after which memory is given back once nothing has happened for [`QUIET`], the pages of the program's code
/// included: what the next event needs of it comes back in a few faults.
const MANY: usize = 1_000;
const QUIET: Duration = Duration::from_millis(100);

/// Runs the trace to its end; `recording` is the file that its inputs are written to.
///
/// # Errors
/// A [`Failure`] when the command line or the host is in the way.
pub fn trace(options: &Trace, recording: Option<&Path>) -> Result<Exit> {
    memory::keep_small();
    let ports = options.ports.list()?;
    let filter = options.netns.as_deref().map(resolve).transpose()?;
    require(&preflight::check())?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let result = runtime.block_on(async {
        let signals = Signals::new()?;
        let mut session = Session::attach(options, ports, filter, recording)?;
        let reason = session.run(signals, options).await?;
        match reason {
            Some(reason) => session.end(reason).await,
            // The reader of the log has ended.
            None => Ok(()),
        }
    });
    match result {
        Err(error) if is_broken_pipe(&error) => Ok(Exit::Done),
        result => result.map(|()| Exit::Done),
    }
}

/// The namespace that `--netns` names.
fn resolve(argument: &str) -> Result<Netns, Failure> {
    let (id, name) = netns_argument::resolve(argument)
        .map_err(|error| Failure::usage(error.to_string(), netns_argument::NotFound::HINT))?;
    Ok(Netns { id: id.0, name })
}

/// Everything that this host lacks, each with its remedy.
fn require(missing: &[preflight::Missing]) -> Result<(), Failure> {
    if missing.is_empty() {
        return Ok(());
    }
    let sentences: Vec<&str> = missing.iter().map(|missing| missing.sentence.as_str()).collect();
    let hints: Vec<&str> = missing.iter().map(|missing| missing.hint.as_str()).collect();
    Err(Failure::host(sentences.join("\ntracer: "), hints.join("\nhint: ")))
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

/// A trace under way: the parts that the main loop connects.
struct Session {
    ports: Vec<u16>,
    kernel: Kernel,
    stream: EventStream,
    host: Host,
    config_watch: ConfigWatch,
    run: Run,
    recorder: Option<Recorder<File>>,
    sink: Sink,
    /// Events taken since the stream was last found empty.
    burst: usize,
    /// Events taken since memory was last given back.
    taken: usize,
}

impl Session {
    /// Puts the kernel programs in place, and writes the first line.
    fn attach(
        options: &Trace,
        ports: Vec<u16>,
        filter: Option<Netns>,
        recording: Option<&Path>,
    ) -> Result<Self> {
        let recognition = Recognition { patterns: options.server.clone() };
        let servers = recognition.runners().map_or(Servers::Every, Servers::Named);
        let (mut kernel, ring) = loader::attach(&ports, &servers, options.bind_hook, options.verbose)?;
        if options.verbose {
            kernel_log::follow(&mut kernel)?;
        }
        let mut limits = kernel.limits.clone();
        // What comes now reads: the ring, the maps, the host. No thread has been started yet that would keep
        // what this one gives up.
        limits.extend(sandbox::reduce(|| kernel.losses().is_ok()));
        limits.extend(preflight::limits());
        let (config_watch, limit) = ConfigWatch::new();
        limits.extend(limit);
        let setup = Setup {
            run: Uuid::new_v4(),
            now: clock::now(),
            clock: clock::read(),
            count: options.count.and_then(NonZeroU64::new),
            all: options.all,
            undetectable: undetectable(&limits),
            skips_listeners: limits.iter().any(|limit| matches!(limit, Limit::PreemptedPrograms { .. })),
            patterns: options.server.clone(),
            patience_ns: options.patience.and_then(|patience| u64::try_from(patience.as_nanos()).ok()),
            start: start(&kernel, ports.clone(), filter, limits)?,
        };
        let recorder = recording.map(|file| record::begin(file, &setup)).transpose()?;
        let (run, first) = Run::new(setup);
        let mut sink = Sink::stdout(options.output, options.color);
        sink.write(first)?;
        sink.flush()?;
        let host = Host::new(&ports, recognition, process::own_line(), Arc::clone(&kernel.openings));
        let stream = EventStream::new(ring);
        Ok(Self { ports, kernel, stream, host, config_watch, run, recorder, sink, burst: 0, taken: 0 })
    }

    /// The main loop: until a signal, the time or the count ends it; `None`: nothing reads the log any more.
    async fn run(&mut self, mut signals: Signals, options: &Trace) -> Result<Option<StopReason>> {
        // A time too far to be reached does not end the run.
        let after =
            |duration: Option<Duration>| duration.and_then(|duration| Instant::now().checked_add(duration));
        let end = after(options.duration);
        let mut heartbeat = after(options.heartbeat);
        let mut readers = Readers::of_stdout();
        loop {
            let has_more = self.turn()?;
            if self.run.is_full() {
                return Ok(Some(StopReason::Count));
            }
            let deadline = self.deadline();
            tokio::select! {
                biased;
                reason = signals.next() => return Ok(Some(reason)),
                () = sleep_until(end), if end.is_some() => return Ok(Some(StopReason::Duration)),
                () = sleep_until(heartbeat), if heartbeat.is_some() => {
                    heartbeat = after(options.heartbeat);
                    self.take(Input::Alive { now: clock::now() })?;
                }
                // Signals and time come in by the runtime, which has its turn only while nothing is ready.
                () = tokio::task::yield_now(), if has_more => {}
                readable = self.stream.readable(), if !has_more => readable?,
                answer = self.host.answered() => self.answer(answer)?,
                () = self.config_watch.readable() => self.config_changes()?,
                () = readers.closed() => return Ok(None),
                () = sleep_until(deadline), if deadline.is_some() => {}
                () = tokio::time::sleep(QUIET), if !has_more && self.taken > MANY => self.rest(),
            }
        }
    }

    /// Nothing has happened for a moment, after much had.
    fn rest(&mut self) {
        self.taken = 0;
        memory::release();
        memory::release_code();
    }

    /// One turn: a batch of the stream, the answers that are there, and time. Returns whether there may be more.
    fn turn(&mut self) -> Result<bool> {
        self.take(Input::Clock(clock::read()))?;
        let now = clock::now();
        let Batch { events, watermark, has_more } = self.stream.take(&self.kernel);
        self.burst = self.burst.saturating_add(events.len());
        self.taken = self.taken.saturating_add(events.len());
        for event in events {
            self.take(Input::Event { event, now })?;
        }
        for answer in self.host.answers() {
            self.answer(Some(answer))?;
        }
        self.take(Input::Advance { complete_until: watermark, now })?;
        self.hand_out(now);
        self.sink.release(watermark)?;
        self.sink.flush()?;
        if !has_more && std::mem::take(&mut self.burst) > BURST {
            memory::release();
        }
        Ok(has_more)
    }

    /// Gives the run an input, and writes the lines that come of it.
    fn take(&mut self, input: Input) -> Result<()> {
        if let Some(recorder) = &mut self.recorder {
            recorder.input(&input)?;
        }
        for line in self.run.take(input) {
            if let Body::Ready(ready) = &line.body {
                let ready = (ready.namespaces, ready.listeners);
                self.sink.write(line)?;
                self.sink.flush()?;
                announce(ready);
                memory::release_code();
                continue;
            }
            self.sink.write(line)?;
        }
        Ok(())
    }

    fn answer(&mut self, answer: Option<Answer>) -> Result<()> {
        for file in self.host.in_use() {
            self.config_watch.follow(file);
        }
        match answer {
            Some(answer) => self.take(Input::Answer { answer, now: clock::now() }),
            None => Ok(()),
        }
    }

    fn config_changes(&mut self) -> Result<()> {
        for changed in self.config_watch.take() {
            self.take(Input::ConfigChanged { changed, now: clock::now() })?;
        }
        Ok(())
    }

    /// Hands what the core asks to the host, and what it follows to the kernel side.
    fn hand_out(&mut self, now: Mono) {
        self.host.replace_stuck(self.config_watch.watch(), now);
        let Requests { port_changes, queries, follow, watch_names, unfollow, holders } =
            self.run.take_requests();
        // Before the queries: what they show of a port is joined with its events.
        for PortChange { port, is_watched } in port_changes {
            self.kernel.watch(port, is_watched);
        }
        for query in queries {
            self.host.ask(&query, self.config_watch.watch(), now);
        }
        for pid in follow {
            self.kernel.follow(pid);
        }
        for name in watch_names {
            self.kernel.watch_name(name.as_bytes());
        }
        for pid in unfollow {
            self.kernel.unfollow_upstream(pid);
        }
        for (pid, start) in holders {
            self.kernel.follow_upstream(pid, start);
        }
    }

    /// When the next turn is due, whatever comes.
    fn deadline(&self) -> Option<Instant> {
        let deadlines = [self.run.deadline(), self.sink.deadline()];
        deadlines.into_iter().flatten().min().map(instant)
    }

    /// Reports what happened until now, what waits, and what was lost; then writes `stop`.
    async fn end(&mut self, reason: StopReason) -> Result<()> {
        // What happened until now is still reported; what goes on happening is not.
        let ended = clock::now();
        let patience = ended.plus_millis(ENDING_MS);
        while !self.run.is_full() {
            let has_more = self.turn()?;
            let (is_taken, is_late) = (self.run.complete_until() >= ended, clock::now() > patience);
            if is_taken && (is_late || !self.run.is_waiting()) || is_late && !has_more {
                break;
            }
            if !has_more {
                let answer = tokio::time::timeout(Duration::from_millis(1), self.host.answered()).await;
                self.answer(answer.ok().flatten())?;
            }
        }
        let mut lost = self.stream.lost(&self.kernel);
        lost.extend(self.stream.unseen_ends(&self.kernel));
        self.take(Input::Finish { lost, now: clock::now() })?;
        self.sink.release_all()?;
        self.take(Input::Stop { reason, now: clock::now() })?;
        self.recorder.as_mut().map_or(Ok(()), Recorder::flush)?;
        self.sink.flush()?;
        if self.kernel.has_connect() == Some(false) {
            let ports: Vec<String> = self.ports.iter().map(u16::to_string).collect();
            let ports = ports.join(", ");
            talk(format_args!(
                "tracer: 0 connects to {ports} were seen: does the client use another port, a proxy (http_proxy), or \
                 another host?"
            ));
        }
        Ok(())
    }
}

/// The first line.
fn start(kernel: &Kernel, ports: Vec<u16>, filter: Option<Netns>, limits: Vec<Limit>) -> Result<Start> {
    let host = identity::describe();
    let own = netns::own().context("cannot read tracer's own network namespace")?;
    Ok(Start {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        pid: std::process::id(),
        host: host.name,
        kernel: host.release,
        arch: host.machine,
        boot_id: host.boot_id,
        ports,
        own_netns: Netns { id: own.0, name: None },
        netns: filter,
        hooks: kernel.hooks.iter().map(Into::into).collect(),
        limits: limits.iter().map(Into::into).collect(),
    })
}

/// Prints on stderr that the trace is complete from now on.
fn announce((namespaces, listeners): (u64, u64)) {
    talk(format_args!(
        "tracer: ready: {}, {}. Now repeat what failed (ctrl-C stops).",
        counted(namespaces, "network namespace"),
        counted(listeners, "listener"),
    ));
}

/// The runtime's instant of a monotonic moment, which it counts by the same clock.
fn instant(mono: Mono) -> Instant {
    Instant::now() + Duration::from_nanos(mono.since(clock::now()))
}

async fn sleep_until(instant: Option<Instant>) {
    if let Some(instant) = instant {
        tokio::time::sleep_until(instant).await;
    }
}
