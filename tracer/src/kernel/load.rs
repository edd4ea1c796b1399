//! Puts the kernel programs in place: open, set globals, load, attach.

use std::collections::BTreeSet;
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};

use anyhow::{Context as _, Result, anyhow};
use aya::maps::{Array, HashMap, MapData, PerCpuArray, RingBuf};
use aya::programs::{BtfTracePoint, FEntry, FExit, ProgramError, TracePoint};
use aya::{Ebpf, EbpfLoader, Endianness, Pod, VerifierLogLevel};
use aya_log::EbpfLogger;
use tracer_ebpf::{ATTEMPT_BYTES, Config, NAMES_MAX, PORTS_MAX, lost};

use super::btf::{self, Btf};
use super::ring::Ring;
use super::tracepoint::Tracefs;
use crate::cli::BindHook;
use crate::exit::{Exit, Failure, talk};
use crate::line::{Hook, Limit};
use crate::memory;

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
    /// The program that does the same on a classic tracepoint, and which.
    undisturbed: Option<(&'static str, &'static str)>,
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

/// Processes that are not followed and told apart.
const UNFOLLOWED_MAX: usize = 4_096;

/// The program that sees connects begin and end, and the one that does so undisturbed.
const STATE: &str = "sock_state";
const STATE_UNDISTURBED: &str = "sock_state_undisturbed";

const PROGRAMS: [Program; 7] = [
    Program {
        name: "error_report",
        tracepoint: "inet_sk_error_report",
        arguments: 1,
        without: Some(KnownLimit {
            what: "no-icmp-refusals",
            why: "this kernel has no inet_sk_error_report tracepoint (5.14 and later): a non-blocking \
                  connect that a firewall refuses by ICMP is not seen",
        }),
        undisturbed: None,
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
        undisturbed: None,
    },
    Program {
        name: "socket_destroyed",
        tracepoint: "tcp_destroy_sock",
        arguments: 1,
        without: Some(KnownLimit {
            what: "no-bound-sockets",
            why: "this kernel has no tcp_destroy_sock tracepoint: a socket that is bound and does not listen is \
                  not told of",
        }),
        undisturbed: Some(("socket_destroyed_undisturbed", "tcp/tcp_destroy_sock")),
    },
    Program {
        name: "process_exit",
        tracepoint: "sched_process_exit",
        // One before 6.16, two since; the program uses neither.
        arguments: ANY,
        without: Some(KnownLimit {
            what: "no-exits",
            why: "this kernel has no sched_process_exit tracepoint: how a server ended is not told",
        }),
        undisturbed: Some(("process_exit_undisturbed", "sched/sched_process_exit")),
    },
    Program {
        name: "process_exec",
        tracepoint: "sched_process_exec",
        arguments: ANY,
        without: Some(KnownLimit {
            what: "no-starts",
            why: "this kernel has no sched_process_exec tracepoint: a server that starts is seen once it binds",
        }),
        undisturbed: Some(("process_exec_undisturbed", "sched/sched_process_exec")),
    },
    Program {
        name: "reset_received",
        tracepoint: "tcp_receive_reset",
        arguments: 1,
        without: Some(KnownLimit {
            what: "no-icmp6-refusals",
            why: "this kernel has no tcp_receive_reset tracepoint: a refusal by ICMPv6 is told as one by a reset",
        }),
        undisturbed: None,
    },
    Program {
        name: STATE,
        tracepoint: "inet_sock_set_state",
        arguments: 3,
        without: None,
        undisturbed: Some((STATE_UNDISTURBED, "sock/inet_sock_set_state")),
    },
];

/// The program that gives listeners their cookies for [`STATE_UNDISTURBED`], and the function it precedes.
const COOKIE: (&str, &str) = ("listener_cookie", "inet_csk_listen_start");

/// Any number of arguments will do.
const ANY: usize = usize::MAX;

/// The programs that see `bind()` return, the better pair first, and the functions they follow: where the
/// kernel has the first pair, the second calls it.
const BINDS: [[(&str, &str); 2]; 2] = [
    [("bind_v4_sock", "inet_bind_sk"), ("bind_v6_sock", "inet6_bind_sk")],
    [("bind_v4_socket", "inet_bind"), ("bind_v6_socket", "inet6_bind")],
];

/// Each of the first pair and its copy, for kernels that preempt them.
const BINDS_TWICE: [[&str; 2]; 2] =
    [["bind_v4_sock", "bind_v4_sock_again"], ["bind_v6_sock", "bind_v6_sock_again"]];

