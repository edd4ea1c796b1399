//! Attaches a program to a classic tracepoint, on hosts that have tracefs mounted nowhere too.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};

use rustix::fs::{Mode, OFlags, openat};
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsmount, fsopen};

/// `PERF_TYPE_TRACEPOINT`, and the ioctls of linux/perf_event.h.
const PERF_TYPE_TRACEPOINT: u32 = 2;
const PERF_EVENT_IOC_ENABLE: libc::c_ulong = 0x2400;
const PERF_EVENT_IOC_SET_BPF: libc::c_ulong = 0x4004_2408;

/// The tracing file system, mounted for nobody else to see: no path leads to it, and it is gone with the
/// descriptor. Needs CAP_SYS_ADMIN.
pub struct Tracefs(OwnedFd);

impl Tracefs {
    /// # Errors
    /// Where the kernel has no tracefs, or refuses the mount.
    pub fn open() -> io::Result<Self> {
        let context = fsopen("tracefs", FsOpenFlags::FSOPEN_CLOEXEC)?;
        fsconfig_create(&context)?;
        Ok(Self(fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())?))
    }

    /// The number of a tracepoint such as `syscalls/sys_enter_bind`.
    fn id(&self, name: &str) -> io::Result<u64> {
        let path = format!("events/{name}/id");
        let file = openat(&self.0, path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
        let mut text = String::new();
        File::from(file).take(32).read_to_string(&mut text)?;
        text.trim().parse().map_err(io::Error::other)
    }

    /// Attaches a loaded program for every process and CPU, as long as the descriptor returned is open.
    ///
    /// # Errors
    /// Where there is no such tracepoint, or the kernel refuses.
    pub fn attach(&self, name: &str, program: BorrowedFd<'_>) -> io::Result<OwnedFd> {
        use aya_obj::generated::perf_event_attr;

        // SAFETY: plain integers, for which zero is a value.
        let mut attributes: perf_event_attr = unsafe { std::mem::zeroed() };
        attributes.type_ = PERF_TYPE_TRACEPOINT;
        attributes.size = size_of::<perf_event_attr>() as u32;
        attributes.config = self.id(name)?;
        // A program on a tracepoint runs for every CPU, whichever its event is opened on
        // (`perf_event_attach_bpf_prog`, kernel/trace/bpf_trace.c).
        let (any_process, first_cpu, no_group, close_on_exec) = (-1, 0, -1, 8_u64);
        // SAFETY: the kernel reads `size` bytes of `attributes`, which outlives the call.
        let event = unsafe {
            libc::syscall(
                libc::SYS_perf_event_open,
                &raw const attributes,
                any_process,
                first_cpu,
                no_group,
                close_on_exec,
            )
        };
        let event = i32::try_from(event).map_err(io::Error::other)?;
        if event < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: a new descriptor that nobody else owns.
        let event = unsafe { OwnedFd::from_raw_fd(event) };
        for (request, argument) in [(PERF_EVENT_IOC_SET_BPF, program.as_raw_fd()), (PERF_EVENT_IOC_ENABLE, 0)]
        {
            // SAFETY: both take an integer, and touch no memory of ours.
            if unsafe { libc::ioctl(event.as_raw_fd(), request as _, argument) } < 0 {
                return Err(io::Error::last_os_error());
            }
        }
        Ok(event)
    }
}
