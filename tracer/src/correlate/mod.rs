//! Joins each refusal with the listeners that should have answered. Pure: it is told what happened and
//! what time it is, and returns what the log should say.

pub mod binds;
pub mod claims;
pub mod coverage;
pub mod fold;
pub mod hints;
pub mod join;
pub mod judge;
pub mod listeners;
pub mod namespaces;
pub mod servers;
pub mod wording;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::net::{IpAddr, SocketAddr};

use crate::claims::Access;
use crate::clock::Clock;
use crate::errno;
use crate::escape::escape;
use crate::event::{
    Bound, Candidate, Closed, Closer, Configured, Connected, Event, ExitStatus, Exited, Failed, Listener,
    Look, Lost, Mono, Namespace, NetnsId, Opened, Refused, Snapshot,
};
use crate::line::{
    self, Because, Body, Call, Cause, Change, Confidence, LostWhere, Mismatch, OwnerState, Process, SentBy,
    Via,
};
use binds::{Binds, Failure};
use claims::Book;
use coverage::Destination;
use fold::{Folds, Harmless, Key, Repeats, Waiting};
use join::Keys;
use judge::{DOUBT_NS, Decision, Health, Judgement, Prospect, World};
use listeners::{Gone, OwnerEnd, Table};
use namespaces::Namespaces;
use servers::{Known, Servers};
use wording::Wording;

/// A `listen()` that fails goes back to CLOSE within this time, in the same task.
pub const FAILURE_NS: u64 = 1_000_000;

/// Listeners of a namespace that are few.
const FEW: usize = 64;

/// For how long a dump of a namespace's listeners lets it be enough to ask their owners.
const WELL_KNOWN_NS: u64 = 1_000_000_000;

/// How old what is known of a namespace's addresses may be when a verdict rests on it: short against what a
/// person does, and long against what asking costs.
const FRESH_NS: u64 = 5_000_000;

/// Refusals held back at once: those of 10 ms. More are judged by what is known at once.
const PENDING_MAX: usize = 4_096;

/// How long a refusal by the wrong family waits for the other one to be tried before it counts: `curl
/// localhost` takes a millisecond.
pub const HARMLESS_NS: u64 = 100_000_000;

/// How old what a second look at a host finds may be: it takes a few milliseconds.
const SECOND_LOOK_NS: u64 = 50_000_000;

/// Namespaces of which it is remembered when their listeners' owners were found out.
const OWNERS_LOOKS_MAX: usize = 4_096;

/// Holders of a port shown in one line.
const HELD_BY_MAX: usize = 16;

/// What a line says, the moment it is about, and its place in the log.
#[derive(Clone, Debug, PartialEq)]
pub struct Output {
    pub seq: u64,
    pub mono: Mono,
    pub body: Body,
}

/// What is to be reported, and how much.
#[derive(Clone, Debug, Default)]
pub struct Scope {
    /// Only clients in this namespace.
    pub netns: Option<NetnsId>,
    /// Refusals after which nothing more is said.
    pub count: Option<u64>,
    /// Connects that failed otherwise too.
    pub all: bool,
    /// The first cause that this host gives no sign of.
    pub undetectable: Option<Cause>,
    /// A program that was skipped may have been one that sees a listener open or close.
    pub skips_anything: bool,
}

/// What the log adds up to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Counts {
    refused: u64,
    /// Refusals that a fallback has not made harmless.
    alarming: u64,
    by_cause: BTreeMap<Cause, u64>,
    failed: BTreeMap<String, u64>,
    lost: u64,
}

/// Who asks for a status, and how far they can see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reader {
    pub uid: u32,
    /// Only their own namespace was read.
    pub sees_own_only: bool,
}

/// What the correlator has to be told before it can take an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// One namespace, anew; a process that is or was in it.
    Namespace(NetnsId, Option<u32>),
    /// Every namespace, anew.
    Snapshot,
    /// Processes that claim to be the server.
    Candidates,
    /// What is listened to on other ports of a namespace.
    OtherPorts(NetnsId),
    /// Who holds a port of a namespace.
    Holders(NetnsId, u16),
    /// Everything that can be known of the client: its refusal will be told.
    Client,
    /// Who holds the listeners of a namespace now: they will be told.
    Owners(NetnsId),
    /// What a process says of itself.
    Claims(u32),
}

/// A refusal that waits for the time in which a listener's close could still come.
#[derive(Clone, Debug)]
struct Pending {
    due: Mono,
    refused: Refused,
}

/// When it was found out who holds the listeners of a namespace.
#[derive(Clone, Copy, Debug)]
struct OwnersLook {
    look: Look,
    /// When the listeners themselves were last looked at with it.
    dumped: Mono,
}

/// What is known of the listeners, and what has been refused.
#[derive(Debug)]
pub struct Correlator {
    table: Table,
    namespaces: Namespaces,
    binds: Binds,
    servers: Servers,
    claims: Book,
    folds: Folds,
    scope: Scope,
    counts: Counts,
    /// Place in the log of the line said last.
    seq: u64,
    health: Health,
    /// When all namespaces were last read.
    snapshot_look: Look,
    /// Whether the table was read once more before a verdict that rested on an absence.
    is_absence_verified: bool,
    /// Listeners whose `listen()` may still fail, oldest first.
    opening: VecDeque<Opened>,
    /// Refusals held back, the first due first.
    pending: VecDeque<Pending>,
    /// Refusals that may yet turn out to be harmless, the first due first.
    unsettled: VecDeque<Unsettled>,
    /// When the host's processes were last looked through for servers.
    candidates_look: Option<Look>,
    /// When it was last found out who holds the listeners of a namespace.
    owners_looks: HashMap<NetnsId, OwnersLook>,
}

/// A refusal that counts as an alarm once `due`, unless the other family answers.
#[derive(Clone, Copy, Debug)]
struct Unsettled {
    due: Mono,
    of: u64,
    pid: Option<u32>,
}

