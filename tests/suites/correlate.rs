//! One verdict per simulated host: what listens, what connects, and why the connect is refused.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use tests::simulation::{
    CONFIG, Close, HOST, Server, Simulation, bridge, connect, namespace, process, server, simulation, veth,
};
use tracer::model::errno::Errno;
use tracer::model::kernel_event::LostWhere;
use tracer::model::kernel_event::SentBy;
use tracer::model::namespace::Namespace;
use tracer::model::process::ExitStatus;
use tracer::model::socket::TcpState;
use tracer::output::schema::{
    Because, Body, Call, Cause, Change, Confidence, FailedBy, KnownBy, Mismatch, OwnerState, Role, Verdict,
};
use tracer::products::ProductRef;
use tracer::products::{Access, Environment, FileSettings, Override, Product, ServerSettings, registry};

const POD: u32 = 4_026_532_281;

fn mismatches(verdict: &Verdict) -> Vec<Option<Mismatch>> {
    verdict.listeners.iter().map(|evaluated| evaluated.mismatch).collect()
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

/// The server is known by its name alone.
#[track_caller]
fn assert_by_name(verdict: &Verdict, cause: Cause) {
    assert_degraded(verdict, cause, &[Because::ClaimOnly]);
    assert_eq!(verdict.server.as_ref().map(|server| server.known_by), Some(KnownBy::Name));
}

/// Those on other ports count by their role alone; those on watched ports in all counts, whatever their role.
#[test]
fn refusals_of_each_role_are_counted_apart() {
    let nginx = server("0.0.0.0:18789").by("nginx", 2_210);
    let upstream = |to: &str| connect(to).by("nginx", 2_210).upstream();
    let log = simulation()
        .watching(&[18_789, 80])
        .present(&nginx)
        .ready()
        .refuse(&upstream("127.0.0.1:9000"))
        .refuse(&upstream("127.0.0.1:9000"))
        .refuse(&upstream("127.0.0.1:80"))
        .refuse(&connect("127.0.0.1:80"))
        .refuse(&connect("127.0.0.1:9000"))
        .stop()
        .reported();
    let Some(Body::Stop(stop)) = log.last() else { panic!("{log:?}") };
    let by_role: Vec<(Role, u64)> = stop.by_role.iter().collect();
    assert_eq!(by_role, [(Role::Client, 2), (Role::Upstream, 3)]);
    assert_eq!((stop.refused, stop.by_cause.values().sum::<u64>()), (2, 2));
    let roles: Vec<Role> = log
        .iter()
        .filter_map(|body| match body {
            Body::Refused(refused) => Some(refused.role),
            _ => None,
        })
        .collect();
    // Alike but for the role, they are reported apart.
    assert_eq!(roles, [Role::Upstream, Role::Upstream, Role::Client, Role::Client]);
}

/// A server that asks another one is not a client of its own port.
#[test]
fn a_refused_proxy_is_a_server_candidate_still() {
    let verdict = simulation()
        .watching(&[18_789])
        .ready()
        .start("openclaw-gatewa", 4_242)
        .refuse(&connect("127.0.0.1:9000").by("openclaw-gatewa", 4_242).upstream())
        .refuse(&connect("127.0.0.1:18789"))
        .verdict();
    assert_eq!(verdict.cause, Cause::Starting);
}

/// After ten minutes without a refusal nothing is known of the port any more.
#[test]
fn a_port_that_is_given_up_has_no_history() {
    let backend = server("127.0.0.1:9000").by("backend", 3_000);
    let upstream = connect("127.0.0.1:9000").by("nginx", 2_210).upstream();
    let closed = || {
        simulation()
            .watching(&[18_789])
            .present(&server("0.0.0.0:18789").by("nginx", 2_210))
            .ready()
            .refuse(&upstream)
            .after_millis(1_000)
            .open(&backend)
            .after_millis(1_000)
            .close(&backend, Close::End(ExitStatus::Code(1)))
    };
    let verdict = closed().after_millis(1_000).refuse(&upstream).verdict();
    assert_eq!(verdict.cause, Cause::Stopped);
    let given_up = closed().after_millis(601_000).refuse(&upstream);
    assert_degraded(&given_up.verdict(), Cause::NothingListening, &[Because::NotWatchedBefore]);
}

#[test]
fn nothing_listens() {
    let verdict = simulation().ready().refuse(&connect("127.0.0.1:18789")).verdict();
    assert_certain(&verdict, Cause::NothingListening);
    assert!(verdict.listeners.is_empty());
}

#[test]
fn a_listener_on_another_port_does_not_count() {
    let verdict = simulation()
        .present(&server("127.0.0.1:19001"))
        .ready()
        .refuse(&connect("127.0.0.1:18789"))
        .verdict();
    assert_certain(&verdict, Cause::NothingListening);
}

#[test]
fn the_tailnet_only_bind() {
    let verdict = simulation()
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
        hint.starts_with("now: use http://100.101.102.103:18789. Permanent fix: OpenClaw 2026.8.1"),
        "{hint}"
    );
}

#[test]
fn product_wording_is_for_a_recognised_owner_only() {
    let verdict = simulation()
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
            let verdict = simulation().present(&server(at)).ready().refuse(&connect(to)).verdict();
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
        let verdict = simulation().present(&server(at)).ready().refuse(&connect(to)).verdict();
        assert_certain(&verdict, Cause::WrongFamily);
        assert_eq!(mismatches(&verdict), [Some(Mismatch::Family)], "{at} {to}");
    }
}

#[test]
fn a_wildcard_for_ipv6_only() {
    for to in ["127.0.0.1:18789", "192.168.50.2:18789"] {
        let verdict =
            simulation().present(&server("[::]:18789").v6only()).ready().refuse(&connect(to)).verdict();
        assert_certain(&verdict, Cause::WrongFamily);
        assert_eq!(mismatches(&verdict), [Some(Mismatch::V6only)], "{to}");
    }
}

#[test]
fn one_address_of_the_other_family_is_only_the_wrong_address_for_a_lan_client() {
    let verdict =
        simulation().present(&server("[::1]:18789")).ready().refuse(&connect("192.168.50.2:18789")).verdict();
    assert_certain(&verdict, Cause::WrongAddress);
}

#[test]
fn a_listener_bound_to_a_device() {
    let verdict = simulation()
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
    // done by another process.
    let verdict = simulation()
        .present(&server("0.0.0.0:18789").bound_to(2))
        .ready()
        .refuse(&connect("192.168.50.2:18789").sent_by(Some(SentBy::Filter)))
        .verdict();
    assert_certain(&verdict, Cause::Intercepted);
}

#[test]
fn a_connect_in_a_vrf_is_not_answered_from_outside() {
    let vrf = |accept| {
        simulation()
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
    let verdict = simulation()
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
        simulation()
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
        let verdict = simulation().present(&server("0.0.0.0:18789")).ready().refuse(&connect).verdict();
        assert_certain(&verdict, Cause::Intercepted);
        assert_eq!(mismatches(&verdict), [None]);
    }
}

#[test]
fn a_listener_that_no_dump_lists_is_not_certain_to_have_been_there() {
    let gateway = server("127.0.0.1:18789");
    let filtered = connect("127.0.0.1:18789").by_icmp();
    for connect in [connect("127.0.0.1:18789"), connect("127.0.0.1:18789").sent_by(Some(SentBy::Tcp))] {
        let opened = || simulation().ready().open(&gateway).after_millis(100);
        assert_certain(&opened().refuse(&connect).verdict(), Cause::Intercepted);
        // One of before the trace, or one that was seen to open.
        let vanished = opened().vanish(&gateway).refuse(&connect).verdict();
        assert_degraded(&vanished, Cause::Intercepted, &[Because::ListenerUnconfirmed]);
        let present = simulation().present(&gateway).ready().after_millis(1);
        let vanished = present.vanish(&gateway).refuse(&connect).verdict();
        assert_degraded(&vanished, Cause::Intercepted, &[Because::ListenerUnconfirmed]);
    }
    // Who refused is known from an ICMP error, whatever listens.
    let present = simulation().present(&gateway).ready().after_millis(1);
    let verdict = present.vanish(&gateway).refuse(&filtered).verdict();
    assert_certain(&verdict, Cause::Intercepted);
}

