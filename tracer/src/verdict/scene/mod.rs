//! A refusal among what is known of the host: the questions that the rules and the evidence ask.
//!
//! Each is answered as of the moment of the refusal, also where the refusal waited for evidence while other events were
//! taken. Nothing here walks all listeners of a port: there may be ten thousand. The questions are methods of [`Scene`], one
//! file for each subject:
//!
//! | file | subject |
//! |---|---|
//! | `filtered` | a packet filter of this host refused |
//! | `listeners` | listeners that were open: near the destination, on its port, in other namespaces |
//! | `stopped` | the listener that covered the destination and closed |
//! | `kept` | what the server of that listener still listens on |
//! | `binds` | binds that failed, and sockets that are bound and do not listen |
//! | `candidates` | processes that may be the server, and do not listen on the port |
//! | `elsewhere` | what the server listens on instead |
//! | `published` | the port at which a forwarder publishes this one |
//! | `rivals` | listeners of another service, or of the client itself |
//! | `turns` | services that take the port in turn |

mod binds;
mod candidates;
mod elsewhere;
mod filtered;
mod kept;
mod listeners;
pub mod published;
mod rivals;
mod stopped;
pub mod turns;

pub use stopped::may_be_ending;

use super::coverage::Destination;
use super::locate::Place;
use super::server::{self, KnownBy, Server};
use crate::model::kernel_event::Refused;
use crate::model::process::Process;
use crate::model::socket::Listener;
use crate::model::trust;
use crate::state::HostState;

/// A refusal among what is known.
#[derive(Clone, Copy)]
pub struct Scene<'a> {
    pub refused: &'a Refused,
    pub place: Place,
    pub destination: Destination,
    pub state: &'a HostState,
    /// The server of the destination, as far as one is known.
    pub server: Option<Server<'a>>,
    /// Nothing listens on the port of the destination's namespace, and nothing has closed there since. In a flood of refusals
    /// this saves the other queries of the state.
    is_silent: bool,
}

impl<'a> Scene<'a> {
    pub fn new(refused: &'a Refused, place: Place, state: &'a HostState) -> Self {
        let destination = place.destination();
        let scene = Self { refused, place, destination, state, server: None, is_silent: false };
        let is_silent = state.listeners.count_in(destination.netns, destination.port) == 0
            && scene.closed_here_since().next().is_none();
        let scene = Self { is_silent, ..scene };
        Self { server: server::identify(&scene), ..scene }
    }

    /// Whether a listener can be the reason for the refusal: one of another user beside a server that has answered here is
    /// shown, and decides nothing.
    fn decides(&self, listener: &Listener) -> bool {
        self.server.is_none_or(|server| !server.has_covered || server.may_own(listener))
    }

    /// Whether a process is an instance of the server. Where none has answered at the destination, one of the same user may
    /// be: had it got the port, it would have answered.
    fn is_of_server(&self, process: &Process) -> bool {
        self.server.is_none_or(|server| match server.known_by {
            KnownBy::Listener if server.has_covered => server.is(process),
            KnownBy::Listener | KnownBy::Service => server.may_be(process),
            KnownBy::Bind => self.may_be_by_bind(server, process),
            KnownBy::Name => true,
        })
    }

    /// Whether a process may be the server that is known by a bind: of one that the client cannot take for its server, any
    /// process may be in its place.
    fn may_be_by_bind(&self, server: Server<'_>, process: &Process) -> bool {
        !trust::is_known_to(&self.refused.client, server.process) || server.may_be(process)
    }
}
