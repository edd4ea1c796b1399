//! What the kernel side keeps has bounds (tracer-ebpf/src/lib.rs): at each of them tracer reports what it costs, and is complete
//! again when there is room.
//!
//! Where it would take thousands of processes to get there, the test fills the map itself.

use libtest_mimic::Trial;
use rustix::io::Errno;
use tracer::output::schema::{Because, Body, Call, Cause, LostWhere, SentBy};
use tracer_ebpf::{
    ATTEMPTS_MAX, BINDING_MAX, BOUND_MAX, FOLLOWED_MAX, NAME_BYTES, NAMES_MAX, REFUSED_MAX, RESETS_MAX,
};

use tests::fixture::{Fixture, Listen, mono_now_us};
use tests::limits;
use tests::maps;
use tests::needs::Need;
use tests::poll;
use tests::process::{Actor, ProcessSpec};
use tests::suite::{test, test_alone};
use tests::tracer::Log;

const NEEDS: &[Need] = &[Need::Root, Need::Network];
const NEEDS_NFT: &[Need] = &[Need::Root, Need::Network, Need::Nft];

/// Process ids that the kernel never gives: above its own bound (`PID_MAX_LIMIT`, include/linux/threads.h).
const NOBODY: u32 = 1 << 23;

pub fn all() -> Vec<Trial> {
    vec![
        test("bounds::connects_under_way", NEEDS, connects_under_way),
        test("bounds::bound_sockets", NEEDS, bound_sockets),
        // Every process that starts by the gateway's name counts, those of other tests too.
        test_alone("bounds::followed_processes", NEEDS, followed_processes),
        test("bounds::names_of_programs", NEEDS, names_of_programs),
        test("bounds::processes_refused_a_moment_ago", NEEDS, refused_processes),
        test("bounds::calls_of_bind", NEEDS, calls_of_bind),
        test("bounds::resets_that_meet", NEEDS_NFT, resets_that_meet),
    ]
}

fn actor(fixture: &Fixture, comm: &str) -> Actor {
    Actor::start(&fixture.netns.place(), &ProcessSpec::named(comm))
}

/// Waits until so many were reported as lost there.
fn wait_lost(fixture: &mut Fixture, place: LostWhere, expected: u64) {
    assert_eq!(lost_of(fixture, place, expected), expected, "lost in {place:?}");
}

/// Waits until at least so many were reported as lost there; gives how many.
fn lost_of(fixture: &mut Fixture, place: LostWhere, expected: u64) -> u64 {
    let mut lost = 0;
    fixture.tracer().wait_for(&format!("{expected} lost in {place:?}"), |line| {
        if let Body::Lost(loss) = &line.body
            && loss.place == place
        {
            lost += loss.records;
        }
        (lost >= expected).then_some(())
    });
    lost
}

/// Connects that the table has no room for are counted one by one, immediately, although they have no record.
fn connects_under_way() {
    const OVER: u32 = 100;
    let mut fixture = Fixture::begin();
    fixture.trace();
    // Connects there get no answer, neither SYN-ACK nor RST.
    fixture.netns.ip("neigh add 10.77.0.99 lladdr 02:00:00:00:00:99 dev eth0 nud permanent");
    let mut bulk = actor(&fixture, "bulk");
    bulk.must(&format!("bulk connect 10.77.0.99:{} {}", fixture.port(), ATTEMPTS_MAX + OVER));
    wait_lost(&mut fixture, LostWhere::Attempts, u64::from(OVER));
    let mut unseen = actor(&fixture, "unseen");
    let command = fixture.connect_command(&"127.0.0.1".into());
    assert_eq!(unseen.ask(&command), Err(Errno::CONNREFUSED.raw_os_error()));
    wait_lost(&mut fixture, LostWhere::Attempts, u64::from(OVER) + 1);
    bulk.must("release");
    fixture.refused("127.0.0.1").cause(Cause::NothingListening);
    let log = fixture.tracer.take().expect("a fixture that is traced").stop_with_losses();
    assert_eq!(log.refusals().count(), 1, "{}", log.text());
}

/// Those that are not followed are reported all the same, and are not taken for bound after they are closed.
fn bound_sockets() {
    let mut fixture = Fixture::begin();
    fixture.trace();
    let mut bulk = actor(&fixture, "bulk");
    bulk.must(&format!("bulk bind 127.20.0.0:{} {}", fixture.port(), BOUND_MAX + 100));
    fixture.refused("127.0.0.1").cause(Cause::BoundNotListening);
    bulk.must("release");
    // A query of so many takes its time, and is not made all the time. The process is running, and may bind again.
    poll("the end of all of them", || {
        let refusal = fixture.refused("127.0.0.1");
        (refusal.line.verdict.cause == Cause::Starting).then_some(())
    });
    let log = fixture.end();
    let is_bind =
        |body: &Body| matches!(body, Body::Bind(bind) if bind.call == Call::Bind && bind.errno.is_none());
    let binds = log.lines.iter().filter(|line| is_bind(&line.body)).count();
    assert_eq!(binds, BOUND_MAX as usize + 100);
}

