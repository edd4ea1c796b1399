//! Reads what a process says of itself: its arguments, its environment, and the configuration file that they lead to.
//!
//! All three are the process's own choice, so none is trusted: the file is opened inside of the process's root, is a
//! regular one that the process itself may read, and short; nothing is waited for longer than the caller has patience; what was
//! read is wiped as soon as the settings are taken out of it.

use std::ffi::CStr;
use std::fmt;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use rustix::fs::{FileType, Mode, OFlags, ResolveFlags, Stat, fstat, openat, openat2};
use rustix::io::Errno;
use zeroize::Zeroizing;

use super::{Handle, TICK};
use crate::claims::{Claims, ConfigFile, Product};
use crate::event::{Claimed, Look};
use crate::kernel::clock;
use crate::line::Time;
use crate::server::Recognition;

/// Largest configuration file that is read.
const FILE_MAX: usize = 1 << 20;

/// As much of a process's environment or arguments as is read.
const STRINGS_MAX: usize = 256 << 10;

/// As much of `/etc/passwd` as is read for a home directory.
const PASSWD_MAX: usize = 256 << 10;

/// What the process that has the number `pid` now says of itself, if it is a server that is known. A file system that
/// does not answer is waited for as long as `patience`.
pub fn claimed(pid: u32, recognition: &Recognition, patience: Duration) -> Claimed {
    let began = clock::now();
    let claim = super::claim(pid);
    let product = claim.as_ref().and_then(|claim| recognition.recognise(&claim.name, &claim.arguments)?);
    let start = claim.as_ref().map(|claim| claim.start_boottime);
    let claims = product.and_then(|product| of(pid, start, product, patience));
    // One that is ending has let go of its arguments, and will not speak any more.
    let speaks = |claim: super::Claim| !claim.arguments.is_empty();
    let may_speak = match product {
        // No time has passed.
        None => claim.is_some_and(speaks),
        Some(_) => claims.is_some() || super::claim(pid).is_some_and(speaks),
    };
    let started = start.filter(|_| may_speak).map(super::start_time);
    Claimed { look: Look { began, ended: clock::now() }, pid, started, claims, file: None }
}

/// What the process that has the number `pid`, and started `start_boottime` nanoseconds after boot, says of itself;
/// `None`: it has ended, or the look took too long.
pub fn of(
    pid: u32,
    start_boottime: Option<u64>,
    product: &'static dyn Product,
    patience: Duration,
) -> Option<Claims> {
    // One look at a time: where a file system hangs, no more threads are to hang in it.
    static IS_BUSY: AtomicBool = AtomicBool::new(false);
    if IS_BUSY.swap(true, Ordering::Acquire) {
        return None;
    }
    /// Says that the look is over, however it ended.
    struct Done;
    impl Drop for Done {
        fn drop(&mut self) {
            IS_BUSY.store(false, Ordering::Release);
        }
    }
    let (sender, receiver) = mpsc::sync_channel(1);
    let done = Done;
    let worker = std::thread::Builder::new().name("claims".to_owned());
    worker
        .spawn(move || {
            let claims = {
                let _done = done;
                look(pid, start_boottime, product)
            };
            // Nobody waits any more when this fails.
            let _ = sender.send(claims);
        })
        .ok()?;
    receiver.recv_timeout(patience).ok().flatten()
}

/// The directory of a path inside of the root of a process, and the one above it.
pub fn directories(pid: u32, path: &Path) -> Option<[OwnedFd; 2]> {
    let handle = Handle::open(pid).ok()?;
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = openat(handle.directory(), c"root", flags, Mode::empty()).ok()?;
    let within = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let open = |path: &Path| openat2(&root, path, flags, Mode::empty(), within).ok();
    let directory = path.parent()?;
    Some([open(directory)?, open(directory.parent().unwrap_or(directory))?])
}

