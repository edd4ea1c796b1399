//! `inet_sock_set_state`: a TCP socket changes state.

use aya_ebpf::{EbpfContext, macros::btf_tracepoint, programs::BtfTracePointContext};
use core::ffi::c_void;
use tracer_ebpf::{Closed, Connected, Failed, Opened, Task, kind, lost};

use crate::{
    config::{self, is_watched},
    emit::{self, Attempt, sight},
    hooks::{destroyed, refused},
    sock::{ECONNREFUSED, Sock, state},
    task,
};

/// TP_PROTO(const struct sock *sk, const int oldstate, const int newstate)
#[btf_tracepoint(function = "inet_sock_set_state")]
fn sock_state(ctx: BtfTracePointContext) -> i32 {
    let sock: Sock = Sock(ctx.arg::<*const c_void>(0));
    state_changes::<true, 1>(&ctx, sock, ctx.arg(1), ctx.arg(2));
    0
}

/// Cheapest test first: the states are at hand, the port is one load, the protocol another.
#[inline(always)]
pub fn state_changes<const KNOWN: bool, const COPY: u32>(
    ctx: &impl EbpfContext,
    sock: Sock<KNOWN>,
    old: i32,
    new: i32,
) {
    // An accepted connection is a copy of its listener that goes from LISTEN to SYN_RECV
    // (`inet_csk_clone_lock`): not the listener's end.
    let closes = old == state::LISTEN && new == state::CLOSE;
    if old != state::SYN_SENT && new != state::SYN_SENT && new != state::LISTEN && !closes {
        return;
    }
    // A client may connect from a watched port: what it bound is no server's.
    if new == state::SYN_SENT && is_watched(sock.local_port()) {
        destroyed::record(sock.address(), true);
    }
    let connecting = old == state::SYN_SENT || new == state::SYN_SENT;
    let port = if connecting { sock.remote_port() } else { sock.local_port() };
    if !is_watched(port) || !sock.is_tcp() {
        return;
    }
    if new == state::SYN_SENT {
        connect_begins::<COPY>(ctx, sock.address());
    } else if new == state::LISTEN {
        if !config::is_twice() || emit::is_first(sock.address(), sight::LISTEN, COPY) {
            listener_opens(sock);
        }
    } else if closes {
        if !config::is_twice() || emit::is_first(sock.address(), sight::CLOSE, COPY) {
            listener_closes(sock);
        }
    } else {
        // The attempt's removal tells whether it has been seen.
        connect_ends(sock, new);
    }
}

/// CLOSE -> SYN_SENT, in the context of the process that connects.
#[inline(always)]
fn connect_begins<const COPY: u32>(ctx: &impl EbpfContext, sock: u64) {
    if config::is_twice() && emit::has_begun(sock, COPY) {
        return;
    }
    let mut attempt = Attempt {
        started: emit::now(),
        task: Task {
            start_time: 0,
            cgroup: 0,
            pid: 0,
            tid: 0,
            ns_pid: 0,
            parent: 0,
            uid: 0,
            reserved: 0,
            comm: [0; 16],
        },
        icmp: 0,
        reset: 0,
        recorded: 0,
        copy: COPY,
    };
    // SAFETY: a value on this program's stack.
    unsafe { task::describe_current(&raw mut attempt.task) };
    if !emit::begin_attempt(sock, &attempt)
        && (!config::is_twice() || emit::is_first(sock, sight::OVER, COPY))
    {
        emit::count_alone(lost::ATTEMPTS);
        aya_log_ebpf::warn!(ctx, "attempts table full: a connect is not followed");
    }
}

