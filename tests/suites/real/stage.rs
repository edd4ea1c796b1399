//! Runs a scenario: a network namespace, a watched port, the servers, a tracer, and what its log must report.

use std::cell::Cell;
use std::fs::{self, File, Permissions};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::rc::Rc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal};
use tracer::output::schema::{Because, Body, Cause, Confidence, KnownBy, Recovered, Refused, Role};

use tests::cgroup::Cgroup;
use tests::fixture::assert_sound;
use tests::needs::{Need, hierarchies};
use tests::netns::{self, Netns};
use tests::poll;
use tests::port::Port;
use tests::process::{Actor, ProcessSpec};
use tests::tracer::{Finished, Log, Tracer, finish};

use super::software::Software;

/// The fixture's address that is not loopback.
pub const ETH0: &str = "10.77.0.1";
pub const LOOPBACK: &str = "127.0.0.1";

/// Longer than the 50 ms for which a listener is a probe.
pub const MORE_THAN_A_PROBE: Duration = Duration::from_millis(120);

/// One scenario.
pub struct Scenario {
    /// Unique in the suite.
    pub name: &'static str,
    /// The record of the history so far.
    pub sentence: &'static str,
    /// What the log must report.
    pub cause: Cause,
    pub software: &'static [Software],
    /// What the host must be able to do, besides running the software.
    pub needs: &'static [Need],
    pub play: fn(&mut Stage),
}

impl Scenario {
    pub fn all_needs(&self) -> Vec<Need> {
        let mut needs = vec![Need::Root, Need::Network];
        needs.extend(self.needs);
        needs.extend(self.software.iter().map(|software| software.need()));
        needs
    }
}

/// Runs a scenario to its end.
pub fn run(scenario: &Scenario) {
    let mut stage = Stage::new(scenario.cause);
    (scenario.play)(&mut stage);
    assert!(stage.has_met_cause.get(), "the scenario expects no `{}`", scenario.cause.name());
    if stage.tracer.is_some() {
        stage.stop();
    }
}

/// Where a scenario is staged.
pub struct Stage {
    /// The port that tracer watches.
    pub port: u16,
    /// The namespace that servers and clients are in, unless a scenario names another.
    pub netns: Rc<Netns>,
    directory: tempfile::TempDir,
    tracer: Option<Tracer>,
    cause: Cause,
    has_met_cause: Cell<bool>,
    clients: Cell<u32>,
    files: Cell<u32>,
    ports: Vec<Port>,
    others: Vec<Rc<Netns>>,
    /// From 1 to 250, and of no other scenario that runs beside this one.
    number: u8,
}

/// How many scenarios have been staged.
static STAGED: AtomicU32 = AtomicU32::new(0);

impl Stage {
    fn new(cause: Cause) -> Self {
        let number = STAGED.fetch_add(1, Ordering::Relaxed) % 250 + 1;
        let directory = tempfile::tempdir().expect("a directory");
        let port = Port::take();
        let stage = Self {
            port: port.number,
            netns: Rc::new(Netns::with_eth0()),
            directory,
            tracer: None,
            cause,
            has_met_cause: Cell::new(false),
            clients: Cell::new(0),
            files: Cell::new(0),
            ports: vec![port],
            others: Vec::new(),
            number: u8::try_from(number).expect("at most 250"),
        };
        // Servers of other users read it.
        open_to_all(stage.directory.path(), 0o755);
        stage
    }

    /// Another port, which tracer watches only with `-p`.
    pub fn another_port(&mut self) -> u16 {
        let port = Port::take();
        let number = port.number;
        self.ports.push(port);
        number
    }

    /// Takes a port whose next one no other test uses, for a server that takes the next one.
    pub fn with_next_port(&mut self) {
        loop {
            let (port, next) = (Port::take(), Port::take());
            let (number, is_next) = (port.number, next.number == port.number + 1);
            self.ports.extend([port, next]);
            if is_next {
                self.port = number;
                return;
            }
        }
    }

