//! A process that may be the server, as a search of the host, or a call that it made, shows it.

use std::num::NonZeroU16;

use serde::{Deserialize, Serialize};

use crate::model::process::Process;
use crate::model::socket::NetnsId;
use crate::model::time::Mono;
use crate::products::ProductRef;

/// A process that may be the server, by its name or arguments.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Candidate {
    /// When it was found.
    pub time: Mono,
    /// When it started, as far as is known.
    pub since: Mono,
    pub netns: NetnsId,
    pub process: Process,
    /// The product that it is recognised as; `None`: by the user's own pattern.
    pub product: Option<ProductRef>,
    /// The port that the pattern is for; `None`: any.
    pub port: Option<NonZeroU16>,
    /// It is named like a server. Otherwise it runs the program of a process that was one.
    pub is_named: bool,
}
