//! The verdicts, each as a story: what listens, what connects, and why nobody answers.

#[expect(dead_code, reason = "each test file uses a part of the stories")]
mod story;

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use story::{CONFIG, Close, HOST, Server, connect, namespace, process, server, story};
use tracer::claims::{Access, Claims, Environment, Product, Said, Settings};
use tracer::event::{ExitStatus, Namespace};
use tracer::line::{Because, Body, Call, Cause, Change, Confidence, LostWhere, Mismatch, SentBy, Verdict};

const POD: u32 = 4_026_532_281;

fn mismatches(verdict: &Verdict) -> Vec<Option<Mismatch>> {
    verdict.listeners.iter().map(|weighed| weighed.mismatch).collect()
}

#[track_caller]
fn assert_certain(verdict: &Verdict, cause: Cause) {
    assert_eq!((verdict.cause, verdict.confidence, &verdict.because), (cause, Confidence::Certain, &vec![]));
}

#[track_caller]
fn assert_degraded(verdict: &Verdict, cause: Cause, because: &[Because]) {
    assert_eq!(
        (verdict.cause, verdict.confidence, &*verdict.because),
        (cause, Confidence::Degraded, because)
    );
}

#[test]
fn nobody_listens() {
    let verdict = story().ready().refuse(&connect("127.0.0.1:18789")).verdict();
    assert_certain(&verdict, Cause::NothingListening);
    assert!(verdict.listeners.is_empty());
}

#[test]
fn a_listener_on_another_port_does_not_count() {
    let verdict =
        story().present(&server("127.0.0.1:19001")).ready().refuse(&connect("127.0.0.1:18789")).verdict();
    assert_certain(&verdict, Cause::NothingListening);
}

#[test]
fn the_tailnet_only_bind() {
    let verdict = story()
        .present(&server("100.101.102.103:18789"))
        .ready()
        .refuse(&connect("127.0.0.1:18789"))
        .verdict();
    assert_certain(&verdict, Cause::WrongAddress);
    assert_eq!(mismatches(&verdict), [Some(Mismatch::Address)]);
    assert_eq!(
        verdict.summary,
        "openclaw-gatewa[4242] is up, but on 100.101.102.103:18789 (tailnet) only; [::1], 192.168.50.2 and \
         [2001:db8::2] are refused too"
    );
    let hint = verdict.hint.unwrap();
    assert!(
        hint.starts_with("at once: use http://100.101.102.103:18789. For good: OpenClaw 2026.8.1"),
        "{hint}"
    );
}

#[test]
fn product_wording_is_for_a_recognised_owner_only() {
    let verdict = story()
        .present(&server("100.101.102.103:18789").by("nginx", 7))
        .ready()
        .refuse(&connect("127.0.0.1:18789"))
        .verdict();
    assert!(!verdict.hint.unwrap().contains("gateway"));
}

#[test]
fn opening_every_interface_is_never_proposed_without_the_token_and_the_firewall() {
    for at in ["100.101.102.103:18789", "127.0.0.1:18789", "[::1]:18789", "192.168.50.2:18789"] {
        for to in ["127.0.0.1:18789", "[::1]:18789", "192.168.50.2:18789", "100.101.102.103:18789"] {
            let verdict = story().present(&server(at)).ready().refuse(&connect(to)).verdict();
            let hint = verdict.hint.unwrap_or_default();
            if hint.contains("\"lan\"") {
                assert!(
                    hint.contains("gateway.auth.token") && hint.contains("firewall"),
                    "{at} {to}: {hint}"
                );
            }
        }
    }
}

#[test]
fn the_other_family() {
    for (at, to) in [
        ("0.0.0.0:18789", "[::1]:18789"),
        ("127.0.0.1:18789", "[::1]:18789"),
        ("[::1]:18789", "127.0.0.1:18789"),
        ("0.0.0.0:18789", "[2001:db8::2]:18789"),
    ] {
        let verdict = story().present(&server(at)).ready().refuse(&connect(to)).verdict();
        assert_certain(&verdict, Cause::WrongFamily);
        assert_eq!(mismatches(&verdict), [Some(Mismatch::Family)], "{at} {to}");
    }
}

#[test]
fn a_wildcard_for_ipv6_only() {
    for to in ["127.0.0.1:18789", "192.168.50.2:18789"] {
        let verdict = story().present(&server("[::]:18789").v6only()).ready().refuse(&connect(to)).verdict();
        assert_certain(&verdict, Cause::WrongFamily);
        assert_eq!(mismatches(&verdict), [Some(Mismatch::V6only)], "{to}");
    }
}

#[test]
fn one_address_of_the_other_family_is_only_the_wrong_address_for_a_lan_client() {
    let verdict =
        story().present(&server("[::1]:18789")).ready().refuse(&connect("192.168.50.2:18789")).verdict();
    assert_certain(&verdict, Cause::WrongAddress);
}

#[test]
fn a_listener_bound_to_a_device() {
    let verdict = story()
        .present(&server("0.0.0.0:18789").bound_to(2))
        .ready()
        .refuse(&connect("127.0.0.1:18789"))
        .verdict();
    assert_certain(&verdict, Cause::WrongDevice);
    assert_eq!(mismatches(&verdict), [Some(Mismatch::Device)]);
    assert_eq!(verdict.listeners[0].listener.device.as_deref(), Some("eth0"));
    assert_eq!(
        verdict.summary,
        "openclaw-gatewa[4242] listens on 0.0.0.0:18789, but is bound to the interface eth0, and 127.0.0.1 is on lo"
    );
}

#[test]
fn a_device_that_carries_the_address_matches() {
    // The kernel answers a local connect to eth0's address by a listener bound to eth0, so a refusal was
    // somebody else's doing.
    let verdict = story()
        .present(&server("0.0.0.0:18789").bound_to(2))
        .ready()
        .refuse(&connect("192.168.50.2:18789").sent_by(Some(SentBy::Filter)))
        .verdict();
    assert_certain(&verdict, Cause::Intercepted);
}

#[test]
fn a_connect_in_a_vrf_is_not_answered_from_outside() {
    let vrf = |accept| {
        story()
            .host(|host| {
                host.local.iter_mut().filter(|route| route.device == 2).for_each(|route| route.table = 10);
                host.links[1].master = Some(4);
                host.l3mdev_accept = Some(accept);
            })
            .present(&server("0.0.0.0:18789"))
            .ready()
            .refuse(&connect("192.168.50.2:18789").bound_to(4))
            .verdict()
    };
    assert_certain(&vrf(false), Cause::WrongDevice);
    assert_certain(&vrf(true), Cause::Intercepted);
}

