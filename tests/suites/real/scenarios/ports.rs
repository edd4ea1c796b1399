//! The server is up, and not on this port over TCP; or not yet.

use std::time::Duration;

use rustix::process::Signal;
use tracer::output::schema::{Because, Cause, KnownBy};

use crate::servers::{
    ASGI, WSGI, docker_proxy, gunicorn, hsqldb, mariadb, nginx_at, postgresql, python, redis, socat, ssh_to,
    sshd, uvicorn, vite,
};
use crate::software::{NODE, Software};
use crate::stage::{LOOPBACK, Launch, Scenario, Stage, pass};

/// The file that a server waits for before it goes on to listen: the refusal comes before, whatever the machine's speed.
const GATE: &str = "go-on";

pub const ALL: &[Scenario] = &[
    Scenario {
        name: "mariadb_skip_networking",
        sentence: "MariaDB runs with --skip-networking.",
        cause: Cause::NotOnTcp,
        software: &[Software::MariaDb],
        needs: &[],
        play: mariadb_skip_networking,
    },
    Scenario {
        name: "redis_on_a_unix_socket",
        sentence: "Redis has port 0 and a Unix socket.",
        cause: Cause::NotOnTcp,
        software: &[Software::Redis],
        needs: &[],
        play: redis_on_a_unix_socket,
    },
    Scenario {
        name: "redis_restarted_on_another_port",
        sentence: "Redis is restarted with another port, and settles there.",
        cause: Cause::OtherPort,
        software: &[Software::Redis],
        needs: &[],
        play: redis_restarted_on_another_port,
    },
    Scenario {
        name: "redis_restarted_on_a_unix_socket",
        sentence: "Redis is restarted with port 0 and a Unix socket.",
        cause: Cause::NotOnTcp,
        software: &[Software::Redis],
        needs: &[],
        play: redis_restarted_on_a_unix_socket,
    },
    Scenario {
        name: "gunicorn_on_a_unix_socket",
        sentence: "gunicorn is bound to a Unix socket.",
        cause: Cause::NotOnTcp,
        software: &[Software::Gunicorn],
        needs: &[],
        play: gunicorn_on_a_unix_socket,
    },
    Scenario {
        name: "postgresql_without_addresses",
        sentence: "PostgreSQL's listen_addresses is empty.",
        cause: Cause::NotOnTcp,
        software: &[Software::PostgreSql],
        needs: &[],
        play: postgresql_without_addresses,
    },
    Scenario {
        name: "redis_on_another_watched_port",
        sentence: "Redis listens on another port, which is watched too.",
        cause: Cause::OtherPort,
        software: &[Software::Redis],
        needs: &[],
        play: |stage| on_another_port(stage, true),
    },
    Scenario {
        name: "redis_on_an_unwatched_port",
        sentence: "Redis listens on another port, which is not watched.",
        cause: Cause::OtherPort,
        software: &[Software::Redis],
        needs: &[],
        play: |stage| on_another_port(stage, false),
    },
    Scenario {
        name: "published_at_another_port",
        sentence: "docker-proxy publishes a container's port at another port of the host.",
        cause: Cause::OtherPort,
        software: &[Software::DockerProxy, Software::Nginx],
        needs: &[],
        play: published_at_another_port,
    },
    Scenario {
        name: "socat_publishes_the_port_at_another",
        sentence: "socat, started while traced, forwards another port of the host's loopback to a container's.",
        cause: Cause::OtherPort,
        software: &[Software::Socat, Software::Redis],
        needs: &[],
        play: socat_publishes_the_port,
    },
    Scenario {
        name: "ssh_tunnel_from_another_port",
        sentence: "`ssh -L` forwards another port to the same port as the other side sees it.",
        cause: Cause::OtherPort,
        software: &[Software::Ssh, Software::Sshd, Software::Python],
        needs: &[],
        play: ssh_tunnel_from_another_port,
    },
    Scenario {
        name: "socat_of_another_user_publishes_the_port",
        sentence: "A user without privilege forwards another port to the container's.",
        cause: Cause::OtherPort,
        software: &[Software::Socat, Software::Python],
        needs: &[],
        play: socat_of_another_user,
    },
    Scenario {
        name: "published_at_another_port_and_down",
        sentence: "docker-proxy publishes a container's port at another port, and nothing listens in the container.",
        cause: Cause::NothingListening,
        software: &[Software::DockerProxy],
        needs: &[],
        play: published_and_down,
    },
    Scenario {
        name: "vite_settled_and_the_holder_ended",
        sentence: "Vite took the next port; then the process that held the first one ended.",
        cause: Cause::Stopped,
        software: &[Software::Vite, Software::Python],
        needs: &[],
        play: vite_settled,
    },
    Scenario {
        name: "uvicorn_reload_with_an_import_error",
        sentence: "`uvicorn --reload` keeps the socket bound while the application cannot be imported.",
        cause: Cause::BoundNotListening,
        software: &[Software::Uvicorn],
        needs: &[],
        play: uvicorn_reload_with_an_import_error,
    },
    Scenario {
        name: "uvicorn_workers_import_slowly",
        sentence: "`uvicorn --workers 2` has bound its socket, and its workers still import the application.",
        cause: Cause::BoundNotListening,
        software: &[Software::Uvicorn],
        needs: &[],
        play: uvicorn_workers_import_slowly,
    },
    Scenario {
        name: "node_opens_its_inspector_first",
        sentence: "Node.js opens its inspector on an ephemeral port two seconds before its port.",
        cause: Cause::Starting,
        software: &[Software::Node],
        needs: &[],
        play: node_opens_its_inspector_first,
    },
    Scenario {
        name: "uvicorn_opens_its_metrics_first",
        sentence: "An application opens its metrics port at the beginning of a slow start.",
        cause: Cause::Starting,
        software: &[Software::Uvicorn],
        needs: &[],
        play: uvicorn_opens_its_metrics_first,
    },
    Scenario {
        name: "java_debugger_first",
        sentence: "Java's debugger listens, and waits for its client before the server starts.",
        cause: Cause::Starting,
        software: &[Software::Hsqldb],
        needs: &[],
        play: java_debugger_first,
    },
];

