//! Reads the settings of a process: its arguments, its environment, and the configuration file that they lead to.
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

use rustix::fs::{Dir, DirEntry, FileType, Mode, OFlags, ResolveFlags, Stat, fstat, openat, openat2};
use rustix::io::Errno;
use zeroize::Zeroizing;

use crate::host::process::{self, Handle};
use crate::model::time::{StartTime, WallTime};
use crate::products::recognise::{Named, Recognition};
use crate::products::{ConfigFile, Product, ProductRef, ServerSettings};
use crate::query::SettingsRead;

/// Largest configuration file that is read.
const FILE_MAX: usize = 1 << 20;

/// As much of a directory that a configuration file includes as is listed.
const ENTRIES_MAX: usize = 1024;

/// Files that win over the configuration file and are read.
const OVERLAYS_MAX: usize = 4;

/// As much of a process's environment or arguments as is read.
const STRINGS_MAX: usize = 256 << 10;

/// As much of `/etc/passwd` as is read for a home directory.
const PASSWD_MAX: usize = 256 << 10;

/// What is configured for the process that has the number `pid` now, if it is a server that is known. A file system that
/// does not answer holds the caller up.
pub fn read_settings(pid: u32, recognition: &Recognition) -> SettingsRead {
    let input = process::recognition_input(pid);
    let product = input.as_ref().and_then(|input| {
        match recognition.recognise(&input.name, input.executable(), &input.arguments)? {
            Named::Product(product) => Some(product),
            Named::Pattern { .. } => None,
        }
    });
    let start = input.as_ref().map(|input| input.start);
    let settings = product.and_then(|product| of(pid, start, product));
    // A process that is ending has released its arguments.
    let is_whole = |input: process::RecognitionInput| !input.arguments.is_empty();
    let is_readable = match product {
        // No time has passed.
        None => input.is_some_and(is_whole),
        Some(_) => settings.is_some() || process::recognition_input(pid).is_some_and(is_whole),
    };
    SettingsRead { pid, started: start.filter(|_| is_readable), settings, file: None }
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

/// What is configured for a process that started then; `None`: it has ended.
fn of(pid: u32, start: Option<StartTime>, product: ProductRef) -> Option<ServerSettings> {
    let handle = Handle::open(pid).ok()?;
    let is_it = |stat: process::Stat| start.is_none_or(|start| StartTime::from_ticks(stat.start) == start);
    handle.stat().filter(|stat| is_it(*stat))?;
    // A process that is ending has released its memory, and cannot be read any more.
    let arguments = strings(&handle, c"cmdline").filter(|arguments| !arguments.is_empty())?;
    let arguments: Vec<&[u8]> = arguments.split(|byte| *byte == 0).collect();
    let environment = environment(&handle, &*product);
    let settings = ServerSettings {
        overrides: product.overrides(&environment, &arguments),
        fallbacks: product.fallbacks(&environment),
        ..ServerSettings::of(product)
    };
    let Ok(root) = openat(
        handle.directory(),
        c"root",
        OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    ) else {
        return Some(settings);
    };
    let reader = Identity::of(&handle)?;
    let home = home(&root, &reader);
    let paths = product.config_paths(&environment, &arguments, home.as_deref());
    let read = |path: &PathBuf| config_file(&root, path, &reader, &*product);
    let file = paths.iter().find_map(read);
    let in_file = file.as_ref().and_then(|file| file.settings.as_ref().ok());
    let overlays = product.overlays(&environment, &arguments, in_file);
    let overlays = overlays.iter().take(OVERLAYS_MAX).filter_map(read).collect();
    Some(ServerSettings { file, overlays, ..settings })
}

/// The configuration file at `path` inside of a root; `None`: none found.
fn config_file(root: &OwnedFd, path: &Path, reader: &Identity, product: &dyn Product) -> Option<ConfigFile> {
    let (file, settings) = match open(root, path, reader) {
        Err(Unreadable::Absent) => return None,
        Err(why) => (None, Err(why)),
        Ok((file, stat)) => {
            let settings = contents(&file).and_then(|contents| {
                let text = std::str::from_utf8(&contents).map_err(|_| Unreadable::NotText)?;
                let mut settings = product.settings(text).map_err(Unreadable::Malformed)?;
                // Debian's configuration includes a directory that is empty until a user adds files to it.
                let directory = path.parent().unwrap_or(path);
                settings.included_directories.retain(|own| has_files(root, &directory.join(own)));
                settings.includes |= !settings.included_directories.is_empty();
                Ok(settings)
            });
            (Some(stat), settings)
        }
    };
    Some(ConfigFile {
        path: path.to_owned(),
        changed: file.map(|stat| changed(&stat)),
        settings: settings.map_err(|why| why.to_string()),
    })
}

/// Whether a directory has files to include, or cannot be read.
fn has_files(root: &OwnedFd, directory: &Path) -> bool {
    let within = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let Ok(directory) = openat2(root, directory, flags, Mode::empty(), within) else { return true };
    let Ok(entries) = Dir::new(directory) else { return true };
    let is_included = |entry: rustix::io::Result<DirEntry>| {
        entry.is_err() || entry.is_ok_and(|entry| entry.file_name().to_bytes().ends_with(b".conf"))
    };
    let mut entries = entries.take(ENTRIES_MAX + 1);
    entries.by_ref().take(ENTRIES_MAX).any(is_included) || entries.next().is_some()
}

/// When the contents of a file were last written.
fn changed(stat: &Stat) -> WallTime {
    WallTime(i128::from(stat.st_mtime) * 1_000_000_000 + i128::from(stat.st_mtime_nsec))
}

/// Why a configuration file gives no settings.
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

/// Opens a file as the process would: no link leads out of its root, and only a regular file is opened for
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
    // The very file that was checked, whatever its name leads to by now.
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
    home_of(&passwd, reader.uid_inside)
}

