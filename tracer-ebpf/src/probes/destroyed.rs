//! `tcp_destroy_sock`: a TCP socket is destroyed. The only sign that one which was bound and never listened was.

use aya_ebpf::{
    macros::{btf_tracepoint, tracepoint},
    programs::{BtfTracePointContext, TracePointContext},
};
use core::ffi::c_void;
use tracer_ebpf::{Destroyed, kind};

use crate::{
    config::{is_watched, offset},
    maps, records,
    sock::Sock,
};

/// TP_PROTO(struct sock *sk)
///
/// Each connection to a watched port ends here too: only sockets that a `bind()` named are followed.
#[btf_tracepoint(function = "tcp_destroy_sock")]
fn socket_destroyed(ctx: BtfTracePointContext) -> i32 {
    let sock: Sock = Sock(ctx.arg::<*const c_void>(0));
    destroyed(sock);
    0
}

#[tracepoint(category = "tcp", name = "tcp_destroy_sock")]
fn socket_destroyed_redundant(ctx: TracePointContext) -> i32 {
    // SAFETY: inside the record, by its BTF.
    if let Ok(sock) = unsafe { ctx.read_at::<u64>(offset!(trace_destroy_sock)) } {
        destroyed(Sock::<false>(sock as *const c_void));
    }
    0
}

#[inline(always)]
fn destroyed<const TRUSTED: bool>(sock: Sock<TRUSTED>) {
    if is_watched(sock.local_port()) {
        record(sock.address(), false);
    }
}

/// Records that a followed socket does not belong to a server any more. Of two redundant programs the one that removes the
/// socket from the table does.
#[inline(always)]
pub fn record(sock: u64, connects: bool) {
    if !maps::unfollow_socket(sock) {
        return;
    }
    let Some((mut entry, _)) = records::reserve::<Destroyed>(kind::DESTROYED) else {
        return;
    };
    let record = entry.as_mut_ptr();
    // SAFETY: the record is reserved and every member of it is written.
    unsafe {
        (&raw mut (*record).sock).write(sock);
        (&raw mut (*record).connects).write(u64::from(connects));
    }
    records::submit(entry);
}
