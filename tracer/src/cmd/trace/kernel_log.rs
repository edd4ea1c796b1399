//! With `-v`: the kernel programs' own messages, on stderr.

use anyhow::Result;
use aya_log::EbpfLogger;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::bpf::kernel::Kernel;
use crate::exit::Failure;
use crate::stdio::talk;

/// Prints the kernel programs' messages on stderr until the runtime ends.
///
/// # Errors
/// When the kernel does not give the messages.
pub fn follow(kernel: &mut Kernel) -> Result<()> {
    let logger: EbpfLogger<Stderr> = kernel.logger(Stderr)?;
    // SAFETY: the logger owns its map's descriptor, gives the same one every time, and is dropped with the
    // `AsyncFd` that owns it.
    let mut logger = unsafe { AsyncFd::register_with_interest(logger, Interest::READABLE) }
        .map_err(|error| Failure::host("cannot follow the kernel programs' messages", error.to_string()))?;
    tokio::task::spawn(async move {
        while let Ok(mut guard) = logger.readable_mut().await {
            guard.get_inner_mut().flush();
            guard.clear_ready();
        }
    });
    Ok(())
}

/// Writes messages to stderr.
struct Stderr;

impl log::Log for Stderr {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        talk(format_args!("tracer: kernel: {}", record.args()));
    }

    fn flush(&self) {}
}
