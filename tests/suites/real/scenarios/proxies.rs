//! A proxy's own connect is refused: its client sees a 502 or an empty reply.

use std::time::Duration;

use rustix::process::Signal;
use tests::needs::Need;
use tracer::output::schema::{Body, Cause, KnownBy, Role};

use crate::servers::{docker_proxy, haproxy, nginx, nginx_at, php_fpm, python, redis, socat};
use crate::software::Software;
use crate::stage::{LOOPBACK, Scenario, Stage, pass};

pub const ALL: &[Scenario] = &[
    Scenario {
        name: "nginx_to_php_fpm_on_a_socket",
        sentence: "nginx asks PHP-FPM by TCP, and PHP-FPM listens on a Unix socket.",
        cause: Cause::NotOnTcp,
        software: &[Software::Nginx, Software::PhpFpm, Software::Curl],
        needs: &[],
        play: nginx_to_php_fpm_on_a_socket,
    },
    Scenario {
        name: "nginx_to_php_fpm_that_is_down",
        sentence: "PHP-FPM has ended behind nginx.",
        cause: Cause::Stopped,
        software: &[Software::Nginx, Software::PhpFpm, Software::Curl],
        needs: &[],
        play: nginx_to_php_fpm_that_is_down,
    },
    Scenario {
        name: "container_listens_on_its_own_loopback",
        sentence: "docker-proxy forwards to a container whose server listens on the container's 127.0.0.1.",
        cause: Cause::WrongAddress,
        software: &[Software::DockerProxy, Software::Nginx, Software::Curl],
        needs: &[],
        play: container_on_its_own_loopback,
    },
    Scenario {
        name: "container_without_a_listener",
        sentence: "docker-proxy forwards to a container in which nothing listens.",
        cause: Cause::NothingListening,
        software: &[Software::DockerProxy, Software::Python, Software::Curl],
        needs: &[],
        play: container_without_a_listener,
    },
    Scenario {
        name: "container_listens_on_another_port",
        sentence: "docker-proxy forwards to the wrong port of a container.",
        cause: Cause::OtherPort,
        software: &[Software::DockerProxy, Software::Redis, Software::Curl],
        needs: &[],
        play: container_on_another_port,
    },
    Scenario {
        name: "socat_to_a_namespace_without_a_listener",
        sentence: "socat forwards the port to the same port of a namespace in which nothing listens.",
        cause: Cause::NothingListening,
        software: &[Software::Socat],
        needs: &[],
        play: socat_to_nothing,
    },
    Scenario {
        name: "nginx_with_two_upstream_addresses",
        sentence: "nginx has two addresses of one upstream and does not retry; one of them refuses.",
        cause: Cause::WrongFamily,
        software: &[Software::Nginx, Software::Python, Software::Curl],
        needs: &[],
        play: nginx_with_two_upstream_addresses,
    },
    Scenario {
        name: "haproxy_checks_its_backend_each_100_ms",
        sentence: "HAProxy's health checks find that the backend has stopped.",
        cause: Cause::Stopped,
        software: &[Software::Haproxy, Software::Redis],
        needs: &[],
        play: haproxy_checks_its_backend,
    },
    Scenario {
        name: "haproxy_to_another_host",
        sentence: "HAProxy's backend is another host, which refuses.",
        cause: Cause::Remote,
        software: &[Software::Haproxy, Software::Curl],
        needs: &[Need::Nft],
        play: haproxy_to_another_host,
    },
    Scenario {
        name: "chain_of_three_proxies",
        sentence: "HAProxy asks nginx, nginx asks socat, socat asks a server that has ended.",
        cause: Cause::NothingListening,
        software: &[Software::Haproxy, Software::Nginx, Software::Socat, Software::Curl],
        needs: &[],
        play: chain_of_three_proxies,
    },
    Scenario {
        name: "chain_that_comes_up_from_its_front",
        sentence: "nginx, HAProxy and socat start one after another, each in front of a port that nothing listens on yet.",
        cause: Cause::NothingListening,
        software: &[Software::Haproxy, Software::Nginx, Software::Socat, Software::Curl],
        needs: &[],
        play: chain_that_comes_up,
    },
    Scenario {
        name: "chain_into_a_container",
        sentence: "docker-proxy leads to HAProxy in a container, which asks a port that nothing listens on.",
        cause: Cause::NothingListening,
        software: &[Software::DockerProxy, Software::Haproxy, Software::Curl],
        needs: &[],
        play: chain_into_a_container,
    },
];

