//! Who is running: the identity of the current process.

use aya_ebpf::helpers;
use core::ffi::c_void;
use tracer_ebpf::{Task, closer};

use crate::{config::offset, sock::read_or_zero};

/// Fills in the current thread's process. Only probing reads: `bpf_get_current_task_btf` would allow
/// plain loads, and 5.10 does not have it.
///
/// # Safety
/// `out` must be valid for writes. To be called in the context of the process meant: a system call's,
/// not a softirq's.
#[inline(always)]
pub unsafe fn describe_current(out: *mut Task) {
    let pid_tgid = helpers::bpf_get_current_pid_tgid();
    // SAFETY: the helper has no preconditions.
    let task = unsafe { helpers::bpf_get_current_task() } as *const c_void;
    let leader: u64 = read_or_zero(task.wrapping_byte_add(offset!(task_group_leader)), 0);
    let leader = leader as *const c_void;
    let parent: u64 = read_or_zero(leader.wrapping_byte_add(offset!(task_real_parent)), 0);
    let parent = parent as *const c_void;
    let pid: u64 = read_or_zero(leader.wrapping_byte_add(offset!(task_thread_pid)), 0);
    let pid = pid as *const c_void;
    let level: u32 = read_or_zero(pid.wrapping_byte_add(offset!(pid_level)), 0);
    // `upid.nr` is the structure's first member. A PID namespace nests at most 32 deep
    // (MAX_PID_NS_LEVEL, include/linux/pid_namespace.h).
    let innermost = offset!(pid_numbers) + (level & 63) as usize * offset!(upid_size);
    // SAFETY: `out` is the caller's.
    unsafe {
        (&raw mut (*out).start_time)
            .write(read_or_zero(leader.wrapping_byte_add(offset!(task_start_boottime)), 0));
        (&raw mut (*out).cgroup).write(helpers::bpf_get_current_cgroup_id());
        (&raw mut (*out).pid).write((pid_tgid >> 32) as u32);
        (&raw mut (*out).tid).write(pid_tgid as u32);
        (&raw mut (*out).ns_pid).write(read_or_zero(pid.wrapping_byte_add(innermost), 0));
        (&raw mut (*out).parent).write(read_or_zero(parent.wrapping_byte_add(offset!(task_tgid)), 0));
        (&raw mut (*out).uid).write(helpers::bpf_get_current_uid_gid() as u32);
        (&raw mut (*out).reserved).write(0);
        (&raw mut (*out).comm).write(read_or_zero(leader.wrapping_byte_add(offset!(task_comm)), [0; 16]));
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
