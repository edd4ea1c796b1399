//! The state as a whole: what is known of the host, joined over the tables that the other files hold.

use std::collections::BTreeSet;

use super::binds::Binds;
use super::dumps::Dumps;
use super::elsewhere::Elsewhere;
use super::followed_ports::FollowedPorts;
use super::forwarders::Forwarders;
use super::health::Health;
use super::listeners::Listeners;
use super::namespaces::{FRESH_NS, Namespaces};
use super::next_hops::NextHops;
use super::openings::Openings;
use super::processes::Processes;
use super::refused::RefusedProcesses;
use super::servers::Servers;
use super::settings::SettingsBook;
use super::transition::Transition;
use super::turns::Turns;
use super::users_at_exec::UsersAtExec;
use crate::model::hash::HashMap;
use crate::model::process::{OwnerEnd, Process};
use crate::model::service;
use crate::model::socket::{Listener, NetnsId};
use crate::model::time::{Interval, Mono};

/// What is known of the host.
#[derive(Debug, Default)]
pub struct HostState {
    pub listeners: Listeners,
    pub turns: Turns,
    pub namespaces: Namespaces,
    pub binds: Binds,
    pub servers: Servers,
    pub elsewhere: Elsewhere,
    pub forwarders: Forwarders,
    pub settings: SettingsBook,
    pub processes: Processes,
    pub users_at_exec: UsersAtExec,
    pub health: Health,
    pub followed: FollowedPorts,
    pub next_hops: NextHops,
    /// Processes that were refused themselves.
    pub refused: RefusedProcesses,
    /// Nanoseconds from the monotonic clock to the time since boot.
    pub boottime_offset: i128,
    /// When it was last read which processes hold the listeners of a namespace.
    pub(super) owners_read: HashMap<NetnsId, OwnersRead>,
    /// Processes that had ended when a query still found them to hold a listener.
    pub(super) let_go: BTreeSet<u32>,
    /// Which known listeners the dumps list.
    pub dumps: Dumps,
    /// Listeners whose `listen()` may still fail.
    pub openings: Openings,
}

/// When it was read which processes hold the listeners of a namespace.
#[derive(Clone, Copy, Debug)]
pub struct OwnersRead {
    pub read: Interval,
    /// When the listeners themselves were last dumped with it.
    pub dumped: Mono,
}

impl HostState {
    /// When the listeners' owners in a namespace were last read.
    pub fn owners_read(&self, netns: NetnsId) -> Option<OwnersRead> {
        self.owners_read.get(&netns).copied()
    }

    /// Processes that had ended and were found to hold a listener all the same: its next holder is to be queried.
    pub fn let_go(&mut self) -> BTreeSet<u32> {
        std::mem::take(&mut self.let_go)
    }

    /// Whether what is known of a namespace's addresses is older than the event, and more than a moment old: a query
    /// costs a fraction of a millisecond.
    pub fn is_stale(&self, netns: NetnsId, at: Mono, now: Mono) -> bool {
        self.namespaces.last_read(netns).is_none_or(|read| read.is_stale(at, now, FRESH_NS))
    }

    /// Whether a namespace's number has been given to another one.
    pub fn is_replaced(&self, netns: NetnsId, cookie: u64) -> bool {
        let known = self.namespaces.cookie(netns);
        cookie != 0 && known != 0 && cookie != known
    }

    /// Whether a namespace has a process that may be the server and listen elsewhere: a candidate, the last owner of a
    /// listener, or the process that it had it from.
    pub fn has_server(&self, netns: NetnsId, at: Mono) -> bool {
        !self.servers.running(netns, at).is_empty()
            || self
                .listeners
                .closed_in(netns)
                .any(|closed| closed.owner == OwnerEnd::Running || closed.is_by_fork())
    }

    /// Whether a process runs the program of one that has, or had, a listener, or tried to have one.
    pub fn runs_a_server(&self, process: &Process) -> bool {
        let is_it = |other: &Process| {
            service::is_same_program(other, process)
                && (service::is_same_user(other, process) || service::is_started_by_same_user(other, process))
        };
        let closed = self.listeners.every_closed().map(|closed| &closed.listener.process);
        self.listeners.open().map(|listener| &listener.process).chain(closed).any(is_it)
            || self.binds.tried().any(is_it)
    }

    /// A socket with all that is known of its process.
    pub fn described_socket(&self, socket: &Listener) -> Listener {
        let described = self.processes.describe(&socket.process);
        Listener { process: self.with_user_at_exec(described), ..socket.clone() }
    }

    /// A process with the user that it executed its program as, where that was seen.
    pub fn with_user_at_exec(&self, process: Process) -> Process {
        let uid_at_exec = process.uid_at_exec.or_else(|| self.users_at_exec.of(&process));
        Process { uid_at_exec, ..process }
    }

    /// Whether a process has ended, as far as that is known.
    pub fn has_ended(&self, process: &Process) -> bool {
        self.processes.has_ended(process, self.boottime_offset)
    }

    /// How many hops a process that holds watched listeners, or listens where such a process connects to, or whose parent
    /// does, is behind a port of the run.
    pub fn hops_of(&self, process: &Process) -> u8 {
        let of_holder = |pid: u32| {
            let held = self.listeners.open().filter(move |listener| listener.process.pid == Some(pid));
            let watched = held.map(|listener| self.followed.hops(listener.port)).min();
            watched.into_iter().chain(self.next_hops.hops(pid)).min()
        };
        let parent = || process.ppid.and_then(of_holder);
        process.pid.and_then(of_holder).or_else(parent).unwrap_or(0)
    }

    /// Forgets everything about a port that is not watched any more.
    pub fn forget_port(&mut self, port: u16) {
        self.listeners.forget_port(port);
        self.turns.forget_port(port);
        self.binds.forget_port(port);
    }

    /// Forgets everything about a namespace that has ended, with all its sockets.
    pub fn forget(&mut self, netns: NetnsId) -> Transition {
        self.listeners.forget(netns);
        self.turns.forget(netns);
        self.namespaces.forget(netns);
        self.binds.forget(netns);
        self.servers.forget(netns);
        self.elsewhere.forget(netns);
        self.forwarders.forget(netns);
        self.openings.forget(netns);
        self.next_hops.forget(netns);
        self.refused.forget(netns);
        self.dumps.forget(netns);
        self.owners_read.remove(&netns);
        Transition::Forgotten(netns)
    }

    /// A number that now has another cookie is another namespace's: the old one has ended, with all its sockets.
    pub fn forget_if_replaced(&mut self, netns: NetnsId, cookie: u64) -> Option<Transition> {
        self.is_replaced(netns, cookie).then(|| self.forget(netns))
    }

    /// The host could not be read: what rests on an absence is uncertain until it can be.
    pub fn unreadable(&mut self, read: Interval) {
        self.namespaces.set_partial();
        self.health.is_absence_verified |= self.health.ready;
        self.health.host_read = Some(read);
    }
}
