//! `tracer status`: who listens, and whether an address is answered, without waiting for a failure.

use std::process::Command;

use libtest_mimic::Trial;
use tracer::line::{Authentication, Body, Mismatch, Status};

use crate::support::cast::Costume;
use crate::support::needs::Need;
use crate::support::sabotage;
use crate::support::story::{Listen, Listening, Story};
use crate::support::token::TOKEN;
use crate::support::tracer::{BINARY, finish, parse};
use crate::trial;

const NEEDS: &[Need] = &[Need::Root, Need::Network];

pub fn trials() -> Vec<Trial> {
    vec![
        trial("status::says_what_a_connect_would_get", NEEDS, says_what_a_connect_would_get),
        trial("status::needs_no_root_for_its_own_namespace", NEEDS, needs_no_root),
        trial("status::text_says_the_same", NEEDS, text_says_the_same),
        trial("status::shows_claims_agreement_and_exposure", NEEDS, claims_and_exposure),
        trial("status::shows_what_is_open_to_all", NEEDS, open_to_all),
        trial("status::reads_no_claims_of_others", NEEDS, no_claims_of_others),
    ]
}

/// `tracer` in the story's namespace.
fn inside(story: &Story) -> Command {
    let mut command = Command::new(BINARY);
    story.netns.enter(&mut command);
    command
}

/// Runs `tracer status -o json`: the exit code and what it says.
fn status(story: &Story, mut command: Command, addrs: &[&str]) -> (Option<i32>, Vec<Status>) {
    command.args(["status", "-o", "json", "-p", &story.port().to_string()]).args(addrs);
    let finished = finish(command);
    let lines = finished.stdout.lines().map(|line| parse(line.as_bytes()).unwrap_or_else(|e| panic!("{e}")));
    let statuses = lines.filter_map(|line| match line.body {
        Body::Status(status) => Some(*status),
        _ => None,
    });
    (finished.status.code(), statuses.collect())
}

fn says_what_a_connect_would_get() {
    let story = {
        let mut story = Story::begin();
        // Not traced: nothing is waited for.
        let gateway = story.listen(Listen::at("10.77.0.1"));
        let (code, told) = status(&story, inside(&story), &["127.0.0.1"]);
        assert_eq!((code, told.len()), (Some(1), 1), "{told:?}");
        assert!(!told[0].answered);
        assert_eq!((told[0].addr.as_str(), told[0].port), ("127.0.0.1", story.port()));
        assert_eq!((told[0].netns.id, told[0].listeners_total), (story.netns.id, 1));
        gateway.assert_is(&told[0].listeners[0].listener);
        assert_eq!(told[0].listeners[0].mismatch, Some(Mismatch::Address));

        let (code, told) = status(&story, inside(&story), &["10.77.0.1"]);
        assert_eq!((code, told.len()), (Some(0), 1), "{told:?}");
        assert!(told[0].answered);
        gateway.assert_is(&told[0].listeners[0].listener);
        assert_eq!(told[0].listeners[0].mismatch, None);

        let (code, told) = status(&story, inside(&story), &["10.77.0.1", "::1"]);
        let answered: Vec<bool> = told.iter().map(|status| status.answered).collect();
        assert_eq!((code, answered), (Some(1), vec![true, false]), "{told:?}");
        story
    };
    // The listener has gone with its process.
    let (code, told) = status(&story, inside(&story), &["10.77.0.1"]);
    assert_eq!((code, told.len()), (Some(1), 1), "{told:?}");
    assert_eq!(told[0].listeners_total, 0);
}

fn needs_no_root() {
    let mut story = Story::begin();
    let _gateway = story.listen("10.77.0.1");
    let directory = tempfile::tempdir().expect("a directory");
    let (code, told) =
        status(&story, sabotage::without_root(directory.path(), Some(&story.netns)), &["127.0.0.1"]);
    assert_eq!((code, told.len()), (Some(1), 1), "{told:?}");
    assert_eq!(told[0].listeners[0].listener.addr, "10.77.0.1");
    assert_eq!(told[0].listeners[0].listener.process.pid, None, "another user's process cannot be read");
    let (code, told) =
        status(&story, sabotage::without_root(directory.path(), Some(&story.netns)), &["10.77.0.1"]);
    assert_eq!((code, told.len()), (Some(0), 1), "{told:?}");
}

fn text_says_the_same() {
    let mut story = Story::begin();
    let _gateway = story.listen("[::1]");
    let mut command = inside(&story);
    command.args(["status", "-p", &story.port().to_string(), "127.0.0.1"]);
    let finished = finish(command);
    assert_eq!(finished.status.code(), Some(1), "{}", finished.stderr);
    assert!(finished.stdout.contains("127.0.0.1"), "{}", finished.stdout);
    assert!(finished.stdout.contains("refused"), "{}", finished.stdout);
    assert!(finished.stdout.contains("[::1]"), "{}", finished.stdout);
    assert!(finished.stdout.contains("gateway"), "{}", finished.stdout);
}

