//! What the live tests are made of: actors that own real sockets, namespaces to put them in, the guard
//! of a running `tracer`, and the story builder that strings them together.
//!
//! Everything here cleans up after itself when it is dropped, a panicking test included, and touches
//! nothing that it did not make.

pub mod actor;
pub mod cast;
pub mod cgroup;
pub mod late;
pub mod maps;
pub mod needs;
pub mod netns;
pub mod port;
pub mod sabotage;
pub mod schema;
pub mod story;
#[path = "../token.rs"]
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
        assert!(Instant::now() < deadline, "after {LIMIT:?} still waiting for {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}
