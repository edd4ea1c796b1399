//! The fixture builder: a namespace, a port, who listens, who connects, and what the tracer must report.
//!
//! ```text
//! let mut fixture = Fixture::begin();
//! let gateway = fixture.listen("10.77.0.1");
//! fixture.trace();
//! fixture.refused("127.0.0.1").cause(Cause::WrongAddress).evaluates(&gateway, Mismatch::Address);
//! fixture.end();
//! ```
//!
//! Addresses are written as in a URL: `127.0.0.1`, `[::1]`, `[::ffff:127.0.0.1]`, `[fe80::77%eth0]`. A
//! connect is made by a process of its own, named `client` and a number, so that no two are in one repeat group; a
//! listener is held by one named `gateway`.

use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::io::Errno;
use tracer::output::schema::{
    Because, Cause, Change, Confidence, Listener, Mismatch, Refused, SentBy, Verdict, Via,
};
use tracer::verdict::rules::RULES;

use super::limits;
use super::netns::{Netns, Place};
use super::port::Port;
use super::process::{Actor, ProcessSpec};
use super::tracer::{Log, Tracer};

/// The time for which a listener that changes makes a verdict uncertain, with some to spare.
pub const CHANGING_US: u64 = 12_000;

/// The accept queue of every listener here: no refusal depends on it.
pub const BACKLOG: u32 = 16;

/// A network namespace as the event log should name it.
#[derive(Clone, Debug)]
pub struct Spot {
    pub place: Place,
    pub id: u32,
    pub name: Option<String>,
}

impl From<&Netns> for Spot {
    fn from(netns: &Netns) -> Self {
        Self { place: netns.place(), id: netns.id, name: Some(netns.name.clone()) }
    }
}

/// What a listener is bound to.
#[derive(Clone, Debug)]
pub struct Listen {
    addr: String,
    port: usize,
    v6only: bool,
    device: Option<String>,
    mptcp: bool,
    options: Vec<&'static str>,
    spec: ProcessSpec,
}

impl From<&str> for Listen {
    fn from(addr: &str) -> Self {
        Self {
            addr: addr.to_owned(),
            port: 0,
            v6only: false,
            device: None,
            mptcp: false,
            options: Vec::new(),
            spec: ProcessSpec::named("gateway"),
        }
    }
}

impl Listen {
    pub fn at(addr: &str) -> Self {
        addr.into()
    }

    /// On the fixture's n-th port; otherwise on the first.
    pub fn port(self, port: usize) -> Self {
        Self { port, ..self }
    }

    /// For IPv6 only; otherwise an IPv6 wildcard takes IPv4 too.
    pub fn v6only(self) -> Self {
        Self { v6only: true, ..self }
    }

    /// Bound to this interface.
    pub fn device(self, name: &str) -> Self {
        Self { device: Some(name.to_owned()), ..self }
    }

    /// By multipath TCP.
    pub fn mptcp(self) -> Self {
        Self { mptcp: true, ..self }
    }

    /// With another option of the actor's `bind`; `uring` is one of its `listen` too.
    pub fn with(mut self, option: &'static str) -> Self {
        self.options.push(option);
        self
    }

    pub fn by(self, spec: ProcessSpec) -> Self {
        Self { spec, ..self }
    }
}

/// The sender of a refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// The TCP stack, which has no socket for it.
    Stack,
    /// A packet filter with a RST.
    Reset,
    /// A packet filter with an ICMP message, its default.
    Icmp,
}

impl By {
    /// What can be seen of it on this kernel.
    pub fn seen(self) -> (Via, Option<SentBy>) {
        let (via, sent_by) = match self {
            Self::Stack => (Via::Rst, Some(SentBy::Tcp)),
            Self::Reset => (Via::Rst, Some(SentBy::Filter)),
            Self::Icmp => (Via::Icmp, None),
        };
        (via, sent_by.filter(|_| !limits::is_expected("no-reset-sender")))
    }
}

/// A connect that will be refused.
#[derive(Clone, Debug)]
pub struct Client {
    addr: String,
    port: usize,
    nonblocking: bool,
    mptcp: bool,
    options: Vec<&'static str>,
    spec: ProcessSpec,
}

impl From<&str> for Client {
    fn from(addr: &str) -> Self {
        Self::blocking(addr)
    }
}

