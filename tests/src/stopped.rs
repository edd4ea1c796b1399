//! One thread of a process that is stopped while the others run: SIGSTOP would stop them all.

use std::io;

use rustix::process::{Pid, WaitOptions};

/// A thread that is stopped, as by a debugger, until this is dropped. To be dropped by the thread that made it.
pub struct StoppedThread {
    id: libc::pid_t,
}

/// The threads of a process that have this name, by their ids.
pub fn threads(pid: u32, name: &str) -> Vec<i32> {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).expect("the threads of a process");
    let mut ids: Vec<i32> = threads
        .flatten()
        .filter(|thread| {
            // One that has ended since.
            std::fs::read_to_string(thread.path().join("comm")).is_ok_and(|comm| comm.trim_end() == name)
        })
        .filter_map(|thread| thread.file_name().to_str()?.parse().ok())
        .collect();
    ids.sort_unstable();
    ids
}

impl StoppedThread {
    /// Stops the newest thread of a process that has this name.
    pub fn begin(pid: u32, name: &str) -> Self {
        let id = *threads(pid, name).last().unwrap_or_else(|| panic!("process {pid} has a thread `{name}`"));
        ptrace(libc::PTRACE_SEIZE, id).expect("to trace a thread");
        let stopped = Self { id };
        ptrace(libc::PTRACE_INTERRUPT, id).expect("to interrupt a thread");
        // SAFETY: no status is asked for.
        let waited = unsafe { libc::waitpid(id, std::ptr::null_mut(), libc::__WALL) };
        assert_eq!(waited, id, "{}", io::Error::last_os_error());
        stopped
    }
}

impl Drop for StoppedThread {
    fn drop(&mut self) {
        // It may have ended with its process.
        if ptrace(libc::PTRACE_DETACH, self.id).is_err()
            && let Some(id) = Pid::from_raw(self.id)
        {
            let _ = rustix::process::waitpid(Some(id), WaitOptions::NOHANG);
        }
    }
}

fn ptrace(request: libc::c_uint, id: libc::pid_t) -> io::Result<()> {
    let nothing = std::ptr::null_mut::<libc::c_void>();
    // SAFETY: none of the requests used here reads or writes memory of this process.
    let result = unsafe { libc::ptrace(request, id, nothing, nothing) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
