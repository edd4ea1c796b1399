//! What the rows of the table look at, and words that several of them have in common.

use std::net::{IpAddr, Ipv4Addr};

use super::Case;
use super::owner::{self, Kind};
use crate::claims::{Access, Claims, Source, openclaw};
use crate::correlate::listeners::OwnerEnd;
use crate::correlate::wording::{ago, bracketed, who};
use crate::event::ExitStatus;

pub const RESTART: &str = "the file is already right. The process took its bind when it started: end it and start a new one (restart the \
     container or unit); a config reload inside it will not do";

pub const REFUSED_CONFIGURATION: &str =
    "exit code 78 is OpenClaw's \"configuration refused\", and its systemd unit is not restarted after it";

pub const JOURNAL: &str = "journalctl --user -u openclaw-gateway -n 20";

pub fn rules(case: &Case<'_>) -> String {
    format!(
        "nft list ruleset | grep -n -e {} -e reject (also iptables-save{})",
        case.port(),
        case.facts.inside()
    )
}

pub fn start(case: &Case<'_>) -> String {
    format!("start the server; if it runs, it is on another port than {}: ss -ltnp", case.facts.target())
}

pub fn device(case: &Case<'_>) -> Option<String> {
    case.facts.device(case.socket?)
}

pub fn is_in_use(case: &Case<'_>) -> bool {
    case.facts.errno() == Some(libc::EADDRINUSE)
}

/// Whether the process that asked for the port is of this kind.
pub fn is_asked_by(case: &Case<'_>, kind: Kind) -> bool {
    let asks = case.socket.map(|socket| &socket.process);
    asks.is_some_and(|process| {
        let product = case.facts.claims.of(process).map(|claims| claims.product);
        owner::recognise(process, product) == kind
    })
}

/// Its owner closed a listener, and lives on.
pub fn lives_on(case: &Case<'_>) -> bool {
    case.end() == Some(OwnerEnd::Alive)
}

/// The socket listens on one address that is not loopback.
pub fn is_on_one_address(case: &Case<'_>) -> bool {
    let addr = case.bound_to();
    !addr.is_unspecified() && !addr.is_loopback()
}

pub fn is_killed(case: &Case<'_>) -> bool {
    case.status() == Some(ExitStatus::Signal(libc::SIGKILL))
}

