//! Runs code inside of a network namespace.
//!
//! A namespace is entered, read and left by a thread of its own: `setns()` moves the thread that calls it,
//! and the socket that reads a namespace keeps it from ending.

use std::io;
use std::os::fd::AsFd as _;
use std::thread;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::netns::{self, Place};
use super::sock_diag::{self, Unavailable};
use crate::model::socket::NetnsId;
use crate::query::Unreadable;

/// Why a namespace was not read.
pub(super) enum Failure {
    /// No namespace of this host can be read.
    Unavailable(Unavailable),
    /// It has ended.
    Ended,
    Other(String),
}

impl Failure {
    pub(super) fn other(err: impl ToString) -> Self {
        Self::Other(err.to_string())
    }

    pub(super) fn why(&self) -> String {
        match self {
            Self::Unavailable(err) => err.to_string(),
            Self::Ended => "it has ended, or nothing that tracer can see leads into it".to_owned(),
            Self::Other(why) => why.clone(),
        }
    }
}

impl From<sock_diag::Error> for Failure {
    fn from(err: sock_diag::Error) -> Self {
        match err {
            sock_diag::Error::Unavailable(err) => Self::Unavailable(err),
            sock_diag::Error::Dump(err) => Self::other(format_args!("listening sockets: {err}")),
        }
    }
}

/// Runs `read` inside of a namespace.
pub(super) fn visit<T: Send>(
    id: NetnsId,
    pid_hint: Option<u32>,
    read: impl Fn(&Place) -> Result<T, Failure> + Sync,
) -> Result<T, Unreadable> {
    let result = match netns::find(id, pid_hint) {
        None => Err(Failure::Ended),
        Some(place) if place.is_own => read(&place),
        Some(place) => on_a_thread(|| {
            enter(&place)?;
            read(&place)
        })
        .unwrap_or_else(|err| Err(Failure::other(err))),
    };
    result.map_err(|failure| Unreadable { id, why: failure.why() })
}

/// Runs `work` on a thread that ends with it, and with the thread its hold on a namespace. It begins in
/// the caller's namespace.
fn on_a_thread<T: Send>(work: impl FnOnce() -> T + Send) -> io::Result<T> {
    on_threads([work]).map(|mut results| results.remove(0))
}

/// The same of several at a time, in their order.
pub(super) fn on_threads<T: Send, W: FnOnce() -> T + Send>(
    work: impl IntoIterator<Item = W>,
) -> io::Result<Vec<T>> {
    thread::scope(|scope| {
        let begin = |work| thread::Builder::new().name("netns".to_owned()).spawn_scoped(scope, work);
        let workers: Vec<_> = work.into_iter().map(begin).collect::<io::Result<_>>()?;
        let results = workers.into_iter().map(thread::ScopedJoinHandle::join);
        results.map(|result| result.map_err(|_| io::Error::other("a thread panicked"))).collect()
    })
}

/// Moves the calling thread into a namespace. It begins in its own, so that one needs no privilege.
pub(super) fn enter(place: &Place) -> Result<(), Failure> {
    if place.is_own {
        return Ok(());
    }
    let opened = match place.open() {
        // The process that led there may have ended, and the namespace be there still.
        Err(err) if err.kind() == io::ErrorKind::NotFound => {
            netns::find(place.id, None).ok_or(Failure::Ended)?.open()
        }
        opened => opened,
    };
    let file = match opened {
        Ok(file) => file,
        Err(err) if err.kind() == io::ErrorKind::NotFound => return Err(Failure::Ended),
        Err(err) => return Err(Failure::other(format_args!("opening it: {err}"))),
    };
    move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))
        .map_err(|err| Failure::other(format_args!("entering it: {}", io::Error::from(err))))
}
