//! What this host lacks, found before anything is loaded: what a trace cannot do without, and what it can.

use std::env;
use std::fs::File;
use std::io;

use rustix::fs::stat;
use rustix::process::{Resource, getrlimit};
use rustix::system::uname;
use rustix::thread::CapabilitySet;

use crate::bpf::btf::VMLINUX;
use crate::bpf::su_line::su_line;
use crate::host::process;
use crate::host::{netns, sock_diag};
use crate::model::limit::Limit;
use crate::sandbox::effective;

/// The oldest kernel that may do: the BPF ring buffer, CAP_BPF and CAP_PERFMON came with it.
const OLDEST_KERNEL: (u32, u32) = (5, 8);

/// Memory that maps and programs take, with as much again to spare.
const LOCKED_MEMORY: u64 = 32 << 20;

/// Inode number of the user namespace that the host boots with (`PROC_USER_INIT_INO`, linux/proc_ns.h).
const HOST_USER_NAMESPACE: u64 = 0xEFFF_FFFD;

/// Something without which `tracer trace` cannot run here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missing {
    /// A short code, stable within a version of the format.
    pub what: &'static str,
    /// What is missing and what that costs.
    pub sentence: String,
    /// The remedy.
    pub hint: String,
}

/// Everything that is missing; empty on a host that can trace. Loads nothing, and changes nothing.
pub fn check() -> Vec<Missing> {
    [endianness(), kernel(), proc(), btf(), user_namespace(), privilege(), locked_memory(), sockets()]
        .into_iter()
        .flatten()
        .collect()
}

/// What tracer can do without, and a run here cannot see.
pub fn limits() -> Vec<Limit> {
    // What it has by now: see `privilege`.
    let effective = effective();
    let lacks = |capability: CapabilitySet| !effective.contains(capability);
    [
        (!sock_diag::lists_bound_sockets(), Limit::BoundBeforeStart),
        (lacks(CapabilitySet::SYS_ADMIN), Limit::OtherNetns),
        (lacks(CapabilitySet::SYS_PTRACE), Limit::Owners),
        (lacks(CapabilitySet::DAC_READ_SEARCH), Limit::OtherUsers),
        (!netns::sees_first_process(), Limit::HiddenProcesses),
        (!process::in_host_pid_namespace(), Limit::PidNamespace),
    ]
    .into_iter()
    .filter_map(|(is_so, limit)| is_so.then_some(limit))
    .collect()
}

fn endianness() -> Option<Missing> {
    cfg!(target_endian = "big").then(|| Missing {
        what: "endianness",
        sentence: format!("cannot load kernel programs: `{}` is big-endian", env::consts::ARCH),
        hint: "tracer runs on little-endian machines only".to_owned(),
    })
}

fn kernel() -> Option<Missing> {
    let name = uname();
    let release = name.release().to_string_lossy();
    let version = parse_release(&release);
    let (major, minor) = OLDEST_KERNEL;
    // A release in another form is left to the real load.
    version.is_some_and(|version| version < OLDEST_KERNEL).then(|| Missing {
        what: "kernel",
        sentence: format!(
            "cannot load kernel programs: this kernel is {release}, and has no BPF ring buffer"
        ),
        hint: format!(
            "Linux {major}.{minor} or later. Without it, `tracer status` shows this namespace's listeners"
        ),
    })
}

/// The version of the running kernel; `None`: its release has another form.
pub fn release() -> Option<(u32, u32)> {
    parse_release(&uname().release().to_string_lossy())
}

