//! What follows a reported refusal: the same one again, and the end of it.

use std::net::IpAddr;

use super::finding::RefusalId;
use crate::model::cause::Cause;
use crate::model::hash::{HashMap, HashSet};
use crate::model::kernel_event::{Refused, Role};
use crate::model::process::Text;
use crate::model::socket::{Listener, NetnsId};
use crate::model::time::Mono;
use crate::verdict::coverage::{self, Destination};

/// How often repeats are reported.
const PERIOD_NS: u64 = 10_000_000_000;

/// After this time without a repeat, the next one is reported as the first.
const SILENCE_NS: u64 = 60_000_000_000;

/// Repeat groups at a time; on more, the one silent longest is reported and dropped.
const GROUPS_MAX: usize = 4_096;

/// Destinations waited for.
const WAITING_MAX: usize = 4_096;

/// Refusals of one destination that are named when it recovers.
const NAMED_MAX: usize = 64;

/// Distinct processes in one count.
const PROCESSES_MAX: usize = 1_024;

/// What makes two refusals alike.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    pub role: Role,
    pub netns: NetnsId,
    pub uid: Option<u32>,
    pub comm: Option<Text>,
    /// Stands for the container: it is known without `/proc`.
    pub cgroup: u64,
    pub dst: IpAddr,
    pub port: u16,
    pub cause: Cause,
}

