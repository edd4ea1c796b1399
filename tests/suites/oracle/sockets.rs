//! Real sockets of a case.

use std::net::{IpAddr, SocketAddr, SocketAddrV6};
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::{self, AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, sockopt};

use super::case::{Client, Form, Server};
use super::world::Room;

/// A listener that listens.
pub struct Listening {
    pub socket: OwnedFd,
    pub cookie: u64,
    /// Connections of which it is not known yet which case they are.
    pub accepted: Vec<OwnedFd>,
}

/// A connect that has begun, and its outcome once there is one.
pub struct Attempt {
    pub socket: OwnedFd,
    pub outcome: Option<Result<(), Errno>>,
}

fn family(form: Form) -> AddressFamily {
    match form {
        Form::Inet => AddressFamily::INET,
        Form::Inet6 | Form::Mapped => AddressFamily::INET6,
    }
}

/// The address as a socket of that form is given it.
fn in_form(form: Form, addr: IpAddr, port: u16, scope: u32) -> SocketAddr {
    match (form, addr) {
        (Form::Inet, _) | (Form::Inet6, IpAddr::V4(_)) => SocketAddr::new(addr, port),
        (Form::Mapped, IpAddr::V4(v4)) => SocketAddr::new(v4.to_ipv6_mapped().into(), port),
        (Form::Inet6 | Form::Mapped, IpAddr::V6(v6)) => SocketAddrV6::new(v6, port, 0, scope).into(),
    }
}

fn bind_to_device(socket: &OwnedFd, room: &Room, device: usize) -> Result<(), Errno> {
    let name = &room.devices[device].0;
    let length = libc::socklen_t::try_from(name.len()).expect("an interface name is short");
    // SAFETY: the pointer and the length are those of `name`, which outlives the call.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_BINDTODEVICE,
            name.as_ptr().cast(),
            length,
        )
    };
    let error = std::io::Error::last_os_error();
    if result == 0 { Ok(()) } else { Err(Errno::from_io_error(&error).expect("an errno")) }
}

fn scope(room: &Room, scope: Option<usize>) -> u32 {
    scope.map_or(0, |device| room.devices[device].1)
}

/// Listens, with the calling thread inside `room`.
pub fn listen(server: &Server, room: &Room) -> Result<Listening, Errno> {
    let socket = net::socket_with(
        family(server.form),
        SocketType::STREAM,
        SocketFlags::NONBLOCK | SocketFlags::CLOEXEC,
        None,
    )?;
    if server.form != Form::Inet {
        sockopt::set_ipv6_v6only(&socket, server.v6only)?;
    }
    // A listener may be on an address that is not there.
    sockopt::set_ip_freebind(&socket, true)?;
    sockopt::set_socket_reuseport(&socket, server.reuseport)?;
    let early = server.device.filter(|_| !server.is_device_late);
    if let Some(device) = early {
        bind_to_device(&socket, room, device)?;
    }
    net::bind(&socket, &in_form(server.form, server.addr, server.port, scope(room, server.scope)))?;
    if let Some(device) = server.device.filter(|_| server.is_device_late) {
        bind_to_device(&socket, room, device)?;
    }
    net::listen(&socket, 4_096)?;
    Ok(Listening { cookie: sockopt::socket_cookie(&socket)?, socket, accepted: Vec::new() })
}

fn client_socket(client: &Client, room: &Room, kind: SocketType) -> Result<OwnedFd, Errno> {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = net::socket_with(family(client.form), kind, flags, None)?;
    if let Some(device) = client.device {
        bind_to_device(&socket, room, device)?;
    }
    if let Some(source) = client.source {
        net::bind(&socket, &in_form(client.form, source, 0, 0))?;
    }
    Ok(socket)
}

fn destination(client: &Client, room: &Room) -> SocketAddr {
    in_form(client.form, client.addr, client.port, scope(room, client.scope))
}

/// Connects, with the calling thread inside `room`.
pub fn connect(client: &Client, room: &Room) -> Result<Attempt, Errno> {
    let socket = client_socket(client, room, SocketType::STREAM)?;
    // Closed by a reset: no TIME-WAIT is left to keep the port from the next listener.
    sockopt::set_socket_linger(&socket, Some(Duration::ZERO))?;
    let outcome = match net::connect(&socket, &destination(client, room)) {
        Err(Errno::INPROGRESS) => None,
        outcome => Some(outcome),
    };
    Ok(Attempt { socket, outcome })
}

/// Where the kernel takes a connect to `0.0.0.0` or `::`: `ip4_datagram_connect()` and
/// `ip6_datagram_connect()` resolve it as the TCP ones do, and a datagram socket can be asked.
pub fn resolved(client: &Client, room: &Room) -> Result<IpAddr, Errno> {
    let socket = client_socket(client, room, SocketType::DGRAM)?;
    net::connect(&socket, &destination(client, room))?;
    let peer = net::getpeername(&socket)?.ok_or(Errno::NOTCONN)?;
    let peer = SocketAddr::try_from(peer).map_err(|_| Errno::AFNOSUPPORT)?;
    Ok(peer.ip().to_canonical())
}

/// Waits for the outcomes that are still to come: those on one host come immediately.
pub fn settle(attempts: &mut [(usize, Attempt)], limit: Duration) {
    let deadline = std::time::Instant::now() + limit;
    loop {
        let pending: Vec<usize> =
            (0..attempts.len()).filter(|&index| attempts[index].1.outcome.is_none()).collect();
        let left = deadline.saturating_duration_since(std::time::Instant::now());
        if pending.is_empty() || left.is_zero() {
            return;
        }
        let mut entries: Vec<libc::pollfd> = pending
            .iter()
            .map(|&index| attempts[index].1.socket.as_raw_fd())
            .map(|fd| libc::pollfd { fd, events: libc::POLLOUT, revents: 0 })
            .collect();
        let timeout = i32::try_from(left.as_millis()).expect("a short time") + 1;
        // SAFETY: the length is that of `entries`, which outlive the call.
        unsafe { libc::poll(entries.as_mut_ptr(), entries.len() as libc::nfds_t, timeout) };
        for (&index, entry) in pending.iter().zip(entries) {
            if entry.revents != 0 {
                let attempt = &mut attempts[index].1;
                attempt.outcome = Some(sockopt::socket_error(&attempt.socket).expect("SO_ERROR"));
            }
        }
    }
}

/// Sends the number of its case over a connection.
pub fn sign(attempt: &Attempt, number: usize) {
    let number = u32::try_from(number).expect("a case has a small number").to_ne_bytes();
    net::send(&attempt.socket, &number, SendFlags::NOSIGNAL).expect("to send on a connection");
}

/// The cases that a listener has answered, without those that an earlier call gave.
pub fn answered(listening: &mut Listening) -> Vec<usize> {
    loop {
        match net::accept(&listening.socket) {
            Ok(connection) => listening.accepted.push(connection),
            Err(Errno::AGAIN) => break,
            Err(err) => panic!("accept: {err}"),
        }
    }
    let mut numbers = Vec::new();
    listening.accepted.retain(|connection| {
        let mut number = [0_u8; 4];
        // What was sent before a reset can be read no more: clients are closed after this.
        match net::recv(connection, &mut number, RecvFlags::DONTWAIT) {
            Ok((4, _)) => numbers.push(u32::from_ne_bytes(number) as usize),
            // A client that was given up sends nothing.
            Err(Errno::AGAIN) => return true,
            Ok(_) | Err(Errno::CONNRESET) => {}
            Err(err) => panic!("recv: {err}"),
        }
        false
    });
    numbers
}
