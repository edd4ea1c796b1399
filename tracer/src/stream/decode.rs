//! Bytes from the ring to [`KernelEvent`]s. Total: any bytes give an event or an error.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use tracer_ebpf as wire;

use crate::model::errno::Errno;
use crate::model::kernel_event::{
    Bound, Closed, ClosedElsewhere, Closer, Connected, Destroyed, Executed, ExecutedProgram, Exited, Failed,
    Forked, IcmpSender, KernelEvent, Listened, Opened, Reached, Refused, Role, SentBy, Via,
};
use crate::model::process::{ExitStatus, Process};
use crate::model::socket::{Listener, NetnsId, SocketKey};
use crate::model::text::Text;
use crate::model::time::{Mono, StartTime};

const AF_INET: u16 = 2;
const AF_INET6: u16 = 10;

/// Why bytes are not a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DecodeError {
    /// Shorter than a header.
    Truncated {
        bytes: usize,
    },
    /// Not as long as its kind is, or as its header gives.
    WrongSize {
        kind: u32,
        bytes: usize,
    },
    UnknownKind(u32),
    UnknownFamily(u16),
    /// A field holds a value it cannot have.
    UnknownValue {
        field: &'static str,
        value: u32,
    },
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Truncated { bytes } => write!(f, "record of {bytes} bytes is cut off"),
            Self::WrongSize { kind, bytes } => write!(f, "record of kind {kind} has {bytes} bytes"),
            Self::UnknownKind(kind) => write!(f, "record of unknown kind {kind}"),
            Self::UnknownFamily(family) => write!(f, "record of unknown address family {family}"),
            Self::UnknownValue { field, value } => write!(f, "record with unknown `{field}` {value}"),
        }
    }
}

impl std::error::Error for DecodeError {}

/// A structure of the wire format: integers only, so that any bytes are a value of it.
///
/// # Safety
/// Every bit pattern must be a valid value, and there must be no padding.
unsafe trait Record: Copy {}
// SAFETY: integers and arrays of integers, their sizes asserted in `tracer_ebpf`.
unsafe impl Record for wire::Header {}
// SAFETY: as above.
unsafe impl Record for wire::Opened {}
// SAFETY: as above.
unsafe impl Record for wire::Listened {}
// SAFETY: as above.
unsafe impl Record for wire::Closed {}
// SAFETY: as above.
unsafe impl Record for wire::Refused {}
// SAFETY: as above.
unsafe impl Record for wire::Bound {}
// SAFETY: as above.
unsafe impl Record for wire::Destroyed {}
// SAFETY: as above.
unsafe impl Record for wire::Exited {}
// SAFETY: as above.
unsafe impl Record for wire::Executed {}
// SAFETY: as above.
unsafe impl Record for wire::Forked {}
// SAFETY: as above.
unsafe impl Record for wire::Connected {}
// SAFETY: as above.
unsafe impl Record for wire::Failed {}

/// Reads the front of `bytes`; `None` when there are too few.
fn read<T: Record>(bytes: &[u8]) -> Option<T> {
    // SAFETY: there are enough bytes, and any are valid (`Record`).
    (bytes.len() >= size_of::<T>()).then(|| unsafe { bytes.as_ptr().cast::<T>().read_unaligned() })
}

