//! Opens files as a process would: inside of its root, and only what it may read itself.

use std::fmt;
use std::io;
use std::os::fd::{AsFd, AsRawFd as _, OwnedFd};
use std::path::Path;

use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags, Stat, fstat, openat, openat2};
use rustix::io::Errno;
use zeroize::Zeroizing;

use super::bounded::{self, End};
use super::credentials::Credentials;
use super::process::Handle;

/// Largest configuration file that is read.
pub(super) const FILE_MAX: usize = 1 << 20;

/// Why a file cannot be read, or is of no use.
#[derive(Debug)]
pub(super) enum Unreadable {
    Absent,
    NotAFile(FileType),
    Forbidden,
    TooLong,
    NotText,
    Malformed(String),
    Failed(Errno),
}

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Absent => f.write_str("it is not there"),
            Self::NotAFile(FileType::Directory) => f.write_str("it is a directory"),
            Self::NotAFile(FileType::Fifo) => f.write_str("it is a named pipe"),
            Self::NotAFile(FileType::Socket) => f.write_str("it is a socket"),
            Self::NotAFile(_) => f.write_str("it is a device"),
            Self::Forbidden => f.write_str("by its mode the process itself may not read it"),
            Self::TooLong => write!(f, "it is longer than {} KiB", FILE_MAX >> 10),
            Self::NotText => f.write_str("it is not UTF-8"),
            Self::Malformed(why) => f.write_str(why),
            Self::Failed(errno) => write!(f, "{}", io::Error::from(*errno)),
        }
    }
}

/// The root of a process.
pub(super) fn root_of(handle: &Handle) -> Option<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    openat(handle.directory(), c"root", flags, Mode::empty()).ok()
}

/// The directory of a path inside of the root of a process, and the one above it.
pub(super) fn directories(pid: u32, path: &Path) -> Option<[OwnedFd; 2]> {
    let handle = Handle::open(pid).ok()?;
    let root = root_of(&handle)?;
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let within = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let open = |path: &Path| openat2(&root, path, flags, Mode::empty(), within).ok();
    let directory = path.parent()?;
    Some([open(directory)?, open(directory.parent().unwrap_or(directory))?])
}

/// Opens a file as the process would: no link leads out of its root, and only a regular file is opened for
/// reading, which a device may take for a command and a pipe would wait for.
pub(super) fn open(root: &OwnedFd, path: &Path, reader: &Credentials) -> Result<(OwnedFd, Stat), Unreadable> {
    let within = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let place =
        openat2(root, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), within).map_err(|errno| {
            match errno {
                Errno::NOENT | Errno::NOTDIR => Unreadable::Absent,
                errno => Unreadable::Failed(errno),
            }
        })?;
    let stat = fstat(&place).map_err(Unreadable::Failed)?;
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => {}
        other => return Err(Unreadable::NotAFile(other)),
    }
    if !reader.may_read(&stat) {
        return Err(Unreadable::Forbidden);
    }
    if u64::try_from(stat.st_size).is_ok_and(|size| size > FILE_MAX as u64) {
        return Err(Unreadable::TooLong);
    }
    // The very file that was checked, whatever its name leads to by now.
    let itself = format!("/proc/self/fd/{}", place.as_raw_fd());
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = openat(CWD, itself, flags, Mode::empty()).map_err(Unreadable::Failed)?;
    Ok((file, stat))
}

/// The whole contents of a file.
pub(super) fn contents(file: &OwnedFd) -> Result<Zeroizing<Vec<u8>>, Unreadable> {
    let contents = read(file, FILE_MAX + 1).map_err(Unreadable::Failed)?;
    if contents.len() > FILE_MAX { Err(Unreadable::TooLong) } else { Ok(contents) }
}

/// The beginning of a file. The buffer does not grow, which would leave copies of secrets behind.
pub(super) fn read(file: impl AsFd, limit: usize) -> Result<Zeroizing<Vec<u8>>, Errno> {
    let mut buffer = Zeroizing::new(vec![0; limit]);
    let length = bounded::fill(&file, &mut buffer, End::EmptyRead)?;
    buffer.truncate(length);
    Ok(buffer)
}
