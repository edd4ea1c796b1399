//! The crates of `Cargo.lock`.

use std::fmt;

use anyhow::{Context, Result};
use cargo_metadata::MetadataCommand;
use semver::Version;

use crate::cargo::root;

/// A crate of `Cargo.lock`: of every platform, and of tests and build scripts too.
#[derive(Clone, Debug)]
pub struct Package {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: Version,
    /// The licence that its manifest names, as it is written there.
    pub licence: Option<String>,
    /// The registry or repository it comes from; none for a crate of the workspace.
    pub source: Option<String>,
}

impl fmt::Display for Package {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{} {}`", self.name, self.version)
    }
}

/// All crates of the workspace's `Cargo.lock`, by name and version.
pub fn locked() -> Result<Vec<Package>> {
    let mut command = MetadataCommand::new();
    command.current_dir(root()).other_options(["--locked".to_owned()]);
    let metadata = command.exec().context("`cargo metadata` failed")?;
    let mut packages: Vec<_> = metadata
        .packages
        .into_iter()
        .map(|package| Package {
            name: package.name.to_string(),
            version: package.version,
            licence: package.license,
            source: package.source.map(|source| source.repr),
        })
        .collect();
    packages.sort_by(|one, other| (&one.name, &one.version).cmp(&(&other.name, &other.version)));
    Ok(packages)
}

/// A crate of crates.io, for tests.
#[cfg(test)]
pub fn example(name: &str, version: &str, licence: Option<&str>) -> Package {
    Package {
        name: name.to_owned(),
        version: version.parse().unwrap(),
        licence: licence.map(str::to_owned),
        source: Some("registry+https://github.com/rust-lang/crates.io-index".to_owned()),
    }
}
