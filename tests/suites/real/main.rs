//! Scenarios with the real servers: PostgreSQL, nginx, sshd and others, each in network namespaces of its own, and what
//! the log must report of a refused connect.
//!
//! `software` lists the servers, `servers` starts them, `stage` runs a scenario and holds its expectations,
//! `scenarios` are the scenarios, `table` lists them in docs/real-servers.md. `cargo xtask setup` installs the servers;
//! a scenario whose server is not installed is counted as not run, with the reason. What each scenario expects is
//! written from the contract of the causes, not from what tracer printed.

mod scenarios;
mod servers;
mod software;
mod stage;
mod table;
mod wrong;

use std::process::ExitCode;

use tests::suite::test_that_needs;

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    if arguments.next().is_some_and(|first| first == "actor") {
        return tests::actor::main(arguments);
    }
    let mut all = table::all();
    for (group, scenarios) in scenarios::GROUPS {
        for scenario in *scenarios {
            let name = format!("real::{group}::{}", scenario.name);
            all.push(test_that_needs(name, scenario.all_needs(), || wrong::run(scenario)));
        }
    }
    tests::suite::run(all)
}
