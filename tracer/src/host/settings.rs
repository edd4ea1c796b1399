//! Reads what is configured for a process: its arguments, its environment, and the configuration file that they lead to.
//!
//! All three are the process's own choice, so none is trusted: the file is opened inside of the process's root, is a
//! regular one that the process itself may read, and short; nothing is waited for longer than the caller has patience; what was
//! read is wiped as soon as the settings are taken out of it.

use std::ffi::CStr;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{Dir, DirEntry, Mode, OFlags, ResolveFlags, Stat, openat, openat2};
use zeroize::Zeroizing;

use super::credentials::Credentials;
use super::passwd::{PASSWD_MAX, home_of};
use super::process::{self, Handle};
use super::rooted_file::{Unreadable, contents, open, read, root_of};
use crate::model::time::{StartTime, WallTime};
use crate::products::recognise::{Named, Recognition};
use crate::products::{ConfigFile, Product, ProductRef, ServerSettings};
use crate::query::SettingsRead;

/// As much of a directory that a configuration file includes as is listed.
const ENTRIES_MAX: usize = 1024;

/// Files that win over the configuration file and are read.
const OVERLAYS_MAX: usize = 4;

/// As much of a process's environment or arguments as is read.
const STRINGS_MAX: usize = 256 << 10;

/// What is configured for the process that has the number `pid` now, if it is a server that is known, or a client of one. A
/// file system that does not answer holds the caller up.
pub fn read_settings(pid: u32, recognition: &Recognition) -> SettingsRead {
    let appearance = process::appearance(pid);
    let product = appearance.as_ref().and_then(|appearance| {
        let process::Appearance { name, arguments, .. } = appearance;
        match recognition.recognise(name, appearance.executable(), arguments) {
            Some(Named::Product(product)) => Some(product),
            Some(Named::Pattern { .. }) => None,
            None => Recognition::client(name, appearance.executable(), arguments),
        }
    });
    let start = appearance.as_ref().map(|appearance| appearance.start);
    let settings = product.and_then(|product| of(pid, start, product));
    // A process that is ending has released its arguments.
    let is_whole = |appearance: process::Appearance| !appearance.arguments.is_empty();
    let is_readable = match product {
        // No time has passed.
        None => appearance.is_some_and(is_whole),
        Some(_) => settings.is_some() || process::appearance(pid).is_some_and(is_whole),
    };
    SettingsRead { pid, started: start.filter(|_| is_readable), settings, file: None }
}

/// What is configured for a process that started then; `None`: it has ended.
fn of(pid: u32, start: Option<StartTime>, product: ProductRef) -> Option<ServerSettings> {
    let handle = Handle::open(pid).ok()?;
    let is_it = |stat: process::Stat| start.is_none_or(|start| StartTime::from_ticks(stat.start) == start);
    handle.stat().filter(|stat| is_it(*stat))?;
    // A process that is ending has released its memory, and has no arguments any more.
    let arguments = strings(&handle, c"cmdline").filter(|arguments| !arguments.is_empty())?;
    let arguments: Vec<&[u8]> = arguments.split(|byte| *byte == 0).collect();
    let environment = environment(&handle, &*product);
    let settings = ServerSettings {
        overrides: product.overrides(&environment, &arguments),
        fallbacks: product.fallbacks(&environment),
        ..ServerSettings::of(product)
    };
    let Some(root) = root_of(&handle) else { return Some(settings) };
    let reader = Credentials::of(&handle)?;
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
fn config_file(
    root: &OwnedFd,
    path: &Path,
    reader: &Credentials,
    product: &dyn Product,
) -> Option<ConfigFile> {
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
fn home(root: &OwnedFd, reader: &Credentials) -> Option<PathBuf> {
    let (file, _) = open(root, Path::new("/etc/passwd"), reader).ok()?;
    let passwd = read(&file, PASSWD_MAX).ok()?;
    home_of(&passwd, reader.uid_inside)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use rustix::fs::FileType;

    use super::*;
    use crate::host::rooted_file::FILE_MAX;
    use crate::products::sample::Sample;

    /// What is read of the file that a name leads to, in a root of its own.
    fn read_as(prepare: impl FnOnce(&Path), reader: &Credentials) -> Option<ConfigFile> {
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
        read_as(prepare, &Credentials::default()).expect("a file").settings.expect_err("a reason")
    }

    fn write(root: &Path, contents: &[u8]) {
        std::fs::create_dir(root.join("etc")).unwrap();
        std::fs::write(root.join("etc/sample.conf"), contents).unwrap();
    }

    #[test]
    fn a_file_is_read_with_its_time() {
        let file = read_as(|root| write(root, b"10.0.0.1"), &Credentials::default()).unwrap();
        assert_eq!(file.settings.unwrap().values, [("listen".into(), "10.0.0.1".to_owned())]);
        assert!(file.changed.is_some());
        assert!(read_as(|_| {}, &Credentials::default()).is_none());
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
            &Credentials::default(),
        );
        assert!(file.unwrap().settings.is_ok());
        let out = |target: &'static str| {
            read_as(
                move |root| {
                    std::fs::create_dir(root.join("etc")).unwrap();
                    symlink(target, root.join("etc/sample.conf")).unwrap();
                },
                &Credentials::default(),
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
        let stranger = || Credentials { uid: 4711, uid_inside: 4711, groups: vec![4711] };
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
    fn the_settings_of_a_running_process_are_read() {
        // This process has no configuration file.
        let settings = of(std::process::id(), None, ProductRef::new(&Sample));
        assert!(settings.is_some());
        assert_eq!(of(u32::MAX, None, ProductRef::new(&Sample)), None);
    }
}
