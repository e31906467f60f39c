//! Answers, read as far as it takes to know how a request ended.

use super::cursor::{Cursor, Stop};
use super::error::SftpError;
use super::limits::HANDLE_BYTES_MAX;
use super::op::AnswerKind;
use crate::files::{Outcome, PATH_BYTES_MAX};

/// Type of the server's first packet (draft-ietf-secsh-filexfer-02 section 4).
pub(super) const VERSION: u8 = 2;
/// Type of a status (draft-ietf-secsh-filexfer-02 section 7).
const STATUS: u8 = 101;
/// Type of a handle.
const HANDLE: u8 = 102;
/// Type of content.
const DATA: u8 = 103;
/// Type of names with attributes.
const NAME: u8 = 104;
/// Type of attributes.
const ATTRIBUTES: u8 = 105;
/// Type of an answer of an extension (draft-ietf-secsh-filexfer-02 section 8).
const EXTENDED_REPLY: u8 = 201;

/// The status of what went well (draft-ietf-secsh-filexfer-02 section 7).
pub(super) const OK: u32 = 0;
/// The status of the end of a file.
pub(super) const END_OF_FILE: u32 = 1;
/// The status of what may not be done.
pub(super) const PERMISSION_DENIED: u32 = 3;

/// The names of statuses, from 0 on.
const STATUSES: &[&str] = &[
    "ok",
    "end of file",
    "no such file",
    "permission denied",
    "failure",
    "bad message",
    "no connection",
    "connection lost",
    "operation unsupported",
];

/// The first packet of the server, or an answer.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum FromServer<'a> {
    Version(u32),
    Answer { id: u32, kind: u8, answer: Answer<'a> },
}

/// An answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer<'a> {
    Status(u32),
    Handle(&'a [u8]),
    /// Content, whose length this is.
    Data(u64),
    /// Names, of which this is the first; none if there is none.
    Name(Option<&'a [u8]>),
    Attributes,
    Extended,
}

impl Answer<'_> {
    /// How a request ended that has this answer.
    pub(super) fn outcome(&self) -> Outcome<'static> {
        match *self {
            Self::Status(status) if status != OK => Outcome::Status(status_name(status)),
            Self::Status(_)
            | Self::Handle(_)
            | Self::Data(_)
            | Self::Name(_)
            | Self::Attributes
            | Self::Extended => Outcome::Done,
        }
    }

    pub(super) const fn kind(&self) -> AnswerKind {
        match self {
            Self::Status(_) => AnswerKind::Status,
            Self::Handle(_) => AnswerKind::Handle,
            Self::Data(_) => AnswerKind::Data,
            Self::Name(_) => AnswerKind::Name,
            Self::Attributes => AnswerKind::Attributes,
            Self::Extended => AnswerKind::Extended,
        }
    }
}

/// The name of a status.
fn status_name(status: u32) -> &'static str {
    let known = usize::try_from(status).ok().and_then(|status| STATUSES.get(status));
    known.copied().unwrap_or("unknown status")
}

/// Reads the start of a packet of the server.
pub(super) fn decode(head: &[u8]) -> Result<FromServer<'_>, Stop> {
    let mut cursor = Cursor::new(head)?;
    let kind = cursor.u8()?;
    let first = cursor.u32()?;
    let answer = match kind {
        VERSION => return Ok(FromServer::Version(first)),
        STATUS => Answer::Status(cursor.u32()?),
        HANDLE => Answer::Handle(cursor.string(HANDLE_BYTES_MAX)?),
        DATA => {
            let length = cursor.u32()?;
            let (offset, bytes) = (cursor.packet_bytes(), cursor.left_bytes());
            if usize::try_from(length).map_or(true, |length| length > bytes) {
                return Err(Stop::Bad(SftpError::Truncated { offset, bytes }));
            }
            Answer::Data(u64::from(length))
        }
        NAME => match cursor.u32()? {
            0 => Answer::Name(None),
            _ => Answer::Name(Some(cursor.string(PATH_BYTES_MAX)?)),
        },
        ATTRIBUTES => Answer::Attributes,
        EXTENDED_REPLY => Answer::Extended,
        _ => return Err(Stop::Bad(SftpError::UnknownAnswer(kind))),
    };
    // A handle that is cut would stand for others too.
    if cursor.is_cut() && kind == HANDLE {
        return Err(Stop::Bad(SftpError::HandleLength));
    }
    Ok(FromServer::Answer { id: first, kind, answer })
}
