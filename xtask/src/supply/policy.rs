//! `deny.toml`: which licences, advisories, duplicates and registries are accepted.
//!
//! The format is that of `cargo deny`, of which the checks here know a part. A key outside that part is an error: otherwise
//! `cargo deny` and these checks would enforce different rules.

use std::{fs, path::Path};

use anyhow::{Context, Result};
use semver::VersionReq;
use serde::Deserialize;

/// The file, at the root of the workspace.
pub const PATH: &str = "deny.toml";

/// The whole file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Policy {
    #[expect(dead_code, reason = "read by `cargo deny` alone: the checks here always take all features")]
    graph: Graph,
    /// Which advisories are accepted.
    pub advisories: Advisories,
    /// Which licences are accepted.
    pub licenses: Licenses,
    /// Which duplicate versions are accepted.
    pub bans: Bans,
    /// Which registries are accepted.
    pub sources: Sources,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Graph {
    #[expect(dead_code, reason = "only its presence matters")]
    all_features: bool,
}

/// `[advisories]`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Advisories {
    /// Those that are accepted.
    pub ignore: Vec<Ignored>,
}

/// An advisory that is accepted.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ignored {
    /// `RUSTSEC-YYYY-NNNN`.
    pub id: String,
    #[expect(dead_code, reason = "for the reader of the file")]
    reason: String,
}

/// `[licenses]`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Licenses {
    /// SPDX identifiers.
    pub allow: Vec<String>,
    /// `cargo deny` leaves the crates of tests out unless this is set; the checks here never do.
    #[serde(default)]
    #[expect(dead_code, reason = "read by `cargo deny` alone")]
    include_dev: bool,
}

/// `[bans]`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Bans {
    /// `cargo deny` only warns unless this is `Deny`.
    #[serde(default)]
    #[expect(dead_code, reason = "read by `cargo deny` alone, and no other value parses")]
    multiple_versions: Deny,
    /// The same as in [`Licenses`].
    #[serde(default)]
    #[expect(dead_code, reason = "read by `cargo deny` alone")]
    multiple_versions_include_dev: bool,
    /// Versions that may stand beside another of the same crate.
    pub skip: Vec<Skipped>,
}

/// A version that may stand beside another of the same crate.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Skipped {
    /// Which.
    #[serde(rename = "crate")]
    pub spec: Spec,
    #[expect(dead_code, reason = "for the reader of the file")]
    reason: String,
}

/// `NAME@VERSION`: a crate, and which versions of it.
#[derive(Debug, Deserialize)]
#[serde(try_from = "String")]
pub struct Spec {
    /// The crate's name.
    pub name: String,
    /// The versions.
    pub versions: VersionReq,
    /// As it is written.
    pub text: String,
}

impl TryFrom<String> for Spec {
    type Error = anyhow::Error;

    fn try_from(text: String) -> Result<Self> {
        let (name, versions) = text.split_once('@').context("not of the form `NAME@VERSION`")?;
        // As `cargo deny` reads it: `syn@2` is every 2.x.y, `syn@2.0` every 2.0.x.
        let versions = format!("={versions}").parse().with_context(|| format!("the version of `{text}`"))?;
        Ok(Self { name: name.to_owned(), versions, text })
    }
}

/// `[sources]`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Sources {
    #[serde(default)]
    #[expect(dead_code, reason = "read by `cargo deny` alone, and no other value parses")]
    unknown_registry: Deny,
    #[serde(default)]
    #[expect(dead_code, reason = "read by `cargo deny` alone, and no other value parses")]
    unknown_git: Deny,
    /// The addresses of registries.
    pub allow_registry: Vec<String>,
}

/// The one level that the checks here know.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Deny {
    #[default]
    Deny,
}

impl Policy {
    /// Reads the file of the workspace at `root`.
    pub fn read(root: &Path) -> Result<Self> {
        let text = fs::read_to_string(root.join(PATH)).with_context(|| format!("cannot read `{PATH}`"))?;
        toml::from_str(&text).with_context(|| format!("cannot read `{PATH}`"))
    }
}

/// Parts of a policy, for the tests of the checks.
#[cfg(test)]
pub mod examples {
    use super::*;

    pub fn allow(licences: &[&str]) -> Licenses {
        let allow = licences.iter().map(ToString::to_string).collect();
        Licenses { allow, ..Licenses::default() }
    }

    pub fn ignore(id: &str) -> Advisories {
        Advisories { ignore: vec![Ignored { id: id.to_owned(), reason: String::new() }] }
    }

    pub fn skip(spec: &str) -> Bans {
        let skip = vec![Skipped { spec: spec.to_owned().try_into().unwrap(), reason: String::new() }];
        Bans { skip, ..Bans::default() }
    }

    pub fn registry(address: &str) -> Sources {
        Sources { allow_registry: vec![address.to_owned()], ..Sources::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINIMAL: &str = "[graph]\nall-features = true\n[advisories]\nignore = []\n[licenses]\nallow = [\"MIT\"]\n\
                           [bans]\nskip = []\n[sources]\nallow-registry = []\n";

    #[test]
    fn a_key_that_only_cargo_deny_knows_is_an_error() {
        toml::from_str::<Policy>(MINIMAL).unwrap();
        let error =
            toml::from_str::<Policy>(&MINIMAL.replace("[bans]", "[bans]\nskip-tree = []")).unwrap_err();
        assert!(error.to_string().contains("skip-tree"), "{error}");
    }

    #[test]
    fn a_level_that_lets_duplicates_pass_is_an_error() {
        let warn = MINIMAL.replace("[bans]", "[bans]\nmultiple-versions = \"warn\"");
        toml::from_str::<Policy>(&warn).unwrap_err();
    }

    #[test]
    fn an_exception_without_a_reason_is_an_error() {
        let bare = MINIMAL.replace("skip = []", "skip = [{ crate = \"syn@2\" }]");
        let error = toml::from_str::<Policy>(&bare).unwrap_err();
        assert!(error.to_string().contains("reason"), "{error}");
    }

    #[test]
    fn an_exception_for_all_versions_is_an_error() {
        let all = MINIMAL.replace("skip = []", "skip = [{ crate = \"syn\", reason = \"\" }]");
        toml::from_str::<Policy>(&all).unwrap_err();
    }
}
