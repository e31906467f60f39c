//! The typed records inside a chunk, and their encoding.
//!
//! A record is its kind (1 byte), the length of its payload (4), its time (8) and the payload.
use crate::cursor::{Cursor, length_u32, put_blob, put_text};
use crate::error::{FieldError, TrailError};

/// The longest byte string in a record; the caller splits longer data into several records.
pub const DATA_BYTES_MAX: usize = 128 * 1024;

/// The most fields of one event: an event is a line for a reader, not a document.
pub const EVENT_FIELDS_MAX: usize = 64;

/// The longest payload of a record, so that a record always fits into an empty chunk.
pub const RECORD_PAYLOAD_BYTES_MAX: usize = 192 * 1024;

/// Where a channel's bytes come from (RFC 4254 section 5.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The client's bytes.
    Stdin,
    /// The server's bytes.
    Stdout,
    /// The server's extended data of type stderr.
    Stderr,
}

/// What was decided about a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChannelVerdict {
    /// The channel was opened.
    Allowed,
    /// The channel was refused.
    Refused,
}

/// One thing that happened in a session. Channels carry the gateway's own numbers.
///
/// Paths, commands and data are bytes as the peer sent them; whoever shows them on a terminal has
/// to filter their escape sequences.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record<'a> {
    /// A property of the session, such as its client address.
    Fact {
        /// What it is.
        name: &'a str,
        /// Its value.
        value: &'a str,
    },
    /// What a step of the session left behind.
    Event {
        /// Stable name of the event.
        kind: &'a str,
        /// Its fields as name and value, at most [`EVENT_FIELDS_MAX`].
        fields: Vec<(&'a str, &'a str)>,
    },
    /// A channel request was decided.
    ChannelOpen {
        /// Number of the channel.
        channel: u32,
        /// Channel type, such as `session-shell`.
        kind: &'a str,
        /// The decision.
        verdict: ChannelVerdict,
        /// Why, empty if there is nothing to say.
        reason: &'a str,
    },
    /// A channel is closed in both directions.
    ChannelClose {
        /// Number of the channel.
        channel: u32,
    },
    /// Bytes of a channel.
    Data {
        /// Number of the channel.
        channel: u32,
        /// Who sent them.
        source: Source,
        /// At most [`DATA_BYTES_MAX`].
        bytes: &'a [u8],
    },
    /// A terminal was requested (RFC 4254 section 6.2).
    Pty {
        /// Number of the channel.
        channel: u32,
        /// The `TERM` value.
        term: &'a str,
        /// Width in characters.
        columns: u32,
        /// Height in rows.
        rows: u32,
    },
    /// The terminal changed its size (RFC 4254 section 6.7).
    Resize {
        /// Number of the channel.
        channel: u32,
        /// Width in characters.
        columns: u32,
        /// Height in rows.
        rows: u32,
    },
    /// One side sends no more data (RFC 4254 section 5.3).
    Eof {
        /// Number of the channel.
        channel: u32,
        /// `Stdin` for the client, `Stdout` for the server.
        source: Source,
    },
    /// The command ended (RFC 4254 section 6.10).
    ExitStatus {
        /// Number of the channel.
        channel: u32,
        /// Its exit status.
        status: u32,
    },
    /// The command was ended by a signal (RFC 4254 section 6.10).
    ExitSignal {
        /// Number of the channel.
        channel: u32,
        /// Signal name without `SIG`.
        signal: &'a str,
        /// Whether a core was written.
        core_dumped: bool,
        /// The server's message.
        message: &'a str,
    },
    /// A file was read, written or changed.
    FileOperation {
        /// Number of the channel.
        channel: u32,
        /// Name of the operation.
        operation: &'a str,
        /// The file.
        path: &'a [u8],
        /// The second path of a rename or link, else empty.
        new_path: &'a [u8],
        /// Bytes carried.
        size: u64,
        /// SHA-256 of the bytes carried, where they were seen whole.
        sha256: Option<[u8; 32]>,
        /// How it ended.
        result: &'a str,
    },
    /// A command was requested or recognised.
    Command {
        /// Number of the channel.
        channel: u32,
        /// The command line.
        command: &'a [u8],
    },
    /// What a channel's terminal showed at this time: a place to start from.
    Keyframe {
        /// Number of the channel.
        channel: u32,
        /// Width in characters.
        columns: u32,
        /// Height in rows.
        rows: u32,
        /// What makes a fresh terminal of this size show the same, at most [`DATA_BYTES_MAX`].
        screen: &'a str,
    },
    /// A remark for the reader.
    Note {
        /// The remark.
        text: &'a str,
    },
    /// Something is missing here.
    Gap {
        /// Why.
        reason: &'a str,
        /// Bytes that were not recorded.
        dropped_bytes: u64,
    },
}

