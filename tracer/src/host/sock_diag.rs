//! TCP sockets of one network namespace, listeners and what else holds a port, from the kernel's socket dump (sock_diag(7)).

use std::fmt;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};

use netlink_packet_core::{DefaultNla, Emitable, Parseable};
use netlink_packet_sock_diag::inet::{
    ExtensionFlags, InetRequest, InetResponse, SocketId, StateFlags, nlas::Nla,
};
use netlink_packet_sock_diag::{AF_INET, AF_INET6, IPPROTO_TCP, SOCK_DIAG_BY_FAMILY, TCP_LISTEN};
use netlink_sys::protocols::NETLINK_SOCK_DIAG;
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketType};

use crate::host::netlink::{self, Channel};
use crate::model::process::Process;
use crate::model::socket::{Holder, Listener, NetnsId, SocketKey, TcpState};

/// `INET_DIAG_REQ_BYTECODE`: linux/inet_diag.h.
const REQ_BYTECODE: u16 = 1;

/// `INET_DIAG_BC_*`: linux/inet_diag.h.
const BC_JMP: u8 = 1;
const BC_SOURCE_GE: u8 = 2;
const BC_SOURCE_LE: u8 = 3;

/// `TCP_BOUND_INACTIVE`: include/net/tcp_states.h, asked for since 6.8; what it lists is in state CLOSE
/// (`inet_diag_dump_icsk()`, net/ipv4/inet_diag.c).
const BOUND_INACTIVE: u8 = 13;
const CLOSE: u8 = 7;

/// This host does not answer socket dumps at all: a kernel module is missing, or a policy forbids it.
#[derive(Debug)]
pub struct Unavailable {
    pub reason: io::Error,
}

impl Unavailable {
    /// The failures that are this host's, and not one namespace's.
    ///
    /// ENOENT: no handler, as without `inet_diag` (`__sock_diag_cmd()`) or `tcp_diag`
    /// (`inet_diag_lock_handler()`); EPROTONOSUPPORT: a kernel without sock_diag; the rest: a seccomp
    /// filter's or a security module's answer to the socket.
    fn from_dump(err: netlink::Error) -> Result<Self, netlink::Error> {
        use netlink::Error::{Changing, Malformed, Refused, Socket};
        match err {
            Refused(reason) => match Errno::from_io_error(&reason) {
                Some(Errno::NOENT | Errno::PROTONOSUPPORT | Errno::OPNOTSUPP | Errno::INVAL) => {
                    Ok(Self { reason })
                }
                Some(_) | None => Err(Refused(reason)),
            },
            Socket(reason) => match Errno::from_io_error(&reason) {
                Some(
                    Errno::PROTONOSUPPORT
                    | Errno::AFNOSUPPORT
                    | Errno::PERM
                    | Errno::ACCESS
                    | Errno::NOSYS
                    | Errno::INVAL
                    | Errno::NOENT
                    | Errno::CONNREFUSED,
                ) => Ok(Self { reason }),
                Some(_) | None => Err(Socket(reason)),
            },
            Changing => Err(Changing),
            Malformed(why) => Err(Malformed(why)),
        }
    }

    /// Whether loading kernel modules may help.
    pub fn is_missing_module(&self) -> bool {
        matches!(
            Errno::from_io_error(&self.reason),
            Some(Errno::NOENT | Errno::PROTONOSUPPORT | Errno::OPNOTSUPP | Errno::INVAL | Errno::CONNREFUSED)
        )
    }

    /// What to do about it.
    pub fn remedy(&self) -> &'static str {
        if self.is_missing_module() {
            "as root: modprobe -a inet_diag tcp_diag"
        } else {
            "allow NETLINK_SOCK_DIAG sockets in the seccomp filter or security policy that tracer runs under"
        }
    }
}

impl fmt::Display for Unavailable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot list listening sockets: sock_diag: {}", self.reason)
    }
}

impl std::error::Error for Unavailable {}

/// Why the listeners of a namespace are not known.
#[derive(Debug)]
pub enum Error {
    /// In no namespace of this host.
    Unavailable(Unavailable),
    /// In this one.
    Dump(netlink::Error),
}

