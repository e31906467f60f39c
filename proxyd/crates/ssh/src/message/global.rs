//! Global requests (RFC 4254 section 4).

use super::number;
use crate::cursor::{Reader, Writer};
use crate::error::DecodeError;

/// A `SSH_MSG_GLOBAL_REQUEST`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Request<'a> {
    /// Request name, such as `keepalive@openssh.com`.
    pub kind: &'a [u8],
    /// Whether the sender expects an answer.
    pub want_reply: bool,
    /// Request-specific fields, unread.
    pub details: &'a [u8],
}

impl<'a> Request<'a> {
    /// Reads the message.
    pub fn parse(message: &'a [u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(message);
        reader.u8("message number")?;
        let kind = reader.string("request name")?;
        let want_reply = reader.bool("want reply")?;
        Ok(Self { kind, want_reply, details: reader.rest() })
    }
}

/// A request that every peer answers and that changes nothing (OpenSSH's PROTOCOL).
#[must_use]
pub fn keepalive() -> Vec<u8> {
    let mut writer = Writer::message(number::GLOBAL_REQUEST);
    writer.string(b"keepalive@openssh.com").bool(true);
    writer.into_bytes()
}

/// Refuses a global request.
#[must_use]
pub fn failure() -> Vec<u8> {
    vec![number::REQUEST_FAILURE]
}
