//! `-o text`: lines of the log as text for people.
//!
//! ```text
//! 10:41:07.114  REFUSED  curl[5511] -> 127.0.0.1:18789: wrong-address
//!               what the kernel shows
//!               hint: what to do
//! ```
//!
//! This file has one function a line type.
//!
//! | file | job |
//! |---|---|
//! | `status.rs` | the answer of `tracer status` |
//! | `settings.rs` | the configured values of a server |
//! | `memory.rs` | what text keeps of earlier lines |

mod memory;
mod settings;
mod status;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{self, Write};

use anstyle::{AnsiColor, Style};
use jiff::civil::Date;
use jiff::tz::TimeZone;

use crate::model::container;
use crate::model::escape::{in_quotes, quoted};
use crate::output::schema::{
    Alive, Answer, Because, Bind, Body, Call, Change, Config, ConfigChange, ConfiguredValue, Container,
    Endpoint, Failed, FailedBy, Fallback, Line, Listener, ListenerLine, Lost, LostWhere, Mismatch, Netns,
    Owner, OwnerState, Process, Ready, Recovered, Refused, Repeated, Role, SettingChange, Start, Stop, Time,
};
use crate::output::words::{ago, counted, in_brackets, signal_name, who_in_line};
use memory::{Details, FailedBinds, Refusals, Remembered};
use settings::{by_source, is_shown, setting};

/// Columns that details are indented by: a time and two spaces.
const INDENT: usize = 14;

const ALARM: Style = AnsiColor::Red.on_default().bold();
const GOOD: Style = AnsiColor::Green.on_default();
const CHANGE: Style = AnsiColor::Yellow.on_default();
const STRONG: Style = Style::new().bold();
const HINT: Style = AnsiColor::Cyan.on_default();
const FAINT: Style = Style::new().dimmed();

/// Renders lines as text. Colours are always written: the stream behind strips them where they are not
/// wanted.
pub struct Text {
    zone: TimeZone,
    /// Columns at which details are wrapped.
    width: usize,
    /// The namespace whose name is not printed: tracer's own.
    own: Option<u32>,
    /// Up to `ready`, namespaces without a name that a container's process listens in.
    containers: BTreeMap<u32, String>,
    date: Option<Date>,
    ports: Vec<u16>,
    refusals: Refusals,
    failed_binds: FailedBinds,
    /// Connects that failed otherwise are printed one by one.
    prints_failures: bool,
    details: Details,
}

impl Text {
    pub fn new(zone: TimeZone, width: usize) -> Self {
        Self {
            zone,
            width: width.max(60),
            own: None,
            containers: BTreeMap::new(),
            date: None,
            ports: Vec::new(),
            refusals: Refusals::default(),
            failed_binds: FailedBinds::default(),
            prints_failures: false,
            details: Details::default(),
        }
    }

    /// Writes one line of the log as text.
    ///
    /// # Errors
    /// When `out` does not take it.
    pub fn write(&mut self, line: &Line, out: &mut dyn Write) -> io::Result<()> {
        let mut text = String::new();
        match &line.body {
            Body::Start(start) => self.start(start, line.time, &mut text),
            Body::Ready(ready) => self.ready(ready, line.time, &mut text),
            Body::Listener(listener) => self.listener(listener, line.time, &mut text),
            Body::Bind(bind) => self.bind(bind, line.time, &mut text),
            Body::Refused(refused) => {
                self.remember(line);
                self.refused(refused, line.time, &mut text);
            }
            Body::Repeated(repeated) => self.repeated(repeated, line.time, &mut text),
            Body::Recovered(recovered) => self.recovered(recovered, line.time, &mut text),
            Body::Fallback(fallback) => self.fallback(fallback, line.time, &mut text),
            Body::Config(config) => self.config(config, line.time, &mut text),
            Body::Failed(failed) => self.failed(failed, line.time, &mut text),
            Body::Alive(alive) => self.alive(alive, line.time, &mut text),
            Body::Lost(lost) => self.lost(lost, line.time, &mut text),
            Body::Status(status) => self.status(status, line.time, &mut text),
            Body::Stop(stop) => self.stop(stop, &mut text),
        }
        out.write_all(text.as_bytes())
    }

