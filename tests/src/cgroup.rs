//! Control groups that exist as long as their value does.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use super::poll;

fn unique() -> String {
    static COUNT: AtomicU32 = AtomicU32::new(1);
    format!("tracer-live-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed))
}

/// Nested groups, the outermost with a name that nothing else has.
pub struct Cgroup {
    /// The innermost last.
    directories: Vec<PathBuf>,
}

impl Cgroup {
    pub fn new(hierarchy: &Path, path: &[u8]) -> Self {
        let mut cgroup = Self { directories: Vec::new() };
        let mut directory = hierarchy.join(unique());
        for name in std::iter::once(None).chain(path.split(|&byte| byte == b'/').map(Some)) {
            directory.extend(name.map(OsStr::from_bytes));
            fs::create_dir(&directory).unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
            cgroup.directories.push(directory.clone());
        }
        cgroup
    }

    /// The file of the innermost that lists its processes.
    pub fn procs(&self) -> PathBuf {
        self.directories.last().expect("a group").join("cgroup.procs")
    }

    /// Moves a process into the innermost.
    pub fn take(&self, pid: u32) {
        let procs = self.procs();
        fs::write(&procs, pid.to_string()).unwrap_or_else(|error| panic!("{}: {error}", procs.display()));
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        for directory in self.directories.iter().rev() {
            if std::thread::panicking() {
                let _ = fs::remove_dir(directory);
            } else {
                // A process that was waited for may be there for a moment still.
                poll("an empty group", || fs::remove_dir(directory).ok());
            }
        }
    }
}
