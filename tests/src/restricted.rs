//! Hosts that cannot run the tracer, made from this one for a single command: what runs between fork and
//! exec takes away what such a host would lack.

use std::ffi::CString;
use std::fs;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use rustix::io::Errno;
use rustix::process::{Resource, Rlimit, setrlimit};
use rustix::thread::{CapabilitySet, CapabilitySets};

use super::binary::binary;
use super::netns::{Netns, run};

/// Where the kernel describes its types.
const BTF: &str = "/sys/kernel/btf";

/// The user `nobody`.
const NOBODY: u32 = 65_534;

/// The tracer as a user without any right. `directory` gets a copy of it: the original may be where only
/// root can read.
pub fn without_root(directory: &Path, netns: Option<&Netns>) -> Command {
    as_nobody(directory, netns, CapabilitySet::empty())
}

/// The tracer as root with these capabilities, of those that root has here, and no way to others.
pub fn as_root_with(netns: &Netns, capabilities: CapabilitySet) -> Command {
    let mut command = Command::new(binary());
    netns.enter(&mut command);
    // Root gets at exec all that the bounding set leaves (capabilities(7)).
    before_exec(command, move || {
        lock_memory_without_limit();
        bound_by(capabilities)
    })
}

/// Lets as much memory be locked as a service manager does with LimitMEMLOCK=infinity: before 5.11 what programs keep
/// counts against it. Where that takes a right that root has not here, it is left: a later kernel asks for none.
fn lock_memory_without_limit() {
    let _ = setrlimit(Resource::Memlock, Rlimit { current: None, maximum: None });
}

/// As [`as_nobody`], with no more locked memory than a login gives.
pub fn as_nobody_with_little_memory(
    directory: &Path,
    netns: Option<&Netns>,
    capabilities: CapabilitySet,
) -> Command {
    let command = become_nobody(copied(directory, netns), capabilities);
    before_exec(command, || {
        let limit = Some(64 * 1024);
        Ok(setrlimit(Resource::Memlock, Rlimit { current: limit, maximum: limit })?)
    })
}

/// The tracer as `nobody` with these capabilities, as a service manager hands them out (AmbientCapabilities=,
/// CapabilityBoundingSet=). Of `directory` as above.
pub fn as_nobody(directory: &Path, netns: Option<&Netns>, capabilities: CapabilitySet) -> Command {
    become_nobody(copied(directory, netns), capabilities)
}

/// The same with a `/proc` that hides other users' processes.
pub fn as_nobody_with_hidden_processes(
    directory: &Path,
    netns: &Netns,
    capabilities: CapabilitySet,
) -> Command {
    let command = before_exec(copied(directory, Some(netns)), || {
        own_mounts()?;
        mount(c"proc", c"/proc", Some(c"proc"), 0, Some(c"hidepid=2"))
    });
    become_nobody(command, capabilities)
}

/// The same with a tracefs at its usual place, or none, whichever the host has: its mounts are its own.
pub fn as_nobody_with_tracefs(
    directory: &Path,
    netns: &Netns,
    capabilities: CapabilitySet,
    is_mounted: bool,
) -> Command {
    let command = before_exec(copied(directory, Some(netns)), move || {
        own_mounts()?;
        let kind = if is_mounted { c"tracefs" } else { c"tmpfs" };
        match mount(kind, c"/sys/kernel/tracing", Some(kind), 0, None) {
            // The host has it mounted there already.
            Err(error) if is_mounted && error.raw_os_error() == Some(libc::EBUSY) => Ok(()),
            result => result,
        }
    });
    become_nobody(command, capabilities)
}

