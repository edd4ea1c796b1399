//! `cargo xtask supply`: the licences, the known vulnerabilities, the duplicate versions and the origin of all crates of
//! `Cargo.lock`, checked against `deny.toml`.
//!
//! `cargo deny` makes the same checks and reads the same file. CI does not install it: compiling it takes longer than the
//! checks may, and its own download of the advisories needs a network that CI may not have. The checks here read only what
//! cargo has on this machine, and take less than a second. Where `cargo deny` or `cargo audit` is installed, it runs too.
//!
//! | file | what it does |
//! |---|---|
//! | `packages.rs` | the crates of `Cargo.lock` |
//! | `policy.rs` | `deny.toml` |
//! | `licences.rs`, `advisories.rs`, `duplicates.rs`, `sources.rs` | one check each |
//! | `snapshot.rs` | the copy of the RustSec advisories, and how it is renewed |
//! | `tools.rs` | `cargo deny` and `cargo audit`, where they are installed |

mod advisories;
mod duplicates;
mod licences;
mod packages;
mod policy;
mod snapshot;
mod sources;
mod tools;

use std::{path::Path, process::ExitCode};

use anyhow::Result;
use jiff::{Timestamp, tz::TimeZone};

pub use self::licences::canonical;
use self::{policy::Policy, snapshot::Snapshot};
use crate::{cargo::root, failure::Failure};

/// What one check found.
#[derive(Debug, Default, PartialEq, Eq)]
struct Findings {
    /// Each fails the check.
    problems: Vec<String>,
    /// Each is printed, and fails nothing.
    notes: Vec<String>,
}

/// Runs every check. With `database`, a git repository of RustSec's advisory-db, renews the snapshot from it first.
pub fn run(database: Option<&Path>) -> Result<ExitCode> {
    let packages = packages::locked()?;
    if let Some(database) = database {
        let snapshot = Snapshot::take(database, &packages)?;
        snapshot.write(&root())?;
        eprintln!("supply: wrote `{}`: {}", snapshot::PATH, snapshot.summary());
    }
    let policy = Policy::read(&root())?;
    let snapshot = Snapshot::read(&root())?;
    let today = Timestamp::now().to_zoned(TimeZone::UTC).date();
    let mut failed = 0;
    for (check, findings) in [
        ("licences", licences::check(&packages, &policy.licenses)),
        ("advisories", advisories::check(&packages, &snapshot, &policy.advisories, today)),
        ("duplicates", duplicates::check(&packages, &policy.bans)),
        ("sources", sources::check(&packages, &policy.sources)),
        ("tools", tools::check(&policy.advisories)?),
    ] {
        for note in &findings.notes {
            eprintln!("supply: {check}: note: {note}");
        }
        for problem in &findings.problems {
            eprintln!("supply: {check}: {problem}");
        }
        failed += findings.problems.len();
    }
    if failed > 0 {
        let hint = "update or replace the crate; an exception is an entry in deny.toml, with its reason";
        return Err(Failure::new(format!("{failed} problems of the supply chain"), hint).into());
    }
    eprintln!(
        "supply: {} crates: licences, advisories, duplicates and sources are as deny.toml allows",
        packages.len()
    );
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_crates_of_this_workspace_pass() {
        let packages = packages::locked().unwrap();
        let policy = Policy::read(&root()).unwrap();
        let snapshot = Snapshot::read(&root()).unwrap();
        let today = snapshot.date().unwrap();
        for findings in [
            licences::check(&packages, &policy.licenses),
            advisories::check(&packages, &snapshot, &policy.advisories, today),
            duplicates::check(&packages, &policy.bans),
            sources::check(&packages, &policy.sources),
        ] {
            assert_eq!(findings.problems, [""; 0]);
        }
    }
}
