//! Other tools that see connects, where they are installed.

use std::{
    env,
    io::{BufRead, BufReader},
    os::unix::process::CommandExt,
    path::PathBuf,
    process::{Child, ChildStdout, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use tests::{
    bpf::{Cost, RunTimes, costs_of},
    load::{Load, Refused},
};

use super::Bench;

/// How long one may take to attach.
const PATIENCE: Duration = Duration::from_secs(20);

/// A tool that is compared with.
#[derive(Clone, Copy, Debug)]
pub enum Peer {
    /// The same filter as a one-liner.
    Bpftrace,
    /// bcc's, in the form that needs no compiler, or else the one that does.
    Tcpstates,
}

impl Peer {
    pub fn name(self) -> &'static str {
        match self {
            Self::Bpftrace => "bpftrace",
            Self::Tcpstates => "tcpstates",
        }
    }

    fn command(self, port: u16) -> Result<Command> {
        Ok(match self {
            Self::Bpftrace => {
                let mut command = Command::new(find("bpftrace").context("`bpftrace` is not installed")?);
                // Line-buffered, so that each line is read as it comes.
                command.args(["-B", "line", "-e"]).arg(format!(
                    "tracepoint:sock:inet_sock_set_state /args->oldstate == 2 && args->newstate == 7 && \
                     args->dport == {port}/ {{ printf(\"refused %s %d\\n\", comm, pid); }}"
                ));
                command
            }
            Self::Tcpstates => {
                let program = find("tcpstates").or_else(|| find("tcpstates-bpfcc"));
                let mut command = Command::new(program.context("`tcpstates` is not installed")?);
                command.args(["-D", &port.to_string()]);
                command
            }
        })
    }
}

/// The program `name` on `PATH`, or in the directories of system programs that Debian leaves out of the `PATH` of
/// ordinary users.
fn find(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let system = ["/usr/local/sbin", "/usr/sbin", "/sbin"].map(PathBuf::from);
    env::split_paths(&path).chain(system).map(|directory| directory.join(name)).find(|file| file.is_file())
}

/// One that is attached; ended when dropped.
pub struct Running {
    child: Child,
}

impl Running {
    /// Starts it and returns once the kernel runs its programs.
    pub fn start(bench: &Bench, peer: Peer) -> Result<Self> {
        let mut command = peer.command(bench.watched.number)?;
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).process_group(0);
        let mut running =
            Self { child: command.spawn().with_context(|| format!("cannot run `{}`", peer.name()))? };
        // Without, the kernel counts no runs.
        let _counted = RunTimes::count()?;
        let until = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = running.child.try_wait()? {
                bail!("`{}` ends immediately, with {status}", peer.name());
            }
            bench.load(Load::Refused(Refused::at(bench.unwatched(), Duration::from_millis(20))));
            if running.costs()?.iter().any(|cost| cost.runs > 0) {
                return Ok(running);
            }
            if Instant::now() > until {
                bail!("`{}` has not attached a program within {} s", peer.name(), PATIENCE.as_secs());
            }
        }
    }

    /// What its programs have cost so far.
    pub fn costs(&self) -> Result<Vec<Cost>> {
        costs_of(self.child.id())
    }

    /// The tool's stdout, line by line.
    pub fn lines(&mut self) -> Result<impl BufRead + use<>> {
        let stdout: ChildStdout = self.child.stdout.take().context("its output is taken once")?;
        Ok(BufReader::new(stdout))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