    /// A line's time of day and label; the date before it, when it has changed.
    fn head(&mut self, time: Time, label: &str, style: Style, text: &mut String) {
        let local = time.0.to_zoned(self.zone.clone());
        if self.date != Some(local.date()) {
            if self.date.is_some() {
                put(text, format_args!("{FAINT}{}{FAINT:#}\n", local.strftime("%Y-%m-%d (UTC%:z)")));
            }
            self.date = Some(local.date());
        }
        put(text, format_args!("{}  {style}{label:<8}{style:#} ", local.strftime("%H:%M:%S%.3f")));
    }

    /// A detail: indented, wrapped between words, further lines under the text behind its `label`.
    fn detail(&self, label: &str, style: Style, words: &str, text: &mut String) {
        let indent = INDENT + label.len();
        put(text, format_args!("{:INDENT$}{style}{label}{style:#}", ""));
        let mut column = indent;
        for (index, word) in words_of(words).enumerate() {
            let length = word.chars().count();
            if index > 0 && column + 1 + length > self.width {
                put(text, format_args!("\n{:indent$}", ""));
                column = indent;
            } else if index > 0 {
                text.push(' ');
                column += 1;
            }
            text.push_str(word);
            column += length;
        }
        text.push('\n');
    }

    /// The name of a namespace other than the tracer's own.
    fn netns(&self, netns: &Netns) -> Option<String> {
        (self.own != Some(netns.id)).then(|| shown(netns))
    }

    /// Where a refusal happened: the client's namespace, where that is not tracer's own, its container, and the container
    /// that refused. A container identifies more than the number of a namespace without a name.
    fn places(&self, refused: &Refused) -> Vec<String> {
        let client = refused.client.container.as_ref().map(container_label);
        let netns = self.netns(&refused.netns).filter(|_| client.is_none() || refused.netns.name.is_some());
        let mut places = Vec::new();
        places.extend(netns.map(|netns| container_in(refused).map_or(netns, container_label)));
        places.extend(client);
        if let Some(reached) = reached(refused).map(container_label)
            && !places.contains(&reached)
        {
            let to = if places.is_empty() { "" } else { "to " };
            places.push(format!("{to}{reached}"));
        }
        places
    }

    fn ports_shown(&self) -> String {
        let ports: Vec<String> = self.ports.iter().map(u16::to_string).collect();
        ports.join(",")
    }

    fn start(&mut self, start: &Start, time: Time, text: &mut String) {
        self.own = Some(start.own_netns.id);
        self.ports.clone_from(&start.ports);
        let local = time.0.to_zoned(self.zone.clone());
        self.date = Some(local.date());
        put(
            text,
            format_args!(
                "{STRONG}tracer {}{STRONG:#}  port {}  host {}  kernel {}  {}\n",
                start.version,
                self.ports_shown(),
                start.host,
                start.kernel,
                local.strftime("%Y-%m-%d (UTC%:z)"),
            ),
        );
        for limit in &start.limits {
            self.detail("limit: ", CHANGE, &limit.why, text);
        }
    }

    fn ready(&mut self, ready: &Ready, time: Time, text: &mut String) {
        for group in ready.addresses.chunk_by(|one, other| one.netns == other.netns && one.port == other.port)
        {
            self.head(time, "STATUS", STRONG, text);
            let Some(first) = group.first() else { continue };
            if let Some(netns) = self.netns(&first.netns) {
                put(text, format_args!("{}  ", self.containers.get(&first.netns.id).unwrap_or(&netns)));
            }
            if self.ports.len() > 1 {
                put(text, format_args!("port {}  ", first.port));
            }
            let named = |answered: bool| -> Vec<String> {
                let of = |answer: &&Answer| answer.answered == answered;
                group.iter().filter(of).map(|answer| in_brackets(&answer.addr)).collect()
            };
            let (refused, answered) = (named(false), named(true));
            let mut parts = Vec::new();
            if !refused.is_empty() {
                parts.push(format!("{ALARM}refused:{ALARM:#} {}", refused.join(", ")));
            }
            if !answered.is_empty() {
                parts.push(format!("{GOOD}answered:{GOOD:#} {}", answered.join(", ")));
            }
            put(text, format_args!("{}\n", parts.join("   ")));
        }
        // From now on their numbers may be given to others.
        self.containers.clear();
    }