impl Correlator {
    pub fn new(scope: Scope) -> Self {
        let health = Health { undetectable: scope.undetectable, ..Health::default() };
        Self {
            table: Table::default(),
            namespaces: Namespaces::default(),
            binds: Binds::default(),
            servers: Servers::default(),
            claims: Book::default(),
            folds: Folds::default(),
            scope,
            counts: Counts::default(),
            seq: 0,
            health,
            snapshot_look: Look { began: Mono(0), ended: Mono(0) },
            is_absence_verified: false,
            opening: VecDeque::new(),
            pending: VecDeque::new(),
            unsettled: VecDeque::new(),
            candidates_look: None,
            owners_looks: HashMap::new(),
        }
    }

    /// A line that the caller has to say.
    pub fn line(&mut self, mono: Mono, body: Body) -> Output {
        self.seq += 1;
        Output { seq: self.seq, mono, body }
    }

    /// Whether as many refusals as were asked for have been told.
    pub fn is_full(&self) -> bool {
        self.scope.count.is_some_and(|count| self.counts.alarming >= count)
    }

    /// The last line.
    pub fn stop(&self, reason: line::StopReason) -> Body {
        let Counts { refused, alarming: _, by_cause, failed, lost } = self.counts.clone();
        Body::Stop(line::Stop { reason, refused, by_cause, failed, lost })
    }

    /// A sign of life.
    pub fn alive(&self) -> Body {
        Body::Alive(line::Alive { refused: self.counts.refused, lost: self.counts.lost })
    }

    /// The host's processes have been looked through for servers; not all of them, where `/proc` did not list them.
    pub fn candidates_are_known(&mut self, look: Look, is_complete: bool) {
        self.candidates_look = Some(look);
        if is_complete {
            self.servers.looked(look);
        }
    }

    /// What must be known before `event` is taken; to be asked again once it is.
    pub fn need(&self, event: &Event, now: Mono) -> Option<Need> {
        match event {
            Event::Opened(Opened { listener, netns_cookie, .. })
            | Event::Closed(Closed { listener, netns_cookie, .. }) => {
                let netns = listener.netns;
                let is_unknown = self.namespaces.look(netns).is_none();
                // An address that has just been added.
                let is_new = !listener.addr.is_unspecified()
                    && self.namespaces.interface_of(netns, listener.addr, listener.device).is_none()
                    && event.time().is_some_and(|time| self.is_stale(netns, time, now));
                (is_unknown || is_new || self.is_replaced(netns, *netns_cookie))
                    .then_some(Need::Namespace(netns, listener.process.pid))
            }
            Event::Bound(Bound { socket, netns_cookie, .. }) => {
                let is_unknown = self.namespaces.look(socket.netns).is_none();
                (is_unknown || self.is_replaced(socket.netns, *netns_cookie))
                    .then_some(Need::Namespace(socket.netns, socket.process.pid))
            }
            Event::Refused(refused) if self.is_reported(refused) => self.need_of(refused, now),
            Event::Refused(_)
            | Event::Destroyed(_)
            | Event::Exited(_)
            | Event::Candidate(_)
            | Event::Connected(_)
            | Event::Failed(_)
            | Event::Snapshot(_)
            | Event::OtherPorts(_)
            | Event::Holders(_)
            | Event::Claimed(_)
            | Event::Configured(_)
            | Event::Lost(_) => None,
        }
    }

    /// What must be known before a refusal is judged.
    fn need_of(&self, refused: &Refused, now: Mono) -> Option<Need> {
        let netns = refused.netns;
        if self.namespaces.look(netns).is_none()
            || self.is_replaced(netns, refused.netns_cookie)
            || !refused.dst.is_loopback() && self.is_stale(netns, refused.time, now)
        {
            return Some(Need::Namespace(netns, refused.client.pid));
        }
        let Decision { cause, because, destination } = self.decide(refused);
        if destination.netns != netns && self.is_stale(destination.netns, refused.time, now) {
            return Some(Need::Namespace(destination.netns, None));
        }
        let is_due =
            |look: Option<Look>, at_least| look.is_none_or(|look| look.is_due(refused.time, now, at_least));
        // Nothing that would explain it is to be seen, which is worth a second look.
        let rests_on_absence = cause >= Cause::BoundNotListening;
        let asks = cause == Cause::Remote || because.contains(&Because::AmbiguousNetns) || self.health.lost;
        if asks && is_due(Some(self.snapshot_look), 0) || rests_on_absence && !self.is_absence_verified {
            return Some(Need::Snapshot);
        }
        let Destination { netns, port, .. } = destination;
        // Sockets that were bound before, or in ways that are not followed.
        if rests_on_absence
            && self.health.undetectable.is_none_or(|unseen| unseen > Cause::BoundNotListening)
            && self.binds.holders_look(netns, port).is_none_or(|look| {
                let of_followed =
                    self.binds.bound_to(netns, port).next().is_some_and(|(_, time)| time.is_some());
                // Whose end nobody tells, it may have gone by now.
                if cause == Cause::BoundNotListening && !of_followed {
                    look.is_worth_it(refused.time, now, FRESH_NS)
                } else {
                    look.is_due(refused.time, now, FRESH_NS)
                }
            })
        {
            return Some(Need::Holders(netns, port));
        }
        if cause > Cause::BoundNotListening && is_due(self.candidates_look, SECOND_LOOK_NS) {
            return Some(Need::Candidates);
        }
        let has_server = || {
            !self.servers.alive(netns, refused.time).is_empty()
                || self.table.closed_in(netns).any(|gone| gone.owner == OwnerEnd::Alive)
        };
        if cause > Cause::BoundNotListening
            && is_due(self.servers.other_ports_look(netns), SECOND_LOOK_NS)
            && has_server()
        {
            return Some(Need::OtherPorts(netns));
        }
        if cause == Cause::BindFailed
            && self.table.count_in(netns, port) == 0
            && self.binds.holders_look(netns, port).is_none()
            && self
                .binds
                .failures(netns, port)
                .next()
                .is_some_and(|failure| failure.errno == libc::EADDRINUSE)
        {
            return Some(Need::Holders(netns, port));
        }
        if !self.folds.is_new(&Key::of(refused, cause), refused.time) {
            return None;
        }
        if refused.client_started != 0 {
            return Some(Need::Client);
        }
        // Of the namespace that the verdict is about, or of the one that the listener is in.
        let shown = judge::nearest_netns(refused, &destination, &self.table);
        if let Some(netns) =
            shown.filter(|netns| is_due(self.owners_looks.get(netns).map(|known| known.look), FRESH_NS))
        {
            return Some(Need::Owners(netns));
        }
        let judgement = judge::explain(refused, Decision { cause, because, destination }, self.world());
        let is_old = |pid: &u32| is_due(self.claims.look(*pid), SECOND_LOOK_NS);
        claimants(&judgement).filter_map(|process| process.pid).find(is_old).map(Need::Claims)
    }

