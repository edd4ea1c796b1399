//! What people and programs read, for every cause: `cargo insta review` shows a change.

#[expect(dead_code, reason = "each test file uses a part of the stories")]
mod story;

use jiff::tz::TimeZone;
use story::token::{TOKEN, leak};
use story::{Close, Story, connect, namespace, server, story};
use tracer::event::ExitStatus;
use tracer::line::{Body, Container, Line, Process, SentBy};
use tracer::render::json;
use tracer::render::text::Text;

const POD: u32 = 4_026_532_281;

/// A log as text without colour.
fn plain(lines: &[Line]) -> String {
    let mut text = Text::new(TimeZone::UTC, 110);
    let mut out = Vec::new();
    for line in lines {
        text.write(line, &mut out).unwrap();
    }
    let text = String::from_utf8(anstream::adapter::strip_bytes(&out).into_vec()).unwrap();
    assert_eq!(leak(&text), None);
    text
}

/// The last lines of a log: one screen of `tracer status`.
fn screen(story: Story, lines: usize) -> String {
    let log = story.lines();
    plain(&log[log.len() - lines..])
}

/// What a gateway's file says.
fn file() -> String {
    format!("{{gateway:{{bind:'tailnet',port:18789,auth:{{mode:'token',token:'{TOKEN}'}}}}}}")
}

#[test]
fn status_shows_claims_agreement_and_exposure() {
    let gateway = story().present(&server("100.101.102.103:18789")).ready();
    let gateway = gateway.says(4242, &[], Some((&file(), 60_000)));
    let asked = gateway.status("127.0.0.1:18789").status("100.101.102.103:18789");
    insta::assert_snapshot!(screen(asked, 2));
}

#[test]
fn status_shows_what_does_not_agree_and_is_open_to_all() {
    let open = "{gateway:{bind:'loopback',auth:{mode:'none'}}}";
    let gateway = story().present(&server("0.0.0.0:18789")).ready();
    let gateway = gateway.says(4242, &["--port", "18789"], Some((open, 1)));
    insta::assert_snapshot!(screen(gateway.status("127.0.0.1:18789"), 1));
}

#[test]
fn status_of_what_claims_nothing_and_of_loopback() {
    let nginx = story().present(&server("[::]:18789").by("nginx", 7)).ready();
    insta::assert_snapshot!(screen(nginx.status("127.0.0.1:18789"), 1));
    let loopback = story().present(&server("127.0.0.1:18789")).ready();
    let loopback = loopback.says(4242, &[], Some((&file(), 60_000)));
    insta::assert_snapshot!(both(loopback.status("127.0.0.1:18789")));
}

#[test]
fn a_candidate_that_ended_shows_what_it_claimed() {
    let story = story().ready().start("openclaw-gatewa", 16083);
    let story = story.says(16083, &[], Some((&file(), 60_000))).after_millis(4_000);
    let story = story.exit(16083, ExitStatus::Code(78)).says_nothing(16083).after_millis(4_100);
    insta::assert_snapshot!(screen(story.refuse(&connect("127.0.0.1:18789").by("node", 812)), 1));
}

#[test]
fn the_trap() {
    let gateway = server("100.101.102.103:18789").by("openclaw-gatewa", 21);
    let story = story().ready().open(&gateway).after_millis(10);
    let lan = file().replace("tailnet", "lan");
    let story = story.says(21, &[], Some((&lan, 60_000))).close(&gateway, Close::Owner).after_millis(10);
    let story =
        story.open(&gateway).after_millis(41_000).refuse(&connect("127.0.0.1:18789").by("curl", 1480));
    insta::assert_snapshot!(screen(story, 1));
}

/// The log of a story, once as text and once as JSON.
fn both(story: Story) -> String {
    let lines = story.lines();
    let mut shown = plain(&lines);
    for line in &lines {
        let mut object = Vec::new();
        json::write(line, &mut object).unwrap();
        assert_eq!(object.iter().filter(|byte| **byte == b'\n').count(), 1, "one line an object");
        // What is written can be read again, whole.
        let read: Line = serde_json::from_slice(&object).unwrap();
        assert_eq!(&read, line);
        shown.push('\n');
        shown.push_str(&serde_json::to_string_pretty(line).unwrap());
    }
    assert_eq!(leak(&shown), None);
    shown
}

#[test]
fn remote() {
    insta::assert_snapshot!(both(story().ready().refuse(&connect("203.0.113.9:18789"))));
}

#[test]
fn intercepted_by_icmp() {
    let story =
        story().present(&server("0.0.0.0:18789")).ready().refuse(&connect("127.0.0.1:18789").by_icmp());
    insta::assert_snapshot!(both(story));
}