    fn listener(&mut self, line: &ListenerLine, time: Time, text: &mut String) {
        let listener = &line.listener;
        match line.change {
            Change::Present | Change::Opened => self.head(time, "LISTEN", GOOD, text),
            Change::Closed => self.head(time, "CLOSED", CHANGE, text),
        }
        put(text, format_args!("{}  {}", socket(listener), who(&listener.process)));
        match line.change {
            Change::Present | Change::Opened => {
                if let Some(uid) = listener.process.uid {
                    put(text, format_args!(" uid {uid}"));
                }
            }
            Change::Closed => put(text, format_args!("{}", fate(line.owner.as_ref()))),
        }
        let mut notes = Vec::new();
        let container = listener.process.container.as_ref().map(container_label);
        // A container identifies more than a namespace's number.
        if container.is_none() || listener.netns.name.is_some() {
            notes.extend(self.netns(&listener.netns));
        } else if let (Change::Present, Some(container)) = (line.change, &container) {
            self.containers.entry(listener.netns.id).or_insert_with(|| container.clone());
        }
        notes.extend(container);
        match (&listener.device, &listener.interface) {
            (Some(device), _) => notes.push(format!("bound to {}", quoted(device))),
            (None, Some(interface)) if interface != "lo" => notes.push(quoted(interface).into_owned()),
            (None, Some(_) | None) => {}
        }
        if listener.v6only == Some(true) && listener.addr == "::" {
            notes.push("IPv6 only".to_owned());
        }
        if line.change == Change::Present {
            notes.push("since before tracer".to_owned());
        }
        if !notes.is_empty() {
            put(text, format_args!("  {FAINT}{}{FAINT:#}", notes.join(", ")));
        }
        text.push('\n');
    }

    fn refused(&mut self, refused: &Refused, time: Time, text: &mut String) {
        let verdict = &refused.verdict;
        let label = match refused.role {
            Role::Client => "REFUSED",
            Role::Upstream => "UPSTREAM",
        };
        self.head(time, label, ALARM, text);
        put(
            text,
            format_args!(
                "{} -> {}: {STRONG}{}{STRONG:#}",
                who(&refused.client),
                endpoint(&refused.dst),
                verdict.cause.name(),
            ),
        );
        let places = self.places(refused);
        if !places.is_empty() {
            put(text, format_args!("  ({})", places.join(", ")));
        }
        text.push('\n');
        self.detail("", Style::new(), &verdict.summary, text);
        if !verdict.because.is_empty() {
            let reasons: Vec<&str> = verdict.because.iter().map(|because| reason(*because)).collect();
            self.detail("not certain: ", CHANGE, &reasons.join("; "), text);
        }
        let values: Vec<&ConfiguredValue> =
            verdict.claims.iter().filter(|claim| is_shown(claim, verdict)).collect();
        let processes = verdict.listeners.iter().map(|evaluated| &evaluated.listener.process);
        let processes = processes.chain(verdict.candidates.iter().map(|candidate| &candidate.process));
        let processes: Vec<&Process> = processes.collect();
        for source in by_source(&values) {
            let values = source.iter().map(|claim| setting(claim)).collect::<Vec<_>>().join(", ");
            let words = self.configured_source(source, &values, &processes, time);
            self.detail("setting: ", FAINT, &words, text);
        }
        if let Some(hint) = &verdict.hint {
            self.detail("hint: ", HINT, hint, text);
        }
    }