/// The programs that see it as a system call.
const BIND_CALLS: [(&str, &str); 2] =
    [("bind_exit", "syscalls/sys_exit_bind"), ("bind_enter", "syscalls/sys_enter_bind")];

/// The attached programs. Dropping it detaches them.
pub struct Kernel {
    ebpf: Ebpf,
    lost: PerCpuArray<MapData, [u64; lost::COUNTERS]>,
    attempts: HashMap<MapData, u64, [u8; ATTEMPT_BYTES]>,
    followed: HashMap<MapData, u32, u32>,
    /// Processes that found no place there.
    unfollowed: BTreeSet<u32>,
    unfollowed_count: u64,
    /// Holds programs on tracepoints.
    _events: Vec<OwnedFd>,
    /// Programs that are preempted while they run, and skipped for everybody else on that CPU meanwhile, each with the
    /// one that does the same; with itself where that is not attached.
    pairs: Vec<[&'static str; 2]>,
    pub hooks: Vec<Hook>,
    pub limits: Vec<Limit>,
}

/// What was counted as lost since the programs were attached.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Losses {
    /// Records that found the ring full.
    pub ring: u64,
    /// Connection attempts that found their table full.
    pub attempts: u64,
    /// Processes whose end will not be told.
    pub followed: u64,
    /// Connection attempts whose end no program saw, as far as that is known yet.
    pub ends: u64,
    /// Where programs are preempted: what each of a pair was skipped for, on any socket. What neither saw is among those
    /// of both.
    pub skipped: Vec<[u64; 2]>,
}

impl Losses {
    /// What has been lost since `before`.
    pub fn since(&self, before: &Self) -> Self {
        // What was missed takes a skip of each of a pair, which may lie far apart.
        let both = |losses: &Self| losses.skipped.iter().map(|[one, other]| one.min(other)).sum::<u64>();
        Self {
            ring: self.ring.saturating_sub(before.ring),
            attempts: self.attempts.saturating_sub(before.attempts),
            followed: self.followed.saturating_sub(before.followed),
            ends: self.ends.saturating_sub(before.ends) + both(self).saturating_sub(both(before)),
            skipped: Vec::new(),
        }
    }
}

/// What may be missed on a kernel that preempts programs: less where classic tracepoints see it too.
fn preempted(is_alone: bool) -> Limit {
    let how_often = if is_alone { "are missed" } else { "are missed now and then" };
    Limit {
        what: "preempted-programs".to_owned(),
        why: format!(
            "this kernel preempts programs while they run, and skips them for others meanwhile: on processors that are \
             all busy with connects, some connects, binds and refusals by ICMP {how_often}; `lost` counts how many of \
             the first two at most"
        ),
    }
}

