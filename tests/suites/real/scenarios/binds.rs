//! The server could not take the address.

use rustix::process::Signal;
use tests::needs::Need;
use tracer::output::schema::{Because, Cause, KnownBy};

use crate::servers::{
    WSGI, gunicorn, haproxy, lighttpd, mosquitto, nginx_at, postgresql, python, redis, sshd,
};
use crate::software::Software;
use crate::stage::{ETH0, LOOPBACK, Launch, MORE_THAN_A_PROBE, Scenario, Stage, Unit, pass};

/// An address that the host gets late, as that of a VPN.
const VPN: &str = "10.9.0.7";

pub const ALL: &[Scenario] = &[
    Scenario {
        name: "sshd_and_a_late_address_first",
        sentence: "sshd has two ListenAddress; the first one is not there when it starts, and comes later.",
        cause: Cause::BindFailed,
        software: &[Software::Sshd],
        needs: &[],
        play: |stage| sshd_and_a_late_address(stage, &[VPN, LOOPBACK]),
    },
    Scenario {
        name: "sshd_and_a_late_address_last",
        sentence: "The same with the missing address as the last one.",
        cause: Cause::BindFailed,
        software: &[Software::Sshd],
        needs: &[],
        play: |stage| sshd_and_a_late_address(stage, &[LOOPBACK, VPN]),
    },
    Scenario {
        name: "postgresql_and_a_late_vpn",
        sentence: "PostgreSQL starts before the VPN, and goes on without its address.",
        cause: Cause::BindFailed,
        software: &[Software::PostgreSql],
        needs: &[],
        play: postgresql_and_a_late_vpn,
    },
    Scenario {
        name: "redis_and_an_optional_address",
        sentence: "Redis skips a missing address that is marked optional, and the address comes later.",
        cause: Cause::BindFailed,
        software: &[Software::Redis],
        needs: &[],
        play: redis_and_an_optional_address,
    },
    Scenario {
        name: "haproxy_without_its_address",
        sentence: "HAProxy ends because the address of its frontend is not there.",
        cause: Cause::BindFailed,
        software: &[Software::Haproxy],
        needs: &[],
        play: haproxy_without_its_address,
    },
    Scenario {
        name: "mosquitto_restarted_without_its_address",
        sentence: "Mosquitto, which gives up root, is restarted for an address that is not there.",
        cause: Cause::BindFailed,
        software: &[Software::Mosquitto],
        needs: &[],
        play: mosquitto_without_its_address,
    },
    Scenario {
        name: "redis_and_an_outgoing_connection",
        sentence: "The kernel gave Redis's port to a connection of socat's, as it does with ports of its ephemeral range.",
        cause: Cause::BindFailed,
        software: &[Software::Redis, Software::Socat, Software::Python],
        needs: &[],
        play: redis_and_an_outgoing_connection,
    },
    Scenario {
        name: "lighttpd_beside_a_local_resolver",
        sentence: "lighttpd asks for every address, and another server has the port on 127.0.0.53 alone.",
        cause: Cause::BindFailed,
        software: &[Software::Lighttpd, Software::Python],
        needs: &[],
        play: lighttpd_beside_a_local_resolver,
    },
    Scenario {
        name: "nginx_beside_an_older_nginx",
        sentence: "nginx gives up, because an older nginx holds the port on one address.",
        cause: Cause::BindFailed,
        software: &[Software::Nginx],
        needs: &[],
        play: nginx_beside_an_older_nginx,
    },
    Scenario {
        name: "gunicorn_beside_another_service",
        sentence: "gunicorn gives up, because another service holds the port on one address.",
        cause: Cause::BindFailed,
        software: &[Software::Gunicorn, Software::Python],
        needs: &[],
        play: gunicorn_beside_another_service,
    },
    Scenario {
        name: "redis_on_a_privileged_port",
        sentence: "Redis of an ordinary user may not bind the port.",
        cause: Cause::BindFailed,
        software: &[Software::Redis],
        needs: &[],
        play: redis_on_a_privileged_port,
    },
    Scenario {
        name: "redis_in_a_sandbox",
        sentence: "Landlock forbids Redis every port.",
        cause: Cause::BindFailed,
        software: &[Software::Redis, Software::Python],
        needs: &[Need::Landlock],
        play: redis_in_a_sandbox,
    },
];

