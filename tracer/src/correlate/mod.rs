//! Joins each refusal with the listeners that should have answered. Pure: it is told what happened and
//! what time it is, and returns what the log should say.

pub mod coverage;
pub mod join;
pub mod judge;
pub mod listeners;
pub mod namespaces;
pub mod wording;

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};

use crate::clock::Clock;
use crate::event::{
    Closed, Closer, Event, Listener, Lost, Mono, Namespace, NetnsId, Opened, Refused, Snapshot,
};
use crate::line::{self, Because, Body, Cause, Change, Confidence, LostWhere, SentBy, Via};
use judge::{DOUBT_NS, Health, Judgement, Prospect};
use listeners::{Gone, OwnerEnd, Table};
use namespaces::Namespaces;
use wording::{Wording, Words};

/// A `listen()` that fails goes back to CLOSE within this time, in the same task.
const FAILURE_NS: u64 = 1_000_000;

/// How old what is known of a namespace's addresses may be when a verdict rests on it: short against what a
/// person does, and long against what asking costs.
const FRESH_NS: u64 = 5_000_000;

/// Refusals held back at once: those of 10 ms. More are judged by what is known at once.
const PENDING_MAX: usize = 4_096;

/// What a line says, and the moment it is about.
#[derive(Clone, Debug, PartialEq)]
pub struct Output {
    pub mono: Mono,
    pub body: Body,
}

/// What the correlator has to be told before it can take an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// One namespace, anew; a process that is or was in it.
    Namespace(NetnsId, Option<u32>),
    /// Every namespace, anew.
    Snapshot,
}

/// A refusal that waits for the time in which a listener's close could still come.
#[derive(Clone, Debug)]
struct Pending {
    due: Mono,
    refused: Refused,
}

/// What is known of the listeners, and what has been refused.
#[derive(Debug)]
pub struct Correlator {
    table: Table,
    namespaces: Namespaces,
    /// Only refusals of clients in this namespace are reported.
    filter: Option<NetnsId>,
    health: Health,
    /// When all namespaces were last read.
    snapshot_at: Mono,
    /// How long that took, in nanoseconds.
    snapshot_cost: u64,
    /// Whether the table was read once more before a verdict that rested on an absence.
    is_absence_verified: bool,
    /// Listeners whose `listen()` may still fail, oldest first.
    opening: VecDeque<Opened>,
    /// Refusals held back, the first due first.
    pending: VecDeque<Pending>,
}

impl Correlator {
    pub fn new(filter: Option<NetnsId>) -> Self {
        Self {
            table: Table::default(),
            namespaces: Namespaces::default(),
            filter,
            health: Health::default(),
            snapshot_at: Mono(0),
            snapshot_cost: 0,
            is_absence_verified: false,
            opening: VecDeque::new(),
            pending: VecDeque::new(),
        }
    }

    /// What must be known before `event` is taken; to be asked again once it is.
    pub fn need(&self, event: &Event, now: Mono) -> Option<Need> {
        // What a namespace's addresses were a moment before the event is good enough; asking costs a
        // fraction of a millisecond.
        let is_stale = |netns, at: Mono| {
            self.namespaces.read_at(netns).is_none_or(|read| read < at && now.since(read) > FRESH_NS)
        };
        let is_replaced = |netns, cookie: u64| {
            let known = self.namespaces.cookie(netns);
            cookie != 0 && known != 0 && cookie != known
        };
        match event {
            Event::Opened(Opened { listener, netns_cookie, .. })
            | Event::Closed(Closed { listener, netns_cookie, .. }) => {
                let netns = listener.netns;
                let is_unknown = self.namespaces.read_at(netns).is_none();
                (is_unknown || is_replaced(netns, *netns_cookie))
                    .then_some(Need::Namespace(netns, listener.process.pid))
            }
            Event::Refused(refused) if self.is_reported(refused) => {
                let netns = refused.netns;
                let is_unknown = self.namespaces.read_at(netns).is_none();
                let is_replaced = is_replaced(netns, refused.netns_cookie);
                if is_unknown || is_replaced || !refused.dst.is_loopback() && is_stale(netns, refused.time) {
                    return Some(Need::Namespace(netns, refused.client.pid));
                }
                // A snapshot may take a twentieth of the time, and no more.
                let rest = Mono(self.snapshot_at.0.saturating_add(20 * self.snapshot_cost));
                let is_old = self.snapshot_at < refused.time && now > rest;
                let judgement = self.judge(refused);
                let destination = judgement.destination.netns;
                if destination != netns && is_stale(destination, refused.time) {
                    return Some(Need::Namespace(destination, None));
                }
                let is_ambiguous = judgement.because.contains(&Because::AmbiguousNetns);
                let rests_on_absence = matches!(judgement.cause, Cause::OtherNetns | Cause::NothingListening)
                    && !self.is_absence_verified;
                let asks = judgement.cause == Cause::Remote || is_ambiguous || self.health.lost;
                (asks && is_old || rests_on_absence).then_some(Need::Snapshot)
            }
            Event::Refused(_) | Event::Snapshot(_) | Event::Lost(_) => None,
        }
    }