/// A copy of the tracer in a directory that all may enter.
fn copied(directory: &Path, netns: Option<&Netns>) -> Command {
    let copy = directory.join("tracer");
    // Copied by another process: while this one had the copy open for writing, so would have whatever
    // another test starts in that moment, and a file that is open for writing cannot be run.
    run(Command::new("install").args(["-m", "0755"]).arg(binary()).arg(&copy), "");
    fs::set_permissions(directory, fs::Permissions::from_mode(0o755)).expect("to chmod");
    let mut command = Command::new(copy);
    if let Some(netns) = netns {
        netns.enter(&mut command);
    }
    command
}

fn become_nobody(command: Command, capabilities: CapabilitySet) -> Command {
    // Not by `Command::uid`, which comes before what it takes root to do.
    before_exec(command, move || {
        lock_memory_without_limit();
        bound_by(capabilities)?;
        rustix::thread::set_keep_capabilities(true)?;
        // SAFETY: plain system calls on this process.
        unsafe {
            check(libc::setgroups(0, std::ptr::null()))?;
            check(libc::setresgid(NOBODY, NOBODY, NOBODY))?;
            check(libc::setresuid(NOBODY, NOBODY, NOBODY))?;
        }
        let (effective, permitted, inheritable) = (capabilities, capabilities, capabilities);
        rustix::thread::set_capabilities(None, CapabilitySets { effective, permitted, inheritable })?;
        // The call takes one capability at a time.
        for capability in capabilities {
            rustix::thread::configure_capability_in_ambient_set(capability, true)?;
        }
        Ok(())
    })
}

/// Leaves only these capabilities to whatever this process becomes.
fn bound_by(capabilities: CapabilitySet) -> io::Result<()> {
    for bit in 0..u64::BITS {
        let capability = CapabilitySet::from_bits_retain(1 << bit);
        if !capabilities.contains(capability) {
            match rustix::thread::remove_capability_from_bounding_set(capability) {
                // The kernel has no more.
                Err(Errno::INVAL) => break,
                result => result?,
            }
        }
    }
    Ok(())
}

/// A policy that forbids to give capabilities up.
pub fn without_capset(netns: &Netns) -> Command {
    let filter = Filter::new(libc::SYS_capset, libc::EPERM);
    let mut command = Command::new(binary());
    netns.enter(&mut command);
    before_exec(command, move || filter.install())
}

/// A host whose `/proc` is an empty directory.
pub fn without_proc() -> Command {
    before_exec(Command::new(binary()), || {
        own_mounts()?;
        cover_proc()
    })
}

/// The tracer with mounts of its own, which [`change_mounts`] can change under it.
pub fn with_own_mounts(netns: &Netns) -> Command {
    let mut command = Command::new(binary());
    netns.enter(&mut command);
    before_exec(command, own_mounts)
}

/// Takes `/proc` away from a running process with mounts of its own, or gives it back.
pub fn change_mounts(pid: u32, has_proc: bool) {
    let mounts = fs::File::open(format!("/proc/{pid}/ns/mnt")).expect("its mounts");
    let root = fs::File::open(format!("/proc/{pid}/root")).expect("its root");
    let command = before_exec(Command::new("true"), move || {
        // The root that setns() gives is that of the namespace, not of a process in a chroot.
        // SAFETY: plain system calls on this process, which has one thread; a string that ends in NUL.
        unsafe {
            check(libc::setns(mounts.as_raw_fd(), libc::CLONE_NEWNS))?;
            check(libc::fchdir(root.as_raw_fd()))?;
            check(libc::chroot(c".".as_ptr()))?;
        }
        if has_proc {
            // SAFETY: as above; a string that ends in NUL.
            return check(unsafe { libc::umount(c"/proc".as_ptr()) });
        }
        cover_proc()
    });
    run(&mut { command }, "");
}

fn cover_proc() -> io::Result<()> {
    mount(c"tmpfs", c"/proc", Some(c"tmpfs"), 0, None)
}

/// A kernel without BTF: nothing is where it would be.
pub fn without_btf() -> Command {
    let path = CString::new(BTF).expect("no NUL");
    before_exec(Command::new(binary()), move || {
        own_mounts()?;
        mount(c"tmpfs", &path, Some(c"tmpfs"), 0, None)
    })
}