#[test]
fn a_connect_goes_over_the_vrf_of_the_device_that_has_the_address() {
    let verdict = story()
        .host(|host| {
            host.local.iter_mut().filter(|route| route.device == 2).for_each(|route| route.table = 254);
            host.links[1].master = Some(4);
        })
        .present(&server("0.0.0.0:18789"))
        .ready()
        .refuse(&connect("192.168.50.2:18789"))
        .verdict();
    assert_certain(&verdict, Cause::WrongDevice);
}

#[test]
fn a_vrf_has_no_part_in_a_connect_to_a_link_local_address() {
    let answered = |listener: &Server| {
        story()
            .host(|host| {
                host.local.iter_mut().filter(|route| route.device == 2).for_each(|route| route.table = 10);
                host.links[1].master = Some(4);
            })
            .present(listener)
            .ready()
            .refuse(&connect("[fe80::1]:18789").bound_to(2))
            .verdict()
    };
    assert_certain(&answered(&server("[::]:18789")), Cause::Intercepted);
    assert_certain(&answered(&server("[fe80::1]:18789").bound_to(2)), Cause::Intercepted);
    assert_certain(&answered(&server("[fe80::1]:18789").bound_to(4)), Cause::WrongDevice);
}

#[test]
fn a_packet_filter_refuses_for_a_listener() {
    for connect in [
        connect("127.0.0.1:18789").by_icmp(),
        connect("127.0.0.1:18789").sent_by(Some(SentBy::Filter)),
        connect("127.0.0.1:18789").sent_by(Some(SentBy::Tcp)),
        connect("127.0.0.1:18789").sent_by(None),
    ] {
        let verdict = story().present(&server("0.0.0.0:18789")).ready().refuse(&connect).verdict();
        assert_certain(&verdict, Cause::Intercepted);
        assert_eq!(mismatches(&verdict), [None]);
    }
}

#[test]
fn a_listener_that_opened_just_before_the_connect_leaves_a_doubt() {
    let gateway = server("127.0.0.1:18789");
    let at = |millis, sent_by| {
        let connect = connect("127.0.0.1:18789").sent_by(sent_by);
        story().ready().open(&gateway).after_millis(millis).refuse(&connect).verdict()
    };
    assert_degraded(&at(9, Some(SentBy::Tcp)), Cause::Intercepted, &[Because::ListenerChanging]);
    assert_certain(&at(10, Some(SentBy::Tcp)), Cause::Intercepted);
    // A packet filter's own reset never asks a listener, however young.
    assert_certain(&at(9, Some(SentBy::Filter)), Cause::Intercepted);
}

#[test]
fn a_listener_that_closes_just_after_the_connect_was_on_its_way_out() {
    let gateway = server("127.0.0.1:18789");
    let verdict = story()
        .present(&gateway)
        .ready()
        .after_millis(1_000)
        .refuse(&connect("127.0.0.1:18789"))
        .after_millis(5)
        .close(&gateway, Close::Owner)
        .verdict();
    assert_degraded(&verdict, Cause::Stopped, &[Because::ListenerChanging]);

    let verdict = story()
        .present(&gateway)
        .ready()
        .refuse(&connect("127.0.0.1:18789"))
        .after_millis(11)
        .close(&gateway, Close::Owner)
        .verdict();
    assert_certain(&verdict, Cause::Intercepted);
}

#[test]
fn a_listener_that_opened_after_the_connect_is_not_weighed_as_an_answer() {
    let gateway = server("127.0.0.1:18789");
    // The refusal is recorded 0.2 ms after the connect; the listener opens in between.
    let verdict = story().ready().refuse(&connect("127.0.0.1:18789")).open(&gateway).verdict();
    assert_eq!(verdict.cause, Cause::NothingListening);
}

#[test]
fn a_listener_stopped() {
    let gateway = server("127.0.0.1:18789");
    let ends = [
        (
            Close::Owner,
            "openclaw-gatewa[4242] closed 127.0.0.1:18789 2.5 s ago and lives on: a restart inside the process, or it gave the port up",
        ),
        (
            Close::End(ExitStatus::Code(78)),
            "127.0.0.1:18789 was closed 2.5 s ago: openclaw-gatewa[4242] exited with code 78",
        ),
        (
            Close::End(ExitStatus::Signal(9)),
            "127.0.0.1:18789 was closed 2.5 s ago: openclaw-gatewa[4242] was ended by SIGKILL",
        ),
        (
            Close::Kernel,
            "127.0.0.1:18789 was closed 2.5 s ago, by whom is not known; it was openclaw-gatewa[4242]'s",
        ),
        (
            Close::Force,
            "127.0.0.1:18789 was closed 2.5 s ago, by whom is not known; it was openclaw-gatewa[4242]'s",
        ),
    ];
    for (how, summary) in ends {
        let verdict = story()
            .present(&gateway)
            .ready()
            .close(&gateway, how)
            .after_millis(2_500)
            .refuse(&connect("127.0.0.1:18789"))
            .verdict();
        assert_certain(&verdict, Cause::Stopped);
        assert_eq!(verdict.summary, summary);
        assert_eq!(mismatches(&verdict), [Some(Mismatch::Closed)]);
    }
}

#[test]
fn what_opened_since_a_close_is_what_counts() {
    let before = server("127.0.0.1:18789");
    let after = server("100.101.102.103:18789");
    let verdict = story()
        .present(&before)
        .ready()
        .close(&before, Close::Owner)
        .after_millis(1_000)
        .open(&after)
        .after_millis(1_000)
        .refuse(&connect("127.0.0.1:18789"))
        .verdict();
    assert_certain(&verdict, Cause::WrongAddress);
}

#[test]
fn one_of_two_listeners_on_an_address_closing_is_not_a_stop() {
    let (one, other) = (server("127.0.0.1:18789").by("nginx", 10), server("127.0.0.1:18789").by("nginx", 11));
    let verdict = story()
        .present(&one)
        .present(&other)
        .ready()
        .close(&one, Close::Owner)
        .after_millis(1_000)
        .refuse(&connect("127.0.0.1:18789").sent_by(Some(SentBy::Filter)))
        .verdict();
    assert_certain(&verdict, Cause::Intercepted);
}

#[test]
fn a_failed_listen_is_no_listener_but_a_failed_bind() {
    let gateway = server("127.0.0.1:18789");
    let log = story().ready().open(&gateway).close(&gateway, Close::Failure).after_millis(10).end().log;
    assert!(!log.iter().any(|output| matches!(output.body, Body::Listener(_))), "{log:?}");

    let verdict = story()
        .ready()
        .open(&gateway)
        .close(&gateway, Close::Failure)
        .after_millis(10)
        .refuse(&connect("127.0.0.1:18789"))
        .verdict();
    assert_certain(&verdict, Cause::BindFailed);
    assert_eq!((verdict.failed_binds[0].call, &*verdict.failed_binds[0].errno), (Call::Listen, "EADDRINUSE"));
}

