//! Network namespaces that exist as long as their value does.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::Write;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, Once, PoisonError};

use rustix::process::Pid;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// Where `ip netns` keeps its names.
const NAMES: &str = "/run/netns";

/// What the name of every namespace made here begins with; the process id and a number follow.
const PREFIX: &str = "tracer-live-";

/// `ip netns add` is not safe to run twice in parallel on a host that has never had a named namespace.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// The network namespace that an actor starts in.
#[derive(Clone, Debug)]
pub enum Place {
    /// The one that a file stands for.
    Path(PathBuf),
    /// A new one without a name, which ends with its last process.
    Unshared,
}

/// A named network namespace with `lo` up and `eth0` (one end of a veth pair, the other is `peer0` in
/// the same namespace) that has the addresses 10.77.0.1/24, fd77::1/64 and fe80::77/64.
pub struct Netns {
    pub name: String,
    /// Inode number, as `lsns` prints it.
    pub id: u32,
}

impl Netns {
    pub fn with_eth0() -> Self {
        let netns = Self::bare();
        netns.ip("link set lo up
            link add eth0 type veth peer name peer0
            addr add 10.77.0.1/24 dev eth0
            addr add fd77::1/64 dev eth0 nodad
            addr add fe80::77/64 dev eth0 nodad
            link set eth0 up
            link set peer0 up");
        netns
    }

    /// One with loopback alone.
    pub fn with_loopback() -> Self {
        let netns = Self::bare();
        netns.ip("link set lo up");
        netns
    }

    /// One in which nothing is up.
    pub fn bare() -> Self {
        Self::called("")
    }

    /// The same with a name that ends like this.
    pub fn called(ending: &str) -> Self {
        let name = new_name() + ending;
        {
            let _guard = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
            run(Command::new("ip").args(["netns", "add", &name]), "");
        }
        let id = inode(&Path::new(NAMES).join(&name));
        Self { name, id }
    }

    pub fn path(&self) -> PathBuf {
        Path::new(NAMES).join(&self.name)
    }

    pub fn place(&self) -> Place {
        Place::Path(self.path())
    }

    /// Runs `ip` commands in it, one a line.
    pub fn ip(&self, commands: &str) {
        run(Command::new("ip").args(["-n", &self.name, "-batch", "-"]), commands);
    }

    /// Loads nftables rules in it.
    pub fn nft(&self, rules: &str) {
        run(self.enter(Command::new("nft").args(["-f", "-"])), rules);
    }

    /// Moves the calling thread into it, until that ends.
    pub fn enter_thread(&self) {
        let file = File::open(self.path()).expect("a namespace that exists");
        move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))
            .unwrap_or_else(|error| panic!("cannot enter the network namespace {}: {error}", self.name));
    }

    /// Makes a command start in it.
    pub fn enter<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        enter(&self.path(), command)
    }

    /// Joins it and another with a veth pair: the device in this one, then the one in the other.
    pub fn join(&self, device: &str, other: &Self, other_device: &str) {
        self.ip(&format!(
            "link add {device} type veth peer name {other_device} netns {}
            link set {device} up",
            other.name
        ));
        other.ip(&format!("link set {other_device} up"));
    }

    /// Whether it has an interface of this name.
    pub fn has_device(&self, device: &str) -> bool {
        let mut command = Command::new("ip");
        command.args(["-n", &self.name, "link", "show", "dev", device]);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        command.status().expect("to run `ip`").success()
    }
}

impl Drop for Netns {
    fn drop(&mut self) {
        let deleted = Command::new("ip").args(["netns", "del", &self.name]).status();
        if !deleted.is_ok_and(|status| status.success()) && !std::thread::panicking() {
            panic!("cannot delete the network namespace {}", self.name);
        }
    }
}

/// Many empty network namespaces, made and deleted by one command each.
pub struct BulkNetns {
    names: Vec<String>,
}

impl BulkNetns {
    pub fn new(count: usize) -> Self {
        let netns = Self { names: (0..count).map(|_| new_name()).collect() };
        netns.each("add");
        netns
    }

    pub fn names(&self) -> &[String] {
        &self.names
    }

    fn each(&self, action: &str) {
        let commands: String = self.names.iter().map(|name| format!("netns {action} {name}\n")).collect();
        run(Command::new("ip").args(["-force", "-batch", "-"]), &commands);
    }
}

impl Drop for BulkNetns {
    fn drop(&mut self) {
        self.each("delete");
    }
}

/// A name that no other namespace has.
fn new_name() -> String {
    static SWEPT: Once = Once::new();
    static COUNT: AtomicU32 = AtomicU32::new(1);
    SWEPT.call_once(sweep);
    format!("{PREFIX}{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed))
}

/// Makes a command start in the network namespace that `path` stands for.
pub fn enter<'a>(path: &Path, command: &'a mut Command) -> &'a mut Command {
    let file = File::open(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    // SAFETY: setns(2) on an open file is all that runs between fork and exec.
    unsafe {
        command.pre_exec(move || {
            if libc::setns(file.as_fd().as_raw_fd(), libc::CLONE_NEWNET) == 0 {
                Ok(())
            } else {
                Err(std::io::Error::last_os_error())
            }
        })
    }
}

/// The number of the namespace that a file under `/run/netns` or `/proc/PID/ns` stands for.
pub fn inode(path: &Path) -> u32 {
    let metadata = fs::metadata(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    u32::try_from(metadata.ino()).expect("the inode number of a namespace has 32 bits")
}

/// Runs a command to its end with `input`, and panics with its output when it fails.
pub fn run(command: &mut Command, input: &str) {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    child
        .stdin
        .take()
        .expect("a piped stdin")
        .write_all(input.as_bytes())
        .expect("to write a command's input");
    let output = child.wait_with_output().expect("a command's end");
    assert!(
        output.status.success(),
        "{command:?} < {input:?}: {}, {}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
}

/// Deletes what earlier runs of these tests left because they were killed: namespaces whose names hold
/// the id of a process that no longer exists.
fn sweep() {
    let Ok(names) = fs::read_dir(NAMES) else { return };
    for name in names.flatten().map(|entry| entry.file_name()) {
        let owner = name.to_str().and_then(|name| name.strip_prefix(PREFIX)?.split('-').next()?.parse().ok());
        let Some(owner) = owner.and_then(Pid::from_raw) else { continue };
        if rustix::process::test_kill_process(owner) == Err(rustix::io::Errno::SRCH) {
            let _ = Command::new("ip").args([OsStr::new("netns"), OsStr::new("del"), &name]).status();
        }
    }
}
