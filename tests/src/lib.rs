//! The testbed: what the suites, the benchmark and the soak are made of. Everything here cleans up after itself when it
//! is dropped, a panicking test included, and touches nothing that it did not make.
//!
//! | | |
//! |---|---|
//! | the program under test | [`binary`] (built from the sources as they are), [`tracer`] (the guard of a running one, the reader of its lines), [`schema`], [`token`] |
//! | the kernel | [`netns`], [`port`], [`cgroup`], [`bpf`] and [`maps`] (what a process holds there) |
//! | processes | [`process`] (starts one and sends it commands), [`actor`] (what it does), [`load`], [`systemd`] (units) |
//! | the host | [`needs`] (what a test cannot run without), [`limits`] (what this kernel costs a run), [`restricted`] (a host that lacks something) |
//! | tests | [`suite`], [`fixture`] (a namespace, ports and a tracer), [`simulation`] (a host without a kernel, for the pure core), [`stopped`] (one thread of a process), [`hung_mount`], [`interrupt`] |

pub mod actor;
pub mod binary;
pub mod bpf;
pub mod cgroup;
pub mod fixture;
pub mod histories;
pub mod hung_mount;
pub mod interrupt;
pub mod limits;
pub mod load;
pub mod maps;
pub mod needs;
pub mod netns;
pub mod port;
pub mod process;
pub mod restricted;
pub mod schema;
pub mod simulation;
pub mod stopped;
pub mod suite;
pub mod systemd;
pub mod token;
pub mod tracer;

use std::time::{Duration, Instant};

/// How long a test waits for an event that must come, on an emulated machine too. Only a failing test ever
/// waits so long.
pub const LIMIT: Duration = Duration::from_secs(180);

/// Asks until there is an answer, for what the kernel announces by no event.
pub fn poll<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + LIMIT;
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        interrupt::check();
        assert!(Instant::now() < deadline, "after {LIMIT:?} still waiting for {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}
