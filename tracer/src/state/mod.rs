//! What is known of the host: [`HostState`] takes kernel events and observations, and returns what changed.
//!
//! ```text
//! kernel event ─▶ events ───────┐                     ┌─▶ Transition ─▶ lifecycle
//!                               ├─▶ HostState: tables ┤
//! answer ──────▶ observations ──┘                     └─▶ read by verdict and output
//! ```
//!
//! It writes no line, sends no query, and has no clock: the lifecycle asks, and hands in what the host answers. Every table
//! has a bound; what a bound drops is of the user that has the most ([`quota`]), and is remembered as dropped.
//!
//! | file | job |
//! |---|---|
//! | [`host_state`] | the state as a whole: the tables together, and what only several of them show |
//! | [`events`] | how each kernel event changes the tables |
//! | `observations` | how each answer of the host changes the tables |
//! | [`join`] | the first scan of the host, joined with the events that were recorded while it was taken |
//! | [`transition`] | what an event or an observation has changed |
//! | [`health`] | what tracer itself may have missed, or cannot see |
//! | [`quota`] | bounds that no user fills for the others |
//! | [`listeners`] | the listeners on watched ports: the open ones, and the history of those that have closed |
//! | `open_listeners` | the open ones of one namespace |
//! | [`openings`] | sockets in LISTEN whose `listen()` may still fail |
//! | [`turns`] | which processes held a port one after another |
//! | [`namespaces`] | which namespaces were read, and which could not be |
//! | [`binds`] | what came of the attempts to take a port |
//! | [`bound_sockets`] | the sockets that hold a port |
//! | [`callers`] | the processes that called `bind()` or `listen()` on a port |
//! | [`servers`] | server candidates, and what became of each |
//! | [`instances`] | which processes are one instance of a server: forks and their root |
//! | [`dumps`] | which known listeners the dumps list |
//! | [`elsewhere`] | what servers listen on besides the watched ports |
//! | [`forwarders`] | processes that forward another port to a watched one |
//! | [`settings`] | what servers' configurations, arguments and environments set |
//! | [`processes`] | what `/proc` shows of each process |
//! | [`users_at_exec`] | the user that each process executed its program as |
//! | [`refused`] | processes that were refused themselves |
//! | [`followed_ports`] | ports that are watched for a while, behind a watched listener |
//! | [`next_hops`] | destinations of processes with a watched listener |

pub mod binds;
pub mod bound_sockets;
pub mod callers;
pub mod dumps;
pub mod elsewhere;
pub mod events;
pub mod followed_ports;
pub mod forwarders;
pub mod health;
pub mod host_state;
pub mod instances;
pub mod join;
pub mod listeners;
pub mod namespaces;
pub mod next_hops;
mod observations;
mod open_listeners;
pub mod openings;
pub mod processes;
pub mod quota;
pub mod refused;
pub mod servers;
pub mod settings;
pub mod transition;
pub mod turns;
pub mod users_at_exec;

pub use health::Health;
pub use host_state::{HostState, OwnersRead};
pub use listeners::SERVED_NS;
pub use namespaces::FRESH_NS;
pub use transition::Transition;
