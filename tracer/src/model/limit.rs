//! What a run cannot see on this host.

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