#[test]
fn a_dump_of_before_the_connect_confirms_no_listener() {
    let gateway = server("127.0.0.1:18789");
    let waiting = simulation().present(&gateway).ready().after_millis(2_000).without_answers();
    let verdict = waiting.refuse(&connect("127.0.0.1:18789")).after_millis(5_000).verdict();
    assert_eq!(verdict.cause, Cause::Intercepted);
    assert!(verdict.because.contains(&Because::ListenerUnconfirmed), "{:?}", verdict.because);
}

#[test]
fn a_listener_that_opened_just_before_the_connect_makes_the_verdict_uncertain() {
    let gateway = server("127.0.0.1:18789");
    let at = |millis, sent_by| {
        let connect = connect("127.0.0.1:18789").sent_by(sent_by);
        simulation().ready().open(&gateway).after_millis(millis).refuse(&connect).verdict()
    };
    assert_degraded(&at(9, Some(SentBy::Tcp)), Cause::Intercepted, &[Because::ListenerChanging]);
    assert_certain(&at(10, Some(SentBy::Tcp)), Cause::Intercepted);
    // A packet filter's own reset never asks a listener, however young.
    assert_certain(&at(9, Some(SentBy::Filter)), Cause::Intercepted);
}

#[test]
fn a_listener_that_closes_just_after_the_connect_counts_as_stopped() {
    let gateway = server("127.0.0.1:18789");
    let verdict = simulation()
        .present(&gateway)
        .ready()
        .after_millis(1_000)
        .refuse(&connect("127.0.0.1:18789"))
        .after_millis(5)
        .close(&gateway, Close::Owner)
        .verdict();
    assert_degraded(&verdict, Cause::Stopped, &[Because::ListenerChanging]);

    let verdict = simulation()
        .present(&gateway)
        .ready()
        .refuse(&connect("127.0.0.1:18789"))
        .after_millis(11)
        .close(&gateway, Close::Owner)
        .verdict();
    assert_certain(&verdict, Cause::Intercepted);
}

#[test]
fn a_listener_that_opened_after_the_connect_does_not_count_as_an_answer() {
    let gateway = server("127.0.0.1:18789");
    // The refusal is recorded 0.2 ms after the connect; the listener opens in between.
    let verdict = simulation().ready().refuse(&connect("127.0.0.1:18789")).open(&gateway).verdict();
    assert_eq!(verdict.cause, Cause::NothingListening);
}

