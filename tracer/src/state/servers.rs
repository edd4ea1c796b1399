//! Server candidates: processes that may be the server, and what became of each.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use crate::model::hash::{HashMap, HashSet};
use crate::model::process::{ExitStatus, Process};
use crate::model::service;
use crate::model::socket::{Listener, NetnsId};
use crate::model::time::{Interval, Mono};
use crate::query::Candidate;
use crate::state::instances::{Instance, Roots};
use crate::state::quota::{self, Dropped};

/// Candidates remembered: of the user that has the most, in the namespace where that has the most, those that ended longest
/// ago go first, then the youngest, so that unverified servers hide no server of another user, of another namespace, or that was
/// there before them.
const CANDIDATES_MAX: usize = 256;

/// Namespaces of which it is remembered that candidates were dropped.
const DROPPED_MAX: usize = 4_096;

/// Clients remembered, so that none is taken for a server.
const CLIENTS_MAX: usize = 1_024;

/// Processes remembered that were seen to execute a program.
const EXECUTED_MAX: usize = 4_096;

/// Two records of one exec, of redundant programs, come within this time.
const SAME_EXECUTION_NS: u64 = 1_000_000;

/// How long the end of a candidate is a reason for a refusal.
const MEMORY_NS: u64 = 300_000_000_000;

/// What is known of a server candidate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerCandidate {
    /// Its process is the one that executed the program.
    pub candidate: Candidate,
    pub instance: Instance,
    /// When it was first known to listen, or to have listened, on each watched port; `None`: since before the trace.
    listened: BTreeMap<u16, Option<Mono>>,
    /// The watched ports that it has called bind() or listen() on.
    called: BTreeSet<u16>,
    /// It has connected to one: a client, whatever it calls itself.
    is_client: bool,
    /// Nothing but its own `bind()` makes it a candidate.
    is_by_call: bool,
    /// The arguments that it was executed with make it a product's server.
    is_by_arguments: bool,
    /// It was seen to execute its program: the kernel side reports its end.
    is_followed: bool,
    /// When it was last seen running.
    seen: Mono,
    /// When a search of every process did not find it any more: after that it does not count, though its end was not
    /// reported.
    missed: Option<Mono>,
}

impl ServerCandidate {
    /// Whether it was running at that time, as far as is known.
    pub fn is_running(&self, at: Mono) -> bool {
        !self.instance.is_over(at) && self.missed.is_none_or(|missed| at <= missed)
    }

    /// Whether it had listened on a port by that time.
    pub fn had_listened(&self, port: u16, at: Mono) -> bool {
        self.listened.get(&port).is_some_and(|listened| listened.is_none_or(|listened| listened <= at))
    }

    /// When it ended, and how.
    pub fn end(&self) -> Option<(Mono, ExitStatus)> {
        self.instance.end()
    }

    fn listens(&mut self, port: u16, since: Option<Mono>) {
        let known = self.listened.entry(port).or_insert(since);
        *known = since.min(*known);
    }
}

/// The last program that a process was seen to execute.
#[derive(Debug)]
struct Execution {
    time: Mono,
    process: Process,
    /// The process that had executed what it ran before.
    before: u32,
}

#[derive(Debug, Default)]
pub struct Servers {
    candidates: HashMap<u32, Vec<ServerCandidate>>,
    clients: HashSet<u32>,
    /// Processes that were seen to execute a program.
    executed: HashMap<u32, Execution>,
    /// Which process each fork descends from.
    roots: Roots,
    /// When the processes of the host were last searched for candidates.
    searched: Option<Interval>,
    /// Candidates that the bound has dropped, by namespace.
    dropped: HashMap<NetnsId, Dropped>,
    /// Until when ends may not have been reported.
    lost_until: Option<Mono>,
}

