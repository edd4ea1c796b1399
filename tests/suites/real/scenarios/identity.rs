//! Which process is the server, and which is not.

use rustix::process::Signal;
use tracer::output::schema::{Because, Cause, KnownBy};

use crate::servers::{hsqldb, nginx_at, php_fpm, postgresql, python, redis};
use crate::software::Software;
use crate::stage::{LOOPBACK, Launch, Scenario, Stage};

pub const ALL: &[Scenario] = &[
    Scenario {
        name: "tail_follows_the_log_of_the_server",
        sentence: "`tail -f` of a file that has the server's name runs, the server does not.",
        cause: Cause::NothingListening,
        software: &[Software::Redis],
        needs: &[],
        play: tail_follows_the_log,
    },
    Scenario {
        name: "shell_that_will_start_the_server",
        sentence: "A shell waits before it starts the server that its arguments name.",
        cause: Cause::NothingListening,
        software: &[Software::Redis],
        needs: &[],
        play: shell_that_will_start_the_server,
    },
    Scenario {
        name: "php_fpm_is_not_the_web_server",
        sentence: "nginx is down; PHP-FPM, the server of another watched port, runs.",
        cause: Cause::NothingListening,
        software: &[Software::PhpFpm],
        needs: &[],
        play: php_fpm_is_not_the_web_server,
    },
    Scenario {
        name: "started_by_ip_netns_exec",
        sentence: "`ip netns exec` starts HSQLDB, which is asked before it listens.",
        cause: Cause::Starting,
        software: &[Software::Hsqldb],
        needs: &[],
        play: |stage| {
            let name = stage.netns.name.clone();
            started_from_outside(stage, &["/sbin/ip", "netns", "exec", &name]);
        },
    },
    Scenario {
        name: "started_by_nsenter",
        sentence: "`nsenter` and a shell start HSQLDB, which is asked before it listens.",
        cause: Cause::Starting,
        software: &[Software::Hsqldb],
        needs: &[],
        play: |stage| {
            let net = format!("--net={}", stage.netns.path().display());
            let shell = ["/usr/bin/nsenter", &net, "/bin/sh", "-c", "exec \"$@\"", "sh"];
            started_from_outside(stage, &shell);
        },
    },
    Scenario {
        name: "another_user_takes_the_port",
        sentence: "Redis is killed; another user's web server listens on the port of the other family.",
        cause: Cause::Stopped,
        software: &[Software::Redis, Software::Python],
        needs: &[],
        play: another_user_takes_the_port,
    },
    Scenario {
        name: "nginx_in_another_namespace",
        sentence: "nginx listens in another network namespace.",
        cause: Cause::OtherNetns,
        software: &[Software::Nginx],
        needs: &[],
        play: nginx_in_another_namespace,
    },
    Scenario {
        name: "postgresql_in_another_namespace",
        sentence: "PostgreSQL listens in another network namespace.",
        cause: Cause::OtherNetns,
        software: &[Software::PostgreSql],
        needs: &[],
        play: postgresql_in_another_namespace,
    },
];

fn tail_follows_the_log(stage: &mut Stage) {
    let log = stage.file("redis-server.log", "");
    let _tail = stage.start(Launch::new(["/usr/bin/tail", "-f", &log]));
    stage.trace_with(&["--server", "redis-server"]);
    stage.refused(LOOPBACK).no_server().certain();
    // The real one is recognised beside it.
    let server = stage.start(redis(stage.port, "127.0.0.9")).up(stage.port);
    stage.refused_as(Cause::WrongAddress, LOOPBACK).server(server.pid, KnownBy::Listener);
}

fn shell_that_will_start_the_server(stage: &mut Stage) {
    stage.trace_with(&["--server", "redis-server"]);
    let port = stage.port.to_string();
    let script = "echo waiting; sleep 600; exec /usr/bin/redis-server --port \"$0\"";
    let shell = stage.start(Launch::new(["/bin/sh", "-c", script, &port])).printed("waiting");
    let refusal = stage.refused(LOOPBACK);
    refusal.no_server().not_a_server(shell.pid).certain();
}

fn php_fpm_is_not_the_web_server(stage: &mut Stage) {
    let fastcgi = stage.another_port();
    let pattern = format!("{fastcgi}=php-fpm");
    let listen = format!("{LOOPBACK}:{fastcgi}");
    let _php = stage.start(php_fpm(stage, &listen)).up(fastcgi);
    stage.trace_ports(&[stage.port, fastcgi], &["--server", &pattern]);
    stage.refused(LOOPBACK).no_server();
}

/// A server that is asked before it listens, five times: its namespace is not a race.
fn started_from_outside(stage: &mut Stage, command: &[&str]) {
    stage.trace_with(&["--server", "org.hsqldb.server.Server"]);
    for _ in 0..5 {
        let mut server = stage.start_outside(hsqldb("127.0.0.9", stage.port).under(command));
        server.wait_until("Java", |server| (server.comm().as_deref() == Some("java")).then_some(()));
        // It does not get to listen before the client asks, however slow that is.
        server.signal(Signal::STOP);
        let refusal = stage.refused(LOOPBACK);
        refusal.server(server.pid, KnownBy::Name);
        server.end_by(Signal::KILL);
    }
}

fn another_user_takes_the_port(stage: &mut Stage) {
    stage.trace();
    let mut server = stage.start(redis(stage.port, LOOPBACK)).up(stage.port).printed("Ready to accept");
    crate::stage::pass(std::time::Duration::from_millis(120));
    server.end_by(Signal::TERM);
    let _other_user = stage.start(python(stage, "::1", stage.port).by_user("nobody")).up(stage.port);
    let refusal = stage.refused(LOOPBACK);
    refusal.server(server.pid, KnownBy::Listener).never_shows("use [::1]").never_shows("http://[::1]");
}

fn nginx_in_another_namespace(stage: &mut Stage) {
    let other = stage.another_netns();
    let address = format!("0.0.0.0:{}", stage.port);
    let server = stage.start_in(&other, nginx_at(stage, &[&address])).up(stage.port);
    stage.trace();
    let refusal = stage.refused(LOOPBACK);
    // Nothing ties it to the destination.
    assert!(!refusal.line.verdict.because.is_empty(), "{}", refusal.shown());
    refusal.summary_has(&other.name).mentions(&server.pid.to_string());
}

fn postgresql_in_another_namespace(stage: &mut Stage) {
    stage.trace();
    let other = stage.another_netns();
    let launch = postgresql(stage, stage.port, &["-c", "listen_addresses=127.0.0.1"]);
    let server = stage.start_in(&other, launch).printed("ready to accept connections");
    let refusal = stage.refused(LOOPBACK);
    assert!(!refusal.line.verdict.because.contains(&Because::ClaimOnly), "{}", refusal.shown());
    assert!(!refusal.line.verdict.because.is_empty(), "{}", refusal.shown());
    refusal.summary_has(&other.name).mentions(&server.pid.to_string());
}
