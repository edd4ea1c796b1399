//! From the first record of a refusal to its last line, without I/O and without a clock.
//!
//! [`Core`](self::core::Core) takes kernel events, answers and the time. It returns
//! [`Finding`](finding::Finding)s, which become lines, and [`Requests`](requests::Requests), which the caller hands to the
//! host and to the kernel side.
//!
//! ```text
//! event ──▶ gate ─▶ core/events ──▶ state ─▶ transitions ─▶ announcements ─▶ findings
//! answer ─▶ gate ─▶ core/answers ─▶ state ─▶ transitions ─▶ announcements ─▶ findings
//!
//! refusal ─▶ refusals ─▶ classify ─▶ tracked: wait ─▶ classify again ─▶ findings
//!                                      │                                 ├─▶ repeats: like one that was reported
//!                                      └─▶ in_flight: queries            ├─▶ recoveries: its destination is answered again
//!                                                                        └─▶ fallbacks: its client tried the other family
//! ```
//!
//! | file | job |
//! |---|---|
//! | `core` | when each event and each answer is taken, and what is due |
//! | `core/events` | what each event changes |
//! | `core/answers` | what each answer changes |
//! | [`gate`] | the events and answers that wait for each other |
//! | [`in_flight`] | the queries that are not answered yet |
//! | [`requests`] | what the core requests of its caller |
//! | [`progress`] | how far the stream has been taken |
//! | [`transitions`] | the finding of a change of the state |
//! | [`finding`] | what a finding holds |
//! | [`announcements`] | findings about sockets, until their process and namespace are described |
//! | [`config_changes`] | changes of configuration files, until their settings are read |
//! | [`refusals`] | every refusal: reported or counted, and what may follow it |
//! | [`tracked`] | one refusal: what it waits for |
//! | [`repeats`] | refusals like one that was reported |
//! | [`recoveries`] | destinations that were refused, until a listener covers them |
//! | [`fallbacks`] | refusals that a connect to the other family may follow |
//! | [`counts`] | what a run has counted |
//! | [`candidates`] | whether a program that has started is a server candidate |
//! | `names` | the names of programs that were servers |
//! | [`holders`] | processes that hold a listener on a watched port |
//! | [`heirs`] | which process holds a listener after its owner has ended |
//! | [`upstream`] | the connects of servers to other servers |
//! | [`inquiry`] | the verdict on a connect that is not made, for `tracer status` |

pub mod announcements;
pub mod candidates;
pub mod config_changes;
pub mod core;
pub mod counts;
pub mod fallbacks;
pub mod finding;
pub mod gate;
pub mod heirs;
pub mod holders;
pub mod in_flight;
pub mod inquiry;
mod names;
pub mod progress;
pub mod recoveries;
pub mod refusals;
pub mod repeats;
pub mod requests;
pub mod tracked;
pub mod transitions;
pub mod upstream;
