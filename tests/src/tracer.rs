//! A running `tracer`, its event log line by line, and what must hold for every run.

use std::collections::{BTreeMap, HashMap};
use std::ffi::OsStr;
use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Cursor, Read};
use std::ops::ControlFlow;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal};
use serde_json::Value;
use tracer::output::schema::{
    Body, Cause, Change, Line, ListenerLine, LostWhere, Refused, Repeated, Role, Start, Stop, StopReason,
};

use super::binary::binary;
use super::netns::inode;
use super::token::{Checked, leak};
use super::{LIMIT, interrupt, limits, poll, schema};

/// The process: starts, gets ready, is signalled, ends; killed when it is dropped before.
pub struct Running {
    child: Child,
    stderr: Arc<Mutex<String>>,
    started: Instant,
    ready: Receiver<Instant>,
    reader: Option<JoinHandle<()>>,
}

impl Running {
    /// `tracer trace` with these arguments.
    pub fn spawn<S: AsRef<OsStr>>(arguments: impl IntoIterator<Item = S>) -> Self {
        let mut command = Command::new(binary());
        command.arg("trace").args(arguments);
        Self::spawn_command(command)
    }

    pub fn spawn_command(command: Command) -> Self {
        Self::spawn_with(command, Stdio::piped())
    }

    /// The same with this stdout.
    pub fn spawn_with(mut command: Command, stdout: Stdio) -> Self {
        // The tests may run under nohup(1), whose ignored SIGHUP a tracer would keep.
        // SAFETY: signal() may be called between fork and exec.
        unsafe {
            command.pre_exec(|| {
                libc::signal(libc::SIGHUP, libc::SIG_DFL);
                Ok(())
            });
        }
        let started = Instant::now();
        let mut child = command
            .stdin(Stdio::null())
            .stdout(stdout)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let pipe = BufReader::new(child.stderr.take().expect("a piped stderr"));
        let stderr = Arc::new(Mutex::new(String::new()));
        let (sender, ready) = mpsc::channel();
        let copy = Arc::clone(&stderr);
        let reader = std::thread::spawn(move || {
            for line in pipe.split(b'\n').map_while(Result::ok) {
                let now = Instant::now();
                let line = String::from_utf8_lossy(&line);
                copy.lock().expect("the stderr of tracer").push_str(&format!("{line}\n"));
                if line.starts_with("tracer: ready") {
                    let _ = sender.send(now);
                }
            }
        });
        Self { child, stderr, started, ready, reader: Some(reader) }
    }

    /// Reads its whole stdout, in a thread of its own.
    pub fn read_stdout(&mut self) -> JoinHandle<Vec<u8>> {
        read_all(self.take_stdout())
    }

    pub fn take_stdout(&mut self) -> Checked<ChildStdout> {
        Checked::new(self.child.stdout.take().expect("stdout is taken once"))
    }

    /// Waits for the line on stderr that reports that tracer is ready, and returns how long after its start
    /// it came.
    pub fn wait_ready(&mut self) -> Duration {
        match interrupt::receive(&self.ready, LIMIT) {
            Ok(at) => at - self.started,
            Err(RecvTimeoutError::Timeout) => panic!("not ready after {LIMIT:?}; stderr:\n{}", self.stderr()),
            Err(RecvTimeoutError::Disconnected) => {
                let status = self.child.wait().expect("the end of tracer");
                panic!("{status} before it was ready; stderr:\n{}", self.stderr());
            }
        }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).expect("a process id");
        rustix::process::kill_process(pid, signal).expect("to signal tracer");
    }

    pub fn wait_exit(&mut self) -> ExitStatus {
        poll("the end of tracer", || self.child.try_wait().expect("to wait for tracer"))
    }

    /// Ends it as Ctrl-C does, with exit code 0.
    pub fn stop(mut self) {
        self.signal(Signal::INT);
        let status = self.wait_exit();
        assert!(status.success(), "{status}; stderr:\n{}", self.stderr());
    }

    /// All that it wrote to stderr, once the pipe has ended.
    pub fn stderr_if_ended(&self) -> Option<String> {
        self.reader.as_ref().is_none_or(JoinHandle::is_finished).then(|| self.stderr())
    }

    pub fn stderr(&self) -> String {
        let stderr = self.stderr.lock().expect("the stderr of tracer").clone();
        assert_eq!(leak(&stderr), None);
        stderr
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        // All of it, once no process writes to it any more.
        if let Some(reader) = self.reader.take().filter(|_| !std::thread::panicking()) {
            reader.join().expect("to read stderr");
            self.stderr();
        }
    }
}

