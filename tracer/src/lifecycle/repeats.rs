//! Refusals like one that was reported: counted in groups, and reported as counts.

use std::net::IpAddr;

use super::finding::RefusalId;
use crate::model::cause::Cause;
use crate::model::hash::{HashMap, HashSet};
use crate::model::kernel_event::{Refused, Role};
use crate::model::process::Text;
use crate::model::socket::NetnsId;
use crate::model::time::Mono;
use crate::verdict::coverage::Destination;

/// How often repeats are reported.
const PERIOD_NS: u64 = 10_000_000_000;

/// After this time without a repeat, the next one is reported as the first.
const SILENCE_NS: u64 = 60_000_000_000;

/// Repeat groups at a time; on more, the one silent longest is reported and dropped.
const GROUPS_MAX: usize = 4_096;

/// Distinct processes in one count.
pub(super) const PROCESSES_MAX: usize = 1_024;

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

/// Refusals that were reported, and that others may repeat.
#[derive(Debug, Default)]
pub struct RepeatGroups {
    groups: HashMap<Key, Group>,
    /// No count is due before this; `None`: there is none. Each turn reads this, and there may be thousands of groups.
    due: Option<Mono>,
    /// When silent groups are dropped next.
    swept: Mono,
    /// Counts whose namespace has ended, not reported yet.
    ended: Vec<Repeats>,
}

impl RepeatGroups {
    /// Whether a refusal at `time` is to be reported, and not only counted.
    pub fn is_new(&self, key: &Key, time: Mono) -> bool {
        self.groups.get(key).is_none_or(|group| group.is_over(time))
    }

    /// Counts a refusal like one that was reported; `None`: there was none, and this one is to be reported.
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

    /// Makes room for one more. Gives the count that was removed for it: it is to be reported.
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

    /// Forgets the refusals of one destination, and gives what they still count.
    pub fn end(&mut self, destination: &Destination) -> Vec<Repeats> {
        let Destination { netns, addr, port, .. } = *destination;
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
        let Self { groups, ended, .. } = self;
        groups.retain(|key, group| {
            let is_it = group.netns == netns || key.netns == netns;
            if is_it && group.count > 0 {
                ended.push(group.repeats());
            }
            !is_it
        });
    }

    /// When [`Self::due`] may have something to give.
    pub fn deadline(&self) -> Option<Mono> {
        self.due
    }

    /// Every count, in the order of what they repeat: the run ends.
    pub fn end_all(&mut self) -> Vec<Repeats> {
        self.groups.retain(|_, group| group.count > 0);
        let mut reported = std::mem::take(&mut self.ended);
        reported.extend(self.groups.values_mut().map(Group::report));
        self.due = None;
        reported.sort_by_key(|repeats| repeats.of);
        reported
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
                    reported.push(group.report());
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

/// How many processes; `None`: none is known, although there was one.
pub fn distinct(processes: &HashSet<u32>) -> Option<u64> {
    (!processes.is_empty()).then_some(processes.len() as u64)
}

impl Group {
    /// Whether it has been silent for so long that the next one is reported.
    fn is_over(&self, now: Mono) -> bool {
        self.count == 0 && now.since(self.last) > SILENCE_NS
    }

    /// Gives the count, and begins the next one.
    fn report(&mut self) -> Repeats {
        let repeats = self.repeats();
        self.count = 0;
        self.processes.clear();
        self.due = Mono(self.due.0.saturating_add(PERIOD_NS).max(self.last.0));
        repeats
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
pub(super) mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use crate::model::kernel_event::{Role, SentBy, Via};
    use crate::model::process::Process;

    /// Of a process and a destination of its own.
    pub fn refused(number: u32) -> Refused {
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
        }
        assert_eq!(groups.groups.len(), GROUPS_MAX);
        counted += groups.end_all().iter().map(|repeats| repeats.count).sum::<u64>();
        assert_eq!(counted, u64::from(REFUSALS));
    }
}
