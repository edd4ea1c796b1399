//! What the programs remember from one run to the next: the maps, each with its operations.

use aya_ebpf::{
    bindings::{BPF_ANY, BPF_NOEXIST},
    helpers,
    macros::map,
    maps::{Array, HashMap, LruHashMap, PerCpuArray},
};
use tracer_ebpf::{
    ATTEMPT_BYTES, ATTEMPTS_MAX, BINDING_MAX, BOUND_MAX, ELSEWHERE_MAX, FALLBACK_NS, FOLLOWED_MAX,
    HOLDERS_MAX, NAME_BYTES, NAMES_MAX, OPENINGS_MAX, Opening, Openings, PORT_WORDS, REACHED_MAX, REACHED_NS,
    REACHED_PER_SECOND, REFUSED_MAX, RESETS_MAX, SEEN_MAX, Task, gate, lost,
};

use crate::{
    config,
    records::{count, now},
};

/// Connects in SYN_SENT, to watched ports and of processes that hold a listener on one, by the address of their
/// `struct sock`.
#[map]
static ATTEMPTS: HashMap<u64, Attempt> = HashMap::with_max_entries(ATTEMPTS_MAX, 0);

/// When the last of the [`ATTEMPTS`] began, in jiffies, which cost next to nothing to read.
#[map]
static LAST_BEGAN: Array<u64> = Array::with_max_entries(1, 0);

/// Nanoseconds in one tick of `/proc/PID/stat`: what the user side knows of a process's start.
pub const TICK_NS: u64 = 10_000_000;

/// How long after a connect began resets are remembered. A jiffy is a millisecond to ten.
const RESET_JIFFIES: u64 = 10_000;

/// What that is at least. It covers the answer to the fourth SYN, where the first ones found no neighbour.
const RESET_NS: u64 = 10_000_000_000;

/// The resets that this host's TCP stack sent for want of a socket, each in the place that the SYN's sequence number has.
#[map]
static RESETS: Array<SentReset> = Array::with_max_entries(RESETS_MAX, 0);

/// Sockets bound to a watched port, by the address of their `struct sock`.
#[map]
static BOUND: HashMap<u64, u32> = HashMap::with_max_entries(BOUND_MAX, 0);

/// Processes whose end is recorded, by id; the user side adds to it too.
#[map]
static FOLLOWED: HashMap<u32, u32> = HashMap::with_max_entries(FOLLOWED_MAX, 0);

/// Names of programs whose start is recorded, each filled up with NULs. The user side fills it.
#[map]
static NAMES: HashMap<[u8; NAME_BYTES], u32> = HashMap::with_max_entries(NAMES_MAX, 0);

/// Processes that hold a listener on a watched port, by id: when each started, as `/proc` shows it, or 0 where that is not
/// known. The user side adds to it too.
#[map]
static HOLDERS: HashMap<u32, u64> = HashMap::with_max_entries(HOLDERS_MAX, 0);

/// The [`gate`]s.
#[map]
static GATES: Array<u64> = Array::with_max_entries(gate::COUNT, 0);

/// The ports that the user side has added to the watched ones.
#[map]
static ADDED_PORTS: Array<u64> = Array::with_max_entries(PORT_WORDS, 0);

/// When it was recorded last that a process with a watched listener has reached a destination on another port.
#[map]
static REACHED: LruHashMap<Reached, u64> = LruHashMap::with_max_entries(REACHED_MAX, 0);

/// When the second began in which such records are counted, and how many there were in it.
#[map]
static REACHED_LATELY: Array<[u64; 2]> = Array::with_max_entries(1, 0);

/// The sockets that began to listen last. A server that is asked for on one port may have opened another one before, as for
/// metrics: no dump of the kernel's sockets shows since when it listens there.
#[map]
static OPENINGS: PerCpuArray<Openings> = PerCpuArray::with_max_entries(1, 0);

