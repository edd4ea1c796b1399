//! The host: queries in, answers out.
//!
//! ```text
//! core ─▶ Query ─▶ frame ─▶ lane (a thread) ─▶ netlink, /proc, files
//! core ◀─ Answer ◀─ frame ◀──────┘
//! ```
//!
//! The main loop never waits for the host: [`Host`](lanes::Host) hands queries to lanes of threads, and replaces a thread
//! that does not come back. Queries and answers cross as bytes, so that processes can take the threads' place. A new query
//! is one more [`QueryKind`](crate::query::QueryKind), and its answer in [`answers`].

pub mod answers;
mod bounded;
pub mod clock;
pub mod config_watch;
pub mod credentials;
mod enter;
pub mod fanotify;
mod forwarders;
pub mod frame;
pub mod identity;
pub mod lanes;
pub mod local_sockets;
pub mod nat;
pub mod netlink;
mod namespace;
pub mod netns;
pub mod netns_argument;
pub(crate) mod owners;
pub mod passwd;
pub mod process;
mod rooted_file;
pub mod routes;
pub mod scan;
pub mod settings;
pub mod sock_diag;
