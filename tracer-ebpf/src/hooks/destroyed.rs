//! `tcp_destroy_sock`: a TCP socket is gone. The only sign that one which was bound and never listened is.

use aya_ebpf::{macros::btf_tracepoint, programs::BtfTracePointContext};
use core::ffi::c_void;
use tracer_ebpf::{Destroyed, kind};

use crate::{config::is_watched, emit, sock::Sock};

/// TP_PROTO(struct sock *sk)
///
/// Each connection to a watched port ends here too: only sockets that a `bind()` named are followed.
#[btf_tracepoint(function = "tcp_destroy_sock")]
fn socket_destroyed(ctx: BtfTracePointContext) -> i32 {
    let sock: Sock = Sock(ctx.arg::<*const c_void>(0));
    goes(sock);
    0
}

#[inline(always)]
pub fn goes<const KNOWN: bool>(sock: Sock<KNOWN>) {
    if is_watched(sock.local_port()) {
        record(sock.address(), false);
    }
}

/// Records that a followed socket is a server's no more.
#[inline(always)]
pub fn record(sock: u64, connects: bool) {
    if !emit::unfollow_socket(sock) {
        return;
    }
    let Some((mut entry, _)) = emit::reserve::<Destroyed>(kind::DESTROYED) else {
        return;
    };
    let record = entry.as_mut_ptr();
    // SAFETY: the record is reserved and every member of it is written.
    unsafe {
        (&raw mut (*record).sock).write(sock);
        (&raw mut (*record).connects).write(u64::from(connects));
    }
    emit::submit(entry);
}