/// The home directory of a user by the beginning of a `passwd` file. What is cut off at the end of a long one is not
/// read: it would be another directory.
pub fn home_of(passwd: &[u8], uid: u32) -> Option<PathBuf> {
    let end = if passwd.len() < PASSWD_MAX {
        passwd.len()
    } else {
        passwd.iter().rposition(|byte| *byte == b'\n')?
    };
    passwd[..end].split(|byte| *byte == b'\n').find_map(|line| {
        let mut fields = line.split(|byte| *byte == b':');
        let line_uid: u32 = std::str::from_utf8(fields.nth(2)?).ok()?.parse().ok()?;
        let home = fields.nth(2)?;
        let is_it = line_uid == uid && home.starts_with(b"/");
        is_it.then(|| PathBuf::from(std::ffi::OsStr::from_bytes(home)))
    })
}

/// The user and group ids of a process that count for files.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Identity {
    uid: u32,
    /// As its own user namespace counts.
    uid_inside: u32,
    groups: Vec<u32>,
}

impl Identity {
    fn of(handle: &Handle) -> Option<Self> {
        let mut status = [0; crate::host::process::STATUS];
        let mut identity = Self::from_status(handle.read(c"status", &mut status)?)?;
        let mut map = [0; 4096];
        let map = handle.read(c"uid_map", &mut map).unwrap_or_default();
        identity.uid_inside = inside(map, identity.uid);
        Some(identity)
    }

