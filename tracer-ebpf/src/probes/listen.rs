//! `inet_csk_listen_start`: a socket is about to listen, and has begun to or failed.

use aya_ebpf::{
    macros::{fentry, fexit},
    programs::{FEntryContext, FExitContext},
};
use tracer_ebpf::{Listened, kind};

use crate::{
    config::is_watched,
    dedup::{self, Event, Probe},
    records,
    sock::{Sock, state},
};

/// int inet_csk_listen_start(struct sock *sk)
///
/// Gives a listener its cookie before its state changes: the redundant program on a classic tracepoint may not call the
/// helper.
#[fentry(function = "inet_csk_listen_start")]
fn listener_cookie(ctx: FEntryContext) -> i32 {
    let sock: Sock = Sock(ctx.arg(0));
    if is_watched(sock.local_port()) {
        sock.cookie();
    }
    0
}

#[fexit(function = "inet_csk_listen_start")]
fn listen_returned(ctx: FExitContext) -> i32 {
    listen_returns(Sock(ctx.arg(0)), Probe::Primary)
}

#[fexit(function = "inet_csk_listen_start")]
fn listen_returned_redundant(ctx: FExitContext) -> i32 {
    listen_returns(Sock(ctx.arg(0)), Probe::Redundant)
}

/// The result is the socket's state, which no other thread changes while this one has the socket locked. The function's
/// value is not at a fixed place: before 5.17 there is a second argument (net/ipv4/inet_connection_sock.c).
#[inline(always)]
fn listen_returns(sock: Sock, probe: Probe) -> i32 {
    if !is_watched(sock.local_port())
        || !sock.is_tcp()
        || !dedup::is_first(sock.address(), Event::Listened, probe)
    {
        return 0;
    }
    let Some((mut entry, _)) = records::reserve::<Listened>(kind::LISTENED) else {
        return 0;
    };
    let record = entry.as_mut_ptr();
    // SAFETY: the record is reserved and every member of it is written.
    unsafe {
        sock.describe_keyed(&raw mut (*record).socket);
        (&raw mut (*record).succeeded).write(u64::from(sock.state() == state::LISTEN));
    }
    records::submit(entry);
    0
}
