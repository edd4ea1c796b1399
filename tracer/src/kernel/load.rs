//! Puts the kernel programs in place: open, set globals, load, attach.

use std::os::fd::{AsRawFd as _, BorrowedFd};

use anyhow::{Context as _, Result};
use aya::maps::{MapData, PerCpuArray, RingBuf};
use aya::programs::{BtfTracePoint, ProgramError};
use aya::{Ebpf, EbpfLoader, Endianness, Pod, VerifierLogLevel};
use aya_log::EbpfLogger;
use tracer_ebpf::{Config, PORTS_MAX, lost};

use super::btf::{self, Btf};
use super::ring::Ring;
use crate::exit::{Exit, Failure};
use crate::line::{Hook, Limit};

/// The kernel programs, compiled beforehand: see `cargo xtask build-ebpf`.
static OBJECT: &[u8] = aya::include_bytes_aligned!(env!("TRACER_EBPF_OBJECT"));

/// What the tracer hands to the programs.
#[derive(Clone, Copy)]
#[repr(transparent)]
struct Globals(Config);

// SAFETY: `Config` is made of integers without padding, its size asserted where it is defined.
unsafe impl Pod for Globals {}

/// A kernel program, and the tracepoint it wants.
struct Program {
    /// Name of the function in the object.
    name: &'static str,
    tracepoint: &'static str,
    /// Arguments that the tracepoint must have.
    arguments: usize,
    /// What is not seen without it; `None`: the tracer cannot do without.
    without: Option<KnownLimit>,
}

/// A [`Limit`] known beforehand.
struct KnownLimit {
    what: &'static str,
    why: &'static str,
}

impl From<&KnownLimit> for Limit {
    fn from(limit: &KnownLimit) -> Self {
        Self { what: limit.what.to_owned(), why: limit.why.to_owned() }
    }
}

const PROGRAMS: [Program; 4] = [
    Program {
        name: "error_report",
        tracepoint: "inet_sk_error_report",
        arguments: 1,
        without: Some(KnownLimit {
            what: "no-icmp-refusals",
            why: "this kernel has no inet_sk_error_report tracepoint (5.14 and later): a non-blocking \
                  connect that a firewall refuses by ICMP is not seen",
        }),
    },
    Program {
        name: "reset_sent",
        tracepoint: "tcp_send_reset",
        arguments: 3,
        without: Some(KnownLimit {
            what: "no-reset-sender",
            why: "this kernel's tcp_send_reset tracepoint does not show resets without a socket (6.10 and \
                  later): who sent a reset is not told",
        }),
    },
    Program {
        name: "reset_received",
        tracepoint: "tcp_receive_reset",
        arguments: 1,
        without: Some(KnownLimit {
            what: "no-icmp6-refusals",
            why: "this kernel has no tcp_receive_reset tracepoint: a refusal by ICMPv6 is told as one by a reset",
        }),
    },
    Program { name: "sock_state", tracepoint: "inet_sock_set_state", arguments: 3, without: None },
];

/// The attached programs. Dropping it detaches them.
pub struct Kernel {
    ebpf: Ebpf,
    lost: PerCpuArray<MapData, u64>,
    pub hooks: Vec<Hook>,
    pub limits: Vec<Limit>,
}

/// What was counted as lost since the programs were attached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Losses {
    /// Records that found the ring full.
    pub ring: u64,
    /// Connection attempts that found their table full.
    pub attempts: u64,
}

