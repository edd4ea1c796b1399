//! Reads of `struct sock`, at the offsets that the running kernel's BTF gave.
//!
//! A BTF program's socket argument is a trusted pointer: direct loads through it, at constant offsets, are
//! checked against BTF when the program loads and cannot fault. What lies beyond `struct sock`, or behind a
//! pointer that the verifier does not trust, is read by `bpf_probe_read_kernel`.

use aya_ebpf::helpers;
use core::ffi::c_void;
use tracer_ebpf::{MISSING, Socket, hashed};

use crate::{
    config::{self, offset},
    maps::{Destination, Reached},
    memory::{member, probe_read},
};

pub const AF_UNSPEC: u16 = 0;
pub const AF_INET: u16 = 2;
pub const AF_INET6: u16 = 10;
pub const IPPROTO_TCP: u16 = 6;
pub const ECONNREFUSED: i32 = 111;

/// What a queued error comes from (include/uapi/linux/errqueue.h).
const SO_EE_ORIGIN_ICMP: u8 = 2;
const SO_EE_ORIGIN_ICMP6: u8 = 3;

/// TCP states as `include/net/tcp_states.h` numbers them.
pub mod state {
    pub const ESTABLISHED: i32 = 1;
    pub const SYN_SENT: i32 = 2;
    pub const CLOSE: i32 = 7;
    pub const LISTEN: i32 = 10;
}

/// `O_NONBLOCK` of x86, arm64, riscv and most others (`include/uapi/asm-generic/fcntl.h`).
const O_NONBLOCK: u32 = 0o4000;

/// The key of a socket whose record is not joined with others.
const NO_KEY: (u64, u64) = (0, 0);

/// A `struct sock *`: a trusted pointer, a BTF program's argument, whose members are read by direct loads; or an untrusted
/// one, whose members are read by `bpf_probe_read_kernel`.
#[derive(Clone, Copy)]
pub struct Sock<const TRUSTED: bool = true>(pub *const c_void);

/// The same socket as a `struct tcp_sock *`; null where the kernel's check finds that it is not one.
#[derive(Clone, Copy)]
pub struct TcpSock<const TRUSTED: bool>(*const c_void);

/// An error that an ICMP message gave a socket.
#[derive(Clone, Copy)]
pub struct IcmpError {
    /// 0: none found.
    pub errno: i32,
    /// The message: a `struct sk_buff *`.
    skb: *const c_void,
}

impl IcmpError {
    pub const NONE: Self = Self { errno: 0, skb: core::ptr::null() };

    /// Index of the interface that the message came in by: `lo`, where the socket's own namespace sent it.
    #[inline(always)]
    pub fn device(self) -> u32 {
        probe_read(self.skb.wrapping_byte_add(offset!(skb_iif)), 0)
    }

    /// The source of the message, that of IPv4 as an IPv4-mapped address; zero where it cannot be read. The header of the
    /// message stays in front of what is queued of it.
    #[inline(always)]
    pub fn sender(self) -> [u64; 2] {
        let head: u64 = probe_read(self.skb.wrapping_byte_add(offset!(skb_head)), 0);
        let network: u16 = probe_read(self.skb.wrapping_byte_add(offset!(skb_network_header)), 0);
        let header = (head as *const c_void).wrapping_byte_add(usize::from(network));
        let version = probe_read(header, 0u8) >> 4;
        if version == 4 {
            Destination::mapped(probe_read(header.wrapping_byte_add(12), 0u32))
        } else if version == 6 {
            probe_read(header.wrapping_byte_add(8), [0; 2])
        } else {
            [0; 2]
        }
    }
}

impl<const TRUSTED: bool> TcpSock<TRUSTED> {
    /// The port a connect comes from, which `inet_sport` still holds when `skc_num` is given back.
    #[inline(always)]
    pub fn source_port(self) -> u16 {
        u16::from_be(self.load(offset!(inet_sport), 0))
    }

    /// The sequence number of the SYN, as long as it has not been acknowledged.
    #[inline(always)]
    pub fn initial_sequence(self) -> u32 {
        self.load(offset!(tcp_snd_una), 0)
    }

