//! The listeners on the port of a destination, the nearest to answering first.

use super::coverage::{self, Destination, mismatch_at, was_there};
use crate::model::cause::Mismatch;
use crate::model::kernel_event::Refused;
use crate::model::socket::Listener;
use crate::model::time::Mono;
use crate::state::listeners::Listeners;

/// Listeners shown in one verdict.
pub const CONSIDERED_MAX: usize = 16;

/// A listener beside the connect that it did not answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsideredListener {
    pub listener: Listener,
    pub mismatch: Option<Mismatch>,
}

/// The moment of a connect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Moment {
    /// The connect was refused: it had begun before.
    Refused { started: Mono, time: Mono },
    /// The connect would be made now: every listener that is known is there.
    Now,
}

impl Moment {
    pub fn of(refused: &Refused) -> Self {
        Self::Refused { started: refused.started, time: refused.time }
    }

    fn mismatch(self, listener: &Listener, destination: &Destination) -> Option<Mismatch> {
        match self {
            Self::Refused { started, .. } => mismatch_at(listener, destination, started),
            Self::Now => coverage::mismatch(listener, destination),
        }
    }

    fn shows(self, listener: &Listener, mismatch: Option<Mismatch>) -> bool {
        match self {
            Self::Refused { time, .. } => is_shown(listener, mismatch, time),
            Self::Now => true,
        }
    }
}

/// Whether a listener belongs to what is shown of that moment: one that opened later does not, but for one that would
/// have answered.
pub(super) fn is_shown(listener: &Listener, mismatch: Option<Mismatch>, refused: Mono) -> bool {
    mismatch == Some(Mismatch::NotYet) || was_there(listener, refused)
}

/// How near a listener was to answering: the order in which they are shown. A cause that one of them decides
/// is decided by the nearest, so that none is decided by a listener that is not shown.
fn distance(listener: &Listener, mismatch: Option<Mismatch>, destination: &Destination) -> u8 {
    match mismatch {
        None => 0,
        Some(Mismatch::Closed) => 1,
        Some(Mismatch::Device) => 2,
        Some(Mismatch::V6only | Mismatch::Family)
            if coverage::answers_other_family(listener, destination) =>
        {
            3
        }
        Some(Mismatch::V6only) => 4,
        Some(Mismatch::Family) => 5,
        Some(Mismatch::Address) => 6,
        Some(Mismatch::NotYet) => 7,
        Some(Mismatch::Port) => 8,
        Some(Mismatch::Netns) => 9,
    }
}

/// A listener with how near it was to answering, and why it did not.
type Near<'a> = (u8, &'a Listener, Option<Mismatch>);

/// The listeners on the port in every namespace that had opened when the connect was refused, or would have answered had
/// they, in no order.
fn on_port<'a>(
    destination: &'a Destination,
    moment: Moment,
    listeners: &'a Listeners,
) -> impl Iterator<Item = Near<'a>> {
    let on_port = listeners.open().filter(|listener| listener.port == destination.port);
    on_port
        .map(move |listener| beside(listener, destination, moment))
        .filter(move |(_, listener, mismatch)| moment.shows(listener, *mismatch))
}

fn beside<'a>(listener: &'a Listener, destination: &Destination, moment: Moment) -> Near<'a> {
    let mismatch = moment.mismatch(listener, destination);
    (distance(listener, mismatch, destination), listener, mismatch)
}

/// What they are ordered by, the nearest first.
fn order((distance, listener, _): &Near<'_>) -> impl Ord + use<> {
    (*distance, listener.netns, listener.addr, listener.process.pid, listener.key.inode)
}

/// The listeners on the port in every namespace, and those that have closed since, nearest first, and how many there are.
pub(super) fn nearest<'a>(
    destination: &'a Destination,
    moment: Moment,
    listeners: &'a Listeners,
    closed_since: impl Iterator<Item = &'a Listener>,
) -> (Vec<ConsideredListener>, u64) {
    let closed_since = closed_since.map(|listener| beside(listener, destination, moment));
    let mut near: Vec<Near<'_>> = on_port(destination, moment, listeners).chain(closed_since).collect();
    let total = near.len() as u64;
    if near.len() > CONSIDERED_MAX {
        near.select_nth_unstable_by_key(CONSIDERED_MAX - 1, order);
        near.truncate(CONSIDERED_MAX);
    }
    near.sort_unstable_by_key(order);
    let considered = near
        .into_iter()
        .map(|(_, listener, mismatch)| ConsideredListener { listener: listener.clone(), mismatch })
        .collect();
    (considered, total)
}