/// SYN_SENT -> anything. `sk_err` alone tells a refusal from an application that gave up, a timeout or
/// a cancelled attempt. Where an ICMP refusal has left it 0, that was recorded when it came
/// (`error_report`), or its connect has ended otherwise.
#[inline(always)]
fn connect_ends<const KNOWN: bool>(sock: Sock<KNOWN>, new: i32) {
    let Some(attempt) = emit::attempt(sock.address()) else {
        return;
    };
    // SAFETY: map values stay valid while a program runs.
    let (icmp, recorded, pid) = unsafe { ((*attempt).icmp as i32, (*attempt).recorded, (*attempt).task.pid) };
    if recorded == 0 && new == state::CLOSE {
        let error = sock.error();
        if error == ECONNREFUSED {
            refused::record_and_end::<false, _>(sock, attempt);
            return;
        }
        connect_fails(sock, attempt, if error != 0 { error } else { icmp });
    } else if new == state::ESTABLISHED && (emit::was_refused(pid) || emit::is_followed(pid)) {
        connect_succeeds(sock, attempt);
    }
    emit::end_attempt(sock.address());
}

/// SYN_SENT -> CLOSE, and it was no refusal.
#[inline(always)]
fn connect_fails<const KNOWN: bool>(sock: Sock<KNOWN>, attempt: *const Attempt, error: i32) {
    let Some((mut entry, _)) = emit::reserve::<Failed>(kind::FAILED) else {
        return;
    };
    let record = entry.as_mut_ptr();
    // SAFETY: the record is reserved and every member of it is written; map values stay valid while a
    // program runs.
    unsafe {
        sock.describe_connecting::<false>(&raw mut (*record).socket);
        (&raw mut (*record).task).write((*attempt).task);
        (&raw mut (*record).started).write((*attempt).started);
        (&raw mut (*record).errno).write(error as u32);
        (&raw mut (*record).reserved).write(0);
    }
    emit::submit(entry);
}

/// SYN_SENT -> ESTABLISHED, of a process that was refused a moment ago, or whose end is followed: a candidate that
/// turns out to be a client.
#[inline(always)]
fn connect_succeeds<const KNOWN: bool>(sock: Sock<KNOWN>, attempt: *const Attempt) {
    let Some((mut entry, _)) = emit::reserve::<Connected>(kind::CONNECTED) else {
        return;
    };
    let record = entry.as_mut_ptr();
    // SAFETY: as above.
    unsafe {
        sock.describe_connecting::<false>(&raw mut (*record).socket);
        (&raw mut (*record).task).write((*attempt).task);
        (&raw mut (*record).started).write((*attempt).started);
    }
    emit::submit(entry);
}

/// CLOSE -> LISTEN, in the context of the process that listens. It comes before the kernel confirms the
/// port (`inet_csk_listen_start`, net/ipv4/inet_connection_sock.c): a `listen()` that fails goes
/// straight back to CLOSE.
#[inline(always)]
fn listener_opens<const KNOWN: bool>(sock: Sock<KNOWN>) {
    let Some((mut entry, _)) = emit::reserve::<Opened>(kind::OPENED) else {
        return;
    };
    let record = entry.as_mut_ptr();
    // SAFETY: the record is reserved and every member of it is written.
    unsafe {
        sock.describe_seldom(&raw mut (*record).socket);
        task::describe_current_seldom(&raw mut (*record).task);
        emit::follow_process((*record).task.pid);
        (&raw mut (*record).backlog).write(sock.backlog());
        (&raw mut (*record).reserved).write(0);
    }
    emit::submit(entry);
}

/// LISTEN -> CLOSE, in the context of the last holder.
#[inline(always)]
fn listener_closes<const KNOWN: bool>(sock: Sock<KNOWN>) {
    let Some((mut entry, _)) = emit::reserve::<Closed>(kind::CLOSED) else {
        return;
    };
    let record = entry.as_mut_ptr();
    // SAFETY: the record is reserved and every member of it is written.
    unsafe {
        sock.describe_seldom(&raw mut (*record).socket);
        task::describe_current_seldom(&raw mut (*record).task);
        (&raw mut (*record).shutdown).write(sock.shutdown());
        let (closer, exit_code) = task::closer();
        (&raw mut (*record).closer).write(closer);
        (&raw mut (*record).exit_code).write(exit_code);
        (&raw mut (*record).reserved).write(0);
    }
    emit::submit(entry);
}
