//! `tcp_send_reset` (6.10 and later in this form): the TCP stack answers a segment with a reset.

use aya_ebpf::{macros::btf_tracepoint, programs::BtfTracePointContext};
use core::ffi::c_void;

use crate::{
    config::offset,
    maps::{self, Destination},
    memory::{member, probe_read},
};

/// TP_PROTO(const struct sock *sk, const struct sk_buff *skb, const enum sk_rst_reason reason)
///
/// A segment for which there is no socket has `sk` NULL. A packet filter's `reject with tcp reset`
/// does not come this way (`nf_send_reset`, net/ipv4/netfilter/nf_reject_ipv4.c). What is kept is the sequence number
/// of the SYN, which NAT never changes, and where it was going to, which NAT may have changed.
#[btf_tracepoint(function = "tcp_send_reset")]
fn reset_sent(ctx: BtfTracePointContext) -> i32 {
    let sock = ctx.arg::<*const c_void>(0);
    let skb = ctx.arg::<*const c_void>(1);
    if !sock.is_null() || skb.is_null() || !maps::awaits_reset() {
        return 0;
    }
    let head: u64 = member::<_, true>(skb, offset!(skb_head), 0);
    let transport: u16 = member::<_, true>(skb, offset!(skb_transport_header), 0);
    let network: u16 = member::<_, true>(skb, offset!(skb_network_header), 0);
    let head = head as *const c_void;
    // Each call of the helper costs the refused connect: one reads both headers, where the IP header has its usual length.
    // Behind a short segment the buffer still has `struct skb_shared_info`.
    let ip: [u32; 12] = probe_read(head.wrapping_byte_add(usize::from(network)), [0; 12]);
    let is_ipv6 = ip[0] & 0xf0 == 0x60;
    let (ports, sequence) = match (is_ipv6, transport.wrapping_sub(network)) {
        (false, 20) => (ip[5], ip[6]),
        (true, 40) => (ip[10], ip[11]),
        _ => probe_read(head.wrapping_byte_add(usize::from(transport)), [0; 2]).into(),
    };
    // The destination is the last address of either header.
    let addr = if is_ipv6 {
        [u64::from(ip[6]) | u64::from(ip[7]) << 32, u64::from(ip[8]) | u64::from(ip[9]) << 32]
    } else {
        Destination::mapped(ip[4])
    };
    // The second of the two ports.
    let port = u16::from_be((ports >> 16) as u16);
    let sequence = u32::from_be(sequence);
    maps::remember_reset(sequence, Destination { addr, port }.tag());
    0
}
