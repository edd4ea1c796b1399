//! The kernel side as user space sees it: what this kernel can do, the programs, the ring, what was lost.

pub mod btf;
mod counted_table;
mod features;
pub mod kernel;
pub mod loader;
pub mod losses;
mod names;
mod object;
mod offsets;
mod pace;
pub mod preflight;
mod probes;
pub mod ring;
mod tracepoint;
mod upstream;
