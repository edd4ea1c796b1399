//! Other tools that see connects, where they are installed.

use std::{
    io::{BufRead, BufReader},
    os::unix::process::CommandExt,
    process::{ChildStdout, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};

use super::{Bench, UNWATCHED, WATCHED, local};
use crate::{
    bpf::{Cost, RunTimes, costs_of},
    cargo::find,
    lab::Process,
};

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

    fn command(self) -> Result<Command> {
        Ok(match self {
            Self::Bpftrace => {
                let program = find("bpftrace").context("`bpftrace` is not installed")?;
                let mut command = Command::new(program);
                // Line by line, as someone who waits would have it.
                command.args(["-B", "line", "-e"]).arg(format!(
                    "tracepoint:sock:inet_sock_set_state /args->oldstate == 2 && args->newstate == 7 && \
                     args->dport == {WATCHED}/ {{ printf(\"refused %s %d\\n\", comm, pid); }}"
                ));
                command
            }
            Self::Tcpstates => {
                let program = find("tcpstates").or_else(|| find("tcpstates-bpfcc"));
                let mut command = Command::new(program.context("`tcpstates` is not installed")?);
                command.args(["-D", &WATCHED.to_string()]);
                command
            }
        })
    }
}

/// One that is attached.
pub struct Running {
    process: Process,
}

impl Running {
    /// Starts it and returns once the kernel runs its programs.
    pub fn start(bench: &Bench<'_>, peer: Peer) -> Result<Self> {
        let mut command = peer.command()?;
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).process_group(0);
        let mut running = Self { process: Process::spawn(&mut command)? };
        // Without, the kernel counts no runs.
        let _counted = RunTimes::count()?;
        let until = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = running.process.0.try_wait()? {
                bail!("`{}` ends at once, with {status}", peer.name());
            }
            bench.load(&["refused", &local(UNWATCHED)], Duration::from_millis(20))?;
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
        costs_of(self.process.id())
    }

    /// What it prints.
    pub fn lines(&mut self) -> Result<impl BufRead + use<>> {
        let stdout: ChildStdout = self.process.0.stdout.take().context("its output is taken once")?;
        Ok(BufReader::new(stdout))
    }
}
