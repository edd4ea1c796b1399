//! Carries out a plan: a namespace of its own, real processes, real sockets; and records what happened and when.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{self, AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use rustix::thread::UnshareFlags;

use super::plan::{
    Address, Client, Connect, LATE, OWN_V4, OWN_V6, PROGRAMS, Plan, PortName, Ports, Program, Step,
};
use super::player::{self, now};

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// Something that happened, between two points of the monotonic clock.
#[derive(Clone, Debug)]
pub struct Event {
    pub before: u64,
    pub after: u64,
    pub act: Act,
}

/// What happened. Processes and sockets are numbered as in the plan.
#[derive(Clone, Debug)]
pub enum Act {
    Started { process: usize, program: Program },
    Forked { process: usize, child: usize },
    Execed { process: usize, name: usize, keeps: bool },
    Ended { process: usize },
    Bound { process: usize, socket: usize, port: PortName, address: Address, reuse: bool, errno: i32 },
    Listened { process: usize, socket: usize, errno: i32 },
    Closed { process: usize, socket: usize },
    Connected { number: usize, connect: Connect, errno: i32 },
}

/// A connect that was made.
#[derive(Clone, Copy, Debug)]
pub struct Made {
    pub pid: u32,
    /// Of the namespace.
    pub netns: u32,
    pub to: SocketAddr,
}

/// All that happened, and the process of each connect.
#[derive(Debug, Default)]
pub struct Record {
    pub events: Vec<Event>,
    pub pids: BTreeMap<usize, u32>,
}

/// The copy of this program under the names of all programs.
pub struct Programs(tempfile::TempDir);

impl Programs {
    pub fn new() -> std::io::Result<Self> {
        use std::os::unix::fs::PermissionsExt;
        let directory = tempfile::tempdir()?;
        let first = directory.path().join(PROGRAMS[0]);
        std::fs::copy(std::env::current_exe()?, &first)?;
        // Processes of other users execute it, whatever umask it was built under.
        for path in [directory.path(), &first] {
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755))?;
        }
        for name in &PROGRAMS[1..] {
            std::fs::hard_link(&first, directory.path().join(name))?;
        }
        Ok(Self(directory))
    }

    fn path(&self, name: usize) -> PathBuf {
        self.0.path().join(PROGRAMS[name])
    }
}

struct Process {
    pid: u32,
    channel: OwnedFd,
    /// Readable when the process has ended.
    end: OwnedFd,
    sockets: Vec<usize>,
    is_child: bool,
    is_alive: bool,
}

/// The processes of one history, which end when it is dropped.
pub struct Stage<'a> {
    programs: &'a Programs,
    ports: Ports,
    pub netns: u32,
    processes: BTreeMap<usize, Process>,
    /// Our ends of the channels of processes to be forked.
    channels: BTreeMap<usize, OwnedFd>,
    clients: Vec<(u32, OwnedFd)>,
    record: Record,
}

/// Puts the calling thread into a new namespace with the addresses of a history; gives its number.
fn enter_namespace() -> u32 {
    // SAFETY: the thread relies on nothing of its network namespace.
    unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNET) }.expect("a network namespace");
    let socket = net::socket(AddressFamily::INET, SocketType::DGRAM, None).expect("a socket");
    let mut request = interface("lo");
    request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
    control(socket.as_fd(), libc::SIOCSIFFLAGS, &mut request);
    add_v4(OWN_V4.into(), "lo:0");
    let socket = net::socket(AddressFamily::INET6, SocketType::DGRAM, None).expect("a socket");
    // in6_ifreq of linux/ipv6.h; `lo` is the first interface of every namespace.
    #[repr(C)]
    struct Request {
        address: [u8; 16],
        length: u32,
        index: i32,
    }
    control(
        socket.as_fd(),
        libc::SIOCSIFADDR,
        &mut Request { address: OWN_V6.octets(), length: 128, index: 1 },
    );
    super::super::netns::inode(Path::new("/proc/thread-self/ns/net"))
}

fn interface(name: &str) -> libc::ifreq {
    // SAFETY: a plain structure for which zero is a value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = from.cast_signed();
    }
    request
}

