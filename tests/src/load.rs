//! Connects and listeners as fast as the kernel makes them: the load of the benchmark and the soak, by an actor
//! (its command `load`), and what actors do by the thousand.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::net::{self, AddressFamily, SocketFlags, SocketType, sockopt};
use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

/// A load.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub enum Load {
    /// Connects to addresses where nothing listens.
    Refused(Refused),
    /// Listens, connects, accepts, and closes both, in one thread.
    Accepted { address: SocketAddr, duration: Duration },
    /// Calls getppid().
    Getppid { duration: Duration },
    /// Listens at an address and closes again, so many times.
    Churn { address: SocketAddr, count: u64 },
}

/// How connects are refused.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Refused {
    pub address: SocketAddr,
    pub duration: Duration,
    pub threads: usize,
    /// Every other connect does not block.
    pub mixed: bool,
    /// Each connect goes to the next of so many addresses.
    pub spread: u32,
    /// Each thread makes so many at least, however long that takes.
    pub least: u64,
}

impl Refused {
    /// By one thread that blocks, to one address, for so long.
    pub fn at(address: SocketAddr, duration: Duration) -> Self {
        Self { address, duration, threads: 1, mixed: false, spread: 1, least: 1 }
    }

    /// By so many threads that block and do not by turns.
    pub fn from_threads(self, threads: usize) -> Self {
        Self { threads, mixed: true, ..self }
    }
}

/// The result of a load.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Done {
    /// Number of operations.
    pub made: u64,
    pub wall: Duration,
    /// What the threads took of the CPUs, in sum.
    pub cpu: Duration,
}

impl Done {
    /// How many a second.
    pub fn rate(&self) -> f64 {
        self.made as f64 / self.wall.as_secs_f64()
    }

    /// Nanoseconds of CPU that each took.
    pub fn cpu_each(&self) -> f64 {
        self.cpu.as_secs_f64() * 1e9 / self.made as f64
    }
}

impl Load {
    /// Runs the load.
    pub fn run(self) -> Result<Done, Errno> {
        match self {
            Self::Refused(Refused { address, duration, threads, mixed, spread, least }) => {
                in_parallel(threads, duration, least, |turn| {
                    let step = u32::try_from(turn % u64::from(spread.max(1))).expect("less than `spread`");
                    refused(offset(address, step), mixed && turn % 2 == 1).map(|()| 1)
                })
            }
            Self::Accepted { address, duration } => {
                let listener = listen(address)?;
                in_parallel(1, duration, 1, |_| accepted(&listener, address).map(|()| 1))
            }
            Self::Getppid { duration } => in_parallel(1, duration, 1, |_| {
                // A thousand between two reads of the clock, which cost as much.
                for _ in 0..1_000 {
                    // SAFETY: the call has no preconditions.
                    unsafe { libc::getppid() };
                }
                Ok(1_000)
            }),
            Self::Churn { address, count } => {
                let (start, before) = (Instant::now(), cpu_time());
                (0..count).try_for_each(|_| listen(address).map(drop))?;
                Ok(Done { made: count, wall: start.elapsed(), cpu: cpu_time() - before })
            }
        }
    }
}

/// Repeats `act`, which returns how often it has done it, in so many threads for so long, and `least` times in each.
fn in_parallel(
    threads: usize,
    duration: Duration,
    least: u64,
    act: impl Fn(u64) -> Result<u64, Errno> + Sync,
) -> Result<Done, Errno> {
    let (begin, over) = (Barrier::new(threads + 1), AtomicBool::new(false));
    thread::scope(|scope| {
        let worker = || -> Result<(u64, Duration), Errno> {
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
pub fn offset(address: SocketAddr, by: u32) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) => IpAddr::from(Ipv4Addr::from_bits(ip.to_bits().wrapping_add(by))),
        IpAddr::V6(ip) => IpAddr::from(Ipv6Addr::from_bits(ip.to_bits().wrapping_add(u128::from(by)))),
    };
    SocketAddr::new(ip, address.port())
}

fn socket(address: SocketAddr, nonblocking: bool) -> Result<OwnedFd, Errno> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = if nonblocking { SocketFlags::NONBLOCK } else { SocketFlags::empty() };
    net::socket_with(family, SocketType::STREAM, flags | SocketFlags::CLOEXEC, None)
}

/// One connect, which must be refused: that it was answered is the error EISCONN.
pub fn refused(address: SocketAddr, nonblocking: bool) -> Result<(), Errno> {
    expect_refusal(&socket(address, nonblocking)?, address)
}

/// The same; returns the local port. It is bound before: a refused socket forgets a port that the kernel chose.
pub fn refused_from(address: SocketAddr, nonblocking: bool) -> Result<u16, Errno> {
    let socket = socket(address, nonblocking)?;
    let any = match address {
        SocketAddr::V4(_) => IpAddr::from(Ipv4Addr::UNSPECIFIED),
        SocketAddr::V6(_) => IpAddr::from(Ipv6Addr::UNSPECIFIED),
    };
    net::bind(&socket, &SocketAddr::new(any, 0))?;
    let local = SocketAddr::try_from(net::getsockname(&socket)?).map_err(|_| Errno::AFNOSUPPORT)?;
    expect_refusal(&socket, address)?;
    Ok(local.port())
}

fn expect_refusal(socket: &OwnedFd, address: SocketAddr) -> Result<(), Errno> {
    let mut outcome = net::connect(socket, &address);
    if outcome == Err(Errno::INPROGRESS) {
        poll(&mut [PollFd::new(socket, PollFlags::OUT)], None)?;
        outcome = sockopt::socket_error(socket)?;
    }
    match outcome {
        Err(Errno::CONNREFUSED) => Ok(()),
        Err(other) => Err(other),
        Ok(()) => Err(Errno::ISCONN),
    }
}

fn listen(address: SocketAddr) -> Result<OwnedFd, Errno> {
    let socket = socket(address, false)?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    net::bind(&socket, &address)?;
    net::listen(&socket, 128)?;
    Ok(socket)
}

/// One connect that is answered.
fn accepted(listener: &OwnedFd, address: SocketAddr) -> Result<(), Errno> {
    let client = socket(address, false)?;
    net::connect(&client, &address)?;
    let server = net::accept(listener)?;
    // Reset at close, so that no TIME-WAIT keeps the port.
    sockopt::set_socket_linger(&client, Some(Duration::ZERO))?;
    drop(client);
    drop(server);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_by_wall_time_and_costs_by_cpu_time() {
        let done = Done { made: 50, wall: Duration::from_millis(500), cpu: Duration::from_millis(1) };
        assert_eq!((done.rate(), done.cpu_each()), (100.0, 20_000.0));
    }

    #[test]
    fn an_address_goes_on_across_its_bytes() {
        let address = |text: &str| text.parse::<SocketAddr>().expect("an address");
        assert_eq!(offset(address("127.0.0.255:80"), 2), address("127.0.1.1:80"));
        assert_eq!(offset(address("[::ffff]:80"), 1), address("[::1:0]:80"));
    }
}