#[test]
fn intercepted_by_reset() {
    let connect = connect("127.0.0.1:18789").sent_by(Some(SentBy::Filter));
    insta::assert_snapshot!(both(story().present(&server("[::]:18789")).ready().refuse(&connect)));
}

#[test]
fn wrong_device() {
    let listener = server("0.0.0.0:18789").bound_to(2);
    insta::assert_snapshot!(both(story().present(&listener).ready().refuse(&connect("127.0.0.1:18789"))));
}

#[test]
fn stopped() {
    let gateway = server("127.0.0.1:18789");
    let story = story()
        .ready()
        .open(&gateway)
        .after_millis(4_000)
        .close(&gateway, Close::End(ExitStatus::Signal(9)))
        .after_millis(2_100)
        .refuse(&connect("127.0.0.1:18789"));
    insta::assert_snapshot!(both(story));
}

#[test]
fn wrong_family() {
    insta::assert_snapshot!(both(
        story().present(&server("0.0.0.0:18789")).ready().refuse(&connect("[::1]:18789"))
    ));
}

#[test]
fn wrong_address() {
    let gateway = server("100.101.102.103:18789");
    insta::assert_snapshot!(both(story().present(&gateway).ready().refuse(&connect("127.0.0.1:18789"))));
}

#[test]
fn other_netns() {
    let story = story()
        .netns(namespace(POD, Some("pod"), &["10.0.0.7"], &[]))
        .present(&server("127.0.0.1:18789").in_netns(POD))
        .ready()
        .refuse(&connect("127.0.0.1:18789"));
    insta::assert_snapshot!(both(story));
}

#[test]
fn nothing_listening() {
    insta::assert_snapshot!(both(story().ready().refuse(&connect("127.0.0.1:18789"))));
}

#[test]
fn bind_failed() {
    let story = story()
        .present(&server("100.101.102.103:18789").by("openclaw-gatewa", 2101))
        .ready()
        .bind(&server("0.0.0.0:18789"), Some(libc::EADDRINUSE))
        .after_millis(400)
        .refuse(&connect("127.0.0.1:18789"));
    insta::assert_snapshot!(both(story));
}

#[test]
fn a_bind_that_fails_again_and_again_is_told_now_and_then() {
    let mut again = story().ready();
    for _ in 0..25 {
        again = again.bind(&server("0.0.0.0:18789"), Some(libc::EADDRINUSE)).after_millis(500);
    }
    let again = again.bind(&server("127.0.0.1:18789"), Some(libc::EADDRINUSE));
    let text = plain(&again.lines());
    let told: Vec<&str> = text.lines().filter(|line| line.contains("BIND")).collect();
    assert_eq!(told.len(), 3, "{text}");
    assert!(told[0].ends_with("bind() failed: EADDRINUSE"), "{text}");
    assert!(told[1].ends_with("bind() failed: EADDRINUSE, and 19 times before"), "{text}");
    assert!(told[2].contains("127.0.0.1:18789"), "{text}");
}

#[test]
fn bound_not_listening() {
    let story = story()
        .ready()
        .bind(&server("127.0.0.1:18789"), None)
        .after_millis(400)
        .refuse(&connect("127.0.0.1:18789"));
    insta::assert_snapshot!(both(story));
}

#[test]
fn starting_then_recovered() {
    let gateway = server("127.0.0.1:18789").by("openclaw-gatewa", 655);
    let mut waiting = story().ready().start("openclaw-gatewa", 655).after_millis(1_200);
    for pid in 0..12 {
        waiting = waiting.refuse(&connect("127.0.0.1:18789").by("caddy", 640 + pid)).after_millis(1_000);
    }
    insta::assert_snapshot!(both(waiting.open(&gateway).after_millis(10).stop()));
}

#[test]
fn never_listened() {
    let story = story()
        .ready()
        .start("openclaw-gatewa", 16083)
        .after_millis(4_000)
        .exit(16083, ExitStatus::Code(78))
        .after_millis(4_100)
        .refuse(&connect("127.0.0.1:18789").by("node", 812));
    insta::assert_snapshot!(both(story));
}

#[test]
fn other_port() {
    let story = story()
        .ready()
        .start("openclaw-gatewa", 4242)
        .after_millis(1_000)
        .elsewhere(&[&server("127.0.0.1:19001")])
        .refuse(&connect("127.0.0.1:18789"));
    insta::assert_snapshot!(both(story));
}

#[test]
fn fallback() {
    let story = story()
        .present(&server("127.0.0.1:18789"))
        .ready()
        .refuse(&connect("[::1]:18789"))
        .reach("127.0.0.1:18789", 5511);
    insta::assert_snapshot!(both(story));
}

#[test]
fn not_a_refusal() {
    let story = story()
        .all()
        .ready()
        .fail("127.0.0.1:18789", None)
        .fail("127.0.0.1:18789", Some(libc::EHOSTUNREACH))
        .stop();
    insta::assert_snapshot!(both(story));
}

