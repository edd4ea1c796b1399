//! A server candidate is running, and has not listened yet.

use super::words::*;

pub const GROUP: Group = Group { cause: Cause::Starting, scenarios: SCENARIOS };

const SCENARIOS: &[Scenario] = &[
    scenario(
        "by_its_own_name",
        "A process calls itself what the gateway does, and was there before the tracer; at last it \
         listens.",
        &[
            Start("openclaw-gatewa"),
            Trace,
            Refused(
                refused("curl", Blocking, &["127.0.0.1"], Starting)
                    .candidates(&[("openclaw-gatewa", End::Alive)])
                    .summary(&[
                        "{openclaw-gatewa}, by its name the server",
                        "has not called listen()",
                    ])
                    .hints(&["wait for RECOVERED"]),
            ),
            Refused(
                refused("node", Nonblocking, &["127.0.0.1"], Starting)
                    .candidates(&[("openclaw-gatewa", End::Alive)]),
            ),
            Listen("openclaw-gatewa", "127.0.0.1", &[]),
            Recovered { to: "127.0.0.1", by: "openclaw-gatewa", refusals: 2, processes: 2 },
            Answered("curl", Blocking, "127.0.0.1"),
        ],
    ),
    scenario(
        "by_the_name_that_it_took",
        "A process takes the gateway's name while the tracer runs, before a client connects.",
        &[
            Trace,
            Start("openclaw-gatewa"),
            Refused(
                refused("node", Nonblocking, &["[::1]"], Starting)
                    .candidates(&[("openclaw-gatewa", End::Alive)]),
            ),
            Listen("openclaw-gatewa", "[::1]", &[]),
            Recovered { to: "[::1]", by: "openclaw-gatewa", refusals: 1, processes: 1 },
            Answered("node", Nonblocking, "[::1]"),
        ],
    ),
    scenario(
        "by_its_program",
        "The gateway's program runs; a reverse proxy on the same host is faster at boot.",
        &[
            Start("gateway"),
            Trace,
            Refused(
                refused("caddy", Nonblocking, &["127.0.0.1"], Starting)
                    .candidates(&[("gateway", End::Alive)]),
            ),
            Again("caddy", "127.0.0.1", 37),
            Listen("gateway", "127.0.0.1", &[]),
            Repeated { who: "caddy", to: "127.0.0.1", count: 37, processes: 1 },
            Recovered { to: "127.0.0.1", by: "gateway", refusals: 38, processes: 1 },
            Answered("caddy", Nonblocking, "127.0.0.1"),
        ],
    )
    .processes(&[PROGRAM])
    .in_both_orders(),
    scenario(
        "by_its_arguments",
        "Node runs the gateway's script, under Node's own name.",
        &[
            Start("gateway"),
            Trace,
            Refused(
                refused("curl", Blocking, &["[::1]"], Starting)
                    .candidates(&[("gateway", End::Alive)])
                    .summary(&["{gateway}, by its name the server"]),
            ),
            Listen("gateway", "[::]", &[]),
            Recovered { to: "[::1]", by: "gateway", refusals: 1, processes: 1 },
            Answered("curl", Blocking, "[::1]"),
        ],
    )
    .processes(&[SCRIPT])
    .in_both_orders(),
    scenario(
        "by_the_users_pattern",
        "A server of the user's own, named by `--server`.",
        &[
            Start("gateway"),
            Trace,
            Refused(
                refused("curl", Blocking, &["127.0.0.1"], Starting).candidates(&[("gateway", End::Alive)]),
            ),
            Refused(
                refused("node", Nonblocking, &["[::1]"], Starting).candidates(&[("gateway", End::Alive)]),
            ),
            Listen("gateway", "127.0.0.1", &[]),
            Recovered { to: "127.0.0.1", by: "gateway", refusals: 1, processes: 1 },
        ],
    )
    .processes(&[PATTERN])
    .arguments(BY_PATTERN)
    .in_both_orders(),
    scenario(
        "after_a_refusal",
        "The first client finds no server; then the gateway's program starts, and the next client finds that.",
        &[
            Trace,
            Refused(refused("curl", Blocking, &["127.0.0.1"], NothingListening)),
            Start("gateway"),
            Refused(
                refused("node", Nonblocking, &["127.0.0.1"], Starting).candidates(&[("gateway", End::Alive)]),
            ),
        ],
    )
    .processes(&[PROGRAM]),
    scenario(
        "a_script_after_a_refusal",
        "The first client finds no server; then Node starts the gateway's script, and the next client finds \
         that.",
        &[
            Trace,
            Refused(refused("curl", Blocking, &["[::1]"], NothingListening)),
            Start("gateway"),
            Refused(refused("node", Blocking, &["[::1]"], Starting).candidates(&[("gateway", End::Alive)])),
        ],
    )
    .processes(&[SCRIPT]),
    scenario(
        "a_pattern_after_a_refusal",
        "The first client finds no server; then a server of the user's own starts.",
        &[
            Trace,
            Refused(refused("curl", Thread, &["127.0.0.1"], NothingListening)),
            Start("gateway"),
            Refused(refused("node", Thread, &["127.0.0.1"], Starting).candidates(&[("gateway", End::Alive)])),
        ],
    )
    .processes(&[PATTERN])
    .arguments(BY_PATTERN),
    scenario(
        "a_probe_in_a_pod",
        "A liveness probe runs in the pod's namespace while the pod's gateway still starts.",
        &[
            Pod("pod"),
            Trace,
            Start("gateway"),
            Refused(
                refused("node", Nonblocking, &["127.0.0.1"], Starting)
                    .candidates(&[("gateway", End::Alive)])
                    .summary(&["{gateway}, by its name the server"]),
            ),
            Again("second probe", "127.0.0.1", 1),
            Repeated { who: "node", to: "127.0.0.1", count: 1, processes: 1 },
            Listen("gateway", "127.0.0.1", &[]),
            Recovered { to: "127.0.0.1", by: "gateway", refusals: 2, processes: 2 },
        ],
    )
    .processes(&[
        SCRIPT.inside("pod"),
        process("node").inside("pod"),
        process("second probe").comm("node").inside("pod"),
    ]),
    scenario(
        "a_container_behind_a_proxy",
        "docker-proxy leads to a container whose gateway still starts.",
        &[
            Namespace("container"),
            Join("container"),
            Trace,
            Start("gateway"),
            Refused(
                refused("docker-proxy", Nonblocking, &["10.x.y.2"], Starting)
                    .candidates(&[("gateway", End::Alive)])
                    .summary(&["in network namespace {netns container}"]),
            ),
        ],
    )
    .processes(&[SCRIPT.inside("container")]),
    scenario(
        "a_server_of_another_namespace_is_none",
        "The gateway starts in a container: the host's clients do not wait for it, those inside do.",
        &[
            Namespace("container"),
            Trace,
            Start("gateway"),
            Refused(refused("curl", Blocking, &["127.0.0.1"], NothingListening)),
            Refused(
                refused("inside", Blocking, &["127.0.0.1"], Starting).candidates(&[("gateway", End::Alive)]),
            ),
        ],
    )
    .processes(&[PROGRAM.inside("container"), process("inside").inside("container")]),
    scenario(
        "bound_and_then_closed",
        "A server binds, and gives up before it listens.",
        &[
            Trace,
            Bind("server", "127.0.0.1", &[]),
            Close("server"),
            // It is still running, and may bind again.
            Refused(refused("curl", Nonblocking, &["127.0.0.1"], Starting).by_call().candidates(&[("server", End::Alive)])),
        ],
    ),
];
