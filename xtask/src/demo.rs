//! `cargo xtask demo`: a server on the tailnet address only, and a client that tries localhost.
//!
//! Everything happens in a network namespace of its own and is undone at the end, also after a failure
//! or Ctrl-C.

use std::{
    io::{self, BufRead, BufReader, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{ExitCode, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, bail};
use rustix::process::{Signal, set_parent_process_death_signal};

use crate::{
    cargo::{build_tracer, find, shown},
    testbed::{Interrupt, Namespace, Process, Tracer, staged},
};

const PORT: u16 = 18789;
/// The server's address: one of those that Tailscale gives out.
const TAILNET: Ipv4Addr = Ipv4Addr::new(100, 101, 102, 103);
const DEVICE: &str = "tailscale0";
/// Longer than any line of text is held back.
const SETTLE: Duration = Duration::from_millis(500);

/// How the refusal is produced.
#[derive(clap::Args)]
pub struct Options {
    /// Print the event log, instead of text
    #[arg(long)]
    json: bool,
    /// Trace with this binary, instead of building one
    #[arg(long, value_name = "PATH")]
    tracer: Option<PathBuf>,
}

/// Produces the refusal.
pub fn run(options: Options) -> Result<ExitCode> {
    let Options { json, tracer } = options;
    staged("demo", "the demo makes a network namespace and loads kernel programs", |ctrl_c| {
        let tracer = tracer.map_or_else(build_tracer, Ok)?;
        show(&tracer, if json { "json" } else { "text" }, ctrl_c)?;
        Ok(ExitCode::SUCCESS)
    })
}

/// The refusal as a person sees it.
fn show(tracer: &Path, output: &str, ctrl_c: &Interrupt) -> Result<()> {
    let namespace = Namespace::create("demo")?;
    // Not every kernel has the dummy device.
    namespace
        .ip(&["link", "add", DEVICE, "type", "dummy"])
        .or_else(|_| namespace.ip(&["link", "add", DEVICE, "type", "veth", "peer", "name", "peer0"]))?;
    namespace.ip(&["address", "add", &format!("{TAILNET}/32"), "dev", DEVICE])?;
    namespace.ip(&["link", "set", DEVICE, "up"])?;
    let _server = serve(&namespace)?;
    let port = PORT.to_string();
    let args = ["--port", &port, "--netns", &namespace.name, "--output", output];
    let mut tracer = Tracer::start(tracer, args, Stdio::inherit(), true, ctrl_c)?;
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

/// Starts the server and returns once it listens.
fn serve(namespace: &Namespace) -> Result<Process> {
    let address = SocketAddr::from((TAILNET, PORT)).to_string();
    let mut command = namespace.this(&["demo-listen", &address])?;
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

/// The server: logs what servers log, which names no address, and answers every client.
pub fn listen(address: SocketAddr) -> Result<ExitCode> {
    // It must end with the demo, however that ends.
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

/// The client: fails unless the address answers.
pub fn connect(address: SocketAddr) -> Result<ExitCode> {
    rustix::thread::set_name(c"demo-client").context("cannot name the client")?;
    TcpStream::connect_timeout(&address, Duration::from_secs(5))
        .with_context(|| format!("cannot connect to {address}"))?;
    Ok(ExitCode::SUCCESS)
}
