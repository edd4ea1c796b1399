//! `cargo xtask load`, hidden: what the benchmark and the soak make the kernel do, as fast as it can, in a process
//! of its own. Each says at its end what it did, as one line of JSON.

use std::{
    net::{Ipv4Addr, SocketAddr},
    os::fd::OwnedFd,
    process::ExitCode,
    sync::{
        Barrier,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use clap::Subcommand;
use rustix::{
    event::{PollFd, PollFlags, poll},
    io::Errno,
    net::{self, AddressFamily, SocketFlags, SocketType, sockopt},
    process::{Signal, set_parent_process_death_signal},
    time::{ClockId, clock_gettime},
};
use serde_json::{Value, json};

/// What to do.
#[derive(Subcommand)]
pub enum Load {
    /// Connect to an address where nothing listens
    Refused {
        address: SocketAddr,
        #[arg(long)]
        millis: u64,
        #[arg(long, default_value_t = 1)]
        threads: usize,
        /// Every other connect does not block
        #[arg(long)]
        mixed: bool,
        /// Each connect goes to the next of this many addresses
        #[arg(long, default_value_t = 1)]
        spread: u32,
        /// Each thread makes so many at least, however long that takes
        #[arg(long, default_value_t = 1)]
        least: u64,
    },
    /// Listen, connect, accept, and close both, in one thread
    Accepted {
        address: SocketAddr,
        #[arg(long)]
        millis: u64,
    },
    /// Call getppid()
    Getppid {
        #[arg(long)]
        millis: u64,
    },
    /// Listen at an address and close again, so many times
    Churn { address: SocketAddr, count: u64 },
    /// Listen at this many addresses from this one on, until stdin ends
    Listen { address: SocketAddr, count: u32 },
}

/// What was done.
#[derive(Clone, Copy, Debug)]
pub struct Done {
    /// How often.
    pub made: u64,
    pub wall: Duration,
    /// What the threads took of the CPUs, in sum.
    pub cpu: Duration,
}

impl Done {
    /// Reads the line that a load says at its end.
    pub fn read(line: &str) -> Result<Self> {
        let value: Value = serde_json::from_str(line).context("the load's line is no JSON")?;
        let number = |name: &str| value[name].as_u64().with_context(|| format!("the load said no `{name}`"));
        Ok(Self {
            made: number("made")?,
            wall: Duration::from_nanos(number("wall_ns")?),
            cpu: Duration::from_nanos(number("cpu_ns")?),
        })
    }

    /// How many a second.
    pub fn rate(&self) -> f64 {
        self.made as f64 / self.wall.as_secs_f64()
    }

    /// Nanoseconds of CPU that each took.
    pub fn cpu_each(&self) -> f64 {
        self.cpu.as_secs_f64() * 1e9 / self.made as f64
    }
}

/// Does it.
pub fn run(load: &Load) -> Result<ExitCode> {
    set_parent_process_death_signal(Some(Signal::KILL)).context("cannot tie the load to its starter")?;
    rustix::thread::set_name(c"tracer-load").context("cannot name the load")?;
    let done = match *load {
        Load::Refused { address, millis, threads, mixed, spread, least } => {
            all_at_once(threads, Duration::from_millis(millis), least, |turn| {
                let turn = u32::try_from(turn % u64::from(u32::MAX)).unwrap_or_default();
                refused(offset(address, turn % spread.max(1)), mixed && turn % 2 == 1)
            })?
        }
        Load::Accepted { address, millis } => {
            let listener = listen(address)?;
            all_at_once(1, Duration::from_millis(millis), 1, |_| accepted(&listener, address))?
        }
        Load::Getppid { millis } => all_at_once(1, Duration::from_millis(millis), 1, |_| {
            // A thousand a look at the clock, which costs as much.
            for _ in 0..1_000 {
                // SAFETY: the call has no preconditions.
                unsafe { libc::getppid() };
            }
            Ok(1_000)
        })?,
        Load::Churn { address, count } => {
            let (start, before) = (Instant::now(), cpu_time());
            (0..count).try_for_each(|_| listen(address).map(drop))?;
            Done { made: count, wall: start.elapsed(), cpu: cpu_time() - before }
        }
        Load::Listen { address, count } => {
            let listeners: Vec<OwnedFd> =
                (0..count).map(|turn| listen(offset(address, turn))).collect::<Result<_>>()?;
            println!("{}", listeners.len());
            std::io::copy(&mut std::io::stdin().lock(), &mut std::io::sink())?;
            return Ok(ExitCode::SUCCESS);
        }
    };
    let nanos = |duration: Duration| u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
    println!("{}", json!({"made": done.made, "wall_ns": nanos(done.wall), "cpu_ns": nanos(done.cpu)}));
    Ok(ExitCode::SUCCESS)
}

/// Repeats `act`, which says how often it has done it, in so many threads for so long, and `least` times in each.
fn all_at_once(
    threads: usize,
    duration: Duration,
    least: u64,
    act: impl Fn(u64) -> Result<u64> + Sync,
) -> Result<Done> {
    let (begin, over) = (Barrier::new(threads + 1), AtomicBool::new(false));
    thread::scope(|scope| {
        let worker = || -> Result<(u64, Duration)> {
            begin.wait();
            let before = cpu_time();
            let (mut made, mut turn) = (0, 0);
            loop {
                made += act(turn)?;
                turn += 1;
                if over.load(Ordering::Relaxed) && turn >= least {
                    break;
                }
            }
            Ok((made, cpu_time() - before))
        };
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(worker)).collect();
        begin.wait();
        let start = Instant::now();
        thread::sleep(duration);
        over.store(true, Ordering::Relaxed);
        let wall = start.elapsed();
        let mut done = Done { made: 0, wall, cpu: Duration::ZERO };
        for worker in workers {
            let (made, cpu) = worker.join().expect("a worker does not panic")?;
            done.made += made;
            done.cpu += cpu;
        }
        Ok(done)
    })
}

/// What this thread has taken of the CPUs.
fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or_default())
}

