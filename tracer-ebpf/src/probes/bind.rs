//! `inet_bind_sk`, `inet6_bind_sk` and, on kernels without those, `inet_bind`, `inet6_bind`: a `bind()` has
//! returned, called by a system call, io_uring, or MPTCP for its subflow.

use aya_ebpf::{macros::fexit, programs::FExitContext};
use core::ffi::c_void;
use tracer_ebpf::{Bound, kind};

use crate::{
    config::{is_watched, offset},
    dedup::{self, Event, Probe},
    maps::{self, Request},
    memory::{member, probe_read},
    records,
    sock::{AF_INET, AF_INET6, AF_UNSPEC, Sock},
    task,
};

/// int inet_bind_sk(struct sock *sk, struct sockaddr *uaddr, int addr_len)
#[fexit(function = "inet_bind_sk")]
fn bind_v4_sock(ctx: FExitContext) -> i32 {
    bind_returns(&ctx, trusted(&ctx), Probe::Primary)
}

/// int inet6_bind_sk(struct sock *sk, struct sockaddr *uaddr, int addr_len)
#[fexit(function = "inet6_bind_sk")]
fn bind_v6_sock(ctx: FExitContext) -> i32 {
    bind_returns(&ctx, trusted(&ctx), Probe::Primary)
}

#[fexit(function = "inet_bind_sk")]
fn bind_v4_sock_redundant(ctx: FExitContext) -> i32 {
    bind_returns(&ctx, trusted(&ctx), Probe::Redundant)
}

#[fexit(function = "inet6_bind_sk")]
fn bind_v6_sock_redundant(ctx: FExitContext) -> i32 {
    bind_returns(&ctx, trusted(&ctx), Probe::Redundant)
}

/// int inet_bind(struct socket *sock, struct sockaddr *uaddr, int addr_len)
#[fexit(function = "inet_bind")]
fn bind_v4_socket(ctx: FExitContext) -> i32 {
    bind_returns(&ctx, of_socket(&ctx), Probe::Primary)
}

/// int inet6_bind(struct socket *sock, struct sockaddr *uaddr, int addr_len)
#[fexit(function = "inet6_bind")]
fn bind_v6_socket(ctx: FExitContext) -> i32 {
    bind_returns(&ctx, of_socket(&ctx), Probe::Primary)
}

/// The first argument, a `struct sock *`.
#[inline(always)]
fn trusted(ctx: &FExitContext) -> Sock {
    Sock(ctx.arg(0))
}

/// The `struct sock` of the first argument, a `struct socket *`.
#[inline(always)]
fn of_socket(ctx: &FExitContext) -> Sock<false> {
    Sock(member::<_, true>(ctx.arg(0), offset!(socket_sk), core::ptr::null()))
}

#[inline(always)]
fn bind_returns<const TRUSTED: bool>(ctx: &FExitContext, sock: Sock<TRUSTED>, probe: Probe) -> i32 {
    let request = read_request(
        ctx.arg(1),
        |address, zero| probe_read(address, zero),
        |address, zero| probe_read(address, zero),
    );
    if is_watched(request.port)
        && sock.untrusted().is_tcp()
        && dedup::is_first(sock.address(), Event::Bind, probe)
    {
        if TRUSTED {
            // For a listener whose state change is seen by a program that may not give it one.
            sock.cookie();
        }
        record(sock.untrusted(), &request, ctx.arg(3));
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
    let port = u16::from_be((head >> 16) as u16);
    // Without a family the kernel takes an address for one of IPv4 (`__inet_bind()`, net/ipv4/af_inet.c).
    let family = if head as u16 == AF_UNSPEC { AF_INET } else { head as u16 };
    let addr = match family {
        AF_INET => [u64::from(words(address.wrapping_byte_add(4), 0)), 0],
        AF_INET6 => addresses(address.wrapping_byte_add(8), [0; 2]),
        // The call fails, and has asked for no port of TCP.
        _ => return Request { addr: [0; 2], family, port: 0, reserved: 0 },
    };
    Request { addr, family, port, reserved: 0 }
}

/// Records a `bind()` to a watched port with its result, which is 0 or a negative error.
#[inline(always)]
pub fn record(sock: Sock<false>, request: &Request, result: i32) {
    let followed = result == 0 && maps::follow_socket(sock.address());
    let Some((mut entry, _)) = records::reserve::<Bound>(kind::BOUND) else {
        return;
    };
    let record = entry.as_mut_ptr();
    // SAFETY: the record is reserved and every member of it is written.
    unsafe {
        sock.describe_keyed(&raw mut (*record).socket);
        task::describe_current(&raw mut (*record).task);
        // A server that ends, or forks, before it listens.
        maps::follow_process((*record).task.pid);
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
    records::submit(entry);
}
