//! Messages of channels (RFC 4254 section 5).

use super::number;
use super::text::clean;
use crate::cursor::{Reader, Writer};
use crate::error::DecodeError;
use crate::limits::OPEN_FAILURE_TEXT_BYTES_MAX;

/// A `SSH_MSG_CHANNEL_OPEN` (RFC 4254 section 5.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Open<'a> {
    /// Channel type, such as `session`.
    pub kind: &'a [u8],
    /// The opener's number for the channel.
    pub sender: u32,
    /// Bytes that may be sent to the opener.
    pub window_bytes: u32,
    /// Largest data packet the opener takes, in bytes.
    pub packet_bytes_max: u32,
    /// Type-specific fields, unread.
    pub details: &'a [u8],
}

impl<'a> Open<'a> {
    /// Reads the message.
    pub fn parse(message: &'a [u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(message);
        reader.u8("message number")?;
        Ok(Self {
            kind: reader.string("channel type")?,
            sender: reader.u32("sender channel")?,
            window_bytes: reader.u32("initial window size")?,
            packet_bytes_max: reader.u32("maximum packet size")?,
            details: reader.rest(),
        })
    }

    /// The message.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut writer = Writer::message(number::CHANNEL_OPEN);
        writer.string(self.kind).u32(self.sender).u32(self.window_bytes);
        writer.u32(self.packet_bytes_max).raw(self.details);
        writer.into_bytes()
    }
}

/// A `SSH_MSG_CHANNEL_OPEN_CONFIRMATION` (RFC 4254 section 5.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Confirmation<'a> {
    /// The opener's number.
    pub recipient: u32,
    /// The other side's number.
    pub sender: u32,
    /// Bytes that may be sent to the confirming side.
    pub window_bytes: u32,
    /// Largest data packet the confirming side takes, in bytes.
    pub packet_bytes_max: u32,
    /// Type-specific fields, unread.
    pub details: &'a [u8],
}

impl<'a> Confirmation<'a> {
    /// Reads the message.
    pub fn parse(message: &'a [u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(message);
        reader.u8("message number")?;
        Ok(Self {
            recipient: reader.u32("recipient channel")?,
            sender: reader.u32("sender channel")?,
            window_bytes: reader.u32("initial window size")?,
            packet_bytes_max: reader.u32("maximum packet size")?,
            details: reader.rest(),
        })
    }

    /// The message.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut writer = Writer::message(number::CHANNEL_OPEN_CONFIRMATION);
        writer.u32(self.recipient).u32(self.sender).u32(self.window_bytes);
        writer.u32(self.packet_bytes_max).raw(self.details);
        writer.into_bytes()
    }
}

/// A `SSH_MSG_CHANNEL_REQUEST` (RFC 4254 section 5.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Request<'a> {
    /// The recipient's number for the channel.
    pub recipient: u32,
    /// Request type, such as `shell`.
    pub kind: &'a [u8],
    /// Whether the sender expects an answer.
    pub want_reply: bool,
    /// Type-specific fields, unread.
    pub details: &'a [u8],
}

impl<'a> Request<'a> {
    /// Reads the message.
    pub fn parse(message: &'a [u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(message);
        reader.u8("message number")?;
        Ok(Self {
            recipient: reader.u32("recipient channel")?,
            kind: reader.string("request type")?,
            want_reply: reader.bool("want reply")?,
            details: reader.rest(),
        })
    }

    /// The one string that `exec` and `subsystem` carry.
    pub fn argument(&self, field: &'static str) -> Result<&'a [u8], DecodeError> {
        let mut reader = Reader::new(self.details);
        let argument = reader.string(field)?;
        reader.finish()?;
        Ok(argument)
    }
}

/// A terminal's size in characters (RFC 4254 sections 6.2 and 6.7).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    /// Characters in a row.
    pub columns: u32,
    /// Rows.
    pub rows: u32,
}

impl Size {
    fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let columns = reader.u32("columns")?;
        let rows = reader.u32("rows")?;
        reader.u32("width in pixels")?;
        reader.u32("height in pixels")?;
        Ok(Self { columns, rows })
    }

    /// The details of a `window-change` request.
    pub fn parse(details: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(details);
        let size = Self::read(&mut reader)?;
        reader.finish()?;
        Ok(size)
    }

    /// The details of a `pty-req` request: the terminal's type, and its size.
    pub fn parse_pty(details: &[u8]) -> Result<(&[u8], Self), DecodeError> {
        let mut reader = Reader::new(details);
        let terminal = reader.string("terminal type")?;
        let size = Self::read(&mut reader)?;
        reader.string("terminal modes")?;
        reader.finish()?;
        Ok((terminal, size))
    }
}

/// The channel number with which every channel message but `CHANNEL_OPEN` starts.
pub fn recipient(message: &[u8]) -> Result<u32, DecodeError> {
    let mut reader = Reader::new(message);
    reader.u8("message number")?;
    reader.u32("recipient channel")
}

