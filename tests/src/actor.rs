//! The actor: a process of its own that holds real sockets and carries out the commands of a test on them.
//!
//! The test binary starts itself as `live actor [--netns PATH] [--unshare] [--comm HEX] [--uid N] [--socket FD]
//! [-- ANYTHING...]`. An actor reads one command a line from stdin and answers each with one line, so that a
//! test waits for events and never for time:
//!
//! | command | answer |
//! |---|---|
//! | `bind ADDR:PORT [OPTION...]` | `ok` |
//! | `listen BACKLOG [uring...]` (on its socket: the one bound, kept or taken last) | `ok COOKIE` |
//! | `shutdown` (a listener leaves LISTEN, its socket stays) | `ok` |
//! | `accept` (and close what was accepted) | `ok` |
//! | `close` (its socket) | `ok` |
//! | `connect ADDR:PORT [OPTION...]` | `ok LOCAL-PORT` |
//! | `again ADDR:PORT [OPTION...]` (connects its socket once more) | `ok` |
//! | `outcome` (of a connect that was left pending) | `ok` |
//! | `disconnect` (its socket, by a connect to AF_UNSPEC) | `ok` |
//! | `reach ADDR:PORT...` (connects to each until one answers, as `curl localhost`) | `ok LOCAL-PORT` |
//! | `flood ADDR:PORT COUNT` (connects, blocking and not by turns) | `ok LOCAL-PORT...`, one a refusal |
//! | `load JSON` (a [`crate::load::Load`], without spaces) | `ok JSON`, a [`crate::load::Done`] |
//! | `noise ADDR:PORT` (connects without end, until the next command) | `ok` immediately |
//! | `churn ADDR:PORT` (listens and closes without end, until the next command) | `ok` immediately |
//! | `cookies` (of the listeners that churned, in order) | `ok COOKIE...` |
//! | `bulk listen ADDR:PORT COUNT` (listeners at so many addresses, from this one on) | `ok` |
//! | `bulk bind ADDR:PORT COUNT` (the same, without listening) | `ok` |
//! | `bulk connect ADDR:PORT COUNT` (connects that are left pending) | `ok` |
//! | `bulk netns COUNT` (children, each in a network namespace of its own) | `ok` |
//! | `release` (all of these) | `ok` |
//! | `fork` (a child goes on in its place, the parent ends) | `ok PID`, the child's |
//! | `exec HEX` (executes itself under another name, its socket inherited) | `ready` |
//! | `mailbox PATH` (where sockets can be passed to) | `ok` |
//! | `pass PATH` (its socket to a mailbox; it keeps its own descriptor) | `ok` |
//! | `take` (a socket out of its mailbox) | `ok` |
//! | `descriptor` (of its socket) | `ok FD` |
//! | `steal PID FD` (another process's socket, by pidfd_getfd) | `ok` |
//! | `exit CODE` | none |
//!
//! | option | of |
//! |---|---|
//! | `device=NAME` `mptcp` | both: bound to an interface; multipath TCP |
//! | `uring` `uring=worker` `uring=sqpoll` | both: by io_uring, in the caller's thread or the kernel's (see actor/uring.rs) |
//! | `v6only` `reuseaddr` `reuseport` | bind |
//! | `fastopen` | bind: a TCP Fast Open queue; connect: TCP_FASTOPEN_CONNECT, which waits for the first write |
//! | `sendto` | connect: by sendto() with MSG_FASTOPEN |
//! | `write` | connect: writes a byte as soon as it returns |
//! | `from=ADDR:PORT` | connect: bound before |
//! | `usertimeout=MS` | connect: TCP_USER_TIMEOUT |
//! | `retries=COUNT` | connect: TCP_SYNCNT |
//! | `recverr` | connect: IP_RECVERR or IPV6_RECVERR, which keeps errors in the socket's queue |
//! | `nonblocking` | connect: waits for its outcome by poll() |
//! | `abandon` | connect: does not block, and closes what is under way |
//! | `pending` | connect: does not block, and keeps what is under way |
//! | `keep` | connect: keeps the socket |
//! | `thread` | connect: in another thread |
//! | `uring=cancel` | connect: by io_uring, cancelled while it is under way |
//!
//! Whatever fails is answered with `errno N` (of a connect: as the caller got it, or by `SO_ERROR` where
//! it did not block). SIGUSR1 interrupts a system call and does nothing else. At the end of stdin the actor
//! exits, and its sockets with it.

mod bulk;
mod passing;
mod uring;

use std::ffi::{CString, OsString};
use std::fs::File;
use std::io::{self, BufRead, Write};
use std::net::{IpAddr, SocketAddr, SocketAddrV6};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use rustix::io::{Errno, FdFlags};
use rustix::net::{self, AddressFamily, SendFlags, SocketFlags, SocketType, sockopt};
use rustix::process::{Signal, set_parent_process_death_signal};
use rustix::thread::{LinkNameSpaceType, UnshareFlags};

