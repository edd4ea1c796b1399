//! Conversions of enums and small types to those of the schema.

use super::limits;
use super::schema::{
    self, Because, Call, Cause, ConfigChange, Container, Hook, Limit, LostWhere, Mismatch, Owner, OwnerState,
    Role, SentBy, Unit, Via,
};
use crate::model::process::{ExitStatus, OwnerEnd};
use crate::model::{cause, container, hook, kernel_event, limit, unit};
use crate::query;
use crate::verdict::server::KnownBy;

impl From<cause::Cause> for Cause {
    fn from(value: cause::Cause) -> Self {
        match value {
            cause::Cause::Filtered => Self::Filtered,
            cause::Cause::Remote => Self::Remote,
            cause::Cause::Intercepted => Self::Intercepted,
            cause::Cause::WrongDevice => Self::WrongDevice,
            cause::Cause::BindFailed => Self::BindFailed,
            cause::Cause::Stopped => Self::Stopped,
            cause::Cause::WrongFamily => Self::WrongFamily,
            cause::Cause::WrongAddress => Self::WrongAddress,
            cause::Cause::BoundNotListening => Self::BoundNotListening,
            cause::Cause::Starting => Self::Starting,
            cause::Cause::NeverListened => Self::NeverListened,
            cause::Cause::OtherNetns => Self::OtherNetns,
            cause::Cause::OtherPort => Self::OtherPort,
            cause::Cause::NotOnTcp => Self::NotOnTcp,
            cause::Cause::NothingListening => Self::NothingListening,
        }
    }
}

impl From<Cause> for cause::Cause {
    fn from(value: Cause) -> Self {
        match value {
            Cause::Filtered => Self::Filtered,
            Cause::Remote => Self::Remote,
            Cause::Intercepted => Self::Intercepted,
            Cause::WrongDevice => Self::WrongDevice,
            Cause::BindFailed => Self::BindFailed,
            Cause::Stopped => Self::Stopped,
            Cause::WrongFamily => Self::WrongFamily,
            Cause::WrongAddress => Self::WrongAddress,
            Cause::BoundNotListening => Self::BoundNotListening,
            Cause::Starting => Self::Starting,
            Cause::NeverListened => Self::NeverListened,
            Cause::OtherNetns => Self::OtherNetns,
            Cause::OtherPort => Self::OtherPort,
            Cause::NotOnTcp => Self::NotOnTcp,
            Cause::NothingListening => Self::NothingListening,
        }
    }
}

impl From<cause::Because> for Because {
    fn from(value: cause::Because) -> Self {
        match value {
            cause::Because::LostRecords => Self::LostRecords,
            cause::Because::NetnsUnreadable => Self::NetnsUnreadable,
            cause::Because::MayBeTranslated => Self::MayBeTranslated,
            cause::Because::AmbiguousNetns => Self::AmbiguousNetns,
            cause::Because::BeforeReady => Self::BeforeReady,
            cause::Because::ListenerChanging => Self::ListenerChanging,
            cause::Because::HookMissing => Self::HookMissing,
            cause::Because::HistoryForgotten => Self::HistoryForgotten,
            cause::Because::QueryTimeout => Self::QueryTimeout,
            cause::Because::ListenerUnconfirmed => Self::ListenerUnconfirmed,
            cause::Because::SeveralOwners => Self::SeveralOwners,
            cause::Because::UnverifiedServer => Self::UnverifiedServer,
            cause::Because::ClaimOnly => Self::ClaimOnly,
            cause::Because::OtherArguments => Self::OtherArguments,
            cause::Because::OwnListener => Self::OwnListener,
            cause::Because::MayBeStarting => Self::MayBeStarting,
            cause::Because::NotWatchedBefore => Self::NotWatchedBefore,
        }
    }
}

