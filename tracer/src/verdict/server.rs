//! Which process should have answered a destination, and how that is known.
//!
//! The strongest evidence comes first: a socket that answered there, then what took the port, then a name. Names and
//! arguments are a process's own choice, so that what rests on them alone is never certain.

use super::coverage::{self, was_there};
use super::scene::Scene;
use crate::model::process::Process;
use crate::model::service;
use crate::model::socket::Listener;
use crate::model::trust;
use crate::state::listeners::ClosedListener;

/// How a server is known, the strongest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum KnownBy {
    /// It holds, or held, a listener on the port.
    Listener,
    /// It is of the same service as a process that did.
    Service,
    /// It has called bind() or listen() on the port.
    Bind,
    /// Its name, its script or its product.
    Name,
}

/// The server of a destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Server<'a> {
    /// Of a listener the process that holds it, or held it last.
    pub process: &'a Process,
    /// The process that called `listen()`, where it is known and another one.
    pub opener: Option<&'a Process>,
    pub known_by: KnownBy,
    /// It answered at the destination itself.
    pub has_covered: bool,
}

impl<'a> Server<'a> {
    fn of_listener(listener: &'a Listener, has_covered: bool) -> Self {
        let Listener { process, opener, .. } = listener;
        Self { process, opener: opener.as_deref(), known_by: KnownBy::Listener, has_covered }
    }

    /// A process that is known by less than a listener.
    pub fn by(known_by: KnownBy, process: &'a Process) -> Self {
        Self { process, opener: None, known_by, has_covered: false }
    }

    /// Whether a process is an instance of it, its opener's or its holder's.
    pub fn is(&self, process: &Process) -> bool {
        service::is_same(self.process, process)
            || self.opener.is_some_and(|opener| service::is_same(opener, process))
    }

    /// Whether a process runs the program that opened the listener, and not the one that held it last: it may be the server
    /// before it executes the other one, or a service of its own.
    pub fn is_by_opener_only(&self, process: &Process) -> bool {
        self.is(process) && !service::is_same(self.process, process)
    }

    /// Whether what a process does on the port can be what this server does: another user's socket is shown, and decides
    /// nothing.
    pub fn may_be(&self, process: &Process) -> bool {
        let own = self.opener.unwrap_or(self.process);
        own.uid.is_none() || process.uid.is_none() || service::is_same_user(own, process) || self.is(process)
    }

    /// The same of a listener, by the process that opened it.
    pub fn may_own(&self, listener: &Listener) -> bool {
        self.may_be(listener.opened_by())
    }
}

/// Finds the server of a destination, as of the moment of the refusal.
pub fn identify<'a>(scene: &Scene<'a>) -> Option<Server<'a>> {
    by_cover(scene)
        .or_else(|| by_port(scene))
        .or_else(|| by_bind(scene))
        .or_else(|| by_later_cover(scene))
        .or_else(|| by_name(scene))
}

/// The listeners that cover the destination, those that opened after the refusal included.
fn covering<'a>(scene: &Scene<'a>) -> impl Iterator<Item = &'a Listener> {
    let destination = scene.destination;
    scene.near_listeners().filter(move |listener| coverage::mismatch(listener, &destination).is_none())
}

/// The process that has come to answer while the refusal waited for evidence, where no other is known.
fn by_later_cover<'a>(scene: &Scene<'a>) -> Option<Server<'a>> {
    covering(scene).next().map(|listener| Server::of_listener(listener, true))
}

/// The process that answers at the destination, or the last that did.
fn by_cover<'a>(scene: &Scene<'a>) -> Option<Server<'a>> {
    let open = covering(scene).find(|listener| was_there(listener, scene.refused.time));
    let closed = || scene.closed().map(|closed| &closed.listener);
    open.or_else(closed).map(|listener| Server::of_listener(listener, true))
}

/// The process that holds the oldest listener on the port: of those that the client can take for its server, where there are
/// such.
fn by_port<'a>(scene: &Scene<'a>) -> Option<Server<'a>> {
    let is_known = |listener: &Listener| trust::is_known_to(&scene.refused.client, listener.opened_by());
    let oldest = scene.oldest()?;
    let known = || {
        let known = scene.on_port().filter(|listener| is_known(listener));
        known
            .filter(|listener| was_there(listener, scene.refused.started))
            .min_by_key(|listener| listener.since)
    };
    let server = if is_known(oldest) { oldest } else { known().unwrap_or(oldest) };
    Some(Server::of_listener(server, false))
}

/// The process that took the port last, or tried to: of those that the client can take for its server, where there are such.
/// Any other user can come later.
fn by_bind<'a>(scene: &Scene<'a>) -> Option<Server<'a>> {
    let failed = scene.failures().map(|failed| (failed.last_by(scene.refused.time), &failed.socket.process));
    let closed = scene.every_closed_on_port();
    let closed = closed.map(|ClosedListener { time, listener, .. }| (*time, &listener.process));
    let called = scene.takers().map(|caller| (caller.time, &caller.process));
    let bound = scene.bound_sockets().map(|(socket, time)| (time.unwrap_or_default(), &socket.process));
    let all = failed.chain(closed).chain(called).chain(bound);
    let newest =
        all.max_by_key(|(time, process)| (trust::is_known_to(&scene.refused.client, process), *time));
    newest.map(|(_, process)| Server::by(KnownBy::Bind, process))
}

/// A process that is named like a server: the youngest that is running, else the last that ended.
fn by_name<'a>(scene: &Scene<'a>) -> Option<Server<'a>> {
    let running = scene.running().into_iter().next();
    let named = running.or_else(|| scene.ended_candidates().into_iter().next());
    named.map(|known| Server::by(KnownBy::Name, &known.candidate.process))
}