/// How a server ended is not reported then, which is an uncertainty; and the server is not taken to run for ever.
fn followed_processes() {
    let mut fixture = Fixture::begin();
    fixture.trace();
    let mut followed = maps::by_process(fixture.tracer().pid(), "FOLLOWED");
    let mut strangers = Vec::new();
    for unused_pid in NOBODY..NOBODY + FOLLOWED_MAX {
        if followed.insert(unused_pid, 1, 0).is_err() {
            break;
        }
        strangers.push(unused_pid);
    }
    assert!(followed.insert(NOBODY + FOLLOWED_MAX, 1, 0).is_err(), "it is full");
    let server =
        |fixture: &Fixture| Actor::start(&fixture.netns.place(), &ProcessSpec::program("openclaw-gateway"));
    let mut unseen = server(&fixture);
    let refusal = fixture.refused("127.0.0.1");
    assert_eq!(refusal.line.verdict.cause, Cause::Starting, "{}", refusal.shown());
    drop(refusal);
    let lost = lost_of(&mut fixture, LostWhere::Followed, 1);
    // Where two programs see each start, because the kernel skips one that is preempted, each counts it.
    let at_most = if limits::is_expected("preempted-programs") { 2 } else { 1 };
    assert!(lost <= at_most, "{lost} lost");
    unseen.exit(78);
    poll("a scan of every process", || {
        let refusal = fixture.refused("127.0.0.1");
        assert!(refusal.line.verdict.because.contains(&Because::LostRecords), "{}", refusal.shown());
        (refusal.line.verdict.cause == Cause::NothingListening).then_some(())
    });
    for unused_pid in strangers {
        followed.remove(&unused_pid).expect("to make room");
    }
    let mut seen = server(&fixture);
    assert_eq!(fixture.refused("[::1]").line.verdict.cause, Cause::Starting);
    seen.exit(78);
    let refusal = fixture.refused("[::1]");
    assert_eq!(refusal.line.verdict.cause, Cause::NeverListened, "{}", refusal.shown());
    drop(refusal);
    fixture.tracer.take().expect("a fixture that is traced").stop_with_losses();
}

/// A server's name, and that of its executable, find no room: both are counted, once.
fn names_of_programs() {
    let mut fixture = Fixture::begin();
    fixture.trace();
    let mut names = maps::by_name(fixture.tracer().pid(), "NAMES");
    let name = |number: u32| {
        let mut name = [0; NAME_BYTES];
        name[..4].copy_from_slice(&number.to_ne_bytes());
        name
    };
    let room = (1..=NAMES_MAX).take_while(|number| names.insert(name(*number), 1, 0).is_ok()).count();
    assert!(room > 0 && names.insert(name(NAMES_MAX + 1), 1, 0).is_err(), "it is full");
    for _ in 0..2 {
        let mut gateway = fixture.listen(Listen::at("127.0.0.1").by(ProcessSpec::named("oddly-named")));
        fixture.close(&mut gateway);
    }
    wait_lost(&mut fixture, LostWhere::Names, 2);
    fixture.tracer.take().expect("a fixture that is traced").stop_with_losses();
}

/// The one that was refused last has a place, whatever was there.
fn refused_processes() {
    let mut fixture = Fixture::begin();
    let _gateway = fixture.listen("127.0.0.1");
    fixture.trace();
    let mut refused = maps::forgetful_by_process(fixture.tracer().pid(), "REFUSED");
    for unused_pid in NOBODY..NOBODY + 2 * REFUSED_MAX {
        refused.insert(unused_pid, 0, 0).expect("one that forgets always has room");
    }
    let mut client = actor(&fixture, "curl");
    let port = fixture.port();
    client.must(&format!("reach [::1]:{port} 127.0.0.1:{port}"));
    fixture.tracer().wait_for("the other family's answer", |line| match &line.body {
        Body::Fallback(_) => Some(()),
        _ => None,
    });
    fixture.end();
}

/// Where bind() is followed by its system call: entries that were left behind do not matter.
fn calls_of_bind() {
    /// `struct Binding` of tracer-ebpf/src/emit.rs.
    const BYTES: usize = 32;
    let mut fixture = Fixture::begin();
    fixture.trace_with(&["--bind-hook", "tracepoint"]);
    let mut binding = maps::forgetful_by_thread::<BYTES>(fixture.tracer().pid(), "BINDING");
    for unused_pid in 0..2 * u64::from(BINDING_MAX) {
        binding.insert(unused_pid << 32, [0; BYTES], 0).expect("one that forgets always has room");
    }
    let log = bind_and_end(fixture);
    let binds = log.lines.iter().filter(|line| matches!(line.body, Body::Bind(_))).count();
    assert_eq!(binds, 1, "{}", log.text());
}

fn bind_and_end(mut fixture: Fixture) -> Log {
    let _gateway = fixture.listen(Listen::at("127.0.0.1"));
    fixture.end()
}

/// A reset in the slot of another does not show who sent that one.
fn resets_that_meet() {
    let mut fixture = Fixture::begin();
    let _gateway = fixture.listen("127.0.0.1");
    fixture.netns.nft(&format!(
        "table inet filter {{
            chain input {{
                type filter hook input priority 0
                tcp dport {} reject with tcp reset
            }}
        }}",
        fixture.port()
    ));
    fixture.trace();
    let knows_senders = !limits::is_expected("no-reset-sender");
    let refused = |fixture: &mut Fixture, comm: &str| {
        let mut client = actor(fixture, comm);
        let command = fixture.connect_command(&"127.0.0.1".into());
        assert_eq!(client.ask(&command), Err(Errno::CONNREFUSED.raw_os_error()));
        fixture.tracer().refused(client.pid).sent_by
    };
    assert_eq!(refused(&mut fixture, "client"), knows_senders.then_some(SentBy::Filter));
    // Of another number, and sent later than any connect of this test: half a word of each, the time in units of 2^16 ns.
    let later = ((mono_now_us() * 1_000) >> 16) + 1_000_000;
    let other = 1 << 32 | later & u64::from(u32::MAX);
    let mut resets = maps::pairs(fixture.tracer().pid(), "RESETS");
    for place in 0..RESETS_MAX {
        resets.set(place, [other, 0], 0).expect("to set a number");
    }
    assert_eq!(refused(&mut fixture, "another"), None);
    fixture.end();
}
