//! The table of hints. For each cause the first row that fits is given: rows of one kind of owner stand before those of any.
//! The rows of products stand in their own folders, and have their places here by `Entry::Products`.
//!
//! A new hint is one more row, and an example of it in tests/suites/hints.rs.

use crate::model::cause::Cause::{
    self, BindFailed, BoundNotListening, Filtered, Intercepted, NeverListened, NotOnTcp, NothingListening,
    OtherNetns, OtherPort, Remote, Starting, Stopped, WrongAddress, WrongDevice, WrongFamily,
};
use crate::model::errno::Errno;
use crate::model::kernel_event::SentBy;
use crate::model::kernel_event::Via;
use crate::model::process::OwnerEnd;
use crate::output::hints::case::Case;
use crate::output::hints::owner::Kind;
use crate::output::hints::words::{
    RESTART, STRANGE, STRANGE_NAME, asker, configured_port, device, enter, has_ended, has_kept_ports,
    is_asked_for_by_client, is_held_by_connection, is_held_by_own_service, is_in_use, is_killed, is_own,
    is_still_running, is_strange, listen_stream, of_other_user, own, restart_asker, rewritten, rules, start,
    systemctl, takes_one_connection, use_now,
};
use crate::output::subject::PRIVILEGED;
use crate::products::hint::{HintRow, Place, in_url};
use crate::products::{ProductRef, registry};
use Kind::{DockerProxy, Kubectl, Netcat, Podman, Socat, Ssh, Sshd, Systemd, Tailscaled};

/// A generic hint.
pub struct Row {
    pub cause: Cause,
    /// Who owns the socket, or for EADDRINUSE who holds the port; `None`: any process.
    pub owner: Option<Kind>,
    /// What else selects it, in words.
    pub when: &'static str,
    advice: Advice,
}

