//! The file system of a guest: static binaries, the few programs that the tests call with their libraries, and
//! the kernel's modules.

use std::{
    fs::{self, File},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail};

use super::{kernel::Kernel, modules};
use crate::{
    cargo::{Executable, executable, find, output, shown},
    dist,
    failure::Failure,
};

/// The host's programs that the tests call and busybox does not have, or not in full.
const HOST_PROGRAMS: [&str; 3] = ["ip", "nft", "install"];

/// Where a guest has the binary to hand out; the first process names it to the tests.
pub const TRACER: &str = "/bin/tracer";

/// The first process.
const INIT: &str = include_str!("init.sh");

/// What runs in every guest.
pub struct Programs {
    /// The binary to hand out.
    tracer: PathBuf,
    built: Vec<Executable>,
}

impl Programs {
    /// Builds them, without shared libraries.
    pub fn build() -> Result<Self> {
        let what = [
            "--package",
            "tests",
            "--test",
            "live",
            "--test",
            "oracle",
            "--bin",
            "bench",
            "--package",
            "xtask",
            "--bin",
            "xtask",
        ];
        Ok(Self { tracer: dist::tracer()?, built: dist::build_static("testbed", &what)? })
    }
}

/// Packs the file system of a guest that runs `suites`, a script, into `directory`; gives the archive's path.
pub fn build(kernel: &Kernel, programs: &Programs, suites: &str, directory: &Path) -> Result<PathBuf> {
    let root = Root(directory.join("root"));
    if root.0.exists() {
        fs::remove_dir_all(&root.0).with_context(|| format!("cannot clear `{}`", root.0.display()))?;
    }
    for empty in ["dev", "etc", "proc", "root", "run", "sbin", "sys", "tmp", "usr/bin", "usr/sbin"] {
        root.make(Path::new(empty))?;
    }
    root.write("/init", INIT.as_bytes(), 0o755)?;
    root.write("/suites", suites.as_bytes(), 0o644)?;
    root.write("/etc/passwd", b"root:x:0:0:root:/root:/bin/sh\n", 0o644)?;
    root.write("/etc/shadow", b"root:*:1:0:99999:7:::\n", 0o600)?;
    root.copy(&busybox()?, Path::new("/bin/busybox"))?;
    root.copy(&programs.tracer, Path::new(TRACER))?;
    for name in ["live", "oracle", "bench", "xtask"] {
        root.copy(&executable(&programs.built, name)?, &Path::new("/bin").join(name))?;
    }
    for name in HOST_PROGRAMS {
        let Some(path) = find(name) else {
            return Err(missing(name));
        };
        root.copy(&path, &path)?;
        for library in libraries(&output(Command::new("ldd").arg(&path))?) {
            root.copy(library, library)?;
        }
    }
    for (number, module) in modules::read(&kernel.modules())?.iter().enumerate() {
        root.write(&format!("/modules/{number:02}-{}.ko", module.name), &module.bytes, 0o644)?;
    }
    root.pack(&directory.join("initramfs"))
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

/// A directory that becomes the root of a file system.
struct Root(PathBuf);

impl Root {
    /// Where a path of the guest is on this host.
    fn path(&self, path: &Path) -> PathBuf {
        self.0.join(path.strip_prefix("/").unwrap_or(path))
    }

    fn make(&self, directory: &Path) -> Result<()> {
        let directory = self.path(directory);
        fs::create_dir_all(&directory).with_context(|| format!("cannot make `{}`", directory.display()))
    }

    fn write(&self, path: &str, contents: &[u8], mode: u32) -> Result<()> {
        let path = Path::new(path);
        self.make(path.parent().unwrap_or(path))?;
        let path = self.path(path);
        fs::write(&path, contents)
            .and_then(|()| fs::set_permissions(&path, fs::Permissions::from_mode(mode)))
            .with_context(|| format!("cannot write `{}`", path.display()))
    }

    /// Copies a file of this host, following links.
    fn copy(&self, from: &Path, to: &Path) -> Result<()> {
        self.make(to.parent().unwrap_or(to))?;
        let to = self.path(to);
        fs::copy(from, &to)
            .with_context(|| format!("cannot copy `{}` to `{}`", from.display(), to.display()))?;
        Ok(())
    }

    /// Packs it as the kernel unpacks it (Documentation/driver-api/early-userspace/buffer-format.rst), all
    /// of it root's. Not compressed: an emulated machine would take longer to undo that than to read it.
    fn pack(&self, archive: &Path) -> Result<PathBuf> {
        let mut list = Command::new("find");
        list.arg(".").current_dir(&self.0).stdout(Stdio::piped());
        let mut list = list.spawn().context("cannot run `find`")?;
        let file = File::create(archive).with_context(|| format!("cannot write `{}`", archive.display()))?;
        let mut cpio = Command::new("cpio");
        cpio.args(["--create", "--format=newc", "--owner=0:0", "--quiet"]).current_dir(&self.0);
        cpio.stdin(list.stdout.take().context("`find` has no stdout")?).stdout(file);
        let packed = cpio.status().with_context(|| format!("cannot run `{}`", shown(&cpio)))?;
        let listed = list.wait().context("cannot wait for `find`")?;
        if !packed.success() || !listed.success() {
            bail!("cannot pack `{}`: `find` ended with {listed}, `cpio` with {packed}", self.0.display());
        }
        Ok(archive.to_owned())
    }
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
