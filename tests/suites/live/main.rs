//! The live tests: the real binary, real sockets, real refusals, in network namespaces of their own.
//!
//! They need root. A test that this host cannot run is counted as ignored, with the reason; none passes
//! without having run. This binary is also the actors that the tests send out: see src/actor.rs.

mod bad_host;
mod bad_input;
mod bounds;
mod clients;
mod configs;
mod corpus;
mod ending;
mod faults;
mod filters;
mod followups;
mod hostile;
mod listeners;
mod namespaces;
mod postgresql;
mod privilege;
mod processes;
mod recording;
mod schema;
mod servers;
mod stalls;
mod status;
mod upstream;

use std::process::ExitCode;

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    if arguments.next().is_some_and(|first| first == "actor") {
        return tests::actor::main(arguments);
    }
    // Actors that fork leave orphans, which are to be reaped here. A kernel that knows no reaper only
    // leaves them to init.
    let _ = rustix::process::set_child_subreaper(Some(rustix::process::getpid()));
    let all = [
        corpus::all(),
        clients::all(),
        configs::all(),
        listeners::all(),
        servers::all(),
        processes::all(),
        postgresql::all(),
        followups::all(),
        filters::all(),
        namespaces::all(),
        ending::all(),
        faults::all(),
        stalls::all(),
        bounds::all(),
        schema::all(),
        status::all(),
        upstream::all(),
        bad_input::all(),
        bad_host::all(),
        privilege::all(),
        recording::all(),
        hostile::all(),
    ];
    tests::suite::run(all.into_iter().flatten().collect())
}