impl Kernel {
    /// Loads the programs for `ports` and attaches them; the ring begins to fill.
    ///
    /// # Errors
    /// A [`Failure`] that says what this kernel lacks.
    pub fn attach(ports: &[u16], verbose: bool) -> Result<(Self, Ring)> {
        // 1. The running kernel's types: where its structures keep what the programs read.
        let types = std::fs::read(btf::VMLINUX).with_context(|| format!("cannot read `{}`", btf::VMLINUX))?;
        let index = Btf::parse(&types).map_err(unfit)?;
        let (offsets, v6only_mask) = index.offsets().map_err(unfit)?;
        let mut limits = Vec::new();
        let mut wanted = Vec::new();
        for program in PROGRAMS {
            match (index.tracepoint_arguments(program.tracepoint), &program.without) {
                (Some(arguments), _) if arguments == program.arguments => wanted.push(program),
                (_, Some(limit)) => limits.push(limit.into()),
                (_, None) => return Err(no_tracepoint(program.tracepoint).into()),
            }
        }
        drop(index);
        let btf = aya::Btf::parse(&types, Endianness::Little)
            .with_context(|| format!("cannot understand `{}`", btf::VMLINUX))?;
        drop(types);

        // 2. Set globals, load, attach. What this kernel allows is decided by what it loads.
        let mut config = Config {
            offsets,
            v6only_mask,
            cookie_helper: 1,
            send_hook: 0,
            receive_hook: 0,
            ports: [0; PORTS_MAX],
        };
        for (slot, port) in config.ports.iter_mut().zip(ports) {
            *slot = *port;
        }
        let mut ebpf = load_what_it_allows(&mut config, &btf, &mut wanted, &mut limits, verbose)?;
        let mut hooks = Vec::new();
        for Program { name, tracepoint, .. } in &wanted {
            let program: &mut BtfTracePoint = program_mut(&mut ebpf, name)?;
            program.attach().map_err(|error| refused_by_kernel(&format!("the program `{name}`"), &error))?;
            hooks.push(Hook { name: (*tracepoint).to_owned(), kind: "tp_btf".to_owned() });
        }

        // 3. What the session reads.
        let ring = RingBuf::try_from(ebpf.take_map("EVENTS").context("the object has no map `EVENTS`")?)?;
        let lost = PerCpuArray::try_from(ebpf.take_map("LOST").context("the object has no map `LOST`")?)?;
        drop(btf);
        release_memory();
        Ok((Self { ebpf, lost, hooks, limits }, Ring::new(ring)?))
    }

    /// Takes the stream of the programs' own messages, which are rare and off without `-v`.
    ///
    /// # Errors
    /// When the object has no such stream.
    pub fn logger<T: log::Log>(&mut self, logger: T) -> Result<EbpfLogger<T>> {
        Ok(EbpfLogger::init_with_logger(&mut self.ebpf, logger)?)
    }

    /// Reads the loss counters.
    ///
    /// # Errors
    /// When the map cannot be read.
    pub fn losses(&self) -> Result<Losses> {
        let sum = |index: u32| -> Result<u64> { Ok(self.lost.get(&index, 0)?.iter().sum()) };
        Ok(Losses { ring: sum(lost::RING)?, attempts: sum(lost::ATTEMPTS)? })
    }

    /// How often the kernel skipped a program because it had interrupted itself on a CPU, in all: an
    /// upper bound of the refusals it cost, since sockets of other ports count too and most refusals
    /// have a second witness. 0 where the kernel does not count (before 5.12).
    pub fn recursion_misses(&self) -> u64 {
        self.ebpf
            .programs()
            .filter_map(|(_, program)| program.fd().ok())
            .map(|fd| recursion_misses(std::os::fd::AsFd::as_fd(fd)))
            .sum()
    }
}

/// Loads the wanted programs; those that the kernel refuses and that can be done without make room for a
/// limit.
fn load_what_it_allows(
    config: &mut Config,
    btf: &aya::Btf,
    wanted: &mut Vec<Program>,
    limits: &mut Vec<Limit>,
    verbose: bool,
) -> Result<Ebpf, Failure> {
    loop {
        let is_wanted = |name: &str| u32::from(wanted.iter().any(|program| program.name == name));
        config.send_hook = is_wanted("reset_sent");
        config.receive_hook = is_wanted("reset_received");
        config.cookie_helper = 1;
        let (refused, failure) = match load(config, btf, wanted, verbose) {
            Ok(ebpf) => return Ok(ebpf),
            Err(refusal) => refusal,
        };
        config.cookie_helper = 0;
        if let Ok(ebpf) = load(config, btf, wanted, verbose) {
            limits.push(Limit {
                what: "no-socket-cookie".to_owned(),
                why: "this kernel does not lend bpf_get_socket_cookie to tracing programs (5.12 and later): \
                      sockets are told apart by inode number"
                    .to_owned(),
            });
            return Ok(ebpf);
        }
        let Some(limit) = refused.and_then(|index| wanted.get(index)?.without.as_ref()) else {
            return Err(failure);
        };
        limits.push(limit.into());
        if let Some(index) = refused {
            wanted.remove(index);
        }
    }
}