    /// Whether what is known of a namespace's addresses is older than the event, and more than a moment old: asking
    /// costs a fraction of a millisecond.
    fn is_stale(&self, netns: NetnsId, at: Mono, now: Mono) -> bool {
        self.namespaces.look(netns).is_none_or(|look| look.is_stale(at, now, FRESH_NS))
    }

    /// Whether a namespace's number has been given to another one.
    fn is_replaced(&self, netns: NetnsId, cookie: u64) -> bool {
        let known = self.namespaces.cookie(netns);
        cookie != 0 && known != 0 && cookie != known
    }

    /// Who held a listener when that was last found out.
    pub fn owner(&self, listener: &Listener) -> Option<u32> {
        self.table.get(listener.netns, listener.key)?.process.pid
    }

    /// The open listeners of a namespace, where it is enough to ask their owners whether they hold them still: there
    /// are few, and their sockets have been looked at a moment ago, for the backlog, which changes without a sign.
    pub fn known_well(&self, netns: NetnsId, now: Mono) -> Option<Vec<Listener>> {
        let dumped = self.owners_looks.get(&netns)?.dumped;
        let few: Vec<Listener> = self.table.open_in(netns).take(FEW + 1).cloned().collect();
        (few.len() <= FEW && now.since(dumped) < WELL_KNOWN_NS).then_some(few)
    }

    /// Whether a listener is known, and with it who holds it.
    pub fn knows(&self, listener: &Listener) -> bool {
        self.owner(listener).is_some()
    }

    fn is_reported(&self, refused: &Refused) -> bool {
        self.scope.netns.is_none_or(|netns| netns == refused.netns)
    }

    /// Takes one event, in order, and returns what the log should say.
    pub fn apply(&mut self, event: Event, clock: &Clock) -> Vec<Output> {
        let mut out = Vec::new();
        if let Some(time) = event.time() {
            self.confirm_until(time, clock, &mut out);
        }
        match event {
            Event::Opened(opened) => self.opened(opened),
            Event::Closed(closed) => self.closed(closed, clock, &mut out),
            Event::Refused(refused) => self.refused(refused, clock, &mut out),
            Event::Bound(bound) => self.bound(&bound, &mut out),
            Event::Destroyed(destroyed) => self.binds.destroyed(&destroyed),
            Event::Exited(exited) => self.exited(&exited),
            Event::Candidate(candidate) => self.candidate(candidate),
            Event::Connected(connected) => self.connected(&connected, &mut out),
            Event::Failed(failed) => self.failed(failed, &mut out),
            Event::OtherPorts(other_ports) => self.servers.set_other_ports(other_ports),
            Event::Holders(holders) => self.binds.held(holders),
            Event::Claimed(claimed) => self.claims.note(claimed),
            Event::Configured(configured) => self.configured(configured, &mut out),
            Event::Snapshot(snapshot) => self.snapshot(snapshot, clock, &mut out),
            Event::Lost(lost) => self.lost(lost, clock, &mut out),
        }
        out
    }

    /// When [`Self::tick`] is due next.
    pub fn deadline(&self) -> Option<Mono> {
        let opening = self.opening.front().map(|opened| Mono(opened.time.0 + FAILURE_NS));
        let pending = self.pending.front().map(|pending| pending.due);
        // Whether a refusal counts matters only to who waits for the count.
        let unsettled = self.unsettled.front().map(|unsettled| unsettled.due);
        let unsettled = unsettled.filter(|_| self.scope.count.is_some());
        [opening, pending, unsettled, self.folds.deadline()].into_iter().flatten().min()
    }

    /// Lets time pass. Everything that happened until `now` must have been taken before.
    pub fn tick(&mut self, now: Mono, clock: &Clock) -> Vec<Output> {
        let mut out = Vec::new();
        self.confirm_until(now, clock, &mut out);
        while self.pending.front().is_some_and(|pending| pending.due <= now) {
            if let Some(pending) = self.pending.pop_front() {
                let decision = self.decide(&pending.refused);
                self.report(&pending.refused, decision, clock, &mut out);
            }
        }
        while self.unsettled.front().is_some_and(|unsettled| unsettled.due <= now) {
            self.unsettled.pop_front();
            self.counts.alarming += 1;
        }
        for repeats in self.folds.due(now) {
            // At the end, time is at its end too.
            let at = if now == Mono(u64::MAX) { repeats.last } else { now };
            self.repeated(&repeats, at, clock, &mut out);
        }
        out
    }

    /// Ends: nothing more will come, so what was held back is said now.
    pub fn finish(&mut self, clock: &Clock) -> Vec<Output> {
        self.tick(Mono(u64::MAX), clock)
    }

    /// The host could not be looked at: what rests on an absence is in doubt until it can.
    pub fn blind(&mut self, look: Look) {
        self.namespaces.set_unreadable(NetnsId(0), true, look);
        self.is_absence_verified |= self.health.ready;
        self.snapshot_look = look;
    }

    /// Says that the snapshot is complete.
    pub fn ready(&mut self, ports: &[u16]) -> line::Ready {
        self.health.ready = true;
        line::Ready {
            listeners: self.table.open().count() as u64,
            namespaces: self.namespaces.len() as u64,
            addresses: self.answers(ports),
        }
    }

