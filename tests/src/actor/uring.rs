//! The same by io_uring, which passes the system calls by: one request a ring.

use std::net::SocketAddr;
use std::os::fd::{AsRawFd, OwnedFd};

use io_uring::squeue::{Entry, Flags};
use io_uring::types::Fd;
use io_uring::{IoUring, opcode};
use rustix::io::Errno;
use rustix::net::addr::SocketAddrArg;

/// Which thread a request runs in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// The caller's.
    Caller,
    /// One of the kernel's pool for the process, named `iou-wrk-*`.
    Worker,
    /// The one that polls the ring, named `iou-sqp-*`.
    Poller,
    /// The caller's, and is cancelled before it is over.
    Cancelled,
}

impl Way {
    /// What the options ask for; `None`: not by io_uring.
    pub fn of(options: &[&str]) -> Option<Self> {
        options.iter().find_map(|option| match *option {
            "uring" => Some(Self::Caller),
            "uring=worker" => Some(Self::Worker),
            "uring=sqpoll" => Some(Self::Poller),
            "uring=cancel" => Some(Self::Cancelled),
            _ => None,
        })
    }
}

pub fn bind(socket: &OwnedFd, addr: SocketAddr, way: Way) -> Result<(), Errno> {
    let fd = Fd(socket.as_raw_fd());
    with_address(addr, |addr, length| run(opcode::Bind::new(fd, addr, length).build(), way))
}

pub fn listen(socket: &OwnedFd, backlog: i32, way: Way) -> Result<(), Errno> {
    run(opcode::Listen::new(Fd(socket.as_raw_fd()), backlog).build(), way)
}

pub fn connect(socket: &OwnedFd, addr: SocketAddr, way: Way) -> Result<(), Errno> {
    let fd = Fd(socket.as_raw_fd());
    with_address(addr, |addr, length| run(opcode::Connect::new(fd, addr, length).build(), way))
}

/// Lends the kernel's form of an address.
fn with_address<T>(addr: SocketAddr, lend: impl FnOnce(*const libc::sockaddr, libc::socklen_t) -> T) -> T {
    // SAFETY: what is lent is read before `lend` returns: it waits until its request is over.
    unsafe { addr.with_sockaddr(|addr, length| lend(addr.cast(), length)) }
}

const REQUEST: u64 = 1;
const CANCEL: u64 = 2;

/// Runs one request to its end.
fn run(request: Entry, way: Way) -> Result<(), Errno> {
    run_in(&mut ring(way)?, request, way)
}

fn ring(way: Way) -> Result<IoUring, Errno> {
    match way {
        // It goes to sleep immediately: on one processor a poller of the caller's priority would keep all others off, and the
        // kernel lets those in by force in the midst of the next request (`fair_server`, 6.12).
        Way::Poller => IoUring::builder().setup_sqpoll(1).build(2),
        Way::Caller | Way::Worker | Way::Cancelled => IoUring::new(2),
    }
    .map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))
}

fn run_in(ring: &mut IoUring, request: Entry, way: Way) -> Result<(), Errno> {
    let flags = if way == Way::Worker { Flags::ASYNC } else { Flags::empty() };
    push(ring, &request.flags(flags).user_data(REQUEST));
    let mut expected = 1;
    if way == Way::Cancelled {
        submit(ring, 0)?;
        push(ring, &opcode::AsyncCancel::new(REQUEST).build().user_data(CANCEL));
        expected = 2;
    }
    submit(ring, expected)?;
    let result = ring.completion().find(|completion| completion.user_data() == REQUEST);
    match result.expect("a request's end").result() {
        error @ ..0 => Err(Errno::from_raw_os_error(-error)),
        _ => Ok(()),
    }
}

fn push(ring: &mut IoUring, request: &Entry) {
    // SAFETY: what the request points to outlives it: `run` waits for its end.
    unsafe { ring.submission().push(request) }.expect("room in an empty ring");
}

fn submit(ring: &IoUring, wait_for: usize) -> Result<(), Errno> {
    ring.submit_and_wait(wait_for)
        .map(drop)
        .map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))
}
