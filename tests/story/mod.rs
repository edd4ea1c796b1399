//! Incidents in words, for tests of the pure core: what listens, what connects, and what the log says.
//!
//! The host of every story has `lo`, `eth0` with 192.168.50.2 and 2001:db8::2, and `tailscale0` with
//! 100.101.102.103 in its own namespace; [`Story::netns`] adds others.

#[path = "../token.rs"]
pub mod token;

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use tracer::claims::openclaw::OpenClaw;
use tracer::claims::{Claims, ConfigFile, Product};
use tracer::clock::Clock;
use tracer::correlate::{Correlator, Output, Reader, Scope};
use tracer::event::{
    Bound, Candidate, Claimed, Closed, Closer, Configured, Connected, Destroyed, Event, ExitStatus, Exited,
    Failed, FileId, Holder, Holders, Link, Listener, LocalRoute, Look, Lost, Mono, Namespace, NetnsId,
    Opened, OtherPorts, Refused, Snapshot, SocketKey, Unreadable,
};
use tracer::line::{
    Body, Cause, ConfigChange, Container, Hook, Line, LostWhere, Netns, Process, SentBy, Start, StopReason,
    Time, VERSION, Verdict, Via,
};

/// The tracer's own namespace.
pub const HOST: u32 = 4_026_531_840;

/// The configuration file of every story.
pub const CONFIG: &str = "/home/ann/.openclaw/openclaw.json";

/// 2026-11-22 10:41:02 UTC at 100 s after boot.
pub const CLOCK: Clock =
    Clock { realtime_offset: 1_795_344_062_000_000_000 - 100_000_000_000, boottime_offset: 0 };

/// What listens, or listened.
#[derive(Clone, Debug)]
pub struct Server {
    pub listener: Listener,
    /// `None`: as each story's namespaces have it.
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

/// A process as the log has it.
pub fn process(comm: &str, pid: u32) -> Process {
    Process {
        pid: Some(pid),
        ns_pid: Some(pid),
        ppid: Some(1),
        uid: Some(1000),
        comm: Some(comm.to_owned()),
        exe: Some(format!("/usr/bin/{comm}")),
        start_time: Some(CLOCK.time(Mono::from_millis(50_000))),
        container: None,
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
        client_started: 0,
        cgroup: 1,
        src: if to.is_ipv4() { "127.0.0.1".parse().unwrap() } else { "::1".parse().unwrap() },
        src_port: Some(40_000),
        dst: to.ip(),
        dst_port: to.port(),
        device: None,
        via: Via::Rst,
        sent_by: Some(SentBy::Tcp),
    })
}