#[test]
fn a_listener_closed_at_once_still_shows_that_it_opened() {
    let gateway = server("127.0.0.1:18789");
    let log = story().ready().open(&gateway).close(&gateway, Close::Owner).end().log;
    let changes: Vec<Change> = log
        .iter()
        .filter_map(|output| match &output.body {
            Body::Listener(line) => Some(line.change),
            _ => None,
        })
        .collect();
    assert_eq!(changes, [Change::Opened, Change::Closed]);
}

#[test]
fn a_listener_in_another_namespace() {
    let verdict = story()
        .netns(namespace(POD, Some("pod"), &["10.0.0.7"], &[]))
        .present(&server("127.0.0.1:18789").in_netns(POD))
        .ready()
        .refuse(&connect("127.0.0.1:18789"))
        .verdict();
    assert_certain(&verdict, Cause::OtherNetns);
    assert_eq!(mismatches(&verdict), [Some(Mismatch::Netns)]);
    assert!(verdict.hint.unwrap().starts_with("to reach it from in there: ip netns exec pod COMMAND"));
}

#[test]
fn an_address_of_another_namespace_is_judged_in_there() {
    // A proxy on the host, refused by a container's address: the container listens on its own loopback.
    let verdict = story()
        .netns(namespace(POD, None, &["172.17.0.2"], &[]))
        .present(&server("127.0.0.1:18789").in_netns(POD))
        .ready()
        .refuse(&connect("172.17.0.2:18789"))
        .verdict();
    assert_certain(&verdict, Cause::WrongAddress);
    assert_eq!(mismatches(&verdict), [Some(Mismatch::Address)]);
    assert!(
        verdict.summary.contains("on 127.0.0.1:18789 in network namespace net:[4026532281] only"),
        "{}",
        verdict.summary
    );
    assert!(verdict.hint.unwrap().ends_with("change nothing outside"));
}

#[test]
fn an_address_of_several_namespaces_is_ambiguous() {
    let verdict = story()
        .netns(namespace(POD, None, &["172.17.0.2"], &[]))
        .netns(namespace(POD + 1, None, &["172.17.0.2"], &[]))
        .present(&server("127.0.0.1:18789").in_netns(POD + 1))
        .ready()
        .refuse(&connect("172.17.0.2:18789"))
        .verdict();
    assert_degraded(&verdict, Cause::WrongAddress, &[Because::AmbiguousNetns]);
}

#[test]
fn an_address_of_nobody_here_is_remote() {
    let verdict =
        story().present(&server("0.0.0.0:18789")).ready().refuse(&connect("203.0.113.9:18789")).verdict();
    assert_degraded(&verdict, Cause::Remote, &[Because::MayBeTranslated]);
}

#[test]
fn lost_records_make_a_verdict_uncertain_until_the_host_is_looked_at_again() {
    let lost = || story().present(&server("100.101.102.103:18789")).ready().lose(3, LostWhere::Ring);
    let verdict = lost().refuse(&connect("127.0.0.1:18789")).verdict();
    assert_degraded(&verdict, Cause::WrongAddress, &[Because::LostRecords]);
    let verdict = lost().look_again().refuse(&connect("127.0.0.1:18789")).verdict();
    assert_certain(&verdict, Cause::WrongAddress);
}

#[test]
fn a_count_that_is_lost_does_not_touch_the_table() {
    for place in [LostWhere::Attempts, LostWhere::Recursion] {
        let verdict = story()
            .present(&server("100.101.102.103:18789"))
            .ready()
            .lose(3, place)
            .refuse(&connect("127.0.0.1:18789"))
            .verdict();
        assert_certain(&verdict, Cause::WrongAddress);
    }
}

#[test]
fn an_opening_that_was_lost_is_found_again() {
    let gateway = server("127.0.0.1:18789");
    let other = server("100.101.102.103:18789");
    let story = story().present(&other).ready().open(&gateway).after_millis(100).lose(1, LostWhere::Ring);
    // The host has only what was present: the close of the other one was lost.
    let verdict = story.after_millis(100).look_again().refuse(&connect("127.0.0.1:18789")).verdict();
    assert_certain(&verdict, Cause::Stopped);
}

#[test]
fn a_namespace_that_cannot_be_read_matters_where_a_verdict_rests_on_an_absence() {
    let verdict = story().unreadable(POD).ready().refuse(&connect("127.0.0.1:18789")).verdict();
    assert_degraded(&verdict, Cause::NothingListening, &[Because::NetnsUnreadable]);

    let verdict = story()
        .unreadable(POD)
        .present(&server("100.101.102.103:18789"))
        .ready()
        .refuse(&connect("127.0.0.1:18789"))
        .verdict();
    assert_certain(&verdict, Cause::WrongAddress);
}

#[test]
fn a_refusal_before_ready_says_so() {
    let verdict = story().look_again().refuse(&connect("127.0.0.1:18789")).verdict();
    assert_degraded(&verdict, Cause::NothingListening, &[Because::BeforeReady]);
}

#[test]
fn a_reused_namespace_number_has_no_history() {
    let gateway = server("127.0.0.1:18789").in_netns(POD);
    let mut reused = namespace(POD, Some("new"), &[], &[]);
    reused.cookie += 1;
    let mut story = story()
        .netns(namespace(POD, Some("old"), &[], &[]))
        .present(&gateway)
        .ready()
        .close(&gateway, Close::Owner)
        .after_millis(100);
    story = story.netns(reused);
    let mut refused = connect("127.0.0.1:18789").in_netns(POD);
    refused = refused.sent_by(Some(SentBy::Tcp));
    let verdict = story.look_again().refuse(&refused).verdict();
    assert_eq!(verdict.cause, Cause::NothingListening, "{verdict:?}");
}

/// The namespace with a number whose last owner has ended.
fn reused(cookie: u64) -> Namespace {
    Namespace { cookie, ..namespace(POD, Some("new"), &[], &[]) }
}

/// A look at the host in between, in which the old one is not there any more, changes nothing.
#[test]
fn a_namespace_that_ended_unseen_leaves_its_number_no_history() {
    let gateway = server("127.0.0.1:18789").in_netns(POD);
    // Where the kernel has no cookies, the look is all there is to tell them apart.
    for (old, new) in [(u64::from(POD), u64::from(POD) + 1), (0, 0)] {
        let verdict = story()
            .netns(Namespace { cookie: old, ..namespace(POD, Some("old"), &[], &[]) })
            .present(&gateway)
            .ready()
            .close(&gateway, Close::Owner)
            .bind(&gateway, Some(libc::EACCES))
            .after_millis(100)
            .no_netns(POD)
            .nothing_present()
            .look_again()
            .netns(reused(new))
            .look_again()
            .refuse(&connect("127.0.0.1:18789").in_netns(POD).in_netns_with(new))
            .verdict();
        assert_certain(&verdict, Cause::NothingListening);
        assert!(verdict.failed_binds.is_empty(), "{verdict:?}");
    }
}

