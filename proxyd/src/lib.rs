//! The daemon.

pub mod net;
pub mod steering;
