//! `tcp_send_reset` (6.10 and later in this form): the TCP stack answers a segment with a reset. And
//! `tcp_receive_reset`: a socket gets one.

use aya_ebpf::{macros::btf_tracepoint, programs::BtfTracePointContext};
use core::ffi::c_void;

use crate::{
    config::{is_watched, offset},
    emit::{self, ResetKey},
    sock::{AF_INET, AF_INET6, Sock, read_or_zero},
};

/// TP_PROTO(const struct sock *sk, const struct sk_buff *skb, const enum sk_rst_reason reason)
///
/// A segment for which there is no socket has `sk` NULL. A packet filter's `reject with tcp reset`
/// does not come this way (`nf_send_reset`, net/ipv4/netfilter/nf_reject_ipv4.c). Whom it answers is
/// all that is kept: the port it came for may be another one than the client's after a translation.
#[btf_tracepoint(function = "tcp_send_reset")]
fn reset_sent(ctx: BtfTracePointContext) -> i32 {
    let sock = ctx.arg::<*const c_void>(0) as u64;
    let skb = ctx.arg::<*const c_void>(1) as u64;
    if sock != 0 || skb == 0 {
        return 0;
    }
    let skb = skb as *const c_void;
    let head: u64 = read_or_zero(skb.wrapping_byte_add(offset!(skb_head)), 0);
    let network: u16 = read_or_zero(skb.wrapping_byte_add(offset!(skb_network_header)), 0);
    let transport: u16 = read_or_zero(skb.wrapping_byte_add(offset!(skb_transport_header)), 0);
    let ip = (head as *const c_void).wrapping_byte_add(usize::from(network));
    let tcp = (head as *const c_void).wrapping_byte_add(usize::from(transport));
    let version = read_or_zero(ip, 0u8) >> 4;
    // Source address: at 12 in an IPv4 header, at 8 in an IPv6 one. Source port: first in TCP's.
    let (addr, family) = match version {
        4 => ([u64::from(read_or_zero(ip.wrapping_byte_add(12), 0u32)), 0], AF_INET),
        6 => (read_or_zero(ip.wrapping_byte_add(8), [0u64; 2]), AF_INET6),
        _ => return 0,
    };
    let port = u16::from_be(read_or_zero(tcp, 0u16));
    emit::remember_reset(&ResetKey { addr, port: u32::from(port), family: u32::from(family) });
    0
}

/// TP_PROTO(struct sock *sk)
///
/// Comes before the state change that the reset makes (`tcp_reset`, net/ipv4/tcp_input.c).
#[btf_tracepoint(function = "tcp_receive_reset")]
fn reset_received(ctx: BtfTracePointContext) -> i32 {
    let sock = Sock(ctx.arg::<*const c_void>(0));
    if !is_watched(sock.remote_port()) {
        return 0;
    }
    if let Some(attempt) = emit::attempt(sock.address()) {
        // SAFETY: map values stay valid while a program runs.
        unsafe { (&raw mut (*attempt).reset).write(1) };
    }
    0
}
