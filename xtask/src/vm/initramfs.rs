//! The file system of a guest: static binaries and the kernel's modules, with the few programs of this host that the tests
//! call and their libraries, or with Debian's systemd.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};

use super::{kernel::Kernel, modules, root::Root};
use crate::{
    cargo::{Executable, find, output},
    dist,
    failure::Failure,
};

/// The host's programs that the tests call and busybox does not have, or not in full.
const HOST_PROGRAMS: [&str; 3] = ["ip", "nft", "install"];

/// Where a guest has the binary to hand out; run-suites.sh names it to the tests.
pub const TRACER: &str = "/bin/tracer";

/// The package and the program that has the demo.
const XTASK: &str = "xtask";

/// Runs the suites, in every guest.
const RUN_SUITES: &str = include_str!("run-suites.sh");

/// What runs in a guest: tracer, xtask, which has the demo, and programs of the tests.
pub struct Programs {
    /// The binary to hand out.
    tracer: PathBuf,
    built: Vec<Executable>,
}

impl Programs {
    /// Builds them, without shared libraries; of the tests these suites and these other programs.
    pub fn build(suites: &[&str], others: &[&str]) -> Result<Self> {
        let mut what = vec!["--package", XTASK, "--bin", XTASK, "--package", "tests"];
        what.extend(suites.iter().flat_map(|name| ["--test", name]));
        what.extend(others.iter().flat_map(|name| ["--bin", name]));
        Ok(Self { tracer: dist::tracer()?, built: dist::build_static("testbed", &what)? })
    }

    /// Those that a guest needs which runs these suites.
    pub fn of(&self, suites: &[&str]) -> Self {
        let is_needed = |name: &str| name == XTASK || suites.contains(&name);
        let built = self.built.iter().filter(|program| is_needed(&program.name)).cloned();
        Self { tracer: self.tracer.clone(), built: built.collect() }
    }

    fn copy(&self, root: &Root, directory: &str) -> Result<()> {
        let directory = Path::new(directory);
        root.copy(&self.tracer, directory.join("tracer"))?;
        self.built.iter().try_for_each(|program| root.copy(&program.path, directory.join(&program.name)))
    }
}

/// Packs the file system of a guest that runs `suites`, a script, into `directory`; gives the archive's path.
pub fn with_busybox(kernel: &Kernel, programs: &Programs, suites: &str, directory: &Path) -> Result<PathBuf> {
    let root = Root::new(directory.join("root"))?;
    for empty in ["dev", "etc", "proc", "root", "run", "sbin", "sys", "tmp", "usr/bin", "usr/sbin"] {
        root.make(empty)?;
    }
    root.write("/init", include_str!("init.sh"), 0o755)?;
    root.write("/etc/passwd", "root:x:0:0:root:/root:/bin/sh\n", 0o644)?;
    root.write("/etc/shadow", "root:*:1:0:99999:7:::\n", 0o600)?;
    programs.copy(&root, "/bin")?;
    root.copy(&busybox()?, "/bin/busybox")?;
    for name in HOST_PROGRAMS {
        let Some(path) = find(name) else {
            return Err(missing(name));
        };
        root.copy(&path, &path)?;
        for library in libraries(&output(Command::new("ldd").arg(&path))?) {
            root.copy(library, library)?;
        }
    }
    let archive = directory.join("initramfs");
    complete(&root, kernel, suites)?.pack(&archive)?;
    Ok(archive)
}

