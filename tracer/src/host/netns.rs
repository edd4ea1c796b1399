//! The network namespaces of the host, and the ways into them.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd as _, OwnedFd};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags, fstat, openat, readlinkat_raw, stat};
use rustix::io::Errno;
use rustix::thread::CapabilitySet;

use crate::model::socket::NetnsId;
use crate::sandbox::effective;

/// Where `ip netns` keeps names, and where names are taken from.
pub(super) const NAMES: &str = "/run/netns";

/// Ways into one namespace that are kept: each may have ended a moment later.
const WAYS: usize = 4;

/// Threads of one process that are asked for a namespace of their own.
const THREADS: usize = 1024;

/// Bytes of the mount table that are read; the kernel allows 100,000 mounts (`fs.mount-max`).
const MOUNT_TABLE: u64 = 64 << 20;

/// `NS_GET_NSTYPE`: ioctl_nsfs(2).
const NS_GET_NSTYPE: libc::c_ulong = 0xb703;

/// A network namespace and the ways into it. It holds no file open: that would keep the namespace, and
/// its interfaces, from ending.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    pub id: NetnsId,
    /// Name under `/run/netns`.
    pub name: Option<String>,
    /// It is the namespace of the thread that asked.
    pub is_own: bool,
    ways: Vec<PathBuf>,
}

/// Every network namespace that can be seen, and which process is in which.
#[derive(Clone, Debug)]
pub struct Survey {
    /// The own one first, then by number.
    pub places: Vec<Place>,
    pub processes: Processes,
    /// Not every process shows its namespace: there may be more than these.
    pub is_partial: bool,
}

/// In ascending order of process number, and which namespace each is in; `None`: not readable.
pub type Processes = Vec<(u32, Option<NetnsId>)>;

impl Place {
    fn new(id: NetnsId, own: NetnsId) -> Self {
        Self { id, name: None, is_own: id == own, ways: Vec::new() }
    }

    fn with_way(id: NetnsId, own: NetnsId, way: PathBuf) -> Self {
        Self { ways: vec![way], ..Self::new(id, own) }
    }

    /// Opens the namespace, for `setns()`. An error of kind `NotFound`: no way leads there any more, because the namespace
    /// has ended, or just the processes that were in it.
    pub fn open(&self) -> io::Result<OwnedFd> {
        let mut last = io::ErrorKind::NotFound.into();
        for way in &self.ways {
            match open(way) {
                Ok((file, id)) if id == self.id => return Ok(file),
                Ok(_) => {}
                Err(err) => match Errno::from_io_error(&err) {
                    // No errno: a name that is not a namespace any more.
                    Some(Errno::NOENT | Errno::SRCH) | None => {}
                    Some(_) => last = err,
                },
            }
        }
        Err(last)
    }
}

/// The namespace of the calling thread.
pub fn own() -> io::Result<NetnsId> {
    link_id(CWD, "/proc/thread-self/ns/net")
}

/// The own namespace alone, which needs no way in.
pub fn own_place() -> io::Result<Place> {
    let own = own()?;
    let name = names().into_iter().find_map(|(id, name)| (id == own).then(|| shown(&name)));
    Ok(Place { name, ..Place::new(own, own) })
}

/// Searches for every network namespace: those of processes, those with a name under `/run/netns`, and those
/// that something keeps mounted (docker, CNI plugins, `ip netns`).
///
/// Not found: one that only a thread, a socket or an open file keeps. An event that names such a one
/// names a process to begin with: [`find`]. Fails where `/proc` cannot be read at all.
pub fn survey() -> io::Result<Survey> {
    let own = own()?;
    let mut places = BTreeMap::from([(own, Place::new(own, own))]);
    let mut add = |id: NetnsId, name: Option<&OsString>, way: &dyn Fn() -> PathBuf| {
        let place = places.entry(id).or_insert_with(|| Place::new(id, own));
        if place.name.is_none() {
            place.name = name.map(|name| shown(name));
        }
        if place.ways.len() < WAYS {
            place.ways.push(way());
        }
    };

    // The most stable ways first: a name stays longer than processes.
    for (id, name) in &names() {
        add(*id, Some(name), &|| Path::new(NAMES).join(name));
    }
    let processes = processes()?;
    for &(pid, id) in &processes {
        if let Some(id) = id {
            add(id, None, &|| PathBuf::from(format!("/proc/{pid}/ns/net")));
        }
    }
    for (id, path) in &mounts() {
        add(*id, None, &|| path.clone());
    }

    let mut places: Vec<_> = places.into_values().collect();
    places.sort_by_key(|place| !place.is_own);
    Ok(Survey { places, processes, is_partial: !sees_every_process() })
}

