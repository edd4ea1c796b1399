//! What `/proc` shows of a process. All of it but the numbers is the process's own choice: read to a
//! bound, never trusted in form.
//!
//! Read by hand, not with the procfs crate: that reads each file to its end whatever its length, refuses
//! all of `status` over a name that is not UTF-8, and costs more than a refusal may.

use std::ffi::CStr;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::OnceLock;

use rustix::fs::{AtFlags, CWD, Mode, OFlags, openat, readlinkat_raw, stat, statat};
use rustix::io::Errno;

use super::bounded::{self, End};
use crate::model::container;
use crate::model::container::Container;
use crate::model::process::{INIT, Process, ProcessKey};
use crate::model::program;
use crate::model::socket::NetnsId;
use crate::model::text::Text;
use crate::model::time::StartTime;
use crate::model::unit::Unit;

/// Longest path that the kernel returns (PATH_MAX).
const PATH: usize = 4096;

/// Enough for `/proc/PID/status` of a process in a thousand groups, which stand before `NSpid`.
pub(crate) const STATUS: usize = 16 * 1024;

/// Enough for `/proc/PID/cgroup` with paths of 600 bytes in each of 13 hierarchies: a pod's in a container
/// takes 350. Lines beyond it go unread.
const CGROUP: usize = 8 * 1024;

/// Generations of a process that are read at most.
pub(super) const ANCESTORS: usize = 32;

/// Inode number of the PID namespace that the host boots with (`PROC_PID_INIT_INO`, linux/proc_ns.h).
const HOST_PID_NAMESPACE: u64 = 0xEFFF_FFFC;

/// A process by its open `/proc/PID`: what is read through it is of this process or fails, also when
/// its number has been given to another meanwhile.
#[derive(Debug)]
pub struct Handle {
    pid: u32,
    directory: OwnedFd,
}

/// Of `/proc/PID/stat`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stat {
    /// `R`, `S`, ... `Z`, `X`: proc_pid_stat(5).
    pub state: u8,
    /// 0: no parent in this PID namespace.
    pub ppid: u32,
    pub threads: u32,
    /// Start, in ticks since boot.
    pub start: u64,
    /// `None`: tracer may not read it.
    image: Option<Image>,
}

/// Where the memory of a process has its stack and its arguments: execve() places them again, at random, and makes
/// place for other arguments; prctl(PR_SET_MM) moves them. Without address space randomization, arguments of one length look alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Image {
    stack: u64,
    arguments: (u64, u64),
}

/// A process, and what shows at the next query that it has executed nothing since.
#[derive(Clone, Debug)]
pub struct Described {
    pub process: Process,
    image: Option<Image>,
}

