//! A verdict in words: one sentence of evidence, and a hint that is true for the case.
//!
//! The remedy that exposes least comes first. Product wording is for a recognised owner only.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::claims::Book;
use super::coverage::Destination;
use super::judge::{self, Judgement, WeighedListener};
use super::listeners::{Gone, OwnerEnd, Table};
use super::namespaces::Namespaces;
use crate::claims::Claims;
use crate::claims::openclaw::{self, is_tailnet};
use crate::clock::Clock;
use crate::container;
use crate::errno;
use crate::event::{ExitStatus, Holder, Listener, Mono, NetnsId, Product, Refused};
use crate::line::{Call, Cause, Container, Mismatch, Process, SentBy, Via};

/// Addresses named in one sentence before the rest is counted.
const NAMED_MAX: usize = 4;

/// The process as people know it: `name[pid]`.
pub fn who(process: &Process) -> String {
    match (process.pid, &process.comm, process.uid) {
        (Some(pid), Some(comm), _) => format!("{comm}[{pid}]"),
        (Some(pid), None, _) => format!("process {pid}"),
        (None, _, Some(uid)) => format!("a process of uid {uid}"),
        (None, _, None) => "a process not known".to_owned(),
    }
}

/// An address as it stands in a URL.
pub fn bracketed(addr: IpAddr) -> String {
    match addr {
        IpAddr::V4(v4) => v4.to_string(),
        IpAddr::V6(v6) => format!("[{v6}]"),
    }
}

/// Whether the process goes by the name the OpenClaw gateway gives itself. A name is a claim: this
/// selects wording, never a cause.
fn is_openclaw(process: &Process) -> bool {
    process.comm.as_deref().is_some_and(|comm| comm.starts_with("openclaw"))
}

/// `1 listener`, `2 listeners`, `2 processes`.
pub fn counted(count: u64, what: &str) -> String {
    match count {
        1 => format!("{count} {what}"),
        _ if what.ends_with('s') => format!("{count} {what}es"),
        _ => format!("{count} {what}s"),
    }
}

/// A length of time as people say it.
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

/// Says a verdict.
pub struct Wording<'a> {
    pub refused: &'a Refused,
    pub judgement: &'a Judgement,
    pub table: &'a Table,
    pub namespaces: &'a Namespaces,
    /// Who holds the port, where that was looked at.
    pub holders: Option<&'a [Holder]>,
    pub claims: &'a Book,
    pub now: Mono,
    pub clock: &'a Clock,
}

/// A sentence, and what to do.
pub struct Words {
    pub summary: String,
    pub hint: Option<String>,
}