#[test]
fn colour_is_all_that_a_terminal_adds() {
    let lines = story().present(&server("0.0.0.0:18789")).ready().refuse(&connect("[::1]:18789")).lines();
    let mut out = Vec::new();
    let mut text = Text::new(TimeZone::UTC, 110);
    lines.iter().for_each(|line| text.write(line, &mut out).unwrap());
    let coloured = String::from_utf8(out.clone()).unwrap();
    assert!(coloured.contains("\x1b[1m\x1b[31mREFUSED"), "{coloured:?}");
    let plain = anstream::adapter::strip_bytes(&out).into_vec();
    assert!(!plain.contains(&0x1b));
}

#[test]
fn long_details_wrap_at_the_width() {
    let lines =
        story().present(&server("100.101.102.103:18789")).ready().refuse(&connect("127.0.0.1:18789")).lines();
    let mut out = Vec::new();
    let mut text = Text::new(TimeZone::UTC, 70);
    lines.iter().for_each(|line| text.write(line, &mut out).unwrap());
    let plain = String::from_utf8(anstream::adapter::strip_bytes(&out).into_vec()).unwrap();
    let details = plain.lines().filter(|line| line.starts_with("              "));
    assert!(details.clone().count() > 5);
    assert!(details.clone().all(|line| line.chars().count() <= 70), "{plain}");
}

/// The text of a story in which each process whose name begins with a name of `containers` runs in that
/// container.
fn with_containers(story: Story, containers: &[(&str, Container)]) -> String {
    let contain = |process: &mut Process| {
        let is = |name: &str| process.comm.as_deref().is_some_and(|comm| comm.starts_with(name));
        process.container =
            containers.iter().find(|(name, _)| is(name)).map(|(_, container)| container.clone());
    };
    let mut text = Text::new(TimeZone::UTC, 110);
    let mut out = Vec::new();
    for mut line in story.lines() {
        match &mut line.body {
            Body::Listener(line) => contain(&mut line.listener.process),
            Body::Refused(refused) => {
                contain(&mut refused.client);
                refused.verdict.listeners.iter_mut().for_each(|one| contain(&mut one.listener.process));
            }
            _ => {}
        }
        text.write(&line, &mut out).unwrap();
    }
    String::from_utf8(anstream::adapter::strip_bytes(&out).into_vec()).unwrap()
}

fn container(digit: &str, pod_uid: Option<&str>) -> Container {
    Container { id: digit.repeat(64), runtime: None, name: None, pod_uid: pod_uid.map(str::to_owned) }
}

#[test]
fn a_namespace_without_a_name_goes_by_its_container() {
    let story = || {
        story()
            .netns(namespace(POD, None, &["172.17.0.2"], &[]))
            .present(&server("127.0.0.1:18789").in_netns(POD))
            .ready()
    };
    let gateway = || ("openclaw", container("a", None));
    // From the host, by the container's address.
    let text = with_containers(story().refuse(&connect("172.17.0.2:18789")), &[gateway()]);
    assert!(text.contains("uid 1000  container aaaaaaaaaaaa, since before tracer\n"), "{text}");
    assert!(text.contains("STATUS   container aaaaaaaaaaaa  refused: "), "{text}");
    assert!(text.contains(" -> 172.17.0.2:18789: wrong-address  (container aaaaaaaaaaaa)\n"), "{text}");
    // By a process in the namespace that is in no container itself.
    let within = connect("172.17.0.2:18789").in_netns(POD);
    let text = with_containers(story().refuse(&within), &[gateway()]);
    assert!(text.contains(": wrong-address  (container aaaaaaaaaaaa)\n"), "{text}");
    // From the pod's other container.
    let probe = ("curl", container("b", Some("6b1c0d0e-5a00-11e9-b385-42010a80018d")));
    let text = with_containers(story().refuse(&within), &[gateway(), probe]);
    let pod = "(container bbbbbbbbbbbb, pod 6b1c0d0e-5a00-11e9-b385-42010a80018d)\n";
    assert!(text.contains(&format!(": wrong-address  {pod}")), "{text}");
    // From a container of the host's network.
    let text = with_containers(
        story().refuse(&connect("172.17.0.2:18789")),
        &[gateway(), ("curl", container("b", None))],
    );
    assert!(
        text.contains(": wrong-address  (container bbbbbbbbbbbb, to container aaaaaaaaaaaa)\n"),
        "{text}"
    );
    // One that is up elsewhere refused nobody.
    let text = with_containers(story().refuse(&connect("127.0.0.1:18789")), &[gateway()]);
    assert!(text.contains(" -> 127.0.0.1:18789: other-netns\n"), "{text}");
}
