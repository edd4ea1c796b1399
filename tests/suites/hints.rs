//! Each row of the table of hints, proposed in a simulation; docs/hints.md is made of both.

use std::fmt::Write as _;

use tests::simulation::{Close, Connect, Simulation, connect, namespace, process, server, simulation};
use tests::token::TOKEN;
use tracer::model::container::Container;
use tracer::model::errno::Errno;
use tracer::model::forward::Target;
use tracer::model::kernel_event::SentBy;
use tracer::model::process::ExitStatus;
use tracer::model::socket::TcpState;
use tracer::model::unit::Unit;
use tracer::output::causes;
use tracer::output::hints::owner::kinds;
use tracer::output::hints::table::{AnyRow, rows};
use tracer::output::schema::Cause::{
    self, BindFailed, BoundNotListening, Filtered, Intercepted, NeverListened, NotOnTcp, NothingListening,
    OtherNetns, OtherPort, Remote, Starting, Stopped, WrongAddress, WrongDevice, WrongFamily,
};
use tracer::output::schema::Verdict;
use tracer::products::ProductRef;
use tracer::products::openclaw::OpenClaw;
use tracer::products::postgresql::PostgreSql;

/// When a row is for a socket that any user could have opened.
const STRANGE: &str = "nothing but its own socket shows that it is the server";

/// The same for a process that any user could have named so.
const STRANGE_NAME: &str = "nothing but its name shows that it is the server";

const POD: u32 = 4_026_532_281;
const CONTAINER: u32 = 4_026_532_282;
const LOCALHOST: &str = "127.0.0.1:18789";
const LOCALHOST_V6: &str = "[::1]:18789";
const LAN: &str = "192.168.50.2:18789";
const TAILNET: &str = "100.101.102.103:18789";
const GATEWAY: &str = "openclaw-gatewa";

/// After and before the processes of the simulations started, in milliseconds since boot, and in the same hundredth of a
/// second.
const YOUNGER: u64 = 60_000;
const OLDER: u64 = 40_000;
const EITHER: u64 = 50_001;

/// The table as it is checked in.
const CHECKED_IN: &str = include_str!("../../docs/hints.md");

/// Set to anything, it makes the test write the table instead.
const UPDATE: &str = "UPDATE_DOCS";

/// A simulation for a row, and words that are only this row's: with `...` before them, the last ones.
struct Example {
    words: &'static str,
    verdict: Verdict,
}

fn example(words: &'static str, simulation: Simulation) -> Example {
    Example { words, verdict: simulation.verdict() }
}

/// One listener, one connect.
fn up(owner: (&str, u32), at: &str, to: &str) -> Simulation {
    simulation().present(&server(at).by(owner.0, owner.1)).ready().refuse(&connect(to))
}

/// The same of a gateway with settings: its file, and when that was written.
fn gateway(at: &str, to: &str, arguments: &[&str], file: &str, written: u64) -> Simulation {
    let ready = simulation().present(&server(at)).ready();
    ready.configure(4242, arguments, Some((file, written))).refuse(&connect(to))
}

/// The text of a file.
fn file(bind: &str, more: &str) -> String {
    format!("{{gateway:{{bind:'{bind}',auth:{{mode:'token',token:'{TOKEN}'}}}}{more}}}")
}

/// A gateway that asks for a port that another process has.
fn in_use(holder: (&str, u32), held: &str, asked: &str) -> Simulation {
    by_asker((GATEWAY, 2970), holder, held, asked)
}

fn by_asker(asker: (&str, u32), holder: (&str, u32), held: &str, asked: &str) -> Simulation {
    simulation()
        .present(&server(held).by(holder.0, holder.1))
        .ready()
        .bind(&server(asked).by(asker.0, asker.1), Some(Errno::EADDRINUSE))
        .after_millis(400)
        .refuse(&connect(LOCALHOST))
}

/// A listener that closed.
fn closed(owner: (&str, u32), how: Close) -> Simulation {
    let listener = server(LOCALHOST).by(owner.0, owner.1);
    let open = simulation().ready().open(&listener).after_millis(4_000).close(&listener, how);
    open.after_millis(2_100).refuse(&connect(LOCALHOST))
}

/// A listener of a program with these arguments, which closed.
fn for_one_connection(words: &[&str]) -> Simulation {
    let mut server = server(LOCALHOST).by(words[0], 7);
    let bytes: Vec<&[u8]> = words.iter().map(|word| word.as_bytes()).collect();
    server.listener.process.script = tracer::model::program::script(bytes[0], &bytes);
    let open = simulation().ready().open(&server).after_millis(4_000);
    open.close(&server, Close::Owner).after_millis(2_100).refuse(&connect(LOCALHOST))
}

/// A container that listens on its own loopback.
fn container() -> Simulation {
    simulation().netns(namespace(CONTAINER, None, &["172.17.0.2", "fd00::2"], &[]))
}

/// A candidate that ended.
fn ended(comm: &str, status: ExitStatus, file: Option<&str>) -> Simulation {
    ends(simulation().ready().start(comm, 16_083), status, file)
}

/// A gateway in a systemd unit that ended with its exit code for a refused configuration.
fn ended_in_unit(name: &str, user: Option<u32>, file: Option<&str>) -> Simulation {
    let unit = Unit { name: name.to_owned(), user };
    ends(simulation().ready().start_in_unit(GATEWAY, 16_083, unit), REFUSED, file)
}

