//! What happened, as the correlator is told it: facts only, each with its time.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;

use crate::claims::{Claims, Product};
use crate::line::{ConfigChange, Process, SentBy, Time, Via};

/// Nanoseconds of `CLOCK_MONOTONIC`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mono(pub u64);

impl Mono {
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis * 1_000_000)
    }

    /// Nanoseconds from `earlier` to `self`; 0 when `earlier` is the later one.
    pub const fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }

    pub const fn plus_millis(self, millis: u64) -> Self {
        Self(self.0.saturating_add(millis * 1_000_000))
    }
}

/// A look at the host: what it found may be of any moment in between.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Look {
    pub began: Mono,
    pub ended: Mono,
}

impl Look {
    /// Whether it was before `event`, and by `now` is more than `age` nanoseconds old.
    pub fn is_stale(self, event: Mono, now: Mono, age: u64) -> bool {
        self.began < event && now.since(self.ended) > age
    }

    /// The same for a look that is dear: such take a twentieth of the time at most.
    pub fn is_due(self, event: Mono, now: Mono, age: u64) -> bool {
        let cost = self.ended.since(self.began);
        self.is_stale(event, now, age.max(cost.saturating_mul(20)))
    }

    /// The same for one that a verdict rests on: such take half of the time at most.
    pub fn is_worth_it(self, event: Mono, now: Mono, age: u64) -> bool {
        self.is_stale(event, now, age.max(self.ended.since(self.began)))
    }
}

/// Which network namespace: the inode number in `/proc/PID/ns/net`, as `lsns` prints it. The kernel
/// reuses it as soon as the namespace is gone; [`Namespace::cookie`] tells the two apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NetnsId(pub u32);

/// What identifies one socket in both the kernel's records and a sock_diag dump.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SocketKey {
    /// Inode number in sockfs; 0: none known.
    pub inode: u64,
    /// Socket cookie; 0: none known.
    pub cookie: u64,
}

impl SocketKey {
    /// Whether both name the same socket: by cookie where both have one, else by inode.
    pub fn is_same(self, other: Self) -> bool {
        if self.cookie != 0 && other.cookie != 0 {
            self.cookie == other.cookie
        } else {
            self.inode != 0 && self.inode == other.inode
        }
    }
}

/// A listening TCP socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    pub key: SocketKey,
    pub netns: NetnsId,
    /// As bound. An IPv4-mapped address is IPv4 here; the wildcard of a mapped bind too.
    pub addr: IpAddr,
    pub port: u16,
    /// Whether an IPv6 socket refuses IPv4; `None` for an IPv4 address, or unknown.
    pub v6only: Option<bool>,
    /// Interface index it is bound to.
    pub device: Option<u32>,
    pub backlog: Option<u32>,
    /// When it was opened; `None` when that was before the tracer attached.
    pub since: Option<Mono>,
    /// Who holds it.
    pub process: Process,
}

/// A socket entered LISTEN. It may still fail: then a [`Closed`] follows at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opened {
    pub time: Mono,
    pub listener: Listener,
    /// Thread that called `listen()`.
    pub tid: u32,
    /// Cookie of the listener's namespace; 0: unknown.
    pub netns_cookie: u64,
}

/// A socket left LISTEN.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Closed {
    pub time: Mono,
    /// The listener as the kernel described it while it closed; `process` is who closed it.
    pub listener: Listener,
    /// Thread that closed it.
    pub tid: u32,
    /// `sk_shutdown`: 3 for a close, 0 for a `listen()` that failed.
    pub shutdown: u32,
    pub closer: Closer,
    pub netns_cookie: u64,
}

/// What closed a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Closer {
    /// A process that goes on.
    Process,
    /// A process that was ending.
    Ending(ExitStatus),
    /// The kernel itself, in place of a process that had let go of it.
    Kernel,
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExitStatus {
    /// `exit()` with this code.
    Code(i32),
    /// Ended by this signal.
    Signal(i32),
}

impl ExitStatus {
    /// Reads a wait status as `wait(2)` encodes it.
    pub const fn from_wait(status: u32) -> Self {
        match status & 0x7f {
            0 => Self::Code((status >> 8 & 0xff) as i32),
            signal => Self::Signal(signal as i32),
        }
    }
}

