//! What the core has found out: each becomes a line of the log.

use std::path::PathBuf;

use super::repeats::Repeats;
use crate::model::errno::Errno;
use crate::model::kernel_event::{Call, Connected, Failed, Lost, Refused};
use crate::model::process::{OwnerEnd, Process};
use crate::model::socket::{Listener, NetnsId};
use crate::model::time::Mono;
use crate::query::FileChange;
use crate::state::settings::{ConfiguredValue, SettingChange};
use crate::verdict::coverage::Destination;
use crate::verdict::evidence::Verdict;

/// Identifies a reported refusal within a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RefusalId(pub u64);

/// What was found out, and the moment that it is about.
#[derive(Clone, Debug, PartialEq)]
pub struct Finding {
    pub mono: Mono,
    pub kind: FindingKind,
}

/// What was found out.
#[derive(Clone, Debug, PartialEq)]
pub enum FindingKind {
    Listener {
        change: ListenerChange,
        listener: Listener,
    },
    /// A `bind()` or `listen()` has returned.
    Returned {
        call: Call,
        socket: Listener,
        errno: Option<Errno>,
    },
    Refused(Box<RefusedFinding>),
    Repeated(Repeats),
    Recovered(Box<Recovered>),
    /// A client has reached the other family.
    Fallback {
        of: RefusalId,
        connected: Connected,
        after_ns: u64,
    },
    Failed(Box<Failed>),
    Config(Box<ConfigFinding>),
    Lost(Lost),
}

/// What became of a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListenerChange {
    /// It was there already.
    Present,
    Opened,
    Closed {
        owner: OwnerEnd,
        /// It was open for less than 50 ms, by a process that is still running.
        is_transient: bool,
    },
}

/// A refusal, and why.
#[derive(Clone, Debug, PartialEq)]
pub struct RefusedFinding {
    pub id: RefusalId,
    pub refused: Refused,
    pub verdict: Verdict,
}

/// A destination that was refused is covered by a listener.
#[derive(Clone, Debug, PartialEq)]
pub struct Recovered {
    pub destination: Destination,
    /// The clients' namespace.
    pub netns: NetnsId,
    pub device: Option<u32>,
    pub of: Vec<RefusalId>,
    pub after_ns: u64,
    pub refusals: u64,
    /// By how many processes; `None`: none is known.
    pub processes: Option<u64>,
    pub listener: Listener,
}

/// The configuration file of a server has changed.
#[derive(Clone, Debug, PartialEq)]
pub struct ConfigFinding {
    pub path: PathBuf,
    pub change: FileChange,
    /// The process that changed it.
    pub writer: Process,
    /// What the file, the arguments and the environment of those that use it set now.
    pub values: Vec<ConfiguredValue>,
    pub changed: Vec<SettingChange>,
}