fn ends(mut started: Simulation, status: ExitStatus, file: Option<&str>) -> Simulation {
    if let Some(file) = file {
        started = started
            .configure(16_083, &[], Some((file, OLDER)))
            .after_millis(4_000)
            .settings_unreadable(16_083);
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

/// A PostgreSQL server with this configuration file, at the port of every scenario.
fn postgres(at: &str, to: &str, file: &str) -> Simulation {
    let ready = simulation().present(&server(at).by("postgres", 41)).ready();
    ready
        .configure_as(ProductRef::new(&PostgreSql), 41, Some((&postgres_file(file), OLDER)))
        .refuse(&connect(to))
}

fn postgres_file(more: &str) -> String {
    format!("port = 18789\n{more}\n")
}

const KILLED: ExitStatus = ExitStatus::Signal(9);
const FAILED: ExitStatus = ExitStatus::Code(1);
const REFUSED: ExitStatus = ExitStatus::Code(78);

/// The simulation of a row.
fn propose(cause: Cause, owner: &str, when: &str) -> Example {
    match cause {
        Filtered => match when {
            "an ICMP message refused, for an address of no network namespace of this host" => {
                let refused = connect("10.96.0.1:18789").by_icmp_from("192.168.50.2", 1);
                example(
                    "if 10.96.0.1 is a Service's, kubectl get endpoints",
                    simulation().ready().refuse(&refused),
                )
            }
            "an ICMP message refused" => {
                example("a REJECT rule: nft", simulation().ready().refuse(&connect(LOCALHOST).by_icmp()))
            }
            "a reset that no TCP stack of this host sent" => {
                example("tcp-reset", simulation().ready().refuse(&reset(Some(SentBy::Filter))))
            }
            other => panic!("no simulation for filtered: {other}"),
        },
        NotOnTcp => {
            let up =
                simulation().ready().start_as("php-fpm", 1881, None).local(1881, "/run/php/php-fpm.sock");
            let up = up.after_millis(5_100);
            match when {
                STRANGE_NAME => {
                    example("let it listen on 127.0.0.1:18789", up.refuse(&connect(LOCALHOST).of_user(1001)))
                }
                "" => example("let the client use /run/php/php-fpm.sock", up.refuse(&connect(LOCALHOST))),
                other => panic!("no simulation for not-on-tcp: {other}"),
            }
        }
        Remote => example("on the host that has", simulation().ready().refuse(&connect("203.0.113.9:18789"))),
        Intercepted => intercepted(owner, when),
        WrongDevice => wrong_device(owner, when),
        BindFailed => bind_failed(owner, when),
        Stopped => stopped(owner, when),
        WrongFamily => wrong_family(owner, when),
        WrongAddress => wrong_address(owner, when),
        BoundNotListening => {
            let bound = |uid| {
                let server = server(LOCALHOST).of_user(uid);
                simulation().ready().bind(&server, None).after_millis(400).refuse(&connect(LOCALHOST))
            };
            match when {
                STRANGE => example("if it is, its log shows why", bound(1001)),
                "its process has ended" => {
                    let passed_on = simulation().ready().bind(&server(LOCALHOST), None);
                    let passed_on = passed_on.after_millis(400).exit(4242, FAILED).after_millis(400);
                    example("see which process has the socket", passed_on.refuse(&connect(LOCALHOST)))
                }
                "" => example("strace -f -p 4242", bound(1000)),
                other => panic!("no simulation for bound-not-listening: {other}"),
            }
        }
        Starting => starting(owner, when),
        NeverListened => never_listened(owner, when),
        OtherNetns => other_netns(owner, when),
        OtherPort => other_port(when),
        NothingListening => match when {
            "what listened at another address has closed it, and is still running" => {
                let open = simulation().ready().open(&server(LAN).by("nginx", 7)).after_millis(4_000);
                let closed = open.close(&server(LAN).by("nginx", 7), Close::Owner).after_millis(900);
                example("wait for the next LISTEN: nginx[7] has closed", closed.refuse(&connect(LOCALHOST)))
            }
            "its client's own file leads to another host" => {
                let asks = connect(LOCALHOST).by("openclaw", 77);
                let file = Some((r#"{ "gateway": { "mode": "remote" } }"#, 90_000));
                let configured = simulation().ready().configure_as(ProductRef::new(&OpenClaw), 77, file);
                let example =
                    example("the client's file sets gateway.mode \"remote\"", configured.refuse(&asks));
                // Another client, and one whose file asks for its own host.
                let file = Some((r#"{ "gateway": { "mode": "local" } }"#, 90_000));
                let local =
                    simulation().ready().configure_as(ProductRef::new(&OpenClaw), 77, file).refuse(&asks);
                assert!(!hint(local).contains("remote"));
                let other = simulation().ready().refuse(&connect(LOCALHOST).by("curl", 77));
                assert!(!hint(other).contains("remote"));
                example
            }
            "" => {
                example("...if it does not run, start it", simulation().ready().refuse(&connect(LOCALHOST)))
            }
            other => panic!("no simulation for nothing-listening: {other}"),
        },
    }
}

fn intercepted(owner: &str, when: &str) -> Example {
    let up = |comm: &str| simulation().present(&server("0.0.0.0:18789").by(comm, 7)).ready();
    match (owner, when) {
        ("any", "an ICMP message refused") => {
            example("a REJECT rule: nft", up("nginx").refuse(&connect(LOCALHOST).by_icmp()))
        }
        ("any", "a reset that no TCP stack of this host sent") => {
            example("tcp-reset", up("nginx").refuse(&reset(Some(SentBy::Filter))))
        }
        ("docker-proxy", _) => {
            let both = container()
                .present(&server("0.0.0.0:18789").by("docker-proxy", 2210))
                .present(&server(LOCALHOST).by("node", 3318).in_netns(CONTAINER));
            example(
                "whether Docker's NAT led the connect past docker-proxy",
                both.ready().refuse(&connect(LAN)),
            )
        }
        ("podman", _) => {
            let both = container()
                .present(&server("0.0.0.0:18789").by("conmon", 2210))
                .present(&server(LOCALHOST).by("node", 3318).in_netns(CONTAINER));
            example("past conmon into a container", both.ready().refuse(&connect(LOCALHOST)))
        }
        ("any", "a reset by this host's TCP stack") => example(
            "conntrack -L -p tcp --dport 18789; nft list ruleset | grep -n 18789",
            up("nginx").refuse(&connect(LAN)),
        ),
        ("any", "who refused is not known") => example(
            "conntrack -L -p tcp --dport 18789; nft list ruleset | grep -n -e",
            up("nginx").refuse(&reset(None)),
        ),
        other => panic!("no simulation for intercepted: {other:?}"),
    }
}

fn wrong_device(owner: &str, when: &str) -> Example {
    let bound = |comm: &str, pid| {
        let listener = server("0.0.0.0:18789").by(comm, pid).bound_to(2);
        simulation().present(&listener).ready().refuse(&connect(LOCALHOST))
    };
    match (owner, when) {
        ("any", STRANGE) => {
            let listener = server("0.0.0.0:18789").by("nginx", 7).of_user(1001).bound_to(2);
            let refused = simulation().present(&listener).ready().refuse(&connect(LOCALHOST));
            example("if it is, let it listen without the interface", refused)
        }
        ("any", "a VRF is between the two") => {
            let in_a_vrf = simulation().host(|host| {
                host.local.iter_mut().filter(|route| route.device == 2).for_each(|route| route.table = 10);
                host.links[1].master = Some(4);
            });
            let refused =
                in_a_vrf.present(&server("0.0.0.0:18789")).ready().refuse(&connect(LAN).bound_to(4));
            example("ip vrf exec", refused)
        }
        ("systemd socket", "") => example("BindToDevice=", bound("systemd", 1)),
        ("any", "") => example("SO_BINDTODEVICE", bound("nginx", 7)),
        other => panic!("no simulation for wrong-device: {other:?}"),
    }
}

fn bind_failed(owner: &str, when: &str) -> Example {
    let failed = |at: &str, errno| {
        simulation().ready().bind(&server(at), Some(errno)).after_millis(400).refuse(&connect(LOCALHOST))
    };
    let any = "0.0.0.0:18789";
    match (owner, when) {
        (
            "any",
            "EADDRINUSE or EADDRNOTAVAIL, and nothing but its own attempt shows that it is the server",
        ) => {
            let asked = server("100.70.1.1:18789").by("nginx", 7).of_user(1001);
            let failed = simulation().ready().bind(&asked, Some(Errno::EADDRNOTAVAIL)).after_millis(400);
            example("its log shows which address it did not get", failed.refuse(&connect(LOCALHOST)))
        }
        ("any", "EADDRINUSE, and the server holds the port itself") => {
            example("configured for both addresses, take one of them out", in_use((GATEWAY, 2970), LAN, any))
        }
        ("any", "EADDRINUSE, and it is an ssh that asks") => {
            example("ssh goes on without", by_asker(("ssh", 77), (GATEWAY, 2101), LAN, "0.0.0.0:18789"))
        }
        ("any", "EADDRINUSE, and it is a kubectl that asks") => example(
            "forward another port (kubectl",
            by_asker(("kubectl", 77), (GATEWAY, 2101), LAN, "0.0.0.0:18789"),
        ),
        ("any", "EADDRINUSE, and the port is the local one of another process's connection") => {
            let asked = simulation().ready().bind(&server(LOCALHOST), Some(Errno::EADDRINUSE));
            let held = asked.held("127.0.0.1", TcpState::Established, process("curl", 77));
            let refused = held.after_millis(400).refuse(&connect(LOCALHOST));
            example("net.ipv4.ip_local_reserved_ports", refused)
        }
        ("any", "EADDRINUSE, and another process asked for the port to connect from it") => {
            let client = server(LOCALHOST);
            let connects = simulation().ready().bind(&client, None).becomes_client(&client);
            let asked = server(LOCALHOST).by("nginx", 7);
            let asked = connects.after_millis(400).bind(&asked, Some(Errno::EADDRINUSE));
            let held = asked.held("127.0.0.1", TcpState::Established, process("curl", 77));
            let refused = held.after_millis(400).refuse(&connect(LOCALHOST));
            example("curl[77] asked for the port to connect from it", refused)
        }
        ("docker-proxy", _) => {
            example("a container publishes this port", in_use(("docker-proxy", 2210), LAN, any))
        }
        ("podman", _) => {
            example("a container of Podman publishes this port", in_use(("conmon", 2210), LAN, any))
        }
        ("tailscaled", _) => {
            example("(gateway.bind \"loopback\")", in_use(("tailscaled", 900), TAILNET, any))
        }
        ("ssh -L", _) => example("(-L): end it (kill 77)", in_use(("ssh", 77), LAN, any)),
        ("ssh -R", _) => example("(ssh -R): let that user end it", in_use(("sshd-session", 78), LAN, any)),
        ("kubectl", _) => example("a kubectl port-forward has this port", in_use(("kubectl", 79), LAN, any)),
        ("systemd socket", _) => example("`systemctl list-sockets`", in_use(("systemd", 1), LAN, any)),
        ("PostgreSQL", "EADDRINUSE, and another process asks") => {
            example("(kill -INT 41, never -9)", in_use(("postgres", 41), LAN, any))
        }
        ("PostgreSQL", "EADDRNOTAVAIL") => {
            let asked = server("100.70.1.1:18789").by("postgres", 41);
            let failed = simulation().ready().bind(&asked, Some(Errno::EADDRNOTAVAIL)).after_millis(400);
            example("take the address out of listen_addresses", failed.refuse(&connect(LOCALHOST)))
        }
        ("any", "EADDRINUSE, and no process holds the port any more") => {
            let freed = simulation()
                .ready()
                .bind(&server(LOCALHOST).by(GATEWAY, 2970), Some(Errno::EADDRINUSE))
                .held_by_none();
            example("the port is free now: restart", freed.after_millis(400).refuse(&connect(LOCALHOST)))
        }
        ("any", "EADDRINUSE, and another instance of the server holds the port") => {
            example("is a stale instance, end it (kill 2101)", in_use((GATEWAY, 2101), TAILNET, any))
        }
        ("any", "EADDRINUSE, and another service holds the port") => {
            example("nginx[2101] has the port", in_use(("nginx", 2101), TAILNET, any))
        }
        ("any", "EADDRINUSE, and what holds the port has no owner any more") => {
            let waits = simulation().ready().bind(&server(LOCALHOST), Some(Errno::EADDRINUSE)).held(
                "127.0.0.1",
                TcpState::TimeWait,
                tracer::model::process::Process::default(),
            );
            example("TIME-WAIT is over", waits.after_millis(400).refuse(&connect(LOCALHOST)))
        }
        ("any", "EADDRINUSE, and who holds the port is not known") => {
            let asked =
                simulation().silent_about_holders().ready().bind(&server(LOCALHOST), Some(Errno::EADDRINUSE));
            example("see who holds it", asked.after_millis(400).refuse(&connect(LOCALHOST)))
        }
        ("any", "EADDRNOTAVAIL, and the address is there now") => {
            example("192.168.50.2 is there now: restart", failed("192.168.50.2:18789", Errno::EADDRNOTAVAIL))
        }
        ("any", "EADDRNOTAVAIL, for [::1]") => {
            let off = simulation().host(|host| host.local.retain(|route| route.addr.is_ipv4())).ready();
            let asked = off.bind(&server(LOCALHOST_V6), Some(Errno::EADDRNOTAVAIL)).after_millis(400);
            example("lo has no [::1]", asked.refuse(&connect(LOCALHOST_V6)))
        }
        ("any", "EADDRNOTAVAIL") => example(
            "bring up the interface that has 100.70.1.1, then start the server again; or",
            failed("100.70.1.1:18789", Errno::EADDRNOTAVAIL),
        ),
        ("any", "EACCES, and the port is privileged") => example(
            "CAP_NET_BIND_SERVICE",
            simulation()
                .ready()
                .bind(&server("127.0.0.1:80"), Some(Errno::EACCES))
                .after_millis(400)
                .refuse(&connect("127.0.0.1:80")),
        ),
        ("any", "EACCES") => example("a security policy forbids", failed(LOCALHOST, Errno::EACCES)),
        ("any", "another error") => {
            example("see the log of openclaw-gatewa[4242]", failed(LOCALHOST, Errno::ENOBUFS))
        }
        other => panic!("no simulation for bind-failed: {other:?}"),
    }
}

fn stopped(owner: &str, when: &str) -> Example {
    let failed = Close::End(FAILED);
    match (owner, when) {
        ("any", "another instance has started") => {
            let listener = server(LOCALHOST).by(GATEWAY, 21);
            let open = simulation().ready().open(&listener).after_millis(4_000).close(&listener, failed);
            let next = open.after_millis(100).start(GATEWAY, 1_102).after_millis(800);
            example("wait: another instance has started", next.refuse(&connect(LOCALHOST)))
        }
        ("any", "another instance asked for the port while it was held, and is running") => {
            let listener = server(LOCALHOST).by(GATEWAY, 21);
            let beside = server("127.0.0.1:8125").by(GATEWAY, 22);
            let next = server(LOCALHOST).by(GATEWAY, 22);
            let open = simulation().ready().open(&listener).after_millis(4_000).start(GATEWAY, 22);
            let asked = open.bind(&next, Some(Errno::EADDRINUSE)).opens_elsewhere(&beside);
            let closed = asked.after_millis(9_000).close(&listener, failed).after_millis(500);
            example("restart openclaw-gatewa[22]: it asked", closed.refuse(&connect(LOCALHOST)))
        }
        ("any", "two services of different users take the port in turn") => {
            let name = "openclaw-gateway.service";
            let system = |pid| server(LOCALHOST).by(GATEWAY, pid).of_user(0).in_unit(name);
            let unit = Unit { name: name.to_owned(), user: Some(1000) };
            let own = server(LOCALHOST).by(GATEWAY, 8).in_that_unit(unit);
            let mut turns = simulation().ready();
            for server in [system(7), own, system(9)] {
                turns = turns.open(&server).after_millis(4_000).close(&server, failed).after_millis(900);
            }
            example("find out which of them is to serve it", turns.refuse(&connect(LOCALHOST)))
        }
        ("any", "two services take the port in turn") => {
            let unit = |name: &str, pid| server(LOCALHOST).by("redis-server", pid).in_unit(name);
            let mut turns = simulation().ready();
            for unit in [unit("redis.service", 7), unit("redis-own.service", 8), unit("redis.service", 9)] {
                turns = turns.open(&unit).after_millis(4_000).close(&unit, failed).after_millis(900);
            }
            example("take turns on 18789: disable one", turns.refuse(&connect(LOCALHOST)))
        }
        ("OpenClaw", _) => example("wait for RECOVERED", closed((GATEWAY, 21), Close::Owner)),
        ("docker-proxy", _) => example("docker logs CONTAINER", closed(("docker-proxy", 7), failed)),
        ("podman", _) => example("podman logs CONTAINER", closed(("rootlessport", 7), failed)),
        ("tailscaled", _) => example("`tailscale status`", closed(("tailscaled", 7), Close::Owner)),
        ("ssh -L", _) => example("ends with its ssh", closed(("ssh", 7), failed)),
        ("ssh -R", _) => example("let its client connect again", closed(("sshd-session", 7), failed)),
        ("kubectl", _) => example("ends with its pod", closed(("kubectl", 7), failed)),
        ("systemd socket", _) => {
            example("`systemctl --user list-sockets --all`", closed(("systemd", 900), Close::Owner))
        }
        ("socat", _) => {
            example("start it again with fork", for_one_connection(&["socat", "TCP-LISTEN:18789", "STDIO"]))
        }
        ("nc -l", _) => example("start it again with -k", for_one_connection(&["nc", "-l", "18789"])),
        ("any", "its server still listens on other ports, and the process that closed it failed") => {
            let [dropped, kept] = [LOCALHOST, "127.0.0.1:18790"].map(|at| server(at).by("nginx", 7));
            let mut worker = dropped.clone();
            worker.listener.process.pid = Some(8);
            let up = simulation().ready().open(&dropped).open(&kept).fork("nginx", 7, 8).after_millis(4_000);
            let closed = up.close(&worker, Close::End(KILLED)).after_millis(900);
            example("why one of its processes ended", closed.refuse(&connect(LOCALHOST)))
        }
        ("any", "its server still listens on other ports") => {
            let [dropped, kept] = [LOCALHOST, "127.0.0.1:18790"].map(|at| server(at).by("nginx", 7));
            let mut worker = dropped.clone();
            worker.listener.process.pid = Some(8);
            let up = simulation().ready().open(&dropped).open(&kept).fork("nginx", 7, 8).after_millis(4_000);
            let closed = up.close(&worker, Close::Owner).after_millis(900);
            example("add it there and reload the server", closed.refuse(&connect(LOCALHOST)))
        }
        ("any", "its process is still running") => {
            example("wait for the next LISTEN", closed(("nginx", 7), Close::Owner))
        }
        ("any", "its process was ended by SIGKILL") => {
            example("who sends SIGKILL: an operator", closed((GATEWAY, 21), Close::End(KILLED)))
        }
        ("any", "its process has ended") => {
            example("for the end of nginx, then", closed(("nginx", 7), failed))
        }
        ("any", "who closed it is not known") => {
            let gateway = server(LOCALHOST).by("nginx", 7);
            let unseen = simulation()
                .ready()
                .open(&gateway)
                .after_millis(20)
                .lose(1, tracer::model::kernel_event::LostWhere::Ring);
            let unseen = unseen.after_millis(20).scan_again().after_millis(20);
            example("see its log for why it closed", unseen.refuse(&connect(LOCALHOST)))
        }
        other => panic!("no simulation for stopped: {other:?}"),
    }
}

fn wrong_family(owner: &str, when: &str) -> Example {
    let wildcard = "0.0.0.0:18789";
    match (owner, when) {
        ("any", STRANGE) => {
            let listener = server(wildcard).by("nginx", 7).of_user(1001);
            let refused = simulation().present(&listener).ready().refuse(&connect(LOCALHOST_V6));
            example("if it is, let it listen on [::1] too", refused)
        }
        ("any", "the listener is the client's own") => {
            let own = simulation().present(&server(wildcard).by("node", 7)).ready();
            example("a server that it is itself", own.refuse(&connect(LOCALHOST_V6).by("node", 7)))
        }
        ("any", "its file asks for the address, and its sockets contradict it") => example(
            "instead of localhost; or as a permanent fix: the file is already right",
            gateway(wildcard, LOCALHOST_V6, &[], &file("loopback", ""), YOUNGER),
        ),
        ("OpenClaw", "an IPv6 address that is not loopback") => {
            example("OpenClaw listens on no IPv6 address", up((GATEWAY, 21), wildcard, "[2001:db8::2]:18789"))
        }
        ("any", "an address that is not loopback") => example(
            "let the server listen on [2001:db8::2] too, and keep",
            up(("nginx", 7), wildcard, "[2001:db8::2]:18789"),
        ),
        ("any", "it is configured to listen on the address already") => example(
            "its log shows why it does not listen on [::1]",
            gateway(LOCALHOST, LOCALHOST_V6, &[], &file("loopback", ""), OLDER),
        ),
        ("OpenClaw", "IPv6 loopback") => example(
            "gateway.bind \"loopback\" (listens on 127.0.0.1 and [::1]",
            up((GATEWAY, 21), wildcard, LOCALHOST_V6),
        ),
        ("docker-proxy", _) => {
            example("docker run -p [::1]:18789:PORT", up(("docker-proxy", 7), wildcard, LOCALHOST_V6))
        }
        ("podman", _) => {
            example("podman run -p [::1]:18789:PORT", up(("rootlessport", 7), wildcard, LOCALHOST_V6))
        }
        ("ssh -L", _) => example("without -4 (AddressFamily inet)", up(("ssh", 7), LOCALHOST, LOCALHOST_V6)),
        ("kubectl", _) => example("--address localhost", up(("kubectl", 7), LOCALHOST, LOCALHOST_V6)),
        ("systemd socket", "loopback, and the socket is `::` for IPv6 only") => {
            let listener = server("[::]:18789").v6only().by("systemd", 1);
            example("BindIPv6Only=both", simulation().present(&listener).ready().refuse(&connect(LOCALHOST)))
        }
        ("systemd socket", _) => {
            example("another ListenStream=[::1]:18789", up(("systemd", 1), wildcard, LOCALHOST_V6))
        }
        ("PostgreSQL", "loopback") => example(
            "use 127.0.0.1 instead of localhost, or listen_addresses = 'localhost,::1' in postgresql.conf",
            postgres(LOCALHOST, LOCALHOST_V6, "listen_addresses = 'localhost'"),
        ),
        ("any", "loopback") => example(
            "use 127.0.0.1 instead of localhost, or let the server listen on [::1] too",
            up(("nginx", 7), wildcard, LOCALHOST_V6),
        ),
        other => panic!("no simulation for wrong-family: {other:?}"),
    }
}

fn wrong_address(owner: &str, when: &str) -> Example {
    let inside = |comm: &str, to: &str| {
        let listener = server(LOCALHOST).by(comm, 3318).in_netns(CONTAINER);
        container().present(&listener).ready().refuse(&connect(to).by("docker-proxy", 2210))
    };
    match (owner, when) {
        ("any", STRANGE) => {
            let listener = server(TAILNET).by("nginx", 7).of_user(1001);
            let refused = simulation().present(&listener).ready().refuse(&connect(LOCALHOST));
            example("if it is, let it listen on 127.0.0.1 too", refused)
        }
        ("any", "the listener is the client's own") => {
            let own = simulation().present(&server(TAILNET).by("node", 7)).ready();
            example("a server that it is itself", own.refuse(&connect(LOCALHOST).by("node", 7)))
        }
        ("any", "its file asks for the address, and is younger than its process") => example(
            "the file is already right. The process took its bind when it started",
            gateway(TAILNET, LOCALHOST, &[], &file("lan", ""), YOUNGER),
        ),
        ("any", "its file asks for the address, and is older than its process") => example(
            "the process is younger than it: its log shows why",
            gateway(TAILNET, LOCALHOST, &[], &file("lan", ""), OLDER),
        ),
        ("any", "its file asks for the address, and which of the two is older is not known") => example(
            "whether the process started with it is not known: end it and start a new one",
            gateway(TAILNET, LOCALHOST, &[], &file("lan", ""), EITHER),
        ),
        ("any", "its arguments or its environment ask for the address") => example(
            "the bind by its arguments is right already",
            gateway(TAILNET, LOCALHOST, &["--bind", "lan"], &file("tailnet", ""), OLDER),
        ),
        ("any", "its file asked for the address, and another process took that back") => {
            let set = simulation().present(&server(TAILNET)).ready();
            let set = set.configure(4242, &[], Some((&file("tailnet", ""), OLDER)));
            let set = set.after_millis(100).replace(4242, &file("lan", ""), process("openclaw", 70));
            let set = set.after_millis(2_000).replace(4242, &file("tailnet", ""), process("sync", 71));
            example("something rewrites the file: openclaw set", set.refuse(&connect(LOCALHOST)))
        }
        ("any", "its file asks for the address, and something wins over it") => example(
            "the gateway.bind of its arguments wins over it",
            gateway(TAILNET, LOCALHOST, &["--bind", "tailnet"], &file("lan", ""), OLDER),
        ),
        ("OpenClaw", "in another namespace than the client, by an IPv4 address") => {
            example("gateway.bind \"lan\" inside", inside(GATEWAY, "172.17.0.2:18789"))
        }
        ("OpenClaw", "in another namespace than the client, by an IPv6 address") => {
            example("use an IPv4 address of network namespace", inside(GATEWAY, "[fd00::2]:18789"))
        }
        ("PostgreSQL", "in another namespace than the client") => {
            example("add 172.17.0.2 to listen_addresses", inside("postgres", "172.17.0.2:18789"))
        }
        ("any", "in another namespace than the client") => {
            example("let the server listen on 172.17.0.2 inside", inside("node", "172.17.0.2:18789"))
        }
        ("any", "what it listens on is not an address any more") => {
            let down = simulation().host(|host| host.local.retain(|route| route.device != 3));
            example(
                "is not an address of this namespace any more",
                down.present(&server(TAILNET)).ready().refuse(&connect(LOCALHOST)),
            )
        }
        ("docker-proxy", _) => {
            example("docker run -p 192.168.50.2:18789:PORT", up(("docker-proxy", 7), LOCALHOST, LAN))
        }
        ("podman", _) => example("podman run -p 192.168.50.2:18789:PORT", up(("conmon", 7), LOCALHOST, LAN)),
        ("tailscaled", _) => {
            example("tailscaled serves the tailnet only", up(("tailscaled", 7), TAILNET, LOCALHOST))
        }
        ("ssh -L", _) => example("-L 192.168.50.2:18789:HOST:PORT", up(("ssh", 7), LOCALHOST, LAN)),
        ("ssh -R", _) => example("GatewayPorts clientspecified", up(("sshd-session", 7), LOCALHOST, LAN)),
        ("kubectl", _) => example("--address localhost,192.168.50.2", up(("kubectl", 7), LOCALHOST, LAN)),
        ("systemd socket", _) => {
            example("another ListenStream=127.0.0.1:18789", up(("systemd", 1), LAN, LOCALHOST))
        }
        ("OpenClaw", "it is to listen on loopback alone, and its tailnet address was asked for") => example(
            "gateway.tailscale.mode \"serve\"",
            gateway(LOCALHOST, TAILNET, &[], &file("loopback", ""), OLDER),
        ),
        ("OpenClaw", "it listens on loopback, and another IPv4 address was asked for") => example(
            "a tunnel or a reverse proxy in front, or gateway.bind \"lan\"",
            gateway(LOCALHOST, LAN, &[], "{gateway:{bind:'loopback'}}", OLDER),
        ),
        ("PostgreSQL", "it listens on loopback, and another address was asked for") => example(
            "listen_addresses = 'localhost,192.168.50.2' in postgresql.conf",
            postgres(LOCALHOST, LAN, ""),
        ),
        ("any", "it listens on loopback") => {
            example("let the server listen on 192.168.50.2 and keep", up(("nginx", 7), LOCALHOST, LAN))
        }
        ("OpenClaw", "it listens on one address, [::1] was asked for") => {
            example("and no longer on 100.101.102.103", up((GATEWAY, 21), TAILNET, LOCALHOST_V6))
        }
        ("OpenClaw", "it listens on one address, another IPv6 address was asked for") => example(
            "use http://100.101.102.103:18789: OpenClaw listens on no IPv6",
            up((GATEWAY, 21), TAILNET, "[2001:db8::2]:18789"),
        ),
        (
            "OpenClaw",
            "it listens on one address, 127.0.0.1 was asked for, and its version is before 2026.8.1 or not known",
        ) => example(
            "OpenClaw 2026.8.1 or later, or gateway.bind \"lan\"",
            gateway(
                TAILNET,
                LOCALHOST,
                &[],
                &file("tailnet", ",meta:{lastTouchedVersion:'2026.7.35'}"),
                OLDER,
            ),
        ),
        ("OpenClaw", "it listens on one address, another was asked for") => {
            example("Permanent fix: gateway.bind \"lan\"", up((GATEWAY, 21), TAILNET, LAN))
        }
        ("PostgreSQL", "it listens on another address") => example(
            "now: use 192.168.50.2:18789; permanent fix: listen_addresses = '192.168.50.2,127.0.0.1'",
            postgres(LAN, LOCALHOST, "listen_addresses = '192.168.50.2'"),
        ),
        ("any", "") => example("let the server listen on 127.0.0.1 too", up(("nginx", 7), LAN, LOCALHOST)),
        other => panic!("no simulation for wrong-address: {other:?}"),
    }
}

fn starting(owner: &str, when: &str) -> Example {
    let starts = |comm: &str, product| {
        let started = if product {
            simulation().ready().start(comm, 655)
        } else {
            simulation().ready().start_as(comm, 655, None)
        };
        started.after_millis(1_200)
    };
    let pod = "6b1c0d0e-5a00-11e9-b385-42010a80018d";
    match (owner, when) {
        ("any", "the client is in a pod") => example(
            "startupProbe",
            starts(GATEWAY, true).refuse(&connect(LOCALHOST).in_container(of_client(Some(pod)))),
        ),
        ("OpenClaw", _) => example(
            "OpenClaw takes 6-10 s",
            starts(GATEWAY, true).refuse(&connect(LOCALHOST).in_container(of_client(None))),
        ),
        ("PostgreSQL", _) => {
            let started = simulation().ready().start_as("postgres", 655, Some(ProductRef::new(&PostgreSql)));
            let started =
                started.configure_as(ProductRef::new(&PostgreSql), 655, Some((&postgres_file(""), OLDER)));
            example(
                "pg_isready -h 127.0.0.1 -p 18789",
                started.after_millis(1_200).refuse(&connect(LOCALHOST)),
            )
        }
        ("any", "") => {
            example("wait for RECOVERED, and", starts("python3", false).refuse(&connect(LOCALHOST)))
        }
        other => panic!("no simulation for starting: {other:?}"),
    }
}

fn never_listened(owner: &str, when: &str) -> Example {
    match (owner, when) {
        (
            "OpenClaw",
            "exit code 78, and it is configured to listen beyond loopback without a token or password",
        ) => example(
            "and no token or password: gateway.bind \"loopback\"",
            ended(GATEWAY, REFUSED, Some("{gateway:{bind:'lan'}}")),
        ),
        ("OpenClaw", "exit code 78, and a token or password is configured") => {
            let ended = ended_in_unit("openclaw-gateway.service", Some(1000), Some(&file("lan", "")));
            example("`journalctl --user -u openclaw-gateway.service -n 20` of user 1000 shows which", ended)
        }
        ("OpenClaw", "exit code 78") => example("(often: non-loopback bind", ended(GATEWAY, REFUSED, None)),
        ("PostgreSQL", _) => {
            let started = simulation().ready().start_as("postgres", 655, Some(ProductRef::new(&PostgreSql)));
            let started =
                started.configure_as(ProductRef::new(&PostgreSql), 655, Some((&postgres_file(""), OLDER)));
            let ended = started.after_millis(4_000).exit(655, FAILED).after_millis(100);
            example("the FATAL line", ended.refuse(&connect(LOCALHOST)))
        }
        ("any", "ended by SIGKILL") => example("a supervisor's timeout", ended(GATEWAY, KILLED, None)),
        ("any", "") => example("see the log for the end of", ended(GATEWAY, FAILED, None)),
        other => panic!("no simulation for never-listened: {other:?}"),
    }
}

fn other_netns(owner: &str, when: &str) -> Example {
    let pod = |name, at: &str, comm: &str, pid| {
        let listener = server(at).by(comm, pid).in_netns(POD);
        simulation().netns(namespace(POD, name, &["10.0.0.7"], &[])).present(&listener).ready()
    };
    // Root's, whose process cannot be read.
    let unread = || {
        let mut listener = server("0.0.0.0:18789").in_netns(POD);
        listener.listener.process =
            tracer::model::process::Process { uid: Some(0), ..tracer::model::process::Process::default() };
        simulation().netns(namespace(POD, None, &["10.0.0.7"], &[])).present(&listener).ready()
    };
    let from_inside = |at: &str| {
        let proxy = server(at).by("docker-proxy", 2210);
        container().present(&proxy).ready().refuse(&connect(LOCALHOST).in_netns(CONTAINER))
    };
    match (owner, when) {
        ("any", STRANGE) => {
            let stranger = server("0.0.0.0:18789").by("nginx", 7).of_user(1001).in_netns(POD);
            let up = simulation().netns(namespace(POD, Some("pod"), &["10.0.0.7"], &[])).present(&stranger);
            example("if it is, publish or forward the port", up.ready().refuse(&connect(LOCALHOST)))
        }
        ("docker-proxy", "it listens beyond loopback") => {
            example("host.docker.internal:18789", from_inside("0.0.0.0:18789"))
        }
        ("docker-proxy", _) => example("published for the host alone", from_inside(LOCALHOST)),
        ("any", "it listens on its own loopback") => example(
            "nsenter -t 7 -n COMMAND; it listens on its own loopback only",
            pod(None, LOCALHOST, "nginx", 7).refuse(&connect(LOCALHOST)),
        ),
        ("any", "it can be entered") => example(
            "ip netns exec pod COMMAND; or, from the client",
            pod(Some("pod"), "0.0.0.0:18789", "nginx", 7).refuse(&connect(LOCALHOST)),
        ),
        ("any", "") => {
            example("to reach it from the client's namespace, publish", unread().refuse(&connect(LOCALHOST)))
        }
        other => panic!("no simulation for other-netns: {other:?}"),
    }
}

fn other_port(when: &str) -> Example {
    let elsewhere = |is_configured: bool| {
        let mut started = simulation().ready().start(GATEWAY, 4242).after_millis(1_000);
        if is_configured {
            started = started.configure(4242, &["--port", "19001"], None);
        }
        let elsewhere = started.elsewhere(&[&server("127.0.0.1:19001")]).after_millis(5_100);
        elsewhere.refuse(&connect(LOCALHOST))
    };
    let published = |uid: u32| {
        let proxy = server("0.0.0.0:3200").by("docker-proxy", 2210).of_user(uid);
        let inside = server("0.0.0.0:18789").by("nginx", 31).in_netns(CONTAINER);
        let target = Target::Address("172.17.0.2".parse().unwrap());
        container().present(&inside).ready().forwards(&proxy, target).refuse(&connect(LOCALHOST))
    };
    match when {
        STRANGE => {
            let listener = server(TAILNET).by("nginx", 7).of_user(1001);
            let open =
                simulation().ready().open(&listener).after_millis(4_000).close(&listener, Close::Owner);
            let settled = server("127.0.0.1:19001").by("nginx", 7).of_user(1001);
            let elsewhere = open.after_millis(1_000).elsewhere(&[&settled]);
            example("if it is, give it port 18789", elsewhere.refuse(&connect(LOCALHOST)))
        }
        "a forwarder publishes it" => example("published here as 3200", published(0)),
        "a forwarder of another user publishes it" => {
            example("see whether the server runs and where it listens", published(65_534))
        }
        "it is configured for that port" => {
            example("its gateway.port by its arguments is 19001", elsewhere(true))
        }
        "" => example("or start the server with port 18789", elsewhere(false)),
        other => panic!("no simulation for other-port: {other}"),
    }
}

fn is_proposed(words: &str, hint: &str) -> bool {
    match words.strip_prefix("...") {
        Some(last) => hint.ends_with(last),
        None => hint.contains(words),
    }
}

#[test]
fn each_row_is_proposed_where_it_fits() {
    for row in rows() {
        let (cause, owner, when) = (Cause::from(row.cause()), row.owner(), row.when());
        let Example { words, verdict } = propose(cause, owner, when);
        assert_eq!(verdict.cause, cause, "{owner} {when}: {verdict:?}");
        let hint = verdict.hint.as_deref().unwrap_or_default();
        assert!(is_proposed(words, hint), "{} {owner} {when}: {hint}", cause.name());
    }
}

#[test]
fn each_words_are_one_rows_own() {
    let proposed: Vec<(AnyRow, Example)> =
        rows().map(|row| (row, propose(row.cause().into(), row.owner(), row.when()))).collect();
    for (row, Example { words, .. }) in &proposed {
        let also = proposed.iter().filter(|(other, one)| {
            other.cause() == row.cause()
                && one.verdict.hint.as_deref().is_some_and(|hint| is_proposed(words, hint))
        });
        let also: Vec<&str> = also.map(|(other, _)| other.when()).collect();
        assert_eq!(also.len(), 1, "{} {} `{words}`: {also:?}", Cause::from(row.cause()).name(), row.owner());
    }
}

/// The text of docs/hints.md.
fn page() -> String {
    let mut page = HEAD.to_owned();
    page.push_str("\n## Owners\n\n| owner | recognised by |\n|---|---|\n");
    for (name, by) in kinds() {
        let _ = writeln!(page, "| {name} | {by} |");
    }
    for cause in causes::in_order() {
        let _ = write!(page, "\n## {}\n\n| owner | when | hint |\n|---|---|---|\n", cause.name());
        for row in rows().filter(|row| Cause::from(row.cause()) == cause) {
            let Example { verdict, .. } = propose(cause, row.owner(), row.when());
            let hint = verdict.hint.unwrap_or_default().replace('|', "\\|");
            let _ = writeln!(page, "| {} | {} | {hint} |", row.owner(), row.when());
        }
    }
    page
}

const HEAD: &str = "# Hints

What tracer proposes, by cause and by who owns the socket: the first row of a cause that fits. The hints are those of
simulations in tests/suites/hints.rs, which stands for addresses and names; this page is made from them and from the tables in
tracer/src/output/hints and tracer/src/products by `UPDATE_DOCS=1 cargo test -p tests --test hints`.
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
        "docs/hints.md is not current: UPDATE_DOCS=1 cargo test -p tests --test hints"
    );
}

fn hint(simulation: Simulation) -> String {
    simulation.verdict().hint.unwrap_or_default()
}

/// What a hint proposes to open, and what it adds about who may then connect.
#[test]
fn configured_access_decides_the_warning_about_access() {
    let auth = |auth: &str| format!("{{gateway:{{bind:'tailnet',auth:{auth}}}}}");
    let token = format!("{{mode:'token',token:'{TOKEN}'}}");
    let password = format!("{{mode:'password',password:'{TOKEN}'}}");
    for (settings, expected) in [
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
            let hint = hint(gateway(TAILNET, to, &[], &settings, OLDER));
            assert!(hint.contains(expected), "{settings} {to}: {hint}");
        }
    }
    // A product whose settings can be read shows it; for others the hint asks the user to check.
    let nginx = hint(up(("nginx", 7), TAILNET, LAN));
    assert!(
        nginx.ends_with("let the server listen on 192.168.50.2 too, and keep its authentication on"),
        "{nginx}"
    );
    let here = hint(up(("nginx", 7), TAILNET, LOCALHOST));
    assert!(here.ends_with("let the server listen on 127.0.0.1 too"), "{here}");
}

/// Every hint that opens the server to other hosts names who may then connect.
#[test]
fn opening_access_is_proposed_only_with_a_warning() {
    let owners = [
        "openclaw-gatewa",
        "postgres",
        "docker-proxy",
        "conmon",
        "tailscaled",
        "ssh",
        "sshd-session",
        "kubectl",
        "systemd",
        "nginx",
    ];
    let sockets = [LOCALHOST, LOCALHOST_V6, LAN, TAILNET, "0.0.0.0:18789", "[::]:18789"];
    let mut opened = 0;
    for owner in owners {
        for at in sockets {
            for to in sockets.into_iter().take(4).chain(["[2001:db8::2]:18789"]) {
                let hint = hint(up((owner, 7), at, to));
                let proposes = [
                    "listen on",
                    "\"lan\"",
                    "\"serve\"",
                    "ListenStream",
                    "-L 1",
                    "-R 1",
                    "-p 1",
                    "listen_addresses",
                ];
                let is_outside = !to.starts_with("127.") && !to.starts_with("[::1]");
                let is_open = proposes.iter().any(|words| hint.contains(words)) && is_outside
                    || hint.contains("\"lan\"");
                if is_open && !hint.contains("OpenClaw listens on no IPv6") {
                    opened += 1;
                    let words = ["authentication", "gateway.auth", "pg_hba.conf"];
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

/// Of two addresses the one on loopback is proposed to a client of the same host, whichever number is the lower.
#[test]
fn loopback_is_proposed_before_another_address() {
    for (other, to) in [(TAILNET, LAN), (LAN, TAILNET)] {
        let both = simulation().present(&server(other)).present(&server(LOCALHOST)).ready();
        let hint = hint(both.refuse(&connect(to)));
        assert!(hint.starts_with("on this host use 127.0.0.1:18789; for "), "{other} {to}: {hint}");
    }
}

/// A unit stands in a hint only where the process is in it, and with its own manager.
#[test]
fn the_log_of_a_refused_configuration_is_where_its_process_ran() {
    let without = hint(ended(GATEWAY, REFUSED, None));
    assert!(without.contains("its log shows which") && !without.contains("unit"), "{without}");
    let system = hint(ended_in_unit("openclaw-gateway-work.service", None, None));
    assert!(system.contains("`journalctl -u openclaw-gateway-work.service -n 20` shows which"), "{system}");
    assert!(system.contains("the systemd unit that OpenClaw installs is not restarted"), "{system}");
    let other = hint(ended_in_unit("assistant.service", None, None));
    assert!(other.contains("-u assistant.service -n") && !other.contains("restarted"), "{other}");
    let open = hint(ended_in_unit("openclaw-gateway.service", None, Some("{gateway:{bind:'lan'}}")));
    assert!(open.contains("Its settings are gateway.bind \"lan\" and no token or password"), "{open}");
}

/// A hint proposes to change the source that wins over the file.
#[test]
fn a_setting_is_to_be_changed_where_it_is_configured() {
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
    let either = "is not known";
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
fn a_configured_value_is_quoted_as_it_is_in_the_file() {
    let custom = "{gateway:{bind:'custom',customBindHost:'192.168.50.2'}}";
    let hint = hint(gateway(LOCALHOST, TAILNET, &[], custom, OLDER));
    assert!(!hint.contains("as it is"), "{hint}");
}

/// Who listens on loopback of both families is reached by the one that the client speaks.
#[test]
fn the_clients_own_family_is_proposed() {
    let both = simulation().present(&server(LOCALHOST_V6)).present(&server(LOCALHOST)).ready();
    let hint = hint(both.refuse(&connect(LAN)));
    assert!(hint.contains("on this host use 127.0.0.1:18789"), "{hint}");
}

#[test]
fn ending_the_first_process_is_never_proposed() {
    for holder in ["init", "systemd"] {
        let hint = hint(in_use((holder, 1), LAN, "0.0.0.0:18789"));
        assert!(!hint.contains("kill"), "{holder}: {hint}");
    }
}

/// A server that no rule names may be starting, or may listen elsewhere: neither is stated, and it is not to be started.
#[test]
fn where_no_server_is_known_no_hint_states_that_it_is_elsewhere() {
    let absent = || simulation().netns(namespace(POD, Some("blue"), &["10.0.0.7"], &[])).ready();
    for client in [connect(LOCALHOST), connect(LOCALHOST).in_netns(POD)] {
        let hint = hint(absent().refuse(&client));
        assert!(!hint.starts_with("start") && !hint.contains("another port"), "{hint}");
    }
    // Where the destination is, for every client.
    for client in [connect(LOCALHOST).in_netns(POD), connect("10.0.0.7:18789")] {
        let inside = hint(absent().refuse(&client));
        assert!(inside.contains("(ss -ltnp; inside network namespace blue)"), "{inside}");
    }
}

/// The user checks another user's process before using it: its command, its path and its namespace are not
/// named.
#[test]
fn no_client_is_sent_to_a_process_of_another_user() {
    let client = || connect(LOCALHOST).of_user(1001);
    let pod = || simulation().netns(namespace(POD, Some("pod"), &["10.0.0.7"], &[]));
    let inside = |at: &str| pod().present(&server(at).by("nginx", 7).in_netns(POD)).ready();
    let unix = simulation().ready().start_as("php-fpm", 7, None).local(7, "/run/php/php-fpm.sock");
    let settled = simulation().ready().start(GATEWAY, 7);
    let settled = settled.elsewhere(&[&server("127.0.0.1:19001").by(GATEWAY, 7)]).after_millis(5_100);
    for (log, cause, words) in [
        (inside(LOCALHOST), OtherNetns, ["nsenter", "ip netns"]),
        (inside("0.0.0.0:18789"), OtherNetns, ["nsenter", "ip netns"]),
        (simulation().ready().bind(&server(LOCALHOST), None), BoundNotListening, ["strace", "starting"]),
        (unix.after_millis(5_100), NotOnTcp, ["php-fpm.sock", "use "]),
        (settled, OtherPort, ["19001", "use "]),
    ] {
        let verdict = log.after_millis(100).refuse(&client()).verdict();
        assert_eq!(verdict.cause, cause, "{verdict:?}");
        let hint = verdict.hint.unwrap_or_default();
        assert!(hint.contains("belongs to user 1000, and nothing but its"), "{cause:?}: {hint}");
        assert!(!words.iter().any(|word| hint.contains(word)), "{cause:?}: {hint}");
    }
}

/// A listener whose owner cannot be read is not what is left of a connection.
#[test]
fn an_unknown_holder_is_not_reported_as_no_holder() {
    let unknown = || tracer::model::process::Process::default();
    let mut unread = server(LAN);
    unread.listener.process = tracer::model::process::Process { uid: Some(1000), ..unknown() };
    let asked = |simulation: Simulation| simulation.bind(&server("0.0.0.0:18789"), Some(Errno::EADDRINUSE));
    let listening = asked(simulation().present(&unread).ready()).after_millis(400);
    let connected = asked(simulation().ready()).held("127.0.0.1", TcpState::Established, unknown());
    for held in [listening, connected.after_millis(400)] {
        let verdict = held.refuse(&connect(LOCALHOST)).verdict();
        let (summary, hint) = (verdict.summary, verdict.hint.unwrap_or_default());
        assert!(hint.starts_with("see who holds it"), "{summary}: {hint}");
        assert!(!summary.contains("without an owner"), "{summary}");
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

/// A process that asked for a port, and has ended.
fn gave_up(at: &str, errno: Errno) -> Simulation {
    let asked = simulation().ready().bind(&server(at).by("haproxy", 31), Some(errno)).after_millis(20);
    asked.exit(31, FAILED).after_millis(400)
}

/// Words that only a process that is running can be named by.
fn names(hint: &str, pid: u32) -> bool {
    hint.split(|letter: char| !letter.is_ascii_digit()).any(|number| number == pid.to_string())
}

/// A process that has ended can be started again, and not restarted, ended or examined.
#[test]
fn no_hint_names_a_process_that_has_ended() {
    let host = |simulation: Simulation, addr: &str| {
        let addr = addr.parse().unwrap();
        let route = tracer::model::namespace::LocalRoute { addr, prefix_len: 32, device: 2, table: 255 };
        simulation.host(|host| host.local.push(route)).scan_again().after_millis(100)
    };
    let haproxy = || server(LOCALHOST).by("haproxy", 31);
    let stopped = |how| simulation().ready().open(&haproxy()).after_millis(4_000).close(&haproxy(), how);
    let in_unit = || server("10.9.0.7:18789").by("haproxy", 31).in_unit("haproxy.service");
    let unit = simulation().ready().bind(&in_unit(), Some(Errno::EADDRNOTAVAIL)).after_millis(20);
    let strange = server(LOCALHOST).by("haproxy", 31).of_user(1001);
    let strange = simulation().ready().bind(&strange, Some(Errno::EADDRNOTAVAIL)).exit(31, FAILED);
    let holder = server("0.0.0.0:18789").by("haproxy", 31);
    let orphan = simulation().ready().open(&holder).after_millis(1_000).exit(31, FAILED);
    let orphan = orphan.bind(&server(LOCALHOST).by(GATEWAY, 70), Some(Errno::EADDRINUSE));
    for (what, log, expected) in [
        (
            "the address has come",
            host(gave_up("10.9.0.7:18789", Errno::EADDRNOTAVAIL), "10.9.0.7"),
            "start haproxy",
        ),
        ("another error", gave_up(LOCALHOST, Errno::ENOBUFS), "the log of haproxy"),
        ("its listener closed", stopped(Close::End(FAILED)).exit(31, FAILED), "start the server again"),
        (
            "it never listened",
            simulation().ready().start("haproxy", 31).exit(31, FAILED),
            "the end of haproxy",
        ),
        ("its unit is known", host(unit.exit(31, FAILED), "10.9.0.7"), "start haproxy.service again"),
        ("of another user", strange, "belonged to user 1001"),
        ("it held the port", orphan, ""),
    ] {
        let hint = hint(log.after_millis(300).refuse(&connect(LOCALHOST)));
        assert!(!names(&hint, 31), "{what}: {hint}");
        assert!(hint.contains(expected), "{what}: {hint}");
        assert!(!hint.contains("restart haproxy") && !hint.contains("kill "), "{what}: {hint}");
    }
    // One that is running is named.
    let asked = simulation().ready().bind(&haproxy(), Some(Errno::ENOBUFS)).after_millis(300);
    assert!(hint(asked.refuse(&connect(LOCALHOST))).contains("haproxy[31]"));
    // Two that took turns: both have ended.
    let python = |pid| server(LOCALHOST).by("python3", pid);
    let unit = |pid| server(LOCALHOST).by("haproxy", pid).in_unit("haproxy.service");
    let mut turns = simulation().ready();
    for (pid, server) in [(41, python(41)), (42, unit(42)), (43, python(43)), (44, unit(44))] {
        turns = turns.open(&server).after_millis(4_000).close(&server, Close::End(FAILED)).exit(pid, FAILED);
        turns = turns.after_millis(900);
    }
    let hint = hint(turns.refuse(&connect(LOCALHOST)));
    assert!(hint.contains("haproxy.service") && hint.contains("python3"), "{hint}");
    assert!((41..45).all(|pid| !names(&hint, pid)), "{hint}");
}

/// The kernel gave the port to a connection that goes out, and gives it to the next one unless it is reserved.
#[test]
fn a_port_that_a_connection_of_its_own_has_is_to_be_reserved() {
    let asked = |errno| simulation().ready().bind(&server(LOCALHOST).by("nginx", 7), Some(errno));
    for (state, client) in
        [(TcpState::Established, "curl"), (TcpState::SynSent, "node"), (TcpState::CloseWait, "python3")]
    {
        let held = asked(Errno::EADDRINUSE).held("127.0.0.1", state, process(client, 77));
        let hint = hint(held.after_millis(400).refuse(&connect(LOCALHOST)));
        assert!(hint.contains(&format!("{client}[77]")), "{hint}");
        assert!(hint.contains("add 18789 to net.ipv4.ip_local_reserved_ports"), "{hint}");
        assert!(!hint.contains("give one of the two another port"), "{hint}");
    }
    // What was accepted from a listener that has closed since is none that goes out.
    let former = server("127.0.0.1:18789").by("relay", 77);
    let closed = simulation().ready().open(&former).after_millis(1_000).close(&former, Close::Owner);
    let asked = closed.bind(&server(LOCALHOST).by("nginx", 7), Some(Errno::EADDRINUSE));
    let held = asked.held("127.0.0.1", TcpState::Established, process("relay", 77));
    let accepted = hint(held.after_millis(400).refuse(&connect(LOCALHOST)));
    assert!(!accepted.contains("reserved_ports"), "{accepted}");
    // Nor what a worker of the server itself goes on with.
    let asked = simulation().ready().bind(&server(LOCALHOST).by("nginx", 7), Some(Errno::EADDRINUSE));
    let held = asked.held("127.0.0.1", TcpState::Established, process("nginx", 77));
    let own = hint(held.after_millis(400).refuse(&connect(LOCALHOST)));
    assert!(!own.contains("reserved_ports"), "{own}");
}

/// An address can come long after its interface is up: that of a VIP, and an IPv6 address until no other host has it.
#[test]
fn an_address_that_comes_late_can_be_bound_before() {
    let failed = |at: &str| {
        let asked = simulation().ready().bind(&server(at).by("nginx", 7), Some(Errno::EADDRNOTAVAIL));
        hint(asked.after_millis(400).refuse(&connect(LOCALHOST)))
    };
    // It is there now.
    let vip = failed("192.168.50.2:18789");
    assert!(vip.contains("192.168.50.2 is there now: restart nginx[7]"), "{vip}");
    assert!(vip.contains("net.ipv4.ip_nonlocal_bind") && vip.contains("FreeBind=yes"), "{vip}");
    let postgres = server("192.168.50.2:18789").by("postgres", 41);
    let postgres = simulation().ready().bind(&postgres, Some(Errno::EADDRNOTAVAIL)).after_millis(400);
    let postgres = hint(postgres.refuse(&connect(LOCALHOST)));
    assert!(postgres.contains("192.168.50.2 is there now: restart PostgreSQL"), "{postgres}");
    // It is not.
    let absent = failed("192.168.50.9:18789");
    assert!(absent.contains("net.ipv4.ip_nonlocal_bind") && absent.contains("VRRP"), "{absent}");
    // Duplicate address detection takes a second or more.
    for tentative in ["[2001:db8::2]:18789", "[2001:db8::9]:18789"] {
        let hint = failed(tentative);
        assert!(hint.contains("net.ipv6.ip_nonlocal_bind") && hint.contains("duplicate address"), "{hint}");
        assert!(!hint.contains("net.ipv4.ip_nonlocal_bind"), "{hint}");
    }
    // A host without IPv6 has no interface to bring up.
    let off = simulation().host(|host| host.local.retain(|route| route.addr.is_ipv4())).ready();
    let off = off.bind(&server(LOCALHOST_V6).by("nginx", 7), Some(Errno::EADDRNOTAVAIL)).after_millis(400);
    let off = hint(off.refuse(&connect(LOCALHOST_V6)));
    assert!(off.contains("disable_ipv6") && !off.contains("bring up the interface"), "{off}");
}

/// A resolver has 127.0.0.53:53, and another one wants every address.
#[test]
fn a_server_for_every_address_can_take_the_one_that_is_free() {
    let in_use = |holder: (&str, u32), held: &str, asked: &str, to: &str| {
        let present = simulation().present(&server(held).by(holder.0, holder.1)).ready();
        let asked = present.bind(&server(asked).by("dnsmasq", 70), Some(Errno::EADDRINUSE));
        hint(asked.after_millis(400).refuse(&connect(to)))
    };
    let any = "0.0.0.0:18789";
    for (holder, held, asked, to, free) in [
        (("systemd-resolve", 53), "127.0.0.53:18789", any, LAN, "192.168.50.2"),
        (("unbound", 54), LOCALHOST_V6, "[::]:18789", "[2001:db8::2]:18789", "[2001:db8::2]"),
        (("docker-proxy", 55), LAN, any, LOCALHOST, "127.0.0.1"),
        (("ssh", 56), "127.0.0.53:18789", "[::]:18789", LAN, "192.168.50.2"),
    ] {
        let hint = in_use(holder, held, asked, to);
        let expected = format!("let the server listen on {free} alone, which no listener has");
        assert!(hint.starts_with(&expected), "{held} {asked} {to}: {hint}");
    }
    // The address that clients ask for is not free, or is all that the server asked for.
    let both = simulation().present(&server("127.0.0.53:18789").by("unbound", 54)).ready();
    let both = both.held("192.168.50.2", TcpState::Closed, process("relay", 77));
    let both = both.bind(&server(any).by("dnsmasq", 70), Some(Errno::EADDRINUSE)).after_millis(400);
    let both = both.held("192.168.50.2", TcpState::Closed, process("relay", 77));
    let taken = hint(both.refuse(&connect(LAN)));
    assert!(!taken.contains("alone"), "{taken}");
    let one = in_use(("unbound", 54), any, LAN, LOCALHOST_V6);
    assert!(!one.contains("alone"), "{one}");
}

/// A server that asks its clients for nothing is open to all who reach it.
#[test]
fn a_server_without_authentication_is_opened_behind_a_firewall_only() {
    for (program, what) in [
        ("memcached", "SASL"),
        ("redis-server", "requirepass"),
        ("mongod", "security.authorization"),
        ("etcd", "client-cert-auth"),
    ] {
        for (at, to) in
            [(LOCALHOST, LAN), (LOCALHOST, TAILNET), (TAILNET, LAN), ("0.0.0.0:18789", "[2001:db8::2]:18789")]
        {
            let hint = hint(up((program, 7), at, to));
            assert!(hint.contains("firewall") && hint.contains(what), "{program} {at} {to}: {hint}");
            let before = hint.find("listen on").unwrap_or_default();
            assert!(hint.find("use ").is_some_and(|now| now < before), "the least exposing first: {hint}");
        }
        let here = hint(up((program, 7), TAILNET, LOCALHOST));
        assert!(!here.contains("firewall"), "loopback exposes nothing: {here}");
    }
    // The same of what is on no TCP port, bound to an interface, or another user's.
    let unix = simulation().ready().start_as("php-fpm", 7, None).local(7, "/run/php/php-fpm.sock");
    let unix = hint(unix.after_millis(5_100).refuse(&connect(LAN)));
    assert!(unix.contains("192.168.50.2:18789 too") && unix.contains("authentication"), "{unix}");
    let device = simulation().present(&server("0.0.0.0:18789").by("memcached", 7).bound_to(3)).ready();
    let device = hint(device.refuse(&connect(LAN)));
    assert!(device.contains("SO_BINDTODEVICE") && device.contains("firewall"), "{device}");
    let strange = simulation().present(&server(TAILNET).by("nginx", 7).of_user(1001)).ready();
    let strange = hint(strange.refuse(&connect(LAN)));
    assert!(
        strange.contains("listen on 192.168.50.2 too") && strange.contains("authentication"),
        "{strange}"
    );
}

/// Its arguments show that it takes one connection, and closes its listener.
#[test]
fn a_server_for_one_connection_is_named_as_such() {
    let ended = |line: &str| hint(for_one_connection(&line.split(' ').collect::<Vec<_>>()));
    for line in [
        "socat TCP-LISTEN:18789,reuseaddr TCP:127.0.0.1:80",
        "socat TCP:127.0.0.1:80 tcp4-l:18789",
        "socat -d -d OPENSSL-LISTEN:18789,cert=a.pem EXEC:/bin/cat",
    ] {
        let hint = ended(line);
        assert!(hint.contains("`fork`") && hint.contains("one connection"), "{line}: {hint}");
    }
    for line in ["nc -l 18789", "nc.openbsd -vl 127.0.0.1 18789", "ncat --listen 18789"] {
        let hint = ended(line);
        assert!(hint.contains("`-k`") && hint.contains("one connection"), "{line}: {hint}");
    }
    for line in [
        "socat TCP-LISTEN:18789,reuseaddr,fork TCP:127.0.0.1:80",
        "socat TCP-LISTEN:18789,FORK=1 STDIO",
        "nc -lk 18789",
        "ncat -l --keep-open 18789",
        "nc.traditional -l -p 18789",
        "python3 -c once.py",
    ] {
        let hint = ended(line);
        assert!(!hint.contains("`fork`") && !hint.contains("`-k`"), "{line}: {hint}");
    }
}
