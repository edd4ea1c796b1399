//! What servers say of themselves, beside what their sockets show.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;

use super::listeners::Table;
use crate::claims::{Claims, ConfigFile, Product};
use crate::escape::escape;
use crate::event::{Claimed, Configured, FileId, Listener, Look, Mono, NetnsId};
use crate::line::{self, Process};

/// Processes whose claims are remembered.
const CLAIMED_MAX: usize = 256;

/// Processes whose claims one verdict shows.
pub const SHOWN_MAX: usize = 3;

/// Changes of one file that are remembered.
const CHANGES_MAX: usize = 16;

/// Files whose changes are remembered.
const FILES_MAX: usize = 64;

/// A change of the address that a file asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rewrite {
    pub time: Mono,
    /// The setting, and what it said before and after.
    pub what: &'static str,
    pub from: Option<String>,
    pub to: Option<String>,
    /// Who did it.
    pub process: Process,
}

/// The claims of processes.
#[derive(Debug, Default)]
pub struct Book {
    claimed: HashMap<u32, Claimed>,
    files: HashMap<FileId, History>,
}

/// What became of one file.
#[derive(Debug, Default)]
struct History {
    /// What it said when it was first read, or when it last changed.
    said: Vec<(&'static str, String)>,
    rewrites: VecDeque<Rewrite>,
}

fn said(claims: Option<&Claims>) -> Option<&Vec<(&'static str, String)>> {
    Some(&claims?.settings()?.said)
}

impl Book {
    pub fn note(&mut self, claimed: Claimed) {
        // What a process has said stays when it has ended by the time of another look.
        if claimed.started.is_none()
            && let Some(known) = self.claimed.get_mut(&claimed.pid)
        {
            known.look = claimed.look;
            return;
        }
        if self.claimed.len() >= CLAIMED_MAX && !self.claimed.contains_key(&claimed.pid) {
            let oldest =
                self.claimed.values().min_by_key(|claimed| claimed.look.ended).map(|claimed| claimed.pid);
            oldest.and_then(|pid| self.claimed.remove(&pid));
        }
        if let (Some(file), Some(said)) = (claimed.file, said(claimed.claims.as_ref())) {
            if self.files.len() >= FILES_MAX && !self.files.contains_key(&file) {
                self.files.clear();
            }
            self.files.entry(file).or_insert_with(|| History { said: said.clone(), ..History::default() });
        }
        self.claimed.insert(claimed.pid, claimed);
    }

    /// Takes a change of a file, with what its users claim now, and gives the settings that say something else.
    pub fn changed(&mut self, configured: Configured) -> Vec<line::SettingChange> {
        let Configured { time, file, process, claimed, .. } = configured;
        // What cannot be read says nothing: that nothing is set is another thing.
        let now = claimed.iter().find_map(|claimed| {
            let claims = claimed.claims.as_ref()?;
            Some((claims.product, said(Some(claims))?.clone()))
        });
        let history = self.files.get_mut(&file);
        let changed = match (now, history) {
            (Some((product, now)), Some(history)) => {
                let changed = differences(product, &history.said, &now);
                let what = product.bind();
                let bind = changed.iter().find(|changed| changed.what == what);
                if let Some(line::SettingChange { from, to, .. }) = bind {
                    if history.rewrites.len() >= CHANGES_MAX {
                        history.rewrites.pop_front();
                    }
                    let (from, to) = (from.clone(), to.clone());
                    history.rewrites.push_back(Rewrite { time, what, from, to, process });
                }
                history.said = now;
                changed
            }
            (None, _) | (_, None) => Vec::new(),
        };
        for claimed in claimed {
            self.note(claimed);
        }
        changed
    }

    /// The last change of the file that a process uses, where it took back the one before.
    pub fn taken_back(&self, user: &Process) -> Option<(&Rewrite, &Rewrite)> {
        let file = self.claimed.get(&user.pid?)?.file?;
        let mut newest = self.files.get(&file)?.rewrites.iter().rev();
        let (last, before) = (newest.next()?, newest.next()?);
        (last.to == before.from && last.from == before.to).then_some((before, last))
    }

    /// When the claims of a process were last read.
    pub fn look(&self, pid: u32) -> Option<Look> {
        self.claimed.get(&pid).map(|claimed| claimed.look)
    }

