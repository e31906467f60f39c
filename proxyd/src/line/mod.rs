//! The line: the steps of a session in order, whatever its protocol.

pub mod names;
pub mod protocol;
pub mod serve;
