//! Bytes from the kernel: whatever they are, they give an event or an error.

use std::net::IpAddr;

use proptest::prelude::*;
use tracer::model::kernel_event::{ClosedElsewhere, Closer, ExecutedProgram, KernelEvent};
use tracer::model::kernel_event::{IcmpSender, SentBy, Via};
use tracer::model::process::{ExitStatus, Text};
use tracer::model::socket::{Listener, NetnsId, SocketKey};
use tracer::model::time::Mono;
use tracer::model::time::StartTime;
use tracer::stream::decode::{DecodeError, decode, is_loss};
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
        role: wire::role::CLIENT,
        icmp_device: 0,
        icmp_sender: [0; 16],
    }
}

#[test]
fn a_refusal() {
    let KernelEvent::Refused(refused) = decode(&bytes(&refused())).unwrap() else {
        panic!("not a refusal");
    };
    assert_eq!(refused.client.start, Some(StartTime::from_boottime(5_000_000_000)));
    assert_eq!((refused.time, refused.started), (Mono(7_000), Mono(5_000)));
    assert_eq!((refused.dst, refused.dst_port), ("127.0.0.1".parse().unwrap(), 18_789));
    assert_eq!((refused.src_port, refused.device), (Some(40_000), None));
    assert_eq!((refused.via, refused.sent_by), (Via::Rst, Some(SentBy::Tcp)));
    assert_eq!(
        (refused.client.pid, refused.client.ns_pid, refused.client.uid),
        (Some(100), Some(7), Some(1000))
    );
    assert_eq!(refused.client.comm, Some("curl".into()));
}

#[test]
fn a_refusal_by_icmp_with_its_sender() {
    let sender = |device, addr: &str| {
        let icmp_sender = addr.parse::<std::net::Ipv6Addr>().unwrap().octets();
        let record = wire::Refused {
            via: wire::via::ICMP,
            sent_by: wire::sent_by::UNKNOWN,
            icmp_device: device,
            icmp_sender,
            ..refused()
        };
        let KernelEvent::Refused(refused) = decode(&bytes(&record)).unwrap() else { panic!("not a refusal") };
        assert_eq!(refused.via, Via::Icmp);
        refused.icmp
    };
    let known = |device, addr: &str| Some(IcmpSender { addr: addr.parse().unwrap(), device });
    assert_eq!(sender(7, "::ffff:172.17.0.1"), known(7, "172.17.0.1"));
    assert_eq!(sender(1, "2001:db8::1"), known(1, "2001:db8::1"));
    // What could not be read is not known.
    assert_eq!(sender(0, "2001:db8::1"), None);
    assert_eq!(sender(2, "::"), None);
}

#[test]
fn an_ipv4_mapped_address_is_ipv4() {
    let record = wire::Refused { socket: socket(10, "::ffff:127.0.0.1", "::ffff:100.1.2.3"), ..refused() };
    let KernelEvent::Refused(refused) = decode(&bytes(&record)).unwrap() else { panic!("not a refusal") };
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
        hashed: wire::hashed::NEVER,
    };
    let KernelEvent::Opened(opened) = decode(&bytes(&record)).unwrap() else { panic!("not an opening") };
    assert_eq!((opened.listener.port, opened.listener.v6only), (18_789, Some(true)));
    assert_eq!((opened.listener.backlog, opened.listener.since), (Some(511), Some(Mono(7_000))));
    assert_eq!((opened.tid, opened.netns_cookie, opened.was_hashed), (101, 33, Some(false)));
    // As of a version that did not read it.
    let record = wire::Opened { hashed: 0, ..record };
    let KernelEvent::Opened(opened) = decode(&bytes(&record)).unwrap() else { panic!("not an opening") };
    assert_eq!(opened.was_hashed, None);
    let record = wire::Opened { hashed: 3, ..record };
    assert_eq!(decode(&bytes(&record)), Err(DecodeError::UnknownValue { field: "hashed", value: 3 }));

    let record = wire::Opened {
        header: header::<wire::Opened>(wire::kind::OPENED_ELSEWHERE),
        hashed: wire::hashed::UNKNOWN,
        ..record
    };
    let KernelEvent::OpenedElsewhere(elsewhere) = decode(&bytes(&record)).unwrap() else {
        panic!("not an opening on another port")
    };
    assert_eq!(elsewhere, opened);
    let record = wire::Closed {
        header: header::<wire::Closed>(wire::kind::CLOSED_ELSEWHERE),
        socket,
        task: task(b"node"),
        shutdown: 3,
        closer: wire::closer::PROCESS,
        exit_code: 0,
        hashed: wire::hashed::ONCE,
    };
    let KernelEvent::ClosedElsewhere(closed) = decode(&bytes(&record)).unwrap() else {
        panic!("not a closing on another port")
    };
    let Listener { netns, key, .. } = elsewhere.listener;
    assert_eq!(closed, ClosedElsewhere { time: Mono(7_000), netns, key });

    let closed = |closer, exit_code| {
        let record = wire::Closed {
            header: header::<wire::Closed>(wire::kind::CLOSED),
            socket,
            task: task(b"node"),
            shutdown: 3,
            closer,
            exit_code,
            hashed: wire::hashed::ONCE,
        };
        let KernelEvent::Closed(closed) = decode(&bytes(&record)).unwrap() else { panic!("not a closing") };
        assert_eq!(closed.was_hashed, Some(true));
        closed.closer
    };
    assert_eq!(closed(0, 9), Closer::Process);
    assert_eq!(closed(1, 78 << 8), Closer::Ending(ExitStatus::Code(78)));
    assert_eq!(closed(1, 9), Closer::Ending(ExitStatus::Signal(9)));
    assert_eq!(closed(2, 0), Closer::Kernel);
    assert_eq!(closed(3, 0), Closer::Exec);
    assert_eq!(closed(1, 139), Closer::Ending(ExitStatus::Signal(11)), "with a core dump");
}