/// A request to the watched port, which the proxy cannot forward.
fn request(stage: &Stage) {
    let curl = stage.curl(&format!("http://{LOOPBACK}:{}/index.php", stage.port));
    assert_ne!(curl.status.code(), Some(7), "the proxy itself refused: {}", curl.stderr);
}

fn nginx_to_fastcgi(stage: &Stage, fastcgi: u16) -> crate::stage::Launch {
    let location = format!("location / {{ fastcgi_pass {LOOPBACK}:{fastcgi}; }}");
    nginx(stage, &format!("server {{ listen {LOOPBACK}:{}; {location} }}", stage.port))
}

fn nginx_to_php_fpm_on_a_socket(stage: &mut Stage) {
    let fastcgi = stage.another_port();
    let socket = stage.path("php-fpm.sock");
    let php = stage.start(php_fpm(stage, &socket)).made(&socket);
    let mut nginx = stage.start(nginx_to_fastcgi(stage, fastcgi)).up(stage.port);
    let worker = nginx.wait_until("a worker", |nginx| nginx.children().first().copied());
    pass(Duration::from_millis(5_200));
    stage.trace_with(&["--server", &format!("{fastcgi}=php-fpm")]);
    request(stage);
    let refusal = stage.upstream(fastcgi);
    assert_eq!(refusal.line.client.pid, Some(worker), "{}", refusal.shown());
    refusal.server(php.pid, KnownBy::Name).mentions("php-fpm.sock");
}

fn nginx_to_php_fpm_that_is_down(stage: &mut Stage) {
    let fastcgi = stage.another_port();
    let mut php = stage.start(php_fpm(stage, &format!("{LOOPBACK}:{fastcgi}"))).up(fastcgi);
    let _nginx = stage.start(nginx_to_fastcgi(stage, fastcgi)).up(stage.port);
    stage.trace_ports(&[stage.port, fastcgi], &[]);
    let processes = php.processes();
    php.end_by(Signal::TERM);
    request(stage);
    let refusal = stage.refusal("the refusal of nginx", |line| line.dst.port == Some(fastcgi));
    stage.expect(&refusal, Cause::Stopped);
    refusal.server_among(&processes, KnownBy::Listener).has_ended();
    // The connect is to a watched port too.
    assert_eq!(refusal.line.client.comm.as_deref(), Some("nginx"), "{}", refusal.shown());
}

fn container_on_its_own_loopback(stage: &mut Stage) {
    let container = stage.container();
    let inside = stage.another_port();
    let address = format!("{LOOPBACK}:{inside}");
    let server = stage.start_in(&container, nginx_at(stage, &[&address])).up(inside);
    let proxy = docker_proxy(("0.0.0.0", stage.port), (&stage.inside(), inside));
    let proxy = stage.start(proxy).up(stage.port);
    stage.trace();
    request(stage);
    let refusal = stage.upstream(inside);
    assert_eq!(refusal.line.client.pid, Some(proxy.pid), "{}", refusal.shown());
    refusal.server(server.pid, KnownBy::Listener).mentions(LOOPBACK);
}

fn container_without_a_listener(stage: &mut Stage) {
    let container = stage.container();
    let inside = stage.another_port();
    let proxy = docker_proxy(("0.0.0.0", stage.port), (&stage.inside(), inside));
    let proxy = stage.start(proxy).up(stage.port);
    // An unrelated listener on the port changes nothing.
    let unrelated = stage.another_netns();
    let _unrelated = stage.start_in(&unrelated, python(stage, LOOPBACK, inside)).up(inside);
    stage.trace();
    request(stage);
    let refusal = stage.upstream(inside);
    assert_eq!(refusal.line.client.pid, Some(proxy.pid), "{}", refusal.shown());
    refusal.summary_has(&container.name);
}

