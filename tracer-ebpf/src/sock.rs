//! Reads of `struct sock`, at the offsets that the running kernel's BTF gave.
//!
//! A tracepoint's socket argument is a pointer that the verifier knows: plain loads through it, at
//! constant offsets, are checked against BTF when the program loads and cannot fault. What lies
//! beyond `struct sock`, or behind a pointer the verifier does not know, goes through
//! `bpf_probe_read_kernel`.

use aya_ebpf::helpers;
use core::ffi::c_void;
use tracer_ebpf::{MISSING, Socket};

use crate::config::{self, offset};

pub const AF_INET: u16 = 2;
pub const AF_INET6: u16 = 10;
pub const IPPROTO_TCP: u16 = 6;
pub const ECONNREFUSED: i32 = 111;

/// TCP states as `include/net/tcp_states.h` numbers them.
pub mod state {
    pub const ESTABLISHED: i32 = 1;
    pub const SYN_SENT: i32 = 2;
    pub const CLOSE: i32 = 7;
    pub const LISTEN: i32 = 10;
}

/// `O_NONBLOCK` of x86, arm64, riscv and most others (`include/uapi/asm-generic/fcntl.h`).
const O_NONBLOCK: u32 = 0o4000;

/// The key of a socket that nothing is joined with.
const NO_KEY: (u64, u64) = (0, 0);

/// A `struct sock *`: one that a BTF program was given, which the verifier knows, or else one that is only probed.
#[derive(Clone, Copy)]
pub struct Sock<const KNOWN: bool = true>(pub *const c_void);

/// The same socket as a `struct tcp_sock *`; null when the verifier's way there finds that it is none.
#[derive(Clone, Copy)]
pub struct TcpSock<const KNOWN: bool>(*const c_void);

impl<const KNOWN: bool> TcpSock<KNOWN> {
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
        if self.0.is_null() { zero } else { member::<T, KNOWN>(self.0, offset, zero) }
    }
}

/// Reads kernel memory that may be gone: zero then.
#[inline(always)]
pub fn read_or_zero<T: Copy>(address: *const c_void, zero: T) -> T {
    // SAFETY: the helper checks the address and fails instead of faulting.
    unsafe { helpers::bpf_probe_read_kernel(address.cast::<T>()) }.unwrap_or(zero)
}

/// Reads a member at an offset of the kernel's BTF for its type, of a structure that the verifier knows (`KNOWN`)
/// by a plain load, a tenth of the cost: a pointer that a program was given, or one loaded so.
#[inline(always)]
pub fn member<T: Copy, const KNOWN: bool>(structure: *const c_void, offset: usize, zero: T) -> T {
    let address = structure.wrapping_byte_add(offset).cast::<T>();
    // SAFETY: as the offset says; the verifier checks the load against BTF, and a fault gives zero. Volatile, so
    // that LLVM neither merges nor widens it.
    if KNOWN { unsafe { address.read_volatile() } } else { read_or_zero(address.cast(), zero) }
}

impl<const KNOWN: bool> Sock<KNOWN> {
    /// A member, at an offset of the kernel's BTF for its type.
    #[inline(always)]
    fn load<T: Copy>(self, offset: usize, zero: T) -> T {
        member::<T, KNOWN>(self.0, offset, zero)
    }

    /// The pointer as a key: unique among the sockets alive.
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

