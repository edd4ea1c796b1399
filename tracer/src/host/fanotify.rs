//! The kernel's events of the directory that a configuration file is in, from fanotify(7): what changed, and by which process.
//!
//! The kernel names the entry and the writer's process, and no other process on the host pays for it. A directory is known
//! by its file handle, so that it is the same one whatever mount it is seen through.

use std::collections::HashSet;
use std::ffi::{CStr, OsString};
use std::io;
use std::mem::{MaybeUninit, size_of};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStringExt as _;
use std::sync::Arc;

/// What is reported of a directory: entries that appear, disappear, or are written.
const EVENTS: u64 = libc::FAN_CREATE
    | libc::FAN_CLOSE_WRITE
    | libc::FAN_MOVED_TO
    | libc::FAN_MOVED_FROM
    | libc::FAN_DELETE
    | libc::FAN_EVENT_ON_CHILD
    | libc::FAN_ONDIR;

/// Directories watched at a time: a host has a few servers.
const DIRECTORIES_MAX: usize = 64;

/// Longest file handle (`MAX_HANDLE_SZ`, include/linux/exportfs.h).
const HANDLE_MAX: usize = 128;

/// A directory, as the kernel names it in an event.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Identity(Vec<u8>);

/// What happened to an entry of a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Another file took its name.
    Replaced,
    /// It was written in place.
    Written,
    /// It was deleted, or its name was given to something else.
    Removed,
    /// Its contents are the same: a file appeared that is still to be written, or is not the one that is watched.
    None,
}

/// One event, in a directory that is watched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    pub directory: Identity,
    pub name: OsString,
    pub change: Change,
    /// The process that did it; `None`: it is outside of this PID namespace.
    pub pid: Option<u32>,
}

/// The directories that are watched: read by one thread, and marked by another, which may hang in a file system.
pub struct Watch {
    group: Arc<OwnedFd>,
}

/// Adds directories to a [`Watch`].
pub struct Marker {
    group: Arc<OwnedFd>,
    directories: HashSet<Identity>,
}

impl Watch {
    /// Needs CAP_SYS_ADMIN, and Linux 5.9.
    ///
    /// # Errors
    /// As `fanotify_init(2)`.
    pub fn new() -> io::Result<Self> {
        let flags =
            libc::FAN_CLASS_NOTIF | libc::FAN_REPORT_DFID_NAME | libc::FAN_CLOEXEC | libc::FAN_NONBLOCK;
        let events = libc::O_RDONLY | libc::O_CLOEXEC;
        // SAFETY: a plain system call.
        let group = unsafe { libc::fanotify_init(flags, events as libc::c_uint) };
        if group < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: just opened, and owned by nothing else.
        Ok(Self { group: Arc::new(unsafe { OwnedFd::from_raw_fd(group) }) })
    }

    /// What marks directories for it.
    pub fn marker(&self) -> Marker {
        Marker { group: Arc::clone(&self.group), directories: HashSet::new() }
    }

    /// The events that have come since the last call.
    pub fn take(&mut self) -> Vec<Event> {
        let mut events = Vec::new();
        let mut buffer = Buffer([0; BUFFER]);
        loop {
            match rustix::io::read(&self.group, &mut buffer.0[..]) {
                Ok(0) | Err(_) => return events,
                Ok(length) => events.extend(parse(&buffer.0[..length]).into_iter().map(|raw| Event {
                    directory: Identity(raw.directory.to_vec()),
                    name: OsString::from_vec(raw.name.to_vec()),
                    change: change(raw.mask),
                    pid: raw.pid,
                })),
            }
        }
    }
}

impl Marker {
    /// Watches a directory, and gives the name that its events have. Nothing but the mark keeps it.
    ///
    /// # Errors
    /// As `fanotify_mark(2)` and `name_to_handle_at(2)`: the file system may have no handles for its files.
    pub fn add(&mut self, directory: BorrowedFd<'_>) -> io::Result<Identity> {
        let identity = identity(directory)?;
        if self.directories.len() >= DIRECTORIES_MAX && !self.directories.contains(&identity) {
            self.clear();
        }
        // Also where it is known: the mark goes with a directory that was deleted, and its handle may come again.
        self.mark(libc::FAN_MARK_ADD | libc::FAN_MARK_ONLYDIR, EVENTS, Some(directory))?;
        self.directories.insert(identity.clone());
        Ok(identity)
    }

