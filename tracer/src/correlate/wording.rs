//! A verdict in words: one sentence of evidence. What to do about it is [`super::hints`]'.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::claims::Book;
use super::coverage::Destination;
use super::judge::{self, Judgement, WeighedListener};
use super::listeners::{Gone, OwnerEnd, Table};
use super::namespaces::Namespaces;
use crate::clock::Clock;
use crate::container;
use crate::errno;
use crate::event::{Candidate, ExitStatus, Holder, Listener, Mono, NetnsId, Refused, is_tailnet};
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

impl<'a> Wording<'a> {
    /// One sentence: what the kernel shows.
    pub fn summary(&self) -> String {
        let said = match self.judgement.cause {
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
            Cause::NothingListening => None,
        };
        said.unwrap_or_else(|| self.nothing_listening())
    }

    /// The socket that the cause is about: that listens, listened, failed to get the port, or has it and does not
    /// listen.
    pub fn socket(&self) -> Option<&'a Listener> {
        let judgement = self.judgement;
        match judgement.cause {
            Cause::Remote | Cause::Starting | Cause::NeverListened | Cause::NothingListening => None,
            Cause::Intercepted => self.those(|one| one.mismatch.is_none()).first().copied(),
            Cause::WrongDevice => self.those(|one| one.mismatch == Some(Mismatch::Device)).first().copied(),
            Cause::BindFailed => judgement.failures.first().map(|failure| &failure.socket),
            Cause::Stopped => judgement.gone.as_ref().map(|gone| &gone.listener),
            Cause::WrongFamily => self.of_the_other_family(),
            Cause::WrongAddress => self.in_place().first().copied(),
            Cause::BoundNotListening => judgement.bound.as_ref().map(|bound| &bound.socket),
            Cause::OtherNetns => self.those(|one| one.mismatch == Some(Mismatch::Netns)).first().copied(),
            Cause::OtherPort => judgement.elsewhere.first(),
        }
    }

    /// The candidate that the cause is about, and how it ended.
    pub fn candidate(&self) -> Option<(&'a Candidate, Option<(Mono, ExitStatus)>)> {
        let candidates = &self.judgement.candidates;
        let known = match self.judgement.cause {
            Cause::NeverListened => candidates.iter().find(|known| known.end.is_some()),
            _ => candidates.first(),
        };
        known.map(|known| (&known.candidate, known.end))
    }

    /// Why the last bind or listen failed.
    pub fn errno(&self) -> Option<i32> {
        self.judgement.failures.first().map(|failure| failure.errno)
    }

    /// Who holds the port that another asked for, and where; without a process id, nobody does any more.
    pub fn holder(&self) -> Option<(&'a Process, String)> {
        // A listener that is there holds the port; others are found by a look at the port.
        if let Some(listener) = self.in_place().first() {
            let held = format!("{} on {}", who(&listener.process), self.endpoint(listener));
            return Some((&listener.process, format!("{held}{}", self.background(&listener.process))));
        }
        let holder = self.holders?.first()?;
        let at = SocketAddr::new(holder.socket.addr, self.port());
        let process = &holder.socket.process;
        Some(match process.pid {
            Some(_) => (process, format!("{} on {at}, {}", who(process), holder.state)),
            None => (process, format!("a socket on {at} in state {}, without an owner", holder.state)),
        })
    }

    pub fn port(&self) -> u16 {
        self.judgement.destination.port
    }

    pub fn netns(&self) -> NetnsId {
        self.judgement.destination.netns
    }

    pub fn dst(&self) -> IpAddr {
        self.judgement.destination.addr
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
        let netns = self.refused.netns;
        let is_own = self.namespaces.get(netns).is_none_or(|namespace| namespace.is_own);
        if is_own { String::new() } else { format!("; inside {}", self.show_netns(netns)) }
    }

    pub fn show_netns(&self, netns: NetnsId) -> String {
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

    pub fn endpoint(&self, listener: &Listener) -> String {
        let addr = self.namespaces.show_addr(listener.netns, listener.addr, listener.device);
        match listener.addr {
            IpAddr::V4(_) => format!("{addr}:{}", listener.port),
            IpAddr::V6(_) => format!("[{addr}]:{}", listener.port),
        }
    }

    pub fn target(&self) -> String {
        SocketAddr::new(self.dst(), self.port()).to_string()
    }

    /// The weighed listeners that satisfy a condition.
    pub fn those(&self, is: impl Fn(&WeighedListener) -> bool) -> Vec<&'a Listener> {
        self.judgement.weighed.iter().filter(|one| is(one)).map(|one| &one.listener).collect()
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
    pub fn is_answered(&self, addr: IpAddr) -> bool {
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
    pub fn is_filtered(&self) -> bool {
        self.refused.via == Via::Icmp || self.refused.sent_by == Some(SentBy::Filter)
    }

    /// The listener that would have answered the counterpart of the address.
    fn of_the_other_family(&self) -> Option<&'a Listener> {
        let answers = |listener: &&Listener| {
            super::coverage::answers_other_family(listener, &self.judgement.destination)
        };
        self.in_place().into_iter().find(answers)
    }

    /// The address of the other family that a client of `localhost` tries, where it is answered.
    pub fn answered_counterpart(&self) -> Option<IpAddr> {
        let other: IpAddr =
            if self.dst().is_ipv6() { Ipv4Addr::LOCALHOST.into() } else { Ipv6Addr::LOCALHOST.into() };
        (self.dst().is_loopback() && self.is_answered(other)).then_some(other)
    }

    fn remote(&self) -> String {
        let translated = if self.refused.sent_by == Some(SentBy::Tcp) {
            "; yet this host's own TCP stack sent the reset, so the address was translated to one of its own"
        } else {
            ""
        };
        format!(
            "{} belongs to no network namespace of this host: the refusal came from elsewhere, or the address is \
             translated (a Service, NAT){translated}",
            bracketed(self.dst())
        )
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
            (Via::Rst, Some(SentBy::Tcp)) => {
                "but this host's TCP stack found no socket where the connect was led: NAT or a redirect"
            }
            (Via::Rst, None) => "and was not asked: NAT, a redirect or a packet filter refused",
        };
        let nearest = match self.refused.sent_by {
            Some(SentBy::Tcp) => self.those(|one| one.mismatch == Some(Mismatch::Netns)).first().copied(),
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
        let carrier = self.judgement.destination.route.map_or_else(
            || "no interface".to_owned(),
            |route| self.namespaces.device_name(self.netns(), route.device),
        );
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
        listener.device.map(|device| self.namespaces.device_name(listener.netns, device))
    }

    fn bind_failed(&self) -> Option<String> {
        let failure = self.judgement.failures.first()?;
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
            errno::name(failure.errno),
        );
        Some(match failure.errno {
            libc::EADDRINUSE => match self.holder() {
                Some((_, held)) => format!("{failed}; held by {held}"),
                None => failed,
            },
            libc::EADDRNOTAVAIL => format!("{failed}: it is no address of this namespace"),
            libc::EACCES => format!("{failed}: the port is privileged, or a security policy forbids it"),
            _ => failed,
        })
    }

    fn bound_not_listening(&self) -> Option<String> {
        let bound = self.judgement.bound.as_ref()?;
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

    fn starting(&self) -> Option<String> {
        let (candidate, _) = self.candidate()?;
        Some(format!(
            "nothing listens on {} yet{}; {}, by its name or arguments the server, started {} ago and has not called \
             listen()",
            self.port(),
            self.in_netns(),
            who(&candidate.process),
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
        let lately = |known: &&super::servers::Known| {
            known.end.is_some_and(|(time, _)| self.now.since(time) < 60_000_000_000)
        };
        let ends = match self.judgement.candidates.iter().filter(lately).count() {
            0 | 1 => String::new(),
            count => format!("; {count} such ends in 60 s"),
        };
        Some(format!(
            "{}, by its name or arguments the server, ended {} ago {how}, without a listen on {}{}{ends}",
            who(&candidate.process),
            ago(self.now.since(time).max(1)),
            self.port(),
            self.in_netns(),
        ))
    }

    fn other_port(&self) -> Option<String> {
        let listeners: Vec<&Listener> = self.judgement.elsewhere.iter().collect();
        let listener = listeners.first()?;
        Some(format!(
            "nothing listens on {}{}; {} listens on {}",
            self.port(),
            self.in_netns(),
            who(&listener.process),
            self.endpoints(&listeners)
        ))
    }

    fn stopped(&self) -> Option<String> {
        let Gone { listener, time, owner } = self.judgement.gone.as_ref()?;
        let owner_name = who(&listener.process);
        let when = ago(self.now.since(*time).max(1));
        let endpoint = self.endpoint(listener);
        let in_netns = self.in_netns();
        let closed = format!("{endpoint}{in_netns} was closed {when} ago");
        Some(match owner {
            OwnerEnd::Alive => format!(
                "{owner_name} closed {endpoint}{in_netns} {when} ago and lives on: a restart inside the process, or it \
                 gave the port up"
            ),
            OwnerEnd::Ended(ExitStatus::Code(code)) => {
                format!("{closed}: {owner_name} exited with code {code}")
            }
            OwnerEnd::Ended(ExitStatus::Signal(signal)) => {
                format!("{closed}: {owner_name} was ended by {}", signal_name(*signal))
            }
            OwnerEnd::Unknown => format!("{closed}, by whom is not known; it was {owner_name}'s"),
        })
    }

    fn wrong_family(&self) -> Option<String> {
        let listener = self.of_the_other_family()?;
        let only = if self.dst().is_ipv6() { "IPv4 only" } else { "IPv6 only" };
        let answered = self.answered_counterpart().map_or_else(String::new, |other| {
            format!("; {} is answered", SocketAddr::new(other, self.port()))
        });
        Some(format!(
            "{} listens on {}{}, {only}{answered}",
            who(&listener.process),
            self.endpoint(listener),
            self.in_netns(),
        ))
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
            format!("{owner} is up, but on {}{in_netns} only{again}{also}", self.endpoints(&listeners))
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

    fn other_netns(&self) -> Option<String> {
        let listeners = self.those(|one| one.mismatch == Some(Mismatch::Netns));
        let listener = listeners.first()?;
        let more = match listeners.len() {
            1 => String::new(),
            count => format!(" ({} more elsewhere)", count - 1),
        };
        Some(format!(
            "nothing listens on {} in {}; {} listens on {} in {}{more}",
            self.port(),
            self.show_netns(self.netns()),
            who(&listener.process),
            self.endpoint(listener),
            self.show_netns(listener.netns),
        ))
    }

    fn nothing_listening(&self) -> String {
        let and = if self.is_filtered() { "; a packet filter refused" } else { "" };
        format!("nothing listens on port {} in any network namespace of this host{and}", self.port())
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
