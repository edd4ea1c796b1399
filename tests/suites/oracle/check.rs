//! Runs the cases: a real connect shows whether the kernel answers, and the tracer's verdict on the same connect must
//! agree. Nothing of the verdict is computed here.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use tracer::host::clock;
use tracer::host::scan::Scanner;
use tracer::model::cause::{Because, Cause, Mismatch};
use tracer::model::kernel_event::{Refused, Role, Via};
use tracer::model::process::Process;
use tracer::model::socket::{Listener, NetnsId};
use tracer::model::time::{Interval, Mono};
use tracer::query::Scan;
use tracer::state::{Health, HostState};
use tracer::verdict::considered::ConsideredListener;
use tracer::verdict::coverage::Destination;
use tracer::verdict::evidence::{self, Verdict};
use tracer::verdict::rules;

use super::case::{self, Client, Server};
use super::sockets::{self, Attempt, Listening};
use super::tally::{Property, Tally};
use super::world::World;
use tests::histories::random::Random;
use tests::port::Port;

/// The cases that are run when `ORACLE_SEED` asks for no others.
const SEED: u64 = 18_789;

/// Worlds at the most: a fourth of them will do.
const WORLDS: usize = 40;

/// Sets of listeners in one world, and connects to each set.
const SETS: usize = 25;
const CONNECTS: usize = 80;

/// How long a connect may take. On one host it is answered immediately; a connect that waits, waits for a neighbour that
/// is not there.
const LIMIT: Duration = Duration::from_millis(10);

/// How long what is answered may take to reach its listener.
const DEADLINE: Duration = Duration::from_secs(5);

/// The interface index of `lo`, the first one in every namespace.
const LO: u32 = 1;

/// Disagreements shown before the check gives up.
const SHOWN: usize = 5;

/// Checks `cases` of them, at least `each` with each of `properties`.
pub fn run(cases: usize, properties: &[Property], each: usize, vrf: bool) {
    let seed = std::env::var("ORACLE_SEED").map_or(SEED, |seed| seed.parse().expect("ORACLE_SEED: a number"));
    let held = [Port::take(), Port::take()];
    let ports = held.each_ref().map(|port| port.number);
    let mut tally = Tally::default();
    let mut disagreements = Vec::new();
    let is_done = |tally: &Tally| {
        tally.total() >= cases && properties.iter().all(|property| tally.with(*property) >= each)
    };
    let mut random = Random::new(seed);
    'worlds: for number in 0.. {
        assert!(number < WORLDS, "too few cases with a result:\n{tally}");
        let world = World::new(&mut random, vrf);
        for set in 0..SETS {
            let place = format!("ORACLE_SEED={seed}, world {number}, set {set}");
            disagreements.extend(check(&mut random, &world, ports, vrf, &place, &mut tally));
            if is_done(&tally) || disagreements.len() >= SHOWN {
                break 'worlds;
            }
        }
    }
    println!("seed {seed}:\n{tally}");
    disagreements.truncate(SHOWN);
    assert!(disagreements.is_empty(), "the kernel disagrees:\n\n{}", disagreements.join("\n"));
}

/// What the tracer knows: all of the world but, where asked, the addresses of one namespace.
struct Facts(HostState);

impl Facts {
    fn new((scan, read): &(Scan, Interval), without: Option<NetnsId>) -> Self {
        let mut state = HostState::default();
        for listener in &scan.listeners {
            state.listeners.insert(listener.clone());
        }
        for namespace in scan.namespaces.iter().filter(|namespace| Some(namespace.id) != without) {
            state.namespaces.insert(namespace.clone(), *read);
        }
        state.health = Health { ready: true, ..Health::default() };
        Self(state)
    }

    /// The tracer's verdict on a connect to `addr`, if that was refused.
    fn verdict(&self, client: &Client, addr: IpAddr, world: &World, began: Mono) -> Verdict {
        let room = &world.rooms[client.room];
        let refused = Refused {
            time: began,
            started: began,
            netns: room.id(),
            netns_cookie: 0,
            client: Process::default(),
            cgroup: 0,
            src: addr,
            src_port: None,
            dst: addr,
            dst_port: client.port,
            device: client.bound().map(|device| room.devices[device].1),
            via: Via::Rst,
            sent_by: None,
            icmp: None,
            role: Role::Client,
        };
        evidence::gather(&refused, rules::classify(&refused, &self.0), &self.0)
    }
}

