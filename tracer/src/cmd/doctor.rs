//! `tracer doctor`: can this host run it, and what would be missing.

use std::fmt::Write as _;

use anyhow::Result;

use crate::bpf::loader::{self, BindHook, Servers};
use crate::bpf::preflight;
use crate::exit::Exit;
use crate::output::limits;
use crate::stdio::print;

/// Loads and attaches the programs for a moment, as a trace would, and reports the result.
///
/// # Errors
/// When stdout does not take the answer, or the kernel refuses what nothing can be seen without.
pub fn doctor() -> Result<Exit> {
    let mut out = String::new();
    let missing = preflight::check();
    for missing in &missing {
        writeln!(out, "missing  {}", missing.sentence)?;
        writeln!(out, "         hint: {}", missing.hint)?;
    }
    if !missing.is_empty() {
        print(out.as_bytes())?;
        return Ok(Exit::Host);
    }
    // The ring belongs to one.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let _context = runtime.enter();
    let servers = Servers::Named(Vec::new());
    let (kernel, _ring) = loader::attach(&[PORT], &servers, BindHook::Best, false)?;
    for hook in &kernel.hooks {
        writeln!(out, "ok       {} ({})", hook.name, hook.kind)?;
    }
    for limit in kernel.limits.iter().chain(&preflight::limits()) {
        writeln!(out, "limit    {}: {}", limits::code(limit), limits::reason(limit))?;
    }
    writeln!(out, "This host can run it.")?;
    print(out.as_bytes())?;
    Ok(Exit::Done)
}

/// Any will do.
const PORT: u16 = 1;
