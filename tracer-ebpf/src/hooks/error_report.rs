//! `inet_sk_error_report` (5.14 and later): a socket's user is told of an error.

use aya_ebpf::{macros::btf_tracepoint, programs::BtfTracePointContext};
use core::ffi::c_void;

use crate::{
    config::is_watched,
    emit,
    hooks::refused,
    sock::{ECONNREFUSED, Sock, state},
};

/// TP_PROTO(const struct sock *sk)
///
/// Two uses. An ICMP refusal of a connect whose socket is held by its user leaves `sk_err` at 0: it
/// shows here, while the socket is in SYN_SENT, as an error in its queue (`tcp_v4_err`,
/// net/ipv4/tcp_ipv4.c). And a refusal that the state hook missed shows here with its attempt still
/// under way.
#[btf_tracepoint(function = "inet_sk_error_report")]
fn error_report(ctx: BtfTracePointContext) -> i32 {
    let sock: Sock = Sock(ctx.arg::<*const c_void>(0));
    if !is_watched(sock.remote_port()) || !sock.is_tcp() {
        return 0;
    }
    let Some(attempt) = emit::attempt(sock.address()) else {
        return 0;
    };
    // SAFETY: map values stay valid while a program runs.
    let recorded = unsafe { (*attempt).recorded != 0 };
    if recorded {
        return 0;
    }
    if sock.state() != state::SYN_SENT {
        if sock.error() == ECONNREFUSED {
            refused::record_and_end::<false, _>(sock, attempt);
        }
        return 0;
    }
    let error = sock.queued_error();
    // SAFETY: as above.
    unsafe { (&raw mut (*attempt).icmp).write(error as u32) };
    if error != ECONNREFUSED {
        return 0;
    }
    // A blocking connect goes on and is told at its next SYN, or never; a non-blocking one learns it
    // from its next poll, and this is the last that the kernel says of it.
    if sock.is_nonblocking() {
        refused::record(sock, attempt);
    }
    0
}