    /// Another network namespace, with loopback.
    pub fn another_netns(&mut self) -> Rc<Netns> {
        let netns = Rc::new(Netns::with_loopback());
        self.others.push(Rc::clone(&netns));
        netns
    }

    /// The address of a container: no other scenario's has it, for a tracer sees all of the host.
    pub fn inside(&self) -> String {
        format!("172.17.{}.2", self.number)
    }

    /// A namespace on a bridge, as container engines make them: 172.17.0.1 on `docker0` of the scenario's namespace,
    /// [`Self::inside`] on `eth0` of the container.
    pub fn container(&mut self) -> Rc<Netns> {
        let container = self.another_netns();
        self.netns.ip("link add docker0 type bridge
            addr add 172.17.0.1/16 dev docker0
            link set docker0 up");
        self.netns.join("veth0", &container, "eth0");
        self.netns.ip("link set veth0 master docker0");
        container.ip(&format!(
            "addr add {}/16 dev eth0
            route add default via 172.17.0.1",
            self.inside()
        ));
        container
    }

    /// A directory of the scenario's own.
    pub fn directory(&self, name: &str) -> String {
        let path = self.directory.path().join(name);
        fs::create_dir_all(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        open_to_all(&path, 0o777);
        path.to_str().expect("UTF-8").to_owned()
    }

    /// Writes a file of the scenario's own.
    pub fn file(&self, name: &str, text: &str) -> String {
        let path = self.directory.path().join(name);
        fs::write(&path, text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        open_to_all(&path, 0o755);
        path.to_str().expect("UTF-8").to_owned()
    }

    /// The path of a file that a server makes.
    pub fn path(&self, name: &str) -> String {
        self.directory.path().join(name).to_str().expect("UTF-8").to_owned()
    }

    /// Starts tracer on the scenario's port and waits until it is ready.
    pub fn trace(&mut self) {
        self.trace_with(&[]);
    }

    pub fn trace_with(&mut self, more: &[&str]) {
        self.trace_ports(&[self.port], more);
    }

    pub fn trace_ports(&mut self, ports: &[u16], more: &[&str]) {
        self.tracer = Some(Tracer::start(ports, more));
    }

    fn tracer(&mut self) -> &mut Tracer {
        self.tracer.as_mut().expect("a scenario that is traced")
    }

    /// Stops tracer, which checks what must hold for every run, and returns its log.
    pub fn stop(&mut self) -> Log {
        self.tracer.take().expect("a scenario that is traced").stop()
    }

    /// Starts a server in the scenario's namespace.
    pub fn start(&self, launch: Launch) -> Server {
        self.start_in(&self.netns, launch)
    }

    pub fn start_in(&self, netns: &Netns, launch: Launch) -> Server {
        self.start_at(Some(netns), launch)
    }

    /// Starts a server in the namespace of the tests, for commands that enter the scenario's by themselves.
    pub fn start_outside(&self, launch: Launch) -> Server {
        self.start_at(None, launch)
    }

    fn start_at(&self, netns: Option<&Netns>, launch: Launch) -> Server {
        let number = self.files.replace(self.files.get() + 1);
        let log = self.directory.path().join(format!("{number}.log"));
        let output = File::create(&log).expect("a log");
        let mut command = Command::new(&launch.words[0]);
        command.args(&launch.words[1..]).current_dir(self.directory.path());
        command
            .env("HOME", self.directory.path())
            .env("LC_ALL", "C")
            .env("NO_COLOR", "1")
            .envs(launch.environment);
        command.stdin(Stdio::null()).stdout(output.try_clone().expect("a descriptor")).stderr(output);
        command.process_group(0);
        // SAFETY: umask(2) is all that runs between fork and exec.
        unsafe {
            command.pre_exec(|| {
                libc::umask(0o022);
                Ok(())
            });
        }
        if let Some(netns) = netns {
            netns.enter(&mut command);
        }
        let child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        Server { pid: child.id(), child, log, shown: launch.words.join(" "), stop: launch.stop }
    }

    /// A connect to the watched port, which is refused for the scenario's cause.
    pub fn refused(&mut self, to: &str) -> Refusal {
        self.refused_as(self.cause, to)
    }

    /// The same for another cause.
    pub fn refused_as(&mut self, cause: Cause, to: &str) -> Refusal {
        let netns = Rc::clone(&self.netns);
        self.refused_from(&netns, cause, to, self.port)
    }

    pub fn refused_from(&mut self, netns: &Netns, cause: Cause, to: &str, port: u16) -> Refusal {
        let refusal = self.connect(netns, to, port);
        self.expect(&refusal, cause);
        refusal
    }

    /// A connect to the watched port that is refused, for a cause that the scenario asserts by itself.
    pub fn refused_any(&mut self, to: &str) -> Refusal {
        let netns = Rc::clone(&self.netns);
        self.connect(&netns, to, self.port)
    }

    fn connect(&mut self, netns: &Netns, to: &str, port: u16) -> Refusal {
        let mut actor = self.client(netns);
        actor.send(&format!("connect {to}:{port}"));
        let refused = Err(rustix::io::Errno::CONNREFUSED.raw_os_error());
        assert_eq!(actor.outcome(), refused, "errno of the connect to {to}:{port}");
        let pid = actor.pid;
        let refusal = self.refusal("the refusal of the client", |line| line.client.pid == Some(pid));
        Refusal { _client: Some(actor), ..refusal }
    }

    /// The refusal of a server's own connect to a port, for the scenario's cause.
    pub fn upstream(&mut self, port: u16) -> Refusal {
        let refusal = self.refusal(&format!("an upstream refusal at port {port}"), |line| {
            line.role == Role::Upstream && line.dst.port == Some(port)
        });
        self.expect(&refusal, self.cause);
        refusal
    }

    /// The process of this name in the scenario's namespace, also after its parent has ended.
    pub fn process(&self, name: &str) -> u32 {
        poll(&format!("a process called {name}"), || {
            processes()
                .into_iter()
                .find(|&pid| is_in(pid, &[self.netns.id]) && comm(pid).as_deref() == Some(name))
        })
    }

    /// What the scenario expects.
    pub fn cause(&self) -> Cause {
        self.cause
    }

    /// Sets a kernel setting of the scenario's namespace, by its path below `/proc/sys`.
    pub fn setting(&self, path: &str, value: &str) {
        set(&self.netns, path, value);
    }

    /// Another host at an address: a router that resets each connection to it. No namespace has the address.
    pub fn another_host(&mut self, addr: &str) {
        let router = self.another_netns();
        self.netns.join("wan0", &router, "lan0");
        self.netns.ip("addr add 192.0.2.1/24 dev wan0
            route add 203.0.113.0/24 via 192.0.2.2");
        router.ip("addr add 192.0.2.2/24 dev lan0
            link add wan0 type veth peer name wan1
            link set wan0 up
            link set wan1 up
            route add 203.0.113.0/24 dev wan0");
        set(&router, "net/ipv4/ip_forward", "1");
        router.nft(&format!(
            "table inet host {{
                chain forward {{
                    type filter hook forward priority 0
                    ip daddr {addr} meta l4proto tcp reject with tcp reset
                }}
            }}"
        ));
    }

    /// Waits until nothing in the scenario's namespace listens on a port.
    pub fn not_listening(&self, port: u16) {
        // Any process of the namespace shows its sockets.
        let mut command = Command::new("/bin/sleep");
        let mut pause = self.netns.enter(command.arg("600")).spawn().expect("to run sleep");
        poll(&format!("the end of the listener on port {port}"), || {
            (!is_listening(pause.id(), port)).then_some(())
        });
        let _ = pause.kill();
        let _ = pause.wait();
    }

    /// The refusal of a process that the scenario did not start by itself.
    pub fn refusal(&mut self, what: &str, mut is_wanted: impl FnMut(&Refused) -> bool) -> Refusal {
        let (seq, line) = self.tracer().wait_for(what, |line| match &line.body {
            Body::Refused(refused) if is_wanted(refused) => Some((line.seq, (**refused).clone())),
            _ => None,
        });
        let refusal = Refusal { line, seq, _client: None };
        assert_sound(&refusal.line.verdict, &refusal.shown());
        refusal.never_shows("kill ");
        refusal
    }

    /// Asserts a refusal's cause.
    pub fn expect(&self, refusal: &Refusal, cause: Cause) {
        let verdict = &refusal.line.verdict;
        let is_wrong = verdict.cause != cause;
        let certainty = if verdict.confidence == Confidence::Certain { "certain" } else { "degraded" };
        assert!(
            !is_wrong,
            "the cause is `{}` ({certainty}) and not `{}`: {}",
            verdict.cause.name(),
            cause.name(),
            refusal.shown()
        );
        if cause == self.cause {
            self.has_met_cause.set(true);
        }
    }

    /// A process that connects. Its name is its own, so that its refusal is not counted as a repetition.
    fn client(&self, netns: &Netns) -> Actor {
        let number = self.clients.replace(self.clients.get() + 1);
        Actor::start(&netns.place(), &ProcessSpec::named(format!("client{number}")))
    }

    /// Asserts that a refusal has one of these causes, where two services have asked for the port.
    pub fn expect_one_of(&self, refusal: &Refusal, causes: &[Cause]) {
        let cause = refusal.line.verdict.cause;
        assert!(causes.contains(&cause), "the cause is `{}`: {}", cause.name(), refusal.shown());
        self.has_met_cause.set(true);
    }

    /// A connect that is answered.
    pub fn answered(&self, to: &str) {
        let mut actor = self.client(&self.netns);
        actor.must(&format!("connect {to}:{}", self.port));
    }

    /// Runs `curl` in the scenario's namespace.
    pub fn curl(&self, url: &str) -> Finished {
        self.curl_with(url, &[])
    }

    pub fn curl_with(&self, url: &str, more: &[&str]) -> Finished {
        let mut command = Command::new("/usr/bin/curl");
        command.args(["-sS", "--noproxy", "*", "--max-time", "60", "-w", "%{http_code}", url]);
        command.args(more).current_dir("/");
        self.netns.enter(&mut command);
        finish(command)
    }

    /// The line that a refused destination is answered again.
    pub fn recovered(&mut self, refusal: &Refusal) -> Recovered {
        let seq = refusal.seq;
        self.tracer().wait_for("the recovery", |line| match &line.body {
            Body::Recovered(recovered) if recovered.of.contains(&seq) => Some((**recovered).clone()),
            _ => None,
        })
    }

    /// The line that a client has reached the other family.
    pub fn fell_back(&mut self, refusal: &Refusal) {
        let seq = refusal.seq;
        self.tracer().wait_for("the fallback", |line| match &line.body {
            Body::Fallback(fallback) if fallback.of == Some(seq) => Some(()),
            _ => None,
        });
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        // What a server left behind, such as the second master of a binary upgrade.
        let ours: Vec<u32> = self.others.iter().chain([&self.netns]).map(|netns| netns.id).collect();
        for pid in processes().into_iter().filter(|&pid| is_in(pid, &ours)) {
            signal(pid, Signal::KILL);
        }
    }
}

/// Whether a process is in one of these network namespaces.
fn is_in(pid: u32, ours: &[u32]) -> bool {
    let netns = fs::metadata(format!("/proc/{pid}/ns/net")).map(|netns| netns.ino());
    netns.is_ok_and(|netns| ours.iter().any(|&id| u64::from(id) == netns))
}

/// Sets a kernel setting of a network namespace.
fn set(netns: &Netns, path: &str, value: &str) {
    let mut command = Command::new("/bin/sh");
    command.args(["-c", "echo \"$1\" > \"/proc/sys/$0\"", path, value]);
    netns::run(netns.enter(&mut command), "");
}

fn open_to_all(path: &std::path::Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode))
        .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
}

/// The processes of this host.
fn processes() -> Vec<u32> {
    let entries = fs::read_dir("/proc").expect("/proc");
    entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

/// Sends a process a signal.
pub fn signal(pid: u32, signal: Signal) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        let _ = rustix::process::kill_process(pid, signal);
    }
}

