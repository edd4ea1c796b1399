//! What tracer may do, by Linux capabilities (capabilities(7)): what it has, and how it gives up all that it
//! does not need any more once its programs are attached.
//!
//! From then on it reads the ring, its maps, `/proc` and netlink dumps. What each of the kept ones is for:
//!
//! | capability | what asks for it |
//! |---|---|
//! | `CAP_SYS_ADMIN` | `setns()` into other network namespaces: `netns_install()`, net/core/net_namespace.c |
//! | `CAP_SYS_PTRACE` | `/proc/PID/exe`, `ns/*` and the targets of `fd/*` of other users' processes, and of those with more capabilities than tracer: `ptrace_may_access()`, kernel/ptrace.c, asked by `proc_pid_readlink()` and `proc_ns_readlink()` |
//! | `CAP_DAC_READ_SEARCH` | listing `/proc/PID/fd` of other users, which has mode 0500: `proc_fd_permission()`, fs/proc/fd.c |
//! | `CAP_BPF` | reading maps where the kernel denies all of bpf() to others: `__sys_bpf()` before 5.19 under `kernel.unprivileged_bpf_disabled` |
//!
//! Not needed any more: `CAP_PERFMON`, which only loading and attaching ask for (`bpf_prog_load()`,
//! `perf_event_open()`), and `CAP_BPF` wherever the maps can be read without. sock_diag and rtnetlink dumps ask
//! for none.

use rustix::io::Errno;
use rustix::process::{DumpableBehavior, set_dumpable_behavior};
use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, clear_ambient_capability_set,
    remove_capability_from_bounding_set, set_capabilities, set_no_new_privs,
};

use crate::model::limit::Limit;

/// What reading the host takes, programs attached.
const NEEDED: CapabilitySet =
    CapabilitySet::SYS_ADMIN.union(CapabilitySet::SYS_PTRACE).union(CapabilitySet::DAC_READ_SEARCH);

/// Of the calling thread.
pub fn effective() -> CapabilitySet {
    // capget() of oneself cannot fail; none is what is true when nothing is known.
    capabilities(None).map_or(CapabilitySet::empty(), |sets| sets.effective)
}

/// Gives up permanently what is not needed once the programs are attached: no_new_privs, so that no program
/// that it could start gets them back. Of the calling thread, and of all that it starts: call it while there
/// is no other thread. `reads_maps` tries whether the programs' maps can be read.
///
/// `Some`: this host keeps tracer from some of it, and it goes on with what it could not give up.
pub fn reduce(reads_maps: impl Fn() -> bool) -> Option<Limit> {
    // One after the other, and each whether or not those before it did: every bit less counts.
    let steps = [
        ("no_new_privs", set_no_new_privs(true)),
        // No core file with what was read of others, and no debugger without CAP_SYS_PTRACE.
        ("PR_SET_DUMPABLE", set_dumpable_behavior(DumpableBehavior::NotDumpable)),
        ("clearing the ambient capabilities", clear_ambient_capability_set()),
        ("the capability bounding set", empty_bounding_set()),
        ("capset()", keep_needed(reads_maps)),
    ];
    steps.into_iter().find_map(|(step, result)| {
        result.err().map(|errno| Limit::PrivilegeKept { step, errno: errno.raw_os_error() })
    })
}

/// That takes CAP_SETPCAP: without, the set stays, and no_new_privs makes it moot.
fn empty_bounding_set() -> Result<(), Errno> {
    for bit in 0..u64::BITS {
        match remove_capability_from_bounding_set(CapabilitySet::from_bits_retain(1 << bit)) {
            Ok(()) => {}
            // The first number that this kernel knows no capability for.
            Err(Errno::INVAL) if bit > 0 => break,
            Err(Errno::PERM) if !effective().contains(CapabilitySet::SETPCAP) => break,
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

fn keep_needed(reads_maps: impl Fn() -> bool) -> Result<(), Errno> {
    let CapabilitySets { effective, permitted, inheritable: _ } = capabilities(None)?;
    let keep = |effective: CapabilitySet, permitted: CapabilitySet| {
        set_capabilities(None, CapabilitySets { effective, permitted, inheritable: CapabilitySet::empty() })
    };
    let needed = effective & NEEDED;
    let bpf = permitted & CapabilitySet::BPF;
    keep(needed, needed | bpf)?;
    let needed = if reads_maps() { needed } else { needed | bpf };
    keep(needed, needed)
}