/// Clients so far, so that each has a name of its own.
static CLIENTS: AtomicU32 = AtomicU32::new(0);

impl Client {
    /// `connect()` returns the refusal.
    pub fn blocking(addr: &str) -> Self {
        Self {
            addr: addr.to_owned(),
            port: 0,
            nonblocking: false,
            mptcp: false,
            options: Vec::new(),
            spec: ProcessSpec::named(format!("client{}", CLIENTS.fetch_add(1, Ordering::Relaxed))),
        }
    }

    /// `connect()` returns EINPROGRESS, and SO_ERROR the refusal, as in curl, Node, Go.
    pub fn nonblocking(addr: &str) -> Self {
        Self { nonblocking: true, ..Self::blocking(addr) }
    }

    /// To the fixture's n-th port; otherwise to the first.
    pub fn port(self, port: usize) -> Self {
        Self { port, ..self }
    }

    /// By multipath TCP.
    pub fn mptcp(self) -> Self {
        Self { mptcp: true, ..self }
    }

    /// With another option of the actor's `connect`.
    pub fn with(mut self, option: &'static str) -> Self {
        self.options.push(option);
        self
    }

    pub fn by(self, spec: ProcessSpec) -> Self {
        Self { spec, ..self }
    }

    /// Where the connect goes as the log should have it: an unspecified address is this host's, and an
    /// IPv4-mapped one is IPv4.
    fn destination(&self) -> String {
        let addr = self.addr.trim_matches(['[', ']']);
        match addr {
            "0.0.0.0" => "127.0.0.1",
            "::" => "::1",
            _ => addr.strip_prefix("::ffff:").unwrap_or(addr),
        }
        .to_owned()
    }
}

/// A listener that an actor holds, and where.
pub struct Listening {
    actor: Actor,
    listen: Listen,
    port: u16,
    spot: Spot,
}

impl Deref for Listening {
    type Target = Actor;

    fn deref(&self) -> &Actor {
        &self.actor
    }
}

impl DerefMut for Listening {
    fn deref_mut(&mut self) -> &mut Actor {
        &mut self.actor
    }
}

impl Listening {
    /// The address that it was asked to listen on.
    pub fn addr(&self) -> &str {
        &self.listen.addr
    }

    /// Makes it another process's, which was given the socket. Returns the one that had it before.
    pub fn held_by(&mut self, mut heir: Actor) -> Actor {
        heir.cookie = self.actor.cookie;
        std::mem::replace(&mut self.actor, heir)
    }

    /// Asserts that a listener of the log is this one, in every field.
    pub fn assert_is(&self, listener: &Listener) {
        let socket = Socket {
            addr: self.listen.addr.trim_matches(['[', ']']),
            port: self.port,
            v6only: self.listen.v6only,
            device: self.listen.device.as_deref(),
            interface: carrier(self.listen.addr.trim_matches(['[', ']'])),
            spot: &self.spot,
            // A multipath socket's cookie is not that of the TCP socket inside, which the log shows.
            cookie: self.cookie.filter(|_| !self.listen.mptcp),
        };
        socket.assert_is(listener);
        let shown = serde_json::to_string(listener).expect("a listener");
        assert_eq!(listener.process.pid, Some(self.pid), "{shown}");
        assert_eq!(listener.process.comm.as_deref(), Some(self.comm.as_str()), "{shown}");
    }
}

/// A listening socket as the event log should have it, but for its process.
#[derive(Clone, Copy, Debug)]
pub struct Socket<'a> {
    /// Without brackets.
    pub addr: &'a str,
    pub port: u16,
    /// As the server asked for it.
    pub v6only: bool,
    pub device: Option<&'a str>,
    /// The interface that carries the address.
    pub interface: Option<&'a str>,
    pub spot: &'a Spot,
    /// `None`: not known.
    pub cookie: Option<u64>,
}

