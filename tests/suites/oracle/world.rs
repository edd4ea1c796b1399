//! Where the cases take place: a few network namespaces with devices and addresses at random.

use std::fmt::Write as _;
use std::fs::File;
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::process::Command;
use std::sync::LazyLock;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use tracer::model::socket::NetnsId;

use tests::histories::random::Random;
use tests::netns::Netns;

const ROOMS: usize = 3;

pub struct World {
    pub rooms: Vec<Room>,
}

/// One namespace.
pub struct Room {
    pub netns: Netns,
    way: File,
    /// Name and index.
    pub devices: Vec<(String, u32)>,
    /// The addresses that were given to devices, each with its device's place in `devices`.
    pub addresses: Vec<(IpAddr, usize)>,
    /// Addresses of ranges that are local as a whole.
    pub ranged: Vec<IpAddr>,
}

impl Room {
    pub fn id(&self) -> NetnsId {
        NetnsId(self.netns.id)
    }

    /// Does `work` with the calling thread inside.
    pub fn inside<T>(&self, work: impl FnOnce() -> T) -> T {
        static HOME: LazyLock<File> =
            LazyLock::new(|| File::open("/proc/self/ns/net").expect("this process's network namespace"));
        let enter = |way: &File| {
            move_into_link_name_space(way.as_fd(), Some(LinkNameSpaceType::Network))
                .expect("to enter a network namespace");
        };
        LazyLock::force(&HOME);
        enter(&self.way);
        let result = work();
        enter(&HOME);
        result
    }
}

/// Devices to give addresses to, besides `lo` and the links to the other rooms.
const ETHERS: [&str; 3] = ["eth0", "eth1", "eth2"];

impl World {
    /// With `vrf`, `eth1` and `eth2` of every room are in the VRF `red`.
    pub fn new(random: &mut Random, vrf: bool) -> Self {
        let spaces: Vec<Netns> = (0..ROOMS).map(|_| Netns::bare()).collect();
        let mut rooms: Vec<Room> = Vec::new();
        for (own, netns) in spaces.iter().enumerate() {
            furnish(random, own, netns, vrf);
        }
        for first in 0..ROOMS {
            for second in first + 1..ROOMS {
                link(&spaces[first], &spaces[second], first, second);
            }
        }
        for netns in spaces {
            let way = File::open(netns.path()).expect("a namespace that was just made");
            let mut room =
                Room { netns, way, devices: Vec::new(), addresses: Vec::new(), ranged: Vec::new() };
            room.read();
            rooms.push(room);
        }
        Self { rooms }
    }
}

