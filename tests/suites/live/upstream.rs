//! Processes that hold a watched listener, and are refused themselves on another port: what a proxy's clients get as a 502
//! or an empty reply.

use std::fs;
use std::process::{Child, Command, Stdio};

use libtest_mimic::Trial;
use tests::fixture::{Client, Fixture, Listen, Listening};
use tests::limits;
use tests::needs::{DOCKER_PROXY, NGINX, Need, SOCAT};
use tests::port::Port;
use tests::process::{Actor, ProcessSpec};
use tests::suite::test;
use tests::tracer::{Log, Running};
use tracer::output::schema::{Because, Body, Cause, Change, Line, Mismatch, Refused, Role};

const NEEDS: &[Need] = &[Need::Root, Need::Network];
const NEEDS_NGINX: &[Need] = &[Need::Root, Need::Network, Need::Program(NGINX)];
const NEEDS_SOCAT: &[Need] = &[Need::Root, Need::Network, Need::Program(SOCAT)];
const NEEDS_DOCKER_PROXY: &[Need] = &[Need::Root, Need::Network, Need::Program(DOCKER_PROXY)];

/// An address of the fixture's namespace.
const ETH0: &str = "10.77.0.1";
const LOOPBACK: &str = "127.0.0.1";

pub fn all() -> Vec<Trial> {
    vec![
        test("upstream::of_a_listener_that_was_there", NEEDS, || of_a_listener(true)),
        test("upstream::of_a_listener_that_opens", NEEDS, || of_a_listener(false)),
        test("upstream::on_a_watched_port", NEEDS, on_a_watched_port),
        test("upstream::not_of_another_user", NEEDS, not_of_another_user),
        test("upstream::of_each_worker_that_shares_the_port", NEEDS, of_each_worker_that_shares_the_port),
        test(
            "upstream::of_a_holder_that_was_passed_the_listener",
            NEEDS,
            of_a_holder_that_was_passed_the_listener,
        ),
        test("upstream::of_the_child_of_a_daemon", NEEDS, of_the_child_of_a_daemon),
        test("upstream::after_exec_with_the_listener", NEEDS, after_exec_with_the_listener),
        test("upstream::its_port_is_watched_from_then_on", NEEDS, its_port_is_watched_from_then_on),
        test("upstream::hop_by_hop", NEEDS, hop_by_hop),
        test("upstream::by_icmp", &[Need::Root, Need::Network, Need::Nft], by_icmp),
        test("upstream::of_nginx_that_was_there", NEEDS_NGINX, || of_nginx(true)),
        test("upstream::of_nginx_that_starts", NEEDS_NGINX, || of_nginx(false)),
        test("upstream::of_socat", NEEDS_SOCAT, of_socat),
        test("upstream::of_docker_proxy", NEEDS_DOCKER_PROXY, of_docker_proxy),
        test("upstream::a_run_without_a_connect_reports_it", NEEDS, a_run_without_a_connect_reports_it),
    ]
}

/// Has a process connect to a port, where it is refused.
fn is_refused(actor: &mut Actor, addr: &str, port: u16) {
    actor.send(&format!("connect {addr}:{port}"));
    let refused = rustix::io::Errno::CONNREFUSED.raw_os_error();
    assert_eq!(actor.outcome(), Err(refused), "of process {} at {addr}:{port}", actor.pid);
}

/// The line of a refusal at a port.
fn line_at(fixture: &mut Fixture, port: u16) -> Refused {
    fixture.tracer().wait_for(&format!("a refusal at port {port}"), |line| at(line, port))
}

fn at(line: &Line, port: u16) -> Option<Refused> {
    match &line.body {
        Body::Refused(refused) if refused.dst.port == Some(port) => Some((**refused).clone()),
        _ => None,
    }
}

/// How many refusals of each role the log counts, and how many on the watched ports.
fn counted(log: &Log) -> (u64, u64, u64) {
    let stop = log.stop();
    let of = |role| stop.by_role.get(role).unwrap_or(0);
    (of(Role::Client), of(Role::Upstream), stop.refused)
}

/// Waits until the tracer knows that a process holds the listener: a refusal at another address of its port shows it.
fn wait_for_holder(fixture: &mut Fixture, pid: u32) {
    let mut shown = String::new();
    for _ in 0..100 {
        let refusal = fixture.refused("127.0.0.2");
        let holders = refusal.line.verdict.listeners.iter().map(|one| one.listener.process.pid);
        if holders.clone().any(|holder| holder == Some(pid)) {
            return;
        }
        shown = refusal.shown();
    }
    panic!("process {pid} is not known to hold the listener: {shown}");
}

