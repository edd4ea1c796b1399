//! What a listener is open to beyond its own host, and whether its server asks clients for a proof.

use std::net::IpAddr;

use super::schema;
use super::view::View;
use crate::model::namespace::Namespace;
use crate::model::socket::Listener;
use crate::products::Access;
use crate::verdict::coverage::{self, Destination};

/// What a listener is open to; `None`: to its own host alone.
pub(super) fn exposure(view: View<'_>, listener: &Listener) -> Option<schema::Exposure> {
    let Listener { netns, addr, port, .. } = *listener;
    if addr.is_loopback() {
        return None;
    }
    let namespace = view.state.namespaces.get(netns);
    let answers = |addr: &IpAddr| {
        let route = namespace.and_then(|namespace| namespace.route_to(*addr, None));
        coverage::mismatch(listener, &Destination { netns, addr: *addr, port, route }).is_none()
    };
    let addresses = namespace.map(Namespace::addresses).unwrap_or_default();
    let authentication = view.state.settings.of(&listener.process).map(|settings| match settings.access() {
        Access::Asked(what) => schema::Authentication { what: what.to_owned(), is_asked: Some(true) },
        Access::Open(what) => schema::Authentication { what: what.to_owned(), is_asked: Some(false) },
        Access::Unknown(what) => schema::Authentication { what: what.to_owned(), is_asked: None },
    });
    Some(schema::Exposure {
        pid: listener.process.pid,
        addr: view.addr(netns, addr, listener.device),
        port,
        netns: view.netns(netns),
        every_interface: addr.is_unspecified() && listener.device.is_none(),
        addresses: addresses
            .iter()
            .filter(|addr| !addr.is_loopback() && answers(addr))
            .map(IpAddr::to_string)
            .collect(),
        authentication,
    })
}
