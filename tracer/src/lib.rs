//! Says, at the moment a connect is refused, who was refused, who should have answered, and why it could
//! not.
//!
//! ```text
//! kernel hooks ─▶ ring buffer ─▶ decode ─▶ correlate ─▶ render
//! tracer-ebpf     kernel::ring   pure      pure         pure, into a Write
//! ```
//!
//! [`session`] turns the crank. Only [`kernel`], [`process`] and [`session`] touch the world; the rest are
//! functions of their arguments, without clock, I/O or `/proc`.

#[cfg(not(target_endian = "little"))]
compile_error!(
    "tracer's kernel programs and records are little-endian: big-endian machines are not supported"
);

pub mod cli;
pub mod doctor;
pub mod exit;
pub mod session;
pub mod show;
pub mod status;

pub mod kernel;
pub mod process;
pub mod server;

pub mod claims;
pub mod clients;
pub mod clock;
pub mod container;
pub mod correlate;
pub mod decode;
pub mod errno;
pub mod escape;
pub mod event;
pub mod explain;
#[doc(hidden)]
pub mod fuzz;
pub mod line;
pub mod memory;
pub mod render;
pub mod sink;
