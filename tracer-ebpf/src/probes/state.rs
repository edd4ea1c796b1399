//! `inet_sock_set_state`: a TCP socket changes state.

use aya_ebpf::{
    EbpfContext, helpers,
    macros::{btf_tracepoint, tracepoint},
    programs::{BtfTracePointContext, TracePointContext},
};
use core::ffi::c_void;
use tracer_ebpf::{Closed, Connected, Failed, Opened, Task, closer, kind, lost};

use crate::{
    config::{is_configured, is_watched, offset},
    dedup::{self, Event, Probe},
    maps::{self, Attempt},
    probes::destroyed,
    records, refusal,
    sock::{ECONNREFUSED, Sock, state},
    task, upstream,
};

/// One change of state.
struct Change<const TRUSTED: bool> {
    sock: Sock<TRUSTED>,
    old: i32,
    new: i32,
}

/// TP_PROTO(const struct sock *sk, const int oldstate, const int newstate)
#[btf_tracepoint(function = "inet_sock_set_state")]
fn sock_state(ctx: BtfTracePointContext) -> i32 {
    let sock: Sock = Sock(ctx.arg::<*const c_void>(0));
    let change = Change { sock, old: ctx.arg(1), new: ctx.arg(2) };
    state_changes(&ctx, change, Probe::Primary);
    0
}

#[tracepoint(category = "sock", name = "inet_sock_set_state")]
fn sock_state_redundant(ctx: TracePointContext) -> i32 {
    // SAFETY: all are inside the record, by its BTF.
    let (Ok(old), Ok(new), Ok(sock)) = (unsafe {
        (
            ctx.read_at::<i32>(offset!(trace_state_old)),
            ctx.read_at::<i32>(offset!(trace_state_new)),
            ctx.read_at::<u64>(offset!(trace_state_sock)),
        )
    }) else {
        return 0;
    };
    let sock = Sock::<false>(sock as *const c_void);
    state_changes(&ctx, Change { sock, old, new }, Probe::Redundant);
    0
}

/// Cheapest test first: the states are at hand, the port is one load, the protocol another.
#[inline(always)]
fn state_changes<const TRUSTED: bool>(ctx: &impl EbpfContext, change: Change<TRUSTED>, probe: Probe) {
    let Change { sock, old, new } = change;
    // An accepted connection is a copy of its listener that goes from LISTEN to SYN_RECV
    // (`inet_csk_clone_lock`): not the listener's end.
    let closes = old == state::LISTEN && new == state::CLOSE;
    if old != state::SYN_SENT && new != state::SYN_SENT && new != state::LISTEN && !closes {
        return;
    }
    // A client may connect from a watched port: the socket that it bound does not belong to a server.
    if new == state::SYN_SENT && is_watched(sock.local_port()) {
        destroyed::record(sock.address(), true);
    }
    if new == state::SYN_SENT {
        let port = sock.remote_port();
        if let Some(role) = upstream::role_of_current(port)
            && sock.is_tcp()
        {
            connect_begins(ctx, sock.address(), Connect { port, role, probe });
        }
        return;
    }
    if old == state::SYN_SENT {
        let port = sock.remote_port();
        if maps::may_have_attempt(port) && sock.is_tcp() {
            // Of two redundant programs the one that removes the attempt records its end.
            connect_ends(sock, port, new);
        }
        return;
    }
    if new == state::LISTEN {
        maps::remember_opening(sock.inode());
    }
    if !sock.is_tcp() {
        return;
    }
    // What a server does on another port may be what it does instead.
    let is_watched = is_watched(sock.local_port());
    if !is_watched {
        let is_listener_followed = closes && maps::unfollow_listener(sock.address());
        let pid = (helpers::bpf_get_current_pid_tgid() >> 32) as u32;
        if !is_listener_followed && !maps::is_followed(pid) {
            return;
        }
    }
    if new == state::LISTEN {
        if dedup::is_first(sock.address(), Event::Listen, probe) {
            listener_opens(sock, is_watched);
        }
    } else if dedup::is_first(sock.address(), Event::Close, probe) {
        listener_closes(sock, is_watched);
    }
}

/// A connect that begins.
struct Connect {
    port: u16,
    /// One of [`tracer_ebpf::role`].
    role: u32,
    probe: Probe,
}

/// CLOSE -> SYN_SENT, in the context of the process that connects.
#[inline(always)]
fn connect_begins(ctx: &impl EbpfContext, sock: u64, Connect { port, role, probe }: Connect) {
    if dedup::connect_has_begun(sock, probe) {
        return;
    }
    let is_other = !is_configured(port);
    if !is_other {
        maps::note_connect();
    }
    let mut attempt = Attempt {
        started: records::now(),
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
        probe: probe as u32,
        role,
        counted: u32::from(is_other),
    };
    // SAFETY: a value on this program's stack.
    unsafe { task::describe_current(&raw mut attempt.task) };
    if !maps::begin_attempt(sock, &attempt) && dedup::is_first(sock, Event::ConnectWithoutRoom, probe) {
        records::count_alone(lost::ATTEMPTS);
        aya_log_ebpf::warn!(ctx, "attempts table full: a connect is not followed");
    }
}

