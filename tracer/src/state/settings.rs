//! What servers' configurations, arguments and environments set, beside what their sockets show.

use std::collections::VecDeque;
use std::net::IpAddr;

use std::path::PathBuf;

use crate::model::hash::HashMap;
use crate::model::process::Process;
use crate::model::socket::{Listener, NetnsId};
use crate::model::time::{Interval, Mono, WallTime};
use crate::products::{self, ConfigFile, Name, Override, Product, ServerSettings, Source};
use crate::query::{FileId, SettingsRead};
use crate::state::listeners::Listeners;

/// Processes whose settings are remembered.
const READ_MAX: usize = 256;

/// Processes whose settings one verdict shows.
pub const SHOWN_MAX: usize = 3;

/// Changes of one file that are remembered.
const CHANGES_MAX: usize = 16;

/// Files whose changes are remembered.
const FILES_MAX: usize = 64;

/// A change of the address that a file asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rewrite {
    pub time: Mono,
    /// The setting, and its value before and after.
    pub what: Name,
    pub from: Option<String>,
    pub to: Option<String>,
    /// The process that did it.
    pub process: Process,
}

/// One configured value, beside what the sockets show.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfiguredValue {
    pub pid: u32,
    /// The setting; `file` for a configuration file that sets nothing.
    pub what: String,
    /// `None`: it cannot be read.
    pub value: Option<String>,
    pub source: ValueSource,
    /// When the file was last written.
    pub changed: Option<WallTime>,
    /// Whether the sockets agree; `None`: they show nothing of it, or another source wins over this one.
    pub agrees: Option<bool>,
    pub note: Option<String>,
}

/// Where a configured value stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ValueSource {
    File(PathBuf),
    /// Not a file.
    Outside(Source),
}

/// A setting that has another value than before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SettingChange {
    pub what: &'static str,
    pub from: Option<String>,
    pub to: Option<String>,
}

/// What was read of a process, and when.
#[derive(Debug)]
struct Read {
    interval: Interval,
    settings: SettingsRead,
}

/// The settings of processes.
#[derive(Debug, Default)]
pub struct SettingsBook {
    known: HashMap<u32, Read>,
    files: HashMap<FileId, History>,
}

/// What became of one file.
#[derive(Debug, Default)]
struct History {
    /// What it set when it was first read, or when it last changed.
    values: Vec<(Name, String)>,
    rewrites: VecDeque<Rewrite>,
}

fn in_file(settings: Option<&ServerSettings>) -> Option<&Vec<(Name, String)>> {
    Some(&settings?.in_file()?.values)
}

impl SettingsBook {
    /// Takes what was read of a process.
    pub fn note(&mut self, settings: SettingsRead, interval: Interval) {
        let pid = settings.pid;
        // What was set stays known when the process has ended by the time of another query.
        if settings.started.is_none()
            && let Some(known) = self.known.get_mut(&pid)
        {
            known.interval = interval;
            return;
        }
        if self.known.len() >= READ_MAX && !self.known.contains_key(&pid) {
            let oldest = self.known.iter().min_by_key(|(_, known)| known.interval.ended).map(|(pid, _)| *pid);
            oldest.and_then(|pid| self.known.remove(&pid));
        }
        if let (Some(file), Some(values)) = (settings.file, in_file(settings.settings.as_ref())) {
            if self.files.len() >= FILES_MAX && !self.files.contains_key(&file) {
                self.files.clear();
            }
            self.files
                .entry(file)
                .or_insert_with(|| History { values: values.clone(), ..History::default() });
        }
        self.known.insert(pid, Read { interval, settings });
    }

    /// The settings of a process could not be read: what was known of it stays.
    pub fn unknown(&mut self, pid: u32, interval: Interval) {
        self.note(SettingsRead { pid, started: None, settings: None, file: None }, interval);
    }

    /// Takes a change of a file, with what was read of its users since, and gives the settings that have other values.
    pub fn changed(
        &mut self,
        (file, time): (FileId, Mono),
        writer: &Process,
        read: &[SettingsRead],
    ) -> Vec<SettingChange> {
        // A file that cannot be read is not one that sets nothing.
        let now = read.iter().find_map(|read| {
            let settings = read.settings.as_ref()?;
            Some((settings.product, in_file(Some(settings))?.clone()))
        });
        let (Some((product, now)), Some(history)) = (now, self.files.get_mut(&file)) else {
            return Vec::new();
        };
        let changed = differences(&*product, &history.values, &now);
        let what = product.bind();
        if let Some(SettingChange { from, to, .. }) = changed.iter().find(|changed| changed.what == what) {
            if history.rewrites.len() >= CHANGES_MAX {
                history.rewrites.pop_front();
            }
            let (from, to, process) = (from.clone(), to.clone(), writer.clone());
            history.rewrites.push_back(Rewrite { time, what: what.into(), from, to, process });
        }
        history.values = now;
        changed
    }

    /// The last change of the file that a process uses, where it took back the one before.
    pub fn taken_back(&self, user: &Process) -> Option<(&Rewrite, &Rewrite)> {
        let file = self.known.get(&user.pid?)?.settings.file?;
        let mut newest = self.files.get(&file)?.rewrites.iter().rev();
        let (last, before) = (newest.next()?, newest.next()?);
        (last.to == before.from && last.from == before.to).then_some((before, last))
    }

