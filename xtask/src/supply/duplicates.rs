//! No crate is there in two versions, unless `deny.toml` lists all but one of them.

use std::collections::{BTreeMap, BTreeSet};

use super::{Findings, packages::Package, policy::Bans};

/// Checks that each crate has one version. An entry of the list that no duplicate needs is a problem too.
pub fn check(packages: &[Package], policy: &Bans) -> Findings {
    let mut findings = Findings::default();
    let mut versions = BTreeMap::<&str, BTreeSet<_>>::new();
    for package in packages {
        versions.entry(&package.name).or_default().insert(&package.version);
    }
    for (name, versions) in &versions {
        let skipped = |version| {
            policy.skip.iter().any(|entry| entry.spec.name == *name && entry.spec.versions.matches(version))
        };
        let remaining: Vec<_> =
            versions.iter().filter(|version| !skipped(version)).map(ToString::to_string).collect();
        if remaining.len() > 1 {
            let remaining = remaining.join(" and ");
            findings
                .problems
                .push(format!("`{name}` is there as {remaining}, which deny.toml does not list"));
        }
    }
    for entry in &policy.skip {
        let is_needed = versions.get(entry.spec.name.as_str()).is_some_and(|versions| {
            versions.len() > 1 && versions.iter().any(|version| entry.spec.versions.matches(version))
        });
        if !is_needed {
            let text = &entry.spec.text;
            findings.problems.push(format!("deny.toml lists `{text}`, which is not a duplicate: remove it"));
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::supply::{packages::example, policy::examples::skip};

    fn problems(versions: &[&str], policy: &Bans) -> Vec<String> {
        let packages: Vec<_> = versions.iter().map(|version| example("syn", version, None)).collect();
        check(&packages, policy).problems
    }

    #[test]
    fn a_second_version_is_a_problem() {
        let found = problems(&["2.0.1", "3.0.0"], &Bans::default());
        assert_eq!(found, ["`syn` is there as 2.0.1 and 3.0.0, which deny.toml does not list"]);
    }

    #[test]
    fn a_second_version_that_is_listed_is_none() {
        assert_eq!(problems(&["2.0.1", "3.0.0"], &skip("syn@2")), [""; 0]);
    }

    #[test]
    fn a_third_version_is_a_problem_beside_a_listed_one() {
        assert_eq!(problems(&["1.0.0", "2.0.1", "3.0.0"], &skip("syn@2")).len(), 1);
    }

    #[test]
    fn an_entry_that_no_duplicate_needs_is_a_problem() {
        let found = problems(&["3.0.0"], &skip("syn@3"));
        assert_eq!(found, ["deny.toml lists `syn@3`, which is not a duplicate: remove it"]);
        assert_eq!(problems(&["2.0.1", "3.0.0"], &skip("syn@1")).len(), 2);
    }
}
