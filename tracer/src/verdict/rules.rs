//! The table of rules: the order of the causes, the condition, the queries and the uncertainties of each.
//!
//! The first row that matches is the cause. [`super`] lists the files that a new cause changes.

use super::coverage::Destination;
use super::locate::{Place, locate};
use super::scene::Scene;
use super::uncertainty::{self, Uncertainty};
use crate::model::cause::{Because, Cause, Mismatch};
use crate::model::kernel_event::Refused;
use crate::state::HostState;

/// One cause.
pub struct Rule {
    pub cause: Cause,
    /// Whether it is the cause, where none before it is.
    matches: fn(&Scene<'_>) -> bool,
    /// The queries that are answered before it is reported, besides the namespaces of the client and of the destination.
    pub queries: &'static [PlannedQuery],
    /// What can make it uncertain, besides what makes every cause so.
    pub uncertain: &'static [Uncertainty],
}

/// A query of the host that a cause rests on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PlannedQuery {
    /// Every namespace, as often as that can be afforded.
    EveryNamespace,
    /// Every namespace, once more after the start: nothing that would explain the refusal is known.
    AbsenceVerified,
    /// The listeners of the destination's namespace, as of the refusal.
    ListenersSince,
    /// Sockets that are bound to the port, also those that were bound before the trace.
    BoundSockets,
    /// Sockets that hold the port that a bind did not get.
    PortHolders,
    /// Processes that may be the server.
    Candidates,
    /// What servers listen on besides the watched ports.
    OtherPorts,
    /// The same of the processes that failed to take the port, where there are any.
    OtherPortsOfFailed,
    /// Unix and UDP sockets of the server candidates.
    LocalSockets,
    /// Processes that forward another port to this one.
    Forwarders,
}

use PlannedQuery::{
    AbsenceVerified, BoundSockets, Candidates, EveryNamespace, Forwarders, ListenersSince, LocalSockets,
    OtherPorts, OtherPortsOfFailed, PortHolders,
};
use Uncertainty::{
    AnyNamespace, Clients, Closing, DroppedCandidates, Failures, ForeignSender, Forwarded, History, Identity,
    MissedEnds, Opening, OtherArguments, Own, Successes, Tie, Translation, Unconfirmed, Undated, Unsettled,
};

