//! What the core asks of the host, and what comes back: data only, so that threads or processes can answer.
//!
//! | file | job |
//! |---|---|
//! | [`request`] | a query: what is asked, on which lane, for how many bytes, and whether a verdict rests on it |
//! | [`answer`] | the answer to a query: what the host was found to have, or unknown |
//! | [`candidate`] | a process that may be the server, as a search of the host finds it |
//!
//! What an answer holds besides is of [`model`](crate::model) and of [`products`](crate::products).

pub mod answer;
pub mod candidate;
pub mod request;

pub use answer::{Answer, Observation, Scan, ScanScope, SettingsRead, Unreadable};
pub use candidate::Candidate;
pub use request::{KnownSocket, Lane, Query, QueryId, QueryKind};

pub use crate::model::config_change::{ConfigChanged, FileChange, FileId};
pub use crate::model::forwarder::Forwarder;
pub use crate::model::local_socket::{LocalEndpoint, LocalSocket};
