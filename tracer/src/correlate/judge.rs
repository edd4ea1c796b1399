//! The verdict: why nobody answered. The first cause that matches wins.

use std::collections::BTreeSet;
use std::net::IpAddr;

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

/// What the tracer itself may have missed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Health {
    /// The snapshot is complete.
    pub ready: bool,
    /// Records were lost, and the listeners were not read again since.
    pub lost: bool,
}

/// A listener beside the connect that it did not answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WeighedListener {
    pub listener: Listener,
    pub mismatch: Option<Mismatch>,
}

/// A verdict before it is put into words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judgement {
    pub cause: Cause,
    /// Empty: certain.
    pub because: Vec<Because>,
    /// The namespace that the address is local in, which may be another than the client's; the
    /// client's, when it is local nowhere.
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
    found.sort_by_key(|place| {
        let has_listener = table.open_in(place.netns).any(|listener| listener.port == place.port);
        (!has_listener, place.netns)
    });
    match found.first() {
        None => Place::Nowhere(to(refused.netns, None)),
        Some(destination) => Place::Elsewhere { destination: *destination, ambiguous: found.len() > 1 },
    }
}

/// Judges a refusal by what is known now.
pub fn judge(refused: &Refused, world: World<'_>) -> Judgement {
    let World { table, namespaces, binds, servers, health } = world;
    let mut because = Vec::new();
    let (destination, is_local) = match locate(refused, table, namespaces) {
        Place::Here(destination) => (destination, true),
        Place::Elsewhere { destination, ambiguous } => {
            if ambiguous {
                because.push(Because::AmbiguousNetns);
            }
            (destination, true)
        }
        Place::Nowhere(destination) => {
            because.push(Because::MayBeTranslated);
            (destination, false)
        }
    };
    let (mut weighed, total) = weigh(&destination, refused.started, table);
    let gone = covering_gone(refused, &destination, table);
    if let Some(gone) = &gone {
        let at = usize::from(weighed.first().is_some_and(|first| first.mismatch.is_none()));
        let closed = WeighedListener { listener: gone.listener.clone(), mismatch: Some(Mismatch::Closed) };
        weighed.insert(at, closed);
        weighed.truncate(WEIGHED_MAX);
    }
    let total = total + u64::from(gone.is_some());
    let (netns, port) = (destination.netns, destination.port);

    let has = |wanted: Mismatch| weighed.iter().any(|one| one.mismatch == Some(wanted));
    let is_on_port = |one: &WeighedListener| {
        one.listener.netns == netns
            && one.listener.port == port
            && one.mismatch != Some(Mismatch::Closed)
            && one.mismatch != Some(Mismatch::NotYet)
    };
    let has_on_port = weighed.iter().any(is_on_port);
    let failures: Vec<Failure> = binds.failures(netns, port).cloned().collect();
    let would_cover = |failure: &Failure| coverage::mismatch(&failure.socket, &destination).is_none();
    // A bind that failed while the listener was still up, which has closed since, is not what is wrong now.
    let is_latest = |failure: &Failure| gone.as_ref().is_none_or(|gone| gone.time < failure.last);
    let bound = binds.bound_to(netns, port).find(|bound| table.get(netns, bound.socket.key).is_none());
    let alive = servers.alive(netns);
    let is_client = |known: &&&Known| known.candidate.process.pid == refused.client.pid;
    let alive: Vec<&Known> = alive.iter().filter(|known| !is_client(known)).copied().collect();
    let listens_elsewhere = |known: &&Known| {
        known.candidate.process.pid.is_some_and(|pid| servers.other_listeners(netns, pid).next().is_some())
    };
    let starting: Vec<Known> = alive
        .iter()
        .filter(|known| !known.has_listened && !listens_elsewhere(known))
        .map(|known| (*known).clone())
        .collect();
    let ended: Vec<Known> =
        servers.ended_without_listening(netns, refused.time).into_iter().cloned().collect();
    // Whoever owned the port last, and those that claim to be the server.
    let last_owner = table.closed_in(netns).find(|gone| gone.listener.port == port);
    let elsewhere: Vec<Listener> = last_owner
        .and_then(|gone| gone.listener.process.pid)
        .into_iter()
        .chain(alive.iter().filter_map(|known| known.candidate.process.pid))
        .collect::<BTreeSet<u32>>()
        .into_iter()
        .flat_map(|pid| servers.other_listeners(netns, pid).cloned())
        .collect();

    let covering = weighed.iter().find(|one| one.mismatch.is_none());
    let cause = if !is_local {
        Cause::Remote
    } else if let Some(covering) = covering {
        // A packet filter's own reset or ICMP message never asks a listener: its age does not matter.
        let asked_nobody = refused.sent_by == Some(SentBy::Filter) || refused.via == Via::Icmp;
        let age = covering.listener.since.map_or(u64::MAX, |since| refused.started.since(since));
        if age < DOUBT_NS && !asked_nobody {
            because.push(Because::ListenerChanging);
        }
        Cause::Intercepted
    } else if has(Mismatch::Device) {
        Cause::WrongDevice
    } else if failures
        .first()
        .is_some_and(|failure| is_latest(failure) && (!has_on_port || would_cover(failure)))
    {
        Cause::BindFailed
    } else if gone.as_ref().is_some_and(|gone| !reopened(gone, &destination, table)) {
        Cause::Stopped
    } else if weighed
        .iter()
        .any(|one| coverage::answers_other_family(&one.listener, &destination) && is_on_port(one))
    {
        Cause::WrongFamily
    } else if has_on_port {
        Cause::WrongAddress
    } else if bound.is_some() {
        Cause::BoundNotListening
    } else if !starting.is_empty() {
        Cause::Starting
    } else if !ended.is_empty() {
        Cause::NeverListened
    } else if has(Mismatch::Netns) {
        Cause::OtherNetns
    } else if !elsewhere.is_empty() {
        Cause::OtherPort
    } else {
        Cause::NothingListening
    };
    if cause == Cause::Stopped && gone.as_ref().is_some_and(|gone| gone.time > refused.started) {
        because.push(Because::ListenerChanging);
    }

    let rests_on_absence_elsewhere =
        matches!(cause, Cause::Remote | Cause::OtherNetns | Cause::OtherPort | Cause::NothingListening);
    if namespaces.is_unreadable(netns)
        || namespaces.get(netns).is_none() && !refused.dst.is_loopback()
        || rests_on_absence_elsewhere && namespaces.any_unreadable()
    {
        because.push(Because::NetnsUnreadable);
    }
    if health.lost {
        because.push(Because::LostRecords);
    }
    if !health.ready {
        because.push(Because::BeforeReady);
    }
    because.sort_unstable();
    because.dedup();
    let candidates = match cause {
        Cause::Starting => starting,
        Cause::NeverListened => ended,
        _ => Vec::new(),
    };
    Judgement {
        cause,
        because,
        destination,
        weighed,
        total,
        gone: gone.filter(|_| cause == Cause::Stopped),
        failures,
        bound: bound.filter(|_| cause == Cause::BoundNotListening).cloned(),
        candidates,
        elsewhere: if cause == Cause::OtherPort { elsewhere } else { Vec::new() },
    }
}

