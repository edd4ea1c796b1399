//! The maps, and the one way a record leaves the kernel: reserve, fill, submit.

use aya_ebpf::{
    bindings::{BPF_ANY, BPF_NOEXIST, BPF_RB_NO_WAKEUP},
    helpers,
    macros::map,
    maps::{Array, HashMap, LruHashMap, PerCpuArray, RingBuf, ring_buf::RingBufEntry},
};
use tracer_ebpf::{
    ATTEMPT_BYTES, ATTEMPTS_MAX, BINDING_MAX, BOUND_MAX, FALLBACK_NS, FOLLOWED_MAX, Header, REFUSED_MAX,
    RESETS_MAX, RING_BYTES, SEEN_MAX, Task, kind, lost,
};

use crate::config;

/// The stream of records to the user side.
#[map]
static EVENTS: RingBuf = RingBuf::with_byte_size(RING_BYTES, 0);

/// Whether the user side looks into the ring by itself, so that no record has to wake it: 1, it does.
#[map]
static POLLED: Array<u32> = Array::with_max_entries(1, 0);

/// What could not be recorded, by [`lost`] index: in one entry, so that one call reads them all.
#[map]
static LOST: PerCpuArray<[u64; lost::COUNTERS]> = PerCpuArray::with_max_entries(1, 0);

/// Connects to watched ports that are in SYN_SENT, by the address of their `struct sock`.
#[map]
static ATTEMPTS: HashMap<u64, Attempt> = HashMap::with_max_entries(ATTEMPTS_MAX, 0);

/// When the last of the [`ATTEMPTS`] began, in jiffies, which cost next to nothing to read.
#[map]
static LAST_BEGAN: Array<u64> = Array::with_max_entries(1, 0);

/// How long after a connect began resets are remembered. A jiffy is a millisecond to ten.
const RESET_JIFFIES: u64 = 10_000;

/// What that is at least. It covers the answer to the fourth SYN, where the first ones found no neighbour.
const RESET_NS: u64 = 10_000_000_000;

/// When this host's TCP stack sent a reset for want of a socket: the
/// number and the time, in the place that the SYN's sequence number has.
#[map]
static RESETS: Array<u64> = Array::with_max_entries(RESETS_MAX, 0);

/// Sockets bound to a watched port, by the address of their `struct sock`.
#[map]
static BOUND: HashMap<u64, u32> = HashMap::with_max_entries(BOUND_MAX, 0);

/// Processes whose end is told, by id; the user side adds to it too.
#[map]
static FOLLOWED: HashMap<u32, u32> = HashMap::with_max_entries(FOLLOWED_MAX, 0);

/// When a process was refused last, by process id.
#[map]
static REFUSED: LruHashMap<u32, u64> = LruHashMap::with_max_entries(REFUSED_MAX, 0);

/// What a thread inside of `bind()` asked for, where the system call is followed.
#[map]
static BINDING: LruHashMap<u64, Binding> = LruHashMap::with_max_entries(BINDING_MAX, 0);

/// What a thread has done that one of two programs has seen, and the other has yet to.
#[map]
static SEEN: LruHashMap<u64, Sight> = LruHashMap::with_max_entries(SEEN_MAX, 0);

/// What a program saw, and which.
#[repr(C)]
#[derive(Clone, Copy)]
struct Sight {
    /// Address of the `struct sock`.
    sock: u64,
    /// One of [`sight`].
    what: u32,
    copy: u32,
}

/// What threads do that two programs see.
pub mod sight {
    pub const BIND: u32 = 1;
    pub const LISTEN: u32 = 2;
    pub const CLOSE: u32 = 3;
    /// A connect for which there is no room: of the others, [`super::Attempt::copy`] tells.
    pub const OVER: u32 = 4;
}

/// The arguments of a `bind()` under way.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Binding {
    /// Address of the `struct sock`.
    pub sock: u64,
    pub request: Request,
}

/// What a `bind()` asks for.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Request {
    /// In network order; of `AF_INET` the first four bytes.
    pub addr: [u64; 2],
    pub family: u16,
    /// In host order.
    pub port: u16,
    pub reserved: u32,
}

