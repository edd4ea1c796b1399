//! `sched_process_exit` and `sched_process_exec`: how the owner of a listener ended, and that a server started.

use aya_ebpf::{helpers, macros::btf_tracepoint, programs::BtfTracePointContext};
use core::ffi::c_void;
use tracer_ebpf::{Executed, Exited, kind};

use crate::{
    config::{is_server, offset},
    emit,
    sock::read_or_zero,
    task,
};

/// TP_PROTO(struct task_struct *p), and since 6.16 whether it is the last thread of its process
///
/// Runs in the context of the thread that ends. `do_exit` (kernel/exit.c) has set its exit code by then,
/// and has counted the thread out of `signal->live`.
#[btf_tracepoint(function = "sched_process_exit")]
fn process_exit(_: BtfTracePointContext) -> i32 {
    exits();
    0
}

#[inline(always)]
pub fn exits() {
    let pid = (helpers::bpf_get_current_pid_tgid() >> 32) as u32;
    if !emit::is_followed(pid) {
        return;
    }
    // SAFETY: the helper has no preconditions.
    let task = unsafe { helpers::bpf_get_current_task() } as *const c_void;
    let signal: u64 = read_or_zero(task.wrapping_byte_add(offset!(task_signal)), 0);
    let live: u32 = read_or_zero((signal as *const c_void).wrapping_byte_add(offset!(signal_live)), 0);
    if live != 0 || !emit::unfollow_process(pid) {
        return;
    }
    let leader: u64 = read_or_zero(task.wrapping_byte_add(offset!(task_group_leader)), 0);
    let leader = leader as *const c_void;
    let Some((mut entry, _)) = emit::reserve::<Exited>(kind::EXITED) else {
        return;
    };
    let record = entry.as_mut_ptr();
    // SAFETY: the record is reserved and every member of it is written.
    unsafe {
        (&raw mut (*record).start_time)
            .write(read_or_zero(leader.wrapping_byte_add(offset!(task_start_boottime)), 0));
        (&raw mut (*record).pid).write(pid);
        (&raw mut (*record).exit_code)
            .write(read_or_zero(task.wrapping_byte_add(offset!(task_exit_code)), 0));
    }
    emit::submit(entry);
}

/// TP_PROTO(struct task_struct *p, pid_t old_pid, struct linux_binprm *bprm)
///
/// Runs in the context of the process, which has its new name by then (`begin_new_exec`, fs/exec.c).
#[btf_tracepoint(function = "sched_process_exec")]
fn process_exec(_: BtfTracePointContext) -> i32 {
    starts();
    0
}

#[inline(always)]
pub fn starts() {
    let Ok(name) = helpers::bpf_get_current_comm() else {
        return;
    };
    if !is_server(name) {
        return;
    }
    let Some((mut entry, _)) = emit::reserve::<Executed>(kind::EXECUTED) else {
        return;
    };
    let record = entry.as_mut_ptr();
    // SAFETY: the record is reserved and every member of it is written.
    unsafe { task::describe_current(&raw mut (*record).task) };
    emit::submit(entry);
}
