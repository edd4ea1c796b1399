//! A simulated host for tests of the pure core: what listens, what connects, and what the log reports.
//!
//! The host of every simulation has `lo`, `eth0` with 192.168.50.2 and 2001:db8::2, and `tailscale0` with
//! 100.101.102.103 in its own namespace; [`Simulation::netns`] adds others.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use tracer::lifecycle::core::{Core, Settings};
use tracer::lifecycle::finding::Finding;
use tracer::lifecycle::requests::Requests;
use tracer::model::clock::Clock;
use tracer::model::container::Container;
use tracer::model::errno::Errno;
use tracer::model::forward::{Forward, Target};
use tracer::model::kernel_event::{
    Bound, Closed, ClosedElsewhere, Closer, Connected, Destroyed, Executed, ExecutedProgram, Exited, Failed,
    Forked, IcmpSender, KernelEvent, Listened, Lost, LostWhere, Opened, Reached, Refused, Role, SentBy,
    Shutdown, Via,
};
use tracer::model::namespace::{Link, LocalRoute, Namespace};
use tracer::model::ports::Ports;
use tracer::model::process::{Arguments, ExitStatus, Process};
use tracer::model::socket::{Holder, Listener, NetnsId, SocketKey, TcpState};
use tracer::model::time::{Interval, Mono, StartTime, WallTime};
use tracer::model::unit::Unit;
use tracer::output::bodies;
use tracer::output::lines::Lines;
use tracer::output::schema::{Body, Cause, Hook, Line, Netns, Start, StopReason, Verdict};
use tracer::output::status::Reader;
use tracer::products::openclaw::OpenClaw;
use tracer::products::{ConfigFile, ProductRef, ServerSettings};
use tracer::query::{
    Answer, Candidate, ConfigChanged, FileChange, FileId, Forwarder, LocalEndpoint, LocalSocket, Observation,
    Query, QueryKind, Scan, ScanScope, SettingsRead, Unreadable,
};

/// The tracer's own namespace.
pub const HOST: u32 = 4_026_531_840;

/// The configuration file of every simulation.
pub const CONFIG: &str = "/home/ann/.openclaw/openclaw.json";

/// 2026-11-22 10:41:02 UTC at 100 s after boot.
pub const CLOCK: Clock =
    Clock { realtime_offset: 1_795_344_062_000_000_000 - 100_000_000_000, boottime_offset: 0 };

/// What listens, or listened.
#[derive(Clone, Debug)]
pub struct Server {
    pub listener: Listener,
    /// `None`: as each simulation's namespaces have it.
    netns_cookie: Option<u64>,
}

/// A server that listens on `ADDR:PORT`.
pub fn server(at: &str) -> Server {
    let at: SocketAddr = at.parse().unwrap();
    let inode = u64::from(at.port()) << 32 | at.ip().to_string().bytes().map(u64::from).sum::<u64>();
    Server {
        listener: Listener {
            key: SocketKey { inode, cookie: inode },
            netns: NetnsId(HOST),
            addr: at.ip(),
            port: at.port(),
            v6only: at.ip().is_ipv6().then_some(false),
            device: None,
            backlog: Some(511),
            since: None,
            process: process("openclaw-gatewa", 4242),
            opener: None,
        },
        netns_cookie: None,
    }
}

impl Server {
    pub fn by(mut self, comm: &str, pid: u32) -> Self {
        self.listener.process = process(comm, pid);
        self.listener.key.inode += u64::from(pid) << 16;
        self.listener.key.cookie = self.listener.key.inode;
        self
    }

    /// By a process of this user.
    pub fn of_user(mut self, uid: u32) -> Self {
        self.listener.process.uid = Some(uid);
        self
    }

    /// By a process in this unit.
    pub fn in_that_unit(mut self, unit: Unit) -> Self {
        self.listener.process.unit = Some(unit);
        self
    }

    /// In a unit of the system's manager.
    pub fn in_unit(mut self, name: &str) -> Self {
        self.listener.process.unit = Some(Unit { name: name.to_owned(), user: None });
        self
    }

    /// By a process that was started with these arguments.
    pub fn with_arguments(mut self, arguments: &[&str]) -> Self {
        self.listener.process.arguments = Some(arguments_of(arguments));
        self
    }

    pub fn v6only(mut self) -> Self {
        self.listener.v6only = Some(true);
        self
    }

    pub fn bound_to(mut self, device: u32) -> Self {
        self.listener.device = Some(device);
        self
    }

    pub fn in_netns(mut self, netns: u32) -> Self {
        self.listener.netns = NetnsId(netns);
        self
    }

    /// In the namespace with this cookie.
    pub fn in_netns_with(mut self, cookie: u64) -> Self {
        self.netns_cookie = Some(cookie);
        self
    }
}

fn arguments_of(arguments: &[&str]) -> Arguments {
    let words: Vec<&[u8]> = ["program"].iter().chain(arguments).map(|word| word.as_bytes()).collect();
    Arguments::of(&words)
}

/// A process.
pub fn process(comm: &str, pid: u32) -> Process {
    Process {
        pid: Some(pid),
        ns_pid: Some(pid),
        ppid: Some(1),
        uid: Some(1000),
        uid_at_exec: None,
        comm: Some(comm.into()),
        exe: Some(format!("/usr/bin/{comm}").as_str().into()),
        script: None,
        arguments: None,
        start: Some(StartTime::from_boottime(50_000_000_000)),
        container: None,
        unit: None,
    }
}

