//! The server has stopped, has been started again, or has never come up.

use std::fs;
use std::time::Duration;

use rustix::process::Signal;
use tests::needs::Need;
use tests::poll;
use tracer::output::schema::{Because, Cause, KnownBy};

use crate::servers::{
    WSGI, docker_proxy, gunicorn, gunicorn_at, haproxy, hsqldb, mariadb, mariadb_of, mosquitto, netcat,
    nginx, nginx_at, nginx_daemon, node, php_fpm_at, postgresql, python, redis, socat, uvicorn,
};
use crate::software::Software;
use crate::stage::{
    ETH0, LOOPBACK, Launch, MORE_THAN_A_PROBE, Scenario, Stage, Unit, comm, descendants, has_ended,
    is_listening, pass, signal,
};

pub const ALL: &[Scenario] = &[
    Scenario {
        name: "gunicorn_arbiter_is_killed",
        sentence: "gunicorn's arbiter is killed; its workers hold the listener for a moment, and end.",
        cause: Cause::Stopped,
        software: &[Software::Gunicorn],
        needs: &[],
        play: gunicorn_arbiter_is_killed,
    },
    Scenario {
        name: "gunicorn_application_fails",
        sentence: "gunicorn listens, its workers cannot boot, and it exits with code 3.",
        cause: Cause::Stopped,
        software: &[Software::Gunicorn],
        needs: &[],
        play: gunicorn_application_fails,
    },
    Scenario {
        name: "nginx_quits",
        sentence: "nginx is asked to quit.",
        cause: Cause::Stopped,
        software: &[Software::Nginx],
        needs: &[],
        play: nginx_quits,
    },
    Scenario {
        name: "postmaster_is_killed",
        sentence: "PostgreSQL's postmaster is killed.",
        cause: Cause::Stopped,
        software: &[Software::PostgreSql],
        needs: &[],
        play: postmaster_is_killed,
    },
    Scenario {
        name: "busybox_httpd_is_killed",
        sentence: "BusyBox's httpd, an applet among others, is killed.",
        cause: Cause::Stopped,
        software: &[Software::Busybox],
        needs: &[],
        play: busybox_httpd_is_killed,
    },
    Scenario {
        name: "hsqldb_has_a_successor",
        sentence: "HSQLDB is killed and started again; the new process has not listened yet.",
        cause: Cause::Stopped,
        software: &[Software::Hsqldb],
        needs: &[],
        play: hsqldb_has_a_successor,
    },
    Scenario {
        name: "gunicorn_blue_and_green",
        sentence: "Two gunicorns share the port by SO_REUSEPORT; first one ends, then the other.",
        cause: Cause::Stopped,
        software: &[Software::Gunicorn],
        needs: &[],
        play: gunicorn_blue_and_green,
    },
    Scenario {
        name: "nginx_binary_upgrade",
        sentence: "nginx's new binary inherits the listener, the old one quits; then the new one ends.",
        cause: Cause::Stopped,
        software: &[Software::Nginx],
        needs: &[],
        play: nginx_binary_upgrade,
    },
    Scenario {
        name: "haproxy_executes_itself",
        sentence: "HAProxy's master executes itself for a reload; later it is stopped.",
        cause: Cause::Stopped,
        software: &[Software::Haproxy],
        needs: &[],
        play: haproxy_executes_itself,
    },
    Scenario {
        name: "haproxy_drains",
        sentence: "HAProxy's worker closes its listeners while a connection is under way; its master goes on, and opens none.",
        cause: Cause::Stopped,
        software: &[Software::Haproxy, Software::Socat],
        needs: &[],
        play: haproxy_drains,
    },
    Scenario {
        name: "another_program_of_the_interpreter",
        sentence: "A server of Python is killed; then other programs of Python end and start that have nothing to do with it.",
        cause: Cause::Stopped,
        software: &[Software::Python],
        needs: &[],
        play: another_program_of_the_interpreter,
    },
    Scenario {
        name: "redis_under_another_user",
        sentence: "Redis is restarted as another user, recovers, and is stopped.",
        cause: Cause::Stopped,
        software: &[Software::Redis],
        needs: &[],
        play: redis_under_another_user,
    },
    Scenario {
        name: "activated_server_ends",
        sentence: "A server that inherited its listener from systemd-socket-activate ends.",
        cause: Cause::Stopped,
        software: &[Software::SystemdSocketActivate, Software::Python],
        needs: &[],
        play: activated_server_ends,
    },
    Scenario {
        name: "redis_into_a_bad_configuration",
        sentence: "Redis is stopped and restarted four times with a configuration that it rejects.",
        cause: Cause::NeverListened,
        software: &[Software::Redis],
        needs: &[],
        play: redis_into_a_bad_configuration,
    },
    Scenario {
        name: "nginx_into_a_bad_configuration",
        sentence: "nginx is restarted with an unknown directive.",
        cause: Cause::NeverListened,
        software: &[Software::Nginx],
        needs: &[],
        play: nginx_into_a_bad_configuration,
    },
    Scenario {
        name: "mosquitto_into_a_bad_configuration",
        sentence: "Mosquitto, which gives up root when it starts, is restarted with an unknown setting.",
        cause: Cause::NeverListened,
        software: &[Software::Mosquitto],
        needs: &[],
        play: mosquitto_into_a_bad_configuration,
    },
    Scenario {
        name: "mosquitto_daemon_into_a_bad_configuration",
        sentence: "The same as a daemon, whose first process has ended by the time that it listens.",
        cause: Cause::NeverListened,
        software: &[Software::Mosquitto],
        needs: &[],
        play: mosquitto_daemon_into_a_bad_configuration,
    },
    Scenario {
        name: "mariadb_under_its_user_into_a_bad_configuration",
        sentence: "MariaDB gives up root and listens; it is restarted with an option that it does not know.",
        cause: Cause::NeverListened,
        software: &[Software::MariaDb],
        needs: &[],
        play: mariadb_into_a_bad_configuration,
    },
    Scenario {
        name: "mosquitto_of_another_user",
        sentence: "Mosquitto, started by root, ends; another user starts one of its own, which ends without listening.",
        cause: Cause::Stopped,
        software: &[Software::Mosquitto],
        needs: &[],
        play: mosquitto_of_another_user,
    },
    Scenario {
        name: "socat_without_fork",
        sentence: "socat without `fork` has taken its one connection.",
        cause: Cause::Stopped,
        software: &[Software::Socat],
        needs: &[],
        play: socat_without_fork,
    },
    Scenario {
        name: "netcat_serves_one_connection",
        sentence: "netcat without `-k` has served its one connection.",
        cause: Cause::Stopped,
        software: &[Software::Netcat],
        needs: &[],
        play: netcat_serves_one_connection,
    },
    Scenario {
        name: "uvicorn_with_an_import_error",
        sentence: "Uvicorn ends before it binds, because the application cannot be imported.",
        cause: Cause::NeverListened,
        software: &[Software::Uvicorn],
        needs: &[],
        play: uvicorn_with_an_import_error,
    },
    Scenario {
        name: "node_ended_before_the_first_refusal",
        sentence: "A Node.js server throws while it starts; the first client comes later.",
        cause: Cause::NeverListened,
        software: &[Software::Node],
        needs: &[],
        play: node_ended_before,
    },
    Scenario {
        name: "mariadb_with_an_unknown_option",
        sentence: "MariaDB rejects its command line.",
        cause: Cause::NeverListened,
        software: &[Software::MariaDb],
        needs: &[],
        play: mariadb_with_an_unknown_option,
    },
    Scenario {
        name: "node_drains",
        sentence: "A Node.js server closes its listener and still serves what is under way.",
        cause: Cause::Stopped,
        software: &[Software::Node],
        needs: &[],
        play: node_drains,
    },
    Scenario {
        name: "haproxy_takes_over",
        sentence: "HAProxy is replaced by a new process with `-sf`; later that one is stopped.",
        cause: Cause::Stopped,
        software: &[Software::Haproxy],
        needs: &[],
        play: haproxy_takes_over,
    },
    Scenario {
        name: "nginx_reload_drops_a_port",
        sentence: "nginx is reloaded with a configuration that has one of its two ports no more.",
        cause: Cause::Stopped,
        software: &[Software::Nginx],
        needs: &[],
        play: nginx_reload_drops_a_port,
    },
    Scenario {
        name: "nginx_reload_keeps_an_unwatched_port",
        sentence: "The same, of an nginx that was there before; the port that it keeps is not watched.",
        cause: Cause::Stopped,
        software: &[Software::Nginx],
        needs: &[],
        play: nginx_reload_keeps_an_unwatched_port,
    },
    Scenario {
        name: "gunicorn_reload_drops_a_port",
        sentence: "gunicorn, whose workers open their sockets with SO_REUSEPORT, is reloaded with one address less.",
        cause: Cause::Stopped,
        software: &[Software::Gunicorn],
        needs: &[],
        play: gunicorn_reload_drops_a_port,
    },
    Scenario {
        name: "haproxy_reload_drops_a_port",
        sentence: "HAProxy's master executes itself for a reload that drops one of two ports.",
        cause: Cause::Stopped,
        software: &[Software::Haproxy],
        needs: &[],
        play: haproxy_reload_drops_a_port,
    },
    Scenario {
        name: "haproxy_reload_drops_a_port_and_drains",
        sentence: "The same, of an HAProxy that was there before; its old worker still serves a connection.",
        cause: Cause::Stopped,
        software: &[Software::Haproxy, Software::Python, Software::Socat],
        needs: &[],
        play: haproxy_reload_drains,
    },
    Scenario {
        name: "haproxy_takes_over_without_a_port",
        sentence: "HAProxy is replaced with `-sf` by a new process that has one of its two ports no more.",
        cause: Cause::Stopped,
        software: &[Software::Haproxy],
        needs: &[],
        play: haproxy_takes_over_without_a_port,
    },
    Scenario {
        name: "nginx_upgrade_drops_a_port",
        sentence: "nginx's new binary has one of two inherited ports no more; the old one quits.",
        cause: Cause::Stopped,
        software: &[Software::Nginx],
        needs: &[],
        play: nginx_upgrade_drops_a_port,
    },
    Scenario {
        name: "haproxy_reload_to_a_unix_socket",
        sentence: "HAProxy's master executes itself for a reload that has a Unix socket in place of the port.",
        cause: Cause::NotOnTcp,
        software: &[Software::Haproxy],
        needs: &[],
        play: haproxy_reload_to_a_unix_socket,
    },
    Scenario {
        name: "php_fpm_reload_drops_a_pool",
        sentence: "PHP-FPM's master executes itself for a reload, and closes the socket of a pool that is not configured any more.",
        cause: Cause::OtherPort,
        software: &[Software::PhpFpm],
        needs: &[],
        play: php_fpm_reload_drops_a_pool,
    },
    Scenario {
        name: "docker_proxy_is_killed",
        sentence: "docker-proxy is killed, the container's server is not.",
        cause: Cause::Stopped,
        software: &[Software::DockerProxy, Software::Python],
        needs: &[],
        play: docker_proxy_is_killed,
    },
    Scenario {
        name: "supervisor_restarts_redis",
        sentence: "A shell loop restarts Redis a second after each end.",
        cause: Cause::Stopped,
        software: &[Software::Redis],
        needs: &[],
        play: supervisor_restarts_redis,
    },
    Scenario {
        name: "redis_crash_loop",
        sentence: "A shell loop restarts a Redis that rejects its configuration.",
        cause: Cause::NeverListened,
        software: &[Software::Redis],
        needs: &[],
        play: redis_crash_loop,
    },
    Scenario {
        name: "mariadb_starts_under_timeout",
        sentence: "MariaDB is asked while it starts under `timeout`.",
        cause: Cause::Starting,
        software: &[Software::MariaDb],
        needs: &[],
        play: mariadb_starts_under_timeout,
    },
    Scenario {
        name: "two_units_take_turns",
        sentence: "Two units with the same server start in turn, each after the other was ended.",
        cause: Cause::Stopped,
        software: &[Software::Redis],
        needs: &[Need::Cgroups],
        play: two_units_take_turns,
    },
    Scenario {
        name: "a_unit_and_a_program_take_turns",
        sentence: "Python's web server without a unit and nginx in one have the port in turn, at different lengths.",
        cause: Cause::Stopped,
        software: &[Software::Python, Software::Nginx],
        needs: &[Need::Cgroups],
        play: a_unit_and_a_program_take_turns,
    },
    Scenario {
        name: "one_unit_restarts_again_and_again",
        sentence: "One unit's server ends and is started again, four times.",
        cause: Cause::Stopped,
        software: &[Software::Redis],
        needs: &[Need::Cgroups],
        play: one_unit_restarts,
    },
    Scenario {
        name: "another_unit_took_over_once",
        sentence: "A unit was replaced by another one with the same server, which has ended.",
        cause: Cause::Stopped,
        software: &[Software::Redis],
        needs: &[Need::Cgroups],
        play: another_unit_took_over,
    },
    Scenario {
        name: "another_application_of_the_unit",
        sentence: "One unit runs two Node.js applications; the one on the port has ended.",
        cause: Cause::Stopped,
        software: &[Software::Node],
        needs: &[Need::Cgroups],
        play: another_application_of_the_unit,
    },
];

