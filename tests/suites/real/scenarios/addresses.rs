//! The server listens on the port, on another address or family than the client asks for.

use std::time::Duration;

use rustix::process::Signal;
use tests::needs::Need;
use tests::poll;
use tracer::output::schema::{Body, Cause, KnownBy};

use crate::servers::{
    ASGI, WSGI, docker_proxy, gunicorn, hsqldb, lighttpd, mariadb, memcached, nginx_at, node, postgresql,
    python, redis, ssh, sshd, uvicorn, vite,
};
use crate::software::Software;
use crate::stage::{ETH0, LOOPBACK, Launch, Scenario, Stage, Unit, is_listening, pass, signal};

pub const ALL: &[Scenario] = &[
    Scenario {
        name: "memcached_on_loopback",
        sentence: "memcached, which asks its clients for nothing, listens on loopback; the client uses another address.",
        cause: Cause::WrongAddress,
        software: &[Software::Memcached],
        needs: &[Need::Cgroups],
        play: memcached_on_loopback,
    },
    Scenario {
        name: "vite_probes_the_port_of_another_vite",
        sentence: "Vite listens on `[::1]`; a second Vite probes both wildcards of the port and takes the next port.",
        cause: Cause::WrongFamily,
        software: &[Software::Vite],
        needs: &[],
        play: vite_probes,
    },
    Scenario {
        name: "vite_probed_before_tracer",
        sentence: "The second Vite has taken the next port before tracer started.",
        cause: Cause::WrongFamily,
        software: &[Software::Vite],
        needs: &[],
        play: vite_probed_before,
    },
    Scenario {
        name: "vite_on_the_ipv6_localhost",
        sentence: "Vite took `localhost` as `[::1]`, and the client uses 127.0.0.1.",
        cause: Cause::WrongFamily,
        software: &[Software::Vite],
        needs: &[],
        play: vite_on_ipv6,
    },
    Scenario {
        name: "lighttpd_on_ipv6_only",
        sentence: "lighttpd listens on `[::]`, which it keeps to IPv6.",
        cause: Cause::WrongFamily,
        software: &[Software::Lighttpd],
        needs: &[],
        play: lighttpd_on_ipv6_only,
    },
    Scenario {
        name: "localhost_has_two_records",
        sentence: "curl asks `localhost`: `[::1]` refuses, 127.0.0.1 answers.",
        cause: Cause::WrongFamily,
        software: &[Software::Uvicorn, Software::Curl],
        needs: &[],
        play: localhost_has_two_records,
    },
    Scenario {
        name: "two_requests_are_not_a_fallback",
        sentence: "A Node.js client asks `[::1]`, and 127.0.0.1 only 0.8 s later.",
        cause: Cause::WrongFamily,
        software: &[Software::Nginx, Software::Node],
        needs: &[],
        play: two_requests,
    },
    Scenario {
        name: "nginx_on_127_0_1_1",
        sentence: "nginx listens on 127.0.1.1, the address that Debian gives to the host's name.",
        cause: Cause::WrongAddress,
        software: &[Software::Nginx],
        needs: &[],
        play: nginx_on_127_0_1_1,
    },
    Scenario {
        name: "mariadb_bind_address",
        sentence: "MariaDB's bind-address is 127.0.1.1.",
        cause: Cause::WrongAddress,
        software: &[Software::MariaDb],
        needs: &[],
        play: mariadb_bind_address,
    },
    Scenario {
        name: "sshd_with_its_port_as_an_argument",
        sentence: "`sshd -p PORT` is a server, not a tunnel.",
        cause: Cause::WrongAddress,
        software: &[Software::Sshd],
        needs: &[],
        play: sshd_with_its_port_as_an_argument,
    },
    Scenario {
        name: "ssh_tunnel_on_loopback",
        sentence: "`ssh -L` listens on loopback; another host's client cannot reach the tunnel.",
        cause: Cause::WrongAddress,
        software: &[Software::Ssh, Software::Sshd],
        needs: &[],
        play: ssh_tunnel,
    },
    Scenario {
        name: "docker_publishes_on_loopback",
        sentence: "A container's port is published as 127.0.0.1:PORT.",
        cause: Cause::WrongAddress,
        software: &[Software::DockerProxy],
        needs: &[],
        play: docker_publishes_on_loopback,
    },
    Scenario {
        name: "postgresql_under_timeout",
        sentence: "PostgreSQL, which forks helpers, runs under `timeout` and listens on loopback.",
        cause: Cause::WrongAddress,
        software: &[Software::PostgreSql],
        needs: &[],
        play: postgresql_under_timeout,
    },
    Scenario {
        name: "java_behind_a_shell_wrapper",
        sentence: "A shell script starts HSQLDB, which listens on loopback.",
        cause: Cause::WrongAddress,
        software: &[Software::Hsqldb],
        needs: &[],
        play: java_behind_a_wrapper,
    },
    Scenario {
        name: "tini_is_pid_1",
        sentence: "Redis runs below `tini`, the first process of a PID namespace.",
        cause: Cause::WrongAddress,
        software: &[Software::Tini, Software::Redis],
        needs: &[],
        play: tini_is_pid_1,
    },
    Scenario {
        name: "gunicorn_workers_crash",
        sentence: "gunicorn's workers are killed one after another; the arbiter keeps the listener.",
        cause: Cause::WrongAddress,
        software: &[Software::Gunicorn],
        needs: &[],
        play: gunicorn_workers_crash,
    },
    Scenario {
        name: "inetd_holds_the_socket",
        sentence: "inetd listens and starts a program for each connection.",
        cause: Cause::WrongAddress,
        software: &[Software::Inetd],
        needs: &[],
        play: inetd_holds_the_socket,
    },
    Scenario {
        name: "socket_activation",
        sentence: "systemd-socket-activate listens for a server that has not been started yet.",
        cause: Cause::WrongAddress,
        software: &[Software::SystemdSocketActivate],
        needs: &[],
        play: socket_activation,
    },
    Scenario {
        name: "sshd_executes_itself",
        sentence: "sshd gets SIGHUP, executes itself and listens on another address.",
        cause: Cause::WrongAddress,
        software: &[Software::Sshd],
        needs: &[],
        play: sshd_executes_itself,
    },
    Scenario {
        name: "sshd_for_ipv6_only",
        sentence: "sshd's AddressFamily is inet6.",
        cause: Cause::WrongFamily,
        software: &[Software::Sshd],
        needs: &[],
        play: sshd_for_ipv6_only,
    },
    Scenario {
        name: "ssh_reverse_tunnel",
        sentence: "`ssh -R` listens on the remote host's loopback, as GatewayPorts is off.",
        cause: Cause::WrongAddress,
        software: &[Software::Ssh, Software::Sshd],
        needs: &[],
        play: ssh_reverse_tunnel,
    },
    Scenario {
        name: "nginx_reloads_onto_another_address",
        sentence: "nginx is reloaded, and listens on another address than before.",
        cause: Cause::WrongAddress,
        software: &[Software::Nginx],
        needs: &[],
        play: nginx_reloads,
    },
    Scenario {
        name: "gunicorn_as_a_daemon",
        sentence: "gunicorn forks into the background; the process that was started has ended.",
        cause: Cause::WrongAddress,
        software: &[Software::Gunicorn],
        needs: &[],
        play: gunicorn_as_a_daemon,
    },
];

