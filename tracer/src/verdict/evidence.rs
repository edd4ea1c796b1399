//! What led to a verdict: the listeners that were considered, failed binds, candidates.

use super::coverage::{self, Destination};
use super::locate::{Place, locate};
use super::published::Published;
use super::rules::{self, Classification};
use super::scene::{Scene, WILDCARDS, is_shown, mismatch_at, was_there};
use super::server::{KnownBy, Server};
use super::turns::Turns;
use crate::model::cause::{Because, Cause, Mismatch};
use crate::model::kernel_event::Refused;
use crate::model::process::Process;
use crate::model::socket::{Listener, NetnsId};
use crate::model::time::Mono;
use crate::query::LocalEndpoint;
use crate::state::HostState;
use crate::state::binds::{BoundSocket, FailedBind};
use crate::state::listeners::{ClosedListener, Listeners};
use crate::state::namespaces::Namespaces;
use crate::state::servers::ServerCandidate;
use crate::state::settings::SHOWN_MAX;
use std::net::IpAddr;

/// Listeners shown in one verdict.
pub const CONSIDERED_MAX: usize = 16;

/// A listener beside the connect that it did not answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsideredListener {
    pub listener: Listener,
    pub mismatch: Option<Mismatch>,
}

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
    /// With `stopped`: what closed.
    pub closed: Option<ClosedListener>,
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
        let elsewhere = self.elsewhere.iter().map(|listener| &listener.process);
        let mut seen = std::collections::BTreeSet::new();
        let is_new = move |process: &&Process| process.pid.is_some_and(|pid| seen.insert(pid));
        owners.chain(candidates).chain(elsewhere).filter(is_new).take(SHOWN_MAX)
    }
}

/// Gathers what led to a classification.
pub fn gather(refused: &Refused, classification: Classification, state: &HostState) -> Verdict {
    let Classification { cause, because, destination } = classification;
    let scene = Scene::new(refused, locate(refused, state), state);
    let closed_since = scene.closed_since();
    let moments = (refused.started, refused.time);
    let (mut considered, mut total) = nearest(&destination, moments, &state.listeners, closed_since);
    if matches!(scene.place, Place::Nowhere(_)) {
        // The address is in none of the namespaces that they are in.
        considered.iter_mut().for_each(|one| one.mismatch = Some(Mismatch::Netns));
    }
    let closed = scene.closed();
    if let Some(closed) = closed {
        let at = usize::from(considered.first().is_some_and(|first| first.mismatch.is_none()));
        let one = ConsideredListener { listener: closed.listener.clone(), mismatch: Some(Mismatch::Closed) };
        considered.insert(at, one);
        total += 1;
        if because.contains(&Because::SeveralOwners)
            && let Some(before) = scene.predecessor()
        {
            let mismatch = Some(Mismatch::Closed);
            considered.insert(at + 1, ConsideredListener { listener: before.listener.clone(), mismatch });
            total += 1;
        }
        considered.truncate(CONSIDERED_MAX);
    }
    let candidates = match cause {
        Cause::Starting => scene.starting(),
        Cause::NeverListened => scene.ended(),
        Cause::NotOnTcp => scene.not_on_tcp().into_iter().map(|(known, _)| known).collect(),
        Cause::Stopped => scene.starting(),
        _ => Vec::new(),
    };
    let local = match cause {
        Cause::NotOnTcp => scene.not_on_tcp().into_iter().map(|(_, endpoint)| endpoint.clone()).collect(),
        _ => Vec::new(),
    };
    let shows_others = cause == Cause::OtherPort || because.contains(&Because::SeveralOwners);
    let elsewhere: Vec<&Listener> = if shows_others {
        scene.elsewhere().into_iter().map(|other| other.listener).collect()
    } else {
        scene.elsewhere_of_failed()
    };
    let published = scene.published().filter(|_| cause == Cause::OtherPort);
    let elsewhere = elsewhere.into_iter().chain(published.iter().map(|one| &one.forwarder.listener));
    let elsewhere = elsewhere.cloned().collect();
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
        because,
        destination,
        considered,
        total,
        closed: closed.filter(|_| cause == Cause::Stopped).cloned(),
        failed_binds: shown_failures(&scene, cause),
        bound: scene
            .bound()
            .filter(|_| cause == Cause::BoundNotListening)
            .map(|(socket, time)| BoundSocket { socket: state.described_socket(socket), time }),
        candidates: candidates.into_iter().cloned().collect(),
        local,
        filter: scene.packet_filter().map(|filter| filter.netns),
        unfiltered: (cause == Cause::Filtered).then(|| rules::cause_after(Cause::Filtered, &scene)),
        elsewhere,
        turns: (cause == Cause::Stopped).then(|| scene.turns()).flatten(),
        published: published.clone(),
    }
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
                && server.known_by <= KnownBy::Service =>
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