impl Handle {
    /// The process that has the number `pid` now.
    pub fn open(pid: u32) -> Result<Self, Errno> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = openat(CWD, format!("/proc/{pid}"), flags, Mode::empty())?;
        Ok(Self { pid, directory })
    }

    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// `/proc/PID`, for paths below it.
    pub fn directory(&self) -> BorrowedFd<'_> {
        self.directory.as_fd()
    }

    /// `None`: it has ended and was waited for.
    pub fn stat(&self) -> Option<Stat> {
        let mut buffer = [0; 1024];
        parse_stat(self.read(c"stat", &mut buffer)?).map(|(_, stat)| stat)
    }

    /// Everything that `/proc` shows of it now; `None`: it has ended.
    pub fn describe(&self) -> Option<Described> {
        let mut buffer = [0; 1024];
        // Before the arguments: should it execute another program between the two, the next query reads both again.
        let (name, stat) = parse_stat(self.read(c"stat", &mut buffer)?)?;
        let (container, unit) = self.cgroup();
        let exe = self.exe();
        let comm = Some(Text::new(name));
        let mut buffer = [0; PATH];
        let words = exe.as_ref().and_then(|_| self.read(c"cmdline", &mut buffer)).unwrap_or_default();
        let (script, arguments) =
            exe.as_ref().map_or((None, None), |exe| program::read(exe.file_name(), words));
        let Status { uid, ns_pid } = self.status();
        let process = Process {
            pid: Some(self.pid),
            ns_pid,
            ppid: (stat.ppid != 0).then_some(stat.ppid),
            uid,
            uid_at_exec: None,
            comm,
            script,
            arguments,
            exe,
            start: Some(StartTime::from_ticks(stat.start)),
            container,
            unit,
        };
        Some(Described { process, image: stat.image })
    }

    /// The same of one that was described before and has executed nothing since; `None`: that does not show. What only
    /// execve() changes is as it was, and so is the container: a process is put into one before it runs the container's
    /// program.
    ///
    /// Its arguments are not read: they are memory of the process, and whoever reads them waits while a large process forks
    /// (`get_mm_cmdline()`, fs/proc/base.c, and `dup_mmap()`, mm/mmap.c, which both lock it; Linux 6.18).
    pub fn describe_again(&self, before: &Described) -> Option<Described> {
        let mut buffer = [0; 1024];
        let (name, stat) = parse_stat(self.read(c"stat", &mut buffer)?)?;
        let Described { process, image } = before;
        let is_same = (process.pid, process.start) == (Some(self.pid), Some(StartTime::from_ticks(stat.start)))
            && image.is_some()
            && stat.image == *image
            && process.comm.as_ref().is_some_and(|comm| comm.as_bytes() == name)
            // One whose executable could not be read had not been described.
            && process.exe.is_some()
            && self.exe() == process.exe;
        if !is_same {
            return None;
        }
        let Status { uid, ns_pid } = self.status();
        let ppid = (stat.ppid != 0).then_some(stat.ppid);
        Some(Described { process: Process { ns_pid, ppid, uid, ..process.clone() }, image: *image })
    }

    fn status(&self) -> Status {
        let mut buffer = [0; STATUS];
        self.read(c"status", &mut buffer).map(parse_status).unwrap_or_default()
    }

    /// Path of its executable, where that can be read.
    pub(crate) fn exe(&self) -> Option<Text> {
        let mut buffer = [MaybeUninit::<u8>::uninit(); PATH];
        let (path, _) = readlinkat_raw(self.directory(), c"exe", &mut buffer).ok()?;
        Some(Text::new(path))
    }

    /// The container, and outside of one the unit.
    fn cgroup(&self) -> (Option<Container>, Option<Unit>) {
        let mut buffer = [0; CGROUP];
        let contents = self.read(c"cgroup", &mut buffer).unwrap_or_default();
        // A path cut short could name the outer one of two containers.
        let end = contents.iter().rposition(|&byte| byte == b'\n').unwrap_or_default();
        let container = container::from_cgroup(&contents[..end]);
        let unit = if container.is_none() { Unit::from_cgroup(&contents[..end]) } else { None };
        (container, unit)
    }

    /// The file's beginning, as much as the buffer takes.
    pub(crate) fn read<'a>(&self, name: &CStr, buffer: &'a mut [u8]) -> Option<&'a [u8]> {
        let file = openat(self.directory(), name, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).ok()?;
        let length = bounded::fill(&file, buffer, End::ShortRead).ok()?;
        Some(&buffer[..length])
    }
}

/// The process that has a number now; `None`: none has.
pub fn describe(pid: u32) -> Option<Process> {
    Some(Handle::open(pid).ok()?.describe()?.process)
}

/// A process, if it still is the one that has its number.
pub fn describe_same(key: ProcessKey) -> Option<Process> {
    // `/proc` shows starts to a tick. Numbers are given in turn, so that one comes back within a tick only to
    // a process that may choose it, which takes CAP_CHECKPOINT_RESTORE on the host (`alloc_pid()`, kernel/pid.c).
    describe(key.pid).filter(|process| process.start == Some(key.start))
}

