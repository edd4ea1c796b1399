//! `tracer trace`: attach, then snapshot, then drain.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use anyhow::{Context as _, Result};
use aya_log::EbpfLogger;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::Instant;

use crate::cli::Trace;
use crate::clock::Clock;
use crate::correlate::join::{is_disturbed, join};
use crate::correlate::{Correlator, Need, Output};
use crate::decode::{Decoded, decode};
use crate::event::{Event, Lost, Mono, NetnsId, Snapshot};
use crate::exit::{Exit, Failure};
use crate::kernel::load::{Kernel, Losses};
use crate::kernel::ring::Ring;
use crate::kernel::snapshot::Snapshotter;
use crate::kernel::{clock, host, netns, preflight};
use crate::line::{Body, LostWhere, Netns, Process, Start, StopReason};
use crate::process;
use crate::sink::Sink;

/// Records taken from the ring before signals and time get their turn.
const BATCH: usize = 1_024;

/// How often a dump that listeners closed under is taken again.
const RETAKES: usize = 3;

/// What one event may ask for before it is taken as it is: its namespace, then all.
const NEEDS: usize = 3;

/// Runs the trace to its end.
///
/// # Errors
/// A [`Failure`] when the command line or the host is in the way.
pub fn trace(options: &Trace) -> Result<Exit> {
    let ports = options.ports.list()?;
    let filter = options.netns.as_deref().map(resolve).transpose()?;
    require(&preflight::check())?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let result = runtime.block_on(async {
        let signals = Signals::new()?;
        let (mut session, mut ring) = Session::attach(options, ports, filter)?;
        session.begin(&mut ring)?;
        session.run(&mut ring, signals, options.duration).await
    });
    match result {
        // Whoever read the log has seen enough.
        Err(error) if is_broken_pipe(&error) => Ok(Exit::Done),
        result => result.map(|()| Exit::Done),
    }
}

/// The namespace that `--netns` names.
fn resolve(argument: &str) -> Result<Netns, Failure> {
    let (id, name) =
        netns::resolve(argument).map_err(|error| Failure::usage(error.to_string(), netns::NotFound::HINT))?;
    Ok(Netns { id: id.0, name })
}

/// Everything that this host lacks, each with its cure.
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

/// The signals that end a trace in order.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
}

impl Signals {
    fn new() -> Result<Self> {
        // A second SIGINT ends at once, also while stdout takes nothing: from the handler itself.
        let interrupted = Arc::new(AtomicBool::new(false));
        let sigint = signal_hook::consts::SIGINT;
        let code = i32::from(Exit::Interrupted as u8);
        signal_hook::flag::register_conditional_shutdown(sigint, code, Arc::clone(&interrupted))?;
        signal_hook::flag::register(sigint, interrupted)?;
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    async fn next(&mut self) -> StopReason {
        tokio::select! {
            _ = self.interrupt.recv() => StopReason::Sigint,
            _ = self.terminate.recv() => StopReason::Sigterm,
            _ = self.hangup.recv() => StopReason::Sighup,
        }
    }
}

/// A trace under way.
struct Session {
    kernel: Kernel,
    snapshotter: Snapshotter,
    correlator: Correlator,
    sink: Sink,
    clock: Clock,
    /// Events taken from the ring and not handed on yet.
    queue: VecDeque<Event>,
    ports: Vec<u16>,
    filter: Option<Netns>,
    /// Process ids from the kernel mean nothing in here.
    is_foreign_pid_namespace: bool,
    losses: Losses,
    losses_at: Mono,
    undecodable: u64,
}

impl Session {
    /// Puts the kernel programs in place.
    fn attach(options: &Trace, ports: Vec<u16>, filter: Option<Netns>) -> Result<(Self, Ring)> {
        let (mut kernel, ring) = Kernel::attach(&ports, options.verbose)?;
        if options.verbose {
            follow_log(&mut kernel)?;
        }
        let session = Self {
            kernel,
            snapshotter: Snapshotter::new(&ports),
            correlator: Correlator::new(filter.as_ref().map(|netns| NetnsId(netns.id))),
            sink: Sink::stdout(options.output, options.color, options.count),
            clock: clock::read(),
            queue: VecDeque::new(),
            ports,
            filter,
            is_foreign_pid_namespace: !process::in_host_pid_namespace(),
            losses: Losses::default(),
            losses_at: clock::now(),
            undecodable: 0,
        };
        Ok((session, ring))
    }

