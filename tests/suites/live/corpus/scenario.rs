//! What a scenario is made of: plain data, with nothing in it that runs.
//!
//! Addresses are written as in a URL, without a port: it is the scenario's, which the tracer watches. `127.0.0.1:other` is
//! on one that it does not, `127.0.0.1:any` on whichever is free. `10.x.y.1` and `[fd00:p::1]` are addresses that no
//! other scenario has at the same time. In the text of a verdict, `{gateway}` stands for that process as the log names it,
//! `{pid gateway}` for its number, `{port}` and `{other port}` for the ports, and `{netns container}` for the name of a
//! namespace.

use rustix::io::Errno;
use tracer::output::schema::{Because, Call, Cause, Mismatch};

use tests::fixture::By;
use tests::needs::Need;

/// The scenarios of one cause.
#[derive(Clone, Copy, Debug)]
pub struct Group {
    pub cause: Cause,
    pub scenarios: &'static [Scenario],
}

/// One scenario: who did what, in order, and what the log must report.
#[derive(Clone, Copy, Debug)]
pub struct Scenario {
    /// Unique in the corpus.
    pub name: &'static str,
    /// What happened, in one sentence.
    pub sentence: &'static str,
    /// Processes that are more than their names.
    pub processes: &'static [NamedProcess],
    /// What the host must be able to do, besides what the steps show.
    pub needs: &'static [Need],
    /// More arguments of the tracer.
    pub arguments: &'static [&'static str],
    pub orders: Orders,
    pub steps: &'static [Step],
}

pub const fn scenario(name: &'static str, sentence: &'static str, steps: &'static [Step]) -> Scenario {
    Scenario { name, sentence, processes: &[], needs: &[], arguments: &[], orders: Orders::AsWritten, steps }
}

impl Scenario {
    pub const fn processes(self, processes: &'static [NamedProcess]) -> Self {
        Self { processes, ..self }
    }

    pub const fn needs(self, needs: &'static [Need]) -> Self {
        Self { needs, ..self }
    }

    pub const fn arguments(self, arguments: &'static [&'static str]) -> Self {
        Self { arguments, ..self }
    }

    /// Played twice: as written, and with a tracer that is there before any of it.
    pub const fn in_both_orders(self) -> Self {
        Self { orders: Orders::Both, ..self }
    }
}

/// When the tracer starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Orders {
    /// At its step.
    AsWritten,
    /// That, and once more before all the others.
    Both,
}

/// The namespace of everything for which the scenario names no other.
pub const HOST: &str = "host";

/// A process: its name in the scenario, and its process spec.
#[derive(Clone, Copy, Debug)]
pub struct NamedProcess {
    pub name: &'static str,
    pub comm: &'static str,
    /// File name of its program, when that matters.
    pub program: Option<&'static str>,
    pub arguments: &'static [&'static str],
    pub uid: u32,
    pub netns: &'static str,
}

/// A process of root that calls itself what the scenario calls it.
pub const fn process(name: &'static str) -> NamedProcess {
    NamedProcess { name, comm: name, program: None, arguments: &[], uid: 0, netns: HOST }
}

impl NamedProcess {
    pub const fn comm(self, comm: &'static str) -> Self {
        Self { comm, ..self }
    }

    /// Started as this program, with these arguments.
    pub const fn program(self, program: &'static str, arguments: &'static [&'static str]) -> Self {
        Self { program: Some(program), arguments, ..self }
    }

    pub const fn uid(self, uid: u32) -> Self {
        Self { uid, ..self }
    }

    pub const fn inside(self, netns: &'static str) -> Self {
        Self { netns, ..self }
    }
}

/// How a server asks for its address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sockopt {
    Ipv6Only,
    /// Bound to this interface (SO_BINDTODEVICE).
    ToDevice(&'static str),
    ReuseAddr,
    Multipath,
}

/// How a client connects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// `connect()` returns the outcome.
    Blocking,
    /// As curl, Node, Go: EINPROGRESS, and SO_ERROR has the outcome.
    Nonblocking,
    /// In a thread that has a name of its own.
    Thread,
    /// By multipath TCP.
    Multipath,
    /// From a source address that it has bound.
    From(&'static str),
    /// On a socket that is bound to an interface.
    OnDevice(&'static str),
}

impl Kind {
    /// As the table has it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Blocking => "blocking",
            Self::Nonblocking => "non-blocking",
            Self::Thread => "thread",
            Self::Multipath => "multipath TCP",
            Self::From(_) => "bound source",
            Self::OnDevice(_) => "bound to an interface",
        }
    }
}

#[derive(Clone, Copy, Debug)]
pub enum Step {
    /// The tracer starts and is ready.
    Trace,

