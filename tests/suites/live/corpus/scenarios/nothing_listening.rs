//! No known cause explains it: nothing listens.

use super::words::*;

pub const GROUP: Group = Group { cause: Cause::NothingListening, scenarios: SCENARIOS };

const SCENARIOS: &[Scenario] = &[
    scenario(
        "it_was_never_started",
        "The server was never started; clients ask localhost, the LAN address, and any loopback address.",
        &[
            Trace,
            Refused(
                refused("curl", Blocking, &["127.0.0.1", "10.77.0.1", "127.8.9.10"], NothingListening)
                    .summary(&["nothing listens on port {port} in any network namespace of this host"])
                    .hints(&["see whether the server runs and where it listens (ss -ltnp"]),
            ),
            Refused(refused("java", Nonblocking, &[MAPPED], NothingListening)),
            Refused(refused("any", Blocking, &["0.0.0.0"], NothingListening)),
        ],
    ),
    scenario(
        "it_was_never_started_ipv6",
        "The server was never started; clients ask by IPv6, localhost and the LAN address.",
        &[
            Trace,
            Refused(refused("node", Nonblocking, &["[::1]", "[fd77::1]"], NothingListening)),
            Refused(refused("any", Blocking, &["[::]"], NothingListening)),
        ],
    ),
    scenario(
        "multipath_and_threads",
        "Clients of other kinds find no server: multipath TCP, a thread, a socket bound to an interface.",
        &[
            Trace,
            Refused(refused("go", Kind::Multipath, &["127.0.0.1"], NothingListening)),
            Refused(refused("app", Thread, &["127.0.0.1"], NothingListening)),
            Refused(refused("ping", OnDevice("lo"), &["127.0.0.1", "[::1]"], NothingListening)),
            Refused(refused("scan", From("127.0.0.9:any"), &["127.0.0.1"], NothingListening)),
        ],
    ),
    scenario(
        "a_user_of_no_rights",
        "A client that is not root is reported like any other.",
        &[Trace, Refused(refused("curl", Nonblocking, &["127.0.0.1"], NothingListening))],
    )
    .processes(&[process("curl").uid(65_534)]),
    scenario(
        "it_comes_up",
        "Three clients are refused before the server is there.",
        &[
            Trace,
            Refused(refused("curl", Blocking, &["127.0.0.1"], NothingListening)),
            Refused(refused("node", Nonblocking, &["127.0.0.1"], NothingListening)),
            Refused(refused("caddy", Blocking, &["127.0.0.1"], NothingListening)),
            Listen("gateway", "127.0.0.1", &[]),
            Recovered { to: "127.0.0.1", by: "gateway", refusals: 3, processes: 3 },
            Answered("curl", Blocking, "127.0.0.1"),
        ],
    ),
    scenario(
        "it_comes_up_on_v6_loopback",
        "Two clients ask `::1` before the server is there.",
        &[
            Trace,
            Refused(refused("curl", Blocking, &["[::1]"], NothingListening)),
            Refused(refused("node", Nonblocking, &["[::1]"], NothingListening)),
            Listen("gateway", "[::1]", &[]),
            Recovered { to: "[::1]", by: "gateway", refusals: 2, processes: 2 },
            Answered("node", Nonblocking, "[::1]"),
        ],
    ),
    scenario(
        "it_comes_up_on_every_address",
        "A server on `::` ends the refusals of localhost and of the LAN address, each by itself.",
        &[
            Trace,
            Refused(refused("curl", Blocking, &["127.0.0.1", "10.77.0.1"], NothingListening)),
            Listen("gateway", "[::]", &[]),
            Recovered { to: "127.0.0.1", by: "gateway", refusals: 1, processes: 1 },
            Recovered { to: "10.77.0.1", by: "gateway", refusals: 1, processes: 1 },
            Answered("curl", Blocking, "127.0.0.1"),
            Answered("curl", Blocking, "10.77.0.1"),
        ],
    ),
    scenario(
        "each_destination_recovers_by_itself",
        "A server for IPv6 comes first, and one for IPv4 after it.",
        &[
            Trace,
            Refused(refused("curl", Blocking, &["127.0.0.1", "10.77.0.1"], NothingListening)),
            Refused(refused("node", Nonblocking, &["[::1]"], NothingListening)),
            Listen("first", "[::1]", &[]),
            Recovered { to: "[::1]", by: "first", refusals: 1, processes: 1 },
            Listen("second", "0.0.0.0", &[]),
            Recovered { to: "127.0.0.1", by: "second", refusals: 1, processes: 1 },
            Recovered { to: "10.77.0.1", by: "second", refusals: 1, processes: 1 },
        ],
    ),
    scenario(
        "two_loops_until_it_comes_up",
        "Two processes of one program ask in a loop: what was only counted counts for the recovery too.",
        &[
            Trace,
            Refused(refused("looper", Blocking, &["127.0.0.1"], NothingListening)),
            Again("looper", "127.0.0.1", 6),
            Again("second looper", "127.0.0.1", 7),
            Listen("gateway", "127.0.0.1", &[]),
            Repeated { who: "looper", to: "127.0.0.1", count: 13, processes: 2 },
            Recovered { to: "127.0.0.1", by: "gateway", refusals: 14, processes: 2 },
        ],
    )
    .processes(&[process("second looper").comm("looper")]),
    scenario(
        "loops_by_name_user_and_destination",
        "Four loops, of two names and two users, to two addresses: each has its own count.",
        &[
            Trace,
            Refused(refused("alpha", Blocking, &["127.0.0.1", "[::1]"], NothingListening)),
            Refused(refused("beta", Nonblocking, &["127.0.0.1", "[::1]"], NothingListening)),
            Refused(refused("alpha of nobody", Nonblocking, &["127.0.0.1"], NothingListening)),
            Again("alpha", "127.0.0.1", 3),
            Again("second alpha", "127.0.0.1", 4),
            Again("alpha", "[::1]", 1),
            Again("second alpha", "[::1]", 2),
            Again("beta", "127.0.0.1", 3),
            Again("beta", "[::1]", 1),
            Again("alpha of nobody", "127.0.0.1", 3),
            Repeated { who: "alpha", to: "127.0.0.1", count: 7, processes: 2 },
            Repeated { who: "alpha", to: "[::1]", count: 3, processes: 2 },
            Repeated { who: "beta", to: "127.0.0.1", count: 3, processes: 1 },
            Repeated { who: "beta", to: "[::1]", count: 1, processes: 1 },
            Repeated { who: "alpha of nobody", to: "127.0.0.1", count: 3, processes: 1 },
        ],
    )
    .processes(&[
        process("second alpha").comm("alpha"),
        process("alpha of nobody").comm("alpha").uid(65_534),
    ]),
    scenario(
        "a_loop_whose_cause_changes",
        "A loop finds no server, then one on another address, then none again: the new cause is a \
         new line.",
        &[
            Trace,
            Refused(refused("client", Blocking, &["127.0.0.1"], NothingListening)),
            Again("client", "127.0.0.1", 4),
            Repeated { who: "client", to: "127.0.0.1", count: 4, processes: 1 },
            Listen("gateway", "10.77.0.1", &[]),
            Refused(
                refused("client", Blocking, &["127.0.0.1"], WrongAddress).evaluates(&[("gateway", Address)]),
            ),
            Again("client", "127.0.0.1", 4),
            Repeated { who: "client", to: "127.0.0.1", count: 4, processes: 1 },
        ],
    ),
    scenario(
        "a_server_of_another_port_is_none",
        "A server is up on another port; nothing shows that it is the expected server.",
        &[
            Listen("other", "127.0.0.1:other", &[]),
            Trace,
            Refused(
                refused("curl", Blocking, &["127.0.0.1"], NothingListening)
                    .hints(&["see whether the server runs and where it listens (ss -ltnp"]),
            ),
        ],
    ),
    scenario(
        "a_probe_that_goes_by_the_gateways_name",
        "`openclaw gateway probe` has the gateway's name: a process that connects is a client.",
        &[
            Trace,
            Refused(refused("probe", Blocking, &["127.0.0.1"], NothingListening)),
            Refused(refused("curl", Nonblocking, &["127.0.0.1"], NothingListening)),
        ],
    )
    .processes(&[process("probe").comm("openclaw-gatewa").program("openclaw-gateway", &[])]),
    scenario(
        "a_probe_that_has_ended",
        "The gateway's probe ended before the next client asks: it is not a server that never listened.",
        &[
            Trace,
            Refused(refused("probe", Nonblocking, &["[::1]"], NothingListening)),
            Exit("probe", 1),
            Refused(refused("curl", Blocking, &["127.0.0.1"], NothingListening)),
        ],
    )
    .processes(&[process("probe").comm("openclaw-gatewa").program("openclaw-gateway", &[])]),
    scenario(
        "other_commands_of_the_same_program",
        "Processes of the same program run, none of them with the command that serves.",
        &[
            Start("prober"),
            Start("health"),
            Start("other"),
            Trace,
            Refused(refused("curl", Blocking, &["127.0.0.1"], NothingListening)),
        ],
    )
    .processes(&[
        process("prober").comm("node").program("node", &["dist/index.js", "gateway", "probe"]),
        process("health").comm("node").program("node", &["dist/index.js", "health"]),
        process("other").comm("node").program("node", &["server.js", "gateway"]),
    ]),
    scenario(
        "a_container_without_a_listener",
        "docker-proxy leads to a container in which nothing listens, and nowhere else either.",
        &[
            Namespace("container"),
            Join("container"),
            Trace,
            Refused(refused("docker-proxy", Nonblocking, &["10.x.y.2", "[fd00:p::2]"], NothingListening)),
        ],
    ),
];