/// Forbids every `bind()`, and becomes its arguments.
const SANDBOX: &str = "
import ctypes, os, struct, sys
call = ctypes.CDLL(None, use_errno=True).syscall
rules = call(444, struct.pack('=QQ', 0, 1), 16, 0)
assert rules >= 0, ctypes.get_errno()
ctypes.CDLL(None).prctl(38, 1, 0, 0, 0)
assert call(446, rules, 0) == 0, ctypes.get_errno()
os.execv(sys.argv[1], sys.argv[1:])
";

fn sshd_and_a_late_address(stage: &mut Stage, addresses: &[&str]) {
    stage.trace();
    let listen: String = addresses.iter().map(|addr| format!("ListenAddress {addr}\n")).collect();
    let configuration = format!("Port {}\n{listen}", stage.port);
    let server = stage.start(sshd(stage, &configuration)).up(stage.port);
    let server = server.printed("Cannot assign requested address").printed("Server listening on");
    stage.answered(LOOPBACK);
    stage.netns.ip(&format!("addr add {VPN}/32 dev eth0"));
    let refusal = stage.refused(VPN);
    refusal.server(server.pid, KnownBy::Listener).mentions(VPN).mentions("EADDRNOTAVAIL");
    refusal.hint_has("restart").certain();
    // The other address goes on to be answered, which clears nothing.
    stage.answered(LOOPBACK);
    stage.refused(VPN);
}

fn postgresql_and_a_late_vpn(stage: &mut Stage) {
    stage.trace();
    let addresses = format!("listen_addresses={VPN},{LOOPBACK}");
    let unit = Unit::new("postgresql@15-late.service");
    let server = stage
        .start(postgresql(stage, stage.port, &["-c", &addresses]).in_unit(&unit))
        .printed("ready to accept connections");
    stage.netns.ip(&format!("addr add {VPN}/32 dev eth0"));
    let refusal = stage.refused(VPN);
    refusal.server(server.pid, KnownBy::Listener).mentions(VPN).mentions("EADDRNOTAVAIL");
    refusal.hint_has("restart").certain();
}

fn redis_and_an_optional_address(stage: &mut Stage) {
    stage.trace();
    let server = stage.start(redis(stage.port, &format!("{LOOPBACK} -{VPN}"))).up(stage.port);
    let server = server.printed("Ready to accept connections");
    stage.netns.ip(&format!("addr add {VPN}/32 dev eth0"));
    let refusal = stage.refused(VPN);
    refusal.server(server.pid, KnownBy::Listener).mentions(VPN).hint_has("restart").certain();
}

fn haproxy_without_its_address(stage: &mut Stage) {
    stage.trace();
    let sections = format!("frontend web\n    bind {VPN}:{}", stage.port);
    let mut server = stage.start(haproxy(stage, &sections));
    assert!(!server.ended().success(), "{}", server.log());
    stage.netns.ip(&format!("addr add {VPN}/32 dev eth0"));
    let refusal = stage.refused(VPN);
    refusal.server(server.pid, KnownBy::Bind).mentions(VPN).mentions("EADDRNOTAVAIL");
    refusal.hint_has("start haproxy again").hint_has("ip_nonlocal_bind").hint_names_not(server.pid);
    let restarted = stage.start(haproxy(stage, &sections)).up(stage.port);
    assert_eq!(stage.recovered(&refusal).listener.process.pid, Some(restarted.pid));
}

fn mosquitto_without_its_address(stage: &mut Stage) {
    stage.trace();
    let listener = |addr: &str, stage: &Stage| format!("listener {} {addr}", stage.port);
    let mut first = stage.start(mosquitto(stage, &listener(LOOPBACK, stage))).up(stage.port);
    pass(MORE_THAN_A_PROBE);
    first.end_by(Signal::TERM);
    let mut bad = stage.start(mosquitto(stage, &listener(VPN, stage)));
    assert!(!bad.ended().success(), "{}", bad.log());
    let refusal = stage.refused(LOOPBACK);
    refusal.server(bad.pid, KnownBy::Service).mentions(VPN).mentions("EADDRNOTAVAIL");
}

