//! Runs the cases: asks the kernel by a real connect, and the tracer's own types what they would have said.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use tracer::correlate::coverage::{Destination, mismatch};
use tracer::correlate::listeners::Table;
use tracer::correlate::namespaces::Namespaces;
use tracer::event::{Listener, Look, NetnsId, Snapshot};
use tracer::kernel::snapshot::Snapshotter;
use tracer::line::Mismatch;

use super::case::{self, Client, Server};
use super::dice::Dice;
use super::sockets::{self, Attempt, Listening};
use super::tally::{Property, Tally};
use super::world::World;
use crate::support::port::Port;

/// The cases that are run when `ORACLE_SEED` asks for no others.
const SEED: u64 = 18_789;

/// Worlds at the most: a fourth of them will do.
const WORLDS: usize = 40;

/// Sets of listeners in one world, and connects to each set.
const SETS: usize = 25;
const CONNECTS: usize = 80;

/// How long a connect may take. On one host it is answered at once; what waits, waits for a neighbour that
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
    let mut dice = Dice::new(seed);
    'worlds: for number in 0.. {
        assert!(number < WORLDS, "too few cases that say something:\n{tally}");
        let world = World::new(&mut dice, vrf);
        for set in 0..SETS {
            let place = format!("ORACLE_SEED={seed}, world {number}, set {set}");
            disagreements.extend(check(&mut dice, &world, ports, vrf, &place, &mut tally));
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
struct Facts {
    table: Table,
    namespaces: Namespaces,
}

impl Facts {
    fn new(snapshot: &Snapshot, without: Option<NetnsId>) -> Self {
        let mut facts = Self { table: Table::default(), namespaces: Namespaces::default() };
        for listener in &snapshot.listeners {
            facts.table.insert(listener.clone());
        }
        for namespace in snapshot.namespaces.iter().filter(|namespace| Some(namespace.id) != without) {
            let look = Look { began: snapshot.began, ended: snapshot.ended };
            facts.namespaces.insert(namespace.clone(), look);
        }
        facts
    }
}

/// The world as the tracer reads it.
fn read(world: &World, ports: [u16; 2]) -> Snapshot {
    let mut snapshot = Snapshotter::new(&ports).take(|_| false).expect("a snapshot");
    let is_ours = |id: NetnsId| world.rooms.iter().any(|room| room.id() == id);
    snapshot.namespaces.retain(|namespace| is_ours(namespace.id));
    snapshot.listeners.retain(|listener| is_ours(listener.netns));
    assert_eq!(snapshot.namespaces.len(), world.rooms.len(), "{:?}", snapshot.unreadable);
    snapshot
}

/// Where the tracer takes a connect to be going, as `locate()` of correlate/judge.rs does. `Err`: several
/// namespaces, of which it says that it does not know which.
fn locate(client: &Client, addr: IpAddr, world: &World, facts: &Facts) -> Result<(Destination, bool), ()> {
    let room = &world.rooms[client.room];
    let device = client.bound().map(|device| room.devices[device].1);
    let to = |netns, route| Destination { netns, addr, port: client.port, route };
    let here = facts.namespaces.get(room.id());
    if let Some(route) = here.and_then(|namespace| namespace.route_to(addr, device)) {
        return Ok((to(room.id(), Some(route)), true));
    }
    if addr.is_loopback() || here.is_none() {
        return Ok((to(room.id(), None), true));
    }
    let mut found = facts
        .namespaces
        .iter()
        .filter(|namespace| namespace.id != room.id())
        .filter_map(|namespace| Some(to(namespace.id, Some(namespace.route_to(addr, None)?))));
    match (found.next(), found.next()) {
        (None, _) => Ok((to(room.id(), None), false)),
        (Some(destination), None) => Ok((destination, true)),
        (Some(_), Some(_)) => Err(()),
    }
}

/// Why no claim is made of a connect, where a listener's device matters and nothing known says which device the
/// kernel will compare it with.
fn without_claim(
    client: &Client,
    destination: &Destination,
    world: &World,
    facts: &Facts,
) -> Option<&'static str> {
    let own = world.rooms[client.room].id();
    let far = world.rooms.iter().find(|room| room.id() == destination.netns)?;
    let on_port = || facts.table.open_in(far.id()).filter(|listener| listener.port == client.port);
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

/// Whether what the tracer says against a listener is true of the socket as it was made.
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
    dice: &mut Dice,
    world: &World,
    ports: [u16; 2],
    vrf: bool,
    place: &str,
    tally: &mut Tally,
) -> Vec<String> {
    let mut servers: Vec<Server> = Vec::new();
    let mut listening: Vec<Listening> = Vec::new();
    for _ in 0..=dice.below(5) {
        let server = case::server(dice, world, ports);
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
    let clients: Vec<Client> = (0..CONNECTS).map(|_| case::client(dice, world, &servers, ports)).collect();

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
    if snapshot.namespaces != again.namespaces || snapshot.listeners.len() != again.listeners.len() {
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
                tally.discard("no outcome at once");
                continue;
            }
        };
        let addr = if client.addr.is_unspecified() {
            room.inside(|| sockets::resolved(client, room)).expect("a route, as the connect had one")
        } else {
            client.addr
        };
        let facts = if client.is_unread { &unread[client.room] } else { &known };
        let Ok((destination, is_local)) = locate(client, addr, world, facts) else {
            tally.discard("local in several namespaces, as the verdict says");
            continue;
        };
        if let Some(why) = without_claim(client, &destination, world, facts) {
            tally.discard(format!("no claim: {why}"));
            continue;
        }
        let mut covering = Vec::new();
        let mut is_reason_true = true;
        for listener in facts.table.open() {
            let server = listening.iter().position(|one| one.cookie == listener.key.cookie);
            let server = server.expect("no listeners but our own");
            match mismatch(listener, &destination) {
                None if is_local => covering.push(server),
                None => {}
                Some(why) => is_reason_true &= is_true(why, &servers[server], &destination, world),
            }
        }
        let by = answered.get(&number).copied();
        let agrees = is_reason_true
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
            line(format!("    covers: {covering:?}, {destination:?}"));
            for (index, (server, one)) in servers.iter().zip(&listening).enumerate() {
                line(format!("    listener {index}: {server:?}"));
                let listener = facts.table.open().find(|listener| listener.key.cookie == one.cookie);
                let why = listener.and_then(|listener| mismatch(listener, &destination));
                let read = listener.map(|Listener { netns, addr, port, v6only, device, .. }| {
                    format!("{netns} {addr} {port}, v6only {v6only:?}, device {device:?}")
                });
                line(format!("        {why:?} {read:?}"));
            }
            for namespace in facts
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
