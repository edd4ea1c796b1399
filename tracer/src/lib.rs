//! Explains, at the moment a connect is refused, which client was refused, which socket should have answered, and why it
//! did not.
//!
//! ```text
//! kernel programs ─▶ bpf::ring ─▶ stream ─▶ state ─▶ verdict ─▶ lifecycle ─▶ output ─▶ stdout
//! (tracer-ebpf)                   events     │  ▲        │                     lines
//!                                            ▼  │        ▼
//!                                   observations └── host ◀── queries
//! ```
//!
//! Data runs one way. [`stream`] turns ring records into kernel events, complete until a watermark. [`state`] takes events
//! and observations, and reports what changed. [`verdict`] classifies a refusal by one table of rules, and plans which
//! queries of the host it needs. [`lifecycle`] follows each refusal from its record to its last line, and gives findings.
//! [`output`] turns findings into numbered, dated, escaped lines. [`host`] answers queries on threads of its own.
//!
//! # Modules
//!
//! The lowest first: a module imports only those above it in this table. `tests/suites/architecture.rs` checks that.
//!
//! | module | job |
//! |---|---|
//! | [`stdio`] | lines for people on stderr, whole texts on stdout |
//! | [`exit`] | the exit codes, and the failures that lead to them |
//! | [`memory`] | gives memory that a burst took back to the system |
//! | [`model`] | ids, times, sockets, processes, kernel events, causes: plain data |
//! | [`products`] | what is known of single server products, one folder each |
//! | [`query`] | queries of the host and their answers: plain data |
//! | [`sandbox`] | capabilities: what tracer has, and how it gives up what it does not need |
//! | [`host`] | answers queries: netlink, namespaces, `/proc`, configuration files |
//! | [`bpf`] | the kernel programs: the table of probes, the loader, the ring, losses |
//! | [`stream`] | ring records as batches of events, each complete until a watermark |
//! | [`state`] | what is known of the host: listeners, namespaces, binds, servers, settings |
//! | [`verdict`] | the cause of a refusal, by one table of rules; what makes it uncertain; what to query first |
//! | [`lifecycle`] | a refusal from its record to its last line; repeats, recoveries, fallbacks |
//! | [`output`] | the log: schema, sentences, hints, JSON and text |
//! | [`run`] | joins the pure part: inputs in, lines out; no clock, no I/O |
//! | [`record`] | the inputs of a run as a file, from which the same lines come again |
//! | [`cli`] | the command line |
//! | [`cmd`] | the commands; [`cmd::trace`] is the main loop around [`run`] |
//! | `fuzz` | the parsers as fuzz targets |
//!
//! [`model`], [`products`], [`query`], [`state`], [`verdict`], [`lifecycle`], [`output`] but for [`output::sink`], [`run`] and
//! [`record`] are pure: functions of their arguments.
//!
//! # Where does a new ... go?
//!
//! Paths are below `tracer/src` where they begin with no other folder of the repository. Where a `match` is exhaustive,
//! the compiler names the place.
//!
//! | new | files |
//! |---|---|
//! | product | `products/NAME/`, its module and its entry of the registry in `products/mod.rs`; its place in `output/hints/table.rs`, where a hint has none yet; an example of each hint in `tests/suites/hints.rs`; see [`products`] |
//! | proxy | a row in `products/proxies.rs` |
//! | owner of a socket (a forwarder) | `output/hints/owner.rs`, its rows in `output/hints/table.rs`; `model/program.rs` and `model/forward.rs` (its arguments) |
//! | probe | `tracer-ebpf/src/probes/NAME.rs` and `tracer-ebpf/src/probes/mod.rs`, a row in `bpf/probes.rs`; on a function or a classic tracepoint also its attachment in `bpf/loader.rs`; where a kernel may lack it, a limit; `cargo xtask build-ebpf` |
//! | kernel record | `tracer-ebpf/src/lib.rs` (the wire format) and the probe that fills it, `stream/decode.rs`, `stream/event_stream.rs`, `model/kernel_event.rs`, `lifecycle/core/events.rs` (where it is applied), `lifecycle/gate.rs`, `state/events.rs`; `tests/src/simulation.rs`, `tests/suites/decode.rs` |
//! | limit | `model/limit.rs`, `output/limits.rs`, `cmd/trace/undetectable.rs`, and where it is found: `bpf/preflight.rs`, `bpf/loader.rs`, `sandbox.rs` or `host/config_watch.rs`; `tests/src/limits.rs` |
//! | cause | `model/cause.rs`; `verdict/rules.rs`, `verdict/scene/` and `verdict/evidence.rs`; `lifecycle/refusals.rs` (whether it can recover), `cmd/status/mod.rs`; `output/schema.rs`, `output/published.rs`, `output/causes.rs`, `output/subject.rs`, `output/wording.rs`, `output/hints/table.rs`; the table in `README.md`, a group of scenarios in `tests/suites/live/corpus/scenarios`, `tests/src/histories/model.rs`; see [`verdict`] |
//! | reason of uncertainty | `model/cause.rs`, `verdict/uncertainty.rs` and the rows of `verdict/rules.rs` that it concerns, `output/schema.rs`, `output/published.rs`, `output/text/mod.rs` |
//! | hint | one row in `output/hints/table.rs`, or in `products/NAME/hints.rs`; an example in `tests/suites/hints.rs` |
//! | host query | `query/request.rs` (the query and its lane), `query/answer.rs` (its observation), `host/answers.rs` and the file that reads, `verdict/planner.rs` (when it is due) and a `PlannedQuery` in `verdict/rules.rs`, where a cause rests on it, `state/observations.rs` (what it changes), `lifecycle/core/answers.rs` (what follows from it); `tests/src/simulation.rs`, `tests/suites/golden/host.rs` |
//! | line type | `lifecycle/finding.rs`, `output/schema.rs`, `output/bodies.rs`, `output/text/mod.rs` |
//! | output form | a file in `output/`, `output/renderer.rs`, `output/sink.rs` (`-o`) |
//! | command | `cli.rs`, a file in `cmd/`, `cmd/mod.rs`, `main.rs`; `tests/suites/cli.rs` |
//!
//! A new file also stands in the list of the `mod.rs` of its folder. `UPDATE_DOCS=1` renews docs/hints.md, docs/causes and
//! docs/incidents.md.
//!
//! A change of a type that [`run::Setup`] or [`run::Input`] contains makes older recordings unreadable: `fuzz/record-seeds.sh` records the
//! seeds again.

#[cfg(not(target_endian = "little"))]
compile_error!(
    "tracer's kernel programs and records are little-endian: big-endian machines are not supported"
);

pub mod bpf;
pub mod cli;
pub mod cmd;
pub mod exit;
#[doc(hidden)]
pub mod fuzz;
pub mod host;
pub mod lifecycle;
pub mod memory;
pub mod model;
pub mod output;
pub mod products;
pub mod query;
pub mod record;
pub mod run;
pub mod sandbox;
pub mod state;
pub mod stdio;
pub mod stream;
pub mod verdict;
