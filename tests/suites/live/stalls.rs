//! A thread that answers queries is stopped, or a file does not open: the lines of refusals come all the same, at most 100
//! ms late, and name the evidence that is missing.

use std::path::Path;

use libtest_mimic::Trial;
use tracer::output::schema::{Because, Body, ConfiguredValue, Line, Refused};

use tests::fixture::{Client, Fixture, Listen, Listening, mono_now_us, wait_past};
use tests::hung_mount::HungMount;
use tests::needs::Need;
use tests::poll;
use tests::process::{Actor, ProcessSpec};
use tests::stopped::{StoppedThread, threads};
use tests::suite::test;
use tests::tracer::Log;

use super::configs::{Home, Hung, bind_of};

const NEEDS: &[Need] = &[Need::Root, Need::Network, Need::RealTime];

/// How often a sign of life comes, and the longest gap between two.
const HEARTBEAT: [&str; 4] = ["--heartbeat", "200ms", "--patience", "100ms"];
const GAP_US: u64 = 400_000;

/// How long a refusal waits for answers of the host.
const PATIENCE_US: u64 = 100_000;

/// How late a line may be besides, where others use the processors too. What waited for a thread that is held up would come
/// seconds late: that goes on until the test ends it.
const SLACK_US: u64 = 650_000;

/// Threads that tracer gives up at a time, and the one that takes the last one's place.
const STUCK_MAX: usize = 33;

pub fn all() -> Vec<Trial> {
    let mut all: Vec<Trial> = LANES
        .iter()
        .map(|lane| test(format!("stalls::stopped::{}", lane.name), NEEDS, move || stopped(lane)))
        .collect();
    all.push(test("stalls::a_named_pipe_and_a_file_that_hangs", NEEDS, pipe_and_hung));
    all.push(test(
        "stalls::a_mount_that_hangs",
        &[Need::Root, Need::Network, Need::RealTime, Need::Fuse],
        hung_mount,
    ));
    all.push(test("stalls::many_files_that_hang", NEEDS, many_hung));
    all
}

/// A thread of tracer, and what depends on it.
struct Lane {
    name: &'static str,
    /// A verdict of [`World`] rests on its answers.
    is_evidence: bool,
}

const LANES: &[Lane] = &[
    Lane { name: "host", is_evidence: true },
    Lane { name: "candidates", is_evidence: true },
    Lane { name: "namespace", is_evidence: true },
    Lane { name: "process", is_evidence: false },
    Lane { name: "settings", is_evidence: false },
];

/// A gateway that listens on another address of the first port, and nothing on the second one.
struct World {
    fixture: Fixture,
    home: Home,
    gateway: Listening,
}

/// A refusal as the log has it.
struct Seen {
    refused: Refused,
    /// From the refusal to its line.
    late_us: u64,
}

impl Seen {
    fn is_unsure(&self) -> bool {
        self.refused.verdict.because.contains(&Because::QueryTimeout)
    }
}

impl World {
    fn begin() -> Self {
        let home = Home::with("lan");
        let mut fixture = Fixture::with_ports(2);
        let gateway = fixture.listen(Listen::at("10.77.0.1").by(home.gateway()));
        fixture.trace_with(&HEARTBEAT);
        Self { fixture, home, gateway }
    }

    /// The refusal of a process's connect to an address that it has not tried before.
    fn refused(&mut self, client: &mut Actor, addr: &str, port: usize) -> Seen {
        let command = self.fixture.connect_command(&Client::blocking(addr).port(port));
        assert!(client.ask(&command).is_err(), "nothing answers at {addr}");
        let number = self.fixture.ports[port].number;
        let is_it = |refused: &Refused| {
            refused.client.pid == Some(client.pid)
                && refused.dst.addr == addr
                && refused.dst.port == Some(number)
        };
        let (mono_us, refused) = self.fixture.tracer().wait_for(addr, |line| match &line.body {
            Body::Refused(refused) if is_it(refused) => Some((line.mono_us, (**refused).clone())),
            _ => None,
        });
        Seen { refused, late_us: mono_now_us() - mono_us }
    }

    /// The same of a process that is not known.
    fn refused_new(&mut self, addr: &str, port: usize) -> Seen {
        let mut client = self.client();
        self.refused(&mut client, addr, port)
    }

