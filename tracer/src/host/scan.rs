//! The listeners that are there already, and what a verdict needs to know of each network namespace.
//!
//! ```text
//! netns (which there are) ─▶ for each: sock_diag (listeners), routes (addresses) ─▶ owners
//! ```
//!
//! A namespace is entered, read and left by a thread of its own: `setns()` moves the thread that calls it,
//! and the socket that reads a namespace keeps it from ending.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read as _};
use std::mem::size_of;
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::thread;

use anyhow::Context as _;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::host::netlink::Channel;
use crate::host::netns::{self, Place};
use crate::host::owners::{self, Descriptors};
use crate::host::sock_diag::Unavailable;
use crate::host::{routes, sock_diag};
use crate::model::namespace::Namespace;
use crate::model::process::Process;
use crate::model::socket::{Holder, Listener, NetnsId};
use crate::query::{KnownSocket, Observation, Scan, ScanScope, Unreadable};

/// `SO_NETNS_COOKIE`: asm-generic/socket.h, since 5.14.
const SO_NETNS_COOKIE: libc::c_int = 71;

/// Threads that read namespaces at a time, at most: on a host in trouble its processors are wanted elsewhere.
const READERS: usize = 4;

/// Namespaces that are worth a thread.
const SHARE: usize = 32;

/// Why a namespace was not read.
enum Failure {
    /// No namespace of this host can be read.
    Unavailable(Unavailable),
    /// It has ended.
    Ended,
    Other(String),
}

impl Failure {
    fn other(err: impl ToString) -> Self {
        Self::Other(err.to_string())
    }

    fn why(&self) -> String {
        match self {
            Self::Unavailable(err) => err.to_string(),
            Self::Ended => "it has ended, or nothing that tracer can see leads into it".to_owned(),
            Self::Other(why) => why.clone(),
        }
    }
}

impl From<sock_diag::Error> for Failure {
    fn from(err: sock_diag::Error) -> Self {
        match err {
            sock_diag::Error::Unavailable(err) => Self::Unavailable(err),
            sock_diag::Error::Dump(err) => Self::other(format_args!("listening sockets: {err}")),
        }
    }
}

/// Listeners whose owners are remembered: more than a host has on a few ports.
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
    /// The owners that were confirmed last, by process number: a container is read once.
    described: HashMap<u32, Process>,
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
    /// Where `/proc` cannot be read, or with [`Unavailable`] (to be had by `downcast_ref`) where the
    /// kernel lists no sockets.
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
        if let Some(owners) = known.and_then(|known| self.confirm(id, &known)) {
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

    /// The same where all of `known` are still held by those that held them; `None`: that takes a scan. Of each holder it
    /// reads `stat` and `status` and two links, none of which waits for another process or for a file system
    /// (`do_task_stat`, `proc_pid_status`, `proc_pid_readlink`; Linux 6.18).
    pub fn confirm(&mut self, id: NetnsId, known: &[KnownSocket]) -> Option<Observation> {
        let before = |pid: u32| self.described.get(&pid).cloned();
        let owners = owners::confirm(known, before, &mut self.descriptors)?;
        self.described = owners.iter().filter_map(|(_, one)| Some((one.pid?, one.clone()))).collect();
        Some(Observation::Owners { netns: id, owners })
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
        // A socket without an inode has no owner any more: its user id 0 has no meaning.
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
    Ok((facts(place)?, listeners))
}

/// Fills in which process holds each socket.
fn find_owners<'a>(sockets: impl IntoIterator<Item = &'a mut Listener>) {
    let sockets: Vec<_> = sockets.into_iter().collect();
    if !sockets.is_empty() {
        owners::fill(sockets, &netns::processes().unwrap_or_default());
    }
}

/// Runs `read` inside of a namespace.
fn visit<T: Send>(
    id: NetnsId,
    pid_hint: Option<u32>,
    read: impl Fn(&Place) -> Result<T, Failure> + Sync,
) -> Result<T, Unreadable> {
    let result = match netns::find(id, pid_hint) {
        None => Err(Failure::Ended),
        Some(place) if place.is_own => read(&place),
        Some(place) => on_a_thread(|| {
            enter(&place)?;
            read(&place)
        })
        .unwrap_or_else(|err| Err(Failure::other(err))),
    };
    result.map_err(|failure| Unreadable { id, why: failure.why() })
}

