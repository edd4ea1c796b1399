//! The wire format shared by the kernel programs and the user side.
//!
//! Everything here is fixed-width, free of padding and of types with invalid bit patterns (no `bool`,
//! no `enum`, no `Option`): the kernel side writes these structures into the ring buffer as they are,
//! and the user side reads them from bytes. Numbers are in the host's byte order unless a field states
//! otherwise; the programs are built for little-endian machines only.

#![no_std]

/// How many ports can be watched at a time.
pub const PORTS_MAX: usize = 16;

/// Marks an offset that the running kernel's BTF does not have.
pub const MISSING: u32 = u32::MAX;

/// Bytes of the ring buffer: about 8,000 refusals, which outlasts a reader stalled for a second at
/// eight thousand refusals a second. A power of two and a multiple of the page size, as the kernel asks.
pub const RING_BYTES: u32 = 2 << 20;

/// Connection attempts that can be under way to watched ports at a time. Only those in SYN_SENT count:
/// to this host they last microseconds, so only connects that get no answer reach the bound. Each of those takes a local
/// port, of which there are 28,000 for one destination. One more is not followed, and counted as
/// [`lost::ATTEMPTS`]. The table takes 2 MiB of memory, full or not.
pub const ATTEMPTS_MAX: u32 = 16_384;

/// Bytes that the kernel side keeps of each.
pub const ATTEMPT_BYTES: usize = 8 + size_of::<Task>() + 24;

/// Places for resets between the stack that sends one and the socket that gets it: microseconds on loopback, so
/// that a handful would do; two that meet in one place are recorded as unknown. A power of two.
pub const RESETS_MAX: u32 = 1 << 14;

/// Sockets bound to a watched port that have not been destroyed: a socket for each address of a host, and for each
/// worker that shares the port, would be hundreds. More are not followed, which their record shows
/// ([`Bound::followed`]): such a socket counts as a server's that succeeded, and a scan of the port finds it.
pub const BOUND_MAX: u32 = 4_096;

/// Processes whose end is recorded: owners of listeners, and those that the user side asks for. Half of the processes that
/// a host can have by default (`pid_max`), though few of them belong to a server. The end of one more is not recorded, which
/// is counted as [`lost::FOLLOWED`].
pub const FOLLOWED_MAX: u32 = 16_384;

/// Processes that hold a listener on a watched port, whose connects are recorded on every port. Each is among
/// [`FOLLOWED_MAX`] too, where one without a place is counted.
pub const HOLDERS_MAX: u32 = FOLLOWED_MAX;

/// Destinations that processes with a watched listener have reached on other ports, whose last record is remembered.
pub const REACHED_MAX: u32 = 1 << 10;

/// How long after the record that such a destination was reached no other is recorded: nanoseconds.
pub const REACHED_NS: u64 = 10_000_000_000;

/// Such records in one second at most: a proxy with many destinations does not fill the ring.
pub const REACHED_PER_SECOND: u64 = 64;

/// Ports that the user side can add to the watched ones while the programs run: a bit each, in words of 64.
pub const PORT_WORDS: u32 = 1 << 10;

/// Processes that were refused a moment ago, whose next connects are recorded: more than are refused in a second, even in a
/// flood, where each connect is made by a process of its own. Of more, the one that was refused longest ago is forgotten: its
/// connect to the other family is then not recorded, and its refusal is reported although the client had a fallback, never
/// the other way round.
pub const REFUSED_MAX: u32 = 1_024;

/// How long a refused process's connects are recorded: time enough to try the other family.
pub const FALLBACK_NS: u64 = 1_000_000_000;

/// Threads that can be inside a `bind()` system call to a watched port at a time, where those are followed: it takes
/// microseconds, so that each processor has one. An entry whose program the kernel skipped at the call's end is evicted by its
/// age.
pub const BINDING_MAX: u32 = 4_096;

