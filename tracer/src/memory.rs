//! What a burst has taken goes back to the system: the allocator alone would keep it.

/// Blocks of this size and more are the system's again as soon as they are free. Larger than what every batch of
/// records takes anew.
#[cfg(target_env = "gnu")]
const OWN_PAGES: libc::c_int = 1 << 20;

/// Has the allocator keep no large block, and share one heap among threads. To be called before there are any.
pub fn keep_small() {
    #[cfg(target_env = "gnu")]
    // SAFETY: only sets the allocator's parameters.
    unsafe {
        // Unless it is set, it grows with the blocks that are freed, to 32 MiB.
        libc::mallopt(libc::M_MMAP_THRESHOLD, OWN_PAGES);
        libc::mallopt(libc::M_ARENA_MAX, 1);
    }
}

/// Gives free pages back to the system.
pub fn release() {
    #[cfg(target_env = "gnu")]
    // SAFETY: only returns free pages to the system.
    unsafe {
        libc::malloc_trim(0);
    }
}