impl Record<'_> {
    /// Appends the encoded record with its time since the session's start; fails, leaving `out`
    /// as it was, if a field or the payload is above its limit.
    pub fn encode(&self, t_ns: u64, out: &mut Vec<u8>) -> Result<(), TrailError> {
        let start = out.len();
        out.push(self.code());
        // The payload goes where it stays; its length is known behind it.
        let length_at = out.len();
        out.extend_from_slice(&[0; size_of::<u32>()]);
        out.extend_from_slice(&t_ns.to_be_bytes());
        let payload_at = out.len();
        let length = self.encode_payload(out).and_then(|()| {
            length_u32("record payload", out.len() - payload_at, RECORD_PAYLOAD_BYTES_MAX)
        });
        let length = length.inspect_err(|_refused| out.truncate(start))?;
        // INVARIANT: the length's bytes were written above.
        if let Some(field) = out.get_mut(length_at..).and_then(<[u8]>::first_chunk_mut) {
            *field = length.to_be_bytes();
        }
        Ok(())
    }

    /// The record's kind byte.
    const fn code(&self) -> u8 {
        match self {
            Self::Fact { .. } => FACT,
            Self::Event { .. } => EVENT,
            Self::ChannelOpen { .. } => CHANNEL_OPEN,
            Self::ChannelClose { .. } => CHANNEL_CLOSE,
            Self::Data { .. } => DATA,
            Self::Pty { .. } => PTY,
            Self::Resize { .. } => RESIZE,
            Self::Eof { .. } => EOF,
            Self::ExitStatus { .. } => EXIT_STATUS,
            Self::ExitSignal { .. } => EXIT_SIGNAL,
            Self::FileOperation { .. } => FILE_OPERATION,
            Self::Command { .. } => COMMAND,
            Self::Keyframe { .. } => KEYFRAME,
            Self::Note { .. } => NOTE,
            Self::Gap { .. } => GAP,
        }
    }

    /// The channel the record belongs to; none for the records of the whole session.
    #[must_use]
    pub const fn channel(&self) -> Option<u32> {
        match self {
            Self::ChannelOpen { channel, .. }
            | Self::ChannelClose { channel }
            | Self::Data { channel, .. }
            | Self::Pty { channel, .. }
            | Self::Resize { channel, .. }
            | Self::Eof { channel, .. }
            | Self::ExitStatus { channel, .. }
            | Self::ExitSignal { channel, .. }
            | Self::FileOperation { channel, .. }
            | Self::Command { channel, .. }
            | Self::Keyframe { channel, .. } => Some(*channel),
            Self::Fact { .. } | Self::Event { .. } | Self::Note { .. } | Self::Gap { .. } => None,
        }
    }

    /// The fields in the order of the format: the channel first where there is one.
    fn encode_payload(&self, out: &mut Vec<u8>) -> Result<(), TrailError> {
        if let Some(channel) = self.channel() {
            out.extend_from_slice(&channel.to_be_bytes());
        }
        match self {
            Self::Fact { name, value } => {
                put_text(out, "fact name", name)?;
                put_text(out, "fact value", value)?;
            }
            Self::Event { kind, fields } => {
                put_text(out, "event kind", kind)?;
                put_fields(out, fields)?;
            }
            Self::ChannelOpen { channel: _, kind, verdict, reason } => {
                put_text(out, "channel kind", kind)?;
                out.push(verdict.code());
                put_text(out, "channel reason", reason)?;
            }
            Self::ChannelClose { channel: _ } => {}
            Self::Data { channel: _, source, bytes } => {
                out.push(source.code());
                put_blob(out, "data", bytes, DATA_BYTES_MAX)?;
            }
            Self::Pty { channel: _, term, columns, rows } => {
                put_text(out, "terminal name", term)?;
                put_size(out, *columns, *rows);
            }
            Self::Resize { channel: _, columns, rows } => put_size(out, *columns, *rows),
            Self::Eof { channel: _, source } => out.push(source.code()),
            Self::ExitStatus { channel: _, status } => {
                out.extend_from_slice(&status.to_be_bytes());
            }
            Self::ExitSignal { channel: _, signal, core_dumped, message } => {
                put_text(out, "signal", signal)?;
                out.push(u8::from(*core_dumped));
                put_text(out, "signal message", message)?;
            }
            Self::FileOperation { channel: _, operation, path, new_path, size, sha256, result } => {
                put_text(out, "file operation", operation)?;
                put_blob(out, "path", path, DATA_BYTES_MAX)?;
                put_blob(out, "new path", new_path, DATA_BYTES_MAX)?;
                out.extend_from_slice(&size.to_be_bytes());
                out.push(u8::from(sha256.is_some()));
                out.extend(sha256.iter().flatten());
                put_text(out, "file result", result)?;
            }
            Self::Command { channel: _, command } => {
                put_blob(out, "command", command, DATA_BYTES_MAX)?;
            }
            Self::Keyframe { channel: _, columns, rows, screen } => {
                put_size(out, *columns, *rows);
                put_blob(out, "screen", screen.as_bytes(), DATA_BYTES_MAX)?;
            }
            Self::Note { text } => put_text(out, "note", text)?,
            Self::Gap { reason, dropped_bytes } => {
                put_text(out, "gap reason", reason)?;
                out.extend_from_slice(&dropped_bytes.to_be_bytes());
            }
        }
        Ok(())
    }
}

