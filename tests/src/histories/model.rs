//! What the right answer is, by the contract of the causes alone: nothing of tracer's rules is used here.
//!
//! The answer is computed from all that has happened before the connect. Where the contract allows several readings, each
//! is allowed; where it demands that the verdict is degraded, the reason is given.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use tracer::output::schema::Cause;

use super::plan::{Address, Client, Connect, PortName};
use super::stage::{Act, Event};

/// A listener that was open for less is not a server's.
const HELD_NS: u64 = 50_000_000;
/// A process that ends so soon after it closed a listener may have closed it because it ended, with a margin.
const ENDING_NS: u64 = 150_000_000;
/// A server that listens elsewhere for so long has settled there.
const SETTLED_NS: u64 = 5_000_000_000;

const EARLIER_HOLDER: &str = "an earlier holder of another service";

/// Which of them is named beside the cause is left open.
pub const SEVERAL: &str = "several services tried the port";
const ENDED_SOON: &str = "a process ended soon after its listen()";
const OWN: &str = "the client's own listener";
const OTHER_SINCE: &str = "another service has since been on the port";

/// The same program of the same user: what makes two processes outside of units and containers the same service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Service {
    /// Place in [`super::plan::PROGRAMS`].
    pub name: usize,
    pub uid: u32,
}

/// What a verdict may be, if it is certain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Answer {
    pub cause: Cause,
    /// None: no server is known.
    pub server: Option<Service>,
}

/// The right answers to one refusal.
#[derive(Clone, Debug, Default)]
pub struct Answers {
    /// A certain verdict is one of these.
    pub allowed: HashSet<Answer>,
    /// Why the verdict must be degraded.
    pub degraded: BTreeSet<&'static str>,
    /// Why it must be, where it is `wrong-family` or `wrong-address`.
    pub own: BTreeSet<&'static str>,
    /// Why it may be.
    pub uncertain: BTreeSet<&'static str>,
    /// What the contract does not decide: every verdict is right.
    pub undecided: BTreeSet<&'static str>,
    /// A listener covers the destination: nothing was refused.
    pub is_answered: bool,
}

#[derive(Clone, Debug)]
struct Socket {
    port: PortName,
    address: Address,
    reuse: bool,
    opener: Service,
    /// Place of the event and its times.
    listened: Option<Point>,
    closed: Option<Point>,
    holders: BTreeSet<usize>,
    /// The instance that held it last, or holds it.
    holder: usize,
    /// The process that did.
    last: usize,
    /// Its last holder has ended, and did not close it.
    is_ended_with: bool,
}

#[derive(Clone, Copy, Debug)]
struct Point {
    place: usize,
    before: u64,
    after: u64,
}

/// One exec and its forks.
#[derive(Clone, Debug)]
struct Instance {
    service: Service,
    has_other_arguments: bool,
    first: usize,
    started: usize,
    /// Running processes that have not exec'd another program.
    alive: BTreeSet<usize>,
    /// Processes that have ended; an instance that was replaced by exec has not.
    has_ended_process: bool,
    ended: Option<usize>,
    /// Places of its calls.
    failures: Vec<Failure>,
    listened: Vec<(usize, usize)>,
    bound: Vec<(usize, usize)>,
}

#[derive(Clone, Copy, Debug)]
struct Failure {
    place: usize,
    port: PortName,
    address: Address,
    errno: i32,
    reuse: bool,
}

#[derive(Debug, Default)]
struct World {
    sockets: BTreeMap<usize, Socket>,
    instances: Vec<Instance>,
    /// The instance of each process.
    processes: BTreeMap<usize, usize>,
    /// Refused connects of processes.
    refused: Vec<(usize, IpAddr, PortName)>,
}

/// Whether a listener on the port answers a connect to `to`.
fn covers(address: Address, to: IpAddr) -> bool {
    let Address { ip, v6only } = address;
    ip == to
        || ip.is_unspecified() && (ip.is_ipv4() == to.is_ipv4() || ip.is_ipv6() && to.is_ipv4() && !v6only)
}

/// Whether both cannot be bound to one port.
fn conflict(one: Address, other: Address) -> bool {
    if one.ip.is_ipv4() == other.ip.is_ipv4() {
        return one.ip == other.ip || one.ip.is_unspecified() || other.ip.is_unspecified();
    }
    [one, other].iter().any(|address| address.ip == IpAddr::V6(Ipv6Addr::UNSPECIFIED) && !address.v6only)
}