/// The listeners on the port in every namespace, nearest first, and how many there are. One that opened
/// after `connected` could not answer.
fn weigh(destination: &Destination, connected: Mono, table: &Table) -> (Vec<WeighedListener>, u64) {
    let on_port = || table.open().filter(|listener| listener.port == destination.port);
    let mut order: Vec<(u8, &Listener, Option<Mismatch>)> = on_port()
        .map(|listener| {
            let mismatch = match coverage::mismatch(listener, destination) {
                None if listener.since.is_some_and(|since| since > connected) => Some(Mismatch::NotYet),
                mismatch => mismatch,
            };
            (distance(listener, mismatch, destination), listener, mismatch)
        })
        .collect();
    let total = order.len() as u64;
    let key = |(distance, listener, _): &(u8, &Listener, _)| {
        (*distance, listener.netns, listener.addr, listener.process.pid, listener.key.inode)
    };
    if order.len() > WEIGHED_MAX {
        order.select_nth_unstable_by_key(WEIGHED_MAX - 1, key);
        order.truncate(WEIGHED_MAX);
    }
    order.sort_unstable_by_key(key);
    let weighed = order
        .into_iter()
        .map(|(_, listener, mismatch)| WeighedListener { listener: listener.clone(), mismatch })
        .collect();
    (weighed, total)
}

/// The listener that covered the destination and closed last before the refusal, or so shortly after the
/// connect that it was on its way out.
fn covering_gone(refused: &Refused, destination: &Destination, table: &Table) -> Option<Gone> {
    table
        .closed_in(destination.netns)
        .filter(|gone| gone.time.since(refused.started) < DOUBT_NS)
        .find(|gone| coverage::mismatch(&gone.listener, destination).is_none())
        .cloned()
}

/// Whether anything opened on the port of that namespace since a listener closed.
fn reopened(gone: &Gone, destination: &Destination, table: &Table) -> bool {
    table.open_in(destination.netns).any(|listener| {
        listener.port == destination.port && listener.since.is_some_and(|since| since > gone.time)
    })
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
    let answered = route.is_some() && weighed.iter().any(|one| one.mismatch.is_none());
    Prospect { destination, answered, weighed, total }
}
