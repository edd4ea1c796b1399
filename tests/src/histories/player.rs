//! The program that plays every process of a history: it does what it is sent, and reports when.
//!
//! It is started as `NAME player [other]`, with `PLAYER_DESCRIPTORS=CHANNEL SOCKETS CHANNELS` in its environment, for its
//! arguments are those of its service: the descriptor of its channel (a Unix socket that keeps messages apart), its inherited
//! sockets and the channels of the processes that descend from it, both as `NUMBER=FD,...`.
//! Each message is a command and each answer begins with the times (monotonic, in ns) before and after the system call.
//!
//! | command | answer after the times |
//! |---|---|
//! | `bind SOCKET IP:PORT V6ONLY REUSE` | errno, or 0 |
//! | `listen SOCKET` | errno, or 0 |
//! | `close SOCKET` | 0 |
//! | `connect IP:PORT` | errno, or 0 |
//! | `fork PROCESS` | 0; the child answers on its own channel |
//! | `exec PATH KEEPS OTHER` | 0, by the new program |
//! | `exit CODE` | none |

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

use rustix::io::{Errno, FdFlags, fcntl_setfd};
use rustix::net::{self, AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, sockopt};
use rustix::time::{ClockId, clock_gettime};

/// The first argument of a program that is to play.
pub const WORD: &str = "player";

const DESCRIPTORS: &str = "PLAYER_DESCRIPTORS";

/// The monotonic clock, in nanoseconds.
pub fn now() -> u64 {
    let time = clock_gettime(ClockId::Monotonic);
    u64::try_from(time.tv_sec).unwrap_or_default() * 1_000_000_000
        + u64::try_from(time.tv_nsec).unwrap_or_default()
}

struct Player {
    channel: OwnedFd,
    sockets: BTreeMap<usize, OwnedFd>,
    channels: BTreeMap<usize, OwnedFd>,
    /// The argument that a program has beside the usual ones.
    other: bool,
}

/// Makes a command one that plays.
pub fn plays(command: &mut Command, descriptors: [String; 3], other: bool) {
    command.arg(WORD).env(DESCRIPTORS, descriptors.join(" "));
    if other {
        command.arg("other");
    }
}

/// Descriptors by number, as a word.
pub fn list(descriptors: impl IntoIterator<Item = (usize, RawFd)>) -> String {
    let entries: Vec<String> =
        descriptors.into_iter().map(|(number, descriptor)| format!("{number}={descriptor}")).collect();
    entries.join(",")
}

fn own(descriptor: RawFd) -> OwnedFd {
    // SAFETY: the number comes from the program that passed the descriptor on, and is used once.
    let descriptor = unsafe { OwnedFd::from_raw_fd(descriptor) };
    fcntl_setfd(&descriptor, FdFlags::CLOEXEC).expect("an inherited descriptor");
    descriptor
}

fn taken(text: &str) -> BTreeMap<usize, OwnedFd> {
    let entries = text.split(',').filter(|entry| !entry.is_empty());
    let numbers = entries.map(|entry| {
        let (number, descriptor) = entry.split_once('=').expect("a number and a descriptor");
        (number.parse().expect("a number"), own(descriptor.parse().expect("a descriptor")))
    });
    numbers.collect()
}

/// Plays until the channel ends.
pub fn main(arguments: impl Iterator<Item = OsString>) -> ExitCode {
    let descriptors = std::env::var(DESCRIPTORS).unwrap_or_default();
    let words: Vec<&str> = descriptors.split(' ').collect();
    let [channel, sockets, channels] = words[..] else {
        return ExitCode::FAILURE;
    };
    // What it forks is reaped by the kernel.
    // SAFETY: no handler is involved.
    unsafe { libc::signal(libc::SIGCHLD, libc::SIG_IGN) };
    let mut player = Player {
        channel: own(channel.parse().expect("a descriptor")),
        sockets: taken(sockets),
        channels: taken(channels),
        other: arguments.count() > 0,
    };
    let time = now();
    player.answer(time, time, 0);
    loop {
        let mut message = [0; 512];
        let Ok((length @ 1.., _)) = net::recv(&player.channel, &mut message, RecvFlags::empty()) else {
            return ExitCode::SUCCESS;
        };
        let message = String::from_utf8_lossy(&message[..length]).into_owned();
        let words: Vec<&str> = message.split(' ').collect();
        player.play(&words);
    }
}

