//! What a run cannot see on this host, and why.

use std::io;

/// Something that this run cannot see.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Limit {
    /// Network namespaces have no cookie, only a number that is used again.
    NoNetnsCookie,
    /// `inet_sk_error_report` cannot be used.
    NoIcmpRefusals,
    /// `tcp_send_reset` cannot be used.
    NoResetSender,
    /// `tcp_destroy_sock` cannot be used.
    NoBoundSockets,
    /// `sched_process_exit` cannot be used.
    NoExits,
    /// `sched_process_exec` cannot be used.
    NoStarts,
    /// `tcp_receive_reset` cannot be used.
    NoIcmp6Refusals,
    NoSocketCookie(NoSocketCookie),
    /// The kernel preempts programs. `is_redundant`: state changes have a redundant probe.
    PreemptedPrograms {
        is_redundant: bool,
    },
    /// `bind()` is followed by its system call.
    BindBySyscall,
    /// `bind()` is not followed.
    NoBinds {
        error: String,
    },
    /// sock_diag does not list sockets that are bound and do not listen.
    BoundBeforeStart,
    /// `CAP_SYS_ADMIN` is missing.
    OtherNetns,
    /// `CAP_SYS_PTRACE` is missing.
    Owners,
    /// `CAP_DAC_READ_SEARCH` is missing.
    OtherUsers,
    /// `/proc` is mounted with `hidepid`.
    HiddenProcesses,
    /// tracer runs in a PID namespace that is not the host's.
    PidNamespace,
    /// A step of giving up privileges failed.
    PrivilegeKept {
        step: &'static str,
        errno: i32,
    },
    /// Configuration files cannot be watched.
    NoConfigWatch {
        error: String,
    },
}

/// Why sockets are known without their cookies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoSocketCookie {
    /// The helper is not allowed to tracing programs.
    Helper,
    /// The program that gives listeners their cookies cannot be attached.
    Fentry,
}

impl Limit {
    /// The code that the log names it by.
    pub fn code(&self) -> &'static str {
        match self {
            Self::NoNetnsCookie => "no-netns-cookie",
            Self::NoIcmpRefusals => "no-icmp-refusals",
            Self::NoResetSender => "no-reset-sender",
            Self::NoBoundSockets => "no-bound-sockets",
            Self::NoExits => "no-exits",
            Self::NoStarts => "no-starts",
            Self::NoIcmp6Refusals => "no-icmp6-refusals",
            Self::NoSocketCookie(_) => "no-socket-cookie",
            Self::PreemptedPrograms { .. } => "preempted-programs",
            Self::BindBySyscall => "bind-by-syscall",
            Self::NoBinds { .. } => "no-binds",
            Self::BoundBeforeStart => "bound-before-start",
            Self::OtherNetns => "other-netns",
            Self::Owners => "owners",
            Self::OtherUsers => "other-users",
            Self::HiddenProcesses => "hidden-processes",
            Self::PidNamespace => "pid-namespace",
            Self::PrivilegeKept { .. } => "privilege-kept",
            Self::NoConfigWatch { .. } => "no-config-watch",
        }
    }

    /// One sentence: what is missing, and what is not seen for it.
    pub fn reason(&self) -> String {
        let reason = match self {
            Self::NoNetnsCookie => {
                "this kernel does not distinguish a network namespace from a later one with its number (5.14 and later do): \
                 one without a name under /run/netns may be taken for one that has ended"
            }
            Self::NoIcmpRefusals => {
                "this kernel has no inet_sk_error_report tracepoint (5.14 and later): a non-blocking \
                 connect that a firewall refuses by ICMP is not seen"
            }
            Self::NoResetSender => {
                "this kernel's tcp_send_reset tracepoint does not show resets without a socket (6.10 and \
                 later): who sent a reset is not shown"
            }
            Self::NoBoundSockets => {
                "this kernel has no tcp_destroy_sock tracepoint: a socket that is bound and does not listen is \
                 not reported"
            }
            Self::NoExits => {
                "this kernel has no sched_process_exit tracepoint: how a server ended is not reported"
            }
            Self::NoStarts => {
                "this kernel has no sched_process_exec tracepoint: a server that starts is seen once it binds"
            }
            Self::NoIcmp6Refusals => {
                "this kernel has no tcp_receive_reset tracepoint: a refusal by ICMPv6 is reported as one by a reset"
            }
            Self::NoSocketCookie(NoSocketCookie::Helper) => {
                "this kernel does not lend bpf_get_socket_cookie to tracing programs (5.12 and later): \
                 sockets are distinguished by inode number"
            }
            Self::NoSocketCookie(NoSocketCookie::Fentry) => {
                "this kernel refuses fentry programs: listeners may be distinguished by inode number only"
            }
            Self::PreemptedPrograms { is_redundant } => {
                let how_often = if *is_redundant { "are missed now and then" } else { "are missed" };
                return format!(
                    "this kernel preempts programs while they run, and skips them for others meanwhile: on processors \
                     that are all busy with connects, some connects, binds and refusals by ICMP {how_often}; `lost` \
                     counts how many of the first two at most"
                );
            }
            Self::BindBySyscall => {
                "this kernel refuses fexit programs: bind() is followed by its system call, which makes \
                 every system call of the host some 30 ns slower, and binds by io_uring are not seen"
            }
            Self::NoBinds { error } => {
                return format!("bind() cannot be followed, so that failed binds are not reported: {error}");
            }
            Self::BoundBeforeStart => {
                "this kernel does not list sockets that are bound and do not listen (6.8 and later do): one that \
                 was bound before tracer started is not seen"
            }
            Self::OtherNetns => {
                "CAP_SYS_ADMIN is missing: of other network namespaces, the addresses and the listeners that opened \
                 before tracer are not seen"
            }
            Self::Owners => {
                "CAP_SYS_PTRACE is missing: of processes of other users, or with more capabilities than tracer, the \
                 executable is not seen, nor the network namespace, nor that one holds a listener that opened \
                 before tracer, or may be the server"
            }
            Self::OtherUsers => {
                "CAP_DAC_READ_SEARCH is missing: that a process of another user holds a listener that opened before \
                 tracer is not seen"
            }
            Self::HiddenProcesses => {
                "/proc hides other users' processes (mount option hidepid): what it holds of them is not known; \
                 CAP_SYS_PTRACE would show them"
            }
            Self::PidNamespace => {
                "this PID namespace is not the host's: process ids and what /proc holds of processes are not known"
            }
            Self::PrivilegeKept { step, errno } => {
                let error = io::Error::from_raw_os_error(*errno);
                return format!("{step} is refused ({error}): tracer keeps privileges that it does not need");
            }
            Self::NoConfigWatch { error } => {
                return format!(
                    "which process changes a configuration file is not reported: fanotify: {error}"
                );
            }
        };
        reason.to_owned()
    }
}