/// Sockets that began to listen on each processor, whose time is remembered: more than a host starts servers in an hour. The
/// time of the one that began longest ago is forgotten. They take 8 KiB of memory for each processor.
pub const OPENINGS_MAX: usize = 512;

/// Listeners of followed processes on ports that are not watched, whose end is recorded: of more, that of the one that opened
/// longest ago is not, unless a followed process closes it.
pub const ELSEWHERE_MAX: u32 = 1_024;

/// Threads between the first and the second one of two redundant programs; and those whose second program was skipped.
pub const SEEN_MAX: u32 = 4_096;

/// Names of programs whose start is recorded, where [`Config::exec_all`] is not set: those of the products, and those of
/// every program that was seen to listen. The start of a program with another name is then not recorded.
pub const NAMES_MAX: u32 = 256;

/// Bytes of such a name, its NUL included: as many as the kernel keeps of a process's name (`TASK_COMM_LEN`). Longer ones
/// count by their first fifteen.
pub const NAME_BYTES: usize = 16;

/// Bytes of the name of an executable that are recorded, its NUL included.
pub const FILE_NAME_BYTES: usize = 64;

/// Bytes of a program's arguments that are recorded. Long options, as those of java, can stand before what distinguishes one program
/// from another.
pub const ARGUMENTS_BYTES: usize = 1_024;

/// Values of [`Header::kind`].
pub mod kind {
    /// CLOSE -> LISTEN: an [`crate::Opened`].
    pub const OPENED: u32 = 1;
    /// LISTEN -> CLOSE: a [`crate::Closed`].
    pub const CLOSED: u32 = 2;
    /// A connect was refused: a [`crate::Refused`].
    pub const REFUSED: u32 = 3;
    /// A `bind()` to a watched port has returned: a [`crate::Bound`].
    pub const BOUND: u32 = 4;
    /// A socket bound to a watched port was destroyed: a [`crate::Destroyed`].
    pub const DESTROYED: u32 = 5;
    /// A followed process has ended: an [`crate::Exited`].
    pub const EXITED: u32 = 6;
    /// A program that may be a server has started: an [`crate::Executed`].
    pub const EXECUTED: u32 = 7;
    /// A process that was refused a moment ago has connected: a [`crate::Connected`].
    pub const CONNECTED: u32 = 8;
    /// A connect ended otherwise than by a refusal: a [`crate::Failed`].
    pub const FAILED: u32 = 9;
    /// A followed process has forked: a [`crate::Forked`].
    pub const FORKED: u32 = 12;
    /// A `listen()` on a watched port has returned: a [`crate::Listened`].
    pub const LISTENED: u32 = 11;
    /// A process that holds a watched listener has connected to a port that is not watched: a [`crate::Connected`].
    pub const REACHED: u32 = 13;
    /// CLOSE -> LISTEN on a port that is not watched, by a followed process: an [`crate::Opened`].
    pub const OPENED_ELSEWHERE: u32 = 14;
    /// LISTEN -> CLOSE of such a socket, or of another one by a followed process: a [`crate::Closed`].
    pub const CLOSED_ELSEWHERE: u32 = 15;
    /// Something was lost that leaves no other record, a [`crate::Header`] alone: the counters show what.
    pub const LOST: u32 = 10;
}

/// Values of [`Refused::via`].
pub mod via {
    /// A TCP segment with the RST flag.
    pub const RST: u32 = 1;
    /// An ICMP or ICMPv6 message that means "connection refused" (port or protocol unreachable).
    pub const ICMP: u32 = 2;
}

/// Values of [`Refused::sent_by`].
pub mod sent_by {
    /// Not known: the kernel has no `tcp_send_reset` tracepoint, or no RST was involved.
    pub const UNKNOWN: u32 = 0;
    /// This host's TCP stack found no socket for the segment and sent the RST.
    pub const TCP: u32 = 1;
    /// The same, for a segment that had another destination by then than the socket connects to.
    pub const TCP_REDIRECTED: u32 = 3;
    /// No TCP stack of this host sent it.
    pub const NOT_TCP: u32 = 2;
}

