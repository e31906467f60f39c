//! Sockets: listening, accepting, connecting.

pub mod accept;
pub mod descriptors;
pub mod socket;
