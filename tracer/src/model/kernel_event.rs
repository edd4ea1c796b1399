//! What the kernel side recorded: one type a record, each with its time.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::errno::Errno;
use super::process::{ExitStatus, Process};
use super::socket::{Listener, NetnsId, SocketKey};
use super::text::Text;
use super::time::Mono;

/// A socket entered LISTEN. Its `listen()` may still fail: then a [`Closed`] follows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Opened {
    pub time: Mono,
    pub listener: Listener,
    /// Thread that called `listen()`.
    pub tid: u32,
    /// Cookie of the listener's namespace; 0: unknown.
    pub netns_cookie: u64,
    /// Whether the socket was in the kernel's table of listeners before; `None`: unknown.
    pub was_hashed: Option<bool>,
}

/// A `listen()` has returned.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listened {
    pub time: Mono,
    pub key: SocketKey,
    pub netns: NetnsId,
    /// Cookie of the namespace; 0: unknown.
    pub netns_cookie: u64,
    pub has_succeeded: bool,
}

/// A socket left LISTEN.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Closed {
    pub time: Mono,
    /// The listener as the kernel described it while it closed; `process` is the one that closed it.
    pub listener: Listener,
    /// Thread that closed it.
    pub tid: u32,
    pub shutdown: Shutdown,
    pub closer: Closer,
    pub netns_cookie: u64,
    /// Whether the socket was ever in the kernel's table of listeners; `None`: unknown.
    pub was_hashed: Option<bool>,
}

/// A socket of a followed process left LISTEN on a port that is not watched.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClosedElsewhere {
    pub time: Mono,
    pub netns: NetnsId,
    pub key: SocketKey,
}

/// Which directions of a socket are shut down (`sk_shutdown`: `RCV_SHUTDOWN` and `SEND_SHUTDOWN`, include/net/sock.h).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "u32", into = "u32")]
pub enum Shutdown {
    /// Of a `listen()` that failed, a shutdown, or the subflow of an MPTCP socket.
    None,
    Receive,
    Send,
    /// Of a close.
    Both,
}

impl From<u32> for Shutdown {
    fn from(bits: u32) -> Self {
        match bits {
            0 => Self::None,
            1 => Self::Receive,
            2 => Self::Send,
            _ => Self::Both,
        }
    }
}

impl From<Shutdown> for u32 {
    fn from(shutdown: Shutdown) -> Self {
        match shutdown {
            Shutdown::None => 0,
            Shutdown::Receive => 1,
            Shutdown::Send => 2,
            Shutdown::Both => 3,
        }
    }
}

/// What closed a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Closer {
    /// A process that is still running.
    Process,
    /// A process that was ending.
    Ending(ExitStatus),
    /// The kernel itself, in place of a process that had released it.
    Kernel,
    /// execve(), in a process whose new program had not run yet.
    Exec,
}

/// A connection attempt was refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refused {
    pub time: Mono,
    /// When the attempt began.
    pub started: Mono,
    pub netns: NetnsId,
    pub netns_cookie: u64,
    pub client: Process,
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
    /// With [`Via::Icmp`]: where the message came from; `None`: the kernel did not keep it.
    pub icmp: Option<IcmpSender>,
    pub role: Role,
}

/// Where an ICMP message came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IcmpSender {
    pub addr: IpAddr,
    /// Index of the interface of the client's namespace that it came in by.
    pub device: u32,
}

/// Whose connect was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Role {
    /// A connect to a watched port.
    Client,
    /// A connect to any port by a process that holds a listener on a watched one.
    Upstream,
}

/// A `bind()` to a watched port has returned.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bound {
    pub time: Mono,
    /// The socket: its address and port are those that were asked for, its process is the caller.
    pub socket: Listener,
    pub netns_cookie: u64,
    /// `None`: it is bound.
    pub errno: Option<Errno>,
    /// Whether a [`Destroyed`] will report the socket's end.
    pub is_followed: bool,
    /// What that will call the socket.
    pub sock: u64,
}

/// A bound socket is closed, or is not a server's any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Destroyed {
    pub time: Mono,
    pub sock: u64,
    /// It connects: what it was bound to is where it connects from.
    pub is_client: bool,
}

/// A process that owned a listener, or is a server candidate, has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exited {
    pub time: Mono,
    pub pid: u32,
    pub status: ExitStatus,
}

