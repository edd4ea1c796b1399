//! The verdict: why nobody answered. The first cause that matches wins.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::binds::{Binds, BoundSocket, Failure};
use super::coverage::{self, Destination};
use super::listeners::{Gone, Table};
use super::namespaces::Namespaces;
use super::servers::{Known, Servers};
use crate::event::{Listener, Mono, NetnsId, Refused};
use crate::line::{Because, Cause, Mismatch, SentBy, Via};

/// How close to a connect a listener must open or close for the order of the two to be in doubt: the
/// state change is seen before the socket is hashed when it opens, and after it is unhashed when it
/// closes (`inet_csk_listen_start`, `tcp_set_state`).
pub const DOUBT_NS: u64 = 10_000_000;

/// What the tracer itself may have missed, or cannot see.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Health {
    /// The snapshot is complete.
    pub ready: bool,
    /// Records were lost, and the listeners were not read again since.
    pub lost: bool,
    /// The ends of some processes are not told: a server may have ended.
    pub ends_untold: bool,
    /// The first cause that this host gives no sign of: those after it could be this one.
    pub undetectable: Option<Cause>,
}

/// A listener beside the connect that it did not answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WeighedListener {
    pub listener: Listener,
    pub mismatch: Option<Mismatch>,
}

/// A verdict without its evidence: all that a refusal like one already told needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    pub cause: Cause,
    /// Empty: certain.
    pub because: Vec<Because>,
    /// The namespace that the address is local in, which may be another than the client's; the
    /// client's, when it is local nowhere.
    pub destination: Destination,
}

/// A verdict with its evidence, before it is put into words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judgement {
    pub cause: Cause,
    /// Empty: certain.
    pub because: Vec<Because>,
    pub destination: Destination,
    /// Nearest first, at most [`WEIGHED_MAX`].
    pub weighed: Vec<WeighedListener>,
    pub total: u64,
    /// With `stopped`: what closed.
    pub gone: Option<Gone>,
    /// Binds that failed since one succeeded, the last first.
    pub failures: Vec<Failure>,
    /// With `bound-not-listening`: the socket.
    pub bound: Option<BoundSocket>,
    /// Processes that claim to be the server: with `starting` those that live, with `never-listened` those that
    /// have ended.
    pub candidates: Vec<Known>,
    /// With `other-port`: what the server listens on.
    pub elsewhere: Vec<Listener>,
}

/// Everything that a verdict is judged by.
#[derive(Clone, Copy, Debug)]
pub struct World<'a> {
    pub table: &'a Table,
    pub namespaces: &'a Namespaces,
    pub binds: &'a Binds,
    pub servers: &'a Servers,
    pub health: Health,
}

/// Listeners shown in one verdict.
pub const WEIGHED_MAX: usize = 16;

/// What a listener on every address is bound to.
const WILDCARDS: [IpAddr; 2] = [IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpAddr::V6(Ipv6Addr::UNSPECIFIED)];

/// Where a destination is local.
enum Place {
    Here(Destination),
    Elsewhere { destination: Destination, ambiguous: bool },
    Nowhere(Destination),
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

fn locate(refused: &Refused, table: &Table, namespaces: &Namespaces) -> Place {
    let to = |netns: NetnsId, route| Destination { netns, addr: refused.dst, port: refused.dst_port, route };
    let here = namespaces.get(refused.netns);
    if let Some(route) = here.and_then(|namespace| namespace.route_to(refused.dst, refused.device)) {
        return Place::Here(to(refused.netns, Some(route)));
    }
    // Loopback is never routed out; and a namespace that could not be read is given the benefit.
    if refused.dst.is_loopback() || here.is_none() {
        return Place::Here(to(refused.netns, None));
    }
    let mut found: Vec<_> = namespaces
        .iter()
        .filter(|namespace| namespace.id != refused.netns)
        .filter_map(|namespace| Some(to(namespace.id, Some(namespace.route_to(refused.dst, None)?))))
        .collect();
    // Of several, one that has a listener on the port is the likelier one; then the lowest number, so
    // that the same refusal gets the same verdict.
    found.sort_by_key(|place| (table.count_in(place.netns, place.port) == 0, place.netns));
    match found.first() {
        None => Place::Nowhere(to(refused.netns, None)),
        Some(destination) => Place::Elsewhere { destination: *destination, ambiguous: found.len() > 1 },
    }
}

/// A refusal among what is known. Nothing in here walks all listeners of a port: there may be ten thousand.
struct Scene<'a> {
    refused: &'a Refused,
    destination: Destination,
    world: World<'a>,
}