/// A connect that is refused.
#[derive(Clone, Debug)]
pub struct Connect(Refused);

/// `curl[5511]` connects to `ADDR:PORT` and is refused 200 microseconds later, by a reset that the TCP stack
/// sent.
pub fn connect(to: &str) -> Connect {
    let to: SocketAddr = to.parse().unwrap();
    Connect(Refused {
        time: Mono(200_000),
        started: Mono(0),
        netns: NetnsId(HOST),
        netns_cookie: u64::from(HOST),
        client: process("curl", 5511),
        cgroup: 1,
        src: if to.is_ipv4() { "127.0.0.1".parse().unwrap() } else { "::1".parse().unwrap() },
        src_port: Some(40_000),
        dst: to.ip(),
        dst_port: to.port(),
        device: None,
        via: Via::Rst,
        sent_by: Some(SentBy::Tcp),
        icmp: None,
        role: Role::Client,
    })
}

impl Connect {
    pub fn by(mut self, comm: &str, pid: u32) -> Self {
        self.0.client = process(comm, pid);
        self
    }

    /// By a process of this user.
    pub fn of_user(mut self, uid: u32) -> Self {
        self.0.client.uid = Some(uid);
        self
    }

    pub fn in_netns(mut self, netns: u32) -> Self {
        self.0.netns = NetnsId(netns);
        self.0.netns_cookie = u64::from(netns);
        self
    }

    /// In the namespace with this cookie.
    pub fn in_netns_with(mut self, cookie: u64) -> Self {
        self.0.netns_cookie = cookie;
        self
    }

    pub fn bound_to(mut self, device: u32) -> Self {
        self.0.device = Some(device);
        self
    }

    /// By a process that holds a listener on a watched port.
    pub fn upstream(mut self) -> Self {
        self.0.role = Role::Upstream;
        self
    }

    /// By a fork of a process.
    pub fn child_of(mut self, parent: u32) -> Self {
        self.0.client.ppid = Some(parent);
        self
    }

    pub fn sent_by(mut self, sent_by: Option<SentBy>) -> Self {
        self.0.sent_by = sent_by;
        self
    }

    pub fn in_container(mut self, container: Container) -> Self {
        self.0.client.container = Some(container);
        self
    }

    pub fn by_icmp(mut self) -> Self {
        self.0.via = Via::Icmp;
        self.0.sent_by = None;
        self
    }

    /// By an ICMP message from there, which came in by this interface of the client's namespace.
    pub fn by_icmp_from(mut self, addr: &str, device: u32) -> Self {
        self.0.icmp = Some(IcmpSender { addr: addr.parse().unwrap(), device });
        self.by_icmp()
    }
}

/// How a listener closes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Close {
    /// Its owner closes it and is still running.
    Owner,
    /// execve() of its program, before that runs.
    Exec,
    /// Its owner ends.
    End(ExitStatus),
    /// Its owner calls `shutdown()`, and keeps the socket.
    Shutdown,
    /// Its `listen()` has failed.
    Failure,
    /// The kernel closes it, for a process that had let go of it.
    Kernel,
    /// Another process closes it, `ss -K`.
    Force,
}

/// One scenario.
pub struct Simulation {
    core: Core,
    lines: Lines,
    now: Mono,
    namespaces: Vec<Namespace>,
    present: Vec<Listener>,
    unreadable: Vec<Unreadable>,
    /// The last state of the host: what its answers hold.
    scanned: Vec<Namespace>,
    other_ports: Vec<Listener>,
    /// When those without a time were open at the latest.
    dated_since: Option<Mono>,
    local_sockets: Vec<LocalSocket>,
    forwarders: Vec<Forwarder>,
    /// Whether the host does not answer which sockets hold a port.
    is_silent_about_holders: bool,
    /// Listeners that a dump of their namespace lists, besides those that are known as open.
    listed: Vec<Listener>,
    /// Listeners that have ended, and whose end nothing has shown.
    unlisted: Vec<SocketKey>,
    /// The host answers nothing about all namespaces.
    is_silent: bool,
    /// The host does not answer whether a name still names its namespace.
    is_silent_about_names: bool,
    /// What was asked while the host gave no answers.
    held_back: Option<Vec<Query>>,
    settings: Option<SettingsRead>,
    writer: Option<Process>,
    followed: Vec<u32>,
    unfollowed: Vec<u32>,
    /// The log, in order.
    pub log: Vec<Line>,
}

/// A core, and the first line of its log.
fn begin(settings: Settings) -> (Core, Lines, Vec<Line>) {
    let core = Core::without_scan(settings);
    let mut lines = Lines::new(uuid::Uuid::from_u128(0x1234_5678_9abc_4def_8123_4567_89ab_cdef), CLOCK);
    let start = Start {
        version: "0.1.0".into(),
        pid: 4711,
        host: "web-3".into(),
        kernel: "6.1.0-31".into(),
        arch: "x86_64".into(),
        boot_id: None,
        ports: vec![18_789],
        own_netns: Netns { id: HOST, name: None },
        netns: None,
        hooks: vec![Hook { name: "inet_sock_set_state".into(), kind: "tp_btf".into() }],
        limits: Vec::new(),
    };
    let start = lines.line(Mono::from_millis(99_950), Body::Start(start));
    (core, lines, vec![start])
}

