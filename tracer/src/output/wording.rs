//! A verdict in words: one sentence of evidence. What to do about it is [`crate::output::hints`]'.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::schema;
use super::view::View;
use crate::model::cause::{Cause, Mismatch};
use crate::model::container::{self, Container};
use crate::model::errno::Errno;
use crate::model::escape::{escape, quoted};
use crate::model::forward::Target;
use crate::model::kernel_event::{Call, Refused, Role, SentBy, Via};
use crate::model::process::{ExitStatus, OwnerEnd, Process};
use crate::model::service;
use crate::model::socket::{Holder, Listener, NetnsId, is_tailnet};
use crate::model::time::Mono;
use crate::model::unit::Unit;
use crate::query::{Candidate, Forwarder, LocalEndpoint};
use crate::state::HostState;
use crate::state::listeners::ClosedListener;
use crate::state::servers::ServerCandidate;
use crate::verdict::coverage::{self, Destination};
use crate::verdict::evidence::{self, ConsideredListener, Verdict};
use crate::verdict::published::Published;
use crate::verdict::scene;
use crate::verdict::server::KnownBy;
use crate::verdict::turns::Turns;
use crate::verdict::uncertainty;

/// Addresses named in one sentence before the rest is counted.
const NAMED_MAX: usize = 4;

/// Ports below need a capability to be bound (`net.ipv4.ip_unprivileged_port_start`, its default).
pub const PRIVILEGED: u16 = 1_024;

/// The process as people know it: `name[pid]`, its name in quotation marks where it is not a plain one.
pub fn who(process: &Process) -> String {
    let comm = process.comm.as_ref().map(|comm| escape(comm.as_bytes()));
    name(process.pid, comm.as_deref(), process.uid)
}

/// The same of a process as a line has it.
pub fn who_in_line(process: &schema::Process) -> String {
    name(process.pid, process.comm.as_deref(), process.uid)
}

fn name(pid: Option<u32>, comm: Option<&str>, uid: Option<u32>) -> String {
    match (pid, comm, uid) {
        (Some(pid), Some(comm), _) => format!("{}[{pid}]", quoted(comm)),
        (Some(pid), None, _) => format!("process {pid}"),
        (None, _, Some(uid)) => format!("a process of uid {uid}"),
        (None, _, None) => "a process not known".to_owned(),
    }
}

/// A service by its unit; outside of one, by its process. A unit's name has only the characters that systemd allows.
pub fn service_name(process: &Process) -> String {
    match process.unit.as_ref().filter(|unit| unit.is_service() && !unit.name.starts_with('-')) {
        Some(Unit { name, user: None }) => name.clone(),
        Some(Unit { name, user: Some(uid) }) => format!("{name} of uid {uid}'s own systemd"),
        None => who(process),
    }
}

/// An address as it stands in a URL.
pub fn bracketed(addr: IpAddr) -> String {
    match addr {
        IpAddr::V4(v4) => v4.to_string(),
        IpAddr::V6(v6) => format!("[{v6}]"),
    }
}

/// An address of a line as it stands in a URL. The name of its interface may be any user's choice.
pub fn in_brackets(addr: &str) -> String {
    match addr.split_once('%') {
        Some((addr, interface)) => format!("[{addr}%{}]", quoted(interface)),
        None if addr.contains(':') => format!("[{addr}]"),
        None => addr.to_owned(),
    }
}

/// `1 listener`, `2 listeners`, `2 processes`.
pub fn counted(count: u64, what: &str) -> String {
    match count {
        1 => format!("{count} {what}"),
        _ if what.ends_with('s') => format!("{count} {what}es"),
        _ => format!("{count} {what}s"),
    }
}

/// A length of time in words.
pub fn ago(nanoseconds: u64) -> String {
    let seconds = nanoseconds as f64 / 1e9;
    match seconds {
        _ if seconds < 0.0995 => format!("{:.1} ms", seconds * 1e3),
        _ if seconds < 120.0 => format!("{seconds:.1} s"),
        _ if seconds < 7200.0 => format!("{:.0} min", seconds / 60.0),
        _ if seconds < 172_800.0 => format!("{:.0} h", seconds / 3600.0),
        _ => format!("{:.0} days", seconds / 86_400.0),
    }
}

/// A verdict that is put into words.
pub struct Wording<'a> {
    pub refused: &'a Refused,
    pub verdict: &'a Verdict,
    pub view: View<'a>,
    pub now: Mono,
}

