//! The limits of a run in words: the code and the sentence that the log has for each.

use std::io;

use crate::model::limit::{Limit, NoSocketCookie};

/// The code that the log names it by.
pub fn code(limit: &Limit) -> &'static str {
    match limit {
        Limit::NoNetnsCookie => "no-netns-cookie",
        Limit::NoIcmpRefusals => "no-icmp-refusals",
        Limit::NoResetSender => "no-reset-sender",
        Limit::NoBoundSockets => "no-bound-sockets",
        Limit::NoExits => "no-exits",
        Limit::NoStarts => "no-starts",
        Limit::NoIcmp6Refusals => "no-icmp6-refusals",
        Limit::NoSocketCookie(_) => "no-socket-cookie",
        Limit::PreemptedPrograms { .. } => "preempted-programs",
        Limit::BindBySyscall => "bind-by-syscall",
        Limit::NoBinds { .. } => "no-binds",
        Limit::BoundBeforeStart => "bound-before-start",
        Limit::OtherNetns => "other-netns",
        Limit::Owners => "owners",
        Limit::OtherUsers => "other-users",
        Limit::HiddenProcesses => "hidden-processes",
        Limit::PidNamespace => "pid-namespace",
        Limit::PrivilegeKept { .. } => "privilege-kept",
        Limit::NoConfigWatch { .. } => "no-config-watch",
    }
}

/// One sentence: what is missing, and what is not seen for it.
pub fn reason(limit: &Limit) -> String {
    let reason = match limit {
        Limit::NoNetnsCookie => {
            "this kernel does not distinguish a network namespace from a later one with its number (5.14 and later do): \
             one without a name under /run/netns may be taken for one that has ended"
        }
        Limit::NoIcmpRefusals => {
            "this kernel has no inet_sk_error_report tracepoint (5.14 and later): a non-blocking \
             connect that a firewall refuses by ICMP is not seen"
        }
        Limit::NoResetSender => {
            "this kernel's tcp_send_reset tracepoint does not show resets without a socket (6.10 and \
             later): who sent a reset is not shown"
        }
        Limit::NoBoundSockets => {
            "this kernel has no tcp_destroy_sock tracepoint: a socket that is bound and does not listen is \
             not reported"
        }
        Limit::NoExits => {
            "this kernel has no sched_process_exit tracepoint: how a server ended is not reported"
        }
        Limit::NoStarts => {
            "this kernel has no sched_process_exec tracepoint: a server that starts is seen once it binds"
        }
        Limit::NoIcmp6Refusals => {
            "this kernel has no tcp_receive_reset tracepoint: a refusal by ICMPv6 is reported as one by a reset"
        }
        Limit::NoSocketCookie(NoSocketCookie::Helper) => {
            "this kernel does not lend bpf_get_socket_cookie to tracing programs (5.12 and later): \
             sockets are distinguished by inode number"
        }
        Limit::NoSocketCookie(NoSocketCookie::Fentry) => {
            "this kernel refuses fentry programs: listeners may be distinguished by inode number only"
        }
        Limit::PreemptedPrograms { is_redundant } => {
            let how_often = if *is_redundant { "are missed now and then" } else { "are missed" };
            return format!(
                "this kernel preempts programs while they run, and skips them for others meanwhile: on processors \
                 that are all busy with connects, some connects, binds and refusals by ICMP {how_often}; `lost` \
                 counts how many of the first two at most"
            );
        }
        Limit::BindBySyscall => {
            "this kernel refuses fexit programs: bind() is followed by its system call, which makes \
             every system call of the host some 30 ns slower, and binds by io_uring are not seen"
        }
        Limit::NoBinds { error } => {
            return format!("bind() cannot be followed, so that failed binds are not reported: {error}");
        }
        Limit::BoundBeforeStart => {
            "this kernel does not list sockets that are bound and do not listen (6.8 and later do): one that \
             was bound before tracer started is not seen"
        }
        Limit::OtherNetns => {
            "CAP_SYS_ADMIN is missing: of other network namespaces, the addresses and the listeners that opened \
             before tracer are not seen"
        }
        Limit::Owners => {
            "CAP_SYS_PTRACE is missing: of processes of other users, or with more capabilities than tracer, the \
             executable is not seen, nor the network namespace, nor that one holds a listener that opened \
             before tracer, or may be the server"
        }
        Limit::OtherUsers => {
            "CAP_DAC_READ_SEARCH is missing: that a process of another user holds a listener that opened before \
             tracer is not seen"
        }
        Limit::HiddenProcesses => {
            "/proc hides other users' processes (mount option hidepid): what it shows of them is not known; \
             CAP_SYS_PTRACE would show them"
        }
        Limit::PidNamespace => {
            "this PID namespace is not the host's: process ids, and what /proc shows of processes, are not known"
        }
        Limit::PrivilegeKept { step, errno } => {
            let error = io::Error::from_raw_os_error(*errno);
            return format!("{step} is refused ({error}): tracer keeps privileges that it does not need");
        }
        Limit::NoConfigWatch { error } => {
            return format!("which process changes a configuration file is not reported: fanotify: {error}");
        }
    };
    reason.to_owned()
}