fn of_a_listener(was_there: bool) {
    let mut fixture = Fixture::begin();
    let upstream = Port::take();
    let mut proxy = if was_there {
        let proxy = fixture.listen(LOOPBACK);
        fixture.trace();
        proxy
    } else {
        fixture.trace();
        fixture.listen(LOOPBACK)
    };
    is_refused(&mut proxy, LOOPBACK, upstream.number);
    let refused = line_at(&mut fixture, upstream.number);
    assert_eq!((refused.role, refused.client.pid), (Role::Upstream, Some(proxy.pid)), "{refused:?}");
    let verdict = &refused.verdict;
    assert_eq!(verdict.cause, Cause::NothingListening, "{refused:?}");
    assert!(verdict.because.contains(&Because::NotWatchedBefore), "{refused:?}");
    let serves = format!("gateway serves {LOOPBACK}:{}: its clients ", fixture.port());
    assert!(verdict.summary.starts_with(&serves), "{refused:?}");
    // From a thread too, and without blocking.
    proxy.send(&format!("connect {LOOPBACK}:{} thread", upstream.number));
    proxy.outcome().expect_err("refused");
    proxy.send(&format!("connect {LOOPBACK}:{} nonblocking", upstream.number));
    proxy.outcome().expect_err("refused");
    assert_eq!(counted(&fixture.end()), (0, 3, 0));
}

fn on_a_watched_port() {
    let mut fixture = Fixture::with_ports(2);
    let other = fixture.ports[1].number;
    fixture.trace();
    let mut proxy = fixture.listen(LOOPBACK);
    is_refused(&mut proxy, LOOPBACK, other);
    let refused = line_at(&mut fixture, other);
    assert_eq!((refused.role, refused.verdict.cause), (Role::Upstream, Cause::NothingListening));
    // Where what was bound before the start is not seen, it can be the reason.
    let because: &[Because] =
        if limits::is_expected("bound-before-start") { &[Because::HookMissing] } else { &[] };
    assert_eq!(refused.verdict.because, because, "{refused:?}");
    assert_eq!(counted(&fixture.end()), (0, 1, 1));
}

fn not_of_another_user() {
    let mut fixture = Fixture::begin();
    let [upstream, other] = [Port::take(), Port::take()];
    fixture.trace();
    let mut proxy = fixture.listen(LOOPBACK);
    let mut other_process = Actor::start(&fixture.netns.place(), &ProcessSpec::named("other_process"));
    is_refused(&mut other_process, LOOPBACK, upstream.number);
    is_refused(&mut proxy, LOOPBACK, upstream.number);
    line_at(&mut fixture, upstream.number);
    is_refused(&mut other_process, LOOPBACK, other.number);
    // What came after it is there, so it would be too.
    fixture.refused("127.0.0.2").cause(Cause::WrongAddress);
    let log = fixture.end();
    let pids: Vec<_> = log.refusals().map(|refused| refused.client.pid).collect();
    assert!(!pids.contains(&Some(other_process.pid)), "{}", log.text());
    assert_eq!(counted(&log), (1, 1, 1));
}

fn of_each_worker_that_shares_the_port() {
    let mut fixture = Fixture::begin();
    let upstreams = [Port::take(), Port::take()];
    let worker = || Listen::at(LOOPBACK).with("reuseport");
    let there = fixture.listen(worker());
    fixture.trace();
    let opens = fixture.listen(worker());
    for (mut worker, upstream) in [there, opens].into_iter().zip(&upstreams) {
        is_refused(&mut worker, LOOPBACK, upstream.number);
        let refused = line_at(&mut fixture, upstream.number);
        assert_eq!((refused.role, refused.client.pid), (Role::Upstream, Some(worker.pid)), "{refused:?}");
    }
    assert_eq!(counted(&fixture.end()), (0, 2, 0));
}

/// The process that opened it closes it and executes another program: it is not followed any more, and the one that was
/// passed the listener is.
fn of_a_holder_that_was_passed_the_listener() {
    let mut fixture = Fixture::begin();
    let upstreams = [Port::take(), Port::take()];
    fixture.trace();
    let mut opener: Listening = fixture.listen(LOOPBACK);
    let mut heir = Actor::start(&fixture.netns.place(), &ProcessSpec::named("heir"));
    let mailbox = heir.mailbox();
    opener.pass(&mailbox);
    heir.take();
    // Its own descriptor, not the listener.
    opener.close();
    opener.exec("other");
    wait_for_holder(&mut fixture, heir.pid);
    is_refused(&mut opener, LOOPBACK, upstreams[0].number);
    is_refused(&mut heir, LOOPBACK, upstreams[1].number);
    let refused = line_at(&mut fixture, upstreams[1].number);
    assert_eq!((refused.role, refused.client.pid), (Role::Upstream, Some(heir.pid)), "{refused:?}");
    let log = fixture.end();
    assert!(!log.lines.iter().any(|line| at(line, upstreams[0].number).is_some()), "{}", log.text());
}

