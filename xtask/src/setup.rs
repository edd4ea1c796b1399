//! `cargo xtask setup`: installs what is missing, and prints each command first.

use std::{
    path::Path,
    process::{Command, ExitCode},
};

use anyhow::Result;

use crate::{
    cargo::{cargo, find, shown, succeed},
    ebpf::{self, LLVM},
    elevate::elevated,
    failure::Failure,
    servers,
};

/// The programs that the tests, `demo` and `bare` call, and the packages they come in. Most are on every Debian
/// machine; a small container has not all of them.
const TEST_TOOLS: [(&str, &str); 16] = [
    ("ip", "iproute2"),
    ("nft", "nftables"),
    ("curl", "curl"),
    ("getconf", "libc-bin"),
    ("grep", "grep"),
    ("install", "coreutils"),
    ("sed", "sed"),
    ("sh", "dash"),
    ("tee", "coreutils"),
    ("setsid", "util-linux"),
    ("umount", "mount"),
    ("unshare", "util-linux"),
    ("/usr/sbin/nginx", "nginx"),
    ("/usr/bin/socat", "socat"),
    ("/usr/sbin/docker-proxy", "docker.io"),
    ("/usr/lib/postgresql/15/bin/postgres", "postgresql-15"),
];

/// Runs apt while no package may start its daemon: invoke-rc.d(8) asks this program.
const WITHOUT_DAEMONS: &str = r#"policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    trap 'rm -f "$policy"' EXIT
    printf '#!/bin/sh\nexit 101\n' > "$policy" && chmod 755 "$policy" || exit
fi
DEBIAN_FRONTEND=noninteractive "$0" "$@""#;

/// The programs that `vm` needs besides, and their packages.
const EMULATION_TOOLS: [(&str, &str); 7] = [
    ("dpkg-deb", "dpkg"),
    ("find", "findutils"),
    ("ldd", "libc-bin"),
    ("qemu-system-x86_64", "qemu-system-x86"),
    ("busybox", "busybox-static"),
    ("cpio", "cpio"),
    ("xz", "xz-utils"),
];

/// The packages of Debian's newer compiler and its source.
const DEBIAN_COMPILER: [&str; 2] = ["rustc-web", "rust-web-src"];

/// The version of `bpf-linker` that the checked-in object is built with.
const LINKER: &str = "0.13.0";

/// Installs what the tests need and, unless `tests_only`, what `build-ebpf` and `vm` need.
pub fn run(tests_only: bool) -> Result<ExitCode> {
    let mut packages: Vec<String> = tools(tests_only)
        .filter(|(program, _)| find(program).is_none())
        .map(|(_, package)| package.to_owned())
        .collect();
    let mut install_linker = false;
    if !tests_only {
        if ebpf::compilers().is_empty() && !add_source() {
            packages.extend(DEBIAN_COMPILER.map(str::to_owned));
        }
        install_linker = ebpf::linker().is_err();
        if install_linker && !llvm_prefix().join("bin/llvm-config").exists() {
            packages.push(format!("llvm-{LLVM}-dev"));
        }
    }
    let mut nothing = packages.is_empty() && !install_linker;
    if !packages.is_empty() {
        install_packages(&packages)?;
    }
    nothing &= !servers::install()?;
    if install_linker {
        echo_and_run(
            cargo()
                .args(["install", "bpf-linker", "--version", LINKER, "--no-default-features"])
                .args(["--features", &format!("llvm-{LLVM}"), "--locked", "--force"])
                .env("LLVM_PREFIX", llvm_prefix()),
        )?;
    }
    verify(tests_only)?;
    eprintln!("setup: {}", if nothing { "nothing to do" } else { "done" });
    Ok(ExitCode::SUCCESS)
}

/// The programs to have, and their packages.
fn tools(tests_only: bool) -> impl Iterator<Item = (&'static str, &'static str)> {
    let emulation = if tests_only { &[][..] } else { &EMULATION_TOOLS };
    TEST_TOOLS.iter().chain(&servers::DEBIAN).chain(emulation).copied()
}

/// Adds the source to rustup's compiler, if that has the right LLVM; false where it cannot be had, as
/// on a machine that reaches no rustup server.
fn add_source() -> bool {
    let fits = find("rustc").is_some_and(|rustc| ebpf::llvm_of(&rustc) == Some(LLVM));
    let Some(rustup) = find("rustup").filter(|_| fits) else { return false };
    let mut command = Command::new(rustup);
    command.args(["component", "add", "rust-src"]);
    match echo_and_run(&mut command) {
        Ok(()) => !ebpf::compilers().is_empty(),
        Err(error) => {
            eprintln!("setup: {error:#}: trying Debian's {}", DEBIAN_COMPILER.join(" and "));
            false
        }
    }
}

fn install_packages(packages: &[String]) -> Result<()> {
    let Some(apt) = find("apt-get") else {
        return Err(Failure::unable(
            format!("not installed, and `apt-get` was not found to install it with: {}", packages.join(", ")),
            "install what your distribution has in their place, then run this again",
        )
        .into());
    };
    // By a shell, because sudo and doas pass no variables on.
    let quiet = |args: &[&str]| {
        let words = ["-c", WITHOUT_DAEMONS, apt.to_str().unwrap_or("apt-get")];
        elevated("/bin/sh", words.into_iter().chain(args.iter().copied()))
    };
    if let Err(error) = echo_and_run(&mut quiet(&["update", "-q"])?) {
        // One source of several that does not answer need not be the one that matters.
        eprintln!("setup: {error:#}: going on with the lists at hand");
    }
    let mut args = vec!["install", "-q", "-y", "--no-install-recommends"];
    args.extend(packages.iter().map(String::as_str));
    echo_and_run(&mut quiet(&args)?)
}

/// What was missing is there now.
fn verify(tests_only: bool) -> Result<()> {
    for (program, package) in tools(tests_only) {
        if find(program).is_none() {
            let what = format!("`{program}` is missing, although `{package}` is installed");
            return Err(Failure::unable(what, format!("put `{program}` on the PATH")).into());
        }
    }
    if tests_only {
        return Ok(());
    }
    if ebpf::compilers().is_empty() {
        let what = format!("no rustc with LLVM {LLVM} has its own source beside it");
        let hint = "`rustup component add rust-src`, or Debian's `rustc-web` and `rust-web-src` from its security updates";
        return Err(Failure::unable(what, hint).into());
    }
    ebpf::linker().map(drop)
}

fn llvm_prefix() -> &'static Path {
    const { assert!(LLVM == 22) };
    Path::new("/usr/lib/llvm-22")
}

/// Prints the command, then runs it.
fn echo_and_run(command: &mut Command) -> Result<()> {
    eprintln!("setup: {}", shown(command));
    succeed(command)
}