    /// What each local address would get: in the namespace that is asked for, or in each that has a listener and in
    /// the tracer's own.
    fn answers(&self, ports: &[u16]) -> Vec<line::Answer> {
        let occupied: Vec<NetnsId> = self.table.occupied().collect();
        let mut shown: Vec<&Namespace> = self
            .namespaces
            .iter()
            .filter(|namespace| match self.scope.netns {
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
                    answers.push(line::Answer {
                        netns: self.namespaces.show(namespace.id),
                        addr: addr.to_string(),
                        port: *port,
                        answered: judge::is_answered(&destination, &self.table),
                    });
                }
            }
        }
        answers
    }

    /// What a connect made now, inside `netns`, would get; `reader` is who asks.
    pub fn status(
        &self,
        netns: NetnsId,
        addr: IpAddr,
        port: u16,
        reader: Reader,
        clock: &Clock,
    ) -> line::Status {
        let Prospect { destination, answered, weighed, total } =
            judge::foresee(netns, addr, port, &self.table, &self.namespaces);
        let is_local = destination.route.is_some();
        let summary = match weighed.first() {
            _ if !is_local => "not an address of this network namespace".to_owned(),
            None if reader.sees_own_only => format!(
                "nothing listens on the port in this network namespace (others: not readable as uid {})",
                reader.uid
            ),
            None => "nothing listens on the port".to_owned(),
            Some(nearest) => {
                let listener = &nearest.listener;
                let at = SocketAddr::new(listener.addr, listener.port);
                let only = if answered { "" } else { " only" };
                let elsewhere = if listener.netns == netns { "" } else { ", in another network namespace" };
                let owner = match listener.process.pid {
                    Some(_) => wording::who(&listener.process),
                    None => format!("owner: not readable as uid {}", reader.uid),
                };
                format!("{at}{only}{elsewhere} ({owner})")
            }
        };
        let mut seen = BTreeSet::new();
        let owners = weighed.iter().map(|one| &one.listener);
        let claims = owners
            .filter(|listener| listener.process.pid.is_some_and(|pid| seen.insert(pid)))
            .take(claims::SHOWN_MAX)
            .flat_map(|listener| self.claims.lines(&listener.process, listener.netns, &self.table))
            .collect();
        line::Status {
            claims,
            exposures: weighed.iter().filter_map(|one| self.exposure(&one.listener)).collect(),
            addr: self.namespaces.show_addr(netns, addr, None),
            port: destination.port,
            netns: self.namespaces.show(netns),
            is_local,
            answered,
            listeners: self.weighed(&weighed, clock),
            listeners_total: total,
            summary,
        }
    }

    /// What a listener is open to; `None`: to its own host alone.
    fn exposure(&self, listener: &Listener) -> Option<line::Exposure> {
        let Listener { netns, addr, port, .. } = *listener;
        if addr.is_loopback() {
            return None;
        }
        let namespace = self.namespaces.get(netns);
        let answers = |addr: &IpAddr| {
            let route = namespace.and_then(|namespace| namespace.route_to(*addr, None));
            coverage::mismatch(listener, &Destination { netns, addr: *addr, port, route }).is_none()
        };
        let addresses = namespace.map(Namespace::addresses).unwrap_or_default();
        let authentication = self.claims.of(&listener.process).map(|claims| match claims.access() {
            Access::Asked(what) => line::Authentication { what: what.to_owned(), is_asked: Some(true) },
            Access::Open(what) => line::Authentication { what: what.to_owned(), is_asked: Some(false) },
            Access::Unknown(what) => line::Authentication { what: what.to_owned(), is_asked: None },
        });
        Some(line::Exposure {
            pid: listener.process.pid,
            addr: self.namespaces.show_addr(netns, addr, listener.device),
            port,
            netns: self.namespaces.show(netns),
            every_interface: addr.is_unspecified() && listener.device.is_none(),
            addresses: addresses
                .iter()
                .filter(|addr| !addr.is_loopback() && answers(addr))
                .map(IpAddr::to_string)
                .collect(),
            authentication,
        })
    }

    /// Confirms what would have failed by now.
    fn confirm_until(&mut self, now: Mono, clock: &Clock, out: &mut Vec<Output>) {
        while self.opening.front().is_some_and(|opened| now.since(opened.time) >= FAILURE_NS) {
            if let Some(opened) = self.opening.pop_front() {
                self.confirm(&opened, clock, out);
            }
        }
    }

    /// A `listen()` that did not fail in its time has succeeded.
    fn confirm(&mut self, opened: &Opened, clock: &Clock, out: &mut Vec<Output>) {
        let Opened { time, listener, .. } = opened;
        self.say_listener(Change::Opened, *time, listener, None, clock, out);
        self.binds.listened(listener.netns, listener.port, *time);
        if let Some(pid) = listener.process.pid {
            self.servers.has_listened(pid);
        }
        self.recover(listener, *time, clock, out);
    }

    /// A listener has come up: the destinations that it covers are answered again.
    fn recover(&mut self, listener: &Listener, time: Mono, clock: &Clock, out: &mut Vec<Output>) {
        for (waiting, repeats) in self.folds.recover(listener) {
            for repeats in repeats {
                self.repeated(&repeats, time, clock, out);
            }
            let Waiting { destination, netns, device, of, first, refusals, processes } = waiting;
            let body = Body::Recovered(Box::new(line::Recovered {
                of,
                dst: self.endpoint(netns, destination.addr, Some(destination.port), device),
                netns: self.namespaces.show(netns),
                after_us: time.since(first) / 1_000,
                refusals,
                processes: fold::told_apart(&processes),
                listener: self.show(listener, clock),
            }));
            self.say(time, body, out);
        }
    }

    fn repeated(&mut self, repeats: &Repeats, at: Mono, clock: &Clock, out: &mut Vec<Output>) {
        let Repeats { of, count, processes, first, last } = *repeats;
        let (first, last) = (clock.time(first), clock.time(last));
        let body = Body::Repeated(line::Repeated { of, count, processes, first, last });
        self.say(at, body, out);
    }

    fn say(&mut self, mono: Mono, body: Body, out: &mut Vec<Output>) {
        let output = self.line(mono, body);
        out.push(output);
    }

    fn say_listener(
        &mut self,
        change: Change,
        mono: Mono,
        listener: &Listener,
        end: Option<OwnerEnd>,
        clock: &Clock,
        out: &mut Vec<Output>,
    ) {
        let body = self.listener_line(change, listener, end, clock);
        self.say(mono, body, out);
    }

    fn bound(&mut self, bound: &Bound, out: &mut Vec<Output>) {
        self.drop_if_replaced(bound.socket.netns, bound.netns_cookie);
        self.binds.bound(bound);
        self.say_bind(Call::Bind, &bound.socket, bound.errno, bound.time, out);
    }

    fn say_bind(
        &mut self,
        call: Call,
        socket: &Listener,
        errno: Option<i32>,
        time: Mono,
        out: &mut Vec<Output>,
    ) {
        let body = Body::Bind(line::Bind {
            call,
            addr: self.namespaces.show_addr(socket.netns, socket.addr, socket.device),
            port: socket.port,
            netns: self.namespaces.show(socket.netns),
            process: socket.process.clone(),
            errno: errno.map(errno::name),
        });
        self.say(time, body, out);
    }

    fn exited(&mut self, exited: &Exited) {
        self.servers.ended(exited.pid, exited.time, exited.status);
        self.table.owner_ended(exited.pid, exited.status);
    }

    fn candidate(&mut self, candidate: Candidate) {
        let pid = candidate.process.pid;
        let has_listened = self.table.open().any(|listener| pid.is_some() && listener.process.pid == pid);
        self.servers.add(candidate, has_listened);
    }

    fn configured(&mut self, configured: Configured, out: &mut Vec<Output>) {
        let Configured { time, change, process, .. } = &configured;
        let (time, change, process) = (*time, *change, process.clone());
        let path = escape(configured.path.as_os_str().as_encoded_bytes());
        let users: Vec<(u32, Option<line::Time>)> =
            configured.claimed.iter().map(|claimed| (claimed.pid, claimed.started)).collect();
        let changed = self.claims.changed(configured);
        let claims = users
            .into_iter()
            .flat_map(|(pid, start_time)| {
                let user = Process { pid: Some(pid), start_time, ..Process::default() };
                let netns = self.table.open().find(|listener| listener.process.pid == Some(pid));
                let netns = netns.map_or(NetnsId(0), |listener| listener.netns);
                self.claims.lines(&user, netns, &self.table)
            })
            .collect();
        self.say(time, Body::Config(Box::new(line::Config { path, change, process, claims, changed })), out);
    }

    fn connected(&mut self, connected: &Connected, out: &mut Vec<Output>) {
        if let Some(pid) = connected.pid {
            self.servers.is_client(pid);
        }
        let Some(Harmless { of, refused }) = self.folds.fallback(connected) else {
            return;
        };
        let settled =
            self.unsettled.iter().rposition(|unsettled| unsettled.of == of && unsettled.pid == connected.pid);
        settled.and_then(|index| self.unsettled.remove(index));
        let body = Body::Fallback(line::Fallback {
            of,
            dst: self.endpoint(connected.netns, connected.dst, Some(connected.dst_port), connected.device),
            after_us: connected.time.since(refused) / 1_000,
        });
        self.say(connected.time, body, out);
    }

    fn failed(&mut self, failed: Failed, out: &mut Vec<Output>) {
        if self.scope.netns.is_some_and(|netns| netns != failed.netns) {
            return;
        }
        if let Some(pid) = failed.client.pid {
            self.servers.is_client(pid);
        }
        let errno = failed.errno.map(errno::name);
        *self.counts.failed.entry(errno.clone().unwrap_or_else(|| GIVEN_UP.to_owned())).or_default() += 1;
        if !self.scope.all {
            return;
        }
        let Failed { time, started, netns, client, src, src_port, dst, dst_port, device, errno: _ } = failed;
        let body = Body::Failed(Box::new(line::Failed {
            client,
            src: self.endpoint(netns, src, src_port, device),
            dst: self.endpoint(netns, dst, Some(dst_port), device),
            netns: self.namespaces.show(netns),
            errno,
            after_us: time.since(started) / 1_000,
        }));
        self.say(time, body, out);
    }

    fn endpoint(
        &self,
        netns: NetnsId,
        addr: IpAddr,
        port: Option<u16>,
        device: Option<u32>,
    ) -> line::Endpoint {
        line::Endpoint { addr: self.namespaces.show_addr(netns, addr, device), port }
    }

    fn opened(&mut self, opened: Opened) {
        self.drop_if_replaced(opened.listener.netns, opened.netns_cookie);
        self.table.insert(opened.listener.clone());
        // A millisecond's worth; time passes whenever a batch of events has been taken.
        self.opening.push_back(opened);
    }

    fn closed(&mut self, closed: Closed, clock: &Clock, out: &mut Vec<Output>) {
        let Closed { time, listener, tid, shutdown, closer: by, netns_cookie } = closed;
        self.drop_if_replaced(listener.netns, netns_cookie);
        let orphaned = self.table.orphaned_by(listener.netns, listener.key).cloned();
        let known = self.table.remove(listener.netns, listener.key);
        let opening = self.opening.iter().position(|opened| opened.listener.key.is_same(listener.key));
        if let Some(index) = opening
            && let Some(opened) = self.opening.get(index)
        {
            let is_failure = shutdown == 0 && tid == opened.tid && time.since(opened.time) < FAILURE_NS;
            if let Some(opened) = self.opening.remove(index) {
                if is_failure {
                    // The one error that hashing a listener gives (`inet_csk_listen_start`).
                    self.binds.failed(Call::Listen, &opened.listener, libc::EADDRINUSE, time);
                    self.say_bind(Call::Listen, &opened.listener, Some(libc::EADDRINUSE), time, out);
                    return;
                }
                // It lived for less than the time a failure takes: say that it opened before it closed.
                self.confirm(&opened, clock, out);
            }
        }
        // The last holder closes with `sk_shutdown` set; an administrator's `ss -K`, and a shutdown() of
        // the socket, do not, and the one who did it need not be its owner.
        let closer = listener.process.clone();
        let end = match by {
            Closer::Ending(status) if shutdown != 0 => OwnerEnd::Ended(status),
            Closer::Process if closer.pid.is_some() => OwnerEnd::Alive,
            Closer::Ending(_) | Closer::Process | Closer::Kernel => OwnerEnd::Unknown,
        };
        let is_own = known.as_ref().is_some_and(|known| known.process.pid == closer.pid);
        let (owner, end) = match (known.as_ref().map(|known| known.process.clone()), orphaned) {
            // The kernel lets go of it for a process that has ended.
            (_, Some((owner, status))) if by == Closer::Kernel => (owner, OwnerEnd::Ended(status)),
            (Some(owner), _) if by == Closer::Kernel || shutdown == 0 && !is_own => {
                (owner, OwnerEnd::Unknown)
            }
            (Some(owner), _) if is_own => (renamed(closer, owner), end),
            (_, _) => (closer, end),
        };
        let gone = Listener {
            process: owner,
            since: known.as_ref().and_then(|known| known.since),
            backlog: known.as_ref().and_then(|known| known.backlog),
            ..listener
        };
        self.say_listener(Change::Closed, time, &gone, Some(end), clock, out);
        self.table.remember(Gone { listener: gone, time, owner: end });
    }

    fn refused(&mut self, refused: Refused, clock: &Clock, out: &mut Vec<Output>) {
        if !self.is_reported(&refused) {
            return;
        }
        self.drop_if_replaced(refused.netns, refused.netns_cookie);
        if let Some(pid) = refused.client.pid {
            self.servers.is_client(pid);
        }
        // A listener on its way out is unhashed before it is seen to close: wait for that. A refusal that
        // no socket was asked about does not need it.
        let asked_nobody = refused.via == Via::Icmp || refused.sent_by == Some(SentBy::Filter);
        let due = Mono(refused.started.0 + DOUBT_NS);
        let may_wait = !asked_nobody && refused.time < due && self.pending.len() < PENDING_MAX;
        let decision = self.decide(&refused);
        if may_wait && decision.cause == Cause::Intercepted {
            let at = self.pending.partition_point(|pending| pending.due <= due);
            self.pending.insert(at, Pending { due, refused });
        } else {
            self.report(&refused, decision, clock, out);
        }
    }

    fn world(&self) -> World<'_> {
        let Self { table, namespaces, binds, servers, health, .. } = self;
        World { table, namespaces, binds, servers, health: *health }
    }

    fn decide(&self, refused: &Refused) -> Decision {
        judge::decide(refused, self.world())
    }

    fn report(&mut self, refused: &Refused, decision: Decision, clock: &Clock, out: &mut Vec<Output>) {
        if self.is_full() {
            return;
        }
        let Decision { cause, destination, .. } = decision;
        self.counts.refused += 1;
        *self.counts.by_cause.entry(cause).or_default() += 1;
        let key = Key::of(refused, cause);
        let of = match self.folds.repeat(&key, refused) {
            Some(of) => of,
            None => {
                if let Some(repeats) = self.folds.make_room() {
                    self.repeated(&repeats, refused.time, clock, out);
                }
                let judgement = judge::explain(refused, decision, self.world());
                let body = self.refusal(refused, judgement, clock);
                self.say(refused.time, body, out);
                self.folds.begin(key, self.seq, destination.netns, refused.time);
                self.seq
            }
        };
        // What is answered elsewhere, or was never asked, cannot be seen to recover.
        if !matches!(cause, Cause::Remote | Cause::Intercepted) {
            self.folds.wait(destination, of, refused);
        }
        if refused.dst.is_loopback() {
            self.folds.may_fall_back(of, refused);
        }
        if cause == Cause::WrongFamily && refused.dst.is_loopback() {
            let due = Mono(refused.time.0.saturating_add(HARMLESS_NS));
            self.unsettled.push_back(Unsettled { due, of, pid: refused.client.pid });
        } else {
            self.counts.alarming += 1;
        }
    }

    /// The line about a refusal.
    fn refusal(&self, refused: &Refused, judgement: Judgement, clock: &Clock) -> Body {
        let Destination { netns, port, .. } = judgement.destination;
        let wording = Wording {
            refused,
            judgement: &judgement,
            table: &self.table,
            namespaces: &self.namespaces,
            holders: self.binds.holders(netns, port),
            claims: &self.claims,
            now: refused.time,
            clock,
        };
        let (summary, hint) = (wording.summary(), hints::hint(&wording));
        let failed_binds =
            judgement.failures.iter().map(|failure| self.failed_bind(failure, clock)).collect();
        let claims = claimants(&judgement)
            .flat_map(|process| self.claims.lines(process, netns, &self.table))
            .collect();
        let candidates =
            judgement.candidates.iter().map(|known| candidate(known, refused.time, clock)).collect();
        let mut listeners = self.weighed(&judgement.weighed, clock);
        let of_other_ports = judgement.elsewhere.iter().map(|listener| line::Weighed {
            listener: self.show(listener, clock),
            mismatch: Some(Mismatch::Port),
        });
        listeners.extend(of_other_ports.take(judge::WEIGHED_MAX.saturating_sub(judgement.weighed.len())));
        let verdict = line::Verdict {
            cause: judgement.cause,
            confidence: if judgement.because.is_empty() { Confidence::Certain } else { Confidence::Degraded },
            because: judgement.because,
            listeners,
            listeners_total: judgement.total + judgement.elsewhere.len() as u64,
            failed_binds,
            candidates,
            claims,
            summary,
            hint,
        };
        let netns = refused.netns;
        Body::Refused(Box::new(line::Refused {
            client: refused.client.clone(),
            src: self.endpoint(netns, refused.src, refused.src_port, refused.device),
            dst: self.endpoint(netns, refused.dst, Some(refused.dst_port), refused.device),
            netns: self.namespaces.show(netns),
            via: refused.via,
            sent_by: refused.sent_by,
            latency_us: refused.time.since(refused.started) / 1_000,
            verdict,
        }))
    }

    fn failed_bind(&self, failure: &Failure, clock: &Clock) -> line::FailedBind {
        let Failure { call, socket, errno, last, times, .. } = failure;
        line::FailedBind {
            call: *call,
            addr: self.namespaces.show_addr(socket.netns, socket.addr, socket.device),
            port: socket.port,
            netns: self.namespaces.show(socket.netns),
            process: socket.process.clone(),
            errno: errno::name(*errno),
            time: clock.time(*last),
            times: *times,
            held_by: if *errno == libc::EADDRINUSE { self.held_by(socket) } else { Vec::new() },
        }
    }

    /// The sockets that hold a port which another asked for: the listeners, else what a look at the port found.
    fn held_by(&self, asked: &Listener) -> Vec<line::HeldBy> {
        let held_by = |socket: &Listener, state: &str| line::HeldBy {
            addr: self.namespaces.show_addr(socket.netns, socket.addr, socket.device),
            state: state.to_owned(),
            process: socket.process.clone(),
        };
        let on_port = self.table.open_in(asked.netns).filter(|listener| listener.port == asked.port);
        let mut listeners: Vec<&Listener> = on_port.collect();
        listeners.sort_by_key(|listener| (listener.addr, listener.key.inode));
        if listeners.is_empty() {
            let holders = self.binds.holders(asked.netns, asked.port).unwrap_or_default();
            return holders.iter().take(HELD_BY_MAX).map(|one| held_by(&one.socket, one.state)).collect();
        }
        listeners.into_iter().take(HELD_BY_MAX).map(|listener| held_by(listener, "LISTEN")).collect()
    }

    fn snapshot(&mut self, snapshot: Snapshot, clock: &Clock, out: &mut Vec<Output>) {
        let Snapshot { is_complete, owners_of, began, ended, namespaces, listeners, unreadable } = snapshot;
        let look = Look { began, ended };
        if let Some(netns) = owners_of {
            if self.owners_looks.len() >= OWNERS_LOOKS_MAX {
                self.owners_looks.clear();
            }
            let known = self.owners_looks.get(&netns).filter(|_| namespaces.is_empty());
            let dumped = known.map_or(ended, |known| known.dumped);
            self.owners_looks.insert(netns, OwnersLook { look, dumped });
        }
        let read: Vec<NetnsId> = namespaces.iter().map(|namespace| namespace.id).collect();
        if is_complete {
            // What is not there any more is gone, but for a namespace that only its sockets keep.
            let seen = read.iter().copied().chain(unreadable.iter().map(|unreadable| unreadable.id));
            let (table, there) = (&self.table, seen.collect::<HashSet<NetnsId>>());
            let is_there = |netns| there.contains(&netns) || table.open_in(netns).next().is_some();
            for netns in self.namespaces.retain(is_there) {
                self.forget(netns);
            }
        }
        for namespace in namespaces {
            self.namespace(namespace, look);
        }
        // Where owners could not be found out anew, the listeners are known all the same.
        for unreadable in unreadable.into_iter().filter(|_| owners_of.is_none()) {
            self.namespaces.set_unreadable(unreadable.id, is_complete, look);
        }
        let was_lost = self.health.lost;
        if is_complete && was_lost {
            self.reconcile(&read, &listeners, began, ended, clock, out);
        }
        let mut found = listeners;
        found.sort_by_key(|listener| (listener.netns, listener.port, listener.addr, listener.key.inode));
        for listener in found {
            let is_known = self.table.get(listener.netns, listener.key).is_some();
            if is_known && owners_of.is_some() {
                self.table.renew(&listener);
            }
            if is_known || self.table.closed_since(listener.netns, listener.key, began) {
                continue;
            }
            // Whose opening was lost has opened since the tracer is here, at the latest now.
            let since = if was_lost && self.health.ready { Some(began) } else { listener.since };
            let listener = Listener { since, ..listener };
            self.say_listener(Change::Present, ended, &listener, None, clock, out);
            if let Some(pid) = listener.process.pid {
                self.servers.has_listened(pid);
            }
            if self.health.ready {
                self.recover(&listener, ended, clock, out);
            }
            self.table.insert(listener);
        }
        if is_complete {
            self.is_absence_verified |= self.health.ready;
            self.snapshot_look = look;
        }
    }

    /// After a loss: a listener that a dump does not have any more has closed unseen.
    fn reconcile(
        &mut self,
        read: &[NetnsId],
        listeners: &[Listener],
        began: Mono,
        ended: Mono,
        clock: &Clock,
        out: &mut Vec<Output>,
    ) {
        let (read, found): (HashSet<&NetnsId>, Keys) =
            (read.iter().collect(), listeners.iter().map(|listener| listener.key).collect());
        let vanished: Vec<Listener> = self
            .table
            .open()
            .filter(|known| read.contains(&known.netns))
            .filter(|known| known.since.is_none_or(|since| since < began))
            .filter(|known| !found.contains(known.key))
            .cloned()
            .collect();
        for listener in vanished {
            self.table.remove(listener.netns, listener.key);
            self.say_listener(Change::Closed, ended, &listener, Some(OwnerEnd::Unknown), clock, out);
            self.table.remember(Gone { listener, time: ended, owner: OwnerEnd::Unknown });
        }
        self.health.lost = false;
    }

    fn namespace(&mut self, namespace: Namespace, look: Look) {
        self.drop_if_replaced(namespace.id, namespace.cookie);
        self.namespaces.insert(namespace, look);
        let table = &self.table;
        for netns in self.namespaces.shrink(|netns| table.open_in(netns).next().is_some()) {
            self.forget(netns);
        }
    }

    /// A number that now has another cookie is another namespace's: the old one is gone, with all its
    /// sockets.
    fn drop_if_replaced(&mut self, netns: NetnsId, cookie: u64) {
        if self.is_replaced(netns, cookie) {
            self.forget(netns);
        }
    }

    /// Forgets everything about a namespace that is gone, with all its sockets.
    pub fn forget(&mut self, netns: NetnsId) {
        self.table.forget(netns);
        self.namespaces.forget(netns);
        self.binds.forget(netns);
        self.servers.forget(netns);
        self.folds.forget(netns);
        self.owners_looks.remove(&netns);
    }

    /// The namespace of an event with the name that it had, where the kernel gives nothing better to tell it from a
    /// later one with its number by.
    pub fn known_by_name(&self, event: &Event) -> Option<(NetnsId, &str)> {
        let netns = match event {
            Event::Opened(Opened { listener, .. }) | Event::Closed(Closed { listener, .. }) => listener.netns,
            Event::Bound(bound) => bound.socket.netns,
            Event::Refused(refused) => refused.netns,
            Event::Destroyed(_)
            | Event::Exited(_)
            | Event::Candidate(_)
            | Event::Connected(_)
            | Event::Failed(_)
            | Event::Snapshot(_)
            | Event::OtherPorts(_)
            | Event::Holders(_)
            | Event::Claimed(_)
            | Event::Configured(_)
            | Event::Lost(_) => return None,
        };
        let known = self.namespaces.get(netns).filter(|known| known.cookie == 0)?;
        Some((netns, known.name.as_deref()?))
    }

    fn lost(&mut self, lost: Lost, clock: &Clock, out: &mut Vec<Output>) {
        let Lost { records, place, from, to } = lost;
        self.counts.lost += records;
        // A skipped program costs a count, never the table: openings run in a task's own context, where
        // nothing nests. An attempt that was not followed is a refusal unseen.
        let is_of_the_table = match place {
            LostWhere::Ring | LostWhere::Decode => true,
            LostWhere::Recursion => self.scope.skips_anything,
            LostWhere::Attempts | LostWhere::Followed => false,
        };
        self.health.ends_untold |= place == LostWhere::Followed;
        if is_of_the_table {
            self.health.lost = true;
            self.binds.lost();
        }
        let body = Body::Lost(line::Lost { records, place, from: clock.time(from), to: clock.time(to) });
        self.say(to, body, out);
    }

    fn listener_line(
        &self,
        change: Change,
        listener: &Listener,
        end: Option<OwnerEnd>,
        clock: &Clock,
    ) -> Body {
        let listener = self.show(listener, clock);
        Body::Listener(line::ListenerLine { change, listener, owner: end.map(owner) })
    }

    fn weighed(&self, weighed: &[judge::WeighedListener], clock: &Clock) -> Vec<line::Weighed> {
        weighed
            .iter()
            .map(|one| line::Weighed { listener: self.show(&one.listener, clock), mismatch: one.mismatch })
            .collect()
    }

    fn show(&self, listener: &Listener, clock: &Clock) -> line::Listener {
        let Listener { key, netns, addr, port, v6only, device, backlog, since, process } = listener;
        line::Listener {
            addr: self.namespaces.show_addr(*netns, *addr, *device),
            port: *port,
            v6only: *v6only,
            device: device.map(|device| self.namespaces.device_name(*netns, device)),
            interface: self.namespaces.interface_of(*netns, *addr, *device),
            netns: self.namespaces.show(*netns),
            cookie: (key.cookie != 0).then(|| key.cookie.to_string()),
            since: since.map(|since| clock.time(since)),
            backlog: *backlog,
            process: process.clone(),
        }
    }
}