impl Servers {
    /// Takes a process that may be the server. A fork of one that is known is part of that instance: only a process that
    /// has executed a program is one of its own.
    pub fn add(&mut self, candidate: Candidate, listened: impl IntoIterator<Item = (u16, Option<Mono>)>) {
        let Some(pid) = candidate.process.pid else {
            return;
        };
        if self.is_fork(&candidate) {
            return;
        }
        let by_forks = self.listened_by_forks_of(&candidate);
        let is_followed = self.executed.contains_key(&pid);
        let (is_client, seen) = (self.clients.contains(&pid), candidate.time);
        let since = self.executed.get(&pid).map(|execution| execution.time);
        let instances = self.candidates.entry(pid).or_default();
        // The process that had this number before has ended, which was not reported.
        let started = candidate.process.start;
        instances.retain(|known| known.instance.is_closed() || known.candidate.process.start == started);
        // It was read before it ended, and the answer came after that.
        let is_past = |known: &ServerCandidate| known.instance.over().is_some_and(|over| over >= seen);
        if instances.iter().any(|known| known.instance.had(pid, seen) && is_past(known)) {
            return;
        }
        if let Some(known) = instances.iter_mut().find(|known| known.instance.has(pid)) {
            // The same process under another name, or found twice.
            known.seen = known.seen.max(candidate.time);
            known.missed = None;
            known.is_followed = is_followed;
            // It has not executed another program since.
            let uid_at_exec = candidate.process.uid_at_exec.or(known.candidate.process.uid_at_exec);
            let process = Process { uid_at_exec, ..candidate.process };
            known.candidate = Candidate { since: known.candidate.since, process, ..candidate };
            known.is_by_call = false;
            listened.into_iter().for_each(|(port, since)| known.listens(port, since));
            return;
        }
        if self.roots.of(pid) != pid {
            // Of the process that it descends from, nothing is known.
            self.roots.left(pid);
        }
        let candidate = Candidate { since: since.unwrap_or(candidate.since), ..candidate };
        let mut known = ServerCandidate {
            instance: Instance::new(pid, candidate.since),
            candidate,
            listened: BTreeMap::new(),
            called: BTreeSet::new(),
            is_client,
            is_by_call: false,
            is_followed,
            is_by_arguments: false,
            seen,
            missed: None,
        };
        self.roots.forks_of(pid, since).for_each(|fork| known.instance.forked(fork, known.candidate.since));
        listened.into_iter().for_each(|(port, since)| known.listens(port, since));
        by_forks.into_iter().for_each(|(port, since)| known.listens(port, since));
        instances.push(known);
        if self.candidates.values().map(Vec::len).sum::<usize>() > CANDIDATES_MAX {
            self.drop_one(seen);
        }
    }

    /// When the newest candidate of a namespace was dropped that may have been of a process's user, of those that could
    /// still explain a refusal.
    pub fn dropped(&self, netns: NetnsId, of: Option<&Process>, now: Mono) -> Option<Mono> {
        let newest = self.dropped.get(&netns)?.newest_of(of)?;
        (now.since(newest) < MEMORY_NS).then_some(newest)
    }

    /// Whether a process runs what its parent runs, without having been seen to execute it.
    fn is_fork(&self, candidate: &Candidate) -> bool {
        let process = &candidate.process;
        let has_executed = process.pid.is_some_and(|pid| self.executed.contains_key(&pid));
        let parent = process.ppid.and_then(|ppid| self.candidates.get(&self.roots.of(ppid)));
        let mut running = parent.into_iter().flatten().filter(|known| !known.instance.is_closed());
        let is_known =
            process.pid.is_some_and(|pid| self.roots.of(pid) != pid && self.current(pid).is_some());
        is_known
            || !has_executed
                && running.any(|known| service::is_same_program(&known.candidate.process, process))
    }