/// One that is only not to be seen for a while keeps its history: its cookie is the same.
#[test]
fn a_namespace_that_comes_back_is_the_same() {
    let gateway = server("127.0.0.1:18789").in_netns(POD);
    let pod = || namespace(POD, Some("pod"), &[], &[]);
    let verdict = story()
        .netns(pod())
        .present(&gateway)
        .ready()
        .close(&gateway, Close::Owner)
        .after_millis(100)
        .no_netns(POD)
        .nothing_present()
        .look_again()
        .netns(pod())
        .look_again()
        .refuse(&connect("127.0.0.1:18789").in_netns(POD))
        .verdict();
    assert_certain(&verdict, Cause::Stopped);
}

/// What was refused in the old one is neither repeated nor over in the new one; and each of them is counted.
#[test]
fn a_reused_namespace_number_has_no_refusals() {
    let again = || connect("127.0.0.1:18789").in_netns(POD);
    let bodies = story()
        .netns(namespace(POD, Some("old"), &[], &[]))
        .ready()
        .refuse(&again())
        .refuse(&again())
        .after_millis(100)
        .no_netns(POD)
        .netns(reused(u64::from(POD) + 1))
        .look_again()
        .refuse(&again().in_netns_with(u64::from(POD) + 1))
        .after_millis(100)
        .open(&server("127.0.0.1:18789").in_netns(POD).in_netns_with(u64::from(POD) + 1))
        .after_millis(100)
        .told();
    let expected = [
        "3 refused nothing-listening",
        "4 refused nothing-listening",
        "repeated 3 1 by 1",
        "recovered [4] 1",
    ];
    let told = follow_ups(&bodies);
    assert!(told.len() == 4 && told.iter().zip(expected).all(|(told, is)| told.starts_with(is)), "{told:?}");
}

#[test]
fn the_nearest_sixteen_of_many_are_shown_and_all_are_counted() {
    let mut many = story();
    for pid in 1..=40 {
        many = many.present(&server("192.168.50.2:18789").by("nginx", pid));
    }
    let nearest = server("[::]:18789").v6only().by("gateway", 99);
    let verdict = many.present(&nearest).ready().refuse(&connect("127.0.0.1:18789")).verdict();
    assert_eq!((verdict.listeners.len(), verdict.listeners_total), (16, 41));
    assert_eq!(verdict.listeners[0].mismatch, Some(Mismatch::V6only));
}

#[test]
fn the_first_screen_says_what_each_address_would_get() {
    let log = story().present(&server("100.101.102.103:18789")).ready().log;
    let answers: Vec<(String, bool)> = log
        .iter()
        .find_map(|output| match &output.body {
            Body::Ready(ready) => {
                Some(ready.addresses.iter().map(|answer| (answer.addr.clone(), answer.answered)).collect())
            }
            _ => None,
        })
        .unwrap();
    let expected = [
        ("127.0.0.1", false),
        ("::1", false),
        ("100.101.102.103", true),
        ("192.168.50.2", false),
        ("2001:db8::2", false),
    ];
    assert_eq!(answers, expected.map(|(addr, answered)| (addr.to_owned(), answered)));
    assert_eq!(HOST, 4_026_531_840);
}

#[test]
fn a_cause_is_decided_by_every_listener_not_by_those_shown() {
    let mut many = story();
    for pid in 1..=40 {
        many = many.present(&server("192.168.50.2:18789").by("nginx", pid));
    }
    let verdict = many.present(&server("127.0.0.1:18789")).ready().refuse(&connect("[::1]:18789")).verdict();
    assert_certain(&verdict, Cause::WrongFamily);
    assert_eq!(verdict.listeners[0].listener.addr, "127.0.0.1");
    assert!(verdict.summary.ends_with("IPv4 only; 127.0.0.1:18789 is answered"), "{}", verdict.summary);
}

#[test]
fn an_address_that_would_be_refused_is_not_recommended() {
    // `[::]` for IPv6 only, and on eth0 only: `::1` is refused as well.
    let listener = server("[::]:18789").v6only().bound_to(2);
    let verdict = story().present(&listener).ready().refuse(&connect("127.0.0.1:18789")).verdict();
    assert_certain(&verdict, Cause::WrongAddress);
    assert!(!verdict.summary.contains("is answered") && !verdict.hint.unwrap().contains("[::1]"));

    // The tailnet is down, and the listener still there.
    let verdict = story()
        .host(|host| host.local.retain(|route| route.device != 3))
        .present(&server("100.101.102.103:18789"))
        .ready()
        .refuse(&connect("127.0.0.1:18789"))
        .verdict();
    assert!(verdict.hint.unwrap().starts_with("100.101.102.103 is no address of this namespace any more"));
}

#[test]
fn each_owner_is_named_with_its_own_address() {
    let verdict = story()
        .present(&server("192.168.50.2:18789").by("one", 1))
        .present(&server("100.101.102.103:18789").by("two", 2))
        .ready()
        .refuse(&connect("127.0.0.1:18789"))
        .verdict();
    assert!(
        verdict.summary.starts_with(
            "servers are up, but elsewhere: two[2] on 100.101.102.103:18789 (tailnet) and one[1] on \
             192.168.50.2:18789"
        ),
        "{}",
        verdict.summary
    );
}

#[test]
fn a_server_on_its_own_loopback_is_not_to_be_published() {
    let verdict = story()
        .netns(namespace(POD, None, &["172.17.0.2"], &[]))
        .present(&server("127.0.0.1:18789").in_netns(POD))
        .ready()
        .refuse(&connect("127.0.0.1:18789"))
        .verdict();
    assert_certain(&verdict, Cause::OtherNetns);
    assert!(verdict.hint.unwrap().ends_with("so that a published port would be refused too"));
}

#[test]
fn a_container_that_was_made_anew_is_not_ambiguous() {
    let gateway = server("127.0.0.1:18789").in_netns(POD + 1);
    let mut story = story().netns(namespace(POD, None, &["172.17.0.2"], &[])).ready();
    story = story.no_netns(POD).netns(namespace(POD + 1, None, &["172.17.0.2"], &[]));
    let verdict = story.present(&gateway).look_again().refuse(&connect("172.17.0.2:18789")).verdict();
    assert_certain(&verdict, Cause::WrongAddress);
}

