//! What the kernel side keeps has bounds (tracer-ebpf/src/lib.rs): at each of them tracer says what it costs, and is whole
//! again when there is room.
//!
//! Where it would take thousands of processes to get there, the test fills the map itself.

use libtest_mimic::Trial;
use rustix::io::Errno;
use tracer::line::{Because, Body, Call, Cause, LostWhere, SentBy};
use tracer_ebpf::{ATTEMPTS_MAX, BINDING_MAX, BOUND_MAX, FOLLOWED_MAX, REFUSED_MAX, RESETS_MAX};

use crate::support::cast::{Actor, Costume};
use crate::support::maps;
use crate::support::needs::Need;
use crate::support::poll;
use crate::support::story::{Listen, Story, mono_now_us};
use crate::support::tracer::Log;
use crate::trial;

const NEEDS: &[Need] = &[Need::Root, Need::Network];
const NEEDS_NFT: &[Need] = &[Need::Root, Need::Network, Need::Nft];

/// Process ids that the kernel never gives: above its own bound (`PID_MAX_LIMIT`, include/linux/threads.h).
const NOBODY: u32 = 1 << 23;

pub fn trials() -> Vec<Trial> {
    vec![
        trial("bounds::connects_under_way", NEEDS, connects_under_way),
        trial("bounds::bound_sockets", NEEDS, bound_sockets),
        trial("bounds::followed_processes", NEEDS, followed_processes),
        trial("bounds::processes_refused_a_moment_ago", NEEDS, refused_processes),
        trial("bounds::calls_of_bind", NEEDS, calls_of_bind),
        trial("bounds::resets_that_meet", NEEDS_NFT, resets_that_meet),
    ]
}

fn actor(story: &Story, comm: &str) -> Actor {
    Actor::start(&story.netns.place(), &Costume::named(comm))
}

/// Waits until so many were told as lost there.
fn wait_lost(story: &mut Story, place: LostWhere, expected: u64) {
    let mut lost = 0;
    story.tracer().wait_for(&format!("{expected} lost in {place:?}"), |line| {
        if let Body::Lost(loss) = &line.body
            && loss.place == place
        {
            lost += loss.records;
        }
        (lost >= expected).then_some(())
    });
    assert_eq!(lost, expected, "lost in {place:?}");
}

/// Those that the table has no room for are counted, each of them and at once, though no record tells of them.
fn connects_under_way() {
    const OVER: u32 = 100;
    let mut story = Story::begin();
    story.trace();
    // Nobody answers there, and nobody says that there is nobody.
    story.netns.ip("neigh add 10.77.0.99 lladdr 02:00:00:00:00:99 dev eth0 nud permanent");
    let mut crowd = actor(&story, "crowd");
    crowd.must(&format!("hoard connect 10.77.0.99:{} {}", story.port(), ATTEMPTS_MAX + OVER));
    wait_lost(&mut story, LostWhere::Attempts, u64::from(OVER));
    let mut unseen = actor(&story, "unseen");
    let command = story.connect_command(&"127.0.0.1".into());
    assert_eq!(unseen.ask(&command), Err(Errno::CONNREFUSED.raw_os_error()));
    wait_lost(&mut story, LostWhere::Attempts, u64::from(OVER) + 1);
    crowd.must("release");
    story.refused("127.0.0.1").cause(Cause::NothingListening);
    let log = story.tracer.take().expect("a story that is traced").stop_with_losses();
    assert_eq!(log.refusals().count(), 1, "{}", log.text());
}

/// Those that are not followed are told all the same, and are not taken for there when they are gone.
fn bound_sockets() {
    let mut story = Story::begin();
    story.trace();
    let mut crowd = actor(&story, "crowd");
    crowd.must(&format!("hoard bind 127.20.0.0:{} {}", story.port(), BOUND_MAX + 100));
    let sees_binds = !story.tracer().is_limited("no-binds");
    let lists = !story.tracer().is_limited("bound-before-start");
    if sees_binds || lists {
        story.refused("127.0.0.1").cause(Cause::BoundNotListening);
    }
    crowd.must("release");
    // A look at so many takes its time, and is not taken all the time.
    poll("the end of all of them", || {
        let refusal = story.refused("127.0.0.1");
        (refusal.line.verdict.cause == Cause::NothingListening).then_some(())
    });
    let log = story.end();
    let is_bind =
        |body: &Body| matches!(body, Body::Bind(bind) if bind.call == Call::Bind && bind.errno.is_none());
    let binds = log.lines.iter().filter(|line| is_bind(&line.body)).count();
    assert_eq!(binds, if sees_binds { BOUND_MAX as usize + 100 } else { 0 });
}

