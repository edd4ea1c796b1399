//! What follows a refusal: the same one again, the other family that answers, and the end of it.

use std::collections::{HashMap, HashSet, VecDeque};
use std::net::IpAddr;

use super::coverage::{self, Destination};
use crate::event::{Connected, Listener, Mono, NetnsId, Refused, counterpart};
use crate::line::Cause;

/// How often repeats are told.
const PERIOD_NS: u64 = 10_000_000_000;

/// After this time without a repeat, the next one is told as the first.
const SILENCE_NS: u64 = 60_000_000_000;

/// How long after a refusal the other family counts as its fallback.
pub const FALLBACK_NS: u64 = 1_000_000_000;

/// Refusals told apart at once; on more, those silent longest are told and forgotten.
const FOLDS_MAX: usize = 4_096;

/// Destinations waited for.
const WAITING_MAX: usize = 4_096;

/// Refusals of one destination that are named when it recovers.
const NAMED_MAX: usize = 64;

/// Processes told apart in one count.
const PROCESSES_MAX: usize = 1_024;

/// Refusals that a fallback may still follow.
const RECENT_MAX: usize = 1_024;

/// What makes two refusals alike.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    pub netns: NetnsId,
    pub uid: Option<u32>,
    pub comm: Option<String>,
    /// Stands for the container: it is known without `/proc`.
    pub cgroup: u64,
    pub dst: IpAddr,
    pub port: u16,
    pub cause: Cause,
}

impl Key {
    pub fn of(refused: &Refused, cause: Cause) -> Self {
        Self {
            netns: refused.netns,
            uid: refused.client.uid,
            comm: refused.client.comm.clone(),
            cgroup: refused.cgroup,
            dst: refused.dst,
            port: refused.dst_port,
            cause,
        }
    }
}

/// Refusals that are alike.
#[derive(Clone, Debug)]
struct Fold {
    of: u64,
    /// The namespace of the destination.
    netns: NetnsId,
    count: u64,
    processes: HashSet<u32>,
    first: Mono,
    last: Mono,
    /// When the count is told next.
    due: Mono,
}

/// A count that is to be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Repeats {
    pub of: u64,
    pub count: u64,
    /// `None`: their process ids are not known.
    pub processes: Option<u64>,
    pub first: Mono,
    pub last: Mono,
}

/// A destination that was refused and may recover.
#[derive(Clone, Debug)]
pub struct Waiting {
    pub destination: Destination,
    /// The clients' namespace.
    pub netns: NetnsId,
    pub device: Option<u32>,
    pub of: Vec<u64>,
    pub first: Mono,
    pub refusals: u64,
    pub processes: HashSet<u32>,
}

/// A refusal that a fallback may follow.
#[derive(Clone, Debug)]
struct Recent {
    of: u64,
    pid: u32,
    netns: NetnsId,
    dst: IpAddr,
    port: u16,
    time: Mono,
}

/// A refusal that turned out to be harmless.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Harmless {
    pub of: u64,
    pub refused: Mono,
}

/// Every refusal that something may still follow.
#[derive(Debug, Default)]
pub struct Folds {
    folds: HashMap<Key, Fold>,
    waiting: HashMap<(NetnsId, IpAddr, u16), Waiting>,
    recent: VecDeque<Recent>,
    /// Counts whose namespace has ended, still to be told.
    ended: Vec<Repeats>,
}

impl Folds {
    /// Whether a refusal at `time` is to be told, and not only counted.
    pub fn is_new(&self, key: &Key, time: Mono) -> bool {
        self.folds.get(key).is_none_or(|fold| fold.is_over(time))
    }

    /// Counts a refusal like one that was told; `None`: there was none, and this one is to be told.
    pub fn repeat(&mut self, key: &Key, refused: &Refused) -> Option<u64> {
        let fold = self.folds.get_mut(key)?;
        if fold.is_over(refused.time) {
            self.folds.remove(key);
            return None;
        }
        if fold.count == 0 {
            fold.first = refused.time;
            fold.due = fold.due.max(refused.time);
        }
        fold.count += 1;
        fold.last = refused.time;
        if fold.processes.len() < PROCESSES_MAX {
            fold.processes.extend(refused.client.pid);
        }
        Some(fold.of)
    }

