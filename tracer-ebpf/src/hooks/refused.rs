//! The record of a refusal, which three hooks can witness, in this order: the reset that a socket receives, its
//! state change, and its error report. The kernel skips a program that interrupts itself on one CPU; the next
//! witness then still runs. An ICMP refusal has the last two.

use tracer_ebpf::{Refused, kind, sent_by, via};

use crate::{
    config,
    emit::{self, Attempt, Reset},
    sock::{ECONNREFUSED, Sock},
};

/// Records a refusal whose attempt is over. `OFTEN`: this hook is the one that mostly does.
#[inline(always)]
pub fn record_and_end<const OFTEN: bool, const KNOWN: bool>(sock: Sock<KNOWN>, attempt: *mut Attempt) {
    let Some((mut entry, now)) = emit::reserve::<Refused>(kind::REFUSED) else {
        emit::end_attempt(sock.address());
        return;
    };
    // SAFETY: the record is reserved; the attempt is a map value, valid while a program runs.
    unsafe { fill::<OFTEN, _>(entry.as_mut_ptr(), sock, attempt, now) };
    // Whoever removes the attempt owns its refusal.
    if emit::end_attempt(sock.address()) {
        emit::submit(entry);
    } else {
        entry.discard(0);
    }
}

/// Records a refusal of an attempt that its socket is still in.
#[inline(always)]
pub fn record(sock: Sock, attempt: *mut Attempt) {
    // SAFETY: a map value, valid while a program runs; first, so that a full ring is counted once.
    unsafe { (&raw mut (*attempt).recorded).write(1) };
    let Some((mut entry, now)) = emit::reserve::<Refused>(kind::REFUSED) else {
        return;
    };
    // SAFETY: as above.
    unsafe { fill::<false, _>(entry.as_mut_ptr(), sock, attempt, now) };
    emit::submit(entry);
}

/// # Safety
/// `record` must be valid for writes and `attempt` for reads.
#[inline(always)]
unsafe fn fill<const OFTEN: bool, const KNOWN: bool>(
    record: *mut Refused,
    sock: Sock<KNOWN>,
    attempt: *const Attempt,
    now: u64,
) {
    // SAFETY: the caller's; every member behind the header is written.
    unsafe {
        sock.describe_connecting::<OFTEN>(&raw mut (*record).socket);
        (&raw mut (*record).task).write((*attempt).task);
        let started = (*attempt).started;
        (&raw mut (*record).started).write(started);
        emit::remember_refusal((*attempt).task.pid, now);
        let sequence = sock.tcp::<OFTEN>().initial_sequence();
        let reset =
            if config::send_hook() { emit::reset_sent(sequence, started, now) } else { Reset::Unknown };
        // An ICMPv6 error is queued for no socket that did not ask for it (`ipv6_icmp_error`,
        // net/ipv6/datagram.c): what no reset has refused, ICMP has.
        let by_reset = (*attempt).reset != 0 || reset == Reset::Sent || !config::receive_hook();
        let by_icmp = (*attempt).icmp == ECONNREFUSED as u32 || !by_reset;
        (&raw mut (*record).via).write(if by_icmp { via::ICMP } else { via::RST });
        let sender = match reset {
            _ if by_icmp => sent_by::UNKNOWN,
            Reset::Unknown => sent_by::UNKNOWN,
            Reset::Sent => sent_by::TCP,
            Reset::NotSent => sent_by::NOT_TCP,
        };
        (&raw mut (*record).sent_by).write(sender);
    }
}
