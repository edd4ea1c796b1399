//! What a test needs of the host. What is missing is found out by trying, once, and named.

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::LazyLock;

use super::{limits, systemd};

/// Whether this machine is an emulated one, which `cargo xtask vm` made: a processor that takes ten times as long.
pub fn is_emulated() -> bool {
    std::env::var_os(OWN_MACHINE).is_some()
}

/// One thing that a test cannot do without.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// Root with all its capabilities, in the host's PID namespace, and a kernel with BTF.
    Root,
    /// Named namespaces, veth pairs and IPv6 in them.
    Network,
    /// nftables with its reject target, for both families.
    Nft,
    /// nftables with its translation of addresses, for both families.
    Nat,
    /// Multipath TCP sockets.
    Mptcp,
    /// seccomp filters.
    Seccomp,
    /// Landlock with rules on ports (Linux 6.7).
    Landlock,
    /// io_uring.
    Uring,
    /// `bind()` and `listen()` by io_uring.
    UringServer,
    /// Socket cookies in kernel programs.
    Cookies,
    /// A kernel that counts what programs keep against the limit of locked memory.
    LockedMemory,
    /// The kernel's tracing file system, wherever it is mounted or not.
    Tracefs,
    /// A control group hierarchy that root may make groups in.
    Cgroups,
    /// VRF devices.
    Vrf,
    /// File systems in user space.
    Fuse,
    /// A program of Debian's, by its path.
    Program(&'static str),
    /// Debian's PostgreSQL 15, and the user that it makes.
    PostgreSql,
    /// A file that a program comes with.
    File { path: &'static str, reason: &'static str },
    /// systemd as the first process.
    Systemd,
    /// A machine that no other program uses: an emulated one, of `cargo xtask vm`.
    OwnMachine,
    /// Processors that are not emulated: what is measured is time.
    RealTime,
}

/// Set by the first process of an emulated machine (xtask/src/vm/run-suites.sh).
const OWN_MACHINE: &str = "TRACER_LIVE_OWN_MACHINE";

/// Where Debian has the programs of PostgreSQL 15.
pub const POSTGRESQL: &str = "/usr/lib/postgresql/15/bin";

/// Where Debian has programs that connect on for their clients.
pub const NGINX: &str = "/usr/sbin/nginx";
pub const SOCAT: &str = "/usr/bin/socat";
pub const DOCKER_PROXY: &str = "/usr/sbin/docker-proxy";

/// The user and group id of a user of this host.
pub fn user(name: &str) -> Option<(u32, u32)> {
    let passwd = std::fs::read_to_string("/etc/passwd").ok()?;
    let line = passwd.lines().find(|line| line.split(':').next() == Some(name))?;
    let mut ids = line.split(':').skip(2).map(|id| id.parse().ok());
    Some((ids.next()??, ids.next()??))
}

impl Need {
    /// Why the host cannot give it; `None`: it can.
    pub fn missing(self) -> Option<&'static str> {
        static ROOT: LazyLock<Option<&str>> = LazyLock::new(root);
        static NETWORK: LazyLock<Option<&str>> = LazyLock::new(network);
        static NFT: LazyLock<Option<&str>> = LazyLock::new(nft);
        static URING_SERVER: LazyLock<Option<&str>> = LazyLock::new(uring_server);
        static VRF: LazyLock<Option<&str>> = LazyLock::new(vrf);
        static NAT: LazyLock<Option<&str>> = LazyLock::new(nat);
        match self {
            Self::Root => *ROOT,
            Self::Network => *NETWORK,
            Self::Nft => *NFT,
            Self::Nat => *NAT,
            Self::Mptcp => {
                use rustix::net::{AddressFamily, SocketType, ipproto, socket};
                let socket = socket(AddressFamily::INET, SocketType::STREAM, Some(ipproto::MPTCP));
                socket.is_err().then_some("needs a kernel with multipath TCP switched on")
            }
            Self::Tracefs => {
                let known = std::fs::read_to_string("/proc/filesystems").unwrap_or_default();
                let is_known = known.split_whitespace().any(|word| word == "tracefs");
                (!is_known).then_some("needs a kernel with tracefs")
            }
            Self::Cgroups => {
                hierarchies().is_empty().then_some("needs a cgroup hierarchy that can be written")
            }
            Self::Systemd => (!systemd::is_first_process())
                .then_some("needs systemd as the first process: `cargo xtask vm systemd`"),
            Self::OwnMachine => std::env::var_os(OWN_MACHINE)
                .is_none()
                .then_some("needs a machine of its own, whose clock may be stepped: `cargo xtask vm`"),
            Self::RealTime => {
                is_emulated().then_some("needs processors that are not emulated: it measures time")
            }
            Self::Seccomp => {
                let there = Path::new("/proc/sys/kernel/seccomp/actions_avail").exists();
                (!there).then_some("needs a kernel with seccomp filters")
            }
            Self::Landlock => {
                const VERSION: libc::c_uint = 1;
                let none = std::ptr::null::<libc::c_void>();
                // SAFETY: asked for the version, the call takes no attributes and touches no memory.
                let version = unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, none, 0, VERSION) };
                (version < 4).then_some("needs a kernel with Landlock's rules on ports (6.7)")
            }
            Self::Uring => {
                let ring = io_uring::IoUring::new(1);
                ring.is_err().then_some("needs a kernel with io_uring, and leave to use it")
            }
            Self::UringServer => *URING_SERVER,
            Self::Vrf => *VRF,
            Self::Fuse => {
                (!Path::new("/dev/fuse").exists()).then_some("needs a kernel with FUSE (CONFIG_FUSE_FS)")
            }
            Self::Program(path) => {
                (!Path::new(path).exists()).then_some("needs a program of Debian's: `cargo xtask setup`")
            }
            Self::PostgreSql => {
                let is_there = Path::new(POSTGRESQL).join("postgres").exists() && user("postgres").is_some();
                (!is_there).then_some("needs Debian's postgresql-15: `cargo xtask setup`")
            }
            Self::File { path, reason } => (!Path::new(path).exists()).then_some(reason),
            Self::LockedMemory => (limits::release() >= (5, 11))
                .then_some("needs a kernel that counts programs against locked memory (before 5.11)"),
            Self::Cookies => limits::is_expected("no-socket-cookie")
                .then_some("needs a kernel that lends socket cookies to tracing programs (5.12 and later)"),
        }
    }
}

