//! `cargo xtask build-ebpf`: the kernel side, built the same bit for bit wherever it is built.
//!
//! rustc has the target `bpfel-unknown-none` but no `core` compiled for it, so the compiler's own
//! source is needed (`-Z build-std`): rustup's `rust-src`, or Debian's `rustc-web` with `rust-web-src`.
//! The linker, `bpf-linker`, reads LLVM bitcode and must come with the compiler's LLVM.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

use anyhow::{Context, Result, bail};

use crate::{
    cargo::{cargo, find, home, output, root, succeed},
    digest::{self, OBJECT, SIDECAR},
    failure::Failure,
};

/// The LLVM that compiler and linker share.
pub const LLVM: u32 = 22;

const TARGET: &str = "bpfel-unknown-none";
const REMEDY: &str = "`cargo xtask setup` installs what is missing";

/// A rustc that has its own source at hand.
pub struct Compiler {
    rustc: PathBuf,
    /// As `rustc --version` prints it.
    version: String,
    /// The root of the compiler's source.
    source: PathBuf,
}

/// A `bpf-linker`.
pub struct Linker {
    path: PathBuf,
    /// Its version and that of its LLVM.
    version: String,
}

/// Builds the object and installs it with its record.
pub fn install() -> Result<ExitCode> {
    let root = root();
    let sidecar = fs::read_to_string(root.join(SIDECAR)).unwrap_or_default();
    let (compiler, linker) = toolchain(&sidecar)?;
    let built = build(&root, &compiler, &linker)?;
    // After the build: a lock file that was behind its manifest would be refused by now.
    let record = format!(
        "# Written by `cargo xtask build-ebpf`: what tracer.bpf.o was built from, and by.\n\
         sources = \"{}\"\nobject = \"{}\"\nrustc = \"{}\"\nbpf_linker = \"{}\"\n",
        digest::of_sources(&root)?,
        digest::of_bytes(&built),
        compiler.version,
        linker.version,
    );
    replace(&root.join(OBJECT), &built)?;
    replace(&root.join(SIDECAR), record.as_bytes())?;
    eprintln!("installed `{OBJECT}`: {} bytes by {}, {}", built.len(), compiler.version, linker.version);
    Ok(ExitCode::SUCCESS)
}

/// Builds the object and compares it with the checked-in one.
pub fn check() -> Result<ExitCode> {
    let root = root();
    let remedy = "run `cargo xtask build-ebpf` and check in the result";
    let sidecar = fs::read_to_string(root.join(SIDECAR))
        .map_err(|error| Failure::new(format!("cannot read `{SIDECAR}`: {error}"), remedy))?;
    let object = fs::read(root.join(OBJECT))
        .map_err(|error| Failure::new(format!("cannot read `{OBJECT}`: {error}"), remedy))?;
    let recorded = |key: &str| digest::recorded(&sidecar, key).unwrap_or("nothing");
    if recorded("sources") != digest::of_sources(&root)? {
        return Err(Failure::new(
            format!("the eBPF sources changed since `{OBJECT}` was built from them"),
            remedy,
        )
        .into());
    }
    if recorded("object") != digest::of_bytes(&object) {
        return Err(
            Failure::new(format!("`{OBJECT}` is not the object that `{SIDECAR}` records"), remedy).into()
        );
    }
    let (compiler, linker) = toolchain(&sidecar)?;
    let built = build(&root, &compiler, &linker)?;
    let used = [&*compiler.version, &*linker.version];
    let theirs = [recorded("rustc"), recorded("bpf_linker")];
    if used != theirs {
        eprintln!(
            "`{OBJECT}` was built from these sources by {}; {} builds them too, \
             and is not compared with it bit for bit",
            theirs.join(", "),
            used.join(", "),
        );
    } else if built != object {
        let what = format!("`{OBJECT}` is not what {} and {} make of its sources", used[0], used[1]);
        return Err(Failure::new(what, remedy).into());
    } else {
        eprintln!("`{OBJECT}` is what its sources give, bit for bit, by {}", used.join(", "));
    }
    Ok(ExitCode::SUCCESS)
}

/// The compiler and linker to use. Of several compilers, the one that built the checked-in object, so
/// that a rebuild changes nothing but what the sources change; else rustup's before the system's.
fn toolchain(sidecar: &str) -> Result<(Compiler, Linker)> {
    let mut compilers = compilers();
    let recorded = digest::recorded(sidecar, "rustc");
    compilers.sort_by_key(|compiler| Some(&*compiler.version) != recorded);
    let Some(compiler) = compilers.into_iter().next() else {
        let what = format!("no rustc with LLVM {LLVM} has its own source (`rust-src`) beside it");
        return Err(Failure::unable(what, REMEDY).into());
    };
    Ok((compiler, linker()?))
}