pub fn simulation() -> Simulation {
    let (core, lines, log) = begin(Settings::default());
    Simulation {
        core,
        lines,
        now: Mono::from_millis(100_000),
        namespaces: vec![namespace(HOST, None, &["192.168.50.2", "2001:db8::2"], &["100.101.102.103"])],
        present: Vec::new(),
        unreadable: Vec::new(),
        scanned: Vec::new(),
        other_ports: Vec::new(),
        dated_since: Some(Mono(0)),
        local_sockets: Vec::new(),
        forwarders: Vec::new(),
        is_silent_about_holders: false,
        listed: Vec::new(),
        unlisted: Vec::new(),
        is_silent: false,
        is_silent_about_names: false,
        held_back: None,
        settings: None,
        writer: None,
        followed: Vec::new(),
        unfollowed: Vec::new(),
        log,
    }
}

/// A namespace with `lo` (1), `eth0` (2), `tailscale0` (3), and `red` (4), a VRF without addresses.
pub fn namespace(id: u32, name: Option<&str>, eth0: &[&str], tailscale0: &[&str]) -> Namespace {
    let link = |index, name: &str, vrf_table| Link {
        index,
        name: name.to_owned(),
        master: None,
        vrf_table,
        peer: None,
    };
    let route = |addr: &str, device| {
        let addr: IpAddr = addr.parse().unwrap();
        LocalRoute { addr, prefix_len: if addr.is_ipv4() { 32 } else { 128 }, device, table: 255 }
    };
    let mut local = vec![
        LocalRoute { addr: "127.0.0.0".parse().unwrap(), prefix_len: 8, device: 1, table: 255 },
        route("127.0.0.1", 1),
        route("::1", 1),
        route("fe80::1", 2),
    ];
    local.extend(eth0.iter().map(|addr| route(addr, 2)));
    local.extend(tailscale0.iter().map(|addr| route(addr, 3)));
    Namespace {
        id: NetnsId(id),
        cookie: u64::from(id),
        name: name.map(str::to_owned),
        is_own: id == HOST,
        links: vec![
            link(1, "lo", None),
            link(2, "eth0", None),
            link(3, "tailscale0", None),
            link(4, "red", Some(10)),
        ],
        local,
        l3mdev_accept: Some(false),
    }
}

/// One end of a veth pair whose other end is in another namespace.
pub fn veth(index: u32, peer: u32) -> Link {
    Link { index, name: format!("veth{index}"), master: None, vrf_table: None, peer: Some(peer) }
}

/// Gives a namespace a bridge with these ports, and an address on it.
pub fn bridge(namespace: &mut Namespace, index: u32, addr: &str, ports: &[Link]) {
    let name = format!("br{index}");
    namespace.links.push(Link { index, name, master: None, vrf_table: None, peer: None });
    let ports = ports.iter().map(|port| Link { master: Some(index), ..port.clone() });
    namespace.links.extend(ports);
    let addr: IpAddr = addr.parse().unwrap();
    let prefix_len = if addr.is_ipv4() { 32 } else { 128 };
    namespace.local.push(LocalRoute { addr, prefix_len, device: index, table: 255 });
}

impl Simulation {
    /// Another namespace of the host.
    pub fn netns(mut self, netns: Namespace) -> Self {
        self.namespaces.push(netns);
        self
    }

    /// A namespace has ended.
    pub fn no_netns(mut self, id: u32) -> Self {
        self.namespaces.retain(|netns| netns.id != NetnsId(id));
        self
    }

    /// The first namespace, changed.
    pub fn host(mut self, change: impl FnOnce(&mut Namespace)) -> Self {
        change(&mut self.namespaces[0]);
        self
    }

    /// A namespace that cannot be read.
    pub fn unreadable(mut self, netns: u32) -> Self {
        self.unreadable.push(Unreadable { id: NetnsId(netns), why: "no way in".into() });
        self
    }

    /// The next scan finds no listener.
    pub fn nothing_present(mut self) -> Self {
        self.present.clear();
        self
    }

    /// A listener from before the tracer.
    pub fn present(mut self, server: &Server) -> Self {
        self.present.push(server.listener.clone());
        self
    }

    fn scan(&mut self) {
        self.scanned = self.namespaces.clone();
        self.is_silent = false;
        let scan = Scan {
            scope: ScanScope::Host { is_partial: false },
            namespaces: self.namespaces.clone(),
            listeners: self.present.clone(),
            unreadable: self.unreadable.clone(),
        };
        self.answer(QueryKind::Host, Some(Observation::Scan(scan)));
    }

    /// tracer is ready.
    pub fn ready(mut self) -> Self {
        self.scan();
        self.core.state.health.ready = true;
        let ready = self.lines.ready(&self.core.state, None, &[18_789]);
        let line = self.lines.line(self.now, Body::Ready(ready));
        self.log.push(line);
        self
    }

    /// The host is scanned again, and has what `present` gave, and no more.
    pub fn scan_again(mut self) -> Self {
        self.scan();
        self
    }

    /// Time passes.
    pub fn after_millis(mut self, millis: u64) -> Self {
        self.now = self.now.plus_millis(millis);
        self.settle(self.now);
        self
    }

    /// Takes an event, and answers what is asked for it.
    fn apply(&mut self, event: KernelEvent) {
        let now = event.time().unwrap_or(self.now).max(self.now);
        let findings = self.core.event(event, now);
        self.log_all(findings);
        self.settle(now);
    }

