//! Conditions and phrases that several rows of the table have in common.

use crate::model::cause::Because;
use crate::model::errno::Errno;
use crate::model::escape::{escape, in_quotes, quoted};
use crate::model::process::{ExitStatus, Process};
use crate::model::program;
use crate::model::service;
use crate::model::socket::{Holder, Listener, TcpState};
use crate::model::trust;
use crate::output::hints::case::Case;
use crate::output::hints::owner::{self, Kind};
use crate::output::subject::PortHolder;
use crate::output::words::{ago, who};

pub const RESTART: &str = "the file is already right. The process took its bind when it started: end it and start a new one (restart the \
     container or unit); a config reload inside it will not do";

pub fn rules(case: &Case<'_>) -> String {
    format!(
        "nft list ruleset | grep -n -e {} -e reject (also iptables-save{})",
        case.facts.port(),
        case.subject.inside_filter()
    )
}

/// Where no process is known to be the server: it may run unseen, be starting, or not run.
pub fn start(case: &Case<'_>) -> String {
    format!(
        "see whether the server runs and where it listens (ss -ltnp{}); if it does not run, start it",
        case.subject.inside_destination()
    )
}

pub fn device(case: &Case<'_>) -> Option<String> {
    case.subject.device(case.socket?)
}

pub fn is_in_use(case: &Case<'_>) -> bool {
    case.facts.errno == Some(Errno::EADDRINUSE)
}

/// What the process is that asked for the port.
pub fn asker(case: &Case<'_>) -> Option<Kind> {
    let process = &case.socket?.process;
    let product = case.subject.view.state.settings.of(process).map(|settings| settings.product);
    Some(owner::recognise(process, product))
}

/// How the process that asked for the port is brought back.
pub fn restart_asker(case: &Case<'_>) -> String {
    let restart = |socket: &Listener| case.subject.restart(&socket.process);
    case.socket.map_or_else(|| "start the server again".to_owned(), restart)
}

/// The socket that has the port, where that is a connection of a process.
fn connection<'a>(case: &Case<'a>) -> Option<&'a Holder> {
    let is_connected =
        |state| matches!(state, TcpState::SynSent | TcpState::Established | TcpState::CloseWait);
    match case.subject.holder()? {
        PortHolder::Other(holder) => {
            let has_owner = case.process.is_some_and(|process| process.pid.is_some());
            (has_owner && is_connected(holder.state)).then_some(holder)
        }
        PortHolder::Listener(_) => None,
    }
}

/// The port is the local one of a connection that its process did not accept, as far as is known: what goes on with a
/// connection to the server's own port mostly has its name, or had a listener there.
pub fn is_held_by_connection(case: &Case<'_>) -> bool {
    let Some(holder) = connection(case) else { return false };
    let process = &holder.socket.process;
    let is_own = |socket: &Listener| {
        socket.process.comm == process.comm && service::is_same_program(&socket.process, process)
    };
    holder.state == TcpState::SynSent
        || !case.socket.is_some_and(is_own) && !case.subject.has_accepted(process)
}

/// The same where its process asked for that port before it connected.
pub fn is_asked_for_by_client(case: &Case<'_>) -> bool {
    connection(case).is_some_and(|holder| case.subject.view.state.binds.is_client(&holder.socket))
}

/// Its arguments make it take one connection and close its listener.
pub fn takes_one_connection(case: &Case<'_>) -> bool {
    let script = case.process.and_then(|process| process.script.as_ref());
    script.is_some_and(|script| script.as_bytes() == program::ONCE)
}

/// The process that holds the port is an instance of the one that asked for it, of its user, and has lost the process that
/// started it: what that had started deliberately serves its clients.
pub fn is_held_by_own_service(case: &Case<'_>) -> bool {
    let (Some(holder), Some(asker)) = (case.process, case.socket.map(|socket| &socket.process)) else {
        return false;
    };
    let is_orphan = holder.ppid == Some(1) && holder.unit.as_ref().is_none_or(|unit| !unit.is_service());
    is_orphan
        && holder.pid.is_some_and(|pid| pid > 1)
        && service::is_same_user(holder, asker)
        && service::is_same(holder, asker)
}

/// What it is about has ended.
pub fn has_ended(case: &Case<'_>) -> bool {
    case.has_ended()
}

/// The listener that decides is the client's own.
pub fn is_own(case: &Case<'_>) -> bool {
    case.is_own()
}

pub fn own(_: &Case<'_>) -> String {
    "the client asks for a server that it is itself: let it connect to the address of the other one"
        .to_owned()
}

/// For rows about a socket that any user could have opened.
pub const STRANGE: &str = "nothing but its own socket shows that it is the server";

/// For rows about a process that any user could have named so.
pub const STRANGE_NAME: &str = "nothing but its name shows that it is the server";

