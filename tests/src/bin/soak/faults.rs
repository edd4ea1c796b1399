//! What goes wrong.

use std::{
    fs::File,
    net::Ipv4Addr,
    process::Stdio,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::Signal;
use tests::{
    bpf::Held,
    interrupt,
    load::{Load, Refused},
    netns::BulkNetns,
    process::Actor,
};
use tracer::output::schema::{Cause, LostWhere};

use super::{
    Fault, Gap, PATIENCE, Soak,
    log::{Log, Totals},
    released, start, target,
};

/// Listeners whose records the ring holds, also where the tracer gets no time to read them: each takes 560 bytes of it
/// from bind() to close(), where all is followed. It is those of refusals alone whose number is known where some are lost.
const STEP: u32 = 2_000;

/// One after the other, a round.
pub const ALL: [(&str, Fault); 11] = [
    // It goes to so many destinations that the tables of them are full from then on.
    ("a reader that stops", slow),
    ("a flood from all cores", flood),
    ("stopped for 10 s under load", stopped),
    ("listeners that come and go by the thousand", listeners),
    ("namespaces that come and go by the thousand", namespaces),
    ("10,000 listeners across addresses", many_listeners),
    ("a second tracer", second),
    ("attaching and detaching under load", detaching),
    ("kill -9", killed),
    ("stdout closed", closed),
    ("stdout full", full),
];

fn flood(soak: &mut Soak) -> Result<String> {
    let made = soak.refuse(soak.flood(Duration::from_secs(5)));
    Ok(format!("{made} refusals"))
}

/// What the ring cannot hold is counted, and the listener that opened meanwhile is known afterwards.
fn stopped(soak: &mut Soak) -> Result<String> {
    let before = soak.calm()?;
    soak.tracer.signal(Signal::STOP);
    // Two rings full, or more: on a busy host time alone does not fill one.
    let made = soak.refuse(Refused { least: 12_500, ..soak.flood(Duration::from_secs(10)) });
    let _server = serve(soak, Ipv4Addr::new(127, 0, 0, 9), 1);
    soak.tracer.signal(Signal::CONT);
    // The server's records find a ring that refusals have filled: its listen(), and its bind() where that is followed.
    soak.own += 1 + u64::from(before.has_binds);
    let after = soak.calm()?;
    let (totals, lost) =
        (after.refused - before.refused, after.lost_in(LostWhere::Ring) - before.lost_in(LostWhere::Ring));
    ensure!(totals > 0 && lost > 0, "{totals} reported, {lost} lost: the ring was never full");
    let verdict = soak.verdict()?;
    ensure!(verdict.cause == Cause::WrongAddress, "the table was not corrected: {verdict:?}");
    Ok(format!("{made} refusals, {totals} reported, {lost} counted as lost, the table healed"))
}

/// A process that listens at so many addresses from one on, which ends when it is dropped.
fn serve(soak: &Soak, address: Ipv4Addr, count: u32) -> Actor {
    let mut server = soak.actor();
    server.must(&format!("bulk listen {} {count}", soak.local(address)));
    server
}

/// In bursts that the ring holds.
fn listeners(soak: &mut Soak) -> Result<String> {
    let before = soak.calm()?;
    let address = soak.local(Ipv4Addr::LOCALHOST);
    let mut count = 0;
    for _ in 0..5 {
        count += soak.actor().load(Load::Churn { address, count: u64::from(STEP) }).made;
        soak.wait("listeners to close", |totals| totals.closed >= before.closed + count)?;
        let verdict = soak.verdict()?;
        let is_right = matches!(verdict.cause, Cause::NothingListening | Cause::Stopped);
        ensure!(is_right, "listeners that are closed count: {verdict:?}");
    }
    nothing_lost(soak, &before)?;
    Ok(format!("{count} listeners"))
}

/// Only of refusals is known how many are made: of the rest, none may be lost.
fn nothing_lost(soak: &Soak, before: &Totals) -> Result<()> {
    let lost = soak.calm()?.lost_in(LostWhere::Ring) - before.lost_in(LostWhere::Ring);
    ensure!(lost == 0, "{lost} records lost in the ring");
    Ok(())
}

/// Each with a device that leads to it from the soak's own: while a namespace is kept from ending, that stays.
fn namespaces(soak: &mut Soak) -> Result<String> {
    const COUNT: usize = 1_000;
    let bulk = BulkNetns::new(COUNT);
    let last = bulk.names().last().context("no last namespace")?;
    soak.netns.ip(&format!("link add left type veth peer name right netns {last}"));
    // It scans them all.
    drop(soak.another(Stdio::null()));
    soak.verdict()?;
    drop(bulk);
    let until = Instant::now() + PATIENCE;
    while soak.netns.has_device("left") {
        if Instant::now() > until {
            bail!("a deleted namespace is kept from ending");
        }
        interrupt::sleep(Duration::from_millis(50));
    }
    Ok(format!("{COUNT} namespaces, none pinned"))
}

fn many_listeners(soak: &mut Soak) -> Result<String> {
    const COUNT: u32 = 10_000;
    let before = soak.calm()?;
    let mut servers = Vec::new();
    for first in (0..COUNT).step_by(STEP as usize) {
        let address = Ipv4Addr::from_bits(Ipv4Addr::new(127, 20, 0, 0).to_bits() + first);
        servers.push(serve(soak, address, STEP));
        let opened = before.opened + u64::from(first + STEP);
        soak.wait("listeners to open", |totals| totals.opened >= opened)?;
    }
    let verdict = soak.verdict()?;
    ensure!(verdict.cause == Cause::WrongAddress, "with listeners elsewhere: {verdict:?}");
    // One that starts now finds them all.
    // Into a file: a pipe without a reader does not hold what it prints before it is ready.
    let path = target().join("soak.log");
    let file = File::create(&path).with_context(|| format!("cannot write `{}`", path.display()))?;
    soak.another(file.into()).stop();
    let totals = Log::follow(File::open(&path)?).end()?;
    ensure!(totals.lines > u64::from(COUNT), "{} lines for {COUNT} listeners", totals.lines);
    for (server, turn) in servers.into_iter().zip(1..) {
        drop(server);
        let closed = before.closed + u64::from(STEP * turn);
        soak.wait("listeners to close", |totals| totals.closed >= closed)?;
    }
    nothing_lost(soak, &before)?;
    Ok(format!("{COUNT} listeners"))
}

/// Both report the same, and the end of one does not affect the other.
fn second(soak: &mut Soak) -> Result<String> {
    let mut another = soak.another(Stdio::piped());
    let log = Log::follow(another.take_stdout());
    let before = soak.counter.before(another.pid())?;
    let made = soak.refuse(soak.flood(Duration::from_secs(2)));
    let others = soak.counter.others(another.pid(), &before)?;
    another.stop();
    holds(made, &log.end()?, others)?;
    Ok(format!("both reported of {made} refusals"))
}

/// Holds the whole log of a tracer that saw as many refusals against them.
fn holds(made: u64, totals: &Totals, others: u64) -> Result<()> {
    ensure!(totals.refused <= made, "{} refusals reported, {made} made", totals.refused);
    let others = if totals.lost_in(LostWhere::Ring) > 0 { others } else { 0 };
    Gap::of(made, totals).check(totals.lost_in(LostWhere::Recursion), others, totals)
}

fn detaching(soak: &mut Soak) -> Result<String> {
    let flood = soak.begin_flood(Duration::from_secs(5));
    let mut times = 0;
    let until = Instant::now() + Duration::from_secs(4);
    while Instant::now() < until {
        let another = soak.another(Stdio::null());
        let held = Held::by(another.pid())?;
        another.stop();
        released(&held)?;
        times += 1;
    }
    let made = soak.flooded(&flood);
    Ok(format!("{times} times, {made} refusals"))
}

fn killed(soak: &mut Soak) -> Result<String> {
    let flood = soak.begin_flood(Duration::from_secs(2));
    let mut another = soak.another(Stdio::null());
    let held = Held::by(another.pid())?;
    another.signal(Signal::KILL);
    another.wait_exit();
    released(&held)?;
    soak.flooded(&flood);
    Ok(format!("{} programs, none left", held.programs.len()))
}

fn closed(soak: &mut Soak) -> Result<String> {
    let mut another = soak.another(Stdio::piped());
    let held = Held::by(another.pid())?;
    drop(another.take_stdout());
    soak.refuse(soak.flood(Duration::from_millis(200)));
    let status = another.wait_exit();
    ensure!(status.success(), "it ended with {status}");
    released(&held)?;
    Ok("a clean end".to_owned())
}

/// With a full disk nothing can be written: tracer exits immediately with the code for failed output.
fn full(soak: &mut Soak) -> Result<String> {
    let device = File::options().write(true).open("/dev/full").context("cannot open `/dev/full`")?;
    let mut another = start(&soak.binary, &soak.port, device.into());
    let status = another.wait_exit();
    ensure!(status.code() == Some(4), "{status}: {}", another.stderr());
    Ok("ends with exit code 4".to_owned())
}

/// It waits for its reader; what the ring cannot hold meanwhile is counted.
fn slow(soak: &mut Soak) -> Result<String> {
    let mut another = soak.another(Stdio::piped());
    let stdout = another.take_stdout();
    // Each destination is a line, so that the pipe is full soon.
    let address = soak.local(Ipv4Addr::new(127, 40, 0, 0));
    // Four rings full: what is in one is taken before the first line is written, where the tracer scans the host for it.
    let before = soak.counter.before(another.pid())?;
    let load = Refused::at(address, Duration::ZERO);
    let made = soak.refuse(Refused { least: 50_000, spread: 100_000, ..load });
    let others = soak.counter.others(another.pid(), &before)?;
    let log = Log::follow(stdout);
    another.stop();
    let totals = log.end()?;
    holds(made, &totals, others)?;
    ensure!(totals.lost_in(LostWhere::Ring) > 0, "the ring was never full: {totals:?}");
    Ok(format!("{made} refusals, {} reported, {} lost", totals.refused, totals.lost))
}