    /// Whether a client may have a file of its own that says which server it asks, by what is known of it.
    pub fn may_be_of_client(client: &Process) -> bool {
        products::may_be_client(client)
    }

    /// When the settings of a process were last read.
    pub fn last_read(&self, pid: u32) -> Option<Interval> {
        self.known.get(&pid).map(|known| known.interval)
    }

    /// What a process's configuration sets, also after its end.
    pub fn of(&self, process: &Process) -> Option<&ServerSettings> {
        let known = &self.known.get(&process.pid?)?.settings;
        known.settings.as_ref().filter(|_| known.started == process.start)
    }

    /// The process that a number was read of.
    pub fn user(&self, pid: u32) -> Process {
        let start = self.known.get(&pid).and_then(|known| known.settings.started);
        Process { pid: Some(pid), start, ..Process::default() }
    }

    /// The configured values of a process, and whether its sockets in a namespace agree; `None`: it has none.
    pub fn values(
        &self,
        process: &Process,
        netns: Option<NetnsId>,
        listeners: &Listeners,
    ) -> Vec<ConfiguredValue> {
        let (Some(pid), Some(settings)) = (process.pid, self.of(process)) else { return Vec::new() };
        let open = netns.into_iter().flat_map(|netns| listeners.open_in(netns));
        let sockets: Vec<&Listener> = open.filter(|listener| listener.process.pid == Some(pid)).collect();
        let addrs: Vec<IpAddr> = sockets.iter().map(|listener| listener.addr).collect();
        let ports: Vec<u16> = sockets.iter().map(|listener| listener.port).collect();
        let agrees = |what: &str| settings.product.agrees(what, settings, &addrs, &ports);
        let mut values: Vec<ConfiguredValue> = Vec::new();
        let is_set = |values: &[ConfiguredValue], what: &str| values.iter().any(|value| value.what == what);
        let outside = |values: &[ConfiguredValue], one: &Override| ConfiguredValue {
            pid,
            what: one.what.to_string(),
            value: one.value.clone(),
            source: ValueSource::Outside(one.source.clone()),
            changed: None,
            agrees: if is_set(values, &one.what) { None } else { agrees(&one.what) },
            note: None,
        };
        for one in &settings.overrides {
            values.push(outside(&values, one));
        }
        for file in settings.overlays.iter().chain(&settings.file) {
            let of_file =
                values_of_file(pid, file, |what| if is_set(&values, what) { None } else { agrees(what) });
            values.extend(of_file);
        }
        for one in &settings.fallbacks {
            values.push(outside(&values, one));
        }
        values.retain(|value| !settings.product.is_of_clients(&value.what));
        values
    }
}

/// The settings that have another value.
fn differences(
    product: &dyn Product,
    before: &[(Name, String)],
    now: &[(Name, String)],
) -> Vec<SettingChange> {
    let value = |values: &[(Name, String)], what: &str| {
        values.iter().find(|(own, _)| *own == what).map(|(_, value)| value.clone())
    };
    product
        .settings_read()
        .into_iter()
        .map(|what| SettingChange { what, from: value(before, what), to: value(now, what) })
        .filter(|change| change.from != change.to)
        .collect()
}

/// What a configuration file sets.
fn values_of_file(
    pid: u32,
    file: &ConfigFile,
    agrees: impl Fn(&str) -> Option<bool>,
) -> Vec<ConfiguredValue> {
    let configured = |what: &str, value: Option<String>, note: Option<String>| ConfiguredValue {
        pid,
        what: what.to_owned(),
        value,
        source: ValueSource::File(file.path.clone()),
        changed: file.changed,
        agrees: agrees(what),
        note,
    };
    match &file.settings {
        Err(why) => vec![configured("file", None, Some(why.clone()))],
        Ok(settings) => {
            let note =
                settings.includes.then(|| "it includes other files, which are not followed".to_owned());
            let set = settings.values.iter();
            let mut lines: Vec<ConfiguredValue> = set
                .map(|(what, value)| {
                    let is_variable = value.contains("${");
                    let note = is_variable
                        .then(|| "a variable, which is not followed".to_owned())
                        .or_else(|| note.clone());
                    configured(what, Some(value.clone()), note)
                })
                .collect();
            if lines.is_empty() && note.is_some() {
                lines.push(configured("file", None, note));
            }
            lines
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::time::StartTime;
    use crate::products::{FileSettings, registry};

    #[test]
    fn settings_take_no_more_room_than_their_bound() {
        let mut book = SettingsBook::default();
        for pid in 1..=3 * READ_MAX as u32 {
            let values = vec![("listen".into(), "lan".to_owned())];
            let settings = Ok(FileSettings { values, ..FileSettings::default() });
            let file = ConfigFile { path: "/etc/server.conf".into(), changed: None, settings };
            let settings = ServerSettings { file: Some(file), ..ServerSettings::of(registry()[0]) };
            let interval = Interval { began: Mono(u64::from(pid)), ended: Mono(u64::from(pid)) };
            let file = Some(FileId(u64::from(pid)));
            let started = Some(StartTime::from_ticks(1));
            book.note(SettingsRead { pid, started, settings: Some(settings), file }, interval);
            assert!(book.known.len() <= READ_MAX && book.files.len() <= FILES_MAX);
        }
        assert!(book.last_read(3 * READ_MAX as u32).is_some(), "the newest stays");
    }
}