/// A kernel whose BTF is the file at `path`.
pub fn with_btf(path: &Path) -> Command {
    let source = CString::new(path.as_os_str().as_encoded_bytes()).expect("no NUL");
    let target = CString::new(format!("{BTF}/vmlinux")).expect("no NUL");
    before_exec(Command::new(binary()), move || {
        own_mounts()?;
        mount(&source, &target, None, libc::MS_BIND, None)
    })
}

/// A kernel that calls itself 2.6.
pub fn old_kernel() -> Command {
    before_exec(Command::new(binary()), || {
        let persona = libc::c_ulong::try_from(libc::UNAME26).expect("a flag");
        // SAFETY: a plain system call on this process.
        check(unsafe { libc::personality(persona) })
    })
}

/// A kernel without its `inet_diag` module's family: asking for a sock_diag socket fails.
pub fn without_sock_diag() -> Command {
    let filter = Filter::new(libc::SYS_socket, libc::EPROTONOSUPPORT)
        .argument(0, libc::AF_NETLINK)
        .argument(2, libc::NETLINK_SOCK_DIAG);
    before_exec(Command::new(binary()), move || filter.install())
}

/// A kernel that loads no program.
pub fn without_program_load() -> Command {
    /// `BPF_PROG_LOAD` of include/uapi/linux/bpf.h.
    const PROG_LOAD: i32 = 5;
    let filter = Filter::new(libc::SYS_bpf, libc::EINVAL).argument(0, PROG_LOAD);
    before_exec(Command::new(binary()), move || filter.install())
}

/// A command with something done in its process before it begins.
fn before_exec(
    mut command: Command,
    action: impl FnMut() -> io::Result<()> + Send + Sync + 'static,
) -> Command {
    // SAFETY: each action makes system calls on memory that was allocated before the fork, no more.
    unsafe { command.pre_exec(action) };
    command
}

fn check(result: libc::c_int) -> io::Result<()> {
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// From this call on, only this process sees what is mounted.
fn own_mounts() -> io::Result<()> {
    // SAFETY: a plain system call on this process, which has one thread.
    check(unsafe { libc::unshare(libc::CLONE_NEWNS) })?;
    mount(c"none", c"/", None, libc::MS_REC | libc::MS_PRIVATE, None)
}

fn mount(
    source: &std::ffi::CStr,
    target: &std::ffi::CStr,
    kind: Option<&std::ffi::CStr>,
    flags: libc::c_ulong,
    options: Option<&std::ffi::CStr>,
) -> io::Result<()> {
    let pointer = |text: Option<&std::ffi::CStr>| text.map_or(std::ptr::null(), std::ffi::CStr::as_ptr);
    let (kind, options) = (pointer(kind), pointer(options));
    // SAFETY: strings that end in NUL and outlive the call.
    check(unsafe { libc::mount(source.as_ptr(), target.as_ptr(), kind, flags, options.cast()) })
}

/// A seccomp filter that fails one system call where some of its arguments are as given.
struct Filter {
    call: u32,
    errno: u32,
    arguments: Vec<(u32, u32)>,
    program: Vec<libc::sock_filter>,
}

impl Filter {
    fn new(call: libc::c_long, errno: libc::c_int) -> Self {
        let number = |value: libc::c_long| u32::try_from(value).expect("a small number");
        Self { call: number(call), errno: number(errno.into()), arguments: Vec::new(), program: Vec::new() }
            .assembled()
    }

    /// And only where the low half of this argument has this value.
    fn argument(mut self, index: u32, value: libc::c_int) -> Self {
        self.arguments.push((index, u32::try_from(value).expect("a small number")));
        self.assembled()
    }

    /// Writes the program down before the fork, after which nothing may be allocated.
    fn assembled(mut self) -> Self {
        /// `struct seccomp_data`: nr, arch, instruction_pointer, args[6].
        const NUMBER: u32 = 0;
        const ARGUMENTS: u32 = 16;
        let load = |offset| Self::statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, offset);
        let allow = Self::statement(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ALLOW);
        // The two after a comparison: what to do when it does not hold is to allow.
        let compare = |value| libc::sock_filter {
            jt: 1,
            ..Self::statement(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, value)
        };
        let mut program = vec![load(NUMBER), compare(self.call), allow];
        for &(index, value) in &self.arguments {
            program.extend([load(ARGUMENTS + 8 * index), compare(value), allow]);
        }
        let fail = libc::SECCOMP_RET_ERRNO | self.errno;
        program.push(Self::statement(libc::BPF_RET | libc::BPF_K, fail));
        self.program = program;
        self
    }

    fn statement(code: u32, k: u32) -> libc::sock_filter {
        libc::sock_filter { code: u16::try_from(code).expect("16 bits"), jt: 0, jf: 0, k }
    }

    fn install(&self) -> io::Result<()> {
        let program = libc::sock_fprog {
            len: u16::try_from(self.program.len()).expect("a short program"),
            filter: self.program.as_ptr().cast_mut(),
        };
        // SAFETY: plain system calls; the program outlives the second one, which only reads it.
        unsafe {
            check(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))?;
            check(libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program))
        }
    }
}

