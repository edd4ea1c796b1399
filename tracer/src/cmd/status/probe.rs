//! The connect of `tracer status --probe`.

use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use crate::host::clock;
use crate::model::errno::Errno;
use crate::output::schema::{Probe, ProbeOutcome};

/// How long the connect may take.
const PROBE: Duration = Duration::from_secs(2);

/// Makes a connect, and closes it immediately.
pub fn probe(to: SocketAddr) -> Probe {
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