    /// Takes an answer to a question that the test asks in the core's place.
    fn answer(&mut self, kind: QueryKind, result: Option<Observation>) {
        let id = self.core.ask(kind, self.now);
        self.take_queries();
        let findings = self.core.advance(self.now, self.now);
        self.log_all(findings);
        let findings = self.core.answer(Answer { id, interval: self.interval(), result }, self.now);
        self.log_all(findings);
        self.settle(self.now);
    }

    /// The queries of the core. What it requests of the kernel side is kept for the test.
    fn take_queries(&mut self) -> Vec<Query> {
        let Requests { queries, unfollow, holders, port_changes: _, follow: _, watch_names: _ } =
            self.core.take_requests();
        self.followed.extend(holders.into_iter().map(|(pid, _)| pid));
        self.unfollowed.extend(unfollow);
        queries
    }

    /// Answers what the core asks, until it asks no more.
    fn settle(&mut self, now: Mono) {
        let findings = self.core.advance(self.now, now);
        self.log_all(findings);
        for _ in 0..16 {
            let queries = self.take_queries();
            if let Some(held_back) = &mut self.held_back {
                held_back.extend(queries);
                break;
            }
            for query in &queries {
                let Some(result) = self.result_of(query) else { continue };
                let answer = Answer { id: query.id, interval: self.interval(), result };
                let findings = self.core.answer(answer, now);
                self.log_all(findings);
            }
            if queries.is_empty() {
                break;
            }
        }
    }

    /// The listeners in the kernel's table: those that are known as open, but for what has ended unseen.
    fn hashed(&self) -> impl Iterator<Item = &Listener> {
        let state = &self.core.state;
        state.listeners.open().filter(|open| {
            !state.openings.is_pending(open.netns, open.key) && !self.unlisted.contains(&open.key)
        })
    }

    /// What the simulated host answers; `None`: nothing.
    fn result_of(&self, query: &Query) -> Option<Option<Observation>> {
        let of = |netns: NetnsId| self.scanned.iter().find(|namespace| namespace.id == netns).cloned();
        let scan = |scope, namespaces: Vec<Namespace>, listeners, unreadable| {
            Some(Observation::Scan(Scan { scope, namespaces, listeners, unreadable }))
        };
        Some(match &query.kind {
            QueryKind::Named { .. } if self.is_silent_about_names => return None,
            QueryKind::Host if self.is_silent && self.core.state.health.lost => return None,
            QueryKind::Host => {
                let open = self.hashed().cloned().collect();
                let scope = ScanScope::Host { is_partial: false };
                scan(scope, self.scanned.clone(), open, self.unreadable.clone())
            }
            QueryKind::Port { port } => {
                let on_port = self.other_ports.iter().filter(|listener| listener.port == *port);
                let listeners = on_port.map(|one| Listener { since: None, ..one.clone() }).collect();
                scan(ScanScope::Port(*port), self.scanned.clone(), listeners, Vec::new())
            }
            QueryKind::Namespace { netns, .. } => {
                let unreadable = of(*netns).is_none().then(|| Unreadable { id: *netns, why: "ended".into() });
                let namespaces = of(*netns).into_iter().collect();
                let listed = self.listed.iter().chain(self.hashed());
                let listed = listed.filter(|listener| listener.netns == *netns).cloned().collect();
                scan(ScanScope::Namespace(*netns), namespaces, listed, unreadable.into_iter().collect())
            }
            QueryKind::Owners { netns, .. } => {
                Some(Observation::Owners { netns: *netns, owners: Vec::new() })
            }
            QueryKind::Holders { .. } if self.is_silent_about_holders => None,
            QueryKind::Holders { netns, port } if *port != 18_789 => {
                let is_asked = |one: &&Listener| one.netns == *netns && one.port == *port;
                let listening = self.other_ports.iter().filter(is_asked);
                let holder = |socket: &Listener| Holder { socket: socket.clone(), state: TcpState::Listen };
                let sockets = listening.map(holder).collect();
                Some(Observation::Holders { netns: *netns, port: *port, sockets })
            }
            QueryKind::Holders { netns, port } => {
                let sockets = self.core.state.binds.holders(*netns, *port).unwrap_or_default().to_vec();
                Some(Observation::Holders { netns: *netns, port: *port, sockets })
            }
            QueryKind::OtherPorts { netns } => Some(self.other_ports_of(*netns)),
            QueryKind::LocalSockets { netns, pids } => {
                let is_asked = |socket: &&LocalSocket| pids.contains(&socket.pid);
                let sockets = self.local_sockets.iter().filter(is_asked).cloned().collect();
                Some(Observation::LocalSockets { netns: *netns, pids: pids.clone(), sockets })
            }
            QueryKind::Candidates => Some(Observation::Candidates { found: Vec::new(), is_complete: false }),
            QueryKind::Settings { pid } => {
                let known = self.settings.clone().filter(|settings| settings.pid == *pid);
                known.map(Observation::Settings)
            }
            QueryKind::Writer { .. } => Some(Observation::Writer(self.writer.clone())),
            QueryKind::Named { netns, name } => {
                let is_named =
                    |namespace: &Namespace| namespace.id == *netns && namespace.name.as_ref() == Some(name);
                Some(Observation::Named(self.namespaces.iter().any(is_named)))
            }
            QueryKind::Forwarders { netns, port } => {
                let is_asked = |one: &&Forwarder| {
                    one.listener.netns == *netns
                        && one.forward.target_port == *port
                        && one.since.is_none_or(|since| since <= self.now)
                };
                let found = self.forwarders.iter().filter(is_asked).cloned().collect();
                Some(Observation::Forwarders { netns: *netns, port: *port, found })
            }
            QueryKind::Candidate { .. } | QueryKind::Process(_) => None,
        })
    }