impl<'a> Scene<'a> {
    /// The listeners that an address could lead to: those bound to it, to its counterpart or to a wildcard, in the
    /// namespace.
    fn near(&self) -> impl Iterator<Item = (&'a Listener, Option<Mismatch>)> {
        let Self { refused, destination, world } = *self;
        let specific = [destination.addr, destination.counterpart().addr];
        let specific = specific.into_iter().filter(|addr| !addr.is_unspecified());
        WILDCARDS
            .into_iter()
            .chain(specific)
            .flat_map(move |addr| world.table.bound_to(destination.netns, addr, destination.port))
            .map(move |listener| (listener, weight(listener, &destination, refused.started)))
    }

    fn has(&self, wanted: Mismatch) -> bool {
        self.near().any(|(_, mismatch)| mismatch == Some(wanted))
    }

    /// How long before the connect the first listener opened that covers it; `None`: none does.
    fn covered_for(&self) -> Option<u64> {
        let age =
            |listener: &Listener| listener.since.map_or(u64::MAX, |since| self.refused.started.since(since));
        self.near().filter(|(_, mismatch)| mismatch.is_none()).map(|(listener, _)| age(listener)).max()
    }

    fn has_other_family(&self) -> bool {
        self.near().any(|(listener, mismatch)| {
            mismatch != Some(Mismatch::NotYet) && coverage::answers_other_family(listener, &self.destination)
        })
    }

    /// Whether anything was up on the port of the namespace when the connect began.
    fn has_on_port(&self) -> bool {
        let too_late = self.near().filter(|(_, mismatch)| *mismatch == Some(Mismatch::NotYet)).count();
        self.world.table.count_in(self.destination.netns, self.destination.port) > too_late
    }

    fn has_elsewhere(&self) -> bool {
        let Destination { netns, port, .. } = self.destination;
        self.world.table.count(port) > self.world.table.count_in(netns, port)
    }

