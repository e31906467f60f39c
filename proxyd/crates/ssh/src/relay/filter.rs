//! What passes the relay without a question, and what never does.

use super::tap::Seen;
use super::{ChannelId, Program, Side};
use crate::cursor::Reader;
use crate::error::DecodeError;
use crate::message::channel::{Request, Size};
use crate::message::text::clean;

/// Settings of one connection.
#[derive(Debug, Clone, Default)]
pub struct Rules {
    /// Names of environment variables that pass; `*` at the end of one matches any rest.
    pub environment: Vec<String>,
}

impl Rules {
    /// What a request that passes means for the record; none where it does not pass.
    pub fn passes_request<'m>(
        &self,
        from: Side,
        channel: ChannelId,
        request: &Request<'m>,
    ) -> Result<Option<Seen<'m>>, DecodeError> {
        let details = request.details;
        let seen = match (from, request.kind) {
            (Side::Client, b"pty-req") => {
                let (kind, size) = Size::parse_pty(details)?;
                Seen::Terminal { channel, kind, size }
            }
            (Side::Client, b"window-change") => {
                Seen::Resize { channel, size: Size::parse(details)? }
            }
            (Side::Client, b"env") => {
                let mut reader = Reader::new(details);
                let name = reader.string("variable name")?;
                let value = reader.string("variable value")?;
                reader.finish()?;
                if !self.passes_variable(name) {
                    return Ok(None);
                }
                Seen::Variable { channel, name, value }
            }
            (Side::Client, b"signal") => {
                Seen::Signal { channel, name: Reader::new(details).string("signal name")? }
            }
            (Side::Client, b"break") => Seen::Signal { channel, name: b"BREAK" },
            (Side::Server, b"exit-status") => {
                Seen::ExitStatus { channel, status: Reader::new(details).u32("exit status")? }
            }
            (Side::Server, b"exit-signal") => {
                Seen::ExitSignal { channel, name: Reader::new(details).string("signal name")? }
            }
            (Side::Client, kind) if PASS_FROM_CLIENT.contains(&kind) => Seen::Nothing,
            (Side::Server, kind) if PASS_FROM_SERVER.contains(&kind) => Seen::Nothing,
            _ => return Ok(None),
        };
        Ok(Some(seen))
    }

    fn passes_variable(&self, name: &[u8]) -> bool {
        self.environment.iter().any(|pattern| match pattern.strip_suffix('*') {
            Some(start) => name.starts_with(start.as_bytes()),
            None => name == pattern.as_bytes(),
        })
    }
}

/// The program that a request starts, if it is one that does.
pub(super) fn program<'m>(request: &Request<'m>) -> Result<Option<Program<'m>>, DecodeError> {
    Ok(match request.kind {
        b"shell" => Some(Program::Shell),
        b"exec" => Some(Program::Exec(request.argument("command")?)),
        b"subsystem" => Some(Program::Subsystem(request.argument("subsystem name")?)),
        _ => None,
    })
}

/// Whether a global request goes on.
pub(super) fn passes_global(from: Side, kind: &[u8]) -> bool {
    match from {
        Side::Client => kind == b"keepalive@openssh.com" || kind == b"no-more-sessions@openssh.com",
        Side::Server => kind == b"keepalive@openssh.com",
    }
}

/// Whether a channel type exists at all (RFC 4254, and OpenSSH's PROTOCOL).
pub(super) fn is_known_channel(kind: &[u8]) -> bool {
    KNOWN_CHANNELS.contains(&kind)
}

/// A peer's name for something, fit for a record.
pub(super) fn name(kind: &[u8]) -> String {
    clean(kind, NAME_BYTES_MAX)
}

/// Bytes of a peer's name that a record keeps; the names in use have at most 40.
const NAME_BYTES_MAX: usize = 64;

const PASS_FROM_CLIENT: [&[u8]; 5] = [
    b"xon-xoff",
    b"eow@openssh.com",
    b"keepalive@openssh.com",
    b"simple@putty.projects.tartarus.org",
    b"winadj@putty.projects.tartarus.org",
];

const PASS_FROM_SERVER: [&[u8]; 3] = [b"xon-xoff", b"eow@openssh.com", b"keepalive@openssh.com"];

const KNOWN_CHANNELS: [&[u8]; 8] = [
    b"session",
    b"x11",
    b"direct-tcpip",
    b"forwarded-tcpip",
    b"auth-agent@openssh.com",
    b"direct-streamlocal@openssh.com",
    b"forwarded-streamlocal@openssh.com",
    b"tun@openssh.com",
];