    /// What a process says, also after its end.
    pub fn of(&self, process: &Process) -> Option<&Claims> {
        let claimed = self.claimed.get(&process.pid?)?;
        claimed.claims.as_ref().filter(|_| claimed.started == process.start_time)
    }

    /// What a process claims, and whether its sockets in a namespace agree.
    pub fn lines(&self, process: &Process, netns: NetnsId, table: &Table) -> Vec<line::Claim> {
        let (Some(pid), Some(claims)) = (process.pid, self.of(process)) else { return Vec::new() };
        let sockets: Vec<&Listener> =
            table.open_in(netns).filter(|listener| listener.process.pid == Some(pid)).collect();
        let addrs: Vec<IpAddr> = sockets.iter().map(|listener| listener.addr).collect();
        let ports: Vec<u16> = sockets.iter().map(|listener| listener.port).collect();
        let agrees = |what: &str| claims.product.agrees(what, claims, &addrs, &ports);
        let mut lines: Vec<line::Claim> = Vec::new();
        for said in &claims.said {
            let is_first = !lines.iter().any(|line| line.what == said.what);
            lines.push(line::Claim {
                pid: Some(pid),
                what: said.what.to_owned(),
                value: said.value.clone(),
                source: said.source.to_string(),
                changed: None,
                agrees: if is_first { agrees(said.what) } else { None },
                note: None,
            });
        }
        if let Some(file) = &claims.file {
            let won_over = |what: &str| claims.said.iter().any(|said| said.what == what);
            lines.extend(in_file(pid, file, |what| if won_over(what) { None } else { agrees(what) }));
        }
        lines
    }
}

/// The settings that say something else.
fn differences(
    product: &dyn Product,
    before: &[(&'static str, String)],
    now: &[(&'static str, String)],
) -> Vec<line::SettingChange> {
    let value = |said: &[(&str, String)], what: &str| {
        said.iter().find(|(own, _)| *own == what).map(|(_, value)| value.clone())
    };
    product
        .settings_read()
        .into_iter()
        .map(|what| line::SettingChange {
            what: what.to_owned(),
            from: value(before, what),
            to: value(now, what),
        })
        .filter(|change| change.from != change.to)
        .collect()
}

/// What a configuration file says.
fn in_file(pid: u32, file: &ConfigFile, agrees: impl Fn(&str) -> Option<bool>) -> Vec<line::Claim> {
    let claim = |what: &str, value: Option<String>, note: Option<String>| line::Claim {
        pid: Some(pid),
        what: what.to_owned(),
        value,
        source: escape(file.path.as_os_str().as_encoded_bytes()),
        changed: file.changed,
        agrees: agrees(what),
        note,
    };
    match &file.settings {
        Err(why) => vec![claim("file", None, Some(why.clone()))],
        Ok(settings) => {
            let note =
                settings.includes.then(|| "it includes other files, which are not followed".to_owned());
            let said = settings.said.iter();
            let mut lines: Vec<line::Claim> = said
                .map(|(what, value)| {
                    let is_variable = value.contains("${");
                    let note = is_variable
                        .then(|| "a variable, which is not followed".to_owned())
                        .or_else(|| note.clone());
                    claim(what, Some(value.clone()), note)
                })
                .collect();
            if lines.is_empty() && note.is_some() {
                lines.push(claim("file", None, note));
            }
            lines
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::claims::openclaw::OpenClaw;

    #[test]
    fn claims_take_no_more_room_than_their_bound() {
        let mut book = Book::default();
        for pid in 1..=3 * CLAIMED_MAX as u32 {
            let settings = OpenClaw.settings("{gateway:{bind:'lan'}}");
            let file = ConfigFile { path: "/openclaw.json".into(), changed: None, settings };
            let claims = Claims { product: &OpenClaw, said: Vec::new(), file: Some(file) };
            let look = Look { began: Mono(u64::from(pid)), ended: Mono(u64::from(pid)) };
            let file = Some(FileId(u64::from(pid)));
            let started = Some(line::Time(jiff::Timestamp::UNIX_EPOCH));
            book.note(Claimed { look, pid, started, claims: Some(claims), file });
            assert!(book.claimed.len() <= CLAIMED_MAX && book.files.len() <= FILES_MAX);
        }
        assert!(book.look(3 * CLAIMED_MAX as u32).is_some(), "the newest stays");
    }
}
