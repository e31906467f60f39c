//! What passes the relay without a question, and what never does.

use super::Side;
use super::case::{Address, Endpoint, Place, Program, Wish};
use super::listeners::Listener;
use super::table::{Asked, Channel, Display, Kind, Stage};
use super::tap::Seen;
use crate::cursor::Reader;
use crate::error::DecodeError;
use crate::message::channel::{Open, OpenFailure, Request, Size};
use crate::message::global;
use crate::message::text::clean;

/// Settings of one connection.
#[derive(Debug, Clone, Default)]
pub struct Rules {
    /// Names of environment variables that pass; `*` at the end of one matches any rest.
    pub environment: Vec<String>,
}

impl Rules {
    /// What a request that passes means for the record; none where it does not pass.
    pub(super) fn passes_request<'m>(
        &self,
        from: Side,
        channel: &Channel,
        request: &Request<'m>,
    ) -> Result<Option<Seen<'m>>, DecodeError> {
        if channel.kind == Kind::Forward {
            return Ok(PASS_ANYWHERE.contains(&request.kind).then_some(Seen::Nothing));
        }
        let (channel, details) = (channel.id, request.details);
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

/// What a request of the client wants that the policy has to judge, and where the verdict takes
/// effect; none for requests that need no verdict.
pub(super) fn judged<'m>(
    channel: &Channel,
    request: &Request<'m>,
) -> Result<Option<(Wish<'m>, Place)>, DecodeError> {
    let program = match request.kind {
        b"auth-agent-req@openssh.com" => {
            Reader::new(request.details).finish()?;
            return Ok(Some((Wish::Agent, Place::Request(channel.id, Asked::Agent))));
        }
        b"x11-req" => {
            let display = display(request.details)?;
            return Ok(Some((Wish::X11, Place::Display(channel.id, display))));
        }
        // One program runs on a channel.
        _ if channel.stage == Stage::Started => return Ok(None),
        b"shell" => Program::Shell,
        b"exec" => Program::Exec(request.argument("command")?),
        b"subsystem" => Program::Subsystem(request.argument("subsystem name")?),
        _ => return Ok(None),
    };
    Ok(Some((Wish::Program(program), Place::Request(channel.id, Asked::Start))))
}

/// For how many channels the client opens its display (RFC 4254 section 6.3.1).
fn display(details: &[u8]) -> Result<Display, DecodeError> {
    let mut reader = Reader::new(details);
    let single = reader.bool("single connection")?;
    reader.string("x11 authentication protocol")?;
    reader.string("x11 authentication cookie")?;
    reader.u32("x11 screen number")?;
    reader.finish()?;
    Ok(if single { Display::Once } else { Display::Open })
}

/// What the opening of a channel comes to.
pub(super) enum Opening<'m> {
    /// A session, which needs no verdict before a program is started on it.
    Session,
    /// Something that the policy has to judge.
    Forward(Wish<'m>),
    /// Nothing that passes here, and why.
    Refused(OpenFailure, &'static str),
}

/// A channel that could pass, and may not.
pub(super) const PROHIBITED: Opening<'_> =
    Opening::Refused(OpenFailure::Prohibited, "not permitted by the gateway");

/// What a channel is that `from` opens, by its type alone.
pub(super) fn opening<'m>(from: Side, open: &Open<'m>) -> Result<Opening<'m>, DecodeError> {
    let mut reader = Reader::new(open.details);
    let wish = match (from, open.kind) {
        (Side::Client, b"session") => return Ok(Opening::Session),
        (Side::Client, b"direct-tcpip") => {
            let to = Endpoint::Tcp(address(&mut reader)?);
            Wish::Connect { to, originator: Some(address(&mut reader)?) }
        }
        (Side::Client, b"direct-streamlocal@openssh.com") => {
            let to = Endpoint::Socket(reader.string("socket path")?);
            // Reserved fields (OpenSSH's PROTOCOL, section 2.4).
            reader.string("reserved")?;
            reader.u32("reserved")?;
            Wish::Connect { to, originator: None }
        }
        (Side::Server, b"forwarded-tcpip") => {
            let at = Endpoint::Tcp(address(&mut reader)?);
            Wish::Accepted { at, originator: Some(address(&mut reader)?) }
        }
        (Side::Server, b"forwarded-streamlocal@openssh.com") => {
            let at = Endpoint::Socket(reader.string("socket path")?);
            reader.string("reserved")?;
            Wish::Accepted { at, originator: None }
        }
        (Side::Server, b"auth-agent@openssh.com") => Wish::AgentUse,
        (Side::Server, b"x11") => Wish::X11Use { originator: address(&mut reader)? },
        (_, kind) if KNOWN_CHANNELS.contains(&kind) => return Ok(PROHIBITED),
        _ => {
            return Ok(Opening::Refused(OpenFailure::UnknownKind, "unknown channel type"));
        }
    };
    reader.finish()?;
    Ok(Opening::Forward(wish))
}

/// What a global request says about a place where the server listens.
pub(super) enum Listening<'m> {
    /// It shall listen there.
    Start(Endpoint<'m>),
    /// It shall listen there no more.
    End(Endpoint<'m>),
}

/// What a global request says about listening; none for others, and none from a server.
pub(super) fn listening<'m>(
    from: Side,
    request: &global::Request<'m>,
) -> Result<Option<Listening<'m>>, DecodeError> {
    let mut reader = Reader::new(request.details);
    let listening = match (from, request.kind) {
        (Side::Client, b"tcpip-forward") => Listening::Start(Endpoint::Tcp(address(&mut reader)?)),
        (Side::Client, b"cancel-tcpip-forward") => {
            Listening::End(Endpoint::Tcp(address(&mut reader)?))
        }
        (Side::Client, b"streamlocal-forward@openssh.com") => {
            Listening::Start(Endpoint::Socket(reader.string("socket path")?))
        }
        (Side::Client, b"cancel-streamlocal-forward@openssh.com") => {
            Listening::End(Endpoint::Socket(reader.string("socket path")?))
        }
        _ => return Ok(None),
    };
    reader.finish()?;
    Ok(Some(listening))
}

/// Where the server listens, with the port that it chose where that was left to it (RFC 4254
/// section 7.1).
pub(super) fn chosen(listener: Listener, success: &[u8]) -> Result<Listener, DecodeError> {
    match listener {
        Listener::Tcp { host, port: 0 } => {
            let mut reader = Reader::new(success);
            reader.u8("message number")?;
            let port = reader.u32("port")?;
            Ok(Listener::Tcp { host, port })
        }
        Listener::Tcp { .. } | Listener::Socket(_) => Ok(listener),
    }
}

fn address<'m>(reader: &mut Reader<'m>) -> Result<Address<'m>, DecodeError> {
    Ok(Address { host: reader.string("address")?, port: reader.u32("port")? })
}

/// Whether a global request goes on.
pub(super) fn passes_global(from: Side, kind: &[u8]) -> bool {
    match from {
        Side::Client => kind == b"keepalive@openssh.com" || kind == b"no-more-sessions@openssh.com",
        Side::Server => kind == b"keepalive@openssh.com",
    }
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

/// What passes on channels that are no sessions.
const PASS_ANYWHERE: [&[u8]; 4] = [
    b"eow@openssh.com",
    b"keepalive@openssh.com",
    b"simple@putty.projects.tartarus.org",
    b"winadj@putty.projects.tartarus.org",
];

const PASS_FROM_SERVER: [&[u8]; 3] = [b"xon-xoff", b"eow@openssh.com", b"keepalive@openssh.com"];

/// Channel types that exist (RFC 4254, and OpenSSH's PROTOCOL).
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
