//! The stream of kernel events: ring records in, batches of events out, each complete until a watermark.
//!
//! ```text
//! bpf::ring ─▶ record ─▶ decode ─▶ KernelEvent ─┐
//! bpf::losses ─▶ what was lost ─▶ Lost ─────────┴─▶ Batch { events, watermark, has_more } ─▶ run
//! ```
//!
//! | file | job |
//! |---|---|
//! | [`decode`] | the bytes of one record to one event, or to an error |
//! | [`event_stream`] | the events of a run, in batches, with what was lost before them |

pub mod decode;
pub mod event_stream;

pub use event_stream::{BATCH, Batch, EventStream};
