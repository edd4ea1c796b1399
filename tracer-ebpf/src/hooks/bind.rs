//! `inet_bind_sk`, `inet6_bind_sk` and, on kernels without those, `inet_bind`, `inet6_bind`: a `bind()` has
//! returned. Whoever called it: a system call, io_uring, or MPTCP for its subflow.

use aya_ebpf::{macros::fexit, programs::FExitContext};
use core::ffi::c_void;
use tracer_ebpf::{Bound, kind};

use crate::{
    config::{self, is_watched, offset},
    emit::{self, Request},
    sock::{AF_INET, AF_INET6, Sock, read_or_zero},
    task,
};

/// int inet_bind_sk(struct sock *sk, struct sockaddr *uaddr, int addr_len)
#[fexit(function = "inet_bind_sk")]
fn bind_v4_sock(ctx: FExitContext) -> i32 {
    bind_returns::<true, 1>(Sock(ctx.arg(0)), ctx.arg(1), ctx.arg(3))
}

/// int inet6_bind_sk(struct sock *sk, struct sockaddr *uaddr, int addr_len)
#[fexit(function = "inet6_bind_sk")]
fn bind_v6_sock(ctx: FExitContext) -> i32 {
    bind_returns::<true, 1>(Sock(ctx.arg(0)), ctx.arg(1), ctx.arg(3))
}

/// A second `bind_v4_sock`, for kernels that preempt programs: `undisturbed` says why.
#[fexit(function = "inet_bind_sk")]
fn bind_v4_sock_again(ctx: FExitContext) -> i32 {
    bind_returns::<true, 2>(Sock(ctx.arg(0)), ctx.arg(1), ctx.arg(3))
}

/// Likewise.
#[fexit(function = "inet6_bind_sk")]
fn bind_v6_sock_again(ctx: FExitContext) -> i32 {
    bind_returns::<true, 2>(Sock(ctx.arg(0)), ctx.arg(1), ctx.arg(3))
}

/// int inet_bind(struct socket *sock, struct sockaddr *uaddr, int addr_len)
#[fexit(function = "inet_bind")]
fn bind_v4_socket(ctx: FExitContext) -> i32 {
    bind_returns::<false, 1>(sock_of(ctx.arg(0)), ctx.arg(1), ctx.arg(3))
}

/// int inet6_bind(struct socket *sock, struct sockaddr *uaddr, int addr_len)
#[fexit(function = "inet6_bind")]
fn bind_v6_socket(ctx: FExitContext) -> i32 {
    bind_returns::<false, 1>(sock_of(ctx.arg(0)), ctx.arg(1), ctx.arg(3))
}

/// The `struct sock` of a `struct socket`.
#[inline(always)]
fn sock_of(socket: *const c_void) -> Sock<false> {
    // SAFETY: `sk` is a pointer, at the offset that the kernel's BTF gives; the verifier checks the load.
    Sock(unsafe { socket.byte_add(offset!(socket_sk)).cast::<*const c_void>().read_volatile() })
}

#[inline(always)]
fn bind_returns<const KNOWN: bool, const COPY: u32>(
    sock: Sock<KNOWN>,
    address: *const c_void,
    result: i32,
) -> i32 {
    let probed: Sock<false> = Sock(sock.0);
    let request = read_request(
        address,
        |address, zero| read_or_zero(address, zero),
        |address, zero| read_or_zero(address, zero),
    );
    if is_watched(request.port) && probed.is_tcp() {
        if config::is_twice() && !emit::is_first(sock.address(), emit::sight::BIND, COPY) {
            return 0;
        }
        if KNOWN {
            // For a listener whose program on the state change may not give it one.
            sock.cookie();
        }
        record(probed, &request, result);
    }
    0
}

/// Reads a `struct sockaddr_in` or `sockaddr_in6`, in the kernel's memory or the caller's.
#[inline(always)]
pub fn read_request(
    address: *const c_void,
    words: impl Fn(*const c_void, u32) -> u32,
    addresses: impl Fn(*const c_void, [u64; 2]) -> [u64; 2],
) -> Request {
    // Family and port stand together, then the address: at 4 of IPv4, at 8 of IPv6.
    let head = words(address, 0);
    let family = head as u16;
    let port = u16::from_be((head >> 16) as u16);
    let addr = match family {
        AF_INET => [u64::from(words(address.wrapping_byte_add(4), 0)), 0],
        AF_INET6 => addresses(address.wrapping_byte_add(8), [0; 2]),
        _ => [0; 2],
    };
    Request { addr, family, port, reserved: 0 }
}

/// Records a `bind()` to a watched port with its result, which is 0 or a negative error.
#[inline(always)]
pub fn record(sock: Sock<false>, request: &Request, result: i32) {
    let followed = result == 0 && emit::follow_socket(sock.address());
    let Some((mut entry, _)) = emit::reserve::<Bound>(kind::BOUND) else {
        return;
    };
    let record = entry.as_mut_ptr();
    // SAFETY: the record is reserved and every member of it is written.
    unsafe {
        sock.describe_seldom(&raw mut (*record).socket);
        task::describe_current(&raw mut (*record).task);
        let requested = (&raw mut (*record).requested).cast::<u64>();
        requested.write_unaligned(request.addr[0]);
        requested.add(1).write_unaligned(request.addr[1]);
        (&raw mut (*record).requested_family).write(request.family);
        (&raw mut (*record).requested_port).write(request.port);
        (&raw mut (*record).errno).write(result.unsigned_abs());
        (&raw mut (*record).followed).write(u32::from(followed));
        (&raw mut (*record).reserved).write(0);
        (&raw mut (*record).sock).write(sock.address());
    }
    emit::submit(entry);
}
