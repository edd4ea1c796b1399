//! `tracer trace`: attach, then snapshot, then drain.

mod configs;

use std::collections::{BTreeSet, VecDeque};
use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use anyhow::{Context as _, Result};
use aya_log::EbpfLogger;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::Instant;

use crate::cli::Trace;
use crate::clients::Clients;
use crate::clock::Clock;
use crate::correlate::join::{is_disturbed, join, join_holders};
use crate::correlate::wording::counted;
use crate::correlate::{Correlator, Need, Output, Scope};
use crate::decode::{Decoded, decode, is_loss};
use crate::event::{Candidate, Claimed, Configured, Event, Look, Lost, Mono, NetnsId, Refused, Snapshot};
use crate::exit::{Exit, Failure, talk};
use crate::kernel::load::{Kernel, Losses, Servers};
use crate::kernel::ring::Ring;
use crate::kernel::snapshot::Snapshotter;
use crate::kernel::{clock, host, netns, preflight, privilege};
use crate::line::{Body, Cause, ConfigChange, Limit, LostWhere, Netns, Process, Start, StopReason};
use crate::memory;
use crate::process;
use crate::server::Recognition;
use crate::sink::{Readers, Sink};
use configs::{Changed, Configs};

/// Records taken from the ring before signals and time get their turn.
const BATCH: usize = 1_024;

/// How often a dump that listeners closed under is taken again.
const RETAKES: usize = 3;

/// What one event may ask for before it is taken as it is: its namespace, the destination's, all, and then who
/// else is there.
const NEEDS: usize = 12;

/// Batches in a full ring, of the smallest records.
const RING_BATCHES: usize = tracer_ebpf::RING_BYTES as usize / size_of::<tracer_ebpf::Opened>() / BATCH + 1;

/// How long a look at every process goes on before the ring gets its turn.
const DRAIN_NS: u64 = 5_000_000;

/// How long a record that is not finished is waited for: whoever writes it has been interrupted or preempted.
const UNFINISHED_MS: u64 = 5;

/// The same at the end, when nothing else waits.
const ENDING_MS: u64 = 200;

/// Events in the queue that are enough: what comes then, the ring holds.
const QUEUE_MAX: usize = 8 * BATCH;

/// Room in the queue that is kept for the next events.
const QUEUE_KEPT: usize = 2 * BATCH;

/// How long a server's configuration may take to be read: it must not hold the trace up. Enough for a host whose
/// processors are all taken.
const PATIENCE: Duration = Duration::from_secs(1);

/// How long the host is let alone after a look at it has failed.
const BLIND_MS: u64 = 1_000;