/// It forks and ends, and its child goes on with the listener.
fn of_the_child_of_a_daemon() {
    let mut fixture = Fixture::begin();
    let upstream = Port::take();
    fixture.trace();
    let mut daemon = fixture.listen(LOOPBACK);
    daemon.fork();
    wait_for_holder(&mut fixture, daemon.pid);
    is_refused(&mut daemon, LOOPBACK, upstream.number);
    let refused = line_at(&mut fixture, upstream.number);
    assert_eq!((refused.role, refused.client.pid), (Role::Upstream, Some(daemon.pid)), "{refused:?}");
    fixture.end();
}

fn after_exec_with_the_listener() {
    let mut fixture = Fixture::begin();
    let upstream = Port::take();
    fixture.trace();
    let mut server = fixture.listen(LOOPBACK);
    server.exec("renewed");
    // It is followed again once its descriptors have been read, which the lines of other refusals leave time for.
    for _ in 0..12 {
        is_refused(&mut server, LOOPBACK, upstream.number);
        drop(fixture.refused("127.0.0.2"));
    }
    let refused = line_at(&mut fixture, upstream.number);
    assert_eq!((refused.role, refused.client.pid), (Role::Upstream, Some(server.pid)), "{refused:?}");
    fixture.end();
}

fn its_port_is_watched_from_then_on() {
    let mut fixture = Fixture::begin();
    let upstream = Port::take();
    let mut backend = Actor::start(&fixture.netns.place(), &ProcessSpec::named("backend"));
    backend.must(&format!("bind {ETH0}:{}", upstream.number));
    backend.listen(16).expect("to listen");
    fixture.trace();
    let worker = || Listen::at(LOOPBACK).with("reuseport");
    let mut proxies = [fixture.listen(worker()), fixture.listen(worker())];

    is_refused(&mut proxies[0], LOOPBACK, upstream.number);
    let first = line_at(&mut fixture, upstream.number);
    assert_eq!(first.verdict.cause, Cause::WrongAddress, "{first:?}");
    assert!(first.verdict.because.contains(&Because::NotWatchedBefore), "{first:?}");
    let evaluated = &first.verdict.listeners[0];
    assert_eq!(
        (evaluated.listener.process.pid, evaluated.mismatch),
        (Some(backend.pid), Some(Mismatch::Address))
    );

    // What happens on the port is known now.
    backend.must("close");
    fixture.tracer().listener(Change::Closed, backend.pid);
    backend.must(&format!("bind {LOOPBACK}:{}", upstream.number));
    backend.listen(16).expect("to listen");
    fixture.tracer().wait_for("the recovery", |line| match &line.body {
        Body::Recovered(recovered) if recovered.dst.port == Some(upstream.number) => Some(()),
        _ => None,
    });
    backend.kill();
    fixture.tracer().wait_for("the end of its listener", |line| match &line.body {
        Body::Listener(line) if line.change == Change::Closed && line.listener.addr == LOOPBACK => Some(()),
        _ => None,
    });
    is_refused(&mut proxies[1], LOOPBACK, upstream.number);
    let pid = proxies[1].pid;
    let second = fixture.tracer().refused(pid);
    assert_eq!((second.role, second.verdict.cause), (Role::Upstream, Cause::Stopped), "{second:?}");
    assert!(!second.verdict.because.contains(&Because::NotWatchedBefore), "{second:?}");

    // Another process is a client there, and counts on that port alone.
    let mut client = Actor::start(&fixture.netns.place(), &ProcessSpec::named("client"));
    is_refused(&mut client, LOOPBACK, upstream.number);
    assert_eq!(fixture.tracer().refused(client.pid).role, Role::Client);
    assert_eq!(counted(&fixture.end()), (1, 2, 0));
}