    /// Keeps of a refusal what later lines about it need.
    pub fn remember(&mut self, line: &Line) {
        if let Body::Refused(refused) = &line.body {
            let remembered = Remembered {
                client: who(&refused.client),
                name: refused
                    .client
                    .comm
                    .as_deref()
                    .map_or_else(|| who(&refused.client), |comm| quoted(comm).into_owned()),
                dst: endpoint(&refused.dst),
                cause: refused.verdict.cause,
                places: self.places(refused),
            };
            self.refusals.note(line.seq, remembered);
        }
    }

    /// A bind that failed: one that succeeded is shown by the listener that comes of it.
    fn bind(&mut self, bind: &Bind, time: Time, text: &mut String) {
        let Some(errno) = &bind.errno else {
            return;
        };
        let Some(suppressed) = self.failed_binds.note(bind, errno, time) else {
            return;
        };
        self.head(time, "BIND", ALARM, text);
        let call = match bind.call {
            Call::Bind => "bind",
            Call::Listen => "listen",
        };
        put(
            text,
            format_args!(
                "{}:{}  {} {call}() failed: {errno}",
                in_brackets(&bind.addr),
                bind.port,
                who(&bind.process)
            ),
        );
        if suppressed > 0 {
            put(text, format_args!(", and {} before", counted(suppressed, "time")));
        }
        if let Some(netns) = self.netns(&bind.netns) {
            put(text, format_args!("  {FAINT}{netns}{FAINT:#}"));
        }
        text.push('\n');
    }

    fn config(&mut self, config: &Config, time: Time, text: &mut String) {
        self.head(time, "CONFIG", CHANGE, text);
        let change = match config.change {
            ConfigChange::Replaced => "replaced",
            ConfigChange::Written => "written",
            ConfigChange::Removed => "removed",
        };
        put(text, format_args!("{} {change} by {}", quoted(&config.path), who(&config.process)));
        text.push('\n');
        let value = |value: &Option<String>| {
            value.as_ref().map_or_else(|| "not set".to_owned(), |value| in_quotes(value))
        };
        for SettingChange { what, from, to } in &config.changed {
            self.detail("", Style::new(), &format!("{what} {}, before {}", value(to), value(from)), text);
        }
    }

    fn repeated(&mut self, repeated: &Repeated, time: Time, text: &mut String) {
        self.head(time, "REPEAT", ALARM, text);
        let first = self.refusals.get(repeated.of);
        if let Some(first) = first {
            put(text, format_args!("{} -> {}: {}, ", first.name, first.dst, first.cause.name()));
        }
        let span = (repeated.last.0.as_nanosecond() - repeated.first.0.as_nanosecond()).max(0) as u64;
        let within = if span > 0 { format!(" in {}", ago(span)) } else { String::new() };
        let by =
            repeated.processes.map_or_else(String::new, |count| format!(" ({})", counted(count, "process")));
        put(text, format_args!("{} more{within}{by}", repeated.count));
        first.into_iter().for_each(|first| put_places(first, text));
        text.push('\n');
    }

    fn recovered(&mut self, recovered: &Recovered, time: Time, text: &mut String) {
        let clients =
            recovered.processes.map_or_else(String::new, |count| format!(" ({})", counted(count, "client")));
        let refusals = match recovered.refusals {
            1 => "its refusal".to_owned(),
            count => format!("the first of {}{clients}", counted(count, "refusal")),
        };
        self.head(time, "RECOVERED", GOOD, text);
        put(
            text,
            format_args!(
                "{} by {}, {} after {refusals}",
                endpoint(&recovered.dst),
                who(&recovered.listener.process),
                ago(recovered.after_us.saturating_mul(1_000)),
            ),
        );
        if let Some(netns) = self.netns(&recovered.netns) {
            put(text, format_args!("  {FAINT}{netns}{FAINT:#}"));
        }
        text.push('\n');
    }

