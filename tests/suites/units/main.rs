//! The tests with systemd's units: services, sockets and what they do to each other, under a systemd that is the first
//! process of the host, and what the log must report of a refused connect.
//!
//! `server` is the program that the units run, `stage` runs a scenario and holds its expectations. `cargo xtask vm
//! systemd` boots a guest to run them in; on a host whose first process is another one they are counted as not run. What
//! each expects is written from the contract of the causes, not from what tracer printed.

mod binds;
mod crash_loops;
mod identity;
mod namespaces;
mod restarts;
mod server;
mod service;
mod sockets;
mod stage;
mod turns;
mod wrong;

use std::process::ExitCode;

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    match arguments.next() {
        Some(first) if first == "actor" => return tests::actor::main(arguments),
        Some(first) if first == "server" => return server::main(arguments),
        _ => {}
    }
    let all = [
        restarts::all(),
        crash_loops::all(),
        turns::all(),
        binds::all(),
        sockets::all(),
        identity::all(),
        namespaces::all(),
        service::all(),
    ];
    tests::suite::run(all.into_iter().flatten().collect())
}
