//! Which process holds a socket: the one with a file descriptor of it.

use std::collections::{HashMap, HashSet};
use std::ffi::{CStr, CString};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, BorrowedFd};

use rustix::fs::{Mode, OFlags, RawDir, openat, readlinkat_raw};

use crate::host::netns;
use crate::host::process::{ANCESTORS, Described, Handle};
use crate::model::process::{INIT, Process};
use crate::model::socket::{Listener, NetnsId};
use crate::query::KnownSocket;

/// File descriptors of one process that are read: it may hold millions, a listener is an early one.
const DESCRIPTORS: usize = 65_536;

/// Sockets whose descriptors are remembered: more than a host has listeners on a few ports.
const DESCRIPTORS_KEPT: usize = 16_384;

/// Fills in the process of each listener, where its file descriptors can be read; elsewhere what the
/// listener has already (the user id of its socket) stays.
///
/// Of several holders (a server and its workers) the first: the oldest ancestor that still holds it, but for the first
/// process, if another holds it too: systemd holds every socket that it starts a service for, and the service answers.
/// Scans the processes of the listeners' namespaces first, and stops when all are found.
pub fn fill(listeners: Vec<&mut Listener>, processes: &[(u32, Option<NetnsId>)]) {
    let mut holders: HashMap<u64, Option<u32>> = listeners
        .iter()
        .map(|listener| listener.key.inode)
        .filter(|&inode| inode != 0)
        .map(|inode| (inode, None))
        .collect();
    let namespaces: HashSet<NetnsId> = listeners.iter().map(|listener| listener.netns).collect();
    let is_near = |netns: Option<NetnsId>| netns.is_some_and(|netns| namespaces.contains(&netns));

    // In ascending order of process number, which is nearly that of age.
    let near = processes.iter().filter(|(_, netns)| is_near(*netns));
    let far = processes.iter().filter(|(_, netns)| !is_near(*netns));
    let mut missing = holders.len();
    for &(pid, _) in near.chain(far) {
        if missing == 0 {
            break;
        }
        let Ok(handle) = Handle::open(pid) else { continue };
        sockets(&handle, |inode, _| {
            if let Some(holder @ (None | Some(INIT))) = holders.get_mut(&inode) {
                *holder = Some(pid);
                missing -= usize::from(pid != INIT);
            }
            missing != 0
        });
    }

    for listener in listeners {
        if let Some(pid) = holders.get(&listener.key.inode).copied().flatten() {
            let handle = first_holder(pid, listener.key.inode);
            if let Some(described) = handle.and_then(|handle| handle.describe()) {
                listener.process = described.process;
            }
        }
    }
}

/// Finds out which process holds each socket now, beginning with the one that is known to have held it: that one may have
/// ended, passed the socket on, or taken another name.
pub fn refresh(
    listeners: Vec<&mut Listener>,
    descriptors: &mut Descriptors,
    owner: impl Fn(&Listener) -> Option<Process>,
    processes: impl FnOnce() -> netns::Processes,
) {
    let mut known: HashMap<u32, Option<Holder>> = HashMap::new();
    let mut others = Vec::new();
    for listener in listeners {
        let holder = owner(listener).and_then(|before| {
            let pid = before.pid?;
            known.entry(pid).or_insert_with(|| Holder::open(pid, Handle::describe)).as_mut()
        });
        let process = holder.and_then(|holder| {
            holder.holds(listener.key.inode, descriptors).then_some(&holder.described.process)
        });
        match process {
            Some(process) => listener.process = process.clone(),
            None => others.push(listener),
        }
    }
    if !others.is_empty() {
        fill(others, &processes());
    }
}

/// Describes the process that holds each socket, by `describe`, if it is still the one that is known to hold it: of every
/// one, else `None`.
pub fn confirm(
    known: &[KnownSocket],
    describe: impl Fn(&Handle) -> Option<Described>,
    descriptors: &mut Descriptors,
) -> Option<Vec<(u64, Described)>> {
    let mut holders: HashMap<u32, Option<Holder>> = HashMap::new();
    let mut owners = Vec::new();
    for KnownSocket { inode, pid } in known {
        let pid = (*pid)?;
        let holder = holders.entry(pid).or_insert_with(|| Holder::open(pid, &describe)).as_mut()?;
        if !holder.holds(*inode, descriptors) {
            return None;
        }
        owners.push((*inode, holder.described.clone()));
    }
    Some(owners)
}

/// At which descriptor each socket was found last, by its inode number. One read there shows whether it is still held;
/// a busy server has thousands of others.
#[derive(Clone, Debug, Default)]
pub struct Descriptors(HashMap<u64, u32>);

/// A process, and of its sockets what has been asked for.
struct Holder {
    handle: Handle,
    described: Described,
    /// Each of its sockets, and a descriptor of it, where they had to be read.
    sockets: Option<HashMap<u64, u32>>,
}

impl Holder {
    fn open(pid: u32, describe: impl Fn(&Handle) -> Option<Described>) -> Option<Self> {
        let handle = Handle::open(pid).ok()?;
        let described = describe(&handle)?;
        Some(Self { handle, described, sockets: None })
    }