impl Wording<'_> {
    pub fn words(&self) -> Words {
        match self.judgement.cause {
            Cause::Remote => self.remote(),
            Cause::Intercepted => self.intercepted(),
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
            Cause::NothingListening => self.nothing_listening(),
        }
    }

    fn port(&self) -> u16 {
        self.judgement.destination.port
    }

    fn netns(&self) -> NetnsId {
        self.judgement.destination.netns
    }

    fn dst(&self) -> IpAddr {
        self.judgement.destination.addr
    }

    /// The address belongs to another namespace than the client's.
    fn is_elsewhere(&self) -> bool {
        self.netns() != self.refused.netns
    }

    /// ` in NAME` where the destination's namespace is not the client's.
    fn in_netns(&self) -> String {
        if self.is_elsewhere() { format!(" in {}", self.show_netns(self.netns())) } else { String::new() }
    }

    /// Where a command is to be run when the client is not in the tracer's own namespace.
    fn inside(&self) -> String {
        let netns = self.refused.netns;
        let is_own = self.namespaces.get(netns).is_none_or(|namespace| namespace.is_own);
        if is_own { String::new() } else { format!("; inside {}", self.show_netns(netns)) }
    }

    fn show_netns(&self, netns: NetnsId) -> String {
        match self.namespaces.get(netns) {
            Some(namespace) if namespace.name.is_some() => {
                format!("network namespace {}", namespace.name.as_deref().unwrap_or_default())
            }
            Some(namespace) if namespace.is_own => "tracer's own network namespace".to_owned(),
            _ => match self.container_of(netns) {
                Some(container) => container::label(container),
                None => format!("network namespace {netns}"),
            },
        }
    }

    /// ` (uid 0, started 3 days ago, its parent is pid 1)`: what tells a left-over from a server.
    fn background(&self, process: &Process) -> String {
        let now = self.clock.time(self.now).0.as_nanosecond();
        let age = process.start_time.map(|start| now - start.0.as_nanosecond());
        let known = [
            process.uid.map(|uid| format!("uid {uid}")),
            age.and_then(|age| u64::try_from(age).ok()).map(|age| format!("started {} ago", ago(age))),
            (process.ppid == Some(1)).then(|| "its parent is pid 1".to_owned()),
        ];
        let known: Vec<String> = known.into_iter().flatten().collect();
        if known.is_empty() { String::new() } else { format!(" ({})", known.join(", ")) }
    }

    /// The container that a namespace seems to be of: that of who listens or connects in there.
    fn container_of(&self, netns: NetnsId) -> Option<&Container> {
        let client = (netns == self.refused.netns).then_some(&self.refused.client);
        let weighed = self.judgement.weighed.iter().filter(|one| one.listener.netns == netns);
        let mut processes = weighed.map(|one| &one.listener.process).chain(client);
        processes.find_map(|process| process.container.as_ref())
    }

    fn endpoint(&self, listener: &Listener) -> String {
        let addr = self.namespaces.show_addr(listener.netns, listener.addr, listener.device);
        match listener.addr {
            IpAddr::V4(_) => format!("{addr}:{}", listener.port),
            IpAddr::V6(_) => format!("[{addr}]:{}", listener.port),
        }
    }

    fn target(&self) -> String {
        SocketAddr::new(self.dst(), self.port()).to_string()
    }

    /// The weighed listeners that satisfy a condition.
    fn those(&self, is: impl Fn(&WeighedListener) -> bool) -> Vec<&Listener> {
        self.judgement.weighed.iter().filter(|one| is(one)).map(|one| &one.listener).collect()
    }

    /// The open listeners on the port in the destination's namespace.
    fn in_place(&self) -> Vec<&Listener> {
        self.those(|one| {
            one.listener.netns == self.netns()
                && !matches!(
                    one.mismatch,
                    Some(Mismatch::Closed | Mismatch::NotYet | Mismatch::Netns | Mismatch::Port)
                )
        })
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

    /// Whether an address of the destination's namespace is answered from inside.
    fn is_answered(&self, addr: IpAddr) -> bool {
        let route = self.namespaces.get(self.netns()).and_then(|namespace| namespace.route_to(addr, None));
        judge::is_answered(&Destination { addr, route, ..self.judgement.destination }, self.table)
    }

    /// The namespace's other addresses that are refused.
    fn also_refused(&self) -> Vec<String> {
        let Some(namespace) = self.namespaces.get(self.netns()) else {
            return Vec::new();
        };
        let others = namespace.addresses().into_iter().filter(|addr| *addr != self.dst());
        others.filter(|addr| !self.is_answered(*addr)).map(bracketed).collect()
    }

    /// A filter that would refuse with a listener too.
    fn is_filtered(&self) -> bool {
        self.refused.via == Via::Icmp || self.refused.sent_by == Some(SentBy::Filter)
    }

    fn remote(&self) -> Words {
        let translated = if self.refused.sent_by == Some(SentBy::Tcp) {
            "; yet this host's own TCP stack sent the reset, so the address was translated to one of its own"
        } else {
            ""
        };
        Words {
            summary: format!(
                "{} belongs to no network namespace of this host: the refusal came from elsewhere, or the \
                 address is translated (a Service, NAT){translated}",
                bracketed(self.dst())
            ),
            hint: Some(format!(
                "run `ss -ltn 'sport = :{port}'` on the host that has {dst}; for a translated address: \
                 conntrack -L -p tcp --dport {port}",
                port = self.port(),
                dst = bracketed(self.dst()),
            )),
        }
    }

    fn intercepted(&self) -> Words {
        let port = self.port();
        let covering = self.those(|one| one.mismatch.is_none());
        let holder = covering.first().map_or_else(String::new, |listener| {
            format!("{} listens on {}{}", who(&listener.process), self.endpoint(listener), self.in_netns())
        });
        let rules =
            format!("nft list ruleset | grep -n -e {port} -e reject (also iptables-save{})", self.inside());
        let (evidence, hint) = match (self.refused.via, self.refused.sent_by) {
            (Via::Icmp, _) => {
                ("and was not asked: ICMP port-unreachable came back", format!("a REJECT rule: {rules}"))
            }
            (Via::Rst, Some(SentBy::Filter)) => (
                "and was not asked: a reset came back that no TCP stack of this host sent",
                format!("a REJECT rule with tcp-reset, or a translation to another host: {rules}"),
            ),
            (Via::Rst, Some(SentBy::Tcp)) => (
                "but this host's TCP stack found no socket where the connect was led: NAT or a redirect",
                format!(
                    "conntrack -L -p tcp --dport {port}; nft list ruleset | grep -n {port}{}",
                    self.inside()
                ),
            ),
            (Via::Rst, None) => (
                "and was not asked: NAT, a redirect or a packet filter refused",
                format!("conntrack -L -p tcp --dport {port}; {rules}"),
            ),
        };
        Words { summary: format!("{holder} {evidence}"), hint: Some(hint) }
    }

    fn wrong_device(&self) -> Words {
        let listeners = self.those(|one| one.mismatch == Some(Mismatch::Device));
        let Some(listener) = listeners.first() else {
            return self.nothing_listening();
        };
        let carrier = self.judgement.destination.route.map_or_else(
            || "no interface".to_owned(),
            |route| self.namespaces.device_name(self.netns(), route.device),
        );
        let Some(device) = listener.device else {
            return Words {
                summary: format!(
                    "{} listens on {}{} outside of the VRF that the connect is made in",
                    who(&listener.process),
                    self.endpoint(listener),
                    self.in_netns(),
                ),
                hint: Some(
                    "bind the server to the VRF (ip vrf exec), or set net.ipv4.tcp_l3mdev_accept=1"
                        .to_owned(),
                ),
            };
        };
        let device = self.namespaces.device_name(listener.netns, device);
        Words {
            summary: format!(
                "{} listens on {}{}, but is bound to the interface {device}, and {} is on {carrier}",
                who(&listener.process),
                self.endpoint(listener),
                self.in_netns(),
                bracketed(self.dst()),
            ),
            hint: Some(format!(
                "connect to an address of {device}, or start the server without binding it to the \
                 interface (SO_BINDTODEVICE)"
            )),
        }
    }

    fn bind_failed(&self) -> Words {
        let Some(failure) = self.judgement.failures.first() else {
            return self.nothing_listening();
        };
        let server = who(&failure.socket.process);
        let error = errno::name(failure.errno);
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
        let in_netns = self.in_netns();
        let failed =
            format!("{server} {asked} {}{in_netns} and got {error}, {often}", self.endpoint(&failure.socket));
        // A listener that is there holds the port; others are found by a look at the port.
        let listener = self.in_place().first().map(|listener| {
            let held = format!("{} on {}", who(&listener.process), self.endpoint(listener));
            (listener.process.clone(), format!("{held}{}", self.background(&listener.process)))
        });
        let other = || {
            let holder = self.holders?.first()?;
            let at = SocketAddr::new(holder.socket.addr, self.port());
            let process = &holder.socket.process;
            Some(match process.pid {
                Some(_) => (process.clone(), format!("{} on {at}, {}", who(process), holder.state)),
                None => (
                    Process::default(),
                    format!("a socket on {at} in state {}, without an owner", holder.state),
                ),
            })
        };
        match (failure.errno, listener.or_else(other)) {
            (libc::EADDRINUSE, Some((holder, held))) => Words {
                summary: format!("{failed}; held by {held}"),
                hint: Some(match holder.pid {
                    Some(pid) if failure.socket.process.pid != Some(pid) => format!(
                        "if {} is a left-over, end it (kill {pid}); then start the server again",
                        who(&holder)
                    ),
                    Some(_) => "the server holds the port itself: restart it".to_owned(),
                    None => "wait until the old connection's TIME-WAIT is over (a minute), or let the server set \
                             SO_REUSEADDR"
                        .to_owned(),
                }),
            },
            (libc::EADDRINUSE, None) => Words {
                summary: failed,
                hint: Some(format!("see who holds it: ss -tanp 'sport = :{}'{}", self.port(), self.inside())),
            },
            (libc::EADDRNOTAVAIL, _) => Words {
                summary: format!("{failed}: it is no address of this namespace"),
                hint: Some(format!(
                    "bring up the interface that has {}, then start the server again; or let it listen on an \
                     address that is there (ip addr)",
                    bracketed(failure.socket.addr)
                )),
            },
            (libc::EACCES, _) => Words {
                summary: format!("{failed}: the port is privileged, or a security policy forbids it"),
                hint: Some(
                    "CAP_NET_BIND_SERVICE for ports below net.ipv4.ip_unprivileged_port_start; else the policy's log"
                        .to_owned(),
                ),
            },
            (_, _) => Words { summary: failed, hint: Some(format!("see the log of {server}")) },
        }
    }

    fn bound_not_listening(&self) -> Words {
        let Some(bound) = &self.judgement.bound else {
            return self.nothing_listening();
        };
        let server = who(&bound.socket.process);
        let (bound_it, when) = match bound.time {
            Some(time) => ("bound", format!(" {} ago", ago(self.now.since(time).max(1)))),
            None => ("holds", String::new()),
        };
        Words {
            summary: format!(
                "{server} {bound_it} {}{}{when} and has not called listen()",
                self.endpoint(&bound.socket),
                self.in_netns()
            ),
            hint: Some(format!(
                "it is still starting, or stuck: see its log, or `strace -f -p {}`",
                pid(&bound.socket.process)
            )),
        }
    }

    fn starting(&self) -> Words {
        let Some(known) = self.judgement.candidates.first() else {
            return self.nothing_listening();
        };
        let server = who(&known.candidate.process);
        let age = ago(self.now.since(known.candidate.since).max(1));
        let hint = if self.refused.client.container.is_some() {
            "give it a startupProbe; a liveness probe now would kill it before it listens"
        } else {
            "wait for RECOVERED, and let clients wait for it too"
        };
        Words {
            summary: format!(
                "nothing listens on {} yet{}; {server}, by its name or arguments the server, started {age} ago and has \
                 not called listen()",
                self.port(),
                self.in_netns()
            ),
            hint: Some(hint.to_owned()),
        }
    }

    fn never_listened(&self) -> Words {
        let Some((known, (time, status))) =
            self.judgement.candidates.iter().find_map(|known| Some((known, known.end?)))
        else {
            return self.nothing_listening();
        };
        let server = who(&known.candidate.process);
        let how = match status {
            ExitStatus::Code(code) => format!("with exit code {code}"),
            ExitStatus::Signal(signal) => format!("by {}", signal_name(signal)),
        };
        let lately = |known: &&super::servers::Known| {
            known.end.is_some_and(|(time, _)| self.now.since(time) < 60_000_000_000)
        };
        let ends = match self.judgement.candidates.iter().filter(lately).count() {
            0 | 1 => String::new(),
            count => format!("; {count} such ends in 60 s"),
        };
        let openclaw = known.candidate.product == Some(Product::OpenClaw);
        let hint = match status {
            ExitStatus::Code(78) if openclaw => {
                "exit code 78 is OpenClaw's \"configuration refused\", and its systemd unit is not restarted after it: \
                 journalctl --user -u openclaw-gateway -n 20 (often: non-loopback bind without gateway.auth.token)"
                    .to_owned()
            }
            ExitStatus::Signal(libc_signal::KILL) => {
                "who sends SIGKILL: a supervisor's timeout, or the kernel out of memory (journalctl -k | grep -i oom)"
                    .to_owned()
            }
            _ => format!("see the log for the end of {server}"),
        };
        Words {
            summary: format!(
                "{server}, by its name or arguments the server, ended {} ago {how}, without a listen on {}{}{ends}",
                ago(self.now.since(time).max(1)),
                self.port(),
                self.in_netns(),
            ),
            hint: Some(hint),
        }
    }

    fn other_port(&self) -> Words {
        let listeners: Vec<&Listener> = self.judgement.elsewhere.iter().collect();
        let Some(listener) = listeners.first() else {
            return self.nothing_listening();
        };
        Words {
            summary: format!(
                "nothing listens on {}{}; {} listens on {}",
                self.port(),
                self.in_netns(),
                who(&listener.process),
                self.endpoints(&listeners)
            ),
            hint: Some(format!(
                "let the client use port {}, or start the server with port {}",
                listener.port,
                self.port()
            )),
        }
    }

    fn stopped(&self) -> Words {
        let Some(Gone { listener, time, owner }) = &self.judgement.gone else {
            return self.nothing_listening();
        };
        let owner_name = who(&listener.process);
        let when = ago(self.now.since(*time).max(1));
        let endpoint = self.endpoint(listener);
        let in_netns = self.in_netns();
        let closed = format!("{endpoint}{in_netns} was closed {when} ago");
        match owner {
            OwnerEnd::Alive => Words {
                summary: format!(
                    "{owner_name} closed {endpoint}{in_netns} {when} ago and lives on: a restart inside the \
                     process, or it gave the port up"
                ),
                hint: Some(if is_openclaw(&listener.process) {
                    "wait for RECOVERED; OpenClaw's restart in place takes 6-10 s, sometimes minutes"
                        .to_owned()
                } else {
                    format!(
                        "wait for the next LISTEN, or see the log of {owner_name} for why it closed its port"
                    )
                }),
            },
            OwnerEnd::Ended(ExitStatus::Code(code)) => Words {
                summary: format!("{closed}: {owner_name} exited with code {code}"),
                hint: Some(format!("see its log for the end of {owner_name}, then start the server again")),
            },
            OwnerEnd::Ended(ExitStatus::Signal(signal)) => Words {
                summary: format!("{closed}: {owner_name} was ended by {}", signal_name(*signal)),
                hint: Some(if *signal == libc_signal::KILL {
                    "start the server again; who sends SIGKILL: an operator, a supervisor's timeout, or the \
                     kernel out of memory (journalctl -k | grep -i oom)"
                        .to_owned()
                } else {
                    format!("see its log for the end of {owner_name}, then start the server again")
                }),
            },
            OwnerEnd::Unknown => Words {
                summary: format!("{closed}, by whom is not known; it was {owner_name}'s"),
                hint: Some("start the server again, and see its log for why it closed".to_owned()),
            },
        }
    }

    fn wrong_family(&self) -> Words {
        let listeners: Vec<&Listener> = self
            .in_place()
            .into_iter()
            .filter(|listener| super::coverage::answers_other_family(listener, &self.judgement.destination))
            .collect();
        let Some(listener) = listeners.first() else {
            return self.wrong_address();
        };
        let owner = who(&listener.process);
        let endpoint = self.endpoint(listener);
        let in_netns = self.in_netns();
        let other: IpAddr =
            if self.dst().is_ipv6() { Ipv4Addr::LOCALHOST.into() } else { Ipv6Addr::LOCALHOST.into() };
        let only = if self.dst().is_ipv6() { "IPv4 only" } else { "IPv6 only" };
        if !self.dst().is_loopback() {
            return Words {
                summary: format!("{owner} listens on {endpoint}{in_netns}, {only}"),
                hint: Some(format!(
                    "use an {} address of the same host, or let the server listen on {} too",
                    if self.dst().is_ipv6() { "IPv4" } else { "IPv6" },
                    bracketed(self.dst()),
                )),
            };
        }
        let both = if is_openclaw(&listener.process) && self.dst().is_ipv6() {
            "gateway.bind \"loopback\" (listens on both)".to_owned()
        } else {
            format!("let the server listen on {} too", bracketed(self.dst()))
        };
        if !self.is_answered(other) {
            return Words {
                summary: format!("{owner} listens on {endpoint}{in_netns}, {only}"),
                hint: Some(both),
            };
        }
        let at = SocketAddr::new(other, self.port());
        Words {
            summary: format!("{owner} listens on {endpoint}{in_netns}, {only}; {at} is answered"),
            hint: Some(format!("use {} instead of localhost, or {both}", bracketed(other))),
        }
    }

    fn wrong_address(&self) -> Words {
        let listeners = self.in_place();
        let Some(listener) = listeners.first() else {
            return self.nothing_listening();
        };
        let also = match self.also_refused().as_slice() {
            [] => String::new(),
            [one] => format!("; {one} is refused too"),
            many => format!("; {} are refused too", enumerate(many)),
        };
        let is_one_owner = listeners.iter().all(|other| other.process.pid == listener.process.pid);
        let in_netns = self.in_netns();
        let summary = if is_one_owner {
            let owner = who(&listener.process);
            let again = self.reopening(listener);
            format!("{owner} is up, but on {}{in_netns} only{again}{also}", self.endpoints(&listeners))
        } else {
            let each: Vec<String> = listeners
                .iter()
                .map(|listener| format!("{} on {}", who(&listener.process), self.endpoints(&[listener])))
                .collect();
            format!("servers are up, but elsewhere: {}{in_netns}{also}", enumerate(&each))
        };
        let reachable = self.endpoint(listener);
        let is_there = listener.addr.is_unspecified() || self.is_answered(listener.addr);
        let hint = if let Some(hint) = self.trap(&listener.process) {
            hint
        } else if self.is_elsewhere() {
            let bind = if is_openclaw(&listener.process) {
                "set gateway.bind \"lan\" (opens every interface of it: keep gateway.auth.token and a firewall)"
                    .to_owned()
            } else {
                format!("let the server listen on {}", bracketed(self.dst()))
            };
            format!(
                "{bind} inside {}, then start it anew; change nothing outside",
                self.show_netns(self.netns())
            )
        } else if !is_there {
            format!(
                "{} is no address of this namespace any more: bring its interface back, or start the server on \
                 an address that is there",
                bracketed(listener.addr)
            )
        } else if listener.addr.is_loopback() {
            format!(
                "on this host use {reachable}; for other hosts put a tunnel or a reverse proxy in front, or \
                 let the server listen on {} and keep its authentication on",
                bracketed(self.dst()),
            )
        } else if is_openclaw(&listener.process) && is_tailnet(listener.addr) {
            // What it listens on besides the tailnet since then.
            let newer = if self.dst() == IpAddr::V4(Ipv4Addr::LOCALHOST) {
                "OpenClaw 2026.8.1 or later, or "
            } else {
                ""
            };
            format!(
                "at once: use http://{reachable}. For good: {newer}gateway.bind \"lan\" (opens every interface: keep \
                 gateway.auth.token and a firewall); then start a new process"
            )
        } else {
            format!(
                "at once: use {reachable}. For good: let the server listen on {} too",
                bracketed(self.dst())
            )
        };
        Words { summary, hint: Some(hint) }
    }

    /// What to do where the owner's configuration asks for what the client wants, and its sockets do not show it.
    fn trap(&self, owner: &Process) -> Option<String> {
        let claims = self.claims.of(owner)?;
        let bind = openclaw::Bind::of(claims)?;
        if !bind.covers(self.dst()) {
            if let Some(hint) = self.rewritten(owner) {
                return Some(hint);
            }
            // The file asks for it, and something else wins over the file.
            let over = claims.effective("gateway.bind")?.wins_over_file?;
            let file = Claims { said: Vec::new(), file: claims.file.clone() };
            return openclaw::Bind::of(&file)?.covers(self.dst()).then(|| {
                format!(
                    "the file is already right, and the gateway.bind of its {over} wins over it: take that away, then \
                     start a new process"
                )
            });
        }
        let changed = claims.file.as_ref()?.changed?;
        let is_older = owner.start_time.is_some_and(|start| start < changed);
        Some(if is_older {
            "the file is already right. The process took its bind when it started: end it and start a new one (restart \
             the container or unit); a config reload inside it will not do"
                .to_owned()
        } else {
            "the file is already right, and the process is younger than it: its log says why it listens elsewhere (the \
             address was not up when it started?); then start a new one"
                .to_owned()
        })
    }

    /// What to do where the file asked for what the client wants, until someone took that back.
    fn rewritten(&self, owner: &Process) -> Option<String> {
        let (first, last) = self.claims.taken_back(owner)?;
        let bind = |mode: &Option<String>| {
            mode.as_ref().map_or_else(|| "nothing".to_owned(), |mode| format!("\"{mode}\""))
        };
        Some(format!(
            "something rewrites the file: {} set gateway.bind to {}, and {} after that {} set it back to {}. End that first",
            who(&first.process),
            bind(&first.to),
            ago(last.time.since(first.time).max(1)),
            who(&last.process),
            bind(&last.to),
        ))
    }

    /// ` opened again 41 s ago by the same process`, where it closed and opened while it was traced.
    fn reopening(&self, listener: &Listener) -> String {
        let Some(since) = listener.since else { return String::new() };
        let is_same = |gone: &&Gone| {
            gone.listener.process.pid == listener.process.pid
                && gone.listener.addr == listener.addr
                && gone.listener.port == listener.port
                && gone.time <= since
        };
        match self.table.closed_in(listener.netns).find(is_same) {
            Some(_) => {
                format!(", opened again {} ago by the same process", ago(self.now.since(since).max(1)))
            }
            None => String::new(),
        }
    }

    fn other_netns(&self) -> Words {
        let listeners = self.those(|one| one.mismatch == Some(Mismatch::Netns));
        let Some(listener) = listeners.first() else {
            return self.nothing_listening();
        };
        let more = match listeners.len() {
            1 => String::new(),
            count => format!(" ({} more elsewhere)", count - 1),
        };
        let enter = match (self.namespaces.show(listener.netns).name, listener.process.pid) {
            (Some(name), _) => Some(format!("ip netns exec {name}")),
            (None, Some(pid)) => Some(format!("nsenter -t {pid} -n")),
            (None, None) => None,
        };
        Words {
            summary: format!(
                "nothing listens on {} in {}; {} listens on {} in {}{more}",
                self.port(),
                self.show_netns(self.netns()),
                who(&listener.process),
                self.endpoint(listener),
                self.show_netns(listener.netns),
            ),
            hint: match (enter, listener.addr.is_loopback()) {
                // What is published is led to the container's address, and refused there.
                (Some(enter), true) => Some(format!(
                    "to reach it from in there: {enter} COMMAND; it listens on its own loopback only, so that a \
                     published port would be refused too"
                )),
                (None, true) => None,
                (Some(enter), false) => Some(format!(
                    "to reach it from in there: {enter} COMMAND; from here, publish or forward the port \
                     (docker -p, kubectl port-forward)"
                )),
                (None, false) => {
                    Some("publish or forward the port (docker -p, kubectl port-forward)".to_owned())
                }
            },
        }
    }

    fn nothing_listening(&self) -> Words {
        let (and, firewall) = if self.is_filtered() {
            ("; a packet filter refused", "; and a REJECT rule would refuse it still: nft list ruleset")
        } else {
            ("", "")
        };
        Words {
            summary: format!(
                "nothing listens on port {} in any network namespace of this host{and}",
                self.port()
            ),
            hint: Some(format!(
                "start the server; if it runs, it is on another port than {}: ss -ltnp{firewall}",
                self.target()
            )),
        }
    }
}

/// A process id for a command line.
fn pid(process: &Process) -> String {
    process.pid.map_or_else(|| "PID".to_owned(), |pid| pid.to_string())
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

/// Signals that have a wording of their own.
mod libc_signal {
    pub const KILL: i32 = 9;
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
        libc_signal::KILL => "SIGKILL",
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
