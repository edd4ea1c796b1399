//! The corpus: incidents as data, each staged with real sockets in namespaces of its own and held against the whole
//! of what the log says.
//!
//! `story` is what a story is made of, `stories` are the stories, a file for each cause, `stage` plays them, and
//! `table` lists them in docs/incidents.md.

mod stage;
mod stories;
mod story;
mod table;

use libtest_mimic::Trial;
use story::{Chapter, Incident, Kind, Sockopt, Step};

use crate::support::late::unless_late;
use crate::support::needs::Need;
use crate::trial_that_needs;

pub fn trials() -> Vec<Trial> {
    let mut trials = table::trials();
    for Chapter { cause, stories } in stories::CHAPTERS {
        for incident in *stories {
            let name = format!("corpus::{}::{}", cause.name().replace('-', "_"), incident.name);
            trials.push(trial_that_needs(name, needs(incident), move || {
                unless_late(|| stage::play(incident));
            }));
        }
    }
    trials
}

/// What the host must be able to do for a story: what it names, and what its steps tell.
fn needs(incident: &Incident) -> Vec<Need> {
    let mut needs = vec![Need::Root, Need::Network];
    for step in incident.steps {
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
    needs.extend(incident.needs);
    needs
}