/// Waits for a time: for rules that are about time.
pub fn pass(time: Duration) {
    std::thread::sleep(time);
}

/// The control groups that a system unit has, in each hierarchy of this host.
pub struct Unit(Vec<Cgroup>);

impl Unit {
    pub fn new(name: &str) -> Self {
        let path = format!("system.slice/{name}");
        Self(hierarchies().iter().map(|hierarchy| Cgroup::new(hierarchy, path.as_bytes())).collect())
    }
}

/// How a server is started.
#[derive(Clone, Debug)]
pub struct Launch {
    words: Vec<String>,
    environment: Vec<(String, String)>,
    stop: Signal,
}

impl Launch {
    pub fn new<S: Into<String>>(words: impl IntoIterator<Item = S>) -> Self {
        let words = words.into_iter().map(Into::into).collect();
        Self { words, environment: Vec::new(), stop: Signal::KILL }
    }

    /// With these arguments too.
    pub fn with(mut self, words: &[&str]) -> Self {
        self.words.extend(words.iter().map(|&word| word.to_owned()));
        self
    }

    /// Started by this command.
    pub fn under(mut self, words: &[&str]) -> Self {
        self.words.splice(0..0, words.iter().map(|&word| word.to_owned()));
        self
    }

    /// In the control group of a systemd unit, from before it is executed.
    pub fn in_unit(self, unit: &Unit) -> Self {
        const JOIN: &str =
            "for procs in $UNIT_PROCS; do echo $$ > \"$procs\"; done; unset UNIT_PROCS; exec \"$@\"";
        let procs: Vec<String> = unit.0.iter().map(|cgroup| cgroup.procs().display().to_string()).collect();
        self.under(&["/bin/sh", "-c", JOIN, "sh"]).variable("UNIT_PROCS", &procs.join(" "))
    }

