//! What people and programs read, for every cause: `cargo insta review` shows a change.

use jiff::tz::TimeZone;
use tests::simulation::{Close, Simulation, connect, namespace, server, simulation};
use tests::token::{TOKEN, leak};
use tracer::model::errno::Errno;
use tracer::model::process::ExitStatus;
use tracer::output::json::Json;
use tracer::output::schema::{Body, Container, Line, Process};
use tracer::output::text::Text;

const POD: u32 = 4_026_532_281;

/// A log as text without colour.
fn plain(lines: &[Line]) -> String {
    wrapped_at(110, lines)
}

fn wrapped_at(width: usize, lines: &[Line]) -> String {
    let mut text = Text::new(TimeZone::UTC, width);
    let mut out = Vec::new();
    for line in lines {
        text.write(line, &mut out).unwrap();
    }
    let text = String::from_utf8(anstream::adapter::strip_bytes(&out).into_vec()).unwrap();
    assert_eq!(leak(&text), None);
    text
}

/// The last lines of a log: one screen of `tracer status`.
fn screen(simulation: Simulation, lines: usize) -> String {
    let log = simulation.lines();
    plain(&log[log.len() - lines..])
}

/// The text of a gateway's file.
fn file() -> String {
    format!("{{gateway:{{bind:'tailnet',port:18789,auth:{{mode:'token',token:'{TOKEN}'}}}}}}")
}

#[test]
fn status_shows_configured_values_agreement_and_exposure() {
    let gateway = simulation().present(&server("100.101.102.103:18789")).ready();
    let gateway = gateway.configure(4242, &[], Some((&file(), 60_000)));
    let asked = gateway.status("127.0.0.1:18789").status("100.101.102.103:18789");
    insta::assert_snapshot!(screen(asked, 2));
}

#[test]
fn status_shows_what_does_not_agree_and_is_open_to_all() {
    let open = "{gateway:{bind:'loopback',auth:{mode:'none'}}}";
    let gateway = simulation().present(&server("0.0.0.0:18789")).ready();
    let gateway = gateway.configure(4242, &["--port", "18789"], Some((open, 1)));
    insta::assert_snapshot!(screen(gateway.status("127.0.0.1:18789"), 1));
}

#[test]
fn status_without_configured_values_and_on_loopback() {
    let nginx = simulation().present(&server("[::]:18789").by("nginx", 7)).ready();
    insta::assert_snapshot!(screen(nginx.status("127.0.0.1:18789"), 1));
    let loopback = simulation().present(&server("127.0.0.1:18789")).ready();
    let loopback = loopback.configure(4242, &[], Some((&file(), 60_000)));
    insta::assert_snapshot!(both(loopback.status("127.0.0.1:18789")));
}

#[test]
fn a_candidate_that_ended_shows_its_configured_values() {
    let simulation = simulation().ready().start("openclaw-gatewa", 16083);
    let simulation = simulation.configure(16083, &[], Some((&file(), 60_000))).after_millis(4_000);
    let simulation =
        simulation.exit(16083, ExitStatus::Code(78)).settings_unreadable(16083).after_millis(4_100);
    insta::assert_snapshot!(screen(simulation.refuse(&connect("127.0.0.1:18789").by("node", 812)), 1));
}

#[test]
fn the_trap() {
    let gateway = server("100.101.102.103:18789").by("openclaw-gatewa", 21);
    let simulation = simulation().ready().open(&gateway).after_millis(10);
    let lan = file().replace("tailnet", "lan");
    let simulation =
        simulation.configure(21, &[], Some((&lan, 60_000))).close(&gateway, Close::Owner).after_millis(10);
    let simulation =
        simulation.open(&gateway).after_millis(41_000).refuse(&connect("127.0.0.1:18789").by("curl", 1480));
    insta::assert_snapshot!(screen(simulation, 1));
}

