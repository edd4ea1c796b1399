//! What makes a verdict less than certain: one function an uncertainty, which the rules name.

use super::locate::Place;
use super::packet_filter;
use super::rules;
use super::scene::Scene;
use super::server::KnownBy;
use crate::model::cause::{Because, Cause};
use crate::model::kernel_event::{Refused, SentBy, Via};
use crate::model::process::Process;
use crate::model::trust;
use crate::model::unit::Unit;
use crate::state::binds::FailedBind;

/// How close to a connect a listener must open or close for the order of the two to be uncertain: the
/// state change is seen before the socket is hashed when it opens, and after it is unhashed when it
/// closes (`inet_csk_listen_start`, `tcp_set_state`).
pub const CHANGING_NS: u64 = 10_000_000;

/// Something that can make a verdict uncertain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Uncertainty {
    /// The listener that covers the destination opened about when the connect began. One that was not asked can be of any
    /// age.
    Opening,
    /// No dump since the connect began has listed the listener that covers the destination.
    Unconfirmed,
    /// The listener closed after the connect had begun.
    Closing,
    /// More listeners closed on the port than are remembered.
    History,
    /// More binds failed on the port than are remembered.
    Failures,
    /// More endpoints of the port were taken than are remembered: one may have made the failure good.
    Successes,
    /// More sockets of clients had the port than are remembered: the bound one may be a client's.
    Clients,
    /// More processes may be the server than are remembered.
    DroppedCandidates,
    /// The address may be translated.
    Translation,
    /// What no TCP stack of this host sent may come from where the address is translated to.
    ForeignSender,
    /// A namespace of this host could not be read: the verdict rests on what is in none of them.
    AnyNamespace,
    /// An end of a server candidate may have been missed.
    MissedEnds,
    /// Which process is the server is not certain.
    Identity,
    /// What decides was started with other arguments than the process that held the port.
    OtherArguments,
    /// What decides belongs to the client itself.
    Own,
    /// The server may not have settled on the other port.
    Unsettled,
    /// A server that failed to take the port listens on another one, since before or after that: more sockets began to listen
    /// than are remembered.
    Undated,
    /// Nothing ties the listener in another namespace to the destination.
    Tie,
    /// What a forwarder publishes is known by its arguments alone, or another user's.
    Forwarded,
}

/// In the order in which a line shows them.
const SHOWN: [Because; 17] = [
    Because::LostRecords,
    Because::NetnsUnreadable,
    Because::MayBeTranslated,
    Because::AmbiguousNetns,
    Because::BeforeReady,
    Because::ListenerChanging,
    Because::HookMissing,
    Because::HistoryForgotten,
    Because::QueryTimeout,
    Because::ListenerUnconfirmed,
    Because::SeveralOwners,
    Because::UnverifiedServer,
    Because::ClaimOnly,
    Because::OtherArguments,
    Because::OwnListener,
    Because::MayBeStarting,
    Because::NotWatchedBefore,
];

impl Uncertainty {
    fn applies(self, cause: Cause, scene: &Scene<'_>) -> Option<Because> {
        let Scene { refused, destination, state, .. } = scene;
        let is_changing = |is: bool| is.then_some(Because::ListenerChanging);
        let is_forgotten = |is: bool| is.then_some(Because::HistoryForgotten);
        match self {
            Self::Opening => is_changing(
                !packet_filter::is_filtered(refused)
                    && scene.covered_for().is_some_and(|age| age < CHANGING_NS),
            ),
            Self::Unconfirmed => {
                let is_confirmed = packet_filter::is_filtered(refused) || scene.is_cover_listed();
                (!is_confirmed).then_some(Because::ListenerUnconfirmed)
            }
            Self::Closing => is_changing(scene.closed().is_some_and(|closed| closed.time > refused.started)),
            Self::History => {
                let (netns, port) = (destination.netns, destination.port);
                let forgotten = state.listeners.forgotten_in(netns, port, actor(scene));
                is_forgotten(forgotten.is_some_and(|time| !scene.has_opened_since(time)))
            }
            Self::Failures => {
                let (netns, port) = (destination.netns, destination.port);
                let forgotten = state.binds.forgotten_failure(netns, port, actor(scene));
                is_forgotten(forgotten.is_some_and(|time| !scene.has_opened_since(time)))
            }
            Self::Successes => {
                let has_forgotten = |failed: &FailedBind| {
                    let process = Some(&failed.socket.process);
                    let success = state.binds.forgotten_success(destination.netns, destination.port, process);
                    success.is_some_and(|time| time > failed.last_by(refused.time))
                };
                is_forgotten(scene.failed_bind().is_some_and(has_forgotten))
            }
            Self::Clients => is_forgotten(scene.bound().is_some_and(|(socket, since)| {
                let (netns, port) = (destination.netns, destination.port);
                // The end of one that was seen to bind is known.
                since.is_none() && state.binds.has_forgotten_client(netns, port, Some(&socket.process))
            })),
            Self::DroppedCandidates => {
                let dropped = state.servers.dropped(destination.netns, actor(scene), refused.time);
                is_forgotten(dropped.is_some())
            }
            Self::Translation => Some(Because::MayBeTranslated),
            Self::ForeignSender => match scene.packet_filter() {
                Some(filter) => filter.uncertain,
                None => {
                    // An ICMP message for an address of another namespace may come from any hop on the way.
                    let is_here = matches!(scene.place, Place::Here(_));
                    let is_own = refused.via == Via::Icmp && refused.icmp.is_none() && is_here;
                    (!is_own).then_some(Because::MayBeTranslated)
                }
            },
            Self::AnyNamespace => state.namespaces.any_unreadable().then_some(Because::NetnsUnreadable),
            Self::MissedEnds => state.health.missed_ends.then_some(Because::LostRecords),
            Self::Identity => identity(cause, scene),
            Self::OtherArguments => scene.has_other_arguments(cause).then_some(Because::OtherArguments),
            Self::Own => scene.only_own(cause).then_some(Because::OwnListener),
            Self::Unsettled => {
                let elsewhere = scene.elsewhere();
                let is_settled = elsewhere.iter().any(|other| other.because.is_none());
                elsewhere.first().filter(|_| !is_settled)?.because
            }
            Self::Undated => is_forgotten(scene.may_have_gone_elsewhere()),
            Self::Forwarded => scene.published().and_then(|published| published.because()),
            Self::Tie => scene.server_elsewhere().is_none().then_some(Because::UnverifiedServer),
        }
    }
}