/// `tracer trace -o json` with every line of its log checked against the closed schema as it comes.
pub struct Tracer {
    running: Running,
    incoming: Receiver<Result<Line, String>>,
    lines: Vec<Line>,
}

impl Tracer {
    /// Starts it on these ports and waits until it is ready.
    pub fn start(ports: &[u16], more: &[&str]) -> Self {
        // Another way to follow binds has other limits.
        let is_restricted = more.contains(&"--bind-hook");
        let own_netns = inode(Path::new("/proc/self/ns/net"));
        Self::begin(Command::new(binary()), own_netns, ports, more, is_restricted)
    }

    /// The same by a command that starts it in the network namespace of this number, without all that it needs.
    pub fn start_as(command: Command, own_netns: u32, ports: &[u16], more: &[&str]) -> Self {
        Self::begin(command, own_netns, ports, more, true)
    }

    fn begin(
        mut command: Command,
        own_netns: u32,
        ports: &[u16],
        more: &[&str],
        is_restricted: bool,
    ) -> Self {
        let list: Vec<String> = ports.iter().map(u16::to_string).collect();
        command.args(["trace", "-p", &list.join(","), "-o", "json"]).args(more);
        if !more.contains(&"--patience") {
            // A machine that is emulated, or has its processors taken, answers late: only `stalls` asserts when.
            command.args(["--patience", "10s"]);
        }
        let mut running = Running::spawn_command(command);
        let stdout = running.take_stdout();
        let (sender, incoming) = mpsc::channel();
        read_lines(stdout, parse, move |parsed| {
            let failed = parsed.is_err();
            if sender.send(parsed).is_err() || failed {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        });
        let mut tracer = Self { running, incoming, lines: Vec::new() };
        tracer.running.wait_ready();
        tracer.wait_for("the ready line", |line| match &line.body {
            Body::Ready(_) => Some(()),
            _ => None,
        });
        let start = tracer.start_line();
        assert_eq!((start.pid, start.ports.as_slice()), (tracer.running.pid(), ports), "{start:?}");
        assert_eq!(start.own_netns.id, own_netns, "{start:?}");
        let limits = start.limits.iter().map(|limit| limit.what.as_str()).collect();
        limits::check(&limits, is_restricted).unwrap_or_else(|error| panic!("{error}: {start:?}"));
        tracer
    }

    /// The first line, past or to come, that `find` takes.
    pub fn wait_for<T>(&mut self, what: &str, mut find: impl FnMut(&Line) -> Option<T>) -> T {
        if let Some(found) = self.lines.iter().find_map(&mut find) {
            return found;
        }
        let deadline = Instant::now() + LIMIT;
        loop {
            match self.incoming.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(Ok(line)) => {
                    self.lines.push(line);
                    if let Some(found) = find(self.lines.last().expect("just pushed")) {
                        return found;
                    }
                }
                Ok(Err(error)) => panic!("{error}"),
                Err(reason) => panic!("{what} did not come ({reason:?}); {}", self.printed()),
            }
        }
    }

    /// The refusal of this process's connect.
    pub fn refused(&mut self, pid: u32) -> Refused {
        self.wait_for(&format!("the refusal of process {pid}"), |line| match &line.body {
            Body::Refused(refused) if refused.client.pid == Some(pid) => Some((**refused).clone()),
            _ => None,
        })
    }

    /// The line that a listener of this process was there, opened or closed.
    pub fn listener(&mut self, change: Change, pid: u32) -> ListenerLine {
        self.listener_and_time(change, pid).0
    }

