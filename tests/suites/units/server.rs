//! The program that the units run: it does what its arguments list, one after the other, and serves until it is ended.
//!
//! | step | |
//! |---|---|
//! | `wait PATH` | waits until a file is there |
//! | `exit-if PATH CODE` | exits with a code where a file is there, 0.3 s later: a server reads its configuration first |
//! | `listen ADDR:PORT` | opens a listener |
//! | `activated` | takes the listener that systemd passes to it |
//! | `fork` | a child goes on, the parent exits with success |
//! | `group NAME` | moves into a new control group of this name below its own |
//! | `execute` | executes itself to go on with what follows |
//!
//! A step that fails ends it with exit code 1.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::net::TcpListener;
use std::os::fd::{FromRawFd as _, OwnedFd};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::thread;
use std::time::Duration;

/// The first descriptor that systemd passes on (sd_listen_fds(3)).
const FIRST_PASSED: i32 = 3;

/// How often to check whether a file is there.
const TICK: Duration = Duration::from_millis(5);

/// How long it takes before it fails.
const STARTING: Duration = Duration::from_millis(300);

pub fn main(steps: impl Iterator<Item = OsString>) -> ExitCode {
    let steps = steps.map(|step| step.into_string().expect("UTF-8")).collect();
    match run(steps) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("server: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(steps: Vec<String>) -> io::Result<ExitCode> {
    let mut listeners = Vec::new();
    let mut steps = steps.into_iter();
    while let Some(step) = steps.next() {
        let mut word = || steps.next().ok_or_else(|| io::Error::other(format!("`{step}` lacks a word")));
        match step.as_str() {
            "wait" => {
                let path = word()?;
                while !Path::new(&path).exists() {
                    thread::sleep(TICK);
                }
            }
            "exit-if" => {
                let (path, code) = (word()?, word()?);
                if Path::new(&path).exists() {
                    thread::sleep(STARTING);
                    return code.parse().map(|code: u8| ExitCode::from(code)).map_err(io::Error::other);
                }
            }
            "listen" => listeners.push(TcpListener::bind(word()?)?),
            "activated" => {
                // SAFETY: systemd passes this descriptor to a service that a socket unit starts, and nothing else owns it.
                let passed = unsafe { OwnedFd::from_raw_fd(FIRST_PASSED) };
                listeners.push(TcpListener::from(passed));
            }
            "fork" => {
                // SAFETY: this process has one thread, so the child can go on as the parent would have.
                match unsafe { libc::fork() } {
                    -1 => return Err(io::Error::last_os_error()),
                    0 => {}
                    _ => return Ok(ExitCode::SUCCESS),
                }
            }
            "group" => enter_group(&word()?)?,
            "execute" => {
                let own = std::env::args_os().next().expect("the name that it was started by");
                return Err(Command::new(own).arg("server").args(steps).exec());
            }
            _ => return Err(io::Error::other(format!("no step `{step}`"))),
        }
    }
    serve(&listeners)
}

/// Accepts each connection and closes it.
fn serve(listeners: &[TcpListener]) -> ! {
    thread::scope(|scope| {
        for listener in listeners {
            scope.spawn(|| listener.incoming().for_each(drop));
        }
        loop {
            thread::park();
        }
    })
}

/// Moves this process into a new control group below its own.
fn enter_group(name: &str) -> io::Result<()> {
    let own = fs::read_to_string("/proc/self/cgroup")?;
    let own = own.lines().find_map(|line| line.strip_prefix("0::/")).unwrap_or_default().to_owned();
    let group = Path::new("/sys/fs/cgroup").join(own).join(name);
    fs::create_dir(&group)?;
    fs::write(group.join("cgroup.procs"), std::process::id().to_string())
}