/// Decodes one record.
///
/// # Errors
/// When the bytes are not a record that this version knows.
pub fn decode(bytes: &[u8]) -> Result<KernelEvent, DecodeError> {
    let header: wire::Header = read(bytes).ok_or(DecodeError::Truncated { bytes: bytes.len() })?;
    match header.kind {
        wire::kind::OPENED => opened(whole(bytes, header)?),
        wire::kind::LISTENED => Ok(listened(&whole(bytes, header)?)),
        wire::kind::CLOSED => closed(whole(bytes, header)?),
        wire::kind::OPENED_ELSEWHERE => opened(whole(bytes, header)?).map(|event| match event {
            KernelEvent::Opened(opened) => KernelEvent::OpenedElsewhere(opened),
            event => event,
        }),
        wire::kind::CLOSED_ELSEWHERE => Ok(closed_elsewhere(&whole(bytes, header)?)),
        wire::kind::REFUSED => refused(whole(bytes, header)?),
        wire::kind::BOUND => bound(whole(bytes, header)?),
        wire::kind::DESTROYED => Ok(destroyed(&whole(bytes, header)?)),
        wire::kind::EXITED => Ok(exited(&whole(bytes, header)?)),
        wire::kind::EXECUTED => executed(&whole(bytes, header)?),
        wire::kind::FORKED => Ok(forked(&whole(bytes, header)?)),
        wire::kind::CONNECTED => connected(&whole(bytes, header)?),
        wire::kind::REACHED => reached(&whole(bytes, header)?),
        wire::kind::FAILED => failed(&whole(bytes, header)?),
        kind => Err(DecodeError::UnknownKind(kind)),
    }
}

/// Whether the bytes are of no event, only a sign that something was counted as lost.
pub fn is_loss(bytes: &[u8]) -> bool {
    read(bytes).is_some_and(|header: wire::Header| {
        header.kind == wire::kind::LOST && whole::<wire::Header>(bytes, header).is_ok()
    })
}

/// The record, when it is exactly as long as it should be and as its header gives.
fn whole<T: Record>(bytes: &[u8], header: wire::Header) -> Result<T, DecodeError> {
    if bytes.len() != size_of::<T>() || header.size as usize != bytes.len() {
        return Err(DecodeError::WrongSize { kind: header.kind, bytes: bytes.len() });
    }
    read(bytes).ok_or(DecodeError::Truncated { bytes: bytes.len() })
}

fn opened(record: wire::Opened) -> Result<KernelEvent, DecodeError> {
    let time = Mono(record.header.time);
    let mut listener = listener(&record.socket, process(&record.task))?;
    listener.since = Some(time);
    listener.backlog = Some(record.backlog);
    Ok(KernelEvent::Opened(Box::new(Opened {
        time,
        listener,
        tid: record.task.tid,
        netns_cookie: record.socket.netns_cookie,
        was_hashed: was_hashed(record.hashed)?,
    })))
}

fn listened(record: &wire::Listened) -> KernelEvent {
    let wire::Socket { cookie, inode, netns, netns_cookie, .. } = record.socket;
    KernelEvent::Listened(Listened {
        time: Mono(record.header.time),
        key: SocketKey { inode, cookie },
        netns: NetnsId(netns),
        netns_cookie,
        has_succeeded: record.succeeded != 0,
    })
}

fn was_hashed(value: u32) -> Result<Option<bool>, DecodeError> {
    match value {
        wire::hashed::UNKNOWN => Ok(None),
        wire::hashed::NEVER => Ok(Some(false)),
        wire::hashed::ONCE => Ok(Some(true)),
        value => Err(DecodeError::UnknownValue { field: "hashed", value }),
    }
}

fn closed(record: wire::Closed) -> Result<KernelEvent, DecodeError> {
    Ok(KernelEvent::Closed(Box::new(Closed {
        time: Mono(record.header.time),
        listener: listener(&record.socket, process(&record.task))?,
        tid: record.task.tid,
        shutdown: record.shutdown.into(),
        closer: match record.closer {
            wire::closer::PROCESS => Closer::Process,
            wire::closer::EXITING => Closer::Ending(ExitStatus::from_wait(record.exit_code)),
            wire::closer::KERNEL => Closer::Kernel,
            wire::closer::EXEC => Closer::Exec,
            value => return Err(DecodeError::UnknownValue { field: "closer", value }),
        },
        netns_cookie: record.socket.netns_cookie,
        was_hashed: was_hashed(record.hashed)?,
    })))
}