/// How a server ended is not told then, which is a doubt; and it is not taken to live for ever.
fn followed_processes() {
    let mut story = Story::begin();
    story.trace();
    if story.tracer().is_limited("no-exits") {
        story.end();
        return;
    }
    let mut followed = maps::by_process(story.tracer().pid(), "FOLLOWED");
    let mut strangers = Vec::new();
    for stranger in NOBODY..NOBODY + FOLLOWED_MAX {
        if followed.insert(stranger, 1, 0).is_err() {
            break;
        }
        strangers.push(stranger);
    }
    assert!(followed.insert(NOBODY + FOLLOWED_MAX, 1, 0).is_err(), "it is full");
    let server = |story: &Story| Actor::start(&story.netns.place(), &Costume::program("openclaw-gateway"));
    let mut unseen = server(&story);
    let refusal = story.refused("127.0.0.1");
    assert_eq!(refusal.line.verdict.cause, Cause::Starting, "{}", refusal.told());
    drop(refusal);
    wait_lost(&mut story, LostWhere::Followed, 1);
    unseen.exit(78);
    poll("a look at every process", || {
        let refusal = story.refused("127.0.0.1");
        assert!(refusal.line.verdict.because.contains(&Because::LostRecords), "{}", refusal.told());
        (refusal.line.verdict.cause == Cause::NothingListening).then_some(())
    });
    for stranger in strangers {
        followed.remove(&stranger).expect("to make room");
    }
    let mut seen = server(&story);
    assert_eq!(story.refused("[::1]").line.verdict.cause, Cause::Starting);
    seen.exit(78);
    let refusal = story.refused("[::1]");
    assert_eq!(refusal.line.verdict.cause, Cause::NeverListened, "{}", refusal.told());
    drop(refusal);
    story.tracer.take().expect("a story that is traced").stop_with_losses();
}

/// The one that was refused last has a place, whatever was there.
fn refused_processes() {
    let mut story = Story::begin();
    let _gateway = story.listen("127.0.0.1");
    story.trace();
    let mut refused = maps::forgetful_by_process(story.tracer().pid(), "REFUSED");
    for stranger in NOBODY..NOBODY + 2 * REFUSED_MAX {
        refused.insert(stranger, 0, 0).expect("one that forgets always has room");
    }
    let mut client = actor(&story, "curl");
    let port = story.port();
    client.must(&format!("reach [::1]:{port} 127.0.0.1:{port}"));
    story.tracer().wait_for("the other family's answer", |line| match &line.body {
        Body::Fallback(_) => Some(()),
        _ => None,
    });
    story.end();
}

/// Where bind() is followed by its system call: what was left behind there is in nobody's way.
fn calls_of_bind() {
    /// `struct Binding` of tracer-ebpf/src/emit.rs.
    const BYTES: usize = 32;
    let mut story = Story::begin();
    story.trace_with(&["--bind-hook", "tracepoint"]);
    if !story.tracer().is_limited("no-binds") {
        let mut binding = maps::forgetful_by_thread::<BYTES>(story.tracer().pid(), "BINDING");
        for stranger in 0..2 * u64::from(BINDING_MAX) {
            binding.insert(stranger << 32, [0; BYTES], 0).expect("one that forgets always has room");
        }
    }
    let log = bind_and_end(story);
    let binds = log.lines.iter().filter(|line| matches!(line.body, Body::Bind(_))).count();
    let expected = usize::from(!log_is_limited(&log, "no-binds"));
    assert_eq!(binds, expected, "{}", log.text());
}

fn bind_and_end(mut story: Story) -> Log {
    let _gateway = story.listen(Listen::at("127.0.0.1"));
    story.end()
}

fn log_is_limited(log: &Log, what: &str) -> bool {
    match &log.lines[0].body {
        Body::Start(start) => start.limits.iter().any(|limit| limit.what == what),
        other => panic!("the first line is {other:?}"),
    }
}

/// A reset in the place of another says nothing of who sent that.
fn resets_that_meet() {
    let mut story = Story::begin();
    let _gateway = story.listen("127.0.0.1");
    story.netns.nft(&format!(
        "table inet filter {{
            chain input {{
                type filter hook input priority 0
                tcp dport {} reject with tcp reset
            }}
        }}",
        story.port()
    ));
    story.trace();
    let knows_senders = story.tracer().hooks("tcp_send_reset");
    let refused = |story: &mut Story, comm: &str| {
        let mut client = actor(story, comm);
        let command = story.connect_command(&"127.0.0.1".into());
        assert_eq!(client.ask(&command), Err(Errno::CONNREFUSED.raw_os_error()));
        story.tracer().refused(client.pid).sent_by
    };
    assert_eq!(refused(&mut story, "client"), knows_senders.then_some(SentBy::Filter));
    // Of another number, and sent later than any connect of this trial: half a word of each, the time in units of 2^16 ns.
    let later = ((mono_now_us() * 1_000) >> 16) + 1_000_000;
    let other = 1 << 32 | later & u64::from(u32::MAX);
    let mut resets = maps::numbers(story.tracer().pid(), "RESETS");
    for place in 0..RESETS_MAX {
        resets.set(place, other, 0).expect("to set a number");
    }
    assert_eq!(refused(&mut story, "another"), None);
    story.end();
}