impl<'a> Wording<'a> {
    /// One sentence: what the kernel shows.
    pub fn summary(&self) -> String {
        let of_cause = match self.verdict.cause {
            Cause::Filtered => Some(self.filtered()),
            Cause::Remote => Some(self.remote()),
            Cause::Intercepted => Some(self.intercepted()),
            Cause::WrongDevice => self.wrong_device(),
            Cause::BindFailed => self.bind_failed(),
            Cause::Stopped => self.stopped(),
            Cause::WrongFamily => self.wrong_family(),
            Cause::WrongAddress => self.wrong_address(),
            Cause::BoundNotListening => self.bound_not_listening(),
            Cause::Starting => self.starting(),
            Cause::NeverListened => self.never_listened(),
            Cause::OtherNetns => self.other_netns(),
            Cause::OtherPort => self.other_port(),
            Cause::NotOnTcp => self.not_on_tcp(),
            Cause::NothingListening => None,
        };
        let summary = of_cause.unwrap_or_else(|| self.nothing_listening());
        let summary = if self.is_led_away() {
            format!("NAT led the connect to another destination, where it was refused; at its own: {summary}")
        } else {
            summary
        };
        let summary = match self.serves() {
            Some(serves) => format!("{serves}; {summary}"),
            None => summary,
        };
        match self.same_address_elsewhere() {
            Some(elsewhere) => format!("{summary}; {elsewhere}"),
            None => summary,
        }
    }

    /// Another namespace that has the destination's address as well, and a listener there that would answer it: which of
    /// them was asked.
    fn same_address_elsewhere(&self) -> Option<String> {
        let Destination { netns, addr, .. } = self.verdict.destination;
        if addr.is_loopback() {
            return None;
        }
        let namespaces = &self.view.state.namespaces;
        let is_there = |listener: &Listener| {
            let route = namespaces.get(listener.netns).and_then(|there| there.route_to(addr, None));
            let there = Destination { netns: listener.netns, route, ..self.verdict.destination };
            route.is_some() && coverage::mismatch(listener, &there).is_none()
        };
        let elsewhere = self.those(|one| one.mismatch == Some(Mismatch::Netns));
        let twin = elsewhere.into_iter().find(|listener| is_there(listener))?;
        let asked =
            if netns == self.refused.netns { "the client's own".to_owned() } else { self.show_netns(netns) };
        Some(format!(
            "{addr} is local in {} too: the namespace that was asked is {asked}",
            self.show_netns(twin.netns),
        ))
    }

    /// NAT led the connect to another destination, which the verdict is not about.
    pub fn is_led_away(&self) -> bool {
        self.verdict.cause != Cause::Remote && uncertainty::is_led_away(self.verdict.cause, self.refused)
    }

    /// Of a refused process that holds listeners: which, and what its clients get.
    fn serves(&self) -> Option<String> {
        if self.refused.role != Role::Upstream {
            return None;
        }
        let client = &self.refused.client;
        let held_by = |pid: Option<u32>| {
            let HostState { listeners, next_hops, .. } = self.view.state;
            let watched = listeners.open().filter(|listener| pid.is_some() && listener.process.pid == pid);
            let reached = pid.into_iter().flat_map(|pid| next_hops.held_by(pid));
            let mut held: Vec<&Listener> = watched.chain(reached).collect();
            held.sort_by_key(|listener| (listener.port, listener.addr));
            held
        };
        // A worker has its parent's listeners.
        let held = Some(held_by(client.pid)).filter(|held| !held.is_empty());
        let held = held.unwrap_or_else(|| held_by(client.ppid));
        // A child that has ended by now ran its parent's program; where neither can be read, it goes by its name.
        let exe = client.exe.as_ref().or_else(|| held.first()?.process.exe.as_ref()).or(client.comm.as_ref());
        let file = exe.map(|exe| exe.as_bytes().rsplit(|byte| *byte == b'/').next());
        let clients_get = match file.flatten().unwrap_or_default() {
            b"nginx" | b"apache2" | b"httpd" | b"caddy" | b"traefik" => "get 502",
            b"haproxy" | b"envoy" => "get 503",
            b"docker-proxy" | b"rootlessport" | b"socat" | b"socat1" | b"ssh" | b"sshd" => {
                "see \"empty reply\" or \"reset\", not \"refused\""
            }
            _ => "get an error, or no answer",
        };
        let name = client
            .comm
            .as_ref()
            .map_or_else(|| who(client), |comm| quoted(&escape(comm.as_bytes())).into_owned());
        let serves = if held.is_empty() { "a watched port".to_owned() } else { self.endpoints(&held) };
        Some(format!("{name} serves {serves}: its clients {clients_get}"))
    }

