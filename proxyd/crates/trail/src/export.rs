//! Exports a terminal session as asciicast v2 (<https://docs.asciinema.org/manual/asciicast/v2/>).
use std::io::{Read, Write};

use crate::error::TrailError;
use crate::reader::Reader;
use crate::record::{Record, Source};
use crate::utf8::Utf8;

/// What was exported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExportedCast {
    /// The channel.
    pub channel: u32,
    /// Lines written, the header not counted.
    pub events: u64,
}

/// Writes one channel as asciicast v2: output ("o", stderr included), sizes ("r") and, where the
/// reader opens the upstream chunks, input ("i"). Times count from the terminal's request.
///
/// Without `channel` it is the first one with a terminal. A channel asked for that has none is
/// shown as 80x24. Bytes that are not UTF-8 become U+FFFD; characters split between records are
/// joined. Escape sequences are passed on as recorded: the player shows them to a terminal. Fails
/// with [`TrailError::NoTerminal`] if there is no such channel, and as the reader does.
pub fn export_asciicast<R: Read>(
    reader: &mut Reader<R>,
    channel: Option<u32>,
    out: impl Write,
) -> Result<ExportedCast, TrailError> {
    let created_ns = reader.header().header.created_ns;
    let texts = Texts::default();
    let mut cast =
        Cast { out, created_ns, channel, texts, started_ns: None, last_ns: 0, events: 0 };
    while let Some(entry) = reader.next_record()? {
        cast.record(entry.t_ns, &entry.record)?;
    }
    cast.finish()
}

/// The export as far as it is written.
struct Cast<W> {
    out: W,
    created_ns: u64,
    channel: Option<u32>,
    texts: Texts,
    /// Time of the header, once it is written.
    started_ns: Option<u64>,
    /// Time of the last data or size.
    last_ns: u64,
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
        let env = if term.is_empty() {
            String::new()
        } else {
            format!(", \"env\": {{\"TERM\": {}}}", json_string(term))
        };
        self.line(&format!(
            "{{\"version\": 2, \"width\": {columns}, \"height\": {rows}, \
             \"timestamp\": {timestamp}{env}}}"
        ))
    }

    /// Writes an event line, unless its text is empty.
    fn event(&mut self, t_ns: u64, code: char, text: &str) -> Result<(), TrailError> {
        self.last_ns = t_ns;
        if text.is_empty() {
            return Ok(());
        }
        self.events += 1;
        let since_us = t_ns.saturating_sub(self.started_ns.unwrap_or(t_ns)) / NS_PER_US;
        let (seconds, micros) = (since_us / US_PER_S, since_us % US_PER_S);
        self.line(&format!("[{seconds}.{micros:06}, \"{code}\", {}]", json_string(text)))
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
        self.out.flush().map_err(|source| TrailError::Export { source })?;
        Ok(ExportedCast { channel, events: self.events })
    }

    /// Writes one line.
    fn line(&mut self, line: &str) -> Result<(), TrailError> {
        writeln!(self.out, "{line}").map_err(|source| TrailError::Export { source })
    }
}

/// A text as a JSON string (RFC 8259 section 7), quotes included.
fn json_string(text: &str) -> String {
    let mut json = String::with_capacity(text.len() + 2);
    json.push('"');
    for character in text.chars() {
        match character {
            '"' => json.push_str("\\\""),
            '\\' => json.push_str("\\\\"),
            '\n' => json.push_str("\\n"),
            '\r' => json.push_str("\\r"),
            control if control.is_control() => {
                json.push_str(&format!("\\u{:04x}", u32::from(control)));
            }
            plain => json.push(plain),
        }
    }
    json.push('"');
    json
}

/// The size of a terminal that told none (VT100).
const SIZE_DEFAULT: (u32, u32) = (80, 24);

const NS_PER_S: u64 = 1_000_000_000;
const NS_PER_US: u64 = 1_000;
const US_PER_S: u64 = 1_000_000;
