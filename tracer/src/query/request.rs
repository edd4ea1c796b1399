//! A query of the host: what is asked, and all that depends on what is asked.

use serde::{Deserialize, Serialize};

use crate::model::process::ProcessKey;
use crate::model::socket::NetnsId;
use crate::model::time::Mono;

/// Bytes of an answer about one process or one name.
const ONE_MAX_BYTES: u32 = 1 << 20;

/// Bytes of an answer that lists sockets or processes: a hundred thousand listeners fit.
const LIST_MAX_BYTES: u32 = 64 << 20;

/// Identifies one query of a run.
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
    /// Everything that `/proc` shows of one process.
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
            Self::Host
            | Self::Port { .. }
            | Self::Holders { .. }
            | Self::OtherPorts { .. }
            | Self::Candidates
            | Self::Candidate { .. }
            | Self::Process(_)
            | Self::Writer { .. }
            | Self::Settings { .. }
            | Self::Named { .. }
            | Self::Forwarders { .. } => self.clone(),
        }
    }

    /// Whether two ask the same.
    pub fn is_about_the_same(&self, other: &Self) -> bool {
        self.topic() == other.topic()
    }

    /// The lane that answers it: which kind of work it is. See [`Lane`].
    pub const fn lane(&self) -> Lane {
        match self {
            Self::Host | Self::Port { .. } => Lane::Host,
            Self::Candidates | Self::Forwarders { .. } => Lane::Candidates,
            Self::Namespace { .. }
            | Self::Owners { .. }
            | Self::Holders { .. }
            | Self::OtherPorts { .. }
            | Self::Named { .. } => Lane::Namespace,
            Self::Process(_) | Self::Writer { .. } | Self::Candidate { .. } | Self::LocalSockets { .. } => {
                Lane::Process
            }
            Self::Settings { .. } => Lane::Settings,
        }
    }

    /// Bytes that the answer's frame may have.
    pub const fn max_bytes(&self) -> u32 {
        match self {
            Self::Host
            | Self::Port { .. }
            | Self::Candidates
            | Self::Namespace { .. }
            | Self::Owners { .. }
            | Self::Holders { .. }
            | Self::LocalSockets { .. }
            | Self::Forwarders { .. }
            | Self::OtherPorts { .. } => LIST_MAX_BYTES,
            Self::Candidate { .. }
            | Self::Process(_)
            | Self::Writer { .. }
            | Self::Settings { .. }
            | Self::Named { .. } => ONE_MAX_BYTES,
        }
    }

    /// Whether a verdict rests on the answer: not only what a line shows.
    pub const fn is_evidence(&self) -> bool {
        match self {
            Self::Host
            | Self::Port { .. }
            | Self::Namespace { .. }
            | Self::Owners { .. }
            | Self::Holders { .. }
            | Self::OtherPorts { .. }
            | Self::LocalSockets { .. }
            | Self::Forwarders { .. }
            | Self::Candidates
            | Self::Candidate { .. } => true,
            Self::Process(_) | Self::Writer { .. } | Self::Settings { .. } | Self::Named { .. } => false,
        }
    }
}

/// A listener, and the process that is known to hold it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct KnownSocket {
    pub inode: u64,
    pub pid: Option<u32>,
}

/// Kinds of work that do not hold each other up: each has a thread of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lane {
    /// Every namespace of the host: milliseconds.
    Host,
    /// Every process of the host, each by its name and its arguments.
    Candidates,
    /// One namespace, over netlink.
    Namespace,
    /// One process.
    Process,
    /// Files that a process names: they may be anywhere.
    Settings,
}

impl Lane {
    pub const ALL: [Self; 5] = [Self::Host, Self::Candidates, Self::Namespace, Self::Process, Self::Settings];

    /// The name of its thread.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Host => "host",
            Self::Candidates => "candidates",
            Self::Namespace => "namespace",
            Self::Process => "process",
            Self::Settings => "settings",
        }
    }
}
