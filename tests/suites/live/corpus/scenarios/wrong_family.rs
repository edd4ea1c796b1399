//! A listener answers the same name, in the other family.

use super::words::*;

pub const GROUP: Group = Group { cause: Cause::WrongFamily, scenarios: SCENARIOS };

const SCENARIOS: &[Scenario] = &[
    scenario(
        "lan_is_ipv4_only",
        "gateway.bind \"lan\" is 0.0.0.0; Node resolves localhost to `::1` first.",
        &[
            Listen("openclaw-gatewa", "0.0.0.0", &[]),
            Trace,
            Refused(
                refused("node", Nonblocking, &["[::1]"], WrongFamily)
                    .evaluates(&[("openclaw-gatewa", Family)])
                    .summary(&[
                        "{openclaw-gatewa} listens on 0.0.0.0:{port}, IPv4 only",
                        "127.0.0.1:{port} is answered",
                    ])
                    .hints(&["use 127.0.0.1 instead of localhost", "gateway.bind \"loopback\""]),
            ),
            Refused(
                refused("curl", Blocking, &["[fd77::1]"], WrongFamily)
                    .evaluates(&[("openclaw-gatewa", Family)])
                    .summary(&["IPv4 only"])
                    .hints(&["use an IPv4 address of the same host"]),
            ),
            Answered("curl", Blocking, "127.0.0.1"),
        ],
    )
    .in_both_orders(),
    scenario(
        "v4_loopback_and_a_v6_client",
        "The server listens on 127.0.0.1 alone; clients ask `::1`.",
        &[
            Listen("gateway", "127.0.0.1", &[]),
            Trace,
            Refused(refused("curl", Blocking, &["[::1]"], WrongFamily).evaluates(&[("gateway", Family)])),
            Refused(refused("node", Nonblocking, &["[::1]"], WrongFamily).evaluates(&[("gateway", Family)])),
        ],
    )
    .in_both_orders(),
    scenario(
        "v6_loopback_and_a_v4_client",
        "The server listens on `::1` alone; clients ask 127.0.0.1, another loopback address, and by \
         IPv4-mapped IPv6.",
        &[
            Listen("gateway", "[::1]", &[]),
            Trace,
            Refused(
                refused("curl", Blocking, &["127.0.0.1", "127.0.0.2"], WrongFamily)
                    .evaluates(&[("gateway", Family)])
                    .summary(&["{gateway} listens on [::1]:{port}, IPv6 only; [::1]:{port} is answered"])
                    .hints(&["use [::1], or let the server listen on"]),
            ),
            Refused(refused("java", Nonblocking, &[MAPPED], WrongFamily).evaluates(&[("gateway", Family)])),
        ],
    )
    .in_both_orders(),
    scenario(
        "a_v6_wildcard_for_v6_only",
        "The server listens on `::` with IPV6_V6ONLY; IPv4 clients ask localhost and the LAN address.",
        &[
            Listen("gateway", "[::]", &[Ipv6Only]),
            Trace,
            Refused(
                refused("curl", Blocking, &["127.0.0.1", "10.77.0.1"], WrongFamily)
                    .evaluates(&[("gateway", V6only)]),
            ),
            Refused(refused("java", Nonblocking, &[MAPPED], WrongFamily).evaluates(&[("gateway", V6only)])),
            Answered("node", Blocking, "[::1]"),
        ],
    )
    .in_both_orders(),
    scenario(
        "the_other_family_counts_more_than_the_other_address",
        "One server has the LAN address, another `::1`: for 127.0.0.1 the second is nearer.",
        &[
            Listen("lan", "10.77.0.1", &[]),
            Listen("gateway", "[::1]", &[]),
            Trace,
            Refused(
                refused("curl", Blocking, &["127.0.0.1"], WrongFamily)
                    .evaluates(&[("gateway", Family), ("lan", Address)]),
            ),
        ],
    )
    .in_both_orders(),
    scenario(
        "a_thread_of_a_program",
        "A worker thread with a name of its own connects; the process is reported.",
        &[
            Listen("gateway", "127.0.0.1", &[]),
            Trace,
            Refused(refused("app", Thread, &["[::1]"], WrongFamily).evaluates(&[("gateway", Family)])),
        ],
    ),
    scenario(
        "a_pod_without_a_name",
        "In a pod, whose namespace has no name, the server is on 127.0.0.1 and the probe asks `::1`.",
        &[
            Pod("pod"),
            Listen("gateway", "127.0.0.1", &[]),
            Trace,
            Refused(refused("probe", Nonblocking, &["[::1]"], WrongFamily).evaluates(&[("gateway", Family)])),
        ],
    )
    .processes(&[process("gateway").inside("pod"), process("probe").inside("pod")]),
    scenario(
        "curl_localhost",
        "curl tries `::1`, is refused, and is answered by 127.0.0.1 a moment later: a fallback.",
        &[
            Listen("gateway", "127.0.0.1", &[]),
            Trace,
            Fallback {
                refused: refused("curl", Blocking, &["[::1]"], WrongFamily).evaluates(&[("gateway", Family)]),
                answered: "127.0.0.1",
            },
        ],
    )
    .in_both_orders(),
    scenario(
        "curl_localhost_v4_first",
        "The resolver puts 127.0.0.1 first, and the server has `::1` alone.",
        &[
            Trace,
            Listen("gateway", "[::1]", &[]),
            Fallback {
                refused: refused("curl", Blocking, &["127.0.0.1"], WrongFamily)
                    .evaluates(&[("gateway", Family)]),
                answered: "[::1]",
            },
        ],
    ),
    scenario(
        "curl_localhost_to_a_wildcard",
        "curl tries `::1`, is refused, and is answered by a server on every IPv4 address: a fallback.",
        &[
            Listen("gateway", "0.0.0.0", &[]),
            Trace,
            Fallback {
                refused: refused("curl", Blocking, &["[::1]"], WrongFamily).evaluates(&[("gateway", Family)]),
                answered: "127.0.0.1",
            },
        ],
    ),
    scenario(
        "another_process_is_not_a_fallback",
        "One client is refused by IPv4 three times over; that another is answered by IPv6 does not help \
         to it.",
        &[
            Listen("gateway", "[::1]", &[]),
            Listen("lan", "10.77.0.1", &[]),
            Trace,
            Refused(
                refused("curl", Blocking, &["127.0.0.1", "127.0.0.2", "127.0.0.3"], WrongFamily)
                    .evaluates(&[("gateway", Family), ("lan", Address)]),
            ),
            Answered("other", Blocking, "[::1]"),
            Answered("curl", Blocking, "10.77.0.1"),
        ],
    ),
    scenario(
        "the_server_adds_ipv6",
        "The server listens on 127.0.0.1, and a second one on `::1` comes up for those who asked there.",
        &[
            Listen("gateway", "127.0.0.1", &[]),
            Trace,
            Refused(refused("node", Nonblocking, &["[::1]"], WrongFamily).evaluates(&[("gateway", Family)])),
            Listen("second", "[::1]", &[]),
            Recovered { to: "[::1]", by: "second", refusals: 1, processes: 1 },
            Answered("node", Nonblocking, "[::1]"),
        ],
    ),
];
