//! The directories of the machine that builds: messages of panics would otherwise name them in the binary.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};

use crate::cargo::{home, output, root, target_directory};

/// The compiler's arguments that replace each directory by a name that is the same everywhere. To be called when cargo has
/// unpacked the crates.
pub fn remapped() -> Result<Vec<String>> {
    let version = output(Command::new("rustc").arg("-vV"))?;
    let commit = version.lines().find_map(|line| line.strip_prefix("commit-hash: ")).unwrap_or("unknown");
    let sysroot = output(Command::new("rustc").args(["--print", "sysroot"]))?;
    let library = Path::new(&sysroot).join("lib/rustlib/src/rust");
    let home = home().context("neither `CARGO_HOME` nor `HOME` is set")?;
    // Of several that fit, the compiler takes the last: the target directory is often inside the workspace.
    let mut directories = vec![(root(), "/tracer".to_owned()), (target_directory()?, "/target".to_owned())];
    directories.extend(registries(&home).into_iter().map(|registry| (registry, "/crates".to_owned())));
    // Where the source is installed, messages name it, and otherwise what the release was built from.
    directories.push((library, format!("/rustc/{commit}")));
    Ok(directories.iter().map(|(from, to)| format!("--remap-path-prefix={}={to}", from.display())).collect())
}

/// Where cargo unpacks crates: a directory for each registry, whose name depends on the address that this machine reaches it
/// by.
fn registries(home: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(home.join("registry/src")).into_iter().flatten();
    let mut found: Vec<_> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    found.sort();
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_registry_of_a_machine_has_the_same_name() {
        let home = tempfile::tempdir().unwrap();
        assert_eq!(registries(home.path()), [""; 0].map(PathBuf::from));
        let sources = home.path().join("registry/src");
        for name in ["mirror-0123", "index-4567"] {
            fs::create_dir_all(sources.join(name)).unwrap();
        }
        assert_eq!(registries(home.path()), ["index-4567", "mirror-0123"].map(|name| sources.join(name)));
    }

    #[test]
    fn the_workspace_and_the_crates_have_names_of_their_own() {
        let flags = remapped().unwrap();
        let names = |path: &Path, name: &str| {
            let flag = format!("--remap-path-prefix={}={name}", path.display());
            assert!(flags.contains(&flag), "{flag}: {flags:?}");
        };
        names(&root(), "/tracer");
        for registry in registries(&home().unwrap()) {
            names(&registry, "/crates");
        }
    }
}
