//! The case that the rows of the table see: the subject, the socket and process that it is about, and their facts.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use jiff::Timestamp;

use super::owner::{self, Kind};
use crate::model::cause::{Because, Cause};
use crate::model::clock::Clock;
use crate::model::errno::Errno;
use crate::model::escape::{escape, quoted};
use crate::model::process::{ExitStatus, OwnerEnd, Process};
use crate::model::socket::Listener;
use crate::output::subject::{PortHolder, Subject};
use crate::output::words::unit_of;
use crate::products::hint::{HintFacts, in_url};
use crate::products::{Origin, ServerSettings, unasked};
use crate::state::settings::Rewrite;

/// What a row of the table sees.
pub struct Case<'a> {
    /// The refusal, and what is known around it.
    pub subject: &'a Subject<'a>,
    /// What the rows of products see as well.
    pub facts: HintFacts<'a>,
    /// The socket that the cause is about.
    pub socket: Option<&'a Listener>,
    /// The process that can change something: the owner of the socket, the holder of the port, or the candidate; `None`:
    /// not known.
    pub process: Option<&'a Process>,
    /// What that is.
    pub kind: Kind,
}

/// What a time in `/proc`, which is in hundredths of a second, and one that a kernel with a hundred interrupts a second
/// gives a file (`ktime_get_coarse_real_ts64`) can be behind the true one.
const TICK: Duration = Duration::from_millis(10);

/// How far behind the true one a file's time can be. Whole seconds are likely all that its file system keeps: so do ext3,
/// ext4 with inodes of 128 bytes and some servers of NFS, and FAT keeps each other one.
fn precision(changed: Timestamp) -> Duration {
    if changed.subsec_nanosecond() == 0 { Duration::from_secs(2) } else { TICK }
}

impl<'a> Case<'a> {
    pub(super) fn of(subject: &'a Subject<'a>) -> Self {
        let socket = subject.socket();
        let process = match subject.verdict.cause {
            // What held the port and has ended is to be found anew.
            Cause::BindFailed if subject.errno() == Some(Errno::EADDRINUSE) => {
                let holder = subject.holder().map(PortHolder::process);
                holder.filter(|holder| !subject.view.state.has_ended(holder))
            }
            Cause::Starting | Cause::NeverListened | Cause::NotOnTcp => {
                subject.candidate().map(|(candidate, _)| &candidate.process)
            }
            _ => socket.map(|socket| &socket.process),
        };
        let settings = process.and_then(|process| subject.view.state.settings.of(process));
        let is_candidate = |process: &&Process| {
            subject.verdict.candidates.iter().find(|known| known.candidate.process.pid == process.pid)
        };
        let recognised = process.as_ref().and_then(is_candidate).and_then(|known| known.candidate.product);
        let product = settings.map(|settings| settings.product).or(recognised);
        let kind = process.map_or(Kind::Unknown, |process| owner::recognise(process, product));
        let facts = facts(subject, socket, process, settings);
        Self { subject, facts, socket, process, kind }
    }

    /// What it is about has ended.
    pub fn has_ended(&self) -> bool {
        self.process.is_some_and(|process| self.subject.view.state.has_ended(process))
    }

    /// What to do about authentication where a server is to listen on the address that was asked for.
    pub fn guard(&self) -> String {
        if self.facts.dst().is_loopback() { String::new() } else { format!(", and {}", self.facts.keep()) }
    }

    /// The socket's address is one that its namespace has.
    pub fn is_there(&self) -> bool {
        let addr = self.facts.bound_to;
        addr.is_unspecified() || self.subject.is_answered(addr)
    }

    /// The listener that decides is the client's own.
    pub fn is_own(&self) -> bool {
        self.subject.verdict.because.contains(&Because::OwnListener)
    }

    /// What a server listens on that is not on TCP.
    pub fn local(&self) -> Option<String> {
        self.subject.verdict.local.first().map(|endpoint| self.subject.show_local(endpoint))
    }

