//! How a socket comes from one process to another: by a message, by pidfd_getfd, by exec.

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, FromRawFd, OwnedFd, RawFd};

use rustix::io::{Errno, FdFlags};
use rustix::net::{
    self, AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags, SocketType,
};
use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags};

/// A Unix socket that keeps what is passed to it until it is taken, whatever becomes of who passed it.
pub fn mailbox(path: &str) -> Result<OwnedFd, Errno> {
    let socket = unix_socket()?;
    net::bind(&socket, &SocketAddrUnix::new(path)?)?;
    Ok(socket)
}

fn unix_socket() -> Result<OwnedFd, Errno> {
    net::socket_with(AddressFamily::UNIX, SocketType::DGRAM, SocketFlags::CLOEXEC, None)
}

/// Passes a socket on (SCM_RIGHTS).
pub fn pass(socket: &OwnedFd, path: &str) -> Result<(), Errno> {
    let descriptors = [socket.as_fd()];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    assert!(control.push(SendAncillaryMessage::ScmRights(&descriptors)), "room for one descriptor");
    let (address, data) = (SocketAddrUnix::new(path)?, [IoSlice::new(b".")]);
    net::sendmsg_addr(unix_socket()?, &address, &data, &mut control, SendFlags::empty()).map(drop)
}

/// Takes the next socket out of a mailbox.
pub fn take(mailbox: &OwnedFd) -> Result<OwnedFd, Errno> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    net::recvmsg(mailbox, &mut [IoSliceMut::new(&mut byte)], &mut control, RecvFlags::CMSG_CLOEXEC)?;
    let mut descriptors = control.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
        _ => None,
    });
    descriptors.next().ok_or(Errno::BADMSG)
}

/// Takes a socket out of another process, which need not know.
pub fn steal(pid: i32, descriptor: RawFd) -> Result<OwnedFd, Errno> {
    let pid = Pid::from_raw(pid).ok_or(Errno::SRCH)?;
    let process = rustix::process::pidfd_open(pid, PidfdFlags::empty())?;
    rustix::process::pidfd_getfd(process, descriptor, PidfdGetfdFlags::empty())
}

/// The socket that the program before this one left open.
pub fn inherited(descriptor: RawFd) -> Result<OwnedFd, Errno> {
    // SAFETY: the program before this one left it open, and passes its number to this one only.
    let socket = unsafe { OwnedFd::from_raw_fd(descriptor) };
    rustix::io::fcntl_setfd(&socket, FdFlags::CLOEXEC)?;
    Ok(socket)
}
