//! Explains, at the moment a connect is refused, which client was refused, which socket should have answered, and why it
//! did not.
//!
//! ```text
//! kernel programs ─▶ bpf::ring ─▶ stream ─▶ state ─▶ verdict ─▶ lifecycle ─▶ output ─▶ stdout
//! (tracer-ebpf)                   events     │  ▲        │                     lines
//!                                            ▼  │        ▼
//!                                   observations └── host ◀── queries
//! ```
//!
//! Data runs one way. [`stream`] turns ring records into kernel events, complete until a watermark. [`state`] takes events
//! and observations, and returns what changed. [`verdict`] classifies a refusal by one table of rules, and plans which queries
//! of the host it needs. [`lifecycle`] follows each refusal from its record to its last line, and gives findings.
//! [`output`] turns findings into numbered, dated, escaped lines. [`host`] answers queries on threads of its own.
//!
//! [`run`] joins the pure part: inputs in, lines out; no clock, no I/O. [`cmd::trace`] is the main loop around it, and
//! [`record`] writes its inputs to a file, from which the same lines come again.
//!
//! The layers, each importing only those below it: [`model`]; [`products`]; [`query`]; [`host`]; [`bpf`]; [`stream`];
//! [`state`]; [`verdict`]; [`lifecycle`]; [`output`]; [`run`]; [`cmd`]. `tests/suites/architecture.rs` checks them.

#[cfg(not(target_endian = "little"))]
compile_error!(
    "tracer's kernel programs and records are little-endian: big-endian machines are not supported"
);

pub mod bpf;
pub mod cli;
pub mod cmd;
pub mod exit;
#[doc(hidden)]
pub mod fuzz;
pub mod host;
pub mod lifecycle;
pub mod memory;
pub mod model;
pub mod output;
pub mod products;
pub mod query;
pub mod record;
pub mod run;
pub mod sandbox;
pub mod state;
pub mod stream;
pub mod verdict;
