//! A listener covers the address, and never saw the connect: a packet filter or a translation came first.

use super::words::*;

pub const GROUP: Group = Group { cause: Cause::Intercepted, scenarios: SCENARIOS };

/// The port is led to one without a listener.
const REDIRECT: &str = "table inet translation {
    chain output {
        type nat hook output priority -100
        tcp dport {port} redirect to :{other port}
    }
}";

/// An address of the host's that is on no veth pair to a container.
const LAN: &str = "addr add 10.78.0.1/24 dev eth0
    addr add fd78::1/64 dev eth0 nodad";

const BACK: &str = "route add default via 10.x.y.1
    route add default via fd00:p::1";

/// What docker does with a published port, for connects from the host itself.
const PUBLISH: &str = "table ip translation {
    chain output {
        type nat hook output priority -100
        ip daddr 10.78.0.1 tcp dport {port} dnat to 10.x.y.2:{port}
    }
}";

/// The same without a proxy: localhost too is translated, with an address that the container can answer to.
const MASQUERADE: &str = "table ip translation {
    chain output {
        type nat hook output priority -100
        ip daddr 127.0.0.1 tcp dport {port} dnat to 10.x.y.2:{port}
    }
    chain postrouting {
        type nat hook postrouting priority 100
        oifname eth1 masquerade
    }
}";

const PUBLISH_V6: &str = "table ip6 translation {
    chain output {
        type nat hook output priority -100
        ip6 daddr fd78::1 tcp dport {port} dnat to [fd00:p::2]:{port}
    }
}";

/// A client that uses IPv6 sockets for IPv4.
const JAVA: Refusal = refused("java", Nonblocking, &[MAPPED], Intercepted).covered_by(&["gateway"]);

const MAPPED_REJECTED: Step = Refused(JAVA.by(By::Icmp));
const MAPPED_RESET: Step = Refused(JAVA.by(By::Reset));