    /// As another user.
    pub fn by_user(self, user: &str) -> Self {
        self.under(&["/usr/bin/setpriv", "--reuid", user, "--regid", "nogroup", "--clear-groups"])
    }

    pub fn variable(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Ended by this signal, where it is not SIGKILL.
    pub fn stopped_by(self, stop: Signal) -> Self {
        Self { stop, ..self }
    }
}

/// A running server, which ends when it is dropped.
pub struct Server {
    /// The process that was started; of a server behind a wrapper, the wrapper's.
    pub pid: u32,
    child: Child,
    log: PathBuf,
    shown: String,
    stop: Signal,
}

impl Server {
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// Waits for an event while the server runs.
    pub fn wait_until<T>(&mut self, what: &str, mut ask: impl FnMut(&Self) -> Option<T>) -> T {
        let what = format!("{what} of `{}`", self.shown);
        poll(&what, || {
            let found = ask(self);
            let ended = self.child.try_wait().expect("to wait for a server");
            assert!(found.is_some() || ended.is_none(), "{what}: it ended with {ended:?}: {}", self.log());
            found
        })
    }

    /// Waits until something in the server's namespace listens on a port.
    pub fn up(mut self, port: u16) -> Self {
        self.wait_listening(port);
        self
    }

    pub fn wait_listening(&mut self, port: u16) {
        self.wait_until(&format!("a listener on port {port}"), |server| {
            is_listening(server.pid, port).then_some(())
        });
    }

