//! Bytes from the ring to [`Event`]s. Total: any bytes give an event or an error.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use tracer_ebpf as wire;

use crate::escape::escape;
use crate::event::{
    Bound, Candidate, Closed, Closer, Connected, Destroyed, Event, ExitStatus, Exited, Failed, Listener,
    Mono, NetnsId, Opened, Refused, SocketKey,
};

use crate::line::{Process, SentBy, Via};

const AF_INET: u16 = 2;
const AF_INET6: u16 = 10;

/// Why bytes are no record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DecodeError {
    /// Shorter than a header.
    Truncated {
        bytes: usize,
    },
    /// Not as long as its kind, or as its header says.
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

/// An event, and what only `/proc` can add to it is found by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decoded {
    pub event: Event,
    /// When the event's process started, in nanoseconds since boot; 0: unknown.
    pub start_boottime: u64,
}

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
/// When the bytes are no record that this version knows.
pub fn decode(bytes: &[u8]) -> Result<Decoded, DecodeError> {
    let header: wire::Header = read(bytes).ok_or(DecodeError::Truncated { bytes: bytes.len() })?;
    match header.kind {
        wire::kind::OPENED => opened(whole(bytes, header)?),
        wire::kind::CLOSED => closed(whole(bytes, header)?),
        wire::kind::REFUSED => refused(whole(bytes, header)?),
        wire::kind::BOUND => bound(whole(bytes, header)?),
        wire::kind::DESTROYED => Ok(destroyed(&whole(bytes, header)?)),
        wire::kind::EXITED => Ok(exited(&whole(bytes, header)?)),
        wire::kind::EXECUTED => Ok(executed(&whole(bytes, header)?)),
        wire::kind::CONNECTED => connected(&whole(bytes, header)?),
        wire::kind::FAILED => failed(&whole(bytes, header)?),
        kind => Err(DecodeError::UnknownKind(kind)),
    }
}

/// Whether the bytes tell of no event, only that something was counted as lost.
pub fn is_loss(bytes: &[u8]) -> bool {
    read(bytes).is_some_and(|header: wire::Header| {
        header.kind == wire::kind::LOST && whole::<wire::Header>(bytes, header).is_ok()
    })
}

/// The record, when it is exactly as long as it should be and says.
fn whole<T: Record>(bytes: &[u8], header: wire::Header) -> Result<T, DecodeError> {
    if bytes.len() != size_of::<T>() || header.size as usize != bytes.len() {
        return Err(DecodeError::WrongSize { kind: header.kind, bytes: bytes.len() });
    }
    read(bytes).ok_or(DecodeError::Truncated { bytes: bytes.len() })
}

fn opened(record: wire::Opened) -> Result<Decoded, DecodeError> {
    let time = Mono(record.header.time);
    let mut listener = listener(&record.socket, process(&record.task))?;
    listener.since = Some(time);
    listener.backlog = Some(record.backlog);
    Ok(Decoded {
        event: Event::Opened(Opened {
            time,
            listener,
            tid: record.task.tid,
            netns_cookie: record.socket.netns_cookie,
        }),
        start_boottime: record.task.start_time,
    })
}

fn closed(record: wire::Closed) -> Result<Decoded, DecodeError> {
    Ok(Decoded {
        event: Event::Closed(Closed {
            time: Mono(record.header.time),
            listener: listener(&record.socket, process(&record.task))?,
            tid: record.task.tid,
            shutdown: record.shutdown,
            closer: match record.closer {
                wire::closer::PROCESS => Closer::Process,
                wire::closer::EXITING => Closer::Ending(ExitStatus::from_wait(record.exit_code)),
                wire::closer::KERNEL => Closer::Kernel,
                value => return Err(DecodeError::UnknownValue { field: "closer", value }),
            },
            netns_cookie: record.socket.netns_cookie,
        }),
        start_boottime: record.task.start_time,
    })
}

fn refused(record: wire::Refused) -> Result<Decoded, DecodeError> {
    let socket = &record.socket;
    let unknown = |field, value| DecodeError::UnknownValue { field, value };
    Ok(Decoded {
        event: Event::Refused(Refused {
            time: Mono(record.header.time),
            started: Mono(record.started),
            netns: NetnsId(socket.netns),
            netns_cookie: socket.netns_cookie,
            client: process(&record.task),
            client_started: record.task.start_time,
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
                value => return Err(unknown("sent_by", value)),
            },
        }),
        start_boottime: record.task.start_time,
    })
}

fn bound(record: wire::Bound) -> Result<Decoded, DecodeError> {
    let addr = address(record.requested_family, record.requested)?.to_canonical();
    let socket = Listener {
        addr,
        port: record.requested_port,
        v6only: addr.is_ipv6().then_some(record.socket.v6only != 0),
        ..listener(&record.socket, process(&record.task))?
    };
    Ok(Decoded {
        event: Event::Bound(Bound {
            time: Mono(record.header.time),
            socket,
            netns_cookie: record.socket.netns_cookie,
            errno: errno(record.errno),
            is_followed: record.followed != 0,
            sock: record.sock,
        }),
        start_boottime: record.task.start_time,
    })
}

fn destroyed(record: &wire::Destroyed) -> Decoded {
    let event = Event::Destroyed(Destroyed {
        time: Mono(record.header.time),
        sock: record.sock,
        is_client: record.connects != 0,
    });
    Decoded { event, start_boottime: 0 }
}

fn exited(record: &wire::Exited) -> Decoded {
    let event = Event::Exited(Exited {
        time: Mono(record.header.time),
        pid: record.pid,
        start_boottime: record.start_time,
        status: ExitStatus::from_wait(record.exit_code),
    });
    Decoded { event, start_boottime: record.start_time }
}

/// Which namespace it is in, and whether it is a candidate at all, is for `/proc` to say.
fn executed(record: &wire::Executed) -> Decoded {
    let time = Mono(record.header.time);
    let process = process(&record.task);
    let candidate = Candidate { time, since: time, netns: NetnsId(0), process, product: None };
    Decoded { event: Event::Candidate(candidate), start_boottime: record.task.start_time }
}

fn connected(record: &wire::Connected) -> Result<Decoded, DecodeError> {
    let socket = &record.socket;
    let event = Event::Connected(Connected {
        time: Mono(record.header.time),
        netns: NetnsId(socket.netns),
        pid: nonzero(record.task.pid),
        dst: address(socket.family, socket.remote)?.to_canonical(),
        dst_port: socket.remote_port,
        device: nonzero(socket.device),
    });
    Ok(Decoded { event, start_boottime: record.task.start_time })
}

fn failed(record: &wire::Failed) -> Result<Decoded, DecodeError> {
    let socket = &record.socket;
    let event = Event::Failed(Failed {
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
    });
    Ok(Decoded { event, start_boottime: record.task.start_time })
}

/// An error number; none is larger than 4095 (`MAX_ERRNO`, include/linux/err.h).
fn errno(value: u32) -> Option<i32> {
    nonzero(value).map(|value| value.min(4095) as i32)
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
    })
}

/// Who it was; the rest is read from `/proc`, found by the time at which the process started.
fn process(task: &wire::Task) -> Process {
    let name = task.comm.split(|byte| *byte == 0).next().unwrap_or_default();
    Process {
        pid: nonzero(task.pid),
        ns_pid: nonzero(task.ns_pid),
        ppid: nonzero(task.parent),
        uid: Some(task.uid),
        comm: (!name.is_empty()).then(|| escape(name)),
        exe: None,
        start_time: None,
        container: None,
    }
}