/// Values of [`Opened::hashed`] and [`Closed::hashed`]: whether the socket has ever been in the table in which the kernel
/// looks listeners up (`SOCK_RCU_FREE`, which `__inet_hash` sets, net/ipv4/inet_hashtables.c).
pub mod hashed {
    /// The record does not show it.
    pub const UNKNOWN: u32 = 0;
    pub const NEVER: u32 = 1;
    /// It is, or was once: the kernel does not take the mark back.
    pub const ONCE: u32 = 2;
}

/// Values of [`Refused::role`].
pub mod role {
    /// A connect to a watched port.
    pub const CLIENT: u32 = 0;
    /// A connect to any port, of a process that holds a listener on a watched port.
    pub const UPSTREAM: u32 = 1;
}

/// Indexes of the gates: numbers that show whether a look-up can find anything, so that other connects pay for none.
pub mod gate {
    /// 1 once a process was found to hold a listener on a watched port.
    pub const HOLDERS: u32 = 0;
    /// How many ports the user side has added to the watched ones.
    pub const ADDED_PORTS: u32 = 1;
    /// Recorded connects under way to other ports than those of [`crate::Config::ports`].
    pub const OTHER_ATTEMPTS: u32 = 2;
    /// 1 once a connect to one of those began.
    pub const CONNECTS: u32 = 3;
    /// How many there are.
    pub const COUNT: u32 = 4;
}

/// Values of [`Closed::closer`].
pub mod closer {
    /// A process that is still running.
    pub const PROCESS: u32 = 0;
    /// A process that is ending.
    pub const EXITING: u32 = 1;
    /// The kernel itself, for a process that has released the socket: one that ended with the socket on its way
    /// through a Unix socket.
    pub const KERNEL: u32 = 2;
    /// A process that has executed a program which has not run yet: execve() closes what is marked close-on-exec.
    pub const EXEC: u32 = 3;
}

/// Indexes of the per-CPU loss counters.
pub mod lost {
    /// Records that found the ring buffer full.
    pub const RING: usize = 0;
    /// Connection attempts that found the attempts table full.
    pub const ATTEMPTS: usize = 1;
    /// Connection attempts whose end no program saw: their sockets have begun another one.
    pub const ENDS: usize = 2;
    /// Processes that found the table of those whose end is recorded full.
    pub const FOLLOWED: usize = 3;
    /// How many counters there are.
    pub const COUNTERS: usize = 4;
}

/// What every record begins with.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Header {
    /// One of [`kind`].
    pub kind: u32,
    /// Bytes of the whole record, this header included.
    pub size: u32,
    /// `CLOCK_MONOTONIC` nanoseconds at the event.
    pub time: u64,
}

/// The process in whose context an event happened: its thread group, not the thread.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Task {
    /// Nanoseconds since boot, suspend included, at which the thread group leader started; 0: unknown.
    pub start_time: u64,
    /// Id of the cgroup v2 directory; the root's on a host with cgroup v1.
    pub cgroup: u64,
    /// Process id (thread group id) as the host counts.
    pub pid: u32,
    /// Thread id as the host counts.
    pub tid: u32,
    /// Process id as its own innermost PID namespace counts; 0: unknown.
    pub ns_pid: u32,
    /// Process id of the parent as the host counts; 0: none or unknown.
    pub parent: u32,
    /// Real user id as the host's user namespace counts.
    pub uid: u32,
    /// Always 0.
    pub reserved: u32,
    /// Name of the thread group leader, ended by a NUL: any bytes, chosen by the process itself.
    pub comm: [u8; 16],
}