/// When a row fits, and its text.
#[derive(Clone, Copy)]
enum Advice {
    /// It fits where the condition holds.
    Where(fn(&Case<'_>) -> bool, fn(&Case<'_>) -> String),
    /// It fits where what its text names is known.
    Known(fn(&Case<'_>) -> Option<String>),
}

impl Advice {
    fn fits(self, case: &Case<'_>) -> bool {
        match self {
            Self::Where(fits, _) => fits(case),
            Self::Known(hint) => hint(case).is_some(),
        }
    }

    fn hint(self, case: &Case<'_>) -> Option<String> {
        match self {
            Self::Where(_, hint) => Some(hint(case)),
            Self::Known(hint) => hint(case),
        }
    }
}

/// One place of the table.
enum Entry {
    Row(Row),
    /// The rows of the products for this cause and place.
    Products(Cause, Place),
}

/// A row of the table or of a product.
#[derive(Clone, Copy)]
pub enum AnyRow {
    Generic(&'static Row),
    Product(ProductRef, &'static HintRow),
}

impl AnyRow {
    pub fn cause(self) -> Cause {
        match self {
            Self::Generic(row) => row.cause,
            Self::Product(_, row) => row.cause,
        }
    }

    /// The owner that it is for, or `any`.
    pub fn owner(self) -> &'static str {
        match self {
            Self::Generic(row) => row.owner.map_or("any", Kind::name),
            Self::Product(product, _) => Kind::Product(product).name(),
        }
    }

    pub fn when(self) -> &'static str {
        match self {
            Self::Generic(row) => row.when,
            Self::Product(_, row) => row.when,
        }
    }

    pub fn fits(self, case: &Case<'_>) -> bool {
        let is_of = |kind| kind == case.kind;
        self.cause() == case.facts.cause
            && match self {
                Self::Generic(row) => row.owner.is_none_or(is_of) && row.advice.fits(case),
                Self::Product(product, row) => is_of(Kind::Product(product)) && (row.fits)(&case.facts),
            }
    }

    /// Its text; `None`: it does not fit.
    pub fn hint(self, case: &Case<'_>) -> Option<String> {
        match self {
            Self::Generic(row) => row.advice.hint(case),
            Self::Product(_, row) => Some((row.hint)(&case.facts)),
        }
    }
}

/// The table with the rows of every registered product.
pub fn rows() -> impl Iterator<Item = AnyRow> {
    rows_of(registry())
}

/// The table with the rows of these products.
pub fn rows_of(products: &[ProductRef]) -> impl Iterator<Item = AnyRow> {
    TABLE.iter().flat_map(move |entry| {
        let (own, place) = match entry {
            Entry::Row(row) => (Some(AnyRow::Generic(row)), None),
            Entry::Products(cause, place) => (None, Some((*cause, *place))),
        };
        let of_products = place.into_iter().flat_map(move |place| {
            let rows =
                products.iter().flat_map(|product| product.hints().iter().map(move |row| (*product, row)));
            rows.filter(move |(_, row)| (row.cause, row.place) == place)
                .map(|(product, row)| AnyRow::Product(product, row))
        });
        own.into_iter().chain(of_products)
    })
}

/// A row for one kind of owner.
const fn of(
    owner: Kind,
    cause: Cause,
    when: &'static str,
    fits: fn(&Case<'_>) -> bool,
    hint: fn(&Case<'_>) -> String,
) -> Entry {
    Entry::Row(Row { cause, owner: Some(owner), when, advice: Advice::Where(fits, hint) })
}

/// A row for any owner.
const fn any(
    cause: Cause,
    when: &'static str,
    fits: fn(&Case<'_>) -> bool,
    hint: fn(&Case<'_>) -> String,
) -> Entry {
    Entry::Row(Row { cause, owner: None, when, advice: Advice::Where(fits, hint) })
}

/// A row for one kind of owner, or for any, whose text names what is not always known.
const fn known(
    owner: Option<Kind>,
    cause: Cause,
    when: &'static str,
    hint: fn(&Case<'_>) -> Option<String>,
) -> Entry {
    Entry::Row(Row { cause, owner, when, advice: Advice::Known(hint) })
}

const fn products(cause: Cause, place: Place) -> Entry {
    Entry::Products(cause, place)
}

const ALWAYS: fn(&Case<'_>) -> bool = |_| true;

/// In order: the first of a cause that fits.
static TABLE: &[Entry] = &[
    // A packet filter refused, and nothing would answer without it either.
    any(
        Filtered,
        "an ICMP message refused, for an address of no network namespace of this host",
        |case| case.subject.refused.via == Via::Icmp && case.subject.is_of_no_netns(),
        |case| {
            let addr = case.facts.addr();
            format!(
                "a REJECT rule for {addr}: {}; if {addr} is a Service's, kubectl get endpoints shows whether it has any",
                rules(case)
            )
        },
    ),
    any(
        Filtered,
        "an ICMP message refused",
        |case| case.subject.refused.via == Via::Icmp,
        |case| format!("a REJECT rule: {}", rules(case)),
    ),
    any(Filtered, "a reset that no TCP stack of this host sent", ALWAYS, |case| {
        format!("a REJECT rule with tcp-reset, or a translation to another host: {}", rules(case))
    }),
    // The address is nowhere on this host.
    any(Remote, "", ALWAYS, |case| {
        format!(
            "run `ss -ltn 'sport = :{port}'` on the host that has {}; for a translated address: conntrack -L -p tcp \
             --dport {port}",
            case.facts.addr(),
            port = case.facts.port(),
        )
    }),
    // A listener was up, and did not receive the connect.
    any(
        Intercepted,
        "an ICMP message refused",
        |case| case.subject.refused.via == Via::Icmp,
        |case| format!("a REJECT rule: {}", rules(case)),
    ),
    any(
        Intercepted,
        "a reset that no TCP stack of this host sent",
        |case| case.subject.refused.sent_by == Some(SentBy::Filter),
        |case| format!("a REJECT rule with tcp-reset, or a translation to another host: {}", rules(case)),
    ),
    of(
        DockerProxy,
        Intercepted,
        "a reset by this host's TCP stack, for an address that is not loopback",
        |case| case.subject.refused.sent_by.is_some_and(SentBy::is_stack) && !case.facts.dst().is_loopback(),
        |case| {
            format!(
                "conntrack -L -p tcp --dport {port} shows whether Docker's NAT led the connect past docker-proxy into a \
                 container, to be refused there: `docker ps --filter publish={port}` names it; then let its server listen on \
                 the container's own address and not on 127.0.0.1 alone, keep its authentication on, and change nothing on \
                 the host",
                port = case.facts.port(),
            )
        },
    ),
    of(
        Podman,
        Intercepted,
        "a reset by this host's TCP stack",
        |case| case.subject.refused.sent_by.is_some_and(SentBy::is_stack),
        |case| {
            format!(
                "Podman's NAT leads the connect past conmon into a container, and it is refused inside the container: `podman port --all` names it; let its server listen on the container's own address and not on 127.0.0.1 alone, keep its authentication on, and change nothing on the host; conntrack -L -p tcp --dport {} shows the way",
                case.facts.port(),
            )
        },
    ),
    any(
        Intercepted,
        "a reset by this host's TCP stack",
        |case| case.subject.refused.sent_by.is_some_and(SentBy::is_stack),
        |case| {
            format!(
                "conntrack -L -p tcp --dport {port}; nft list ruleset | grep -n {port}{}",
                case.subject.inside(),
                port = case.facts.port(),
            )
        },
    ),
    any(Intercepted, "who refused is not known", ALWAYS, |case| {
        format!("conntrack -L -p tcp --dport {}; {}", case.facts.port(), rules(case))
    }),
    // A listener is bound to another interface.
    any(WrongDevice, STRANGE, is_strange, |case| {
        of_other_user(case, &format!("let it listen without the interface, and {}", case.facts.keep()))
    }),
    any(
        WrongDevice,
        "a VRF is between the two",
        |case| device(case).is_none(),
        |_| "bind the server to the VRF (ip vrf exec), or set net.ipv4.tcp_l3mdev_accept=1".to_owned(),
    ),
    known(Some(Systemd), WrongDevice, "", |case| {
        Some(format!(
            "connect to an address of {}, or take BindToDevice= out of the .socket unit (`{systemctl} list-sockets` names \
             it), then {systemctl} restart that unit; {}",
            device(case)?,
            case.facts.keep(),
            systemctl = systemctl(case),
        ))
    }),
    known(None, WrongDevice, "", |case| {
        Some(format!(
            "connect to an address of {}, or start the server without binding it to the interface (SO_BINDTODEVICE), and {}",
            device(case)?,
            case.facts.keep(),
        ))
    }),
    // The server asked for the port and did not get it: EADDRINUSE, by who holds it.
    any(
        BindFailed,
        "EADDRINUSE or EADDRNOTAVAIL, and nothing but its own attempt shows that it is the server",
        |case| is_strange(case) && (is_in_use(case) || case.facts.errno == Some(Errno::EADDRNOTAVAIL)),
        |case| of_other_user(case, "its log shows which address it did not get"),
    ),
    any(
        BindFailed,
        "EADDRINUSE, and the server holds the port itself",
        |case| is_in_use(case) && case.facts.holds_it_itself,
        // A restart alone helps where it asks for one of the two now, and not where it asks for both again.
        |_| {
            "the server holds the port itself: if it is configured for both addresses, take one of them out; then restart it"
                .to_owned()
        },
    ),
    any(
        BindFailed,
        "EADDRINUSE, and it is an ssh that asks",
        |case| is_in_use(case) && asker(case) == Some(Ssh),
        |case| {
            format!(
                "ssh goes on without this forwarding, unless it has -o ExitOnForwardFailure=yes: forward another port (-L \
                 127.0.0.1:OTHER:HOST:PORT), or free this one{}",
                case.process
                    .and_then(|holder| holder.pid)
                    .map_or_else(String::new, |_| { format!(" ({} has it)", case.facts.owner) })
            )
        },
    ),
    any(
        BindFailed,
        "EADDRINUSE, and it is a kubectl that asks",
        |case| is_in_use(case) && asker(case) == Some(Kubectl),
        |case| {
            format!(
                "forward another port (kubectl port-forward TARGET OTHER:PORT){}",
                case.process.and_then(|holder| holder.pid).map_or_else(String::new, |_| {
                    format!(", or free this one ({} has it)", case.facts.owner)
                })
            )
        },
    ),
    any(
        BindFailed,
        "EADDRINUSE, and another process asked for the port to connect from it",
        |case| is_in_use(case) && is_asked_for_by_client(case),
        |case| {
            format!(
                "{} asked for the port to connect from it: let it connect from another one; then start the server again",
                case.facts.owner
            )
        },
    ),
    any(
        BindFailed,
        "EADDRINUSE, and the port is the local one of another process's connection",
        |case| is_in_use(case) && is_held_by_connection(case),
        |case| {
            let port = case.facts.port();
            let inside = case.subject.inside_destination();
            format!(
                "{} has the port as the local port of a connection: wait until that ends, then start the server again. \
                 Permanent fix: add {port} to net.ipv4.ip_local_reserved_ports (sysctl{inside}), of which the kernel gives \
                 none to a connection by itself",
                case.facts.owner,
            )
        },
    ),
    of(DockerProxy, BindFailed, "EADDRINUSE", is_in_use, |case| {
        case.facts.beside(format!(
            "a container publishes this port: `docker ps --filter publish={port}` names it. Stop that container, or \
             publish it at another port (-p 127.0.0.1:OTHER:PORT); then start the server again. Ending docker-proxy \
             itself does not help",
            port = case.facts.port(),
        ))
    }),
    of(Podman, BindFailed, "EADDRINUSE", is_in_use, |case| {
        let hint = "a container of Podman publishes this port: `podman port --all` names it. Stop that container, or publish it \
                    at another port (-p 127.0.0.1:OTHER:PORT); then start the server again. Ending the process that holds the \
                    port ends the container's supervision, too";
        case.facts.beside(hint.to_owned())
    }),
    of(Tailscaled, BindFailed, "EADDRINUSE", is_in_use, |case| {
        let on_loopback = match asker(case) {
            _ if case.facts.bound_to.is_loopback() => "Let".to_owned(),
            Some(Kind::Product(product)) => {
                format!("Let it listen on 127.0.0.1 only ({}), or let", product.loopback_setting())
            }
            _ => "Let the server listen on 127.0.0.1 only, or let".to_owned(),
        };
        format!(
            "tailscale serves this port: `tailscale serve status`. {on_loopback} tailscale serve another port; then start \
             the server again"
        )
    }),
    of(Ssh, BindFailed, "EADDRINUSE", is_in_use, |case| {
        case.facts.beside(format!(
            "an ssh forwards this port (-L): end it (kill {}), or let it forward another (-L 127.0.0.1:OTHER:HOST:PORT); \
             then start the server again",
            case.facts.pid
        ))
    }),
    of(Sshd, BindFailed, "EADDRINUSE", is_in_use, |case| {
        case.facts.beside(format!(
            "a logged-in user forwards this port to their own host (ssh -R): let that user end it, or end their \
             connection (kill {}); then start the server again",
            case.facts.pid
        ))
    }),
    of(Kubectl, BindFailed, "EADDRINUSE", is_in_use, |case| {
        case.facts.beside(format!(
            "a kubectl port-forward has this port: end it (kill {}), or let it take another (kubectl port-forward TARGET \
             OTHER:PORT); then start the server again",
            case.facts.pid
        ))
    }),
    of(Systemd, BindFailed, "EADDRINUSE", is_in_use, |case| {
        case.facts.beside(format!(
            "systemd holds the port for a .socket unit: `{systemctl} list-sockets` names it and the service that it \
             starts. Let that service have the port, or {systemctl} disable --now that .socket unit; then start the \
             server again. Do not end systemd",
            systemctl = systemctl(case),
        ))
    }),
    products(BindFailed, Place::Last),
    any(
        BindFailed,
        "EADDRINUSE, and no process holds the port any more",
        |case| is_in_use(case) && case.subject.is_free_now(),
        |case| format!("the port is free now: {}", restart_asker(case)),
    ),
    any(
        BindFailed,
        "EADDRINUSE, and another instance of the server holds the port",
        // The first process is never to be ended.
        |case| is_in_use(case) && is_held_by_own_service(case),
        |case| {
            format!(
                "if {} is a stale instance, end it (kill {}); then start the server again",
                case.facts.owner, case.facts.pid
            )
        },
    ),
    any(
        BindFailed,
        "EADDRINUSE, and another service holds the port",
        |case| is_in_use(case) && case.process.is_some_and(|holder| holder.pid.is_some()),
        |case| {
            case.facts.beside(format!(
                "{} has the port: give one of the two another port, or stop that service by its own means; then start the \
                 server again",
                case.facts.owner
            ))
        },
    ),
    any(
        BindFailed,
        "EADDRINUSE, and what holds the port has no owner any more",
        |case| is_in_use(case) && case.subject.is_held_by_remains(),
        |_| {
            "wait until the old connection's TIME-WAIT is over (a minute), or let the server set SO_REUSEADDR"
                .to_owned()
        },
    ),
    any(BindFailed, "EADDRINUSE, and who holds the port is not known", is_in_use, |case| {
        format!("see who holds it: ss -tanp 'sport = :{}'{}", case.facts.port(), case.subject.inside())
    }),
    any(
        BindFailed,
        "EADDRNOTAVAIL, and the address is there now",
        |case| case.facts.errno == Some(Errno::EADDRNOTAVAIL) && case.subject.is_address(case.facts.bound_to),
        |case| {
            format!(
                "{} is there now: {}{}",
                in_url(case.facts.bound_to),
                restart_asker(case),
                case.facts.before_it_is_there
            )
        },
    ),
    any(
        BindFailed,
        "EADDRNOTAVAIL, for [::1]",
        |case| {
            let is_v6_loopback = case.facts.bound_to.is_ipv6() && case.facts.bound_to.is_loopback();
            is_v6_loopback
                && case.facts.errno == Some(Errno::EADDRNOTAVAIL)
                && !case.subject.is_unread(case.subject.netns())
        },
        |case| {
            format!(
                "lo has no [::1]: `sysctl net.ipv6.conf.lo.disable_ipv6`{} shows whether IPv6 is off there; turn it on, or \
                 let the server listen on 127.0.0.1 alone; then start it again",
                case.subject.inside_destination().trim_start_matches(';')
            )
        },
    ),
    any(
        BindFailed,
        "EADDRNOTAVAIL",
        |case| case.facts.errno == Some(Errno::EADDRNOTAVAIL),
        |case| {
            format!(
                "bring up the interface that has {}, then start the server again; or let it listen on an address that is \
                 there (ip addr){}",
                in_url(case.facts.bound_to),
                case.facts.before_it_is_there
            )
        },
    ),
    any(
        BindFailed,
        "EACCES, and the port is privileged",
        |case| case.facts.errno == Some(Errno::EACCES) && case.facts.port() < PRIVILEGED,
        |_| {
            "CAP_NET_BIND_SERVICE for ports below net.ipv4.ip_unprivileged_port_start; else the policy's log"
                .to_owned()
        },
    ),
    any(
        BindFailed,
        "EACCES",
        |case| case.facts.errno == Some(Errno::EACCES),
        |_| {
            "a security policy forbids this port: see its log (journalctl -k | grep -i -e avc -e apparmor), or the sandbox \
             that the server was started in; unless net.ipv4.ip_unprivileged_port_start is above the port"
                .to_owned()
        },
    ),
    any(BindFailed, "another error", ALWAYS, |case| format!("see the log of {}", case.facts.owner)),
    // A listener closed.
    known(None, Stopped, "two services take the port in turn", |case| {
        let turns = case.subject.turns().filter(|turns| turns.is_trusted)?;
        let [one, other] = turns.services.each_ref().map(|service| case.subject.service_name(service));
        Some(format!("two services take turns on {}: disable one, {one} or {other}", case.facts.port()))
    }),
    known(None, Stopped, "two services of different users take the port in turn", |case| {
        let services = case.subject.turns()?.services.each_ref();
        let [one, other] = services.map(|service| case.subject.service_name(service));
        Some(format!(
            "two services of different users take turns on {}: before you start one again, find out which of them is to \
             serve it, {one} or {other}",
            case.facts.port(),
        ))
    }),
    any(
        Stopped,
        "another instance has started",
        |case| case.subject.successor().is_some(),
        |_| "wait: another instance has started, and RECOVERED shows when it listens".to_owned(),
    ),
    known(None, Stopped, "another instance asked for the port while it was held, and is running", |case| {
        let asked = case.subject.waits_for_port()?;
        let restart = case.subject.restart(asked);
        Some(format!("{restart}: it asked for the port while that was held, and the port is free now"))
    }),
    products(Stopped, Place::First),
    of(
        DockerProxy,
        Stopped,
        "",
        |case| !is_still_running(case),
        |_| {
            "docker-proxy ends when its container stops: docker ps -a, docker logs CONTAINER; start the container again"
            .to_owned()
        },
    ),
    of(
        Podman,
        Stopped,
        "its process has ended",
        |case| !is_still_running(case),
        |_| {
            "the process that publishes a port ends when its container stops: podman ps --all, podman logs CONTAINER; start the container again".to_owned()
        },
    ),
    of(Tailscaled, Stopped, "its process is still running", is_still_running, |_| {
        "tailscaled listens while tailscale is up and serves the port: `tailscale status`, `tailscale serve status`"
            .to_owned()
    }),
    of(
        Ssh,
        Stopped,
        "its process has ended",
        |case| !is_still_running(case),
        |_| {
            "the forwarding ends with its ssh: start it again; -o ServerAliveInterval=15 keeps an idle connection up".to_owned()
        },
    ),
    of(Sshd, Stopped, "", ALWAYS, |_| {
        "the forwarding (ssh -R) ends with the connection that asked for it: let its client connect again; -o \
         ExitOnForwardFailure=yes makes it fail when the port is taken"
            .to_owned()
    }),
    of(
        Kubectl,
        Stopped,
        "its process has ended",
        |case| !is_still_running(case),
        |_| {
            "start kubectl port-forward again: it ends with its pod, and with its connection to the cluster"
                .to_owned()
        },
    ),
    of(Systemd, Stopped, "", ALWAYS, |case| {
        format!(
            "systemd has closed the socket of a .socket unit: `{systemctl} list-sockets --all`, {systemctl} status that \
             unit shows whether it was stopped or has failed; start the .socket unit again, and not the service alone",
            systemctl = systemctl(case),
        )
    }),
    of(Socat, Stopped, "its arguments have no `fork`", takes_one_connection, |case| {
        format!(
            "socat without `fork` takes one connection and closes its listener: start it again with fork \
             (TCP-LISTEN:{},fork and what it had before)",
            case.facts.port()
        )
    }),
    of(Netcat, Stopped, "its arguments have no `-k`", takes_one_connection, |_| {
        "nc without `-k` serves one connection and ends: start it again with -k".to_owned()
    }),
    known(
        None,
        Stopped,
        "its server still listens on other ports, and the process that closed it failed",
        |case| {
            let has_failed = case.subject.verdict.failed_closer.is_some();
            (has_failed && has_kept_ports(case)).then(|| {
                format!(
                    "see the log of {} for why one of its processes ended, and whether its configuration still has port {}",
                    case.facts.owner,
                    case.facts.port(),
                )
            })
        },
    ),
    any(Stopped, "its server still listens on other ports", has_kept_ports, |case| {
        format!(
            "see whether the configuration of {} still has port {}: add it there and reload the server, or see its log for why \
             it gave the port up",
            case.facts.owner,
            case.facts.port(),
        )
    }),
    any(Stopped, "its process is still running", is_still_running, |case| {
        format!("wait for the next LISTEN, or see the log of {} for why it closed its port", case.facts.owner)
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
        |case| format!("see its log for the end of {}, then start the server again", case.facts.owner),
    ),
    any(Stopped, "who closed it is not known", ALWAYS, |_| {
        "start the server again, and see its log for why it closed".to_owned()
    }),
    // A listener has the other family only.
    any(WrongFamily, "the listener is the client's own", is_own, own),
    any(WrongFamily, STRANGE, is_strange, |case| {
        of_other_user(case, &format!("let it listen on {} too{}", case.facts.addr(), case.guard()))
    }),
    any(
        WrongFamily,
        "its file asks for the address, and its sockets contradict it",
        |case| case.file_is_right() && case.is_contradicted() && case.is_older_than_the_file() == Some(true),
        |case| {
            let now = case
                .facts
                .other_family()
                .map_or_else(String::new, |now| format!("{now}; or as a permanent fix: "));
            format!("{now}{RESTART}")
        },
    ),
    products(WrongFamily, Place::AfterSettings),
    any(
        WrongFamily,
        "an address that is not loopback",
        |case| !case.facts.dst().is_loopback(),
        |case| {
            format!(
                "use an {} address of the same host, or let the server listen on {} too, and {}",
                if case.facts.dst().is_ipv6() { "IPv4" } else { "IPv6" },
                case.facts.addr(),
                case.facts.keep(),
            )
        },
    ),
    any(
        WrongFamily,
        "it is configured to listen on the address already",
        |case| case.asks_for_the_address() == Some(true),
        |case| {
            let now = case.facts.other_family().map_or_else(String::new, |now| format!("{now}; "));
            format!("{now}its log shows why it does not listen on {}", case.facts.addr())
        },
    ),
    products(WrongFamily, Place::Last),
    of(DockerProxy, WrongFamily, "loopback", ALWAYS, |case| {
        format!(
            "{}publish the port there too: docker run -p {}:{}:PORT",
            case.facts.instead(),
            case.facts.addr(),
            case.facts.port()
        )
    }),
    of(Podman, WrongFamily, "loopback", ALWAYS, |case| {
        format!(
            "{}publish the port there too: podman run -p {}:{}:PORT",
            case.facts.instead(),
            case.facts.addr(),
            case.facts.port()
        )
    }),
    of(Ssh, WrongFamily, "loopback", ALWAYS, |case| {
        format!(
            "{}start ssh without {} and without an address before the port: -L {port}:HOST:PORT listens on both",
            case.facts.instead(),
            if case.facts.dst().is_ipv6() { "-4 (AddressFamily inet)" } else { "-6 (AddressFamily inet6)" },
            port = case.facts.port(),
        )
    }),
    of(Kubectl, WrongFamily, "loopback", ALWAYS, |case| {
        format!("{}kubectl port-forward --address localhost, which is both", case.facts.instead())
    }),
    of(
        Systemd,
        WrongFamily,
        "loopback, and the socket is `::` for IPv6 only",
        |case| case.facts.dst().is_ipv4() && case.facts.bound_to.is_unspecified(),
        |case| {
            format!(
                "{}BindIPv6Only=both in the .socket unit (`{systemctl} list-sockets` names it), then {systemctl} restart \
                 that unit",
                case.facts.instead(),
                systemctl = systemctl(case),
            )
        },
    ),
    of(Systemd, WrongFamily, "loopback", ALWAYS, |case| {
        format!("{}{}", case.facts.instead(), listen_stream(case))
    }),
    any(WrongFamily, "loopback", ALWAYS, |case| {
        format!("{}let the server listen on {} too", case.facts.instead(), case.facts.addr())
    }),
    // A listener is up, elsewhere. First where what is configured is not what is.
    any(WrongAddress, "the listener is the client's own", is_own, own),
    any(WrongAddress, STRANGE, is_strange, |case| {
        of_other_user(case, &format!("let it listen on {} too{}", case.facts.addr(), case.guard()))
    }),
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
            "the file is already right, and the process is younger than it: its log shows why it listens elsewhere (the \
             address was not up when it started?); then start a new one"
                .to_owned()
        },
    ),
    any(
        WrongAddress,
        "its file asks for the address, and which of the two is older is not known",
        |case| case.file_is_right() && case.is_older_than_the_file().is_none(),
        |_| {
            "the file is already right, and whether the process started with it is not known: end it and start a new one; \
             if that one listens elsewhere too, its log shows why"
                .to_owned()
        },
    ),
    known(None, WrongAddress, "its arguments or its environment ask for the address", |case| {
        let source = case.facts.bind_source().filter(|_| case.asks_for_the_address() == Some(true))?;
        Some(format!(
            "the bind by its {source} is right already: its log shows why it listens elsewhere (the address was not up when it \
             started?); then start a new process",
        ))
    }),
    known(None, WrongAddress, "its file asked for the address, and another process took that back", |case| {
        if case.asks_for_the_address() == Some(false) { rewritten(case) } else { None }
    }),
    known(None, WrongAddress, "its file asks for the address, and something wins over it", |case| {
        let over = case.wins_over_the_file()?;
        Some(format!(
            "the file is already right, and the {} of its {over} wins over it: take that away, then start a new process",
            case.facts.settings?.product.bind(),
        ))
    }),
    // In a container, by its address: the other side of a published port.
    products(WrongAddress, Place::AfterSettings),
    any(
        WrongAddress,
        "in another namespace than the client",
        |case| case.facts.in_other_netns,
        |case| {
            format!(
                "let the server listen on {} inside {}, then restart the process (reload is not enough); {}, and change nothing outside",
                case.facts.addr(),
                case.facts.netns,
                case.facts.keep(),
            )
        },
    ),
    any(
        WrongAddress,
        "what it listens on is not an address any more",
        |case| !case.is_there(),
        |case| {
            format!(
                "{} is not an address of this namespace any more: bring its interface back, or start the server on an address \
                 that is there",
                in_url(case.facts.bound_to)
            )
        },
    ),
    of(DockerProxy, WrongAddress, "", ALWAYS, |case| {
        format!(
            "now: use {}. The container's port is published there only (docker ps); to fix it permanently, publish it at {addr} too: \
             docker run -p {addr}:{}:PORT{}",
            case.facts.at,
            case.facts.port(),
            match case.facts.dst().is_loopback() {
                true => "",
                false =>
                    ". The host's own INPUT rules (ufw) do not filter it: keep the authentication of what is in the container on",
            },
            addr = case.facts.addr(),
        )
    }),
    of(Podman, WrongAddress, "", ALWAYS, |case| {
        format!(
            "now: use {}. The container's port is published there only (podman port --all); to fix it permanently, publish it at {addr} \
             too: podman run -p {addr}:{}:PORT{}",
            case.facts.at,
            case.facts.port(),
            if case.facts.dst().is_loopback() {
                ""
            } else {
                ". NAT leads it past the host's own INPUT rules: keep the authentication of what is in the container on"
            },
            addr = case.facts.addr(),
        )
    }),
    of(Tailscaled, WrongAddress, "", ALWAYS, |case| {
        format!(
            "now: use {}. tailscaled serves the tailnet only; on this host use the server that it leads to: `tailscale \
             serve status` names it",
            case.facts.at,
        )
    }),
    of(Ssh, WrongAddress, "", ALWAYS, |case| {
        let now = use_now(case);
        if case.facts.dst().is_loopback() {
            format!("{now}. Permanent fix: -L 127.0.0.1:{}:HOST:PORT", case.facts.port())
        } else {
            format!(
                "{now}; for other hosts -L {}:{}:HOST:PORT, which any host that reaches it may use: keep the authentication \
                 of what is behind it and a firewall on (-g or GatewayPorts would open every interface)",
                case.facts.addr(),
                case.facts.port(),
            )
        }
    }),
    of(Sshd, WrongAddress, "", ALWAYS, |case| {
        let now = use_now(case);
        if case.facts.dst().is_loopback() {
            format!("{now}. Permanent fix: ssh -R 127.0.0.1:{}:HOST:PORT", case.facts.port())
        } else {
            format!(
                "{now}; for other hosts GatewayPorts clientspecified in sshd_config and ssh -R {}:{}:HOST:PORT, which any host that reaches it may use: keep the authentication of what is behind it and a firewall on",
                case.facts.addr(),
                case.facts.port(),
            )
        }
    }),
    of(Kubectl, WrongAddress, "", ALWAYS, |case| {
        let now = use_now(case);
        if case.facts.dst().is_loopback() {
            format!("{now}. Permanent fix: kubectl port-forward --address localhost")
        } else {
            format!(
                "{now}; for other hosts kubectl port-forward --address localhost,{}, which any host that reaches it may use: keep the \
                 authentication of what is behind it and a firewall on",
                case.facts.dst(),
            )
        }
    }),
    of(Systemd, WrongAddress, "", ALWAYS, |case| {
        let keep = if case.facts.dst().is_loopback() { "" } else { "; keep its authentication on" };
        format!("now: use {}. Permanent fix: {}{keep}", case.facts.at, listen_stream(case))
    }),
    products(WrongAddress, Place::OnLoopback),
    any(
        WrongAddress,
        "it listens on loopback",
        |case| case.facts.bound_to.is_loopback(),
        |case| {
            format!(
                "on this host use {}; for other hosts put a tunnel or a reverse proxy in front, or let the server listen \
                 on {} and {}",
                case.facts.at,
                case.facts.addr(),
                case.facts.keep(),
            )
        },
    ),
    products(WrongAddress, Place::Last),
    any(WrongAddress, "", ALWAYS, |case| {
        format!(
            "now: use {}. Permanent fix: let the server listen on {} too{}",
            case.facts.at,
            case.facts.addr(),
            case.guard(),
        )
    }),
    // A socket has the port and does not listen.
    any(BoundNotListening, STRANGE, is_strange, |case| {
        of_other_user(case, "its log shows why it does not listen")
    }),
    any(BoundNotListening, "its process has ended", has_ended, |case| {
        let inside = case.subject.inside_destination();
        format!("see which process has the socket: ss -tanp 'sport = :{}'{inside}", case.facts.port())
    }),
    any(BoundNotListening, "", ALWAYS, |case| {
        format!("it is still starting, or stuck: see its log, or `strace -f -p {}`", case.facts.pid)
    }),
    // The server is running, and not on TCP.
    any(NotOnTcp, STRANGE_NAME, is_strange, |case| {
        let (addr, port) = (case.facts.addr(), case.facts.port());
        of_other_user(case, &format!("let it listen on {addr}:{port} too{}", case.guard()))
    }),
    known(None, NotOnTcp, "", |case| {
        Some(format!(
            "let the client use {}, or let the server listen on {}:{} too{}",
            case.local()?,
            case.facts.addr(),
            case.facts.port(),
            case.guard(),
        ))
    }),
    // A candidate is running.
    any(
        Starting,
        "the client is in a pod",
        |case| {
            case.subject
                .refused
                .client
                .container
                .as_ref()
                .is_some_and(|container| container.pod_uid.is_some())
        },
        |_| "give it a startupProbe; a liveness probe now would kill it before it listens".to_owned(),
    ),
    products(Starting, Place::Last),
    any(Starting, "", ALWAYS, |_| "wait for RECOVERED, and let clients wait for it too".to_owned()),
    // A candidate has ended.
    products(NeverListened, Place::First),
    any(NeverListened, "ended by SIGKILL", is_killed, |_| {
        "who sends SIGKILL: a supervisor's timeout, or the kernel out of memory (journalctl -k | grep -i oom)"
            .to_owned()
    }),
    any(NeverListened, "", ALWAYS, |case| format!("see the log for the end of {}", case.facts.owner)),
    // A listener is in another namespace.
    any(OtherNetns, STRANGE, is_strange, |case| {
        of_other_user(case, "publish or forward the port to reach it")
    }),
    of(
        DockerProxy,
        OtherNetns,
        "it listens beyond loopback",
        |case| !case.facts.bound_to.is_loopback(),
        |case| {
            format!(
                "from inside the client's container ask the other container by its name, on a Docker network that both are in, or the host: \
                 host.docker.internal:{} (docker run --add-host host.docker.internal:host-gateway)",
                case.facts.port()
            )
        },
    ),
    of(DockerProxy, OtherNetns, "it listens on loopback", ALWAYS, |_| {
        "from inside the client's container ask the other container by its name, on a Docker network that both are in: on the host it is published for \
         the host alone"
            .to_owned()
    }),
    known(None, OtherNetns, "it listens on its own loopback", |case| {
        let enter = enter(case).filter(|_| case.facts.bound_to.is_loopback())?;
        Some(format!(
            "to reach it from inside its namespace: {enter} COMMAND; it listens on its own loopback only, so that a published port would \
             be refused too",
        ))
    }),
    known(None, OtherNetns, "it can be entered", |case| {
        Some(format!(
            "to reach it from inside its namespace: {} COMMAND; or, from the client's namespace: publish or forward the port (docker run -p 127.0.0.1:PORT:PORT, kubectl port-forward)",
            enter(case)?
        ))
    }),
    any(
        OtherNetns,
        "",
        |case| !case.facts.bound_to.is_loopback(),
        |_| {
            "to reach it from the client's namespace, publish or forward the port (docker run -p 127.0.0.1:PORT:PORT, kubectl \
             port-forward)"
                .to_owned()
        },
    ),
    // The server is on another port.
    known(None, OtherPort, "a forwarder publishes it", |case| {
        let at = case.subject.published().filter(|published| published.is_trusted)?.at;
        Some(format!("published here as {}: use {at}", at.port()))
    }),
    any(
        OtherPort,
        "a forwarder of another user publishes it",
        |case| case.subject.published().is_some(),
        start,
    ),
    any(OtherPort, STRANGE, is_strange, |case| {
        of_other_user(case, &format!("give it port {}", case.facts.port()))
    }),
    known(None, OtherPort, "it is configured for that port", |case| {
        Some(format!(
            "its {} by {}: let the client use that one, or give the server port {}",
            case.facts.settings?.product.port(),
            configured_port(case)?,
            case.facts.port(),
        ))
    }),
    known(None, OtherPort, "", |case| {
        Some(format!(
            "let the client use port {}, or start the server with port {}",
            case.socket?.port,
            case.facts.port()
        ))
    }),
    // Nothing is there.
    known(None, NothingListening, "its client's own file leads to another host", |case| {
        let leads_away = case.leads_client_away()?;
        Some(format!(
            "the client's file sets {leads_away}: start the tunnel that is to answer here, or correct that address; a server on \
             this host is not what it asks for"
        ))
    }),
    known(
        None,
        NothingListening,
        "what listened at another address has closed it, and is still running",
        |case| {
            let closed = case.subject.may_open_again()?;
            let name = case.subject.name(&closed.listener.process);
            Some(format!(
                "wait for the next LISTEN: {name} has closed its port and is still running, as in a restart inside the process; if \
             none comes, see its log for why it closed"
            ))
        },
    ),
    any(NothingListening, "", ALWAYS, start),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_of_a_product_has_a_place_in_the_table() {
        for product in registry() {
            for row in product.hints() {
                let places = TABLE.iter().filter(
                    |entry| matches!(entry, Entry::Products(cause, place) if (*cause, *place) == (row.cause, row.place)),
                );
                assert_eq!(places.count(), 1, "{product:?} {:?} {:?}", row.cause, row.place);
            }
        }
    }
}
