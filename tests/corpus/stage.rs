//! Plays a story with real processes, sockets and namespaces, and asserts what the log says of it: every field of
//! every line that the story tells, and that there is no line besides.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use tracer::line::{
    Because, Body, Call, Cause, Change, Line, Listener, Mismatch, Owner, OwnerState, Process, Refused,
    Verdict, Weighed,
};

use super::story::{
    End, FailedBind, HOST, Holder, Incident, Kind, Orders, Refusal, Role, Sockopt, Step, role,
};
use crate::support::cast::{Actor, Costume};
use crate::support::netns::{self, Netns, Place};
use crate::support::poll;
use crate::support::port::Port;
use crate::support::story::{
    BACKLOG, By, CHANGING_US, Socket, Spot, Story, assert_sound, but_for_skips, carrier, wait_past,
};
use crate::support::tracer::Tracer;

/// Plays a story as written, and where it has both orders once more beside it, under the same tracer.
pub fn play(incident: &'static Incident) {
    let mut first = Stage::set(incident);
    match incident.orders {
        Orders::AsWritten => {
            first.play(incident.steps.iter());
            end(&mut [first]);
        }
        Orders::Both => {
            let mut second = Stage::set(incident);
            first.watched.push(second.story.port());
            first.play(incident.steps.iter());
            second.story.tracer = first.story.tracer.take();
            second.seen = std::mem::take(&mut first.seen);
            second.play(incident.steps.iter().filter(|step| !matches!(step, Step::Trace)));
            end(&mut [first, second]);
        }
    }
}

/// A namespace of the story, which exists as long as this.
struct Room {
    spot: Spot,
    netns: Option<Netns>,
    /// Keeps a namespace that has no name.
    _keeper: Option<Actor>,
}

/// A socket that a process has, or had.
#[derive(Clone, Debug)]
struct Held {
    /// Without brackets.
    addr: String,
    port: u16,
    options: &'static [Sockopt],
    is_listening: bool,
    /// When the log says that it opened, in microseconds; `None`: before the tracer, or on another port.
    opened: Option<u64>,
    cookie: Option<u64>,
}

struct Player {
    role: Role,
    actor: Actor,
    spot: Spot,
    /// Its sockets, the last one last.
    held: Vec<Held>,
}

/// A `refused` line: what it was about, and who was counted into it.
struct Told {
    seq: u64,
    mono_us: u64,
    role: Role,
    netns: u32,
    addr: String,
    cause: Cause,
}

/// The refusals of a destination since it was last answered.
#[derive(Default)]
struct Waiting {
    of: Vec<u64>,
    first_us: u64,
    refusals: u64,
    pids: BTreeSet<u32>,
}

struct Stage {
    incident: &'static Incident,
    /// The step that is played, for a test that fails.
    step: Option<&'static Step>,
    // The processes end before their namespaces.
    players: BTreeMap<&'static str, Player>,
    rooms: BTreeMap<&'static str, Room>,
    story: Story,
    other_port: Port,
    /// What the tracer is to watch.
    watched: Vec<u16>,
    /// Lines that the story has told, by `seq`.
    seen: BTreeSet<u64>,
    told: Vec<Told>,
    waiting: BTreeMap<(u32, String), Waiting>,
    by_cause: BTreeMap<Cause, u64>,
    /// `of`, count and processes of the repeats to come.
    repeats: BTreeMap<u64, (u64, u64)>,
    /// A connect failed that this kernel does not show as refused.
    has_unseen: bool,
}

impl Drop for Stage {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}: in the step {:?}", self.incident.name, self.step);
        }
    }
}

impl Stage {
    fn set(incident: &'static Incident) -> Self {
        let story = Story::begin();
        let host = Room { spot: Spot::from(&story.netns), netns: None, _keeper: None };
        let watched = vec![story.port()];
        Self {
            incident,
            watched,
            step: None,
            players: BTreeMap::new(),
            rooms: BTreeMap::from([(HOST, host)]),
            story,
            other_port: Port::take(),
            seen: BTreeSet::new(),
            told: Vec::new(),
            waiting: BTreeMap::new(),
            by_cause: BTreeMap::new(),
            repeats: BTreeMap::new(),
            has_unseen: false,
        }
    }

    fn play(&mut self, steps: impl Iterator<Item = &'static Step>) {
        for step in steps {
            self.step = Some(step);
            self.act(step);
        }
        self.step = None;
    }