impl Source {
    /// The source's byte in a record.
    const fn code(self) -> u8 {
        match self {
            Self::Stdin => 0,
            Self::Stdout => 1,
            Self::Stderr => 2,
        }
    }

    /// Reads a source's byte.
    fn read(cursor: &mut Cursor<'_>) -> Result<Self, FieldError> {
        let offset = cursor.offset();
        match cursor.u8("source")? {
            0 => Ok(Self::Stdin),
            1 => Ok(Self::Stdout),
            2 => Ok(Self::Stderr),
            value => Err(FieldError::Unknown { field: "source", offset, value }),
        }
    }
}

impl ChannelVerdict {
    /// The verdict's byte in a record.
    const fn code(self) -> u8 {
        match self {
            Self::Allowed => 0,
            Self::Refused => 1,
        }
    }

    /// Reads a verdict's byte.
    fn read(cursor: &mut Cursor<'_>) -> Result<Self, FieldError> {
        let offset = cursor.offset();
        match cursor.u8("verdict")? {
            0 => Ok(Self::Allowed),
            1 => Ok(Self::Refused),
            value => Err(FieldError::Unknown { field: "verdict", offset, value }),
        }
    }
}

/// The records of a chunk's decompressed bytes, each with its time; ends after the first error.
#[derive(Debug)]
pub struct Records<'a> {
    cursor: Cursor<'a>,
}

impl<'a> Records<'a> {
    /// Starts at the first record.
    #[must_use]
    pub const fn new(records: &'a [u8]) -> Self {
        Self { cursor: Cursor::new(records) }
    }

