//! Debian's programs for a guest whose first process is systemd, as an archive that the kernel unpacks.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};

use super::{
    archive::{Archive, Cache, extract},
    root::Root,
};
use crate::{
    cargo::{output, succeed},
    digest,
};

/// The release that they are of, its security updates included (apt_preferences(5)).
const RELEASE: &str = "APT::Default-Release=/^trixie(-security)?$/";

/// What the tests call; what these depend on comes with them.
const PACKAGES: [&str; 5] = ["systemd", "coreutils", "dash", "iproute2", "util-linux"];

/// What a guest has no use for: documentation, and what Debian's systemd starts at each boot.
const UNUSED: [&str; 10] = [
    "usr/include",
    "usr/lib/systemd/system-generators",
    "usr/lib/x86_64-linux-gnu/gconv",
    "usr/share/bash-completion",
    "usr/share/doc",
    "usr/share/i18n",
    "usr/share/locale",
    "usr/share/man",
    "usr/share/perl5",
    "usr/share/zsh",
];

/// The archive of the newest versions: from the cache, or from Debian's archive.
pub fn newest(cache: &Cache) -> Result<PathBuf> {
    let path = |version: &str| cache.path("userlands").join(version);
    // An archive that other code has packed does not count.
    let recipe = digest::of_bytes(include_bytes!("userland.rs"));
    let is_there = |version: &str| version.ends_with(&recipe) && path(version).exists();
    let version = cache.newest("userland", is_there, |archive| {
        let version = format!("{}-{recipe}", packages(archive)?);
        if !path(&version).exists() {
            eprintln!("vm: fetching systemd and the programs of its guest");
            pack(&path(&version), archive, cache)?;
        }
        Ok(version)
    })?;
    Ok(path(&version))
}

/// Resolves the packages and what they depend on, as on a host that has none.
fn install(archive: &Archive) -> Command {
    let mut command = archive.apt("apt-get");
    command.args(["-o", RELEASE, "-o", "APT::Install-Recommends=false"]);
    // Nothing is installed, and the host's dpkg is not to be waited for.
    command.args(["-o", "Debug::NoLocking=true", "--yes", "-qq", "install"]);
    command.args(PACKAGES);
    command
}

/// A digest of the newest versions of all packages.
fn packages(archive: &Archive) -> Result<String> {
    let packages = output(install(archive).arg("--print-uris"))?;
    // Each line is `'ADDRESS' FILE SIZE HASH`, and the file's name has its version.
    let mut files: Vec<_> = packages.lines().filter_map(|line| line.split(' ').nth(1)).collect();
    files.sort_unstable();
    Ok(digest::of_bytes(files.join("\n").as_bytes()))
}

/// Downloads the packages and packs what they hold.
fn pack(path: &Path, archive: &Archive, cache: &Cache) -> Result<()> {
    let scratch = cache.scratch()?;
    let packages = scratch.join("packages");
    let partial = packages.join("partial");
    fs::create_dir_all(&partial).with_context(|| format!("cannot make `{}`", partial.display()))?;
    let place = format!("Dir::Cache::archives={}", packages.display());
    succeed(install(archive).args(["-o", &place, "--download-only"]))?;
    let root = Root::new(scratch.join("root"))?;
    extract(&packages, &root.path("/"))?;
    complete(&root)?;
    let ready = scratch.join("ready");
    root.pack(&ready)?;
    fs::create_dir_all(path.parent().unwrap_or(path))
        .and_then(|()| fs::rename(&ready, path))
        .and_then(|()| fs::remove_dir_all(&scratch))
        .with_context(|| format!("cannot keep `{}`", path.display()))
}

/// Makes the links that the package `base-files` brings, and removes what a guest has no use for.
fn complete(root: &Root) -> Result<()> {
    for unused in UNUSED {
        root.remove(unused)?;
    }
    // Units that others want are started at each boot.
    let units = root.path("usr/lib/systemd/system");
    let unreadable = || format!("cannot read `{}`", units.display());
    for unit in fs::read_dir(&units).with_context(unreadable)? {
        let unit = unit.with_context(unreadable)?.path();
        if unit.extension().is_some_and(|extension| extension == "wants") {
            fs::remove_dir_all(&unit).with_context(|| format!("cannot remove `{}`", unit.display()))?;
        }
    }
    for directory in ["bin", "lib", "lib64", "sbin"] {
        root.make(format!("usr/{directory}"))?;
        root.link(directory, &format!("usr/{directory}"))?;
    }
    Ok(())
}