impl Kernel {
    /// Loads the programs for `ports` and attaches them; the ring begins to fill.
    ///
    /// # Errors
    /// A [`Failure`] that says what this kernel lacks.
    pub fn attach(
        ports: &[u16],
        servers: &Servers,
        bind_hook: BindHook,
        verbose: bool,
    ) -> Result<(Self, Ring)> {
        // 1. The running kernel's types: where its structures keep what the programs read.
        let types = std::fs::read(btf::VMLINUX).with_context(|| format!("cannot read `{}`", btf::VMLINUX))?;
        let index = Btf::parse(&types).map_err(unfit)?;
        let (offsets, v6only_mask) = index.offsets().map_err(unfit)?;
        let mut limits = Vec::new();
        if offsets.net_cookie == tracer_ebpf::MISSING {
            limits.push(Limit {
                what: "no-netns-cookie".to_owned(),
                why: "this kernel does not tell a network namespace from a later one with its number (5.14 and later do): \
                      one without a name under /run/netns may be taken for one that is gone"
                    .to_owned(),
            });
        }
        let mut wanted = Vec::new();
        for program in PROGRAMS {
            match (index.tracepoint_arguments(program.tracepoint), &program.without) {
                (Some(arguments), _) if arguments == program.arguments || program.arguments == ANY => {
                    wanted.push(program);
                }
                (_, Some(limit)) => limits.push(limit.into()),
                (_, None) => return Err(no_tracepoint(program.tracepoint).into()),
            }
        }
        let functions: Vec<&str> =
            BINDS.iter().flatten().chain([&COOKIE]).map(|(_, function)| *function).collect();
        let names = index.names(&functions).map_err(unfit)?;
        drop(index);
        drop(types);
        let btf = aya::Btf::parse(&names, Endianness::Little)
            .with_context(|| format!("cannot understand `{}`", btf::VMLINUX))?;
        drop(names);

        // 2. Set globals, load, attach. What this kernel allows is decided by what it loads.
        let mut config = Config {
            offsets,
            v6only_mask,
            cookie_helper: 1,
            send_hook: 0,
            receive_hook: 0,
            exec_all: u32::from(servers.every),
            twice: 0,
            reserved: 0,
            exec_names: [0; NAMES_MAX],
            ports: [0; PORTS_MAX],
        };
        for (slot, name) in config.exec_names.iter_mut().zip(&servers.names) {
            *slot = first_eight(name);
        }
        for (slot, port) in config.ports.iter_mut().zip(ports) {
            *slot = *port;
        }
        // Nothing but the version tells of preemption; seen on 7.3, where connects went missing, and not on 6.12.
        let are_preempted = super::preflight::release() >= Some((7, 0));
        config.twice = u32::from(are_preempted);
        let mut ebpf = load_what_it_allows(&mut config, &btf, &mut wanted, &mut limits, verbose)?;
        let mut hooks = Vec::new();
        if are_preempted {
            // First, so that no listener is seen without its cookie.
            match attach_cookie(&mut ebpf, &btf) {
                Ok(hook) => hooks.push(hook),
                Err(_) => limits.push(Limit {
                    what: "no-socket-cookie".to_owned(),
                    why: "this kernel refuses fentry programs: listeners may be told apart by inode number only"
                        .to_owned(),
                }),
            }
        }
        for program in &wanted {
            hooks.push(attach_tracepoint(&mut ebpf, program)?);
        }
        let mut events = Vec::new();
        let mut pairs = Vec::new();
        if are_preempted {
            events = attach_undisturbed(&mut ebpf, &wanted, &mut hooks);
            let is_alone = hooks.iter().all(|hook| hook.name != "sock:inet_sock_set_state");
            pairs.push([STATE, if is_alone { STATE } else { STATE_UNDISTURBED }]);
            limits.push(preempted(is_alone));
        }
        events.extend(attach_binds(&mut ebpf, &btf, bind_hook, &mut hooks, &mut limits));
        if are_preempted {
            for name in
                BINDS.iter().flatten().filter(|(_, function)| hooks.iter().any(|hook| hook.name == *function))
            {
                pairs.push(attach_again(&mut ebpf, &btf, *name));
            }
        }

        // 3. What the session reads.
        let ring = RingBuf::try_from(ebpf.take_map("EVENTS").context("the object has no map `EVENTS`")?)?;
        let lost = PerCpuArray::try_from(ebpf.take_map("LOST").context("the object has no map `LOST`")?)?;
        let attempts =
            HashMap::try_from(ebpf.take_map("ATTEMPTS").context("the object has no map `ATTEMPTS`")?)?;
        let polled = Array::try_from(ebpf.take_map("POLLED").context("the object has no map `POLLED`")?)?;
        let followed =
            HashMap::try_from(ebpf.take_map("FOLLOWED").context("the object has no map `FOLLOWED`")?)?;
        drop(btf);
        // Parsing the types took tens of megabytes that are not needed again.
        memory::release();
        let kernel = Self {
            ebpf,
            lost,
            attempts,
            followed,
            unfollowed: BTreeSet::new(),
            unfollowed_count: 0,
            _events: events,
            pairs,
            hooks,
            limits,
        };
        Ok((kernel, Ring::new(ring, polled)?))
    }

    /// Takes the stream of the programs' own messages, which are rare and off without `-v`.
    ///
    /// # Errors
    /// When the object has no such stream.
    pub fn logger<T: log::Log>(&mut self, logger: T) -> Result<EbpfLogger<T>> {
        Ok(EbpfLogger::init_with_logger(&mut self.ebpf, logger)?)
    }

    /// Asks for the end of a process to be told; a full table costs that, and nothing else. Each is counted once.
    pub fn follow(&mut self, pid: u32) {
        if self.followed.insert(pid, 1, 0).is_err() && self.unfollowed.insert(pid) {
            self.unfollowed_count += 1;
            if self.unfollowed.len() > UNFOLLOWED_MAX {
                self.unfollowed.clear();
            }
        }
    }

    /// Reads the loss counters.
    ///
    /// # Errors
    /// When the map cannot be read.
    pub fn losses(&self) -> Result<Losses> {
        let counters = self.lost.get(&0, 0)?;
        let sum = |index: usize| counters.iter().map(|of_cpu| of_cpu[index]).sum();
        let skipped = |pair: &[&str; 2]| pair.map(|name| self.skipped(name).unwrap_or_default());
        Ok(Losses {
            ring: sum(lost::RING),
            attempts: sum(lost::ATTEMPTS),
            followed: sum(lost::FOLLOWED) + self.unfollowed_count,
            ends: sum(lost::ENDS),
            skipped: self.pairs.iter().map(skipped).collect(),
        })
    }

