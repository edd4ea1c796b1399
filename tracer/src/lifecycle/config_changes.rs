//! Changes of configuration files: each waits for what the file sets now.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::finding::{ConfigFinding, Finding, FindingKind};
use super::in_flight::InFlight;
use crate::model::process::Process;
use crate::model::time::Mono;
use crate::query::{ConfigChanged, FileChange, QueryId, QueryKind, SettingsRead};
use crate::state::HostState;

/// Changes that wait at a time; more are dropped, the oldest first.
const WAITING_MAX: usize = 64;

/// How many times as long as a refusal a change waits for its users' settings: it holds nothing up.
const PATIENCES: u64 = 10;

/// Writers of configuration files that are remembered: a process that writes a file and renames it is known before it ends.
const WRITERS_MAX: usize = 256;

#[derive(Debug)]
struct Pending {
    changed: ConfigChanged,
    queries: Vec<QueryId>,
    read: Vec<SettingsRead>,
    due: Mono,
}

/// Changes that are not reported yet.
#[derive(Debug, Default)]
pub struct ConfigChanges {
    pending: Vec<Pending>,
    writers: BTreeMap<u32, Process>,
}

impl ConfigChanges {
    /// Takes a change, and queries the settings of the processes that use the file.
    pub fn changed(&mut self, changed: ConfigChanged, queries: &mut InFlight, now: Mono) {
        let patience_ns = PATIENCES * queries.patience_ns();
        let mut asked: Vec<QueryId> = changed
            .users
            .iter()
            .map(|pid| queries.ask_for(QueryKind::Settings { pid: *pid }, now, patience_ns))
            .collect();
        asked.extend(changed.writer.map(|pid| queries.ask(QueryKind::Writer { pid }, now)));
        if self.pending.len() >= WAITING_MAX {
            self.pending.remove(0);
        }
        let due = now.plus(patience_ns);
        self.pending.push(Pending { changed, queries: asked, read: Vec::new(), due });
    }

    /// Takes the settings of a process.
    pub fn settings(&mut self, id: QueryId, read: &SettingsRead) {
        for pending in self.pending.iter_mut().filter(|pending| pending.queries.contains(&id)) {
            pending.read.push(read.clone());
        }
    }

    /// Takes the description of a process that has changed a file.
    pub fn writer(&mut self, writer: Option<Process>) {
        if let Some((pid, process)) = writer.and_then(|process| Some((process.pid?, process))) {
            if self.writers.len() >= WRITERS_MAX {
                self.writers.clear();
            }
            self.writers.insert(pid, process);
        }
    }

    /// The changes whose settings are known.
    pub fn ready(&mut self, state: &mut HostState, queries: &InFlight, now: Mono) -> Vec<Finding> {
        let mut findings = Vec::new();
        while let Some(first) = self.pending.first()
            && (first.due <= now || !first.queries.iter().any(|id| queries.is_pending(*id)))
        {
            let Pending { changed, read, .. } = self.pending.remove(0);
            let writer = self.writer_of(&changed);
            findings.push(finding(changed, &read, state, writer));
        }
        findings
    }

    /// The process that changed a file, as far as it is known.
    fn writer_of(&self, changed: &ConfigChanged) -> Process {
        let pid = changed.writer;
        let known = pid.and_then(|pid| self.writers.get(&pid)).cloned();
        known.unwrap_or(Process { pid, ..Process::default() })
    }

    /// When [`Self::ready`] has something to give, answers aside.
    pub fn deadline(&self) -> Option<Mono> {
        self.pending.first().map(|first| first.due)
    }
}

fn finding(changed: ConfigChanged, read: &[SettingsRead], state: &mut HostState, writer: Process) -> Finding {
    let ConfigChanged { time, file, path, change, writer: _, users } = changed;
    // An editor's second step may be done by now: what was read is what is there in the old one's place.
    let is_there = |read: &SettingsRead| path_of(read) == Some(&path);
    let change = match change {
        FileChange::Removed if read.iter().any(is_there) => FileChange::Replaced,
        change => change,
    };
    let changed = state.settings.changed((file, time), &writer, read);
    // What another one was set to, which has ended, is not what the file sets now.
    let is_read = |pid: &u32| read.iter().any(|read| read.pid == *pid && read.settings.is_some());
    let values = users
        .into_iter()
        .filter(is_read)
        .flat_map(|pid| {
            let open = state.listeners.open().find(|listener| listener.process.pid == Some(pid));
            let netns = open.map(|listener| listener.netns);
            state.settings.values(&state.settings.user(pid), netns, &state.listeners)
        })
        .collect();
    let config = ConfigFinding { path, change, writer, values, changed };
    Finding { mono: time, kind: FindingKind::Config(Box::new(config)) }
}

fn path_of(read: &SettingsRead) -> Option<&PathBuf> {
    Some(&read.settings.as_ref()?.file.as_ref()?.path)
}