    /// The same with the line's `mono_us`.
    pub fn listener_and_time(&mut self, change: Change, pid: u32) -> (ListenerLine, u64) {
        self.wait_for(&format!("a listener of process {pid} {change:?}"), |line| match &line.body {
            Body::Listener(listener)
                if listener.change == change && listener.listener.process.pid == Some(pid) =>
            {
                Some(((**listener).clone(), line.mono_us))
            }
            _ => None,
        })
    }

    pub fn start_line(&self) -> &Start {
        match &self.lines.first().expect("it is ready, so it has begun").body {
            Body::Start(start) => start,
            other => panic!("the first line is {other:?}"),
        }
    }

    /// Process id of the tracer.
    pub fn pid(&self) -> u32 {
        self.running.pid()
    }

    /// Why a run here cannot see something, by the limit's code.
    pub fn limit(&self, what: &str) -> Option<&str> {
        let limits = &self.start_line().limits;
        limits.iter().find(|limit| limit.what == what).map(|limit| limit.why.as_str())
    }

    pub fn signal(&self, signal: Signal) {
        self.running.signal(signal);
    }

    /// Ends it as ctrl-C does and returns its whole log.
    pub fn stop(self) -> Log {
        self.running.signal(Signal::INT);
        self.ended(StopReason::Sigint)
    }

    /// Ends it by this signal.
    pub fn stop_by(self, signal: Signal, reason: StopReason) -> Log {
        self.running.signal(signal);
        self.ended(reason)
    }

    /// Waits until it ends by itself or by a signal, checks what must hold for every run, and returns the
    /// whole log.
    pub fn ended(self, reason: StopReason) -> Log {
        let log = self.log(reason);
        // The kernel counts each program that it skipped inside of itself, for whichever socket of the host: an
        // upper bound that other tests add to.
        let is_loss = |line: &Line| match &line.body {
            Body::Lost(lost) => lost.place != LostWhere::Recursion,
            _ => false,
        };
        assert!(!log.lines.iter().any(is_loss), "{}", log.text());
        log
    }

    /// As [`Tracer::stop`], where the kernel may have to skip a program that interrupts itself.
    pub fn stop_with_losses(self) -> Log {
        self.running.signal(Signal::INT);
        self.log(StopReason::Sigint)
    }

    fn log(mut self, reason: StopReason) -> Log {
        let status = self.running.wait_exit();
        assert_eq!(status.code(), Some(0), "exit code of tracer; {}", self.printed());
        loop {
            match self.incoming.recv_timeout(LIMIT) {
                Ok(Ok(line)) => self.lines.push(line),
                Ok(Err(error)) => panic!("{error}"),
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => panic!("stdout stays open after the end"),
            }
        }
        let log = Log { lines: std::mem::take(&mut self.lines) };
        assert_eq!(log.stop().reason, reason, "{}", log.text());
        log.check();
        log
    }

    /// Its whole output, for a failing test.
    pub fn printed(&mut self) -> String {
        self.lines.extend(self.incoming.try_iter().filter_map(Result::ok));
        format!("stdout:\n{}stderr:\n{}", text(&self.lines), self.running.stderr())
    }
}

/// Reads a log line by line, in a thread of its own, to its end or until `take` breaks off.
pub fn read_lines(
    stdout: impl Read + Send + 'static,
    parse: fn(&[u8]) -> Result<Line, String>,
    mut take: impl FnMut(Result<Line, String>) -> ControlFlow<()> + Send + 'static,
) -> JoinHandle<()> {
    std::thread::spawn(move || {
        for line in BufReader::new(stdout).split(b'\n') {
            let line = line.map_err(|error| error.to_string()).and_then(|line| parse(&line));
            if take(line).is_break() {
                break;
            }
        }
    })
}

/// One line of the log by its type alone: for lines by the hundred thousand, which [`parse`] takes too long for.
pub fn parse_quickly(line: &[u8]) -> Result<Line, String> {
    serde_json::from_slice(line).map_err(|error| format!("{error} in the line `{}`", line.escape_ascii()))
}

