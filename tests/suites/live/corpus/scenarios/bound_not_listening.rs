//! A socket is bound to the port, and listen() was not called on it.

use super::words::*;

pub const GROUP: Group = Group { cause: Cause::BoundNotListening, scenarios: SCENARIOS };

const SCENARIOS: &[Scenario] = &[
    scenario(
        "a_slow_start",
        "The server has bound 127.0.0.1 and loads its plugins before it listens.",
        &[
            Trace,
            Bind("server", "127.0.0.1", &[]),
            Refused(
                refused("curl", Blocking, &["127.0.0.1"], BoundNotListening)
                    .summary(&["{server} bound 127.0.0.1:{port}", "has not called listen()"])
                    .hints(&["it is still starting, or stuck", "strace -f -p {pid server}"]),
            ),
            Refused(refused("node", Nonblocking, &["127.0.0.1"], BoundNotListening)),
            ListenBound("server"),
            Recovered { to: "127.0.0.1", by: "server", refusals: 2, processes: 2 },
            Answered("curl", Blocking, "127.0.0.1"),
        ],
    ),
    scenario(
        "a_slow_start_ipv6",
        "The server has bound `::1`, and Node clients ask before it listens.",
        &[
            Trace,
            Bind("server", "[::1]", &[]),
            Refused(
                refused("node", Nonblocking, &["[::1]"], BoundNotListening)
                    .summary(&["{server} bound [::1]:{port}"]),
            ),
            ListenBound("server"),
            Recovered { to: "[::1]", by: "server", refusals: 1, processes: 1 },
            Answered("node", Nonblocking, "[::1]"),
        ],
    ),
    scenario(
        "a_slow_start_on_every_address",
        "The server has bound `::`, and clients ask for it by IPv4; one of them loops.",
        &[
            Trace,
            Bind("server", "[::]", &[]),
            Refused(refused("curl", Blocking, &["127.0.0.1"], BoundNotListening)),
            Refused(refused("java", Nonblocking, &[MAPPED], BoundNotListening)),
            Again("curl", "127.0.0.1", 3),
            ListenBound("server"),
            Repeated { who: "curl", to: "127.0.0.1", count: 3, processes: 1 },
            Recovered { to: "127.0.0.1", by: "server", refusals: 5, processes: 2 },
            Answered("curl", Blocking, "127.0.0.1"),
        ],
    ),
    scenario(
        "killed_before_it_listened",
        "The server is killed between bind() and listen().",
        &[
            Trace,
            Bind("server", "0.0.0.0", &[]),
            Refused(refused("curl", Blocking, &["127.0.0.1"], BoundNotListening)),
            Kill("server"),
            Refused(
                refused("curl", Blocking, &["127.0.0.1"], NeverListened)
                    .by_call()
                    .candidates(&[("server", End::Killed)]),
            ),
        ],
    ),
    scenario(
        "closed_before_it_listened",
        "The server closes its socket before it listens; clients ask by IPv6.",
        &[
            Trace,
            Bind("server", "[::1]", &[]),
            Refused(refused("curl", Thread, &["[::1]"], BoundNotListening)),
            Close("server"),
            Refused(
                refused("curl", Thread, &["[::1]"], Starting).by_call().candidates(&[("server", End::Alive)]),
            ),
        ],
    ),
    scenario(
        "bound_to_another_address",
        "What is bound is the LAN address: it shows that a server is there.",
        &[
            Trace,
            Bind("server", "10.77.0.1", &[]),
            Refused(
                refused("curl", Blocking, &["127.0.0.1", "[::1]"], BoundNotListening)
                    .summary(&["{server} bound 10.77.0.1:{port}"]),
            ),
        ],
    ),
];
