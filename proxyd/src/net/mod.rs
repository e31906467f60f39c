//! Sockets and what is done with them.

pub mod socket;