impl From<netlink::Error> for Error {
    fn from(err: netlink::Error) -> Self {
        Unavailable::from_dump(err).map_or_else(Self::Dump, Self::Unavailable)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unavailable(err) => err.fmt(f),
            Self::Dump(err) => write!(f, "listening sockets: {err}"),
        }
    }
}

impl std::error::Error for Error {}

/// Opens a dump socket in the calling thread's network namespace.
pub fn open() -> Result<Channel, Error> {
    Ok(Channel::open(NETLINK_SOCK_DIAG)?)
}

/// The listeners on `ports` in the channel's namespace, which the caller knows as `netns`. Of their owners
/// only the socket's user id is known here; an MPTCP listener is its TCP subflow, with the inode number
/// of the socket that its process holds (`mptcp_subflow_create_socket()`, since 5.7).
pub fn listeners(channel: &mut Channel, netns: NetnsId, ports: &[u16]) -> Result<Vec<Listener>, Error> {
    if ports.is_empty() {
        return Ok(Vec::new());
    }
    let is_wanted = |listener: &Listener| ports.contains(&listener.port);
    let filter = PortFilter::Only(ports);
    dump(channel, StateFlags::LISTEN, filter, |response| listener(response, netns).filter(is_wanted))
}

/// Every listener of the channel's namespace, whatever its port.
pub fn every_listener(channel: &mut Channel, netns: NetnsId) -> Result<Vec<Listener>, Error> {
    dump(channel, StateFlags::LISTEN, PortFilter::Every, |response| listener(response, netns))
}

/// Every socket of the channel's namespace whose own port is `port`, as a listener has it, with its state as
/// `ss` names it: what keeps the port from being bound. A TIME-WAIT socket has no inode.
pub fn holders(channel: &mut Channel, netns: NetnsId, port: u16) -> Result<Vec<Holder>, Error> {
    let is_wanted = |holder: &Holder| holder.socket.port == port;
    let filter = PortFilter::Only(&[port]);
    dump(channel, every_state(), filter, |response| Some(holder(response, netns)).filter(is_wanted))
}

/// Whether this host lists sockets at all.
///
/// # Errors
/// Why it does not.
pub fn check() -> Result<(), Error> {
    // No socket has port 0: the answer is an empty list.
    dump(&mut open()?, StateFlags::LISTEN, PortFilter::Only(&[0]), |_| None::<()>).map(drop)
}

/// Whether this kernel lists sockets that are bound and no more: found out with one of our own.
pub fn lists_bound_sockets() -> bool {
    let probe = || -> Option<bool> {
        let socket = rustix::net::socket(AddressFamily::INET, SocketType::STREAM, None).ok()?;
        rustix::net::bind(&socket, &SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0)).ok()?;
        let port = SocketAddr::try_from(rustix::net::getsockname(&socket).ok()?).ok()?.port();
        let state_of = |response: &InetResponse| {
            (response.header.socket_id.source_port == port).then(|| state(response.header.state))
        };
        let states = dump(&mut open().ok()?, every_state(), PortFilter::Only(&[port]), state_of).ok()?;
        Some(states.contains(&TcpState::Closed))
    };
    probe().unwrap_or(false)
}

/// Which sockets a dump lists, by their own port.
#[derive(Clone, Copy, Debug)]
enum PortFilter<'a> {
    Every,
    /// At least one port.
    Only(&'a [u16]),
}

/// What `take` makes of the sockets of both families that are in some states and pass the filter.
fn dump<T>(
    channel: &mut Channel,
    states: StateFlags,
    filter: PortFilter<'_>,
    take: impl Fn(&InetResponse) -> Option<T>,
) -> Result<Vec<T>, Error> {
    let mut found = Vec::new();
    for family in [AF_INET, AF_INET6] {
        let request = request(family, states.clone(), filter);
        found
            .extend(channel.dump(SOCK_DIAG_BY_FAMILY, &request, |_, payload| Ok(take(&response(payload)?)))?);
    }
    Ok(found)
}

/// Every state, also of a socket that is bound and no more.
fn every_state() -> StateFlags {
    StateFlags::from_bits_retain(StateFlags::all().bits() | 1 << BOUND_INACTIVE)
}

