//! The random check that `covers` agrees with the kernel: listeners and connects are made at random, a real
//! connect tells whether the kernel answers, and the table, the namespaces and the route must have said so.
//!
//! Needs root. What this host cannot run is counted as ignored and says why. `ORACLE_SEED=N` runs other
//! cases than the usual ones, and those of a run that failed.

mod oracle {
    pub mod case;
    pub mod check;
    pub mod dice;
    pub mod sockets;
    pub mod tally;
    pub mod world;
}

#[path = "support"]
#[expect(dead_code, reason = "the live tests use the rest of it")]
mod support {
    pub mod needs;
    pub mod netns;
    pub mod port;
}

use std::process::ExitCode;

use libtest_mimic::{Arguments, Completion, Trial};
use oracle::check;
use oracle::tally::Property;
use support::needs::Need;

/// Cases in all, and with each property, at the least.
const CASES: usize = 10_000;
const CASES_EACH: usize = 500;

fn main() -> ExitCode {
    let trials = vec![
        trial(
            "oracle::covers_agrees_with_the_kernel",
            || None,
            || {
                use Property::{Client, Device, Elsewhere, Mapped, Unread, V6only, Wildcard};
                let properties = [V6only, Device, Client, Mapped, Wildcard, Elsewhere, Unread];
                check::run(CASES, &properties, CASES_EACH, false);
            },
        ),
        trial("oracle::covers_agrees_with_the_kernel_in_a_vrf", oracle::world::lacks_vrf, || {
            check::run(2 * CASES_EACH, &[Property::Vrf], CASES_EACH, true);
        }),
    ];
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}

fn trial(name: &str, lacks: fn() -> Option<&'static str>, test: fn()) -> Trial {
    Trial::ignorable_test(name, move || {
        let needs = [Need::Root, Need::Network];
        if let Some(reason) = needs.iter().find_map(|need| need.missing()).or_else(lacks) {
            return Ok(Completion::ignored_with(reason));
        }
        test();
        Ok(Completion::Completed)
    })
}
