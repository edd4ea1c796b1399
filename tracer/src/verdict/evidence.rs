//! What led to a verdict: a classification with the listeners, the binds and the processes that it rests on.

use super::considered::{CONSIDERED_MAX, ConsideredListener, Moment, nearest};
use super::coverage::Destination;
use super::locate::{Place, locate};
use super::rules::{self, Classification};
use super::scene::Scene;
use super::scene::published::Published;
use super::scene::turns::Turns;
use super::server::{KnownBy, Server};
use crate::model::cause::{Because, Cause, Mismatch};
use crate::model::kernel_event::Refused;
use crate::model::process::{ExitStatus, OwnerEnd, Process};
use crate::model::socket::{Listener, NetnsId};
use crate::query::LocalEndpoint;
use crate::state::HostState;
use crate::state::binds::FailedBind;
use crate::state::bound_sockets::BoundSocket;
use crate::state::listeners::ClosedListener;
use crate::state::servers::ServerCandidate;
use crate::state::settings::SHOWN_MAX;

/// The server of a verdict.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerdictServer {
    pub process: Process,
    pub known_by: KnownBy,
    /// Processes of the service that were seen on the port, or are candidates for it: those that ended included.
    pub instances: u64,
}

/// A verdict with its evidence, before it is put into words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    pub cause: Cause,
    /// Empty: certain.
    pub because: Vec<Because>,
    pub destination: Destination,
    /// The process that should have answered.
    pub server: Option<VerdictServer>,
    /// Nearest first, at most [`CONSIDERED_MAX`].
    pub considered: Vec<ConsideredListener>,
    pub total: u64,
    /// With `stopped`: what closed, by the process that closed it; where the server has kept other ports, by the process that
    /// listens on them.
    pub closed: Option<ClosedListener>,
    /// With `stopped`: what the server still listens on, by another process than the one that closed its listener.
    pub kept: Vec<Listener>,
    /// That process, where it failed or was ended by a signal.
    pub failed_closer: Option<(Process, ExitStatus)>,
    /// Binds that failed since one succeeded, the last first.
    pub failed_binds: Vec<FailedBind>,
    /// With `bound-not-listening`: the socket.
    pub bound: Option<BoundSocket>,
    /// Server candidates: with `starting` those that are running, with `never-listened` those that have ended.
    pub candidates: Vec<ServerCandidate>,
    /// With `other-port`, and where another service has used the port: what listens on other ports instead.
    pub elsewhere: Vec<Listener>,
    /// With `stopped`: the services that take the port in turn.
    pub turns: Option<Turns>,
    /// With `other-port`: the forwarder that publishes it there.
    pub published: Option<Published>,
    /// With `not-on-tcp`: what each of the candidates listens on, in their order.
    pub local: Vec<LocalEndpoint>,
    /// With `filtered`: the cause that there would be without the filter.
    pub unfiltered: Option<Cause>,
    /// Where the packet filter is that refused by an ICMP message, as far as that is known.
    pub filter: Option<NetnsId>,
}

impl Verdict {
    /// The processes whose settings a verdict shows: the owners of what listens where the client asked, the candidates,
    /// and the server on another port.
    pub fn servers(&self) -> impl Iterator<Item = &Process> {
        let netns = self.destination.netns;
        let owners = self
            .considered
            .iter()
            .filter(move |one| one.listener.netns == netns && one.mismatch != Some(Mismatch::Closed))
            .map(|one| &one.listener.process);
        let candidates = self.candidates.iter().map(|known| &known.candidate.process);
        let elsewhere = self.kept.iter().chain(&self.elsewhere).map(|listener| &listener.process);
        let mut seen = std::collections::BTreeSet::new();
        let is_new = move |process: &&Process| process.pid.is_some_and(|pid| seen.insert(pid));
        owners.chain(candidates).chain(elsewhere).filter(is_new).take(SHOWN_MAX)
    }
}

