//! Deduplication of redundant probes: where two programs see one event, the first one that runs records it.
//!
//! Redundant probes are for kernels that preempt programs. From 7.0 on tracepoints call BTF programs with preemption on
//! (`__DO_TRACE_CALL`, include/linux/tracepoint.h), and while a thread is preempted inside of a program the kernel skips
//! that program for all other threads of the CPU (`__bpf_trace_run`, kernel/trace/bpf_trace.c). A classic tracepoint runs
//! its programs with preemption off, and skips them while a thread of that CPU is preempted within a bpf() call
//! (`trace_call_bpf`, kernel/trace/bpf_trace.c; `bpf_disable_instrumentation`, include/linux/bpf.h). Both together are rare.
//! A classic tracepoint costs every state change the writing of a trace record, and its programs get the socket as a number,
//! not as a trusted pointer. A function has no classic tracepoint: there the redundant probe is a second fexit program.

use aya_ebpf::helpers;

use crate::{
    config,
    maps::{self, Seen},
};

/// Which one of two redundant programs runs.
#[derive(Clone, Copy)]
pub enum Probe {
    Primary = 1,
    Redundant = 2,
}

/// What a thread does that two programs see.
#[derive(Clone, Copy)]
pub enum Event {
    Bind = 1,
    Listen = 2,
    Close = 3,
    /// A connect for which the table has no room. For the others [`connect_has_begun`] decides.
    ConnectWithoutRoom = 4,
    /// The return of a `listen()`.
    Listened = 5,
}

/// Both programs have seen a connect begin.
const BOTH: u32 = u32::MAX;

/// Whether this program is the first one to see what the current thread does to a socket; true where the probe is the only
/// one. It leaves a mark, which the other program removes. Where the other one was skipped the mark stays, and does not match
/// what the thread does next.
#[inline(always)]
pub fn is_first(sock: u64, event: Event, probe: Probe) -> bool {
    if !config::redundant_probes() {
        return true;
    }
    let (event, probe) = (event as u32, probe as u32);
    let thread = helpers::bpf_get_current_pid_tgid();
    if let Some(seen) = maps::seen(thread)
        && seen.probe != probe
        && seen.sock == sock
        && seen.event == event
    {
        maps::forget_seen(thread);
        return false;
    }
    maps::remember_seen(thread, &Seen { sock, event, probe });
    true
}

/// Whether the other program has seen this connect begin: its attempt is the mark, and is removed when the connect ends.
#[inline(always)]
pub fn connect_has_begun(sock: u64, probe: Probe) -> bool {
    if !config::redundant_probes() {
        return false;
    }
    let Some(attempt) = maps::attempt(sock) else { return false };
    let thread = helpers::bpf_get_current_pid_tgid() as u32;
    // SAFETY: map values stay valid while a program runs.
    unsafe {
        let seen = (*attempt).probe;
        let is_same = (*attempt).task.tid == thread && seen != probe as u32 && seen != BOTH;
        if is_same {
            (&raw mut (*attempt).probe).write(BOTH);
        }
        is_same
    }
}
