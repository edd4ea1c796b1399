//! The list of crates inside the binary: the section `.dep-v0`, which `cargo audit bin`, Trivy, Grype and others read.
//!
//! `cargo auditable` would write the same. It has to be compiled first, on every machine, and lists no crates of the kernel
//! side; the assembler, which every Rust toolchain for this target needs to link, is there already.

use std::{fs, path::Path, process::Command};

use anyhow::{Context, Result};
use auditable_serde::{DependencyKind, Package, Source, VersionInfo};
use flate2::{Compression, write::ZlibEncoder};

use super::crates::{Crates, Kind};
use crate::{cargo::succeed, digest};

/// The symbol that keeps the section in the binary: the linker drops what nothing names.
const SYMBOL: &str = "AUDITABLE_VERSION_INFO";

/// Bytes of JSON that a list may have when it is read: ours has some 20 thousand.
const LONGEST: usize = 1024 * 1024;

/// The list, in the form of the section.
pub fn list(crates: &Crates) -> Result<VersionInfo> {
    let packages = crates.all.iter().map(|one| Package {
        name: one.name.clone(),
        version: one.version.clone(),
        source: if one.is_from_registry() { Source::CratesIo } else { Source::Local },
        kind: match one.kind {
            Kind::Runtime => DependencyKind::Runtime,
            Kind::Build => DependencyKind::Build,
        },
        dependencies: one.dependencies.clone(),
        root: crates.is_root(one),
    });
    // Through JSON, as a reader gets it: that puts the packages into the order of the format.
    let list = VersionInfo { packages: packages.collect(), format: 0 };
    serde_json::from_str(&serde_json::to_string(&list)?).context("the list of crates is not valid")
}

/// The list, as the section holds it.
pub fn compressed(crates: &Crates) -> Result<Vec<u8>> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::best());
    serde_json::to_writer(&mut encoder, &list(crates)?)?;
    encoder.finish().context("cannot compress the list of crates")
}

/// The list of a binary.
pub fn read(elf: &[u8]) -> Result<VersionInfo> {
    auditable_info::audit_info_from_slice(elf, LONGEST).context("no list of crates in the binary")
}

/// Assembles an object that has the section, and gives the compiler's arguments that link it.
pub fn link_arguments(compressed: &[u8], directory: &Path) -> Result<Vec<String>> {
    // By digest, so that cargo links again when the list has changed.
    let name = digest::of_bytes(compressed);
    let file = |extension: &str| directory.join(&name).with_extension(extension);
    // The last section leaves the stack of the binary not executable.
    let source = format!(
        ".section .dep-v0,\"a\"\n.globl {SYMBOL}\n{SYMBOL}:\n.incbin \"{name}.z\"\n.section .note.GNU-stack,\"\"\n"
    );
    fs::create_dir_all(directory)
        .and_then(|()| fs::write(file("z"), compressed))
        .and_then(|()| fs::write(file("s"), source))
        .with_context(|| format!("cannot write into `{}`", directory.display()))?;
    let mut assembler = Command::new("cc");
    assembler.current_dir(directory).arg("-c").arg(file("s")).arg("-o").arg(file("o"));
    succeed(&mut assembler)?;
    Ok(vec![format!("-Clink-arg={}", file("o").display()), format!("-Clink-arg=-Wl,-u,{SYMBOL}")])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cargo::succeed;

    #[test]
    fn a_program_that_is_linked_with_the_list_has_it() {
        let crates = Crates::of("x86_64-unknown-linux-gnu").unwrap();
        let directory = tempfile::tempdir().unwrap();
        let source = directory.path().join("program.rs");
        let program = directory.path().join("program");
        fs::write(&source, "fn main() {}").unwrap();
        let arguments = link_arguments(&compressed(&crates).unwrap(), directory.path()).unwrap();
        // As the release profile: without what nothing names, and stripped.
        let mut rustc = Command::new("rustc");
        rustc.args(["--edition=2024", "-Copt-level=1", "-Cstrip=symbols"]).args(arguments);
        succeed(rustc.arg(&source).arg("-o").arg(&program)).unwrap();

        let found = read(&fs::read(&program).unwrap()).unwrap();
        assert_eq!(found, list(&crates).unwrap());
        let names: Vec<_> = found.packages.iter().map(|package| package.name.as_str()).collect();
        for one in &crates.all {
            assert!(names.contains(&one.name.as_str()), "{}", one.name);
        }
        let root: Vec<_> = found.packages.iter().filter(|package| package.root).collect();
        assert_eq!(root.iter().map(|package| package.name.as_str()).collect::<Vec<_>>(), ["tracer"]);
    }

    #[test]
    fn a_program_without_the_list_is_an_error() {
        read(&fs::read("/proc/self/exe").unwrap()).unwrap_err();
    }
}
