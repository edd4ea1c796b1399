//! Plays a scenario with real processes, sockets and namespaces, and asserts what the log reports: every field of
//! every line that the scenario lists, and that the log has no other line.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use tracer::output::schema::{
    Because, Body, Call, Cause, Change, EvaluatedListener, Line, Listener, Mismatch, Owner, OwnerState,
    Process, Refused, Role, Verdict,
};
use tracer::verdict::rules;

use super::scenario::{
    End, FailedBind, HOST, Holder, Kind, NamedProcess, Orders, Refusal, Scenario, Sockopt, Step, process,
};
use tests::fixture::{
    BACKLOG, By, CHANGING_US, Fixture, Socket, Spot, assert_sound, but_for_skips, carrier, wait_past,
};
use tests::limits;
use tests::netns::{self, Netns, Place};
use tests::poll;
use tests::port::Port;
use tests::process::{Actor, ProcessSpec};
use tests::tracer::Tracer;

/// Plays a scenario as written, and where it has both orders once more beside it, under the same tracer.
pub fn play(scenario: &'static Scenario) {
    let mut first = Stage::set(scenario);
    match scenario.orders {
        Orders::AsWritten => {
            first.play(scenario.steps.iter());
            end(&mut [first]);
        }
        Orders::Both => {
            let mut second = Stage::set(scenario);
            first.watched.push(second.fixture.port());
            first.play(scenario.steps.iter());
            second.fixture.tracer = first.fixture.tracer.take();
            second.seen = std::mem::take(&mut first.seen);
            second.play(scenario.steps.iter().filter(|step| !matches!(step, Step::Trace)));
            end(&mut [first, second]);
        }
    }
}

/// A namespace of the scenario, which exists as long as this.
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
    /// When it opened by the log, in microseconds; `None`: before the tracer, or on another port.
    opened: Option<u64>,
    /// It began to listen while it was traced.
    is_traced: bool,
    cookie: Option<u64>,
}

struct Staged {
    spec: NamedProcess,
    actor: Actor,
    spot: Spot,
    /// Its sockets, the last one last.
    held: Vec<Held>,
}

/// A `refused` line: what it was about, and who was counted into it.
struct Shown {
    seq: u64,
    mono_us: u64,
    spec: NamedProcess,
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
    scenario: &'static Scenario,
    /// The step that is played, for a test that fails.
    step: Option<&'static Step>,
    // The processes end before their namespaces.
    staged: BTreeMap<&'static str, Staged>,
    rooms: BTreeMap<&'static str, Room>,
    fixture: Fixture,
    other_port: Port,
    /// What the tracer is to watch.
    watched: Vec<u16>,
    /// Lines that the scenario has matched, by `seq`.
    seen: BTreeSet<u64>,
    shown: Vec<Shown>,
    waiting: BTreeMap<(u32, String), Waiting>,
    by_cause: HashMap<Cause, u64>,
    /// `of`, count and processes of the repeats to come.
    repeats: BTreeMap<u64, (u64, u64)>,
    /// A connect failed that this kernel does not show as refused.
    has_unseen: bool,
}

impl Drop for Stage {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}: in the step {:?}", self.scenario.name, self.step);
        }
    }
}