#[test]
fn a_listener_stopped() {
    let gateway = server("127.0.0.1:18789");
    let ends = [
        (
            Close::Owner,
            "openclaw-gatewa[4242] closed 127.0.0.1:18789 2.5 s ago and is still running: a restart inside the process, or it gave the port up",
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
        let verdict = simulation()
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
    let verdict = simulation()
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
    let verdict = simulation()
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
fn a_failed_listen_is_a_failed_bind_and_not_a_listener() {
    let gateway = server("127.0.0.1:18789");
    let log = simulation()
        .ready()
        .begin_listen(&gateway, Some(false))
        .close(&gateway, Close::Failure)
        .after_millis(10)
        .end()
        .log;
    assert!(!log.iter().any(|output| matches!(output.body, Body::Listener(_))), "{log:?}");

    let verdict = simulation()
        .ready()
        .begin_listen(&gateway, Some(false))
        .close(&gateway, Close::Failure)
        .after_millis(10)
        .refuse(&connect("127.0.0.1:18789"))
        .verdict();
    assert_certain(&verdict, Cause::BindFailed);
    assert_eq!((verdict.failed_binds[0].call, &*verdict.failed_binds[0].errno), (Call::Listen, "EADDRINUSE"));
}

#[test]
fn a_listener_closed_immediately_still_shows_that_it_opened() {
    let gateway = server("127.0.0.1:18789");
    let log = simulation().ready().open(&gateway).close(&gateway, Close::Owner).end().log;
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
    let verdict = simulation()
        .netns(namespace(POD, Some("pod"), &["10.0.0.7"], &[]))
        .present(&server("127.0.0.1:18789").in_netns(POD))
        .ready()
        .refuse(&connect("127.0.0.1:18789"))
        .verdict();
    assert_degraded(&verdict, Cause::OtherNetns, &[Because::UnverifiedServer]);
    assert_eq!(mismatches(&verdict), [Some(Mismatch::Netns)]);
    assert!(
        verdict.hint.unwrap().starts_with("to reach it from inside its namespace: ip netns exec pod COMMAND")
    );
}

#[test]
fn an_address_of_another_namespace_is_evaluated_in_that_namespace() {
    // A proxy on the host, refused by a container's address: the container listens on its own loopback.
    let verdict = simulation()
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
    let verdict = simulation()
        .netns(namespace(POD, None, &["172.17.0.2"], &[]))
        .netns(namespace(POD + 1, None, &["172.17.0.2"], &[]))
        .present(&server("127.0.0.1:18789").in_netns(POD + 1))
        .ready()
        .refuse(&connect("172.17.0.2:18789"))
        .verdict();
    assert_degraded(&verdict, Cause::WrongAddress, &[Because::AmbiguousNetns]);
}

#[test]
fn an_address_that_is_local_nowhere_is_remote() {
    let verdict = simulation()
        .present(&server("0.0.0.0:18789"))
        .ready()
        .refuse(&connect("203.0.113.9:18789"))
        .verdict();
    assert_degraded(&verdict, Cause::Remote, &[Because::MayBeTranslated]);
}

#[test]
fn lost_records_make_a_verdict_uncertain_until_the_host_is_scanned_again() {
    let lost = || simulation().present(&server("100.101.102.103:18789")).ready().lose(3, LostWhere::Ring);
    let verdict = lost().refuse(&connect("127.0.0.1:18789")).verdict();
    // The host does not answer when it is asked again.
    assert_degraded(&verdict, Cause::WrongAddress, &[Because::LostRecords, Because::QueryTimeout]);
    let verdict = lost().scan_again().refuse(&connect("127.0.0.1:18789")).verdict();
    assert_certain(&verdict, Cause::WrongAddress);
}

#[test]
fn a_count_that_is_lost_does_not_touch_the_table() {
    for place in [LostWhere::Attempts, LostWhere::Recursion] {
        let verdict = simulation()
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
    let simulation =
        simulation().present(&other).ready().open(&gateway).after_millis(100).lose(1, LostWhere::Ring);
    // The host has only what was present: the close of the other one was lost.
    let verdict = simulation.after_millis(100).scan_again().refuse(&connect("127.0.0.1:18789")).verdict();
    assert_certain(&verdict, Cause::Stopped);
}

#[test]
fn a_namespace_that_cannot_be_read_matters_where_a_verdict_rests_on_an_absence() {
    let verdict = simulation().unreadable(POD).ready().refuse(&connect("127.0.0.1:18789")).verdict();
    assert_degraded(&verdict, Cause::NothingListening, &[Because::NetnsUnreadable]);
    assert_eq!(verdict.summary, "nothing listens on port 18789 in tracer's own network namespace");
    let verdict = simulation().unreadable(POD).ready().refuse(&connect("203.0.113.9:18789")).verdict();
    assert_degraded(&verdict, Cause::Remote, &[Because::NetnsUnreadable, Because::MayBeTranslated]);
    let of_those_read = "203.0.113.9 belongs to no network namespace that could be read: ";
    assert!(verdict.summary.starts_with(of_those_read), "{}", verdict.summary);

    let verdict = simulation()
        .unreadable(POD)
        .present(&server("100.101.102.103:18789"))
        .ready()
        .refuse(&connect("127.0.0.1:18789"))
        .verdict();
    assert_certain(&verdict, Cause::WrongAddress);
}

/// Nothing is stated of a namespace that was not read.
#[test]
fn what_a_namespace_holds_is_not_stated_where_it_was_not_read() {
    let unread = || simulation().unreadable(POD).present(&server("127.0.0.1:18789")).ready();
    let verdict = unread().refuse(&connect("127.0.0.1:18789").in_netns(POD)).verdict();
    assert_eq!(verdict.cause, Cause::OtherNetns, "{verdict:?}");
    assert!(
        verdict.summary.starts_with(
            "no listener on 18789 in network namespace net:[4026532281] is known, and that network namespace was not read; "
        ),
        "{}",
        verdict.summary
    );
    let other = server("10.0.0.7:18789").in_netns(POD);
    let verdict = unread().open(&other).after_millis(100);
    let verdict = verdict.refuse(&connect("127.0.0.1:18789").in_netns(POD)).verdict();
    assert_eq!(verdict.cause, Cause::WrongAddress, "{verdict:?}");
    assert!(!verdict.summary.contains("only"), "{}", verdict.summary);
}

#[test]
fn a_refusal_before_ready_is_uncertain() {
    let verdict = simulation().scan_again().refuse(&connect("127.0.0.1:18789")).verdict();
    assert_degraded(&verdict, Cause::NothingListening, &[Because::BeforeReady]);
}

#[test]
fn a_reused_namespace_number_has_no_history() {
    let gateway = server("127.0.0.1:18789").in_netns(POD);
    let mut reused = namespace(POD, Some("new"), &[], &[]);
    reused.cookie += 1;
    let mut simulation = simulation()
        .netns(namespace(POD, Some("old"), &[], &[]))
        .present(&gateway)
        .ready()
        .close(&gateway, Close::Owner)
        .after_millis(100);
    simulation = simulation.netns(reused);
    let mut refused = connect("127.0.0.1:18789").in_netns(POD);
    refused = refused.sent_by(Some(SentBy::Tcp));
    let verdict = simulation.scan_again().refuse(&refused).verdict();
    assert_eq!(verdict.cause, Cause::NothingListening, "{verdict:?}");
}

/// The namespace with a number whose last owner has ended.
fn reused(cookie: u64) -> Namespace {
    Namespace { cookie, ..namespace(POD, Some("new"), &[], &[]) }
}

/// A scan of the host in between, in which the old one is not there any more, changes nothing.
#[test]
fn a_namespace_that_ended_unseen_leaves_its_number_no_history() {
    let gateway = server("127.0.0.1:18789").in_netns(POD);
    // Where the kernel has no cookies, only the scan distinguishes them.
    for (old, new) in [(u64::from(POD), u64::from(POD) + 1), (0, 0)] {
        let verdict = simulation()
            .netns(Namespace { cookie: old, ..namespace(POD, Some("old"), &[], &[]) })
            .present(&gateway)
            .ready()
            .close(&gateway, Close::Owner)
            .bind(&gateway, Some(Errno::EACCES))
            .after_millis(100)
            .no_netns(POD)
            .nothing_present()
            .scan_again()
            .netns(reused(new))
            .scan_again()
            .refuse(&connect("127.0.0.1:18789").in_netns(POD).in_netns_with(new))
            .verdict();
        assert_certain(&verdict, Cause::NothingListening);
        assert!(verdict.failed_binds.is_empty(), "{verdict:?}");
    }
}

/// A query that read the old namespace is answered after the new one, with its number, has a listener: that stays known.
#[test]
fn a_late_answer_about_the_old_namespace_forgets_nothing_of_the_new_one() {
    let new = u64::from(POD) + 1;
    let gateway = server("[::1]:18789").in_netns(POD).in_netns_with(new);
    let verdict = simulation()
        .netns(namespace(POD, Some("old"), &[], &[]))
        .ready()
        .open(&gateway)
        .scan_again()
        .after_millis(100)
        .no_netns(POD)
        .netns(reused(new))
        .scan_again()
        .refuse(&connect("127.0.0.1:18789").in_netns(POD).in_netns_with(new))
        .verdict();
    assert_certain(&verdict, Cause::WrongFamily);
}

/// Refusals wait for the answer whether the name still names the namespace: where it has not come when tracer ends, they are
/// reported as they are.
#[test]
fn what_waits_for_a_name_is_reported_at_the_end() {
    let refused = connect("127.0.0.1:18789").in_netns(POD).in_netns_with(0);
    let log = simulation()
        .netns(Namespace { cookie: 0, ..namespace(POD, Some("pod"), &[], &[]) })
        .ready()
        .silent_about_names()
        .refuse(&refused)
        .refuse(&refused)
        .refuse(&refused)
        .stop()
        .log;
    let Some(Body::Stop(stop)) = log.last().map(|line| &line.body) else { panic!("{log:?}") };
    assert_eq!(stop.refused, 3, "{log:?}");
    let verdict = log.iter().find_map(|line| match &line.body {
        Body::Refused(refused) => Some(&refused.verdict),
        _ => None,
    });
    let is_unsure = verdict.is_some_and(|verdict| verdict.because.contains(&Because::NetnsUnreadable));
    assert!(is_unsure, "another namespace may have the number: {log:?}");
}

/// One that is only not to be seen for a while keeps its history: its cookie is the same.
#[test]
fn a_namespace_that_comes_back_is_the_same() {
    let gateway = server("127.0.0.1:18789").in_netns(POD);
    let pod = || namespace(POD, Some("pod"), &[], &[]);
    let verdict = simulation()
        .netns(pod())
        .present(&gateway)
        .ready()
        .close(&gateway, Close::Owner)
        .after_millis(100)
        .no_netns(POD)
        .nothing_present()
        .scan_again()
        .netns(pod())
        .scan_again()
        .refuse(&connect("127.0.0.1:18789").in_netns(POD))
        .verdict();
    assert_certain(&verdict, Cause::Stopped);
}

/// What was refused in the old one is neither repeated nor over in the new one; and each of them is counted.
#[test]
fn a_reused_namespace_number_has_no_refusals() {
    let again = || connect("127.0.0.1:18789").in_netns(POD);
    let bodies = simulation()
        .netns(namespace(POD, Some("old"), &[], &[]))
        .ready()
        .refuse(&again())
        .refuse(&again())
        .after_millis(100)
        .no_netns(POD)
        .netns(reused(u64::from(POD) + 1))
        .scan_again()
        .refuse(&again().in_netns_with(u64::from(POD) + 1))
        .after_millis(100)
        .open(&server("127.0.0.1:18789").in_netns(POD).in_netns_with(u64::from(POD) + 1))
        .after_millis(300)
        .reported();
    let expected = [
        "3 refused nothing-listening",
        "repeated 3 1 by 1",
        "5 refused nothing-listening",
        "recovered [5] 1",
    ];
    let reported = follow_ups(&bodies);
    assert!(
        reported.len() == 4 && reported.iter().zip(expected).all(|(reported, is)| reported.starts_with(is)),
        "{reported:?}"
    );
}

#[test]
fn the_nearest_sixteen_of_many_are_shown_and_all_are_counted() {
    let mut many = simulation();
    for pid in 1..=40 {
        many = many.present(&server("192.168.50.2:18789").by("nginx", pid));
    }
    let nearest = server("[::]:18789").v6only().by("gateway", 99);
    let verdict = many.present(&nearest).ready().refuse(&connect("127.0.0.1:18789")).verdict();
    assert_eq!((verdict.listeners.len(), verdict.listeners_total), (16, 41));
    assert_eq!(verdict.listeners[0].mismatch, Some(Mismatch::V6only));
}

#[test]
fn the_first_screen_shows_what_each_address_would_get() {
    let log = simulation().present(&server("100.101.102.103:18789")).ready().log;
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
    let mut many = simulation();
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
    let verdict = simulation().present(&listener).ready().refuse(&connect("127.0.0.1:18789")).verdict();
    assert_certain(&verdict, Cause::WrongAddress);
    assert!(!verdict.summary.contains("is answered") && !verdict.hint.unwrap().contains("[::1]"));

    // The tailnet is down, and the listener still there.
    let verdict = simulation()
        .host(|host| host.local.retain(|route| route.device != 3))
        .present(&server("100.101.102.103:18789"))
        .ready()
        .refuse(&connect("127.0.0.1:18789"))
        .verdict();
    assert!(
        verdict.hint.unwrap().starts_with("100.101.102.103 is not an address of this namespace any more")
    );
}

#[test]
fn each_owner_is_named_with_its_own_address() {
    let verdict = simulation()
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
    let verdict = simulation()
        .netns(namespace(POD, None, &["172.17.0.2"], &[]))
        .present(&server("127.0.0.1:18789").in_netns(POD))
        .ready()
        .refuse(&connect("127.0.0.1:18789"))
        .verdict();
    assert_degraded(&verdict, Cause::OtherNetns, &[Because::UnverifiedServer]);
    assert!(verdict.hint.unwrap().ends_with("so that a published port would be refused too"));
}

#[test]
fn a_recreated_container_is_not_ambiguous() {
    let gateway = server("127.0.0.1:18789").in_netns(POD + 1);
    let mut simulation = simulation().netns(namespace(POD, None, &["172.17.0.2"], &[])).ready();
    simulation = simulation.no_netns(POD).netns(namespace(POD + 1, None, &["172.17.0.2"], &[]));
    let verdict = simulation.present(&gateway).scan_again().refuse(&connect("172.17.0.2:18789")).verdict();
    assert_certain(&verdict, Cause::WrongAddress);
}

#[test]
fn a_filter_that_would_refuse_a_listener_too_is_named() {
    let connect = connect("127.0.0.1:18789").sent_by(Some(SentBy::Filter));
    let verdict = simulation().ready().refuse(&connect).verdict();
    assert_degraded(&verdict, Cause::Filtered, &[Because::MayBeTranslated]);
    assert!(verdict.summary.ends_with("; without the filter: nothing-listening"), "{}", verdict.summary);
    // An ICMP message for a local address is this host's own.
    let connect = self::connect("127.0.0.1:18789").by_icmp();
    let gateway = server("100.101.102.103:18789");
    let verdict = simulation().present(&gateway).ready().refuse(&connect).verdict();
    assert_certain(&verdict, Cause::Filtered);
    assert!(verdict.summary.ends_with("(ICMP); without the filter: wrong-address"), "{}", verdict.summary);
}

#[test]
fn a_bind_that_failed() {
    let gateway = server("0.0.0.0:18789");
    let orphan = server("100.101.102.103:18789").by("openclaw-gatewa", 2101);
    let verdict = simulation()
        .present(&orphan)
        .ready()
        .bind(&gateway, Some(Errno::EADDRINUSE))
        .after_millis(400)
        .refuse(&connect("127.0.0.1:18789"))
        .verdict();
    assert_certain(&verdict, Cause::BindFailed);
    assert_eq!((&*verdict.failed_binds[0].errno, verdict.failed_binds[0].times), ("EADDRINUSE", 1));
    assert_eq!(
        verdict.summary,
        "openclaw-gatewa[4242] asked for 0.0.0.0:18789 and got EADDRINUSE, 0.4 s ago; held by \
         openclaw-gatewa[2101] on 100.101.102.103:18789 (uid 1000, started 50.4 s ago, its parent is pid 1)"
    );
    assert_eq!(
        verdict.hint.as_deref(),
        Some("if openclaw-gatewa[2101] is a stale instance, end it (kill 2101); then start the server again")
    );
}

#[test]
fn a_bind_that_would_not_have_covered_the_address_is_not_a_cause_while_another_listens() {
    let verdict = simulation()
        .present(&server("[::1]:18789").by("other", 1))
        .ready()
        .bind(&server("192.168.50.2:18789"), Some(Errno::EADDRNOTAVAIL))
        .after_millis(400)
        .refuse(&connect("127.0.0.1:18789"))
        .verdict();
    assert_certain(&verdict, Cause::WrongFamily);
    assert_eq!(verdict.failed_binds.len(), 1);
}

#[test]
fn a_bind_that_succeeds_ends_the_failures() {
    let gateway = server("127.0.0.1:18789");
    let verdict = simulation()
        .ready()
        .bind(&gateway, Some(Errno::EADDRINUSE))
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
    let failed =
        || simulation().ready().bind(&server("0.0.0.0:18789"), Some(Errno::EADDRINUSE)).after_millis(100);
    let waiting = failed().held("127.0.0.1", TcpState::TimeWait, tracer::model::process::Process::default());
    let verdict = waiting.refuse(&connect("127.0.0.1:18789")).verdict();
    assert_certain(&verdict, Cause::BindFailed);
    assert!(
        verdict.summary.ends_with("held by a socket on 127.0.0.1:18789 in state TIME-WAIT, without an owner")
    );
    assert!(verdict.hint.unwrap().starts_with("wait until the old connection's TIME-WAIT is over"));

    let client = failed().held("127.0.0.1", TcpState::Established, process("psql", 77));
    let verdict = client.refuse(&connect("127.0.0.1:18789")).verdict();
    assert!(verdict.summary.ends_with("held by psql[77] on 127.0.0.1:18789, ESTAB"), "{}", verdict.summary);
}

#[test]
fn a_process_whose_bound_socket_is_closed_is_starting() {
    let gateway = server("127.0.0.1:18789");
    let verdict = simulation()
        .ready()
        .bind(&gateway, None)
        .after_millis(10)
        .destroy(&gateway)
        .refuse(&connect("127.0.0.1:18789"))
        .verdict();
    assert_certain(&verdict, Cause::Starting);
}

#[test]
fn a_socket_that_was_bound_before_is_found_by_a_scan() {
    let gateway = process("openclaw-gatewa", 4242);
    let verdict = simulation()
        .ready()
        .held("127.0.0.1", TcpState::Closed, gateway)
        .refuse(&connect("127.0.0.1:18789"))
        .verdict();
    assert_certain(&verdict, Cause::BoundNotListening);
    assert_eq!(verdict.summary, "openclaw-gatewa[4242] holds 127.0.0.1:18789 and has not called listen()");
}

#[test]
fn a_client_that_connects_from_the_port_is_not_a_server() {
    let source = server("127.0.0.1:18789").by("psql", 77);
    let gateway = server("0.0.0.0:18789");
    let bound = || {
        simulation()
            .ready()
            .bind(&gateway, Some(Errno::EADDRINUSE))
            .after_millis(10)
            .bind(&source, None)
            .after_millis(10)
    };
    let verdict = bound().refuse(&connect("127.0.0.1:18789")).verdict();
    assert_certain(&verdict, Cause::BoundNotListening);
    // Its bind is not a success of the server, so the server's failure stands.
    let verdict = bound().becomes_client(&source).refuse(&connect("127.0.0.1:18789")).verdict();
    assert_certain(&verdict, Cause::BindFailed);
    // Nor is a socket that was closed before it listened.
    let verdict = bound().destroy(&source).refuse(&connect("127.0.0.1:18789")).verdict();
    assert_certain(&verdict, Cause::BindFailed);
}

#[test]
fn an_address_of_elsewhere_that_this_host_refused_was_translated() {
    let refuse =
        |sent_by| simulation().ready().refuse(&connect("198.51.100.7:18789").sent_by(sent_by)).verdict();
    let own = "this host's own TCP stack sent the reset, so the address was translated to one of its own";
    assert!(refuse(Some(SentBy::Tcp)).summary.ends_with(own));
    assert!(!refuse(None).summary.contains(own));
}

#[test]
fn a_newer_version_is_proposed_where_it_helps() {
    let refuse = |to: &str| {
        let simulation = simulation().present(&server("100.101.102.103:18789")).ready();
        simulation.refuse(&connect(to)).verdict().hint.unwrap()
    };
    assert!(refuse("127.0.0.1:18789").contains("OpenClaw 2026.8.1 or later, or gateway.bind \"lan\""));
    let lan = refuse("192.168.50.2:18789");
    assert!(lan.contains("Permanent fix: gateway.bind \"lan\"") && !lan.contains("2026.8.1"), "{lan}");
}

#[test]
fn after_a_loss_what_is_bound_is_not_known() {
    let gateway = server("127.0.0.1:18789");
    let lost = simulation().ready().bind(&gateway, None).after_millis(10).lose(1, LostWhere::Ring);
    let verdict = lost.refuse(&connect("127.0.0.1:18789")).verdict();
    assert_degraded(&verdict, Cause::Starting, &[Because::LostRecords, Because::QueryTimeout]);
    let found = simulation().ready().bind(&gateway, None).after_millis(10).lose(1, LostWhere::Ring);
    let found = found.held("127.0.0.1", TcpState::Closed, process("openclaw-gatewa", 4242));
    let verdict = found.refuse(&connect("127.0.0.1:18789")).verdict();
    assert_degraded(&verdict, Cause::BoundNotListening, &[Because::LostRecords, Because::QueryTimeout]);
}

#[test]
fn a_skipped_program_costs_a_count_or_where_it_may_be_any_the_certainty() {
    let skipped = |simulation: Simulation| {
        simulation.ready().lose(3, LostWhere::Recursion).refuse(&connect("127.0.0.1:18789")).verdict()
    };
    assert_certain(&skipped(simulation()), Cause::NothingListening);
    assert_degraded(
        &skipped(simulation().that_skips_anything()),
        Cause::NothingListening,
        &[Because::LostRecords, Because::QueryTimeout],
    );
}

#[test]
fn a_listener_that_holds_the_port_is_named_as_its_holder() {
    let orphan = server("100.101.102.103:18789").by("openclaw-gatewa", 2101);
    let verdict = simulation()
        .present(&orphan)
        .ready()
        .bind(&server("0.0.0.0:18789").by("openclaw-gatewa", 2970), Some(Errno::EADDRINUSE))
        .after_millis(400)
        .refuse(&connect("127.0.0.1:18789"))
        .verdict();
    assert_certain(&verdict, Cause::BindFailed);
    let [held_by] = &verdict.failed_binds[0].held_by[..] else { panic!("{verdict:?}") };
    assert_eq!((held_by.addr.as_str(), held_by.state.as_str()), ("100.101.102.103", "LISTEN"));
    assert_eq!(held_by.process.pid, Some(2101));
}

#[test]
fn a_cause_that_cannot_be_seen_makes_later_causes_uncertain() {
    let blind = || simulation().without_sign_of(Cause::BoundNotListening);
    let verdict = blind().ready().refuse(&connect("127.0.0.1:18789")).verdict();
    assert_degraded(&verdict, Cause::NothingListening, &[Because::HookMissing]);
    let up = blind().present(&server("192.168.50.2:18789")).ready();
    assert_certain(&up.refuse(&connect("127.0.0.1:18789")).verdict(), Cause::WrongAddress);
    // A bind that was seen causes no uncertainty.
    let bound = blind().ready().bind(&server("127.0.0.1:18789"), None).after_millis(10);
    assert_certain(&bound.refuse(&connect("127.0.0.1:18789")).verdict(), Cause::BoundNotListening);
}

#[test]
fn more_ends_than_are_remembered_degrade_verdicts() {
    let mut ended = simulation().ready();
    for last in 1..=100 {
        let one = server(&format!("127.0.1.{last}:18789"));
        ended = ended.open(&one).after_millis(20).close(&one, Close::Owner).after_millis(20);
    }
    let verdict = ended.refuse(&connect("127.0.1.1:18789")).verdict();
    assert_degraded(&verdict, Cause::NothingListening, &[Because::HistoryForgotten]);
}

#[test]
fn a_server_that_starts() {
    let verdict = simulation()
        .ready()
        .start("openclaw-gatewa", 655)
        .after_millis(1_200)
        .refuse(&connect("127.0.0.1:18789"))
        .verdict();
    assert_by_name(&verdict, Cause::Starting);
    assert_eq!(verdict.candidates[0].process.pid, Some(655));
    assert_eq!(
        verdict.summary,
        "nothing listens on 18789 yet; openclaw-gatewa[655], by its name the server, started 1.2 s ago and has \
         not called listen()"
    );
}

#[test]
fn a_client_is_not_a_candidate_whatever_its_name() {
    let probe = connect("127.0.0.1:18789").by("openclaw-gatewa", 655);
    let verdict = simulation().ready().start("openclaw-gatewa", 655).refuse(&probe).verdict();
    assert_certain(&verdict, Cause::NothingListening);
}

/// The record of its end was lost: a scan of every process does not find it.
#[test]
fn a_server_whose_end_was_lost_is_not_starting() {
    let lost =
        || simulation().ready().start("openclaw-gatewa", 700).after_millis(10).lose(1, LostWhere::Ring);
    let refuse =
        |simulation: Simulation| simulation.after_millis(10).refuse(&connect("127.0.0.1:18789")).verdict();
    let verdict = refuse(lost().scan_again().finds_servers(&[]));
    assert_certain(&verdict, Cause::NothingListening);
    let verdict = refuse(lost().scan_again().finds_servers(&[("openclaw-gatewa", 700)]));
    assert_by_name(&verdict, Cause::Starting);
    // The scan was late: the record that comes after it still shows how the process ended.
    let simulation = lost().scan_again().finds_servers(&[]).exit(700, ExitStatus::Code(78));
    assert_by_name(&refuse(simulation), Cause::NeverListened);
}

/// That the end of a process will not be reported makes a verdict uncertain where a server's end would be the reason.
#[test]
fn unreported_ends_degrade_verdicts_that_rest_on_them() {
    let lost = || simulation().ready().lose(1, LostWhere::Followed);
    let verdict = lost().scan_again().refuse(&connect("127.0.0.1:18789")).verdict();
    assert_degraded(&verdict, Cause::NothingListening, &[Because::LostRecords]);
    let gateway = server("100.101.102.103:18789");
    let verdict = lost().open(&gateway).after_millis(20).refuse(&connect("127.0.0.1:18789")).verdict();
    assert_certain(&verdict, Cause::WrongAddress);
}

/// Hundreds of unverified servers hide none elsewhere, and none that was there before.
#[test]
fn hundreds_of_unverified_servers_hide_no_server() {
    for netns in [POD, HOST] {
        let mut filled = simulation()
            .netns(namespace(POD, Some("pod"), &[], &[]))
            .ready()
            .start("openclaw-gatewa", 700)
            .after_millis(10);
        for pid in 1_000..1_300 {
            filled = filled.start_in(netns, "openclaw-gatewa", pid).after_millis(1);
        }
        let verdict = filled.refuse(&connect("127.0.0.1:18789")).verdict();
        let forgotten = [Because::HistoryForgotten].into_iter().filter(|_| netns == HOST);
        let because: Vec<Because> = forgotten.chain([Because::ClaimOnly]).collect();
        assert_degraded(&verdict, Cause::Starting, &because);
        let pids = || verdict.candidates.iter().filter_map(|candidate| candidate.process.pid);
        assert!(pids().any(|pid| pid == 700), "{netns}: {:?}", pids().collect::<Vec<_>>());
    }
}

/// What another user does by the hundred drops nothing of the server, and degrades no verdict that does not rest on it.
#[test]
fn one_user_drops_no_history_of_another() {
    let gateway = server("127.0.0.1:18789");
    let stranger = |number: u64| {
        let mut stranger = server(&format!("127.0.{}.{}:18789", number / 200, 2 + number % 200)).by("nc", 66);
        stranger.listener.key.inode += number << 8;
        stranger.of_user(65_534)
    };
    let mut failed = simulation().ready().bind(&gateway, Some(Errno::EACCES)).after_millis(100);
    for number in 0..100 {
        failed = failed.bind(&stranger(number), Some(Errno::EADDRNOTAVAIL)).after_millis(1);
    }
    let verdict = failed.refuse(&connect("127.0.0.1:18789")).verdict();
    assert_eq!(verdict.cause, Cause::BindFailed);
    let pids: Vec<_> = verdict.failed_binds.iter().map(|failed| failed.process.pid).collect();
    assert!(pids.contains(&Some(4242)), "{pids:?}");

    let mut closed = simulation().ready().open(&gateway).after_millis(4_000);
    closed = closed.close(&gateway, Close::End(ExitStatus::Code(1))).after_millis(100);
    for number in 0..100 {
        closed = closed.open(&stranger(number)).after_millis(60);
        closed = closed.close(&stranger(number), Close::Owner).after_millis(1);
    }
    let verdict = closed.after_millis(20_000).refuse(&connect("127.0.0.1:18789")).verdict();
    assert_certain(&verdict, Cause::Stopped);
    assert_eq!(verdict.server.and_then(|server| server.process.pid), Some(4242));
}

/// The server's own user has dropped what would explain the refusal.
#[test]
fn a_forgotten_failed_bind_degrades_an_absence() {
    let mut failed = simulation().ready();
    for number in 0..40_u32 {
        let socket = server(&format!("127.0.1.{}:18789", 2 + number)).by("nc", 66).of_user(65_534);
        failed = failed.bind(&socket, Some(Errno::EADDRNOTAVAIL)).after_millis(1);
        // Cleared: no remembered failure is left.
        failed = failed.open(&socket).after_millis(1).close(&socket, Close::End(ExitStatus::Code(0)));
    }
    let verdict = failed.after_millis(100).refuse(&connect("127.0.0.1:18789")).verdict();
    assert_ne!(verdict.cause, Cause::BindFailed, "{verdict:?}");
    assert!(verdict.because.contains(&Because::HistoryForgotten), "{verdict:?}");
}

/// A process that ends within 100 ms after it closed its listener has closed it because it ends.
#[test]
fn a_process_that_is_about_to_end_is_not_reported_as_running() {
    let gateway = server("127.0.0.1:18789");
    let closed = || {
        let up = simulation().ready().open(&gateway).after_millis(4_000);
        up.close(&gateway, Close::Owner)
    };
    let owner = |simulation: Simulation| {
        let is_closed = |body: Body| match body {
            Body::Listener(line) if line.change == Change::Closed => line.owner.map(|owner| owner.state),
            _ => None,
        };
        simulation.reported().into_iter().find_map(is_closed)
    };
    for millis in [0, 30, 99] {
        let ended = closed().after_millis(millis).exit(4242, ExitStatus::Code(0)).after_millis(500);
        assert_eq!(owner(ended), Some(OwnerState::Ended), "{millis}");
        // The run ends before it is known.
        assert_eq!(owner(closed().after_millis(millis)), Some(OwnerState::Unknown), "{millis}");
        let verdict = closed().after_millis(millis).refuse(&connect("127.0.0.1:18789")).verdict();
        assert!(!verdict.summary.contains("running"), "{}", verdict.summary);
    }
    assert_eq!(owner(closed().after_millis(101)), Some(OwnerState::Alive));
    let verdict = closed().after_millis(101).refuse(&connect("127.0.0.1:18789")).verdict();
    assert!(verdict.summary.contains("is still running"), "{}", verdict.summary);
    // What comes behind it waits, and stays in order.
    let other = server("127.0.0.2:18789").by("nginx", 7);
    let behind = closed().after_millis(10).open(&other).after_millis(200).reported();
    let changes: Vec<Change> = behind
        .iter()
        .filter_map(|body| match body {
            Body::Listener(line) => Some(line.change),
            _ => None,
        })
        .collect();
    assert_eq!(changes, [Change::Opened, Change::Closed, Change::Opened]);
}

#[test]
fn a_server_that_never_listened() {
    let mut crashing = simulation().ready();
    for pid in [101, 102, 103] {
        crashing = crashing.start("openclaw-gatewa", pid).after_millis(4_000).exit(pid, ExitStatus::Code(78));
    }
    let verdict = crashing.after_millis(4_100).refuse(&connect("127.0.0.1:18789")).verdict();
    assert_by_name(&verdict, Cause::NeverListened);
    assert_eq!(
        verdict.summary,
        "openclaw-gatewa[103], by its name the server, ended 4.1 s ago with exit code 78, without a listen \
         on 18789; 3 such ends in 60 s"
    );
    assert!(verdict.hint.unwrap().contains("its log shows which"));
}

#[test]
fn a_server_on_another_port() {
    let verdict = simulation()
        .ready()
        .start("openclaw-gatewa", 4242)
        .elsewhere(&[&server("127.0.0.1:19001")])
        .after_millis(5_100)
        .refuse(&connect("127.0.0.1:18789"))
        .verdict();
    assert_degraded(&verdict, Cause::OtherPort, &[Because::ClaimOnly, Because::MayBeStarting]);
    assert_eq!(mismatches(&verdict), [Some(Mismatch::Port)]);
    assert_eq!(verdict.summary, "nothing listens on 18789; openclaw-gatewa[4242] listens on 127.0.0.1:19001");
}

#[test]
fn an_owner_that_closes_and_then_ends_is_reported_as_ended() {
    let gateway = server("127.0.0.1:18789");
    let verdict = simulation()
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
    let mut reported = Vec::new();
    for (index, body) in bodies.iter().enumerate() {
        match body {
            Body::Refused(refused) => {
                reported.push(format!("{} refused {}", index + 2, refused.verdict.cause.name()));
            }
            Body::Repeated(repeated) => {
                reported.push(format!(
                    "repeated {} {} by {}",
                    repeated.of.unwrap_or_default(),
                    repeated.count,
                    repeated.processes.unwrap_or_default()
                ));
            }
            Body::Recovered(recovered) => reported.push(format!(
                "recovered {:?} {} by {} after {}",
                recovered.of,
                recovered.refusals,
                recovered.processes.unwrap_or_default(),
                recovered.after_us
            )),
            Body::Fallback(fallback) => {
                reported.push(format!("fallback {} {}", fallback.of.unwrap_or_default(), fallback.dst.addr));
            }
            _ => {}
        }
    }
    reported
}

#[test]
fn repeats_are_counted_and_add_up() {
    let mut repeating = simulation().ready();
    for second in 0..25 {
        repeating =
            repeating.refuse(&connect("127.0.0.1:18789").by("node", 800 + second)).after_millis(1_000);
    }
    let other = connect("127.0.0.1:18789").by("curl", 7);
    let bodies = repeating.refuse(&other).stop().reported();
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
fn a_refusal_after_a_long_silence_is_reported_again() {
    let bodies = simulation()
        .ready()
        .refuse(&connect("127.0.0.1:18789"))
        .after_millis(61_000)
        .refuse(&connect("127.0.0.1:18789"))
        .reported();
    assert_eq!(follow_ups(&bodies), ["3 refused nothing-listening", "4 refused nothing-listening"]);
}

#[test]
fn a_recovered_destination_is_reported_again_when_it_is_refused_again() {
    let gateway = server("127.0.0.1:18789");
    let bodies = simulation()
        .ready()
        .refuse(&connect("127.0.0.1:18789").by("curl", 1))
        .refuse(&connect("127.0.0.1:18789").by("curl", 2))
        .refuse(&connect("127.0.0.1:18789").by("node", 3))
        .refuse(&connect("[::1]:18789").by("node", 3))
        .after_millis(2_000)
        .open(&gateway)
        .after_millis(300)
        .close(&gateway, Close::Owner)
        .refuse(&connect("127.0.0.1:18789").by("curl", 4))
        .reported();
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
    let bodies = simulation()
        .present(&server("127.0.0.1:18789"))
        .ready()
        .refuse(&connect("127.0.0.1:18789").by_icmp())
        .open(&server("0.0.0.0:18789").by("second", 2))
        .after_millis(10)
        .reported();
    assert_eq!(follow_ups(&bodies), ["4 refused intercepted"]);
}

#[test]
fn an_answer_of_the_other_family_makes_a_refusal_a_fallback() {
    let refused = || simulation().present(&server("127.0.0.1:18789")).ready().refuse(&connect("[::1]:18789"));
    let bodies = refused().reach("127.0.0.1:18789", 5511).reported();
    assert_eq!(follow_ups(&bodies), ["4 refused wrong-family", "fallback 4 127.0.0.1"]);
    // Another process, and too late.
    assert_eq!(follow_ups(&refused().reach("127.0.0.1:18789", 1).reported()), ["4 refused wrong-family"]);
    let late = refused().after_millis(1_500).reach("127.0.0.1:18789", 5511);
    assert_eq!(follow_ups(&late.reported()), ["4 refused wrong-family"]);
}

#[test]
fn a_connect_that_failed_otherwise_is_counted_and_reported_on_request() {
    let count = |bodies: &[Body]| match bodies.last() {
        Some(Body::Stop(stop)) => (stop.refused, stop.failed.clone()),
        _ => panic!("no stop"),
    };
    let failed = |simulation: Simulation| {
        simulation
            .ready()
            .fail("127.0.0.1:18789", None)
            .fail("127.0.0.1:18789", Some(Errno::ETIMEDOUT))
            .stop()
            .reported()
    };
    let silent = failed(simulation());
    assert_eq!(count(&silent), (0, [(FailedBy::TimedOut, 1), (FailedBy::GivenUp, 1)].into()));
    let is_failed = |body: &&Body| matches!(body, Body::Failed(_));
    assert_eq!(silent.iter().filter(is_failed).count(), 0);
    assert_eq!(failed(simulation().all()).iter().filter(is_failed).count(), 2);
}

#[test]
fn a_bind_that_failed_before_the_listener_closed_is_not_the_cause() {
    let gateway = server("127.0.0.1:18789");
    let verdict = simulation()
        .present(&gateway)
        .ready()
        .bind(&server("0.0.0.0:18789").by("second", 2), Some(Errno::EADDRINUSE))
        .after_millis(100)
        .close(&gateway, Close::Owner)
        .after_millis(100)
        .refuse(&connect("127.0.0.1:18789"))
        .verdict();
    assert_degraded(&verdict, Cause::Stopped, &[Because::SeveralOwners]);
    assert_eq!(verdict.failed_binds.len(), 1);
}

#[test]
fn a_recovery_in_one_namespace_is_none_in_another() {
    let bodies = simulation()
        .netns(namespace(POD, Some("pod"), &[], &[]))
        .ready()
        .refuse(&connect("127.0.0.1:18789").in_netns(POD))
        .refuse(&connect("127.0.0.1:18789"))
        .after_millis(100)
        .open(&server("127.0.0.1:18789"))
        .after_millis(300)
        .refuse(&connect("127.0.0.1:18789").in_netns(POD))
        .reported();
    let reported = follow_ups(&bodies);
    assert!(reported.iter().any(|line| line.starts_with("recovered [4] 1")), "{reported:?}");
    assert!(!reported.iter().any(|line| line.starts_with("recovered [3]")), "{reported:?}");
}

/// A server that the table does not have.
#[derive(Debug)]
struct Teapot;

impl Product for Teapot {
    fn name(&self) -> &'static str {
        "Teapot"
    }

    fn runners(&self) -> &'static [&'static str] {
        &["teapot"]
    }

    fn recognises(&self, name: &[u8], _: &[&[u8]]) -> bool {
        name == b"teapot"
    }

    fn owner_names(&self) -> &'static [&'static str] {
        &["teapot"]
    }

    fn recognised_by(&self) -> &'static str {
        "the name `teapot`"
    }

    fn default_port(&self) -> u16 {
        18_789
    }

    fn loopback_setting(&self) -> &'static str {
        "brew.listen 127.0.0.1"
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

    fn overrides(&self, _: &Environment, _: &[&[u8]]) -> Vec<Override> {
        Vec::new()
    }

    fn settings(&self, text: &str) -> Result<FileSettings, String> {
        let values = vec![("brew.listen".into(), text.to_owned())];
        Ok(FileSettings { values, ..FileSettings::default() })
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

    fn covers(&self, settings: &ServerSettings, addr: IpAddr) -> Option<bool> {
        Some(settings.effective(self.bind())?.value == addr.to_string())
    }

    fn agrees(&self, _: &str, settings: &ServerSettings, addrs: &[IpAddr], _: &[u16]) -> Option<bool> {
        Some(addrs.iter().all(|addr| self.covers(settings, *addr) == Some(true)))
    }

    fn access(&self, _: &ServerSettings) -> Access {
        Access::Open("brew.password")
    }
}

/// Its configured values are reported and evaluated as those of any other.
#[test]
fn another_server_is_one_more_entry() {
    let teapot = || simulation().present(&server("192.168.50.2:18789").by("teapot", 7)).ready();
    let refuse = |file: (&str, u64)| {
        teapot().configure_as(ProductRef::new(&Teapot), 7, Some(file)).refuse(&connect("127.0.0.1:18789"))
    };
    let verdict = refuse(("127.0.0.1", 60_000)).verdict();
    assert_certain(&verdict, Cause::WrongAddress);
    let [configured] = &verdict.claims[..] else { panic!("{verdict:?}") };
    assert_eq!(
        (
            configured.what.as_str(),
            configured.value.as_deref(),
            configured.source.as_str(),
            configured.agrees
        ),
        ("brew.listen", Some("127.0.0.1"), CONFIG, Some(false))
    );
    assert!(verdict.hint.unwrap().starts_with("the file is already right. The process took its bind"));
    let verdict = refuse(("192.168.50.2", 60_000)).verdict();
    assert_eq!(verdict.claims[0].agrees, Some(true));
    assert_eq!(
        verdict.hint.as_deref(),
        Some("now: use 192.168.50.2:18789. Permanent fix: let the server listen on 127.0.0.1 too")
    );
    // An exposure shows what is configured for authentication.
    let lan = simulation().present(&server("127.0.0.1:18789").by("teapot", 7)).ready();
    let lan = lan
        .configure_as(ProductRef::new(&Teapot), 7, Some(("127.0.0.1", 60_000)))
        .refuse(&connect("192.168.50.2:18789"));
    assert!(lan.verdict().hint.unwrap().ends_with("and set brew.password first"));
}

/// The file with the registry, and how many of its lines name each product: its module and its entry.
const REGISTRY: (&str, usize) = ("products/mod.rs", 2);

/// A product is one folder and one line of the registry.
#[test]
fn nothing_else_knows_a_product() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tracer/src");
    let names: Vec<String> = registry().iter().map(|product| product.name().to_ascii_lowercase()).collect();
    let folders: Vec<PathBuf> = names.iter().map(|name| Path::new("products").join(name)).collect();
    assert!(folders.iter().all(|folder| source.join(folder).is_dir()), "{folders:?}");
    let bind_settings = registry().iter().map(|product| product.bind().to_owned());
    let words: Vec<String> =
        names.iter().cloned().chain(bind_settings).chain(["gateway.".to_owned()]).collect();
    let mut directories = vec![source.clone()];
    let mut read = 0;
    while let Some(directory) = directories.pop() {
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(&source).unwrap();
            if folders.iter().any(|folder| name == folder) {
                continue;
            }
            if path.is_dir() {
                directories.push(path);
                continue;
            }
            let text = std::fs::read_to_string(&path).unwrap().to_ascii_lowercase();
            for word in &words {
                let lines: Vec<&str> = text.lines().filter(|line| line.contains(word)).collect();
                let allowed =
                    if name == Path::new(REGISTRY.0) && names.contains(word) { REGISTRY.1 } else { 0 };
                assert_eq!(lines.len(), allowed, "{name:?} `{word}`: {lines:#?}");
            }
            read += 1;
        }
    }
    assert!(read > 30, "{read} files were read");
}