#[test]
fn a_filter_that_would_refuse_a_listener_too_is_not_kept_silent() {
    let connect = connect("127.0.0.1:18789").sent_by(Some(SentBy::Filter));
    let verdict = story().ready().refuse(&connect).verdict();
    assert_certain(&verdict, Cause::NothingListening);
    assert!(verdict.summary.ends_with("; a packet filter refused"), "{}", verdict.summary);
}

#[test]
fn a_bind_that_failed() {
    let gateway = server("127.0.0.1:18789");
    let orphan = server("100.101.102.103:18789").by("openclaw-gatewa", 2101);
    let verdict = story()
        .present(&orphan)
        .ready()
        .bind(&gateway, Some(libc::EADDRINUSE))
        .after_millis(400)
        .refuse(&connect("127.0.0.1:18789"))
        .verdict();
    assert_certain(&verdict, Cause::BindFailed);
    assert_eq!((&*verdict.failed_binds[0].errno, verdict.failed_binds[0].times), ("EADDRINUSE", 1));
    assert_eq!(
        verdict.summary,
        "openclaw-gatewa[4242] asked for 127.0.0.1:18789 and got EADDRINUSE, 0.4 s ago; held by \
         openclaw-gatewa[2101] on 100.101.102.103:18789 (uid 1000, started 50.4 s ago, its parent is pid 1)"
    );
    assert_eq!(
        verdict.hint.as_deref(),
        Some("if openclaw-gatewa[2101] is a left-over, end it (kill 2101); then start the server again")
    );
}

#[test]
fn a_bind_that_would_not_have_covered_the_address_is_no_cause_while_another_listens() {
    let verdict = story()
        .present(&server("[::1]:18789").by("other", 1))
        .ready()
        .bind(&server("192.168.50.2:18789"), Some(libc::EADDRNOTAVAIL))
        .after_millis(400)
        .refuse(&connect("127.0.0.1:18789"))
        .verdict();
    assert_certain(&verdict, Cause::WrongFamily);
    assert_eq!(verdict.failed_binds.len(), 1);
}

#[test]
fn a_bind_that_succeeds_ends_the_failures() {
    let gateway = server("127.0.0.1:18789");
    let verdict = story()
        .ready()
        .bind(&gateway, Some(libc::EADDRINUSE))
        .after_millis(400)
        .bind(&gateway, None)
        .after_millis(400)
        .refuse(&connect("127.0.0.1:18789"))
        .verdict();
    assert_certain(&verdict, Cause::BoundNotListening);
    assert!(verdict.failed_binds.is_empty());
}

#[test]
fn what_holds_the_port_without_listening_is_named() {
    let failed = || story().ready().bind(&server("0.0.0.0:18789"), Some(libc::EADDRINUSE)).after_millis(100);
    let waiting = failed().held("127.0.0.1", "TIME-WAIT", tracer::line::Process::default());
    let verdict = waiting.refuse(&connect("127.0.0.1:18789")).verdict();
    assert_certain(&verdict, Cause::BindFailed);
    assert!(
        verdict.summary.ends_with("held by a socket on 127.0.0.1:18789 in state TIME-WAIT, without an owner")
    );
    assert!(verdict.hint.unwrap().starts_with("wait until the old connection's TIME-WAIT is over"));

    let client = failed().held("127.0.0.1", "ESTAB", story::process("psql", 77));
    let verdict = client.refuse(&connect("127.0.0.1:18789")).verdict();
    assert!(verdict.summary.ends_with("held by psql[77] on 127.0.0.1:18789, ESTAB"), "{}", verdict.summary);
}

#[test]
fn a_bound_socket_that_goes_is_forgotten() {
    let gateway = server("127.0.0.1:18789");
    let verdict = story()
        .ready()
        .bind(&gateway, None)
        .after_millis(10)
        .destroy(&gateway)
        .refuse(&connect("127.0.0.1:18789"))
        .verdict();
    assert_certain(&verdict, Cause::NothingListening);
}

#[test]
fn a_socket_that_was_bound_before_is_found_by_a_look() {
    let gateway = story::process("openclaw-gatewa", 4242);
    let verdict =
        story().ready().held("127.0.0.1", "UNCONN", gateway).refuse(&connect("127.0.0.1:18789")).verdict();
    assert_certain(&verdict, Cause::BoundNotListening);
    assert_eq!(verdict.summary, "openclaw-gatewa[4242] holds 127.0.0.1:18789 and has not called listen()");
}

#[test]
fn a_client_that_connects_from_the_port_is_no_server() {
    let source = server("127.0.0.1:18789").by("psql", 77);
    let gateway = server("0.0.0.0:18789");
    let bound = || {
        story()
            .ready()
            .bind(&gateway, Some(libc::EADDRINUSE))
            .after_millis(10)
            .bind(&source, None)
            .after_millis(10)
    };
    let verdict = bound().refuse(&connect("127.0.0.1:18789")).verdict();
    assert_certain(&verdict, Cause::BoundNotListening);
    // Its bind was no success of the server's, so the server's failure stands.
    let verdict = bound().becomes_client(&source).refuse(&connect("127.0.0.1:18789")).verdict();
    assert_certain(&verdict, Cause::BindFailed);
    // A server's bind ends the failure for good, also when its socket has gone since.
    let verdict = bound().destroy(&source).refuse(&connect("127.0.0.1:18789")).verdict();
    assert_certain(&verdict, Cause::NothingListening);
}

#[test]
fn an_address_of_elsewhere_that_this_host_refused_was_translated() {
    let refuse = |sent_by| story().ready().refuse(&connect("198.51.100.7:18789").sent_by(sent_by)).verdict();
    let own = "this host's own TCP stack sent the reset, so the address was translated to one of its own";
    assert!(refuse(Some(SentBy::Tcp)).summary.ends_with(own));
    assert!(!refuse(None).summary.contains(own));
}

#[test]
fn a_newer_version_is_proposed_where_it_helps() {
    let refuse = |to: &str| {
        let story = story().present(&server("100.101.102.103:18789")).ready();
        story.refuse(&connect(to)).verdict().hint.unwrap()
    };
    assert!(refuse("127.0.0.1:18789").contains("OpenClaw 2026.8.1 or later, or gateway.bind \"lan\""));
    let lan = refuse("192.168.50.2:18789");
    assert!(lan.contains("For good: gateway.bind \"lan\"") && !lan.contains("2026.8.1"), "{lan}");
}