fn memcached_on_loopback(stage: &mut Stage) {
    let unit = Unit::new("memcached.service");
    let server = stage.start(memcached(LOOPBACK, stage.port).in_unit(&unit)).up(stage.port);
    stage.trace();
    let refusal = stage.refused(ETH0);
    refusal.server(server.pid, KnownBy::Listener).certain();
    refusal.hint_has(&format!("on this host use {LOOPBACK}:{}", stage.port));
    refusal.hint_has("make sure first that SASL").hint_has("firewall");
}

fn vite_probes(stage: &mut Stage) {
    stage.with_next_port();
    let mut first = stage.start(vite(stage, "first", "::1", stage.port));
    assert_eq!(first.vite_port(), stage.port);
    stage.trace();
    let before = stage.refused(LOOPBACK);
    before.server(first.pid, KnownBy::Listener).hint_has("[::1]");
    let mut second = stage.start(vite(stage, "second", LOOPBACK, stage.port));
    let settled = second.vite_port();
    let after = stage.refused(LOOPBACK);
    after.server(first.pid, KnownBy::Listener).hint_has("[::1]").mentions(&settled.to_string());
    // The probe's listeners are not a recovery.
    let log = stage.stop();
    let has_recovered = log.lines.iter().any(|line| matches!(line.body, Body::Recovered(_)));
    assert!(!has_recovered, "a probe is reported as a recovery: {}", log.text());
}

