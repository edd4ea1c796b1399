//! The table of kernel programs: what each is attached to, what it requires, what is lost without it, and its redundant
//! partner. Data only: the loader reads it.
//!
//! A redundant probe is a second program that sees the same event, for kernels that preempt programs; the kernel side
//! deduplicates what both see (tracer-ebpf/src/dedup.rs).

use crate::model::hook::{Hook, HookKind};
use crate::model::limit::Limit;

/// What a program is attached to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// A tracepoint by name: arguments are trusted pointers.
    BtfTracepoint(&'static str),
    /// A tracepoint by category and name: `tcp/tcp_destroy_sock`.
    Tracepoint(&'static str),
    /// The entry of a kernel function.
    Fentry(&'static str),
    /// The return of a kernel function.
    Fexit(&'static str),
}

/// A program of the object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Program {
    /// Name of the function in the object.
    pub name: &'static str,
    pub target: Target,
}

/// A program, and the one that does the same where the kernel preempts programs.
#[derive(Debug)]
pub struct Probe {
    pub program: Program,
    pub redundant: Option<Program>,
}

/// A probe on a BTF tracepoint.
#[derive(Debug)]
pub struct TracepointProbe {
    pub probe: Probe,
    pub arguments: Arguments,
    pub without: Without,
}

/// Arguments that a tracepoint must have.
#[derive(Clone, Copy, Debug)]
pub enum Arguments {
    Exactly(usize),
    Any,
}

/// What follows where a program cannot be used.
#[derive(Debug)]
pub enum Without {
    /// No refusal is seen: tracer cannot run.
    Nothing,
    /// tracer runs with a limit.
    Limited(Limit),
}

impl Arguments {
    /// Whether a tracepoint with so many arguments will do.
    pub fn accept(self, count: usize) -> bool {
        match self {
            Self::Exactly(required) => count == required,
            Self::Any => true,
        }
    }
}

impl Program {
    /// The hook as the log names it.
    pub fn hook(&self) -> Hook {
        let (name, kind) = match self.target {
            Target::BtfTracepoint(name) => (name.to_owned(), HookKind::BtfTracepoint),
            Target::Tracepoint(name) => (name.replace('/', ":"), HookKind::Tracepoint),
            Target::Fentry(name) => (name.to_owned(), HookKind::Fentry),
            Target::Fexit(name) => (name.to_owned(), HookKind::Fexit),
        };
        Hook { name, kind }
    }

    /// The kernel function that it is attached to, if it is one.
    pub fn function(&self) -> Option<&'static str> {
        match self.target {
            Target::Fentry(name) | Target::Fexit(name) => Some(name),
            Target::BtfTracepoint(_) | Target::Tracepoint(_) => None,
        }
    }
}

/// The program that sees connects begin and end.
pub const STATE: &str = "sock_state";

/// The programs whose absence makes the silence of a hook mean nothing: `send_hook` and `receive_hook` of
/// [`tracer_ebpf::Config`].
pub const RESET_SENT: &str = "reset_sent";
pub const RESET_RECEIVED: &str = "reset_received";

/// The probes on BTF tracepoints, in the order in which they are attached.
pub static TRACEPOINTS: [TracepointProbe; 8] = [
    TracepointProbe {
        probe: alone("error_report", Target::BtfTracepoint("inet_sk_error_report")),
        arguments: Arguments::Exactly(1),
        without: Without::Limited(Limit::NoIcmpRefusals),
    },
    TracepointProbe {
        probe: alone(RESET_SENT, Target::BtfTracepoint("tcp_send_reset")),
        arguments: Arguments::Exactly(3),
        without: Without::Limited(Limit::NoResetSender),
    },
    TracepointProbe {
        probe: pair(
            ("socket_destroyed", Target::BtfTracepoint("tcp_destroy_sock")),
            ("socket_destroyed_redundant", Target::Tracepoint("tcp/tcp_destroy_sock")),
        ),
        arguments: Arguments::Exactly(1),
        without: Without::Limited(Limit::NoBoundSockets),
    },
    TracepointProbe {
        probe: pair(
            ("process_exit", Target::BtfTracepoint("sched_process_exit")),
            ("process_exit_redundant", Target::Tracepoint("sched/sched_process_exit")),
        ),
        // One before 6.16, two since; the program uses neither.
        arguments: Arguments::Any,
        without: Without::Limited(Limit::NoExits),
    },
    TracepointProbe {
        probe: pair(
            ("process_fork", Target::BtfTracepoint("sched_process_fork")),
            ("process_fork_redundant", Target::Tracepoint("sched/sched_process_fork")),
        ),
        arguments: Arguments::Exactly(2),
        // The children of servers are then found by a search of `/proc`.
        without: Without::Limited(Limit::NoStarts),
    },
    TracepointProbe {
        probe: pair(
            ("process_exec", Target::BtfTracepoint("sched_process_exec")),
            ("process_exec_redundant", Target::Tracepoint("sched/sched_process_exec")),
        ),
        arguments: Arguments::Any,
        without: Without::Limited(Limit::NoStarts),
    },
    TracepointProbe {
        probe: alone(RESET_RECEIVED, Target::BtfTracepoint("tcp_receive_reset")),
        arguments: Arguments::Exactly(1),
        without: Without::Limited(Limit::NoIcmp6Refusals),
    },
    TracepointProbe {
        probe: pair(
            (STATE, Target::BtfTracepoint("inet_sock_set_state")),
            ("sock_state_redundant", Target::Tracepoint("sock/inet_sock_set_state")),
        ),
        arguments: Arguments::Exactly(3),
        without: Without::Nothing,
    },
];

/// Gives listeners their cookies before a redundant probe sees them, which cannot.
pub static LISTENER_COOKIE: Program =
    Program { name: "listener_cookie", target: Target::Fentry("inet_csk_listen_start") };

/// The probes that see `bind()` return, of IPv4 and IPv6, the better ones first. Where the kernel has the functions of the
/// first, those of the second call them.
pub static BIND_FUNCTIONS: [[Probe; 2]; 2] = [
    [
        pair(
            ("bind_v4_sock", Target::Fexit("inet_bind_sk")),
            ("bind_v4_sock_redundant", Target::Fexit("inet_bind_sk")),
        ),
        pair(
            ("bind_v6_sock", Target::Fexit("inet6_bind_sk")),
            ("bind_v6_sock_redundant", Target::Fexit("inet6_bind_sk")),
        ),
    ],
    [
        alone("bind_v4_socket", Target::Fexit("inet_bind")),
        alone("bind_v6_socket", Target::Fexit("inet6_bind")),
    ],
];

/// The probe that sees `listen()` return.
pub static LISTEN_RESULT: Probe = pair(
    ("listen_returned", Target::Fexit("inet_csk_listen_start")),
    ("listen_returned_redundant", Target::Fexit("inet_csk_listen_start")),
);

/// The programs that see `bind()` as a system call, each of which requires the other.
pub static BIND_CALLS: [Program; 2] = [
    Program { name: "bind_exit", target: Target::Tracepoint("syscalls/sys_exit_bind") },
    Program { name: "bind_enter", target: Target::Tracepoint("syscalls/sys_enter_bind") },
];

/// The kernel functions that some program is attached to.
pub fn functions() -> Vec<&'static str> {
    let probes = BIND_FUNCTIONS.iter().flatten().chain([&LISTEN_RESULT]);
    let programs = probes.map(|probe| &probe.program);
    programs.chain([&LISTENER_COOKIE]).filter_map(Program::function).collect()
}

const fn alone(name: &'static str, target: Target) -> Probe {
    Probe { program: Program { name, target }, redundant: None }
}

const fn pair(primary: (&'static str, Target), redundant: (&'static str, Target)) -> Probe {
    Probe {
        program: Program { name: primary.0, target: primary.1 },
        redundant: Some(Program { name: redundant.0, target: redundant.1 }),
    }
}