    /// How often the kernel has skipped a program, on any socket; `None`: it is not loaded.
    fn skipped(&self, name: &str) -> Option<u64> {
        let program = self.ebpf.program(name).and_then(|program| program.fd().ok())?;
        Some(recursion_misses(program.as_fd()))
    }

    /// How many connection attempts may have ended unseen, besides [`Losses::ends`]: an upper bound. One that no
    /// program saw end is still in the table, with those under way; and the kernel has skipped the program
    /// that sees ends, because it had interrupted itself on a CPU, for each of them. It counts that since 5.12,
    /// and skips since 6.2 (`bpf_trace_run`, kernel/trace/bpf_trace.c).
    pub fn unseen_ends(&self) -> u64 {
        // Counted as it goes.
        if !self.pairs.is_empty() {
            return 0;
        }
        let skipped = self.skipped(STATE).unwrap_or_default();
        if skipped == 0 {
            return 0;
        }
        let under_way = self.attempts.keys().map_while(Result::ok).count() as u64;
        under_way.min(skipped)
    }
}

/// The programs whose start the kernel side tells of.
#[derive(Clone, Debug, Default)]
pub struct Servers {
    /// Every one.
    pub every: bool,
    /// Those whose names begin with one of these, of which eight bytes count.
    pub names: Vec<&'static str>,
}

/// A name as the kernel side compares it.
fn first_eight(name: &str) -> u64 {
    let mut bytes = [0; 8];
    for (slot, byte) in bytes.iter_mut().zip(name.bytes()) {
        *slot = byte;
    }
    u64::from_le_bytes(bytes)
}

fn attach_tracepoint(ebpf: &mut Ebpf, program: &Program) -> Result<Hook, Failure> {
    let refused = |error: &(dyn std::error::Error + 'static)| {
        refused_by_kernel(&format!("the program `{}`", program.name), error)
    };
    let loaded = program_mut(ebpf, program.name).map_err(|error| refused(&*error))?;
    loaded.attach().map_err(|error| refused(&error))?;
    Ok(Hook { name: program.tracepoint.to_owned(), kind: "tp_btf".to_owned() })
}

/// Attaches programs that do the same as others by classic tracepoints, as far as this host has those. Gives what has to
/// be held open.
fn attach_undisturbed(ebpf: &mut Ebpf, programs: &[Program], hooks: &mut Vec<Hook>) -> Vec<OwnedFd> {
    let Ok(tracefs) = Tracefs::open() else { return Vec::new() };
    let mut events = Vec::new();
    for (name, tracepoint) in programs.iter().filter_map(|program| program.undisturbed) {
        let Ok(event) = attach_event(ebpf, &tracefs, (name, tracepoint)) else { continue };
        events.push(event);
        hooks.push(Hook { name: tracepoint.replace('/', ":"), kind: "tracepoint".to_owned() });
    }
    events
}