    /// Starts at the record at `offset`, which an earlier iterator reported.
    pub(crate) fn at(records: &'a [u8], offset: usize) -> Result<Self, FieldError> {
        let mut cursor = Cursor::new(records);
        cursor.take("earlier records", offset)?;
        Ok(Self { cursor })
    }

    /// Where the next record starts.
    pub(crate) const fn offset(&self) -> usize {
        self.cursor.offset()
    }
}

impl<'a> Iterator for Records<'a> {
    type Item = Result<(u64, Record<'a>), FieldError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.cursor.is_empty() {
            return None;
        }
        let item = decode(&mut self.cursor);
        if item.is_err() {
            // Where the next record starts cannot be trusted any more.
            self.cursor = Cursor::new(&[]);
        }
        Some(item)
    }
}

/// Reads one record and its time.
fn decode<'a>(cursor: &mut Cursor<'a>) -> Result<(u64, Record<'a>), FieldError> {
    let kind_offset = cursor.offset();
    let kind = cursor.u8("record kind")?;
    let length = cursor.length("record payload", RECORD_PAYLOAD_BYTES_MAX)?;
    let t_ns = cursor.u64("record time")?;
    let mut payload = cursor.nested("record payload", length)?;
    let record = match kind {
        FACT | EVENT | NOTE | GAP => decode_session(kind, &mut payload)?,
        CHANNEL_OPEN..=KEYFRAME => decode_channel(kind, &mut payload)?,
        value => {
            return Err(FieldError::Unknown { field: "record kind", offset: kind_offset, value });
        }
    };
    payload.finish("record")?;
    Ok((t_ns, record))
}

/// Reads the payload of a record of the whole session.
fn decode_session<'a>(kind: u8, payload: &mut Cursor<'a>) -> Result<Record<'a>, FieldError> {
    Ok(match kind {
        FACT => {
            Record::Fact { name: payload.text("fact name")?, value: payload.text("fact value")? }
        }
        EVENT => Record::Event { kind: payload.text("event kind")?, fields: fields(payload)? },
        NOTE => Record::Note { text: payload.text("note")? },
        _ => Record::Gap {
            reason: payload.text("gap reason")?,
            dropped_bytes: payload.u64("dropped bytes")?,
        },
    })
}

/// Reads the payload of a record of one channel.
fn decode_channel<'a>(kind: u8, payload: &mut Cursor<'a>) -> Result<Record<'a>, FieldError> {
    let channel = payload.u32("channel")?;
    Ok(match kind {
        CHANNEL_OPEN => Record::ChannelOpen {
            channel,
            kind: payload.text("channel kind")?,
            verdict: ChannelVerdict::read(payload)?,
            reason: payload.text("channel reason")?,
        },
        CHANNEL_CLOSE => Record::ChannelClose { channel },
        DATA => Record::Data {
            channel,
            source: Source::read(payload)?,
            bytes: payload.blob("data", DATA_BYTES_MAX)?,
        },
        PTY => Record::Pty {
            channel,
            term: payload.text("terminal name")?,
            columns: payload.u32("columns")?,
            rows: payload.u32("rows")?,
        },
        RESIZE => {
            Record::Resize { channel, columns: payload.u32("columns")?, rows: payload.u32("rows")? }
        }
        EOF => Record::Eof { channel, source: Source::read(payload)? },
        EXIT_STATUS => Record::ExitStatus { channel, status: payload.u32("exit status")? },
        EXIT_SIGNAL => Record::ExitSignal {
            channel,
            signal: payload.text("signal")?,
            core_dumped: payload.flag("core dumped")?,
            message: payload.text("signal message")?,
        },
        FILE_OPERATION => Record::FileOperation {
            channel,
            operation: payload.text("file operation")?,
            path: payload.blob("path", DATA_BYTES_MAX)?,
            new_path: payload.blob("new path", DATA_BYTES_MAX)?,
            size: payload.u64("size")?,
            sha256: sha256(payload)?,
            result: payload.text("file result")?,
        },
        COMMAND => Record::Command { channel, command: payload.blob("command", DATA_BYTES_MAX)? },
        _ => Record::Keyframe {
            channel,
            columns: payload.u32("columns")?,
            rows: payload.u32("rows")?,
            screen: payload.long_text("screen", DATA_BYTES_MAX)?,
        },
    })
}

