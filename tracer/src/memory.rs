//! What a burst, or the start, has taken goes back to the system: the allocator alone would keep it.

use rustix::mm::{Advice, madvise};

/// Blocks of this size and more are the system's again as soon as they are free. Larger than what every batch of
/// records allocates.
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

/// Gives back the pages of the program's own code: most of it is for the start, the verifier's and the kernel's types. What
/// goes on to run comes back from the file, in a few faults.
pub fn release_code() {
    let (Ok(maps), Ok(program)) = (std::fs::read_to_string("/proc/self/maps"), std::env::current_exe())
    else {
        return;
    };
    let program = program.to_string_lossy();
    for line in maps.lines().filter(|line| line.ends_with(&*program)) {
        let mut fields = line.split_ascii_whitespace();
        let (Some(range), Some("r-xp")) = (fields.next(), fields.next()) else { continue };
        let number = |text: &str| usize::from_str_radix(text, 16).ok();
        let Some((Some(begin), Some(end))) =
            range.split_once('-').map(|(begin, end)| (number(begin), number(end)))
        else {
            continue;
        };
        // SAFETY: a private mapping of the program's file that is executed and never written: what is dropped is the
        // same when it is read from the file again.
        let _ = unsafe { madvise(begin as *mut std::ffi::c_void, end - begin, Advice::LinuxDontNeed) };
    }
}