    /// The socket that the cause is about: that listens, listened, failed to get the port, or has it and does not
    /// listen.
    pub fn socket(&self) -> Option<&'a Listener> {
        let verdict = self.verdict;
        match verdict.cause {
            Cause::Filtered
            | Cause::Remote
            | Cause::NotOnTcp
            | Cause::Starting
            | Cause::NeverListened
            | Cause::NothingListening => None,
            Cause::Intercepted => self.those(|one| one.mismatch.is_none()).first().copied(),
            Cause::WrongDevice => self.those(|one| one.mismatch == Some(Mismatch::Device)).first().copied(),
            Cause::BindFailed => verdict.failed_binds.first().map(|failure| &failure.socket),
            Cause::Stopped => verdict.closed.as_ref().map(|closed| &closed.listener),
            Cause::WrongFamily => self.of_the_other_family(),
            Cause::WrongAddress => self.nearest_to_client(),
            Cause::BoundNotListening => verdict.bound.as_ref().map(|bound| &bound.socket),
            Cause::OtherNetns => self.in_another_netns().first().copied(),
            Cause::OtherPort => verdict.elsewhere.first(),
        }
    }

    /// The socket of the nearest listener's owner that its client is to use: on loopback where there is one, which exposes
    /// nothing.
    fn nearest_to_client(&self) -> Option<&'a Listener> {
        let in_place = self.in_place();
        let nearest = *in_place.first()?;
        let is_own = |other: &&Listener| {
            other.process.pid == nearest.process.pid
                && other.addr.is_loopback()
                && other.addr.is_ipv4() == self.dst().is_ipv4()
        };
        Some(in_place.into_iter().find(is_own).unwrap_or(nearest))
    }

    /// The candidate that the cause is about, and how it ended.
    pub fn candidate(&self) -> Option<(&'a Candidate, Option<(Mono, ExitStatus)>)> {
        let candidates = &self.verdict.candidates;
        let known = match self.verdict.cause {
            Cause::NeverListened => candidates.iter().find(|known| known.end().is_some()),
            _ => candidates.first(),
        };
        known.map(|known| (&known.candidate, known.end()))
    }

    /// Why the last bind or listen failed.
    pub fn errno(&self) -> Option<Errno> {
        self.verdict.failed_binds.first().map(|failure| failure.errno)
    }

    /// The process that holds the port that another asked for, and where; without a process id, no process does any more.
    pub fn holder(&self) -> Option<(&'a Process, String)> {
        // A listener that is there holds the port; others are found by a query of the port.
        if let Some(listener) = self.in_place().into_iter().find(|listener| self.kept_from(listener)) {
            let held = format!("{} on {}", who(&listener.process), self.endpoint(listener));
            return Some((&listener.process, format!("{held}{}", self.background(&listener.process))));
        }
        let holder = self.other_holder()?;
        let at = SocketAddr::new(holder.socket.addr, self.port());
        let process = &holder.socket.process;
        Some(match process.pid {
            Some(_) => (process, format!("{} on {at}, {}", who(process), holder.state.name())),
            None => {
                let owner =
                    if holder.state.has_no_owner() { "without an owner" } else { "its owner is not known" };
                (process, format!("a socket on {at} in state {}, {owner}", holder.state.name()))
            }
        })
    }

    /// What holds the port that another asked for is what is left of a connection: no process has it.
    pub fn is_held_by_remains(&self) -> bool {
        !self.in_place().into_iter().any(|listener| self.kept_from(listener))
            && self.other_holder().is_some_and(|holder| holder.state.has_no_owner())
    }

    /// What a query of the port found to hold it, other than the listeners.
    fn other_holder(&self) -> Option<&'a Holder> {
        let holders = self.view.state.binds.holders(self.netns(), self.port())?;
        holders.iter().find(|holder| self.kept_from(&holder.socket))
    }

    /// Whether a socket kept the bind that failed from its address: one on the port for another address did not.
    fn kept_from(&self, socket: &Listener) -> bool {
        let failed = self.verdict.failed_binds.first();
        failed.is_none_or(|failed| coverage::conflict(socket, &failed.socket))
    }

    /// What a namespace holds was not read, or could not be: only its events are known.
    fn is_unread(&self, netns: NetnsId) -> bool {
        let namespaces = &self.view.state.namespaces;
        namespaces.is_unreadable(netns) || namespaces.get(netns).is_none()
    }

    /// `nothing listens on 18789`, as far as the namespace of the destination was read. `place` names it.
    fn nothing_on_port(&self, place: &str) -> String {
        self.nothing_on(&format!("{}{place}", self.port()))
    }

    fn nothing_on(&self, port: &str) -> String {
        if self.is_unread(self.netns()) {
            return format!("no listener on {port} is known, and that network namespace was not read");
        }
        format!("nothing listens on {port}")
    }

    /// The network namespaces that were read: all, or those that could be.
    fn namespaces_read(&self) -> &'static str {
        let any_unreadable = self.view.state.namespaces.any_unreadable();
        if any_unreadable { "network namespace that could be read" } else { "network namespace of this host" }
    }

    pub fn port(&self) -> u16 {
        self.verdict.destination.port
    }

    pub fn netns(&self) -> NetnsId {
        self.verdict.destination.netns
    }

    pub fn dst(&self) -> IpAddr {
        self.verdict.destination.addr
    }

    /// The address belongs to another namespace than the client's.
    pub fn is_elsewhere(&self) -> bool {
        self.netns() != self.refused.netns
    }

    /// ` in NAME` where the destination's namespace is not the client's.
    fn in_netns(&self) -> String {
        if self.is_elsewhere() { format!(" in {}", self.show_netns(self.netns())) } else { String::new() }
    }

    /// Where a command is to be run when the client is not in the tracer's own namespace.
    pub fn inside(&self) -> String {
        self.inside_of(self.refused.netns)
    }

    /// Where a command is to be run that is about the destination's own sockets.
    pub fn inside_destination(&self) -> String {
        self.inside_of(self.netns())
    }

    /// Where the rules of the packet filter are that refused.
    pub fn inside_filter(&self) -> String {
        self.inside_of(self.verdict.filter.unwrap_or(self.refused.netns))
    }

    fn inside_of(&self, netns: NetnsId) -> String {
        let is_own = self.view.state.namespaces.get(netns).is_none_or(|namespace| namespace.is_own);
        if is_own { String::new() } else { format!("; inside {}", self.show_netns(netns)) }
    }

    pub fn show_netns(&self, netns: NetnsId) -> String {
        match self.view.state.namespaces.get(netns) {
            Some(namespace) if namespace.name.is_some() => {
                format!("network namespace {}", quoted(namespace.name.as_deref().unwrap_or_default()))
            }
            Some(namespace) if namespace.is_own => "tracer's own network namespace".to_owned(),
            _ => match self.container_of(netns) {
                Some(container) => container::label(container),
                None => format!("network namespace {netns}"),
            },
        }
    }

    /// ` (uid 0, started 3 days ago, its parent is pid 1)`: what distinguishes a left-over process from a server.
    fn background(&self, process: &Process) -> String {
        let View { clock, first_clock, .. } = self.view;
        let now = clock.time(self.now).0.as_nanosecond();
        let age = process.start.map(|start| now - first_clock.time_of_start(start).0.as_nanosecond());
        let known = [
            process.uid.map(|uid| format!("uid {uid}")),
            age.and_then(|age| u64::try_from(age).ok()).map(|age| format!("started {} ago", ago(age))),
            (process.ppid == Some(1)).then(|| "its parent is pid 1".to_owned()),
        ];
        let known: Vec<String> = known.into_iter().flatten().collect();
        if known.is_empty() { String::new() } else { format!(" ({})", known.join(", ")) }
    }

    /// The container that a namespace seems to be of: that of a process that listens or connects inside it.
    fn container_of(&self, netns: NetnsId) -> Option<&Container> {
        let client = (netns == self.refused.netns).then_some(&self.refused.client);
        let evaluated = self.verdict.considered.iter().filter(|one| one.listener.netns == netns);
        let mut processes = evaluated.map(|one| &one.listener.process).chain(client);
        processes.find_map(|process| process.container.as_ref())
    }

    pub fn endpoint(&self, listener: &Listener) -> String {
        let addr = self.view.addr(listener.netns, listener.addr, listener.device);
        format!("{}:{}", in_brackets(&addr), listener.port)
    }

    /// The evaluated listeners that satisfy a condition.
    pub fn those(&self, is: impl Fn(&ConsideredListener) -> bool) -> Vec<&'a Listener> {
        self.verdict.considered.iter().filter(|one| is(one)).map(|one| &one.listener).collect()
    }

    /// The open listeners on the port in the destination's namespace.
    pub fn in_place(&self) -> Vec<&'a Listener> {
        self.those(|one| {
            one.listener.netns == self.netns()
                && !matches!(
                    one.mismatch,
                    Some(Mismatch::Closed | Mismatch::NotYet | Mismatch::Netns | Mismatch::Port)
                )
        })
    }

    /// The listeners in other namespaces, those of the server first: another user's beside them decides nothing.
    fn in_another_netns(&self) -> Vec<&'a Listener> {
        let mut listeners = self.those(|one| one.mismatch == Some(Mismatch::Netns));
        if let Some(server) = &self.verdict.server {
            listeners.sort_by_key(|listener| !service::is_same(&server.process, &listener.process));
        }
        listeners
    }

    /// The distinct endpoints of listeners, in words.
    fn endpoints(&self, listeners: &[&Listener]) -> String {
        let mut all: Vec<String> = Vec::new();
        for listener in listeners {
            let tailnet = if is_tailnet(listener.addr) { " (tailnet)" } else { "" };
            let endpoint = format!("{}{tailnet}", self.endpoint(listener));
            if !all.contains(&endpoint) {
                all.push(endpoint);
            }
        }
        enumerate(&all)
    }

    /// Whether an address of the destination's namespace was answered from inside.
    pub fn is_answered(&self, addr: IpAddr) -> bool {
        let route =
            self.view.state.namespaces.get(self.netns()).and_then(|namespace| namespace.route_to(addr, None));
        let destination = Destination { addr, route, ..self.verdict.destination };
        evidence::was_answered(&destination, self.refused.time, &self.view.state.listeners)
    }

    /// The namespace's other addresses that are refused.
    fn also_refused(&self) -> Vec<String> {
        let Some(namespace) = self.view.state.namespaces.get(self.netns()) else {
            return Vec::new();
        };
        let others = namespace.addresses().into_iter().filter(|addr| *addr != self.dst());
        others.filter(|addr| !self.is_answered(*addr)).map(bracketed).collect()
    }

    /// A filter that would refuse with a listener too.
    pub fn is_filtered(&self) -> bool {
        scene::is_filtered(self.refused)
    }

    /// The listener that would have answered the counterpart of the address.
    fn of_the_other_family(&self) -> Option<&'a Listener> {
        let answers =
            |listener: &&Listener| coverage::answers_other_family(listener, &self.verdict.destination);
        self.in_place().into_iter().find(answers)
    }

    /// The address of the other family that a client of `localhost` tries, where it is answered.
    pub fn answered_counterpart(&self) -> Option<IpAddr> {
        let other: IpAddr =
            if self.dst().is_ipv6() { Ipv4Addr::LOCALHOST.into() } else { Ipv6Addr::LOCALHOST.into() };
        (self.dst().is_loopback() && self.is_answered(other)).then_some(other)
    }

    fn remote(&self) -> String {
        let translated = if self.refused.sent_by.is_some_and(SentBy::is_stack) {
            "; yet this host's own TCP stack sent the reset, so the address was translated to one of its own"
        } else {
            ""
        };
        format!(
            "{} belongs to no {}: the refusal came from elsewhere, or the address is translated (a Service, \
             NAT){translated}",
            bracketed(self.dst()),
            self.namespaces_read(),
        )
    }

    fn filtered(&self) -> String {
        let by = match self.refused.via {
            Via::Icmp => "ICMP",
            Via::Rst => "a reset that no TCP stack of this host sent",
        };
        let without = self.verdict.unfiltered.unwrap_or(Cause::NothingListening);
        let without = schema::Cause::from(without).name();
        let netns = self.verdict.filter.filter(|netns| *netns != self.refused.netns);
        let place = netns.map_or_else(String::new, |netns| format!(" in {}", self.show_netns(netns)));
        let of = if self.is_of_no_netns() {
            format!(" ({} belongs to no {})", bracketed(self.dst()), self.namespaces_read())
        } else {
            String::new()
        };
        format!("a packet filter of this host refused it{place} ({by}); without the filter: {without}{of}")
    }

    /// Whether a packet filter refused for an address that is another host's, or a Service's.
    pub fn is_of_no_netns(&self) -> bool {
        self.verdict.unfiltered == Some(Cause::Remote)
    }

    fn not_on_tcp(&self) -> Option<String> {
        let known = self.verdict.candidates.first()?;
        let endpoint = self.show_local(self.verdict.local.first()?);
        let of_tcp = match self.view.state.servers.other_ports_read(self.netns()) {
            Some(_) => format!("not on TCP{}", self.in_netns()),
            None => "its TCP ports were not read".to_owned(),
        };
        Some(format!("{} listens on {endpoint}, {of_tcp}", who(&known.candidate.process)))
    }

    /// A socket that is not a TCP socket.
    pub fn show_local(&self, endpoint: &LocalEndpoint) -> String {
        match endpoint {
            LocalEndpoint::Unix(path) => quoted(&escape(path.as_bytes())).into_owned(),
            LocalEndpoint::Udp(address) => format!("UDP {address}"),
        }
    }

    fn intercepted(&self) -> String {
        let holder = self.socket().map_or_else(String::new, |listener| {
            format!("{} listens on {}{}", who(&listener.process), self.endpoint(listener), self.in_netns())
        });
        let evidence = match (self.refused.via, self.refused.sent_by) {
            (Via::Icmp, _) => "and was not asked: ICMP port-unreachable came back",
            (Via::Rst, Some(SentBy::Filter)) => {
                "and was not asked: a reset came back that no TCP stack of this host sent"
            }
            (Via::Rst, Some(SentBy::Tcp | SentBy::Redirected)) => {
                "but this host's TCP stack found no socket where the connect was led: NAT or a redirect"
            }
            (Via::Rst, None) => "and was not asked: NAT, a redirect or a packet filter refused",
        };
        let nearest = match self.refused.sent_by {
            Some(SentBy::Tcp | SentBy::Redirected) => {
                self.those(|one| one.mismatch == Some(Mismatch::Netns)).first().copied()
            }
            Some(SentBy::Filter) | None => None,
        };
        let nearest = nearest.map_or_else(String::new, |listener| {
            format!("; nearest: {} has {}", self.show_netns(listener.netns), self.endpoint(listener))
        });
        format!("{holder} {evidence}{nearest}")
    }

    fn wrong_device(&self) -> Option<String> {
        let listener = self.socket()?;
        let owner = who(&listener.process);
        let (endpoint, in_netns) = (self.endpoint(listener), self.in_netns());
        let carrier = self
            .verdict
            .destination
            .route
            .map_or_else(|| "no interface".to_owned(), |route| self.device_name(self.netns(), route.device));
        Some(match self.device(listener) {
            None => {
                format!(
                    "{owner} listens on {endpoint}{in_netns} outside of the VRF that the connect is made in"
                )
            }
            Some(device) => format!(
                "{owner} listens on {endpoint}{in_netns}, but is bound to the interface {device}, and {} is on \
                 {carrier}",
                bracketed(self.dst()),
            ),
        })
    }

    /// The interface that a listener is bound to.
    pub fn device(&self, listener: &Listener) -> Option<String> {
        listener.device.map(|device| self.device_name(listener.netns, device))
    }

    fn device_name(&self, netns: NetnsId, device: u32) -> String {
        quoted(&self.view.state.namespaces.device_name(netns, device)).into_owned()
    }

    fn bind_failed(&self) -> Option<String> {
        let failure = self.verdict.failed_binds.first()?;
        let asked = match failure.call {
            Call::Bind => "asked for",
            Call::Listen => "called listen() on",
        };
        let last = ago(self.now.since(failure.last).max(1));
        let often = match failure.times {
            1 => format!("{last} ago"),
            times => {
                format!("{times} times in {}, last {last} ago", ago(failure.last.since(failure.first).max(1)))
            }
        };
        let failed = format!(
            "{} {asked} {}{} and got {}, {often}",
            who(&failure.socket.process),
            self.endpoint(&failure.socket),
            self.in_netns(),
            failure.errno,
        );
        Some(match failure.errno {
            Errno::EADDRINUSE => match self.holder() {
                Some((_, held)) => format!("{failed}; held by {held}"),
                None if self.is_free_now() => format!("{failed}; no process holds the port any more"),
                None => failed,
            },
            Errno::EADDRNOTAVAIL if self.is_address(failure.socket.addr) => {
                format!("{failed}: the address was missing then, and is there now")
            }
            Errno::EADDRNOTAVAIL if self.is_unread(self.netns()) => failed,
            Errno::EADDRNOTAVAIL => format!("{failed}: it is not an address of this namespace"),
            Errno::EACCES if self.port() < PRIVILEGED => {
                format!("{failed}: the port is privileged, or a security policy forbids it")
            }
            Errno::EACCES => format!(
                "{failed}: a security policy forbids it, or net.ipv4.ip_unprivileged_port_start is above it"
            ),
            _ => failed,
        })
    }

    /// A query of the port has found no socket that holds it, and no listener does.
    pub fn is_free_now(&self) -> bool {
        let HostState { listeners, binds, .. } = self.view.state;
        let holders = binds.holders(self.netns(), self.port());
        listeners.count_in(self.netns(), self.port()) == 0 && holders.is_some_and(<[_]>::is_empty)
    }

    /// Whether the namespace of the destination has this address now.
    pub fn is_address(&self, addr: IpAddr) -> bool {
        let namespace = self.view.state.namespaces.get(self.netns());
        namespace.is_some_and(|namespace| namespace.route_to(addr, None).is_some())
    }

    fn bound_not_listening(&self) -> Option<String> {
        let bound = self.verdict.bound.as_ref()?;
        let (bound_it, when) = match bound.time {
            Some(time) => ("bound", format!(" {} ago", ago(self.now.since(time).max(1)))),
            None => ("holds", String::new()),
        };
        Some(format!(
            "{} {bound_it} {}{}{when} and has not called listen()",
            who(&bound.socket.process),
            self.endpoint(&bound.socket),
            self.in_netns()
        ))
    }

    /// How the candidate is known to be the server.
    fn as_server(&self) -> &'static str {
        match self.verdict.server.as_ref().map(|server| server.known_by) {
            Some(KnownBy::Listener | KnownBy::Service) => ", of the service that served the port",
            Some(KnownBy::Bind) => ", which has asked for the port",
            Some(KnownBy::Name) | None => ", by its name the server",
        }
    }

    /// Whether a process listens on another port of the destination's namespace, as far as that was read.
    fn listens_elsewhere(&self, process: &Process) -> bool {
        let HostState { listeners, servers, .. } = self.view.state;
        process.pid.is_some_and(|pid| {
            listeners.held_by(self.netns(), pid).next().is_some()
                || servers.other_listeners(self.netns(), pid, self.refused.time).next().is_some()
        })
    }

    fn starting(&self) -> Option<String> {
        let (candidate, _) = self.candidate()?;
        let on_it = if self.listens_elsewhere(&candidate.process) { " on this port" } else { "" };
        Some(format!(
            "{}; {}{}, started {} ago and has not called listen(){on_it}",
            self.nothing_on_port(&format!(" yet{}", self.in_netns())),
            who(&candidate.process),
            self.as_server(),
            ago(self.now.since(candidate.since).max(1)),
        ))
    }

    fn never_listened(&self) -> Option<String> {
        let (candidate, end) = self.candidate()?;
        let (time, status) = end?;
        let how = match status {
            ExitStatus::Code(code) => format!("with exit code {code}"),
            ExitStatus::Signal(signal) => format!("by {}", signal_name(signal)),
        };
        let lately = |known: &&ServerCandidate| {
            known.end().is_some_and(|(time, _)| self.now.since(time) < 60_000_000_000)
        };
        let ends = match self.verdict.candidates.iter().filter(lately).count() {
            0 | 1 => String::new(),
            count => format!("; {count} such ends in 60 s"),
        };
        Some(format!(
            "{}{}, ended {} ago {how}, without a listen on {}{}{ends}",
            who(&candidate.process),
            self.as_server(),
            ago(self.now.since(time).max(1)),
            self.port(),
            self.in_netns(),
        ))
    }

    fn other_port(&self) -> Option<String> {
        if let Some(published) = self.published() {
            return Some(self.published_at(published));
        }
        let listeners: Vec<&Listener> = self.verdict.elsewhere.iter().collect();
        let listener = listeners.first()?;
        Some(format!(
            "{}; {} listens on {}",
            self.nothing_on_port(&self.in_netns()),
            who(&listener.process),
            self.endpoints(&listeners)
        ))
    }

    /// The forwarder that publishes the port at another one.
    pub fn published(&self) -> Option<&'a Published> {
        self.verdict.published.as_ref()
    }

    fn published_at(&self, published: &Published) -> String {
        let Forwarder { listener, forward, .. } = &published.forwarder;
        let target = match &forward.target {
            Target::Address(addr) => SocketAddr::new(*addr, forward.target_port).to_string(),
            Target::Host(name) | Target::Remote(name) => {
                format!("{}:{}", quoted(&escape(name.as_bytes())), forward.target_port)
            }
            Target::Container => format!("port {} of a container", forward.target_port),
        };
        let server =
            published.server.as_ref().map_or_else(String::new, |server| format!(" ({})", who(server)));
        format!(
            "{}; published here as {}: {} on {} leads to {target}{server}",
            self.nothing_on_port(&self.in_netns()),
            listener.port,
            who(&listener.process),
            self.endpoint(listener),
        )
    }

    fn stopped(&self) -> Option<String> {
        let ClosedListener { listener, time, owner } = self.verdict.closed.as_ref()?;
        let owner_name = who(&listener.process);
        let when = ago(self.now.since(*time).max(1));
        let endpoint = self.endpoint(listener);
        let in_netns = self.in_netns();
        let closed = format!("{endpoint}{in_netns} was closed {when} ago");
        let ended = match owner {
            OwnerEnd::Running => format!(
                "{owner_name} closed {endpoint}{in_netns} {when} ago and is still running: a restart inside the process, or \
                 it gave the port up"
            ),
            OwnerEnd::Ended(ExitStatus::Code(code)) => {
                format!("{closed}: {owner_name} exited with code {code}")
            }
            OwnerEnd::Ended(ExitStatus::Signal(signal)) => {
                format!("{closed}: {owner_name} was ended by {}", signal_name(*signal))
            }
            OwnerEnd::Unknown => format!("{closed}, by whom is not known; it was {owner_name}'s"),
        };
        let ended = format!("{ended}{}{}", self.others(), self.in_turn());
        Some(match self.successor() {
            Some(next) => format!(
                "{ended}; its successor {} started {} ago and has not listened{} yet",
                who(&next.process),
                ago(self.now.since(next.since).max(1)),
                if self.listens_elsewhere(&next.process) { " on this port" } else { "" },
            ),
            None => ended,
        })
    }

    /// Two services that take the port in turn.
    pub fn turns(&self) -> Option<&'a Turns> {
        self.verdict.turns.as_ref()
    }

    fn in_turn(&self) -> String {
        self.turns().map_or_else(String::new, |turns| {
            let [one, other] = turns.services.each_ref().map(service_name);
            format!("; two services take turns on {}: {one} and {other}", self.port())
        })
    }

    /// With `stopped`: the instance of the server that started after the one that closed its listener. It may have started
    /// before that closed: what ends a server to take its place is running by then.
    pub fn successor(&self) -> Option<&'a Candidate> {
        let closed = self.verdict.closed.as_ref()?;
        let former = &closed.listener.process;
        let is_another = |known: &&ServerCandidate| {
            let Candidate { process, since, .. } = &known.candidate;
            let is_younger = || process.start.zip(former.start).is_some_and(|(next, former)| next > former);
            let is_later = match closed.listener.since {
                Some(opened) => *since > opened,
                None => *since > closed.time || is_younger(),
            };
            process.key() != former.key() && is_later
        };
        self.verdict.candidates.iter().find(is_another).map(|known| &known.candidate)
    }

    fn wrong_family(&self) -> Option<String> {
        let listener = self.of_the_other_family()?;
        let only = if self.dst().is_ipv6() { "IPv4 only" } else { "IPv6 only" };
        let answered = self.answered_counterpart().map_or_else(String::new, |other| {
            format!("; {} is answered", SocketAddr::new(other, self.port()))
        });
        Some(format!(
            "{} listens on {}{}, {only}{answered}{}",
            who(&listener.process),
            self.endpoint(listener),
            self.in_netns(),
            self.others(),
        ))
    }

    /// A process that did not get the port, and where it listens instead.
    fn others(&self) -> String {
        self.verdict.elsewhere.first().map_or_else(String::new, |other| {
            format!("; {} listens on {} instead", who(&other.process), self.endpoint(other))
        })
    }

    fn wrong_address(&self) -> Option<String> {
        let listeners = self.in_place();
        let listener = listeners.first()?;
        let also = match self.also_refused().as_slice() {
            [] => String::new(),
            [one] => format!("; {one} is refused too"),
            many => format!("; {} are refused too", enumerate(many)),
        };
        let is_one_owner = listeners.iter().all(|other| other.process.pid == listener.process.pid);
        let in_netns = self.in_netns();
        Some(if is_one_owner {
            let owner = who(&listener.process);
            let again = self.reopening(listener);
            let others = self.others();
            let only = if self.is_unread(self.netns()) { "" } else { " only" };
            format!(
                "{owner} is up, but on {}{in_netns}{only}{again}{also}{others}",
                self.endpoints(&listeners)
            )
        } else {
            let each: Vec<String> = listeners
                .iter()
                .map(|listener| format!("{} on {}", who(&listener.process), self.endpoints(&[listener])))
                .collect();
            format!("servers are up, but elsewhere: {}{in_netns}{also}", enumerate(&each))
        })
    }

    /// ` opened again 41 s ago by the same process`, where it closed and opened while it was traced.
    fn reopening(&self, listener: &Listener) -> String {
        let Some(since) = listener.since else { return String::new() };
        let is_same = |closed: &&ClosedListener| {
            closed.listener.process.pid == listener.process.pid
                && closed.listener.addr == listener.addr
                && closed.listener.port == listener.port
                && closed.time <= since
        };
        match self.view.state.listeners.closed_in(listener.netns).find(is_same) {
            Some(_) => {
                format!(", opened again {} ago by the same process", ago(self.now.since(since).max(1)))
            }
            None => String::new(),
        }
    }

    fn other_netns(&self) -> Option<String> {
        let listeners = self.in_another_netns();
        let listener = listeners.first()?;
        let more = match listeners.len() {
            1 => String::new(),
            count => format!(" ({} more elsewhere)", count - 1),
        };
        Some(format!(
            "{}; {} listens on {} in {}{more}",
            self.nothing_on_port(&format!(" in {}", self.show_netns(self.netns()))),
            who(&listener.process),
            self.endpoint(listener),
            self.show_netns(listener.netns),
        ))
    }

    fn nothing_listening(&self) -> String {
        let and = if self.is_filtered() { "; a packet filter refused" } else { "" };
        let HostState { listeners, namespaces, .. } = self.view.state;
        let is_everywhere = !self.is_elsewhere() && listeners.count(self.port()) == 0;
        if is_everywhere && !self.is_unread(self.netns()) && !namespaces.any_unreadable() {
            return format!(
                "nothing listens on port {} in any network namespace of this host{and}",
                self.port()
            );
        }
        let place = self.show_netns(self.netns());
        format!("{}{and}", self.nothing_on(&format!("port {} in {place}", self.port())))
    }
}

