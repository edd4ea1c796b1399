//! A listener would answer, but for the interface that it is bound to.

use super::words::*;

pub const GROUP: Group = Group { cause: Cause::WrongDevice, scenarios: SCENARIOS };

const SCENARIOS: &[Scenario] = &[
    scenario(
        "a_wildcard_bound_to_the_lan",
        "The server is bound to eth0 with SO_BINDTODEVICE; localhost is on lo.",
        &[
            Listen("gateway", "0.0.0.0", &[ToDevice("eth0")]),
            Trace,
            Refused(
                refused("curl", Blocking, &["127.0.0.1"], WrongDevice)
                    .evaluates(&[("gateway", Device)])
                    .summary(&["is bound to the interface eth0, and 127.0.0.1 is on lo"])
                    .hints(&["connect to an address of eth0"]),
            ),
            Refused(refused("java", Nonblocking, &[MAPPED], WrongDevice).evaluates(&[("gateway", Device)])),
            Answered("curl", Blocking, "10.77.0.1"),
        ],
    )
    .in_both_orders(),
    scenario(
        "a_v6_wildcard_bound_to_the_lan",
        "The server on `::` is bound to eth0 with SO_BINDTODEVICE, and localhost is asked in both \
         families.",
        &[
            Listen("gateway", "[::]", &[ToDevice("eth0")]),
            Trace,
            Refused(
                refused("curl", Blocking, &["127.0.0.1", "[::1]"], WrongDevice)
                    .evaluates(&[("gateway", Device)]),
            ),
            Refused(
                refused("node", Nonblocking, &["127.0.0.1", "[::1]"], WrongDevice)
                    .evaluates(&[("gateway", Device)]),
            ),
        ],
    )
    .in_both_orders(),
    scenario(
        "the_right_address_on_the_wrong_interface",
        "The server has bound 127.0.0.1, and itself to eth0: no client can reach it.",
        &[
            Listen("gateway", "127.0.0.1", &[ToDevice("eth0")]),
            Trace,
            Refused(
                refused("node", Nonblocking, &["127.0.0.1"], WrongDevice).evaluates(&[("gateway", Device)]),
            ),
        ],
    )
    .in_both_orders(),
    scenario(
        "a_wildcard_bound_to_lo",
        "The server is bound to lo, as an option \"localhost only\" may do it; clients use the LAN \
         address.",
        &[
            Listen("gateway", "0.0.0.0", &[ToDevice("lo")]),
            Trace,
            Refused(
                refused("curl", Blocking, &["10.77.0.1"], WrongDevice)
                    .evaluates(&[("gateway", Device)])
                    .summary(&["10.77.0.1 is on eth0"]),
            ),
            Answered("curl", Blocking, "127.0.0.1"),
        ],
    )
    .in_both_orders(),
    scenario(
        "a_v6_wildcard_bound_to_lo",
        "The server on `::` is bound to lo; a Node client uses the LAN's IPv6 address.",
        &[
            Listen("gateway", "[::]", &[ToDevice("lo")]),
            Trace,
            Refused(
                refused("node", Nonblocking, &["[fd77::1]"], WrongDevice).evaluates(&[("gateway", Device)]),
            ),
            Answered("node", Nonblocking, "[::1]"),
        ],
    )
    .in_both_orders(),
    scenario(
        "bound_to_a_third_interface",
        "The server is bound to an interface that has no address of its own.",
        &[
            Listen("gateway", "[::]", &[ToDevice("peer0")]),
            Trace,
            Refused(refused("curl", Blocking, &["[fd77::1]"], WrongDevice).evaluates(&[("gateway", Device)])),
        ],
    )
    .in_both_orders(),
    scenario(
        "the_interface_counts_more_than_the_family",
        "One server is bound to eth0, another has `::1`: for 127.0.0.1 the first is nearer.",
        &[
            Listen("bound", "0.0.0.0", &[ToDevice("eth0")]),
            Listen("other", "[::1]", &[]),
            Trace,
            Refused(
                refused("curl", Thread, &["127.0.0.1"], WrongDevice)
                    .evaluates(&[("bound", Device), ("other", Family)]),
            ),
        ],
    )
    .in_both_orders(),
    scenario(
        "a_container_behind_a_veth_pair",
        "In a container the server is bound to lo; the host asks by the container's address.",
        &[
            Namespace("container"),
            Join("container"),
            Trace,
            Listen("gateway", "0.0.0.0", &[ToDevice("lo")]),
            Refused(
                refused("probe", Nonblocking, &["10.x.y.2"], WrongDevice)
                    .evaluates(&[("gateway", Device)])
                    .summary(&["10.x.y.2 is on eth1"]),
            ),
        ],
    )
    .processes(CONTAINED),
    scenario(
        "restarted_without_the_interface",
        "The server is configured to bind to no interface, and started again.",
        &[
            Listen("gateway", "0.0.0.0", &[ToDevice("eth0")]),
            Trace,
            Refused(refused("curl", Blocking, &["127.0.0.1"], WrongDevice).evaluates(&[("gateway", Device)])),
            Exit("gateway", 0),
            Listen("successor", "0.0.0.0", &[]),
            Recovered { to: "127.0.0.1", by: "successor", refusals: 1, processes: 1 },
            Answered("curl", Blocking, "127.0.0.1"),
        ],
    ),
];
