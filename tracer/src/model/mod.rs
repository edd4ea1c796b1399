//! What tracer reasons about, as plain data: no clock, no I/O, no state, and nothing of the modules above.
//!
//! The kernel side reports a [`KernelEvent`](kernel_event::KernelEvent), in which processes choose all text
//! ([`text`]). What the host shows of a process, a socket or a namespace has the same types, so that an event and an answer
//! are compared by value. A verdict is in terms of [`cause`]; `output` escapes text ([`escape`]) and maps times ([`clock`])
//! at the very end.
//!
//! | file | job |
//! |---|---|
//! | [`kernel_event`] | what the kernel side recorded: one type a record |
//! | [`config_change`] | a change of a server's configuration file |
//! | [`cause`] | the terms of a verdict: causes, uncertainties, mismatches |
//! | [`limit`] | what a run cannot see on this host, and why |
//! | [`hook`] | a kernel program that is attached, and to what |
//! | **sockets** | |
//! | [`socket`] | sockets, and the namespaces that they are in |
//! | [`opening`] | when sockets began to listen, as far as that is remembered |
//! | [`local_socket`] | Unix sockets and UDP ports that a process listens on |
//! | [`ports`] | which ports are watched from the start of a run |
//! | [`namespace`] | a network namespace: its addresses and interfaces |
//! | [`routing`] | how a connect from inside a namespace reaches an address that is local there |
//! | **processes** | |
//! | [`process`] | a process, its identity, and how it ended |
//! | [`program`] | which program a process runs, of its executable and its arguments |
//! | [`container`] | the container that a process runs in, of its cgroup |
//! | [`unit`](mod@unit) | the systemd unit that a process runs in, of its cgroup |
//! | [`service`] | whether two processes are instances of one service |
//! | [`trust`] | which processes a client can take for its server |
//! | [`forward`] | what a program forwards, of its arguments |
//! | [`forwarder`] | a running process that forwards a port, with its listener |
//! | **values** | |
//! | [`text`] | bytes that a process chose |
//! | [`path`] | paths as raw bytes |
//! | [`escape`] | text made safe for a terminal |
//! | [`errno`] | error numbers |
//! | [`time`] | moments and intervals of the monotonic clock |
//! | [`clock`] | how these map to the wall clock |
//! | [`hash`] | hash tables for keys that other users choose |
//! | `zero_is_none` | the form of an unknown value in recordings |

pub mod cause;
pub mod clock;
pub mod config_change;
pub mod container;
pub mod errno;
pub mod escape;
pub mod forward;
pub mod forwarder;
pub mod hash;
pub mod hook;
pub mod kernel_event;
pub mod limit;
pub mod local_socket;
pub mod namespace;
pub mod opening;
pub mod path;
pub mod ports;
pub mod process;
pub mod program;
pub mod routing;
pub mod service;
pub mod socket;
pub mod text;
pub mod time;
pub mod trust;
pub mod unit;
mod zero_is_none;
