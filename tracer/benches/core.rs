//! What a refusal costs the pure core, from the record to the JSON line: `cargo bench -p tracer`.

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use tracer::lifecycle::core::{Core, Settings};
use tracer::model::clock::Clock;
use tracer::model::namespace::{Link, LocalRoute, Namespace};
use tracer::model::process::Process;
use tracer::model::socket::{Listener, NetnsId, SocketKey};
use tracer::model::time::{Interval, Mono};
use tracer::output::json::Json;
use tracer::output::lines::Lines;
use tracer::query::{Scan, ScanScope};
use tracer::stream::decode::decode;
use tracer::verdict::coverage::{Destination, mismatch};
use tracer_ebpf as wire;
use uuid::Uuid;

const NETNS: u32 = 4_026_531_840;
const PORT: u16 = 18_789;
const BEGAN: Mono = Mono(100_000_000_000);
const CLOCK: Clock = Clock { realtime_offset: 1_795_344_062_000_000_000, boottime_offset: 0 };

/// The ring's record of `curl` that is refused at 127.0.0.1, a second after the snapshot.
fn record() -> Vec<u8> {
    let local = [127, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let mut comm = [0; 16];
    comm[..4].copy_from_slice(b"curl");
    let record = wire::Refused {
        header: wire::Header {
            kind: wire::kind::REFUSED,
            size: size_of::<wire::Refused>() as u32,
            time: BEGAN.0 + 1_000_200_000,
        },
        socket: wire::Socket {
            cookie: 11,
            inode: 22,
            netns_cookie: 1,
            netns: NETNS,
            device: 0,
            local,
            remote: local,
            local_port: 40_000,
            remote_port: PORT,
            family: 2,
            v6only: 0,
        },
        task: wire::Task {
            start_time: 5_000_000_000,
            cgroup: 1,
            pid: 100,
            tid: 100,
            ns_pid: 100,
            parent: 1,
            uid: 1000,
            reserved: 0,
            comm,
        },
        started: BEGAN.0 + 1_000_000_000,
        via: wire::via::RST,
        sent_by: wire::sent_by::TCP,
        role: wire::role::CLIENT,
        icmp_device: 0,
        icmp_sender: [0; 16],
    };
    // SAFETY: the wire types have no padding, so that each of their bytes is initialised.
    unsafe {
        std::slice::from_raw_parts(std::ptr::from_ref(&record).cast::<u8>(), size_of::<wire::Refused>())
    }
    .to_vec()
}

/// A server on an address that is not 127.0.0.1.
fn listener(index: u32) -> Listener {
    let addr = IpAddr::V4(Ipv4Addr::from(u32::from(Ipv4Addr::new(127, 1, 0, 0)) + index));
    Listener {
        key: SocketKey { inode: u64::from(index) + 1, cookie: u64::from(index) + 1 },
        netns: NetnsId(NETNS),
        addr,
        port: PORT,
        v6only: None,
        device: None,
        backlog: Some(511),
        since: None,
        process: Process {
            pid: Some(4_242),
            comm: Some("openclaw-gatewa".into()),
            uid: Some(1_000),
            ..Process::default()
        },
        opener: None,
    }
}

/// A core that knows so many listeners on the port.
fn core(listeners: u32) -> Core {
    let mut core = Core::without_scan(Settings::default());
    let namespace = Namespace {
        id: NetnsId(NETNS),
        cookie: 1,
        name: None,
        is_own: true,
        links: vec![Link { index: 1, name: "lo".to_owned(), master: None, vrf_table: None, peer: None }],
        local: vec![LocalRoute { addr: [127, 0, 0, 0].into(), prefix_len: 8, device: 1, table: 255 }],
        l3mdev_accept: Some(false),
    };
    let scan = Scan {
        scope: ScanScope::Host { is_partial: false },
        namespaces: vec![namespace],
        listeners: (0..listeners).map(listener).collect(),
        unreadable: Vec::new(),
    };
    core.state.scanned(scan, Interval { began: BEGAN, ended: BEGAN });
    core.state.health.ready = true;
    core
}

/// Decodes the record, classifies the refusal, plans its queries, and writes its line by what is known.
fn refuse(core: &mut Core, record: &[u8]) -> Vec<u8> {
    let mut lines = Lines::new(Uuid::nil(), CLOCK);
    let now = Mono(BEGAN.0 + 1_000_300_000);
    let event = decode(record).expect("a record of this version");
    let mut findings = core.event(event, now);
    findings.extend(core.finish());
    let mut text = Vec::new();
    for finding in findings {
        let line = lines.finding(finding, &core.state);
        Json::default().write(&line, &mut text).expect("a vector takes everything");
    }
    text
}

fn refusals(criterion: &mut Criterion) {
    let record = record();
    for (name, listeners) in [("refusal", 1), ("refusal, 10,000 listeners", 10_000)] {
        let line = refuse(&mut core(listeners), &record);
        let line = String::from_utf8(line).expect("JSON is UTF-8");
        assert!(line.contains(r#""cause":"wrong-address""#), "what is measured: {line}");
        criterion.bench_function(name, |bencher| {
            bencher.iter_batched_ref(
                || core(listeners),
                |core| refuse(core, black_box(&record)),
                BatchSize::PerIteration,
            );
        });
    }
}

fn coverage(criterion: &mut Criterion) {
    let listeners: Vec<Listener> = (0..10_000).map(listener).collect();
    let destination =
        Destination { netns: NetnsId(NETNS), addr: [127, 0, 0, 1].into(), port: PORT, route: None };
    let mut group = criterion.benchmark_group("coverage");
    group.throughput(Throughput::Elements(listeners.len() as u64));
    group.bench_function("10,000 listeners", |bencher| {
        bencher.iter(|| {
            let covers = |listener: &&Listener| mismatch(listener, black_box(&destination)).is_none();
            black_box(&listeners).iter().filter(covers).count()
        });
    });
    group.finish();
}

criterion_group!(benches, refusals, coverage);
criterion_main!(benches);