fn gunicorn_arbiter_is_killed(stage: &mut Stage) {
    stage.trace();
    let bind = format!("{LOOPBACK}:{}", stage.port);
    let mut server = stage.start(gunicorn(stage, &bind, WSGI)).up(stage.port);
    let processes =
        server.wait_until("a worker", |server| Some(server.processes()).filter(|all| all.len() > 1));
    pass(MORE_THAN_A_PROBE);
    server.end_by(Signal::KILL);
    stage.not_listening(stage.port);
    let refusal = stage.refused(LOOPBACK);
    // The orphaned worker closes the listener, and takes more or less than 100 ms to end.
    refusal.server_among(&processes, KnownBy::Listener);
}

fn gunicorn_application_fails(stage: &mut Stage) {
    stage.trace();
    let bind = format!("{LOOPBACK}:{}", stage.port);
    let mut server = stage.start(gunicorn(stage, &bind, "raise SystemError('broken')\n"));
    assert_eq!(server.ended().code(), Some(3), "{}", server.log());
    let refusal = stage.refused(LOOPBACK);
    refusal.server(server.pid, KnownBy::Listener).mentions("code 3").has_ended();
}

fn nginx_quits(stage: &mut Stage) {
    let mut server = stage.start(nginx_at(stage, &[&format!("{LOOPBACK}:{}", stage.port)])).up(stage.port);
    stage.trace();
    let processes =
        server.wait_until("a worker", |server| Some(server.processes()).filter(|all| all.len() > 1));
    assert!(server.end_by(Signal::QUIT).success());
    stage.not_listening(stage.port);
    let refusal = stage.refused(LOOPBACK);
    refusal.server_among(&processes, KnownBy::Listener).has_ended().certain();
    let again = stage.start(nginx_at(stage, &[&format!("{LOOPBACK}:{}", stage.port)])).up(stage.port);
    assert_eq!(stage.recovered(&refusal).listener.process.pid, Some(again.pid));
}