/// Reads the optional hash of a file operation.
fn sha256(payload: &mut Cursor<'_>) -> Result<Option<[u8; 32]>, FieldError> {
    if payload.flag("hash present")? { payload.array("hash").map(Some) } else { Ok(None) }
}

/// Reads the fields of an event.
fn fields<'a>(payload: &mut Cursor<'a>) -> Result<Vec<(&'a str, &'a str)>, FieldError> {
    let offset = payload.offset();
    let count = usize::from(payload.u16("event fields")?);
    if count > EVENT_FIELDS_MAX {
        let (length, limit) = (count, EVENT_FIELDS_MAX);
        return Err(FieldError::TooLong { field: "event fields", offset, length, limit });
    }
    (0..count).map(|_| Ok((payload.text("field name")?, payload.text("field value")?))).collect()
}

/// Appends the fields of an event; fails above [`EVENT_FIELDS_MAX`].
fn put_fields(out: &mut Vec<u8>, fields: &[(&str, &str)]) -> Result<(), TrailError> {
    let limit = EVENT_FIELDS_MAX;
    let count = match u16::try_from(fields.len()) {
        Ok(count) if fields.len() <= limit => count,
        Ok(_) | Err(_) => {
            return Err(TrailError::EventFields { count: fields.len(), limit });
        }
    };
    out.extend_from_slice(&count.to_be_bytes());
    for (name, value) in fields {
        put_text(out, "field name", name)?;
        put_text(out, "field value", value)?;
    }
    Ok(())
}

/// Appends a terminal size.
fn put_size(out: &mut Vec<u8>, columns: u32, rows: u32) {
    out.extend_from_slice(&columns.to_be_bytes());
    out.extend_from_slice(&rows.to_be_bytes());
}

// The kinds of records. `CHANNEL_OPEN` to `KEYFRAME` start with a channel number.
const FACT: u8 = 1;
const EVENT: u8 = 2;
const NOTE: u8 = 3;
const GAP: u8 = 4;
const CHANNEL_OPEN: u8 = 16;
const CHANNEL_CLOSE: u8 = 17;
const DATA: u8 = 18;
const PTY: u8 = 19;
const RESIZE: u8 = 20;
const EOF: u8 = 21;
const EXIT_STATUS: u8 = 22;
const EXIT_SIGNAL: u8 = 23;
const FILE_OPERATION: u8 = 24;
const COMMAND: u8 = 25;
const KEYFRAME: u8 = 26;

#[cfg(test)]
mod tests {
    use proptest::prelude::{ProptestConfig, any, prop_assert, prop_assert_eq, proptest};

    use super::{ChannelVerdict, DATA_BYTES_MAX, EVENT_FIELDS_MAX, Record, Records, Source};
    use crate::error::{FieldError, TrailError};

