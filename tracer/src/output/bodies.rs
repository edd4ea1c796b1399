//! The bodies of lines: findings and counts as the types of the schema.

use std::collections::BTreeMap;

use super::counts::CountsBy;
use super::hints;
use super::reported::Reported;
use super::schema::{self, Body, Confidence, FailedBy, SettingSource};
use super::subject::Subject;
use super::view::View;
use crate::lifecycle::counts::{Counts, RefusalCounts};
use crate::lifecycle::finding::{
    ConfigFinding, FindingKind, ListenerChange, Recovered, RefusalId, RefusedFinding,
};
use crate::lifecycle::repeats::Repeats;
use crate::model::clock::Clock;
use crate::model::errno::Errno;
use crate::model::escape::escape;
use crate::model::kernel_event::{Connected, Failed, Lost, Refused, Role};
use crate::model::process::OwnerEnd;
use crate::model::socket::{Listener, NetnsId};
use crate::model::time::Mono;
use crate::products::Source;
use crate::state::HostState;
use crate::state::binds::FailedBind;
use crate::state::servers::ServerCandidate;
use crate::state::settings::{ConfiguredValue, SettingChange, ValueSource};
use crate::verdict::conflict;
use crate::verdict::considered::CONSIDERED_MAX;
use crate::verdict::coverage::Destination;
use crate::verdict::evidence::Verdict;
use crate::verdict::prospect;

/// Holders of a port shown in one line.
const HELD_BY_MAX: usize = 16;

/// The body of the `stop` line.
pub fn stop(reason: schema::StopReason, counts: Counts) -> Body {
    let Counts { refusals, failed, lost } = counts;
    Body::Stop(schema::Stop {
        reason,
        refused: refusals.refused,
        by_role: by_role(refusals.by_role),
        by_cause: refusals.by_cause.into_values().map(|(cause, count)| (cause.into(), count)).collect(),
        failed: failed.into_iter().map(|(errno, count)| (failed_by(errno), count)).collect(),
        lost,
    })
}

/// The body of an `alive` line.
pub fn alive(counts: &Counts) -> Body {
    let RefusalCounts { refused, by_role: roles, .. } = &counts.refusals;
    Body::Alive(schema::Alive { refused: *refused, by_role: by_role(roles.clone()), lost: counts.lost })
}

fn by_role(counts: BTreeMap<Role, u64>) -> CountsBy<schema::Role> {
    counts.into_iter().map(|(role, count)| (role.into(), count)).collect()
}

/// How a connect failed; `None`: with no error.
fn failed_by(errno: Option<Errno>) -> FailedBy {
    match errno {
        None => FailedBy::GivenUp,
        Some(Errno::ETIMEDOUT) => FailedBy::TimedOut,
        Some(errno) => FailedBy::Errno(errno.to_string()),
    }
}

/// What each local address would get: in the namespace that is asked for, or in each that has a listener and in tracer's
/// own.
pub(super) fn ready(view: View<'_>, only: Option<NetnsId>, ports: &[u16]) -> schema::Ready {
    schema::Ready {
        listeners: view.state.listeners.open().count() as u64,
        namespaces: view.state.namespaces.len() as u64,
        addresses: answers(view, only, ports),
    }
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
                    answered: prospect::is_answered(&destination, listeners),
                });
            }
        }
    }
    answers
}

/// Writes findings as the bodies of lines.
#[derive(Clone, Copy)]
pub(super) struct Writer<'a> {
    pub view: View<'a>,
    pub reported: &'a Reported,
}

impl Writer<'_> {
    pub fn body(self, kind: FindingKind) -> Body {
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
        schema::Repeated { of: self.reported.seq(of), count, processes, first, last }
    }

    fn recovered(self, recovered: Recovered) -> schema::Recovered {
        let Recovered { destination, netns, device, of, after_ns, refusals, processes, listener } = recovered;
        schema::Recovered {
            of: of.into_iter().filter_map(|of| self.reported.seq(of)).collect(),
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
            of: self.reported.seq(of),
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
    pub fn verdict(self, refused: &Refused, verdict: &Verdict) -> schema::Verdict {
        let View { state, clock, .. } = self.view;
        let subject = Subject { refused, verdict, view: self.view, now: refused.time };
        let (summary, hint) = (subject.summary(), hints::hint(&subject));
        let netns = verdict.destination.netns;
        let claims = verdict
            .servers()
            .flat_map(|process| state.settings.values(process, Some(netns), &state.listeners))
            .map(configured)
            .collect();
        let mut listeners = self.view.considered(&verdict.considered);
        let of_other_ports =
            verdict.kept.iter().chain(&verdict.elsewhere).map(|listener| schema::EvaluatedListener {
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
            listeners_total: verdict.total + (verdict.kept.len() + verdict.elsewhere.len()) as u64,
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
        let holders = conflict::holders(asked, listeners, binds);
        let mut open: Vec<&Listener> = holders.listeners().collect();
        open.sort_by_key(|listener| (listener.addr, listener.key.inode));
        if open.is_empty() {
            let shown = holders.queried().into_iter().flatten().take(HELD_BY_MAX);
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
            ValueSource::File(path) => SettingSource::File(escape(path.as_os_str().as_encoded_bytes())),
            ValueSource::Outside(Source::Arguments) => SettingSource::Arguments,
            ValueSource::Outside(Source::Environment(variable)) => SettingSource::of_variable(&variable),
        },
        changed: changed.map(Clock::time_of_wall),
        agrees,
        note,
    }
}
