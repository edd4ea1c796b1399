//! `cargo xtask demo`: a server on the tailnet address only, and a client that tries localhost.
//!
//! Everything happens in a network namespace of its own and is undone at the end, also after a failure
//! or Ctrl-C.

use std::{
    fs,
    io::{self, BufRead, BufReader, Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
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
use rustix::{
    process::{Pid, Signal, kill_process, set_parent_process_death_signal},
    time::{ClockId, clock_gettime},
};

use crate::{
    cargo::{build_tracer, find, output, shown, succeed},
    elevate::is_root,
    failure::Failure,
};

const PORT: u16 = 18789;
/// The server's address: one of those that Tailscale gives out.
const TAILNET: Ipv4Addr = Ipv4Addr::new(100, 101, 102, 103);
const DEVICE: &str = "tailscale0";
/// What tracer says on stderr once it misses nothing any more.
const READY: &str = "tracer: ready";
/// How long to wait for tracer to get ready, and to end.
const PATIENCE: Duration = Duration::from_secs(30);
/// How often a wait looks for Ctrl-C.
const TICK: Duration = Duration::from_millis(20);
/// Longer than any line of text is held back.
const SETTLE: Duration = Duration::from_millis(500);
/// How many refusals `--measure` times: each of another address, so that none is folded.
const SAMPLES: u8 = 50;
/// What shells give a program ended by SIGINT.
const INTERRUPTED: u8 = 130;

/// How the incident is staged.
#[derive(clap::Args)]
pub struct Options {
    /// Print how long it takes and how much it needs, instead of the trace
    #[arg(long)]
    measure: bool,
    /// Print the event log, instead of text
    #[arg(long, conflicts_with = "measure")]
    json: bool,
    /// Trace with this binary, instead of building one
    #[arg(long, value_name = "PATH")]
    tracer: Option<PathBuf>,
}

/// Stages the incident, live or measured.
pub fn run(options: Options) -> Result<ExitCode> {
    let Options { measure: measured, json, tracer } = options;
    if !is_root() {
        let what = "the demo makes a network namespace and loads kernel programs: both need root";
        return Err(Failure::unable(what, "sudo -E env PATH=\"$PATH\" cargo xtask demo").into());
    }
    let tracer = tracer.map_or_else(build_tracer, Ok)?;
    let ctrl_c = Interrupt::watch()?;
    let output = if json { "json" } else { "text" };
    let done = if measured { measure(&tracer, &ctrl_c) } else { show(&tracer, output, &ctrl_c) };
    if ctrl_c.seen() {
        eprintln!("demo: interrupted, and cleaned up");
        return Ok(ExitCode::from(INTERRUPTED));
    }
    done.map(|()| ExitCode::SUCCESS)
}

/// The incident as a person sees it.
fn show(tracer: &Path, output: &str, ctrl_c: &Interrupt) -> Result<()> {
    let namespace = Namespace::create()?;
    let _server = namespace.serve()?;
    let mut tracer = Tracer::start(tracer, &namespace, output, Stdio::inherit(), ctrl_c)?;
    let target = SocketAddr::from((Ipv4Addr::LOCALHOST, PORT));
    eprintln!("demo: a client connects to {target}");
    let mut client = match find("curl") {
        Some(curl) => {
            let mut client = namespace.command(curl);
            client.args(["--silent", "--show-error", "--max-time", "5"]).arg(format!("http://{target}/"));
            client
        }
        None => namespace.this(&["demo-connect", &target.to_string()])?,
    };
    let status =
        client.stdin(Stdio::null()).status().with_context(|| format!("cannot run `{}`", shown(&client)))?;
    if status.success() {
        bail!("the connect to {target} was answered, and should have been refused");
    }
    ctrl_c.sleep(SETTLE)?;
    tracer.end(ctrl_c)
}

/// What the incident costs.
fn measure(binary: &Path, ctrl_c: &Interrupt) -> Result<()> {
    let namespace = Namespace::create()?;
    let _server = namespace.serve()?;
    let mut tracer = Tracer::start(binary, &namespace, "json", Stdio::piped(), ctrl_c)?;
    let refusals = refusals(tracer.process.0.stdout.take().context("tracer has no stdout")?);
    let ready = tracer.ready_after;
    let before = resident(&tracer.process.0)?;

    let targets =
        (1..=SAMPLES).map(|host| SocketAddr::from((Ipv4Addr::new(127, 0, 0, host), PORT)).to_string());
    let targets: Vec<_> = ["demo-connect".to_owned()].into_iter().chain(targets).collect();
    // It fails, for it is refused; what counts is what tracer saw of it.
    namespace.this(&targets)?.status().context("cannot run the client")?;
    let mut delays: Vec<f64> = Vec::new();
    while delays.len() < usize::from(SAMPLES) {
        match ctrl_c.receive(&refusals, SETTLE * 4)? {
            Some(delay) => delays.push(delay?),
            None => bail!("tracer reported {} of {SAMPLES} refusals", delays.len()),
        }
    }
    let after = resident(&tracer.process.0)?;
    tracer.end(ctrl_c)?;

    delays.sort_by(f64::total_cmp);
    let size = fs::metadata(binary).with_context(|| format!("cannot read `{}`", binary.display()))?.len();
    println!("start to ready      {:>9.1} ms", ready.as_secs_f64() * 1e3);
    println!(
        "refusal to line     {:>9.3} ms median, {:.3} ms at most, of {SAMPLES}",
        delays[delays.len() / 2] / 1e3,
        delays[delays.len() - 1] / 1e3
    );
    println!("resident, ready     {before:>9} kB");
    println!("resident, after     {after:>9} kB");
    println!("release binary      {:>9} kB", size.div_ceil(1024));
    Ok(())
}

/// Microseconds from each refusal to the arrival of its line.
fn refusals(stdout: impl Read + Send + 'static) -> Receiver<Result<f64>> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        for line in BufReader::new(stdout).lines() {
            let now = clock_gettime(ClockId::Monotonic);
            let now = now.tv_sec as f64 * 1e6 + now.tv_nsec as f64 / 1e3;
            let delay = line.context("cannot read tracer's stdout").and_then(|line| {
                let event: serde_json::Value =
                    serde_json::from_str(&line).context("tracer's line is no JSON")?;
                if event["type"] != "refused" {
                    return Ok(None);
                }
                Ok(Some(now - event["mono_us"].as_f64().context("a `refused` line has no `mono_us`")?))
            });
            if let Some(delay) = delay.transpose()
                && sender.send(delay).is_err()
            {
                return;
            }
        }
    });
    receiver
}