/// What a process did on the port, or its name, is all that shows that it is the server, and it is neither root's nor of
/// the user who was refused.
pub fn is_strange(case: &Case<'_>) -> bool {
    let because = &case.subject.verdict.because;
    let is_unverified = [Because::UnverifiedServer, Because::SeveralOwners, Because::ClaimOnly]
        .iter()
        .any(|one| because.contains(one));
    let opener = case.socket.map(Listener::opened_by);
    let owner = opener.or(case.process);
    is_unverified && owner.is_some_and(|owner| !trust::is_known_to(&case.subject.refused.client, owner))
}

/// What to do before such a process is trusted: no client is sent to its address, its path or its namespace.
pub fn of_other_user(case: &Case<'_>, remedy: &str) -> String {
    let Some(process) = case.socket.map(|socket| &socket.process).or(case.process) else {
        return start(case);
    };
    let user = process.uid.map_or_else(|| "a user that is not known".to_owned(), |uid| format!("user {uid}"));
    let why = if case.socket.is_some() { STRANGE } else { STRANGE_NAME };
    if case.subject.view.state.has_ended(process) {
        let name = case.subject.name(process);
        return format!("{name}, which has ended, belonged to {user}, and {why}: if it is, {remedy}");
    }
    let command = process.pid.map_or_else(String::new, |pid| format!(" (ps -o user,lstart,args -p {pid})"));
    format!("{} belongs to {user}, and {why}: see what it is{command}; if it is, {remedy}", who(process))
}

/// Its owner closed a listener, and is still running.
pub fn is_still_running(case: &Case<'_>) -> bool {
    case.facts.still_running
}

/// Another process of its server closed a listener, and the server listens on other ports.
pub fn has_kept_ports(case: &Case<'_>) -> bool {
    is_still_running(case) && !case.subject.verdict.kept.is_empty()
}

pub fn is_killed(case: &Case<'_>) -> bool {
    case.facts.exit == Some(ExitStatus::Signal(libc::SIGKILL))
}

/// The command that queries a unit of this systemd: a user's own takes `--user`.
pub fn systemctl(case: &Case<'_>) -> &'static str {
    let is_first = case.process.is_some_and(|process| process.pid == Some(1) || process.ns_pid == Some(1));
    if is_first { "systemctl" } else { "systemctl --user" }
}

pub fn listen_stream(case: &Case<'_>) -> String {
    format!(
        "another ListenStream={}:{} in the .socket unit (`{systemctl} list-sockets` names it), then {systemctl} restart that \
         unit",
        case.facts.addr(),
        case.facts.port(),
        systemctl = systemctl(case),
    )
}

pub fn use_now(case: &Case<'_>) -> String {
    let on_this_host = if case.facts.bound_to.is_loopback() { "on this host use" } else { "now: use" };
    format!("{on_this_host} {}", case.facts.at)
}

/// `its arguments is 19001`, where that is the port that it listens on.
pub fn configured_port(case: &Case<'_>) -> Option<String> {
    let settings = case.facts.settings?;
    let effective = settings.effective(settings.product.port())?;
    let port: u16 = effective.value.parse().ok()?;
    let source = effective.origin.source();
    let source = source.map_or_else(|| "its file".to_owned(), |source| format!("its {source}"));
    (port == case.socket?.port).then(|| format!("{source} is {port}"))
}

/// Two processes set the address in turn: who did, and what is to be done first.
pub fn rewritten(case: &Case<'_>) -> Option<String> {
    let (first, last) = case.rewritten()?;
    let bind =
        |mode: &Option<String>| mode.as_ref().map_or_else(|| "nothing".to_owned(), |mode| in_quotes(mode));
    // What writes a file mostly ends then.
    let name = |process: &Process| {
        let name = process.comm.as_ref().map(|comm| quoted(&escape(comm.as_bytes())).into_owned());
        name.unwrap_or_else(|| "a process".to_owned())
    };
    Some(format!(
        "something rewrites the file: {} set {} to {}, and {} after that {} set it back to {}. End that first",
        name(&first.process),
        first.what,
        bind(&first.to),
        ago(last.time.since(first.time).max(1)),
        name(&last.process),
        bind(&last.to),
    ))
}

/// How a namespace is entered: by its name, where that can stand in a command.
pub fn enter(case: &Case<'_>) -> Option<String> {
    let socket = case.socket?;
    let is_plain = |name: &String| quoted(name) == name.as_str() && !name.starts_with('-');
    let pid = socket.process.pid.filter(|_| !case.subject.view.state.has_ended(&socket.process));
    match (case.subject.view.netns(socket.netns).name.filter(is_plain), pid) {
        (Some(name), _) => Some(format!("ip netns exec {name}")),
        (None, Some(pid)) => Some(format!("nsenter -t {pid} -n")),
        (None, None) => None,
    }
}