fn postmaster_is_killed(stage: &mut Stage) {
    stage.trace();
    let unit = Unit::new("postgresql@15-killed.service");
    let launch = postgresql(stage, stage.port, &["-c", "listen_addresses=127.0.0.1"]).in_unit(&unit);
    let mut server = stage.start(launch).printed("ready to accept connections");
    pass(MORE_THAN_A_PROBE);
    server.end_by(Signal::KILL);
    stage.not_listening(stage.port);
    let refusal = stage.refused(LOOPBACK);
    refusal.server(server.pid, KnownBy::Listener).instances(1).mentions("SIGKILL").certain();
}

fn busybox_httpd_is_killed(stage: &mut Stage) {
    let at = format!("{LOOPBACK}:{}", stage.port);
    let directory = stage.directory("www");
    let httpd = Launch::new(["/usr/bin/busybox", "httpd", "-f", "-p", &at, "-h", &directory]);
    let mut server = stage.start(httpd).up(stage.port);
    stage.trace();
    server.end_by(Signal::TERM);
    let refusal = stage.refused(LOOPBACK);
    refusal.server(server.pid, KnownBy::Listener).mentions("SIGTERM").certain();
}

fn hsqldb_has_a_successor(stage: &mut Stage) {
    stage.trace();
    let mut first = stage.start(hsqldb(LOOPBACK, stage.port)).up(stage.port);
    pass(MORE_THAN_A_PROBE);
    first.end_by(Signal::KILL);
    let successor = stage.start(hsqldb(LOOPBACK, stage.port));
    let refusal = stage.refused(LOOPBACK);
    refusal.mentions(&successor.pid.to_string()).hint_has("wait").never_shows("systemctl");
    assert_eq!(stage.recovered(&refusal).listener.process.pid, Some(successor.pid));
}

fn gunicorn_blue_and_green(stage: &mut Stage) {
    stage.trace();
    let bind = format!("{LOOPBACK}:{}", stage.port);
    let launch = || gunicorn(stage, &bind, WSGI).with(&["--reuse-port"]);
    let mut blue = stage.start(launch()).printed("Booting worker");
    let mut green = stage.start(launch()).printed("Booting worker");
    pass(MORE_THAN_A_PROBE);
    let processes = green.processes();
    blue.end_by(Signal::TERM);
    stage.answered(LOOPBACK);
    green.end_by(Signal::TERM);
    stage.not_listening(stage.port);
    let refusal = stage.refused(LOOPBACK);
    refusal.server_among(&processes, KnownBy::Listener).has_ended();
}

