//! `tracer status`: which process listens, and whether an address is answered, without waiting for a failure.

use std::process::Command;

use libtest_mimic::Trial;
use tracer::output::schema::{Authentication, Because, Body, Cause, Mismatch, ProbeOutcome, Status};

use tests::binary::binary;
use tests::fixture::{Fixture, Listen, Listening};
use tests::limits;
use tests::needs::Need;
use tests::netns::Netns;
use tests::process::{Actor, ProcessSpec};
use tests::restricted;
use tests::suite::test;
use tests::token::TOKEN;
use tests::tracer::{finish, parse};

const NEEDS: &[Need] = &[Need::Root, Need::Network];

pub fn all() -> Vec<Trial> {
    vec![
        test("status::shows_what_a_connect_would_get", NEEDS, shows_what_a_connect_would_get),
        test("status::needs_no_root_for_its_own_namespace", NEEDS, needs_no_root),
        test("status::text_shows_the_same", NEEDS, text_shows_the_same),
        test("status::shows_configured_values_agreement_and_exposure", NEEDS, configured_values_and_exposure),
        test("status::shows_what_is_open_to_all", NEEDS, open_to_all),
        test("status::reads_no_settings_of_other_users", NEEDS, no_settings_of_other_users),
        test("status::gives_the_whole_verdict", NEEDS, whole_verdict),
        test("status::takes_ports_and_urls", NEEDS, ports_and_urls),
        test("status::connects_where_it_is_asked_to", NEEDS, probes),
        test("status::reports_that_nat_may_lead_elsewhere", &[Need::Root, Need::Network, Need::Nat], nat),
    ]
}

/// `tracer` in the fixture's namespace.
fn inside(fixture: &Fixture) -> Command {
    let mut command = Command::new(binary());
    fixture.netns.enter(&mut command);
    command
}

/// Runs `tracer status -o json`: the exit code and the output.
fn status(fixture: &Fixture, mut command: Command, addrs: &[&str]) -> (Option<i32>, Vec<Status>) {
    command.args(["status", "-o", "json", "-p", &fixture.port().to_string()]).args(addrs);
    let finished = finish(command);
    let lines = finished.stdout.lines().map(|line| parse(line.as_bytes()).unwrap_or_else(|e| panic!("{e}")));
    let statuses = lines.filter_map(|line| match line.body {
        Body::Status(status) => Some(*status),
        _ => None,
    });
    (finished.status.code(), statuses.collect())
}

fn shows_what_a_connect_would_get() {
    let fixture = {
        let mut fixture = Fixture::begin();
        // Not traced: nothing is waited for.
        let gateway = fixture.listen(Listen::at("10.77.0.1"));
        let (code, shown) = status(&fixture, inside(&fixture), &["127.0.0.1"]);
        assert_eq!((code, shown.len()), (Some(1), 1), "{shown:?}");
        assert!(!shown[0].answered);
        assert_eq!((shown[0].addr.as_str(), shown[0].port), ("127.0.0.1", fixture.port()));
        assert_eq!((shown[0].netns.id, shown[0].listeners_total), (fixture.netns.id, 1));
        gateway.assert_is(&shown[0].listeners[0].listener);
        assert_eq!(shown[0].listeners[0].mismatch, Some(Mismatch::Address));

        let (code, shown) = status(&fixture, inside(&fixture), &["10.77.0.1"]);
        assert_eq!((code, shown.len()), (Some(0), 1), "{shown:?}");
        assert!(shown[0].answered);
        gateway.assert_is(&shown[0].listeners[0].listener);
        assert_eq!(shown[0].listeners[0].mismatch, None);

        let (code, shown) = status(&fixture, inside(&fixture), &["10.77.0.1", "::1"]);
        let answered: Vec<bool> = shown.iter().map(|status| status.answered).collect();
        assert_eq!((code, answered), (Some(1), vec![true, false]), "{shown:?}");
        fixture
    };
    // The listener closed with its process.
    let (code, shown) = status(&fixture, inside(&fixture), &["10.77.0.1"]);
    assert_eq!((code, shown.len()), (Some(1), 1), "{shown:?}");
    assert_eq!(shown[0].listeners_total, 0);
}

