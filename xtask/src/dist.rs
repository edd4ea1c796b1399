//! `cargo xtask dist`: tracer as one static binary, for every Linux machine of this architecture, with the list of what it
//! consists of, and an archive of both.
//!
//! The same commit, compiler and C library give the same files, bit for bit, in every directory: `--check` builds a second
//! time in another one, and compares.
//!
//! | file | what it does |
//! |---|---|
//! | `crates.rs` | which crates the binary consists of |
//! | `auditable.rs` | the list inside the binary, as `cargo auditable` writes it |
//! | `sbom.rs` | the list beside the binary, in CycloneDX's format |
//! | `archive.rs` | the archive |
//! | `paths.rs` | the build directories, which are kept out of the binary |
//! | `reproduce.rs` | `--check` |

mod archive;
mod auditable;
mod crates;
mod paths;
mod reproduce;
mod sbom;

use std::{
    env, fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

use anyhow::{Context, Result, bail, ensure};
use cargo_metadata::{Artifact, TargetKind};
use jiff::Timestamp;
use object::{
    Endianness,
    elf::PT_INTERP,
    read::elf::{ElfFile64, ProgramHeader as _},
};

use self::{archive::Member, crates::Crates, sbom::Toolchain};
use crate::{
    cargo::{Executable, artifacts, build, cargo, output, root, target_directory},
    digest,
    failure::Failure,
};

/// What reproducible builds take for the time: <https://reproducible-builds.org/specs/source-date-epoch/>.
const EPOCH: &str = "SOURCE_DATE_EPOCH";

/// What the archive has besides the binary and its list.
const DOCUMENTS: [&str; 4] = ["LICENSE-APACHE", "LICENSE-MIT", "README.md", "SECURITY.md"];

/// Builds all files and prints the digest, size and path of each. With `check`, builds them in another directory too, and
/// fails unless they are the same.
pub fn run(check: bool) -> Result<ExitCode> {
    let time = time()?;
    let files = all(time)?;
    if check {
        reproduce::check(&files, time)?;
    }
    for path in &files {
        let bytes = read(path)?;
        println!("{}  {:>9}  {}", digest::of_bytes(&bytes), bytes.len(), path.display());
    }
    Ok(ExitCode::SUCCESS)
}

/// Builds tracer in release without a shared library, and gives the path of the copy to hand out.
pub fn tracer() -> Result<PathBuf> {
    let target = host()?;
    binary(&target, &Crates::of(&target)?)
}

/// Builds static programs for this host, in a profile of the workspace.
pub fn build_static(profile: &str, what: &[&str]) -> Result<Vec<Executable>> {
    let target = host()?;
    let mut command = cargo();
    command.args(["build", "--locked", "--profile", profile, "--target", &target]).args(what);
    // With `--target`, flags reach neither build scripts nor procedural macros, which cannot be static.
    command.env("CARGO_ENCODED_RUSTFLAGS", STATIC);
    build(command)
}

const STATIC: &str = "-Ctarget-feature=+crt-static";

/// The binary, its list, and the archive.
fn all(time: Timestamp) -> Result<Vec<PathBuf>> {
    let target = host()?;
    let crates = Crates::of(&target)?;
    let tracer = binary(&target, &crates)?;
    let directory = directory()?;
    let bytes = read(&tracer)?;
    let bill = sbom::text(&crates, &Toolchain::of_host()?, &bytes, time)?;
    let list = directory.join("tracer.cdx.json");
    write(&list, bill.as_bytes())?;

    let mut members = vec![
        Member { name: "tracer".to_owned(), bytes, is_executable: true },
        Member { name: "tracer.cdx.json".to_owned(), bytes: bill.into_bytes(), is_executable: false },
    ];
    for name in DOCUMENTS {
        members.push(Member {
            name: name.to_owned(),
            bytes: read(&root().join(name))?,
            is_executable: false,
        });
    }
    let architecture = target.split('-').next().unwrap_or_default();
    let name = format!("tracer-{}-{architecture}-linux", crates.root().version);
    let path = directory.join(format!("{name}.tar.gz"));
    write(&path, &archive::pack(&name, members, time)?)?;
    Ok(vec![tracer, list, path])
}

/// Builds the binary, and checks that it is static and consists of no other crates than `crates` lists.
fn binary(target: &str, crates: &Crates) -> Result<PathBuf> {
    let list = auditable::compressed(crates)?;
    let mut command = cargo();
    command.args(["rustc", "--locked", "--profile", "release", "--target", target]);
    command.args(["--package", "tracer", "--bin", "tracer"]);
    let flags: Vec<_> = [STATIC.to_owned()].into_iter().chain(paths::remapped()?).collect();
    command.env("CARGO_ENCODED_RUSTFLAGS", flags.join("\x1f"));
    // For the last step alone: another list links again and compiles no crate.
    let link = auditable::link_arguments(&list, &target_directory()?.join("auditable"))?;
    let built = artifacts(command, &link)?;

    let unlisted =
        built.iter().find(|artifact| is_linked(artifact, target) && !crates.has(&artifact.package_id));
    if let Some(artifact) = unlisted {
        bail!("`{}` is compiled into tracer, and `cargo tree` does not list it", artifact.package_id);
    }
    let from =
        built.into_iter().find_map(|artifact| artifact.executable).context("cargo named no executable")?;
    let bytes = read(from.as_std_path())?;
    ensure!(is_static(&bytes)?, "`{from}` is not static: it asks for a dynamic loader");
    ensure!(auditable::read(&bytes)? == auditable::list(crates)?, "`{from}` has another list of crates");
    let path = directory()?.join("tracer");
    write(&path, &bytes)?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755))
        .with_context(|| format!("cannot write `{}`", path.display()))?;
    Ok(path)
}