/// Every process and its namespace, in ascending order (`proc_pid_readdir()`).
pub fn processes() -> io::Result<Processes> {
    let proc = File::open("/proc")?;
    let pids =
        fs::read_dir("/proc")?.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
    Ok(pids.map(|pid| (pid, link_id(&proc, &format!("{pid}/ns/net")).ok())).collect())
}

/// Whether every process shows which namespace it is in. Not without CAP_SYS_PTRACE: kernel threads alone have
/// more capabilities than tracer (`ptrace_may_access()`).
fn sees_every_process() -> bool {
    effective().contains(CapabilitySet::SYS_PTRACE) && sees_first_process()
}

/// Whether the first process shows, which is there in every PID namespace: not where `/proc` is mounted so
/// that it hides other users' (proc(5), `hidepid`).
pub fn sees_first_process() -> bool {
    stat("/proc/1").is_ok()
}

/// The namespace `id`; `hint` is a process that was in it. `None`: it has ended, or nothing that can be seen
/// leads to it.
pub fn find(id: NetnsId, hint: Option<u32>) -> Option<Place> {
    let own = own().ok()?;
    let named = names().into_iter().find_map(|(named, name)| (named == id).then_some(name));
    let way = || -> Option<PathBuf> {
        if let Some(way) = hint.and_then(|pid| way_of_process(pid, id)) {
            return Some(way);
        }
        if let Some(name) = &named {
            return Some(Path::new(NAMES).join(name));
        }
        if let Some((_, path)) = mounts().into_iter().find(|(mounted, _)| *mounted == id) {
            return Some(path);
        }
        let (pid, _) = processes().ok()?.into_iter().find(|(_, found)| *found == Some(id))?;
        Some(PathBuf::from(format!("/proc/{pid}/ns/net")))
    };
    let mut place = if id == own { Place::new(id, own) } else { Place::with_way(id, own, way()?) };
    place.name = named.as_ref().map(|name| shown(name));
    Some(place)
}

/// By the process itself, or by a thread of it that has moved to another namespace than its process.
fn way_of_process(pid: u32, id: NetnsId) -> Option<PathBuf> {
    let way = format!("/proc/{pid}/ns/net");
    if link_id(CWD, &way).ok()? == id {
        return Some(way.into());
    }
    let threads = fs::read_dir(format!("/proc/{pid}/task")).ok()?.take(THREADS);
    threads.filter_map(|entry| Some(entry.ok()?.path().join("ns/net"))).find(|way| {
        let link = fs::read_link(way).ok();
        link.and_then(|link| parse_id(link.as_os_str().as_bytes())) == Some(id)
    })
}

/// Opens a file and makes sure that it is a network namespace.
pub(super) fn open(path: &Path) -> io::Result<(OwnedFd, NetnsId)> {
    // Non-blocking: what a person names may be a pipe.
    let file = openat(CWD, path, OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK, Mode::empty())?;
    // SAFETY: NS_GET_NSTYPE takes no argument and touches no memory of ours; the descriptor is open.
    let kind = unsafe { libc::ioctl(file.as_raw_fd(), NS_GET_NSTYPE as _) };
    if kind != libc::CLONE_NEWNET {
        return Err(io::Error::other("not a network namespace"));
    }
    let id = u32::try_from(fstat(&file)?.st_ino).map_err(io::Error::other)?;
    Ok((file, NetnsId(id)))
}

/// The names under `/run/netns`, in alphabetical order. A name is a mount, or a link to `/proc/PID/ns/net`
/// as people make to give a container's namespace a name.
pub(super) fn names() -> Vec<(NetnsId, OsString)> {
    let (Ok(nsfs), Ok(entries)) = (stat("/proc/self/ns/net"), fs::read_dir(NAMES)) else { return Vec::new() };
    let mut names: Vec<_> = entries
        .filter_map(|entry| {
            let entry = entry.ok()?;
            // A file that is not a namespace is left over from a mount that failed.
            let stat = stat(entry.path()).ok().filter(|stat| stat.st_dev == nsfs.st_dev)?;
            Some((NetnsId(u32::try_from(stat.st_ino).ok()?), entry.file_name()))
        })
        .collect();
    names.sort_unstable_by(|(_, a), (_, b)| a.cmp(b));
    names
}

