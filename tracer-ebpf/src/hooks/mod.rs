//! One file a hook: filter, fill, emit.

mod bind;
mod bind_syscall;
mod destroyed;
mod error_report;
mod process;
mod refused;
mod reset;
mod state;
mod undisturbed;
