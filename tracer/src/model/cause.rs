//! The terms of a verdict: causes, uncertainties, mismatches.

use serde::{Deserialize, Serialize};

/// Why a connect was refused. The order in which causes are tried stands in [`crate::verdict::rules`] alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Cause {
    /// A packet filter of this host refused, and no listener covers the address.
    Filtered,
    /// The address belongs to no network namespace of this host.
    Remote,
    /// A listener covers the address and never received the connect: a packet filter, NAT or a redirect refused.
    Intercepted,
    /// A listener would cover the address but for the interface it is bound to.
    WrongDevice,
    /// The last `bind()` or `listen()` on the port failed.
    BindFailed,
    /// A listener that covered the address closed, and none has opened since.
    Stopped,
    /// A listener does not cover the address, but its counterpart of the other family.
    WrongFamily,
    /// A listener is up, on another address.
    WrongAddress,
    /// A socket is bound to the port, and does not listen.
    BoundNotListening,
    /// The server listens on another port.
    OtherPort,
    /// The server listens on a Unix socket or on UDP only.
    NotOnTcp,
    /// A server candidate is running, and has not listened yet.
    Starting,
    /// A server candidate has ended without listening.
    NeverListened,
    /// A listener is up, in another network namespace.
    OtherNetns,
    /// None of the above.
    NothingListening,
}

/// What makes a verdict less than certain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Because {
    /// Records were lost, and the listeners were not read again since.
    LostRecords,
    /// A network namespace that matters could not be read.
    NetnsUnreadable,
    /// The address may be translated to another (a Service or NAT address).
    MayBeTranslated,
    /// The address is local in several network namespaces.
    AmbiguousNetns,
    /// The refusal came before the snapshot was complete.
    BeforeReady,
    /// A listener opened or closed within 10 ms of the connect.
    ListenerChanging,
    /// This host shows no sign of a cause that would come first: see the limits of `start`.
    HookMissing,
    /// More listeners closed on the port than are remembered.
    HistoryForgotten,
    /// A query of the host was not answered within its deadline.
    QueryTimeout,
    /// A listener covers the address, and no dump after the refusal has confirmed that it was there all the time.
    ListenerUnconfirmed,
    /// Several services have listened on the port, or tried to: which of them should have answered is not known.
    SeveralOwners,
    /// The server is another user's, and not of a service that is known to be the server.
    UnverifiedServer,
    /// The server is known by its name alone, which any user can choose.
    ClaimOnly,
    /// The process has other arguments than the one that served the port.
    OtherArguments,
    /// The listener is the client's own, or that of a process that was refused there itself.
    OwnListener,
    /// The server listens elsewhere, and may still open this port.
    MayBeStarting,
    /// The port was not watched before the refusal: what happened on it earlier is not known.
    NotWatchedBefore,
}

/// Why a listener does not answer a connect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Mismatch {
    /// It is bound to another address of the same family.
    Address,
    /// It is bound to an address of the other family.
    Family,
    /// It is `[::]`, but for IPv6 only.
    V6only,
    /// It is bound to another interface.
    Device,
    /// It is in another network namespace.
    Netns,
    /// It is on another port.
    Port,
    /// It had closed.
    Closed,
    /// It had not opened yet.
    NotYet,
}
