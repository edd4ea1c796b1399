//! A listener that covered the address closed, and nothing has opened since.

use super::words::*;

pub const GROUP: Group = Group { cause: Cause::Stopped, scenarios: SCENARIOS };

const SCENARIOS: &[Scenario] = &[
    scenario(
        "restart_in_place",
        "The gateway restarts inside its process: the port is closed for a while, and comes back.",
        &[
            Listen("openclaw-gatewa", "127.0.0.1", &[]),
            Trace,
            Close("openclaw-gatewa"),
            Refused(
                refused("curl", Blocking, &["127.0.0.1"], Stopped)
                    .evaluates(&[("openclaw-gatewa", Closed)])
                    .summary(&["{openclaw-gatewa} closed 127.0.0.1:{port}", "is still running"])
                    .hints(&["wait for RECOVERED"]),
            ),
            Refused(
                refused("node", Nonblocking, &["127.0.0.1"], Stopped)
                    .evaluates(&[("openclaw-gatewa", Closed)]),
            ),
            Again("curl", "127.0.0.1", 5),
            Listen("openclaw-gatewa", "127.0.0.1", &[]),
            Repeated { who: "curl", to: "127.0.0.1", count: 5, processes: 1 },
            Recovered { to: "127.0.0.1", by: "openclaw-gatewa", refusals: 7, processes: 2 },
            Answered("node", Nonblocking, "127.0.0.1"),
        ],
    )
    .in_both_orders(),
    scenario(
        "restart_in_place_twice",
        "The port goes and comes back, twice: the second end is reported again.",
        &[
            Listen("gateway", "[::]", &[]),
            Trace,
            Close("gateway"),
            Refused(refused("node", Nonblocking, &["[::1]"], Stopped).evaluates(&[("gateway", Closed)])),
            Listen("gateway", "[::]", &[]),
            Recovered { to: "[::1]", by: "gateway", refusals: 1, processes: 1 },
            Answered("node", Nonblocking, "[::1]"),
            Close("gateway"),
            Refused(refused("node", Nonblocking, &["[::1]"], Stopped).evaluates(&[("gateway", Closed)])),
            Listen("gateway", "[::]", &[]),
            Recovered { to: "[::1]", by: "gateway", refusals: 1, processes: 1 },
            Answered("node", Nonblocking, "[::1]"),
        ],
    )
    .in_both_orders(),
    scenario(
        "a_new_process_takes_over",
        "A server on every address is replaced by a new process, and clients of the LAN fall in between.",
        &[
            Listen("gateway", "0.0.0.0", &[]),
            Trace,
            Exit("gateway", 0),
            Refused(
                refused("curl", Blocking, &["10.77.0.1"], Stopped)
                    .evaluates(&[("gateway", Closed)])
                    .summary(&["{gateway} exited with code 0"]),
            ),
            Listen("successor", "0.0.0.0", &[]),
            Recovered { to: "10.77.0.1", by: "successor", refusals: 1, processes: 1 },
            Answered("curl", Blocking, "10.77.0.1"),
        ],
    ),
    scenario(
        "closed_on_loopback",
        "The server closes 127.0.0.1 and is still running.",
        &[
            Listen("gateway", "127.0.0.1", &[]),
            Trace,
            Close("gateway"),
            Refused(refused("curl", Blocking, &["127.0.0.1"], Stopped).evaluates(&[("gateway", Closed)])),
            Refused(refused("java", Nonblocking, &[MAPPED], Stopped).evaluates(&[("gateway", Closed)])),
        ],
    )
    .in_both_orders(),
    scenario(
        "closed_on_every_address",
        "The server closes 0.0.0.0 and is still running; clients ask localhost and the LAN address.",
        &[
            Listen("gateway", "0.0.0.0", &[]),
            Trace,
            Close("gateway"),
            Refused(
                refused("curl", Blocking, &["127.0.0.1", "10.77.0.1"], Stopped)
                    .evaluates(&[("gateway", Closed)])
                    .summary(&["{gateway} closed 0.0.0.0:{port}"]),
            ),
        ],
    )
    .in_both_orders(),
    scenario(
        "exited_on_v6_loopback",
        "The server on `::1` exits with code 7.",
        &[
            Listen("gateway", "[::1]", &[]),
            Trace,
            Exit("gateway", 7),
            Refused(
                refused("node", Nonblocking, &["[::1]"], Stopped)
                    .evaluates(&[("gateway", Closed)])
                    .summary(&["{gateway} exited with code 7"])
                    .hints(&["see its log for the end of gateway"]),
            ),
        ],
    )
    .in_both_orders(),
    scenario(
        "exited_on_every_address",
        "The server on `::` exits; clients ask in each family and by IPv4-mapped IPv6.",
        &[
            Listen("gateway", "[::]", &[]),
            Trace,
            Exit("gateway", 1),
            Refused(
                refused("curl", Blocking, &["127.0.0.1", "[::1]"], Stopped)
                    .evaluates(&[("gateway", Closed)])
                    .summary(&["{gateway} exited with code 1"]),
            ),
            Refused(refused("java", Nonblocking, &[MAPPED], Stopped).evaluates(&[("gateway", Closed)])),
        ],
    )
    .in_both_orders(),
    scenario(
        "killed_on_loopback",
        "The kernel, out of memory, kills the server on 127.0.0.1.",
        &[
            Listen("gateway", "127.0.0.1", &[]),
            Trace,
            Kill("gateway"),
            Refused(
                refused("curl", Nonblocking, &["127.0.0.1"], Stopped)
                    .evaluates(&[("gateway", Closed)])
                    .summary(&["{gateway} was ended by SIGKILL"])
                    .hints(&["out of memory (journalctl -k | grep -i oom)"]),
            ),
        ],
    )
    .in_both_orders(),
    scenario(
        "killed_on_every_address",
        "The server on `::` is killed, and with it every address of both families.",
        &[
            Listen("gateway", "[::]", &[]),
            Trace,
            Kill("gateway"),
            Refused(
                refused("curl", Blocking, &["127.0.0.1", "[::1]", "10.77.0.1"], Stopped)
                    .evaluates(&[("gateway", Closed)])
                    .summary(&["SIGKILL"]),
            ),
        ],
    )
    .in_both_orders(),
    scenario(
        "killed_on_an_interface",
        "The server was bound to lo, which localhost is on, and is killed.",
        &[
            Listen("gateway", "0.0.0.0", &[ToDevice("lo")]),
            Trace,
            Kill("gateway"),
            Refused(refused("curl", Blocking, &["127.0.0.1"], Stopped).evaluates(&[("gateway", Closed)])),
        ],
    )
    .in_both_orders(),
    scenario(
        "closed_and_then_ended",
        "The server closes its port, and ends a while later: the log shows both.",
        &[
            Listen("gateway", "127.0.0.1", &[]),
            Trace,
            Close("gateway"),
            Refused(
                refused("curl", Blocking, &["127.0.0.1"], Stopped)
                    .evaluates(&[("gateway", Closed)])
                    .summary(&["is still running"]),
            ),
            Exit("gateway", 3),
            Refused(
                refused("node", Blocking, &["127.0.0.1"], Stopped)
                    .evaluates(&[("gateway", Closed)])
                    .summary(&["exited with code 3"]),
            ),
        ],
    )
    .in_both_orders(),
    scenario(
        "closed_and_then_killed",
        "The server gives up every address, and is killed a while later.",
        &[
            Listen("gateway", "[::]", &[]),
            Trace,
            Close("gateway"),
            Kill("gateway"),
            Refused(
                refused("curl", Nonblocking, &["127.0.0.1", "[::1]"], Stopped)
                    .evaluates(&[("gateway", Closed)])
                    .summary(&["SIGKILL"]),
            ),
        ],
    ),
    scenario(
        "the_end_counts_more_than_the_other_family",
        "A server on `::1` was up all the time; the one on 127.0.0.1 has closed.",
        &[
            Listen("other", "[::1]", &[]),
            Listen("gateway", "127.0.0.1", &[]),
            Trace,
            Close("gateway"),
            Refused(
                refused("curl", Blocking, &["127.0.0.1"], Stopped)
                    .evaluates(&[("gateway", Closed), ("other", Family)]),
            ),
        ],
    ),
    scenario(
        "a_server_of_the_same_name_that_had_listened",
        "A gateway on the LAN address ends with code 78: it had listened, so that this is not a refused \
         configuration.",
        &[
            Trace,
            Listen("openclaw-gateway", "10.77.0.1", &[]),
            Close("openclaw-gateway"),
            Exit("openclaw-gateway", 78),
            Refused(refused("curl", Blocking, &["127.0.0.1"], NothingListening)),
            Refused(
                refused("curl", Blocking, &["10.77.0.1"], Stopped).evaluates(&[("openclaw-gateway", Closed)]),
            ),
        ],
    )
    .processes(&[process("openclaw-gateway").comm("openclaw-gatewa").program("openclaw-gateway", &[])]),
    scenario(
        "a_container_that_stopped",
        "A container's server is killed; its address is asked from the host.",
        &[
            Namespace("container"),
            Join("container"),
            Listen("gateway", "0.0.0.0", &[]),
            Trace,
            Kill("gateway"),
            Refused(
                refused("docker-proxy", Nonblocking, &["10.x.y.2"], Stopped)
                    .evaluates(&[("gateway", Closed)])
                    .summary(&["in network namespace {netns container}"]),
            ),
        ],
    )
    .processes(CONTAINED),
];