    /// What the forks of a process have listened on, which were known by that before the process itself was found.
    fn listened_by_forks_of(&self, parent: &Candidate) -> Vec<(u16, Option<Mono>)> {
        let process = &parent.process;
        let is_fork = |known: &&ServerCandidate| {
            let Candidate { process: fork, since, .. } = &known.candidate;
            known.is_by_call
                && fork.ppid == process.pid
                && *since >= parent.since
                && !fork.pid.is_some_and(|pid| self.executed.contains_key(&pid))
                && service::is_same_program(fork, process)
        };
        let forks = self.candidates.values().flatten().filter(is_fork);
        forks.flat_map(|fork| fork.listened.iter().map(|(port, since)| (*port, *since))).collect()
    }

    /// The instance that a process is of.
    fn current(&self, pid: u32) -> Option<&ServerCandidate> {
        let instances = self.candidates.get(&self.roots.of(pid));
        instances.into_iter().flatten().find(|known| known.instance.has(pid))
    }

    fn current_mut(&mut self, pid: u32) -> Option<&mut ServerCandidate> {
        let instances = self.candidates.get_mut(&self.roots.of(pid));
        instances.into_iter().flatten().find(|known| known.instance.has(pid))
    }

    /// The instance that a process was of then.
    pub fn instance_of(&self, pid: u32, at: Mono) -> Option<&ServerCandidate> {
        // Mostly it executed the program itself.
        let own = self.candidates.get(&pid).into_iter().flatten().find(|known| known.instance.had(pid, at));
        own.or_else(|| self.candidates.values().flatten().find(|known| known.instance.had(pid, at)))
    }

    /// When a process last executed a program, as far as that was seen.
    pub fn last_execution(&self, pid: u32) -> Option<Mono> {
        self.executed.get(&pid).map(|execution| execution.time)
    }

    /// A process as it last executed a program, where that was after one time and by another.
    pub fn executed_within(&self, pid: u32, (after, until): (Mono, Mono)) -> Option<&Process> {
        let execution = self.executed.get(&pid)?;
        (execution.time > after && execution.time <= until).then_some(&execution.process)
    }

    /// The processes of an instance, and those that its first process forked before it executed the same program once more: a
    /// master that does so for each reload. The first process comes first.
    pub fn processes_of(&self, known: &ServerCandidate, at: Mono) -> Vec<u32> {
        let process = &known.candidate.process;
        let is_alike = |fork: &u32| {
            let instance = self.instance_of(*fork, at);
            instance.is_some_and(|other| service::is_same_program(&other.candidate.process, process))
        };
        let first = process.pid.filter(|pid| known.instance.had(*pid, at));
        let forks = process.pid.into_iter().flat_map(|pid| self.roots.forks_of(pid, None)).filter(is_alike);
        let mut processes: Vec<u32> = known.instance.processes(at).chain(forks).collect();
        processes.sort_unstable_by_key(|pid| (Some(*pid) != first, *pid));
        processes.dedup();
        processes
    }

    /// The process that executed the program which a fork of it runs; `None`: the process is not known to be a fork.
    pub fn forked_from(&self, pid: u32) -> Option<u32> {
        Some(self.roots.of(pid)).filter(|root| *root != pid)
    }

    /// Whether two processes were of one instance before the first of them executed the program that it runs.
    pub fn was_of_one_instance(&self, executed: u32, other: u32) -> bool {
        let before = self.executed.get(&executed).map(|execution| execution.before);
        other == executed || before.is_some_and(|before| before == self.roots.of(other))
    }

