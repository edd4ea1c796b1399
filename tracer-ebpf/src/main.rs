//! The kernel side of tracer: eBPF programs that record listeners and refused connects on watched ports.
//!
//! Built for the `bpf` architecture by `cargo xtask build-ebpf`. On the host this binary is an empty
//! shell, so that `cargo check`, `clippy` and `test` need no BPF toolchain.

#![cfg_attr(target_arch = "bpf", no_std, no_main, feature(asm_experimental_arch))]

#[cfg(target_arch = "bpf")]
mod config;
#[cfg(target_arch = "bpf")]
mod dedup;
#[cfg(target_arch = "bpf")]
mod maps;
#[cfg(target_arch = "bpf")]
mod memory;
#[cfg(target_arch = "bpf")]
mod probes;
#[cfg(target_arch = "bpf")]
mod records;
#[cfg(target_arch = "bpf")]
mod refusal;
#[cfg(target_arch = "bpf")]
mod sock;
#[cfg(target_arch = "bpf")]
mod task;
#[cfg(target_arch = "bpf")]
mod upstream;

/// The kernel allows the helpers that these programs call (`bpf_probe_read_kernel`) to GPL-compatible
/// programs only.
#[cfg(target_arch = "bpf")]
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

#[cfg(target_arch = "bpf")]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    // No program can panic: the linker would leave a jump out of the program, and the verifier
    // would refuse it.
    loop {}
}

#[cfg(not(target_arch = "bpf"))]
fn main() {}