    fn fallback(&mut self, fallback: &Fallback, time: Time, text: &mut String) {
        self.head(time, "FALLBACK", FAINT, text);
        let first = self.refusals.get(fallback.of);
        if let Some(first) = first {
            put(text, format_args!("{} -> {} refused, ", first.client, first.dst));
        }
        let after = ago(fallback.after_us.saturating_mul(1_000));
        put(text, format_args!("{} answered {after} later", endpoint(&fallback.dst)));
        first.into_iter().for_each(|first| put_places(first, text));
        text.push('\n');
    }

    fn failed(&mut self, failed: &Failed, time: Time, text: &mut String) {
        self.prints_failures = true;
        self.head(time, "FAILED", CHANGE, text);
        let after = ago(failed.after_us.saturating_mul(1_000));
        let how = match &failed.errno {
            Some(errno) => format!("{errno} after {after}"),
            None => format!("no answer for {after}, then given up"),
        };
        put(text, format_args!("{} -> {}: not refused: {how}", who(&failed.client), endpoint(&failed.dst)));
        if let Some(netns) = self.netns(&failed.netns) {
            put(text, format_args!("  ({netns})"));
        }
        text.push('\n');
    }

    fn alive(&mut self, alive: &Alive, time: Time, text: &mut String) {
        self.head(time, "ALIVE", FAINT, text);
        put(text, format_args!("{} refused, {} records lost\n", alive.refused, alive.lost));
    }

    fn stop(&self, stop: &Stop, text: &mut String) {
        let causes: Vec<String> =
            stop.by_cause.iter().map(|(cause, count)| format!("{count} {}", cause.name())).collect();
        put(text, format_args!("tracer: {} refused", stop.refused));
        if !causes.is_empty() {
            put(text, format_args!(" ({})", causes.join(", ")));
        }
        let upstream = stop.by_role.get(Role::Upstream).unwrap_or(0);
        if upstream > 0 {
            put(text, format_args!("; {upstream} upstream of servers on {}", self.ports_shown()));
        }
        let failed = stop.failed.values().fold(0_u64, |sum, count| sum.saturating_add(*count));
        if failed > 0 {
            let errors: Vec<String> =
                stop.failed.iter().map(|(errno, count)| format!("{count} {}", failure(errno))).collect();
            let connects = if failed == 1 { "connect" } else { "connects" };
            put(text, format_args!("; {failed} {connects} failed otherwise ({})", errors.join(", ")));
            if !self.prints_failures {
                text.push_str(": see them with --all");
            }
        }
        if stop.lost > 0 {
            put(text, format_args!("; {} records lost", stop.lost));
        }
        text.push('\n');
    }

    fn lost(&mut self, lost: &Lost, time: Time, text: &mut String) {
        self.head(time, "LOST", ALARM, text);
        let (what, cost) = match lost.place {
            LostWhere::Ring => {
                ("the ring buffer was full", "verdicts are not certain until the listeners are read again")
            }
            LostWhere::Decode => {
                ("not readable", "verdicts are not certain until the listeners are read again")
            }
            LostWhere::Attempts => ("too many connects under way", "refusals may be missing"),
            LostWhere::Followed => ("too many processes to follow", "how a server ended may not be reported"),
            LostWhere::Names => ("too many names of programs to watch", "a server may be noticed late"),
            LostWhere::Recursion => ("skipped by the kernel, at most", "refusals may be missing"),
        };
        put(text, format_args!("{} records ({what}): {cost}\n", lost.records));
    }
}

/// Appends; a `String` takes everything.
fn put(text: &mut String, arguments: std::fmt::Arguments<'_>) {
    let _ = text.write_fmt(arguments);
}

/// The places of a refusal behind a later line about it.
fn put_places(first: &Remembered, text: &mut String) {
    if !first.places.is_empty() {
        put(text, format_args!("  {FAINT}{}{FAINT:#}", first.places.join(", ")));
    }
}

fn container_label(container: &Container) -> String {
    container::label_with_pod(&container.clone().into())
}

fn who(process: &Process) -> String {
    who_in_line(process)
}

/// A namespace by its name, or by its number as `lsns` prints it.
fn shown(netns: &Netns) -> String {
    match &netns.name {
        Some(name) => quoted(name).into_owned(),
        None => format!("net:[{}]", netns.id),
    }
}

