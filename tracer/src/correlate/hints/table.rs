//! The hints. For each cause the first row that fits is said: rows of one kind of owner stand before those of any.
//!
//! A new hint is one more row, and a story in tests/hints.rs that it is said of.

use super::Case;
use super::owner::Kind;
use super::words::{
    JOURNAL, REFUSED_CONFIGURATION, RESTART, access, at_once, claimed_bind, claimed_port, device, enter,
    guard, instead, is_asked_by, is_in_use, is_killed, is_loopback_only, is_newer, is_on_one_address,
    is_refused_configuration, is_v4_localhost, keep, lan, listen_stream, lives_on, opens_unasked, rewritten,
    rules, set_bind, start, systemctl,
};
use crate::claims::{Access, Source};
use crate::correlate::listeners::OwnerEnd;
use crate::correlate::wording::bracketed;
use crate::event::is_tailnet;
use crate::line::Cause::{
    self, BindFailed, BoundNotListening, Intercepted, NeverListened, NothingListening, OtherNetns, OtherPort,
    Remote, Starting, Stopped, WrongAddress, WrongDevice, WrongFamily,
};
use crate::line::{SentBy, Via};
use Kind::{DockerProxy, Kubectl, OpenClaw, Ssh, Sshd, Systemd, Tailscaled};