    /// A process has called `bind()` on a watched port: whatever comes of it, its instance may be the server.
    pub fn called(
        &mut self,
        socket: &Listener,
        time: Mono,
        boottime_offset: i128,
        listened: impl IntoIterator<Item = (u16, Option<Mono>)>,
    ) {
        let Listener { netns, port, ref process, .. } = *socket;
        let Some(pid) = process.pid else { return };
        // Whatever it asked for before: a client that takes the port to connect from it is one again when it does.
        self.clients.remove(&pid);
        if let Some(known) = self.current_mut(pid) {
            known.is_client = false;
            known.called.insert(port);
            // It may have given up root since.
            if known.candidate.process.is_same(process) {
                known.candidate.process.uid = process.uid;
            }
            return;
        }
        // What it runs, the process that executed it runs too.
        let root = self.roots.of(pid);
        let first = match self.executed.get(&root) {
            _ if root == pid => process.clone(),
            Some(Execution { process: first, .. }) => {
                Process { exe: process.exe.clone(), uid_at_exec: process.uid_at_exec, ..first.clone() }
            }
            None => Process { pid: Some(root), ns_pid: None, ppid: None, start: None, ..process.clone() },
        };
        let started = first.start.map(|start| start.latest(boottime_offset));
        let executed = self.executed.get(&root).map(|execution| execution.time);
        let listened: Vec<(u16, Option<Mono>)> =
            listened.into_iter().filter(|(_, since)| *since >= executed).collect();
        let since = started.map_or(time, |since| since.min(time));
        self.add(
            Candidate { time, since, netns, process: first, product: None, port: None, is_named: false },
            listened,
        );
        if let Some(known) = self.current_mut(pid) {
            known.is_by_call = true;
            known.called.insert(port);
        }
    }

    /// What made a process a candidate was a client's socket.
    pub fn has_not_called(&mut self, process: &Process) {
        let Some(pid) = process.pid else { return };
        if let Some(known) = self.current_mut(pid) {
            known.called.clear();
        }
        let root = self.roots.of(pid);
        if let Some(instances) = self.candidates.get_mut(&root) {
            instances.retain(|known| !known.is_by_call || !known.instance.has(pid));
        }
    }

    /// Adds what was found out of a process. `read`: when it began to be read, which may have been before it executed another
    /// program. One that has ended is read as what it was.
    pub fn describe(&mut self, process: &Process, read: Mono) {
        let instances = process.pid.and_then(|pid| self.candidates.get_mut(&pid));
        for known in instances.into_iter().flatten() {
            // Of a process that has executed another program since, the description is of that.
            let instance = &known.instance;
            let is_of = |pid| instance.has(pid) || instance.had(pid, read) || instance.end_of(pid).is_some();
            if process.pid.is_some_and(is_of) {
                known.candidate.process.complete(process);
            }
        }
    }

    /// A process has a new child.
    pub fn forked(&mut self, parent: u32, child: u32, time: Mono) {
        if let Some(known) = self.current_mut(parent) {
            known.instance.forked(child, time);
        }
        self.roots.forked(parent, child, time);
    }

    /// A process has executed a program: what it did before counts for the instance that it was of. `holds`: whether a process
    /// holds a listener.
    pub fn executed(&mut self, process: &Process, time: Mono, holds: impl Fn(u32) -> bool) {
        let Some(pid) = process.pid else { return };
        let is_known = |known: &Execution| {
            known.process.comm == process.comm && time.since(known.time) < SAME_EXECUTION_NS
        };
        if self.executed.get(&pid).is_some_and(is_known) {
            return;
        }
        if let Some(known) = self.current_mut(pid) {
            known.instance.executed(pid, time);
            known.is_followed = false;
        }
        self.see_ends(pid, time, holds);
        let before = self.roots.of(pid);
        self.roots.left(pid);
        if self.executed.len() >= EXECUTED_MAX {
            self.executed.clear();
        }
        self.executed.insert(pid, Execution { time, process: process.clone(), before });
    }

    /// The processes of the host have been searched for candidates, which were added; not all of them, where `/proc` did
    /// not list them.
    ///
    /// A candidate that was not found has ended, unless its end would have been reported: then it has another name by now.
    /// A server may overwrite its name and its arguments while it starts.
    pub fn searched(&mut self, read: Interval, is_complete: bool) {
        self.searched = Some(read);
        if !is_complete {
            return;
        }
        for known in self.candidates.values_mut().flatten() {
            let is_reported = known.is_followed && self.lost_until.is_none_or(|lost| lost < known.seen);
            if !known.instance.is_closed()
                && known.candidate.is_named
                && known.missed.is_none()
                && known.seen < read.began
                && !is_reported
            {
                known.missed = Some(read.ended);
            }
        }
    }

