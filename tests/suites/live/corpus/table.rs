//! The table of the corpus, docs/incidents.md, and that the corpus has what it promises.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use libtest_mimic::Trial;
use tracer::output::causes;
use tracer::output::schema::Cause;

use super::scenario::{Group, Kind, Orders, Scenario, Step};
use super::scenarios::GROUPS;
use tests::suite::test;

/// The table as it is checked in.
const CHECKED_IN: &str = include_str!("../../../../docs/incidents.md");

/// Set to anything, it makes the test write the table instead.
const UPDATE: &str = "UPDATE_DOCS";

/// The corpus has at least so many scenarios.
const SCENARIOS_MIN: usize = 60;

/// Scenarios of one cause, or with one follow-up, that differ.
const DIFFERENT_MIN: usize = 3;

const HEAD: &str = "# Scenarios

What tracer is tested with: each of these is staged with real processes and sockets in network namespaces of its own,
and every line of the log is held against the scenario. The scenarios are data, under `tests/suites/live/corpus/scenarios/`; this table is
made from them by `UPDATE_DOCS=1 cargo test -p tests --test live -- corpus::table`.

*Family* is the clients'. *Server* shows whether the server of the scenario was there before the tracer or came after it.
";

pub fn all() -> Vec<Trial> {
    vec![
        test("corpus::table::is_current", &[], is_current),
        test("corpus::table::has_every_cause_and_follow_up", &[], has_every_cause_and_follow_up),
        test("corpus::table::names_are_unique", &[], names_are_unique),
    ]
}

/// What makes a scenario another one than its like.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Traits {
    families: BTreeSet<&'static str>,
    timing: &'static str,
    clients: BTreeSet<&'static str>,
}

impl Traits {
    fn of(scenario: &Scenario) -> Self {
        let refusals = || scenario.steps.iter().filter_map(Step::refusal);
        Self {
            families: refusals().flat_map(|refusal| refusal.to).map(|to| family(to)).collect(),
            timing: timing(scenario),
            clients: refusals().map(|refusal| Kind::name(refusal.kind)).collect(),
        }
    }
}

fn family(to: &str) -> &'static str {
    match to {
        _ if to.starts_with("[::ffff:") => "IPv4-mapped",
        _ if to.starts_with('[') => "IPv6",
        _ => "IPv4",
    }
}

fn timing(scenario: &Scenario) -> &'static str {
    let mut is_traced = false;
    let (mut before, mut after) = (false, false);
    for step in scenario.steps {
        is_traced |= matches!(step, Step::Trace);
        if step.is_of_a_server() {
            before |= !is_traced;
            after |= is_traced;
        }
    }
    match (before, after || scenario.orders == Orders::Both) {
        (true, true) => "before and after",
        (true, false) => "before",
        (false, true) => "after",
        (false, false) => "none",
    }
}

const FOLLOW_UPS: [&str; 3] = ["recovered", "fallback", "repeated"];

fn follow_ups(scenario: &Scenario) -> BTreeSet<&'static str> {
    let name = |step: &Step| match step {
        Step::Recovered { .. } => Some(FOLLOW_UPS[0]),
        Step::Fallback { .. } => Some(FOLLOW_UPS[1]),
        Step::Repeated { .. } => Some(FOLLOW_UPS[2]),
        _ => None,
    };
    scenario.steps.iter().filter_map(name).collect()
}

fn list(items: &BTreeSet<&'static str>) -> String {
    items.iter().copied().collect::<Vec<_>>().join(", ")
}

fn table() -> String {
    let mut text = HEAD.to_owned();
    for Group { cause, scenarios } in GROUPS {
        let _ = writeln!(
            text,
            "\n## {}\n\n| scenario | what happened | family | server | client | what follows |\n|---|---|---|---|---|---|",
            cause.name()
        );
        for scenario in *scenarios {
            let Traits { families, timing, clients } = Traits::of(scenario);
            let _ = writeln!(
                text,
                "| `{}` | {} | {} | {timing} | {} | {} |",
                scenario.name,
                scenario.sentence,
                list(&families),
                list(&clients),
                list(&follow_ups(scenario)),
            );
        }
    }
    text
}

fn is_current() {
    let table = table();
    if std::env::var_os(UPDATE).is_some() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/incidents.md");
        std::fs::write(path, &table).unwrap_or_else(|error| panic!("{path}: {error}"));
    } else {
        assert!(
            table == CHECKED_IN,
            "docs/incidents.md is not what the scenarios make; set {UPDATE}=1 to write it"
        );
    }
}

fn has_every_cause_and_follow_up() {
    let of_groups: Vec<Cause> = GROUPS.iter().map(|group| group.cause).collect();
    assert_eq!(of_groups, causes::in_order().collect::<Vec<_>>());
    let mut different: BTreeMap<&str, BTreeSet<Traits>> = BTreeMap::new();
    for Group { cause, scenarios } in GROUPS {
        for scenario in *scenarios {
            let mut refusals = scenario.steps.iter().filter_map(Step::refusal);
            assert!(
                refusals.any(|refusal| refusal.cause == *cause),
                "{} is not about {cause:?}",
                scenario.name
            );
            let traits = Traits::of(scenario);
            for what in follow_ups(scenario).into_iter().chain([cause.name()]) {
                different.entry(what).or_default().insert(traits.clone());
            }
        }
    }
    for what in causes::in_order().map(Cause::name).chain(FOLLOW_UPS) {
        let count = different.get(what).map_or(0, BTreeSet::len);
        assert!(count >= DIFFERENT_MIN, "{what}: {count} scenarios that differ in family, timing or client");
    }
}

fn names_are_unique() {
    let mut names = BTreeSet::new();
    for scenario in GROUPS.iter().flat_map(|group| group.scenarios) {
        assert!(names.insert(scenario.name), "two scenarios are called {}", scenario.name);
        assert!(scenario.sentence.ends_with('.') && !scenario.sentence.contains('|'), "{}", scenario.name);
        let traced = scenario.steps.iter().filter(|step| matches!(step, Step::Trace)).count();
        assert_eq!(traced, 1, "{} is traced once", scenario.name);
    }
    assert!(names.len() >= SCENARIOS_MIN, "{} scenarios", names.len());
}