    /// Makes room for one more. Gives a count that had to go, to be told.
    pub fn make_room(&mut self) -> Option<Repeats> {
        if self.folds.len() < FOLDS_MAX {
            return None;
        }
        let oldest = self.folds.iter().min_by_key(|(_, fold)| fold.last).map(|(key, _)| key.clone())?;
        let fold = self.folds.remove(&oldest)?;
        (fold.count > 0).then(|| fold.repeats())
    }

    /// Notes a refusal that is told as line `of`, and the namespace that its destination is in.
    pub fn begin(&mut self, key: Key, of: u64, netns: NetnsId, time: Mono) {
        let due = Mono(time.0.saturating_add(PERIOD_NS));
        self.folds.insert(
            key,
            Fold { of, netns, count: 0, processes: HashSet::new(), first: time, last: time, due },
        );
    }

    /// Waits for a destination to recover.
    pub fn wait(&mut self, destination: Destination, of: u64, refused: &Refused) {
        let key = (destination.netns, destination.addr, destination.port);
        if self.waiting.len() >= WAITING_MAX && !self.waiting.contains_key(&key) {
            let oldest = self.waiting.iter().min_by_key(|(_, waiting)| waiting.first).map(|(key, _)| *key);
            oldest.and_then(|key| self.waiting.remove(&key));
        }
        let waiting = self.waiting.entry(key).or_insert_with(|| Waiting {
            destination,
            netns: refused.netns,
            device: refused.device,
            of: Vec::new(),
            first: refused.time,
            refusals: 0,
            processes: HashSet::new(),
        });
        waiting.destination = destination;
        waiting.refusals += 1;
        if waiting.of.len() < NAMED_MAX && !waiting.of.contains(&of) {
            waiting.of.push(of);
        }
        if waiting.processes.len() < PROCESSES_MAX {
            waiting.processes.extend(refused.client.pid);
        }
    }

    /// The destinations that a listener now covers, which are waited for no longer. Their next refusal will
    /// be told anew.
    pub fn recover(&mut self, listener: &Listener) -> Vec<(Waiting, Vec<Repeats>)> {
        let covers = |waiting: &&Waiting| coverage::mismatch(listener, &waiting.destination).is_none();
        let mut covered: Vec<Waiting> = if listener.addr.is_unspecified() {
            self.waiting.values().filter(covers).cloned().collect()
        } else {
            // Listeners that come and go by the thousand do not look at thousands of destinations each.
            let key = (listener.netns, listener.addr, listener.port);
            self.waiting.get(&key).filter(covers).cloned().into_iter().collect()
        };
        covered.sort_by_key(|waiting| waiting.of.first().copied());
        covered
            .into_iter()
            .map(|waiting| {
                let Destination { netns, addr, port, .. } = waiting.destination;
                self.waiting.remove(&(netns, addr, port));
                (waiting, self.end(netns, addr, port))
            })
            .collect()
    }

    /// Forgets the refusals of one destination, and gives what they still count.
    fn end(&mut self, netns: NetnsId, addr: IpAddr, port: u16) -> Vec<Repeats> {
        let mut ended = Vec::new();
        self.folds.retain(|key, fold| {
            let is_it = fold.netns == netns && key.dst == addr && key.port == port;
            if is_it && fold.count > 0 {
                ended.push(fold.repeats());
            }
            !is_it
        });
        ended.sort_by_key(|repeats| repeats.of);
        ended
    }

    /// Forgets the refusals in a namespace, and of its addresses: its number now belongs to another. What they still
    /// count is told when time next passes.
    pub fn forget(&mut self, netns: NetnsId) {
        let Self { folds, waiting, recent, ended } = self;
        folds.retain(|key, fold| {
            let is_it = fold.netns == netns || key.netns == netns;
            if is_it && fold.count > 0 {
                ended.push(fold.repeats());
            }
            !is_it
        });
        waiting.retain(|(destination, _, _), one| *destination != netns && one.netns != netns);
        recent.retain(|one| one.netns != netns);
    }

    /// Notes a refusal that a connect to the other family may follow.
    pub fn may_fall_back(&mut self, of: u64, refused: &Refused) {
        let Some(pid) = refused.client.pid else {
            return;
        };
        if self.recent.len() >= RECENT_MAX {
            self.recent.pop_front();
        }
        let Refused { netns, dst, dst_port: port, time, .. } = *refused;
        self.recent.push_back(Recent { of, pid, netns, dst, port, time });
    }