fn nginx_binary_upgrade(stage: &mut Stage) {
    stage.trace();
    let http = format!("server {{ listen {LOOPBACK}:{}; location / {{ return 200 ok; }} }}", stage.port);
    let mut starter = stage.start(nginx_daemon(stage, &http));
    assert!(starter.ended().success(), "{}", starter.log());
    let pid_file = stage.path("nginx/nginx.pid");
    let master = || fs::read_to_string(&pid_file).ok()?.trim().parse::<u32>().ok();
    let old = poll("nginx", || master().filter(|&pid| is_listening(pid, stage.port)));
    // A master that has not started its workers notes a signal, and heeds it with the next one.
    poll("a worker of nginx", || (descendants(old).len() > 1).then_some(()));
    signal(old, Signal::USR2);
    let new = poll("the new master of nginx", || master().filter(|&pid| pid != old));
    pass(MORE_THAN_A_PROBE);
    signal(old, Signal::QUIT);
    poll("the end of the old master", || has_ended(old).then_some(()));
    stage.answered(LOOPBACK);
    poll("a new worker of nginx", || (descendants(new).len() > 1).then_some(()));
    let processes = descendants(new);
    signal(new, Signal::QUIT);
    poll("the end of the new master", || has_ended(new).then_some(()));
    let refusal = stage.refused(LOOPBACK);
    refusal.server_among(&processes, KnownBy::Listener).has_ended();
}

fn haproxy_executes_itself(stage: &mut Stage) {
    let sections = format!(
        "frontend web
    mode http
    bind {LOOPBACK}:{}
    http-request return status 200",
        stage.port
    );
    stage.trace();
    let mut server = stage.start(haproxy(stage, &sections).with(&["-W"])).up(stage.port);
    let worker = server.wait_until("a worker", |server| server.children().first().copied());
    pass(MORE_THAN_A_PROBE);
    server.signal(Signal::USR2);
    server.wait_until("a new worker", |server| {
        let children = server.children();
        (!children.is_empty() && !children.contains(&worker)).then_some(())
    });
    stage.answered(LOOPBACK);
    pass(MORE_THAN_A_PROBE);
    server.end_by(Signal::TERM);
    stage.not_listening(stage.port);
    let refusal = stage.refused(LOOPBACK);
    let name = refusal.line.verdict.server.as_ref().and_then(|server| server.process.comm.as_deref());
    assert_eq!(name, Some("haproxy"), "{}", refusal.shown());
    refusal.has_ended();
}

fn haproxy_drains(stage: &mut Stage) {
    let behind = stage.another_port();
    let sections = format!(
        "listen web
    bind {LOOPBACK}:{}
    server behind {LOOPBACK}:{behind}",
        stage.port
    );
    stage.trace();
    let from = format!("TCP-LISTEN:{behind},bind={LOOPBACK},fork");
    let mut silent = stage.start(socat(&from, "EXEC:sleep 60")).up(behind);
    let mut server = stage.start(haproxy(stage, &sections).with(&["-W"])).up(stage.port);
    let worker = server.wait_until("a worker", |server| server.children().first().copied());
    pass(MORE_THAN_A_PROBE);
    let to = format!("TCP:{LOOPBACK}:{}", stage.port);
    let _client = stage.start(socat(&to, "EXEC:sleep 60"));
    silent.wait_until("the connection", |silent| (!silent.children().is_empty()).then_some(()));
    server.signal(Signal::USR1);
    stage.not_listening(stage.port);
    stage.refused(LOOPBACK).certain().server(worker, KnownBy::Listener).hint_names_not(server.pid);
    // At another address nothing is about to listen either.
    stage.refused_as(Cause::NothingListening, ETH0);
}

fn another_program_of_the_interpreter(stage: &mut Stage) {
    let python = |text: &str| Launch::new(["/usr/bin/python3", "-c", text]);
    let served = format!(
        "import socket, time\nserver = socket.create_server(('{LOOPBACK}', {}))\ntime.sleep(60)",
        stage.port
    );
    stage.trace();
    let mut server = stage.start(python(&served)).up(stage.port);
    pass(MORE_THAN_A_PROBE);
    server.end_by(Signal::KILL);
    stage.refused(LOOPBACK).certain().server(server.pid, KnownBy::Listener).summary_has("SIGKILL");
    let mut ends = stage.start(python("print()"));
    ends.ended();
    stage.refused(LOOPBACK).certain().server(server.pid, KnownBy::Listener).summary_has("SIGKILL");
    let other = stage.start(python("import time; print('runs', flush=True); time.sleep(60)")).printed("runs");
    stage.refused(LOOPBACK).certain().server(server.pid, KnownBy::Listener).hint_names_not(other.pid);
}

fn redis_under_another_user(stage: &mut Stage) {
    stage.trace();
    let launch = redis(stage.port, LOOPBACK);
    let mut first = stage.start(launch.clone()).up(stage.port);
    pass(MORE_THAN_A_PROBE);
    first.end_by(Signal::TERM);
    let refusal = stage.refused(LOOPBACK);
    refusal.server(first.pid, KnownBy::Listener);
    let mut second = stage.start(launch.by_user("nobody")).up(stage.port);
    assert_eq!(comm(second.pid).as_deref(), Some("redis-server"));
    assert_eq!(stage.recovered(&refusal).listener.process.pid, Some(second.pid));
    second.end_by(Signal::TERM);
    stage.refused(LOOPBACK).server(second.pid, KnownBy::Listener);
}

fn activated_server_ends(stage: &mut Stage) {
    const SERVER: &str = "
import http.server, socket
server = http.server.HTTPServer(('127.0.0.1', 0), http.server.SimpleHTTPRequestHandler, False)
server.socket = socket.socket(fileno=3)
print('activated', flush=True)
server.serve_forever()
";
    stage.trace();
    let listen = format!("{LOOPBACK}:{}", stage.port);
    let script = stage.file("activated.py", SERVER);
    let launch =
        Launch::new(["/usr/bin/systemd-socket-activate", "-l", &listen, "/usr/bin/python3", &script]);
    let server = stage.start(launch).up(stage.port);
    stage.answered(LOOPBACK);
    let mut server = server.printed("activated");
    pass(MORE_THAN_A_PROBE);
    server.end_by(Signal::TERM);
    let refusal = stage.refused(LOOPBACK);
    refusal.server(server.pid, KnownBy::Listener).instances(1).mentions("SIGTERM");
}

