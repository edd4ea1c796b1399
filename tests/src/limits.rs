//! The limits that tracer must report on this kernel. They follow from the kernel's version and from what it answers to
//! the testbed, never from what tracer reports: a test relaxes only where this list allows it, and each run of tracer
//! must report these limits and no others.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use crate::bpf;

/// Where a limit is expected.
#[derive(Clone, Copy, Debug)]
enum On {
    /// Kernels before this version.
    Before(u32, u32),
    /// Kernels from this version on.
    Since(u32, u32),
    /// Kernels that refuse fexit programs, which have no trampolines for them.
    WithoutFexit,
}

/// The limits of a run as root with all its rights, by their codes in the `start` line.
const EXPECTED: [(&str, On); 7] = [
    // The tracepoint inet_sk_error_report (net/core/sock.c).
    ("no-icmp-refusals", On::Before(5, 14)),
    // The field `net_cookie` of `struct net` (include/net/net_namespace.h).
    ("no-netns-cookie", On::Before(5, 14)),
    // bpf_get_socket_cookie() in tracing programs (`tracing_prog_func_proto()`, kernel/trace/bpf_trace.c).
    ("no-socket-cookie", On::Before(5, 12)),
    // SOCK_DIAG dumps of bound sockets (`inet_diag_dump_icsk()`, net/ipv4/inet_diag.c: TCPF_BOUND_INACTIVE).
    ("bound-before-start", On::Before(6, 8)),
    // The third argument of the tracepoint tcp_send_reset (include/trace/events/tcp.h).
    ("no-reset-sender", On::Before(6, 10)),
    // Tracepoints whose programs can be preempted; not seen on 6.12, seen on 7.3.
    ("preempted-programs", On::Since(7, 0)),
    // `arch_prepare_bpf_trampoline()`.
    ("bind-by-syscall", On::WithoutFexit),
];

/// The limits that follow from what a test takes from a run: rights, tracefs, /proc, or the way to follow binds.
const OF_RESTRICTED_RUNS: [&str; 8] = [
    "bind-by-syscall",
    "hidden-processes",
    "no-binds",
    "no-config-watch",
    "other-netns",
    "other-users",
    "owners",
    "privilege-kept",
];

/// Whether this limit is expected on this kernel.
pub fn is_expected(what: &str) -> bool {
    EXPECTED.iter().any(|(limit, on)| *limit == what && on.is_here())
}

/// Whether the kernel takes fexit programs: it is asked, with one that does nothing.
pub fn takes_fexit() -> bool {
    static TAKES: LazyLock<bool> = LazyLock::new(bpf::takes_fexit);
    *TAKES
}

/// What is wrong with the limits that a run reports. A restricted one may have those of `OF_RESTRICTED_RUNS` besides,
/// which its test asserts.
pub fn check(reported: &BTreeSet<&str>, is_restricted: bool) -> Result<(), String> {
    let is_the_tests = |what: &&str| is_restricted && OF_RESTRICTED_RUNS.contains(what);
    let expected: BTreeSet<&str> =
        EXPECTED.iter().filter(|(_, on)| on.is_here()).map(|(limit, _)| *limit).collect();
    let differ: Vec<&str> =
        expected.symmetric_difference(reported).copied().filter(|what| !is_the_tests(what)).collect();
    if differ.is_empty() {
        return Ok(());
    }
    Err(format!("limits {reported:?}, expected {expected:?} on this kernel (tests/src/limits.rs)"))
}

impl On {
    fn is_here(self) -> bool {
        match self {
            Self::Before(major, minor) => release() < (major, minor),
            Self::Since(major, minor) => release() >= (major, minor),
            Self::WithoutFexit => !takes_fexit(),
        }
    }
}

/// The kernel's version.
pub fn release() -> (u32, u32) {
    let uname = rustix::system::uname();
    let text = uname.release().to_string_lossy();
    let mut numbers = text.split(|c: char| !c.is_ascii_digit()).map(|number| number.parse().ok());
    let mut next = || numbers.next().flatten().unwrap_or_else(|| panic!("the version `{text}`"));
    (next(), next())
}
