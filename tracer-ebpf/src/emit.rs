//! The maps, and the one way a record leaves the kernel: reserve, fill, submit.

use aya_ebpf::{
    bindings::BPF_ANY,
    helpers,
    macros::map,
    maps::{HashMap, LruHashMap, PerCpuArray, RingBuf, ring_buf::RingBufEntry},
};
use tracer_ebpf::{ATTEMPTS_MAX, Header, RESETS_MAX, RING_BYTES, Task, lost};

/// The stream of records to the user side.
#[map]
static EVENTS: RingBuf = RingBuf::with_byte_size(RING_BYTES, 0);

/// What could not be recorded, by [`lost`] index.
#[map]
static LOST: PerCpuArray<u64> = PerCpuArray::with_max_entries(lost::COUNTERS, 0);

/// Connects to watched ports that are in SYN_SENT, by the address of their `struct sock`.
#[map]
static ATTEMPTS: HashMap<u64, Attempt> = HashMap::with_max_entries(ATTEMPTS_MAX, 0);

/// When this host's TCP stack sent a reset for want of a socket, by the segment it answered.
#[map]
static RESETS: LruHashMap<ResetKey, u64> = LruHashMap::with_max_entries(RESETS_MAX, 0);

/// A connect under way, with the identity that only its beginning can tell: a refusal arrives in
/// whatever context the CPU happens to be in.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Attempt {
    /// `CLOCK_MONOTONIC` nanoseconds at CLOSE -> SYN_SENT.
    pub started: u64,
    pub task: Task,
    /// 1 once an ICMP message has refused it.
    pub icmp: u32,
    /// 1 once it has received a reset.
    pub reset: u32,
    /// 1 once its refusal has been recorded.
    pub recorded: u32,
    /// Always 0.
    pub reserved: u32,
}

/// The sender of a segment that found no socket.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct ResetKey {
    /// Source address; of an IPv4 segment the first four bytes.
    pub addr: [u64; 2],
    /// Source port, in host order.
    pub port: u32,
    /// `AF_INET` or `AF_INET6`.
    pub family: u32,
}

#[inline(always)]
pub fn now() -> u64 {
    // SAFETY: the helper has no preconditions.
    unsafe { helpers::bpf_ktime_get_ns() }
}

/// Counts one thing that was lost.
#[inline(always)]
pub fn count(counter: u32) {
    if let Some(value) = LOST.get_ptr_mut(counter) {
        // SAFETY: this CPU's own slot. A nested program can make one increment vanish: the counter is
        // a lower bound by at most the nesting depth.
        unsafe { *value += 1 };
    }
}

/// Room for a record with its header filled in; counts the loss when there is none.
#[inline(always)]
pub fn reserve<T: 'static>(kind: u32, time: u64) -> Option<RingBufEntry<T>> {
    let Some(mut entry) = EVENTS.reserve::<T>(0) else {
        count(lost::RING);
        return None;
    };
    // SAFETY: every record begins with a header (`tracer_ebpf`, `repr(C)`).
    unsafe {
        entry.as_mut_ptr().cast::<Header>().write(Header { kind, size: size_of::<T>() as u32, time });
    }
    Some(entry)
}

/// Remembers a connect; false when the table is full.
#[inline(always)]
pub fn begin_attempt(sock: u64, attempt: &Attempt) -> bool {
    ATTEMPTS.insert(sock, attempt, u64::from(BPF_ANY)).is_ok()
}

#[inline(always)]
pub fn attempt(sock: u64) -> Option<*mut Attempt> {
    ATTEMPTS.get_ptr_mut(sock)
}

/// Forgets a connect; true for the one caller that removed it.
#[inline(always)]
pub fn end_attempt(sock: u64) -> bool {
    ATTEMPTS.remove(sock).is_ok()
}

#[inline(always)]
pub fn remember_reset(key: &ResetKey) {
    // An LRU map always finds room.
    let _ = RESETS.insert(key, now(), u64::from(BPF_ANY));
}

/// Whether a reset for want of a socket was sent to `key` at `since` or later.
#[inline(always)]
pub fn reset_was_sent(key: &ResetKey, since: u64) -> bool {
    match RESETS.get_ptr(key) {
        // SAFETY: map values stay valid while a program runs.
        Some(time) => unsafe { *time >= since },
        None => false,
    }
}
