//! From the return of connect() to the line that reports it.

use std::{
    io::{BufRead, BufReader},
    net::{Ipv4Addr, SocketAddr},
    panic::resume_unwind,
    path::Path,
    process::Stdio,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use tests::{interrupt, load::refused, process::Actor, tracer::parse_quickly};
use tracer::output::schema::Body;

use super::{
    Bench,
    peers::{Peer, Running},
    report::{Goal, Measured, Row, Unit},
    row,
};

const GROUP: &str = "From connect() returning to the line readable in a pipe";

/// Between two connects: long enough for the reader to go to sleep.
const PAUSE: Duration = Duration::from_millis(5);

/// The first take longer, for caches are cold.
const FIRST: usize = 10;

pub fn measure(bench: &Bench) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    let lines = Lines(bench.of(600, 40));
    {
        let _server = server_elsewhere(bench);
        let delays = ours(bench, &bench.tracer, lines)?;
        let [middle, high] = quantiles("tracer, a JSON line, a server on another address", delays);
        rows.push(middle.goal("under 150 µs", Goal::AtMost(150.0)));
        rows.push(high.goal("under 2 ms", Goal::AtMost(2_000.0)));
    }
    let [middle, high] =
        quantiles("tracer, a JSON line, nothing listens", ours(bench, &bench.tracer, lines)?);
    rows.push(middle.note("before it reports that nothing is there, it scans the host again"));
    rows.push(high);
    let who = "bpftrace, a line";
    let theirs = Running::start(bench, Peer::Bpftrace).and_then(|mut peer| {
        delays(bench, lines, peer.lines()?, |line, _| Ok(line.starts_with(b"refused ")))
    });
    match theirs {
        Ok(theirs) => rows.extend(quantiles(who, theirs)),
        Err(error) => {
            interrupt::check();
            rows.push(Row::new(GROUP, who, Measured::Not(format!("{error:#}"))));
        }
    }
    Ok(rows)
}

/// How many refusals are measured.
#[derive(Clone, Copy)]
pub struct Lines(pub usize);

/// A server at an address that no client connects to.
pub fn server_elsewhere(bench: &Bench) -> Actor {
    let mut server = bench.actor();
    server.must(&format!("bind 127.0.0.9:{}", bench.watched.number));
    server.must("listen 128");
    server
}

/// Microseconds to the lines of a tracer.
pub fn ours(bench: &Bench, tracer: &Path, lines: Lines) -> Result<Vec<f64>> {
    let (mut tracer, _) = bench.trace_with(tracer, &[], Stdio::piped());
    let printed = BufReader::new(tracer.take_stdout());
    let delays = delays(bench, lines, printed, |line, address| {
        let line = parse_quickly(line).map_err(anyhow::Error::msg)?;
        Ok(matches!(line.body, Body::Refused(refused) if refused.dst.addr == address.to_string()))
    })?;
    tracer.stop();
    Ok(delays)
}

fn quantiles(who: &str, delays: Vec<f64>) -> [Row; 2] {
    let quantile = |share| super::Sample::new(delays.clone()).map(|sample| sample.quantile(share));
    let (high, highest) = (quantile(0.99), quantile(1.0));
    let of = delays.len();
    [
        row(GROUP, &format!("{who}: p50"), Unit::Microseconds, delays).note(format!("of {of}")),
        row(GROUP, &format!("{who}: p99"), Unit::Microseconds, high.into_iter().collect())
            .note(highest.map(|highest| format!("{highest:.0} µs at most")).unwrap_or_default()),
    ]
}

/// Microseconds for each refusal, in a thread of its own that connects and reads by turns.
fn delays(
    bench: &Bench,
    count: Lines,
    mut lines: impl BufRead + Send,
    is_refusal: impl Fn(&[u8], Ipv4Addr) -> Result<bool> + Sync,
) -> Result<Vec<f64>> {
    let count = FIRST + count.0;
    thread::scope(|scope| {
        let measured = scope.spawn(|| {
            bench.netns.enter_thread();
            let mut delays = Vec::new();
            let mut line = Vec::new();
            for number in 0..count {
                interrupt::check();
                // Each to another address, so that none is like the one before and only counted.
                let host = u32::try_from(number)?;
                let address = Ipv4Addr::from_bits(Ipv4Addr::new(127, 1, 0, 1).to_bits() + host);
                refused(SocketAddr::from((address, bench.watched.number)), false)?;
                let returned = Instant::now();
                let delay = loop {
                    line.clear();
                    if lines.read_until(b'\n', &mut line).context("cannot read its lines")? == 0 {
                        bail!("it ended before it printed a refusal");
                    }
                    // Before it is parsed, which is not what is measured.
                    let delay = returned.elapsed();
                    if is_refusal(&line, address)? {
                        break delay;
                    }
                };
                delays.push(delay.as_secs_f64() * 1e6);
                thread::sleep(PAUSE);
            }
            delays.drain(..FIRST);
            Ok(delays)
        });
        measured.join().unwrap_or_else(|panic| resume_unwind(panic))
    })
}