use crate::load::Load;

/// How long a listener is open before an actor closes it: longer than one that only tries the port.
const SERVED: Duration = Duration::from_millis(60);

/// Listens on a Unix socket with an abstract name, which is the network namespace's own.
fn unix(name: &str) -> Result<UnixListener, Errno> {
    let errno = |error: io::Error| Errno::from_io_error(&error).unwrap_or(Errno::INVAL);
    let address = std::os::unix::net::SocketAddr::from_abstract_name(name).map_err(errno)?;
    UnixListener::bind_addr(&address).map_err(errno)
}

/// Runs an actor until stdin ends; never returns to the tests.
pub fn main(arguments: impl Iterator<Item = OsString>) -> ExitCode {
    let mut socket: Option<OwnedFd> = match apply(arguments) {
        Ok(inherited) => inherited,
        Err(error) => {
            eprintln!("actor: {error}");
            return ExitCode::FAILURE;
        }
    };
    let mut mailbox: Option<OwnedFd> = None;
    let mut local: Vec<UnixListener> = Vec::new();
    let mut churned: Vec<String> = Vec::new();
    let mut bulk = bulk::BulkSockets::default();
    reply("ready");
    // Unbuffered reading: after a fork the child must find the commands that the parent has not taken.
    while let Some(command) = read_command() {
        let words: Vec<&str> = command.split(' ').collect();
        let answer = match words.as_slice() {
            ["bind", addr, options @ ..] => {
                bind(addr, options).map(|bound| socket = Some(bound)).map(|()| String::new())
            }
            ["unix", name] => unix(name).map(|listener| local.push(listener)).map(|()| String::new()),
            ["listen", backlog, options @ ..] => listen(socket.as_ref(), number(backlog), options),
            ["shutdown"] => match &socket {
                Some(socket) => net::shutdown(socket, net::Shutdown::Both).map(|()| String::new()),
                None => Err(Errno::BADF),
            },
            ["accept"] => accept(socket.as_ref()).map(|()| String::new()),
            ["close"] => {
                // A listener that is closed sooner is a probe of the port, and not a server's.
                if socket.as_ref().is_some_and(|socket| sockopt::socket_acceptconn(socket) == Ok(true)) {
                    std::thread::sleep(SERVED);
                }
                socket.take().map(|_| String::new()).ok_or(Errno::BADF)
            }
            ["close", "at-once"] => socket.take().map(|_| String::new()).ok_or(Errno::BADF),
            ["connect", addr, options @ ..] if options.contains(&"thread") => std::thread::scope(|scope| {
                let worker = std::thread::Builder::new().name("worker".to_owned());
                let worker = worker.spawn_scoped(scope, || connect(addr, options)).expect("a thread");
                worker.join().expect("a thread's end").map(|port| port.to_string())
            }),
            ["connect", addr, options @ ..] if options.contains(&"keep") || options.contains(&"pending") => {
                open(addr, options).and_then(|connected| {
                    let port = local_port(&connected)?;
                    socket = Some(connected);
                    Ok(port.to_string())
                })
            }
            ["connect", addr, options @ ..] => connect(addr, options).map(|port| port.to_string()),
            ["again", addr, options @ ..] => {
                let connected = socket.as_ref().ok_or(Errno::BADF);
                connected.and_then(|socket| attempt(socket, parse(addr), options)).map(|()| String::new())
            }
            ["outcome"] => socket.as_ref().ok_or(Errno::BADF).and_then(outcome).map(|()| String::new()),
            ["disconnect"] => {
                socket.as_ref().ok_or(Errno::BADF).and_then(net::connect_unspec).map(|()| String::new())
            }
            ["reach", addrs @ ..] => reach(addrs).map(|port| port.to_string()),
            ["flood", addr, count] => bulk::flood(addr, number(count)),
            ["load", load] => {
                let load: Load = serde_json::from_str(load).expect("a load");
                // It must not outlive the process that started it, which cannot close stdin on it in time.
                let _ = set_parent_process_death_signal(Some(Signal::KILL));
                load.run().map(|done| serde_json::to_string(&done).expect("what was done"))
            }
            ["noise", addr] => {
                reply("ok");
                bulk::make_noise(addr);
                continue;
            }
            ["churn", addr] => {
                reply("ok");
                churned = bulk::churn(addr);
                continue;
            }
            ["cookies"] => Ok(churned.join(" ")),
            ["bulk", "netns", count] => bulk.add_netns(number(count)),
            ["bulk", what, addr, count] => bulk.add(what, addr, number(count)),
            ["release"] => {
                bulk = bulk::BulkSockets::default();
                Ok(String::new())
            }
            ["fork"] => {
                // SAFETY: the actor has one thread, so the child may do whatever the parent may.
                match unsafe { libc::fork() } {
                    0 => Ok(std::process::id().to_string()),
                    -1 => Err(Errno::from_io_error(&io::Error::last_os_error()).unwrap_or(Errno::IO)),
                    _ => return ExitCode::SUCCESS,
                }
            }
            ["exec", comm] => Err(exec(socket.as_ref(), comm)),
            ["mailbox", path] => {
                passing::mailbox(path).map(|bound| mailbox = Some(bound)).map(|()| String::new())
            }
            ["pass", path] => {
                let passed = socket.as_ref().ok_or(Errno::BADF);
                passed.and_then(|socket| passing::pass(socket, path)).map(|()| String::new())
            }
            ["take"] => {
                let taken = mailbox.as_ref().ok_or(Errno::BADF).and_then(passing::take);
                taken.map(|taken| socket = Some(taken)).map(|()| String::new())
            }
            ["descriptor"] => socket.as_ref().map(|socket| socket.as_raw_fd().to_string()).ok_or(Errno::BADF),
            ["steal", pid, descriptor] => passing::steal(number(pid), number(descriptor))
                .map(|stolen| socket = Some(stolen))
                .map(|()| String::new()),
            // Immediately: returning would close the socket while the process is still running.
            ["exit", code] => std::process::exit(number(code)),
            _ => panic!("actor: unknown command `{command}`"),
        };
        match answer {
            Ok(text) => reply(format!("ok {text}").trim_end()),
            Err(errno) => reply(&format!("errno {}", errno.raw_os_error())),
        }
    }
    ExitCode::SUCCESS
}

