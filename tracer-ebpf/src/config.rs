//! The constants that the user side sets before the programs are loaded.

use tracer_ebpf::{Config, PORTS_MAX};

use crate::maps;

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

/// `SOCK_RCU_FREE` in `skc_flags`; 0: unknown on this kernel.
#[inline(always)]
pub fn rcu_free_mask() -> u32 {
    read(&CONFIG.rcu_free_mask)
}

/// Whether this kernel allows `bpf_get_socket_cookie` to tracing programs.
#[inline(always)]
pub fn cookie_helper() -> bool {
    read(&CONFIG.cookie_helper) == 1
}

/// Whether this kernel has `bpf_get_current_task_btf` (5.11): a kernel that allows the cookie helper (5.12) does.
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

/// Whether redundant probes are attached: see [`crate::dedup`].
#[inline(always)]
pub fn redundant_probes() -> bool {
    read(&CONFIG.redundant_probes) == 1
}

/// Whether the start of every program is recorded.
#[inline(always)]
pub fn records_every_start() -> bool {
    read(&CONFIG.exec_all) == 1
}

/// Whether the port is watched: from the start, or since the user side added it.
#[inline(always)]
pub fn is_watched(port: u16) -> bool {
    is_configured(port) || maps::is_added(port)
}

/// Whether the port is watched from the start. The ports are constants for the verifier, which removes the comparisons
/// behind the first unused one from the loaded program.
#[inline(always)]
pub fn is_configured(port: u16) -> bool {
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
