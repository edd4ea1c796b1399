//! Refusals that a connect to the other family may follow, and the connects that may be it.
//!
//! `curl localhost` is refused at `::1` and answered at `127.0.0.1`.

use std::collections::VecDeque;
use std::net::IpAddr;

use super::finding::RefusalId;
use crate::model::kernel_event::{Connected, Refused};
use crate::model::socket::{NetnsId, counterpart};
use crate::model::time::Mono;

/// How long after a refusal a connect to the other family begins that is its fallback, or has begun before: a client tries
/// the next address immediately. What begins later is another request.
const FALLBACK_NS: u64 = 50_000_000;

/// How long refusals are remembered for it: the connect may take its time to be answered.
const REMEMBERED_NS: u64 = 1_000_000_000;

/// How long a refusal by the wrong family waits for the other one to be tried before it counts: `curl localhost` takes a
/// millisecond.
pub const SETTLE_NS: u64 = 100_000_000;

/// Refusals that a fallback may still follow.
const RECENT_MAX: usize = 1_024;

/// Connects of clients whose refusal is not reported yet; on more, the oldest is dropped.
const EARLY_MAX: usize = 1_024;

/// A refusal that a fallback may follow.
#[derive(Clone, Debug)]
struct Recent {
    of: RefusalId,
    pid: u32,
    netns: NetnsId,
    dst: IpAddr,
    port: u16,
    time: Mono,
}

/// A refusal that counts once `due`, unless the other family answers.
#[derive(Clone, Copy, Debug)]
struct Unsettled {
    due: Mono,
    of: RefusalId,
    pid: Option<u32>,
}

/// The refusal that a connect follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fallback {
    pub of: RefusalId,
    pub refused: Mono,
}

/// Refusals that a connect to the other family may follow.
#[derive(Debug, Default)]
pub struct Fallbacks {
    recent: VecDeque<Recent>,
    /// The first due first.
    unsettled: VecDeque<Unsettled>,
    /// Connects of clients whose refusal is not reported yet.
    early: VecDeque<Connected>,
}

impl Fallbacks {
    /// Notes a refusal that a connect to the other family may follow.
    pub fn may_follow(&mut self, of: RefusalId, refused: &Refused) {
        let Some(pid) = refused.client.pid else {
            return;
        };
        if self.recent.len() >= RECENT_MAX {
            self.recent.pop_front();
        }
        let Refused { netns, dst, dst_port: port, time, .. } = *refused;
        self.recent.push_back(Recent { of, pid, netns, dst, port, time });
    }

    /// Notes a refusal that does not count yet.
    pub fn unsettled(&mut self, of: RefusalId, refused: &Refused) {
        let due = refused.time.plus(SETTLE_NS);
        self.unsettled.push_back(Unsettled { due, of, pid: refused.client.pid });
    }

    /// When [`Self::settled`] has something to count.
    pub fn deadline(&self) -> Option<Mono> {
        self.unsettled.front().map(|unsettled| unsettled.due)
    }

    /// Keeps a connect until the refusal that it may follow is reported.
    pub fn keep(&mut self, connected: Connected) {
        if self.early.len() >= EARLY_MAX {
            self.early.pop_front();
        }
        self.early.push_back(connected);
    }

    /// The connect of a refusal's client that was kept, and that no refusal follows until its time. `is_refused_until`: the
    /// client has another refusal until then, which is not reported yet.
    pub fn kept_after(
        &mut self,
        refused: &Refused,
        is_refused_until: impl Fn(Mono) -> bool,
    ) -> Option<Connected> {
        let is_of_client = |connected: &Connected| {
            connected.pid.is_some() && connected.pid == refused.client.pid && connected.time >= refused.time
        };
        let index = self.early.iter().position(is_of_client)?;
        // It follows the last refusal before it.
        if is_refused_until(self.early[index].time) {
            return None;
        }
        self.early.remove(index)
    }

    /// Forgets the connects that were kept: every refusal is reported.
    pub fn forget_kept(&mut self) {
        self.early.clear();
    }

    /// Every refusal counts: the run ends. Gives how many did not count yet.
    pub fn settle_all(&mut self) -> u64 {
        std::mem::take(&mut self.unsettled).len() as u64
    }

    /// How many refusals count by now.
    pub fn settled(&mut self, now: Mono) -> u64 {
        let mut settled = 0;
        while self.unsettled.front().is_some_and(|unsettled| unsettled.due <= now) {
            self.unsettled.pop_front();
            settled += 1;
        }
        settled
    }

    /// The refusal that a connect follows.
    pub fn followed_by(&mut self, connected: &Connected) -> Option<Fallback> {
        self.recent.retain(|recent| connected.time.since(recent.time) < REMEMBERED_NS);
        let index = self.recent.iter().rposition(|recent| {
            Some(recent.pid) == connected.pid
                && recent.netns == connected.netns
                && recent.port == connected.dst_port
                && recent.dst.is_loopback()
                && counterpart(recent.dst) == connected.dst
                && connected.started.since(recent.time) < FALLBACK_NS
        })?;
        let Recent { of, time, .. } = self.recent.remove(index)?;
        let unsettled = self.unsettled.iter().rposition(|one| one.of == of && one.pid == connected.pid);
        unsettled.and_then(|index| self.unsettled.remove(index));
        Some(Fallback { of, refused: time })
    }

    /// Forgets the refusals in a namespace: its number now belongs to another.
    pub fn forget(&mut self, netns: NetnsId) {
        self.recent.retain(|one| one.netns != netns);
    }
}
