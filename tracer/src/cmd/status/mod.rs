//! `tracer status`: for each address, whether it is answered, by which process, what is configured, and what it is open to.
//! Needs no root for its own namespace.

mod one_scan;
mod probe;
mod targets;

use std::collections::BTreeSet;
use std::net::SocketAddr;

use anyhow::{Context as _, Result};
use tracer_ebpf::PORTS_MAX;
use uuid::Uuid;

use crate::bpf::preflight;
use crate::cli::Status;
use crate::exit::{Exit, Failure};
use crate::host::{clock, nat, netns, process};
use crate::lifecycle::inquiry::Intended;
use crate::model::cause::Cause;
use crate::model::trust;
use crate::output::lines::Lines;
use crate::output::schema::{Body, ProbeOutcome};
use crate::output::sink::Sink;
use one_scan::OneScan;
use probe::probe;
use targets::targets;

/// Shows for each address and port whether a connect from this namespace would be answered, and why not.
///
/// # Errors
/// When the listeners cannot be read, or stdout does not take the answer.
pub fn status(options: &Status) -> Result<Exit> {
    let targets = targets(options)?;
    let ports: BTreeSet<u16> = targets.iter().map(|(_, port)| *port).collect();
    let ports: Vec<u16> = ports.into_iter().collect();
    if ports.len() > PORTS_MAX {
        return Err(Failure::usage(
            format!("at most {PORTS_MAX} ports at a time"),
            "run it once more for the others",
        )
        .into());
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
            // A listener of another namespace of this host covers it; one that any user may have made is not an answer.
            let owner = verdict.considered.first().map(|one| &one.listener.process);
            let is_known = owner.is_some_and(|owner| trust::is_known_to(&refused.client, owner));
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
