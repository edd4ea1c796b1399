//! Which listeners were open when the connect was refused: near the destination, on its port, in other namespaces.

use super::Scene;
use crate::model::cause::Mismatch;
use crate::model::socket::Listener;
use crate::state::listeners::ClosedListener;
use crate::verdict::considered::is_shown;
use crate::verdict::coverage::{self, Destination, WILDCARDS, mismatch_at, was_there};
use crate::verdict::locate::Place;
use crate::verdict::uncertainty::CHANGING_NS;

impl<'a> Scene<'a> {
    /// The listeners on the port, in all namespaces, that have closed since, and were open when the connect was refused.
    /// One that covers the destination and closed about then was on its way out: it is unhashed before it is seen to
    /// close.
    pub(in crate::verdict) fn closed_since(&self) -> impl Iterator<Item = &'a Listener> + use<'a> {
        let Self { refused, destination, state, .. } = *self;
        let too_late = refused.time.max(refused.started.plus(CHANGING_NS - 1));
        let was_open = move |closed: &&ClosedListener| {
            let ClosedListener { listener, time, .. } = closed;
            listener.port == destination.port
                && was_there(listener, refused.time)
                && (*time > too_late || coverage::mismatch(listener, &destination).is_some())
        };
        state.listeners.closed_after(refused.time).filter(was_open).map(|closed| &closed.listener)
    }

    /// The listeners that an address could lead to.
    pub(in crate::verdict) fn near_listeners(&self) -> impl Iterator<Item = &'a Listener> + use<'a> {
        self.near().map(|(listener, _)| listener)
    }

    /// Those of [`Self::closed_since`] in the namespace of the destination.
    pub(super) fn closed_here_since(&self) -> impl Iterator<Item = &'a Listener> + use<'a> {
        let netns = self.destination.netns;
        let closed = (!self.is_silent).then(|| self.closed_since());
        closed.into_iter().flatten().filter(move |listener| listener.netns == netns)
    }

    /// The listeners that an address could lead to: those bound to it, to its counterpart or to a wildcard, in the
    /// namespace.
    fn near(&self) -> impl Iterator<Item = (&'a Listener, Option<Mismatch>)> + use<'a> {
        let Self { refused, destination, state, .. } = *self;
        let specific = [destination.addr, destination.counterpart().addr];
        let specific = specific.into_iter().filter(|addr| !addr.is_unspecified());
        let addrs = (!self.is_silent).then(|| WILDCARDS.into_iter().chain(specific));
        addrs
            .into_iter()
            .flatten()
            .flat_map(move |addr| state.listeners.bound_to(destination.netns, addr, destination.port))
            .chain(self.closed_here_since())
            .map(move |listener| (listener, mismatch_at(listener, &destination, refused.started)))
            .filter(|(listener, mismatch)| is_shown(listener, *mismatch, refused.time))
    }

    /// Whether a listener near the destination that can be the reason has this mismatch.
    pub fn has(&self, wanted: Mismatch) -> bool {
        self.near().any(|(listener, mismatch)| mismatch == Some(wanted) && self.decides(listener))
    }

    /// How long before the connect the first listener opened that covers it; `None`: none does.
    pub fn covered_for(&self) -> Option<u64> {
        let age =
            |listener: &Listener| listener.since.map_or(u64::MAX, |since| self.refused.started.since(since));
        self.near().filter(|(_, mismatch)| mismatch.is_none()).map(|(listener, _)| age(listener)).max()
    }

    /// Whether a dump since the connect began has listed a listener that covers the destination.
    pub fn is_cover_listed(&self) -> bool {
        let Self { refused, state, .. } = *self;
        let is_listed =
            |listener: &Listener| state.dumps.has_listed_since(listener.netns, listener.key, refused.started);
        self.near().any(|(listener, mismatch)| mismatch.is_none() && is_listed(listener))
    }

    /// Whether a listener that can be the reason answers the other family only.
    pub fn has_other_family(&self) -> bool {
        self.near().any(|(listener, mismatch)| {
            mismatch != Some(Mismatch::NotYet)
                && coverage::answers_other_family(listener, &self.destination)
                && self.decides(listener)
        })
    }

    /// Whether a listener that can be the reason was up on the port of the namespace when the connect began.
    pub fn has_on_port(&self) -> bool {
        let Destination { netns, port, .. } = self.destination;
        let (started, listeners) = (self.refused.started, &self.state.listeners);
        if self.server.is_some_and(|server| server.has_covered) {
            let on_port = listeners.open_on(netns, port);
            return on_port
                .chain(self.closed_here_since())
                .any(|listener| was_there(listener, started) && self.decides(listener));
        }
        let too_late =
            listeners.opened_after(port, started).filter(|listener| listener.netns == netns).count();
        let closed_since = self.closed_here_since().filter(|listener| was_there(listener, started)).count();
        listeners.count_in(netns, port) + closed_since > too_late
    }

    /// The listeners on the port of the namespace, those included that have closed since the connect: all of them, so that it
    /// is for what rarely has to be known.
    pub(in crate::verdict) fn on_port(&self) -> impl Iterator<Item = &'a Listener> + use<'a> {
        let Destination { netns, port, .. } = self.destination;
        self.state.listeners.open_on(netns, port).chain(self.closed_here_since())
    }

    /// The listener on the port of the namespace that opened first, of those that were open when the connect began.
    pub(in crate::verdict) fn oldest(&self) -> Option<&'a Listener> {
        let Destination { netns, port, .. } = self.destination;
        let oldest = self.state.listeners.oldest_on(netns, port).into_iter().chain(self.closed_here_since());
        let was_open = oldest.filter(|listener| was_there(listener, self.refused.started));
        was_open.min_by_key(|listener| listener.since)
    }

    /// Whether anything was up on the port in another namespace, that can have to do with the destination: where that is
    /// not in the client's own namespace, only the server itself can.
    pub fn has_elsewhere(&self) -> bool {
        let Destination { netns, port, .. } = self.destination;
        let (time, listeners) = (self.refused.time, &self.state.listeners);
        let is_elsewhere =
            |listener: &&Listener| listener.netns != netns && listener.netns != self.refused.netns;
        if matches!(self.place, Place::Elsewhere { .. }) {
            return self.server_elsewhere().is_some();
        }
        let too_late = listeners.opened_after(port, time).filter(is_elsewhere).count();
        let closed_since = self.closed_since().filter(is_elsewhere).count();
        listeners.count(port) + closed_since > listeners.count_in(netns, port) + too_late
    }

    /// A listener on the port of another namespace that the server itself holds.
    pub fn server_elsewhere(&self) -> Option<&'a Listener> {
        let Destination { netns, port, .. } = self.destination;
        let server = self.server?;
        let mut open = self.state.listeners.open().filter(|listener| listener.port == port);
        open.find(|listener| {
            listener.netns != netns && was_there(listener, self.refused.time) && server.is(&listener.process)
        })
    }
}
