//! Packet filters, interfaces and other hosts.

use tests::needs::Need;
use tracer::output::schema::{Cause, KnownBy};

use crate::servers::{haproxy, nginx_at, python, redis, socat};
use crate::software::Software;
use crate::stage::{LOOPBACK, Scenario, Stage};

const NFT: &[Need] = &[Need::Nft];

/// An address of no namespace of this host.
const ELSEWHERE: &str = "10.77.0.200";

pub const ALL: &[Scenario] = &[
    Scenario {
        name: "output_rejects_another_host",
        sentence: "A rule of this host rejects connections to another host.",
        cause: Cause::Filtered,
        software: &[Software::Curl],
        needs: NFT,
        play: output_rejects,
    },
    Scenario {
        name: "forward_rejects_a_container",
        sentence: "A container connects to another host, and the host's FORWARD rule rejects it.",
        cause: Cause::Filtered,
        software: &[Software::Curl],
        needs: NFT,
        play: forward_rejects,
    },
    Scenario {
        name: "service_without_endpoints",
        sentence: "kube-proxy's rule rejects the address of a Service without endpoints.",
        cause: Cause::Filtered,
        software: &[Software::Curl, Software::Nginx],
        needs: NFT,
        play: service_without_endpoints,
    },
    Scenario {
        name: "nginx_behind_a_firewall",
        sentence: "A rule rejects connections to nginx by ICMP.",
        cause: Cause::Intercepted,
        software: &[Software::Nginx],
        needs: NFT,
        play: nginx_behind_a_firewall,
    },
    Scenario {
        name: "redis_behind_a_firewall",
        sentence: "A rule resets connections to Redis.",
        cause: Cause::Intercepted,
        software: &[Software::Redis],
        needs: NFT,
        play: redis_behind_a_firewall,
    },
    Scenario {
        name: "haproxy_on_an_interface",
        sentence: "HAProxy is bound to an interface, and the client uses loopback.",
        cause: Cause::WrongDevice,
        software: &[Software::Haproxy],
        needs: &[],
        play: haproxy_on_an_interface,
    },
    Scenario {
        name: "socat_on_an_interface",
        sentence: "socat is bound to an interface, and the client uses loopback.",
        cause: Cause::WrongDevice,
        software: &[Software::Socat],
        needs: &[],
        play: socat_on_an_interface,
    },
    Scenario {
        name: "another_host_resets",
        sentence: "curl asks another host, which refuses; a server of this host has the same port.",
        cause: Cause::Remote,
        software: &[Software::Curl, Software::Python],
        needs: NFT,
        play: another_host_resets,
    },
];

fn reject(stage: &Stage, hook: &str, rule: &str) {
    stage.netns.nft(&format!(
        "table inet firewall {{
            chain {hook} {{
                type filter hook {hook} priority 0
                {rule}
            }}
        }}"
    ));
}

fn curl_refused(stage: &mut Stage, to: &str) -> crate::stage::Refusal {
    let curl = stage.curl(&format!("http://{to}:{}/", stage.port));
    assert_eq!(curl.status.code(), Some(7), "curl could connect: {}", curl.stderr);
    let refusal = stage.refusal("the refusal of curl", |line| line.client.comm.as_deref() == Some("curl"));
    stage.expect(&refusal, stage.cause());
    refusal
}

fn output_rejects(stage: &mut Stage) {
    reject(stage, "output", &format!("ip daddr {ELSEWHERE} tcp dport {} reject", stage.port));
    stage.trace();
    curl_refused(stage, ELSEWHERE).mentions(ELSEWHERE).certain().hint_has("nft list ruleset");
}

fn forward_rejects(stage: &mut Stage) {
    let container = stage.container();
    stage.setting("net/ipv4/ip_forward", "1");
    reject(stage, "forward", &format!("ip daddr {ELSEWHERE} tcp dport {} reject", stage.port));
    stage.trace();
    let refusal = stage.refused_from(&container, Cause::Filtered, ELSEWHERE, stage.port);
    refusal.hint_has("nft list ruleset");
}

fn service_without_endpoints(stage: &mut Stage) {
    const SERVICE: &str = "10.96.0.10";
    stage.netns.ip("route add 10.96.0.0/12 dev eth0");
    let comment = "default/web has no endpoints";
    let rule = format!("ip daddr {SERVICE} tcp dport {} reject comment \"{comment}\"", stage.port);
    reject(stage, "output", &rule);
    // A server on the port that does not cover the Service's address decides nothing.
    let _nginx = stage.start(nginx_at(stage, &[&format!("{LOOPBACK}:{}", stage.port)])).up(stage.port);
    stage.trace();
    let refusal = curl_refused(stage, SERVICE);
    refusal.mentions(SERVICE).certain().hint_has("nft list ruleset").never_shows("listen on 10.96");
}

fn nginx_behind_a_firewall(stage: &mut Stage) {
    let nginx = stage.start(nginx_at(stage, &[&format!("0.0.0.0:{}", stage.port)])).up(stage.port);
    stage.trace();
    stage.answered(LOOPBACK);
    reject(stage, "input", &format!("tcp dport {} reject", stage.port));
    let refusal = stage.refused(LOOPBACK);
    refusal.server(nginx.pid, KnownBy::Listener).hint_has("nft list ruleset").never_shows("restart");
}

fn redis_behind_a_firewall(stage: &mut Stage) {
    stage.trace();
    let redis = stage.start(redis(stage.port, LOOPBACK)).up(stage.port).printed("Ready to accept");
    reject(stage, "input", &format!("tcp dport {} reject with tcp reset", stage.port));
    let refusal = stage.refused(LOOPBACK);
    refusal.server(redis.pid, KnownBy::Listener).hint_has("nft list ruleset").never_shows("restart");
}

fn haproxy_on_an_interface(stage: &mut Stage) {
    let sections = format!(
        "frontend web\n    mode http\n    bind 0.0.0.0:{} interface eth0\n    http-request return status 200",
        stage.port
    );
    let server = stage.start(haproxy(stage, &sections)).up(stage.port);
    stage.trace();
    let refusal = stage.refused(LOOPBACK);
    refusal.server(server.pid, KnownBy::Listener).certain().summary_has("eth0");
}

fn socat_on_an_interface(stage: &mut Stage) {
    stage.trace();
    let from = format!("TCP-LISTEN:{},fork,so-bindtodevice=eth0", stage.port);
    let server = stage.start(socat(&from, "EXEC:/bin/cat")).up(stage.port);
    let refusal = stage.refused(LOOPBACK);
    refusal.server(server.pid, KnownBy::Listener).certain().summary_has("eth0");
}

fn another_host_resets(stage: &mut Stage) {
    const HOST: &str = "203.0.113.9";
    stage.another_host(HOST);
    let _server = stage.start(python(stage, LOOPBACK, stage.port)).up(stage.port);
    stage.trace();
    curl_refused(stage, HOST).mentions(HOST).never_shows("restart");
}
