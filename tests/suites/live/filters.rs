//! Packet filters of this host that refuse connects to other hosts by ICMP, and those of other hosts, which must not be
//! taken for them.

use std::cell::Cell;

use libtest_mimic::Trial;
use rustix::io::Errno;
use tests::fixture::{Fixture, Refusal};
use tests::limits;
use tests::needs::Need;
use tests::netns::{Netns, Place};
use tests::process::{Actor, ProcessSpec};
use tests::suite::test;
use tracer::output::schema::{Because, Cause, Via};

const NEEDS: &[Need] = &[Need::Root, Need::Network, Need::Nft];
const NEEDS_NAT: &[Need] = &[Need::Root, Need::Network, Need::Nat];

/// Addresses that no namespace has.
const ELSEWHERE: &str = "198.51.100.7";
const ELSEWHERE_V6: &str = "2001:db8:77::7";

pub fn all() -> Vec<Trial> {
    vec![
        test("filters::output_rejects_another_host", NEEDS, output_rejects_another_host),
        test("filters::output_rejects_another_host_of_ipv6", NEEDS, output_rejects_another_host_of_ipv6),
        test("filters::output_resets_another_host", NEEDS, output_resets_another_host),
        test("filters::a_prohibited_host_is_not_a_refusal", NEEDS, a_prohibited_host_is_not_a_refusal),
        test(
            "filters::a_rule_that_is_removed_before_the_second_syn",
            NEEDS,
            a_rule_that_is_removed_before_the_second_syn,
        ),
        test("filters::forward_rejects_a_container", NEEDS, forward_rejects_a_container),
        test("filters::a_router_on_the_way_rejects", NEEDS, a_router_on_the_way_rejects),
        test("filters::a_router_behind_the_next_hop_rejects", NEEDS, a_router_behind_the_next_hop_rejects),
        test("filters::the_destination_itself_rejects", NEEDS, the_destination_itself_rejects),
        test("filters::nat_leads_to_where_nothing_listens", NEEDS_NAT, || led_away(None)),
        test("filters::nat_leads_past_another_listener", NEEDS_NAT, || led_away(Some("10.77.0.1"))),
        test("filters::nat_leads_another_family_elsewhere", NEEDS_NAT, || led_away(Some("[::1]"))),
    ]
}

/// Rules in one hook.
fn filter(netns: &Netns, hook: &str, rules: &str) {
    netns.nft(&format!(
        "table inet filter {{
            chain {hook} {{
                type filter hook {hook} priority 0
                {rules}
            }}
        }}"
    ));
}

fn forwards(netns: &Netns) {
    let mut command = std::process::Command::new("sh");
    command.args(["-c", "echo 1 > /proc/sys/net/ipv4/ip_forward"]);
    tests::netns::run(netns.enter(&mut command), "");
}

/// Gives a router a way to the other hosts: back to where a packet came from, it would send a redirect.
fn leads_on(router: &Netns) {
    router.ip(&format!(
        "link add wan0 type veth peer name wan1
        link set wan0 up
        link set wan1 up
        route add {ELSEWHERE} dev wan0"
    ));
}

/// Joins two namespaces by a veth pair with indexes that no other pair of this host has.
fn join(fixture: &Fixture, (near, device): (&Netns, &str), (far, far_device): (&Netns, &str), number: u32) {
    let index = 100_000 + 10 * u32::from(fixture.port()) + 2 * number;
    near.ip(&format!(
        "link add {device} index {index} type veth peer name {far_device} index {} netns {}
        link set {device} up",
        index + 1,
        far.name
    ));
    far.ip(&format!("link set {far_device} up"));
}