const SCENARIOS: &[Scenario] = &[
    scenario(
        "a_firewall_rejects",
        "A REJECT rule on the way in answers with ICMP; a client that does not block gets the error immediately.",
        &[
            Nft("host", REJECT),
            Listen("gateway", "0.0.0.0", &[]),
            Trace,
            Refused(
                refused("curl", Nonblocking, &["127.0.0.1", "10.77.0.1"], Intercepted)
                    .by(By::Icmp)
                    .covered_by(&["gateway"])
                    .summary(&["{gateway} listens on 0.0.0.0:{port} and was not asked: ICMP port-unreachable"])
                    .hints(&["a REJECT rule: nft list ruleset"]),
            ),
            MAPPED_REJECTED,
        ],
    )
    .in_both_orders(),
    scenario(
        "a_firewall_rejects_who_waits",
        "A REJECT rule answers clients that block: the refusal takes a second, until the SYN is sent \
         again.",
        &[
            Nft("host", REJECT),
            Listen("gateway", "127.0.0.1", &[]),
            Trace,
            Refused(
                refused("curl", Blocking, &["127.0.0.1"], Intercepted).by(By::Icmp).covered_by(&["gateway"]),
            ),
        ],
    )
    .in_both_orders(),
    scenario(
        "a_firewall_rejects_ipv6",
        "A REJECT rule answers IPv6 by ICMPv6, and by ICMP the IPv4 that the same server takes.",
        &[
            Nft("host", REJECT),
            Listen("gateway", "[::]", &[]),
            Trace,
            Refused(
                refused("node", Nonblocking, &["[::1]", "[fd77::1]"], Intercepted)
                    .by(By::Icmp)
                    .covered_by(&["gateway"]),
            ),
            MAPPED_REJECTED,
        ],
    )
    .in_both_orders(),
    scenario(
        "a_firewall_rejects_ipv6_who_waits",
        "ICMPv6 for a client that blocks, and a server on `::1`.",
        &[
            Nft("host", REJECT),
            Trace,
            Listen("gateway", "[::1]", &[]),
            Refused(refused("curl", Blocking, &["[::1]"], Intercepted).by(By::Icmp).covered_by(&["gateway"])),
        ],
    ),
    scenario(
        "a_firewall_resets",
        "A rule answers with a TCP reset, which has the form of the stack's own.",
        &[
            Nft("host", RESET),
            Listen("gateway", "0.0.0.0", &[]),
            Trace,
            Refused(
                refused("curl", Blocking, &["127.0.0.1", "10.77.0.1"], Intercepted)
                    .by(By::Reset)
                    .covered_by(&["gateway"])
                    .summary(&["{gateway} listens on 0.0.0.0:{port} and was not asked"]),
            ),
            MAPPED_RESET,
        ],
    )
    .in_both_orders(),
    scenario(
        "a_firewall_resets_ipv6",
        "A rule answers with a TCP reset to IPv6, and to the IPv4 that an IPv6 server takes.",
        &[
            Nft("host", RESET),
            Listen("gateway", "[::]", &[]),
            Trace,
            Refused(
                refused("node", Nonblocking, &["[::1]", "[fd77::1]", "127.0.0.1"], Intercepted)
                    .by(By::Reset)
                    .covered_by(&["gateway"]),
            ),
            Refused(
                refused("curl", Blocking, &["[::1]"], Intercepted).by(By::Reset).covered_by(&["gateway"]),
            ),
        ],
    )
    .in_both_orders(),
    scenario(
        "a_firewall_before_a_server_on_an_interface",
        "The servers are bound to the very interfaces that the clients come to.",
        &[
            Nft("host", RESET),
            Listen("lan", "0.0.0.0", &[ToDevice("eth0")]),
            Listen("local", "[::]", &[ToDevice("lo")]),
            Trace,
            Refused(
                refused("curl", Blocking, &["10.77.0.1"], Intercepted)
                    .by(By::Reset)
                    .covered_by(&["lan"])
                    .evaluates(&[("local", Device)]),
            ),
            Refused(
                refused("node", Nonblocking, &["[::1]"], Intercepted)
                    .by(By::Reset)
                    .covered_by(&["local"])
                    .evaluates(&[("lan", Family)]),
            ),
        ],
    )
    .in_both_orders(),
    scenario(
        "a_redirect_to_a_closed_port",
        "A leftover redirect rule leads the port to another one without a listener.",
        &[
            Nft("host", REDIRECT),
            Listen("gateway", "0.0.0.0", &[]),
            Trace,
            Refused(
                refused("curl", Blocking, &["127.0.0.1"], Intercepted)
                    .covered_by(&["gateway"])
                    .hints(&["conntrack -L -p tcp --dport {port}"]),
            ),
            Refused(refused("node", Nonblocking, &["10.77.0.1"], Intercepted).covered_by(&["gateway"])),
        ],
    )
    .needs(&[Need::Nat]),
    scenario(
        "a_published_port_and_a_gateway_on_its_own_loopback",
        "The host's address is translated to a container's, whose gateway listens on the container's 127.0.0.1.",
        &[
            Namespace("container"),
            Join("container"),
            Ip("host", LAN),
            Ip("container", BACK),
            Nft("host", PUBLISH),
            Listen("docker-proxy", "0.0.0.0", &[]),
            Listen("gateway", "127.0.0.1", &[]),
            Trace,
            Refused(
                refused("curl", Blocking, &["10.78.0.1"], Intercepted)
                    .covered_by(&["docker-proxy"])
                    .evaluates(&[("gateway", Netns)])
                    .hints(&["conntrack -L -p tcp --dport {port}"]),
            ),
        ],
    )
    .needs(&[Need::Nat])
    .processes(CONTAINED),
    scenario(
        "localhost_masqueraded_to_a_container",
        "Both addresses of the connect are translated on the way, and still it is a TCP stack of this host that resets.",
        &[
            Namespace("container"),
            Join("container"),
            Nft("host", MASQUERADE),
            Sysctl("host", "net/ipv4/conf/eth1/route_localnet", "1"),
            Listen("docker-proxy", "0.0.0.0", &[]),
            Trace,
            Refused(
                refused("curl", Blocking, &["127.0.0.1"], Intercepted)
                    .covered_by(&["docker-proxy"])
                    .hints(&["conntrack -L -p tcp --dport {port}"]),
            ),
        ],
    )
    .needs(&[Need::Nat]),
    scenario(
        "a_published_v6_port_without_a_listener",
        "The host's IPv6 address is translated to a container's, in which nothing listens.",
        &[
            Namespace("container"),
            Join("container"),
            Ip("host", LAN),
            Ip("container", BACK),
            Nft("host", PUBLISH_V6),
            Trace,
            Listen("docker-proxy", "[::]", &[]),
            Refused(refused("node", Nonblocking, &["[fd78::1]"], Intercepted).covered_by(&["docker-proxy"])),
        ],
    )
    .needs(&[Need::Nat]),
    scenario(
        "a_restart_behind_a_firewall",
        "The server is restarted behind a rule that resets: no recovery is reported.",
        &[
            Nft("host", RESET),
            Listen("gateway", "0.0.0.0", &[]),
            Trace,
            Refused(
                refused("curl", Blocking, &["127.0.0.1", "10.77.0.1"], Intercepted)
                    .by(By::Reset)
                    .covered_by(&["gateway"]),
            ),
            Close("gateway"),
            Listen("successor", "0.0.0.0", &[]),
            Refused(
                refused("node", Blocking, &["127.0.0.1"], Intercepted)
                    .by(By::Reset)
                    .covered_by(&["successor"])
                    .evaluates(&[("gateway", Closed)]),
            ),
        ],
    ),
];