/// A connect under way, with the identity that only its beginning can tell: a refusal arrives in
/// whatever context the CPU happens to be in.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Attempt {
    /// `CLOCK_MONOTONIC` nanoseconds at CLOSE -> SYN_SENT.
    pub started: u64,
    pub task: Task,
    /// The error that an ICMP message gave it; 0: none did.
    pub icmp: u32,
    /// 1 once it has received a reset.
    pub reset: u32,
    /// 1 once its refusal has been recorded.
    pub recorded: u32,
    /// Which copy of the program has seen it begin, where there are two.
    pub copy: u32,
}

const _: () = assert!(size_of::<Attempt>() == ATTEMPT_BYTES);

/// What is known of a reset in answer to a SYN.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Reset {
    Sent,
    NotSent,
    /// Another one has taken its place meanwhile, or none was awaited any more.
    Unknown,
}

/// A time that takes half a word, in units of 65.5 microseconds: enough for those that are compared, which lie
/// less than a day apart.
#[inline(always)]
fn short(time: u64) -> u32 {
    (time >> 16) as u32
}

#[inline(always)]
pub fn now() -> u64 {
    // SAFETY: the helper has no preconditions.
    unsafe { helpers::bpf_ktime_get_ns() }
}

/// Counts one thing that was lost.
#[inline(always)]
pub fn count(counter: usize) {
    if let Some(values) = LOST.get_ptr_mut(0) {
        // SAFETY: this CPU's own slot, and an index below their number. A nested program can make one increment vanish;
        // one that is preempted, those of all who ran meanwhile (the target has no atomic addition).
        unsafe { *values.cast::<u64>().add(counter) += 1 };
    }
}

/// Counts one thing that was lost and leaves no record, and has the user side look at the counters. Where the ring has no
/// room for that, it will look anyway.
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

/// Room for a record with its header filled in, and the time that stands in there; counts the loss when there is none. The
/// time is taken once there is room: who has read all of the ring knows what happened until then.
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
    // The kernel's own rule wakes whoever has read all that came before (`bpf_ringbuf_commit`, kernel/bpf/ringbuf.c): who
    // has not, is at it, and to wake that one again costs the process that is refused six microseconds.
    entry.submit(u64::from(if polled { BPF_RB_NO_WAKEUP } else { 0 }));
}