/// Gathers what led to a classification.
pub fn gather(refused: &Refused, classification: Classification, state: &HostState) -> Verdict {
    let Classification { cause, because, destination } = classification;
    let scene = Scene::new(refused, locate(refused, state), state);
    let Shown { considered, total } = considered(&scene, &because);
    let candidates = candidates(&scene, cause);
    let published = scene.published().filter(|_| cause == Cause::OtherPort);
    let server = match &published {
        Some(published) => Some(server_behind(published)),
        None => server_of(&scene, cause, &candidates, &considered),
    };
    let server = server.map(|server| VerdictServer {
        process: state.processes.describe(server.process),
        known_by: server.known_by,
        instances: scene.instances(&server),
    });
    Verdict {
        server,
        cause,
        destination,
        considered,
        total,
        closed: closed(&scene, cause),
        kept: kept(&scene, cause).into_iter().cloned().collect(),
        failed_closer: failed_closer(&scene, cause),
        failed_binds: shown_failures(&scene, cause),
        bound: bound(&scene, cause),
        candidates: candidates.into_iter().map(|known| described(known, state)).collect(),
        local: local(&scene, cause),
        filter: scene.packet_filter().map(|filter| filter.netns),
        unfiltered: (cause == Cause::Filtered).then(|| rules::cause_after(Cause::Filtered, &scene)),
        elsewhere: elsewhere(&scene, cause, &because, published.as_ref()),
        because,
        turns: (cause == Cause::Stopped).then(|| scene.turns()).flatten(),
        published,
    }
}

/// A candidate with what was read of its process.
fn described(known: &ServerCandidate, state: &HostState) -> ServerCandidate {
    let mut known = known.clone();
    known.candidate.process = state.processes.describe(&known.candidate.process);
    known
}

/// The listeners that a verdict shows, and how many there are.
struct Shown {
    considered: Vec<ConsideredListener>,
    total: u64,
}

/// The listeners on the port, with those that covered the destination and closed.
fn considered(scene: &Scene<'_>, because: &[Because]) -> Shown {
    let Scene { refused, destination, state, .. } = scene;
    let closed_since = scene.closed_since();
    let (mut considered, mut total) =
        nearest(destination, Moment::of(refused), &state.listeners, closed_since);
    if matches!(scene.place, Place::Nowhere(_)) {
        // The address is in none of the namespaces that they are in.
        considered.iter_mut().for_each(|one| one.mismatch = Some(Mismatch::Netns));
    }
    if let Some(closed) = scene.closed() {
        let several = because.contains(&Because::SeveralOwners);
        let before = several.then(|| scene.predecessor()).flatten();
        let closed = [Some(closed), before].into_iter().flatten();
        let closed = closed.map(|closed| ConsideredListener {
            listener: closed.listener.clone(),
            mismatch: Some(Mismatch::Closed),
        });
        let closed: Vec<ConsideredListener> = closed.collect();
        total += closed.len() as u64;
        // Behind the listener that answers now.
        let at = usize::from(considered.first().is_some_and(|first| first.mismatch.is_none()));
        considered.splice(at..at, closed);
        considered.truncate(CONSIDERED_MAX);
    }
    Shown { considered, total }
}

/// What the server of a listener that has closed still listens on.
fn kept<'a>(scene: &Scene<'a>, cause: Cause) -> Vec<&'a Listener> {
    if cause == Cause::Stopped { scene.kept() } else { Vec::new() }
}

/// That server, where it goes on without the port.
fn keeper<'a>(scene: &Scene<'a>, cause: Cause) -> Option<Server<'a>> {
    (cause == Cause::Stopped).then(|| scene.keeper()).flatten()
}

/// The process that closed its listener, where that was not in order.
fn failed_closer(scene: &Scene<'_>, cause: Cause) -> Option<(Process, ExitStatus)> {
    let closed = scene.closed().filter(|_| keeper(scene, cause).is_some())?;
    match closed.owner {
        OwnerEnd::Ended(status) if status != ExitStatus::Code(0) => {
            Some((closed.listener.process.clone(), status))
        }
        OwnerEnd::Ended(_) | OwnerEnd::Running | OwnerEnd::Unknown => None,
    }
}

/// The listener that closed.
fn closed(scene: &Scene<'_>, cause: Cause) -> Option<ClosedListener> {
    let mut closed = scene.closed().filter(|_| cause == Cause::Stopped)?.clone();
    if let Some(keeper) = keeper(scene, cause) {
        closed.listener.process = scene.state.processes.describe(keeper.process);
        closed.owner = OwnerEnd::Running;
    } else if let Some((first, end)) = scene.end_of_first(&closed) {
        closed.listener.process = first;
        closed.owner = end;
    }
    Some(closed)
}

/// The server candidates that a cause is about.
fn candidates<'a>(scene: &Scene<'a>, cause: Cause) -> Vec<&'a ServerCandidate> {
    match cause {
        Cause::Starting => scene.starting(),
        Cause::Stopped => {
            let starting = scene.starting().into_iter();
            starting.filter(|known| !scene.has_kept(known)).collect()
        }
        Cause::NeverListened => scene.ended(),
        Cause::NotOnTcp => scene.not_on_tcp().into_iter().map(|(known, _)| known).collect(),
        _ => Vec::new(),
    }
}