/// Adds an address to `lo` under this label.
fn add_v4(ip: IpAddr, label: &str) {
    let IpAddr::V4(ip) = ip else { panic!("`{ip}` is not IPv4") };
    let socket = net::socket(AddressFamily::INET, SocketType::DGRAM, None).expect("a socket");
    for (call, octets) in [(libc::SIOCSIFADDR, ip.octets()), (libc::SIOCSIFNETMASK, [255; 4])] {
        let mut request = interface(label);
        let address = libc::sockaddr_in {
            sin_family: libc::AF_INET as libc::sa_family_t,
            sin_port: 0,
            sin_addr: libc::in_addr { s_addr: u32::from_ne_bytes(octets) },
            sin_zero: [0; 8],
        };
        // SAFETY: both are plain structures of the same size.
        request.ifr_ifru.ifru_addr =
            unsafe { std::mem::transmute::<libc::sockaddr_in, libc::sockaddr>(address) };
        control(socket.as_fd(), call, &mut request);
    }
}

fn control<T>(socket: BorrowedFd<'_>, call: libc::c_ulong, request: &mut T) {
    // SAFETY: the structure is the one of the call, and outlives it.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), call, std::ptr::from_mut(request)) };
    assert!(result == 0, "ioctl {call:#x}: {}", std::io::Error::last_os_error());
}

fn pair() -> (OwnedFd, OwnedFd) {
    net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
        .expect("two sockets")
}