    #[inline(always)]
    fn load<T: Copy>(self, offset: usize, zero: T) -> T {
        if self.0.is_null() { zero } else { member::<T, TRUSTED>(self.0, offset, zero) }
    }
}

impl<const TRUSTED: bool> Sock<TRUSTED> {
    /// The same socket, to be read by `bpf_probe_read_kernel`: slower to run, and quicker to load.
    ///
    /// The verifier takes milliseconds over each pointer that a direct load gives (`btf_nested_type_is_trusted` searches all
    /// of the kernel's types, kernel/bpf/btf.c), and the user waits for that before the trace begins.
    #[inline(always)]
    pub fn untrusted(self) -> Sock<false> {
        Sock(self.0)
    }

    /// A member, at an offset of the kernel's BTF for its type.
    #[inline(always)]
    fn load<T: Copy>(self, offset: usize, zero: T) -> T {
        member::<T, TRUSTED>(self.0, offset, zero)
    }

    /// The pointer as a key: unique among the sockets that exist.
    #[inline(always)]
    pub fn address(self) -> u64 {
        self.0 as u64
    }

    #[inline(always)]
    pub fn state(self) -> i32 {
        // `skc_state` is a `volatile unsigned char`.
        i32::from(self.load(offset!(sock_state), 0u8))
    }

    /// The port a connect goes to.
    #[inline(always)]
    pub fn remote_port(self) -> u16 {
        // `skc_dport` is a `__be16`.
        u16::from_be(self.load(offset!(sock_dport), 0u16))
    }

    /// The port a listener is bound to; 0 for a connect whose port is not chosen, or given back.
    #[inline(always)]
    pub fn local_port(self) -> u16 {
        // `skc_num` is a `__u16`.
        self.load(offset!(sock_num), 0u16)
    }

    /// The structure that holds what lies beyond `struct sock`.
    #[inline(always)]
    pub fn tcp(self) -> TcpSock<TRUSTED> {
        if TRUSTED {
            // SAFETY: the helper takes a trusted socket pointer, which this is.
            TcpSock(unsafe { helpers::generated::bpf_skc_to_tcp_sock(self.0.cast_mut().cast()) }.cast())
        } else {
            TcpSock(self.0)
        }
    }

    /// TCP itself: an MPTCP socket shows twice, and its TCP subflow exactly once.
    #[inline(always)]
    pub fn is_tcp(self) -> bool {
        // `sk_protocol` is a `u16` since 5.6.
        self.load(offset!(sock_protocol), 0u16) == IPPROTO_TCP
    }

    #[inline(always)]
    pub fn error(self) -> i32 {
        // `sk_err` is an `int`.
        self.load(offset!(sock_err), 0i32)
    }

    #[inline(always)]
    pub fn shutdown(self) -> u32 {
        // `sk_shutdown` is a `u8` since 5.6.
        u32::from(self.load(offset!(sock_shutdown), 0u8))
    }

    /// Whether the socket has ever been in the kernel's table of listeners: one of [`hashed`].
    #[inline(always)]
    pub fn hashed(self) -> u32 {
        let mask = config::rcu_free_mask();
        if mask == 0 {
            return hashed::UNKNOWN;
        }
        // The lower half of an `unsigned long`, on a little-endian machine.
        let flags: u32 = self.probe(offset!(sock_flags), 0);
        if flags & mask != 0 { hashed::ONCE } else { hashed::NEVER }
    }

    #[inline(always)]
    pub fn backlog(self) -> u32 {
        // `sk_max_ack_backlog` is a `u32`.
        self.load(offset!(sock_max_ack_backlog), 0u32)
    }

