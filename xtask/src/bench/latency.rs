//! From the return of connect() to the line that tells of it.

use std::{
    io::{BufRead, BufReader},
    net::{Ipv4Addr, SocketAddr},
    os::unix::process::CommandExt,
    process::Stdio,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};

use super::{
    Bench, WATCHED,
    peers::{Peer, Running},
    report::{Goal, Measured, Row, Unit},
    row,
};
use crate::{lab::Process, load::refused};

const GROUP: &str = "From connect() returning to the line readable in a pipe";

/// Between two connects: long enough for whoever reads to go to sleep.
const PAUSE: Duration = Duration::from_millis(5);

/// The first take longer, for caches are cold.
const FIRST: usize = 10;

pub fn measure(bench: &Bench<'_>) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    {
        let _server = serve(bench)?;
        let [middle, high] = quantiles("tracer, a JSON line, a server on another address", ours(bench)?);
        rows.push(middle.goal("under 150 µs", Goal::AtMost(150.0)));
        rows.push(high.goal("under 2 ms", Goal::AtMost(2_000.0)));
    }
    let [middle, high] = quantiles("tracer, a JSON line, nothing listens", ours(bench)?);
    rows.push(middle.note("before it says that nothing is there, it looks at the host again"));
    rows.push(high);
    let who = "bpftrace, a line";
    let theirs =
        Running::start(bench, Peer::Bpftrace).and_then(|mut peer| delays(bench, peer.lines()?, "refused "));
    match theirs {
        Ok(theirs) => rows.extend(quantiles(who, theirs)),
        Err(error) => {
            bench.ctrl_c.look()?;
            rows.push(Row::new(GROUP, who, Measured::Not(format!("{error:#}"))));
        }
    }
    Ok(rows)
}

/// A server whose address is none that is connected to.
fn serve(bench: &Bench<'_>) -> Result<Process> {
    let address = SocketAddr::from((Ipv4Addr::new(127, 0, 0, 9), WATCHED)).to_string();
    let mut command = bench.namespace.this(&["load", "listen", &address, "1"])?;
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).process_group(0);
    let mut process = Process::spawn(&mut command)?;
    let mut line = String::new();
    BufReader::new(process.0.stdout.take().context("the server has no stdout")?).read_line(&mut line)?;
    if line.is_empty() {
        bail!("nothing listens on {address}");
    }
    Ok(process)
}

/// Microseconds to the tracer's lines.
fn ours(bench: &Bench<'_>) -> Result<Vec<f64>> {
    let mut tracer = bench.trace(&[], Stdio::piped())?;
    let lines = BufReader::new(tracer.take_stdout()?);
    let delays = delays(bench, lines, "\"type\":\"refused\"")?;
    tracer.end(bench.ctrl_c)?;
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
fn delays(bench: &Bench<'_>, mut lines: impl BufRead + Send, mark: &str) -> Result<Vec<f64>> {
    let count = FIRST + bench.of(600, 40);
    thread::scope(|scope| {
        let measured = scope.spawn(|| {
            bench.namespace.enter()?;
            let mut delays = Vec::new();
            let mut line = String::new();
            for number in 0..count {
                bench.ctrl_c.look()?;
                // Each to another address, so that none is like the one before and only counted.
                let host = u32::try_from(number)?;
                let address = Ipv4Addr::from_bits(Ipv4Addr::new(127, 1, 0, 1).to_bits() + host);
                refused(SocketAddr::from((address, WATCHED)), false)?;
                let returned = Instant::now();
                loop {
                    line.clear();
                    if lines.read_line(&mut line).context("cannot read its lines")? == 0 {
                        bail!("it ended before it told of a refusal");
                    }
                    if line.contains(mark) {
                        break;
                    }
                }
                delays.push(returned.elapsed().as_secs_f64() * 1e6);
                thread::sleep(PAUSE);
            }
            delays.drain(..FIRST);
            Ok(delays)
        });
        measured.join().expect("the thread does not panic")
    })
}