    /// Watches nothing any more.
    fn clear(&mut self) {
        self.directories.clear();
        // Without marks nothing is reported, and a group has no other way to fail here.
        let _ = self.mark(libc::FAN_MARK_FLUSH, 0, None);
    }

    fn mark(&self, flags: libc::c_uint, mask: u64, directory: Option<BorrowedFd<'_>>) -> io::Result<()> {
        let path = directory.map(|directory| format!("/proc/self/fd/{}\0", directory.as_raw_fd()));
        let path = path.as_ref().map_or(c"/".as_ptr(), |path| path.as_ptr().cast());
        // SAFETY: the path ends in NUL and outlives the call.
        let result =
            unsafe { libc::fanotify_mark(self.group.as_raw_fd(), flags, mask, libc::AT_FDCWD, path) };
        if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }
}

impl AsRawFd for Watch {
    fn as_raw_fd(&self) -> std::os::fd::RawFd {
        self.group.as_raw_fd()
    }
}

impl AsFd for Watch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.group.as_fd()
    }
}

/// Bytes of events read at once.
const BUFFER: usize = 16 * 1024;

/// Aligned as the kernel's structures.
#[repr(align(8))]
struct Buffer([u8; BUFFER]);

/// An event as the kernel writes it.
#[derive(Debug, PartialEq, Eq)]
pub struct Raw<'a> {
    pub mask: u64,
    pub pid: Option<u32>,
    /// File system and handle of the directory.
    pub directory: &'a [u8],
    pub name: &'a [u8],
}

/// The events in what was read: fanotify(7). What is cut short or of another kind is passed over.
pub fn parse(mut bytes: &[u8]) -> Vec<Raw<'_>> {
    let mut events = Vec::new();
    while let Some(metadata) = front::<libc::fanotify_event_metadata>(bytes) {
        let length = metadata.event_len as usize;
        let header = usize::from(metadata.metadata_len);
        let Some(event) = bytes.get(header..length).filter(|_| length > 0) else { return events };
        if let Some((directory, name)) = directory_and_name(event) {
            let pid = u32::try_from(metadata.pid).ok().filter(|pid| *pid != 0);
            events.push(Raw { mask: metadata.mask, pid, directory, name });
        }
        bytes = &bytes[length..];
    }
    events
}

/// The directory's identity, and the name in it, of an event's records.
fn directory_and_name(mut records: &[u8]) -> Option<(&[u8], &[u8])> {
    const HEADER: usize = size_of::<libc::fanotify_event_info_header>();
    const FSID: usize = 8;
    /// Length and type of a handle (`struct file_handle`).
    const HANDLE: usize = 8;
    while let Some(header) = front::<libc::fanotify_event_info_header>(records) {
        let record = records.get(..usize::from(header.len)).filter(|record| record.len() >= HEADER)?;
        if header.info_type == libc::FAN_EVENT_INFO_TYPE_DFID_NAME {
            let body = &record[HEADER..];
            let length = u32::from_ne_bytes(body.get(FSID..FSID + 4)?.try_into().ok()?) as usize;
            let end = FSID + HANDLE + length;
            let name = CStr::from_bytes_until_nul(body.get(end..)?).ok()?;
            return Some((body.get(..end)?, name.to_bytes()));
        }
        records = &records[record.len()..];
    }
    None
}

/// The structure at the front of some bytes.
fn front<T: Copy>(bytes: &[u8]) -> Option<T> {
    // SAFETY: there are enough bytes, and the kernel's structures here are integers, of which any bytes are a value.
    (bytes.len() >= size_of::<T>()).then(|| unsafe { bytes.as_ptr().cast::<T>().read_unaligned() })
}

