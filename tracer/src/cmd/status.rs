//! `tracer status`: which process listens, is each address answered, what is configured, and to whom it is open. Needs no
//! root for its own namespace.

use std::collections::BTreeSet;
use std::fs::File;
use std::hash::RandomState;
use std::io::Read as _;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::sync::mpsc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use rustix::thread::CapabilitySet;
use tracer_ebpf::PORTS_MAX;
use uuid::Uuid;

use crate::bpf::preflight;
use crate::cli::{Host, Status, Target};
use crate::exit::{Exit, Failure};
use crate::host::answers::Answerer;
use crate::host::scan::Scanner;
use crate::host::sock_diag::Unavailable;
use crate::host::{clock, nat, netns, process, settings};
use crate::lifecycle::inquiry::{self, Intended};
use crate::model::cause::Cause;
use crate::model::errno::Errno;
use crate::model::kernel_event::Refused;
use crate::model::service;
use crate::model::time::{Interval, Mono};
use crate::output::lines::Lines;
use crate::output::schema::{Body, Probe, ProbeOutcome};
use crate::output::sink::Sink;
use crate::output::status::Reader;
use crate::products::recognise::Recognition;
use crate::query::{Observation, Query, QueryId, QueryKind, SettingsRead};
use crate::sandbox;
use crate::state::HostState;
use crate::state::followed_ports::FollowedPorts;
use crate::verdict::evidence::Verdict;

/// Owners of listeners whose settings are read.
const OWNERS_MAX: usize = 64;

/// How long the configuration of one may take to be read.
const PATIENCE: Duration = Duration::from_secs(2);

/// The names of this host.
const HOSTS: &str = "/etc/hosts";

/// How much of them is read.
const HOSTS_MAX: u64 = 1 << 20;

/// How long a connect of `--probe` may take.
const PROBE: Duration = Duration::from_secs(2);

/// Shows for each address and port whether a connect from here would be answered, and why not.
///
/// # Errors
/// When the listeners cannot be read, or stdout does not take the answer.
pub fn status(options: &Status) -> Result<Exit> {
    let targets = targets(options)?;
    let ports: BTreeSet<u16> = targets.iter().map(|(_, port)| *port).collect();
    let ports: Vec<u16> = ports.into_iter().collect();
    if ports.len() > PORTS_MAX {
        return Err(Failure::usage(format!("at most {PORTS_MAX} ports at once"), "ask twice").into());
    }
    if let Some(missing) = preflight::proc() {
        return Err(Failure::host(missing.sentence, missing.hint).into());
    }
    let own = netns::own().context("cannot read the network namespace")?;
    let mut scan = OneScan::begin(&ports)?;
    let mut lines = Lines::new(Uuid::new_v4(), clock::read());
    let mut sink = Sink::stdout(options.output, options.color);
    let may_be_redirected = nat::may_redirect();
    let mut exit = Exit::Done;
    for (addr, port) in targets {
        let mut status = lines.status(&scan.state, (own, addr, port), scan.reader);
        status.may_be_redirected = may_be_redirected;
        if !status.answered {
            let client = process::describe(std::process::id()).unwrap_or_default();
            let intended = Intended { client, netns: own, dst: addr, dst_port: port };
            let (refused, verdict) = scan.inquire(intended);
            // A listener of another namespace of this host covers it; one that any user may have made is no answer.
            let owner = verdict.considered.first().map(|one| &one.listener.process);
            let is_known = owner.is_some_and(|owner| service::is_known_to(&refused.client, owner));
            status.answered = verdict.cause == Cause::Intercepted && is_known;
            // Whether another host refuses is not known here.
            let is_refused = !matches!(verdict.cause, Cause::Remote | Cause::Intercepted);
            status.verdict = is_refused.then(|| lines.prospect(&scan.state, &refused, &verdict));
        }
        if options.probe {
            let probe = probe(SocketAddr::new(addr, port));
            status.answered = probe.outcome == ProbeOutcome::Answered;
            status.probe = Some(probe);
        }
        if !status.answered {
            exit = Exit::Unanswered;
        }
        let line = lines.line(clock::now(), Body::Status(Box::new(status)));
        let written = sink.write(line);
        match written.and_then(|()| sink.flush()) {
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => return Ok(exit),
            written => written?,
        }
    }
    Ok(exit)
}

/// The addresses and ports asked about, in order.
fn targets(options: &Status) -> Result<Vec<(IpAddr, u16)>> {
    let default = options.ports.list()?;
    let mut targets = Vec::new();
    for Target { host, port } in &options.targets {
        let addrs = match host {
            Host::Addresses(addrs) => addrs.clone(),
            Host::Name(name) => resolve(name)?,
        };
        let ports = port.map_or_else(|| default.clone(), |port| vec![port.get()]);
        let of_addr = |addr: &IpAddr| ports.iter().map(|port| (*addr, *port)).collect::<Vec<_>>();
        targets.extend(addrs.iter().flat_map(of_addr));
    }
    Ok(targets)
}

