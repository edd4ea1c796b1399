//! When sockets began to listen, on any port, as far as the kernel side remembers it.

use std::collections::HashMap;

use super::time::Mono;

/// The openings that are remembered: no dump of the kernel's sockets shows since when one listens.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Openings {
    /// By the socket's inode number: its last one.
    pub times: HashMap<u64, Mono>,
    /// A socket that is not among them began to listen before this, or does not listen; `None`: that is not known.
    pub complete_since: Option<Mono>,
}