fn closed_elsewhere(record: &wire::Closed) -> KernelEvent {
    let wire::Socket { cookie, inode, netns, .. } = record.socket;
    KernelEvent::ClosedElsewhere(ClosedElsewhere {
        time: Mono(record.header.time),
        netns: NetnsId(netns),
        key: SocketKey { inode, cookie },
    })
}

fn refused(record: wire::Refused) -> Result<KernelEvent, DecodeError> {
    let socket = &record.socket;
    let unknown = |field, value| DecodeError::UnknownValue { field, value };
    Ok(KernelEvent::Refused(Box::new(Refused {
        time: Mono(record.header.time),
        started: Mono(record.started),
        netns: NetnsId(socket.netns),
        netns_cookie: socket.netns_cookie,
        client: process(&record.task),
        cgroup: record.task.cgroup,
        src: address(socket.family, socket.local)?.to_canonical(),
        src_port: nonzero(u32::from(socket.local_port)).map(|_| socket.local_port),
        dst: address(socket.family, socket.remote)?.to_canonical(),
        dst_port: socket.remote_port,
        device: nonzero(socket.device),
        via: match record.via {
            wire::via::RST => Via::Rst,
            wire::via::ICMP => Via::Icmp,
            value => return Err(unknown("via", value)),
        },
        sent_by: match record.sent_by {
            wire::sent_by::UNKNOWN => None,
            wire::sent_by::TCP => Some(SentBy::Tcp),
            wire::sent_by::NOT_TCP => Some(SentBy::Filter),
            wire::sent_by::TCP_REDIRECTED => Some(SentBy::Redirected),
            value => return Err(unknown("sent_by", value)),
        },
        icmp: nonzero(record.icmp_device)
            .map(|device| IcmpSender { addr: Ipv6Addr::from(record.icmp_sender).to_canonical(), device })
            .filter(|sender| !sender.addr.is_unspecified()),
        role: match record.role {
            wire::role::CLIENT => Role::Client,
            wire::role::UPSTREAM => Role::Upstream,
            value => return Err(unknown("role", value)),
        },
    })))
}

fn bound(record: wire::Bound) -> Result<KernelEvent, DecodeError> {
    let addr = address(record.requested_family, record.requested)?.to_canonical();
    let socket = Listener {
        addr,
        port: record.requested_port,
        v6only: addr.is_ipv6().then_some(record.socket.v6only != 0),
        ..listener(&record.socket, process(&record.task))?
    };
    Ok(KernelEvent::Bound(Box::new(Bound {
        time: Mono(record.header.time),
        socket,
        netns_cookie: record.socket.netns_cookie,
        errno: errno(record.errno),
        is_followed: record.followed != 0,
        sock: record.sock,
    })))
}

fn destroyed(record: &wire::Destroyed) -> KernelEvent {
    KernelEvent::Destroyed(Destroyed {
        time: Mono(record.header.time),
        sock: record.sock,
        is_client: record.connects != 0,
    })
}

fn exited(record: &wire::Exited) -> KernelEvent {
    KernelEvent::Exited(Exited {
        time: Mono(record.header.time),
        pid: record.pid,
        status: ExitStatus::from_wait(record.exit_code),
    })
}

fn executed(record: &wire::Executed) -> Result<KernelEvent, DecodeError> {
    let value = record.arguments_bytes;
    let arguments = match value {
        wire::MISSING => None,
        _ => {
            let unknown = DecodeError::UnknownValue { field: "arguments_bytes", value };
            let read = usize::try_from(value).ok().and_then(|bytes| record.arguments.get(..bytes));
            Some(Text::new(read.ok_or(unknown)?))
        }
    };
    let program = ExecutedProgram {
        netns: NetnsId(record.netns),
        netns_cookie: record.netns_cookie,
        file_name: Text::new(up_to_nul(&record.file_name)),
        arguments,
        is_cut: record.is_cut != 0,
    };
    Ok(KernelEvent::Executed(Box::new(Executed {
        time: Mono(record.header.time),
        process: process(&record.task),
        program: Some(program),
    })))
}

