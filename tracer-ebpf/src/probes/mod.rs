//! One file a hook, with the programs on it: filter, fill, submit.

mod bind;
mod bind_syscall;
mod destroyed;
mod error_report;
mod listen;
mod process_exec;
mod process_exit;
mod process_fork;
mod reset_received;
mod reset_sent;
mod state;