fn vite_probed_before(stage: &mut Stage) {
    stage.with_next_port();
    let mut first = stage.start(vite(stage, "first", "::1", stage.port));
    assert_eq!(first.vite_port(), stage.port);
    let mut second = stage.start(vite(stage, "second", LOOPBACK, stage.port));
    assert_ne!(second.vite_port(), stage.port);
    stage.trace();
    stage.refused(LOOPBACK).server(first.pid, KnownBy::Listener).hint_has("[::1]").certain();
}

fn vite_on_ipv6(stage: &mut Stage) {
    stage.trace();
    // Vite's probe of the port listens too, for a moment: its address is printed when it is up.
    let mut server = stage.start(vite(stage, "project", "::1", stage.port));
    assert_eq!(server.vite_port(), stage.port);
    let refusal = stage.refused(LOOPBACK);
    refusal.server(server.pid, KnownBy::Listener).hint_has("[::1]").certain();
    // The client has not asked `localhost`.
    refusal.never_shows("instead of localhost");
}

fn lighttpd_on_ipv6_only(stage: &mut Stage) {
    let configuration = format!("server.bind = \"[::]\"\nserver.port = {}", stage.port);
    let server = stage.start(lighttpd(stage, &configuration)).up(stage.port);
    stage.trace();
    let refusal = stage.refused(LOOPBACK);
    refusal.server(server.pid, KnownBy::Listener).certain().hint_has("[::1]");
}

fn localhost_has_two_records(stage: &mut Stage) {
    let server = stage.start(uvicorn(stage, LOOPBACK, stage.port, ASGI)).up(stage.port);
    stage.trace();
    // As a resolver with both records gives them: `[::1]` first.
    let port = stage.port;
    let curl = stage.curl_with(
        &format!("http://localhost:{port}/"),
        &["--resolve", &format!("localhost:{port}:[::1],127.0.0.1")],
    );
    assert_eq!(curl.stdout, "ok200", "{}", curl.stderr);
    let refusal = stage.refusal("the refusal of curl", |line| line.client.comm.as_deref() == Some("curl"));
    stage.expect(&refusal, Cause::WrongFamily);
    refusal.server(server.pid, KnownBy::Listener);
    stage.fell_back(&refusal);
}

fn two_requests(stage: &mut Stage) {
    let nginx = stage.start(nginx_at(stage, &[&format!("{LOOPBACK}:{}", stage.port)])).up(stage.port);
    stage.trace();
    let script = "
        const net = require('net');
        const [port] = process.argv.slice(2);
        net.connect(port, '::1').on('error', () => setTimeout(
            () => net.connect(port, '127.0.0.1').on('connect', () => console.log('answered')), 800));
    ";
    let _client =
        stage.start(node(stage, "client.js", script).with(&[&stage.port.to_string()])).printed("answered");
    let refusal = stage.refusal("the refusal of the client", |line| line.dst.addr == "::1");
    stage.expect(&refusal, Cause::WrongFamily);
    refusal.server(nginx.pid, KnownBy::Listener).hint_has(LOOPBACK);
    let log = stage.stop();
    let has_fallback = log.lines.iter().any(|line| matches!(line.body, Body::Fallback(_)));
    assert!(!has_fallback, "two requests are reported as a fallback: {}", log.text());
}

fn nginx_on_127_0_1_1(stage: &mut Stage) {
    let nginx = stage.start(nginx_at(stage, &[&format!("127.0.1.1:{}", stage.port)])).up(stage.port);
    stage.trace();
    let refusal = stage.refused(LOOPBACK);
    refusal.server(nginx.pid, KnownBy::Listener).certain().summary_has("127.0.1.1").hint_has(LOOPBACK);
    refusal.never_shows("0.0.0.0");
}

fn mariadb_bind_address(stage: &mut Stage) {
    stage.trace();
    let port = stage.port.to_string();
    let server = stage.start(mariadb(stage, &["--bind-address=127.0.1.1", "--port", &port])).up(stage.port);
    let refusal = stage.refused(LOOPBACK);
    refusal.server(server.pid, KnownBy::Listener).certain().summary_has("127.0.1.1").hint_has(LOOPBACK);
}

