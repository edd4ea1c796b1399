//! `tcp_receive_reset`: a socket receives a reset.

use aya_ebpf::{macros::btf_tracepoint, programs::BtfTracePointContext};
use core::ffi::c_void;

use crate::{
    maps, refusal,
    sock::{Sock, state},
};

/// TP_PROTO(struct sock *sk)
///
/// Comes before the state change that the reset makes, and in SYN_SENT it always makes ECONNREFUSED
/// (`tcp_reset`, net/ipv4/tcp_input.c).
#[btf_tracepoint(function = "tcp_receive_reset")]
fn reset_received(ctx: BtfTracePointContext) -> i32 {
    let sock: Sock = Sock(ctx.arg::<*const c_void>(0));
    if !maps::may_have_attempt(sock.remote_port()) {
        return 0;
    }
    let Some(attempt) = maps::attempt(sock.address()) else {
        return 0;
    };
    // SAFETY: map values stay valid while a program runs.
    let recorded = unsafe {
        (&raw mut (*attempt).reset).write(1);
        (*attempt).recorded != 0
    };
    if !recorded && sock.state() == state::SYN_SENT && sock.is_tcp() {
        refusal::record_and_end(sock, attempt);
    }
    0
}