/// How a unit of this systemd is asked about: a user's own takes `--user`.
pub fn systemctl(case: &Case<'_>) -> &'static str {
    let is_first = case.process.is_some_and(|process| process.pid == Some(1) || process.ns_pid == Some(1));
    if is_first { "systemctl" } else { "systemctl --user" }
}

pub fn listen_stream(case: &Case<'_>) -> String {
    format!(
        "another ListenStream={}:{} in the .socket unit (`{systemctl} list-sockets` names it), then {systemctl} restart that \
         unit",
        case.addr(),
        case.port(),
        systemctl = systemctl(case),
    )
}

pub fn at_once(case: &Case<'_>) -> String {
    let on_this_host = if case.bound_to().is_loopback() { "on this host use" } else { "at once: use" };
    format!("{on_this_host} {}", case.at())
}

/// ` use 127.0.0.1 instead of localhost, or `, where that is answered.
pub fn instead(case: &Case<'_>) -> String {
    match case.facts.answered_counterpart() {
        Some(other) => format!("use {} instead of localhost, or ", bracketed(other)),
        None => String::new(),
    }
}

/// What is said of who may come in, where nothing is known of the product.
pub fn keep(case: &Case<'_>) -> String {
    match access(case) {
        Some(Access::Asked(what)) => format!("keep {what}"),
        Some(Access::Open(what)) => format!("set {what} first"),
        Some(Access::Unknown(_)) | None => "keep its authentication on".to_owned(),
    }
}

/// The same of OpenClaw, which asks nobody on loopback, and everybody elsewhere: it does not start without.
pub fn guard(case: &Case<'_>) -> String {
    let mode = case.claims.and_then(|claims| claims.effective("gateway.auth.mode"));
    match access(case) {
        Some(Access::Asked(what)) => format!("keep {what} and a firewall"),
        Some(Access::Open(what)) if mode.is_some_and(|mode| mode.value == "none") => {
            let is_set = case.claims.is_some_and(|claims| claims.effective(what).is_some());
            let token = if is_set { String::new() } else { format!("{what} and ") };
            format!("set {token}gateway.auth.mode \"token\" in place of \"none\" first, and a firewall")
        }
        Some(Access::Open(what)) => format!("set {what} first, and a firewall"),
        Some(Access::Unknown(_)) | None if case.bound_to().is_loopback() => {
            "set gateway.auth.token first where it is not, and a firewall".to_owned()
        }
        Some(Access::Unknown(_)) | None => "keep gateway.auth.token and a firewall".to_owned(),
    }
}

pub fn access(case: &Case<'_>) -> Option<Access> {
    case.claims.map(Claims::access)
}

/// How OpenClaw is told to bind: what wins over the file has to be told itself.
pub fn set_bind(case: &Case<'_>, mode: &str) -> String {
    match case.bind_source() {
        Some(Source::Arguments) => format!("--bind {mode} in its arguments"),
        Some(Source::Environment(variable)) => format!("{variable}={mode} in its environment"),
        None => format!("gateway.bind \"{mode}\""),
    }
}

pub fn lan(case: &Case<'_>) -> String {
    format!("{} (opens every interface: {}); then start a new process", set_bind(case, "lan"), guard(case))
}

pub fn is_v4_localhost(case: &Case<'_>) -> bool {
    case.dst() == IpAddr::V4(Ipv4Addr::LOCALHOST)
}

/// Whether the version that wrote its file listens on 127.0.0.1 beside its own address; `None`: not known.
pub fn is_newer(case: &Case<'_>) -> Option<bool> {
    let version = openclaw::version(case.claims?)?;
    Some(openclaw::is_since(version, openclaw::WITH_LOOPBACK))
}

pub fn is_refused_configuration(case: &Case<'_>) -> bool {
    case.status() == Some(ExitStatus::Code(78))
}

/// It claims to listen beyond loopback, and to ask nobody.
pub fn opens_unasked(case: &Case<'_>) -> bool {
    let bind = case.claims.and_then(|claims| claims.effective("gateway.bind"));
    bind.is_some_and(|bind| bind.value != "loopback" && bind.value != "auto")
        && matches!(access(case), Some(Access::Open(_)))
}

pub fn claimed_bind(case: &Case<'_>) -> String {
    let bind = case.claims.and_then(|claims| claims.effective("gateway.bind"));
    bind.map_or_else(String::new, |bind| format!("gateway.bind \"{}\"", bind.value))
}

/// Whether nothing is claimed but OpenClaw's `loopback`: `custom` listens there too, beside an address of its own.
pub fn is_loopback_only(case: &Case<'_>) -> bool {
    let bind = case.claims.and_then(|claims| claims.effective("gateway.bind"));
    bind.is_none_or(|bind| bind.value == "loopback")
}

/// `its arguments is 19001`, where that is the port that it listens on.
pub fn claimed_port(case: &Case<'_>) -> Option<String> {
    let claims = case.claims?;
    let said = claims.effective(claims.product.port())?;
    let port: u16 = said.value.parse().ok()?;
    let source = said.wins_over_file.map_or_else(|| "its file".to_owned(), |source| format!("its {source}"));
    (port == case.socket?.port).then(|| format!("{source} is {port}"))
}

pub fn rewritten(case: &Case<'_>) -> String {
    let Some((first, last)) = case.rewritten() else { return String::new() };
    let bind = |mode: &Option<String>| {
        mode.as_ref().map_or_else(|| "nothing".to_owned(), |mode| format!("\"{mode}\""))
    };
    format!(
        "something rewrites the file: {} set {} to {}, and {} after that {} set it back to {}. End that first",
        who(&first.process),
        first.what,
        bind(&first.to),
        ago(last.time.since(first.time).max(1)),
        who(&last.process),
        bind(&last.to),
    )
}

/// How a namespace is entered.
pub fn enter(case: &Case<'_>) -> Option<String> {
    let socket = case.socket?;
    match (case.facts.namespaces.show(socket.netns).name, socket.process.pid) {
        (Some(name), _) => Some(format!("ip netns exec {name}")),
        (None, Some(pid)) => Some(format!("nsenter -t {pid} -n")),
        (None, None) => None,
    }
}