impl Socket<'_> {
    pub fn assert_is(&self, listener: &Listener) {
        let Self { addr, port, v6only, device, interface, spot, cookie } = *self;
        // The kernel makes whatever is bound to one IPv6 address IPv6-only (inet6_bind, net/ipv6/af_inet6.c).
        let v6only = addr.contains(':').then_some(v6only || addr != "::");
        let shown = serde_json::to_string(listener).expect("a listener");
        assert_eq!(listener.addr, addr, "{shown}");
        assert_eq!(listener.port, port, "{shown}");
        assert_eq!(listener.v6only, v6only, "{shown}");
        // A link-local address binds to its interface as well.
        let device = device.or(addr.split_once('%').map(|(_, zone)| zone));
        assert_eq!(listener.device.as_deref(), device, "{shown}");
        assert_eq!(listener.interface.as_deref(), interface, "{shown}");
        assert_eq!(listener.netns.id, spot.id, "{shown}");
        assert_eq!(listener.netns.name, spot.name, "{shown}");
        if cookie.is_some() {
            assert_cookie(listener, cookie);
        }
        assert_eq!(listener.backlog, Some(BACKLOG), "{shown}");
    }
}

/// Asserts a listener's cookie. One that the kernel does not lend to programs is known of those listeners that were
/// there already.
pub fn assert_cookie(listener: &Listener, cookie: Option<u64>) {
    let is_unknown = listener.cookie.is_none() && limits::is_expected("no-socket-cookie");
    assert!(
        is_unknown || listener.cookie == cookie.map(|cookie| cookie.to_string()),
        "{cookie:?}: {listener:?}"
    );
}

/// A namespace with some ports, and a tracer that watches them from [`Fixture::trace`] on.
pub struct Fixture {
    pub tracer: Option<Tracer>,
    pub netns: Netns,
    pub ports: Vec<Port>,
}

impl Fixture {
    pub fn begin() -> Self {
        Self::with_ports(1)
    }

    pub fn with_ports(count: usize) -> Self {
        Self { tracer: None, netns: Netns::with_eth0(), ports: (0..count).map(|_| Port::take()).collect() }
    }

    /// The first port.
    pub fn port(&self) -> u16 {
        self.ports[0].number
    }

    /// Starts the tracer and waits until it is ready. What listens before is there already; what listens
    /// after is seen to open.
    pub fn trace(&mut self) {
        self.trace_with(&[]);
    }

    /// The same with more arguments.
    pub fn trace_with(&mut self, more: &[&str]) {
        let ports: Vec<u16> = self.ports.iter().map(|port| port.number).collect();
        self.tracer = Some(Tracer::start(&ports, more));
    }

    /// Starts it by a command that enters the fixture's namespace.
    pub fn trace_as(&mut self, command: std::process::Command) {
        let ports: Vec<u16> = self.ports.iter().map(|port| port.number).collect();
        self.tracer = Some(Tracer::start_as(command, self.netns.id, &ports, &[]));
    }

    pub fn tracer(&mut self) -> &mut Tracer {
        self.tracer.as_mut().expect("a fixture that is traced")
    }

    /// Opens a listener, and where it is traced waits until the log shows it and its opening is past.
    pub fn listen(&mut self, listen: impl Into<Listen>) -> Listening {
        self.listen_in(Spot::from(&self.netns), listen)
    }

    pub fn listen_in(&mut self, spot: impl Into<Spot>, listen: impl Into<Listen>) -> Listening {
        let (spot, listen) = (spot.into(), listen.into());
        let port = self.ports[listen.port].number;
        let mut actor = Actor::start(&spot.place, &listen.spec);
        let mut command = format!("bind {}:{port}", listen.addr);
        if listen.v6only {
            command.push_str(" v6only");
        }
        if listen.mptcp {
            command.push_str(" mptcp");
        }
        if let Some(device) = &listen.device {
            command.push_str(&format!(" device={device}"));
        }
        command.extend(listen.options.iter().map(|option| format!(" {option}")));
        actor.must(&command);
        let uring = listen.options.iter().find(|option| option.starts_with("uring"));
        actor
            .listen_with(BACKLOG, uring.unwrap_or(&""))
            .unwrap_or_else(|errno| panic!("listen on {}: errno {errno}", listen.addr));
        let listening = Listening { actor, listen, port, spot };
        if let Some(tracer) = &mut self.tracer {
            let (line, mono_us) = tracer.listener_and_time(Change::Opened, listening.pid);
            listening.assert_is(&line.listener);
            assert!(line.listener.since.is_some(), "it was seen to open: {line:?}");
            wait_past(mono_us + CHANGING_US);
        }
        listening
    }