/// A TCP socket at the moment of an event.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Socket {
    /// Socket cookie; 0 where the kernel does not allow its helper to tracing programs (before 5.12).
    pub cookie: u64,
    /// Inode number in sockfs; 0: the socket has none.
    pub inode: u64,
    /// Cookie of the network namespace; 0 where the kernel has none or has not set it.
    pub netns_cookie: u64,
    /// Inode number of the network namespace, as in `/proc/PID/ns/net`.
    pub netns: u32,
    /// Interface index that the socket is bound to; 0: none.
    pub device: u32,
    /// Local address in network order; of an `AF_INET` socket the first four bytes.
    pub local: [u8; 16],
    /// Remote address, likewise; zero for a listener.
    pub remote: [u8; 16],
    /// Local port; 0: not chosen yet.
    pub local_port: u16,
    /// Remote port; 0 for a listener.
    pub remote_port: u16,
    /// `AF_INET` (2) or `AF_INET6` (10).
    pub family: u16,
    /// 1 when the socket is for IPv6 only, else 0.
    pub v6only: u16,
}

/// When a socket began to listen.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Opening {
    /// Inode number in sockfs.
    pub inode: u64,
    /// `CLOCK_MONOTONIC` nanoseconds at CLOSE -> LISTEN.
    pub time: u64,
}

/// The sockets that began to listen on one processor, on any port.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Openings {
    /// How many there were.
    pub count: u64,
    /// The last of them: number N is in place N modulo [`OPENINGS_MAX`].
    pub last: [Opening; OPENINGS_MAX],
}

/// A socket entered LISTEN. Its `listen()` can still fail: then a [`Closed`] follows immediately.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Opened {
    pub header: Header,
    pub socket: Socket,
    /// The process that called `listen()`.
    pub task: Task,
    /// The accept queue's bound as passed to `listen()`, capped by `net.core.somaxconn`.
    pub backlog: u32,
    /// One of [`hashed`], as of before this `listen()`.
    pub hashed: u32,
}

/// A `listen()` has returned, which an [`Opened`] came before.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Listened {
    pub header: Header,
    pub socket: Socket,
    /// 1 when the socket listens, else 0.
    pub succeeded: u64,
}

/// A socket left LISTEN.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Closed {
    pub header: Header,
    pub socket: Socket,
    /// The process that closed it: the last holder, or an administrator's `ss -K`.
    pub task: Task,
    /// `sk_shutdown`: 3 when the socket is closed; 0 when its `listen()` failed, and when a subflow of MPTCP is closed.
    pub shutdown: u32,
    /// One of [`closer`].
    pub closer: u32,
    /// With [`closer::EXITING`]: the wait status, the exit code shifted left by 8, or the signal.
    pub exit_code: u32,
    /// One of [`hashed`].
    pub hashed: u32,
}

/// A connection attempt was refused.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Refused {
    pub header: Header,
    pub socket: Socket,
    /// The process that called `connect()`.
    pub task: Task,
    /// `CLOCK_MONOTONIC` nanoseconds at which the attempt began (CLOSE -> SYN_SENT).
    pub started: u64,
    /// One of [`via`].
    pub via: u32,
    /// One of [`sent_by`].
    pub sent_by: u32,
    /// One of [`role`].
    pub role: u32,
    /// With [`via::ICMP`]: index of the interface that the message came in by; 0: unknown.
    pub icmp_device: u32,
    /// The address that the message came from, that of IPv4 as an IPv4-mapped one; zero: unknown.
    pub icmp_sender: [u8; 16],
}

/// A `bind()` to a watched port has returned.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Bound {
    pub header: Header,
    /// The socket as it is now; its local address is what it is bound to, if it is.
    pub socket: Socket,
    /// The process that called `bind()`.
    pub task: Task,
    /// The address asked for, in network order; of `AF_INET` the first four bytes.
    pub requested: [u8; 16],
    /// Address family asked for.
    pub requested_family: u16,
    /// The port asked for.
    pub requested_port: u16,
    /// 0, or the error.
    pub errno: u32,
    /// 1 when a [`Destroyed`] will record the socket's end.
    pub followed: u32,
    /// Always 0.
    pub reserved: u32,
    /// What [`Destroyed`] will call the socket: unique among those that exist.
    pub sock: u64,
}