/// Whether it is a library for the target: neither a build script nor a procedural macro, which run on the host.
fn is_linked(artifact: &Artifact, target: &str) -> bool {
    let is_library =
        artifact.target.kind.iter().any(|kind| matches!(kind, TargetKind::Lib | TargetKind::RLib));
    is_library
        && artifact
            .filenames
            .iter()
            .any(|file| file.components().any(|directory| directory.as_str() == target))
}

/// Where the files are written.
fn directory() -> Result<PathBuf> {
    Ok(target_directory()?.join("dist"))
}

/// The time that the files carry: that of the commit, unless the environment sets another.
fn time() -> Result<Timestamp> {
    let seconds = match env::var(EPOCH) {
        Ok(seconds) => seconds,
        Err(_) => output(Command::new("git").current_dir(root()).args(["log", "-1", "--format=%ct"]))
            .with_context(|| format!("the time of the sources is not known: set `{EPOCH}`"))?,
    };
    let seconds = seconds.parse().with_context(|| format!("`{EPOCH}` is `{seconds}`"))?;
    Timestamp::from_second(seconds).with_context(|| format!("`{EPOCH}`"))
}

/// The target of this host, whose C library must be one that can be linked statically.
fn host() -> Result<String> {
    let version = output(Command::new("rustc").arg("-vV"))?;
    let host =
        version.lines().find_map(|line| line.strip_prefix("host: ")).context("`rustc -vV` names no host")?;
    if !host.ends_with("-linux-gnu") {
        let what = format!("`{host}` is not a target that a static binary is built for here");
        return Err(Failure::unable(what, "build on Linux with glibc, as Debian has it").into());
    }
    Ok(host.to_owned())
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("cannot read `{}`", path.display()))
}

fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    let directory = path.parent().unwrap_or(path);
    fs::create_dir_all(directory)
        .and_then(|()| fs::write(path, bytes))
        .with_context(|| format!("cannot write `{}`", path.display()))
}

/// Whether an ELF file asks for no dynamic loader, which is what would bring in shared libraries: no program
/// header is a `PT_INTERP` (elf(5)).
pub fn is_static(elf: &[u8]) -> Result<bool> {
    let file = ElfFile64::<Endianness>::parse(elf).context("not an ELF file of 64 bits")?;
    let endian = file.endian();
    Ok(!file.elf_program_headers().iter().any(|header| header.p_type(endian) == PT_INTERP))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_with_a_dynamic_loader_is_not_static() {
        let this = fs::read(std::env::current_exe().unwrap()).unwrap();
        assert_eq!(is_static(&this).unwrap(), cfg!(target_feature = "crt-static"));
    }

    #[test]
    fn a_file_that_is_not_a_program_is_an_error() {
        is_static(b"#!/bin/sh\n").unwrap_err();
    }
}