/// One hint.
pub struct Row {
    pub cause: Cause,
    /// Who owns the socket, or for EADDRINUSE who holds the port; `None`: whoever.
    pub owner: Option<Kind>,
    /// What else selects it, in words.
    pub when: &'static str,
    pub fits: fn(&Case<'_>) -> bool,
    pub hint: fn(&Case<'_>) -> String,
}

/// A row for one kind of owner.
const fn of(
    owner: Kind,
    cause: Cause,
    when: &'static str,
    fits: fn(&Case<'_>) -> bool,
    hint: fn(&Case<'_>) -> String,
) -> Row {
    Row { cause, owner: Some(owner), when, fits, hint }
}

/// A row for whoever owns the socket.
const fn any(
    cause: Cause,
    when: &'static str,
    fits: fn(&Case<'_>) -> bool,
    hint: fn(&Case<'_>) -> String,
) -> Row {
    Row { cause, owner: None, when, fits, hint }
}

const ALWAYS: fn(&Case<'_>) -> bool = |_| true;

/// In order: the first of a cause that fits.
pub const ROWS: &[Row] = &[
    // The address is nowhere on this host.
    any(Remote, "", ALWAYS, |case| {
        format!(
            "run `ss -ltn 'sport = :{port}'` on the host that has {}; for a translated address: conntrack -L -p tcp \
             --dport {port}",
            case.addr(),
            port = case.port(),
        )
    }),
    // A listener was up, and was not asked.
    any(
        Intercepted,
        "an ICMP message refused",
        |case| case.facts.refused.via == Via::Icmp,
        |case| format!("a REJECT rule: {}", rules(case)),
    ),
    any(
        Intercepted,
        "a reset that no TCP stack of this host sent",
        |case| case.facts.refused.sent_by == Some(SentBy::Filter),
        |case| format!("a REJECT rule with tcp-reset, or a translation to another host: {}", rules(case)),
    ),
    of(
        DockerProxy,
        Intercepted,
        "a reset by this host's TCP stack, for an address that is not loopback",
        |case| case.facts.refused.sent_by == Some(SentBy::Tcp) && !case.dst().is_loopback(),
        |case| {
            format!(
                "Docker's NAT leads the connect past docker-proxy into a container, and in there it is refused: `docker ps \
                 --filter publish={port}` names it; let its server listen on the container's own address and not on 127.0.0.1 alone, keep its authentication on, and change nothing on the host; conntrack -L -p tcp --dport {port} shows the way",
                port = case.port(),
            )
        },
    ),
    any(
        Intercepted,
        "a reset by this host's TCP stack",
        |case| case.facts.refused.sent_by == Some(SentBy::Tcp),
        |case| {
            format!(
                "conntrack -L -p tcp --dport {port}; nft list ruleset | grep -n {port}{}",
                case.facts.inside(),
                port = case.port(),
            )
        },
    ),
    any(Intercepted, "who refused is not known", ALWAYS, |case| {
        format!("conntrack -L -p tcp --dport {}; {}", case.port(), rules(case))
    }),
    // A listener is bound to another interface.
    any(
        WrongDevice,
        "a VRF is between the two",
        |case| device(case).is_none(),
        |_| "bind the server to the VRF (ip vrf exec), or set net.ipv4.tcp_l3mdev_accept=1".to_owned(),
    ),
    of(Systemd, WrongDevice, "", ALWAYS, |case| {
        format!(
            "connect to an address of {}, or take BindToDevice= out of the .socket unit (`{systemctl} list-sockets` names \
             it), then {systemctl} restart that unit",
            device(case).unwrap_or_default(),
            systemctl = systemctl(case),
        )
    }),
    any(WrongDevice, "", ALWAYS, |case| {
        format!(
            "connect to an address of {}, or start the server without binding it to the interface (SO_BINDTODEVICE)",
            device(case).unwrap_or_default()
        )
    }),
    // The server asked for the port and did not get it: EADDRINUSE, by who holds it.
    any(
        BindFailed,
        "EADDRINUSE, and the server holds the port itself",
        |case| is_in_use(case) && case.holds_it_itself(),
        |_| "the server holds the port itself: restart it".to_owned(),
    ),
    any(
        BindFailed,
        "EADDRINUSE, and it is an ssh that asks",
        |case| is_in_use(case) && is_asked_by(case, Ssh),
        |case| {
            format!(
                "ssh goes on without this forwarding, unless it has -o ExitOnForwardFailure=yes: forward another port (-L \
                 127.0.0.1:OTHER:HOST:PORT), or free this one{}",
                case.process
                    .and_then(|holder| holder.pid)
                    .map_or_else(String::new, |_| { format!(" ({} has it)", case.name()) })
            )
        },
    ),
    any(
        BindFailed,
        "EADDRINUSE, and it is a kubectl that asks",
        |case| is_in_use(case) && is_asked_by(case, Kubectl),
        |case| {
            format!(
                "forward another port (kubectl port-forward TARGET OTHER:PORT){}",
                case.process
                    .and_then(|holder| holder.pid)
                    .map_or_else(String::new, |_| { format!(", or free this one ({} has it)", case.name()) })
            )
        },
    ),
    of(DockerProxy, BindFailed, "EADDRINUSE", is_in_use, |case| {
        format!(
            "a container publishes this port: `docker ps --filter publish={port}` names it. Stop that container, or \
             publish it at another port (-p 127.0.0.1:OTHER:PORT); then start the server again. Ending docker-proxy \
             itself helps nobody",
            port = case.port(),
        )
    }),
    of(Tailscaled, BindFailed, "EADDRINUSE", is_in_use, |case| {
        let on_loopback = match is_asked_by(case, OpenClaw) {
            _ if case.bound_to().is_loopback() => "Let",
            true => "Let it listen on 127.0.0.1 only (gateway.bind \"loopback\"), or let",
            false => "Let the server listen on 127.0.0.1 only, or let",
        };
        format!(
            "tailscale serves this port: `tailscale serve status`. {on_loopback} tailscale serve another port; then start \
             the server again"
        )
    }),
    of(Ssh, BindFailed, "EADDRINUSE", is_in_use, |case| {
        format!(
            "an ssh forwards this port (-L): end it (kill {}), or let it forward another (-L 127.0.0.1:OTHER:HOST:PORT); \
             then start the server again",
            case.pid()
        )
    }),
    of(Sshd, BindFailed, "EADDRINUSE", is_in_use, |case| {
        format!(
            "somebody who is logged in forwards this port to their own host (ssh -R): let them end that, or end their \
             connection (kill {}); then start the server again",
            case.pid()
        )
    }),
    of(Kubectl, BindFailed, "EADDRINUSE", is_in_use, |case| {
        format!(
            "a kubectl port-forward has this port: end it (kill {}), or let it take another (kubectl port-forward TARGET \
             OTHER:PORT); then start the server again",
            case.pid()
        )
    }),
    of(Systemd, BindFailed, "EADDRINUSE", is_in_use, |case| {
        format!(
            "systemd holds the port for a .socket unit: `{systemctl} list-sockets` names it and the service that it \
             starts. Let that service have the port, or {systemctl} disable --now that .socket unit; then start the \
             server again. Do not end systemd",
            systemctl = systemctl(case),
        )
    }),
    any(
        BindFailed,
        "EADDRINUSE, and a process holds the port",
        // Nobody is told to end the first process.
        |case| is_in_use(case) && case.process.is_some_and(|holder| holder.pid.is_some_and(|pid| pid > 1)),
        |case| {
            format!(
                "if {} is a left-over, end it (kill {}); then start the server again",
                case.name(),
                case.pid()
            )
        },
    ),
    any(
        BindFailed,
        "EADDRINUSE, and what holds the port has no owner any more",
        |case| is_in_use(case) && case.process.is_some_and(|holder| holder.pid.is_none()),
        |_| {
            "wait until the old connection's TIME-WAIT is over (a minute), or let the server set SO_REUSEADDR"
                .to_owned()
        },
    ),
    any(BindFailed, "EADDRINUSE, and who holds the port is not known", is_in_use, |case| {
        format!("see who holds it: ss -tanp 'sport = :{}'{}", case.port(), case.facts.inside())
    }),
    any(
        BindFailed,
        "EADDRNOTAVAIL",
        |case| case.facts.errno() == Some(libc::EADDRNOTAVAIL),
        |case| {
            format!(
                "bring up the interface that has {}, then start the server again; or let it listen on an address that is \
                 there (ip addr)",
                bracketed(case.bound_to())
            )
        },
    ),
    any(
        BindFailed,
        "EACCES",
        |case| case.facts.errno() == Some(libc::EACCES),
        |_| {
            "CAP_NET_BIND_SERVICE for ports below net.ipv4.ip_unprivileged_port_start; else the policy's log"
                .to_owned()
        },
    ),
    any(BindFailed, "another error", ALWAYS, |case| format!("see the log of {}", case.name())),
    // A listener closed.
    of(OpenClaw, Stopped, "its process lives on", lives_on, |_| {
        "wait for RECOVERED; OpenClaw's restart in place takes 6-10 s, sometimes minutes".to_owned()
    }),
    of(
        DockerProxy,
        Stopped,
        "",
        |case| !lives_on(case),
        |_| {
            "docker-proxy ends when its container stops: docker ps -a, docker logs CONTAINER; start the container again"
            .to_owned()
        },
    ),
    of(Tailscaled, Stopped, "its process lives on", lives_on, |_| {
        "tailscaled listens while tailscale is up and serves the port: `tailscale status`, `tailscale serve status`"
            .to_owned()
    }),
    of(
        Ssh,
        Stopped,
        "its process has ended",
        |case| !lives_on(case),
        |_| {
            "the forwarding ends with its ssh: start it again; -o ServerAliveInterval=15 keeps an idle connection up".to_owned()
        },
    ),
    of(Sshd, Stopped, "", ALWAYS, |_| {
        "the forwarding (ssh -R) ends with the connection that asked for it: let its client connect again; -o \
         ExitOnForwardFailure=yes tells it when the port is not to be had"
            .to_owned()
    }),
    of(
        Kubectl,
        Stopped,
        "its process has ended",
        |case| !lives_on(case),
        |_| {
            "start kubectl port-forward again: it ends with its pod, and with its connection to the cluster"
                .to_owned()
        },
    ),
    of(Systemd, Stopped, "", ALWAYS, |case| {
        format!(
            "its .socket unit was stopped or has failed: `{systemctl} list-sockets --all`, {systemctl} status that unit; \
             start the .socket unit again, and not the service alone",
            systemctl = systemctl(case),
        )
    }),
    any(Stopped, "its process lives on", lives_on, |case| {
        format!("wait for the next LISTEN, or see the log of {} for why it closed its port", case.name())
    }),
    any(Stopped, "its process was ended by SIGKILL", is_killed, |_| {
        "start the server again; who sends SIGKILL: an operator, a supervisor's timeout, or the kernel out of memory \
         (journalctl -k | grep -i oom)"
            .to_owned()
    }),
    any(
        Stopped,
        "its process has ended",
        |case| matches!(case.end(), Some(OwnerEnd::Ended(_))),
        |case| format!("see its log for the end of {}, then start the server again", case.name()),
    ),
    any(Stopped, "who closed it is not known", ALWAYS, |_| {
        "start the server again, and see its log for why it closed".to_owned()
    }),
    // A listener has the other family only.
    any(
        WrongFamily,
        "its file asks for the address, and its sockets contradict it",
        |case| case.file_is_right() && case.is_contradicted() && case.is_older_than_the_file() == Some(true),
        |case| {
            let at_once = case.facts.answered_counterpart();
            let at_once = at_once.map_or_else(String::new, |other| {
                format!("use {} instead of localhost; or for good: ", bracketed(other))
            });
            format!("{at_once}{RESTART}")
        },
    ),
    of(
        OpenClaw,
        WrongFamily,
        "an IPv6 address that is not loopback",
        |case| case.dst().is_ipv6() && !case.dst().is_loopback(),
        |_| "use an IPv4 address of the same host: OpenClaw listens on no IPv6 address but [::1]".to_owned(),
    ),
    any(
        WrongFamily,
        "an address that is not loopback",
        |case| !case.dst().is_loopback(),
        |case| {
            format!(
                "use an {} address of the same host, or let the server listen on {} too, and {}",
                if case.dst().is_ipv6() { "IPv4" } else { "IPv6" },
                case.addr(),
                keep(case),
            )
        },
    ),
    any(
        WrongFamily,
        "it claims to listen on the address already",
        |case| case.claims_the_address() == Some(true),
        |case| {
            let at_once = case.facts.answered_counterpart();
            let at_once = at_once
                .map_or_else(String::new, |other| format!("use {} instead of localhost; ", bracketed(other)));
            format!("{at_once}its log says why it does not listen on {}", case.addr())
        },
    ),
    of(
        OpenClaw,
        WrongFamily,
        "IPv6 loopback",
        |case| case.dst().is_ipv6(),
        |case| {
            format!(
                "{}{} (listens on 127.0.0.1 and [::1], and on nothing else); then start a new process",
                instead(case),
                set_bind(case, "loopback")
            )
        },
    ),
    of(DockerProxy, WrongFamily, "loopback", ALWAYS, |case| {
        format!(
            "{}publish the port there too: docker run -p {}:{}:PORT",
            instead(case),
            case.addr(),
            case.port()
        )
    }),
    of(Ssh, WrongFamily, "loopback", ALWAYS, |case| {
        format!(
            "{}start ssh without {} and without an address before the port: -L {port}:HOST:PORT listens on both",
            instead(case),
            if case.dst().is_ipv6() { "-4 (AddressFamily inet)" } else { "-6 (AddressFamily inet6)" },
            port = case.port(),
        )
    }),
    of(Kubectl, WrongFamily, "loopback", ALWAYS, |case| {
        format!("{}kubectl port-forward --address localhost, which is both", instead(case))
    }),
    of(
        Systemd,
        WrongFamily,
        "loopback, and the socket is `::` for IPv6 only",
        |case| case.dst().is_ipv4() && case.bound_to().is_unspecified(),
        |case| {
            format!(
                "{}BindIPv6Only=both in the .socket unit (`{systemctl} list-sockets` names it), then {systemctl} restart \
                 that unit",
                instead(case),
                systemctl = systemctl(case),
            )
        },
    ),
    of(Systemd, WrongFamily, "loopback", ALWAYS, |case| format!("{}{}", instead(case), listen_stream(case))),
    any(WrongFamily, "loopback", ALWAYS, |case| {
        format!("{}let the server listen on {} too", instead(case), case.addr())
    }),
    // A listener is up, elsewhere. First where what is configured is not what is.
    any(
        WrongAddress,
        "its file asks for the address, and is younger than its process",
        |case| case.file_is_right() && case.is_older_than_the_file() == Some(true),
        |_| RESTART.to_owned(),
    ),
    any(
        WrongAddress,
        "its file asks for the address, and is older than its process",
        |case| case.file_is_right() && case.is_older_than_the_file() == Some(false),
        |_| {
            "the file is already right, and the process is younger than it: its log says why it listens elsewhere (the \
             address was not up when it started?); then start a new one"
                .to_owned()
        },
    ),
    any(
        WrongAddress,
        "its file asks for the address, and which of the two is older cannot be told",
        |case| case.file_is_right() && case.is_older_than_the_file().is_none(),
        |_| {
            "the file is already right, and whether the process started with it cannot be told: end it and start a new one; \
             if that one listens elsewhere too, its log says why"
                .to_owned()
        },
    ),
    any(
        WrongAddress,
        "its arguments or its environment ask for the address",
        |case| case.claims_the_address() == Some(true) && case.bind_source().is_some(),
        |case| {
            format!(
                "the bind by its {} is right already: its log says why it listens elsewhere (the address was not up when it \
                 started?); then start a new process",
                case.bind_source().map(Source::to_string).unwrap_or_default()
            )
        },
    ),
    any(
        WrongAddress,
        "its file asked for the address, and somebody took that back",
        |case| case.claims_the_address() == Some(false) && case.rewritten().is_some(),
        rewritten,
    ),
    any(
        WrongAddress,
        "its file asks for the address, and something wins over it",
        |case| case.wins_over_the_file().is_some(),
        |case| {
            format!(
                "the file is already right, and the {} of its {} wins over it: take that away, then start a new process",
                case.claims.map_or("bind", |claims| claims.product.bind()),
                case.wins_over_the_file().unwrap_or_default(),
            )
        },
    ),
    // In a container, by its address: the other side of a published port.
    of(
        OpenClaw,
        WrongAddress,
        "in another namespace than the client, by an IPv4 address",
        |case| case.facts.is_elsewhere() && case.dst().is_ipv4(),
        |case| {
            format!(
                "{} inside {} (opens every interface of it: {}), then start it anew; change nothing outside",
                set_bind(case, "lan"),
                case.facts.show_netns(case.facts.netns()),
                guard(case),
            )
        },
    ),
    of(
        OpenClaw,
        WrongAddress,
        "in another namespace than the client, by an IPv6 address",
        |case| case.facts.is_elsewhere(),
        |case| {
            format!(
                "OpenClaw listens on no IPv6 address but [::1]: use an IPv4 address of {}, and let it listen there",
                case.facts.show_netns(case.facts.netns()),
            )
        },
    ),
    any(
        WrongAddress,
        "in another namespace than the client",
        |case| case.facts.is_elsewhere(),
        |case| {
            format!(
                "let the server listen on {} inside {}, then start it anew; {}, and change nothing outside",
                case.addr(),
                case.facts.show_netns(case.facts.netns()),
                keep(case),
            )
        },
    ),
    any(
        WrongAddress,
        "what it listens on is no address any more",
        |case| !case.is_there(),
        |case| {
            format!(
                "{} is no address of this namespace any more: bring its interface back, or start the server on an address \
                 that is there",
                bracketed(case.bound_to())
            )
        },
    ),
    of(DockerProxy, WrongAddress, "", ALWAYS, |case| {
        format!(
            "at once: use {}. The container's port is published there only (docker ps); for good publish it at {addr} too: \
             docker run -p {addr}:{}:PORT{}",
            case.at(),
            case.port(),
            match case.dst().is_loopback() {
                true => "",
                false =>
                    ". The host's own INPUT rules (ufw) do not filter it: keep the authentication of what is in the container on",
            },
            addr = case.addr(),
        )
    }),
    of(Tailscaled, WrongAddress, "", ALWAYS, |case| {
        format!(
            "at once: use {}. tailscaled serves the tailnet only; on this host use the server that it leads to: `tailscale \
             serve status` names it",
            case.at(),
        )
    }),
    of(Ssh, WrongAddress, "", ALWAYS, |case| {
        let at_once = at_once(case);
        if case.dst().is_loopback() {
            format!("{at_once}. For good: -L 127.0.0.1:{}:HOST:PORT", case.port())
        } else {
            format!(
                "{at_once}; for other hosts -L {}:{}:HOST:PORT, which anybody may use: keep the authentication \
                 of what is behind it and a firewall on (-g or GatewayPorts would open every interface)",
                case.addr(),
                case.port(),
            )
        }
    }),
    of(Sshd, WrongAddress, "", ALWAYS, |case| {
        let at_once = at_once(case);
        if case.dst().is_loopback() {
            format!("{at_once}. For good: ssh -R 127.0.0.1:{}:HOST:PORT", case.port())
        } else {
            format!(
                "{at_once}; for other hosts GatewayPorts clientspecified in sshd_config and ssh -R {}:{}:HOST:PORT, which anybody may use: keep the authentication of what is behind it and a firewall on",
                case.addr(),
                case.port(),
            )
        }
    }),
    of(Kubectl, WrongAddress, "", ALWAYS, |case| {
        let at_once = at_once(case);
        if case.dst().is_loopback() {
            format!("{at_once}. For good: kubectl port-forward --address localhost")
        } else {
            format!(
                "{at_once}; for other hosts kubectl port-forward --address localhost,{}, which anybody may use: keep the \
                 authentication of what is behind it and a firewall on",
                case.dst(),
            )
        }
    }),
    of(Systemd, WrongAddress, "", ALWAYS, |case| {
        let keep = if case.dst().is_loopback() { "" } else { "; keep its authentication on" };
        format!("at once: use {}. For good: {}{keep}", case.at(), listen_stream(case))
    }),
    of(
        OpenClaw,
        WrongAddress,
        "it is to listen on loopback alone, and its tailnet address was asked for",
        |case| case.bound_to().is_loopback() && is_tailnet(case.dst()) && is_loopback_only(case),
        |case| {
            format!(
                "on this host use {}; for the tailnet gateway.tailscale.mode \"serve\", with gateway.bind \"loopback\" as it \
                 is: {}",
                case.at(),
                keep(case),
            )
        },
    ),
    of(
        OpenClaw,
        WrongAddress,
        "it listens on loopback, and another IPv4 address was asked for",
        |case| case.bound_to().is_loopback() && case.dst().is_ipv4() && !case.dst().is_loopback(),
        |case| {
            format!(
                "on this host use {}; for other hosts put a tunnel or a reverse proxy in front, or {} (opens every \
                 interface: {}), then start a new process",
                case.at(),
                set_bind(case, "lan"),
                guard(case),
            )
        },
    ),
    any(
        WrongAddress,
        "it listens on loopback",
        |case| case.bound_to().is_loopback(),
        |case| {
            format!(
                "on this host use {}; for other hosts put a tunnel or a reverse proxy in front, or let the server listen \
                 on {} and {}",
                case.at(),
                case.addr(),
                keep(case),
            )
        },
    ),
    of(
        OpenClaw,
        WrongAddress,
        "it listens on one address, [::1] was asked for",
        |case| is_on_one_address(case) && case.dst().is_ipv6() && case.dst().is_loopback(),
        |case| {
            format!(
                "at once: use http://{}. For good: {} (listens on 127.0.0.1 and [::1], and no longer on {}); then start a new \
                 process",
                case.at(),
                set_bind(case, "loopback"),
                bracketed(case.bound_to()),
            )
        },
    ),
    of(
        OpenClaw,
        WrongAddress,
        "it listens on one address, another IPv6 address was asked for",
        |case| is_on_one_address(case) && case.dst().is_ipv6(),
        |case| format!("use http://{}: OpenClaw listens on no IPv6 address but [::1]", case.at()),
    ),
    of(
        OpenClaw,
        WrongAddress,
        "it listens on one address, 127.0.0.1 was asked for, and its version is before 2026.8.1 or not known",
        |case| is_on_one_address(case) && is_v4_localhost(case) && is_newer(case) != Some(true),
        |case| {
            format!(
                "at once: use http://{}. For good: OpenClaw 2026.8.1 or later, or {}",
                case.at(),
                lan(case)
            )
        },
    ),
    of(
        OpenClaw,
        WrongAddress,
        "it listens on one address, another was asked for",
        is_on_one_address,
        |case| format!("at once: use http://{}. For good: {}", case.at(), lan(case)),
    ),
    any(WrongAddress, "", ALWAYS, |case| {
        format!(
            "at once: use {}. For good: let the server listen on {} too{}",
            case.at(),
            case.addr(),
            if case.dst().is_loopback() { String::new() } else { format!(", and {}", keep(case)) },
        )
    }),
    // A socket has the port and does not listen.
    any(BoundNotListening, "", ALWAYS, |case| {
        format!("it is still starting, or stuck: see its log, or `strace -f -p {}`", case.pid())
    }),
    // A candidate is alive.
    any(
        Starting,
        "the client is in a pod",
        |case| {
            case.facts.refused.client.container.as_ref().is_some_and(|container| container.pod_uid.is_some())
        },
        |_| "give it a startupProbe; a liveness probe now would kill it before it listens".to_owned(),
    ),
    of(OpenClaw, Starting, "", ALWAYS, |_| {
        "wait for RECOVERED (OpenClaw takes 6-10 s, sometimes minutes), and let clients wait for it too"
            .to_owned()
    }),
    any(Starting, "", ALWAYS, |_| "wait for RECOVERED, and let clients wait for it too".to_owned()),
    // A candidate has ended.
    of(
        OpenClaw,
        NeverListened,
        "exit code 78, and it claims to listen beyond loopback without a token or password",
        |case| is_refused_configuration(case) && opens_unasked(case),
        |case| {
            format!(
                "{REFUSED_CONFIGURATION}. It claims {}, and no token or password: {}, or {}",
                claimed_bind(case),
                set_bind(case, "loopback"),
                guard(case),
            )
        },
    ),
    of(
        OpenClaw,
        NeverListened,
        "exit code 78, and it claims a token or password",
        |case| is_refused_configuration(case) && matches!(access(case), Some(Access::Asked(_))),
        |_| format!("{REFUSED_CONFIGURATION}: {JOURNAL} names the setting"),
    ),
    of(OpenClaw, NeverListened, "exit code 78", is_refused_configuration, |_| {
        format!("{REFUSED_CONFIGURATION}: {JOURNAL} (often: non-loopback bind without gateway.auth.token)")
    }),
    any(NeverListened, "ended by SIGKILL", is_killed, |_| {
        "who sends SIGKILL: a supervisor's timeout, or the kernel out of memory (journalctl -k | grep -i oom)"
            .to_owned()
    }),
    any(NeverListened, "", ALWAYS, |case| format!("see the log for the end of {}", case.name())),
    // A listener is in another namespace.
    of(
        DockerProxy,
        OtherNetns,
        "it listens beyond loopback",
        |case| !case.bound_to().is_loopback(),
        |case| {
            format!(
                "from in here ask the container by its name, on a Docker network that both are in, or the host: \
                 host.docker.internal:{} (docker run --add-host host.docker.internal:host-gateway)",
                case.port()
            )
        },
    ),
    of(DockerProxy, OtherNetns, "it listens on loopback", ALWAYS, |_| {
        "from in here ask the container by its name, on a Docker network that both are in: on the host it is published for \
         the host alone"
            .to_owned()
    }),
    any(
        OtherNetns,
        "it listens on its own loopback",
        |case| case.bound_to().is_loopback() && enter(case).is_some(),
        |case| {
            format!(
                "to reach it from in there: {} COMMAND; it listens on its own loopback only, so that a published port \
                 would be refused too",
                enter(case).unwrap_or_default()
            )
        },
    ),
    any(
        OtherNetns,
        "it can be entered",
        |case| enter(case).is_some(),
        |case| {
            format!(
                "to reach it from in there: {} COMMAND; from here, publish or forward the port (docker -p, kubectl \
                 port-forward)",
                enter(case).unwrap_or_default()
            )
        },
    ),
    any(
        OtherNetns,
        "",
        |case| !case.bound_to().is_loopback(),
        |_| "to reach it from here, publish or forward the port (docker -p, kubectl port-forward)".to_owned(),
    ),
    // The server is on another port.
    any(
        OtherPort,
        "it claims that port",
        |case| claimed_port(case).is_some(),
        |case| {
            format!(
                "its {} by {}: let the client use that one, or give the server port {}",
                case.claims.map_or("port", |claims| claims.product.port()),
                claimed_port(case).unwrap_or_default(),
                case.port(),
            )
        },
    ),
    any(OtherPort, "", ALWAYS, |case| {
        format!(
            "let the client use port {}, or start the server with port {}",
            case.socket.map_or(0, |socket| socket.port),
            case.port()
        )
    }),
    // Nothing is there.
    any(
        NothingListening,
        "a packet filter refused",
        |case| case.facts.is_filtered(),
        |case| format!("{}; and a REJECT rule would refuse it still: nft list ruleset", start(case)),
    ),
    any(NothingListening, "", ALWAYS, start),
];
