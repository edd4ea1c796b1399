//! Whether a program that has started is a server candidate.

use crate::model::kernel_event::{Executed, ExecutedProgram};
use crate::model::process::{Arguments, Process, Text};
use crate::model::program;
use crate::products::recognise::{Named, Recognition};
use crate::query::Candidate;
use crate::state::HostState;

/// A program that has started, and is a server candidate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Started {
    pub candidate: Candidate,
    /// Its arguments alone name a product.
    pub is_by_arguments: bool,
}

/// The server candidate that an executed program is, by what the kernel read of it: the process may have ended by the time
/// that a query reads it.
pub fn started(executed: &Executed, recognition: &Recognition, state: &HostState) -> Option<Started> {
    let Executed { time, process, program } = executed;
    let Some(ExecutedProgram { netns, file_name, arguments: Some(arguments), is_cut, .. }) = program else {
        return None;
    };
    let comm = process.comm.as_ref().map(Text::as_bytes).unwrap_or_default();
    let words: Vec<&[u8]> = arguments.as_bytes().split(|byte| *byte == 0).collect();
    let script = program::script(file_name.as_bytes(), &words);
    let whole = match words.as_slice() {
        [whole @ .., []] => whole,
        whole => whole,
    };
    let whole = (!is_cut).then(|| Arguments::of(whole));
    // The path may never be known: the process may have ended.
    let (exe, uid_at_exec) = (Some(file_name.clone()), process.uid);
    let process = Process { script, arguments: whole, exe, uid_at_exec, ..process.clone() };
    let named = recognition.recognise(comm, Some(file_name.as_bytes()), arguments.as_bytes());
    let (product, port) = match named {
        Some(Named::Product(product)) => (Some(product), None),
        Some(Named::Pattern { port }) => (None, port),
        None => (None, None),
    };
    let is_launcher = program::is_launcher(file_name.as_bytes(), &words);
    let is_candidate = named.is_some() || !is_launcher && state.runs_a_server(&process);
    is_candidate.then(|| {
        let by_arguments = recognition.recognise(b"", None, arguments.as_bytes());
        let (time, netns, is_named) = (*time, *netns, named.is_some());
        Started {
            candidate: Candidate { time, since: time, netns, process, product, port, is_named },
            is_by_arguments: matches!(by_arguments, Some(Named::Product(_))),
        }
    })
}
