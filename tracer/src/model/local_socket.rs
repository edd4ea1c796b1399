//! What a process listens on besides TCP: Unix sockets and UDP ports.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use super::text::Text;

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