fn container_on_another_port(stage: &mut Stage) {
    let container = stage.container();
    let (inside, listened) = (stage.another_port(), stage.another_port());
    let server = stage.start_in(&container, redis(listened, "0.0.0.0")).up(listened);
    let proxy = docker_proxy(("0.0.0.0", stage.port), (&stage.inside(), inside));
    let _proxy = stage.start(proxy).up(stage.port);
    pass(Duration::from_millis(5_200));
    stage.trace_with(&["--server", &format!("{inside}=redis-server")]);
    request(stage);
    let refusal = stage.upstream(inside);
    refusal.server(server.pid, KnownBy::Name).mentions(&listened.to_string());
}

fn socat_to_nothing(stage: &mut Stage) {
    let container = stage.container();
    let inside = stage.inside();
    let from = format!("TCP-LISTEN:{},fork,reuseaddr", stage.port);
    let to = format!("TCP:{inside}:{}", stage.port);
    let proxy = stage.start(socat(&from, &to)).up(stage.port);
    stage.trace();
    stage.answered(LOOPBACK);
    let refusal = stage.refusal("the refusal of socat", |line| line.dst.addr == inside);
    stage.expect(&refusal, Cause::NothingListening);
    assert_eq!(refusal.line.client.comm.as_deref(), Some("socat"), "{}", refusal.shown());
    refusal.summary_has(&container.name).not_a_server(proxy.pid);
}