/// Whether the listener covers the counterpart of the destination in the other family.
fn covers_counterpart(address: Address, to: IpAddr) -> bool {
    match to {
        IpAddr::V4(v4) if v4.is_loopback() => covers(address, Ipv6Addr::LOCALHOST.into()),
        IpAddr::V6(Ipv6Addr::LOCALHOST) => covers(address, Ipv4Addr::LOCALHOST.into()),
        IpAddr::V4(_) => address.ip == IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        IpAddr::V6(_) => {
            address.ip == IpAddr::V4(Ipv4Addr::UNSPECIFIED)
                || address.ip == IpAddr::V6(Ipv6Addr::UNSPECIFIED) && !address.v6only
        }
    }
}

impl Socket {
    fn is_listening(&self) -> bool {
        self.listened.is_some() && self.closed.is_none()
    }

    fn is_bound_only(&self) -> bool {
        self.listened.is_none() && self.closed.is_none()
    }

    /// How long it listened, at least and at most.
    fn held(&self) -> Option<(u64, u64)> {
        let (from, to) = (self.listened?, self.closed?);
        Some((to.before.saturating_sub(from.after), to.after.saturating_sub(from.before)))
    }
}

impl World {
    fn add(&mut self, place: usize, event: &Event) {
        let point = Point { place, before: event.before, after: event.after };
        match &event.act {
            Act::Started { process, program } => {
                let service = Service { name: program.name, uid: program.uid };
                self.begin(*process, service, program.has_other_arguments, place);
            }
            Act::Forked { process, child } => {
                let instance = self.processes[process];
                self.processes.insert(*child, instance);
                self.instances[instance].alive.insert(*child);
                for socket in self.sockets.values_mut().filter(|socket| socket.holders.contains(process)) {
                    socket.holders.insert(*child);
                }
            }
            Act::Execed { process, name, keeps } => {
                let old = self.processes[process];
                let Instance { service, has_other_arguments, .. } = self.instances[old];
                if !*keeps {
                    self.release(*process, None, point);
                }
                self.instances[old].alive.remove(process);
                self.see_end(old, place);
                let service = Service { name: *name, ..service };
                let new = self.begin(*process, service, has_other_arguments, place);
                for (number, socket) in &mut self.sockets {
                    if socket.holders.contains(process) {
                        // An inherited listener counts as listened.
                        if socket.is_listening() {
                            self.instances[new].listened.push((place, *number));
                        }
                        // Where another process holds it too, that one goes on.
                        if socket.last == *process || !socket.holders.contains(&socket.last) {
                            (socket.holder, socket.last) = (new, *process);
                        }
                    }
                }
            }
            Act::Ended { process } => {
                self.release(*process, None, point);
                for socket in self.sockets.values_mut().filter(|socket| socket.last == *process) {
                    let is_soon = |closed: Point| event.before.saturating_sub(closed.after) < ENDING_NS;
                    socket.is_ended_with |= socket.closed.is_some_and(is_soon);
                }
                let instance = self.processes[process];
                self.instances[instance].alive.remove(process);
                self.instances[instance].has_ended_process = true;
                self.see_end(instance, place);
            }
            Act::Bound { process, socket, port, address, reuse, errno } => {
                let instance = self.processes[process];
                if *errno != 0 {
                    let (port, address, errno, reuse) = (*port, *address, *errno, *reuse);
                    self.instances[instance].failures.push(Failure { place, port, address, errno, reuse });
                    return;
                }
                self.instances[instance].bound.push((place, *socket));
                let made = Socket {
                    port: *port,
                    address: *address,
                    reuse: *reuse,
                    opener: self.instances[instance].service,
                    listened: None,
                    closed: None,
                    holders: BTreeSet::from([*process]),
                    holder: instance,
                    last: *process,
                    is_ended_with: false,
                };
                self.sockets.insert(*socket, made);
            }
            Act::Listened { process, socket, errno } => {
                let instance = self.processes[process];
                let Some(made) = self.sockets.get_mut(socket) else { return };
                if *errno != 0 {
                    let (port, address, reuse) = (made.port, made.address, made.reuse);
                    self.instances[instance].failures.push(Failure {
                        place,
                        port,
                        address,
                        errno: *errno,
                        reuse,
                    });
                } else if made.listened.is_none() {
                    made.listened = Some(point);
                    made.opener = self.instances[instance].service;
                    (made.holder, made.last) = (instance, *process);
                    self.instances[instance].listened.push((place, *socket));
                }
            }
            Act::Closed { process, socket } => self.release(*process, Some(*socket), point),
            Act::Connected { connect, errno, .. } => {
                if let (Client::Process(process), libc::ECONNREFUSED) = (connect.client, *errno) {
                    self.refused.push((process, connect.ip, connect.port));
                }
            }
        }
    }

