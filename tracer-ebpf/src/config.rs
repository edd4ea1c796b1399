//! What the user side decided before the programs were loaded.

use tracer_ebpf::{Config, NAMES_MAX, PORTS_MAX};

/// Set by the loader, then frozen: see [`Config`].
#[unsafe(no_mangle)]
pub static CONFIG: Config = Config::UNSET;

/// Reads a value as it is when the program runs: a member of [`CONFIG`] is not what it is in the object.
#[inline(always)]
pub fn read<T: Copy>(member: &T) -> T {
    // SAFETY: a reference is valid for reads.
    unsafe { core::ptr::from_ref(member).read_volatile() }
}

/// The byte offset that one member of [`tracer_ebpf::Offsets`] has in the running kernel.
macro_rules! offset {
    ($field:ident) => {
        $crate::config::read(&$crate::config::CONFIG.offsets.$field) as usize
    };
}
pub(crate) use offset;

/// The bit of `skc_ipv6only` in its byte.
#[inline(always)]
pub fn v6only_mask() -> u8 {
    read(&CONFIG.v6only_mask) as u8
}

/// Whether this kernel lends `bpf_get_socket_cookie` to tracing programs.
#[inline(always)]
pub fn cookie_helper() -> bool {
    read(&CONFIG.cookie_helper) == 1
}

/// Whether this kernel has `bpf_get_current_task_btf` (5.11): it is older than the other helper's being lent.
#[inline(always)]
pub fn task_helper() -> bool {
    cookie_helper()
}

/// Whether `tcp_send_reset` is attached.
#[inline(always)]
pub fn send_hook() -> bool {
    read(&CONFIG.send_hook) == 1
}

/// Whether `tcp_receive_reset` is attached.
#[inline(always)]
pub fn receive_hook() -> bool {
    read(&CONFIG.receive_hook) == 1
}

/// Whether two programs see each `bind()` and state change, so that one does where the other is skipped.
#[inline(always)]
pub fn is_twice() -> bool {
    read(&CONFIG.twice) == 1
}

/// Whether a program of this name may be a server whose start is to be told. A name counts by its first
/// eight bytes.
#[inline(always)]
pub fn is_server(name: [u8; 16]) -> bool {
    if read(&CONFIG.exec_all) == 1 {
        return true;
    }
    let [a, b, c, d, e, f, g, h, ..] = name;
    let start = u64::from_le_bytes([a, b, c, d, e, f, g, h]);
    let mut index = 0;
    while index < NAMES_MAX {
        let wanted = read(&CONFIG.exec_names[index]);
        if wanted == 0 {
            return false;
        }
        if wanted == start {
            return true;
        }
        index += 1;
    }
    false
}

/// Whether the port is watched. The ports are constants for the verifier, which cuts the comparisons
/// behind the first unused one out of the loaded program.
#[inline(always)]
pub fn is_watched(port: u16) -> bool {
    let mut index = 0;
    while index < PORTS_MAX {
        let watched = read(&CONFIG.ports[index]);
        if watched == 0 {
            return false;
        }
        if watched == port {
            return true;
        }
        index += 1;
    }
    false
}
