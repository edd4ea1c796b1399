//! The answer to a query: what the host was found to have, and when.

use serde::{Deserialize, Serialize};

use super::candidate::Candidate;
use super::request::QueryId;
use crate::model::config_change::FileId;
use crate::model::forwarder::Forwarder;
use crate::model::local_socket::LocalSocket;
use crate::model::namespace::Namespace;
use crate::model::process::Process;
use crate::model::socket::{Holder, Listener, NetnsId};
use crate::model::time::{Interval, Mono, StartTime};
use crate::products::ServerSettings;

/// What came of a query.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    pub id: QueryId,
    /// When the host was read: what the answer shows may be of any moment between.
    pub interval: Interval,
    /// `None`: unknown. It could not be read, or not in time.
    pub result: Option<Observation>,
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
        /// One whose `since` is `None` was open by then; `None`: not known.
        #[serde(default)]
        dated_since: Option<Mono>,
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
    /// Every namespace of the host was searched for.
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
