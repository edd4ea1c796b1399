//! A listener is up, in another network namespace than the client asks in.

use super::words::*;

pub const GROUP: Group = Group { cause: Cause::OtherNetns, scenarios: SCENARIOS };

const SCENARIOS: &[Scenario] = &[
    scenario(
        "a_container_without_published_port",
        "A gateway in a container listens on every address; the host's localhost leads nowhere.",
        &[
            Namespace("container"),
            Listen("openclaw-gatewa", "0.0.0.0", &[]),
            Trace,
            Refused(
                refused("curl", Blocking, &["127.0.0.1"], OtherNetns)
                    .evaluates(&[("openclaw-gatewa", Netns)])
                    .summary(&["nothing listens on {port} in network namespace {netns host}"])
                    .hints(&["ip netns exec {netns container}", "publish or forward the port"]),
            ),
            Refused(
                refused("java", Nonblocking, &[MAPPED], OtherNetns).evaluates(&[("openclaw-gatewa", Netns)]),
            ),
        ],
    )
    .processes(&[process("openclaw-gatewa").inside("container")])
    .in_both_orders(),
    scenario(
        "a_container_on_its_own_loopback",
        "The container's server listens on its own 127.0.0.1: publishing the port would not help either.",
        &[
            Namespace("container"),
            Listen("gateway", "127.0.0.1", &[]),
            Trace,
            Refused(
                refused("curl", Nonblocking, &["127.0.0.1"], OtherNetns)
                    .evaluates(&[("gateway", Netns)])
                    .hints(&["a published port would be refused too"]),
            ),
        ],
    )
    .processes(CONTAINED)
    .in_both_orders(),
    scenario(
        "a_container_on_its_own_v6_loopback",
        "The container's server listens on its own `::1`, and the host's client asks the host's.",
        &[
            Namespace("container"),
            Listen("gateway", "[::1]", &[]),
            Trace,
            Refused(refused("node", Nonblocking, &["[::1]"], OtherNetns).evaluates(&[("gateway", Netns)])),
        ],
    )
    .processes(CONTAINED)
    .in_both_orders(),
    scenario(
        "a_container_on_every_v6_address",
        "The container's server takes both families; clients of the host ask in each.",
        &[
            Namespace("container"),
            Listen("gateway", "[::]", &[]),
            Trace,
            Refused(
                refused("curl", Blocking, &["[::1]", "127.0.0.1"], OtherNetns)
                    .evaluates(&[("gateway", Netns)]),
            ),
        ],
    )
    .processes(CONTAINED)
    .in_both_orders(),
    scenario(
        "a_container_on_its_lan_address",
        "The container's server has its own address alone.",
        &[
            Namespace("container"),
            Listen("gateway", "10.77.0.1", &[]),
            Trace,
            Refused(refused("curl", Thread, &["127.0.0.1"], OtherNetns).evaluates(&[("gateway", Netns)])),
        ],
    )
    .processes(CONTAINED)
    .in_both_orders(),
    scenario(
        "an_exec_in_the_wrong_container",
        "The server is on the host; a command inside a container asks the container's localhost.",
        &[
            Namespace("container"),
            Listen("gateway", "127.0.0.1", &[]),
            Trace,
            Refused(
                refused("curl", Nonblocking, &["127.0.0.1"], OtherNetns)
                    .evaluates(&[("gateway", Netns)])
                    .summary(&["nothing listens on {port} in network namespace {netns container}"]),
            ),
        ],
    )
    .processes(&[process("curl").inside("container")]),
    scenario(
        "a_server_in_a_pod",
        "The server is in a pod, whose namespace has no name but a number.",
        &[
            Pod("pod"),
            Listen("gateway", "127.0.0.1", &[]),
            Trace,
            Refused(
                refused("curl", Blocking, &["127.0.0.1"], OtherNetns)
                    .evaluates(&[("gateway", Netns)])
                    .summary(&["in network namespace {netns pod}"]),
            ),
        ],
    )
    .processes(&[process("gateway").inside("pod")]),
    scenario(
        "a_container_that_started_meanwhile",
        "The namespace comes to be while the tracer runs, and its server with it.",
        &[
            Trace,
            Namespace("container"),
            Listen("gateway", "127.0.0.1", &[]),
            Refused(refused("curl", Blocking, &["127.0.0.1"], OtherNetns).evaluates(&[("gateway", Netns)])),
        ],
    )
    .processes(CONTAINED),
    scenario(
        "the_loop_in_a_container_goes_on",
        "A server comes up on the host, where one client asked; a loop in a container, at the same \
         address, goes on.",
        &[
            Trace,
            Namespace("container"),
            Refused(refused("here", Blocking, &["127.0.0.1"], NothingListening)),
            Refused(refused("elsewhere", Nonblocking, &["127.0.0.1"], NothingListening)),
            Again("elsewhere", "127.0.0.1", 2),
            Repeated { who: "elsewhere", to: "127.0.0.1", count: 2, processes: 1 },
            Listen("gateway", "127.0.0.1", &[]),
            Recovered { to: "127.0.0.1", by: "gateway", refusals: 1, processes: 1 },
            Refused(
                refused("elsewhere", Nonblocking, &["127.0.0.1"], OtherNetns)
                    .evaluates(&[("gateway", Netns)]),
            ),
            Again("elsewhere", "127.0.0.1", 2),
            Repeated { who: "elsewhere", to: "127.0.0.1", count: 2, processes: 1 },
        ],
    )
    .processes(&[process("elsewhere").inside("container")]),
];