/// What a process is recognised by as a server, and where it runs.
#[derive(Clone, Debug)]
pub struct Appearance {
    /// Its name, as it is.
    pub name: Vec<u8>,
    /// The beginning of its arguments, each ended by a NUL.
    pub arguments: Vec<u8>,
    /// Path of its executable, where that can be read.
    pub exe: Option<Text>,
    pub netns: NetnsId,
    pub start: StartTime,
}

impl Appearance {
    /// The file name of its executable.
    pub fn executable(&self) -> Option<&[u8]> {
        self.exe.as_ref().map(Text::file_name)
    }
}

/// Reads it of the process that has the number `pid` now.
pub fn appearance(pid: u32) -> Option<Appearance> {
    let handle = Handle::open(pid).ok()?;
    let mut buffer = [0; 1024];
    let (name, stat) = parse_stat(handle.read(c"stat", &mut buffer)?)?;
    let mut arguments = [0; PATH];
    let arguments = handle.read(c"cmdline", &mut arguments)?;
    let netns = statat(handle.directory(), c"ns/net", AtFlags::empty()).ok()?;
    Some(Appearance {
        name: name.to_vec(),
        arguments: arguments.to_vec(),
        exe: handle.exe(),
        netns: NetnsId(u32::try_from(netns.st_ino).ok()?),
        start: StartTime::from_ticks(stat.start),
    })
}

/// This process and those that it descends from, up to the first.
pub fn own_line() -> Vec<u32> {
    let mut line = vec![std::process::id()];
    while let Some(parent) = line.last().and_then(|pid| Handle::open(*pid).ok()?.stat()).map(|stat| stat.ppid)
        && parent > INIT
        && line.len() < ANCESTORS
    {
        line.push(parent);
    }
    line
}

/// Whether process numbers here are the host's, as the kernel's records have them. False where `/proc`
/// does not show it. Read once: a process stays in its PID namespace.
pub fn in_host_pid_namespace() -> bool {
    static ANSWER: OnceLock<bool> = OnceLock::new();
    *ANSWER.get_or_init(|| stat("/proc/self/ns/pid").is_ok_and(|stat| stat.st_ino == HOST_PID_NAMESPACE))
}

/// The name, as it is, and the rest. The name may hold anything, `)` and newlines included: what stands before the first
/// `(`, and behind the last `)`, cannot.
pub(crate) fn parse_stat(bytes: &[u8]) -> Option<(&[u8], Stat)> {
    let begin = bytes.iter().position(|&byte| byte == b'(')?;
    let end = bytes.iter().rposition(|&byte| byte == b')').filter(|end| begin < *end)?;
    let rest = str::from_utf8(&bytes[end + 1..]).ok()?;
    // The third field of the file is the first one here.
    let mut fields = rest.split_ascii_whitespace();
    let stat = Stat {
        state: *fields.next()?.as_bytes().first()?,
        ppid: fields.next()?.parse().ok()?,
        threads: fields.nth(15)?.parse().ok()?,
        start: fields.nth(1)?.parse().ok()?,
        image: parse_image(fields),
    };
    Some((&bytes[begin + 1..end], stat))
}

/// From the fields behind the start time. They are 0 for those who may not trace the process, and for a zombie
/// (`do_task_stat()`, fs/proc/array.c).
fn parse_image<'a>(mut fields: impl Iterator<Item = &'a str>) -> Option<Image> {
    let stack = fields.nth(5)?.parse().ok()?;
    let arguments = (fields.nth(19)?.parse().ok()?, fields.next()?.parse().ok()?);
    (stack != 0).then_some(Image { stack, arguments })
}

/// Of `/proc/PID/status`.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Status {
    pub uid: Option<u32>,
    pub ns_pid: Option<u32>,
}