/// A state's number (include/net/tcp_states.h).
fn state(number: u8) -> TcpState {
    match number {
        1 => TcpState::Established,
        2 => TcpState::SynSent,
        3 | 12 => TcpState::SynRecv,
        4 => TcpState::FinWait1,
        5 => TcpState::FinWait2,
        6 => TcpState::TimeWait,
        CLOSE | BOUND_INACTIVE => TcpState::Closed,
        8 => TcpState::CloseWait,
        9 => TcpState::LastAck,
        10 => TcpState::Listen,
        11 => TcpState::Closing,
        _ => TcpState::Unknown,
    }
}

/// A dump of one family's sockets in some states.
fn request(family: u8, states: StateFlags, filter: PortFilter<'_>) -> Vec<u8> {
    let request = InetRequest {
        family,
        protocol: IPPROTO_TCP,
        extensions: ExtensionFlags::empty(),
        states,
        socket_id: if family == AF_INET { SocketId::new_v4() } else { SocketId::new_v6() },
    };
    let mut body = vec![0; request.buffer_len()];
    request.emit(&mut body);
    if let PortFilter::Only(ports) = filter {
        let filter = DefaultNla::new(REQ_BYTECODE, port_filter(ports));
        let mut tail = vec![0; filter.buffer_len()];
        filter.emit(&mut tail);
        body.extend(tail);
    }
    body
}

/// The filter program "source port is one of `ports`", for the kernel to run on each socket
/// (`inet_diag_bc_run()`, net/ipv4/inet_diag.c).
///
/// Not only for speed: a dump that does not fit one message goes on by position in a hash chain, and 5.10
/// then misses sockets when others close meanwhile. What passes this filter fits one message.
fn port_filter(ports: &[u16]) -> Vec<u8> {
    // An instruction is its code, and how many bytes on to go when it holds and when not; the port that it
    // compares is in the second half of the next. Going to the very end accepts; 4 beyond it refuses.
    // Only `no` can reach far, so a block that held jumps to the end by a JMP, whose `no` is always taken.
    const BLOCK: usize = 20;
    let end = ports.len() * BLOCK - 4;
    let mut program = Vec::with_capacity(end);
    let mut emit = |code: u8, yes: u8, no: u16| {
        program.extend([code, yes]);
        program.extend(no.to_ne_bytes());
    };
    for (index, &port) in ports.iter().enumerate() {
        emit(BC_SOURCE_GE, 8, 20);
        emit(0, 0, port);
        emit(BC_SOURCE_LE, 8, 12);
        emit(0, 0, port);
        let here = index * BLOCK + 16;
        if here < end {
            emit(BC_JMP, 4, (end - here) as u16);
        }
    }
    program
}

/// `struct inet_diag_msg` and its attributes.
pub(crate) fn response(payload: &[u8]) -> Result<InetResponse, netlink::Error> {
    InetResponse::parse(payload).map_err(netlink::Error::malformed)
}

/// The socket that a dump describes, with its state.
pub(crate) fn holder(response: &InetResponse, netns: NetnsId) -> Holder {
    Holder { socket: socket(response, netns), state: state(response.header.state) }
}

/// The socket that a dump describes, when it listens.
pub(crate) fn listener(response: &InetResponse, netns: NetnsId) -> Option<Listener> {
    (response.header.state == TCP_LISTEN).then(|| socket(response, netns))
}

/// The socket that a dump describes.
fn socket(response: &InetResponse, netns: NetnsId) -> Listener {
    let InetResponse { header, nlas } = response;
    let id = &header.socket_id;
    let addr = id.source_address.to_canonical();
    let v6only = nlas.iter().find_map(|attribute| match attribute {
        Nla::SkV6Only(value) if addr.is_ipv6() => Some(*value),
        _ => None,
    });
    Listener {
        key: SocketKey { inode: u64::from(header.inode), cookie: cookie(id.cookie) },
        netns,
        addr,
        port: id.source_port,
        v6only,
        device: (id.interface_id != 0).then_some(id.interface_id),
        // idiag_wqueue of a listening socket is sk_max_ack_backlog (tcp_diag_get_info()).
        backlog: Some(header.send_queue),
        since: None,
        process: Process { uid: Some(header.uid), ..Process::default() },
        opener: None,
    }
}

