//! Runs a scenario: a watched port of this host's own network namespace, units, a tracer, and what its log must report.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use tracer::output::schema::{
    Because, Body, Cause, Change, Confidence, KnownBy, ListenerLine, Recovered, Refused,
};

use tests::fixture::{assert_sound, but_for_skips, wait_past};
use tests::needs::Need;
use tests::netns::Place;
use tests::port::Port;
use tests::process::{Actor, ProcessSpec};
use tests::systemd::{Unit, Units};
use tests::tracer::Tracer;

/// What every scenario needs.
pub const NEEDS: &[Need] = &[Need::Systemd, Need::Root, Need::Network];

pub const LOOPBACK: &str = "127.0.0.1";

/// An address of loopback that nothing connects to.
pub const OTHER: &str = "127.0.0.2";

/// Longer than the 50 ms for which a listener is a probe.
const MORE_THAN_A_PROBE_US: u64 = 120_000;

/// Where a scenario is staged.
pub struct Stage {
    /// The port that tracer watches.
    pub port: u16,
    pub units: Units,
    directory: tempfile::TempDir,
    tracer: Option<Tracer>,
    clients: u32,
    _port: Port,
}

impl Stage {
    pub fn begin() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        // Services of other users execute what is in it.
        fs::set_permissions(directory.path(), Permissions::from_mode(0o755)).expect("to open it to all");
        let port = Port::take();
        Self { port: port.number, units: Units::new(), directory, tracer: None, clients: 0, _port: port }
    }

    /// The name of the program of the scenario's services, which no other scenario's have.
    pub fn program_name(&self) -> String {
        format!("gateway{}", self.port)
    }

    /// The path of that program, which is a server (server.rs).
    fn program(&self) -> String {
        let path = self.directory.path().join(self.program_name());
        if !path.exists() {
            let own = std::env::current_exe().expect("the path of this test binary");
            // A file name of its own, which a symbolic link would not be.
            fs::hard_link(&own, &path)
                .or_else(|_| fs::copy(&own, &path).map(drop))
                .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        }
        path.to_str().expect("UTF-8").to_owned()
    }

    /// What `ExecStart=` has for a server that takes these steps.
    pub fn command(&self, steps: &str) -> String {
        format!("{} server {steps}", self.program())
    }

    /// Writes a service whose main process takes these steps; `settings` are lines of its section `Service`.
    pub fn service(&mut self, ending: &str, steps: &str, settings: &str) -> Unit {
        let command = self.command(steps);
        let unit = format!(
            "[Unit]\nStartLimitIntervalSec=0\n[Service]\nType=exec\nExecStart={command}\n{settings}\n"
        );
        self.units.write(ending, &unit)
    }

    /// An address with the watched port.
    pub fn at(&self, addr: &str) -> String {
        format!("{addr}:{}", self.port)
    }

    /// A file that is not there until a scenario makes it.
    pub fn gate(&self, name: &str) -> Gate {
        Gate(self.directory.path().join(name))
    }

    /// Starts tracer on the scenario's port and waits until it is ready.
    pub fn trace(&mut self) {
        self.trace_with(&[]);
    }

    /// The same with the name of the scenario's program as that of a server.
    pub fn trace_by_name(&mut self) {
        let name = self.program_name();
        self.trace_with(&["--server", &name]);
    }

    fn trace_with(&mut self, more: &[&str]) {
        self.tracer = Some(Tracer::start(&[self.port], more));
    }

    fn tracer(&mut self) -> &mut Tracer {
        self.tracer.as_mut().expect("a scenario that is traced")
    }

    /// Waits until the log shows that a process listens, and has for longer than a probe.
    pub fn opened(&mut self, pid: u32) -> ListenerLine {
        let (line, mono_us) = self.tracer().listener_and_time(Change::Opened, pid);
        wait_past(mono_us + MORE_THAN_A_PROBE_US);
        line
    }

    /// Waits until the log shows that the listener of a process closed, and the change is past.
    pub fn closed(&mut self, pid: u32) -> ListenerLine {
        let (line, mono_us) = self.tracer().listener_and_time(Change::Closed, pid);
        wait_past(mono_us + MORE_THAN_A_PROBE_US);
        line
    }

    /// Waits for the first listener that opens or closes.
    pub fn listener_change(&mut self, change: Change) -> ListenerLine {
        let (line, mono_us) =
            self.tracer().wait_for(&format!("a listener {change:?}"), |line| match &line.body {
                Body::Listener(listener) if listener.change == change => {
                    Some(((**listener).clone(), line.mono_us))
                }
                _ => None,
            });
        wait_past(mono_us + MORE_THAN_A_PROBE_US);
        line
    }

    /// Waits until so many listeners of this unit have changed like this, and the last change is past.
    pub fn change_of(&mut self, unit: &Unit, change: Change, times: usize) {
        let mut count = 0;
        let mono_us = self.tracer().wait_for(&format!("{} {change:?}, {times} times", unit.name), |line| {
            let is_change = matches!(&line.body, Body::Listener(line)
                if line.change == change && unit_name(&line.listener.process) == Some(&unit.name));
            count += usize::from(is_change);
            (count == times && is_change).then_some(line.mono_us)
        });
        wait_past(mono_us + MORE_THAN_A_PROBE_US);
    }

    /// A connect to the watched port that is refused.
    pub fn refused(&mut self, cause: Cause) -> Refusal {
        self.try_connect().unwrap_or_else(|| panic!("an answer")).has(cause)
    }

    /// A connect that is answered.
    pub fn answered(&mut self) {
        if let Some(refusal) = self.try_connect() {
            panic!("it is refused: {}", refusal.shown());
        }
    }

    /// A connect to the watched port that is refused, where another tracer than the stage's logs it; returns the client.
    pub fn refused_unseen(&mut self) -> Actor {
        self.connect().expect_err("a refusal")
    }

    /// Connects as a process of its own, so that its refusal is not counted as a repetition; the error is the client that
    /// was refused.
    fn connect(&mut self) -> Result<(), Actor> {
        self.clients += 1;
        let own = Place::Path(PathBuf::from("/proc/self/ns/net"));
        let mut client = Actor::start(&own, &ProcessSpec::named(format!("client{}", self.clients)));
        let Err(errno) = client.ask(&format!("connect {}", self.at(LOOPBACK))) else { return Ok(()) };
        assert_eq!(errno, rustix::io::Errno::CONNREFUSED.raw_os_error(), "errno of a connect");
        Err(client)
    }

    /// The refusal of a connect, if it is refused.
    fn try_connect(&mut self) -> Option<Refusal> {
        let client = self.connect().err()?;
        let pid = client.pid;
        let (seq, line) = self.tracer().wait_for("the refusal", |line| match &line.body {
            Body::Refused(refused) if refused.client.pid == Some(pid) => {
                Some((line.seq, (**refused).clone()))
            }
            _ => None,
        });
        let refusal = Refusal { line, seq, _client: client };
        assert_sound(&refusal.line.verdict, &refusal.shown());
        refusal.never_shows("kill ");
        Some(refusal)
    }

    /// Waits for the line that the destination of a refusal is answered again.
    pub fn recovered(&mut self, refusal: &Refusal) -> Recovered {
        let seq = refusal.seq;
        self.tracer().wait_for("the recovery", |line| match &line.body {
            Body::Recovered(recovered) if recovered.of.contains(&seq) => Some((**recovered).clone()),
            _ => None,
        })
    }

    /// Stops tracer, which checks what must hold for every run.
    pub fn end(mut self) {
        self.tracer.take().expect("a scenario that is traced").stop();
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        // What came of a failed scenario.
        if let Some(tracer) = self.tracer.as_mut().filter(|_| std::thread::panicking()) {
            eprintln!("{}\nthe journal:\n{}", tracer.printed(), self.units.journal());
        }
    }
}

