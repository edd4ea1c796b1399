//! Random histories: what real processes do with a port, a refused connect in the middle of it, and the verdict against the
//! right answer.
//!
//! [`plan`] makes the steps of a history from a seed, [`stage`] carries them out with processes that [`player`] plays,
//! [`model`] has the right answer, by the contract alone, and [`run`] holds tracer's verdicts against it. Each history is in a network
//! namespace of its own, many in parallel under one tracer.
//!
//! A program that runs histories is also the processes: its `main` calls [`player::main`] for the word [`player::WORD`].

pub mod model;
pub mod plan;
pub mod player;
pub mod random;
pub mod run;
pub mod stage;
