//! The actor: a process of its own that holds real sockets and does with them what it is told.
//!
//! The test binary starts itself as `live actor [--netns PATH] [--unshare] [--comm HEX] [--uid N] [-- ANYTHING...]`. An
//! actor reads one command a line from stdin and answers each with one line, so that a test waits for
//! events and never for time:
//!
//! | command | answer |
//! |---|---|
//! | `bind ADDR:PORT [v6only] [reuseaddr] [device=NAME] [mptcp]` | `ok` |
//! | `listen BACKLOG` (on the socket bound last) | `ok COOKIE` |
//! | `shutdown` (a listener leaves LISTEN, its socket stays) | `ok` |
//! | `accept` (and close what was accepted) | `ok` |
//! | `close` (the socket bound or kept last) | `ok` |
//! | `connect ADDR:PORT [nonblocking] [abandon] [thread] [keep] [from=ADDR:PORT] [device=NAME] [mptcp]` | `ok LOCAL-PORT` |
//! | `reach ADDR:PORT...` (connects to each until one answers, as `curl localhost`) | `ok LOCAL-PORT` |
//! | `flood ADDR:PORT COUNT` (connects, blocking and not by turns) | `ok LOCAL-PORT...`, one a refusal |
//! | `noise ADDR:PORT` (connects without end, until the next command) | `ok` at once |
//! | `churn ADDR:PORT` (listens and closes without end, until the next command) | `ok` at once |
//! | `cookies` (of the listeners that churned, in order) | `ok COOKIE...` |
//! | `fork` (a child goes on in its place, the parent ends) | `ok PID`, the child's |
//! | `exit CODE` | none |
//!
//! Whatever fails is answered with `errno N` (of a connect: as the caller got it, or by `SO_ERROR` where
//! it did not block). At the end of stdin the actor exits, and its sockets with it.

use std::ffi::{CString, OsString};
use std::fs::File;
use std::io::{self, BufRead, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::process::ExitCode;

use rustix::io::Errno;
use rustix::net::{self, AddressFamily, SocketFlags, SocketType, sockopt};
use rustix::thread::{LinkNameSpaceType, UnshareFlags};

/// Plays an actor until stdin ends; never returns to the tests.
pub fn main(arguments: impl Iterator<Item = OsString>) -> ExitCode {
    if let Err(error) = dress(arguments) {
        eprintln!("actor: {error}");
        return ExitCode::FAILURE;
    }
    let mut socket: Option<OwnedFd> = None;
    let mut churned: Vec<String> = Vec::new();
    say("ready");
    // Unbuffered reading: after a fork the child must find the commands that the parent has not taken.
    while let Some(command) = read_command() {
        let words: Vec<&str> = command.split(' ').collect();
        let answer = match words.as_slice() {
            ["bind", addr, options @ ..] => {
                bind(addr, options).map(|bound| socket = Some(bound)).map(|()| String::new())
            }
            ["listen", backlog] => listen(socket.as_ref(), number(backlog)),
            ["shutdown"] => match &socket {
                Some(socket) => net::shutdown(socket, net::Shutdown::Both).map(|()| String::new()),
                None => Err(Errno::BADF),
            },
            ["accept"] => accept(socket.as_ref()).map(|()| String::new()),
            ["close"] => socket.take().map(|_| String::new()).ok_or(Errno::BADF),
            ["connect", addr, options @ ..] if options.contains(&"thread") => std::thread::scope(|scope| {
                let worker = std::thread::Builder::new().name("worker".to_owned());
                let worker = worker.spawn_scoped(scope, || connect(addr, options)).expect("a thread");
                worker.join().expect("a thread's end").map(|port| port.to_string())
            }),
            ["connect", addr, options @ ..] if options.contains(&"keep") => {
                open(addr, options).and_then(|connected| {
                    let port = local_port(&connected)?;
                    socket = Some(connected);
                    Ok(port.to_string())
                })
            }
            ["connect", addr, options @ ..] => connect(addr, options).map(|port| port.to_string()),
            ["reach", addrs @ ..] => reach(addrs).map(|port| port.to_string()),
            ["flood", addr, count] => flood(addr, number(count)),
            ["noise", addr] => {
                say("ok");
                make_noise(addr);
                continue;
            }
            ["churn", addr] => {
                say("ok");
                churned = churn(addr);
                continue;
            }
            ["cookies"] => Ok(churned.join(" ")),
            ["fork"] => {
                // SAFETY: the actor has one thread, so the child may do whatever the parent may.
                match unsafe { libc::fork() } {
                    0 => Ok(std::process::id().to_string()),
                    -1 => Err(Errno::from_io_error(&io::Error::last_os_error()).unwrap_or(Errno::IO)),
                    _ => return ExitCode::SUCCESS,
                }
            }
            // At once: returning would close the socket while the process still lives.
            ["exit", code] => std::process::exit(number(code)),
            _ => panic!("actor: unknown command `{command}`"),
        };
        match answer {
            Ok(text) => say(format!("ok {text}").trim_end()),
            Err(errno) => say(&format!("errno {}", errno.raw_os_error())),
        }
    }
    ExitCode::SUCCESS
}

/// Puts the process where, and makes it what, its arguments say.
fn dress(mut arguments: impl Iterator<Item = OsString>) -> Result<(), Box<dyn std::error::Error>> {
    while let Some(option) = arguments.next() {
        let option = option.into_string().map_err(|_| "an argument is not UTF-8")?;
        let mut value = || {
            let text = arguments.next().and_then(|text| text.into_string().ok());
            text.ok_or_else(|| format!("`{option}` needs a value"))
        };
        match option.as_str() {
            "--" => break,
            "--netns" => {
                let netns = File::open(value()?)?;
                rustix::thread::move_into_link_name_space(netns.as_fd(), Some(LinkNameSpaceType::Network))?;
            }
            "--unshare" => {
                // SAFETY: a network namespace of its own takes nothing away that this thread relies on.
                unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNET) }?;
            }
            "--comm" => {
                let bytes: Result<Vec<u8>, _> = value()?
                    .as_bytes()
                    .chunks(2)
                    .map(|pair| u8::from_str_radix(&String::from_utf8_lossy(pair), 16))
                    .collect();
                rustix::thread::set_name(&CString::new(bytes?)?)?;
            }
            "--uid" => {
                let uid = value()?.parse::<libc::uid_t>()?;
                // SAFETY: plain system calls on this process.
                let results = unsafe {
                    [
                        libc::setgroups(0, std::ptr::null()),
                        libc::setresgid(uid, uid, uid),
                        libc::setresuid(uid, uid, uid),
                    ]
                };
                if results != [0; 3] {
                    return Err(io::Error::last_os_error().into());
                }
            }
            unknown => return Err(format!("unknown option `{unknown}`").into()),
        }
    }
    Ok(())
}

