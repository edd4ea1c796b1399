//! Which refused clients are looked up in `/proc` at once, before they are gone.
//!
//! A look-up takes ten times as long as the rest of a refusal, and a flood of refusals needs none: one that is
//! like another is only counted. So the first of each kind is looked up at once, and again a second later at the
//! earliest; whichever is told without is looked up then.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};

use crate::event::{Mono, Refused};

/// How long refusals like one whose client was looked up go without.
const REST_NS: u64 = 1_000_000_000;

/// Kinds of refusals told apart.
const KINDS_MAX: usize = 4_096;

/// The kinds of refusals whose clients were looked up a moment ago.
#[derive(Debug, Default)]
pub struct Clients {
    /// By a hash: of two kinds that share one, the second is looked up later than it could be.
    looked_up: HashMap<u64, Mono>,
    hasher: RandomState,
}

impl Clients {
    /// Whether this is the first refusal of its kind for a while.
    pub fn is_new(&mut self, refused: &Refused) -> bool {
        let Refused { netns, client, cgroup, dst, dst_port, time, .. } = refused;
        let kind = self.hasher.hash_one((netns, client.uid, &client.comm, cgroup, dst, dst_port));
        if self.looked_up.get(&kind).is_some_and(|last| time.since(*last) < REST_NS) {
            return false;
        }
        if self.looked_up.len() >= KINDS_MAX {
            self.looked_up.clear();
        }
        self.looked_up.insert(kind, *time);
        true
    }
}