fn sshd_with_its_port_as_an_argument(stage: &mut Stage) {
    let port = stage.port.to_string();
    let server = stage.start(sshd(stage, "ListenAddress 127.0.0.1").with(&["-p", &port])).up(stage.port);
    stage.trace();
    let refusal = stage.refused(ETH0);
    refusal.server(server.pid, KnownBy::Listener).certain();
    for of_a_tunnel in ["GatewayPorts", "ssh -R", "ssh -L", "forward"] {
        refusal.never_shows(of_a_tunnel);
    }
}

fn ssh_tunnel(stage: &mut Stage) {
    let at = stage.another_port();
    let configuration = format!("Port {at}\nListenAddress 127.0.0.1");
    let _server = stage.start(sshd(stage, &configuration)).up(at);
    let forward = format!("{}:127.0.0.1:{at}", stage.port);
    let tunnel = stage.start(ssh(stage, at, &["-L", &forward])).up(stage.port);
    stage.trace();
    let refusal = stage.refused(ETH0);
    refusal.server(tunnel.pid, KnownBy::Listener).certain().hint_has("-L");
}

fn docker_publishes_on_loopback(stage: &mut Stage) {
    let _container = stage.container();
    let proxy = stage.start(docker_proxy((LOOPBACK, stage.port), (&stage.inside(), 80))).up(stage.port);
    stage.trace();
    let refusal = stage.refused(ETH0);
    refusal.server(proxy.pid, KnownBy::Listener).certain().mentions(LOOPBACK);
    refusal.never_shows("restart docker-proxy");
}

fn postgresql_under_timeout(stage: &mut Stage) {
    stage.trace_with(&["--server", "postgres"]);
    let unit = Unit::new("postgresql@15-main.service");
    let launch = postgresql(stage, stage.port, &["-c", "listen_addresses=127.0.0.1"]);
    let launch = launch.under(&["/usr/bin/timeout", "600"]).in_unit(&unit);
    let mut server = stage.start(launch).up(stage.port);
    let postmaster = server.descendant("postgres");
    let server = server.printed("ready to accept connections");
    let refusal = stage.refused(ETH0);
    refusal.server(postmaster, KnownBy::Listener).instances(1).certain();
    refusal.not_a_server(server.pid).hint_has("listen_addresses");
}

fn java_behind_a_wrapper(stage: &mut Stage) {
    stage.trace();
    let wrapper = "#!/bin/sh\n\"$@\"\nexit $?\n";
    let wrapper = stage.file("hsqldb.sh", wrapper);
    let mut server = stage.start(hsqldb(LOOPBACK, stage.port).under(&["/bin/sh", &wrapper])).up(stage.port);
    let java = server.descendant("java");
    let refusal = stage.refused(ETH0);
    refusal.server(java, KnownBy::Listener).certain().not_a_server(server.pid);
}

fn tini_is_pid_1(stage: &mut Stage) {
    stage.trace();
    let namespace = ["/usr/bin/unshare", "--pid", "--fork", "--kill-child", "/usr/bin/tini", "--"];
    let mut server = stage.start(redis(stage.port, LOOPBACK).under(&namespace)).up(stage.port);
    let redis = server.descendant("redis-server");
    let refusal = stage.refused(ETH0);
    refusal.server(redis, KnownBy::Listener).certain();
    let process = &refusal.line.verdict.server.as_ref().expect("a server").process;
    assert!(process.ns_pid.is_some_and(|pid| pid != 1 && pid != redis), "{}", refusal.shown());
}

fn gunicorn_workers_crash(stage: &mut Stage) {
    stage.trace();
    let bind = format!("{LOOPBACK}:{}", stage.port);
    let mut server = stage.start(gunicorn(stage, &bind, WSGI)).up(stage.port);
    for _ in 0..3 {
        let worker = server.wait_until("a worker", |server| server.children().first().copied());
        signal(worker, Signal::KILL);
        server.wait_until("another worker", |server| {
            server.children().iter().any(|&pid| pid != worker).then_some(())
        });
        stage.answered(LOOPBACK);
    }
    let refusal = stage.refused(ETH0);
    refusal.server(server.pid, KnownBy::Listener).instances(1).certain();
}

