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

use super::{Fault, PATIENCE, Soak, gone, local, log::Log};
use crate::{
    bpf::programs_of,
    cargo::{output, root},
    lab::{Crowd, Process},
};

/// Records besides refusals that are lost while nothing else of the soak goes on, at most.
const OTHERS: u64 = 8;

/// One after the other, a round.
pub const ALL: [(&str, Fault); 11] = [
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
    ("a reader that stops", slow),
];

fn flood(soak: &mut Soak<'_>) -> Result<String> {
    let made = soak.flood(Duration::from_secs(5))?;
    Ok(format!("{made} refusals"))
}

/// What the ring cannot hold is counted, and the listener that opened meanwhile is known afterwards.
fn stopped(soak: &mut Soak<'_>) -> Result<String> {
    let before = soak.log().told()?;
    soak.tracer.signal(Signal::STOP)?;
    let flooded = soak.flood(Duration::from_secs(10));
    let server = serve(soak, Ipv4Addr::new(127, 0, 0, 9), 1);
    soak.tracer.signal(Signal::CONT)?;
    let (made, _server) = (flooded?, server?);
    soak.settle()?;
    let after = soak.log().told()?;
    let (told, lost) = (after.refused - before.refused, after.lost - before.lost);
    // What the server and the rest of the host did is lost with them: a bind, a listen, the start of a program.
    ensure!(
        told + lost >= made && told + lost <= made + OTHERS,
        "{told} told and {lost} lost of {made} refusals"
    );
    let verdict = soak.verdict()?;
    ensure!(verdict.cause == "wrong-address", "the table has not healed: {verdict:?}");
    Ok(format!("{made} refusals, {told} told, {lost} counted as lost, the table healed"))
}

/// Processes that listen at so many addresses from one on; they end when it is dropped.
fn serve(soak: &Soak<'_>, address: Ipv4Addr, count: u32) -> Result<Process> {
    let mut command = soak.namespace.this(&["load", "listen", &local(address), &count.to_string()])?;
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).process_group(0);
    let mut process = Process::spawn(&mut command)?;
    let mut line = String::new();
    BufReader::new(process.0.stdout.take().context("the server has no stdout")?).read_line(&mut line)?;
    ensure!(line.trim() == count.to_string(), "{count} listeners were to open: `{}`", line.trim());
    Ok(process)
}

/// In bursts that the ring holds.
fn listeners(soak: &mut Soak<'_>) -> Result<String> {
    let address = local(Ipv4Addr::LOCALHOST);
    let mut count = 0;
    for _ in 0..5 {
        let churn = output(&mut soak.namespace.this(&["load", "churn", &address, "--millis", "40"])?)?;
        count += crate::load::Done::read(&churn)?.made;
        let verdict = soak.verdict()?;
        // Records that were lost may leave it in doubt; then it says so.
        let is_right = ["nothing-listening", "stopped"].contains(&verdict.cause.as_str());
        ensure!(is_right || !verdict.is_certain, "listeners that are gone count: {verdict:?}");
    }
    Ok(format!("{count} listeners"))
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
    let servers = serve(soak, Ipv4Addr::new(127, 20, 0, 0), COUNT)?;
    let verdict = soak.verdict()?;
    ensure!(verdict.cause == "wrong-address", "with listeners elsewhere: {verdict:?}");
    // One that starts now finds them all.
    // Into a file: a pipe that nobody reads yet does not hold what it says before it is ready.
    let path = root().join("target/soak.log");
    let file = File::create(&path).with_context(|| format!("cannot write `{}`", path.display()))?;
    soak.another(file.into())?.end(soak.ctrl_c)?;
    let told = Log::follow(File::open(&path)?).end()?;
    ensure!(told.lines > u64::from(COUNT), "{} lines for {COUNT} listeners", told.lines);
    drop(servers);
    Ok(format!("{COUNT} listeners"))
}

/// Both tell the same, and the end of one is none of the other's concern.
fn second(soak: &mut Soak<'_>) -> Result<String> {
    let mut another = soak.another(Stdio::piped())?;
    let log = Log::follow(another.take_stdout()?);
    let made = soak.flood(Duration::from_secs(2))?;
    another.end(soak.ctrl_c)?;
    let told = log.end()?;
    ensure!(told.refused <= made && told.refused + told.lost >= made, "{told:?} of {made}");
    Ok(format!("both told of {made} refusals"))
}

fn detaching(soak: &mut Soak<'_>) -> Result<String> {
    let flood = soak.begin_flood(Duration::from_secs(5))?;
    let mut times = 0;
    let until = Instant::now() + Duration::from_secs(4);
    while Instant::now() < until {
        let mut another = soak.another(Stdio::null())?;
        let programs = programs_of(another.pid())?;
        another.end(soak.ctrl_c)?;
        gone(&programs, soak.ctrl_c)?;
        times += 1;
    }
    let made = soak.flooded(flood)?;
    Ok(format!("{times} times, {made} refusals"))
}

fn killed(soak: &mut Soak<'_>) -> Result<String> {
    let flood = soak.begin_flood(Duration::from_secs(2))?;
    let mut another = soak.another(Stdio::null())?;
    let programs = programs_of(another.pid())?;
    another.signal(Signal::KILL)?;
    another.ended(soak.ctrl_c)?;
    gone(&programs, soak.ctrl_c)?;
    soak.flooded(flood)?;
    Ok(format!("{} programs, none left", programs.len()))
}

fn closed(soak: &mut Soak<'_>) -> Result<String> {
    let mut another = soak.another(Stdio::piped())?;
    let programs = programs_of(another.pid())?;
    drop(another.take_stdout()?);
    soak.flood(Duration::from_millis(200))?;
    let status = another.ended(soak.ctrl_c)?;
    ensure!(status.success(), "it ended with {status}");
    gone(&programs, soak.ctrl_c)?;
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
    let address = local(Ipv4Addr::new(127, 40, 0, 0));
    let args = ["load", "refused", &address, "--millis", "3000", "--spread", "100000"];
    let made = crate::load::Done::read(&output(&mut soak.namespace.this(&args)?)?)?.made;
    soak.made += made;
    let log = Log::follow(stdout);
    another.end(soak.ctrl_c)?;
    let told = log.end()?;
    ensure!(told.refused <= made && told.refused + told.lost >= made, "{told:?} of {made}");
    Ok(format!("{made} refusals, {} told, {} lost", told.refused, told.lost))
}
