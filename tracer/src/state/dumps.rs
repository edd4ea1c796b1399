//! Which of the known listeners the newest dump of their namespace has not listed.
//!
//! A listener whose end was not seen is still known as open. Before a verdict rests on one that should have answered, a dump
//! has to list it.

use crate::model::hash::HashMap;
use crate::model::socket::{NetnsId, SocketKey};
use crate::model::time::Mono;

/// The newest dump of a namespace.
#[derive(Debug)]
struct Dump {
    began: Mono,
    /// The listeners that were known by then, and that it does not list: none, as a rule.
    unlisted: Vec<SocketKey>,
}

/// The newest dump of each namespace that was read.
#[derive(Debug, Default)]
pub struct Dumps {
    newest: HashMap<NetnsId, Dump>,
}

impl Dumps {
    /// A namespace was dumped, and these known listeners were not listed.
    pub fn note(&mut self, netns: NetnsId, began: Mono, unlisted: Vec<SocketKey>) {
        self.newest.insert(netns, Dump { began, unlisted });
    }

    /// Whether a dump that began then, or later, has listed this listener, which is known as open.
    pub fn has_listed_since(&self, netns: NetnsId, key: SocketKey, moment: Mono) -> bool {
        let is_listed =
            |dump: &Dump| dump.began >= moment && !dump.unlisted.iter().any(|unlisted| unlisted.is_same(key));
        self.newest.get(&netns).is_some_and(is_listed)
    }

    /// A namespace has ended.
    pub fn forget(&mut self, netns: NetnsId) {
        self.newest.remove(&netns);
    }
}