    /// Ends may not have been reported until then.
    pub fn lost(&mut self, until: Mono) {
        self.lost_until = self.lost_until.max(Some(until));
    }

    /// Drops a candidate where there are too many.
    fn drop_one(&mut self, now: Mono) {
        let of_all = self.candidates.values().flatten();
        let mut order: Vec<&ServerCandidate> = of_all.collect();
        order.sort_by_key(|known| {
            let ended = known.instance.over();
            (ended.is_none(), ended, Reverse(known.candidate.since), known.candidate.process.pid)
        });
        let uid = |known: &ServerCandidate| known.candidate.process.uid;
        let most = quota::first_of_most(order.iter().map(|known| uid(known))).map(|place| uid(order[place]));
        order.retain(|known| Some(uid(known)) == most);
        let one = quota::first_of_most(order.iter().map(|known| known.candidate.netns));
        let Some((pid, netns, start, end)) = one.map(|place| {
            let ServerCandidate { candidate, instance, .. } = order[place];
            (candidate.process.pid, candidate.netns, candidate.process.start, instance.over())
        }) else {
            return;
        };
        if self.dropped.len() >= DROPPED_MAX {
            self.dropped.retain(|of, _| *of == netns);
        }
        self.dropped.entry(netns).or_default().note(most.flatten(), now);
        if let Some(instances) = pid.and_then(|pid| self.candidates.get_mut(&pid)) {
            instances.retain(|known| (known.candidate.process.start, known.instance.over()) != (start, end));
        }
        self.candidates.retain(|_, instances| !instances.is_empty());
    }

    /// The arguments of a candidate's exec make it a product's server, and not one of the product's clients.
    pub fn note_arguments(&mut self, pid: u32) {
        if let Some(known) = self.current_mut(pid) {
            known.is_by_arguments = true;
        }
    }

    /// A process has connected to a watched port: it is a client, whatever it calls itself: a server's own
    /// probe goes by the server's name. One that was executed to serve asks whether another one serves already, and one that
    /// has taken another port, or tried to, may be the server of that one.
    pub fn note_client(&mut self, pid: u32, port: u16) {
        let may_serve = |known: &ServerCandidate| {
            known.is_by_arguments || known.called.iter().any(|called| *called != port)
        };
        if self.current(pid).is_some_and(may_serve) {
            return;
        }
        if self.clients.len() >= CLIENTS_MAX {
            self.clients.clear();
        }
        self.clients.insert(pid);
        if let Some(known) =
            self.candidates.get_mut(&pid).into_iter().flatten().find(|known| known.instance.has(pid))
        {
            known.is_client = true;
        }
    }

    /// A process has listened on a port: the one that had the number then, also where its end is known first.
    pub fn has_listened(&mut self, pid: u32, port: u16, time: Mono) {
        let Some(instances) = self.candidates.get_mut(&self.roots.of(pid)) else { return };
        let had = instances.iter().rposition(|known| known.instance.had(pid, time));
        // It may have been found only after it listened.
        let place = had.or_else(|| instances.iter().rposition(|known| known.instance.has(pid)));
        if let Some(place) = place {
            instances[place].listens(port, Some(time));
        }
    }

    /// A process was found to hold a listener: inherited, it counts as listened by its instance, since that began.
    pub fn holds(&mut self, pid: u32, port: u16, since: Option<Mono>) {
        if let Some(known) = self.current_mut(pid) {
            let began = known.candidate.since;
            known.listens(port, since.max(Some(began)));
        }
    }

    /// Notes which instances have ended by now. `holds`: whether a process holds a listener.
    pub fn see_ends(&mut self, pid: u32, time: Mono, holds: impl Fn(u32) -> bool) {
        for known in self.candidates.get_mut(&self.roots.of(pid)).into_iter().flatten() {
            known.instance.see_end(time, !known.listened.is_empty(), &holds);
        }
    }