    fn act(&mut self, step: &Step) {
        match *step {
            Step::Trace => self.trace(),
            Step::Namespace(name) => {
                let netns = Netns::new();
                let room = Room { spot: Spot::from(&netns), netns: Some(netns), _keeper: None };
                self.rooms.insert(name, room);
            }
            Step::Pod(name) => self.pod(name),
            Step::Join(name) => self.join(name),
            Step::Ip(netns, commands) => {
                let commands = self.text(commands);
                self.netns(netns).ip(&commands);
            }
            Step::Nft(netns, rules) => {
                let rules = self.text(rules);
                self.netns(netns).nft(&rules);
            }
            Step::Sysctl(netns, path, value) => {
                let value = self.text(value);
                let mut command = Command::new("tee");
                command.arg(format!("/proc/sys/{path}"));
                netns::run(self.netns(netns).enter(&mut command), &value);
            }
            Step::Start(who) => {
                self.player(who);
            }
            Step::Listen(who, at, options) => {
                self.bind(who, at, options);
                self.listen(who);
            }
            Step::Bind(who, at, options) => {
                self.bind(who, at, options);
                self.bind_line(who, Call::Bind, at, None);
            }
            Step::BindFails(who, at, errno) => {
                let outcome = self.ask(who, &format!("bind {}", self.endpoint(at)));
                assert_eq!(outcome, Err(errno.raw_os_error()), "bind of {who} to {at}");
                self.bind_line(who, Call::Bind, at, Some(errno));
            }
            Step::ListenBound(who) => self.listen(who),
            Step::ListenFails(who, errno) => {
                let actor = &mut self.player(who).actor;
                assert_eq!(actor.listen(BACKLOG), Err(errno.raw_os_error()), "listen of {who}");
                let addr = self.held(who).addr.clone();
                self.bind_line(who, Call::Listen, &addr, Some(errno));
            }
            Step::Close(who) => {
                self.player(who).actor.close();
                self.closed(who, OwnerState::Alive, None, None);
            }
            Step::Exit(who, code) => {
                let status = self.player(who).actor.exit(code);
                assert_eq!(status.code(), Some(i32::from(code)));
                self.closed(who, OwnerState::Ended, Some(i32::from(code)), None);
            }
            Step::Kill(who) => {
                assert_eq!(self.player(who).actor.kill().code(), None);
                self.closed(who, OwnerState::Ended, None, Some(libc::SIGKILL));
            }
            Step::TimeWait(server, client, at) => self.time_wait(server, client, at),
            Step::Refused(ref refusal) => {
                for to in refusal.to {
                    self.refused(refusal, to);
                }
            }
            Step::Answered(who, kind, to) => {
                let command = self.connect(kind, to);
                self.must(who, &command);
            }
            Step::Keep(who, to, kind) => {
                let command = format!("{} keep", self.connect(kind, to));
                self.must(who, &command);
                if let Kind::From(from) = kind {
                    self.bind_line(who, Call::Bind, from, None);
                }
            }
            Step::Again(who, to, times) => self.again(who, to, times),
            Step::Recovered { to, by, refusals, processes } => self.recovered(to, by, refusals, processes),
            Step::Fallback { ref refused, answered } => self.fallback(refused, answered),
            Step::Repeated { who, to, count, processes } => {
                let seq = self.told_of(who, to).seq;
                self.repeats.insert(seq, (count, processes));
            }
        }
    }

    // The setting.

    fn trace(&mut self) {
        self.story.tracer = Some(Tracer::start(&self.watched, self.incident.arguments));
        let present: Vec<&'static str> = self.players.keys().copied().collect();
        for who in present {
            if self.players[who].held.last().is_some_and(|held| held.is_listening) && self.is_watched(who) {
                let (_, _, line) = self.listener_line(who, Change::Present);
                assert_eq!(line.since, None, "it was there before the tracer: {line:?}");
            }
        }
    }

    fn pod(&mut self, name: &'static str) {
        let keeper = Actor::start(&Place::Unshared, &Costume::named("pause"));
        let path = PathBuf::from(format!("/proc/{}/ns/net", keeper.pid));
        let mut ip = Command::new("ip");
        netns::run(netns::enter(&path, ip.args(["-batch", "-"])), "link set lo up");
        let spot = Spot { id: netns::inode(&path), name: None, place: Place::Path(path) };
        self.rooms.insert(name, Room { spot, netns: None, _keeper: Some(keeper) });
    }

    fn join(&mut self, name: &str) {
        let other = self.netns(name);
        self.netns(HOST).join("eth1", other, "eth1");
        for (netns, last) in [(HOST, 1), (name, 2)] {
            let commands = self.text(&format!(
                "addr add 10.x.y.{last}/24 dev eth1
                addr add fd00:p::{last}/64 dev eth1 nodad"
            ));
            self.netns(netns).ip(&commands);
        }
    }

    fn netns(&self, name: &str) -> &Netns {
        let room = self.rooms.get(name).unwrap_or_else(|| panic!("no namespace `{name}`"));
        if name == HOST { &self.story.netns } else { room.netns.as_ref().expect("one with a name") }
    }