/// Devices, addresses and routes of one namespace. Addresses are from a small pool, so that one is on
/// several devices, and in several namespaces.
fn furnish(random: &mut Random, own: usize, netns: &Netns, vrf: bool) {
    let mut script = String::from("link set dev lo up\n");
    let mut line = |text: &str| writeln!(script, "{text}").expect("to write to a string");
    if vrf {
        line("link add dev red type vrf table 10");
        line("link set dev red up");
        line("addr add 127.0.0.1/8 dev red");
        line("route add unreachable default metric 4278198272 table 10");
    }
    for device in ETHERS {
        line(&format!("link add dev {device} type veth peer name {device}p"));
        // An address that the kernel makes by itself would appear in the middle of a case.
        line(&format!("link set dev {device} addrgenmode none"));
        line(&format!("link set dev {device}p addrgenmode none"));
        if vrf && device != "eth0" {
            line(&format!("link set dev {device} master red"));
        }
        line(&format!("link set dev {device}p up"));
        // IPv4 addresses of a device that is down go on being local.
        let is_up = device != "eth2" || vrf || random.chance(70);
        if is_up {
            line(&format!("link set dev {device} up"));
        }
        for addr in random.some(&["10.77.0.1", "10.77.0.2", "10.77.0.3", "10.77.0.4"], 25) {
            line(&format!("addr add {addr}/{} dev {device}", if random.chance(30) { 24 } else { 32 }));
        }
        if device == "eth0" && random.chance(40) {
            line("addr add 127.0.0.53/32 dev eth0");
        }
        if is_up {
            for addr in random.some(&["fd77::1", "fd77::2", "fd77::3", "fd77::4"], 30) {
                let length = if random.chance(30) { 64 } else { 128 };
                line(&format!("addr add {addr}/{length} dev {device} nodad"));
            }
            for addr in random.some(&["fe80::71", "fe80::72", "fe80::73"], 50) {
                line(&format!("addr add {addr}/64 dev {device} nodad"));
            }
        }
    }
    line("addr add 10.78.0.1/32 dev lo");
    line("addr add fd78::1/128 dev lo nodad");
    line("route add local 10.79.0.0/16 dev lo");
    line("route add local fd79::/64 dev lo");
    // A longer prefix, on another device than the shorter one.
    line("route add local 10.79.1.0/24 dev eth0");
    line("route add local fd79::1:0/112 dev eth0");
    // Local by the table that is asked after the local one.
    line("route add local 10.80.0.0/16 dev eth1 table main");
    line("route add local fd80::/64 dev eth1 table main");
    // Local to those only that a rule sends there, as a transparent proxy has it.
    line("route add local 10.81.0.0/16 dev lo table 100");
    netns.ip(&script);
    if vrf {
        let accept = u8::from(own.is_multiple_of(2));
        let mut shell = Command::new("sh");
        shell.args(["-c", &format!("echo {accept} > /proc/sys/net/ipv4/tcp_l3mdev_accept")]);
        let status = netns.enter(&mut shell).status().expect("to run `sh`");
        assert!(status.success(), "cannot set tcp_l3mdev_accept");
    }
}

/// Joins two namespaces with a veth pair that has addresses of its own.
fn link(one: &Netns, other: &Netns, first: usize, second: usize) {
    one.ip(&format!("link add dev x{second} type veth peer name x{first} netns {}", other.name));
    for (netns, own, far) in [(one, first, second), (other, second, first)] {
        netns.ip(&format!(
            "link set dev x{far} addrgenmode none
            link set dev x{far} up
            addr add 10.200.{first}{second}.{own}1/24 dev x{far}
            addr add fd20:{first}{second}::{own}1/64 dev x{far} nodad
            addr add fe80::{first}{second}:{own}1/64 dev x{far} nodad"
        ));
    }
}

impl Room {
    /// Reads back what there is, with `ip`, which shares no code with what is checked.
    fn read(&mut self) {
        let mut ip = Command::new("ip");
        let output = ip.args(["-n", &self.netns.name, "-o", "link", "show"]).output().expect("to run `ip`");
        for line in String::from_utf8_lossy(&output.stdout).lines() {
            let mut words = line.split_whitespace();
            let index = words.next().and_then(|word| word.strip_suffix(':')?.parse().ok()).expect("an index");
            let name = words.next().expect("a name").trim_end_matches(':');
            let name = name.split('@').next().expect("a name").to_owned();
            self.devices.push((name, index));
        }
        let mut ip = Command::new("ip");
        let output = ip.args(["-n", &self.netns.name, "-o", "addr", "show"]).output().expect("to run `ip`");
        for line in String::from_utf8_lossy(&output.stdout).lines() {
            let words: Vec<&str> = line.split_whitespace().collect();
            let device = self.devices.iter().position(|(name, _)| name == words[1]).expect("a device");
            let addr = words[3].split('/').next().and_then(|addr| addr.parse().ok()).expect("an address");
            self.addresses.push((addr, device));
        }
        self.ranged = ["10.79.0.5", "10.79.1.5", "10.80.0.5", "10.81.0.5", "fd79::5", "fd79::1:5", "fd80::5"]
            .map(|addr| addr.parse().expect("an address"))
            .to_vec();
    }
}
