//! What each cause means, how it is known and what to do, in general: one entry a cause. `tracer explain` prints them.

use super::schema;
use crate::model::cause::Cause;
use crate::verdict::rules::{self, RULES};

/// A cause in words.
pub struct Explanation {
    pub cause: Cause,
    pub means: &'static str,
    pub known: &'static str,
    /// What to do. What is particular to a product, the product adds.
    pub remedy: &'static str,
}

/// Every cause by its published name, in the order in which causes are tried.
pub fn in_order() -> impl Iterator<Item = schema::Cause> {
    RULES.iter().map(|rule| rule.cause.into())
}

/// The cause that is tried before another; `None`: it is the first.
pub fn before(cause: schema::Cause) -> Option<schema::Cause> {
    let place = rules::place(cause.into()).checked_sub(1)?;
    RULES.get(place).map(|rule| rule.cause.into())
}

/// A cause in words.
pub fn explanation(cause: schema::Cause) -> &'static Explanation {
    &EXPLANATIONS[rules::place(cause.into())]
}

/// In the order of the rules.
static EXPLANATIONS: [Explanation; RULES.len()] = [
    Explanation {
        cause: Cause::Filtered,
        means: "A packet filter of this host refused the connect: an nftables or iptables rule with `reject`, or a \
                Service that has no endpoints. No listener covers the address either.",
        known: "An ICMP message refused it (`via` `icmp`), or a reset that no TCP stack of this host sent (`sent_by` \
                `filter`), for an address that is local here. A reset may also come from where the address is \
                translated to, so that it alone is not certain. For another host's address: the ICMP message came in \
                by `lo`, so that the client's own namespace sent it, or by a veth whose other end is in a namespace \
                that has the sender's address, such as the host's for a container. An IPv6 socket keeps no such \
                message, unless its program asks for it: there the verdict is `remote`.",
        remedy: "`nft list ruleset | grep -n -e PORT -e reject`, `iptables-save | grep REJECT`, in the namespace that the \
               summary names, else in the client's. The summary names what else is wrong.",
    },
    Explanation {
        cause: Cause::Remote,
        means: "The address belongs to no network namespace of this host. The sender of the refusal is on another host, or the \
                address is translated on its way: a Service's, a published port's.",
        known: "No namespace has a local route to it (rtnetlink, read again for each such refusal). `sent_by` `tcp` means \
                that a TCP stack of this host sent the reset all the same: then it was translated to an address here. \
                The verdict is never certain, for a translation leaves no trace in a socket.",
        remedy: "Run tracer, or `ss -ltn`, on the host that has the address. For a translated one, query the \
               translation: `conntrack -L -p tcp --dport PORT`, `nft list ruleset`, `kubectl get endpoints`.",
    },
    Explanation {
        cause: Cause::Intercepted,
        means: "A listener was up at the address, and was not asked: a packet filter's REJECT, a translation or redirect \
                to where nothing listens, an sk_lookup or reuseport program.",
        known: "A socket in LISTEN covers the address, the port and the device, since 10 ms before the connect at least. \
                An ICMP message (`via` `icmp`) or a reset that no TCP stack of this host sent (`sent_by` `filter`) is a \
                filter's; a reset of the stack's own (`sent_by` `tcp`) means that the connect was led elsewhere.",
        remedy: "`nft list ruleset | grep -n -e PORT -e reject`, `iptables-save`, `conntrack -L -p tcp --dport PORT`. The \
               server needs no change.",
    },
    Explanation {
        cause: Cause::WrongDevice,
        means: "A listener has the address and the port, and is bound to another network interface, or the connect is \
                made in a VRF that it is not part of.",
        known: "SO_BINDTODEVICE of the listening socket, against the interface that carries the address: `lo` for \
                loopback, for others the one that has it.",
        remedy: "Connect to an address of that interface, or start the server without binding it to one. In a VRF: `ip \
               vrf exec`, or net.ipv4.tcp_l3mdev_accept=1.",
    },
    Explanation {
        cause: Cause::BindFailed,
        means: "The server asked for the port and did not get it: another process holds it, the address is not there, or \
                it may not.",
        known: "The last bind() or listen() on the port failed, with the error and the time that are shown, and none has \
                succeeded since. For EADDRINUSE the sockets that hold the port are queried: listeners, old \
                connections in TIME-WAIT, clients' own ports.",
        remedy: "End the left-over that holds the port, or wait for the TIME-WAIT to pass (a minute), or let the server \
               set SO_REUSEADDR; a port that connections of this host take by themselves is to be in \
               net.ipv4.ip_local_reserved_ports. For EADDRNOTAVAIL bring the address up first, or let the server bind it \
               before (FreeBind=yes, net.ipv4.ip_nonlocal_bind); for EACCES give it CAP_NET_BIND_SERVICE. Then start it \
               again.",
    },
    Explanation {
        cause: Cause::Stopped,
        means: "A listener was up at this address, and closed. Its process is still running (a restart inside of it), or has \
                ended.",
        known: "The socket left LISTEN while it was traced, and nothing has opened on the port since. Who closed it, the \
                exit code or the signal are the kernel's.",
        remedy: "Wait for RECOVERED while a restart is under way; else start the server again, and read its log, or \
               after SIGKILL in the kernel's (`journalctl -k | grep -i oom`), for why it ended.",
    },
    Explanation {
        cause: Cause::WrongFamily,
        means: "The server listens for the other address family only: on 127.0.0.1 and not on ::1, or the reverse. \
                `localhost` is both, and some clients try one of them alone.",
        known: "A listener covers the counterpart of the address, or is `::` with IPV6_V6ONLY where IPv4 is asked for.",
        remedy: "Use the address that is answered instead of `localhost`, or let the server listen on both.",
    },
    Explanation {
        cause: Cause::WrongAddress,
        means: "The server is up, and listens on another address than the one that the client uses. Its log does not \
                name the address.",
        known: "The listening sockets on the port in the address's network namespace, from the kernel's own list, and \
                what each is bound to. The configured values are shown beside it.",
        remedy: "Now: use the address that it listens on. Permanent fix: change its bind, and start a new process: many \
               servers keep the bind that they were started with. Before it listens on every interface, set its \
               authentication and a firewall.",
    },
    Explanation {
        cause: Cause::BoundNotListening,
        means: "A socket has the port, and listen() has not been called on it: a server that is still starting, or is \
                stuck between the two.",
        known: "The bind() was seen to succeed, or a query of the port has found it, and the socket is neither listening \
                nor connected.",
        remedy: "See its log, or where it hangs: `strace -f -p PID`, `cat /proc/PID/stack`.",
    },
    Explanation {
        cause: Cause::OtherPort,
        means: "The process that had the port last, or a server candidate, listens on another port; or a \
                forwarder, such as docker-proxy, socat or `ssh -L`, leads from another port to this one of another place.",
        known: "Its listening sockets, from the kernel's list. What a forwarder leads to, from its arguments; it counts while \
                it runs and listens there.",
        remedy: "Use the port that it listens on, or give it the one that clients use, and watch the other: `-p PORT`.",
    },
    Explanation {
        cause: Cause::NotOnTcp,
        means: "The server is running and listens on a Unix socket, or on UDP, and on no TCP port.",
        known: "The sockets that its process has open, from the tables of its network namespace. A server that has \
                started less than five seconds ago may still open the port.",
        remedy: "Let the client use the Unix socket, or let the server listen on the port as well.",
    },
    Explanation {
        cause: Cause::Starting,
        means: "A server candidate, known by its name or arguments, runs and has not listened yet.",
        known: "No listener and no bound socket is on the port in the namespace; the process is running. That it is the \
                server is not verified.",
        remedy: "Wait for RECOVERED, and let clients retry. For a probe: a startupProbe, so that a liveness probe does not \
               end what is still starting.",
    },
    Explanation {
        cause: Cause::NeverListened,
        means: "A server candidate has ended without listening: a crash loop, a configuration that \
                it refuses.",
        known: "Its exit code or signal, from the kernel, and that no socket of its was ever in LISTEN; ends like it are \
                counted for a minute.",
        remedy: "Its log shows why.",
    },
    Explanation {
        cause: Cause::OtherNetns,
        means: "Nothing is on the port where the client asked; a listener is in another network namespace of this host: \
                a container, a pod.",
        known: "The listeners of every network namespace, read with sock_diag in each, and followed as they change.",
        remedy: "Ask from inside that namespace (`nsenter -t PID -n`, `ip netns exec`, `kubectl exec`), or publish or forward the port. \
               One that listens on its own loopback only cannot be published: change that first.",
    },
    Explanation {
        cause: Cause::NothingListening,
        means: "No socket is on the port, no server candidate is running, and none was seen to end.",
        known: "The absence of all of the above, after one more scan of every network namespace.",
        remedy: "Start the server. If it runs under another name: `--server TEXT`; on another port: `ss -ltnp`.",
    },
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::json;

    #[test]
    fn each_cause_is_explained_in_the_order_of_the_rules() {
        let explained = EXPLANATIONS.iter().map(|one| schema::Cause::from(one.cause));
        assert!(explained.eq(in_order()));
        assert_eq!(before(schema::Cause::Filtered), None);
        assert_eq!(before(schema::Cause::Remote), Some(schema::Cause::Filtered));
    }

    #[test]
    fn the_schema_lists_causes_in_the_order_of_the_rules() {
        let schema = json::schema();
        let published = schema["$defs"]["Cause"]["oneOf"].as_array().unwrap();
        let published: Vec<&str> = published.iter().map(|one| one["const"].as_str().unwrap()).collect();
        assert_eq!(published, in_order().map(schema::Cause::name).collect::<Vec<_>>());
    }
}
