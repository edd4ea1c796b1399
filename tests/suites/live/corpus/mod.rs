//! The corpus: scenarios as data, each staged with real sockets in namespaces of its own and held against the whole
//! of the log.
//!
//! `scenario` is what a scenario is made of, `scenarios` are the scenarios, a file for each cause, `stage` plays them, and
//! `table` lists them in docs/incidents.md.

mod scenario;
mod scenarios;
mod stage;
mod table;

use libtest_mimic::Trial;
use scenario::{Group, Kind, Scenario, Sockopt, Step};

use tests::needs::Need;
use tests::suite::test_that_needs;

pub fn all() -> Vec<Trial> {
    let mut all = table::all();
    for Group { cause, scenarios } in scenarios::GROUPS {
        for scenario in *scenarios {
            let name = format!("corpus::{}::{}", cause.name().replace('-', "_"), scenario.name);
            all.push(test_that_needs(name, needs(scenario), move || stage::play(scenario)));
        }
    }
    all
}

/// What the host must be able to do for a scenario: what it names, and what its steps show.
fn needs(scenario: &Scenario) -> Vec<Need> {
    let mut needs = vec![Need::Root, Need::Network];
    for step in scenario.steps {
        let is_multipath = match step {
            Step::Listen(_, _, options) | Step::Bind(_, _, options) => options.contains(&Sockopt::Multipath),
            Step::Answered(_, kind, _) => *kind == Kind::Multipath,
            step => step.refusal().is_some_and(|refusal| refusal.kind == Kind::Multipath),
        };
        if is_multipath {
            needs.push(Need::Mptcp);
        }
        if matches!(step, Step::Nft(..)) {
            needs.push(Need::Nft);
        }
    }
    needs.extend(scenario.needs);
    needs
}