/// Longer than a server that is known by time alone needs to be settled.
const SETTLED: Duration = Duration::from_millis(5_200);

/// A listener that closes sooner tried whether the port is free.
const MORE_THAN_A_PROBE: Duration = Duration::from_millis(120);

fn mariadb_skip_networking(stage: &mut Stage) {
    stage.trace_with(&["--server", "mariadbd"]);
    let socket = stage.path("mariadb.sock");
    let server =
        stage.start(mariadb(stage, &["--skip-networking"])).printed("ready for connections").made(&socket);
    pass(SETTLED);
    let refusal = stage.refused(LOOPBACK);
    refusal.server(server.pid, KnownBy::Name).mentions("mariadb.sock").never_shows("start it");
}

fn redis_on_a_unix_socket(stage: &mut Stage) {
    let socket = stage.path("redis.sock");
    let server = stage.start(redis(0, LOOPBACK).with(&["--unixsocket", &socket])).made(&socket);
    pass(SETTLED);
    stage.trace_with(&["--server", "redis-server"]);
    let refusal = stage.refused(LOOPBACK);
    refusal.server(server.pid, KnownBy::Name).mentions("redis.sock");
}

/// A Redis that has served the port, and has ended.
fn redis_ends(stage: &mut Stage) {
    stage.trace();
    let mut first = stage.start(redis(stage.port, LOOPBACK)).up(stage.port);
    pass(MORE_THAN_A_PROBE);
    first.end_by(Signal::TERM);
    stage.not_listening(stage.port);
}

fn redis_restarted_on_another_port(stage: &mut Stage) {
    redis_ends(stage);
    let other = stage.another_port();
    let second = stage.start(redis(other, LOOPBACK)).up(other);
    pass(SETTLED);
    let refusal = stage.refused(LOOPBACK);
    let listens = format!("redis-server[{}] listens on {LOOPBACK}:{other}", second.pid);
    refusal.mentions(&listens).never_shows("wait");
}

fn redis_restarted_on_a_unix_socket(stage: &mut Stage) {
    redis_ends(stage);
    let socket = stage.path("redis.sock");
    let _second = stage.start(redis(0, LOOPBACK).with(&["--unixsocket", &socket])).made(&socket);
    pass(SETTLED);
    let refusal = stage.refused(LOOPBACK);
    refusal.mentions("redis.sock").never_shows("wait");
}

fn gunicorn_on_a_unix_socket(stage: &mut Stage) {
    stage.trace_with(&["--server", "gunicorn"]);
    let socket = stage.path("gunicorn.sock");
    let server = stage.start(gunicorn(stage, &format!("unix:{socket}"), WSGI)).made(&socket);
    pass(SETTLED);
    let refusal = stage.refused(LOOPBACK);
    refusal.server(server.pid, KnownBy::Name).mentions("gunicorn.sock");
}