    pub fn ended(&mut self, pid: u32, time: Mono, status: ExitStatus, holds: impl Fn(u32) -> bool) {
        if let Some(known) = self.current_mut(pid) {
            known.instance.exited(pid, time, status);
        }
        self.see_ends(pid, time, holds);
        self.clients.remove(&pid);
        self.executed.remove(&pid);
        self.roots.left(pid);
        if !self.candidates.contains_key(&pid) {
            self.roots.forget(pid);
        }
    }

    /// When the processes of the host were last searched for candidates.
    pub fn last_search(&self) -> Option<Interval> {
        self.searched
    }

    fn of(&self, netns: NetnsId) -> impl Iterator<Item = &ServerCandidate> {
        self.candidates
            .values()
            .flatten()
            .filter(move |known| known.candidate.netns == netns && !known.is_client)
    }

    /// Candidates of a namespace that were running at that time, the youngest first.
    pub fn running(&self, netns: NetnsId, at: Mono) -> Vec<&ServerCandidate> {
        let mut running: Vec<&ServerCandidate> =
            self.of(netns).filter(|known| known.is_running(at)).collect();
        running.sort_by_key(|known| (Reverse(known.candidate.since), known.candidate.process.pid));
        running
    }

    /// Candidates of a namespace that had started by then, whatever became of them.
    pub fn started(&self, netns: NetnsId, at: Mono) -> impl Iterator<Item = &ServerCandidate> {
        self.of(netns).filter(move |known| known.candidate.since <= at)
    }

    /// Candidates that have ended without having listened on a port, the last first.
    pub fn ended_without_listening(&self, netns: NetnsId, port: u16, now: Mono) -> Vec<&ServerCandidate> {
        let recently = |known: &&ServerCandidate| {
            known.end().is_some_and(|(time, _)| time <= now && now.since(time) < MEMORY_NS)
        };
        let mut ended: Vec<&ServerCandidate> =
            self.of(netns).filter(|known| !known.had_listened(port, now)).filter(recently).collect();
        ended.sort_by_key(|known| Reverse(known.end().map(|(time, _)| time)));
        ended
    }