/// A socket that was bound to a watched port was destroyed, or connects: then it does not belong to a server.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Destroyed {
    pub header: Header,
    /// The socket, as [`Bound`] called it: it has no inode any more.
    pub sock: u64,
    /// 1 when it connects, else 0.
    pub connects: u64,
}

/// The last thread of a followed process has ended.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Exited {
    pub header: Header,
    /// Nanoseconds since boot at which the process started.
    pub start_time: u64,
    /// Process id as the host counts.
    pub pid: u32,
    /// Wait status: the exit code shifted left by 8, or the signal.
    pub exit_code: u32,
}

/// A process has executed another program.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Executed {
    pub header: Header,
    pub task: Task,
    /// Cookie of the network namespace; 0 where the kernel has none or has not set it.
    pub netns_cookie: u64,
    /// Inode number of the network namespace.
    pub netns: u32,
    /// Bytes of [`Executed::arguments`] that were read; [`MISSING`]: they could not be. What follows them is of no meaning.
    pub arguments_bytes: u32,
    /// 1 when there are more arguments, else 0.
    pub is_cut: u32,
    /// Always 0.
    pub reserved: u32,
    /// Name of the executable in its directory, ended by a NUL, and cut where it is longer: of a script that of its
    /// interpreter.
    pub file_name: [u8; FILE_NAME_BYTES],
    /// The arguments, each ended by a NUL, as the process has them in its memory.
    pub arguments: [u8; ARGUMENTS_BYTES],
}

/// A followed process has a new child, which is followed too.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Forked {
    pub header: Header,
    /// The child.
    pub task: Task,
}

/// A connect to a watched port has succeeded, of a process that was refused within [`FALLBACK_NS`] or that is
/// followed; or one to another port, of a process that holds a watched listener.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Connected {
    pub header: Header,
    pub socket: Socket,
    pub task: Task,
    /// `CLOCK_MONOTONIC` nanoseconds at which the attempt began.
    pub started: u64,
}

/// A connect to a watched port has ended without a connection and without a refusal.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Failed {
    pub header: Header,
    pub socket: Socket,
    pub task: Task,
    /// `CLOCK_MONOTONIC` nanoseconds at which the attempt began.
    pub started: u64,
    /// The error; 0: the application gave up.
    pub errno: u32,
    /// Always 0.
    pub reserved: u32,
}

