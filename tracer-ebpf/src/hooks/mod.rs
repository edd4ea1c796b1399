//! One file a hook: filter, fill, emit.

mod error_report;
mod refused;
mod reset;
mod state;