/// The process that listens where another one was refused is followed too, three hops deep.
fn hop_by_hop() {
    let mut fixture = Fixture::begin();
    let hops: Vec<Port> = (0..5).map(|_| Port::take()).collect();
    fixture.trace();
    let mut first = fixture.listen(LOOPBACK);
    let mut behind: Vec<Actor> = Vec::new();
    for (number, hop) in hops.iter().take(4).enumerate() {
        let client: &mut Actor = behind.last_mut().unwrap_or(&mut first);
        is_refused(client, LOOPBACK, hop.number);
        let pid = client.pid;
        let refused = line_at(&mut fixture, hop.number);
        assert_eq!((refused.role, refused.client.pid), (Role::Upstream, Some(pid)), "{refused:?}");
        let mut next = Actor::start(&fixture.netns.place(), &ProcessSpec::named("next"));
        next.must(&format!("bind {LOOPBACK}:{}", hop.number));
        next.listen(16).expect("to listen");
        if number < 3 {
            fixture.tracer().listener(Change::Opened, next.pid);
        }
        behind.push(next);
    }
    // What listens behind the third hop is not known, nor what it connects to.
    is_refused(behind.last_mut().expect("the last one"), LOOPBACK, hops[4].number);
    fixture.refused("127.0.0.2");
    let log = fixture.end();
    assert!(!log.lines.iter().any(|line| at(line, hops[4].number).is_some()), "{}", log.text());
    let listening = log.listeners().filter(|line| line.listener.port == hops[3].number).count();
    assert_eq!(listening, 0, "{}", log.text());
}

/// Where nothing but an ICMP message refuses.
fn by_icmp() {
    let mut fixture = Fixture::begin();
    let upstream = Port::take();
    fixture.netns.nft(&format!(
        "table inet filter {{
            chain input {{
                type filter hook input priority 0
                tcp dport {} reject
            }}
        }}",
        upstream.number
    ));
    fixture.trace();
    let mut proxy = fixture.listen(LOOPBACK);
    // Where no tracepoint shows it, a refusal of a connect that does not block is not seen.
    let how = if limits::is_expected("no-icmp-refusals") { "" } else { " nonblocking" };
    proxy.send(&format!("connect {LOOPBACK}:{}{how}", upstream.number));
    proxy.outcome().expect_err("refused");
    let refused = line_at(&mut fixture, upstream.number);
    assert_eq!((refused.role, refused.verdict.cause), (Role::Upstream, Cause::Filtered), "{refused:?}");
    fixture.end();
}

/// A real server, which ends when it is dropped, with its workers.
struct Real {
    child: Child,
    _directory: tempfile::TempDir,
}

impl Real {
    fn start(fixture: &Fixture, directory: tempfile::TempDir, command: &mut Command) -> Self {
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = fixture.netns.enter(command).spawn().expect("to start a server");
        Self { child, _directory: directory }
    }

    /// nginx, which passes what it is asked on port `from` to `to`, by a worker.
    fn nginx(fixture: &Fixture, from: u16, to: u16) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let path = |name: &str| directory.path().join(name).display().to_string();
        let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .map(|name| format!("{name}_temp_path {};\n", path(name)))
            .concat();
        let configuration = format!(
            "user root;\nworker_processes 1;\ndaemon off;\npid {};\nerror_log {};\nevents {{}}\nhttp {{\naccess_log off;\n\
             {temporary}server {{ listen {LOOPBACK}:{from}; location / {{ proxy_pass http://{LOOPBACK}:{to}; }} }}\n}}\n",
            path("pid"),
            path("log"),
        );
        fs::write(path("conf"), configuration).expect("to write the configuration");
        let conf = path("conf");
        Self::start(fixture, directory, Command::new(NGINX).arg("-c").arg(conf))
    }
}

impl Drop for Real {
    fn drop(&mut self) {
        if let Some(pid) = i32::try_from(self.child.id()).ok().and_then(rustix::process::Pid::from_raw) {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        }
        let _ = self.child.wait();
    }
}

/// Waits until a connect to the port is answered.
fn wait_for_server(fixture: &Fixture, port: u16) {
    let mut client = Actor::start(&fixture.netns.place(), &ProcessSpec::named("waits"));
    tests::poll("the server to listen", || {
        client.send(&format!("connect {LOOPBACK}:{port}"));
        client.outcome().ok()
    });
}