/// The name in it is escaped by the kernel: it cannot begin a line of its own.
pub(crate) fn parse_status(bytes: &[u8]) -> Status {
    let mut status = Status::default();
    // The last piece may be cut; without its newline it is not a line.
    for line in bytes.split_inclusive(|&byte| byte == b'\n') {
        let Some(line) = line.strip_suffix(b"\n").and_then(|line| str::from_utf8(line).ok()) else {
            continue;
        };
        if let Some(ids) = line.strip_prefix("Uid:") {
            status.uid = ids.split_ascii_whitespace().next().and_then(|id| id.parse().ok());
        } else if let Some(ids) = line.strip_prefix("NSpid:") {
            status.ns_pid = ids.split_ascii_whitespace().next_back().and_then(|id| id.parse().ok());
        }
    }
    status
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stat_is_read_past_a_name_that_imitates_it() {
        let line =
            b"4242 (a) Z 1 (\n) b) S 17 4242 4242 0 -1 4194304 91 0 0 0 0 0 0 0 20 0 3 0 123456 8 9 10\n";
        let stat = Stat { state: b'S', ppid: 17, threads: 3, start: 123_456, image: None };
        assert_eq!(parse_stat(line), Some((&b"a) Z 1 (\n) b"[..], stat)));
        assert_eq!(parse_stat(&line[..60]), None);
        assert_eq!(parse_stat(b""), None);
        assert_eq!(parse_stat(b"1 ) ("), None);
        assert_eq!(parse_stat(b"1 (\xff) \xff"), None);
    }

    #[test]
    fn status_gives_the_real_user_and_the_innermost_pid() {
        let text =
            b"Name:\tNSpid:\\n1\nUid:\t1000\t0\t0\t0\nGroups:\t4 \xff\nNSpid:\t4242\t7\nKthread:\t0\nUid:\t1";
        assert_eq!(parse_status(text), Status { uid: Some(1000), ns_pid: Some(7) });
        assert_eq!(parse_status(b"Uid:\t10"), Status::default());
    }

    #[test]
    fn only_one_that_has_executed_nothing_is_described_again() {
        let handle = Handle::open(std::process::id()).unwrap();
        let now = handle.describe().unwrap();
        // The container is not read again, and the user is: each shows where it comes from.
        let container = Some(Container {
            id: "0".repeat(64),
            runtime: Some("docker".to_owned()),
            name: None,
            pod_uid: None,
        });
        let process = Process { container: container.clone(), uid: Some(4242), ..now.process.clone() };
        let before = Described { process: process.clone(), ..now.clone() };
        let again = handle.describe_again(&before).unwrap();
        assert_eq!(again.process, Process { container, ..now.process.clone() });
        let of = |process: Process| Described { process, image: now.image };
        let image = now.image.unwrap();
        for other in [
            of(Process { start: Some(StartTime::from_ticks(1)), ..process.clone() }),
            of(Process { exe: None, ..process.clone() }),
            of(Process { exe: Some(Text::new(b"/bin/other")), ..process.clone() }),
            of(Process { comm: Some(Text::new(b"other")), ..process.clone() }),
            Described { image: None, ..before.clone() },
            Described { image: Some(Image { stack: image.stack + 16, ..image }), ..before.clone() },
            Described {
                image: Some(Image { arguments: (image.arguments.0, image.arguments.1 + 1), ..image }),
                ..before.clone()
            },
        ] {
            assert!(handle.describe_again(&other).is_none(), "{other:?}");
        }
    }

    #[test]
    fn a_process_knows_itself_and_no_other_start() {
        let pid = std::process::id();
        let ticks = Handle::open(pid).unwrap().stat().unwrap().start;
        let key = |ticks| ProcessKey { pid, start: StartTime::from_ticks(ticks) };
        let process = describe_same(key(ticks)).unwrap();
        assert_eq!(process.key(), Some(key(ticks)));
        assert!(process.exe.unwrap().as_bytes().starts_with(b"/"));
        assert_eq!(describe_same(key(ticks + 1)), None);
    }
}