fn redis_and_an_outgoing_connection(stage: &mut Stage) {
    const EPHEMERAL: &str = "net/ipv4/ip_local_port_range";
    let other = stage.another_port();
    let _other = stage.start(python(stage, LOOPBACK, other)).up(other);
    stage.setting(EPHEMERAL, &format!("{0} {0}", stage.port));
    let to = format!("TCP:{LOOPBACK}:{other}");
    let mut client = stage.start(Launch::new(["/usr/bin/socat", "-d", "-d", &to, "EXEC:sleep 600"]));
    let connected = format!("{LOOPBACK}:{}", stage.port);
    client.wait_until("its connection", |client| client.log().contains(&connected).then_some(()));
    stage.setting(EPHEMERAL, "40000 60000");
    stage.trace();
    let mut server = stage.start(redis(stage.port, LOOPBACK));
    assert!(!server.ended().success(), "{}", server.log());
    let refusal = stage.refused(LOOPBACK);
    refusal.server(server.pid, KnownBy::Bind).mentions("EADDRINUSE").mentions(&client.pid.to_string());
    refusal.hint_has(&format!("add {} to net.ipv4.ip_local_reserved_ports", stage.port));
    refusal.hint_names_not(server.pid);
}

fn lighttpd_beside_a_local_resolver(stage: &mut Stage) {
    let holder = stage.start(python(stage, "127.0.0.53", stage.port)).up(stage.port);
    stage.trace();
    let lines = format!("server.port = {}", stage.port);
    let mut server = stage.start(lighttpd(stage, &lines));
    assert!(!server.ended().success(), "{}", server.log());
    let refusal = stage.refused(ETH0);
    refusal.degraded(Because::SeveralOwners).mentions("EADDRINUSE").mentions(&holder.pid.to_string());
    refusal.hint_has(&format!("let the server listen on {ETH0} alone")).hint_names_not(server.pid);
}

fn nginx_beside_an_older_nginx(stage: &mut Stage) {
    let mut older = stage.start(nginx_at(stage, &[&format!("{ETH0}:{}", stage.port)])).up(stage.port);
    stage.trace();
    let launch = nginx_at(stage, &[&format!("0.0.0.0:{}", stage.port)]);
    let mut newer = stage.start(launch.clone());
    assert!(!newer.ended().success(), "{}", newer.log());
    let refusal = stage.refused(LOOPBACK);
    refusal.server(newer.pid, KnownBy::Service).mentions("EADDRINUSE").mentions(&older.pid.to_string());
    older.end_by(Signal::TERM);
    let restarted = stage.start(launch).up(stage.port);
    assert_eq!(stage.recovered(&refusal).listener.process.pid, Some(restarted.pid));
}

/// Either of the two can be the server that the client wants: both are shown, and none is certain.
fn gunicorn_beside_another_service(stage: &mut Stage) {
    let holder = stage.start(python(stage, ETH0, stage.port)).up(stage.port);
    stage.trace();
    let bind = format!("0.0.0.0:{}", stage.port);
    let mut server = stage.start(gunicorn(stage, &bind, WSGI));
    assert!(!server.ended().success(), "{}", server.log());
    let refusal = stage.refused_any(LOOPBACK);
    stage.expect_one_of(&refusal, &[Cause::BindFailed, Cause::WrongAddress]);
    refusal.degraded(Because::SeveralOwners).mentions("EADDRINUSE");
    refusal.mentions(&server.pid.to_string()).mentions(&holder.pid.to_string());
}

fn redis_on_a_privileged_port(stage: &mut Stage) {
    stage.setting("net/ipv4/ip_unprivileged_port_start", "32767");
    stage.trace();
    let mut server = stage.start(redis(stage.port, LOOPBACK).by_user("nobody"));
    assert!(!server.ended().success(), "{}", server.log());
    let refusal = stage.refused(LOOPBACK);
    refusal.server(server.pid, KnownBy::Bind).mentions("EACCES");
    refusal.never_shows("port is free").never_shows("below 1024");
}

fn redis_in_a_sandbox(stage: &mut Stage) {
    stage.trace();
    let sandbox = stage.file("sandbox.py", SANDBOX);
    let redis = redis(stage.port, LOOPBACK).by_user("nobody");
    let mut server = stage.start(redis.under(&["/usr/bin/python3", &sandbox]));
    assert!(!server.ended().success(), "{}", server.log());
    let refusal = stage.refused(LOOPBACK);
    refusal
        .server(server.pid, KnownBy::Bind)
        .mentions("EACCES")
        .hint_has("a security policy forbids this port");
}