    /// The last of each four ids is the one that counts for files.
    pub fn from_status(status: &[u8]) -> Option<Self> {
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
pub fn inside(map: &[u8], uid: u32) -> u32 {
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
    use crate::products::sample::Sample;

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

    #[test]
    fn a_home_is_the_one_of_the_user_and_whole() {
        let passwd = b"root:x:0:0:root:/root:/bin/sh\nbad:x:zero:0::/bad:\napp:x:7:7::srv/app:\napp:x:7:7::/srv/app:/bin/sh";
        assert_eq!(home_of(passwd, 0), Some("/root".into()));
        assert_eq!(home_of(passwd, 7), Some("/srv/app".into()), "the first that is an absolute path");
        assert_eq!(home_of(passwd, 8), None);
        // One that is longer than what is read of it.
        let mut long = b"x:x:1:1::/x:\n".repeat(PASSWD_MAX / 13 + 1);
        let line = b"\napp:x:7:7::/srv";
        long.truncate(PASSWD_MAX - line.len());
        long.extend(line);
        assert_eq!(home_of(&long, 7), None);
        assert_eq!(home_of(&long, 1), Some("/x".into()));
    }

    /// What is read of the file that a name leads to, in a root of its own.
    fn read_as(prepare: impl FnOnce(&Path), reader: &Identity) -> Option<ConfigFile> {
        let directory = tempfile::tempdir().unwrap();
        prepare(directory.path());
        let root = openat(
            rustix::fs::CWD,
            directory.path(),
            OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
            Mode::empty(),
        );
        config_file(&root.unwrap(), Path::new("/etc/sample.conf"), reader, &Sample)
    }

    fn why(prepare: impl FnOnce(&Path)) -> String {
        read_as(prepare, &Identity::default()).expect("a file").settings.expect_err("a reason")
    }

    fn write(root: &Path, contents: &[u8]) {
        std::fs::create_dir(root.join("etc")).unwrap();
        std::fs::write(root.join("etc/sample.conf"), contents).unwrap();
    }

    #[test]
    fn a_file_is_read_with_its_time() {
        let file = read_as(|root| write(root, b"10.0.0.1"), &Identity::default()).unwrap();
        assert_eq!(file.settings.unwrap().values, [("listen".into(), "10.0.0.1".to_owned())]);
        assert!(file.changed.is_some());
        assert!(read_as(|_| {}, &Identity::default()).is_none());
    }

    #[test]
    fn a_directory_that_is_included_counts_where_it_has_files() {
        let directory = tempfile::tempdir().unwrap();
        let root = openat(
            rustix::fs::CWD,
            directory.path(),
            OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
            Mode::empty(),
        );
        let root = root.unwrap();
        let has_files = || has_files(&root, Path::new("/etc/conf.d"));
        assert!(has_files(), "it is not there: what it would hold is not known");
        std::fs::create_dir_all(directory.path().join("etc/conf.d")).unwrap();
        std::fs::write(directory.path().join("etc/conf.d/README"), b"").unwrap();
        assert!(!has_files());
        std::fs::write(directory.path().join("etc/conf.d/10-listen.conf"), b"").unwrap();
        assert!(has_files());
    }

    #[test]
    fn a_link_stays_inside_of_the_root() {
        let file = read_as(
            |root| {
                std::fs::create_dir(root.join("etc")).unwrap();
                std::fs::write(root.join("real.conf"), b"10.0.0.1").unwrap();
                symlink("/real.conf", root.join("etc/sample.conf")).unwrap();
            },
            &Identity::default(),
        );
        assert!(file.unwrap().settings.is_ok());
        let out = |target: &'static str| {
            read_as(
                move |root| {
                    std::fs::create_dir(root.join("etc")).unwrap();
                    symlink(target, root.join("etc/sample.conf")).unwrap();
                },
                &Identity::default(),
            )
        };
        // None of these files is inside this root.
        assert_eq!(out("/etc/passwd"), None);
        assert_eq!(out("../../../../../../../../etc/passwd"), None);
        assert!(out("sample.conf").unwrap().settings.is_err(), "a link to itself");
    }

    #[test]
    fn only_regular_files_are_opened() {
        use rustix::fs::{CWD, mknodat};
        let make = |file_type, device| {
            move |root: &Path| {
                std::fs::create_dir(root.join("etc")).unwrap();
                mknodat(CWD, root.join("etc/sample.conf"), file_type, Mode::RUSR, device).unwrap();
            }
        };
        // Opening it would wait for a writer.
        assert_eq!(why(make(FileType::Fifo, 0)), "it is a named pipe");
        assert_eq!(why(make(FileType::Socket, 0)), "it is a socket");
        assert_eq!(
            why(|root| std::fs::create_dir_all(root.join("etc/sample.conf")).unwrap()),
            "it is a directory"
        );
    }

    #[test]
    fn a_file_that_the_process_may_not_read_is_not_read_for_it() {
        let stranger = || Identity { uid: 4711, uid_inside: 4711, groups: vec![4711] };
        let make = |mode| {
            move |root: &Path| {
                write(root, b"10.0.0.1");
                let path = root.join("etc/sample.conf");
                std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
            }
        };
        let forbidden = read_as(make(0o640), &stranger()).unwrap().settings.unwrap_err();
        assert_eq!(forbidden, "by its mode the process itself may not read it");
        assert!(read_as(make(0o644), &stranger()).unwrap().settings.is_ok());
    }

    #[test]
    fn a_file_that_is_too_long_or_not_text_is_reported() {
        assert_eq!(why(|root| write(root, &vec![b' '; FILE_MAX + 1])), "it is longer than 1024 KiB");
        let sparse = |root: &Path| {
            write(root, b"");
            let file = std::fs::File::options().write(true).open(root.join("etc/sample.conf")).unwrap();
            file.set_len(1 << 30).unwrap();
        };
        assert_eq!(why(sparse), "it is longer than 1024 KiB");
        assert_eq!(why(|root| write(root, b"\xff")), "it is not UTF-8");
        assert_eq!(why(|root| write(root, b"10.0.0.1\0")), "not an address");
    }

    #[test]
    fn settings_are_read_from_the_arguments() {
        // This process has no configuration file.
        let input = of(std::process::id(), None, ProductRef::new(&Sample));
        assert!(input.is_some());
        assert_eq!(of(u32::MAX, None, ProductRef::new(&Sample)), None);
    }
}