fn redis_into_a_bad_configuration(stage: &mut Stage) {
    stage.trace();
    let mut server = stage.start(redis(stage.port, LOOPBACK)).up(stage.port);
    pass(MORE_THAN_A_PROBE);
    server.end_by(Signal::TERM);
    let mut last = 0;
    for _ in 0..4 {
        let mut bad = stage.start(redis(stage.port, LOOPBACK).with(&["--maxmemory-policy", "some"]));
        assert_eq!(bad.ended().code(), Some(1), "{}", bad.log());
        last = bad.pid;
    }
    let refusal = stage.refused(LOOPBACK);
    refusal.server(last, KnownBy::Service).mentions("code 1").mentions("4");
}

fn nginx_into_a_bad_configuration(stage: &mut Stage) {
    let mut server = stage.start(nginx_at(stage, &[&format!("{LOOPBACK}:{}", stage.port)])).up(stage.port);
    stage.trace();
    server.end_by(Signal::QUIT);
    stage.not_listening(stage.port);
    // The same file as before, with a directive that nginx does not know.
    let mut bad = stage.start(nginx(stage, "sever { }"));
    assert_eq!(bad.ended().code(), Some(1), "{}", bad.log());
    let refusal = stage.refused(LOOPBACK);
    refusal.server(bad.pid, KnownBy::Service).mentions("code 1");
}

fn mosquitto_into_a_bad_configuration(stage: &mut Stage) {
    stage.trace();
    let listener = format!("listener {} {LOOPBACK}", stage.port);
    let mut server = stage.start(mosquitto(stage, &listener)).up(stage.port);
    pass(MORE_THAN_A_PROBE);
    server.end_by(Signal::TERM);
    is_of_the_service_of_mosquitto(stage);
}

fn mosquitto_daemon_into_a_bad_configuration(stage: &mut Stage) {
    stage.trace();
    let listener = format!("listener {} {LOOPBACK}", stage.port);
    let mut starter = stage.start(mosquitto(stage, &listener).with(&["-d"]));
    assert!(starter.ended().success(), "{}", starter.log());
    let daemon = stage.process("mosquitto");
    poll("mosquitto's listener", || is_listening(daemon, stage.port).then_some(()));
    pass(MORE_THAN_A_PROBE);
    signal(daemon, Signal::TERM);
    poll("the end of mosquitto", || has_ended(daemon).then_some(()));
    is_of_the_service_of_mosquitto(stage);
}

/// It is restarted with a setting that it does not know, and fails before it gives up root.
fn is_of_the_service_of_mosquitto(stage: &mut Stage) {
    stage.not_listening(stage.port);
    let mut bad = stage.start(mosquitto(stage, "no_such_setting true"));
    let code = bad.ended().code().expect("an exit code");
    assert_ne!(code, 0, "{}", bad.log());
    let refusal = stage.refused(LOOPBACK);
    refusal.server(bad.pid, KnownBy::Service).mentions(&format!("code {code}")).hint_names_not(bad.pid);
}

fn mariadb_into_a_bad_configuration(stage: &mut Stage) {
    let port = stage.port.to_string();
    let arguments = ["--bind-address=127.0.0.1", "--port", &port];
    stage.trace();
    let mut server = stage.start(mariadb_of(stage, "nobody", &arguments)).up(stage.port);
    pass(MORE_THAN_A_PROBE);
    server.end_by(Signal::TERM);
    let mut bad = stage.start(mariadb_of(stage, "nobody", &arguments).with(&["--no-such-option"]));
    let code = bad.ended().code().expect("an exit code");
    assert_ne!(code, 0, "{}", bad.log());
    let refusal = stage.refused(LOOPBACK);
    refusal.server(bad.pid, KnownBy::Service).mentions(&format!("code {code}")).hint_names_not(bad.pid);
}

fn mosquitto_of_another_user(stage: &mut Stage) {
    stage.trace();
    let listener = format!("listener {} {LOOPBACK}", stage.port);
    let mut server = stage.start(mosquitto(stage, &listener)).up(stage.port);
    pass(MORE_THAN_A_PROBE);
    server.end_by(Signal::TERM);
    let mut other = stage.start(mosquitto(stage, "no_such_setting true").by_user("mosquitto"));
    assert!(!other.ended().success(), "{}", other.log());
    let refusal = stage.refused(LOOPBACK);
    refusal.server(server.pid, KnownBy::Listener).not_a_server(other.pid);
}

fn socat_without_fork(stage: &mut Stage) {
    stage.trace();
    let listen = format!("TCP-LISTEN:{},bind={LOOPBACK},reuseaddr", stage.port);
    let mut server = stage.start(socat(&listen, "PIPE")).up(stage.port);
    pass(MORE_THAN_A_PROBE);
    stage.answered(LOOPBACK);
    server.ended();
    let refusal = stage.refused(LOOPBACK);
    refusal.server(server.pid, KnownBy::Listener).hint_has("start it again with fork");
    refusal.hint_names_not(server.pid);
}

fn netcat_serves_one_connection(stage: &mut Stage) {
    stage.trace();
    let mut server = stage.start(netcat(LOOPBACK, stage.port)).up(stage.port);
    pass(MORE_THAN_A_PROBE);
    stage.answered(LOOPBACK);
    server.ended();
    let refusal = stage.refused(LOOPBACK);
    refusal.server(server.pid, KnownBy::Listener).hint_has("start it again with -k");
    refusal.hint_names_not(server.pid);
}

fn uvicorn_with_an_import_error(stage: &mut Stage) {
    stage.trace_with(&["--server", "uvicorn"]);
    let launch = uvicorn(stage, LOOPBACK, stage.port, "import a_module_that_is_missing\n");
    let mut server = stage.start(launch);
    assert_eq!(server.ended().code(), Some(1), "{}", server.log());
    let refusal = stage.refused(LOOPBACK);
    refusal.server(server.pid, KnownBy::Name).mentions("code 1");
}

fn node_ended_before(stage: &mut Stage) {
    stage.trace_with(&["--server", "die.js"]);
    let script = "setTimeout(() => { throw new Error('no database') }, 300);";
    let mut server = stage.start(node(stage, "die.js", script));
    assert_eq!(server.ended().code(), Some(1), "{}", server.log());
    pass(Duration::from_millis(500));
    let refusal = stage.refused(LOOPBACK);
    refusal.server(server.pid, KnownBy::Name).mentions("code 1");
}