/// SYN_SENT -> anything. `sk_err` alone distinguishes a refusal from an application that gave up, a timeout or
/// a cancelled attempt. Where an ICMP refusal has left it 0, that was recorded when it came
/// (`error_report`), or its connect has ended otherwise.
#[inline(always)]
fn connect_ends<const TRUSTED: bool>(sock: Sock<TRUSTED>, port: u16, new: i32) {
    let Some(attempt) = maps::attempt(sock.address()) else {
        return;
    };
    // SAFETY: map values stay valid while a program runs.
    let (icmp, recorded, pid, role) =
        unsafe { ((*attempt).icmp as i32, (*attempt).recorded, (*attempt).task.pid, (*attempt).role) };
    if recorded == 0 && new == state::CLOSE {
        let error = sock.error();
        if error == ECONNREFUSED {
            refusal::record_and_end(sock.untrusted(), attempt);
            return;
        }
        if is_watched(port) {
            connect_fails(sock, attempt, if error != 0 { error } else { icmp });
        }
    } else if new == state::ESTABLISHED {
        if is_watched(port) {
            if maps::was_refused(pid) || maps::is_followed(pid) {
                connect_succeeds(sock, attempt, kind::CONNECTED);
            }
        } else if role == tracer_ebpf::role::UPSTREAM
            && maps::is_reach_recorded(&sock.untrusted().destination(port))
        {
            connect_succeeds(sock, attempt, kind::REACHED);
        }
    }
    maps::end_attempt(sock.address(), attempt);
}

/// SYN_SENT -> CLOSE, and not by a refusal.
#[inline(always)]
fn connect_fails<const TRUSTED: bool>(sock: Sock<TRUSTED>, attempt: *const Attempt, error: i32) {
    let Some((mut entry, _)) = records::reserve::<Failed>(kind::FAILED) else {
        return;
    };
    let record = entry.as_mut_ptr();
    // SAFETY: the record is reserved and every member of it is written; map values stay valid while a
    // program runs.
    unsafe {
        sock.untrusted().describe_connecting(&raw mut (*record).socket);
        (&raw mut (*record).task).write((*attempt).task);
        (&raw mut (*record).started).write((*attempt).started);
        (&raw mut (*record).errno).write(error as u32);
        (&raw mut (*record).reserved).write(0);
    }
    records::submit(entry);
}

/// SYN_SENT -> ESTABLISHED, of a process that was refused a moment ago, or that is followed: a server candidate that
/// turns out to be a client; or of one that holds a watched listener, whose next hop this is.
#[inline(always)]
fn connect_succeeds<const TRUSTED: bool>(sock: Sock<TRUSTED>, attempt: *const Attempt, kind: u32) {
    let Some((mut entry, _)) = records::reserve::<Connected>(kind) else {
        return;
    };
    let record = entry.as_mut_ptr();
    // SAFETY: as above.
    unsafe {
        sock.untrusted().describe_connecting(&raw mut (*record).socket);
        (&raw mut (*record).task).write((*attempt).task);
        (&raw mut (*record).started).write((*attempt).started);
    }
    records::submit(entry);
}

/// CLOSE -> LISTEN, in the context of the process that listens. It comes before the kernel confirms the port and hashes
/// the socket (`inet_csk_listen_start`, net/ipv4/inet_connection_sock.c): a `listen()` that fails goes straight back to
/// CLOSE.
#[inline(always)]
fn listener_opens<const TRUSTED: bool>(sock: Sock<TRUSTED>, is_watched: bool) {
    let kind = if is_watched { kind::OPENED } else { kind::OPENED_ELSEWHERE };
    let Some((mut entry, _)) = records::reserve::<Opened>(kind) else {
        return;
    };
    let record = entry.as_mut_ptr();
    // SAFETY: the record is reserved and every member of it is written.
    unsafe {
        sock.describe_keyed(&raw mut (*record).socket);
        task::describe_current_by_probe_read(&raw mut (*record).task);
        if is_watched {
            maps::follow_process((*record).task.pid);
            maps::follow_upstream((*record).task.pid, (*record).task.start_time);
        } else {
            maps::follow_listener(sock.address());
        }
        (&raw mut (*record).backlog).write(sock.backlog());
        (&raw mut (*record).hashed).write(sock.hashed());
    }
    records::submit(entry);
}

/// LISTEN -> CLOSE, in the context of the last holder.
#[inline(always)]
fn listener_closes<const TRUSTED: bool>(sock: Sock<TRUSTED>, is_watched: bool) {
    let kind = if is_watched { kind::CLOSED } else { kind::CLOSED_ELSEWHERE };
    let Some((mut entry, _)) = records::reserve::<Closed>(kind) else {
        return;
    };
    let record = entry.as_mut_ptr();
    // SAFETY: the record is reserved and every member of it is written.
    unsafe {
        sock.describe_keyed(&raw mut (*record).socket);
        task::describe_current_by_probe_read(&raw mut (*record).task);
        (&raw mut (*record).shutdown).write(sock.shutdown());
        let (how, exit_code) = task::closer();
        (&raw mut (*record).closer).write(how);
        (&raw mut (*record).exit_code).write(exit_code);
        (&raw mut (*record).hashed).write(sock.hashed());
        // Its end may follow: a server that ends in order closes its listeners first. One that is ending has been reported, and
        // nothing would remove it from the table.
        if how != closer::EXITING {
            maps::follow_process((*record).task.pid);
        }
    }
    records::submit(entry);
}
