//! The server is up, on another port.

use super::words::*;

pub const GROUP: Group = Group { cause: Cause::OtherPort, scenarios: SCENARIOS };

/// A name, and five seconds on another port.
const BY_TIME: &[Because] = &[Because::ClaimOnly, Because::MayBeStarting];

const SCENARIOS: &[Scenario] = &[
    scenario(
        "a_profile_with_a_port_of_its_own",
        "The gateway runs under a profile, which has another port than the client's configuration.",
        &[
            Listen("openclaw-gatewa", "127.0.0.1:other", &[]),
            Settle("openclaw-gatewa"),
            Trace,
            Refused(
                refused("node", Nonblocking, &["127.0.0.1"], OtherPort)
                    .because(BY_TIME)
                    .evaluates(&[("openclaw-gatewa", Port)])
                    .summary(&["{openclaw-gatewa} listens on 127.0.0.1:{other port}"])
                    .hints(&["let the client use port {other port}", "start the server with port {port}"]),
            ),
        ],
    ),
    scenario(
        "a_program_on_another_port",
        "The gateway's program listens on another port of every address, and is asked by IPv4.",
        &[
            Listen("gateway", "[::]:other", &[]),
            Settle("gateway"),
            Trace,
            Refused(
                refused("curl", Blocking, &["127.0.0.1"], OtherPort)
                    .because(BY_TIME)
                    .evaluates(&[("gateway", Port)]),
            ),
        ],
    )
    .processes(&[PROGRAM]),
    scenario(
        "a_script_on_another_port",
        "Node runs the gateway's script on every IPv4 address, asked by IPv6.",
        &[
            Listen("gateway", "0.0.0.0:other", &[]),
            Settle("gateway"),
            Trace,
            Refused(
                refused("node", Nonblocking, &["[::1]"], OtherPort)
                    .because(BY_TIME)
                    .evaluates(&[("gateway", Port)])
                    .summary(&["{gateway} listens on 0.0.0.0:{other port}"]),
            ),
        ],
    )
    .processes(&[SCRIPT]),
    scenario(
        "a_pattern_on_another_port",
        "A server of the user's own, named by `--server`.",
        &[
            Listen("gateway", "[::]:other", &[]),
            Settle("gateway"),
            Trace,
            Refused(
                refused("curl", Thread, &["127.0.0.1"], OtherPort)
                    .because(BY_TIME)
                    .evaluates(&[("gateway", Port)])
                    .summary(&["{gateway} listens on [::]:{other port}"]),
            ),
        ],
    )
    .processes(&[PATTERN])
    .arguments(BY_PATTERN),
    scenario(
        "the_last_owner_moved",
        "The server is known by its past only: it held the port on the LAN address, and moved to \
         another port.",
        &[
            Listen("gateway", "10.77.0.1", &[]),
            Trace,
            Close("gateway"),
            Listen("gateway", "127.0.0.1:other", &[]),
            Refused(
                refused("curl", Blocking, &["127.0.0.1"], OtherPort)
                    .evaluates(&[("gateway", Port)])
                    .summary(&["{gateway} listens on 127.0.0.1:{other port}"]),
            ),
            // Where it was, it has stopped.
            Refused(refused("curl", Blocking, &["10.77.0.1"], Stopped).evaluates(&[("gateway", Closed)])),
        ],
    )
    .in_both_orders(),
    scenario(
        "the_gateway_moved",
        "The last owner of the port goes by the gateway's name as well: it is reported once.",
        &[
            Trace,
            Listen("gateway", "10.77.0.1", &[]),
            Close("gateway"),
            Listen("gateway", "127.0.0.1:other", &[]),
            Refused(refused("curl", Nonblocking, &["127.0.0.1"], OtherPort).evaluates(&[("gateway", Port)])),
        ],
    )
    .processes(&[PROGRAM]),
];