/// Applies the arguments (namespace, name, user) to the process; gives the socket that it has inherited.
fn apply(
    mut arguments: impl Iterator<Item = OsString>,
) -> Result<Option<OwnedFd>, Box<dyn std::error::Error>> {
    let mut inherited = None;
    be_interruptible()?;
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
                rustix::thread::set_name(&CString::new(bytes_of(&value()?)?)?)?;
            }
            "--started-by" => {
                let link = PathBuf::from(value()?);
                std::fs::remove_file(&link)?;
                std::fs::remove_dir(link.parent().unwrap_or(&link))?;
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
            "--socket" => inherited = Some(passing::inherited(value()?.parse()?)?),
            unknown => return Err(format!("unknown option `{unknown}`").into()),
        }
    }
    Ok(inherited)
}

/// Lets SIGUSR1 end a system call with EINTR.
fn be_interruptible() -> io::Result<()> {
    extern "C" fn nothing(_: libc::c_int) {}
    let handler: extern "C" fn(libc::c_int) = nothing;
    // SAFETY: a plain structure for which zero is a value: no flags, so no SA_RESTART.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = handler as libc::sighandler_t;
    // SAFETY: the structure outlives the call, and the handler does nothing that a handler may not do.
    let result = unsafe { libc::sigaction(libc::SIGUSR1, &raw const action, std::ptr::null_mut()) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Executes this program again in the same process; returns only if that fails.
fn exec(socket: Option<&OwnedFd>, comm: &str) -> Errno {
    // The name of the file that it executes is its own name from the first moment on.
    let link = match named_link(comm) {
        Ok(link) => link,
        Err(error) => return Errno::from_io_error(&error).unwrap_or(Errno::IO),
    };
    let mut command = std::process::Command::new(&link);
    command.args(["actor", "--comm", comm, "--started-by"]).arg(&link);
    if let Some(socket) = socket {
        if let Err(errno) = rustix::io::fcntl_setfd(socket, FdFlags::empty()) {
            return errno;
        }
        command.arg("--socket").arg(socket.as_raw_fd().to_string());
    }
    Errno::from_io_error(&command.exec()).unwrap_or(Errno::IO)
}

/// A link to this program, in a directory of its own, under the name that hexadecimal digits give.
fn named_link(comm: &str) -> io::Result<PathBuf> {
    let name = OsString::from_vec(bytes_of(comm).map_err(io::Error::other)?);
    let link = tempfile::tempdir()?.keep().join(name);
    std::os::unix::fs::symlink(std::env::current_exe()?, &link)?;
    Ok(link)
}

fn bytes_of(hexadecimal: &str) -> Result<Vec<u8>, std::num::ParseIntError> {
    let pairs = hexadecimal.as_bytes().chunks(2);
    pairs.map(|pair| u8::from_str_radix(&String::from_utf8_lossy(pair), 16)).collect()
}

fn reply(answer: &str) {
    let mut stdout = io::stdout().lock();
    // The test has ended when this fails; then stdin has ended too.
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
    sockopt::set_socket_reuseport(&socket, options.contains(&"reuseport"))?;
    if options.contains(&"fastopen") {
        set_tcp_option(&socket, libc::TCP_FASTOPEN, 16)?;
    }
    match uring::Way::of(options) {
        Some(way) => uring::bind(&socket, addr, way)?,
        None => net::bind(&socket, &addr)?,
    }
    Ok(socket)
}

fn listen(socket: Option<&OwnedFd>, backlog: i32, options: &[&str]) -> Result<String, Errno> {
    let socket = socket.ok_or(Errno::BADF)?;
    match uring::Way::of(options) {
        Some(way) => uring::listen(socket, backlog, way)?,
        None => net::listen(socket, backlog)?,
    }
    Ok(sockopt::socket_cookie(socket)?.to_string())
}

/// Connects; gives the local port, or the error that the caller gets.
fn connect(addr: &str, options: &[&str]) -> Result<u16, Errno> {
    local_port(&open(addr, options)?)
}

/// Connects to the first address that answers; otherwise gives the last error.
fn reach(addrs: &[&str]) -> Result<u16, Errno> {
    let (last, others) = addrs.split_last().ok_or(Errno::INVAL)?;
    others.iter().find_map(|addr| connect(addr, &[]).ok()).map_or_else(|| connect(last, &[]), Ok)
}

fn open(addr: &str, options: &[&str]) -> Result<OwnedFd, Errno> {
    let addr = parse(addr);
    let socket = socket(addr, options, blocking(options))?;
    if let Some(from) = option(options, "from") {
        net::bind(&socket, &parse(from))?;
    }
    if let Some(timeout) = option(options, "usertimeout") {
        set_tcp_option(&socket, libc::TCP_USER_TIMEOUT, number(timeout))?;
    }
    if let Some(retries) = option(options, "retries") {
        set_tcp_option(&socket, libc::TCP_SYNCNT, number(retries))?;
    }
    if options.contains(&"recverr") {
        let (level, option) = match addr {
            SocketAddr::V4(_) => (libc::IPPROTO_IP, libc::IP_RECVERR),
            SocketAddr::V6(_) => (libc::IPPROTO_IPV6, libc::IPV6_RECVERR),
        };
        set_option(&socket, level, option, &1_i32.to_ne_bytes())?;
    }
    if options.contains(&"fastopen") {
        set_tcp_option(&socket, libc::TCP_FASTOPEN_CONNECT, 1)?;
    }
    attempt(&socket, addr, options)?;
    if options.contains(&"write") {
        net::send(&socket, b".", SendFlags::NOSIGNAL)?;
    }
    Ok(socket)
}

fn blocking(options: &[&str]) -> SocketFlags {
    let does_not_block = ["nonblocking", "abandon", "pending"].iter().any(|option| options.contains(option));
    if does_not_block { SocketFlags::NONBLOCK } else { SocketFlags::empty() }
}

/// Ends a connection from the server's side: it is this side that has the TIME-WAIT.
fn accept(socket: Option<&OwnedFd>) -> Result<(), Errno> {
    net::accept(socket.ok_or(Errno::BADF)?).map(drop)
}

fn attempt(socket: &OwnedFd, addr: SocketAddr, options: &[&str]) -> Result<(), Errno> {
    let has = |option| options.contains(&option);
    let returned = match uring::Way::of(options) {
        Some(way) => uring::connect(socket, addr, way),
        None if has("sendto") => {
            let flags = SendFlags::NOSIGNAL | SendFlags::from_bits_retain(libc::MSG_FASTOPEN.cast_unsigned());
            net::sendto(socket, b".", flags, &addr).map(drop)
        }
        None => net::connect(socket, &addr),
    };
    match returned {
        Err(Errno::INPROGRESS) if has("pending") => Ok(()),
        Err(Errno::INPROGRESS) if has("nonblocking") && !has("abandon") => outcome(socket),
        returned => returned,
    }
}

/// What came of a connect that did not block.
fn outcome(socket: &OwnedFd) -> Result<(), Errno> {
    wait_for(socket.as_raw_fd(), libc::POLLOUT, -1);
    sockopt::socket_error(socket)?
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
    set_option(socket, libc::SOL_SOCKET, libc::SO_BINDTODEVICE, name.as_bytes())
}

fn set_tcp_option(socket: &OwnedFd, option: libc::c_int, value: i32) -> Result<(), Errno> {
    set_option(socket, libc::IPPROTO_TCP, option, &value.to_ne_bytes())
}

fn set_option(socket: &OwnedFd, level: libc::c_int, option: libc::c_int, value: &[u8]) -> Result<(), Errno> {
    let length = libc::socklen_t::try_from(value.len()).expect("a short value");
    let fd = socket.as_raw_fd();
    // SAFETY: the pointer and the length are those of `value`, which outlives the call.
    let result = unsafe { libc::setsockopt(fd, level, option, value.as_ptr().cast(), length) };
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