/// The memory a process has resident, in kB (`VmRSS`, proc_pid_status(5)).
fn resident(process: &Child) -> Result<u64> {
    let path = format!("/proc/{}/status", process.id());
    fs::read_to_string(&path)
        .with_context(|| format!("cannot read `{path}`"))?
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:")?.split_whitespace().next()?.parse().ok())
        .with_context(|| format!("`{path}` has no `VmRSS`"))
}

/// A running tracer, ready.
struct Tracer {
    process: Process,
    ready_after: Duration,
}

impl Tracer {
    /// Starts it on the namespace and returns once it is ready.
    fn start(
        binary: &Path,
        namespace: &Namespace,
        output: &str,
        stdout: Stdio,
        ctrl_c: &Interrupt,
    ) -> Result<Self> {
        let mut command = Command::new(binary);
        command.args(["trace", "--port", &PORT.to_string(), "--netns", &namespace.name, "--output", output]);
        // In a process group of its own, so that Ctrl-C reaches it once: through this process.
        command.stdin(Stdio::null()).stdout(stdout).stderr(Stdio::piped()).process_group(0);
        let start = Instant::now();
        let mut process = Process::spawn(&mut command)?;
        let said = follow(process.0.stderr.take().context("tracer has no stderr")?);
        match ctrl_c.receive(&said, PATIENCE)? {
            Some(at) => Ok(Self { process, ready_after: at - start }),
            None => match process.wait(SETTLE, ctrl_c)? {
                Some(status) => bail!("tracer ended before it was ready: {status}"),
                None => bail!("tracer did not say `{READY}` within {} s", PATIENCE.as_secs()),
            },
        }
    }

    /// Ends it as Ctrl-C would.
    fn end(&mut self, ctrl_c: &Interrupt) -> Result<()> {
        let pid = Pid::from_child(&self.process.0);
        kill_process(pid, Signal::INT).context("cannot signal tracer")?;
        match self.process.wait(PATIENCE, ctrl_c)? {
            Some(status) if status.success() => Ok(()),
            Some(status) => bail!("tracer ended with {status}"),
            None => bail!("tracer did not end within {} s of SIGINT", PATIENCE.as_secs()),
        }
    }
}

/// Copies tracer's stderr to this one, and tells when it said that it is ready.
fn follow(stderr: impl Read + Send + 'static) -> Receiver<Instant> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let mut sender = Some(sender);
        for line in BufReader::new(stderr).lines().map_while(Result::ok) {
            let now = Instant::now();
            eprintln!("{line}");
            if line.starts_with(READY)
                && let Some(sender) = sender.take()
            {
                let _ = sender.send(now);
            }
        }
    });
    receiver
}

/// A network namespace with loopback and a tailnet address, gone when dropped.
struct Namespace {
    ip: PathBuf,
    name: String,
}

