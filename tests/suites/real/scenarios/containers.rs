//! Ports that Podman publishes: conmon holds them, and NAT leads into the container.

use rustix::process::Signal;
use tests::poll;
use tracer::output::schema::{Cause, KnownBy};

use crate::servers::{podman, redis};
use crate::software::Software;
use crate::stage::{ETH0, LOOPBACK, Scenario, Stage, descendants, is_listening};

/// The port that the container's server listens on.
const INSIDE: u16 = 8080;

pub const ALL: &[Scenario] = &[
    Scenario {
        name: "podman_leads_to_a_loopback_server",
        sentence: "Podman publishes the port of a server that listens on its container's 127.0.0.1 only.",
        cause: Cause::Intercepted,
        software: &[Software::Podman, Software::Busybox],
        needs: &[],
        play: podman_and_loopback,
    },
    Scenario {
        name: "podman_publishes_the_port_already",
        sentence: "Redis fails to take a port that Podman publishes, and NAT leads to nothing in the container.",
        cause: Cause::Intercepted,
        software: &[Software::Podman, Software::Busybox, Software::Redis],
        needs: &[],
        play: podman_has_the_port,
    },
    Scenario {
        name: "podman_publishes_on_loopback",
        sentence: "Podman publishes a port on 127.0.0.1, and the client asks eth0.",
        cause: Cause::WrongAddress,
        software: &[Software::Podman, Software::Busybox],
        needs: &[],
        play: podman_on_loopback,
    },
    Scenario {
        name: "podman_stops_the_container",
        sentence: "The container ends, and conmon with it.",
        cause: Cause::Stopped,
        software: &[Software::Podman, Software::Busybox],
        needs: &[],
        play: podman_stops,
    },
];

/// Waits until the server of a container listens.
fn wait_served(conmon: u32) {
    poll("the container's server", || {
        descendants(conmon).into_iter().skip(1).any(|pid| is_listening(pid, INSIDE)).then_some(())
    });
}

fn podman_and_loopback(stage: &mut Stage) {
    let container = podman(stage, &stage.port.to_string(), "httpd -f -p 127.0.0.1:8080");
    let _container = stage.start(container).printed("published");
    let conmon = stage.process("conmon");
    stage.trace();
    for to in [LOOPBACK, ETH0] {
        let refusal = stage.refused(to);
        refusal.server(conmon, KnownBy::Listener).hint_has("podman port --all");
    }
}

fn podman_has_the_port(stage: &mut Stage) {
    stage.trace();
    let container = podman(stage, &stage.port.to_string(), "sleep 600");
    let _container = stage.start(container).printed("published");
    let conmon = stage.process("conmon");
    let _redis =
        stage.start(redis(stage.port, LOOPBACK)).printed("Could not create server TCP listening socket");
    let refusal = stage.refused(LOOPBACK);
    refusal.server(conmon, KnownBy::Listener).hint_has("Podman's NAT");
}

fn podman_on_loopback(stage: &mut Stage) {
    let published = format!("{LOOPBACK}:{}", stage.port);
    let _container = stage.start(podman(stage, &published, "httpd -f -p 8080")).printed("published");
    let conmon = stage.process("conmon");
    stage.trace();
    wait_served(conmon);
    stage.answered(LOOPBACK);
    let refusal = stage.refused(ETH0);
    refusal.server(conmon, KnownBy::Listener).certain().hint_has("podman run -p");
}

fn podman_stops(stage: &mut Stage) {
    stage.trace();
    let container = podman(stage, &stage.port.to_string(), "httpd -f -p 8080");
    let mut container = stage.start(container).printed("published");
    let conmon = stage.process("conmon");
    wait_served(conmon);
    stage.answered(LOOPBACK);
    container.end_by(Signal::TERM);
    stage.not_listening(stage.port);
    let refusal = stage.refused(LOOPBACK);
    refusal.server(conmon, KnownBy::Listener).hint_has("podman logs");
}