    fn log_all(&mut self, findings: Vec<Finding>) {
        for finding in findings {
            let line = self.lines.finding(finding, &self.core.state);
            self.log.push(line);
        }
    }

    /// A query of the host that takes no time.
    fn interval(&self) -> Interval {
        Interval { began: self.now, ended: self.now }
    }

    /// A `listen()` that succeeds.
    pub fn open(self, server: &Server) -> Self {
        self.begin_listen(server, Some(false)).end_listen(server, true)
    }

    /// A `listen()` begins, of a socket that was in the table of listeners before, or not; `None`: unknown.
    pub fn begin_listen(mut self, server: &Server, was_hashed: Option<bool>) -> Self {
        let listener = Listener { since: Some(self.now), ..server.listener.clone() };
        let netns_cookie = server.netns_cookie.unwrap_or(u64::from(listener.netns.0));
        let tid = listener.process.pid.unwrap_or_default();
        self.apply(KernelEvent::Opened(Box::new(Opened {
            time: self.now,
            listener,
            tid,
            netns_cookie,
            was_hashed,
        })));
        self
    }

    /// A `listen()` returns.
    pub fn end_listen(mut self, server: &Server, has_succeeded: bool) -> Self {
        let Listener { key, netns, .. } = server.listener;
        let netns_cookie = server.netns_cookie.unwrap_or(u64::from(netns.0));
        let time = self.now;
        self.apply(KernelEvent::Listened(Listened { time, key, netns, netns_cookie, has_succeeded }));
        self
    }

    /// From now on a dump lists it.
    pub fn list(mut self, server: &Server) -> Self {
        self.listed.push(server.listener.clone());
        self
    }

    /// The end of a listener that nothing shows.
    pub fn vanish(mut self, server: &Server) -> Self {
        self.unlisted.push(server.listener.key);
        self
    }

    /// The end of a listener.
    pub fn close(mut self, server: &Server, how: Close) -> Self {
        let mut listener = server.listener.clone();
        let netns_cookie = u64::from(listener.netns.0);
        let tid = listener.process.pid.unwrap_or_default();
        let (shutdown, closer) = match how {
            Close::Owner => (Shutdown::Both, Closer::Process),
            Close::Exec => (Shutdown::Both, Closer::Exec),
            Close::End(status) => (Shutdown::Both, Closer::Ending(status)),
            Close::Shutdown | Close::Failure => (Shutdown::None, Closer::Process),
            Close::Force => {
                listener.process = process("ss", 9000);
                (Shutdown::None, Closer::Process)
            }
            Close::Kernel => {
                listener.process = process("kworker/1:3", 300);
                (Shutdown::Both, Closer::Kernel)
            }
        };
        let was_hashed = Some(how != Close::Failure);
        self.apply(KernelEvent::Closed(Box::new(Closed {
            time: self.now,
            listener,
            tid,
            shutdown,
            closer,
            netns_cookie,
            was_hashed,
        })));
        self
    }

    /// A `bind()`, and what came of it.
    pub fn bind(mut self, server: &Server, errno: Option<Errno>) -> Self {
        let socket = server.listener.clone();
        let netns_cookie = u64::from(socket.netns.0);
        self.apply(KernelEvent::Bound(Box::new(Bound {
            time: self.now,
            socket,
            netns_cookie,
            errno,
            is_followed: errno.is_none(),
            sock: server.listener.key.inode,
        })));
        self
    }

    /// A bound socket is closed.
    pub fn destroy(mut self, server: &Server) -> Self {
        let sock = server.listener.key.inode;
        self.apply(KernelEvent::Destroyed(Destroyed { time: self.now, sock, is_client: false }));
        self
    }

    /// A bound socket turns out to be a client's: it connects.
    pub fn becomes_client(mut self, server: &Server) -> Self {
        let sock = server.listener.key.inode;
        self.apply(KernelEvent::Destroyed(Destroyed { time: self.now, sock, is_client: true }));
        self
    }

    /// A process that may be the server starts.
    pub fn start(self, comm: &str, pid: u32) -> Self {
        self.start_as(comm, pid, Some(ProductRef::new(&OpenClaw)))
    }

    /// The same in another namespace.
    pub fn start_in(mut self, netns: u32, comm: &str, pid: u32) -> Self {
        let candidate = self.candidate(netns, comm, pid, Some(ProductRef::new(&OpenClaw)));
        self.answer(QueryKind::Candidate { pid }, Some(Observation::Candidate(Some(candidate))));
        self
    }

    /// The same of a product; `None`: by the user's own pattern.
    pub fn start_as(mut self, comm: &str, pid: u32, product: Option<ProductRef>) -> Self {
        let candidate = self.candidate(HOST, comm, pid, product);
        self.answer(QueryKind::Candidate { pid }, Some(Observation::Candidate(Some(candidate))));
        self
    }