    /// Forgets everything about a namespace.
    pub fn forget(&mut self, netns: NetnsId) {
        for instances in self.candidates.values_mut() {
            instances.retain(|known| known.candidate.netns != netns);
        }
        self.candidates.retain(|_, instances| !instances.is_empty());
        self.dropped.remove(&netns);
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;
    use crate::model::socket::SocketKey;
    use crate::model::time::StartTime;

    #[test]
    fn unverified_servers_of_one_user_drop_no_candidate_of_another() {
        let of = |pid: u32, uid: u32| {
            let process = Process {
                pid: Some(pid),
                uid: Some(uid),
                start: Some(StartTime::from_boottime(u64::from(pid) * 1_000_000_000)),
                ..Process::default()
            };
            let (time, netns) = (Mono(u64::from(pid)), NetnsId(1));
            Candidate { time, since: time, netns, process, product: None, port: None, is_named: true }
        };
        let mut servers = Servers::default();
        servers.add(of(1, 0), []);
        servers.add(of(2, 0), []);
        servers.ended(1, Mono(3), ExitStatus::Code(1), |_| false);
        for pid in 10..3 * CANDIDATES_MAX as u32 {
            servers.add(of(pid, 1000), []);
            servers.ended(pid, Mono(u64::from(pid)), ExitStatus::Code(0), |_| false);
        }
        let known = servers.candidates.values().flatten();
        let of_root = known.filter(|known| known.candidate.process.uid == Some(0)).count();
        assert_eq!((of_root, servers.candidates.len()), (2, CANDIDATES_MAX));
        let root = Process { uid: Some(0), ..Process::default() };
        assert_eq!(servers.dropped(NetnsId(1), Some(&root), Mono(1_000)), None);
        assert!(servers.dropped(NetnsId(1), None, Mono(1_000)).is_some());
        assert_eq!(servers.dropped(NetnsId(1), None, Mono(2 * MEMORY_NS)), None, "long ago");
    }

    #[test]
    fn clients_take_no_more_room_than_their_bound() {
        let mut servers = Servers::default();
        for number in 0..3 * CLIENTS_MAX as u32 {
            servers.note_client(number, 80);
            assert!(servers.clients.len() <= CLIENTS_MAX);
        }
    }

    fn named(pid: u32, time: u64) -> Candidate {
        Candidate {
            time: Mono(time),
            since: Mono(time),
            netns: NetnsId(1),
            process: Process { pid: Some(pid), comm: Some("node".into()), ..Process::default() },
            product: None,
            port: None,
            is_named: true,
        }
    }

    fn search(servers: &mut Servers, at: u64) {
        servers.searched(Interval { began: Mono(at), ended: Mono(at + 1) }, true);
    }

    /// A process whose fork was seen first, by what it did.
    #[test]
    fn what_a_fork_has_listened_on_counts_for_its_parent_that_is_found_later() {
        let fork = Process { ppid: Some(7), ..named(8, 0).process };
        let socket = Listener {
            key: SocketKey { inode: 1, cookie: 1 },
            netns: NetnsId(1),
            addr: IpAddr::from([127, 0, 0, 1]),
            port: 80,
            v6only: None,
            device: None,
            backlog: None,
            since: None,
            process: fork,
            opener: None,
        };
        let found = |since: u64| {
            let mut servers = Servers::default();
            servers.called(&socket, Mono(20), 0, []);
            servers.has_listened(8, 80, Mono(21));
            servers.add(named(7, since), []);
            let known = servers.current(7).expect("a candidate");
            known.had_listened(80, Mono(30))
        };
        assert!(found(10));
        assert!(!found(25), "its fork cannot be older");
    }

    #[test]
    fn a_candidate_that_renames_itself_is_still_running() {
        let is_running = |servers: &Servers| !servers.running(NetnsId(1), Mono(1_000)).is_empty();
        let mut servers = Servers::default();
        servers.executed(&named(7, 0).process, Mono(0), |_| false);
        servers.add(named(7, 10), []);
        search(&mut servers, 20);
        assert!(is_running(&servers), "its end would have been reported");
        servers.ended(7, Mono(30), ExitStatus::Code(0), |_| false);
        assert!(!is_running(&servers));
    }

    #[test]
    fn a_candidate_that_is_not_found_has_ended_where_that_may_be_unreported() {
        let is_running = |servers: &Servers| !servers.running(NetnsId(1), Mono(1_000)).is_empty();
        let mut found_by_search = Servers::default();
        found_by_search.add(named(7, 10), []);
        let mut lossy = Servers::default();
        lossy.executed(&named(7, 0).process, Mono(0), |_| false);
        lossy.add(named(7, 10), []);
        lossy.lost(Mono(15));
        let mut became_another = Servers::default();
        became_another.executed(&named(7, 0).process, Mono(0), |_| false);
        became_another.add(named(7, 10), []);
        let other = Process { comm: Some("sleep".into()), ..named(7, 0).process };
        became_another.executed(&other, Mono(15), |_| false);
        assert!(!is_running(&became_another));
        for mut servers in [found_by_search, lossy] {
            assert!(is_running(&servers));
            search(&mut servers, 20);
            assert!(!is_running(&servers));
        }
    }

    #[test]
    fn a_server_that_asks_whether_another_serves_is_not_a_client() {
        let is_running = |servers: &Servers| !servers.running(NetnsId(1), Mono(1_000)).is_empty();
        let started = |is_by_arguments: bool| {
            let mut servers = Servers::default();
            servers.executed(&named(7, 0).process, Mono(0), |_| false);
            servers.add(named(7, 10), []);
            if is_by_arguments {
                servers.note_arguments(7);
            }
            servers.note_client(7, 80);
            servers
        };
        assert!(is_running(&started(true)));
        assert!(!is_running(&started(false)), "its name is its own choice");
    }
}