    /// Closes a listener, whose process is still running, and waits until the log shows it and the change is past.
    pub fn close(&mut self, listening: &mut Listening) {
        listening.close();
        self.closed(listening.pid);
    }

    /// Waits until the log shows that a listener of this process closed, and the change is past.
    pub fn closed(&mut self, pid: u32) {
        if let Some(tracer) = &mut self.tracer {
            let (_, mono_us) = tracer.listener_and_time(Change::Closed, pid);
            wait_past(mono_us + CHANGING_US);
        }
    }

    /// A connect in the fixture's namespace, which is refused, and the log's line about it.
    pub fn refused(&mut self, client: impl Into<Client>) -> Refusal {
        self.refused_in(Spot::from(&self.netns), client)
    }

    pub fn refused_in(&mut self, spot: impl Into<Spot>, client: impl Into<Client>) -> Refusal {
        self.all_refused_in(spot, [client.into()]).remove(0)
    }

    /// Several connects in parallel.
    pub fn all_refused(&mut self, clients: impl IntoIterator<Item = Client>) -> Vec<Refusal> {
        self.all_refused_in(Spot::from(&self.netns), clients)
    }

    pub fn all_refused_in(
        &mut self,
        spot: impl Into<Spot>,
        clients: impl IntoIterator<Item = Client>,
    ) -> Vec<Refusal> {
        let spot = spot.into();
        let attempts: Vec<(Client, Actor)> = clients
            .into_iter()
            .map(|client| {
                let mut actor = Actor::start(&spot.place, &client.spec);
                actor.send(&self.connect_command(&client));
                (client, actor)
            })
            .collect();
        attempts
            .into_iter()
            .map(|(client, actor)| {
                let outcome = actor.outcome();
                let refused = Err(Errno::CONNREFUSED.raw_os_error());
                assert_eq!(outcome, refused, "errno of {client:?} in {spot:?}");
                let line = self.tracer().refused(actor.pid);
                let refusal = Refusal { line, actor };
                self.check(&client, &spot, &refusal);
                refusal
            })
            .collect()
    }

    /// The actor's command for a connect.
    pub fn connect_command(&self, client: &Client) -> String {
        let mut command = format!("connect {}:{}", client.addr, self.ports[client.port].number);
        if client.nonblocking {
            command.push_str(" nonblocking");
        }
        if client.mptcp {
            command.push_str(" mptcp");
        }
        command.extend(client.options.iter().map(|option| format!(" {option}")));
        command
    }

    /// A connect that is answered.
    pub fn answered(&mut self, client: impl Into<Client>) {
        let client = client.into();
        let mut actor = Actor::start(&self.netns.place(), &client.spec);
        actor.must(&self.connect_command(&client));
    }

    /// Asserts what does not depend on the verdict.
    fn check(&mut self, client: &Client, spot: &Spot, refusal: &Refusal) {
        let Refusal { line, actor } = refusal;
        let shown = refusal.shown();
        assert_eq!(line.client.comm.as_deref(), Some(actor.comm.as_str()), "{shown}");
        assert_eq!(line.dst.addr, client.destination(), "{shown}");
        assert_eq!(line.dst.port, Some(self.ports[client.port].number), "{shown}");
        assert_eq!(line.src.addr.contains(':'), line.dst.addr.contains(':'), "families: {shown}");
        assert!(line.src.port.is_some_and(|port| port != 0), "{shown}");
        assert_eq!(line.netns.id, spot.id, "{shown}");
        assert_eq!(line.netns.name, spot.name, "{shown}");

        assert_eq!((line.via, line.sent_by), By::Stack.seen(), "{shown}");

        assert_sound(&line.verdict, &shown);
    }

    /// Stops the tracer, which checks what must hold for every run, and returns its log.
    pub fn end(mut self) -> Log {
        self.tracer.take().expect("a fixture that is traced").stop()
    }
}

