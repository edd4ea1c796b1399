//! `cargo xtask dist`: tracer as one static binary, for every Linux machine of this architecture.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::PathBuf,
    process::{Command, ExitCode},
};

use anyhow::{Context, Result, bail};
use object::{
    Endianness,
    elf::PT_INTERP,
    read::elf::{ElfFile64, ProgramHeader as _},
};

use crate::{
    cargo::{Executable, build, cargo, executable, output, target_directory},
    digest,
    failure::Failure,
};

/// Builds the binary and prints where it is, how large, and its digest.
pub fn run() -> Result<ExitCode> {
    let path = tracer()?;
    let bytes = fs::read(&path).with_context(|| format!("cannot read `{}`", path.display()))?;
    println!("path    {}", path.display());
    println!("size    {} bytes", bytes.len());
    println!("sha256  {}", digest::of_bytes(&bytes));
    Ok(ExitCode::SUCCESS)
}

/// Builds tracer in release without a shared library, and gives the path of the copy to hand out.
pub fn tracer() -> Result<PathBuf> {
    let built = build_static("release", &["--package", "tracer", "--bin", "tracer"])?;
    let from = executable(&built, "tracer")?;
    let bytes = fs::read(&from).with_context(|| format!("cannot read `{}`", from.display()))?;
    if !is_static(&bytes)? {
        bail!("`{}` is not static: it asks for a dynamic loader", from.display());
    }
    let directory = target_directory()?.join("dist");
    let path = directory.join("tracer");
    fs::create_dir_all(&directory)
        .and_then(|()| fs::write(&path, bytes))
        .and_then(|()| fs::set_permissions(&path, fs::Permissions::from_mode(0o755)))
        .with_context(|| format!("cannot write `{}`", path.display()))?;
    Ok(path)
}

/// Builds static programs for this host, in a profile of the workspace.
pub fn build_static(profile: &str, what: &[&str]) -> Result<Vec<Executable>> {
    let target = host()?;
    let mut command = cargo();
    command.args(["build", "--locked", "--profile", profile, "--target", &target]).args(what);
    // With `--target`, flags reach neither build scripts nor procedural macros, which cannot be static.
    command.env("CARGO_ENCODED_RUSTFLAGS", "-Ctarget-feature=+crt-static");
    build(command)
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
