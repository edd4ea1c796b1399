//! What else on the host makes records for every tracer, whatever port it watches: programs that may be a server
//! start, and processes that are followed end. Where a ring is full, they are lost in it with the rest.

use std::{
    collections::BTreeSet,
    fs, io,
    os::fd::{AsFd as _, AsRawFd as _, OwnedFd},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsmount, fsopen};
use tests::bpf::followed_by;

/// What the kernel side may record of processes: the starts of programs with names that it learns while it runs, and the
/// forks of processes that it follows. All are counted, which is an upper bound.
const EVENTS: [&str; 2] =
    ["events/sched/sched_process_exec/enable", "events/sched/sched_process_fork/enable"];

/// Has the kernel count those events in a trace of its own, which is removed when this is dropped.
pub struct Counter {
    instance: PathBuf,
    /// What the path leads through.
    _tracefs: OwnedFd,
}

/// What was there at one moment.
pub struct Before {
    starts: u64,
    /// Processes that one tracer follows.
    followed: BTreeSet<u32>,
}

impl Counter {
    pub fn begin() -> Result<Self> {
        // Many hosts have it mounted nowhere.
        let tracefs = mount_tracefs().context("cannot mount tracefs")?;
        let root = Path::new("/proc/self/fd").join(tracefs.as_raw_fd().to_string());
        let instance = root.join(format!("instances/tracer-soak-{}", std::process::id()));
        fs::create_dir(&instance).with_context(|| format!("cannot make `{}`", instance.display()))?;
        let counter = Self { instance, _tracefs: tracefs };
        counter.set("buffer_size_kb", "16")?;
        for event in EVENTS {
            counter.set(event, "1")?;
        }
        Ok(counter)
    }

    fn set(&self, name: &str, value: &str) -> Result<()> {
        let path = self.instance.join(name);
        fs::write(&path, value).with_context(|| format!("cannot write `{}`", path.display()))
    }

    /// Starts and forks so far: those in the buffers, and those that newer ones have pushed out.
    fn starts(&self) -> Result<u64> {
        let mut starts = 0;
        for cpu in fs::read_dir(self.instance.join("per_cpu"))? {
            let stats = fs::read_to_string(cpu?.path().join("stats"))?;
            let number = |name: &str| {
                stats.lines().find_map(|line| line.strip_prefix(name)?.trim().parse::<u64>().ok())
            };
            let kept = number("entries:").context("no entries")?;
            starts += kept + number("overrun:").context("no overrun")?;
        }
        Ok(starts)
    }

    /// What there is before records of this tracer may be lost.
    pub fn before(&self, tracer: u32) -> Result<Before> {
        Ok(Before { starts: self.starts()?, followed: followed_by(tracer)? })
    }

    /// Records that the rest of the host may have made for it since then.
    pub fn others(&self, tracer: u32, before: &Before) -> Result<u64> {
        let ended = before.followed.difference(&followed_by(tracer)?).count();
        Ok(self.starts()? - before.starts + ended as u64)
    }
}

impl Drop for Counter {
    fn drop(&mut self) {
        // No event may be on when the trace goes.
        let _ = self.set("events/enable", "0");
        if let Err(error) = fs::remove_dir(&self.instance) {
            eprintln!("soak: cannot remove `{}`: {error}", self.instance.display());
        }
    }
}

/// A tracefs that is mounted at no path, until its descriptor is closed.
fn mount_tracefs() -> io::Result<OwnedFd> {
    let context = fsopen("tracefs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_create(context.as_fd())?;
    Ok(fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())?)
}
