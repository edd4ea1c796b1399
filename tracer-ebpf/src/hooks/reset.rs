//! `tcp_send_reset` (6.10 and later in this form): the TCP stack answers a segment with a reset. And
//! `tcp_receive_reset`: a socket gets one.

use aya_ebpf::{macros::btf_tracepoint, programs::BtfTracePointContext};
use core::ffi::c_void;

use crate::{
    config::{is_watched, offset},
    emit,
    hooks::refused,
    sock::{Sock, member, read_or_zero, state},
};

/// TP_PROTO(const struct sock *sk, const struct sk_buff *skb, const enum sk_rst_reason reason)
///
/// A segment for which there is no socket has `sk` NULL. A packet filter's `reject with tcp reset`
/// does not come this way (`nf_send_reset`, net/ipv4/netfilter/nf_reject_ipv4.c). What is kept is the sequence number
/// of the SYN: on its way through NAT it may have got other addresses and ports, and never another of these.
#[btf_tracepoint(function = "tcp_send_reset")]
fn reset_sent(ctx: BtfTracePointContext) -> i32 {
    let sock = ctx.arg::<*const c_void>(0);
    let skb = ctx.arg::<*const c_void>(1);
    if !sock.is_null() || skb.is_null() || !emit::awaits_reset() {
        return 0;
    }
    let head: u64 = member::<_, true>(skb, offset!(skb_head), 0);
    let transport: u16 = member::<_, true>(skb, offset!(skb_transport_header), 0);
    let tcp = (head as *const c_void).wrapping_byte_add(usize::from(transport));
    // Behind the two ports.
    emit::remember_reset(u32::from_be(read_or_zero(tcp.wrapping_byte_add(4), 0u32)));
    0
}

/// TP_PROTO(struct sock *sk)
///
/// Comes before the state change that the reset makes, and in SYN_SENT it always makes ECONNREFUSED
/// (`tcp_reset`, net/ipv4/tcp_input.c).
#[btf_tracepoint(function = "tcp_receive_reset")]
fn reset_received(ctx: BtfTracePointContext) -> i32 {
    let sock: Sock = Sock(ctx.arg::<*const c_void>(0));
    if !is_watched(sock.remote_port()) {
        return 0;
    }
    let Some(attempt) = emit::attempt(sock.address()) else {
        return 0;
    };
    // SAFETY: map values stay valid while a program runs.
    let recorded = unsafe {
        (&raw mut (*attempt).reset).write(1);
        (*attempt).recorded != 0
    };
    if !recorded && sock.state() == state::SYN_SENT && sock.is_tcp() {
        refused::record_and_end::<true, _>(sock, attempt);
    }
    0
}