impl Connect {
    pub fn by(mut self, comm: &str, pid: u32) -> Self {
        self.0.client = process(comm, pid);
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
}

/// How a listener closes.
#[derive(Clone, Copy, Debug)]
pub enum Close {
    /// Its owner closes it and lives on.
    Owner,
    /// Its owner ends.
    End(ExitStatus),
    /// Its `listen()` has failed.
    Failure,
    /// The kernel closes it, for a process that had let go of it.
    Kernel,
    /// Another process closes it, `ss -K`.
    Force,
}

/// One incident.
pub struct Story {
    correlator: Correlator,
    now: Mono,
    namespaces: Vec<Namespace>,
    present: Vec<Listener>,
    unreadable: Vec<Unreadable>,
    /// What the log says, in order.
    pub log: Vec<Output>,
}

/// A correlator, and the first line of its log.
fn begin(scope: Scope) -> (Correlator, Vec<Output>) {
    let mut correlator = Correlator::new(scope);
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
    let start = correlator.line(Mono::from_millis(99_950), Body::Start(start));
    (correlator, vec![start])
}

pub fn story() -> Story {
    let (correlator, log) = begin(Scope::default());
    Story {
        correlator,
        now: Mono::from_millis(100_000),
        namespaces: vec![namespace(HOST, None, &["192.168.50.2", "2001:db8::2"], &["100.101.102.103"])],
        present: Vec::new(),
        unreadable: Vec::new(),
        log,
    }
}

/// A namespace with `lo` (1), `eth0` (2), `tailscale0` (3), and `red` (4), a VRF without addresses.
pub fn namespace(id: u32, name: Option<&str>, eth0: &[&str], tailscale0: &[&str]) -> Namespace {
    let link = |index, name: &str, vrf_table| Link { index, name: name.to_owned(), master: None, vrf_table };
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

impl Story {
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

    /// The next look finds no listener.
    pub fn nothing_present(mut self) -> Self {
        self.present.clear();
        self
    }

    /// A listener from before the tracer.
    pub fn present(mut self, server: &Server) -> Self {
        self.present.push(server.listener.clone());
        self
    }

    fn snapshot(&self) -> Event {
        Event::Snapshot(Snapshot {
            is_complete: true,
            owners_of: None,
            began: self.now,
            ended: self.now,
            namespaces: self.namespaces.clone(),
            listeners: self.present.clone(),
            unreadable: self.unreadable.clone(),
        })
    }

    /// The tracer is ready.
    pub fn ready(mut self) -> Self {
        self.apply(self.snapshot());
        let mono = self.now;
        let ready = self.correlator.ready(&[18_789]);
        let line = self.correlator.line(mono, Body::Ready(ready));
        self.log.push(line);
        self
    }

    /// The host is looked at again, and has what `present` said, and no more.
    pub fn look_again(mut self) -> Self {
        self.apply(self.snapshot());
        self
    }

    /// Time passes.
    pub fn after_millis(mut self, millis: u64) -> Self {
        self.now = self.now.plus_millis(millis);
        let outputs = self.correlator.tick(self.now, &CLOCK);
        self.log.extend(outputs);
        self
    }

    fn apply(&mut self, event: Event) {
        let outputs = self.correlator.apply(event, &CLOCK);
        self.log.extend(outputs);
    }

    /// A `listen()`.
    pub fn open(mut self, server: &Server) -> Self {
        let listener = Listener { since: Some(self.now), ..server.listener.clone() };
        let netns_cookie = server.netns_cookie.unwrap_or(u64::from(listener.netns.0));
        let tid = listener.process.pid.unwrap_or_default();
        self.apply(Event::Opened(Opened { time: self.now, listener, tid, netns_cookie }));
        self
    }

    /// The end of a listener.
    pub fn close(mut self, server: &Server, how: Close) -> Self {
        let mut listener = server.listener.clone();
        let netns_cookie = u64::from(listener.netns.0);
        let tid = listener.process.pid.unwrap_or_default();
        let (shutdown, closer) = match how {
            Close::Owner => (3, Closer::Process),
            Close::End(status) => (3, Closer::Ending(status)),
            Close::Failure => (0, Closer::Process),
            Close::Force => {
                listener.process = process("ss", 9000);
                (0, Closer::Process)
            }
            Close::Kernel => {
                listener.process = process("kworker/1:3", 300);
                (3, Closer::Kernel)
            }
        };
        self.apply(Event::Closed(Closed { time: self.now, listener, tid, shutdown, closer, netns_cookie }));
        self
    }

    /// A `bind()`, and what came of it.
    pub fn bind(mut self, server: &Server, errno: Option<i32>) -> Self {
        let socket = server.listener.clone();
        let netns_cookie = u64::from(socket.netns.0);
        self.apply(Event::Bound(Bound {
            time: self.now,
            socket,
            netns_cookie,
            errno,
            is_followed: errno.is_none(),
            sock: server.listener.key.inode,
        }));
        self
    }

    /// A bound socket is gone.
    pub fn destroy(mut self, server: &Server) -> Self {
        let sock = server.listener.key.inode;
        self.apply(Event::Destroyed(Destroyed { time: self.now, sock, is_client: false }));
        self
    }

    /// A bound socket turns out to be a client's: it connects.
    pub fn becomes_client(mut self, server: &Server) -> Self {
        let sock = server.listener.key.inode;
        self.apply(Event::Destroyed(Destroyed { time: self.now, sock, is_client: true }));
        self
    }

    /// A look at the host that takes no time.
    fn look(&self) -> Look {
        Look { began: self.now, ended: self.now }
    }

    /// A process that claims to be the server starts.
    pub fn start(self, comm: &str, pid: u32) -> Self {
        self.start_as(comm, pid, Some(&OpenClaw))
    }

    /// The same in another namespace.
    pub fn start_in(mut self, netns: u32, comm: &str, pid: u32) -> Self {
        self.apply(self.candidate(netns, comm, pid, Some(&OpenClaw)));
        self
    }

    /// The same of a product; `None`: by the user's own pattern.
    pub fn start_as(mut self, comm: &str, pid: u32, product: Option<&'static dyn Product>) -> Self {
        self.apply(self.candidate(HOST, comm, pid, product));
        self
    }

    fn candidate(&self, netns: u32, comm: &str, pid: u32, product: Option<&'static dyn Product>) -> Event {
        let (time, since, netns) = (self.now, self.now, NetnsId(netns));
        Event::Candidate(Candidate { time, since, netns, process: process(comm, pid), product })
    }

    /// A look at every process finds these that claim to be the server, and no others.
    pub fn finds_servers(mut self, servers: &[(&str, u32)]) -> Self {
        for (comm, pid) in servers {
            self.apply(self.candidate(HOST, comm, *pid, Some(&OpenClaw)));
        }
        self.correlator.candidates_are_known(self.look(), true);
        self
    }

    /// What a process says of itself: its arguments, and a file that was written as many milliseconds after boot.
    pub fn says(mut self, pid: u32, arguments: &[&str], file: Option<(&str, u64)>) -> Self {
        self.apply(Event::Claimed(self.claimed(&OpenClaw, pid, arguments, file)));
        self
    }

    /// The same of another product.
    pub fn says_as(mut self, product: &'static dyn Product, pid: u32, file: Option<(&str, u64)>) -> Self {
        self.apply(Event::Claimed(self.claimed(product, pid, &[], file)));
        self
    }

    /// A look at a process that has ended.
    pub fn says_nothing(self, pid: u32) -> Self {
        self.without_claims(pid, None)
    }

    /// A look at a process that has become another program, which is no server that is known.
    pub fn becomes_another_program(self, pid: u32) -> Self {
        let started = process("", pid).start_time;
        self.without_claims(pid, started)
    }

    fn without_claims(mut self, pid: u32, started: Option<Time>) -> Self {
        let look = self.look();
        self.apply(Event::Claimed(Claimed { look, pid, started, claims: None, file: None }));
        self
    }

    /// The file of a process is replaced.
    pub fn replace(mut self, pid: u32, file: &str, by: Process) -> Self {
        let at = self.now.0 / 1_000_000;
        let claimed = vec![self.claimed(&OpenClaw, pid, &[], Some((file, at)))];
        self.apply(Event::Configured(Configured {
            time: self.now,
            file: FileId(1),
            path: PathBuf::from(CONFIG),
            change: ConfigChange::Replaced,
            process: by,
            claimed,
        }));
        self
    }

    fn claimed(
        &self,
        product: &'static dyn Product,
        pid: u32,
        arguments: &[&str],
        file: Option<(&str, u64)>,
    ) -> Claimed {
        let arguments: Vec<&[u8]> = arguments.iter().map(|argument| argument.as_bytes()).collect();
        let file = file.map(|(text, written)| ConfigFile {
            path: PathBuf::from(CONFIG),
            changed: Some(CLOCK.time(Mono::from_millis(written))),
            settings: product.settings(text),
        });
        let claims = Claims { product, said: product.overrides(&[], &arguments), file };
        let started = process("", pid).start_time;
        Claimed { look: self.look(), pid, started, claims: Some(claims), file: Some(FileId(1)) }
    }

    /// A process ends.
    pub fn exit(mut self, pid: u32, status: ExitStatus) -> Self {
        self.apply(Event::Exited(Exited { time: self.now, pid, start_boottime: 0, status }));
        self
    }

    /// What servers listen on besides the watched port.
    pub fn elsewhere(mut self, servers: &[&Server]) -> Self {
        let listeners = servers.iter().map(|server| server.listener.clone()).collect();
        self.apply(Event::OtherPorts(OtherPorts { look: self.look(), netns: NetnsId(HOST), listeners }));
        self
    }

    /// Who holds the port, as a look at it finds.
    pub fn held(mut self, addr: &str, state: &'static str, process: Process) -> Self {
        let mut socket = server(&format!("{addr}:18789")).listener;
        socket.process = process;
        let sockets = vec![Holder { socket, state, is_bound_only: state == "UNCONN" }];
        let (netns, look) = (NetnsId(HOST), self.look());
        self.apply(Event::Holders(Holders { look, netns, port: 18_789, sockets }));
        self
    }

    /// A connect that is answered, of a process that was refused a moment ago.
    pub fn reach(mut self, to: &str, pid: u32) -> Self {
        let to: SocketAddr = to.parse().unwrap();
        self.apply(Event::Connected(Connected {
            time: self.now,
            netns: NetnsId(HOST),
            pid: Some(pid),
            dst: to.ip(),
            dst_port: to.port(),
            device: None,
        }));
        self
    }

    /// A connect that ends otherwise than by a refusal.
    pub fn fail(mut self, to: &str, errno: Option<i32>) -> Self {
        let Connect(refused) = connect(to);
        self.apply(Event::Failed(Failed {
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
        }));
        self
    }

    /// On a host that gives no sign of some cause.
    pub fn without_sign_of(mut self, cause: Cause) -> Self {
        let scope = Scope { undetectable: Some(cause), ..Scope::default() };
        (self.correlator, self.log) = begin(scope);
        self
    }

    /// On a host that may skip any program.
    pub fn that_skips_anything(mut self) -> Self {
        let scope = Scope { skips_anything: true, ..Scope::default() };
        (self.correlator, self.log) = begin(scope);
        self
    }

    /// Connects that failed otherwise are told of.
    pub fn all(mut self) -> Self {
        let scope = Scope { all: true, ..Scope::default() };
        (self.correlator, self.log) = begin(scope);
        self
    }

    /// What `tracer status` says of an address, asked by root in the tracer's own namespace.
    pub fn status(mut self, to: &str) -> Self {
        let to: SocketAddr = to.parse().unwrap();
        let reader = Reader { uid: 0, sees_own_only: false };
        let status = self.correlator.status(NetnsId(HOST), to.ip(), to.port(), reader, &CLOCK);
        let line = self.correlator.line(self.now, Body::Status(Box::new(status)));
        self.log.push(line);
        self
    }

    /// The last line.
    pub fn stop(mut self) -> Self {
        self = self.end();
        let stop = self.correlator.stop(StopReason::Sigint);
        let line = self.correlator.line(self.now, stop);
        self.log.push(line);
        self
    }

    /// What the log says, but for its first line.
    pub fn told(self) -> Vec<Body> {
        self.end().log.into_iter().skip(1).map(|output| output.body).collect()
    }

    /// Records are lost.
    pub fn lose(mut self, records: u64, place: LostWhere) -> Self {
        self.apply(Event::Lost(Lost { records, place, from: self.now, to: self.now }));
        self
    }

    /// A connect, and its refusal.
    pub fn refuse(mut self, connect: &Connect) -> Self {
        let mut refused = connect.0.clone();
        refused.started = self.now;
        refused.time = Mono(self.now.0 + 200_000);
        self.apply(Event::Refused(refused));
        self
    }

    /// Nothing more happens.
    pub fn end(mut self) -> Self {
        let outputs = self.correlator.finish(&CLOCK);
        self.log.extend(outputs);
        let log = format!("{:?}", self.log);
        assert_eq!(token::leak(&log), None);
        self
    }

    /// The last verdict, once nothing more happens.
    pub fn verdict(self) -> Verdict {
        let log = self.end().log;
        let verdict = log.into_iter().rev().find_map(|output| match output.body {
            Body::Refused(refused) => Some(refused.verdict),
            _ => None,
        });
        verdict.expect("a refusal")
    }

    /// The log as numbered lines.
    pub fn lines(self) -> Vec<Line> {
        self.end()
            .log
            .into_iter()
            .map(|Output { seq, mono, body }| Line {
                v: VERSION,
                run: uuid::Uuid::from_u128(0x1234_5678_9abc_4def_8123_4567_89ab_cdef),
                seq,
                time: CLOCK.time(mono),
                mono_us: mono.0 / 1_000,
                body,
            })
            .collect()
    }
}