/// Listeners of followed processes on ports that are not watched, by the address of their `struct sock`: a process that ends
/// is not followed any more when the kernel closes its sockets.
#[map]
static ELSEWHERE: LruHashMap<u64, u32> = LruHashMap::with_max_entries(ELSEWHERE_MAX, 0);

/// When a process was refused last, by process id.
#[map]
static REFUSED: LruHashMap<u32, u64> = LruHashMap::with_max_entries(REFUSED_MAX, 0);

/// What a thread inside of `bind()` asked for, where the system call is followed.
#[map]
static BINDING: LruHashMap<u64, Binding> = LruHashMap::with_max_entries(BINDING_MAX, 0);

/// What a thread has done that one of two redundant programs has seen, and the other one has not.
#[map]
static SEEN: LruHashMap<u64, Seen> = LruHashMap::with_max_entries(SEEN_MAX, 0);

/// A reset that was sent for want of a socket.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct SentReset {
    /// The SYN's sequence number, and when the reset was sent.
    pub number_and_time: u64,
    /// Where the SYN was going to by then, as [`Destination::tag`] has it.
    pub tag: u64,
}

/// What one of two redundant programs saw.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Seen {
    /// Address of the `struct sock`.
    pub sock: u64,
    /// A [`crate::dedup::Event`].
    pub event: u32,
    /// A [`crate::dedup::Probe`].
    pub probe: u32,
}

/// A destination on a port that is not watched.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Reached {
    /// In network order; of `AF_INET` the first four bytes.
    pub addr: [u64; 2],
    pub netns: u32,
    pub port: u32,
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

/// A connect under way, with the identity of its process, which is known only at its beginning: a refusal arrives in
/// the context of any process that the CPU happens to run.
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
    /// Which one of two redundant programs has seen it begin: a [`crate::dedup::Probe`].
    pub probe: u32,
    /// One of [`tracer_ebpf::role`].
    pub role: u32,
    /// 1 when it is among [`gate::OTHER_ATTEMPTS`].
    pub counted: u32,
}

const _: () = assert!(size_of::<Attempt>() == ATTEMPT_BYTES);

/// Where a segment goes to.
#[derive(Clone, Copy)]
pub struct Destination {
    /// In network order; an IPv4 address as an IPv4-mapped one.
    pub addr: [u64; 2],
    /// In host order.
    pub port: u16,
}

impl Destination {
    /// An IPv4-mapped address: little-endian, its last six bytes are 0xffff and the address.
    #[inline(always)]
    pub fn mapped(addr: u32) -> [u64; 2] {
        [0, u64::from(addr) << 32 | 0xffff_0000]
    }

    /// Distinguishes two destinations, but for one pair in four billion.
    #[inline(always)]
    pub fn tag(self) -> u32 {
        let mixed = self.addr[0].rotate_left(21) ^ self.addr[1];
        (mixed ^ mixed >> 32) as u32 ^ u32::from(self.port).wrapping_mul(0x9e37_79b1)
    }
}

/// What is known of a reset in answer to a SYN.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Reset {
    /// With the tag of where the SYN was going to.
    Sent(u32),
    NotSent,
    /// Another reset has taken its place in the table, or resets were not remembered any more.
    Unknown,
}

/// A time that takes half a word, in units of 65.5 microseconds: enough for those that are compared, which lie
/// less than a day apart.
#[inline(always)]
fn short(time: u64) -> u32 {
    (time >> 16) as u32
}