    /// The newest error in the socket's error queue, where an ICMP message gave it. Each one to an IPv4 socket in SYN_SENT is
    /// queued (`ip_icmp_error`, net/ipv4/ip_sockglue.c), and stays there until the process reads it; one to an IPv6 socket only
    /// where that asked for it (`ipv6_icmp_error`, net/ipv6/datagram.c).
    #[inline(always)]
    pub fn icmp_error(self) -> IcmpError {
        let newest: u64 = probe_read(self.beyond(offset!(sock_error_queue_prev)), 0u64);
        // An empty queue points at itself, inside the socket.
        let own = self.address();
        if newest >= own && newest < own + 4096 {
            return IcmpError::NONE;
        }
        let skb = newest as *const c_void;
        // Timestamps and completions of zero-copy sends are queued there too.
        let origin: u8 = probe_read(skb.wrapping_byte_add(offset!(skb_origin)), 0u8);
        let is_icmp = origin == SO_EE_ORIGIN_ICMP || origin == SO_EE_ORIGIN_ICMP6;
        let errno: u32 = probe_read(skb.wrapping_byte_add(offset!(skb_errno)), 0u32);
        IcmpError { errno: if is_icmp { errno as i32 } else { 0 }, skb }
    }

    /// Whether the file behind the socket is in non-blocking mode.
    #[inline(always)]
    pub fn is_nonblocking(self) -> bool {
        let file: u64 = probe_read(self.socket().wrapping_byte_add(offset!(socket_file)), 0u64);
        let flags: u32 = probe_read((file as *const c_void).wrapping_byte_add(offset!(file_flags)), 0u32);
        flags & O_NONBLOCK != 0
    }

    #[inline(always)]
    fn beyond(self, offset: usize) -> *const c_void {
        self.0.wrapping_byte_add(offset)
    }

    /// Reads a member by probing.
    #[inline(always)]
    fn probe<T: Copy>(self, offset: usize, zero: T) -> T {
        probe_read(self.beyond(offset), zero)
    }

    /// `sk_socket` as an address for probing reads.
    #[inline(always)]
    fn socket(self) -> *const c_void {
        self.probe(offset!(sock_socket), 0u64) as *const c_void
    }

    /// The sockfs inode number, read as the kernel's `SOCK_INODE` finds it: allocated in one piece with
    /// `struct socket`.
    #[inline(always)]
    pub fn inode(self) -> u64 {
        let socket = self.socket();
        if socket.is_null() {
            return 0;
        }
        probe_read(socket.wrapping_byte_add(offset!(socket_inode)), 0u64)
    }

    /// The cookie. Through a trusted pointer it is given to a socket that has none yet, where the kernel allows the helper.
    #[inline(always)]
    pub fn cookie(self) -> u64 {
        if !TRUSTED {
            self.probe(offset!(sock_cookie), 0u64)
        } else if config::cookie_helper() {
            // SAFETY: the helper takes a trusted socket pointer, which this is.
            unsafe { helpers::generated::bpf_get_socket_cookie(self.0.cast_mut().cast()) }
        } else {
            0
        }
    }

    /// Fills in what a record holds of a socket that connects, without the key, which only a listener needs. Gives it as a TCP
    /// socket.
    ///
    /// # Safety
    /// `out` must be valid for writes.
    #[inline(always)]
    pub unsafe fn describe_connecting(self, out: *mut Socket) -> TcpSock<TRUSTED> {
        let tcp = self.tcp();
        // SAFETY: the caller's.
        unsafe {
            self.describe(NO_KEY, out);
            (&raw mut (*out).local_port).write(tcp.source_port());
        }
        tcp
    }

    /// Distinguishes where a socket connects to from other destinations: see [`Destination::tag`].
    #[inline(always)]
    pub fn destination_tag(self) -> u32 {
        let family: u16 = self.load(offset!(sock_family), 0);
        let mut addr = [0; 2];
        if family == AF_INET6 && offset!(sock_v6_daddr) != MISSING as usize {
            // SAFETY: the member is an `in6_addr`, and there are sixteen bytes for it.
            unsafe { self.copy_address(offset!(sock_v6_daddr), addr.as_mut_ptr()) };
        } else {
            addr = Destination::mapped(self.load(offset!(sock_daddr), 0u32));
        }
        Destination { addr, port: self.remote_port() }.tag()
    }