fn say(answer: &str) {
    let mut stdout = io::stdout().lock();
    // The test has gone when this fails; then stdin has ended too.
    let _ = writeln!(stdout, "{answer}").and_then(|()| stdout.flush());
}

fn read_command() -> Option<String> {
    let mut line = String::new();
    // One byte at a time, so that nothing is read ahead.
    match io::BufReader::with_capacity(1, Unbuffered).read_line(&mut line) {
        Ok(0) | Err(_) => None,
        Ok(_) => Some(line.trim_end().to_owned()),
    }
}

/// Standard input without the buffer that std puts before it.
struct Unbuffered;

impl io::Read for Unbuffered {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        Ok(rustix::io::read(io::stdin(), buffer)?)
    }
}

fn number(text: &str) -> i32 {
    text.parse().unwrap_or_else(|_| panic!("actor: `{text}` is not a number"))
}

fn option<'a>(options: &[&'a str], name: &str) -> Option<&'a str> {
    options.iter().find_map(|option| option.strip_prefix(name)?.strip_prefix('='))
}

fn socket(addr: SocketAddr, options: &[&str], flags: SocketFlags) -> Result<OwnedFd, Errno> {
    let family = match addr {
        SocketAddr::V4(_) => AddressFamily::INET,
        SocketAddr::V6(_) => AddressFamily::INET6,
    };
    let protocol = options.contains(&"mptcp").then_some(net::ipproto::MPTCP);
    let socket = net::socket_with(family, SocketType::STREAM, flags | SocketFlags::CLOEXEC, protocol)?;
    if let Some(device) = option(options, "device") {
        bind_to_device(&socket, device)?;
    }
    Ok(socket)
}

fn bind(addr: &str, options: &[&str]) -> Result<OwnedFd, Errno> {
    let addr = parse(addr);
    let socket = socket(addr, options, SocketFlags::empty())?;
    if addr.is_ipv6() {
        sockopt::set_ipv6_v6only(&socket, options.contains(&"v6only"))?;
    }
    sockopt::set_socket_reuseaddr(&socket, options.contains(&"reuseaddr"))?;
    net::bind(&socket, &addr)?;
    Ok(socket)
}

fn listen(socket: Option<&OwnedFd>, backlog: i32) -> Result<String, Errno> {
    let socket = socket.ok_or(Errno::BADF)?;
    net::listen(socket, backlog)?;
    Ok(sockopt::socket_cookie(socket)?.to_string())
}

/// Connects, and says which local port it was from, or what the caller is told.
fn connect(addr: &str, options: &[&str]) -> Result<u16, Errno> {
    local_port(&open(addr, options)?)
}

/// Connects to the first that answers; otherwise what the last one said.
fn reach(addrs: &[&str]) -> Result<u16, Errno> {
    let (last, others) = addrs.split_last().ok_or(Errno::INVAL)?;
    others.iter().find_map(|addr| connect(addr, &[]).ok()).map_or_else(|| connect(last, &[]), Ok)
}

fn open(addr: &str, options: &[&str]) -> Result<OwnedFd, Errno> {
    let addr = parse(addr);
    let nonblocking = options.contains(&"nonblocking");
    let flags = if nonblocking { SocketFlags::NONBLOCK } else { SocketFlags::empty() };
    let socket = socket(addr, options, flags)?;
    if let Some(from) = option(options, "from") {
        net::bind(&socket, &parse(from))?;
    }
    attempt(&socket, addr, nonblocking, options.contains(&"abandon"))?;
    Ok(socket)
}