    /// Waits for words in what it prints.
    pub fn printed(mut self, words: &str) -> Self {
        self.wait_until(&format!("`{words}`"), |server| server.log().contains(words).then_some(()));
        self
    }

    /// Waits until a file is there.
    pub fn made(mut self, path: &str) -> Self {
        self.wait_until(path, |_| std::path::Path::new(path).exists().then_some(()));
        self
    }

    /// The descendant that has this name.
    pub fn descendant(&mut self, comm: &str) -> u32 {
        self.wait_until(&format!("a descendant called {comm}"), |server| {
            descendants(server.pid).into_iter().find(|&pid| self::comm(pid).as_deref() == Some(comm))
        })
    }

    /// Its `comm`.
    pub fn comm(&self) -> Option<String> {
        comm(self.pid)
    }

    /// The processes that it has forked and that run.
    pub fn children(&self) -> Vec<u32> {
        children(self.pid)
    }

    /// The process and all that descend from it.
    pub fn processes(&self) -> Vec<u32> {
        descendants(self.pid)
    }

    /// The port that Vite has settled on.
    pub fn vite_port(&mut self) -> u16 {
        self.wait_until("the address", |server| {
            let log = server.log();
            let (_, address) = log.split_once("http://")?;
            address.split_once('/')?.0.rsplit(':').next()?.parse().ok()
        })
    }

