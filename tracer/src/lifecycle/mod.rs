//! From the first record of a refusal to its last line.
//!
//! [`Core`](core::Core) takes kernel events, answers and time, and returns [`Finding`](finding::Finding)s; it asks the
//! host by values ([`Query`](crate::query::Query)), and has no clock and no I/O.
//!
//! ```text
//! event ──▶ state ──▶ transitions ─┐
//! answer ─▶ state ─────────────────┼─▶ announcements, recoveries ─▶ findings
//! refusal ─▶ classify ─▶ deferred? ─▶ plan ─▶ waiting ─▶ reported ─▶ repeated … recovered
//! ```

pub mod announcements;
pub mod candidates;
pub mod config_changes;
pub mod core;
pub mod counts;
pub mod fallbacks;
pub mod finding;
pub mod gate;
pub mod heirs;
pub mod holders;
pub mod in_flight;
pub mod inquiry;
mod names;
pub mod progress;
pub mod recoveries;
pub mod refusals;
pub mod repeats;
pub mod requests;
pub mod tracked;
pub mod transitions;
pub mod upstream;