    fn is_reported(&self, refused: &Refused) -> bool {
        self.filter.is_none_or(|filter| filter == refused.netns)
    }

    /// Takes one event, in order, and returns what the log should say.
    pub fn apply(&mut self, event: Event, clock: &Clock) -> Vec<Output> {
        let mut out = Vec::new();
        match event {
            Event::Opened(opened) => self.opened(opened),
            Event::Closed(closed) => self.closed(closed, clock, &mut out),
            Event::Refused(refused) => self.refused(refused, clock, &mut out),
            Event::Snapshot(snapshot) => self.snapshot(snapshot, clock, &mut out),
            Event::Lost(lost) => self.lost(lost, clock, &mut out),
        }
        out
    }

    /// When [`Self::tick`] is due next.
    pub fn deadline(&self) -> Option<Mono> {
        let opening = self.opening.front().map(|opened| Mono(opened.time.0 + FAILURE_NS));
        let pending = self.pending.front().map(|pending| pending.due);
        match (opening, pending) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        }
    }

    /// Lets time pass. Everything that happened until `now` must have been taken before.
    pub fn tick(&mut self, now: Mono, clock: &Clock) -> Vec<Output> {
        let mut out = Vec::new();
        while let Some(opened) = self.opening.front()
            && now.since(opened.time) >= FAILURE_NS
        {
            if let Some(opened) = self.opening.pop_front() {
                out.push(self.listener_line(Change::Opened, opened.time, &opened.listener, None, clock));
            }
        }
        while self.pending.front().is_some_and(|pending| pending.due <= now) {
            if let Some(pending) = self.pending.pop_front() {
                self.report(&pending.refused, clock, &mut out);
            }
        }
        out
    }

    /// Ends: nothing more will come, so what was held back is said now.
    pub fn finish(&mut self, clock: &Clock) -> Vec<Output> {
        self.tick(Mono(u64::MAX), clock)
    }

    /// The host could not be looked at, which took `cost` nanoseconds: what rests on an absence is in doubt until
    /// it can.
    pub fn blind(&mut self, now: Mono, cost: u64) {
        self.namespaces.set_unreadable(NetnsId(0), true, now);
        self.is_absence_verified |= self.health.ready;
        self.snapshot_at = now;
        self.snapshot_cost = cost;
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

    /// What each local address would get, in each namespace that has a listener and in the tracer's own.
    fn answers(&self, ports: &[u16]) -> Vec<line::Answer> {
        let occupied: Vec<NetnsId> = self.table.occupied().collect();
        let mut shown: Vec<&Namespace> = self
            .namespaces
            .iter()
            .filter(|namespace| namespace.is_own || occupied.contains(&namespace.id))
            .filter(|namespace| self.filter.is_none_or(|filter| filter == namespace.id))
            .collect();
        shown.sort_by_key(|namespace| (!namespace.is_own, namespace.id));
        let mut answers = Vec::new();
        for namespace in shown {
            for port in ports {
                for addr in namespace.addresses() {
                    let prospect = judge::foresee(namespace.id, addr, *port, &self.table, &self.namespaces);
                    answers.push(line::Answer {
                        netns: self.namespaces.show(namespace.id),
                        addr: addr.to_string(),
                        port: *port,
                        answered: prospect.answered,
                    });
                }
            }
        }
        answers
    }

    /// What a connect made now, inside `netns`, would get; `reader` is the user who asks.
    pub fn status(
        &self,
        netns: NetnsId,
        addr: IpAddr,
        port: u16,
        reader: u32,
        clock: &Clock,
    ) -> line::Status {
        let Prospect { destination, answered, weighed, total } =
            judge::foresee(netns, addr, port, &self.table, &self.namespaces);
        let is_local = destination.route.is_some();
        let summary = match weighed.first() {
            _ if !is_local => "not an address of this network namespace".to_owned(),
            None => "nothing listens on the port".to_owned(),
            Some(nearest) => {
                let listener = &nearest.listener;
                let at = SocketAddr::new(listener.addr, listener.port);
                let only = if answered { "" } else { " only" };
                let elsewhere = if listener.netns == netns { "" } else { ", in another network namespace" };
                let owner = match listener.process.pid {
                    Some(_) => wording::who(&listener.process),
                    None => format!("owner: not readable as uid {reader}"),
                };
                format!("{at}{only}{elsewhere} ({owner})")
            }
        };
        line::Status {
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

    fn opened(&mut self, opened: Opened) {
        self.drop_if_replaced(opened.listener.netns, opened.netns_cookie);
        self.table.insert(opened.listener.clone());
        // A millisecond's worth; time passes whenever a batch of events has been taken.
        self.opening.push_back(opened);
    }

    fn closed(&mut self, closed: Closed, clock: &Clock, out: &mut Vec<Output>) {
        let Closed { time, listener, tid, shutdown, closer: by, netns_cookie } = closed;
        self.drop_if_replaced(listener.netns, netns_cookie);
        let known = self.table.remove(listener.netns, listener.key);
        let opening = self.opening.iter().position(|opened| opened.listener.key.is_same(listener.key));
        if let Some(index) = opening
            && let Some(opened) = self.opening.get(index)
        {
            let is_failure = shutdown == 0 && tid == opened.tid && time.since(opened.time) < FAILURE_NS;
            let opened = self.opening.remove(index);
            if is_failure {
                return;
            }
            // It lived for less than the time a failure takes: say that it opened before it closed.
            out.extend(opened.map(|opened| {
                self.listener_line(Change::Opened, opened.time, &opened.listener, None, clock)
            }));
        }
        // The last holder closes with `sk_shutdown` set; an administrator's `ss -K`, and a shutdown() of
        // the socket, do not, and the one who did it need not be its owner.
        let closer = listener.process.clone();
        let owner = match &known {
            Some(known) if shutdown == 0 || by == Closer::Kernel || known.process.pid == closer.pid => {
                known.process.clone()
            }
            Some(_) | None => closer.clone(),
        };
        let end = match by {
            Closer::Ending(status) if shutdown != 0 => OwnerEnd::Ended(status),
            Closer::Process if owner.pid == closer.pid && owner.pid.is_some() => OwnerEnd::Alive,
            Closer::Ending(_) | Closer::Process | Closer::Kernel => OwnerEnd::Unknown,
        };
        let gone = Listener {
            process: owner,
            since: known.as_ref().and_then(|known| known.since),
            backlog: known.as_ref().and_then(|known| known.backlog),
            ..listener
        };
        out.push(self.listener_line(Change::Closed, time, &gone, Some(end), clock));
        self.table.remember(Gone { listener: gone, time, owner: end });
    }

    fn refused(&mut self, refused: Refused, clock: &Clock, out: &mut Vec<Output>) {
        if !self.is_reported(&refused) {
            return;
        }
        self.drop_if_replaced(refused.netns, refused.netns_cookie);
        // A listener on its way out is unhashed before it is seen to close: wait for that. A refusal that
        // no socket was asked about does not need it.
        let asked_nobody = refused.via == Via::Icmp || refused.sent_by == Some(SentBy::Filter);
        let due = Mono(refused.started.0 + DOUBT_NS);
        let may_wait = !asked_nobody && refused.time < due && self.pending.len() < PENDING_MAX;
        if may_wait && self.judge(&refused).cause == Cause::Intercepted {
            let at = self.pending.partition_point(|pending| pending.due <= due);
            self.pending.insert(at, Pending { due, refused });
        } else {
            self.report(&refused, clock, out);
        }
    }

    fn judge(&self, refused: &Refused) -> Judgement {
        judge::judge(refused, &self.table, &self.namespaces, self.health)
    }

    fn report(&mut self, refused: &Refused, clock: &Clock, out: &mut Vec<Output>) {
        let judgement = self.judge(refused);
        let wording = Wording {
            refused,
            judgement: &judgement,
            table: &self.table,
            namespaces: &self.namespaces,
            now: refused.time,
        };
        let Words { summary, hint } = wording.words();
        let netns = refused.netns;
        let endpoint = |addr, port| line::Endpoint {
            addr: self.namespaces.show_addr(netns, addr, refused.device),
            port,
        };
        let verdict = line::Verdict {
            cause: judgement.cause,
            confidence: if judgement.because.is_empty() { Confidence::Certain } else { Confidence::Degraded },
            because: judgement.because,
            listeners: self.weighed(&judgement.weighed, clock),
            listeners_total: judgement.total,
            failed_binds: Vec::new(),
            candidates: Vec::new(),
            claims: Vec::new(),
            summary,
            hint,
        };
        out.push(Output {
            mono: refused.time,
            body: Body::Refused(Box::new(line::Refused {
                client: refused.client.clone(),
                src: endpoint(refused.src, refused.src_port),
                dst: endpoint(refused.dst, Some(refused.dst_port)),
                netns: self.namespaces.show(netns),
                via: refused.via,
                sent_by: refused.sent_by,
                latency_us: refused.time.since(refused.started) / 1_000,
                verdict,
            })),
        });
    }

    fn snapshot(&mut self, snapshot: Snapshot, clock: &Clock, out: &mut Vec<Output>) {
        let Snapshot { is_complete, began, ended, namespaces, listeners, unreadable } = snapshot;
        let read: Vec<NetnsId> = namespaces.iter().map(|namespace| namespace.id).collect();
        if is_complete {
            // What is not there any more is gone, but for a namespace that only its sockets keep.
            let table = &self.table;
            self.namespaces.retain(|netns| read.contains(&netns) || table.open_in(netns).next().is_some());
        }
        for namespace in namespaces {
            self.namespace(namespace, ended);
        }
        for unreadable in unreadable {
            self.namespaces.set_unreadable(unreadable.id, is_complete, ended);
        }
        let was_lost = self.health.lost;
        if is_complete && was_lost {
            self.reconcile(&read, &listeners, began, ended, clock, out);
        }
        let mut found = listeners;
        found.sort_by_key(|listener| (listener.netns, listener.port, listener.addr, listener.key.inode));
        for listener in found {
            let is_known = self.table.get(listener.netns, listener.key).is_some();
            if is_known || self.table.closed_since(listener.netns, listener.key, began) {
                continue;
            }
            // Whose opening was lost has opened since the tracer is here, at the latest now.
            let since = if was_lost && self.health.ready { Some(began) } else { listener.since };
            let listener = Listener { since, ..listener };
            out.push(self.listener_line(Change::Present, ended, &listener, None, clock));
            self.table.insert(listener);
        }
        if is_complete {
            self.is_absence_verified |= self.health.ready;
            self.snapshot_at = ended;
            self.snapshot_cost = ended.since(began);
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
        let is_there = |known: &Listener| listeners.iter().any(|found| found.key.is_same(known.key));
        let vanished: Vec<Listener> = self
            .table
            .open()
            .filter(|known| read.contains(&known.netns))
            .filter(|known| known.since.is_none_or(|since| since < began))
            .filter(|known| !is_there(known))
            .cloned()
            .collect();
        for listener in vanished {
            self.table.remove(listener.netns, listener.key);
            out.push(self.listener_line(Change::Closed, ended, &listener, Some(OwnerEnd::Unknown), clock));
            self.table.remember(Gone { listener, time: ended, owner: OwnerEnd::Unknown });
        }
        self.health.lost = false;
    }

    fn namespace(&mut self, namespace: Namespace, read: Mono) {
        self.drop_if_replaced(namespace.id, namespace.cookie);
        self.namespaces.insert(namespace, read);
        let table = &self.table;
        self.namespaces.shrink(|netns| table.open_in(netns).next().is_some());
    }

    /// A number that now has another cookie is another namespace's: the old one is gone, with all its
    /// sockets.
    fn drop_if_replaced(&mut self, netns: NetnsId, cookie: u64) {
        let known = self.namespaces.cookie(netns);
        if cookie != 0 && known != 0 && cookie != known {
            self.table.forget(netns);
            self.namespaces.forget(netns);
        }
    }

    fn lost(&mut self, lost: Lost, clock: &Clock, out: &mut Vec<Output>) {
        let Lost { records, place, from, to } = lost;
        // A skipped program costs a count, never the table: openings run in a task's own context, where
        // nothing nests. An attempt that was not followed is a refusal unseen.
        self.health.lost |= match place {
            LostWhere::Ring | LostWhere::Decode => true,
            LostWhere::Recursion | LostWhere::Attempts => false,
        };
        out.push(Output {
            mono: to,
            body: Body::Lost(line::Lost { records, place, from: clock.time(from), to: clock.time(to) }),
        });
    }

    fn listener_line(
        &self,
        change: Change,
        mono: Mono,
        listener: &Listener,
        end: Option<OwnerEnd>,
        clock: &Clock,
    ) -> Output {
        let owner = end.map(|end| match end {
            OwnerEnd::Alive => line::Owner { state: line::OwnerState::Alive, code: None, signal: None },
            OwnerEnd::Ended(crate::event::ExitStatus::Code(code)) => {
                line::Owner { state: line::OwnerState::Ended, code: Some(code), signal: None }
            }
            OwnerEnd::Ended(crate::event::ExitStatus::Signal(signal)) => {
                line::Owner { state: line::OwnerState::Ended, code: None, signal: Some(signal) }
            }
            OwnerEnd::Unknown => line::Owner { state: line::OwnerState::Unknown, code: None, signal: None },
        });
        let listener = self.show(listener, clock);
        Output { mono, body: Body::Listener(line::ListenerLine { change, listener, owner }) }
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
