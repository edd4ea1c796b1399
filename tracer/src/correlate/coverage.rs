//! Does a listener answer a connect?

use std::net::IpAddr;

use super::namespaces::{LO, Route};
use crate::event::{Listener, NetnsId, counterpart};
use crate::line::Mismatch;

/// Where a connect goes, as its socket holds it in SYN_SENT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Destination {
    pub netns: NetnsId,
    pub addr: IpAddr,
    pub port: u16,
    /// How the address is reached; `None`: not known to be local.
    pub route: Option<Route>,
}

impl Destination {
    /// The destination a client of the same name would try in the other family.
    pub fn counterpart(self) -> Self {
        Self { addr: counterpart(self.addr), ..self }
    }
}

/// Why `listener` does not answer a connect to `destination`; `None`: it does.
///
/// As the kernel looks a listener up: `inet_lookup_listener` and `compute_score`
/// (net/ipv4/inet_hashtables.c), `inet6_lookup_listener` (net/ipv6/inet6_hashtables.c) and, for the device,
/// `inet_sk_bound_dev_eq` (include/net/inet_sock.h).
pub fn mismatch(listener: &Listener, destination: &Destination) -> Option<Mismatch> {
    if listener.netns != destination.netns {
        return Some(Mismatch::Netns);
    }
    if listener.port != destination.port {
        return Some(Mismatch::Port);
    }
    match (listener.addr, destination.addr) {
        (own, wanted) if own == wanted => {}
        (IpAddr::V4(own), IpAddr::V4(_)) if own.is_unspecified() => {}
        (IpAddr::V6(own), IpAddr::V6(_)) if own.is_unspecified() => {}
        (IpAddr::V6(own), IpAddr::V4(_)) if own.is_unspecified() => {
            if listener.v6only == Some(true) {
                return Some(Mismatch::V6only);
            }
        }
        (IpAddr::V4(_), IpAddr::V4(_)) | (IpAddr::V6(_), IpAddr::V6(_)) => return Some(Mismatch::Address),
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => return Some(Mismatch::Family),
    }
    if is_device_equal(listener, destination) { None } else { Some(Mismatch::Device) }
}

/// Whether the device that a listener is bound to, if any, lets it see the connect.
fn is_device_equal(listener: &Listener, destination: &Destination) -> bool {
    match (listener.device, destination.route) {
        (None, Some(Route { vrf: Some(_), l3mdev_accept, .. })) => l3mdev_accept,
        (None, _) => true,
        (Some(device), Some(route)) => device == route.device || Some(device) == route.vrf,
        // The namespace could not be read, or the address is not local: no device is known to carry it. That
        // of loopback is known all the same.
        (Some(device), None) => destination.addr.is_loopback() && device == LO,
    }
}

/// Whether `listener` is on the right port of the namespace, but for the other family only.
pub fn answers_other_family(listener: &Listener, destination: &Destination) -> bool {
    match mismatch(listener, destination) {
        Some(Mismatch::V6only) => is_device_equal(listener, destination),
        Some(Mismatch::Family) => mismatch(listener, &destination.counterpart()).is_none(),
        Some(
            Mismatch::Address
            | Mismatch::Device
            | Mismatch::Netns
            | Mismatch::Port
            | Mismatch::Closed
            | Mismatch::NotYet,
        )
        | None => false,
    }
}