impl Stage {
    fn set(scenario: &'static Scenario) -> Self {
        let fixture = Fixture::begin();
        let host = Room { spot: Spot::from(&fixture.netns), netns: None, _keeper: None };
        let watched = vec![fixture.port()];
        Self {
            scenario,
            watched,
            step: None,
            staged: BTreeMap::new(),
            rooms: BTreeMap::from([(HOST, host)]),
            fixture,
            other_port: Port::take(),
            seen: BTreeSet::new(),
            shown: Vec::new(),
            waiting: BTreeMap::new(),
            by_cause: HashMap::new(),
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
                let netns = Netns::with_eth0();
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
                self.staged(who);
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
                let actor = &mut self.staged(who).actor;
                assert_eq!(actor.listen(BACKLOG), Err(errno.raw_os_error()), "listen of {who}");
                let addr = self.held(who).addr.clone();
                self.bind_line(who, Call::Listen, &addr, Some(errno));
            }
            Step::Unix(who, name) => {
                let name = self.text(name);
                self.must(who, &format!("unix {name}"));
            }
            Step::Settle(who) => {
                self.staged(who);
                std::thread::sleep(Self::SETTLED);
            }
            Step::Close(who) => {
                self.staged(who).actor.close();
                self.closed(who, OwnerState::Alive, None, None);
            }
            Step::Exit(who, code) => {
                let status = self.staged(who).actor.exit(code);
                assert_eq!(status.code(), Some(i32::from(code)));
                self.closed(who, OwnerState::Ended, Some(i32::from(code)), None);
            }
            Step::Kill(who) => {
                assert_eq!(self.staged(who).actor.kill().code(), None);
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
                let seq = self.reported(who, to).seq;
                self.repeats.insert(seq, (count, processes));
            }
        }
    }

    // The setting.

    fn trace(&mut self) {
        self.fixture.tracer = Some(Tracer::start(&self.watched, self.scenario.arguments));
        let present: Vec<&'static str> = self.staged.keys().copied().collect();
        for who in present {
            if self.staged[who].held.last().is_some_and(|held| held.is_listening) && self.is_watched(who) {
                let (_, _, line) = self.listener_line(who, Change::Present);
                assert_eq!(line.since, None, "it was there before the tracer: {line:?}");
            }
        }
    }

    fn pod(&mut self, name: &'static str) {
        let keeper = Actor::start(&Place::Unshared, &ProcessSpec::named("pause"));
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
        if name == HOST { &self.fixture.netns } else { room.netns.as_ref().expect("one with a name") }
    }

    // Names and addresses.

    /// Puts the scenario's own addresses, ports and processes into a text.
    fn text(&self, text: &str) -> String {
        let port = self.fixture.port();
        let [high, low] = port.to_be_bytes();
        let mut text = text
            .replace("10.x.y.", &format!("10.{high}.{low}."))
            .replace("100.64.x.y", &format!("100.64.{high}.{low}"))
            .replace("fd00:p::", &format!("fd00:{port:x}::"))
            .replace("{port}", &port.to_string())
            .replace("{other port}", &self.other_port.number.to_string());
        for (name, staged) in &self.staged {
            let pid = staged.actor.pid;
            text = text.replace(&format!("{{{name}}}"), &format!("{}[{pid}]", staged.spec.comm));
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
            (at, self.fixture.port())
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
        let is_host = self.staged[refusal.who].spec.netns == HOST;
        match dst.as_str() {
            _ if dst.starts_with("127.") => "127.0.0.1".to_owned(),
            "198.51.100.7" | "10.96.0.10" => "10.77.0.1".to_owned(),
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

    fn spec(&self, who: &'static str) -> NamedProcess {
        self.scenario.processes.iter().find(|spec| spec.name == who).copied().unwrap_or(process(who))
    }

    /// The process of this name, which starts when a step first names it.
    fn staged(&mut self, who: &'static str) -> &mut Staged {
        let spec = self.spec(who);
        let room = self.rooms.get(spec.netns).unwrap_or_else(|| panic!("no namespace `{}`", spec.netns));
        let spot = room.spot.clone();
        self.staged.entry(who).or_insert_with(|| {
            let process_spec = match spec.program {
                Some(program) => ProcessSpec::program(program).arguments(spec.arguments).renamed(spec.comm),
                None => ProcessSpec::named(spec.comm),
            };
            let process_spec = if spec.uid == 0 { process_spec } else { process_spec.uid(spec.uid) };
            let actor = Actor::start(&spot.place, &process_spec);
            Staged { spec, actor, spot, held: Vec::new() }
        })
    }

    fn ask(&mut self, who: &'static str, command: &str) -> Result<String, i32> {
        self.staged(who).actor.ask(command)
    }

    fn must(&mut self, who: &'static str, command: &str) -> String {
        self.staged(who).actor.must(command)
    }

    fn held(&self, who: &str) -> &Held {
        self.staged[who].held.last().unwrap_or_else(|| panic!("{who} has no socket"))
    }

    fn is_watched(&self, who: &str) -> bool {
        self.held(who).port == self.fixture.port()
    }

    fn assert_process(&self, process: &Process, who: &str, shown: &str) {
        let staged = &self.staged[who];
        assert_eq!(process.pid, Some(staged.actor.pid), "{who}: {shown}");
        assert_eq!(process.comm.as_deref(), Some(staged.spec.comm), "{who}: {shown}");
        assert_eq!(process.uid, Some(staged.spec.uid), "{who}: {shown}");
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
        let held =
            Held { addr, port, options, is_listening: false, opened: None, is_traced: false, cookie: None };
        self.staged(who).held.push(held);
    }

    /// Waits for the log's line about a call that was followed.
    fn bind_line(&mut self, who: &'static str, call: Call, at: &str, errno: Option<Errno>) {
        if self.fixture.tracer.is_none() {
            return;
        }
        let (addr, port) = self.split(at);
        let pid = self.staged[who].actor.pid;
        let (_, _, bind) = self.line(&format!("{call:?} of {who} to {at}"), |line| match &line.body {
            Body::Bind(bind) if bind.process.pid == Some(pid) && bind.call == call => Some(bind.clone()),
            _ => None,
        });
        let shown = format!("{bind:?}");
        let spot = &self.staged[who].spot;
        assert_eq!((bind.addr.as_str(), bind.port), (addr.trim_matches(['[', ']']), port), "{shown}");
        assert_eq!(bind.errno.as_deref(), errno.map(errno_name), "{shown}");
        assert_eq!((bind.netns.id, &bind.netns.name), (spot.id, &spot.name), "{shown}");
        self.assert_process(&bind.process, who, &shown);
    }

    fn listen(&mut self, who: &'static str) {
        let is_traced = self.fixture.tracer.is_some();
        let actor = &mut self.staged(who).actor;
        actor.listen(BACKLOG).unwrap_or_else(|errno| panic!("listen of {who}: errno {errno}"));
        let cookie = actor.cookie;
        let held = self.staged(who).held.last_mut().expect("a socket that is bound");
        // A multipath socket's cookie is not that of the TCP socket inside, which the log shows.
        held.cookie = cookie.filter(|_| !held.options.contains(&Sockopt::Multipath));
        held.is_listening = true;
        held.is_traced = is_traced;
        if self.fixture.tracer.is_some() && self.is_watched(who) {
            let (_, mono_us, listener) = self.listener_line(who, Change::Opened);
            assert!(listener.since.is_some(), "it was seen to open: {listener:?}");
            self.staged(who).held.last_mut().expect("bound").opened = Some(mono_us);
            wait_past(mono_us + CHANGING_US);
        }
    }

    /// Waits for the log's line about a change of this process's listener.
    fn listener_line(&mut self, who: &'static str, change: Change) -> (Option<Owner>, u64, Listener) {
        let pid = self.staged[who].actor.pid;
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

    fn assert_listener(&self, listener: &Listener, who: &str, shown: &str) {
        self.assert_socket(listener, self.held(who), who, shown);
    }

    fn assert_socket(&self, listener: &Listener, held: &Held, who: &str, shown: &str) {
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
            spot: &self.staged[who].spot,
            cookie: held.cookie,
        };
        socket.assert_is(listener);
        self.assert_process(&listener.process, who, shown);
    }

    /// The process has closed its socket, or ended with it.
    fn closed(&mut self, who: &'static str, state: OwnerState, code: Option<i32>, signal: Option<i32>) {
        let Some(held) = self.staged(who).held.last_mut() else { return };
        let was_listening = std::mem::take(&mut held.is_listening);
        if was_listening && self.fixture.tracer.is_some() && self.is_watched(who) {
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
        let table = format!("/proc/{}/net/{table}", self.staged[server].actor.pid);
        let local = format!(":{:04X}", self.fixture.port());
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
        // A process of the scenario that it did not need to name before: its start does not count as latency.
        self.staged(refusal.who);
        let began = Instant::now();
        let outcome = self.ask(refusal.who, &command);
        let took = began.elapsed();
        assert_eq!(outcome, Err(Errno::CONNREFUSED.raw_os_error()), "{} to {to}", refusal.who);
        let is_v6 = self.destination(to).contains(':');
        // ICMPv6 refuses the second SYN permanently, whether the process holds the socket or not (`tcp_v6_err`, net/ipv6/tcp_ipv6.c).
        if refusal.by == By::Icmp
            && refusal.kind == Kind::Nonblocking
            && !is_v6
            && limits::is_expected("no-icmp-refusals")
        {
            self.has_unseen = true;
            return;
        }
        self.refused_line(refusal, to, took);
    }

    /// Waits for the `refused` line of a connect, and asserts every field of it.
    fn refused_line(&mut self, refusal: &Refusal, to: &str, took: Duration) -> Shown {
        let (who, pid) = (refusal.who, self.staged[refusal.who].actor.pid);
        let (addr, port) = (self.destination(to), self.fixture.port());
        let (seq, mono_us, line) =
            self.line(&format!("the refusal of {who} to {to}"), |line| match &line.body {
                Body::Refused(refused) if refused.client.pid == Some(pid) && refused.dst.addr == addr => {
                    Some((**refused).clone())
                }
                _ => None,
            });
        let shown = serde_json::to_string(&line).expect("a line");
        let Refused { client, src, dst, netns, via, sent_by, latency_us, role, verdict } = line;
        let staged = &self.staged[who];
        // A client that holds a watched listener itself asks on behalf of its own clients.
        let serves = staged.held.iter().any(|held| held.is_listening);
        assert_eq!(role, if serves { Role::Upstream } else { Role::Client }, "{shown}");
        self.assert_process(&client, who, &shown);
        assert_eq!(client.ns_pid, Some(pid), "{shown}");
        assert_eq!(client.ppid, Some(std::process::id()), "{shown}");
        let exe = std::env::current_exe().expect("the path of this test binary");
        assert_eq!(client.exe.as_deref(), exe.to_str(), "{shown}");
        assert!(client.start_time.is_some(), "{shown}");
        assert_eq!(src.addr, self.source(refusal, to), "{shown}");
        assert!(src.port.is_some_and(|port| port != 0), "{shown}");
        assert_eq!((dst.addr.as_str(), dst.port), (addr.as_str(), Some(port)), "{shown}");
        assert_eq!((netns.id, &netns.name), (staged.spot.id, &staged.spot.name), "{shown}");
        assert_eq!((via, sent_by), refusal.by.seen(), "{shown}");
        assert!(u128::from(latency_us) <= took.as_micros(), "it took {took:?}: {shown}");
        self.assert_verdict(refusal, &verdict, &shown);

        *self.by_cause.entry(refusal.cause).or_default() += 1;
        let (spec, netns) = (staged.spec, staged.spot.id);
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
        self.shown.push(Shown { seq, mono_us, spec, netns, addr: addr.clone(), cause: refusal.cause });
        Shown { seq, mono_us, spec, netns, addr, cause: refusal.cause }
    }

    fn assert_verdict(&self, refusal: &Refusal, verdict: &Verdict, shown: &str) {
        let Verdict {
            cause,
            confidence: _,
            because,
            server: _,
            listeners,
            listeners_total,
            failed_binds,
            candidates,
            claims,
            summary,
            hint,
        } = verdict;
        let expected = self.because(refusal);
        assert_eq!((*cause, but_for_skips(because, &expected)), (refusal.cause, expected), "{shown}");
        assert_sound(verdict, shown);

        let covering = refusal.covered_by.iter().map(|who| (*who, None));
        let evaluated: Vec<_> =
            covering.chain(refusal.evaluates.iter().map(|(who, mismatch)| (*who, Some(*mismatch)))).collect();
        assert_eq!((listeners.len(), *listeners_total), (evaluated.len(), evaluated.len() as u64), "{shown}");
        for (EvaluatedListener { listener, mismatch }, (who, expected)) in listeners.iter().zip(evaluated) {
            assert_eq!(*mismatch, expected, "{who}: {shown}");
            // What has closed need not be what it has now.
            let is_it =
                |held: &&Held| mismatch.is_some_and(|why| why == Mismatch::Closed) != held.is_listening;
            let held = self.staged[who].held.iter().rfind(is_it).unwrap_or_else(|| panic!("{who}: {shown}"));
            self.assert_socket(listener, held, who, shown);
            // No line reports the opening of a port that is not watched, and its time is known.
            let is_seen =
                if *mismatch == Some(Mismatch::Port) { held.is_traced } else { held.opened.is_some() };
            assert_eq!(listener.since.is_some(), is_seen, "{who}: {shown}");
        }

        assert_eq!(failed_binds.len(), refusal.failed_binds.len(), "{shown}");
        for (failed, expected) in failed_binds.iter().zip(refusal.failed_binds) {
            let FailedBind { who, call, at, errno, times, held_by } = *expected;
            let (addr, port) = self.split(at);
            let spot = &self.staged[who].spot;
            assert_eq!((failed.call, failed.addr.as_str()), (call, addr.trim_matches(['[', ']'])), "{shown}");
            assert_eq!((failed.port, failed.netns.id), (port, spot.id), "{shown}");
            assert_eq!((failed.errno.as_str(), failed.times), (errno, times), "{shown}");
            self.assert_process(&failed.process, who, shown);
            self.assert_holders(&failed.held_by, held_by, shown);
        }

        assert_eq!(candidates.len(), refusal.candidates.len(), "{shown}");
        for (candidate, (who, end)) in candidates.iter().zip(refusal.candidates) {
            let (state, code, signal) = match *end {
                End::Alive => (OwnerState::Alive, None, None),
                End::Code(code) => (OwnerState::Ended, Some(code), None),
                End::Killed => (OwnerState::Ended, None, Some(libc::SIGKILL)),
            };
            self.assert_process(&candidate.process, who, shown);
            assert_eq!(candidate.state, Owner { state, code, signal }, "{shown}");
            assert!(candidate.age_us > 0, "{shown}");
            assert_eq!(candidate.ended.is_some(), state == OwnerState::Ended, "{shown}");
        }

        let is_named = matches!(refusal.cause, Cause::Starting | Cause::NeverListened);
        if let Some((who, _)) = refusal.candidates.first().filter(|_| is_named) {
            // The summary names how it is known.
            let how =
                if refusal.is_by_call { "which has asked for the port" } else { "by its name the server" };
            let how = self.text(&format!("{{{who}}}, {how}"));
            assert!(summary.contains(&how), "`{how}` is not shown: {shown}");
        }

        assert_eq!(*claims, [], "{shown}");
        for part in refusal.summary {
            let part = self.text(part);
            assert!(summary.contains(&part), "`{part}` is not shown: {shown}");
        }
        for part in refusal.never_shows {
            let part = self.text(part);
            let is_shown = summary.contains(&part) || hint.as_ref().is_some_and(|hint| hint.contains(&part));
            assert!(!is_shown, "`{part}` is shown: {shown}");
        }
        assert!(hint.is_some(), "there is always something to do: {shown}");
        for part in refusal.hints {
            let part = self.text(part);
            assert!(
                hint.as_deref().is_some_and(|hint| hint.contains(&part)),
                "`{part}` is not in the hint: {shown}"
            );
        }
    }

    /// What makes a verdict less than certain: what the scenario lists, and what this kernel does not show.
    /// Longer than a server must have run to be settled on the port that it listens on.
    const SETTLED: std::time::Duration = std::time::Duration::from_millis(5_200);

    fn because(&self, refusal: &Refusal) -> Vec<Because> {
        let mut because = refusal.because.to_vec();
        // No other scenario of these has a server that is known by more than its name, or that anything ties to the
        // destination.
        match refusal.cause {
            Cause::Starting | Cause::NeverListened if refusal.is_by_call => {}
            Cause::Starting | Cause::NeverListened => because.push(Because::ClaimOnly),
            Cause::OtherNetns => because.push(Because::UnverifiedServer),
            _ => {}
        }
        if rules::is_before(Cause::BoundNotListening.into(), refusal.cause.into())
            && limits::is_expected("bound-before-start")
        {
            because.push(Because::HookMissing);
        }
        // In the order of their declaration, which is that of a line.
        because.sort_unstable_by_key(|because| *because as u8);
        because
    }

    fn assert_holders(&self, held_by: &[tracer::output::schema::HeldBy], expected: &[Holder], shown: &str) {
        let is_listed = |holder: &&Holder| !matches!(holder, Holder::Bound(..)) || !held_by.is_empty();
        let expected: Vec<&Holder> = expected.iter().filter(is_listed).collect();
        assert_eq!(held_by.len(), expected.len(), "{shown}");
        for (holder, expected) in held_by.iter().zip(expected) {
            let (at, state, who) = match *expected {
                Holder::TimeWait(at) => (at, "TIME-WAIT", None),
                Holder::Listener(who, at) => (at, "LISTEN", Some(who)),
                Holder::Client(who, at) => (at, "ESTAB", Some(who)),
                Holder::Bound(who, at) => (at, "UNCONN", Some(who)),
            };
            let (addr, _) = self.split(at);
            assert_eq!(holder.addr, addr.trim_matches(['[', ']']), "{shown}");
            assert_eq!(holder.state, state, "{shown}");
            match who {
                Some(who) => self.assert_process(&holder.process, who, shown),
                None => assert_eq!(holder.process, Process::default(), "{shown}"),
            }
        }
    }

    /// The line that reports refusals like those of this client.
    fn reported(&mut self, who: &'static str, to: &str) -> &Shown {
        let addr = self.destination(to);
        let Staged { spec, spot, .. } = self.staged(who);
        let (spec, netns) = (*spec, spot.id);
        let shown = self.shown.iter().rev().find(|shown| {
            (shown.spec.comm, shown.spec.uid) == (spec.comm, spec.uid)
                && (shown.netns, &shown.addr) == (netns, &addr)
        });
        shown.unwrap_or_else(|| panic!("{who} was not refused at {to} before"))
    }

    fn again(&mut self, who: &'static str, to: &str, times: u32) {
        let command = format!("flood {} {times}", self.endpoint(to));
        let ports = self.must(who, &command);
        assert_eq!(ports.split(' ').count(), times as usize, "{who} at {to}");
        let pid = self.staged[who].actor.pid;
        let Shown { cause, netns, ref addr, .. } = *self.reported(who, to);
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
        let shown = format!("{line:?}");
        let key = (line.netns.id, addr);
        let waiting = self.waiting.remove(&key).unwrap_or_else(|| panic!("never refused: {shown}"));
        assert_eq!(line.of, waiting.of, "{shown}");
        assert_eq!(line.dst.port, Some(self.fixture.port()), "{shown}");
        assert_eq!((line.refusals, line.processes), (refusals, Some(processes)), "{shown}");
        // The scenario counts right, too.
        assert_eq!((refusals, processes), (waiting.refusals, waiting.pids.len() as u64), "{shown}");
        self.assert_listener(&line.listener, by, &shown);
        assert_eq!(Some(mono_us), self.held(by).opened, "{shown}");
        // Each of the three is cut to a microsecond.
        assert!(line.after_us.abs_diff(mono_us - waiting.first_us) <= 1, "{shown}");
    }

    fn fallback(&mut self, refusal: &Refusal, answered: &str) {
        let refused: Vec<String> = refusal.to.iter().map(|to| self.endpoint(to)).collect();
        let command = format!("reach {} {}", refused.join(" "), self.endpoint(answered));
        let began = Instant::now();
        self.must(refusal.who, &command);
        let took = began.elapsed();
        let shown: Vec<Shown> = refusal.to.iter().map(|to| self.refused_line(refusal, to, took)).collect();
        let (_, mono_us, line) = self.line("the fallback", |line| match &line.body {
            Body::Fallback(fallback) => Some(fallback.clone()),
            _ => None,
        });
        let first = shown.first().expect("a refusal");
        assert_eq!(line.of, Some(first.seq), "{line:?}");
        assert_eq!(line.dst.addr, self.destination(answered), "{line:?}");
        assert_eq!(line.dst.port, Some(self.fixture.port()), "{line:?}");
        assert!(line.after_us.abs_diff(mono_us - first.mono_us) <= 1, "{line:?}");
    }

    // The log.

    /// Waits for a line that the scenario has not matched yet: its `seq`, its time and its content.
    fn line<T>(&mut self, what: &str, mut find: impl FnMut(&Line) -> Option<T>) -> (u64, u64, T) {
        let seen = &self.seen;
        let tracer = self.fixture.tracer.as_mut().expect("a fixture that is traced");
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

/// Stops the tracer of these, the last of which has it: every line of its log was matched.
fn end(stages: &mut [Stage]) {
    let last = stages.last_mut().expect("a stage");
    let log = last.fixture.tracer.take().expect("a fixture that is traced").stop();
    let seen = std::mem::take(&mut last.seen);
    let staged = || stages.iter().flat_map(|stage| stage.staged.values());
    let pids: BTreeSet<u32> = staged().map(|staged| staged.actor.pid).collect();
    let ports: Vec<u16> = stages.iter().map(|stage| stage.fixture.port()).collect();
    // `of`: how many, and in each line by how many processes.
    let mut repeats: BTreeMap<u64, (u64, Vec<Option<u64>>)> = BTreeMap::new();
    // What is answered has been counted.
    let mut answered: BTreeSet<u64> = BTreeSet::new();
    for line in &log.lines {
        let is_listed = match &line.body {
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
                let is_of_scenario = bind.process.pid.is_some_and(|pid| pids.contains(&pid));
                let is_plain = bind.errno.is_none() && ports.contains(&bind.port) && is_of_scenario;
                is_plain || seen.contains(&line.seq)
            }
            Body::Repeated(repeated) => {
                let of = repeated.of.expect("what it repeats is remembered");
                let (count, processes) = repeats.entry(of).or_default();
                *count += repeated.count;
                processes.push(repeated.processes);
                let first = log.lines.iter().find(|line| line.seq == of).expect("what it repeats");
                first.time < repeated.first && !answered.contains(&of)
            }
            Body::Start(_) | Body::Ready(_) | Body::Alive(_) | Body::Lost(_) | Body::Stop(_) => true,
        };
        assert!(is_listed, "the scenario does not list {line:?}: {}", log.text());
    }

    let expected: BTreeMap<u64, (u64, u64)> = stages.iter().flat_map(|stage| stage.repeats.clone()).collect();
    let counts: Vec<(u64, u64)> = repeats.iter().map(|(of, (count, _))| (*of, *count)).collect();
    let expected_counts: Vec<(u64, u64)> = expected.iter().map(|(of, (count, _))| (*of, *count)).collect();
    assert_eq!(counts, expected_counts, "{}", log.text());
    for (of, (_, processes)) in &repeats {
        let wanted = expected[of].1;
        // On a slow host the count of ten seconds is reported before the rest.
        let is_right = match processes.as_slice() {
            [all] => *all == Some(wanted),
            several => several.iter().all(|one| one.is_some_and(|one| one <= wanted)),
        };
        assert!(is_right, "not by {wanted} processes: {}", log.text());
    }

    let mut by_cause: HashMap<Cause, u64> = HashMap::new();
    for (cause, count) in stages.iter().flat_map(|stage| &stage.by_cause) {
        *by_cause.entry(*cause).or_default() += count;
    }
    let stop = log.stop();
    assert_eq!(stop.by_cause.iter().collect::<HashMap<_, _>>(), by_cause, "{}", log.text());
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
