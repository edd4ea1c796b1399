//! `sched_process_exec`: a program that may be a server has started, or a process that held a listener executes another.

use aya_ebpf::{
    helpers,
    macros::{btf_tracepoint, tracepoint},
    programs::{BtfTracePointContext, TracePointContext},
};
use core::ffi::c_void;
use tracer_ebpf::{ARGUMENTS_BYTES, Executed, FILE_NAME_BYTES, MISSING, NAME_BYTES, kind};

use crate::{
    config::{self, offset},
    maps,
    memory::probe_read,
    records, task,
};

/// TP_PROTO(struct task_struct *p, pid_t old_pid, struct linux_binprm *bprm)
///
/// Runs in the context of the process, which has its new name, memory and arguments by then (`begin_new_exec`, fs/exec.c;
/// `create_elf_tables`, fs/binfmt_elf.c).
#[btf_tracepoint(function = "sched_process_exec")]
fn process_exec(_: BtfTracePointContext) -> i32 {
    process_starts();
    0
}

#[tracepoint(category = "sched", name = "sched_process_exec")]
fn process_exec_redundant(_: TracePointContext) -> i32 {
    process_starts();
    0
}

/// Not deduplicated: a second record of the same start changes nothing.
#[inline(always)]
fn process_starts() {
    // SAFETY: the helper has no preconditions.
    let task = unsafe { helpers::bpf_get_current_task() } as *const c_void;
    let mm: u64 = probe_read(task.wrapping_byte_add(offset!(task_mm)), 0);
    let mm = mm as *const c_void;
    let file_name = file_name(mm);
    // The user side finds what it holds now: its descriptors may have been closed.
    let pid = (helpers::bpf_get_current_pid_tgid() >> 32) as u32;
    let was_holder = maps::unfollow_upstream(pid);
    // What it did before counts for another instance.
    let is_of_instance = was_holder || maps::is_followed(pid);
    if !is_of_instance && !config::records_every_start() && !is_watched(file_name) {
        return;
    }
    let Some((mut entry, _)) = records::reserve::<Executed>(kind::EXECUTED) else {
        return;
    };
    // One that ends before the user side has read its start is reported too.
    maps::follow_executed(pid, task::faults(task));
    let record = entry.as_mut_ptr();
    // SAFETY: the record is reserved, and every member of it is written; of the arguments, as many bytes as are counted.
    unsafe {
        task::describe_current_by_probe_read(&raw mut (*record).task);
        let (netns, cookie) = task::network_namespace(task);
        (&raw mut (*record).netns).write(netns);
        (&raw mut (*record).netns_cookie).write(cookie);
        (&raw mut (*record).reserved).write(0);
        let name = (&raw mut (*record).file_name).cast::<c_void>();
        if helpers::generated::bpf_probe_read_kernel_str(name, FILE_NAME_BYTES as u32, file_name) <= 0 {
            name.cast::<u8>().write(0);
        }
        let (bytes, is_cut) = read_arguments(mm, (&raw mut (*record).arguments).cast());
        (&raw mut (*record).arguments_bytes).write(bytes);
        (&raw mut (*record).is_cut).write(u32::from(is_cut));
    }
    records::submit(entry);
}

/// The name of the executable in its directory, in the kernel's memory. Of a script, `exe_file` is the interpreter's.
#[inline(always)]
fn file_name(mm: *const c_void) -> *const c_void {
    let file: u64 = probe_read(mm.wrapping_byte_add(offset!(mm_exe_file)), 0);
    let dentry: u64 = probe_read((file as *const c_void).wrapping_byte_add(offset!(file_dentry)), 0);
    let name: u64 = probe_read((dentry as *const c_void).wrapping_byte_add(offset!(dentry_name)), 0);
    name as *const c_void
}

/// Whether the program's file name is watched, or the process's name, which is that of a script or a link.
#[inline(always)]
fn is_watched(file_name: *const c_void) -> bool {
    if let Ok(name) = helpers::bpf_get_current_comm()
        && maps::is_watched_name(&name)
    {
        return true;
    }
    let mut name = [0_u8; NAME_BYTES];
    // SAFETY: the helper writes as many bytes as `name` has, a NUL included, and checks the address.
    let read = unsafe {
        helpers::generated::bpf_probe_read_kernel_str(name.as_mut_ptr().cast(), NAME_BYTES as u32, file_name)
    };
    read > 0 && maps::is_watched_name(&name)
}

/// Reads the beginning of the arguments: how many bytes, [`MISSING`] where they cannot be read, and whether there are more.
///
/// # Safety
/// `out` must be valid for [`ARGUMENTS_BYTES`].
#[inline(always)]
unsafe fn read_arguments(mm: *const c_void, out: *mut c_void) -> (u32, bool) {
    let start: u64 = probe_read(mm.wrapping_byte_add(offset!(mm_arg_start)), 0);
    let end: u64 = probe_read(mm.wrapping_byte_add(offset!(mm_arg_end)), 0);
    let total = end.saturating_sub(start);
    let is_cut = total > ARGUMENTS_BYTES as u64;
    let bytes = if is_cut { ARGUMENTS_BYTES as u32 } else { (total & 0x7ff) as u32 };
    // SAFETY: the caller's; the helper checks the address in the process's memory, and does not fault pages in.
    let result = unsafe { helpers::generated::bpf_probe_read_user(out, bytes, start as *const c_void) };
    if start == 0 || result != 0 { (MISSING, false) } else { (bytes, is_cut) }
}