/// A connect that is refused by ICMP, with more options of the actor's.
fn refused(fixture: &mut Fixture, place: &Place, addr: &str, options: &str) -> Refusal {
    thread_local!(static CLIENTS: Cell<u32> = const { Cell::new(0) });
    let number = CLIENTS.replace(CLIENTS.get() + 1);
    let port = fixture.port();
    let mut client = Actor::start(place, &ProcessSpec::named(format!("client{number}")));
    client.send(&format!("connect {addr}:{port}{options}"));
    assert_eq!(client.outcome(), Err(Errno::CONNREFUSED.raw_os_error()), "{addr}{options}");
    let line = fixture.tracer().refused(client.pid);
    Refusal { line, actor: client }
}

#[track_caller]
fn assert_is(refusal: &Refusal, via: Via, cause: Cause, because: &[Because]) {
    assert_eq!(refusal.line.via, via, "{}", refusal.shown());
    refusal.verdict(cause, because);
}

fn output_rejects_another_host() {
    let mut fixture = Fixture::begin();
    fixture.netns.ip(&format!("route add {ELSEWHERE} dev eth0"));
    filter(&fixture.netns, "output", &format!("ip daddr {ELSEWHERE} tcp dport {} reject", fixture.port()));
    fixture.trace();
    // What listens on the port here has no part in it.
    let _gateway = fixture.listen("0.0.0.0");
    let (place, mapped) = (fixture.netns.place(), format!("[::ffff:{ELSEWHERE}]"));
    let mut all = vec![(ELSEWHERE, ""), (ELSEWHERE, " recverr"), (&mapped, "")];
    if !limits::is_expected("no-icmp-refusals") {
        all.extend([(ELSEWHERE, " nonblocking"), (ELSEWHERE, " nonblocking recverr")]);
        all.push((&mapped, " nonblocking"));
    }
    for (addr, options) in all {
        let refusal = refused(&mut fixture, &place, addr, options);
        assert_is(&refusal, Via::Icmp, Cause::Filtered, &[]);
        let hint = refusal.line.verdict.hint.as_deref().unwrap_or_default();
        assert!(hint.contains("nft list ruleset"), "{hint}");
        let summary = &refusal.line.verdict.summary;
        assert!(summary.contains("without the filter: remote (198.51.100.7 belongs"), "{summary}");
    }
    fixture.end();
}

/// An IPv6 socket keeps an ICMPv6 message only where its program asked for it.
fn output_rejects_another_host_of_ipv6() {
    let mut fixture = Fixture::begin();
    fixture.netns.ip(&format!("route add {ELSEWHERE_V6} dev eth0"));
    filter(
        &fixture.netns,
        "output",
        &format!("ip6 daddr {ELSEWHERE_V6} tcp dport {} reject", fixture.port()),
    );
    fixture.trace();
    let (place, addr) = (fixture.netns.place(), format!("[{ELSEWHERE_V6}]"));
    for options in ["", " nonblocking"] {
        let refusal = refused(&mut fixture, &place, &addr, options);
        assert_is(&refusal, Via::Icmp, Cause::Remote, &[Because::MayBeTranslated]);
    }
    for options in [" recverr", " nonblocking recverr"] {
        if options.contains("nonblocking") && limits::is_expected("no-icmp-refusals") {
            continue;
        }
        let refusal = refused(&mut fixture, &place, &addr, options);
        assert_is(&refusal, Via::Icmp, Cause::Filtered, &[]);
    }
    fixture.end();
}

/// A reset does not show by its addresses who sent it.
fn output_resets_another_host() {
    let mut fixture = Fixture::begin();
    fixture.netns.ip(&format!("route add {ELSEWHERE} dev eth0"));
    let rule = format!("ip daddr {ELSEWHERE} tcp dport {} reject with tcp reset", fixture.port());
    filter(&fixture.netns, "output", &rule);
    fixture.trace();
    let place = fixture.netns.place();
    for options in ["", " nonblocking"] {
        let refusal = refused(&mut fixture, &place, ELSEWHERE, options);
        assert_is(&refusal, Via::Rst, Cause::Remote, &[Because::MayBeTranslated]);
    }
    fixture.end();
}

