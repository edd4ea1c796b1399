//! Services that take a port in turn: each has ended the other, or waits until it is free.

use super::Scene;
use crate::model::process::Process;
use crate::model::service;
use crate::model::trust;
use crate::state::listeners::ClosedListener;
use crate::verdict::coverage;

/// How long ago a listener has closed at most that counts as a turn.
const TURNS_NS: u64 = 600_000_000_000;

/// Two services that take the port in turn.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Turns {
    /// A process of each, the last to hold the port first.
    pub services: [Process; 2],
    /// Both are root's, units of the system's manager, or of one user: no third user can have started one of them.
    pub is_trusted: bool,
}

impl<'a> Scene<'a> {
    /// What held the destination before the refusal, the one that closed last first.
    fn holders_before(&self) -> impl Iterator<Item = &'a ClosedListener> + use<'a> {
        let Self { refused, destination, state, .. } = *self;
        let closed = state.turns.on(destination.netns, destination.port);
        closed.filter(move |closed| {
            closed.time <= refused.time
                && refused.time.since(closed.time) < TURNS_NS
                && coverage::mismatch(&closed.listener, &destination).is_none()
        })
    }

    /// The services that took the port in turn: it went to the other one and back, each time after the one before had closed.
    /// Listeners that were open at the same time are a handover without a gap.
    pub fn turns(&self) -> Option<Turns> {
        let mut holders = self.holders_before();
        let first = holders.next()?;
        let mut other: Option<&Process> = None;
        let (mut later, mut changes) = (first, 0);
        for earlier in holders {
            let process = &earlier.listener.process;
            if service::is_another(process, &later.listener.process) {
                let is_third = other.is_some_and(|other| {
                    service::is_another(process, other)
                        && service::is_another(process, &first.listener.process)
                });
                let has_followed = later.listener.since.is_some_and(|since| since >= earlier.time);
                if is_third || !has_followed {
                    break;
                }
                other = other.or(Some(process));
                changes += 1;
            }
            later = earlier;
        }
        let services = [&first.listener.process, other?];
        (changes >= 2).then(|| Turns {
            services: services.map(Process::clone),
            is_trusted: service::is_same_user(services[0], services[1])
                || services.into_iter().all(trust::is_of_system),
        })
    }

    /// What held the destination before, of another service: also another user's, which may have held it to be taken for the
    /// server, or to have it taken for one.
    pub(in crate::verdict) fn predecessor(&self) -> Option<&'a ClosedListener> {
        let server = self.server?;
        let is_of_server = |process: &Process| {
            !service::is_another(process, server.process)
                || server.opener.is_some_and(|opener| !service::is_another(process, opener))
        };
        self.holders_before().find(|closed| !is_of_server(&closed.listener.process))
    }
}
