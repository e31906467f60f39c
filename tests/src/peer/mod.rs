//! Real programs on both sides of the gateway.

mod accounts;
pub mod dropbear;
pub mod kerberos;
pub mod postgres;
pub mod programs;
pub mod ssh;
pub mod sshd;