/// The verdict that a client refused at this moment would get, but for what only a trace has seen.
fn whole_verdict() {
    let mut fixture = Fixture::begin();
    let other = Netns::with_eth0();
    let verdict_of = |fixture: &Fixture, addr: &str| {
        let (code, shown) = status(fixture, inside(fixture), &[addr]);
        assert_eq!((code, shown.len()), (Some(1), 1), "{shown:?}");
        let verdict = shown[0].verdict.clone().unwrap_or_else(|| panic!("a verdict: {shown:?}"));
        assert!(verdict.because.contains(&Because::BeforeReady), "{verdict:?}");
        verdict
    };
    let verdict = verdict_of(&fixture, "127.0.0.1");
    assert_eq!(verdict.cause, Cause::NothingListening, "{verdict:?}");

    let mut elsewhere = Actor::start(&other.place(), &ProcessSpec::named("gateway"));
    elsewhere.must(&format!("bind 0.0.0.0:{}", fixture.port()));
    elsewhere.must("listen 16");
    let verdict = verdict_of(&fixture, "127.0.0.1");
    assert_eq!(verdict.cause, Cause::OtherNetns, "{verdict:?}");
    assert!(verdict.summary.contains(&other.name), "{verdict:?}");
    // Its address is one of this host, where it is answered.
    drop(elsewhere);

    // Kernels before 6.8 do not list a socket that is bound and does not listen.
    if !limits::is_expected("bound-before-start") {
        let mut bound = Actor::start(&fixture.netns.place(), &ProcessSpec::named("server"));
        bound.must(&format!("bind 127.0.0.1:{}", fixture.port()));
        let verdict = verdict_of(&fixture, "127.0.0.1");
        assert_eq!(verdict.cause, Cause::BoundNotListening, "{verdict:?}");
        assert_eq!(verdict.server.expect("a server").process.pid, Some(bound.pid));
    }

    let _gateway = fixture.listen("10.77.0.1");
    let verdict = verdict_of(&fixture, "127.0.0.1");
    assert_eq!(verdict.cause, Cause::WrongAddress, "{verdict:?}");
    assert!(verdict.hint.as_ref().is_some_and(|hint| hint.contains("10.77.0.1")), "{verdict:?}");
    // What is answered has none, and neither has what another host may refuse.
    for addr in ["10.77.0.1", "203.0.113.9"] {
        let (_, shown) = status(&fixture, inside(&fixture), &[addr]);
        assert_eq!(shown[0].verdict, None, "{shown:?}");
    }
}

fn ports_and_urls() {
    let mut fixture = Fixture::with_ports(2);
    let _gateway = fixture.listen("10.77.0.1");
    let (own, other) = (fixture.ports[0].number, fixture.ports[1].number);
    let targets = [
        format!("10.77.0.1:{own}"),
        format!("http://10.77.0.1:{own}/health?deep=1"),
        format!("ws://user:secret@10.77.0.1:{other}/"),
        format!("[::1]:{other}"),
        format!("localhost:{other}"),
        "10.77.0.1".to_owned(),
    ];
    let targets: Vec<&str> = targets.iter().map(String::as_str).collect();
    let (code, shown) = status(&fixture, inside(&fixture), &targets);
    let shown: Vec<(&str, u16, bool)> =
        shown.iter().map(|status| (status.addr.as_str(), status.port, status.answered)).collect();
    let expected = [
        ("10.77.0.1", own, true),
        ("10.77.0.1", own, true),
        ("10.77.0.1", other, false),
        ("::1", other, false),
        ("127.0.0.1", other, false),
        ("::1", other, false),
        ("10.77.0.1", own, true),
    ];
    assert_eq!((code, &shown[..]), (Some(1), &expected[..]));
}

