//! A packet filter refused, and no listener covers the address either.

use super::words::*;

pub const GROUP: Group = Group { cause: Cause::Filtered, scenarios: SCENARIOS };

/// A Service's address.
const ROUTES: &str = "route add 10.96.0.0/12 dev eth0";

const REJECT_SERVICE: &str = "table ip kubernetes {
    chain output {
        type filter hook output priority 0
        ip daddr 10.96.0.10 tcp dport {port} reject comment \"default/web has no endpoints\"
    }
}";

const SCENARIOS: &[Scenario] = &[
    scenario(
        "a_service_without_endpoints",
        "A rule rejects a Service's address, which no namespace has.",
        &[
            Ip("host", ROUTES),
            Nft("host", REJECT_SERVICE),
            Listen("gateway", "0.0.0.0", &[]),
            Trace,
            Refused(
                refused("node", Nonblocking, &["10.96.0.10"], Filtered)
                    .by(By::Icmp)
                    .evaluates(&[("gateway", Netns)])
                    .summary(&["a packet filter of this host refused it (ICMP); without the filter: remote"])
                    .hints(&["a REJECT rule for 10.96.0.10: nft list ruleset", "kubectl get endpoints"]),
            ),
            Refused(
                refused("java", Nonblocking, &["[::ffff:10.96.0.10]"], Filtered)
                    .by(By::Icmp)
                    .evaluates(&[("gateway", Netns)]),
            ),
        ],
    ),
    scenario(
        "a_service_without_endpoints_and_a_client_that_waits",
        "The rule's ICMP message reaches a client that blocks with its second SYN.",
        &[
            Ip("host", ROUTES),
            Nft("host", REJECT_SERVICE),
            Trace,
            Refused(refused("curl", Blocking, &["10.96.0.10"], Filtered).by(By::Icmp)),
        ],
    ),
    scenario(
        "a_rule_rejects_and_nothing_is_there",
        "A REJECT rule answers for a port that no server has.",
        &[
            Nft("host", REJECT),
            Trace,
            Refused(
                refused("curl", Nonblocking, &["127.0.0.1", "10.77.0.1"], Filtered)
                    .by(By::Icmp)
                    .summary(&["(ICMP); without the filter: nothing-listening"])
                    .hints(&["a REJECT rule: nft list ruleset"]),
            ),
        ],
    ),
    scenario(
        "a_rule_rejects_and_the_server_is_elsewhere",
        "A REJECT rule answers for loopback, and the server listens on the LAN address only.",
        &[
            Listen("gateway", "10.77.0.1", &[]),
            Nft("host", REJECT),
            Trace,
            Refused(
                refused("curl", Blocking, &["127.0.0.1"], Filtered)
                    .by(By::Icmp)
                    .evaluates(&[("gateway", Address)])
                    .summary(&["without the filter: wrong-address"]),
            ),
        ],
    )
    .in_both_orders(),
    scenario(
        "a_rule_rejects_and_the_server_has_stopped",
        "A REJECT rule answers with ICMPv6, and the server on `::1` has ended.",
        &[
            Nft("host", REJECT),
            Trace,
            Listen("gateway", "[::1]", &[]),
            Exit("gateway", 1),
            Refused(
                refused("node", Blocking, &["[::1]"], Filtered)
                    .by(By::Icmp)
                    .evaluates(&[("gateway", Closed)])
                    .summary(&["without the filter: stopped"]),
            ),
        ],
    ),
];
