//! The kernel events of a run, in order: ring records, decoded, with what was lost before them.

use super::decode::{decode, is_loss};
use crate::bpf::kernel::Kernel;
use crate::bpf::losses::{Losses, Totals};
use crate::bpf::ring::Ring;
use crate::host::{clock, process};
use crate::model::kernel_event::{KernelEvent, Lost, LostWhere};
use crate::model::process::Process;
use crate::model::time::Mono;

/// Records taken from the ring before signals and time get their turn.
pub const BATCH: usize = 256;

/// Events in the order in which they were recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    pub events: Vec<KernelEvent>,
    /// Every event until then is in this batch or one before it.
    pub watermark: Mono,
    /// There may be more to take.
    pub has_more: bool,
}

/// The kernel events of a run.
pub struct EventStream {
    ring: Ring,
    /// Process ids from the kernel mean nothing here.
    is_foreign_pid_namespace: bool,
    /// Time of the newest event.
    newest: Mono,
    totals: Totals,
    losses_read: Mono,
    undecodable: u64,
    started: Mono,
}

impl EventStream {
    pub fn new(ring: Ring) -> Self {
        let now = clock::now();
        Self {
            ring,
            is_foreign_pid_namespace: !process::in_host_pid_namespace(),
            newest: Mono(0),
            totals: Totals::default(),
            losses_read: now,
            undecodable: 0,
            started: now,
        }
    }

    /// Waits until there may be something to take.
    ///
    /// # Errors
    /// When the reactor has ended.
    pub async fn readable(&mut self) -> std::io::Result<()> {
        self.ring.readable().await
    }

    /// Whether every record that was begun has been taken. An unfinished one wakes the reader when it is done.
    pub fn is_settled(&self) -> bool {
        self.ring.is_settled()
    }

    /// Takes what the ring has, and no more than a batch. What was lost stands before what came after it.
    pub fn take(&mut self, kernel: &Kernel) -> Batch {
        let began = clock::now();
        let mut decoded = Vec::new();
        let mut undecodable = 0;
        let count = self.ring.drain(BATCH, |bytes| match decode(bytes) {
            Ok(event) => decoded.push(event),
            Err(_) if is_loss(bytes) => {}
            Err(_) => undecodable += 1,
        });
        self.undecodable += undecodable;
        let mut events = Vec::with_capacity(decoded.len());
        if count > 0 {
            events.extend(self.lost(kernel).into_iter().map(KernelEvent::Lost));
        }
        let newest = decoded.iter().filter_map(KernelEvent::time).max().unwrap_or_default();
        self.newest = self.newest.max(newest);
        events.extend(decoded.into_iter().filter_map(|event| self.known(event)));
        let has_more = self.ring.has_more();
        // What is known to be complete: all until the ring was found empty, or the newest of the batch.
        let watermark = if has_more || !self.ring.is_settled() { self.newest } else { began };
        Batch { events, watermark, has_more }
    }

    /// The event, without process ids that mean nothing here; `None`: it is about nothing else.
    fn known(&self, mut event: KernelEvent) -> Option<KernelEvent> {
        if !self.is_foreign_pid_namespace {
            return Some(event);
        }
        match &mut event {
            KernelEvent::Opened(opened) => opened.listener.process = Process::default(),
            KernelEvent::Closed(closed) => closed.listener.process = Process::default(),
            KernelEvent::Refused(refused) => refused.client = Process::default(),
            KernelEvent::Bound(bound) => bound.socket.process = Process::default(),
            KernelEvent::Failed(failed) => failed.client = Process::default(),
            KernelEvent::Executed(_)
            | KernelEvent::Forked(_)
            | KernelEvent::Exited(_)
            | KernelEvent::OpenedElsewhere(_)
            | KernelEvent::ClosedElsewhere(_)
            | KernelEvent::Reached(_) => return None,
            KernelEvent::Listened(_)
            | KernelEvent::Connected(_)
            | KernelEvent::Destroyed(_)
            | KernelEvent::Lost(_) => {}
        }
        Some(event)
    }

    /// What was lost since the last call.
    pub fn lost(&mut self, kernel: &Kernel) -> Vec<Lost> {
        let now = clock::now();
        let Ok(totals) = kernel.losses() else {
            return Vec::new();
        };
        let Losses { ring, attempts, followed, names, unseen } = totals.since(&self.totals);
        let since = [
            (LostWhere::Ring, ring),
            (LostWhere::Attempts, attempts),
            (LostWhere::Recursion, unseen.total()),
            (LostWhere::Followed, followed),
            (LostWhere::Names, names),
            (LostWhere::Decode, std::mem::take(&mut self.undecodable)),
        ];
        let (from, to) = (self.losses_read, now);
        self.totals = totals;
        self.losses_read = now;
        let counted = since.into_iter().filter(|(_, records)| *records > 0);
        counted.map(|(place, records)| Lost { records, place, from, to }).collect()
    }

    /// At the end: the connects whose end no program saw.
    pub fn unseen_ends(&self, kernel: &Kernel) -> Option<Lost> {
        let records = kernel.unseen_ends();
        let (place, from, to) = (LostWhere::Recursion, self.started, clock::now());
        (records > 0).then_some(Lost { records, place, from, to })
    }
}