/// Runs the trace to its end.
///
/// # Errors
/// A [`Failure`] when the command line or the host is in the way.
pub fn trace(options: &Trace) -> Result<Exit> {
    memory::keep_small();
    let ports = options.ports.list()?;
    let filter = options.netns.as_deref().map(resolve).transpose()?;
    require(&preflight::check())?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let result = runtime.block_on(async {
        let signals = Signals::new()?;
        let (mut session, mut ring) = Session::attach(options, ports, filter)?;
        session.begin(&mut ring)?;
        session.run(&mut ring, signals, options).await
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
    hangup: Option<Signal>,
}

impl Signals {
    fn new() -> Result<Self> {
        // A second signal ends at once, also while stdout takes nothing: from the handler itself.
        let armed = Arc::new(AtomicBool::new(false));
        for (number, exit) in [(SIGINT, i32::from(Exit::Interrupted as u8)), (SIGTERM, 128 + SIGTERM)] {
            signal_hook::flag::register_conditional_shutdown(number, exit, Arc::clone(&armed))?;
            signal_hook::flag::register(number, Arc::clone(&armed))?;
        }
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            // Under nohup(1) it stays ignored.
            hangup: if is_ignored(SIGHUP) { None } else { Some(signal(SignalKind::hangup())?) },
        })
    }

    async fn next(&mut self) -> StopReason {
        let hangup = async {
            match &mut self.hangup {
                Some(hangup) => hangup.recv().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = self.interrupt.recv() => StopReason::Sigint,
            _ = self.terminate.recv() => StopReason::Sigterm,
            _ = hangup => StopReason::Sighup,
        }
    }
}

/// Whether a signal is ignored, as whoever started this process left it.
fn is_ignored(signal: i32) -> bool {
    let mut action = std::mem::MaybeUninit::<libc::sigaction>::uninit();
    // SAFETY: with no new action, the kernel only writes the old one.
    let known = unsafe { libc::sigaction(signal, std::ptr::null(), action.as_mut_ptr()) } == 0;
    // SAFETY: written by the call above, which succeeded.
    known && unsafe { action.assume_init() }.sa_sigaction == libc::SIG_IGN
}

/// A trace under way.
struct Session {
    kernel: Kernel,
    limits: Vec<Limit>,
    snapshotter: Snapshotter,
    correlator: Correlator,
    recognition: Recognition,
    /// This process and those it descends from.
    own_line: Vec<u32>,
    sink: Sink,
    clock: Clock,
    /// Events taken from the ring and not handed on yet.
    queue: VecDeque<Event>,
    clients: Clients,
    configs: Configs,
    ports: Vec<u16>,
    filter: Option<Netns>,
    /// Process ids from the kernel mean nothing in here.
    is_foreign_pid_namespace: bool,
    /// Connects that failed otherwise than by a refusal are told, too.
    tells_failed: bool,
    /// Time of the newest event taken from the ring.
    newest: Mono,
    attached_at: Mono,
    /// Until when the host is not looked at, because that has just failed.
    blind_until: Mono,
    losses: Losses,
    losses_at: Mono,
    undecodable: u64,
}

impl Session {
    /// Puts the kernel programs in place.
    fn attach(options: &Trace, ports: Vec<u16>, filter: Option<Netns>) -> Result<(Self, Ring)> {
        let recognition = Recognition { pattern: options.server.clone() };
        let runners = recognition.runners();
        let servers = Servers { every: runners.is_none(), names: runners.unwrap_or_default() };
        let (mut kernel, ring) = Kernel::attach(&ports, &servers, options.bind_hook, options.verbose)?;
        if options.verbose {
            follow_log(&mut kernel)?;
        }
        let mut limits = kernel.limits.clone();
        // What comes now reads: the ring, the maps, the host. No thread has been started yet that would keep
        // what this one gives up.
        limits.extend(privilege::reduce(|| kernel.losses().is_ok()));
        limits.extend(preflight::limits());
        let (configs, limit) = Configs::new();
        limits.extend(limit);
        let session = Self {
            kernel,
            snapshotter: Snapshotter::new(&ports),
            correlator: Correlator::new(Scope {
                netns: filter.as_ref().map(|netns| NetnsId(netns.id)),
                count: options.count,
                all: options.all,
                undetectable: undetectable(&limits),
                skips_anything: limits.iter().any(|limit| limit.what == "preempted-programs"),
            }),
            limits,
            recognition,
            own_line: process::own_line(),
            sink: Sink::stdout(options.output, options.color),
            clock: clock::read(),
            queue: VecDeque::new(),
            clients: Clients::default(),
            configs,
            ports,
            filter,
            is_foreign_pid_namespace: !process::in_host_pid_namespace(),
            tells_failed: options.all,
            newest: Mono::default(),
            attached_at: clock::now(),
            blind_until: Mono::default(),
            losses: Losses::default(),
            losses_at: clock::now(),
            undecodable: 0,
        };
        Ok((session, ring))
    }

    /// Says what there is, up to `ready`.
    fn begin(&mut self, ring: &mut Ring) -> Result<()> {
        let start = self.start()?;
        self.say(Body::Start(start))?;
        let snapshot = self.take_snapshot(ring, everything, None)?;
        let owners: BTreeSet<u32> =
            snapshot.listeners.iter().filter_map(|listener| listener.process.pid).collect();
        self.apply(Event::Snapshot(snapshot))?;
        for pid in owners {
            let claimed = self.claims(pid);
            self.apply(Event::Claimed(claimed))?;
        }
        let ready = self.correlator.ready(&self.ports);
        let (namespaces, listeners) = (ready.namespaces, ready.listeners);
        self.say(Body::Ready(ready))?;
        self.sink.flush()?;
        talk(format_args!(
            "tracer: ready: {}, {}. Now repeat what failed (ctrl-C stops).",
            counted(namespaces, "network namespace"),
            counted(listeners, "listener"),
        ));
        Ok(())
    }

    /// Turns the crank until a signal, the time or the count says stop.
    async fn run(&mut self, ring: &mut Ring, mut signals: Signals, options: &Trace) -> Result<()> {
        // A time too far to be told is no end.
        let after =
            |duration: Option<Duration>| duration.and_then(|duration| Instant::now().checked_add(duration));
        let end = after(options.duration);
        let mut heartbeat = after(options.heartbeat);
        let mut readers = Readers::of_stdout();
        let reason = loop {
            let more = self.pump(ring)?;
            if self.correlator.is_full() {
                break StopReason::Count;
            }
            let deadlines = [self.correlator.deadline(), self.sink.deadline()];
            // Whatever is due waits for a record that is not finished, which the ring tells of. Not as it was before the
            // last batch was taken: what has been finished and taken since wakes nobody any more.
            let deadline = deadlines.into_iter().flatten().min().filter(|_| ring.is_settled()).map(instant);
            tokio::select! {
                biased;
                reason = signals.next() => break reason,
                () = sleep_until(end), if end.is_some() => break StopReason::Duration,
                () = sleep_until(heartbeat), if heartbeat.is_some() => {
                    heartbeat = after(options.heartbeat);
                    let alive = self.correlator.alive();
                    self.say(alive)?;
                }
                // Signals and time come in by the runtime, which has its turn only while nothing is ready.
                () = tokio::task::yield_now(), if more => {}
                readable = ring.readable(), if !more => readable?,
                () = self.configs.readable() => self.tell_configs()?,
                () = readers.gone() => return Ok(()),
                () = sleep_until(deadline), if deadline.is_some() => {}
            }
        };
        self.end(ring, reason)
    }

    /// Takes a batch of records through decode, correlate and render. Says whether there may be more.
    fn pump(&mut self, ring: &mut Ring) -> Result<bool> {
        self.clock = self.clock.followed_by(clock::read());
        let drained_at = clock::now();
        let more = self.queue.len() >= QUEUE_MAX || self.drain(ring) == BATCH;
        // What is known to be complete: all until the ring was found empty, or the newest of the batch.
        let until = if more || !ring.is_settled() { self.newest } else { drained_at };
        // What looks at the host take from the ring meanwhile waits for the next turn: in a flood it would never end,
        // and signals and time would not have theirs.
        for _ in 0..self.queue.len() {
            let Some(mut event) = self.queue.pop_front() else { break };
            self.fulfil(ring, &mut event)?;
            // A server that has come up, or may: what it says of itself, and where its configuration is.
            let server = match &event {
                Event::Opened(opened) => opened.listener.process.pid,
                Event::Candidate(candidate) => candidate.process.pid,
                _ => None,
            };
            self.apply(event)?;
            if let Some(pid) = server {
                let claimed = self.claims(pid);
                self.apply(Event::Claimed(claimed))?;
            }
        }
        let until = self.waiting_since().map_or(until, |waiting| until.min(waiting));
        let outputs = self.correlator.tick(until, &self.clock);
        self.write_all(outputs)?;
        self.sink.release(until)?;
        self.sink.flush()?;
        // Whoever looked at the host meanwhile has taken more, and may have left some.
        let more = !self.queue.is_empty() || ring.has_more();
        if !more {
            self.shed();
        }
        Ok(more)
    }

    /// When the first event in the queue happened, if there is any.
    fn waiting_since(&self) -> Option<Mono> {
        self.queue.iter().find_map(Event::time)
    }

    /// Gives back what a burst has taken: a ring's worth of events is megabytes.
    fn shed(&mut self) {
        if self.queue.capacity() > QUEUE_KEPT {
            self.queue.shrink_to(BATCH);
            memory::release();
        }
    }

    /// Moves records from the ring to the queue, with what `/proc` says of their processes while it does.
    /// What was lost stands before what came after it.
    fn drain(&mut self, ring: &mut Ring) -> usize {
        let mut records = Vec::new();
        let count = ring.drain(BATCH, |bytes| match decode(bytes) {
            Ok(decoded) => records.push(decoded),
            Err(_) if is_loss(bytes) => {}
            Err(_) => self.undecodable += 1,
        });
        if count > 0 {
            for lost in self.count_losses() {
                self.queue.push_back(Event::Lost(lost));
            }
        }
        self.newest = records
            .iter()
            .filter_map(|decoded| decoded.event.time())
            .max()
            .unwrap_or_default()
            .max(self.newest);
        for decoded in records {
            let event = self.describe(decoded);
            self.queue.extend(event);
        }
        count
    }

    /// What was lost since the last look.
    fn count_losses(&mut self) -> Vec<Lost> {
        let now = clock::now();
        let Ok(losses) = self.kernel.losses() else {
            return Vec::new();
        };
        let Losses { ring, attempts, followed, ends, skipped: _ } = losses.since(&self.losses);
        let since = [
            (LostWhere::Ring, ring),
            (LostWhere::Attempts, attempts),
            (LostWhere::Recursion, ends),
            (LostWhere::Followed, followed),
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
    fn fulfil(&mut self, ring: &mut Ring, event: &mut Event) -> Result<()> {
        if let Some((netns, name)) = self.correlator.known_by_name(event)
            && !netns::is_named(netns, name)
        {
            self.correlator.forget(netns);
        }
        for _ in 0..NEEDS {
            let now = clock::now();
            if now < self.blind_until {
                break;
            }
            let Some(need) = self.correlator.need(event, now) else {
                break;
            };
            match need {
                Need::Candidates => self.find_candidates(ring)?,
                Need::OtherPorts(netns) => {
                    let other_ports = self.snapshotter.other_ports(netns);
                    self.apply(Event::OtherPorts(other_ports))?;
                }
                Need::Holders(netns, port) => {
                    let holders = self.snapshotter.holders(netns, port);
                    self.catch_up(ring, holders.look.ended);
                    let holders = join_holders(holders, &self.queue);
                    self.apply(Event::Holders(holders))?;
                }
                Need::Snapshot => self.look(ring, everything, event)?,
                Need::Namespace(netns, pid) => {
                    let take = |snapshotter: &mut Snapshotter, known: &Correlator| {
                        Ok(snapshotter.listeners_of(netns, pid, |listener| known.knows(listener)))
                    };
                    self.look(ring, take, event)?;
                }
                Need::Owners(netns) => {
                    let known = self.correlator.known_well(netns, now);
                    if let Some(still) = known.and_then(|known| self.snapshotter.owners_still(netns, known)) {
                        self.apply(Event::Snapshot(still))?;
                        continue;
                    }
                    let take = |snapshotter: &mut Snapshotter, known: &Correlator| {
                        Ok(snapshotter.owners_of(netns, |listener| known.owner(listener)))
                    };
                    self.look(ring, take, event)?;
                }
                Need::Claims(pid) => {
                    let claimed = self.claims(pid);
                    self.apply(Event::Claimed(claimed))?;
                }
                Need::Client => {
                    if let Event::Refused(refused) = &mut *event {
                        complete_client(refused);
                    }
                }
            }
        }
        Ok(())
    }

    /// Looks at the host's listeners before `event` is taken.
    fn look(
        &mut self,
        ring: &mut Ring,
        take: impl FnMut(&mut Snapshotter, &Correlator) -> Result<Snapshot>,
        event: &Event,
    ) -> Result<()> {
        let now = clock::now();
        match self.take_snapshot(ring, take, Some(event)) {
            Ok(snapshot) => self.apply(Event::Snapshot(snapshot)),
            // No threads, no descriptors: the weather of an incident, and no reason to stop.
            Err(_) => {
                self.blind_until = now.plus_millis(BLIND_MS);
                self.correlator.blind(Look { began: now, ended: clock::now() });
                Ok(())
            }
        }
    }

    /// Takes everything from the ring that happened until then, and no more than a ring's worth of it. A record that is not
    /// finished is waited for, a moment.
    fn catch_up(&mut self, ring: &mut Ring, until: Mono) {
        let patience = clock::now().plus_millis(UNFINISHED_MS);
        let mut batches = 0;
        while batches < RING_BATCHES {
            let is_full = self.drain(ring) == BATCH;
            batches += usize::from(is_full);
            if self.newest > until || !is_full && (ring.is_settled() || clock::now() > patience) {
                break;
            }
            if !is_full {
                std::thread::yield_now();
            }
        }
    }

    /// Takes a snapshot, as of the moment before `event`, which is at hand, or else before the first event in the
    /// queue.
    fn take_snapshot(
        &mut self,
        ring: &mut Ring,
        mut take: impl FnMut(&mut Snapshotter, &Correlator) -> Result<Snapshot>,
        event: Option<&Event>,
    ) -> Result<Snapshot> {
        let mut retakes = RETAKES;
        loop {
            let snapshot = take(&mut self.snapshotter, &self.correlator)?;
            self.catch_up(ring, snapshot.ended);
            let queued = || event.into_iter().chain(&self.queue);
            if retakes > 0 && is_disturbed(&snapshot, queued()) {
                retakes -= 1;
                continue;
            }
            let snapshot = join(snapshot, queued());
            // The kernel side follows the owners that it has not seen to listen.
            for pid in snapshot.listeners.iter().filter_map(|listener| listener.process.pid) {
                self.kernel.follow(pid);
            }
            return Ok(snapshot);
        }
    }

    /// Looks through the host's processes for some that claim to be the server; those that start from now on
    /// the kernel side tells of.
    fn find_candidates(&mut self, ring: &mut Ring) -> Result<()> {
        let began = clock::now();
        let mut drained_at = began;
        let processes = netns::processes().unwrap_or_default();
        // A `/proc` that has vanished lists nothing, which is no news of anybody.
        let is_complete = processes.iter().any(|(pid, _)| *pid == std::process::id());
        for (pid, _) in processes {
            // On a busy host this takes longer than a flood takes to fill the ring.
            let now = clock::now();
            if now.since(drained_at) > DRAIN_NS && self.queue.len() < QUEUE_MAX {
                self.drain(ring);
                drained_at = now;
            }
            if let Some(candidate) = self.candidate(pid, began) {
                self.apply(Event::Candidate(candidate))?;
            }
        }
        self.correlator.candidates_are_known(Look { began, ended: clock::now() }, is_complete);
        Ok(())
    }

    /// The process as a candidate, if it claims to be the server; its end will be told.
    fn candidate(&mut self, pid: u32, time: Mono) -> Option<Candidate> {
        // Its own arguments hold the pattern, and so do those of the sudo that started it.
        if self.own_line.contains(&pid) {
            return None;
        }
        let claim = process::claim(pid)?;
        let product = self.recognition.recognise(&claim.name, &claim.arguments)?;
        self.kernel.follow(pid);
        let process = process::describe(pid, Some(claim.start_boottime))?;
        let since = self.clock.mono_of_boottime(claim.start_boottime);
        Some(Candidate { time, since, netns: claim.netns, process, product })
    }

    /// What a process says of itself, if it is a server that is known.
    fn claims(&mut self, pid: u32) -> Claimed {
        let claimed = process::claims::claimed(pid, &self.recognition, PATIENCE);
        let file = claimed.claims.as_ref().and_then(|claims| claims.file.as_ref());
        let file = self.configs.follow(pid, file.map(|file| file.path.as_path()));
        Claimed { file, ..claimed }
    }

    /// Tells of the configuration files that have changed.
    fn tell_configs(&mut self) -> Result<()> {
        for changed in self.configs.take() {
            let claimed: Vec<Claimed> = changed.users.iter().map(|pid| self.claims(*pid)).collect();
            let Changed { file, path, change, process, .. } = changed;
            // An editor's second step may be done by now: what was read is what is there in the old one's place.
            let is_there = |claimed: &Claimed| {
                let file = claimed.claims.as_ref().and_then(|claims| claims.file.as_ref());
                file.is_some_and(|file| file.path == path)
            };
            let change = match change {
                ConfigChange::Removed if claimed.iter().any(is_there) => ConfigChange::Replaced,
                change => change,
            };
            let time = clock::now();
            self.apply(Event::Configured(Configured { time, file, path, change, process, claimed }))?;
        }
        Ok(())
    }

    /// The event with what only `/proc` can say of its process, while it still can; `None`: it is none of ours.
    fn describe(&mut self, decoded: Decoded) -> Option<Event> {
        let Decoded { mut event, start_boottime } = decoded;
        let is_foreign = self.is_foreign_pid_namespace;
        let process = match &mut event {
            Event::Opened(opened) => &mut opened.listener.process,
            Event::Closed(closed) => &mut closed.listener.process,
            Event::Refused(refused) => {
                if is_foreign {
                    refused.client = Process::default();
                    refused.client_started = 0;
                } else if self.clients.is_new(refused) {
                    complete_client(refused);
                }
                return Some(event);
            }
            Event::Bound(bound) => &mut bound.socket.process,
            // It is only counted.
            Event::Failed(_) if !self.tells_failed => return Some(event),
            Event::Failed(failed) => &mut failed.client,
            Event::Candidate(candidate) => {
                let pid = candidate.process.pid.filter(|_| !is_foreign)?;
                let time = candidate.time;
                return self.candidate(pid, time).map(Event::Candidate);
            }
            // Process ids that mean nothing here.
            Event::Exited(_) if is_foreign => return None,
            Event::Exited(_)
            | Event::Connected(_)
            | Event::Destroyed(_)
            | Event::Snapshot(_)
            | Event::OtherPorts(_)
            | Event::Holders(_)
            | Event::Claimed(_)
            | Event::Configured(_)
            | Event::Lost(_) => return Some(event),
        };
        if is_foreign {
            *process = Process::default();
        } else {
            process::complete(process, start_boottime);
        }
        Some(event)
    }

    fn apply(&mut self, event: Event) -> Result<()> {
        let outputs = self.correlator.apply(event, &self.clock);
        self.write_all(outputs)
    }

    fn write_all(&mut self, outputs: Vec<Output>) -> Result<()> {
        outputs.into_iter().try_for_each(|output| self.write(output))
    }

    /// Writes a line of the session's own.
    fn say(&mut self, body: Body) -> Result<()> {
        let output = self.correlator.line(clock::now(), body);
        self.write(output)
    }

    fn write(&mut self, output: Output) -> Result<()> {
        Ok(self.sink.write(output, &self.clock)?)
    }

    /// Says what was held back, what was lost unsaid, and `stop`.
    fn end(&mut self, ring: &mut Ring, reason: StopReason) -> Result<()> {
        // What happened until now is still told; what goes on happening is not.
        let now = clock::now();
        let patience = now.plus_millis(ENDING_MS);
        while !self.correlator.is_full() && self.waiting_since().unwrap_or(self.newest) < now {
            if !self.pump(ring)? {
                if ring.is_settled() || clock::now() > patience {
                    break;
                }
                std::thread::sleep(Duration::from_millis(1));
            }
        }
        let outputs = self.correlator.finish(&self.clock);
        self.write_all(outputs)?;
        let mut losses = self.count_losses();
        let unseen = self.kernel.unseen_ends();
        if unseen > 0 {
            losses.push(Lost {
                records: unseen,
                place: LostWhere::Recursion,
                from: self.attached_at,
                to: clock::now(),
            });
        }
        for lost in losses {
            self.apply(Event::Lost(lost))?;
        }
        self.sink.release(Mono(u64::MAX))?;
        let stop = self.correlator.stop(reason);
        self.say(stop)?;
        Ok(self.sink.flush()?)
    }

    fn start(&self) -> Result<Start> {
        let host = host::describe();
        let own = netns::own().context("cannot read tracer's own network namespace")?;
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
            limits: self.limits.clone(),
        })
    }
}

/// Looks at every namespace.
fn everything(snapshotter: &mut Snapshotter, known: &Correlator) -> Result<Snapshot> {
    snapshotter.take(|listener| known.knows(listener))
}

/// Adds what `/proc` says of a client, while it still can.
fn complete_client(refused: &mut Refused) {
    process::complete(&mut refused.client, refused.client_started);
    refused.client_started = 0;
}

/// The first cause that a host with these limits gives no sign of.
fn undetectable(limits: &[Limit]) -> Option<Cause> {
    let cause = |limit: &Limit| match limit.what.as_str() {
        "no-binds" => Some(Cause::BindFailed),
        // Who claims to be the server is not seen.
        "owners" | "hidden-processes" => Some(Cause::Starting),
        // Without exits, a candidate that has ended seems to be starting.
        "no-bound-sockets" | "bound-before-start" | "no-exits" => Some(Cause::BoundNotListening),
        _ => None,
    };
    limits.iter().filter_map(cause).min()
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
        talk(format_args!("tracer: kernel: {}", record.args()));
    }

    fn flush(&self) {}
}
