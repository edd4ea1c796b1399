//! No crate has a known vulnerability, is unsound, or has been given up by its maintainers.

use jiff::civil::Date;

use super::{Findings, packages::Package, policy::Advisories, snapshot::Snapshot};

/// Days after which the age of the snapshot is noted.
const FRESH: i32 = 90;

/// Compares each crate with the advisories of the snapshot. An accepted advisory that affects no crate is a problem too.
pub fn check(packages: &[Package], snapshot: &Snapshot, policy: &Advisories, today: Date) -> Findings {
    let mut findings = Findings::default();
    let mut accepted: Vec<_> = policy.ignore.iter().map(|entry| (&entry.id, false)).collect();
    for package in packages {
        for advisory in snapshot.affecting(package) {
            if let Some((_, used)) = accepted.iter_mut().find(|(id, _)| **id == advisory.id) {
                *used = true;
                continue;
            }
            findings.problems.push(format!("{package} is affected by {advisory}"));
        }
    }
    for (id, _) in accepted.iter().filter(|(_, used)| !used) {
        findings.problems.push(format!("deny.toml accepts {id}, which affects no crate: remove it"));
    }
    let unknown: Vec<_> =
        packages.iter().filter(|package| !snapshot.covers(package)).map(ToString::to_string).collect();
    if !unknown.is_empty() {
        let unknown = unknown.join(", ");
        findings.notes.push(format!("added since the snapshot was taken, and so not compared: {unknown}"));
    }
    match snapshot.date().map(|date| (today - date).get_days()) {
        Ok(days) if days > FRESH => {
            let hint = "`cargo xtask supply --advisories DIRECTORY` renews it";
            findings.notes.push(format!("the snapshot is {days} days old: {hint}"));
        }
        Ok(_) => {}
        Err(error) => findings.problems.push(format!("the snapshot has no date: {error:#}")),
    }
    findings
}

#[cfg(test)]
mod tests {
    use jiff::civil::date;

    use super::*;
    use crate::supply::{packages::example, policy::examples::ignore};

    const TAKEN: Date = date(2026, 8, 21);

    fn snapshot() -> Snapshot {
        serde_json::from_str(
            r#"{ "date": "2026-08-21", "commit": "", "crates": ["one"], "advisories": [
                { "id": "RUSTSEC-2026-0001", "package": "one", "title": "Reads too far", "date": "2026-01-01",
                  "patched": [">= 1.2.3"], "unaffected": ["< 1.0.0"] } ] }"#,
        )
        .unwrap()
    }

    fn problems(version: &str, policy: &Advisories) -> Vec<String> {
        check(&[example("one", version, None)], &snapshot(), policy, TAKEN).problems
    }

    #[test]
    fn an_affected_version_is_a_problem() {
        let found = problems("1.2.2", &Advisories::default());
        assert_eq!(found, ["`one 1.2.2` is affected by RUSTSEC-2026-0001: Reads too far (patched: >=1.2.3)"]);
    }

    #[test]
    fn a_patched_and_an_unaffected_version_are_none() {
        assert_eq!(problems("1.2.3", &Advisories::default()), [""; 0]);
        assert_eq!(problems("0.9.0", &Advisories::default()), [""; 0]);
    }

    #[test]
    fn an_accepted_advisory_is_none() {
        assert_eq!(problems("1.2.2", &ignore("RUSTSEC-2026-0001")), [""; 0]);
    }

    #[test]
    fn an_accepted_advisory_that_affects_no_crate_is_a_problem() {
        let found = problems("1.2.3", &ignore("RUSTSEC-2026-0001"));
        assert_eq!(found, ["deny.toml accepts RUSTSEC-2026-0001, which affects no crate: remove it"]);
    }

    #[test]
    fn an_old_snapshot_is_noted() {
        let notes = |today| check(&[], &snapshot(), &Advisories::default(), today).notes;
        assert_eq!(notes(date(2026, 11, 19)), [""; 0]);
        assert_eq!(
            notes(date(2026, 11, 20)),
            ["the snapshot is 91 days old: `cargo xtask supply --advisories DIRECTORY` renews it"]
        );
    }

    #[test]
    fn a_crate_that_the_snapshot_does_not_cover_is_noted() {
        let findings = check(&[example("two", "1.0.0", None)], &snapshot(), &Advisories::default(), TAKEN);
        assert_eq!(findings.notes, ["added since the snapshot was taken, and so not compared: `two 1.0.0`"]);
    }
}
