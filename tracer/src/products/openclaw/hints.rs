//! OpenClaw's own hints.

use std::net::{IpAddr, Ipv4Addr};

use super::config::{self, AUTH_MODE, BIND, TOKEN};
use crate::model::cause::Cause::{NeverListened, Starting, Stopped, WrongAddress, WrongFamily};
use crate::model::escape::in_quotes;
use crate::model::process::ExitStatus;
use crate::model::socket::is_tailnet;
use crate::model::unit::Unit;
use crate::products::hint::{ALWAYS, HintFacts, HintRow, Place, in_url};
use crate::products::{Access, Source};

/// What it adds where `never-listened` is explained.
pub const ON_NEVER_LISTENED: &str = "OpenClaw's exit code 78 is \"configuration refused\": often an address that is not loopback, without \
     gateway.auth.token.";

/// In the order in which they are tried.
pub static ROWS: [HintRow; 15] = [
    HintRow {
        cause: Stopped,
        place: Place::First,
        when: "its process is still running",
        fits: |facts| facts.still_running,
        hint: |_| {
            "wait for RECOVERED; OpenClaw's restart in place takes 6-10 s, sometimes minutes".to_owned()
        },
    },
    HintRow {
        cause: WrongFamily,
        place: Place::AfterSettings,
        when: "an IPv6 address that is not loopback",
        fits: |facts| facts.dst().is_ipv6() && !facts.dst().is_loopback(),
        hint: |_| {
            "use an IPv4 address of the same host: OpenClaw listens on no IPv6 address but [::1]".to_owned()
        },
    },
    HintRow {
        cause: WrongFamily,
        place: Place::Last,
        when: "IPv6 loopback",
        fits: |facts| facts.dst().is_ipv6(),
        hint: |facts| {
            format!(
                "{}{} (listens on 127.0.0.1 and [::1], and on nothing else); then start a new process",
                facts.instead(),
                set_bind(facts, "loopback")
            )
        },
    },
    HintRow {
        cause: WrongAddress,
        place: Place::AfterSettings,
        when: "in another namespace than the client, by an IPv4 address",
        fits: |facts| facts.in_other_netns && facts.dst().is_ipv4(),
        hint: |facts| {
            format!(
                "{} inside {} (opens every interface of it: {}), then restart the process (reload is not enough); change nothing outside",
                set_bind(facts, "lan"),
                facts.netns,
                guard(facts),
            )
        },
    },
    HintRow {
        cause: WrongAddress,
        place: Place::AfterSettings,
        when: "in another namespace than the client, by an IPv6 address",
        fits: |facts| facts.in_other_netns,
        hint: |facts| {
            format!(
                "OpenClaw listens on no IPv6 address but [::1]: use an IPv4 address of {}, and let it listen there",
                facts.netns,
            )
        },
    },
    HintRow {
        cause: WrongAddress,
        place: Place::OnLoopback,
        when: "it is to listen on loopback alone, and its tailnet address was asked for",
        fits: |facts| facts.bound_to.is_loopback() && is_tailnet(facts.dst()) && is_loopback_only(facts),
        hint: |facts| {
            format!(
                "on this host use {}; for the tailnet gateway.tailscale.mode \"serve\", with gateway.bind \"loopback\" as it \
                 is: {}",
                facts.at,
                facts.keep(),
            )
        },
    },
    HintRow {
        cause: WrongAddress,
        place: Place::OnLoopback,
        when: "it listens on loopback, and another IPv4 address was asked for",
        fits: |facts| facts.bound_to.is_loopback() && facts.dst().is_ipv4() && !facts.dst().is_loopback(),
        hint: |facts| {
            format!(
                "on this host use {}; for other hosts put a tunnel or a reverse proxy in front, or {} (opens every \
                 interface: {}), then start a new process",
                facts.at,
                set_bind(facts, "lan"),
                guard(facts),
            )
        },
    },
    HintRow {
        cause: WrongAddress,
        place: Place::Last,
        when: "it listens on one address, [::1] was asked for",
        fits: |facts| facts.is_on_one_address() && facts.dst().is_ipv6() && facts.dst().is_loopback(),
        hint: |facts| {
            format!(
                "now: use http://{}. Permanent fix: {} (listens on 127.0.0.1 and [::1], and no longer on {}); then start a new \
                 process",
                facts.at,
                set_bind(facts, "loopback"),
                in_url(facts.bound_to),
            )
        },
    },
    HintRow {
        cause: WrongAddress,
        place: Place::Last,
        when: "it listens on one address, another IPv6 address was asked for",
        fits: |facts| facts.is_on_one_address() && facts.dst().is_ipv6(),
        hint: |facts| format!("use http://{}: OpenClaw listens on no IPv6 address but [::1]", facts.at),
    },
    HintRow {
        cause: WrongAddress,
        place: Place::Last,
        when: "it listens on one address, 127.0.0.1 was asked for, and its version is before 2026.8.1 or not known",
        fits: |facts| {
            facts.is_on_one_address() && is_v4_localhost(facts) && has_loopback_too(facts) != Some(true)
        },
        hint: |facts| {
            format!(
                "now: use http://{}. Permanent fix: OpenClaw 2026.8.1 or later, or {}",
                facts.at,
                lan(facts)
            )
        },
    },
    HintRow {
        cause: WrongAddress,
        place: Place::Last,
        when: "it listens on one address, another was asked for",
        fits: |facts| facts.is_on_one_address(),
        hint: |facts| format!("now: use http://{}. Permanent fix: {}", facts.at, lan(facts)),
    },
    HintRow {
        cause: Starting,
        place: Place::Last,
        when: "",
        fits: ALWAYS,
        hint: |_| {
            "wait for RECOVERED (OpenClaw takes 6-10 s, sometimes minutes), and let clients wait for it too"
                .to_owned()
        },
    },
    HintRow {
        cause: NeverListened,
        place: Place::First,
        when: "exit code 78, and it is configured to listen beyond loopback without a token or password",
        fits: |facts| is_refused_configuration(facts) && opens_unasked(facts),
        hint: |facts| {
            format!(
                "exit code 78 is OpenClaw's \"configuration refused\"{}. Its settings are {} and no token or password: {}, or \
                 {}; then start it again",
                is_not_restarted(facts),
                configured_bind(facts),
                set_bind(facts, "loopback"),
                guard(facts),
            )
        },
    },
    HintRow {
        cause: NeverListened,
        place: Place::First,
        when: "exit code 78, and a token or password is configured",
        fits: |facts| is_refused_configuration(facts) && matches!(facts.access(), Some(Access::Asked(_))),
        hint: |facts| format!("{}: {} shows which", refused_to_run(facts), its_log(facts)),
    },
    HintRow {
        cause: NeverListened,
        place: Place::First,
        when: "exit code 78",
        fits: is_refused_configuration,
        hint: |facts| {
            format!(
                "{}: {} shows which (often: non-loopback bind without gateway.auth.token)",
                refused_to_run(facts),
                its_log(facts),
            )
        },
    },
];

