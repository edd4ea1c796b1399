//! Each row of the table of hints, said of a story; docs/hints.md is made of both.

#[expect(dead_code, reason = "each test file uses a part of the stories")]
mod story;

use std::fmt::Write as _;

use story::token::TOKEN;
use story::{Close, Connect, Story, connect, namespace, process, server, story};
use tracer::correlate::hints::owner::{KINDS, Kind};
use tracer::correlate::hints::table::{ROWS, Row};
use tracer::event::ExitStatus;
use tracer::line::Cause::{
    self, BindFailed, BoundNotListening, Intercepted, NeverListened, NothingListening, OtherNetns, OtherPort,
    Remote, Starting, Stopped, WrongAddress, WrongDevice, WrongFamily,
};
use tracer::line::{Container, SentBy, Verdict};

const POD: u32 = 4_026_532_281;
const CONTAINER: u32 = 4_026_532_282;
const LOCALHOST: &str = "127.0.0.1:18789";
const LOCALHOST_V6: &str = "[::1]:18789";
const LAN: &str = "192.168.50.2:18789";
const TAILNET: &str = "100.101.102.103:18789";
const GATEWAY: &str = "openclaw-gatewa";

/// After and before the processes of the stories started, in milliseconds since boot, and in the same hundredth of a
/// second.
const YOUNGER: u64 = 60_000;
const OLDER: u64 = 40_000;
const EITHER: u64 = 50_001;

/// The table as it is checked in.
const CHECKED_IN: &str = include_str!("../docs/hints.md");

/// Set to anything, it makes the test write the table instead.
const UPDATE: &str = "UPDATE_DOCS";

/// A story for a row, and words that are only this row's: with `...` before them, the last ones.
struct Told {
    words: &'static str,
    verdict: Verdict,
}

fn told(words: &'static str, story: Story) -> Told {
    Told { words, verdict: story.verdict() }
}

/// One listener, one connect.
fn up(owner: (&str, u32), at: &str, to: &str) -> Story {
    story().present(&server(at).by(owner.0, owner.1)).ready().refuse(&connect(to))
}

/// The same of a gateway that says something: its file, and when that was written.
fn gateway(at: &str, to: &str, arguments: &[&str], file: &str, written: u64) -> Story {
    let ready = story().present(&server(at)).ready();
    ready.says(4242, arguments, Some((file, written))).refuse(&connect(to))
}

/// What a file says.
fn file(bind: &str, more: &str) -> String {
    format!("{{gateway:{{bind:'{bind}',auth:{{mode:'token',token:'{TOKEN}'}}}}{more}}}")
}

/// A gateway that asks for a port that somebody has.
fn in_use(holder: (&str, u32), held: &str, asked: &str) -> Story {
    by_asker((GATEWAY, 2970), holder, held, asked)
}

fn by_asker(asker: (&str, u32), holder: (&str, u32), held: &str, asked: &str) -> Story {
    story()
        .present(&server(held).by(holder.0, holder.1))
        .ready()
        .bind(&server(asked).by(asker.0, asker.1), Some(libc::EADDRINUSE))
        .after_millis(400)
        .refuse(&connect(LOCALHOST))
}

/// A listener that closed.
fn closed(owner: (&str, u32), how: Close) -> Story {
    let listener = server(LOCALHOST).by(owner.0, owner.1);
    let open = story().ready().open(&listener).after_millis(4_000).close(&listener, how);
    open.after_millis(2_100).refuse(&connect(LOCALHOST))
}

/// A container that listens on its own loopback.
fn container() -> Story {
    story().netns(namespace(CONTAINER, None, &["172.17.0.2", "fd00::2"], &[]))
}

/// A candidate that ended.
fn ended(comm: &str, status: ExitStatus, file: Option<&str>) -> Story {
    let mut started = story().ready().start(comm, 16_083);
    if let Some(file) = file {
        started = started.says(16_083, &[], Some((file, OLDER))).after_millis(4_000).says_nothing(16_083);
    }
    started
        .after_millis(4_000)
        .exit(16_083, status)
        .after_millis(4_100)
        .refuse(&connect(LOCALHOST).by("node", 812))
}

fn reset(by: Option<SentBy>) -> Connect {
    connect(LOCALHOST).sent_by(by)
}

/// A container with a client in it.
fn of_client(pod_uid: Option<&str>) -> Container {
    Container { id: "a".repeat(64), runtime: None, name: None, pod_uid: pod_uid.map(str::to_owned) }
}

