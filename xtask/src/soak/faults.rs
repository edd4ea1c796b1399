//! What goes wrong.

use std::{
    fs::File,
    io::{BufRead, BufReader},
    net::Ipv4Addr,
    os::unix::process::CommandExt,
    process::Stdio,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::Signal;

use super::{
    Fault, Gap, PATIENCE, Soak, gone,
    log::{Log, Told},
};
use crate::{
    bpf::Held,
    cargo::{output, root},
    lab::{Crowd, Process},
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

fn flood(soak: &mut Soak<'_>) -> Result<String> {
    let made = soak.flood(Duration::from_secs(5))?;
    Ok(format!("{made} refusals"))
}

/// What the ring cannot hold is counted, and the listener that opened meanwhile is known afterwards.
fn stopped(soak: &mut Soak<'_>) -> Result<String> {
    let before = soak.calm()?;
    soak.tracer.signal(Signal::STOP)?;
    // Two rings full, or more.
    let flooded = soak.flood_with(Duration::from_secs(10), 12_500);
    let server = serve(soak, Ipv4Addr::new(127, 0, 0, 9), 1);
    soak.tracer.signal(Signal::CONT)?;
    let (made, _server) = (flooded?, server?);
    // The server's records find a ring that refusals have filled: its listen(), and its bind() where that is followed.
    soak.own += 1 + u64::from(before.has_binds);
    let after = soak.calm()?;
    let (told, lost) = (after.refused - before.refused, after.lost_in("ring") - before.lost_in("ring"));
    ensure!(told > 0 && lost > 0, "{told} told, {lost} lost: the ring was never full");
    let verdict = soak.verdict()?;
    ensure!(verdict.cause == "wrong-address", "the table has not healed: {verdict:?}");
    Ok(format!("{made} refusals, {told} told, {lost} counted as lost, the table healed"))
}

/// Processes that listen at so many addresses from one on; they end when it is dropped.
fn serve(soak: &Soak<'_>, address: Ipv4Addr, count: u32) -> Result<Process> {
    let mut command = soak.namespace.this(&["load", "listen", &soak.local(address), &count.to_string()])?;
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).process_group(0);
    let mut process = Process::spawn(&mut command)?;
    let mut line = String::new();
    BufReader::new(process.0.stdout.take().context("the server has no stdout")?).read_line(&mut line)?;
    ensure!(line.trim() == count.to_string(), "{count} listeners were to open: `{}`", line.trim());
    Ok(process)
}

/// In bursts that the ring holds.
fn listeners(soak: &mut Soak<'_>) -> Result<String> {
    let before = soak.calm()?;
    let address = soak.local(Ipv4Addr::LOCALHOST);
    let step = STEP.to_string();
    let mut count = 0;
    for _ in 0..5 {
        let churn = output(&mut soak.namespace.this(&["load", "churn", &address, &step])?)?;
        count += crate::load::Done::read(&churn)?.made;
        soak.wait("listeners to close", |told| told.closed >= before.closed + count)?;
        let verdict = soak.verdict()?;
        let is_right = ["nothing-listening", "stopped"].contains(&verdict.cause.as_str());
        ensure!(is_right, "listeners that are gone count: {verdict:?}");
    }
    nothing_lost(soak, &before)?;
    Ok(format!("{count} listeners"))
}

/// Only of refusals is known how many are made: of the rest, none may be lost.
fn nothing_lost(soak: &Soak<'_>, before: &Told) -> Result<()> {
    let lost = soak.calm()?.lost_in("ring") - before.lost_in("ring");
    ensure!(lost == 0, "{lost} records lost in the ring");
    Ok(())
}

/// Each with a device that leads to it from the soak's own: while a namespace is kept from ending, that stays.
fn namespaces(soak: &mut Soak<'_>) -> Result<String> {
    const COUNT: usize = 1_000;
    let crowd = Crowd::create("soak-crowd", COUNT)?;
    let last = crowd.names().last().context("a crowd has a last one")?.clone();
    soak.namespace.ip(&["link", "add", "left", "type", "veth", "peer", "name", "right", "netns", &last])?;
    // It looks at them all.
    let another = soak.another(Stdio::null())?;
    drop(another);
    soak.verdict()?;
    drop(crowd);
    let until = Instant::now() + PATIENCE;
    while soak.namespace.ip(&["link", "show", "dev", "left"]).is_ok() {
        if Instant::now() > until {
            bail!("a deleted namespace is kept from ending");
        }
        soak.ctrl_c.sleep(Duration::from_millis(50))?;
    }
    Ok(format!("{COUNT} namespaces, none pinned"))
}

fn many_listeners(soak: &mut Soak<'_>) -> Result<String> {
    const COUNT: u32 = 10_000;
    let before = soak.calm()?;
    let mut servers = Vec::new();
    for first in (0..COUNT).step_by(STEP as usize) {
        let address = Ipv4Addr::from_bits(Ipv4Addr::new(127, 20, 0, 0).to_bits() + first);
        servers.push(serve(soak, address, STEP)?);
        let opened = before.opened + u64::from(first + STEP);
        soak.wait("listeners to open", |told| told.opened >= opened)?;
    }
    let verdict = soak.verdict()?;
    ensure!(verdict.cause == "wrong-address", "with listeners elsewhere: {verdict:?}");
    // One that starts now finds them all.
    // Into a file: a pipe that nobody reads yet does not hold what it says before it is ready.
    let path = root().join("target/soak.log");
    let file = File::create(&path).with_context(|| format!("cannot write `{}`", path.display()))?;
    soak.another(file.into())?.end(soak.ctrl_c)?;
    let told = Log::follow(File::open(&path)?).end()?;
    ensure!(told.lines > u64::from(COUNT), "{} lines for {COUNT} listeners", told.lines);
    for (server, turn) in servers.into_iter().zip(1..) {
        drop(server);
        let closed = before.closed + u64::from(STEP * turn);
        soak.wait("listeners to close", |told| told.closed >= closed)?;
    }
    nothing_lost(soak, &before)?;
    Ok(format!("{COUNT} listeners"))
}

/// Both tell the same, and the end of one is none of the other's concern.
fn second(soak: &mut Soak<'_>) -> Result<String> {
    let mut another = soak.another(Stdio::piped())?;
    let log = Log::follow(another.take_stdout()?);
    let before = soak.witness.before(another.pid())?;
    let made = soak.flood(Duration::from_secs(2))?;
    let others = soak.witness.others(another.pid(), &before)?;
    another.end(soak.ctrl_c)?;
    holds(made, &log.end()?, others)?;
    Ok(format!("both told of {made} refusals"))
}

/// Holds the whole log of a tracer that saw as many refusals against them.
fn holds(made: u64, told: &Told, others: u64) -> Result<()> {
    ensure!(told.refused <= made, "{} refusals told, {made} made", told.refused);
    let others = if told.lost_in("ring") > 0 { others } else { 0 };
    Gap::of(made, told).check(told.lost_in("recursion"), others, told)
}

fn detaching(soak: &mut Soak<'_>) -> Result<String> {
    let flood = soak.begin_flood(Duration::from_secs(5))?;
    let mut times = 0;
    let until = Instant::now() + Duration::from_secs(4);
    while Instant::now() < until {
        let mut another = soak.another(Stdio::null())?;
        let held = Held::by(another.pid())?;
        another.end(soak.ctrl_c)?;
        gone(&held, soak.ctrl_c)?;
        times += 1;
    }
    let made = soak.flooded(flood)?;
    Ok(format!("{times} times, {made} refusals"))
}

fn killed(soak: &mut Soak<'_>) -> Result<String> {
    let flood = soak.begin_flood(Duration::from_secs(2))?;
    let mut another = soak.another(Stdio::null())?;
    let held = Held::by(another.pid())?;
    another.signal(Signal::KILL)?;
    another.ended(soak.ctrl_c)?;
    gone(&held, soak.ctrl_c)?;
    soak.flooded(flood)?;
    Ok(format!("{} programs, none left", held.programs.len()))
}

fn closed(soak: &mut Soak<'_>) -> Result<String> {
    let mut another = soak.another(Stdio::piped())?;
    let held = Held::by(another.pid())?;
    drop(another.take_stdout()?);
    soak.flood(Duration::from_millis(200))?;
    let status = another.ended(soak.ctrl_c)?;
    ensure!(status.success(), "it ended with {status}");
    gone(&held, soak.ctrl_c)?;
    Ok("a clean end".to_owned())
}

/// Nothing can be told any more: that is a failure, and at once.
fn full(soak: &mut Soak<'_>) -> Result<String> {
    let device = File::options().write(true).open("/dev/full").context("cannot open `/dev/full`")?;
    let Err(error) = soak.another(device.into()) else { bail!("it got ready where nothing can be written") };
    let error = format!("{error:#}");
    ensure!(error.contains("exit status: 4"), "{error}");
    Ok("ends with exit code 4".to_owned())
}

/// It waits for its reader; what the ring cannot hold meanwhile is counted.
fn slow(soak: &mut Soak<'_>) -> Result<String> {
    let mut another = soak.another(Stdio::piped())?;
    let stdout = another.take_stdout()?;
    // Each destination is a line, so that the pipe is full soon.
    let address = soak.local(Ipv4Addr::new(127, 40, 0, 0));
    // Four rings full: what is in one is taken before the first line is written, where the tracer looks at the host for it.
    let args = ["load", "refused", &address, "--millis", "0", "--least", "50000", "--spread", "100000"];
    let before = soak.witness.before(another.pid())?;
    let made = crate::load::Done::read(&output(&mut soak.namespace.this(&args)?)?)?.made;
    soak.made += made;
    let others = soak.witness.others(another.pid(), &before)?;
    let log = Log::follow(stdout);
    another.end(soak.ctrl_c)?;
    let told = log.end()?;
    holds(made, &told, others)?;
    ensure!(told.lost_in("ring") > 0, "the ring was never full: {told:?}");
    Ok(format!("{made} refusals, {} told, {} lost", told.refused, told.lost))
}
