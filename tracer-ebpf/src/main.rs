//! The kernel side of tracer: eBPF programs that see a port's listeners and refused connects.
//!
//! Built for the `bpf` architecture by `cargo xtask build-ebpf`. On the host this binary is an empty
//! shell, so that `cargo check`, `clippy` and `test` need no BPF toolchain.

#![cfg_attr(target_arch = "bpf", no_std, no_main)]

#[cfg(target_arch = "bpf")]
mod config;
#[cfg(target_arch = "bpf")]
mod emit;
#[cfg(target_arch = "bpf")]
mod hooks;
#[cfg(target_arch = "bpf")]
mod sock;
#[cfg(target_arch = "bpf")]
mod task;

/// The kernel lends the helpers these programs call (`bpf_probe_read_kernel`) to GPL-compatible
/// programs only.
#[cfg(target_arch = "bpf")]
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

#[cfg(target_arch = "bpf")]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    // Nothing in here can panic; the linker would leave a jump out of the program, and the verifier
    // would refuse it.
    loop {}
}

#[cfg(not(target_arch = "bpf"))]
fn main() {}