#[test]
fn after_a_loss_what_is_bound_is_not_known() {
    let gateway = server("127.0.0.1:18789");
    let lost = story().ready().bind(&gateway, None).after_millis(10).lose(1, LostWhere::Ring);
    let verdict = lost.refuse(&connect("127.0.0.1:18789")).verdict();
    assert_degraded(&verdict, Cause::NothingListening, &[Because::LostRecords]);
    let found = story().ready().bind(&gateway, None).after_millis(10).lose(1, LostWhere::Ring);
    let found = found.held("127.0.0.1", "UNCONN", story::process("openclaw-gatewa", 4242));
    let verdict = found.refuse(&connect("127.0.0.1:18789")).verdict();
    assert_degraded(&verdict, Cause::BoundNotListening, &[Because::LostRecords]);
}

#[test]
fn a_skipped_program_costs_a_count_or_where_it_may_be_any_the_certainty() {
    let skipped = |story: story::Story| {
        story.ready().lose(3, LostWhere::Recursion).refuse(&connect("127.0.0.1:18789")).verdict()
    };
    assert_certain(&skipped(story()), Cause::NothingListening);
    assert_degraded(
        &skipped(story().that_skips_anything()),
        Cause::NothingListening,
        &[Because::LostRecords],
    );
}

#[test]
fn a_listener_that_holds_the_port_is_named_as_its_holder() {
    let orphan = server("100.101.102.103:18789").by("openclaw-gatewa", 2101);
    let verdict = story()
        .present(&orphan)
        .ready()
        .bind(&server("0.0.0.0:18789").by("openclaw-gatewa", 2970), Some(libc::EADDRINUSE))
        .after_millis(400)
        .refuse(&connect("127.0.0.1:18789"))
        .verdict();
    assert_certain(&verdict, Cause::BindFailed);
    let [held_by] = &verdict.failed_binds[0].held_by[..] else { panic!("{verdict:?}") };
    assert_eq!((held_by.addr.as_str(), held_by.state.as_str()), ("100.101.102.103", "LISTEN"));
    assert_eq!(held_by.process.pid, Some(2101));
}

#[test]
fn a_cause_that_cannot_be_seen_puts_those_after_it_in_doubt() {
    let blind = || story().without_sign_of(Cause::BoundNotListening);
    let verdict = blind().ready().refuse(&connect("127.0.0.1:18789")).verdict();
    assert_degraded(&verdict, Cause::NothingListening, &[Because::HookMissing]);
    let up = blind().present(&server("192.168.50.2:18789")).ready();
    assert_certain(&up.refuse(&connect("127.0.0.1:18789")).verdict(), Cause::WrongAddress);
    // One that was seen to bind is no matter of doubt.
    let bound = blind().ready().bind(&server("127.0.0.1:18789"), None).after_millis(10);
    assert_certain(&bound.refuse(&connect("127.0.0.1:18789")).verdict(), Cause::BoundNotListening);
}

#[test]
fn more_ends_than_are_remembered_put_the_history_in_doubt() {
    let mut ended = story().ready();
    for last in 1..=100 {
        let one = server(&format!("127.0.1.{last}:18789"));
        ended = ended.open(&one).after_millis(20).close(&one, Close::Owner).after_millis(20);
    }
    let verdict = ended.refuse(&connect("127.0.1.1:18789")).verdict();
    assert_degraded(&verdict, Cause::NothingListening, &[Because::HistoryForgotten]);
}

#[test]
fn a_server_that_starts() {
    let verdict = story()
        .ready()
        .start("openclaw-gatewa", 655)
        .after_millis(1_200)
        .refuse(&connect("127.0.0.1:18789"))
        .verdict();
    assert_certain(&verdict, Cause::Starting);
    assert_eq!(verdict.candidates[0].process.pid, Some(655));
    assert_eq!(
        verdict.summary,
        "nothing listens on 18789 yet; openclaw-gatewa[655], by its name or arguments the server, started 1.2 s ago and \
         has not called listen()"
    );
}

#[test]
fn a_client_is_no_candidate_whatever_it_calls_itself() {
    let probe = connect("127.0.0.1:18789").by("openclaw-gatewa", 655);
    let verdict = story().ready().start("openclaw-gatewa", 655).refuse(&probe).verdict();
    assert_certain(&verdict, Cause::NothingListening);
}

/// What told of its end was lost: a look at every process finds it no more.
#[test]
fn a_server_whose_end_was_lost_is_not_starting() {
    let lost = || story().ready().start("openclaw-gatewa", 700).after_millis(10).lose(1, LostWhere::Ring);
    let refuse = |story: story::Story| story.after_millis(10).refuse(&connect("127.0.0.1:18789")).verdict();
    let verdict = refuse(lost().look_again().finds_servers(&[]));
    assert_certain(&verdict, Cause::NothingListening);
    let verdict = refuse(lost().look_again().finds_servers(&[("openclaw-gatewa", 700)]));
    assert_certain(&verdict, Cause::Starting);
    // The look was late: what comes still tells how it ended.
    let story = lost().look_again().finds_servers(&[]).exit(700, ExitStatus::Code(78));
    assert_certain(&refuse(story), Cause::NeverListened);
}

/// That the end of somebody will not be told is a doubt where a server's end would be the reason.
#[test]
fn ends_that_are_not_told_put_what_rests_on_them_in_doubt() {
    let lost = || story().ready().lose(1, LostWhere::Followed);
    let verdict = lost().look_again().refuse(&connect("127.0.0.1:18789")).verdict();
    assert_degraded(&verdict, Cause::NothingListening, &[Because::LostRecords]);
    let gateway = server("100.101.102.103:18789");
    let verdict = lost().open(&gateway).after_millis(20).refuse(&connect("127.0.0.1:18789")).verdict();
    assert_certain(&verdict, Cause::WrongAddress);
}

/// Whoever calls itself the server by the hundred hides nobody elsewhere, and nobody who was there before.
#[test]
fn pretenders_by_the_hundred_hide_no_server() {
    for netns in [POD, HOST] {
        let mut crowded = story()
            .netns(namespace(POD, Some("pod"), &[], &[]))
            .ready()
            .start("openclaw-gatewa", 700)
            .after_millis(10);
        for pid in 1_000..1_300 {
            crowded = crowded.start_in(netns, "openclaw-gatewa", pid).after_millis(1);
        }
        let verdict = crowded.refuse(&connect("127.0.0.1:18789")).verdict();
        assert_certain(&verdict, Cause::Starting);
        let pids = || verdict.candidates.iter().filter_map(|candidate| candidate.process.pid);
        assert!(pids().any(|pid| pid == 700), "{netns}: {:?}", pids().collect::<Vec<_>>());
    }
}