/// Where the running kernel keeps what the programs read, in bytes from the start of the structure
/// named first. [`MISSING`] marks an optional one that this kernel does not have.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Offsets {
    pub sock_family: u32,
    pub sock_state: u32,
    pub sock_daddr: u32,
    pub sock_rcv_saddr: u32,
    /// Optional: a kernel without IPv6.
    pub sock_v6_daddr: u32,
    /// Optional: a kernel without IPv6.
    pub sock_v6_rcv_saddr: u32,
    /// Remote port, in network order.
    pub sock_dport: u32,
    /// Local port, in host order.
    pub sock_num: u32,
    /// The byte that holds `skc_ipv6only`; [`Config::v6only_mask`] is its bit.
    pub sock_ipv6only: u32,
    pub sock_bound_dev_if: u32,
    pub sock_net: u32,
    pub sock_err: u32,
    /// `skc_flags`, of which [`Config::rcu_free_mask`] is a bit.
    pub sock_flags: u32,
    pub sock_protocol: u32,
    pub sock_shutdown: u32,
    pub sock_max_ack_backlog: u32,
    pub sock_socket: u32,
    /// `skc_cookie`: set when it is asked for.
    pub sock_cookie: u32,
    /// `sk_error_queue.prev`: the newest queued error.
    pub sock_error_queue_prev: u32,
    /// Local port in network order, in `struct inet_sock`.
    pub inet_sport: u32,
    pub tcp_snd_una: u32,
    pub net_inum: u32,
    /// Optional: a plain `u64` from 6.1 on.
    pub net_cookie: u32,
    /// From a `struct socket` to the `i_ino` of the inode allocated with it.
    pub socket_inode: u32,
    pub socket_file: u32,
    pub socket_sk: u32,
    pub file_flags: u32,
    /// Of a socket's file: its `struct socket`.
    pub file_private_data: u32,
    pub task_group_leader: u32,
    pub task_comm: u32,
    pub task_start_boottime: u32,
    pub task_real_parent: u32,
    pub task_tgid: u32,
    pub task_pid: u32,
    pub task_thread_pid: u32,
    pub task_flags: u32,
    pub task_exit_code: u32,
    /// Page faults of the thread, without and with input.
    pub task_min_flt: u32,
    pub task_maj_flt: u32,
    /// `signal`, shared by the threads of a process.
    pub task_signal: u32,
    /// `signal_struct.live`: threads that have not ended.
    pub signal_live: u32,
    pub task_nsproxy: u32,
    pub nsproxy_net: u32,
    pub task_mm: u32,
    pub mm_exe_file: u32,
    pub mm_arg_start: u32,
    pub mm_arg_end: u32,
    pub file_dentry: u32,
    /// `d_name.name`.
    pub dentry_name: u32,
    /// `children.prev`: the newest child.
    pub task_last_child: u32,
    pub task_sibling: u32,
    pub task_files: u32,
    pub files_fdt: u32,
    pub fdt_fd: u32,
    pub fdt_max_fds: u32,
    pub pid_level: u32,
    pub pid_numbers: u32,
    /// Bytes of one `struct upid`, which [`Offsets::pid_numbers`] is an array of.
    pub upid_size: u32,
    pub skb_head: u32,
    pub skb_transport_header: u32,
    pub skb_network_header: u32,
    /// Index of the interface that a packet came in by.
    pub skb_iif: u32,
    /// From a `struct sk_buff` to the `ee_errno` kept in its control block.
    pub skb_errno: u32,
    /// Likewise to the `ee_origin`.
    pub skb_origin: u32,
    /// Optional, as the next four: the records of classic tracepoints, `inet_sock_set_state`.
    pub trace_state_sock: u32,
    pub trace_state_old: u32,
    pub trace_state_new: u32,
    /// `tcp_destroy_sock`.
    pub trace_destroy_sock: u32,
    /// `sched_process_fork`.
    pub trace_fork_child: u32,
}

/// What the user side sets before the programs load. The kernel freezes it, so that its verifier
/// takes each value for a constant: a filter that is off costs nothing.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Config {
    pub offsets: Offsets,
    /// Bit of `skc_ipv6only` in its byte.
    pub v6only_mask: u32,
    /// 1 when `bpf_get_socket_cookie` may be called (5.12 and later), and what is older than that.
    pub cookie_helper: u32,
    /// 1 when `tcp_send_reset` is attached, so that its silence means something.
    pub send_hook: u32,
    /// 1 when `tcp_receive_reset` is attached, likewise.
    pub receive_hook: u32,
    /// 1 when every program's start is recorded, whatever its name.
    pub exec_all: u32,
    /// 1 when programs that may be preempted have a redundant one beside them.
    pub redundant_probes: u32,
    /// `SOCK_RCU_FREE` as a bit of `skc_flags`; 0 where this kernel does not name it.
    pub rcu_free_mask: u32,
    /// Watched ports in host order, the unused ones at the end 0.
    pub ports: [u16; PORTS_MAX],
}