    /// The listener that covered the destination and closed last before the refusal, or so shortly after the
    /// connect that it was on its way out.
    fn gone(&self) -> Option<&'a Gone> {
        let Self { refused, destination, world } = self;
        world
            .table
            .closed_in(destination.netns)
            .filter(|gone| gone.time.since(refused.started) < DOUBT_NS)
            .find(|gone| coverage::mismatch(&gone.listener, destination).is_none())
    }

    /// Whether anything opened on the port of that namespace since then.
    fn has_opened_since(&self, time: Mono) -> bool {
        let Destination { netns, port, .. } = self.destination;
        self.world.table.count_in(netns, port) > 0
            && self
                .world
                .table
                .open_in(netns)
                .any(|listener| listener.port == port && listener.since.is_some_and(|since| since > time))
    }

    /// The bind that failed last, where that says why nobody answers.
    fn failed_bind(&self, gone: Option<&Gone>) -> Option<&'a Failure> {
        let failure = self.world.binds.failures(self.destination.netns, self.destination.port).next()?;
        // A bind that failed while the listener was still up, which has closed since, is not what is wrong now.
        let is_latest = gone.is_none_or(|gone| gone.time < failure.last);
        let would_cover = || coverage::mismatch(&failure.socket, &self.destination).is_none();
        (is_latest && (!self.has_on_port() || would_cover())).then_some(failure)
    }

    /// A socket that is bound to the port and does not listen.
    fn bound(&self) -> Option<(&'a Listener, Option<Mono>)> {
        let Destination { netns, port, .. } = self.destination;
        let World { table, binds, .. } = self.world;
        binds.bound_to(netns, port).find(|(socket, _)| table.get(netns, socket.key).is_none())
    }

    /// Candidates that live: not the client itself, whatever it calls itself.
    fn alive(&self) -> Vec<&'a Known> {
        let mut alive = self.world.servers.alive(self.destination.netns, self.refused.time);
        alive.retain(|known| known.candidate.process.pid != self.refused.client.pid);
        alive
    }

    fn starting(&self) -> Vec<&'a Known> {
        let Self { destination: Destination { netns, .. }, world: World { servers, .. }, .. } = self;
        let listens_elsewhere = |known: &Known| {
            let pid = known.candidate.process.pid;
            pid.is_some_and(|pid| servers.other_listeners(*netns, pid).next().is_some())
        };
        let mut starting = self.alive();
        // What a later look has found may have started since.
        let is_older = |known: &Known| known.candidate.since <= self.refused.time;
        starting.retain(|known| !known.has_listened && is_older(known) && !listens_elsewhere(known));
        starting
    }

    fn ended(&self) -> Vec<&'a Known> {
        self.world.servers.ended_without_listening(self.destination.netns, self.refused.time)
    }

    /// What whoever owned the port last, and those that claim to be the server, listen on instead.
    fn elsewhere(&self) -> Vec<&'a Listener> {
        let Self {
            destination: Destination { netns, port, .. }, world: World { table, servers, .. }, ..
        } = self;
        let last_owner = table.closed_in(*netns).find(|gone| gone.listener.port == *port);
        last_owner
            .and_then(|gone| gone.listener.process.pid)
            .into_iter()
            .chain(self.alive().into_iter().filter_map(|known| known.candidate.process.pid))
            .collect::<BTreeSet<u32>>()
            .into_iter()
            .flat_map(|pid| servers.other_listeners(*netns, pid))
            .collect()
    }

    /// The first cause that matches, of those in reach: the address is local.
    fn cause(&self) -> Cause {
        let gone = self.gone();
        if self.covered_for().is_some() {
            Cause::Intercepted
        } else if self.has(Mismatch::Device) {
            Cause::WrongDevice
        } else if self.failed_bind(gone).is_some() {
            Cause::BindFailed
        } else if gone.is_some_and(|gone| !self.has_opened_since(gone.time)) {
            Cause::Stopped
        } else if self.has_other_family() {
            Cause::WrongFamily
        } else if self.has_on_port() {
            Cause::WrongAddress
        } else if self.bound().is_some() {
            Cause::BoundNotListening
        } else if !self.starting().is_empty() {
            Cause::Starting
        } else if !self.ended().is_empty() {
            Cause::NeverListened
        } else if self.has_elsewhere() {
            Cause::OtherNetns
        } else if !self.elsewhere().is_empty() {
            Cause::OtherPort
        } else {
            Cause::NothingListening
        }
    }

    /// What speaks against the cause being certain.
    fn doubts(&self, cause: Cause) -> Vec<Because> {
        let Self { refused, destination, world: World { table, namespaces, health, .. } } = self;
        let mut because = Vec::new();
        match cause {
            Cause::Intercepted => {
                // A packet filter's own reset or ICMP message never asks a listener: its age does not matter.
                let asked_nobody = refused.sent_by == Some(SentBy::Filter) || refused.via == Via::Icmp;
                if !asked_nobody && self.covered_for().is_some_and(|age| age < DOUBT_NS) {
                    because.push(Because::ListenerChanging);
                }
            }
            Cause::Stopped if self.gone().is_some_and(|gone| gone.time > refused.started) => {
                because.push(Because::ListenerChanging);
            }
            _ => {}
        }
        let forgotten = table.forgotten_in(destination.netns, destination.port);
        if cause > Cause::Stopped && forgotten.is_some_and(|time| !self.has_opened_since(time)) {
            because.push(Because::HistoryForgotten);
        }
        let rests_on_absence_elsewhere =
            matches!(cause, Cause::Remote | Cause::OtherNetns | Cause::OtherPort | Cause::NothingListening);
        if namespaces.is_unreadable(destination.netns)
            || namespaces.get(destination.netns).is_none() && !refused.dst.is_loopback()
            || rests_on_absence_elsewhere && namespaces.any_unreadable()
        {
            because.push(Because::NetnsUnreadable);
        }
        if health.undetectable.is_some_and(|unseen| unseen < cause) {
            because.push(Because::HookMissing);
        }
        if health.lost || health.ends_untold && cause > Cause::BoundNotListening {
            because.push(Because::LostRecords);
        }
        if !health.ready {
            because.push(Because::BeforeReady);
        }
        because
    }
}

/// Decides a refusal by what is known now.
pub fn decide(refused: &Refused, world: World<'_>) -> Decision {
    let (destination, doubt) = match locate(refused, world.table, world.namespaces) {
        Place::Here(destination) => (destination, None),
        Place::Elsewhere { destination, ambiguous } => {
            (destination, ambiguous.then_some(Because::AmbiguousNetns))
        }
        Place::Nowhere(destination) => (destination, Some(Because::MayBeTranslated)),
    };
    let scene = Scene { refused, destination, world };
    let cause = if doubt == Some(Because::MayBeTranslated) { Cause::Remote } else { scene.cause() };
    let mut because = scene.doubts(cause);
    because.extend(doubt);
    because.sort_unstable();
    Decision { cause, because, destination }
}