    fn holds(&mut self, inode: u64, Descriptors(found): &mut Descriptors) -> bool {
        if found.get(&inode).is_some_and(|descriptor| socket_at(&self.handle, *descriptor) == Some(inode)) {
            return true;
        }
        let sockets = self.sockets.get_or_insert_with(|| held(&self.handle));
        let Some(descriptor) = sockets.get(&inode) else {
            found.remove(&inode);
            return false;
        };
        if found.len() >= DESCRIPTORS_KEPT {
            found.clear();
        }
        found.insert(inode, *descriptor);
        true
    }
}

fn first_holder(pid: u32, inode: u64) -> Option<Handle> {
    let mut first = Handle::open(pid).ok()?;
    for _ in 0..ANCESTORS {
        let parent = first.stat().map(|stat| stat.ppid).filter(|&ppid| ppid > INIT);
        match parent.and_then(|ppid| Handle::open(ppid).ok()) {
            Some(parent) if holds(&parent, inode) => first = parent,
            Some(_) | None => break,
        }
    }
    Some(first)
}

fn holds(handle: &Handle, inode: u64) -> bool {
    let mut found = false;
    sockets(handle, |held, _| {
        found |= held == inode;
        !found
    });
    found
}

/// The inode number of every socket that the process has a file descriptor of, with a descriptor of it.
pub(super) fn held(handle: &Handle) -> HashMap<u64, u32> {
    let mut held = HashMap::new();
    sockets(handle, |inode, descriptor| {
        held.insert(inode, descriptor);
        true
    });
    held
}

/// Calls `each` with the inode number of every socket that the process has a file descriptor of, and the descriptor,
/// until it returns false.
fn sockets(handle: &Handle, mut each: impl FnMut(u64, u32) -> bool) {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let Ok(directory) = openat(handle.directory(), c"fd", flags, Mode::empty()) else { return };
    let mut entries = [MaybeUninit::<u8>::uninit(); 8192];
    let mut entries = RawDir::new(&directory, &mut entries);
    for _ in 0..DESCRIPTORS {
        let Some(Ok(entry)) = entries.next() else { return };
        let name: &CStr = entry.file_name();
        // `.` and `..` are not descriptors.
        let Some(descriptor) = name.to_str().ok().and_then(|name| name.parse().ok()) else { continue };
        if let Some(inode) = socket_behind(directory.as_fd(), name)
            && !each(inode, descriptor)
        {
            return;
        }
    }
}

/// The inode number of the socket that the process has at this descriptor; `None`: none found.
fn socket_at(handle: &Handle, descriptor: u32) -> Option<u64> {
    let path = CString::new(format!("fd/{descriptor}")).ok()?;
    socket_behind(handle.directory(), &path)
}

fn socket_behind(directory: BorrowedFd<'_>, path: &CStr) -> Option<u64> {
    let mut buffer = [MaybeUninit::<u8>::uninit(); 64];
    // A descriptor may have been closed meanwhile.
    let (link, _) = readlinkat_raw(directory, path, &mut buffer).ok()?;
    parse_socket(link)
}

/// The number in `socket:[4242]`.
pub(crate) fn parse_socket(link: &[u8]) -> Option<u64> {
    let number = link.strip_prefix(b"socket:[")?.strip_suffix(b"]")?;
    str::from_utf8(number).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_socket_has_a_socket_number() {
        assert_eq!(parse_socket(b"socket:[4242]"), Some(4242));
        for link in [&b"/tmp/socket:[4242]"[..], b"pipe:[4242]", b"socket:[4242] (deleted)", b"socket:[]"] {
            assert_eq!(parse_socket(link), None);
        }
    }

    #[test]
    fn a_process_holds_its_own_sockets() {
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let inode = rustix::fs::fstat(&socket).unwrap().st_ino;
        assert!(holds(&Handle::open(std::process::id()).unwrap(), inode));
        drop(socket);
        assert!(!holds(&Handle::open(std::process::id()).unwrap(), inode));
    }

    #[test]
    fn a_socket_is_found_where_it_was_and_where_it_is_now() {
        let mut descriptors = Descriptors::default();
        let holder = || Holder::open(std::process::id(), Handle::describe).unwrap();
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let inode = rustix::fs::fstat(&socket).unwrap().st_ino;
        assert!(holder().holds(inode, &mut descriptors));
        // Known by its place: no other descriptor is read.
        let mut again = holder();
        assert!(again.holds(inode, &mut descriptors) && again.sockets.is_none());
        // Elsewhere among the descriptors, with another file in its old place.
        let moved = socket.try_clone().unwrap();
        drop(socket);
        let _other = std::fs::File::open("/dev/null").unwrap();
        assert!(holder().holds(inode, &mut descriptors));
        drop(moved);
        assert!(!holder().holds(inode, &mut descriptors));
        assert_eq!(descriptors.0.len(), 0);
    }
}
