//! The commands, one a file.

pub mod doctor;
pub mod explain;
pub mod replay;
pub mod show;
pub mod status;
pub mod trace;