/// The bytes added by a `SSH_MSG_CHANNEL_WINDOW_ADJUST`.
pub fn parse_adjust(message: &[u8]) -> Result<u32, DecodeError> {
    let mut reader = Reader::new(message);
    reader.u8("message number")?;
    reader.u32("recipient channel")?;
    let bytes = reader.u32("bytes to add")?;
    reader.finish()?;
    Ok(bytes)
}

/// The data of a `SSH_MSG_CHANNEL_DATA` or `SSH_MSG_CHANNEL_EXTENDED_DATA`, with the data type
/// of the latter (1 is standard error).
pub fn parse_data(message: &[u8]) -> Result<(Option<u32>, &[u8]), DecodeError> {
    let mut reader = Reader::new(message);
    let extended = reader.u8("message number")? == number::CHANNEL_EXTENDED_DATA;
    reader.u32("recipient channel")?;
    let kind = if extended { Some(reader.u32("data type code")?) } else { None };
    let data = reader.string("data")?;
    reader.finish()?;
    Ok((kind, data))
}

/// Refuses a channel.
#[must_use]
pub fn open_failure(recipient: u32, reason: OpenFailure, text: &str) -> Vec<u8> {
    let mut writer = Writer::message(number::CHANNEL_OPEN_FAILURE);
    let text = clean(text.as_bytes(), OPEN_FAILURE_TEXT_BYTES_MAX);
    writer.u32(recipient).u32(reason.code()).string(text.as_bytes()).string(b"");
    writer.into_bytes()
}

/// Why a channel is not opened (RFC 4254 section 5.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OpenFailure {
    /// By policy.
    Prohibited,
    /// The type is not known here.
    UnknownKind,
    /// Too many channels are open.
    Shortage,
}

impl OpenFailure {
    const fn code(self) -> u32 {
        match self {
            Self::Prohibited => 1,
            Self::UnknownKind => 3,
            Self::Shortage => 4,
        }
    }
}

/// Grants `bytes` more to the recipient.
#[must_use]
pub fn adjust(recipient: u32, bytes: u32) -> Vec<u8> {
    let mut writer = Writer::message(number::CHANNEL_WINDOW_ADJUST);
    writer.u32(recipient).u32(bytes);
    writer.into_bytes()
}

/// Data.
#[must_use]
pub fn data(recipient: u32, data: &[u8]) -> Vec<u8> {
    let mut writer = Writer::message(number::CHANNEL_DATA);
    writer.u32(recipient).string(data);
    writer.into_bytes()
}

/// Nothing more comes.
#[must_use]
pub fn close(recipient: u32) -> Vec<u8> {
    let mut writer = Writer::message(number::CHANNEL_CLOSE);
    writer.u32(recipient);
    writer.into_bytes()
}

/// Data on the recipient's standard error.
#[must_use]
pub fn stderr(recipient: u32, data: &[u8]) -> Vec<u8> {
    let mut writer = Writer::message(number::CHANNEL_EXTENDED_DATA);
    writer.u32(recipient).u32(STDERR).string(data);
    writer.into_bytes()
}

/// Data type code of standard error (RFC 4254 section 5.2).
pub const STDERR: u32 = 1;

/// Answers a channel request.
#[must_use]
pub fn reply(recipient: u32, granted: bool) -> Vec<u8> {
    let number = if granted { number::CHANNEL_SUCCESS } else { number::CHANNEL_FAILURE };
    let mut writer = Writer::message(number);
    writer.u32(recipient);
    writer.into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn opens_and_confirmations_are_read_back() {
        let open = Open {
            kind: b"session",
            sender: 7,
            window_bytes: 2,
            packet_bytes_max: 3,
            details: b"rest",
        };
        let message = open.encode();
        assert_eq!(Open::parse(&message), Ok(open));
        for length in 0..message.len() - open.details.len() {
            assert!(Open::parse(&message[..length]).is_err(), "open cut at {length}");
        }
        let confirmation = Confirmation {
            recipient: 7,
            sender: 9,
            window_bytes: 2,
            packet_bytes_max: 3,
            details: b"",
        };
        let message = confirmation.encode();
        assert_eq!(Confirmation::parse(&message), Ok(confirmation));
        for length in 0..message.len() {
            assert!(Confirmation::parse(&message[..length]).is_err(), "cut at {length}");
        }
    }

    #[test]
    fn data_must_fill_its_message() {
        let message = stderr(1, b"text");
        assert_eq!(parse_data(&message), Ok((Some(STDERR), b"text".as_slice())));
        for length in 0..message.len() {
            assert!(parse_data(&message[..length]).is_err(), "cut at {length}");
        }
        assert!(parse_data(&[message.as_slice(), b"x"].concat()).is_err());
    }

    #[test]
    fn sizes_are_read() {
        let mut details = Writer::new();
        details.string(b"xterm").u32(80).u32(24).u32(0).u32(0).string(b"\0");
        let size = Size { columns: 80, rows: 24 };
        assert_eq!(Size::parse_pty(details.as_bytes()), Ok((b"xterm".as_slice(), size)));
        let mut details = Writer::new();
        details.u32(80).u32(24).u32(0).u32(0);
        assert_eq!(Size::parse(details.as_bytes()), Ok(size));
        assert!(Size::parse(&details.as_bytes()[1..]).is_err());
    }
}