    fn client(&self) -> Actor {
        Actor::start(&self.fixture.netns.place(), &ProcessSpec::named("client"))
    }

    fn end(mut self) -> Log {
        let mut seen = 0;
        self.fixture.tracer().wait_for("signs of life", |line| {
            seen += u32::from(matches!(line.body, Body::Alive(_)));
            (seen >= 3).then_some(())
        });
        let log = self.fixture.end();
        assert_no_gap(&log);
        log
    }
}

/// Asserts that signs of life came all the time.
fn assert_no_gap(log: &Log) {
    let is_one = |line: &&Line| matches!(line.body, Body::Ready(_) | Body::Alive(_) | Body::Stop(_));
    let times: Vec<u64> = log.lines.iter().filter(is_one).map(|line| line.mono_us).collect();
    assert!(times.len() > 2, "{}", log.text());
    let widest = times.windows(2).map(|pair| pair[1] - pair[0]).max();
    assert!(widest <= Some(GAP_US), "a gap of {widest:?} us: {times:?}\n{}", log.text());
}

/// One thread alone is stopped while clients are refused.
fn stopped(lane: &Lane) {
    const ROUNDS: u8 = 6;
    let mut world = World::begin();
    let mut known = world.client();
    world.refused(&mut known, "127.0.0.2", 0);
    // The first verdict that rests on an absence has the whole host scanned.
    if lane.name != "host" {
        world.refused(&mut known, "127.0.0.2", 1);
    }
    let pid = world.fixture.tracer().pid();
    let thread = StoppedThread::begin(pid, lane.name);
    let (mut of_new, mut of_known) = (Vec::new(), Vec::new());
    // An expensive query is not repeated immediately.
    let mut number = 0;
    while lane.is_evidence && !of_new.last().is_some_and(Seen::is_unsure) {
        assert!(number < 250, "no verdict lacks what the thread `{}` reads", lane.name);
        of_new.push(world.refused_new(&format!("127.0.4.{number}"), usize::from(number % 2 == 0)));
        number += 1;
    }
    for number in 0..ROUNDS {
        for port in [0, 1] {
            of_new.push(world.refused_new(&format!("127.0.1.{number}"), port));
            of_known.push(world.refused(&mut known, &format!("127.0.2.{number}"), port));
        }
    }
    for seen in of_new.iter().chain(&of_known) {
        assert!(seen.late_us <= PATIENCE_US + SLACK_US, "{} us: {:?}", seen.late_us, seen.refused);
    }
    // Once a thread is given up, none waits for it any more.
    assert!(median(&of_known) < PATIENCE_US / 2, "{}", median(&of_known));
    let is_unsure = of_new.iter().chain(&of_known).any(Seen::is_unsure);
    assert_eq!(is_unsure, lane.is_evidence, "{}", lane.name);
    drop(thread);
    for port in [0, 1] {
        let mut number = 0;
        poll("a verdict that is certain", || {
            number += 1;
            let seen = world.refused_new(&format!("127.0.3.{number}"), port);
            (!seen.is_unsure()).then_some(())
        });
    }
    let log = world.end();
    assert!(log.refusals().count() >= 4 * usize::from(ROUNDS), "{}", log.text());
}

fn median(seen: &[Seen]) -> u64 {
    let mut late: Vec<u64> = seen.iter().map(|seen| seen.late_us).collect();
    late.sort_unstable();
    late[late.len() / 2]
}

