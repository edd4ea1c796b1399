//! A directory that becomes the root of a file system, and the archive that the kernel unpacks it from.

use std::{
    fs::{self, File},
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail};

use crate::cargo::shown;

pub struct Root(PathBuf);

impl Root {
    /// An empty one; what was in the directory is removed.
    pub fn new(directory: PathBuf) -> Result<Self> {
        if directory.exists() {
            fs::remove_dir_all(&directory)
                .with_context(|| format!("cannot clear `{}`", directory.display()))?;
        }
        let root = Self(directory);
        root.make("/")?;
        Ok(root)
    }

    /// Where a path of the guest is on this host.
    pub fn path(&self, path: impl AsRef<Path>) -> PathBuf {
        let path = path.as_ref();
        self.0.join(path.strip_prefix("/").unwrap_or(path))
    }

    pub fn make(&self, directory: impl AsRef<Path>) -> Result<()> {
        let directory = self.path(directory);
        fs::create_dir_all(&directory).with_context(|| format!("cannot make `{}`", directory.display()))
    }

    pub fn write(&self, path: impl AsRef<Path>, contents: impl AsRef<[u8]>, mode: u32) -> Result<()> {
        let path = self.with_parent(path.as_ref())?;
        fs::write(&path, contents)
            .and_then(|()| fs::set_permissions(&path, fs::Permissions::from_mode(mode)))
            .with_context(|| format!("cannot write `{}`", path.display()))
    }

    /// Copies a file of this host, following links.
    pub fn copy(&self, from: &Path, to: impl AsRef<Path>) -> Result<()> {
        let to = self.with_parent(to.as_ref())?;
        fs::copy(from, &to)
            .with_context(|| format!("cannot copy `{}` to `{}`", from.display(), to.display()))?;
        Ok(())
    }

    /// Makes a symbolic link.
    pub fn link(&self, path: impl AsRef<Path>, target: &str) -> Result<()> {
        let path = self.with_parent(path.as_ref())?;
        symlink(target, &path).with_context(|| format!("cannot make the link `{}`", path.display()))
    }

    /// Removes a file, or a directory with all that is in it, where it is there.
    pub fn remove(&self, path: impl AsRef<Path>) -> Result<()> {
        let path = self.path(path);
        let removed = if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
        match removed {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(error).with_context(|| format!("cannot remove `{}`", path.display()))
            }
            _ => Ok(()),
        }
    }

    fn with_parent(&self, path: &Path) -> Result<PathBuf> {
        self.make(path.parent().unwrap_or(path))?;
        Ok(self.path(path))
    }

    /// Packs it as the kernel unpacks it (Documentation/driver-api/early-userspace/buffer-format.rst), all
    /// of it root's. Not compressed: an emulated machine would take longer to undo that than to read it.
    pub fn pack(&self, archive: &Path) -> Result<()> {
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
        Ok(())
    }
}