/// What was configured for a process is kept after its end, when nothing can be read of it any more.
#[test]
fn configured_values_of_a_candidate_stay_after_its_end() {
    let started = simulation().ready().start("openclaw-gatewa", 655);
    let started = started.configure(655, &[], Some(("{gateway:{bind:'lan'}}", 40_000))).after_millis(4_000);
    let ended = started.exit(655, ExitStatus::Code(78)).settings_unreadable(655).after_millis(100);
    let verdict = ended.refuse(&connect("127.0.0.1:18789")).verdict();
    assert_by_name(&verdict, Cause::NeverListened);
    let [bind] = &verdict.claims[..] else { panic!("{verdict:?}") };
    assert_eq!((bind.pid, bind.value.as_deref(), bind.agrees), (Some(655), Some("lan"), None));
    assert_eq!(verdict.candidates[0].process.pid, Some(655));
    // What was configured before a process executed another program does not count for that program.
    let gateway = simulation().present(&server("192.168.50.2:18789")).ready();
    let gateway =
        gateway.configure(4242, &[], Some(("{gateway:{bind:'lan'}}", 40_000))).becomes_another_program(4242);
    assert_eq!(gateway.refuse(&connect("127.0.0.1:18789")).verdict().claims, []);
}

/// A Service without endpoints, or a rule for another host: what a namespace sends to itself comes in by lo.
#[test]
fn a_rule_for_another_hosts_address_is_this_hosts() {
    for (dst, sender) in [
        ("198.51.100.9:18789", "192.168.50.2"),
        ("10.96.0.53:18789", "100.101.102.103"),
        ("[2001:db8:5::9]:18789", "2001:db8::2"),
    ] {
        let verdict = simulation()
            .present(&server("[::]:18789"))
            .ready()
            .refuse(&connect(dst).by_icmp_from(sender, 1))
            .verdict();
        assert_certain(&verdict, Cause::Filtered);
        // It is on the port, and not at the address.
        assert_eq!(mismatches(&verdict), [Some(Mismatch::Netns)]);
        assert_eq!(
            verdict.summary,
            format!(
                "a packet filter of this host refused it (ICMP); without the filter: remote ({} belongs to no network \
                 namespace of this host)",
                dst.strip_suffix(":18789").unwrap()
            )
        );
        let hint = verdict.hint.unwrap();
        assert!(hint.starts_with("a REJECT rule for "), "{hint}");
        assert!(
            hint.contains(": nft list ruleset | grep -n -e 18789 -e reject (also iptables-save);"),
            "{hint}"
        );
    }
}