#[test]
fn the_result_of_a_listen() {
    for (succeeded, has_succeeded) in [(1, true), (0, false)] {
        let record = wire::Listened {
            header: header::<wire::Listened>(wire::kind::LISTENED),
            socket: socket(2, "127.0.0.1", "0.0.0.0"),
            succeeded,
        };
        let KernelEvent::Listened(listened) = decode(&bytes(&record)).unwrap() else {
            panic!("not a result")
        };
        assert_eq!(listened.key, SocketKey { inode: 22, cookie: 11 });
        assert_eq!((listened.netns, listened.netns_cookie), (NetnsId(44), 33));
        assert_eq!((listened.time, listened.has_succeeded), (Mono(7_000), has_succeeded));
    }
}

fn executed() -> wire::Executed {
    let mut record = wire::Executed {
        header: header::<wire::Executed>(wire::kind::EXECUTED),
        task: task(b"openclaw"),
        netns_cookie: 33,
        netns: 44,
        arguments_bytes: 18,
        is_cut: 0,
        reserved: 0,
        // What follows the name and the arguments is of an earlier record.
        file_name: [7; wire::FILE_NAME_BYTES],
        arguments: [7; wire::ARGUMENTS_BYTES],
    };
    record.file_name[..5].copy_from_slice(b"node\0");
    record.arguments[..18].copy_from_slice(b"node\0openclaw\0\xff\0\n\0");
    record
}

fn program_of(record: &wire::Executed) -> ExecutedProgram {
    let KernelEvent::Executed(executed) = decode(&bytes(record)).unwrap() else { panic!("not a start") };
    executed.program.expect("its program")
}

#[test]
fn a_program_that_starts() {
    let program = program_of(&executed());
    let expected = ExecutedProgram {
        netns: NetnsId(44),
        netns_cookie: 33,
        file_name: "node".into(),
        arguments: Some(Text::new(b"node\0openclaw\0\xff\0\n\0")),
        is_cut: false,
    };
    assert_eq!(program, expected);
    let cut = program_of(&wire::Executed { arguments_bytes: 1_024, is_cut: 1, ..executed() });
    assert_eq!((cut.arguments.map(|text| text.as_bytes().len()), cut.is_cut), (Some(1_024), true));
    let none = program_of(&wire::Executed { arguments_bytes: 0, ..executed() });
    assert_eq!(none.arguments, Some(Text::new(b"")));
    let unknown = program_of(&wire::Executed { arguments_bytes: wire::MISSING, ..executed() });
    assert_eq!(unknown.arguments, None);
    let record = wire::Executed { arguments_bytes: 1_025, ..executed() };
    let error = DecodeError::UnknownValue { field: "arguments_bytes", value: 1_025 };
    assert_eq!(decode(&bytes(&record)), Err(error));
}

#[test]
fn a_fork() {
    let record = wire::Forked {
        header: header::<wire::Forked>(wire::kind::FORKED),
        task: wire::Task { parent: 90, ..task(b"node") },
    };
    let KernelEvent::Forked(forked) = decode(&bytes(&record)).unwrap() else { panic!("not a fork") };
    assert_eq!((forked.time, forked.parent, forked.child.pid), (Mono(7_000), Some(90), Some(100)));
}

#[test]
fn a_destination_that_a_holder_reached() {
    let record = wire::Connected {
        header: header::<wire::Connected>(wire::kind::REACHED),
        socket: refused().socket,
        task: wire::Task { parent: 90, ..task(b"nginx") },
        started: 6_000,
    };
    let KernelEvent::Reached(reached) = decode(&bytes(&record)).unwrap() else { panic!("not a reach") };
    assert_eq!((reached.client.pid, reached.client.ppid), (Some(100), Some(90)));
    assert_eq!(reached.dst_port, refused().socket.remote_port);
}

#[test]
fn a_hostile_name_stays_as_it_is() {
    let record = wire::Refused { task: task(b"\x1b[2J\n\xffcurl"), ..refused() };
    let KernelEvent::Refused(refused) = decode(&bytes(&record)).unwrap() else { panic!("not a refusal") };
    assert_eq!(refused.client.comm.unwrap().as_bytes(), b"\x1b[2J\n\xffcurl");
}

#[test]
fn bytes_that_are_not_a_record_are_an_error() {
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
fn a_loss_record_is_neither_an_event_nor_an_error() {
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
