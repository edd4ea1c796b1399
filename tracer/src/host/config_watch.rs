//! The configuration files in use: where each is, which processes use it, and what has changed it.

use std::ffi::OsString;
use std::hash::{BuildHasher as _, RandomState};
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::clock;
use super::fanotify::{Change, Event, Identity, Marker, Watch};
use super::rooted_file;
use crate::model::config_change::{ConfigChanged, FileChange, FileId};
use crate::model::limit::Limit;

/// Files followed at a time.
const FILES_MAX: usize = 256;

/// A file that a server uses.
#[derive(Clone, Debug)]
pub struct FileInUse {
    pub id: FileId,
    pub user: u32,
    pub path: PathBuf,
    pub directory: Identity,
    pub name: OsString,
    /// The directory above, and the name that this one has in it: another may take its place.
    pub above: Identity,
    pub directory_name: OsString,
}

/// The configuration files in use.
pub struct ConfigWatch {
    /// `None`: this host does not let them be watched.
    watch: Option<AsyncFd<Watch>>,
    in_use: Vec<FileInUse>,
}

/// Has the changes of a process's configuration file reported; `None`: its file system has no handles for its files, or it
/// is not there.
///
/// `hasher` gives files their numbers: the same in every thread.
pub fn arm(user: u32, path: &Path, marker: &mut Marker, hasher: &RandomState) -> Option<FileInUse> {
    let [directory, above] = rooted_file::directories(user, path)?;
    let (name, directory_name) = (path.file_name()?, path.parent()?.file_name()?);
    let directory = marker.add(directory.as_fd()).ok()?;
    Some(FileInUse {
        id: FileId(hasher.hash_one((&directory, name))),
        user,
        path: path.to_owned(),
        directory,
        name: name.to_owned(),
        above: marker.add(above.as_fd()).ok()?,
        directory_name: directory_name.to_owned(),
    })
}

impl ConfigWatch {
    /// Needs a runtime. Where nothing can be watched, that is a limit.
    pub fn new() -> (Self, Option<Limit>) {
        let watch = Watch::new().and_then(|watch| {
            // SAFETY: a `Watch` keeps its descriptor, and the same, until it is dropped.
            unsafe { AsyncFd::register_with_interest(watch, Interest::READABLE) }
                .map_err(std::io::Error::other)
        });
        let limit = watch.as_ref().err().map(|error| Limit::NoConfigWatch { error: error.to_string() });
        (Self { watch: watch.ok(), in_use: Vec::new() }, limit)
    }

    /// Where files are marked.
    pub fn watch(&self) -> Option<&Watch> {
        self.watch.as_ref().map(AsyncFd::get_ref)
    }

    /// Follows the file that a process uses, and no other for it any more.
    pub fn follow(&mut self, file: FileInUse) {
        self.in_use.retain(|known| known.user != file.user);
        if self.in_use.len() >= FILES_MAX {
            self.in_use.remove(0);
        }
        self.in_use.push(file);
    }

    /// Waits until something has happened in a directory that is watched.
    pub async fn readable(&mut self) {
        let Some(watch) = &mut self.watch else {
            return std::future::pending().await;
        };
        match watch.readable_mut().await {
            Ok(mut guard) => guard.clear_ready(),
            Err(_) => std::future::pending().await,
        }
    }

    /// The files that have changed since the last call, each once.
    pub fn take(&mut self) -> Vec<ConfigChanged> {
        let Some(watch) = &mut self.watch else { return Vec::new() };
        let events = watch.get_mut().take();
        let mut changes = Changes::default();
        for event in events {
            let Some(change) = reported(&event) else { continue };
            for one in &self.in_use {
                let is_it = one.directory == event.directory && one.name == event.name;
                // Another directory has taken the place of its own.
                let is_replaced = one.above == event.directory && one.directory_name == event.name;
                if is_it || is_replaced {
                    changes.note(one, change, event.pid);
                }
            }
        }
        changes.0
    }
}

/// What is reported of an event: a file that has only appeared is still to be written.
fn reported(event: &Event) -> Option<FileChange> {
    match event.change {
        Change::Replaced => Some(FileChange::Replaced),
        Change::Written => Some(FileChange::Written),
        Change::Removed => Some(FileChange::Removed),
        Change::None => None,
    }
}

/// Files that have changed, each once for each process that changed it.
#[derive(Default)]
struct Changes(Vec<ConfigChanged>);

impl Changes {
    /// Adds a change. An editor that moves the old file away and writes a new one has replaced it.
    fn note(&mut self, one: &FileInUse, change: FileChange, writer: Option<u32>) {
        let is_known = |known: &&mut ConfigChanged| known.file == one.id && known.writer == writer;
        let Some(known) = self.0.iter_mut().find(is_known) else {
            let (time, path, users) = (clock::now(), one.path.clone(), vec![one.user]);
            self.0.push(ConfigChanged { time, file: one.id, path, change, writer, users });
            return;
        };
        known.change = match (known.change, change) {
            (FileChange::Removed, FileChange::Written | FileChange::Replaced) => FileChange::Replaced,
            (_, change) => change,
        };
        if !known.users.contains(&one.user) {
            known.users.push(one.user);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(made: &[(u32, FileChange)]) -> Vec<(u32, FileChange)> {
        let mut changes = Changes::default();
        let one = FileInUse {
            id: FileId(1),
            user: 1,
            path: PathBuf::from("/server.json"),
            directory: Identity::default(),
            name: OsString::from("server.json"),
            above: Identity::default(),
            directory_name: OsString::new(),
        };
        made.iter().for_each(|(writer, change)| changes.note(&one, *change, Some(*writer)));
        changes.0.into_iter().filter_map(|changed| Some((changed.writer?, changed.change))).collect()
    }

    #[test]
    fn changes_of_one_process_are_one_change() {
        use FileChange::{Removed, Replaced, Written};
        assert_eq!(after(&[(7, Removed), (7, Written)]), [(7, Replaced)]);
        assert_eq!(after(&[(7, Written), (7, Written)]), [(7, Written)]);
        assert_eq!(after(&[(7, Written), (7, Removed)]), [(7, Removed)]);
        assert_eq!(after(&[(7, Replaced), (8, Written)]), [(7, Replaced), (8, Written)]);
    }
}
