//! Exports every record as a line of JSON.
use std::io::{Read, Write};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Serialize, Serializer};

use super::line::json_line;
use crate::error::TrailError;
use crate::reader::Reader;
use crate::record::{ChannelVerdict, Record, Source};
use crate::stream::Stream;

/// Writes one line for each record, in the order of their times; of one channel if it is given.
/// Gives how many. Every line has the record's time, stream, frame and kind.
///
/// Data is in base64 (RFC 4648 section 4). Paths and commands are text, in which U+FFFD stands for
/// what is not UTF-8; where there is any, they are in base64 too. Fails as the reader does.
pub fn export_json<R: Read>(
    reader: &mut Reader<R>,
    channel: Option<u32>,
    mut out: impl Write,
) -> Result<u64, TrailError> {
    let failed = |source| TrailError::Export { source };
    let mut count = 0;
    while let Some(entry) = reader.next_record()? {
        if channel.is_some() && entry.record.channel() != channel {
            continue;
        }
        let Some(record) = shown(&entry.record) else { continue };
        let (t_ns, frame) = (entry.t_ns, entry.sequence);
        let stream = match entry.stream {
            Stream::Meta => "meta",
            Stream::Downstream => "downstream",
            Stream::Upstream => "upstream",
        };
        json_line(&mut out, &Line { t_ns, stream, frame, record }).map_err(failed)?;
        count += 1;
    }
    out.flush().map_err(failed)?;
    Ok(count)
}

/// A record with its place.
#[derive(Serialize)]
struct Line<'a> {
    t_ns: u64,
    stream: &'static str,
    frame: u64,
    #[serde(flatten)]
    record: Shown<'a>,
}

/// The fields of a record.
#[derive(Serialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
enum Shown<'a> {
    Fact {
        name: &'a str,
        value: &'a str,
    },
    Event {
        event: &'a str,
        fields: Fields<'a>,
    },
    Note {
        text: &'a str,
    },
    Gap {
        reason: &'a str,
        dropped_bytes: u64,
    },
    ChannelOpen {
        channel: u32,
        #[serde(rename = "type")]
        opened: &'a str,
        allowed: bool,
        reason: &'a str,
    },
    ChannelClose {
        channel: u32,
    },
    Data {
        channel: u32,
        source: &'static str,
        base64: String,
    },
    Pty {
        channel: u32,
        term: &'a str,
        columns: u32,
        rows: u32,
    },
    Resize {
        channel: u32,
        columns: u32,
        rows: u32,
    },
    Eof {
        channel: u32,
        source: &'static str,
    },
    ExitStatus {
        channel: u32,
        status: u32,
    },
    ExitSignal {
        channel: u32,
        signal: &'a str,
        core_dumped: bool,
        message: &'a str,
    },
    FileOperation {
        channel: u32,
        operation: &'a str,
        path: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        path_base64: Option<String>,
        new_path: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        new_path_base64: Option<String>,
        size: u64,
        #[serde(skip_serializing_if = "Option::is_none")]
        sha256: Option<String>,
        result: &'a str,
    },
    Command {
        channel: u32,
        command: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        command_base64: Option<String>,
    },
}

/// The fields of an event, by name.
struct Fields<'a>(&'a [(&'a str, &'a str)]);

impl Serialize for Fields<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().copied())
    }
}

/// A record as it is shown; none for keyframes.
fn shown<'a>(record: &'a Record<'a>) -> Option<Shown<'a>> {
    Some(match *record {
        Record::Fact { name, value } => Shown::Fact { name, value },
        Record::Event { kind, ref fields } => Shown::Event { event: kind, fields: Fields(fields) },
        Record::Note { text } => Shown::Note { text },
        Record::Gap { reason, dropped_bytes } => Shown::Gap { reason, dropped_bytes },
        Record::ChannelOpen { channel, kind, verdict, reason } => Shown::ChannelOpen {
            channel,
            opened: kind,
            allowed: verdict == ChannelVerdict::Allowed,
            reason,
        },
        Record::ChannelClose { channel } => Shown::ChannelClose { channel },
        Record::Data { channel, source, bytes } => {
            Shown::Data { channel, source: source_name(source), base64: STANDARD.encode(bytes) }
        }
        Record::Pty { channel, term, columns, rows } => Shown::Pty { channel, term, columns, rows },
        Record::Resize { channel, columns, rows } => Shown::Resize { channel, columns, rows },
        Record::Eof { channel, source } => Shown::Eof { channel, source: source_name(source) },
        Record::ExitStatus { channel, status } => Shown::ExitStatus { channel, status },
        Record::ExitSignal { channel, signal, core_dumped, message } => {
            Shown::ExitSignal { channel, signal, core_dumped, message }
        }
        Record::FileOperation { channel, operation, path, new_path, size, sha256, result } => {
            let (path, path_base64) = text(path);
            let (new_path, new_path_base64) = text(new_path);
            let sha256 = sha256.map(|hash| hash.iter().map(|byte| format!("{byte:02x}")).collect());
            Shown::FileOperation {
                channel,
                operation,
                path,
                path_base64,
                new_path,
                new_path_base64,
                size,
                sha256,
                result,
            }
        }
        Record::Command { channel, command } => {
            let (command, command_base64) = text(command);
            Shown::Command { channel, command, command_base64 }
        }
        Record::Keyframe { .. } => return None,
    })
}

/// A peer's bytes as text, and in base64 if that is not all of them.
fn text(bytes: &[u8]) -> (String, Option<String>) {
    let is_text = str::from_utf8(bytes).is_ok();
    let base64 = (!is_text).then(|| STANDARD.encode(bytes));
    (String::from_utf8_lossy(bytes).into_owned(), base64)
}

/// The name of a source.
const fn source_name(source: Source) -> &'static str {
    match source {
        Source::Stdin => "stdin",
        Source::Stdout => "stdout",
        Source::Stderr => "stderr",
    }
}