#[test]
fn an_icmp_message_from_outside_or_from_an_unknown_sender_is_not_of_a_filter_of_this_host() {
    let dst = "198.51.100.9:18789";
    for refused in [
        connect(dst).by_icmp(),
        connect("[2001:db8:5::9]:18789").by_icmp(),
        // The router, and the destination itself.
        connect(dst).by_icmp_from("192.168.50.1", 2),
        connect(dst).by_icmp_from("198.51.100.9", 2),
        // Who sent a reset is not known by its address.
        connect(dst).sent_by(Some(SentBy::Filter)),
    ] {
        let verdict = simulation().ready().refuse(&refused).verdict();
        assert_degraded(&verdict, Cause::Remote, &[Because::MayBeTranslated]);
    }
}

/// Where the address is this host's, a message that came in from outside refused at an address that it was translated to.
#[test]
fn an_icmp_message_from_outside_for_an_address_of_this_host_is_of_a_translation() {
    let from = |addr: &str, device| {
        simulation().ready().refuse(&connect("192.168.50.2:18789").by_icmp_from(addr, device)).verdict()
    };
    assert_certain(&from("192.168.50.2", 1), Cause::Filtered);
    // NAT gives the message of the other host the address that was asked.
    assert_degraded(&from("192.168.50.2", 2), Cause::Filtered, &[Because::MayBeTranslated]);
    assert_degraded(&from("203.0.113.5", 2), Cause::Filtered, &[Because::MayBeTranslated]);
}

