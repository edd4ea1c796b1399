//! The log: findings become lines, and lines become JSON or text on stdout.
//!
//! | file | job |
//! |---|---|
//! | `schema.rs` | the published types of a line |
//! | `counts.rs` | counts by cause or role as an ordered JSON object |
//! | `published.rs` | the model's types as those of the schema |
//! | `clock.rs` | monotonic moments as wall-clock times |
//! | `view.rs` | what is known, as a line shows it: names, escaped text |
//! | `lines.rs` | gives lines their numbers and times |
//! | `reported.rs` | the line numbers of reported refusals |
//! | `bodies.rs` | findings and counts as the bodies of lines |
//! | `status.rs` | the answer of `tracer status` |
//! | `exposure.rs` | what a listener is open to |
//! | `subject.rs` | a refusal, its verdict, and the facts that follow from both |
//! | `phrases.rs` | phrases about a subject that sentences and hints have in common |
//! | `wording.rs` | the sentence of a verdict |
//! | `hints/` | what to do about a refusal |
//! | `words.rs` | the vocabulary: processes, addresses, counts, times, signals |
//! | `causes.rs` | what each cause means, for `tracer explain` |
//! | `limits.rs` | the limits of a run in words |
//! | `json.rs` | a line as JSON, and the JSON Schema |
//! | `text/` | a line as text for people |
//! | `renderer.rs` | one of the two forms |
//! | `hold.rs` | which lines of text wait, and until when |
//! | `sink.rs` | writes the log to stdout |

pub mod bodies;
pub mod causes;
pub mod clock;
pub mod counts;
mod exposure;
pub mod hints;
pub mod hold;
pub mod json;
pub mod limits;
pub mod lines;
pub mod phrases;
mod published;
pub mod renderer;
pub mod reported;
pub mod schema;
pub mod sink;
pub mod status;
pub mod subject;
pub mod text;
pub mod view;
pub mod wording;
pub mod words;
