//! Bytes from the kernel: whatever they are, they give an event or an error.

use std::net::IpAddr;

use proptest::prelude::*;
use tracer::decode::{DecodeError, Decoded, decode, is_loss};
use tracer::event::{Closer, Event, ExitStatus, Mono};
use tracer::line::{SentBy, Via};
use tracer_ebpf as wire;

fn bytes<T>(record: &T) -> Vec<u8> {
    // SAFETY: the wire types have no padding, so that each of their bytes is initialised.
    unsafe { std::slice::from_raw_parts(std::ptr::from_ref(record).cast::<u8>(), size_of::<T>()) }.to_vec()
}

fn header<T>(kind: u32) -> wire::Header {
    wire::Header { kind, size: size_of::<T>() as u32, time: 7_000 }
}

fn socket(family: u16, local: &str, remote: &str) -> wire::Socket {
    let raw = |addr: &str| -> [u8; 16] {
        let mut out = [0; 16];
        match addr.parse::<IpAddr>().unwrap() {
            IpAddr::V4(v4) => out[..4].copy_from_slice(&v4.octets()),
            IpAddr::V6(v6) => out = v6.octets(),
        }
        out
    };
    wire::Socket {
        cookie: 11,
        inode: 22,
        netns_cookie: 33,
        netns: 44,
        device: 0,
        local: raw(local),
        remote: raw(remote),
        local_port: 40_000,
        remote_port: 18_789,
        family,
        v6only: 0,
    }
}

fn task(comm: &[u8]) -> wire::Task {
    let mut name = [0; 16];
    name[..comm.len()].copy_from_slice(comm);
    wire::Task {
        start_time: 5_000_000_000,
        cgroup: 1,
        pid: 100,
        tid: 101,
        ns_pid: 7,
        parent: 1,
        uid: 1000,
        reserved: 0,
        comm: name,
    }
}

fn refused() -> wire::Refused {
    wire::Refused {
        header: header::<wire::Refused>(wire::kind::REFUSED),
        socket: socket(2, "127.0.0.1", "127.0.0.1"),
        task: task(b"curl"),
        started: 5_000,
        via: wire::via::RST,
        sent_by: wire::sent_by::TCP,
    }
}

#[test]
fn a_refusal() {
    let Decoded { event: Event::Refused(refused), start_boottime } = decode(&bytes(&refused())).unwrap()
    else {
        panic!("not a refusal");
    };
    assert_eq!(start_boottime, 5_000_000_000);
    assert_eq!((refused.time, refused.started), (Mono(7_000), Mono(5_000)));
    assert_eq!((refused.dst, refused.dst_port), ("127.0.0.1".parse().unwrap(), 18_789));
    assert_eq!((refused.src_port, refused.device), (Some(40_000), None));
    assert_eq!((refused.via, refused.sent_by), (Via::Rst, Some(SentBy::Tcp)));
    assert_eq!(
        (refused.client.pid, refused.client.ns_pid, refused.client.uid),
        (Some(100), Some(7), Some(1000))
    );
    assert_eq!(refused.client.comm.as_deref(), Some("curl"));
}

#[test]
fn an_ipv4_mapped_address_is_ipv4() {
    let record = wire::Refused { socket: socket(10, "::ffff:127.0.0.1", "::ffff:100.1.2.3"), ..refused() };
    let Event::Refused(refused) = decode(&bytes(&record)).unwrap().event else { panic!("not a refusal") };
    assert_eq!(refused.dst, "100.1.2.3".parse::<IpAddr>().unwrap());
    assert_eq!(refused.src, "127.0.0.1".parse::<IpAddr>().unwrap());
}