/// Two 32-bit halves, the lower first (`sock_diag_save_cookie()`).
fn cookie(bytes: [u8; 8]) -> u64 {
    let [a, b, c, d, e, f, g, h] = bytes;
    u64::from(u32::from_ne_bytes([a, b, c, d])) | u64::from(u32::from_ne_bytes([e, f, g, h])) << 32
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv6Addr};

    use super::*;

    /// `inet_diag_bc_run()`, for the instructions that the filter uses.
    fn run(program: &[u8], source_port: u16) -> bool {
        let mut at = 0;
        while at < program.len() {
            let no = usize::from(u16::from_ne_bytes([program[at + 2], program[at + 3]]));
            let port = || u16::from_ne_bytes([program[at + 6], program[at + 7]]);
            let holds = match program[at] {
                BC_JMP => false,
                BC_SOURCE_GE => source_port >= port(),
                BC_SOURCE_LE => source_port <= port(),
                code => panic!("code {code}"),
            };
            at += if holds { usize::from(program[at + 1]) } else { no };
        }
        at == program.len()
    }

    #[test]
    fn the_filter_passes_the_ports_and_no_others() {
        for ports in [&[18789][..], &[1, 65535, 80, 81], &(100..116).collect::<Vec<_>>()] {
            let program = port_filter(ports);
            for port in 0..=u16::MAX {
                assert_eq!(run(&program, port), ports.contains(&port), "{port} of {ports:?}");
            }
        }
    }

    fn response(family: u8, state: u8, addr: IpAddr, v6only: Option<u8>) -> Vec<u8> {
        let mut bytes = vec![family, state, 0, 0];
        bytes.extend(18789_u16.to_be_bytes());
        bytes.extend([0; 2]);
        let mut source = [0; 16];
        match addr {
            IpAddr::V4(addr) => source[..4].copy_from_slice(&addr.octets()),
            IpAddr::V6(addr) => source = addr.octets(),
        }
        bytes.extend(source);
        bytes.extend([0; 16]);
        bytes.extend(3_u32.to_ne_bytes());
        bytes.extend(5_u32.to_ne_bytes());
        bytes.extend(1_u32.to_ne_bytes());
        for field in [0_u32, 0, 511, 1000, 4242] {
            bytes.extend(field.to_ne_bytes());
        }
        if let Some(value) = v6only {
            bytes.extend([5, 0, 11, 0, value, 0, 0, 0]);
        }
        bytes
    }

    fn parse(bytes: &[u8]) -> Option<Listener> {
        listener(&InetResponse::parse(bytes).unwrap(), NetnsId(1))
    }

    #[test]
    fn a_listener_is_read_field_by_field() {
        let found = parse(&response(AF_INET6, TCP_LISTEN, Ipv6Addr::UNSPECIFIED.into(), Some(1))).unwrap();
        assert_eq!(
            found,
            Listener {
                key: SocketKey { inode: 4242, cookie: 0x1_0000_0005 },
                netns: NetnsId(1),
                addr: Ipv6Addr::UNSPECIFIED.into(),
                port: 18789,
                v6only: Some(true),
                device: Some(3),
                backlog: Some(511),
                since: None,
                process: Process { uid: Some(1000), ..Process::default() },
                opener: None,
            }
        );
    }

    #[test]
    fn a_mapped_address_is_ipv4_and_has_no_v6only() {
        let mapped = Ipv4Addr::new(127, 0, 0, 9).to_ipv6_mapped();
        let found = parse(&response(AF_INET6, TCP_LISTEN, mapped.into(), Some(0))).unwrap();
        assert_eq!((found.addr, found.v6only), (Ipv4Addr::new(127, 0, 0, 9).into(), None));
        let found = parse(&response(AF_INET, TCP_LISTEN, Ipv4Addr::LOCALHOST.into(), None)).unwrap();
        assert_eq!(found.v6only, None);
    }

    #[test]
    fn a_socket_that_does_not_listen_is_passed_over() {
        assert_eq!(parse(&response(AF_INET, 1, Ipv4Addr::LOCALHOST.into(), None)), None);
    }
}