/// A file that servers wait for.
pub struct Gate(PathBuf);

impl Gate {
    pub fn path(&self) -> &Path {
        &self.0
    }

    pub fn open(&self) {
        fs::write(&self.0, "").unwrap_or_else(|error| panic!("{}: {error}", self.0.display()));
    }

    pub fn shut(&self) {
        fs::remove_file(&self.0).unwrap_or_else(|error| panic!("{}: {error}", self.0.display()));
    }
}

/// The name of a process's unit, where the system's manager runs it.
pub fn unit_name(process: &tracer::output::schema::Process) -> Option<&str> {
    process.unit.as_ref().filter(|unit| unit.user.is_none()).map(|unit| unit.name.as_str())
}

/// A connect that was refused, and what the log reports of it.
pub struct Refusal {
    pub line: Refused,
    seq: u64,
    /// Runs until the scenario is over, so that its process id stays its own.
    _client: Actor,
}

impl Refusal {
    fn has(self, cause: Cause) -> Self {
        let verdict = &self.line.verdict;
        let is_wrong = verdict.cause != cause;
        assert!(
            !is_wrong,
            "the cause is `{}` and not `{}`: {}",
            verdict.cause.name(),
            cause.name(),
            self.shown()
        );
        self
    }

    pub fn certain(&self) -> &Self {
        let because = but_for_skips(&self.line.verdict.because, &[]);
        assert_eq!(because, [], "not certain: {}", self.shown());
        self
    }