/// Remembers a connect; false when the table is full.
#[inline(always)]
pub fn begin_attempt(sock: u64, attempt: &Attempt) -> bool {
    if let Some(slot) = LAST_BEGAN.get_ptr_mut(0) {
        // SAFETY: map values stay valid while a program runs.
        unsafe { slot.write_volatile(jiffies()) };
    }
    // Before it can be found: its end is looked up only where one is counted.
    if attempt.counted != 0 {
        add(gate::OTHER_ATTEMPTS, 1);
    }
    let mut begun = ATTEMPTS.insert(sock, attempt, u64::from(BPF_NOEXIST)).is_ok();
    if !begun
        && let Some(last) = self::attempt(sock)
        && end_attempt(sock, last)
    {
        // No program has seen the end of this socket's last attempt, or of that of an earlier socket at the same address.
        count(lost::ENDS);
        begun = ATTEMPTS.insert(sock, attempt, u64::from(BPF_ANY)).is_ok();
    }
    if !begun && attempt.counted != 0 {
        add(gate::OTHER_ATTEMPTS, -1);
    }
    begun
}

/// Whether a socket that connects to this port can have an attempt: without a look-up.
#[inline(always)]
pub fn may_have_attempt(port: u16) -> bool {
    config::is_configured(port) || read_gate(gate::OTHER_ATTEMPTS) != 0
}

#[inline(always)]
pub fn attempt(sock: u64) -> Option<*mut Attempt> {
    ATTEMPTS.get_ptr_mut(sock)
}

/// Forgets the connect that was found as this attempt; true for the one caller that removed it.
#[inline(always)]
pub fn end_attempt(sock: u64, attempt: *const Attempt) -> bool {
    // Before it is removed: its memory is then another connect's.
    // SAFETY: map values stay valid while a program runs.
    let counted = unsafe { (&raw const (*attempt).counted).read_volatile() };
    let removed = ATTEMPTS.remove(sock).is_ok();
    if removed && counted != 0 {
        add(gate::OTHER_ATTEMPTS, -1);
    }
    removed
}

#[inline(always)]
fn read_gate(index: u32) -> u64 {
    GATES.get(index).map_or(0, config::read)
}

/// Adds to a gate, atomically: several processors do at a time.
#[inline(always)]
fn add(index: u32, step: i64) {
    if let Some(value) = GATES.get_ptr_mut(index) {
        // SAFETY: map values stay valid while a program runs. The target's `AtomicU64` has no addition: Rust offers that
        // only where the target has a compare-and-swap, too.
        unsafe { core::arch::asm!("lock *(u64 *)({0} + 0) += {1}", in(reg) value, in(reg) step) };
    }
}

/// Opens a gate permanently.
#[inline(always)]
fn open(index: u32) {
    if let Some(value) = GATES.get_ptr_mut(index) {
        // SAFETY: map values stay valid while a program runs. Written once, so that processors share the line.
        unsafe {
            if value.read_volatile() == 0 {
                value.write_volatile(1);
            }
        }
    }
}

/// Notes that a connect to a port that is watched from the start has begun.
#[inline(always)]
pub fn note_connect() {
    open(gate::CONNECTS);
}

/// Whether the user side has added a port to the watched ones.
#[inline(always)]
pub fn is_added(port: u16) -> bool {
    read_gate(gate::ADDED_PORTS) != 0
        && ADDED_PORTS
            .get(u32::from(port) / 64)
            .is_some_and(|word| config::read(word) >> (port % 64) & 1 != 0)
}

/// Whether any process was found to hold a listener on a watched port.
#[inline(always)]
pub fn has_holders() -> bool {
    read_gate(gate::HOLDERS) != 0
}

/// Has the connects of a process recorded on every port, until it ends or executes a program: it holds a listener on a
/// watched port, or descends from one that does. `start` is when it started, in nanoseconds since boot; 0: unknown. Where
/// the table is full, that of [`follow_process`] is too, which is counted.
#[inline(always)]
pub fn follow_upstream(pid: u32, start: u64) {
    // The first process opens sockets for services that it starts, and is the parent of each orphan.
    if pid > 1 {
        let _ = HOLDERS.insert(pid, start - start % TICK_NS, u64::from(BPF_ANY));
        open(gate::HOLDERS);
    }
}

