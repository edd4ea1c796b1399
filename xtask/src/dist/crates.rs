//! Which crates the binary consists of, and which took part in building it.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
};

use anyhow::{Context, Result};
use cargo_metadata::{DependencyKind, Metadata, MetadataCommand, PackageId};
use semver::Version;
use serde::Deserialize;

use crate::cargo::{cargo, output, root};

/// The target of the kernel side, whose object the binary contains.
const KERNEL: &str = "bpfel-unknown-none";

/// How a crate takes part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Its code is in the binary, or in the kernel programs that the binary contains.
    Runtime,
    /// A build script, a procedural macro, or what these consist of: it ran on the machine that built the binary.
    Build,
}

/// A crate.
#[derive(Debug)]
pub struct Crate {
    id: PackageId,
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: Version,
    /// How it takes part.
    pub kind: Kind,
    /// The licence, as its manifest has it.
    pub licence: Option<String>,
    /// The repository that its manifest names.
    pub repository: Option<String>,
    /// SHA-256 of the package, from `Cargo.lock`; none for a crate of the workspace.
    pub checksum: Option<String>,
    /// Those it depends on, by their place in the list.
    pub dependencies: Vec<usize>,
}

impl Crate {
    /// Whether it comes from a registry, and not from the workspace.
    pub fn is_from_registry(&self) -> bool {
        self.checksum.is_some()
    }
}

/// All crates, by name and version.
#[derive(Debug)]
pub struct Crates {
    /// In order.
    pub all: Vec<Crate>,
    root: usize,
}

impl Crates {
    /// Those of tracer for a target.
    pub fn of(target: &str) -> Result<Self> {
        let runtime = [
            tree("tracer", target, "normal,no-proc-macro")?,
            tree("tracer-ebpf", KERNEL, "normal,no-proc-macro")?,
        ];
        let every = [tree("tracer", target, "normal,build")?, tree("tracer-ebpf", KERNEL, "normal,build")?];
        let platforms = [target, KERNEL].map(|platform| format!("--filter-platform={platform}"));
        let mut command = MetadataCommand::new();
        command
            .current_dir(root())
            .other_options(["--locked".to_owned()].into_iter().chain(platforms).collect::<Vec<_>>());
        let metadata = command.exec().context("`cargo metadata` failed")?;
        Self::select(&metadata, &runtime.concat(), &every.concat(), &checksums()?)
    }

    fn select(
        metadata: &Metadata,
        runtime: &[Key],
        every: &[Key],
        checksums: &BTreeMap<Key, String>,
    ) -> Result<Self> {
        let runtime: BTreeSet<_> = runtime.iter().collect();
        let mut packages = BTreeMap::new();
        for package in &metadata.packages {
            packages.insert((package.name.to_string(), package.version.clone()), package);
        }
        let mut all = Vec::new();
        for key in every.iter().chain(runtime.iter().copied()).collect::<BTreeSet<_>>() {
            let package =
                packages.get(key).with_context(|| format!("`cargo metadata` does not list `{}`", key.0))?;
            all.push(Crate {
                id: package.id.clone(),
                name: key.0.clone(),
                version: key.1.clone(),
                kind: if runtime.contains(key) { Kind::Runtime } else { Kind::Build },
                licence: package.license.clone(),
                repository: package.repository.clone(),
                checksum: checksums.get(key).cloned(),
                dependencies: Vec::new(),
            });
        }
        let places: BTreeMap<_, _> =
            all.iter().enumerate().map(|(place, one)| (one.id.clone(), place)).collect();
        let nodes = metadata.resolve.as_ref().context("`cargo metadata` resolved nothing")?;
        for node in &nodes.nodes {
            let Some(&place) = places.get(&node.id) else { continue };
            let is_of_a_test = |kind: &DependencyKind| *kind == DependencyKind::Development;
            let mut dependencies: Vec<_> = node
                .deps
                .iter()
                .filter(|dependency| !dependency.dep_kinds.iter().all(|info| is_of_a_test(&info.kind)))
                .filter_map(|dependency| places.get(&dependency.pkg).copied())
                .collect();
            dependencies.sort_unstable();
            dependencies.dedup();
            all[place].dependencies = dependencies;
        }
        let root =
            all.iter().position(|one| one.name == "tracer").context("`tracer` is not among its crates")?;
        Ok(Self { all, root })
    }