/// One line of the log, which must be valid by the closed schema and be one JSON object of plain text.
pub fn parse(line: &[u8]) -> Result<Line, String> {
    let text = String::from_utf8_lossy(line);
    let wrong = |what: String| format!("{what} in the line `{}`", text.escape_debug());
    if let Some(byte) = line.iter().find(|byte| byte.is_ascii_control()) {
        return Err(wrong(format!("a raw byte {byte:#04x}")));
    }
    if leak(&text).is_some() {
        return Err(wrong("the token".to_owned()));
    }
    let value: Value = serde_json::from_slice(line).map_err(|error| wrong(error.to_string()))?;
    schema::check(&value).map_err(|error| wrong(format!("not valid: {error}")))?;
    let time = value["time"].as_str().unwrap_or_default();
    let decimals = time.split_once('.').and_then(|(_, rest)| rest.strip_suffix('Z')).unwrap_or_default();
    if decimals.len() != 9 || !time.contains('T') {
        return Err(wrong(format!("the time `{time}` is not UTC with nanoseconds")));
    }
    serde_json::from_value(value).map_err(|error| wrong(error.to_string()))
}

/// All lines of a log, without a gap.
pub fn parse_all(log: &[u8]) -> Vec<Line> {
    let lines = log.split(|&byte| byte == b'\n').filter(|line| !line.is_empty());
    let lines: Vec<Line> = lines.map(|line| parse(line).unwrap_or_else(|error| panic!("{error}"))).collect();
    for (line, seq) in lines.iter().zip(1..) {
        assert_eq!(line.seq, seq, "a gap in the log");
    }
    lines
}

fn text(lines: &[Line]) -> String {
    let mut text = String::new();
    for line in lines {
        let _ = writeln!(text, "{}", serde_json::to_string(line).expect("a line"));
    }
    text
}

/// A log from `start` to `stop`.
pub struct Log {
    pub lines: Vec<Line>,
}

impl Log {
    pub fn refusals(&self) -> impl Iterator<Item = &Refused> {
        self.lines.iter().filter_map(|line| match &line.body {
            Body::Refused(refused) => Some(&**refused),
            _ => None,
        })
    }

    /// Each refusal that has a line, and how many it stands for: itself, and those like it that were counted.
    pub fn tally(&self) -> Vec<(&Refused, u64)> {
        let mut tally = BTreeMap::new();
        for line in &self.lines {
            match &line.body {
                Body::Refused(refused) => {
                    tally.insert(line.seq, (&**refused, 1));
                }
                Body::Repeated(repeated) => {
                    let Repeated { of, count, processes, first, last } = repeated;
                    assert!(
                        *count > 0 && processes.is_none_or(|processes| processes <= *count) && first <= last,
                        "{repeated:?}"
                    );
                    let Some((_, reported)) = of.and_then(|of| tally.get_mut(&of)) else {
                        panic!("no refusal before {repeated:?}: {}", self.text());
                    };
                    *reported += count;
                }
                _ => {}
            }
        }
        tally.into_values().collect()
    }

    /// Asserts that so many refusals were reported; where the kernel skips programs that are preempted, but for what the log
    /// counts as skipped.
    pub fn assert_refused(&self, made: u64) {
        let stop = self.stop();
        let skipped = if limits::is_expected("preempted-programs") { self.skipped() } else { 0 };
        let reported = stop.refused;
        assert!(
            reported <= made && reported + skipped >= made,
            "{reported} of {made}, {skipped} skipped: {}",
            self.text()
        );
    }

    /// What programs were skipped for, at most.
    pub fn skipped(&self) -> u64 {
        let skipped = self.lines.iter().filter_map(|line| match &line.body {
            Body::Lost(lost) if lost.place == LostWhere::Recursion => Some(lost.records),
            _ => None,
        });
        skipped.sum()
    }

    pub fn listeners(&self) -> impl Iterator<Item = &ListenerLine> {
        self.lines.iter().filter_map(|line| match &line.body {
            Body::Listener(listener) => Some(&**listener),
            _ => None,
        })
    }

    pub fn start(&self) -> &Start {
        match &self.lines[0].body {
            Body::Start(start) => start,
            other => panic!("the first line is {other:?}"),
        }
    }

    pub fn stop(&self) -> &Stop {
        match self.lines.last().map(|line| &line.body) {
            Some(Body::Stop(stop)) => stop,
            other => panic!("the last line is {other:?}"),
        }
    }