    fn begin(&mut self, process: usize, service: Service, has_other_arguments: bool, place: usize) -> usize {
        self.instances.push(Instance {
            service,
            has_other_arguments,
            first: process,
            started: place,
            alive: BTreeSet::from([process]),
            has_ended_process: false,
            ended: None,
            failures: Vec::new(),
            listened: Vec::new(),
            bound: Vec::new(),
        });
        self.processes.insert(process, self.instances.len() - 1);
        self.instances.len() - 1
    }

    /// A process holds a socket, or all of them, no more.
    fn release(&mut self, process: usize, only: Option<usize>, point: Point) {
        for (number, socket) in &mut self.sockets {
            if only.is_none_or(|only| only == *number) && socket.holders.remove(&process) {
                match socket.holders.first() {
                    None => {
                        (socket.holder, socket.last) = (self.processes[&process], process);
                        socket.closed = Some(point);
                    }
                    Some(left) if socket.last == process => {
                        (socket.holder, socket.last) = (self.processes[left], *left);
                    }
                    Some(_) => {}
                }
            }
        }
        let instances: BTreeSet<usize> = self.processes.values().copied().collect();
        for instance in instances {
            self.see_end(instance, point.place);
        }
    }

    /// An instance ends once: if it has listened, when its first process has ended and no fork holds the listener;
    /// otherwise with its last process. One whose processes all run other programs has not ended.
    fn see_end(&mut self, number: usize, place: usize) {
        let instance = &self.instances[number];
        if instance.ended.is_some() || !instance.has_ended_process {
            return;
        }
        let holds = |process: &usize| {
            self.sockets.values().any(|socket| socket.is_listening() && socket.holders.contains(process))
        };
        let is_over = if instance.listened.is_empty() {
            instance.alive.is_empty()
        } else {
            !instance.alive.contains(&instance.first) && !instance.alive.iter().any(holds)
        };
        if is_over {
            self.instances[number].ended = Some(place);
        }
    }

    fn on(&self, port: PortName) -> impl Iterator<Item = &Socket> {
        self.sockets.values().filter(move |socket| socket.port == port)
    }

    fn service(&self, socket: &Socket) -> Service {
        self.instances[socket.holder].service
    }
}

impl Instance {
    fn is_over(&self) -> bool {
        self.ended.is_some() || self.alive.is_empty()
    }

    /// It ended, and was not replaced by another program in its process.
    fn has_ended(&self) -> bool {
        self.ended.is_some()
    }
}

/// One refused connect.
struct Question<'a> {
    world: &'a World,
    port: PortName,
    to: IpAddr,
    client: Client,
    client_uid: u32,
    /// When the connect began.
    time: u64,
}

/// The right answers to the connect of this number.
pub fn answers(events: &[Event], number: usize) -> Answers {
    let mut world = World::default();
    for (place, event) in events.iter().enumerate() {
        if let Act::Connected { number: this, connect, .. } = event.act
            && this == number
        {
            let Connect { client, ip, port, .. } = connect;
            let client_uid = match client {
                Client::Fresh { uid } => uid,
                Client::Process(process) => world.instances[world.processes[&process]].service.uid,
            };
            let time = event.before;
            let question = Question { world: &world, port, to: ip, client, client_uid, time };
            let mut answers = question.answers();
            // A refusal that waits for its verdict learns how the closer ended.
            if !connect.waits && question.has_ended_soon(&events[place..]) {
                answers.undecided.insert(ENDED_SOON);
            }
            // What is known when the refusal is reported: which service asks for the port soon after.
            if answers.allowed.iter().all(|answer| answer.server.is_none()) && !answers.is_answered {
                for later in later_services(&world, &events[place..], port) {
                    question.note_later_events(later, &mut answers);
                }
            }
            return answers;
        }
        world.add(place, event);
    }
    panic!("no connect {number}");
}