fn postgresql_without_addresses(stage: &mut Stage) {
    let server = stage
        .start(postgresql(stage, stage.port, &["-c", "listen_addresses="]))
        .printed("ready to accept connections");
    pass(SETTLED);
    stage.trace_with(&["--server", "postgres"]);
    let refusal = stage.refused(LOOPBACK);
    let socket = format!(".s.PGSQL.{}", stage.port);
    refusal.server(server.pid, KnownBy::Name).mentions(&socket);
    let claims = &refusal.line.verdict.claims;
    assert!(claims.iter().any(|configured| configured.what == "listen_addresses"), "{}", refusal.shown());
}

fn on_another_port(stage: &mut Stage, is_watched: bool) {
    let other = stage.another_port();
    let pattern = format!("{}=redis-server", stage.port);
    let ports = if is_watched { vec![stage.port, other] } else { vec![stage.port] };
    stage.trace_ports(&ports, &["--server", &pattern]);
    let server = stage.start(redis(other, LOOPBACK)).up(other);
    pass(SETTLED);
    let refusal = stage.refused(LOOPBACK);
    refusal.server(server.pid, KnownBy::Name).mentions(&other.to_string());
}

fn published_at_another_port(stage: &mut Stage) {
    let published = stage.another_port();
    let container = stage.container();
    let address = format!("0.0.0.0:{}", stage.port);
    let _server = stage.start_in(&container, nginx_at(stage, &[&address])).up(stage.port);
    let proxy = docker_proxy(("0.0.0.0", published), (&stage.inside(), stage.port));
    let _proxy = stage.start(proxy).up(published);
    stage.trace();
    let refusal = stage.refused(LOOPBACK);
    refusal.hint_has(&format!("published here as {published}: use {LOOPBACK}:{published}"));
}

fn socat_publishes_the_port(stage: &mut Stage) {
    let published = stage.another_port();
    let container = stage.container();
    stage.trace();
    let _server = stage.start_in(&container, redis(stage.port, "0.0.0.0")).up(stage.port);
    let from = format!("TCP4-LISTEN:{published},bind={LOOPBACK},fork,reuseaddr");
    let mut proxy =
        stage.start(socat(&from, &format!("TCP4:{}:{}", stage.inside(), stage.port))).up(published);
    let refusal = stage.refused(LOOPBACK);
    refusal.hint_has(&format!("published here as {published}: use {LOOPBACK}:{published}"));
    // The port is published no longer.
    proxy.end_by(Signal::TERM);
    pass(Duration::from_millis(200));
    let refusal = stage.refused_any(LOOPBACK);
    assert_ne!(refusal.line.verdict.cause, Cause::OtherPort, "{}", refusal.shown());
    refusal.never_shows(&published.to_string());
}

fn ssh_tunnel_from_another_port(stage: &mut Stage) {
    let (published, ssh_port) = (stage.another_port(), stage.another_port());
    let container = stage.container();
    let configuration = format!("Port {ssh_port}\nListenAddress {}\nAllowTcpForwarding yes", stage.inside());
    let _sshd = stage.start_in(&container, sshd(stage, &configuration)).up(ssh_port);
    let _server = stage.start_in(&container, python(stage, LOOPBACK, stage.port)).up(stage.port);
    let forward = format!("-NL{published}:localhost:{}", stage.port);
    let tunnel = stage.start(ssh_to(stage, (&stage.inside(), ssh_port), &[&forward])).up(published);
    stage.trace();
    let refusal = stage.refused(LOOPBACK);
    // What the other side has behind the name is not seen.
    refusal.server(tunnel.pid, KnownBy::Name).degraded(Because::ClaimOnly);
    refusal.hint_has(&format!("use {LOOPBACK}:{published}"));
}

fn socat_of_another_user(stage: &mut Stage) {
    let published = stage.another_port();
    let container = stage.container();
    let _server = stage.start_in(&container, python(stage, &stage.inside(), stage.port)).up(stage.port);
    let from = format!("TCP-LISTEN:{published},fork,reuseaddr");
    let proxy = socat(&from, &format!("TCP:{}:{}", stage.inside(), stage.port)).by_user("nobody");
    let _proxy = stage.start(proxy).up(published);
    stage.trace();
    let refusal = stage.refused(LOOPBACK);
    refusal.degraded(Because::UnverifiedServer);
    let hint = refusal.line.verdict.hint.as_deref().unwrap_or_default();
    assert!(!hint.contains(&published.to_string()), "{}", refusal.shown());
}