const KILLED: ExitStatus = ExitStatus::Signal(9);
const FAILED: ExitStatus = ExitStatus::Code(1);
const REFUSED: ExitStatus = ExitStatus::Code(78);

/// The story of a row.
fn tell(cause: Cause, owner: Option<Kind>, when: &str) -> Told {
    match cause {
        Remote => told("on the host that has", story().ready().refuse(&connect("203.0.113.9:18789"))),
        Intercepted => intercepted(owner, when),
        WrongDevice => wrong_device(owner, when),
        BindFailed => bind_failed(owner, when),
        Stopped => stopped(owner, when),
        WrongFamily => wrong_family(owner, when),
        WrongAddress => wrong_address(owner, when),
        BoundNotListening => told(
            "strace -f -p 4242",
            story().ready().bind(&server(LOCALHOST), None).after_millis(400).refuse(&connect(LOCALHOST)),
        ),
        Starting => starting(owner, when),
        NeverListened => never_listened(owner, when),
        OtherNetns => other_netns(owner, when),
        OtherPort => other_port(when),
        NothingListening => match when {
            "a packet filter refused" => told(
                "a REJECT rule would refuse it still",
                story().ready().refuse(&reset(Some(SentBy::Filter))),
            ),
            "" => told("...ss -ltnp", story().ready().refuse(&connect(LOCALHOST))),
            other => panic!("no story for nothing-listening: {other}"),
        },
    }
}

fn intercepted(owner: Option<Kind>, when: &str) -> Told {
    let up = |comm: &str| story().present(&server("0.0.0.0:18789").by(comm, 7)).ready();
    match (owner, when) {
        (None, "an ICMP message refused") => {
            told("a REJECT rule: nft", up("nginx").refuse(&connect(LOCALHOST).by_icmp()))
        }
        (None, "a reset that no TCP stack of this host sent") => {
            told("tcp-reset", up("nginx").refuse(&reset(Some(SentBy::Filter))))
        }
        (Some(Kind::DockerProxy), _) => {
            let both = container()
                .present(&server("0.0.0.0:18789").by("docker-proxy", 2210))
                .present(&server(LOCALHOST).by("node", 3318).in_netns(CONTAINER));
            told("past docker-proxy into a container", both.ready().refuse(&connect(LAN)))
        }
        (None, "a reset by this host's TCP stack") => told(
            "conntrack -L -p tcp --dport 18789; nft list ruleset | grep -n 18789",
            up("nginx").refuse(&connect(LAN)),
        ),
        (None, "who refused is not known") => told(
            "conntrack -L -p tcp --dport 18789; nft list ruleset | grep -n -e",
            up("nginx").refuse(&reset(None)),
        ),
        other => panic!("no story for intercepted: {other:?}"),
    }
}

fn wrong_device(owner: Option<Kind>, when: &str) -> Told {
    let bound = |comm: &str, pid| {
        let listener = server("0.0.0.0:18789").by(comm, pid).bound_to(2);
        story().present(&listener).ready().refuse(&connect(LOCALHOST))
    };
    match (owner, when) {
        (None, "a VRF is between the two") => {
            let in_a_vrf = story().host(|host| {
                host.local.iter_mut().filter(|route| route.device == 2).for_each(|route| route.table = 10);
                host.links[1].master = Some(4);
            });
            let refused =
                in_a_vrf.present(&server("0.0.0.0:18789")).ready().refuse(&connect(LAN).bound_to(4));
            told("ip vrf exec", refused)
        }
        (Some(Kind::Systemd), "") => told("BindToDevice=", bound("systemd", 1)),
        (None, "") => told("SO_BINDTODEVICE", bound("nginx", 7)),
        other => panic!("no story for wrong-device: {other:?}"),
    }
}

