//! Findings as lines of the log: the one place that gives lines their numbers and their wall-clock times.

use std::collections::BTreeMap;
use std::net::IpAddr;

use uuid::Uuid;

use super::hints;
use super::schema::{self, Body, Confidence, Line, VERSION};
use super::view::View;
use super::wording::Wording;
use crate::lifecycle::core::Counts;
use crate::lifecycle::finding::{
    ConfigFinding, Finding, FindingKind, ListenerChange, Recovered, RefusalId, RefusedFinding,
};
use crate::lifecycle::refusals::RefusalCounts;
use crate::lifecycle::repeats::Repeats;
use crate::model::clock::Clock;
use crate::model::errno::Errno;
use crate::model::escape::escape;
use crate::model::kernel_event::{Connected, Failed, Lost, Refused, Role};
use crate::model::process::OwnerEnd;
use crate::model::socket::{Listener, NetnsId};
use crate::model::time::Mono;
use crate::state::HostState;
use crate::state::binds::FailedBind;
use crate::state::servers::ServerCandidate;
use crate::state::settings::{ConfiguredValue, SettingChange, ValueSource};
use crate::verdict::coverage::{self, Destination};
use crate::verdict::evidence::{self, CONSIDERED_MAX, Verdict};

/// Holders of a port shown in one line.
const HELD_BY_MAX: usize = 16;

/// Reported refusals whose line numbers are remembered, for the lines that follow them.
const REFUSALS_MAX: usize = 65_536;

/// Counts connects that ended with no error: the application gave up.
const GIVEN_UP: &str = "given-up";

/// Makes the lines of one run.
#[derive(Clone, Debug)]
pub struct Lines {
    run: Uuid,
    /// Number of the newest line.
    seq: u64,
    clock: Clock,
    first_clock: Clock,
    /// The line of each reported refusal.
    refusals: BTreeMap<RefusalId, u64>,
}

impl Lines {
    pub fn new(run: Uuid, clock: Clock) -> Self {
        Self { run, seq: 0, clock, first_clock: clock, refusals: BTreeMap::new() }
    }

    /// Follows the wall clock where it has stepped.
    pub fn follow(&mut self, clock: Clock) {
        self.clock = self.clock.followed_by(clock);
    }

    /// The clock that lines are dated by.
    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    /// Numbers and dates a body.
    pub fn line(&mut self, mono: Mono, body: Body) -> Line {
        self.seq += 1;
        let time = self.clock.time(mono);
        Line { v: VERSION, run: self.run, seq: self.seq, time, mono_us: mono.0 / 1_000, body }
    }

    /// The line of a finding, as of what is known now.
    pub fn finding(&mut self, finding: Finding, state: &HostState) -> Line {
        let Finding { mono, kind } = finding;
        if let FindingKind::Refused(refused) = &kind {
            self.refusals.insert(refused.id, self.seq + 1);
            if self.refusals.len() > REFUSALS_MAX {
                self.refusals.pop_first();
            }
        }
        let body = Writer { view: self.view(state), refusals: &self.refusals }.body(kind);
        self.line(mono, body)
    }

    fn view<'a>(&'a self, state: &'a HostState) -> View<'a> {
        View { state, clock: &self.clock, first_clock: &self.first_clock }
    }

    /// What each local address would get: in the namespace that is asked for, or in each that has a listener and in
    /// the tracer's own.
    pub fn ready(&self, state: &HostState, only: Option<NetnsId>, ports: &[u16]) -> schema::Ready {
        schema::Ready {
            listeners: state.listeners.open().count() as u64,
            namespaces: state.namespaces.len() as u64,
            addresses: answers(self.view(state), only, ports),
        }
    }

    /// What a connect made now, inside `netns`, would get; `reader` is the process that asks.
    pub fn status(
        &self,
        state: &HostState,
        (netns, addr, port): (NetnsId, IpAddr, u16),
        reader: super::status::Reader,
    ) -> schema::Status {
        super::status::status(self.view(state), (netns, addr, port), reader)
    }

