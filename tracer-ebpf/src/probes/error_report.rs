//! `inet_sk_error_report` (5.14 and later): a socket's error is reported to its process.

use aya_ebpf::{macros::btf_tracepoint, programs::BtfTracePointContext};
use core::ffi::c_void;

use crate::{
    maps, refusal,
    sock::{ECONNREFUSED, Sock, state},
};

/// TP_PROTO(const struct sock *sk)
///
/// Two uses. An ICMP refusal of a connect whose socket is held by its user leaves `sk_err` at 0: it
/// shows here, while the socket is in SYN_SENT, as an error in its queue (`tcp_v4_err`,
/// net/ipv4/tcp_ipv4.c). And a refusal that the state probe missed shows here with its attempt still
/// under way.
#[btf_tracepoint(function = "inet_sk_error_report")]
fn error_report(ctx: BtfTracePointContext) -> i32 {
    let sock: Sock = Sock(ctx.arg::<*const c_void>(0));
    if !maps::may_have_attempt(sock.remote_port()) || !sock.is_tcp() {
        return 0;
    }
    let Some(attempt) = maps::attempt(sock.address()) else {
        return 0;
    };
    // SAFETY: map values stay valid while a program runs.
    let recorded = unsafe { (*attempt).recorded != 0 };
    if recorded {
        return 0;
    }
    if sock.state() != state::SYN_SENT {
        if sock.error() == ECONNREFUSED {
            refusal::record_and_end(sock.untrusted(), attempt);
        }
        return 0;
    }
    let error = sock.icmp_error().errno;
    // SAFETY: as above.
    unsafe { (&raw mut (*attempt).icmp).write(error as u32) };
    if error != ECONNREFUSED {
        return 0;
    }
    // A blocking connect goes on, and gets the error at its next SYN, or never. A non-blocking one gets it
    // from its next poll, and no later event of the kernel shows it.
    if sock.is_nonblocking() {
        refusal::record(sock.untrusted(), attempt);
    }
    0
}
