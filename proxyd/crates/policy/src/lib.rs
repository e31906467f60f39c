//! The policy model and its decisions, without I/O, clocks or a file format.
//!
//! A [`PolicySet`] is immutable and complete: every reference between policies is resolved, so a
//! session that holds one needs nothing else to decide. What a decision needs from the world (the
//! local time, the gateway's own addresses, what a name resolved to) is handed in.

pub mod admit;
pub mod audit;
pub mod channel;
pub mod connection;
pub mod credential;
pub mod files;
pub mod gateway;
pub mod limits;
pub mod net;
pub mod pattern;
pub mod reason;
pub mod settings;
pub mod target;
pub mod time;
pub mod usermapping;

pub use admit::{Admitted, Flow, PolicySet};
pub use connection::ConnectionPolicy;
pub use reason::DenyReason;
