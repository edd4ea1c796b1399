//! Everything that touches the kernel: the only module that needs root.
//!
//! ```text
//! preflight ─▶ btf ─▶ load ─▶ ring                     hooks first, so that nothing falls between,
//!                      └────▶ privilege ─▶ snapshot    then the listeners that were there already
//! ```

pub mod btf;
pub mod clock;
pub mod host;
pub mod load;
pub mod netns;
pub mod preflight;
pub mod privilege;
pub mod ring;
pub mod routes;
pub mod snapshot;
pub mod sock_diag;
mod tracepoint;
pub mod watch;