/// The compilers that could build the kernel side, rustup's first.
pub fn compilers() -> Vec<Compiler> {
    let mut found: Vec<Compiler> = Vec::new();
    for rustc in [find("rustc"), Some("/usr/bin/rustc".into())].into_iter().flatten() {
        if let Some(compiler) = compiler(&rustc)
            && found.iter().all(|known| known.rustc != compiler.rustc)
        {
            found.push(compiler);
        }
    }
    found
}

/// The LLVM major version of a rustc.
pub fn llvm_of(rustc: &Path) -> Option<u32> {
    let about = output(tool(rustc).arg("-vV")).ok()?;
    about.lines().find_map(|line| major(line.strip_prefix("LLVM version: ")?))
}

fn compiler(rustc: &Path) -> Option<Compiler> {
    let sysroot = PathBuf::from(output(tool(rustc).args(["--print", "sysroot"])).ok()?);
    let source = sysroot.join("lib/rustlib/src/rust");
    if llvm_of(rustc)? != LLVM || !source.join("library/core/src/lib.rs").exists() {
        return None;
    }
    // The compiler itself, where `rustc` is rustup's stand-in for it.
    let rustc = Some(sysroot.join("bin/rustc")).filter(|file| file.is_file())?;
    let version = output(tool(&rustc).arg("--version")).ok()?;
    Some(Compiler { rustc, version, source })
}

/// The `bpf-linker` that cargo is configured to use, or the one on `PATH`, or the one cargo installed.
pub fn linker() -> Result<Linker> {
    let installed = || home().map(|home| home.join("bin/bpf-linker")).filter(|file| file.is_file());
    let Some(path) = env::var_os("CARGO_TARGET_BPFEL_UNKNOWN_NONE_LINKER")
        .map(PathBuf::from)
        .or_else(|| find("bpf-linker"))
        .or_else(installed)
    else {
        return Err(Failure::unable("`bpf-linker` is not installed", REMEDY).into());
    };
    let version = output(tool(&path).arg("--version"))?;
    let (version, llvm) = match shared_llvm(&path) {
        Some(llvm) => (format!("{version} (LLVM {llvm})"), major(&llvm)),
        None => (format!("{version} (its own LLVM)"), None),
    };
    if llvm.is_some_and(|llvm| llvm != LLVM) {
        let what = format!("`{}` is {version}, and LLVM {LLVM} is needed", path.display());
        return Err(Failure::unable(what, REMEDY).into());
    }
    Ok(Linker { path, version })
}

/// The version of the LLVM that a program shares with the system; none where it is linked in.
fn shared_llvm(program: &Path) -> Option<String> {
    let libraries = output(tool(Path::new("ldd")).arg(program)).ok()?;
    let line = libraries.lines().find(|line| line.trim_start().starts_with("libLLVM"))?;
    let library = Path::new(line.split_whitespace().nth(2)?);
    // /usr/lib/llvm-22/lib/libLLVM.so.22.1, or the same file in the folder of all libraries.
    let beside = library.parent()?.with_file_name("bin").join("llvm-config");
    [beside, format!("/usr/lib/llvm-{LLVM}/bin/llvm-config").into()]
        .iter()
        .find_map(|config| output(tool(config).arg("--version")).ok())
        .or_else(|| Some(library.file_name()?.to_str()?.strip_prefix("libLLVM.so.")?.to_owned()))
}

fn major(version: &str) -> Option<u32> {
    version.split('.').next()?.parse().ok()
}

/// Builds into a target directory of its own and gives the object.
fn build(root: &Path, compiler: &Compiler, linker: &Linker) -> Result<Vec<u8>> {
    let target =
        env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), |dir| root.join(dir)).join("bpf");
    relink_after_a_change(&target, linker)?;
    let mut command = cargo();
    isolate(&mut command);
    command.args(["build", "--package", "tracer-ebpf", "--bin", "tracer-ebpf", "--release", "--locked"]);
    command.args(["--target", TARGET, "-Z", "build-std=core"]);
    for setting in PROFILE {
        command.args(["--config", &format!("profile.release.{setting}")]);
    }
    command
        .env("RUSTC", &compiler.rustc)
        .env("RUSTC_BOOTSTRAP", "1")
        .env("RUSTC_WRAPPER", "")
        .env("RUSTC_WORKSPACE_WRAPPER", "")
        .env("CARGO_TARGET_DIR", &target)
        .env("CARGO_TARGET_BPFEL_UNKNOWN_NONE_LINKER", &linker.path)
        .env("CARGO_ENCODED_RUSTFLAGS", flags(root, compiler)?.join("\x1f"));
    eprintln!("building the kernel side by {}, {}", compiler.version, linker.version);
    succeed(&mut command)?;
    let built = target.join(TARGET).join("release/tracer-ebpf");
    fs::read(&built).with_context(|| format!("cannot read `{}`", built.display()))
}