    /// tracer itself.
    pub fn root(&self) -> &Crate {
        &self.all[self.root]
    }

    /// Whether this is tracer itself.
    pub fn is_root(&self, one: &Crate) -> bool {
        one.id == self.root().id
    }

    /// Whether this crate's code is listed as part of the binary.
    pub fn has(&self, id: &PackageId) -> bool {
        self.all.iter().any(|one| one.id == *id && one.kind == Kind::Runtime)
    }
}

/// A crate's name and version.
type Key = (String, Version);

/// What a package depends on, itself included, with the features that it is built with when it is built alone.
/// `cargo metadata` has only those of the whole workspace, tests included.
fn tree(package: &str, target: &str, edges: &str) -> Result<Vec<Key>> {
    let mut command = cargo();
    command.args(["tree", "--locked", "--package", package, "--target", target, "--edges", edges]);
    command.args(["--prefix", "none", "--no-dedupe", "--format", "{p}"]);
    output(&mut command)?.lines().map(key).collect()
}

/// `NAME vVERSION`, and perhaps more behind it.
fn key(line: &str) -> Result<Key> {
    let mut words = line.split(' ');
    let name = words.next().unwrap_or_default();
    let version = words.next().and_then(|word| word.strip_prefix('v')).and_then(|word| word.parse().ok());
    Ok((name.to_owned(), version.with_context(|| format!("`cargo tree` printed `{line}`"))?))
}

#[derive(Deserialize)]
struct Lock {
    package: Vec<Locked>,
}

#[derive(Deserialize)]
struct Locked {
    name: String,
    version: Version,
    checksum: Option<String>,
}

/// The digests of `Cargo.lock`.
fn checksums() -> Result<BTreeMap<Key, String>> {
    let text = fs::read_to_string(root().join("Cargo.lock")).context("cannot read `Cargo.lock`")?;
    let lock: Lock = toml::from_str(&text).context("cannot read `Cargo.lock`")?;
    let entry = |one: Locked| Some(((one.name, one.version), one.checksum?));
    Ok(lock.package.into_iter().filter_map(entry).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn crates() -> Crates {
        Crates::of("x86_64-unknown-linux-gnu").unwrap()
    }

    fn kind(crates: &Crates, name: &str) -> Option<Kind> {
        crates.all.iter().find(|one| one.name == name).map(|one| one.kind)
    }

    #[test]
    fn what_is_linked_what_ran_and_what_only_tests_use_are_told_apart() {
        let crates = crates();
        assert_eq!(kind(&crates, "serde"), Some(Kind::Runtime));
        assert_eq!(kind(&crates, "serde_derive"), Some(Kind::Build));
        assert_eq!(kind(&crates, "sha2"), Some(Kind::Build));
        assert_eq!(kind(&crates, "proptest"), None);
    }

    #[test]
    fn the_kernel_side_is_part_of_the_binary() {
        assert_eq!(kind(&crates(), "aya-ebpf"), Some(Kind::Runtime));
    }

    #[test]
    fn the_root_depends_on_what_its_manifest_names() {
        let crates = crates();
        let names: Vec<_> =
            crates.root().dependencies.iter().map(|&place| crates.all[place].name.as_str()).collect();
        assert!(names.contains(&"aya"), "{names:?}");
        assert!(names.contains(&"tracer-ebpf"), "{names:?}");
        assert!(!names.contains(&"proptest"), "{names:?}");
    }

    #[test]
    fn every_crate_but_those_of_the_workspace_has_a_digest() {
        let local: Vec<_> = crates().all.into_iter().filter(|one| !one.is_from_registry()).collect();
        assert_eq!(local.iter().map(|one| one.name.as_str()).collect::<Vec<_>>(), ["tracer", "tracer-ebpf"]);
    }

    #[test]
    fn a_line_of_the_tree_is_read() {
        let (name, version) = key("serde_derive v1.0.229 (proc-macro)").unwrap();
        assert_eq!((name.as_str(), version.to_string().as_str()), ("serde_derive", "1.0.229"));
        key("serde").unwrap_err();
    }
}