    pub fn not_certain(&self) -> &Self {
        assert_eq!(self.line.verdict.confidence, Confidence::Degraded, "{}", self.shown());
        self
    }

    pub fn degraded(&self, because: Because) -> &Self {
        assert!(self.line.verdict.because.contains(&because), "not {because:?}: {}", self.shown());
        self
    }

    /// Asserts the process that should have answered, its unit, and how it is known.
    pub fn server(&self, pid: u32, unit: &Unit, known_by: KnownBy) -> &Self {
        self.server_of(unit, known_by);
        let server = self.line.verdict.server.as_ref().expect("asserted");
        assert_eq!(server.process.pid, Some(pid), "the server: {}", self.shown());
        self
    }

    /// The same for any process of the unit.
    pub fn server_of(&self, unit: &Unit, known_by: KnownBy) -> &Self {
        let server = self.line.verdict.server.as_ref();
        let server = server.unwrap_or_else(|| panic!("no server: {}", self.shown()));
        let named = (unit_name(&server.process), server.known_by);
        assert_eq!(named, (Some(unit.name.as_str()), known_by), "the server: {}", self.shown());
        self
    }

    /// Asserts how many instances of the server were seen.
    pub fn instances(&self, count: u64) -> &Self {
        let server = self.line.verdict.server.as_ref();
        assert_eq!(server.map(|server| server.instances), Some(count), "instances: {}", self.shown());
        self
    }

    /// Asserts that a process is not taken for a server.
    pub fn not_a_server(&self, pid: u32) -> &Self {
        let verdict = &self.line.verdict;
        let is_server = verdict.server.as_ref().is_some_and(|server| server.process.pid == Some(pid));
        let is_candidate = verdict.candidates.iter().any(|candidate| candidate.process.pid == Some(pid));
        assert!(!is_server && !is_candidate, "{pid} is taken for a server: {}", self.shown());
        self
    }

    /// Asserts words of the hint.
    pub fn hint_has(&self, words: &str) -> &Self {
        let hint = self.line.verdict.hint.as_deref().unwrap_or_default();
        assert!(hint.contains(words), "the hint lacks `{words}`: {}", self.shown());
        self
    }

    /// Asserts words of the summary or the hint.
    pub fn mentions(&self, words: &str) -> &Self {
        assert!(self.text().contains(words), "nothing mentions `{words}`: {}", self.shown());
        self
    }

    /// Asserts that neither the summary nor the hint has these words.
    pub fn never_shows(&self, words: &str) -> &Self {
        assert!(!self.text().contains(words), "`{words}` stands in the text: {}", self.shown());
        self
    }

    fn text(&self) -> String {
        let verdict = &self.line.verdict;
        format!("{}\n{}", verdict.summary, verdict.hint.as_deref().unwrap_or_default())
    }

    pub fn shown(&self) -> String {
        serde_json::to_string(&self.line).expect("a line")
    }
}
