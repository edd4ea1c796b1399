//! What a kernel program is attached to, and how.

use std::fmt;

/// What a kernel program is attached to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hook {
    /// The tracepoint or function.
    pub name: String,
    pub kind: HookKind,
}

/// How a kernel program is attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HookKind {
    /// A tracepoint whose program gets the kernel's own arguments as trusted pointers.
    BtfTracepoint,
    /// A tracepoint whose program gets a trace record.
    Tracepoint,
    /// The entry of a kernel function.
    Fentry,
    /// The return of a kernel function.
    Fexit,
}

impl fmt::Display for HookKind {
    /// As libbpf names program types.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::BtfTracepoint => "tp_btf",
            Self::Tracepoint => "tracepoint",
            Self::Fentry => "fentry",
            Self::Fexit => "fexit",
        })
    }
}