    /// Says what there is, up to `ready`.
    fn begin(&mut self, ring: &mut Ring) -> Result<()> {
        self.write(Output { mono: clock::now(), body: Body::Start(self.start()?) })?;
        let snapshot = self.take_snapshot(ring, Need::Snapshot)?;
        self.apply(Event::Snapshot(snapshot))?;
        let ready = self.correlator.ready(&self.ports);
        let (namespaces, listeners) = (ready.namespaces, ready.listeners);
        self.write(Output { mono: clock::now(), body: Body::Ready(ready) })?;
        self.sink.flush()?;
        eprintln!(
            "tracer: ready: {}, {}. Now repeat what failed (ctrl-C stops).",
            counted(namespaces, "network namespace"),
            counted(listeners, "listener"),
        );
        Ok(())
    }

    /// Turns the crank until a signal, the time or the count says stop.
    async fn run(&mut self, ring: &mut Ring, mut signals: Signals, duration: Option<Duration>) -> Result<()> {
        let end = duration.map(|duration| Instant::now() + duration);
        let reason = loop {
            let more = self.pump(ring)?;
            if self.sink.is_full() {
                break StopReason::Count;
            }
            let deadline = self.correlator.deadline().map(instant);
            tokio::select! {
                biased;
                reason = signals.next() => break reason,
                () = sleep_until(end), if end.is_some() => break StopReason::Duration,
                () = std::future::ready(()), if more => {}
                readable = ring.readable() => readable?,
                () = sleep_until(deadline), if deadline.is_some() => {}
            }
        };
        self.end(ring, reason)
    }

    /// Takes a batch of records through decode, correlate and render. Says whether there may be more.
    fn pump(&mut self, ring: &mut Ring) -> Result<bool> {
        self.clock = clock::read();
        let drained_at = clock::now();
        let more = self.drain(ring) == BATCH;
        while let Some(event) = self.queue.pop_front() {
            self.fulfil(ring, &event)?;
            self.apply(event)?;
        }
        // Only what happened before the ring was found empty is known to be complete.
        if !more {
            let outputs = self.correlator.tick(drained_at, &self.clock);
            self.write_all(outputs)?;
        }
        self.sink.flush()?;
        Ok(more)
    }

    /// Moves records from the ring to the queue, with what `/proc` says of their processes while it does.
    /// What was lost stands before what came after it.
    fn drain(&mut self, ring: &mut Ring) -> usize {
        let mut records = Vec::new();
        let count = ring.drain(BATCH, |bytes| match decode(bytes) {
            Ok(decoded) => records.push(decoded),
            Err(_) => self.undecodable += 1,
        });
        if count > 0 {
            for lost in self.count_losses() {
                self.queue.push_back(Event::Lost(lost));
            }
        }
        let is_foreign = self.is_foreign_pid_namespace;
        self.queue.extend(records.into_iter().map(|decoded| describe(decoded, is_foreign)));
        count
    }

    /// What was lost since the last look.
    fn count_losses(&mut self) -> Vec<Lost> {
        let now = clock::now();
        let Ok(losses) = self.kernel.losses() else {
            return Vec::new();
        };
        let since = [
            (LostWhere::Ring, losses.ring - self.losses.ring),
            (LostWhere::Attempts, losses.attempts - self.losses.attempts),
            (LostWhere::Decode, std::mem::take(&mut self.undecodable)),
        ];
        let (from, to) = (self.losses_at, now);
        self.losses = losses;
        self.losses_at = now;
        since
            .into_iter()
            .filter(|(_, records)| *records > 0)
            .map(|(place, records)| Lost { records, place, from, to })
            .collect()
    }

    /// Tells the correlator what it must know before it can take `event`.
    fn fulfil(&mut self, ring: &mut Ring, event: &Event) -> Result<()> {
        for _ in 0..NEEDS {
            let Some(need) = self.correlator.need(event, clock::now()) else {
                break;
            };
            let snapshot = self.take_snapshot(ring, need)?;
            self.apply(Event::Snapshot(snapshot))?;
        }
        Ok(())
    }

