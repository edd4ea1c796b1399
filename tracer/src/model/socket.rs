//! Sockets, what identifies one, and the id of a network namespace.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde::{Deserialize, Serialize};

use super::process::Process;
use super::time::Mono;

/// Which network namespace: the inode number in `/proc/PID/ns/net`, as `lsns` prints it. The kernel
/// reuses it as soon as the namespace has ended; [`super::namespace::Namespace::cookie`] distinguishes the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct NetnsId(pub u32);

/// What identifies one socket in both the kernel's records and a sock_diag dump.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
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
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
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
    /// The process that holds it.
    pub process: Process,
    /// The process that called `listen()`; `None` where that was before the trace, or is not known.
    pub opener: Option<Box<Process>>,
}

impl Listener {
    /// The process that opened it; where that is not known, the one that holds it.
    pub fn opened_by(&self) -> &Process {
        self.opener.as_deref().unwrap_or(&self.process)
    }
}

/// The state of a TCP socket (include/net/tcp_states.h).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum TcpState {
    Established,
    SynSent,
    SynRecv,
    FinWait1,
    FinWait2,
    TimeWait,
    /// Neither listening nor connected; perhaps bound.
    Closed,
    CloseWait,
    LastAck,
    Listen,
    Closing,
    Unknown,
}

impl TcpState {
    /// Whether no process has a socket in this state: the kernel keeps it after its process has closed it.
    pub const fn has_no_owner(self) -> bool {
        matches!(self, Self::TimeWait | Self::FinWait1 | Self::FinWait2 | Self::LastAck | Self::Closing)
    }

    /// As ss(8) names it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Established => "ESTAB",
            Self::SynSent => "SYN-SENT",
            Self::SynRecv => "SYN-RECV",
            Self::FinWait1 => "FIN-WAIT-1",
            Self::FinWait2 => "FIN-WAIT-2",
            Self::TimeWait => "TIME-WAIT",
            Self::Closed => "UNCONN",
            Self::CloseWait => "CLOSE-WAIT",
            Self::LastAck => "LAST-ACK",
            Self::Listen => "LISTEN",
            Self::Closing => "CLOSING",
            Self::Unknown => "UNKNOWN",
        }
    }
}

/// A socket that keeps an address from being bound.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    pub socket: Listener,
    pub state: TcpState,
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