/// The first two numbers of `6.1.0-37-amd64`.
fn parse_release(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|letter: char| !letter.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

/// This namespace and the holders of sockets are read there: without it nothing can be reported.
pub fn proc() -> Option<Missing> {
    let err = netns::own().err()?;
    Some(Missing {
        what: "proc",
        sentence: format!("cannot read `/proc`, where the kernel shows processes and namespaces: {err}"),
        hint: "as root: mount -t proc proc /proc".to_owned(),
    })
}

fn btf() -> Option<Missing> {
    let err = File::open(VMLINUX).err()?;
    let is_absent = err.kind() == io::ErrorKind::NotFound;
    Some(Missing {
        what: "btf",
        sentence: format!(
            "cannot load kernel programs: `{VMLINUX}`, the types of this kernel, cannot be read: {err}"
        ),
        hint: if is_absent {
            "a kernel built with CONFIG_DEBUG_INFO_BTF=y, as distributions build theirs; in a container, mount \
             the host's /sys"
                .to_owned()
        } else {
            format!("as root: {}", su_line())
        },
    })
}

fn user_namespace() -> Option<Missing> {
    // Where `/proc` does not show it, the load fails with the reason.
    let is_host = stat("/proc/self/ns/user").ok()?.st_ino == HOST_USER_NAMESPACE;
    (!is_host).then(|| Missing {
        what: "user-namespace",
        sentence:
            "cannot load kernel programs: this is a user namespace of its own, where capabilities do not \
                   reach the kernel"
                .to_owned(),
        hint: "as root of the host, outside of rootless containers and `unshare --user`. Without it, \
               `tracer status` shows this namespace's listeners"
            .to_owned(),
    })
}

fn privilege() -> Option<Missing> {
    let names = missing_capabilities(effective());
    let (last, others) = names.split_last()?;
    let (names, verb) = if others.is_empty() {
        ((*last).to_owned(), "is")
    } else {
        (format!("{} and {last}", others.join(", ")), "are")
    };
    Some(Missing {
        what: "capabilities",
        sentence: format!("cannot load kernel programs: {names} {verb} missing"),
        hint: format!("as root: {}. Without it, `tracer status` shows this namespace's listeners", su_line()),
    })
}

/// What keeps tracing programs from loading: CAP_BPF and CAP_PERFMON, or CAP_SYS_ADMIN, which implies
/// both (`bpf_capable()`, `perfmon_capable()`, linux/capability.h).
fn missing_capabilities(effective: CapabilitySet) -> Vec<&'static str> {
    if effective.contains(CapabilitySet::SYS_ADMIN) {
        return Vec::new();
    }
    [(CapabilitySet::BPF, "CAP_BPF"), (CapabilitySet::PERFMON, "CAP_PERFMON")]
        .into_iter()
        .filter(|(capability, _)| !effective.contains(*capability))
        .map(|(_, name)| name)
        .collect()
}

/// Before 5.11 the memory of programs and maps is counted as locked (`bpf_charge_memlock`, kernel/bpf/syscall.c). For a
/// process that may raise the limit, the loader raises it.
fn locked_memory() -> Option<Missing> {
    let is_counted = release() < Some((5, 11)) && release().is_some();
    let limit = getrlimit(Resource::Memlock).maximum?;
    let is_enough = limit >= LOCKED_MEMORY || effective().contains(CapabilitySet::SYS_RESOURCE);
    (is_counted && !is_enough).then(|| Missing {
        what: "locked-memory",
        sentence: format!(
            "cannot load kernel programs: only {} KiB of memory may be locked, and before Linux 5.11 what programs keep \
             counts as that",
            limit / 1024
        ),
        hint: "CAP_SYS_RESOURCE as well, LimitMEMLOCK=infinity in a systemd unit, or as root: ulimit -l unlimited"
            .to_owned(),
    })
}

fn sockets() -> Option<Missing> {
    match sock_diag::check() {
        Ok(()) | Err(sock_diag::Error::Dump(_)) => None,
        Err(sock_diag::Error::Unavailable(err)) => {
            Some(Missing { what: "sock-diag", sentence: err.to_string(), hint: err.remedy().to_owned() })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_release_gives_two_numbers() {
        assert_eq!(parse_release("6.1.0-37-amd64"), Some((6, 1)));
        assert_eq!(parse_release("2.6.78-generic"), Some((2, 6)));
        assert_eq!(parse_release("7.3-rc1"), Some((7, 3)));
        assert_eq!(parse_release("custom"), None);
        assert!(parse_release("5.10.0") >= Some(OLDEST_KERNEL));
    }

    #[test]
    fn either_two_capabilities_or_the_one_that_implies_them() {
        let both = CapabilitySet::BPF | CapabilitySet::PERFMON;
        assert_eq!(missing_capabilities(CapabilitySet::empty()), ["CAP_BPF", "CAP_PERFMON"]);
        assert_eq!(missing_capabilities(CapabilitySet::BPF), ["CAP_PERFMON"]);
        assert!(missing_capabilities(both).is_empty());
        assert!(missing_capabilities(CapabilitySet::SYS_ADMIN).is_empty());
    }
}
