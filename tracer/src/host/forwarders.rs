//! Processes that forward a port to another place, by their arguments and their own listeners.
//!
//! Arguments are the process's own choice: read to a bound, and of use only with a listener that the process has.

use super::process::Handle;
use super::{clock, netns, owners};
use crate::model::forward::{self, Forward};
use crate::model::forwarder::Forwarder;
use crate::model::path::without_deleted;
use crate::model::process::Process;
use crate::model::program;
use crate::model::socket::{Listener, NetnsId};
use crate::model::text::Text;

/// Bytes of the arguments that are read; a word that is cut is left out.
const ARGUMENTS: usize = 16 * 1024;

/// Forwarders that are reported: root's first.
const FOUND_MAX: usize = 16;

/// The running processes of a namespace that forward another port to `port` of another place, each with its listener.
/// `listeners` lists those of the namespace, once a process has such arguments.
pub fn find(netns: NetnsId, port: u16, listeners: impl FnOnce() -> Vec<Listener>) -> Vec<Forwarder> {
    let processes = netns::processes().unwrap_or_default();
    let near = processes.into_iter().filter(|(_, own)| *own == Some(netns));
    let mut forwarding: Vec<Forwarding> = near.filter_map(|(pid, _)| forwarding(pid, port)).collect();
    if forwarding.is_empty() {
        return Vec::new();
    }
    forwarding.sort_by_key(|one| (one.process.uid != Some(0), one.process.pid));
    let (listeners, clock) = (listeners(), clock::read());
    let mut found = Vec::new();
    for Forwarding { handle, process, forwards } in forwarding {
        let held = owners::held(&handle);
        let since = process.start.map(|start| clock.mono_of_start(start));
        for forward in forwards {
            let is_it = |listener: &&Listener| {
                listener.port == forward.port
                    && forward.listens_on(listener.addr)
                    && held.contains_key(&listener.key.inode)
            };
            let own = listeners.iter().filter(is_it).map(|listener| Forwarder {
                since,
                listener: Listener { process: process.clone(), ..listener.clone() },
                forward: forward.clone(),
            });
            found.extend(own);
            if found.len() >= FOUND_MAX {
                found.truncate(FOUND_MAX);
                return found;
            }
        }
    }
    found
}

/// A process that forwards to the port, by its arguments.
struct Forwarding {
    handle: Handle,
    process: Process,
    forwards: Vec<Forward>,
}

fn forwarding(pid: u32, port: u16) -> Option<Forwarding> {
    let handle = Handle::open(pid).ok()?;
    let exe = handle.exe()?;
    // The file may have been replaced by an update.
    let name = without_deleted(exe.file_name());
    if !program::is_forwarder(name) {
        return None;
    }
    let mut buffer = vec![0; ARGUMENTS];
    let arguments = handle.read(c"cmdline", &mut buffer)?;
    let whole = arguments.iter().rposition(|byte| *byte == 0)?;
    let words: Vec<&[u8]> = arguments[..whole].split(|byte| *byte == 0).collect();
    let mut forwards = forward::forwards(name, &words);
    forwards.retain(|forward| forward.target_port == port && forward.port != port);
    if forwards.is_empty() {
        return None;
    }
    let process = handle
        .describe()
        .map(|described| described.process)
        .filter(|process| process.exe.as_ref().map(Text::as_bytes) == Some(exe.as_bytes()))?;
    Some(Forwarding { handle, process, forwards })
}