    /// An instance of this server starts, whose name is none that is known.
    pub fn start_instance(mut self, server: &Server) -> Self {
        let Listener { netns, process, .. } = server.listener.clone();
        let pid = process.pid.expect("a process id");
        let (time, since) = (self.now, self.now);
        let found = Candidate { time, since, netns, process, product: None, port: None, is_named: false };
        self.answer(QueryKind::Candidate { pid }, Some(Observation::Candidate(Some(found))));
        self
    }

    /// A search finds a process, by what was read that many milliseconds ago.
    pub fn finds_from_before(mut self, comm: &str, pid: u32, millis: u64) -> Self {
        let time = Mono(self.now.0 - millis * 1_000_000);
        let product = Some(ProductRef::new(&OpenClaw));
        let found = Candidate { time, since: time, ..self.candidate(HOST, comm, pid, product) };
        self.answer(QueryKind::Candidate { pid }, Some(Observation::Candidate(Some(found))));
        self
    }

    /// The same in a systemd unit.
    pub fn start_in_unit(mut self, comm: &str, pid: u32, unit: Unit) -> Self {
        let mut candidate = self.candidate(HOST, comm, pid, Some(ProductRef::new(&OpenClaw)));
        candidate.process.unit = Some(unit);
        self.answer(QueryKind::Candidate { pid }, Some(Observation::Candidate(Some(candidate))));
        self
    }

    fn candidate(&self, netns: u32, comm: &str, pid: u32, product: Option<ProductRef>) -> Candidate {
        let (time, since, netns) = (self.now, self.now, NetnsId(netns));
        Candidate { time, since, netns, process: process(comm, pid), product, port: None, is_named: true }
    }

    /// A search of every process finds these that may be the server, and no others.
    pub fn finds_servers(mut self, servers: &[(&str, u32)]) -> Self {
        let product = Some(ProductRef::new(&OpenClaw));
        let found = servers.iter().map(|(comm, pid)| self.candidate(HOST, comm, *pid, product)).collect();
        self.answer(QueryKind::Candidates, Some(Observation::Candidates { found, is_complete: true }));
        self
    }

    /// What is configured for a process: its arguments, and a file that was written as many milliseconds after boot.
    pub fn configure(self, pid: u32, arguments: &[&str], file: Option<(&str, u64)>) -> Self {
        let settings = settings(ProductRef::new(&OpenClaw), pid, arguments, file);
        self.configured(settings)
    }

    /// The same of another product.
    pub fn configure_as(self, product: ProductRef, pid: u32, file: Option<(&str, u64)>) -> Self {
        let settings = settings(product, pid, &[], file);
        self.configured(settings)
    }

    fn configured(mut self, read: SettingsRead) -> Self {
        self.answer(QueryKind::Settings { pid: read.pid }, Some(Observation::Settings(read)));
        self
    }

    /// A query of a process that has ended.
    pub fn settings_unreadable(self, pid: u32) -> Self {
        self.configured(SettingsRead { pid, started: None, settings: None, file: None })
    }

    /// A query of a process that has become another program, which is not a server that is known.
    pub fn becomes_another_program(self, pid: u32) -> Self {
        let started = process("", pid).start;
        self.configured(SettingsRead { pid, started, settings: None, file: None })
    }

    /// The file of a process is replaced.
    pub fn replace(mut self, pid: u32, file: &str, by: Process) -> Self {
        let at = self.now.0 / 1_000_000;
        self.settings = Some(settings(ProductRef::new(&OpenClaw), pid, &[], Some((file, at))));
        let writer = by.pid;
        self.writer = Some(by);
        let changed = ConfigChanged {
            time: self.now,
            file: FileId(1),
            path: PathBuf::from(CONFIG),
            change: FileChange::Replaced,
            writer,
            users: vec![pid],
        };
        self.core.config_changed(changed, self.now);
        self.settle(self.now);
        self.settings = None;
        self
    }

    /// A process executes a program.
    pub fn execute(self, comm: &str, pid: u32) -> Self {
        self.execute_as(comm, pid, 1000)
    }

    /// The same as this user.
    pub fn execute_as(mut self, comm: &str, pid: u32, uid: u32) -> Self {
        let program = ExecutedProgram {
            netns: NetnsId(HOST),
            netns_cookie: u64::from(HOST),
            file_name: comm.into(),
            arguments: Some(format!("{comm}\0").as_str().into()),
            is_cut: false,
        };
        let process = Process { exe: None, uid: Some(uid), ..process(comm, pid) };
        self.apply(KernelEvent::Executed(Box::new(Executed {
            time: self.now,
            process,
            program: Some(program),
        })));
        self
    }

    /// A process forks.
    pub fn fork(mut self, comm: &str, parent: u32, child: u32) -> Self {
        let child = Process { ppid: Some(parent), exe: None, ..process(comm, child) };
        self.apply(KernelEvent::Forked(Forked { time: self.now, parent: Some(parent), child }));
        self
    }

    /// A query of the owners finds that a process holds a listener.
    pub fn holds(mut self, server: &Server, comm: &str, pid: u32) -> Self {
        let Listener { netns, key, .. } = server.listener;
        let owners = vec![(key.inode, process(comm, pid))];
        self.answer(QueryKind::Owners { netns, known: None }, Some(Observation::Owners { netns, owners }));
        self
    }

    /// A process ends.
    pub fn exit(mut self, pid: u32, status: ExitStatus) -> Self {
        self.apply(KernelEvent::Exited(Exited { time: self.now, pid, status }));
        self
    }