fn bind_failed(owner: Option<Kind>, when: &str) -> Told {
    let failed = |at: &str, errno| {
        story().ready().bind(&server(at), Some(errno)).after_millis(400).refuse(&connect(LOCALHOST))
    };
    let any = "0.0.0.0:18789";
    match (owner, when) {
        (None, "EADDRINUSE, and the server holds the port itself") => {
            told("holds the port itself: restart it", in_use((GATEWAY, 2970), LAN, any))
        }
        (None, "EADDRINUSE, and it is an ssh that asks") => {
            told("ssh goes on without", by_asker(("ssh", 77), (GATEWAY, 2101), LAN, LOCALHOST))
        }
        (None, "EADDRINUSE, and it is a kubectl that asks") => {
            told("forward another port (kubectl", by_asker(("kubectl", 77), (GATEWAY, 2101), LAN, LOCALHOST))
        }
        (Some(Kind::DockerProxy), _) => {
            told("a container publishes this port", in_use(("docker-proxy", 2210), LAN, any))
        }
        (Some(Kind::Tailscaled), _) => {
            told("(gateway.bind \"loopback\")", in_use(("tailscaled", 900), TAILNET, any))
        }
        (Some(Kind::Ssh), _) => told("(-L): end it (kill 77)", in_use(("ssh", 77), LAN, any)),
        (Some(Kind::Sshd), _) => told("(ssh -R): let them end that", in_use(("sshd", 78), LAN, any)),
        (Some(Kind::Kubectl), _) => {
            told("a kubectl port-forward has this port", in_use(("kubectl", 79), LAN, any))
        }
        (Some(Kind::Systemd), _) => told("`systemctl list-sockets`", in_use(("systemd", 1), LAN, any)),
        (None, "EADDRINUSE, and a process holds the port") => {
            told("is a left-over, end it (kill 2101)", in_use((GATEWAY, 2101), TAILNET, any))
        }
        (None, "EADDRINUSE, and what holds the port has no owner any more") => {
            let waits = story().ready().bind(&server(LOCALHOST), Some(libc::EADDRINUSE)).held(
                "127.0.0.1",
                "TIME-WAIT",
                tracer::line::Process::default(),
            );
            told("TIME-WAIT is over", waits.after_millis(400).refuse(&connect(LOCALHOST)))
        }
        (None, "EADDRINUSE, and who holds the port is not known") => {
            told("see who holds it", failed(LOCALHOST, libc::EADDRINUSE))
        }
        (None, "EADDRNOTAVAIL") => told(
            "bring up the interface that has 100.70.1.1",
            failed("100.70.1.1:18789", libc::EADDRNOTAVAIL),
        ),
        (None, "EACCES") => told("CAP_NET_BIND_SERVICE", failed(LOCALHOST, libc::EACCES)),
        (None, "another error") => {
            told("see the log of openclaw-gatewa[4242]", failed(LOCALHOST, libc::ENOBUFS))
        }
        other => panic!("no story for bind-failed: {other:?}"),
    }
}

fn stopped(owner: Option<Kind>, when: &str) -> Told {
    let failed = Close::End(FAILED);
    match (owner, when) {
        (Some(Kind::OpenClaw), _) => told("wait for RECOVERED", closed((GATEWAY, 21), Close::Owner)),
        (Some(Kind::DockerProxy), _) => told("docker logs CONTAINER", closed(("docker-proxy", 7), failed)),
        (Some(Kind::Tailscaled), _) => told("`tailscale status`", closed(("tailscaled", 7), Close::Owner)),
        (Some(Kind::Ssh), _) => told("ends with its ssh", closed(("ssh", 7), failed)),
        (Some(Kind::Sshd), _) => told("let its client connect again", closed(("sshd", 7), failed)),
        (Some(Kind::Kubectl), _) => told("ends with its pod", closed(("kubectl", 7), failed)),
        (Some(Kind::Systemd), _) => {
            told("`systemctl --user list-sockets --all`", closed(("systemd", 900), Close::Owner))
        }
        (None, "its process lives on") => {
            told("wait for the next LISTEN", closed(("nginx", 7), Close::Owner))
        }
        (None, "its process was ended by SIGKILL") => {
            told("who sends SIGKILL: an operator", closed((GATEWAY, 21), Close::End(KILLED)))
        }
        (None, "its process has ended") => told("for the end of nginx[7]", closed(("nginx", 7), failed)),
        (None, "who closed it is not known") => {
            let gateway = server(LOCALHOST).by("nginx", 7);
            let unseen =
                story().ready().open(&gateway).after_millis(20).lose(1, tracer::line::LostWhere::Ring);
            let unseen = unseen.after_millis(20).look_again().after_millis(20);
            told("see its log for why it closed", unseen.refuse(&connect(LOCALHOST)))
        }
        other => panic!("no story for stopped: {other:?}"),
    }
}