/// A connection attempt was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    pub time: Mono,
    /// When the attempt began.
    pub started: Mono,
    pub netns: NetnsId,
    pub netns_cookie: u64,
    pub client: Process,
    /// When the client started, in nanoseconds since boot, while only the kernel's own record of it was taken; 0:
    /// there is no more to be had.
    pub client_started: u64,
    /// Id of the client's cgroup v2 directory.
    pub cgroup: u64,
    pub src: IpAddr,
    /// `None`: the kernel no longer knew.
    pub src_port: Option<u16>,
    pub dst: IpAddr,
    pub dst_port: u16,
    /// Interface the client's socket is bound to; for a link-local destination, its scope.
    pub device: Option<u32>,
    pub via: Via,
    pub sent_by: Option<SentBy>,
}

/// A `bind()` to a watched port has returned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bound {
    pub time: Mono,
    /// The socket: what it asked for as its address and port, and who asked as its process.
    pub socket: Listener,
    pub netns_cookie: u64,
    /// `None`: it is bound.
    pub errno: Option<i32>,
    /// Whether a [`Destroyed`] will tell of the socket's end.
    pub is_followed: bool,
    /// What that will call the socket.
    pub sock: u64,
}

/// A bound socket is gone, or is not a server's any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Destroyed {
    pub time: Mono,
    pub sock: u64,
    /// It connects: what it was bound to is where it connects from.
    pub is_client: bool,
}

/// A process that owned a listener, or claims to be a server, has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exited {
    pub time: Mono,
    pub pid: u32,
    /// When it started, in nanoseconds since boot; 0: unknown.
    pub start_boottime: u64,
    pub status: ExitStatus,
}

/// A process that claims to be the server, by its name or arguments: a candidate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// When it was found, or became what it is.
    pub time: Mono,
    /// When it started, as far as is known.
    pub since: Mono,
    pub netns: NetnsId,
    pub process: Process,
    /// The product that it is recognised as; `None`: by the user's own pattern.
    pub product: Option<&'static dyn Product>,
}

/// What a server says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claimed {
    pub look: Look,
    pub pid: u32,
    /// When the process started that had this number; `None`: it has ended.
    pub started: Option<Time>,
    /// `None`: it is no server that is known, or the look failed.
    pub claims: Option<Claims>,
    /// Which file its configuration is, whatever path leads to it; `None`: that is not known.
    pub file: Option<FileId>,
}

/// Tells one file name in one directory of this host from every other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FileId(pub u64);

/// The configuration file of a server has changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Configured {
    pub time: Mono,
    pub file: FileId,
    /// As the server sees it.
    pub path: PathBuf,
    pub change: ConfigChange,
    /// Who changed it.
    pub process: Process,
    /// What those that use it claim now.
    pub claimed: Vec<Claimed>,
}

/// A process that was refused, or claims to be a server, has reached a watched port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connected {
    pub time: Mono,
    pub netns: NetnsId,
    pub pid: Option<u32>,
    pub dst: IpAddr,
    pub dst_port: u16,
    pub device: Option<u32>,
}

/// A connect ended without a connection, and without a refusal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failed {
    pub time: Mono,
    pub started: Mono,
    pub netns: NetnsId,
    pub client: Process,
    pub src: IpAddr,
    pub src_port: Option<u16>,
    pub dst: IpAddr,
    pub dst_port: u16,
    pub device: Option<u32>,
    /// `None`: the application gave up.
    pub errno: Option<i32>,
}

/// The listeners that some processes hold on ports that are not watched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OtherPorts {
    pub look: Look,
    pub netns: NetnsId,
    pub listeners: Vec<Listener>,
}

/// Who holds a port of a namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holders {
    pub look: Look,
    pub netns: NetnsId,
    pub port: u16,
    pub sockets: Vec<Holder>,
}

/// A socket that keeps an address from being bound.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    pub socket: Listener,
    /// As `ss` names it: `LISTEN`, `TIME-WAIT`, ...
    pub state: &'static str,
    /// It neither listens nor is connected.
    pub is_bound_only: bool,
}

/// One address range that a namespace takes for its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LocalRoute {
    pub addr: IpAddr,
    pub prefix_len: u8,
    /// Interface that carries it.
    pub device: u32,
    /// Routing table: 255, or a VRF's own.
    pub table: u32,
}

impl LocalRoute {
    pub fn contains(&self, addr: IpAddr) -> bool {
        match (self.addr, addr) {
            (IpAddr::V4(own), IpAddr::V4(other)) => {
                let shift = 32 - u32::from(self.prefix_len.min(32));
                own.to_bits().checked_shr(shift).unwrap_or(0)
                    == other.to_bits().checked_shr(shift).unwrap_or(0)
            }
            (IpAddr::V6(own), IpAddr::V6(other)) => {
                let shift = 128 - u32::from(self.prefix_len.min(128));
                own.to_bits().checked_shr(shift).unwrap_or(0)
                    == other.to_bits().checked_shr(shift).unwrap_or(0)
            }
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => false,
        }
    }
}

