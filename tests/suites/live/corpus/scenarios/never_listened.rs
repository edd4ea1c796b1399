//! A server candidate has ended without listening.

use super::words::*;

pub const GROUP: Group = Group { cause: Cause::NeverListened, scenarios: SCENARIOS };

/// From this step on the process is known.
const SEEN: Step =
    Refused(refused("curl", Blocking, &["127.0.0.1"], Starting).candidates(&[("gateway", End::Alive)]));

const SEEN_BY_IPV6: Step =
    Refused(refused("curl", Blocking, &["[::1]"], Starting).candidates(&[("gateway", End::Alive)]));

const SCENARIOS: &[Scenario] = &[
    scenario(
        "refused_configuration",
        "The gateway refuses its configuration and exits with code 78, which systemd does not restart.",
        &[
            Trace,
            Start("gateway"),
            SEEN_BY_IPV6,
            Exit("gateway", 78),
            Refused(
                refused("node", Nonblocking, &["127.0.0.1"], NeverListened)
                    .candidates(&[("gateway", End::Code(78))])
                    .summary(&["{gateway}, by its name the server, ended", "with exit code 78"])
                    .never_shows(&["such ends"])
                    .hints(&["refused its configuration", "gateway.auth.token"]),
            ),
        ],
    )
    .processes(&[PROGRAM]),
    scenario(
        "refused_configuration_of_a_script",
        "Node, which runs the gateway's script as in a container, refuses its configuration and exits \
         with code 78.",
        &[
            Start("gateway"),
            Trace,
            SEEN,
            Exit("gateway", 78),
            Refused(
                refused("node", Nonblocking, &["[::1]"], NeverListened)
                    .candidates(&[("gateway", End::Code(78))])
                    .hints(&["refused its configuration"]),
            ),
        ],
    )
    .processes(&[SCRIPT]),
    scenario(
        "a_process_that_called_itself_the_gateway",
        "Known by its own name alone, it exits with code 78.",
        &[
            Start("openclaw-gatewa"),
            Trace,
            Refused(
                refused("curl", Blocking, &["[::1]"], Starting)
                    .candidates(&[("openclaw-gatewa", End::Alive)]),
            ),
            Exit("openclaw-gatewa", 78),
            Refused(
                refused("node", Blocking, &["127.0.0.1"], NeverListened)
                    .candidates(&[("openclaw-gatewa", End::Code(78))])
                    .hints(&["refused its configuration"]),
            ),
        ],
    ),
    scenario(
        "another_server_with_that_code",
        "A server of the user's own exits with code 78: only the gateway gives that code a meaning.",
        &[
            Trace,
            Start("gateway"),
            SEEN_BY_IPV6,
            Exit("gateway", 78),
            Refused(
                refused("node", Nonblocking, &["127.0.0.1"], NeverListened)
                    .candidates(&[("gateway", End::Code(78))])
                    .never_shows(&["gateway.auth.token"])
                    .summary(&["with exit code 78"])
                    .hints(&["see the log for the end of my-very-own-ser"]),
            ),
        ],
    )
    .processes(&[PATTERN])
    .arguments(BY_PATTERN),
    scenario(
        "ended_with_code_0",
        "The program ends with code 0 before it ever listened.",
        &[
            Trace,
            Start("gateway"),
            SEEN,
            Exit("gateway", 0),
            Refused(
                refused("curl", Blocking, &["127.0.0.1"], NeverListened)
                    .candidates(&[("gateway", End::Code(0))])
                    .never_shows(&["gateway.auth.token"])
                    .summary(&["with exit code 0"]),
            ),
        ],
    )
    .processes(&[PROGRAM]),
    scenario(
        "killed_while_it_started",
        "A supervisor's timeout kills the gateway before it listens.",
        &[
            Trace,
            Start("gateway"),
            Refused(refused("curl", Thread, &["127.0.0.1"], Starting).candidates(&[("gateway", End::Alive)])),
            Kill("gateway"),
            Refused(
                refused("curl", Thread, &["127.0.0.1"], NeverListened)
                    .candidates(&[("gateway", End::Killed)])
                    .summary(&["by SIGKILL"])
                    .hints(&["a supervisor's timeout"]),
            ),
        ],
    )
    .processes(&[SCRIPT]),
    scenario(
        "a_pattern_that_was_killed",
        "A server of the user's own is killed before it listens, and a client asks by IPv6.",
        &[
            Start("gateway"),
            Trace,
            SEEN,
            Kill("gateway"),
            Refused(
                refused("node", Nonblocking, &["[::1]"], NeverListened)
                    .candidates(&[("gateway", End::Killed)]),
            ),
        ],
    )
    .processes(&[PATTERN])
    .arguments(BY_PATTERN),
    scenario(
        "a_crash_loop",
        "A supervisor starts the gateway again and again, and each time it exits with code 78.",
        &[
            Trace,
            Start("gateway"),
            SEEN,
            Exit("gateway", 78),
            Refused(
                refused("node", Nonblocking, &["127.0.0.1"], NeverListened)
                    .candidates(&[("gateway", End::Code(78))]),
            ),
            Start("second gateway"),
            Refused(
                refused("java", Blocking, &["127.0.0.1"], Starting)
                    .candidates(&[("second gateway", End::Alive)]),
            ),
            Exit("second gateway", 78),
            Refused(
                refused("caddy", Nonblocking, &["127.0.0.1"], NeverListened)
                    .candidates(&[("second gateway", End::Code(78)), ("gateway", End::Code(78))])
                    .summary(&["2 such ends in 60 s"]),
            ),
            Start("third gateway"),
            Refused(
                refused("wget", Blocking, &["127.0.0.1"], Starting)
                    .candidates(&[("third gateway", End::Alive)]),
            ),
            Exit("third gateway", 78),
            Refused(
                refused("go", Nonblocking, &["127.0.0.1"], NeverListened)
                    .candidates(&[
                        ("third gateway", End::Code(78)),
                        ("second gateway", End::Code(78)),
                        ("gateway", End::Code(78)),
                    ])
                    .summary(&["3 such ends in 60 s"]),
            ),
            Again("go", "127.0.0.1", 10),
            Repeated { who: "go", to: "127.0.0.1", count: 10, processes: 1 },
        ],
    )
    .processes(&[
        PROGRAM,
        process("second gateway").comm("openclaw-gatewa").program("openclaw-gateway", &[]),
        process("third gateway").comm("openclaw-gatewa").program("openclaw-gateway", &[]),
    ]),
];