fn wrong_family(owner: Option<Kind>, when: &str) -> Told {
    let wildcard = "0.0.0.0:18789";
    match (owner, when) {
        (None, "its file asks for the address, and its sockets contradict it") => told(
            "instead of localhost; or for good: the file is already right",
            gateway(wildcard, LOCALHOST_V6, &[], &file("loopback", ""), YOUNGER),
        ),
        (Some(Kind::OpenClaw), "an IPv6 address that is not loopback") => {
            told("OpenClaw listens on no IPv6 address", up((GATEWAY, 21), wildcard, "[2001:db8::2]:18789"))
        }
        (None, "an address that is not loopback") => told(
            "let the server listen on [2001:db8::2] too, and keep",
            up(("nginx", 7), wildcard, "[2001:db8::2]:18789"),
        ),
        (None, "it claims to listen on the address already") => told(
            "its log says why it does not listen on [::1]",
            gateway(LOCALHOST, LOCALHOST_V6, &[], &file("loopback", ""), OLDER),
        ),
        (Some(Kind::OpenClaw), "IPv6 loopback") => told(
            "gateway.bind \"loopback\" (listens on 127.0.0.1 and [::1]",
            up((GATEWAY, 21), wildcard, LOCALHOST_V6),
        ),
        (Some(Kind::DockerProxy), _) => {
            told("docker run -p [::1]:18789:PORT", up(("docker-proxy", 7), wildcard, LOCALHOST_V6))
        }
        (Some(Kind::Ssh), _) => {
            told("without -4 (AddressFamily inet)", up(("ssh", 7), LOCALHOST, LOCALHOST_V6))
        }
        (Some(Kind::Kubectl), _) => told("--address localhost", up(("kubectl", 7), LOCALHOST, LOCALHOST_V6)),
        (Some(Kind::Systemd), "loopback, and the socket is `::` for IPv6 only") => {
            let listener = server("[::]:18789").v6only().by("systemd", 1);
            told("BindIPv6Only=both", story().present(&listener).ready().refuse(&connect(LOCALHOST)))
        }
        (Some(Kind::Systemd), _) => {
            told("another ListenStream=[::1]:18789", up(("systemd", 1), wildcard, LOCALHOST_V6))
        }
        (None, "loopback") => told(
            "use 127.0.0.1 instead of localhost, or let the server listen on [::1] too",
            up(("nginx", 7), wildcard, LOCALHOST_V6),
        ),
        other => panic!("no story for wrong-family: {other:?}"),
    }
}