const TAILNET: &str = "100.101.102.103";

/// A gateway with this configuration, and its home directory.
fn gateway(story: &mut Story, addr: &str, configuration: &str) -> (Listening, tempfile::TempDir) {
    let home = tempfile::tempdir().expect("a directory");
    std::fs::create_dir(home.path().join(".openclaw")).expect("a directory");
    std::fs::write(home.path().join(".openclaw/openclaw.json"), configuration).expect("to write");
    let costume = Costume::named("openclaw-gatewa").variable("HOME", home.path().to_str().expect("UTF-8"));
    (story.listen(Listen::at(addr).by(costume)), home)
}

fn text(story: &Story, addrs: &[&str]) -> String {
    let mut command = inside(story);
    command.args(["status", "-p", &story.port().to_string()]).args(addrs).env("COLUMNS", "200");
    finish(command).stdout
}

fn claims_and_exposure() {
    let mut story = Story::begin();
    story.netns.ip(&format!("addr add {TAILNET}/32 dev eth0"));
    let auth = format!("auth:{{mode:'token',token:'{TOKEN}'}}");
    let (owner, home) = gateway(&mut story, TAILNET, &format!("{{gateway:{{bind:'tailnet',{auth}}}}}"));
    let (_, told) = status(&story, inside(&story), &["127.0.0.1"]);
    let claims: Vec<_> = told[0]
        .claims
        .iter()
        .map(|claim| (claim.pid, claim.what.as_str(), claim.value.as_deref(), claim.agrees))
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
    let [exposure] = &told[0].exposures[..] else { panic!("{told:?}") };
    assert_eq!((exposure.pid, exposure.addr.as_str(), exposure.port), (pid, TAILNET, story.port()));
    assert_eq!((exposure.every_interface, &exposure.addresses[..]), (false, &[TAILNET.to_owned()][..]));
    let asks = Authentication { what: "gateway.auth.token".to_owned(), is_asked: Some(true) };
    assert_eq!(exposure.authentication, Some(asks));

    // One screen: what is the same for both addresses is said once.
    let screen = text(&story, &["127.0.0.1", TAILNET]);
    let file = home.path().join(".openclaw/openclaw.json");
    let expected = [
        format!(
            "claim: {} says gateway.bind \"tailnet\" (agrees), gateway.auth.mode \"token\" (written",
            file.display()
        ),
        format!(
            "open: {TAILNET}:{} on that address alone; claims to ask for gateway.auth.token ",
            story.port()
        ),
    ];
    let joined = screen.split_whitespace().collect::<Vec<_>>().join(" ");
    for words in &expected {
        assert_eq!(joined.matches(words.as_str()).count(), 1, "{words}: {screen}");
    }
    assert!(screen.lines().count() <= 6, "{screen}");
}

fn open_to_all() {
    let mut story = Story::begin();
    let file = format!("{{gateway:{{bind:'loopback',auth:{{mode:'none',token:'{TOKEN}'}}}}}}");
    let (_owner, _home) = gateway(&mut story, "0.0.0.0", &file);
    let (code, told) = status(&story, inside(&story), &["127.0.0.1"]);
    assert_eq!(code, Some(0), "{told:?}");
    assert_eq!(told[0].claims[0].agrees, Some(false), "{told:?}");
    let [exposure] = &told[0].exposures[..] else { panic!("{told:?}") };
    assert!(exposure.every_interface && exposure.addresses.contains(&"10.77.0.1".to_owned()), "{exposure:?}");
    let asks = exposure.authentication.as_ref().and_then(|authentication| authentication.is_asked);
    assert_eq!(asks, Some(false));
    let screen = text(&story, &["127.0.0.1"]);
    assert!(screen.contains("gateway.bind \"loopback\" (does not agree)"), "{screen}");
    assert!(
        screen.contains("on every interface: 10.77.0.1; claims to ask nobody for gateway.auth.token"),
        "{screen}"
    );
}

/// Whoever may not look into a process is told that nothing is known, and not that nothing is set.
fn no_claims_of_others() {
    let mut story = Story::begin();
    let file = format!("{{gateway:{{bind:'lan',auth:{{token:'{TOKEN}'}}}}}}");
    let (_owner, _home) = gateway(&mut story, "0.0.0.0", &file);
    let directory = tempfile::tempdir().expect("a directory");
    let nobody = sabotage::without_root(directory.path(), Some(&story.netns));
    let (_, told) = status(&story, nobody, &["127.0.0.1"]);
    assert_eq!(told[0].claims, [], "{told:?}");
    let [exposure] = &told[0].exposures[..] else { panic!("{told:?}") };
    assert_eq!((exposure.every_interface, &exposure.authentication), (true, &None));
}