/// Beside them, the settings of another server are read.
fn pipe_and_hung() {
    let mut world = World::begin();
    let (pipe, hung) = (Home::new(), Home::with("lan"));
    let place = pipe.path().join("pipe");
    rustix::fs::mknodat(
        rustix::fs::CWD,
        &place,
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR,
        0,
    )
    .expect("to make a named pipe");
    std::os::unix::fs::symlink("../pipe", pipe.file()).expect("to make a link");
    let does_not_open = Hung::begin(&hung.file());
    let of_pipe = world.fixture.listen(Listen::at("[fd77::1]").by(pipe.gateway()));
    let of_hung = world.fixture.listen(Listen::at("[fe80::77%eth0]").by(hung.gateway()));
    // It is read again.
    std::fs::copy(Home::with("tailnet").file(), world.home.file()).expect("to write the configuration");
    for number in 0..6 {
        let seen = world.refused_new(&format!("127.0.1.{number}"), 0);
        assert!(seen.late_us <= PATIENCE_US + SLACK_US, "{} us: {:?}", seen.late_us, seen.refused);
        assert!(!seen.is_unsure(), "{:?}", seen.refused);
    }
    let seen = world.refused_new("127.0.2.1", 0);
    let claims = &seen.refused.verdict.claims;
    let bind = bind_of(claims);
    assert_eq!((bind.pid, bind.value.as_deref()), (Some(world.gateway.pid), Some("tailnet")), "{claims:?}");
    let is_pipe = |configured: &ConfiguredValue| {
        configured.pid == Some(of_pipe.pid) && configured.note.as_deref() == Some("it is a named pipe")
    };
    assert!(claims.iter().any(is_pipe), "{claims:?}");
    assert!(!claims.iter().any(|configured| configured.pid == Some(of_hung.pid)), "{claims:?}");
    drop(does_not_open);
    let mut number = 0;
    poll("the settings that hung", || {
        number += 1;
        let seen = world.refused_new(&format!("127.0.3.{number}"), 0);
        let is_read = |configured: &ConfiguredValue| configured.pid == Some(of_hung.pid);
        seen.refused.verdict.claims.iter().any(is_read).then_some(())
    });
    world.end();
}

/// No path leads to the file.
fn hung_mount() {
    let mut world = World::begin();
    let home = Home::new();
    let directory = home.file().parent().map(Path::to_owned).expect("a directory");
    let fixture = &mut world.fixture;
    let (mount, hung) =
        HungMount::begin(&directory, || fixture.listen(Listen::at("[fd77::1]").by(home.gateway())));
    std::fs::copy(Home::with("tailnet").file(), world.home.file()).expect("to write the configuration");
    let pid = world.fixture.tracer().pid();
    for number in 0..6 {
        let seen = world.refused_new(&format!("127.0.1.{number}"), 0);
        assert!(seen.late_us <= PATIENCE_US + SLACK_US, "{} us: {:?}", seen.late_us, seen.refused);
        assert!(!seen.is_unsure(), "{:?}", seen.refused);
    }
    let claims = world.refused_new("127.0.2.1", 0).refused.verdict.claims;
    let bind = bind_of(&claims);
    assert_eq!((bind.pid, bind.value.as_deref()), (Some(world.gateway.pid), Some("tailnet")), "{claims:?}");
    assert!(!claims.iter().any(|configured| configured.pid == Some(hung.pid)), "{claims:?}");
    assert_eq!(threads(pid, "settings").len(), 2, "one waits, the other goes on");
    drop(mount);
    poll("the end of the thread that waited", || (threads(pid, "settings").len() == 1).then_some(()));
    world.end();
}

/// More servers than threads may be stuck: those beyond have no settings, without a wait.
fn many_hung() {
    const SERVERS: u8 = 38;
    let mut world = World::begin();
    let home = Home::with("lan");
    let hung = Hung::begin(&home.file());
    let pid = world.fixture.tracer().pid();
    let mut servers = Vec::new();
    for number in 1..=SERVERS {
        let since = mono_now_us();
        servers.push(world.fixture.listen(Listen::at(&format!("127.9.0.{number}")).by(home.gateway())));
        // Each is asked about when the one before is given up.
        wait_past(since + PATIENCE_US + 20_000);
    }
    assert_eq!(threads(pid, "settings").len(), STUCK_MAX);
    let mut late = Vec::new();
    for number in 0..6 {
        late.push(world.refused_new(&format!("127.0.1.{number}"), 0));
    }
    assert!(median(&late) < PATIENCE_US / 2, "{}", median(&late));
    assert!(late.iter().all(|seen| !seen.is_unsure()));
    assert_eq!(threads(pid, "settings").len(), STUCK_MAX);
    drop(hung);
    poll("the end of the threads that were given up", || (threads(pid, "settings").len() <= 1).then_some(()));
    let own = world.home.file();
    let mut number = 0;
    poll("the settings of a server", || {
        number += 1;
        let seen = world.refused_new(&format!("127.0.2.{number}"), 0);
        let is_read = |configured: &ConfiguredValue| own.to_str() == Some(configured.source.as_str());
        seen.refused.verdict.claims.iter().any(is_read).then_some(())
    });
    world.end();
}
