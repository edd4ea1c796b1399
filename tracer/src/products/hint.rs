//! A row of a product's hints, and the facts of a refusal that it sees.

use std::net::{IpAddr, SocketAddr};

use crate::model::cause::Cause;
use crate::model::errno::Errno;
use crate::model::process::ExitStatus;
use crate::model::unit::Unit;
use crate::products::{Access, ServerSettings, Source};

/// What is known of a refusal where a hint is chosen. The process is the owner of the socket that the cause is about; with
/// `bind-failed` by EADDRINUSE the one that holds the port; with `starting` and `never-listened` the candidate.
#[derive(Debug)]
pub struct HintFacts<'a> {
    pub cause: Cause,
    /// Where the client connected to.
    pub destination: SocketAddr,
    /// The address that the socket is bound to; unspecified where no socket is known.
    pub bound_to: IpAddr,
    /// The socket as `ADDR:PORT` of a URL, of several loopback addresses that of the client's family; empty where no socket
    /// is known.
    pub at: String,
    /// The process as `name[pid]`, or `the server`; without a number where it has ended.
    pub owner: String,
    /// The process id for a command line, or `PID`: it is not known, or has ended.
    pub pid: String,
    /// The unit of the process, where that is one that is made for it, and not a container's.
    pub unit: Option<&'a Unit>,
    /// What the process is configured to do, where that is known.
    pub settings: Option<&'a ServerSettings>,
    /// The error of the last `bind()` or `listen()`.
    pub errno: Option<Errno>,
    /// The process asks for a port that it holds itself.
    pub holds_it_itself: bool,
    /// How the process ended.
    pub exit: Option<ExitStatus>,
    /// It closed its listener and is still running.
    pub still_running: bool,
    /// The destination is in another network namespace than the client.
    pub in_other_netns: bool,
    /// The network namespace of the destination, in words.
    pub netns: String,
    /// The other loopback address of `localhost`, where a listener answers it.
    pub counterpart: Option<IpAddr>,
    /// What makes the process ask its clients who they are, where its program is known to ask for nothing by default.
    pub asks_by: Option<&'static str>,
    /// With EADDRNOTAVAIL: whether the address is there now.
    pub is_there_now: bool,
    /// With EADDRNOTAVAIL: how an address can be bound before it is there: sentences.
    pub before_it_is_there: String,
    /// With EADDRINUSE: which address can be taken instead of all of them: the beginning of a sentence.
    pub narrower: Option<String>,
}

/// One hint of a product.
pub struct HintRow {
    pub cause: Cause,
    /// Where it stands among the generic rows of its cause.
    pub place: Place,
    /// What else selects it, in words, for the documentation.
    pub when: &'static str,
    pub fits: fn(&HintFacts<'_>) -> bool,
    pub hint: fn(&HintFacts<'_>) -> String,
}

/// Where the rows of products stand among the generic rows of a cause.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Before all of them.
    First,
    /// Behind the rows that compare the configured address with the socket.
    AfterSettings,
    /// Before the row for a socket on loopback.
    OnLoopback,
    /// Before the last rows for any owner.
    Last,
}

/// For a row that fits wherever its cause and place are reached.
pub const ALWAYS: fn(&HintFacts<'_>) -> bool = |_| true;

/// An address as it stands in a URL.
pub fn in_url(addr: IpAddr) -> String {
    match addr {
        IpAddr::V4(addr) => addr.to_string(),
        IpAddr::V6(addr) => format!("[{addr}]"),
    }
}

impl<'a> HintFacts<'a> {
    /// The address that the client connected to.
    pub fn dst(&self) -> IpAddr {
        self.destination.ip()
    }

    /// The same as it stands in a URL.
    pub fn addr(&self) -> String {
        in_url(self.dst())
    }

    pub fn port(&self) -> u16 {
        self.destination.port()
    }

    /// The socket listens on one address that is not loopback.
    pub fn is_on_one_address(&self) -> bool {
        !self.bound_to.is_unspecified() && !self.bound_to.is_loopback()
    }

    /// What sets the address where it is not a file.
    pub fn bind_source(&self) -> Option<&'a Source> {
        let settings = self.settings?;
        settings.effective(settings.product.bind())?.origin.wins_over_file()
    }

    pub fn access(&self) -> Option<Access> {
        self.settings.map(ServerSettings::access)
    }

    /// What to do about authentication where a hint opens the server to more hosts.
    pub fn keep(&self) -> String {
        match self.access() {
            Some(Access::Asked(what)) => format!("keep {what}"),
            Some(Access::Open(what)) => format!("set {what} first"),
            Some(Access::Unknown(_)) | None => match self.asks_by {
                Some(what) => {
                    format!("make sure first that {what} and a firewall let only its own clients in")
                }
                None => "keep its authentication on".to_owned(),
            },
        }
    }

    /// A hint about the process that has the port; first which address is free, where the server asked for all of them.
    pub fn beside(&self, hint: String) -> String {
        match &self.narrower {
            Some(narrower) => format!("{narrower}. Otherwise: {hint}"),
            None => hint,
        }
    }

    /// `use 127.0.0.1 instead of localhost, or `, where that is answered.
    pub fn instead(&self) -> String {
        self.other_family().map_or_else(String::new, |use_other| format!("{use_other}, or "))
    }

    /// `use 127.0.0.1 instead of localhost`, where that is answered. A client that asked 127.0.0.1 mostly has no other name
    /// for it: `::1` is what clients of `localhost` try first.
    pub fn other_family(&self) -> Option<String> {
        let other = in_url(self.counterpart?);
        let is_by_name = self.destination.ip().is_ipv6();
        Some(if is_by_name { format!("use {other} instead of localhost") } else { format!("use {other}") })
    }
}
