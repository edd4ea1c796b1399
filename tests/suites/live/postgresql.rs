//! A real PostgreSQL 15 that does not answer where the client asks: its settings beside its sockets, and its hints.

use std::fs::{self, File};
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use libtest_mimic::Trial;
use rustix::process::{Pid, Signal};
use tracer::output::schema::{Because, Cause, ConfiguredValue, Verdict};

use tests::fixture::{Client, Fixture};
use tests::needs::{Need, POSTGRESQL, user};
use tests::netns::{Netns, run};
use tests::poll;
use tests::port::Port;
use tests::process::ProcessSpec;
use tests::suite::test;

const NEEDS: &[Need] = &[Need::Root, Need::Network, Need::PostgreSql];

/// An address of the fixture's namespace.
const ETH0: &str = "10.77.0.1";
const LOOPBACK: &str = "127.0.0.1";

const RESTART: &str = "then restart PostgreSQL (a reload is not enough)";

pub fn all() -> Vec<Trial> {
    vec![
        test("postgresql::on_loopback_by_its_file", NEEDS, on_loopback_by_its_file),
        test("postgresql::on_one_address_by_its_file", NEEDS, on_one_address_by_its_file),
        test("postgresql::arguments_win_over_the_file", NEEDS, arguments_win_over_the_file),
        test("postgresql::altered_after_its_start", NEEDS, altered_after_its_start),
        test("postgresql::with_its_configuration_elsewhere", NEEDS, with_its_configuration_elsewhere),
        test("postgresql::an_address_that_is_not_there", NEEDS, an_address_that_is_not_there),
        test("postgresql::is_not_expected_on_any_port", NEEDS, is_not_expected_on_any_port),
    ]
}

/// A database cluster of its own, and where its server writes its log.
struct Cluster {
    directory: tempfile::TempDir,
}

/// A running server, which ends when it is dropped.
struct Server {
    child: Child,
    log: PathBuf,
}

impl Cluster {
    fn new() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let (uid, gid) = user("postgres").expect("the user of PostgreSQL");
        chown(directory.path(), Some(uid), Some(gid)).expect("to give a directory away");
        let cluster = Self { directory };
        let mut initdb = as_postgres("initdb");
        initdb.args(["--no-sync", "--auth=trust", "--pgdata"]).arg(cluster.data());
        run(&mut initdb, "");
        cluster
    }

    /// A directory of its user's. Whatever the umask is, the server can enter it.
    fn directory(&self, path: &Path) {
        fs::create_dir(path).expect("a directory");
        let (uid, gid) = user("postgres").expect("the user of PostgreSQL");
        chown(path, Some(uid), Some(gid)).expect("to give a directory away");
    }

    fn data(&self) -> PathBuf {
        self.directory.path().join("data")
    }

    fn file(&self) -> PathBuf {
        self.data().join("postgresql.conf")
    }

    fn auto_file(&self) -> PathBuf {
        self.data().join("postgresql.auto.conf")
    }

    /// Adds lines to its configuration file.
    fn configure(&self, lines: &str) {
        let mut text = fs::read_to_string(self.file()).expect("to read the configuration");
        text.push_str(lines);
        fs::write(self.file(), text).expect("to write the configuration");
    }

    /// Starts the server, which need not come up.
    fn launch(&self, netns: &Netns, arguments: &[&str]) -> Server {
        let log = self.directory.path().join("log");
        let file = File::create(&log).expect("a log");
        let mut command = as_postgres("postgres");
        command.arg("-D").arg(self.data()).arg("-k").arg(self.directory.path()).args(arguments);
        command.env_clear().env("LC_ALL", "C").stdin(Stdio::null());
        command.stdout(file.try_clone().expect("a descriptor")).stderr(file);
        let child = netns.enter(&mut command).spawn().expect("to start PostgreSQL");
        Server { child, log }
    }

    /// Starts the server, and waits until it accepts connections.
    fn start(&self, netns: &Netns, arguments: &[&str]) -> Server {
        let mut server = self.launch(netns, arguments);
        poll("PostgreSQL to accept connections", || {
            let log = server.log();
            let ended = server.child.try_wait().expect("to wait for PostgreSQL");
            assert!(ended.is_none(), "PostgreSQL ended: {log}");
            log.contains("ready to accept connections").then_some(())
        });
        server
    }

    /// Runs a statement by its Unix socket.
    fn execute(&self, port: u16, statement: &str) {
        let mut psql = as_postgres("psql");
        psql.args(["-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", "postgres", "-U", "postgres", "-p"]);
        psql.arg(port.to_string()).arg("-h").arg(self.directory.path()).args(["-c", statement]);
        run(&mut psql, "");
    }
}

