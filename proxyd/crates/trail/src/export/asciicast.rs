//! Exports a terminal session as asciicast, version 2 or 3
//! (<https://docs.asciinema.org/manual/asciicast/v2/>, `…/v3/`).
use std::io::{self, Read, Write};

use serde::Serialize;

use super::line::{json, json_line};
use crate::error::TrailError;
use crate::reader::Reader;
use crate::record::{Record, Source};
use crate::utf8::Utf8;

/// A version of the format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CastVersion {
    /// Times count from the start; there is no event of the end.
    V2,
    /// Each time counts from the event before; the exit status ends the cast, where it is known.
    V3,
}

/// What was exported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExportedCast {
    /// The channel.
    pub channel: u32,
    /// Lines written, the header not counted.
    pub events: u64,
}

/// Writes one channel as asciicast: output ("o", stderr included), sizes ("r") and, where the
/// reader opens the upstream chunks, input ("i"); in version 3 the exit status too ("x"). The cast
/// starts with the terminal's request.
///
/// Without `channel` it is the first one with a terminal. A channel asked for that has none is
/// shown as 80x24. Bytes that are not UTF-8 become U+FFFD; characters split between records are
/// joined. Escape sequences are passed on as recorded: the player shows them to a terminal. Fails
/// with [`TrailError::NoTerminal`] if there is no such channel, and as the reader does.
pub fn export_asciicast<R: Read>(
    reader: &mut Reader<R>,
    version: CastVersion,
    channel: Option<u32>,
    out: impl Write,
) -> Result<ExportedCast, TrailError> {
    let created_ns = reader.header().header.created_ns;
    let mut cast = Cast {
        out,
        version,
        created_ns,
        channel,
        texts: Texts::default(),
        exit_status: None,
        started_ns: None,
        last_ns: 0,
        written_us: 0,
        events: 0,
    };
    while let Some(entry) = reader.next_record()? {
        cast.record(entry.t_ns, &entry.record)?;
    }
    cast.finish()
}

/// The header of version 2.
#[derive(Serialize)]
struct HeaderV2<'a> {
    version: u8,
    width: u32,
    height: u32,
    timestamp: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    env: Option<Env<'a>>,
}

/// The variables that are known.
#[derive(Serialize)]
struct Env<'a> {
    #[serde(rename = "TERM")]
    term: &'a str,
}

/// The header of version 3.
#[derive(Serialize)]
struct HeaderV3<'a> {
    version: u8,
    term: Term<'a>,
    timestamp: u64,
}

/// The terminal.
#[derive(Serialize)]
struct Term<'a> {
    cols: u32,
    rows: u32,
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    kind: Option<&'a str>,
}

/// The export as far as it is written.
struct Cast<W> {
    out: W,
    version: CastVersion,
    created_ns: u64,
    channel: Option<u32>,
    texts: Texts,
    /// The exit status, and when it came.
    exit_status: Option<(u64, u32)>,
    /// Time of the header, once it is written.
    started_ns: Option<u64>,
    /// Time of the last data or size.
    last_ns: u64,
    /// Microseconds from the header to the last line that is written.
    written_us: u64,
    events: u64,
}

/// One decoder for each source: their bytes mix only in time.
#[derive(Default)]
struct Texts {
    stdin: Utf8,
    stdout: Utf8,
    stderr: Utf8,
}

