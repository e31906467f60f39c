//! Exports what terminals and commands printed, as text without escape sequences.
use std::collections::BTreeMap;
use std::io::{self, Read, Write};

use super::CHANNELS_OPEN_MAX;
use crate::channels::ChannelKinds;
use crate::error::TrailError;
use crate::reader::Reader;
use crate::record::{Record, Source};
use crate::screen::ScreenFilter;

/// What was exported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExportedText {
    /// Records of output that were written.
    pub records: u64,
}

/// Writes what the server sent on one channel, or on every one that shows text, in the order of its
/// times; with several channels, a line such as `== channel 2, session-exec ==` stands where
/// another one begins to print.
///
/// What is written is text, tabs and line feeds only, so that it may be shown on a terminal: see
/// [`ScreenFilter::text`]. Nothing is drawn: what a program printed over is there too. A program
/// can print what looks like a line about channels. Fails as the reader does, and with
/// [`TrailError::TooManyChannels`].
pub fn export_text<R: Read>(
    reader: &mut Reader<R>,
    channel: Option<u32>,
    out: impl Write,
) -> Result<ExportedText, TrailError> {
    let mut export = Export {
        out,
        only: channel,
        kinds: ChannelKinds::new(),
        channels: BTreeMap::new(),
        last: None,
        at_line_start: true,
        records: 0,
    };
    while let Some(entry) = reader.next_record()? {
        export.record(&entry.record)?;
    }
    export.end_line().map_err(|source| TrailError::Export { source })?;
    export.out.flush().map_err(|source| TrailError::Export { source })?;
    Ok(ExportedText { records: export.records })
}

/// The export as far as it is written.
struct Export<W> {
    out: W,
    /// The only channel, if one was asked for.
    only: Option<u32>,
    kinds: ChannelKinds,
    /// Channels that are open and have printed.
    channels: BTreeMap<u32, Channel>,
    /// The channel that printed last.
    last: Option<u32>,
    at_line_start: bool,
    records: u64,
}

/// One filter for each source: their bytes mix only in time.
struct Channel {
    stdout: ScreenFilter,
    stderr: ScreenFilter,
}

impl<W: Write> Export<W> {
    /// Writes what a record shows.
    fn record(&mut self, record: &Record<'_>) -> Result<(), TrailError> {
        self.kinds.take(record);
        if let Record::ChannelClose { channel } = record {
            self.channels.remove(channel);
        }
        let Record::Data { channel, source, bytes } = record else { return Ok(()) };
        match source {
            Source::Stdin => Ok(()),
            Source::Stdout => self.output(*channel, |filters| filters.stdout.pass(bytes)),
            Source::Stderr => self.output(*channel, |filters| filters.stderr.pass(bytes)),
        }
    }

    fn output(
        &mut self,
        channel: u32,
        pass: impl FnOnce(&mut Channel) -> String,
    ) -> Result<(), TrailError> {
        let wanted = match self.only {
            Some(only) => only == channel,
            None => self.kinds.shows_text(channel),
        };
        if !wanted {
            return Ok(());
        }
        if self.channels.len() >= CHANNELS_OPEN_MAX && !self.channels.contains_key(&channel) {
            return Err(TrailError::TooManyChannels { limit: CHANNELS_OPEN_MAX });
        }
        let filters = self.channels.entry(channel).or_insert_with(|| Channel {
            stdout: ScreenFilter::text(),
            stderr: ScreenFilter::text(),
        });
        let text = pass(filters);
        self.records += 1;
        self.write(channel, &text).map_err(|source| TrailError::Export { source })
    }

    fn write(&mut self, channel: u32, text: &str) -> io::Result<()> {
        if text.is_empty() {
            return Ok(());
        }
        if self.only.is_none() && self.last.replace(channel) != Some(channel) {
            self.end_line()?;
            let kind = self.kinds.kind(channel).unwrap_or("unknown");
            let kind = ScreenFilter::text().pass(kind.as_bytes());
            writeln!(self.out, "== channel {channel}, {kind} ==")?;
        }
        self.at_line_start = text.ends_with('\n');
        self.out.write_all(text.as_bytes())
    }

    /// Ends a line that has none.
    fn end_line(&mut self) -> io::Result<()> {
        if !std::mem::replace(&mut self.at_line_start, true) {
            writeln!(self.out)?;
        }
        Ok(())
    }
}
