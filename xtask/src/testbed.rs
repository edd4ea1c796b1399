//! What the demo runs in: a namespace, processes, and a running tracer. All of it is undone when it is dropped, also
//! after a failure or Ctrl-C.

use std::{
    ffi::OsStr,
    io::{BufRead, BufReader, Read},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, ExitCode, ExitStatus, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::{self, Receiver, RecvTimeoutError},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

use crate::{
    cargo::{find, output, shown, succeed},
    elevate::is_root,
    failure::Failure,
};

/// What tracer prints on stderr once it misses nothing any more.
const READY: &str = "tracer: ready";
/// How long to wait for tracer to get ready, and to end.
const PATIENCE: Duration = Duration::from_secs(30);
/// How often a wait checks for Ctrl-C.
const TICK: Duration = Duration::from_millis(20);
/// How long a process that has ended takes to be reaped.
const SETTLE: Duration = Duration::from_millis(500);
/// What shells give a program ended by SIGINT.
const INTERRUPTED: u8 = 130;

/// Runs a chore that needs root, and ends it in order on Ctrl-C.
pub fn staged(chore: &str, what: &str, run: impl FnOnce(&Interrupt) -> Result<ExitCode>) -> Result<ExitCode> {
    if !is_root() {
        return Err(Failure::unable(
            format!("{what}: both need root"),
            format!("sudo -E env PATH=\"$PATH\" cargo xtask {chore}"),
        )
        .into());
    }
    let ctrl_c = Interrupt::watch()?;
    let done = run(&ctrl_c);
    if ctrl_c.seen() {
        eprintln!("{chore}: interrupted, and cleaned up");
        return Ok(ExitCode::from(INTERRUPTED));
    }
    done
}

/// A running tracer, ready.
pub struct Tracer {
    process: Process,
}

impl Tracer {
    /// Starts `tracer trace` with these arguments and returns once it is ready. What it prints on stderr is passed
    /// on if `is_shown`.
    pub fn start<S: AsRef<OsStr>>(
        binary: &Path,
        args: impl IntoIterator<Item = S>,
        stdout: Stdio,
        is_shown: bool,
        ctrl_c: &Interrupt,
    ) -> Result<Self> {
        let mut command = Command::new(binary);
        command.arg("trace").args(args);
        // In a process group of its own, so that Ctrl-C reaches it once: through this process.
        command.stdin(Stdio::null()).stdout(stdout).stderr(Stdio::piped()).process_group(0);
        let mut process = Process::spawn(&mut command)?;
        let messages = follow(process.0.stderr.take().context("tracer has no stderr")?, is_shown);
        match ctrl_c.receive(&messages, PATIENCE)? {
            Some(()) => Ok(Self { process }),
            None => match process.wait(SETTLE, ctrl_c)? {
                Some(status) => bail!("tracer ended before it was ready: {status}"),
                None => bail!("tracer did not print `{READY}` within {} s", PATIENCE.as_secs()),
            },
        }
    }

    fn ended(&mut self, ctrl_c: &Interrupt) -> Result<ExitStatus> {
        let status = self.process.wait(PATIENCE, ctrl_c)?;
        status.with_context(|| format!("tracer did not end within {} s", PATIENCE.as_secs()))
    }

    /// Ends it as Ctrl-C would.
    pub fn end(&mut self, ctrl_c: &Interrupt) -> Result<()> {
        self.process.signal(Signal::INT)?;
        let status = self.ended(ctrl_c)?;
        if !status.success() {
            bail!("tracer ended with {status}");
        }
        Ok(())
    }
}

/// Reports when tracer has printed that it is ready.
fn follow(stderr: impl Read + Send + 'static, is_shown: bool) -> Receiver<()> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let mut sender = Some(sender);
        for line in BufReader::new(stderr).lines().map_while(Result::ok) {
            if is_shown || !line.starts_with(READY) {
                eprintln!("{line}");
            }
            if line.starts_with(READY)
                && let Some(sender) = sender.take()
            {
                let _ = sender.send(());
            }
        }
    });
    receiver
}

/// A named network namespace with loopback up, deleted when dropped.
pub struct Namespace {
    ip: PathBuf,
    pub name: String,
}