#[test]
fn a_server_that_never_listened() {
    let mut crashing = story().ready();
    for pid in [101, 102, 103] {
        crashing = crashing.start("openclaw-gatewa", pid).after_millis(4_000).exit(pid, ExitStatus::Code(78));
    }
    let verdict = crashing.after_millis(4_100).refuse(&connect("127.0.0.1:18789")).verdict();
    assert_certain(&verdict, Cause::NeverListened);
    assert_eq!(
        verdict.summary,
        "openclaw-gatewa[103], by its name or arguments the server, ended 4.1 s ago with exit code 78, without a listen \
         on 18789; 3 such ends in 60 s"
    );
    assert!(verdict.hint.unwrap().contains("journalctl --user -u openclaw-gateway"));
}

#[test]
fn a_server_on_another_port() {
    let verdict = story()
        .ready()
        .start("openclaw-gatewa", 4242)
        .after_millis(1_000)
        .elsewhere(&[&server("127.0.0.1:19001")])
        .refuse(&connect("127.0.0.1:18789"))
        .verdict();
    assert_certain(&verdict, Cause::OtherPort);
    assert_eq!(mismatches(&verdict), [Some(Mismatch::Port)]);
    assert_eq!(verdict.summary, "nothing listens on 18789; openclaw-gatewa[4242] listens on 127.0.0.1:19001");
}

#[test]
fn an_owner_that_closes_and_then_ends_is_told_as_ended() {
    let gateway = server("127.0.0.1:18789");
    let verdict = story()
        .present(&gateway)
        .ready()
        .close(&gateway, Close::Owner)
        .after_millis(500)
        .exit(4242, ExitStatus::Code(3))
        .after_millis(500)
        .refuse(&connect("127.0.0.1:18789"))
        .verdict();
    assert_certain(&verdict, Cause::Stopped);
    assert!(verdict.summary.ends_with("openclaw-gatewa[4242] exited with code 3"), "{}", verdict.summary);
}

/// Refusals, recoveries and counts, each with the place in the log that it is or is about.
fn follow_ups(bodies: &[Body]) -> Vec<String> {
    let mut told = Vec::new();
    for (index, body) in bodies.iter().enumerate() {
        match body {
            Body::Refused(refused) => {
                told.push(format!("{} refused {}", index + 2, refused.verdict.cause.name()));
            }
            Body::Repeated(repeated) => {
                told.push(format!(
                    "repeated {} {} by {}",
                    repeated.of,
                    repeated.count,
                    repeated.processes.unwrap_or_default()
                ));
            }
            Body::Recovered(recovered) => told.push(format!(
                "recovered {:?} {} by {} after {}",
                recovered.of,
                recovered.refusals,
                recovered.processes.unwrap_or_default(),
                recovered.after_us
            )),
            Body::Fallback(fallback) => told.push(format!("fallback {} {}", fallback.of, fallback.dst.addr)),
            _ => {}
        }
    }
    told
}

#[test]
fn repeats_are_counted_and_add_up() {
    let mut repeating = story().ready();
    for second in 0..25 {
        repeating =
            repeating.refuse(&connect("127.0.0.1:18789").by("node", 800 + second)).after_millis(1_000);
    }
    let other = connect("127.0.0.1:18789").by("curl", 7);
    let bodies = repeating.refuse(&other).stop().told();
    assert_eq!(
        follow_ups(&bodies),
        [
            "3 refused nothing-listening",
            "repeated 3 10 by 10",
            "repeated 3 10 by 10",
            "6 refused nothing-listening",
            "repeated 3 4 by 4"
        ]
    );
    let Some(Body::Stop(stop)) = bodies.last() else { panic!("no stop") };
    assert_eq!(stop.refused, 26);
}

#[test]
fn a_refusal_after_a_long_silence_is_told_anew() {
    let bodies = story()
        .ready()
        .refuse(&connect("127.0.0.1:18789"))
        .after_millis(61_000)
        .refuse(&connect("127.0.0.1:18789"))
        .told();
    assert_eq!(follow_ups(&bodies), ["3 refused nothing-listening", "4 refused nothing-listening"]);
}

#[test]
fn a_destination_recovers_and_is_told_anew_when_it_is_refused_again() {
    let gateway = server("127.0.0.1:18789");
    let bodies = story()
        .ready()
        .refuse(&connect("127.0.0.1:18789").by("curl", 1))
        .refuse(&connect("127.0.0.1:18789").by("curl", 2))
        .refuse(&connect("127.0.0.1:18789").by("node", 3))
        .refuse(&connect("[::1]:18789").by("node", 3))
        .after_millis(2_000)
        .open(&gateway)
        .after_millis(100)
        .close(&gateway, Close::Owner)
        .refuse(&connect("127.0.0.1:18789").by("curl", 4))
        .told();
    assert_eq!(
        follow_ups(&bodies),
        [
            "3 refused nothing-listening",
            "4 refused nothing-listening",
            "5 refused nothing-listening",
            "repeated 3 1 by 1",
            "recovered [3, 4] 3 by 3 after 1999800",
            "10 refused stopped"
        ]
    );
}

#[test]
fn what_was_intercepted_does_not_recover() {
    let bodies = story()
        .present(&server("127.0.0.1:18789"))
        .ready()
        .refuse(&connect("127.0.0.1:18789").by_icmp())
        .open(&server("0.0.0.0:18789").by("second", 2))
        .after_millis(10)
        .told();
    assert_eq!(follow_ups(&bodies), ["4 refused intercepted"]);
}

#[test]
fn the_other_family_makes_a_refusal_harmless() {
    let refused = || story().present(&server("127.0.0.1:18789")).ready().refuse(&connect("[::1]:18789"));
    let bodies = refused().reach("127.0.0.1:18789", 5511).told();
    assert_eq!(follow_ups(&bodies), ["4 refused wrong-family", "fallback 4 127.0.0.1"]);
    // Another process, and too late.
    assert_eq!(follow_ups(&refused().reach("127.0.0.1:18789", 1).told()), ["4 refused wrong-family"]);
    let late = refused().after_millis(1_500).reach("127.0.0.1:18789", 5511);
    assert_eq!(follow_ups(&late.told()), ["4 refused wrong-family"]);
}

#[test]
fn a_connect_that_failed_otherwise_is_counted_and_told_when_asked() {
    let count = |bodies: &[Body]| match bodies.last() {
        Some(Body::Stop(stop)) => (stop.refused, stop.failed.clone()),
        _ => panic!("no stop"),
    };
    let failed = |story: story::Story| {
        story
            .ready()
            .fail("127.0.0.1:18789", None)
            .fail("127.0.0.1:18789", Some(libc::ETIMEDOUT))
            .stop()
            .told()
    };
    let silent = failed(story());
    assert_eq!(count(&silent), (0, [("ETIMEDOUT".to_owned(), 1), ("given-up".to_owned(), 1)].into()));
    let is_told = |body: &&Body| matches!(body, Body::Failed(_));
    assert_eq!(silent.iter().filter(is_told).count(), 0);
    assert_eq!(failed(story().all()).iter().filter(is_told).count(), 2);
}

