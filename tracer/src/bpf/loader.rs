//! Puts the kernel programs in place: detect features, set globals, load, attach.

use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::Arc;

use anyhow::{Context as _, Result, anyhow};
use aya::Ebpf;
use aya::maps::{Array, HashMap, Map, PerCpuArray, RingBuf};
use aya::programs::{FEntry, FExit, TracePoint};
use clap::ValueEnum;
use tracer_ebpf::{Config, PORTS_MAX};

use crate::bpf::counted_table::CountedTable;
use crate::bpf::features::Features;
use crate::bpf::kernel::Kernel;
use crate::bpf::losses::{self, Counters, Pair};
use crate::bpf::names::{self, Name};
use crate::bpf::object::{self, Refusal};
use crate::bpf::openings;
use crate::bpf::probes::{self, Probe, Program, Target, TracepointProbe, Without};
use crate::bpf::ring::Ring;
use crate::bpf::tracepoint::Tracefs;
use crate::bpf::upstream::Upstream;
use crate::exit::Failure;
use crate::host::clock;
use crate::memory;
use crate::model::hook::Hook;
use crate::model::limit::{Limit, NoSocketCookie};
use crate::stdio::talk;

/// The programs whose start the kernel side records.
#[derive(Clone, Debug)]
pub enum Servers {
    /// Every one.
    Every,
    /// Those with one of these names, of which fifteen bytes count. More can be added while the programs run.
    Named(Vec<&'static str>),
}

impl Servers {
    /// The names that the kernel side looks for.
    fn names(&self) -> &[&'static str] {
        match self {
            Self::Every => &[],
            Self::Named(names) => names,
        }
    }
}

/// How `bind()` is followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum BindHook {
    /// By fexit programs where the kernel takes them, else by the system call's tracepoints
    Best,
    Fexit,
    Tracepoint,
    None,
}

/// Loads the programs for `ports` and attaches them; the ring begins to fill.
///
/// # Errors
/// A [`Failure`] that names what this kernel lacks.
pub fn attach(
    ports: &[u16],
    servers: &Servers,
    bind_hook: BindHook,
    verbose: bool,
) -> Result<(Kernel, Ring)> {
    let features = Features::detect()?;
    let mut plan = Plan::of(&features)?;
    let ebpf = plan.load(globals(&features, ports, servers), &features, verbose)?;

    let mut attaching = Attaching::new(ebpf, plan.limits, &features, servers.names())?;
    if features.preempts_programs {
        // First, so that no listener is seen without its cookie.
        attaching.listener_cookies();
    }
    attaching.tracepoints(&plan.probes)?;
    let binds = attaching.binds(bind_hook);
    if features.preempts_programs {
        attaching.redundant_binds(binds);
    }
    attaching.listens(features.preempts_programs);
    let attached = attaching.finish()?;

    drop(features);
    // Parsing the types took tens of megabytes that are not needed again.
    memory::release();
    Ok(attached)
}

/// The constants of the programs, before anything has been loaded.
fn globals(features: &Features, ports: &[u16], servers: &Servers) -> Config {
    let mut config = Config {
        offsets: features.offsets,
        v6only_mask: features.v6only_mask,
        cookie_helper: 1,
        send_hook: 0,
        receive_hook: 0,
        exec_all: u32::from(matches!(servers, Servers::Every)),
        redundant_probes: u32::from(features.preempts_programs),
        rcu_free_mask: features.rcu_free_mask.unwrap_or(0),
        ports: [0; PORTS_MAX],
    };
    for (slot, port) in config.ports.iter_mut().zip(ports) {
        *slot = *port;
    }
    config
}

/// The probes to load, and the limits that those left out make.
struct Plan {
    probes: Vec<&'static TracepointProbe>,
    limits: Vec<Limit>,
}

impl Plan {
    /// Every probe that this kernel has the tracepoint for.
    fn of(features: &Features) -> Result<Self, Failure> {
        let mut plan = Self { probes: Vec::new(), limits: Vec::new() };
        if !features.has_netns_cookie() {
            plan.limits.push(Limit::NoNetnsCookie);
        }
        for (probe, is_there) in features.tracepoints() {
            match &probe.without {
                _ if is_there => plan.probes.push(probe),
                Without::Limited(limit) => plan.limits.push(limit.clone()),
                Without::Nothing => return Err(no_tracepoint(&probe.probe.program)),
            }
        }
        Ok(plan)
    }

    /// Loads the probes. What this kernel allows is decided by what it loads: a probe that it refuses, and that can be done
    /// without, becomes a limit.
    fn load(&mut self, mut config: Config, features: &Features, verbose: bool) -> Result<Ebpf, Failure> {
        loop {
            config.send_hook = u32::from(self.has(probes::RESET_SENT));
            config.receive_hook = u32::from(self.has(probes::RESET_RECEIVED));
            config.cookie_helper = 1;
            let first = match object::load(&config, &features.btf, &self.probes, verbose) {
                Ok(ebpf) => return Ok(ebpf),
                Err(refusal) => refusal,
            };
            // Where the kernel takes the programs in another form, its log is of use to developers only.
            if verbose && let Some(detail) = &first.failure.detail {
                talk(format_args!("tracer: without socket cookies, for {detail}"));
            }
            config.cookie_helper = 0;
            // What is wrong with the programs in either form is what they are refused for.
            let Refusal { probe, failure } = match object::load(&config, &features.btf, &self.probes, verbose)
            {
                Ok(ebpf) => {
                    self.limits.push(Limit::NoSocketCookie(NoSocketCookie::Helper));
                    return Ok(ebpf);
                }
                Err(refusal) => refusal,
            };
            self.leave_out(probe, failure)?;
        }
    }

