//! `sched_process_exit`: a followed process, such as the owner of a listener, has ended.

use aya_ebpf::{
    helpers,
    macros::{btf_tracepoint, tracepoint},
    programs::{BtfTracePointContext, TracePointContext},
};
use core::ffi::c_void;
use tracer_ebpf::{Exited, kind};

use crate::{config::offset, maps, memory::probe_read, records};

/// TP_PROTO(struct task_struct *p), and since 6.16 whether it is the last thread of its process
///
/// Runs in the context of the thread that ends. `do_exit` (kernel/exit.c) has set its exit code by then,
/// and has counted the thread out of `signal->live`.
#[btf_tracepoint(function = "sched_process_exit")]
fn process_exit(_: BtfTracePointContext) -> i32 {
    process_exits();
    0
}

#[tracepoint(category = "sched", name = "sched_process_exit")]
fn process_exit_redundant(_: TracePointContext) -> i32 {
    process_exits();
    0
}

/// Of two redundant programs the one that removes the process from the table records its end.
#[inline(always)]
fn process_exits() {
    let pid = (helpers::bpf_get_current_pid_tgid() >> 32) as u32;
    if !maps::is_followed(pid) {
        return;
    }
    // SAFETY: the helper has no preconditions.
    let task = unsafe { helpers::bpf_get_current_task() } as *const c_void;
    let signal: u64 = probe_read(task.wrapping_byte_add(offset!(task_signal)), 0);
    let live: u32 = probe_read((signal as *const c_void).wrapping_byte_add(offset!(signal_live)), 0);
    if live != 0 || !maps::unfollow_process(pid) {
        return;
    }
    maps::unfollow_upstream(pid);
    let leader: u64 = probe_read(task.wrapping_byte_add(offset!(task_group_leader)), 0);
    let leader = leader as *const c_void;
    let Some((mut entry, _)) = records::reserve::<Exited>(kind::EXITED) else {
        return;
    };
    let record = entry.as_mut_ptr();
    // SAFETY: the record is reserved and every member of it is written.
    unsafe {
        (&raw mut (*record).start_time)
            .write(probe_read(leader.wrapping_byte_add(offset!(task_start_boottime)), 0));
        (&raw mut (*record).pid).write(pid);
        (&raw mut (*record).exit_code).write(probe_read(task.wrapping_byte_add(offset!(task_exit_code)), 0));
    }
    records::submit(entry);
}