impl From<cause::Mismatch> for Mismatch {
    fn from(value: cause::Mismatch) -> Self {
        match value {
            cause::Mismatch::Address => Self::Address,
            cause::Mismatch::Family => Self::Family,
            cause::Mismatch::V6only => Self::V6only,
            cause::Mismatch::Device => Self::Device,
            cause::Mismatch::Netns => Self::Netns,
            cause::Mismatch::Port => Self::Port,
            cause::Mismatch::Closed => Self::Closed,
            cause::Mismatch::NotYet => Self::NotYet,
        }
    }
}

impl From<kernel_event::Via> for Via {
    fn from(value: kernel_event::Via) -> Self {
        match value {
            kernel_event::Via::Rst => Self::Rst,
            kernel_event::Via::Icmp => Self::Icmp,
        }
    }
}

impl From<kernel_event::SentBy> for SentBy {
    fn from(value: kernel_event::SentBy) -> Self {
        match value {
            kernel_event::SentBy::Tcp | kernel_event::SentBy::Redirected => Self::Tcp,
            kernel_event::SentBy::Filter => Self::Filter,
        }
    }
}

impl From<kernel_event::Call> for Call {
    fn from(value: kernel_event::Call) -> Self {
        match value {
            kernel_event::Call::Bind => Self::Bind,
            kernel_event::Call::Listen => Self::Listen,
        }
    }
}

impl From<kernel_event::LostWhere> for LostWhere {
    fn from(value: kernel_event::LostWhere) -> Self {
        match value {
            kernel_event::LostWhere::Ring => Self::Ring,
            kernel_event::LostWhere::Recursion => Self::Recursion,
            kernel_event::LostWhere::Attempts => Self::Attempts,
            kernel_event::LostWhere::Followed => Self::Followed,
            kernel_event::LostWhere::Names => Self::Names,
            kernel_event::LostWhere::Decode => Self::Decode,
        }
    }
}

impl From<kernel_event::Role> for Role {
    fn from(value: kernel_event::Role) -> Self {
        match value {
            kernel_event::Role::Client => Self::Client,
            kernel_event::Role::Upstream => Self::Upstream,
        }
    }
}

impl From<KnownBy> for schema::KnownBy {
    fn from(value: KnownBy) -> Self {
        match value {
            KnownBy::Listener => Self::Listener,
            KnownBy::Service => Self::Service,
            KnownBy::Bind => Self::Bind,
            KnownBy::Name => Self::Name,
        }
    }
}

impl From<unit::Unit> for Unit {
    fn from(unit: unit::Unit) -> Self {
        let unit::Unit { name, user } = unit;
        Self { name, user }
    }
}

impl From<query::FileChange> for ConfigChange {
    fn from(value: query::FileChange) -> Self {
        match value {
            query::FileChange::Replaced => Self::Replaced,
            query::FileChange::Written => Self::Written,
            query::FileChange::Removed => Self::Removed,
        }
    }
}

impl From<container::Container> for Container {
    fn from(container: container::Container) -> Self {
        let container::Container { id, runtime, name, pod_uid } = container;
        Self { id, runtime, name, pod_uid }
    }
}

impl From<OwnerEnd> for Owner {
    fn from(end: OwnerEnd) -> Self {
        let (state, code, signal) = match end {
            OwnerEnd::Running => (OwnerState::Alive, None, None),
            OwnerEnd::Ended(ExitStatus::Code(code)) => (OwnerState::Ended, Some(code), None),
            OwnerEnd::Ended(ExitStatus::Signal(signal)) => (OwnerState::Ended, None, Some(signal)),
            OwnerEnd::Unknown => (OwnerState::Unknown, None, None),
        };
        Self { state, code, signal }
    }
}

impl From<Container> for container::Container {
    fn from(container: Container) -> Self {
        let Container { id, runtime, name, pod_uid } = container;
        Self { id, runtime, name, pod_uid }
    }
}

impl From<&hook::Hook> for Hook {
    fn from(hook: &hook::Hook) -> Self {
        Self { name: hook.name.clone(), kind: hook.kind.to_string() }
    }
}

impl From<&limit::Limit> for Limit {
    fn from(limit: &limit::Limit) -> Self {
        Self { what: limits::code(limit).to_owned(), why: limits::reason(limit) }
    }
}
