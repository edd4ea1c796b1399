//! The lines of the event log: the types that `-o json` writes, `-o text` renders, and the published
//! JSON Schema describes.
//!
//! Version 1 only grows: fields, types and values of an enumeration may be added, never removed or
//! given another meaning. A field is never left out: what is not known is `null`, never 0 or "".

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::counts::CountsBy;

/// The version of the format.
pub const VERSION: u8 = 1;

/// A moment as RFC 3339 in UTC with nine decimals.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Time(pub jiff::Timestamp);

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.9}", self.0)
    }
}

impl Serialize for Time {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map(Self).map_err(serde::de::Error::custom)
    }
}

impl JsonSchema for Time {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Time".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "description": "RFC 3339, UTC, nanoseconds",
            "type": "string",
            "format": "date-time",
        })
    }
}

/// One line of the log.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(title = "tracer event log line")]
pub struct Line {
    /// Version of the format.
    pub v: u8,
    /// This run of tracer; with `seq` the identity of the line.
    pub run: Uuid,
    /// Position in the output, from 1, without gaps.
    pub seq: u64,
    /// When it happened, by the wall clock, which may step.
    pub time: Time,
    /// The same by CLOCK_MONOTONIC, in microseconds: comparable between lines of one boot.
    pub mono_us: u64,
    /// What happened.
    #[serde(flatten)]
    pub body: Body,
}

/// What a line reports.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Body {
    /// tracer has started.
    Start(Start),
    /// Hooks are attached and the snapshot is taken: from now on what is missed is counted.
    Ready(Ready),
    /// A listener on a watched port was there already, opened or closed.
    Listener(Box<ListenerLine>),
    /// A `bind()` or `listen()` on a watched port has returned.
    Bind(Bind),
    /// A connect was refused, and why.
    Refused(Box<Refused>),
    /// The same refusal happened again.
    Repeated(Repeated),
    /// A destination that was refused is answered again.
    Recovered(Box<Recovered>),
    /// A refused client has reached the other family.
    Fallback(Fallback),
    /// The configuration file of a server has changed.
    Config(Box<Config>),
    /// With `--all`: a connect ended otherwise than by a refusal.
    Failed(Box<Failed>),
    /// With `--heartbeat`: tracer is running.
    Alive(Alive),
    /// Records were lost; verdicts that this could affect are degraded.
    Lost(Lost),
    /// `tracer status`: whether one address is answered.
    Status(Box<Status>),
    /// tracer has ended, in order.
    Stop(Stop),
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Start {
    /// Version of tracer.
    pub version: String,
    /// Process id of tracer.
    pub pid: u32,
    /// Node name (uname -n).
    pub host: String,
    /// Kernel release (uname -r).
    pub kernel: String,
    /// Machine (uname -m).
    pub arch: String,
    /// Which boot of the host: `mono_us` is comparable within one.
    pub boot_id: Option<Uuid>,
    /// Watched ports.
    pub ports: Vec<u16>,
    /// The network namespace that tracer itself runs in.
    pub own_netns: Netns,
    /// The network namespace that refusals are limited to.
    pub netns: Option<Netns>,
    /// Kernel programs that are attached.
    pub hooks: Vec<Hook>,
    /// What this run cannot see, and why.
    pub limits: Vec<Limit>,
}

/// A kernel program and what it is attached to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Hook {
    /// The tracepoint or function.
    pub name: String,
    /// The program type: `tp_btf`, `fexit` or `tracepoint`.
    pub kind: String,
}

/// Something this run cannot see.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Limit {
    /// A short code, stable within a version of the format.
    pub what: String,
    /// One sentence in English.
    pub why: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Ready {
    /// Listeners on watched ports.
    pub listeners: u64,
    /// Network namespaces that were read.
    pub namespaces: u64,
    /// What each local address would get, in each namespace that has a listener and in tracer's own.
    pub addresses: Vec<Answer>,
}