/// A container at `eth0`, whose other end is port 7 of a bridge of the host, with 172.18.0.1.
fn behind_a_bridge() -> (Simulation, Namespace) {
    let mut container = namespace(POD, Some("web"), &["172.18.0.5"], &[]);
    container.links[1] = veth(2, 7);
    let simulation = simulation().host(|host| bridge(host, 8, "172.18.0.1", &[veth(7, 2), veth(9, 2)]));
    (simulation, container)
}

#[test]
fn a_rule_of_the_host_refuses_what_a_container_asks() {
    let refuse = |change: fn(&mut Namespace), refused: &tests::simulation::Connect| {
        let (simulation, mut container) = behind_a_bridge();
        change(&mut container);
        simulation.netns(container).ready().refuse(&refused.clone().in_netns(POD)).verdict()
    };
    let from = |addr: &str| connect("198.51.100.9:18789").by_icmp_from(addr, 2);
    let verdict = refuse(|_| (), &from("172.18.0.1"));
    assert_certain(&verdict, Cause::Filtered);
    assert_eq!(
        verdict.summary,
        "a packet filter of this host refused it in tracer's own network namespace (ICMP); without the filter: remote \
         (198.51.100.9 belongs to no network namespace of this host)"
    );
    // The rules are the host's, so that the command runs there.
    assert!(!verdict.hint.unwrap().contains("; inside"));
    // The container's own rule.
    let verdict = refuse(|_| (), &connect("198.51.100.9:18789").by_icmp_from("172.18.0.5", 1));
    assert_certain(&verdict, Cause::Filtered);
    assert!(verdict.hint.unwrap().contains("; inside network namespace web"));

    let remote = |change, refused| {
        assert_degraded(&refuse(change, &refused), Cause::Remote, &[Because::MayBeTranslated]);
    };
    // A router behind the bridge that is not a namespace of this host.
    remote(|_| (), from("172.18.0.254"));
    // A container of the same addresses whose link leads elsewhere: to a network card, to another end.
    remote(|container| container.links[1].peer = None, from("172.18.0.1"));
    remote(|container| container.links[1].peer = Some(70), from("172.18.0.1"));
    remote(|container| container.links[1].index = 5, from("172.18.0.1"));
    // By another interface than the one that leads to the host.
    remote(|_| (), connect("198.51.100.9:18789").by_icmp_from("172.18.0.1", 3));
}