    fn samples() -> Vec<Record<'static>> {
        vec![
            Record::Fact { name: "client_addr", value: "192.0.2.1" },
            Record::Event { kind: "admitted", fields: vec![("policy", "admins"), ("é", "")] },
            Record::Event { kind: "", fields: Vec::new() },
            Record::ChannelOpen {
                channel: 1,
                kind: "session-shell",
                verdict: ChannelVerdict::Allowed,
                reason: "",
            },
            Record::ChannelOpen {
                channel: u32::MAX,
                kind: "direct-tcpip",
                verdict: ChannelVerdict::Refused,
                reason: "channel policy",
            },
            Record::ChannelClose { channel: 1 },
            Record::Data { channel: 1, source: Source::Stdin, bytes: b"\x00\xff" },
            Record::Data { channel: 1, source: Source::Stdout, bytes: b"" },
            Record::Data { channel: 1, source: Source::Stderr, bytes: b"no" },
            Record::Pty { channel: 1, term: "xterm-256color", columns: 80, rows: 24 },
            Record::Resize { channel: 1, columns: 132, rows: u32::MAX },
            Record::Eof { channel: 1, source: Source::Stdin },
            Record::ExitStatus { channel: 1, status: 255 },
            Record::ExitSignal {
                channel: 1,
                signal: "SEGV",
                core_dumped: true,
                message: "segmentation fault",
            },
            Record::FileOperation {
                channel: 1,
                operation: "rename",
                path: b"/a",
                new_path: b"/b\xff",
                size: 0,
                sha256: None,
                result: "ok",
            },
            Record::FileOperation {
                channel: 1,
                operation: "read",
                path: b"/a",
                new_path: b"",
                size: u64::MAX,
                sha256: Some([9; 32]),
                result: "ok",
            },
            Record::Command { channel: 1, command: b"ls -l\xff" },
            Record::Keyframe { channel: 1, columns: 80, rows: 24, screen: "\x1b[1m\u{e9}$ " },
            Record::Keyframe { channel: 1, columns: 0, rows: u32::MAX, screen: "" },
            Record::Note { text: "remark" },
            Record::Gap { reason: "disk full", dropped_bytes: 7 },
        ]
    }

    fn encoded(record: &Record<'_>) -> Vec<u8> {
        let mut bytes = Vec::new();
        record.encode(77, &mut bytes).unwrap();
        bytes
    }

    #[test]
    fn samples_come_back() {
        let samples = samples();
        let bytes: Vec<u8> = samples.iter().flat_map(encoded).collect();
        let decoded: Result<Vec<_>, FieldError> = Records::new(&bytes).collect();
        let expected: Vec<_> = samples.into_iter().map(|record| (77, record)).collect();
        assert_eq!(decoded.unwrap(), expected);
    }

    #[test]
    fn truncated_at_every_byte_fails() {
        for record in samples() {
            let bytes = encoded(&record);
            for length in 1..bytes.len() {
                let mut records = Records::new(&bytes[..length]);
                let first = records.next().unwrap();
                assert!(matches!(first, Err(FieldError::Truncated { .. })), "{record:?} {length}");
                assert!(records.next().is_none(), "{record:?} {length}");
            }
        }
    }

    #[test]
    fn payload_of_another_length_fails() {
        for record in samples() {
            let mut longer = encoded(&record);
            longer[4] += 1;
            longer.push(0);
            let first = Records::new(&longer).next().unwrap();
            assert!(matches!(first, Err(FieldError::Trailing { left: 1, .. })), "{record:?}");
        }
    }

    #[test]
    fn unknown_codes_and_long_lengths_fail() {
        let data = encoded(&samples()[6]);
        let exit_signal = encoded(&samples()[13]);
        let event = encoded(&samples()[2]);
        let channel_open = encoded(&samples()[3]);
        let fact = encoded(&samples()[0]);
        let keyframe = encoded(&samples()[17]);
        // 13 bytes of head, then the payload.
        let cases = [
            ("kind 0", &data, 0, 0, "record kind at byte 0 has the unknown value 0"),
            ("kind 5", &data, 0, 5, "record kind at byte 0 has the unknown value 5"),
            ("kind 27", &data, 0, 27, "record kind at byte 0 has the unknown value 27"),
            ("source", &data, 17, 3, "source at byte 17 has the unknown value 3"),
            ("verdict", &channel_open, 32, 2, "verdict at byte 32 has the unknown value 2"),
            ("flag", &exit_signal, 23, 2, "core dumped at byte 23 has the unknown value 2"),
            ("text", &fact, 15, 0xff, "fact name at byte 15 is not UTF-8"),
            ("screen", &keyframe, 29, 0xff, "screen at byte 29 is not UTF-8"),
            (
                "screen length",
                &keyframe,
                25,
                1,
                "screen at byte 25 has length 16777224, above the limit 131072",
            ),
            ("fields", &event, 15, 1, "event fields at byte 15 has length 256, above the limit 64"),
            (
                "payload length",
                &data,
                1,
                1,
                "record payload at byte 1 has length 16777227, above the limit 196608",
            ),
            (
                "data length",
                &data,
                18,
                1,
                "data at byte 18 has length 16777218, above the limit 131072",
            ),
        ];
        for (name, bytes, at, value, expected) in cases {
            let mut altered = bytes.clone();
            altered[at] = value;
            let error = Records::new(&altered).next().unwrap().unwrap_err();
            assert_eq!(error.to_string(), expected, "{name}");
        }
    }

    #[test]
    fn fields_above_their_limits_are_not_encoded() {
        let long_text = "x".repeat(65_536);
        let long_bytes = vec![0; DATA_BYTES_MAX + 1];
        let half = vec![0; DATA_BYTES_MAX];
        let long_screen = "x".repeat(DATA_BYTES_MAX + 1);
        let cases = [
            ("text", Record::Note { text: &long_text }),
            (
                "screen",
                Record::Keyframe { channel: 0, columns: 80, rows: 24, screen: &long_screen },
            ),
            ("data", Record::Data { channel: 0, source: Source::Stdin, bytes: &long_bytes }),
            (
                "payload",
                Record::FileOperation {
                    channel: 0,
                    operation: "rename",
                    path: &half,
                    new_path: &half,
                    size: 0,
                    sha256: None,
                    result: "",
                },
            ),
        ];
        for (name, record) in cases {
            let mut bytes = vec![1];
            let error = record.encode(0, &mut bytes).unwrap_err();
            assert!(matches!(error, TrailError::TooLong { .. }), "{name}: {error}");
            assert_eq!(bytes, [1], "{name}");
        }
        let fields = vec![("a", "b"); EVENT_FIELDS_MAX + 1];
        let error = Record::Event { kind: "x", fields }.encode(0, &mut Vec::new()).unwrap_err();
        assert!(matches!(error, TrailError::EventFields { count: 65, limit: 64 }), "{error}");
    }

    /// Failures are shown, not kept in files next to the sources.
    fn config() -> ProptestConfig {
        ProptestConfig { failure_persistence: None, ..ProptestConfig::default() }
    }

    proptest! {
        #![proptest_config(config())]

        #[test]
        fn any_record_comes_back(
            t_ns in any::<u64>(),
            numbers in any::<[u32; 3]>(),
            text in ".*",
            bytes in any::<Vec<u8>>(),
        ) {
            let [channel, columns, rows] = numbers;
            let all = [
                Record::Fact { name: &text, value: &text },
                Record::Event { kind: &text, fields: vec![(text.as_str(), "x"); 2] },
                Record::Data { channel, source: Source::Stderr, bytes: &bytes },
                Record::Pty { channel, term: &text, columns, rows },
                Record::Command { channel, command: &bytes },
                Record::Keyframe { channel, columns, rows, screen: &text },
            ];
            for record in all {
                let mut out = Vec::new();
                record.encode(t_ns, &mut out).unwrap();
                let mut records = Records::new(&out);
                prop_assert_eq!(records.next(), Some(Ok((t_ns, record))));
                prop_assert!(records.next().is_none());
            }
        }

        #[test]
        fn any_bytes_are_records_or_an_error(bytes in any::<Vec<u8>>()) {
            let decoded: Vec<_> = Records::new(&bytes).collect();
            for good in decoded.iter().rev().skip(1) {
                prop_assert!(good.is_ok());
            }
        }
    }
}