/// The addresses that the host's own table gives a name: what is asked about is on this host, and a static program can load
/// no resolver.
fn resolve(name: &str) -> Result<Vec<IpAddr>> {
    let mut table = String::new();
    // A file that cannot be read knows no name.
    let _ = File::open(HOSTS).and_then(|file| file.take(HOSTS_MAX).read_to_string(&mut table));
    let addrs = addresses_of(name, &table);
    let unknown = || Failure::usage(format!("`{name}` is not in {HOSTS}"), "name the address itself");
    if addrs.is_empty() { Err(unknown().into()) } else { Ok(addrs) }
}

/// The addresses of a name by a table as hosts(5) has it.
fn addresses_of(name: &str, table: &str) -> Vec<IpAddr> {
    let of_line = |line: &str| {
        let mut words = line.split('#').next()?.split_ascii_whitespace();
        let addr: IpAddr = words.next()?.parse().ok()?;
        words.any(|word| word.eq_ignore_ascii_case(name)).then_some(addr)
    };
    table.lines().filter_map(of_line).collect()
}

/// Makes a connect, and closes it immediately.
fn probe(to: SocketAddr) -> Probe {
    let began = clock::now();
    let error = TcpStream::connect_timeout(&to, PROBE).err();
    let latency_us = clock::now().since(began) / 1_000;
    let outcome = match error.as_ref().map(std::io::Error::kind) {
        None => ProbeOutcome::Answered,
        Some(std::io::ErrorKind::ConnectionRefused) => ProbeOutcome::Refused,
        Some(std::io::ErrorKind::TimedOut) => ProbeOutcome::TimedOut,
        Some(_) => ProbeOutcome::Failed,
    };
    let errno = error.and_then(|error| error.raw_os_error()).map(|errno| Errno::from(errno).to_string());
    Probe { outcome, errno, latency_us }
}

/// One scan of the host, and the answers to the queries that follow from it.
struct OneScan {
    state: HostState,
    answerer: Answerer,
    reader: Reader,
    next: u64,
}

impl OneScan {
    /// Reads the listeners on these ports, and what their owners are set to.
    fn begin(ports: &[u16]) -> Result<Self> {
        let mut scanner = Scanner::new(ports);
        // A process that may enter every namespace is shown a listener elsewhere; others see their own.
        let sees_all = sandbox::effective().contains(CapabilitySet::SYS_ADMIN);
        let began = clock::now();
        let scan = if sees_all { scanner.host() } else { scanner.own() };
        let scan = scan.map_err(|error| match error.downcast_ref::<Unavailable>() {
            Some(unavailable) => Failure::host(unavailable.to_string(), unavailable.cure()).into(),
            None => error,
        })?;
        let mut state = HostState::default();
        state.followed = FollowedPorts::new(ports.to_vec());
        let owners: BTreeSet<u32> =
            scan.listeners.iter().filter_map(|listener| listener.process.pid).collect();
        state.scanned(scan, Interval { began, ended: clock::now() });
        for owner in owners.into_iter().take(OWNERS_MAX) {
            let began = clock::now();
            if let Some(read) = read_settings(owner) {
                state.settings.note(read, Interval { began, ended: clock::now() });
            }
        }
        let reader = Reader { uid: rustix::process::geteuid().as_raw(), sees_own_only: !sees_all };
        let answerer = Answerer {
            scanner,
            recognition: Recognition::default(),
            own_line: process::own_line(),
            marker: None,
            hasher: RandomState::new(),
        };
        Ok(Self { state, answerer, reader, next: 0 })
    }

    /// The verdict on a connect that would be refused now.
    fn inquire(&mut self, intended: Intended) -> (Refused, Verdict) {
        let Self { state, answerer, next, .. } = self;
        inquiry::inquire(intended, clock::now(), state, |kind| {
            if let QueryKind::Settings { pid } = kind {
                let began = clock::now();
                let read = read_settings(pid)?;
                return Some((Observation::Settings(read), Interval { began, ended: clock::now() }));
            }
            *next += 1;
            let query = Query {
                id: QueryId(*next),
                deadline: Mono::MAX,
                max_bytes: u32::MAX,
                added_ports: Vec::new(),
                kind,
            };
            let (answer, _) = answerer.answer(query);
            Some((answer.result?, answer.interval))
        })
    }
}

/// What is configured for a process; `None`: a file system did not answer in time.
fn read_settings(pid: u32) -> Option<SettingsRead> {
    let (sender, receiver) = mpsc::sync_channel(1);
    let worker = std::thread::Builder::new().name("settings".to_owned());
    let read = move || {
        // The receiver has gone when this fails: it waited too long.
        let _ = sender.send(settings::read_settings(pid, &Recognition::default()));
    };
    worker.spawn(read).ok()?;
    receiver.recv_timeout(PATIENCE).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_has_the_addresses_of_each_of_its_lines() {
        let table = "127.0.0.1\tlocalhost\n# 10.0.0.9 gateway\n10.0.0.1 web Gateway # old\nfd00::1 gateway\nnone gateway\n";
        let expected: [IpAddr; 2] = ["10.0.0.1".parse().unwrap(), "fd00::1".parse().unwrap()];
        assert_eq!(addresses_of("gateway", table), expected);
        assert!(addresses_of("old", table).is_empty());
    }
}
