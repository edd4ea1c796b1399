//! `cargo xtask bare`: README's commands and the tests in a bare environment.
//!
//! A developer's machine has more than README asks for: a mounted tracefs, `/usr/sbin` in PATH, a terminal. Code that
//! relies on these fails only on a machine without them. The bare environment has none of them:
//!
//! * tracefs, debugfs, bpffs and securityfs are not mounted. They are unmounted in a private mount namespace; the host
//!   keeps them.
//! * The environment is empty except for PATH, HOME (a new, empty directory) and the variables of [`KEPT`]: no TMPDIR,
//!   no locale, no TERM.
//! * PATH is cargo's directory, `/usr/bin` and `/bin`, as after `su` on Debian.
//! * The umask is 0077; `run` and `demo` also run with the usual 0022.
//! * There is no terminal: a new session, stdin is `/dev/null`, stdout and stderr are pipes.
//! * SIGHUP is ignored, as under nohup.
//! * A process may open 1024 files, until it raises that limit itself.
//!
//! `cargo xtask ci` runs the tests once, in this environment. A second run on the unchanged host would take as long
//! again and cover little more: a test that needs one of the above creates it for itself, and developers run
//! `cargo xtask test` on their hosts. A run on the unchanged host alone would pass or fail by what that host has mounted.
//!
//! Nothing is built twice: the target directory and the compiler are the caller's.