/// The address so many further on; its port stays.
fn offset(address: SocketAddr, by: u32) -> SocketAddr {
    match address {
        SocketAddr::V4(v4) => {
            SocketAddr::from((Ipv4Addr::from_bits(v4.ip().to_bits().wrapping_add(by)), v4.port()))
        }
        SocketAddr::V6(v6) => {
            let next = v6.ip().to_bits().wrapping_add(u128::from(by));
            SocketAddr::from((std::net::Ipv6Addr::from_bits(next), v6.port()))
        }
    }
}

fn socket(address: SocketAddr, flags: SocketFlags) -> Result<OwnedFd> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    net::socket_with(family, SocketType::STREAM, flags | SocketFlags::CLOEXEC, None)
        .context("cannot make a socket")
}

/// One connect, which must be refused.
pub fn refused(address: SocketAddr, nonblocking: bool) -> Result<u64> {
    let flags = if nonblocking { SocketFlags::NONBLOCK } else { SocketFlags::empty() };
    let socket = socket(address, flags)?;
    let mut outcome = net::connect(&socket, &address);
    if outcome == Err(Errno::INPROGRESS) {
        poll(&mut [PollFd::new(&socket, PollFlags::OUT)], None)?;
        outcome = sockopt::socket_error(&socket)?;
    }
    match outcome {
        Err(Errno::CONNREFUSED) => Ok(1),
        Err(other) => bail!("the connect to {address} failed otherwise than by a refusal: {other}"),
        Ok(()) => bail!("the connect to {address} was answered"),
    }
}

fn listen(address: SocketAddr) -> Result<OwnedFd> {
    let socket = socket(address, SocketFlags::empty())?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    net::bind(&socket, &address).with_context(|| format!("cannot bind to {address}"))?;
    net::listen(&socket, 128).with_context(|| format!("cannot listen on {address}"))?;
    Ok(socket)
}

/// One connect that is answered.
fn accepted(listener: &OwnedFd, address: SocketAddr) -> Result<u64> {
    let client = socket(address, SocketFlags::empty())?;
    net::connect(&client, &address).with_context(|| format!("cannot connect to {address}"))?;
    let server = net::accept(listener).context("cannot accept")?;
    // Reset at close, so that no TIME-WAIT keeps the port.
    sockopt::set_socket_linger(&client, Some(Duration::ZERO))?;
    drop(client);
    drop(server);
    Ok(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_load_says_is_read_back() {
        let done = Done::read(r#"{"made":50,"wall_ns":500000000,"cpu_ns":1000000}"#).expect("a line");
        assert_eq!((done.rate(), done.cpu_each()), (100.0, 20_000.0));
        assert!(Done::read(r#"{"made":50}"#).is_err());
    }

    #[test]
    fn an_address_goes_on_across_its_bytes() {
        let address = |text: &str| text.parse::<SocketAddr>().expect("an address");
        assert_eq!(offset(address("127.0.0.255:80"), 2), address("127.0.1.1:80"));
        assert_eq!(offset(address("[::ffff]:80"), 1), address("[::1:0]:80"));
    }
}