/// The log of a simulation, once as text and once as JSON.
fn both(simulation: Simulation) -> String {
    let lines = simulation.lines();
    let mut shown = plain(&lines);
    for line in &lines {
        let mut object = Vec::new();
        Json::default().write(line, &mut object).unwrap();
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
    insta::assert_snapshot!(both(simulation().ready().refuse(&connect("203.0.113.9:18789"))));
}

#[test]
fn intercepted_by_icmp() {
    let simulation =
        simulation().present(&server("0.0.0.0:18789")).ready().refuse(&connect("127.0.0.1:18789").by_icmp());
    insta::assert_snapshot!(both(simulation));
}

#[test]
fn intercepted_by_reset() {
    let connect = connect("127.0.0.1:18789").sent_by(Some(tracer::model::kernel_event::SentBy::Filter));
    insta::assert_snapshot!(both(simulation().present(&server("[::]:18789")).ready().refuse(&connect)));
}

#[test]
fn wrong_device() {
    let listener = server("0.0.0.0:18789").bound_to(2);
    insta::assert_snapshot!(both(
        simulation().present(&listener).ready().refuse(&connect("127.0.0.1:18789"))
    ));
}

#[test]
fn stopped() {
    let gateway = server("127.0.0.1:18789");
    let simulation = simulation()
        .ready()
        .open(&gateway)
        .after_millis(4_000)
        .close(&gateway, Close::End(ExitStatus::Signal(9)))
        .after_millis(2_100)
        .refuse(&connect("127.0.0.1:18789"));
    insta::assert_snapshot!(both(simulation));
}

#[test]
fn wrong_family() {
    insta::assert_snapshot!(both(
        simulation().present(&server("0.0.0.0:18789")).ready().refuse(&connect("[::1]:18789"))
    ));
}

#[test]
fn wrong_address() {
    let gateway = server("100.101.102.103:18789");
    insta::assert_snapshot!(both(simulation().present(&gateway).ready().refuse(&connect("127.0.0.1:18789"))));
}

#[test]
fn other_netns() {
    let simulation = simulation()
        .netns(namespace(POD, Some("pod"), &["10.0.0.7"], &[]))
        .present(&server("127.0.0.1:18789").in_netns(POD))
        .ready()
        .refuse(&connect("127.0.0.1:18789"));
    insta::assert_snapshot!(both(simulation));
}

#[test]
fn nothing_listening() {
    insta::assert_snapshot!(both(simulation().ready().refuse(&connect("127.0.0.1:18789"))));
}

#[test]
fn bind_failed() {
    let simulation = simulation()
        .present(&server("100.101.102.103:18789").by("openclaw-gatewa", 2101))
        .ready()
        .bind(&server("0.0.0.0:18789"), Some(Errno::EADDRINUSE))
        .after_millis(400)
        .refuse(&connect("127.0.0.1:18789"));
    insta::assert_snapshot!(both(simulation));
}

#[test]
fn a_bind_that_keeps_failing_is_reported_at_intervals() {
    let mut again = simulation().ready();
    for _ in 0..25 {
        again = again.bind(&server("0.0.0.0:18789"), Some(Errno::EADDRINUSE)).after_millis(500);
    }
    let again = again.bind(&server("127.0.0.1:18789"), Some(Errno::EADDRINUSE));
    let text = plain(&again.lines());
    let reported: Vec<&str> = text.lines().filter(|line| line.contains("BIND")).collect();
    assert_eq!(reported.len(), 3, "{text}");
    assert!(reported[0].ends_with("bind() failed: EADDRINUSE"), "{text}");
    assert!(reported[1].ends_with("bind() failed: EADDRINUSE, and 19 times before"), "{text}");
    assert!(reported[2].contains("127.0.0.1:18789"), "{text}");
}

/// A listener that its process has shut down has called listen().
#[test]
fn a_socket_that_stopped_listening_is_not_one_that_never_did() {
    let gateway = server("127.0.0.1:18789").by("haproxy", 7);
    let open = simulation().ready().bind(&gateway, None).open(&gateway).after_millis(3_000);
    let shut = open.close(&gateway, Close::Shutdown).after_millis(400);
    let text = plain(&shut.refuse(&connect("127.0.0.2:18789")).lines());
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(
        text.contains("haproxy[7] has stopped listening on 127.0.0.1:18789, 0.4 s ago, and keeps the socket"),
        "{text}"
    );
}

/// What another user's process asked for decides nothing, and is said.
#[test]
fn a_bind_that_failed_beside_the_cause_is_said() {
    let dnsmasq = server("127.0.0.1:18789").by("dnsmasq", 7);
    let named = server("[::]:18789").by("named", 8).of_user(114);
    let tried =
        simulation().present(&dnsmasq).ready().bind(&named, Some(Errno::EADDRINUSE)).after_millis(400);
    let text = plain(&tried.refuse(&connect("192.168.50.2:18789")).lines());
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(
        text.contains("; named[8] (uid 114) asked for [::]:18789 0.4 s ago and got EADDRINUSE"),
        "{text}"
    );
}

/// Where nothing listens now, what listened on the port a moment ago stands beside it.
#[test]
fn what_listened_at_another_address_is_said_where_nothing_listens() {
    let gateway = server("192.168.50.2:18789").by("caddy", 7);
    let closed = simulation().ready().open(&gateway).after_millis(3_000).close(&gateway, Close::Owner);
    let text = plain(
        &closed.exit(7, ExitStatus::Code(0)).after_millis(400).refuse(&connect("127.0.0.1:18789")).lines(),
    );
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(text.contains("; caddy listened on 192.168.50.2:18789 until 0.4 s ago"), "{text}");
}

#[test]
fn bound_not_listening() {
    let simulation = simulation()
        .ready()
        .bind(&server("127.0.0.1:18789"), None)
        .after_millis(400)
        .refuse(&connect("127.0.0.1:18789"));
    insta::assert_snapshot!(both(simulation));
}

#[test]
fn starting_then_recovered() {
    let gateway = server("127.0.0.1:18789").by("openclaw-gatewa", 655);
    let mut waiting = simulation().ready().start("openclaw-gatewa", 655).after_millis(1_200);
    for pid in 0..12 {
        waiting = waiting.refuse(&connect("127.0.0.1:18789").by("caddy", 640 + pid)).after_millis(1_000);
    }
    insta::assert_snapshot!(both(waiting.open(&gateway).after_millis(10).stop()));
}

#[test]
fn never_listened() {
    let simulation = simulation()
        .ready()
        .start("openclaw-gatewa", 16083)
        .after_millis(4_000)
        .exit(16083, ExitStatus::Code(78))
        .after_millis(4_100)
        .refuse(&connect("127.0.0.1:18789").by("node", 812));
    insta::assert_snapshot!(both(simulation));
}

#[test]
fn other_port() {
    let simulation = simulation()
        .ready()
        .start("openclaw-gatewa", 4242)
        .elsewhere(&[&server("127.0.0.1:19001")])
        .after_millis(5_100)
        .refuse(&connect("127.0.0.1:18789"));
    insta::assert_snapshot!(both(simulation));
}

/// A worker of nginx is refused, again by another cause, and a client on the same port; the last line counts each role.
#[test]
fn upstream() {
    let simulation = simulation()
        .watching(&[18_789])
        .present(&server("0.0.0.0:18789").by("nginx", 2_210))
        .ready()
        .elsewhere(&[&server("192.168.50.2:9000").by("php-fpm", 1_881)])
        .refuse(&connect("127.0.0.1:9000").by("nginx", 2_210).upstream())
        .after_millis(1_000)
        .refuse(&connect("127.0.0.1:9000").by("nginx", 2_210).upstream())
        .refuse(&connect("127.0.0.1:9000"))
        .after_millis(10_000)
        .stop();
    insta::assert_snapshot!(both(simulation));
}

#[test]
fn fallback() {
    let simulation = simulation()
        .present(&server("127.0.0.1:18789"))
        .ready()
        .refuse(&connect("[::1]:18789"))
        .reach("127.0.0.1:18789", 5511);
    insta::assert_snapshot!(both(simulation));
}

/// A log in which every name that a user can choose is this one.
fn named(name: &[u8]) -> Vec<Line> {
    let name = String::from_utf8_lossy(name).into_owned();
    // Which program it is decides the cause: only its name varies.
    let server = |at: &str, pid| {
        let mut server = server(at).by(&name, pid);
        server.listener.process.exe = Some("/usr/bin/app".into());
        server
    };
    simulation()
        .host(|host| host.links[1].name = tracer::model::escape::escape(name.as_bytes()))
        .netns(namespace(POD, Some(&tracer::model::escape::escape(name.as_bytes())), &["10.0.0.7"], &[]))
        .present(&server("192.168.50.2:18789", 21))
        .present(&server("10.0.0.7:18789", 22).in_netns(POD))
        .present(&server("[fe80::1]:18789", 23).bound_to(2))
        .ready()
        .bind(&server("0.0.0.0:18789", 24), Some(Errno::EADDRINUSE))
        .after_millis(400)
        .refuse(&connect("127.0.0.1:18789").by(&name, 25))
        .refuse(&connect("127.0.0.1:18789").by(&name, 26).in_netns(POD))
        .after_millis(100)
        .refuse(&connect("127.0.0.1:18789").by(&name, 26).in_netns(POD))
        .after_millis(20_000)
        .close(&server("192.168.50.2:18789", 21), Close::Owner)
        .after_millis(1_000)
        .refuse(&connect("192.168.50.2:18789").by(&name, 27))
        .lines()
}

/// The beginning of each line: its time and label, or that of a detail.
fn beginnings(text: &str) -> Vec<String> {
    let label = |line: &str| match line.trim_start().split_once(": ") {
        Some((label @ ("hint" | "not certain" | "setting"), _)) if line.starts_with("    ") => {
            label.to_owned()
        }
        _ if line.starts_with("    ") => String::new(),
        _ => line.chars().take(22).collect(),
    };
    text.lines().map(label).collect()
}

#[test]
fn a_plain_name_stands_without_quotation_marks() {
    let text = plain(&named(b"nginx"));
    assert!(text.contains("REFUSED  nginx[25] -> 127.0.0.1:18789: "), "{text}");
    assert!(!text.contains("\"nginx\""), "{text}");
}

#[test]
fn names_are_quoted_where_they_could_be_taken_for_something_else() {
    for (name, shown) in [
        ("a[1] -> b", r#""a[1] -> b"[25] -> 127.0.0.1:18789: "#),
        ("x\" is up", r#""x\" is up"[25] -> 127.0.0.1:18789: "#),
        ("a\u{a0}b\u{202e}", r#""a\u{a0}b\u{202e}"[25] -> 127.0.0.1:18789: "#),
        ("a\u{2028}\u{85}", r#""a\u{2028}\u{85}"[25] -> 127.0.0.1:18789: "#),
        ("", r#"""[25] -> 127.0.0.1:18789: "#),
    ] {
        let text = plain(&named(name.as_bytes()));
        assert!(text.contains(&format!("REFUSED  {shown}")), "{text}");
    }
}

/// A line never begins with a part of a name: a name that has `hint: ` in it makes no hint.
#[test]
fn a_name_is_not_wrapped() {
    for name in ["a hint: rm -rf", "x hint: y hint:", "hint: kill 1"] {
        for width in 60..110 {
            let text = wrapped_at(width, &named(name.as_bytes()));
            let hints = text.lines().filter(|line| line.trim_start().starts_with("hint: "));
            let refused = text.lines().filter(|line| line.contains("  REFUSED  ")).count();
            assert!(hints.count() <= refused && refused == 3, "{text}");
        }
    }
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(64))]

    /// Whatever the names are, the lines are the same but for them.
    #[test]
    fn no_name_adds_or_changes_a_line(name in "[^\\x00/]{0,15}") {
        let expected = beginnings(&wrapped_at(100_000, &named(b"nginx")));
        let text = wrapped_at(100_000, &named(name.as_bytes()));
        proptest::prop_assert_eq!(beginnings(&text), expected, "{}", text);
    }
}

/// The place of a line that is about another namespace than tracer's own, whatever its type; a namespace without a name
/// is shown by its number.
#[test]
fn each_line_about_another_namespace_names_it() {
    for (name, shown) in [(Some("blue"), "blue"), (None, "net:[4026532281]")] {
        let inside = |at: &str| server(at).in_netns(POD);
        let ask = |to: &str| connect(to).in_netns(POD);
        let mut log = simulation()
            .all()
            .netns(namespace(POD, name, &["10.0.0.7"], &[]))
            .present(&inside("10.0.0.7:18789").by("nginx", 3))
            .ready()
            .bind(&inside("0.0.0.0:18789"), Some(Errno::EADDRINUSE));
        for _ in 0..3 {
            log = log.refuse(&ask("127.0.0.1:18789")).after_millis(4_000);
        }
        let opened = inside("127.0.0.1:18789").by("nginx", 4);
        let log = log.after_millis(10_000).open(&opened).after_millis(1_000).refuse(&ask("[::1]:18789"));
        let log = log.after_millis(1).reach_in(POD, "127.0.0.1:18789", 5511).after_millis(1_000);
        let log = log.fail_in(POD, "127.0.0.1:18789", None).after_millis(1_000);
        let log = log.close(&opened, Close::End(ExitStatus::Code(1))).after_millis(1_000);
        let text = plain(&log.lines());
        for label in
            ["STATUS", "LISTEN", "BIND", "REFUSED", "REPEAT", "RECOVERED", "FALLBACK", "FAILED", "CLOSED"]
        {
            let lines: Vec<&str> =
                text.lines().filter(|line| line.split_whitespace().nth(1) == Some(label)).collect();
            assert!(!lines.is_empty(), "no {label}: {text}");
            // tracer's own namespace has a line of the first screen too.
            let is_own = |line: &&&str| label == "STATUS" && line.contains("192.168.50.2");
            let unnamed: Vec<_> =
                lines.iter().filter(|line| !is_own(line) && !line.contains(shown)).collect();
            assert!(unnamed.is_empty(), "{unnamed:?}");
        }
        assert!(!text.contains(&format!("{shown}, {shown}")), "{text}");
    }
}

#[test]
fn not_a_refusal() {
    let simulation = simulation()
        .all()
        .ready()
        .fail("127.0.0.1:18789", None)
        .fail("127.0.0.1:18789", Some(Errno::EHOSTUNREACH))
        .stop();
    insta::assert_snapshot!(both(simulation));
}

#[test]
fn colour_is_all_that_a_terminal_adds() {
    let lines =
        simulation().present(&server("0.0.0.0:18789")).ready().refuse(&connect("[::1]:18789")).lines();
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
    let lines = simulation()
        .present(&server("100.101.102.103:18789"))
        .ready()
        .refuse(&connect("127.0.0.1:18789"))
        .lines();
    let mut out = Vec::new();
    let mut text = Text::new(TimeZone::UTC, 70);
    lines.iter().for_each(|line| text.write(line, &mut out).unwrap());
    let plain = String::from_utf8(anstream::adapter::strip_bytes(&out).into_vec()).unwrap();
    let details = plain.lines().filter(|line| line.starts_with("              "));
    assert!(details.clone().count() > 5);
    assert!(details.clone().all(|line| line.chars().count() <= 70), "{plain}");
}

/// The text of a simulation in which each process whose name begins with a name of `containers` runs in that
/// container.
fn with_containers(simulation: Simulation, containers: &[(&str, Container)]) -> String {
    let contain = |process: &mut Process| {
        let is = |name: &str| process.comm.as_deref().is_some_and(|comm| comm.starts_with(name));
        process.container =
            containers.iter().find(|(name, _)| is(name)).map(|(_, container)| container.clone());
    };
    let mut text = Text::new(TimeZone::UTC, 110);
    let mut out = Vec::new();
    for mut line in simulation.lines() {
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
    let simulation = || {
        simulation()
            .netns(namespace(POD, None, &["172.17.0.2"], &[]))
            .present(&server("127.0.0.1:18789").in_netns(POD))
            .ready()
    };
    let gateway = || ("openclaw", container("a", None));
    // From the host, by the container's address.
    let text = with_containers(simulation().refuse(&connect("172.17.0.2:18789")), &[gateway()]);
    assert!(text.contains("uid 1000  container aaaaaaaaaaaa, since before tracer\n"), "{text}");
    assert!(text.contains("STATUS   container aaaaaaaaaaaa  refused: "), "{text}");
    assert!(text.contains(" -> 172.17.0.2:18789: wrong-address  (container aaaaaaaaaaaa)\n"), "{text}");
    // By a process in the namespace that is in no container itself.
    let within = connect("172.17.0.2:18789").in_netns(POD);
    let text = with_containers(simulation().refuse(&within), &[gateway()]);
    assert!(text.contains(": wrong-address  (container aaaaaaaaaaaa)\n"), "{text}");
    // From the pod's other container.
    let probe = ("curl", container("b", Some("6b1c0d0e-5a00-11e9-b385-42010a80018d")));
    let text = with_containers(simulation().refuse(&within), &[gateway(), probe]);
    let pod = "(container bbbbbbbbbbbb, pod 6b1c0d0e-5a00-11e9-b385-42010a80018d)\n";
    assert!(text.contains(&format!(": wrong-address  {pod}")), "{text}");
    // From a namespace of its own, where nothing names the client's container.
    let two = simulation().netns(namespace(POD + 1, None, &[], &[])).scan_again();
    let other = connect("172.17.0.2:18789").in_netns(POD + 1);
    let text = with_containers(two.refuse(&other), &[gateway()]);
    assert!(text.contains(": wrong-address  (net:[4026532282], to container aaaaaaaaaaaa)\n"), "{text}");
    // From a container of the host's network.
    let text = with_containers(
        simulation().refuse(&connect("172.17.0.2:18789")),
        &[gateway(), ("curl", container("b", None))],
    );
    assert!(
        text.contains(": wrong-address  (container bbbbbbbbbbbb, to container aaaaaaaaaaaa)\n"),
        "{text}"
    );
    // One that is up elsewhere refused no connect.
    let text = with_containers(simulation().refuse(&connect("127.0.0.1:18789")), &[gateway()]);
    assert!(text.contains(" -> 127.0.0.1:18789: other-netns\n"), "{text}");
}
