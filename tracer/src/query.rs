//! What the core asks of the host, and what comes back: data only, so that threads or processes can answer.

use std::net::SocketAddr;
use std::num::NonZeroU16;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::model::forward::Forward;
use crate::model::namespace::Namespace;
use crate::model::process::{Process, ProcessKey, Text};
use crate::model::socket::{Holder, Listener, NetnsId};
use crate::model::time::{Interval, Mono, StartTime};
use crate::products::{ProductRef, ServerSettings};

/// Identifies a query within a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct QueryId(pub u64);

/// A question to the host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Query {
    pub id: QueryId,
    /// After that the answer is of no use: it is "unknown".
    pub deadline: Mono,
    /// Bytes that the answer's frame may have; a longer one is "unknown".
    pub max_bytes: u32,
    /// Ports that are watched besides those of the run.
    pub added_ports: Vec<u16>,
    pub kind: QueryKind,
}

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum QueryKind {
    /// Every network namespace of the host, with its listeners on the watched ports.
    Host,
    /// Every network namespace of the host, with its listeners on a port that was added to the watched ones.
    Port { port: u16 },
    /// One namespace, with its listeners on the watched ports.
    Namespace {
        netns: NetnsId,
        /// A process that is or was in it.
        pid_hint: Option<u32>,
    },
    /// Which process holds each listener of a namespace now.
    Owners {
        netns: NetnsId,
        /// The listeners, where it is enough that their known holders are asked; `None`: list them again.
        known: Option<Vec<KnownSocket>>,
    },
    /// Which sockets hold a port of a namespace.
    Holders { netns: NetnsId, port: u16 },
    /// Listeners of a namespace on ports that are not watched.
    OtherPorts { netns: NetnsId },
    /// What processes of a namespace listen on besides TCP.
    LocalSockets { netns: NetnsId, pids: Vec<u32> },
    /// Every process of the host that may be the server.
    Candidates,
    /// Whether one process may be the server.
    Candidate { pid: u32 },
    /// Everything that `/proc` holds of one process.
    Process(ProcessKey),
    /// The same of the process that has a number now: it has changed a configuration file.
    Writer { pid: u32 },
    /// What the configuration, the arguments and the environment of a process set.
    Settings { pid: u32 },
    /// Whether a name under `/run/netns` still names the namespace.
    Named { netns: NetnsId, name: String },
    /// Which processes of a namespace forward another port to this one of another place.
    Forwarders { netns: NetnsId, port: u16 },
}

impl QueryKind {
    /// What it is about, whatever is known already.
    pub fn topic(&self) -> Self {
        match self {
            Self::Namespace { netns, pid_hint: _ } => Self::Namespace { netns: *netns, pid_hint: None },
            Self::LocalSockets { netns, pids: _ } => Self::LocalSockets { netns: *netns, pids: Vec::new() },
            Self::Owners { netns, known: _ } => Self::Owners { netns: *netns, known: None },
            other => other.clone(),
        }
    }

    /// Whether two ask the same.
    pub fn is_about_the_same(&self, other: &Self) -> bool {
        self.topic() == other.topic()
    }
}

/// A listener, and the process that is known to hold it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct KnownSocket {
    pub inode: u64,
    pub pid: Option<u32>,
}

/// What came of a query.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    pub id: QueryId,
    /// When the host was read: what the answer holds may be of any moment between.
    pub interval: Interval,
    /// `None`: unknown. It could not be read, or not in time.
    pub result: Option<Observation>,
}

/// A socket that a process listens on, and that is not a TCP socket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LocalSocket {
    pub pid: u32,
    pub endpoint: LocalEndpoint,
}

/// Where such a socket is reached.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum LocalEndpoint {
    /// A path, or `@` and an abstract name.
    Unix(Text),
    Udp(SocketAddr),
}

/// What the host shows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Observation {
    Scan(Scan),
    /// The holders of listeners that are known: each with its process as it is now.
    Owners {
        netns: NetnsId,
        owners: Vec<(u64, Process)>,
    },
    Holders {
        netns: NetnsId,
        port: u16,
        sockets: Vec<Holder>,
    },
    OtherPorts {
        netns: NetnsId,
        listeners: Vec<Listener>,
    },
    LocalSockets {
        netns: NetnsId,
        /// The processes that were read.
        pids: Vec<u32>,
        sockets: Vec<LocalSocket>,
    },
    Candidates {
        found: Vec<Candidate>,
        /// `/proc` listed every process.
        is_complete: bool,
    },
    /// `None`: it is not a server.
    Candidate(Option<Candidate>),
    /// `None`: it has ended.
    Process(Option<Process>),
    Writer(Option<Process>),
    Settings(SettingsRead),
    Named(bool),
    Forwarders {
        netns: NetnsId,
        port: u16,
        found: Vec<Forwarder>,
    },
}

/// A running process that forwards a port, with its own listener there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Forwarder {
    /// When the process started, as far as is known.
    pub since: Mono,
    /// The process is the forwarder.
    pub listener: Listener,
    pub forward: Forward,
}

/// Namespaces that were read, with their listeners on the watched ports.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scan {
    pub scope: ScanScope,
    pub namespaces: Vec<Namespace>,
    /// `since` is `None` in each.
    pub listeners: Vec<Listener>,
    pub unreadable: Vec<Unreadable>,
}

/// How far a scan went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ScanScope {
    /// Every namespace of the host was searched.
    Host {
        /// Some processes' namespaces could not be read: there may be more namespaces.
        is_partial: bool,
    },
    Namespace(NetnsId),
    /// One namespace, and which process holds each listener was found out again, also of those that are known.
    Owners(NetnsId),
    /// Every namespace, with the listeners on one port.
    Port(u16),
}

/// A namespace that could not be read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unreadable {
    pub id: NetnsId,
    pub why: String,
}

/// A process that may be the server, by its name or arguments.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Candidate {
    /// When it was found.
    pub time: Mono,
    /// When it started, as far as is known.
    pub since: Mono,
    pub netns: NetnsId,
    pub process: Process,
    /// The product that it is recognised as; `None`: by the user's own pattern.
    pub product: Option<ProductRef>,
    /// The port that the pattern is for; `None`: any.
    pub port: Option<NonZeroU16>,
    /// It is named like a server. Otherwise it runs the program of a process that was one.
    pub is_named: bool,
}

/// What a server's configuration, arguments and environment set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SettingsRead {
    pub pid: u32,
    /// When the process started that had this number; `None`: it has ended.
    pub started: Option<StartTime>,
    /// `None`: it is not a server that is known, or it could not be read.
    pub settings: Option<ServerSettings>,
    /// Which file its configuration is, whatever path leads to it; `None`: that is not known.
    pub file: Option<FileId>,
}

/// Identifies one file name in one directory of this host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct FileId(pub u64);

/// The configuration file of a server has changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfigChanged {
    pub time: Mono,
    pub file: FileId,
    /// As the server sees it.
    pub path: PathBuf,
    pub change: FileChange,
    /// The process that changed it; 0: unknown.
    pub writer: u32,
    /// Processes that use it.
    pub users: Vec<u32>,
}

/// What became of a configuration file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FileChange {
    /// Another file took its place.
    Replaced,
    /// It was written in place.
    Written,
    Removed,
}
