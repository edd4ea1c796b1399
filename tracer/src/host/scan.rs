//! Scans: of one network namespace or of all, the namespace itself, its listeners, and the processes that hold them.
//!
//! ```text
//! netns (which there are) ─▶ enter each: sock_diag (listeners), namespace (addresses) ─▶ owners
//! ```

use std::collections::HashMap;
use std::thread;

use anyhow::Context as _;

use crate::host::enter::{Failure, enter, on_threads, visit};
use crate::host::netns::{self, Place};
use crate::host::owners::{self, Descriptors};
use crate::host::process::{Described, Handle};
use crate::host::{namespace, sock_diag};
use crate::model::namespace::Namespace;
use crate::model::process::Process;
use crate::model::socket::{Holder, Listener, NetnsId};
use crate::query::{KnownSocket, Observation, Scan, ScanScope, Unreadable};

/// Threads that read namespaces at a time, at most: on a host in trouble its processors are wanted elsewhere.
const READERS: usize = 4;

/// Namespaces that are worth a thread.
const SHARE: usize = 32;

/// Listeners and processes that are remembered: more than a host has on a few ports.
const OWNERS_MAX: usize = 16_384;

/// Reads listeners on some ports. Blocks for as long as the kernel takes: about 0.1 ms a namespace, and 1 µs
/// for each file descriptor of each process until the owners are found.
#[derive(Debug, Default)]
pub struct Scanner {
    /// Those of the run first.
    ports: Vec<u16>,
    /// How many are those of the run.
    configured: usize,
    descriptors: Descriptors,
    /// The owner of each listener that was found, by inode number and cookie: it is searched for once.
    owners: HashMap<(u64, u64), Process>,
    /// What was read of the owners, by process number.
    described: HashMap<u32, Described>,
}

impl Scanner {
    pub fn new(ports: &[u16]) -> Self {
        Self { ports: ports.to_vec(), configured: ports.len(), ..Self::default() }
    }

    /// Other ports are watched now besides those of the run.
    pub fn set_added_ports(&mut self, added: Vec<u16>) {
        self.ports.truncate(self.configured);
        self.ports.extend(added);
    }

    /// Every namespace of the host. One that fails is listed as unreadable; one that ended meanwhile is
    /// left out.
    ///
    /// # Errors
    /// Where `/proc` cannot be read, or with [`Unavailable`](sock_diag::Unavailable) (to be had by `downcast_ref`) where
    /// the kernel lists no sockets.
    pub fn host(&mut self) -> anyhow::Result<Scan> {
        let ports = self.ports.clone();
        self.every_namespace(&ports)
    }

    /// The same with the listeners on one port.
    ///
    /// # Errors
    /// As [`Self::host`].
    pub fn port(&mut self, port: u16) -> anyhow::Result<Scan> {
        Ok(Scan { scope: ScanScope::Port(port), ..self.every_namespace(&[port])? })
    }

    fn every_namespace(&mut self, ports: &[u16]) -> anyhow::Result<Scan> {
        let survey = netns::survey().context("cannot read `/proc`")?;
        // The own one is the first: a thread begins in it.
        let threads = thread::available_parallelism().map_or(1, usize::from).min(READERS);
        let share = survey.places.len().div_ceil(threads).max(SHARE);
        let work = survey.places.chunks(share).map(|places| {
            || {
                let read = |place: &Place| {
                    enter(place)?;
                    read(ports, place)
                };
                places.iter().map(|place| (place, read(place))).collect::<Vec<_>>()
            }
        });
        let results = on_threads(work).context("cannot start a thread")?;
        let mut scan = Scan {
            scope: ScanScope::Host { is_partial: survey.is_partial },
            namespaces: Vec::new(),
            listeners: Vec::new(),
            unreadable: Vec::new(),
        };
        for (place, result) in results.into_iter().flatten() {
            match result {
                Ok((namespace, listeners)) => {
                    scan.namespaces.push(namespace);
                    scan.listeners.extend(listeners);
                }
                Err(Failure::Ended) => {}
                Err(Failure::Unavailable(err)) if place.is_own => return Err(err.into()),
                Err(failure) => scan.unreadable.push(Unreadable { id: place.id, why: failure.why() }),
            }
        }
        self.fill(&mut scan.listeners, || survey.processes.clone());
        Ok(scan)
    }

    /// The own namespace alone. Needs no privilege: owners that cannot be read have a user id only.
    ///
    /// # Errors
    /// As [`Self::host`].
    pub fn own(&mut self) -> anyhow::Result<Scan> {
        let place = netns::own_place().context("cannot read `/proc`")?;
        match read(&self.ports, &place) {
            Ok((namespace, listeners)) => Ok(self.one(namespace, listeners)),
            Err(Failure::Unavailable(err)) => Err(err.into()),
            Err(failure) => Err(anyhow::anyhow!("cannot read `{}`: {}", place.id, failure.why())),
        }
    }

    /// One namespace with its listeners: what [`Self::host`] finds of it, alone. `pid_hint` is a process that was in
    /// it.
    pub fn namespace(&mut self, id: NetnsId, pid_hint: Option<u32>) -> Scan {
        let ports = self.ports.clone();
        match visit(id, pid_hint, |place| read(&ports, place)) {
            Ok((namespace, listeners)) => self.one(namespace, listeners),
            Err(unreadable) => Scan {
                scope: ScanScope::Namespace(id),
                namespaces: Vec::new(),
                listeners: Vec::new(),
                unreadable: vec![unreadable],
            },
        }
    }

    fn one(&mut self, namespace: Namespace, mut listeners: Vec<Listener>) -> Scan {
        self.fill(&mut listeners, || netns::processes().unwrap_or_default());
        let scope = ScanScope::Namespace(namespace.id);
        Scan { scope, namespaces: vec![namespace], listeners, unreadable: Vec::new() }
    }