impl<W: Write> Cast<W> {
    /// Writes what a record shows, if it is of the channel.
    fn record(&mut self, t_ns: u64, record: &Record<'_>) -> Result<(), TrailError> {
        if let Record::Pty { channel, term, columns, rows } = record
            && *self.channel.get_or_insert(*channel) == *channel
            && self.started_ns.is_none()
        {
            return self.start(t_ns, (*columns, *rows), term);
        }
        if self.channel.is_none() || record.channel() != self.channel {
            return Ok(());
        }
        if let Record::Resize { channel: _, columns, rows } = record
            && self.started_ns.is_some()
        {
            return self.event(t_ns, 'r', &format!("{columns}x{rows}"));
        }
        if let Record::ExitStatus { channel: _, status } = record {
            self.exit_status = Some((t_ns, *status));
        }
        let Record::Data { channel: _, source, bytes } = record else {
            return Ok(());
        };
        if self.started_ns.is_none() {
            self.start(t_ns, SIZE_DEFAULT, "")?;
        }
        let (code, text) = match source {
            Source::Stdin => ('i', self.texts.stdin.feed(bytes)),
            Source::Stdout => ('o', self.texts.stdout.feed(bytes)),
            Source::Stderr => ('o', self.texts.stderr.feed(bytes)),
        };
        self.event(t_ns, code, &text)
    }

    /// Writes the header line.
    fn start(&mut self, t_ns: u64, size: (u32, u32), term: &str) -> Result<(), TrailError> {
        self.started_ns = Some(t_ns);
        self.last_ns = t_ns;
        // RFC 4254 section 6.2 lets a client give a size in pixels only; players need characters.
        let (columns, rows) = if size.0 == 0 || size.1 == 0 { SIZE_DEFAULT } else { size };
        let timestamp = self.created_ns.saturating_add(t_ns) / NS_PER_S;
        let term = (!term.is_empty()).then_some(term);
        let written = match self.version {
            CastVersion::V2 => {
                let env = term.map(|term| Env { term });
                let (width, height) = (columns, rows);
                json_line(&mut self.out, &HeaderV2 { version: 2, width, height, timestamp, env })
            }
            CastVersion::V3 => {
                let term = Term { cols: columns, rows, kind: term };
                json_line(&mut self.out, &HeaderV3 { version: 3, term, timestamp })
            }
        };
        written.map_err(|source| TrailError::Export { source })
    }

    /// Writes an event line, unless its text is empty.
    fn event(&mut self, t_ns: u64, code: char, text: &str) -> Result<(), TrailError> {
        self.last_ns = t_ns;
        if text.is_empty() {
            return Ok(());
        }
        self.events += 1;
        let since_us = t_ns.saturating_sub(self.started_ns.unwrap_or(t_ns)) / NS_PER_US;
        // Differences of what was rounded before, so that rounding does not add up.
        let time_us = match self.version {
            CastVersion::V2 => since_us,
            CastVersion::V3 => since_us.saturating_sub(self.written_us),
        };
        self.written_us = self.written_us.max(since_us);
        self.line(time_us, code, text).map_err(|source| TrailError::Export { source })
    }

    /// Writes the characters still incomplete and flushes the output.
    fn finish(mut self) -> Result<ExportedCast, TrailError> {
        let (Some(channel), Some(_)) = (self.channel, self.started_ns) else {
            return Err(TrailError::NoTerminal);
        };
        let Texts { stdin, stdout, stderr } = &self.texts;
        let rest = [('i', stdin.rest()), ('o', stdout.rest()), ('o', stderr.rest())];
        for (code, text) in rest {
            self.event(self.last_ns, code, text)?;
        }
        if let (CastVersion::V3, Some((t_ns, status))) = (self.version, self.exit_status) {
            self.event(self.last_ns.max(t_ns), 'x', &status.to_string())?;
        }
        self.out.flush().map_err(|source| TrailError::Export { source })?;
        Ok(ExportedCast { channel, events: self.events })
    }

    /// Writes one event.
    fn line(&mut self, time_us: u64, code: char, text: &str) -> io::Result<()> {
        let (seconds, micros) = (time_us / US_PER_S, time_us % US_PER_S);
        write!(self.out, "[{seconds}.{micros:06}, \"{code}\", ")?;
        json(&mut self.out, &text)?;
        writeln!(self.out, "]")
    }
}

/// The size of a terminal that told none (VT100).
const SIZE_DEFAULT: (u32, u32) = (80, 24);

const NS_PER_S: u64 = 1_000_000_000;
const NS_PER_US: u64 = 1_000;
const US_PER_S: u64 = 1_000_000;
