//! What else on the host makes records for every tracer, whatever port it watches: programs that may be a server
//! start, and processes that are followed end. Where a ring is full, they are lost in it with the rest.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};

use crate::{bpf::followed_by, failure::Failure};

/// The starts that the kernel side tells, in the words of Documentation/trace/events.rst: its names (`SERVERS` in
/// tracer/src/server.rs), of which eight bytes count.
const MAY_BE_A_SERVER: &str = r#"comm ~ "openclaw*" || comm == "node" || comm == "bun""#;

/// Has the kernel count those starts in a trace of its own, which is gone when this is dropped.
pub struct Witness(PathBuf);

/// What was there at one moment.
pub struct Before {
    starts: u64,
    /// Processes that one tracer follows.
    followed: BTreeSet<u32>,
}

impl Witness {
    pub fn begin() -> Result<Self> {
        let roots = ["/sys/kernel/tracing", "/sys/kernel/debug/tracing"].map(Path::new);
        let root = roots.into_iter().find(|root| root.join("instances").is_dir()).ok_or_else(|| {
            Failure::unable("tracefs is not mounted", "mount -t tracefs tracefs /sys/kernel/tracing")
        })?;
        let witness = Self(root.join(format!("instances/tracer-soak-{}", std::process::id())));
        fs::create_dir(&witness.0).with_context(|| format!("cannot make `{}`", witness.0.display()))?;
        witness.set("buffer_size_kb", "16")?;
        witness.set("events/sched/sched_process_exec/filter", MAY_BE_A_SERVER)?;
        witness.set("events/sched/sched_process_exec/enable", "1")?;
        Ok(witness)
    }

    fn set(&self, name: &str, value: &str) -> Result<()> {
        let path = self.0.join(name);
        fs::write(&path, value).with_context(|| format!("cannot write `{}`", path.display()))
    }

    /// Starts so far: those in the buffers, and those that newer ones have pushed out.
    fn starts(&self) -> Result<u64> {
        let mut starts = 0;
        for cpu in fs::read_dir(self.0.join("per_cpu"))? {
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

impl Drop for Witness {
    fn drop(&mut self) {
        // No event may be on when the trace goes.
        let _ = self.set("events/enable", "0");
        if let Err(error) = fs::remove_dir(&self.0) {
            eprintln!("xtask: cannot remove `{}`: {error}", self.0.display());
        }
    }
}