/// Forgets that a process holds a listener; true for the one caller that did.
#[inline(always)]
pub fn unfollow_upstream(pid: u32) -> bool {
    has_holders() && HOLDERS.remove(pid).is_ok()
}

/// When a process that holds a listener started; `None`: it holds none.
#[inline(always)]
pub fn holder(pid: u32) -> Option<u64> {
    HOLDERS.get_ptr(pid).map(|start| {
        // SAFETY: map values stay valid while a program runs.
        unsafe { *start }
    })
}

#[inline(always)]
fn jiffies() -> u64 {
    // SAFETY: the helper has no preconditions.
    unsafe { helpers::generated::bpf_jiffies64() }
}

/// Whether a connect to a watched port began within the last seconds: else no reset matters.
#[inline(always)]
pub fn awaits_reset() -> bool {
    match LAST_BEGAN.get(0) {
        // Another CPU's may be a jiffy ahead.
        Some(began) => jiffies().saturating_sub(config::read(began)) <= RESET_JIFFIES,
        None => false,
    }
}

#[inline(always)]
pub fn remember_reset(sequence: u32, tag: u32) {
    if let Some(slot) = RESETS.get_ptr_mut(sequence & (RESETS_MAX - 1)) {
        // SAFETY: map values stay valid while a program runs. The tag first: a reader that finds the number finds its tag. And
        // the number in one store, so that no reader sees half of it.
        unsafe {
            (&raw mut (*slot).tag).write_volatile(u64::from(tag));
            (&raw mut (*slot).number_and_time)
                .write_volatile(u64::from(sequence) << 32 | u64::from(short(now())));
        }
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
    let found = unsafe { (&raw const (*slot).number_and_time).read_volatile() };
    let age = (found as u32).wrapping_sub(short(since));
    if age > u32::MAX / 2 {
        Reset::NotSent
    } else if found >> 32 == u64::from(sequence) {
        // SAFETY: as above.
        Reset::Sent(unsafe { (&raw const (*slot).tag).read_volatile() } as u32)
    } else {
        Reset::Unknown
    }
}

/// Remembers that a socket begins to listen, on whatever port.
#[inline(always)]
pub fn remember_opening(inode: u64) {
    if let Some(openings) = OPENINGS.get_ptr_mut(0) {
        // SAFETY: this CPU's own value, which stays valid while a program runs; a thread that listens is interrupted by no
        // other that does.
        unsafe {
            let count = (*openings).count;
            let place = count as usize & (OPENINGS_MAX - 1);
            (&raw mut (*openings).last[place]).write_volatile(Opening { inode, time: now() });
            // Last: a reader that finds the count finds the opening.
            (&raw mut (*openings).count).write_volatile(count + 1);
        }
    }
}

/// Has the end of a listener on a port that is not watched recorded.
#[inline(always)]
pub fn follow_listener(sock: u64) {
    // An LRU map always has room.
    let _ = ELSEWHERE.insert(sock, 1, u64::from(BPF_ANY));
}

/// Whether the end of a listener is to be recorded.
#[inline(always)]
pub fn unfollow_listener(sock: u64) -> bool {
    ELSEWHERE.remove(sock).is_ok()
}

/// Follows a bound socket; false when there are too many.
#[inline(always)]
pub fn follow_socket(sock: u64) -> bool {
    BOUND.insert(sock, 1, u64::from(BPF_ANY)).is_ok()
}

/// Whether a socket that was destroyed, or connects, was followed.
#[inline(always)]
pub fn unfollow_socket(sock: u64) -> bool {
    BOUND.remove(sock).is_ok()
}

/// Has the end of a process recorded. Where the table is full it is not, which is counted.
#[inline(always)]
pub fn follow_process(pid: u32) {
    follow_child(pid);
}

/// The same of one that has executed a program, having had so many page faults.
#[inline(always)]
pub fn follow_executed(pid: u32, faults: u32) {
    if FOLLOWED.insert(pid, faults, u64::from(BPF_ANY)).is_err() {
        count(lost::FOLLOWED);
    }
}

/// How many page faults a followed process had had when it executed its program. It is 1 where that was before it was
/// followed: execve() itself takes more.
#[inline(always)]
pub fn faults_at_exec(pid: u32) -> Option<u32> {
    // SAFETY: values are written whole.
    unsafe { FOLLOWED.get(pid) }.copied()
}

/// Follows the child of a followed process too; false where it is followed already, or the table is full, which is counted.
#[inline(always)]
pub fn follow_child(pid: u32) -> bool {
    if FOLLOWED.insert(pid, 1, u64::from(BPF_NOEXIST)).is_ok() {
        return true;
    }
    if !is_followed(pid) {
        count(lost::FOLLOWED);
    }
    false
}

/// Whether the start of a program with this name is recorded.
#[inline(always)]
pub fn is_watched_name(name: &[u8; NAME_BYTES]) -> bool {
    NAMES.get_ptr(name).is_some()
}

/// Whether a process that has ended was followed.
#[inline(always)]
pub fn unfollow_process(pid: u32) -> bool {
    FOLLOWED.remove(pid).is_ok()
}

/// Whether the end of a process is to be recorded.
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
        // An LRU map always has room.
        None => {
            let _ = REFUSED.insert(pid, time, u64::from(BPF_ANY));
        }
    }
}