impl Server {
    fn pid(&self) -> u32 {
        self.child.id()
    }

    fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // An immediate shutdown: it takes its shared memory with it, which SIGKILL would leave behind.
        if let Some(pid) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) {
            let _ = rustix::process::kill_process(pid, Signal::QUIT);
        }
        let _ = self.child.wait();
    }
}

/// One of its programs, as its user: the server does not run as root.
fn as_postgres(program: &str) -> Command {
    let mut command = Command::new("/usr/bin/setpriv");
    command.args(["--reuid", "postgres", "--regid", "postgres", "--clear-groups"]);
    command.arg(Path::new(POSTGRESQL).join(program)).current_dir("/");
    command
}

/// What is configured, from which source, and whether the sockets agree, of one setting.
fn configured<'a>(
    claims: &'a [ConfiguredValue],
    what: &str,
) -> Vec<(&'a str, Option<&'a str>, Option<bool>)> {
    let of_setting = claims.iter().filter(|configured| configured.what == what);
    of_setting
        .map(|configured| (configured.source.as_str(), configured.value.as_deref(), configured.agrees))
        .collect()
}

fn text(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

/// A client of the server's own user: for other users, a server outside of any unit is unverified.
fn psql(to: &str) -> Client {
    let (uid, _) = user("postgres").expect("the user of PostgreSQL");
    Client::blocking(to).by(ProcessSpec::named("psql").uid(uid))
}

/// The verdict on a connect that is refused at an address of the server's namespace.
fn refused(fixture: &mut Fixture, server: &Server, to: &str) -> Verdict {
    fixture.trace();
    let refusal = fixture.refused(psql(to));
    refusal.cause(Cause::WrongAddress);
    let owner = refusal.line.verdict.listeners[0].listener.process.pid;
    assert_eq!(owner, Some(server.pid()), "{}", refusal.shown());
    refusal.line.verdict.clone()
}

fn on_loopback_by_its_file() {
    let mut fixture = Fixture::begin();
    let (port, cluster) = (fixture.port(), Cluster::new());
    cluster.configure(&format!("port = {port}\nlisten_addresses = 'localhost'  # the default\n"));
    let server = cluster.start(&fixture.netns, &[]);
    let verdict = refused(&mut fixture, &server, ETH0);
    let file = cluster.file();
    assert_eq!(
        configured(&verdict.claims, "listen_addresses"),
        [(text(&file), Some("localhost"), Some(true))]
    );
    assert_eq!(
        configured(&verdict.claims, "port"),
        [(text(&file), Some(port.to_string().as_str()), Some(true))]
    );
    assert_eq!(
        verdict.hint.expect("a hint"),
        format!(
            "on this host use {LOOPBACK}:{port}; permanent fix for other hosts: listen_addresses = 'localhost,{ETH0}' in \
             postgresql.conf, a line in pg_hba.conf that asks those clients for a password (scram-sha-256) and a firewall, \
             {RESTART}"
        )
    );
    // The hint for a server that starts rests on this: PostgreSQL opens the port before it recovers.
    let log = server.log();
    let at = |line: &str| log.find(line).unwrap_or_else(|| panic!("{line}: {log}"));
    assert!(at("listening on IPv4 address") < at("database system was shut down"), "{log}");
    fixture.end();
}

fn on_one_address_by_its_file() {
    let mut fixture = Fixture::begin();
    let (port, cluster) = (fixture.port(), Cluster::new());
    cluster.configure(&format!("port = {port}\nlisten_addresses = '{ETH0}'\n"));
    let server = cluster.start(&fixture.netns, &[]);
    let verdict = refused(&mut fixture, &server, LOOPBACK);
    assert_eq!(
        configured(&verdict.claims, "listen_addresses"),
        [(text(&cluster.file()), Some(ETH0), Some(true))]
    );
    assert_eq!(
        verdict.hint.expect("a hint"),
        format!(
            "now: use {ETH0}:{port}; permanent fix: listen_addresses = '{ETH0},{LOOPBACK}' in postgresql.conf, {RESTART}"
        )
    );
    fixture.end();
}

fn arguments_win_over_the_file() {
    let mut fixture = Fixture::begin();
    let (port, cluster) = (fixture.port(), Cluster::new());
    cluster.configure("port = 1\nlisten_addresses = '*'\n");
    let (in_arguments, on_port) = (format!("listen_addresses={ETH0}"), port.to_string());
    let server = cluster.start(&fixture.netns, &["-c", &in_arguments, "-p", &on_port]);
    let verdict = refused(&mut fixture, &server, LOOPBACK);
    let file = cluster.file();
    assert_eq!(
        configured(&verdict.claims, "listen_addresses"),
        [("arguments", Some(ETH0), Some(true)), (text(&file), Some("*"), None)]
    );
    assert_eq!(
        configured(&verdict.claims, "port"),
        [("arguments", Some(on_port.as_str()), Some(true)), (text(&file), Some("1"), None)]
    );
    assert_eq!(
        verdict.hint.expect("a hint"),
        "the file is already right, and the listen_addresses of its arguments wins over it: take that away, then start a \
         new process"
    );
    fixture.end();
}

/// ALTER SYSTEM writes a file of its own, which the server has read already.
fn altered_after_its_start() {
    let mut fixture = Fixture::begin();
    let (port, cluster) = (fixture.port(), Cluster::new());
    cluster.configure(&format!("port = {port}\n"));
    let server = cluster.start(&fixture.netns, &[]);
    cluster.execute(port, "ALTER SYSTEM SET listen_addresses = '*'");
    cluster.execute(port, "SELECT pg_reload_conf()");
    let verdict = refused(&mut fixture, &server, ETH0);
    assert_eq!(
        configured(&verdict.claims, "listen_addresses"),
        [(text(&cluster.auto_file()), Some("*"), Some(false))]
    );
    let hint = verdict.hint.expect("a hint");
    assert!(
        hint.starts_with("the file is already right. The process took its bind when it started"),
        "{hint}"
    );
    fixture.end();
}

/// As Debian has it: the configuration is not in the data directory, and includes a directory that is empty; what ALTER
/// SYSTEM writes is in the data directory.
fn with_its_configuration_elsewhere() {
    let mut fixture = Fixture::begin();
    let (port, cluster) = (fixture.port(), Cluster::new());
    cluster.configure(&format!("port = {port}\nlisten_addresses = '*'\ninclude_dir = 'conf.d'\n"));
    let elsewhere = cluster.directory.path().join("etc");
    cluster.directory(&elsewhere);
    cluster.directory(&elsewhere.join("conf.d"));
    let file = elsewhere.join("postgresql.conf");
    fs::rename(cluster.file(), &file).expect("to move the configuration");
    let mut auto = fs::read_to_string(cluster.auto_file()).expect("to read a file");
    auto.push_str(&format!("listen_addresses = '{ETH0}'\n"));
    fs::write(cluster.auto_file(), auto).expect("to write a file");
    let server = cluster.start(&fixture.netns, &["-c", &format!("config_file={}", text(&file))]);
    let verdict = refused(&mut fixture, &server, LOOPBACK);
    let auto_file = cluster.auto_file();
    assert_eq!(
        configured(&verdict.claims, "listen_addresses"),
        [(text(&auto_file), Some(ETH0), Some(true)), (text(&file), Some("*"), None)]
    );
    let won_over = format!("the listen_addresses of its {} wins over it", text(&auto_file));
    let hint = verdict.hint.expect("a hint");
    assert!(hint.contains(&won_over), "{hint}");
    fixture.end();
}

fn an_address_that_is_not_there() {
    let mut fixture = Fixture::begin();
    let (port, cluster) = (fixture.port(), Cluster::new());
    cluster.configure(&format!("port = {port}\nlisten_addresses = '192.0.2.7'\n"));
    fixture.trace();
    let mut server = cluster.launch(&fixture.netns, &[]);
    let status = server.child.wait().expect("the end of PostgreSQL");
    assert!(!status.success(), "{}", server.log());
    let refusal = fixture.refused(LOOPBACK);
    refusal.verdict(Cause::BindFailed, &[Because::UnverifiedServer]);
    drop(refusal);
    let refusal = fixture.refused(psql(LOOPBACK));
    refusal.cause(Cause::BindFailed);
    let hint = refusal.line.verdict.hint.clone().expect("a hint");
    assert!(hint.starts_with("bring up the interface that has 192.0.2.7, then restart PostgreSQL"), "{hint}");
    assert!(
        hint.contains("or take the address out of listen_addresses. An address can come later"),
        "{hint}"
    );
    drop(refusal);
    fixture.end();
}

/// A server with another port than the client's is not the server of the client's port, and its children are not servers.
fn is_not_expected_on_any_port() {
    let mut fixture = Fixture::begin();
    let (unwatched, cluster) = (Port::take(), Cluster::new());
    cluster.configure(&format!("port = {}\n", unwatched.number));
    let _server = cluster.start(&fixture.netns, &[]);
    fixture.trace();
    let refusal = fixture.refused(LOOPBACK);
    refusal.cause(Cause::NothingListening);
    assert_eq!(refusal.line.verdict.candidates, [], "{}", refusal.shown());
    drop(refusal);
    fixture.end();
}