/// Drops what another linker made: cargo notices a change of the compiler, not one of the linker.
fn relink_after_a_change(target: &Path, linker: &Linker) -> Result<()> {
    let stamp = target.join("bpf-linker");
    let identity = format!("{} {}\n", linker.path.display(), linker.version);
    if fs::read_to_string(&stamp).is_ok_and(|last| last == identity) {
        return Ok(());
    }
    let of_last = target.join(TARGET);
    if of_last.exists() {
        fs::remove_dir_all(&of_last).with_context(|| format!("cannot remove `{}`", of_last.display()))?;
    }
    fs::create_dir_all(target)
        .and_then(|()| fs::write(&stamp, identity))
        .with_context(|| format!("cannot write `{}`", stamp.display()))
}

/// The release profile of the kernel side: set here, so that nothing but what the digest covers, this
/// file and the toolchain decide the object's bytes.
const PROFILE: [&str; 9] = [
    "opt-level=3",
    "lto=true",
    "codegen-units=1",
    "panic='abort'",
    "debug=false",
    "strip=true",
    "debug-assertions=false",
    "overflow-checks=false",
    "incremental=false",
];

/// rustc's flags: no path of this machine gets into the object, nor this machine's architecture, which
/// aya-ebpf would otherwise take for the one to trace (nothing here reads registers).
fn flags(root: &Path, compiler: &Compiler) -> Result<Vec<String>> {
    let mut flags = vec!["-Dwarnings".to_owned(), "--cfg=bpf_target_arch=\"x86_64\"".to_owned()];
    let home = home().context("neither `CARGO_HOME` nor `HOME` is set")?;
    for (from, to) in [(root, "/tracer"), (&home, "/cargo"), (&compiler.source, "/rust")] {
        let Some(from) = from.to_str() else { bail!("`{}` is not UTF-8", from.display()) };
        flags.push(format!("--remap-path-prefix={from}={to}"));
    }
    Ok(flags)
}

/// A program run beside cargo's own: without the library path that `cargo run` sets, in which rustup's
/// libraries would stand in for the system's.
fn tool(program: &Path) -> Command {
    let mut command = Command::new(program);
    command.env_remove("LD_LIBRARY_PATH");
    command
}

/// Takes away what is meant for the host's build: flags, wrappers, profiles, targets. What sets where
/// cargo finds crates stays.
fn isolate(command: &mut Command) {
    for (name, _) in env::vars_os() {
        if name.to_str().is_none_or(concerns_the_host) {
            command.env_remove(name);
        }
    }
}

fn concerns_the_host(variable: &str) -> bool {
    const STAYS: [&str; 6] =
        ["CARGO_HOME", "CARGO_HTTP_", "CARGO_NET_", "CARGO_REGISTR", "CARGO_SOURCE_", "CARGO_TERM_"];
    const GOES: [&str; 6] = ["CARGO_", "RUSTC", "RUSTFLAGS", "RUSTDOC", "AYA_", "LD_LIBRARY_PATH"];
    GOES.iter().any(|prefix| variable.starts_with(prefix))
        && !STAYS.iter().any(|prefix| variable.starts_with(prefix))
}

/// Writes a file as a whole or not at all; leaves it alone, and its time, when nothing changes.
fn replace(path: &Path, contents: &[u8]) -> Result<()> {
    if fs::read(path).is_ok_and(|old| old == contents) {
        return Ok(());
    }
    let new = path.with_extension("new");
    fs::write(&new, contents)
        .and_then(|()| fs::rename(&new, path))
        .with_context(|| format!("cannot write `{}`", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_of_the_host_do_not_reach_the_kernel_side() {
        for removed in [
            "RUSTFLAGS",
            "CARGO_ENCODED_RUSTFLAGS",
            "CARGO_BUILD_RUSTFLAGS",
            "CARGO_PROFILE_RELEASE_LTO",
            "RUSTC_WRAPPER",
        ] {
            assert!(concerns_the_host(removed), "{removed}");
        }
        for kept in
            ["CARGO_HOME", "CARGO_REGISTRIES_CRATES_IO_PROTOCOL", "CARGO_NET_OFFLINE", "RUSTUP_HOME", "PATH"]
        {
            assert!(!concerns_the_host(kept), "{kept}");
        }
    }

    #[test]
    fn the_checked_in_object_is_recorded_with_everything_that_decides_it() {
        let sidecar = fs::read_to_string(root().join(SIDECAR)).unwrap();
        for key in ["sources", "object", "rustc", "bpf_linker"] {
            assert!(digest::recorded(&sidecar, key).is_some_and(|value| !value.is_empty()), "{key}");
        }
    }
}
