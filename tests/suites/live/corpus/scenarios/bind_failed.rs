//! The server asked for the port, and did not get it.

use super::words::*;

pub const GROUP: Group = Group { cause: Cause::BindFailed, scenarios: SCENARIOS };

/// Only the kernel's own choice for a client is the server's port.
const EPHEMERAL: &str = "net/ipv4/ip_local_port_range";

const SCENARIOS: &[Scenario] = &[
    scenario(
        "a_second_instance_waits_for_nothing",
        "A second instance's listen() failed while the first was up, which has closed since: the second waits, and listens \
         nowhere.",
        &[
            Trace,
            Bind("gateway", "127.0.0.1", &[ReuseAddr]),
            Bind("second", "127.0.0.1", &[ReuseAddr]),
            ListenBound("gateway"),
            ListenFails("second", Errno::ADDRINUSE),
            Answered("curl", Blocking, "127.0.0.1"),
            Close("gateway"),
            Refused(
                refused("node", Nonblocking, &["127.0.0.1"], BindFailed)
                    .evaluates(&[("gateway", Closed)])
                    .failed_binds(&[failed_bind("second", "127.0.0.1", "EADDRINUSE")
                        .listen()
                        .held_by(&[Holder::Bound("second", "127.0.0.1")])]),
            ),
        ],
    ),
    scenario(
        "held_by_an_orphan",
        "A gateway that was not stopped holds the port on the tailnet address; its successor asks for \
         every address.",
        &[
            Ip("host", TAILNET),
            Listen("orphan", "100.64.x.y", &[]),
            Trace,
            BindFails("openclaw-gatewa", "0.0.0.0", Errno::ADDRINUSE),
            Refused(
                refused("curl", Blocking, &["127.0.0.1"], BindFailed)
                    .evaluates(&[("orphan", Address)])
                    .failed_binds(&[failed_bind("openclaw-gatewa", "0.0.0.0", "EADDRINUSE")
                        .held_by(&[Holder::Listener("orphan", "100.64.x.y")])])
                    .summary(&[
                        "{openclaw-gatewa} asked for 0.0.0.0:{port} and got EADDRINUSE",
                        "held by {orphan} on 100.64.x.y:{port}",
                    ])
                    .hints(&["{orphan} has the port: give one of the two another port"]),
            ),
        ],
    )
    .processes(&[process("orphan").comm("openclaw-gatewa")]),
    scenario(
        "held_by_a_listener",
        "Another server holds the LAN address; the server that clients expect asks for every IPv4 address.",
        &[
            Listen("holder", "10.77.0.1", &[]),
            Trace,
            BindFails("server", "0.0.0.0", Errno::ADDRINUSE),
            Refused(
                refused("curl", Blocking, &["127.0.0.1"], BindFailed)
                    .evaluates(&[("holder", Address)])
                    .failed_binds(&[failed_bind("server", "0.0.0.0", "EADDRINUSE")
                        .held_by(&[Holder::Listener("holder", "10.77.0.1")])])
                    .summary(&["{server}", "held by {holder} on 10.77.0.1:{port}"]),
            ),
            Refused(
                refused("node", Nonblocking, &["127.0.0.1"], BindFailed)
                    .evaluates(&[("holder", Address)])
                    .failed_binds(&[failed_bind("server", "0.0.0.0", "EADDRINUSE")
                        .held_by(&[Holder::Listener("holder", "10.77.0.1")])]),
            ),
        ],
    )
    .in_both_orders(),
    scenario(
        "held_by_a_v6_listener",
        "Another server holds one IPv6 address; the server that clients expect asks for `::`, and clients of \
         both families suffer.",
        &[
            Listen("holder", "[fd77::1]", &[]),
            Trace,
            BindFails("server", "[::]", Errno::ADDRINUSE),
            Refused(
                refused("node", Nonblocking, &["[::1]"], BindFailed)
                    .evaluates(&[("holder", Address)])
                    .failed_binds(&[failed_bind("server", "[::]", "EADDRINUSE")
                        .held_by(&[Holder::Listener("holder", "[fd77::1]")])])
                    .summary(&["{server} asked for [::]:{port} and got EADDRINUSE"]),
            ),
            Refused(
                refused("curl", Blocking, &["127.0.0.1"], BindFailed)
                    .evaluates(&[("holder", Family)])
                    .failed_binds(&[failed_bind("server", "[::]", "EADDRINUSE")
                        .held_by(&[Holder::Listener("holder", "[fd77::1]")])])
                    .summary(&["held by {holder} on [fd77::1]:{port}"]),
            ),
        ],
    ),
    scenario(
        "held_by_a_listener_of_the_other_family",
        "A server on one IPv4 address keeps another from `::`, which would take IPv4 too.",
        &[
            Listen("holder", "10.77.0.1", &[]),
            Trace,
            BindFails("server", "[::]", Errno::ADDRINUSE),
            Refused(
                refused("curl", Nonblocking, &["127.0.0.1"], BindFailed)
                    .evaluates(&[("holder", Address)])
                    .failed_binds(&[failed_bind("server", "[::]", "EADDRINUSE")
                        .held_by(&[Holder::Listener("holder", "10.77.0.1")])]),
            ),
        ],
    ),
    scenario(
        "held_by_time_wait",
        "A server without SO_REUSEADDR restarts right after it had ended a connection itself.",
        &[
            Listen("gateway", "127.0.0.1", &[]),
            Trace,
            TimeWait("gateway", "client", "127.0.0.1"),
            Close("gateway"),
            BindFails("restarted", "127.0.0.1", Errno::ADDRINUSE),
            Refused(
                refused("curl", Blocking, &["127.0.0.1"], BindFailed)
                    .evaluates(&[("gateway", Closed)])
                    .failed_binds(&[failed_bind("restarted", "127.0.0.1", "EADDRINUSE")
                        .held_by(&[Holder::TimeWait("127.0.0.1")])])
                    .summary(&["TIME-WAIT"])
                    .hints(&["until the old connection's TIME-WAIT is over", "SO_REUSEADDR"]),
            ),
        ],
    ),
    scenario(
        "held_by_time_wait_ipv6",
        "A server on `::1` without SO_REUSEADDR restarts right after it had ended a connection itself.",
        &[
            Listen("gateway", "[::1]", &[]),
            Trace,
            TimeWait("gateway", "client", "[::1]"),
            Close("gateway"),
            BindFails("restarted", "[::1]", Errno::ADDRINUSE),
            Refused(
                refused("node", Nonblocking, &["[::1]"], BindFailed)
                    .evaluates(&[("gateway", Closed)])
                    .failed_binds(&[
                        failed_bind("restarted", "[::1]", "EADDRINUSE").held_by(&[Holder::TimeWait("[::1]")])
                    ])
                    .summary(&["TIME-WAIT"]),
            ),
        ],
    ),
    scenario(
        "held_by_time_wait_on_the_lan",
        "A server on the LAN address restarts while one of its old connections is in TIME-WAIT.",
        &[
            Listen("gateway", "10.77.0.1", &[]),
            Trace,
            TimeWait("gateway", "client", "10.77.0.1"),
            Close("gateway"),
            BindFails("restarted", "10.77.0.1", Errno::ADDRINUSE),
            Refused(
                refused("curl", Blocking, &["10.77.0.1"], BindFailed)
                    .evaluates(&[("gateway", Closed)])
                    .failed_binds(&[failed_bind("restarted", "10.77.0.1", "EADDRINUSE")
                        .held_by(&[Holder::TimeWait("10.77.0.1")])])
                    .summary(&["TIME-WAIT"]),
            ),
        ],
    ),
    scenario(
        "held_by_a_client",
        "The kernel gave the server's port to a client, as it does with ports of its ephemeral range.",
        &[
            Listen("other", "127.0.0.1:other", &[]),
            Trace,
            Sysctl("host", EPHEMERAL, "{port} {port}"),
            Keep("busy", "127.0.0.1:other", Blocking),
            Sysctl("host", EPHEMERAL, "40000 60000"),
            BindFails("server", "0.0.0.0", Errno::ADDRINUSE),
            Refused(
                refused("curl", Nonblocking, &["127.0.0.1"], BindFailed)
                    .failed_binds(&[failed_bind("server", "0.0.0.0", "EADDRINUSE")
                        .held_by(&[Holder::Client("busy", "127.0.0.1")])])
                    .summary(&["held by {busy} on 127.0.0.1:{port}, ESTAB"])
                    .hints(&["add {port} to net.ipv4.ip_local_reserved_ports"]),
            ),
        ],
    ),
    scenario(
        "held_by_a_client_that_asked_for_it",
        "A client chose the server's port for itself, as some do to pass a firewall.",
        &[
            Listen("other", "[::1]:other", &[]),
            Trace,
            Keep("busy", "[::1]:other", From("[::1]")),
            BindFails("server", "[::]", Errno::ADDRINUSE),
            Refused(
                refused("curl", Blocking, &["[::1]"], BindFailed)
                    .failed_binds(&[failed_bind("server", "[::]", "EADDRINUSE")
                        .held_by(&[Holder::Client("busy", "[::1]")])])
                    .summary(&["held by {busy} on [::1]:{port}, ESTAB"])
                    .hints(&["{busy} asked for the port to connect from it"]),
            ),
        ],
    ),
    scenario(
        "held_by_a_socket_that_is_only_bound",
        "Another process has bound the port and does not listen on it.",
        &[
            Trace,
            Bind("holder", "127.0.0.1", &[]),
            BindFails("server", "127.0.0.1", Errno::ADDRINUSE),
            Refused(
                refused("curl", Blocking, &["127.0.0.1"], BindFailed).failed_binds(&[failed_bind(
                    "server",
                    "127.0.0.1",
                    "EADDRINUSE",
                )
                .held_by(&[Holder::Bound("holder", "127.0.0.1")])]),
            ),
        ],
    ),
    scenario(
        "the_interface_is_not_up_yet",
        "At boot, a server asks for the VPN's address before the VPN has it; then the address comes, and \
         the server.",
        &[
            Trace,
            BindFails("server", "10.99.0.1", Errno::ADDRNOTAVAIL),
            Refused(
                refused("curl", Blocking, &["127.0.0.1"], BindFailed)
                    .failed_binds(&[failed_bind("server", "10.99.0.1", "EADDRNOTAVAIL")])
                    .summary(&["it is not an address of this namespace"])
                    .hints(&["bring up the interface that has 10.99.0.1"]),
            ),
            Refused(refused("node", Nonblocking, &["[::1]"], BindFailed).failed_binds(&[failed_bind(
                "server",
                "10.99.0.1",
                "EADDRNOTAVAIL",
            )])),
            Ip("host", "addr add 10.99.0.1/32 dev eth0"),
            Listen("restarted", "10.99.0.1", &[]),
            Refused(
                refused("curl", Blocking, &["127.0.0.1"], WrongAddress).evaluates(&[("restarted", Address)]),
            ),
            Refused(
                refused("node", Nonblocking, &["[::1]"], WrongAddress).evaluates(&[("restarted", Family)]),
            ),
        ],
    ),
    scenario(
        "the_interface_is_not_up_yet_ipv6",
        "At boot, a server asks for the VPN's IPv6 address before the VPN has it.",
        &[
            Trace,
            BindFails("server", "[fd99::1]", Errno::ADDRNOTAVAIL),
            Refused(refused("node", Nonblocking, &["[::1]"], BindFailed).failed_binds(&[failed_bind(
                "server",
                "[fd99::1]",
                "EADDRNOTAVAIL",
            )])),
            Ip("host", "addr add fd99::1/128 dev eth0 nodad"),
            Listen("restarted", "[fd99::1]", &[]),
            Refused(
                refused("node", Nonblocking, &["[::1]"], WrongAddress).evaluates(&[("restarted", Address)]),
            ),
        ],
    ),
    scenario(
        "not_permitted",
        "A server that is not root asks for a port that only root may have.",
        &[
            // Not below the ports that the kernel hands out.
            Sysctl("host", EPHEMERAL, "40000 60000"),
            Sysctl("host", "net/ipv4/ip_unprivileged_port_start", "40000"),
            Trace,
            BindFails("server", "127.0.0.1", Errno::ACCESS),
            Refused(
                refused("curl", Blocking, &["127.0.0.1"], BindFailed)
                    .because(&[Because::UnverifiedServer])
                    .failed_binds(&[failed_bind("server", "127.0.0.1", "EACCES")])
                    .summary(&["net.ipv4.ip_unprivileged_port_start is above it"])
                    .hints(&["a security policy forbids this port"]),
            ),
        ],
    )
    .processes(&[process("server").uid(65_534)]),
    scenario(
        "a_supervisor_tries_again",
        "The server fails three times over, and once more as a new process; then the holder goes, and \
         no server starts.",
        &[
            Listen("holder", "10.77.0.1", &[]),
            Trace,
            BindFails("server", "0.0.0.0", Errno::ADDRINUSE),
            BindFails("server", "0.0.0.0", Errno::ADDRINUSE),
            BindFails("server", "0.0.0.0", Errno::ADDRINUSE),
            Refused(
                refused("curl", Blocking, &["127.0.0.1"], BindFailed)
                    .evaluates(&[("holder", Address)])
                    .failed_binds(&[failed_bind("server", "0.0.0.0", "EADDRINUSE")
                        .held_by(&[Holder::Listener("holder", "10.77.0.1")])
                        .times(3)])
                    .summary(&["3 times in"]),
            ),
            BindFails("again", "0.0.0.0", Errno::ADDRINUSE),
            Refused(
                refused("node", Blocking, &["127.0.0.1"], BindFailed)
                    .evaluates(&[("holder", Address)])
                    .failed_binds(&[failed_bind("again", "0.0.0.0", "EADDRINUSE")
                        .held_by(&[Holder::Listener("holder", "10.77.0.1")])
                        .times(4)]),
            ),
            Close("holder"),
            Refused(
                refused("java", Blocking, &["127.0.0.1"], BindFailed).failed_binds(&[failed_bind(
                    "again",
                    "0.0.0.0",
                    "EADDRINUSE",
                )
                .times(4)]),
            ),
        ],
    )
    .processes(&[process("again").comm("server")]),
    scenario(
        "the_server_has_exited",
        "The usual way: it fails, logs that, exits, and the user does not see why.",
        &[
            Listen("holder", "10.77.0.1", &[]),
            Trace,
            BindFails("server", "0.0.0.0", Errno::ADDRINUSE),
            Exit("server", 1),
            Refused(
                refused("curl", Blocking, &["127.0.0.1"], BindFailed)
                    .evaluates(&[("holder", Address)])
                    .failed_binds(&[failed_bind("server", "0.0.0.0", "EADDRINUSE")
                        .held_by(&[Holder::Listener("holder", "10.77.0.1")])]),
            ),
        ],
    ),
    scenario(
        "listen_fails",
        "Two servers share the port by SO_REUSEADDR; the second may not listen until the first has closed.",
        &[
            Trace,
            Bind("first", "10.77.0.1", &[ReuseAddr]),
            Bind("second", "0.0.0.0", &[ReuseAddr]),
            ListenBound("first"),
            ListenFails("second", Errno::ADDRINUSE),
            Refused(
                refused("curl", Blocking, &["127.0.0.1"], BindFailed)
                    .evaluates(&[("first", Address)])
                    .failed_binds(&[failed_bind("second", "0.0.0.0", "EADDRINUSE")
                        .held_by(&[Holder::Listener("first", "10.77.0.1")])
                        .listen()])
                    .summary(&["{second} called listen() on 0.0.0.0:{port} and got EADDRINUSE"]),
            ),
            Close("first"),
            ListenBound("second"),
            Recovered { to: "127.0.0.1", by: "second", refusals: 1, processes: 1 },
            Answered("curl", Blocking, "127.0.0.1"),
        ],
    ),
    scenario(
        "listen_fails_ipv6",
        "Two servers share an IPv6 port by SO_REUSEADDR; the second may not listen until the first has \
         closed.",
        &[
            Trace,
            Bind("first", "[fd77::1]", &[ReuseAddr]),
            Bind("second", "[::]", &[ReuseAddr]),
            ListenBound("first"),
            ListenFails("second", Errno::ADDRINUSE),
            Refused(
                refused("node", Nonblocking, &["[::1]"], BindFailed)
                    .evaluates(&[("first", Address)])
                    .failed_binds(&[failed_bind("second", "[::]", "EADDRINUSE")
                        .held_by(&[Holder::Listener("first", "[fd77::1]")])
                        .listen()]),
            ),
            Close("first"),
            ListenBound("second"),
            Recovered { to: "[::1]", by: "second", refusals: 1, processes: 1 },
            Answered("node", Nonblocking, "[::1]"),
        ],
    ),
    scenario(
        "at_last_it_is_bound_and_listens",
        "The holder goes, the server binds, listens, and closes: what failed before is history at each \
         step.",
        &[
            Listen("holder", "[fd77::1]", &[]),
            Trace,
            BindFails("server", "[::]", Errno::ADDRINUSE),
            Refused(
                refused("curl", Blocking, &["[::1]"], BindFailed)
                    .evaluates(&[("holder", Address)])
                    .failed_binds(&[failed_bind("server", "[::]", "EADDRINUSE")
                        .held_by(&[Holder::Listener("holder", "[fd77::1]")])]),
            ),
            Close("holder"),
            Bind("server", "[::]", &[]),
            Refused(refused("node", Blocking, &["[::1]"], BoundNotListening)),
            ListenBound("server"),
            Recovered { to: "[::1]", by: "server", refusals: 2, processes: 2 },
            Answered("curl", Blocking, "[::1]"),
            Close("server"),
            Refused(refused("curl", Blocking, &["[::1]"], Stopped).evaluates(&[("server", Closed)])),
        ],
    ),
];