    /// Where a socket connects to, for a port that was read already.
    #[inline(always)]
    pub fn destination(self, port: u16) -> Reached {
        let family: u16 = self.load(offset!(sock_family), 0);
        let net = self.load(offset!(sock_net), core::ptr::null::<c_void>());
        let netns = member::<_, TRUSTED>(net, offset!(net_inum), 0u32);
        let mut reached = Reached { addr: [0; 2], netns, port: u32::from(port) };
        if family == AF_INET6 && offset!(sock_v6_daddr) != MISSING as usize {
            // SAFETY: the member is an `in6_addr`, and the key has sixteen bytes for it.
            unsafe { self.copy_address(offset!(sock_v6_daddr), (&raw mut reached.addr).cast()) };
        } else {
            reached.addr[0] = u64::from(self.load(offset!(sock_daddr), 0u32));
        }
        reached
    }

    /// Fills in what a record holds of a socket, and gives the socket a cookie where that is possible. The rest is rarely
    /// read, and so through an untrusted pointer: see [`Sock::untrusted`].
    ///
    /// # Safety
    /// `out` must be valid for writes.
    #[inline(always)]
    pub unsafe fn describe_keyed(self, out: *mut Socket) {
        // SAFETY: the caller's.
        unsafe { self.untrusted().describe((self.cookie(), self.inode()), out) }
    }

    /// Piece by piece, so that no large value is copied over the programs' 512 bytes of stack. The key is cookie and inode.
    ///
    /// # Safety
    /// `out` must be valid for writes.
    #[inline(always)]
    unsafe fn describe(self, (cookie, inode): (u64, u64), out: *mut Socket) {
        let family: u16 = self.load(offset!(sock_family), 0);
        let net = self.load(offset!(sock_net), core::ptr::null::<c_void>());
        let has_net_cookie = offset!(net_cookie) != MISSING as usize;
        let net_cookie =
            if has_net_cookie { member::<_, TRUSTED>(net, offset!(net_cookie), 0u64) } else { 0 };
        // An IPv4 socket is for IPv4 only anyway.
        let v6only: u8 = if family == AF_INET6 { self.probe(offset!(sock_ipv6only), 0) } else { 0 };
        // SAFETY: `out` is the caller's.
        unsafe {
            (&raw mut (*out).netns).write(member::<_, TRUSTED>(net, offset!(net_inum), 0u32));
            (&raw mut (*out).netns_cookie).write(net_cookie);
            (&raw mut (*out).cookie).write(cookie);
            (&raw mut (*out).inode).write(inode);
            (&raw mut (*out).device).write(self.load(offset!(sock_bound_dev_if), 0));
            (&raw mut (*out).local_port).write(self.load(offset!(sock_num), 0));
            (&raw mut (*out).remote_port).write(u16::from_be(self.load(offset!(sock_dport), 0)));
            (&raw mut (*out).family).write(family);
            (&raw mut (*out).v6only).write(u16::from(v6only & config::v6only_mask() != 0));
            let local = (&raw mut (*out).local).cast::<u64>();
            let remote = (&raw mut (*out).remote).cast::<u64>();
            if family == AF_INET6 && offset!(sock_v6_daddr) != MISSING as usize {
                self.copy_address(offset!(sock_v6_rcv_saddr), local);
                self.copy_address(offset!(sock_v6_daddr), remote);
            } else {
                local.write_unaligned(u64::from(self.load(offset!(sock_rcv_saddr), 0u32)));
                local.add(1).write_unaligned(0);
                remote.write_unaligned(u64::from(self.load(offset!(sock_daddr), 0u32)));
                remote.add(1).write_unaligned(0);
            }
        }
    }

    /// # Safety
    /// `offset` must be that of an `in6_addr`, and `out` valid for sixteen bytes.
    #[inline(always)]
    unsafe fn copy_address(self, offset: usize, out: *mut u64) {
        let (first, second) = if TRUSTED {
            (self.load(offset, 0), self.load(offset + 8, 0))
        } else {
            self.probe(offset, [0; 2]).into()
        };
        // SAFETY: the caller's.
        unsafe {
            out.write_unaligned(first);
            out.add(1).write_unaligned(second);
        }
    }
}
