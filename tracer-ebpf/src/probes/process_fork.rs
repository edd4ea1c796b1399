//! `sched_process_fork`: a followed process has a new child.

use aya_ebpf::{
    helpers,
    macros::{btf_tracepoint, tracepoint},
    programs::{BtfTracePointContext, TracePointContext},
};
use core::ffi::c_void;
use tracer_ebpf::{Forked, kind};

use crate::{config::offset, maps, memory::probe_read, records, task};

/// The first process: what it starts is not part of it.
const INIT: u32 = 1;

/// TP_PROTO(struct task_struct *parent, struct task_struct *child)
///
/// Runs in the context of the parent, before the child runs (`kernel_clone`, kernel/fork.c).
#[btf_tracepoint(function = "sched_process_fork")]
fn process_fork(ctx: BtfTracePointContext) -> i32 {
    if followed_parent() {
        process_forks(ctx.arg::<*const c_void>(1));
    }
    0
}

/// The record of a classic tracepoint has numbers only. The newest child of the thread that forks is last in its list
/// (`copy_process`), unless the new task is a thread, or was given to the thread's own parent.
#[tracepoint(category = "sched", name = "sched_process_fork")]
fn process_fork_redundant(ctx: TracePointContext) -> i32 {
    if !followed_parent() {
        return 0;
    }
    // SAFETY: inside the record, by its BTF.
    let Ok(number) = (unsafe { ctx.read_at::<u32>(offset!(trace_fork_child)) }) else {
        return 0;
    };
    // SAFETY: the helper has no preconditions.
    let parent = unsafe { helpers::bpf_get_current_task() } as *const c_void;
    let last: u64 = probe_read(parent.wrapping_byte_add(offset!(task_last_child)), 0);
    let child = (last as *const c_void).wrapping_byte_sub(offset!(task_sibling));
    if probe_read(child.wrapping_byte_add(offset!(task_pid)), 0_u32) == number {
        process_forks(child);
    }
    0
}

#[inline(always)]
fn followed_parent() -> bool {
    let pid = (helpers::bpf_get_current_pid_tgid() >> 32) as u32;
    pid != INIT && maps::is_followed(pid)
}

/// Of two redundant programs the one that adds the child to the table records it.
#[inline(always)]
fn process_forks(child: *const c_void) {
    let parent = (helpers::bpf_get_current_pid_tgid() >> 32) as u32;
    let pid: u32 = probe_read(child.wrapping_byte_add(offset!(task_tgid)), 0);
    // A thread is not a child.
    if pid == 0 || pid == parent || !maps::follow_child(pid) {
        return;
    }
    let Some((mut entry, _)) = records::reserve::<Forked>(kind::FORKED) else {
        return;
    };
    let record = entry.as_mut_ptr();
    // SAFETY: the record is reserved and every member of it is written.
    unsafe { task::describe_child(child, &raw mut (*record).task) };
    records::submit(entry);
}
