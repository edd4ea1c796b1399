//! Which causes the limits of this host hide: a verdict that would come after such a cause is uncertain.

use crate::model::cause::Cause;
use crate::model::limit::Limit;
use crate::verdict::rules;

/// The first cause, in the order of the rules, that a host with these limits gives no sign of.
pub fn undetectable(limits: &[Limit]) -> Option<Cause> {
    let cause = |limit: &Limit| match limit {
        Limit::NoBinds { .. } => Some(Cause::BindFailed),
        // Processes that may be the server are not seen.
        Limit::Owners | Limit::HiddenProcesses => Some(Cause::Starting),
        // Without exits, a candidate that has ended seems to be starting.
        Limit::NoBoundSockets | Limit::BoundBeforeStart | Limit::NoExits => Some(Cause::BoundNotListening),
        Limit::NoNetnsCookie
        | Limit::NoIcmpRefusals
        | Limit::NoResetSender
        | Limit::NoStarts
        | Limit::NoIcmp6Refusals
        | Limit::NoSocketCookie(_)
        | Limit::PreemptedPrograms { .. }
        | Limit::BindBySyscall
        | Limit::OtherNetns
        | Limit::OtherUsers
        | Limit::PidNamespace
        | Limit::PrivilegeKept { .. }
        | Limit::NoConfigWatch { .. } => None,
    };
    limits.iter().filter_map(cause).min_by_key(|cause| rules::place(*cause))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cause_that_is_tried_first_is_given() {
        let binds = || Limit::NoBinds { error: String::new() };
        assert_eq!(undetectable(&[]), None);
        assert_eq!(undetectable(&[Limit::OtherNetns, Limit::NoResetSender]), None);
        assert_eq!(undetectable(&[Limit::Owners, Limit::NoExits]), Some(Cause::BoundNotListening));
        assert_eq!(undetectable(&[Limit::Owners, binds(), Limit::NoExits]), Some(Cause::BindFailed));
    }
}
