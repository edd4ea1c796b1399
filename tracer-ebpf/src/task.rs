//! The identity of the current process.

use aya_ebpf::helpers;
use core::ffi::c_void;
use tracer_ebpf::{MISSING, Task, closer};

use crate::{
    config::{self, offset},
    maps,
    memory::{member, probe_read},
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
        unsafe {
            describe::<true>(helpers::generated::bpf_get_current_task_btf() as *const c_void, ids(), out)
        }
    } else {
        // SAFETY: as above.
        unsafe { describe::<false>(helpers::bpf_get_current_task() as *const c_void, ids(), out) }
    }
}

/// The same where it is rarely done: by `bpf_probe_read_kernel`, for the reason in [`crate::sock::Sock::describe_keyed`].
///
/// # Safety
/// As of [`describe_current`].
#[inline(always)]
pub unsafe fn describe_current_by_probe_read(out: *mut Task) {
    // SAFETY: the helper has no preconditions; `out` is the caller's.
    unsafe { describe::<false>(helpers::bpf_get_current_task() as *const c_void, ids(), out) }
}

/// Fills in a child that the current thread is making, which has its user and its cgroup.
///
/// # Safety
/// `out` must be valid for writes.
#[inline(always)]
pub unsafe fn describe_child(child: *const c_void, out: *mut Task) {
    let ids = (
        probe_read(child.wrapping_byte_add(offset!(task_tgid)), 0),
        probe_read(child.wrapping_byte_add(offset!(task_pid)), 0),
    );
    // SAFETY: `out` is the caller's.
    unsafe { describe::<false>(child, ids, out) }
}

/// The current network namespace of a task: its inode number, and its cookie or 0.
#[inline(always)]
pub fn network_namespace(task: *const c_void) -> (u32, u64) {
    let proxy: u64 = probe_read(task.wrapping_byte_add(offset!(task_nsproxy)), 0);
    let net: u64 = probe_read((proxy as *const c_void).wrapping_byte_add(offset!(nsproxy_net)), 0);
    let net = net as *const c_void;
    let has_cookie = offset!(net_cookie) != MISSING as usize;
    let cookie = if has_cookie { probe_read(net.wrapping_byte_add(offset!(net_cookie)), 0) } else { 0 };
    (probe_read(net.wrapping_byte_add(offset!(net_inum)), 0), cookie)
}

/// The current thread's process and its own number.
#[inline(always)]
fn ids() -> (u32, u32) {
    let pid_tgid = helpers::bpf_get_current_pid_tgid();
    ((pid_tgid >> 32) as u32, pid_tgid as u32)
}

/// Describes a task by its process and its own number, and by the current thread's user and cgroup.
///
/// # Safety
/// `out` must be valid for writes.
#[inline(always)]
unsafe fn describe<const TRUSTED: bool>(task: *const c_void, (process, thread): (u32, u32), out: *mut Task) {
    let null = core::ptr::null::<c_void>();
    let leader = member::<_, TRUSTED>(task, offset!(task_group_leader), null);
    let parent = member::<_, TRUSTED>(leader, offset!(task_real_parent), null);
    let pid = member::<_, TRUSTED>(leader, offset!(task_thread_pid), null);
    let level: u32 = member::<_, TRUSTED>(pid, offset!(pid_level), 0);
    // `upid.nr` is the structure's first member. A PID namespace nests at most 32 deep
    // (MAX_PID_NS_LEVEL, include/linux/pid_namespace.h).
    let innermost = offset!(pid_numbers) + (level & 63) as usize * offset!(upid_size);
    let comm = (
        member::<u64, TRUSTED>(leader, offset!(task_comm), 0),
        member::<u64, TRUSTED>(leader, offset!(task_comm) + 8, 0),
    );
    // SAFETY: `out` is the caller's.
    unsafe {
        (&raw mut (*out).start_time).write(member::<_, TRUSTED>(leader, offset!(task_start_boottime), 0));
        (&raw mut (*out).cgroup).write(helpers::bpf_get_current_cgroup_id());
        (&raw mut (*out).pid).write(process);
        (&raw mut (*out).tid).write(thread);
        // In the first namespace it is the host's number. In others its offset varies, and a varying offset may not be added
        // to a trusted pointer: "math between ptr_ pointer and register with unbounded min value is not allowed" (6.1).
        let ns_pid = if level == 0 && !pid.is_null() {
            process
        } else {
            let pid: u64 = probe_read(leader.wrapping_byte_add(offset!(task_thread_pid)), 0);
            probe_read((pid as *const c_void).wrapping_byte_add(innermost), 0)
        };
        (&raw mut (*out).ns_pid).write(ns_pid);
        (&raw mut (*out).parent).write(member::<_, TRUSTED>(parent, offset!(task_tgid), 0));
        (&raw mut (*out).uid).write(helpers::bpf_get_current_uid_gid() as u32);
        (&raw mut (*out).reserved).write(0);
        (&raw mut (*out).comm).cast::<(u64, u64)>().write_unaligned(comm);
    }
}

/// `PF_EXITING` (include/linux/sched.h): the thread is inside of `do_exit`.
const PF_EXITING: u32 = 0x4;

/// `PF_KTHREAD`: a thread of the kernel's own.
const PF_KTHREAD: u32 = 0x0020_0000;

/// How the current thread comes to close a socket, one of [`closer`], and its wait status when it is exiting: `do_exit`
/// (kernel/exit.c) sets that before it closes the thread's files.
#[inline(always)]
pub fn closer() -> (u32, u32) {
    // SAFETY: the helper has no preconditions.
    let task = unsafe { helpers::bpf_get_current_task() } as *const c_void;
    let flags: u32 = probe_read(task.wrapping_byte_add(offset!(task_flags)), 0);
    if flags & PF_KTHREAD != 0 {
        (closer::KERNEL, 0)
    } else if flags & PF_EXITING != 0 {
        (closer::EXITING, probe_read(task.wrapping_byte_add(offset!(task_exit_code)), 0))
    } else if has_only_executed(task) {
        (closer::EXEC, 0)
    } else {
        (closer::PROCESS, 0)
    }
}

/// How many page faults the thread has had.
#[inline(always)]
pub fn faults(task: *const c_void) -> u32 {
    let minor: u64 = probe_read(task.wrapping_byte_add(offset!(task_min_flt)), 0);
    let major: u64 = probe_read(task.wrapping_byte_add(offset!(task_maj_flt)), 0);
    minor.wrapping_add(major) as u32
}

/// Whether the current process has executed a program and not run in user mode since: the first instruction faults, for a
/// new memory has no pages (`exec_mmap`, fs/exec.c). Files that execve() closes are released on the way there (`fput`,
/// fs/file_table.c), behind `sched_process_exec`.
#[inline(always)]
fn has_only_executed(task: *const c_void) -> bool {
    let pid_tgid = helpers::bpf_get_current_pid_tgid();
    let (thread, pid) = (pid_tgid as u32, (pid_tgid >> 32) as u32);
    // Afterwards it has one thread, the first.
    thread == pid && maps::faults_at_exec(pid) == Some(faults(task))
}