/// Whether a connect from inside a namespace to one of its own addresses is answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Answer {
    pub netns: Netns,
    /// The address, with `%zone` where it has one.
    pub addr: String,
    pub port: u16,
    pub answered: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ListenerLine {
    pub change: Change,
    pub listener: Listener,
    /// With `closed`: what became of the process that held it; otherwise null.
    pub owner: Option<Owner>,
    /// With `closed`: whether it was open for less than 50 ms, by a process that is still running; otherwise null.
    pub transient: Option<bool>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// It was there when tracer attached.
    Present,
    /// Its `listen()` has succeeded.
    Opened,
    /// It has left LISTEN.
    Closed,
}

/// What became of a process that held a listener.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Owner {
    pub state: OwnerState,
    /// Exit code.
    pub code: Option<i32>,
    /// Signal number that ended it.
    pub signal: Option<i32>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OwnerState {
    Alive,
    Ended,
    Unknown,
}

/// A network namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Netns {
    /// Inode number, as in `/proc/PID/ns/net`. The kernel reuses it: no identity.
    pub id: u32,
    /// Name under `/run/netns`.
    pub name: Option<String>,
}

/// A listening socket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Listener {
    /// Address it is bound to, with `%zone` where it has one.
    pub addr: String,
    pub port: u16,
    /// Whether an IPv6 socket refuses IPv4; null for IPv4.
    pub v6only: Option<bool>,
    /// Interface it is bound to.
    pub device: Option<String>,
    /// Interface that carries its address; null for a wildcard.
    pub interface: Option<String>,
    pub netns: Netns,
    /// Socket cookie, in decimal.
    pub cookie: Option<String>,
    /// When it was opened; null when that was before tracer.
    pub since: Option<Time>,
    /// Bound of its accept queue.
    pub backlog: Option<u32>,
    /// The process that holds it.
    pub process: Process,
    /// The process that called `listen()`; null where that was before tracer, or is not known.
    pub opener: Option<Process>,
}

/// A process. Everything but the numbers is the process's own choice, and unverified.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Process {
    /// Process id as the host counts.
    pub pid: Option<u32>,
    /// Process id as its own PID namespace counts.
    pub ns_pid: Option<u32>,
    /// Process id of the parent as the host counts.
    pub ppid: Option<u32>,
    /// User id as the host counts.
    pub uid: Option<u32>,
    /// Name; what is not safe to print is escaped (`\\x1b`, `\\xff`), and so is the backslash.
    pub comm: Option<String>,
    /// Path of the executable, as in its own mount namespace; its file name alone where the process had ended before its path
    /// was read.
    pub exe: Option<String>,
    pub start_time: Option<Time>,
    pub container: Option<Container>,
    /// The systemd unit that it runs in.
    pub unit: Option<Unit>,
}

/// A systemd unit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Unit {
    pub name: String,
    /// User id of the user whose service manager runs it; null: the system's.
    pub user: Option<u32>,
}

/// The container that a process runs in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Container {
    pub id: String,
    pub runtime: Option<String>,
    pub name: Option<String>,
    pub pod_uid: Option<String>,
}

/// One end of a connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Endpoint {
    /// The address, with `%zone` where it has one.
    pub addr: String,
    pub port: Option<u16>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Refused {
    /// The process that called `connect()`.
    pub client: Process,
    pub src: Endpoint,
    pub dst: Endpoint,
    /// The client's network namespace.
    pub netns: Netns,
    pub via: Via,
    /// Who sent the RST; null when that is not known, or when an ICMP message refused.
    pub sent_by: Option<SentBy>,
    /// From `connect()` to the refusal.
    pub latency_us: u64,
    /// Whether the client, or a server that this host watches, was refused.
    #[serde(default)]
    pub role: Role,
    pub verdict: Verdict,
}

/// Whose connect was refused.
#[derive(Default, Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// A connect to a watched port.
    #[default]
    Client,
    /// A connect to any port by a process that holds a listener on a watched one.
    Upstream,
}

/// The server that should have answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Server {
    pub process: Process,
    pub known_by: KnownBy,
    /// Processes of the same service that were seen on this port, ended ones included.
    pub instances: u64,
}

/// How a server is known, the strongest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum KnownBy {
    /// It holds, or held, a listener on the port.
    Listener,
    /// It is of the same service as a process that did.
    Service,
    /// It has called bind() or listen() on the port.
    Bind,
    /// Its name, its script or its product.
    Name,
}