    pub fn text(&self) -> String {
        text(&self.lines)
    }

    /// Asserts what must hold for every run.
    fn check(&self) {
        let text = || self.text();
        let run = self.lines[0].run;
        assert!(matches!(self.lines[0].body, Body::Start(_)), "{}", text());
        for (line, seq) in self.lines.iter().zip(1_u64..) {
            assert_eq!((line.v, line.run, line.seq), (1, run, seq), "{}", text());
            if seq > 1 {
                assert!(!matches!(line.body, Body::Start(_)), "a second start: {}", text());
            }
        }
        let count = |wanted: fn(&Body) -> bool| self.lines.iter().filter(|line| wanted(&line.body)).count();
        assert_eq!(count(|body| matches!(body, Body::Ready(_))), 1, "{}", text());
        assert_eq!(count(|body| matches!(body, Body::Stop(_))), 1, "{}", text());

        // Those on other ports stand in `by_role` alone.
        let ports = &self.start().ports;
        let (mut by_cause, mut by_role) = (HashMap::<Cause, u64>::new(), HashMap::<Role, u64>::new());
        for (refused, count) in self.tally() {
            *by_role.entry(refused.role).or_default() += count;
            if refused.dst.port.is_some_and(|port| ports.contains(&port)) {
                *by_cause.entry(refused.verdict.cause).or_default() += count;
            }
        }
        let stop = self.stop();
        assert_eq!(stop.by_cause.iter().collect::<HashMap<_, _>>(), by_cause, "{}", text());
        assert_eq!(stop.by_role.iter().collect::<HashMap<_, _>>(), by_role, "{}", text());
        assert_eq!(stop.refused, by_cause.values().sum::<u64>(), "{}", text());

        let lost = |line: &Line| match &line.body {
            Body::Lost(lost) => Some(lost.records),
            _ => None,
        };
        assert_eq!(stop.lost, self.lines.iter().filter_map(lost).sum::<u64>(), "{}", text());
    }
}

/// What a command printed and how it ended.
pub struct Finished {
    pub status: ExitStatus,
    pub stdout: String,
    pub stderr: String,
}

/// Runs a command to its end, which must come within the limit.
pub fn finish(mut command: Command) -> Finished {
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let stdout = read_all(child.stdout.take().expect("a piped stdout"));
    let stderr = read_all(child.stderr.take().expect("a piped stderr"));
    let deadline = Instant::now() + LIMIT;
    let status = loop {
        if let Some(status) = child.try_wait().expect("to wait for a command") {
            break status;
        }
        if Instant::now() > deadline {
            let _ = child.kill();
            let _ = child.wait();
            panic!("{command:?} still runs after {LIMIT:?}");
        }
        std::thread::sleep(Duration::from_millis(2));
    };
    let text = |reader: JoinHandle<Vec<u8>>| {
        String::from_utf8(reader.join().expect("to read a pipe")).expect("a command prints UTF-8")
    };
    let (stdout, stderr) = (text(stdout), text(stderr));
    assert_eq!((leak(&stdout), leak(&stderr)), (None, None));
    Finished { status, stdout, stderr }
}

/// Reads the log until tracer is ready, then no more: returns all of it from the first line on. A tracer that starts
/// slowly and prints many `alive` lines can fill a pipe that has no reader before it is ready.
pub fn read_until_ready(stdout: Checked<ChildStdout>) -> impl Read + Send {
    let mut stdout = BufReader::new(stdout);
    let mut log = Vec::new();
    loop {
        let start = log.len();
        let count = stdout.read_until(b'\n', &mut log).expect("to read the log of tracer");
        assert_ne!(count, 0, "it ended before it was ready:\n{}", String::from_utf8_lossy(&log));
        if let Ok(Line { body: Body::Ready(_), .. }) = serde_json::from_slice(&log[start..]) {
            return Cursor::new(log).chain(stdout);
        }
    }
}

/// Reads a pipe to its end, in a thread of its own.
pub fn read_all(mut pipe: impl Read + Send + 'static) -> JoinHandle<Vec<u8>> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        pipe.read_to_end(&mut bytes).expect("to read a pipe");
        bytes
    })
}