fn readable(descriptors: &[BorrowedFd<'_>]) -> Vec<bool> {
    let mut entries: Vec<PollFd<'_>> =
        descriptors.iter().map(|fd| PollFd::from_borrowed_fd(*fd, PollFlags::IN)).collect();
    let timeout = Timespec { tv_sec: i64::try_from(PATIENCE.as_secs()).expect("seconds"), tv_nsec: 0 };
    poll(&mut entries, Some(&timeout)).expect("to poll");
    entries.iter().map(|entry| !entry.revents().is_empty()).collect()
}

/// The three numbers of an answer.
fn answer(channel: BorrowedFd<'_>) -> (u64, u64, i32) {
    assert!(readable(&[channel])[0], "no answer");
    let mut message = [0; 128];
    let (length, _) = net::recv(channel, &mut message, RecvFlags::empty()).expect("an answer");
    let text = String::from_utf8_lossy(&message[..length]).into_owned();
    let words: Vec<&str> = text.split(' ').collect();
    let [before, after, errno] = words.as_slice() else { panic!("a player answered `{text}`") };
    let parse = |word: &str| word.parse::<u64>().expect("a time");
    (parse(before), parse(after), errno.parse().expect("an errno"))
}

impl<'a> Stage<'a> {
    /// For the next history: the thread moves to a namespace of its own.
    pub fn new(programs: &'a Programs, ports: Ports) -> Self {
        let netns = enter_namespace();
        Self {
            programs,
            ports,
            netns,
            processes: BTreeMap::new(),
            channels: BTreeMap::new(),
            clients: Vec::new(),
            record: Record::default(),
        }
    }

    /// Carries out all steps; `wait` is called for each refused connect that is waited for.
    pub fn run(&mut self, plan: &Plan, mut wait: impl FnMut(Made)) {
        let mut next_process = 0;
        let mut next_socket = 0;
        let mut next_connect = 0;
        for (place, step) in plan.steps.iter().enumerate() {
            match step {
                Step::Start(program) => {
                    self.start(next_process, *program, &forks(&plan.steps, next_process));
                    next_process += 1;
                }
                Step::Fork { process } => {
                    self.fork(*process, next_process);
                    next_process += 1;
                }
                Step::Bind { process, port, address, reuse } => {
                    self.bind(*process, next_socket, (*port, *address, *reuse));
                    next_socket += 1;
                }
                Step::Listen { process, socket } => {
                    let (process, socket) = (*process, *socket);
                    if let Some((before, after, errno)) = self.ask_of(process, socket, "listen") {
                        self.note(before, after, Act::Listened { process, socket, errno });
                    }
                }
                Step::Close { process, socket } => {
                    let (process, socket) = (*process, *socket);
                    if let Some((before, after, _)) = self.ask_of(process, socket, "close") {
                        let held = &mut self.processes.get_mut(&process).expect("a process").sockets;
                        held.retain(|one| *one != socket);
                        self.note(before, after, Act::Closed { process, socket });
                    }
                }
                Step::Exec { process, name, keeps } => self.exec(*process, *name, *keeps),
                Step::Exit { process, code } => self.end(*process, Some(*code)),
                Step::Kill { process } => self.end(*process, None),
                Step::Wait(milliseconds) => std::thread::sleep(Duration::from_millis(*milliseconds)),
                Step::AddAddress => add_v4(LATE, "lo:1"),
                Step::Connect(connect) => {
                    let made = self.connect(next_connect, *connect);
                    next_connect += 1;
                    let is_last = plan.steps[place + 1..].is_empty();
                    if let Some(made) = made.filter(|_| connect.waits || is_last) {
                        wait(made);
                    }
                }
            }
        }
    }

    /// The record of the history so far.
    pub fn record(&self) -> &Record {
        &self.record
    }

    fn note(&mut self, before: u64, after: u64, act: Act) {
        self.record.events.push(Event { before, after, act });
    }

    fn start(&mut self, number: usize, program: Program, forks: &[usize]) {
        let (ours, theirs) = pair();
        let mut inherited = vec![theirs.as_raw_fd()];
        let mut channels = Vec::new();
        let mut kept = Vec::new();
        for &fork in forks {
            let (ours, theirs) = pair();
            inherited.push(theirs.as_raw_fd());
            channels.push((fork, theirs.as_raw_fd()));
            kept.push(theirs);
            self.channels.insert(fork, ours);
        }
        let mut command = Command::new(self.programs.path(program.name));
        command.stdin(Stdio::null()).stdout(Stdio::null()).uid(program.uid).gid(program.uid).process_group(0);
        command.env_clear().current_dir("/");
        let descriptors = [theirs.as_raw_fd().to_string(), String::new(), player::list(channels)];
        player::plays(&mut command, descriptors, program.has_other_arguments);
        // SAFETY: fcntl() is all that runs between fork and exec.
        unsafe {
            command.pre_exec(move || {
                for descriptor in &inherited {
                    if libc::fcntl(*descriptor, libc::F_SETFD, 0) != 0 {
                        return Err(std::io::Error::last_os_error());
                    }
                }
                Ok(())
            });
        }
        let before = now();
        #[expect(clippy::zombie_processes, reason = "it is reaped by its id when the history ends")]
        let child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        drop((theirs, kept));
        let pid = child.id();
        let (_, after, _) = answer(ours.as_fd());
        self.insert(number, pid, ours, Vec::new(), true);
        self.note(before, after, Act::Started { process: number, program });
    }

    fn insert(&mut self, number: usize, pid: u32, channel: OwnedFd, sockets: Vec<usize>, is_child: bool) {
        let id = Pid::from_raw(i32::try_from(pid).expect("a process id")).expect("a process id");
        let end = pidfd_open(id, PidfdFlags::empty()).expect("a process that is running");
        self.processes.insert(number, Process { pid, channel, end, sockets, is_child, is_alive: true });
    }

    fn alive(&self, number: usize) -> Option<&Process> {
        self.processes.get(&number).filter(|process| process.is_alive)
    }

    fn ask(&self, number: usize, command: &str) -> Option<(u64, u64, i32)> {
        let process = self.alive(number)?;
        net::send(&process.channel, command.as_bytes(), SendFlags::NOSIGNAL).expect("to send a command");
        let is_readable = readable(&[process.channel.as_fd(), process.end.as_fd()]);
        assert!(is_readable[0], "process {number} has ended or does not answer to `{command}`");
        Some(answer(process.channel.as_fd()))
    }

    /// The same, of a socket that the process has.
    fn ask_of(&self, process: usize, socket: usize, call: &str) -> Option<(u64, u64, i32)> {
        self.alive(process)?.sockets.contains(&socket).then_some(())?;
        self.ask(process, &format!("{call} {socket}"))
    }

    fn bind(&mut self, process: usize, socket: usize, what: (PortName, Address, bool)) {
        let (port, address, reuse) = what;
        let to = self.ports.socket(port, address.ip);
        let Some((before, after, errno)) =
            self.ask(process, &format!("bind {socket} {to} {} {reuse}", address.v6only))
        else {
            return;
        };
        if errno == 0 {
            self.processes.get_mut(&process).expect("a process").sockets.push(socket);
        }
        self.note(before, after, Act::Bound { process, socket, port, address, reuse, errno });
    }

    fn fork(&mut self, process: usize, child: usize) {
        let Some((before, _, pid)) = self.ask(process, &format!("fork {child}")) else { return };
        let channel = self.channels.remove(&child).expect("a channel for each fork");
        let (_, after, _) = answer(channel.as_fd());
        let sockets = self.processes[&process].sockets.clone();
        self.insert(child, pid.cast_unsigned(), channel, sockets, false);
        self.note(before, after, Act::Forked { process, child });
    }

    fn exec(&mut self, process: usize, name: usize, keeps: bool) {
        let path = self.programs.path(name).display().to_string();
        let before = now();
        let Some((_, after, _)) = self.ask(process, &format!("exec {path} {keeps} false")) else { return };
        if !keeps {
            self.processes.get_mut(&process).expect("a process").sockets.clear();
        }
        self.note(before, after, Act::Execed { process, name, keeps });
    }

    fn end(&mut self, number: usize, code: Option<u8>) {
        let Some(process) = self.alive(number) else { return };
        let before = now();
        match code {
            Some(code) => {
                let command = format!("exit {code}");
                net::send(&process.channel, command.as_bytes(), SendFlags::NOSIGNAL)
                    .expect("to send a command");
            }
            None => kill(process.pid),
        }
        assert!(readable(&[process.end.as_fd()])[0], "process {number} does not end");
        let after = now();
        self.processes.get_mut(&number).expect("a process").is_alive = false;
        self.note(before, after, Act::Ended { process: number });
    }

    fn connect(&mut self, number: usize, connect: Connect) -> Option<Made> {
        let address = self.ports.socket(connect.port, connect.ip);
        let (pid, (before, after, errno)) = match connect.client {
            Client::Fresh { uid } => {
                let (ours, theirs) = pair();
                let name = format!("client-{number}");
                let pid = fork_client(address, uid, &name, theirs.as_fd());
                let times = answer(ours.as_fd());
                self.clients.push((pid, ours));
                (pid, times)
            }
            Client::Process(process) => {
                let times = self.ask(process, &format!("connect {address}"))?;
                (self.processes[&process].pid, times)
            }
        };
        self.note(before, after, Act::Connected { number, connect, errno });
        self.record.pids.insert(number, pid);
        (errno == libc::ECONNREFUSED).then_some(Made { pid, netns: self.netns, to: address })
    }
}

impl Drop for Stage<'_> {
    fn drop(&mut self) {
        for process in self.processes.values().filter(|process| process.is_alive) {
            kill(process.pid);
        }
        for (pid, channel) in self.clients.drain(..) {
            drop(channel);
            kill(pid);
            reap(pid);
        }
        // First the children of this process: what they have forked is this process's only after their end.
        for process in self.processes.values().filter(|process| process.is_child) {
            reap(process.pid);
        }
        for process in self.processes.values().filter(|process| !process.is_child) {
            readable(&[process.end.as_fd()]);
            reap(process.pid);
        }
    }
}

