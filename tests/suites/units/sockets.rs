//! Socket units: systemd opens the listener, and a service takes it over.

use libtest_mimic::Trial;
use tests::systemd::Unit;
use tracer::output::schema::{Cause, Change, KnownBy};

use super::stage::{LOOPBACK, Stage};
use super::wrong::scenario;

/// systemd itself, which holds the listener that a child of it has opened.
const MANAGER: u32 = 1;

pub fn all() -> Vec<Trial> {
    vec![
        scenario(
            "units::sockets::it_is_stopped_before_a_service_started",
            it_is_stopped_before_a_service_started,
        ),
        scenario("units::sockets::its_service_keeps_the_listener", its_service_keeps_the_listener),
    ]
}

/// A socket unit at the watched port, and its service.
fn socket(stage: &mut Stage) -> (Unit, Unit) {
    let service = stage.service("gateway.service", "activated", "");
    let listen = stage.at(LOOPBACK);
    (stage.units.write("gateway.socket", &format!("[Socket]\nListenStream={listen}\n")), service)
}

fn it_is_stopped_before_a_service_started() {
    let mut stage = Stage::begin();
    let (socket, _) = socket(&mut stage);
    stage.trace();
    socket.start();
    stage.listener_change(Change::Opened);
    socket.stop();
    stage.listener_change(Change::Closed);
    let refusal = stage.refused(Cause::Stopped);
    refusal.certain().hint_has(".socket").never_shows("SIGTERM");
    let server = refusal.line.verdict.server.as_ref().expect("a server");
    assert_eq!(
        (server.process.pid, server.known_by),
        (Some(MANAGER), KnownBy::Listener),
        "{}",
        refusal.shown()
    );
    socket.start();
    stage.recovered(&refusal);
    stage.end();
}

fn its_service_keeps_the_listener() {
    let mut stage = Stage::begin();
    let (socket, service) = socket(&mut stage);
    stage.trace();
    socket.start();
    stage.listener_change(Change::Opened);
    // This connect starts the service; the kernel answers it before the service runs.
    stage.answered();
    let server = service.main_process();
    stage.answered();
    socket.stop();
    // systemd has closed its descriptor of the listener, and the service still holds one.
    stage.answered();
    service.stop();
    let closed = stage.listener_change(Change::Closed);
    let refusal = stage.refused(Cause::Stopped);
    assert_eq!(closed.listener.port, stage.port, "{closed:?}");
    refusal.certain().server(server, &service, KnownBy::Listener).instances(1).mentions("SIGTERM");
    stage.end();
}