#[test]
fn a_bind_that_failed_before_the_listener_closed_is_not_the_cause() {
    let gateway = server("127.0.0.1:18789");
    let verdict = story()
        .present(&gateway)
        .ready()
        .bind(&server("0.0.0.0:18789").by("second", 2), Some(libc::EADDRINUSE))
        .after_millis(100)
        .close(&gateway, Close::Owner)
        .after_millis(100)
        .refuse(&connect("127.0.0.1:18789"))
        .verdict();
    assert_certain(&verdict, Cause::Stopped);
    assert_eq!(verdict.failed_binds.len(), 1);
}

#[test]
fn a_recovery_in_one_namespace_is_none_in_another() {
    let bodies = story()
        .netns(namespace(POD, Some("pod"), &[], &[]))
        .ready()
        .refuse(&connect("127.0.0.1:18789").in_netns(POD))
        .refuse(&connect("127.0.0.1:18789"))
        .after_millis(100)
        .open(&server("127.0.0.1:18789"))
        .after_millis(100)
        .refuse(&connect("127.0.0.1:18789").in_netns(POD))
        .told();
    let told = follow_ups(&bodies);
    assert!(told.iter().any(|line| line.starts_with("recovered [4] 1")), "{told:?}");
    assert!(!told.iter().any(|line| line.starts_with("recovered [3]")), "{told:?}");
}

/// A server that the table does not have.
#[derive(Debug)]
struct Teapot;

impl Product for Teapot {
    fn name(&self) -> &'static str {
        "Teapot"
    }

    fn variables(&self) -> &'static [&'static str] {
        &[]
    }

    fn is_secret(&self, _: &str) -> bool {
        false
    }

    fn config_paths(&self, _: &Environment, _: &[&[u8]], _: Option<&Path>) -> Vec<PathBuf> {
        vec![PathBuf::from(CONFIG)]
    }

    fn overrides(&self, _: &Environment, _: &[&[u8]]) -> Vec<Said> {
        Vec::new()
    }

    fn settings(&self, text: &str) -> Result<Settings, String> {
        let said = vec![("brew.listen", text.to_owned())];
        Ok(Settings { said, version: None, includes: false })
    }

    fn settings_read(&self) -> Vec<&'static str> {
        vec!["brew.listen"]
    }

    fn bind(&self) -> &'static str {
        "brew.listen"
    }

    fn port(&self) -> &'static str {
        "brew.port"
    }

    fn covers(&self, claims: &Claims, addr: IpAddr) -> Option<bool> {
        Some(claims.effective(self.bind())?.value == addr.to_string())
    }

    fn agrees(&self, _: &str, claims: &Claims, addrs: &[IpAddr], _: &[u16]) -> Option<bool> {
        Some(addrs.iter().all(|addr| self.covers(claims, *addr) == Some(true)))
    }

    fn access(&self, _: &Claims) -> Access {
        Access::Open("brew.password")
    }
}

/// Its claims are told and weighed as those of any other.
#[test]
fn another_server_is_one_more_entry() {
    let teapot = || story().present(&server("192.168.50.2:18789").by("teapot", 7)).ready();
    let refuse =
        |file: (&str, u64)| teapot().says_as(&Teapot, 7, Some(file)).refuse(&connect("127.0.0.1:18789"));
    let verdict = refuse(("127.0.0.1", 60_000)).verdict();
    assert_certain(&verdict, Cause::WrongAddress);
    let [claim] = &verdict.claims[..] else { panic!("{verdict:?}") };
    assert_eq!(
        (claim.what.as_str(), claim.value.as_deref(), claim.source.as_str(), claim.agrees),
        ("brew.listen", Some("127.0.0.1"), CONFIG, Some(false))
    );
    assert!(verdict.hint.unwrap().starts_with("the file is already right. The process took its bind"));
    let verdict = refuse(("192.168.50.2", 60_000)).verdict();
    assert_eq!(verdict.claims[0].agrees, Some(true));
    assert_eq!(
        verdict.hint.as_deref(),
        Some("at once: use 192.168.50.2:18789. For good: let the server listen on 127.0.0.1 too")
    );
    // What opens it to others says what it claims of them.
    let lan = story().present(&server("127.0.0.1:18789").by("teapot", 7)).ready();
    let lan = lan.says_as(&Teapot, 7, Some(("127.0.0.1", 60_000))).refuse(&connect("192.168.50.2:18789"));
    assert!(lan.verdict().hint.unwrap().ends_with("and set brew.password first"));
}

/// Where what is one product's own may stand: its claims, the tables, and texts for people.
const OF_PRODUCTS: [&str; 5] = ["claims", "server.rs", "correlate/hints", "cli.rs", "explain.rs"];

#[test]
fn nothing_else_knows_a_product() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut directories = vec![source.clone()];
    let mut read = 0;
    while let Some(directory) = directories.pop() {
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(&source).unwrap();
            if OF_PRODUCTS.iter().any(|of| name.starts_with(of)) {
                continue;
            }
            if path.is_dir() {
                directories.push(path);
                continue;
            }
            let text = std::fs::read_to_string(&path).unwrap();
            let code = text.split("#[cfg(test)]").next().unwrap_or_default();
            for line in code.lines() {
                let line = line.to_ascii_lowercase();
                assert!(!line.contains("openclaw") && !line.contains("gateway."), "{name:?}: {line}");
            }
            read += 1;
        }
    }
    assert!(read > 30, "{read} files were read");
}

/// What a process said before it ended is kept, though nothing can be read of it any more.
#[test]
fn what_a_candidate_claimed_outlives_it() {
    let started = story().ready().start("openclaw-gatewa", 655);
    let started = started.says(655, &[], Some(("{gateway:{bind:'lan'}}", 40_000))).after_millis(4_000);
    let ended = started.exit(655, ExitStatus::Code(78)).says_nothing(655).after_millis(100);
    let verdict = ended.refuse(&connect("127.0.0.1:18789")).verdict();
    assert_certain(&verdict, Cause::NeverListened);
    let [bind] = &verdict.claims[..] else { panic!("{verdict:?}") };
    assert_eq!((bind.pid, bind.value.as_deref(), bind.agrees), (Some(655), Some("lan"), None));
    assert_eq!(verdict.candidates[0].process, process("openclaw-gatewa", 655));
    // What a process said that has become another program is not its own any more.
    let gateway = story().present(&server("192.168.50.2:18789")).ready();
    let gateway =
        gateway.says(4242, &[], Some(("{gateway:{bind:'lan'}}", 40_000))).becomes_another_program(4242);
    assert_eq!(gateway.refuse(&connect("127.0.0.1:18789")).verdict().claims, []);
}