    pub fn signal(&self, signal: Signal) {
        self::signal(self.pid, signal);
    }

    /// Waits for its end.
    pub fn ended(&mut self) -> ExitStatus {
        poll(&format!("the end of `{}`", self.shown), || self.child.try_wait().expect("to wait for a server"))
    }

    /// Ends it by a signal.
    pub fn end_by(&mut self, signal: Signal) -> ExitStatus {
        self.signal(signal);
        self.ended()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if !matches!(self.child.try_wait(), Ok(Some(_))) {
            self.signal(self.stop);
            let deadline = Instant::now() + Duration::from_secs(10);
            while matches!(self.child.try_wait(), Ok(None)) && Instant::now() < deadline {
                std::thread::sleep(Duration::from_millis(5));
            }
        }
        // Its group is its own.
        if let Some(group) = i32::try_from(self.pid).ok().and_then(Pid::from_raw) {
            let _ = rustix::process::kill_process_group(group, Signal::KILL);
        }
        let _ = self.child.wait();
    }
}

/// Whether a socket in a process's network namespace listens on a port.
pub fn is_listening(pid: u32, port: u16) -> bool {
    const LISTEN: &str = "0A";
    ["tcp", "tcp6"].iter().any(|table| {
        let table = fs::read_to_string(format!("/proc/{pid}/net/{table}")).unwrap_or_default();
        table.lines().skip(1).any(|line| {
            let mut words = line.split_whitespace().skip(1);
            let local = words.next().and_then(|local| local.rsplit(':').next());
            let is_port = local.and_then(|port| u16::from_str_radix(port, 16).ok()) == Some(port);
            is_port && words.nth(1) == Some(LISTEN)
        })
    })
}

/// Whether a process has ended, reaped or not.
pub fn has_ended(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(") ").next().is_none_or(|rest| rest.is_empty() || rest.starts_with(['Z', 'X']))
}

pub fn comm(pid: u32) -> Option<String> {
    let comm = fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
    Some(comm.trim_end().to_owned())
}

/// The processes that descend from one, itself included.
pub fn descendants(pid: u32) -> Vec<u32> {
    let mut found = vec![pid];
    let mut next = 0;
    while let Some(&parent) = found.get(next) {
        next += 1;
        found.extend(children(parent));
    }
    found
}

fn children(pid: u32) -> Vec<u32> {
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    children.split_whitespace().filter_map(|pid| pid.parse().ok()).collect()
}

/// A connect that was refused, and what the log reports of it.
pub struct Refusal {
    pub line: Refused,
    pub seq: u64,
    /// Runs until the scenario is over, so that its process id stays its own.
    _client: Option<Actor>,
}

impl Refusal {
    pub fn certain(&self) -> &Self {
        assert_eq!(self.line.verdict.confidence, Confidence::Certain, "{}", self.shown());
        self
    }