fn kill(pid: u32) {
    // SAFETY: a plain system call; the process was started here and has not been reaped.
    unsafe { libc::kill(pid.cast_signed(), libc::SIGKILL) };
}

fn reap(pid: u32) {
    // SAFETY: a plain system call without a result to write to. One that is another's child was reaped there.
    unsafe { libc::waitpid(pid.cast_signed(), std::ptr::null_mut(), 0) };
}

/// The processes that will descend from this one by fork.
fn forks(steps: &[Step], ancestor: usize) -> Vec<usize> {
    let mut family = vec![ancestor];
    let mut next = 0;
    for step in steps {
        match step {
            Step::Fork { process } => {
                if family.contains(process) {
                    family.push(next);
                }
                next += 1;
            }
            Step::Start(_) => next += 1,
            _ => {}
        }
    }
    family.split_off(1)
}

/// A process that connects once, reports on its channel, and ends with it.
fn fork_client(address: SocketAddr, uid: u32, name: &str, channel: BorrowedFd<'_>) -> u32 {
    let name = std::ffi::CString::new(name).expect("no NUL");
    let channel = channel.as_raw_fd();
    let (storage, length) = raw(address);
    // SAFETY: between fork() and _exit() only async-signal-safe calls are made, for this program has other threads.
    unsafe {
        let pid = libc::fork();
        assert!(pid >= 0, "fork: {}", std::io::Error::last_os_error());
        if pid > 0 {
            return pid.cast_unsigned();
        }
        // Nothing of the other histories is kept open.
        if channel > 3 {
            libc::close_range(3, channel.cast_unsigned() - 1, 0);
        }
        libc::close_range(channel.cast_unsigned() + 1, u32::MAX, 0);
        libc::prctl(libc::PR_SET_NAME, name.as_ptr());
        libc::setresuid(uid, uid, uid);
        let family = libc::c_int::from(storage.ss_family);
        let socket = libc::socket(family, libc::SOCK_STREAM, 0);
        let before = now();
        let result = libc::connect(socket, (&raw const storage).cast(), length);
        let errno = if result == 0 { 0 } else { *libc::__errno_location() };
        let after = now();
        let mut message = [0_u8; 64];
        let length = write_numbers(&mut message, before, after, errno.cast_unsigned().into());
        libc::send(channel, message.as_ptr().cast(), length, libc::MSG_NOSIGNAL);
        libc::close(socket);
        libc::recv(channel, message.as_mut_ptr().cast(), message.len(), 0);
        libc::_exit(0)
    }
}

