//! Why a connect was refused: a pure function of the refusal and of what is known of the host.

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
