//! Views of messages, one module per protocol layer; every view borrows the message it reads.

pub mod channel;
pub mod global;
pub mod gssapi;
pub mod number;
pub mod text;
pub mod userauth;
