//! Units that run the same program, and control groups that another user names like a unit of the system.

use libtest_mimic::Trial;
use tests::systemd::Unit;
use tracer::output::schema::{Because, Cause, KnownBy};

use super::stage::{Gate, LOOPBACK, OTHER, Stage, unit_name};
use super::wrong::scenario;

pub fn all() -> Vec<Trial> {
    vec![
        scenario("units::identity::a_group_named_like_the_unit", a_group_named_like_the_unit),
        scenario(
            "units::identity::a_listener_in_a_group_named_like_the_unit",
            a_listener_in_a_group_named_like_the_unit,
        ),
        scenario(
            "units::identity::the_port_is_taken_in_a_group_named_like_the_unit",
            the_port_is_taken_in_a_group_named_like_the_unit,
        ),
        scenario("units::identity::another_unit_of_the_same_program", another_unit_of_the_same_program),
    ]
}

/// A service of root that served and was stopped, and one of another user with the same program, in a group that it has
/// named like the first.
struct Scene {
    stage: Stage,
    real: Unit,
    /// Process id of what served.
    served: u32,
    delegated: Unit,
    /// Before the other user's service listens.
    gate: Gate,
}

impl Scene {
    /// `addr` is where the other user's service listens.
    fn begin(addr: &str) -> Self {
        let mut stage = Stage::begin();
        let steps = format!("listen {}", stage.at(LOOPBACK));
        let real = stage.service("gateway.service", &steps, "");
        let gate = stage.gate("gate");
        let steps =
            format!("group {} execute wait {} listen {}", real.name, gate.path().display(), stage.at(addr));
        let delegated = stage.service("mail.service", &steps, "User=nobody\nDelegate=yes");
        stage.trace();
        real.start();
        let served = real.main_process();
        stage.opened(served);
        stage.answered();
        real.stop();
        stage.closed(served);
        delegated.start();
        let pid = delegated.main_process();
        let group = format!("{}/{}\n", delegated.name, real.name);
        tests::poll("the group of the other user's service", || {
            let own = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
            own.ends_with(&group).then_some(())
        });
        Self { stage, real, served, delegated, gate }
    }

    /// Has the other user's service listen; returns its process id.
    fn listen(&mut self) -> u32 {
        self.gate.open();
        let pid = self.delegated.main_process();
        let line = self.stage.opened(pid);
        assert_ne!(unit_name(&line.listener.process), Some(self.real.name.as_str()), "{line:?}");
        pid
    }
}

fn a_group_named_like_the_unit() {
    let Scene { mut stage, real, served, delegated, .. } = Scene::begin(LOOPBACK);
    let refusal = stage.refused(Cause::Stopped);
    refusal.server(served, &real, KnownBy::Listener).instances(1).mentions("SIGTERM").never_shows("wait");
    refusal.not_a_server(delegated.main_process());
    stage.end();
}

fn a_listener_in_a_group_named_like_the_unit() {
    let mut scene = Scene::begin(OTHER);
    let pid = scene.listen();
    let Scene { mut stage, real, served, .. } = scene;
    // It is shown, clears nothing and decides nothing.
    let refusal = stage.refused(Cause::Stopped);
    refusal.certain().server(served, &real, KnownBy::Listener).instances(1).not_a_server(pid);
    let mut listeners = refusal.line.verdict.listeners.iter();
    assert!(
        listeners.any(|found| found.listener.process.pid == Some(pid)),
        "{pid} is not shown: {}",
        refusal.shown()
    );
    stage.end();
}

fn the_port_is_taken_in_a_group_named_like_the_unit() {
    let mut scene = Scene::begin(LOOPBACK);
    let pid = scene.listen();
    let Scene { mut stage, delegated, .. } = scene;
    stage.answered();
    delegated.stop();
    stage.closed(pid);
    let refusal = stage.refused(Cause::Stopped);
    refusal.degraded(Because::SeveralOwners);
    stage.end();
}

/// Two units of root run the same program, as instances of a template do: one is stopped, and the other is restarted.
fn another_unit_of_the_same_program() {
    let mut stage = Stage::begin();
    let steps = format!("listen {}", stage.at(LOOPBACK));
    let stopped = stage.service("gateway@1.service", &steps, "");
    let gate = stage.gate("gate");
    let steps = format!("wait {} listen {}", gate.path().display(), stage.at(LOOPBACK));
    let other = stage.service("gateway@2.service", &steps, "");
    stage.trace();
    stopped.start();
    let served = stopped.main_process();
    stage.opened(served);
    stopped.stop();
    stage.closed(served);
    other.start();
    let pid = other.main_process();
    let refusal = stage.refused(Cause::Stopped);
    refusal.certain().server(served, &stopped, KnownBy::Listener).instances(1).not_a_server(pid);
    refusal.never_shows("wait");
    stage.end();
}
