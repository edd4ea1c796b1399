//! The stories, a file for each cause.

mod bind_failed;
mod bound_not_listening;
mod intercepted;
mod never_listened;
mod nothing_listening;
mod other_netns;
mod other_port;
mod remote;
mod starting;
mod stopped;
mod wrong_address;
mod wrong_device;
mod wrong_family;

use super::story::Chapter;

/// The words that stories are written in.
mod words {
    pub use rustix::io::Errno;
    pub use tracer::line::Because;
    pub use tracer::line::Cause::{self, *};
    pub use tracer::line::Mismatch::*;

    pub use crate::corpus::story::Kind::*;
    pub use crate::corpus::story::Sockopt::*;
    pub use crate::corpus::story::Step::*;
    pub use crate::corpus::story::{
        Chapter, End, Holder, Incident, Kind, Refusal, Role, Sockopt, Step, failed_bind, incident, refused,
        role,
    };
    pub use crate::support::needs::Need;
    pub use crate::support::story::By;

    /// The gateway by the file name of its program.
    pub const PROGRAM: Role = role("gateway").comm("openclaw-gatewa").program("openclaw-gateway", &[]);

    /// The gateway by its script and command.
    pub const SCRIPT: Role = role("gateway").comm("node").program("node", &["dist/index.js", "gateway"]);

    /// A server that only the user's pattern tells.
    pub const PATTERN: Role =
        role("gateway").comm("python3").program("python3", &["my-very-own-server", "--serve"]);

    pub const BY_PATTERN: &[&str] = &["--server", "my-very-own-server --serve"];

    /// A server in a container.
    pub const CONTAINED: &[Role] = &[role("gateway").inside("container")];

    pub const MAPPED: &str = "[::ffff:127.0.0.1]";

    /// An interface like a VPN's. The other end of the pair only makes it one that is up.
    pub const TAILNET: &str = "link add tailscale0 type veth peer name tailscale1
        addr add 100.64.x.y/32 dev tailscale0
        link set tailscale0 up
        link set tailscale1 up";
}

/// In the order of the causes.
pub const CHAPTERS: &[Chapter] = &[
    remote::CHAPTER,
    intercepted::CHAPTER,
    wrong_device::CHAPTER,
    bind_failed::CHAPTER,
    stopped::CHAPTER,
    wrong_family::CHAPTER,
    wrong_address::CHAPTER,
    bound_not_listening::CHAPTER,
    starting::CHAPTER,
    never_listened::CHAPTER,
    other_netns::CHAPTER,
    other_port::CHAPTER,
    nothing_listening::CHAPTER,
];