    /// What servers listen on besides the watched port: from now on, unless they did before.
    pub fn elsewhere(mut self, servers: &[&Server]) -> Self {
        self = self.finds_elsewhere(servers);
        let netns = NetnsId(HOST);
        let found = self.other_ports_of(netns);
        self.answer(QueryKind::OtherPorts { netns }, Some(found));
        self
    }

    /// The same, found by the next query of it.
    pub fn finds_elsewhere(mut self, servers: &[&Server]) -> Self {
        let before = std::mem::take(&mut self.other_ports);
        let since = |one: &Listener| {
            before.iter().find(|other| other.key == one.key).map_or(Some(self.now), |other| other.since)
        };
        self.other_ports = servers
            .iter()
            .map(|server| &server.listener)
            .map(|one| Listener { since: since(one), ..one.clone() })
            .collect();
        self
    }

    /// A followed process listens on a port that is not watched, and is seen to.
    pub fn opens_elsewhere(mut self, server: &Server) -> Self {
        let listener = Listener { since: Some(self.now), ..server.listener.clone() };
        let (tid, time) = (listener.process.pid.unwrap_or_default(), self.now);
        let netns_cookie = u64::from(listener.netns.0);
        self.other_ports.push(listener.clone());
        let opened = Opened { time, listener, tid, netns_cookie, was_hashed: None };
        self.apply(KernelEvent::OpenedElsewhere(Box::new(opened)));
        self
    }

    /// It listens there no more.
    pub fn closes_elsewhere(mut self, server: &Server) -> Self {
        let Listener { netns, key, .. } = server.listener;
        self.other_ports.retain(|one| one.key != key);
        self.apply(KernelEvent::ClosedElsewhere(ClosedElsewhere { time: self.now, netns, key }));
        self
    }

    /// It is not known any more when sockets began to listen on other ports than the watched one.
    pub fn forgets_openings(mut self) -> Self {
        self.dated_since = None;
        self.other_ports.iter_mut().for_each(|listener| listener.since = None);
        self
    }

    fn other_ports_of(&self, netns: NetnsId) -> Observation {
        Observation::OtherPorts { netns, listeners: self.other_ports.clone(), dated_since: self.dated_since }
    }

    /// A process starts that forwards its port to the watched one of another place.
    pub fn forwards(mut self, server: &Server, target: Target) -> Self {
        let listener = server.listener.clone();
        let forward = Forward { addr: Some(listener.addr), port: listener.port, target, target_port: 18_789 };
        self.forwarders.push(Forwarder { since: Some(self.now), listener, forward });
        self
    }

    /// No process forwards anything any more.
    pub fn forwards_nothing(mut self) -> Self {
        self.forwarders.clear();
        self
    }

    /// What a process listens on besides TCP.
    pub fn local(mut self, pid: u32, path: &str) -> Self {
        self.local_sockets.push(LocalSocket { pid, endpoint: LocalEndpoint::Unix(path.into()) });
        self
    }

    /// The host does not answer which sockets hold a port.
    pub fn silent_about_holders(mut self) -> Self {
        self.is_silent_about_holders = true;
        self
    }

    /// No socket holds the port, as a query of it finds.
    pub fn held_by_none(mut self) -> Self {
        let (netns, port) = (NetnsId(HOST), 18_789);
        let sockets = Vec::new();
        self.answer(QueryKind::Holders { netns, port }, Some(Observation::Holders { netns, port, sockets }));
        self
    }

    /// Which process holds the port, as a query of it finds.
    pub fn held(mut self, addr: &str, state: TcpState, process: Process) -> Self {
        let mut socket = server(&format!("{addr}:18789")).listener;
        socket.process = process;
        let sockets = vec![Holder { socket, state }];
        let (netns, port) = (NetnsId(HOST), 18_789);
        self.answer(QueryKind::Holders { netns, port }, Some(Observation::Holders { netns, port, sockets }));
        self
    }

    /// A connect that is answered, of a process that was refused a moment ago.
    pub fn reach(self, to: &str, pid: u32) -> Self {
        self.reach_in(HOST, to, pid)
    }

    /// The same in another namespace.
    pub fn reach_in(mut self, netns: u32, to: &str, pid: u32) -> Self {
        let to: SocketAddr = to.parse().unwrap();
        self.apply(KernelEvent::Connected(Connected {
            time: self.now,
            started: self.now,
            netns: NetnsId(netns),
            pid: Some(pid),
            dst: to.ip(),
            dst_port: to.port(),
            device: None,
        }));
        self
    }

    /// A process that holds a watched listener, or the process of this server, is answered on a port that is not watched.
    pub fn reach_hop(mut self, client: &Server, to: &str) -> Self {
        let to: SocketAddr = to.parse().unwrap();
        self.apply(KernelEvent::Reached(Reached {
            time: self.now,
            netns: client.listener.netns,
            client: client.listener.process.clone(),
            dst: to.ip(),
            dst_port: to.port(),
            device: None,
        }));
        self
    }

    /// The processes that the kernel side is asked to record every connect of, since the last call.
    pub fn followed(&mut self) -> Vec<u32> {
        std::mem::take(&mut self.followed)
    }

    /// The processes whose connects are not to be recorded any more, since the last call.
    pub fn unfollowed(&mut self) -> Vec<u32> {
        std::mem::take(&mut self.unfollowed)
    }

    /// A connect that ends otherwise than by a refusal.
    pub fn fail(self, to: &str, errno: Option<Errno>) -> Self {
        self.fail_in(HOST, to, errno)
    }