fn mariadb_with_an_unknown_option(stage: &mut Stage) {
    stage.trace_with(&["--server", "mariadbd"]);
    let mut server = stage.start(mariadb(stage, &["--no-such-option"]));
    let code = server.ended().code().expect("an exit code");
    assert_ne!(code, 0, "{}", server.log());
    let refusal = stage.refused(LOOPBACK);
    refusal.server(server.pid, KnownBy::Name).mentions(&format!("code {code}"));
}

fn node_drains(stage: &mut Stage) {
    const SERVER: &str = "
        const server = require('http').createServer();
        server.listen(Number(process.argv[2]), '127.0.0.1', () => console.log('up'));
        process.on('SIGTERM', () => server.close(() => console.log('closed')));
        setInterval(() => {}, 1000);
    ";
    stage.trace();
    let port = stage.port.to_string();
    let server = stage.start(node(stage, "server.js", SERVER).with(&[&port])).printed("up");
    pass(MORE_THAN_A_PROBE);
    server.signal(Signal::TERM);
    let server = server.printed("closed");
    let refusal = stage.refused(LOOPBACK);
    refusal.server(server.pid, KnownBy::Listener).certain().mentions("still running");
}

fn haproxy_takes_over(stage: &mut Stage) {
    let sections = format!(
        "frontend web
    mode http
    bind {LOOPBACK}:{}
    http-request return status 200",
        stage.port
    );
    stage.trace();
    let mut old = stage.start(haproxy(stage, &sections)).up(stage.port);
    pass(MORE_THAN_A_PROBE);
    let mut new = stage.start(haproxy(stage, &sections).with(&["-sf", &old.pid.to_string()]));
    old.ended();
    stage.answered(LOOPBACK);
    pass(MORE_THAN_A_PROBE);
    new.end_by(Signal::TERM);
    let refusal = stage.refused(LOOPBACK);
    refusal.server(new.pid, KnownBy::Listener).has_ended();
}

/// Asserts that the server goes on without the port, by one of these processes; those that have ended are in no remedy.
fn goes_on(stage: &mut Stage, (other, processes): (u16, &[u32]), known_by: KnownBy, ended: &[u32]) {
    // Then, and once a new process has settled.
    for pause in [MORE_THAN_A_PROBE, Duration::from_millis(5_200)] {
        pass(pause);
        let refusal = stage.refused(LOOPBACK);
        refusal.server_among(processes, known_by).certain();
        refusal.summary_has("gave the port up").mentions(&format!("{LOOPBACK}:{other}"));
        refusal.hint_has("configuration").never_shows("wait").never_shows("start the server again");
        refusal.never_shows("exited");
        for pid in ended {
            refusal.never_shows(&format!("[{pid}]"));
        }
    }
}

fn nginx_reload_drops_a_port(stage: &mut Stage) {
    let other = stage.another_port();
    let kept = format!("{LOOPBACK}:{other}");
    stage.trace_ports(&[stage.port, other], &[]);
    let dropped = format!("{LOOPBACK}:{}", stage.port);
    let mut server = stage.start(nginx_at(stage, &[&dropped, &kept])).up(stage.port);
    let worker = server.wait_until("a worker", |server| server.children().first().copied());
    pass(MORE_THAN_A_PROBE);
    let _new = nginx_at(stage, &[&kept]);
    server.signal(Signal::HUP);
    stage.not_listening(stage.port);
    goes_on(stage, (other, &[server.pid]), KnownBy::Listener, &[worker]);
}

fn nginx_reload_keeps_an_unwatched_port(stage: &mut Stage) {
    let other = stage.another_port();
    let kept = format!("{LOOPBACK}:{other}");
    let dropped = format!("{LOOPBACK}:{}", stage.port);
    let mut server = stage.start(nginx_at(stage, &[&dropped, &kept])).up(stage.port);
    let worker = server.wait_until("a worker", |server| server.children().first().copied());
    stage.trace();
    let _new = nginx_at(stage, &[&kept]);
    server.signal(Signal::HUP);
    stage.not_listening(stage.port);
    goes_on(stage, (other, &[server.pid]), KnownBy::Listener, &[worker]);
}

fn gunicorn_reload_drops_a_port(stage: &mut Stage) {
    let other = stage.another_port();
    let kept = format!("{LOOPBACK}:{other}");
    stage.trace_ports(&[stage.port, other], &[]);
    let dropped = format!("{LOOPBACK}:{}", stage.port);
    let mut server = stage.start(gunicorn_at(stage, &[&dropped, &kept])).up(stage.port);
    let worker = server.wait_until("a worker", |server| server.children().first().copied());
    pass(MORE_THAN_A_PROBE);
    let _new = gunicorn_at(stage, &[&kept]);
    server.signal(Signal::HUP);
    stage.not_listening(stage.port);
    server.wait_until("a new worker", |server| (!server.children().contains(&worker)).then_some(()));
    let processes = server.processes();
    goes_on(stage, (other, &processes), KnownBy::Service, &[worker]);
}

/// HAProxy's front ends on these ports, which need no server behind them.
fn fronts(ports: &[u16]) -> String {
    let front = |port: &u16| {
        format!(
            "frontend web{port}
    mode http
    bind {LOOPBACK}:{port}
    http-request return status 200
"
        )
    };
    ports.iter().map(front).collect()
}

fn haproxy_reload_drops_a_port(stage: &mut Stage) {
    let other = stage.another_port();
    stage.trace_ports(&[stage.port, other], &[]);
    let mut server = stage.start(haproxy(stage, &fronts(&[stage.port, other])).with(&["-W"])).up(stage.port);
    let worker = server.wait_until("a worker", |server| server.children().first().copied());
    pass(MORE_THAN_A_PROBE);
    let _new = haproxy(stage, &fronts(&[other]));
    server.signal(Signal::USR2);
    stage.not_listening(stage.port);
    server.wait_until("the end of the old worker", |server| {
        let children = server.children();
        (!children.is_empty() && !children.contains(&worker)).then_some(())
    });
    let processes = server.processes();
    goes_on(stage, (other, &processes), KnownBy::Service, &[worker]);
}

