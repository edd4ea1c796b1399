//! The processes that have called `bind()` or `listen()` on one port, whatever became of their sockets.

use std::collections::VecDeque;

use crate::model::process::Process;
use crate::model::socket::{Listener, SocketKey};
use crate::model::time::Mono;

/// Calls of processes remembered on one port of one namespace: the newest.
const CALLS_MAX: usize = 64;

/// A process that has called `bind()` or `listen()` on a port, and what became of it is not known here: the socket may be
/// closed by now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    pub process: Process,
    /// When it called.
    pub time: Mono,
    /// The socket that it took, or wanted.
    key: SocketKey,
}

/// The callers on one port of one namespace, the newest last.
#[derive(Debug, Default)]
pub(super) struct Callers(VecDeque<Caller>);

impl Callers {
    /// Notes a call: the last on each socket.
    pub(super) fn note(&mut self, socket: &Listener, time: Mono) {
        let Listener { key, process, .. } = socket;
        self.0.retain(|known| !known.key.is_same(*key) || known.process.pid != process.pid);
        if self.0.len() >= CALLS_MAX {
            self.0.pop_front();
        }
        self.0.push_back(Caller { process: process.clone(), time, key: *key });
    }

    /// Forgets the calls on a socket: it is a client's.
    pub(super) fn forget(&mut self, key: SocketKey) {
        self.0.retain(|caller| !caller.key.is_same(key));
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Caller> {
        self.0.iter()
    }

    pub(super) fn processes_mut(&mut self) -> impl Iterator<Item = &mut Process> {
        self.0.iter_mut().map(|caller| &mut caller.process)
    }
}
