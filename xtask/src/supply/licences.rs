//! Every crate can be used under the licences that `deny.toml` allows.

use spdx::{Expression, LicenseReq, Licensee, ParseMode};

use super::{Findings, packages::Package, policy::Licenses};

/// Checks each crate's licence. An allowed licence that no crate names is a problem too, so that the list stays true.
pub fn check(packages: &[Package], policy: &Licenses) -> Findings {
    let mut findings = Findings::default();
    let mut allowed = Vec::new();
    for text in &policy.allow {
        match Licensee::parse(text) {
            Ok(licensee) => allowed.push((text, licensee, false)),
            Err(error) => {
                findings
                    .problems
                    .push(format!("deny.toml allows `{text}`, which is not a licence: {}", error.reason));
            }
        }
    }
    for package in packages {
        let Some(text) = &package.licence else {
            findings.problems.push(format!("{package} names no licence in its manifest"));
            continue;
        };
        let expression = match Expression::parse_mode(text, ParseMode::LAX) {
            Ok(expression) => expression,
            Err(error) => {
                findings.problems.push(format!("{package} is licensed as `{text}`: {}", error.reason));
                continue;
            }
        };
        let mut allows = |requirement: &LicenseReq| {
            let entry = allowed.iter_mut().find(|(_, licensee, _)| licensee.satisfies(requirement));
            entry.map(|(_, _, used)| *used = true).is_some()
        };
        if !expression.evaluate(&mut allows) {
            findings
                .problems
                .push(format!("{package} is licensed as `{text}`, which deny.toml does not allow"));
        }
    }
    for (text, _, _) in allowed.iter().filter(|(_, _, used)| !used) {
        findings.problems.push(format!("deny.toml allows `{text}`, which no crate needs: remove it"));
    }
    findings
}

/// A licence as SPDX writes it today: older manifests have `/` for `OR`. None where it is not an SPDX expression.
pub fn canonical(text: &str) -> Option<String> {
    match Expression::canonicalize(text) {
        Ok(changed) => Some(changed.unwrap_or_else(|| text.to_owned())),
        Err(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::supply::{packages::example, policy::examples};

    fn problems(allow: &[&str], licence: Option<&str>) -> Vec<String> {
        check(&[example("one", "1.0.0", licence)], &examples::allow(allow)).problems
    }

    #[test]
    fn a_licence_that_is_not_allowed_is_a_problem() {
        let found = problems(&[], Some("GPL-3.0-only"));
        assert_eq!(found, ["`one 1.0.0` is licensed as `GPL-3.0-only`, which deny.toml does not allow"]);
    }

    #[test]
    fn one_of_two_alternatives_is_enough() {
        for text in ["MIT OR GPL-2.0-only", "GPL-2.0-only/MIT", "(MIT OR Apache-2.0) AND MIT"] {
            assert_eq!(problems(&["MIT"], Some(text)), [""; 0], "{text}");
        }
    }

    #[test]
    fn each_of_two_licences_that_both_apply_must_be_allowed() {
        assert_eq!(problems(&["MIT"], Some("MIT AND GPL-2.0-only")).len(), 1);
        assert_eq!(problems(&["MIT", "Zlib"], Some("MIT AND Zlib")), [""; 0]);
    }

    #[test]
    fn a_crate_without_a_licence_is_a_problem() {
        assert_eq!(problems(&[], None), ["`one 1.0.0` names no licence in its manifest"]);
    }

    #[test]
    fn a_licence_that_is_not_spdx_is_a_problem() {
        assert_eq!(problems(&[], Some("see COPYING")).len(), 1);
    }

    #[test]
    fn an_allowed_licence_that_no_crate_needs_is_a_problem() {
        let found = problems(&["MIT", "Zlib"], Some("MIT"));
        assert_eq!(found, ["deny.toml allows `Zlib`, which no crate needs: remove it"]);
    }

    #[test]
    fn an_old_licence_is_written_as_spdx_has_it() {
        assert_eq!(canonical("MIT/Apache-2.0").as_deref(), Some("MIT OR Apache-2.0"));
        assert_eq!(canonical("MIT").as_deref(), Some("MIT"));
        assert_eq!(canonical("see COPYING"), None);
    }
}