fn haproxy_reload_drains(stage: &mut Stage) {
    let (other, behind) = (stage.another_port(), stage.another_port());
    let _behind = stage.start(python(stage, LOOPBACK, behind)).up(behind);
    let forward = |port: u16| {
        format!(
            "listen tcp{port}
    bind {LOOPBACK}:{port}
    server one {LOOPBACK}:{behind}
"
        )
    };
    let both = format!("{}{}", forward(stage.port), forward(other));
    let mut server = stage.start(haproxy(stage, &both).with(&["-W"])).up(stage.port);
    let worker = server.wait_until("a worker", |server| server.children().first().copied());
    let at = format!("TCP4:{LOOPBACK}:{other}");
    let client = Launch::new(["/usr/bin/socat", "-d", "-d", "-u", &at, "STDOUT"]);
    let _client = stage.start(client).printed("starting data");
    stage.trace_ports(&[stage.port, other], &[]);
    let _new = haproxy(stage, &forward(other));
    server.signal(Signal::USR2);
    stage.not_listening(stage.port);
    let new = server
        .wait_until("a new worker", |server| server.children().into_iter().find(|child| *child != worker));
    goes_on(stage, (other, &[new]), KnownBy::Service, &[worker]);
    assert!(!has_ended(worker), "the old worker has nothing to serve: {}", server.log());
}

fn haproxy_takes_over_without_a_port(stage: &mut Stage) {
    let other = stage.another_port();
    stage.trace_ports(&[stage.port, other], &[]);
    let mut old = stage.start(haproxy(stage, &fronts(&[stage.port, other]))).up(stage.port);
    pass(MORE_THAN_A_PROBE);
    let sections = fronts(&[other]);
    let new = stage.start(haproxy(stage, &sections).with(&["-sf", &old.pid.to_string()]));
    old.ended();
    goes_on(stage, (other, &[new.pid]), KnownBy::Service, &[old.pid]);
}

fn nginx_upgrade_drops_a_port(stage: &mut Stage) {
    let other = stage.another_port();
    stage.trace_ports(&[stage.port, other], &[]);
    let front = |port: u16| format!("server {{ listen {LOOPBACK}:{port}; location / {{ return 200 ok; }} }}");
    let both = format!("{}{}", front(stage.port), front(other));
    let mut starter = stage.start(nginx_daemon(stage, &both));
    assert!(starter.ended().success(), "{}", starter.log());
    let pid_file = stage.path("nginx/nginx.pid");
    let master = || fs::read_to_string(&pid_file).ok()?.trim().parse::<u32>().ok();
    let old = poll("nginx", || master().filter(|&pid| is_listening(pid, stage.port)));
    poll("a worker of nginx", || (descendants(old).len() > 1).then_some(()));
    let worker = descendants(old)[1];
    pass(MORE_THAN_A_PROBE);
    let _new = nginx_daemon(stage, &front(other));
    signal(old, Signal::USR2);
    let new = poll("the new master of nginx", || master().filter(|&pid| pid != old));
    pass(MORE_THAN_A_PROBE);
    signal(old, Signal::QUIT);
    poll("the end of the old master", || has_ended(old).then_some(()));
    stage.not_listening(stage.port);
    goes_on(stage, (other, &descendants(new)), KnownBy::Service, &[old, worker]);
}

fn haproxy_reload_to_a_unix_socket(stage: &mut Stage) {
    stage.trace();
    let mut server = stage.start(haproxy(stage, &fronts(&[stage.port])).with(&["-W"])).up(stage.port);
    let worker = server.wait_until("a worker", |server| server.children().first().copied());
    pass(MORE_THAN_A_PROBE);
    let socket = stage.path("haproxy.sock");
    let at = format!("{LOOPBACK}:{}", stage.port);
    let _new = haproxy(stage, &fronts(&[stage.port]).replace(&at, &format!("unix@{socket}")));
    server.signal(Signal::USR2);
    stage.not_listening(stage.port);
    server.wait_until("the end of the old worker", |server| {
        let children = server.children();
        (!children.is_empty() && !children.contains(&worker)).then_some(())
    });
    // One that has just started may still open the port.
    pass(Duration::from_millis(5_200));
    let refusal = stage.refused(LOOPBACK);
    refusal.server_among(&server.processes(), KnownBy::Service);
    refusal.mentions("haproxy.sock").never_shows("wait").never_shows(&format!("[{worker}]"));
}

fn php_fpm_reload_drops_a_pool(stage: &mut Stage) {
    let other = stage.another_port();
    let kept = format!("{LOOPBACK}:{other}");
    stage.trace_ports(&[stage.port, other], &[]);
    let dropped = format!("{LOOPBACK}:{}", stage.port);
    let server = stage.start(php_fpm_at(stage, &[&dropped, &kept])).printed("ready to handle connections");
    pass(MORE_THAN_A_PROBE);
    let _new = php_fpm_at(stage, &[&kept]);
    server.signal(Signal::USR2);
    stage.not_listening(stage.port);
    pass(MORE_THAN_A_PROBE);
    let refusal = stage.refused(LOOPBACK);
    refusal.server(server.pid, KnownBy::Listener).mentions(&kept).never_shows("wait");
    refusal.hint_has(&format!("let the client use port {other}"));
}

fn docker_proxy_is_killed(stage: &mut Stage) {
    let container = stage.container();
    let inside = stage.another_port();
    let _server = stage.start_in(&container, python(stage, "0.0.0.0", inside)).up(inside);
    let mut proxy =
        stage.start(docker_proxy(("0.0.0.0", stage.port), (&stage.inside(), inside))).up(stage.port);
    stage.trace();
    proxy.end_by(Signal::KILL);
    let refusal = stage.refused(LOOPBACK);
    refusal.server(proxy.pid, KnownBy::Listener).certain().mentions("SIGKILL");
}

