//! The scenarios, a file for each cause.

mod bind_failed;
mod bound_not_listening;
mod filtered;
mod intercepted;
mod never_listened;
mod not_on_tcp;
mod nothing_listening;
mod other_netns;
mod other_port;
mod remote;
mod starting;
mod stopped;
mod wrong_address;
mod wrong_device;
mod wrong_family;

use super::scenario::Group;

/// A firewall's default answer.
pub const REJECT: &str = "table inet firewall {
    chain input {
        type filter hook input priority 0
        tcp dport {port} reject
    }
}";

pub const RESET: &str = "table inet firewall {
    chain input {
        type filter hook input priority 0
        tcp dport {port} reject with tcp reset
    }
}";

/// The words that scenarios are written in.
mod words {
    pub use rustix::io::Errno;
    pub use tracer::output::schema::Because;
    pub use tracer::output::schema::Cause::{self, *};
    pub use tracer::output::schema::Mismatch::*;

    pub use super::{REJECT, RESET};
    pub use crate::corpus::scenario::Kind::*;
    pub use crate::corpus::scenario::Sockopt::*;
    pub use crate::corpus::scenario::Step::*;
    pub use crate::corpus::scenario::{
        End, Group, Holder, Kind, NamedProcess, Refusal, Scenario, Sockopt, Step, failed_bind, process,
        refused, scenario,
    };
    pub use tests::fixture::By;
    pub use tests::needs::Need;

    /// The gateway by the file name of its program.
    pub const PROGRAM: NamedProcess =
        process("gateway").comm("openclaw-gatewa").program("openclaw-gateway", &[]);

    /// The gateway by its script and command.
    pub const SCRIPT: NamedProcess =
        process("gateway").comm("node").program("node", &["dist/index.js", "gateway"]);

    /// A server that only the user's pattern identifies.
    pub const PATTERN: NamedProcess =
        process("gateway").comm("my-very-own-ser").program("my-very-own-server", &["--serve"]);

    pub const BY_PATTERN: &[&str] = &["--server", "my-very-own-server"];

    /// A server in a container.
    pub const CONTAINED: &[NamedProcess] = &[process("gateway").inside("container")];

    pub const MAPPED: &str = "[::ffff:127.0.0.1]";

    /// An interface like a VPN's. The other end of the pair only makes it one that is up.
    pub const TAILNET: &str = "link add tailscale0 type veth peer name tailscale1
        addr add 100.64.x.y/32 dev tailscale0
        link set tailscale0 up
        link set tailscale1 up";
}

/// In the order of the causes.
pub const GROUPS: &[Group] = &[
    filtered::GROUP,
    remote::GROUP,
    intercepted::GROUP,
    wrong_device::GROUP,
    bind_failed::GROUP,
    stopped::GROUP,
    wrong_family::GROUP,
    wrong_address::GROUP,
    bound_not_listening::GROUP,
    other_port::GROUP,
    not_on_tcp::GROUP,
    starting::GROUP,
    never_listened::GROUP,
    other_netns::GROUP,
    nothing_listening::GROUP,
];