fn forked(record: &wire::Forked) -> KernelEvent {
    let child = process(&record.task);
    KernelEvent::Forked(Forked { time: Mono(record.header.time), parent: child.ppid, child })
}

fn connected(record: &wire::Connected) -> Result<KernelEvent, DecodeError> {
    let socket = &record.socket;
    Ok(KernelEvent::Connected(Connected {
        time: Mono(record.header.time),
        started: Mono(record.started),
        netns: NetnsId(socket.netns),
        pid: nonzero(record.task.pid),
        dst: address(socket.family, socket.remote)?.to_canonical(),
        dst_port: socket.remote_port,
        device: nonzero(socket.device),
    }))
}

fn reached(record: &wire::Connected) -> Result<KernelEvent, DecodeError> {
    let socket = &record.socket;
    Ok(KernelEvent::Reached(Reached {
        time: Mono(record.header.time),
        netns: NetnsId(socket.netns),
        client: process(&record.task),
        dst: address(socket.family, socket.remote)?.to_canonical(),
        dst_port: socket.remote_port,
        device: nonzero(socket.device),
    }))
}

fn failed(record: &wire::Failed) -> Result<KernelEvent, DecodeError> {
    let socket = &record.socket;
    Ok(KernelEvent::Failed(Box::new(Failed {
        time: Mono(record.header.time),
        started: Mono(record.started),
        netns: NetnsId(socket.netns),
        client: process(&record.task),
        src: address(socket.family, socket.local)?.to_canonical(),
        src_port: nonzero(u32::from(socket.local_port)).map(|_| socket.local_port),
        dst: address(socket.family, socket.remote)?.to_canonical(),
        dst_port: socket.remote_port,
        device: nonzero(socket.device),
        errno: errno(record.errno),
    })))
}

/// An error number; none is larger than 4095 (`MAX_ERRNO`, include/linux/err.h).
fn errno(value: u32) -> Option<Errno> {
    nonzero(value).map(|value| Errno::from(value.min(4095) as i32))
}

fn up_to_nul(bytes: &[u8]) -> &[u8] {
    bytes.split(|byte| *byte == 0).next().unwrap_or_default()
}

fn nonzero(value: u32) -> Option<u32> {
    (value != 0).then_some(value)
}

fn address(family: u16, bytes: [u8; 16]) -> Result<IpAddr, DecodeError> {
    match family {
        AF_INET => Ok(IpAddr::V4(Ipv4Addr::new(bytes[0], bytes[1], bytes[2], bytes[3]))),
        AF_INET6 => Ok(IpAddr::V6(Ipv6Addr::from(bytes))),
        family => Err(DecodeError::UnknownFamily(family)),
    }
}

fn listener(socket: &wire::Socket, process: Process) -> Result<Listener, DecodeError> {
    let addr = address(socket.family, socket.local)?.to_canonical();
    Ok(Listener {
        key: SocketKey { inode: socket.inode, cookie: socket.cookie },
        netns: NetnsId(socket.netns),
        addr,
        port: socket.local_port,
        v6only: addr.is_ipv6().then_some(socket.v6only != 0),
        device: nonzero(socket.device),
        backlog: None,
        since: None,
        process,
        opener: None,
    })
}

/// The process; the rest is read from `/proc`, where it is found by the time at which it started.
fn process(task: &wire::Task) -> Process {
    let name = up_to_nul(&task.comm);
    Process {
        pid: nonzero(task.pid),
        ns_pid: nonzero(task.ns_pid),
        ppid: nonzero(task.parent),
        uid: Some(task.uid),
        uid_at_exec: None,
        comm: (!name.is_empty()).then(|| Text::new(name)),
        exe: None,
        script: None,
        arguments: None,
        start: (task.start_time != 0).then(|| StartTime::from_boottime(task.start_time)),
        container: None,
        unit: None,
    }
}
