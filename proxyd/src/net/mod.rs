//! Sockets: listening, accepting, connecting.

pub mod accept;
pub mod socket;