fn look(pid: u32, start_boottime: Option<u64>, product: &'static dyn Product) -> Option<Claims> {
    let handle = Handle::open(pid).ok()?;
    let is_it = |stat: super::Stat| start_boottime.is_none_or(|start| stat.start == start / TICK);
    handle.stat().filter(|stat| is_it(*stat))?;
    // A process that is ending has let go of its memory, and says nothing any more.
    let arguments = strings(&handle, c"cmdline").filter(|arguments| !arguments.is_empty())?;
    let arguments: Vec<&[u8]> = arguments.split(|byte| *byte == 0).collect();
    let environment = environment(&handle, product);
    let said = product.overrides(&environment, &arguments);
    let Ok(root) = openat(
        handle.directory(),
        c"root",
        OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    ) else {
        return Some(Claims { product, said, file: None });
    };
    let reader = Identity::of(&handle)?;
    let home = home(&root, &reader);
    let paths = product.config_paths(&environment, &arguments, home.as_deref());
    let file = paths.iter().find_map(|path| config_file(&root, path, &reader, product));
    Some(Claims { product, said, file })
}

/// The configuration file at `path` inside of a root; `None`: there is none.
fn config_file(root: &OwnedFd, path: &Path, reader: &Identity, product: &dyn Product) -> Option<ConfigFile> {
    let (file, settings) = match open(root, path, reader) {
        Err(Unreadable::Absent) => return None,
        Err(why) => (None, Err(why)),
        Ok((file, stat)) => {
            let settings = contents(&file).and_then(|contents| {
                let text = std::str::from_utf8(&contents).map_err(|_| Unreadable::NotText)?;
                product.settings(text).map_err(Unreadable::Malformed)
            });
            (Some(stat), settings)
        }
    };
    Some(ConfigFile {
        path: path.to_owned(),
        changed: file.and_then(|stat| changed(&stat)),
        settings: settings.map_err(|why| why.to_string()),
    })
}

/// When the contents of a file were last written.
fn changed(stat: &Stat) -> Option<Time> {
    let nanoseconds = i128::from(stat.st_mtime) * 1_000_000_000 + i128::from(stat.st_mtime_nsec);
    jiff::Timestamp::from_nanosecond(nanoseconds).ok().map(Time)
}

/// Why a configuration file says nothing.
#[derive(Debug)]
enum Unreadable {
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

/// Opens a file as the process would: no link leads out of its root, and nothing that is no plain file is opened for
/// reading, which a device may take for a command and a pipe would wait for.
fn open(root: &OwnedFd, path: &Path, reader: &Identity) -> Result<(OwnedFd, Stat), Unreadable> {
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
    // The very file that was looked at, whatever its name leads to by now.
    let itself = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&place));
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = openat(rustix::fs::CWD, itself, flags, Mode::empty()).map_err(Unreadable::Failed)?;
    Ok((file, stat))
}

fn contents(file: &OwnedFd) -> Result<Zeroizing<Vec<u8>>, Unreadable> {
    let contents = read(file, FILE_MAX + 1).map_err(Unreadable::Failed)?;
    if contents.len() > FILE_MAX { Err(Unreadable::TooLong) } else { Ok(contents) }
}

