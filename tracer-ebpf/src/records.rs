//! How a record leaves the kernel: reserve, fill, submit; and the count of what was lost.

use aya_ebpf::{
    bindings::BPF_RB_NO_WAKEUP,
    helpers,
    macros::map,
    maps::{Array, PerCpuArray, RingBuf, ring_buf::RingBufEntry},
};
use tracer_ebpf::{Header, RING_BYTES, kind, lost};

use crate::config;

/// The stream of records to the user side.
#[map]
static EVENTS: RingBuf = RingBuf::with_byte_size(RING_BYTES, 0);

/// 1 while the user side polls the ring, so that no record has to wake it.
#[map]
static POLLED: Array<u32> = Array::with_max_entries(1, 0);

/// What could not be recorded, by [`lost`] index: in one entry, so that one call reads them all.
#[map]
static LOST: PerCpuArray<[u64; lost::COUNTERS]> = PerCpuArray::with_max_entries(1, 0);

#[inline(always)]
pub fn now() -> u64 {
    // SAFETY: the helper has no preconditions.
    unsafe { helpers::bpf_ktime_get_ns() }
}

/// Counts one thing that was lost.
#[inline(always)]
pub fn count(counter: usize) {
    if let Some(values) = LOST.get_ptr_mut(0) {
        // SAFETY: this CPU's own slot, and an index below their number. A nested program can lose one increment;
        // a preempted one, those of all programs that ran meanwhile (the target has no atomic addition).
        unsafe { *values.cast::<u64>().add(counter) += 1 };
    }
}

/// Counts one thing that was lost and leaves no record, and makes the user side read the counters. Where the ring has no
/// room for that, the user side reads them anyway.
#[inline(always)]
pub fn count_alone(counter: usize) {
    count(counter);
    if let Some(mut entry) = EVENTS.reserve::<Header>(0) {
        let header = Header { kind: kind::LOST, size: size_of::<Header>() as u32, time: now() };
        // SAFETY: reserved, and of this size.
        unsafe { entry.as_mut_ptr().write(header) };
        submit(entry);
    }
}

/// Room for a record with its header filled in, and the time that the header holds; counts the loss where there is no room.
/// The time is taken after the room: a reader that has read the whole ring knows what happened until then.
#[inline(always)]
pub fn reserve<T: 'static>(kind: u32) -> Option<(RingBufEntry<T>, u64)> {
    let Some(mut entry) = EVENTS.reserve::<T>(0) else {
        count(lost::RING);
        return None;
    };
    let time = now();
    // SAFETY: every record begins with a header (`tracer_ebpf`, `repr(C)`).
    unsafe {
        entry.as_mut_ptr().cast::<Header>().write(Header { kind, size: size_of::<T>() as u32, time });
    }
    Some((entry, time))
}

/// Hands a record over.
#[inline(always)]
pub fn submit<T: 'static>(entry: RingBufEntry<T>) {
    let polled = match POLLED.get(0) {
        Some(polled) => config::read(polled) == 1,
        None => false,
    };
    // By default the kernel wakes a reader that has read all earlier records (`bpf_ringbuf_commit`,
    // kernel/bpf/ringbuf.c). A reader that polls is awake, and a wake-up costs the refused process six microseconds.
    entry.submit(u64::from(if polled { BPF_RB_NO_WAKEUP } else { 0 }));
}