/// The process whose user's acts a verdict rests on: the server, where that has acted on the port; `None`: any can be.
fn actor<'a>(scene: &Scene<'a>) -> Option<&'a Process> {
    let server = scene.server.filter(|server| server.known_by <= KnownBy::Bind)?;
    Some(server.opener.unwrap_or(server.process))
}

/// What makes it uncertain which process is the server.
fn identity(cause: Cause, scene: &Scene<'_>) -> Option<Because> {
    let server = scene.server?;
    let is_known = |process: &Process| trust::is_known_to(&scene.refused.client, process);
    match server.known_by {
        KnownBy::Listener if server.has_covered => {
            if scene.has_rival() {
                return Some(Because::SeveralOwners);
            }
            // Any user can have held the port for a moment.
            (!is_known(server.opener.unwrap_or(server.process))).then_some(Because::UnverifiedServer)
        }
        KnownBy::Listener => {
            let failed = scene.failed_bind().filter(|_| cause == Cause::BindFailed);
            let is_another = failed.is_some_and(|failed| {
                let process = &failed.socket.process;
                !server.is(process) || server.is_by_opener_only(process)
            });
            if is_another || scene.has_several_users() {
                return Some(Because::SeveralOwners);
            }
            let own = server.opener.unwrap_or(server.process);
            (!is_known(own)).then_some(Because::UnverifiedServer)
        }
        KnownBy::Service => None,
        KnownBy::Bind if scene.candidate(cause).is_some_and(|process| !server.is(process)) => {
            Some(Because::ClaimOnly)
        }
        KnownBy::Bind => {
            // What decides may be another process's than the last to ask for the port.
            let failed = scene.failed_bind().filter(|_| cause == Cause::BindFailed);
            let bound = scene.bound().filter(|_| cause == Cause::BoundNotListening);
            let socket = failed.map(|failed| &failed.socket).or(bound.map(|(socket, _)| socket));
            let are_known = is_known(server.process) && socket.is_none_or(|socket| is_known(&socket.process));
            (!are_known).then_some(Because::UnverifiedServer)
        }
        KnownBy::Name => {
            let process = server.process;
            let is_in_unit = process.unit.as_ref().is_some_and(Unit::is_of_system);
            let is_roots = process.uid == Some(0) || process.uid_at_exec == Some(0);
            (!is_roots || !is_in_unit).then_some(Because::ClaimOnly)
        }
    }
}

/// Whether NAT led a connect away from the destination that a cause is about. Where a listener covers it, that is why it was
/// not asked.
pub fn is_led_away(cause: Cause, refused: &Refused) -> bool {
    refused.sent_by == Some(SentBy::Redirected) && cause != Cause::Intercepted
}

/// Why a verdict is not certain; empty: it is.
pub fn of(cause: Cause, scene: &Scene<'_>) -> Vec<Because> {
    let Scene { refused, destination, state, place, .. } = scene;
    let rule = rules::rule(cause);
    let mut because: Vec<Because> =
        rule.uncertain.iter().filter_map(|one| one.applies(cause, scene)).collect();
    if state.namespaces.is_unreadable(destination.netns)
        || state.namespaces.get(destination.netns).is_none() && !refused.dst.is_loopback()
    {
        because.push(Because::NetnsUnreadable);
    }
    if is_led_away(cause, refused) {
        because.push(Because::MayBeTranslated);
    }
    if matches!(place, Place::Elsewhere { is_ambiguous: true, .. }) {
        because.push(Because::AmbiguousNetns);
    }
    if state.health.undetectable.is_some_and(|unseen| rules::is_before(unseen, cause)) {
        because.push(Because::HookMissing);
    }
    if state.health.lost || state.health.lost_until.is_some_and(|until| refused.time <= until) {
        because.push(Because::LostRecords);
    }
    if !state.health.ready {
        because.push(Because::BeforeReady);
    }
    if state.listeners.has_forgotten_since(refused.time) {
        because.push(Because::HistoryForgotten);
    }
    // What these two rest on is not on the port.
    let is_of_port = !matches!(cause, Cause::Filtered | Cause::Remote);
    if is_of_port && !state.followed.was_watched(refused.dst_port, refused.started) {
        because.push(Because::NotWatchedBefore);
    }
    in_order(because)
}

/// Each once, in the order in which a line shows them.
pub fn in_order(mut because: Vec<Because>) -> Vec<Because> {
    because.sort_by_key(|one| SHOWN.iter().position(|shown| shown == one));
    because.dedup();
    because
}