#[test]
fn a_rule_of_the_host_that_may_be_another_ones_is_degraded() {
    let refused = || connect("198.51.100.9:18789").by_icmp_from("172.18.0.1", 2).in_netns(POD);
    // Two namespaces have the other end's index and the address.
    let (simulation, container) = behind_a_bridge();
    let mut twin = namespace(POD + 1, None, &[], &[]);
    bridge(&mut twin, 3, "172.18.0.1", &[veth(7, 2)]);
    let verdict = simulation.netns(container).netns(twin).ready().refuse(&refused()).verdict();
    assert_degraded(&verdict, Cause::Filtered, &[Because::AmbiguousNetns]);

    let (simulation, container) = behind_a_bridge();
    let verdict = simulation.netns(container).unreadable(POD + 2).ready().refuse(&refused()).verdict();
    assert_degraded(&verdict, Cause::Filtered, &[Because::NetnsUnreadable]);
}

/// Between two containers of a host: the address is another namespace's, and the host's rule refused.
#[test]
fn a_rule_between_two_containers_is_the_hosts() {
    let refuse = |refused: &tests::simulation::Connect| {
        let (simulation, container) = behind_a_bridge();
        let mut other = namespace(POD + 1, Some("db"), &["172.18.0.6"], &[]);
        other.links[1] = veth(2, 9);
        simulation.netns(container).netns(other).ready().refuse(&refused.clone().in_netns(POD)).verdict()
    };
    assert_certain(&refuse(&connect("172.18.0.6:18789").by_icmp_from("172.18.0.1", 2)), Cause::Filtered);
    // The message has the address that was asked as its source: it is the other's own rule, or NAT's.
    for refused in [
        connect("172.18.0.6:18789").by_icmp_from("172.18.0.6", 2),
        connect("172.18.0.1:18789").by_icmp_from("172.18.0.1", 2),
        connect("172.18.0.6:18789").by_icmp(),
    ] {
        assert_degraded(&refuse(&refused), Cause::Filtered, &[Because::MayBeTranslated]);
    }
}