/// Gathers what led to a decision made a moment ago.
pub fn explain(refused: &Refused, decision: Decision, world: World<'_>) -> Judgement {
    let Decision { cause, because, destination } = decision;
    let scene = Scene { refused, destination, world };
    let (mut weighed, mut total) = weigh(&destination, refused.started, world.table);
    if cause == Cause::Remote {
        // The address is in none of the namespaces that they are in.
        weighed.iter_mut().for_each(|one| one.mismatch = Some(Mismatch::Netns));
    }
    let gone = scene.gone();
    if let Some(gone) = gone {
        let at = usize::from(weighed.first().is_some_and(|first| first.mismatch.is_none()));
        let closed = WeighedListener { listener: gone.listener.clone(), mismatch: Some(Mismatch::Closed) };
        weighed.insert(at, closed);
        weighed.truncate(WEIGHED_MAX);
        total += 1;
    }
    let candidates = match cause {
        Cause::Starting => scene.starting(),
        Cause::NeverListened => scene.ended(),
        _ => Vec::new(),
    };
    let elsewhere = if cause == Cause::OtherPort { scene.elsewhere() } else { Vec::new() };
    Judgement {
        cause,
        because,
        destination,
        weighed,
        total,
        gone: gone.filter(|_| cause == Cause::Stopped).cloned(),
        failures: world.binds.failures(destination.netns, destination.port).cloned().collect(),
        bound: scene
            .bound()
            .filter(|_| cause == Cause::BoundNotListening)
            .map(|(socket, time)| BoundSocket { socket: socket.clone(), time }),
        candidates: candidates.into_iter().cloned().collect(),
        elsewhere: elsewhere.into_iter().cloned().collect(),
    }
}

/// Why a listener did not answer a connect that began then. One that opened later could not.
fn weight(listener: &Listener, destination: &Destination, connected: Mono) -> Option<Mismatch> {
    match coverage::mismatch(listener, destination) {
        None if listener.since.is_some_and(|since| since > connected) => Some(Mismatch::NotYet),
        mismatch => mismatch,
    }
}

/// A listener with how near it was to answering, and why it did not.
type Near<'a> = (u8, &'a Listener, Option<Mismatch>);

/// The listeners on the port in every namespace, in no order.
fn on_port<'a>(
    destination: &'a Destination,
    connected: Mono,
    table: &'a Table,
) -> impl Iterator<Item = Near<'a>> {
    table.open().filter(|listener| listener.port == destination.port).map(move |listener| {
        let mismatch = weight(listener, destination, connected);
        (distance(listener, mismatch, destination), listener, mismatch)
    })
}

/// What they are ordered by, the nearest first.
fn order((distance, listener, _): &Near<'_>) -> impl Ord + use<> {
    (*distance, listener.netns, listener.addr, listener.process.pid, listener.key.inode)
}

/// The namespace of the nearest listener on the port: of the first one that is shown.
pub fn nearest_netns(refused: &Refused, destination: &Destination, table: &Table) -> Option<NetnsId> {
    on_port(destination, refused.started, table).min_by_key(order).map(|(_, listener, _)| listener.netns)
}

/// The listeners on the port in every namespace, nearest first, and how many there are.
fn weigh(destination: &Destination, connected: Mono, table: &Table) -> (Vec<WeighedListener>, u64) {
    let mut near: Vec<Near<'_>> = on_port(destination, connected, table).collect();
    let total = near.len() as u64;
    if near.len() > WEIGHED_MAX {
        near.select_nth_unstable_by_key(WEIGHED_MAX - 1, order);
        near.truncate(WEIGHED_MAX);
    }
    near.sort_unstable_by_key(order);
    let weighed = near
        .into_iter()
        .map(|(_, listener, mismatch)| WeighedListener { listener: listener.clone(), mismatch })
        .collect();
    (weighed, total)
}

/// What a client inside a namespace would get from an address now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prospect {
    pub destination: Destination,
    pub answered: bool,
    /// Nearest first, at most [`WEIGHED_MAX`].
    pub weighed: Vec<WeighedListener>,
    pub total: u64,
}

/// Says what a connect made now, inside `netns`, would get.
pub fn foresee(netns: NetnsId, addr: IpAddr, port: u16, table: &Table, namespaces: &Namespaces) -> Prospect {
    let route = namespaces.get(netns).and_then(|namespace| namespace.route_to(addr, None));
    let destination = Destination { netns, addr, port, route };
    let (weighed, total) = weigh(&destination, Mono(u64::MAX), table);
    Prospect { destination, answered: is_answered(&destination, table), weighed, total }
}

/// Whether a connect made now would be answered.
pub fn is_answered(destination: &Destination, table: &Table) -> bool {
    let Destination { netns, addr, port, .. } = *destination;
    let mut near = WILDCARDS.into_iter().chain([addr]).flat_map(|addr| table.bound_to(netns, addr, port));
    destination.route.is_some() && near.any(|listener| coverage::mismatch(listener, destination).is_none())
}
