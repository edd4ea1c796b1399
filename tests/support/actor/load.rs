//! What an actor does without end, or very often.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use rustix::io::Errno;
use rustix::net;

use super::{attempt, bind, blocking, listen, local_port, parse, socket, wait_for};

pub fn flood(addr: &str, count: i32) -> Result<String, Errno> {
    let addr = parse(addr);
    let from = match addr {
        SocketAddr::V4(_) => SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), 0),
        SocketAddr::V6(_) => SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), 0),
    };
    let mut ports = Vec::new();
    for turn in 0..count {
        let options = by_turns(turn);
        let socket = socket(addr, options, blocking(options))?;
        // Bound by hand, because a refused socket forgets a port that the kernel chose.
        net::bind(&socket, &from)?;
        let port = local_port(&socket)?;
        match attempt(&socket, addr, options) {
            Err(Errno::CONNREFUSED) => ports.push(port.to_string()),
            Err(other) => return Err(other),
            Ok(()) => return Err(Errno::ISCONN),
        }
    }
    Ok(ports.join(" "))
}

fn by_turns(turn: i32) -> &'static [&'static str] {
    if turn % 2 == 1 { &["nonblocking"] } else { &[] }
}

pub fn make_noise(addr: &str) {
    let addr = parse(addr);
    for turn in 0.. {
        let options = by_turns(turn);
        // Whether it succeeds is nobody's concern here: it is there to be in the way.
        if let Ok(socket) = socket(addr, options, blocking(options)) {
            let _ = attempt(&socket, addr, options);
        }
        if turn % 16 == 0 && wait_for(libc::STDIN_FILENO, libc::POLLIN, 0) {
            return;
        }
    }
}

/// Holds each listener a little longer than a listen() that fails would show. It takes what processors have to spare: the
/// tracer has to get through its start meanwhile, on one processor too.
pub fn churn(addr: &str) -> Vec<String> {
    rustix::process::setpriority_process(None, 19).expect("to be nice");
    let hold = Duration::from_micros(1_500);
    let mut cookies = Vec::new();
    loop {
        let socket = bind(addr, &["reuseaddr"]).expect("to bind");
        cookies.push(listen(Some(&socket), 16, &[]).expect("to listen"));
        std::thread::sleep(hold);
        drop(socket);
        if wait_for(libc::STDIN_FILENO, libc::POLLIN, 0) {
            return cookies;
        }
    }
}