fn inetd_holds_the_socket(stage: &mut Stage) {
    let line = format!("{LOOPBACK}:{} stream tcp nowait root /bin/cat cat\n", stage.port);
    let configuration = stage.file("inetd.conf", &line);
    let inetd = Launch::new(["/usr/sbin/inetd", "-i", &configuration]);
    let inetd = stage.start(inetd).up(stage.port);
    stage.trace();
    stage.answered(LOOPBACK);
    let refusal = stage.refused(ETH0);
    refusal.server(inetd.pid, KnownBy::Listener).instances(1).certain();
}

fn socket_activation(stage: &mut Stage) {
    stage.trace();
    let listen = format!("{LOOPBACK}:{}", stage.port);
    let activate = ["/usr/bin/systemd-socket-activate", "-l", &listen];
    let server = stage.start(python(stage, LOOPBACK, 1).under(&activate)).up(stage.port);
    let refusal = stage.refused(ETH0);
    refusal.server(server.pid, KnownBy::Listener).instances(1).certain();
}

fn sshd_executes_itself(stage: &mut Stage) {
    let configuration = |addr: &str| format!("Port {}\nListenAddress {addr}", stage.port);
    let (first, second) = (configuration(LOOPBACK), configuration(ETH0));
    let mut server = stage.start(sshd(stage, &first)).up(stage.port);
    stage.trace();
    stage.answered(LOOPBACK);
    pass(Duration::from_millis(100));
    sshd(stage, &second);
    server.signal(Signal::HUP);
    server.wait_until("the second start", |server| {
        server.log().contains(&format!("Server listening on {ETH0}")).then_some(())
    });
    let refusal = stage.refused(LOOPBACK);
    refusal.server(server.pid, KnownBy::Listener).summary_has(ETH0);
}

fn sshd_for_ipv6_only(stage: &mut Stage) {
    stage.trace();
    let configuration = format!("Port {}\nAddressFamily inet6", stage.port);
    let server = stage.start(sshd(stage, &configuration)).up(stage.port);
    let refusal = stage.refused(LOOPBACK);
    refusal.server(server.pid, KnownBy::Listener).certain().hint_has("[::1]");
    refusal.never_shows("GatewayPorts").never_shows("instead of localhost");
}

/// The listener is the session's, a process that sshd forked: here the setting of tunnels is what matters.
fn ssh_reverse_tunnel(stage: &mut Stage) {
    let at = stage.another_port();
    let configuration = format!("Port {at}\nListenAddress 127.0.0.1");
    let mut server = stage.start(sshd(stage, &configuration)).up(at);
    let forward = format!("{}:127.0.0.1:{at}", stage.port);
    let _tunnel = stage.start(ssh(stage, at, &["-R", &forward])).up(stage.port);
    let session = server.wait_until("the session", |server| server.children().first().copied());
    stage.trace();
    let refusal = stage.refused(ETH0);
    refusal.server(session, KnownBy::Listener).certain().hint_has("GatewayPorts");
}

fn nginx_reloads(stage: &mut Stage) {
    stage.trace();
    let at = |addr: &str| format!("{addr}:{}", stage.port);
    let (before, after) = (at(LOOPBACK), at(ETH0));
    let mut server = stage.start(nginx_at(stage, &[&before])).up(stage.port);
    let first = server.wait_until("a worker", |server| server.children().first().copied());
    stage.answered(LOOPBACK);
    pass(Duration::from_millis(100));
    nginx_at(stage, &[&after]);
    server.signal(Signal::HUP);
    server.wait_until("the end of the first worker", |server| {
        let children = server.children();
        (!children.is_empty() && !children.contains(&first)).then_some(())
    });
    let refusal = stage.refused(LOOPBACK);
    refusal.server(server.pid, KnownBy::Listener).summary_has(ETH0);
}

fn gunicorn_as_a_daemon(stage: &mut Stage) {
    stage.trace();
    let bind = format!("{LOOPBACK}:{}", stage.port);
    let pid_file = stage.path("gunicorn.pid");
    let launch = gunicorn(stage, &bind, WSGI).with(&["--daemon", "--pid", &pid_file]);
    let mut starter = stage.start(launch);
    assert!(starter.ended().success(), "{}", starter.log());
    let arbiter = poll("gunicorn", || {
        let pid = std::fs::read_to_string(&pid_file).ok()?.trim().parse::<u32>().ok()?;
        is_listening(pid, stage.port).then_some(pid)
    });
    let refusal = stage.refused(ETH0);
    refusal.server(arbiter, KnownBy::Listener).instances(1).certain();
}
