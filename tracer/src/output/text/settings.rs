//! What the configuration of a server sets, as text: one detail a source.

use super::Text;
use crate::model::escape::{in_quotes, quoted};
use crate::output::schema::{Cause, ConfiguredValue, Process, SettingSource, Time, Verdict};

impl Text {
    /// What one source sets, and when and by which process.
    pub(super) fn configured_source(
        &self,
        source: &[&ConfiguredValue],
        values: &str,
        processes: &[&Process],
        now: Time,
    ) -> String {
        let Some(ConfiguredValue { source: name, value, changed, pid, .. }) = source.first() else {
            return String::new();
        };
        let owner = processes.iter().find(|process| process.pid == *pid);
        let started = owner
            .and_then(|owner| owner.start_time)
            .map(|start| format!("process started {}", self.moment(start, now)));
        let written = changed.map(|changed| format!("written {}", self.moment(changed, now)));
        let mut facts: Vec<String> = written.into_iter().chain(started).collect();
        for note in source.iter().filter_map(|configured| configured.note.as_ref()) {
            if !facts.contains(note) {
                facts.push(note.clone());
            }
        }
        // A path is the server's choice; other sources are few, and their names fixed.
        let source = match name {
            SettingSource::File(path) => quoted(path),
            other => other.as_str().into(),
        };
        let words = match (name, value) {
            (_, None) => format!("{source} cannot be read"),
            (SettingSource::Arguments, Some(_)) => format!("its arguments set {values}"),
            (_, Some(_)) => format!("{source} sets {values}"),
        };
        if facts.is_empty() { words } else { format!("{words} ({})", facts.join(", ")) }
    }

    /// A moment by its time of day, and by its date where that is another one than that of `now`.
    fn moment(&self, time: Time, now: Time) -> String {
        let local = |time: Time| time.0.to_zoned(self.zone.clone());
        let format = if local(time).date() == local(now).date() { "%H:%M:%S" } else { "%Y-%m-%d %H:%M:%S" };
        local(time).strftime(format).to_string()
    }
}

/// A setting that agrees with the sockets is not shown; of a server that never had sockets, what it asked for is.
pub fn is_shown(configured: &ConfiguredValue, verdict: &Verdict) -> bool {
    configured.agrees == Some(false)
        || configured.value.is_none()
        || verdict.cause == Cause::NeverListened
            && verdict.candidates.first().is_some_and(|candidate| candidate.process.pid == configured.pid)
}

/// Configured values in groups, of one process and one source each.
pub fn by_source<'a>(values: &'a [&'a ConfiguredValue]) -> impl Iterator<Item = &'a [&'a ConfiguredValue]> {
    values.chunk_by(|one, other| {
        (one.pid, &one.source, one.value.is_none()) == (other.pid, &other.source, other.value.is_none())
    })
}

/// A setting and its value.
pub fn setting(configured: &ConfiguredValue) -> String {
    format!("{} {}", configured.what, in_quotes(configured.value.as_deref().unwrap_or_default()))
}