/// A `bind()` or `listen()` on a watched port.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Bind {
    pub call: Call,
    /// The address asked for, with `%zone` where it has one.
    pub addr: String,
    pub port: u16,
    pub netns: Netns,
    pub process: Process,
    /// Name of the error; null: it succeeded.
    pub errno: Option<String>,
}

/// How a server asks for a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Call {
    Bind,
    Listen,
}

/// Refusals like one that was reported already: the same namespace, user, program, cgroup, destination and
/// cause.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Repeated {
    /// `seq` of the first; null where tracer does not remember it any more.
    pub of: Option<u64>,
    /// How many since the last line about it.
    pub count: u64,
    /// By how many processes, of those: at most 1024 are distinguished.
    pub processes: Option<u64>,
    pub first: Time,
    pub last: Time,
}

/// A refused destination is covered by a listener.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Recovered {
    /// `seq` of the refusals that it answers, except those that tracer does not remember any more.
    pub of: Vec<u64>,
    pub dst: Endpoint,
    pub netns: Netns,
    /// Since the first refusal.
    pub after_us: u64,
    /// How many there were.
    pub refusals: u64,
    /// By how many processes: at most 1024 are distinguished.
    pub processes: Option<u64>,
    pub listener: Listener,
}

/// A process that was refused has connected to the counterpart of its destination within a second.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Fallback {
    /// `seq` of the refusal; null where tracer does not remember it any more.
    pub of: Option<u64>,
    /// What answered.
    pub dst: Endpoint,
    /// Since the refusal.
    pub after_us: u64,
}

/// A connect that was not refused, and did not succeed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Failed {
    pub client: Process,
    pub src: Endpoint,
    pub dst: Endpoint,
    pub netns: Netns,
    /// Name of the error; null: the application gave up.
    pub errno: Option<String>,
    pub after_us: u64,
}

/// What was counted so far.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Alive {
    /// Refusals on the watched ports.
    pub refused: u64,
    /// Refusals by role, those on other ports included; a role that did not occur is not listed.
    #[serde(default)]
    pub by_role: CountsBy<Role>,
    pub lost: u64,
}

/// What the refusal came as.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Via {
    Rst,
    Icmp,
}

/// Who sent the RST.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SentBy {
    /// This host's TCP stack, which found no socket (perhaps after a translation).
    Tcp,
    /// No TCP stack of this host: a packet filter, or another host that it was translated to.
    Filter,
}

/// Why the connect was not answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Verdict {
    pub cause: Cause,
    pub confidence: Confidence,
    /// What makes it degraded; empty when certain.
    pub because: Vec<Because>,
    /// The server that should have answered; null: none is known.
    pub server: Option<Server>,
    /// The listeners that were evaluated, nearest first, 16 at most.
    pub listeners: Vec<EvaluatedListener>,
    /// How many there were in all.
    pub listeners_total: u64,
    pub failed_binds: Vec<FailedBind>,
    pub candidates: Vec<Candidate>,
    pub claims: Vec<ConfiguredValue>,
    /// One sentence in English.
    pub summary: String,
    /// What to do; null when no remedy is known.
    pub hint: Option<String>,
}

/// The cause of a refusal: the first that matches, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Cause {
    /// A packet filter of this host refused, and no listener covers the address.
    Filtered,
    /// The address belongs to no network namespace of this host.
    Remote,
    /// A listener covers the address and was not asked: a packet filter, NAT or a redirect refused.
    Intercepted,
    /// A listener would cover the address but for the interface it is bound to.
    WrongDevice,
    /// The last `bind()` or `listen()` on the port failed.
    BindFailed,
    /// A listener that covered the address closed, and none has opened since.
    Stopped,
    /// A listener does not cover the address, but its counterpart of the other family.
    WrongFamily,
    /// A listener is up, on another address.
    WrongAddress,
    /// A socket is bound to the port, and does not listen.
    BoundNotListening,
    /// The server listens on another port.
    OtherPort,
    /// The server listens on a Unix socket or on UDP only.
    NotOnTcp,
    /// A process that may be the server is running, and has not listened yet.
    Starting,
    /// A process that may be the server has ended without listening.
    NeverListened,
    /// A listener is up, in another network namespace.
    OtherNetns,
    /// None of the above.
    NothingListening,
}