/// The status that an HTTP server answers with.
fn ask(fixture: &Fixture, port: u16) -> String {
    let mut curl = Command::new("curl");
    curl.args(["--silent", "--noproxy", "*", "--output", "/dev/null", "--write-out", "%{http_code}"]);
    curl.arg(format!("http://{LOOPBACK}:{port}/"));
    let output = fixture.netns.enter(&mut curl).output().expect("to run curl");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn of_nginx(was_there: bool) {
    let mut fixture = Fixture::begin();
    let (port, upstream) = (fixture.port(), Port::take());
    let nginx = if was_there {
        let nginx = Real::nginx(&fixture, port, upstream.number);
        wait_for_server(&fixture, port);
        fixture.trace();
        nginx
    } else {
        fixture.trace();
        let nginx = Real::nginx(&fixture, port, upstream.number);
        fixture.tracer().listener(Change::Opened, nginx.child.id());
        nginx
    };
    assert_eq!(ask(&fixture, port), "502");
    let refused = line_at(&mut fixture, upstream.number);
    // A worker, which has inherited the listener.
    assert_eq!((refused.role, refused.client.ppid), (Role::Upstream, Some(nginx.child.id())), "{refused:?}");
    assert_eq!(refused.verdict.cause, Cause::NothingListening, "{refused:?}");
    let serves = format!("nginx serves {LOOPBACK}:{port}: its clients get 502; ");
    assert!(refused.verdict.summary.starts_with(&serves), "{refused:?}");
    assert_eq!(counted(&fixture.end()), (0, 1, 0));
}

fn of_socat() {
    let mut fixture = Fixture::begin();
    let (port, upstream) = (fixture.port(), Port::take());
    fixture.trace();
    let mut socat = Command::new(SOCAT);
    socat.arg(format!("TCP4-LISTEN:{port},bind={LOOPBACK},reuseaddr,fork"));
    socat.arg(format!("TCP4:{LOOPBACK}:{}", upstream.number));
    let socat = Real::start(&fixture, tempfile::tempdir().expect("a directory"), &mut socat);
    fixture.tracer().listener(Change::Opened, socat.child.id());
    // The proxy answers; the destination that it passes the request on to does not.
    fixture.answered(LOOPBACK);
    let refused = line_at(&mut fixture, upstream.number);
    // The child that it forks for a connection, which closes the listener and executes nothing.
    assert_eq!((refused.role, refused.client.ppid), (Role::Upstream, Some(socat.child.id())), "{refused:?}");
    let serves = format!("serves {LOOPBACK}:{port}: its clients see \"empty reply\"");
    assert!(refused.verdict.summary.contains(&serves), "{refused:?}");
    fixture.end();
}

fn of_docker_proxy() {
    let mut fixture = Fixture::begin();
    let (port, upstream) = (fixture.port(), Port::take());
    // As in a container: it listens on its loopback address alone.
    let mut inside = Actor::start(&fixture.netns.place(), &ProcessSpec::named("inside"));
    inside.must(&format!("bind {LOOPBACK}:{}", upstream.number));
    inside.listen(16).expect("to listen");
    fixture.trace();
    let mut proxy = Command::new("sh");
    // It reports on descriptor 3 that it listens.
    proxy.args(["-c", "exec \"$0\" \"$@\" 3>/dev/null", DOCKER_PROXY, "-proto", "tcp", "-host-ip", LOOPBACK]);
    proxy.args(["-host-port", &port.to_string(), "-container-ip", ETH0]);
    proxy.args(["-container-port", &upstream.number.to_string()]);
    let proxy = Real::start(&fixture, tempfile::tempdir().expect("a directory"), &mut proxy);
    fixture.tracer().listener(Change::Opened, proxy.child.id());
    fixture.answered(Client::blocking(LOOPBACK));
    let refused = line_at(&mut fixture, upstream.number);
    assert_eq!((refused.role, refused.client.pid), (Role::Upstream, Some(proxy.child.id())), "{refused:?}");
    assert_eq!(refused.verdict.cause, Cause::WrongAddress, "{refused:?}");
    let owner = refused.verdict.listeners[0].listener.process.pid;
    assert_eq!(owner, Some(inside.pid), "{refused:?}");
    let serves = format!("docker-proxy serves {LOOPBACK}:{port}: its clients see \"empty reply\"");
    assert!(refused.verdict.summary.starts_with(&serves), "{refused:?}");
    fixture.end();
}

fn a_run_without_a_connect_reports_it() {
    let fixture = Fixture::begin();
    let (port, elsewhere) = (fixture.port().to_string(), Port::take());
    let output = |connects_to: Option<u16>| {
        let mut running = Running::spawn(["-p", &port]);
        let stdout = running.read_stdout();
        running.wait_ready();
        if let Some(port) = connects_to {
            let mut client = Actor::start(&fixture.netns.place(), &ProcessSpec::named("client"));
            is_refused(&mut client, LOOPBACK, port);
        }
        running.signal(rustix::process::Signal::INT);
        assert!(running.wait_exit().success());
        stdout.join().expect("to read stdout");
        // All of it is there once the pipe has ended.
        tests::poll("stderr to end", || running.stderr_if_ended())
    };
    let sentence = format!("0 connects to {port} were seen");
    assert!(output(None).contains(&sentence));
    assert!(output(Some(elsewhere.number)).contains(&sentence));
    assert!(!output(Some(fixture.port())).contains(&sentence));
}