/// The services that ask for the port after that.
fn later_services(world: &World, events: &[Event], port: PortName) -> BTreeSet<Service> {
    let mut services: BTreeMap<usize, Service> = world
        .processes
        .iter()
        .map(|(process, instance)| (*process, world.instances[*instance].service))
        .collect();
    let mut found = BTreeSet::new();
    for event in events {
        match &event.act {
            Act::Started { process, program } => {
                services.insert(*process, Service { name: program.name, uid: program.uid });
            }
            Act::Forked { process, child } => {
                services.insert(*child, services[process]);
            }
            Act::Execed { process, name, .. } => {
                services.insert(*process, Service { name: *name, ..services[process] });
            }
            Act::Bound { process, port: own, .. } if *own == port => {
                found.insert(services[process]);
            }
            _ => {}
        }
    }
    found
}

impl Question<'_> {
    /// A service that was not known to be the server yet may be taken for it by what it has done since.
    fn note_later_events(&self, server: Service, answers: &mut Answers) {
        let mut ignored = Answers::default();
        self.note_causes(server, false, &[], &mut ignored);
        answers.allowed.extend(ignored.allowed);
    }

    /// Whether a process has ended by one of these events that closed a listener just before, which was open for a moment.
    fn has_ended_soon(&self, later: &[Event]) -> bool {
        let ended = later.iter().filter_map(|event| match event.act {
            Act::Ended { process } => Some((process, event.before)),
            _ => None,
        });
        let short: Vec<&Socket> = self
            .on_port()
            .filter(|socket| covers(socket.address, self.to))
            .filter(|socket| socket.held().is_some_and(|(_, most)| most < HELD_NS))
            .collect();
        ended.into_iter().any(|(process, time)| {
            short.iter().any(|socket| {
                let is_soon = |closed: Point| time.saturating_sub(closed.after) < ENDING_NS;
                socket.last == process && socket.closed.is_some_and(is_soon)
            })
        })
    }

    fn on_port(&self) -> impl Iterator<Item = &Socket> {
        self.world.on(self.port)
    }

    fn has_listened(&self, instance: &Instance) -> bool {
        instance.listened.iter().any(|(_, socket)| self.world.sockets[socket].port == self.port)
    }

    /// The same for long enough to be more than a try.
    fn has_served(&self, instance: &Instance) -> bool {
        instance
            .listened
            .iter()
            .map(|(_, socket)| &self.world.sockets[socket])
            .any(|socket| socket.port == self.port && socket.held().is_none_or(|(least, _)| least >= HELD_NS))
    }

    fn failures<'b>(&self, instance: &'b Instance) -> impl Iterator<Item = &'b Failure> {
        let port = self.port;
        instance.failures.iter().filter(move |failure| failure.port == port)
    }

    /// It has called `bind()` or `listen()` on the port.
    fn has_called(&self, instance: &Instance) -> bool {
        self.has_listened(instance)
            || self.failures(instance).next().is_some()
            || instance.bound.iter().any(|(_, socket)| self.world.sockets[socket].port == self.port)
    }

    fn answers(&self) -> Answers {
        let mut answers = Answers::default();
        if self.on_port().any(|socket| socket.is_listening() && covers(socket.address, self.to)) {
            answers.is_answered = true;
            return answers;
        }
        // A client is not a server, and this one may be the server later.
        if let Client::Process(process) = self.client
            && !self.has_listened(&self.world.instances[self.world.processes[&process]])
        {
            answers.undecided.insert("the client may be an instance of the server");
        }
        let mut longs: Vec<&Socket> = Vec::new();
        for socket in self.on_port().filter(|socket| covers(socket.address, self.to)) {
            match socket.held() {
                Some((least, _)) if least >= HELD_NS => longs.push(socket),
                // Not transient, for its process has ended with it; and not stopped, for it did not serve.
                Some((_, most)) if most < HELD_NS && socket.is_ended_with => {
                    answers.undecided.insert(ENDED_SOON);
                }
                Some((_, most)) if most < HELD_NS => {}
                Some(_) => {
                    answers.undecided.insert("a listener was open for about 50 ms");
                }
                None => {}
            }
        }
        longs.sort_by_key(|socket| socket.closed.map(|point| point.place));
        if let Some(last) = longs.last() {
            let server = self.world.service(last);
            let closed = last.closed.expect("a closed listener").place;
            self.note_holder(last, &mut answers);
            self.note_user(last.opener.uid, &mut answers);
            if longs.iter().any(|socket| self.world.service(socket) != server) {
                answers.degraded.insert(EARLIER_HOLDER);
            }
            self.note_others(server, closed, &mut answers);
            self.note_causes(server, true, &longs, &mut answers);
            return answers;
        }
        let mut open: Vec<&Socket> = self.on_port().filter(|socket| socket.is_listening()).collect();
        open.sort_by_key(|socket| socket.listened.map(|point| point.place));
        if let Some(oldest) = open.first() {
            let server = self.world.service(oldest);
            self.note_holder(oldest, &mut answers);
            if open.iter().any(|socket| socket.opener.uid != oldest.opener.uid) {
                answers.degraded.insert("listeners of several users");
            }
            self.note_user(oldest.opener.uid, &mut answers);
            self.note_causes(server, true, &longs, &mut answers);
            return answers;
        }
        let callers: BTreeSet<Service> = self
            .world
            .instances
            .iter()
            .filter(|instance| self.has_called(instance))
            .map(|instance| instance.service)
            // A bound socket that another program has inherited is that one's by now.
            .chain(
                self.on_port()
                    .filter(|socket| socket.is_bound_only())
                    .map(|socket| self.world.service(socket)),
            )
            .collect();
        if callers.is_empty() {
            answers.allowed.insert(Answer { cause: Cause::NothingListening, server: None });
        }
        let is_one = callers.len() == 1;
        if callers.len() > 1 {
            answers.uncertain.insert(SEVERAL);
        }
        for server in callers {
            if is_one {
                self.note_user(server.uid, &mut answers);
            }
            self.note_causes(server, false, &longs, &mut answers);
        }
        answers
    }

    /// Of a listener that was opened by one program and is held by another, either may be meant.
    fn note_holder(&self, socket: &Socket, answers: &mut Answers) {
        if socket.opener != self.world.service(socket) {
            answers.uncertain.insert("opened by one program, held by another");
        }
    }

    /// Another user than root and the client's own may have staged it.
    fn note_user(&self, uid: u32, answers: &mut Answers) {
        if uid != 0 && uid != self.client_uid {
            answers.degraded.insert("unverified server");
        }
    }

    /// Another service that has started or failed on the port since.
    fn note_others(&self, server: Service, closed: usize, answers: &mut Answers) {
        for other in self.world.instances.iter().filter(|instance| instance.service != server) {
            let listened = other
                .listened
                .iter()
                .filter(|(_, socket)| self.world.sockets[socket].port == self.port)
                .map(|(place, _)| *place);
            let failed = self.failures(other).map(|failure| failure.place);
            let calls: Vec<usize> = listened.chain(failed).collect();
            if other.service.uid != server.uid {
                if !calls.is_empty() {
                    answers.uncertain.insert("another user's service on the port");
                }
            } else if calls.iter().any(|place| *place > closed) {
                answers.degraded.insert(OTHER_SINCE);
            } else if self.has_called(other) {
                answers.uncertain.insert("another service was on the port");
            }
        }
    }

    /// What the verdict is if this service is the server.
    fn note_causes(&self, server: Service, is_holder: bool, longs: &[&Socket], answers: &mut Answers) {
        let all: Vec<&Instance> =
            self.world.instances.iter().filter(|instance| instance.service == server).collect();
        if all.iter().any(|instance| instance.has_other_arguments != all[0].has_other_arguments) {
            answers.uncertain.insert("an instance with other arguments");
        }
        let mut readings: Vec<Vec<&Instance>> = vec![all.clone()];
        // One that has other arguments than those that held the port counts only degraded.
        let usual: Vec<&Instance> = all
            .iter()
            .copied()
            .filter(|instance| self.has_called(instance) || !instance.has_other_arguments)
            .collect();
        readings.push(usual);
        // A server that is known by its calls alone: only those that have called bind() or listen() are of it for sure.
        let callers: Vec<&Instance> =
            all.iter().copied().filter(|instance| self.has_called(instance)).collect();
        if !is_holder {
            readings.push(callers);
        }
        for instances in readings {
            let Reading { causes, degraded, others } = self.causes(server, &instances, longs, answers);
            answers.degraded.extend(degraded);
            for cause in causes {
                for server in others.iter().chain([&server]) {
                    answers.allowed.insert(Answer { cause, server: Some(*server) });
                }
            }
        }
    }

    fn causes(
        &self,
        server: Service,
        instances: &[&Instance],
        longs: &[&Socket],
        answers: &mut Answers,
    ) -> Reading {
        let mut reading = Reading::default();
        match self.bind_failed(server, instances, answers) {
            Match::Yes => return reading.with(Cause::BindFailed),
            Match::Either => {
                reading.causes.insert(Cause::BindFailed);
            }
            Match::No => {}
        }
        match self.stopped(server, instances, longs, answers) {
            Match::Yes => return reading.with(Cause::Stopped),
            Match::Either => {
                reading.causes.insert(Cause::Stopped);
            }
            Match::No => {}
        }
        // A listener of another user that is not of the service decides nothing.
        let counts = |socket: &&Socket| socket.is_listening() && socket.opener.uid == server.uid;
        let open: Vec<&Socket> = self.on_port().filter(counts).collect();
        if !open.is_empty() {
            let of_family: Vec<&Socket> =
                open.iter().copied().filter(|socket| covers_counterpart(socket.address, self.to)).collect();
            let (cause, by) = if of_family.is_empty() {
                (Cause::WrongAddress, open)
            } else {
                (Cause::WrongFamily, of_family)
            };
            let own = by.iter().filter(|socket| self.is_own(socket)).count();
            if own == by.len() {
                answers.own.insert(OWN);
            } else if own > 0 {
                answers.uncertain.insert("one of the listeners is the client's own");
            }
            reading.others = by.iter().map(|socket| self.world.service(socket)).collect();
            return reading.with(cause);
        }
        if self.on_port().any(|socket| socket.is_bound_only() && self.world.service(socket) == server) {
            return reading.with(Cause::BoundNotListening);
        }
        let is_starting = |instance: &Instance, answers: &mut Answers| {
            !instance.is_over()
                && !self.has_listened(instance)
                && self.settled(instance, answers) != Match::Yes
        };
        match self.other_port(instances, answers) {
            // One that started after those that have settled may be what the user waits for.
            Match::Yes if instances.last().is_some_and(|newest| is_starting(newest, answers)) => {
                reading.causes.insert(Cause::OtherPort);
            }
            Match::Yes => return reading.with(Cause::OtherPort),
            Match::Either => {
                reading.causes.insert(Cause::OtherPort);
            }
            Match::No => {}
        }
        if instances.iter().any(|instance| is_starting(instance, answers)) {
            return reading.with(Cause::Starting);
        }
        match self.never_listened(instances) {
            Match::Yes => return reading.with(Cause::NeverListened),
            Match::Either => {
                reading.causes.insert(Cause::NeverListened);
            }
            Match::No => {}
        }
        reading.with(Cause::NothingListening)
    }

    /// The newest instance is the one that started last, or the last that has asked for the port.
    fn bind_failed(&self, server: Service, instances: &[&Instance], answers: &mut Answers) -> Match {
        let Some(newest) = instances.last() else { return Match::No };
        let by_call = instances.iter().max_by_key(|instance| self.last_call(instance)).expect("an instance");
        let calling = instances.iter().rev().find(|instance| self.has_called(instance));
        let mut matches: Vec<Match> = [newest, by_call, calling.unwrap_or(newest)]
            .into_iter()
            .map(|instance| self.has_failed(server, instance, answers))
            .collect();
        matches.dedup();
        let is_one = matches.len() == 1;
        // An older instance that goes on without what it failed to get is as good an answer.
        let has_older = instances
            .iter()
            .any(|instance| !instance.is_over() && self.has_failed(server, instance, answers) != Match::No);
        match matches[0] {
            Match::No if is_one && has_older => Match::Either,
            one if is_one => one,
            _ => Match::Either,
        }
    }

    /// Place of the last `bind()` or `listen()` on the port.
    fn last_call(&self, instance: &Instance) -> Option<usize> {
        let listened =
            instance.listened.iter().filter(|(_, socket)| self.world.sockets[socket].port == self.port);
        let bound = instance.bound.iter().filter(|(_, socket)| self.world.sockets[socket].port == self.port);
        let failed = self.failures(instance).map(|failure| failure.place);
        listened.chain(bound).map(|(place, _)| *place).chain(failed).max()
    }

    fn has_failed(&self, server: Service, newest: &Instance, answers: &mut Answers) -> Match {
        // Another user's listener decides nothing: whether it is nothing that listens can be read either way.
        let nothing_listens =
            !self.on_port().any(|socket| socket.is_listening() && socket.opener.uid == newest.service.uid);
        let is_only_others = nothing_listens && self.on_port().any(Socket::is_listening);
        let has_listened = self.has_served(newest);
        let counts =
            |failure: &&Failure| covers(failure.address, self.to) || nothing_listens && !has_listened;
        let Some(last) = self.failures(newest).filter(counts).last() else { return Match::No };
        // Only a success that covers the destination clears it.
        let successes: Vec<&Socket> = self
            .on_port()
            .filter(|socket| {
                covers(socket.address, self.to)
                    && socket.listened.is_some_and(|point| point.place > last.place)
            })
            .collect();
        if !successes.is_empty() {
            if successes.iter().all(|socket| socket.held().is_some_and(|(least, _)| least < HELD_NS)) {
                answers.undecided.insert("a failure, then a listener for a moment");
            }
            if successes.iter().all(|socket| socket.opener.uid != newest.service.uid) {
                answers.undecided.insert("a failure, then another user's listener");
            }
            return Match::No;
        }
        let elsewhere: Vec<&Socket> = newest
            .listened
            .iter()
            .map(|(place, socket)| (*place, &self.world.sockets[socket]))
            .filter(|(place, socket)| socket.port != self.port && *place > last.place)
            .map(|(_, socket)| socket)
            .collect();
        if !elsewhere.is_empty() {
            // What a fork opens once its instance has ended can be read either way.
            return if elsewhere.iter().any(|socket| socket.is_listening()) && !newest.is_over() {
                Match::No
            } else {
                Match::Either
            };
        }
        // Before the listener that covered the destination closed, of another address or by its own holder: it does not
        // explain why that closed.
        let is_of_another = self.on_port().any(|socket| {
            covers(socket.address, self.to)
                && socket.listened.is_some()
                && socket.closed.is_some_and(|closed| closed.place > last.place)
                && (!covers(last.address, self.to)
                    || last.errno != libc::EADDRINUSE
                    || std::ptr::eq(&self.world.instances[socket.holder], newest))
        });
        // The address is the server's already, on a socket that does not listen.
        let is_own = self.on_port().any(|socket| {
            socket.is_bound_only()
                && (covers(socket.address, self.to) || conflict(socket.address, last.address))
                && self.world.service(socket) == server
        });
        if is_of_another || is_own || is_only_others && !covers(last.address, self.to) {
            return Match::Either;
        }
        if last.errno != libc::EADDRINUSE {
            return Match::Yes;
        }
        let is_held = self.on_port().any(|socket| {
            socket.closed.is_none()
                && conflict(socket.address, last.address)
                && !(socket.reuse && last.reuse && !socket.is_listening())
        });
        if is_held {
            return Match::Yes;
        }
        let listens_somewhere = self.world.sockets.values().any(|socket| {
            socket.is_listening() && socket.holders.iter().any(|one| newest.alive.contains(one))
        });
        if listens_somewhere {
            return Match::No;
        }
        match (newest.is_over(), newest.alive.is_empty()) {
            (false, _) => Match::Yes,
            // A fork goes on without the port: the parent that ended first may never have been seen.
            (true, false) => Match::Either,
            (true, true) => Match::No,
        }
    }

    fn stopped(
        &self,
        server: Service,
        instances: &[&Instance],
        longs: &[&Socket],
        answers: &mut Answers,
    ) -> Match {
        let Some(last) = longs.iter().rev().find(|socket| self.world.service(socket) == server) else {
            return Match::No;
        };
        let closed = last.closed.expect("a closed listener").place;
        let reopened: Vec<&Socket> = self
            .on_port()
            .filter(|socket| {
                self.world.service(socket) == server
                    && socket.listened.is_some_and(|point| point.place > closed)
            })
            .collect();
        if !reopened.is_empty() {
            if !reopened.iter().any(|socket| socket.is_listening()) {
                answers.undecided.insert("stopped, then a listener again for a moment or elsewhere");
            }
            return Match::No;
        }
        // As at a reload, which opens the new address before it closes the old one: it has moved, or stopped here.
        let mut is_either = self.on_port().any(|socket| {
            socket.is_listening()
                && self.world.service(socket) == server
                && socket.listened.is_some_and(|point| {
                    last.listened
                        .is_some_and(|first| point.before.saturating_sub(first.after) >= HELD_NS * 9 / 10)
                })
        });
        for instance in instances {
            let is_later = instance.started >= closed;
            let ended_since = instance.has_ended() && !self.has_listened(instance);
            if is_later && ended_since {
                return Match::No;
            }
            is_either |= ended_since && instance.ended.is_some_and(|ended| ended > closed);
            match self.settled(instance, answers) {
                Match::Yes if is_later => return Match::No,
                // The very instance that held the port may be reported as stopped, or as moved.
                Match::Yes | Match::Either => is_either = true,
                Match::No => {}
            }
        }
        if is_either { Match::Either } else { Match::Yes }
    }

    fn is_own(&self, socket: &Socket) -> bool {
        let was_refused = |holder: &usize| {
            self.world
                .refused
                .iter()
                .any(|(process, ip, port)| process == holder && *ip == self.to && *port == self.port)
        };
        let is_client =
            |holder: &usize| matches!(self.client, Client::Process(process) if process == *holder);
        socket.holders.iter().any(|holder| is_client(holder) || was_refused(holder))
    }

    /// Whether the instance has settled on another port.
    fn settled(&self, instance: &Instance, answers: &mut Answers) -> Match {
        if instance.is_over() {
            return Match::No;
        }
        let first = instance
            .listened
            .iter()
            .filter(|(_, socket)| self.world.sockets[socket].port == self.port)
            .map(|(place, _)| *place)
            .chain(self.failures(instance).map(|failure| failure.place))
            .min();
        let mut settled = Match::No;
        for (place, socket) in &instance.listened {
            let socket = &self.world.sockets[socket];
            let is_held =
                socket.is_listening() && socket.holders.iter().any(|one| instance.alive.contains(one));
            if socket.port == self.port || !is_held {
                continue;
            }
            if first.is_some_and(|first| first < *place) {
                return Match::Yes;
            }
            let age = self.time.saturating_sub(socket.listened.map_or(0, |point| point.before));
            if age + SETTLED_NS / 10 >= SETTLED_NS {
                answers.uncertain.insert("settled by time");
                settled = Match::Either;
            }
            // It listened there first, and then tried the port.
            if first.is_some() {
                settled = Match::Either;
            }
        }
        settled
    }

    fn other_port(&self, instances: &[&Instance], answers: &mut Answers) -> Match {
        let mut result = Match::No;
        for instance in instances {
            match self.settled(instance, answers) {
                Match::Yes => return Match::Yes,
                Match::Either => result = Match::Either,
                Match::No => {}
            }
        }
        result
    }

    fn never_listened(&self, instances: &[&Instance]) -> Match {
        let ended_silent = |instance: &&&Instance| instance.has_ended() && !self.has_listened(instance);
        let newest = instances.last().filter(ended_silent).is_some();
        let by_end =
            instances.iter().filter(|instance| instance.has_ended()).max_by_key(|instance| instance.ended);
        let last_ended = by_end.as_ref().filter(|instance| ended_silent(instance)).is_some();
        // One that served on after that has given the port up since: whether it is the last to have ended can be read either way.
        let has_served_since = instances.iter().any(|instance| {
            instance.listened.iter().map(|(_, socket)| &self.world.sockets[socket]).any(|socket| {
                socket.port == self.port
                    && socket.closed.map(|closed| closed.place) > by_end.and_then(|ended| ended.ended)
            })
        });
        match (newest, last_ended) {
            (true, true) if has_served_since => Match::Either,
            (true, true) => Match::Yes,
            (false, false) => Match::No,
            _ => Match::Either,
        }
    }
}

/// What one reading of the contract gives.
#[derive(Default)]
struct Reading {
    causes: HashSet<Cause>,
    degraded: BTreeSet<&'static str>,
    /// Services of the listeners that are shown: each may be named.
    others: BTreeSet<Service>,
}

impl Reading {
    fn with(mut self, cause: Cause) -> Self {
        self.causes.insert(cause);
        self
    }
}

/// Whether a rule holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Match {
    Yes,
    No,
    /// The contract can be read either way.
    Either,
}