impl Cause {
    /// The name as the log has it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Filtered => "filtered",
            Self::Remote => "remote",
            Self::Intercepted => "intercepted",
            Self::WrongDevice => "wrong-device",
            Self::BindFailed => "bind-failed",
            Self::Stopped => "stopped",
            Self::WrongFamily => "wrong-family",
            Self::WrongAddress => "wrong-address",
            Self::BoundNotListening => "bound-not-listening",
            Self::Starting => "starting",
            Self::NeverListened => "never-listened",
            Self::OtherNetns => "other-netns",
            Self::OtherPort => "other-port",
            Self::NotOnTcp => "not-on-tcp",
            Self::NothingListening => "nothing-listening",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Confidence {
    Certain,
    Degraded,
}

/// What makes a verdict less than certain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Because {
    /// Records were lost, and the listeners were not read again since.
    LostRecords,
    /// A network namespace that matters could not be read.
    NetnsUnreadable,
    /// The address may be translated to another (a Service or NAT address).
    MayBeTranslated,
    /// The address is local in several network namespaces.
    AmbiguousNetns,
    /// The refusal came before the snapshot was complete.
    BeforeReady,
    /// A listener opened or closed within 10 ms of the connect.
    ListenerChanging,
    /// This host shows no sign of a cause that would come first: see the limits of `start`.
    HookMissing,
    /// More listeners closed on the port than are remembered.
    HistoryForgotten,
    /// A query of the host was not answered within 100 ms.
    QueryTimeout,
    /// A listener covers the address, and no dump after the refusal has confirmed that it was there all the time.
    ListenerUnconfirmed,
    /// Several services have listened on the port, or tried to: which of them should have answered is not known.
    SeveralOwners,
    /// The server is another user's, and not of a service that is known to be the server.
    UnverifiedServer,
    /// The server is known by its name alone, which any user can choose.
    ClaimOnly,
    /// The process has other arguments than the one that served the port.
    OtherArguments,
    /// The listener is the client's own, or that of a process that was refused there itself.
    OwnListener,
    /// The server listens elsewhere, and may still open this port.
    MayBeStarting,
    /// The port was not watched before the refusal: what happened on it earlier is not known.
    NotWatchedBefore,
}

/// A listener and why it did not answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "Weighed")]
pub struct EvaluatedListener {
    pub listener: Listener,
    /// Null: it matches.
    pub mismatch: Option<Mismatch>,
}

/// Why a listener does not answer a connect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Mismatch {
    /// It is bound to another address of the same family.
    Address,
    /// It is bound to an address of the other family.
    Family,
    /// It is `[::]`, but for IPv6 only.
    V6only,
    /// It is bound to another interface.
    Device,
    /// It is in another network namespace.
    Netns,
    /// It is on another port.
    Port,
    /// It had closed.
    Closed,
    /// It had not opened yet.
    NotYet,
}

/// A `bind()` or `listen()` that failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FailedBind {
    pub call: Call,
    /// The address asked for, with `%zone` where it has one.
    pub addr: String,
    pub port: u16,
    pub netns: Netns,
    pub process: Process,
    /// Name of the error.
    pub errno: String,
    /// The last time.
    pub time: Time,
    /// How often, by this process, since one succeeded.
    pub times: u64,
    /// With EADDRINUSE: the sockets that held the port when it was queried.
    pub held_by: Vec<HeldBy>,
}

/// A socket that holds a port.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HeldBy {
    pub addr: String,
    /// State of the socket as `ss` names it.
    pub state: String,
    /// All null for a TIME-WAIT socket, which has no owner any more.
    pub process: Process,
}

/// A server candidate, by its name or arguments.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Candidate {
    pub process: Process,
    /// `alive`, or how it ended.
    pub state: Owner,
    /// How long it has run, or ran.
    pub age_us: u64,
    /// When it ended.
    pub ended: Option<Time>,
}