/// Runs `work` on a thread that ends with it, and with the thread its hold on a namespace. It begins in
/// the caller's namespace.
fn on_a_thread<T: Send>(work: impl FnOnce() -> T + Send) -> io::Result<T> {
    on_threads([work]).map(|mut results| results.remove(0))
}

/// The same of several at a time, in their order.
fn on_threads<T: Send, W: FnOnce() -> T + Send>(work: impl IntoIterator<Item = W>) -> io::Result<Vec<T>> {
    thread::scope(|scope| {
        let begin = |work| thread::Builder::new().name("netns".to_owned()).spawn_scoped(scope, work);
        let workers: Vec<_> = work.into_iter().map(begin).collect::<io::Result<_>>()?;
        let results = workers.into_iter().map(thread::ScopedJoinHandle::join);
        results.map(|result| result.map_err(|_| io::Error::other("a thread panicked"))).collect()
    })
}

/// Moves the calling thread into a namespace. It begins in its own, so that one needs no privilege.
fn enter(place: &Place) -> Result<(), Failure> {
    if place.is_own {
        return Ok(());
    }
    let opened = match place.open() {
        // The process that led there may have ended, and the namespace may still exist.
        Err(err) if err.kind() == io::ErrorKind::NotFound => {
            netns::find(place.id, None).ok_or(Failure::Ended)?.open()
        }
        opened => opened,
    };
    let file = match opened {
        Ok(file) => file,
        Err(err) if err.kind() == io::ErrorKind::NotFound => return Err(Failure::Ended),
        Err(err) => return Err(Failure::other(format_args!("opening it: {err}"))),
    };
    move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))
        .map_err(|err| Failure::other(format_args!("entering it: {}", io::Error::from(err))))
}

/// Of the namespace that the thread is in.
fn facts(place: &Place) -> Result<Namespace, Failure> {
    let mut channel = routes::open().map_err(Failure::other)?;
    let links =
        routes::links(&mut channel).map_err(|err| Failure::other(format_args!("interfaces: {err}")))?;
    // Without a VRF it has no effect, and with many namespaces it is the most expensive query: the kernel finds each one's
    // file among those of the same name (`proc_sys_compare`, fs/proc/proc_sysctl.c).
    let has_vrf = links.iter().any(|link| link.vrf_table.is_some());
    Ok(Namespace {
        id: place.id,
        cookie: cookie(&channel),
        name: place.name.clone(),
        is_own: place.is_own,
        links,
        local: routes::local_routes(&mut channel)
            .map_err(|err| Failure::other(format_args!("local addresses: {err}")))?,
        l3mdev_accept: if has_vrf { l3mdev_accept() } else { None },
    })
}

/// The cookie of the channel's namespace; 0 where the kernel has none to give.
fn cookie(channel: &Channel) -> u64 {
    let mut cookie = 0_u64;
    let mut length = size_of::<u64>() as libc::socklen_t;
    // SAFETY: the descriptor is open, the value has the eight bytes of `length`, and the kernel
    // writes no more than that (`sk_getsockopt()`, net/core/sock.c).
    let result = unsafe {
        libc::getsockopt(
            channel.socket().as_raw_fd(),
            libc::SOL_SOCKET,
            SO_NETNS_COOKIE,
            (&raw mut cookie).cast(),
            &raw mut length,
        )
    };
    if result == 0 && length as usize == size_of::<u64>() { cookie } else { 0 }
}

/// `net.ipv4.tcp_l3mdev_accept` of the thread's namespace: `/proc/sys/net` shows that of who opens it.
fn l3mdev_accept() -> Option<bool> {
    let mut value = [0; 16];
    let length =
        File::open("/proc/sys/net/ipv4/tcp_l3mdev_accept").and_then(|mut file| file.read(&mut value)).ok()?;
    let number: u32 = str::from_utf8(&value[..length]).ok()?.trim().parse().ok()?;
    Some(number != 0)
}
