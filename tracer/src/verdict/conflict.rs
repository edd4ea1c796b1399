//! Which sockets keep a bind from the address that it asks for.

use crate::model::socket::{Holder, Listener};
use crate::state::binds::Binds;
use crate::state::listeners::Listeners;

/// Whether two sockets cannot be bound to one port of a namespace, unless both are to share it.
fn is_conflict(one: &Listener, other: &Listener) -> bool {
    if one.device.is_some() && other.device.is_some() && one.device != other.device {
        return false;
    }
    if one.addr.is_ipv4() == other.addr.is_ipv4() {
        return one.addr == other.addr || one.addr.is_unspecified() || other.addr.is_unspecified();
    }
    let takes_both = |socket: &Listener| {
        socket.addr.is_ipv6() && socket.addr.is_unspecified() && socket.v6only != Some(true)
    };
    takes_both(one) || takes_both(other)
}

/// The sockets that keep a bind from an address.
#[derive(Clone, Copy)]
pub struct Conflicts<'a> {
    wanted: &'a Listener,
    listeners: &'a Listeners,
    binds: &'a Binds,
}

/// The sockets that keep a bind from the address, the port and the device of `wanted`.
pub fn holders<'a>(wanted: &'a Listener, listeners: &'a Listeners, binds: &'a Binds) -> Conflicts<'a> {
    Conflicts { wanted, listeners, binds }
}

impl<'a> Conflicts<'a> {
    /// Whether this socket, which is bound to the same port, keeps the bind from its address.
    pub fn includes(&self, socket: &Listener) -> bool {
        is_conflict(socket, self.wanted)
    }

    /// The listeners that are open, in no order.
    pub fn listeners(self) -> impl Iterator<Item = &'a Listener> {
        let Listener { netns, port, .. } = *self.wanted;
        let on_port = self.listeners.open_on(netns, port);
        on_port.filter(move |listener| self.includes(listener))
    }

    /// The sockets that the last query of the port found, listening or not; `None`: the port was not queried.
    pub fn queried(self) -> Option<impl Iterator<Item = &'a Holder>> {
        let sockets = self.binds.holders(self.wanted.netns, self.wanted.port)?;
        Some(sockets.iter().filter(move |holder| self.includes(&holder.socket)))
    }
}