    /// Which process holds each listener of a namespace now. Where all of `known` are still held by those that held them,
    /// the namespace is not read again.
    pub fn owners(&mut self, id: NetnsId, known: Option<Vec<KnownSocket>>) -> Observation {
        if let Some(owners) = known.and_then(|known| self.confirm_whole(id, &known)) {
            return owners;
        }
        let ports = self.ports.clone();
        let (namespaces, mut listeners, unreadable) = match visit(id, None, |place| read(&ports, place)) {
            Ok((namespace, listeners)) => (vec![namespace], listeners, Vec::new()),
            Err(unreadable) => (Vec::new(), Vec::new(), vec![unreadable]),
        };
        let Self { descriptors, owners, .. } = self;
        let owner = |listener: &Listener| owners.get(&(listener.key.inode, listener.key.cookie)).cloned();
        let processes = || netns::processes().unwrap_or_default();
        owners::refresh(listeners.iter_mut().collect(), descriptors, owner, processes);
        listeners.iter().for_each(|listener| self.remember(listener));
        Observation::Scan(Scan { scope: ScanScope::Owners(id), namespaces, listeners, unreadable })
    }

    /// The same where all of `known` are still held by those that held them, which have executed nothing since they were
    /// described; `None`: that takes a scan. Of each holder it reads `stat` and `status` and two links, none of which waits
    /// for another process or for a file system (`do_task_stat`, `proc_pid_status`, `proc_pid_readlink`; Linux 6.18).
    pub fn confirm(&mut self, id: NetnsId, known: &[KnownSocket]) -> Option<Observation> {
        let Self { described, descriptors, .. } = self;
        let again = |handle: &Handle| handle.describe_again(described.get(&handle.pid())?);
        let owners = owners::confirm(known, again, descriptors)?;
        let owners = owners.into_iter().map(|(inode, described)| (inode, described.process)).collect();
        Some(Observation::Owners { netns: id, owners })
    }

    /// The same, with all read again.
    fn confirm_whole(&mut self, id: NetnsId, known: &[KnownSocket]) -> Option<Observation> {
        let mut owners = Vec::new();
        for (inode, described) in owners::confirm(known, Handle::describe, &mut self.descriptors)? {
            owners.push((inode, described.process.clone()));
            self.set_described(described);
        }
        Some(Observation::Owners { netns: id, owners })
    }

    /// Takes what another scanner read of a process.
    pub fn set_described(&mut self, described: Described) {
        let Some(pid) = described.process.pid else { return };
        if self.described.len() >= OWNERS_MAX && !self.described.contains_key(&pid) {
            self.described.clear();
        }
        self.described.insert(pid, described);
    }

    /// What this scanner read of owners since the last call, for another.
    pub fn take_described(&mut self) -> Vec<Described> {
        self.described.drain().map(|(_, described)| described).collect()
    }

    /// What is listened to in one namespace on ports other than the watched ones.
    pub fn other_ports(&mut self, id: NetnsId) -> Vec<Listener> {
        let mut listeners = self.every_listener(id);
        listeners.retain(|listener| !self.ports.contains(&listener.port));
        find_owners(&mut listeners);
        listeners
    }

    /// Everything that is listened to in one namespace, without the owners.
    pub fn every_listener(&self, id: NetnsId) -> Vec<Listener> {
        visit(id, None, |_| Ok(sock_diag::every_listener(&mut sock_diag::open()?, id)?)).unwrap_or_default()
    }

    /// Which sockets hold a port of one namespace.
    pub fn holders(&mut self, id: NetnsId, port: u16) -> Vec<Holder> {
        let read = |_: &Place| Ok(sock_diag::holders(&mut sock_diag::open()?, id, port)?);
        let mut sockets = visit(id, None, read).unwrap_or_default();
        find_owners(sockets.iter_mut().map(|holder| &mut holder.socket));
        // A socket without an inode has no owner any more: its user id 0 is not that of a user.
        for orphan in sockets.iter_mut().filter(|holder| holder.socket.key.inode == 0) {
            orphan.socket.process = Process::default();
        }
        sockets
    }

    /// Fills in which process holds each listener: for one whose owner was found before, that.
    fn fill(&mut self, listeners: &mut [Listener], processes: impl FnOnce() -> netns::Processes) {
        let mut new = Vec::new();
        for listener in listeners.iter_mut() {
            match self.owners.get(&(listener.key.inode, listener.key.cookie)) {
                Some(process) if listener.key.cookie != 0 => listener.process = process.clone(),
                _ => new.push(listener),
            }
        }
        if new.is_empty() {
            return;
        }
        owners::fill(new, &processes());
        listeners.iter().for_each(|listener| self.remember(listener));
    }

    fn remember(&mut self, listener: &Listener) {
        if listener.process.pid.is_some() {
            if self.owners.len() >= OWNERS_MAX {
                self.owners.clear();
            }
            self.owners.insert((listener.key.inode, listener.key.cookie), listener.process.clone());
        }
    }
}

/// The namespace that the thread is in, with its listeners.
fn read(ports: &[u16], place: &Place) -> Result<(Namespace, Vec<Listener>), Failure> {
    let listeners = sock_diag::listeners(&mut sock_diag::open()?, place.id, ports)?;
    Ok((namespace::read(place)?, listeners))
}

/// Fills in which process holds each socket.
fn find_owners<'a>(sockets: impl IntoIterator<Item = &'a mut Listener>) {
    let sockets: Vec<_> = sockets.into_iter().collect();
    if !sockets.is_empty() {
        owners::fill(sockets, &netns::processes().unwrap_or_default());
    }
}
