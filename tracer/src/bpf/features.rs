//! What the running kernel has, found out from its type information before anything is loaded.

use anyhow::{Context as _, Result};
use aya::Endianness;
use tracer_ebpf::{MISSING, Offsets};

use crate::bpf::btf::{self, Btf};
use crate::bpf::probes::{self, Target, TracepointProbe};
use crate::exit::Failure;

/// What the running kernel has.
pub struct Features {
    /// Where its structures keep what the programs read.
    pub offsets: Offsets,
    /// The bit of `skc_ipv6only` in its byte.
    pub v6only_mask: u32,
    /// `SOCK_RCU_FREE` in `skc_flags`; `None`: the kernel does not name it.
    pub rcu_free_mask: Option<u32>,
    /// Whether it preempts programs while they run, and skips them for other threads meanwhile.
    pub preempts_programs: bool,
    /// For each of [`probes::TRACEPOINTS`], whether the tracepoint is there, with the arguments that its program requires.
    has_tracepoint: [bool; probes::TRACEPOINTS.len()],
    /// Names of what programs are attached to, for the loader.
    pub btf: aya::Btf,
}

impl Features {
    /// Reads the kernel's type information.
    ///
    /// # Errors
    /// A [`Failure`] where it cannot be read, or lacks a structure that the programs cannot do without.
    pub fn detect() -> Result<Self> {
        let types = std::fs::read(btf::VMLINUX).with_context(|| format!("cannot read `{}`", btf::VMLINUX))?;
        let index = Btf::parse(&types).map_err(unfit)?;
        let (offsets, v6only_mask) = index.offsets().map_err(unfit)?;
        let names = index.names(&probes::functions()).map_err(unfit)?;
        let preempts_programs = index.preempts_programs();
        let rcu_free_mask = index.socket_flag("SOCK_RCU_FREE").and_then(|flag| 1_u32.checked_shl(flag));
        let has_tracepoint = probes::TRACEPOINTS.each_ref().map(|probe| has_tracepoint(&index, probe));
        // Megabytes, before the loader takes its own.
        drop(index);
        drop(types);
        let btf = aya::Btf::parse(&names, Endianness::Little)
            .with_context(|| format!("cannot understand `{}`", btf::VMLINUX))?;
        Ok(Self { offsets, v6only_mask, rcu_free_mask, preempts_programs, has_tracepoint, btf })
    }

    /// Whether network namespaces have a cookie that is not used again.
    pub fn has_netns_cookie(&self) -> bool {
        self.offsets.net_cookie != MISSING
    }

    /// The probes on BTF tracepoints, and whether this kernel has what each is attached to.
    pub fn tracepoints(&self) -> impl Iterator<Item = (&'static TracepointProbe, bool)> {
        probes::TRACEPOINTS.iter().zip(self.has_tracepoint)
    }
}

fn has_tracepoint(index: &Btf<'_>, probe: &TracepointProbe) -> bool {
    let Target::BtfTracepoint(name) = probe.probe.program.target else { return false };
    index.tracepoint_arguments(name).is_some_and(|count| probe.arguments.accept(count))
}

fn unfit(error: btf::BtfError) -> Failure {
    Failure::host(
        format!("cannot read this kernel's structures: {error}"),
        "please report this kernel's version (uname -r) and where it comes from",
    )
}
