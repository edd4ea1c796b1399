//! Whether a listener answers a connect.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::model::cause::Mismatch;
use crate::model::routing::{LO, Route};
use crate::model::socket::{Listener, NetnsId, counterpart};
use crate::model::time::Mono;

/// What a listener on every address is bound to.
pub(super) const WILDCARDS: [IpAddr; 2] =
    [IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpAddr::V6(Ipv6Addr::UNSPECIFIED)];

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

/// Why a listener did not answer a connect that began then. One that opened later could not.
pub(super) fn mismatch_at(
    listener: &Listener,
    destination: &Destination,
    connected: Mono,
) -> Option<Mismatch> {
    match mismatch(listener, destination) {
        None if listener.since.is_some_and(|since| since > connected) => Some(Mismatch::NotYet),
        mismatch => mismatch,
    }
}

/// Whether a listener had opened by then.
pub(super) fn was_there(listener: &Listener, moment: Mono) -> bool {
    listener.since.is_none_or(|since| since <= moment)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::process::Process;
    use crate::model::socket::SocketKey;

    fn listener(addr: &str) -> Listener {
        Listener {
            key: SocketKey { inode: 1, cookie: 1 },
            netns: NetnsId(1),
            addr: addr.parse().unwrap(),
            port: 18_789,
            v6only: Some(false),
            device: None,
            backlog: None,
            since: None,
            process: Process::default(),
            opener: None,
        }
    }

    #[test]
    fn an_address_covers_itself_and_a_wildcard_its_family() {
        let covers = |own: &str, wanted: &str| {
            let addr = wanted.parse().unwrap();
            let destination = Destination { netns: NetnsId(1), addr, port: 18_789, route: None };
            mismatch(&listener(own), &destination)
        };
        assert_eq!(covers("2001:db8::2", "2001:db8::2"), None);
        assert_eq!(covers("2001:db8::2", "2001:db8::3"), Some(Mismatch::Address));
        assert_eq!(covers("192.0.2.2", "192.0.2.3"), Some(Mismatch::Address));
        assert_eq!(covers("2001:db8::2", "192.0.2.3"), Some(Mismatch::Family));
        for (wildcard, wanted) in [("::", "2001:db8::3"), ("::", "192.0.2.3"), ("0.0.0.0", "192.0.2.3")] {
            assert_eq!(covers(wildcard, wanted), None, "{wildcard} {wanted}");
        }
        assert_eq!(covers("0.0.0.0", "2001:db8::3"), Some(Mismatch::Family));
    }

    #[test]
    fn only_loopback_is_known_to_be_on_its_device_without_a_route() {
        let covers = |addr: &str, device| {
            let destination =
                Destination { netns: NetnsId(1), addr: addr.parse().unwrap(), port: 18_789, route: None };
            mismatch(&Listener { device: Some(device), ..listener(addr) }, &destination)
        };
        assert_eq!(covers("127.0.0.1", LO), None);
        assert_eq!(covers("127.0.0.1", LO + 1), Some(Mismatch::Device));
        assert_eq!(covers("192.0.2.2", LO), Some(Mismatch::Device));
    }
}