/// Ends a connection from the server's side: it is this side that has the TIME-WAIT.
fn accept(socket: Option<&OwnedFd>) -> Result<(), Errno> {
    net::accept(socket.ok_or(Errno::BADF)?).map(drop)
}

fn attempt(socket: &OwnedFd, addr: SocketAddr, nonblocking: bool, abandon: bool) -> Result<(), Errno> {
    match net::connect(socket, &addr) {
        Err(Errno::INPROGRESS) if abandon => Err(Errno::INPROGRESS),
        Err(Errno::INPROGRESS) if nonblocking => {
            wait_for(socket.as_raw_fd(), libc::POLLOUT, -1);
            sockopt::socket_error(socket)?
        }
        outcome => outcome,
    }
}

fn flood(addr: &str, count: i32) -> Result<String, Errno> {
    let addr = parse(addr);
    let from = match addr {
        SocketAddr::V4(_) => SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), 0),
        SocketAddr::V6(_) => SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), 0),
    };
    let mut ports = Vec::new();
    for turn in 0..count {
        let nonblocking = turn % 2 == 1;
        let flags = if nonblocking { SocketFlags::NONBLOCK } else { SocketFlags::empty() };
        let socket = socket(addr, &[], flags)?;
        // Bound by hand, because a refused socket forgets a port that the kernel chose.
        net::bind(&socket, &from)?;
        let port = local_port(&socket)?;
        match attempt(&socket, addr, nonblocking, false) {
            Err(Errno::CONNREFUSED) => ports.push(port.to_string()),
            Err(other) => return Err(other),
            Ok(()) => return Err(Errno::ISCONN),
        }
    }
    Ok(ports.join(" "))
}

fn make_noise(addr: &str) {
    let addr = parse(addr);
    for turn in 0_u32.. {
        let nonblocking = turn % 2 == 1;
        let flags = if nonblocking { SocketFlags::NONBLOCK } else { SocketFlags::empty() };
        // Whether it succeeds is nobody's concern here: it is there to be in the way.
        if let Ok(socket) = socket(addr, &[], flags) {
            let _ = attempt(&socket, addr, nonblocking, false);
        }
        if turn % 16 == 0 && wait_for(libc::STDIN_FILENO, libc::POLLIN, 0) {
            return;
        }
    }
}

/// Holds each listener a little longer than a listen() that fails would show. It takes what processors have to
/// spare: the tracer has to get through its start meanwhile, on one processor too.
fn churn(addr: &str) -> Vec<String> {
    rustix::process::setpriority_process(None, 19).expect("to be nice");
    let hold = std::time::Duration::from_micros(1_500);
    let mut cookies = Vec::new();
    loop {
        let socket = bind(addr, &["reuseaddr"]).expect("to bind");
        cookies.push(listen(Some(&socket), 16).expect("to listen"));
        std::thread::sleep(hold);
        drop(socket);
        if wait_for(libc::STDIN_FILENO, libc::POLLIN, 0) {
            return cookies;
        }
    }
}

fn local_port(socket: &OwnedFd) -> Result<u16, Errno> {
    Ok(SocketAddr::try_from(net::getsockname(socket)?).map_err(|_| Errno::AFNOSUPPORT)?.port())
}

/// Whether `events` came on `fd` within `timeout` milliseconds (-1: for ever).
fn wait_for(fd: i32, events: i16, timeout: i32) -> bool {
    let mut entry = libc::pollfd { fd, events, revents: 0 };
    // SAFETY: one entry, which outlives the call.
    unsafe { libc::poll(&raw mut entry, 1, timeout) > 0 }
}

fn bind_to_device(socket: &OwnedFd, name: &str) -> Result<(), Errno> {
    let length = libc::socklen_t::try_from(name.len()).expect("an interface name is short");
    // SAFETY: the pointer and the length are those of `name`, which outlives the call.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_BINDTODEVICE,
            name.as_ptr().cast(),
            length,
        )
    };
    if result == 0 { Ok(()) } else { Err(Errno::from_raw_os_error(errno())) }
}

fn errno() -> i32 {
    io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO)
}

/// Reads `127.0.0.1:80`, `[::1]:80` and `[fe80::1%eth0]:80`, the zone in this process's namespace.
fn parse(text: &str) -> SocketAddr {
    let parsed = (|| {
        let Some((start, rest)) = text.split_once('%') else { return text.parse().ok() };
        let (zone, port) = rest.split_once("]:")?;
        let zone = CString::new(zone).ok()?;
        // SAFETY: a string that ends in NUL and outlives the call.
        let index = unsafe { libc::if_nametoindex(zone.as_ptr()) };
        let IpAddr::V6(addr) = start.strip_prefix('[')?.parse().ok()? else { return None };
        (index != 0).then_some(SocketAddr::V6(SocketAddrV6::new(addr, port.parse().ok()?, 0, index)))
    })();
    parsed.unwrap_or_else(|| panic!("actor: `{text}` is not an address and a port here"))
}
