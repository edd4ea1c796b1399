//! Who is running: the identity of the current process.

use aya_ebpf::helpers;
use core::ffi::c_void;
use tracer_ebpf::{Task, closer};

use crate::{
    config::{self, offset},
    sock::{member, read_or_zero},
};

/// Fills in the current thread's process.
///
/// # Safety
/// `out` must be valid for writes. To be called in the context of the process meant: a system call's,
/// not a softirq's.
#[inline(always)]
pub unsafe fn describe_current(out: *mut Task) {
    if config::task_helper() {
        // SAFETY: the helper has no preconditions; `out` is the caller's.
        unsafe { describe::<true>(helpers::generated::bpf_get_current_task_btf() as *const c_void, out) }
    } else {
        // SAFETY: as above.
        unsafe { describe::<false>(helpers::bpf_get_current_task() as *const c_void, out) }
    }
}

/// The same where it is seldom done: [`crate::sock::Sock::describe_seldom`].
///
/// # Safety
/// As of [`describe_current`].
#[inline(always)]
pub unsafe fn describe_current_seldom(out: *mut Task) {
    // SAFETY: the helper has no preconditions; `out` is the caller's.
    unsafe { describe::<false>(helpers::bpf_get_current_task() as *const c_void, out) }
}

/// # Safety
/// `out` must be valid for writes.
#[inline(always)]
unsafe fn describe<const KNOWN: bool>(task: *const c_void, out: *mut Task) {
    let pid_tgid = helpers::bpf_get_current_pid_tgid();
    let null = core::ptr::null::<c_void>();
    let leader = member::<_, KNOWN>(task, offset!(task_group_leader), null);
    let parent = member::<_, KNOWN>(leader, offset!(task_real_parent), null);
    let pid = member::<_, KNOWN>(leader, offset!(task_thread_pid), null);
    let level: u32 = member::<_, KNOWN>(pid, offset!(pid_level), 0);
    // `upid.nr` is the structure's first member. A PID namespace nests at most 32 deep
    // (MAX_PID_NS_LEVEL, include/linux/pid_namespace.h).
    let innermost = offset!(pid_numbers) + (level & 63) as usize * offset!(upid_size);
    let comm = (
        member::<u64, KNOWN>(leader, offset!(task_comm), 0),
        member::<u64, KNOWN>(leader, offset!(task_comm) + 8, 0),
    );
    // SAFETY: `out` is the caller's.
    unsafe {
        (&raw mut (*out).start_time).write(member::<_, KNOWN>(leader, offset!(task_start_boottime), 0));
        (&raw mut (*out).cgroup).write(helpers::bpf_get_current_cgroup_id());
        (&raw mut (*out).pid).write((pid_tgid >> 32) as u32);
        (&raw mut (*out).tid).write(pid_tgid as u32);
        // In the first namespace the host counts. Else its place varies, which may be added to no pointer that the verifier
        // knows: "math between ptr_ pointer and register with unbounded min value is not allowed" (6.1).
        let ns_pid = if level == 0 && !pid.is_null() {
            (pid_tgid >> 32) as u32
        } else {
            let pid: u64 = read_or_zero(leader.wrapping_byte_add(offset!(task_thread_pid)), 0);
            read_or_zero((pid as *const c_void).wrapping_byte_add(innermost), 0)
        };
        (&raw mut (*out).ns_pid).write(ns_pid);
        (&raw mut (*out).parent).write(member::<_, KNOWN>(parent, offset!(task_tgid), 0));
        (&raw mut (*out).uid).write(helpers::bpf_get_current_uid_gid() as u32);
        (&raw mut (*out).reserved).write(0);
        (&raw mut (*out).comm).cast::<(u64, u64)>().write_unaligned(comm);
    }
}

/// `PF_EXITING` (include/linux/sched.h): the thread is on its way out of `do_exit`.
const PF_EXITING: u32 = 0x4;

/// `PF_KTHREAD`: a thread of the kernel's own.
const PF_KTHREAD: u32 = 0x0020_0000;

/// What the current thread is to a socket that it closes, one of [`closer`], and its wait status when it is
/// exiting. `do_exit` (kernel/exit.c) sets that before it closes the thread's files.
#[inline(always)]
pub fn closer() -> (u32, u32) {
    // SAFETY: the helper has no preconditions.
    let task = unsafe { helpers::bpf_get_current_task() } as *const c_void;
    let flags: u32 = read_or_zero(task.wrapping_byte_add(offset!(task_flags)), 0);
    if flags & PF_KTHREAD != 0 {
        (closer::KERNEL, 0)
    } else if flags & PF_EXITING != 0 {
        (closer::EXITING, read_or_zero(task.wrapping_byte_add(offset!(task_exit_code)), 0))
    } else {
        (closer::PROCESS, 0)
    }
}