/// What each of the candidates listens on instead of a TCP port.
fn local(scene: &Scene<'_>, cause: Cause) -> Vec<LocalEndpoint> {
    if cause != Cause::NotOnTcp {
        return Vec::new();
    }
    scene.not_on_tcp().into_iter().map(|(_, endpoint)| endpoint.clone()).collect()
}

/// What listens on other ports instead, and the forwarder that publishes the port.
fn elsewhere(
    scene: &Scene<'_>,
    cause: Cause,
    because: &[Because],
    published: Option<&Published>,
) -> Vec<Listener> {
    let shows_others = cause == Cause::OtherPort || because.contains(&Because::SeveralOwners);
    let kept = kept(scene, cause);
    let elsewhere: Vec<&Listener> = if shows_others {
        scene.elsewhere().into_iter().map(|other| other.listener).collect()
    } else {
        scene.elsewhere_of_failed()
    };
    let is_kept = |other: &&Listener| kept.iter().any(|kept| std::ptr::eq(*kept, *other));
    let elsewhere = elsewhere.into_iter().filter(|other| !is_kept(other));
    let forwarder = published.map(|one| &one.forwarder.listener);
    elsewhere.chain(forwarder).cloned().collect()
}

/// The socket that is bound and does not listen.
fn bound(scene: &Scene<'_>, cause: Cause) -> Option<BoundSocket> {
    let (socket, time) = scene.bound().filter(|_| cause == Cause::BoundNotListening)?;
    Some(BoundSocket { socket: scene.state.described_socket(socket), time })
}

/// The process behind a forwarder; where that is not known, the forwarder, which is known by its name.
fn server_behind(published: &Published) -> Server<'_> {
    match &published.server {
        Some(server) => Server::by(KnownBy::Listener, server),
        None => Server::by(KnownBy::Name, &published.forwarder.listener.process),
    }
}

/// The server as the cause shows it: the newest instance, where the cause is what that did.
fn server_of<'a>(
    scene: &Scene<'a>,
    cause: Cause,
    candidates: &[&'a ServerCandidate],
    considered: &'a [ConsideredListener],
) -> Option<Server<'a>> {
    if let Some(keeper) = keeper(scene, cause) {
        return Some(keeper);
    }
    let newest = match cause {
        Cause::BindFailed => scene.failed_bind().map(|failed| (&failed.socket.process, KnownBy::Bind)),
        Cause::NotOnTcp | Cause::Starting | Cause::NeverListened => candidates.first().map(|known| {
            let has_called = scene.state.binds.has_called(&known.candidate.process);
            (&known.candidate.process, if has_called { KnownBy::Bind } else { KnownBy::Name })
        }),
        // At a reload, the process that holds the new listener.
        Cause::WrongFamily | Cause::WrongAddress => considered
            .iter()
            .find(|one| {
                one.mismatch != Some(Mismatch::Closed) && one.listener.netns == scene.destination.netns
            })
            .map(|one| (&one.listener.process, KnownBy::Listener)),
        _ => None,
    };
    let Some((process, otherwise)) = newest else { return scene.server };
    let known_by = match scene.server {
        Some(server) if server.process.key() == process.key() => server.known_by,
        Some(server)
            if server.is(process)
                && otherwise != KnownBy::Listener
                && (server.known_by <= KnownBy::Service
                    || server.known_by == KnownBy::Bind && otherwise == KnownBy::Name) =>
        {
            KnownBy::Service
        }
        _ => otherwise,
    };
    let has_covered = scene.server.is_some_and(|server| server.has_covered);
    Some(Server { has_covered, ..Server::by(known_by, process) })
}

/// The binds that failed, the one that is the cause first: of those that failed alike the newest, with the count of all.
fn shown_failures(scene: &Scene<'_>, cause: Cause) -> Vec<FailedBind> {
    let decisive = scene.failed_bind().filter(|_| cause == Cause::BindFailed);
    let all: Vec<&FailedBind> = scene.failures().collect();
    let mut shown: Vec<&FailedBind> = Vec::new();
    for failed in decisive.into_iter().chain(all.iter().copied()) {
        if !shown.iter().any(|one| one.is_alike(failed)) {
            shown.push(failed);
        }
    }
    let count = |failed: &FailedBind| {
        let mut counted = failed.counting(all.iter().copied().filter(|one| one.is_alike(failed)));
        counted.socket = scene.state.described_socket(&failed.socket);
        counted
    };
    shown.into_iter().map(count).collect()
}
