//! Which host this is.

use uuid::Uuid;

/// What the `start` line shows of the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    /// `uname -n`
    pub name: String,
    /// `uname -r`
    pub release: String,
    /// `uname -m`
    pub machine: String,
    /// A new one at each boot; `None`: not readable.
    pub boot_id: Option<Uuid>,
}

/// Reads `/proc` and `uname(2)`.
pub fn describe() -> Host {
    let uname = rustix::system::uname();
    let text = |value: &std::ffi::CStr| crate::model::escape::escape(value.to_bytes());
    let boot_id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok();
    Host {
        name: text(uname.nodename()),
        release: text(uname.release()),
        machine: text(uname.machine()),
        boot_id: boot_id.and_then(|id| Uuid::parse_str(id.trim()).ok()),
    }
}
