//! Real programs on both sides of the gateway.

pub mod programs;
pub mod ssh;
pub mod sshd;