fn wrong_address(owner: Option<Kind>, when: &str) -> Told {
    let inside = |comm: &str, to: &str| {
        let listener = server(LOCALHOST).by(comm, 3318).in_netns(CONTAINER);
        container().present(&listener).ready().refuse(&connect(to).by("docker-proxy", 2210))
    };
    match (owner, when) {
        (None, "its file asks for the address, and is younger than its process") => told(
            "the file is already right. The process took its bind when it started",
            gateway(TAILNET, LOCALHOST, &[], &file("lan", ""), YOUNGER),
        ),
        (None, "its file asks for the address, and is older than its process") => told(
            "the process is younger than it: its log says why",
            gateway(TAILNET, LOCALHOST, &[], &file("lan", ""), OLDER),
        ),
        (None, "its file asks for the address, and which of the two is older cannot be told") => told(
            "whether the process started with it cannot be told: end it and start a new one",
            gateway(TAILNET, LOCALHOST, &[], &file("lan", ""), EITHER),
        ),
        (None, "its arguments or its environment ask for the address") => told(
            "the bind by its arguments is right already",
            gateway(TAILNET, LOCALHOST, &["--bind", "lan"], &file("tailnet", ""), OLDER),
        ),
        (None, "its file asked for the address, and somebody took that back") => {
            let set = story().present(&server(TAILNET)).ready();
            let set = set.says(4242, &[], Some((&file("tailnet", ""), OLDER)));
            let set = set.after_millis(100).replace(4242, &file("lan", ""), process("openclaw", 70));
            let set = set.after_millis(2_000).replace(4242, &file("tailnet", ""), process("sync", 71));
            told("something rewrites the file: openclaw[70]", set.refuse(&connect(LOCALHOST)))
        }
        (None, "its file asks for the address, and something wins over it") => told(
            "the gateway.bind of its arguments wins over it",
            gateway(TAILNET, LOCALHOST, &["--bind", "tailnet"], &file("lan", ""), OLDER),
        ),
        (Some(Kind::OpenClaw), "in another namespace than the client, by an IPv4 address") => {
            told("gateway.bind \"lan\" inside", inside(GATEWAY, "172.17.0.2:18789"))
        }
        (Some(Kind::OpenClaw), "in another namespace than the client, by an IPv6 address") => {
            told("use an IPv4 address of network namespace", inside(GATEWAY, "[fd00::2]:18789"))
        }
        (None, "in another namespace than the client") => {
            told("let the server listen on 172.17.0.2 inside", inside("node", "172.17.0.2:18789"))
        }
        (None, "what it listens on is no address any more") => {
            let down = story().host(|host| host.local.retain(|route| route.device != 3));
            told(
                "is no address of this namespace any more",
                down.present(&server(TAILNET)).ready().refuse(&connect(LOCALHOST)),
            )
        }
        (Some(Kind::DockerProxy), _) => {
            told("docker run -p 192.168.50.2:18789:PORT", up(("docker-proxy", 7), LOCALHOST, LAN))
        }
        (Some(Kind::Tailscaled), _) => {
            told("tailscaled serves the tailnet only", up(("tailscaled", 7), TAILNET, LOCALHOST))
        }
        (Some(Kind::Ssh), _) => told("-L 192.168.50.2:18789:HOST:PORT", up(("ssh", 7), LOCALHOST, LAN)),
        (Some(Kind::Sshd), _) => told("GatewayPorts clientspecified", up(("sshd", 7), LOCALHOST, LAN)),
        (Some(Kind::Kubectl), _) => {
            told("--address localhost,192.168.50.2", up(("kubectl", 7), LOCALHOST, LAN))
        }
        (Some(Kind::Systemd), _) => {
            told("another ListenStream=127.0.0.1:18789", up(("systemd", 1), LAN, LOCALHOST))
        }
        (
            Some(Kind::OpenClaw),
            "it is to listen on loopback alone, and its tailnet address was asked for",
        ) => told(
            "gateway.tailscale.mode \"serve\"",
            gateway(LOCALHOST, TAILNET, &[], &file("loopback", ""), OLDER),
        ),
        (Some(Kind::OpenClaw), "it listens on loopback, and another IPv4 address was asked for") => told(
            "a tunnel or a reverse proxy in front, or gateway.bind \"lan\"",
            gateway(LOCALHOST, LAN, &[], "{gateway:{bind:'loopback'}}", OLDER),
        ),
        (None, "it listens on loopback") => {
            told("let the server listen on 192.168.50.2 and keep", up(("nginx", 7), LOCALHOST, LAN))
        }
        (Some(Kind::OpenClaw), "it listens on one address, [::1] was asked for") => {
            told("and no longer on 100.101.102.103", up((GATEWAY, 21), TAILNET, LOCALHOST_V6))
        }
        (Some(Kind::OpenClaw), "it listens on one address, another IPv6 address was asked for") => told(
            "use http://100.101.102.103:18789: OpenClaw listens on no IPv6",
            up((GATEWAY, 21), TAILNET, "[2001:db8::2]:18789"),
        ),
        (
            Some(Kind::OpenClaw),
            "it listens on one address, 127.0.0.1 was asked for, and its version is before 2026.8.1 or not known",
        ) => told(
            "OpenClaw 2026.8.1 or later, or gateway.bind \"lan\"",
            gateway(
                TAILNET,
                LOCALHOST,
                &[],
                &file("tailnet", ",meta:{lastTouchedVersion:'2026.7.35'}"),
                OLDER,
            ),
        ),
        (Some(Kind::OpenClaw), "it listens on one address, another was asked for") => {
            told("For good: gateway.bind \"lan\"", up((GATEWAY, 21), TAILNET, LAN))
        }
        (None, "") => told("let the server listen on 127.0.0.1 too", up(("nginx", 7), LAN, LOCALHOST)),
        other => panic!("no story for wrong-address: {other:?}"),
    }
}

fn starting(owner: Option<Kind>, when: &str) -> Told {
    let starts = |comm: &str, product| {
        let started = if product {
            story().ready().start(comm, 655)
        } else {
            story().ready().start_as(comm, 655, None)
        };
        started.after_millis(1_200)
    };
    let pod = "6b1c0d0e-5a00-11e9-b385-42010a80018d";
    match (owner, when) {
        (None, "the client is in a pod") => told(
            "startupProbe",
            starts(GATEWAY, true).refuse(&connect(LOCALHOST).in_container(of_client(Some(pod)))),
        ),
        (Some(Kind::OpenClaw), _) => told(
            "OpenClaw takes 6-10 s",
            starts(GATEWAY, true).refuse(&connect(LOCALHOST).in_container(of_client(None))),
        ),
        (None, "") => told("wait for RECOVERED, and", starts("python3", false).refuse(&connect(LOCALHOST))),
        other => panic!("no story for starting: {other:?}"),
    }
}

