//! The commands, one a file or a folder. Each returns the exit code, or the error that `main` prints.
//!
//! | file | job |
//! |---|---|
//! | `trace/` | the main loop: attach, scan, follow the stream |
//! | `trace/signals.rs` | the signals that end a trace |
//! | `trace/readers.rs` | ends a trace whose stdout was closed |
//! | `trace/undetectable.rs` | which causes the limits of this host hide |
//! | `trace/kernel_log.rs` | with `-v`: the kernel programs' messages |
//! | `record.rs` | a trace that also writes a recording |
//! | `replay.rs` | the lines of a recording |
//! | `status/` | one answer for each address asked about |
//! | `status/targets.rs` | the addresses and ports that the command line names |
//! | `status/one_scan.rs` | one scan of the host, and the queries that follow from it |
//! | `status/probe.rs` | the connect of `--probe` |
//! | `show.rs` | a log in JSON as text |
//! | `explain.rs` | a cause as a page |
//! | `doctor.rs` | whether this host can run tracer |
//! | `schema.rs` | the JSON Schema of a line |
//! | `man.rs` | the manual page |
//! | `completions.rs` | the completions of a shell |

pub mod completions;
pub mod doctor;
pub mod explain;
pub mod man;
pub mod record;
pub mod replay;
pub mod schema;
pub mod show;
pub mod status;
pub mod trace;
