//! A listener is up, on another address than the client uses.

use super::words::*;

pub const GROUP: Group = Group { cause: Cause::WrongAddress, scenarios: SCENARIOS };

const SCENARIOS: &[Scenario] = &[
    scenario(
        "tailnet_only",
        "The gateway took the tailnet address alone; curl asks 127.0.0.1, a Node client `::1`.",
        &[
            Ip("host", TAILNET),
            Listen("openclaw-gatewa", "100.64.x.y", &[]),
            Trace,
            Refused(
                refused("curl", Blocking, &["127.0.0.1"], WrongAddress)
                    .evaluates(&[("openclaw-gatewa", Address)])
                    .summary(&[
                        "{openclaw-gatewa} is up, but on 100.64.x.y:{port} (tailnet) only",
                        "[::1], 10.77.0.1 and [fd77::1] are refused too",
                    ])
                    .hints(&["use http://100.64.x.y:{port}", "keep gateway.auth.token and a firewall"]),
            ),
            Refused(
                refused("node", Nonblocking, &["[::1]"], WrongAddress).evaluates(&[("openclaw-gatewa", Family)]),
            ),
            Answered("curl", Blocking, "100.64.x.y"),
        ],
    ),
    scenario(
        "the_file_has_lan_and_the_socket_is_tailnet",
        "A changed gateway.bind makes the gateway restart inside its process, and it takes the tailnet \
         address again.",
        &[
            Ip("host", TAILNET),
            Listen("openclaw-gatewa", "100.64.x.y", &[]),
            Trace,
            Close("openclaw-gatewa"),
            Listen("openclaw-gatewa", "100.64.x.y", &[]),
            Refused(
                refused("node", Nonblocking, &["127.0.0.1"], WrongAddress)
                    .evaluates(&[("openclaw-gatewa", Address)])
                    .summary(&["{openclaw-gatewa} is up, but on 100.64.x.y:{port} (tailnet) only"]),
            ),
        ],
    ),
    scenario(
        "lan_address_only",
        "The server listens on its LAN address; clients ask for every kind of localhost.",
        &[
            Listen("gateway", "10.77.0.1", &[]),
            Trace,
            Refused(
                refused("curl", Blocking, &["127.0.0.1"], WrongAddress)
                    .evaluates(&[("gateway", Address)])
                    .summary(&["{gateway} is up, but on 10.77.0.1:{port} only"])
                    .hints(&["now: use 10.77.0.1:{port}"]),
            ),
            Refused(refused("java", Nonblocking, &[MAPPED], WrongAddress).evaluates(&[("gateway", Address)])),
            Refused(refused("any", Blocking, &["0.0.0.0"], WrongAddress).evaluates(&[("gateway", Address)])),
            Refused(
                refused("node", Nonblocking, &["[::1]", "[fd77::1]"], WrongAddress)
                    .evaluates(&[("gateway", Family)]),
            ),
        ],
    )
    .in_both_orders(),
    scenario(
        "lan_v6_address_only",
        "The server listens on one IPv6 address; clients ask for localhost in both families.",
        &[
            Listen("gateway", "[fd77::1]", &[]),
            Trace,
            Refused(
                refused("node", Nonblocking, &["[::1]"], WrongAddress)
                    .evaluates(&[("gateway", Address)])
                    .summary(&["{gateway} is up, but on [fd77::1]:{port} only"]),
            ),
            Refused(refused("any", Blocking, &["[::]"], WrongAddress).evaluates(&[("gateway", Address)])),
            Refused(
                refused("curl", Nonblocking, &["127.0.0.1"], WrongAddress).evaluates(&[("gateway", Family)]),
            ),
            Answered("curl", Blocking, "[fd77::1]"),
        ],
    )
    .in_both_orders(),
    scenario(
        "lan_v6_address_for_v6_only",
        "The server has one IPv6 address and has asked for IPv6 only by itself; the client asks `::1`.",
        &[
            Listen("gateway", "[fd77::1]", &[Ipv6Only]),
            Trace,
            Refused(refused("curl", Blocking, &["[::1]"], WrongAddress).evaluates(&[("gateway", Address)])),
        ],
    )
    .in_both_orders(),
    scenario(
        "loopback_only_and_a_client_of_the_lan",
        "The server listens on 127.0.0.1; clients use the address that other hosts know.",
        &[
            Listen("gateway", "127.0.0.1", &[]),
            Trace,
            Refused(
                refused("curl", Blocking, &["10.77.0.1", "127.0.0.2"], WrongAddress)
                    .evaluates(&[("gateway", Address)])
                    .hints(&["on this host use 127.0.0.1:{port}", "keep its authentication on"]),
            ),
            Refused(
                refused("java", Nonblocking, &["[::ffff:10.77.0.1]"], WrongAddress)
                    .evaluates(&[("gateway", Address)]),
            ),
            Refused(
                refused("node", Nonblocking, &["[fd77::1]"], WrongAddress).evaluates(&[("gateway", Family)]),
            ),
        ],
    )
    .in_both_orders(),
    scenario(
        "v6_loopback_only_and_a_client_of_the_lan",
        "The server listens on `::1`; clients use the host's other addresses.",
        &[
            Listen("gateway", "[::1]", &[]),
            Trace,
            Refused(refused("curl", Blocking, &["[fd77::1]"], WrongAddress).evaluates(&[("gateway", Address)])),
            Refused(
                refused("node", Nonblocking, &["10.77.0.1"], WrongAddress).evaluates(&[("gateway", Family)]),
            ),
        ],
    )
    .in_both_orders(),
    scenario(
        "another_loopback_address",
        "The server took 127.0.0.2; a client's resolver gives it `::1`.",
        &[
            Listen("gateway", "127.0.0.2", &[]),
            Trace,
            Refused(refused("node", Nonblocking, &["[::1]"], WrongAddress).evaluates(&[("gateway", Family)])),
            Refused(
                refused("curl", From("127.0.0.5:any"), &["127.0.0.1"], WrongAddress)
                    .evaluates(&[("gateway", Address)]),
            ),
        ],
    )
    .in_both_orders(),
    scenario(
        "two_servers_elsewhere",
        "Two servers share the port on two addresses, and neither is localhost.",
        &[
            Listen("first", "10.77.0.1", &[]),
            Listen("second", "[fd77::1]", &[]),
            Trace,
            Refused(
                refused("curl", Blocking, &["127.0.0.1"], WrongAddress)
                    .evaluates(&[("second", Family), ("first", Address)])
                    .summary(&["servers are up, but elsewhere", "{first} on 10.77.0.1:{port}"]),
            ),
            Refused(
                refused("node", Thread, &["[::1]"], WrongAddress)
                    .evaluates(&[("first", Family), ("second", Address)]),
            ),
        ],
    )
    .in_both_orders(),
    scenario(
        "docker_proxy_and_a_gateway_on_its_own_loopback",
        "A container's gateway listens on the container's 127.0.0.1; docker-proxy is refused by the container's \
         address.",
        &[
            Namespace("container"),
            Join("container"),
            Listen("docker-proxy", "0.0.0.0", &[]),
            Listen("MainThread", "127.0.0.1", &[]),
            Trace,
            Refused(
                refused("docker-proxy", Nonblocking, &["10.x.y.2"], WrongAddress)
                    .evaluates(&[("MainThread", Address), ("docker-proxy", Netns)])
                    .summary(&[
                        "{MainThread} is up, but on 127.0.0.1:{port}",
                        "in network namespace {netns container} only",
                    ])
                    .hints(&[
                        "gateway.bind \"lan\" inside",
                        "set gateway.auth.token first",
                        "change nothing outside",
                    ]),
            ),
            Refused(
                refused("curl", Blocking, &["10.x.y.2"], WrongAddress)
                    .evaluates(&[("MainThread", Address), ("docker-proxy", Netns)]),
            ),
        ],
    )
    .processes(&[process("MainThread").program("node", &["dist/index.js", "gateway"]).inside("container")]),
    scenario(
        "a_container_by_its_v6_address",
        "A probe on the host asks a container by IPv6, where the container's server has IPv4 alone.",
        &[
            Namespace("container"),
            Join("container"),
            Trace,
            Listen("gateway", "127.0.0.1", &[]),
            Refused(
                refused("probe", Blocking, &["[fd00:p::2]"], WrongAddress).evaluates(&[("gateway", Family)]),
            ),
        ],
    )
    .processes(CONTAINED),
    scenario(
        "the_bridge_address_from_a_container",
        "A container asks the host by the bridge's address; the server on the host listens on loopback.",
        &[
            Namespace("container"),
            Join("container"),
            Listen("gateway", "127.0.0.1", &[]),
            Trace,
            Refused(
                refused("curl", Nonblocking, &["10.x.y.1"], WrongAddress).evaluates(&[("gateway", Address)]),
            ),
        ],
    )
    .processes(&[process("curl").inside("container")]),
    scenario(
        "a_link_local_address",
        "The server has a global IPv6 address; clients use the link-local one of the same interface.",
        &[
            Listen("gateway", "[fd77::1]", &[]),
            Trace,
            Refused(
                refused("curl", Blocking, &["[fe80::77%eth0]"], WrongAddress).evaluates(&[("gateway", Address)]),
            ),
            Refused(
                refused("node", Nonblocking, &["[fe80::77%eth0]"], WrongAddress)
                    .evaluates(&[("gateway", Address)]),
            ),
        ],
    ),
    scenario(
        "a_server_on_a_link_local_address",
        "The server is bound to a link-local address, and with it to its interface.",
        &[
            Trace,
            Listen("gateway", "[fe80::77%eth0]", &[]),
            Refused(refused("curl", Blocking, &["[::1]"], WrongAddress).evaluates(&[("gateway", Address)])),
            Answered("curl", Blocking, "[fe80::77%eth0]"),
        ],
    ),
    scenario(
        "an_address_that_came_later",
        "The network manager gave the host one more address, which the server does not have.",
        &[
            Listen("gateway", "127.0.0.1", &[]),
            Trace,
            Ip(
                "host",
                "addr add 10.78.0.1/24 dev eth0
                addr add fd78::1/64 dev eth0 nodad",
            ),
            Refused(
                refused("curl", Nonblocking, &["10.78.0.1"], WrongAddress).evaluates(&[("gateway", Address)]),
            ),
            Refused(refused("curl", Blocking, &["[fd78::1]"], WrongAddress).evaluates(&[("gateway", Family)])),
        ],
    ),
    scenario(
        "multipath_tcp",
        "Server and client are built with Go 1.24 or later, and so speak multipath TCP.",
        &[
            Listen("gateway", "10.77.0.1", &[Sockopt::Multipath]),
            Trace,
            Refused(
                refused("go", Kind::Multipath, &["127.0.0.1"], WrongAddress).evaluates(&[("gateway", Address)]),
            ),
            Answered("go", Kind::Multipath, "10.77.0.1"),
        ],
    )
    .in_both_orders(),
    scenario(
        "it_came_back_elsewhere",
        "The server on localhost closed, and its successor took the LAN address: that is the cause, not \
         the end.",
        &[
            Listen("gateway", "127.0.0.1", &[]),
            Trace,
            Close("gateway"),
            Listen("successor", "10.77.0.1", &[]),
            Refused(
                refused("curl", Blocking, &["127.0.0.1"], WrongAddress)
                    .evaluates(&[("gateway", Closed), ("successor", Address)])
                    .summary(&["{successor} is up"]),
            ),
        ],
    ),
    scenario(
        "one_here_and_one_in_a_container",
        "The host's own server is on its LAN address; one in a container, on 127.0.0.1, explains less.",
        &[
            Namespace("container"),
            Listen("gateway", "10.77.0.1", &[]),
            Listen("elsewhere", "127.0.0.1", &[]),
            Trace,
            Refused(
                refused("curl", Blocking, &["127.0.0.1"], WrongAddress)
                    .evaluates(&[("gateway", Address), ("elsewhere", Netns)]),
            ),
        ],
    )
    .processes(&[process("elsewhere").inside("container")]),
    scenario(
        "a_failed_bind_that_would_not_have_helped",
        "A second server could not get the address that the first one has; neither would be localhost.",
        &[
            Listen("holder", "10.77.0.1", &[]),
            Trace,
            BindFails("server", "10.77.0.1", Errno::ADDRINUSE),
            Refused(
                refused("curl", Blocking, &["127.0.0.1"], WrongAddress)
                    .evaluates(&[("holder", Address)])
                    .failed_binds(&[failed_bind("server", "10.77.0.1", "EADDRINUSE")
                        .held_by(&[Holder::Listener("holder", "10.77.0.1")])]),
            ),
        ],
    ),
    scenario(
        "a_listener_counts_more_than_a_bound_socket",
        "One process has bound 127.0.0.1 and does not listen; another listens on an address that is not \
         asked for.",
        &[
            Trace,
            Bind("server", "127.0.0.1", &[]),
            Listen("other", "[fd77::1]", &[]),
            Refused(refused("curl", Blocking, &["[::1]"], WrongAddress).evaluates(&[("other", Address)])),
        ],
    ),
    scenario(
        "a_socket_counts_more_than_a_name",
        "A process that calls itself the gateway does nothing; the server goes by another name.",
        &[
            Listen("server", "10.77.0.1", &[]),
            Start("openclaw-gatewa"),
            Trace,
            Refused(refused("curl", Blocking, &["127.0.0.1"], WrongAddress).evaluates(&[("server", Address)])),
        ],
    ),
    scenario(
        "a_second_server_on_the_right_address",
        "After one more server that does not help, one comes up where the client asks.",
        &[
            Listen("first", "10.77.0.1", &[]),
            Trace,
            Refused(refused("curl", Blocking, &["127.0.0.1"], WrongAddress).evaluates(&[("first", Address)])),
            Listen("other", "127.0.0.2", &[]),
            Listen("gateway", "127.0.0.1", &[]),
            Recovered { to: "127.0.0.1", by: "gateway", refusals: 1, processes: 1 },
            Answered("curl", Blocking, "127.0.0.1"),
        ],
    ),
    scenario(
        "a_second_server_on_the_right_v6_address",
        "After a refusal of `::1`, a second server comes up there, and the first goes on elsewhere.",
        &[
            Listen("first", "[fd77::1]", &[]),
            Trace,
            Refused(refused("node", Nonblocking, &["[::1]"], WrongAddress).evaluates(&[("first", Address)])),
            Listen("gateway", "[::1]", &[]),
            Recovered { to: "[::1]", by: "gateway", refusals: 1, processes: 1 },
            Answered("node", Nonblocking, "[::1]"),
        ],
    ),
    scenario(
        "health_checks_that_loop",
        "Two programs, two processes of each, ask the wrong address as fast as they can: a line a \
         program, and a count.",
        &[
            Listen("gateway", "10.77.0.1", &[]),
            Trace,
            Refused(refused("alpha", Blocking, &["127.0.0.1"], WrongAddress).evaluates(&[("gateway", Address)])),
            Refused(
                refused("beta", Nonblocking, &["127.0.0.1"], WrongAddress).evaluates(&[("gateway", Address)]),
            ),
            Again("alpha", "127.0.0.1", 200),
            Again("beta", "127.0.0.1", 150),
            Again("second alpha", "127.0.0.1", 100),
            Again("second beta", "127.0.0.1", 1),
            Repeated { who: "alpha", to: "127.0.0.1", count: 300, processes: 2 },
            Repeated { who: "beta", to: "127.0.0.1", count: 151, processes: 2 },
        ],
    )
    .processes(&[process("second alpha").comm("alpha"), process("second beta").comm("beta")]),
];