    // Names and addresses.

    /// Puts the story's own addresses, ports and processes into a text.
    fn text(&self, text: &str) -> String {
        let port = self.story.port();
        let [high, low] = port.to_be_bytes();
        let mut text = text
            .replace("10.x.y.", &format!("10.{high}.{low}."))
            .replace("100.64.x.y", &format!("100.64.{high}.{low}"))
            .replace("fd00:p::", &format!("fd00:{port:x}::"))
            .replace("{port}", &port.to_string())
            .replace("{other port}", &self.other_port.number.to_string());
        for (name, player) in &self.players {
            let pid = player.actor.pid;
            text = text.replace(&format!("{{{name}}}"), &format!("{}[{pid}]", player.role.comm));
            text = text.replace(&format!("{{pid {name}}}"), &pid.to_string());
        }
        for (name, room) in &self.rooms {
            let shown = room.spot.name.clone().unwrap_or_else(|| format!("net:[{}]", room.spot.id));
            text = text.replace(&format!("{{netns {name}}}"), &shown);
        }
        text
    }

    /// The address, as in a URL, and the port.
    fn split(&self, at: &str) -> (String, u16) {
        let (addr, port) = if let Some(addr) = at.strip_suffix(":other") {
            (addr, self.other_port.number)
        } else if let Some(addr) = at.strip_suffix(":any") {
            (addr, 0)
        } else {
            (at, self.story.port())
        };
        (self.text(addr), port)
    }

    fn endpoint(&self, at: &str) -> String {
        let (addr, port) = self.split(at);
        format!("{addr}:{port}")
    }

    /// The address as the log has it: an unspecified one is this host's where a client goes there, and an
    /// IPv4-mapped one is IPv4.
    fn destination(&self, to: &str) -> String {
        let (addr, _) = self.split(to);
        let addr = addr.trim_matches(['[', ']']);
        match addr {
            "0.0.0.0" => "127.0.0.1",
            "::" => "::1",
            _ => addr.strip_prefix("::ffff:").unwrap_or(addr),
        }
        .to_owned()
    }