/// How near a listener was to answering: the order in which they are shown. A cause that one of them decides
/// is decided by the nearest, so that none is decided by a listener that is not shown.
fn distance(listener: &Listener, mismatch: Option<Mismatch>, destination: &Destination) -> u8 {
    match mismatch {
        None => 0,
        Some(Mismatch::Closed) => 1,
        Some(Mismatch::Device) => 2,
        Some(Mismatch::V6only | Mismatch::Family)
            if coverage::answers_other_family(listener, destination) =>
        {
            3
        }
        Some(Mismatch::V6only) => 4,
        Some(Mismatch::Family) => 5,
        Some(Mismatch::Address) => 6,
        Some(Mismatch::NotYet) => 7,
        Some(Mismatch::Port) => 8,
        Some(Mismatch::Netns) => 9,
    }
}

/// A listener with how near it was to answering, and why it did not.
type Near<'a> = (u8, &'a Listener, Option<Mismatch>);

/// The listeners on the port in every namespace that had opened when the connect was refused, or would have answered had
/// they, in no order.
fn on_port<'a>(
    destination: &'a Destination,
    (connected, refused): (Mono, Mono),
    listeners: &'a Listeners,
) -> impl Iterator<Item = Near<'a>> {
    let on_port = listeners.open().filter(|listener| listener.port == destination.port);
    on_port
        .map(move |listener| beside(listener, destination, connected))
        .filter(move |(_, listener, mismatch)| is_shown(listener, *mismatch, refused))
}

fn beside<'a>(listener: &'a Listener, destination: &Destination, connected: Mono) -> Near<'a> {
    let mismatch = mismatch_at(listener, destination, connected);
    (distance(listener, mismatch, destination), listener, mismatch)
}

/// What they are ordered by, the nearest first.
fn order((distance, listener, _): &Near<'_>) -> impl Ord + use<> {
    (*distance, listener.netns, listener.addr, listener.process.pid, listener.key.inode)
}

/// The listeners on the port in every namespace, and those that have closed since, nearest first, and how many there are.
fn nearest<'a>(
    destination: &'a Destination,
    moments: (Mono, Mono),
    listeners: &'a Listeners,
    closed_since: impl Iterator<Item = &'a Listener>,
) -> (Vec<ConsideredListener>, u64) {
    let closed_since = closed_since.map(|listener| beside(listener, destination, moments.0));
    let mut near: Vec<Near<'_>> = on_port(destination, moments, listeners).chain(closed_since).collect();
    let total = near.len() as u64;
    if near.len() > CONSIDERED_MAX {
        near.select_nth_unstable_by_key(CONSIDERED_MAX - 1, order);
        near.truncate(CONSIDERED_MAX);
    }
    near.sort_unstable_by_key(order);
    let considered = near
        .into_iter()
        .map(|(_, listener, mismatch)| ConsideredListener { listener: listener.clone(), mismatch })
        .collect();
    (considered, total)
}

/// What a client inside a namespace would get from an address now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prospect {
    pub destination: Destination,
    pub answered: bool,
    /// Nearest first, at most [`CONSIDERED_MAX`].
    pub considered: Vec<ConsideredListener>,
    pub total: u64,
}

/// Finds what a connect made now, inside `netns`, would get.
pub fn foresee(
    netns: NetnsId,
    addr: IpAddr,
    port: u16,
    listeners: &Listeners,
    namespaces: &Namespaces,
) -> Prospect {
    let route = namespaces.get(netns).and_then(|namespace| namespace.route_to(addr, None));
    let destination = Destination { netns, addr, port, route };
    let (considered, total) = nearest(&destination, (Mono::MAX, Mono::MAX), listeners, std::iter::empty());
    Prospect { destination, answered: is_answered(&destination, listeners), considered, total }
}

/// Whether a connect made now would be answered.
pub fn is_answered(destination: &Destination, listeners: &Listeners) -> bool {
    let Destination { netns, addr, port, .. } = *destination;
    let mut near = WILDCARDS.into_iter().chain([addr]).flat_map(|addr| listeners.bound_to(netns, addr, port));
    destination.route.is_some() && near.any(|listener| coverage::mismatch(listener, destination).is_none())
}

/// Whether a connect made when another was refused would have been answered.
pub fn was_answered(destination: &Destination, refused: Mono, listeners: &Listeners) -> bool {
    let Destination { netns, addr, port, .. } = *destination;
    let near = WILDCARDS.into_iter().chain([addr]).flat_map(|addr| listeners.bound_to(netns, addr, port));
    let mut near = near.chain(listeners.closed_after(refused).map(|closed| &closed.listener));
    let answers = |listener: &Listener| {
        was_there(listener, refused) && coverage::mismatch(listener, destination).is_none()
    };
    destination.route.is_some() && near.any(answers)
}