use std::{
    env,
    ffi::OsString,
    fs::{self, DirBuilder},
    io::{self, Read, Write},
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    process::{Command, ExitCode, ExitStatus, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process_group};
use signal_hook::consts::{SIGINT, SIGTERM};

use crate::{
    cargo::{self, cargo, find, succeed},
    elevate::is_root,
    failure::Failure,
};

/// Changes the mounts, the umask and the session, then becomes the command.
const SCRIPT: &str = include_str!("bare.sh");

/// Variables that are passed on. Most select the compiler and the target directory: without them everything would be
/// built a second time. With `CI`, `cargo xtask test` checks which tests were not run.
const KEPT: [&str; 5] = ["CARGO_TARGET_DIR", "CI", "RUSTFLAGS", "RUSTUP_HOME", "RUSTUP_TOOLCHAIN"];

/// README's commands that need root, in a form that ends by itself.
const AS_ROOT: [&[&str]; 2] = [&["xtask", "run", "--", "--for", "1s"], &["xtask", "demo"]];

/// How often a wait checks for a signal.
const TICK: Duration = Duration::from_millis(50);

/// Runs README's commands; the tests come last, so that their total is the last line.
pub fn run() -> Result<ExitCode> {
    // Downloads use the caller's network settings; the commands below download nothing.
    succeed(cargo().args(["fetch", "--locked"]))?;
    let bare = Bare::new()?;
    let mut is_good = true;
    for command in AS_ROOT {
        for umask in ["0022", "0077"] {
            if is_root() {
                is_good &= bare.cargo(umask, command)?.success();
            } else {
                eprintln!("bare: not run: cargo {}: needs root", command.join(" "));
            }
        }
    }
    is_good &= bare.cargo("0077", &["xtask", "test"])?.success();
    Ok(if is_good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The bare environment.
struct Bare {
    home: Home,
    /// The command line that runs [`SCRIPT`], in a private mount namespace where this process may create one.
    shell: Vec<OsString>,
    variables: Vec<(&'static str, OsString)>,
    interrupted: Arc<AtomicBool>,
}

impl Bare {
    fn new() -> Result<Self> {
        let interrupted = Arc::new(AtomicBool::new(false));
        for signal in [SIGINT, SIGTERM] {
            signal_hook::flag::register(signal, Arc::clone(&interrupted)).context("cannot handle signals")?;
        }
        let cargo_home = cargo::home().context("neither `CARGO_HOME` nor `HOME` is set")?;
        let mut variables: Vec<_> =
            KEPT.into_iter().filter_map(|name| Some((name, env::var_os(name)?))).collect();
        if env::var_os("RUSTUP_HOME").is_none()
            && let Some(home) = env::var_os("HOME")
        {
            variables.push(("RUSTUP_HOME", Path::new(&home).join(".rustup").into()));
        }
        variables.push(("PATH", path()?));
        variables.push(("CARGO_HOME", cargo_home.into()));

        let unshare = find("unshare").ok_or_else(|| missing("unshare"))?;
        find("setsid").ok_or_else(|| missing("setsid"))?;
        let in_own_mounts: Vec<OsString> = vec![unshare.into(), "--mount".into(), "--".into()];
        let can_unshare = Command::new(&in_own_mounts[0])
            .args(&in_own_mounts[1..])
            .arg("true")
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|status| status.success());
        let script: [OsString; 4] = ["sh".into(), "-c".into(), SCRIPT.into(), "bare".into()];
        let mut shell = Vec::new();
        if can_unshare {
            shell.extend(in_own_mounts);
        } else {
            eprintln!(
                "bare: cannot create a mount namespace: tracefs, debugfs, bpffs and securityfs stay as they are"
            );
        }
        shell.extend(script);
        shell.push(if can_unshare { "yes" } else { "no" }.into());
        Ok(Self { home: Home::new()?, shell, variables, interrupted })
    }

    /// Runs cargo and waits for its end.
    fn cargo(&self, umask: &str, args: &[&str]) -> Result<ExitStatus> {
        let shown = format!("cargo {}", args.join(" "));
        eprintln!("bare: umask {umask}: {shown}");
        let mut command = Command::new(&self.shell[0]);
        command.args(&self.shell[1..]).arg(umask).arg("cargo").args(args);
        command.current_dir(cargo::root()).env_clear().envs(self.variables.iter().cloned());
        command.env("HOME", &self.home.0);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child =
            command.spawn().with_context(|| format!("cannot run `{shown}` in a bare environment"))?;
        let copies = [
            copy(child.stdout.take().context("no stdout")?, io::stdout()),
            copy(child.stderr.take().context("no stderr")?, io::stderr()),
        ];
        let status = loop {
            if let Some(status) = child.try_wait()? {
                break status;
            }
            if self.interrupted.load(Ordering::Relaxed) {
                // The terminal sends Ctrl-C to its own session only. The child has become the leader of the new
                // session: setsid(1) forks only if it is a process group leader already.
                let _ = kill_process_group(Pid::from_child(&child), Signal::TERM);
                child.wait()?;
                bail!("interrupted");
            }
            thread::sleep(TICK);
        };
        for copy in copies {
            // Ends when every writer has closed the pipe, including processes that the command left running.
            let _ = copy.join();
        }
        if !status.success() {
            eprintln!("bare: umask {umask}: {shown}: {status}");
        }
        Ok(status)
    }
}

fn missing(program: &str) -> Failure {
    Failure::unable(
        format!("`{program}` is not installed"),
        "`cargo xtask setup --tests`, or install util-linux",
    )
}

/// The bare PATH: the directory of the caller's cargo, and no directory of system programs.
fn path() -> Result<OsString> {
    let cargo = find("cargo").or_else(|| env::var_os("CARGO").map(PathBuf::from));
    let directory = cargo.as_deref().and_then(Path::parent).context("cannot find `cargo`")?;
    env::join_paths([directory, Path::new("/usr/bin"), Path::new("/bin")]).context("PATH")
}

/// Copies from a pipe until every writer has closed it.
fn copy(mut from: impl Read + Send + 'static, mut to: impl Write + Send + 'static) -> thread::JoinHandle<()> {
    thread::spawn(move || {
        let mut buffer = [0; 8192];
        // Keeps reading after a failed write, so that the command does not block on a full pipe.
        while let Ok(count @ 1..) = from.read(&mut buffer) {
            let _ = to.write_all(&buffer[..count]).and_then(|()| to.flush());
        }
    })
}

/// An empty home directory, removed when dropped.
struct Home(PathBuf);

impl Home {
    fn new() -> Result<Self> {
        let path = env::temp_dir().join(format!("tracer-bare-{}", std::process::id()));
        let made = DirBuilder::new().mode(0o700).create(&path);
        made.with_context(|| format!("cannot make `{}`", path.display()))?;
        Ok(Self(path))
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.0) {
            eprintln!("bare: cannot remove `{}`: {error}", self.0.display());
        }
    }
}