impl Namespace {
    fn create() -> Result<Self> {
        let Some(ip) = find("ip") else {
            return Err(Failure::unable(
                "`ip` is not installed",
                "`cargo xtask setup --tests`, or install iproute2",
            )
            .into());
        };
        let name = format!("tracer-demo-{}", std::process::id());
        succeed(Command::new(&ip).args(["netns", "add", &name]))?;
        let namespace = Self { ip, name };
        let inside =
            |args: &[&str]| output(Command::new(&namespace.ip).args(["-n", &namespace.name]).args(args));
        inside(&["link", "set", "lo", "up"])?;
        // Not every kernel has the dummy device.
        inside(&["link", "add", DEVICE, "type", "dummy"])
            .or_else(|_| inside(&["link", "add", DEVICE, "type", "veth", "peer", "name", "peer0"]))?;
        inside(&["address", "add", &format!("{TAILNET}/32"), "dev", DEVICE])?;
        inside(&["link", "set", DEVICE, "up"])?;
        Ok(namespace)
    }

    /// A command inside it; `ip` becomes the program, so that the child's pid is the program's.
    fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new(&self.ip);
        command.args(["netns", "exec", &self.name]).arg(program);
        command
    }

    /// This program inside it.
    fn this(&self, args: &[impl AsRef<std::ffi::OsStr>]) -> Result<Command> {
        let mut command = self.command(std::env::current_exe().context("cannot find this program")?);
        command.args(args);
        Ok(command)
    }

    /// Starts the server and returns once it listens.
    fn serve(&self) -> Result<Process> {
        let address = SocketAddr::from((TAILNET, PORT)).to_string();
        let mut command = self.this(&["demo-listen", &address])?;
        command.stdin(Stdio::null()).stdout(Stdio::piped()).process_group(0);
        let mut process = Process::spawn(&mut command)?;
        let mut line = String::new();
        BufReader::new(process.0.stdout.take().context("the server has no stdout")?).read_line(&mut line)?;
        if line.is_empty() {
            bail!("the server did not listen on {address}");
        }
        eprint!("demo: the server's log: {line}");
        Ok(process)
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        if let Err(error) = output(Command::new(&self.ip).args(["netns", "delete", &self.name])) {
            eprintln!("demo: {error:#}");
        }
    }
}

/// A child process, ended when dropped.
struct Process(Child);

impl Process {
    fn spawn(command: &mut Command) -> Result<Self> {
        command.spawn().map(Self).with_context(|| format!("cannot run `{}`", shown(command)))
    }

    /// Waits for its end; none when it takes longer than `patience`.
    fn wait(&mut self, patience: Duration, ctrl_c: &Interrupt) -> Result<Option<ExitStatus>> {
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
        // A tracer gets the time to take its programs out and say its last line.
        let _ = kill_process(Pid::from_child(&self.0), Signal::TERM);
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

/// Whether someone asked this process to end: every wait looks, and unwinds through the destructors.
struct Interrupt(Arc<AtomicBool>);

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

    fn look(&self) -> Result<()> {
        if self.seen() {
            bail!("interrupted");
        }
        Ok(())
    }

    fn sleep(&self, duration: Duration) -> Result<()> {
        let until = Instant::now() + duration;
        while Instant::now() < until {
            self.look()?;
            thread::sleep(TICK.min(until.saturating_duration_since(Instant::now())));
        }
        self.look()
    }

    /// The next message; none when it takes longer than `patience`, or when none will come.
    fn receive<T>(&self, receiver: &Receiver<T>, patience: Duration) -> Result<Option<T>> {
        let until = Instant::now() + patience;
        loop {
            self.look()?;
            match receiver.recv_timeout(TICK) {
                Ok(message) => return Ok(Some(message)),
                Err(RecvTimeoutError::Timeout) if Instant::now() < until => {}
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => return Ok(None),
            }
        }
    }
}

/// The server: says what servers say, which names no address, and answers whoever reaches it.
pub fn listen(address: SocketAddr) -> Result<ExitCode> {
    // It must not outlive the demo, however that ends.
    set_parent_process_death_signal(Some(Signal::KILL)).context("cannot tie the server to the demo")?;
    rustix::thread::set_name(c"demo-gateway").context("cannot name the server")?;
    let listener = TcpListener::bind(address).with_context(|| format!("cannot listen on {address}"))?;
    println!("listening on port {} (pid {})", address.port(), std::process::id());
    io::stdout().flush()?;
    for stream in listener.incoming() {
        drop(stream);
    }
    Ok(ExitCode::SUCCESS)
}

/// The client: connects to each address in turn and fails unless all answered.
pub fn connect(addresses: &[SocketAddr]) -> Result<ExitCode> {
    rustix::thread::set_name(c"demo-client").context("cannot name the client")?;
    let mut refused = false;
    for address in addresses {
        refused |= TcpStream::connect_timeout(address, Duration::from_secs(5)).is_err();
        if addresses.len() > 1 {
            thread::sleep(TICK);
        }
    }
    if refused && let [address] = addresses {
        bail!("cannot connect to {address}");
    }
    Ok(if refused { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}