/// Remembers a connect; false when the table is full.
#[inline(always)]
pub fn begin_attempt(sock: u64, attempt: &Attempt) -> bool {
    if let Some(slot) = LAST_BEGAN.get_ptr_mut(0) {
        // SAFETY: map values stay valid while a program runs.
        unsafe { slot.write_volatile(jiffies()) };
    }
    if ATTEMPTS.insert(sock, attempt, u64::from(BPF_NOEXIST)).is_ok() {
        return true;
    }
    if ATTEMPTS.get_ptr(sock).is_none() {
        return false;
    }
    // The socket's last one, or the last one of another socket that was in its place, has ended unseen.
    count(lost::ENDS);
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
fn jiffies() -> u64 {
    // SAFETY: the helper has no preconditions.
    unsafe { helpers::generated::bpf_jiffies64() }
}

/// Whether a connect to a watched port began a moment ago: else a reset is nobody's concern.
#[inline(always)]
pub fn awaits_reset() -> bool {
    match LAST_BEGAN.get(0) {
        // Another CPU's may be a jiffy ahead.
        Some(began) => jiffies().saturating_sub(config::read(began)) <= RESET_JIFFIES,
        None => false,
    }
}

#[inline(always)]
pub fn remember_reset(sequence: u32) {
    if let Some(slot) = RESETS.get_ptr_mut(sequence & (RESETS_MAX - 1)) {
        // SAFETY: map values stay valid while a program runs; one store, so that no reader sees half of it.
        unsafe { slot.write_volatile(u64::from(sequence) << 32 | u64::from(short(now()))) };
    }
}

/// What is known of a reset for want of a socket, in answer to a SYN with this sequence number, at `since` or later,
/// until now.
#[inline(always)]
pub fn reset_sent(sequence: u32, since: u64, now: u64) -> Reset {
    if now - since >= RESET_NS {
        return Reset::Unknown;
    }
    let Some(slot) = RESETS.get_ptr(sequence & (RESETS_MAX - 1)) else {
        return Reset::Unknown;
    };
    // SAFETY: map values stay valid while a program runs.
    let found = unsafe { slot.read_volatile() };
    let age = (found as u32).wrapping_sub(short(since));
    if age > u32::MAX / 2 {
        Reset::NotSent
    } else if found >> 32 == u64::from(sequence) {
        Reset::Sent
    } else {
        Reset::Unknown
    }
}

/// Follows a bound socket; false when there are too many.
#[inline(always)]
pub fn follow_socket(sock: u64) -> bool {
    BOUND.insert(sock, 1, u64::from(BPF_ANY)).is_ok()
}

/// Whether a socket that is gone was followed.
#[inline(always)]
pub fn unfollow_socket(sock: u64) -> bool {
    BOUND.remove(sock).is_ok()
}

/// Asks for the end of a process to be told. A full table costs that, and nothing else; it is counted.
#[inline(always)]
pub fn follow_process(pid: u32) {
    if FOLLOWED.insert(pid, 1, u64::from(BPF_ANY)).is_err() {
        count(lost::FOLLOWED);
    }
}

/// Whether a process that has ended was followed.
#[inline(always)]
pub fn unfollow_process(pid: u32) -> bool {
    FOLLOWED.remove(pid).is_ok()
}

/// Whether the end of a process is asked for.
#[inline(always)]
pub fn is_followed(pid: u32) -> bool {
    FOLLOWED.get_ptr(pid).is_some()
}

/// Remembers that a process was refused now.
#[inline(always)]
pub fn remember_refusal(pid: u32, time: u64) {
    match REFUSED.get_ptr_mut(pid) {
        // In place: an insertion takes a lock and a new entry.
        // SAFETY: map values stay valid while a program runs.
        Some(slot) => unsafe { slot.write_volatile(time) },
        // An LRU map always finds room.
        None => {
            let _ = REFUSED.insert(pid, time, u64::from(BPF_ANY));
        }
    }
}

/// Whether a process was refused a moment ago.
#[inline(always)]
pub fn was_refused(pid: u32) -> bool {
    match REFUSED.get_ptr(pid) {
        // SAFETY: map values stay valid while a program runs.
        Some(time) => now() - unsafe { *time } < FALLBACK_NS,
        None => false,
    }
}

/// Whether this copy of a program is the first to see what the current thread does to a socket. It leaves a mark for the
/// other, which takes it. Where the other was skipped the mark stays, and is none of what the thread does next.
#[inline(always)]
pub fn is_first(sock: u64, what: u32, copy: u32) -> bool {
    let key = helpers::bpf_get_current_pid_tgid();
    if let Some(mark) = SEEN.get_ptr(key) {
        // SAFETY: map values stay valid while a program runs.
        let mark = unsafe { *mark };
        if mark.copy != copy && mark.sock == sock && mark.what == what {
            let _ = SEEN.remove(key);
            return false;
        }
    }
    // An LRU map always finds room.
    let _ = SEEN.insert(key, Sight { sock, what, copy }, u64::from(BPF_ANY));
    true
}

/// The same of a connect that begins: its attempt is the mark, which goes with it.
#[inline(always)]
pub fn has_begun(sock: u64, copy: u32) -> bool {
    let Some(attempt) = attempt(sock) else { return false };
    let thread = helpers::bpf_get_current_pid_tgid() as u32;
    // SAFETY: map values stay valid while a program runs.
    unsafe {
        let seen = (*attempt).copy;
        let is_same = (*attempt).task.tid == thread && seen != copy && seen != BOTH;
        if is_same {
            (&raw mut (*attempt).copy).write(BOTH);
        }
        is_same
    }
}

/// Both copies of a program have seen a connect begin.
const BOTH: u32 = u32::MAX;

/// Remembers what a thread asks `bind()` for.
#[inline(always)]
pub fn begin_binding(thread: u64, binding: &Binding) {
    // An LRU map always finds room.
    let _ = BINDING.insert(thread, binding, u64::from(BPF_ANY));
}

/// What a thread that leaves `bind()` asked for.
#[inline(always)]
pub fn end_binding(thread: u64) -> Option<Binding> {
    let binding = BINDING.get_ptr(thread)?;
    // SAFETY: map values stay valid while a program runs.
    let binding = unsafe { *binding };
    let _ = BINDING.remove(thread);
    Some(binding)
}