/// What a server's configuration, arguments or environment set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "Claim")]
pub struct ConfiguredValue {
    /// The process that is configured so.
    pub pid: Option<u32>,
    /// The setting, or `file` for a configuration file that sets nothing.
    pub what: String,
    /// As it is written; of a secret `set`. Null: it cannot be read.
    pub value: Option<String>,
    /// A file, `arguments`, or `environment` and the variable.
    #[schemars(with = "String")]
    pub source: SettingSource,
    /// When the file was last written.
    pub changed: Option<Time>,
    /// Whether the sockets agree; null: the sockets do not show it, or another source wins over this one.
    pub agrees: Option<bool>,
    /// What there is to know besides: why a file sets nothing, or that it includes others.
    pub note: Option<String>,
}

/// Where a setting stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", from = "String")]
pub enum SettingSource {
    /// A file, by its absolute path.
    File(String),
    Arguments,
    /// `environment` and the variable.
    Environment(String),
    /// One that another version has added.
    Other(String),
}

impl SettingSource {
    /// The variable of this name.
    pub fn of_variable(name: &str) -> Self {
        Self::Environment(format!("environment {name}"))
    }

    /// As the log has it.
    pub fn as_str(&self) -> &str {
        match self {
            Self::File(text) | Self::Environment(text) | Self::Other(text) => text,
            Self::Arguments => "arguments",
        }
    }
}

impl From<SettingSource> for String {
    fn from(source: SettingSource) -> Self {
        source.as_str().to_owned()
    }
}

impl From<String> for SettingSource {
    fn from(text: String) -> Self {
        match text.as_str() {
            "arguments" => Self::Arguments,
            path if path.starts_with('/') => Self::File(text),
            variable if variable.starts_with("environment ") => Self::Environment(text),
            _ => Self::Other(text),
        }
    }
}

/// The configuration file of a server has changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Config {
    /// As the server sees it.
    pub path: String,
    pub change: ConfigChange,
    /// The process that changed it; all but `pid` null when it had ended before it was queried.
    pub process: Process,
    /// What the file, the arguments and the environment of those that use it set now.
    pub claims: Vec<ConfiguredValue>,
    /// The settings that have another value than before.
    pub changed: Vec<SettingChange>,
}

/// What became of a configuration file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ConfigChange {
    /// Another file took its place.
    Replaced,
    /// It was written in place.
    Written,
    Removed,
}

/// A setting that has another value than before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SettingChange {
    pub what: String,
    /// Null: it was not set, or not readable.
    pub from: Option<String>,
    /// Null: it is not set, or not readable.
    pub to: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Lost {
    pub records: u64,
    #[serde(rename = "where")]
    pub place: LostWhere,
    pub from: Time,
    pub to: Time,
}

/// Where records were lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LostWhere {
    /// The ring buffer was full.
    Ring,
    /// The kernel skipped a program that interrupted itself: an upper bound.
    Recursion,
    /// The table of connection attempts was full.
    Attempts,
    /// The table of processes whose end is reported was full.
    Followed,
    /// The table of names of programs whose start is reported was full.
    Names,
    /// A record could not be read.
    Decode,
}

/// Whether a connect to one address would be answered now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Status {
    /// The address asked about, with `%zone` where it has one.
    pub addr: String,
    pub port: u16,
    pub netns: Netns,
    /// Whether it is an address of this network namespace.
    pub is_local: bool,
    /// By the table of listeners; with `--probe` by a connect that was made.
    pub answered: bool,
    /// Where it is refused by this host: the verdict that a refused client would get. Nothing that came before is known, so that it
    /// is never certain.
    #[serde(default)]
    pub verdict: Option<Verdict>,
    /// With `--probe`: the outcome of a connect.
    #[serde(default)]
    pub probe: Option<Probe>,
    /// Whether NAT rules of this network namespace may lead a connect elsewhere; null: they cannot be read.
    #[serde(default)]
    pub may_be_redirected: Option<bool>,
    /// The listeners that were evaluated, nearest first, 16 at most.
    pub listeners: Vec<EvaluatedListener>,
    pub listeners_total: u64,
    /// What the owners of the listeners are configured to do.
    pub claims: Vec<ConfiguredValue>,
    /// The listeners that other hosts may reach.
    pub exposures: Vec<Exposure>,
    /// One sentence in English.
    pub summary: String,
}

