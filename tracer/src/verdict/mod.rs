//! Why a connect was refused: a pure function of the refusal and of what is known of the host.
//!
//! ```text
//! locate ─▶ scene (what stands around the refusal) ─▶ rules (one table) ─▶ evidence (what led to it)
//!                                                       └─▶ planner (what to ask the host first)
//! ```
//!
//! A new cause is one more row in [`rules`].

pub mod coverage;
pub mod evidence;
pub mod locate;
pub mod planner;
pub mod published;
pub mod rules;
pub mod scene;
pub mod server;
pub mod turns;
pub mod uncertainty;