/// One attempt to load every wanted program with one configuration. Of a refusal it gives the program, where
/// it is one's.
fn load(
    config: &Config,
    btf: &aya::Btf,
    wanted: &[Program],
    verbose: bool,
) -> Result<Ebpf, (Option<usize>, Failure)> {
    let globals = Globals(*config);
    let log_level = if verbose { 2u8 } else { 0 };
    let mut loader = EbpfLoader::new();
    loader
        .btf(Some(btf))
        .verifier_log_level(if verbose { VerifierLogLevel::VERBOSE } else { VerifierLogLevel::DISABLE })
        .override_global("CONFIG", &globals, true)
        .override_global(aya_log::LEVEL, &log_level, false);
    let mut ebpf = loader.load(OBJECT).map_err(|error| (None, refused_by_kernel("the maps", &error)))?;
    for (index, Program { name, tracepoint, .. }) in wanted.iter().enumerate() {
        let refused = |error: &(dyn std::error::Error + 'static)| {
            (Some(index), refused_by_kernel(&format!("the program `{name}`"), error))
        };
        let program: &mut BtfTracePoint = program_mut(&mut ebpf, name).map_err(|error| refused(&*error))?;
        program.load(tracepoint, btf).map_err(|error| refused(&error))?;
    }
    Ok(ebpf)
}

fn program_mut<'a>(ebpf: &'a mut Ebpf, name: &str) -> Result<&'a mut BtfTracePoint> {
    let program = ebpf.program_mut(name).with_context(|| format!("the object has no program `{name}`"))?;
    let program: Result<_, ProgramError> = program.try_into();
    Ok(program?)
}

fn unfit(error: btf::BtfError) -> Failure {
    Failure::host(
        format!("cannot read this kernel's structures: {error}"),
        "please report this kernel's version (uname -r) and where it comes from",
    )
}

fn no_tracepoint(name: &str) -> Failure {
    Failure::host(
        format!("this kernel has no `{name}` tracepoint, without which no refusal is seen"),
        "it needs CONFIG_INET and CONFIG_TRACEPOINTS, as every distribution's kernel has",
    )
}

/// The chain of an error as one line; what the verifier said stands in it.
fn refused_by_kernel(what: &str, error: &(dyn std::error::Error + 'static)) -> Failure {
    let mut detail = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        detail = format!("{detail}: {error}");
        source = error.source();
    }
    Failure {
        exit: Exit::Host,
        sentence: format!("the kernel refuses {what}, without which no refusal can be seen"),
        hint: "-v shows the kernel's own words; a lockdown or a container's policy may forbid bpf()"
            .to_owned(),
        detail: Some(detail),
    }
}

/// Gives back what parsing the kernel's types took: tens of megabytes that are not needed again.
fn release_memory() {
    #[cfg(target_env = "gnu")]
    // SAFETY: only returns free pages to the system.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// `bpf_prog_info.recursion_misses` of one program; 0 when it cannot be read.
fn recursion_misses(program: BorrowedFd<'_>) -> u64 {
    use aya_obj::generated::{bpf_attr, bpf_cmd, bpf_prog_info};

    // SAFETY: both are plain integers, for which zero is a value.
    let (mut info, mut attr): (bpf_prog_info, bpf_attr) = unsafe { (std::mem::zeroed(), std::mem::zeroed()) };
    attr.info.bpf_fd = program.as_raw_fd() as u32;
    attr.info.info_len = size_of::<bpf_prog_info>() as u32;
    attr.info.info = (&raw mut info) as u64;
    // SAFETY: the kernel writes at most `info_len` bytes to `info`, which outlives the call.
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            bpf_cmd::BPF_OBJ_GET_INFO_BY_FD as libc::c_int,
            &raw mut attr,
            size_of::<bpf_attr>(),
        )
    };
    if result == 0 { info.recursion_misses } else { 0 }
}
