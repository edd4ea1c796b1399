//! Recordings of real runs, replayed without a kernel: the same lines must come.
//!
//! `recordings.jsonl.gz` holds what the live tests met before the core took queries and answers as data. Floods are left
//! out, and runs that were killed, which have no last line: `bounds::{bound_sockets,connects_under_way}`,
//! `clients::{the_right_pid_under_load,what_a_full_ring_loses_is_counted}`, six of `ending` and `faults` whose reader went
//! away, and the floods of `faults`.
//!
//! `differences.txt` lists every difference to the lines of that time, by its reason; no other may occur, and each must.
//! `GOLDEN_WRITE=1 cargo test -p tests --test golden` writes the list, and keeps the reasons that it has.

mod compare;
mod host;
mod old;
mod replay;
mod round_trip;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::Path;

use serde_json::Value;

use compare::Difference;

const LIST: &str = "suites/golden/differences.txt";

/// The reason of a difference for which none is given.
const NO_REASON: &str = "(no reason given)";

/// The list: each difference with its reason.
fn listed(text: &str) -> BTreeMap<Difference, String> {
    let mut reason = NO_REASON.to_owned();
    let mut listed = BTreeMap::new();
    for line in text.lines().filter(|line| !line.is_empty()) {
        if let Some(text) = line.strip_prefix("# ") {
            reason = text.to_owned();
        } else {
            let difference = Difference::parse(line).unwrap_or_else(|| panic!("{LIST}: {line}"));
            listed.insert(difference, reason.clone());
        }
    }
    listed
}

fn write(differences: &BTreeSet<Difference>, listed: &BTreeMap<Difference, String>) -> String {
    let mut by_reason: BTreeMap<&str, Vec<&Difference>> = BTreeMap::new();
    for difference in differences {
        let reason = listed.get(difference).map_or(NO_REASON, String::as_str);
        by_reason.entry(reason).or_default().push(difference);
    }
    let mut text = String::new();
    for (reason, differences) in by_reason {
        let _ = writeln!(text, "# {reason}");
        differences.iter().for_each(|difference| _ = writeln!(text, "{difference}"));
        text.push('\n');
    }
    text
}

#[test]
fn what_was_recorded_gives_the_same_lines() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(LIST);
    let listed = listed(&std::fs::read_to_string(&path).unwrap_or_default());
    let mut differences = BTreeSet::new();
    let mut unasked: BTreeMap<&str, usize> = BTreeMap::new();
    let (mut recordings, mut different) = (0, 0);
    for recording in old::recordings() {
        let run = recording.read();
        let old = run.lines.clone();
        let replayed = replay::replay(run);
        let lines: Vec<Value> =
            replayed.lines.iter().map(|line| serde_json::to_value(line).expect("a line as JSON")).collect();
        let found = compare::compare(&recording.name, &old, &lines);
        recordings += 1;
        different += usize::from(!found.is_empty());
        differences.extend(found);
        for (kind, count) in replayed.unasked {
            *unasked.entry(kind).or_default() += count;
        }
    }
    println!("{recordings} recordings, {} without any difference", recordings - different);
    println!("questions that were never asked when they were recorded: {unasked:?}");
    let mut reasons: BTreeMap<&str, usize> = BTreeMap::new();
    for difference in &differences {
        *reasons.entry(listed.get(difference).map_or(NO_REASON, String::as_str)).or_default() += 1;
    }
    for (reason, count) in reasons {
        println!("{count} differences: {reason}");
    }
    if std::env::var_os("GOLDEN_WRITE").is_some() {
        std::fs::write(&path, write(&differences, &listed)).expect("to write the list");
    }
    let unlisted: Vec<String> =
        differences.iter().filter(|one| !listed.contains_key(one)).map(ToString::to_string).collect();
    let vanished: Vec<String> =
        listed.keys().filter(|one| !differences.contains(one)).map(ToString::to_string).collect();
    let unexplained: Vec<String> =
        listed.iter().filter(|(_, reason)| *reason == NO_REASON).map(|(one, _)| one.to_string()).collect();
    assert!(unlisted.is_empty(), "{} are not listed:\n{}", unlisted.len(), unlisted.join("\n"));
    assert!(vanished.is_empty(), "{} do not occur any more:\n{}", vanished.len(), vanished.join("\n"));
    assert!(
        unexplained.is_empty(),
        "{} are listed without a reason:\n{}",
        unexplained.len(),
        unexplained.join("\n")
    );
}
