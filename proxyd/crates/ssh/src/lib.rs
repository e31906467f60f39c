//! SSH as a state machine: bytes in, bytes out, time handed in; no socket and no clock.
//!
//! A [`transport::Leg`] is one SSH connection, in either role. Whoever drives it copies bytes
//! between it and a socket and takes [`transport::Event`]s from it. Cryptography, and the
//! randomness it needs, comes from aws-lc-rs and from nowhere else.
#![forbid(unsafe_code)]

pub mod agent;
pub mod auth;
pub mod certificate;
pub mod cursor;
pub mod error;
pub mod limits;
pub mod message;
pub mod relay;
pub mod transport;

pub use error::Error;