    /// What lies beyond `struct sock`: for plain loads, where it is often read (`OFTEN`), or for probing ones.
    #[inline(always)]
    pub fn tcp<const OFTEN: bool>(self) -> TcpSock<OFTEN> {
        if OFTEN {
            // SAFETY: the helper takes a socket pointer the verifier trusts, which this is.
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

    #[inline(always)]
    pub fn backlog(self) -> u32 {
        // `sk_max_ack_backlog` is a `u32`.
        self.load(offset!(sock_max_ack_backlog), 0u32)
    }

    /// The errno of the newest error in the socket's error queue; 0 when there is none. It is how an
    /// ICMP error reaches a socket that its user holds (`ip_icmp_error`, net/ipv4/ip_sockglue.c).
    #[inline(always)]
    pub fn queued_error(self) -> i32 {
        let newest: u64 = read_or_zero(self.beyond(offset!(sock_error_queue_prev)), 0u64);
        // An empty queue points at itself, inside the socket: what is read there is checked below by
        // the caller only for one errno, and a socket's own bytes do not hold it in that place, so
        // tell the two apart by the address.
        let own = self.address();
        if newest >= own && newest < own + 4096 {
            return 0;
        }
        let errno: u32 = read_or_zero((newest as *const c_void).wrapping_byte_add(offset!(skb_errno)), 0u32);
        errno as i32
    }

    /// Whether the file behind the socket is in non-blocking mode.
    #[inline(always)]
    pub fn is_nonblocking(self) -> bool {
        let file: u64 = read_or_zero(self.socket().wrapping_byte_add(offset!(socket_file)), 0u64);
        let flags: u32 = read_or_zero((file as *const c_void).wrapping_byte_add(offset!(file_flags)), 0u32);
        flags & O_NONBLOCK != 0
    }

    #[inline(always)]
    fn beyond(self, offset: usize) -> *const c_void {
        self.0.wrapping_byte_add(offset)
    }

    /// Reads a member by probing.
    #[inline(always)]
    fn probe<T: Copy>(self, offset: usize, zero: T) -> T {
        read_or_zero(self.beyond(offset), zero)
    }

    /// `sk_socket` as an address for probing reads.
    #[inline(always)]
    fn socket(self) -> *const c_void {
        self.probe(offset!(sock_socket), 0u64) as *const c_void
    }

    /// The sockfs inode number, read as the kernel's `SOCK_INODE` finds it: allocated in one piece with
    /// `struct socket`.
    #[inline(always)]
    fn inode(self) -> u64 {
        let socket = self.socket();
        if socket.is_null() {
            return 0;
        }
        read_or_zero(socket.wrapping_byte_add(offset!(socket_inode)), 0u64)
    }

    /// The cookie. It is given to the socket where it has none yet and the verifier trusts the pointer and lends the
    /// helper: in BTF programs.
    #[inline(always)]
    pub fn cookie(self) -> u64 {
        if !KNOWN {
            self.probe(offset!(sock_cookie), 0u64)
        } else if config::cookie_helper() {
            // SAFETY: the helper takes a socket pointer the verifier trusts, which this is.
            unsafe { helpers::generated::bpf_get_socket_cookie(self.0.cast_mut().cast()) }
        } else {
            0
        }
    }

    /// Fills in what a record says of a socket that connects, without what only a listener is found by: by plain loads
    /// where it is often done, and the verifier trusts the pointer (`OFTEN`).
    ///
    /// # Safety
    /// `out` must be valid for writes.
    #[inline(always)]
    pub unsafe fn describe_connecting<const OFTEN: bool>(self, out: *mut Socket) {
        // SAFETY: the caller's.
        unsafe {
            self.describe::<OFTEN>(NO_KEY, out);
            (&raw mut (*out).local_port).write(self.tcp::<OFTEN>().source_port());
        }
    }

    /// Fills in what a record says of a socket, and gives it a cookie where that is possible.
    ///
    /// By probing reads, for it is seldom done: the verifier takes milliseconds over each pointer that a plain load gives
    /// (`btf_nested_type_is_trusted` searches all of the kernel's types, kernel/bpf/btf.c), which whoever waits for the
    /// trace to begin waits for.
    ///
    /// # Safety
    /// `out` must be valid for writes.
    #[inline(always)]
    pub unsafe fn describe_seldom(self, out: *mut Socket) {
        // SAFETY: the caller's.
        unsafe { self.describe::<false>((self.cookie(), self.inode()), out) }
    }

    /// Piece by piece, so that no large value passes over the programs' 512 bytes of stack. The key is cookie and inode.
    ///
    /// # Safety
    /// `out` must be valid for writes.
    #[inline(always)]
    unsafe fn describe<const TRUSTED: bool>(self, (cookie, inode): (u64, u64), out: *mut Socket) {
        let family: u16 = member::<_, TRUSTED>(self.0, offset!(sock_family), 0);
        let net = member::<_, TRUSTED>(self.0, offset!(sock_net), core::ptr::null::<c_void>());
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
            (&raw mut (*out).device).write(member::<_, TRUSTED>(self.0, offset!(sock_bound_dev_if), 0));
            (&raw mut (*out).local_port).write(member::<_, TRUSTED>(self.0, offset!(sock_num), 0));
            (&raw mut (*out).remote_port).write(u16::from_be(member::<_, TRUSTED>(
                self.0,
                offset!(sock_dport),
                0,
            )));
            (&raw mut (*out).family).write(family);
            (&raw mut (*out).v6only).write(u16::from(v6only & config::v6only_mask() != 0));
            let local = (&raw mut (*out).local).cast::<u64>();
            let remote = (&raw mut (*out).remote).cast::<u64>();
            if family == AF_INET6 && offset!(sock_v6_daddr) != MISSING as usize {
                self.copy_address::<TRUSTED>(offset!(sock_v6_rcv_saddr), local);
                self.copy_address::<TRUSTED>(offset!(sock_v6_daddr), remote);
            } else {
                local.write_unaligned(u64::from(member::<_, TRUSTED>(self.0, offset!(sock_rcv_saddr), 0u32)));
                local.add(1).write_unaligned(0);
                remote.write_unaligned(u64::from(member::<_, TRUSTED>(self.0, offset!(sock_daddr), 0u32)));
                remote.add(1).write_unaligned(0);
            }
        }
    }

    /// # Safety
    /// `offset` must be that of an `in6_addr`, and `out` valid for sixteen bytes.
    #[inline(always)]
    unsafe fn copy_address<const TRUSTED: bool>(self, offset: usize, out: *mut u64) {
        let (first, second) = if TRUSTED {
            (member::<u64, true>(self.0, offset, 0), member::<u64, true>(self.0, offset + 8, 0))
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
