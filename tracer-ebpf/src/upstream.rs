//! Whose connects are recorded: those to watched ports, and those of processes that hold a listener on one, to any port.
//! Such a process is a proxy whose clients get an error where it is refused.
//!
//! A connect of another process to another port costs one look-up, and none while no such process is known.

use aya_ebpf::helpers;
use core::ffi::c_void;
use tracer_ebpf::role;

use crate::{
    config::{self, is_watched, offset},
    maps,
    memory::member,
};

/// `PF_FORKNOEXEC` (include/linux/sched.h): forked, and has not executed a program since.
const PF_FORKNOEXEC: u32 = 0x40;

/// The role of a connect by the current process to this port, one of [`role`]; `None`: it is not recorded.
#[inline(always)]
pub fn role_of_current(port: u16) -> Option<u32> {
    if maps::has_holders() && is_holder() {
        Some(role::UPSTREAM)
    } else if is_watched(port) {
        Some(role::CLIENT)
    } else {
        None
    }
}

/// Whether the current process holds a listener on a watched port.
#[inline(always)]
fn is_holder() -> bool {
    if config::task_helper() {
        // SAFETY: the helper has no preconditions.
        holds::<true>(unsafe { helpers::generated::bpf_get_current_task_btf() } as *const c_void)
    } else {
        // SAFETY: as above.
        holds::<false>(unsafe { helpers::bpf_get_current_task() } as *const c_void)
    }
}

/// A process that was forked by a holder, and has executed nothing since, has its descriptors: it is one from its first
/// connect on. It alone costs a second look-up.
#[inline(always)]
fn holds<const TRUSTED: bool>(task: *const c_void) -> bool {
    let null = core::ptr::null::<c_void>();
    let pid = (helpers::bpf_get_current_pid_tgid() >> 32) as u32;
    let leader = member::<_, TRUSTED>(task, offset!(task_group_leader), null);
    let started = || -> u64 { member::<_, TRUSTED>(leader, offset!(task_start_boottime), 0) };
    if let Some(start) = maps::holder(pid) {
        let started = started();
        // Else its number belonged to another process before.
        return start == 0 || start == started - started % maps::TICK_NS;
    }
    let flags: u32 = member::<_, TRUSTED>(leader, offset!(task_flags), 0);
    if flags & PF_FORKNOEXEC == 0 {
        return false;
    }
    let parent = member::<_, TRUSTED>(leader, offset!(task_real_parent), null);
    let parent: u32 = member::<_, TRUSTED>(parent, offset!(task_tgid), 0);
    if maps::holder(parent).is_none() {
        return false;
    }
    maps::follow_process(pid);
    maps::follow_upstream(pid, started());
    true
}