/// The world as the tracer reads it.
fn read(world: &World, ports: [u16; 2]) -> (Scan, Interval) {
    let began = clock::now();
    let mut snapshot = Scanner::new(&ports).host().expect("a scan");
    let is_ours = |id: NetnsId| world.rooms.iter().any(|room| room.id() == id);
    snapshot.namespaces.retain(|namespace| is_ours(namespace.id));
    snapshot.listeners.retain(|listener| is_ours(listener.netns));
    assert_eq!(snapshot.namespaces.len(), world.rooms.len(), "{:?}", snapshot.unreadable);
    (snapshot, Interval { began, ended: clock::now() })
}

/// Why a connect gives no expectation, where a listener's device matters and nothing known says which device the
/// kernel will compare it with.
fn without_expectation(
    client: &Client,
    destination: &Destination,
    world: &World,
    facts: &Facts,
) -> Option<&'static str> {
    let own = world.rooms[client.room].id();
    let far = world.rooms.iter().find(|room| room.id() == destination.netns)?;
    let on_port = || facts.0.listeners.open_in(far.id()).filter(|listener| listener.port == client.port);
    if destination.netns == own {
        // Of an address that is not loopback, in a namespace that was not read, only `lo` is known not to have it.
        let depends = client.is_unread
            && !destination.addr.is_loopback()
            && on_port().any(|listener| listener.device.is_some_and(|device| device != LO));
        return depends.then_some("a listener on a device, in a namespace that was not read");
    }
    // From outside, the kernel compares the device that the connect arrives over (`inet_iif()`), which the tracer
    // cannot know: it takes the device that has the address, as for a connect inside.
    let link = far.devices.iter().find(|(name, _)| *name == format!("x{}", client.room));
    let is_same = destination.route.map(|route| route.device) == link.map(|(_, index)| *index);
    (!is_same && on_port().any(|listener| listener.device.is_some()))
        .then_some("a listener on a device, from outside over another than has the address")
}

/// Whether the tracer's mismatch of a listener is true of the socket as it was made.
fn is_true(why: Mismatch, server: &Server, destination: &Destination, world: &World) -> bool {
    let is_same_family = server.addr.is_ipv4() == destination.addr.is_ipv4();
    match why {
        Mismatch::Netns => world.rooms[server.room].id() != destination.netns,
        Mismatch::Port => server.port != destination.port,
        Mismatch::Address => {
            is_same_family && server.addr != destination.addr && !server.addr.is_unspecified()
        }
        Mismatch::Family => !is_same_family,
        Mismatch::V6only => server.v6only && server.addr.is_unspecified() && destination.addr.is_ipv4(),
        Mismatch::Device => {
            server.device.or(server.scope).is_some()
                || destination.route.is_some_and(|route| route.vrf.is_some())
        }
        Mismatch::Closed | Mismatch::NotYet => false,
    }
}