/// A process as it is now, with what was known of it before where it has let go of that: it may have changed its name.
fn renamed(now: Process, before: Process) -> Process {
    let is_ending = now.exe.is_none();
    Process {
        exe: if is_ending { before.exe } else { now.exe },
        container: now.container.or(before.container),
        start_time: now.start_time.or(before.start_time),
        ns_pid: now.ns_pid.or(before.ns_pid),
        ..now
    }
}

/// The processes whose claims a verdict shows: the owners of what listens where the client asked, the candidates,
/// and the server on another port.
fn claimants(judgement: &Judgement) -> impl Iterator<Item = &Process> {
    let netns = judgement.destination.netns;
    let owners = judgement
        .weighed
        .iter()
        .filter(move |one| one.listener.netns == netns && one.mismatch != Some(Mismatch::Closed))
        .map(|one| &one.listener.process);
    let candidates = judgement.candidates.iter().map(|known| &known.candidate.process);
    let elsewhere = judgement.elsewhere.iter().map(|listener| &listener.process);
    let mut seen = BTreeSet::new();
    let is_new = move |process: &&Process| process.pid.is_some_and(|pid| seen.insert(pid));
    owners.chain(candidates).chain(elsewhere).filter(is_new).take(claims::SHOWN_MAX)
}

/// Counts connects that ended with no error: the application gave up.
const GIVEN_UP: &str = "given-up";

fn owner(end: OwnerEnd) -> line::Owner {
    let (state, code, signal) = match end {
        OwnerEnd::Alive => (OwnerState::Alive, None, None),
        OwnerEnd::Ended(ExitStatus::Code(code)) => (OwnerState::Ended, Some(code), None),
        OwnerEnd::Ended(ExitStatus::Signal(signal)) => (OwnerState::Ended, None, Some(signal)),
        OwnerEnd::Unknown => (OwnerState::Unknown, None, None),
    };
    line::Owner { state, code, signal }
}

fn candidate(known: &Known, now: Mono, clock: &Clock) -> line::Candidate {
    let until = known.end.map_or(now, |(time, _)| time);
    line::Candidate {
        process: known.candidate.process.clone(),
        state: owner(known.end.map_or(OwnerEnd::Alive, |(_, status)| OwnerEnd::Ended(status))),
        age_us: until.since(known.candidate.since) / 1_000,
        ended: known.end.map(|(time, _)| clock.time(time)),
    }
}