/// The outcome of a connect that `--probe` made, and closed immediately.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Probe {
    pub outcome: ProbeOutcome,
    /// The error, by its name or its number; null: none.
    pub errno: Option<String>,
    /// Microseconds until then.
    pub latency_us: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ProbeOutcome {
    Answered,
    Refused,
    /// Nothing came within two seconds.
    TimedOut,
    Failed,
}

/// A listener that other hosts may reach, as far as no packet filter is in between.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Exposure {
    /// The process that owns it.
    pub pid: Option<u32>,
    pub addr: String,
    pub port: u16,
    pub netns: Netns,
    /// At every address of its family that the namespace has, or will have.
    pub every_interface: bool,
    /// The addresses that it answers at now, but for loopback.
    pub addresses: Vec<String>,
    /// Whether the listener asks clients to authenticate, by its owner's settings; null: nothing can be read of them.
    pub authentication: Option<Authentication>,
}

/// What a server is configured to ask of its clients.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Authentication {
    /// The setting that it asks by, or would ask by.
    pub what: String,
    /// Whether it asks; null: what was read does not show it.
    pub is_asked: Option<bool>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Stop {
    pub reason: StopReason,
    /// Refusals on the watched ports.
    pub refused: u64,
    /// Refusals by role, those on other ports included; a role that did not occur is not listed.
    #[serde(default)]
    pub by_role: CountsBy<Role>,
    /// Refusals on the watched ports by cause; a cause that did not occur is not listed.
    pub by_cause: CountsBy<Cause>,
    /// Connects that failed otherwise, by the name of the error.
    #[schemars(with = "BTreeMap<String, u64>")]
    pub failed: BTreeMap<FailedBy, u64>,
    /// Records lost in all.
    pub lost: u64,
}

/// How a connect failed that was not refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", from = "String")]
pub enum FailedBy {
    TimedOut,
    /// With no error: the application gave up.
    GivenUp,
    /// Another error, by its name.
    Errno(String),
}

impl FailedBy {
    /// The name as the log has it.
    pub fn name(&self) -> &str {
        match self {
            Self::TimedOut => "ETIMEDOUT",
            Self::GivenUp => "given-up",
            Self::Errno(name) => name,
        }
    }
}

/// By name, as the log lists them.
impl Ord for FailedBy {
    fn cmp(&self, other: &Self) -> Ordering {
        self.name().cmp(other.name())
    }
}

impl PartialOrd for FailedBy {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl From<FailedBy> for String {
    fn from(how: FailedBy) -> Self {
        how.name().to_owned()
    }
}

impl From<String> for FailedBy {
    fn from(name: String) -> Self {
        match name.as_str() {
            "ETIMEDOUT" => Self::TimedOut,
            "given-up" => Self::GivenUp,
            _ => Self::Errno(name),
        }
    }
}

/// Why tracer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum StopReason {
    Sigint,
    Sigterm,
    Sighup,
    /// `--for` is over.
    Duration,
    /// `--count` is reached.
    Count,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_is_a_string_in_the_log() {
        for (source, text) in [
            (SettingSource::File("/etc/x.conf".to_owned()), "/etc/x.conf"),
            (SettingSource::Arguments, "arguments"),
            (SettingSource::of_variable("PORT"), "environment PORT"),
            (SettingSource::Other("registry".to_owned()), "registry"),
        ] {
            let json = serde_json::to_value(&source).unwrap();
            assert_eq!(json, text);
            assert_eq!(serde_json::from_value::<SettingSource>(json).unwrap(), source);
        }
    }

    #[test]
    fn failures_are_listed_by_name() {
        let text = r#"{"EACCES":1,"ETIMEDOUT":2,"given-up":3}"#;
        let counts: BTreeMap<FailedBy, u64> = serde_json::from_str(text).unwrap();
        assert_eq!(counts[&FailedBy::TimedOut], 2);
        assert_eq!(counts[&FailedBy::GivenUp], 3);
        assert_eq!(serde_json::to_string(&counts).unwrap(), text);
    }
}