impl Player {
    fn answer(&self, before: u64, after: u64, errno: i32) {
        // The other end is closed when the test has ended; then the next command is the end as well.
        let _ = net::send(&self.channel, format!("{before} {after} {errno}").as_bytes(), SendFlags::NOSIGNAL);
    }

    fn timed(&self, call: impl FnOnce() -> Result<(), Errno>) -> bool {
        let before = now();
        let result = call();
        let after = now();
        self.answer(before, after, result.err().map_or(0, Errno::raw_os_error));
        result.is_ok()
    }

    fn play(&mut self, words: &[&str]) {
        match words {
            ["bind", number, address, v6only, reuse] => {
                let address: SocketAddr = address.parse().expect("an address and a port");
                let socket = new_socket(address, *v6only == "true", *reuse == "true").expect("a socket");
                if self.timed(|| net::bind(&socket, &address)) {
                    self.sockets.insert(number.parse().expect("a number"), socket);
                }
            }
            ["listen", number] => {
                let socket = &self.sockets[&number.parse().expect("a number")];
                self.timed(|| net::listen(socket, 16));
            }
            ["close", number] => {
                let socket = self.sockets.remove(&number.parse().expect("a number"));
                self.timed(|| {
                    drop(socket);
                    Ok(())
                });
            }
            ["connect", address] => {
                let address: SocketAddr = address.parse().expect("an address and a port");
                let socket = new_socket(address, false, false).expect("a socket");
                self.timed(|| net::connect(&socket, &address));
            }
            ["fork", child] => {
                let before = now();
                // SAFETY: the program has one thread, so the child may do what the parent may.
                match unsafe { libc::fork() } {
                    0 => {
                        let channel = self.channels.remove(&child.parse().expect("a number"));
                        self.channel = channel.expect("a channel for each process");
                        self.answer(before, now(), 0);
                    }
                    pid => {
                        assert!(pid > 0, "fork: {}", std::io::Error::last_os_error());
                        self.answer(before, now(), pid);
                    }
                }
            }
            ["exec", path, keeps, other] => {
                let kept = self.sockets.iter().filter(|_| *keeps == "true");
                let kept: Vec<(usize, RawFd)> =
                    kept.map(|(number, fd)| (*number, inheritable(fd.as_fd()))).collect();
                let channels: Vec<(usize, RawFd)> =
                    self.channels.iter().map(|(number, fd)| (*number, inheritable(fd.as_fd()))).collect();
                let mut command = Command::new(path);
                let channel = inheritable(self.channel.as_fd()).to_string();
                let descriptors = [channel, list(kept), list(channels)];
                plays(&mut command, descriptors, *other == "true" || self.other);
                panic!("cannot exec `{path}`: {}", command.exec());
            }
            ["exit", code] => {
                let code = code.parse().expect("an exit code");
                // Immediately: returning would close the sockets while the process is still running.
                // SAFETY: nothing is left to be done.
                unsafe { libc::_exit(code) }
            }
            _ => panic!("unknown command `{words:?}`"),
        }
    }
}

fn inheritable(descriptor: BorrowedFd<'_>) -> RawFd {
    fcntl_setfd(descriptor, FdFlags::empty()).expect("an open descriptor");
    descriptor.as_raw_fd()
}

fn new_socket(address: SocketAddr, v6only: bool, reuse: bool) -> Result<OwnedFd, Errno> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let socket = net::socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    if address.is_ipv6() {
        sockopt::set_ipv6_v6only(&socket, v6only)?;
    }
    sockopt::set_socket_reuseaddr(&socket, reuse)?;
    Ok(socket)
}