/// In order: the first that matches.
pub const RULES: [Rule; 15] = [
    Rule {
        cause: Cause::Filtered,
        matches: |scene| scene.is_filtered_here(),
        queries: &[],
        uncertain: &[ForeignSender],
    },
    Rule {
        cause: Cause::Remote,
        matches: |scene| matches!(scene.place, Place::Nowhere(_)),
        queries: &[EveryNamespace],
        uncertain: &[Translation, AnyNamespace],
    },
    Rule {
        cause: Cause::Intercepted,
        matches: |scene| scene.covered_for().is_some(),
        queries: &[ListenersSince],
        uncertain: &[Opening, Unconfirmed],
    },
    Rule {
        cause: Cause::WrongDevice,
        matches: |scene| scene.has(Mismatch::Device),
        queries: &[],
        uncertain: &[Identity],
    },
    Rule {
        cause: Cause::BindFailed,
        matches: |scene| scene.failed_bind().is_some(),
        queries: &[PortHolders, OtherPorts],
        uncertain: &[Successes, Identity, Undated],
    },
    Rule {
        cause: Cause::Stopped,
        matches: |scene| scene.stopped().is_some(),
        // Whether an instance that has started since went elsewhere.
        queries: &[OtherPorts, LocalSockets],
        uncertain: &[Closing, Failures, Identity, Undated],
    },
    Rule {
        cause: Cause::WrongFamily,
        matches: |scene| scene.has_other_family(),
        queries: &[OtherPortsOfFailed],
        uncertain: &[History, Failures, Identity, Own],
    },
    Rule {
        cause: Cause::WrongAddress,
        matches: |scene| scene.has_on_port(),
        queries: &[OtherPortsOfFailed],
        uncertain: &[History, Failures, Identity, Own],
    },
    Rule {
        cause: Cause::BoundNotListening,
        matches: |scene| scene.bound().is_some(),
        queries: &[AbsenceVerified, BoundSockets],
        uncertain: &[History, Failures, Clients, Identity],
    },
    Rule {
        cause: Cause::OtherPort,
        matches: |scene| scene.is_on_another_port() || scene.published().is_some(),
        queries: &[AbsenceVerified, BoundSockets, Candidates, OtherPorts, Forwarders],
        uncertain: &[
            History,
            Failures,
            DroppedCandidates,
            AnyNamespace,
            MissedEnds,
            Identity,
            OtherArguments,
            Unsettled,
            Forwarded,
        ],
    },
    Rule {
        cause: Cause::NotOnTcp,
        matches: |scene| scene.is_not_on_tcp(),
        queries: &[AbsenceVerified, BoundSockets, Candidates, OtherPorts, LocalSockets],
        uncertain: &[
            History,
            Failures,
            DroppedCandidates,
            AnyNamespace,
            MissedEnds,
            Identity,
            OtherArguments,
        ],
    },
    Rule {
        cause: Cause::Starting,
        matches: |scene| !scene.starting().is_empty(),
        queries: &[AbsenceVerified, BoundSockets, Candidates, OtherPorts, LocalSockets],
        uncertain: &[History, Failures, DroppedCandidates, MissedEnds, Identity, OtherArguments],
    },
    Rule {
        cause: Cause::NeverListened,
        matches: |scene| !scene.ended().is_empty(),
        queries: &[AbsenceVerified, BoundSockets, Candidates, OtherPorts, LocalSockets],
        uncertain: &[History, Failures, DroppedCandidates, MissedEnds, Identity, OtherArguments],
    },
    Rule {
        cause: Cause::OtherNetns,
        matches: |scene| scene.has_elsewhere(),
        queries: &[AbsenceVerified, BoundSockets, Candidates, OtherPorts, LocalSockets, Forwarders],
        uncertain: &[History, Failures, DroppedCandidates, AnyNamespace, MissedEnds, Tie],
    },
    Rule {
        cause: Cause::NothingListening,
        matches: |_| true,
        queries: &[AbsenceVerified, BoundSockets, Candidates, OtherPorts, LocalSockets, Forwarders],
        uncertain: &[History, Failures, DroppedCandidates, AnyNamespace, MissedEnds],
    },
];

/// The place of a cause in the table.
pub fn place(cause: Cause) -> usize {
    RULES.iter().position(|rule| rule.cause == cause).unwrap_or(RULES.len())
}

/// Whether a cause has its turn before another.
pub fn is_before(cause: Cause, other: Cause) -> bool {
    place(cause) < place(other)
}

/// The row of a cause.
pub fn rule(cause: Cause) -> &'static Rule {
    &RULES[place(cause)]
}

/// A verdict without its evidence: enough to count a repeated refusal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Classification {
    pub cause: Cause,
    /// Empty: certain.
    pub because: Vec<Because>,
    /// In the namespace that the address is local in, which may be another than the client's; the
    /// client's, where it is local nowhere.
    pub destination: Destination,
}

/// The first cause behind another in the table that matches.
pub fn cause_after(cause: Cause, scene: &Scene<'_>) -> Cause {
    let mut rest = RULES[place(cause) + 1..].iter();
    rest.find(|rule| (rule.matches)(scene)).map_or(Cause::NothingListening, |rule| rule.cause)
}

/// Classifies a refusal by what is known now of the moment when it came.
pub fn classify(refused: &Refused, state: &HostState) -> Classification {
    let scene = Scene::new(refused, locate(refused, state), state);
    let cause =
        RULES.iter().find(|rule| (rule.matches)(&scene)).map_or(Cause::NothingListening, |rule| rule.cause);
    Classification { cause, because: uncertainty::of(cause, &scene), destination: scene.destination }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_cause_has_one_row_and_the_last_always_matches() {
        for (index, rule) in RULES.iter().enumerate() {
            assert_eq!(place(rule.cause), index, "{:?} stands twice", rule.cause);
        }
        assert_eq!(RULES[RULES.len() - 1].cause, Cause::NothingListening);
    }
}