    /// What the client's own configuration file sets, where that makes it ask another host's server.
    pub fn leads_client_away(&self) -> Option<&'static str> {
        let settings = self.subject.view.state.settings.of(&self.subject.refused.client)?;
        settings.product.leads_away(settings)
    }

    /// What became of the owner of a listener that closed.
    pub fn end(&self) -> Option<OwnerEnd> {
        end(self.subject)
    }

    /// Its configuration asks for the address that was asked for: `None`, that is not known.
    pub fn asks_for_the_address(&self) -> Option<bool> {
        self.facts.settings?.covers(self.facts.dst())
    }

    /// The file is what asks for the address that was asked for, and nothing wins over it.
    pub fn file_is_right(&self) -> bool {
        self.asks_for_the_address() == Some(true)
            && self.facts.bind_source().is_none()
            && self.facts.settings.is_some_and(|settings| settings.file.is_some())
    }

    /// The owner's sockets are not what it is configured to have.
    pub fn is_contradicted(&self) -> bool {
        let (Some(settings), Some(socket)) = (self.facts.settings, self.socket) else { return false };
        let own = self.subject.view.state.listeners.open_in(socket.netns);
        let own = own.filter(|listener| listener.process.pid == socket.process.pid);
        let (addrs, ports): (Vec<IpAddr>, Vec<u16>) =
            own.map(|listener| (listener.addr, listener.port)).unzip();
        settings.product.agrees(settings.product.bind(), settings, &addrs, &ports) == Some(false)
    }

    /// The file asks for the address that was asked for, and something else wins over it: what that is.
    pub fn wins_over_the_file(&self) -> Option<String> {
        let dst = self.facts.dst();
        let settings = self.facts.settings.filter(|settings| settings.covers(dst) == Some(false))?;
        let over = match settings.effective(settings.product.bind())?.origin {
            Origin::Override(source) => source.to_string(),
            Origin::Overlay(file) => quoted(&escape(file.path.as_os_str().as_encoded_bytes())).into_owned(),
            Origin::File(_) | Origin::Fallback(_) => return None,
        };
        (settings.of_file().covers(dst) == Some(true)).then_some(over)
    }

    /// The file that sets the address was written after its process had started; `None`: not known.
    pub fn is_older_than_the_file(&self) -> Option<bool> {
        let settings = self.facts.settings?;
        let effective = settings.effective(settings.product.bind());
        let file = match effective.map(|effective| effective.origin) {
            Some(Origin::Overlay(file)) => file,
            _ => settings.file.as_ref()?,
        };
        let changed = Clock::time_of_wall(file.changed?).0;
        let started = self.subject.view.first_clock.time_of_start(self.process?.start?).0;
        if started + TICK <= changed {
            Some(true)
        } else if changed + precision(changed) <= started {
            Some(false)
        } else {
            None
        }
    }

    /// The process that asked for the address in the file, and the one that took that back.
    pub fn rewritten(&self) -> Option<(&'a Rewrite, &'a Rewrite)> {
        self.subject.view.state.settings.taken_back(self.process?)
    }
}

fn end(subject: &Subject<'_>) -> Option<OwnerEnd> {
    subject.verdict.closed.as_ref().map(|closed| closed.owner)
}

/// How the owner, or the candidate, ended.
fn exit(subject: &Subject<'_>) -> Option<ExitStatus> {
    match (end(subject), subject.candidate()) {
        (Some(OwnerEnd::Ended(status)), _) => Some(status),
        (_, Some((_, Some((_, status))))) => Some(status),
        _ => None,
    }
}

fn facts<'a>(
    subject: &'a Subject<'a>,
    socket: Option<&Listener>,
    process: Option<&'a Process>,
    settings: Option<&'a ServerSettings>,
) -> HintFacts<'a> {
    let running = process.filter(|process| !subject.view.state.has_ended(process));
    let pid = running.and_then(|process| process.pid);
    let asks = socket.and_then(|socket| socket.process.pid);
    HintFacts {
        cause: subject.verdict.cause,
        destination: SocketAddr::new(subject.dst(), subject.port()),
        bound_to: socket.map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |socket| socket.addr),
        at: socket.map_or_else(String::new, |socket| at(subject, socket)),
        owner: process.map_or_else(|| "the server".to_owned(), |process| subject.name(process)),
        pid: pid.map_or_else(|| "PID".to_owned(), |pid| pid.to_string()),
        unit: process.filter(|process| process.container.is_none()).and_then(unit_of),
        settings,
        errno: subject.errno(),
        holds_it_itself: asks.is_some() && pid == asks,
        exit: exit(subject),
        still_running: end(subject) == Some(OwnerEnd::Running),
        in_other_netns: subject.is_elsewhere(),
        netns: subject.show_netns(subject.netns()),
        counterpart: subject.answered_counterpart(),
        asks_by: process.and_then(unasked::asks_by),
        is_there_now: socket.is_some_and(|socket| subject.is_address(socket.addr)),
        before_it_is_there: socket
            .map_or_else(String::new, |socket| before_it_is_there(subject, socket.addr)),
        narrower: narrower(subject),
    }
}

/// How an address can be bound that comes after its interface, or after the server; empty where that makes no sense.
fn before_it_is_there(subject: &Subject<'_>, addr: IpAddr) -> String {
    if addr.is_loopback() || addr.is_unspecified() {
        return String::new();
    }
    let (late, family) = if addr.is_ipv6() {
        ("An IPv6 address cannot be bound until duplicate address detection has ended", "ipv6")
    } else {
        ("An address can come later than its interface (VRRP, DHCP, a VPN)", "ipv4")
    };
    format!(
        ". {late}: to start before that, FreeBind=yes in a .socket unit, or net.{family}.ip_nonlocal_bind=1{}; or let its \
         service manager start it again until it succeeds (Restart=on-failure)",
        subject.inside_destination().trim_start_matches(';')
    )
}

/// The address that the client asked for, where the server asked for all of them and another listener has one.
fn narrower(subject: &Subject<'_>) -> Option<String> {
    let Some(PortHolder::Listener(holder)) = subject.holder() else { return None };
    let is_in_use = subject.verdict.cause == Cause::BindFailed && subject.errno() == Some(Errno::EADDRINUSE);
    let is_one = !holder.addr.is_unspecified() && subject.is_free_by_itself();
    (is_in_use && is_one)
        .then(|| format!("let the server listen on {} alone, which no listener has", in_url(subject.dst())))
}

/// Where a socket is, as it stands in a URL; of several loopback addresses of its owner the one in the client's family.
fn at(subject: &Subject<'_>, socket: &Listener) -> String {
    let nearer = if socket.addr.is_loopback() { subject.on_loopback(socket) } else { None };
    subject.endpoint(nearer.unwrap_or(socket))
}
