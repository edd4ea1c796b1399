//! What an actor does without end, or very often.

use std::io::{Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::io::Errno;
use rustix::process::{Pid, Resource, Rlimit, Signal, WaitOptions, getrlimit, setrlimit};

use super::{bind, listen, open, parse, wait_for};
use crate::load::{offset, refused, refused_from};

/// Connects so many times, blocking and not by turns.
pub fn flood(addr: &str, count: i32) -> Result<String, Errno> {
    let addr = parse(addr);
    let ports: Vec<String> = (0..count)
        .map(|turn| Ok(refused_from(addr, turn % 2 == 1)?.to_string()))
        .collect::<Result<_, Errno>>()?;
    Ok(ports.join(" "))
}

/// Connects until the next command.
pub fn make_noise(addr: &str) {
    let addr = parse(addr);
    for turn in 0.. {
        // Its outcome does not matter: it only makes load.
        let _ = refused(addr, turn % 2 == 1);
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

/// Very many sockets, and children in namespaces of their own; all closed or ended when it is dropped.
#[derive(Default)]
pub struct BulkSockets {
    sockets: Vec<OwnedFd>,
    children: Vec<Pid>,
}

impl BulkSockets {
    pub fn add(&mut self, what: &str, addr: &str, count: i32) -> Result<String, Errno> {
        let first = parse(addr);
        raise_descriptors(
            u64::try_from(self.sockets.len()).expect("few") + u64::try_from(count).expect("a count"),
        )?;
        for step in 0..u32::try_from(count).expect("a count") {
            let own = offset(first, step).to_string();
            let one = match what {
                "listen" => {
                    let bound = bind(&own, &[])?;
                    listen(Some(&bound), 16, &[])?;
                    bound
                }
                "bind" => bind(&own, &[])?,
                // On a busy machine it takes longer to make them all than the kernel tries by itself.
                "connect" => open(addr, &["pending", "retries=127"])?,
                _ => return Err(Errno::INVAL),
            };
            self.sockets.push(one);
        }
        Ok(String::new())
    }

    pub fn add_netns(&mut self, count: i32) -> Result<String, Errno> {
        for _ in 0..count {
            let (mut ready, mut child_end) = std::io::pipe().map_err(|_| Errno::MFILE)?;
            // SAFETY: the actor has one thread, so the child may do whatever the parent may.
            let child = match unsafe { libc::fork() } {
                0 => {
                    // SAFETY: plain system calls on this process, which ends with its parent.
                    unsafe {
                        libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
                        if libc::unshare(libc::CLONE_NEWNET) == 0 {
                            let _ = child_end.write_all(b".");
                            loop {
                                libc::pause();
                            }
                        }
                        libc::_exit(1);
                    }
                }
                child => Pid::from_raw(child).ok_or(Errno::AGAIN)?,
            };
            self.children.push(child);
            drop(child_end);
            ready.read_exact(&mut [0]).map_err(|_| Errno::PERM)?;
        }
        Ok(String::new())
    }
}

impl Drop for BulkSockets {
    fn drop(&mut self) {
        for child in &self.children {
            let _ = rustix::process::kill_process(*child, Signal::KILL);
        }
        for child in &self.children {
            let _ = rustix::process::waitpid(Some(*child), WaitOptions::empty());
        }
    }
}

/// For so many sockets more than a process usually has.
fn raise_descriptors(count: u64) -> Result<(), Errno> {
    let limit = getrlimit(Resource::Nofile);
    let wanted = Some(count + 64);
    if limit.current.is_some_and(|current| Some(current) < wanted) {
        let maximum = limit.maximum.map(|maximum| maximum.max(count + 64));
        setrlimit(Resource::Nofile, Rlimit { current: wanted, maximum })?;
    }
    Ok(())
}