/// Whether a process was refused within [`FALLBACK_NS`].
#[inline(always)]
pub fn was_refused(pid: u32) -> bool {
    match REFUSED.get_ptr(pid) {
        // SAFETY: map values stay valid while a program runs.
        Some(time) => now() - unsafe { *time } < FALLBACK_NS,
        None => false,
    }
}

/// Whether it is to be recorded that a destination was reached: not again for [`REACHED_NS`], and not more often than
/// [`REACHED_PER_SECOND`]. Several processors may count one alike, which costs a record more.
#[inline(always)]
pub fn is_reach_recorded(reached: &Reached) -> bool {
    let now = now();
    let last = REACHED.get_ptr_mut(reached);
    // SAFETY: map values stay valid while a program runs.
    if last.is_some_and(|last| now - unsafe { last.read_volatile() } < REACHED_NS) {
        return false;
    }
    let Some(lately) = REACHED_LATELY.get_ptr_mut(0) else { return false };
    let lately = lately.cast::<u64>();
    // SAFETY: as above; the value has two words.
    unsafe {
        let (began, count) = (lately, lately.add(1));
        if now - began.read_volatile() >= 1_000_000_000 {
            began.write_volatile(now);
            count.write_volatile(0);
        }
        if count.read_volatile() >= REACHED_PER_SECOND {
            return false;
        }
        count.write_volatile(count.read_volatile() + 1);
    }
    match last {
        // SAFETY: as above.
        Some(last) => unsafe { last.write_volatile(now) },
        // An LRU map always has room.
        None => {
            let _ = REACHED.insert(reached, now, u64::from(BPF_ANY));
        }
    }
    true
}

/// Remembers what a thread asks `bind()` for.
#[inline(always)]
pub fn begin_binding(thread: u64, binding: &Binding) {
    // An LRU map always has room.
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

/// What only one of two redundant programs has seen a thread do.
#[inline(always)]
pub fn seen(thread: u64) -> Option<Seen> {
    // SAFETY: map values stay valid while a program runs.
    SEEN.get_ptr(thread).map(|seen| unsafe { *seen })
}

#[inline(always)]
pub fn remember_seen(thread: u64, seen: &Seen) {
    // An LRU map always has room.
    let _ = SEEN.insert(thread, seen, u64::from(BPF_ANY));
}

#[inline(always)]
pub fn forget_seen(thread: u64) {
    let _ = SEEN.remove(thread);
}