    /// The interface that carries an address.
    fn interface(&self, addr: &str) -> Option<&'static str> {
        let is_joined = addr.starts_with(&self.text("10.x.y.")) || addr.starts_with(&self.text("fd00:p::"));
        match addr {
            _ if is_joined => Some("eth1"),
            _ if addr.starts_with("100.64.") => Some("tailscale0"),
            _ => carrier(addr),
        }
    }

    /// The address that a connect comes from.
    fn source(&self, refusal: &Refusal, to: &str) -> String {
        let dst = self.destination(to);
        if let Kind::From(from) = refusal.kind {
            return self.split(from).0.trim_matches(['[', ']']).to_owned();
        }
        let is_joined = self.interface(&dst) == Some("eth1");
        let is_host = self.players[refusal.who].role.netns == HOST;
        match dst.as_str() {
            _ if dst.starts_with("127.") => "127.0.0.1".to_owned(),
            "198.51.100.7" => "10.77.0.1".to_owned(),
            "2001:db8:77::7" => "fd77::1".to_owned(),
            _ if is_joined => {
                let (network, _) = dst.rsplit_once(['.', ':']).expect("an address");
                let separator = if dst.contains(':') { ':' } else { '.' };
                format!("{network}{separator}{}", if is_host { 1 } else { 2 })
            }
            own => own.to_owned(),
        }
    }

    // Processes.

    fn role(&self, who: &'static str) -> Role {
        self.incident.cast.iter().find(|role| role.name == who).copied().unwrap_or(role(who))
    }

    /// The process of this name, which starts when it is first heard of.
    fn player(&mut self, who: &'static str) -> &mut Player {
        let role = self.role(who);
        let room = self.rooms.get(role.netns).unwrap_or_else(|| panic!("no namespace `{}`", role.netns));
        let spot = room.spot.clone();
        self.players.entry(who).or_insert_with(|| {
            let costume = match role.program {
                Some(program) => Costume::program(program).arguments(role.arguments).renamed(role.comm),
                None => Costume::named(role.comm),
            };
            let costume = if role.uid == 0 { costume } else { costume.uid(role.uid) };
            let actor = Actor::start(&spot.place, &costume);
            Player { role, actor, spot, held: Vec::new() }
        })
    }

    fn ask(&mut self, who: &'static str, command: &str) -> Result<String, i32> {
        self.player(who).actor.ask(command)
    }

    fn must(&mut self, who: &'static str, command: &str) -> String {
        self.player(who).actor.must(command)
    }

    fn held(&self, who: &str) -> &Held {
        self.players[who].held.last().unwrap_or_else(|| panic!("{who} has no socket"))
    }

    fn is_watched(&self, who: &str) -> bool {
        self.held(who).port == self.story.port()
    }

    fn assert_process(&self, process: &Process, who: &str, told: &str) {
        let player = &self.players[who];
        assert_eq!(process.pid, Some(player.actor.pid), "{who}: {told}");
        assert_eq!(process.comm.as_deref(), Some(player.role.comm), "{who}: {told}");
        assert_eq!(process.uid, Some(player.role.uid), "{who}: {told}");
    }

    // Servers.

    fn bind(&mut self, who: &'static str, at: &str, options: &'static [Sockopt]) {
        let mut command = format!("bind {}", self.endpoint(at));
        for option in options {
            match option {
                Sockopt::Ipv6Only => command.push_str(" v6only"),
                Sockopt::ToDevice(device) => command.push_str(&format!(" device={device}")),
                Sockopt::ReuseAddr => command.push_str(" reuseaddr"),
                Sockopt::Multipath => command.push_str(" mptcp"),
            }
        }
        self.must(who, &command);
        let (addr, port) = self.split(at);
        let addr = addr.trim_matches(['[', ']']).to_owned();
        let held = Held { addr, port, options, is_listening: false, opened: None, cookie: None };
        self.player(who).held.push(held);
    }

    /// Waits for the log's line about a call that was followed.
    fn bind_line(&mut self, who: &'static str, call: Call, at: &str, errno: Option<Errno>) {
        if self.story.tracer.is_none() {
            return;
        }
        let (addr, port) = self.split(at);
        let pid = self.players[who].actor.pid;
        let (_, _, bind) = self.line(&format!("{call:?} of {who} to {at}"), |line| match &line.body {
            Body::Bind(bind) if bind.process.pid == Some(pid) && bind.call == call => Some(bind.clone()),
            _ => None,
        });
        let told = format!("{bind:?}");
        let spot = &self.players[who].spot;
        assert_eq!((bind.addr.as_str(), bind.port), (addr.trim_matches(['[', ']']), port), "{told}");
        assert_eq!(bind.errno.as_deref(), errno.map(errno_name), "{told}");
        assert_eq!((bind.netns.id, &bind.netns.name), (spot.id, &spot.name), "{told}");
        self.assert_process(&bind.process, who, &told);
    }

    fn listen(&mut self, who: &'static str) {
        let actor = &mut self.player(who).actor;
        actor.listen(BACKLOG).unwrap_or_else(|errno| panic!("listen of {who}: errno {errno}"));
        let cookie = actor.cookie;
        let held = self.player(who).held.last_mut().expect("a socket that is bound");
        // A multipath socket's cookie is not that of the TCP socket inside, which the log shows.
        held.cookie = cookie.filter(|_| !held.options.contains(&Sockopt::Multipath));
        held.is_listening = true;
        if self.story.tracer.is_some() && self.is_watched(who) {
            let (_, mono_us, listener) = self.listener_line(who, Change::Opened);
            assert!(listener.since.is_some(), "it was seen to open: {listener:?}");
            self.player(who).held.last_mut().expect("bound").opened = Some(mono_us);
            wait_past(mono_us + CHANGING_US);
        }
    }

    /// Waits for the log's line about a change of this process's listener.
    fn listener_line(&mut self, who: &'static str, change: Change) -> (Option<Owner>, u64, Listener) {
        let pid = self.players[who].actor.pid;
        let (_, mono_us, line) =
            self.line(&format!("the listener of {who} {change:?}"), |line| match &line.body {
                Body::Listener(line) if line.change == change && line.listener.process.pid == Some(pid) => {
                    Some(line.clone())
                }
                _ => None,
            });
        self.assert_listener(&line.listener, who, &format!("{line:?}"));
        (line.owner, mono_us, line.listener)
    }

    fn assert_listener(&self, listener: &Listener, who: &str, told: &str) {
        self.assert_socket(listener, self.held(who), who, told);
    }

    fn assert_socket(&self, listener: &Listener, held: &Held, who: &str, told: &str) {
        let device = held.options.iter().find_map(|option| match option {
            Sockopt::ToDevice(device) => Some(*device),
            Sockopt::Ipv6Only | Sockopt::ReuseAddr | Sockopt::Multipath => None,
        });
        let socket = Socket {
            addr: &held.addr,
            port: held.port,
            v6only: held.options.contains(&Sockopt::Ipv6Only),
            device,
            interface: self.interface(&held.addr),
            spot: &self.players[who].spot,
            cookie: held.cookie,
        };
        socket.assert_is(listener);
        self.assert_process(&listener.process, who, told);
    }

    /// The process has closed its socket, or ended with it.
    fn closed(&mut self, who: &'static str, state: OwnerState, code: Option<i32>, signal: Option<i32>) {
        let Some(held) = self.player(who).held.last_mut() else { return };
        let was_listening = std::mem::take(&mut held.is_listening);
        if was_listening && self.story.tracer.is_some() && self.is_watched(who) {
            let (owner, mono_us, _) = self.listener_line(who, Change::Closed);
            assert_eq!(owner, Some(Owner { state, code, signal }), "what became of {who}");
            wait_past(mono_us + CHANGING_US);
        }
    }

    fn time_wait(&mut self, server: &'static str, client: &'static str, at: &str) {
        let to = self.endpoint(at);
        self.must(client, &format!("connect {to} keep"));
        self.must(server, "accept");
        self.must(client, "close");
        let table = if at.starts_with('[') { "tcp6" } else { "tcp" };
        let table = format!("/proc/{}/net/{table}", self.players[server].actor.pid);
        let local = format!(":{:04X}", self.story.port());
        poll("a TIME-WAIT socket", || {
            let sockets = std::fs::read_to_string(&table).expect("the kernel's table of sockets");
            let is_it = |line: &str| {
                let fields: Vec<&str> = line.split_whitespace().collect();
                fields.get(1).is_some_and(|addr| addr.ends_with(&local)) && fields.get(3) == Some(&"06")
            };
            sockets.lines().any(is_it).then_some(())
        });
    }

    // Clients.

    fn connect(&self, kind: Kind, to: &str) -> String {
        let to = self.endpoint(to);
        match kind {
            Kind::Blocking => format!("connect {to}"),
            Kind::Nonblocking => format!("connect {to} nonblocking"),
            Kind::Thread => format!("connect {to} thread"),
            Kind::Multipath => format!("connect {to} mptcp"),
            Kind::From(from) => format!("connect {to} from={}", self.endpoint(from)),
            Kind::OnDevice(device) => format!("connect {to} device={device}"),
        }
    }

    fn refused(&mut self, refusal: &Refusal, to: &str) {
        let command = self.connect(refusal.kind, to);
        // A process of the story that it did not need to name before: its start is no part of the latency.
        self.player(refusal.who);
        let began = Instant::now();
        let outcome = self.ask(refusal.who, &command);
        let took = began.elapsed();
        assert_eq!(outcome, Err(Errno::CONNREFUSED.raw_os_error()), "{} to {to}", refusal.who);
        let is_v6 = self.destination(to).contains(':');
        let tracer = self.story.tracer();
        // ICMPv6 refuses the second SYN for good, whoever holds the socket (`tcp_v6_err`, net/ipv6/tcp_ipv6.c).
        if refusal.by == By::Icmp
            && refusal.kind == Kind::Nonblocking
            && !is_v6
            && tracer.is_limited("no-icmp-refusals")
        {
            self.has_unseen = true;
            return;
        }
        self.refused_line(refusal, to, took);
    }

    /// Waits for the `refused` line of a connect, and asserts every field of it.
    fn refused_line(&mut self, refusal: &Refusal, to: &str, took: Duration) -> Told {
        let (who, pid) = (refusal.who, self.players[refusal.who].actor.pid);
        let (addr, port) = (self.destination(to), self.story.port());
        let (seq, mono_us, line) =
            self.line(&format!("the refusal of {who} to {to}"), |line| match &line.body {
                Body::Refused(refused) if refused.client.pid == Some(pid) && refused.dst.addr == addr => {
                    Some((**refused).clone())
                }
                _ => None,
            });
        let told = serde_json::to_string(&line).expect("a line");
        let Refused { client, src, dst, netns, via, sent_by, latency_us, verdict } = line;
        let player = &self.players[who];
        self.assert_process(&client, who, &told);
        assert_eq!(client.ns_pid, Some(pid), "{told}");
        assert_eq!(client.ppid, Some(std::process::id()), "{told}");
        let exe = std::env::current_exe().expect("the path of this test binary");
        assert_eq!(client.exe.as_deref(), exe.to_str(), "{told}");
        assert!(client.start_time.is_some(), "{told}");
        assert_eq!(src.addr, self.source(refusal, to), "{told}");
        assert!(src.port.is_some_and(|port| port != 0), "{told}");
        assert_eq!((dst.addr.as_str(), dst.port), (addr.as_str(), Some(port)), "{told}");
        assert_eq!((netns.id, &netns.name), (player.spot.id, &player.spot.name), "{told}");
        let is_v6 = addr.contains(':');
        let tracer = self.story.tracer.as_ref().expect("a story that is traced");
        assert_eq!((via, sent_by), refusal.by.told(tracer, is_v6), "{told}");
        assert!(u128::from(latency_us) <= took.as_micros(), "it took {took:?}: {told}");
        self.assert_verdict(refusal, &verdict, &told);

        *self.by_cause.entry(refusal.cause).or_default() += 1;
        let (role, netns) = (player.role, player.spot.id);
        // What is answered elsewhere, or was never asked, cannot be seen to recover.
        if !matches!(refusal.cause, Cause::Remote | Cause::Intercepted) {
            let waiting = self.waiting.entry((netns, addr.clone())).or_default();
            if waiting.of.is_empty() {
                waiting.first_us = mono_us;
            }
            waiting.of.push(seq);
            waiting.refusals += 1;
            waiting.pids.insert(pid);
        }
        self.told.push(Told { seq, mono_us, role, netns, addr: addr.clone(), cause: refusal.cause });
        Told { seq, mono_us, role, netns, addr, cause: refusal.cause }
    }

    fn assert_verdict(&self, refusal: &Refusal, verdict: &Verdict, told: &str) {
        let Verdict {
            cause,
            confidence: _,
            because,
            listeners,
            listeners_total,
            failed_binds,
            candidates,
            claims,
            summary,
            hint,
        } = verdict;
        let expected = self.because(refusal);
        assert_eq!((*cause, but_for_skips(because, &expected)), (refusal.cause, expected), "{told}");
        assert_sound(verdict, told);

        let covering = refusal.covered_by.iter().map(|who| (*who, None));
        let weighed: Vec<_> =
            covering.chain(refusal.weighs.iter().map(|(who, mismatch)| (*who, Some(*mismatch)))).collect();
        assert_eq!((listeners.len(), *listeners_total), (weighed.len(), weighed.len() as u64), "{told}");
        for (Weighed { listener, mismatch }, (who, expected)) in listeners.iter().zip(weighed) {
            assert_eq!(*mismatch, expected, "{who}: {told}");
            // What has closed need not be what it has now.
            let is_it =
                |held: &&Held| mismatch.is_some_and(|why| why == Mismatch::Closed) != held.is_listening;
            let held = self.players[who].held.iter().rfind(is_it).unwrap_or_else(|| panic!("{who}: {told}"));
            self.assert_socket(listener, held, who, told);
            assert_eq!(listener.since.is_some(), held.opened.is_some(), "{who}: {told}");
        }

        assert_eq!(failed_binds.len(), refusal.failed_binds.len(), "{told}");
        for (failed, expected) in failed_binds.iter().zip(refusal.failed_binds) {
            let FailedBind { who, call, at, errno, times, held_by } = *expected;
            let (addr, port) = self.split(at);
            let spot = &self.players[who].spot;
            assert_eq!((failed.call, failed.addr.as_str()), (call, addr.trim_matches(['[', ']'])), "{told}");
            assert_eq!((failed.port, failed.netns.id), (port, spot.id), "{told}");
            assert_eq!((failed.errno.as_str(), failed.times), (errno, times), "{told}");
            self.assert_process(&failed.process, who, told);
            self.assert_holders(&failed.held_by, held_by, told);
        }

        assert_eq!(candidates.len(), refusal.candidates.len(), "{told}");
        for (candidate, (who, end)) in candidates.iter().zip(refusal.candidates) {
            let (state, code, signal) = match *end {
                End::Alive => (OwnerState::Alive, None, None),
                End::Code(code) => (OwnerState::Ended, Some(code), None),
                End::Killed => (OwnerState::Ended, None, Some(libc::SIGKILL)),
            };
            self.assert_process(&candidate.process, who, told);
            assert_eq!(candidate.state, Owner { state, code, signal }, "{told}");
            assert!(candidate.age_us > 0, "{told}");
            assert_eq!(candidate.ended.is_some(), state == OwnerState::Ended, "{told}");
        }

        if let Some((who, _)) = refusal.candidates.first() {
            // It is called a claim.
            let claim = self.text(&format!("{{{who}}}, by its name or arguments the server"));
            assert!(summary.contains(&claim), "`{claim}` is not said: {told}");
        }

        assert_eq!(*claims, [], "{told}");
        for part in refusal.says {
            let part = self.text(part);
            assert!(summary.contains(&part), "`{part}` is not said: {told}");
        }
        for part in refusal.never_says {
            let part = self.text(part);
            let is_said = summary.contains(&part) || hint.as_ref().is_some_and(|hint| hint.contains(&part));
            assert!(!is_said, "`{part}` is said: {told}");
        }
        assert!(hint.is_some(), "there is always something to do: {told}");
        for part in refusal.hints {
            let part = self.text(part);
            assert!(hint.as_deref().is_some_and(|hint| hint.contains(&part)), "`{part}` is no hint: {told}");
        }
    }

    /// What makes a verdict less than certain: what the story tells, and what this kernel gives no sign of.
    fn because(&self, refusal: &Refusal) -> Vec<Because> {
        let tracer = self.story.tracer.as_ref().expect("a story that is traced");
        let unseen = [
            ("no-binds", Cause::BindFailed),
            ("no-bound-sockets", Cause::BoundNotListening),
            ("bound-before-start", Cause::BoundNotListening),
            ("no-exits", Cause::BoundNotListening),
        ];
        let mut because = refusal.because.to_vec();
        if unseen.iter().any(|(limit, cause)| tracer.is_limited(limit) && *cause < refusal.cause) {
            because.push(Because::HookMissing);
        }
        because.sort_unstable();
        because
    }

    fn assert_holders(&self, held_by: &[tracer::line::HeldBy], expected: &[Holder], told: &str) {
        let is_listed = |holder: &&Holder| !matches!(holder, Holder::Bound(..)) || !held_by.is_empty();
        let expected: Vec<&Holder> = expected.iter().filter(is_listed).collect();
        assert_eq!(held_by.len(), expected.len(), "{told}");
        for (holder, expected) in held_by.iter().zip(expected) {
            let (at, state, who) = match *expected {
                Holder::TimeWait(at) => (at, "TIME-WAIT", None),
                Holder::Listener(who, at) => (at, "LISTEN", Some(who)),
                Holder::Client(who, at) => (at, "ESTAB", Some(who)),
                Holder::Bound(who, at) => (at, "UNCONN", Some(who)),
            };
            let (addr, _) = self.split(at);
            assert_eq!(holder.addr, addr.trim_matches(['[', ']']), "{told}");
            assert_eq!(holder.state, state, "{told}");
            match who {
                Some(who) => self.assert_process(&holder.process, who, told),
                None => assert_eq!(holder.process, Process::default(), "{told}"),
            }
        }
    }

    /// The line that tells refusals like those of this client.
    fn told_of(&mut self, who: &'static str, to: &str) -> &Told {
        let addr = self.destination(to);
        let Player { role, spot, .. } = self.player(who);
        let (role, netns) = (*role, spot.id);
        let told = self.told.iter().rev().find(|told| {
            (told.role.comm, told.role.uid) == (role.comm, role.uid)
                && (told.netns, &told.addr) == (netns, &addr)
        });
        told.unwrap_or_else(|| panic!("{who} was not refused at {to} before"))
    }

    fn again(&mut self, who: &'static str, to: &str, times: u32) {
        let command = format!("flood {} {times}", self.endpoint(to));
        let ports = self.must(who, &command);
        assert_eq!(ports.split(' ').count(), times as usize, "{who} at {to}");
        let pid = self.players[who].actor.pid;
        let Told { cause, netns, ref addr, .. } = *self.told_of(who, to);
        let key = (netns, addr.clone());
        *self.by_cause.entry(cause).or_default() += u64::from(times);
        if let Some(waiting) = self.waiting.get_mut(&key) {
            waiting.refusals += u64::from(times);
            waiting.pids.insert(pid);
        }
    }

    // What follows.

    fn recovered(&mut self, to: &str, by: &'static str, refusals: u64, processes: u64) {
        let addr = self.destination(to);
        let (_, mono_us, line) = self.line(&format!("the recovery of {to}"), |line| match &line.body {
            Body::Recovered(recovered) if recovered.dst.addr == addr => Some((**recovered).clone()),
            _ => None,
        });
        let told = format!("{line:?}");
        let key = (line.netns.id, addr);
        let waiting = self.waiting.remove(&key).unwrap_or_else(|| panic!("never refused: {told}"));
        assert_eq!(line.of, waiting.of, "{told}");
        assert_eq!(line.dst.port, Some(self.story.port()), "{told}");
        assert_eq!((line.refusals, line.processes), (refusals, Some(processes)), "{told}");
        // The story counts right, too.
        assert_eq!((refusals, processes), (waiting.refusals, waiting.pids.len() as u64), "{told}");
        self.assert_listener(&line.listener, by, &told);
        assert_eq!(Some(mono_us), self.held(by).opened, "{told}");
        // Each of the three is cut to a microsecond.
        assert!(line.after_us.abs_diff(mono_us - waiting.first_us) <= 1, "{told}");
    }

    fn fallback(&mut self, refusal: &Refusal, answered: &str) {
        let refused: Vec<String> = refusal.to.iter().map(|to| self.endpoint(to)).collect();
        let command = format!("reach {} {}", refused.join(" "), self.endpoint(answered));
        let began = Instant::now();
        self.must(refusal.who, &command);
        let took = began.elapsed();
        let told: Vec<Told> = refusal.to.iter().map(|to| self.refused_line(refusal, to, took)).collect();
        let (_, mono_us, line) = self.line("the fallback", |line| match &line.body {
            Body::Fallback(fallback) => Some(fallback.clone()),
            _ => None,
        });
        let first = told.first().expect("a refusal");
        assert_eq!(line.of, first.seq, "{line:?}");
        assert_eq!(line.dst.addr, self.destination(answered), "{line:?}");
        assert_eq!(line.dst.port, Some(self.story.port()), "{line:?}");
        assert!(line.after_us.abs_diff(mono_us - first.mono_us) <= 1, "{line:?}");
    }

    // The log.

    /// Waits for a line that the story has not told yet: its `seq`, its time and what it says.
    fn line<T>(&mut self, what: &str, mut find: impl FnMut(&Line) -> Option<T>) -> (u64, u64, T) {
        let seen = &self.seen;
        let tracer = self.story.tracer.as_mut().expect("a story that is traced");
        let found = tracer.wait_for(what, |line| {
            if seen.contains(&line.seq) {
                return None;
            }
            Some((line.seq, line.mono_us, find(line)?))
        });
        self.seen.insert(found.0);
        found
    }
}

