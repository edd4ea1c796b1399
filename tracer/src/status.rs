//! `tracer status`: who listens, is each address answered, what is claimed of that, and to whom it is open. Needs no root for its own namespace.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context as _, Result};
use rustix::thread::CapabilitySet;

use crate::cli::Status;
use crate::correlate::{Correlator, Reader, Scope};
use crate::event::Event;
use crate::exit::{Exit, Failure};
use crate::kernel::snapshot::Snapshotter;
use crate::kernel::sock_diag::Unavailable;
use crate::kernel::{clock, netns, preflight, privilege};
use crate::line::Body;
use crate::process::claims;
use crate::server::Recognition;
use crate::sink::Sink;

/// Owners of listeners that are asked what they say of themselves.
const OWNERS_MAX: usize = 64;

/// How long the configuration of one may take to be read.
const PATIENCE: Duration = Duration::from_secs(2);

/// Says for each address and port whether a connect from here would be answered.
///
/// # Errors
/// When the listeners cannot be read, or stdout does not take the answer.
pub fn status(options: &Status) -> Result<Exit> {
    let ports = options.ports.list()?;
    if let Some(missing) = preflight::proc() {
        return Err(Failure::host(missing.sentence, missing.hint).into());
    }
    let own = netns::own().context("cannot read the network namespace")?;
    let mut snapshotter = Snapshotter::new(&ports);
    // Who may enter every namespace is told of a listener elsewhere; others see their own.
    let sees_all = privilege::effective().contains(CapabilitySet::SYS_ADMIN);
    let snapshot = if sees_all { snapshotter.take(|_| false) } else { snapshotter.own() };
    let snapshot = snapshot.map_err(|error| match error.downcast_ref::<Unavailable>() {
        Some(unavailable) => Failure::host(unavailable.to_string(), unavailable.cure()).into(),
        None => error,
    })?;
    let clock = clock::read();
    let mut correlator = Correlator::new(Scope::default());
    let owners: BTreeSet<u32> =
        snapshot.listeners.iter().filter_map(|listener| listener.process.pid).collect();
    correlator.apply(Event::Snapshot(snapshot), &clock);
    let recognition = Recognition::default();
    for owner in owners.into_iter().take(OWNERS_MAX) {
        correlator.apply(Event::Claimed(claims::claimed(owner, &recognition, PATIENCE)), &clock);
    }
    let mut sink = Sink::stdout(options.output, options.color);
    let reader = Reader { uid: rustix::process::geteuid().as_raw(), sees_own_only: !sees_all };
    let mut exit = Exit::Done;
    for addr in options.addresses() {
        for port in &ports {
            let status = correlator.status(own, addr, *port, reader, &clock);
            if !status.answered {
                exit = Exit::Unanswered;
            }
            let line = correlator.line(clock::now(), Body::Status(Box::new(status)));
            let written = sink.write(line, &clock);
            match written.and_then(|()| sink.flush()) {
                Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => return Ok(exit),
                written => written?,
            }
        }
    }
    Ok(exit)
}
