//! `tracer status`: who listens, and whether an address is answered, without waiting for a failure.

use std::process::Command;

use libtest_mimic::Trial;
use tracer::line::{Body, Mismatch, Status};

use crate::support::needs::Need;
use crate::support::sabotage;
use crate::support::story::{Listen, Story};
use crate::support::tracer::{BINARY, finish, parse};
use crate::trial;

const NEEDS: &[Need] = &[Need::Root, Need::Network];

pub fn trials() -> Vec<Trial> {
    vec![
        trial("status::says_what_a_connect_would_get", NEEDS, says_what_a_connect_would_get),
        trial("status::needs_no_root_for_its_own_namespace", NEEDS, needs_no_root),
        trial("status::text_says_the_same", NEEDS, text_says_the_same),
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
