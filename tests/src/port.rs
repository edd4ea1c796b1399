//! Ports that no other test uses. tracer sees every namespace of the host, so two tests that run at the same time, in one
//! process or in two, must not share a port.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::sync::atomic::{AtomicU16, Ordering};

/// First port of the range, below the ports that the kernel hands out by itself.
const FIRST: u16 = 20_000;
/// How many there are.
const COUNT: u16 = 12_000;

/// A port that belongs to its holder until it is dropped.
pub struct Port {
    pub number: u16,
    /// Holds the lock.
    _lock: File,
}

impl Port {
    /// Locks one byte of a file for each port: the lock ends with the file, however the process ends.
    pub fn take() -> Self {
        static NEXT: AtomicU16 = AtomicU16::new(0);
        let path = std::env::temp_dir().join("tracer-live-ports.lock");
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o666)
            .open(&path)
            .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        // Each process starts elsewhere, and goes on from its last port: a port is not used again immediately.
        let start = std::process::id().wrapping_mul(101) % u32::from(COUNT);
        for _ in 0..COUNT {
            let step = u32::from(NEXT.fetch_add(1, Ordering::Relaxed) % COUNT);
            let offset = u16::try_from((start + step) % u32::from(COUNT)).expect("less than COUNT");
            let number = FIRST + offset;
            if try_lock(&lock, number) && is_free(number) {
                return Self { number, _lock: lock };
            }
        }
        panic!("every port from {FIRST} on is taken");
    }
}

fn try_lock(file: &File, port: u16) -> bool {
    // SAFETY: a plain structure of integers.
    let mut range: libc::flock = unsafe { std::mem::zeroed() };
    range.l_type = libc::F_WRLCK as libc::c_short;
    range.l_whence = libc::SEEK_SET as libc::c_short;
    range.l_start = libc::off_t::from(port);
    range.l_len = 1;
    // SAFETY: the structure outlives the call. An "open file description" lock belongs to `file`, not to
    // the process, so that two tests of one process exclude each other as well.
    unsafe { libc::fcntl(file.as_raw_fd(), libc::F_OFD_SETLK, &raw mut range) == 0 }
}

/// Whether nothing of the tests' own namespace uses the port: no test does, but something else might.
fn is_free(port: u16) -> bool {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, socket_with};
    let free = || -> io::Result<()> {
        let socket = socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
        Ok(bind(socket, &std::net::SocketAddrV4::new(std::net::Ipv4Addr::UNSPECIFIED, port))?)
    };
    free().is_ok()
}
