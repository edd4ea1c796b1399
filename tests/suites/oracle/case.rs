//! What listens and what connects, at random.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use tests::histories::random::Random;

use super::tally::Property;
use super::world::{Room, World};

/// The family of a socket, and the form of its addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    Inet,
    Inet6,
    /// IPv4 on an IPv6 socket.
    Mapped,
}

/// A listener to be.
#[derive(Clone, Debug)]
pub struct Server {
    pub room: usize,
    pub form: Form,
    pub addr: IpAddr,
    pub port: u16,
    pub v6only: bool,
    /// Place in the room's devices.
    pub device: Option<usize>,
    /// It is bound to the device after the address: before, the address would have to be that device's.
    pub is_device_late: bool,
    /// Place of the scope's device, for a link-local address.
    pub scope: Option<usize>,
    pub reuseport: bool,
}

/// A connect to be.
#[derive(Clone, Debug)]
pub struct Client {
    pub room: usize,
    pub form: Form,
    pub addr: IpAddr,
    pub port: u16,
    pub device: Option<usize>,
    pub scope: Option<usize>,
    /// Address it is bound to.
    pub source: Option<IpAddr>,
    /// The addresses of its namespace are kept from the prediction, as where it could not be read.
    pub is_unread: bool,
    /// The listener that it was made for.
    pub target: usize,
}

const RANGE: [Ipv4Addr; 3] =
    [Ipv4Addr::LOCALHOST, Ipv4Addr::new(127, 1, 2, 3), Ipv4Addr::new(127, 255, 255, 254)];

fn form(random: &mut Random, addr: IpAddr) -> Form {
    match addr {
        IpAddr::V6(_) => Form::Inet6,
        IpAddr::V4(_) if random.chance(35) => Form::Mapped,
        IpAddr::V4(_) => Form::Inet,
    }
}

fn is_link_local(addr: IpAddr) -> bool {
    matches!(addr, IpAddr::V6(v6) if v6.is_unicast_link_local())
}

/// A device to bind to: that of the address as often as any other.
fn device_for(random: &mut Random, room: &Room, addr: IpAddr) -> usize {
    let carriers: Vec<usize> =
        room.addresses.iter().filter(|(own, _)| *own == addr).map(|(_, device)| *device).collect();
    match carriers.as_slice() {
        [_, ..] if random.chance(60) => *random.pick(&carriers),
        [] if addr.is_loopback() && random.chance(50) => 0,
        // All of IPv4 can be had over lo.
        _ if random.chance(25) => 0,
        _ => random.below(room.devices.len()),
    }
}

/// An address that is local for certain, though what is local has not been read: of `lo`, or of a device.
fn unread_addr(random: &mut Random, room: &Room) -> IpAddr {
    let devices: Vec<IpAddr> = room
        .addresses
        .iter()
        .filter(|(addr, device)| *device != 0 && !is_link_local(*addr) && !addr.is_loopback())
        .map(|(addr, _)| *addr)
        .collect();
    if random.chance(40) {
        return *random.pick(&devices);
    }
    *random.pick(&[Ipv4Addr::LOCALHOST.into(), RANGE[1].into(), Ipv6Addr::LOCALHOST.into()])
}

/// An address that is local in the room, or nearly so.
fn local(random: &mut Random, room: &Room) -> IpAddr {
    match random.below(10) {
        0 => (*random.pick(&RANGE)).into(),
        1 => Ipv4Addr::LOCALHOST.into(),
        2 => Ipv6Addr::LOCALHOST.into(),
        3 => *random.pick(&room.ranged),
        _ => random.pick(&room.addresses).0,
    }
}

pub fn server(random: &mut Random, world: &World, ports: [u16; 2]) -> Server {
    let place = random.below(world.rooms.len());
    let room = &world.rooms[place];
    let addr = match random.below(20) {
        0..=3 => Ipv4Addr::UNSPECIFIED.into(),
        4..=10 => Ipv6Addr::UNSPECIFIED.into(),
        11 => {
            let foreign = random.pick(&world.rooms);
            local(random, foreign)
        }
        _ => local(random, room),
    };
    let scope = is_link_local(addr).then(|| device_for(random, room, addr));
    Server {
        room: place,
        form: form(random, addr),
        addr,
        port: *random.pick(&ports),
        v6only: addr.is_ipv6() && random.chance(40),
        device: random.chance(40).then(|| scope.unwrap_or_else(|| device_for(random, room, addr))),
        is_device_late: random.chance(50),
        scope,
        reuseport: random.chance(60),
    }
}

pub fn client(random: &mut Random, world: &World, servers: &[Server], ports: [u16; 2]) -> Client {
    let target = random.below(servers.len());
    let server = &servers[target];
    let place = if random.chance(75) { server.room } else { random.below(world.rooms.len()) };
    let room = &world.rooms[place];
    let is_unread = random.chance(12);
    // The way into the listener's room, which may have an address that is here as well.
    let way = format!("x{}", server.room);
    let way = room.devices.iter().position(|(name, _)| *name == way).filter(|_| random.chance(40));
    let addr = if is_unread {
        unread_addr(random, room)
    } else if way.is_some() {
        random.pick(&world.rooms[server.room].addresses).0
    } else {
        match random.below(20) {
            0 => Ipv4Addr::UNSPECIFIED.into(),
            1 => Ipv6Addr::UNSPECIFIED.into(),
            // What only the listener's room has: the ends of its links, and more.
            2..=5 if place != server.room => random.pick(&world.rooms[server.room].addresses).0,
            2..=10 if !server.addr.is_unspecified() => server.addr,
            _ => local(random, room),
        }
    };
    let scope = is_link_local(addr).then(|| way.unwrap_or_else(|| device_for(random, room, addr)));
    let source = random.chance(8).then(|| local(random, room)).filter(|source| !is_link_local(*source));
    Client {
        room: place,
        form: form(random, addr),
        addr,
        port: if random.chance(85) { server.port } else { *random.pick(&ports) },
        device: if is_unread || way.is_none() && random.chance(70) {
            None
        } else {
            way.or(scope).or_else(|| Some(device_for(random, room, addr)))
        },
        scope,
        source: source.filter(|source| source.is_ipv4() == addr.is_ipv4()),
        is_unread,
        target,
    }
}

impl Client {
    /// The device that its socket is bound to in SYN_SENT: a scope binds it.
    pub fn bound(&self) -> Option<usize> {
        self.device.or(self.scope)
    }

    /// What the case counts for.
    pub fn properties(&self, server: &Server, world: &World, vrf: bool) -> Vec<Property> {
        let red = |room: usize, device: Option<usize>| {
            device.is_some_and(|device| {
                ["red", "eth1", "eth2"].contains(&world.rooms[room].devices[device].0.as_str())
            })
        };
        let held = [
            (Property::V6only, server.v6only),
            (Property::Device, server.device.or(server.scope).is_some()),
            (Property::Client, self.bound().is_some()),
            (Property::Mapped, server.form == Form::Mapped || self.form == Form::Mapped),
            (Property::Wildcard, server.addr.is_unspecified()),
            (Property::Elsewhere, self.room != server.room),
            (Property::Unread, self.is_unread),
            (Property::Vrf, vrf && red(self.room, self.bound())),
        ];
        held.into_iter().filter_map(|(property, holds)| holds.then_some(property)).collect()
    }
}
