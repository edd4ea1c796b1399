//! Attaches a program to a classic tracepoint, on hosts that have tracefs mounted nowhere too.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};

use rustix::fs::{CWD, Mode, OFlags, fstatfs, openat};
use rustix::io::Errno;
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsmount, fsopen};

/// `PERF_TYPE_TRACEPOINT`, and the ioctls of linux/perf_event.h.
const PERF_TYPE_TRACEPOINT: u32 = 2;
const PERF_EVENT_IOC_ENABLE: libc::c_ulong = 0x2400;
const PERF_EVENT_IOC_SET_BPF: libc::c_ulong = 0x4004_2408;

/// Where the kernel's tracing file system is mounted, if it is.
const MOUNTED: &str = "/sys/kernel/tracing";

/// `TRACEFS_MAGIC`: include/uapi/linux/magic.h.
const TRACEFS_MAGIC: u64 = 0x7472_6163;

/// The tracing file system. A mount of its own, which takes CAP_SYS_ADMIN: no path leads to it, and it ends with the
/// descriptor. Without that, the one that every process sees, which CAP_DAC_READ_SEARCH opens.
pub struct Tracefs(OwnedFd);

impl Tracefs {
    /// # Errors
    /// Where the kernel has no tracefs, or refuses it.
    pub fn open() -> io::Result<Self> {
        match Self::mount() {
            Err(Errno::PERM) => Self::mounted().map_err(|errno| match errno {
                Errno::ACCESS => io::Error::other(format!(
                    "to mount it takes CAP_SYS_ADMIN, and to read `{MOUNTED}` CAP_DAC_READ_SEARCH"
                )),
                Errno::NOENT => io::Error::other(format!(
                    "tracefs is not mounted at `{MOUNTED}`, and to mount it takes CAP_SYS_ADMIN"
                )),
                _ => io::Error::other(format!(
                    "to mount it takes CAP_SYS_ADMIN, and `{MOUNTED}` cannot be opened: {}",
                    io::Error::from(errno)
                )),
            }),
            mounted => Ok(mounted?),
        }
    }

    fn mount() -> Result<Self, Errno> {
        let context = fsopen("tracefs", FsOpenFlags::FSOPEN_CLOEXEC)?;
        fsconfig_create(&context)?;
        Ok(Self(fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())?))
    }

    fn mounted() -> Result<Self, Errno> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = openat(CWD, MOUNTED, flags, Mode::empty())?;
        // The directory is there with nothing mounted on it, too.
        if u64::try_from(fstatfs(&directory)?.f_type) != Ok(TRACEFS_MAGIC) {
            return Err(Errno::NOENT);
        }
        Ok(Self(directory))
    }

    /// The number of a tracepoint such as `syscalls/sys_enter_bind`.
    fn id(&self, name: &str) -> io::Result<u64> {
        let path = format!("events/{name}/id");
        let file = openat(&self.0, path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty());
        let file = file.map_err(|errno| match errno {
            // Only root may read it.
            Errno::ACCESS => io::Error::other("to read it takes CAP_DAC_READ_SEARCH"),
            errno => errno.into(),
        })?;
        let mut text = String::new();
        File::from(file).take(32).read_to_string(&mut text)?;
        text.trim().parse().map_err(io::Error::other)
    }

    /// Attaches a loaded program for every process and CPU, as long as the descriptor returned is open.
    ///
    /// # Errors
    /// Where the tracepoint does not exist, or the kernel refuses.
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
        // SAFETY: a new descriptor that nothing else owns.
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