/// To the program that is an unreachable host.
fn a_prohibited_host_is_not_a_refusal() {
    let mut fixture = Fixture::begin();
    fixture.netns.ip(&format!("route add {ELSEWHERE} dev eth0"));
    let port = fixture.port();
    let rule = format!("ip daddr {ELSEWHERE} tcp dport {port} reject with icmp admin-prohibited");
    filter(&fixture.netns, "output", &rule);
    fixture.trace();
    let mut client = Actor::start(&fixture.netns.place(), &ProcessSpec::named("client"));
    client.send(&format!("connect {ELSEWHERE}:{port} nonblocking"));
    assert_eq!(client.outcome(), Err(Errno::HOSTUNREACH.raw_os_error()));
    let log = fixture.end();
    assert_eq!(log.stop().refused, 0, "{}", log.text());
}

/// What refused the second SYN counts, although the message about the first one is in the socket's queue still.
fn a_rule_that_is_removed_before_the_second_syn() {
    let mut fixture = Fixture::begin();
    let port = fixture.port();
    filter(&fixture.netns, "input", &format!("ip daddr 127.0.0.5 tcp dport {port} reject"));
    fixture.trace();
    let mut client = Actor::start(&fixture.netns.place(), &ProcessSpec::named("client"));
    client.send(&format!("connect 127.0.0.5:{port}"));
    // The client waits a second for the answer to the next one.
    std::thread::sleep(std::time::Duration::from_millis(300));
    fixture.netns.nft("delete table inet filter");
    assert_eq!(client.outcome(), Err(Errno::CONNREFUSED.raw_os_error()));
    let line = fixture.tracer().refused(client.pid);
    assert_eq!((line.via, line.verdict.cause), (Via::Rst, Cause::NothingListening), "{line:?}");
    fixture.end();
}