/// Stops the tracer of these, the last of which has it: all that it said was told.
fn end(stages: &mut [Stage]) {
    let last = stages.last_mut().expect("a stage");
    let log = last.story.tracer.take().expect("a story that is traced").stop();
    let seen = std::mem::take(&mut last.seen);
    let players = || stages.iter().flat_map(|stage| stage.players.values());
    let pids: BTreeSet<u32> = players().map(|player| player.actor.pid).collect();
    let ports: Vec<u16> = stages.iter().map(|stage| stage.story.port()).collect();
    // `of`: how many, and in each line by how many processes.
    let mut repeats: BTreeMap<u64, (u64, Vec<Option<u64>>)> = BTreeMap::new();
    // What is answered has been counted.
    let mut answered: BTreeSet<u64> = BTreeSet::new();
    for line in &log.lines {
        let is_told = match &line.body {
            Body::Recovered(recovered) => {
                answered.extend(&recovered.of);
                seen.contains(&line.seq)
            }
            Body::Refused(_)
            | Body::Fallback(_)
            | Body::Config(_)
            | Body::Failed(_)
            | Body::Listener(_)
            | Body::Status(_) => seen.contains(&line.seq),
            // Each listener was bound before.
            Body::Bind(bind) => {
                let is_of_the_cast = bind.process.pid.is_some_and(|pid| pids.contains(&pid));
                let is_plain = bind.errno.is_none() && ports.contains(&bind.port) && is_of_the_cast;
                is_plain || seen.contains(&line.seq)
            }
            Body::Repeated(repeated) => {
                let (count, processes) = repeats.entry(repeated.of).or_default();
                *count += repeated.count;
                processes.push(repeated.processes);
                let first = log.lines.iter().find(|line| line.seq == repeated.of).expect("what it repeats");
                first.time < repeated.first && !answered.contains(&repeated.of)
            }
            Body::Start(_) | Body::Ready(_) | Body::Alive(_) | Body::Lost(_) | Body::Stop(_) => true,
        };
        assert!(is_told, "the story does not tell {line:?}: {}", log.text());
    }

    let expected: BTreeMap<u64, (u64, u64)> = stages.iter().flat_map(|stage| stage.repeats.clone()).collect();
    let counts: Vec<(u64, u64)> = repeats.iter().map(|(of, (count, _))| (*of, *count)).collect();
    let expected_counts: Vec<(u64, u64)> = expected.iter().map(|(of, (count, _))| (*of, *count)).collect();
    assert_eq!(counts, expected_counts, "{}", log.text());
    for (of, (_, processes)) in &repeats {
        let wanted = expected[of].1;
        // A slow host tells the count of ten seconds before the rest.
        let is_right = match processes.as_slice() {
            [all] => *all == Some(wanted),
            several => several.iter().all(|one| one.is_some_and(|one| one <= wanted)),
        };
        assert!(is_right, "not by {wanted} processes: {}", log.text());
    }

    let mut by_cause: BTreeMap<Cause, u64> = BTreeMap::new();
    for (cause, count) in stages.iter().flat_map(|stage| &stage.by_cause) {
        *by_cause.entry(*cause).or_default() += count;
    }
    let stop = log.stop();
    assert_eq!(stop.by_cause, by_cause, "{}", log.text());
    assert_eq!(stop.refused, by_cause.values().sum::<u64>(), "{}", log.text());
    assert!(stages.iter().any(|stage| stage.has_unseen) || stop.failed.is_empty(), "{}", log.text());
}

fn errno_name(errno: Errno) -> &'static str {
    match errno {
        Errno::ADDRINUSE => "EADDRINUSE",
        Errno::ADDRNOTAVAIL => "EADDRNOTAVAIL",
        Errno::ACCESS => "EACCES",
        other => panic!("{other:?} has no name here"),
    }
}
