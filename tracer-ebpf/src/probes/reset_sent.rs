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
    let tcp = (head as *const c_void).wrapping_byte_add(usize::from(transport));
    let network: u16 = member::<_, true>(skb, offset!(skb_network_header), 0);
    let ip = (head as *const c_void).wrapping_byte_add(usize::from(network));
    // The destination is the last address of either header.
    let addr = if probe_read(ip, 0u8) >> 4 == 6 {
        probe_read(ip.wrapping_byte_add(24), [0; 2])
    } else {
        Destination::mapped(probe_read(ip.wrapping_byte_add(16), 0u32))
    };
    let port = u16::from_be(probe_read(tcp.wrapping_byte_add(2), 0u16));
    // Behind the two ports.
    let sequence = u32::from_be(probe_read(tcp.wrapping_byte_add(4), 0u32));
    maps::remember_reset(sequence, Destination { addr, port }.tag());
    0
}