/// Whether a name still leads to a namespace. One that was escaped to be shown is taken to.
pub fn is_named(id: NetnsId, name: &str) -> bool {
    name.contains(['\\', '/'])
        || stat(Path::new(NAMES).join(name)).is_ok_and(|stat| stat.st_ino == u64::from(id.0))
}

/// The network namespaces in the mount table.
fn mounts() -> Vec<(NetnsId, PathBuf)> {
    let mut table = Vec::new();
    match File::open("/proc/self/mountinfo").and_then(|file| file.take(MOUNT_TABLE).read_to_end(&mut table)) {
        Ok(_) => table.split(|&byte| byte == b'\n').filter_map(parse_mount).collect(),
        Err(_) => Vec::new(),
    }
}

/// One line of proc_pid_mountinfo(5), when it is a network namespace: `2 1 0:4 net:[4026532281]
/// /run/netns/blue rw shared:5 - nsfs nsfs rw`.
///
/// Not by the procfs crate, which refuses the whole table over one path that is not UTF-8.
pub(crate) fn parse_mount(line: &[u8]) -> Option<(NetnsId, PathBuf)> {
    let mut fields = line.split(|&byte| byte == b' ');
    let id = parse_id(fields.nth(3)?)?;
    let path = unescape(fields.next()?);
    fields.find(|field| *field == b"-")?;
    (fields.next()? == b"nsfs").then(|| (id, PathBuf::from(OsString::from_vec(path))))
}

/// Blank, tab, newline and backslash stand as a backslash and three octal digits.
fn unescape(mut field: &[u8]) -> Vec<u8> {
    let mut path = Vec::with_capacity(field.len());
    while let Some((&byte, rest)) = field.split_first() {
        match (byte, rest) {
            (b'\\', [a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', rest @ ..]) => {
                path.push((a - b'0') << 6 | (b - b'0') << 3 | (c - b'0'));
                field = rest;
            }
            (byte, rest) => {
                path.push(byte);
                field = rest;
            }
        }
    }
    path
}

/// The number in `net:[4026531840]`, to which a namespace's link reads.
fn link_id(directory: impl AsFd, path: &str) -> io::Result<NetnsId> {
    let mut buffer = [MaybeUninit::<u8>::uninit(); 64];
    let (link, _) = readlinkat_raw(directory, path, &mut buffer)?;
    parse_id(link).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

pub(crate) fn parse_id(link: &[u8]) -> Option<NetnsId> {
    let number = link.strip_prefix(b"net:[")?.strip_suffix(b"]")?;
    str::from_utf8(number).ok()?.parse().ok().map(NetnsId)
}

/// A name as it is shown: escaped.
pub(super) fn shown(name: &OsStr) -> String {
    crate::model::escape::escape(name.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mounted_namespace_is_read_from_its_line() {
        let line =
            br"731 25 0:4 net:[4026532281] /run/docker/netns/a\040b\134 rw shared:5 master:1 - nsfs nsfs rw";
        let path = PathBuf::from(r"/run/docker/netns/a b\");
        assert_eq!(parse_mount(line), Some((NetnsId(4_026_532_281), path)));
    }

    #[test]
    fn other_mounts_are_passed_over() {
        for line in [
            &b"22 1 0:20 / /proc rw - proc proc rw"[..],
            b"22 1 0:4 mnt:[4026532281] /run/ns rw - nsfs nsfs rw",
            b"22 1 0:20 net:[1] /a\xff rw - tmpfs nsfs rw",
            b"22 1 0:4 net:[1] /cut rw",
            b"",
        ] {
            assert_eq!(parse_mount(line), None, "{}", line.escape_ascii());
        }
    }

    #[test]
    fn a_number_is_read_from_a_link_only_whole() {
        assert_eq!(parse_id(b"net:[4026531840]"), Some(NetnsId(4_026_531_840)));
        for link in [&b"net:[4026531840"[..], b"pid:[4026531840]", b"net:[]", b"net:[99999999999]"] {
            assert_eq!(parse_id(link), None);
        }
    }
}
