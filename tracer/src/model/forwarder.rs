//! A running process that forwards a port, with its own listener there.

use serde::{Deserialize, Serialize};

use super::forward::Forward;
use super::socket::Listener;
use super::time::Mono;

/// A running process that forwards a port, with its own listener there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Forwarder {
    /// When the process started; `None`: unknown.
    #[serde(with = "super::zero_is_none")]
    pub since: Option<Mono>,
    /// The process is the forwarder.
    pub listener: Listener,
    pub forward: Forward,
}