/// Asserts what must hold for every verdict.
pub fn assert_sound(verdict: &Verdict, shown: &str) {
    assert_eq!(verdict.confidence == Confidence::Certain, verdict.because.is_empty(), "{shown}");
    let shown = verdict.listeners.len();
    assert_eq!(shown as u64, verdict.listeners_total.min(16), "{shown}");
    for sentence in [Some(&verdict.summary), verdict.hint.as_ref()].into_iter().flatten() {
        assert!(!sentence.trim().is_empty(), "{shown}");
        assert!(!sentence.contains(char::is_control), "{shown}");
    }
}

/// A connect that was refused: the log's line about it, and the client, which is still running.
pub struct Refusal {
    pub line: Refused,
    pub actor: Actor,
}

impl Refusal {
    /// Asserts the cause, and that it is certain.
    pub fn cause(&self, cause: Cause) -> &Self {
        self.verdict(cause, &[])
    }

    /// Asserts the cause, and what makes it less than certain.
    pub fn verdict(&self, cause: Cause, because: &[Because]) -> &Self {
        let verdict = &self.line.verdict;
        let mut expected = because.to_vec();
        let place = |cause| RULES.iter().position(|rule| Cause::from(rule.cause) == cause);
        let is_after_bound = place(cause) > place(Cause::BoundNotListening);
        if is_after_bound
            && limits::is_expected("bound-before-start")
            && !expected.contains(&Because::HookMissing)
        {
            expected.push(Because::HookMissing);
        }
        let mut because = but_for_skips(&verdict.because, &expected);
        // Their order is not what a test is about.
        because.sort_by_key(|one| format!("{one:?}"));
        expected.sort_by_key(|one| format!("{one:?}"));
        assert_eq!((verdict.cause, because), (cause, expected), "{}", self.shown());
        self
    }

    /// Asserts that a listener was evaluated, and why it did not answer (`None`: it should have).
    pub fn evaluates(&self, listening: &Listening, mismatch: impl Into<Option<Mismatch>>) -> &Self {
        let pid = Some(listening.pid);
        let evaluated =
            self.line.verdict.listeners.iter().find(|evaluated| evaluated.listener.process.pid == pid);
        let evaluated =
            evaluated.unwrap_or_else(|| panic!("process {pid:?} not evaluated: {}", self.shown()));
        listening.assert_is(&evaluated.listener);
        assert_eq!(evaluated.mismatch, mismatch.into(), "{}", self.shown());
        self
    }

    /// Asserts how many listeners were evaluated.
    pub fn evaluates_only(&self, count: usize) -> &Self {
        assert_eq!(self.line.verdict.listeners_total, count as u64, "{}", self.shown());
        self
    }

    /// The line, for a failing test.
    pub fn shown(&self) -> String {
        serde_json::to_string(&self.line).expect("a line")
    }
}

/// What makes a verdict uncertain, but for what `expected` does not list: that the kernel skipped a program that was
/// preempted, for any socket of the host, and that an emulated machine took longer to answer than a refusal waits.
pub fn but_for_skips(because: &[Because], expected: &[Because]) -> Vec<Because> {
    let is_skip =
        |because: &Because| *because == Because::LostRecords && limits::is_expected("preempted-programs");
    let is_late = |because: &Because| *because == Because::QueryTimeout && crate::needs::is_emulated();
    let is_expected =
        |because: &Because| expected.contains(because) || !is_skip(because) && !is_late(because);
    because.iter().copied().filter(is_expected).collect()
}

/// The interface that carries an address of a fixture's namespace; a wildcard is carried by none.
pub fn carrier(addr: &str) -> Option<&'static str> {
    match addr {
        "0.0.0.0" | "::" => None,
        "::1" => Some("lo"),
        _ if addr.starts_with("127.") => Some("lo"),
        _ => Some("eth0"),
    }
}

/// Waits until the monotonic clock has passed a moment: for rules that are about time.
pub fn wait_past(mono_us: u64) {
    loop {
        let now = mono_now_us();
        if now > mono_us {
            return;
        }
        std::thread::sleep(std::time::Duration::from_micros(mono_us - now + 1));
    }
}

/// The monotonic clock, as `mono_us` of a line has it.
pub fn mono_now_us() -> u64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the structure outlives the call.
    let result = unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut now) };
    assert_eq!(result, 0, "CLOCK_MONOTONIC");
    u64::try_from(now.tv_sec).expect("since boot") * 1_000_000
        + u64::try_from(now.tv_nsec).expect("a part") / 1000
}
