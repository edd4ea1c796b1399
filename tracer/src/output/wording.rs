//! A verdict in words: one sentence of evidence. What to do about it is [`crate::output::hints`]'.

use std::net::SocketAddr;

use super::schema;
use super::subject::{PRIVILEGED, PortHolder, Subject};
use super::view::View;
use super::words::{ago, enumerate, service_name, signal_name, who};
use crate::model::cause::{Cause, Mismatch};
use crate::model::errno::Errno;
use crate::model::escape::{escape, quoted};
use crate::model::forward::Target;
use crate::model::kernel_event::{Call, Role, SentBy, Via};
use crate::model::process::{ExitStatus, OwnerEnd, Process};
use crate::model::socket::{Holder, Listener};
use crate::products::hint::in_url;
use crate::products::proxies;
use crate::query::Forwarder;
use crate::state::HostState;
use crate::state::binds::FailedBind;
use crate::state::listeners::ClosedListener;
use crate::state::servers::ServerCandidate;
use crate::verdict::coverage::{self, Destination};
use crate::verdict::scene::published::Published;
use crate::verdict::server::KnownBy;

impl Subject<'_> {
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
        let summary = format!("{summary}{}", self.tried());
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
        let clients_get = proxies::clients_get(file.flatten().unwrap_or_default());
        let name = client
            .comm
            .as_ref()
            .map_or_else(|| who(client), |comm| quoted(&escape(comm.as_bytes())).into_owned());
        let serves = if held.is_empty() { "a watched port".to_owned() } else { self.endpoints(&held) };
        Some(format!("{name} serves {serves}: its clients {clients_get}"))
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

    /// The holder of the port that another asked for, and where.
    fn held(&self, holder: PortHolder<'_>) -> String {
        match holder {
            PortHolder::Listener(listener) => {
                let process = &listener.process;
                format!("{} on {}{}", who(process), self.endpoint(listener), self.background(process))
            }
            PortHolder::Other(Holder { socket, state, .. }) => {
                let at = SocketAddr::new(socket.addr, self.port());
                if socket.process.pid.is_some() {
                    return format!("{} on {at}, {}", who(&socket.process), state.name());
                }
                let owner = if state.has_no_owner() { "without an owner" } else { "its owner is not known" };
                format!("a socket on {at} in state {}, {owner}", state.name())
            }
        }
    }

    /// ` (uid 0, started 3 days ago, its parent is pid 1)`: what distinguishes a stale process from a server.
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

    /// The namespace's other addresses that are refused.
    fn also_refused(&self) -> Vec<String> {
        let Some(namespace) = self.view.state.namespaces.get(self.netns()) else {
            return Vec::new();
        };
        let others = namespace.addresses().into_iter().filter(|addr| *addr != self.dst());
        others.filter(|addr| !self.is_answered(*addr)).map(in_url).collect()
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
            in_url(self.dst()),
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
            format!(" ({} belongs to no {})", in_url(self.dst()), self.namespaces_read())
        } else {
            String::new()
        };
        format!("a packet filter of this host refused it{place} ({by}); without the filter: {without}{of}")
    }

    fn not_on_tcp(&self) -> Option<String> {
        let known = self.verdict.candidates.first()?;
        let endpoint = self.show_local(self.verdict.local.first()?);
        let of_tcp = match self.view.state.elsewhere.other_ports_read(self.netns()) {
            Some(_) => format!("not on TCP{}", self.in_netns()),
            None => "its TCP ports were not read".to_owned(),
        };
        Some(format!("{} listens on {endpoint}, {of_tcp}", who(&known.candidate.process)))
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
                in_url(self.dst()),
            ),
        })
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
                Some(holder) => format!("{failed}; held by {}", self.held(holder)),
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

    fn bound_not_listening(&self) -> Option<String> {
        let bound = self.verdict.bound.as_ref()?;
        let (bound_it, when) = match bound.time {
            Some(time) => ("bound", format!(" {} ago", ago(self.now.since(time).max(1)))),
            None => ("holds", String::new()),
        };
        let HostState { listeners, .. } = self.view.state;
        let is_it = |closed: &&ClosedListener| closed.listener.key.is_same(bound.socket.key);
        if let Some(closed) = listeners.closed_in(self.netns()).find(is_it) {
            return Some(format!(
                "{} has stopped listening on {}{}, {} ago, and keeps the socket",
                who(&bound.socket.process),
                self.endpoint(&bound.socket),
                self.in_netns(),
                ago(self.now.since(closed.time).max(1)),
            ));
        }
        Some(format!(
            "{} {bound_it} {}{}{when} and has not called listen()",
            who(&bound.socket.process),
            self.endpoint(&bound.socket),
            self.in_netns()
        ))
    }

    /// The last bind that failed and would have covered the destination, where the cause is another one.
    fn tried(&self) -> String {
        let covers =
            |failed: &&FailedBind| coverage::mismatch(&failed.socket, &self.verdict.destination).is_none();
        let failed = (self.verdict.cause != Cause::BindFailed)
            .then(|| self.verdict.failed_binds.iter().filter(covers).max_by_key(|failed| failed.last))
            .flatten();
        failed.map_or_else(String::new, |failed| {
            let process = &failed.socket.process;
            let uid = process.uid.map_or_else(String::new, |uid| format!(" (uid {uid})"));
            format!(
                "; {}{uid} asked for {} {} ago and got {}",
                self.name(process),
                self.endpoint(&failed.socket),
                ago(self.now.since(failed.last).max(1)),
                failed.errno,
            )
        })
    }

    /// How the candidate is known to be the server.
    fn as_server(&self) -> &'static str {
        match self.verdict.server.as_ref().map(|server| server.known_by) {
            Some(KnownBy::Listener | KnownBy::Service) => ", of the service that served the port",
            Some(KnownBy::Bind) => ", which has asked for the port",
            Some(KnownBy::Name) | None => ", by its name the server",
        }
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
        // A command of the same program, such as one that ends the server, is not one more of the instances that end.
        let is_alike = |process: &Process| {
            process.arguments.is_none() || process.arguments == candidate.process.arguments
        };
        let lately = |known: &&ServerCandidate| {
            known.end().is_some_and(|(time, _)| self.now.since(time) < 60_000_000_000)
                && is_alike(&known.candidate.process)
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
        let ClosedListener { listener, time, owner, .. } = self.verdict.closed.as_ref()?;
        let owner_name = who(&listener.process);
        let when = ago(self.now.since(*time).max(1));
        let endpoint = self.endpoint(listener);
        let in_netns = self.in_netns();
        let closed = format!("{endpoint}{in_netns} was closed {when} ago");
        let what = match owner {
            OwnerEnd::Running if !self.verdict.kept.is_empty() => {
                let kept: Vec<&Listener> = self.verdict.kept.iter().collect();
                let goes_on = format!("is still running and listens on {}", self.endpoints(&kept));
                match &self.verdict.failed_closer {
                    Some((closer, status)) => {
                        format!("{closed}: {}; {owner_name} {goes_on}", ended(closer, *status))
                    }
                    None => format!("{closed}: {owner_name} gave the port up, and {goes_on}"),
                }
            }
            OwnerEnd::Running => format!(
                "{owner_name} closed {endpoint}{in_netns} {when} ago and is still running: a restart inside the process, or \
                 it gave the port up"
            ),
            OwnerEnd::Ended(status) => format!("{closed}: {}", ended(&listener.process, *status)),
            OwnerEnd::Unknown => format!("{closed}, by whom is not known; it was {owner_name}'s"),
        };
        let what = format!("{what}{}{}", self.others(), self.in_turn());
        Some(match self.successor() {
            Some(next) => format!(
                "{what}; its successor {} started {} ago and has not listened{} yet",
                who(&next.process),
                ago(self.now.since(next.since).max(1)),
                if self.listens_elsewhere(&next.process) { " on this port" } else { "" },
            ),
            None => what,
        })
    }

    fn in_turn(&self) -> String {
        self.turns().map_or_else(String::new, |turns| {
            let [one, other] = turns.services.each_ref().map(service_name);
            format!("; two services take turns on {}: {one} and {other}", self.port())
        })
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
        let until = self.listened_until();
        if is_everywhere && !self.is_unread(self.netns()) && !namespaces.any_unreadable() {
            return format!(
                "nothing listens on port {} in any network namespace of this host{until}{and}",
                self.port()
            );
        }
        let place = self.show_netns(self.netns());
        format!("{}{until}{and}", self.nothing_on(&format!("port {} in {place}", self.port())))
    }

    /// What listened on the port last, at an address that the destination is not.
    fn listened_until(&self) -> String {
        self.last_on_port().map_or_else(String::new, |closed| {
            format!(
                "; {} listened on {} until {} ago",
                self.name(&closed.listener.process),
                self.endpoint(&closed.listener),
                ago(self.now.since(closed.time).max(1)),
            )
        })
    }
}

/// How a process has ended.
fn ended(process: &Process, status: ExitStatus) -> String {
    match status {
        ExitStatus::Code(code) => format!("{} exited with code {code}", who(process)),
        ExitStatus::Signal(signal) => format!("{} was ended by {}", who(process), signal_name(signal)),
    }
}
