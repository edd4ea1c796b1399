//! The kernel side as user space sees it: what this kernel can do, the programs, the ring, what was lost.
//!
//! ```text
//! preflight ─▶ features (btf, offsets) ─▶ loader: probes ─▶ object, tracepoint ─▶ Kernel, Ring
//!                                              kernel programs ─▶ ring (pace) ─▶ stream
//! core ─▶ Kernel ─▶ counted_table, upstream ─▶ tables and filters of the kernel programs
//!                   losses ◀─ counters ◀─────────────────┘
//! ```
//!
//! | file | job |
//! |---|---|
//! | [`preflight`] | what this host lacks, found before anything is loaded |
//! | `su_line` | the command that runs this very command as root |
//! | `features` | what the running kernel has |
//! | [`btf`] | its types: an index |
//! | `loader_btf` | the part of them that aya's loader needs |
//! | `offsets` | where its structures keep the fields that the programs read |
//! | `probes` | the table of programs: what each is attached to, and what is lost without it |
//! | [`loader`] | puts the programs in place: plan, load, attach |
//! | `object` | the compiled object: its globals, and its programs on BTF tracepoints |
//! | `tracepoint` | attaches a program to a classic tracepoint |
//! | [`kernel`] | the attached programs: what a run reads from them, and asks of them |
//! | `counted_table` | a table that counts what finds no place in it |
//! | `names` | the names of programs, as the kernel side looks them up |
//! | `openings` | when sockets began to listen, on any port |
//! | `upstream` | processes and ports that are added to the filters while the programs run |
//! | [`ring`] | the user side's end of the ring buffer |
//! | `pace` | when its reader is woken, and when it polls |
//! | [`losses`] | what the kernel side has lost |

pub mod btf;
mod counted_table;
mod features;
pub mod kernel;
pub mod loader;
mod loader_btf;
pub mod losses;
mod names;
mod object;
mod offsets;
mod openings;
mod pace;
pub mod preflight;
mod probes;
pub mod ring;
mod su_line;
mod tracepoint;
mod upstream;
