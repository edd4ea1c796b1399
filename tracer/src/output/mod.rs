//! The log: its line types, its wording, and its two forms.

pub mod clock;
pub mod hints;
pub mod json;
pub mod lines;
mod published;
pub mod renderer;
pub mod schema;
pub mod sink;
pub mod status;
pub mod text;
pub mod view;
pub mod wording;