    fn has(&self, name: &str) -> bool {
        self.probes.iter().any(|probe| probe.probe.program.name == name)
    }

    /// Leaves a refused probe out, if that can be done without.
    fn leave_out(&mut self, refused: Option<usize>, failure: Failure) -> Result<(), Failure> {
        let Some(index) = refused else { return Err(failure) };
        match self.probes.get(index).map(|probe| &probe.without) {
            Some(Without::Limited(limit)) => self.limits.push(limit.clone()),
            Some(Without::Nothing) | None => return Err(failure),
        }
        self.probes.remove(index);
        Ok(())
    }
}

/// The programs while they are being attached.
struct Attaching<'a> {
    ebpf: Ebpf,
    features: &'a Features,
    hooks: Vec<Hook>,
    limits: Vec<Limit>,
    pairs: Vec<Pair>,
    events: Vec<OwnedFd>,
    names: CountedTable<Name>,
}

impl<'a> Attaching<'a> {
    /// Programs that are not attached yet, with the names that they look up.
    fn new(mut ebpf: Ebpf, limits: Vec<Limit>, features: &'a Features, names: &[&str]) -> Result<Self> {
        let mut table = CountedTable::new(HashMap::try_from(take_map(&mut ebpf, "NAMES")?)?);
        names.iter().for_each(|name| table.add(names::key(name.as_bytes())));
        let (hooks, pairs, events) = (Vec::new(), Vec::new(), Vec::new());
        Ok(Self { ebpf, features, hooks, limits, pairs, events, names: table })
    }

    fn listener_cookies(&mut self) {
        match self.attach_to_function(&probes::LISTENER_COOKIE) {
            Ok(()) => self.hooks.push(probes::LISTENER_COOKIE.hook()),
            Err(_) => self.limits.push(Limit::NoSocketCookie(NoSocketCookie::Fentry)),
        }
    }

    /// Attaches the probes on tracepoints: each with its redundant partner immediately, where programs are skipped.
    fn tracepoints(&mut self, probes: &[&TracepointProbe]) -> Result<(), Failure> {
        let tracefs = self.features.preempts_programs.then(Tracefs::open).and_then(Result::ok);
        for TracepointProbe { probe, .. } in probes {
            let program = &probe.program;
            let loaded = object::btf_tracepoint(&mut self.ebpf, program.name)
                .map_err(|error| object::refused_program(program, &*error))?;
            loaded.attach().map_err(|error| object::refused_program(program, &error))?;
            self.hooks.push(program.hook());
            if let Some(redundant) = probe.redundant.filter(|_| self.features.preempts_programs) {
                self.redundant_tracepoint(program, &redundant, tracefs.as_ref());
            }
        }
        Ok(())
    }

    /// Attaches the redundant partner of a probe, where this host has classic tracepoints.
    fn redundant_tracepoint(&mut self, program: &Program, redundant: &Program, tracefs: Option<&Tracefs>) {
        let is_attached = tracefs.is_some_and(|tracefs| self.attach_event(tracefs, redundant).is_ok());
        if is_attached {
            self.hooks.push(redundant.hook());
        }
        // A skipped run of the others loses no refusal.
        if program.name == probes::STATE {
            self.pair(program.name, is_attached.then_some(redundant.name));
            self.limits.push(Limit::PreemptedPrograms { is_redundant: is_attached });
        }
    }

    /// Has it counted for what both programs were skipped.
    fn pair(&mut self, primary: &'static str, redundant: Option<&'static str>) {
        let alone = redundant.map_or(0, |_| losses::recursion_misses(&self.ebpf, primary));
        self.pairs.push(Pair { primary, redundant, alone });
    }