fn probes() {
    let mut fixture = Fixture::begin();
    let _gateway = fixture.listen("10.77.0.1");
    let (code, shown) = status(&fixture, inside(&fixture), &["--probe", "10.77.0.1"]);
    let probe = shown[0].probe.as_ref().expect("a probe");
    assert_eq!((code, probe.outcome, &probe.errno), (Some(0), ProbeOutcome::Answered, &None), "{shown:?}");
    let (code, shown) = status(&fixture, inside(&fixture), &["--probe", "127.0.0.1"]);
    let probe = shown[0].probe.as_ref().expect("a probe");
    assert_eq!((code, probe.outcome), (Some(1), ProbeOutcome::Refused), "{shown:?}");
    assert_eq!(probe.errno.as_deref(), Some("ECONNREFUSED"));
    assert!(text(&fixture, &["--probe", "127.0.0.1"]).contains("a connect was refused (ECONNREFUSED)"));
    // Nothing connects unasked.
    let (_, shown) = status(&fixture, inside(&fixture), &["127.0.0.1"]);
    assert_eq!(shown[0].probe, None);
}

fn nat() {
    let fixture = Fixture::begin();
    let asked = |fixture: &Fixture| status(fixture, inside(fixture), &["127.0.0.1"]).1[0].may_be_redirected;
    assert_eq!(asked(&fixture), Some(false));
    fixture.netns.nft("table ip t { chain c { type nat hook output priority -100; }; }");
    assert_eq!(asked(&fixture), Some(true));
    assert!(text(&fixture, &["127.0.0.1"]).contains("NAT rules"));
    // Without CAP_NET_ADMIN that cannot be read.
    let directory = tempfile::tempdir().expect("a directory");
    let without_root = restricted::without_root(directory.path(), Some(&fixture.netns));
    let (_, shown) = status(&fixture, without_root, &["127.0.0.1"]);
    assert_eq!(shown[0].may_be_redirected, None);
}

fn needs_no_root() {
    let mut fixture = Fixture::begin();
    let _gateway = fixture.listen("10.77.0.1");
    let directory = tempfile::tempdir().expect("a directory");
    let (code, shown) =
        status(&fixture, restricted::without_root(directory.path(), Some(&fixture.netns)), &["127.0.0.1"]);
    assert_eq!((code, shown.len()), (Some(1), 1), "{shown:?}");
    assert_eq!(shown[0].listeners[0].listener.addr, "10.77.0.1");
    assert_eq!(shown[0].listeners[0].listener.process.pid, None, "another user's process cannot be read");
    let (code, shown) =
        status(&fixture, restricted::without_root(directory.path(), Some(&fixture.netns)), &["10.77.0.1"]);
    assert_eq!((code, shown.len()), (Some(0), 1), "{shown:?}");
}

fn text_shows_the_same() {
    let mut fixture = Fixture::begin();
    let _gateway = fixture.listen("[::1]");
    let mut command = inside(&fixture);
    command.args(["status", "-p", &fixture.port().to_string(), "127.0.0.1"]);
    let finished = finish(command);
    assert_eq!(finished.status.code(), Some(1), "{}", finished.stderr);
    let (_, shown) = status(&fixture, inside(&fixture), &["127.0.0.1"]);
    let [status] = &shown[..] else { panic!("{shown:?}") };
    // The text has the sentence of the line, and its listener.
    let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let text = words(&finished.stdout);
    assert!(text.contains(&words(&status.summary)), "{status:?}: {}", finished.stdout);
    let listener = format!("[::1]:{}", fixture.port());
    assert!(text.contains(&listener) && text.contains("gateway"), "{listener}: {}", finished.stdout);
}

const TAILNET: &str = "100.101.102.103";

/// A gateway with this configuration, and its home directory.
fn gateway(fixture: &mut Fixture, addr: &str, configuration: &str) -> (Listening, tempfile::TempDir) {
    let home = tempfile::tempdir().expect("a directory");
    std::fs::create_dir(home.path().join(".openclaw")).expect("a directory");
    std::fs::write(home.path().join(".openclaw/openclaw.json"), configuration).expect("to write");
    let spec = ProcessSpec::named("openclaw-gatewa").variable("HOME", home.path().to_str().expect("UTF-8"));
    (fixture.listen(Listen::at(addr).by(spec)), home)
}

fn text(fixture: &Fixture, addrs: &[&str]) -> String {
    let mut command = inside(fixture);
    command.args(["status", "-p", &fixture.port().to_string()]).args(addrs).env("COLUMNS", "200");
    finish(command).stdout
}