    /// The refusal that a connect makes harmless.
    pub fn fallback(&mut self, connected: &Connected) -> Option<Harmless> {
        self.recent.retain(|recent| connected.time.since(recent.time) < FALLBACK_NS);
        let index = self.recent.iter().rposition(|recent| {
            Some(recent.pid) == connected.pid
                && recent.netns == connected.netns
                && recent.port == connected.dst_port
                && recent.dst.is_loopback()
                && counterpart(recent.dst) == connected.dst
        })?;
        let recent = self.recent.remove(index)?;
        Some(Harmless { of: recent.of, refused: recent.time })
    }

    /// When [`Self::due`] has something to give.
    pub fn deadline(&self) -> Option<Mono> {
        self.folds.values().filter(|fold| fold.count > 0).map(|fold| fold.due).min()
    }

    /// The counts that are to be told by now, in the order of what they repeat.
    pub fn due(&mut self, now: Mono) -> Vec<Repeats> {
        self.folds.retain(|_, fold| fold.count > 0 || now.since(fold.last) <= SILENCE_NS);
        let mut due = std::mem::take(&mut self.ended);
        for fold in self.folds.values_mut().filter(|fold| fold.count > 0 && fold.due <= now) {
            due.push(fold.repeats());
            fold.count = 0;
            fold.processes.clear();
            fold.due = Mono(fold.due.0.saturating_add(PERIOD_NS).max(fold.last.0));
        }
        due.sort_by_key(|repeats| repeats.of);
        due
    }
}

/// How many processes; `None`: none is known, though there was one.
pub fn told_apart(processes: &HashSet<u32>) -> Option<u64> {
    (!processes.is_empty()).then_some(processes.len() as u64)
}

impl Fold {
    /// Whether it has been silent for so long that the next one is news.
    fn is_over(&self, now: Mono) -> bool {
        self.count == 0 && now.since(self.last) > SILENCE_NS
    }

    fn repeats(&self) -> Repeats {
        Repeats {
            of: self.of,
            count: self.count,
            processes: told_apart(&self.processes),
            first: self.first,
            last: self.last,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use crate::line::{Process, SentBy, Via};

    /// Of a process and a destination of its own.
    fn refused(number: u32) -> Refused {
        Refused {
            time: Mono(u64::from(number)),
            started: Mono(u64::from(number)),
            netns: NetnsId(1),
            netns_cookie: 1,
            client: Process { pid: Some(number), ..Process::default() },
            client_started: 0,
            cgroup: 1,
            src: Ipv4Addr::LOCALHOST.into(),
            src_port: None,
            dst: Ipv4Addr::from_bits(Ipv4Addr::LOCALHOST.to_bits() + number).into(),
            dst_port: 80,
            device: None,
            via: Via::Rst,
            sent_by: Some(SentBy::Tcp),
        }
    }

    #[test]
    fn nothing_grows_without_bound_and_no_count_is_lost() {
        const REFUSALS: u32 = FOLDS_MAX as u32 + 1_000;
        let mut folds = Folds::default();
        let mut counted = 0;
        for number in 1..=REFUSALS {
            let refused = refused(number);
            let key = Key::of(&refused, Cause::NothingListening);
            assert_eq!(folds.repeat(&key, &refused), None);
            counted += folds.make_room().map_or(0, |repeats| repeats.count);
            let of = u64::from(number);
            folds.begin(key.clone(), of, refused.netns, refused.time);
            assert_eq!(folds.repeat(&key, &refused), Some(of));
            let Refused { netns, dst: addr, dst_port: port, .. } = refused;
            folds.wait(Destination { netns, addr, port, route: None }, of, &refused);
            folds.may_fall_back(of, &refused);
            // Again and again, of ever another process, to one destination.
            let other = super::tests::refused(1);
            let one = Destination { netns, addr: other.dst, port, route: None };
            let another = Refused { client: refused.client.clone(), ..other };
            folds.wait(one, of, &another);
        }
        let Folds { folds: kept, waiting, recent, ended: _ } = &folds;
        assert_eq!((kept.len(), waiting.len(), recent.len()), (FOLDS_MAX, WAITING_MAX, RECENT_MAX));
        for one in waiting.values() {
            assert!(one.of.len() <= NAMED_MAX && one.processes.len() <= PROCESSES_MAX);
        }
        counted += folds.due(Mono(u64::MAX)).iter().map(|repeats| repeats.count).sum::<u64>();
        assert_eq!(counted, u64::from(REFUSALS));
    }
}