    /// The verdict on a connect that has not been made.
    pub fn prospect(&self, state: &HostState, refused: &Refused, verdict: &Verdict) -> schema::Verdict {
        Writer { view: self.view(state), refusals: &self.refusals }.verdict(refused, verdict)
    }
}

/// The body of the `stop` line.
pub fn stop(reason: schema::StopReason, counts: Counts) -> Body {
    let Counts { refusals, failed, lost } = counts;
    let name = |errno: Option<Errno>| errno.map_or_else(|| GIVEN_UP.to_owned(), |errno| errno.to_string());
    Body::Stop(schema::Stop {
        reason,
        refused: refusals.refused,
        by_role: by_role(refusals.by_role),
        by_cause: refusals.by_cause.into_values().map(|(cause, count)| (cause.into(), count)).collect(),
        failed: failed.into_iter().map(|(errno, count)| (name(errno), count)).collect(),
        lost,
    })
}

/// The body of an `alive` line.
pub fn alive(counts: &Counts) -> Body {
    let RefusalCounts { refused, by_role: roles, .. } = &counts.refusals;
    Body::Alive(schema::Alive { refused: *refused, by_role: by_role(roles.clone()), lost: counts.lost })
}

fn by_role(counts: BTreeMap<Role, u64>) -> BTreeMap<schema::Role, u64> {
    counts.into_iter().map(|(role, count)| (role.into(), count)).collect()
}

fn answers(view: View<'_>, only: Option<NetnsId>, ports: &[u16]) -> Vec<schema::Answer> {
    let HostState { listeners, namespaces, .. } = view.state;
    let occupied: Vec<NetnsId> = listeners.occupied().collect();
    let mut shown: Vec<_> = namespaces
        .iter()
        .filter(|namespace| match only {
            Some(netns) => netns == namespace.id,
            None => namespace.is_own || occupied.contains(&namespace.id),
        })
        .collect();
    shown.sort_by_key(|namespace| (!namespace.is_own, namespace.id));
    let mut answers = Vec::new();
    for namespace in shown {
        for port in ports {
            for addr in namespace.addresses() {
                let route = namespace.route_to(addr, None);
                let destination = Destination { netns: namespace.id, addr, port: *port, route };
                answers.push(schema::Answer {
                    netns: view.netns(namespace.id),
                    addr: addr.to_string(),
                    port: *port,
                    answered: evidence::is_answered(&destination, listeners),
                });
            }
        }
    }
    answers
}

/// Writes findings as the bodies of lines.
#[derive(Clone, Copy)]
struct Writer<'a> {
    view: View<'a>,
    refusals: &'a BTreeMap<RefusalId, u64>,
}

