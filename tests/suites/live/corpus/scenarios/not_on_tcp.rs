//! The server is running, and listens on a Unix socket only.

use super::words::*;

pub const GROUP: Group = Group { cause: Cause::NotOnTcp, scenarios: SCENARIOS };

/// A name is all that it is known by.
const BY_NAME: &[Because] = &[Because::ClaimOnly];

const SCENARIOS: &[Scenario] = &[
    scenario(
        "a_socket_of_its_own",
        "The gateway's program was configured to listen on a Unix socket.",
        &[
            Unix("gateway", "gateway-{port}"),
            Settle("gateway"),
            Trace,
            Refused(
                refused("node", Nonblocking, &["127.0.0.1"], NotOnTcp)
                    .because(BY_NAME)
                    .candidates(&[("gateway", End::Alive)])
                    .summary(&["{gateway} listens on @gateway-{port}, not on TCP"])
                    .hints(&["let the client use @gateway-{port}"]),
            ),
        ],
    )
    .processes(&[PROGRAM]),
    scenario(
        "started_while_traced",
        "It starts and opens its Unix socket: for five seconds it may still open the port.",
        &[
            Trace,
            Unix("gateway", "late-{port}"),
            Refused(refused("curl", Blocking, &["[::1]"], Starting).candidates(&[("gateway", End::Alive)])),
            Settle("gateway"),
            Refused(
                refused("curl", Blocking, &["[::1]"], NotOnTcp)
                    .because(BY_NAME)
                    .candidates(&[("gateway", End::Alive)]),
            ),
        ],
    )
    .processes(&[PROGRAM]),
    scenario(
        "a_server_of_the_users_own",
        "The server that `--server` names is up on a Unix socket, when it is asked by both families.",
        &[
            Unix("gateway", "own-{port}"),
            Settle("gateway"),
            Trace,
            Refused(
                refused("node", Nonblocking, &["127.0.0.1", "[::1]"], NotOnTcp)
                    .because(BY_NAME)
                    .candidates(&[("gateway", End::Alive)]),
            ),
        ],
    )
    .processes(&[PATTERN])
    .arguments(BY_PATTERN),
];
