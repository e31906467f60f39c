//! SSH as a state machine: bytes in, bytes out, time handed in; no socket and no clock.
//!
//! Cryptography, and the randomness it needs, comes from aws-lc-rs and from nowhere else.
#![forbid(unsafe_code)]

pub mod cursor;
pub mod error;
pub mod limits;

pub use error::Error;