    pub fn degraded(&self, because: Because) -> &Self {
        let verdict = &self.line.verdict;
        assert!(verdict.because.contains(&because), "not {because:?}: {}", self.shown());
        self
    }

    /// Asserts the process that should have answered, and how that is known.
    pub fn server(&self, pid: u32, known_by: KnownBy) -> &Self {
        let server = self.line.verdict.server.as_ref();
        let server = server.unwrap_or_else(|| panic!("no server, not {pid}: {}", self.shown()));
        let named = (server.process.pid, server.known_by);
        assert_eq!(named, (Some(pid), known_by), "the server: {}", self.shown());
        self
    }

    /// The same where any process of an instance may be named, such as a worker that held the listener last.
    pub fn server_among(&self, pids: &[u32], known_by: KnownBy) -> &Self {
        let named = self.line.verdict.server.as_ref().and_then(|server| server.process.pid);
        let named = named.filter(|pid| pids.contains(pid));
        self.server(named.unwrap_or_else(|| panic!("not among {pids:?}: {}", self.shown())), known_by)
    }

    /// Asserts how many instances of the server were seen.
    pub fn instances(&self, count: u64) -> &Self {
        let server = self.line.verdict.server.as_ref();
        assert_eq!(server.map(|server| server.instances), Some(count), "instances: {}", self.shown());
        self
    }

    pub fn no_server(&self) -> &Self {
        assert!(self.line.verdict.server.is_none(), "a server: {}", self.shown());
        assert!(self.line.verdict.candidates.is_empty(), "candidates: {}", self.shown());
        self
    }

    /// Asserts that a process is not taken for a server.
    pub fn not_a_server(&self, pid: u32) -> &Self {
        let verdict = &self.line.verdict;
        let is_server = verdict.server.as_ref().is_some_and(|server| server.process.pid == Some(pid));
        let is_candidate = verdict.candidates.iter().any(|candidate| candidate.process.pid == Some(pid));
        assert!(!is_server && !is_candidate, "{pid} is taken for a server: {}", self.shown());
        self
    }

    /// Asserts words of the summary.
    pub fn summary_has(&self, words: &str) -> &Self {
        assert!(self.line.verdict.summary.contains(words), "the summary lacks `{words}`: {}", self.shown());
        self
    }

    /// Asserts words of the hint.
    pub fn hint_has(&self, words: &str) -> &Self {
        let hint = self.line.verdict.hint.as_deref().unwrap_or_default();
        assert!(hint.contains(words), "the hint lacks `{words}`: {}", self.shown());
        self
    }

    /// Asserts that the hint names no process by its number: it has ended.
    pub fn hint_names_not(&self, pid: u32) -> &Self {
        let hint = self.line.verdict.hint.as_deref().unwrap_or_default();
        let mut numbers = hint.split(|letter: char| !letter.is_ascii_digit());
        let is_named = numbers.any(|number| number == pid.to_string());
        assert!(!is_named, "the hint names {pid}: {}", self.shown());
        self
    }

    /// Asserts words of the summary or the hint.
    pub fn mentions(&self, words: &str) -> &Self {
        assert!(self.text().contains(words), "nothing mentions `{words}`: {}", self.shown());
        self
    }

    /// Asserts that neither the summary nor the hint has these words.
    pub fn never_shows(&self, words: &str) -> &Self {
        assert!(!self.text().contains(words), "`{words}` stands in the text: {}", self.shown());
        self
    }

    /// Asserts that the text does not report the process that listened as running: it has ended.
    pub fn has_ended(&self) -> &Self {
        self.never_shows("still running")
    }

    fn text(&self) -> String {
        let verdict = &self.line.verdict;
        format!("{}\n{}", verdict.summary, verdict.hint.as_deref().unwrap_or_default())
    }

    pub fn shown(&self) -> String {
        serde_json::to_string(&self.line).expect("a line")
    }
}
