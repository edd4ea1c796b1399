//! PostgreSQL's own hints.

use super::config::{self, AUTO_FILE, FILE, LISTEN_ADDRESSES};
use crate::model::cause::Cause::{BindFailed, NeverListened, Starting, WrongAddress, WrongFamily};
use crate::model::errno::Errno;
use crate::model::process::ExitStatus;
use crate::products::Origin;
use crate::products::hint::{ALWAYS, HintFacts, HintRow, Place, in_url};

/// In the order in which they are tried.
pub static ROWS: [HintRow; 8] = [
    HintRow {
        cause: BindFailed,
        place: Place::Last,
        when: "EADDRINUSE, and another process asks",
        fits: |facts| facts.errno == Some(Errno::EADDRINUSE) && !facts.holds_it_itself,
        hint: |facts| {
            facts.beside(format!(
                "PostgreSQL holds this port: give one of the two servers another port, or stop {} by a fast shutdown \
                 (kill -INT {}, never -9); then start the server again",
                facts.owner, facts.pid
            ))
        },
    },
    HintRow {
        cause: BindFailed,
        place: Place::Last,
        when: "EADDRNOTAVAIL",
        fits: |facts| facts.errno == Some(Errno::EADDRNOTAVAIL),
        hint: |facts| {
            let addr = in_url(facts.bound_to);
            let first = if facts.is_there_now {
                format!("{addr} is there now: {RESTART}")
            } else {
                format!("bring up the interface that has {addr}, then {RESTART}")
            };
            format!(
                "{first}: it binds its addresses when it starts, and goes on without one that it cannot bind; or take the \
                 address out of {LISTEN_ADDRESSES}{}",
                facts.before_it_is_there
            )
        },
    },
    HintRow {
        cause: WrongFamily,
        place: Place::Last,
        when: "loopback",
        fits: |facts| facts.dst().is_loopback(),
        hint: |facts| format!("{}{}, then {RESTART}", facts.instead(), with_address(facts)),
    },
    HintRow {
        cause: WrongAddress,
        place: Place::AfterSettings,
        when: "in another namespace than the client",
        fits: |facts| facts.in_other_netns,
        hint: |facts| {
            format!(
                "inside {}: {}, {HBA}, then {RESTART}; change nothing outside",
                facts.netns,
                with_address(facts)
            )
        },
    },
    HintRow {
        cause: WrongAddress,
        place: Place::OnLoopback,
        when: "it listens on loopback, and another address was asked for",
        fits: |facts| facts.bound_to.is_loopback() && !facts.dst().is_loopback(),
        hint: |facts| {
            format!(
                "on this host use {}; permanent fix for other hosts: {}, {HBA} and a firewall, then {RESTART}",
                facts.at,
                with_address(facts)
            )
        },
    },
    HintRow {
        cause: WrongAddress,
        place: Place::Last,
        when: "it listens on another address",
        fits: |facts| facts.is_on_one_address(),
        hint: |facts| {
            let guard =
                if facts.dst().is_loopback() { String::new() } else { format!(", {HBA} and a firewall") };
            format!("now: use {}; permanent fix: {}{guard}, then {RESTART}", facts.at, with_address(facts))
        },
    },
    HintRow {
        cause: Starting,
        place: Place::Last,
        when: "",
        fits: ALWAYS,
        hint: |facts| {
            format!(
                "wait for RECOVERED: PostgreSQL opens its port before it recovers. Then let clients wait for `pg_isready -h {} \
                 -p {}`: until recovery has reached a consistent state, which can take long, they get \"the database system \
                 is starting up\"",
                facts.dst(),
                facts.port()
            )
        },
    },
    HintRow {
        cause: NeverListened,
        place: Place::First,
        when: "not ended by SIGKILL",
        fits: |facts| facts.exit != Some(ExitStatus::Signal(libc::SIGKILL)),
        hint: |_| {
            "the FATAL line of PostgreSQL's log shows why: in the file that pg_lsclusters names (Debian), in the directory \
             `log` of its data directory, or in journalctl"
                .to_owned()
        },
    },
];

const RESTART: &str = "restart PostgreSQL (a reload is not enough)";

const HBA: &str = "a line in pg_hba.conf that asks those clients for a password (scram-sha-256)";

/// How to let it listen on the address that was asked for as well, where the setting is set now.
fn with_address(facts: &HintFacts<'_>) -> String {
    let (addr, settings) = (facts.dst(), facts.settings);
    let origin =
        settings.and_then(|settings| settings.effective(LISTEN_ADDRESSES)).map(|effective| effective.origin);
    let value = settings.and_then(config::listen_addresses).filter(|value| is_plain(value));
    let Some(value) = value.map(str::trim) else {
        return format!("add {addr} to {LISTEN_ADDRESSES}");
    };
    let value = if value.is_empty() { addr.to_string() } else { format!("{value},{addr}") };
    match origin {
        Some(Origin::Override(_)) => format!("-c {LISTEN_ADDRESSES}='{value}' in its arguments"),
        Some(Origin::Overlay(_)) => {
            format!("ALTER SYSTEM SET {LISTEN_ADDRESSES} = '{value}' (it is set in {AUTO_FILE})")
        }
        Some(Origin::File(_) | Origin::Fallback(_)) | None => {
            format!("{LISTEN_ADDRESSES} = '{value}' in {FILE}")
        }
    }
}

/// Whether a value consists of addresses and names, so that it may stand in a command: it is another user's choice.
fn is_plain(value: &str) -> bool {
    !value.ends_with("...")
        && value
            .chars()
            .all(|letter| letter.is_ascii_alphanumeric() || matches!(letter, '.' | ':' | '-' | ',' | ' '))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_values_are_repeated_in_a_command() {
        for value in ["localhost", "127.0.0.1, ::1", "db-1.example", ""] {
            assert!(is_plain(value), "{value}");
        }
        for value in ["x'; rm -rf ~; '", "a\\x1b[31m", "localhost,...", "$(reboot)", "*"] {
            assert!(!is_plain(value), "{value}");
        }
    }
}