fn raw(address: SocketAddr) -> (libc::sockaddr_storage, libc::socklen_t) {
    // SAFETY: a plain structure for which zero is a value.
    let mut storage: libc::sockaddr_storage = unsafe { std::mem::zeroed() };
    let length = match address {
        SocketAddr::V4(address) => {
            let raw = libc::sockaddr_in {
                sin_family: libc::AF_INET as libc::sa_family_t,
                sin_port: address.port().to_be(),
                sin_addr: libc::in_addr { s_addr: u32::from_ne_bytes(address.ip().octets()) },
                sin_zero: [0; 8],
            };
            // SAFETY: the storage is large enough and aligned for every address.
            unsafe { (&raw mut storage).cast::<libc::sockaddr_in>().write(raw) };
            size_of::<libc::sockaddr_in>()
        }
        SocketAddr::V6(address) => {
            let raw = libc::sockaddr_in6 {
                sin6_family: libc::AF_INET6 as libc::sa_family_t,
                sin6_port: address.port().to_be(),
                sin6_flowinfo: 0,
                sin6_addr: libc::in6_addr { s6_addr: address.ip().octets() },
                sin6_scope_id: 0,
            };
            // SAFETY: the storage is large enough and aligned for every address.
            unsafe { (&raw mut storage).cast::<libc::sockaddr_in6>().write(raw) };
            size_of::<libc::sockaddr_in6>()
        }
    };
    (storage, libc::socklen_t::try_from(length).expect("a small size"))
}

/// Decimal numbers with spaces between, without an allocation; gives the length.
fn write_numbers(to: &mut [u8; 64], first: u64, second: u64, third: u64) -> usize {
    let mut length = 0;
    for (place, number) in [first, second, third].into_iter().enumerate() {
        if place > 0 {
            to[length] = b' ';
            length += 1;
        }
        let mut digits = [0_u8; 20];
        let (mut count, mut rest) = (0, number);
        while rest > 0 || count == 0 {
            digits[count] = b'0' + u8::try_from(rest % 10).unwrap_or_default();
            rest /= 10;
            count += 1;
        }
        while count > 0 {
            count -= 1;
            to[length] = digits[count];
            length += 1;
        }
    }
    length
}

/// A moment from which a deadline counts.
pub fn deadline() -> Instant {
    Instant::now() + PATIENCE
}
