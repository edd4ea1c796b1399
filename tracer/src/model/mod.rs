//! What tracer reasons about: sockets, processes, namespaces, what happened and what was found. Plain data.

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
