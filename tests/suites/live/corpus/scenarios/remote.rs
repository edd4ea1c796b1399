//! The address belongs to no namespace of this host. Another host cannot be staged, since whatever has the address
//! on this host makes it local here; what can is a rule that refuses in its place, on the way out.

use super::words::*;

pub const GROUP: Group = Group { cause: Cause::Remote, scenarios: SCENARIOS };

/// Addresses of documentation, by RFC 5737 and RFC 3849.
const ROUTES: &str = "route add 198.51.100.7 dev eth0
    route add 2001:db8:77::7 dev eth0";

const RESET: &str = "table inet firewall {
    chain output {
        type filter hook output priority 0
        ip daddr 198.51.100.7 tcp dport {port} reject with tcp reset
        ip6 daddr 2001:db8:77::7 tcp dport {port} reject with tcp reset
    }
}";

const REJECT: &str = "table inet firewall {
    chain output {
        type filter hook output priority 0
        ip6 daddr 2001:db8:77::7 tcp dport {port} reject
    }
}";

/// A Service's address, which is led to a port of this host without a listener.
const SERVICE: &str = "table ip translation {
    chain output {
        type nat hook output priority -100
        ip daddr 198.51.100.7 tcp dport {port} dnat to 10.77.0.1:{other port}
    }
}";

const SCENARIOS: &[Scenario] = &[
    scenario(
        "another_host_resets",
        "The client's configuration names another host, which refuses.",
        &[
            Ip("host", ROUTES),
            Nft("host", RESET),
            Trace,
            Refused(
                refused("curl", Blocking, &["198.51.100.7"], Remote)
                    .by(By::Reset)
                    .because(&[Because::MayBeTranslated])
                    .summary(&["198.51.100.7 belongs to no network namespace of this host"])
                    .hints(&["on the host that has 198.51.100.7", "conntrack -L -p tcp --dport {port}"]),
            ),
            Refused(
                refused("java", Nonblocking, &["[::ffff:198.51.100.7]"], Remote)
                    .by(By::Reset)
                    .because(&[Because::MayBeTranslated]),
            ),
        ],
    ),
    scenario(
        "another_host_resets_ipv6",
        "The client's configuration names another host by its IPv6 address.",
        &[
            Ip("host", ROUTES),
            Nft("host", RESET),
            Trace,
            Refused(
                refused("node", Nonblocking, &["[2001:db8:77::7]"], Remote)
                    .by(By::Reset)
                    .because(&[Because::MayBeTranslated]),
            ),
            Refused(
                refused("curl", Blocking, &["[2001:db8:77::7]"], Remote)
                    .by(By::Reset)
                    .because(&[Because::MayBeTranslated]),
            ),
        ],
    ),
    scenario(
        "a_firewall_on_the_way_rejects",
        "A packet filter answers by ICMPv6 in another host's place: the kernel does not keep who sent it.",
        &[
            Ip("host", ROUTES),
            Nft("host", REJECT),
            Trace,
            Refused(
                refused("node", Nonblocking, &["[2001:db8:77::7]"], Remote)
                    .by(By::Icmp)
                    .because(&[Because::MayBeTranslated]),
            ),
            Refused(
                refused("curl", Blocking, &["[2001:db8:77::7]"], Remote)
                    .by(By::Icmp)
                    .because(&[Because::MayBeTranslated]),
            ),
        ],
    ),
    scenario(
        "a_server_here_does_not_matter",
        "A server on every address of this host does not change another host's refusal.",
        &[
            Ip("host", ROUTES),
            Nft("host", RESET),
            Listen("gateway", "[::]", &[]),
            Trace,
            Refused(
                refused("curl", Blocking, &["198.51.100.7"], Remote)
                    .by(By::Reset)
                    .because(&[Because::MayBeTranslated])
                    .evaluates(&[("gateway", Netns)]),
            ),
            Refused(
                refused("java", Nonblocking, &["[::ffff:198.51.100.7]"], Remote)
                    .by(By::Reset)
                    .because(&[Because::MayBeTranslated])
                    .evaluates(&[("gateway", Netns)]),
            ),
            Refused(
                refused("node", Nonblocking, &["[2001:db8:77::7]"], Remote)
                    .by(By::Reset)
                    .because(&[Because::MayBeTranslated])
                    .evaluates(&[("gateway", Netns)]),
            ),
        ],
    )
    .in_both_orders(),
    scenario(
        "a_service_address",
        "A cluster's Service address is translated to this host, to a port without a listener.",
        &[
            Ip("host", ROUTES),
            Nft("host", SERVICE),
            Trace,
            Refused(
                refused("curl", Blocking, &["198.51.100.7"], Remote).because(&[Because::MayBeTranslated]),
            ),
        ],
    )
    .needs(&[Need::Nat]),
];
