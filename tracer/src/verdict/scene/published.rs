//! The port at which a forwarder publishes the one that was refused.
//!
//! A forwarder is known by its arguments, which it chose, and by its own listener. Where the port that it leads to is in a
//! namespace of this host, a listener there is known too.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::Scene;
use crate::model::cause::Because;
use crate::model::forward::Target;
use crate::model::process::Process;
use crate::model::service;
use crate::model::socket::Listener;
use crate::model::trust;
use crate::query::Forwarder;
use crate::verdict::coverage::{self, Destination, was_there};
use crate::verdict::locate::Place;
use crate::verdict::prospect;

/// A forwarder that publishes the port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Published {
    pub forwarder: Forwarder,
    /// What the client can use instead.
    pub at: SocketAddr,
    /// The process that listens where the forwarder leads to, where that is on this host.
    pub server: Option<Process>,
    /// The forwarder is root's or the client's own user's: no other user can have started it.
    pub is_trusted: bool,
}

impl Published {
    /// What makes it uncertain.
    pub fn because(&self) -> Option<Because> {
        match self {
            Self { is_trusted: false, .. } => Some(Because::UnverifiedServer),
            Self { server: None, .. } => Some(Because::ClaimOnly),
            Self { server: Some(_), .. } => None,
        }
    }
}

impl Scene<'_> {
    /// What publishes the port at another one: the forwarder that is known best. Where a server of the destination is known,
    /// none decides.
    pub fn published(&self) -> Option<Published> {
        if self.server.is_some() {
            return None;
        }
        let Destination { netns, port, .. } = self.destination;
        let forwarders = self.state.forwarders.to(netns, port).iter();
        let there =
            forwarders.filter(|forwarder| forwarder.since.is_none_or(|since| since <= self.refused.time));
        let published = there.filter_map(|forwarder| self.published_by(forwarder));
        published.min_by_key(|one| {
            let is_asked = one.at.ip() == self.destination.addr;
            (!one.is_trusted, one.server.is_none(), !is_asked, one.at.port())
        })
    }

    fn published_by(&self, forwarder: &Forwarder) -> Option<Published> {
        let server = match self.behind(&forwarder.forward.target) {
            // A user can give a namespace of its own the address that the forwarder leads to.
            Behind::Listens(server) => {
                Some(server.clone()).filter(|server| trust::is_known_to(&self.refused.client, server))
            }
            Behind::Unknown => None,
            Behind::Nothing => return None,
        };
        let uid = forwarder.listener.process.uid;
        Some(Published {
            forwarder: forwarder.clone(),
            at: self.reachable_at(&forwarder.listener)?,
            server,
            is_trusted: uid == Some(0)
                || service::is_same_user(&forwarder.listener.process, &self.refused.client),
        })
    }

    /// What listens where a forwarder leads to.
    fn behind(&self, target: &Target) -> Behind<'_> {
        let addr = match target {
            Target::Address(addr) => *addr,
            Target::Host(_) | Target::Remote(_) | Target::Container => return Behind::Unknown,
        };
        let Destination { netns, port, .. } = self.destination;
        let mut found = Vec::new();
        for namespace in self.state.namespaces.iter() {
            let Some(route) = namespace.route_to(addr, None) else { continue };
            if namespace.id == netns {
                // It leads to the port that was refused, or to another address of the same namespace.
                return Behind::Nothing;
            }
            found.push(Destination { netns: namespace.id, addr, port, route: Some(route) });
        }
        if addr.is_loopback() || addr.is_unspecified() {
            return Behind::Nothing;
        }
        match &*found {
            [] => Behind::Unknown,
            [inside] if self.state.namespaces.is_unreadable(inside.netns) => Behind::Unknown,
            [inside] => self.listener_at(inside).map_or(Behind::Nothing, Behind::Listens),
            // The same address in several: which one it leads to is not known.
            several => {
                let is_answered =
                    |one: &Destination| prospect::was_answered(one, self.refused.time, &self.state.listeners);
                if several.iter().any(is_answered) { Behind::Unknown } else { Behind::Nothing }
            }
        }
    }

    /// The process that listened at a destination when the connect was refused.
    fn listener_at(&self, destination: &Destination) -> Option<&Process> {
        let on_port = self.state.listeners.open_in(destination.netns);
        let mut covering = on_port.filter(|listener| {
            was_there(listener, self.refused.time) && coverage::mismatch(listener, destination).is_none()
        });
        covering.next().map(|listener| &listener.process)
    }

    /// The address of a forwarder's listener that the client can use; `None`: it cannot.
    fn reachable_at(&self, listener: &Listener) -> Option<SocketAddr> {
        let reaches = |addr: IpAddr| {
            let route =
                self.state.namespaces.get(self.destination.netns).and_then(|one| one.route_to(addr, None));
            let there = Destination { addr, port: listener.port, route, ..self.destination };
            coverage::mismatch(listener, &there).is_none()
        };
        let asked = self.destination.addr;
        // From another namespace, only the address that was asked for is known to lead here.
        let is_here = matches!(self.place, Place::Here(_));
        let own = (!listener.addr.is_unspecified()).then_some(listener.addr);
        let loopback: [IpAddr; 2] = [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
        let others = own.into_iter().chain(loopback).filter(|_| is_here);
        let addr = std::iter::once(asked).chain(others).find(|addr| reaches(*addr))?;
        Some(SocketAddr::new(addr, listener.port))
    }
}

/// What is where a forwarder leads to.
enum Behind<'a> {
    Listens(&'a Process),
    /// It is not on this host, or cannot be read.
    Unknown,
    Nothing,
}