#[test]
fn a_listener_opens_and_closes() {
    let mut socket = socket(10, "::", "::");
    (socket.local_port, socket.v6only) = (18_789, 1);
    let record = wire::Opened {
        header: header::<wire::Opened>(wire::kind::OPENED),
        socket,
        task: task(b"node"),
        backlog: 511,
        reserved: 0,
    };
    let Event::Opened(opened) = decode(&bytes(&record)).unwrap().event else { panic!("not an opening") };
    assert_eq!((opened.listener.port, opened.listener.v6only), (18_789, Some(true)));
    assert_eq!((opened.listener.backlog, opened.listener.since), (Some(511), Some(Mono(7_000))));
    assert_eq!((opened.tid, opened.netns_cookie), (101, 33));

    let closed = |closer, exit_code| {
        let record = wire::Closed {
            header: header::<wire::Closed>(wire::kind::CLOSED),
            socket,
            task: task(b"node"),
            shutdown: 3,
            closer,
            exit_code,
            reserved: 0,
        };
        let Event::Closed(closed) = decode(&bytes(&record)).unwrap().event else { panic!("not a closing") };
        closed.closer
    };
    assert_eq!(closed(0, 9), Closer::Process);
    assert_eq!(closed(1, 78 << 8), Closer::Ending(ExitStatus::Code(78)));
    assert_eq!(closed(1, 9), Closer::Ending(ExitStatus::Signal(9)));
    assert_eq!(closed(2, 0), Closer::Kernel);
    assert_eq!(closed(1, 139), Closer::Ending(ExitStatus::Signal(11)), "with a core dump");
}

#[test]
fn a_hostile_name_is_escaped() {
    let record = wire::Refused { task: task(b"\x1b[2J\n\xffcurl"), ..refused() };
    let Event::Refused(refused) = decode(&bytes(&record)).unwrap().event else { panic!("not a refusal") };
    assert_eq!(refused.client.comm.as_deref(), Some("\\x1b[2J\\n\\xffcurl"));
}

#[test]
fn what_is_no_record_is_an_error() {
    let good = bytes(&refused());
    let error = |bytes: &[u8]| decode(bytes).unwrap_err();
    assert_eq!(error(&[]), DecodeError::Truncated { bytes: 0 });
    assert_eq!(error(&good[..15]), DecodeError::Truncated { bytes: 15 });
    assert_eq!(error(&good[..good.len() - 1]), DecodeError::WrongSize { kind: 3, bytes: good.len() - 1 });
    let oversized = [good.clone(), vec![0]].concat();
    assert_eq!(error(&oversized), DecodeError::WrongSize { kind: 3, bytes: good.len() + 1 });
    let with = |change: fn(&mut wire::Refused)| {
        let mut record = refused();
        change(&mut record);
        bytes(&record)
    };
    assert_eq!(error(&with(|record| record.header.kind = 99)), DecodeError::UnknownKind(99));
    assert_eq!(
        error(&with(|record| record.header.size = 8)),
        DecodeError::WrongSize { kind: 3, bytes: good.len() }
    );
    assert_eq!(error(&with(|record| record.socket.family = 1)), DecodeError::UnknownFamily(1));
    assert_eq!(error(&with(|record| record.via = 0)), DecodeError::UnknownValue { field: "via", value: 0 });
    assert_eq!(
        error(&with(|record| record.sent_by = 9)),
        DecodeError::UnknownValue { field: "sent_by", value: 9 }
    );
}

#[test]
fn that_something_was_lost_is_no_event_and_no_error_of_the_reader() {
    let record = bytes(&header::<wire::Header>(wire::kind::LOST));
    assert!(is_loss(&record));
    assert_eq!(decode(&record), Err(DecodeError::UnknownKind(wire::kind::LOST)));
    assert!(!is_loss(&record[1..]) && !is_loss(&[record.clone(), vec![0]].concat()));
    assert!(!is_loss(&bytes(&header::<wire::Header>(wire::kind::EXITED))));
}

proptest! {
    #[test]
    fn never_panics(bytes: Vec<u8>) {
        let _ = decode(&bytes);
    }

    /// The same with the kind and the size right, so that what is behind them is reached.
    #[test]
    fn never_panics_behind_the_header(kind in 0u32..5, mut bytes in prop::collection::vec(any::<u8>(), 16..200)) {
        for size in [size_of::<wire::Opened>(), size_of::<wire::Closed>(), size_of::<wire::Refused>()] {
            bytes.resize(size, 0xa5);
            bytes[..4].copy_from_slice(&kind.to_le_bytes());
            bytes[4..8].copy_from_slice(&(size as u32).to_le_bytes());
            let _ = decode(&bytes);
        }
    }
}