    // The setting.
    /// One more network namespace, with a name.
    Namespace(&'static str),
    /// One without a name, where only `lo` is up.
    Pod(&'static str),
    /// A veth pair between the host (`eth1` with 10.x.y.1 and fd00:p::1) and a namespace (`eth1` with 10.x.y.2 and
    /// fd00:p::2).
    Join(&'static str),
    /// Commands of `ip` in a namespace, one a line.
    Ip(&'static str, &'static str),
    /// Rules of nftables in a namespace.
    Nft(&'static str, &'static str),
    /// A setting of the kernel in a namespace: its path under /proc/sys, and the value.
    Sysctl(&'static str, &'static str, &'static str),

    // Servers.
    /// A process starts, and does no more.
    Start(&'static str),
    /// bind() and listen().
    Listen(&'static str, &'static str, &'static [Sockopt]),
    /// Listens on a Unix socket with this abstract name.
    Unix(&'static str, &'static str),
    /// A server that listens elsewhere has done so for as long as it takes to be settled there.
    Settle(&'static str),
    /// bind() alone.
    Bind(&'static str, &'static str, &'static [Sockopt]),
    BindFails(&'static str, &'static str, Errno),
    /// listen() on what is bound.
    ListenBound(&'static str),
    ListenFails(&'static str, Errno),
    /// Closes its socket, and is still running.
    Close(&'static str),
    Exit(&'static str, u8),
    /// Ends by SIGKILL.
    Kill(&'static str),
    /// A server ends a connection that this client made, so that the port stays in TIME-WAIT.
    TimeWait(&'static str, &'static str, &'static str),

    // Clients.
    /// Connects that are refused.
    Refused(Refusal),
    /// One that is answered.
    Answered(&'static str, Kind, &'static str),
    /// One that is answered from this local address and is kept.
    Keep(&'static str, &'static str, Kind),
    /// Refused again, so many times, as it was before: the client, where to, how often.
    Again(&'static str, &'static str, u32),

    // What follows.
    /// A destination is answered again.
    Recovered {
        to: &'static str,
        by: &'static str,
        refusals: u64,
        processes: u64,
    },
    /// A client's first address is refused, and its next is answered immediately.
    Fallback {
        refused: Refusal,
        answered: &'static str,
    },
    /// The repeat group of the line about a client's refusal.
    Repeated {
        who: &'static str,
        to: &'static str,
        count: u64,
        processes: u64,
    },
}

/// Connects of one client, each of which is refused for the same reason.
#[derive(Clone, Copy, Debug)]
pub struct Refusal {
    pub who: &'static str,
    pub kind: Kind,
    pub to: &'static [&'static str],
    pub by: By,
    pub cause: Cause,
    pub because: &'static [Because],
    /// The server has bound the port: it is known by more than its name.
    pub is_by_call: bool,
    /// Listeners that should have answered.
    pub covered_by: &'static [&'static str],
    /// Those that could not, nearest first.
    pub evaluates: &'static [(&'static str, Mismatch)],
    /// The last first.
    pub failed_binds: &'static [FailedBind],
    pub candidates: &'static [(&'static str, End)],
    /// Parts of the summary.
    pub summary: &'static [&'static str],
    /// What neither the summary nor the hint may have.
    pub never_shows: &'static [&'static str],
    /// Parts of the hint.
    pub hints: &'static [&'static str],
}

pub const fn refused(who: &'static str, kind: Kind, to: &'static [&'static str], cause: Cause) -> Refusal {
    Refusal {
        who,
        kind,
        to,
        by: By::Stack,
        cause,
        because: &[],
        is_by_call: false,
        covered_by: &[],
        evaluates: &[],
        failed_binds: &[],
        candidates: &[],
        summary: &[],
        never_shows: &[],
        hints: &[],
    }
}

impl Refusal {
    pub const fn by(self, by: By) -> Self {
        Self { by, ..self }
    }

    pub const fn because(self, because: &'static [Because]) -> Self {
        Self { because, ..self }
    }

    pub const fn by_call(self) -> Self {
        Self { is_by_call: true, ..self }
    }

    pub const fn covered_by(self, covered_by: &'static [&'static str]) -> Self {
        Self { covered_by, ..self }
    }

    pub const fn evaluates(self, evaluates: &'static [(&'static str, Mismatch)]) -> Self {
        Self { evaluates, ..self }
    }

    pub const fn failed_binds(self, failed_binds: &'static [FailedBind]) -> Self {
        Self { failed_binds, ..self }
    }

    pub const fn candidates(self, candidates: &'static [(&'static str, End)]) -> Self {
        Self { candidates, ..self }
    }

    pub const fn summary(self, summary: &'static [&'static str]) -> Self {
        Self { summary, ..self }
    }

    pub const fn never_shows(self, never_shows: &'static [&'static str]) -> Self {
        Self { never_shows, ..self }
    }

    pub const fn hints(self, hints: &'static [&'static str]) -> Self {
        Self { hints, ..self }
    }
}

/// How a candidate is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Alive,
    Code(i32),
    Killed,
}

/// A call that failed, as the verdict has it.
#[derive(Clone, Copy, Debug)]
pub struct FailedBind {
    pub who: &'static str,
    pub call: Call,
    pub at: &'static str,
    pub errno: &'static str,
    pub times: u64,
    pub held_by: &'static [Holder],
}

pub const fn failed_bind(who: &'static str, at: &'static str, errno: &'static str) -> FailedBind {
    FailedBind { who, call: Call::Bind, at, errno, times: 1, held_by: &[] }
}

impl FailedBind {
    pub const fn listen(self) -> Self {
        Self { call: Call::Listen, ..self }
    }

    pub const fn times(self, times: u64) -> Self {
        Self { times, ..self }
    }

    pub const fn held_by(self, held_by: &'static [Holder]) -> Self {
        Self { held_by, ..self }
    }
}

/// A socket that holds the port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holder {
    /// No process's any more.
    TimeWait(&'static str),
    Listener(&'static str, &'static str),
    /// A client's.
    Client(&'static str, &'static str),
    /// One that is bound and does not listen, which kernels before 6.8 do not list.
    Bound(&'static str, &'static str),
}

impl Step {
    /// Whether a server comes to be what the scenario is about.
    pub const fn is_of_a_server(&self) -> bool {
        matches!(
            self,
            Self::Start(_)
                | Self::Unix(..)
                | Self::Listen(..)
                | Self::Bind(..)
                | Self::BindFails(..)
                | Self::ListenBound(_)
        )
    }

    /// The connects that are refused in it, but for repeats.
    pub const fn refusal(&self) -> Option<&Refusal> {
        match self {
            Self::Refused(refusal) | Self::Fallback { refused: refusal, .. } => Some(refusal),
            _ => None,
        }
    }
}