/// The beginning of a file. The buffer does not grow, which would leave copies of secrets behind.
fn read(file: impl AsFd, limit: usize) -> Result<Zeroizing<Vec<u8>>, Errno> {
    let mut buffer = Zeroizing::new(vec![0; limit]);
    let mut length = 0;
    while length < limit {
        match rustix::io::read(&file, &mut buffer[length..]) {
            Ok(0) => break,
            Ok(count) => length += count,
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    buffer.truncate(length);
    Ok(buffer)
}

fn strings(handle: &Handle, name: &CStr) -> Option<Zeroizing<Vec<u8>>> {
    let file = openat(handle.directory(), name, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).ok()?;
    read(file, STRINGS_MAX).ok()
}

/// The variables that matter of a process's environment, as it was when the process began; of a secret only that it
/// is there.
fn environment(handle: &Handle, product: &dyn Product) -> Vec<(String, Vec<u8>)> {
    let strings = strings(handle, c"environ").unwrap_or_default();
    let entries = strings.split(|byte| *byte == 0).filter_map(|entry| {
        let at = entry.iter().position(|byte| *byte == b'=')?;
        let (name, value) = (&entry[..at], &entry[at + 1..]);
        let name = product.variables().iter().find(|known| known.as_bytes() == name)?;
        let value = if product.is_secret(name) && !value.is_empty() { b"set" } else { value };
        Some(((*name).to_owned(), value.to_vec()))
    });
    entries.collect()
}

/// The home directory that the process's root gives its user.
fn home(root: &OwnedFd, reader: &Identity) -> Option<PathBuf> {
    let (file, _) = open(root, Path::new("/etc/passwd"), reader).ok()?;
    let passwd = read(&file, PASSWD_MAX).ok()?;
    passwd.split(|byte| *byte == b'\n').find_map(|line| {
        let mut fields = line.split(|byte| *byte == b':');
        let uid: u32 = std::str::from_utf8(fields.nth(2)?).ok()?.parse().ok()?;
        let home = fields.nth(2)?;
        let is_it = uid == reader.uid_inside && home.starts_with(b"/");
        is_it.then(|| PathBuf::from(std::ffi::OsStr::from_bytes(home)))
    })
}

/// Who a process is where files are concerned.
#[derive(Debug, Default, PartialEq, Eq)]
struct Identity {
    uid: u32,
    /// As its own user namespace counts.
    uid_inside: u32,
    groups: Vec<u32>,
}

impl Identity {
    fn of(handle: &Handle) -> Option<Self> {
        let mut status = [0; super::STATUS];
        let mut identity = Self::from_status(handle.read(c"status", &mut status)?)?;
        let mut map = [0; 4096];
        let map = handle.read(c"uid_map", &mut map).unwrap_or_default();
        identity.uid_inside = inside(map, identity.uid);
        Some(identity)
    }

    /// The last of each four ids is the one that counts for files.
    fn from_status(status: &[u8]) -> Option<Self> {
        let numbers = |name: &str| -> Option<Vec<u32>> {
            let line =
                status.split(|byte| *byte == b'\n').find_map(|line| line.strip_prefix(name.as_bytes()))?;
            std::str::from_utf8(line).ok()?.split_ascii_whitespace().map(|id| id.parse().ok()).collect()
        };
        let uid = *numbers("Uid:")?.last()?;
        let mut groups = numbers("Groups:").unwrap_or_default();
        groups.extend(numbers("Gid:")?.last());
        Some(Self { uid, uid_inside: uid, groups })
    }

    /// Whether the mode of a file lets it be read.
    fn may_read(&self, stat: &Stat) -> bool {
        let bit = match stat {
            _ if self.uid == 0 => return true,
            stat if stat.st_uid == self.uid => Mode::RUSR,
            stat if self.groups.contains(&stat.st_gid) => Mode::RGRP,
            _ => Mode::ROTH,
        };
        Mode::from_raw_mode(stat.st_mode).contains(bit)
    }
}

/// A user id as the user namespace with this `uid_map` counts.
fn inside(map: &[u8], uid: u32) -> u32 {
    let ranges = std::str::from_utf8(map).unwrap_or_default().lines().filter_map(|line| {
        let mut fields = line.split_ascii_whitespace().map(str::parse::<u32>);
        Some((fields.next()?.ok()?, fields.next()?.ok()?, fields.next()?.ok()?))
    });
    for (inside, outside, length) in ranges {
        if uid.checked_sub(outside).is_some_and(|offset| offset < length) {
            return inside.saturating_add(uid - outside);
        }
    }
    uid
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;
    use crate::claims::openclaw::OpenClaw;

    #[test]
    fn a_process_is_known_by_the_ids_that_count_for_files() {
        let status = b"Name:\tx\nUid:\t1000\t1001\t1002\t1003\nGid:\t5\t6\t7\t8\nGroups:\t27 100 \n";
        let identity = Identity::from_status(status).unwrap();
        assert_eq!(identity, Identity { uid: 1003, uid_inside: 1003, groups: vec![27, 100, 8] });
        assert_eq!(Identity::from_status(b"Uid:\tx"), None);
    }

    #[test]
    fn a_user_id_is_counted_as_inside() {
        let map = b"         0     100000      65536\n     65536          7          1\n";
        assert_eq!((inside(map, 101_000), inside(map, 7), inside(map, 9)), (1_000, 65_536, 9));
        assert_eq!(inside(b"", 9), 9);
        assert_eq!(inside(b"1 4294967295 4294967295", 4_294_967_295), 1);
    }

    /// What is said of the file that a name leads to, in a root of its own.
    fn read_as(prepare: impl FnOnce(&Path), reader: &Identity) -> Option<ConfigFile> {
        let directory = tempfile::tempdir().unwrap();
        prepare(directory.path());
        let root = openat(
            rustix::fs::CWD,
            directory.path(),
            OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
            Mode::empty(),
        );
        config_file(&root.unwrap(), Path::new("/etc/openclaw.json"), reader, &OpenClaw)
    }

    fn why(prepare: impl FnOnce(&Path)) -> String {
        read_as(prepare, &Identity::default()).expect("a file").settings.expect_err("a reason")
    }

    fn write(root: &Path, contents: &[u8]) {
        std::fs::create_dir(root.join("etc")).unwrap();
        std::fs::write(root.join("etc/openclaw.json"), contents).unwrap();
    }

    #[test]
    fn a_file_is_read_with_its_time() {
        let file = read_as(|root| write(root, b"{gateway:{bind:'lan'}}"), &Identity::default()).unwrap();
        assert_eq!(file.settings.unwrap().said, [("gateway.bind", "lan".to_owned())]);
        assert!(file.changed.is_some());
        assert!(read_as(|_| {}, &Identity::default()).is_none());
    }

    #[test]
    fn a_link_stays_inside_of_the_root() {
        let file = read_as(
            |root| {
                std::fs::create_dir(root.join("etc")).unwrap();
                std::fs::write(root.join("real.json"), b"{gateway:{bind:'lan'}}").unwrap();
                symlink("/real.json", root.join("etc/openclaw.json")).unwrap();
            },
            &Identity::default(),
        );
        assert!(file.unwrap().settings.is_ok());
        let out = |target: &'static str| {
            read_as(
                move |root| {
                    std::fs::create_dir(root.join("etc")).unwrap();
                    symlink(target, root.join("etc/openclaw.json")).unwrap();
                },
                &Identity::default(),
            )
        };
        // Inside of this root there are no such files.
        assert_eq!(out("/etc/passwd"), None);
        assert_eq!(out("../../../../../../../../etc/passwd"), None);
        assert!(out("openclaw.json").unwrap().settings.is_err(), "a link to itself");
    }

    #[test]
    fn what_is_no_plain_file_is_not_opened() {
        use rustix::fs::{CWD, mknodat};
        let make = |file_type, device| {
            move |root: &Path| {
                std::fs::create_dir(root.join("etc")).unwrap();
                mknodat(CWD, root.join("etc/openclaw.json"), file_type, Mode::RUSR, device).unwrap();
            }
        };
        // Opening it would wait for a writer.
        assert_eq!(why(make(FileType::Fifo, 0)), "it is a named pipe");
        assert_eq!(why(make(FileType::Socket, 0)), "it is a socket");
        assert_eq!(
            why(|root| std::fs::create_dir_all(root.join("etc/openclaw.json")).unwrap()),
            "it is a directory"
        );
    }

    #[test]
    fn a_file_that_the_process_may_not_read_is_not_read_for_it() {
        let stranger = || Identity { uid: 4711, uid_inside: 4711, groups: vec![4711] };
        let make = |mode| {
            move |root: &Path| {
                write(root, b"{gateway:{bind:'lan'}}");
                let path = root.join("etc/openclaw.json");
                std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
            }
        };
        let forbidden = read_as(make(0o640), &stranger()).unwrap().settings.unwrap_err();
        assert_eq!(forbidden, "by its mode the process itself may not read it");
        assert!(read_as(make(0o644), &stranger()).unwrap().settings.is_ok());
    }

    #[test]
    fn what_is_too_long_or_no_text_is_told_as_such() {
        assert_eq!(why(|root| write(root, &vec![b' '; FILE_MAX + 1])), "it is longer than 1024 KiB");
        let sparse = |root: &Path| {
            write(root, b"");
            let file = std::fs::File::options().write(true).open(root.join("etc/openclaw.json")).unwrap();
            file.set_len(1 << 30).unwrap();
        };
        assert_eq!(why(sparse), "it is longer than 1024 KiB");
        assert_eq!(why(|root| write(root, b"{gateway:{bind:'\xff'}}")), "it is not UTF-8");
        assert!(why(|root| write(root, b"{gateway:{bind:'lan'\0}}")).starts_with("not JSON5"));
        assert!(why(|root| write(root, &b"[".repeat(1_000_000))).starts_with("not JSON5: nested too deep"));
    }

    #[test]
    fn a_process_says_what_its_arguments_say() {
        // This one is no gateway, and has no configuration of one.
        let claims = of(std::process::id(), None, &OpenClaw, Duration::from_secs(10));
        assert!(claims.is_some());
        assert_eq!(of(u32::MAX, None, &OpenClaw, Duration::from_secs(10)), None);
    }
}