/// A namespace that the host routes through, such as a VPN's.
#[test]
fn a_rule_of_a_namespace_on_the_way_is_this_hosts() {
    let router = || {
        let mut router = namespace(POD, Some("vpn"), &["10.8.0.1", "fd08::1"], &[]);
        router.links[1] = veth(2, 30);
        router
    };
    for (dst, sender) in [("198.51.100.9:18789", "10.8.0.1"), ("[2001:db8:5::9]:18789", "fd08::1")] {
        let refused = connect(dst).by_icmp_from(sender, 30);
        let joined = || simulation().host(|host| host.links.push(veth(30, 2)));
        let verdict = joined().netns(router()).ready().refuse(&refused).verdict();
        assert_certain(&verdict, Cause::Filtered);
        assert!(verdict.hint.unwrap().contains("; inside network namespace vpn"));
        // It came after the start.
        let verdict = joined().ready().netns(router()).scan_again().refuse(&refused).verdict();
        assert_certain(&verdict, Cause::Filtered);
    }
    // As a port of a bridge, beside others: one of them could pass for another host.
    let verdict = simulation()
        .host(|host| bridge(host, 31, "10.8.0.2", &[veth(30, 2), veth(32, 2)]))
        .netns(router())
        .ready()
        .refuse(&connect("198.51.100.9:18789").by_icmp_from("10.8.0.1", 31))
        .verdict();
    assert_degraded(&verdict, Cause::Filtered, &[Because::AmbiguousNetns]);
}

/// The rule is still there, whatever listens.
#[test]
fn what_a_rule_refused_does_not_recover_by_a_listener() {
    for refused in
        [connect("127.0.0.1:18789").by_icmp(), connect("198.51.100.9:18789").by_icmp_from("192.168.50.2", 1)]
    {
        let bodies = simulation()
            .ready()
            .refuse(&refused)
            .open(&server("0.0.0.0:18789"))
            .after_millis(1_000)
            .reported();
        assert_eq!(follow_ups(&bodies), ["3 refused filtered"]);
    }
}