/// A container on a veth, without a bridge.
fn forward_rejects_a_container() {
    let mut fixture = Fixture::begin();
    let container = Netns::with_loopback();
    join(&fixture, (&fixture.netns, "out0"), (&container, "eth0"), 0);
    fixture.netns.ip("addr add 10.88.0.1/24 dev out0");
    container.ip("addr add 10.88.0.2/24 dev eth0
        route add default via 10.88.0.1");
    fixture.netns.ip(&format!("route add {ELSEWHERE} dev eth0"));
    forwards(&fixture.netns);
    filter(&fixture.netns, "forward", &format!("tcp dport {} reject", fixture.port()));
    fixture.trace();
    let name = fixture.netns.name.clone();
    for options in [" nonblocking", ""] {
        if options.contains("nonblocking") && limits::is_expected("no-icmp-refusals") {
            continue;
        }
        let refusal = refused(&mut fixture, &container.place(), ELSEWHERE, options);
        assert_is(&refusal, Via::Icmp, Cause::Filtered, &[]);
        let place = format!("network namespace {name}");
        assert!(refusal.line.verdict.summary.contains(&place), "{}", refusal.line.verdict.summary);
        let hint = refusal.line.verdict.hint.as_deref().unwrap_or_default();
        assert!(hint.contains("nft list ruleset") && hint.contains(&place), "{hint}");
    }
    fixture.end();
}

/// The client's namespace sends through another one, as through a VPN's.
fn a_router_on_the_way_rejects() {
    let mut fixture = Fixture::begin();
    let router = Netns::with_loopback();
    join(&fixture, (&fixture.netns, "vpn0"), (&router, "in0"), 0);
    fixture.netns.ip(&format!(
        "addr add 10.89.0.1/24 dev vpn0
        route add {ELSEWHERE} via 10.89.0.2"
    ));
    router.ip("addr add 10.89.0.2/24 dev in0");
    leads_on(&router);
    forwards(&router);
    filter(&router, "forward", &format!("tcp dport {} reject", fixture.port()));
    fixture.trace();
    let place = fixture.netns.place();
    let refusal = refused(&mut fixture, &place, ELSEWHERE, "");
    assert_is(&refusal, Via::Icmp, Cause::Filtered, &[]);
    assert!(refusal.line.verdict.summary.contains(&router.name), "{}", refusal.line.verdict.summary);
    fixture.end();
}

/// As another host would: it is not a next hop of the client's.
fn a_router_behind_the_next_hop_rejects() {
    let mut fixture = Fixture::begin();
    let (hop, router) = (Netns::with_loopback(), Netns::with_loopback());
    join(&fixture, (&fixture.netns, "out0"), (&hop, "in0"), 0);
    join(&fixture, (&hop, "out0"), (&router, "in0"), 1);
    fixture.netns.ip(&format!(
        "addr add 10.90.0.1/24 dev out0
        route add {ELSEWHERE} via 10.90.0.2"
    ));
    hop.ip("addr add 10.90.0.2/24 dev in0
        addr add 10.91.0.1/24 dev out0
        route add default via 10.91.0.2");
    router.ip("addr add 10.91.0.2/24 dev in0
        route add 10.90.0.0/24 via 10.91.0.1");
    leads_on(&router);
    forwards(&hop);
    forwards(&router);
    filter(&router, "forward", &format!("tcp dport {} reject", fixture.port()));
    fixture.trace();
    let place = fixture.netns.place();
    let refusal = refused(&mut fixture, &place, ELSEWHERE, "");
    assert_is(&refusal, Via::Icmp, Cause::Remote, &[Because::MayBeTranslated]);
    fixture.end();
}

/// The address is another namespace's, whose own rule refuses: its message has the address that was asked, as one has that
/// NAT led elsewhere.
fn the_destination_itself_rejects() {
    let mut fixture = Fixture::begin();
    let server = Netns::with_loopback();
    join(&fixture, (&fixture.netns, "out0"), (&server, "eth0"), 0);
    fixture.netns.ip("addr add 10.92.0.1/24 dev out0");
    server.ip("addr add 10.92.0.2/24 dev eth0");
    filter(&server, "input", &format!("tcp dport {} reject", fixture.port()));
    fixture.trace();
    let place = fixture.netns.place();
    let refusal = refused(&mut fixture, &place, "10.92.0.2", "");
    assert_is(&refusal, Via::Icmp, Cause::Filtered, &[Because::MayBeTranslated]);
    fixture.end();
}

/// NAT leads a connect to another port, where nothing listens: what is at its own destination is not a certain reason, whatever
/// else listens on the port. A connect that no rule leads away has nothing of it.
fn led_away(bystander: Option<&str>) {
    let mut fixture = Fixture::with_ports(2);
    let (own, other) = (fixture.ports[0].number, fixture.ports[1].number);
    let _listening = bystander.map(|addr| fixture.listen(addr));
    fixture.netns.nft(&format!(
        "table inet nat {{
            chain output {{
                type nat hook output priority -100
                ip daddr 127.0.0.1 tcp dport {own} redirect to :{other}
            }}
        }}"
    ));
    fixture.trace();
    let cause = match bystander {
        None => Cause::NothingListening,
        Some("[::1]") => Cause::WrongFamily,
        Some(_) => Cause::WrongAddress,
    };
    let refusal = fixture.refused("127.0.0.1");
    // Kernels before 6.10 do not show the reset that their own TCP stack sends.
    if limits::is_expected("no-reset-sender") {
        refusal.cause(cause);
    } else {
        refusal.verdict(cause, &[Because::MayBeTranslated]);
        let verdict = &refusal.line.verdict;
        assert!(verdict.summary.contains("NAT led the connect"), "{}", refusal.shown());
        assert!(verdict.hint.as_ref().is_some_and(|hint| hint.contains("conntrack")), "{}", refusal.shown());
    }
    drop(refusal);
    let refusal = fixture.refused("127.0.0.2");
    refusal.cause(cause);
    drop(refusal);
    fixture.end();
}