impl Namespace {
    /// Makes one whose name begins with `tracer-`, then names its maker.
    pub fn create(maker: &str) -> Result<Self> {
        let ip = find_ip()?;
        let name = format!("tracer-{maker}-{}", std::process::id());
        succeed(Command::new(&ip).args(["netns", "add", &name]))?;
        let namespace = Self { ip, name };
        namespace.ip(&["link", "set", "lo", "up"])?;
        Ok(namespace)
    }

    /// Runs `ip` on it.
    pub fn ip(&self, args: &[&str]) -> Result<String> {
        output(Command::new(&self.ip).args(["-n", &self.name]).args(args))
    }

    /// A command inside it; `ip` becomes the program, so that the child's pid is the program's.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(&self.ip);
        command.args(["netns", "exec", &self.name]).arg(program);
        command
    }

    /// This program inside it.
    pub fn this(&self, args: &[impl AsRef<OsStr>]) -> Result<Command> {
        let mut command = self.command(std::env::current_exe().context("cannot find this program")?);
        command.args(args);
        Ok(command)
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        if let Err(error) = output(Command::new(&self.ip).args(["netns", "delete", &self.name])) {
            eprintln!("xtask: {error:#}");
        }
    }
}

fn find_ip() -> Result<PathBuf> {
    let remedy = "`cargo xtask setup --tests`, or install iproute2";
    find("ip").ok_or_else(|| Failure::unable("`ip` is not installed", remedy).into())
}

/// A child process, ended when dropped.
pub struct Process(pub Child);

impl Process {
    pub fn spawn(command: &mut Command) -> Result<Self> {
        command.spawn().map(Self).with_context(|| format!("cannot run `{}`", shown(command)))
    }

    pub fn id(&self) -> u32 {
        self.0.id()
    }

    pub fn signal(&self, signal: Signal) -> Result<()> {
        kill_process(Pid::from_child(&self.0), signal)
            .with_context(|| format!("cannot signal process {}", self.id()))
    }

    /// Waits for its end; none when it takes longer than `patience`.
    pub fn wait(&mut self, patience: Duration, ctrl_c: &Interrupt) -> Result<Option<ExitStatus>> {
        let until = Instant::now() + patience;
        while Instant::now() < until {
            if let Some(status) = self.0.try_wait()? {
                return Ok(Some(status));
            }
            ctrl_c.sleep(TICK)?;
        }
        Ok(None)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if matches!(self.0.try_wait(), Ok(Some(_))) {
            return;
        }
        // A tracer gets the time to detach its programs and print its last line, also when it was stopped.
        let _ = self.signal(Signal::TERM);
        let _ = self.signal(Signal::CONT);
        let until = Instant::now() + Duration::from_secs(3);
        while Instant::now() < until {
            if matches!(self.0.try_wait(), Ok(Some(_))) {
                return;
            }
            thread::sleep(TICK);
        }
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Whether a signal asked this process to end: every wait checks it, and unwinds through the destructors.
pub struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    fn watch() -> Result<Self> {
        let seen = Arc::new(AtomicBool::new(false));
        for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM, signal_hook::consts::SIGHUP]
        {
            signal_hook::flag::register(signal, Arc::clone(&seen)).context("cannot handle signals")?;
        }
        Ok(Self(seen))
    }

    fn seen(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    pub fn check(&self) -> Result<()> {
        if self.seen() {
            bail!("interrupted");
        }
        Ok(())
    }

    pub fn sleep(&self, duration: Duration) -> Result<()> {
        let until = Instant::now() + duration;
        while Instant::now() < until {
            self.check()?;
            thread::sleep(TICK.min(until.saturating_duration_since(Instant::now())));
        }
        self.check()
    }

    /// The next message; none when it takes longer than `patience`, or when none will come.
    pub fn receive<T>(&self, receiver: &Receiver<T>, patience: Duration) -> Result<Option<T>> {
        let until = Instant::now() + patience;
        loop {
            self.check()?;
            match receiver.recv_timeout(TICK) {
                Ok(message) => return Ok(Some(message)),
                Err(RecvTimeoutError::Timeout) if Instant::now() < until => {}
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => return Ok(None),
            }
        }
    }
}
