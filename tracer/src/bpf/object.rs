//! The compiled object: opened, its globals set, its programs on BTF tracepoints loaded. What the kernel refuses is a [`Refusal`].

use std::io;

use anyhow::{Context as _, Result};
use aya::programs::{BtfTracePoint, ProgramError};
use aya::{Btf, Ebpf, EbpfLoader, Pod, VerifierLogLevel};
use tracer_ebpf::Config;

use crate::bpf::probes::{Program, Target, TracepointProbe};
use crate::exit::{Exit, Failure};

/// The kernel programs, compiled beforehand: see `cargo xtask build-ebpf`.
static OBJECT: &[u8] = aya::include_bytes_aligned!(env!("TRACER_EBPF_OBJECT"));

/// The programs' globals.
#[derive(Clone, Copy)]
#[repr(transparent)]
struct Globals(Config);

// SAFETY: `Config` is made of integers without padding, its size asserted where it is defined.
unsafe impl Pod for Globals {}

/// What the kernel refused.
pub struct Refusal {
    /// The place in the list of the program that was refused; `None`: it was not a program.
    pub probe: Option<usize>,
    pub failure: Failure,
}

/// Opens the object, sets its globals, and loads its programs on BTF tracepoints.
pub fn load(config: &Config, btf: &Btf, probes: &[&TracepointProbe], verbose: bool) -> Result<Ebpf, Refusal> {
    let mut ebpf = open(config, btf, verbose).map_err(|failure| Refusal { probe: None, failure })?;
    for (index, TracepointProbe { probe, .. }) in probes.iter().enumerate() {
        load_program(&mut ebpf, btf, &probe.program)
            .map_err(|error| refused_program(&probe.program, &*error))
            .map_err(|failure| Refusal { probe: Some(index), failure })?;
    }
    Ok(ebpf)
}

/// A program of the object that is on a BTF tracepoint.
pub fn btf_tracepoint<'a>(ebpf: &'a mut Ebpf, name: &str) -> Result<&'a mut BtfTracePoint> {
    let program = ebpf.program_mut(name).with_context(|| format!("the object has no program `{name}`"))?;
    let program: Result<_, ProgramError> = program.try_into();
    Ok(program?)
}

/// The failure of a program without which tracer sees nothing.
pub fn refused_program(program: &Program, error: &(dyn std::error::Error + 'static)) -> Failure {
    refused_by_kernel(&format!("the program `{}`", program.name), error)
}

fn open(config: &Config, btf: &Btf, verbose: bool) -> Result<Ebpf, Failure> {
    let globals = Globals(*config);
    let log_level = if verbose { 2u8 } else { 0 };
    let mut loader = loader_without_types()
        .map_err(|error| refused_by_kernel("files to be opened again", &io::Error::from(error)))?;
    loader
        .btf(Some(btf))
        .verifier_log_level(if verbose { VerifierLogLevel::VERBOSE } else { VerifierLogLevel::DISABLE })
        .override_global("CONFIG", &globals, true)
        .override_global(aya_log::LEVEL, &log_level, false);
    loader.load(OBJECT).map_err(|error| refused_by_kernel("the maps", &error))
}

fn load_program(ebpf: &mut Ebpf, btf: &Btf, program: &Program) -> Result<()> {
    let Target::BtfTracepoint(tracepoint) = program.target else { return Ok(()) };
    Ok(btf_tracepoint(ebpf, program.name)?.load(tracepoint, btf)?)
}

/// A loader that has not read the kernel's types. `EbpfLoader::new` (aya 0.14) reads all of them, before others can be
/// passed to it; where it may open no file, it does not.
fn loader_without_types<'a>() -> rustix::io::Result<EbpfLoader<'a>> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    // No other thread of this process runs yet that would miss them. Where the limit cannot be set, it takes longer.
    let is_set = setrlimit(Resource::Nofile, Rlimit { current: Some(0), ..limit }).is_ok();
    let loader = EbpfLoader::new();
    if is_set {
        setrlimit(Resource::Nofile, limit)?;
    }
    Ok(loader)
}

/// The chain of an error as one line, which includes the verifier's log.
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::bpf::probes;

    #[test]
    fn the_table_names_each_program_of_the_object_once() {
        let object = aya_obj::Object::parse(OBJECT).unwrap();
        let in_object: BTreeSet<&str> = object.programs.keys().map(String::as_str).collect();
        let tracepoints = probes::TRACEPOINTS.iter().map(|tracepoint| &tracepoint.probe);
        let probes =
            tracepoints.chain(probes::BIND_FUNCTIONS.iter().flatten()).chain([&probes::LISTEN_RESULT]);
        let pairs = probes.flat_map(|probe| [Some(probe.program), probe.redundant]).flatten();
        let alone = probes::BIND_CALLS.iter().chain([&probes::LISTENER_COOKIE]).copied();
        let in_table: Vec<&str> = pairs.chain(alone).map(|program| program.name).collect();
        assert_eq!(in_table.len(), in_object.len());
        assert_eq!(in_table.into_iter().collect::<BTreeSet<_>>(), in_object);
    }

    #[test]
    fn the_probes_that_load_with_the_object_are_on_btf_tracepoints() {
        for TracepointProbe { probe, .. } in &probes::TRACEPOINTS {
            assert!(matches!(probe.program.target, Target::BtfTracepoint(_)), "{}", probe.program.name);
        }
    }
}