fn root() -> Option<&'static str> {
    /// `PROC_PID_INIT_INO` of include/linux/proc_ns.h: the first PID namespace.
    const HOST: &str = "pid:[4026531836]";
    if !rustix::process::geteuid().is_root() {
        return Some("needs root");
    }
    if !succeeds(Command::new("true"), "") {
        return Some("needs CAP_SYS_ADMIN: may not make a network namespace");
    }
    // `ip -n NAME`, and many a test, makes its mounts private first, which fails where the root directory is not a mount point.
    let mut private = Command::new("true");
    // SAFETY: two system calls are all that runs between fork and exec; the strings end in NUL.
    unsafe {
        private.pre_exec(|| {
            let flags = libc::MS_SLAVE | libc::MS_REC;
            let (nothing, root) = (c"".as_ptr(), c"/".as_ptr());
            let is_private = libc::unshare(libc::CLONE_NEWNS) == 0
                && libc::mount(nothing, root, std::ptr::null(), flags, std::ptr::null()) == 0;
            if is_private { Ok(()) } else { Err(std::io::Error::last_os_error()) }
        });
    }
    if !succeeds(private, "") {
        return Some("needs a root directory that is a mount point, unlike that of a plain chroot");
    }
    if std::fs::read_link("/proc/self/ns/pid").is_ok_and(|link| link != Path::new(HOST)) {
        return Some("needs the host's PID namespace: in another the tracer cannot identify processes");
    }
    if !Path::new("/sys/kernel/btf/vmlinux").exists() {
        return Some("needs a kernel with BTF");
    }
    None
}

fn network() -> Option<&'static str> {
    let mut ip = Command::new("ip");
    ip.args(["-batch", "-"]);
    let veth = "link set lo up
        link add eth0 type veth peer name peer0
        addr add fd77::1/64 dev eth0 nodad";
    (!succeeds(ip, veth)).then_some("needs `ip` (iproute2), veth pairs and IPv6")
}

fn nft() -> Option<&'static str> {
    let mut nft = Command::new("nft");
    nft.args(["-f", "-"]);
    let rules = "table inet probe {
        chain input {
            type filter hook input priority 0
            tcp dport 1 reject
            tcp dport 2 reject with tcp reset
        }
    }";
    (!succeeds(nft, rules)).then_some("needs `nft` (nftables) and a kernel with its reject target")
}

fn vrf() -> Option<&'static str> {
    let mut ip = Command::new("ip");
    ip.args(["link", "add", "dev", "red", "type", "vrf", "table", "10"]);
    (!succeeds(ip, "")).then_some("needs a kernel with VRF devices (CONFIG_NET_VRF)")
}

fn uring_server() -> Option<&'static str> {
    use io_uring::opcode::{Bind, Listen};
    let mut probe = io_uring::Probe::new();
    let is_known = io_uring::IoUring::new(1).and_then(|ring| ring.submitter().register_probe(&mut probe));
    let is_there =
        is_known.is_ok() && [Bind::CODE, Listen::CODE].iter().all(|code| probe.is_supported(*code));
    (!is_there).then_some("needs bind() and listen() by io_uring (kernel 6.11 and later)")
}

fn nat() -> Option<&'static str> {
    let mut nft = Command::new("nft");
    nft.args(["-f", "-"]);
    let rules = "table inet probe {
        chain output {
            type nat hook output priority -100
            tcp dport 1 redirect to :2
        }
    }";
    (!succeeds(nft, rules)).then_some("needs `nft` (nftables) and a kernel with its translation of addresses")
}

/// The control group hierarchies that root may make groups in: version 2 at the root or, beside version 1, in
/// `unified`; of version 1 those that take processes as they are.
pub fn hierarchies() -> Vec<PathBuf> {
    let mount = Path::new("/sys/fs/cgroup");
    let probe = format!("tracer-live-{}-probe", std::process::id());
    let is_writable = |path: &PathBuf| {
        let probe = path.join(&probe);
        path.join("cgroup.procs").exists()
            && std::fs::create_dir(&probe).is_ok()
            && std::fs::remove_dir(&probe).is_ok()
    };
    [".", "unified", "systemd", "pids"].map(|name| mount.join(name)).into_iter().filter(is_writable).collect()
}

/// Whether a command succeeds in a network namespace of its own.
fn succeeds(mut command: Command, input: &str) -> bool {
    use std::io::Write;
    // SAFETY: unshare(2) is all that runs between fork and exec.
    unsafe {
        command.pre_exec(|| {
            if libc::unshare(libc::CLONE_NEWNET) == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) }
        });
    }
    let child = command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    let Ok(mut child) = child else { return false };
    // A command that takes no input has closed it already.
    let _ = child.stdin.take().expect("a piped stdin").write_all(input.as_bytes());
    child.wait().is_ok_and(|status| status.success())
}