fn configured_values_and_exposure() {
    let mut fixture = Fixture::begin();
    fixture.netns.ip(&format!("addr add {TAILNET}/32 dev eth0"));
    let auth = format!("auth:{{mode:'token',token:'{TOKEN}'}}");
    let (owner, home) = gateway(&mut fixture, TAILNET, &format!("{{gateway:{{bind:'tailnet',{auth}}}}}"));
    let (_, shown) = status(&fixture, inside(&fixture), &["127.0.0.1"]);
    let claims: Vec<_> = shown[0]
        .claims
        .iter()
        .map(|configured| {
            (configured.pid, configured.what.as_str(), configured.value.as_deref(), configured.agrees)
        })
        .collect();
    let pid = Some(owner.pid);
    assert_eq!(
        claims,
        [
            (pid, "gateway.bind", Some("tailnet"), Some(true)),
            (pid, "gateway.auth.mode", Some("token"), None),
            (pid, "gateway.auth.token", Some("set"), None),
        ]
    );
    let [exposure] = &shown[0].exposures[..] else { panic!("{shown:?}") };
    assert_eq!((exposure.pid, exposure.addr.as_str(), exposure.port), (pid, TAILNET, fixture.port()));
    assert_eq!((exposure.every_interface, &exposure.addresses[..]), (false, &[TAILNET.to_owned()][..]));
    let asks = Authentication { what: "gateway.auth.token".to_owned(), is_asked: Some(true) };
    assert_eq!(exposure.authentication, Some(asks));

    // One screen: what is the same for both addresses is shown once.
    let screen = text(&fixture, &["127.0.0.1", TAILNET]);
    let file = home.path().join(".openclaw/openclaw.json");
    let expected = [
        format!(
            "setting: {} sets gateway.bind \"tailnet\" (agrees), gateway.auth.mode \"token\" (written",
            file.display()
        ),
        format!(
            "open: {TAILNET}:{} on that address alone; configured to ask for gateway.auth.token ",
            fixture.port()
        ),
    ];
    let joined = screen.split_whitespace().collect::<Vec<_>>().join(" ");
    for words in &expected {
        assert_eq!(joined.matches(words.as_str()).count(), 1, "{words}: {screen}");
    }
    assert!(screen.lines().count() <= 12, "{screen}");
}

fn open_to_all() {
    let mut fixture = Fixture::begin();
    let file = format!("{{gateway:{{bind:'loopback',auth:{{mode:'none',token:'{TOKEN}'}}}}}}");
    let (_owner, _home) = gateway(&mut fixture, "0.0.0.0", &file);
    let (code, shown) = status(&fixture, inside(&fixture), &["127.0.0.1"]);
    assert_eq!(code, Some(0), "{shown:?}");
    assert_eq!(shown[0].claims[0].agrees, Some(false), "{shown:?}");
    let [exposure] = &shown[0].exposures[..] else { panic!("{shown:?}") };
    assert!(exposure.every_interface && exposure.addresses.contains(&"10.77.0.1".to_owned()), "{exposure:?}");
    let asks = exposure.authentication.as_ref().and_then(|authentication| authentication.is_asked);
    assert_eq!(asks, Some(false));
    let screen = text(&fixture, &["127.0.0.1"]);
    assert!(screen.contains("gateway.bind \"loopback\" (does not agree)"), "{screen}");
    assert!(screen.contains("on every interface: 10.77.0.1; configured to ask for neither"), "{screen}");
}

/// For a user who may not read a process, `status` shows that its settings are unknown, not that none is set.
fn no_settings_of_other_users() {
    let mut fixture = Fixture::begin();
    let file = format!("{{gateway:{{bind:'lan',auth:{{token:'{TOKEN}'}}}}}}");
    let (_owner, _home) = gateway(&mut fixture, "0.0.0.0", &file);
    let directory = tempfile::tempdir().expect("a directory");
    let other_user = restricted::without_root(directory.path(), Some(&fixture.netns));
    let (_, shown) = status(&fixture, other_user, &["127.0.0.1"]);
    assert_eq!(shown[0].claims, [], "{shown:?}");
    let [exposure] = &shown[0].exposures[..] else { panic!("{shown:?}") };
    assert_eq!((exposure.every_interface, &exposure.authentication), (true, &None));
}