fn nginx_with_two_upstream_addresses(stage: &mut Stage) {
    let backend = stage.another_port();
    let server = stage.start(python(stage, LOOPBACK, backend)).up(backend);
    let http = format!(
        "upstream backend {{ server [::1]:{backend} max_fails=0; server {LOOPBACK}:{backend} max_fails=0; }}
        server {{
            listen {LOOPBACK}:{};
            location / {{ proxy_pass http://backend; proxy_next_upstream off; }}
        }}",
        stage.port
    );
    let _nginx = stage.start(nginx(stage, &http)).up(stage.port);
    stage.trace();
    request(stage);
    request(stage);
    let refusal = stage.upstream(backend);
    refusal.server(server.pid, KnownBy::Listener).hint_has(LOOPBACK);
    let log = stage.stop();
    let has_fallback = log.lines.iter().any(|line| matches!(line.body, Body::Fallback(_)));
    assert!(!has_fallback, "two requests are reported as a fallback: {}", log.text());
}

fn haproxy_checks_its_backend(stage: &mut Stage) {
    let backend = stage.another_port();
    let mut server = stage.start(redis(backend, LOOPBACK)).up(backend);
    let sections = format!(
        "listen proxy\n    bind {LOOPBACK}:{}\n    server one {LOOPBACK}:{backend} check inter 100ms",
        stage.port
    );
    let _proxy = stage.start(haproxy(stage, &sections)).up(stage.port);
    stage.trace_ports(&[stage.port, backend], &[]);
    pass(Duration::from_millis(300));
    server.end_by(Signal::TERM);
    let refusal = stage.refusal("a refused health check", |line| line.dst.port == Some(backend));
    stage.expect(&refusal, Cause::Stopped);
    assert_eq!(refusal.line.client.comm.as_deref(), Some("haproxy"), "{}", refusal.shown());
    refusal.server(server.pid, KnownBy::Listener);
    let again = stage.start(redis(backend, LOOPBACK)).up(backend);
    assert_eq!(stage.recovered(&refusal).listener.process.pid, Some(again.pid));
}

fn haproxy_to_another_host(stage: &mut Stage) {
    const HOST: &str = "203.0.113.9";
    stage.another_host(HOST);
    let sections =
        format!("listen proxy\n    bind {LOOPBACK}:{}\n    server one {HOST}:{}", stage.port, stage.port);
    let proxy = stage.start(haproxy(stage, &sections)).up(stage.port);
    stage.trace();
    request(stage);
    let refusal = stage.refusal("the refusal of HAProxy", |line| line.dst.addr == HOST);
    stage.expect(&refusal, Cause::Remote);
    assert_eq!(refusal.line.client.pid, Some(proxy.pid), "{}", refusal.shown());
    refusal.mentions(HOST).never_shows("listen on 203");
}

fn chain_of_three_proxies(stage: &mut Stage) {
    let (second, third, last) = (stage.another_port(), stage.another_port(), stage.another_port());
    let from = format!("TCP-LISTEN:{third},bind={LOOPBACK},fork,reuseaddr");
    let _socat = stage.start(socat(&from, &format!("TCP:{LOOPBACK}:{last}"))).up(third);
    let http = format!(
        "server {{ listen {LOOPBACK}:{second}; location / {{ proxy_pass http://{LOOPBACK}:{third}; }} }}"
    );
    let _nginx = stage.start(nginx(stage, &http)).up(second);
    let sections =
        format!("listen proxy\n    bind {LOOPBACK}:{}\n    server one {LOOPBACK}:{second}", stage.port);
    let _haproxy = stage.start(haproxy(stage, &sections)).up(stage.port);
    stage.trace();
    requests(stage);
    let refusal = stage.upstream(last);
    assert_eq!(refusal.line.client.comm.as_deref(), Some("socat"), "{}", refusal.shown());
    assert_eq!(refusal.line.role, Role::Upstream);
    refusal.summary_has(&format!("socat serves {LOOPBACK}:{third}"));
}

/// Requests that show the hops, each the next one, in the time that it takes to read which process listens there.
fn requests(stage: &Stage) {
    for _ in 0..8 {
        request(stage);
        pass(Duration::from_millis(150));
    }
}

fn chain_that_comes_up(stage: &mut Stage) {
    let (second, third, last) = (stage.another_port(), stage.another_port(), stage.another_port());
    stage.trace();
    let server = format!(
        "server {{ listen {LOOPBACK}:{}; location / {{ proxy_pass http://{LOOPBACK}:{second}; }} }}",
        stage.port
    );
    let _nginx = stage.start(nginx(stage, &server)).up(stage.port);
    request(stage);
    let first = stage.upstream(second);
    assert_eq!(first.line.client.comm.as_deref(), Some("nginx"), "{}", first.shown());
    let sections = format!("listen proxy\n    bind {LOOPBACK}:{second}\n    server one {LOOPBACK}:{third}");
    let _haproxy = stage.start(haproxy(stage, &sections)).up(second);
    requests(stage);
    let refusal = stage.upstream(third);
    assert_eq!(refusal.line.client.comm.as_deref(), Some("haproxy"), "{}", refusal.shown());
    let from = format!("TCP-LISTEN:{third},bind={LOOPBACK},fork,reuseaddr");
    let _socat = stage.start(socat(&from, &format!("TCP:{LOOPBACK}:{last}"))).up(third);
    requests(stage);
    let refusal = stage.upstream(last);
    assert_eq!(refusal.line.client.comm.as_deref(), Some("socat"), "{}", refusal.shown());
}

fn chain_into_a_container(stage: &mut Stage) {
    let container = stage.container();
    let (inside, last) = (stage.another_port(), stage.another_port());
    let sections = format!("listen proxy\n    bind 0.0.0.0:{inside}\n    server one {LOOPBACK}:{last}");
    let haproxy = stage.start_in(&container, haproxy(stage, &sections)).up(inside);
    let proxy = docker_proxy((LOOPBACK, stage.port), (&stage.inside(), inside));
    let _proxy = stage.start(proxy).up(stage.port);
    stage.trace();
    requests(stage);
    let refusal = stage.upstream(last);
    assert_eq!(refusal.line.client.pid, Some(haproxy.pid), "{}", refusal.shown());
    refusal.summary_has(&format!("haproxy serves 0.0.0.0:{inside}: its clients get 503"));
}