impl Key {
    pub fn of(refused: &Refused, cause: Cause) -> Self {
        Self {
            role: refused.role,
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
struct Group {
    of: RefusalId,
    /// The namespace of the destination.
    netns: NetnsId,
    count: u64,
    processes: HashSet<u32>,
    first: Mono,
    last: Mono,
    /// When the count is reported next.
    due: Mono,
}

/// A count that is to be reported.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Repeats {
    pub of: RefusalId,
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
    pub of: Vec<RefusalId>,
    pub first: Mono,
    pub refusals: u64,
    pub processes: HashSet<u32>,
}

/// Every refusal that something may still follow.
#[derive(Debug, Default)]
pub struct RepeatGroups {
    groups: HashMap<Key, Group>,
    /// No count is due before this; `None`: no count is pending. Each turn asks, and there may be thousands of groups.
    due: Option<Mono>,
    /// When silent groups are dropped next.
    swept: Mono,
    waiting: HashMap<(NetnsId, IpAddr, u16), Waiting>,
    /// Counts whose namespace has ended, not reported yet.
    ended: Vec<Repeats>,
}

impl RepeatGroups {
    /// Whether a refusal at `time` is to be reported, and not only counted.
    pub fn is_new(&self, key: &Key, time: Mono) -> bool {
        self.groups.get(key).is_none_or(|group| group.is_over(time))
    }

    /// Counts a refusal like one that was reported; `None`: none found, and this one is to be reported.
    pub fn repeat(&mut self, key: &Key, refused: &Refused) -> Option<RefusalId> {
        let group = self.groups.get_mut(key)?;
        if group.is_over(refused.time) {
            self.groups.remove(key);
            return None;
        }
        if group.count == 0 {
            group.first = refused.time;
            group.due = group.due.max(refused.time);
        }
        group.count += 1;
        self.due = earliest(self.due, group.due);
        // One that waited for its evidence is counted behind later ones.
        group.first = group.first.min(refused.time);
        group.last = group.last.max(refused.time);
        if group.processes.len() < PROCESSES_MAX {
            group.processes.extend(refused.client.pid);
        }
        Some(group.of)
    }

    /// Makes room for one more. Gives the count that was dropped, to be reported.
    pub fn make_room(&mut self) -> Option<Repeats> {
        if self.groups.len() < GROUPS_MAX {
            return None;
        }
        let oldest = self.groups.iter().min_by_key(|(_, group)| group.last).map(|(key, _)| key.clone())?;
        let group = self.groups.remove(&oldest)?;
        (group.count > 0).then(|| group.repeats())
    }

    /// Notes a refusal that is reported as line `of`, and the namespace that its destination is in.
    pub fn begin(&mut self, key: Key, of: RefusalId, netns: NetnsId, time: Mono) {
        let due = Mono(time.0.saturating_add(PERIOD_NS));
        self.groups.insert(
            key,
            Group { of, netns, count: 0, processes: HashSet::default(), first: time, last: time, due },
        );
    }

    /// Waits for a destination to recover.
    pub fn wait(&mut self, destination: Destination, of: RefusalId, refused: &Refused) {
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
            processes: HashSet::default(),
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
    /// be reported again.
    pub fn recover(&mut self, listener: &Listener) -> Vec<(Waiting, Vec<Repeats>)> {
        let covers = |waiting: &&Waiting| coverage::mismatch(listener, &waiting.destination).is_none();
        let mut covered: Vec<Waiting> = if listener.addr.is_unspecified() {
            self.waiting.values().filter(covers).cloned().collect()
        } else {
            // Thousands of listeners that open and close do not search thousands of destinations each.
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

    /// Whether a destination that a listener covers waits to be answered again.
    pub fn is_awaited(&self, listener: &Listener) -> bool {
        let covers = |waiting: &Waiting| coverage::mismatch(listener, &waiting.destination).is_none();
        if listener.addr.is_unspecified() {
            return self.waiting.values().any(covers);
        }
        self.waiting.get(&(listener.netns, listener.addr, listener.port)).is_some_and(covers)
    }

    /// Forgets the refusals of one destination, and gives what they still count.
    fn end(&mut self, netns: NetnsId, addr: IpAddr, port: u16) -> Vec<Repeats> {
        let mut ended = Vec::new();
        self.groups.retain(|key, group| {
            let is_it = group.netns == netns && key.dst == addr && key.port == port;
            if is_it && group.count > 0 {
                ended.push(group.repeats());
            }
            !is_it
        });
        ended.sort_by_key(|repeats| repeats.of);
        ended
    }

    /// Forgets the refusals in a namespace, and of its addresses: its number now belongs to another. What they still
    /// count is reported when time next passes.
    pub fn forget(&mut self, netns: NetnsId) {
        let Self { groups, waiting, ended, .. } = self;
        groups.retain(|key, group| {
            let is_it = group.netns == netns || key.netns == netns;
            if is_it && group.count > 0 {
                ended.push(group.repeats());
            }
            !is_it
        });
        waiting.retain(|(destination, _, _), one| *destination != netns && one.netns != netns);
    }

    /// When [`Self::due`] may have something to give.
    pub fn deadline(&self) -> Option<Mono> {
        self.due
    }

    /// The counts that are to be reported by now, in the order of what they repeat.
    pub fn due(&mut self, now: Mono) -> Vec<Repeats> {
        if self.swept <= now {
            self.groups.retain(|_, group| group.count > 0 || now.since(group.last) <= SILENCE_NS);
            self.swept = now.plus(PERIOD_NS);
        }
        let mut reported = std::mem::take(&mut self.ended);
        if self.due.is_some_and(|due| due <= now) {
            self.due = None;
            for group in self.groups.values_mut().filter(|group| group.count > 0) {
                if group.due <= now {
                    reported.push(group.repeats());
                    group.count = 0;
                    group.processes.clear();
                    group.due = Mono(group.due.0.saturating_add(PERIOD_NS).max(group.last.0));
                } else {
                    self.due = earliest(self.due, group.due);
                }
            }
        }
        reported.sort_by_key(|repeats| repeats.of);
        reported
    }
}

fn earliest(one: Option<Mono>, other: Mono) -> Option<Mono> {
    Some(one.map_or(other, |one| one.min(other)))
}

/// How many processes; `None`: none is known, though there was one.
pub fn distinct(processes: &HashSet<u32>) -> Option<u64> {
    (!processes.is_empty()).then_some(processes.len() as u64)
}

impl Group {
    /// Whether it has been silent for so long that the next one is news.
    fn is_over(&self, now: Mono) -> bool {
        self.count == 0 && now.since(self.last) > SILENCE_NS
    }

    fn repeats(&self) -> Repeats {
        Repeats {
            of: self.of,
            count: self.count,
            processes: distinct(&self.processes),
            first: self.first,
            last: self.last,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use crate::model::kernel_event::{Role, SentBy, Via};
    use crate::model::process::Process;

    /// Of a process and a destination of its own.
    fn refused(number: u32) -> Refused {
        Refused {
            time: Mono(u64::from(number)),
            started: Mono(u64::from(number)),
            netns: NetnsId(1),
            netns_cookie: 1,
            client: Process { pid: Some(number), ..Process::default() },
            cgroup: 1,
            src: Ipv4Addr::LOCALHOST.into(),
            src_port: None,
            dst: Ipv4Addr::from_bits(Ipv4Addr::LOCALHOST.to_bits() + number).into(),
            dst_port: 80,
            device: None,
            via: Via::Rst,
            sent_by: Some(SentBy::Tcp),
            icmp: None,
            role: Role::Client,
        }
    }

    #[test]
    fn nothing_grows_without_bound_and_no_count_is_lost() {
        const REFUSALS: u32 = GROUPS_MAX as u32 + 1_000;
        let mut groups = RepeatGroups::default();
        let mut counted = 0;
        for number in 1..=REFUSALS {
            let refused = refused(number);
            let key = Key::of(&refused, Cause::NothingListening);
            assert_eq!(groups.repeat(&key, &refused), None);
            counted += groups.make_room().map_or(0, |repeats| repeats.count);
            let of = RefusalId(u64::from(number));
            groups.begin(key.clone(), of, refused.netns, refused.time);
            assert_eq!(groups.repeat(&key, &refused), Some(of));
            let Refused { netns, dst: addr, dst_port: port, .. } = refused;
            groups.wait(Destination { netns, addr, port, route: None }, of, &refused);
            // Again and again, of ever another process, to one destination.
            let other = super::tests::refused(1);
            let one = Destination { netns, addr: other.dst, port, route: None };
            let another = Refused { client: refused.client.clone(), ..other };
            groups.wait(one, of, &another);
        }
        let RepeatGroups { groups: kept, waiting, .. } = &groups;
        assert_eq!((kept.len(), waiting.len()), (GROUPS_MAX, WAITING_MAX));
        for one in waiting.values() {
            assert!(one.of.len() <= NAMED_MAX && one.processes.len() <= PROCESSES_MAX);
        }
        counted += groups.due(Mono::MAX).iter().map(|repeats| repeats.count).sum::<u64>();
        assert_eq!(counted, u64::from(REFUSALS));
    }
}