fn never_listened(owner: Option<Kind>, when: &str) -> Told {
    match (owner, when) {
        (Some(_), "exit code 78, and it claims to listen beyond loopback without a token or password") => {
            told(
                "and no token or password: gateway.bind \"loopback\"",
                ended(GATEWAY, REFUSED, Some("{gateway:{bind:'lan'}}")),
            )
        }
        (Some(_), "exit code 78, and it claims a token or password") => {
            told("-n 20 names the setting", ended(GATEWAY, REFUSED, Some(&file("lan", ""))))
        }
        (Some(_), "exit code 78") => told("(often: non-loopback bind", ended(GATEWAY, REFUSED, None)),
        (None, "ended by SIGKILL") => told("a supervisor's timeout", ended(GATEWAY, KILLED, None)),
        (None, "") => told("see the log for the end of", ended(GATEWAY, FAILED, None)),
        other => panic!("no story for never-listened: {other:?}"),
    }
}

fn other_netns(owner: Option<Kind>, when: &str) -> Told {
    let pod = |name, at: &str, comm: &str, pid| {
        let mut listener = server(at).by(comm, pid).in_netns(POD);
        if pid == 0 {
            listener.listener.process = tracer::line::Process::default();
        }
        story().netns(namespace(POD, name, &["10.0.0.7"], &[])).present(&listener).ready()
    };
    let from_inside = |at: &str| {
        let proxy = server(at).by("docker-proxy", 2210);
        container().present(&proxy).ready().refuse(&connect(LOCALHOST).in_netns(CONTAINER))
    };
    match (owner, when) {
        (Some(Kind::DockerProxy), "it listens beyond loopback") => {
            told("host.docker.internal:18789", from_inside("0.0.0.0:18789"))
        }
        (Some(Kind::DockerProxy), _) => told("published for the host alone", from_inside(LOCALHOST)),
        (None, "it listens on its own loopback") => told(
            "nsenter -t 7 -n COMMAND; it listens on its own loopback only",
            pod(None, LOCALHOST, "nginx", 7).refuse(&connect(LOCALHOST)),
        ),
        (None, "it can be entered") => told(
            "ip netns exec pod COMMAND; from here",
            pod(Some("pod"), "0.0.0.0:18789", "nginx", 7).refuse(&connect(LOCALHOST)),
        ),
        (None, "") => told(
            "to reach it from here, publish",
            pod(None, "0.0.0.0:18789", "", 0).refuse(&connect(LOCALHOST)),
        ),
        other => panic!("no story for other-netns: {other:?}"),
    }
}

fn other_port(when: &str) -> Told {
    let elsewhere = |claims: bool| {
        let mut started = story().ready().start(GATEWAY, 4242);
        if claims {
            started = started.says(4242, &["--port", "19001"], None);
        }
        let elsewhere = started.after_millis(1_000).elsewhere(&[&server("127.0.0.1:19001")]);
        elsewhere.refuse(&connect(LOCALHOST))
    };
    match when {
        "it claims that port" => told("its gateway.port by its arguments is 19001", elsewhere(true)),
        "" => told("or start the server with port 18789", elsewhere(false)),
        other => panic!("no story for other-port: {other}"),
    }
}

fn is_said(words: &str, hint: &str) -> bool {
    match words.strip_prefix("...") {
        Some(last) => hint.ends_with(last),
        None => hint.contains(words),
    }
}

#[test]
fn each_row_is_said_where_it_fits() {
    for Row { cause, owner, when, .. } in ROWS {
        let Told { words, verdict } = tell(*cause, *owner, when);
        assert_eq!(verdict.cause, *cause, "{owner:?} {when}: {verdict:?}");
        let hint = verdict.hint.as_deref().unwrap_or_default();
        assert!(is_said(words, hint), "{} {owner:?} {when}: {hint}", cause.name());
    }
}

#[test]
fn each_words_are_one_rows_own() {
    let told: Vec<(&Row, Told)> =
        ROWS.iter().map(|row| (row, tell(row.cause, row.owner, row.when))).collect();
    for (row, Told { words, .. }) in &told {
        let also = told.iter().filter(|(other, one)| {
            other.cause == row.cause && one.verdict.hint.as_deref().is_some_and(|hint| is_said(words, hint))
        });
        let also: Vec<&str> = also.map(|(other, _)| other.when).collect();
        assert_eq!(also.len(), 1, "{} {:?} `{words}`: {also:?}", row.cause.name(), row.owner);
    }
}

