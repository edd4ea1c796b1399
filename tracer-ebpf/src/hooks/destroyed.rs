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
    let sock = Sock(ctx.arg::<*const c_void>(0));
    if !is_watched(sock.local_port()) || !emit::unfollow_socket(sock.address()) {
        return 0;
    }
    let Some(mut entry) = emit::reserve::<Destroyed>(kind::DESTROYED, emit::now()) else {
        return 0;
    };
    // SAFETY: the record is reserved and every member of it is written.
    unsafe { (&raw mut (*entry.as_mut_ptr()).sock).write(sock.address()) };
    entry.submit(0);
    0
}