/// Attaches a second program beside one that sees `bind()`, where there is one for its function. Gives the two; where a call
/// is missed for which the one is skipped, that one twice: see [`Kernel::losses`].
fn attach_again(
    ebpf: &mut Ebpf,
    btf: &aya::Btf,
    (name, function): (&'static str, &str),
) -> [&'static str; 2] {
    let again = BINDS_TWICE.into_iter().find(|[first, _]| *first == name).map(|[_, again]| again);
    match again.filter(|again| attach_function(ebpf, btf, (again, function)).is_ok()) {
        Some(again) => [name, again],
        None => [name, name],
    }
}

/// Follows `bind()`, by the best means that this kernel's real answer leaves. Gives what has to be held
/// open.
fn attach_binds(
    ebpf: &mut Ebpf,
    btf: &aya::Btf,
    bind_hook: BindHook,
    hooks: &mut Vec<Hook>,
    limits: &mut Vec<Limit>,
) -> Vec<OwnedFd> {
    let (by_function, by_call) = match bind_hook {
        BindHook::Best => (true, true),
        BindHook::Fexit => (true, false),
        BindHook::Tracepoint => (false, true),
        BindHook::None => (false, false),
    };
    for [v4, v6] in BINDS.into_iter().filter(|_| by_function) {
        if attach_function(ebpf, btf, v4).is_ok() {
            hooks.push(Hook { name: v4.1.to_owned(), kind: "fexit".to_owned() });
            // A kernel without IPv6 has no such function, and nothing to follow.
            if attach_function(ebpf, btf, v6).is_ok() {
                hooks.push(Hook { name: v6.1.to_owned(), kind: "fexit".to_owned() });
            }
            return Vec::new();
        }
    }
    let calls = if by_call { attach_calls(ebpf) } else { Err(anyhow!("--bind-hook rules it out")) };
    match calls {
        Ok(events) => {
            for (_, name) in BIND_CALLS {
                hooks.push(Hook { name: name.replace('/', ":"), kind: "tracepoint".to_owned() });
            }
            limits.push(Limit {
                what: "bind-by-syscall".to_owned(),
                why:
                    "this kernel refuses fexit programs: bind() is followed by its system call, which makes \
                      every system call of the host some 30 ns slower, and binds by io_uring are not seen"
                        .to_owned(),
            });
            events
        }
        Err(error) => {
            limits.push(Limit {
                what: "no-binds".to_owned(),
                why: format!("bind() cannot be followed, so that failed binds are not told: {error:#}"),
            });
            Vec::new()
        }
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
        // What the kernel said is of no more use where it takes the programs in another form, but for who mends that.
        if verbose && let Some(detail) = &failure.detail {
            talk(format_args!("tracer: without socket cookies, for {detail}"));
        }
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

fn attach_function(ebpf: &mut Ebpf, btf: &aya::Btf, (name, function): (&str, &str)) -> Result<()> {
    let program = ebpf.program_mut(name).with_context(|| format!("the object has no program `{name}`"))?;
    let program: &mut FExit = program.try_into()?;
    program.load(function, btf)?;
    program.attach()?;
    Ok(())
}

fn attach_cookie(ebpf: &mut Ebpf, btf: &aya::Btf) -> Result<Hook> {
    let (name, function) = COOKIE;
    let program = ebpf.program_mut(name).with_context(|| format!("the object has no program `{name}`"))?;
    let program: &mut FEntry = program.try_into()?;
    program.load(function, btf)?;
    program.attach()?;
    Ok(Hook { name: function.to_owned(), kind: "fentry".to_owned() })
}

fn attach_calls(ebpf: &mut Ebpf) -> Result<Vec<OwnedFd>> {
    let tracefs = Tracefs::open().context("cannot open tracefs")?;
    let mut events = Vec::new();
    for call in BIND_CALLS {
        events.push(attach_event(ebpf, &tracefs, call)?);
    }
    Ok(events)
}

/// Attaches a program to a classic tracepoint, as long as what this gives is open.
fn attach_event(ebpf: &mut Ebpf, tracefs: &Tracefs, (name, tracepoint): (&str, &str)) -> Result<OwnedFd> {
    let program = ebpf.program_mut(name).with_context(|| format!("the object has no program `{name}`"))?;
    let program: &mut TracePoint = program.try_into()?;
    program.load()?;
    let event = tracefs.attach(tracepoint, program.fd()?.as_fd());
    event.with_context(|| format!("cannot attach to `{tracepoint}`"))
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
    let mut loader = loader_without_types()
        .map_err(|error| (None, refused_by_kernel("files to be opened again", &io::Error::from(error))))?;
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

/// A loader that has not read the kernel's types: it does so by itself (`EbpfLoader::new`, aya 0.14), all of them, before it
/// can be told that it is given others. Where it may open no file, it goes without.
fn loader_without_types<'a>() -> rustix::io::Result<EbpfLoader<'a>> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    // Nothing else runs in this process yet that would miss them. Where the limit cannot be set, it takes longer.
    let is_set = setrlimit(Resource::Nofile, Rlimit { current: Some(0), ..limit }).is_ok();
    let loader = EbpfLoader::new();
    if is_set {
        setrlimit(Resource::Nofile, limit)?;
    }
    Ok(loader)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_neither_of_a_pair_saw_is_counted_however_far_apart_they_were_skipped() {
        let at = |skipped: [u64; 2]| Losses { skipped: vec![skipped], ..Losses::default() };
        let steps = [[0, 0], [1, 0], [1, 0], [1, 1], [5, 1], [5, 9], [5, 9]].map(at);
        let lost: Vec<u64> = steps.windows(2).map(|pair| pair[1].since(&pair[0]).ends).collect();
        assert_eq!(lost, [0, 0, 1, 0, 4, 0]);
    }

    #[test]
    fn a_counter_that_goes_back_counts_nothing() {
        let before = Losses { ring: 7, ends: 1, ..Losses::default() };
        assert_eq!(Losses::default().since(&before), Losses::default());
    }
}
