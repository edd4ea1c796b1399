//! Reads of kernel memory: a direct load through a trusted (BTF) pointer, `bpf_probe_read_kernel` through any other.

use aya_ebpf::helpers;
use core::ffi::c_void;

/// Reads kernel memory that may be freed or unmapped: zero then.
#[inline(always)]
pub fn probe_read<T: Copy>(address: *const c_void, zero: T) -> T {
    // SAFETY: the helper checks the address and fails instead of faulting.
    unsafe { helpers::bpf_probe_read_kernel(address.cast::<T>()) }.unwrap_or(zero)
}

/// Reads a member at an offset of the kernel's BTF for its type. Of a structure that the verifier trusts (`TRUSTED`), which
/// is a program's argument or was loaded through one, by a direct load, at a tenth of the cost.
#[inline(always)]
pub fn member<T: Copy, const TRUSTED: bool>(structure: *const c_void, offset: usize, zero: T) -> T {
    let address = structure.wrapping_byte_add(offset).cast::<T>();
    // SAFETY: by the offset; the verifier checks the load against BTF, and a fault gives zero. Volatile, so
    // that LLVM neither merges nor widens it.
    if TRUSTED { unsafe { address.read_volatile() } } else { probe_read(address.cast(), zero) }
}
