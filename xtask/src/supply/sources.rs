//! Every crate comes from the workspace, or from a registry that `deny.toml` allows.

use super::{Findings, packages::Package, policy::Sources};

/// Checks where each crate comes from.
pub fn check(packages: &[Package], policy: &Sources) -> Findings {
    let mut findings = Findings::default();
    for package in packages {
        let Some(source) = &package.source else { continue };
        let registry = source.strip_prefix("registry+").or_else(|| source.strip_prefix("sparse+"));
        if !registry.is_some_and(|registry| policy.allow_registry.iter().any(|allowed| allowed == registry)) {
            findings
                .problems
                .push(format!("{package} comes from `{source}`, which deny.toml does not allow"));
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::supply::{packages::example, policy::examples};

    fn problems(source: Option<&str>) -> Vec<String> {
        let source = source.map(str::to_owned);
        let package = Package { source, ..example("one", "1.0.0", None) };
        check(&[package], &examples::registry("https://github.com/rust-lang/crates.io-index")).problems
    }

    #[test]
    fn the_workspace_and_an_allowed_registry_pass() {
        assert_eq!(problems(None), [""; 0]);
        assert_eq!(problems(Some("registry+https://github.com/rust-lang/crates.io-index")), [""; 0]);
    }

    #[test]
    fn another_registry_and_a_git_repository_are_problems() {
        assert_eq!(problems(Some("registry+https://example.org/index")).len(), 1);
        assert_eq!(problems(Some("git+https://example.org/one#0123")).len(), 1);
    }
}
