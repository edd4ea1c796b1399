//! A change of a server's configuration file: which file, what became of it, and which process changed it.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::time::Mono;

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
    /// The process that changed it; `None`: unknown.
    #[serde(with = "super::zero_is_none")]
    pub writer: Option<u32>,
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