/// The text of docs/hints.md.
fn page() -> String {
    let mut page = HEAD.to_owned();
    page.push_str("\n## Owners\n\n| owner | recognised by |\n|---|---|\n");
    for kind in &KINDS {
        let _ = writeln!(page, "| {} | {} |", kind.name, kind.by);
    }
    for cause in Cause::ALL {
        let _ = write!(page, "\n## {}\n\n| owner | when | hint |\n|---|---|---|\n", cause.name());
        for row in ROWS.iter().filter(|row| row.cause == cause) {
            let Told { verdict, .. } = tell(row.cause, row.owner, row.when);
            let hint = verdict.hint.unwrap_or_default().replace('|', "\\|");
            let _ = writeln!(page, "| {} | {} | {hint} |", row.owner.map_or("any", Kind::name), row.when);
        }
    }
    page
}

const HEAD: &str = "# Hints

What tracer proposes, by cause and by who owns the socket: the first row of a cause that fits. The hints are said of
stories in tests/hints.rs, which stands for addresses and names; this page is made from them and from the table in
tracer/src/correlate/hints by `UPDATE_DOCS=1 cargo test -p tracer --test hints`.
";

#[test]
fn the_page_is_current() {
    let page = page();
    if std::env::var_os(UPDATE).is_some() {
        std::fs::write(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/hints.md"), page).unwrap();
        return;
    }
    assert!(
        page == CHECKED_IN,
        "docs/hints.md is not current: UPDATE_DOCS=1 cargo test -p tracer --test hints"
    );
}

fn hint(story: Story) -> String {
    story.verdict().hint.unwrap_or_default()
}

/// What a hint proposes to open, and what it says of who may then come in.
#[test]
fn whoever_may_come_in_is_told_by_what_is_claimed() {
    let auth = |auth: &str| format!("{{gateway:{{bind:'tailnet',auth:{auth}}}}}");
    let token = format!("{{mode:'token',token:'{TOKEN}'}}");
    let password = format!("{{mode:'password',password:'{TOKEN}'}}");
    for (claimed, expected) in [
        (auth(&token), "opens every interface: keep gateway.auth.token and a firewall"),
        (auth(&password), "opens every interface: keep gateway.auth.password and a firewall"),
        (auth("{mode:'token'}"), "opens every interface: set gateway.auth.token first, and a firewall"),
        (auth("{}"), "opens every interface: set gateway.auth.token first, and a firewall"),
        (
            auth("{mode:'none'}"),
            "opens every interface: set gateway.auth.token and gateway.auth.mode \"token\" in place of \"none\" first, and \
             a firewall",
        ),
        (
            auth(&token.replace("'token',", "'none',")),
            "opens every interface: set gateway.auth.mode \"token\" in place of \"none\" first, and a firewall",
        ),
    ] {
        for to in [LOCALHOST, LAN] {
            let hint = hint(gateway(TAILNET, to, &[], &claimed, OLDER));
            assert!(hint.contains(expected), "{claimed} {to}: {hint}");
        }
    }
    // Whoever else it is, a product that can be read says it, and of others it is asked for.
    let nginx = hint(up(("nginx", 7), TAILNET, LAN));
    assert!(
        nginx.ends_with("let the server listen on 192.168.50.2 too, and keep its authentication on"),
        "{nginx}"
    );
    let here = hint(up(("nginx", 7), TAILNET, LOCALHOST));
    assert!(here.ends_with("let the server listen on 127.0.0.1 too"), "{here}");
}

/// Every hint that opens the server to other hosts has a word on who may come in.
#[test]
fn nothing_is_opened_without_a_word_on_who_may_come_in() {
    let owners =
        ["openclaw-gatewa", "docker-proxy", "tailscaled", "ssh", "sshd", "kubectl", "systemd", "nginx"];
    let sockets = [LOCALHOST, LOCALHOST_V6, LAN, TAILNET, "0.0.0.0:18789", "[::]:18789"];
    let mut opened = 0;
    for owner in owners {
        for at in sockets {
            for to in sockets.into_iter().take(4).chain(["[2001:db8::2]:18789"]) {
                let hint = hint(up((owner, 7), at, to));
                let proposes = ["listen on", "\"lan\"", "\"serve\"", "ListenStream", "-L 1", "-R 1", "-p 1"];
                let is_outside = !to.starts_with("127.") && !to.starts_with("[::1]");
                let is_open = proposes.iter().any(|words| hint.contains(words)) && is_outside
                    || hint.contains("\"lan\"");
                if is_open && !hint.contains("OpenClaw listens on no IPv6") {
                    opened += 1;
                    let words = ["authentication", "gateway.auth"];
                    assert!(words.iter().any(|word| hint.contains(word)), "{owner} {at} {to}: {hint}");
                    assert!(
                        !hint.contains("every interface") || hint.contains("firewall"),
                        "{owner}: {hint}"
                    );
                }
            }
        }
    }
    assert!(opened > 30, "{opened}");
}

/// What wins over the file has to be told itself.
#[test]
fn the_setting_is_to_be_changed_where_it_is_said() {
    let hint = |arguments: &[&str]| hint(gateway(TAILNET, LOCALHOST, arguments, "{}", OLDER));
    assert!(hint(&["--bind", "tailnet"]).contains("or --bind lan in its arguments (opens"));
    assert!(hint(&[]).contains("or gateway.bind \"lan\" (opens"));
}

/// A version that listens on 127.0.0.1 too is not to be had where it is already.
#[test]
fn a_newer_version_is_proposed_to_an_older_one() {
    let version = |version: &str, bind: &str| {
        let file = file(bind, &format!(",meta:{{lastTouchedVersion:'{version}'}}"));
        hint(gateway(TAILNET, LOCALHOST, &[], &file, OLDER))
    };
    assert!(version("2026.7.35", "tailnet").contains("OpenClaw 2026.8.1 or later"));
    assert!(version("2026.9.6", "tailnet").starts_with("the file is already right"));
    let auto = version("2026.9.6", "auto");
    assert!(auto.contains("gateway.bind \"lan\"") && !auto.contains("2026.8.1"), "{auto}");
}

/// A file's time is behind the true one by as much as its file system and the kernel's clock leave out.
#[test]
fn a_file_is_older_than_its_process_only_where_no_rounding_makes_it_so() {
    let hint = |written| hint(gateway(TAILNET, LOCALHOST, &[], &file("lan", ""), written));
    let (younger, older) = ("The process took its bind when it started", "the process is younger than it");
    let either = "cannot be told";
    let hints = [
        (50_011, younger),
        (50_010, younger),
        (50_009, either),
        (49_991, either),
        (49_990, older),
        // What may be whole seconds, or each other one.
        (51_000, younger),
        (50_000, either),
        (49_000, either),
        (48_000, older),
    ];
    for (written, expected) in hints {
        let hint = hint(written);
        assert!(hint.contains(expected), "{written}: {hint}");
    }
}

#[test]
fn what_stands_in_the_file_is_not_said_to_be_something_else() {
    let custom = "{gateway:{bind:'custom',customBindHost:'192.168.50.2'}}";
    let hint = hint(gateway(LOCALHOST, TAILNET, &[], custom, OLDER));
    assert!(!hint.contains("as it is"), "{hint}");
}

/// Who listens on loopback of both families is reached by the one that the client speaks.
#[test]
fn the_clients_own_family_is_proposed() {
    let both = story().present(&server(LOCALHOST_V6)).present(&server(LOCALHOST)).ready();
    let hint = hint(both.refuse(&connect(LAN)));
    assert!(hint.contains("on this host use 127.0.0.1:18789"), "{hint}");
}

#[test]
fn nobody_is_told_to_end_the_first_process() {
    for holder in ["init", "systemd"] {
        let hint = hint(in_use((holder, 1), LAN, "0.0.0.0:18789"));
        assert!(!hint.contains("kill"), "{holder}: {hint}");
    }
}

/// What a published port leads to is named.
#[test]
fn a_container_behind_a_published_port_is_named() {
    let both = container()
        .present(&server("0.0.0.0:18789").by("docker-proxy", 2210))
        .present(&server(LOCALHOST).by("node", 3318).in_netns(CONTAINER));
    let verdict = both.ready().refuse(&connect(LAN)).verdict();
    assert_eq!(verdict.cause, Intercepted);
    assert!(
        verdict.summary.ends_with("; nearest: network namespace net:[4026532282] has 127.0.0.1:18789"),
        "{}",
        verdict.summary
    );
}
