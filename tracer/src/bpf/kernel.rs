//! The attached programs: what a run reads from them, and what it adds to their tables.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use anyhow::Result;
use aya::Ebpf;
use aya_log::EbpfLogger;

use crate::bpf::counted_table::CountedTable;
use crate::bpf::losses::{Counters, Totals, WithoutPlace};
use crate::bpf::names::{self, Name};
use crate::bpf::upstream::Upstream;
use crate::host::openings::OpeningTimes;
use crate::model::hook::Hook;
use crate::model::limit::Limit;
use crate::model::time::StartTime;

/// The attached programs. Dropping it detaches them.
pub struct Kernel {
    pub(super) ebpf: Ebpf,
    pub(super) counters: Counters,
    /// Processes whose end is recorded.
    pub(super) followed: CountedTable<u32>,
    /// Names of programs whose start is recorded. Those without a place are found by a search of `/proc` only.
    pub(super) names: CountedTable<Name>,
    pub(super) upstream: Upstream,
    /// When sockets began to listen, on any port.
    pub openings: Arc<dyn OpeningTimes>,
    /// Keeps programs attached to classic tracepoints.
    pub(super) _events: Vec<OwnedFd>,
    pub hooks: Vec<Hook>,
    pub limits: Vec<Limit>,
}

impl Kernel {
    /// Takes the stream of the programs' own messages, which are rare and off without `-v`.
    ///
    /// # Errors
    /// When the object has no such stream.
    pub fn logger<T: log::Log>(&mut self, logger: T) -> Result<EbpfLogger<T>> {
        Ok(EbpfLogger::init_with_logger(&mut self.ebpf, logger)?)
    }

    /// Asks for the end of a process to be recorded.
    pub fn follow(&mut self, pid: u32) {
        self.followed.add(pid);
    }

    /// Asks for the starts of programs with this name to be recorded.
    pub fn watch_name(&mut self, name: &[u8]) {
        self.names.add(names::key(name));
    }

    /// Has the connects of a process recorded on every port, and its end.
    pub fn follow_upstream(&mut self, pid: u32, start: Option<StartTime>) {
        self.followed.add(pid);
        self.upstream.follow(pid, start);
    }

    /// Has the connects of a process recorded on watched ports only.
    pub fn unfollow_upstream(&mut self, pid: u32) {
        self.upstream.unfollow(pid);
    }

    /// Has a port watched besides those of the run, or no longer.
    pub fn watch(&mut self, port: u16, is_watched: bool) {
        self.upstream.watch(port, is_watched);
    }

    /// Whether a connect to a port of the run has begun; `None`: not known.
    pub fn has_connect(&self) -> Option<bool> {
        self.upstream.has_connect()
    }

    /// Reads the loss counters.
    ///
    /// # Errors
    /// When the map cannot be read.
    pub fn losses(&self) -> Result<Totals> {
        let without_place =
            WithoutPlace { processes: self.followed.without_place(), names: self.names.without_place() };
        self.counters.read(&self.ebpf, without_place)
    }

    /// How many connection attempts may have ended unseen, besides those that [`Kernel::losses`] counts: an upper bound.
    pub fn unseen_ends(&self) -> u64 {
        self.counters.unseen_ends(&self.ebpf)
    }
}