/// The words of a detail, between which it may wrap: a line never begins with a part of what is quoted.
fn words_of(text: &str) -> impl Iterator<Item = &str> {
    let (mut is_quoted, mut is_escaped) = (false, false);
    text.split(move |character| {
        let is_end = character == ' ' && !is_quoted;
        is_quoted ^= character == '"' && !is_escaped;
        is_escaped = character == '\\' && !is_escaped;
        is_end
    })
}

fn socket(listener: &Listener) -> String {
    format!("{}:{}", in_brackets(&listener.addr), listener.port)
}

fn endpoint(endpoint: &Endpoint) -> String {
    match endpoint.port {
        Some(port) => format!("{}:{port}", in_brackets(&endpoint.addr)),
        None => in_brackets(&endpoint.addr),
    }
}

/// The container whose address refused, where that is not the client's: the one that the nearest listener
/// behind this address is in.
fn reached(refused: &Refused) -> Option<&Container> {
    let is_there = |mismatch: &Option<Mismatch>| !matches!(mismatch, Some(Mismatch::Netns | Mismatch::Port));
    let there = refused.verdict.listeners.iter().find(|evaluated| is_there(&evaluated.mismatch))?;
    let container = there.listener.process.container.as_ref()?;
    let is_other =
        there.listener.netns.id != refused.netns.id && refused.client.container.as_ref() != Some(container);
    is_other.then_some(container)
}

/// The container that a listener in the client's namespace is in, where the namespace has no name.
fn container_in(refused: &Refused) -> Option<&Container> {
    let listeners = refused.verdict.listeners.iter().map(|evaluated| &evaluated.listener);
    let mut there = listeners.filter(|listener| listener.netns.id == refused.netns.id);
    there.find_map(|listener| listener.process.container.as_ref()).filter(|_| refused.netns.name.is_none())
}

/// What became of an owner, behind its name.
fn fate(owner: Option<&Owner>) -> String {
    match owner {
        Some(Owner { state: OwnerState::Alive, .. }) => " (still running)".to_owned(),
        Some(Owner { state: OwnerState::Ended, code: Some(code), .. }) => {
            format!(" (exited with code {code})")
        }
        Some(Owner { state: OwnerState::Ended, signal: Some(signal), .. }) => {
            format!(" (ended by {})", signal_name(*signal))
        }
        Some(Owner { state: OwnerState::Ended, .. }) => " (ended)".to_owned(),
        Some(Owner { state: OwnerState::Unknown, .. }) | None => String::new(),
    }
}

fn reason(because: Because) -> &'static str {
    match because {
        Because::LostRecords => "records were lost, and the listeners not read again since",
        Because::NetnsUnreadable => "a network namespace could not be read",
        Because::MayBeTranslated => "the address may be translated to another",
        Because::AmbiguousNetns => "the address is local in several network namespaces",
        Because::BeforeReady => "it came before tracer was ready",
        Because::ListenerChanging => "a listener opened or closed within 10 ms of the connect",
        Because::HookMissing => "this kernel cannot show all that could have come first",
        Because::HistoryForgotten => "more has happened on the port than is remembered",
        Because::QueryTimeout => "the host did not answer a query within 100 ms",
        Because::ListenerUnconfirmed => "no query after the refusal has confirmed the listener",
        Because::SeveralOwners => "several services have used the port",
        Because::UnverifiedServer => "nothing but its own acts shows that this is the server",
        Because::ClaimOnly => "the server is known by its name alone",
        Because::OtherArguments => "the process has other arguments than the one that served",
        Because::OwnListener => "the listener is the client's own",
        Because::MayBeStarting => "the server may still open the port",
        Because::NotWatchedBefore => "the port was not watched before",
    }
}

/// How a connect failed, as people call it.
fn failure(how: &FailedBy) -> &str {
    match how {
        FailedBy::TimedOut => "timed out",
        FailedBy::GivenUp => "given up",
        FailedBy::Errno(name) => name,
    }
}