/// A process that was refused, or is a server candidate, has reached a watched port.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Connected {
    pub time: Mono,
    /// When the attempt began.
    pub started: Mono,
    pub netns: NetnsId,
    pub pid: Option<u32>,
    pub dst: IpAddr,
    pub dst_port: u16,
    pub device: Option<u32>,
}

/// A process that holds a listener on a watched port has reached a port that is not watched.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reached {
    pub time: Mono,
    pub netns: NetnsId,
    pub client: Process,
    pub dst: IpAddr,
    pub dst_port: u16,
    pub device: Option<u32>,
}

/// A connect ended without a connection, and without a refusal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
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
    pub errno: Option<Errno>,
}

/// A process has executed a program that may be a server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Executed {
    pub time: Mono,
    pub process: Process,
    /// What it executed; `None`: the kernel side did not read it.
    pub program: Option<ExecutedProgram>,
}

/// A program at its start, as the kernel had it: known also of a process that has ended by the time `/proc` is read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecutedProgram {
    pub netns: NetnsId,
    /// Cookie of the namespace; 0: unknown.
    pub netns_cookie: u64,
    /// File name of the executable: of a script that of its interpreter.
    pub file_name: Text,
    /// The beginning of the arguments, 1 KiB at most, each ended by a NUL; `None`: they could not be read.
    pub arguments: Option<Text>,
    /// There are more arguments than that.
    pub is_cut: bool,
}

/// A followed process has a new child.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Forked {
    pub time: Mono,
    /// `None`: the kernel side did not read it.
    pub parent: Option<u32>,
    pub child: Process,
}

/// What a refusal came as.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Via {
    Rst,
    Icmp,
}

/// What sent the RST.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SentBy {
    /// This host's TCP stack, which found no socket (perhaps after a translation).
    Tcp,
    /// No TCP stack of this host: a packet filter, or another host that it was translated to.
    Filter,
    /// This host's TCP stack, at another destination: NAT had led the connect there.
    Redirected,
}

impl SentBy {
    /// Whether a TCP stack of this host sent it.
    pub fn is_stack(self) -> bool {
        matches!(self, Self::Tcp | Self::Redirected)
    }
}

/// How a server asks for a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Call {
    Bind,
    Listen,
}

/// Records that never arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lost {
    pub records: u64,
    pub place: LostWhere,
    pub from: Mono,
    pub to: Mono,
}

/// Where records were lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum LostWhere {
    /// The ring buffer was full.
    Ring,
    /// The kernel skipped a program that interrupted itself: an upper bound.
    Recursion,
    /// The table of connection attempts was full.
    Attempts,
    /// The table of processes whose end is reported was full.
    Followed,
    /// The table of names of programs whose start is reported was full.
    Names,
    /// A record could not be read.
    Decode,
}

/// One record of the stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum KernelEvent {
    Opened(Box<Opened>),
    Listened(Listened),
    Closed(Box<Closed>),
    Refused(Box<Refused>),
    Bound(Box<Bound>),
    Destroyed(Destroyed),
    Exited(Exited),
    Executed(Box<Executed>),
    Forked(Forked),
    Connected(Connected),
    Failed(Box<Failed>),
    Lost(Lost),
    Reached(Reached),
    OpenedElsewhere(Box<Opened>),
    ClosedElsewhere(ClosedElsewhere),
}

impl KernelEvent {
    /// When the kernel recorded it; `None`: a loss has no moment.
    pub fn time(&self) -> Option<Mono> {
        match self {
            Self::Opened(opened) => Some(opened.time),
            Self::Listened(listened) => Some(listened.time),
            Self::Closed(closed) => Some(closed.time),
            Self::Refused(refused) => Some(refused.time),
            Self::Bound(bound) => Some(bound.time),
            Self::Destroyed(destroyed) => Some(destroyed.time),
            Self::Exited(exited) => Some(exited.time),
            Self::Executed(executed) => Some(executed.time),
            Self::Forked(forked) => Some(forked.time),
            Self::Connected(connected) => Some(connected.time),
            Self::Failed(failed) => Some(failed.time),
            Self::Reached(reached) => Some(reached.time),
            Self::OpenedElsewhere(opened) => Some(opened.time),
            Self::ClosedElsewhere(closed) => Some(closed.time),
            Self::Lost(_) => None,
        }
    }
}
