//! The record of a refusal, which two hooks can witness: the state change, and the error report. The
//! kernel skips a program that interrupts itself on one CPU; the other witness then still runs.

use tracer_ebpf::{Refused, kind, sent_by, via};

use crate::{
    config,
    emit::{self, Attempt},
    sock::{ECONNREFUSED, Sock},
};

/// Records a refusal whose attempt is over.
#[inline(always)]
pub fn record_and_end(sock: Sock, attempt: *mut Attempt) {
    let Some(mut entry) = emit::reserve::<Refused>(kind::REFUSED, emit::now()) else {
        emit::end_attempt(sock.address());
        return;
    };
    // SAFETY: the record is reserved; the attempt is a map value, valid while a program runs.
    unsafe { fill(entry.as_mut_ptr(), sock, attempt) };
    // Whoever removes the attempt owns its refusal.
    if emit::end_attempt(sock.address()) {
        entry.submit(0);
    } else {
        entry.discard(0);
    }
}

/// Records a refusal of an attempt that its socket is still in.
#[inline(always)]
pub fn record(sock: Sock, attempt: *mut Attempt) {
    // SAFETY: a map value, valid while a program runs; first, so that a full ring is counted once.
    unsafe { (&raw mut (*attempt).recorded).write(1) };
    let Some(mut entry) = emit::reserve::<Refused>(kind::REFUSED, emit::now()) else {
        return;
    };
    // SAFETY: as above.
    unsafe { fill(entry.as_mut_ptr(), sock, attempt) };
    entry.submit(0);
}

/// # Safety
/// `record` must be valid for writes and `attempt` for reads.
#[inline(always)]
unsafe fn fill(record: *mut Refused, sock: Sock, attempt: *const Attempt) {
    // SAFETY: the caller's; every member behind the header is written.
    unsafe {
        sock.describe(sock.cookie(), &raw mut (*record).socket);
        (&raw mut (*record).socket.local_port).write(sock.source_port());
        (&raw mut (*record).task).write((*attempt).task);
        let started = (*attempt).started;
        (&raw mut (*record).started).write(started);
        emit::remember_refusal((*attempt).task.pid);
        let sent_by_tcp = config::send_hook() && emit::reset_was_sent(sock.initial_sequence(), started);
        // An ICMPv6 error is queued for no socket that did not ask for it (`ipv6_icmp_error`,
        // net/ipv6/datagram.c): what no reset has refused, ICMP has.
        let by_reset = (*attempt).reset != 0 || sent_by_tcp || !config::receive_hook();
        let by_icmp = (*attempt).icmp == ECONNREFUSED as u32 || !by_reset;
        (&raw mut (*record).via).write(if by_icmp { via::ICMP } else { via::RST });
        let sender = if by_icmp || !config::send_hook() {
            sent_by::UNKNOWN
        } else if sent_by_tcp {
            sent_by::TCP
        } else {
            sent_by::NOT_TCP
        };
        (&raw mut (*record).sent_by).write(sender);
    }
}
