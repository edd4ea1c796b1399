//! The configuration files in use: where each is, who uses it, and who changes it.

use std::collections::HashMap;
use std::ffi::OsString;
use std::hash::{BuildHasher as _, RandomState};
use std::path::{Path, PathBuf};

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::event::FileId;
use crate::kernel::watch::{Change, Event, Identity, Watch};
use crate::line::{ConfigChange, Limit, Process};
use crate::process::{self, claims};

/// Files followed at once.
const FILES_MAX: usize = 256;

/// Writers remembered: one that writes a file and renames it is known before it is gone.
const WRITERS_MAX: usize = 256;

/// A file that a server uses.
#[derive(Debug)]
struct InUse {
    user: u32,
    path: PathBuf,
    directory: Identity,
    name: OsString,
    /// The directory above, and the name that this one has in it: another may take its place.
    above: Identity,
    directory_name: OsString,
}

/// A file that has changed.
pub struct Changed {
    pub file: FileId,
    /// As its users see it.
    pub path: PathBuf,
    pub change: ConfigChange,
    /// Who changed it.
    pub process: Process,
    /// Processes that use it.
    pub users: Vec<u32>,
}

/// The configuration files in use.
pub struct Configs {
    /// `None`: this host does not let them be watched.
    watch: Option<AsyncFd<Watch>>,
    in_use: Vec<InUse>,
    writers: HashMap<u32, Process>,
    hasher: RandomState,
}

impl Configs {
    /// Needs a runtime. Where nothing can be watched, that is a limit.
    pub fn new() -> (Self, Option<Limit>) {
        let watch = Watch::new().and_then(|watch| {
            // SAFETY: a `Watch` keeps its descriptor, and the same, until it is dropped.
            unsafe { AsyncFd::register_with_interest(watch, Interest::READABLE) }
                .map_err(std::io::Error::other)
        });
        let limit = watch.as_ref().err().map(|error| Limit {
            what: "no-config-watch".to_owned(),
            why: format!("who changes a configuration file is not told: fanotify: {error}"),
        });
        let hasher = RandomState::new();
        (Self { watch: watch.ok(), in_use: Vec::new(), writers: HashMap::new(), hasher }, limit)
    }

    /// Follows the file that a process uses, and no other for it any more, and says which it is. Where its file has gone
    /// for a moment, what is known of it stays.
    pub fn follow(&mut self, user: u32, path: Option<&Path>) -> Option<FileId> {
        if let Some(path) = path {
            self.arm(user, path.to_owned());
        }
        self.in_use.iter().find(|one| one.user == user).map(|one| self.id(one))
    }

    fn id(&self, file: &InUse) -> FileId {
        FileId(self.hasher.hash_one((&file.directory, &file.name)))
    }

    fn arm(&mut self, user: u32, path: PathBuf) {
        let Some(watch) = &mut self.watch else { return };
        let Some([directory, above]) = claims::directories(user, &path) else { return };
        let mut add = |directory| watch.get_mut().add(directory).ok();
        let (Some(name), Some(directory_name)) =
            (path.file_name(), path.parent().and_then(|parent| parent.file_name()))
        else {
            return;
        };
        // A file system without handles for its files cannot be watched: then the file is read when it is needed.
        let (Some(directory), Some(above)) =
            (add(std::os::fd::AsFd::as_fd(&directory)), add(std::os::fd::AsFd::as_fd(&above)))
        else {
            return;
        };
        let in_use = InUse {
            user,
            directory,
            name: name.to_owned(),
            above,
            directory_name: directory_name.to_owned(),
            path: path.clone(),
        };
        self.in_use.retain(|known| known.user != user);
        if self.in_use.len() >= FILES_MAX {
            self.in_use.remove(0);
        }
        self.in_use.push(in_use);
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
    pub fn take(&mut self) -> Vec<Changed> {
        let Some(watch) = &mut self.watch else { return Vec::new() };
        let events = watch.get_mut().take();
        let mut changed: Vec<Changed> = Vec::new();
        for event in events {
            let process = self.writer(event.pid);
            let replaced: Vec<(u32, PathBuf)> = self
                .in_use
                .iter()
                .filter(|one| one.above == event.directory && one.directory_name == event.name)
                .map(|one| (one.user, one.path.clone()))
                .collect();
            for (user, path) in &replaced {
                self.arm(*user, path.clone());
            }
            let Some(change) = told(&event) else { continue };
            for one in &self.in_use {
                let is_it = one.directory == event.directory && one.name == event.name;
                if is_it || replaced.iter().any(|(user, _)| *user == one.user) {
                    note(&mut changed, self.id(one), one, change, &process);
                }
            }
        }
        changed
    }

    /// Who did it, as far as that can be known: a process that has ended since is known by what it did before.
    fn writer(&mut self, pid: u32) -> Process {
        if pid == 0 {
            return Process::default();
        }
        if let Some(process) = process::describe(pid, None) {
            if self.writers.len() >= WRITERS_MAX {
                self.writers.clear();
            }
            self.writers.insert(pid, process.clone());
            return process;
        }
        self.writers.get(&pid).cloned().unwrap_or_else(|| Process { pid: Some(pid), ..Process::default() })
    }
}

/// What is told of an event: a file that has only appeared is still to be written.
fn told(event: &Event) -> Option<ConfigChange> {
    match event.change {
        Change::Replaced => Some(ConfigChange::Replaced),
        Change::Written => Some(ConfigChange::Written),
        Change::Removed => Some(ConfigChange::Removed),
        Change::None => None,
    }
}

/// Adds a change. An editor that moves the old file away and writes a new one has replaced it.
fn note(changed: &mut Vec<Changed>, file: FileId, one: &InUse, change: ConfigChange, process: &Process) {
    let is_known = |known: &&mut Changed| known.file == file && known.process.pid == process.pid;
    let Some(known) = changed.iter_mut().find(is_known) else {
        let users = vec![one.user];
        changed.push(Changed { file, path: one.path.clone(), change, process: process.clone(), users });
        return;
    };
    known.change = match (known.change, change) {
        (ConfigChange::Removed, ConfigChange::Written | ConfigChange::Replaced) => ConfigChange::Replaced,
        (_, change) => change,
    };
    if !known.users.contains(&one.user) {
        known.users.push(one.user);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(changes: &[(u32, ConfigChange)]) -> Vec<(Option<u32>, ConfigChange)> {
        let mut changed = Vec::new();
        let one = InUse {
            user: 1,
            path: PathBuf::from("/openclaw.json"),
            directory: Identity::default(),
            name: OsString::from("openclaw.json"),
            above: Identity::default(),
            directory_name: OsString::new(),
        };
        for (pid, change) in changes {
            let process = Process { pid: Some(*pid), ..Process::default() };
            note(&mut changed, FileId(1), &one, *change, &process);
        }
        changed.into_iter().map(|changed| (changed.process.pid, changed.change)).collect()
    }

    #[test]
    fn what_one_process_does_at_once_is_one_change() {
        use ConfigChange::{Removed, Replaced, Written};
        assert_eq!(after(&[(7, Removed), (7, Written)]), [(Some(7), Replaced)]);
        assert_eq!(after(&[(7, Written), (7, Written)]), [(Some(7), Written)]);
        assert_eq!(after(&[(7, Written), (7, Removed)]), [(Some(7), Removed)]);
        assert_eq!(after(&[(7, Replaced), (8, Written)]), [(Some(7), Replaced), (Some(8), Written)]);
    }
}
