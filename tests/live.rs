//! The live tests: the real binary, real sockets, real refusals, in network namespaces of their own.
//!
//! They need root. A test that this host cannot run is counted as ignored and says why; none passes
//! without having run. This binary is also the actors that the tests send out: see support/actor.rs.

mod corpus;
mod support;

mod live {
    pub mod bad_host;
    pub mod bad_input;
    pub mod bounds;
    pub mod clients;
    pub mod configs;
    pub mod ending;
    pub mod faults;
    pub mod followups;
    pub mod hostile;
    pub mod listeners;
    pub mod namespaces;
    pub mod privilege;
    pub mod schema;
    pub mod servers;
    pub mod status;
}

use std::process::ExitCode;
use std::sync::{PoisonError, RwLock};

use libtest_mimic::{Arguments, Completion, Trial};
use support::needs::Need;

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    if arguments.next().is_some_and(|first| first == "actor") {
        return support::actor::main(arguments);
    }
    // Actors that fork leave orphans, which are to be reaped here. A kernel that knows no reaper only
    // leaves them to init.
    let _ = rustix::process::set_child_subreaper(Some(rustix::process::getpid()));
    let trials = [
        corpus::trials(),
        live::clients::trials(),
        live::configs::trials(),
        live::listeners::trials(),
        live::servers::trials(),
        live::followups::trials(),
        live::namespaces::trials(),
        live::ending::trials(),
        live::faults::trials(),
        live::bounds::trials(),
        live::schema::trials(),
        live::status::trials(),
        live::bad_input::trials(),
        live::bad_host::trials(),
        live::privilege::trials(),
        live::hostile::trials(),
    ];
    libtest_mimic::run(&Arguments::from_args(), trials.into_iter().flatten().collect()).exit_code()
}

/// Held by every test that runs.
static MACHINE: RwLock<()> = RwLock::new(());

/// A test that is ignored, by name and with the reason, where the host lacks what it needs.
fn trial(name: impl Into<String>, needs: &'static [Need], test: impl FnOnce() + Send + 'static) -> Trial {
    trial_that_needs(name, needs.to_vec(), test)
}

/// The same, where what it needs is found out.
fn trial_that_needs(
    name: impl Into<String>,
    needs: Vec<Need>,
    test: impl FnOnce() + Send + 'static,
) -> Trial {
    Trial::ignorable_test(name, move || {
        if let Some(reason) = needs.iter().find_map(|need| need.missing()) {
            return Ok(Completion::ignored_with(reason));
        }
        // One that changes the machine under all others has it for itself.
        if needs.contains(&Need::OwnMachine) {
            let _alone = MACHINE.write().unwrap_or_else(PoisonError::into_inner);
            test();
        } else {
            let _with_others = MACHINE.read().unwrap_or_else(PoisonError::into_inner);
            test();
        }
        Ok(Completion::Completed)
    })
}
