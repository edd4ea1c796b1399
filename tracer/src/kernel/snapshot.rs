//! The listeners that are there already, and what a verdict needs to know of each network namespace.
//!
//! ```text
//! netns (which there are) ─▶ for each: sock_diag (listeners), routes (addresses) ─▶ owners
//! ```
//!
//! A namespace is entered, read and left by a thread of its own: `setns()` moves the thread that calls it,
//! and the socket that reads a namespace keeps it from ending.

pub mod netlink;
pub(crate) mod owners;

use std::fs::File;
use std::io::{self, Read as _};
use std::mem::size_of;
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::thread;

use anyhow::Context as _;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::netns::{self, Place};
use super::sock_diag::Unavailable;
use super::{clock, routes, sock_diag};
use crate::event::{Holders, Listener, Look, Mono, Namespace, NetnsId, OtherPorts, Snapshot, Unreadable};
use crate::line::Process;
use netlink::Channel;
use owners::Descriptors;

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
    Gone,
    Other(String),
}

impl Failure {
    fn other(err: impl ToString) -> Self {
        Self::Other(err.to_string())
    }

    fn why(&self) -> String {
        match self {
            Self::Unavailable(err) => err.to_string(),
            Self::Gone => "it has ended, or nothing that tracer can see leads into it".to_owned(),
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

/// Reads listeners on some ports. Blocks for as long as the kernel takes: about 0.1 ms a namespace, and 1 µs
/// for each file descriptor of each process until the owners are found.
#[derive(Clone, Debug)]
pub struct Snapshotter {
    ports: Vec<u16>,
    descriptors: Descriptors,
}

impl Snapshotter {
    pub fn new(ports: &[u16]) -> Self {
        Self { ports: ports.to_vec(), descriptors: Descriptors::default() }
    }

    /// Every namespace of the host. One that fails is listed as unreadable; one that ended meanwhile is
    /// left out. Who holds a listener is not asked again where `knows` says that it is known.
    ///
    /// Fails where `/proc` cannot be read, or with [`Unavailable`] (to be had by `downcast_ref`) where the
    /// kernel lists no sockets.
    pub fn take(&mut self, knows: impl Fn(&Listener) -> bool) -> anyhow::Result<Snapshot> {
        let began = clock::now();
        let survey = netns::survey().context("cannot read `/proc`")?;
        // The own one is the first: a thread begins in it.
        let threads = thread::available_parallelism().map_or(1, usize::from).min(READERS);
        let share = survey.places.len().div_ceil(threads).max(SHARE);
        let work = survey.places.chunks(share).map(|places| {
            || {
                let read = |place: &Place| {
                    enter(place)?;
                    self.read(place)
                };
                places.iter().map(|place| (place, read(place))).collect::<Vec<_>>()
            }
        });
        let results = on_threads(work).context("cannot start a thread")?;
        let ended = clock::now();

        let mut snapshot = Snapshot {
            is_complete: true,
            owners_of: None,
            began,
            ended,
            namespaces: Vec::new(),
            listeners: Vec::new(),
            unreadable: Vec::new(),
        };
        for (place, result) in results.into_iter().flatten() {
            match result {
                Ok((namespace, listeners)) => {
                    snapshot.namespaces.push(namespace);
                    snapshot.listeners.extend(listeners);
                }
                Err(Failure::Gone) => {}
                Err(Failure::Unavailable(err)) if place.is_own => return Err(err.into()),
                Err(failure) => snapshot.unreadable.push(Unreadable { id: place.id, why: failure.why() }),
            }
        }
        if survey.is_partial {
            let why = "some processes' namespaces are not readable: there may be more".to_owned();
            snapshot.unreadable.push(Unreadable { id: NetnsId(0), why });
        }
        let new = snapshot.listeners.iter_mut().filter(|listener| !knows(listener)).collect();
        owners::fill(new, &survey.processes);
        Ok(snapshot)
    }

    /// The own namespace alone. Needs no privilege: owners that cannot be read have a user id only.
    ///
    /// Fails as [`Self::take`] does.
    pub fn own(&mut self) -> anyhow::Result<Snapshot> {
        let began = clock::now();
        let place = netns::own_place().context("cannot read `/proc`")?;
        match self.read(&place) {
            Ok((namespace, listeners)) => Ok(with_owners(began, namespace, listeners, |_| false)),
            Err(Failure::Unavailable(err)) => Err(err.into()),
            Err(failure) => Err(anyhow::anyhow!("cannot read `{}`: {}", place.id, failure.why())),
        }
    }

    /// One namespace with its listeners: what [`Self::take`] says of it, alone. `pid_hint` is a process that was in
    /// it.
    pub fn listeners_of(
        &mut self,
        id: NetnsId,
        pid_hint: Option<u32>,
        knows: impl Fn(&Listener) -> bool,
    ) -> Snapshot {
        let began = clock::now();
        match visit(id, pid_hint, |place| self.read(place)) {
            Ok((namespace, listeners)) => with_owners(began, namespace, listeners, knows),
            Err(unreadable) => Snapshot {
                is_complete: false,
                owners_of: None,
                began,
                ended: clock::now(),
                namespaces: Vec::new(),
                listeners: Vec::new(),
                unreadable: vec![unreadable],
            },
        }
    }

    /// The same with who holds each listener now; `owner` is who is known to have held it.
    pub fn owners_of(&mut self, id: NetnsId, owner: impl Fn(&Listener) -> Option<u32>) -> Snapshot {
        let mut snapshot = self.listeners_of(id, None, |_| true);
        let listeners = snapshot.listeners.iter_mut().collect();
        owners::refresh(listeners, &mut self.descriptors, owner, || netns::processes().unwrap_or_default());
        Snapshot { owners_of: Some(id), ended: clock::now(), ..snapshot }
    }

    /// The same of listeners that are known in it, as long as each is still held by who is known to have held it;
    /// else `None`. Spares a look into the namespace.
    pub fn owners_still(&mut self, id: NetnsId, known: Vec<Listener>) -> Option<Snapshot> {
        let began = clock::now();
        let listeners = owners::confirm(known, &mut self.descriptors)?;
        Some(Snapshot {
            is_complete: false,
            owners_of: Some(id),
            began,
            ended: clock::now(),
            namespaces: Vec::new(),
            listeners,
            unreadable: Vec::new(),
        })
    }

    /// What is listened to in one namespace on ports other than the watched ones.
    pub fn other_ports(&mut self, id: NetnsId) -> OtherPorts {
        let began = clock::now();
        let read = |_: &Place| Ok(sock_diag::every_listener(&mut sock_diag::open()?, id)?);
        let mut listeners = visit(id, None, read).unwrap_or_default();
        listeners.retain(|listener| !self.ports.contains(&listener.port));
        find_owners(&mut listeners);
        OtherPorts { look: Look { began, ended: clock::now() }, netns: id, listeners }
    }

    /// Who holds a port of one namespace.
    pub fn holders(&mut self, id: NetnsId, port: u16) -> Holders {
        let began = clock::now();
        let read = |_: &Place| Ok(sock_diag::holders(&mut sock_diag::open()?, id, port)?);
        let mut sockets = visit(id, None, read).unwrap_or_default();
        find_owners(sockets.iter_mut().map(|holder| &mut holder.socket));
        // A socket without an inode has no owner any more: its user id 0 says nothing.
        for orphan in sockets.iter_mut().filter(|holder| holder.socket.key.inode == 0) {
            orphan.socket.process = Process::default();
        }
        Holders { look: Look { began, ended: clock::now() }, netns: id, port, sockets }
    }

    /// In the namespace that the thread is in.
    fn read(&self, place: &Place) -> Result<(Namespace, Vec<Listener>), Failure> {
        let listeners = sock_diag::listeners(&mut sock_diag::open()?, place.id, &self.ports)?;
        Ok((facts(place)?, listeners))
    }
}

/// Fills in who holds each socket.
fn find_owners<'a>(sockets: impl IntoIterator<Item = &'a mut Listener>) {
    let sockets: Vec<_> = sockets.into_iter().collect();
    if !sockets.is_empty() {
        owners::fill(sockets, &netns::processes().unwrap_or_default());
    }
}

fn with_owners(
    began: Mono,
    namespace: Namespace,
    mut listeners: Vec<Listener>,
    knows: impl Fn(&Listener) -> bool,
) -> Snapshot {
    let ended = clock::now();
    find_owners(listeners.iter_mut().filter(|listener| !knows(listener)));
    Snapshot {
        is_complete: false,
        owners_of: None,
        began,
        ended,
        namespaces: vec![namespace],
        listeners,
        unreadable: Vec::new(),
    }
}

/// Runs `read` inside of a namespace.
fn visit<T: Send>(
    id: NetnsId,
    pid_hint: Option<u32>,
    read: impl Fn(&Place) -> Result<T, Failure> + Sync,
) -> Result<T, Unreadable> {
    let result = match netns::find(id, pid_hint) {
        None => Err(Failure::Gone),
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
        // The process that led there may have ended, and the namespace live on.
        Err(err) if err.kind() == io::ErrorKind::NotFound => {
            netns::find(place.id, None).ok_or(Failure::Gone)?.open()
        }
        opened => opened,
    };
    let file = match opened {
        Ok(file) => file,
        Err(err) if err.kind() == io::ErrorKind::NotFound => return Err(Failure::Gone),
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
    // Without a VRF it says nothing, and among many namespaces it is the dearest to ask: the kernel finds each one's
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
    // SAFETY: the descriptor is open, the value has the eight bytes that `length` says, and the kernel
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
