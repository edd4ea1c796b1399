//! Changes of configuration files: each waits for what the file sets now.

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

#[derive(Debug)]
struct Pending {
    changed: ConfigChanged,
    queries: Vec<QueryId>,
    read: Vec<SettingsRead>,
    due: Mono,
}

/// Changes that are not reported yet.
#[derive(Debug, Default)]
pub struct ConfigChanges(Vec<Pending>);

impl ConfigChanges {
    /// Takes a change, and asks what its users' settings are now.
    pub fn changed(&mut self, changed: ConfigChanged, queries: &mut InFlight, now: Mono) {
        let patience_ns = PATIENCES * queries.patience_ns();
        let mut asked: Vec<QueryId> = changed
            .users
            .iter()
            .map(|pid| queries.ask_for(QueryKind::Settings { pid: *pid }, now, patience_ns))
            .collect();
        asked.extend(changed.writer.map(|pid| queries.ask(QueryKind::Writer { pid }, now)));
        if self.0.len() >= WAITING_MAX {
            self.0.remove(0);
        }
        let due = now.plus(patience_ns);
        self.0.push(Pending { changed, queries: asked, read: Vec::new(), due });
    }

    /// Takes the settings of a process.
    pub fn settings(&mut self, id: QueryId, read: &SettingsRead) {
        for pending in self.0.iter_mut().filter(|pending| pending.queries.contains(&id)) {
            pending.read.push(read.clone());
        }
    }

    /// The changes whose settings are known.
    pub fn ready(
        &mut self,
        state: &mut HostState,
        queries: &InFlight,
        writer: impl Fn(Option<u32>) -> Process,
        now: Mono,
    ) -> Vec<Finding> {
        let mut findings = Vec::new();
        while let Some(first) = self.0.first()
            && (first.due <= now || !first.queries.iter().any(|id| queries.is_pending(*id)))
        {
            let Pending { changed, read, .. } = self.0.remove(0);
            findings.push(finding(changed, &read, state, &writer));
        }
        findings
    }

    /// When [`Self::ready`] has something to give, answers aside.
    pub fn deadline(&self) -> Option<Mono> {
        self.0.first().map(|first| first.due)
    }
}

fn finding(
    changed: ConfigChanged,
    read: &[SettingsRead],
    state: &mut HostState,
    writer: impl Fn(Option<u32>) -> Process,
) -> Finding {
    let ConfigChanged { time, file, path, change, writer: pid, users } = changed;
    // An editor's second step may be done by now: what was read is what is there in the old one's place.
    let is_there = |read: &SettingsRead| path_of(read) == Some(&path);
    let change = match change {
        FileChange::Removed if read.iter().any(is_there) => FileChange::Replaced,
        change => change,
    };
    let writer = writer(pid);
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
