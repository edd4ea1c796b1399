//! A file system that does not answer: a FUSE mount (fuse(4)) whose device is never read.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

/// Until this is dropped, no path in it is resolved; then each fails.
pub struct HungMount(#[expect(dead_code, reason = "its end aborts what waits for an answer")] File);

impl HungMount {
    /// Mounts it on a directory, in a mount namespace that only those processes are in which `start` starts.
    pub fn begin<T: Send>(directory: &Path, start: impl FnOnce() -> T + Send) -> (Self, T) {
        let begin = || {
            make_mounts_private().expect("a mount namespace");
            let mount = mount(directory).expect("to mount a FUSE file system");
            (Self(mount), start())
        };
        // The namespace is that of the thread, and ends with the last process in it.
        std::thread::scope(|scope| scope.spawn(begin).join())
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}

fn make_mounts_private() -> io::Result<()> {
    let (nothing, flags) = (std::ptr::null(), libc::MS_SLAVE | libc::MS_REC);
    // SAFETY: plain system calls; the strings end in NUL and outlive them.
    let is_private = unsafe {
        libc::unshare(libc::CLONE_NEWNS) == 0
            && libc::mount(nothing, c"/".as_ptr(), nothing, flags, nothing.cast()) == 0
    };
    if is_private { Ok(()) } else { Err(io::Error::last_os_error()) }
}

fn mount(directory: &Path) -> io::Result<File> {
    let device = File::options().read(true).write(true).open("/dev/fuse")?;
    let options = format!("fd={},rootmode=40000,user_id=0,group_id=0", device.as_raw_fd());
    let options = std::ffi::CString::new(options)?;
    let directory = std::ffi::CString::new(directory.as_os_str().as_bytes())?;
    let (kind, flags) = (c"fuse".as_ptr(), libc::MS_NOSUID | libc::MS_NODEV);
    // SAFETY: a plain system call; the strings end in NUL and outlive it.
    let result = unsafe { libc::mount(kind, directory.as_ptr(), kind, flags, options.as_ptr().cast()) };
    if result == 0 { Ok(device) } else { Err(io::Error::last_os_error()) }
}