/// One set of listeners and the connects to it; returns what the kernel disagrees with.
fn check(
    random: &mut Random,
    world: &World,
    ports: [u16; 2],
    vrf: bool,
    place: &str,
    tally: &mut Tally,
) -> Vec<String> {
    let mut servers: Vec<Server> = Vec::new();
    let mut listening: Vec<Listening> = Vec::new();
    for _ in 0..=random.below(5) {
        let server = case::server(random, world, ports);
        let room = &world.rooms[server.room];
        match room.inside(|| sockets::listen(&server, room)) {
            Ok(one) => {
                servers.push(server);
                listening.push(one);
            }
            Err(errno) => tally.unlist(errno.to_string()),
        }
    }
    if servers.is_empty() {
        return Vec::new();
    }
    let clients: Vec<Client> = (0..CONNECTS).map(|_| case::client(random, world, &servers, ports)).collect();

    let snapshot = read(world, ports);
    let mut attempts: Vec<(usize, Attempt)> = Vec::new();
    for (place, room) in world.rooms.iter().enumerate() {
        room.inside(|| {
            for (number, client) in clients.iter().enumerate().filter(|(_, client)| client.room == place) {
                match sockets::connect(client, room) {
                    Ok(attempt) => attempts.push((number, attempt)),
                    Err(errno) => tally.discard(format!("may not: {errno}")),
                }
            }
        });
    }
    sockets::settle(&mut attempts, LIMIT);
    for (number, attempt) in &attempts {
        if attempt.outcome == Some(Ok(())) {
            sockets::sign(attempt, *number);
        }
    }
    let again = read(world, ports);
    if snapshot.0.namespaces != again.0.namespaces || snapshot.0.listeners.len() != again.0.listeners.len() {
        attempts.iter().for_each(|_| tally.discard("the namespace changed meanwhile"));
        return Vec::new();
    }
    let mut answered: HashMap<usize, usize> = HashMap::new();
    let signed = attempts.iter().filter(|(_, attempt)| attempt.outcome == Some(Ok(()))).count();
    let deadline = Instant::now() + DEADLINE;
    // On a starved CPU a listener gets what ends the handshake later than the client has what it waits for.
    while answered.len() < signed && Instant::now() < deadline {
        for (server, one) in listening.iter_mut().enumerate() {
            answered.extend(sockets::answered(one).into_iter().map(|number| (number, server)));
        }
        std::thread::yield_now();
    }

    let outcomes: Vec<(usize, Option<Result<(), Errno>>)> =
        attempts.into_iter().map(|(number, attempt)| (number, attempt.outcome)).collect();

    let known = Facts::new(&snapshot, None);
    let unread: Vec<Facts> = world.rooms.iter().map(|room| Facts::new(&snapshot, Some(room.id()))).collect();
    let mut disagreements = Vec::new();
    for (number, outcome) in outcomes {
        let client = &clients[number];
        let room = &world.rooms[client.room];
        let is_answered = match outcome {
            Some(Ok(())) => true,
            Some(Err(Errno::CONNREFUSED)) => false,
            Some(Err(errno)) => {
                tally.discard(errno.to_string());
                continue;
            }
            None => {
                tally.discard("no immediate outcome");
                continue;
            }
        };
        let addr = if client.addr.is_unspecified() {
            room.inside(|| sockets::resolved(client, room)).expect("a route, as the connect had one")
        } else {
            client.addr
        };
        let facts = if client.is_unread { &unread[client.room] } else { &known };
        let verdict = facts.verdict(client, addr, world, again.1.ended);
        let destination = verdict.destination;
        if verdict.because.contains(&Because::AmbiguousNetns) {
            tally.discard("local in several namespaces, as the verdict shows");
            continue;
        }
        if let Some(why) = without_expectation(client, &destination, world, facts) {
            tally.discard(format!("no expectation: {why}"));
            continue;
        }
        let mut covering = Vec::new();
        let mut is_reason_true = true;
        for ConsideredListener { listener, mismatch } in &verdict.considered {
            let server = listening.iter().position(|one| one.cookie == listener.key.cookie);
            let server = server.expect("no listeners but our own");
            match mismatch {
                None => covering.push(server),
                // Of an address that is local nowhere: no listener is in its namespace.
                Some(_) if verdict.cause == Cause::Remote => {}
                Some(why) => is_reason_true &= is_true(*why, &servers[server], &destination, world),
            }
        }
        let by = answered.get(&number).copied();
        // A listener that answers is what makes a refusal `intercepted`.
        let agrees = is_reason_true
            && covering.is_empty() != (verdict.cause == Cause::Intercepted)
            && match by {
                Some(server) => covering.contains(&server),
                None => !is_answered && covering.is_empty(),
            };
        if agrees {
            let target = &servers[client.target];
            tally.count(is_answered, &client.properties(target, world, vrf));
        } else {
            let mut text = String::new();
            let mut line = |line: String| writeln!(text, "{line}").expect("to write to a string");
            line(format!("{place}, connect {number}: {client:?}"));
            line(format!("    bound to {:?}", client.bound().map(|device| &room.devices[device])));
            line(format!("    kernel: {outcome:?}, by listener {by:?}"));
            line(format!("    verdict: {:?} {:?}, {destination:?}", verdict.cause, verdict.because));
            for (index, (server, one)) in servers.iter().zip(&listening).enumerate() {
                line(format!("    listener {index}: {server:?}"));
                let listener = facts.0.listeners.open().find(|listener| listener.key.cookie == one.cookie);
                let evaluated =
                    verdict.considered.iter().find(|evaluated| evaluated.listener.key.cookie == one.cookie);
                let why = evaluated.map(|evaluated| evaluated.mismatch);
                let read = listener.map(|Listener { netns, addr, port, v6only, device, .. }| {
                    format!("{netns} {addr} {port}, v6only {v6only:?}, device {device:?}")
                });
                line(format!("        {why:?} {read:?}"));
            }
            for namespace in facts
                .0
                .namespaces
                .iter()
                .filter(|namespace| namespace.id == destination.netns || namespace.id == room.id())
            {
                line(format!("    {}: {:?}", namespace.id, namespace.links));
                for route in namespace.local.iter().filter(|route| route.contains(addr)) {
                    line(format!("        {route:?}"));
                }
            }
            disagreements.push(text);
        }
    }
    disagreements
}