/// A loop as a service manager has it, with a pause in seconds after each instance; it prints the process id of each.
fn supervised(launch: Launch, pauses: &str) -> Launch {
    let script = "pauses=$0; for pause in $pauses; do \"$@\" & echo instance $!.; wait; sleep $pause; done";
    launch.under(&["/bin/sh", "-c", script, pauses])
}

fn supervisor_restarts_redis(stage: &mut Stage) {
    stage.trace();
    let supervisor = stage.start(supervised(redis(stage.port, LOOPBACK), "600 600")).up(stage.port);
    let mut supervisor = supervisor.printed("Ready to accept connections");
    let redis = supervisor.descendant("redis-server");
    pass(MORE_THAN_A_PROBE);
    signal(redis, Signal::KILL);
    stage.not_listening(stage.port);
    let refusal = stage.refused(LOOPBACK);
    refusal.server(redis, KnownBy::Listener).not_a_server(supervisor.pid).mentions("SIGKILL");
    signal(supervisor.descendant("sleep"), Signal::KILL);
    let successor = stage.recovered(&refusal).listener.process.pid;
    assert!(successor.is_some_and(|pid| pid != redis), "{successor:?}");
}

fn redis_crash_loop(stage: &mut Stage) {
    stage.trace_with(&["--server", "redis-server"]);
    let launch = redis(stage.port, LOOPBACK).with(&["--maxmemory-policy", "some"]);
    let mut supervisor = stage.start(supervised(launch, "1 1 600"));
    let last = supervisor.wait_until("the third instance", |supervisor| {
        let log = supervisor.log();
        let pid = log.split("instance ").nth(3)?.split('.').next()?.parse::<u32>().ok()?;
        has_ended(pid).then_some(pid)
    });
    let refusal = stage.refused(LOOPBACK);
    refusal.server(last, KnownBy::Name).instances(3).mentions("code 1").mentions("3");
    refusal.not_a_server(supervisor.pid);
}

fn mariadb_starts_under_timeout(stage: &mut Stage) {
    stage.trace_with(&["--server", "mariadbd"]);
    let port = stage.port.to_string();
    let launch = mariadb(stage, &["--bind-address=127.0.0.1", "--port", &port]);
    let mut timeout = stage.start(launch.under(&["/usr/bin/timeout", "600"]));
    let server = timeout.descendant("mariadbd");
    let refusal = stage.refused(LOOPBACK);
    refusal.server(server, KnownBy::Name).not_a_server(timeout.pid).hint_has("wait");
    assert_eq!(stage.recovered(&refusal).listener.process.pid, Some(server));
}

fn two_units_take_turns(stage: &mut Stage) {
    let (system, own) = (Unit::new("redis-server.service"), Unit::new("redis-own.service"));
    stage.trace();
    for unit in [&system, &own, &system, &own] {
        let mut server = stage.start(redis(stage.port, LOOPBACK).in_unit(unit)).up(stage.port);
        pass(MORE_THAN_A_PROBE);
        server.end_by(Signal::TERM);
    }
    let refusal = stage.refused(LOOPBACK);
    refusal.mentions("redis-server.service").mentions("redis-own.service").hint_has("disable");
}

fn a_unit_and_a_program_take_turns(stage: &mut Stage) {
    let unit = Unit::new("web-cache.service");
    stage.trace();
    for (number, millis) in [400, 150, 900].into_iter().enumerate() {
        let launch = if number.is_multiple_of(2) {
            nginx_at(stage, &[&format!("{LOOPBACK}:{}", stage.port)]).in_unit(&unit)
        } else {
            python(stage, LOOPBACK, stage.port)
        };
        let mut server = stage.start(launch).up(stage.port);
        pass(Duration::from_millis(millis));
        server.end_by(if number.is_multiple_of(2) { Signal::TERM } else { Signal::KILL });
        stage.not_listening(stage.port);
    }
    let refusal = stage.refused(LOOPBACK);
    refusal.degraded(Because::SeveralOwners).summary_has("web-cache.service and python3[");
    refusal.summary_has(&format!("two services take turns on {}", stage.port));
    refusal
        .hint_has(&format!("two services take turns on {}: disable one, web-cache.service or", stage.port));
}

fn one_unit_restarts(stage: &mut Stage) {
    let unit = Unit::new("cache@1.service");
    stage.trace();
    for _ in 0..4 {
        let mut server = stage.start(redis(stage.port, LOOPBACK).in_unit(&unit)).up(stage.port);
        pass(MORE_THAN_A_PROBE);
        server.end_by(Signal::KILL);
    }
    stage.refused(LOOPBACK).certain().never_shows("take turns").never_shows("disable");
}

fn another_unit_took_over(stage: &mut Stage) {
    let (old, new) = (Unit::new("cache-old.service"), Unit::new("cache-new.service"));
    stage.trace();
    for unit in [&old, &old, &new, &new] {
        let mut server = stage.start(redis(stage.port, LOOPBACK).in_unit(unit)).up(stage.port);
        pass(MORE_THAN_A_PROBE);
        server.end_by(Signal::TERM);
    }
    let refusal = stage.refused(LOOPBACK);
    refusal.degraded(Because::SeveralOwners).never_shows("take turns").never_shows("disable");
}

fn another_application_of_the_unit(stage: &mut Stage) {
    const SERVER: &str = "require('http').createServer().listen(Number(process.argv[2]), '127.0.0.1');";
    let unit = Unit::new("pm2.service");
    let other_port = stage.another_port();
    stage.trace();
    let launch =
        |script: &str, port: u16| node(stage, script, SERVER).with(&[&port.to_string()]).in_unit(&unit);
    let mut server = stage.start(launch("shop.js", stage.port)).up(stage.port);
    let other = stage.start(launch("mail.js", other_port)).up(other_port);
    pass(MORE_THAN_A_PROBE);
    server.end_by(Signal::KILL);
    pass(Duration::from_millis(5_200));
    let refusal = stage.refused(LOOPBACK);
    refusal.server(server.pid, KnownBy::Listener).not_a_server(other.pid).mentions("SIGKILL");
    refusal.never_shows(&other_port.to_string());
}