    /// Follows `bind()`, by the best probe that this kernel loads. Gives the probes on functions.
    fn binds(&mut self, bind_hook: BindHook) -> &'static [Probe] {
        let (by_function, by_call) = match bind_hook {
            BindHook::Best => (true, true),
            BindHook::Fexit => (true, false),
            BindHook::Tracepoint => (false, true),
            BindHook::None => (false, false),
        };
        for probes in probes::BIND_FUNCTIONS.iter().filter(|_| by_function) {
            // A kernel without IPv6 has no function for it, and no such bind() to follow.
            let attached =
                probes.iter().take_while(|probe| self.attach_to_function(&probe.program).is_ok()).count();
            if attached > 0 {
                let attached = &probes[..attached];
                self.hooks.extend(attached.iter().map(|probe| probe.program.hook()));
                return attached;
            }
        }
        let calls = if by_call { self.bind_calls() } else { Err(anyhow!("--bind-hook rules it out")) };
        match calls {
            Ok(()) => {
                self.hooks.extend(probes::BIND_CALLS.iter().map(Program::hook));
                self.limits.push(Limit::BindBySyscall);
            }
            Err(error) => self.limits.push(Limit::NoBinds { error: format!("{error:#}") }),
        }
        &[]
    }

    /// Follows the results of `listen()`. Where the kernel refuses the program, or skips it, no result is lost: a dump of the
    /// namespace shows it too.
    fn listens(&mut self, is_redundant: bool) {
        let Probe { program, redundant } = &probes::LISTEN_RESULT;
        if self.attach_to_function(program).is_ok() {
            self.hooks.push(program.hook());
            if let Some(redundant) = redundant.filter(|_| is_redundant) {
                let _ = self.attach_to_function(&redundant);
            }
        }
    }

    fn bind_calls(&mut self) -> Result<()> {
        let tracefs = Tracefs::open().context("cannot open tracefs")?;
        probes::BIND_CALLS.iter().try_for_each(|call| self.attach_event(&tracefs, call))
    }

    /// Attaches the redundant partners of the probes that see `bind()` return.
    fn redundant_binds(&mut self, probes: &[Probe]) {
        for probe in probes {
            let attached = probe.redundant.filter(|redundant| self.attach_to_function(redundant).is_ok());
            self.pair(probe.program.name, attached.map(|redundant| redundant.name));
        }
    }

    /// Loads a program on a kernel function, and attaches it.
    fn attach_to_function(&mut self, program: &Program) -> Result<()> {
        let loaded = program_mut(&mut self.ebpf, program.name)?;
        match program.target {
            Target::Fentry(function) => {
                let loaded: &mut FEntry = loaded.try_into()?;
                loaded.load(function, &self.features.btf)?;
                loaded.attach()?;
            }
            Target::Fexit(function) => {
                let loaded: &mut FExit = loaded.try_into()?;
                loaded.load(function, &self.features.btf)?;
                loaded.attach()?;
            }
            Target::BtfTracepoint(name) | Target::Tracepoint(name) => {
                return Err(anyhow!("`{name}` is not a function"));
            }
        }
        Ok(())
    }

    /// Loads a program on a classic tracepoint, and attaches it.
    fn attach_event(&mut self, tracefs: &Tracefs, program: &Program) -> Result<()> {
        let Target::Tracepoint(tracepoint) = program.target else {
            return Err(anyhow!("`{}` is not on a classic tracepoint", program.name));
        };
        let loaded: &mut TracePoint = program_mut(&mut self.ebpf, program.name)?.try_into()?;
        loaded.load()?;
        let event = tracefs.attach(tracepoint, loaded.fd()?.as_fd());
        self.events.push(event.with_context(|| format!("cannot attach to `{tracepoint}`"))?);
        Ok(())
    }

    /// Takes the maps that a session reads.
    fn finish(mut self) -> Result<(Kernel, Ring)> {
        let ring = RingBuf::try_from(self.take_map("EVENTS")?)?;
        let polled = Array::try_from(self.take_map("POLLED")?)?;
        let followed = CountedTable::new(HashMap::try_from(self.take_map("FOLLOWED")?)?);
        let upstream = Upstream::new(
            HashMap::try_from(self.take_map("HOLDERS")?)?,
            Array::try_from(self.take_map("GATES")?)?,
            Array::try_from(self.take_map("ADDED_PORTS")?)?,
        );
        let map = PerCpuArray::try_from(self.take_map("OPENINGS")?)?;
        let openings = Arc::new(openings::Table { map, attached: clock::now() });
        let counters = Counters {
            lost: PerCpuArray::try_from(self.take_map("LOST")?)?,
            attempts: HashMap::try_from(self.take_map("ATTEMPTS")?)?,
            pairs: self.pairs,
        };
        let kernel = Kernel {
            counters,
            openings,
            followed,
            names: self.names,
            upstream,
            ebpf: self.ebpf,
            _events: self.events,
            hooks: self.hooks,
            limits: self.limits,
        };
        Ok((kernel, Ring::new(ring, polled)?))
    }

    fn take_map(&mut self, name: &str) -> Result<Map> {
        take_map(&mut self.ebpf, name)
    }
}

fn take_map(ebpf: &mut Ebpf, name: &str) -> Result<Map> {
    ebpf.take_map(name).with_context(|| format!("the object has no map `{name}`"))
}

fn program_mut<'a>(ebpf: &'a mut Ebpf, name: &str) -> Result<&'a mut aya::programs::Program> {
    ebpf.program_mut(name).with_context(|| format!("the object has no program `{name}`"))
}

fn no_tracepoint(program: &Program) -> Failure {
    Failure::host(
        format!("this kernel has no `{}` tracepoint, without which no refusal is seen", program.hook().name),
        "it needs CONFIG_INET and CONFIG_TRACEPOINTS, as every distribution's kernel has",
    )
}