/// `a`, `a and b`, `a, b and c`, and a count of what is too much to name.
fn enumerate(items: &[String]) -> String {
    let named = &items[..items.len().min(NAMED_MAX)];
    match (named, items.len() - named.len()) {
        ([], _) => String::new(),
        ([one], 0) => one.clone(),
        ([first @ .., last], 0) => format!("{} and {last}", first.join(", ")),
        (named, rest) => format!("{} and {rest} more", named.join(", ")),
    }
}

/// `SIGKILL` and so on; `signal N` for the rest.
pub fn signal_name(signal: i32) -> String {
    let name = match signal {
        1 => "SIGHUP",
        2 => "SIGINT",
        3 => "SIGQUIT",
        4 => "SIGILL",
        6 => "SIGABRT",
        7 => "SIGBUS",
        8 => "SIGFPE",
        9 => "SIGKILL",
        11 => "SIGSEGV",
        13 => "SIGPIPE",
        14 => "SIGALRM",
        15 => "SIGTERM",
        31 => "SIGSYS",
        other => return format!("signal {other}"),
    };
    name.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_lists_are_cut() {
        let items = |count: usize| (0..count).map(|n| n.to_string()).collect::<Vec<_>>();
        assert_eq!(enumerate(&items(0)), "");
        assert_eq!(enumerate(&items(1)), "0");
        assert_eq!(enumerate(&items(2)), "0 and 1");
        assert_eq!(enumerate(&items(4)), "0, 1, 2 and 3");
        assert_eq!(enumerate(&items(9)), "0, 1, 2, 3 and 5 more");
    }
}