    /// Looks at the host's listeners, as of the moment before the first event in the queue.
    fn take_snapshot(&mut self, ring: &mut Ring, need: Need) -> Result<Snapshot> {
        let mut retakes = RETAKES;
        loop {
            let snapshot = match need {
                Need::Snapshot => self.snapshotter.take()?,
                Need::Namespace(netns, pid) => self.snapshotter.listeners_of(netns, pid),
            };
            self.drain(ring);
            if retakes > 0 && is_disturbed(&snapshot, &self.queue) {
                retakes -= 1;
                continue;
            }
            return Ok(join(snapshot, &self.queue));
        }
    }

    fn apply(&mut self, event: Event) -> Result<()> {
        let outputs = self.correlator.apply(event, &self.clock);
        self.write_all(outputs)
    }

    fn write_all(&mut self, outputs: Vec<Output>) -> Result<()> {
        outputs.into_iter().try_for_each(|output| self.write(output))
    }

    fn write(&mut self, output: Output) -> Result<()> {
        Ok(self.sink.write(output, &self.clock)?)
    }

    /// Says what was held back, what was lost unsaid, and `stop`.
    fn end(&mut self, ring: &mut Ring, reason: StopReason) -> Result<()> {
        while self.pump(ring)? && !self.sink.is_full() {}
        let outputs = self.correlator.finish(&self.clock);
        self.write_all(outputs)?;
        let mut losses = self.count_losses();
        let skipped = self.kernel.recursion_misses();
        if skipped > 0 {
            losses.push(Lost {
                records: skipped,
                place: LostWhere::Recursion,
                from: self.losses_at,
                to: clock::now(),
            });
        }
        for lost in losses {
            self.apply(Event::Lost(lost))?;
        }
        let stop = self.sink.stop(reason);
        self.write(Output { mono: clock::now(), body: stop })?;
        Ok(self.sink.flush()?)
    }

    fn start(&self) -> Result<Start> {
        let host = host::describe();
        let own = netns::own().context("cannot read tracer's own network namespace")?;
        let mut limits = self.kernel.limits.clone();
        limits.extend(preflight::limits());
        Ok(Start {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            host: host.name,
            kernel: host.release,
            arch: host.machine,
            boot_id: host.boot_id,
            ports: self.ports.clone(),
            own_netns: Netns { id: own.0, name: None },
            netns: self.filter.clone(),
            hooks: self.kernel.hooks.clone(),
            limits,
        })
    }
}

/// The event with what only `/proc` can say of its process, while it still can.
fn describe(decoded: Decoded, is_foreign_pid_namespace: bool) -> Event {
    let Decoded { mut event, start_boottime } = decoded;
    let process = match &mut event {
        Event::Opened(opened) => &mut opened.listener.process,
        Event::Closed(closed) => &mut closed.listener.process,
        Event::Refused(refused) => &mut refused.client,
        Event::Snapshot(_) | Event::Lost(_) => return event,
    };
    if is_foreign_pid_namespace {
        *process = Process::default();
    } else {
        process::complete(process, start_boottime);
    }
    event
}

/// `1 listener`, `2 listeners`.
fn counted(count: u64, what: &str) -> String {
    if count == 1 { format!("{count} {what}") } else { format!("{count} {what}s") }
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

/// Prints the kernel programs' own messages on stderr, as long as the session lasts.
fn follow_log(kernel: &mut Kernel) -> Result<()> {
    let logger: EbpfLogger<Stderr> = kernel.logger(Stderr)?;
    // SAFETY: the logger owns its map's descriptor, gives the same one every time, and is dropped with the
    // `AsyncFd` that owns it.
    let mut logger = unsafe { AsyncFd::register_with_interest(logger, Interest::READABLE) }
        .map_err(|error| Failure::host("cannot follow the kernel programs' messages", error.to_string()))?;
    tokio::task::spawn(async move {
        while let Ok(mut guard) = logger.readable_mut().await {
            guard.get_inner_mut().flush();
            guard.clear_ready();
        }
    });
    Ok(())
}

/// Writes messages to stderr.
struct Stderr;

impl log::Log for Stderr {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        eprintln!("tracer: kernel: {}", record.args());
    }

    fn flush(&self) {}
}
