//! The host: queries in, answers out.
//!
//! ```text
//! core ─▶ Query ─▶ frame ─▶ lane (a thread) ─▶ answers ─▶ netlink, /proc, files
//! core ◀─ Answer ◀─ frame ◀──────┘
//! ```
//!
//! The main loop never waits for the host: [`Host`](lanes::Host) hands queries to lanes of threads, and replaces a thread
//! that does not come back. Queries and answers cross as bytes, so that processes can take the threads' place.
//!
//! A new kind of query is a [`QueryKind`](crate::query::QueryKind) with its topic, its lane, the bound of its answer and
//! whether a verdict rests on it; an [`Observation`](crate::query::Observation); an arm in [`answers`], which makes the one
//! of the other; and an arm in [`HostState::observe`](crate::state::HostState::observe), which takes it. Each of these is an
//! exhaustive match: the compiler asks for it. The code that asks is of the planner or of the lifecycle.
//!
//! | file | job |
//! |---|---|
//! | **queries** | |
//! | [`lanes`] | hands queries to threads, and replaces those that hang |
//! | [`frame`] | queries and answers as bytes |
//! | [`answers`] | how each kind of query is answered |
//! | **network namespaces** | |
//! | [`netns`] | which there are, and the ways into them |
//! | [`netns_argument`] | which of them a person means by `--netns` |
//! | `enter` | runs code inside of one |
//! | `namespace` | reads one: interfaces, addresses, cookie |
//! | [`scan`] | reads one or all, with the listeners and the processes that hold them |
//! | [`routes`] | interfaces and local addresses, from rtnetlink(7) |
//! | [`sock_diag`] | TCP sockets, from sock_diag(7) |
//! | [`nat`] | whether NAT rules may lead a connect elsewhere |
//! | [`netlink`] | one netlink dump |
//! | **processes** | |
//! | [`process`] | what `/proc` shows of a process |
//! | `owners` | which process holds a socket |
//! | [`local_sockets`] | what a process listens on besides TCP |
//! | [`openings`] | since when the listeners of a dump are open |
//! | `forwarders` | processes that forward a port |
//! | [`settings`] | what the configuration, the arguments and the environment of a process set |
//! | **files** | |
//! | `rooted_file` | opens a file as a process would, inside of its root |
//! | [`credentials`] | the ids of a process by which it may read a file |
//! | [`passwd`] | home directories in a `passwd` file |
//! | `bounded` | reads a file to a bound |
//! | [`config_watch`] | which configuration files are in use, and what has changed them |
//! | [`fanotify`] | the kernel's events of a directory |
//! | **the host itself** | |
//! | [`identity`] | its name, its kernel, its boot |
//! | [`clock`] | its clocks |

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
mod namespace;
pub mod nat;
pub mod netlink;
pub mod netns;
pub mod netns_argument;
pub mod openings;
pub(crate) mod owners;
pub mod passwd;
pub mod process;
mod rooted_file;
pub mod routes;
pub mod scan;
pub mod settings;
pub mod sock_diag;