impl Writer<'_> {
    fn body(self, kind: FindingKind) -> Body {
        match kind {
            FindingKind::Listener { change, listener } => self.listener(change, &listener),
            FindingKind::Returned { call, socket, errno } => Body::Bind(schema::Bind {
                call: call.into(),
                addr: self.view.addr(socket.netns, socket.addr, socket.device),
                port: socket.port,
                netns: self.view.netns(socket.netns),
                process: self.view.process(&socket.process),
                errno: errno.map(|errno| errno.to_string()),
            }),
            FindingKind::Refused(finding) => Body::Refused(Box::new(self.refused(&finding))),
            FindingKind::Repeated(repeats) => Body::Repeated(self.repeated(&repeats)),
            FindingKind::Recovered(recovered) => Body::Recovered(Box::new(self.recovered(*recovered))),
            FindingKind::Fallback { of, connected, after_ns } => {
                Body::Fallback(self.fallback(of, &connected, after_ns))
            }
            FindingKind::Failed(failed) => Body::Failed(Box::new(self.failed(&failed))),
            FindingKind::Config(config) => Body::Config(Box::new(self.config(*config))),
            FindingKind::Lost(Lost { records, place, from, to }) => Body::Lost(schema::Lost {
                records,
                place: place.into(),
                from: self.view.clock.time(from),
                to: self.view.clock.time(to),
            }),
        }
    }

    /// The line of a refusal.
    fn seq(self, of: RefusalId) -> u64 {
        self.refusals.get(&of).copied().unwrap_or_default()
    }

    fn listener(self, change: ListenerChange, listener: &Listener) -> Body {
        let (change, owner, transient) = match change {
            ListenerChange::Present => (schema::Change::Present, None, None),
            ListenerChange::Opened => (schema::Change::Opened, None, None),
            ListenerChange::Closed { owner, is_transient } => {
                (schema::Change::Closed, Some(owner), Some(is_transient))
            }
        };
        let (listener, owner) = (self.view.listener(listener), owner.map(Into::into));
        Body::Listener(Box::new(schema::ListenerLine { change, listener, owner, transient }))
    }

    fn repeated(self, repeats: &Repeats) -> schema::Repeated {
        let Repeats { of, count, processes, first, last } = *repeats;
        let (first, last) = (self.view.clock.time(first), self.view.clock.time(last));
        schema::Repeated { of: self.seq(of), count, processes, first, last }
    }

    fn recovered(self, recovered: Recovered) -> schema::Recovered {
        let Recovered { destination, netns, device, of, after_ns, refusals, processes, listener } = recovered;
        schema::Recovered {
            of: of.into_iter().map(|of| self.seq(of)).collect(),
            dst: self.view.endpoint(netns, destination.addr, Some(destination.port), device),
            netns: self.view.netns(netns),
            after_us: after_ns / 1_000,
            refusals,
            processes,
            listener: self.view.listener(&listener),
        }
    }

    fn fallback(self, of: RefusalId, connected: &Connected, after_ns: u64) -> schema::Fallback {
        let Connected { netns, dst, dst_port, device, .. } = *connected;
        schema::Fallback {
            of: self.seq(of),
            dst: self.view.endpoint(netns, dst, Some(dst_port), device),
            after_us: after_ns / 1_000,
        }
    }

    fn failed(self, failed: &Failed) -> schema::Failed {
        let Failed { time, started, netns, ref client, src, src_port, dst, dst_port, device, errno } =
            *failed;
        schema::Failed {
            client: self.view.process(client),
            src: self.view.endpoint(netns, src, src_port, device),
            dst: self.view.endpoint(netns, dst, Some(dst_port), device),
            netns: self.view.netns(netns),
            errno: errno.map(|errno| errno.to_string()),
            after_us: time.since(started) / 1_000,
        }
    }

    fn config(self, config: ConfigFinding) -> schema::Config {
        let ConfigFinding { path, change, writer, values, changed } = config;
        let change_of =
            |SettingChange { what, from, to }| schema::SettingChange { what: what.to_string(), from, to };
        schema::Config {
            path: escape(path.as_os_str().as_encoded_bytes()),
            change: change.into(),
            process: self.view.process(&writer),
            claims: values.into_iter().map(configured).collect(),
            changed: changed.into_iter().map(change_of).collect(),
        }
    }

    /// The line about a refusal.
    fn refused(self, finding: &RefusedFinding) -> schema::Refused {
        let RefusedFinding { refused, verdict, .. } = finding;
        let Refused { netns, src, src_port, dst, dst_port, device, .. } = *refused;
        schema::Refused {
            client: self.view.process(&refused.client),
            src: self.view.endpoint(netns, src, src_port, device),
            dst: self.view.endpoint(netns, dst, Some(dst_port), device),
            netns: self.view.netns(netns),
            via: refused.via.into(),
            sent_by: refused.sent_by.map(Into::into),
            latency_us: refused.time.since(refused.started) / 1_000,
            role: refused.role.into(),
            verdict: self.verdict(refused, verdict),
        }
    }

    /// What led to a refusal, in words and with its evidence.
    fn verdict(self, refused: &Refused, verdict: &Verdict) -> schema::Verdict {
        let View { state, clock, .. } = self.view;
        let wording = Wording { refused, verdict, view: self.view, now: refused.time };
        let (summary, hint) = (wording.summary(), hints::hint(&wording));
        let netns = verdict.destination.netns;
        let claims = verdict
            .servers()
            .flat_map(|process| state.settings.values(process, Some(netns), &state.listeners))
            .map(configured)
            .collect();
        let mut listeners = self.view.considered(&verdict.considered);
        let of_other_ports = verdict.elsewhere.iter().map(|listener| schema::EvaluatedListener {
            listener: self.view.listener(listener),
            mismatch: Some(schema::Mismatch::Port),
        });
        listeners.extend(of_other_ports.take(CONSIDERED_MAX.saturating_sub(verdict.considered.len())));
        let is_certain = verdict.because.is_empty();
        schema::Verdict {
            cause: verdict.cause.into(),
            confidence: if is_certain { Confidence::Certain } else { Confidence::Degraded },
            because: verdict.because.iter().map(|because| (*because).into()).collect(),
            server: verdict.server.as_ref().map(|server| schema::Server {
                process: self.view.process(&server.process),
                known_by: server.known_by.into(),
                instances: server.instances,
            }),
            listeners,
            listeners_total: verdict.total + verdict.elsewhere.len() as u64,
            failed_binds: verdict.failed_binds.iter().map(|failed| self.failed_bind(failed)).collect(),
            candidates: verdict
                .candidates
                .iter()
                .map(|known| self.candidate(known, refused.time, clock))
                .collect(),
            claims,
            summary,
            hint,
        }
    }

    fn failed_bind(self, failed: &FailedBind) -> schema::FailedBind {
        let FailedBind { call, socket, errno, last, times, .. } = failed;
        schema::FailedBind {
            call: (*call).into(),
            addr: self.view.addr(socket.netns, socket.addr, socket.device),
            port: socket.port,
            netns: self.view.netns(socket.netns),
            process: self.view.process(&socket.process),
            errno: errno.to_string(),
            time: self.view.clock.time(*last),
            times: *times,
            held_by: if *errno == Errno::EADDRINUSE { self.held_by(socket) } else { Vec::new() },
        }
    }

    /// The sockets that kept another from its address: the listeners, else what a query of the port found.
    fn held_by(self, asked: &Listener) -> Vec<schema::HeldBy> {
        let HostState { listeners, binds, .. } = self.view.state;
        let held_by = |socket: &Listener, state: &str| schema::HeldBy {
            addr: self.view.addr(socket.netns, socket.addr, socket.device),
            state: state.to_owned(),
            process: self.view.process(&socket.process),
        };
        let keeps = |socket: &Listener| coverage::conflict(socket, asked);
        let on_port = listeners.open_in(asked.netns).filter(|listener| listener.port == asked.port);
        let on_port = on_port.filter(|listener| keeps(listener));
        let mut open: Vec<&Listener> = on_port.collect();
        open.sort_by_key(|listener| (listener.addr, listener.key.inode));
        if open.is_empty() {
            let holders = binds.holders(asked.netns, asked.port).unwrap_or_default();
            let shown = holders.iter().filter(|holder| keeps(&holder.socket)).take(HELD_BY_MAX);
            return shown.map(|one| held_by(&one.socket, one.state.name())).collect();
        }
        open.into_iter().take(HELD_BY_MAX).map(|listener| held_by(listener, "LISTEN")).collect()
    }

    fn candidate(self, known: &ServerCandidate, now: Mono, clock: &Clock) -> schema::Candidate {
        let until = known.end().map_or(now, |(time, _)| time);
        let end = known.end().map_or(OwnerEnd::Running, |(_, status)| OwnerEnd::Ended(status));
        schema::Candidate {
            process: self.view.process(&known.candidate.process),
            state: end.into(),
            age_us: until.since(known.candidate.since) / 1_000,
            ended: known.end().map(|(time, _)| clock.time(time)),
        }
    }
}

/// A configured value as a line shows it.
pub(super) fn configured(value: ConfiguredValue) -> schema::ConfiguredValue {
    let ConfiguredValue { pid, what, value, source, changed, agrees, note } = value;
    schema::ConfiguredValue {
        pid: Some(pid),
        what,
        value,
        source: match source {
            ValueSource::File(path) => escape(path.as_os_str().as_encoded_bytes()),
            ValueSource::Outside(source) => source.to_string(),
        },
        changed: changed.map(Clock::time_of_wall),
        agrees,
        note,
    }
}
