//! Why a connect was refused: a function of the refusal and of what is known of the host, without I/O and without a clock.
//!
//! ```text
//! refusal ─▶ locate ─▶ scene ─▶ rules ─▶ classification ─▶ evidence ─▶ verdict
//!                        │        └─▶ uncertainty              │
//!                        └─▶ server                            ▼
//!                                        planner ─▶ queries for the host, where more is to be known first
//! ```
//!
//! [`locate`] finds the namespace that the destination is in. A [`scene`] is the refusal among what is known of the host, as
//! of the moment of the refusal; [`server`] finds the process that should have answered. The first of the [`rules`] whose
//! condition the scene meets is the cause, and [`uncertainty`] finds why it may be another one. The [`planner`] names the
//! queries that are to be answered before it is reported; the answers change the state, and the refusal is classified again.
//! [`evidence`] gathers what the verdict shows.
//!
//! | file | job |
//! |---|---|
//! | [`locate`] | in which namespace a destination is local |
//! | [`coverage`] | whether a listener answers a connect |
//! | [`conflict`] | which sockets keep a bind from its address |
//! | [`packet_filter`] | whether a packet filter refused, and where it is |
//! | [`scene`] | the questions that rules and evidence ask, one file for each subject |
//! | [`server`] | which process should have answered, and how that is known |
//! | [`rules`] | the table of causes: their order, condition, queries and uncertainties |
//! | [`uncertainty`] | what makes a verdict less than certain |
//! | [`planner`] | which queries are sent to the host first |
//! | [`considered`] | the listeners on the port, the nearest to answering first |
//! | [`evidence`] | what led to a verdict |
//! | [`prospect`] | what a connect that was not made would get |
//!
//! # A new cause
//!
//! 1. [`model::cause`](crate::model::cause): the cause.
//! 2. [`rules`]: its row, at its place in the order. Queries that no other cause has are planned in [`planner`], and
//!    uncertainties that no other cause has in [`uncertainty`].
//! 3. [`scene`]: the condition, in the file of its subject.
//! 4. [`evidence`]: what the verdict shows of it, where no other cause shows that.
//! 5. [`lifecycle::refusals`](crate::lifecycle::refusals): whether its destination can recover.
//! 6. [`output`](crate::output): its published name in `schema.rs`, its conversion in `published.rs`, its sentences in
//!    `subject.rs` and `wording.rs`, its hints in `hints/`.
//! 7. `output/causes.rs`: its page of `tracer explain`, from which docs/causes is generated.
//!
//! The compiler reports the exhaustive matches among these that lack it.

pub mod conflict;
pub mod considered;
pub mod coverage;
pub mod evidence;
pub mod locate;
pub mod packet_filter;
pub mod planner;
pub mod prospect;
pub mod rules;
pub mod scene;
pub mod server;
pub mod uncertainty;
