//! The protocols that the line can serve.

pub mod ssh;
