//! The record of a refusal, which three probes can see, in this order: the reset that a socket receives, its
//! state change, and its error report. The kernel skips a program that interrupts itself on one CPU; the next
//! probe then still runs. An ICMP refusal has the last two.

use tracer_ebpf::{Refused, kind, sent_by, via};

use crate::{
    config,
    maps::{self, Attempt, Reset},
    records,
    sock::{ECONNREFUSED, IcmpError, Sock},
};

/// Records a refusal whose attempt is over. The probe that records most refusals passes a trusted socket, the others an
/// untrusted one: see [`Sock::untrusted`].
#[inline(always)]
pub fn record_and_end<const TRUSTED: bool>(sock: Sock<TRUSTED>, attempt: *mut Attempt) {
    let Some((mut entry, now)) = records::reserve::<Refused>(kind::REFUSED) else {
        maps::end_attempt(sock.address(), attempt);
        return;
    };
    // SAFETY: the record is reserved; the attempt is a map value, valid while a program runs.
    unsafe { fill(entry.as_mut_ptr(), sock, attempt, now) };
    // The program that removes the attempt owns its refusal.
    if maps::end_attempt(sock.address(), attempt) {
        records::submit(entry);
    } else {
        entry.discard(0);
    }
}

/// Records a refusal of an attempt that its socket is still in.
#[inline(always)]
pub fn record(sock: Sock<false>, attempt: *mut Attempt) {
    // SAFETY: a map value, valid while a program runs; first, so that a full ring is counted once.
    unsafe { (&raw mut (*attempt).recorded).write(1) };
    let Some((mut entry, now)) = records::reserve::<Refused>(kind::REFUSED) else {
        return;
    };
    // SAFETY: as above.
    unsafe { fill(entry.as_mut_ptr(), sock, attempt, now) };
    records::submit(entry);
}

/// # Safety
/// `record` must be valid for writes and `attempt` for reads.
#[inline(always)]
unsafe fn fill<const TRUSTED: bool>(
    record: *mut Refused,
    sock: Sock<TRUSTED>,
    attempt: *const Attempt,
    now: u64,
) {
    // SAFETY: the caller's; every member behind the header is written.
    unsafe {
        let tcp = sock.describe_connecting(&raw mut (*record).socket);
        (&raw mut (*record).task).write((*attempt).task);
        let started = (*attempt).started;
        (&raw mut (*record).started).write(started);
        maps::remember_refusal((*attempt).task.pid, now);
        let sequence = tcp.initial_sequence();
        let reset =
            if config::send_hook() { maps::reset_sent(sequence, started, now) } else { Reset::Unknown };
        // An ICMPv6 error is queued only for a socket that asked for it: what no reset has refused, ICMP has. What an earlier
        // SYN met does not count: a rule may have been removed since.
        let by_reset = (*attempt).reset != 0 || matches!(reset, Reset::Sent(_));
        let by_icmp = !by_reset && ((*attempt).icmp == ECONNREFUSED as u32 || config::receive_hook());
        (&raw mut (*record).via).write(if by_icmp { via::ICMP } else { via::RST });
        let sender = match reset {
            _ if by_icmp => sent_by::UNKNOWN,
            Reset::Unknown => sent_by::UNKNOWN,
            Reset::Sent(tag) if tag != sock.destination_tag() => sent_by::TCP_REDIRECTED,
            Reset::Sent(_) => sent_by::TCP,
            Reset::NotSent => sent_by::NOT_TCP,
        };
        (&raw mut (*record).sent_by).write(sender);
        (&raw mut (*record).role).write((*attempt).role);
        let error = if by_icmp { sock.untrusted().icmp_error() } else { IcmpError::NONE };
        let (device, source) =
            if error.errno == ECONNREFUSED { (error.device(), error.sender()) } else { (0, [0; 2]) };
        (&raw mut (*record).icmp_device).write(device);
        (&raw mut (*record).icmp_sender).cast::<[u64; 2]>().write(source);
    }
}
