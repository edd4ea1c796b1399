//! The checked-in copy of the RustSec advisories that name crates of `Cargo.lock`.
//!
//! It is a copy because CI may not reach the repository of the advisories, and because the same commit must give the same
//! result tomorrow. It lists the crates it was taken for, so that one that is added later is noticed.

use std::{collections::BTreeSet, fmt, fs, path::Path, process::Command};

use anyhow::{Context, Result};
use jiff::civil::Date;
use semver::VersionReq;
use serde::{Deserialize, Serialize};

use super::packages::Package;
use crate::cargo::output;

/// Where it is in the workspace.
pub const PATH: &str = "xtask/advisories.json";

/// The advisories as they were on a day.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Snapshot {
    /// The day of the commit.
    date: String,
    /// The commit of advisory-db.
    commit: String,
    /// The crates whose advisories it has, with and without any.
    crates: BTreeSet<String>,
    /// By crate, then by date.
    advisories: Vec<Advisory>,
}

/// An advisory: what RustSec publishes of it, less its text.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Advisory {
    /// `RUSTSEC-YYYY-NNNN`.
    pub id: String,
    package: String,
    title: String,
    date: String,
    /// `unsound`, `unmaintained` or `notice`, where it is not a vulnerability.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    informational: Option<String>,
    /// Where it is not in the public domain; `url` is then its origin.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    license: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    url: Option<String>,
    patched: Vec<VersionReq>,
    unaffected: Vec<VersionReq>,
}

impl fmt::Display for Advisory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.id, self.title)?;
        if let Some(kind) = &self.informational {
            write!(f, ", {kind}")?;
        }
        let patched: Vec<_> = self.patched.iter().map(ToString::to_string).collect();
        match &patched[..] {
            [] => write!(f, " (no version is patched)"),
            _ => write!(f, " (patched: {})", patched.join(" or ")),
        }
    }
}

/// The head of a file of advisory-db: TOML between fences, before the text.
#[derive(Deserialize)]
struct Head {
    advisory: Described,
    versions: Versions,
}

#[derive(Deserialize)]
struct Described {
    id: String,
    package: String,
    date: String,
    informational: Option<String>,
    license: Option<String>,
    url: Option<String>,
    withdrawn: Option<String>,
}

#[derive(Deserialize)]
struct Versions {
    patched: Vec<VersionReq>,
    #[serde(default)]
    unaffected: Vec<VersionReq>,
}

impl Snapshot {
    /// Reads the checked-in one.
    pub fn read(root: &Path) -> Result<Self> {
        let text = fs::read_to_string(root.join(PATH)).with_context(|| format!("cannot read `{PATH}`"))?;
        serde_json::from_str(&text).with_context(|| format!("cannot read `{PATH}`"))
    }

    /// Writes it in place of the checked-in one.
    pub fn write(&self, root: &Path) -> Result<()> {
        let text = serde_json::to_string_pretty(self).context("cannot write JSON")?;
        fs::write(root.join(PATH), text + "\n").with_context(|| format!("cannot write `{PATH}`"))
    }

    /// Takes it from the commit that is checked out in a git repository of advisory-db, which may be a bare one.
    pub fn take(database: &Path, packages: &[Package]) -> Result<Self> {
        let git = |args: &[&str]| output(Command::new("git").arg("-C").arg(database).args(args));
        let head = git(&["log", "-1", "--format=%H %cs"])?;
        let (commit, date) = head.split_once(' ').context("git printed no commit")?;
        let crates: BTreeSet<_> = packages.iter().map(|package| package.name.clone()).collect();
        let mut advisories = Vec::new();
        for path in git(&["ls-tree", "-r", "--name-only", "HEAD", "crates/"])?.lines() {
            if path.split('/').nth(1).is_some_and(|name| crates.contains(name)) {
                let text = git(&["show", &format!("HEAD:{path}")])?;
                advisories.extend(parse(&text).with_context(|| format!("cannot read `{path}`"))?);
            }
        }
        advisories.sort_by(|one, other| (&one.package, &one.id).cmp(&(&other.package, &other.id)));
        Ok(Self { date: date.to_owned(), commit: commit.to_owned(), crates, advisories })
    }

    /// The day it was taken.
    pub fn date(&self) -> Result<Date> {
        self.date.parse().with_context(|| format!("`{}` is not a date", self.date))
    }

    /// Whether it has the advisories of this crate.
    pub fn covers(&self, package: &Package) -> bool {
        package.source.is_none() || self.crates.contains(&package.name)
    }

    /// The advisories that affect this version of this crate.
    pub fn affecting(&self, package: &Package) -> impl Iterator<Item = &Advisory> {
        self.advisories.iter().filter(|advisory| {
            let is_among = |versions: &[VersionReq]| versions.iter().any(|one| one.matches(&package.version));
            // An advisory is about crates.io: a crate of the workspace only shares the name.
            package.source.is_some()
                && advisory.package == package.name
                && !is_among(&advisory.patched)
                && !is_among(&advisory.unaffected)
        })
    }

    /// What it holds, for a person.
    pub fn summary(&self) -> String {
        format!("{} advisories for {} crates, of {}", self.advisories.len(), self.crates.len(), self.date)
    }
}

/// One file of advisory-db; none where the advisory was withdrawn.
fn parse(text: &str) -> Result<Option<Advisory>> {
    let fenced = text.trim_start().strip_prefix("```toml").and_then(|rest| rest.split_once("```"));
    let (head, text) = fenced.context("no TOML between fences")?;
    let Head { advisory, versions } = toml::from_str(head)?;
    if advisory.withdrawn.is_some() {
        return Ok(None);
    }
    let title = text.lines().find_map(|line| line.strip_prefix("# ")).context("no title")?;
    Ok(Some(Advisory {
        id: advisory.id,
        package: advisory.package,
        title: title.trim().to_owned(),
        date: advisory.date,
        informational: advisory.informational,
        url: advisory.url.filter(|_| advisory.license.is_some()),
        license: advisory.license,
        patched: versions.patched,
        unaffected: versions.unaffected,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "```toml
[advisory]
id = \"RUSTSEC-2026-0001\"
package = \"one\"
date = \"2026-01-01\"
url = \"https://example.org/1\"
informational = \"unsound\"

[affected.functions]
\"one::read\" = [\"< 1.2.3\"]

[versions]
patched = [\"^1.1.4\", \">= 1.2.3\"]
```

# Reads too far

Text.
";

    #[test]
    fn a_file_of_the_database_is_read() {
        let advisory = parse(FILE).unwrap().unwrap();
        assert_eq!(
            advisory.to_string(),
            "RUSTSEC-2026-0001: Reads too far, unsound (patched: ^1.1.4 or >=1.2.3)"
        );
        assert_eq!(advisory.url, None);
    }

    #[test]
    fn one_of_another_licence_keeps_its_origin() {
        let imported = FILE.replace("informational =", "license = \"CC-BY-4.0\"\ninformational =");
        let advisory = parse(&imported).unwrap().unwrap();
        assert_eq!(advisory.url.as_deref(), Some("https://example.org/1"));
    }

    #[test]
    fn one_that_was_withdrawn_is_left_out() {
        let withdrawn = FILE.replace("informational =", "withdrawn = \"2026-02-02\"\ninformational =");
        assert!(parse(&withdrawn).unwrap().is_none());
    }

    #[test]
    fn a_file_without_a_head_is_an_error() {
        parse("# Title\n").unwrap_err();
    }
}
