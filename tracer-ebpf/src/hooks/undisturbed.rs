//! The same as `state`, `destroyed` and `process` once more by classic tracepoints, for kernels that preempt programs:
//! from 7.0 on tracepoints call BTF programs with preemption on (`__DO_TRACE_CALL`, include/linux/tracepoint.h), and one
//! that is preempted is skipped for everybody else on its CPU (`__bpf_trace_run`, kernel/trace/bpf_trace.c), for as long
//! as its thread waits for its turn. A classic tracepoint runs its programs with preemption off, and skips them while a
//! thread of that CPU waits for its turn within a bpf() call (`trace_call_bpf`, kernel/trace/bpf_trace.c;
//! `bpf_disable_instrumentation`, include/linux/bpf.h). Both at once are rare: whichever program is first does the work.
//! A classic tracepoint costs every state change the writing of a trace record, and gives its programs a bare number for
//! a socket.

use aya_ebpf::{
    macros::{fentry, tracepoint},
    programs::{FEntryContext, TracePointContext},
};
use core::ffi::c_void;

use crate::{
    config::{is_watched, offset},
    hooks::{destroyed, process, state},
    sock::Sock,
};

#[tracepoint(category = "sock", name = "inet_sock_set_state")]
fn sock_state_undisturbed(ctx: TracePointContext) -> i32 {
    // SAFETY: all are inside the record, as its BTF says.
    let (Ok(old), Ok(new), Ok(sock)) = (unsafe {
        (
            ctx.read_at::<i32>(offset!(trace_state_old)),
            ctx.read_at::<i32>(offset!(trace_state_new)),
            ctx.read_at::<u64>(offset!(trace_state_sock)),
        )
    }) else {
        return 0;
    };
    state::state_changes::<false, 2>(&ctx, probed(sock), old, new);
    0
}

#[tracepoint(category = "tcp", name = "tcp_destroy_sock")]
fn socket_destroyed_undisturbed(ctx: TracePointContext) -> i32 {
    // SAFETY: inside the record, as its BTF says.
    if let Ok(sock) = unsafe { ctx.read_at::<u64>(offset!(trace_destroy_sock)) } {
        destroyed::goes(probed(sock));
    }
    0
}

#[tracepoint(category = "sched", name = "sched_process_exit")]
fn process_exit_undisturbed(_: TracePointContext) -> i32 {
    process::exits();
    0
}

#[tracepoint(category = "sched", name = "sched_process_exec")]
fn process_exec_undisturbed(_: TracePointContext) -> i32 {
    process::starts();
    0
}

/// int inet_csk_listen_start(struct sock *sk)
///
/// Gives a listener its cookie, before it is one: a program on a classic tracepoint may not.
#[fentry(function = "inet_csk_listen_start")]
fn listener_cookie(ctx: FEntryContext) -> i32 {
    let sock: Sock = Sock(ctx.arg(0));
    if is_watched(sock.local_port()) {
        sock.cookie();
    }
    0
}

fn probed(sock: u64) -> Sock<false> {
    Sock(sock as *const c_void)
}