/// The kernel's own BTF with two wrong offsets: each places a number inside a pointer. The verifier, which
/// has the right ones, rejects a program that uses them, and logs why. Which of the two a program reads by plain loads,
/// which the verifier checks, is different from kernel to kernel.
pub fn untrue_btf() -> Vec<u8> {
    let mut bytes = fs::read(Path::new(BTF).join("vmlinux")).expect("the kernel's BTF");
    for (structure, pointer, number) in
        [("sock", "sk_socket", "sk_err"), ("task_struct", "group_leader", "start_boottime")]
    {
        let (_, pointer) = find_member(&bytes, structure, pointer);
        let (at, _) = find_member(&bytes, structure, number);
        // In bits. One byte further: no field of so many bytes can begin there.
        bytes[at..at + 4].copy_from_slice(&(pointer + 8).to_ne_bytes());
    }
    bytes
}

/// Finds a direct member of a structure: where its offset is noted, and the offset in bits.
fn find_member(bytes: &[u8], structure: &str, member: &str) -> (usize, u32) {
    let word = |at: usize| u32::from_ne_bytes(bytes[at..at + 4].try_into().expect("four bytes"));
    let index = |at: usize| usize::try_from(word(at)).expect("an offset");
    // struct btf_header: magic, version, flags, hdr_len, type_off, type_len, str_off, str_len.
    let header = index(4);
    let (types, length, strings) = (header + index(8), index(12), header + index(16));
    let is_named = |at: usize, name: &str| {
        let text = &bytes[strings + index(at)..];
        text.starts_with(name.as_bytes()) && text[name.len()] == 0
    };
    let mut at = types;
    while at < types + length {
        // struct btf_type: name_off, info (vlen in the low half, kind above), size or type.
        let info = index(at + 4);
        let (count, kind) = (info & 0xffff, (info >> 24) & 0x1f);
        let body = at + 12;
        if kind == 4 && is_named(at, structure) {
            let members = (0..count).map(|number| body + 12 * number);
            if let Some(found) = members.clone().find(|&entry| is_named(entry, member)) {
                return (found + 8, word(found + 8));
            }
        }
        at = body
            + match kind {
                // INT, VAR and DECL_TAG; ARRAY; STRUCT, UNION, DATASEC and ENUM64; ENUM and FUNC_PROTO.
                1 | 14 | 17 => 4,
                3 => 12,
                4 | 5 | 15 | 19 => 12 * count,
                6 | 13 => 8 * count,
                _ => 0,
            };
    }
    panic!("the kernel's BTF has no `{structure}.{member}`");
}