    /// The same in another namespace.
    pub fn fail_in(mut self, netns: u32, to: &str, errno: Option<Errno>) -> Self {
        let Connect(refused) = connect(to).in_netns(netns);
        self.apply(KernelEvent::Failed(Box::new(Failed {
            time: self.now,
            started: Mono(self.now.0 - 5_000_000_000),
            netns: refused.netns,
            client: refused.client,
            src: refused.src,
            src_port: refused.src_port,
            dst: refused.dst,
            dst_port: refused.dst_port,
            device: None,
            errno,
        })));
        self
    }

    /// On a host that gives no sign of some cause.
    pub fn without_sign_of(self, cause: Cause) -> Self {
        self.with(Settings { undetectable: Some(cause.into()), ..Settings::default() })
    }

    /// On a host that may skip any program.
    pub fn that_skips_anything(self) -> Self {
        self.with(Settings { skips_listeners: true, ..Settings::default() })
    }

    /// Connects that failed otherwise are reported.
    pub fn all(self) -> Self {
        self.with(Settings { all: true, ..Settings::default() })
    }

    /// With these ports alone; otherwise every port is watched.
    pub fn watching(self, ports: &[u16]) -> Self {
        self.with(Settings { ports: Ports::Only(ports.to_vec()), ..Settings::default() })
    }

    fn with(mut self, settings: Settings) -> Self {
        (self.core, self.lines, self.log) = begin(settings);
        self
    }

    /// What `tracer status` reports of an address, asked by root in the tracer's own namespace.
    pub fn status(mut self, to: &str) -> Self {
        let to: SocketAddr = to.parse().unwrap();
        let reader = Reader { uid: 0, sees_own_only: false };
        let asked = (NetnsId(HOST), to.ip(), to.port());
        let status = self.lines.status(&self.core.state, asked, reader);
        let line = self.lines.line(self.now, Body::Status(Box::new(status)));
        self.log.push(line);
        self
    }

    /// The last line.
    pub fn stop(mut self) -> Self {
        self = self.end();
        let stop = bodies::stop(StopReason::Sigint, self.core.counts());
        let line = self.lines.line(self.now, stop);
        self.log.push(line);
        self
    }

    /// The log without its first line.
    pub fn reported(self) -> Vec<Body> {
        self.end().log.into_iter().skip(1).map(|line| line.body).collect()
    }

    /// Records are lost.
    pub fn lose(mut self, records: u64, place: LostWhere) -> Self {
        self.is_silent = true;
        self.apply(KernelEvent::Lost(Lost { records, place, from: self.now, to: self.now }));
        self
    }

    /// The host does not answer any more whether a name still names its namespace.
    pub fn silent_about_names(mut self) -> Self {
        self.is_silent_about_names = true;
        self
    }

    /// The host gives no answers from now on: refusals wait for them, for a while.
    pub fn without_answers(mut self) -> Self {
        self.held_back = Some(Vec::new());
        self
    }

    /// Whether it owes an answer to such a query.
    pub fn waits_for(&self, is_it: impl Fn(&QueryKind) -> bool) -> bool {
        self.held_back.iter().flatten().any(|query| is_it(&query.kind))
    }

    /// It gives all those that it owes, and gives what it finds now.
    pub fn with_answers(mut self) -> Self {
        for query in self.held_back.take().unwrap_or_default() {
            let Some(result) = self.result_of(&query) else { continue };
            let answer = Answer { id: query.id, interval: self.interval(), result };
            let findings = self.core.answer(answer, self.now);
            self.log_all(findings);
        }
        self.settle(self.now);
        self
    }

    /// A connect, and its refusal.
    pub fn refuse(mut self, connect: &Connect) -> Self {
        let mut refused = connect.0.clone();
        refused.started = self.now;
        refused.time = Mono(self.now.0 + 200_000);
        self.apply(KernelEvent::Refused(Box::new(refused)));
        self
    }

    /// Nothing more happens.
    pub fn end(mut self) -> Self {
        let findings = self.core.finish();
        self.log_all(findings);
        let log = format!("{:?}", self.log);
        assert_eq!(crate::token::leak(&log), None);
        self
    }

    /// The last verdict, once nothing more happens.
    pub fn verdict(self) -> Verdict {
        let log = self.end().log;
        let verdict = log.into_iter().rev().find_map(|line| match line.body {
            Body::Refused(refused) => Some(refused.verdict),
            _ => None,
        });
        verdict.expect("a refusal")
    }

    /// The log as numbered lines.
    pub fn lines(self) -> Vec<Line> {
        self.end().log
    }
}

/// What is configured for a process: its arguments, and a file that was written as many milliseconds after boot.
fn settings(product: ProductRef, pid: u32, arguments: &[&str], file: Option<(&str, u64)>) -> SettingsRead {
    let arguments: Vec<&[u8]> = arguments.iter().map(|argument| argument.as_bytes()).collect();
    let file = file.map(|(text, written)| ConfigFile {
        path: PathBuf::from(CONFIG),
        changed: Some(WallTime(i128::from(written) * 1_000_000 + CLOCK.realtime_offset)),
        settings: product.settings(text),
    });
    let overrides = product.overrides(&[], &arguments);
    let settings = Some(ServerSettings { overrides, file, ..ServerSettings::of(product) });
    SettingsRead { pid, started: process("", pid).start, settings, file: Some(FileId(1)) }
}
