//! What the configuration of a server says, as text: one detail a source.

use super::Text;
use crate::model::escape::{in_quotes, quoted};
use crate::output::schema::{Cause, Claim, ClaimSource, Process, Time, Verdict};

impl Text {
    /// What one source says, and what there is to know of that.
    pub(super) fn claims(&self, source: &[&Claim], says: &str, processes: &[&Process], now: Time) -> String {
        let Some(Claim { source: name, value, changed, pid, .. }) = source.first() else {
            return String::new();
        };
        let owner = processes.iter().find(|process| process.pid == *pid);
        let started = owner
            .and_then(|owner| owner.start_time)
            .map(|start| format!("process started {}", self.moment(start, now)));
        let written = changed.map(|changed| format!("written {}", self.moment(changed, now)));
        let mut facts: Vec<String> = written.into_iter().chain(started).collect();
        for note in source.iter().filter_map(|claim| claim.note.as_ref()) {
            if !facts.contains(note) {
                facts.push(note.clone());
            }
        }
        // A path is the server's choice; other sources are few, and their names fixed.
        let source = match name {
            ClaimSource::File(path) => quoted(path),
            other => other.as_str().into(),
        };
        let says = match (name, value) {
            (_, None) => format!("{source} cannot be read"),
            (ClaimSource::Arguments, Some(_)) => format!("its arguments say {says}"),
            (_, Some(_)) => format!("{source} says {says}"),
        };
        if facts.is_empty() { says } else { format!("{says} ({})", facts.join(", ")) }
    }

    /// A moment by its time of day, and by its date where that is another one than that of `now`.
    fn moment(&self, time: Time, now: Time) -> String {
        let local = |time: Time| time.0.to_zoned(self.zone.clone());
        let format = if local(time).date() == local(now).date() { "%H:%M:%S" } else { "%Y-%m-%d %H:%M:%S" };
        local(time).strftime(format).to_string()
    }
}

/// A setting that agrees with the sockets is not news; of a server that never had any, what it asked for is.
pub fn is_worth_saying(claim: &Claim, verdict: &Verdict) -> bool {
    claim.agrees == Some(false)
        || claim.value.is_none()
        || verdict.cause == Cause::NeverListened
            && verdict.candidates.first().is_some_and(|candidate| candidate.process.pid == claim.pid)
}

/// Claims that stand together, of one process and one source each.
pub fn by_source<'a>(claims: &'a [&'a Claim]) -> impl Iterator<Item = &'a [&'a Claim]> {
    claims.chunk_by(|one, other| {
        (one.pid, &one.source, one.value.is_none()) == (other.pid, &other.source, other.value.is_none())
    })
}

/// A setting and what it says.
pub fn setting(claim: &Claim) -> String {
    format!("{} {}", claim.what, in_quotes(claim.value.as_deref().unwrap_or_default()))
}