/// The same with systemd as the first process, from the archive of its programs.
pub fn with_systemd(
    kernel: &Kernel,
    userland: &Path,
    programs: &Programs,
    suites: &str,
    directory: &Path,
) -> Result<PathBuf> {
    let root = Root::new(directory.join("root"))?;
    for empty in ["dev", "mnt", "proc", "root", "run", "sys", "tmp", "var/log", "var/tmp"] {
        root.make(empty)?;
    }
    root.write("/init", include_str!("init-systemd.sh"), 0o755)?;
    root.write("/etc/passwd", "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534::/:/bin/sh\n", 0o644)?;
    root.write("/etc/group", "root:x:0:\nsystemd-journal:x:999:\nnogroup:x:65534:\n", 0o644)?;
    root.write("/etc/shadow", "root:*:1:0:99999:7:::\n", 0o600)?;
    root.write("/etc/hostname", "guest\n", 0o644)?;
    // Without one systemd takes each boot for the first of a new machine.
    root.write("/etc/machine-id", "5a3c0d2e9b7f4e61a8d4c5b6f7e80912\n", 0o444)?;
    let units = Path::new("/etc/systemd/system");
    root.write(units.join("suites.service"), include_str!("suites.service"), 0o644)?;
    // A unit with a temporary directory of its own would have it mounted, over what the tests have there.
    root.link(units.join("tmp.mount"), "/dev/null")?;
    // In `/bin` there would be a directory in place of the link to `/usr/bin`.
    programs.copy(&root, "/usr/bin")?;
    root.copy(&busybox()?, "/usr/bin/busybox")?;
    let own = directory.join("own");
    complete(&root, kernel, suites)?.pack(&own)?;
    let archive = directory.join("initramfs");
    joined(&[userland, &own], &archive)?;
    Ok(archive)
}

/// Writes what every guest has: the suites, and the kernel's modules in the order to load them in.
fn complete<'a>(root: &'a Root, kernel: &Kernel, suites: &str) -> Result<&'a Root> {
    root.write("/run-suites.sh", RUN_SUITES, 0o644)?;
    root.write("/suites", suites, 0o644)?;
    for (number, module) in modules::read(&kernel.modules())?.iter().enumerate() {
        root.write(format!("/modules/{number:02}-{}.ko", module.name), &module.bytes, 0o644)?;
    }
    Ok(root)
}

/// Joins archives into one, which the kernel unpacks one after the other.
fn joined(parts: &[&Path], archive: &Path) -> Result<()> {
    let mut whole = File::create(archive).with_context(|| format!("cannot write `{}`", archive.display()))?;
    for part in parts {
        File::open(part)
            .and_then(|mut part| io::copy(&mut part, &mut whole))
            .with_context(|| format!("cannot add `{}` to `{}`", part.display(), archive.display()))?;
    }
    Ok(())
}

/// The host's busybox, which has to run where nothing else does.
fn busybox() -> Result<PathBuf> {
    let Some(path) = find("busybox") else {
        return Err(missing("busybox"));
    };
    let bytes = fs::read(&path).with_context(|| format!("cannot read `{}`", path.display()))?;
    if !dist::is_static(&bytes)? {
        let what = format!("`{}` needs shared libraries", path.display());
        return Err(Failure::unable(what, "install busybox-static").into());
    }
    Ok(path)
}

fn missing(program: &str) -> anyhow::Error {
    Failure::unable(format!("`{program}` is not installed"), "`cargo xtask setup` installs what is missing")
        .into()
}

/// The files in the output of ldd(1) for a program.
fn libraries(ldd: &str) -> impl Iterator<Item = &Path> {
    ldd.split_whitespace().filter(|word| word.starts_with('/')).map(Path::new)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_libraries_of_a_program_are_found() {
        let ldd = "\tlinux-vdso.so.1 (0x00007ffc)\n\
                   \tlibmnl.so.0 => /lib/x86_64-linux-gnu/libmnl.so.0 (0x00007fcf)\n\
                   \t/lib64/ld-linux-x86-64.so.2 (0x00007fcf)\n";
        let found: Vec<_> = libraries(ldd).collect();
        let expected = ["/lib/x86_64-linux-gnu/libmnl.so.0", "/lib64/ld-linux-x86-64.so.2"].map(Path::new);
        assert_eq!(found, expected);
        assert_eq!(libraries("\tstatically linked\n").count(), 0);
    }
}