fn published_and_down(stage: &mut Stage) {
    let published = stage.another_port();
    let _container = stage.container();
    let proxy = docker_proxy(("127.0.0.1", published), (&stage.inside(), stage.port));
    let _proxy = stage.start(proxy).up(published);
    stage.trace();
    let refusal = stage.refused(LOOPBACK);
    refusal.never_shows(&published.to_string());
}

fn vite_settled(stage: &mut Stage) {
    stage.with_next_port();
    let mut holder = stage.start(python(stage, LOOPBACK, stage.port)).up(stage.port);
    stage.trace();
    let mut server = stage.start(vite(stage, "project", LOOPBACK, stage.port));
    let settled = server.vite_port();
    assert_ne!(settled, stage.port, "{}", server.log());
    holder.end_by(Signal::TERM);
    // Both are shown: the process that held the port, and the one that asked for it and is elsewhere.
    let refusal = stage.refused_any(LOOPBACK);
    stage.expect_one_of(&refusal, &[Cause::Stopped, Cause::OtherPort]);
    refusal.degraded(Because::SeveralOwners).mentions(&settled.to_string());
}

fn uvicorn_reload_with_an_import_error(stage: &mut Stage) {
    let launch = uvicorn(stage, LOOPBACK, stage.port, "import a_module_that_is_missing\n");
    let server = stage.start(launch.with(&["--reload"])).printed("ModuleNotFoundError");
    stage.trace();
    let refusal = stage.refused(LOOPBACK);
    refusal.server(server.pid, KnownBy::Bind);
}

fn uvicorn_workers_import_slowly(stage: &mut Stage) {
    stage.trace();
    let text = format!(
        "
import os, time
print('importing', flush=True)
while not os.path.exists('{}'):
    time.sleep(0.05)
{ASGI}",
        stage.path(GATE)
    );
    let launch = uvicorn(stage, LOOPBACK, stage.port, &text);
    let server = stage.start(launch.with(&["--workers", "2"])).printed("importing");
    let refusal = stage.refused(LOOPBACK);
    refusal.server(server.pid, KnownBy::Bind);
    stage.file(GATE, "");
    stage.recovered(&refusal);
}

fn node_opens_its_inspector_first(stage: &mut Stage) {
    stage.trace_with(&["--server", "server.js"]);
    let script = format!(
        "const gate = setInterval(() => {{
            if (!require('fs').existsSync('{}')) return;
            clearInterval(gate);
            require('http').createServer().listen({}, '127.0.0.1');
        }}, 50);",
        stage.path(GATE),
        stage.port
    );
    let script = stage.file("server.js", &script);
    let launch = Launch::new([NODE, "--inspect=127.0.0.1:0", &script]);
    let server = stage.start(launch).printed("Debugger listening on");
    let refusal = stage.refused(LOOPBACK);
    refusal.server(server.pid, KnownBy::Name);
    stage.file(GATE, "");
    assert_eq!(stage.recovered(&refusal).listener.process.pid, Some(server.pid));
}

fn uvicorn_opens_its_metrics_first(stage: &mut Stage) {
    let metrics = stage.another_port();
    let gate = stage.path(GATE);
    stage.trace_with(&["--server", "uvicorn"]);
    let text = format!(
        "
import asyncio, os
from prometheus_client import start_http_server

async def app(scope, receive, send):
    if scope['type'] == 'lifespan':
        await receive()
        start_http_server({metrics}, addr='127.0.0.1')
        print('metrics are up', flush=True)
        while not os.path.exists('{gate}'):
            await asyncio.sleep(0.05)
        await send({{'type': 'lifespan.startup.complete'}})
        await receive()
"
    );
    let server = stage.start(uvicorn(stage, LOOPBACK, stage.port, &text)).printed("metrics are up");
    let refusal = stage.refused(LOOPBACK);
    refusal.server(server.pid, KnownBy::Name);
    stage.file(GATE, "");
    assert_eq!(stage.recovered(&refusal).listener.process.pid, Some(server.pid));
}

fn java_debugger_first(stage: &mut Stage) {
    stage.trace_with(&["--server", "org.hsqldb.server.Server"]);
    let debugger = "-agentlib:jdwp=transport=dt_socket,server=y,suspend=y,address=127.0.0.1:0";
    let server = stage
        .start(hsqldb(LOOPBACK, stage.port).variable("JAVA_TOOL_OPTIONS", debugger))
        .printed("Listening for transport dt_socket");
    let refusal = stage.refused(LOOPBACK);
    refusal.server(server.pid, KnownBy::Name);
}
