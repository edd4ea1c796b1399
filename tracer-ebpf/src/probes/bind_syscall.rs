//! `sys_enter_bind` and `sys_exit_bind`: the same as `bind`, where the kernel refuses fexit programs. A system
//! call's tracepoints make every system call of the host slower, and do not see binds by io_uring.

use aya_ebpf::{helpers, macros::tracepoint, programs::TracePointContext};
use core::ffi::c_void;

use crate::{
    config::{is_watched, offset},
    maps::{self, Binding},
    memory::probe_read,
    probes::bind,
    sock::Sock,
};

/// Where the arguments stand: events/syscalls/sys_enter_bind/format. Each takes eight bytes.
const FD: usize = 16;
const ADDRESS: usize = 24;

/// Where the result stands: events/syscalls/sys_exit_bind/format.
const RESULT: usize = 16;

#[tracepoint(category = "syscalls", name = "sys_enter_bind")]
fn bind_enter(ctx: TracePointContext) -> i32 {
    // SAFETY: both are inside the record, by its format.
    let (Ok(fd), Ok(address)) = (unsafe { ctx.read_at::<u64>(FD) }, unsafe { ctx.read_at::<u64>(ADDRESS) })
    else {
        return 0;
    };
    let request = bind::read_request(
        address as *const c_void,
        // SAFETY: the helper checks the address and fails instead of faulting.
        |address, zero| unsafe { helpers::bpf_probe_read_user(address.cast::<u32>()) }.unwrap_or(zero),
        // SAFETY: as above.
        |address, zero| unsafe { helpers::bpf_probe_read_user(address.cast::<[u64; 2]>()) }.unwrap_or(zero),
    );
    if !is_watched(request.port) {
        return 0;
    }
    let sock = sock_behind(fd as u32);
    if sock.address() != 0 && sock.is_tcp() {
        maps::begin_binding(helpers::bpf_get_current_pid_tgid(), &Binding { sock: sock.address(), request });
    }
    0
}

#[tracepoint(category = "syscalls", name = "sys_exit_bind")]
fn bind_exit(ctx: TracePointContext) -> i32 {
    let Some(binding) = maps::end_binding(helpers::bpf_get_current_pid_tgid()) else {
        return 0;
    };
    // SAFETY: inside the record, by its format.
    let Ok(result) = (unsafe { ctx.read_at::<i64>(RESULT) }) else {
        return 0;
    };
    let sock = Sock(binding.sock as *const c_void);
    bind::record(sock, &binding.request, result as i32);
    0
}

/// The socket behind one of the current process's descriptors; null where the descriptor is not a socket.
#[inline(always)]
fn sock_behind(fd: u32) -> Sock<false> {
    let at = |base: u64, offset: usize| (base as *const c_void).wrapping_byte_add(offset);
    // SAFETY: the helper has no preconditions.
    let task = unsafe { helpers::bpf_get_current_task() };
    let files: u64 = probe_read(at(task, offset!(task_files)), 0);
    let table: u64 = probe_read(at(files, offset!(files_fdt)), 0);
    let limit: u32 = probe_read(at(table, offset!(fdt_max_fds)), 0);
    if fd >= limit {
        return Sock(core::ptr::null());
    }
    let array: u64 = probe_read(at(table, offset!(fdt_fd)), 0);
    let file: u64 = probe_read(at(array, fd as usize * 8), 0);
    let socket: u64 = probe_read(at(file, offset!(file_private_data)), 0);
    // What a file that is not a socket leads to does not point back at it.
    let back: u64 = probe_read(at(socket, offset!(socket_file)), 0);
    if file == 0 || back != file {
        return Sock(core::ptr::null());
    }
    let sock: u64 = probe_read(at(socket, offset!(socket_sk)), 0);
    Sock(sock as *const c_void)
}