impl Offsets {
    /// Every offset unknown.
    pub const UNKNOWN: Self = Self {
        sock_family: MISSING,
        sock_state: MISSING,
        sock_daddr: MISSING,
        sock_rcv_saddr: MISSING,
        sock_v6_daddr: MISSING,
        sock_v6_rcv_saddr: MISSING,
        sock_dport: MISSING,
        sock_num: MISSING,
        sock_ipv6only: MISSING,
        sock_bound_dev_if: MISSING,
        sock_net: MISSING,
        sock_err: MISSING,
        sock_flags: MISSING,
        sock_protocol: MISSING,
        sock_shutdown: MISSING,
        sock_max_ack_backlog: MISSING,
        sock_socket: MISSING,
        sock_cookie: MISSING,
        sock_error_queue_prev: MISSING,
        inet_sport: MISSING,
        tcp_snd_una: MISSING,
        net_inum: MISSING,
        net_cookie: MISSING,
        socket_inode: MISSING,
        socket_file: MISSING,
        socket_sk: MISSING,
        file_flags: MISSING,
        file_private_data: MISSING,
        task_group_leader: MISSING,
        task_comm: MISSING,
        task_start_boottime: MISSING,
        task_real_parent: MISSING,
        task_tgid: MISSING,
        task_pid: MISSING,
        task_thread_pid: MISSING,
        task_flags: MISSING,
        task_exit_code: MISSING,
        task_min_flt: MISSING,
        task_maj_flt: MISSING,
        task_signal: MISSING,
        signal_live: MISSING,
        task_nsproxy: MISSING,
        nsproxy_net: MISSING,
        task_mm: MISSING,
        mm_exe_file: MISSING,
        mm_arg_start: MISSING,
        mm_arg_end: MISSING,
        file_dentry: MISSING,
        dentry_name: MISSING,
        task_last_child: MISSING,
        task_sibling: MISSING,
        task_files: MISSING,
        files_fdt: MISSING,
        fdt_fd: MISSING,
        fdt_max_fds: MISSING,
        pid_level: MISSING,
        pid_numbers: MISSING,
        upid_size: MISSING,
        skb_head: MISSING,
        skb_transport_header: MISSING,
        skb_network_header: MISSING,
        skb_iif: MISSING,
        skb_errno: MISSING,
        skb_origin: MISSING,
        trace_state_sock: MISSING,
        trace_state_old: MISSING,
        trace_state_new: MISSING,
        trace_destroy_sock: MISSING,
        trace_fork_child: MISSING,
    };
}

impl Config {
    /// What the object holds until it is loaded.
    pub const UNSET: Self = Self {
        offsets: Offsets::UNKNOWN,
        v6only_mask: 0,
        cookie_helper: 0,
        send_hook: 0,
        receive_hook: 0,
        exec_all: 0,
        redundant_probes: 0,
        rcu_free_mask: 0,
        ports: [0; PORTS_MAX],
    };
}

// A size that changes by accident would be misread on the other side.
const _: () = {
    assert!(size_of::<Header>() == 16);
    assert!(size_of::<Task>() == 56);
    assert!(size_of::<Socket>() == 72);
    assert!(size_of::<Openings>() == 8 + 16 * OPENINGS_MAX);
    assert!(OPENINGS_MAX.is_power_of_two());
    assert!(size_of::<Opened>() == 16 + 72 + 56 + 8);
    assert!(size_of::<Listened>() == 16 + 72 + 8);
    assert!(size_of::<Closed>() == 16 + 72 + 56 + 16);
    assert!(size_of::<Refused>() == 16 + 72 + 56 + 40);
    assert!(size_of::<Bound>() == 16 + 72 + 56 + 40);
    assert!(size_of::<Destroyed>() == 16 + 16);
    assert!(size_of::<Exited>() == 16 + 16);
    assert!(size_of::<Executed>() == 16 + 56 + 24 + FILE_NAME_BYTES + ARGUMENTS_BYTES);
    assert!(size_of::<Forked>() == 16 + 56);
    assert!(size_of::<Connected>() == 16 + 72 + 56 + 8);
    assert!(size_of::<Failed>() == 16 + 72 + 56 + 16);
    assert!(size_of::<Offsets>() == 69 * 4);
    assert!(size_of::<Config>() == 69 * 4 + 28 + 32);
};