/// One network interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    pub index: u32,
    pub name: String,
    /// Index of the interface it is enslaved to.
    pub master: Option<u32>,
    /// Routing table, when the interface is a VRF.
    pub vrf_table: Option<u32>,
}

/// What the verdict needs to know of a network namespace besides its listeners.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Namespace {
    pub id: NetnsId,
    /// 0: unknown (before 5.14).
    pub cookie: u64,
    /// Name under `/run/netns`.
    pub name: Option<String>,
    /// The namespace that the tracer itself runs in.
    pub is_own: bool,
    pub links: Vec<Link>,
    pub local: Vec<LocalRoute>,
    /// `net.ipv4.tcp_l3mdev_accept`; `None`: there is no VRF, or it could not be read.
    pub l3mdev_accept: Option<bool>,
}

/// A namespace that could not be looked into.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unreadable {
    pub id: NetnsId,
    pub why: String,
}

/// The listeners on the watched ports as they were between two moments, and the namespaces looked into.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// Every namespace of the host was looked for; otherwise one was.
    pub is_complete: bool,
    /// In this namespace, who holds each listener was found out anew, also of those that are known.
    pub owners_of: Option<NetnsId>,
    pub began: Mono,
    pub ended: Mono,
    pub namespaces: Vec<Namespace>,
    /// `since` is `None` in each.
    pub listeners: Vec<Listener>,
    pub unreadable: Vec<Unreadable>,
}

/// Records that never arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lost {
    pub records: u64,
    pub place: crate::line::LostWhere,
    pub from: Mono,
    pub to: Mono,
}

/// One step of the stream that the correlator reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    Opened(Opened),
    Closed(Closed),
    Refused(Refused),
    Bound(Bound),
    Destroyed(Destroyed),
    Exited(Exited),
    Candidate(Candidate),
    Connected(Connected),
    Failed(Failed),
    Snapshot(Snapshot),
    OtherPorts(OtherPorts),
    Holders(Holders),
    Claimed(Claimed),
    Configured(Configured),
    Lost(Lost),
}

impl Event {
    /// When the kernel recorded it; `None`: it was not the kernel.
    pub fn time(&self) -> Option<Mono> {
        match self {
            Self::Opened(opened) => Some(opened.time),
            Self::Closed(closed) => Some(closed.time),
            Self::Refused(refused) => Some(refused.time),
            Self::Bound(bound) => Some(bound.time),
            Self::Destroyed(destroyed) => Some(destroyed.time),
            Self::Exited(exited) => Some(exited.time),
            Self::Candidate(candidate) => Some(candidate.time),
            Self::Connected(connected) => Some(connected.time),
            Self::Failed(failed) => Some(failed.time),
            Self::Snapshot(_)
            | Self::OtherPorts(_)
            | Self::Holders(_)
            | Self::Claimed(_)
            | Self::Configured(_)
            | Self::Lost(_) => None,
        }
    }
}

/// The address that a client of `localhost` tries next: `counterpart(D)` of the verdict table.
pub fn counterpart(addr: IpAddr) -> IpAddr {
    match addr {
        IpAddr::V4(v4) if v4.is_loopback() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        IpAddr::V6(v6) if v6.is_loopback() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V4(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        IpAddr::V6(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
    }
}

/// An address the tailnet hands out: 100.64.0.0/10 or fd7a:115c:a1e0::/48.
pub fn is_tailnet(addr: IpAddr) -> bool {
    match addr {
        IpAddr::V4(v4) => v4.octets()[0] == 100 && v4.octets()[1] & 0xc0 == 64,
        IpAddr::V6(v6) => v6.segments()[..3] == [0xfd7a, 0x115c, 0xa1e0],
    }
}

impl fmt::Display for NetnsId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "net:[{}]", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tailnet_is_known_by_its_ranges() {
        for (addr, is) in [
            ("100.64.0.0", true),
            ("100.127.255.255", true),
            ("100.128.0.0", false),
            ("100.63.255.255", false),
            ("fd7a:115c:a1e0::1", true),
            ("fd7a:115c:a1e1::1", false),
        ] {
            assert_eq!(is_tailnet(addr.parse().unwrap()), is, "{addr}");
        }
    }
}
