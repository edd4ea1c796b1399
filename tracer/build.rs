//! Stops the build when the checked-in eBPF object is not what the eBPF sources would give, and tells
//! the crate where the object is.

use std::{env, fs, path::Path};

#[path = "../xtask/src/digest.rs"]
mod digest;

fn main() {
    let manifest = env::var("CARGO_MANIFEST_DIR").expect("cargo sets `CARGO_MANIFEST_DIR`");
    let root = Path::new(&manifest).parent().expect("the crate is a folder of the workspace");
    for input in [digest::OBJECT, digest::SIDECAR, digest::SOURCES, digest::MANIFEST, digest::LOCK] {
        println!("cargo::rerun-if-changed={}", root.join(input).display());
    }
    // Read by `include_bytes_aligned!(env!("TRACER_EBPF_OBJECT"))`.
    println!("cargo::rustc-env=TRACER_EBPF_OBJECT={}", root.join(digest::OBJECT).display());
    if let Err(error) = little_endian().and_then(|()| up_to_date(root)) {
        for line in error.lines().filter(|line| !line.is_empty()) {
            println!("cargo::error={line}");
        }
    }
}

/// The programs are compiled for little-endian machines only.
fn little_endian() -> Result<(), String> {
    let target = env::var("TARGET").unwrap_or_default();
    match env::var("CARGO_CFG_TARGET_ENDIAN").as_deref() {
        Ok("little") => Ok(()),
        _ => Err(format!(
            "target `{target}` is big-endian: tracer's eBPF object is for little-endian machines"
        )),
    }
}

/// The object is there, is the one recorded, and was built from the sources as they are.
fn up_to_date(root: &Path) -> Result<(), String> {
    let read = |file: &str| {
        fs::read(root.join(file)).map_err(|error| format!("cannot read `{file}`: {error}{CURE}"))
    };
    let object = read(digest::OBJECT)?;
    let sidecar = read(digest::SIDECAR)?;
    let sidecar = String::from_utf8_lossy(&sidecar);
    let sources = digest::of_sources(root).map_err(|error| error.to_string())?;
    if digest::recorded(&sidecar, "sources") != Some(sources.as_str()) {
        return Err(format!("the eBPF sources changed since `{}` was built from them{CURE}", digest::OBJECT));
    }
    if digest::recorded(&sidecar, "object") != Some(digest::of_bytes(&object).as_str()) {
        return Err(format!(
            "`{}` is not the object that `{}` records{CURE}",
            digest::OBJECT,
            digest::SIDECAR
        ));
    }
    Ok(())
}

const CURE: &str = "\n\nhint: run `cargo xtask build-ebpf` (`cargo xtask setup` installs what it needs)";