/// What exit code 78 means where its settings do not show it.
fn refused_to_run(facts: &HintFacts<'_>) -> String {
    format!(
        "by exit code 78 OpenClaw refused its configuration, or to run beside another gateway{}",
        is_not_restarted(facts)
    )
}

/// The unit that OpenClaw installs has `RestartPreventExitStatus=78`.
fn is_not_restarted(facts: &HintFacts<'_>) -> &'static str {
    match facts.unit {
        Some(unit) if unit.name.starts_with("openclaw-gateway") => {
            ", and the systemd unit that OpenClaw installs is not restarted after it"
        }
        Some(_) | None => "",
    }
}

/// Where its log is.
fn its_log(facts: &HintFacts<'_>) -> String {
    match facts.unit {
        Some(Unit { name, user: None }) => format!("`journalctl -u {name} -n 20`"),
        Some(Unit { name, user: Some(uid) }) => format!("`journalctl --user -u {name} -n 20` of user {uid}"),
        None => "its log".to_owned(),
    }
}

fn effective<'a>(facts: &HintFacts<'a>, what: &str) -> Option<&'a str> {
    facts.settings?.effective(what).map(|effective| effective.value)
}

/// How to let it bind so: where an argument or a variable wins over the file, that is to be changed.
fn set_bind(facts: &HintFacts<'_>, mode: &str) -> String {
    match facts.bind_source() {
        Some(Source::Arguments) => format!("--bind {mode} in its arguments"),
        Some(Source::Environment(variable)) => format!("{variable}={mode} in its environment"),
        None => format!("gateway.bind \"{mode}\""),
    }
}

fn lan(facts: &HintFacts<'_>) -> String {
    format!("{} (opens every interface: {}); then start a new process", set_bind(facts, "lan"), guard(facts))
}

/// What to do about authentication and a firewall: on loopback a gateway asks for nothing, elsewhere it does not start
/// without a token or password.
fn guard(facts: &HintFacts<'_>) -> String {
    match facts.access() {
        Some(Access::Asked(what)) => format!("keep {what} and a firewall"),
        Some(Access::Open(what)) if effective(facts, AUTH_MODE) == Some("none") => {
            let token = if effective(facts, what).is_some() { String::new() } else { format!("{what} and ") };
            format!("set {token}gateway.auth.mode \"token\" in place of \"none\" first, and a firewall")
        }
        Some(Access::Open(what)) => format!("set {what} first, and a firewall"),
        Some(Access::Unknown(_)) | None if facts.bound_to.is_loopback() => {
            format!("set {TOKEN} first where it is not, and a firewall")
        }
        Some(Access::Unknown(_)) | None => format!("keep {TOKEN} and a firewall"),
    }
}

fn is_v4_localhost(facts: &HintFacts<'_>) -> bool {
    facts.dst() == IpAddr::V4(Ipv4Addr::LOCALHOST)
}

/// Whether the version that wrote its file listens on 127.0.0.1 beside its own address; `None`: not known.
fn has_loopback_too(facts: &HintFacts<'_>) -> Option<bool> {
    let version = config::version(facts.settings?)?;
    Some(config::is_since(version, config::WITH_LOOPBACK))
}

fn is_refused_configuration(facts: &HintFacts<'_>) -> bool {
    facts.exit == Some(ExitStatus::Code(78))
}

/// It is configured to listen beyond loopback, and to ask for nothing.
fn opens_unasked(facts: &HintFacts<'_>) -> bool {
    effective(facts, BIND).is_some_and(|bind| bind != "loopback" && bind != "auto")
        && matches!(facts.access(), Some(Access::Open(_)))
}

fn configured_bind(facts: &HintFacts<'_>) -> String {
    effective(facts, BIND).map_or_else(String::new, |bind| format!("gateway.bind {}", in_quotes(bind)))
}

/// Whether it is not configured to listen elsewhere: `custom` listens on loopback too, beside an address of its own.
fn is_loopback_only(facts: &HintFacts<'_>) -> bool {
    effective(facts, BIND).is_none_or(|bind| bind == "loopback")
}