/// What the bits of an event's mask come to.
pub fn change(mask: u64) -> Change {
    // The kernel merges events that have not been read yet: the final state is what counts.
    if mask & libc::FAN_MOVED_TO != 0 {
        Change::Replaced
    } else if mask & libc::FAN_CLOSE_WRITE != 0 {
        Change::Written
    } else if mask & (libc::FAN_DELETE | libc::FAN_MOVED_FROM) != 0 {
        Change::Removed
    } else {
        Change::None
    }
}

/// What the kernel calls a directory in an event: the file system's id, and the handle with its length and type.
fn identity(directory: BorrowedFd<'_>) -> io::Result<Identity> {
    #[repr(C, align(8))]
    struct Handle {
        length: u32,
        kind: i32,
        bytes: [u8; HANDLE_MAX],
    }
    let mut handle = Handle { length: HANDLE_MAX as u32, kind: 0, bytes: [0; HANDLE_MAX] };
    let mut mount = 0;
    // SAFETY: the handle has as much room as its length gives, and an empty path names the descriptor itself.
    let result = unsafe {
        libc::name_to_handle_at(
            directory.as_raw_fd(),
            c"".as_ptr(),
            (&raw mut handle).cast(),
            &raw mut mount,
            libc::AT_EMPTY_PATH,
        )
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    let mut stat = MaybeUninit::<libc::statfs>::uninit();
    // SAFETY: the kernel writes the whole structure when it succeeds.
    if unsafe { libc::fstatfs(directory.as_raw_fd(), stat.as_mut_ptr()) } < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: written by the call above; the id is eight bytes.
    let fsid: [u8; 8] = unsafe { std::mem::transmute(stat.assume_init().f_fsid) };
    let mut identity = fsid.to_vec();
    identity.extend(handle.length.to_ne_bytes());
    identity.extend(handle.kind.to_ne_bytes());
    identity.extend(handle.bytes.get(..handle.length as usize).unwrap_or_default());
    Ok(Identity(identity))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An event with one record of a directory and a name.
    fn event(mask: u64, pid: i32, handle: &[u8], name: &[u8]) -> Vec<u8> {
        let mut record = vec![libc::FAN_EVENT_INFO_TYPE_DFID_NAME, 0, 0, 0];
        record.extend([7; 8]);
        record.extend((handle.len() as u32).to_ne_bytes());
        record.extend(1_i32.to_ne_bytes());
        record.extend(handle);
        record.extend(name);
        record.push(0);
        let length = record.len() as u16;
        record[2..4].copy_from_slice(&length.to_ne_bytes());
        let mut event = (24 + u32::from(length)).to_ne_bytes().to_vec();
        event.extend([3, 0]);
        event.extend(24_u16.to_ne_bytes());
        event.extend(mask.to_ne_bytes());
        event.extend((-1_i32).to_ne_bytes());
        event.extend(pid.to_ne_bytes());
        event.extend(record);
        event
    }

    #[test]
    fn events_are_read_one_after_the_other() {
        let mut bytes = event(libc::FAN_MOVED_TO, 77, &[1, 2, 3], b"server.json");
        bytes.extend(event(libc::FAN_DELETE, -1, &[4; 16], b"x"));
        let events = parse(&bytes);
        assert_eq!((events[0].pid, events[0].name), (Some(77), &b"server.json"[..]));
        assert_eq!(events[0].directory.len(), 8 + 8 + 3);
        assert_eq!((events[1].pid, change(events[1].mask)), (None, Change::Removed));
        assert_eq!(events.len(), 2);
    }

    #[test]
    fn what_is_cut_short_is_passed_over() {
        let bytes = event(libc::FAN_CREATE, 77, &[1; 8], b"server.json");
        for length in 0..bytes.len() {
            assert!(parse(&bytes[..length]).is_empty(), "{length}");
        }
        // With a length of 0, reading would never end.
        assert!(parse(&[0; 64]).is_empty());
    }

    #[test]
    fn what_is_there_in_the_end_counts() {
        assert_eq!(change(libc::FAN_CREATE | libc::FAN_CLOSE_WRITE), Change::Written);
        assert_eq!(change(libc::FAN_MOVED_FROM | libc::FAN_MOVED_TO), Change::Replaced);
        assert_eq!(change(libc::FAN_CREATE), Change::None);
    }
}
